"""Whatever a user passes to one encoder as X, as one column of cells."""

import numpy as np
import pandas as pd
from sklearn.utils import check_array

from sklearn_mmfusion._sklearn import _check_feature_names, validate_data
from sklearn_mmfusion.containers._columns import as_column
from sklearn_mmfusion.containers._file import FileArray
from sklearn_mmfusion.containers._tensor import TensorArray


def check_column(estimator, X, *, reset, paths=None):
    """Turn X into one column and keep ``n_features_in_`` as scikit-learn would.

    A table of numbers (2-D array, list of rows of numbers, numeric frame) goes through
    scikit-learn's own ``validate_data``; each row then is a 1-D cell. Anything else is a column
    of cells: a series, a frame of one column, an array with more axes, a list of cells.

    Parameters
    ----------
    estimator : estimator
        Takes ``n_features_in_``; its ``root`` parameter is where relative paths start.
    X : object
    reset : bool
        True in ``fit``.
    paths : str, default=None
        Kind of the files that str cells are read as; None leaves text as it is.

    Returns
    -------
    column : TensorArray, FileArray, or pandas ExtensionArray of str
    """
    _check_kind(estimator, X)
    cells = _as_cells(X)
    if cells is None:
        table = _check_table(estimator, X, reset)
        given = np.asarray(X)
        # Whole numbers keep their type, which says how loud a sample or how bright a pixel is.
        return TensorArray(given if given.dtype.kind in "iub" else table, copy=False)
    column = as_column(cells, name=getattr(cells, "name", None), copy=False)
    if paths is not None and not isinstance(column, TensorArray | FileArray):
        column = _read_as_paths(column, estimator, paths)
    if isinstance(column, np.ndarray):
        column = pd.array(column)
    if len(column) == 0:
        raise ValueError(
            f"{type(estimator).__name__}: Found array with 0 sample(s); a minimum of 1 is required."
        )
    # Cells may differ in size from those in fit: whoever reads them says whether that is right.
    if reset:
        _set_width(estimator, column)
    return column


def _check_table(estimator, X, reset):
    if reset:
        estimator._cells_in = False
    if estimator._cells_in:  # of any size, so that the width of a table has nothing to equal
        return check_array(X, dtype=np.float32, estimator=estimator, input_name="X")
    return validate_data(estimator, X, reset=reset, dtype=np.float32, ensure_min_samples=1)


def _check_kind(estimator, X):
    """Refuse what is no column, where the message would otherwise speak of numbers."""
    who = type(estimator).__name__
    # scipy's dok_array is a dict; what is sparse goes on to scikit-learn's own message.
    if X is None or (isinstance(X, dict | str | bytes) and not hasattr(X, "toarray")):
        raise TypeError(
            f"{who}: X is a {type(X).__name__}; expected a column of cells (list, array, Series) "
            "or a 2-D array of numbers."
        )
    if isinstance(X, pd.DataFrame) and X.shape[1] > 1:
        columns = [str(n) for n, d in X.dtypes.items() if not pd.api.types.is_numeric_dtype(d)]
        if columns:
            raise ValueError(
                f"{who}: X is a frame of {X.shape[1]} columns, among them {columns}, which do not "
                f"hold numbers; expected one column, such as X[{columns[0]!r}]. FusionTransformer "
                "sends each column to an encoder of its own."
            )
    dtype = getattr(getattr(X, "dtype", None), "value_dtype", getattr(X, "dtype", None))
    if getattr(dtype, "kind", None) == "c" and np.ndim(X) != 2:
        raise ValueError(f"{who}: Complex data not supported; X holds cells of {dtype}.")


def is_table(X):
    """Whether `check_column` reads X as a table of numbers, each row a 1-D cell."""
    return _as_cells(X) is None


def _as_cells(X):
    """The cells of X, or None where X is a table of numbers."""
    if isinstance(X, pd.DataFrame):
        if X.shape[1] != 1 or pd.api.types.is_numeric_dtype(X.dtypes.iloc[0]):
            return None
        return X.iloc[:, 0]
    if isinstance(X, pd.Series):
        return None if pd.api.types.is_numeric_dtype(X.dtype) else X
    if isinstance(X, pd.api.extensions.ExtensionArray):
        return X
    if hasattr(X, "to_pandas") and hasattr(X, "columns"):  # a polars frame
        return _as_cells(X.to_pandas())
    if hasattr(X, "detach"):  # a torch tensor
        X = X.detach().cpu().numpy()
    if isinstance(X, np.ndarray):
        return _array_cells(X)
    if isinstance(X, list | tuple):
        return X if _holds_cells(X) else None
    return None


def _array_cells(X):
    if X.dtype.kind not in "OUS":
        return X if X.ndim > 2 else None
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
    first = present[0]
    if isinstance(first, list | tuple):
        # Rows of numbers are equally long and hold only scalars.
        return any(np.ndim(v) for v in first) or len({len(v) for v in present}) > 1
    if isinstance(first, np.ndarray):
        # A list of equally long 1-D arrays is a table of numbers as well as a column of signals:
        # both readings give the same cells, and the table is what scikit-learn checks.
        return first.ndim > 0
    return not np.isscalar(first) or isinstance(first, str | bytes)


def _read_as_paths(column, estimator, paths):
    if isinstance(getattr(column, "dtype", None), pd.CategoricalDtype):
        column = column.astype(column.categories.dtype)
    if isinstance(column, np.ndarray) or not pd.api.types.is_string_dtype(column.dtype):
        raise TypeError(
            f"{type(estimator).__name__}: X holds cells of type {column.dtype}; expected arrays "
            f"or paths of {paths} files."
        )
    return FileArray(column, root=getattr(estimator, "root", None))


def _set_width(estimator, column):
    shape = getattr(column.dtype, "cell_shape", (None,))
    estimator._cells_in = True
    estimator.n_features_in_ = 1 if None in shape else int(np.prod(shape))
    _check_feature_names(estimator, [[0.0]], reset=True)
