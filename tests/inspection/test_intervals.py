"""Intervals of scores and differences, against scipy, formulas by hand, and simulated data."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, recall_score

from sklearn_mmfusion.inspection import difference_interval, score_interval

RNG = np.random.default_rng(0)
Y = RNG.integers(0, 4, 60)
A, B = (np.where(RNG.random(60) < share, Y, RNG.integers(0, 4, 60)) for share in (0.8, 0.5))
GROUPS = np.repeat(np.arange(10), [2, 4, 10, 6, 8, 3, 7, 5, 9, 6])


@pytest.fixture(scope="module")
def bench():
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "bench_coverage.py"
    spec = importlib.util.spec_from_file_location("bench_coverage", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def jackknife(metric, n_units, left_out):
    """Estimate and standard error of a metric of kept rows, in plain loops."""
    values = [metric(np.setdiff1d(np.arange(60), rows)) for rows in left_out]
    squares = sum((value - sum(values) / n_units) ** 2 for value in values)
    return metric(np.arange(60)), math.sqrt((n_units - 1) / n_units * squares)


@pytest.mark.parametrize("level", [0.95, 0.8])
def test_score_interval_of_an_accuracy_is_wilsons(level):
    found = score_interval("accuracy", Y, A, confidence_level=level)
    n_right = int((Y == A).sum())
    exact = stats.binomtest(n_right, 60).proportion_ci(level, method="wilson")
    assert (found.low, found.high) == pytest.approx(tuple(exact))
    assert found.estimate == n_right / 60
    share = found.estimate * (1 - found.estimate)
    assert found.standard_error == pytest.approx(math.sqrt(share / 59))


def test_difference_interval_of_accuracies_is_agresti_and_mins():
    found = difference_interval("accuracy", Y, A, B)
    a, b = ((((Y == one) & (Y != other)).sum() + 0.5) / 62 for one, other in ((A, B), (B, A)))
    room = stats.norm.ppf(0.975) * math.sqrt((a + b - (a - b) ** 2) / 62)
    assert (found.low, found.high) == pytest.approx((a - b - room, a - b + room))
    assert found.estimate == pytest.approx((Y == A).mean() - (Y == B).mean())


def by_class(y, p, use_predicted):
    """Mean over classes of recall, or of F1."""
    scores = []
    for label in {*y, *p} if use_predicted else {*y}:
        hits = ((y == label) & (p == label)).sum()
        n_rows, n_predicted = (y == label).sum(), (p == label).sum()
        scores.append(2 * hits / (n_rows + n_predicted) if use_predicted else hits / n_rows)
    return np.mean(scores)


METRICS = {
    "accuracy": lambda y, p: np.mean(y == p),
    "balanced_accuracy": lambda y, p: by_class(y, p, False),
    "recall_macro": lambda y, p: by_class(y, p, False),
    "f1_macro": lambda y, p: by_class(y, p, True),
    "r2": lambda y, p: 1 - ((y - p) ** 2).sum() / ((y - y.mean()) ** 2).sum(),
    "mean_absolute_error": lambda y, p: np.abs(y - p).mean(),
}


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("grouped", [False, True])
def test_standard_error_is_the_jackknifes(name, grouped):
    units = [np.flatnonzero(GROUPS == g) for g in range(10)] if grouped else np.arange(60)[:, None]

    def of_rows(rows):
        return METRICS[name](Y[rows], A[rows])

    def of_both(rows):
        return METRICS[name](Y[rows], A[rows]) - METRICS[name](Y[rows], B[rows])

    given = {"groups": [f"group {g}" for g in GROUPS] if grouped else None}
    found = score_interval(name, Y, A, **given)
    expected = jackknife(of_rows, len(units), units)
    assert (found.estimate, found.standard_error) == pytest.approx(expected)
    found = difference_interval(name, Y, A, B, **given)
    assert (found.estimate, found.standard_error) == pytest.approx(
        jackknife(of_both, len(units), units)
    )
    assert found.low < found.estimate < found.high


def test_metrics_are_those_of_sklearn():
    y, predicted = np.r_[Y, 7, 7], np.r_[A, 1, 8]  # a class without hits, and one without rows
    kinds = {"average": "macro", "zero_division": np.nan}
    expected = {
        "accuracy": accuracy_score(y, predicted),
        "recall_macro": recall_score(y, predicted, **kinds),
        "f1_macro": f1_score(y, predicted, **kinds),
    }
    found = {name: score_interval(name, y, predicted).estimate for name in expected}
    assert found == pytest.approx(expected)


def test_callable_has_an_interval_of_student():
    found = score_interval(METRICS["mean_absolute_error"], Y, A, groups=GROUPS)
    room = stats.t.ppf(0.975, 9) * found.standard_error
    assert (found.low, found.high) == pytest.approx((found.estimate - room, found.estimate + room))


def test_labels_are_compared_as_given():
    names = np.array(["d", "b", "a", "c"])
    assert score_interval("f1_macro", names[Y], names[A]) == score_interval("f1_macro", Y, A)
    several = score_interval("accuracy", np.c_[Y, B], np.c_[A, B])
    assert several == pytest.approx(score_interval("accuracy", Y, A))


@pytest.mark.parametrize("name", ["accuracy", "f1_macro"])
@pytest.mark.parametrize("groups", [None, GROUPS])
def test_perfect_predictions_have_an_interval(name, groups):
    found = score_interval(name, Y, Y, groups=groups)
    n = 60 if groups is None else 10
    z = stats.norm.ppf(0.975)
    assert (found.low, found.high) == pytest.approx((n / (n + z * z), 1))
    same = difference_interval("accuracy", Y, A, A, groups=groups)
    assert same.low == -same.high < 0


@pytest.mark.parametrize("n_groups", [20, 30, 50])
@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy", "f1_macro"])
def test_equal_groups_count_as_one_row_each(name, n_groups):
    # one of ten rows is wrong in each group: without rounding, the standard error is 0
    y_true = np.tile([0, 1], 5 * n_groups)
    y_pred = np.where(np.arange(len(y_true)) % 10 == 0, 1 - y_true, y_true)
    groups = np.repeat(np.arange(n_groups), 10)
    interval = score_interval(name, y_true, y_pred, groups=groups)
    expected = stats.binomtest(9 * n_groups // 10, n_groups).proportion_ci(method="wilson")
    np.testing.assert_allclose([interval.low, interval.high], [*expected], atol=0.02)


@pytest.mark.parametrize("name", ["accuracy", "f1_macro", "r2"])
def test_limits_are_floats(name):
    for found in (score_interval(name, Y, A), difference_interval(name, Y, A, B)):
        assert {type(value) for value in found.values()} == {float}


def test_many_rows_are_left_out_in_blocks():
    y = RNG.standard_normal(3000)
    noise = RNG.standard_normal(3000)
    error = score_interval("mean_absolute_error", y, y + noise).standard_error
    assert error == pytest.approx(np.abs(noise).std() / math.sqrt(3000), rel=0.25)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": "auc"}, r"score_interval: metric='auc'; expected one of \['accuracy'"),
        ({"y_pred": A[:59]}, "'y_true': 60, 'y_pred': 59"),
        ({"groups": np.zeros(60)}, "1 group; expected two or more"),
        ({"groups": np.zeros(59)}, "groups"),
        ({"y_true": [1], "y_pred": [1]}, "1 row; expected two or more"),
        ({"confidence_level": 95}, "confidence_level=95; expected a number between 0 and 1"),
        ({"confidence_level": "high"}, "confidence_level='high'; expected a number between"),
        ({"y_pred": A[:, None]}, r"shapes \[\(60,\), \(60, 1\)\]; expected equal ones. Flatten"),
        (
            {"metric": "f1_macro", "y_pred": np.c_[A, B]},
            r"shapes \[\(60,\), \(60, 2\)\]; expected one label per row",
        ),
    ],
)
def test_score_interval_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        score_interval(**{"metric": "accuracy", "y_true": Y, "y_pred": A, **changes})


@pytest.mark.parametrize("n_groups", [None, 20])
def test_intervals_cover(bench, n_groups):
    """A small version of the benchmark: 95 % within four standard errors of 120 draws."""
    rng, covered, ratios = np.random.default_rng(0), [], []
    for _ in range(120):
        groups = np.arange(400) if n_groups is None else bench.draw_groups(rng, n_groups, 20)
        y, a, b = bench.draw_classes(rng, groups, 0.3 if n_groups else 0.0, (0.85, 0.8))
        given = {"groups": groups if n_groups else None}
        one = score_interval("accuracy", y, a, **given)
        both = difference_interval("accuracy", y, a, b, **given)
        covered.append((one.low <= 0.85 <= one.high, both.low <= 0.05 <= both.high))
        ratios.append((one.high - one.low) / bench.clopper_pearson((y == a).sum(), len(y)))
    assert np.all(np.abs(np.mean(covered, axis=0) - 0.95) < 0.08)
    assert (np.mean(ratios) < 1.02) == (n_groups is None)  # dependent rows know less


@pytest.mark.parametrize("predicted", [[0, 1, 1, 0], np.array([0.0, 1.0, 1.0, 0.0])])
def test_texts_are_not_compared_with_numbers(predicted):
    with pytest.raises(ValueError, match="score_interval: .* labels of different types, .*'str'"):
        score_interval("accuracy", ["0", "1", "1", "0"], predicted)
