"""Calibration of predicted probabilities, fused and by modality."""

import numpy as np
import pandas as pd
from scipy.stats import norm
from sklearn.base import is_classifier
from sklearn.utils import Bunch
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import (
    check_array,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
)

from sklearn_mmfusion._sklearn import _safe_indexing
from sklearn_mmfusion._validation import BINARY, MULTICLASS, add_error_note, check_count
from sklearn_mmfusion.containers.conversion import as_table
from sklearn_mmfusion.inspection.intervals import wilson
from sklearn_mmfusion.inspection.modalities import (
    absence_ignored,
    find_modalities,
    has_cells,
    with_missing,
)

FUSED = "fused"
LEVEL = 0.95  # of the intervals of reliability bins


def calibration(estimator, X, y, *, modalities=None, n_bins="auto", n_jobs=None, verbose=0):
    """Measure whether the probabilities of a fitted classifier can be trusted.

    Measures the probabilities of all modalities together ("fused"), and those that the same fitted
    classifier predicts from each modality alone, with the cells of all others missing.

    Parameters
    ----------
    estimator : classifier
        Any fitted classifier with `predict_proba` over a table of several columns. It has to accept
        missing values in its columns, as all estimators of this package do. For a classifier that
        does not, pass ``modalities={}``.
    X : DataFrame or array-like of shape (n_samples, n_columns)
        Rows that `estimator` was not trained on.
    y : array-like of shape (n_samples,)
        Their labels.
    modalities : dict of {str: column or list of columns}, default=None
        Columns of each modality. None takes the triples of the composition inside `estimator`, or
        if there is none, each column. An empty dict measures the fused probabilities only.
    n_bins : int or "auto", default="auto"
        Number of bins, at most half the number of rows. "auto" takes one per 20 rows, from 2 to 15.
    n_jobs : int, default=None
        Number of parallel jobs. There is one prediction per modality, and one of all together.
    verbose : int, default=0
        1 prints a line per prediction.

    Returns
    -------
    result : :class:`~sklearn.utils.Bunch`
        The same as that of :func:`calibration_from_predictions`, for "fused" and each modality.

    Raises
    ------
    ValueError
        If y does not hold one class per row, has a label that the classifier does not know, or if a
        name or column of `modalities` is wrong.
    TypeError
        If `estimator` has no `predict_proba`.

    See Also
    --------
    calibration_from_predictions : The same for given probabilities, such as out-of-fold ones.
    squared_calibration_error : One of the measures.

    Notes
    -----
    A modality is measured on the rows that have it.

    **Remedies.** Over- and underconfident classifiers need a temperature: a number that divides the
    logits [1]_, fitted to rows that the classifier was not trained on. Predicted labels stay the
    same.

    - Feature level, and any other classifier:
      ``CalibratedClassifierCV(pipeline, method="temperature", ensemble=False)`` of scikit-learn,
      which accepts frames of several modalities with absent cells. To keep groups together, pass
      ``cv=list(GroupKFold().split(X, y, groups))``. To keep a fitted pipeline, calibrate
      ``FrozenEstimator(pipeline)`` on other rows. If the labels in `y` are texts, pass an array.
    - Joint fusion: ``JointFusionClassifier(temperature="auto")``, the default, uses the rows of
      its early stopping.
    - Decision level: ``LateFusionClassifier(calibration="temperature")`` calibrates each modality
      before they are combined. If modalities repeat each other, the product remains overconfident:
      wrap the late fusion in ``CalibratedClassifierCV``, as above.

    References
    ----------
    .. [1] Guo, Pleiss, Sun, Weinberger (2017). "On calibration of modern neural networks." ICML.
       arXiv:1706.04599

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn_mmfusion import LateFusionClassifier, multimodal_frame
    >>> from sklearn_mmfusion.inspection import calibration
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(0, 2, 3000)
    >>> same = y + rng.normal(size=3000)
    >>> X = multimodal_frame(left=same[:, None], right=same[:, None])
    >>> triples = [(name, LogisticRegression(), name) for name in X.columns]
    >>> classifier = LateFusionClassifier(triples).fit(X[:1000], y[:1000])
    >>> table = calibration(classifier, X[1000:], y[1000:]).table
    >>> table["squared_calibration_error"] > 5e-3  # the product counts equal evidence twice
    fused     True
    left     False
    right    False
    Name: squared_calibration_error, dtype: bool
    """
    label = "calibration"
    check_is_fitted(estimator)
    _check_classifier(estimator, y, label)
    table = as_table(X)
    check_consistent_length(table, y)
    found = find_modalities(estimator, table, modalities, label)
    if any(modality.name == FUSED for modality in found):
        raise ValueError(
            f"{label}: a modality is called {FUSED!r}, the name of all modalities together. Pass "
            "modalities= with other names."
        )
    everything = [p for modality in found for p in modality.positions]
    computed = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(_predict)(estimator, table, everything, modality) for modality in [None, *found]
    )
    proba = {}
    for name, predicted in zip([FUSED, *(m.name for m in found)], computed, strict=True):
        proba[name] = predicted
        if verbose:
            n_rows = int(_is_known(predicted).sum())
            progress = f"[{label}] ({len(proba)} of {len(found) + 1})"
            print(f"{progress} {name}: {n_rows} rows predicted", flush=True)
    return calibration_from_predictions(y, proba, labels=estimator.classes_, n_bins=n_bins)


