"""Input that is wrong, or odd but right: what is refused, with which words, and what works."""

from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from torch import nn

from sklearn_mmfusion import (
    FusionTransformer,
    ImageEncoder,
    JointFusionClassifier,
    LateFusionClassifier,
    NeuralClassifier,
    NeuralRegressor,
    TextEncoder,
    make_fusion_transformer,
    multimodal_frame,
)
from sklearn_mmfusion.preprocessing import LogMelSpectrogram, Tokenizer
from tests._checks import output
from tests._fusion_data import hide
from tests._registry import (
    N_ROWS,
    SMALL_IMAGE,
    SMALL_JOINT,
    SMALL_NET,
    SMALL_TEXT,
    classes,
    fusion_transformer,
    having,
    images,
    modalities,
    numbers,
    rows,
    table,
    texts,
    waveforms,
)

ENCODERS = having("encoder")
NETS = having("net")


# ------------------------------------------------------------------------------ frames


def test_columns_of_unequal_length():
    with pytest.raises(ValueError, match=r"equal numbers of rows; got 'image': 24, 'text': 23"):
        multimodal_frame(image=images(), text=texts()[:-1])


@pytest.mark.parametrize("X", [None, "a text", {"image": images()}], ids=["none", "str", "dict"])
@pytest.mark.parametrize("entry", ENCODERS, ids=str)
def test_no_column_at_all(entry, X):
    message = rf"Encoder: X is a {type(X).__name__}; expected a column of cells"
    with pytest.raises(TypeError, match=message):
        entry.make().fit(X, classes())


@pytest.mark.parametrize("entry", ENCODERS, ids=str)
def test_frame_of_several_modalities(entry):
    message = r"X is a frame of 3 columns, of which \['image'.*expected one column, such as X\['im"
    with pytest.raises(ValueError, match=message):
        entry.make().fit(modalities(), classes())


@pytest.mark.parametrize("entry", ENCODERS, ids=str)
def test_column_of_absent_cells_alone(entry):
    with pytest.raises(ValueError, match="n_samples=24, of which 0 are present"):
        entry.make().fit([None] * N_ROWS, classes())


def test_dict_in_place_of_a_frame():
    with pytest.raises(TypeError, match="X is a dict; expected a DataFrame.*multimodal_frame"):
        fusion_transformer().fit({"image": images(), "text": texts()}, classes())
    with pytest.raises(TypeError, match=r"a list of dicts; .* with pd\.DataFrame\(X\)\.$"):
        fusion_transformer().fit([{"text": "one"}, {"text": "two"}], classes()[:2])


def test_column_unknown_at_fit():
    X = modalities().rename(columns={"image": "photo"})
    with pytest.raises(ValueError, match=r"modality 'image': column 'image' is not in X.*photo"):
        fusion_transformer().fit(X, classes())


def test_column_without_a_present_row():
    X = hide(modalities(), audio=np.arange(N_ROWS))
    with pytest.raises(ValueError, match=r"modality 'audio' .*no present row among 24.*'drop'"):
        fusion_transformer().fit(X, classes())


def test_columns_reordered_and_unknown_at_predict():
    X = modalities()
    fusion = fusion_transformer(random_state=0).fit(X, classes())
    other = X.assign(extra=1.0, note="?")[["extra", "audio", "note", "text", "image"]]
    np.testing.assert_array_equal(fusion.transform(other), fusion.transform(X))


def test_column_absent_at_predict_counts_as_absent_rows():
    X = modalities()
    fusion = fusion_transformer(random_state=0).fit(X, classes())
    hidden = fusion.transform(hide(X, audio=np.arange(N_ROWS)).drop(index=[4, 5]))
    with pytest.warns(UserWarning, match=r"lacks columns seen in fit.*'audio': \['audio'\]"):
        absent = fusion.transform(X.drop(columns="audio").drop(index=[4, 5]))
    np.testing.assert_array_equal(absent, hidden)
    assert np.isfinite(absent).all()


COMPOSITIONS = {
    "feature": lambda triples: FusionTransformer(triples, random_state=0),
    "late": LateFusionClassifier,
    "joint": lambda triples: JointFusionClassifier(triples, **SMALL_JOINT),
}


