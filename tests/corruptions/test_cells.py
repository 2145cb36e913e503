"""Properties of every corruption of the table that acts on cells."""

import random
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sklearn_mmfusion import FileArray, TensorArray
from sklearn_mmfusion.corruptions import CORRUPTIONS, corrupt
from tests._media import image as image_file
from tests._media import pixels, recording, waves
from tests._registry import clips, clouds, images, texts, waveforms
from tests.test_docstrings import check_object


def sequences(n):
    rng = np.random.default_rng(7)
    return [rng.normal(size=(rng.integers(8, 20), 3)) for _ in range(n)]


@cache
def column(modality, dtype):
    """Seven cells, the third of which is absent."""
    makers = {"audio": waveforms, "text": texts, "sequence": sequences, "point_cloud": clouds}
    cells = list({**makers, "image": images, "video": clips}[modality](7))
    if modality != "text":
        factor = 60 if modality not in ("image", "video") and np.dtype(dtype).kind in "iu" else 1
        cells = [(np.abs(cell) * factor).astype(dtype) for cell in cells]
    cells[2] = None
    return pd.Series(
        TensorArray(cells) if modality != "text" else cells, name="x", index=[*"abcdefg"]
    )


ON_CELLS = [(m, name) for m, own in CORRUPTIONS.items() for name in own if own[name].on_cells]


@given(
    st.sampled_from(ON_CELLS),
    st.integers(0, 5),
    st.integers(0, 2**31 - 1),
    st.sampled_from(["uint8", "int16", "float16", "float32", "float64", "bool"]),
)
def test_corruptions_keep_what_they_should(which, severity, seed, dtype):
    X, state = (
        column(which[0], dtype),
        (random.getstate(), torch.get_rng_state(), np.random.get_state()[2]),
    )
    found = corrupt(X, *which, severity, random_state=seed)
    assert (random.getstate(), np.random.get_state()[2]) == (state[0], state[2])
    assert torch.equal(torch.get_rng_state(), state[1])
    assert found.index.equals(X.index) and found.name == X.name and found.dtype == X.dtype
    assert found.isna().tolist() == [False, False, True, False, False, False, False]
    if which[0] != "text":
        assert (found.array.cell_shapes() == X.array.cell_shapes()).all()
    if severity == 0:
        assert found.equals(X)
    assert found.equals(corrupt(X, *which, severity, random_state=seed))
    # A row depends on its number and on the seed, not on the other rows.
    fewer = X[:5].copy()
    fewer.iloc[0] = None
    assert corrupt(fewer, *which, severity, random_state=seed)[1:].equals(found[1:5])


@pytest.mark.parametrize(("modality", "name"), ON_CELLS)
def test_corruptions_change_cells_with_the_severity(modality, name):
    X = column(modality, "float64")
    strong = corrupt(X, modality, name, 5, random_state=0)
    assert not strong.equals(X)
    if name not in {"clipping", "blur"}:  # the only ones fixed
        assert not corrupt(X, modality, name, 5, random_state=1).equals(strong)
    if modality != "text" and name != "shift":  # by how much does not matter to a tone
        weak, strong = (
            [_distance(X, corrupt(X, modality, name, s, random_state=r)) for r in range(3)]
            for s in (1, 5)
        )
        assert np.mean(weak) < np.mean(strong)


def _distance(one, other):
    pairs = zip(one.dropna(), other.dropna(), strict=True)
    return np.mean([np.abs(a - b).mean() for a, b in pairs])


def test_docstring():
    assert check_object(corrupt) == []


def test_a_result_is_not_the_given_column():
    X = TensorArray(np.ones((2, 4)))
    corrupt(X, "audio", "gain", 0)[[0]] = np.nan
    assert not X.isna().any()


def test_odd_columns():
    empty = corrupt([np.zeros((0, 2)), np.ones((3, 2))], "sequence", "warp", 3, random_state=0)
    assert [cell.shape for cell in empty] == [(0, 2), (3, 2)]
    assert corrupt([None, None], "image", "blur", 2).isna().all()
    texts = pd.Series(["one two three four " * 9, None], dtype="category")
    assert corrupt(texts, "text", "swap", 5, random_state=1)[0].split() != texts[0].split()
    holey = [np.array([[0.2, np.nan], [0.4, 0.6]])]
    assert np.isfinite(corrupt(holey, "image", "noise", 1, random_state=0)[0]).sum() == 3


def test_pixels_keep_their_scale_and_layout():
    photo = np.random.default_rng(0).integers(0, 256, (1, 12, 10, 3), dtype=np.uint8)
    first = corrupt(np.moveaxis(photo, 3, 1), "image", "color", 3, random_state=0)[0]
    last = corrupt(photo, "image", "color", 3, random_state=0)[0]
    assert (np.moveaxis(first, 0, 2) == last).all()
    scaled = corrupt(photo / 255, "image", "color", 3, random_state=0)[0]
    assert np.abs(scaled * 255 - last).max() <= 0.51
    deep = corrupt(photo.astype(np.uint16) * 257, "image", "rotation", 3, random_state=0)[0]
    rotated = corrupt(photo, "image", "rotation", 3, random_state=0)[0]
    assert np.abs(deep / 257 - rotated).max() < 0.51


def test_whole_numbers_saturate():
    loud = [np.array([32767, -32768, 100] * 50, np.int16)]
    changed = corrupt(loud, "audio", "gain", 5, random_state=3)[0].astype(float)
    assert changed.max() == 32767 and changed.min() == -32768 and changed[2] > 200
    wide = [np.full((4, 2), 2**63 - 1)]
    assert corrupt(wide, "sequence", "scale", 5, random_state=3)[0].max() > 2**62


def test_files_are_decoded(tmp_path):
    (tmp_path / "a.png").write_bytes(image_file(pixels(8, 9), "PNG"))
    (tmp_path / "a.wav").write_bytes(recording(waves(), "WAV", "PCM_16", 8000))
    shot = corrupt(FileArray([tmp_path / "a.png", None]), "image", "noise", 5, random_state=0)
    assert shot.isna().tolist() == [False, True]
    assert shot.equals(corrupt([pixels(8, 9), None], "image", "noise", 5, random_state=0))
    take = corrupt(FileArray([tmp_path / "a.wav"]), "audio", "gain", random_state=0)
    assert take.dtype.sample_rate == 8000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["a"], "txt", "drop"), "modality 'txt' is unknown; expected 'image', 'audio', 'text'"),
        ((["a"], "text", "noise"), "text has no corruption 'noise'; expected 'drop', 'swap'"),
        ((["a"], "text", "drop", 6), "severity=6; expected an integer from 0 to 5"),
        ((["a"], "text", "drop", True), "severity=True; expected an integer"),
        ((["a"], "text", "drop", 2.0), "severity=2.0; expected an integer"),
        (
            ([1.5, 2.5], "audio", "gain"),
            "row 0 holds an array of 0 axes; expected arrays of 1 or 2",
        ),
        (([[1.0]], "audio", "time_mask"), "acts on the inputs of a network, not on cells"),
        ((["a"], "image", "flip"), r"row 0 holds a text; expected arrays of 2 or 3 axes"),
        (([[1.0], None], "text", "drop"), r"row 0 holds an array of 1 axes; expected texts"),
        ((np.ones((2, 3, 3), complex), "image", "flip"), "Complex data not supported"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        corrupt(*arguments)
