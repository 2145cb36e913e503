"""Columns of cells as Arrow arrays: parquet, feather, and exchange with pyarrow and polars.

A cell is stored as a list along its first axis of fixed-size lists along the others. If another
axis than the first varies or has length 0, nested lists would lose lengths; a cell is then a struct
of its flat `data` and its `shape`. Complex numbers have one more axis, of length 2. Paths are
strings; a column that holds contents of files is a struct of `bytes` and `path`, as in image data
sets. An extension type names the dtype; other readers see the plain lists, strings and structs.
"""

import json
from contextlib import suppress
from functools import cache

import numpy as np
import pandas as pd
from pandas.api.types import pandas_dtype

from sklearn_mmfusion._validation import import_extra
from sklearn_mmfusion.containers.dtypes import FileDtype, TensorDtype
from sklearn_mmfusion.containers.file_array import FileArray
from sklearn_mmfusion.containers.storage import DenseStorage, RaggedStorage
from sklearn_mmfusion.containers.tensor_array import TensorArray

_NAME = "sklearn_mmfusion.cells"
CELL_NAMES = (_NAME, "arrow.fixed_shape_tensor")  # extension types of cells


def import_pyarrow():
    """Return pyarrow."""
    import_extra("pyarrow", "converting columns to or from Arrow", "parquet")
    import pyarrow.compute  # pyarrow does not load it by itself

    return pyarrow


@cache
def cell_type():
    """Return the class of the extension type of columns of cells, registered under its name."""
    pa = import_pyarrow()

    class CellType(pa.ExtensionType):
        def __init__(self, dtype, storage_type=None):
            self.dtype = dtype
            super().__init__(storage_type or _storage_type(pa, dtype), _NAME)

        def __arrow_ext_serialize__(self):
            return json.dumps({"dtype": self.dtype.name}).encode()

        @classmethod
        def __arrow_ext_deserialize__(cls, storage_type, serialized):
            return cls(pandas_dtype(json.loads(serialized)["dtype"]), storage_type)

        def __eq__(self, other):  # pyarrow's own compares the storage alone
            if not isinstance(other, CellType):
                return False
            return self.dtype == other.dtype and self.storage_type == other.storage_type

        def __hash__(self):
            return hash((self.dtype, self.storage_type))

        def to_pandas_dtype(self):
            return self.dtype

    CellType.__qualname__ = "CellType"
    globals()["CellType"] = CellType  # where pickle finds it
    with suppress(pa.ArrowKeyError):  # registered before this module was reloaded
        pa.unregister_extension_type(_NAME)
    pa.register_extension_type(CellType(FileDtype()))
    return CellType


def register_cell_type():
    """Register the extension type if pyarrow is installed; pandas has then imported it."""
    with suppress(ImportError):
        cell_type()


# -- to Arrow -------------------------------------------------------------------------------------


def _stored_form(dtype):
    """Return (dtype of the numbers, shape, whether cells are nested lists) of the storage."""
    values, shape = dtype.value_dtype, dtype.cell_shape
    if values.kind == "c":
        values, shape = np.dtype(f"f{values.itemsize // 2}"), (*shape, 2)
    return values, shape, not {None, 0} & set(shape[1:])


def _list_of(pa, element, length=None):
    """Return the type of lists without nulls, with 64-bit offsets or of a fixed length."""
    field = pa.field("element", element, nullable=False)  # the name it has in parquet
    return pa.large_list(field) if length is None else pa.list_(field, length)


def _storage_type(pa, dtype):
    if isinstance(dtype, FileDtype):
        return pa.large_string()
    values, shape, is_nested = _stored_form(dtype)
    element = pa.from_numpy_dtype(values)
    if not is_nested:
        parts = {"data": _list_of(pa, element), "shape": _list_of(pa, pa.int64())}
        return pa.struct([pa.field(name, part, nullable=False) for name, part in parts.items()])
    for length in reversed(shape[1:]):
        element = _list_of(pa, element, length)
    return _list_of(pa, element)


