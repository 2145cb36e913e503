"""Sets of items as cells: what is one, and their items end to end."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sklearn_mmfusion import VideoEncoder
from sklearn_mmfusion.containers import (
    FileArray,
    TensorArray,
    as_column,
    check_files,
    multimodal_frame,
)
from sklearn_mmfusion.containers.sets import SetColumn, as_sets, end_to_end, is_set

ONE, WIDE = np.ones((2, 3), np.uint8), np.ones((2, 4), np.uint8)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (["a.png"], True),
        ([None, "a.png"], True),
        ((Path("a.png"), Path("b.png")), True),
        ([b"content"], True),
        (np.array(["a.png", "b.png"], object), True),
        ([ONE, WIDE], True),
        ([ONE, None], True),
        ([None], True),
        ([Image.fromarray(ONE), Image.fromarray(WIDE)], True),
        ([Image.fromarray(ONE).convert("P")], True),
        ([Image.fromarray(ONE), Image.fromarray(ONE)], False),
        ([ONE, ONE], False),
        ([[1.0, 2.0], [3.0, 4.0]], False),
        ([[[1], [2, 3]], [[1], [2]]], False),
        ([1, 2, None], False),
        ([], False),
        (ONE, False),
        ("a.png", False),
    ],
)
def test_sets_are_lists_that_make_no_array(cell, expected):
    assert is_set(cell) == expected


def test_columns_keep_sets_as_they_are():
    cells = [["a.png", "b.png"], None, [], ["c.png", "d.png"]]
    X = multimodal_frame(photo=cells, size=[1, 2, 3, 4])
    assert X["photo"].dtype == object
    assert X["photo"].isna().tolist() == [False, True, False, False]
    assert X["photo"][3] is cells[3]
    stacked = as_column([[ONE, ONE], [WIDE]])
    assert stacked.dtype.name == "tensor[uint8, ?x2x?]"
    for more in ([ONE, WIDE], []):
        assert as_column([[ONE, ONE], more])[0][0] is ONE
    assert as_column([[], [1, 2]]).dtype.name == "tensor[int64, ?]"
    with pytest.raises(TypeError, match=r"row 1: got str \(text\) in a column whose first .*\(set"):
        as_column([["a.png"], "b.png"])


@st.composite
def stacks(draw):
    """A column of arrays of images of one size or of several, and the same in a list."""
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    cells = []
    for count in draw(st.lists(st.integers(0, 3), min_size=1, max_size=5)):
        shape = (count, 2, draw(st.integers(2, 3)))
        cells.append(None if draw(st.booleans()) else rng.integers(0, 256, shape, dtype=np.uint8))
    return cells


@given(cells=stacks(), seed=st.integers(0, 9))
def test_stacks_are_split_into_their_images(cells, seed):
    rows = np.random.default_rng(seed).integers(0, len(cells), 4)
    column = as_column([*cells, np.zeros((1, 2, 2), np.uint8)])[rows]
    sets = as_sets(column)
    chosen = [cells[row] for row in rows]
    assert sets.sizes.tolist() == [0 if cell is None else len(cell) for cell in chosen]
    assert sets.isna().tolist() == [cell is None or not len(cell) for cell in chosen]
    expected = [image for cell in chosen if cell is not None for image in cell]
    assert len(sets.items) == len(expected)
    for found, image in zip(sets.items, expected, strict=True):
        np.testing.assert_array_equal(found, image)


def test_stacks_share_the_memory_of_their_column():
    ragged = as_column([np.zeros((n, 4, 5), np.uint8) for n in (1, 3)])
    for column in (TensorArray(np.zeros((3, 2, 4, 5))), ragged):
        items = as_sets(column[1:]).items
        assert items.dtype.cell_shape == (4, 5)
        assert np.may_share_memory(items._storage.values, column._storage.values)


def test_cells_of_other_views_do_not_matter():
    column = as_column([np.zeros((1, 2, 3)), np.ones((2, 4, 3)), np.ones((1, 4, 3))])[1:]
    narrowed = column.astype("tensor[float64, ?x4x3]")
    assert as_sets(narrowed).items.gather().shape == (3, 4, 3)


def test_single_items_are_sets_of_one():
    files = FileArray(["a.png", None, "b.png"])
    for column in (files, pd.array(["a.png", None, "b.png"]), TensorArray([ONE, None, ONE])):
        sets = as_sets(column)
        assert sets.sizes.tolist() == [1, 0, 1]
        assert len(sets.items) == 2


def test_missing_items_are_dropped():
    sets = SetColumn(["a", None, np.nan, "b", "c"], [3, 0, 2]).dropna()
    assert sets.items == ["a", "b", "c"]
    assert sets.sizes.tolist() == [1, 0, 2]
    assert sets.lists().tolist() == [["a"], [], ["b", "c"]]
    assert sets.owners.tolist() == [0, 2, 2]
    fewer = sets.dropna(pd.array([None, "b", "c"]))
    assert fewer.sizes.tolist() == [0, 0, 2]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5))))
def test_end_to_end_is_a_loop(runs):
    starts, sizes = np.array(runs, np.int64).reshape(-1, 2).T
    expected = [start + step for start, size in runs for step in range(size)]
    assert end_to_end(starts, sizes).tolist() == expected


@pytest.mark.parametrize("backend", ["numpy_nullable", "pyarrow"])
def test_parquet_keeps_lists_of_paths(tmp_path, backend):
    cells = [["a.png", "b.png"], None, ["c.png"]]
    pd.DataFrame({"photo": cells}).to_parquet(tmp_path / "x.parquet")
    back = as_column(pd.read_parquet(tmp_path / "x.parquet", dtype_backend=backend)["photo"])
    assert [None if cell is None else list(cell) for cell in back] == cells


def test_summary_counts_the_items_of_sets():
    X = pd.DataFrame({"photo": [["a.png", "b.png"], None, []], "crop": [[ONE, WIDE], [ONE], None]})
    summary = X.modalities.summary()
    assert summary["kind"].tolist() == ["set", "set"]
    assert summary["n_absent"].tolist() == [1, 1]
    assert summary["length_max"].tolist() == [2, 2]
    assert "a.png" in X.modalities.preview()._repr_html_()


def test_check_files_looks_into_sets(tmp_path):
    Image.fromarray(ONE).save(tmp_path / "a.png")
    X = pd.DataFrame({"photo": [None, ["a.png", "b.png"], ["a.png"], ["../c.png"]]})
    found = check_files(X, file_params={"root": str(tmp_path)}, verbose=False)
    reasons = found[found["reason"] != "blank"][["row", "reason"]].to_numpy().tolist()
    assert reasons == [[1, "missing"], [2, "duplicate"], [3, "outside root"]]
    (problem,) = found.loc[found["reason"] == "duplicate", "problem"]
    assert problem == "the same path as in row 1"


@pytest.mark.parametrize("cells", [[[1.0, 2.0], [np.nan, np.nan]], [[1.0, 2.0, 3.0], [np.nan]]])
def test_lists_of_nan_are_arrays(cells):
    assert as_column(cells).dtype.value_dtype == np.float64


def test_check_files_reports_cells_that_are_no_files_among_sets():
    found = check_files(pd.Series([5, ["b.png", "c.png"], "a.png"]), verbose=False)
    assert list(found["row"]) == [0, 1, 1, 2]


@pytest.mark.parametrize("row", [0, 2])
def test_an_empty_list_among_clips_is_named(row):
    clips = [np.ones((2, 3, 8, 8), np.uint8) for _ in range(4)]
    clips[row] = []
    with pytest.raises((TypeError, ValueError), match=f"row {row} "):
        VideoEncoder(max_epochs=1).fit(clips, [0, 1, 0, 1])
