"""TensorDtype and TensorArray: a pandas column whose cells are numeric arrays."""

import numpy as np
from pandas.api.types import pandas_dtype

from sklearn_mmfusion._validation import as_numpy
from sklearn_mmfusion.containers.dtypes import (
    ConflictDtype,
    TensorDtype,
    check_same_rate,
    check_sample_rate,
    check_value_dtype,
)
from sklearn_mmfusion.containers.row_view_array import RowViewArray
from sklearn_mmfusion.containers.storage import (
    OWNED,
    DenseStorage,
    RaggedStorage,
    array_digest,
    as_cell,
    format_cell,
    restored_source,
    store_cells,
    take_in,
)


class TensorArray(RowViewArray):
    """Extension array whose cells are numeric arrays: images, waveforms, clips, features.

    An array is dense (one base array, cells of one shape) or ragged (flat values and one shape per
    cell; cells agree in dtype and number of axes, any axis may vary). It is a row index over its
    base: slicing, taking, masking and joining copy no cell. Cells are read-only; assigning NA
    marks a cell absent, any other assignment is an error.

    Parameters
    ----------
    values : ndarray or memmap of shape (n, ...), or sequence of n cells
        A numeric array of at least two axes becomes the base. A sequence holds cells: arrays,
        nested lists, PIL images or torch tensors; None, NaN and pandas.NA are absent. Cells of one
        shape make a dense array, others a ragged one. Integers of different widths are widened,
        and so are floats.
    sample_rate : float or None, default=None
        Samples per second along a cell's first axis, in Hz. Kept in the dtype; columns of
        different rates cannot be joined.
    copy : bool, default=True
        Whether to copy an array that becomes the base. False shares its memory: the column then
        changes with the array, and its content is hashed in full whenever a key is needed.
        Memory maps are never copied.

    Raises
    ------
    TypeError
        For scalars, text, objects, and cells that mix kinds of numbers.
    ValueError
        For cells that differ in their number of axes.

    Notes
    -----
    Two cells are equal if dtype, shape and every bit agree (so NaN equals NaN, and 0.0 does not
    equal -0.0). Equality, grouping and keys read each cell of a base once, at about 0.5 GB/s:
    digests are kept for memory that the package owns, and for memory maps opened with mode "r"
    while the size and modification time of the file stay the same. A pickled view contains only its
    own cells, and the pickle depends on its content alone.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mmfusion.containers import TensorArray
    >>> images = TensorArray(np.zeros((3, 28, 28), np.uint8))
    >>> images[:2]
    <TensorArray>
    [<uint8 28x28>, <uint8 28x28>]
    Length: 2, dtype: tensor[uint8, 28x28]
    >>> waves = TensorArray([[0.5, 1.0], None, [0.25]], sample_rate=8000)
    >>> waves.dtype, waves.isna().tolist(), waves.cell_lengths().tolist()
    (tensor[float64, ?, 8000Hz], [False, True, False], [2, 0, 1])
    """

    _dtype_class = TensorDtype

    def __init__(self, values, *, sample_rate=None, copy=True):
        made = _from_values(values, check_sample_rate(sample_rate), copy)
        self._storage, self._rows, self._dtype = made._storage, made._rows, made._dtype
        self._compacted = None

    # -- construction ------------------------------------------------------------------------

    @classmethod
    def from_flat(cls, values, shapes, *, sample_rate=None, copy=True):
        """Build a ragged array over flat values, which may be memory-mapped.

        Parameters
        ----------
        values : ndarray or memmap of shape (total,)
            The cells' numbers, one cell after another, each in C order.
        shapes : array-like of int of shape (n,) or (n, ndim)
            Shape of each cell. If 1-D, lengths of 1-D cells.
        sample_rate : float or None, default=None
            Samples per second along a cell's first axis, in Hz.
        copy : bool, default=True
            Whether to copy the values. False shares their memory. Memory maps are never copied.

        Returns
        -------
        array : TensorArray

        Raises
        ------
        ValueError
            If `shapes` do not add up to the number of values, or `values` is not 1-D.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn_mmfusion.containers import TensorArray
        >>> TensorArray.from_flat(np.arange(5.0), [2, 3])[1]
        array([2., 3., 4.])
        """
        values, shapes = np.asanyarray(values), np.array(shapes, np.int64)
        shapes = shapes[:, None] if shapes.ndim == 1 else shapes
        if values.ndim != 1 or shapes.ndim != 2 or (shapes < 0).any():
            raise ValueError(
                f"from_flat takes 1-D values and (n, ndim) shapes without negatives; got values "
                f"of shape {values.shape} and shapes of shape {shapes.shape}"
            )
        if shapes.prod(axis=1).sum() != len(values):
            raise ValueError(
                f"shapes add up to {shapes.prod(axis=1).sum()} numbers; values holds {len(values)}"
            )
        check_value_dtype(values.dtype)
        values, source = take_in(values, copy)
        storage = RaggedStorage(values, shapes, source)
        dtype = TensorDtype(storage.value_dtype, (None,) * shapes.shape[1], sample_rate)
        return cls._view(storage, np.arange(storage.n), dtype)

    @classmethod
    def _adopt(cls, values):
        """Build a dense array over an array that no caller keeps, without a copy."""
        return _over(values, OWNED, None)

    @classmethod
    def _adopt_flat(cls, values, shapes):
        """Build a ragged array over flat values that no caller keeps, without a copy."""
        storage = RaggedStorage(values, shapes)
        dtype = TensorDtype(storage.value_dtype, (None,) * shapes.shape[1])
        return cls._view(storage, np.arange(storage.n), dtype)

    @classmethod
    def _from_sequence(cls, scalars, *, dtype=None, copy=False):
        dtype = None if dtype is None else pandas_dtype(dtype)
        array = getattr(scalars, "array", scalars)  # of a Series or an Index
        if isinstance(array, cls):
            return array.copy() if dtype is None else array.astype(dtype)
        return cls._view(
            *store_cells(list(array), dtype, None if dtype is None else dtype.sample_rate)
        )

    @classmethod
    def _from_sequence_of_strings(cls, strings, *, dtype, copy=False):
        raise TypeError(f"{cls.__name__} cannot be read from text")

    @classmethod
    def _storage_from_state(cls, state, dtype):
        *plain, digests = state
        kept = digests, np.ones(len(digests), bool)
        make = RaggedStorage if dtype.is_ragged else DenseStorage
        return make(*plain, restored_source(plain[0]), kept)

    def _state(self):
        # computed on the shared base, which keeps digests for its other views
        present = self._rows[self._rows >= 0]
        digests = self._storage.digests(present)
        if self._compacted is None or not np.array_equal(self._compacted[1], digests):
            self._compacted = self._storage.compact(present), digests
        return self._compacted[0].state(digests)

    @classmethod
    def _concat_same_type(cls, to_concat):
        if len({part.dtype for part in to_concat}) > 1:
            dtype = to_concat[0].dtype._get_common_dtype([part.dtype for part in to_concat])
            to_concat = [part.astype(dtype) for part in to_concat]
        return super()._concat_same_type(to_concat)

    # -- hooks of RowViewArray ---------------------------------------------------------------

    def _cell(self, row):
        return self._storage.cell(row)

    def _key_of(self, cell):
        try:
            cell = as_cell(cell)
        except (TypeError, ValueError):
            return None
        with np.errstate(all="ignore"):
            cast = cell.astype(self._dtype.value_dtype)
        exact = np.array_equal(cell, cast, equal_nan=cell.dtype.kind in "fc")
        return array_digest(cast) if exact else None

    def _is_cell(self, value):
        numeric = hasattr(value, "__array__") and not isinstance(value, RowViewArray)
        if not numeric or getattr(value, "dtype", None) == np.dtype(object):
            return False
        return np.ndim(value) == len(self._dtype.cell_shape)

    def _format(self, cell):
        return format_cell(cell)

    def _cell_bytes(self, rows):
        shapes = self._storage.shapes(rows)
        return int(shapes.prod(axis=1).sum()) * self._dtype.value_dtype.itemsize

    def _values_for_argsort(self):
        raise TypeError(
            "TensorArray cannot be sorted: cells are arrays, which have no order. Sort the frame "
            "by another column."
        )

    def searchsorted(self, value, side="left", sorter=None):
        """Raise: cells are arrays, which have no order."""
        self._values_for_argsort()

    # -- casting -----------------------------------------------------------------------------

    def astype(self, dtype, copy=True):
        """Cast to object (cells), str, or another TensorDtype that the cells fit.

        Parameters
        ----------
        dtype : dtype-like
            A TensorDtype may widen the numbers, make fixed axes variable, and set a sample rate
            that was None; it cannot change a known rate.
        copy : bool, default=True
            Whether to return a new object even if nothing changes.
        """
        dtype = pandas_dtype(dtype)
        if isinstance(dtype, ConflictDtype):
            raise dtype.error(dtype.message)
        if not isinstance(dtype, TensorDtype) or dtype == self._dtype:
            return super().astype(dtype, copy=copy)
        check_same_rate(self._dtype.sample_rate, dtype.sample_rate)
        for row in _misfits(self, dtype):
            raise ValueError(f"row {row}: cell of {self._dtype} does not fit {dtype}")
        storage = self._storage.astype(dtype.value_dtype)
        if dtype.is_ragged:
            storage = storage.to_ragged()
        elif storage.is_ragged:
            return self._view(*store_cells(list(self), dtype, dtype.sample_rate))
        return self._view(storage, self._rows, dtype)

    # -- what encoders use -------------------------------------------------------------------

    @property
    def is_ragged(self):
        """Whether some axis varies between cells."""
        return self._dtype.is_ragged

    def cell_lengths(self):
        """Return the first-axis length of each cell: int64 (n,), 0 where absent."""
        lengths = np.zeros(len(self), np.int64)
        present = self._rows >= 0
        lengths[present] = self._storage.shapes(self._rows[present])[:, 0]
        return lengths

    def cell_shapes(self):
        """Return the shape of each cell: int64 (n, ndim), 0 where absent."""
        shapes = np.zeros((len(self), len(self._dtype.cell_shape)), np.int64)
        present = self._rows >= 0
        shapes[present] = self._storage.shapes(self._rows[present])
        return shapes

    def gather(self, positions=None, *, copy=True):
        """Return the cells, taken directly from the base.

        Parameters
        ----------
        positions : array-like of int or bool of shape (k,), or slice, default=None
            Rows to gather; None for all.
        copy : bool, default=True
            False returns a read-only view of the base if the rows are consecutive there. torch
            ignores the read-only flag: pass a copy if it may write to the cells.

        Returns
        -------
        cells : ndarray of shape (k, *cell_shape) or list of ndarray
            Dense: a new array, copied once from the base. Ragged: a list of read-only views.

        Raises
        ------
        ValueError
            If a row is absent.
        """
        rows = self._rows if positions is None else self._rows_at(positions)
        if (rows < 0).any():
            places = self._places(positions)
            raise ValueError(
                f"gather: row {places[rows < 0][0]} is absent ({int((rows < 0).sum())} of "
                f"{len(rows)} rows are). Pass the present rows: `array.gather(~array.isna())`."
            )
        return self._storage.gather(rows, copy=copy)


