"""Calibration, on simulated classifiers with known probabilities, and of modalities."""

from itertools import permutations

import joblib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss

from sklearn_mmfusion import LateFusionClassifier
from sklearn_mmfusion.inspection import (
    calibration,
    calibration_from_predictions,
    squared_calibration_error,
)
from tests._fusion_data import hide
from tests._late_data import iris, members

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


def expected_error(y, proba, n_bins=15):
    """The expected calibration error, one bin and row after another."""
    order = sorted(range(len(y)), key=lambda i: proba[i].max())
    total, start = 0.0, 0
    for b in range(n_bins):
        size = len(y) // n_bins + (b < len(y) % n_bins)
        rows, start = order[start : start + size], start + size
        confidence = sum(proba[i].max() for i in rows)
        hits = sum(proba[i].argmax() == y[i] for i in rows)
        total += abs(confidence - hits)
    return total / len(y)


def test_calibrated_classifier_has_error_zero_on_average():
    rng, bar = np.random.default_rng(0), 3e-4
    draws = [draw(rng, 1000)[:2] for _ in range(500)]
    errors = np.array([squared_calibration_error(*each) for each in draws])
    standard_error = errors.std(ddof=1) / np.sqrt(len(errors))
    assert standard_error < 5e-5
    assert abs(errors.mean()) < min(bar, 3 * standard_error)
    assert np.mean([plain_error(*each) for each in draws]) > 3 * bar  # the plain one fails
    assert np.mean([expected_error(*each) for each in draws[:5]]) > 50 * bar


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
    with pytest.raises(
        ValueError, match=r"labels \[0, 1\], of which .* expected \['0', '1', '2'\]"
    ):
        squared_calibration_error(np.arange(30) % 2, proba, labels=["0", "1", "2"])


@pytest.mark.parametrize("wrong", [-0.5, 1.5])
def test_scores_are_no_probabilities(wrong):
    proba = np.full((30, 2), 0.5)
    proba[3, 1] = wrong
    for measure in (squared_calibration_error, calibration_from_predictions):
        with pytest.raises(ValueError, match=f"{wrong}.*; expected probabilities from 0 to 1"):
            measure(np.arange(30) % 2, proba)


@pytest.mark.parametrize(
    ("n_bins", "message"),
    [
        (0, "n_bins=0; expected an integer of at least 1"),
        (2.5, "n_bins=2.5; expected an integer"),
        ("ten", "n_bins='ten'; expected an integer"),
        (16, "n_bins=16 with 30 rows; expected at least two rows per bin"),
    ],
)
def test_a_bin_needs_two_rows(n_bins, message):
    with pytest.raises(ValueError, match=message):
        squared_calibration_error(np.arange(30) % 2, np.full((30, 2), 0.5), n_bins=n_bins)


@pytest.mark.parametrize(("n_rows", "n_bins"), [(4, 2), (59, 2), (60, 3), (299, 14), (900, 15)])
def test_the_number_of_bins_follows_that_of_rows(n_rows, n_bins):
    y, proba, _ = draw(np.random.default_rng(3), n_rows)
    result = calibration_from_predictions(y, proba, labels=[0, 1, 2])
    assert result.bins["fused"]["n_rows"].tolist() == [
        len(part) for part in np.array_split(np.arange(n_rows), n_bins)
    ]


# ------------------------------------------------------------------------------ table and bins


@given(n_rows=st.integers(10, 60), n_classes=st.integers(2, 4), seed=st.integers(0, 99))
def test_measures_equal_those_of_scikit_learn_and_of_loops(n_rows, n_classes, seed):
    rng = np.random.default_rng(seed)
    proba = rng.dirichlet(np.full(n_classes, 0.4), size=n_rows)
    y = rng.integers(0, n_classes, n_rows)
    labels = np.array(list("wxyz"))[:n_classes]
    result = calibration_from_predictions(labels[y], proba, labels=labels, n_bins=4)
    row = result.table.loc["fused"]
    codes = range(n_classes)
    assert row["log_loss"] == pytest.approx(log_loss(y, proba, labels=codes))
    options = {"labels": codes} if n_classes > 2 else {}
    own = proba if n_classes > 2 else proba[:, 1]
    assert row["brier"] == pytest.approx(brier_score_loss(y, own, **options))
    assert row["expected_calibration_error"] == pytest.approx(expected_error(y, proba, 4))
    squared = squared_calibration_error(y, proba, labels=codes, n_bins=4)
    assert row["squared_calibration_error"] == squared
    assert row["n_rows"] == result.bins["fused"]["n_rows"].sum() == n_rows


