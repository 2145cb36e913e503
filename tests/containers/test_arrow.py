"""Columns of cells through parquet, feather, pyarrow and polars come back equal."""

import io
import os
import pickle
import sys
from datetime import date

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sklearn_mmfusion import FusionTransformer
from sklearn_mmfusion.containers import (
    FileArray,
    FileDtype,
    TensorArray,
    TensorDtype,
    arrow,
    as_column,
    as_frame,
    multimodal_frame,
)

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

DTYPES = "? i1 u1 i2 u2 i4 u4 i8 u8 f2 f4 f8 c8 c16 >f4 >i2".split()
PIXELS = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


@st.composite
def columns(draw):
    """A column of any dtype, raggedness, absent cells and rate, and rows of it in any order."""
    n = draw(st.integers(0, 4))
    cells = [None] * n
    if draw(st.integers(0, 4)) == 0:
        paths = st.sampled_from(["a", "b/c.png", "é.wav", None])
        made = FileArray(draw(st.lists(paths, min_size=n, max_size=n)))
        made = made.astype(FileDtype(draw(st.sampled_from([None, 8000, 0.1]))))
    else:
        varies = draw(st.lists(st.booleans(), min_size=1, max_size=3))
        shape = [draw(st.integers(0, 3)) for _ in varies]
        values = np.dtype(draw(st.sampled_from(DTYPES)))
        for row in range(n):
            own = [draw(st.integers(0, 3)) if v else s for v, s in zip(varies, shape, strict=True)]
            if draw(st.integers(0, 3)):
                cells[row] = draw(hnp.arrays(values, tuple(own)))
        axes = tuple(None if v else s for v, s in zip(varies, shape, strict=True))
        rate = draw(st.sampled_from([None, 8000, 0.1]))
        made = TensorArray._from_sequence(cells, dtype=TensorDtype(values, axes, rate))
    rows = st.lists(st.integers(0, n - 1), max_size=6) if n else st.just([])
    return made.take(draw(rows)) if draw(st.booleans()) else made[draw(st.slices(n))]


