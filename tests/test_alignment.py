"""Sources joined by time, against a loop over all rows; recordings cut, against slices."""

import datetime
import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import wavfile

from sklearn_mmfusion import FileArray, TensorArray, align_on_time, cut_windows, multimodal_frame

# ------------------------------------------------------------------------------ oracle


def loop_match(row, source, direction, tolerance):
    """Position of the (time, key) pair of a source that matches a row; None if there is none."""
    best = None
    for place, (time, key) in enumerate(source):
        if row[0] is None or row[1] is None or time is None or key != row[1]:
            continue
        lag = row[0] - time  # positive if the source is earlier
        if tolerance is not None and abs(lag) > tolerance:
            continue
        if (direction == "backward" and lag < 0) or (direction == "forward" and lag > 0):
            continue
        rank = (abs(lag), lag < 0, -place)  # the nearest, the earlier, the last one
        if best is None or rank < best[0]:
            best = rank, place
    return None if best is None else best[1]


def loop_align(sources, how, direction, tolerance):
    """Positions of the rows of all sources in each row of the result."""
    rows = [(pair, [place]) for place, pair in enumerate(sources[0])]
    for n, source in enumerate(sources[1:], start=1):
        found = [loop_match(pair, source, direction, tolerance) for pair, _ in rows]
        rows = [(pair, [*p, f]) for (pair, p), f in zip(rows, found, strict=True)]
        if how == "outer":
            rows += [
                (pair, [None] * n + [place])
                for place, pair in enumerate(source)
                if place not in found
            ]
    if how == "inner":
        rows = [row for row in rows if None not in row[1]]
    if how == "outer":
        known = [None not in pair for pair, _ in rows]
        timed = sorted(itertools.compress(rows, known), key=lambda row: row[0][0])
        rows = timed + [row for row, k in zip(rows, known, strict=True) if not k]
    return [places for _, places in rows]


SCALES = {
    "int": lambda t: pd.Series(t, dtype="Int64"),
    "float": lambda t: pd.Series(t, dtype=float),
    "datetime": lambda t: pd.to_datetime(pd.Series(t, dtype=float), unit="s"),
    "zone": lambda t: pd.to_datetime(pd.Series(t, dtype=float), unit="s", utc=True),
    "duration": lambda t: pd.to_timedelta(pd.Series(t, dtype=float), unit="s"),
}
PAIRS = st.lists(
    st.tuples(st.none() | st.integers(-4, 4), st.sampled_from(["a", "b", None])), max_size=6
)


@settings(max_examples=30, deadline=None)
@given(
    sources=st.lists(PAIRS, min_size=1, max_size=3),
    how=st.sampled_from(["left", "inner", "outer"]),
    direction=st.sampled_from(["backward", "nearest", "forward"]),
    tolerance=st.sampled_from([None, 0, 1, 3]),
    scale=st.sampled_from(list(SCALES)),
)
@pytest.mark.filterwarnings("ignore:align_on_time. no row of source")
def test_alignment_equals_a_loop(sources, how, direction, tolerance, scale):
    frames = {}
    for n, pairs in enumerate(sources):
        ids = pd.array(range(len(pairs)), dtype="Int64")
        times = SCALES[scale]([time for time, _ in pairs])
        keys = pd.Series([key for _, key in pairs], dtype=object)
        frames[f"s{n}"] = pd.DataFrame({"time": times, "who": keys, f"id{n}": ids})
    limit = tolerance
    if tolerance is not None and scale not in ("int", "float"):
        limit = pd.Timedelta(seconds=tolerance)
    settings = {"how": how, "direction": direction, "tolerance": limit, "return_report": True}
    X, report = align_on_time(frames, "time", by="who", **settings)
    expected = loop_align(sources, how, direction, tolerance)
    found = X[[f"id{n}" for n in range(len(sources))]].astype(object)
    assert found.where(found.notna(), None).to_numpy().tolist() == expected
    check_shared(X, sources, expected)
    check_report(report, sources, expected, scale)


