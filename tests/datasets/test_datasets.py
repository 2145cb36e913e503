"""Data sets: what they hold, that they repeat, and that each modality is as hard as told."""

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_mmfusion.containers import TensorArray
from sklearn_mmfusion.datasets import (
    load_digits3,
    load_multimodal_digits,
    make_multimodal_classification,
    make_multimodal_multilabel_classification,
    make_multimodal_regression,
)
from sklearn_mmfusion.datasets.digits import NUMBER_WORDS, misspell
from sklearn_mmfusion.datasets.generators import RENDERERS

MAKERS = [
    make_multimodal_classification,
    make_multimodal_multilabel_classification,
    make_multimodal_regression,
]


@pytest.fixture(scope="module")
def digits():
    return load_multimodal_digits()


def spectrum(recording, n_fft=512):
    """Return the mean, spread and peak over time of the log power spectrum up to 2 kHz."""
    frames = np.lib.stride_tricks.sliding_window_view(np.asarray(recording, float), 256)[::128]
    power = np.abs(np.fft.rfft(frames * np.hanning(256), n_fft, axis=1))[:, : n_fft // 4] ** 2
    logs = np.log(power / power.mean() + 1e-3)
    return np.concatenate([logs.mean(0), logs.std(0), logs.max(0)])


def linear_scores(data):
    """Return test accuracies of logistic regressions on plain features, alone and together."""
    X, y, train, test = data.data, data.target, data.train, data.test
    pixels = np.stack(list(X["image"])).reshape(len(X), -1).astype(float)
    sounds = np.stack([spectrum(cell) for cell in X["audio"]])
    words = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 3)).fit(X["text"].iloc[train])
    blocks = {"image": pixels, "audio": sounds, "text": 5 * words.transform(X["text"]).toarray()}
    for name in ("image", "audio"):
        blocks[name] = StandardScaler().fit(blocks[name][train]).transform(blocks[name])
    blocks["fused"] = np.hstack(list(blocks.values()))
    scores = {}
    for name, block in blocks.items():
        model = LogisticRegression(C=3.0 if name == "text" else 0.003, max_iter=1000)
        scores[name] = model.fit(block[train], y[train]).score(block[test], y[test])
    return scores


def test_load_multimodal_digits_holds_what_it_says(digits):
    X = digits.data
    assert list(X.columns) == ["image", "text", "audio"]
    assert X.shape == (1797, 3) and not X.isna().any().any()
    assert X["image"].iloc[0].shape == (16, 16) and X["image"].iloc[0].dtype == np.uint8
    assert X["audio"].dtype.sample_rate == 8000 and X["audio"].iloc[0].dtype == np.int16
    lengths = np.array([len(cell) for cell in X["audio"]])
    assert lengths.min() >= 1000 and lengths.max() < 2400
    assert np.bincount(digits.target).min() > 170
    assert X["text"].str.len().min() >= 1
    assert "DESCR" in digits and "telephone" in digits.DESCR


def test_load_multimodal_digits_splits_by_line(digits):
    parts = np.concatenate([digits.train, digits.test])
    assert np.array_equal(np.sort(parts), np.arange(1797))
    assert not set(digits.groups[digits.train]) & set(digits.groups[digits.test])
    assert len(set(digits.groups)) == 12


def test_load_multimodal_digits_repeats_and_varies(digits):
    again, other = load_multimodal_digits(), load_multimodal_digits(random_state=1)
    assert digits.data.equals(again.data)
    for name in digits.data:
        assert not digits.data[name].equals(other.data[name])
    assert np.array_equal(digits.target, other.target)


def test_load_multimodal_digits_return_X_y(digits):
    X, y = load_multimodal_digits(return_X_y=True)
    assert X.equals(digits.data) and np.array_equal(y, digits.target)


def test_load_multimodal_digits_missing_cells_leave_the_rest(digits):
    thinned = load_multimodal_digits(missing_rate=0.4).data
    absent = thinned.isna()
    assert np.allclose(absent.mean(), 0.4, atol=0.05)
    assert not absent.all(axis=1).any()
    rows = np.flatnonzero(~absent["audio"])
    assert thinned["audio"].iloc[rows].equals(digits.data["audio"].iloc[rows])


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_load_multimodal_digits_rejects_missing_rate(rate):
    with pytest.raises(ValueError, match=r"missing_rate=.*expected a share from 0 to below 1"):
        load_multimodal_digits(missing_rate=rate)


