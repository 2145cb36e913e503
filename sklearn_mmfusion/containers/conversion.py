"""Convert every accepted form of input to columns and frames."""

import numbers
import os

import numpy as np
import pandas as pd
from pandas.api.extensions import ExtensionArray
from scipy.sparse import issparse
from sklearn.utils import check_array

from sklearn_mmfusion._decoders import MODES, pil_mode, pil_pixels
from sklearn_mmfusion._file_formats import file_kind
from sklearn_mmfusion._validation import as_numpy
from sklearn_mmfusion.containers.arrow import (
    CELL_NAMES,
    from_arrow,
    holds_arrow_cells,
    holds_arrow_sets,
    import_pyarrow,
)
from sklearn_mmfusion.containers.dtypes import FileDtype, TensorDtype
from sklearn_mmfusion.containers.file_array import FileArray, is_content
from sklearn_mmfusion.containers.sets import is_set, is_stack
from sklearn_mmfusion.containers.storage import is_absent
from sklearn_mmfusion.containers.tensor_array import TensorArray

_ACCEPTED = (
    "expected numeric arrays (or nested lists, PIL images, torch tensors) of one dtype kind and "
    "number of axes, or text, or pathlib paths, or numbers; None marks an absent cell"
)


def as_column(values, *, name=None, sample_rate=None, copy=True):
    """Convert any accepted values to a column.

    Parameters
    ----------
    values : array-like of n cells
        An ndarray or torch tensor of two or more axes becomes a TensorArray; so does a sequence
        or object array of arrays, nested lists, PIL images or tensors (PIL images of several modes
        are converted to the richest one). Text becomes a str array, `pathlib` paths and
        contents of files (bytes, or dicts of "bytes" and "path") a FileArray; numbers stay a 1-D
        array. Series and Index are replaced by their array. polars Series of lists, arrays, text
        and numbers are accepted, and so are pyarrow arrays of lists and `fixed_shape_tensor`.
    name : str or None, default=None
        Name of the column, for messages.
    sample_rate : float or None, default=None
        Samples per second, in Hz; only for arrays and files.
    copy : bool, default=True
        Whether to copy an ndarray of two or more axes; False shares its memory (see `TensorArray`).
        Memory maps and extension arrays are never copied.

    Returns
    -------
    column : TensorArray, FileArray, str ExtensionArray, or 1-D ndarray or ExtensionArray
        A column without any present cell becomes an all-absent TensorArray. Sets (lists of paths,
        contents or texts, or of images of several sizes) stay what they are, as objects.

    Raises
    ------
    TypeError
        If a cell has another type, or cells of several kinds are mixed; the message names column,
        row and type.
    ValueError
        If cells differ in their number of axes, or the sample rate contradicts the column's.

    Examples
    --------
    >>> from pathlib import Path
    >>> from sklearn_mmfusion.containers import as_column
    >>> as_column([[1, 2, 3], None, [4, 5]]).dtype
    tensor[int64, ?]
    >>> as_column([Path("a.png"), None]).dtype
    file
    """
    try:
        values = from_pyarrow(values)
        if isinstance(values, pd.Series | pd.Index):
            values = values.array
        if isinstance(values, pd.arrays.NumpyExtensionArray):
            values = values.to_numpy()
        if isinstance(values, ExtensionArray):
            column = values
            if holds_arrow_sets(values.dtype):
                column = _from_cells(values.__arrow_array__().to_pylist(), sample_rate)
            elif holds_arrow_cells(values.dtype):
                column = from_arrow(values.__arrow_array__())
        elif is_polars(values):
            column = _from_polars(values, sample_rate, copy)
        elif isinstance(values, str | bytes | dict | set) or not hasattr(values, "__len__"):
            raise TypeError(f"got {type(values).__name__}; {_ACCEPTED}")
        else:
            values = as_numpy(values)
            if isinstance(values, np.ndarray):
                column = _from_ndarray(values, sample_rate, copy)
            else:
                column = _from_cells(values, sample_rate)
        if len(column) and np.ndim(column) != 1:
            raise TypeError(f"got an array of shape {np.shape(column)}; {_ACCEPTED}")
        return _with_rate(column, sample_rate)
    except (TypeError, ValueError) as error:
        if name is None:
            raise
        raise type(error)(f"column {name!r}: {error}") from error


