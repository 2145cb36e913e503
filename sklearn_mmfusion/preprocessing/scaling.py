"""Mean and standard deviation of features, over more rows than fit in memory as float64."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from sklearn.utils.sparsefuncs import mean_variance_axis

CHUNK = 1 << 18  # numbers turned into float64 at a time
# A feature is far if its mean is this many standard deviations from zero: 12 of float32's 24 bits
# then remain for differences within a deviation.
FAR = 2.0**12
RANGE = 1e-30, 1e30  # standard deviations of near features
RARE = 0.25  # a feature is rare if a smaller share of its numbers is not zero


def row_slices(n_rows, row_size):
    """Cut `n_rows` rows of `row_size` numbers each into slices of about `CHUNK` numbers."""
    step = max(1, CHUNK // max(1, row_size))
    return [slice(start, start + step) for start in range(0, n_rows, step)]


def rows_in_chunks(blocks):
    """Regroup the rows of blocks into chunks of the size that `row_slices` uses.

    Parameters
    ----------
    blocks : iterable of ndarray of shape (n_i, n_columns)

    Yields
    ------
    chunk : ndarray of shape (n, n_columns)
    """
    held, n_held = [], 0
    for block in blocks:
        held.append(block)
        n_held += len(block)
        step = max(1, CHUNK // max(1, block.shape[1]))
        if n_held >= step:
            rows = np.concatenate(held)
            whole = n_held - n_held % step
            yield from (rows[start : start + step] for start in range(0, whole, step))
            held, n_held = [rows[whole:].copy()], n_held - whole
    if n_held:
        yield np.concatenate(held)


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


def channel_scale(chunks):
    """Mean and standard deviation of channels over chunks (n, n_channels), float32 each.

    Constant channels have no spread: dividing by one leaves zeros.
    """
    mean, variance = mean_and_variance(chunks)
    scale = np.sqrt(variance)
    scale[scale <= 1e-6 * np.abs(mean)] = 1.0
    return mean.astype(np.float32), scale.astype(np.float32)


def _moments(X):
    """Mean and standard deviation of each feature of an array or CSR matrix."""
    if sparse.issparse(X):
        mean, variance = mean_variance_axis(X.astype(np.float64), axis=0)
    else:
        mean, variance = mean_and_variance(X[part] for part in row_slices(*X.shape))
    return mean, np.sqrt(variance)


def float_dtype(X):
    """Return the dtype for `check_array` that keeps every value of X: float32 if it is exact."""
    dtype = getattr(X, "dtype", None)
    exact = isinstance(dtype, np.dtype) and np.can_cast(dtype, np.float32)
    return np.float32 if exact else [np.float64, np.float32]


@dataclass(frozen=True)
class FeatureScale:
    """Mean and standard deviation of features, and the conversion to float32.

    A network standardizes its features batch by batch, in float32. That is too late for *far*
    features: in float32, neighboring time stamps (1.7e9 + 1, + 2, ...) are equal, 1e-50 is 0 and
    1e50 is infinite. These features are standardized in float64 before the cast to float32.

    Attributes
    ----------
    mean, scale : ndarray of shape (n_features,), dtype=float64
    far : ndarray of int
        Positions of the far features.
    """

    mean: np.ndarray
    scale: np.ndarray
    far: np.ndarray

    @classmethod
    def fit(cls, X, standardize=True):
        """Learn from an array or CSR matrix of float32 or float64.

        With `standardize=False`, one scale serves all features: the root of their mean variance.

        Raises
        ------
        ValueError
            If squares of the numbers of a feature are infinite.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            mean, scale = _moments(X.astype(np.float32, copy=False))
            if standardize:
                scale = _widen_rare(X, scale)
        far = np.flatnonzero(_is_far(mean, scale)) if X.dtype == np.float64 else []
        scale[scale <= 1e-7 * np.abs(mean)] = 0.0  # constant except for rounding
        mean, scale = (values.astype(np.float32).astype(np.float64) for values in (mean, scale))
        if len(far):
            far_mean, far_scale = _far_moments(X[:, far])
            kept = _is_far(far_mean, np.where(far_scale == 0, 1.0, far_scale))
            far = far[kept]
            mean[far], scale[far] = far_mean[kept], far_scale[kept]
        if not np.isfinite(scale).all():
            feature = int(np.argmin(np.isfinite(scale)))
            raise ValueError(
                f"feature {feature} of X has numbers as large as {abs(X[:, [feature]]).max():g}, "
                "whose squares are infinite. Divide it by a power of ten."
            )
        if not standardize:
            scale[:] = np.float32(np.sqrt(np.mean(np.square(scale))))
        scale[scale == 0] = 1.0
        return cls(mean, scale, np.asarray(far, dtype=np.int64))

    @property
    def of_network(self):
        """The float32 mean and scale that the network standardizes with, 0 and 1 if far."""
        with np.errstate(over="ignore", invalid="ignore"):  # of far features
            mean, scale = (values.astype(np.float32) for values in (self.mean, self.scale))
        mean[self.far], scale[self.far] = 0.0, 1.0
        return mean, scale

    def cast(self, X):
        """Convert an array or CSR matrix to float32.

        Raises
        ------
        ValueError
            If a number is beyond the range of float32; the message names row and feature.
        """
        if X.dtype == np.float32 and not len(self.far):
            return X
        with np.errstate(over="ignore"):
            near = X.astype(np.float32)
            if len(self.far):
                far = X[:, self.far]
                far = far.toarray() if sparse.issparse(far) else far.astype(np.float64)
                far = ((far - self.mean[self.far]) / self.scale[self.far]).astype(np.float32)
                near = _with_columns(near, self.far, far)
        _check_finite(near, X)
        return near


