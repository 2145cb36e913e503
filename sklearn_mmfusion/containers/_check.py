"""Whatever a user passes to one encoder as X, as one column of cells."""

import numpy as np
import pandas as pd

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
    cells = _as_cells(X)
    if cells is None:
        rows = validate_data(estimator, X, reset=reset, dtype=np.float32, ensure_min_samples=1)
        return TensorArray(rows)
    column = as_column(cells, name=type(estimator).__name__)
    if paths is not None and not isinstance(column, TensorArray | FileArray):
        column = _read_as_paths(column, estimator, paths)
    if isinstance(column, np.ndarray):
        column = pd.array(column)
    if len(column) == 0:
        raise ValueError(
            f"{type(estimator).__name__}: Found array with 0 sample(s); a minimum of 1 is required."
        )
    _check_width(estimator, column, reset)
    return column


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
        return False
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
    if isinstance(column, np.ndarray) or not pd.api.types.is_string_dtype(column.dtype):
        raise TypeError(
            f"{type(estimator).__name__}: X holds cells of type {column.dtype}; expected arrays "
            f"or paths of {paths} files."
        )
    return FileArray(column, root=getattr(estimator, "root", None))


def _check_width(estimator, column, reset):
    shape = getattr(column.dtype, "cell_shape", (None,))
    width = 1 if None in shape else int(np.prod(shape))
    if reset:
        estimator.n_features_in_ = width
        _check_feature_names(estimator, [[0.0]], reset=True)
    elif width != estimator.n_features_in_ and 1 not in (width, estimator.n_features_in_):
        raise ValueError(
            f"X has {width} features, but {type(estimator).__name__} is expecting "
            f"{estimator.n_features_in_} features as input: its cells have shape {shape}."
        )
