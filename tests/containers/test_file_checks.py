"""`check_files`: every fault of a folder is found, with its reason, row and path, and no other."""

import io
import os
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.io import wavfile

from sklearn_mmfusion import FileArray, check_files
from sklearn_mmfusion.containers import file_checks
from tests._media import video_file

Image = pytest.importorskip("PIL.Image")
soundfile = pytest.importorskip("soundfile")

RNG = np.random.default_rng(0)


def png(shape=(12, 16, 3), low=0):
    return encoded(RNG.integers(low, 256, shape, dtype=np.uint8), "PNG")


def encoded(pixels, form):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def wav(seconds=1.0, rate=1000, channels=1, signal=None):
    n = round(seconds * rate)
    signal = RNG.normal(0, 0.1, (n, channels)[: 1 + (channels > 1)]) if signal is None else signal
    file = io.BytesIO()
    wavfile.write(file, rate, signal.astype(np.float32))
    return file.getvalue()


def npy(values):
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def npz(values):
    file = io.BytesIO()
    np.savez(file, values)
    return file.getvalue()


def recording(form, rate=8000):
    file = io.BytesIO()
    soundfile.write(file, RNG.normal(0, 0.1, 1000), rate, format=form)
    return file.getvalue()


GOOD = png()
SIGNAL = RNG.normal(0, 0.1, 1000)
# name of a file: (content, {reason: words of its problem}, readable)
FAULTS = {
    "photo": {
        **{f"good{k}.png": (png(), {}, True) for k in range(20)},
        "first.png": (GOOD, {}, True),
        "tall.jpg": (encoded(RNG.integers(0, 256, (24, 8, 3), np.uint8), "JPEG"), {}, True),
        "copy.png": (GOOD, {"duplicate": "the same content as in row 20"}, True),
        "gray.png": (
            png((12, 16)),
            {"other mode": "the mode is L; it is RGB in 27 of 28 files"},
            True,
        ),
        "page.jpg": (
            b"\n<!DOCTYPE html><p>404",
            {"wrong content": "a web page; it is not an image"},
            0,
        ),
        "png.JPG": (png(), {"wrong content": "suffix is .jpg; the content is a PNG image"}, True),
        "cut.png": (GOOD[:300], {"unreadable": "truncated"}, False),
        "noise.png": (
            bytes(RNG.bytes(500)),
            {"unreadable": "it is not an image in one of the formats"},
            0,
        ),
        "empty.png": (b"", {"empty": "the file is empty"}, False),
        "folder.png": ("folder", {"not a regular file": "is a folder"}, False),
        "pipe.png": ("pipe", {"not a regular file": "is a pipe"}, False),
        "gone.png": (None, {"missing": "there is no such file"}, False),
        "../x.png": (None, {"outside root": "leaves root="}, False),
        "": (None, {"not a path": "the path is empty"}, False),
        "bomb.png": (png((101, 100)), {"too large": "100 x 101 = 10100 pixels"}, False),
        "photo.psd": (GOOD, {"unknown suffix": "suffix '.psd'; the content is a PNG image"}, False),
        "white.png": (encoded(np.full((9, 9, 3), 255, np.uint8), "PNG"), {"blank": "255, 255"}, 1),
        "dot.png": (png((1, 1, 3)), {"other size": "it has 1 x 1 pixels; the median is 12"}, True),
        "line.png": (png((4, 90, 3)), {"other size": "4 x 90 pixels"}, True),
        "a.wav": (wav(), {"other kind": "kind of file is audio; it is image in 28 of 29"}, True),
    },
    "sound": {
        **{f"good{k}.wav": (wav(), {}, True) for k in range(9)},
        "rate.wav": (
            wav(rate=800),
            {"other rate": "is 800 Hz; it is 1000 Hz in 15 of 16 files"},
            True,
        ),
        "flac.wav": (
            recording("FLAC", 1000),
            {"wrong content": "the content is a FLAC recording"},
            True,
        ),
        "stereo.wav": (wav(channels=2), {"other channels": "is 2; it is 1 in 15 of 16"}, True),
        "silent.wav": (wav(signal=np.zeros(1000)), {"silent": "all samples are 0.0"}, True),
        "nan.wav": (
            wav(signal=np.where(np.arange(1000) < 3, np.nan, SIGNAL)),
            {"not finite": "3 of 1000 values are NaN or infinite"},
            True,
        ),
        "short.wav": (wav(0.09), {"short": "it lasts 0.09 s; the median is 1 s"}, True),
        "long.wav": (wav(11), {"long": "it lasts 11 s"}, True),
        "nothing.wav": (wav(0), {"empty": "the recording has no samples"}, False),
        "cut.wav": (wav()[:999], {"unreadable": "the file is cut off"}, False),
        "noise.flac": (bytes(RNG.bytes(500)), {"unreadable": "Format not recognised"}, False),
        "movie.wav": (b"\0\0\0 ftypisom" + bytes(9), {"wrong content": "an MP4 file; "}, False),
    },
    "curve": {
        **{f"good{k}.npy": (npy(RNG.normal(size=(5 + k, 3))), {}, True) for k in range(4)},
        "wide.npy": (
            npy(RNG.normal(size=(5, 4))),
            {"other shape": "is ?x4; it is ?x3 in 6 of 7"},
            1,
        ),
        "inf.npy": (npy([[1, np.inf, 2]]), {"not finite": "1 of 3 values"}, True),
        "ones.npy": (npy(np.ones((4, 3), int)), {"blank": "all values are 1"}, True),
        "none.npy": (npy(np.ones((0, 3))), {"empty": "shape (0, 3): no values"}, False),
        "complex.npy": (npy(np.ones((4, 3), complex)), {"unreadable": "Complex data"}, False),
        "zip.npy": (npz(np.ones(3)), {"wrong content": "a zip archive; the file is an .npz"}, 0),
    },
    "story": {
        "good.txt": (b"<html> is a text", {}, True),
        "blank.txt": (b" \n", {"blank": "only white space"}, True),
        "latin.txt": ("für".encode("latin-1"), {"unreadable": "not UTF-8"}, False),
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("files")
    for column, files in FAULTS.items():
        (root / column).mkdir()
        for name, (content, _, _) in files.items():
            path = root / column / name
            if isinstance(content, bytes):
                path.write_bytes(content)
            elif content is not None:
                path.mkdir() if content == "folder" else os.mkfifo(path)
    return root


def paths_of(column):
    return [os.path.join(column, name) if name else "" for name in FAULTS[column]]


@pytest.mark.parametrize("n_threads", ["1", "2"])
def test_check_files_finds_every_fault_and_nothing_else(folder, monkeypatch, n_threads):
    monkeypatch.setenv("OMP_NUM_THREADS", n_threads)
    n_rows = max(map(len, FAULTS.values()))
    padded = {c: [*paths_of(c), *[None] * (n_rows - len(FAULTS[c]))] for c in FAULTS}
    title = [f"No. {row}. A text, with dots" for row in range(n_rows)]
    labels = np.random.default_rng(1).permutation(n_rows) + 100
    X = pd.DataFrame({"title": title, **padded, "price": 1.0}, index=labels)
    before = X.copy()
    found = check_files(X, file_params={"root": folder, "max_pixels": 10_000}, verbose=False)
    pd.testing.assert_frame_equal(X, before)
    wanted = [
        (column, row, reason, bool(readable))
        for column, files in FAULTS.items()
        for row, (_, reasons, readable) in enumerate(files.values())
        for reason in reasons
    ]
    got = found[["column", "row", "reason", "readable"]]
    assert list(got.itertuples(index=False, name=None)) == wanted
    assert found.label.tolist() == [labels[row] for row in found.row]
    for column, row, path, reason, problem in found.drop(columns=["label", "readable"]).values:
        name = list(FAULTS[column])[row]
        assert FAULTS[column][name][1][reason] in problem and "object at 0x" not in problem
        is_refused = reason in ("outside root", "not a path")
        joined = os.path.join(column, name) if name else ""
        assert path == (joined if is_refused else str(folder / joined))


def test_the_remedy_for_a_missing_file_depends_on_the_root(folder, monkeypatch):
    monkeypatch.chdir(folder)
    where = f"there is no such file in {os.getcwd()!r}"
    for root, problem in [("sound", where), (None, f"{where}; set file_params={{'root': ...}}")]:
        found = check_files(["gone.wav"], file_params={"root": root}, verbose=False)
        assert found["problem"].tolist() == [problem]


def test_readable_files_are_those_that_file_array_decodes(folder):
    options = {"root": folder, "outside_root": True}
    for column in FAULTS:
        paths = [path for path in paths_of(column) if path]
        found = check_files(paths, file_params=options, verbose=False)
        refused = set(found.row[~found.readable])
        files = FileArray(paths, **options)
        for row in range(len(paths)):
            decoded = True
            try:
                cell = files.decode([row])[0]
                decoded = isinstance(cell, str) or (cell.size > 0 and cell.dtype.kind != "c")
            except (ValueError, TypeError, OSError):
                decoded = False
            assert decoded == (row not in refused), paths[row]


def test_files_are_read_once_and_the_bar_counts_them(folder, monkeypatch):
    opened, started, updates = [], [], []

    def bar(**arguments):
        started.append(arguments)
        return nullcontext(SimpleNamespace(update=updates.append))

    def open_counted(source, *arguments):
        opened.append(source)
        return real(source, *arguments)

    real = file_checks.opened
    monkeypatch.setattr(file_checks, "opened", open_counted)
    monkeypatch.setattr("tqdm.tqdm", bar)
    paths = [str(folder / "curve" / f"good{k}.npy") for k in (0, 1, 0, 0)] + [None]
    found = check_files(paths)
    assert sorted(opened) == sorted(set(paths[:4]))
    assert started[0]["total"] == sum(updates) == 4 and not started[0]["disable"]
    assert found.problem.tolist() == ["the same path as in row 0"] * 2
    assert found.row.tolist() == [2, 3]


def test_findings_of_no_fault_have_the_same_columns(folder):
    paths = pd.Series([str(folder / "photo" / f"good{k}.png") for k in range(3)], name="p")
    none = check_files(paths, verbose=False)
    some = check_files(pd.concat([paths, paths]), verbose=False)
    assert len(none) == 0 and len(some) == 3
    assert some.label.tolist() == [0, 1, 2] and set(some.column) == {"p"}
    pd.testing.assert_series_equal(none.dtypes, some.dtypes)


def test_contents_are_checked_by_their_first_bytes():
    cells = [{"bytes": GOOD, "path": "a.png"}, {"bytes": GOOD, "path": "b.jpg"}, png(), b"", GOOD]
    found = check_files(pd.DataFrame({"photo": [*cells, None]}), verbose=False)
    assert found[["row", "path", "reason"]].values.tolist() == [
        [1, "b.jpg", "wrong content"],
        [1, "b.jpg", "duplicate"],
        [3, "<0 bytes>", "empty"],
        [4, f"<{len(GOOD)} bytes>", "duplicate"],
    ]


FORMATS = {
    **{suffix: encoded(RNG.integers(0, 256, (9, 9, 3), np.uint8), form) for suffix, form in [
        (".png", "PNG"), (".jpeg", "JPEG"), (".bmp", "BMP"), (".gif", "GIF"), (".tif", "TIFF"),
        (".webp", "WEBP"),
    ]},
    **{suffix: recording(form) for suffix, form in [
        (".wave", "WAV"), (".flac", "FLAC"), (".oga", "OGG"), (".aif", "AIFF"), (".au", "AU"),
        (".caf", "CAF"), (".w64", "W64"), (".mp3", "MP3"), (".rf64", "RF64"),
    ]},
    ".npy": npy(SIGNAL),
}  # fmt: skip


@pytest.mark.parametrize("suffix", FORMATS)
def test_formats_are_known_by_their_first_bytes(tmp_path, suffix):
    names = ["a" + other for other in FORMATS]
    for name in names:
        (tmp_path / name).write_bytes(FORMATS[suffix])
    found = check_files(names, file_params={"root": tmp_path}, verbose=False)
    wrong = set(found.row[found.reason == "wrong content"])
    same = {".wave", ".rf64"} if suffix in (".wave", ".rf64") else {suffix}
    assert {names[row] for row in range(len(names)) if row not in wrong} == {"a" + s for s in same}
    assert found.readable[found.row == names.index("a" + suffix)].all()


def test_a_missing_package_is_an_error(folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(ImportError, match="reading image files needs Pillow"):
        check_files([folder / "photo" / "first.png"], verbose=False)


def test_rate_that_the_column_states(folder):
    paths = [folder / "sound" / name for name in ["good0.wav", "rate.wav"]]
    found = check_files(FileArray(paths, sample_rate=1000), verbose=False)
    assert found[["row", "reason", "readable"]].values.tolist() == [[1, "other rate", False]]
    assert found.problem[0] == "the sample rate is 800 Hz; the column states 1000 Hz"


def test_mode_that_the_options_state_is_no_finding(folder):
    paths = [folder / "photo" / name for name in ["good0.png", "good1.png", "gray.png"]]
    assert check_files(paths, verbose=False).reason.tolist() == ["other mode"]
    assert len(check_files(paths, file_params={"mode": "L"}, verbose=False)) == 0


def test_columns_to_check(folder):
    X = pd.DataFrame({"a": ["x.png", "y.png"], "b": ["one", 2.5], "c": ["z.wav", pd.NA]})
    for frame in (X, X.astype({"a": "category"}), X.astype(object), X.set_index("b")):
        assert check_files(frame, verbose=False).column.tolist() == ["a", "a", "c"]
    found = check_files(X, columns="b", verbose=False)
    assert found.reason.tolist() == ["missing", "not a path"]
    assert found.problem[1] == "expected a path or the content of a file; got float"
    assert os.getcwd() in found.problem[0]


@pytest.mark.parametrize(
    ("X", "params", "error", "message"),
    [
        ("a.png", {}, TypeError, "X is a str; expected a DataFrame, or a Series or list of paths"),
        (pd.DataFrame({"t": ["a b"]}), {}, ValueError, r"none of the columns \['t'\] holds paths"),
        (pd.DataFrame({"t": ["a"]}), {"columns": ["u"]}, ValueError, r"no columns \['u'\]; it has"),
        (["a.png"], {"columns": "u"}, ValueError, "columns='u'; expected None unless X is a frame"),
        (["a.png"], {"file_params": {"rot": "."}}, ValueError, "check_files: file_params has the"),
        (["a.png"], {"file_params": "x"}, TypeError, "check_files: file_params is 'x'; expected"),
    ],
)
def test_check_files_errors(X, params, error, message):
    with pytest.raises(error, match=message):
        check_files(X, **params)


def test_every_reason_is_documented():
    documented = check_files.__doc__
    missing = [r for r in file_checks.REASONS if f"    {r} " not in documented.replace(",", " ")]
    assert [reason for reason in missing if reason != "long"] == []  # "short, long"


def test_videos_are_examined(tmp_path):
    clip = RNG.integers(0, 256, (5, 8, 16), dtype=np.uint8)
    contents = [video_file(clip), video_file(np.full_like(clip, 7)), video_file(clip)[:40]]
    for i, content in enumerate(contents):
        (tmp_path / f"{i}.avi").write_bytes(content)
    found = check_files([str(tmp_path / f"{i}.avi") for i in range(3)], verbose=False)
    problems = found.groupby("row")["problem"].agg(" ".join)
    assert "all pixels" not in problems[0] and "all pixels are 7" in problems[1]
    assert problems.str.contains("the content is a Matroska video").all()
    assert "damaged" in problems[2]
