"""Columns and frames: conversion at the boundary, what frames can do with them, the accessor."""

import copy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.io import wavfile
from sklearn.base import clone
from sklearn.model_selection import train_test_split

from sklearn_mmfusion import FusionTransformer, LogMelSpectrogram, TextEncoder
from sklearn_mmfusion.containers import (
    FileArray,
    TensorArray,
    as_column,
    as_frame,
    multimodal_frame,
)

TEXT = "str" if pd.__version__ >= "3" else "string"
PIXELS = np.arange(6 * 4, dtype=np.uint8).reshape(6, 2, 2)
WAVES = [np.arange(i, dtype=np.float32) if i != 2 else None for i in range(6)]


@pytest.fixture
def X():
    return multimodal_frame(
        image=TensorArray(PIXELS, copy=False),
        audio=as_column(WAVES, sample_rate=8000),
        text=["one", None, "three", "four", "five", "six"],
        clip=[Path(f"{i}.wav") for i in range(6)],
        label=np.array([0, 1, 0, 1, 0, 1]),
    )


def pixels_of(frame):
    return [None if isinstance(cell, float) else int(cell[0, 0]) // 4 for cell in frame["image"]]


def check_kept(frame):
    """The columns are still ours, on the same base, with their metadata."""
    assert isinstance(frame["image"].array, TensorArray)
    assert isinstance(frame["clip"].array, FileArray)
    assert frame["audio"].dtype == "tensor[float32, ?, 8000Hz]"
    present = frame["image"].dropna()
    assert all(np.shares_memory(cell, PIXELS) for cell in present)


def test_frame_holds_every_kind_of_column(X):
    check_kept(X)
    names = ["tensor[uint8, 2x2]", "tensor[float32, ?, 8000Hz]", TEXT, "file", "int64"]
    assert [str(dtype) for dtype in X.dtypes] == names
    assert X.isna().sum().to_dict() == {"image": 0, "audio": 1, "text": 1, "clip": 0, "label": 0}


def test_merge_leaves_unmatched_rows_absent(X):
    table = pd.DataFrame({"key": [1, 9, 1], "price": [1.0, 2.0, 3.0]})
    merged = table.merge(X.assign(key=range(6)), on="key", how="left")
    check_kept(merged)
    assert pixels_of(merged) == [1, None, 1]
    on_content = X[["image", "label"]].merge(X[["image", "text"]].iloc[::2], on="image")
    assert on_content["text"].tolist() == ["one", "three", "five"]


def test_merge_asof_aligns_by_time(X):
    frames = X.assign(time=pd.date_range("2024-01-01", periods=6, freq="s"))
    events = pd.DataFrame(
        {"time": pd.to_datetime(["2023-12-31 00:00:00.0", "2024-01-01 00:00:02.5"])}
    )
    aligned = pd.merge_asof(events, frames, on="time")
    check_kept(aligned)
    assert pixels_of(aligned) == [None, 2]


@pytest.mark.parametrize(
    ("operation", "rows"),
    [
        (lambda X: pd.concat([X.iloc[3:], X.iloc[:3]]), [3, 4, 5, 0, 1, 2]),
        (lambda X: X.query("label == 1"), [1, 3, 5]),
        (lambda X: X[X.text.str.startswith("f", na=False)], [3, 4]),
        (lambda X: X.dropna(subset=["audio"]), [0, 1, 3, 4, 5]),
        (lambda X: X.dropna(), [0, 3, 4, 5]),
        (lambda X: X.sort_values("label", kind="stable"), [0, 2, 4, 1, 3, 5]),
        (lambda X: X.sort_values("clip", ascending=False), [5, 4, 3, 2, 1, 0]),
        (lambda X: X.set_index("text").loc[["six", "one"]], [5, 0]),
        (lambda X: X.sample(6, random_state=0).sort_index(), [0, 1, 2, 3, 4, 5]),
        (lambda X: X.groupby("label").head(1), [0, 1]),
        (lambda X: X.groupby("label").get_group(1), [1, 3, 5]),
        (lambda X: X.groupby("label").tail(1), [4, 5]),
        (lambda X: X.drop_duplicates("image"), [0, 1, 2, 3, 4, 5]),
        (lambda X: X.reindex([5, 7, 0]), [5, None, 0]),
        (lambda X: X.shift(1), [None, 0, 1, 2, 3, 4]),
        (lambda X: X.where(X.label == 0), [0, None, 2, None, 4, None]),
        (lambda X: X.take([2, 2]), [2, 2]),
        (lambda X: X.copy(deep=True), [0, 1, 2, 3, 4, 5]),
        (copy.deepcopy, [0, 1, 2, 3, 4, 5]),
        (lambda X: X.iloc[::-2], [5, 3, 1]),
        (lambda X: X.loc[2:3], [2, 3]),
        (lambda X: X.head(2).assign(other=X["image"]), [0, 1]),
        (lambda X: X.explode("label"), [0, 1, 2, 3, 4, 5]),
        (lambda X: train_test_split(X, test_size=2, shuffle=False)[1], [4, 5]),
        (lambda X: train_test_split(X, stratify=X.label, random_state=0)[0].sort_index(), None),
    ],
)
def test_frame_operations_keep_columns_and_rows(X, operation, rows):
    result = operation(X)
    check_kept(result)
    assert rows is None or pixels_of(result) == rows
    assert pixels_of(X) == [0, 1, 2, 3, 4, 5] and X.audio.isna().sum() == 1  # X is as it was


def test_marking_absent_touches_one_frame_only(X):
    copied, part = X.copy(), X.iloc[:3]
    X.loc[0, "image"] = None
    X.iloc[1, 0] = np.nan
    X.loc[X.label == 1, "audio"] = pd.NA
    assert X.image.isna().tolist() == [True, True] + [False] * 4
    assert X.audio.isna().tolist() == [False, True, True, True, False, True]
    assert not copied.image.isna().any() and not part.image.isna().any()
    with pytest.raises(TypeError, match="cells are read-only"):
        X.loc[0, "image"] = 0


def test_content_groups_and_counts(X):
    twice = pd.concat([X, X.iloc[:2]], ignore_index=True)
    assert twice.groupby("image", sort=False).size().tolist() == [2, 2, 1, 1, 1, 1]
    assert twice.duplicated("image").sum() == 2 and twice.image.nunique() == 6
    assert twice.image.value_counts().tolist() == [2, 2, 1, 1, 1, 1]
    assert X.image.array.unique().equals(X.image.array)
    joined = X["image"].where(X.label == 0).combine_first(X["image"])
    assert joined.array.equals(X.image.array)


def test_to_numpy_and_json_give_cells(X):
    cells = X.to_numpy()
    assert cells.shape == (6, 5) and cells.dtype == object
    np.testing.assert_array_equal(cells[3, 0], PIXELS[3])
    assert X.iloc[1]["image"].shape == (2, 2) and len(list(X.itertuples())) == 6
    assert "<uint8 2x2>" in X.to_string() and "255" not in X.to_html()


# -- the boundary --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (PIXELS, "tensor[uint8, 2x2]"),
        (list(PIXELS), "tensor[uint8, 2x2]"),
        (pd.Series(list(PIXELS)), "tensor[uint8, 2x2]"),
        (pd.Series(TensorArray(PIXELS)), "tensor[uint8, 2x2]"),
        (np.array([np.zeros(2), None], object), "tensor[float64, 2]"),
        ([[1, 2], (3,), None], "tensor[int64, ?]"),
        ([Path("a"), None], "file"),
        (["a", None], TEXT),
        (np.array(["a", "bc"]), TEXT),
        (pd.Series(["a", None], dtype=object), TEXT),
        (pd.Categorical(["a", "b"]), "category"),
        (np.arange(3), "int64"),
        ([1, None, 2.5], "float64"),
        (pd.Series([1, 2], dtype="Int64"), "Int64"),
        (pd.date_range("2024-01-01", periods=2), "datetime64[us]"),
        ([None, np.nan], "tensor[float32, ?]"),
    ],
)
def test_as_column_converts(values, dtype):
    column = as_column(values)
    assert len(column) == len(values)
    assert str(column.dtype) == dtype or str(column.dtype).split("[")[0] == dtype.split("[")[0]
    assert as_column(column) is column or as_column(column).equals(column)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([np.zeros(2), {"a": 1}], r"column 'x': row 1: got dict; expected numeric arrays"),
        (["a", None, 3], r"column 'x': row 2: got int \(number\) .* row 0, is str \(text\)"),
        ([Path("a"), "b"], r"row 1: got str \(text\) .* \(path\)"),
        ([np.zeros(2), "a"], r"row 1: got str \(text\) .* ndarray \(array\)"),
        ([object()], r"row 0: got object"),
        ("text", r"got str; expected"),
        ({"a": 1}, r"got dict; expected"),
        (3, r"got int; expected"),
        (np.array(3), r"got a single int64 value"),
        (np.empty((2, 2), object), r"object array of shape \(2, 2\); a column has one axis"),
        (np.array([b"a"]), r"array of \|S1"),
        ([np.zeros(2), np.array(["a"])], r"row 1: .* dtype <U1"),
    ],
)
def test_as_column_errors_name_column_row_and_type(values, message):
    with pytest.raises(TypeError, match=message):
        as_column(values, name="x")


