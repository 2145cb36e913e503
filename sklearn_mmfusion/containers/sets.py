"""Columns whose cells are sets: several images, or files, per row."""

import os
from functools import cached_property

import numpy as np
import pandas as pd

from sklearn_mmfusion._decoders import MODES
from sklearn_mmfusion._validation import as_numpy
from sklearn_mmfusion.containers.dtypes import TensorDtype
from sklearn_mmfusion.containers.file_array import is_content
from sklearn_mmfusion.containers.storage import DenseStorage, RaggedStorage, is_absent
from sklearn_mmfusion.containers.tensor_array import TensorArray

ITEM_AXES = 2  # an array with at most so many axes is a single item


def takes_sets(estimator):
    """Whether an estimator reads each cell as a set of items, and pools them."""
    reads_sets = getattr(getattr(estimator, "_reads", None), "sets", False)
    return reads_sets and getattr(estimator, "pooling", None) is not None


def is_set(cell):
    """Whether a cell is a list of texts, files or images that do not make one array.

    Lists of arrays of one shape, and nested lists of numbers, are arrays.
    """
    if isinstance(cell, np.ndarray):
        if cell.dtype != object or cell.ndim != 1:
            return False
    elif not isinstance(cell, list | tuple):
        return False
    first = next((item for item in cell if not is_absent(item)), None)
    if first is None:
        is_numbers = any(isinstance(item, float) for item in cell)  # NaN in a list of numbers
        return len(cell) > 0 and not is_numbers
    if isinstance(first, str | os.PathLike) or is_content(first):
        return True
    form = _form(first)
    if len(form) < 2:
        return False
    return len({_form(item) for item in cell}) > 1 or form[0] == "other mode"


def _form(item):
    """Mode and size, or shape, of an item; images with equal ones can be stacked."""
    if hasattr(item, "getbands"):
        return (item.mode if item.mode in MODES else "other mode"), item.size
    try:
        return np.shape(as_numpy(item))
    except ValueError:  # nested lists of different lengths
        return ()


def is_stack(cell):
    """Whether a list or array that is not a set holds images of one size."""
    if isinstance(cell, list | tuple):
        return len(cell) > 0 and len(_form(cell[0])) > 1
    return isinstance(cell, np.ndarray) and cell.ndim > 2


def holds_sets(column):
    """Whether a column or a Series of objects holds at least one set."""
    is_objects = isinstance(column, np.ndarray | pd.Series) and column.dtype == object
    return is_objects and any(is_set(cell) for cell in column)


class SetColumn:
    """The items of sets, stored end to end, and the number of items in each row.

    Parameters
    ----------
    items : array-like of items
        Absent ones are dropped by `dropna`.
    sizes : ndarray of int of shape (n,)
        0 in absent rows.
    """

    def __init__(self, items, sizes):
        self.items, self.sizes = items, np.asarray(sizes, np.int64)

    def __len__(self):
        return len(self.sizes)

    def isna(self):
        """Where a row has no item: (n,) bool."""
        return self.sizes == 0

    @cached_property
    def owners(self):
        """Row of each item."""
        return np.repeat(np.arange(len(self)), self.sizes)

    def positions(self, rows):
        """Positions of the items of some rows."""
        return end_to_end(np.cumsum(self.sizes)[rows] - self.sizes[rows], self.sizes[rows])

    def lists(self):
        """The sets as lists; the items must be in a list."""
        ends = np.cumsum(self.sizes)
        pairs = zip(ends - self.sizes, ends, strict=True)
        return np.fromiter((self.items[start:end] for start, end in pairs), object, len(self))

    def dropna(self, items=None):
        """The sets without absent items; `items` may replace them one by one."""
        items = self.items if items is None else items
        if isinstance(items, list):
            kept = np.array([not is_absent(item) for item in items], bool)
            items = [item for item, is_kept in zip(items, kept, strict=True) if is_kept]
        else:
            kept = ~np.asarray(pd.isna(items))
            items = items if kept.all() else items[kept]
        return SetColumn(items, np.bincount(self.owners[kept], minlength=len(self)))


def lone_as_sets(cells):
    """Make sets of one of Pillow images: a column of them would become an array of images."""
    is_objects = pd.api.types.is_object_dtype(getattr(cells, "dtype", None))
    if not (is_objects or isinstance(cells, list | tuple)) or not any(
        hasattr(cell, "getbands") for cell in cells
    ):
        return cells
    # None makes it a set: it is dropped later
    return [[cell, None] if hasattr(cell, "getbands") else cell for cell in cells]


def end_to_end(starts, sizes):
    """Concatenate the ranges that begin at each start and have its size."""
    ends = np.cumsum(sizes)
    return np.repeat(starts - (ends - sizes), sizes) + np.arange(sizes.sum())


def as_sets(column):
    """Read the cells of a column as sets.

    Parameters
    ----------
    column : TensorArray, FileArray, ndarray of objects, or array of texts
        From `as_column`. An array with more axes than a gray image is a set, along its first axis.

    Returns
    -------
    sets : SetColumn
        Single items are sets of one. The items of objects are a list.
    """
    if isinstance(column, TensorArray):
        if len(column.dtype.cell_shape) > ITEM_AXES:
            return _split(column, np.flatnonzero(~column.isna()))
        if len(column.dtype.cell_shape) == 1:  # that of an empty list
            is_full = column.cell_lengths() > 0
            return SetColumn(column[is_full], is_full)
    elif isinstance(column, np.ndarray) and column.dtype == object:
        cells = [_items(cell) for cell in column]
        items = [item for cell in cells for item in cell]
        return SetColumn(items, [len(cell) for cell in cells]).dropna()
    return SetColumn(column, np.ones(len(column))).dropna()


def _items(cell):
    """The items of a cell as a list."""
    if is_absent(cell):
        return []
    is_file = isinstance(cell, str | os.PathLike) or is_content(cell)
    if is_file or not isinstance(cell, list | tuple | np.ndarray):
        return [cell]
    is_array = isinstance(cell, np.ndarray) and cell.dtype != object
    return [cell] if is_array and cell.ndim <= ITEM_AXES else list(cell)


def _split(column, present):
    """Arrays of items along their first axis; the items share the memory of the column."""
    storage, rows, dtype = column._storage, column._rows[present], column.dtype
    item_dtype = TensorDtype(dtype.value_dtype, dtype.cell_shape[1:])
    every = storage.shapes(np.arange(storage.n))
    if not item_dtype.is_ragged and (every[:, 1:] != item_dtype.cell_shape).any():
        storage, rows = storage.compact(rows), np.arange(len(rows))  # without cells of other views
        every = storage.shapes(rows)
    sizes = column.cell_lengths()
    values, starts = np.ascontiguousarray(storage.values), np.cumsum(every[:, 0]) - every[:, 0]
    if item_dtype.is_ragged:
        shapes = np.repeat(every[:, 1:], every[:, 0], axis=0)
        items = RaggedStorage(values.reshape(-1), shapes, storage.source_for(values))
    else:
        values = values.reshape(-1, *item_dtype.cell_shape)
        items = DenseStorage(values, storage.source_for(values))
    positions = end_to_end(starts[rows], sizes[present])
    return SetColumn(TensorArray._view(items, positions, item_dtype), sizes)
