"""TensorArray and FileArray against a list of cells; keys, pickles, layouts, memory, errors."""

import pickle
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sklearn_mmfusion.containers import FileArray, FileDtype, TensorArray, TensorDtype

RNG = np.random.default_rng(0)
DTYPES = ["?", "u1", "i2", "u8", "f2", "f4", "f8", "c8", ">f4", ">u2"]


def equal_cells(a, b):
    if isinstance(a, float) or isinstance(b, float):
        return isinstance(a, float) and isinstance(b, float)
    if isinstance(a, str):
        return a == b
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def assert_holds(array, cells):
    """Every way of reading `array` gives `cells` (NaN where absent)."""
    absent = np.array([isinstance(cell, float) for cell in cells], bool)
    assert len(array) == len(cells)
    assert all(map(equal_cells, array, cells))
    np.testing.assert_array_equal(array.isna(), absent)
    fresh = type(array)._from_sequence(cells, dtype=array.dtype)
    assert array.equals(fresh)
    assert array.content_key() == fresh.content_key()
    assert joblib.hash(array) == joblib.hash(fresh)
    assert pickle.dumps(array) == pickle.dumps(fresh)
    if isinstance(array, TensorArray):
        lengths = [0 if gap else len(cell) for gap, cell in zip(absent, cells, strict=True)]
        assert array.cell_lengths().tolist() == lengths
        gathered = array.gather(~absent)
        present = [cell for cell in cells if not isinstance(cell, float)]
        assert len(gathered) == len(present) and all(map(equal_cells, gathered, present))


@st.composite
def columns(draw):
    """A dense, ragged or file column with absent cells, and its list of cells."""
    n = draw(st.integers(0, 6))
    kind = draw(st.sampled_from(["dense", "ragged", "files"]))
    absent = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    if kind == "files":
        cells = draw(st.lists(st.sampled_from(["a", "b/c.png", "é.wav"]), min_size=n, max_size=n))
        dtype = FileDtype(sample_rate=draw(st.sampled_from([None, 8000])))
    else:
        values = np.dtype(draw(st.sampled_from(DTYPES))).newbyteorder("=")
        shape = draw(hnp.array_shapes(max_dims=3, max_side=3))
        shapes = [shape] * n
        if kind == "ragged":
            sides = st.tuples(*[st.integers(0, 3)] * len(shape))
            shapes = draw(st.lists(sides, min_size=n, max_size=n))
            shape = (None,) * len(shape)
        cells = [draw(hnp.arrays(values, s)) for s in shapes]
        dtype = TensorDtype(values, shape, sample_rate=draw(st.sampled_from([None, 22050.5])))
    cells = [np.nan if gap else cell for cell, gap in zip(cells, absent, strict=True)]
    array_type = FileArray if kind == "files" else TensorArray
    return array_type._from_sequence(cells, dtype=dtype), cells


def _step(draw, array, cells):
    """Apply one drawn operation to both."""
    n = len(cells)
    name = draw(st.sampled_from(["take", "fill", "slice", "mask", "concat", "absent", "pickle"]))
    if name == "take" and n:
        places = draw(st.lists(st.integers(-n, n - 1), max_size=6))
        return array.take(places), [cells[i] for i in places]
    if name == "fill":
        places = draw(st.lists(st.integers(-1, n - 1), max_size=6))
        taken = [np.nan if i < 0 else cells[i] for i in places]
        return array.take(places, allow_fill=True), taken
    if name == "slice":
        part = draw(st.slices(n))
        return array[part], cells[part]
    if name == "mask":
        mask = draw(st.lists(st.booleans(), min_size=n, max_size=n))
        keep = [cell for cell, kept in zip(cells, mask, strict=True) if kept]
        return array[np.array(mask, bool)], keep
    if name == "concat":
        half = n // 2
        other = type(array)._from_sequence(cells[half:], dtype=array.dtype)  # on another base
        parts = [array[half:], other, array[:half]]
        return array._concat_same_type(parts), cells[half:] * 2 + cells[:half]
    if name == "absent" and n:
        i, copied = draw(st.integers(0, n - 1)), array.copy()
        copied[i] = draw(st.sampled_from([None, np.nan, pd.NA]))
        return copied, [*cells[:i], np.nan, *cells[i + 1 :]]
    return pickle.loads(pickle.dumps(array)), cells