def through_parquet(frame):
    file = io.BytesIO()
    frame.to_parquet(file, row_group_size=2)
    assert pq.ParquetFile(file).num_row_groups == max(1, -(-len(frame) // 2))
    return pd.read_parquet(file)


def through_feather(frame):
    file = io.BytesIO()
    frame.to_feather(file)
    return pd.read_feather(file)


def pl_or_skip():
    pl = pytest.importorskip("polars")
    if not hasattr(pl, "register_extension_type"):
        pytest.skip("polars without extension types")
    return pl


def through_polars(frame):
    return pl_or_skip().from_pandas(frame)


def through_polars_parquet(frame):
    file = io.BytesIO()
    through_polars(frame).write_parquet(file)
    return pd.read_parquet(file)


ROUTES = {
    "parquet": through_parquet,
    "feather": through_feather,
    "polars": lambda frame: as_frame(through_polars(frame)),
    "polars parquet": through_polars_parquet,
    "pickled table": lambda frame: pickle.loads(pickle.dumps(pa.table(frame))).to_pandas(),
    "pyarrow dtypes": lambda frame: as_frame(pa.table(frame).to_pandas(types_mapper=pd.ArrowDtype)),
    "chunks": lambda frame: pa.concat_tables(
        [pa.table(frame[:1]), pa.table(frame[1:])]
    ).to_pandas(),
}


def assert_equal(made, expected):
    """dtypes, absent rows, and each cell's shape and bits agree."""
    assert type(made) is type(expected) and made.dtype == expected.dtype
    np.testing.assert_array_equal(made.isna(), expected.isna())
    for one, other in zip(made[~made.isna()], expected[~expected.isna()], strict=True):
        if isinstance(other, str):
            assert one == other
        else:
            assert (one.dtype, one.shape) == (other.dtype, other.shape)
            assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("route", ROUTES)
@given(column=columns())
def test_columns_come_back_equal(route, column):
    frame = pd.DataFrame({"cells": column})
    assert_equal(ROUTES[route](frame)["cells"].array, column)


def test_frame_keeps_its_other_columns_and_index(tmp_path):
    frame = pd.DataFrame(
        {
            "photo": TensorArray([PIXELS, None, PIXELS[:, :2]]),
            "sound": TensorArray([[0.5], None, [1.0, 2.0]], sample_rate=8000),
            "file": FileArray(["a.png", None, "b.png"]),
            "text": ["x", None, "z"],
        },
        index=pd.Index([7, 5, 6], name="row"),
    )
    frame.to_parquet(tmp_path / "frame.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "frame.parquet"), frame)
    read = pd.read_parquet(tmp_path / "frame.parquet", columns=["sound"])
    assert read.dtypes.to_dict() == {"sound": TensorDtype("f8", (None,), 8000)}
    arrow_backed = pd.read_parquet(tmp_path / "frame.parquet", dtype_backend="pyarrow")
    for X in (arrow_backed, pq.read_table(tmp_path / "frame.parquet")):
        for name in frame.columns[:3]:
            assert_equal(as_frame(X)[name].array, frame[name].array)
            assert_equal(as_column(X[name]), frame[name].array)
    shown = ["kind", "cell_shape", "n_absent", "length_max"]
    summary, expected = (X.modalities.summary()[shown][:3] for X in (arrow_backed, frame))
    pd.testing.assert_frame_equal(summary, expected)


def test_only_viewed_rows_are_written():
    column = TensorArray(np.arange(40, dtype=np.int64).reshape(20, 2))
    for rows in ([3], [7, 2, 2]):
        stored = pa.array(column.take(rows)).storage
        assert len(stored.values) == 2 * len(rows)
        assert stored.to_pylist() == [[2 * row, 2 * row + 1] for row in rows]


def test_dense_numbers_are_not_copied(tmp_path):
    np.save(tmp_path / "pixels.npy", PIXELS)
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    for column, base in (
        (TensorArray(mapped), mapped),
        (c := TensorArray(PIXELS), c.gather(copy=0)),
    ):
        numbers = pa.array(column).storage.flatten().flatten()
        assert numbers.buffers()[1].address == base.__array_interface__["data"][0]


def test_column_owns_its_numbers():
    base = PIXELS.copy()
    table = pa.table({"image": pa.FixedShapeTensorArray.from_numpy_ndarray(base)})
    column = as_frame(table)["image"].array
    key = column.content_key()
    base[:] = 0
    assert column.content_key() == key == TensorArray(PIXELS).content_key()


def test_storage_is_plain_lists():
    lists = {"sound": [[0.5], None, []], "points": [[[1, 2]], [], [[3, 4], [5, 6]]]}
    arrays = {
        "sound": TensorArray._from_sequence(lists["sound"], dtype="tensor[float64, ?, 8000Hz]"),
        "points": TensorArray._from_sequence(
            [np.reshape(cell, (-1, 2)) for cell in lists["points"]], dtype="tensor[int64, ?x2]"
        ),
        "complex": TensorArray([[1 + 2j]]),
        "photo": TensorArray([PIXELS[0], PIXELS[0, :, :1]]),
    }
    stored = {name: pa.array(column).storage for name, column in arrays.items()}
    assert {name: stored[name].to_pylist() for name in lists} == lists
    assert stored["complex"].to_pylist() == [[[1.0, 2.0]]]
    assert stored["photo"].to_pylist() == [
        {"data": list(range(12)), "shape": [3, 4]},
        {"data": [0, 4, 8], "shape": [3, 1]},
    ]


def test_offsets_count_beyond_32_bits():
    offsets = arrow.offsets_of(np.array([2**31, 5]), np.array([False, True, False]))
    assert offsets.dtype == np.int64
    assert offsets.tolist() == [0, 2**31, 2**31, 2**31 + 5]
    for dtype in ("tensor[uint8, 28x28]", "tensor[uint8, ?x?]", "file"):
        kind = pa.array(pd.array([None], dtype=dtype)).type.storage_type
        assert "large_list" in str(kind) or kind == pa.large_string()


def test_reader_that_imports_the_package_later(tmp_path):
    frame = pd.DataFrame({"image": TensorArray([PIXELS]), "sound": TensorArray([[0.5]])})
    frame["sound"] = frame["sound"].astype("tensor[float64, ?, 8000Hz]")
    frame.to_parquet(tmp_path / "x")
    pa.unregister_extension_type("sklearn_mmfusion.cells")  # as before the import
    try:
        table = pq.read_table(tmp_path / "x")
        assert table.column("sound").to_pylist() == [[0.5]]
        assert table.column("image").to_pylist() == [PIXELS.tolist()]
    finally:
        pa.register_extension_type(arrow.cell_type()(FileDtype()))
    for X in (table, table.to_batches()[0]):
        pd.testing.assert_frame_equal(as_frame(X), frame)


def test_reloaded_module_registers_its_type():
    known = arrow.cell_type()
    try:
        renewed = arrow.cell_type.__wrapped__()
        assert type(pickle.loads(pickle.dumps(renewed(FileDtype())))) is renewed is not known
    finally:
        pa.unregister_extension_type("sklearn_mmfusion.cells")
        pa.register_extension_type(known(FileDtype()))
        arrow.CellType = known


def test_tables_of_other_rates_are_not_joined():
    one, other = (
        pa.table(pd.DataFrame({"sound": TensorArray([[0.5], [1.0]], sample_rate=rate)}))
        for rate in (8000, 16000)
    )
    types = [table.schema.field("sound").type for table in (one, other)]
    assert one.schema != other.schema and len(set(types)) == 2
    with pytest.raises(pa.ArrowInvalid, match="Schema at index 1 was different"):
        pa.concat_tables([one, other])


def test_column_becomes_a_given_arrow_type():
    column = TensorArray([[1, 2], None])
    assert pa.array(column, type=pa.list_(pa.int16())).to_pylist() == [[1, 2], None]
    with pytest.raises(pa.ArrowNotImplementedError, match="Unsupported cast"):
        pa.array(column, type=pa.int8())


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1)])
def test_fixed_shape_tensors_of_other_tools(order):
    pixels = PIXELS.transpose(order)  # transposed: stored with a permutation
    table = pa.table({"image": pa.FixedShapeTensorArray.from_numpy_ndarray(pixels)})
    assert_equal(as_frame(table)["image"].array, TensorArray(pixels))
    assert_equal(as_column(table["image"]), TensorArray(pixels))
    assert_equal(as_frame(table.slice(1))["image"].array, TensorArray(pixels[1:]))
    tensors = table["image"].combine_chunks()
    kind = tensors.type
    tensors = pa.ExtensionArray.from_storage(kind, tensors.storage.take(pa.array([1, None, 0])))
    expected = TensorArray([pixels[1], None, pixels[0]])
    assert_equal(as_column(tensors), expected)
    assert_equal(as_column(pl_or_skip().from_arrow(pa.table({"x": tensors}))["x"]), expected)
    empty = as_column(table["image"].slice(2))
    assert len(empty) == 0 and empty.dtype == TensorArray(pixels).dtype
    passed = FusionTransformer([("image", "passthrough", "image")]).fit_transform(table)
    np.testing.assert_array_equal(passed, pixels.reshape(2, 12))


