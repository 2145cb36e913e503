"""Confidence intervals of metrics of out-of-fold predictions, and of their paired differences."""

import math
import warnings
from numbers import Real

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    mean_absolute_error,
    r2_score,
)
from sklearn.utils import Bunch

from sklearn_mmfusion._validation import as_numpy, check_groups

MAX_EVALUATIONS = 200  # of a metric, unless there are more groups
N_BLOCKS = 100  # blocks of rows, where single rows would need more evaluations
ROUNDING = 1e-12  # standard errors of shares below it are 0: no unit differs


# The jackknife evaluates a metric hundreds of times. The metrics of scikit-learn would take a
# millisecond each, most of it for checks.


def is_right(y_true, y_pred):
    """Whether each row is predicted right, in all of its outputs."""
    right = y_true == y_pred
    return right if right.ndim == 1 else right.all(axis=1)


def accuracy(y_true, y_pred):
    """Share of right rows."""
    return is_right(y_true, y_pred).mean()


def macro_recall(y_true, y_pred):
    """Mean recall of the classes that have rows, given as codes."""
    n_rows = np.bincount(y_true)
    hits = np.bincount(y_true[y_true == y_pred], minlength=len(n_rows))
    return (hits[n_rows > 0] / n_rows[n_rows > 0]).mean()


def macro_f1(y_true, y_pred):
    """Mean F1 of the classes that have rows or are predicted, given as codes."""
    n_classes = 1 + max(y_true.max(), y_pred.max())
    n_rows = np.bincount(y_true, minlength=n_classes) + np.bincount(y_pred, minlength=n_classes)
    hits = np.bincount(y_true[y_true == y_pred], minlength=n_classes)
    return (2 * hits[n_rows > 0] / n_rows[n_rows > 0]).mean()


# Metrics of classes, in [0, 1], 1 the best: `wilson` applies.
SHARES = {
    "accuracy": accuracy,
    "balanced_accuracy": macro_recall,
    "recall_macro": macro_recall,
    "f1_macro": macro_f1,
}
METRICS = {**SHARES, "r2": r2_score, "mean_absolute_error": mean_absolute_error}
SAME = {accuracy_score: "accuracy", balanced_accuracy_score: "balanced_accuracy"}
SAME |= {r2_score: "r2", mean_absolute_error: "mean_absolute_error"}


