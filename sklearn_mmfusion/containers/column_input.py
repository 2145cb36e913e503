"""The X of an estimator of one modality: a column of arrays, files, texts or sets, checked."""

from dataclasses import replace

import numpy as np
import pandas as pd
from sklearn.utils import check_array

from sklearn_mmfusion._file_options import FileOptions, check_root
from sklearn_mmfusion._sklearn import _check_feature_names, validate_data
from sklearn_mmfusion._validation import as_numpy, check_real, number_rows, renumber, warn
from sklearn_mmfusion.containers.cells import Cells
from sklearn_mmfusion.containers.conversion import as_column, cells_of, from_pyarrow, is_numbers
from sklearn_mmfusion.containers.file_array import FileArray, as_files, in_threads
from sklearn_mmfusion.containers.sets import SetColumn, as_sets, is_set, lone_as_sets, takes_sets
from sklearn_mmfusion.containers.storage import blake
from sklearn_mmfusion.containers.tensor_array import TensorArray


def check_column(estimator, X, *, reset):
    """Convert X to one column, and set or check ``n_features_in_`` as scikit-learn would.

    A table of numbers (2-D array, list of rows of numbers, numeric frame) goes through
    scikit-learn's own ``validate_data``; each row then is a 1-D cell. Anything else is a column
    of cells: a series, a frame of one column, an array with more axes, a list of cells.

    Parameters
    ----------
    estimator : estimator
        Takes ``n_features_in_``. Its class attribute ``_reads`` is a `CellKind`; its parameter
        ``file_params``, if it has one, states how files are read.
    X : object
    reset : bool
        True in ``fit``.

    Returns
    -------
    column : TensorArray, FileArray, pandas ExtensionArray of str, or SetColumn
    """
    X = from_pyarrow(X)
    _check_kind(estimator, X)
    if reset and not estimator._reads.shapes and is_numbers(X):
        raise ValueError(  # of the type that scikit-learn raises for 1-D numbers
            f"{type(estimator).__name__}: X holds numbers such as {X[0]!r}; expected texts. "
            "Convert them with list(map(str, X))."
        )
    cells = cells_of(X)
    if cells is None:
        table = _check_table(estimator, X, reset)
        given = np.asarray(X)
        # Whole numbers keep their type, which determines the scale of samples and pixels.
        column = TensorArray(given if given.dtype.kind in "iub" else table, copy=False)
        return _read_sets(column, estimator) if takes_sets(estimator) else column
    name, reads_sets = getattr(cells, "name", None), takes_sets(estimator)
    column = as_column(lone_as_sets(cells) if reads_sets else cells, name=name, copy=False)
    column = _read_sets(column, estimator) if reads_sets else _read(column, estimator)
    if len(column) == 0:
        raise ValueError(
            f"{type(estimator).__name__}: Found array with 0 sample(s); a minimum of 1 is required."
        )
    # Cells may differ in size from those in fit: `Cells.read` checks them.
    if reset:
        _set_width(estimator, column)
    return column


def _read(column, estimator, owners=None):
    """Convert a column from `as_column` to numbers, files or texts."""
    if isinstance(column, np.ndarray) and column.dtype == object:  # sets, or empty lists
        is_empty = [isinstance(cell, list | tuple) and len(cell) == 0 for cell in column]
        row = next(row for row, cell in enumerate(column) if is_empty[row] or is_set(cell))
        remedy = (
            " Set pooling='mean' to read several per row."
            if estimator._reads.sets and hasattr(estimator, "pooling")
            else ""
        )
        raise TypeError(
            f"{type(estimator).__name__}: row {row} holds a {type(column[row]).__name__} of "
            f"{len(column[row])} items; expected one {estimator._reads.name} per row.{remedy}"
        )
    if _holds_files(column, estimator):
        column = _readable_files(column, estimator, owners)
        if estimator._reads.files is None:
            column = _read_texts(column, estimator)
    if isinstance(column, TensorArray):
        check_real(column.dtype.value_dtype, type(estimator).__name__)
    return pd.array(column) if isinstance(column, np.ndarray) else column