@pytest.mark.parametrize("kind", ["list_", "large_list", "list_view", "large_list_view"])
def test_lists_of_every_kind_are_cells(kind):
    lists = pa.array([[0.5], None, [1.0, 2.0]], getattr(pa, kind)(pa.float32()))
    expected = TensorArray([np.float32([0.5]), None, np.float32([1.0, 2.0])])
    assert_equal(as_column(lists), expected)
    assert_equal(as_column(pa.chunked_array([lists[:1], lists[1:1], lists[1:]])), expected)


@pytest.mark.parametrize(
    ("cells", "error", "message"),
    [
        (
            [[date(2026, 1, 1)]],
            TypeError,
            "column 'x': expected lists of numbers; got lists of date",
        ),
        ([None, [[1, 2], [3]]], ValueError, "column 'x': row 1: lists of a cell differ in length"),
        ([[[1]], [[2], None]], ValueError, "column 'x': row 1: a list inside the cell is null"),
    ],
)
def test_lists_that_are_no_cells_are_refused(cells, error, message):
    with pytest.raises(error, match=message):
        as_frame(pa.table({"x": cells}))


def test_column_without_cells_takes_the_dtype_whatever_its_lists():
    nulls = pa.array([None, None], pa.list_(pa.float64()))
    for name in ("tensor[int8, ?x?]", "tensor[int8, 2x0]"):
        made = pd.api.types.pandas_dtype(name).__from_arrow__(nulls)
        assert_equal(made, TensorArray._from_sequence([None, None], dtype=name))
        assert made.cell_shapes().tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("dtype", "storage", "error", "message"),
    [
        ("tensor[int8, 2x2]", [[1] * 4], ValueError, r"row 0: .* shape \(4,\) does not fit"),
        ("tensor[int8, ?x2]", [None, [[1]]], ValueError, r"row 1: .* shape \(1, 1\) does not fit"),
        (
            "tensor[int8, 1]",
            [[0.5]],
            ValueError,
            r"cell of float64 and .* does not fit tensor\[int8",
        ),
        ("tensor[int8, 1]", [1], TypeError, "expected lists or tensors; got .* int64"),
        (
            "tensor[int8, ?x?]",
            [{"data": [1], "shape": [1]}],
            ValueError,
            "1 shapes hold 1 lengths; expected 2",
        ),
        (
            "tensor[int8, ?x?]",
            [None, {"data": [1], "shape": [1, 2]}],
            ValueError,
            "row 1: the data of a cell do not fill its shape",
        ),
        ("file", [1], TypeError, "row 0: expected a path or the content of a file; got int"),
    ],
)
def test_storage_that_contradicts_the_dtype_is_refused(dtype, storage, error, message):
    with pytest.raises(error, match=message):
        pd.api.types.pandas_dtype(dtype).__from_arrow__(pa.array(storage))


