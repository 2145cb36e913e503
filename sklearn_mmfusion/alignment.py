"""Join sources that are recorded side by side, and cut long recordings by events."""

import os
from collections.abc import Mapping
from numbers import Real

import numpy as np
import pandas as pd

from sklearn_mmfusion._validation import as_numpy, check_choice, warn
from sklearn_mmfusion.containers import FileArray, TensorArray, TensorDtype
from sklearn_mmfusion.containers.conversion import (
    any_polars_column,
    from_pyarrow,
    is_polars_frame,
    polars_frame,
)
from sklearn_mmfusion.containers.dtypes import check_same_rate, check_sample_rate
from sklearn_mmfusion.containers.storage import is_absent

__all__ = ["align_on_time", "cut_windows"]

# An offset is flagged if it is this many times its spread. Where offsets only reflect when a source
# was last sampled, they are uniform between 0 and its period, and their median is twice the spread.
CONSTANT, FEWEST = 4.0, 5
KINDS = {"M": "datetimes", "m": "durations", "i": "numbers", "u": "numbers", "f": "numbers"}


def align_on_time(
    frames,
    on,
    *,
    by=None,
    how="left",
    direction="backward",
    tolerance=None,
    return_report=False,
):
    """Join several sources into one multimodal frame, row by row by time.

    Each row of the first source gets the last row of every other source at or before its time (see
    `direction`), as in :func:`pandas.merge_asof`, for any number of sources, which need not be
    sorted. Where a source has no such row, its columns are NA.

    Parameters
    ----------
    frames : dict of str to DataFrame
        The sources by name. The first one determines the rows. Frames of pandas, polars and pyarrow
        are accepted, with any columns, also TensorArray and FileArray.
    on : str
        Name of the column of times, in every source: datetimes, durations or numbers. Different
        units, types of numbers and time zones are compared correctly.
    by : str or list of str, default=None
        Columns that must be equal (subject, session), in every source.
    how : {"left", "inner", "outer"}, default="left"
        Rows of the result: "left" keeps those of the first source; "inner" only those for which
        every source has a row; "outer" adds the rows of each source that no row matched before,
        which later sources can match, and sorts all rows by time.
    direction : {"backward", "nearest", "forward"}, default="backward"
        Whether to take the last row at or before the time of the first source, the nearest one or
        the first one at or after it. "backward" never uses the future, like a model that runs live.
    tolerance : timedelta-like, number or dict of them by source, default=None
        Largest distance in time, inclusive; None allows any. A timedelta or a text such as "20ms"
        for datetimes and durations, else a number.
    return_report : bool, default=False
        Whether to return the report too.

    Returns
    -------
    X : pandas.DataFrame
        Columns of the first source, then those of the others without `on` and `by`. A name that
        several sources use gets the name of the source as prefix: "imu_value", "ecg_value". For
        "left" and "inner", index and order are those of the first source.
    report : pandas.DataFrame
        One row per source, only if `return_report` is True:

        - ``n_rows``: rows of the source.
        - ``n_untimed``: rows without a time or a key, which match nothing.
        - ``n_unmatched``: rows that share no row of X with another source.
        - ``n_absent``: rows of X without the source.
        - ``offset_median``: median of the time of the first source minus that of the source, over
          their matched rows.
        - ``offset_spread``: median absolute deviation of these differences.
        - ``constant_offset``: whether five rows or more are matched, and the median exceeds four
          times the spread. The clock of the source may be behind (if positive) or ahead, or both
          are sampled regularly, out of phase.

    Raises
    ------
    TypeError
        If sources mix kinds of times, datetimes with and without a time zone, or keys of
        text and numbers; or `tolerance` is of another kind than the times.
    ValueError
        If a column is missing or occurs twice.

    Warns
    -----
    UserWarning
        If no row of a source is matched.

    See Also
    --------
    cut_windows : Cuts a recording by the times of events.
    pandas.merge : Joins two frames by keys alone.

    Notes
    -----
    If rows of a source have the same time and key, the last one counts. Between two equally
    near rows, "nearest" takes the earlier one. A row of a source may match several rows of the
    first one. No cell is copied. To keep the times of a source, copy its column before:
    ``frame.assign(video_time=frame["time"])``.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_mmfusion import TensorArray, align_on_time
    >>> labels = pd.DataFrame({"time": [1.0, 2.0, 3.0], "label": ["walk", "sit", "walk"]})
    >>> frames = TensorArray([[[0, 1]], [[2, 3]]])
    >>> video = pd.DataFrame({"time": [2.9, 0.9], "frame": frames})
    >>> X, report = align_on_time(
    ...     {"labels": labels, "video": video}, "time", tolerance=0.5, return_report=True
    ... )
    >>> X
       time label        frame
    0   1.0  walk  <int64 1x2>
    1   2.0   sit          NaN
    2   3.0  walk  <int64 1x2>
    >>> report[["n_rows", "n_unmatched", "n_absent"]]
            n_rows  n_unmatched  n_absent
    labels       3            1         0
    video        2            0         1
    """
    check_choice("align_on_time: how", how, ("left", "inner", "outer"))
    check_choice("align_on_time: direction", direction, ("backward", "nearest", "forward"))
    by = [by] if isinstance(by, str) else list(by or ())
    frames = _check_frames(frames, [on, *by])
    times, unit = _comparable_times({name: frame[on] for name, frame in frames.items()}, on)
    sources = _timelines(frames, times, by)
    limits = tolerance if isinstance(tolerance, Mapping) else dict.fromkeys(frames, tolerance)
    _check_limits(limits, frames)
    first, *others = frames
    rows, places = sources[first], {first: np.arange(len(frames[first]))}
    for name in others:
        is_known = len(rows) and len(sources[name])  # else the kind of times is unknown
        limit = _as_number(limits.get(name), unit) if is_known else None
        places[name] = _match(rows, len(places[first]), sources[name], direction, limit)
        how_near = f"direction={direction!r} and tolerance={limits.get(name)!r}"
        _warn_if_unmatched(name, places[name], frames, on, how_near)
        if how == "outer":
            n_rows = len(frames[name])
            rows, places = _append_unmatched(rows, places, name, sources[name], n_rows)
    if how == "inner":
        kept = np.all([place >= 0 for place in places.values()], axis=0)
        places = {name: place[kept] for name, place in places.items()}
    if how == "outer":
        order = rows["time"].sort_values(kind="stable").index
        order = np.concatenate([order, np.setdiff1d(np.arange(len(places[first])), order)])
        places = {name: place[order] for name, place in places.items()}
    X = _assemble(frames, places, [on, *by], sort=how == "outer")
    return (X, _report(frames, places, sources, unit)) if return_report else X


