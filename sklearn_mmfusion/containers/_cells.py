"""Turn a sequence of cells, of whatever type, into one storage."""

import numpy as np

from sklearn_mmfusion._files import pil_pixels
from sklearn_mmfusion.containers._base import is_absent
from sklearn_mmfusion.containers._dtypes import TensorDtype, check_value_dtype, common_value_dtype
from sklearn_mmfusion.containers._storage import DenseStorage, RaggedStorage, native


def format_cell(cell):
    """Return a cell's dtype and shape as text, never its numbers."""
    return f"<{cell.dtype} {'x'.join(map(str, cell.shape))}>"


def as_cell(value):
    """Return one cell as a numeric array of at least one axis.

    Raises
    ------
    TypeError
        If `value` is text, a scalar, or no numeric array.
    """
    if isinstance(value, str | bytes | dict | set):
        raise TypeError(f"got {type(value).__name__}")
    if hasattr(value, "detach"):  # a torch tensor, wherever it is
        value = value.detach().cpu()
    if hasattr(value, "getbands"):  # a PIL image
        value = pil_pixels(value)
    try:
        cell = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"got {type(value).__name__} that is no array: {error}") from error
    if cell.ndim == 0 and cell.dtype.kind in "biufc":
        raise TypeError(f"got the scalar {value!r}; a column of scalars is a numeric column")
    if cell.dtype.kind not in "biufc":
        raise TypeError(f"got {type(value).__name__} of dtype {cell.dtype}")
    check_value_dtype(cell.dtype)
    return cell


def store_cells(values, dtype, sample_rate):
    """Return (storage, rows, dtype) of a list of cells, of `dtype` where it is given."""
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
    ):  # [1, 2] beside [0.5]: plain Python numbers
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
    """Return the narrowest dtype of `cells`, which came from `rows`."""
    if not cells:  # nothing says what the cells would be: the weakest claim that can be joined
        return TensorDtype(np.float32, (None,), sample_rate)
    for row, cell in zip(rows, cells, strict=True):
        if cell.ndim != cells[0].ndim:
            raise ValueError(
                f"row {row}: cell of shape {cell.shape}; the cell of row {rows[0]} has shape "
                f"{cells[0].shape}. Cells of one column have the same number of axes."
            )
    # np.asarray([]) is float whatever was meant: cells with numbers in them decide
    sized = [cell for cell in cells if cell.size] or cells
    common = common_value_dtype(list({native(cell.dtype) for cell in sized}))
    if common is None:
        odd = next(
            (row, cell)
            for row, cell in zip(rows, cells, strict=True)
            if cell.size and common_value_dtype([cell.dtype, sized[0].dtype]) is None
        )
        raise TypeError(
            f"row {odd[0]}: cell of {odd[1].dtype} beside cells of {sized[0].dtype}. Cells of one "
            "column hold one kind of number; convert them first."
        )
    axes = zip(*(cell.shape for cell in cells), strict=True)
    shape = tuple(lengths[0] if len(set(lengths)) == 1 else None for lengths in axes)
    return TensorDtype(common, shape, sample_rate)


def _store(cells, rows, dtype):
    """Copy `cells` into one storage of `dtype`; raise where one does not fit."""
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
