"""Store the cells of a column in one base array, or in flat values and offsets.

The owner of the memory decides whether digests are kept. Memory allocated by the package is sealed:
no other code can write to it. A memory map opened with mode "r" is identified by the size and
modification time of its file. Other memory may change at any time and is hashed in full at every
call: a read-only flag is no guarantee while an older view is still writable.
"""

import hashlib
import mmap
import os
import threading
from itertools import accumulate

import numpy as np
import pandas as pd
from pandas.api.types import is_scalar

from sklearn_mmfusion._decoders import pil_pixels, raise_passing
from sklearn_mmfusion._validation import as_numpy
from sklearn_mmfusion.containers.dtypes import (
    TensorDtype,
    check_value_dtype,
    common_value_dtype,
    native,
)

DIGEST_SIZE = 16  # bytes per cell
OWNED = ""  # source of memory that only the package can access
_LOCK = threading.Lock()


def is_absent(cell):
    """Whether `cell` is one of None, NaN, pandas.NA, NaT."""
    return cell is None or (is_scalar(cell) and bool(pd.isna(cell)))


def read_only(array):
    """Return a read-only ndarray view of `array`, which may be a memmap."""
    view = np.asarray(array).view()
    if view.dtype.isnative:
        view = view.view(native(view.dtype))
    view.flags.writeable = False
    return view


def seal(values):
    """Return `values` on the same memory, made read-only for good, also through `base`.

    Setting ``flags.writeable`` of the result, or of its base, raises an error.
    """
    if values.size == 0:
        return read_only(values)
    values = np.ascontiguousarray(values)
    flat = memoryview(values.reshape(-1).view(np.uint8)).toreadonly()
    return read_only(np.frombuffer(flat, values.dtype).reshape(values.shape))


def memory_map(values):
    """Return the memory map that `values` is a view of, None if there is none."""
    while isinstance(values, np.ndarray | memoryview):
        if isinstance(values, np.memmap) and values.mode is not None:
            return values
        values = values.obj if isinstance(values, memoryview) else values.base
    return values if isinstance(values, mmap.mmap) else None


def source_of(values):
    """Return the file of a read-only memory map, None for other memory."""
    mapped = memory_map(values)
    is_read_only = isinstance(mapped, np.memmap) and mapped.mode == "r"
    return None if not is_read_only or mapped.filename is None else str(mapped.filename)


def take_in(values, copy):
    """Return (values, source) of a user's array.

    An ndarray is copied if `copy`, a memory map never.
    """
    if not copy or memory_map(values) is not None:
        return values, source_of(values)
    return np.array(values, native(values.dtype), order="C", copy=True, subok=False), OWNED


def restored_source(values):
    """Return the source of an unpickled array, to which no other code has a reference."""
    return OWNED if memory_map(values) is None else source_of(values)


def blake(*parts):
    """Return the 16-byte blake2b digest of texts and buffers, with sizes if more than one."""
    hasher = hashlib.blake2b(digest_size=DIGEST_SIZE)
    for part in parts:
        part = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        if len(parts) > 1:
            size = part.nbytes if isinstance(part, np.ndarray) else len(part)
            hasher.update(size.to_bytes(8, "little"))
        hasher.update(part)
    return hasher.digest()


def array_digest(cell):
    """Digest one cell: dtype, shape and content, for any layout or byte order."""
    dtype = native(cell.dtype)
    cell = np.ascontiguousarray(cell, dtype=dtype)
    return blake(f"{dtype.str}{cell.shape}", cell)


def _canonical(values):
    """Return `values` itself if native, C-contiguous and with standard strides, else a copy."""
    dtype = native(values.dtype)
    if values.size == 0:
        return np.empty(values.shape, dtype)
    values = np.ascontiguousarray(values, dtype=dtype)
    steps = list(accumulate(reversed(values.shape[1:]), lambda a, b: a * b, initial=1))
    if values.strides != tuple(step * dtype.itemsize for step in reversed(steps)):
        # axes of length 0 or 1 may have any stride in numpy, and joblib.hash reads strides
        values = values.reshape(-1).reshape(values.shape)
    return values


def is_identity(rows, n):
    """Whether `rows` is exactly 0, 1, ..., n - 1."""
    return len(rows) == n and bool((rows == np.arange(n)).all())