def _check_frames(frames, needed):
    """Convert the sources to pandas; raise if one lacks a column."""
    if not isinstance(frames, Mapping) or not frames:
        raise TypeError(
            f"align_on_time: frames is {frames!r:.80}; expected a dict of frames by name, such as "
            '{"video": video, "audio": audio}.'
        )
    checked = {}
    for name, frame in frames.items():
        frame = from_pyarrow(frame)
        frame = polars_frame(frame, _polars_column) if is_polars_frame(frame) else frame
        if not isinstance(frame, pd.DataFrame):
            raise TypeError(
                f"align_on_time: source {name!r} is a {type(frame).__name__}; expected a DataFrame "
                f"with the columns {needed}."
            )
        if not frame.columns.is_unique:
            twice = frame.columns[frame.columns.duplicated()][0]
            raise ValueError(
                f"align_on_time: source {name!r} has two columns {twice!r}; expected distinct "
                "names. Rename one."
            )
        for column in needed:
            if column not in frame.columns:
                raise ValueError(
                    f"align_on_time: source {name!r} has no column {column!r}; it has "
                    f"{frame.columns.tolist()}. Rename its columns, or change on= or by=."
                )
        checked[name] = frame
    return checked


def _polars_column(column, name):
    if getattr(column.dtype, "time_zone", None) is not None:  # numpy would drop the zone
        return pd.array(column.to_list())
    return any_polars_column(column, name)


def _check_limits(limits, frames):
    unknown = [name for name in limits if name not in frames]
    if unknown:
        raise ValueError(
            f"align_on_time: tolerance names {unknown}; expected some of {list(frames)}."
        )


# ------------------------------------------------------------------------------ times and keys


