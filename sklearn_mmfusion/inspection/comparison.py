"""Comparison of estimators on the same splits, with corrected intervals."""

import math
import time
from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.base import is_classifier
from sklearn.model_selection import cross_validate
from sklearn.utils import Bunch, indexable

from sklearn_mmfusion._validation import add_error_note
from sklearn_mmfusion.inspection.folds import folds_of
from sklearn_mmfusion.inspection.intervals import check_level
from sklearn_mmfusion.inspection.modalities import scorer_name


def compare(
    estimators,
    X,
    y,
    *,
    cv=None,
    groups=None,
    scoring=None,
    reference=None,
    confidence_level=0.95,
    params=None,
    n_jobs=None,
    verbose=0,
):
    """Cross-validate several estimators on the same splits, and compare them.

    Some splits are easier than others, for all estimators. Differences are therefore paired by
    split, and are often known much better than the scores themselves.

    Parameters
    ----------
    estimators : dict of {str: estimator} or list of (str, estimator)
        Two or more, e.g. single modalities and fusions. They are cloned.
    X : DataFrame or array-like of shape (n_samples, n_columns)
        Input of all estimators.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Target.
    cv : int, cross-validation generator or iterable, default=None
        As in :func:`~sklearn.model_selection.cross_validate`. Splits are drawn once, for all
        estimators. Repeated cross-validation, such as
        :class:`~sklearn.model_selection.RepeatedStratifiedKFold`, gives shorter intervals.
    groups : array-like of shape (n_samples,), default=None
        Groups of the rows. With an integer `cv`, the rows of a group stay in one fold; a splitter
        must use groups itself, such as :class:`~sklearn.model_selection.GroupKFold`. They are not
        passed to the estimators: use `params` for that.
    scoring : str, callable, list, tuple or dict, default=None
        One scorer or several, as in :func:`~sklearn.model_selection.cross_validate`. None means
        the estimators' own `score`.
    reference : str, default=None
        Name of the estimator that the others are compared with; None compares all pairs.
    confidence_level : float, default=0.95
        Confidence level of each interval, without a correction for multiple comparisons.
    params : dict, default=None
        Parameters of `fit`, e.g. ``{"sample_weight": weight}``; see
        :func:`~sklearn.model_selection.cross_validate`.
    n_jobs : int, default=None
        Number of splits to compute in parallel.
    verbose : int, default=0
        If above 0, print a line per estimator.

    Returns
    -------
    comparison : Bunch
        With the attributes:

        names : list of str
            Names of the estimators.
        scorer : str or list of str
            Name of the scorer, or of several.
        scores : ndarray of shape (n_estimators, n_splits)
            Scores of the test rows; with several scorers, a dict of such arrays by name.
        table : DataFrame
            A row per estimator: mean, low and high (its interval), and fit_time in seconds. With
            several scorers, the first level of the index is the scorer.
        differences : DataFrame
            A row per pair (first, second): difference (score of the first minus that of the
            second), low and high. `reference` is the second of each pair.

    Raises
    ------
    ValueError
        If there are fewer than two estimators or splits, a name occurs twice, or `reference` is
        none of the names.

    See Also
    --------
    sklearn_mmfusion.plotting.ComparisonDisplay : A picture of the result.
    difference_interval : The interval of two models' predictions of the same rows.

    Notes
    -----
    The training sets of splits overlap, so scores vary less than those of independent data sets.
    Nadeau and Bengio [1]_ estimate the variance of the mean of J scores as

    .. math:: \\left(\\frac{1}{J} + \\frac{n_{test}}{n_{train}}\\right) s^2

    where :math:`s^2` is the variance of the scores; for repeated cross-validation, see [2]_. The
    interval uses the quantile of Student's t with J - 1 degrees of freedom. It is valid for
    estimators trained on other data of this size. No estimate of this variance is unbiased: in
    simulations (``benchmarks/bench_coverage.py``), 95 % intervals covered the true difference in 98
    to 99 % of draws. More splits, from random or repeated cross-validation, make them shorter.

    References
    ----------
    .. [1] Nadeau, Bengio (2003). "Inference for the generalization error." Machine Learning 52.
       doi:10.1023/A:1024068626366
    .. [2] Bouckaert, Frank (2004). "Evaluating the replicability of significance tests for
       comparing learning algorithms." PAKDD. doi:10.1007/978-3-540-24775-3_3

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.dummy import DummyClassifier
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from sklearn_mmfusion.inspection import compare
    >>> X, y = load_iris(return_X_y=True)
    >>> comparison = compare({"bayes": GaussianNB(), "dummy": DummyClassifier()}, X, y, cv=5)
    >>> print(comparison.differences.round(2).reset_index().to_string(index=False))
    first second  difference  low  high
    bayes  dummy        0.62 0.56  0.68
    """
    pairs = check_estimators(estimators, reference)
    X, y, groups = indexable(X, y, groups)
    splits = folds_of(cv, X, y, groups, is_classifier(pairs[0][1]))
    if len(splits) < 2:
        raise ValueError(
            f"compare: cv has {len(splits)} split; expected two or more, because intervals are "
            "computed from the differences between them."
        )
    interval = CorrectedInterval(splits, confidence_level)
    settings = {"cv": splits, "params": params, "n_jobs": n_jobs, "error_score": "raise"}
    results = []
    for number, (name, estimator) in enumerate(pairs, 1):
        start = time.perf_counter()
        with add_error_note(f"Raised by estimator {name!r} of compare."):
            results.append(cross_validate(estimator, X, y, scoring=scoring, **settings))
        if verbose:
            elapsed = time.perf_counter() - start
            print(f"[compare] {name} ({number} of {len(pairs)}): {elapsed:.1f} s")
    names = [name for name, _ in pairs]
    scorers = [key.removeprefix("test_") for key in results[0] if key.startswith("test_")]
    several = scorers != ["score"]
    scores = {s: np.array([result[f"test_{s}"] for result in results]) for s in scorers}
    seconds = [result["fit_time"].mean() for result in results]
    tables = {s: score_table(names, scores[s], seconds, interval) for s in scorers}
    differences = {s: difference_table(names, scores[s], reference, interval) for s in scorers}
    if several:
        scorer = scorers
        table, differences = (pd.concat(each, names=["scorer"]) for each in (tables, differences))
    else:
        found = {scorer_name(estimator, scoring) for _, estimator in pairs}
        scorer = found.pop() if len(found) == 1 else "score"
        scores, table, differences = scores["score"], tables["score"], differences["score"]
    return Bunch(names=names, scorer=scorer, scores=scores, table=table, differences=differences)


