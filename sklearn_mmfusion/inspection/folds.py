"""Folds of cross-validation that keep groups together."""

import warnings
from numbers import Integral

import numpy as np
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, check_cv

FOLDS = 5


def folds_of(cv, X, y, groups, classifier):
    """Return folds as pairs of row numbers; if `cv` is a number, they keep groups together.

    Parameters
    ----------
    cv : int, splitter, iterable of folds, or None
    X : DataFrame or ndarray of shape (n_samples, n_columns)
    y : array-like or None
    groups : ndarray of shape (n_samples,) or None
    classifier : bool
        Whether folds are stratified by `y` if `cv` is a number.

    Returns
    -------
    folds : list of (ndarray, ndarray)
        Row numbers to train and to test on.
    """
    if groups is not None and (cv is None or isinstance(cv, Integral)):
        n_folds = min(cv or FOLDS, len(np.unique(groups)))
        cv = (StratifiedGroupKFold if classifier else GroupKFold)(n_folds)
    rows = np.arange(len(X))
    y = np.zeros(len(X)) if y is None else y
    cv = check_cv(FOLDS if cv is None else cv, y, classifier=classifier)
    with warnings.catch_warnings():  # of splitters without groups
        warnings.filterwarnings("ignore", "The groups parameter is ignored", UserWarning)
        return [(rows[train], rows[test]) for train, test in cv.split(X, y, groups)]
