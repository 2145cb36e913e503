"""Kinds of odd columns, each with the reason that defends it, and the pipelines made of them."""

import io
from decimal import Decimal
from functools import cache

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from sklearn_mmfusion import FileArray, TensorArray, column_kinds
from sklearn_mmfusion.pipelines.kinds import DETECTORS

N = 40
RNG = np.random.default_rng(0)
DAYS = pd.date_range("2019-01-05 00:00", periods=N, freq="11D")
REAL = RNG.normal(size=N) * 1000


def cycle(*cells):
    return (list(cells) * N)[:N]


def written(form):
    return [form.format(v) for v in REAL]


def swapped(texts):
    """Exchange commas and points."""
    return [text.translate(str.maketrans(",.", ".,")) for text in texts]


def png():
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "PNG")
    return buffer.getvalue()


# name -> (cells, kind, part of the reason)
ODD = {
    # numbers
    "float": (REAL, "number", "dtype float64"),
    "half": (REAL.astype(np.float16), "number", "dtype float16"),
    "text": (written("{:.2f}"), "number", "decimal point"),
    "exponent": (written("{:.2e}"), "number", "decimal point"),
    "thousands": (written("{:,.1f}"), "number", "decimal point"),
    "comma": (swapped(written("{:.1f}")), "number", "decimal comma"),
    "european": (swapped(written("{:,.2f} €")), "number", "decimal comma, unit '€'"),
    "groups of three": (
        [f"{v:,}".replace(",", ".") for v in range(900, 900 + 7 * N, 7)],
        "number",
        "decimal comma",
    ),
    "three decimals": (
        [f"{v / 1000:.3f}" for v in range(900, 900 + 7 * N, 7)],
        "number",
        "decimal point",
    ),
    "dollar": (written("$ {:,.2f}"), "number", "decimal point"),
    "percent": (written("{:.0f}%"), "number", "unit '%'"),
    "weight": (written("{:.1f} kg"), "number", "unit 'kg'"),
    "some n/a": (
        [*written("{:.2f}")[:36], "n/a", "?", "-", None],
        "number",
        "36 of 39 texts are numbers",
    ),
    "mixed numbers": (cycle(1, "2", 3.5, "7.25"), "number", "40 of 40 texts are"),
    "decimal": ([Decimal(i) / 7 for i in range(N)], "number", "dtype object"),
    "infinite": ([np.inf, *REAL[1:]], "number", "1 infinite values"),
    "nullable": (pd.array(cycle(1, None, 5, 7), dtype="Int64"), "number", "dtype Int64"),
    "duration": (DAYS - DAYS[0], "number", "dtype timedelta64"),
    "99 % zero": ([0.0] * (N - 1) + [5.0], "number", "97.5% of the cells are 0.0"),
    "mostly missing": ([None] * (N - 2) + [1.5, 2.5], "number", "dtype float64"),
    "count": (RNG.poisson(3, N), "number", "dtype int64"),
    "age": (RNG.permutation(100)[:N], "number", "40 different values"),  # distinct by chance
    "rating": (cycle(1, 2, 3, 4, 5), "number", "dtype int64"),  # the order is kept
    "year": (RNG.integers(1990, 2020, N), "number", "dtype int64"),
    "every year": (np.arange(1985, 1985 + N), "number", "dtype int64"),  # no row numbers
    # booleans
    "bool": (cycle(True, False), "boolean", "dtype bool"),
    "bool or None": (cycle(True, None, False), "boolean", "0 or 1"),
    "nullable bool": (pd.array(cycle(True, None, False), dtype="boolean"), "boolean", "dtype bool"),
    "yes/no": (cycle("Yes", "no", "YES", None), "boolean", "'yes' or 'no'"),
    "t/f": (cycle("t", "f"), "boolean", "'t' or 'f'"),
    "0/1": (cycle(0, 1, 1), "boolean", "0 or 1"),
    "0/1 text": (cycle("0", "1", "n/a"), "boolean", "'1' or '0'"),
    "0/1 missing": (cycle(0.0, 1.0, np.nan), "boolean", "0 or 1"),
    # categories
    "m/f": (cycle("m", "f"), "category", "2 different texts"),
    "99 % a": (["a"] * (N - 1) + ["b"], "category", "97.5% of the cells are a"),
    "emoji": (cycle("😀", "😢", "👍"), "category", "3 different texts"),
    "mixed": (cycle(1, "a", 2.5, None), "category", "3 different texts"),
    "declared": (pd.Categorical(cycle(1, 2, 3)), "category", "not ordered, of 3 levels"),
    "ordered": (
        pd.Categorical(cycle("low", "mid"), categories=["low", "mid"], ordered=True),
        "category",
        "column, ordered",
    ),
    "interval": (pd.cut(REAL, 3), "category", "column, ordered"),
    "numbered": (cycle(20, 60, 190), "category", "3 different integers over a range of 170"),
    "one or missing": (cycle("Pave", None), "category", "20 of 40 cells missing"),
    # codes
    "leading zeros": (cycle("01067", "10115", "80331"), "code", "leading zeros"),
    "zip": (cycle(10115, 80331, 20095), "code", "'zip' is that of a key"),
    "store_id": (cycle(3, 4, 5, 17), "code", "'store_id' is that of a key"),
    "part": (cycle("A-1", "B-22", "C-3"), "code", "single words with digits"),
    "telephone": (cycle("030 1234567", "(089) 765-4321"), "code", "single words with digits"),
    # dates
    "iso": (DAYS.strftime("%Y-%m-%d"), "date", "40 of 40 cells"),
    "day first": (DAYS.strftime("%d/%m/%Y"), "date", "40 of 40 cells are dates$"),
    "month first": (DAYS.strftime("%m/%d/%Y"), "date", "the month first"),
    "points": (DAYS.strftime("%d.%m.%Y"), "date", "40 of 40 cells"),
    "month name": (DAYS.strftime("%b %d, %Y"), "date", "40 of 40 cells"),
    "zulu": (DAYS.strftime("%Y-%m-%dT%H:%M:%SZ"), "date", "40 of 40 cells"),
    "digits": ([int(day) for day in DAYS.strftime("%Y%m%d")], "date", "40 of 40 cells"),
    "formats": (
        [d.strftime(f) for d, f in zip(DAYS, cycle("%Y-%m-%d", "%d.%m.%Y"), strict=True)],
        "date",
        "40 of 40 cells",
    ),
    "stamp": (DAYS, "date", "dtype datetime64"),
    "zone": (DAYS.tz_localize("Europe/Berlin"), "date", "Europe/Berlin"),
    "objects": ([*(day.date() for day in DAYS[1:]), None], "date", "39 of 39 cells"),
    "period": (pd.period_range("2020-01", periods=N, freq="M"), "date", "period"),
    # texts
    "title": ([f"a picture of the sea {i} 😀" for i in range(N)], "free text", "of 7 words"),
    "long": (["word " * 2000 + str(i) for i in range(N)], "free text", "2001 words"),
    "words": ([f"{'aeiou'[i % 5]}{chr(97 + i // 5)}x" for i in range(N)], "free text", "1 words"),
    "dictionary": (pd.Categorical([f"this is text {i}" for i in range(N)]), "free text", "40 diff"),
    "units": (
        [f"{i} {u}" for i, u in zip(range(N), cycle("kg", "lb"), strict=True)],
        "free text",
        "",
    ),
    # files
    "photo": ([f"nowhere/{i}.jpg" for i in range(N)], "image path", "0 of 20 looked up exist"),
    "most photos": ([f"{i}.jpg" for i in range(30)] + ["none"] * 10, "image path", "30 of 40"),
    "png": ([png()] * N, "image path", "contents"),
    "png dict": ([{"bytes": png(), "path": None}] * N, "image path", "contents"),
    "clip": ([f"{i}.wav" for i in range(N)], "audio path", "40 of 40"),
    "video": ([f"{i}.mp4" for i in range(N)], "video path", "40 of 40"),
    "npy": ([f"{i}.npy" for i in range(N)], "array path", "40 of 40"),
    "file array": (FileArray([f"{i}.png" for i in range(N)]), "image path", "40 of 40"),
    "documents": (FileArray([f"{i}.txt" for i in range(N)]), "free text", "FileArray"),
    "photos": (
        [[f"{i}.jpg", None, f"x/{i}.png"] for i in range(N)],
        "image sets",
        "80 of 80 items",
    ),
    "crops": (
        [[np.zeros((8, 8 + k), np.uint8) for k in range(3)] for i in range(N)],
        "image sets",
        "120 items of lists are arrays",
    ),
    "tokens": ([["some", "words"]] * N, "unsupported", "type list"),
    # arrays
    "pictures": (TensorArray(np.zeros((N, 8, 8), np.uint8)), "images", "height and width$"),
    "pil": ([Image.new("RGB", (8, 8)) for _ in range(N)], "images", "channels"),
    "sound": (
        TensorArray([np.zeros(9 + i, np.float32) for i in range(N)], sample_rate=8000),
        "waveforms",
        "at 8000 Hz",
    ),
    "ragged": ([[1.0] * (i + 1) for i in range(N)], "waveforms", "different lengths"),
    "pcm": (list(np.zeros((N, 9), np.int16)), "waveforms", "dtype of recordings"),
    "embedding": (TensorArray(np.zeros((N, 64), np.float32)), "vectors", "equally many"),
    "lists": ([[1, 2, 3]] * N, "vectors", "equally many"),
    "clouds": (
        TensorArray([np.zeros((5 + i, 3), np.float32) for i in range(N)]),
        "point clouds",
        "three dimensions",
    ),
    "gestures": (
        TensorArray([np.zeros((5 + i, 6), np.float32) for i in range(N)]),
        "sequences",
        "steps and channels",
    ),
    "clips": (TensorArray(np.zeros((N, 2, 8, 8, 3), np.uint8)), "clips", "height, width and chan"),
    "gray clips": (
        TensorArray([np.zeros((5 + i, 8, 9), np.uint8) for i in range(N)]),
        "clips",
        "any number of frames of one size",
    ),
    # identifiers
    "row": (np.arange(N), "identifier", "integers from 0 to 39"),
    "shuffled": (RNG.permutation(N) + 1, "identifier", "integers from 1 to 40"),
    "customerID": (10**8 + 10**6 * RNG.permutation(N), "identifier", "'customerID' is that of a k"),
    "padded": ([f"{i:05d}" for i in range(N)], "identifier", "leading zeros"),
    "uuid": ([f"{i:08x}-0000-4000" for i in range(N)], "identifier", "single words with digits"),
    # constants
    "missing": ([None] * N, "constant", "all 40 cells are missing"),
    "three": ([3] * N, "constant", "all 40 cells are 3"),
    "blank": ([""] * N, "constant", "all 40 cells are ''"),
    "nan texts": (cycle("nan", "None"), "constant", "mark missing values"),
    # refused
    "movies": ([f"{i}.wmv" for i in range(N)], "unsupported", "convert them to mp4"),
    "url": ([f"https://example.org/{i}.jpg" for i in range(N)], "unsupported", "download"),
    "txt": ([f"{i}.txt" for i in range(N)], "unsupported", "FileArray"),
    "cubes": (
        TensorArray(np.zeros((N, 2, 8, 8, 3, 1), np.uint8)),
        "unsupported",
        "(2, 8, 8, 3, 1)",
    ),
    "unequal": ([np.zeros(3), np.zeros((2, 2))] * (N // 2), "unsupported", "row 1"),
    "dicts": ([{"a": 1}] * N, "unsupported", "type dict"),
    "sets": ([{1}] * N, "unsupported", "type set"),
    "pdf": ([b"%PDF-1.4"] * N, "unsupported", "type bytes"),
    "text or number": (
        [5, *(f"a picture of the sea {i}" for i in range(N - 1))],
        "unsupported",
        "1 cells of a column of texts are int",
    ),
    "complex": ([1j, 2j] * (N // 2), "unsupported", "complex128"),
}


def odd_frame(*names):
    return pd.DataFrame({name: pd.Series(ODD[name][0]) for name in names or ODD})


@cache
def odd_kinds():
    return column_kinds(odd_frame())


@pytest.mark.parametrize("name", ODD)
def test_kind_of_an_odd_column(name):
    _, kind, reason = ODD[name]
    found = odd_kinds().loc[name]
    assert found["kind"] == kind, found["reason"]
    plain = reason.removesuffix("$")
    assert plain in found["reason"]
    assert not reason.endswith("$") or found["reason"].endswith(plain)


def test_kinds_of_frames_without_rows_columns_or_names():
    assert column_kinds(pd.DataFrame()).shape == (0, 2)
    assert column_kinds(pd.DataFrame({"a": []}))["kind"].tolist() == ["constant"]
    assert column_kinds(pd.DataFrame({"a": [1.5]}))["kind"].tolist() == ["constant"]
    twice = pd.DataFrame([[1.5, "x y z w"], [2.5, "u v w x"]], columns=["a", "a"])
    assert column_kinds(twice)["kind"].tolist() == ["number", "free text"]
    assert column_kinds(np.array([[1.5, 1], [2.5, 0]]))["kind"].tolist() == ["number", "boolean"]


def test_kinds_do_not_depend_on_the_container():
    names = ["float", "text", "yes/no", "m/f", "iso", "title", "photo", "row", "stamp"]
    frame = odd_frame(*names)
    expected = column_kinds(frame)["kind"].tolist()
    assert column_kinds(pl.from_pandas(frame))["kind"].tolist() == expected
    assert column_kinds(frame.convert_dtypes())["kind"].tolist() == expected
    arrow = frame.convert_dtypes(dtype_backend="pyarrow")
    assert column_kinds(arrow)["kind"].tolist() == expected


def test_a_long_column_is_examined_in_a_fixed_sample():
    cells = [f"{v:.3f}" for v in np.random.default_rng(0).normal(size=12_000)]
    cells[::50] = ["strange"] * 240  # 2 % of the cells
    kinds = column_kinds(pd.DataFrame({"a": cells, "row": np.arange(12_000)}))
    assert kinds["kind"].tolist() == ["number", "identifier"]
    assert kinds.equals(column_kinds(pd.DataFrame({"a": cells, "row": np.arange(12_000)})))
    assert "12,000 cells differ" in kinds.loc["row", "reason"]


def test_cells_that_raise_when_compared_are_reported():
    class Odd:
        def __hash__(self):
            raise RuntimeError("no hash")

        def __array__(self, *args, **kwargs):
            raise RuntimeError("no array")

    cells = {"a": [Odd(), Odd()], "b": [1.5, 2.5], "c": [Decimal("sNaN"), Decimal(1)]}
    kinds = column_kinds(pd.DataFrame(cells))
    assert kinds["kind"].tolist() == ["unsupported", "number", "unsupported"]
    assert "RuntimeError: no array" in kinds.loc["a", "reason"]


def test_existing_files_are_counted_under_the_root(tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    frame = pd.DataFrame({"photo": ["a.png", "b.png"]})
    reason = column_kinds(frame, file_params={"root": str(tmp_path)}).loc["photo", "reason"]
    assert "1 of 2 looked up exist in" in reason


NUMBERS = st.one_of(st.integers(), st.floats(), st.decimals(), st.booleans(), st.complex_numbers())
TIMES = st.one_of(st.dates(), st.datetimes(), st.timedeltas())
TEXTS = st.one_of(st.text(max_size=12), st.text("0123456789.,-/ €%k", max_size=9), st.binary())
NESTED = st.one_of(
    st.lists(st.integers(0, 3), max_size=3), st.dictionaries(st.text(max_size=3), st.none())
)


@settings(suppress_health_check=list(HealthCheck))
@given(
    st.one_of(
        [st.lists(cells | st.none(), max_size=25) for cells in (NUMBERS, TIMES, TEXTS, NESTED)]
        + [st.lists(NUMBERS | TIMES | TEXTS | NESTED, max_size=25)]
    )
)
def test_no_cells_raise(cells):
    known = {kind for kind, _ in DETECTORS}
    kinds = column_kinds(pd.DataFrame({"a": pd.Series(cells, dtype=object)}))
    assert kinds.loc["a", "kind"] in known and kinds.loc["a", "reason"]
