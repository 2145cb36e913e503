"""Cleaners against regular expressions, loops and scipy, alone and inside compositions."""

import html
import re
import unicodedata
from time import perf_counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal
from scipy.io import wavfile
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from sklearn.pipeline import make_pipeline

from sklearn_mmfusion import (
    AudioCleaner,
    FileArray,
    FusionTransformer,
    ImageCleaner,
    ImageEncoder,
    JointFusionClassifier,
    LateFusionClassifier,
    SequenceCleaner,
    TensorArray,
    TextCleaner,
    TextEncoder,
    multimodal_frame,
)
from tests._registry import (
    SMALL_IMAGE,
    SMALL_JOINT,
    SMALL_TEXT,
    classes,
    flawed_sequences,
    images,
    markup,
    texts,
    waveforms,
)

CHARACTERS = st.text(alphabet="aZé\u0301ßＡ中ﬁ😀<>&;#'\"/!?._-$ \n\u00a0٣", max_size=12)
KEEP = {"strip_html": False, "remove_urls": False}


def cleaned(cleaner, X):
    """The cells that a cleaner makes of others."""
    return list(cleaner.fit_transform(X))


# ------------------------------------------------------------------------------ texts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<p>one</p><br/>two", "one two"),
        ("a<!-- <b>no</b> -->b", "a b"),
        ("x <script>var a = 1 < 2;</script> y <STYLE>p {}</style>z", "x y z"),
        ("3 < 4 and 5 > 4", "3 < 4 and 5 > 4"),
        ("a <!-- never closed", "a"),
        ("a <style type=x> never closed", "a"),
        ("<style of writing", "<style of writing"),
        ("&lt;b&gt; &amp;amp; caf&eacute; &#65;", "<b> &amp; café A"),
        ("see http://a.bc/d?e=f&g#h, or (https://x.yz).", "see , or ( )."),
        ("WWW.EXAMPLE.COM! ftp://x/y", "!"),
        ("wwwx www and http: //x", "wwwx www and http: //x"),
        ("  much \n\t white\u00a0space ", "much white space"),
    ],
)
def test_markup_and_addresses_are_removed(text, expected):
    assert cleaned(TextCleaner(), [text]) == [expected]


@given(st.lists(CHARACTERS, min_size=1, max_size=4))
def test_entities_equal_html_unescape(given_texts):
    escaped = [html.escape(text) for text in given_texts]
    found = cleaned(TextCleaner(remove_urls=False), pd.Series(escaped, dtype=object))
    assert found == [" ".join(html.unescape(text).split()) for text in escaped]
    assert found == [" ".join(text.split()) for text in given_texts]


@given(CHARACTERS, st.sampled_from(["unicode", "ascii", None]), st.booleans(), st.booleans())
def test_characters_equal_unicodedata(text, accents, lowercase, punctuation):
    expected = text
    if accents is not None:
        expected = "".join(
            c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)
        )
    if accents == "ascii":
        expected = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    if lowercase:
        expected = expected.casefold()
    if punctuation:
        expected = "".join(" " if unicodedata.category(c).startswith("P") else c for c in expected)
    params = {"strip_accents": accents, "lowercase": lowercase, "remove_punctuation": punctuation}
    found = cleaned(TextCleaner(**KEEP, **params), pd.Series([text], dtype=object))
    assert found == [" ".join(expected.split())]


def test_stop_words_are_whole_words_in_any_case():
    words = ["the", "Don't", "café"]
    cleaner = TextCleaner(stop_words=words, strip_accents="unicode", remove_punctuation=True)
    assert cleaned(cleaner, ["The THEME: don't, Cafe! don"]) == ["THEME don"]
    text = "This is not the end of all that we know about it"
    kept = [word for word in text.split() if word.lower() not in ENGLISH_STOP_WORDS]
    assert cleaned(TextCleaner(stop_words="english"), [text]) == [" ".join(kept)]


def test_absent_texts_stay_absent_and_empty_ones_empty():
    X = pd.Series(["<br>", None, "", np.nan], name="text")
    found = TextCleaner().fit(X).transform(X)
    assert pd.isna(found).tolist() == [False, True, False, True]
    assert found[0] == found[2] == "" and found.dtype == multimodal_frame(x=texts())["x"].dtype
    assert pd.isna(TextCleaner().fit(X).transform(X[[1, 3]])).all()


