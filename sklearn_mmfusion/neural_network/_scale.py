"""Scales of features."""

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.sparsefuncs import mean_variance_axis

from sklearn_mmfusion._moments import mean_and_variance, row_slices


def mean_and_scale(X, rows=slice(None)):
    """Mean and standard deviation of each feature; 1 in place of the latter where constant.

    Parameters
    ----------
    X : {ndarray, CSR matrix} of shape (n_samples, n_features)
    rows : slice or ndarray of shape (n_samples,), dtype=bool, default=slice(None)
        Rows to take.

    Returns
    -------
    mean, scale : ndarray of shape (n_features,), dtype=float32
    """
    if issparse(X):
        mean, variance = mean_variance_axis(X[rows].astype(np.float64), axis=0)
    else:
        taken = np.arange(len(X))[rows]
        slices = row_slices(len(taken), X.shape[1])
        mean, variance = mean_and_variance(X[taken[part]] for part in slices)
    scale = np.sqrt(variance)
    scale[scale <= 1e-7 * np.abs(mean)] = 1.0
    return mean.astype(np.float32), scale.astype(np.float32)