@pytest.mark.slow
def test_load_multimodal_digits_needs_all_modalities(digits):
    scores = linear_scores(digits)
    alone = [scores[name] for name in ("image", "text", "audio")]
    assert 0.55 < min(alone) and max(alone) < 0.85
    assert scores["fused"] > max(alone) + 0.08


def test_number_words_are_complete():
    assert all(len(words) == len(set(words)) == 10 for words in NUMBER_WORDS.values())


def test_misspell_keeps_a_letter_and_obeys_the_rate():
    rng = np.random.RandomState(0)
    assert misspell("seven", "abc", 0.0, rng) == "seven"
    assert all(misspell("a", "abc", 1.0, rng) for _ in range(50))
    assert sum(misspell("seven", "abc", 0.5, rng) != "seven" for _ in range(200)) > 180


@pytest.mark.parametrize("make", MAKERS)
def test_make_repeats_and_returns_a_bunch(make):
    X, y = make(n_samples=12, random_state=3)
    bunch = make(n_samples=12, random_state=3, return_X_y=False)
    assert X.equals(bunch.data) and np.array_equal(y, bunch.target)
    assert isinstance(X, pd.DataFrame) and len(X) == len(y) == 12
    assert not X.equals(make(n_samples=12, random_state=4)[0])


@pytest.mark.parametrize("make", MAKERS)
def test_make_modality_does_not_depend_on_others(make):
    together, y = make(n_samples=12, random_state=3)
    alone, y_alone = make(n_samples=12, modalities=["audio"], random_state=3)
    assert together["audio"].equals(alone["audio"])
    assert np.array_equal(y, y_alone)


def test_make_multimodal_classification_absent_cells():
    X, _ = make_multimodal_classification(n_samples=200, missing_rate=0.5, random_state=0)
    assert 0.3 < X.isna().to_numpy().mean() < 0.6
    assert not X.isna().all(axis=1).any()


def image_power(X):
    """Return the power spectrum of each image: a grating's direction, whatever its phase."""
    images = np.stack(list(X["image"])).astype(float)
    return np.abs(np.fft.fft2(images - images.mean((1, 2), keepdims=True))).reshape(len(X), -1)


def direction_counts(X):
    """Share of the points of each cloud near the plane of each of 12 directions, far from z."""
    angles = np.pi * np.arange(12) / 12
    normals = np.stack([-np.sin(angles), np.cos(angles)])
    return np.array([(np.abs(c[:, :2] @ normals) < 0.15).mean(0) for c in X["point_cloud"]])


def half_split_score(features, y):
    half = len(y) // 2
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    return model.fit(features[:half], y[:half]).score(features[half:], y[half:])


def channel_power(X):
    """Power of each sequence at 20 frequencies, from its two swinging channels."""
    turns = [cell[:, 1].astype(float) + 1j * cell[:, 0] for cell in X["sequence"]]
    frequencies = np.linspace(0.02, 0.35, 20)
    return np.stack(
        [abs(np.exp(-2j * np.pi * np.outer(frequencies, range(len(t)))) @ t) for t in turns]
    )


def turn_power(clips):
    """Power of each clip at -5 to 5 turns, from the place of its light in each frame."""
    rows, columns = np.mgrid[:16, :16] - 7.5
    places = [np.tensordot(clip.astype(float), columns + 1j * rows, 2) for clip in clips]
    return np.stack([abs(np.fft.fft(p))[np.arange(-5, 6)] / len(p) for p in places])


def test_averages_of_frames_say_nothing():
    X, y = make_multimodal_classification(600, modalities=["video"], noise=0.5, random_state=0)
    means = np.stack([cell.mean(0).ravel() for cell in X["video"]])
    assert half_split_score(means, y) < 0.45
    assert half_split_score(turn_power(X["video"]), y) > 0.95