def _from_ndarray(values, sample_rate, copy):
    if values.dtype == object and values.ndim > 1:
        raise TypeError(
            f"got an object array of shape {values.shape}; a column has one axis. An object "
            "array of rows and columns is a frame: see `as_frame`."
        )
    if values.dtype == object:
        return _from_cells(values, sample_rate)
    if values.ndim == 0:
        raise TypeError(f"got a single {values.dtype} value; {_ACCEPTED}")
    if values.dtype.kind == "U":
        return _text(values.tolist())
    if values.ndim > 1:
        return TensorArray(values, sample_rate=sample_rate, copy=copy)
    if values.dtype.kind not in "biufcMm":
        raise TypeError(f"got an array of {values.dtype}; {_ACCEPTED}")
    return values


def _nested_cell(cell, numbers_as):
    """Convert nested lists to an array; ragged lists are left to `as_cell`."""
    try:
        return None if cell is None else np.asarray(cell, numbers_as)
    except (TypeError, ValueError):
        return cell


def is_polars(values):
    return type(values).__module__.split(".")[0] == "polars"


def is_polars_frame(X):
    return is_polars(X) and (hasattr(X, "get_columns") or hasattr(X, "collect"))


def from_pyarrow(X):
    """Convert a table, record batch or array of pyarrow to pandas; return other input unchanged."""
    if type(X).__module__.split(".")[0] != "pyarrow" or not hasattr(X, "to_pandas"):
        return X
    if hasattr(X, "schema"):  # X may have been read before its extension type was registered
        X = import_pyarrow().RecordBatchReader.from_stream(X).read_all()
    return X.to_pandas(types_mapper=pd.ArrowDtype)


def _from_polars(values, sample_rate, copy):
    if hasattr(values.dtype, "ext_name") and values.dtype.ext_name() in CELL_NAMES:
        import_pyarrow()  # polars converts through it
        return from_arrow(values.to_arrow())
    fields = getattr(values.dtype, "fields", ())
    has_content = {field.name for field in fields} == {"bytes", "path"}
    if has_content or str(values.dtype) in ("String", "Object", "Binary"):
        return _from_cells(values.to_list(), sample_rate)
    if not values.dtype.is_nested():
        return _from_ndarray(values.to_numpy(), sample_rate, copy)
    inner = getattr(values.dtype, "inner", None)
    if inner is None:
        raise TypeError(f"got a polars column of {values.dtype}; {_ACCEPTED}")
    if not inner.is_nested():
        cells = [None if cell is None else _numpy_list(cell) for cell in values]
        return _from_cells(cells, sample_rate)
    while inner.is_nested():
        inner = inner.inner
    numbers_as = type(values)([], dtype=inner).to_numpy().dtype  # to_list would widen them
    cells = [_nested_cell(cell, numbers_as) for cell in values.to_list()]
    return _from_cells(cells, sample_rate)


def _numpy_list(cell):
    """Convert one cell of a polars list column to an array of the same dtype."""
    return cell.to_numpy() if hasattr(cell, "to_numpy") else np.asarray(cell)


def _kind(cell):
    """Return the kind of column that `cell` belongs to, None if it is not accepted."""
    if isinstance(cell, str):
        return "text"
    if is_set(cell):
        return "set"
    if isinstance(cell, os.PathLike) or is_content(cell):
        return "path"
    if isinstance(cell, numbers.Number | np.generic) and not isinstance(cell, np.bytes_):
        return "number"
    if isinstance(cell, list | tuple) or hasattr(cell, "__array__"):
        return "array"
    return "array" if hasattr(cell, "__array_interface__") else None