def to_arrow(array, arrow_type=None):
    """Convert a TensorArray or FileArray to an Arrow array.

    Only its own rows are converted. The numbers are not copied if the array holds all rows of its
    base in their order.

    Parameters
    ----------
    array : TensorArray or FileArray
    arrow_type : pyarrow.DataType, default=None
        Type to cast to; None for the extension type of the column's dtype.

    Returns
    -------
    converted : pyarrow.Array
        Absent cells are null.

    Raises
    ------
    pyarrow.ArrowInvalid
        If a path is not UTF-8 text. pyarrow adds the name of the column.
    """
    pa = import_pyarrow()
    storage = (_files if isinstance(array, FileArray) else _tensors)(pa, array)
    made = pa.ExtensionArray.from_storage(cell_type()(array.dtype, storage.type), storage)
    return made if arrow_type is None else made.storage.cast(arrow_type)


def _files(pa, array):
    paths = array._files()
    if any(isinstance(path, dict) for path in paths):
        structs = [{"path": path} if isinstance(path, str) else path for path in paths]
        return pa.array(structs, pa.struct({"bytes": pa.large_binary(), "path": pa.large_string()}))
    try:
        return pa.array(paths, pa.large_string())
    except UnicodeEncodeError as error:
        row = paths.index(error.object)
        raise pa.ArrowInvalid(
            f"row {row}: the path {error.object!r} is not UTF-8, which Arrow needs; rename the file"
        ) from error


def _tensors(pa, array):
    absent = array.isna()
    numbers, shape, is_nested = _stored_form(array.dtype)
    # (cells' numbers, one after another), (n_present, ndim)
    flat, shapes = array._storage.compact(array._rows[~absent]).to_ragged().plain()
    if len(shape) > shapes.shape[1]:  # complex
        shapes = np.column_stack([shapes, np.full(len(shapes), 2)])
    values = pa.array(flat.view(numbers))
    if is_nested:
        for length in reversed(shape[1:]):
            kind = _list_of(pa, values.type, length)
            values = pa.FixedSizeListArray.from_arrays(values, type=kind)
        return _lists(pa, values, shapes[:, 0], absent)
    lengths = np.full(len(shapes), len(shape))
    parts = [
        _lists(pa, values, shapes.prod(axis=1), absent, nullable=False),
        _lists(pa, pa.array(shapes.reshape(-1)), lengths, absent, nullable=False),
    ]
    fields = list(_storage_type(pa, array.dtype))
    return pa.StructArray.from_arrays(parts, fields=fields, mask=pa.array(absent))


def offsets_of(lengths, absent):
    """Return the int64 (n + 1,) offsets of lists of these lengths at the rows that are present."""
    offsets = np.zeros(len(absent) + 1, np.int64)
    offsets[1:][~absent] = lengths
    return np.cumsum(offsets, out=offsets)


def _lists(pa, values, lengths, absent, nullable=True):
    mask = pa.array(absent) if nullable and absent.any() else None
    offsets = pa.array(offsets_of(lengths, absent))
    kind = _list_of(pa, values.type)
    return pa.LargeListArray.from_arrays(offsets, values, type=kind, mask=mask)


# -- from Arrow -----------------------------------------------------------------------------------


def holds_arrow_cells(dtype):
    """Whether a dtype is that of an Arrow-backed column of lists, tensors or cells."""
    if not isinstance(dtype, pd.ArrowDtype):
        return False
    kind = dtype.pyarrow_dtype
    is_cell = getattr(kind, "extension_name", None) in CELL_NAMES
    return is_cell or _is_list(kind) or _is_content(kind)


def holds_arrow_sets(dtype):
    """Whether a dtype is that of an Arrow-backed column of lists of texts or contents of files."""
    if not holds_arrow_cells(dtype) or not _is_list(dtype.pyarrow_dtype):
        return False
    kind, types = dtype.pyarrow_dtype.value_type, import_pyarrow().types
    return types.is_string(kind) or types.is_large_string(kind) or _is_content(kind)


