"""Blocks of features, their singular vectors, and the base of the transformers that fuse them."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from sklearn_mmfusion._sklearn import (
    StrOptions,
    _check_feature_names_in,
    _fit_context,
    validate_data,
)
from sklearn_mmfusion._validation import all_or_nothing, as_fitted, check_real, remember_params
from sklearn_mmfusion.containers import TensorArray, TensorDtype, as_column

_ONE_BLOCK = "x"  # name of the only block of a plain array


# ------------------------------------------------------------------------------ blocks


@dataclass(frozen=True)
class Block:
    """Features of one modality: its present rows, and which rows those are.

    `values` is an ndarray or a CSR matrix of shape (n_present, width) and `present` a boolean
    ndarray of shape (n_samples,).
    """

    name: str
    values: object
    present: np.ndarray

    @property
    def width(self):
        """Number of features."""
        return self.values.shape[1]

    def filled(self, fill, dtype=None):
        """All rows, absent ones equal to `fill`: an ndarray, or a CSR matrix if `values` are."""
        if sparse.issparse(self.values):
            return self.sparse(fill)
        if self.present.all():
            return self.values if dtype is None else self.values.astype(dtype, copy=False)
        full = np.empty((len(self.present), self.width), dtype=dtype or self.values.dtype)
        full[self.present] = self.values
        full[~self.present] = fill
        return full

    def check_finite(self, estimator_name):
        """Raise if a value is NaN or infinite."""
        values, is_sparse = self.values, sparse.issparse(self.values)
        wrong = np.flatnonzero(~np.isfinite(values.data if is_sparse else values))
        if not len(wrong):
            return
        ends = values.indptr[1:] if is_sparse else np.arange(1, len(values) + 1) * self.width
        row = np.searchsorted(ends, wrong[0], side="right")
        raise ValueError(
            f"{estimator_name}: block {self.name!r} contains NaN or infinity in row "
            f"{np.flatnonzero(self.present)[row]}. Impute the missing values of its table "
            "first, or make the whole cell NA to mark the block absent."
        )

    def sparse(self, fill):
        """All rows as a CSR matrix, absent ones equal to `fill`."""
        rows = sparse.csr_matrix(self.values)
        if self.present.all():
            return rows
        last = sparse.csr_matrix(fill[None], dtype=rows.dtype)
        index = np.full(len(self.present), rows.shape[0])
        index[self.present] = np.arange(rows.shape[0])
        return sparse.vstack([rows, last], format="csr")[index]


def block_mean(values):
    """Mean of the present rows in float64, ignoring the missing values of a table."""
    if sparse.issparse(values):
        return np.asarray(values.mean(axis=0, dtype=np.float64)).ravel()
    finite = ~np.isnan(values)
    total = np.sum(values, axis=0, dtype=np.float64, where=finite)
    return total / np.maximum(finite.sum(axis=0), 1)


def block_frame(blocks):
    """Blocks as a DataFrame with one `TensorArray` column each, NA in absent rows."""
    return pd.DataFrame({block.name: _block_column(block) for block in blocks})


def _block_column(block):
    rows = np.cumsum(block.present) - 1
    rows[~block.present] = -1
    values = block.values if len(block.values) else np.zeros((1, block.width), np.float32)
    return TensorArray(values, copy=False).take(rows, allow_fill=True)


def _is_block_frame(X):
    return isinstance(X, pd.DataFrame) and any(
        isinstance(dtype, TensorDtype) or pd.api.types.is_object_dtype(dtype) for dtype in X.dtypes
    )


def _read_blocks(X, estimator, *, reset):
    """X, a frame of blocks or one plain block, as a list of `Block`."""
    if not _is_block_frame(X):
        values = validate_data(estimator, X, reset=reset, dtype=[np.float64, np.float32])
        return [Block(_ONE_BLOCK, values, np.ones(len(values), dtype=bool))]
    validate_data(estimator, X, reset=reset, skip_check_array=True)
    return [_read_block(str(name), X[name], type(estimator).__name__) for name in X.columns]


def _read_block(name, series, estimator_name):
    column = as_column(series, name=name)
    if isinstance(column, TensorArray):
        if column.is_ragged or len(column.dtype.cell_shape) != 1:
            raise ValueError(
                f"{estimator_name}: block {name!r} has cells of shape {column.dtype.cell_shape}; "
                "expected 1-D cells of one length. Turn them into features with an encoder first."
            )
        present = ~np.asarray(column.isna())
        values = np.asarray(column.gather(np.flatnonzero(present)))
    else:
        if not pd.api.types.is_numeric_dtype(column.dtype):
            raise ValueError(
                f"{estimator_name}: block {name!r} has dtype {column.dtype}; expected numbers."
            )
        present = ~np.asarray(pd.isna(column))
        values = np.asarray(column[present])[:, None]
    check_real(values.dtype, f"{estimator_name}: block {name!r}")
    if values.dtype != np.float32:
        values = values.astype(np.float64, copy=False)
    block = Block(name, values, present)
    block.check_finite(estimator_name)
    return block


# ------------------------------------------------------------------------------ linear algebra


@dataclass(frozen=True)
class Basis:
    """Thin SVD of the centered present rows of a block, ``left * singular @ axes``.

    `mean` is of shape (width,), `left` (n_present, rank) or None, `singular` (rank,), largest
    first, `axes` (rank, width). A block without variance has rank 0.
    """

    mean: np.ndarray
    left: np.ndarray | None
    singular: np.ndarray
    axes: np.ndarray

    @property
    def rank(self):
        """Number of directions that hold more than rounding."""
        return len(self.singular)

    def rows(self, present, scale):
        """`left` times `scale` in all rows: zeros, the mean of `left`, where absent."""
        full = np.zeros((len(present), self.rank))
        full[present] = self.left * scale
        return full


def thin_svd(values, *, left=True):
    """The `Basis` of some rows, in float64; with many rows, ``left=False`` takes less memory.

    Directions whose singular value is below ``max(n, width) * eps`` of the largest are rounding
    and left out, eps being that of the values' own dtype.
    """
    tolerance = max(values.shape) * np.finfo(values.dtype).eps
    values = np.asarray(values, dtype=np.float64)
    n, mean = len(values), values.mean(axis=0)
    centered = values - mean
    if not left and n > values.shape[1]:  # R has the singular values and axes of the tall block
        centered = np.linalg.qr(centered, mode="r")
    U, singular, axes = np.linalg.svd(centered, full_matrices=False)
    # a large mean leaves its own rounding behind, in constant columns too
    scale = max(singular.max(initial=0), np.sqrt(n) * np.abs(mean).max(initial=0))
    rank = int(np.sum(singular > tolerance * scale))
    return Basis(mean, U[:, :rank] if left else None, singular[:rank], axes[:rank])


def fix_signs(axes):
    """Axes (k, d) turned so that the entry of largest magnitude in each is positive."""
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)
    return axes * np.where(largest < 0, -1.0, 1.0)


def split_columns(stacked, widths):
    """A matrix cut into one piece of columns for each width of {name: width}."""
    pieces = np.split(stacked, np.cumsum(list(widths.values()))[:-1], axis=1)
    return dict(zip(widths, pieces, strict=True))


# ------------------------------------------------------------------------------ fusions


class BlockTransformer(TransformerMixin, BaseEstimator):
    """Reading, filling and checking of blocks; subclasses learn from and map one block each.

    The class attributes below determine the names of the output features, here and in
    `FusionTransformer`.
    """

    _parameter_constraints: dict = {"missing": [StrOptions({"mean", "zero"})]}
    _feature_name = ""  # name of an output feature, before its number
    _shares_output = False  # whether blocks are mixed into the same features, not side by side
    _keeps_features = False  # whether feature j of a block is still its feature j afterwards

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Learn from the present rows of every block.

        Parameters
        ----------
        X : DataFrame of `TensorArray` columns, or array-like of shape (n_samples, n_features)
            The blocks: one column each, 1-D cells, NA where absent. A plain array is one block.
        y : None
            Ignored, present for API consistency.

        Returns
        -------
        self : object
            Fitted transformer.
        """
        with all_or_nothing(self):
            blocks = _read_blocks(X, self, reset=True)
            self._plain = not _is_block_frame(X)
            self._learn(blocks)
        return self

    def _learn(self, blocks):
        for block in blocks:
            if not block.present.any():
                raise ValueError(
                    f"{type(self).__name__}: block {block.name!r} has no present row among "
                    f"{len(block.present)}; nothing can be learned from it. Leave it out."
                )
        self._fit_blocks(blocks)
        remember_params(self)
        self._widths = {block.name: block.width for block in blocks}
        means = {block.name: block_mean(block.values) for block in blocks}
        zero = getattr(self, "missing", "mean") == "zero"
        self.fill_values_ = {k: np.zeros_like(m) if zero else m for k, m in means.items()}

    def transform(self, X):
        """Fuse the blocks.

        Parameters
        ----------
        X : DataFrame of `TensorArray` columns, or array-like of shape (n_samples, n_features)
            The blocks, as in `fit`.

        Returns
        -------
        X_t : ndarray of shape (n_samples, n_features_out), dtype=float32 or float64
            The fused features, float32 if every block is float32. Computed in float64.
        """
        check_is_fitted(self)
        blocks = _read_blocks(X, self, reset=False)
        for block in blocks:
            if block.width != self._widths.get(block.name):
                raise ValueError(
                    f"{type(self).__name__}: block {block.name!r} has {block.width} features, "
                    f"fitted with {self._widths.get(block.name)}."
                )
        dtype = np.result_type(*(block.values.dtype for block in blocks))
        return as_fitted(self)._fuse(blocks).astype(dtype, copy=False)

    def _fuse(self, blocks):
        mapped = self._mapped(blocks)
        if any(map(sparse.issparse, mapped)):
            return sparse.hstack(mapped, format="csr")
        return np.hstack(mapped)

    def _mapped(self, blocks):
        fills = self.fill_values_
        return [self._map(block.name, block.filled(fills[block.name])) for block in blocks]

    def get_feature_names_out(self, input_features=None):
        """Names of the fused features.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Names of the input columns; checked against those seen in `fit`.

        Returns
        -------
        feature_names_out : ndarray of str objects
            One name per column of the output.
        """
        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features)
        if self._plain and self._keeps_features:
            return np.asarray(names, dtype=object)
        groups = self._names_by_block()
        if self._shares_output:
            return np.asarray(next(iter(groups.values())), dtype=object)
        prefixed = [
            own if self._plain else f"{block}__{own}" for block in groups for own in groups[block]
        ]
        return np.asarray(prefixed, dtype=object)

    def _names_by_block(self):
        """{block: names of its output features, without the block's name}."""
        return {
            name: [f"{self._feature_name}{i}" for i in range(slot.stop - slot.start)]
            for name, slot in self.output_indices_.items()
        }

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def side_by_side(widths):
    """{block name: slice over the output} of blocks side by side."""
    ends = np.cumsum([0, *widths.values()]).tolist()
    return {name: slice(a, b) for name, a, b in zip(widths, ends[:-1], ends[1:], strict=True)}