def test_as_column_states_the_sample_rate():
    assert as_column([[0.5]], sample_rate=8000).dtype.sample_rate == 8000
    assert as_column(TensorArray([[0.5]]), sample_rate=8000).dtype.sample_rate == 8000
    assert as_column([Path("a")], sample_rate=8000).dtype == "file[8000Hz]"
    with pytest.raises(ValueError, match="column 'x': cannot relabel sample rate 8000 as 16000"):
        as_column(TensorArray([[0.5]], sample_rate=8000), sample_rate=16000, name="x")
    with pytest.raises(ValueError, match="cannot relabel sample rate 8000 as 16000"):
        as_column(FileArray(["a"], sample_rate=8000), sample_rate=16000)
    with pytest.raises(TypeError, match="only arrays and files have a rate"):
        as_column(["a"], sample_rate=8000)


def test_multimodal_frame_takes_labels_by_position():
    series = pd.Series([[1.0], [2.0]], index=["a", "b"])
    frame = multimodal_frame(x=series, y=[1, 2])
    assert list(frame.index) == ["a", "b"] and frame.y.tolist() == [1, 2]
    assert list(multimodal_frame(x=series, index=[5, 6]).index) == [5, 6]


@pytest.mark.parametrize("copy", [True, False])
def test_multimodal_frame_copies_arrays_unless_it_shall_not(copy):
    numbers = np.arange(6)
    X = multimodal_frame(image=PIXELS, number=numbers, copy=copy)
    assert np.shares_memory(X["image"][0], PIXELS) is not copy
    assert np.shares_memory(X["number"].to_numpy(), numbers) is not copy
    again = multimodal_frame(image=X["image"], copy=copy)
    assert np.shares_memory(again["image"][0], X["image"][0])


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        ({"a": PIXELS, "b": ["x"]}, ValueError, "equal numbers of rows; got 'a': 6, 'b': 1"),
        ({"a": ["x"], "index": [1, 2]}, ValueError, "index has 2 labels; the columns have 1 rows"),
        ({}, ValueError, "at least one column"),
        ({"a": [{}]}, TypeError, "column 'a': row 0: got dict"),
        ({"a": [[1], [[2]]]}, ValueError, r"column 'a': row 1: cell of shape \(1, 1\)"),
    ],
)
def test_multimodal_frame_errors(columns, error, message):
    with pytest.raises(error, match=message):
        multimodal_frame(**columns)


