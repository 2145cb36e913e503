"""FileDtype and FileArray: a pandas column of files, read when a batch is drawn."""

import operator
import os

import numpy as np
import pandas as pd
from pandas.api.types import pandas_dtype

from sklearn_mmfusion._decoders import read_file
from sklearn_mmfusion.containers.dtypes import ConflictDtype, FileDtype, check_same_rate
from sklearn_mmfusion.containers.row_view_array import RowViewArray
from sklearn_mmfusion.containers.storage import RaggedStorage, array_digest, blake, is_absent


class FileStorage(RaggedStorage):
    """Paths as flat bytes; a cell's digest covers its file's path, size and modification time."""

    def _stamp(self):
        return None  # files may change at any time

    def path(self, row):
        """Return path `row` as text."""
        return os.fsdecode(self.cell(row).tobytes())

    def _digest(self, row):
        path = os.path.abspath(self.path(row))  # a relative one is another file in another folder
        try:
            status = os.stat(path)
            state = f"{status.st_size} {status.st_mtime_ns}"
        except OSError:  # reading it raises; here it only has to differ from an existing file
            state = "absent"
        return blake(os.fsencode(path), b"\0", state.encode())

    def keys(self, rows):
        """Return the (len(rows), 16) digests of the paths alone."""
        keys = b"".join(array_digest(self.cell(row)) for row in rows)
        return np.frombuffer(keys, np.uint8).reshape(len(rows), 16)


class FileArray(RowViewArray):
    """Extension array whose cells are paths of image, audio or array files.

    Nothing is read until a batch is decoded. Behaves in a frame like text, sorts by path, and
    slices like a TensorArray. Assigning NA marks a cell absent; other assignments are errors.

    Parameters
    ----------
    paths : sequence of str or path-like
        None, NaN and pandas.NA are absent cells.
    root : str or path-like, default=None
        Folder of relative paths; joined to them immediately.
    sample_rate : float or None, default=None
        Rate that every recording must have, in Hz; None accepts any.

    Raises
    ------
    TypeError
        If a cell is neither text nor path-like.
    ValueError
        If a path is empty.

    Notes
    -----
    A cell's digest covers its absolute path, the file's size and its modification time. It is
    computed again at every use.

    Examples
    --------
    >>> from sklearn_mmfusion.containers import FileArray
    >>> FileArray(["a.png", None], root="photos")
    <FileArray>
    ['photos/a.png', NaN]
    Length: 2, dtype: file
    """

    _dtype_class = FileDtype
    _has_order = True

    def __init__(self, paths, *, root=None, sample_rate=None):
        if isinstance(paths, str | bytes | os.PathLike):
            raise TypeError(f"paths must be a sequence of paths; got the single {paths!r}")
        stated = getattr(getattr(paths, "dtype", None), "sample_rate", None)
        made = _from_paths(list(paths), FileDtype(stated), root)
        if sample_rate is not None:
            made = made.astype(FileDtype(sample_rate))
        self._storage, self._rows, self._dtype = made._storage, made._rows, made._dtype
        self._compacted = None

    @classmethod
    def _from_sequence(cls, scalars, *, dtype=None, copy=False):
        dtype = pandas_dtype(dtype) if dtype is not None else getattr(scalars, "dtype", None)
        dtype = dtype if isinstance(dtype, FileDtype) else FileDtype()
        array = getattr(scalars, "array", scalars)
        if isinstance(array, cls):
            return array.astype(dtype)
        return _from_paths(list(array), dtype)

    @classmethod
    def _from_sequence_of_strings(cls, strings, *, dtype, copy=False):
        return cls._from_sequence(strings, dtype=dtype)

    @classmethod
    def _storage_from_state(cls, state, dtype):
        return FileStorage(*state)

    def _state(self):
        return self._storage.compact(self._rows[self._rows >= 0]).plain()

    def _cell(self, row):
        return self._storage.path(row)

    def _key_of(self, cell):
        if not isinstance(cell, str | os.PathLike):
            return None
        return array_digest(np.frombuffer(os.fsencode(cell), np.uint8))

    def _is_cell(self, value):
        return isinstance(value, str | os.PathLike)

    def _format(self, cell):
        return cell

    def _formatter(self, boxed=False):
        return lambda cell: "NaN" if is_absent(cell) else (cell if boxed else repr(cell))

    def _cell_bytes(self, rows):
        return int(self._storage.shapes(rows).sum())

    def _ordered(self, other, compare):
        """Compare paths as text; an absent cell compares False."""
        if isinstance(other, pd.Series | pd.DataFrame | pd.Index):
            return NotImplemented
        others = [other] * len(self) if self._is_cell(other) else list(other)
        pairs = zip(self, others, strict=True)
        known = (not (is_absent(a) or is_absent(b)) and compare(a, b) for a, b in pairs)
        return np.fromiter(known, bool, len(self))

    def __lt__(self, other):
        return self._ordered(other, operator.lt)

    def __le__(self, other):
        return self._ordered(other, operator.le)

    def __gt__(self, other):
        return self._ordered(other, operator.gt)

    def __ge__(self, other):
        return self._ordered(other, operator.ge)

    def _values_for_argsort(self):
        return np.where(self.isna(), "", np.asarray(self)).astype(object)

    def sort(self, *, ascending=True, kind="quicksort", na_position="last"):
        """Sort in place, by path."""
        if getattr(self, "_readonly", False):
            raise ValueError("Cannot modify read-only array")
        order = self.argsort(ascending=ascending, kind=kind, na_position=na_position)
        self._rows, self._compacted = self.take(order)._rows, None

    def astype(self, dtype, copy=True):
        """Cast to object or str (paths), or to a FileDtype, if the sample rate is unknown."""
        dtype = pandas_dtype(dtype)
        if isinstance(dtype, ConflictDtype):
            raise dtype.error(dtype.message)
        if isinstance(dtype, FileDtype) and dtype != self._dtype:
            check_same_rate(self._dtype.sample_rate, dtype.sample_rate)
            return self._view(self._storage, self._rows, dtype)
        return super().astype(dtype, copy=copy)

    def decode(self, positions=None):
        """Read the files.

        Parameters
        ----------
        positions : array-like of int or bool of shape (k,), or slice, default=None
            Rows to read; None for all.

        Returns
        -------
        arrays : list of ndarray, length k
            Images (height, width[, channels]); recordings float32 (n_samples[, n_channels]);
            arrays as they are.

        Raises
        ------
        ValueError
            If a row is absent, its file has an unknown suffix or another sample rate, or cannot
            be decoded; the message names row and path.
        TypeError
            If an array file does not hold numbers.
        FileNotFoundError
            If a file is missing.
        """
        return [self.decode_one(place)[0] for place in self._places(positions)]

    def decode_one(self, position):
        """Read one file.

        Parameters
        ----------
        position : int
            Row, from 0.

        Returns
        -------
        array : ndarray
            See `decode`.
        sample_rate : float or None
            Rate of the recording, or that of the column for an array file, in Hz.

        Raises
        ------
        ValueError, TypeError or FileNotFoundError
            See `decode`.
        """
        row = self._rows[position]
        if row < 0:
            raise ValueError(
                f"decode: row {position} is absent. Pass the present rows: "
                "`array.decode(~array.isna())`."
            )
        path = self._cell(row)
        try:
            return read_file(path, sample_rate=self._dtype.sample_rate)
        except FileNotFoundError as error:
            where = "" if os.path.isabs(path) else f" in {os.getcwd()!r}; set root="
            message = f"row {position}: there is no file {path!r}{where}"
            raise FileNotFoundError(message) from error
        except ImportError:
            raise
        except Exception as error:  # of any type; the message must name the row
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"row {position}: cannot read {path!r}: {error}") from error