def score_interval(metric, y_true, y_pred, *, groups=None, confidence_level=0.95):
    """Compute a confidence interval of a metric of out-of-fold predictions.

    Without `groups`, rows are taken as independent. With `groups`, rows of one group (speaker,
    patient) may depend on each other, and only the groups are taken as independent.

    Parameters
    ----------
    metric : str or callable
        "accuracy", "balanced_accuracy", "recall_macro", "f1_macro", "r2", "mean_absolute_error", or
        a function of ``(y_true, y_pred)`` that returns a number.
    y_true : array-like of shape (n_samples,) or (n_samples, n_outputs)
        True values.
    y_pred : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Predictions, e.g. those of :func:`~sklearn.model_selection.cross_val_predict`, or any other
        input of the metric.
    groups : array-like of shape (n_samples,), default=None
        Group of each row.
    confidence_level : float, default=0.95
        Share of data sets for which the interval contains the true value.

    Returns
    -------
    interval : Bunch
        With the attributes:

        estimate : float
            The metric over all rows.
        low, high : float
            Limits of the interval.
        standard_error : float
            Jackknife estimate.

    Raises
    ------
    ValueError
        If the metric is unknown, lengths differ, or there are fewer than two groups or rows.

    See Also
    --------
    difference_interval : The same for the difference of two models.
    compare : Cross-validates and compares several estimators.

    Notes
    -----
    The standard error comes from the jackknife [1]_, which leaves out one group at a time. Without
    groups, it leaves out one row, or one of 100 random blocks if rows would take more than 200
    evaluations.

    Accuracies and the other shares get Wilson's interval [2]_ for a sample of effective size
    :math:`n' = \\hat p (1 - \\hat p) / s^2 \\cdot (z / t)^2`, with the standard error :math:`s` and
    the quantiles of the normal distribution and of Student's t for the number of groups, as for
    proportions in surveys [3]_. The effective size of an accuracy is at most the number of rows,
    and equal to it without groups. If all groups are alike (e.g. all rows are right), it is the
    number of groups. Other metrics get a symmetric interval with the quantile of t.

    In simulations (``benchmarks/bench_coverage.py``), 95 % intervals covered the true value in 93
    to 98 % of draws with 20 or more groups. Coverage is lower (about 91 %) if groups are large,
    their rows depend strongly on each other and few rows are wrong. Then a handful of groups has
    most of the wrong rows, and the others do not show how bad new groups may be.

    The interval is valid for new rows or groups and the models that made these predictions. It does
    not include that other training rows would give other models; :func:`compare` does.

    References
    ----------
    .. [1] Efron, Stein (1981). "The jackknife estimate of variance." Annals of Statistics 9(3).
       doi:10.1214/aos/1176345462
    .. [2] Wilson (1927). "Probable inference, the law of succession, and statistical inference."
       JASA 22(158), doi:10.1080/01621459.1927.10502953
    .. [3] Korn, Graubard (1998). "Confidence intervals for proportions with small expected number
       of positive counts estimated from survey data." Survey Methodology 24(2).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mmfusion.inspection import score_interval
    >>> y_true, y_pred = np.zeros(50), np.repeat([0, 1], [48, 2])
    >>> interval = score_interval("accuracy", y_true, y_pred)
    >>> print(f"{interval.estimate:.2f} in [{interval.low:.2f}, {interval.high:.2f}]")
    0.96 in [0.87, 0.99]
    """
    metric, name = check_metric(metric, "score_interval")
    columns = {"y_true": y_true, "y_pred": y_pred}
    units = Units(columns, name, groups, confidence_level, "score_interval")
    y_true, y_pred = units.columns
    estimate = metric(y_true, y_pred)
    error = units.standard_error(metric)
    if name in SHARES:
        size = units.effective_size(estimate * (1 - estimate), error)
        low, high = wilson(estimate, size, units.z)
    else:
        low, high = estimate - units.t * error, estimate + units.t * error
    return Bunch(estimate=float(estimate), low=float(low), high=float(high), standard_error=error)


