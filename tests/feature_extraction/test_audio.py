"""AudioEncoder: arrays, files, rates and lengths."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import signal
from scipy.io import wavfile
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torch import nn

from sklearn_mmfusion._torch import LazyRaggedRows, RaggedRows
from sklearn_mmfusion.containers import (
    FileArray,
    TensorArray,
    TensorDtype,
    as_column,
    multimodal_frame,
)
from sklearn_mmfusion.containers.cells import Cells
from sklearn_mmfusion.feature_extraction import AudioEncoder, audio
from sklearn_mmfusion.neural_network.modality_parts import is_lazy
from sklearn_mmfusion.preprocessing import LogMelSpectrogram

RATE = 8000
SMALL = {
    "cnn": {"channels": (4, 4)},
    "crnn": {"channels": 4, "hidden_size": 4},
    "lstm": {"hidden_size": 4},
}
BOTH = pytest.mark.parametrize("architecture", ["cnn", "lstm"])


def tiny(architecture="cnn", **params):
    small = {
        "n_components": 4,
        "sample_rate": RATE,
        "front_end": LogMelSpectrogram(n_mels=12),
        "max_epochs": 2,
        "random_state": 0,
        "architecture": architecture,
        "module_params": SMALL[architecture],
    }
    return AudioEncoder(**small | params)


def make_tones(n=40, seed=0):
    """A tone that rises for class 0 and falls for class 1, of any length, in noise."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    waves = []
    for label in y:
        n_samples = rng.integers(600, 1500)
        time = np.arange(n_samples) / RATE
        ends = (500, 2500) if label == 0 else (2500, 500)
        tone = 0.3 * signal.chirp(time, ends[0], time[-1], ends[1], phi=rng.uniform(0, 360))
        waves.append((tone + 0.05 * rng.standard_normal(n_samples)).astype(np.float32))
    return waves, y


def features(X, y=None, architecture="cnn", **params):
    y = np.arange(len(X)) % 2 if y is None else y
    return tiny(architecture, **params).fit_transform(X, y)


@BOTH
def test_features_tell_classes_apart(architecture):
    waves, y = make_tones(260)
    encoder = tiny(architecture, n_components=8, max_epochs=12, module_params=None)
    if architecture == "cnn":
        encoder.set_params(module_params={"channels": (8, 8)}, max_epochs=8)
    encoder.fit(waves[:180], y[:180])
    head = LogisticRegression().fit(encoder.transform(waves[:180]), y[:180])
    assert head.score(encoder.transform(waves[180:]), y[180:]) > 0.9


def test_recordings_are_the_same_in_any_container():
    waves, _ = make_tones()
    expected = features(waves)
    assert expected.shape == (40, 4)
    assert expected.dtype == np.float32
    same = {
        "column": TensorArray(waves),
        "with rate": TensorArray(waves, sample_rate=RATE),
        "series": pd.Series(TensorArray(waves), index=np.arange(40) + 7),
        "objects": pd.Series(waves),
        "frame": pd.DataFrame({"audio": TensorArray(waves)}),
        "lists": [w.tolist() for w in waves],
        "doubles": [w.astype(np.float64) for w in waves],
        "big-endian": [w.astype(">f4") for w in waves],
        "strided": [np.repeat(w, 2)[::2] for w in waves],
    }
    for name, X in same.items():
        np.testing.assert_array_equal(features(X), expected, err_msg=name)


@BOTH
def test_a_recording_alone_has_the_features_it_has_among_others(architecture):
    waves, y = make_tones()
    encoder = tiny(architecture).fit(waves, y)
    together = encoder.transform([*waves, np.tile(waves[0], 8)])
    for row in range(0, 40, 7):
        alone = encoder.transform(TensorArray([waves[row]]))
        np.testing.assert_allclose(alone[0], together[row], rtol=1e-4, atol=1e-5)