@settings(max_examples=5 * settings.default.max_examples)
@given(st.data())
def test_any_sequence_of_operations_equals_a_list_of_cells(data):
    array, cells = data.draw(columns())
    assert_holds(array, cells)
    for _ in range(data.draw(st.integers(1, 5))):
        before = array, list(cells)
        array, cells = _step(data.draw, array, cells)
        assert_holds(array, cells)
        assert all(map(equal_cells, *before))  # the view it came from has not changed
        assert array.dtype == before[0].dtype


def layouts(base):
    """The same content in other memory."""
    big = base.astype(base.dtype.newbyteorder(">"))
    frozen = base.copy()
    frozen.flags.writeable = False
    wide = np.zeros((len(base), *(2 * s for s in base.shape[1:])), base.dtype)
    wide[(slice(None), *(slice(None, None, 2) for _ in base.shape[1:]))] = base
    return {
        "big-endian": big,
        "Fortran": np.asfortranarray(base),
        "negative strides": base[::-1, ::-1].copy()[::-1, ::-1],
        "read-only": frozen,
        "strided": wide[(slice(None), *(slice(None, None, 2) for _ in base.shape[1:]))],
        "object cells": [cell.copy() for cell in base],
    }


@given(st.sampled_from(DTYPES), hnp.array_shapes(min_dims=2, max_dims=4, max_side=4), st.data())
def test_memory_layout_does_not_change_the_content(dtype, shape, data):
    base = data.draw(hnp.arrays(np.dtype(dtype).newbyteorder("="), shape))
    expected = TensorArray(base)
    for name, other in layouts(base).items():
        array = TensorArray(other)
        assert array.dtype == expected.dtype, name
        assert array.content_key() == expected.content_key(), name
        assert pickle.dumps(array) == pickle.dumps(expected), name
        assert array.gather().tobytes() == base.tobytes() and array.equals(expected), name
        assert equal_cells(array[0], expected[0]), name


@pytest.mark.parametrize("ragged", [False, True])
def test_base_and_cells_are_read_only_and_never_written(ragged):
    base = np.arange(12.0).reshape(4, 3)
    kept = base.copy()
    make = partial(TensorArray.from_flat, shapes=[3] * 4) if ragged else TensorArray
    array = make(base.ravel() if ragged else base, copy=False)
    with pytest.raises(ValueError, match="read-only"):
        array[0][0] = 1
    view, other = array[:2], array.copy()
    array[1] = None
    array[np.array([True, False, False, False])] = pd.NA
    assert array.isna().tolist() == [True, True, False, False]
    assert not view.isna().any() and not other.isna().any()
    np.testing.assert_array_equal(base, kept)
    assert np.shares_memory(other[0], base)


@pytest.mark.parametrize("value", [0, np.zeros(3), [np.zeros(3)], "text", TensorArray([[1.0]])])
def test_assigning_a_value_is_refused(value):
    array = TensorArray(np.zeros((1, 3)))
    key = 0 if np.ndim(value) == 0 or isinstance(value, np.ndarray) else [0]
    with pytest.raises(TypeError, match="cells are read-only; got .* Only None, NaN or pandas.NA"):
        array[key] = value
    with pytest.raises(TypeError, match="FileArray: cells are read-only"):
        FileArray(["a"])[0] = "b"


def test_fillna_refuses_values_but_accepts_nothing_to_fill():
    array = TensorArray([[1.0], None])
    with pytest.raises(TypeError, match="absent cells cannot be filled"):
        array.fillna(np.zeros(1))
    with pytest.raises(TypeError, match="absent cells cannot be filled"):
        pd.DataFrame({"a": array}).fillna(0)
    assert array[:1].fillna(0).equals(array[:1]) and array.fillna(None).equals(array)


@pytest.mark.parametrize("operation", ["sum", "mean", "max", "min", "cumsum", "std"])
def test_reductions_are_refused(operation):
    with pytest.raises((TypeError, NotImplementedError)):
        getattr(pd.Series(TensorArray(np.zeros((2, 3)))), operation)()
    with pytest.raises(TypeError, match="has no arithmetic"):
        np.add(TensorArray(np.zeros((2, 3))), 1)
    with pytest.raises(TypeError, match="cells are arrays, which have no order"):
        pd.Series(TensorArray(np.zeros((2, 3)))).sort_values()


