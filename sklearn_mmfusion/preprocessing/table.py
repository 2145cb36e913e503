"""Columns of tables -> numbers: numbers and dates written as text, levels of categories.

These functions learn nothing. In a pipeline, a `FunctionTransformer` calls them.
"""

import numbers
import re
from datetime import date, timedelta

import numpy as np
import pandas as pd

# Texts that mark a missing value in spreadsheets and exports of databases.
MISSING_WORDS = frozenset(
    ["", "-", "--", "?", ".", "n/a", "na", "#n/a", "nan", "none", "null", "nil", "unknown"]
)
# Pairs of words for 1 and 0.
BOOLEAN_PAIRS = (
    *(("true", "false"), ("yes", "no"), ("y", "n"), ("t", "f")),
    *(("on", "off"), ("1", "0"), ("1.0", "0.0")),
)
BOOLEAN_WORDS = {word: 1.0 - i for pair in BOOLEAN_PAIRS for i, word in enumerate(pair)}

_CURRENCY = r"[$€£¥₹₽₩₺]|(?:USD|EUR|GBP|CHF|JPY|INR|Rs\.?)"
_UNIT = rf"\s?%|\s?(?:{_CURRENCY})|\s[A-Za-zµ°²³/]{{1,6}}"
_SPACES = " '\u2019\u00a0\u202f"  # between thousands, in several countries


def _number_pattern(decimal, thousands):
    whole = rf"\d{{1,3}}(?:[{thousands}{_SPACES}]\d{{3}})+|\d+"
    body = rf"(?:(?:{whole})(?:{decimal}\d*)?|{decimal}\d+)(?:[eE][+-]?\d+)?"
    return re.compile(rf"([+-]?)\s*(?:{_CURRENCY})?\s*([+-]?)({body})({_UNIT})?")


# How the numbers of a column are written: the decimal mark.
NUMBER_FORMS = {".": _number_pattern(r"\.", ","), ",": _number_pattern(",", r"\.")}


def read_number(text, form="."):
    """Read a number with its sign, currency, thousands separators, percent sign or unit.

    Parameters
    ----------
    text : str
    form : {".", ",", "boolean"}, default="."
        Decimal mark, or words such as "yes" and "no".

    Returns
    -------
    value : float
        NaN if the text is not a number.
    unit : str
        Text after the number, "" if there is none.
    """
    text = text.strip()
    if form == "boolean":
        return BOOLEAN_WORDS.get(text.lower(), np.nan), ""
    match = NUMBER_FORMS[form].fullmatch(text.replace("\u2212", "-"))
    if match is None:
        return np.nan, ""
    first, second, body, unit = match.groups()
    body = re.sub(rf"[{_SPACES}]", "", body)
    body = body.replace(",", "") if form == "." else body.replace(".", "").replace(",", ".")
    sign = -1.0 if "-" in (first, second) else 1.0
    return sign * float(body), (unit or "").strip()


def parse_numbers(X, forms=None):
    """Convert columns of numbers, of any dtype or written as text, to float64.

    Parameters
    ----------
    X : DataFrame or ndarray of shape (n_samples, n_columns)
        Texts that are not numbers, infinities and missing cells become NaN; durations become
        seconds.
    forms : dict of {int: str}, default=None
        How texts are written in the columns at these positions, see `read_number`; elsewhere with
        a decimal point.

    Returns
    -------
    numbers : ndarray of shape (n_samples, n_columns), dtype=float64
    """
    frame, forms = pd.DataFrame(X), forms or {}
    columns = [column_numbers(frame.iloc[:, j], forms.get(j, ".")) for j in range(frame.shape[1])]
    return np.column_stack(columns)


