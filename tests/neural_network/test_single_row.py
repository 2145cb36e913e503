"""Joint fusion of one row at a time: equal to a frame of one row, whatever the cells are."""

import copy
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from sklearn_mmfusion import (
    FileArray,
    ImageEncoder,
    JointFusionClassifier,
    JointFusionRegressor,
    TensorArray,
    TextEncoder,
    multimodal_frame,
)
from tests._fusion_data import hide
from tests._registry import (
    SMALL_IMAGE,
    SMALL_JOINT,
    SMALL_TEXT,
    classes,
    encoders,
    images,
    modalities,
    numbers,
    table,
    texts,
)

QUICK = {**SMALL_JOINT, "max_epochs": 2, "early_stopping": False}
ROWS = range(8)  # of `modalities`, 4 to 6 lack one


def fitted(X, triples, y=None, cls=JointFusionClassifier, **params):
    return cls(triples, **{**QUICK, **params}).fit(X, classes() if y is None else y)


def row_of(X, i):
    """Row `i` of a frame or an array as a dict of its cells."""
    if isinstance(X, pd.DataFrame):
        return {name: X[name].iloc[i] for name in X}
    return dict(enumerate(X[i]))


def assert_equal_to_frames(model, X, rows=ROWS):
    for i in rows:
        row, frame = row_of(X, i), X.iloc[[i]] if isinstance(X, pd.DataFrame) else X[[i]]
        proba = model.predict_proba_one(row)
        np.testing.assert_allclose(proba, model.predict_proba(frame)[0], atol=1e-6)
        label = model.predict_one(row)
        assert label == model.predict(frame)[0] == model.classes_[proba.argmax()]
        assert type(label) is type(model.predict(frame)[0])


# ------------------------------------------------------------------------------ kinds of columns


def _columns():
    """Numbers a to e, and columns of other kinds."""
    X = pd.DataFrame(table().astype(np.float64), columns=list("abcde"))
    words = [text.split() for text in texts()]
    return X.assign(
        city=np.where(X["a"] > 0, "Ghent", "Bruges"),
        n=np.arange(len(X)),
        flag=X["b"] > 0,
        level=pd.Categorical(np.where(X["c"] > 0, "high", "low")),
        words=words,
        counts=[{word: 1.0 for word in some} for some in words],
        day=pd.date_range("2020-01-01", periods=len(X)),
    )


def _vectors():
    X = multimodal_frame(v=table(), w=table()[:, :3].astype(np.float32), text=texts())
    return hide(X, v=[0], w=[1], text=[2])


def _objects():
    X = modalities()
    return pd.DataFrame({name: X[name].astype(object) for name in X})


def _upper(texts):
    return texts.str.upper()


def _weekday(days):
    return pd.Series(days).dt.day_of_week.to_numpy()[:, None]


def _by_position(triples):
    return [(name, part, i) for i, (name, part, _) in enumerate(triples)]


def _frozen():
    X, y = modalities().dropna(), classes()[modalities().notna().all(axis=1)]
    return [(name, FrozenEstimator(part.fit(X[name], y)), name) for name, part, _ in encoders()]