def _read_sets(column, estimator):
    """Convert a column from `as_column` to a `SetColumn` of numbers or files."""
    shape = getattr(column.dtype, "cell_shape", ())
    if len(shape) == 3 and shape[2] in (3, 4):  # as sets, they would be narrow gray images
        raise ValueError(
            f"{type(estimator).__name__}: cells of {column.dtype} look like single color images; "
            f"with pooling={estimator.pooling!r}, expected sets of shape "
            "(n_images, height, width[, channels]). Add an axis to each cell, or set pooling=None."
        )
    sets = as_sets(column)
    return sets.dropna(_read_items(sets, estimator))


def _read_items(sets, estimator):
    with number_rows(sets.owners):
        return _read(as_column(sets.items, copy=False), estimator, sets.owners)


def _check_table(estimator, X, reset):
    if reset:
        estimator._cells_in = False
    checks = {"dtype": np.float32}
    checks["ensure_all_finite"] = "allow-nan" if estimator._reads.allow_nan else True
    if estimator._cells_in:  # of any size: the width of a table need not match
        return check_array(X, estimator=estimator, input_name="X", **checks)
    return validate_data(estimator, X, reset=reset, ensure_min_samples=1, **checks)


def _check_kind(estimator, X):
    """Raise if X is not a column: scikit-learn's own message would mention only numbers."""
    estimator_name = type(estimator).__name__
    # scipy's dok_array is a dict; sparse input gets scikit-learn's own message.
    if X is None or (isinstance(X, dict | str | bytes) and not hasattr(X, "toarray")):
        raise TypeError(
            f"{estimator_name}: X is a {type(X).__name__}; expected a column of cells (list, "
            "array, Series) or a 2-D array of numbers."
        )
    if isinstance(X, pd.DataFrame) and X.shape[1] > 1:
        columns = [str(n) for n, d in X.dtypes.items() if not pd.api.types.is_numeric_dtype(d)]
        if columns:
            raise ValueError(
                f"{estimator_name}: X is a frame of {X.shape[1]} columns, of which {columns} are "
                f"not numeric; expected one column, such as X[{columns[0]!r}]. "
                "FusionTransformer sends each column to its own encoder."
            )
    X = as_numpy(X)
    kind = X.dtype.kind if isinstance(X, np.ndarray) else None
    if kind in ("U", "S") and X.ndim > 2:
        raise TypeError(
            f"{estimator_name}: X is an array of shape {X.shape} and dtype {X.dtype}; expected "
            "numbers. Convert it with astype(float)."
        )
    if isinstance(X, pd.Series) and pd.api.types.is_numeric_dtype(X.dtype):
        raise TypeError(
            f"{estimator_name}: X is a column of numbers, dtype {X.dtype}; expected one "
            f"{estimator._reads.name} per row."
        )


def is_table(X):
    """Whether `check_column` reads X as a table of numbers, each row a 1-D cell."""
    return cells_of(from_pyarrow(X)) is None


def _holds_files(column, estimator):
    """Whether the cells of a column are files; raise if they are neither files nor arrays."""
    if isinstance(column, TensorArray | FileArray) or estimator._reads.files is None:
        return isinstance(column, FileArray)
    dtype = getattr(column, "dtype", None)
    if isinstance(dtype, pd.CategoricalDtype):
        dtype = dtype.categories.dtype
    if isinstance(column, np.ndarray) or not pd.api.types.is_string_dtype(dtype):
        raise TypeError(
            f"{type(estimator).__name__}: X holds cells of type {column.dtype}; expected arrays "
            f"or paths of {estimator._reads.files} files."
        )
    return True


def _read_texts(column, estimator):
    """Read a FileArray of text files as texts."""
    cells = Cells(estimator, column)
    texts = np.full(len(column), None, object)
    texts[cells.rows] = [text for text, _ in in_threads(cells.read_one, cells.rows)]
    return as_column(texts)


