"""FileDtype and FileArray: a pandas column of files, read when a batch is drawn."""

import operator
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
from pandas.api.types import pandas_dtype

from sklearn_mmfusion._decoders import (
    ALLOWED,
    RefusedError,
    ignored_warnings,
    raise_passing,
    read_file,
)
from sklearn_mmfusion._file_formats import file_kind
from sklearn_mmfusion._file_options import AS_STORED, DEFAULT, FileOptions, leaves_root
from sklearn_mmfusion.containers.dtypes import ConflictDtype, FileDtype, check_same_rate
from sklearn_mmfusion.containers.row_view_array import RowViewArray
from sklearn_mmfusion.containers.storage import RaggedStorage, blake, is_absent

CONTENT, ROOTED = b"\0c", b"\0r"


class FileStorage(RaggedStorage):
    """Paths, or contents of files, as flat bytes.

    A cell's digest covers its file's path, size and modification time, or its content. No path
    holds a NUL: a content is stored as `CONTENT`, name of the file, NUL, content; a path that is
    joined to a root folder as `ROOTED`, path.
    """

    def _stamp(self):
        return None  # files may change at any time

    def file_at(self, row):
        """Return a path as str, or a content as bytes, and a name of it for messages."""
        cell = self.cell(row).tobytes()
        if not cell.startswith(CONTENT):
            return (path := os.fsdecode(cell.removeprefix(ROOTED))), path
        name, content = cell.removeprefix(CONTENT).split(b"\0", 1)
        return content, os.fsdecode(name)

    def is_rooted(self, row):
        """Whether a cell is a path that is joined to its root folder, or a content."""
        return self.cell(row)[:1].tobytes() == b"\0"

    def _digest(self, row):
        source, _ = self.file_at(row)
        if isinstance(source, bytes):
            return blake(source)
        path = os.path.abspath(source)  # a relative path names another file in another folder
        try:
            status = os.stat(path)
            state = f"{status.st_size} {status.st_mtime_ns}"
        except OSError as error:
            raise_passing(error)  # others are raised when the file is read
            state = "absent"
        return blake(os.fsencode(path), b"\0", state.encode())

    def keys(self, rows):
        """Return the (len(rows), 16) digests of the paths alone, and of the contents."""
        keys = b"".join(key_of_source(self.file_at(row)[0]) for row in rows)
        return np.frombuffer(keys, np.uint8).reshape(len(rows), 16)


def key_of_source(source):
    return blake(source if isinstance(source, bytes) else b"\0" + os.fsencode(source))


