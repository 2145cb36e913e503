"""Base storage behind the row views: cells, their digests, gathering, compaction."""

import hashlib
import threading
from functools import cache
from itertools import accumulate

import numpy as np

DIGEST_SIZE = 16  # bytes a cell
_LOCK = threading.Lock()


def read_only(array):
    """Return a plain, read-only ndarray view (of a memmap too) of `array`."""
    view = np.asarray(array).view()
    if view.dtype.isnative:
        view = view.view(native(view.dtype))
    view.flags.writeable = False
    return view


@cache
def native(dtype):
    """Return `dtype` in this machine's byte order, as numpy's own instance.

    Unpickled arrays carry fresh dtype instances; pickle's memo would tell them from the shared
    one, so that equal content would not give equal bytes.
    """
    return np.dtype(np.dtype(dtype).newbyteorder("=").str)


def blake(*parts):
    """Return the 16-byte blake2b digest of the concatenated `parts`."""
    hasher = hashlib.blake2b(digest_size=DIGEST_SIZE)
    for part in parts:
        hasher.update(part)
    return hasher.digest()


def array_digest(cell):
    """Digest one cell: dtype, shape and bytes, whatever its layout or byte order."""
    dtype = native(cell.dtype)
    cell = np.ascontiguousarray(cell, dtype=dtype)
    return blake(f"{dtype.str}{cell.shape}".encode(), cell)


def _canonical(values):
    """Return `values` itself if native, C-contiguous and of standard strides, else a copy."""
    dtype = native(values.dtype)
    if values.size == 0:
        return np.empty(values.shape, dtype)
    values = np.ascontiguousarray(values, dtype=dtype)
    steps = list(accumulate(reversed(values.shape[1:]), lambda a, b: a * b, initial=1))
    if values.strides != tuple(step * dtype.itemsize for step in reversed(steps)):
        # numpy lets axes of length 0 or 1 carry any stride; joblib.hash reads the strides
        values = values.reshape(-1).reshape(values.shape)
    return values


def is_identity(rows, n):
    """Whether `rows` is exactly 0, 1, ..., n - 1."""
    return len(rows) == n and bool((rows == np.arange(n)).all())


class Storage:
    """Cells of one base, shared by every view on it; never written after construction.

    Attributes
    ----------
    values : ndarray
        The cells' numbers, read-only.
    n : int
        Number of cells.
    """

    def __init__(self, n, digests, known):
        self.n = n
        self._known = np.ones(n, bool) if known is None and digests is not None else known
        self._digests = digests
        self._sealed = None

    def _digest(self, row):
        return array_digest(self.cell(row))

    def keys(self, rows):
        """Return the (len(rows), 16) keys that are equal where the cells are."""
        return self.digests(rows)

    def digests(self, rows):
        """Return the (len(rows), 16) digests of `rows`; each cell is read once per base."""
        with _LOCK:
            if self._digests is None:
                self._known = np.zeros(self.n, bool)
                self._digests = np.zeros((self.n, DIGEST_SIZE), np.uint8)
        if not self._known.all():
            for row in np.unique(rows[~self._known[rows]]):
                self._digests[row] = np.frombuffer(self._digest(row), np.uint8)
                self._known[row] = True
        return self._digests[rows]

    def _all_digests(self):
        """Return the digests of every cell, as the same array each time."""
        if self._sealed is None:
            self._sealed = read_only(_canonical(self.digests(np.arange(self.n))))
        return self._sealed

    def known(self, rows):
        """Return (digests, mask) already computed for `rows`, or (None, None)."""
        if self._digests is None:
            return None, None
        return self._digests[rows], self._known[rows]

    def changed(self, rows):
        """Return those of `rows` whose bytes no longer give their recorded digest."""
        if self._known is None:
            return np.empty(0, np.int64)
        now = (np.frombuffer(self._digest(r), np.uint8) for r in rows)
        pairs = zip(rows, now, strict=True)
        return np.array([r for r, d in pairs if self._known[r] and (d != self._digests[r]).any()])