def test_bins_hold_confidence_accuracy_and_wilson_intervals():
    y, proba, _ = draw(np.random.default_rng(5), 47)
    bins = calibration_from_predictions(y, proba, n_bins=5).bins["fused"]
    assert bins["n_rows"].tolist() == [10, 10, 9, 9, 9]
    rows, start = sorted(range(47), key=lambda i: proba[i].max()), 0
    for each in bins.itertuples():
        own, start = rows[start : start + each.n_rows], start + each.n_rows
        hits = sum(int(proba[i].argmax() == y[i]) for i in own)
        interval = binomtest(hits, len(own)).proportion_ci(0.95, method="wilson")
        assert each.accuracy == pytest.approx(hits / len(own))
        assert each.confidence == pytest.approx(np.mean([proba[i].max() for i in own]))
        assert (each.low, each.high) == pytest.approx((interval.low, interval.high))


def test_several_predictions_and_absent_rows():
    y, proba, _ = draw(np.random.default_rng(6), 80)
    absent = proba.copy()
    absent[::4] = np.nan
    result = calibration_from_predictions(y, {"all": proba, "some": absent}, n_bins=5)
    assert result.names == ["all", "some"] == result.table.index.tolist()
    kept = np.arange(80) % 4 > 0
    alone = calibration_from_predictions(y[kept], proba[kept], n_bins=5)
    pd.testing.assert_frame_equal(result.bins["some"], alone.bins["fused"])
    assert result.table.loc["some"].tolist() == alone.table.loc["fused"].tolist()
    assert result.table["n_rows"].tolist() == [80, 60]


def test_unknown_labels_and_small_modalities_are_refused():
    y, proba, _ = draw(np.random.default_rng(7), 40)
    with pytest.raises(ValueError, match=r"labels \[2\], of which there .* expected \[0, 1\]"):
        calibration_from_predictions(np.r_[2, y[1:] % 2], proba[:, :2], labels=[0, 1])
    few = np.where(np.arange(40)[:, None] < 20, proba, np.nan)
    with pytest.raises(
        ValueError, match="n_bins=15 with 20 rows.*or leave this modality"
    ) as caught:
        calibration_from_predictions(y, {"all": proba, "few": few}, n_bins=15)
    assert caught.value.__notes__ == ["Raised for the probabilities of 'few'."]


# ------------------------------------------------------------------------------ by modality


def test_each_modality_is_measured_alone_on_its_rows():
    X, y = iris()
    mask = np.arange(150) % 3 == 0
    X = hide(X, sepal=mask)
    model = LateFusionClassifier(members()).fit(X[:60], y[:60])
    X, y, kept = X[60:], y[60:], ~mask[60:]
    before = X.copy(deep=True)
    result = calibration(model, X, y, n_bins=5)
    assert result.names == ["fused", "sepal", "petal"]
    sepal, petal = (  # with one modality, the product is the member itself
        member.predict_proba(np.stack(cells))
        for member, cells in zip(model.estimators_, (X["sepal"][kept], X["petal"]), strict=True)
    )
    for name, proba, rows in (
        ("fused", model.predict_proba(X), slice(None)),
        ("sepal", sepal, kept),
        ("petal", petal, slice(None)),
    ):
        expected = calibration_from_predictions(y[rows], proba, labels=model.classes_, n_bins=5)
        np.testing.assert_allclose(
            result.table.loc[name].to_numpy(), expected.table.loc["fused"].to_numpy(), atol=1e-12
        )
    pd.testing.assert_frame_equal(X, before)
    with joblib.parallel_config("threading"):
        again = calibration(model, X, y, n_bins=5, n_jobs=2)
    pd.testing.assert_frame_equal(again.table, result.table)


def test_modalities_of_other_classifiers(capsys):
    y, proba, _ = draw(np.random.default_rng(8), 60)
    X = pd.DataFrame(np.log(proba), columns=list("abc"))
    model = LogisticRegression().fit(X, y)
    result = calibration(model, X, y, modalities={}, n_bins=5, verbose=1)
    assert result.names == ["fused"]
    assert capsys.readouterr().out == "[calibration] (1 of 1) fused: 60 rows predicted\n"
    with pytest.raises(ValueError, match="contains NaN") as caught:
        calibration(model, X, y, modalities={"ab": ["a", "b"], "c": "c"})
    assert any("'ab' with all other modalities missing" in n for n in caught.value.__notes__)
    with pytest.raises(ValueError, match="calibration: modality 'ab': column 'd' is not in X"):
        calibration(model, X, y, modalities={"ab": ["a", "d"]})
    with pytest.raises(ValueError, match="a modality is called 'fused'"):
        calibration(model, X, y, modalities={"fused": "a"})


def test_only_classes_have_calibration():
    X, y = np.arange(20.0).reshape(10, 2), np.arange(10) % 2
    with pytest.raises(TypeError, match="LinearRegression has no .* with probabilities.$"):
        calibration(LinearRegression().fit(X, y), X, y)
    with pytest.raises(ValueError, match="y is continuous; expected one class per row"):
        calibration(LogisticRegression().fit(X, y), X, y + 0.5)