class FileArray(RowViewArray):
    """Extension array whose cells are paths of image, audio, array or text files, or contents.

    Nothing is read until a batch is decoded. Behaves in a frame like text, sorts by path, and
    slices like a TensorArray. Assigning NA marks a cell absent; other assignments are errors.

    Parameters
    ----------
    paths : sequence of str, path-like, bytes or dict
        Paths; or contents of files, as bytes or ``{"bytes": content, "path": name}``, as image
        data sets store them in parquet (if "bytes" is None, the path is read). None, NaN and
        pandas.NA are absent cells.
    root : str or path-like, default=None
        Folder of relative paths; joined to them immediately. No path may leave it; links inside
        it are followed.
    sample_rate : float or None, default=None
        Rate that every recording must have, in Hz; None accepts any.
    outside_root : bool, default=False
        Whether paths may leave `root`: absolute ones, and those that contain "..".

    Raises
    ------
    TypeError
        If a cell is neither a path nor a content.
    ValueError
        If a path is empty, or leaves `root`.

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

    def __init__(self, paths, *, root=None, sample_rate=None, outside_root=False):
        if isinstance(paths, str | bytes | os.PathLike):
            raise TypeError(f"paths must be a sequence of paths; got the single {paths!r}")
        stated = getattr(getattr(paths, "dtype", None), "sample_rate", None)
        options = FileOptions(root=root, outside_root=outside_root)
        made, refused = as_files(list(paths), options, FileDtype(stated))
        for error in refused.values():
            raise error
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
        made, refused = as_files(list(array), DEFAULT, dtype)
        for error in refused.values():
            raise error
        return made

    @classmethod
    def _from_sequence_of_strings(cls, strings, *, dtype, copy=False):
        return cls._from_sequence(strings, dtype=dtype)

    @classmethod
    def _storage_from_state(cls, state, dtype):
        return FileStorage(*state)

    def _state(self):
        return self._storage.compact(self._rows[self._rows >= 0]).plain()

    def _cell(self, row):
        return self._storage.file_at(row)[0]

    def _key_of(self, cell):
        return key_of_source(cell) if self._is_cell(cell) else None

    def _is_cell(self, value):
        return isinstance(value, str | bytes | os.PathLike)

    def _format(self, cell):
        return f"<{len(cell)} bytes>" if isinstance(cell, bytes) else cell

    def _formatter(self, boxed=False):
        def text(cell):
            if is_absent(cell):
                return "NaN"
            return self._format(cell) if boxed or isinstance(cell, bytes) else repr(cell)

        return text

    def _cell_bytes(self, rows):
        return int(self._storage.shapes(rows).sum())

    def _ordered(self, other, compare):
        """Compare paths as text; an absent cell compares False."""
        if isinstance(other, pd.Series | pd.DataFrame | pd.Index):
            return NotImplemented
        others = [other] * len(self) if self._is_cell(other) else list(other)
        pairs = zip(self, others, strict=True)
        known = (
            not (is_absent(a) or is_absent(b)) and compare(os.fsencode(a), os.fsencode(b))
            for a, b in pairs
        )
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
        cells = [b"" if is_absent(cell) else os.fsencode(cell) for cell in self]
        return np.array([*cells, None], dtype=object)[:-1]  # bytes that end in NUL stay whole

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

    def _files(self):
        """Return the cells as paths, dicts of content ("bytes") and name ("path"), or None."""
        pairs = [None if row < 0 else self._storage.file_at(row) for row in self._rows]
        return [
            {"bytes": pair[0], "path": pair[1] or None}
            if pair and isinstance(pair[0], bytes)
            else pair and pair[0]
            for pair in pairs
        ]

    def decode(self, positions=None):
        """Read the files.

        Parameters
        ----------
        positions : array-like of int or bool of shape (k,), or slice, default=None
            Rows to read; None for all.

        Returns
        -------
        arrays : list of ndarray or str, length k
            Images (height, width[, channels]); recordings float32 (n_samples[, n_channels]);
            arrays and texts as they are.

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
        return [array for array, _ in in_threads(self.decode_one, self._places(positions))]

    def decode_one(self, position, options=AS_STORED, kind=None):
        """Read one file.

        Parameters
        ----------
        position : int
            Row, from 0.
        options : FileOptions, default=AS_STORED
        kind : {"image", "audio", "video", "array", "text"}, default=None
            Kind of the file; None determines it by the suffix or, of a content, the first bytes.

        Returns
        -------
        array : ndarray or str
            See `decode`.
        sample_rate : float or None
            Rate of the recording, or that of the column for an array file, in Hz.

        Raises
        ------
        ValueError, TypeError or FileNotFoundError
            See `decode`.
        """
        rate = self._dtype.sample_rate
        return self.apply(position, read_file, sample_rate=rate, options=options, kind=kind)

    def apply(self, position, read, **arguments):
        """Read one file with a custom function, whose errors then name row and path.

        Parameters
        ----------
        position : int
            Row, from 0.
        read : callable
            Called as ``read(path or content, **arguments)``.
        **arguments : dict
            Keyword arguments of `read`.

        Returns
        -------
        result : object
            That of `read`.

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
        source, name = self._storage.file_at(row)
        try:
            return read(source, **arguments)
        except FileNotFoundError as error:
            where = "" if os.path.isabs(name) else f" in {os.getcwd()!r}"
            if where and not self._storage.is_rooted(row):
                where += "; set root to its folder"
            where += "; URLs are not read, download the files" if "://" in name else ""
            message = f"row {position}: there is no file {name!r}{where}"
            raise FileNotFoundError(message) from error
        except ALLOWED:
            raise
        except Exception as error:  # of any type; the message must name the row
            kind = TypeError if isinstance(error, TypeError) else ValueError
            label = repr(name) if name else self._format(source)
            raise kind(f"row {position}: cannot read {label}: {error}") from error

    def name(self, position):
        """Return the name of the file in a row, for messages.

        Parameters
        ----------
        position : int
            Row, from 0; not absent.

        Returns
        -------
        name : str
            Its path, or the name stored with a content.
        """
        source, name = self._storage.file_at(self._rows[position])
        return name or self._format(source)


def is_content(cell):
    """Whether a cell is the content of a file in a form that `FileArray` accepts."""
    if isinstance(cell, dict):
        return bool(cell) and cell.keys() <= {"bytes", "path"}
    return isinstance(cell, bytes | bytearray | memoryview)


def as_source(cell, row):
    """Convert a cell to a path as str, a pair (content, name), or None.

    Raises
    ------
    TypeError, ValueError
    """
    if is_absent(cell):
        return None
    if isinstance(cell, dict) and is_content(cell):
        content, path = cell.get("bytes"), cell.get("path")
        if is_absent(content):
            return as_source(path, row)
        return bytes(content), "" if is_absent(path) else os.fspath(path)
    if is_content(cell):
        return bytes(cell), ""
    if not isinstance(cell, str | os.PathLike):
        raise TypeError(
            f"row {row}: expected a path or the content of a file; got {type(cell).__name__}"
        )
    path = os.fsdecode(cell)
    if path == "":
        raise ValueError(f"row {row}: the path is empty; mark an absent file with None")
    if "\0" in path:
        raise ValueError(
            f"row {row}: the path {path!r} holds a NUL character; mark an absent file with None"
        )
    return path


def as_files(cells, options, dtype=None):
    """Convert cells to files under the root folder of the options.

    Parameters
    ----------
    cells : FileArray or list of cells that `FileArray` accepts
        Paths of a FileArray that were joined to a root folder stay as they are.
    options : FileOptions
    dtype : FileDtype, default=None
        That of the result.

    Returns
    -------
    files : FileArray
        Cells that are refused are absent.
    refused : dict of {int: Exception}
        The error for each of them, by row; a `RefusedError` if the path leaves the folder.
    """
    root, encoded, refused = options.root, [], {}
    if isinstance(cells, FileArray):
        if root is None:
            return cells, {}
        dtype, cells = cells.dtype, [_Stored(cells, row) for row in range(len(cells))]
    for row, cell in enumerate(cells):
        try:
            if isinstance(cell, _Stored):
                if cell.is_final:
                    encoded.append(cell.encoded)
                    continue
                cell = cell.source
            source = as_source(cell, row)
            if isinstance(source, str) and root is not None and not options.outside_root:
                _check_inside(source, root, row)
            encoded.append(_encode(source, root))
        except (TypeError, ValueError) as error:
            refused[row] = error
            encoded.append(None)
    rows = np.full(len(encoded), -1, np.int64)
    present = [row for row, cell in enumerate(encoded) if cell is not None]
    rows[present] = np.arange(len(present))
    stored = [encoded[row] for row in present]
    lengths = np.array([len(cell) for cell in stored], np.int64).reshape(-1, 1)
    storage = FileStorage(np.frombuffer(b"".join(stored), np.uint8), lengths)
    return FileArray._view(storage, rows, dtype or FileDtype()), refused


class _Stored:
    """A cell of a FileArray; final if it needs no root folder."""

    def __init__(self, array, position):
        row, storage = array._rows[position], array._storage
        self.is_final = row < 0 or storage.is_rooted(row)
        self.encoded = storage.cell(row).tobytes() if self.is_final and row >= 0 else None
        self.source = None if self.is_final else storage.file_at(row)[0]


def _check_inside(path, root, row):
    if leaves_root(path):
        raise RefusedError(
            f"row {row}: the path {path!r} leaves root={os.fspath(root)!r}; expected a relative "
            'path without "..". Set file_params={"outside_root": True} if you trust the paths.',
            "outside root",
        )


def _encode(source, root):
    if source is None:
        return None
    if isinstance(source, tuple):
        content, name = source
        return CONTENT + os.fsencode(name).replace(b"\0", b"") + b"\0" + content
    return os.fsencode(source) if root is None else ROOTED + os.fsencode(os.path.join(root, source))


# -- threads --------------------------------------------------------------------------------------

_MOST_THREADS = 8
_RUN = 1024  # items
_pools = {}  # of this process; a fork copies the dict but no threads


def n_threads():
    """Number of threads that decode: one per core, but at most 8 and OMP_NUM_THREADS."""
    affinity = getattr(os, "sched_getaffinity", None)
    n_cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    granted = os.environ.get("OMP_NUM_THREADS", "")
    return min(n_cores, _MOST_THREADS, int(granted) if granted.isdecimal() else n_cores) or 1


def in_threads(function, items):
    """Apply a function to items, in threads: decoders release Python's lock.

    Returns
    -------
    results : list
        In the order of the items. The first error in that order is raised.
    """
    n = n_threads()
    with ignored_warnings():
        if n == 1 or len(items) < 2:
            return [function(item) for item in items]
        key = os.getpid(), n
        if key not in _pools:
            _pools[key] = ThreadPoolExecutor(n, thread_name_prefix="sklearn_mmfusion-decode")
        # Few at a time: a pool keeps a queue of all its items.
    parts = (items[start : start + _RUN] for start in range(0, len(items), _RUN))
    return [result for part in parts for result in _pools[key].map(function, part)]


# -- texts that may be paths ----------------------------------------------------------------------


def holds_paths(column):
    """Whether more than half of the present cells of a Series, or items of sets, are files.

    That is paths with a known suffix, path-like objects or contents of files.
    """
    if isinstance(column.array, FileArray):
        return True
    dtype = column.dtype
    dtype = dtype.categories.dtype if isinstance(dtype, pd.CategoricalDtype) else dtype
    if isinstance(column.array, RowViewArray) or not pd.api.types.is_string_dtype(dtype):
        return False  # the dtype object counts as string
    items = [item for item in items_in(column) if not is_absent(item)]
    return 2 * sum(_may_be_file(item) for item in items) > len(items)


def items_in(column):
    """Yield the cells of a Series, and the items of its sets of paths or contents one by one."""
    for cell in column:
        is_objects = isinstance(cell, np.ndarray) and cell.dtype == object
        is_list = is_objects or isinstance(cell, list | tuple)
        first = next((item for item in cell if item is not None), None) if is_list else None
        is_files = isinstance(first, str | os.PathLike) or is_content(first)
        yield from cell if is_files else [cell]


def _may_be_file(cell):
    if isinstance(cell, str):
        return file_kind(cell) is not None and "\n" not in cell
    return isinstance(cell, os.PathLike) or is_content(cell)


def file_states(data, roots):
    """Return the cells of data as files, under each of the roots."""
    columns = [data] if isinstance(data, pd.Series) else []
    if isinstance(data, pd.DataFrame):
        columns = [data.iloc[:, j] for j in range(data.shape[1])]
    files = [_under(column, root) for root in roots for column in columns]
    return [each for each in files if each is not None]


def _under(column, root):
    """Cells of a Series as files under a root folder; None if `root` changes none of them.

    Cells that are not paths are absent.
    """
    is_files = isinstance(column.array, FileArray)
    if isinstance(column.array, RowViewArray) and (root is None or not is_files):
        return None
    cells = column.array if is_files else [_as_path(item) for item in items_in(column)]
    return as_files(cells, FileOptions(root=root, outside_root=True))[0]


def _as_path(item):
    path = os.fspath(item) if isinstance(item, os.PathLike) else item
    return path if type(path) is str and path else None


def has_digests(data):
    """Whether data are a Series of cells that have a digest each."""
    is_column = isinstance(data, pd.Series)
    return is_column and (isinstance(data.array, RowViewArray) or all(type(c) is str for c in data))


def cell_digests(column, roots):
    """Digests (n, 16) of a Series of present cells, texts with the files they may be paths of."""
    is_rows = isinstance(column.array, RowViewArray)
    files = [each.digests() for each in file_states(column, roots)]
    if is_rows and not files:
        return column.array.digests()
    cells = [each.tobytes() for each in column.array.digests()] if is_rows else column
    rows = [blake("text", *row) for row in zip(cells, *files, strict=True)]
    return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 16)
