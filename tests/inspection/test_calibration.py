"""The squared calibration error, on simulated classifiers whose true probabilities are known."""

from itertools import permutations

import numpy as np
import pytest

from sklearn_mmfusion.inspection import squared_calibration_error

LABELS = ["a", "b", "c"]


def draw(rng, n_rows, power=1.0):
    """Draw labels from known probabilities; return them, distorted and true probabilities."""
    true = rng.dirichlet([0.4, 0.4, 0.4], size=n_rows)
    y = (rng.random((n_rows, 1)) > true.cumsum(axis=1)[:, :2]).sum(axis=1)
    predicted = true**power
    return y, predicted / predicted.sum(axis=1, keepdims=True), true


def plain_error(y, proba, n_bins=15):
    """The squared error with nothing subtracted."""
    order = np.argsort(proba.max(axis=1), kind="stable")
    bins = np.array_split((proba.max(axis=1) - (proba.argmax(axis=1) == y))[order], n_bins)
    return sum(len(r) * r.mean() ** 2 for r in bins) / len(y)


def test_calibrated_classifier_has_error_zero_on_average():
    rng = np.random.default_rng(0)
    draws = [draw(rng, 1000)[:2] for _ in range(500)]
    errors = np.array([squared_calibration_error(*each) for each in draws])
    standard_error = errors.std(ddof=1) / np.sqrt(len(errors))
    assert standard_error < 5e-5
    assert abs(errors.mean()) < 3 * standard_error
    assert np.mean([plain_error(*each) for each in draws]) > 1e-3  # what is subtracted matters


@pytest.mark.parametrize("power", [0.5, 3.0], ids=["underconfident", "overconfident"])
def test_known_miscalibration_is_recovered(power):
    rng = np.random.default_rng(1)
    draws = [draw(rng, 1000, power) for _ in range(200)]
    errors = np.array([squared_calibration_error(*each[:2]) for each in draws])
    standard_error = errors.std(ddof=1) / np.sqrt(len(errors))
    truth = []  # the same bins, with true probabilities instead of hits
    for _, proba, true in draws:
        order = np.argsort(proba.max(axis=1), kind="stable")
        own = true[np.arange(len(true)), proba.argmax(axis=1)]
        bins = np.array_split((proba.max(axis=1) - own)[order], 15)
        truth.append(sum(len(r) * r.mean() ** 2 for r in bins) / len(own))
    assert np.mean(truth) > 20 * standard_error
    assert errors.mean() == pytest.approx(np.mean(truth), abs=3 * standard_error)


def test_error_is_the_mean_over_pairs_of_rows():
    rng = np.random.default_rng(2)
    y, proba, _ = draw(rng, 23, 2.0)
    expected, rows = 0.0, sorted(range(23), key=lambda i: proba[i].max())
    for bin_rows in (rows[:8], rows[8:16], rows[16:]):  # 8, 8, 7
        residual = [proba[i].max() - (proba[i].argmax() == y[i]) for i in bin_rows]
        products = [a * b for a, b in permutations(residual, 2)]
        expected += len(bin_rows) * sum(products) / len(products) / 23
    found = squared_calibration_error(np.take(LABELS, y), proba, labels=LABELS, n_bins=3)
    assert found == pytest.approx(expected, rel=1e-12)


def test_error_equals_kumar_if_each_bin_has_one_probability():
    proba = np.array([[0.6, 0.4]] * 10 + [[0.9, 0.1]] * 10)
    y = np.array([0] * 8 + [1] * 2 + [0] * 7 + [1] * 3)
    low = (0.6 - 0.8) ** 2 - 0.8 * 0.2 / 9  # arXiv:1909.10155, definition 5.2
    high = (0.9 - 0.7) ** 2 - 0.7 * 0.3 / 9
    assert squared_calibration_error(y, proba, n_bins=2) == pytest.approx((low + high) / 2)


def test_labels_must_match_the_columns():
    proba = np.full((30, 3), 1 / 3)
    message = "y_proba has 3 columns, but there are 2 labels. Pass labels="
    with pytest.raises(ValueError, match=message):
        squared_calibration_error(np.arange(30) % 2, proba)
    squared_calibration_error(np.arange(30) % 2, proba, labels=[0, 1, 2])


@pytest.mark.parametrize("n_bins", [0, 16])
def test_a_bin_needs_two_rows(n_bins):
    with pytest.raises(ValueError, match=f"n_bins={n_bins} with 30 rows; expected at least one"):
        squared_calibration_error(np.arange(30) % 2, np.full((30, 2), 0.5), n_bins=n_bins)