def test_path_that_is_no_text_is_refused():
    frame = pd.DataFrame({"photo": FileArray(["a", os.fsdecode(b"\xff.png")])})
    message = r"row 1: the path .* is not UTF-8, which Arrow needs.*column photo with type file"
    with pytest.raises(pa.ArrowInvalid, match=message):
        frame.to_parquet(io.BytesIO())


def test_missing_pyarrow_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install 'sklearn-mmfusion\[parquet\]'"):
        TensorArray(PIXELS).__arrow_array__()


CONTENTS = [b"first", None, {"bytes": b"second", "path": "b.png"}, {"bytes": None, "path": "c.png"}]


def test_contents_of_files_come_back_equal(tmp_path):
    frame = multimodal_frame(photo=CONTENTS)
    frame.to_parquet(tmp_path / "contents.parquet")
    read = pd.read_parquet(tmp_path / "contents.parquet")
    pd.testing.assert_frame_equal(read, frame)
    assert read["photo"].array.name(2) == "b.png"
    assert read["photo"].tolist()[2:] == [b"second", "c.png"]


@pytest.mark.parametrize("kind", ["struct", "binary"])
@pytest.mark.parametrize("reader", ["pandas", "pyarrow", "polars"])
def test_contents_of_image_data_sets_become_files(kind, reader):
    cells = [b"first", None, b"second"]
    column = pa.array(cells)
    if kind == "struct":
        cells = [None if cell is None else {"bytes": cell, "path": "a.png"} for cell in cells]
        column = pa.array(cells, pa.struct({"bytes": pa.binary(), "path": pa.string()}))
    table = pa.table({"photo": column})
    if reader == "polars":
        table = pytest.importorskip("polars").from_arrow(table)
    frame = as_frame(table.to_pandas() if reader == "pandas" else table)
    assert frame.dtypes["photo"] == "file"
    assert frame["photo"].isna().tolist() == [False, True, False]
    assert frame["photo"].dropna().tolist() == [b"first", b"second"]
