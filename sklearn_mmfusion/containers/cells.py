"""The cells that an encoder accepts, and the present cells of a column."""

import os
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np

from sklearn_mmfusion._decoders import ALLOWED, image_header, raise_passing
from sklearn_mmfusion._file_formats import SUFFIXES, source_kind
from sklearn_mmfusion._file_options import FileOptions
from sklearn_mmfusion._validation import check_real, number_rows
from sklearn_mmfusion.containers.decoded_cache import CachedFiles, open_cache
from sklearn_mmfusion.containers.file_array import FileArray, in_threads
from sklearn_mmfusion.containers.sets import SetColumn
from sklearn_mmfusion.containers.tensor_array import TensorArray

# By kind of file: description of the cell, and the remedy if another kind is expected.
SWAPPED = {
    "image": ("an image", "Encode images with an ImageEncoder."),
    "audio": ("a recording", "Encode recordings with an AudioEncoder."),
    "video": ("a video", "Encode videos with a VideoEncoder."),
    "array": ("an array", "Encode arrays with the encoder of their modality."),
    "text": ("a text file", "Encode texts with a TextEncoder."),
    None: ("which has no known file suffix", "If these are texts, use a TextEncoder."),
}


RUN, MOST_FILES = 1 << 22, 64  # bytes, and files, that are read in one run


@dataclass(frozen=True)
class CellKind:
    """Cells that an estimator accepts; checks, messages and file reading follow from it.

    Parameters
    ----------
    name : str
        Name of a cell in messages: "image".
    shapes : tuple of tuples of (int or None)
        Shapes that a cell may have, None for an axis of any length; empty for texts.
    expected : str, default=""
        The shapes in words, with a remedy.
    value : str, default="value"
        Name of a single number in messages: "pixel".
    files : str or None, default=None
        Kind of the files that str cells name: "image", "audio", "video" or "array". None: str cells
        are texts, and only the cells of a FileArray are paths.
    flat : callable or None, default=None
        ``flat(estimator, values)`` gives the cells (n, ...) of flat rows (n, width); see `rows_of`.
    flat_parameter : str or None, default=None
        Name of the parameter with the shape of flat rows. If it is not set, files and 1-D cells of
        different lengths are not treated as flat rows.
    divisors : dict of str to float, default={}
        Divisors of values by the name of their dtype, e.g. ``{"uint16": 257}``.
    allow_nan : bool, default=False
        Whether the rows of a table may hold NaN.
    sets: bool, default=False
        Whether an estimator with a parameter ``pooling`` reads sets of them.
    """

    name: str
    shapes: tuple = ()
    expected: str = ""
    value: str = "value"
    files: str | None = None
    flat: Callable | None = None
    flat_parameter: str | None = None
    divisors: dict = field(default_factory=dict)
    allow_nan: bool = False
    sets: bool = False

    @property
    def file_kinds(self):
        """Kinds of files that hold such cells."""
        if self.files is None:
            return ("text",)
        with_sound = ["video"] if self.files == "audio" else []
        return tuple(dict.fromkeys([self.files, *with_sound, "array"]))

    def takes(self, shape):
        """Whether a cell may have this shape; a length of None fits any axis."""
        return any(
            len(shape) == len(own)
            and all(a is None or b in (a, None) for a, b in zip(own, shape, strict=True))
            for own in self.shapes
        )


def channels_lead(shape):
    """Whether the first axis of images of a shape holds the channels, None being any length."""
    return shape[-1] not in (3, 4) and (shape[0] or np.inf) < (shape[-1] or np.inf)


def rows_of(width):
    """Return the `flat` of a `CellKind` whose cells are any number of rows of this width.

    Zeros complete a short last row: (n, k) -> (n, ceil(k / width), width).
    """
    return partial(_complete_rows, width=width)


def _complete_rows(estimator, values, width):
    values = np.pad(values, [(0, 0), (0, -values.shape[1] % width)])
    return values.reshape(len(values), -1, width)