def cast_steps(scale, sequences, cells):
    """Cast arrays of steps (n_i, n_features) to float32, end to end.

    Parameters
    ----------
    scale : FeatureScale
    sequences : list or ndarray of ndarray
        Those that `cells.read_finite(exact=True)` returns.
    cells : Cells
        Names the row in errors.

    Returns
    -------
    steps : ndarray of shape (n_steps, n_features), dtype=float32
    lengths : list of int
    """
    cast = []
    for sequence, row in zip(sequences, cells.rows, strict=True):
        try:
            cast.append(scale.cast(sequence))
        except ValueError as error:
            raise cells.error(row, f"is far beyond the training rows: {error}") from error
    return np.concatenate(cast, dtype=np.float32), [len(sequence) for sequence in sequences]


def _widen_rare(X, scale):
    """Scales of features; the geometric mean of deviation and size where they are mostly zero.

    Divided by its deviation, a word seen three times weighs as much in a linear model, or in a
    network, as a common one. Undivided, it would hardly count. "Size" is the root mean square of
    the numbers that are not zero.
    """
    if sparse.issparse(X):
        counts = np.bincount(X.indices, weights=X.data != 0, minlength=X.shape[1])
        squares = np.bincount(X.indices, weights=X.data.astype(float) ** 2, minlength=X.shape[1])
    else:
        parts = [X[part] for part in row_slices(*X.shape)]
        counts = sum(np.count_nonzero(part, axis=0) for part in parts)
        squares = sum(np.square(part, dtype=np.float64).sum(axis=0) for part in parts)
    rare = (counts > 0) & (counts < RARE * X.shape[0])
    widened = scale.copy()
    widened[rare] = np.sqrt(scale[rare] * np.sqrt(squares[rare] / counts[rare]))
    return widened


def _far_moments(X):
    """Mean and deviation of features that may be far from zero; of constant ones exactly 0."""
    first = 0.0
    if not sparse.issparse(X):  # the mean of small numbers is more accurate
        first = X[0].copy()
        X = X - first
    with np.errstate(over="ignore", invalid="ignore"):
        mean, scale = _moments(X)
    scale[scale <= 1e-14 * np.abs(mean)] = 0.0
    return mean + first, scale


def _is_far(mean, scale):
    return ~((np.abs(mean) < FAR * scale) & (RANGE[0] < scale) & (scale < RANGE[1]))


def _check_finite(near, X):
    """Raise if a number of X became infinite in float32."""
    if np.isfinite(near.data if sparse.issparse(near) else near).all():
        return
    near = near.toarray() if sparse.issparse(near) else near
    row, feature = (int(found[0]) for found in np.nonzero(~np.isfinite(near)))
    raise ValueError(
        f"X has {X[row, feature]:g} in row {row}, feature {feature}, beyond the range of float32 "
        "(3.4e38) and far beyond the training rows. Networks compute in float32: scale the "
        "feature, or correct this number."
    )


def _with_columns(X, columns, values):
    """Replace some columns of an array, in place, or of a CSR matrix."""
    if not sparse.issparse(X):
        X[:, columns] = values
        return X
    others = np.setdiff1d(np.arange(X.shape[1]), columns)
    order = np.argsort(np.concatenate([others, columns]))
    return sparse.hstack([X[:, others], sparse.csr_matrix(values)], format="csr")[:, order]
