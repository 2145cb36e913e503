"""Cleaners against regular expressions, loops and scipy, alone and inside compositions."""

import html
import re
import unicodedata

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from sklearn.pipeline import make_pipeline

from sklearn_mmfusion import (
    AudioEncoder,
    FileArray,
    SequenceCleaner,
    TensorArray,
    TextCleaner,
    TextEncoder,
    multimodal_frame,
)
from tests._registry import (
    RATE,
    SMALL_CNN,
    SMALL_TEXT,
    classes,
    markup,
    sequences,
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
    X = multimodal_frame(seq=sequences(), text=markup())
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


@pytest.mark.parametrize(
    ("X", "params", "message"),
    [
        ([np.zeros((3, 2)), np.zeros((4, 1))], {}, "row 1 has 1 channels; expected 2"),
        ([np.zeros((3, 2, 2))], {}, r"row 0 has shape \(3, 2, 2\); expected \(n_steps,\) or"),
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


# ------------------------------------------------------------------------------ encoders


def test_encoders_take_what_cleaners_return():
    audio, y = TensorArray(waveforms(), sample_rate=RATE), classes()
    X = multimodal_frame(text=markup(), audio=audio)
    plain = TextCleaner(strip_accents="unicode").fit_transform(X["text"])
    assert [re.sub(" & cafe$| [.]$", "", text) for text in plain] == texts()
    pipelines = {
        "text": make_pipeline(TextCleaner(), TextEncoder(**SMALL_TEXT)),
        "audio": make_pipeline(SequenceCleaner(), AudioEncoder(**SMALL_CNN)),
    }
    for name, pipeline in pipelines.items():
        by_hand = pipeline[1].fit(pipeline[0].fit_transform(X[name]), y)
        expected = by_hand.transform(pipeline[0].transform(X[name]))
        np.testing.assert_array_equal(pipeline.fit(X[name], y).transform(X[name]), expected)
