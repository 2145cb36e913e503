"""Input that is wrong, or odd but right: what is refused, with which words, and what works."""

import numpy as np
import pandas as pd
import pytest
from scipy.io import wavfile

from sklearn_mmfusion import (
    AudioEncoder,
    FusionTransformer,
    ImageEncoder,
    NeuralClassifier,
    NeuralRegressor,
    TextEncoder,
    Tokenizer,
    multimodal_frame,
)
from tests._fusion_data import hide
from tests._registry import (
    N_ROWS,
    RATE,
    SMALL_CNN,
    SMALL_IMAGE,
    SMALL_LSTM,
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


def image_encoder(**params):
    return ImageEncoder(**SMALL_IMAGE, **params)


def text_encoder(**params):
    return TextEncoder(**SMALL_TEXT, **params)


def audio_encoder(**params):
    return AudioEncoder(**SMALL_CNN, **params)


def features(encoder, X):
    """Features of rows an encoder was fitted on; they must be finite."""
    X_t = encoder.fit(X, classes(len(X))).transform(X)
    assert X_t.shape == (len(X), 8) and np.isfinite(X_t).all()
    return X_t


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
    message = (
        r"X is a frame of 3 columns, among them \['image'.*expected one column, such as X\['im"
    )
    with pytest.raises(ValueError, match=message):
        entry.make().fit(modalities(), classes())


@pytest.mark.parametrize("entry", ENCODERS, ids=str)
def test_column_of_absent_cells_alone(entry):
    with pytest.raises(ValueError, match="n_samples=24, of which 0 are present"):
        entry.make().fit([None] * N_ROWS, classes())


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


# ------------------------------------------------------------------------------ images


def test_nan_pixels():
    pixels = images().astype(float)
    fitted = image_encoder().fit(pixels, classes())
    pixels[5, 0, 0] = np.nan
    message = "image in row 5 contains NaN or infinity; expected finite pixels. Assign NA"
    with pytest.raises(ValueError, match=message):
        image_encoder().fit(pixels, classes())
    with pytest.raises(ValueError, match=message):
        fitted.transform(pixels)
    with pytest.raises(ValueError, match="Input X contains NaN"):
        image_encoder(image_shape=(8, 8)).fit(pixels.reshape(N_ROWS, -1), classes())


def ragged_images():
    return [image[: 5 + i % 3, : 6 + i % 2] for i, image in enumerate(images())]


def test_ragged_images_need_a_size():
    with pytest.raises(ValueError, match="different sizes.*Set image_size="):
        image_encoder().fit(ragged_images(), classes())
    features(image_encoder(image_size=(6, 6)), ragged_images())


def test_ragged_images_at_transform_need_a_size():
    fitted = image_encoder().fit(images(), classes())
    with pytest.raises(ValueError, match=r"image in row 0 has .*\(1, 5, 6\); expected \(1, 8, 8\)"):
        fitted.transform(ragged_images())


@pytest.mark.parametrize("image_shape", [(8, 9), (4, 4)])
def test_wrong_image_shape(image_shape):
    flat = images().reshape(N_ROWS, -1)
    message = f"flat and has 64 numbers; expected {np.prod(image_shape)}, the product of image_sh"
    with pytest.raises(ValueError, match=message):
        image_encoder(image_shape=image_shape).fit(flat, classes())


def test_images_of_a_wrong_rank():
    with pytest.raises(ValueError, match=r"images have shape \(8, 8, 1, 1\); expected \(height, w"):
        image_encoder().fit(images()[:, :, :, None, None], classes())
    with pytest.raises(ValueError, match=r"images have shape \(2, 2, 4, 4\); expected \(height, w"):
        image_encoder(image_shape=(2, 2, 4, 4)).fit(images().reshape(N_ROWS, -1), classes())


def test_channels_differ_between_fit_and_transform():
    grey, colored = images(), np.stack([images()] * 3, -1)
    as_grey, as_color = (image_encoder().fit(X, classes()) for X in (grey, colored))
    with pytest.raises(
        ValueError, match=r"row 0 has \(channels.*\(3, 8, 8\); expected \(1, 8, 8\)"
    ):
        as_grey.transform(colored)
    with pytest.raises(
        ValueError, match=r"row 0 has \(channels.*\(4, 8, 8\); expected \(3, 8, 8\)"
    ):
        as_color.transform(np.stack([images()] * 4, -1))
    # A grey picture among colored ones is what folders of files often hold.
    np.testing.assert_array_equal(as_color.transform(grey), as_color.transform(colored))


def test_missing_image_file(tmp_path):
    paths = [str(tmp_path / f"{i}.npy") for i in range(N_ROWS)]
    for path, image in zip(paths[:-1], images(), strict=False):
        np.save(path, image)
    with pytest.raises(FileNotFoundError, match=r"row 23: there is no file '.*23\.npy'"):
        image_encoder().fit(paths, classes())
    fitted = image_encoder().fit(paths[:-1], classes()[:-1])
    with pytest.raises(FileNotFoundError, match=r"row 1: there is no file '.*23\.npy'"):
        fitted.transform([paths[0], paths[-1]])
    np.testing.assert_allclose(
        fitted.transform(paths[:2]), fitted.transform(images()[:2]), rtol=1e-5
    )


def test_file_of_another_kind(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"row 0: cannot read '.*a\.png'"):
        image_encoder().fit([str(path)] * 4, [0, 1, 0, 1])


def test_texts_are_no_image_files():
    with pytest.raises((ValueError, FileNotFoundError), match=r"row 0.*'(red|blue|ruby|navy)"):
        image_encoder().fit(texts(), classes())


def test_images_without_a_pixel():
    with pytest.raises(ValueError, match=r"images have shape \(0, 5, 1\).*at least one pixel"):
        image_encoder().fit(np.zeros((N_ROWS, 0, 5)), classes())


def test_complex_cells():
    with pytest.raises(ValueError, match="ImageEncoder: Complex data not supported"):
        image_encoder().fit(images() * 1j, classes())


def test_other_size_at_transform_needs_image_size():
    larger = images().repeat(2, axis=1).repeat(2, axis=2)
    with pytest.raises(ValueError, match=r"\(1, 16, 16\); expected \(1, 8, 8\). Set image_size"):
        image_encoder().fit(images(), classes()).transform(larger)
    fitted = image_encoder(image_size=(8, 8)).fit(images(), classes())
    assert np.isfinite(fitted.transform(larger)).all()


def test_flat_images_among_cells():
    fitted = image_encoder(image_shape=(8, 8)).fit(images(), classes())
    flat = list(images().reshape(N_ROWS, -1))
    np.testing.assert_array_equal(fitted.transform(flat), fitted.transform(images()))
    with pytest.raises(ValueError, match=r"row 1 is flat and has 60 numbers; expected 64"):
        fitted.transform([flat[0], flat[1][:60]])


def test_numbers_are_no_images():
    with pytest.raises(ValueError, match="Expected 2D array, got 1D array"):
        image_encoder().fit(np.arange(float(N_ROWS)), classes())


# ------------------------------------------------------------------------------ sound


@pytest.mark.parametrize("small", [SMALL_CNN, SMALL_LSTM], ids=["cnn", "lstm"])
def test_zero_length_audio(small):
    waves = waveforms()
    fitted = AudioEncoder(**small).fit(waves, classes())
    waves[3] = waves[3][:0]
    message = "in row 3 has zero samples; expected at least one. Assign NA to mark it absent"
    with pytest.raises(ValueError, match=message):
        AudioEncoder(**small).fit(waves, classes())
    with pytest.raises(ValueError, match=message):
        fitted.transform(waves)
    waves[3] = None
    assert np.isnan(fitted.transform(waves)[3]).all()
    waves[3] = waves[2][:1]
    features(AudioEncoder(**small), waves)


def test_nan_samples():
    waves = waveforms()
    waves[7] = waves[7].copy()
    waves[7][0] = np.nan
    with pytest.raises(ValueError, match="row 7 contains NaN"):
        audio_encoder().fit(waves, classes())


def test_stereo():
    waves = [np.column_stack([wave, wave]) for wave in waveforms()]
    with pytest.raises(ValueError, match=r"row 0 has shape \(\d+, 2\).*Average the channels"):
        audio_encoder().fit(waves, classes())


def test_wrong_sample_rate():
    X = multimodal_frame(audio=waveforms())
    X["audio"] = X["audio"].astype(f"tensor[float32, ?, {2 * RATE}Hz]")
    message = f"sample_rate={2 * RATE}.* Hz; expected {RATE} Hz. Set sample_rate .*resample=True"
    with pytest.raises(ValueError, match=message):
        audio_encoder().fit(X["audio"], classes())
    features(audio_encoder(resample=True), X["audio"])


def test_wrong_sample_rate_of_a_file(tmp_path):
    paths = [str(tmp_path / f"{i}.wav") for i in range(N_ROWS)]
    for i, (path, wave) in enumerate(zip(paths, waveforms(), strict=True)):
        wavfile.write(path, 2 * RATE if i == 9 else RATE, wave)
    with pytest.raises(ValueError, match=f"row 9 has sample_rate={2 * RATE} Hz; expected {RATE}"):
        audio_encoder().fit(paths, classes())
    features(audio_encoder(resample=True), paths)


def test_missing_wav_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"row 0: there is no file '.*none\.wav'"):
        audio_encoder(root=str(tmp_path)).fit(["none.wav"] * 4, [0, 1, 0, 1])