def column_numbers(column, form="."):
    """Convert one Series as `parse_numbers` does; returns shape (n_samples,)."""
    if pd.api.types.is_timedelta64_dtype(column.dtype):
        values = column.dt.total_seconds().to_numpy(np.float64)
    elif pd.api.types.is_numeric_dtype(column.dtype):  # booleans too
        values = column.to_numpy(np.float64, na_value=np.nan)
    else:
        known = {}
        values = np.array([_number_of(cell, form, known) for cell in column], dtype=np.float64)
    return np.where(np.isinf(values), np.nan, values)


def _number_of(cell, form, known):
    """Return one cell as a float; `known` holds the texts that were read before."""
    if isinstance(cell, str):
        if cell not in known:
            known[cell] = read_number(cell, form)[0]
        return known[cell]
    if isinstance(cell, timedelta):  # pandas' too; NaT is none
        return cell.total_seconds()
    if isinstance(cell, numbers.Number | np.bool_) and not isinstance(cell, complex):
        return float(cell)
    return np.nan


# ------------------------------------------------------------------------------ categories


def as_levels(X):
    """Convert columns of categories to texts, so that `OneHotEncoder` can sort mixed cells.

    Parameters
    ----------
    X : DataFrame or ndarray of shape (n_samples, n_columns)
        A whole number becomes the same text as int and as float, which integers become when one
        of them is missing.

    Returns
    -------
    levels : ndarray of shape (n_samples, n_columns), dtype=object
        str, NaN where missing.
    """
    frame = pd.DataFrame(X)
    levels = np.empty(frame.shape, dtype=object)
    for j in range(frame.shape[1]):
        column = frame.iloc[:, j]
        missing = column.isna().to_numpy()
        levels[:, j] = [
            np.nan if absent else _level(cell) for cell, absent in zip(column, missing, strict=True)
        ]
    return levels


def _level(cell):
    is_whole = isinstance(cell, float | np.floating) and float(cell).is_integer()
    return str(int(cell)) if is_whole else str(cell)


# ------------------------------------------------------------------------------ dates

_LOOKS_LIKE_DATE = re.compile(
    r"(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/. ]+(?:\d{1,2}|[A-Za-z]{3,9})[-/., ]+\d{2,4}"
    r"|[A-Za-z]{3,9}\.? \d{1,2},? \d{4}|(?:19|20)\d{6})(?:[T ,].{1,30})?"
)
_ISO = re.compile(r"\d{4}-\d{2}-\d{2}.*")
_NUMERIC_FORMATS = "%d/%m/%Y", "%d.%m.%Y", "%d-%m-%Y", "%d/%m/%y", "%d.%m.%y", "%d-%m-%y"
_OTHER_FORMATS = (
    *("%Y%m%d", "%Y/%m/%d", "%Y.%m.%d", "%b %d, %Y", "%B %d, %Y", "%b %d %Y", "%B %d %Y"),
    *("%d %b %Y", "%d %B %Y", "%d-%b-%Y", "%d-%B-%Y", "%d-%b-%y", "%d. %B %Y"),
)
_TIMES = "", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p"
# Cycles of `date_features`: their period in days.
CYCLES = {"year": 365.2425, "week": 7.0, "day": 1.0}


def parse_dates(column, month_first=False):
    """Convert a column of dates, of any dtype or written as text, to time stamps in UTC.

    Parameters
    ----------
    column : Series
        Dates, time stamps, periods, texts in common formats, or integers such as 20200131.
    month_first : bool, default=False
        Whether 01/02/2020 is January 2 (else February 1).

    Returns
    -------
    dates : Series of datetime64[us], without time zone
        NaT where a cell is missing or not a date. Times with a zone are converted to UTC.
    """
    dtype = column.dtype
    if isinstance(dtype, pd.PeriodDtype):
        column = column.dt.to_timestamp()
    elif pd.api.types.is_numeric_dtype(dtype):
        whole = column.to_numpy(np.float64, na_value=np.nan)
        column = pd.Series([f"{v:.0f}" if np.isfinite(v) else None for v in whole], column.index)
    if not pd.api.types.is_datetime64_any_dtype(column.dtype):
        column = _dates_of_cells(column.astype(object), month_first)
    if getattr(column.dtype, "tz", None) is not None or isinstance(column.dtype, pd.ArrowDtype):
        column = pd.to_datetime(column, utc=True).dt.tz_localize(None)
    return column.astype("datetime64[us]")