def difference_interval(metric, y_true, y_pred_a, y_pred_b, *, groups=None, confidence_level=0.95):
    """Compute a confidence interval of the difference of a metric of two models.

    Both models predict the same rows, so the difference is often known better than the metric of
    either model.

    Parameters
    ----------
    metric : str or callable
        See :func:`score_interval`.
    y_true : array-like of shape (n_samples,) or (n_samples, n_outputs)
        True values.
    y_pred_a, y_pred_b : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Out-of-fold predictions of both models, in the same order of rows.
    groups : array-like of shape (n_samples,), default=None
        Group of each row. Rows of one group may depend on each other.
    confidence_level : float, default=0.95
        Share of data sets for which the interval contains the true difference.

    Returns
    -------
    interval : Bunch
        With the attributes:

        estimate : float
            The metric of `y_pred_a` minus that of `y_pred_b`.
        low, high : float
            Limits of the interval.
        standard_error : float
            Jackknife estimate.

    Raises
    ------
    ValueError
        If the metric is unknown, lengths differ, or there are fewer than two groups or rows.

    See Also
    --------
    score_interval : The interval of one model, and how groups are treated.

    Notes
    -----
    Accuracies get the interval of Agresti and Min for matched proportions [1]_, which adds half a
    row to each cell of the table of right and wrong predictions. With groups, it uses an effective
    number of rows, as in :func:`score_interval`. Other metrics get a symmetric interval with the
    standard error of the jackknife and the quantile of Student's t.

    References
    ----------
    .. [1] Agresti, Min (2005). "Simple improved confidence intervals for comparing matched
       proportions." Statistics in Medicine 24(5). doi:10.1002/sim.1781

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mmfusion.inspection import difference_interval
    >>> y_true = np.zeros(50)
    >>> y_pred_a, y_pred_b = np.repeat([0, 1], [48, 2]), np.repeat([0, 1], [40, 10])
    >>> interval = difference_interval("accuracy", y_true, y_pred_a, y_pred_b)
    >>> print(f"{interval.estimate:.2f} in [{interval.low:.2f}, {interval.high:.2f}]")
    0.16 in [0.05, 0.26]
    """
    metric, name = check_metric(metric, "difference_interval")
    columns = {"y_true": y_true, "y_pred_a": y_pred_a, "y_pred_b": y_pred_b}
    units = Units(columns, name, groups, confidence_level, "difference_interval")

    def difference(y_true, y_pred_a, y_pred_b):
        return metric(y_true, y_pred_a) - metric(y_true, y_pred_b)

    estimate, error = difference(*units.columns), units.standard_error(difference)
    if name == "accuracy":
        shares = only_right(*units.columns)
        variance = sum(shares) - estimate**2
        size = units.effective_size(variance, error)
        low, high = matched(*shares, size, units.z)
    else:
        low, high = estimate - units.t * error, estimate + units.t * error
    return Bunch(estimate=float(estimate), low=float(low), high=float(high), standard_error=error)


def check_level(confidence_level, function):
    """Raise unless a confidence level lies between 0 and 1."""
    if not isinstance(confidence_level, Real) or not 0 < confidence_level < 1:
        raise ValueError(
            f"{function}: confidence_level={confidence_level!r}; expected a number between 0 and "
            "1, such as 0.95."
        )


def check_metric(metric, function):
    """Return a metric as a function, and its name or None."""
    if callable(metric):
        name = SAME.get(metric)
        return METRICS.get(name, metric), name
    if metric not in METRICS:
        raise ValueError(
            f"{function}: metric={metric!r}; expected one of {list(METRICS)}, or a function of "
            "(y_true, y_pred)."
        )
    return METRICS[metric], metric


def as_codes(columns, name, function):
    """Replace the labels of all columns by their codes."""
    if any(column.ndim > 1 for column in columns):
        shapes = [column.shape for column in columns]
        if name == "accuracy" and len(set(shapes)) == 1:
            return columns
        expected = "one label per row. Pass a function of (y_true, y_pred) for several labels"
        if name == "accuracy":
            expected = "equal ones. Flatten one output with ravel()"
        raise ValueError(
            f"{function}: metric={name!r} of columns of shapes {shapes}; expected {expected}."
        )
    types = {type(next(iter(column.tolist()), None)) for column in columns}
    if str in types and len(types) > 1:
        raise ValueError(
            f"{function}: y_true and the predictions are labels of different types, "
            f"{sorted(t.__name__ for t in types)}; expected texts or numbers in all of them."
        )
    codes, _ = pd.factorize(np.concatenate(columns), use_na_sentinel=False)
    return np.split(codes, len(columns))


