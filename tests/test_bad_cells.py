"""Cells that are wrong, or odd but right: what is refused, with which words, and what works."""

import re
import sys

import numpy as np
import pandas as pd
import pytest
from scipy.io import wavfile
from sklearn.preprocessing import FunctionTransformer

from sklearn_mmfusion import (
    MCCA,
    AudioEncoder,
    BlockImputer,
    FusionTransformer,
    ImageEncoder,
    JointFusionClassifier,
    LateFusionClassifier,
    LogMelSpectrogram,
    NeuralClassifier,
    NeuralRegressor,
    PointCloudEncoder,
    TextEncoder,
    Tokenizer,
    multimodal_frame,
)
from tests._registry import (
    N_ROWS,
    RATE,
    SMALL_CNN,
    SMALL_IMAGE,
    SMALL_LSTM,
    SMALL_NET,
    SMALL_TEXT,
    classes,
    clouds,
    images,
    table,
    texts,
    waveforms,
)


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


def test_ragged_images_get_a_common_size():
    sizes = np.array([image.shape[:2] for image in ragged_images()])
    median = tuple(np.rint(np.median(sizes, axis=0)).astype(int).tolist())
    fitted = image_encoder().fit(ragged_images(), classes())
    assert fitted.image_size_ == median
    expected = features(image_encoder(image_size=median), ragged_images())
    np.testing.assert_array_equal(fitted.transform(ragged_images()), expected)


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
    with pytest.raises(ValueError, match=r"image in row 0 has shape \(8, 8, 1, 1\); expected"):
        image_encoder().fit(images()[:, :, :, None, None], classes())
    with pytest.raises(ValueError, match=r"image in row 0 has shape \(2, 2, 4, 4\); expected"):
        image_encoder(image_shape=(2, 2, 4, 4)).fit(images().reshape(N_ROWS, -1), classes())


def test_channels_differ_between_fit_and_transform():
    gray, colored = images(), np.stack([images()] * 3, -1)
    as_gray, as_color = (image_encoder().fit(X, classes()) for X in (gray, colored))
    with pytest.raises(ValueError, match="row 0 has 3 channels; expected 1, like"):
        as_gray.transform(colored)
    with pytest.raises(ValueError, match="row 0 has 4 channels; expected 3, like"):
        as_color.transform(np.stack([images()] * 4, -1))
    # A gray picture among colored ones is what folders of files often hold.
    np.testing.assert_array_equal(as_color.transform(gray), as_color.transform(colored))


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
    with pytest.raises(
        ValueError, match=r"image in row 0 has shape \(0, 5\); expected at least one"
    ):
        image_encoder().fit(np.zeros((N_ROWS, 0, 5)), classes())


def test_complex_cells():
    waves = [wave * (1 + 1j) for wave in waveforms()]
    cases = {
        "array": (image_encoder(), images() * 1j),
        "images": (image_encoder(), list(images() * 1j)),
        "one": (image_encoder(), [*images()[1:].astype(complex), images()[0] * 1j]),
        "sounds": (audio_encoder(), waves),
        "lists": (audio_encoder(), [wave.tolist() for wave in waves]),
        "series": (audio_encoder(), pd.Series(waves)),
        "frame": (audio_encoder(), multimodal_frame(x=waves)),
        "clouds": (PointCloudEncoder(), [cloud * 1j for cloud in clouds()]),
        "mel": (LogMelSpectrogram(RATE), waves),
        "texts": (text_encoder(), waves),
        "tokens": (Tokenizer(), waves),
    }
    for kind, (estimator, X) in cases.items():
        with pytest.raises(TypeError, match="Complex data not supported; got .* expected real"):
            estimator.fit(X, classes())
            raise AssertionError(kind)
    for numbers in (waves[0][:24].reshape(-1, 2), pd.DataFrame(np.ones((24, 2)) * 1j)):
        with pytest.raises(ValueError, match="Complex data not supported"):
            audio_encoder().fit(numbers, classes()[: len(numbers)])


def test_complex_tables():
    X = pd.DataFrame({"a": np.arange(24) * 1j, "b": np.arange(24.0)})
    blocks = multimodal_frame(left=table() * 1j, right=table())
    calls = {
        "fusion": lambda: FusionTransformer([("t", "passthrough", ["a", "b"])]).fit(X),
        "remainder": lambda: FusionTransformer([("t", "drop", "b")], remainder="passthrough").fit(
            X
        ),
        "custom": lambda: FusionTransformer([("t", FunctionTransformer(), ["a"])]).fit(X),
        "joint": lambda: JointFusionClassifier([("t", "passthrough", ["a"])]).fit(X, classes()),
        "late": lambda: LateFusionClassifier([("t", "passthrough", ["a"])]).fit(X, classes()),
        "cells": lambda: FusionTransformer([("t", "passthrough", "left")]).fit(blocks),
        "blocks": lambda: MCCA().fit(blocks),
        "imputer": lambda: BlockImputer().fit(blocks),
    }
    for kind, call in calls.items():
        with pytest.raises(TypeError, match="Complex data not supported; got complex"):
            call()
            raise AssertionError(kind)


