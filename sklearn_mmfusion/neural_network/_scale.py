"""Scales of features."""

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.sparsefuncs import mean_variance_axis


def mean_and_scale(X):
    """Mean and standard deviation of each feature; 1 in place of the latter where constant.

    Parameters
    ----------
    X : {ndarray, CSR matrix} of shape (n_samples, n_features)

    Returns
    -------
    mean, scale : ndarray of shape (n_features,), dtype=float32
    """
    if issparse(X):
        mean, variance = mean_variance_axis(X.astype(np.float64), axis=0)
        scale = np.sqrt(variance)
    else:
        mean, scale = X.mean(0, dtype=np.float64), X.std(0, dtype=np.float64)
    scale[scale <= 1e-7 * np.abs(mean)] = 1.0
    return mean.astype(np.float32), scale.astype(np.float32)