@pytest.mark.parametrize("level", COMPOSITIONS)
def test_absent_columns_beside_unknown_ones_are_refused(level):
    X = multimodal_frame(text=texts(), a=np.arange(24.0), b=np.ones(24))
    scaled = make_pipeline(StandardScaler(), *[LogisticRegression()] * (level == "late"))
    triples = [("table", scaled, ["a", "b"])]
    triples.append(("text", TextEncoder(**SMALL_TEXT), "text"))
    model = COMPOSITIONS[level](triples).fit(X, classes())
    call = model.transform if level == "feature" else model.predict
    expected = call(X)
    np.testing.assert_array_equal(call(X.assign(new=1)), expected)
    match = r"lacks .*\{'text': \['text'\]\}, and .* seen: \['Text'\] \('Text' may be 'text'\)"
    with pytest.raises(ValueError, match=match):
        call(X.rename(columns={"text": "Text"}))
    match = r"lacks .*\{'table': \['a'\]\}, and has columns .* not seen: \['zzz'\]\. Rename"
    with pytest.raises(ValueError, match=match):
        call(X.rename(columns={"a": "zzz"}))
    with pytest.raises(
        ValueError, match=r"lacks columns \['a'\] of modality 'table'; expected all"
    ):
        call(X.drop(columns="a"))
    for absent in (["text"], ["a", "b"]):
        with pytest.warns(UserWarning, match="lacks columns seen in fit"):
            call(X.drop(columns=absent))


@pytest.mark.parametrize("level", ["encoder", "head", "joint"])
def test_outputs_that_are_not_finite_are_refused(level):
    X, y = multimodal_frame(image=images()), classes()
    joint = JointFusionClassifier([("image", ImageEncoder(**SMALL_IMAGE), "image")], **SMALL_JOINT)
    model = {
        "encoder": ImageEncoder(**SMALL_IMAGE),
        "head": NeuralClassifier(**SMALL_NET),
        "joint": joint,
    }[level]
    X = {"encoder": X["image"], "head": table(), "joint": X}[level]
    model.fit(X, y)
    with torch.no_grad():
        for parameter in model.module_.parameters():
            parameter.fill_(torch.nan)
    match = r"the outputs of the network are NaN or infinite in 24 of 24 rows \(first \[0, 1, 2, 3"
    with pytest.raises(ValueError, match=match):
        model.transform(X) if level == "encoder" else model.predict_proba(X)