def _from_cells(cells, sample_rate):
    """Build a column of cells, whose kind is that of the first present cell."""
    cells = [None if is_absent(cell) else cell for cell in cells]
    rows = [row for row, cell in enumerate(cells) if cell is not None]
    kinds = [_kind(cells[row]) for row in rows]
    empty = [isinstance(cells[row], list | tuple) and not len(cells[row]) for row in rows]
    if "set" in kinds or any(empty) and any(is_stack(cells[row]) for row in rows):
        kinds = ["set" if kind == "array" else kind for kind in kinds]
    for row, kind in zip(rows, kinds, strict=True):
        if kind is None:
            raise TypeError(f"row {row}: got {type(cells[row]).__name__}; {_ACCEPTED}")
        if kind != kinds[0]:
            raise TypeError(
                f"row {row}: got {type(cells[row]).__name__} ({kind}) in a column whose first "
                f"present cell, row {rows[0]}, is {type(cells[rows[0]]).__name__} ({kinds[0]}); "
                f"{_ACCEPTED}"
            )
    if kinds and kinds[0] == "text":
        return _text(cells)
    if kinds and kinds[0] == "path":
        return FileArray(cells, sample_rate=sample_rate)
    if kinds and kinds[0] == "number":
        return _numbers(cells)
    if kinds and kinds[0] == "set":
        return np.fromiter(cells, object, len(cells))
    return TensorArray(_of_one_mode(cells, rows), sample_rate=sample_rate)


def _of_one_mode(cells, rows):
    """Convert PIL images of several modes to the richest one, and 8 bits to 16 if both occur.

    No pixel loses information.
    """
    if not all(hasattr(cells[row], "getbands") for row in rows):
        return cells
    if len({cells[row].mode for row in rows}) < 2:
        return cells
    mode, made = max((pil_mode(cells[row]) for row in rows), key=MODES.index), list(cells)
    for row in rows:
        made[row] = pil_pixels(cells[row], mode)
    if {made[row].dtype.name for row in rows} == {"uint8", "uint16"}:
        for row in rows:
            if made[row].dtype == np.uint8:
                made[row] = made[row] * np.uint16(257)  # 255 becomes 65535
    return made


def _text(cells):
    """Return a str array of Python objects, whose joblib.hash depends on content only.

    Arrow-backed text hashes differently after slicing: equal frames would miss the cache.
    """
    cells = [np.nan if cell is None else str(cell) for cell in cells]
    try:
        dtype = pd.StringDtype(storage="python", na_value=np.nan)
    except TypeError:  # pandas before 2.3
        dtype = pd.StringDtype(storage="python")
    return pd.array(cells, dtype=dtype)


def _numbers(cells):
    cells = [np.nan if cell is None else cell for cell in cells]
    column = np.asarray(cells)
    if column.dtype.kind not in "biufc":
        column = pd.array(cells)  # timestamps, decimals: as pandas reads them
    return column


def _with_rate(column, sample_rate):
    """Set `sample_rate` on a column; raise if it cannot have one or has another."""
    if sample_rate is None:
        return column
    if isinstance(column, TensorArray):
        wanted = TensorDtype(column.dtype.value_dtype, column.dtype.cell_shape, sample_rate)
    elif isinstance(column, FileArray):
        wanted = FileDtype(sample_rate)
    else:
        raise TypeError(
            f"sample_rate={sample_rate} was given for a column of {column.dtype}; only arrays "
            "and files have a rate"
        )
    return column.astype(wanted)