class Cells:
    """The present cells of a column, as their estimator reads them: in batches, checked.

    Parameters
    ----------
    estimator : estimator
        Its class attribute ``_reads`` is a `CellKind`.
    column : TensorArray, FileArray, ExtensionArray of str or SetColumn
        From `check_column`. The cells of sets are read as `items`.
    rows : ndarray of int of shape (n,), default=None
        Rows of the column to read, none of them absent; None takes all present ones.
    owners : ndarray of int, default=None
        If the column holds the items of sets, the row of each item, for messages.

    Attributes
    ----------
    each : bool
        Whether cells are read one at a time: files, and arrays of different sizes.
    options : FileOptions
        How files are read.
    value_kinds : set of str
        Kinds of the types of numbers, such as "u", in the files read so far.
    """

    def __init__(self, estimator, column, rows=None, owners=None):
        self.estimator, self.kind = estimator, estimator._reads
        self.column, self._owners = column, owners
        self.rows = np.flatnonzero(~np.asarray(column.isna())) if rows is None else rows
        self.options = FileOptions.of(estimator)
        self.is_file = isinstance(column, FileArray)
        self.each = self.is_file or getattr(column, "is_ragged", False)
        self.value_kinds = set()
        self._recordings = None  # CachedFiles
        self._base_rows = None  # of arrays of one valid shape, which need no conversion
        if isinstance(column, TensorArray) and not self.each and len(self.rows):
            shape = column.dtype.cell_shape
            if self.kind.shapes and not (len(shape) == 1 and self.kind.flat is not None):
                self.check_shape(shape, self.rows[0])
                self._base_rows = column._rows[self.rows]

    def __len__(self):
        return len(self.rows)

    @property
    def row_numbers(self):
        """Row numbers for messages; for items of sets, the rows of the sets."""
        return self.rows if self._owners is None else self._owners[self.rows]

    def numbered(self):
        """Make errors in the block name the rows of the sets if the cells are items."""
        return nullcontext() if self._owners is None else number_rows(self._owners)

    @cached_property
    def sizes(self):
        """Number of items of each set."""
        return self.column.sizes[self.rows]

    @cached_property
    def items(self):
        """The items of sets, one set after another, as cells; of other columns, the cells."""
        column = self.column
        if not isinstance(column, SetColumn):
            return self
        return Cells(self.estimator, column.items, column.positions(self.rows), column.owners)

    def part(self, batch):
        """Some of the cells, by their positions among these; the cache is shared."""
        part = copy(self)
        part.rows = self.rows[batch]
        for name in ("items", "sizes"):
            vars(part).pop(name, None)
        part._base_rows = None if self._base_rows is None else self._base_rows[batch]
        return part

    def take(self):
        """The present cells as a column."""
        return self.column[self.rows]

    def shape(self):
        """Shape of the cells, None along axes in which they differ; of files, that of the first."""
        if self.is_file:
            return self.read(slice(0, 1))[0].shape
        shape = self.column.dtype.cell_shape
        if len(shape) == 1 and self.kind.flat is not None:
            return self.read(slice(0, 1))[0].shape
        if self._base_rows is None:
            self.check_shape(shape, self.rows[0])
        return shape

    def read(self, batch=slice(None)):
        """Read cells as they are stored; flat rows get the shape of a cell.

        Parameters
        ----------
        batch : slice or ndarray of int, default=slice(None)
            Positions among the present cells.

        Returns
        -------
        cells : ndarray of shape (n, ...), or list of ndarray where they are read one at a time
        """
        rows = self.rows[batch]
        if self.is_file:
            cells = [cell for cell, _ in in_threads(self.read_one, rows)]
        else:
            cells = self.column.gather(rows)
        if self.each:
            return list(map(self.shaped, cells, rows))
        return self._shaped(cells, rows)

    def read_one(self, row):
        """Read one cell as it is stored or decoded.

        Parameters
        ----------
        row : int
            Row of the column.

        Returns
        -------
        cell : ndarray
        sample_rate : float or None
            In Hz, if the column or the file states it.
        """
        ((cell, rate),) = self._read_run(np.array([row]))
        return cell, rate

    def read_runs(self):
        """Read all cells as `read_one` does, in runs of several small files at a time.

        Yields
        ------
        row : int
        cell : ndarray
        sample_rate : float or None
        """
        start, n = 0, 1  # the first file shows how large they are
        while start < len(self.rows):
            rows = self.rows[start : start + n]
            run = self._read_run(rows)
            yield from ((row, *each) for row, each in zip(rows, run, strict=True))
            start += n
            largest = max(cell.nbytes for cell, _ in run)
            n = min(2 * n, MOST_FILES, max(1, RUN // max(1, largest)))

    def _read_run(self, rows):
        """Pairs of cell and sample rate."""
        if not self.is_file:
            return [(self.column[row], self.column.dtype.sample_rate) for row in rows]
        if self.options.cache_folder is None or self.kind.files != "audio":
            return [(cell, rate) for cell, rate, _ in in_threads(self._decode, rows)]
        if self._recordings is None:
            self._recordings = self._cached(self.kind.file_kinds)
        cells, _, rates = self._recordings.read(rows, self._decode)
        return list(zip(cells, rates, strict=True))

    def _decode(self, row):
        """Decode a file: a cell, its sample rate and its dtype."""
        with self._remedy(row):
            kind = self._check_kind(row)
            cell, rate = self.column.decode_one(row, self.options, kind)
            if isinstance(cell, str):
                return cell, rate, None
            self.value_kinds.add(cell.dtype.kind)
            if cell.dtype.kind not in "buif":  # a label costs as much as reading a small file
                check_real(cell.dtype, self._label(row))
            return cell, rate, cell.dtype

    def _label(self, row):
        return f"{type(self.estimator).__name__}: row {row}, file {self.column.name(row)!r}"

    @contextmanager
    def _remedy(self, row):
        """Add a note on unreadable files to the errors raised in the block."""
        try:
            yield
        except (ValueError, TypeError, OSError) as error:
            raise_passing(error)
            if hasattr(self.estimator, "file_params") and not hasattr(error, "__notes__"):
                error.add_note(
                    f"{type(self.estimator).__name__} has file_params="
                    f"{self.estimator.file_params}. To treat files that cannot be read as absent, "
                    "set 'on_error' to 'missing'; check_files(X, file_params=...) finds all of "
                    "them."
                )
            raise

    def _cached(self, *settings):
        """The files of the column, read through the `cache_folder`; None without one."""
        folder = self.options.cache_folder
        if folder is None or not self.is_file:
            return None
        own = {"cache_folder": None, "root": None, "outside_root": False, "on_error": "raise"}
        options = replace(self.options, **own)  # options that change no cell get one value
        rate = self.column.dtype.sample_rate
        return CachedFiles(self.column, open_cache(folder, options, rate, *settings))

    def arranged(self, arrange, *settings):
        """Make a function that reads cells one at a time and arranges each, in threads.

        Parameters
        ----------
        arrange : callable
            ``arrange(cells, row)`` makes one cell of an array of one cell, as `read_finite` returns
            it.
        *settings : object
            Everything besides the options that the result of `arrange` depends on; their ``repr``
            becomes part of the key under which the ``cache_folder`` keeps results.

        Returns
        -------
        read : callable
            ``read(batch)`` returns an array (n, ...), or a list of arrays that differ.
        """
        files = self._cached(*settings)

        def decode(row):
            cell, rate = self._decode(row)[:2] if self.is_file else self.read_one(row)
            values = self._finite(self._shaped(cell[None], [row]), [row], exact=False)
            return arrange(values, row), rate, cell.dtype

        def read(batch):
            rows = self.rows[batch]
            if files is None:
                return [cell for cell, *_ in in_threads(decode, rows)]
            cells, sources, _ = files.read(rows, decode)
            self.value_kinds |= {np.dtype(source).kind for source in sources}
            return cells

        return read

    def image_headers(self, batch):
        """Read mode and shape of files without decoding them; the mode of an array is None."""

        def header(row):
            with self._remedy(row):
                if self._check_kind(row) == "array":
                    return None, self._read_shaped(row).shape
                return self.column.apply(row, image_header, options=self.options)

        return in_threads(header, self.rows[batch])

    def shaped(self, cell, row):
        """Check the shape of the cell in a row of the column; a flat one gets that of its kind."""
        return self._shaped(cell[None], [row])[0]

    def _read_shaped(self, row):
        cell, _ = self.read_one(row)
        return self.shaped(cell, row) if self.kind.shapes else cell

    def unreadable(self):
        """Read all cells, and return the errors of those that fail: {row: message}."""

        def problem(row):
            try:
                self._read_shaped(row)
            except ALLOWED:
                raise
            except (ValueError, TypeError, OSError) as error:
                return str(error)

        problems = zip(self.rows.tolist(), in_threads(problem, self.rows), strict=True)
        return {row: message for row, message in problems if message is not None}

    def _check_kind(self, row):
        """Return the kind of a file as `read_file` takes it; raise if it is not expected."""
        path, expected = self.column[row], self.kind.file_kinds
        found = source_kind(path)
        if isinstance(path, bytes) and expected == ("text",):
            return "text"  # any content may be one
        if found not in expected:
            holds, remedy = SWAPPED[found]
            if not isinstance(path, bytes) and os.path.isdir(path):
                holds, remedy = "which is a folder", "Give one file per row."
            name = self.column.name(row)
            shown = name if len(name) <= 80 else f"{name[:77]}..."
            known = ", ".join(suffix for kind in expected for suffix in SUFFIXES[kind])
            article = "a" if expected[0] in ("text", "video") else "an"
            raise ValueError(
                f"{type(self.estimator).__name__}: row {row} holds {shown!r}, {holds}; expected "
                f"the path of {article} {expected[0]} file ({known}). {remedy}"
            )
        return "sound" if found == "video" and expected[0] == "audio" else found

    def read_finite(self, batch=slice(None), *, exact=False):
        """Read cells as uint8 or float32, read-only if consecutive; NaN and infinity raise.

        Parameters
        ----------
        batch : slice or ndarray of int, default=slice(None)
        exact : bool, default=False
            Whether to read types that float32 would round as float64.

        Returns
        -------
        cells : ndarray of shape (n, ...) or list of ndarray, as `read` returns them
        """
        rows = self.rows[batch]
        if self._base_rows is not None:
            cells = self.column._storage.gather(self._base_rows[batch], copy=False)
            return self._finite(cells, rows, exact)
        cells = self.read(batch)
        if self.each:
            pairs = zip(cells, rows, strict=True)
            return [self._finite(c[None], [row], exact)[0] for c, row in pairs]
        return self._finite(cells, rows, exact)

    def read_steps(self, batch=slice(None)):
        """Read cells as `read_finite` does, without the steps that are missing: those all NaN.

        Parameters
        ----------
        batch : slice or ndarray of int, default=slice(None)

        Returns
        -------
        cells : list of ndarray of shape (n_steps, ...)
        """
        cells = zip(self.read(batch), self.rows[batch], strict=True)
        return [
            self._finite(self._present_steps(c, row)[None], [row], False)[0] for c, row in cells
        ]

    def _present_steps(self, cell, row):
        if cell.dtype.kind != "f":
            return cell
        missing = np.isnan(cell).all(tuple(range(1, cell.ndim)))
        if missing.all():
            raise self.error(
                row,
                f"has only {self.kind.value}s that are NaN. Assign NA to mark the "
                f"{self.kind.name} absent.",
            )
        return cell[~missing] if missing.any() else cell

    def error(self, row, problem):
        """The ValueError for a problem with the cell in a row of the column."""
        estimator_name = type(self.estimator).__name__
        file = f" The file is {self.column.name(row)!r}." if self.is_file else ""
        return ValueError(f"{estimator_name}: {self.kind.name} in row {row} {problem}{file}")

    def _shaped(self, values, rows):
        if values.ndim == 2 and self.kind.flat is not None and len(rows):
            if self.each and not self.kind.takes(values.shape[1:]):
                self._check_flat(values.shape[1:], rows[0])
            try:
                values = self.kind.flat(self.estimator, values)
            except ValueError as error:
                raise self.error(rows[0], str(error)) from error
        if len(rows):
            self.check_shape(values.shape[1:], rows[0])
        return values

    def _check_flat(self, shape, row):
        """Raise if a 1-D cell, which may have any length, would be read as a flat row."""
        parameter = self.kind.flat_parameter
        if parameter is None or getattr(self.estimator, parameter) is None:
            remedy = "" if parameter is None else f" Set {parameter} if it is flat."
            raise self.error(
                row,
                f"has shape {shape}; expected {self.kind.expected}.{remedy} Encode recordings with "
                "an AudioEncoder.",
            )

    def check_shape(self, shape, row):
        """Raise unless the cell in a row of the column has one of the shapes of its kind."""
        if not self.kind.takes(shape):
            raise self.error(row, f"has shape {shape}; expected {self.kind.expected}.")
        if 0 in shape:
            raise self.error(
                row,
                f"has shape {shape}; expected at least one {self.kind.value}. Assign NA to mark "
                f"the {self.kind.name} absent.",
            )

    def _finite(self, values, rows, exact):
        if values.dtype == bool:
            return values.view(np.uint8)
        if values.dtype == np.uint8:
            return values
        divisor = self.kind.divisors.get(values.dtype.name, 1)
        with np.errstate(over="ignore", invalid="ignore"):  # reported below
            given, values = values, values.astype(np.float32, copy=False)
        if divisor != 1:
            values = values / np.float32(divisor)
        if not np.isfinite(values).all():
            finite = np.isfinite(values).all(tuple(range(1, values.ndim)))
            raise self.error(rows[int(np.argmin(finite))], self.not_finite())
        if exact and divisor == 1 and not np.can_cast(given.dtype, np.float32):
            return given.astype(np.float64, copy=False)
        return values

    def not_finite(self):
        """The end of a message on NaN."""
        return (
            f"contains NaN or infinity; expected finite {self.kind.value}s. Assign NA to mark the "
            f"{self.kind.name} absent, or impute the {self.kind.value}s."
        )