class Units:
    """Rows in independent units, which the jackknife leaves out one at a time.

    Parameters
    ----------
    columns : dict of str to array-like
        The arguments of the statistics.
    metric : str or None
        Name of the metric.
    groups : array-like or None
    confidence_level : float
    function : str
        Name of the public function, for messages.
    """

    def __init__(self, columns, metric, groups, confidence_level, function):
        check_level(confidence_level, function)
        self.columns = [np.asarray(as_numpy(column)) for column in columns.values()]
        lengths = {name: len(c) for name, c in zip(columns, self.columns, strict=True)}
        if len(set(lengths.values())) > 1:
            raise ValueError(
                f"{function}: numbers of rows {lengths}; expected equal numbers. Pass one "
                "prediction per row of y_true, in the same order."
            )
        if metric in SHARES:
            self.columns = as_codes(self.columns, metric, function)
        self.metric = metric
        self.n_rows, self.is_grouped = len(self.columns[0]), groups is not None
        groups = check_groups(groups, self.n_rows, estimator_name=function)
        self.left_out, self.counts = independent_units(self.columns, groups)
        self.n_units = int(self.counts.sum())
        if self.n_units < 2:
            raise ValueError(
                f"{function}: {self.n_units} {'group' if self.is_grouped else 'row'}; expected two "
                "or more, because the interval is computed from the differences between them."
            )
        tail = (1 + confidence_level) / 2
        self.z, self.t = stats.norm.ppf(tail), stats.t.ppf(tail, self.n_units - 1)

    def standard_error(self, statistic):
        """The jackknife's standard error of a function of the columns."""
        values = np.empty(len(self.counts))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about classes that only these rows have
            for number, rows in enumerate(self.left_out):
                values[number] = statistic(*(np.delete(c, rows, axis=0) for c in self.columns))
        mean = np.average(values, weights=self.counts)
        squares = self.counts @ (values - mean) ** 2
        return math.sqrt((self.n_units - 1) / self.n_units * squares)

    def effective_size(self, variance, error):
        """Number of independent rows of this variance that would have this standard error."""
        if self.metric == "accuracy" and not self.is_grouped:
            return self.n_rows
        if error < ROUNDING:
            return self.n_units
        size = variance / error**2 * (self.z / self.t) ** 2
        # Rows in groups never determine an accuracy better than as many independent ones.
        return min(size, self.n_rows) if self.metric == "accuracy" else size


def independent_units(columns, groups):
    """Return the rows of each unit to leave out, and how many units are equal to it.

    Units are groups or blocks of rows. If rows have few different values (classes and their
    predictions), units are single rows, and equal rows are left out only once.
    """
    if groups is not None:
        codes, _ = pd.factorize(groups)
        rows = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
        return rows, np.ones(len(rows))
    n_rows = len(columns[0])
    if all(column.ndim == 1 for column in columns):
        kinds = np.zeros(n_rows, dtype=int)
        for column in columns:
            codes, values = pd.factorize(column, use_na_sentinel=False)
            kinds, _ = pd.factorize(kinds * len(values) + codes)
        _, first, counts = np.unique(kinds, return_index=True, return_counts=True)
        if len(first) <= MAX_EVALUATIONS:
            return first[:, None], counts
    if n_rows <= MAX_EVALUATIONS:
        return np.arange(n_rows)[:, None], np.ones(n_rows)
    order = np.random.default_rng(0).permutation(n_rows)
    return np.array_split(order, N_BLOCKS), np.ones(N_BLOCKS)


def wilson(share, n, z):
    """Wilson's interval of a share of n rows, or of arrays of them."""
    center, squared = share + z * z / (2 * n), share * (1 - share) / n + (z / (2 * n)) ** 2
    room = z * np.sqrt(squared)
    scale = 1 + z * z / n
    # at 0 and 1, a limit is equal to the share, but for rounding
    low, high = (center - room) / scale, (center + room) / scale
    return np.clip(low, 0, share), np.clip(high, share, 1)


def only_right(y_true, y_pred_a, y_pred_b):
    """Shares of the rows that only the first and only the second model predicts right."""
    a, b = is_right(y_true, y_pred_a), is_right(y_true, y_pred_b)
    return (a & ~b).mean(), (b & ~a).mean()


def matched(share_a, share_b, n, z):
    """Agresti and Min's interval of a difference of matched proportions of n rows."""
    a, b = ((share * n + 0.5) / (n + 2) for share in (share_a, share_b))
    room = z * math.sqrt((a + b - (a - b) ** 2) / (n + 2))
    return max(-1, a - b - room), min(1, a - b + room)
