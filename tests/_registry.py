"""Every public estimator once, with small settings and data of its own modality.

The common checks (`tests/_checks.py`) run over `ENTRIES`; `tests/test_common.py` compares the
registry with the public names, so that a new estimator cannot be left out.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import pandas as pd

from sklearn_mmfusion import (
    GCCA,
    MCCA,
    MFA,
    AudioCleaner,
    AudioEncoder,
    BlockImputer,
    BlockPooling,
    BlockWeighting,
    BlockWhitening,
    FusionTransformer,
    ImageCleaner,
    ImageEncoder,
    JointFusionClassifier,
    JointFusionRegressor,
    LateFusionClassifier,
    LateFusionRegressor,
    LogMelSpectrogram,
    NeuralClassifier,
    NeuralRegressor,
    PointCloudEncoder,
    SequenceCleaner,
    SequenceEncoder,
    TextCleaner,
    TextEncoder,
    Tokenizer,
    VideoEncoder,
    multimodal_frame,
)
from tests._fusion_data import hide

NOT_ESTIMATORS = {
    "FileArray",
    "TensorArray",
    "align_on_time",
    "check_files",
    "column_kinds",
    "cut_windows",
    "load_multimodal_digits",
    "make_fusion_transformer",
    "make_multimodal_classification",
    "make_multimodal_pipeline",
    "multimodal_frame",
}
N_ROWS = 24
RATE = 1000


# ------------------------------------------------------------------------------ data


def classes(n=N_ROWS):
    """Two balanced classes, in an order that is not sorted."""
    return np.random.default_rng(0).permutation(np.arange(n) % 2)


def numbers(n=N_ROWS):
    """Targets for a regressor."""
    return 3.0 * classes(n) + np.random.default_rng(1).normal(size=n)


def images(n=N_ROWS):
    """uint8 images (n, 8, 8); those of class 1 are brighter on the left."""
    pixels = np.random.default_rng(2).integers(0, 128, (n, 8, 8))
    pixels[:, :, :4] += 100 * classes(n)[:, None, None]
    return pixels.astype(np.uint8)


def texts(n=N_ROWS):
    """Texts of one to five words; the classes share some of them."""
    rng = np.random.default_rng(3)
    words = [["red", "ruby", "wine", "warm"], ["blue", "navy", "sky", "warm"]]
    return [" ".join(rng.choice(words[c], rng.integers(1, 6))) for c in classes(n)]


def waveforms(n=N_ROWS):
    """Tones of 60 to 200 samples at 1 kHz, of a low or a high pitch."""
    rng = np.random.default_rng(4)
    time = [np.arange(rng.integers(60, 200)) / RATE for _ in range(n)]
    pitch = np.array([80, 250])[classes(n)]
    return [
        (np.sin(2 * np.pi * f * t) + 0.3 * rng.normal(size=len(t))).astype(np.float32)
        for f, t in zip(pitch, time, strict=True)
    ]


def clouds(n=N_ROWS):
    """Point clouds of 4 to 20 points, near a ball or near a disc."""
    rng = np.random.default_rng(6)
    sizes = [[1, 1, 1], [1, 1, 0.1]]
    return [rng.normal(size=(rng.integers(4, 20), 3)) * sizes[c] for c in classes(n)]


def sequences(n=N_ROWS):
    """Sequences of 6 to 20 steps of three channels; those of class 1 swing faster."""
    rng = np.random.default_rng(7)
    steps = [np.arange(rng.integers(6, 20))[:, None] for _ in range(n)]
    speed = np.array([0.4, 1.5])[classes(n)]
    return [
        (np.sin(f * t + [0, 1, 2]) + 0.3 * rng.normal(size=(len(t), 3))).astype(np.float32)
        for f, t in zip(speed, steps, strict=True)
    ]


def clips(n=N_ROWS):
    """uint8 clips (n_frames, 8, 8) of 3 to 8 frames; a bar moves right, or left in class 1."""
    rng = np.random.default_rng(8)
    columns = [np.arange(rng.integers(3, 9)) + rng.integers(8) for _ in range(n)]
    frames = [rng.integers(0, 60, (len(c), 8, 8)) for c in columns]
    for cell, label, steps in zip(frames, classes(n), columns, strict=True):
        cell[np.arange(len(steps)), :, (steps if label else -steps) % 8] += 150
    return [cell.astype(np.uint8) for cell in frames]


def image_sets(n=N_ROWS):
    """Lists of one to three images of several sizes; those of class 1 are brighter on the left."""
    rng = np.random.default_rng(9)
    return [[image[:, : 6 + k] for k in range(rng.integers(1, 4))] for image in images(n)]


def markup(n=N_ROWS):
    """Texts as in `texts`, with tags, entities, addresses and accents."""
    frames = ["<p>{}</p>", "{} &amp; caf\u00e9", "{} http://example.com/?q=1.", "{}"]
    return [frames[i % 4].format(text) for i, text in enumerate(texts(n))]


def flawed_sequences(n=N_ROWS):
    """Sequences of 3 to 12 steps of two channels, some values missing, one of them far off."""
    rng = np.random.default_rng(7)
    cells = [rng.normal(size=(rng.integers(3, 13), 2)) + c for c in classes(n)]
    for cell in cells[::3]:
        cell[rng.integers(len(cell)), 0] = np.nan
    cells[4][1, 1] = 1000.0
    return cells


def table(n=N_ROWS):
    """Numbers (n, 5), two of whose columns differ between the classes."""
    X = np.random.default_rng(5).normal(size=(n, 5)).astype(np.float32)
    X[:, :2] += 2.0 * classes(n)[:, None]
    return X


def blocks(n=N_ROWS):
    """Two feature blocks of equal width, with absent rows."""
    return hide(multimodal_frame(left=table(n), right=table(n)[:, ::-1] ** 2), left=[3])


def column(cells, name):
    """Series of cells of one modality, its second row absent."""
    return hide(multimodal_frame(**{name: cells}), **{name: [1]})[name]


# ------------------------------------------------------------------------------ estimators


# Widths of 8 fill a vector register: with others, which row stands where in a batch decides
# whether a sum is rounded once or twice, and scikit-learn asks for nearly equal bits.
SMALL = {"n_components": 8, "max_epochs": 2, "random_state": 0}
SMALL_IMAGE = {**SMALL, "channels": (8, 8)}
SMALL_SETS = {**SMALL_IMAGE, "pooling": "attention"}
# Four epochs: after two, all features of some texts can still be below zero, where ReLU cuts.
SMALL_TEXT = {**SMALL, "max_epochs": 4, "embedding_dim": 8, "module_params": {"channels": 8}}
SMALL_GRU = {**SMALL_TEXT, "architecture": "gru", "module_params": {"hidden_size": 8}}
SMALL_AUDIO = {**SMALL, "sample_rate": RATE, "front_end": LogMelSpectrogram(n_mels=8)}
SMALL_LSTM = {**SMALL_AUDIO, "architecture": "lstm", "module_params": {"hidden_size": 8}}
SMALL_CNN = {**SMALL_AUDIO, "architecture": "cnn", "module_params": {"channels": (8, 8)}}
SMALL_CLOUD = {**SMALL, "channels": (8, 8)}
SMALL_SEQUENCE = {**SMALL, "module_params": {"channels": 8, "hidden_size": 8}}
SMALL_VIDEO = {
    **SMALL,
    "channels": (8, 8),
    "module_params": {"frame_features": 8, "hidden_size": 8},
}
SMALL_NET = {
    "hidden_layer_sizes": (8,),
    "max_epochs": 8,
    "batch_size": 64,
    "lr": 0.05,
    "linear_alpha": 10.0,  # the choice of penalty and share takes longer than such a training
    "linear_share": 0.5,
    "random_state": 0,
}


SMALL_JOINT = {
    "n_components": 8,
    "max_epochs": 3,
    "batch_size": 64,
    "lr": 0.02,
    "dropout": 0.0,
    "random_state": 0,
}


@dataclass(frozen=True)
class Modality:
    """One modality: its encoder with small settings, and ``cells(n)`` for it."""

    encoder: type
    small: dict
    cells: Callable

    def make(self, **params):
        return self.encoder(**{**self.small, **params})

    def column(self):
        """Series of the cells, its second row absent."""
        return column(self.cells(), "x")


MODALITIES = {
    "image": Modality(ImageEncoder, SMALL_IMAGE, images),
    "text": Modality(TextEncoder, SMALL_TEXT, texts),
    "audio": Modality(AudioEncoder, SMALL_CNN, waveforms),
    "point_cloud": Modality(PointCloudEncoder, SMALL_CLOUD, clouds),
    "sequence": Modality(SequenceEncoder, SMALL_SEQUENCE, sequences),
    "video": Modality(VideoEncoder, SMALL_VIDEO, clips),
}
THREE = ("image", "text", "audio")


def modalities(n=N_ROWS, names=THREE):
    """Frame of modalities, each absent in one row, from the fifth row on."""
    X = multimodal_frame(**{name: MODALITIES[name].cells(n) for name in names})
    return hide(X, **{name: [4 + i] for i, name in enumerate(names)})


def encoders(names=THREE):
    """Triples of the encoders of modalities."""
    return [(name, MODALITIES[name].make(), name) for name in names]


def of_encoders(cls):
    """What makes a fusion of three encoders."""
    return partial(_make_of_encoders, cls)


def _make_of_encoders(cls, **params):
    return cls(encoders(), **params)


fusion_transformer = of_encoders(FusionTransformer)


@dataclass(frozen=True, eq=False)
class Entry:
    """One estimator: how to make it, what it reads, and what it can do.

    ``make(**params)`` gives an unfitted estimator with small settings; ``X()`` its native input,
    of which `rows` takes a part; ``y()`` its target; ``other`` parameters that change its output.
    ``tags`` are what checks choose by: "transformer" or "predictor"; "encoder"; "net" (trains a
    network); "table" (reads plain features, sparse too); "random" (takes `random_state`); "columns"
    or "cells" (returns a table, or a column of cells); "classes" (learns from class labels).
    """

    name: str
    make: Callable
    X: Callable
    y: Callable
    other: dict
    tags: frozenset

    def fitted(self, **params):
        """A fitted estimator; with the default parameters a copy of one fit per process."""
        if params:
            return self.make(**params).fit(self.X(), self.y())
        return deepcopy(_fit_default(self))

    def __str__(self):
        return self.name


@cache
def _fit_default(entry):
    return entry.make().fit(entry.X(), entry.y())


def _entry(name, make, X, tags, small, other, y=classes):
    return Entry(name, partial(_make, make, small), X, y, other, frozenset(tags.split()))


def _make(make, small, **params):
    return make(**{**small, **params})


TEXTS, SOUNDS = MODALITIES["text"].column, MODALITIES["audio"].column
SETS = partial(column, image_sets(), "x")
ENCODER = "transformer columns encoder net random classes"
FRONT = {"sample_rate": RATE, "n_mels": 6}
FEWER = {"n_components": 3}
ENTRIES = [
    *[
        _entry(each.encoder.__name__, each.encoder, each.column, ENCODER, each.small, FEWER)
        for each in MODALITIES.values()
    ],
    _entry("AudioEncoder-lstm", AudioEncoder, SOUNDS, ENCODER, SMALL_LSTM, FEWER),
    _entry("ImageEncoder-sets", ImageEncoder, SETS, ENCODER, SMALL_SETS, FEWER),
    _entry("TextEncoder-gru", TextEncoder, TEXTS, ENCODER, SMALL_GRU, FEWER),
    _entry(
        "Tokenizer",
        Tokenizer,
        MODALITIES["text"].column,
        "transformer cells",
        {},
        {"ngram_range": (1, 2)},
    ),
    _entry(
        "LogMelSpectrogram",
        LogMelSpectrogram,
        MODALITIES["audio"].column,
        "transformer cells",
        FRONT,
        {"n_mels": 5},
    ),
    _entry(
        "LogMelSpectrogram-mfcc",
        LogMelSpectrogram,
        MODALITIES["audio"].column,
        "transformer cells",
        FRONT | {"n_mfcc": 4},
        {"n_mfcc": 3},
    ),
    _entry(
        "TextCleaner",
        TextCleaner,
        partial(column, markup(), "x"),
        "transformer cells",
        {},
        {"stop_words": ["warm"]},
    ),
    _entry("AudioCleaner", AudioCleaner, SOUNDS, "transformer cells", {}, {"normalize": "rms"}),
    _entry(
        "ImageCleaner",
        ImageCleaner,
        MODALITIES["image"].column,
        "transformer cells",
        {},
        {"outlier_threshold": 0.1},
    ),
    _entry(
        "SequenceCleaner",
        SequenceCleaner,
        partial(column, flawed_sequences(), "x"),
        "transformer cells",
        {},
        {"outlier_threshold": 3.0},
    ),
    _entry(
        "FusionTransformer",
        fusion_transformer,
        modalities,
        "transformer columns random classes",
        {"random_state": 0},
        {"missing": "zero"},
    ),
    _entry("BlockImputer", BlockImputer, blocks, "transformer columns", {}, {"alpha": 50.0}),
    _entry("BlockPooling", BlockPooling, blocks, "transformer columns", {}, {"method": "max"}),
    _entry("BlockWeighting", BlockWeighting, blocks, "transformer columns", {}, {"scale": False}),
    _entry(
        "BlockWhitening", BlockWhitening, blocks, "transformer columns", {}, {"n_components": 2}
    ),
    _entry("GCCA", GCCA, blocks, "transformer columns", {}, {"average": True}),
    _entry(
        "JointFusionClassifier",
        of_encoders(JointFusionClassifier),
        modalities,
        "predictor net random classes",
        SMALL_JOINT,
        {"fusion": "gated"},
    ),
    _entry(
        "JointFusionRegressor",
        of_encoders(JointFusionRegressor),
        modalities,
        "predictor net random",
        SMALL_JOINT,
        {"fusion": "attention"},
        numbers,
    ),
    _entry(
        "LateFusionClassifier",
        of_encoders(LateFusionClassifier),
        modalities,
        "predictor columns random classes",
        {"random_state": 0},
        {"fusion": "mean"},
    ),
    _entry(
        "LateFusionRegressor",
        of_encoders(LateFusionRegressor),
        modalities,
        "predictor columns random",
        {"random_state": 0},
        {"fusion": "median"},
        numbers,
    ),
    _entry("MCCA", MCCA, blocks, "transformer columns", {}, {"shrinkage": 0.5}),
    _entry("MFA", MFA, blocks, "transformer columns", {}, {"n_components": 2}),
    _entry(
        "NeuralClassifier",
        NeuralClassifier,
        table,
        "predictor net table random classes",
        SMALL_NET,
        {"hidden_layer_sizes": (4,)},
    ),
    _entry(
        "NeuralRegressor",
        NeuralRegressor,
        table,
        "predictor net table random",
        SMALL_NET,
        {"hidden_layer_sizes": (4,)},
        numbers,
    ),
]


def is_slow(entry):
    """Whether the common checks of an entry are slow tests.

    Encoders differ in three short methods only, so the fast tests check three of them.
    """
    extra = ("PointCloudEncoder", "SequenceEncoder", "VideoEncoder")
    return entry.name in extra or "-" in entry.name  # or another architecture


def having(*tags):
    """The entries that have all of some tags."""
    return [entry for entry in ENTRIES if entry.tags.issuperset(tags)]


def rows(X, index):
    """Some rows of any native input: by positions, slice or mask."""
    return X.iloc[index] if isinstance(X, pd.DataFrame | pd.Series) else X[index]
