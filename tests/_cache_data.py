"""Transformers that write down every fit and transform, and equal frames, for tests of keys."""

import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin

from sklearn_mmfusion.containers import FileArray, TensorArray, TensorDtype, multimodal_frame


class Counted(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Mean and spread of each cell, scaled by a draw; every call is a line of a file.

    A file, because workers are processes.
    """

    wants_column = True

    def __init__(self, log, tag="", scale=1.0, random_state=0, sleep=0.0):
        self.log = log
        self.tag = tag
        self.scale = scale
        self.random_state = random_state
        self.sleep = sleep

    def _write(self, what, n=1):
        with open(self.log, "a") as file:
            file.write(f"{what} {self.tag}\n" * n)

    def fit(self, X, y=None, sample_weight=None, groups=None):
        self._write("fit")
        time.sleep(self.sleep)
        weight = 1.0 if sample_weight is None else np.mean(sample_weight)
        self.factor_ = self.scale * weight * np.random.RandomState(self.random_state).normal()
        self.target_ = 0.0 if y is None else float(np.mean(y))
        self._n_features_out = 2
        return self

    def transform(self, X):
        self._write("transform")
        self._write("cell", len(X))
        cells = [np.asarray(cell, dtype=np.float64) for cell in X]
        return np.array([[c.mean() * self.factor_ + self.target_, c.std()] for c in cells])


class CountedEncoder(Counted):
    """One that says, by the protocol of encoders, that each cell is read by itself."""

    def fit_prepare(self, X, y=None):
        raise NotImplementedError

    prepare = build_module = fit_prepare


def counts(log):
    """How often each line is in the file."""
    path = Path(log)
    return Counter(path.read_text().splitlines()) if path.exists() else Counter()


def three(n=36, seed=0):
    """Three modalities of small arrays, and two classes that show in all of them."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    X = multimodal_frame(
        **{name: rng.normal(size=(n, 3, 3)) + y[:, None, None] * [1, 0, 0] for name in "abc"}
    )
    return X, y


def triples(log, **params):
    return [(name, Counted(log, name, **params), name) for name in "abc"]


def equal_frames():
    """The same frame made whole, by slicing and by joining."""
    images = np.arange(20 * 16, dtype=np.uint8).reshape(20, 4, 4)
    waves = [np.arange(i, dtype="f4") if i % 3 else None for i in range(20)]
    paths = [f"{i}.wav" if i % 4 else None for i in range(20)]

    def make(rows):
        return pd.DataFrame(
            {
                "image": TensorArray(images[rows].copy()),
                "audio": TensorArray._from_sequence(
                    [waves[i] for i in rows], dtype=TensorDtype("f4", (None,), 8000)
                ),
                "clip": FileArray([paths[i] for i in rows]),
            }
        )

    rows = np.arange(5, 15)
    whole = make(np.arange(20))
    joined = pd.concat([make(rows[:3]), whole.iloc[rows[3:]]], ignore_index=True)
    return make(rows), whole.iloc[5:15].reset_index(drop=True), joined


def where_from(frame, positions):
    """In a worker: whether the base is a memory map, and some content."""
    array = frame.iloc[positions].image.array
    base = frame.image.array._storage.values
    while base is not None and not isinstance(base, np.memmap):
        base = base.base
    return base is not None, float(array.gather().sum()), array.content_key()