def test_as_frame_passes_pandas_through_and_converts_objects():
    frame = multimodal_frame(image=PIXELS, text=["a"] * 6)
    assert as_frame(frame) is frame
    raw = pd.DataFrame({"image": list(PIXELS), "n": range(6)}, index=list("abcdef"))
    made = as_frame(raw)
    assert made.image.array.equals(frame.image.array) and list(made.index) == list("abcdef")
    assert raw.image.dtype == object
    table = as_frame(np.array([[PIXELS[0], "a", 1], [None, "b", 2]], object))
    assert [str(dtype) for dtype in table.dtypes] == ["tensor[uint8, 2x2]", TEXT, "int64"]
    assert list(table.columns) == ["x0", "x1", "x2"]


def test_as_frame_takes_polars():
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame(
        {
            "image": pl.Series([p.tolist() for p in PIXELS], dtype=pl.Array(pl.UInt8, (2, 2))),
            "audio": pl.Series([[0.5], None, [], [1.0], [2, 3], [4]], dtype=pl.List(pl.Float32)),
            "clip": pl.Series([[[1, 2]], None] * 3, dtype=pl.List(pl.List(pl.Int16))),
            "text": ["a", None, "c", "d", "e", "f"],
            "n": [1, 2, 3, 4, 5, None],
        }
    )
    made = as_frame(frame)
    names = ["tensor[uint8, 2x2]", "tensor[float32, ?]", "tensor[int16, 1x2]", TEXT, "float64"]
    assert [str(dtype) for dtype in made.dtypes] == names
    np.testing.assert_array_equal(made.image.array.gather(), PIXELS)
    assert made.isna().sum().tolist() == [0, 1, 3, 1, 1]