NOT_GROUPS = {
    "numbers": np.r_[np.nan, np.arange(23) // 4],
    "strings": np.array([None, *"abcdefgh" * 3][:24], dtype=object),
    "Int64": pd.array([pd.NA, *range(23)], dtype="Int64"),
    "categories": pd.Categorical([None, *"abcdefgh" * 3][:24]),
    "dates": pd.to_datetime([None, *["2026-01-01"] * 23]),
}


@pytest.mark.parametrize("kind", NOT_GROUPS)
def test_rows_without_a_group_are_refused(kind):
    match = r"Encoder: groups is None, NaN or NA in 1 of 24 rows \(first \[0\]\)"
    with pytest.raises(ValueError, match=match):
        ImageEncoder(**SMALL_IMAGE).fit(images(), classes(), groups=NOT_GROUPS[kind])


NOT_TEXTS = {
    "numbers": pd.Series(np.arange(24)),
    "nullable": pd.Series(pd.array(range(24), dtype="Int64")),
    "categories": pd.Series(pd.Categorical(np.arange(24) % 3)),
    "dates": pd.Series(pd.to_datetime(["2026-01-01"] * 24)),
    "booleans": pd.Series([True, False] * 12),
    "mixed": pd.Series(["a", 1] * 12, dtype=object),
}


@pytest.mark.parametrize("kind", NOT_TEXTS)
@pytest.mark.parametrize(
    "estimator", [TextEncoder(**SMALL_TEXT), Tokenizer()], ids=["net", "table"]
)
def test_columns_of_other_things_are_no_texts(estimator, kind):
    column = NOT_TEXTS[kind]
    with pytest.raises(TypeError, match="expected (texts|one text per row)|or text, or"):
        clone(estimator).fit(column, classes())


def test_categories_of_strings_are_texts():
    words = pd.Series(texts())
    encoder = TextEncoder(**SMALL_TEXT).fit(words, classes())
    expected = encoder.transform(words)
    np.testing.assert_array_equal(encoder.transform(words.astype("category")), expected)


def test_bands_that_stay_empty_are_counted():
    match = r"5 of n_mels=160 bands lie between two frequencies of n_fft=256 .* 31.25 Hz apart"
    with pytest.warns(UserWarning, match=match):
        LogMelSpectrogram(sample_rate=8000, n_fft=256, n_mels=160).fit(waveforms())


@pytest.mark.parametrize(
    ("fitted", "new", "match"),
    [
        (1, 1 / 255, r"pixels from 0.* to .*, in fit from 0 to 227\. Scale all in the same way"),
        (1 / 255, 1, r"pixels from 0 to 227 in .*, in fit from 0 to 0\.89"),
        (1, -1 / 255, "pixels from -0.* to -?0 in .*, in fit from 0 to 227"),
        (1, 1, None),
        (1 / 255, 1 / 255, None),
    ],
)
def test_another_range_of_pixels_is_noticed(fitted, new, match):
    pixels, y = images().astype(np.float32), classes()
    X = multimodal_frame(image=pixels * np.float32(new))
    triples = [("image", ImageEncoder(**SMALL_IMAGE), "image")]
    seen = multimodal_frame(image=pixels * np.float32(fitted))
    alone = ImageEncoder(**SMALL_IMAGE).fit(seen["image"], y)
    joint = JointFusionClassifier(triples, **SMALL_JOINT).fit(seen, y)
    calls = (lambda: alone.transform(X["image"]), lambda: joint.predict(X))
    for call in (*calls, lambda: joint.predict_one({"image": X["image"].iloc[0]})):
        with nullcontext() if match is None else pytest.warns(UserWarning, match="in fit from"):
            call()
    if match:
        with pytest.warns(UserWarning, match=f"ImageEncoder: {match}") as caught:
            alone.transform(X["image"])
        assert len(caught) == 1


def test_torch_tensors_of_bfloat16_are_numbers():
    pixels = torch.from_numpy(images())
    expected = ImageEncoder(**SMALL_IMAGE).fit_transform(pixels.float(), classes())
    for X in (pixels.bfloat16(), list(pixels.bfloat16())):
        encoded = ImageEncoder(**SMALL_IMAGE).fit_transform(X, classes())
        np.testing.assert_array_equal(encoded, expected)
    features = torch.arange(48.0).reshape(24, 2)
    y = torch.from_numpy(classes())
    proba = NeuralClassifier(**SMALL_NET).fit(features, y).predict_proba(features)
    low = NeuralClassifier(**SMALL_NET).fit(features.bfloat16(), y).predict_proba(features)
    np.testing.assert_array_equal(proba, low)


def test_object_arrays_of_pixels_are_numbers():
    expected = ImageEncoder(**SMALL_IMAGE).fit_transform(images().astype(int), classes())
    encoded = ImageEncoder(**SMALL_IMAGE).fit_transform(images().astype(object), classes())
    np.testing.assert_array_equal(encoded, expected)


@pytest.mark.parametrize(
    ("fit", "error", "match"),
    [
        (
            lambda: ImageEncoder(device="gpu").fit(images(), classes()),
            ValueError,
            "device='gpu' is no device of torch; expected 'auto'",
        ),
        (
            lambda: ImageEncoder(channels=()).fit(images(), classes()),
            ValueError,
            r"ImageEncoder: channels=\(\); expected a tuple of one or more positive integers",
        ),
        (
            lambda: ImageEncoder().fit(texts(), classes()),
            ValueError,
            "ImageEncoder: row 0 holds .* If these are texts, use a TextEncoder",
        ),
        (
            lambda: NeuralClassifier().fit(table(), [["a"], ["a", "b"]] * 12),
            ValueError,
            "y holds a list per row, .* MultiLabelBinarizer",
        ),
        (
            lambda: NeuralRegressor().fit(table(), 1e300 * np.arange(24)),
            ValueError,
            r"y has numbers as large as 2.3e\+301, whose squares are infinite",
        ),
    ],
)
def test_messages_name_the_remedy(fit, error, match):
    with pytest.raises(error, match=match):
        fit()


def test_a_transformer_of_tables_needs_a_list_of_columns():
    X = pd.DataFrame({"colour": ["red", "blue"] * 12})
    with pytest.raises(ValueError) as raised:
        FusionTransformer([("colour", OneHotEncoder(), "colour")]).fit(X)
    assert "takes a list of columns: ['colour']" in raised.value.__notes__[0]
    encode, y = OneHotEncoder(sparse_output=False), classes()
    late = LateFusionClassifier([("c", make_pipeline(encode, LogisticRegression()), "colour")])
    joint = JointFusionClassifier([("c", encode, "colour")])
    for model in (late, joint):
        with pytest.raises(ValueError) as raised:
            model.fit(X, y)
        assert "takes a list of columns: ['colour']" in raised.value.__notes__[0]


@pytest.mark.parametrize("cls", [FusionTransformer, JointFusionClassifier, LateFusionClassifier])
def test_forms_of_x_and_triples_that_are_refused(cls):
    model, y = cls([("a", "passthrough", [0])]), classes()
    match = r"X is a list of 3 items .*multimodal_frame\(image"
    with pytest.raises((TypeError, ValueError), match=match):
        model.fit([images(), texts(), waveforms()], y)
    with pytest.raises(ValueError, match=r"X is of shape \(24, 8, 8\) .*multimodal_frame\(image"):
        model.fit(images(), y)
    with pytest.raises(TypeError, match="Sparse data was passed; .*toarray.*ColumnTransformer"):
        model.fit(csr_matrix(table()), y)
    for triple in [(ImageEncoder(), "image", "image"), ("image", "image", ImageEncoder())]:
        with pytest.raises(ValueError, match=r"has the triple .*expected \(name, estimator, colu"):
            cls([triple]).fit(modalities(), y)
    with pytest.raises(ValueError, match="name 'my image'; .* because it is a keyword of set_par"):
        cls([("my image", ImageEncoder(), "image")]).fit(modalities(), y)
    waves = pd.DataFrame({"a": np.arange(24) * 1j})
    with pytest.raises((TypeError, ValueError), match="Complex data not supported"):
        cls([("a", "passthrough", ["a"])]).fit(waves, y)


def test_calls_with_names_left_out():
    with pytest.raises(TypeError, match="got 2 values without a name; .*image=images, text=texts"):
        multimodal_frame(images(), texts())
    with pytest.raises(ValueError, match=r"a \(transformer, column\) pair, got \('image', Image"):
        make_fusion_transformer(("image", ImageEncoder()))
    fused = FusionTransformer([("a", FunctionTransformer(lambda X: X * 1j), [0])])
    with pytest.raises(TypeError, match="returned complex numbers.*expected real numbers"):
        fused.fit(table())


LEVELS = {
    "feature": lambda triples, **params: FusionTransformer(triples, **params),
    "joint": lambda triples: JointFusionClassifier(triples, **SMALL_JOINT),
    "late": lambda triples: LateFusionClassifier(triples),
    "stacking": lambda triples: LateFusionClassifier(triples, fusion="stacking"),
}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("lazy", [False, True], ids=["array", "files"])
def test_row_numbers_in_messages_are_those_of_x(level, lazy, tmp_path):
    pixels = list(images().astype(float))
    if lazy:
        for i, cell in enumerate(pixels):
            np.save(tmp_path / f"{i}.npy", cell)
        pixels = [str(tmp_path / f"{i}.npy") for i in range(24)]
    for i in (1, 4, 9):
        pixels[i] = None
    bad = list(pixels)
    bad[11] = np.full((8, 8), np.nan) if not lazy else str(tmp_path / "bad.npy")
    np.save(tmp_path / "bad.npy", np.full((8, 8), np.nan))
    X, broken = (pd.DataFrame({"image": values, "n": np.arange(24.0)}) for values in (pixels, bad))
    second = "passthrough" if level in ("feature", "joint") else LogisticRegression()
    triples = [("image", ImageEncoder(**SMALL_IMAGE), "image"), ("n", second, ["n"])]
    model = LEVELS[level](triples)
    with pytest.raises(ValueError, match=r"row 11\b.* contains NaN|row 11\b.*NaN") as caught:
        model.fit(broken, classes())
    assert "modality 'image'" in "".join(caught.value.__notes__)
    fitted = model.fit(X, classes())
    with pytest.raises(ValueError, match=r"row 11\b.*NaN") as caught:
        fitted.transform(broken) if level == "feature" else fitted.predict(broken)
    assert "modality 'image'" in "".join(caught.value.__notes__)


def test_a_module_of_texts_may_have_a_scale():
    class Scaled(nn.Module):
        out_features = 4

        def __init__(self, n_words, n_ngrams, n_chars, out_features):
            super().__init__()
            self.words = nn.EmbeddingBag(n_words, 4)

        def set_scale(self, mean, std):
            raise AssertionError("texts have no moments")

        def forward(self, words, words_lengths, **others):
            return self.words(words, words_lengths.cumsum(0) - words_lengths)

    encoder = TextEncoder(module=Scaled, max_epochs=1, n_components=4, random_state=0)
    assert encoder.fit_transform(texts(), classes()).shape == (24, 4)


class Greedy(nn.Module):
    """A network that needs more memory than any host has, in training or prediction."""

    def __init__(self, in_features, n_outputs, in_training):
        super().__init__()
        self.linear = nn.Linear(in_features, n_outputs)
        self.in_training = in_training

    def forward(self, features):
        if self.training == self.in_training:
            torch.empty(1 << 58)
        return self.linear(features)


@pytest.mark.parametrize("in_training", [True, False])
def test_out_of_memory_on_the_host_names_the_batch_size(in_training):
    params = {"module": Greedy, "module_params": {"in_training": in_training}, "device": "cpu"}
    model = NeuralClassifier(**{**SMALL_NET, "hidden_layer_sizes": ()}, **params)
    with pytest.raises(RuntimeError) as caught:
        model.fit(table(), classes()).predict(table())
    assert "with batch_size=" in "".join(caught.value.__notes__)


def test_row_with_nothing_present():
    X = hide(modalities(), image=[2], text=[2], audio=[2])
    fusion = fusion_transformer(random_state=0)
    with pytest.warns(UserWarning, match=r"1 of 24 rows have no modality present \(first \[2\]\)"):
        X_t = fusion.fit_transform(X, classes())
    assert np.isfinite(X_t).all()
    fill = np.concatenate([fusion.fill_values_[name] for name in ("image", "text", "audio")])
    np.testing.assert_allclose(X_t[2], fill, rtol=1e-6)


def test_error_in_a_modality_names_it():
    pixels = images().astype(float)
    pixels[5, 0, 0] = np.nan
    X = multimodal_frame(image=pixels, text=texts(), audio=waveforms())
    with pytest.raises(ValueError, match="image in row 5 contains NaN") as caught:
        fusion_transformer().fit(X, classes())
    assert "modality 'image'" in caught.value.__notes__[0]


# ------------------------------------------------------------------------------ few rows


def test_constant_features_through_the_fusion():
    X = modalities().assign(image=multimodal_frame(i=np.ones((N_ROWS, 8, 8)))["i"])
    for fusion in ("concat", "weighted", "whitened", "mean"):
        X_t = fusion_transformer(random_state=0, fusion=fusion).fit_transform(X, classes())
        assert np.isfinite(X_t).all()


@pytest.mark.parametrize("entry", having("net", "classes"), ids=str)
def test_single_class(entry):
    with pytest.raises(ValueError, match="y has 1 class, .*at least two classes are needed"):
        entry.make().fit(entry.X(), np.full(N_ROWS, "yes"))


@pytest.mark.parametrize("entry", NETS, ids=str)
def test_one_row(entry):
    X, y = entry.X(), entry.y()
    with pytest.raises(ValueError, match="(1 sample|n_samples=1).*minimum of 2"):
        entry.make().fit(rows(X, slice(0, 1)), y[:1])
    assert len(output(entry.fitted(), rows(X, slice(0, 1)))) == 1


@pytest.mark.parametrize("entry", NETS, ids=str)
def test_two_rows(entry):
    X, y = entry.X(), entry.y()
    pair = [0, 2 + int(np.argmax(y[2:] != y[0]))]
    assert entry.make().fit(rows(X, pair), y[pair]).n_iter_ >= 1


@pytest.mark.parametrize("entry", ENCODERS, ids=str)
def test_one_present_row(entry):
    X = entry.X().copy()
    X.iloc[1:] = None
    with pytest.raises(ValueError, match="n_samples=24, of which 1 are present"):
        entry.make().fit(X, entry.y())


@pytest.mark.parametrize("entry", having("net", "classes"), ids=str)
def test_class_of_one_row(entry):
    y = entry.y().copy()
    y[0] = 2
    assert entry.make(early_stopping=True).fit(entry.X(), y).n_iter_ >= 1


# ------------------------------------------------------------------------------ weights, groups


@pytest.mark.parametrize("entry", NETS, ids=str)
@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.ones(N_ROWS - 1), r"sample_weight.shape == \(23,\), expected \(24,\)"),
        (np.ones((N_ROWS, 1)), "Sample weights must be 1D array or scalar"),
        (np.arange(N_ROWS) - 3.0, "not negative and not all zero; row 0 has -3.0"),
        (np.where(np.arange(N_ROWS) == 6, np.nan, 1), "must be finite.*row 6 has nan"),
        (np.zeros(N_ROWS), "not all zero; all are zero"),
    ],
    ids=["length", "two axes", "negative", "nan", "zero"],
)
def test_wrong_sample_weight(entry, weight, message):
    with pytest.raises(ValueError, match=message):
        entry.make().fit(entry.X(), entry.y(), sample_weight=weight)