def _check_classifier(estimator, y, label):
    """Raise unless an estimator predicts probabilities of one class per row."""
    if not hasattr(estimator, "predict_proba"):
        remedy = " Wrap it in CalibratedClassifierCV." if is_classifier(estimator) else ""
        raise TypeError(
            f"{label}: {type(estimator).__name__} has no predict_proba; expected a classifier with "
            f"probabilities.{remedy}"
        )
    kind = type_of_target(y)
    if kind not in (BINARY, MULTICLASS):
        raise ValueError(
            f"{label}: y is {kind}; expected one class per row. For a multilabel target, call "
            "calibration_from_predictions once per label."
        )


def _predict(estimator, table, everything, modality):
    """Probabilities of a modality alone (None: of all), NaN where it is absent."""
    if modality is None:
        return estimator.predict_proba(table)
    rows = np.flatnonzero(has_cells(table, modality.positions))
    proba = np.full((len(table), len(estimator.classes_)), np.nan)
    if len(rows):
        others = [p for p in everything if p not in modality.positions]
        alone = _safe_indexing(table, rows)
        alone = with_missing(alone, others, np.ones(len(rows), dtype=bool))
        note = (
            f"Raised while predicting from {modality.name!r} with all other modalities missing. "
            "For an estimator that accepts no missing values, pass modalities={}."
        )
        with absence_ignored(), add_error_note(note):
            proba[rows] = estimator.predict_proba(alone)
    return proba