def _from_values(values, sample_rate, copy):
    """Build a TensorArray from a user's `values`."""
    if isinstance(values, str | bytes | dict | set):
        raise TypeError(f"values must be an array or a sequence of cells; got {type(values)}")
    if isinstance(values, RowViewArray) or hasattr(values, "array"):
        values = TensorArray._from_sequence(values)
        dtype = values.dtype
        rate = dtype.sample_rate if sample_rate is None else sample_rate
        return values.astype(TensorDtype(dtype.value_dtype, dtype.cell_shape, rate))
    values = as_numpy(values)
    if not isinstance(values, np.ndarray) or (values.dtype == object and values.ndim == 1):
        return TensorArray._view(*store_cells(list(values), None, sample_rate))
    if values.ndim < 2:
        raise TypeError(
            f"values has shape {values.shape}: its cells would be scalars. Use a plain numeric "
            "column, or add an axis with values[:, None]."
        )
    check_value_dtype(values.dtype)
    return _over(*take_in(values, copy), sample_rate)


def _over(values, source, sample_rate):
    """Return the TensorArray whose base is `values`."""
    storage = DenseStorage(values, source)
    dtype = TensorDtype(storage.value_dtype, values.shape[1:], sample_rate)
    return TensorArray._view(storage, np.arange(storage.n), dtype)


