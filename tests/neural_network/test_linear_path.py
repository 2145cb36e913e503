"""The linear model beside a perceptron, against scikit-learn's linear models."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from sklearn.linear_model import LogisticRegression, Ridge
from torch import nn

from sklearn_mmfusion import NeuralClassifier, NeuralRegressor
from sklearn_mmfusion.modules.perceptron import MLP
from sklearn_mmfusion.neural_network.linear_path import (
    LinearModel,
    choose_alpha,
    choose_share,
    held_out,
)

ALPHA = 3.0
FORMS = {"dense": np.asarray, "sparse": sparse.csr_matrix}


def make_data(n=80, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(3, 2, size=(n, 5)) * (rng.random((n, 5)) < 0.6)
    return X.astype(np.float32), (X - 2) @ rng.normal(size=(5, 3)) + rng.normal(size=(n, 3))


def linear_model(X, target, n_outputs, criterion, weight=None, form="dense"):
    moments = X.mean(0), X.std(0)
    return LinearModel(FORMS[form](X), target, weight, moments, criterion, n_outputs)


def standardized(X):
    X = X.astype(np.float64)
    return (X - X.mean(0)) / X.std(0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_solution_equals_logistic_regression(n_classes, weighted, form):
    X, outputs = make_data()
    y = outputs[:, :n_classes].argmax(1)
    weight = None
    if weighted:
        weight = np.random.default_rng(1).uniform(0.1, 2, size=80).astype(np.float32)
        weight /= weight.mean()
    rows = np.flatnonzero(np.arange(80) % 5)
    criterion = nn.CrossEntropyLoss(reduction="none")
    model = linear_model(X, y, n_classes, criterion, weight, form)
    ours = model.outputs(rows, *model.solve(rows, ALPHA)).softmax(1)
    # Two rows of weights, of opposite sign, share the penalty of scikit-learn's one.
    C = (2 if n_classes == 2 else 1) / ALPHA
    peer = LogisticRegression(C=C, tol=1e-8, max_iter=1000)
    Z, given = standardized(X)[rows], None if weight is None else weight[rows]
    np.testing.assert_allclose(ours, peer.fit(Z, y[rows], given).predict_proba(Z), atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("n_targets", [1, 3])
def test_the_solution_equals_ridge(n_targets, form):
    X, y = make_data()
    y, rows = y[:, :n_targets].astype(np.float32), np.arange(80)
    model = linear_model(X, y, n_targets, nn.MSELoss(reduction="none"), form=form)
    ours = model.outputs(rows, *model.solve(rows, ALPHA))
    # The loss is the mean over targets, and half of alpha stands before the penalty.
    peer = Ridge(ALPHA * n_targets / 2).fit(standardized(X), y)
    np.testing.assert_allclose(ours, peer.predict(standardized(X)).reshape(ours.shape), atol=1e-3)


def test_a_share_of_a_linear_model_mixes_the_outputs():
    network = MLP(5, 3, hidden_layer_sizes=(4,)).eval()
    nn.init.normal_(network.output.weight)
    X, W, b = torch.randn(7, 5), torch.randn(3, 5), torch.randn(3)
    with torch.no_grad():
        before = network(X)
        network.set_linear(W, b, 0.3)
        torch.testing.assert_close(network(X), 0.7 * before + 0.3 * (X @ W.T + b))


@given(st.integers(1, 60), st.booleans(), st.integers(0, 3))
def test_rows_held_out_are_others_than_those_trained_on(n, grouped, seed):
    groups = np.arange(n) // 2 if grouped else None
    folds = held_out(np.zeros((n, 1)), groups, seed)
    assert bool(folds) == ((n if groups is None else -(-n // 2)) >= 6)
    for train, held in folds:
        assert not set(train) & set(held)
        assert groups is None or not set(groups[train]) & set(groups[held])
    assert sorted(row for _, held in folds for row in held) == (list(range(n)) if folds else [])


@pytest.mark.parametrize(
    ("n", "n_folds", "n_held"), [(1499, 3, 500), (1500, 1, 500), (9000, 1, 1667)]
)
def test_many_rows_are_held_out_once(n, n_folds, n_held):
    folds = held_out(np.zeros((n, 1)), None, 0)
    assert len(folds) == n_folds and len(folds[0][1]) == n_held
    assert len(np.union1d(*folds[0])) == min(n, 5000)


def test_noise_gets_a_strong_penalty_and_a_clear_signal_a_weak_one():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 30)).astype(np.float32)
    W = rng.normal(size=(30, 1))
    chosen = []
    for noise in (0.01, 30.0):
        y = (X @ W + noise * rng.normal(size=(200, 1))).astype(np.float32)
        model = linear_model(X, (y - y.mean()) / y.std(), 1, nn.MSELoss(reduction="none"))
        chosen.append(choose_alpha(model, held_out(y, None, 0)))
    assert chosen[0] <= 1 and chosen[1] >= 100


def test_the_share_is_the_one_of_the_lowest_loss():
    rng = np.random.default_rng(0)
    y = rng.normal(size=(60, 1)).astype(np.float32)
    X = np.ones((60, 1), dtype=np.float32)
    model = LinearModel(X, y, None, (X[0], X[0]), nn.MSELoss(reduction="none"), 1)
    folds, true = held_out(y, None, 0), torch.from_numpy(y)
    for share in (0.0, 0.3, 1.0):
        # share * linear + (1 - share) * network is right
        noise = torch.from_numpy(rng.normal(size=(60, 1)).astype(np.float32))
        linear, network = true + (1 - share) * noise, true - share * noise
        pairs = [(linear[held], network[held]) for _, held in folds]
        assert choose_share(model, folds, pairs) == pytest.approx(share)


@pytest.mark.parametrize("Estimator", [NeuralClassifier, NeuralRegressor])
def test_the_whole_share_is_the_linear_model(Estimator):
    X, outputs = make_data()
    y = outputs[:, 0] > 0 if Estimator is NeuralClassifier else outputs[:, 0]
    params = {"hidden_layer_sizes": (4,), "max_epochs": 3, "linear_alpha": ALPHA}
    head = Estimator(**params, linear_share=1.0, random_state=0).fit(X, y)
    other = Estimator(**params, linear_share=1.0, random_state=1).fit(X, y)
    np.testing.assert_allclose(other._raw_outputs(X), head._raw_outputs(X), atol=1e-3)
    assert (head.linear_alpha_, head.linear_share_) == (ALPHA, 1.0)
    if Estimator is NeuralRegressor:
        peer = Ridge(ALPHA / 2 * y.var()).fit(standardized(X), y)
        assert np.corrcoef(head.predict(X), peer.predict(standardized(X)))[0, 1] > 0.999


def test_choices_are_made_on_rows_held_out_and_repeat():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 20)).astype(np.float32)
    y = X @ rng.normal(size=20) + 8 * rng.normal(size=150)  # mostly noise: a network learns it
    heads = [NeuralRegressor((32,), max_epochs=30, random_state=0).fit(X, y) for _ in range(2)]
    assert heads[0].linear_share_ >= 0.5 and heads[0].linear_alpha_ >= 10
    np.testing.assert_array_equal(heads[0].predict(X), heads[1].predict(X))


def test_few_groups_are_not_held_out():
    X, outputs = make_data()
    y, groups = outputs[:, 0], np.arange(80) % 4
    head = NeuralRegressor((4,), max_epochs=2, random_state=0).fit(X, y, groups=groups)
    assert (head.linear_alpha_, head.linear_share_) == (10.0, 0.0)


def test_rows_of_classes_without_a_row_in_training_are_not_held_out():
    for y, groups in (
        (np.repeat([0, 1, 2], [30, 29, 1]), None),
        (np.arange(60) % 4, np.arange(60) % 4 + 4 * (np.arange(60) % 8 // 4)),
    ):
        for train, held in held_out(y, groups, 0):
            assert set(y[held]) <= set(y[train])
    assert held_out(np.arange(20), None, 0) == []  # a row of each class
    assert held_out(np.repeat(np.arange(6), 10), np.repeat(np.arange(6), 10), 0) == []


def test_a_solution_reads_a_sample_of_many_rows(monkeypatch):
    monkeypatch.setattr("sklearn_mmfusion.neural_network.linear_path.MOST_CELLS", 5)
    rng = np.random.default_rng(0)
    y = np.sort(np.arange(3000) % 3)  # as tables often lie on disk
    X = (rng.normal(size=(3000, 4)) + y[:, None]).astype(np.float32)
    model = linear_model(X, y, 3, nn.CrossEntropyLoss(reduction="none"))
    seen = []
    products = model._products
    model._products = lambda rows: seen.append(len(rows)) or products(rows)
    solution = model.solve(np.arange(3000), 1.0)
    assert seen == [1000]
    assert (model.outputs(np.arange(3000), *solution).argmax(1).numpy() == y).mean() > 0.7


@pytest.mark.parametrize("k", [1, 300])
def test_many_outputs_are_solved_as_well_as_one(k):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 4)).astype(np.float32)
    y = (X[:, :1] + rng.normal(size=(100, 1)) > 0).astype(np.float32).repeat(k, axis=1)
    model = linear_model(X, y, k, nn.BCEWithLogitsLoss(reduction="none"))
    rows = np.arange(100)
    ours = model.outputs(rows, *model.solve(rows, 0.01 / k)).sigmoid()[:, 0]
    peer = LogisticRegression(C=100, tol=1e-8, max_iter=1000).fit(standardized(X), y[:, 0])
    np.testing.assert_allclose(ours, peer.predict_proba(standardized(X))[:, 1], atol=1e-3)


@pytest.mark.parametrize("refit", [False, True])
def test_without_a_refit_the_linear_model_has_not_seen_the_validation_rows(refit):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 39)).astype(np.float32), rng.normal(size=40)
    params = {"linear_alpha": 0.01, "linear_share": 1.0, "early_stopping": True, "max_epochs": 1}
    head = NeuralRegressor((4,), refit=refit, random_state=0, **params).fit(X, y)
    assert (head.score(X, y) > 0.9) == refit


def test_a_criterion_may_have_weights():
    X, outputs = make_data()
    weight = {"criterion__weight": torch.tensor([1.0, 5.0, 1.0])}
    head = NeuralClassifier((4,), max_epochs=1, net_params=weight, random_state=0)
    weighted = head.fit(X, outputs.argmax(1)).predict(X)
    plain = head.set_params(net_params=None).fit(X, outputs.argmax(1)).predict(X)
    assert (weighted == 1).sum() > (plain == 1).sum()


def test_choices_are_forgotten_where_there_are_none():
    X, outputs = make_data()
    y = outputs.argmax(1)
    head = NeuralClassifier((4,), max_epochs=1, warm_start=True, random_state=0).fit(X, y)
    assert hasattr(head, "linear_share_") and hasattr(head, "linear_alpha_")
    assert not hasattr(head.fit(X, y), "linear_share_")
