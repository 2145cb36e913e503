"""Each level of fusion has a remedy for overconfidence: a temperature that keeps predictions."""

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_mmfusion import (
    FusionTransformer,
    JointFusionClassifier,
    LateFusionClassifier,
    NeuralClassifier,
    multimodal_frame,
)
from sklearn_mmfusion.inspection import squared_calibration_error
from tests._fusion_data import hide

TRAIN, HELD, TEST = slice(0, 120), slice(120, 360), slice(360, 1360)


def noisy(n_features=8, n_rows=1360, seed=0):
    """Two modalities that say little about three classes, with absent cells, and groups of 4."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n_rows)
    cells = {
        name: np.eye(3, n_features)[y] + rng.normal(size=(n_rows, n_features)) for name in "ab"
    }
    X = hide(multimodal_frame(**cells), a=np.arange(n_rows) % 10 == 0)
    return X, np.array(["x", "y", "z"])[y], np.arange(n_rows) // 4


def check_measures(y, before, after):
    """The log loss falls, and the squared calibration error by half at least."""
    assert log_loss(y, after) < log_loss(y, before)
    first, last = (squared_calibration_error(y, proba) for proba in (before, after))
    assert first > 0.01 and last < first / 2


def check_remedy(before, after, X, y):
    """Probabilities are better calibrated, and labels stay the same."""
    check_measures(y, before.predict_proba(X), after.predict_proba(X))
    np.testing.assert_array_equal(before.predict(X), after.predict(X))


def overfitted():
    """A pipeline whose network learns its training rows by heart."""
    fusion = FusionTransformer([(name, "passthrough", name) for name in "ab"])
    params = {"max_epochs": 40, "batch_size": 30, "lr": 1e-2, "linear_share": 0.0}
    params |= {"dropout": 0.0, "weight_decay": 0.0, "label_smoothing": 0.0, "random_state": 0}
    return make_pipeline(fusion, NeuralClassifier((32,), **params))


def test_features_with_a_frozen_pipeline():
    X, y, _ = noisy()
    model = overfitted().fit(X[TRAIN], y[TRAIN])
    calibrated = CalibratedClassifierCV(FrozenEstimator(model), method="temperature")
    check_remedy(model, calibrated.fit(X[HELD], y[HELD]), X[TEST], y[TEST])


@pytest.mark.slow
def test_features_on_folds_of_groups():
    X, y, groups = noisy()
    model = overfitted()
    folds = list(GroupKFold(3).split(X[TRAIN], y[TRAIN], groups[TRAIN]))
    calibrated = CalibratedClassifierCV(model, method="temperature", cv=folds, ensemble=False)
    for each in (model, calibrated):
        each.fit(X[TRAIN], y[TRAIN])
    check_remedy(model, calibrated, X[TEST], y[TEST])


def overconfident_members():
    """Without a penalty on 30 features, regressions separate 120 rows."""
    return [(name, LogisticRegression(C=100, max_iter=2000), name) for name in "ab"]


def test_decisions_by_modality():
    X, y, _ = noisy(n_features=30)
    models = [
        LateFusionClassifier(overconfident_members(), calibration=method).fit(X[TRAIN], y[TRAIN])
        for method in (None, "temperature")
    ]
    has_a = TEST.start + np.flatnonzero(X["a"][TEST].notna())
    alone = hide(X, b=np.ones(len(X), dtype=bool)).iloc[has_a]
    with pytest.warns(UserWarning, match="no present row"):
        check_remedy(*models, alone, y[has_a])
    first, last = (model.predict_proba(X[TEST]) for model in models)
    check_measures(y[TEST], first, last)  # labels may change: the rule weighs modalities anew


def test_decisions_of_modalities_that_repeat_each_other():
    X, y, _ = noisy()
    has_a = X["a"].notna().to_numpy()
    X, y = X[has_a].assign(b=X["a"][has_a]), y[has_a]
    triples = [(name, LogisticRegression(), name) for name in "ab"]
    model = LateFusionClassifier(triples)
    calibrated = CalibratedClassifierCV(model, method="temperature", ensemble=False)
    for each in (model, calibrated):
        each.fit(X[TRAIN], y[TRAIN])
    check_remedy(model, calibrated, X[TEST], y[TEST])


@pytest.mark.slow
def test_joint_network():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 1360)
    X = pd.DataFrame(np.eye(3, 8)[y] + rng.normal(size=(1360, 8))).add_prefix("x")
    tables = [
        ("left", StandardScaler(), slice("x0", "x3")),
        ("right", StandardScaler(), slice("x4", "x7")),
    ]
    params = {"max_epochs": 10, "batch_size": 30, "lr": 5e-3, "refit": False, "random_state": 0}
    params |= {"dropout": 0.0, "label_smoothing": 0.0, "linear_share": 0.0}
    models = [
        JointFusionClassifier(tables, temperature=temperature, **params).fit(X[TRAIN], y[TRAIN])
        for temperature in (None, "auto")
    ]
    assert models[0].temperature_ == 1 < models[1].temperature_
    check_remedy(*models, X[TEST], y[TEST])