def check_shared(X, sources, expected):
    """Time and key are those of the first source that a row has."""
    firsts = [next((n, p) for n, p in enumerate(row) if p is not None) for row in expected]
    pairs = [sources[n][place] for n, place in firsts]
    keys = X["who"].astype(object)
    assert keys.where(keys.notna(), None).tolist() == [key for _, key in pairs]
    assert X["time"].isna().tolist() == [time is None for time, _ in pairs]


def check_report(report, sources, expected, scale):
    for n, pairs in enumerate(sources):
        row = report.iloc[n]
        shared = {r[n] for r in expected if r[n] is not None and sum(p is not None for p in r) > 1}
        assert row["n_rows"] == len(pairs)
        assert row["n_untimed"] == sum(None in pair for pair in pairs)
        assert row["n_unmatched"] == len(pairs) - len(shared)
        assert row["n_absent"] == sum(r[n] is None for r in expected)
        both = [(r[0], r[n]) for r in expected if n and r[0] is not None and r[n] is not None]
        offsets = [sources[0][first][0] - pairs[own][0] for first, own in both]
        if not offsets:
            assert pd.isna(row["offset_median"]) and not row["constant_offset"]
            continue
        median = np.median(offsets)
        wanted = [median, np.median(np.abs(np.array(offsets) - median))]
        got = [row["offset_median"], row["offset_spread"]]
        if scale not in ("int", "float"):
            got = [value.total_seconds() for value in got]
        assert got == wanted
        assert row["constant_offset"] == (len(offsets) >= 5 and abs(median) > 4 * wanted[1])


# ------------------------------------------------------------------------------ columns


def labels(times=(1.0, 2.0, 3.0), **columns):
    return pd.DataFrame({"time": list(times), **columns})


def test_cells_stay_cells_and_absent_ones_are_missing():
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    waves = TensorArray([[0.5], [0.25, 1.0], None], sample_rate=8000)
    clips = FileArray(["a.wav", "b.wav", None])
    cells = multimodal_frame(image=pixels, audio=waves, clip=clips, copy=False)
    cells["time"] = [2.9, 0.9, 9.0]
    X = align_on_time({"labels": labels(), "cells": cells}, "time", tolerance=0.5)
    assert [str(dtype) for dtype in X.dtypes[1:]] == [
        "tensor[uint8, 2x2]",
        "tensor[float64, ?, 8000Hz]",
        "file",
    ]
    assert X.isna().to_numpy().tolist() == [[False] * 4, [False] + [True] * 3, [False] * 4]
    np.testing.assert_array_equal(X["image"][0], pixels[1])
    assert np.shares_memory(X["image"][2], pixels)
    assert X["clip"].dropna().tolist() == ["b.wav", "a.wav"]


def test_index_and_order_are_those_of_the_first_source():
    first = labels([3, 1, 2], label=list("cab")).set_index(pd.Index([30, 10, 20], name="id"))
    X = align_on_time({"first": first, "other": labels([1, 3], x=[1, 3])}, "time", tolerance=0)
    pd.testing.assert_frame_equal(X[["time", "label"]], first)
    assert X["x"].tolist()[:2] == [3, 1] and X["x"].isna().tolist() == [False, False, True]
    inner = align_on_time({"first": first, "other": labels([1, 3], x=[1, 3])}, "time",
                          tolerance=0, how="inner")  # fmt: skip
    assert inner.index.tolist() == [30, 10] and inner["x"].dtype == np.int64


def test_outer_rows_keep_zone_and_are_sorted():
    paris = pd.to_datetime(["2024-01-01 12:00"]).tz_localize("Europe/Paris")
    utc = pd.DatetimeIndex(["2024-01-01 11:00:00.25", "2024-01-01 10:00:00.00"], tz="UTC")
    frames = {"a": labels(paris, a=[1]), "b": labels(utc, b=[1, 2])}
    X = align_on_time(frames, "time", how="outer", direction="nearest", tolerance="1s")
    assert X["time"].dt.tz is not None and str(X["time"].dt.tz) == "Europe/Paris"
    assert X["b"].tolist() == [2, 1] and X["a"].isna().tolist() == [True, False]