def test_texts_are_no_recordings():
    with pytest.raises(FileNotFoundError, match=r"row 0: there is no file '(red|blue|ruby|navy)"):
        audio_encoder().fit(texts(), classes())


def test_file_that_is_no_recording(tmp_path):
    for name in ("a.wav", "a.txt"):
        (tmp_path / name).write_bytes(b"no sound")
        with pytest.raises(ValueError, match=rf"row 0: cannot read '.*{name}'"):
            audio_encoder(root=str(tmp_path)).fit([name] * 4, [0, 1, 0, 1])


def test_equal_lengths_at_fit_and_others_at_transform():
    equal = [wave[:60] for wave in waveforms()]
    fitted = audio_encoder().fit(equal, classes())
    assert fitted.n_features_in_ == 60
    alone = fitted.transform([waveforms()[0]])
    np.testing.assert_allclose(alone[0], fitted.transform(waveforms())[0], rtol=1e-5)
    np.testing.assert_array_equal(fitted.transform(np.stack(equal)), fitted.transform(equal))
    of_table = audio_encoder().fit(np.stack(equal), classes())
    with pytest.raises(ValueError, match="X has 80 features, but AudioEncoder is expecting 60"):
        of_table.transform(np.zeros((2, 80)))


# ------------------------------------------------------------------------------ text


