"""A double of a modality encoder and small frames with absent cells, for the tests of fusions."""

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_mmfusion.compose import FusionTransformer
from sklearn_mmfusion.containers import TensorArray, multimodal_frame


class CellEncoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Double of a modality encoder: mean, spread and a random draw of each cell."""

    wants_column = True

    def __init__(self, n_components=2, random_state=None):
        self.n_components = n_components
        self.random_state = random_state

    def fit(self, X, y=None, sample_weight=None, groups=None):
        assert isinstance(X, pd.Series) and not X.isna().any()
        assert isinstance(X.array, TensorArray)
        self.seen_ = {"y": y, "sample_weight": sample_weight, "groups": groups, "n": len(X)}
        self.draw_ = np.random.RandomState(self.random_state).normal(size=self.n_components)
        self._n_features_out = self.n_components
        return self

    def fit_transform(self, X, y=None, sample_weight=None, groups=None):
        out = self.fit(X, y, sample_weight=sample_weight, groups=groups).transform(X)
        self.fit_transformed_ = True
        return out

    def transform(self, X):
        means = np.array([np.mean(cell) for cell in X], dtype=np.float32)
        return means[:, None] + self.draw_.astype(np.float32)


TRIPLES = [
    ("image", CellEncoder(), "image"),
    ("audio", CellEncoder(), "audio"),
    ("vector", PCA(n_components=2), "vector"),
    ("text", make_pipeline(TfidfVectorizer(), TruncatedSVD(2)), "text"),
    ("table", StandardScaler(), ["age", "height"]),
]
NAMES = ["image", "audio", "vector", "text"]


def make_X(n=24, seed=0):
    rng = np.random.default_rng(seed)
    return multimodal_frame(
        image=rng.normal(size=(n, 3, 3)).astype(np.float32),
        audio=[rng.normal(size=rng.integers(2, 9)) for _ in range(n)],
        vector=rng.normal(size=(n, 4)),
        text=[" ".join(rng.choice(["red", "green", "blue", "cyan"], 3)) for _ in range(n)],
        age=rng.normal(50, 9, n),
        height=rng.normal(170, 9, n),
    )


def masked(X, mask):
    """X with the cells of the single-column modalities NA where the mask is False."""
    return hide(X, **{name: ~mask[name] for name in NAMES})


def hide(X, **rows):
    """X with the cells of some rows of some columns NA."""
    cells = {name: X[name].array.copy() for name in rows}
    for name, where in rows.items():
        cells[name][where] = np.nan
    return X.assign(**cells)


def masks(n=24, missing=0.3, seed=0):
    rng = np.random.default_rng(seed)
    mask = {name: rng.random(n) >= missing for name in NAMES}
    for rows in mask.values():
        rows[:6] = True
    return mask


def two_vectors(n=20, seed=0):
    rng = np.random.default_rng(seed)
    return multimodal_frame(a=rng.normal(size=(n, 3)), b=5 + rng.normal(size=(n, 3)))


def pass_both(**params):
    return FusionTransformer([("a", "passthrough", "a"), ("b", "passthrough", "b")], **params)