def test_make_multimodal_classification_plants_a_signal_everywhere():
    X, y = make_multimodal_classification(600, modalities=RENDERERS, random_state=0)
    sounds = np.stack([spectrum(cell) for cell in X["audio"]])
    words = TfidfVectorizer().fit_transform(X["text"]).toarray()
    scores = [half_split_score(block, y) for block in (image_power(X), sounds, words)]
    scores.append(half_split_score(direction_counts(X), y))
    scores.append(half_split_score(channel_power(X), y))
    scores.append(half_split_score(turn_power(X["video"]), y))
    assert len(scores) == len(RENDERERS), "each renderer needs a score of hand-made features here"
    assert min(scores) > 0.55


def test_make_multimodal_classification_uninformative_modality():
    X, y = make_multimodal_classification(
        600, noise={"image": 0.1}, informative=["text", "audio"], random_state=0
    )
    assert half_split_score(image_power(X), y) < 0.45
    easy, y = make_multimodal_classification(600, noise={"image": 0.1}, random_state=0)
    assert half_split_score(image_power(easy), y) > 0.95


def test_modalities_of_one_data_set_draw_independently(monkeypatch):
    """A shared draw would link modalities beyond the class, also two uninformative ones."""
    drawn = []

    def render(activations, noise, rng):
        drawn.append((activations.argmax(axis=1), rng.standard_normal(600)))
        return TensorArray(np.zeros((600, 1)))

    for name in ("image", "audio"):
        monkeypatch.setitem(RENDERERS, name, render)
    make_multimodal_classification(
        600, modalities=["image", "audio"], informative=[], random_state=0
    )
    (shown, noise), (other_shown, other_noise) = drawn
    assert (shown == other_shown).mean() < 0.45  # a third by chance
    assert abs(np.corrcoef(noise, other_noise)[0, 1]) < 0.15


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_samples": 0}, "n_samples=0; expected an integer of at least 1"),
        ({"n_classes": 1}, "n_classes=1; expected an integer of at least 2"),
        ({"modalities": ["smell"]}, r"modalities names \['smell'\]; expected distinct names from"),
        ({"modalities": []}, "modalities is empty"),
        ({"modalities": ["text", "text"]}, "expected distinct names from"),
        ({"modalities": "text", "informative": ["audio"]}, r"informative names \['audio'\]"),
        ({"noise": -1}, "noise=-1 for 'image'; expected a number of at least 0"),
        ({"noise": {"smell": 1}}, r"noise names \['smell'\]"),
        ({"missing_rate": 1}, "missing_rate=1; expected a share"),
    ],
)
def test_make_multimodal_classification_rejects(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_multimodal_classification(**arguments)


def test_make_multimodal_multilabel_and_regression_targets():
    _, labels = make_multimodal_multilabel_classification(500, n_labels=5, random_state=0)
    assert labels.shape == (500, 5) and set(np.unique(labels)) == {0, 1}
    assert np.allclose(labels.mean(0), 0.4, atol=0.08)
    _, target = make_multimodal_regression(500, random_state=0)
    assert target.dtype == np.float64 and target.std() > 0.1


def test_load_digits3_reads_the_folder(digits3_folder):
    data = load_digits3(digits3_folder / "digits3_small.npz")
    assert data.data.shape == (300, 3) and len(data.train) == 200 and len(data.test) == 100
    assert data.data["audio"].dtype.sample_rate == 8000
    assert set(data.groups[data.train]) == {"george", "jackson", "lucas", "nicolas"}
    raw = np.load(digits3_folder / "digits3_small.npz")
    start, stop = raw["audio_offsets"][7:9]
    assert np.array_equal(data.data["audio"].iloc[7], raw["audio"][start:stop])


def test_load_digits3_says_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder. Expected a folder with digits3"):
        load_digits3(tmp_path / "nowhere")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(FileNotFoundError, match=r"it holds \['notes.txt'\]"):
        load_digits3(tmp_path)
    np.savez(tmp_path / "digits3.npz", image=np.zeros(3))
    with pytest.raises(ValueError, match=r"lacks the arrays \['audio', 'audio_offsets'"):
        load_digits3(tmp_path)
