"""Numbers, categories and dates of tables: what each text or cell becomes."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import FunctionTransformer

from sklearn_mmfusion.preprocessing.table import (
    as_levels,
    date_feature_names,
    date_features,
    parse_dates,
    parse_numbers,
    read_number,
)


@pytest.mark.parametrize(
    ("text", "form", "expected"),
    [
        ("12.5", ".", (12.5, "")),
        (" -3 ", ".", (-3.0, "")),
        ("\u22123", ".", (-3.0, "")),  # a minus sign, as typeset
        ("1,234,567.8", ".", (1234567.8, "")),
        ("1 234", ".", (1234.0, "")),
        ("1'234", ".", (1234.0, "")),
        ("$ 12", ".", (12.0, "")),
        ("-€3.5", ".", (-3.5, "")),
        ("USD 7", ".", (7.0, "")),
        ("45%", ".", (45.0, "%")),
        ("12 kg", ".", (12.0, "kg")),
        ("1.5e-3", ".", (0.0015, "")),
        ("1.234,50 €", ",", (1234.5, "€")),
        ("12,5", ",", (12.5, "")),
        ("Yes", "boolean", (1.0, "")),
        ("f", "boolean", (0.0, "")),
    ],
)
def test_number_in_a_text(text, form, expected):
    assert read_number(text, form) == expected


@pytest.mark.parametrize("text", ["", "abc", "10a", "1,2", "1,23,456", "12-13", "1.2.3", "n/a"])
def test_other_text_is_no_number(text):
    assert np.isnan(read_number(text)[0])


def test_parse_numbers_reads_every_container():
    frame = pd.DataFrame(
        {
            "float": [1.5, np.inf],
            "nullable": pd.array([2, None], dtype="Int64"),
            "flag": [True, False],
            "objects": [Decimal("0.5"), None],
            "duration": pd.to_timedelta(["1min", None]),
            "text": ["1,5", "?"],
        }
    )
    expected = [[1.5, 2, 1, 0.5, 60, 1.5], [np.nan, np.nan, 0, np.nan, np.nan, np.nan]]
    np.testing.assert_array_equal(parse_numbers(frame, {5: ","}), expected)
    np.testing.assert_array_equal(parse_numbers(np.array([[1, 2]])), [[1.0, 2.0]])


def test_levels_are_the_same_text_for_integers_and_floats():
    frame = pd.DataFrame({"a": [1, 2], "b": [1.0, np.nan], "c": [True, "x"]})
    levels = as_levels(frame)
    assert levels[0].tolist() == ["1", "1", "True"]
    assert levels[1, 0] == "2" and np.isnan(levels[1, 1])


@pytest.mark.parametrize(
    "cell",
    [
        *("2020-02-01", "2020/02/01", "01/02/2020", "1.2.2020", "01-02-2020", "Feb 1, 2020"),
        *("February 1 2020", "1 Feb 2020", "1 February 2020", "20200201", "2020-02-01T00:00:00Z"),
        *("2020-02-01 01:00+01:00", "01/02/2020 12:00 AM", " 2020-02-01 ", 20200201, "01.02.20"),
        *(dt.date(2020, 2, 1), dt.datetime(2020, 2, 1), pd.Timestamp("2020-02-01", tz="UTC")),
        *(np.datetime64("2020-02-01"), pd.Period("2020-02", freq="M")),
    ],
)
def test_a_date_in_every_form(cell):
    expected = pd.Timestamp("2020-02-01")
    assert parse_dates(pd.Series([cell]))[0] == expected
    missing = pd.Series([cell, None], dtype=pd.Series([cell]).dtype if cell != 20200201 else float)
    assert parse_dates(missing).isna().tolist() == [False, True]


def test_month_first_exchanges_day_and_month():
    dates = parse_dates(pd.Series(["01/02/2020", "12/31/2020"]), month_first=True)
    assert dates.dt.month.tolist() == [1, 12]


def test_words_and_small_numbers_are_no_dates():
    assert parse_dates(pd.Series(["may", "10", "2020", "12.5", "31/31/2020", "a b c"])).isna().all()


def test_date_features_are_days_and_points_on_circles():
    frame = pd.DataFrame({"at": pd.to_datetime(["1970-01-01 06:00", "1970-01-15 06:00", None])})
    step = FunctionTransformer(date_features, feature_names_out=date_feature_names)
    made = step.fit_transform(frame)
    names = step.get_feature_names_out().tolist()
    assert names[:3] == ["at_days", "at_year_sin", "at_year_cos"] and len(names) == 7
    np.testing.assert_allclose(made[:2, 0], [0.25, 14.25])
    np.testing.assert_array_equal(made[0, 3:], made[1, 3:])  # two weeks later: week, day
    np.testing.assert_array_equal(made[0, 5:], [1.0, 0.0])  # a quarter of the day
    assert np.isnan(made[2, 0]) and not made[2, 1:].any()


@pytest.mark.parametrize("cell", ["9999-12-31", dt.date(9999, 12, 31), dt.datetime(1, 1, 1, 12)])
def test_dates_of_all_years_are_read(cell):
    """Databases mark an open end by the year 9999."""
    made = date_features(pd.DataFrame({"until": pd.Series([cell], dtype=object)}), cycles=())
    day = cell if isinstance(cell, dt.datetime) else dt.datetime(9999, 12, 31)
    assert made[0, 0] == (day - dt.datetime(1970, 1, 1)) / dt.timedelta(days=1)