def _from_paths(paths, dtype, root=None):
    """Build a FileArray of a list of paths."""
    rows = np.full(len(paths), -1, np.int64)
    encoded = []
    for row, path in enumerate(paths):
        if is_absent(path):
            continue
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f"row {row}: expected a path; got {type(path).__name__}")
        if os.fspath(path) == "":
            raise ValueError(f"row {row}: the path is empty; mark an absent file with None")
        rows[row] = len(encoded)
        encoded.append(os.fsencode(path if root is None else os.path.join(root, path)))
    lengths = np.array([len(path) for path in encoded], np.int64).reshape(-1, 1)
    storage = FileStorage(np.frombuffer(b"".join(encoded), np.uint8), lengths)
    return FileArray._view(storage, rows, dtype)


# -- texts that may be paths ----------------------------------------------------------------------


def file_states(data, roots):
    """The files that texts of the data may be the paths of, under each of the roots."""
    columns = [data] if isinstance(data, pd.Series) else []
    if isinstance(data, pd.DataFrame):
        columns = [data.iloc[:, j] for j in range(data.shape[1])]
    texts = [column for column in columns if not isinstance(column.array, RowViewArray)]
    paths = [[c if type(c) is str and c else None for c in t] for t in texts if roots]
    return [FileArray(cells, root=root) for root in roots for cells in paths]


def has_digests(data):
    """Whether data are a Series of cells that have a digest each."""
    is_column = isinstance(data, pd.Series)
    return is_column and (isinstance(data.array, RowViewArray) or all(type(c) is str for c in data))


def cell_digests(column, roots):
    """Digests (n, 16) of a Series of present cells, texts with the files they may be paths of."""
    if isinstance(column.array, RowViewArray):
        return column.array.digests()
    files = [FileArray(list(column), root=root).digests() for root in roots]
    rows = [blake("text", *row) for row in zip(column, *files, strict=True)]
    return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 16)