def test_cells_come_from_lists_images_and_tensors():
    torch = pytest.importorskip("torch")
    image = pytest.importorskip("PIL.Image").fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3))
    cell = np.arange(6, dtype=np.uint8).reshape(2, 3)
    tensor = torch.arange(6, dtype=torch.uint8).reshape(2, 3)
    array = TensorArray([cell, image, tensor, None, float("nan"), pd.NA, cell[:1]])
    assert array.dtype == "tensor[uint8, ?x3]"
    assert (array[:3] == cell).all() and array.isna()[3:6].all()
    assert TensorArray([[1, 2], [0.5]]).dtype == "tensor[float64, ?]"
    assert TensorArray([[1, 2], []]).dtype == "tensor[int64, ?]"
    assert TensorArray([np.zeros(2, "f4"), np.zeros(2, "f2")]).dtype == "tensor[float32, 2]"
    assert TensorArray(tensor).dtype == "tensor[uint8, 3]"
    assert TensorArray(torch.ones(2, 3, requires_grad=True)).dtype == "tensor[float32, 3]"
    assert TensorArray([None, None]).isna().all()


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (np.zeros(3), TypeError, r"shape \(3,\): its cells would be scalars"),
        ([np.zeros(2), 3.0], TypeError, r"row 1: expected a numeric array; got the scalar 3.0"),
        ([np.zeros(2), "x"], TypeError, r"row 1: expected a numeric array; got str"),
        ([np.zeros(2), {}], TypeError, r"row 1: .* got dict"),
        ([np.zeros(2), object()], TypeError, r"row 1: .* dtype object"),
        ([np.zeros(2), np.zeros((2, 2))], ValueError, r"row 1: cell of shape \(2, 2\)"),
        ([np.zeros(2), np.zeros(2, int)], TypeError, r"row 1: cell of int64 in .* float64"),
        ([[1, [2]], [3]], TypeError, r"row 0: .* list, not an array"),
        ("text", TypeError, "sequence of cells"),
        (np.zeros((2, 3), "M8[s]"), TypeError, "cells must hold bool, integer"),
        (np.zeros((2, 3), np.longdouble), TypeError, "cells must hold bool, integer"),
    ],
)
def test_bad_values_are_refused(values, error, message):
    with pytest.raises(error, match=message):
        TensorArray(values)


def test_from_flat_checks_its_shapes():
    with pytest.raises(ValueError, match="add up to 4 numbers; values holds 5"):
        TensorArray.from_flat(np.zeros(5), [1, 3])
    with pytest.raises(ValueError, match="1-D values"):
        TensorArray.from_flat(np.zeros((5, 1)), [5])
    clips = TensorArray.from_flat(np.arange(10), [(2, 2), (3, 2)])
    assert clips[1].tolist() == [[4, 5], [6, 7], [8, 9]]


def test_gather_names_the_absent_row():
    array = TensorArray([[1.0, 2.0], None, [3.0, 4.0]])
    with pytest.raises(ValueError, match=r"gather: row 1 is absent \(1 of 2 rows are\)"):
        array.gather([2, 1])
    np.testing.assert_array_equal(array.gather([2, 0, -1]), [[3, 4], [1, 2], [3, 4]])
    assert array.gather([]).shape == (0, 2)


@pytest.mark.parametrize("base", [np.arange(12.0), np.arange(12, dtype=">i4")])
def test_gather_copies_where_it_has_to(base):
    base = base.reshape(4, 3)
    array = TensorArray(base, copy=False)
    same, two = array.gather(copy=False), array[1:].gather([0, 1], copy=False)
    for view in (same, two):
        assert np.shares_memory(view, base) == base.dtype.isnative
        assert view.flags.writeable != base.dtype.isnative
    for cells in (
        array.gather(),
        array.gather([0, 2], copy=False),
        array[::-1].gather(copy=False),
    ):
        assert cells.flags.writeable and not np.shares_memory(cells, base)
    np.testing.assert_array_equal(two, base[1:3])
    np.testing.assert_array_equal(array[::-1].gather(copy=False)[::-1], same)