class Storage:
    """Cells of one base, shared by all its views; never written to after construction.

    Parameters
    ----------
    values : ndarray
    n : int
        Number of cells.
    source : str or None
        `OWNED`, the file of a read-only memory map, or None for memory that may change.
    kept : (digests, known) or None
        Digests (n, 16) of the cells, and a mask of those that are known.

    Attributes
    ----------
    values : ndarray
        The cells' numbers, read-only.
    """

    def __init__(self, values, n, source, kept):
        self.values = seal(values) if source == OWNED else read_only(values)
        self.value_dtype = native(self.values.dtype)
        self.n = n
        self.source = source
        self._kept = None if kept is None else (self._stamp(), *kept)
        self._sealed = None

    def _stamp(self):
        """Return a stamp that changes with the memory; None if changes cannot be detected."""
        if not self.source:
            return None if self.source is None else (OWNED,)
        try:
            status = os.stat(self.source)
        except OSError as error:
            raise_passing(error)
            return None
        return status.st_size, status.st_mtime_ns

    def _digest(self, row):
        return array_digest(self.cell(row))

    def keys(self, rows):
        """Return (len(rows), 16) keys, equal if and only if the cells are."""
        return self.digests(rows)

    def digests(self, rows):
        """Return the (len(rows), 16) digests of `rows`.

        Each cell is read once per base, or at every call if the memory may have changed.
        """
        stamp = self._stamp()
        if stamp is None:
            rows, places = np.unique(rows, return_inverse=True)
            found = b"".join(map(self._digest, rows))
            return np.frombuffer(found, np.uint8).reshape(-1, DIGEST_SIZE)[places]
        with _LOCK:
            if self._kept is None or self._kept[0] != stamp:
                empty = np.zeros((self.n, DIGEST_SIZE), np.uint8), np.zeros(self.n, bool)
                self._kept = stamp, *empty
            _, digests, known = self._kept
        for row in np.unique(rows[~known[rows]]):
            digests[row] = np.frombuffer(self._digest(row), np.uint8)
            known[row] = True
        return digests[rows]

    def kept(self, rows):
        """Return the stored (digests, known) of `rows`, None if there are none."""
        stamp = self._stamp()
        if stamp is None or self._kept is None or self._kept[0] != stamp:
            return None
        return self._kept[1][rows], self._kept[2][rows]

    def source_for(self, values):
        """Return the source of `values` derived from this storage: the same if they are a view."""
        return self.source if np.may_share_memory(values, self.values) else OWNED

    def state(self, digests):
        """Return the plain arrays that rebuild this storage, whose cells have these digests.

        Each call returns the same arrays unless the memory has changed: joblib recognizes by
        identity the arrays it has already written for its workers, and arrays pickled together
        share their memory when loaded. No caller keeps a reference to them.
        """
        if self._sealed is None or not np.array_equal(self._sealed[-1], digests):
            self._sealed = *self.plain(), read_only(_canonical(digests))
        return self._sealed


class DenseStorage(Storage):
    """Cells of one shape: an ndarray or memmap (n, *cell_shape) of any layout."""

    is_ragged = False

    def __init__(self, values, source=OWNED, kept=None):
        super().__init__(values, len(values), source, kept)

    def cell(self, row):
        """Return cell `row`, read-only."""
        cell = self.values[row]
        return cell if cell.dtype == self.value_dtype else read_only(cell.astype(self.value_dtype))

    def shapes(self, rows):
        """Return the (len(rows), ndim) cell shapes."""
        return np.tile(np.array(self.values.shape[1:], np.int64), (len(rows), 1))

    def gather(self, rows, *, copy=True):
        """Return a (len(rows), *cell_shape) array of the cells, a new one if `copy`.

        Without, consecutive rows are a read-only view.
        """
        # np.take would first copy the whole base if it is not C-contiguous
        take = self.values.flags.c_contiguous
        if not copy and take and self.values.dtype.isnative and len(rows):
            if is_identity(rows - rows[0], len(rows)):
                return read_only(self.values[rows[0] : rows[0] + len(rows)])
        cells = self.values.take(rows, axis=0) if take else self.values[rows]
        return np.ascontiguousarray(cells, dtype=self.value_dtype)

    def compact(self, rows):
        """Return a storage of exactly `rows` in canonical layout; itself where it is one."""
        if not is_identity(rows, self.n):
            return DenseStorage(_canonical(self.gather(rows)), OWNED, self.kept(rows))
        values = _canonical(self.values)
        if values is self.values:
            return self
        return DenseStorage(values, self.source_for(values), self.kept(rows))

    def to_ragged(self):
        """Return the same cells as a ragged storage, without a copy if the base is canonical."""
        rows = np.arange(self.n)
        values = _canonical(self.values).reshape(-1)
        return RaggedStorage(values, self.shapes(rows), self.source_for(values), self.kept(rows))

    def astype(self, dtype):
        """Return the cells cast to `dtype`."""
        return self if dtype == self.value_dtype else DenseStorage(self.values.astype(dtype))

    def plain(self):
        """Return the plain arrays that hold the cells, in a new view."""
        return (self.values[:],)

    @classmethod
    def concat(cls, parts):
        """Return one storage of the cells of all `parts`."""
        return cls(np.concatenate([part.values for part in parts]), OWNED, _join_kept(parts))