def test_complex_cells_at_transform():
    fitted = audio_encoder().fit(waveforms(), classes())
    with pytest.raises(TypeError, match="AudioEncoder: Complex data not supported"):
        fitted.transform([waveforms()[0] * 1j])


def test_complex_files(tmp_path):
    np.save(tmp_path / "a.npy", np.ones(100) * 1j)
    for encoder in (
        audio_encoder(file_params={"root": str(tmp_path)}),
        image_encoder(file_params={"root": str(tmp_path)}),
    ):
        match = r"row 1, file '.*a\.npy': Complex data not supported"
        with pytest.raises(TypeError, match=match):
            encoder.fit([None, *["a.npy"] * 4], [0, 1, 0, 1, 0])


def test_other_size_at_transform_needs_image_size():
    larger = images().repeat(2, axis=1).repeat(2, axis=2)
    with pytest.raises(
        ValueError, match=r"\(1, 16, 16\); expected \(1, 8, 8\). .* set image_size.* fit again"
    ):
        image_encoder().fit(images(), classes()).transform(larger)
    fitted = image_encoder(image_size=(8, 8)).fit(images(), classes())
    assert np.isfinite(fitted.transform(larger)).all()


def test_flat_images_among_cells():
    fitted = image_encoder(image_shape=(8, 8)).fit(images(), classes())
    flat = list(images().reshape(N_ROWS, -1))
    np.testing.assert_array_equal(fitted.transform(flat), fitted.transform(images()))
    with pytest.raises(ValueError, match=r"row 1 is flat and has 60 numbers; expected 64"):
        fitted.transform([flat[0], flat[1][:60]])


@pytest.mark.parametrize(
    ("make", "cells", "match"),
    [
        (
            image_encoder,
            waveforms(),
            r"row 1 has shape \(.*Set image_shape if it is flat",
        ),
        (lambda: image_encoder(image_size=(8, 8)), waveforms(), "image in row 1 has shape"),
        (
            PointCloudEncoder,
            waveforms(),
            r"row 1 has shape .*\(n_points, 3\)\. Encode recordings",
        ),
    ],
)
def test_flat_cells_of_different_lengths_are_refused(tmp_path, make, cells, match):
    cells = [None, *cells[1:]]
    with pytest.raises(ValueError, match=match + ".* with an AudioEncoder"):
        make().fit(cells, classes())
    for i, cell in enumerate(cells[1:3]):
        np.save(tmp_path / f"{i}.npy", cell[:60])
    paths = [None, *[str(tmp_path / f"{i}.npy") for i in (0, 1)]]
    with pytest.raises(ValueError, match=match):
        make().fit(paths, [0, 0, 1])


def test_flat_images_in_files_need_a_shape(tmp_path):
    paths = [str(tmp_path / f"{i}.npy") for i in range(N_ROWS)]
    for path, image in zip(paths, images(), strict=True):
        np.save(path, image.ravel())
    X_t = features(image_encoder(image_shape=(8, 8)), paths)
    np.testing.assert_allclose(X_t, features(image_encoder(), images()), rtol=1e-5)


def test_numbers_as_texts_are_refused():
    with pytest.raises(TypeError, match=r"ImageEncoder: X is an array of shape \(24, 8, 8\) .*<U"):
        image_encoder().fit(images().astype(str), classes())
    with pytest.raises(TypeError, match="row 0: expected a numeric array; got ndarray of dtype <U"):
        image_encoder().fit(list(images().astype(str)), classes())
    for X in (list(range(24)), np.arange(24), [1.5] * 24):
        for estimator in (text_encoder(), Tokenizer()):
            with pytest.raises(
                ValueError, match=r"X holds numbers such as .*list\(map\(str, X\)\)"
            ):
                estimator.fit(X, classes())
    with pytest.raises(TypeError, match=r"cells of type tensor\[float32, \?\]; expected texts"):
        text_encoder().fit(waveforms(), classes())


def test_numbers_are_no_images():
    with pytest.raises(ValueError, match="Expected 2D array, got 1D array"):
        image_encoder().fit(np.arange(float(N_ROWS)), classes())


# ------------------------------------------------------------------------------ sound


@pytest.mark.parametrize("small", [SMALL_CNN, SMALL_LSTM], ids=["cnn", "lstm"])
def test_zero_length_audio(small):
    waves = waveforms()
    fitted = AudioEncoder(**small).fit(waves, classes())
    waves[3] = waves[3][:0]
    message = r"recording in row 3 has shape \(0,\); expected at least one sample. Assign NA"
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
    message = f"sample_rate={2 * RATE}.*; expected {RATE} Hz. Set sample_rate=.*resample.*fit again"
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
        audio_encoder(file_params={"root": str(tmp_path)}).fit(["none.wav"] * 4, [0, 1, 0, 1])