def multimodal_frame(*unnamed, index=None, copy=True, **columns):
    """Build a pandas DataFrame whose columns are modalities.

    Parameters
    ----------
    *unnamed : array-like
        Not allowed: pass each column by name.
    index : array-like of shape (n,) or pandas.Index, default=None
        Row labels; by default those of the first Series, else 0, 1, ....
    copy : bool, default=True
        Whether to copy ndarrays. False shares their memory: the frame then changes with them, and
        with ``memory=`` their content is hashed in full each time. Memory maps, Series and
        existing columns are never copied.
    **columns : array-like of n cells
        Name and contents of each column, as `as_column` takes them.

    Returns
    -------
    X : pandas.DataFrame of shape (n, n_columns)
        Absent cells are NA. Series are taken by position, not aligned on their labels.

    Raises
    ------
    ValueError
        If no column is given, or columns differ in their number of rows.
    TypeError
        If a column cannot be converted; the message names column, row and type.

    See Also
    --------
    as_column : Convert values to a single column.

    Notes
    -----
    A column owns its copy of an array, and slices of the frame share it. Data too large to copy can
    be memory-mapped: ``np.load(path, mmap_mode="r")``.

    ``X.to_parquet(path)`` and ``pandas.read_parquet(path)`` keep columns of cells with their dtype,
    NA and sample rate, and so do feather, tables of pyarrow and frames of polars (extra
    ``parquet``). Import `sklearn_mmfusion.containers` before reading: without it, pandas raises
    "data type not understood", and other readers return lists. Pass ``row_group_size=5000`` to
    ``to_parquet`` to write many images with less memory.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mmfusion import multimodal_frame
    >>> X = multimodal_frame(
    ...     image=np.zeros((2, 8, 8), np.uint8), text=["a cat", None], audio=[[0.1, 0.2], [0.3]]
    ... )
    >>> X
               image   text        audio
    0  <uint8 8x8>  a cat  <float64 2>
    1  <uint8 8x8>    NaN  <float64 1>

    Columns of cells that are written to parquet and read again are equal:

    >>> import io, pandas as pd
    >>> file = io.BytesIO()
    >>> X.to_parquet(file)
    >>> pd.read_parquet(file)["audio"].equals(X["audio"])
    True
    """
    if unnamed:
        raise TypeError(
            f"multimodal_frame got {len(unnamed)} values without a name; expected one keyword per "
            "column, as in multimodal_frame(image=images, text=texts)."
        )
    if not columns:
        raise ValueError("multimodal_frame needs at least one column, as name=values")
    made = {name: as_column(values, name=name, copy=copy) for name, values in columns.items()}
    if copy:  # numbers, which `as_column` does not copy; the type of a memory map differs
        made = {n: c.copy() if type(c) is np.ndarray else c for n, c in made.items()}
    return _frame(made, index, columns.values())


def _frame(made, index, sources):
    """Assemble converted columns; a Series in `sources` may provide the index."""
    counts = {name: len(column) for name, column in made.items()}
    if len(set(counts.values())) > 1:
        listing = ", ".join(f"{name!r}: {count}" for name, count in counts.items())
        raise ValueError(f"columns must have equal numbers of rows; got {listing}")
    n_rows = next(iter(counts.values()))
    if index is None:
        index = next((v.index for v in sources if isinstance(v, pd.Series)), None)
    if index is not None and len(index) != n_rows:
        raise ValueError(f"index has {len(index)} labels; the columns have {n_rows} rows")
    index = pd.RangeIndex(n_rows) if index is None else index
    return pd.DataFrame(
        {name: pd.Series(column, index=index, copy=False) for name, column in made.items()},
        index=index,
        copy=False,
    )