def _dates_of_cells(column, month_first):
    is_text = np.array([isinstance(cell, str) for cell in column], dtype=bool)
    is_date = np.array([isinstance(cell, date) for cell in column], dtype=bool)  # datetime too
    dates = pd.Series(pd.NaT, column.index, dtype="datetime64[us, UTC]")
    if is_date.any():
        found = pd.to_datetime(column[is_date], utc=True, errors="coerce")
        dates[is_date] = found.astype(dates.dtype)
    if is_text.any():
        texts = column[is_text].str.strip()
        unique = pd.Series(texts.unique())
        read = dict(zip(unique, _dates_of_texts(unique, month_first), strict=True))
        dates[is_text] = pd.Series([read[text] for text in texts], texts.index, dtype=dates.dtype)
    return dates


def _dates_of_texts(texts, month_first):
    """Try the formats in turn, each on the texts that no earlier one has read."""
    dates = pd.Series(pd.NaT, texts.index, dtype="datetime64[us, UTC]")
    rest = texts[texts.map(lambda text: _LOOKS_LIKE_DATE.fullmatch(text) is not None)]
    numeric = _NUMERIC_FORMATS
    if month_first:
        numeric = [
            form.replace("%d", "%x").replace("%m", "%d").replace("%x", "%m") for form in numeric
        ]
    times = _TIMES if rest.str.contains(":").any() else ("",)
    formats = [f"{day}{time}" for time in times for day in (*numeric, *_OTHER_FORMATS)]
    for form in ("ISO8601", *formats):
        if rest.empty:
            break
        tried = rest[rest.str.match(_ISO)] if form == "ISO8601" else rest
        found = pd.to_datetime(tried, format=form, utc=True, errors="coerce").dropna()
        dates[found.index] = found.astype(dates.dtype)
        rest = rest.drop(found.index)
    return dates


def date_features(X, month_first=(), cycles=tuple(CYCLES)):
    """Convert columns of dates to days since 1970 and the sine and cosine of cycles.

    Parameters
    ----------
    X : DataFrame or ndarray of shape (n_samples, n_columns)
        Columns as in `parse_dates`.
    month_first : tuple of int, default=()
        Positions of the columns in which 01/02/2020 is January 2.
    cycles : tuple of {"year", "week", "day"}, default=("year", "week", "day")

    Returns
    -------
    features : ndarray of shape (n_samples, n_columns * (1 + 2 * n_cycles)), dtype=float64
        For a missing date, the days are NaN and the cycles 0: the center of the circle, at equal
        distance from all dates.
    """
    frame, features = pd.DataFrame(X), []
    for j in range(frame.shape[1]):
        dates = parse_dates(frame.iloc[:, j], j in month_first)
        # numpy's microseconds: pandas would count nanoseconds, which end in 2262
        days = (dates.to_numpy() - np.datetime64(0, "us")) / np.timedelta64(1, "D")
        features.append(days)
        for cycle in cycles:
            angle = 2 * np.pi * np.mod(days, CYCLES[cycle]) / CYCLES[cycle]
            # equal phases must stay equal: later digits differ by the rounding of the division
            features += [np.nan_to_num(f(angle).round(5)) for f in (np.sin, np.cos)]
    return np.column_stack(features)


def date_feature_names(transformer, input_features):
    """Name the columns of `date_features`, for the `FunctionTransformer` that calls it."""
    cycles = (transformer.kw_args or {}).get("cycles", tuple(CYCLES))
    endings = ["days", *(f"{cycle}_{wave}" for cycle in cycles for wave in ("sin", "cos"))]
    return [f"{name}_{ending}" for name in input_features for ending in endings]