def test_text_files_are_read(tmp_path):
    (tmp_path / "a.txt").write_text("<i>one</i>")
    assert cleaned(TextCleaner(), FileArray([str(tmp_path / "a.txt"), None]))[0] == "one"


def test_numbers_are_no_texts_to_clean():
    table = np.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(TextCleaner(lowercase=True).fit_transform(table), table)


def test_other_stop_words_than_texts_are_refused():
    with pytest.raises(TypeError, match="TextCleaner: stop_words holds 3; expected words as str"):
        TextCleaner(stop_words=["a", 3]).fit(["a"])


@pytest.mark.parametrize("part", ["<!--", "<script>", "<a ", "www.", "http://", "a'", "&amp", "<"])
def test_cleaning_time_grows_with_the_length_of_a_text(part):
    # quadratic patterns would take half a minute
    start = perf_counter()
    TextCleaner(stop_words="english", remove_punctuation=True).fit_transform([part * 20000])
    assert perf_counter() - start < 5


# ------------------------------------------------------------------------------ sequences


def fill_by_loop(values, known, interpolation, center):
    """Values of one channel, each unknown one from its neighbours in time."""
    filled, steps = [], [i for i, k in enumerate(known) if k]
    for i, value in enumerate(values):
        before = [j for j in steps if j <= i]
        after = [j for j in steps if j >= i]
        if not steps:
            filled.append(center)
        elif known[i]:
            filled.append(value)
        elif not before:
            filled.append(values[after[0]])
        elif not after or interpolation == "previous":
            filled.append(values[before[-1]])
        else:
            a, b = before[-1], after[0]
            filled.append(values[a] + (values[b] - values[a]) * (i - a) / (b - a))
    return filled


VALUES = st.sampled_from([np.nan, np.inf, -1.0, 0.0, 1.0, 2.0, 50.0])


@settings(max_examples=60, deadline=None)
@given(
    cells=st.lists(
        st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=7).map(np.array),
        min_size=1,
        max_size=4,
    ),
    threshold=st.sampled_from([None, 2.0, 10.0]),
    interpolation=st.sampled_from(["linear", "previous"]),
)
def test_filled_sequences_equal_a_loop(cells, threshold, interpolation):
    cleaner = SequenceCleaner(threshold, interpolation=interpolation)
    found = list(cleaner.fit_transform(TensorArray(cells)))
    for channel in range(2):
        values = np.concatenate([cell[:, channel] for cell in cells])
        values = values[np.isfinite(values)]
        median = np.median(values) if len(values) else 0.0
        scale = 1.4826 * np.median(np.abs(values - median)) if len(values) else 0.0
        assert cleaner.center_[channel] == median
        assert cleaner.scale_[channel] == pytest.approx(scale, rel=1e-12)
        for cell, result in zip(cells, found, strict=True):
            known = unlike_outliers(cell, cleaner, threshold)
            if not known.any():
                assert pd.isna(result)
                continue
            column = cell[:, channel]
            expected = fill_by_loop(column, known[:, channel], interpolation, median)
            np.testing.assert_allclose(result[:, channel], expected, rtol=1e-12)


def unlike_outliers(cell, cleaner, threshold):
    """Mask of the values of a cell that are finite and no outliers."""
    known = np.isfinite(cell)
    for i, channel in np.ndindex(cell.shape):
        scale = cleaner.scale_[channel]
        if threshold is not None and scale > 0 and known[i, channel]:
            score = abs(cell[i, channel] - cleaner.center_[channel]) / scale
            known[i, channel] = score <= threshold
    return known


def test_new_sequences_are_compared_with_the_training_rows():
    cleaner = SequenceCleaner(5.0).fit([np.arange(10.0), np.arange(12.0)])
    assert cleaned_new(cleaner, [0.0, 99.0, 4.0]) == [0.0, 2.0, 4.0]
    assert cleaned_new(SequenceCleaner(5.0).fit([[90.0, 99.0, 95.0]]), [99.0, 91.0]) == [99, 91]


def cleaned_new(cleaner, values):
    return cleaner.transform([np.array(values), None])[0].tolist()