def _comparable_times(columns, on):
    """Convert the times of all sources to numbers on one scale, NaN or NaT where unknown.

    Returns
    -------
    times : dict of str to Series
        int64 or float64; the index is the row, and rows without a time are left out.
    unit : str or None
        Unit of the numbers, None if they are numbers as given.
    """
    columns = {name: column.reset_index(drop=True) for name, column in columns.items()}
    columns = {name: column.infer_objects() for name, column in columns.items()}
    kinds = {name: _time_kind(name, c, on) for name, c in columns.items() if c.notna().any()}
    names = list(kinds)
    for name in names[1:]:
        if kinds[name] != kinds[names[0]]:
            both = {kinds[name].split()[0], kinds[names[0]].split()[0]}
            remedy = "State the zone of the other with tz_localize"
            raise TypeError(
                f"align_on_time: column {on!r} holds {kinds[names[0]]} in source {names[0]!r}, but "
                f"{kinds[name]} in source {name!r}; expected times of one kind. "
                f"{remedy if both == {'datetimes'} else 'Convert one of them'}."
            )
    known = {name: columns[name].dropna() for name in names}
    nothing = pd.Series([], index=pd.RangeIndex(0), dtype=np.int64)
    kind = kinds[names[0]] if names else "numbers"
    if kind == "numbers":
        times, unit = _numeric_times(known, on), None
    else:
        times, unit = _calendar_times(known)
    return {name: times.get(name, nothing) for name in columns}, unit


def _time_kind(name, column, on):
    kind = KINDS.get(column.dtype.kind)
    if kind is None or isinstance(column.array, TensorArray | FileArray):
        remedy = " Convert texts with pandas.to_datetime." if column.dtype.kind == "O" else ""
        raise TypeError(
            f"align_on_time: column {on!r} of source {name!r} has dtype {column.dtype}; expected "
            f"datetimes, durations or numbers.{remedy}"
        )
    if kind != "datetimes":
        return kind
    return f"datetimes {'without' if column.dt.tz is None else 'with'} a time zone"


def _numeric_times(known, on):
    arrays = {name: column.to_numpy() for name, column in known.items()}
    dtype = np.result_type(np.int64, *(array.dtype for array in arrays.values()))
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            row = known[name].index[np.argmin(np.isfinite(array))]
            raise ValueError(
                f"align_on_time: column {on!r} of source {name!r} is infinite in row {row}; "
                "expected finite times. Assign NA to mark the time unknown."
            )
    return {n: pd.Series(array.astype(dtype), index=known[n].index) for n, array in arrays.items()}


def _calendar_times(known):
    """Datetimes and durations as integers of the finest unit; the zone does not matter."""
    indices = {
        name: (pd.DatetimeIndex if column.dtype.kind == "M" else pd.TimedeltaIndex)(column)
        for name, column in known.items()
    }
    unit = max((index.unit for index in indices.values()), key=["s", "ms", "us", "ns"].index)
    return {
        name: pd.Series(index.as_unit(unit).asi8, index=known[name].index)
        for name, index in indices.items()
    }, unit


def _timelines(frames, times, by):
    """Times and keys of the rows of each source that have both: frames indexed by row."""
    keys = {name: frame[by].reset_index(drop=True) for name, frame in frames.items()}
    for column in by:
        known = {name: key[column].dropna() for name, key in keys.items()}
        texts = {name: _are_texts(values) for name, values in known.items() if len(values)}
        if len(set(texts.values())) > 1:
            raise TypeError(
                f"align_on_time: column {column!r} holds numbers in source "
                f"{next(n for n in texts if not texts[n])!r} and texts in source "
                f"{next(n for n in texts if texts[n])!r}; expected keys of one kind. Convert one "
                "of them with astype."
            )
    codes = _key_codes(keys, by)
    timelines = {}
    for name, time in times.items():
        line = pd.DataFrame({"time": time, "key": codes[name].reindex(time.index)})
        timelines[name] = line.dropna().astype({"key": np.int64})
    return timelines


def _are_texts(values):
    return pd.api.types.infer_dtype(values.astype(object)) == "string"