def _is_content(kind):
    """Whether a type is that of contents of files: binary, or structs of `bytes` and `path`."""
    types = import_pyarrow().types
    if types.is_struct(kind):
        return {field.name for field in kind} == {"bytes", "path"}
    return types.is_binary(kind) or types.is_large_binary(kind)


def _is_list(kind):
    types = import_pyarrow().types
    return any(
        is_kind(kind)
        for is_kind in (
            types.is_list,
            types.is_large_list,
            types.is_fixed_size_list,
            types.is_list_view,
            types.is_large_list_view,
        )
    )


def from_arrow(array, dtype=None):
    """Convert an Arrow array of lists, fixed-shape tensors, contents or cells to a column.

    Parameters
    ----------
    array : pyarrow.Array or pyarrow.ChunkedArray
        Numbers in lists, nested or not, or in `fixed_shape_tensor`, or what `to_arrow` returns.
    dtype : TensorDtype or FileDtype, default=None
        None: that of the extension type, or inferred from the lists.

    Returns
    -------
    column : TensorArray or FileArray
        It owns a copy of the numbers: Arrow arrays may share memory that changes.

    Raises
    ------
    TypeError
        If the lists do not hold numbers.
    ValueError
        If the lists of a cell differ in length, or cells do not fit `dtype`.
    """
    pa = import_pyarrow()
    dtype = _declared_dtype(pa, array.type) if dtype is None else dtype
    chunks = array.chunks if isinstance(array, pa.ChunkedArray) else [array]
    if isinstance(dtype, FileDtype):
        paths = [path for chunk in chunks for path in _stored(pa, chunk).to_pylist()]
        return FileArray._from_sequence(paths, dtype=dtype)
    absent = np.asarray(array.is_null())
    present = np.flatnonzero(~absent)
    parts, start = [], 0
    for chunk in chunks or [_empty(pa, array.type)]:
        n_cells = len(chunk) - chunk.null_count
        parts.append(_flat_cells(pa, chunk, present[start : start + n_cells], dtype))
        start += n_cells
    values, shapes = (np.concatenate(each) for each in zip(*parts, strict=True))
    dtype = _inferred_dtype(values, shapes) if dtype is None else dtype
    storage = _storage(values, shapes, present, dtype)
    rows = np.full(len(absent), -1, np.int64)
    rows[present] = np.arange(len(present))
    return TensorArray._view(storage, rows, dtype)


def _declared_dtype(pa, kind):
    """Return the dtype that an extension type declares, None for other types."""
    if isinstance(kind, pa.FixedShapeTensorType):
        shape = np.array(kind.shape, np.int64)[kind.permutation or slice(None)]
        return TensorDtype(kind.value_type.to_pandas_dtype(), tuple(shape))
    if _is_content(kind):
        return FileDtype()
    return kind.dtype if isinstance(kind, cell_type()) else None


def _inferred_dtype(values, shapes):
    shape = tuple(int(axis[0]) if len(np.unique(axis)) == 1 else None for axis in shapes.T)
    return TensorDtype(values.dtype, shape)


def _stored(pa, array):
    return array.storage if isinstance(array.type, pa.BaseExtensionType) else array


def _empty(pa, kind):
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, pa.array([], kind.storage_type))
    return pa.array([], kind)