def calibration_from_predictions(y_true, y_proba, *, labels=None, n_bins="auto"):
    """Measure whether given probabilities can be trusted.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels.
    y_proba : array-like of shape (n_samples, n_classes), or dict of {str: array-like}
        Class probabilities, e.g. out-of-fold ones from
        :func:`~sklearn.model_selection.cross_val_predict`. A dict holds those of several models or
        modalities by name; an array gets the name "fused". Rows of NaN, where a modality is absent,
        are left out.
    labels : array-like of shape (n_classes,), default=None
        Labels in the order of the columns. None means the sorted labels of `y_true`.
    n_bins : int or "auto", default="auto"
        Number of bins, at most half the number of rows. "auto" takes one per 20 rows, from 2 to 15.

    Returns
    -------
    result : :class:`~sklearn.utils.Bunch`
        With these attributes:

        - ``names``: list of str;
        - ``table``: DataFrame with a row per name. ``expected_calibration_error`` [1]_;
          ``squared_calibration_error``, without its bias (see :func:`squared_calibration_error`);
          ``log_loss``; ``brier``, the mean squared error of the probabilities, summed over classes
          and, for two classes, halved, as in scikit-learn; ``n_rows``;
        - ``bins``: dict of a DataFrame per name, with a row per bin: ``confidence``, the mean
          probability of the predicted class, ``accuracy``, its Wilson interval of 95 % [2]_
          (``low``, ``high``), and ``n_rows``;
        - ``confidences``: dict of an array per name, the probability of each row's predicted class,
          in ascending order.

    Raises
    ------
    ValueError
        If the number of labels differs from the number of columns, y holds other labels, or a bin
        would hold fewer than two rows.

    See Also
    --------
    calibration : The same for a fitted classifier, by modality.

    Notes
    -----
    For all measures, bins hold equally many rows, because the expected calibration error is then
    less biased than with bins of equal width [3]_. Still, it is positive for every classifier and
    grows with the number of bins. Compare it only for the same numbers of rows and bins, and use
    the squared error to see whether a classifier is calibrated at all.

    References
    ----------
    .. [1] Naeini, Cooper, Hauskrecht (2015). "Obtaining well calibrated probabilities using
       Bayesian binning." AAAI.
    .. [2] Wilson (1927). "Probable inference, the law of succession, and statistical inference."
       JASA 22(158). doi:10.1080/01621459.1927.10502953
    .. [3] Roelofs, Cain, Shlens, Mozer (2022). "Mitigating bias in calibration error estimation."
       AISTATS. arXiv:2012.08668

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mmfusion.inspection import calibration_from_predictions
    >>> rng = np.random.default_rng(0)
    >>> proba = rng.dirichlet([0.3, 0.3, 0.3], size=2000)
    >>> y = np.array([rng.choice(3, p=p) for p in proba])
    >>> sharper = proba**3 / (proba**3).sum(axis=1, keepdims=True)
    >>> result = calibration_from_predictions(y, {"true": proba, "overconfident": sharper})
    >>> result.table["log_loss"].round(2)
    true             0.51
    overconfident    0.78
    Name: log_loss, dtype: float64
    >>> result.bins["true"].shape
    (15, 5)
    """
    label = "calibration_from_predictions"
    probas = y_proba if isinstance(y_proba, dict) else {FUSED: y_proba}
    rows, bins, confidences = {}, {}, {}
    for name, proba in probas.items():
        with add_error_note(f"Raised for the probabilities of {name!r}."):
            y, proba, classes = _checked(y_true, proba, labels, label)
            known = _is_known(proba)
            y, proba = y[known], proba[known]
            parts = _binned(y, proba, classes, n_bins, label)
        rows[name] = {
            "expected_calibration_error": _expected_error(parts),
            "squared_calibration_error": _squared_error(parts),
            **_proper_scores(y, proba, classes),
            "n_rows": len(y),
        }
        bins[name] = _reliability(parts)
        confidences[name] = np.concatenate([confidence for confidence, _ in parts])
    table = pd.DataFrame.from_dict(rows, orient="index")
    return Bunch(names=list(probas), table=table, bins=bins, confidences=confidences)


def squared_calibration_error(y_true, y_proba, *, labels=None, n_bins="auto"):
    """Estimate the squared calibration error of the predicted class without bias.

    Rows are sorted by the probability of their predicted class and cut into bins of equal size. A
    bin's error is the squared difference between its mean probability and its accuracy, minus the
    variance that the accuracy has by chance. The estimate for a perfectly calibrated classifier is
    therefore zero on average, for any number of rows. In contrast, the plain expected calibration
    error is positive for every classifier and grows with the number of bins.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels.
    y_proba : array-like of shape (n_samples, n_classes)
        Class probabilities, e.g. out-of-fold ones from
        :func:`~sklearn.model_selection.cross_val_predict`.
    labels : array-like of shape (n_classes,), default=None
        Labels in the order of the columns. None means the sorted labels of `y_true`, as in
        :func:`~sklearn.metrics.log_loss`.
    n_bins : int or "auto", default="auto"
        Number of bins, at most half the number of rows. "auto" takes one per 20 rows, from 2 to 15.

    Returns
    -------
    error : float
        Mean over all rows of the squared error of their bin. It can be negative by chance.

    Raises
    ------
    ValueError
        If the number of labels differs from the number of columns, or a bin would hold fewer than
        two rows.

    Notes
    -----
    With residuals :math:`r_i`, the predicted class's probability minus 1 if the class is right and
    minus 0 otherwise, a bin of :math:`n` rows contributes

    .. math:: \\bar r^2 - \\frac{1}{n (n - 1)} \\sum_i (r_i - \\bar r)^2,

    the mean of :math:`r_i r_j` over all pairs of different rows. If all rows of a bin have the same
    probability, this is the debiased estimator of [1]_; otherwise, the spread of probabilities
    within the bin is not counted as chance. The square root of a positive error is on the scale of
    probabilities. Errors that cancel within a bin are not detected.

    References
    ----------
    .. [1] Kumar, Liang, Ma (2019). "Verified uncertainty calibration." NeurIPS. arXiv:1909.10155

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mmfusion.inspection import squared_calibration_error
    >>> rng = np.random.default_rng(0)
    >>> proba = rng.dirichlet([0.3, 0.3, 0.3], size=2000)
    >>> y = np.array([rng.choice(3, p=p) for p in proba])
    >>> abs(squared_calibration_error(y, proba)) < 1e-3
    True
    >>> overconfident = proba**3 / (proba**3).sum(axis=1, keepdims=True)
    >>> bool(squared_calibration_error(y, overconfident) > 5e-3)
    True
    """
    label = "squared_calibration_error"
    y, proba, labels = _checked(y_true, y_proba, labels, label, ensure_all_finite=True)
    return _squared_error(_binned(y, proba, labels, n_bins, label))