def test_empty_strings_are_texts():
    empty = texts()
    empty[2], empty[5], empty[6] = "", "   ", "?!"
    X_t = features(text_encoder(), empty)
    np.testing.assert_array_equal(X_t[2], X_t[5])
    fitted = text_encoder().fit(texts(), classes())
    assert np.isfinite(fitted.transform([""])).all()
    assert np.isfinite(fitted.transform(["", "", "red"])).all()


@pytest.mark.parametrize("text", ["", "   ", "...!"])
def test_corpus_of_empty_texts(text):
    with pytest.raises(ValueError, match="none of the 24 texts holds a token.*vocabulary is empty"):
        text_encoder().fit([text] * N_ROWS, classes())


def test_min_df_that_leaves_no_token():
    unique = [chr(0x4E00 + i) for i in range(N_ROWS)]
    with pytest.raises(ValueError, match="in at least min_df=30 texts.*vocabulary is empty"):
        text_encoder(min_df=30).fit(unique, classes())


def test_text_of_unknown_tokens_only():
    fitted = text_encoder().fit(texts(), classes())
    X_t = fitted.transform(["猫 犬", "жжж", "\U0001f600"])
    assert np.isfinite(X_t).all()


@pytest.mark.parametrize("ngram_range", [(2, 1), (0, 1), (1,), (1, 2, 3)])
def test_wrong_ngram_range(ngram_range):
    with pytest.raises(ValueError, match=r"Tokenizer: ngram_range=.*1 <= shortest <= longest"):
        Tokenizer(ngram_range=ngram_range).fit(texts())
    with pytest.raises(ValueError, match=r"Tokenizer: ngram_range=.*1 <= shortest <= longest"):
        text_encoder(char_ngram_range=ngram_range).fit(texts(), classes())