def _key_codes(keys, by):
    """One number per row, equal where keys are, NaN where one is missing."""
    if not by:
        return {name: pd.Series(0, index=key.index) for name, key in keys.items()}
    # as objects: categories of other sets, and text of other storage, compare by value
    joined = pd.concat([key.astype(object) for key in keys.values()], ignore_index=True)
    codes = joined.groupby(by, sort=False).ngroup().to_numpy(dtype=float)
    ends = np.cumsum([len(key) for key in keys.values()])
    return dict(zip(keys, map(pd.Series, np.split(codes, ends[:-1])), strict=True))


def _as_number(tolerance, unit):
    """The tolerance on the scale of `_comparable_times`."""
    if tolerance is None:
        return None
    is_number = isinstance(tolerance, Real) and not isinstance(tolerance, bool | np.timedelta64)
    if is_number != (unit is None):
        expected = "a number" if unit is None else "a timedelta, such as '20ms'"
        raise TypeError(
            f"align_on_time: tolerance={tolerance!r} with times that are "
            f"{KINDS['f' if unit is None else 'M']}; expected {expected}."
        )
    given, tolerance = tolerance, tolerance if unit is None else pd.Timedelta(tolerance)
    if not tolerance >= 0 * tolerance:
        raise ValueError(f"align_on_time: tolerance={given!r}; expected 0 or more.")
    return tolerance if unit is None else tolerance // pd.Timedelta(1, unit=unit)


# ------------------------------------------------------------------------------ matching


def _match(rows, n_rows, source, direction, limit):
    """Row of a source for each row of the result, -1 where there is none."""
    place = np.full(n_rows, -1, np.int64)
    source = source.drop_duplicates(keep="last").sort_values("time", kind="stable")
    rows = rows.sort_values("time", kind="stable")
    if not len(rows) or not len(source):
        return place
    if limit is not None and rows["time"].dtype.kind == "i":
        limit = int(min(limit, np.iinfo(np.int64).max))
    source = source.rename_axis("source_row").reset_index()
    found = pd.merge_asof(rows, source, on="time", by="key", direction=direction, tolerance=limit)[
        "source_row"
    ]
    place[rows.index] = found.fillna(-1).to_numpy(np.int64)
    return place


def _warn_if_unmatched(name, place, frames, on, how_near):
    """Warn if no row of a source is matched although it has times."""
    first = next(iter(frames))
    known = [frames[each][on].dropna() for each in (name, first)]
    if (place >= 0).any() or not all(map(len, known)):
        return
    own, others = (f"{times.min()} to {times.max()}" for times in known)
    warn(
        f"align_on_time: no row of source {name!r} is matched with {how_near}. Its times are "
        f"{own}, those of source {first!r} {others}. Check units, clocks and keys (by=), set "
        "direction='nearest', or raise tolerance."
    )


def _append_unmatched(rows, places, name, source, n_rows):
    """Append the rows of a source that are matched by none."""
    n = len(places[name])
    unused = np.setdiff1d(np.arange(n_rows), places[name])
    added = {each: np.full(len(unused), -1, np.int64) for each in places} | {name: unused}
    places = {each: np.concatenate([places[each], added[each]]) for each in places}
    timed = np.isin(unused, source.index)
    new = source.loc[unused[timed]].set_axis(n + np.flatnonzero(timed))
    return pd.concat([rows, new]) if len(rows) else new, places


def _assemble(frames, places, shared, sort):
    """The frame of the result: gathered columns of each source, the shared ones once."""
    first, *others = frames
    names = [column for name in frames for column in frames[name] if column not in shared]
    repeated = {column for column in names if names.count(column) > 1}
    index = None if sort else frames[first].index[places[first]]
    parts = []
    for name, frame in frames.items():
        own = frame if name == first else frame.drop(columns=shared)
        part = own.reset_index(drop=True).reindex(places[name])
        if sort and name == first:
            part = _fill_shared(part, frames, places, shared)
        part.index = pd.RangeIndex(len(part)) if index is None else index
        parts.append(part.rename(columns={c: f"{name}_{c}" for c in repeated & set(part.columns)}))
    X = pd.concat(parts, axis=1)
    if not X.columns.is_unique:
        twice = X.columns[X.columns.duplicated()][0]
        raise ValueError(
            f"align_on_time: two columns of the result are called {twice!r}; columns of equal "
            "names get the name of their source as prefix. Rename a column or a source."
        )
    return X