def test_equal_lengths_as_a_table_equal_a_column():
    waves = np.stack([w[:600] for w in make_tones()[0]])
    np.testing.assert_array_equal(features(waves), features(TensorArray(waves)))
    assert tiny().fit(waves, np.arange(40) % 2).n_features_in_ == 600


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_wav_files_equal_arrays(tmp_path, dtype):
    waves, _ = make_tones()
    if dtype == np.int16:
        waves = [np.round(w * 2**14).astype(dtype) for w in waves]
    names = [f"{i}.wav" for i in range(40)]
    for name, wave in zip(names, waves, strict=True):
        wavfile.write(tmp_path / name, RATE, wave)
    expected = features(waves)
    paths = [str(tmp_path / name) for name in names]
    np.testing.assert_array_equal(features(paths), expected)
    np.testing.assert_array_equal(features(FileArray(paths)), expected)
    np.testing.assert_array_equal(features(names, file_params={"root": str(tmp_path)}), expected)


def test_loudness_does_not_matter():
    waves, y = make_tones()
    encoder = tiny().fit(waves, y)
    louder = encoder.transform([0.5 * w for w in waves])
    np.testing.assert_allclose(louder, encoder.transform(waves), atol=1e-2)


def test_rates_are_checked_and_resampled_if_asked(tmp_path):
    waves, y = make_tones()
    double = [signal.resample_poly(w, 2, 1).astype(np.float32) for w in waves]
    column = TensorArray(double, sample_rate=2 * RATE)
    with pytest.raises(ValueError, match="row 0 has sample_rate=16000.*expected 8000 Hz.*resample"):
        tiny().fit(column, y)
    wavfile.write(tmp_path / "a.wav", 2 * RATE, double[0])
    with pytest.raises(ValueError, match="row 0 has sample_rate=16000 Hz"):
        tiny().fit(waves, y).transform([str(tmp_path / "a.wav")])
    encoder = tiny(resample=True).fit(waves, y)
    close = encoder.transform(column)
    back = [signal.resample_poly(w, 1, 2).astype(np.float32) for w in double]
    np.testing.assert_allclose(close, encoder.transform(back), atol=1e-4)


def columns_of_rate(waves, rate, folder):
    """Recordings in every container that can state their rate."""
    for i, wave in enumerate(waves):
        np.save(folder / f"{i}.npy", wave)
        wavfile.write(folder / f"{i}.wav", int(rate), wave)
    arrays = [folder / f"{i}.npy" for i in range(len(waves))]
    columns = {
        "array": TensorArray(waves, sample_rate=rate),
        "dtype": pd.Series(waves, dtype=TensorDtype("float32", (None,), sample_rate=rate)),
        "frame": multimodal_frame(x=as_column(waves, sample_rate=rate)),
        "npy": FileArray(arrays, sample_rate=rate),
        "npy, joined": pd.concat([pd.Series(FileArray([p], sample_rate=rate)) for p in arrays]),
        "npy, again": FileArray(FileArray(arrays, sample_rate=rate)),
    }
    if rate == int(rate):
        paths = [str(path.with_suffix(".wav")) for path in arrays]
        columns |= {"wav": paths, "wav, stated": FileArray(paths, sample_rate=rate)}
    return columns


@pytest.mark.parametrize("rate", [16000, 11025.5])
def test_sample_rate_is_checked_wherever_it_is_stated(tmp_path, rate):
    waves, y = make_tones(4)
    refused, known = f"has sample_rate={rate} Hz; expected 8000 Hz. Set sample_rate={rate}", tiny()
    known.fit(waves, y)
    mel = LogMelSpectrogram(RATE).fit(waves)
    resampled = tiny(resample=True).fit(waves, y)
    expected = None
    for kind, X in columns_of_rate(waves, rate, tmp_path).items():
        for call in (lambda X: tiny().fit(X, y), known.transform, known.prepare, mel.transform):
            with pytest.raises(ValueError, match=refused):
                call(X)
        encoded = resampled.transform(X)
        expected = encoded if expected is None else expected
        np.testing.assert_array_equal(encoded, expected, err_msg=kind)
        own = LogMelSpectrogram().fit(X)
        assert own.sample_rate_ == rate and own.hop_length_ == int(rate) // 100
    assert tiny(sample_rate=rate).fit(X, y).front_end_.sample_rate_ == rate