# ------------------------------------------------------------------------------ measures


def _checked(y_true, y_proba, labels, label, ensure_all_finite="allow-nan"):
    """Return labels of rows, probabilities, and labels of columns, or raise."""
    checks = {"dtype": np.float64, "input_name": "y_proba"}
    y_proba = check_array(y_proba, ensure_all_finite=ensure_all_finite, **checks)
    y_true = column_or_1d(y_true)
    check_consistent_length(y_true, y_proba)
    rounding = 1e-5  # of probabilities in single precision
    if (y_proba < -rounding).any() or (y_proba > 1 + rounding).any():
        raise ValueError(
            f"{label}: y_proba has values from {np.nanmin(y_proba):.3g} to "
            f"{np.nanmax(y_proba):.3g}; expected probabilities from 0 to 1. Pass the output of "
            "predict_proba."
        )
    found = np.unique(y_true)
    labels = found if labels is None else np.asarray(labels)
    if len(labels) != y_proba.shape[1]:
        raise ValueError(
            f"{label}: y_proba has {y_proba.shape[1]} columns, but there are "
            f"{len(labels)} labels. Pass labels= in the order of the columns, e.g. "
            "labels=estimator.classes_."
        )
    unknown = [own for own in found.tolist() if own not in labels.tolist()]
    if unknown:
        raise ValueError(
            f"{label}: y_true has the labels {unknown}, of which there are no probabilities; "
            f"expected {labels.tolist()}. Leave these rows out."
        )
    return y_true, y_proba, labels


def _is_known(proba):
    return ~np.isnan(proba).any(axis=1)


def _binned(y, proba, labels, n_bins, label):
    """Sort rows by confidence and cut them into bins: pairs of confidence and hits per bin."""
    n_bins = min(max(2, len(y) // 20), 15) if n_bins == "auto" else n_bins
    check_count(f"{label}: n_bins", n_bins)
    if n_bins > len(y) / 2:
        raise ValueError(
            f"{label}: n_bins={n_bins} with {len(y)} rows; expected at least two rows per bin. "
            "Lower n_bins, or leave this modality out."
        )
    confidence = proba.max(axis=1)
    hits = labels[proba.argmax(axis=1)] == y
    order = np.argsort(confidence, kind="stable")
    cut = [np.array_split(values[order], n_bins) for values in (confidence, hits)]
    return list(zip(*cut, strict=True))


def _squared_error(bins):
    residuals = [confidence - hits for confidence, hits in bins]
    errors = [r.mean() ** 2 - r.var(ddof=1) / len(r) for r in residuals]
    return float(np.average(errors, weights=[len(r) for r in residuals]))


def _expected_error(bins):
    errors = [abs((confidence - hits).mean()) for confidence, hits in bins]
    return float(np.average(errors, weights=[len(hits) for _, hits in bins]))


def _proper_scores(y, proba, labels):
    is_own = y[:, None] == labels
    own = proba[is_own].clip(np.finfo(np.float64).eps)  # as scikit-learn does
    brier = ((proba - is_own) ** 2).sum(axis=1).mean()
    return {
        "log_loss": float(-np.log(own).mean()),
        "brier": float(brier / 2 if len(labels) == 2 else brier),
    }


def _reliability(bins):
    """A row per bin: mean confidence, accuracy and its Wilson interval, number of rows."""
    n_rows = np.array([len(hits) for _, hits in bins])
    accuracy = np.array([hits.mean() for _, hits in bins])
    low, high = wilson(accuracy, n_rows, norm.ppf((1 + LEVEL) / 2))
    columns = {
        "confidence": [confidence.mean() for confidence, _ in bins],
        "accuracy": accuracy,
        "low": low,
        "high": high,
        "n_rows": n_rows,
    }
    return pd.DataFrame(columns)