def _fill_shared(part, frames, places, shared):
    """Complete times and keys in the rows that the first source does not have."""
    first, *others = frames
    done = places[first] >= 0
    zone = getattr(getattr(frames[first][shared[0]], "dt", None), "tz", None)
    pieces, rows = [frames[first][shared].iloc[places[first][done]]], [np.flatnonzero(done)]
    for name in others:
        own = ~done & (places[name] >= 0)
        piece = frames[name][shared].iloc[places[name][own]]
        if zone is not None and len(piece):
            piece = piece.assign(**{shared[0]: piece[shared[0]].dt.tz_convert(zone)})
        pieces.append(piece)
        rows.append(np.flatnonzero(own))
        done = done | own
    pieces = [piece for piece in pieces if len(piece)] or pieces[:1]
    joined = pd.concat(pieces, ignore_index=True).iloc[np.argsort(np.concatenate(rows))]
    for column in shared:
        part[column] = joined[column].array
    return part


def _report(frames, places, sources, unit):
    """Counts and clock offsets, one row per source."""
    first = next(iter(frames))
    together = np.sum([place >= 0 for place in places.values()], axis=0) > 1
    report = {}
    for name, place in places.items():
        both = (place >= 0) & (places[first] >= 0)
        offsets = _times_at(sources[first], places[first][both])
        offsets = offsets - _times_at(sources[name], place[both])
        offsets = offsets if name != first else offsets[:0]
        n_rows = len(frames[name])
        report[name] = {
            "n_rows": n_rows,
            "n_untimed": n_rows - len(sources[name]),
            "n_unmatched": n_rows - len(np.unique(place[together & (place >= 0)])),
            "n_absent": int((place < 0).sum()),
            **_offset_summary(offsets, unit, sources[first]["time"].abs().max()),
        }
    return pd.DataFrame.from_dict(report, orient="index")


def _times_at(source, rows):
    return source["time"].reindex(rows).to_numpy()


def _offset_summary(offsets, unit, largest):
    median = spread = np.nan
    if len(offsets):
        median = np.median(offsets)
        spread = np.median(np.abs(offsets - median))
    rounding = 8 * np.finfo(float).eps * largest if unit is None else 0.0
    is_constant = len(offsets) >= FEWEST and abs(median) > CONSTANT * spread + rounding
    if unit is not None:
        median, spread = (
            pd.Timedelta(value, unit=unit) if value == value else pd.NaT
            for value in (median, spread)
        )
    return {
        "offset_median": median,
        "offset_spread": spread,
        "constant_offset": bool(is_constant),
    }


# ------------------------------------------------------------------------------ windows