def as_frame(X):
    """Convert the input of an estimator to a DataFrame of columns.

    Parameters
    ----------
    X : pandas.DataFrame, polars.DataFrame, pyarrow.Table, or object ndarray of shape (n, m)
        pandas frames pass through; only their object columns are converted. Columns of an
        ndarray are named x0, x1, ....

    Returns
    -------
    X : pandas.DataFrame of shape (n, m)
        The given frame itself if nothing is converted; it is never modified.

    Raises
    ------
    TypeError
        If X is a dict or another type, or its column names are not str.
    ValueError
        If two columns have the same name.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_mmfusion.containers import as_frame
    >>> as_frame(pd.DataFrame({"audio": [[0.1, 0.2], [0.3]]})).dtypes["audio"]
    tensor[float64, ?]
    """
    if isinstance(X, dict):
        raise TypeError(
            "X is a dict, whose length is its number of columns, not rows, so it cannot be "
            "split. Build a frame with multimodal_frame(**X)."
        )
    X = from_pyarrow(X)
    if isinstance(X, pd.DataFrame):
        return _convert_objects(X)
    if is_polars_frame(X):
        return polars_frame(X, as_column)
    if isinstance(X, np.ndarray) and X.dtype.kind == "O" and X.ndim == 2:
        names = [f"x{j}" for j in range(X.shape[1])]
        made = {name: as_column(X[:, j], name=name) for j, name in enumerate(names)}
        return _frame(made, pd.RangeIndex(len(X)), ())
    raise TypeError(
        f"X must be a pandas or polars DataFrame or an object array of shape (n, m); got "
        f"{type(X).__name__}. Build a frame with multimodal_frame(name=values, ...)."
    )


def as_table(X):
    """Convert the input of a composition to a DataFrame or a 2-D ndarray.

    Unlike `as_frame`, this accepts columns of any type: only their selection shows which of them
    hold cells.

    Parameters
    ----------
    X : pandas.DataFrame, polars.DataFrame, polars.LazyFrame, pyarrow.Table or array-like
        Frames of polars and tables of pyarrow are converted to pandas; other input than frames is
        passed to scikit-learn's `check_array`.

    Returns
    -------
    table : pandas.DataFrame or ndarray of shape (n, m)
        The given frame or array itself if nothing is converted.

    Raises
    ------
    TypeError
        If X is a dict or a list of dicts.
    ValueError
        If X has no row or no column, is not 2-D, or two columns have the same name.
    """
    X = from_pyarrow(X)
    first = X[0] if isinstance(X, list) and X else X
    if isinstance(first, dict) and not hasattr(first, "toarray"):  # scipy's dok_array is a dict
        kind, build = "list of dicts", "pd.DataFrame(X)"
        if isinstance(X, dict):
            kind = "dict"
            build = "multimodal_frame(image=..., text=...), or pd.DataFrame([X]) if X is one row"
        raise TypeError(
            f"X is a {kind}; expected a DataFrame with one column per modality. Build it with "
            f"{build}."
        )
    if is_polars_frame(X):
        X = polars_frame(X, any_polars_column)
    if not isinstance(X, pd.DataFrame):
        array = _check_table(X)
        if array.dtype.kind in "US" and not hasattr(X, "dtype"):
            # a list of mixed rows: keep numbers as numbers
            array = check_array(X, dtype=object, ensure_all_finite=False)
        return array
    for count, unit in zip(X.shape, ("sample", "feature"), strict=True):
        if count == 0:
            raise ValueError(
                f"Found a frame with 0 {unit}(s) (shape={X.shape}) while a minimum of 1 is "
                "required."
            )
    if not X.columns.is_unique:
        repeated = X.columns[X.columns.duplicated()].tolist()
        raise ValueError(f"X has more than one column called {repeated}; names must be unique.")
    # scikit-learn passes columns in another byte order to compiled code, which fails.
    native = {
        name: dtype.newbyteorder("=")
        for name, dtype in X.dtypes.items()
        if isinstance(dtype, np.dtype) and not dtype.isnative
    }
    return X.astype(native) if native else X


def _check_table(X):
    """Apply `check_array`; errors explain how to pass rows of several modalities."""
    build = "multimodal_frame(image=..., text=...)"
    if issparse(X):
        raise TypeError(
            "Sparse data was passed; expected a DataFrame with one column per modality. Build it "
            f"with {build}, pass X.toarray(), or use a ColumnTransformer."
        )
    try:
        return check_array(X, dtype=None, ensure_all_finite=False)
    except (TypeError, ValueError) as error:
        is_list = isinstance(X, (list, tuple)) and np.ndim(X[0] if X else 0) > 0
        if not is_list and np.ndim(X) < 3:
            raise
        got = f"a {type(X).__name__} of {len(X)} items" if is_list else f"of shape {np.shape(X)}"
        raise type(error)(
            f"X is {got} ({error}); expected a DataFrame with one column per modality. Build it "
            f"with {build}."
        ) from error


