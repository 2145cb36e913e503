"""What ``"passthrough"`` stands for in a triple: the column as it is, as numbers."""

import numpy as np
import pandas as pd
from sklearn.preprocessing import FunctionTransformer

from sklearn_mmfusion.containers import TensorArray


def as_transformer(transformer):
    """The transformer itself, or what ``"passthrough"`` stands for."""
    is_name = isinstance(transformer, str) and transformer == "passthrough"
    return FunctionTransformer(as_numbers) if is_name else transformer


def is_passthrough(child):
    """Whether a child is what `as_transformer` made of ``"passthrough"``."""
    return isinstance(child, FunctionTransformer) and child.func is as_numbers


def as_numbers(data):
    """A column or a table as a 2-D array of numbers, cells of tensors flattened."""
    if isinstance(data, pd.DataFrame):
        return np.hstack([as_numbers(data.iloc[:, j]) for j in range(data.shape[1])])
    if isinstance(data, pd.Series):
        return _series_numbers(data)
    data = np.asarray(data)
    return data.reshape(len(data), -1)


def _series_numbers(series):
    if isinstance(series.array, TensorArray) and not series.array.is_ragged:
        present = ~np.asarray(series.isna())
        cells = series.array.gather(np.flatnonzero(present))
        numbers = np.full((len(series), *cells.shape[1:]), np.nan)
        numbers[present] = cells
        return numbers.reshape(len(series), -1)
    if not pd.api.types.is_numeric_dtype(series.dtype):
        raise ValueError(
            f"'passthrough' needs numbers or cells of one shape; column {series.name!r} has dtype "
            f"{series.dtype}. Give it a transformer, or 'drop'."
        )
    return series.to_numpy(dtype=np.float64, na_value=np.nan)[:, None]