def test_numbers_among_texts():
    with pytest.raises(TypeError, match=r"row 3: got int \(number\) in a column whose first"):
        text_encoder().fit([*texts()[:3], 5, *texts()[4:]], classes())


# ------------------------------------------------------------------------------ constant, few


CONSTANT = {
    "image": (image_encoder, lambda: np.full((N_ROWS, 8, 8), 7, np.uint8)),
    "zeros": (image_encoder, lambda: np.zeros((N_ROWS, 8, 8), np.float32)),
    "text": (text_encoder, lambda: ["the same"] * N_ROWS),
    "letter": (text_encoder, lambda: ["a"] * N_ROWS),
    "silence": (audio_encoder, lambda: [np.zeros(100 + i, np.float32) for i in range(N_ROWS)]),
}


@pytest.mark.parametrize("name", CONSTANT)
def test_constant_modality(name):
    make, X = CONSTANT[name]
    features(make(), X())


def test_constant_features():
    X = table()
    X[:, 0] = 1e6
    assert np.isfinite(NeuralClassifier(**SMALL_NET).fit(X, classes()).predict_proba(X)).all()
    X[:] = 3.0
    proba = NeuralClassifier(**SMALL_NET).fit(X, classes()).predict_proba(X)
    np.testing.assert_allclose(proba[:, 0], proba[0, 0])
    y = np.full(N_ROWS, 2.5)
    np.testing.assert_allclose(NeuralRegressor(**SMALL_NET).fit(table(), y).predict(X), 2.5, atol=1)


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
    fitted = entry.fitted()
    assert len(getattr(fitted, "predict", None) and fitted.predict(X[:1]) or [0]) == 1


@pytest.mark.parametrize("entry", NETS, ids=str)
def test_two_rows(entry):
    X, y = entry.X(), entry.y()
    pair = [0, 2 + int(np.argmax(y[2:] != y[0]))]
    entry.make().fit(rows(X, pair), y[pair])


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
    entry.make(early_stopping=True).fit(entry.X(), y)


# ------------------------------------------------------------------------------ y, weights, groups


@pytest.mark.parametrize("entry", NETS, ids=str)
def test_y_is_none(entry):
    name = type(entry.make()).__name__
    with pytest.raises(ValueError, match=f"{name} estimator requires y to be passed"):
        entry.make().fit(entry.X(), None)


@pytest.mark.parametrize("entry", NETS, ids=str)
@pytest.mark.parametrize("n", [N_ROWS - 1, N_ROWS + 1])
def test_y_of_another_length(entry, n):
    y = np.resize(entry.y(), n)
    with pytest.raises(ValueError, match=f"X has 24 rows, y has {n}"):
        entry.make().fit(entry.X(), y)


@pytest.mark.parametrize("entry", NETS, ids=str)
def test_y_with_nan(entry):
    y = numbers()
    y[4] = np.nan
    with pytest.raises(ValueError, match="Input y contains NaN"):
        entry.make().fit(entry.X(), y)


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


@pytest.mark.xfail(
    strict=True,
    reason="FusionTransformer does not compare the lengths of metadata with X: with as many "
    "values as a modality has present rows, they reach the wrong rows",
)
def test_fusion_refuses_weights_and_groups_of_another_length():
    with pytest.raises(ValueError, match="sample_weight.*23.*24|inconsistent"):
        fusion_transformer().fit(modalities(), classes(), sample_weight=np.ones(N_ROWS - 1))
    with pytest.raises(ValueError, match="groups.*23|inconsistent"):
        fusion_transformer().fit(modalities(), classes(), groups=np.ones(N_ROWS - 1))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        fusion_transformer().fit(modalities(), classes()[:-1])


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
