"""The perceptron's linear start against scikit-learn's linear models."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from torch import nn

from sklearn_mmfusion.modules.perceptron import MLP

ALPHA = 3.0


def make_data(n=80, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(3, 2, size=(n, 5))
    return X, (X - 3) @ rng.normal(size=(5, 3)) + rng.normal(size=(n, 3))


def fit_linear(X, target, n_outputs, criterion, weight=None):
    """Outputs on X of an MLP whose linear path was fitted."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = MLP(5, n_outputs, hidden_layer_sizes=(4,)).double().eval()
    features = torch.from_numpy(X)
    network.set_scale(features.mean(0), features.std(0, correction=0))
    weight = None if weight is None else torch.from_numpy(weight / weight.mean())
    network.fit_linear(features, torch.from_numpy(target), weight, criterion, ALPHA)
    assert all(p.grad is None or not p.grad.any() for p in network.parameters())
    return network(features).detach().numpy()


def standardized(X):
    return (X - X.mean(0)) / X.std(0)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_linear_start_equals_logistic_regression(n_classes, weighted):
    X, outputs = make_data()
    y = outputs[:, :n_classes].argmax(1)
    weight = np.random.default_rng(1).uniform(0.1, 2, size=80) if weighted else None
    logits = fit_linear(X, y, n_classes, nn.CrossEntropyLoss(reduction="none"), weight)
    # Two rows of weights, of opposite sign, share the penalty of scikit-learn's one.
    C = (2 if n_classes == 2 else 1) / ALPHA
    model = LogisticRegression(C=C, tol=1e-8, max_iter=1000)
    given = None if weight is None else weight / weight.mean()
    proba = model.fit(standardized(X), y, sample_weight=given).predict_proba(standardized(X))
    ours = torch.softmax(torch.from_numpy(logits), 1)
    np.testing.assert_allclose(ours, proba, atol=1e-4)


@pytest.mark.parametrize("n_targets", [1, 3])
def test_linear_start_equals_ridge(n_targets):
    X, y = make_data()
    y = y[:, :n_targets]
    ours = fit_linear(X, y, n_targets, nn.MSELoss(reduction="none"))
    # The loss is the mean over targets, and half of alpha stands before the penalty.
    model = Ridge(ALPHA * n_targets / 2).fit(standardized(X), y)
    expected = model.predict(standardized(X)).reshape(ours.shape)
    np.testing.assert_allclose(ours, expected, atol=1e-4)