def _flat_cells(pa, array, present, dtype):
    """Return the numbers, one cell after another, and the (n, ndim) shapes of the present cells.

    `present` are their rows, for messages; `dtype` is None if unknown.
    """
    kind, array = array.type, _stored(pa, array)
    if isinstance(kind, pa.FixedShapeTensorType):
        cells = _numbers(pa, array.flatten()).reshape(len(present), *kind.shape)
        order = kind.permutation or range(len(kind.shape))
        cells = cells.transpose(0, *(axis + 1 for axis in order))
        shapes = np.tile(np.array(cells.shape[1:], np.int64), (len(present), 1))
        return cells.reshape(-1), shapes
    if pa.types.is_struct(array.type) and dtype is not None:
        return _shaped_data(pa, array.drop_null(), present, len(_stored_form(dtype)[1]))
    axes, counts = [], np.ones(len(present), np.int64)  # lists per cell at this depth
    while _is_list(array.type):
        if axes and array.null_count:
            row = np.repeat(present, counts)[np.asarray(array.is_null())][0]
            raise ValueError(
                f"row {row}: a list inside the cell is null; expected numbers or lists"
            )
        axes.append(_lengths(pa, array, counts, present))
        counts = counts * axes[-1]
        array = array.flatten()
    if not axes:
        raise TypeError(f"expected lists or tensors; got an Arrow array of {kind}")
    return _numbers(pa, array), np.column_stack(axes)


def _shaped_data(pa, structs, present, n_axes):
    data, shapes = structs.field("data"), _numbers(pa, structs.field("shape").flatten())
    if len(shapes) != len(present) * n_axes:
        raise ValueError(
            f"{len(present)} shapes hold {len(shapes)} lengths; expected {n_axes} per cell"
        )
    shapes = shapes.reshape(-1, n_axes).astype(np.int64)
    odd = shapes.prod(axis=1) != np.asarray(pa.compute.list_value_length(data))
    if odd.any() or (shapes < 0).any():
        raise ValueError(f"row {present[odd.argmax()]}: the data of a cell do not fill its shape")
    return _numbers(pa, data.flatten()), shapes


def _lengths(pa, lists, counts, present):
    """Return the length that all lists of a cell share; a cell has `counts` lists."""
    if pa.types.is_fixed_size_list(lists.type):
        return np.full(len(counts), lists.type.list_size, np.int64)
    lengths = np.asarray(pa.compute.list_value_length(lists.drop_null())).astype(np.int64)
    shared = np.zeros(len(counts), np.int64)
    first = np.cumsum(counts) - counts
    shared[counts > 0] = lengths[first[counts > 0]]
    differ = lengths != np.repeat(shared, counts)
    if differ.any():
        row = np.repeat(present, counts)[differ][0]
        raise ValueError(
            f"row {row}: lists of a cell differ in length; expected equal lengths at each depth"
        )
    return shared


def _numbers(pa, array):
    values = np.asarray(array) if array.type != pa.null() or len(array) else np.empty(0)
    if values.dtype.kind not in "biuf":
        raise TypeError(f"expected lists of numbers; got lists of {array.type}")
    return values


def _storage(values, shapes, present, dtype):
    """Return the storage of cells of `dtype`; raise if one does not fit."""
    numbers, shape, _ = _stored_form(dtype)
    if not len(shapes):  # lists may then have any depth and type
        values, shapes = np.empty(0, numbers), np.empty((0, len(shape)), np.int64)
    fits = shapes.shape[1] == len(shape) and np.can_cast(values.dtype, numbers, "same_kind")
    misfit = np.full(len(shapes), not fits)
    if fits:
        fixed = [axis for axis, length in enumerate(shape) if length is not None]
        misfit = (shapes[:, fixed] != [shape[axis] for axis in fixed]).any(axis=1)
    if misfit.any():
        row = np.flatnonzero(misfit)[0]
        raise ValueError(
            f"row {present[row]}: Arrow cell of {values.dtype} and shape "
            f"{tuple(shapes[row].tolist())} does not fit {dtype}"
        )
    values = values.astype(numbers, copy=False).view(dtype.value_dtype)
    shapes = shapes[:, : len(dtype.cell_shape)]
    if dtype.is_ragged:
        return RaggedStorage(values, shapes)
    return DenseStorage(values.reshape(len(shapes), *dtype.cell_shape))