def test_paths_relative_to_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = f"row 0: there is no file 'none.npy' in {str(tmp_path)!r}; set root to its folder"
    with pytest.raises(FileNotFoundError, match=re.escape(message)):
        image_encoder().fit(["none.npy"] * 4, [0, 1, 0, 1])
    with pytest.raises(FileNotFoundError, match=r"none\.npy'\n"):
        image_encoder().fit([str(tmp_path / "none.npy")] * 4, [0, 1, 0, 1])


def test_folders_and_long_texts_for_paths(tmp_path):
    for encoder in (image_encoder(), audio_encoder()):
        with pytest.raises(ValueError, match="is a folder; expected .* Give one file per row"):
            encoder.fit([str(tmp_path)] * 4, [0, 1, 0, 1])
        with pytest.raises(
            ValueError, match=rf"row 0 holds '{'x' * 77}\.\.\.', which has no known"
        ):
            encoder.fit(["x" * 81] * 4, [0, 1, 0, 1])
        with pytest.raises(ValueError, match=rf"row 0 holds '{'x' * 80}', which has no known"):
            encoder.fit(["x" * 80] * 4, [0, 1, 0, 1])


# Encoder, its input, and the message after the row (without what is expected).
SWAPPED = {
    "image-audio": (image_encoder, ["a.wav"] * 4, "'a.wav', a recording; .*AudioEncoder"),
    "image-text": (image_encoder, texts(), "'(red|blue).*no known .*use a TextEncoder"),
    "audio-image": (audio_encoder, ["a.png"] * 4, "'a.png', an image; .*an ImageEncoder"),
    "audio-text": (audio_encoder, texts(), "'(red|blue).*no known .*use a TextEncoder"),
    "cloud-image": (PointCloudEncoder, ["a.png"] * 4, "'a.png', an image; .*an ImageEncoder"),
    "cloud-audio": (PointCloudEncoder, ["a.mp3"] * 4, "'a.mp3', a recording; .*an AudioEncoder"),
    "cloud-text": (PointCloudEncoder, texts(), "'(red|blue).*no known .*use a TextEncoder"),
}


@pytest.mark.parametrize("case", SWAPPED)
def test_swapped_columns(monkeypatch, case):
    for module in ("PIL", "soundfile"):  # neither is needed to detect a wrong column
        monkeypatch.setitem(sys.modules, module, None)
    make, X, match = SWAPPED[case]
    name = type(make()).__name__
    for call in (lambda: make().fit(X, classes(len(X))), lambda: make().fit_prepare(X)):
        with pytest.raises(ValueError, match=rf"{name}: row 0 holds {match}") as caught:
            call()
        assert "expected the path of an" in str(caught.value)
        assert "install" not in str(caught.value)


def test_audio_encoder_refuses_images():
    match = r"row 0 has shape \(8, 8\); expected \(n_samples,\).*images with an ImageEncoder"
    with pytest.raises(ValueError, match=match):
        audio_encoder().fit(images(), classes())
    with pytest.raises(ValueError, match=match):
        audio_encoder().fit(waveforms(), classes()).transform(list(images()))


@pytest.mark.parametrize("estimator", [text_encoder(), Tokenizer()], ids=["net", "table"])
def test_texts_that_are_all_paths_warn(estimator):
    paths = [f"photos/{word}.jpg" for word in texts()]
    match = "all 24 texts are paths of files, such as 'photos/.*ImageEncoder or an AudioEncoder"
    with pytest.warns(UserWarning, match=match) as seen:
        estimator.fit(paths, classes())
    assert len(seen) == 1
    estimator.fit([*paths[1:], "red.jpg is the file"], classes())


def test_file_that_is_no_recording(tmp_path):
    for name, match in (("a.wav", "cannot read"), ("a.txt", "AudioEncoder: row 0 holds")):
        (tmp_path / name).write_bytes(b"no sound")
        with pytest.raises(ValueError, match=rf"row 0:? .*{name}'") as caught:
            audio_encoder(file_params={"root": str(tmp_path)}).fit([name] * 4, [0, 1, 0, 1])
        assert match in str(caught.value)


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
    with pytest.raises(ValueError, match="no token occurs in .* 24 texts .*vocabulary is empty"):
        text_encoder().fit([text] * N_ROWS, classes())


def test_min_df_that_leaves_no_token():
    unique = [chr(0x4E00 + i) for i in range(N_ROWS)]
    with pytest.raises(ValueError, match="in at least min_df=30 of the .*vocabulary is empty"):
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