def test_tables_and_arrays_of_pyarrow_equal_frames():
    pa = pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"text": ["red", None, "dry"] * 4, "price": np.arange(12.0)})
    table, y = pa.table(frame), np.arange(12) % 2
    text = TextEncoder(n_components=2, max_epochs=1, random_state=0)
    fusion = FusionTransformer([("text", text, "text"), ("price", "passthrough", ["price"])])
    expected = clone(fusion).fit_transform(frame, y)
    for X in (table, table.to_batches()[0]):
        fitted = clone(fusion).fit(X, y)
        np.testing.assert_array_equal(fitted.transform(X), expected)
        assert fitted.feature_names_in_.tolist() == ["text", "price"]
    encoded = clone(text).fit_transform(frame["text"], y)
    for X in (table.column("text"), table.column("text").combine_chunks(), table.select(["text"])):
        np.testing.assert_array_equal(clone(text).fit(X, y).transform(X), encoded)
        if hasattr(X, "type"):
            assert as_column(X).isna().tolist() == frame["text"].isna().tolist()
    lists = pa.array([[0.5, 1.0], None, [2.0]])
    assert multimodal_frame(audio=lists)["audio"].dtype == "tensor[float64, ?]"
    assert as_frame(pa.table({"audio": lists}))["audio"].dtype == "tensor[float64, ?]"
    assert LogMelSpectrogram(8000, n_mels=2).fit_transform(lists).isna().tolist() == [0, 1, 0]


def arrow_and_polars():
    """List columns of pyarrow and polars hold the same cells as lists."""
    pa, pl = pytest.importorskip("pyarrow"), pytest.importorskip("polars")
    audio, image = [[0.5, 1.0], None, [2.0]], PIXELS[:3].tolist()
    lists = {
        "audio": (audio, pa.list_(pa.float32()), pl.List(pl.Float32)),
        "large": (audio, pa.large_list(pa.float32()), pl.List(pl.Float32)),
        "image": (image, pa.list_(pa.list_(pa.uint8())), pl.List(pl.List(pl.UInt8))),
        "fixed": (image, pa.list_(pa.list_(pa.uint8(), 2), 2), pl.Array(pl.UInt8, (2, 2))),
    }
    arrow = {n: pd.Series(v, dtype=pd.ArrowDtype(a)) for n, (v, a, _) in lists.items()}
    polars = [pl.Series(n, v, dtype=p) for n, (v, _, p) in lists.items()]
    return pd.DataFrame(arrow), pl.DataFrame(polars)