@pytest.mark.parametrize("entry", NETS, ids=str)
def test_groups_of_another_length(entry):
    with pytest.raises(ValueError, match="groups has 23 values, X has 24 rows"):
        entry.make().fit(entry.X(), entry.y(), groups=np.arange(N_ROWS - 1))


@pytest.mark.parametrize("entry", ENCODERS, ids=str)
def test_class_weight_with_numbers(entry):
    message = "class_weight='balanced' needs classes; the target is continuous. Set class_weight"
    with pytest.raises(ValueError, match=message):
        entry.make(class_weight="balanced").fit(entry.X(), numbers())


@pytest.mark.parametrize("entry", having("net", "classes"), ids=str)
def test_class_weight_of_unknown_classes(entry):
    with pytest.raises(ValueError, match=r"The classes, \[0, 1\], are not in class_weight"):
        entry.make(class_weight={"yes": 2.0}).fit(entry.X(), entry.y())


@pytest.mark.parametrize("entry", having("net", "classes"), ids=str)
@pytest.mark.parametrize(
    ("class_weight", "found"),
    [
        ({0: -2.0}, "-2 to 1"),
        ({0: np.nan}, "nan to nan"),
        ({0: 0, 1: np.inf}, "0 to inf"),
        ({0: 0, 1: 0}, "0 to 0"),
    ],
)
def test_class_weight_of_wrong_numbers(entry, class_weight, found):
    with pytest.raises(ValueError, match=f"class_weight=.* weights of {found}; expected finite"):
        entry.make(class_weight=class_weight).fit(entry.X(), entry.y())