def test_equal_names_get_the_source_as_prefix():
    frames = {"imu": labels(value=[1, 2, 3], x=0), "ecg": labels(value=[4, 5, 6])}
    X = align_on_time(frames, "time")
    assert X.columns.tolist() == ["time", "imu_value", "x", "ecg_value"]
    frames["imu"] = frames["imu"].rename(columns={"x": "ecg_value"})
    with pytest.raises(ValueError, match="two columns .* are called 'ecg_value'.*Rename"):
        align_on_time(frames, "time")


# polars and pyarrow, old ones with a new pandas, on the way from it
@pytest.mark.filterwarnings("ignore:Series.values returning an ndarray")
@pytest.mark.parametrize("container", ["polars", "pyarrow"])
def test_frames_of_other_packages(container):
    times = pd.to_datetime(["2024-01-01 00:00:01", "2024-01-01 00:00:03"]).tz_localize("UTC")
    other = labels(times, x=[1, 3])
    package = pytest.importorskip(container)
    convert = {"polars": "from_pandas", "pyarrow": "table"}[container]
    converted = getattr(package, convert)(other)
    X = align_on_time({"a": labels(times[::-1]), "b": converted}, "time", tolerance="1ms")
    assert X["x"].tolist() == [3, 1]


def test_times_of_other_units_and_types_are_compared_exactly():
    second = pd.to_datetime(["2024-01-01 00:00:01"])
    frames = {
        "s": labels(second.as_unit("s")),
        "ns": labels(second.as_unit("ns"), ns=[1]),
        "objects": pd.DataFrame(
            {"time": np.array([datetime.datetime(2024, 1, 1, 0, 0, 1)], object), "objects": [1]}
        ),
    }
    assert align_on_time(frames, "time", tolerance="0s").notna().all(axis=None)
    large = 2**62 + 1  # float64 would round it
    numbers = {"a": labels([large]), "b": labels([large, large - 1], b=[1, 0])}
    assert align_on_time(numbers, "time", tolerance=0)["b"].tolist() == [1]
    mixed = {"a": labels([1, 2]), "b": labels(np.array([1.5], np.float32), b=[7])}
    assert align_on_time(mixed, "time")["b"].isna().tolist() == [True, False]


def test_tolerance_may_differ_by_source():
    frames = {"a": labels([10]), "b": labels([9], b=[1]), "c": labels([9], c=[1])}
    X = align_on_time(frames, "time", tolerance={"b": 1})
    assert X[["b", "c"]].notna().all(axis=None)
    with pytest.warns(UserWarning, match="'c' is matched .*backward.*=0.5. .* are 9.*'nearest'"):
        align_on_time(frames, "time", tolerance={"c": 0.5})


def test_keys_of_several_columns_and_categories():
    left = labels([1, 1], who=pd.Categorical(["x", "y"]), session=[1, 1])
    right = labels([1, 1, 1], who=["y", "x", "x"], session=[1, 2, 1.0], value=[10, 20, 30])
    X = align_on_time({"a": left, "b": right}, "time", by=["who", "session"])
    assert X["value"].tolist() == [30, 10]
    assert X.columns.tolist() == ["time", "who", "session", "value"]


def test_a_clock_that_is_ahead_is_flagged_and_a_slow_sensor_is_not():
    times = np.arange(200) / 2
    jitter = np.random.default_rng(0).normal(0, 0.001, 200)
    frames = {
        "label": labels(times + 10),
        "ahead": labels(times + 10.1 + jitter, ahead=1),
        "slow": labels(np.random.default_rng(1).uniform(0, 120, 60), slow=1),
        "same": labels(times + 10, same=1),
    }
    _, report = align_on_time(frames, "time", direction="nearest", return_report=True)
    assert report["constant_offset"].tolist() == [False, True, False, False]
    assert report["offset_median"]["ahead"] == pytest.approx(-0.1, abs=1e-3)
    assert report["offset_spread"]["ahead"] == pytest.approx(0.001 * 0.6745, rel=0.2)


