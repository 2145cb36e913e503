"""Small data and models for tests of the fusion report: they are fitted within milliseconds."""

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge

from sklearn_mmfusion import LateFusionClassifier, LateFusionRegressor, multimodal_frame


def make_data(n=60, n_classes=2, seed=0):
    """Classes, a column that shows them, one that hardly does, and one of noise."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    X = multimodal_frame(
        strong=y[:, None] + 0.2 * rng.normal(size=(n, 2)),
        weak=y[:, None] + 1.5 * rng.normal(size=(n, 2)),
        noise=rng.normal(size=(n, 3)),
    )
    return X, y


def late_classifier(names=("strong", "weak")):
    return LateFusionClassifier([(name, LogisticRegression(max_iter=1000), name) for name in names])


def late_regressor(names=("strong", "weak")):
    return LateFusionRegressor([(name, Ridge(), name) for name in names])