def _misfits(array, dtype):
    """Return the rows of `array` whose cells do not fit `dtype`."""
    present = np.flatnonzero(~array.isna())
    if len(dtype.cell_shape) != len(array.dtype.cell_shape):
        return present[:1]
    if not np.can_cast(array.dtype.value_dtype, dtype.value_dtype, "same_kind"):
        return present[:1]
    fixed = [axis for axis, length in enumerate(dtype.cell_shape) if length is not None]
    wanted = np.array([dtype.cell_shape[axis] for axis in fixed], np.int64)
    return present[(array.cell_shapes()[present][:, fixed] != wanted).any(axis=1)]


def join_cells(values, lengths, present):
    """Make a column of cells that are stored end to end.

    Parameters
    ----------
    values : ndarray of shape (total, ...)
        The column takes it over.
    lengths : ndarray of int of shape (n_present,)
        Length of each cell along the first axis.
    present : ndarray of shape (n_samples,), dtype=bool
        Where the cells belong; the others are absent.

    Returns
    -------
    column : TensorArray of length n_samples
        Dense where all cells are equally long; nothing is copied.
    """
    inner = values.shape[1:]
    if len(lengths) and (lengths == lengths[0]).all():
        cells = TensorArray._adopt(values.reshape(len(lengths), lengths[0], *inner))
    else:
        shapes = np.column_stack([lengths, np.tile(inner, (len(lengths), 1))])
        cells = TensorArray._adopt_flat(values.reshape(-1), shapes)
        cells = cells.astype(TensorDtype(values.dtype, (None, *inner)))
    if present.all():
        return cells
    return cells.take(np.where(present, np.cumsum(present) - 1, -1), allow_fill=True)