def test_fusion_refuses_weights_and_groups_of_another_length():
    with pytest.raises(ValueError, match=r"FusionTransformer: sample_weight.shape == \(23,\)"):
        fusion_transformer().fit(modalities(), classes(), sample_weight=np.ones(N_ROWS - 1))
    with pytest.raises(ValueError, match="groups has 23 values; expected 24"):
        fusion_transformer().fit(modalities(), classes(), groups=np.ones(N_ROWS - 1))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        fusion_transformer().fit(modalities(), classes()[:-1])


@pytest.mark.parametrize("method", ["fit", "fit_transform"])
@pytest.mark.parametrize("wrong", [np.nan, -1.0])
def test_fusion_of_unsupervised_transformers_refuses_wrong_weights(wrong, method):
    weight = np.where(np.arange(N_ROWS) == 6, wrong, 1)
    fusion = FusionTransformer([("table", StandardScaler(), [0, 1])])
    with pytest.raises(
        ValueError, match=f"FusionTransformer: sample_weight must.*row 6 has {wrong}"
    ):
        getattr(fusion, method)(table(), sample_weight=weight)


@pytest.mark.parametrize(
    "groups",
    [[(1, "a")] * N_ROWS, np.ones((N_ROWS, 2)), pd.DataFrame({"a": range(N_ROWS)}), [[1], [1, 2]]],
    ids=["tuples", "two axes", "frame", "ragged"],
)
def test_groups_of_several_labels_per_row(groups):
    match = "NeuralClassifier: groups holds 2-D data; expected one label per row.*Join several"
    with pytest.raises(ValueError, match=match):
        NeuralClassifier(**SMALL_NET).fit(table(), classes(), groups=groups)