def cut_windows(
    recordings,
    times,
    *,
    before=0.0,
    after,
    names=None,
    sample_rate=None,
    start=0.0,
    fill_value=None,
):
    """Cut long recordings into one cell per event.

    The cell of an event at time t holds the samples from t - `before` to t + `after`, to the
    nearest sample. All cells have the same length.

    Parameters
    ----------
    recordings : ndarray, or column, list or dict of recordings
        One recording: an array of shape (length,), or (length, n_channels) of a sequence. Several:
        a Series whose index holds their names, a dict by name, or a TensorArray, FileArray or list
        of recordings, whose names are 0, 1, .... Files are read one at a time.
    times : array-like of shape (n_events,)
        Times of the events in seconds, or datetimes if `start` is one.
    before : float, default=0.0
        Seconds before the event. A negative number starts the window after the event.
    after : float
        Seconds after the event.
    names : array-like of shape (n_events,), default=None
        Name of the recording of each event. May be omitted if there is only one.
    sample_rate : float, default=None
        Samples per second, in Hz; None takes the rate of the column or the file.
    start : float, datetime, or dict or Series of them by name, default=0.0
        Time of the first sample of a recording.
    fill_value : float, default=None
        Value of the samples before the start and after the end of a recording. None makes cells
        that lack any sample NA. Cells that lack all samples are always NA.

    Returns
    -------
    windows : TensorArray of length n_events
        Cells of shape (n_samples,) or (n_samples, n_channels), of the type of the recordings and
        with their sample rate. NA also where the time, the name or the recording is missing.

    Raises
    ------
    TypeError
        If datetimes and numbers, or datetimes with and without a time zone, are mixed, or
        `recordings` is a DataFrame.
    ValueError
        If the sample rate is unknown or recordings differ in it, the window is shorter than a
        sample, or no recording has the name of an event.

    See Also
    --------
    align_on_time : Joins sources that are recorded at the same time.

    Notes
    -----
    Each window is copied once: overlapping windows take more memory than their recording. From a
    memory map, only the windows are read.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mmfusion import cut_windows
    >>> signal = np.arange(100)
    >>> windows = cut_windows(signal, [1.0, 5.0, 9.9], before=0.2, after=0.3, sample_rate=10)
    >>> windows
    <TensorArray>
    [<int64 5>, <int64 5>, NaN]
    Length: 3, dtype: tensor[int64, 5, 10Hz]
    >>> windows[0]
    array([ 8,  9, 10, 11, 12])
    """
    recordings = _named_recordings(recordings)
    names = _event_names(names, recordings, len(times))
    starts = start if isinstance(start, Mapping | pd.Series) else dict.fromkeys(recordings, start)
    times = pd.Series(times).reset_index(drop=True)
    cells, dtype = [None] * len(times), None
    for name, rows in names.groupby(names, sort=False).groups.items():
        if recordings[name] is None:
            continue
        samples, rate = recordings[name]()
        rate = _window_rate(name, rate, sample_rate, dtype)
        seconds = _seconds(times[rows], starts, name)
        n_samples = round((before + after) * rate)
        if n_samples < 1:
            raise ValueError(
                f"cut_windows: before={before} and after={after} seconds are {n_samples} samples "
                f"at {rate} Hz; expected at least one. Give a longer window."
            )
        first = np.rint((seconds - before) * rate)
        for row, begin in zip(rows, first, strict=True):
            cells[row] = _window(samples, begin, n_samples, fill_value)
        dtype = dtype or TensorDtype(samples.dtype, (n_samples, *samples.shape[1:]), rate)
    if dtype is None:  # no event has a recording
        return TensorArray(cells, sample_rate=sample_rate)
    if any(cell is not None for cell in cells):
        return TensorArray(cells, sample_rate=dtype.sample_rate)
    return TensorArray._from_sequence(cells, dtype=dtype)


def _named_recordings(recordings):
    """Functions by name that read a recording and its sample rate; None for absent ones."""
    recordings = as_numpy(recordings)
    if isinstance(recordings, pd.DataFrame):
        raise TypeError(
            f"cut_windows: recordings is a DataFrame of the columns {list(recordings)}; expected "
            "an array or a column of recordings. Pass recordings[channels].to_numpy()."
        )
    if isinstance(recordings, list | tuple) and len(recordings) and isinstance(recordings[0], Real):
        recordings = np.asarray(recordings)
    if isinstance(recordings, np.ndarray) and recordings.dtype.kind in "biufc":
        column, names = [recordings], [0]
    elif isinstance(recordings, pd.Series):
        column, names = recordings.array, recordings.index
    elif isinstance(recordings, Mapping):
        column, names = list(recordings.values()), list(recordings)
    else:
        column, names = recordings, range(len(recordings))
    if not pd.Index(names).is_unique:
        twice = pd.Index(names)[pd.Index(names).duplicated()][0]
        raise ValueError(
            f"cut_windows: two recordings are called {twice!r}; expected distinct names. Set the "
            "index of the Series to the names that events use."
        )
    return {name: _reader(column, row, name) for row, name in enumerate(names)}


def _reader(column, row, name):
    """Function that returns a recording and its sample rate; None if it is absent."""
    cell = column[row]
    if is_absent(cell):
        return None

    def read():
        if isinstance(column, FileArray):
            samples, rate = column.decode_one(row)
        elif isinstance(cell, str | os.PathLike):
            samples, rate = FileArray([cell]).decode_one(0)
        else:
            samples = np.asanyarray(as_numpy(cell))
            rate = getattr(getattr(column, "dtype", None), "sample_rate", None)
        shape = getattr(samples, "shape", None)  # a text file has none
        if shape is None or len(shape) not in (1, 2) or samples.dtype.kind not in "biuf":
            got = "a text" if shape is None else f"of shape {shape} and dtype {samples.dtype}"
            raise ValueError(
                f"cut_windows: recording {name!r} is {got}; expected numbers of shape (length,) or "
                "(length, n_channels)."
            )
        return samples, rate

    return read