@pytest.mark.parametrize("kind", ["arrow", "polars"])
def test_lists_of_other_libraries_are_cells(kind):
    X = arrow_and_polars()[kind == "polars"]
    expected = {
        "audio": as_column([np.float32([0.5, 1.0]), None, np.float32([2.0])]),
        "image": TensorArray(PIXELS[:3]),
    }
    for name, like in zip(X.columns, ("audio", "audio", "image", "image"), strict=True):
        for column in (as_column(X[name]), as_frame(X)[name].array):
            assert column.dtype == expected[like].dtype and column.equals(expected[like])
    passed = FusionTransformer([("image", "passthrough", "image")]).fit_transform(X)
    np.testing.assert_array_equal(passed, PIXELS[:3].reshape(3, 4))
    frames = LogMelSpectrogram(8000, n_mels=2).fit_transform(X["audio"])
    assert frames.isna().tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        ({"a": [1]}, TypeError, r"X is a dict.* multimodal_frame\(\*\*X\)"),
        ([1, 2], TypeError, "must be a pandas or polars DataFrame .* got list"),
        (pd.DataFrame({0: [1]}), TypeError, "column names must be str; got 0 of type int"),
        (
            pd.DataFrame([["x", "y"]], columns=["a", "a"], dtype=object),
            ValueError,
            "column names .* 'a' twice",
        ),
        (pd.DataFrame({"a": [{}]}), TypeError, "column 'a': row 0: got dict"),
    ],
)
def test_as_frame_errors(X, error, message):
    with pytest.raises(error, match=message):
        as_frame(X)


# -- the accessor --------------------------------------------------------------------------------


def test_presence_and_summary(X):
    pd.testing.assert_frame_equal(X.modalities.presence(), X.notna())
    summary = X.modalities.summary()
    assert summary.kind.tolist() == ["tensor", "tensor", "text", "file", "number"]
    assert summary.cell_shape.tolist() == ["2x2", "?", "", "", ""]
    assert summary.n_absent.tolist() == [0, 1, 1, 0, 0]
    lengths = summary.loc["audio", ["length_min", "length_median", "length_max"]]
    assert lengths.tolist() == [0, 3, 5] and summary.length_max["text"] == 5
    assert summary.MB["image"] == (24 + 6 * 8) / 1e6
    assert len(pd.DataFrame().modalities.summary()) == 0


def test_preview_shows_pictures_waves_and_escaped_text(X):
    pytest.importorskip("PIL")
    X["text"] = ["<script>", None, "x" * 500, "", "", ""]
    X["clips"] = TensorArray(np.zeros((6, 3, 4, 4)))
    X["channels_first"] = TensorArray(np.zeros((6, 3, 4, 5), bool))
    X["odd"] = TensorArray(np.zeros((6, 5, 6, 7)))
    page = X.modalities.preview(3)
    assert page._repr_html_() == page and page.count("<tr>") == 4
    assert page.count("data:image/png;base64,") == 9
    assert page.count("<polyline") == 1  # of the first three: empty, short, absent
    assert "&lt;script&gt;" in page and "<script>" not in page
    assert "x" * 199 + "…" in page and "x" * 201 not in page
    assert "–" in page and "0.wav" in page and "&lt;float64 5x6x7&gt;" in page


def test_preview_reads_files(tmp_path):
    image = pytest.importorskip("PIL.Image").fromarray(PIXELS[0])
    image.save(tmp_path / "a.png")
    X = multimodal_frame(photo=[tmp_path / "a.png", tmp_path / "none.png"])
    page = X.modalities.preview()
    assert page.count("data:image/png") == 1 and "none.png" in page