def check_estimators(estimators, reference):
    """Return pairs of a name and an estimator."""
    is_mapping = isinstance(estimators, Mapping)
    pairs = list(estimators.items()) if is_mapping else estimators
    if not isinstance(pairs, list | tuple) or not all(
        isinstance(pair, tuple | list) and len(pair) == 2 for pair in pairs
    ):
        raise TypeError(
            f"compare: estimators={estimators!r}; expected a dict of estimators by name, or a list "
            "of (name, estimator)."
        )
    names = [name for name, _ in pairs]
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(
            f"compare: the names of the estimators are {names}; expected two or more, all "
            "different."
        )
    if reference is not None and reference not in names:
        raise ValueError(f"compare: reference={reference!r}; expected one of {names}.")
    return pairs


class CorrectedInterval:
    """Interval of the mean of scores of splits, with Nadeau and Bengio's variance."""

    def __init__(self, splits, confidence_level):
        check_level(confidence_level, "compare")
        ratio = np.mean([len(test) / len(train) for train, test in splits])
        quantile = stats.t.ppf((1 + confidence_level) / 2, len(splits) - 1)
        self.factor = quantile * math.sqrt(1 / len(splits) + ratio)

    def __call__(self, scores):
        mean, room = scores.mean(), self.factor * scores.std(ddof=1)
        return mean, mean - room, mean + room


def score_table(names, scores, seconds, interval):
    """Mean, interval and seconds of each estimator."""
    columns = ["mean", "low", "high"]
    table = pd.DataFrame(
        map(interval, scores), index=pd.Index(names, name="estimator"), columns=columns
    )
    return table.assign(fit_time=seconds)


def difference_table(names, scores, reference, interval):
    """Difference and interval of each pair, or of each estimator and the reference."""
    pairs = list(combinations(names, 2))
    if reference is not None:
        pairs = [(name, reference) for name in names if name != reference]
    of = dict(zip(names, scores, strict=True))
    return pd.DataFrame(
        [interval(of[first] - of[second]) for first, second in pairs],
        index=pd.MultiIndex.from_tuples(pairs, names=["first", "second"]),
        columns=["difference", "low", "high"],
    )