def _event_names(names, recordings, n_events):
    """Series of the name of the recording of each event."""
    if names is None:
        if len(recordings) != 1:
            raise ValueError(
                f"cut_windows: there are {len(recordings)} recordings; pass names=, the name of "
                "the recording of each event."
            )
        return pd.Series([next(iter(recordings))] * n_events, dtype=object)
    if len(names) != n_events:
        raise ValueError(
            f"cut_windows: names has {len(names)} values, times has {n_events}; expected one name "
            "per event."
        )
    names = pd.Series(list(names), dtype=object)
    unknown = ~names.isin(list(recordings)) & names.notna()
    if unknown.any():
        row = int(np.argmax(unknown))
        raise ValueError(
            f"cut_windows: event {row} belongs to recording {names[row]!r}; expected one of "
            f"{list(recordings)[:10]}. Recordings are named by the index of a Series or the keys "
            "of a dict."
        )
    return names


def _window_rate(name, rate, sample_rate, others):
    """Sample rate of a recording; raise if unknown, or not that of the others."""
    sample_rate = check_sample_rate(sample_rate)
    if sample_rate is not None:
        check_same_rate(rate, sample_rate)
        rate = sample_rate
    if rate is None:
        raise ValueError(
            f"cut_windows: recording {name!r} has no sample rate. Pass sample_rate=, in Hz."
        )
    if others is not None and others.sample_rate != rate:
        raise ValueError(
            f"cut_windows: recording {name!r} has {rate} Hz, others have {others.sample_rate} Hz; "
            "expected equal rates. Resample one of them, or cut them in separate calls."
        )
    return rate


def _seconds(times, starts, name):
    """Seconds from the first sample of a recording to some events, NaN where unknown."""
    if name not in starts:
        raise ValueError(f"cut_windows: start names no recording {name!r}; it is a dict of all.")
    start, kind = starts[name], times.dtype.kind
    if kind not in KINDS and times.notna().any():
        raise TypeError(
            f"cut_windows: times has dtype {times.dtype}; expected seconds or datetimes. Convert "
            "texts with pandas.to_datetime."
        )
    if (kind == "M") == isinstance(start, Real):
        raise TypeError(
            f"cut_windows: times has dtype {times.dtype}, but start={start!r} for recording "
            f"{name!r}; expected seconds for both, or datetimes for both."
        )
    if kind != "M":
        times = times.dt.total_seconds() if kind == "m" else times
        return times.to_numpy(dtype=float, na_value=np.nan) - start
    try:
        return (times - pd.Timestamp(start)).dt.total_seconds().to_numpy()
    except TypeError as error:
        raise TypeError(
            f"cut_windows: times has dtype {times.dtype}, but start={start!r} for recording "
            f"{name!r}: only one has a time zone. Use tz_localize to state the zone of the other."
        ) from error


def _window(samples, begin, n_samples, fill_value):
    """Samples from `begin` on, padded with `fill_value`; None if they are not there."""
    if not -n_samples < begin < len(samples):  # nor is NaN
        return None
    begin, end = int(begin), int(begin) + n_samples
    if begin >= 0 and end <= len(samples):
        return samples[begin:end]
    if fill_value is None:
        return None
    with np.errstate(all="ignore"):
        fill = np.asarray(fill_value).astype(samples.dtype)
    is_exact = samples.dtype.kind != "f"  # floats may round
    fits = np.isfinite(fill) == np.isfinite(fill_value) and (not is_exact or fill == fill_value)
    if not fits:
        raise ValueError(
            f"cut_windows: fill_value={fill_value!r} does not fit samples of {samples.dtype}. "
            "Convert the recordings, or pass another value."
        )
    window = np.full((n_samples, *samples.shape[1:]), fill)
    inside = samples[max(begin, 0) : end]
    window[max(-begin, 0) :][: len(inside)] = inside
    return window