@pytest.mark.parametrize(("rate", "new_rate"), [(100, 40), (30, 50), (50, 50), (12.5, 100)])
@pytest.mark.parametrize("shape", [(37,), (37, 3), (1, 2)])
def test_resampling_equals_scipy(rate, new_rate, shape):
    cell = 9.8 + np.random.default_rng(0).normal(size=shape)
    column = TensorArray([cell, None], sample_rate=rate)
    found = SequenceCleaner(sample_rate=new_rate).fit_transform(column)
    divisor = np.gcd(int(2 * rate), int(2 * new_rate))
    up, down = int(2 * new_rate) // divisor, int(2 * rate) // divisor
    expected = signal.resample_poly(cell, up, down, axis=0, padtype="line")
    if len(cell) == 1:
        expected = np.repeat(cell, -(-up // down), axis=0)
    np.testing.assert_allclose(found[0], expected, rtol=1e-12)
    assert found.dtype.sample_rate == new_rate and found.isna().tolist() == [False, True]


def test_sequences_keep_type_shape_and_rate(tmp_path):
    column = TensorArray([np.zeros((3, 2), np.float32), None, np.ones((5, 2), np.float32)],
                         sample_rate=50)  # fmt: skip
    assert SequenceCleaner().fit_transform(column).dtype == column.dtype
    ints = TensorArray(np.arange(12, dtype=np.int16).reshape(2, 3, 2))
    assert str(SequenceCleaner().fit_transform(ints).dtype) == "tensor[float32, 3x2]"
    np.save(tmp_path / "a.npy", np.array([[1.0], [np.nan], [3.0]]))
    found = SequenceCleaner(file_params={"root": str(tmp_path)}).fit_transform(["a.npy", None])
    assert found[0].tolist() == [[1.0], [2.0], [3.0]] and pd.isna(found[1])


def test_tables_with_missing_values_give_tables():
    table = np.array([[1.0, np.nan, 3.0], [4.0, 5.0, np.nan], [np.nan] * 3])
    expected = [[1.0, 2.0, 3.0], [4.0, 5.0, 5.0], [np.nan] * 3]
    for X in (table, table.tolist(), pd.DataFrame(table)):
        found = SequenceCleaner().fit_transform(X)
        assert type(found) is np.ndarray
        np.testing.assert_array_equal(found, expected)


def test_names_and_pandas_output():
    X = multimodal_frame(seq=flawed_sequences(), text=markup())
    cleaner = SequenceCleaner().set_output(transform="pandas")
    frame = cleaner.fit_transform(X["seq"])
    assert frame.columns.tolist() == ["seq"] and frame.index.equals(X.index)
    assert cleaner.get_feature_names_out(["other"]).tolist() == ["other"]
    with pytest.raises(ValueError, match="input_features has 2 names; expected the name of one"):
        cleaner.get_feature_names_out(["a", "b"])
    parts = [("seq", SequenceCleaner(), "seq"), ("text", TextCleaner(), "text")]
    columns = ColumnTransformer(parts, verbose_feature_names_out=False)
    made = columns.set_output(transform="pandas").fit_transform(X)
    assert made.columns.tolist() == ["seq", "text"]
    assert made.dtypes.tolist() == X.dtypes.tolist()


def test_polars_output():
    polars = pytest.importorskip("polars")
    if not hasattr(polars, "register_extension_type"):
        pytest.skip("polars without extension types")
    X = multimodal_frame(seq=flawed_sequences(), text=markup())
    for cleaner, name in [(SequenceCleaner(), "seq"), (TextCleaner(), "text")]:
        expected = polars.from_pandas(pd.DataFrame({name: cleaner.fit_transform(X[name])}))
        frame = cleaner.set_output(transform="polars").fit_transform(X[name])
        assert frame.equals(expected) and frame.schema == expected.schema
    table = np.array([[1.0, np.nan, 3.0]])
    assert SequenceCleaner().set_output(transform="polars").fit_transform(table).shape == (1, 3)


@pytest.mark.parametrize(
    ("X", "params", "message"),
    [
        ([np.zeros((3, 2)), np.zeros((4, 1))], {}, "row 1 has 1 channels; expected 2"),
        ([np.zeros((3, 2, 2))], {}, r"\(3, 2, 2\); expected \(n_steps, n_channels\), or"),
        (
            [np.zeros(3), np.zeros(4)],
            {"sample_rate": 10},
            "row 0 has no sample rate; .*TensorArray",
        ),
        (
            TensorArray([np.zeros(9)], sample_rate=1),
            {"sample_rate": 1e12},
            "row 0 has 9 samples at",
        ),
        ([None, None], {}, "X has no present row"),
        (["a.wav"], {}, "row 0 holds 'a.wav', a recording; expected the path of an array file"),
    ],
)
def test_errors_of_sequences_name_row_and_remedy(X, params, message):
    with pytest.raises(ValueError, match=message):
        SequenceCleaner(**params).fit_transform(X)


def test_new_sequences_need_the_channels_of_fit():
    cleaner = SequenceCleaner().fit([np.zeros((3, 2)), np.zeros((4, 2))])
    with pytest.raises(ValueError, match="sequence in row 1 has 3 channels; expected 2"):
        cleaner.transform([np.zeros((3, 2)), np.zeros((4, 3))])


# ------------------------------------------------------------------------------ recordings


def clean_by_loop(samples, remove_dc, trim_db, normalize, level):
    """One recording, in float64, sample by sample."""
    mean = sum(samples) / len(samples) if remove_dc else 0.0
    samples = [sample - mean for sample in samples]
    peak = max(abs(sample) for sample in samples)
    if trim_db is not None:
        floor = peak / 10 ** (trim_db / 20)
        while abs(samples[0]) <= floor:
            del samples[0]
        while abs(samples[-1]) <= floor:
            del samples[-1]
    gain = 1.0
    if normalize == "peak":
        gain = 10 ** (level / 20) / peak
    if normalize == "rms":
        rms = (sum(sample**2 for sample in samples) / len(samples)) ** 0.5
        gain = min(10 ** (level / 20) / rms, 1 / peak)
    return [gain * sample for sample in samples]


@given(
    st.lists(st.integers(-900, 900), min_size=2, max_size=30).filter(lambda s: len(set(s)) > 1),
    st.booleans(),
    st.sampled_from([None, 3.0, 20.0]),
    st.sampled_from([None, "peak", "rms"]),
    st.sampled_from([-30.0, -6.0, 0.0]),
)
def test_cleaned_recordings_equal_a_loop(samples, remove_dc, trim_db, normalize, level):
    params = {"remove_dc": remove_dc, "trim_db": trim_db, "normalize": normalize, "level": level}
    cells = [np.array(samples) / np.float32(1024), None]
    (found, absent) = AudioCleaner(**params).fit_transform(TensorArray(cells))
    expected = clean_by_loop([sample / 1024 for sample in samples], **params)
    assert found.dtype == np.float32 and pd.isna(absent)
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_levels_are_relative_to_full_scale():
    tone = 0.01 * np.sin(np.arange(8000) / 3)
    for normalize, default in (("peak", -1.0), ("rms", -20.0)):
        for level in (None, -30.0):
            (found,) = AudioCleaner(normalize=normalize, level=level).fit_transform([tone, None])[
                :1
            ]
            power = np.max(found**2) if normalize == "peak" else np.mean(found.astype(float) ** 2)
            assert 10 * np.log10(power) == pytest.approx(level or default, abs=1e-3)
    sparse = np.r_[1.0, np.zeros(999), -1.0] / 4  # its peak would be far beyond full scale
    (found,) = AudioCleaner(normalize="rms", level=-10).fit_transform([sparse, None])[:1]
    assert np.abs(found).max() == 1


def test_integers_are_scaled_and_silence_stays_silent():
    waves = [np.array([0, 16384, -16384, 0], np.int16), np.full(5, 300, np.int16)]
    found = AudioCleaner(normalize=None).fit_transform(TensorArray(waves, sample_rate=8000))
    assert found[0].tolist() == [0.5, -0.5] and found[1].tolist() == [0.0] * 5
    assert str(found.dtype) == "tensor[float32, ?, 8000Hz]"
    kept = AudioCleaner(remove_dc=False).fit_transform(waves)
    assert kept[1].tolist() == [300 / 32768] * 5


def test_clipped_recordings_are_found_counted_and_made_absent():
    tone = 0.9 * np.sin(np.arange(400) / 9)
    X = TensorArray([tone, np.clip(2 * tone, -1, 1), None, np.clip(2 * tone, -0.5, 0.5),
                     np.clip(tone * 40000, -32768, 32767) / 32768])  # fmt: skip
    expected = [False, True, False, False, True]
    cleaner = AudioCleaner()
    with pytest.warns(UserWarning, match=r"2 of 4 recordings are clipped \(first rows .1, 4.\)"):
        found = cleaner.fit_transform(X)
    assert cleaner.find_clipped(X).tolist() == expected
    assert found.isna().tolist() == X.isna().tolist()
    with pytest.warns(UserWarning, match="2 of 4 recordings are clipped and become absent"):
        found = AudioCleaner(on_clipping="missing").fit_transform(X)
    assert found.isna().tolist() == [False, True, True, False, True]
    AudioCleaner(on_clipping="ignore").fit_transform(X)


def test_recordings_of_files_are_decoded_and_keep_their_rate(tmp_path):
    samples = np.array([0, 0, 8192, -8192, 0], np.int16)
    for name, rate in (("a", 100), ("b", 100), ("c", 200)):
        wavfile.write(tmp_path / f"{name}.wav", rate, samples)
    cleaner = AudioCleaner(level=0, file_params={"root": str(tmp_path)})
    found = cleaner.fit_transform(["a.wav", None, "b.wav"])
    assert found.dtype.sample_rate == 100 and found.isna().tolist() == [False, True, False]
    assert found[2].tolist() == [1.0, -1.0]
    with pytest.raises(ValueError, match="row 0 has 100 Hz, that in row 1 200 Hz.*separate calls"):
        cleaner.transform(["a.wav", "c.wav"])


def test_rows_of_a_table_are_not_cut():
    table = np.zeros((2, 6), np.float32)
    table[:, 2:4] = [0.5, -0.5]
    np.testing.assert_array_equal(AudioCleaner(level=0).fit_transform(table), 2 * table)


def test_recordings_with_missing_samples_are_refused():
    cells = TensorArray([[0.0, 0.5], [0.0, np.nan, 0.1]])
    for call in (AudioCleaner().fit_transform, AudioCleaner().fit(cells).find_clipped):
        with pytest.raises(ValueError, match="recording in row 1 contains NaN or infinity"):
            call(cells)


# ------------------------------------------------------------------------------ images


def clean_plane_by_loop(plane, threshold):
    """One channel, pixel by pixel."""
    height, width = plane.shape
    values = plane.astype(float)
    steps = [abs(values[i, j + 1] - values[i, j]) for i in range(height) for j in range(width - 1)]
    noise = 1.4826 / np.sqrt(2) * np.median(steps) if steps else 0.0
    span = {"uint8": 255, "uint16": 65535}.get(plane.dtype.name, values.max() - values.min())
    limit, cleaned = threshold * max(noise, span / 255), plane.copy()

    def inside(i, length):  # the border mirrors the image
        return 0 if length == 1 else abs(i) if i < length else 2 * length - 2 - i

    for i, j in np.ndindex(plane.shape):
        around = [
            values[inside(i + a, height), inside(j + b, width)]
            for a in (-1, 0, 1)
            for b in (-1, 0, 1)
            if (a, b) != (0, 0)
        ]
        if values[i, j] > max(around) + limit or values[i, j] < min(around) - limit:
            median = np.median(around)
            cleaned[i, j] = np.rint(median) if plane.dtype.kind == "u" else median
    return cleaned


@settings(deadline=None)
@given(
    st.tuples(st.integers(1, 5), st.integers(1, 6)),
    st.sampled_from(["gray", "last", "first"]),
    st.sampled_from([np.uint8, np.uint16, np.float32]),
    st.sampled_from([0.5, 3.0, 8.0]),
    st.integers(0, 2**16),
)
def test_cleaned_images_equal_a_loop(size, axis, dtype, threshold, seed):
    rng = np.random.default_rng(seed)
    planes = (100 + rng.integers(0, 5, (1 if axis == "gray" else 3, *size))).astype(dtype)
    planes[rng.random(planes.shape) < 0.15] = 250
    expected = np.stack([clean_plane_by_loop(plane, threshold) for plane in planes])
    arrange = {"gray": lambda x: x[0], "last": lambda x: np.moveaxis(x, 0, -1), "first": np.array}
    params = {"channel_axis": "auto" if axis == "gray" else axis, "on_constant": "keep"}
    image, expected = arrange[axis](planes), arrange[axis](expected)
    cleaner = ImageCleaner(threshold, **params)
    (found, absent) = cleaner.fit_transform(TensorArray([image, None]))
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == dtype and pd.isna(absent)


def test_lines_and_edges_stay_and_defective_pixels_go():
    image = np.zeros((12, 12), np.uint8)
    image[:, 3] = image[7] = 255
    image[8:, 8:] = 180
    damaged = image.copy()
    damaged[2, 8], damaged[10, 10], damaged[0, 11] = 255, 0, 255
    found = ImageCleaner().fit_transform([damaged, image])
    np.testing.assert_array_equal(found.gather(), [image, image])
    kept = ImageCleaner(outlier_threshold=None).fit_transform([damaged, image])
    np.testing.assert_array_equal(kept[0], damaged)


def test_constant_images_become_absent():
    images = np.random.default_rng(0).integers(0, 255, (4, 5, 5), dtype=np.uint8)
    images[1], images[2] = 7, 0
    images[2, 2, 2] = 255  # a black image with a defective pixel
    with pytest.warns(UserWarning, match=r"2 of 4 images are constant .* \(first rows .1, 2.\)"):
        found = ImageCleaner().fit_transform(images)
    assert found.isna().tolist() == [False, True, True, False] and found.dtype.cell_shape == (5, 5)
    kept = ImageCleaner(on_constant="keep").fit_transform(images)
    assert not kept.isna().any() and not kept[2].any()
    cleaner = ImageCleaner(image_shape=(5, 5))
    with pytest.warns(UserWarning, match="2 of 4 images are constant"):
        flat = cleaner.fit_transform(images.reshape(4, -1).astype(float))
    assert flat.shape == (4, 25) and np.isnan(flat).all(axis=1).tolist() == [0, 1, 1, 0]


def test_image_files_are_decoded(tmp_path):
    image = pytest.importorskip("PIL.Image")
    pixels = np.tile(np.arange(0, 80, 10, dtype=np.uint8), (8, 1))
    damaged = pixels.copy()
    damaged[4, 4] = 255
    image.fromarray(damaged).save(tmp_path / "a.png")
    (found,) = ImageCleaner().fit_transform([str(tmp_path / "a.png")])
    np.testing.assert_array_equal(found, pixels)


def test_image_files_of_several_modes_need_one_mode(tmp_path):
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    image.fromarray(pixels).save(tmp_path / "a.png")
    image.fromarray(pixels[..., 0]).save(tmp_path / "b.png")
    cleaner = ImageCleaner(None, file_params={"root": str(tmp_path)})
    with pytest.raises(ValueError, match="row 1: cell of shape") as caught:
        cleaner.fit_transform(["a.png", "b.png"])
    assert "set 'mode' or 'mono' in file_params" in caught.value.__notes__[0]
    cleaner.set_params(file_params={"root": str(tmp_path), "mode": "RGB"})
    found = cleaner.fit_transform(["a.png", "b.png"])
    np.testing.assert_array_equal(found[1], np.repeat(pixels[..., :1], 3, axis=2))


def test_images_with_missing_pixels_are_refused():
    images = np.zeros((2, 3, 3))
    images[1, 1, 1] = np.nan
    with pytest.raises(ValueError, match="image in row 1 contains NaN or infinity"):
        ImageCleaner().fit_transform(images + np.arange(3))


# ------------------------------------------------------------------------------ containers


CELLS = {
    TextCleaner: markup,
    AudioCleaner: waveforms,
    ImageCleaner: images,
    SequenceCleaner: flawed_sequences,
}


def as_objects(cells):
    objects = np.empty(len(cells), dtype=object)
    objects[:] = list(cells)
    return objects


def as_polars(column):
    polars = pytest.importorskip("polars")
    lists = [cell if isinstance(cell, str) else cell.tolist() for cell in column]
    return polars.Series("x", lists)


CONTAINERS = {
    "list": list,
    "object array": as_objects,
    "series of objects": lambda cells: pd.Series(as_objects(cells), index=range(5, 29)),
    "frame": lambda cells: multimodal_frame(x=cells),
    "array": lambda cells: multimodal_frame(x=cells)["x"].array,
    "polars": lambda cells: as_polars(multimodal_frame(x=cells)["x"]),
}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("cleaner", CELLS)
def test_cells_come_in_any_container(cleaner, container):
    cells = CELLS[cleaner]()
    expected = cleaner().fit_transform(multimodal_frame(x=cells)["x"])
    found = cleaner().fit_transform(CONTAINERS[container](cells))
    assert len(found) == len(cells)
    for one, other in zip(found, expected, strict=True):
        if isinstance(other, str):
            assert one == other
        else:
            np.testing.assert_allclose(one, other, rtol=1e-6)


def test_lists_of_equal_length_with_an_absent_one_are_cells():
    lists = [[0.5, -0.5], None, [0.25, -0.25]]
    assert SequenceCleaner().fit_transform(lists).isna().tolist() == [False, True, False]
    with pytest.raises(ValueError, match="dtype|numbers|NaN|could not"):
        SequenceCleaner().fit_transform([["a", "b"], ["c", "d"]])


# ------------------------------------------------------------------------------ encoders


def test_encoders_take_what_cleaners_return():
    X, y = multimodal_frame(text=markup()), classes()
    plain = TextCleaner(strip_accents="unicode").fit_transform(X["text"])
    assert [re.sub(" & cafe$| [.]$", "", text) for text in plain] == texts()
    encoder = TextEncoder(**SMALL_TEXT).fit(TextCleaner().fit_transform(X["text"]), y)
    expected = encoder.transform(TextCleaner().fit(X["text"]).transform(X["text"]))
    pipeline = make_pipeline(TextCleaner(), TextEncoder(**SMALL_TEXT)).fit(X["text"], y)
    np.testing.assert_array_equal(pipeline.transform(X["text"]), expected)


@pytest.mark.filterwarnings("ignore:ImageCleaner. 2 of 23 images are constant")
@pytest.mark.parametrize("fusion", ["concat", "weighted"])
def test_cells_that_become_absent_are_absent_in_compositions(fusion):
    X, y = multimodal_frame(text=texts(), image=images()), classes()
    damaged = images()
    damaged[[4, 9]] = 0
    X["damaged"] = TensorArray([None, *damaged[1:]])
    X["image"] = TensorArray([None if row in (0, 4, 9) else x for row, x in enumerate(images())])
    text = ("text", TextEncoder(**SMALL_TEXT), "text")
    cleaned_first = [text, ("image", ImageEncoder(**SMALL_IMAGE), "image")]
    pipeline = make_pipeline(ImageCleaner(None), ImageEncoder(**SMALL_IMAGE))
    cleaned_inside = [text, ("image", pipeline.set_params(imageencoder__random_state=0), "damaged")]
    settings = {"fusion": fusion, "add_indicator": True}
    one = FusionTransformer(cleaned_first, **settings).fit(X, y)
    other = FusionTransformer(cleaned_inside, **settings).fit(X, y)
    np.testing.assert_array_equal(other.transform(X), one.transform(X))


@pytest.mark.filterwarnings("ignore:ImageCleaner. 1 of 24 images are constant")
def test_late_fusion_leaves_out_cells_that_become_absent():
    X, y = multimodal_frame(text=texts(), image=images()), classes()
    text = ("text", TextEncoder(**SMALL_TEXT), "text")
    image = make_pipeline(ImageCleaner(None), ImageEncoder(**SMALL_IMAGE))
    late = LateFusionClassifier([text, ("image", image, "image")], random_state=0).fit(X, y)
    black, absent = images(), [*images()]
    black[7], absent[7] = 0, None
    with pytest.warns(UserWarning, match="modality counts as absent in these rows"):
        found = late.predict_proba(X.assign(image=TensorArray(black)))
    np.testing.assert_array_equal(found, late.predict_proba(X.assign(image=TensorArray(absent))))


@pytest.mark.filterwarnings("ignore:ImageCleaner. 1 of 24 images are constant")
@pytest.mark.parametrize("output", ["default", "pandas"])
def test_joint_networks_refuse_cells_that_become_absent(output):
    X = multimodal_frame(image=images())
    cleaner = ImageCleaner().set_output(transform=output)
    triples = [("image", make_pipeline(cleaner, ImageEncoder(**SMALL_IMAGE)), "image")]
    joint = JointFusionClassifier(triples, **SMALL_JOINT).fit(X, classes())
    black = images()
    black[7] = 0
    for call in (joint.predict, lambda X: clone(joint).fit(X, classes())):
        message = r"ImageCleaner\(\) before the encoder made 1 of 24 .* row 7; .*Clean the column"
        with pytest.raises(ValueError, match=message):
            call(multimodal_frame(image=black))


@pytest.mark.parametrize("cleaner", [SequenceCleaner(), AudioCleaner()])
def test_the_rate_stays_if_all_cells_are_absent(cleaner):
    column = TensorArray([np.arange(20.0), np.arange(9.0)], sample_rate=10)
    cleaner.fit(column)
    empty = cleaner.transform(TensorArray._from_sequence([None], dtype=column.dtype))
    assert empty.isna().all()
    assert empty.dtype.sample_rate == cleaner.transform(column).dtype.sample_rate == 10