class RaggedStorage(Storage):
    """Cells with equal numbers of axes and any lengths: flat values and one shape per cell."""

    is_ragged = True

    def __init__(self, values, shapes, source=OWNED, kept=None):
        self._shapes = read_only(_canonical(np.asarray(shapes, np.int64)))
        super().__init__(values, len(self._shapes), source, kept)
        self.offsets = np.zeros(self.n + 1, np.int64)
        np.cumsum(self._shapes.prod(axis=1), out=self.offsets[1:])

    def cell(self, row):
        """Return cell `row`, read-only."""
        cell = self.values[self.offsets[row] : self.offsets[row + 1]].reshape(self._shapes[row])
        return cell if cell.dtype == self.value_dtype else read_only(cell.astype(self.value_dtype))

    def shapes(self, rows):
        """Return the (len(rows), ndim) cell shapes."""
        return self._shapes[rows]

    def gather(self, rows, *, copy=True):
        """Return a list of read-only views of the cells."""
        return [self.cell(row) for row in rows]

    def compact(self, rows):
        """Return a storage of exactly `rows` in canonical layout; itself where it is one."""
        if is_identity(rows, self.n):
            values = _canonical(self.values)
            if values is self.values:
                return self
            return type(self)(values, self._shapes, self.source_for(values), self.kept(rows))
        shapes = self._shapes[rows]
        values = np.empty(int(shapes.prod(axis=1).sum()), self.value_dtype)
        start = 0
        for row in rows:
            cell = self.values[self.offsets[row] : self.offsets[row + 1]]
            values[start : start + len(cell)] = cell
            start += len(cell)
        return type(self)(values, shapes, OWNED, self.kept(rows))

    def to_ragged(self):
        """Return itself."""
        return self

    def astype(self, dtype):
        """Return the cells cast to `dtype`."""
        if dtype == self.value_dtype:
            return self
        return RaggedStorage(self.values.astype(dtype), self._shapes)

    def plain(self):
        """Return the plain arrays that hold the cells, the values in a new view."""
        return self.values[:], self._shapes

    @classmethod
    def concat(cls, parts):
        """Return one storage of the cells of all `parts`."""
        values = np.concatenate([part.values for part in parts])
        shapes = np.concatenate([part._shapes for part in parts])
        return cls(values, shapes, OWNED, _join_kept(parts))


def _join_kept(parts):
    """Concatenate the stored digests of `parts`; None if there are none."""
    pairs = [part.kept(slice(None)) for part in parts]
    if not any(pairs):
        return None
    return tuple(
        np.concatenate(each)
        for each in zip(
            *(
                pair or (np.zeros((part.n, DIGEST_SIZE), np.uint8), np.zeros(part.n, bool))
                for pair, part in zip(pairs, parts, strict=True)
            ),
            strict=True,
        )
    )


def format_cell(cell):
    """Return a cell's dtype and shape as text, without its numbers."""
    return f"<{cell.dtype} {'x'.join(map(str, cell.shape))}>"