def readable_cells(X, estimator):
    """Mark unreadable files as absent if ``file_params`` has ``"on_error": "missing"``.

    Parameters
    ----------
    X : object
        See `check_column`.
    estimator : estimator
        Its class attribute ``_reads`` is a `CellKind`.

    Returns
    -------
    X : object
        The same if nothing is read as a file, or ``on_error`` is "raise"; else a Series. Empty sets
        become absent in any case.
    """
    reads_sets = takes_sets(estimator)
    if not reads_sets and FileOptions.of(estimator).on_error == "raise":
        return X
    cells = cells_of(from_pyarrow(X))
    if cells is None:
        return X
    column = cells if isinstance(cells, pd.Series) else pd.Series(as_column(cells, copy=False))
    cells = as_column(column, name=column.name, copy=False)
    if reads_sets:
        changed = _readable_sets(column, as_sets(cells), estimator)
        return X if changed is None else changed
    if not column.notna().any() or not _holds_files(cells, estimator):
        return X
    files = _readable_files(cells, estimator)
    return pd.Series(files, index=column.index, name=column.name, copy=False)


def _readable_sets(column, given, estimator):
    """Mark empty sets as absent; with ``"on_error": "missing"``, leave unreadable files out.

    Returns None if there is nothing to change.
    """
    sets = given
    if FileOptions.of(estimator).on_error == "missing":
        items = _read_items(sets, estimator)
        sets = sets.dropna(items)
        if isinstance(given.items, list) and len(sets.items) < len(given.items):
            kept = [given.items[i] for i in np.flatnonzero(~pd.isna(items))]
            lists = SetColumn(kept, sets.sizes).lists()
            column = pd.Series(lists, index=column.index, name=column.name)
    is_same = len(sets.items) == len(given.items) and not sets.isna().any()
    return None if is_same else column.mask(sets.isna())


_readable = set()  # digests of settings and files that were read, to read them only once
_MOST_READABLE = 100_000


def _readable_files(column, estimator, owners=None):
    """Convert a column to files under the root folder of ``file_params``.

    With ``"on_error": "missing"``, each file is read, and those that cannot be read become absent,
    with a warning. A file that was read before and has not changed since is not read again.
    """
    options = FileOptions.of(estimator)
    check_root(options, type(estimator).__name__)
    column, refused = as_files(column if isinstance(column, FileArray) else list(column), options)
    if options.on_error == "raise":
        for error in refused.values():
            error.add_note(f"{type(estimator).__name__}: file_params={estimator.file_params}")
            raise error
        return column
    refused = {row: str(error) for row, error in refused.items()}
    flat_shape = repr(getattr(estimator, estimator._reads.flat_parameter or "", None))
    settings = (
        *(type(estimator), flat_shape, column.dtype.sample_rate),
        replace(options, root=None, cache_folder=None),
    )
    rows = np.flatnonzero(~column.isna())
    digests = zip(rows.tolist(), column[rows].digests(), strict=True)
    keys = {row: blake(repr(settings), digest) for row, digest in digests}
    unknown = [row for row in keys if keys[row] not in _readable]
    problems = Cells(estimator, column, np.array(unknown, dtype=np.intp)).unreadable()
    if len(_readable) > _MOST_READABLE:
        _readable.clear()
    _readable.update(keys[row] for row in unknown if row not in problems)
    if problems:
        column = column.copy()
        column[list(problems)] = pd.NA
    if problems | refused:
        listed = sorted((problems | refused).items())
        first = "; ".join(message.rstrip(".") for _, message in listed[:5])
        first = first if owners is None else renumber(first, owners)
        warn(
            f"{type(estimator).__name__}: {len(listed)} of {len(rows) + len(refused)} files cannot "
            "be read and count as absent, because file_params has on_error='missing'. The first: "
            f"{first}. check_files(X, file_params=...) lists all of them."
        )
    return column


def _set_width(estimator, column):
    shape = getattr(getattr(column, "dtype", None), "cell_shape", (None,))
    estimator._cells_in = True
    estimator.n_features_in_ = 1 if None in shape else int(np.prod(shape))
    _check_feature_names(estimator, [[0.0]], reset=True)