def test_features_of_another_width():
    fitted = NeuralClassifier(**SMALL_NET).fit(table(), classes())
    with pytest.raises(ValueError, match="X has 4 features, but NeuralClassifier is expecting 5"):
        fitted.predict(table()[:, :4])


def test_features_with_absent_rows():
    """Features of an encoder by itself have NaN rows: the head says what X holds."""
    X = pd.DataFrame(table())
    X.iloc[2] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN"):
        NeuralClassifier(**SMALL_NET).fit(X, classes())


def test_fusion_in_place_of_an_encoder_class():
    with pytest.raises(TypeError, match=r"the class ImageEncoder; expected an instance"):
        FusionTransformer([("image", ImageEncoder, "image")]).fit(modalities(), classes())


@pytest.mark.parametrize(
    "model",
    [
        FusionTransformer([("t", StandardScaler(), ["when"])]),
        LateFusionClassifier([("t", make_pipeline(SimpleImputer(), LogisticRegression()), [0])]),
        JointFusionClassifier([("t", make_pipeline(SimpleImputer(), StandardScaler()), ["when"])]),
    ],
)
def test_missing_dates_in_a_table_are_refused(model):
    X, y = pd.DataFrame({"when": pd.date_range("2026-01-01", periods=24)}), classes()
    holed = X.where(np.arange(24)[:, None] != 3)
    match = r"modality 't': column 'when' holds NaT in 1 of 24 rows \(first \[3\]\).*Timedelta"
    with pytest.raises(ValueError, match=match):
        clone(model).fit(holed, y)
    with pytest.raises(ValueError, match=match):
        clone(model).fit(holed - X.min(), y)
    if isinstance(model, FusionTransformer):
        fitted = clone(model).set_params(dtype=np.float64).fit(X)
        with pytest.raises(ValueError, match=match):
            fitted.transform(holed)