def as_cell(value):
    """Return one cell as a numeric array of at least one axis.

    Raises
    ------
    TypeError
        If `value` is text, a scalar, or not a numeric array.
    """
    if isinstance(value, str | bytes | dict | set):
        raise TypeError(f"got {type(value).__name__}")
    # (rate, samples) as scipy reads it, (samples, rate) as librosa does
    if isinstance(value, tuple) and len(value) == 2 and len(set(map(np.isscalar, value))) == 2:
        raise TypeError(
            "got what may be a pair of a sample rate and samples. Pass only the samples, and set "
            "the rate with TensorArray(samples, sample_rate=rate)"
        )
    value = as_numpy(value)
    if hasattr(value, "getbands"):  # a PIL image
        value = pil_pixels(value)
    try:
        cell = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"got {type(value).__name__}, not an array: {error}") from error
    if cell.ndim == 0 and cell.dtype.kind in "biufc":
        raise TypeError(f"got the scalar {value!r}; a column of scalars is a numeric column")
    if cell.dtype.kind not in "biufc":
        raise TypeError(f"got {type(value).__name__} of dtype {cell.dtype}")
    check_value_dtype(cell.dtype)
    return cell


def store_cells(values, dtype, sample_rate):
    """Return (storage, rows, dtype) of a list of cells; `dtype` None is inferred."""
    absent = np.array([is_absent(value) for value in values], bool)
    present = np.flatnonzero(~absent)
    cells = []
    for row in present:
        try:
            cells.append(as_cell(values[row]))
        except TypeError as error:
            raise TypeError(f"row {row}: expected a numeric array; {error}") from error
    if any(
        cell.size and cell.dtype.kind == "f" for cell in cells
    ):  # [1, 2] next to [0.5]: Python numbers
        weak = [isinstance(values[row], list | tuple) for row in present]
        cells = [
            cell.astype(float) if is_list and cell.dtype.kind in "iu" else cell
            for cell, is_list in zip(cells, weak, strict=True)
        ]
    if dtype is None:
        dtype = _infer_dtype(cells, present, sample_rate)
    storage = _store(cells, present, dtype)
    rows = np.full(len(values), -1, np.int64)
    rows[present] = np.arange(len(present))
    return storage, rows, dtype


def _infer_dtype(cells, rows, sample_rate):
    """Return the narrowest dtype of `cells`, which are those of `rows`."""
    if not cells:  # unknown: the dtype that can be joined with most others
        return TensorDtype(np.float32, (None,), sample_rate)
    for row, cell in zip(rows, cells, strict=True):
        if cell.ndim != cells[0].ndim:
            raise ValueError(
                f"row {row}: cell of shape {cell.shape}; the cell of row {rows[0]} has shape "
                f"{cells[0].shape}. All cells of a column must have the same number of axes."
            )
    # np.asarray([]) is always float: only cells with numbers in them decide
    sized = [cell for cell in cells if cell.size] or cells
    common = common_value_dtype(list({native(cell.dtype) for cell in sized}))
    if common is None:
        raise _kinds_error([(r, c.dtype) for r, c in zip(rows, cells, strict=True) if c.size])
    axes = zip(*(cell.shape for cell in cells), strict=True)
    shape = tuple(lengths[0] if len(set(lengths)) == 1 else None for lengths in axes)
    return TensorDtype(common, shape, sample_rate)


def _kinds_error(pairs):
    """The TypeError for cells, given by row and dtype, that hold several kinds of numbers."""
    (first, common), *others = pairs
    for row, dtype in others:
        widened = common_value_dtype([common, dtype])
        if widened is None:
            return TypeError(
                f"row {row}: cell of {dtype} in a column with cells of {common} (first in row "
                f"{first}). All cells of a column must hold the same kind of number; convert them "
                "first."
            )
        common = widened


def _store(cells, rows, dtype):
    """Copy `cells` into one storage of `dtype`; raise if one does not fit."""
    shape, values = dtype.cell_shape, dtype.value_dtype
    for row, cell in zip(rows, cells, strict=True):
        fits = len(cell.shape) == len(shape) and all(
            want in (None, got) for want, got in zip(shape, cell.shape, strict=True)
        )
        if not fits or (cell.size and not np.can_cast(cell.dtype, values, "same_kind")):
            raise ValueError(
                f"row {row}: cell of {cell.dtype} and shape {cell.shape} does not fit {dtype}"
            )
    if not dtype.is_ragged:
        base = np.empty((len(cells), *shape), values)
        for i, cell in enumerate(cells):
            base[i] = cell
        return DenseStorage(base)
    shapes = np.array([cell.shape for cell in cells], np.int64).reshape(len(cells), len(shape))
    flat = [np.ascontiguousarray(cell, dtype=values).reshape(-1) for cell in cells]
    return RaggedStorage(np.concatenate(flat) if flat else np.empty(0, values), shapes)
