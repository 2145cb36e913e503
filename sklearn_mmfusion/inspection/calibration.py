"""Calibration of predicted probabilities."""

import numpy as np
from sklearn.utils.validation import check_array, check_consistent_length, column_or_1d


def squared_calibration_error(y_true, y_proba, *, labels=None, n_bins=15):
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
    n_bins : int, default=15
        Number of bins, at most half the number of rows.

    Returns
    -------
    error : float
        Mean over the rows of the squared error of their bin. By chance, it can be negative.

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
    y_proba = check_array(y_proba, dtype=np.float64, input_name="y_proba")
    y_true = column_or_1d(y_true)
    check_consistent_length(y_true, y_proba)
    labels = np.unique(y_true) if labels is None else np.asarray(labels)
    if len(labels) != y_proba.shape[1]:
        raise ValueError(
            f"squared_calibration_error: y_proba has {y_proba.shape[1]} columns, but there are "
            f"{len(labels)} labels. Pass labels= in the order of the columns, e.g. "
            "labels=estimator.classes_."
        )
    if not 1 <= n_bins <= len(y_true) / 2:
        raise ValueError(
            f"squared_calibration_error: n_bins={n_bins} with {len(y_true)} rows; expected at "
            "least one bin and at least two rows per bin. Lower n_bins."
        )
    confidence = y_proba.max(axis=1)
    residual = confidence - (labels[y_proba.argmax(axis=1)] == y_true)
    bins = np.array_split(residual[np.argsort(confidence, kind="stable")], n_bins)
    errors = [r.mean() ** 2 - r.var(ddof=1) / len(r) for r in bins]
    return float(np.average(errors, weights=[len(r) for r in bins]))