def test_the_age_of_the_last_sample_is_no_clock_offset():
    times = np.random.default_rng(0).uniform(0, 300, 400)
    frames = {"label": labels(times), "sensor": labels(np.arange(301.0), x=0)}
    _, report = align_on_time(frames, "time", return_report=True)
    assert report["offset_median"]["sensor"] == pytest.approx(0.5, abs=0.06)
    assert report["offset_spread"]["sensor"] == pytest.approx(0.25, abs=0.03)
    assert not report["constant_offset"].any()


def test_no_source_is_changed():
    frames = {"a": labels([2, 1], x=[1, 2]), "b": labels([3, 1], x=[1, 2])}
    before = {name: frame.copy() for name, frame in frames.items()}
    align_on_time(frames, "time", how="outer")
    for name, frame in frames.items():
        pd.testing.assert_frame_equal(frame, before[name])


NAIVE = pd.to_datetime(["2024-01-01"])


@pytest.mark.parametrize(
    ("frames", "settings", "error", "message"),
    [
        ({}, {}, TypeError, "frames is {}; expected a dict of frames by name"),
        ([labels()], {}, TypeError, "expected a dict of frames by name"),
        ({"a": [1]}, {}, TypeError, "source 'a' is a list; expected a DataFrame"),
        ({"a": labels(), "b": pd.DataFrame({"t": [1]})}, {}, ValueError,
         "'b' has no column 'time'; it has .'t'.. Rename"),
        ({"a": labels(x=0).set_axis(["time"] * 2, axis=1)}, {}, ValueError, "two columns 'time'"),
        ({"a": labels(NAIVE), "b": labels(NAIVE.tz_localize("UTC"))}, {}, TypeError,
         "without a time zone in source 'a', but .*with a time zone in source 'b'.*tz_localize"),
        ({"a": labels(), "b": labels(NAIVE)}, {}, TypeError, "numbers in .* 'a', but datetimes"),
        ({"a": labels(["2024-01-01"])}, {}, TypeError, "dtype str; .*pandas.to_datetime"),
        ({"a": labels([True])}, {}, TypeError, "dtype bool; expected datetimes"),
        ({"a": labels([1.0, np.inf])}, {}, ValueError, "'a' is infinite in row 1"),
        ({"a": labels([1], w=[1]), "b": labels([1], w=["1"])}, {"by": "w"}, TypeError,
         "numbers in source 'a' and texts in source 'b'.*astype"),
        ({"a": labels(), "b": labels()}, {"tolerance": "1s"}, TypeError,
         "tolerance='1s' with times that are numbers; expected a number"),
        ({"a": labels(NAIVE), "b": labels(NAIVE)}, {"tolerance": 1}, TypeError,
         "tolerance=1 with times that are datetimes; expected a timedelta, such as '20ms'"),
        ({"a": labels(), "b": labels()}, {"tolerance": -1}, ValueError, "expected 0 or more"),
        ({"a": labels()}, {"tolerance": {"b": 1}}, ValueError, "names .'b'.; expected some of"),
        ({"a": labels()}, {"how": "right"}, ValueError, "how='right'; expected one of .'left'"),
        ({"a": labels()}, {"direction": "up"}, ValueError, "direction='up'; expected one of"),
    ],
)  # fmt: skip
def test_errors_name_source_column_and_remedy(frames, settings, error, message):
    with pytest.raises(error, match=message):
        align_on_time(frames, "time", **settings)


# ------------------------------------------------------------------------------ windows


