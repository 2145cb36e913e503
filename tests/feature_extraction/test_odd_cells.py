"""Odd cells among good ones: the features are finite, or an error names an odd row."""

import re
import warnings
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests._registry import MODALITIES, classes

N_GOOD = 8
N_EXAMPLES = 1000 if settings().max_examples > 50 else 10  # of the profiles thorough and fast
NUMBERS = ("b1", "u1", "i2", "u2", "i4", "i8", "f2", "f4", "f8", ">f4", ">i2", "c8", "M8[s]", "O")
VALUES = (0, 1, -1, 255, 1e4, -1e30, 1e30, 1e38, np.nan, np.inf)
OTHERS = (
    *(None, np.nan, pd.NA, pd.NaT, True, 7, 1.5, 1j, b"bytes", {}, set(), object(), {"a": 1}),
    *("", "a text", "none.png", "none.wav", "none.npy", "none.xyz", "\ud800", "\0", "a\0b.png"),
    *([], [[]], [[1, 2], [3]], [1, None], ["a"], (8000, np.zeros(9)), np.zeros(()), [True, 1, 1.5]),
    *(np.array(["a", "b"]), np.zeros(3, [("x", float)]), np.ma.array([1.0, 2.0], mask=[0, 1])),
    *(pd.Timestamp("2026-01-01"), pd.Series([1.0, 2.0]), np.float32(3), range(5), np.str_("one")),
)


@st.composite
def odd_arrays(draw):
    """Arrays of any type, shape, layout and magnitude, also as tensors or lists."""
    shape = draw(st.lists(st.sampled_from([0, 1, 2, 3, 8, 60]), max_size=4))
    shape = tuple(shape) if np.prod(shape) < 1e5 else tuple(shape[:2])
    dtype, value = draw(st.sampled_from(NUMBERS)), draw(st.sampled_from(VALUES))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = np.full(shape, value).astype(dtype)
    form = draw(st.sampled_from(["", "fortran", "strided", "reversed", "sealed", "list", "torch"]))
    if form == "fortran":
        return np.asfortranarray(array)
    if form == "strided" and shape:
        return array.repeat(2, axis=0)[::2]
    if form == "reversed" and shape:
        return array[::-1]
    if form == "sealed":
        array.flags.writeable = False
    if form == "list":
        return array.tolist()
    return torch.from_numpy(array) if form == "torch" and dtype in ("u1", "f2", "f4") else array


ODD = st.one_of(st.sampled_from(OTHERS), odd_arrays())


@cache
def fitted(name):
    return make(name).fit(MODALITIES[name].cells(), classes())


def make(name):
    return MODALITIES[name].make(max_epochs=1, early_stopping=False, refit=False)


def check(encode, cells, odd):
    """Check the invariant for cells that are odd in the rows `odd`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            X_t = encode(cells)
    except (TypeError, ValueError, FileNotFoundError) as error:
        listed = re.findall(r"row (\d+)", str(error)) + re.findall(r"first \[(\d+)", str(error))
        rows = set(map(int, listed))
        assert rows & odd, f"names {rows}, not {odd}: {error}"
    else:
        finite, empty = np.isfinite(X_t).all(axis=1), np.isnan(X_t).all(axis=1)
        good = [row for row in range(len(cells)) if row not in odd]
        assert (finite | empty).all() and finite[good].all()


@pytest.mark.parametrize("name", MODALITIES)
@settings(max_examples=N_EXAMPLES)
@given(data=st.data())
def test_odd_cells(name, data):
    cells = list(MODALITIES[name].cells()[:N_GOOD])
    odd = data.draw(st.dictionaries(st.integers(0, N_GOOD - 1), ODD, min_size=1, max_size=3))
    for row, cell in odd.items():
        cells[row] = cell
    if data.draw(st.booleans()):
        objects = np.empty(N_GOOD, object)
        for row, cell in enumerate(cells):
            objects[row] = cell
        cells = pd.Series(objects, dtype=object)
    y = np.arange(N_GOOD) % 2  # both classes remain, whichever three rows are absent
    if data.draw(st.booleans()):
        check(fitted(name).transform, cells, set(odd))
    else:
        check(lambda X: make(name).fit_transform(X, y), cells, set(odd))