@pytest.mark.parametrize(
    "name",
    ["tensor[uint8, 28x28]", "tensor[float16, ?, 8000Hz]", "tensor[bool, ?x?x3, 11025.5Hz]"]
    + ["tensor[complex64, 0]", "file", "file[16000Hz]"],
)
def test_dtype_name_round_trips(name):
    dtype = pd.api.types.pandas_dtype(name)
    assert dtype.name == name == str(dtype) and dtype == name
    assert pickle.loads(pickle.dumps(dtype)) == dtype
    assert hash(dtype) == hash(pickle.loads(pickle.dumps(dtype)))


@pytest.mark.parametrize(
    "name",
    ["tensor", "tensor[uint8]", "tensor[U5, 3]", "tensor[f4, 3, -1Hz]", "file[x]", "file[0Hz]"],
)
def test_dtype_refuses_other_names(name):
    for dtype in (TensorDtype, FileDtype):
        with pytest.raises(TypeError, match="Cannot construct"):
            dtype.construct_from_string(name)


@pytest.mark.parametrize(
    ("rate", "error"), [(0, ValueError), (-1, ValueError), ("8k", TypeError), (True, TypeError)]
)
def test_sample_rate_is_checked(rate, error):
    with pytest.raises(error, match="sample_rate must be"):
        TensorArray(np.zeros((1, 2)), sample_rate=rate)


def test_different_sample_rates_cannot_be_joined_but_share_a_frame():
    slow, fast = (TensorArray(np.zeros((2, 3)), sample_rate=rate) for rate in (8000, 16000))
    files = FileArray(["a"], sample_rate=8000), FileArray(["b"])
    for pair in ((slow, fast), tuple(map(pd.DataFrame, ({"a": slow}, {"a": fast}))), files):
        pair = [x if isinstance(x, pd.DataFrame) else pd.Series(x) for x in pair]
        with pytest.raises(ValueError, match="sample rates 8000 and (16000|None)"):
            pd.concat(pair)
    both = pd.DataFrame({"slow": slow, "fast": fast})
    assert both.iloc[0].dtype == object and np.asarray(both).shape == (2, 2)
    with pytest.raises(ValueError, match="cannot relabel sample rate 8000 as 16000"):
        slow.astype(fast.dtype)
    assert TensorArray(np.zeros((2, 3))).astype(slow.dtype).dtype.sample_rate == 8000


def test_concat_widens_what_is_alike_and_refuses_the_rest():
    small, large = TensorArray(np.ones((1, 2), "u1")), TensorArray(np.ones((2, 3), "i2"))
    joined = pd.concat([pd.Series(small), pd.Series(large)], ignore_index=True)
    assert joined.dtype == "tensor[int16, ?]" and joined.array.cell_lengths().tolist() == [2, 3, 3]
    assert joined[0].tolist() == [1, 1]
    for other in (np.ones((1, 2), "f4"), np.ones((1, 2, 2), "u1")):
        with pytest.raises(TypeError, match="cannot join tensor"):
            pd.concat([pd.Series(small), pd.Series(TensorArray(other))])


def test_same_base_is_joined_by_index_and_views_share_memory():
    base = np.zeros((100, 1000))
    array = TensorArray(base, copy=False)
    joined = array._concat_same_type([array[50:], array[:50].take([3, 3]), array[:0]])
    assert np.shares_memory(joined[0], base) and np.shares_memory(joined[51], base)
    assert array.nbytes == base.nbytes + 100 * 8
    assert array[:10].nbytes == 10 * 8000 + 80
    assert array.take([1, 1, 1]).nbytes == 8000 + 24  # distinct cells count once


def test_repr_is_short():
    array = TensorArray([np.zeros((28, 28), np.uint8), None])
    assert "[<uint8 28x28>, NaN]" in repr(array)
    assert repr(pd.DataFrame({"a": array})).split() == ["a", "0", "<uint8", "28x28>", "1", "NaN"]
    assert len(repr(TensorArray(np.zeros((10_000, 50, 50))))) < 500


def test_equality_is_of_dtype_shape_and_bits():
    array = TensorArray([[1.0, np.nan], [0.0, 0.0], None])
    assert (array == np.array([1.0, np.nan])).tolist() == [True, False, False]
    assert (array == array.take([0, 0, 2])).tolist() == [True, False, False]
    assert (array == [[1, 2], [0, 0], None]).tolist() == [False, True, False]
    assert not (array == "text").any() and not (array == np.zeros(3)).any()
    assert np.zeros(2) in array and np.ones(2) not in array and np.nan in array
    assert pd.Series(array).isin([np.zeros(2), None]).tolist() == [False, True, True]
    with pytest.raises(ValueError, match="Lengths must match"):
        _ = array == array[:2]
    codes, uniques = TensorArray([[2.0], [1.0], None, [2.0]]).factorize(use_na_sentinel=False)
    assert codes.tolist() == [0, 1, 2, 0] and len(uniques) == 3