IMPUTED = make_pipeline(SimpleImputer(), StandardScaler())
MIXED = make_column_transformer((OneHotEncoder(), ["city", "level"]), (StandardScaler(), ["n"]))
PIPELINE = make_pipeline(FunctionTransformer(_upper), TextEncoder(**SMALL_TEXT, lowercase=True))
ABC = ("abc", StandardScaler(), ["a", "b", "c"])
PASS_A, PASS_DE = ("a", "passthrough", "a"), ("de", "passthrough", ["d", "e"])
CASES = {
    "encoders": (modalities, encoders),
    "frozen encoders": (modalities, _frozen),
    "objects": (_objects, encoders),
    "array of objects": (lambda: _objects().to_numpy(), lambda: _by_position(encoders())),
    "pipeline ending in an encoder": (
        modalities,
        lambda: [("text", PIPELINE, "text"), encoders()[0]],
    ),
    "numbers": (_columns, lambda: [PASS_A, ("flag", "passthrough", "flag")]),
    "vectors and text": (
        _vectors,
        lambda: [
            ("v", "passthrough", "v"),
            ("w", PCA(2), "w"),
            ("text", TfidfVectorizer(), "text"),
        ],
    ),
    "tables": (_columns, lambda: [ABC, PASS_DE]),
    "tables by slices": (
        _columns,
        lambda: [("ab", IMPUTED, slice("a", "b")), ("ce", "passthrough", slice(2, 5))],
    ),
    "table of mixed columns": (_columns, lambda: [("mix", MIXED, ["n", "level", "city"]), PASS_A]),
    "one column in a list": (_columns, lambda: [("city", OneHotEncoder(), ["city"]), PASS_A]),
    "dicts and lists": (
        _columns,
        lambda: [
            ("counts", DictVectorizer(), "counts"),
            ("words", CountVectorizer(analyzer=list), "words"),
        ],
    ),
    "dates": (_columns, lambda: [("day", FunctionTransformer(_weekday), "day"), PASS_A]),
    "array of numbers": (
        lambda: _columns()[list("abcde")].to_numpy(),
        lambda: [("abc", StandardScaler(), [0, 1, 2]), ("de", "passthrough", slice(3, 5))],
    ),
    "function of an array": (
        lambda: _columns()[list("abcde")].to_numpy(),
        lambda: [("ab", FunctionTransformer(lambda X: X[:, ::-1]), [0, 1])],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_row_equals_frame_of_one_row(case):
    X, triples = CASES[case]
    assert_equal_to_frames(fitted(X(), triples()), X())


@pytest.mark.parametrize("fusion", ["attention", "logits", "low_rank", "graph"])
def test_row_equals_frame_of_one_row_for_every_sort_of_fusion(fusion):
    assert_equal_to_frames(fitted(modalities(), encoders(), fusion=fusion), modalities())


CELLS = {"path": Path, "text": str, "pixels": lambda path: np.array(Image.open(path))}
CELLS |= {"picture": Image.open, "tensor": lambda path: torch.tensor(CELLS["pixels"](path))}
CELLS |= {"nested lists": lambda path: CELLS["pixels"](path).tolist()}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A frame of image files and texts, and a model fitted on it."""
    folder = tmp_path_factory.mktemp("photos")
    for i, pixels in enumerate(images()):
        Image.fromarray(pixels).save(folder / f"{i}.png")
    files = FileArray([folder / f"{i}.png" for i in range(len(images()))])
    X = hide(pd.DataFrame({"image": files, "text": texts()}), image=[3])
    return X, fitted(X, encoders()[:2])


@pytest.mark.parametrize("form", CELLS)
def test_image_may_be_a_file_or_what_is_in_it(photos, form):
    X, model = photos
    assert_equal_to_frames(model, X)
    cell = CELLS[form](X["image"].iloc[0])
    told = model.predict_proba_one({"image": cell, "text": X["text"].iloc[0]})
    np.testing.assert_allclose(told, model.predict_proba(X[:1])[0], atol=1e-6)


@pytest.fixture(scope="module")
def model():
    """All three encoders, on labels that are strings."""
    return fitted(modalities(), encoders(), np.array(["no", "yes"])[classes()])


@given(
    present=st.tuples(st.booleans(), st.booleans(), st.booleans()).filter(any),
    length=st.integers(40, 400),
    text=st.text(max_size=12),
    seed=st.integers(0, 99),
)
def test_any_part_of_a_row(model, present, length, text, seed):
    rng = np.random.default_rng(seed)
    cells = {
        "image": rng.integers(0, 256, (8, 8), dtype=np.uint8),
        "text": text,
        "audio": rng.normal(size=length).astype(np.float32),
    }
    hidden = {name: [0] for name, there in zip(cells, present, strict=True) if not there}
    frame = hide(multimodal_frame(**{name: [cell] for name, cell in cells.items()}), **hidden)
    row = {name: cell for name, cell in cells.items() if name not in hidden}
    told = model.predict_proba_one(row)
    np.testing.assert_allclose(told, model.predict_proba(frame)[0], atol=1e-6)


# ------------------------------------------------------------------------------ absent cells

ABSENT = {"left out": ..., "None": None, "NA": pd.NA, "nan": np.nan, "float32": np.float32("nan")}


def _without(row, names, marker):
    kept = {name: cell for name, cell in row.items() if name not in names}
    return kept if marker is ... else kept | dict.fromkeys(names, marker)


@pytest.mark.parametrize("marker", ABSENT.values(), ids=ABSENT)
@pytest.mark.parametrize("name", ["image", "text", "audio"])
def test_absent_modality(model, name, marker):
    X = modalities()
    told = model.predict_proba_one(_without(row_of(X, 0), [name], marker))
    wanted = model.predict_proba(hide(X, **{name: [0]})[:1])
    np.testing.assert_allclose(told, wanted[0], atol=1e-6)


PARTS_OF_A_TABLE = [(m, g) for m in ABSENT for g in ("a", "ab") if (m, g) != ("left out", "a")]


@pytest.mark.parametrize(("marker", "gaps"), PARTS_OF_A_TABLE)
def test_gaps_in_a_table_are_for_its_imputer(marker, gaps):
    marker, gaps = ABSENT[marker], list(gaps)
    X = _columns()[list("abcde")]
    fit = fitted(X, [("ab", IMPUTED, ["a", "b"]), PASS_DE])
    told = fit.predict_proba_one(_without(row_of(X, 0), gaps, marker))
    frame = X[:1].assign(**dict.fromkeys(gaps, np.nan))
    if marker is ... and len(gaps) == 2:  # columns that are not there: the table is absent
        frame = frame.drop(columns=gaps)
        with pytest.warns(UserWarning, match="lacks columns seen in fit"):
            wanted = fit.predict_proba(frame)
    else:
        wanted = fit.predict_proba(frame)
    np.testing.assert_allclose(told, wanted[0], atol=1e-6)


@pytest.mark.parametrize("marker", [None, pd.NA, np.nan])
def test_row_with_nothing_present_gets_the_prior(marker):
    X, y = modalities(), (np.arange(24) % 4 == 0).astype(int)
    model = fitted(X, encoders(), y)
    row = {"image": marker, "audio": marker}
    with pytest.warns(UserWarning, match="1 of 1 rows have no modality present"):
        np.testing.assert_allclose(model.predict_proba_one(row), [0.75, 0.25])
    with pytest.warns(UserWarning, match="1 of 1 rows have no modality present"):
        assert model.predict_one(row) == 0
    regressor = fitted(X, encoders(), numbers(), JointFusionRegressor)
    with pytest.warns(UserWarning, match="1 of 1 rows have no modality present"):
        assert regressor.predict_one(row) == pytest.approx(numbers().mean())


# ------------------------------------------------------------------------------ answers

ANSWERS = {
    "strings": (JointFusionClassifier, lambda c: np.array(["no", "yes"])[c], str),
    "objects": (JointFusionClassifier, lambda c: np.array(["no", "yes"], object)[c], str),
    "integers": (JointFusionClassifier, lambda c: c + 5, np.int64),
    "booleans": (JointFusionClassifier, lambda c: c > 0, np.bool_),
    "numbers": (JointFusionRegressor, lambda c: 3.5 * c + numbers(), np.float64),
    "indicator": (JointFusionClassifier, lambda c: np.column_stack([c, 1 - c, c]), np.ndarray),
    "outputs": (JointFusionRegressor, lambda c: np.column_stack([c, numbers()]), np.ndarray),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_answers_of_each_kind_of_target(kind):
    cls, target, wanted = ANSWERS[kind]
    X, y = _columns(), target(classes())
    model = fitted(X, [ABC, PASS_DE], y, cls, max_epochs=8)
    told = [model.predict_one(row_of(X, i)) for i in range(len(X))]
    assert all(isinstance(answer, wanted) for answer in told)
    np.testing.assert_array_equal(np.shape(told), y.shape)
    if cls is JointFusionRegressor:
        assert not hasattr(model, "predict_proba_one")
        np.testing.assert_allclose(told, model.predict(X), atol=1e-5)
    else:
        assert (np.array(told) == model.predict(X)).all() and len(np.unique(told)) > 1
        proba = [model.predict_proba_one(row_of(X, i)) for i in range(len(X))]
        np.testing.assert_allclose(proba, model.predict_proba(X), atol=1e-6)


def test_answers_of_several_targets_are_dicts():
    X = modalities()
    y = pd.DataFrame({"who": np.array(["ann", "bob"])[classes()], "age": 40 + numbers()})
    y["who"] = y["who"].mask(y.index == 9)
    model = fitted(X, encoders(), y, target_type={})
    for i in ROWS:
        told, wanted = model.predict_one(row_of(X, i)), model.predict(X[i : i + 1]).iloc[0]
        assert list(told) == ["who", "age"] and told["who"] == wanted["who"]
        assert told["age"] == pytest.approx(wanted["age"], rel=1e-6)
        proba, many = model.predict_proba_one(row_of(X, i)), model.predict_proba(X[i : i + 1])
        assert list(proba) == ["who", "age"]
        for name in proba:
            np.testing.assert_allclose(proba[name], many[name][0], rtol=1e-6)


# ------------------------------------------------------------------------------ keys and errors


def test_unknown_keys_are_ignored(model):
    row = row_of(modalities(), 0)
    told = model.predict_proba_one(row | {"video": object(), 3: None})
    np.testing.assert_array_equal(told, model.predict_proba_one(row))


@pytest.mark.parametrize(
    ("column", "cell", "error", "match", "note"),
    [
        ("text", 3, TypeError, "column 'text' of the row is the number 3; expected a cell", None),
        (
            "image",
            np.zeros((1, 1, 8, 8, 1), np.uint8),
            ValueError,
            r"expected \(hei",
            "'image'",
        ),
        ("image", Path("none.png"), FileNotFoundError, "none.png", "modality 'image'"),
    ],
)
def test_an_odd_cell_is_named(model, column, cell, error, match, note):
    row = row_of(modalities(), 0) | {column: cell}
    with pytest.raises(error, match=match) as raised:
        model.predict_one(row)
    notes = " ".join(getattr(raised.value, "__notes__", []))
    assert note is None or note in notes


def test_a_waveform_has_the_sample_rate_of_the_column():
    rng = np.random.default_rng(0)
    waves = [rng.normal(size=4000 + 10 * i).astype(np.float32) for i in range(24)]
    X = pd.DataFrame({"audio": TensorArray(waves, sample_rate=16000)})
    encoder = encoders()[2][1].set_params(sample_rate=8000, resample=True)
    fit = fitted(X, [("audio", encoder, "audio")])
    assert_equal_to_frames(fit, X)
    for cell in (waves[0].tolist(), torch.from_numpy(waves[0])):
        told = fit.predict_proba_one({"audio": cell})
        np.testing.assert_allclose(told, fit.predict_proba(X[:1])[0], atol=1e-6)


@pytest.mark.parametrize("rate", [None, 1000])
def test_a_pair_of_rate_and_samples_is_refused(rate):
    rng = np.random.default_rng(0)
    waves = TensorArray(rng.normal(size=(24, 400)).astype(np.float32), sample_rate=rate)
    fit = fitted(pd.DataFrame({"audio": waves}), [(*encoders()[2][:2], "audio")])
    for cell in ((8000, waves[0]), (waves[0], 8000), (waves[0].tolist(), 8000)):
        with pytest.raises(TypeError, match="a pair of a sample rate and samples") as raised:
            fit.predict_one({"audio": cell})
        assert "modality 'audio'" in " ".join(getattr(raised.value, "__notes__", []))


def test_a_key_that_may_be_a_misspelling_is_refused(model):
    row = row_of(modalities(), 0)
    text = row.pop("text")
    match = r"row lacks .*\{'text': \['text'\]\}, and has .*: \['txet'\] \('txet' may be 'text'\)"
    with pytest.raises(ValueError, match=match):
        model.predict_proba_one(row | {"txet": text})


def test_a_part_of_a_table_is_refused_as_in_a_frame():
    X = _columns()[list("abcde")]
    fit = fitted(X, [("ab", IMPUTED, ["a", "b"]), PASS_DE])
    match = r"lacks columns \['a'\] of modality 'ab'; expected all of \['a', 'b'\], or none"
    with pytest.raises(ValueError, match=f"X {match}"):
        fit.predict_proba(X[:1].drop(columns="a"))
    row = _without(row_of(X, 0), ["a"], ...)
    with pytest.raises(ValueError, match=f"the row {match}"):
        fit.predict_proba_one(row)
    with pytest.raises(ValueError, match=r"the row lacks .*: \['A'\] \('A' may be 'a'\)"):
        fit.predict_one(row | {"A": 1.0})


@pytest.mark.parametrize("row", [{"picture": 1, "sound": 2}, {0: "red"}])
def test_row_without_any_known_key(model, row):
    with pytest.raises(ValueError, match=r"none of the columns of fit.*'audio', 'image', 'text'"):
        model.predict_one(row)


NOT_DICTS = {
    "text": "red",
    "list": ["red"],
    "array": np.zeros((8, 8)),
    "None": None,
    "Series": pd.Series({"text": "red wine"}),
    "frame": pd.DataFrame({"text": ["red wine"]}),
}


@pytest.mark.parametrize("row", NOT_DICTS.values(), ids=NOT_DICTS)
def test_row_that_is_no_dict(model, row):
    with pytest.raises(TypeError, match="expected a dict"):
        model.predict_proba_one(row)


@pytest.mark.parametrize("cell", [np.zeros((50, 2)), 3.5])
def test_cell_of_the_wrong_kind_names_the_modality(model, cell):
    with pytest.raises((TypeError, ValueError), match="(?s)modality 'audio'|column 'audio'"):
        model.predict_one({"audio": cell})


@pytest.mark.parametrize("method", ["predict_one", "predict_proba_one"])
def test_before_fit(method):
    with pytest.raises(NotFittedError):
        getattr(JointFusionClassifier(encoders()), method)({"text": "red"})


# ------------------------------------------------------------------------------ side effects


def test_row_leaves_everything_as_it_was(model):
    row = row_of(modalities(), 0)
    before, weights = copy.deepcopy(row), copy.deepcopy(model.module_.state_dict())
    drawn, names = torch.get_rng_state(), set(vars(model))
    told = model.predict_proba_one(row)
    np.testing.assert_array_equal(model.predict_proba_one(row), told)
    assert not any(part.training for part in model.module_.modules())
    for name, weight in model.module_.state_dict().items():
        assert torch.equal(weight, weights[name])
    assert torch.equal(torch.get_rng_state(), drawn) and set(vars(model)) == names
    assert list(row) == list(before)
    for name, cell in row.items():
        np.testing.assert_array_equal(cell, before[name])


def test_row_of_a_pickled_model(model):
    again = pickle.loads(pickle.dumps(model))
    for i in ROWS:
        row = row_of(modalities(), i)
        np.testing.assert_array_equal(again.predict_proba_one(row), model.predict_proba_one(row))
        assert again.predict_one(row) == model.predict_one(row)


def test_parameters_set_after_fit_wait_for_the_next_fit(model):
    row = row_of(modalities(), 0)
    changed = pickle.loads(pickle.dumps(model)).set_params(
        encoders=[("image", ImageEncoder(**SMALL_IMAGE), "image")], fusion="logits"
    )
    np.testing.assert_array_equal(changed.predict_proba_one(row), model.predict_proba_one(row))
