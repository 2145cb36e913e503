"""Mean and standard deviation of features, over more rows than fit in memory as float64."""

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.sparsefuncs import mean_variance_axis

CHUNK = 1 << 18  # numbers turned into float64 at a time


def row_slices(n_rows, row_size):
    """Cut `n_rows` rows of `row_size` numbers each into slices of about `CHUNK` numbers."""
    step = max(1, CHUNK // max(1, row_size))
    return [slice(start, start + step) for start in range(0, n_rows, step)]


def mean_and_variance(chunks):
    """Mean and variance of each column over rows that come in chunks.

    Chunks are merged as in Chan, Golub, LeVeque (1983), The American Statistician 37(3), which
    loses no digits to a mean far from zero.

    Parameters
    ----------
    chunks : iterable of ndarray of shape (n_i, n_columns)
        At least one row in all.

    Returns
    -------
    mean, variance : ndarray of shape (n_columns,), dtype=float64
    """
    count, mean, squares = 0, 0.0, 0.0
    for chunk in chunks:
        rows = np.array(chunk, dtype=np.float64)  # a copy, to work in
        own = rows.mean(0)
        rows -= own
        share = len(rows) / (count + len(rows))
        squares = squares + np.einsum("ij,ij->j", rows, rows) + (own - mean) ** 2 * count * share
        mean = mean + (own - mean) * share
        count += len(rows)
    return mean, squares / count


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