@settings(max_examples=40, deadline=None)
@given(
    length=st.integers(1, 40),
    n_channels=st.sampled_from([None, 1, 3]),
    dtype=st.sampled_from([np.int16, np.float32, np.uint8]),
    begin=st.integers(-3, 3),
    n_samples=st.integers(1, 12),
    events=st.lists(st.none() | st.integers(-50, 60), max_size=5),
    start=st.integers(-20, 20),
    fill=st.sampled_from([None, 0, 7]),
)
def test_windows_equal_slices(length, n_channels, dtype, begin, n_samples, events, start, fill):
    rate = 8  # its multiples are exact
    shape = (length,) if n_channels is None else (length, n_channels)
    recording = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    times = np.array([np.nan if event is None else event / rate for event in events])
    windows = cut_windows(
        recording,
        times,
        before=-begin / rate,
        after=(begin + n_samples) / rate,
        sample_rate=rate,
        start=start / rate,
        fill_value=fill,
    )
    assert len(windows) == len(events) and windows.dtype.sample_rate == rate
    for event, window in zip(events, windows, strict=True):
        first = 0 if event is None else event - start + begin
        samples = [] if event is None else range(first, first + n_samples)
        inside = [0 <= sample < length for sample in samples]
        if not any(inside) or (fill is None and not all(inside)):
            assert pd.isna(window)
            continue
        padded = [recording[i] if ok else np.full(shape[1:], fill, dtype)
                  for i, ok in zip(samples, inside, strict=True)]  # fmt: skip
        np.testing.assert_array_equal(window, np.array(padded))
        assert window.dtype == dtype and window.shape == (n_samples, *shape[1:])


def test_windows_of_several_recordings_by_name(tmp_path):
    one, two = np.arange(20.0), np.arange(100.0, 130.0)
    times, names = [0.5, 1.0, 0.5, 0.1], ["two", "one", None, "silent"]
    expected = [two[5:7], one[10:12]]
    column = TensorArray([one, two, None], sample_rate=10)
    index = ["one", "two", "silent"]
    for recordings in (
        pd.Series(column, index=index),
        dict(zip(index, [one, two, None], strict=True)),
    ):
        windows = cut_windows(recordings, times, after=0.2, names=names, sample_rate=10)
        assert windows.isna().tolist() == [False, False, True, True]
        assert str(windows.dtype) == "tensor[float64, 2, 10Hz]"
        np.testing.assert_array_equal(windows.gather([0, 1]), expected)
    by_position = cut_windows(column, times[:2], after=0.2, names=[1, 0])
    np.testing.assert_array_equal(by_position.gather(), expected)


def test_windows_of_files_keep_their_rate(tmp_path):
    samples = np.arange(-50, 50, dtype=np.int16) * 300
    path = tmp_path / "long.wav"
    wavfile.write(path, 100, samples)
    as_floats = samples / np.float32(32768)
    for recordings in (FileArray([path]), pd.Series([str(path)]), [path]):
        windows = cut_windows(recordings, [0.5], before=0.1, after=0.1)
        assert windows.dtype.sample_rate == 100
        np.testing.assert_array_equal(windows[0], as_floats[40:60])


def test_windows_at_datetimes():
    start = pd.Timestamp("2024-05-01 12:00:00.5", tz="Europe/Paris")
    times = pd.Series([start + pd.Timedelta("2s"), pd.NaT]).dt.tz_convert("UTC")
    windows = cut_windows(np.arange(100), times, after=0.3, sample_rate=10, start=start)
    assert windows[0].tolist() == [20, 21, 22] and windows.isna().tolist() == [False, True]
    starts = {"a": pd.Timestamp("2024-05-01"), "b": pd.Timestamp("2024-05-02")}
    times = pd.to_datetime(["2024-05-02 00:00:01", "2024-05-01 00:00:01"])
    settings = {"after": 0.1, "sample_rate": 10, "names": ["b", "a"], "start": starts}
    windows = cut_windows({"a": np.arange(20), "b": np.arange(20, 40)}, times, **settings)
    assert [window.tolist() for window in windows] == [[30], [10]]


def test_windows_of_aligned_events_form_a_column():
    events = pd.DataFrame({"time": [1.0, 2.0], "label": ["a", "b"]}, index=[7, 3])
    events["audio"] = cut_windows(np.zeros(50), events["time"], after=1.0, sample_rate=10)
    assert str(events["audio"].dtype) == "tensor[float64, 10, 10Hz]" and events.loc[7].notna().all()


def test_windows_start_at_the_nearest_sample():
    windows = cut_windows(np.arange(100), [0.29, 0.286, 0.284], after=0.02, sample_rate=100)
    assert [window[0] for window in windows] == [29, 29, 28]  # 0.29 * 100 is below 29


def test_windows_of_a_memory_map(tmp_path):
    np.save(tmp_path / "long.npy", np.arange(1000))
    recording = np.load(tmp_path / "long.npy", mmap_mode="r")
    assert cut_windows(recording, [50], after=0.2, sample_rate=10)[0].tolist() == [500, 501]


