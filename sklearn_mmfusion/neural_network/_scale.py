"""Scales of features."""

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import gen_batches
from sklearn.utils.sparsefuncs import mean_variance_axis

CHUNK = 10_000  # rows


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
        # in chunks: the deviations of a memory map of all rows need not fit in memory
        chunks = [X[rows] for rows in gen_batches(len(X), CHUNK)]
        mean = sum(chunk.sum(0, dtype=np.float64) for chunk in chunks) / len(X)
        scale = np.sqrt(sum(np.square(chunk - mean).sum(0) for chunk in chunks) / len(X))
    scale[scale <= 1e-7 * np.abs(mean)] = 1.0
    return mean.astype(np.float32), scale.astype(np.float32)