def test_asarray_gives_cells_and_refuses_numbers():
    array = TensorArray([np.zeros(2), None])
    cells = np.asarray(array)
    assert cells.dtype == object and cells.shape == (2,) and cells[1] is np.nan
    with pytest.raises(ValueError, match="cannot become an array of float64"):
        np.asarray(array, dtype=float)
    assert array.to_numpy(na_value=None)[1] is None
    assert pd.Series(array).to_numpy()[1] is np.nan


def test_file_array_reads_what_it_holds(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3))
    (tmp_path / "b.npy").write_bytes(b"no array")
    array = FileArray(["a.npy", Path("b.npy"), "c.npy", None, "d.xyz"], root=tmp_path)
    assert array.decode([0])[0].tolist() == [0, 1, 2]
    assert [len(x) for x in array.decode(np.array([True, False, False, False, False]))] == [3]
    for row, error, message in [
        (1, ValueError, "row 1: cannot read '.*b.npy'"),
        (2, FileNotFoundError, "row 2: there is no file '.*c.npy'"),
        (3, ValueError, "decode: row 3 is absent"),
        (4, ValueError, "row 4: cannot read .*unknown file suffix '.xyz'"),
    ]:
        with pytest.raises(error, match=message):
            array.decode([row])
    (tmp_path / "d.xyz").write_text("")
    assert FileArray([tmp_path / "d.xyz"]).content_key() != array[4:].copy()[:0].content_key()


def test_file_array_behaves_like_text_and_checks_paths():
    array = FileArray(["b", None, "a"], root="x")
    assert list(pd.Series(array).sort_values().dropna()) == ["x/a", "x/b"]
    assert (array == "x/a").tolist() == [False, False, True] and "x/b" in array
    assert (array < "x/b").tolist() == [False, False, True]
    assert pd.Series(array).astype(str).str.upper().tolist()[0] == "X/B"
    with pytest.raises(TypeError, match="row 1: expected a path or the content of a file; got int"):
        FileArray(["a", 3])
    with pytest.raises(ValueError, match="row 0: the path is empty"):
        FileArray([""])
    with pytest.raises(TypeError, match="single 'a.png'"):
        FileArray("a.png")


def test_groups_of_cells_are_in_order_of_first_appearance():
    cells = np.arange(12.0).reshape(3, 2, 2)
    column = TensorArray([cells[2], None, cells[0], cells[2], cells[1], cells[0]])
    X = pd.DataFrame({"cell": column, "key": [1, 2, 1, 2, 1, 2], "value": range(6)})
    by_value = X.groupby("cell").value.sum()
    assert by_value.tolist() == [3, 7, 4]
    np.testing.assert_array_equal(by_value.index.array.gather(), cells[[2, 0, 1]])
    assert X.groupby("cell", dropna=False).value.sum().tolist() == [3, 1, 7, 4]
    assert X.groupby(["cell", "key"]).value.sum().tolist() == [0, 3, 2, 5, 4]
    assert pd.factorize(X["cell"], sort=True)[0].tolist() == [0, -1, 1, 0, 2, 1]
    with pytest.raises(TypeError, match="cannot be sorted"):
        X.sort_values("cell")
    paths = pd.DataFrame({"path": FileArray(["b", "a", "b"]), "value": range(3)})
    assert paths.groupby("path").value.sum().to_dict() == {"a": 1, "b": 2}
    assert list(paths.groupby("path").value.sum().index) == ["a", "b"]


def test_one_cell_is_replaced_through_a_list():
    X = pd.DataFrame({"image": TensorArray(np.zeros((3, 2, 2))), "key": [1, 2, 3]})
    X.loc[1, "image"] = None
    cells = X["image"].tolist()
    cells[0] = np.ones((2, 2))
    X["image"] = TensorArray(cells)
    assert X["image"].isna().tolist() == [False, True, False]
    np.testing.assert_array_equal(X["image"][0], np.ones((2, 2)))