SIGNAL = np.arange(100)


@pytest.mark.parametrize(
    ("recordings", "times", "settings", "error", "message"),
    [
        (SIGNAL, [1], {}, ValueError, "recording 0 has no sample rate. Pass sample_rate="),
        (pd.DataFrame({"x": SIGNAL}), [1], {}, TypeError, r"columns \['x'\]; .* Pass .*to_numpy"),
        (TensorArray([SIGNAL], sample_rate=5), [1], {"sample_rate": 10}, ValueError,
         "sample rate 5 as 10"),
        (SIGNAL, [1], {"sample_rate": 10, "before": -1.0}, ValueError, "0 samples at 10 Hz"),
        ([SIGNAL, SIGNAL], [1], {"sample_rate": 10}, ValueError, "there are 2 recordings.*names="),
        ([SIGNAL], [1], {"names": ["x"]}, ValueError, "event 0 belongs to recording 'x'.*of .0."),
        ([SIGNAL], [1, 2], {"names": [0]}, ValueError, "names has 1 values, times has 2"),
        (pd.Series([SIGNAL, SIGNAL], index=["a", "a"]), [1], {}, ValueError, "two .*called 'a'"),
        (np.zeros((2, 3, 4)), [1], {"sample_rate": 10}, ValueError, r"shape \(2, 3, 4\)"),
        (SIGNAL, ["1"], {"sample_rate": 10}, TypeError, "dtype str; .*pandas.to_datetime"),
        (SIGNAL, NAIVE, {"sample_rate": 10}, TypeError, "but start=0.0 for recording 0"),
        (SIGNAL, NAIVE, {"sample_rate": 10, "start": NAIVE[0].tz_localize("UTC")}, TypeError,
         "only one has a time zone. Use tz_localize"),
        (SIGNAL, [1], {"sample_rate": 10, "start": {"b": 0}}, ValueError, "no recording 0"),
        (SIGNAL, [0], {"sample_rate": 10, "before": 1, "fill_value": np.nan}, ValueError,
         "fill_value=nan does not fit samples of int64"),
    ],
)  # fmt: skip
def test_errors_of_windows_name_recording_and_remedy(recordings, times, settings, error, message):
    with pytest.raises(error, match=message):
        cut_windows(recordings, times, **{"after": 1.0, **settings})


def test_recordings_of_different_rates_are_refused(tmp_path):
    for rate in (10, 20):
        wavfile.write(tmp_path / f"{rate}.wav", rate, SIGNAL.astype(np.int16))
    files = {"a": tmp_path / "10.wav", "b": tmp_path / "20.wav"}
    with pytest.raises(ValueError, match="recording 'b' has 20 Hz, others have 10 Hz.*Resample"):
        cut_windows(files, [1, 1], after=1.0, names=["a", "b"])


def test_windows_of_a_list_of_paths(tmp_path):
    paths = [str(tmp_path / f"{i}.npy") for i in range(2)]
    for i, path in enumerate(paths):
        np.save(path, np.arange(20.0) + 100 * i)
    windows = cut_windows(paths, [1.0, 1.0], names=[0, 1], after=0.3, sample_rate=10)
    assert [cell.tolist() for cell in windows] == [[10, 11, 12], [110, 111, 112]]


def test_fill_values_of_floats_may_round():
    signal = np.zeros(10, np.float32)
    (cell,) = cut_windows(signal, [0.0], before=0.2, after=0.2, sample_rate=10, fill_value=0.1)
    np.testing.assert_array_equal(cell, np.float32([0.1, 0.1, 0, 0]))
    (cell,) = cut_windows(signal, [0.0], before=0.1, after=0.1, sample_rate=10, fill_value=np.nan)
    assert np.isnan(cell[0]) and cell[1] == 0
    with pytest.raises(ValueError, match=r"fill_value=1e\+60 does not fit samples of float32"):
        cut_windows(signal, [0.0], before=0.2, after=0.2, sample_rate=10, fill_value=1e60)
