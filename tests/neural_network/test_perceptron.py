"""NeuralClassifier and NeuralRegressor: outputs, invariances, problems with a known answer."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose
from scipy import sparse
from sklearn.datasets import make_classification, make_regression
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sklearn_mmfusion.neural_network import (
    JointFusionClassifier,
    NeuralClassifier,
    NeuralRegressor,
)

SHORT = {"hidden_layer_sizes": (16,), "max_epochs": 5, "random_state": 0, "linear_share": 0.0}
LONGER = SHORT | {"max_epochs": 40, "lr": 0.01}


def make_classes(n_classes=3, n=120, seed=0):
    return make_classification(n, 8, n_informative=5, n_classes=n_classes, random_state=seed)


# ------------------------------------------------------------------------------ classes


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("labels", ["numbers", "strings", "booleans"])
def test_probabilities_and_labels_agree(n_classes, labels):
    X, y = make_classes(n_classes)
    y = {"numbers": y * 10 - 5, "strings": np.array(["b", "a", "ç"])[y], "booleans": y > 0}[labels]
    model = NeuralClassifier(**LONGER).fit(X, y)
    proba = model.predict_proba(X)
    np.testing.assert_array_equal(model.classes_, np.unique(y))
    assert proba.shape == (120, len(model.classes_))
    assert proba.dtype == np.float64
    np.testing.assert_allclose(proba.sum(1), 1)
    assert (proba >= 0).all()
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), proba)
    np.testing.assert_array_equal(model.predict(X), model.classes_[proba.argmax(1)])
    assert model.predict(X).dtype == model.classes_.dtype
    assert model.score(X, y) > 0.65


def test_labels_are_named_in_any_way_and_nothing_changes():
    X, y = make_classes()
    numbers = NeuralClassifier(**SHORT).fit(X, y)
    strings = NeuralClassifier(**SHORT).fit(X, np.array(["ant", "bee", "cat"])[y])
    np.testing.assert_array_equal(numbers.predict_proba(X), strings.predict_proba(X))


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csr_array])
def test_multilabel(form):
    X, _ = make_classes()
    Y = (X[:, :3] + X[:, 3:6] > 0).astype(int)
    model = NeuralClassifier(**LONGER).fit(X, form(Y))
    proba = model.predict_proba(X)
    assert proba.shape == (120, 3)
    assert ((proba > 0) & (proba < 1)).all()
    np.testing.assert_array_equal(model.predict(X), proba > 0.5)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), proba)
    assert model.classes_.tolist() == [0, 1, 2]
    assert (model.predict(X) == Y).mean() > 0.85


@pytest.mark.slow
def test_a_problem_no_linear_model_solves():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 2))
    y = (X[:, 0] * X[:, 1] > 0).astype(int)
    model = NeuralClassifier(random_state=0).fit(X[:300], y[:300])
    assert LogisticRegression().fit(X[:300], y[:300]).score(X[300:], y[300:]) < 0.65
    assert model.score(X[300:], y[300:]) > 0.9


@pytest.mark.slow
def test_many_features_of_noise_hurt_no_more_than_a_regularized_logistic_model():
    X, y = make_classification(
        900, 150, n_informative=10, n_redundant=0, n_classes=3, class_sep=1.5, random_state=0
    )
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.01))
    theirs = linear.fit(X[:200], y[:200]).score(X[200:], y[200:])
    ours = NeuralClassifier(random_state=0).fit(X[:200], y[:200]).score(X[200:], y[200:])
    assert ours > theirs - 0.03


def test_numbers_are_no_classes():
    X, _ = make_classes()
    with pytest.raises(ValueError, match="Unknown label type.*NeuralRegressor"):
        NeuralClassifier(**SHORT).fit(X, X[:, 0])


@pytest.mark.parametrize(
    ("loss", "kind"), [("binary_cross_entropy", "classes"), ("cross_entropy", "labels")]
)
def test_a_loss_that_does_not_fit_the_target_is_refused(loss, kind):
    X, y = make_classes()
    y = np.eye(3, dtype=int)[y] if kind == "labels" else y
    with pytest.raises(ValueError, match=f"loss='{loss}'.*target is mult.*loss='auto'"):
        NeuralClassifier(loss=loss, **SHORT).fit(X, y)


# ------------------------------------------------------------------------------ numbers


@pytest.mark.parametrize("shape", [(150,), (150, 1), (150, 3)])
@pytest.mark.filterwarnings("ignore:A column-vector y was passed")
def test_regression_gives_the_shape_of_the_target(shape):
    X, y = make_regression(150, 5, n_targets=3, random_state=0)
    y = y[:, 0].reshape(shape) if len(shape) == 1 or shape[1] == 1 else y
    model = NeuralRegressor(**LONGER).fit(X, y)
    expected = shape if shape != (150, 1) else (150,)
    assert model.predict(X).shape == expected
    assert model.predict(X).dtype == np.float64
    assert model.score(X, y) > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("n_targets", [1, 3])
def test_a_linear_problem_is_recovered(n_targets):
    X, y = make_regression(500, 10, n_targets=n_targets, noise=1.0, random_state=0)
    model = NeuralRegressor(random_state=0).fit(X[:400], y[:400])
    assert model.score(X[400:], y[400:]) > 0.99


def test_huber_bears_outliers():
    X, clean = make_regression(300, 5, noise=1.0, random_state=0)
    y = clean.copy()
    wrong = np.random.default_rng(0).choice(200, 20, replace=False)
    y[wrong] += 20 * clean.std()
    scores = {
        loss: r2_score(
            clean[200:],
            NeuralRegressor(loss=loss, linear_share=0.0, random_state=0)
            .fit(X[:200], y[:200])
            .predict(X[200:]),
        )
        for loss in ("squared_error", "huber")
    }
    assert scores["huber"] > scores["squared_error"] + 0.1


def test_the_scale_of_the_target_does_not_matter():
    X, y = make_regression(100, 5, noise=1.0, random_state=0)
    plain = NeuralRegressor(**SHORT).fit(X, y)
    scaled = NeuralRegressor(**SHORT).fit(X, 1024 * y)  # a power of two: the same bits
    np.testing.assert_allclose(scaled.predict(X), 1024 * plain.predict(X), rtol=1e-6)
    moved = NeuralRegressor(**SHORT).fit(X, y + 1e4)
    np.testing.assert_allclose(moved.predict(X) - 1e4, plain.predict(X), atol=0.02 * y.std())


def test_a_constant_target_is_predicted():
    X, _ = make_regression(60, 3, random_state=0)
    Y = np.column_stack([np.full(60, 7.0), X[:, 0]])
    model = NeuralRegressor(**LONGER | {"max_epochs": 200, "dropout": 0.0}).fit(X, Y)
    np.testing.assert_allclose(model.predict(X)[:, 0], 7.0, atol=0.1)


def test_text_is_no_number():
    X, _ = make_classes()
    with pytest.raises(ValueError, match="could not convert string to float|dtype='numeric'"):
        NeuralRegressor(**SHORT).fit(X, np.array(["a", "b"] * 60))


# ------------------------------------------------------------------------------ features


@pytest.mark.parametrize("estimator", [NeuralClassifier, NeuralRegressor])
def test_the_scale_and_place_of_features_do_not_matter(estimator):
    X, y = make_classes()
    plain = estimator(**SHORT).fit(X, y)
    moved = 1000 * X + np.arange(8) * 100
    same = estimator(**SHORT).fit(moved, y)
    if estimator is NeuralClassifier:
        np.testing.assert_allclose(same.predict_proba(moved), plain.predict_proba(X), atol=0.01)
    else:
        np.testing.assert_allclose(same.predict(moved), plain.predict(X), atol=0.02)


@pytest.mark.parametrize("Estimator", [NeuralClassifier, NeuralRegressor])
def test_relative_scales_count_unless_features_are_standardized(Estimator):
    X, y = make_classes()
    first = X * np.where(np.arange(8) == 0, 64, 1)
    for standardize in (True, False):
        model = Estimator(**SHORT, linear_alpha=1.0, standardize=standardize)
        predicted = model.fit(X, y).predict(X)
        assert np.array_equal(model.fit(first, y).predict(first), predicted) == standardize
        np.testing.assert_array_equal(model.fit(4 * X, y).predict(4 * X), predicted)


def test_constant_features_are_harmless():
    X, y = make_classes()
    wide = np.column_stack([X, np.full(len(X), 3.7e5), np.zeros(len(X))])
    model = NeuralClassifier(**LONGER).fit(wide, y)
    assert np.isfinite(model.predict_proba(wide)).all()
    assert model.score(wide, y) > 0.5
    assert model.scale_[-2:].tolist() == [1, 1]


def far_from_zero(X, column, unit):
    """X with one column moved to about 1.7e9 units, exact in float64 but not in float32."""
    far = X.round(3)
    near = far.copy()
    far[:, column] = (1.7e9 + far[:, column] * 1000) * unit
    return near, far


@pytest.mark.parametrize("unit", [1.0, 1e-60, 1e60])
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, pd.DataFrame, np.ndarray.tolist])
def test_features_far_from_zero_are_standardized_before_float32(form, unit):
    X, y = make_classes(2)
    column = int(np.argmax([abs(np.corrcoef(x, y)[0, 1]) for x in X.T]))
    near, far = far_from_zero(X, column, unit)
    model = NeuralClassifier(**SHORT).fit(form(far), y)
    expected = NeuralClassifier(**SHORT).fit(near, y).predict_proba(near)
    np.testing.assert_allclose(model.predict_proba(form(far)), expected, atol=1e-3)
    np.testing.assert_allclose(model.predict_proba_one(far[3]), expected[3], atol=1e-3)
    np.testing.assert_allclose(model.mean_, far.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.scale_, far.std(0), rtol=1e-4)


def test_tables_of_a_joint_network_are_standardized_before_float32():
    X, y = make_classes(2)
    near, far = far_from_zero(X, 2, 1.0)
    triples = [("a", "passthrough", [0, 1, 2]), ("b", StandardScaler(), [3, 4, 5, 6, 7])]
    joint = JointFusionClassifier(triples, max_epochs=2, early_stopping=False, random_state=0)
    expected = joint.fit(near, y).predict_proba(near)
    np.testing.assert_allclose(joint.fit(far, y).predict_proba(far), expected, atol=1e-3)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_numbers_beyond_float32_are_refused(form):
    X, y = make_classes(2)
    model = NeuralClassifier(**SHORT).fit(X, y)
    beyond = X.copy()
    beyond[5, 3] = 1e39
    match = r"X has 1e\+39 in row 5, feature 3, beyond the range of float32"
    with pytest.raises(ValueError, match=match):
        model.predict(form(beyond))
    with pytest.raises(ValueError, match="X has 1e"):
        model.predict_one(beyond[5])
    with pytest.raises(ValueError, match=r"feature 3 of X has numbers as large as .*e\+30"):
        NeuralClassifier(**SHORT).fit(form(X * np.r_[1, 1, 1, 1e300, 1, 1, 1, 1]), y)


def test_mean_and_scale_are_those_of_the_training_rows():
    X, y = make_classes()
    model = NeuralClassifier(**SHORT).fit(X, y)
    np.testing.assert_allclose(model.mean_, X.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.scale_, X.std(0), rtol=1e-5)
    assert model.n_features_in_ == 8
    assert model.n_iter_ == len(model.history_) == 5


def test_wrong_widths_are_refused():
    X, y = make_classes()
    model = NeuralClassifier(**SHORT).fit(X, y)
    with pytest.raises(ValueError, match="X has 7 features, but NeuralClassifier is expecting 8"):
        model.predict(X[:, 1:])


# ------------------------------------------------------------------------------ robustness


def test_neural_classifier_takes_sparse_features():
    X, y = make_classification(120, 12, random_state=0)
    X[X < 0.3] = 0
    dense = NeuralClassifier((8,), max_epochs=3, random_state=0).fit(X, y)
    thin = NeuralClassifier((8,), max_epochs=3, random_state=0).fit(sparse.csr_matrix(X), y)
    assert_allclose(
        thin.predict_proba(sparse.csr_matrix(X)), dense.predict_proba(X), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("factor", [1e-7, 1e6])
def test_neural_classifier_does_not_depend_on_units(factor):
    X, y = make_classification(150, 10, random_state=0)
    plain = NeuralClassifier((8,), max_epochs=3, random_state=0).fit(X, y)
    scaled = NeuralClassifier((8,), max_epochs=3, random_state=0).fit(X * factor, y)
    assert np.mean(plain.predict(X) == scaled.predict(X * factor)) > 0.97


def test_pickle_survives_changed_parameters():
    X, y = make_classification(60, 10, random_state=0)
    model = NeuralClassifier((16,), max_epochs=1, random_state=0).fit(X, y)
    model.set_params(hidden_layer_sizes=(8,))
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.predict_proba(X), model.predict_proba(X))


def test_warm_start_refuses_other_classes():
    X, y = make_classification(60, 10, random_state=0)
    model = NeuralClassifier((4,), max_epochs=1, warm_start=True, random_state=0).fit(X, y)
    with pytest.raises(ValueError, match=r"warm_start=True, but y has classes \['a' 'b'\]"):
        model.fit(X, np.where(y, "b", "a"))


# ------------------------------------------------------------------------------ evidence


def test_evidential_classifier_knows_what_it_has_not_seen():
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    X = rng.normal(size=(200, 2)) + 4.0 * y[:, None]
    classifier = NeuralClassifier((8,), loss="evidential", random_state=0, max_epochs=20).fit(X, y)
    evidence = classifier.predict_evidence(X)
    alpha = evidence + 1
    np.testing.assert_allclose(
        classifier.predict_proba(X), alpha / alpha.sum(1, keepdims=True), rtol=1e-12
    )
    assert evidence.min() >= 0 and classifier.score(X, y) > 0.97
    between = classifier.predict_evidence(np.full((1, 2), 2.0)).sum()
    assert between < np.quantile(evidence.sum(1), 0.1)


def test_evidence_needs_the_evidential_loss():
    X, y = np.eye(6), np.arange(6) % 2
    classifier = NeuralClassifier((4,), max_epochs=1).fit(X, y)
    with pytest.raises(AttributeError, match="no attribute 'predict_evidence'") as caught:
        classifier.predict_evidence(X)
    assert "has loss='cross_entropy'; evidence needs loss='evid" in str(caught.value.__cause__)
    with pytest.raises(ValueError, match="loss='evidential' does not fit: the target is multilab"):
        NeuralClassifier((4,), loss="evidential").fit(X, np.eye(6, 2, dtype=int)[[0, 1] * 3])


# ------------------------------------------------------------------------------ one row


@pytest.mark.parametrize("multilabel", [False, True])
def test_one_row_is_told_as_in_a_table(multilabel):
    X, y = make_classes()
    y = np.eye(3, dtype=int)[y] if multilabel else np.array(["a", "b", "c"])[y]
    model = NeuralClassifier(**SHORT).fit(X, y)
    proba, labels = model.predict_proba(X), model.predict(X)
    for row in (0, 5):
        for given in (X[row], X[row].tolist(), X[row].astype(np.float32)):
            assert_allclose(model.predict_proba_one(given), proba[row], rtol=1e-5, atol=1e-7)
            np.testing.assert_array_equal(model.predict_one(given), labels[row])


@pytest.mark.parametrize("n_targets", [1, 2])
def test_one_number_is_told_as_in_a_table(n_targets):
    X, y = make_regression(60, 5, n_targets=n_targets, random_state=0)
    model = NeuralRegressor(**SHORT).fit(X, y)
    told = model.predict_one(X[3])
    assert np.shape(told) == np.shape(y[3])
    assert_allclose(told, model.predict(X)[3], rtol=1e-5)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([[1.0] * 8], r"the row has shape \(1, 8\); expected \(8,\)"),
        ([1.0] * 7, r"the row has shape \(7,\); expected \(8,\)"),
        ([1.0] * 3 + [np.nan] + [1.0] * 4, "feature 3 of the row is nan"),
    ],
)
def test_one_row_of_another_kind_is_refused(row, message):
    model = NeuralClassifier(**SHORT).fit(*make_classes())
    with pytest.raises(ValueError, match=message):
        model.predict_one(row)


@pytest.mark.parametrize("row", [{"a": 1.0}, "abcdefgh"])
def test_one_row_that_is_no_array_is_refused(row):
    model = NeuralClassifier(**SHORT).fit(*make_classes())
    with pytest.raises((TypeError, ValueError), match=r"the row is a .* not an array of 8 numbers"):
        model.predict_one(row)


def test_one_row_of_complex_numbers_is_refused():
    X, y = make_classes()
    model = NeuralClassifier(**SHORT).fit(X, y)
    for row in (X[0] + 5j, list(X[0] + 5j)):
        with pytest.raises(TypeError, match="Classifier: the row: Complex data not supported; got"):
            model.predict_proba_one(row)


@pytest.mark.parametrize("form", ["bfloat16", "requires_grad"])
def test_one_row_may_be_a_tensor(form):
    X, y = make_classes()
    model = NeuralClassifier(**SHORT).fit(X, y)
    X = torch.tensor(X, dtype=torch.bfloat16 if form == "bfloat16" else torch.float32)
    X.requires_grad_(form == "requires_grad")
    assert_allclose(model.predict_proba_one(X[0]), model.predict_proba(X[:1])[0], rtol=1e-5)


def test_one_row_needs_a_fitted_network():
    with pytest.raises(NotFittedError):
        NeuralClassifier().predict_one([1.0])


def test_the_names_of_one_row_count():
    X, y = make_classes()
    X = pd.DataFrame(X, columns=list("abcdefgh"))
    model = NeuralClassifier(**SHORT).fit(X, y)
    row = X.iloc[4]
    assert_allclose(model.predict_proba_one(row), model.predict_proba(X)[4], rtol=1e-5, atol=1e-7)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict_one(row[::-1])


class Scaled(nn.Module):
    """A linear layer on features that it standardizes with the tensors it is given."""

    def __init__(self, in_features, n_outputs):
        super().__init__()
        self.linear = nn.Linear(in_features, n_outputs)

    def set_scale(self, mean, std):
        self.mean, self.std = mean, std

    def forward(self, features):
        return self.linear((features - self.mean) / self.std)


def test_a_custom_network_gets_its_scale_in_float32():
    X = np.random.default_rng(0).normal(5, 2, (60, 3))
    X[:, 2] += 1.7e9  # standardized before it becomes float32
    model = NeuralRegressor(module=Scaled, max_epochs=2, random_state=0).fit(X, X[:, 0])
    network = model.module_
    assert network.mean.dtype == network.std.dtype == torch.float32
    mean, std = X.mean(0), X.std(0)
    mean[2], std[2] = 0, 1
    np.testing.assert_allclose(network.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(network.std, std, rtol=1e-6)
    assert np.isfinite(model.predict(X)).all()
