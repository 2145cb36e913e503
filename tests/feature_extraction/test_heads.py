"""What the encoders' own heads predict, and late fusion that asks them."""

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from sklearn_mmfusion import LateFusionClassifier, LateFusionRegressor
from tests._registry import N_ROWS, classes, encoders, having, modalities, numbers

TARGETS = {
    "binary": classes,
    "multiclass": lambda: np.arange(N_ROWS) % 3,
    "multilabel-indicator": lambda: np.random.default_rng(0).integers(0, 2, (N_ROWS, 3)),
    "continuous": numbers,
    "continuous-multioutput": lambda: np.column_stack([numbers(), classes() + 0.5]),
}


@pytest.mark.parametrize("entry", having("encoder"), ids=str)
@pytest.mark.parametrize("kind", TARGETS)
def test_predict_head_is_the_head_on_the_features(entry, kind):
    X, y = entry.X(), TARGETS[kind]()
    encoder = entry.make(target_type=kind).fit(X, y)
    head = encoder.module_.head
    features = torch.from_numpy(encoder.transform(X))
    with torch.no_grad():
        outputs = head(features).double().numpy()
    if "continuous" in kind:
        present = ~np.asarray(X.isna())
        expected = outputs * y[present].std(0) + y[present].mean(0)
    else:
        expected = expit(outputs) if "label" in kind else softmax(outputs, axis=1)
    np.testing.assert_allclose(encoder.predict_head(X), expected, rtol=1e-5, atol=1e-6)
    assert np.isnan(encoder.predict_head(X)[1]).all()
    assert hasattr(encoder, "classes_") == ("continuous" not in kind)


@pytest.mark.parametrize("entry", having("encoder"), ids=str)
def test_evidence_of_an_encoder(entry):
    encoder = entry.make(loss="evidential").fit(entry.X(), entry.y())
    evidence = encoder.predict_evidence(entry.X())
    alpha = evidence + 1
    np.testing.assert_allclose(
        encoder.predict_head(entry.X()), alpha / alpha.sum(1, keepdims=True), rtol=1e-12
    )
    assert np.nanmin(evidence) >= 0
    assert not hasattr(entry.fitted(), "predict_evidence")


def test_late_fusion_asks_the_encoders_own_heads():
    X, y = modalities(), classes()
    late = LateFusionClassifier(encoders(), random_state=0).fit(X, y)
    logs = np.zeros((N_ROWS, 2))
    for name, encoder in late.named_estimators_.items():
        logs += np.nan_to_num(np.log(encoder.predict_head(X[name])))
    np.testing.assert_allclose(late.predict_proba(X), softmax(logs, axis=1), rtol=1e-9)
    behind = LateFusionClassifier(encoders(), head=LogisticRegression(), random_state=0).fit(X, y)
    assert isinstance(behind.named_estimators_["text"][-1], LogisticRegression)
    frozen = [(n, FrozenEstimator(late.named_estimators_[n]), n) for n in X.columns]
    again = LateFusionClassifier(frozen).fit(X, y)
    np.testing.assert_allclose(again.predict_proba(X), late.predict_proba(X), rtol=1e-9)


def test_late_fusion_of_evidence_trains_encoders_for_it():
    X, y = modalities(), classes()
    late = LateFusionClassifier(encoders(), fusion="evidence", random_state=0).fit(X, y)
    total = np.zeros((N_ROWS, 2))
    for name, encoder in late.named_estimators_.items():
        e = np.nan_to_num(encoder.predict_evidence(X[name]))
        total = total + e + total * e / 2
    alpha = total + 1
    np.testing.assert_allclose(late.predict_proba(X), alpha / alpha.sum(1, keepdims=True))
    np.testing.assert_allclose(late.predict_uncertainty(X), 2 / alpha.sum(1))


def test_late_fusion_of_whole_numbers_is_a_regression():
    X, y = modalities(), np.arange(N_ROWS) % 4
    late = LateFusionRegressor(encoders(), random_state=0).fit(X, y)
    told = [late.named_estimators_[n].predict_head(X[n]) for n in X.columns]
    np.testing.assert_allclose(late.predict(X), np.nanmean(told, axis=0)[:, 0], rtol=1e-9)