def polars_frame(X, convert):
    """Convert a polars (lazy) frame to pandas, each column with `convert`."""
    X = X.collect() if hasattr(X, "collect") else X
    return pd.DataFrame({s.name: convert(s, name=s.name) for s in X.get_columns()}, copy=False)


def any_polars_column(column, name):
    try:
        return as_column(column, name=name)
    except TypeError:  # dates, categories: a custom transformer may take them
        return pd.array(column.to_list())


def cells_of(X):
    """Return the cells of an estimator's X, or None if X is a table of numbers."""
    if isinstance(X, pd.DataFrame):
        if X.shape[1] != 1 or pd.api.types.is_numeric_dtype(X.dtypes.iloc[0]):
            return None
        return X.iloc[:, 0]
    if isinstance(X, pd.Series):
        return None if pd.api.types.is_numeric_dtype(X.dtype) else X
    if isinstance(X, pd.api.extensions.ExtensionArray):
        return X
    if is_polars_frame(X):
        return cells_of(polars_frame(X, any_polars_column))
    if is_polars(X):
        return cells_of(pd.Series(any_polars_column(X, X.name), name=X.name, copy=False))
    X = as_numpy(X)
    if isinstance(X, np.ndarray):
        return _array_cells(X)
    if isinstance(X, list | tuple):
        return X if _holds_cells(X) else None
    return None


def _array_cells(X):
    if X.dtype.kind not in "OUS":
        return X if X.ndim > 2 else None
    if X.dtype == object and X.ndim > 2:
        return np.asarray(X.tolist())
    if X.ndim == 2 and X.shape[1] == 1 and _holds_cells(X[:, 0]):
        return X[:, 0]
    return X if X.ndim == 1 and _holds_cells(X) else None


def _holds_cells(values):
    """Whether a sequence holds cells rather than numbers or rows of numbers."""
    present = [
        v for v in values if not (v is None or (isinstance(v, float) and v != v) or v is pd.NA)
    ]
    if not present:
        return len(values) > 0
    if all(isinstance(v, list | tuple) for v in present):
        # Rows of numbers are equally long and hold only scalars; none of them is absent.
        is_table = len({len(v) for v in present}) == 1 and all(map(np.isscalar, present[0]))
        is_table &= not any(isinstance(v, str) and file_kind(v) for v in present[0])
        return len(present) < len(values) or not is_table
    # A list of equally long 1-D arrays is a table of numbers as well as a column of signals: both
    # readings give the same cells.
    return not all(is_number(v) for v in present)


def is_number(value):
    """Whether a value is a single number, also in an array without axes."""
    is_array = isinstance(value, np.ndarray)
    return np.ndim(value) == 0 if is_array else isinstance(value, numbers.Number)


def is_numbers(X):
    """Whether X is a list or an array of single numbers."""
    if isinstance(X, np.ndarray):
        return X.ndim == 1 and len(X) > 0 and X.dtype.kind in "biuf"
    return isinstance(X, list | tuple) and len(X) > 0 and all(map(is_number, X))


def _convert_objects(X):
    for name in X.columns:
        if not isinstance(name, str):
            raise TypeError(
                f"column names must be str; got {name!r} of type {type(name).__name__}. "
                "Rename with X.columns = X.columns.astype(str)."
            )
    if not X.columns.is_unique:
        twice = X.columns[X.columns.duplicated()][0]
        raise ValueError(f"column names must be distinct; got {twice!r} twice. Rename one.")
    objects = [
        name
        for name, dtype in X.dtypes.items()
        if dtype.kind == "O" and isinstance(dtype, np.dtype) or holds_arrow_cells(dtype)
    ]
    if not objects:
        return X
    made = {name: as_column(X[name], name=name) for name in objects}
    return X.assign(**{n: pd.Series(c, index=X.index, copy=False) for n, c in made.items()})