def test_transformers_of_dates_may_take_missing_ones():
    X = pd.DataFrame({"when": pd.to_datetime([None, *["2026-03-01"] * 23])})
    days = FunctionTransformer(lambda frame: frame["when"].dt.day.fillna(0).to_frame())
    for transformer in (days, ColumnTransformer([("days", days, ["when"])])):
        fused = FusionTransformer([("t", transformer, ["when"])]).fit_transform(X)
        np.testing.assert_array_equal(fused[:, 0], [0, *[1] * 23])


def test_y_with_na_is_counted_in_rows_of_x():
    X, y = hide(modalities(), image=np.arange(4)), pd.Series(classes()).astype(object)
    y[[2, 7, 9]] = None
    encoder = ImageEncoder(**SMALL_IMAGE)
    match = r"FusionTransformer: .* in 3 of 24 rows \(first \[2, 7, 9\]\)"
    for child in (encoder, make_pipeline("passthrough", encoder)):
        with pytest.raises(ValueError, match=match):
            FusionTransformer([("image", child, "image")]).fit_transform(X, y)
    FusionTransformer([("table", StandardScaler(), ["a"])]).fit(pd.DataFrame({"a": y.index}), y)


@pytest.mark.parametrize("cls", [FusionTransformer, JointFusionClassifier, LateFusionClassifier])
def test_texts_given_to_the_wrong_estimator(cls):
    X, y = pd.DataFrame({"title": ["red", "blue"] * 12, "age": np.arange(24.0)}), classes()
    text, numbers_ = TfidfVectorizer(), StandardScaler()
    if cls is LateFusionClassifier:
        text, numbers_ = (make_pipeline(t, LogisticRegression()) for t in (text, numbers_))
    match = r"modality 't': a text vectorizer takes one column: 'title', not \['title'\]"
    with pytest.raises(ValueError, match=match):
        cls([("t", text, ["title"])]).fit(X, y)
    for table_, column, label in [
        (X, "title", "title"),
        (X, ["age", "title"], "title"),
        (X.to_numpy(), [1, 0], 0),
    ]:
        with pytest.raises(ValueError) as raised:
            cls([("t", numbers_, column)]).fit(table_, y)
        expected = f"Column {label!r} holds texts; use an encoder or a vectorizer."
        assert expected in raised.value.__notes__[0]