class DenseStorage(Storage):
    """Cells of one shape: an ndarray or memmap (n, *cell_shape) of any layout."""

    is_ragged = False

    def __init__(self, values, digests=None, known=None):
        self.values = read_only(values)
        super().__init__(len(self.values), digests, known)
        self.value_dtype = native(self.values.dtype)

    def cell(self, row):
        """Return cell `row`, read-only."""
        cell = self.values[row]
        return cell if cell.dtype == self.value_dtype else read_only(cell.astype(self.value_dtype))

    def shapes(self, rows):
        """Return the (len(rows), ndim) cell shapes."""
        return np.tile(np.array(self.values.shape[1:], np.int64), (len(rows), 1))

    def gather(self, rows, *, copy=True):
        """Return a (len(rows), *cell_shape) array of the cells, a new one if not told otherwise."""
        # np.take would first copy the whole of a base that is not C-contiguous
        take = self.values.flags.c_contiguous
        if not copy and take and self.values.dtype.isnative and is_identity(rows, self.n):
            return self.values
        cells = self.values.take(rows, axis=0) if take else self.values[rows]
        return np.ascontiguousarray(cells, dtype=self.value_dtype)

    def compact(self, rows):
        """Return a storage of exactly `rows` in canonical layout; itself where it is one."""
        if is_identity(rows, self.n):
            values = _canonical(self.values)
            return self if values is self.values else DenseStorage(values, *self.known(rows))
        return DenseStorage(_canonical(self.gather(rows)), *self.known(rows))

    def to_ragged(self):
        """Return the same cells as a ragged storage; no copy where the base is canonical."""
        shapes = self.shapes(np.arange(self.n))
        return RaggedStorage(_canonical(self.values).reshape(-1), shapes, *self.known(slice(None)))

    def astype(self, dtype):
        """Return the cells cast to `dtype`."""
        return self if dtype == self.value_dtype else DenseStorage(self.values.astype(dtype))

    def state(self):
        """Return the plain arrays that rebuild this storage, digests included."""
        return self.values, self._all_digests()

    @classmethod
    def concat(cls, parts):
        """Return one storage of the cells of all `parts`."""
        return cls(np.concatenate([part.values for part in parts]), *_join_known(parts))


class RaggedStorage(Storage):
    """Cells of one number of axes and any lengths: flat values and one shape a cell."""

    is_ragged = True

    def __init__(self, values, shapes, digests=None, known=None):
        self.values = read_only(values)
        self._shapes = read_only(_canonical(np.asarray(shapes, np.int64)))
        super().__init__(len(self._shapes), digests, known)
        self.value_dtype = native(self.values.dtype)
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
            same = values is self.values
            return self if same else type(self)(values, self._shapes, *self.known(rows))
        shapes = self._shapes[rows]
        values = np.empty(int(shapes.prod(axis=1).sum()), self.value_dtype)
        start = 0
        for row in rows:
            cell = self.values[self.offsets[row] : self.offsets[row + 1]]
            values[start : start + len(cell)] = cell
            start += len(cell)
        return type(self)(values, shapes, *self.known(rows))

    def to_ragged(self):
        """Return itself."""
        return self

    def astype(self, dtype):
        """Return the cells cast to `dtype`."""
        if dtype == self.value_dtype:
            return self
        return RaggedStorage(self.values.astype(dtype), self._shapes)

    def plain(self):
        """Return the plain arrays that hold the cells."""
        return self.values, self._shapes

    def state(self):
        """Return the plain arrays that rebuild this storage, digests included."""
        return *self.plain(), self._all_digests()

    @classmethod
    def concat(cls, parts):
        """Return one storage of the cells of all `parts`."""
        values = np.concatenate([part.values for part in parts])
        shapes = np.concatenate([part._shapes for part in parts])
        return cls(values, shapes, *_join_known(parts))


def _join_known(parts):
    """Concatenate what digests of `parts` are known; (None, None) where none is."""
    if all(part._digests is None for part in parts):
        return None, None
    blank = [(np.zeros((p.n, DIGEST_SIZE), np.uint8), np.zeros(p.n, bool)) for p in parts]
    pairs = [
        z if p._digests is None else (p._digests, p._known)
        for p, z in zip(parts, blank, strict=True)
    ]
    return tuple(np.concatenate(each) for each in zip(*pairs, strict=True))