@pytest.mark.parametrize("rate", [11025.5, 22050, 44100.1, 4000])
def test_resampled_tones_keep_their_pitch(rate):
    time = np.arange(int(rate)) / rate
    tone = np.sin(2 * np.pi * 440 * time).astype(np.float32)
    mel = LogMelSpectrogram(RATE, resample=True).fit(TensorArray([tone], sample_rate=rate))
    cells = Cells(mel, TensorArray([tone], sample_rate=rate))
    found = mel._waveform(cells, 0, tone, rate, [], [])
    expected = np.sin(2 * np.pi * 440 * np.arange(len(found)) / RATE)
    np.testing.assert_allclose(found[500:-500], expected[500:-500], atol=0.01)


@pytest.mark.parametrize(("rate", "new_rate"), [(48000, 10.5), (48000.5, 10.5), (10.5, 8000)])
def test_resampling_to_far_rates_keeps_the_pitch(rate, new_rate):
    tone = np.sin(2 * np.pi * np.arange(int(30 * rate)) / rate).astype(np.float32)
    mel = LogMelSpectrogram(new_rate, n_fft=16, n_mels=1, resample=True).fit([tone])
    cells = Cells(mel, TensorArray([tone], sample_rate=rate))
    found = mel._waveform(cells, 0, tone, rate, [], [])
    seconds = np.arange(len(found)) / new_rate
    inner = slice(len(found) // 6, -len(found) // 6)
    np.testing.assert_allclose(found[inner], np.sin(2 * np.pi * seconds)[inner], atol=0.02)


@pytest.mark.parametrize("order", [1, -1])
def test_pairs_of_rate_and_samples_are_refused(order):
    waves, y = make_tones(8)
    pairs = [(RATE, wave)[::order] for wave in waves]
    match = r"row 0: .*a pair of a sample rate and samples\. .*TensorArray\(samples, sample_rate="
    for X in (pairs, pd.Series(pairs), [None, *pairs[1:]]):
        with pytest.raises(TypeError, match=match.replace("row 0", "row [01]")):
            tiny().fit(X, y)
    with pytest.raises(TypeError, match="column 'audio': " + match):
        multimodal_frame(audio=pairs)
    with pytest.raises(TypeError, match="a pair of a sample rate"):
        tiny().fit(waves, y).transform(pairs)


def test_file_with_another_rate_than_its_column(tmp_path):
    waves, y = make_tones(4)
    columns_of_rate(waves, 16000, tmp_path)
    column = FileArray([tmp_path / "0.npy", *(tmp_path / f"{i}.wav" for i in (1, 2))])
    for resample in (False, True):
        with pytest.raises(ValueError, match=r"row 1: .*rate 16000 Hz; the column states 8000 Hz"):
            tiny(resample=resample).fit(column.astype("file[8000Hz]"), y[:3])
    with pytest.raises(ValueError, match="cannot relabel sample rate 8000 as 16000"):
        FileArray(column.astype("file[8000Hz]"), sample_rate=16000)


@BOTH
def test_absent_recordings_take_no_part(architecture):
    waves, y = make_tones()
    absent = np.arange(40) % 5 == 0
    cells = [None if gone else w for w, gone in zip(waves, absent, strict=True)]
    out = features(cells, y, architecture)
    assert np.isnan(out[absent]).all()
    kept = [w for w in cells if w is not None]
    np.testing.assert_array_equal(out[~absent], features(kept, y[~absent], architecture))


def test_scale_is_that_of_the_training_frames():
    waves, y = make_tones()
    encoder = tiny().fit(waves, y)
    frames = np.concatenate(list(encoder.front_end_.transform(waves)))
    np.testing.assert_allclose(encoder.mean_, frames.mean(0), atol=1e-5)
    np.testing.assert_allclose(encoder.scale_, frames.std(0), rtol=1e-4)


def test_no_front_end_is_the_default_one():
    waves, y = make_tones()
    expected = features(waves, front_end=None)
    np.testing.assert_array_equal(features(waves, front_end=LogMelSpectrogram()), expected)
    given = LogMelSpectrogram(RATE, n_mels=40, top_db=40.0)
    np.testing.assert_array_equal(features(waves, front_end=given), expected)
    assert not np.array_equal(features(waves, front_end=LogMelSpectrogram(n_mels=39)), expected)


def test_fit_works_on_a_clone_of_the_front_end():
    waves, y = make_tones()
    given = LogMelSpectrogram(n_mels=12, remove_mean=False)
    encoder = tiny(front_end=given, resample=True).fit(waves, y)
    assert encoder.front_end is given and vars(given) == vars(
        LogMelSpectrogram(n_mels=12, remove_mean=False)
    )
    assert encoder.front_end_.get_params() == {
        **given.get_params(),
        "sample_rate": RATE,
        "resample": True,
    }


def test_parameters_of_the_front_end_are_searched():
    waves, y = make_tones()
    grid = {"front_end__n_mels": [8, 10]}
    pipeline = make_pipeline(tiny(max_epochs=1), LogisticRegression())
    search = GridSearchCV(pipeline, {f"audioencoder__{k}": v for k, v in grid.items()}, cv=2)
    bands = len(search.fit(waves, y).best_estimator_[0].mean_)
    assert bands == search.best_params_["audioencoder__front_end__n_mels"]


@pytest.mark.parametrize("architecture", ["cnn", "crnn", "lstm"])
def test_every_architecture_reads_cepstral_coefficients(architecture):
    waves, y = make_tones()
    front_end = LogMelSpectrogram(n_mels=12, n_mfcc=6)
    encoder = tiny(architecture, front_end=front_end, max_epochs=1).fit(waves, y)
    cepstra = np.concatenate(list(encoder.front_end_.transform(waves)))
    assert cepstra.shape[1] == 6
    np.testing.assert_allclose(encoder.mean_, cepstra.mean(0), atol=1e-5)
    assert np.isfinite(encoder.transform(waves)).all()


def test_rate_of_the_front_end_must_be_that_of_the_encoder():
    waves, y = make_tones()
    encoder = tiny(front_end=LogMelSpectrogram(sample_rate=16000))
    with pytest.raises(ValueError, match="front_end has sample_rate=16000, but the enc.*=8000"):
        encoder.fit(waves, y)


def test_silence_and_single_samples_are_finite():
    waves, y = make_tones()
    encoder = tiny().fit([*waves, np.zeros(900, np.float32), np.ones(1, np.float32)], [*y, 0, 1])
    out = encoder.transform([np.zeros(50, np.float32), np.ones(1, np.float32)])
    assert np.isfinite(out).all()


@pytest.mark.parametrize(
    "y",
    [
        np.array(["cat", "dog"] * 20),
        np.arange(40) % 3,
        np.eye(3, dtype=int)[np.arange(40) % 3] | np.eye(3, dtype=int)[np.arange(40) % 2],
        np.linspace(0, 1, 40) ** 2,
        np.random.default_rng(0).normal(size=(40, 2)),
    ],
    ids=["binary", "multiclass", "multilabel", "continuous", "multioutput"],
)
def test_targets_of_every_type_train(y):
    out = features(make_tones()[0], y)
    assert out.shape == (40, 4)
    assert np.isfinite(out).all()


def test_an_own_network_gets_bands_and_frames():
    class Means(nn.Module):
        def __init__(self, n_mels, out_features):
            super().__init__()
            self.out_features = out_features
            self.layer = nn.Linear(n_mels, out_features)

        def forward(self, frames, frames_lengths):
            cells = frames.split(frames_lengths.tolist())
            return self.layer(nn.utils.rnn.pad_sequence([c[:1] for c in cells])[0])

    waves, y = make_tones()
    encoder = tiny(module=Means, module_params=None).fit(waves, y)
    layer = encoder.module_.encoder.layer
    first = np.stack([f[0] for f in encoder.front_end_.transform(waves)])
    by_hand = first @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
    np.testing.assert_allclose(encoder.transform(waves), by_hand, atol=1e-4)


def test_long_recordings_are_cut_with_one_warning():
    waves, y = make_tones()
    longer = [len(wave) / RATE for wave in waves if len(wave) > 800]
    message = (
        rf"AudioEncoder: {len(longer)} of 40 recordings are longer than max_length=0.1 seconds, "
        rf"the longest one {max(longer):.4g}; .*Raise max_length"
    )
    encoder = tiny(max_length=0.1)
    with pytest.warns(UserWarning, match=message) as caught:
        encoder.fit(waves, y)
    assert len(caught) == 1
    by_hand = [wave[:800] for wave in waves]
    expected = features(by_hand, y)
    with pytest.warns(UserWarning, match=message) as caught:
        np.testing.assert_array_equal(encoder.transform(waves), expected)
    assert len(caught) == 1
    np.testing.assert_array_equal(encoder.transform(by_hand), expected)  # without a warning
    both = tiny(max_length=0.1, front_end=LogMelSpectrogram(max_length=0.2))
    with pytest.raises(ValueError, match=r"front_end has max_length=0.2.*max_length=0.1; expected"):
        both.fit(waves, y)


# ------------------------------------------------------------------------------ many files


def write_tones(folder, n=40):
    waves, y = make_tones(n)
    paths = [str(folder / f"{i}.wav") for i in range(n)]
    for path, wave in zip(paths, waves, strict=True):
        wavfile.write(path, RATE, wave)
    return paths, y


@BOTH
def test_frames_of_many_files_are_computed_batch_by_batch(monkeypatch, tmp_path, architecture):
    paths, y = write_tones(tmp_path)
    kept = tiny(architecture).fit(paths, y)
    assert isinstance(kept.prepare(paths).sources["frames"], RaggedRows)
    monkeypatch.setattr(audio, "KEPT_BYTES", 1000)
    encoder = tiny(architecture).fit(paths, y)
    np.testing.assert_array_equal(encoder.mean_, kept.mean_)
    np.testing.assert_array_equal(encoder.scale_, kept.scale_)
    np.testing.assert_array_equal(encoder.transform(paths), kept.transform(paths))
    with_missing = [None, *paths[3:9], None]
    np.testing.assert_array_equal(encoder.transform(with_missing)[1:-1], kept.transform(paths)[3:9])
    lazy = encoder.prepare(paths)
    held = RaggedRows(*kept.front_end_.compute(Cells(kept, FileArray(paths))))
    assert isinstance(lazy.sources["frames"], LazyRaggedRows) and is_lazy(lazy)
    np.testing.assert_array_equal(lazy.lengths(), held.lengths())
    assert lazy.nbytes == held.nbytes
    for rows in (np.array([5, 0, 7]), slice(2, 4), np.array([], int)):
        expected = held.batch("frames", rows, "cpu")
        for inputs in (lazy, lazy.to("cpu")):
            batch = inputs.batch(rows)
            assert all(torch.equal(batch[key], expected[key]) for key in expected)


def test_warnings_of_many_files_come_once_and_changed_files_are_noticed(monkeypatch, tmp_path):
    paths, y = write_tones(tmp_path)
    monkeypatch.setattr(audio, "KEPT_BYTES", 1000)
    encoder = tiny(max_length=0.05)
    with pytest.warns(UserWarning, match="40 of 40 recordings are longer") as caught:
        encoder.fit(paths, y)
    assert len(caught) == 1
    encoder = tiny().fit(paths, y)
    inputs = encoder.prepare(paths)
    wavfile.write(paths[2], RATE, np.ones(100, np.float32))
    with pytest.raises(ValueError, match=r"row 2 has 2 frames; it had \d+ when .*2.wav"):
        inputs.batch(np.arange(5))


# Encodes argv[1] recordings; prints the largest resident memory in kB.
MANY_FILES = """
import sys
import numpy as np
from sklearn_mmfusion import AudioEncoder
from sklearn_mmfusion.feature_extraction import audio
from tests.feature_extraction.test_audio import RATE, make_tones, write_tones
from pathlib import Path

audio.KEPT_BYTES = 1 << 22
paths, y = write_tones(Path("."), 200)
encoder = AudioEncoder(sample_rate=RATE, max_epochs=1, early_stopping=False, random_state=0)
encoder.fit(paths, y)
encoder.transform(paths * (int(sys.argv[1]) // 200))
with open("/proc/self/status") as file:
    print(next(line for line in file if line.startswith("VmHWM")).split()[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_many_files_take_as_much_memory_as_few(tmp_path, script_environment):
    peaks = []
    for n in (2000, 20000):
        command = [sys.executable, "-c", MANY_FILES, str(n)]
        options = {"env": script_environment, "cwd": tmp_path, "check": True, "text": True}
        done = subprocess.run(command, stdout=subprocess.PIPE, **options)
        peaks.append(int(done.stdout) / 1024)
    returned = 18_000 * 128 * 4 / 2**20
    assert peaks[1] - peaks[0] < 50 + returned, peaks