def test_preview_without_pillow(X, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    page = X.modalities.preview()
    assert "data:image" not in page and "&lt;uint8 2x2&gt;" in page


def test_summary_reads_object_columns_as_fit_does():
    frame = pd.DataFrame({"sound": [np.zeros(5), None, np.zeros(3)], "title": ["a", "b", None]})
    summary = frame.astype({"title": object}).modalities.summary()
    assert summary["kind"].tolist() == ["tensor", "text"]
    assert summary.loc["sound", "length_max"] == 5


def test_summary_of_objects_that_fit_refuses():
    cells = {"mixed": [1, "a", None], "dict": [{"a": 1}, None, {}], "bool": [True, None, False]}
    cells |= {"text": ["a", None, "bc"], "axes": [np.ones(2), np.ones((2, 2)), None]}
    frame = pd.DataFrame(cells, dtype=object)
    for summary in (frame.modalities.summary(), frame.modalities.summary(read_cells=True)):
        assert summary["kind"].tolist() == ["other", "other", "number", "text", "other"]
        assert summary["n_present"].tolist() == [2] * 5


def test_summary_of_files_without_reading_them():
    paths = ["a.png", None, "a.png", "b.jpg", "c"]
    frame = pd.DataFrame({"path": paths, "text": [f"From {path}." for path in paths]})
    frame["file"] = FileArray(paths, sample_rate=8000)
    frame["content"] = [b"x", b"y", b"x", b"x", None]
    frame["sound"] = TensorArray([[1, 2, 3, 4], [1, 2], None, [1, 2], [0] * 8], sample_rate=4)
    summary = frame.modalities.summary()
    assert summary.kind.tolist() == ["path", "text", "file", "file", "tensor"]
    assert summary.n_duplicates.tolist() == [1, 1, 1, 2, pd.NA]
    assert summary.n_unreadable.isna().all() and (summary.sizes == "").all()
    assert summary.rates.tolist() == ["", "", "8000 Hz", "", "4 Hz"]
    seconds = summary.loc["sound", ["seconds_min", "seconds_median", "seconds_max"]]
    assert seconds.tolist() == [0.5, 0.75, 2.0] and summary.seconds_max[:4].isna().all()
    assert frame.modalities.summary(read_cells=True).loc["sound", "n_duplicates"] == 1


def test_summary_reads_headers_if_read_cells(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    sizes = [(4, 6), (8, 2), (4, 6), (4, 10)]
    photos = [f"{k}.png" for k in range(len(sizes))]
    for name, size, shade in zip(photos, sizes, [1, 1, 1, 2], strict=True):
        Image.new("L", size[::-1], shade).save(tmp_path / name)
    sounds = [f"{k}.wav" for k in range(4)]
    signals = np.random.default_rng(0).normal(0, 1000, (4, 600)).astype(np.int16)
    for name, signal, rate in zip(sounds, signals, [100, 100, 200, 100], strict=True):
        wavfile.write(tmp_path / name, rate, signal)
    (tmp_path / "cut.wav").write_bytes((tmp_path / "0.wav").read_bytes()[:90])
    frame = pd.DataFrame({"photo": [*photos, "../4.png", photos[1]], "size": 0})
    frame["sound"] = [*sounds, "cut.wav", "gone.wav"]
    summary = frame.modalities.summary(read_cells=True, file_params={"root": tmp_path})
    assert summary.n_unreadable.tolist() == [1, pd.NA, 2]
    assert summary.n_duplicates.tolist() == [2, pd.NA, 0]
    assert summary.sizes["photo"] == "4x2 to 8x10, median 4x6"
    assert summary.rates["sound"] == "100 Hz (3), 200 Hz (1)"
    seconds = summary.loc["sound", ["seconds_min", "seconds_median", "seconds_max"]]
    assert seconds.tolist() == [3.0, 6.0, 6.0]
    equal = frame.iloc[[0, 2, 0]].modalities.summary(
        read_cells=True, file_params={"root": tmp_path}
    )
    assert equal.sizes["photo"] == "4x6" and equal.n_duplicates["photo"] == 2
