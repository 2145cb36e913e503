"""Front ends against librosa, scipy and scikit-learn's CountVectorizer."""

import pickle
import sys
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal
from scipy.io import wavfile
from sklearn.feature_extraction.text import CountVectorizer

from sklearn_mmfusion.containers import FileArray, TensorArray
from sklearn_mmfusion.preprocessing.audio import LogMelSpectrogram, mel_filters
from sklearn_mmfusion.preprocessing.text import Tokenizer, normalize_text, split_words

RATE = 8000
WORDS = st.text(alphabet="abcdefgxyz", min_size=1, max_size=6)
TEXTS = st.lists(st.lists(WORDS, min_size=1, max_size=6).map(" ".join), min_size=1, max_size=6)


def waves(lengths, seed=0, amplitude=0.3):
    """Chirps in noise, loud enough that no band falls under the floor of the logarithm."""
    rng = np.random.default_rng(seed)
    return [
        (
            amplitude * signal.chirp(np.arange(n) / RATE, 200, max(n, 2) / RATE, 3000)
            + 0.1 * rng.standard_normal(n)
        ).astype(np.float32)
        for n in lengths
    ]


def cells(column):
    return [np.asarray(cell) for cell in column]


# ------------------------------------------------------------------------------ log-mel


@pytest.mark.parametrize(
    ("sample_rate", "n_fft", "n_mels", "fmin", "fmax"),
    [(8000, 256, 40, 0.0, 4000.0), (16000, 512, 64, 60.0, 7600.0), (22050, 1024, 20, 0.0, 11025.0)],
)
@pytest.mark.filterwarnings("ignore:Empty filters detected:UserWarning")
def test_mel_filters_equal_librosa(sample_rate, n_fft, n_mels, fmin, fmax):
    librosa = pytest.importorskip("librosa", reason="librosa is the oracle of the mel filters")
    expected = librosa.filters.mel(
        sr=sample_rate, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax, norm="slaney"
    )
    filters = mel_filters(sample_rate, n_fft, n_mels, fmin, fmax)
    np.testing.assert_allclose(filters.T, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("n_samples", [100, 1999, 4000])
@pytest.mark.parametrize(("n_fft", "hop_length"), [(None, None), (400, 160)])
def test_log_mel_equals_a_loop_over_frames(n_samples, n_fft, hop_length):
    librosa = pytest.importorskip("librosa", reason="librosa is the oracle of the mel filters")
    (wave,) = waves([n_samples])
    front = LogMelSpectrogram(RATE, n_fft=n_fft, hop_length=hop_length, remove_mean=False)
    (frames,) = cells(front.fit_transform([wave]))
    n_fft, window = front.n_fft_, signal.get_window("hann", front.n_fft_)
    padded = np.pad(wave, n_fft // 2)
    starts = range(0, len(padded) - n_fft + 1, front.hop_length_)
    power = [np.abs(np.fft.rfft(window * padded[i : i + n_fft])) ** 2 for i in starts]
    bands = np.array(power) @ librosa.filters.mel(sr=RATE, n_fft=n_fft, n_mels=40).T
    np.testing.assert_allclose(frames, np.log(np.maximum(bands, 1e-6)), atol=1e-3)


@pytest.mark.slow  # librosa compiles for half a minute
@pytest.mark.parametrize("n_samples", [100, 1999, 4000])
@pytest.mark.parametrize(("n_fft", "hop_length"), [(None, None), (400, 160)])
@pytest.mark.filterwarnings("ignore:n_fft=.* is too large for input signal:UserWarning")
def test_log_mel_equals_librosa(n_samples, n_fft, hop_length):
    librosa = pytest.importorskip("librosa", reason="librosa is the oracle of the spectrogram")
    (wave,) = waves([n_samples])
    front = LogMelSpectrogram(RATE, n_fft=n_fft, hop_length=hop_length, remove_mean=False)
    (frames,) = cells(front.fit_transform([wave]))
    power = librosa.feature.melspectrogram(
        y=wave,
        sr=RATE,
        n_fft=front.n_fft_,
        hop_length=front.hop_length_,
        n_mels=40,
        center=True,
        pad_mode="constant",
        power=2.0,
    )
    np.testing.assert_allclose(frames, np.log(np.maximum(power.T, 1e-6)), atol=1e-3)


def test_cepstra_equal_cosine_sums_of_the_bands():
    sizes = {"n_mels": 20, "remove_mean": False}
    recordings = waves([900, 300, 500])
    bands = LogMelSpectrogram(RATE, **sizes).fit_transform(recordings)
    cepstra = LogMelSpectrogram(RATE, n_mfcc=13, **sizes).fit_transform(recordings)
    waveforms = np.cos(np.pi / 20 * (np.arange(20) + 0.5)[:, None] * np.arange(13))
    waveforms *= np.where(np.arange(13) > 0, np.sqrt(2 / 20), np.sqrt(1 / 20))
    for band, cepstrum in zip(bands, cepstra, strict=True):
        assert cepstrum.dtype == np.float32
        np.testing.assert_allclose(cepstrum, band @ waveforms, atol=1e-4)
    centered = LogMelSpectrogram(RATE, n_mels=20, n_mfcc=13).fit_transform(recordings)[0]
    np.testing.assert_allclose(centered, cepstra[0] - cepstra[0].mean(0), atol=1e-4)


@pytest.mark.slow  # librosa compiles for half a minute
@pytest.mark.parametrize(("n_mels", "n_mfcc"), [(40, 13), (20, 20)])
def test_cepstra_equal_librosa(n_mels, n_mfcc):
    librosa = pytest.importorskip("librosa", reason="librosa is the oracle of the coefficients")
    sizes = {"n_mels": n_mels, "n_mfcc": n_mfcc}
    front = LogMelSpectrogram(RATE, **sizes, remove_mean=False, top_db=80.0)
    (wave,) = waves([4000])
    (cepstra,) = cells(front.fit_transform([wave]))
    windows = {"n_fft": front.n_fft_, "hop_length": front.hop_length_, "pad_mode": "constant"}
    expected = librosa.feature.mfcc(y=wave, sr=RATE, **sizes, **windows).T
    np.testing.assert_allclose(cepstra, expected * np.log(10) / 10, atol=1e-3)


def test_more_cepstra_than_bands_are_an_error():
    with pytest.raises(ValueError, match="n_mfcc=13; expected at most n_mels=12, the number of"):
        LogMelSpectrogram(RATE, n_mels=12, n_mfcc=13).fit(waves([300]))


@given(
    st.lists(st.integers(1, 900), min_size=1, max_size=5),
    st.sampled_from([None, 128, 255]),
    st.sampled_from([None, 33]),
)
def test_batching_and_ragged_lengths_change_no_bit(lengths, n_fft, hop_length):
    front = LogMelSpectrogram(RATE, n_fft=n_fft, hop_length=hop_length, n_mels=12)
    together = cells(front.fit(waves(lengths)).transform(TensorArray(waves(lengths))))
    assert [len(f) for f in together] == [1 + n // front.hop_length_ for n in lengths]
    assert {f.dtype for f in together} == {np.dtype(np.float32)}
    for wave, frames in zip(waves(lengths), together, strict=True):
        np.testing.assert_array_equal(cells(front.transform(TensorArray([wave])))[0], frames)


def test_many_recordings_equal_one_at_a_time():
    lengths = np.random.default_rng(0).integers(80, 1200, size=70)
    front = LogMelSpectrogram(RATE).fit(waves(lengths))
    together = cells(front.transform(TensorArray(waves(lengths))))
    for i in range(0, 70, 9):
        alone = cells(front.transform(TensorArray([waves(lengths)[i]])))[0]
        np.testing.assert_array_equal(alone, together[i])


def test_recordings_of_several_blocks_equal_one_block(monkeypatch):
    lengths = np.random.default_rng(0).integers(80, 1200, size=12)
    front = LogMelSpectrogram(RATE).fit(waves(lengths))
    whole = cells(front.transform(waves(lengths)))
    monkeypatch.setattr("sklearn_mmfusion.preprocessing.audio.BLOCK", 2000)
    for a, b in zip(whole, front.transform(waves(lengths)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("n_fft", "hop_length"), [(None, None), (100, 160), (255, 7)])
def test_long_recordings_are_computed_in_pieces(monkeypatch, n_fft, hop_length):
    front_end = LogMelSpectrogram(RATE, n_fft=n_fft, hop_length=hop_length, n_mels=20)
    X = [np.int16(10_000 * wave) for wave in waves([300, 5000, 1200, 4999, 20])]
    whole = cells(front_end.fit_transform(X))
    monkeypatch.setattr("sklearn_mmfusion.preprocessing.audio.BLOCK", 1000)
    for found, expected in zip(cells(front_end.transform(X)), whole, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    broken = [x.astype(np.float32) for x in X]
    broken[1][4321] = np.nan
    with pytest.raises(ValueError, match=r"recording in row 1 contains NaN"):
        front_end.transform(broken)


def test_soxr_removes_what_the_new_rate_cannot_hold():
    soxr = pytest.importorskip("soxr")
    wave = np.sin(2 * np.pi * 8500 * np.arange(44100) / 44100).astype(np.float32)
    tone = np.sin(2 * np.pi * 1000 * np.arange(44100) / 44100).astype(np.float32)
    column = TensorArray([wave, tone], sample_rate=44100)
    front_end = LogMelSpectrogram(16000, resample="soxr", remove_mean=False, top_db=None)
    expected = [soxr.resample(w, 44100, 16000, quality="HQ") for w in (wave, tone)]
    found = cells(front_end.fit_transform(column))
    alike = LogMelSpectrogram(16000, remove_mean=False, top_db=None).fit_transform(expected)
    np.testing.assert_allclose(found, cells(alike), atol=1e-3)
    assert found[0][10:-10].max() < -15 < found[1][10:-10].max()
    polyphase = LogMelSpectrogram(16000, resample=True, remove_mean=False, top_db=None)
    assert cells(polyphase.fit_transform(column))[0].max() > -10  # an alias


def test_missing_soxr_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "soxr", None)
    column = TensorArray(waves([2000, 2000]), sample_rate=2 * RATE)
    with pytest.raises(ImportError, match=r"pip install 'sklearn-mmfusion\[io\]'"):
        LogMelSpectrogram(RATE, resample="soxr").fit_transform(column)


def test_recordings_are_cut_before_they_are_resampled():
    (wave,) = waves([4000])
    front_end = LogMelSpectrogram(RATE, resample=True, max_length=0.1).fit([wave[:800]])
    with pytest.warns(UserWarning, match=r"1 of 1 recordings are longer.* longest one 0.25;"):
        (found,) = cells(front_end.transform(TensorArray([wave], sample_rate=2 * RATE)))
    (expected,) = cells(front_end.transform(TensorArray([wave[:1600]], sample_rate=2 * RATE)))
    np.testing.assert_array_equal(found, expected)


def test_resampling_that_takes_too_much_memory_is_refused(monkeypatch, tmp_path):
    def allocate(*_):
        raise AssertionError("the recording was resampled")

    hours = np.zeros(7200, np.int16)  # 2 hours at 1 Hz
    wavfile.write(tmp_path / "a.wav", 1, hours)
    front_end = LogMelSpectrogram(16000, resample=True).fit([hours])
    message = (
        r"recording in row 0 has 7200 samples at sample_rate=1 Hz, 7200 seconds: resampling them "
        r"to 16000 Hz takes 115200000 samples and 4633\d{5} bytes; expected at most 268435456\. "
        r"Check the sample rate, set max_length, or raise the limit: file_params"
    )
    monkeypatch.setattr(signal, "resample_poly", allocate)
    for X in (TensorArray([hours], sample_rate=1), [str(tmp_path / "a.wav")]):
        with pytest.raises(ValueError, match=message):
            front_end.transform(X)
    # few samples, but a filter of ten periods of a very low common rate
    odd = TensorArray([np.zeros(10, np.float32)], sample_rate=15_999_999)
    with pytest.raises(ValueError, match=r"takes 1 samples and 2559\d{6} bytes; expected at most"):
        front_end.transform(odd)


def test_a_rate_that_is_not_given_is_that_of_the_recordings(tmp_path):
    recordings = waves([850, 890])
    expected = LogMelSpectrogram(RATE).fit_transform(recordings)
    front = LogMelSpectrogram()
    stated = front.fit_transform(TensorArray(recordings, sample_rate=RATE))
    assert front.sample_rate_ == RATE and front.sample_rate is None
    wavfile.write(tmp_path / "a.wav", RATE, recordings[1])
    of_file = front.fit_transform([None, str(tmp_path / "a.wav")])
    np.testing.assert_array_equal(stated[1], expected[1])
    np.testing.assert_array_equal(of_file[1], expected[1])
    with pytest.raises(ValueError, match="sample_rate=None.*recordings have no sample rate"):
        front.fit(recordings)


@pytest.mark.parametrize("hop_length", [40, 900])  # 900: no window holds the last samples
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_recording_that_is_not_finite_is_refused_by_row(hop_length, value):
    recordings = waves([850, 890])
    recordings[1][-1] = value
    front = LogMelSpectrogram(RATE, hop_length=hop_length)
    with pytest.raises(ValueError, match="recording in row 1 contains NaN or infinity"):
        front.fit_transform(recordings)


def test_equal_lengths_as_a_table_equal_a_ragged_column():
    table = np.stack(waves([500] * 4))
    front = LogMelSpectrogram(RATE).fit(table)
    assert front.n_features_in_ == 500
    column = TensorArray([*waves([500] * 4), np.zeros(3, np.float32)])[:4]
    for a, b in zip(front.transform(table), front.transform(column), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("dtype", "scale"), [(np.int16, 2**15), (np.int32, 2**31)])
def test_whole_numbers_equal_their_floats(dtype, scale):
    whole = [np.round(w * 2**14).astype(dtype) * dtype(scale // 2**15) for w in waves([700, 900])]
    floats = [w.astype(np.float64) / scale for w in whole]
    front = LogMelSpectrogram(RATE)
    for a, b in zip(front.fit_transform(whole), front.fit_transform(floats), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_unsigned_samples_swing_about_the_middle():
    signed = [np.round(w * 100).astype(np.int8) for w in waves([700])]
    unsigned = [(w.astype(np.int16) + 128).astype(np.uint8) for w in signed]
    front = LogMelSpectrogram(RATE)
    (a,), (b,) = cells(front.fit_transform(signed)), cells(front.fit_transform(unsigned))
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32])
def test_wav_files_equal_arrays(tmp_path, dtype):
    arrays = waves([700, 900])
    if dtype != np.float32:
        half = 2 ** (8 * np.dtype(dtype).itemsize - 1)
        arrays = [np.round(w * half / 2 + half * (dtype == np.uint8)).astype(dtype) for w in arrays]
    paths = [tmp_path / f"{i}.wav" for i in range(2)]
    for path, wave in zip(paths, arrays, strict=True):
        wavfile.write(path, RATE, wave)
    front = LogMelSpectrogram(RATE).fit(arrays)
    expected = cells(front.transform(arrays))
    for column in (FileArray(paths), [str(p) for p in paths], pd.Series(paths)):
        for a, b in zip(front.transform(column), expected, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("rate", [16000, 6000, 11025.0])
def test_resampling_equals_scipy(rate):
    (wave,) = waves([1600])
    divisor = np.gcd(int(rate), RATE)
    expected = signal.resample_poly(wave, RATE // divisor, int(rate) // divisor)
    front = LogMelSpectrogram(RATE, resample=True).fit(waves([300, 400]))
    (a,) = cells(front.transform(TensorArray([wave], sample_rate=rate)))
    (b,) = cells(front.transform(TensorArray([expected], sample_rate=RATE)))
    np.testing.assert_allclose(a, b, atol=1e-4)
    refusing = LogMelSpectrogram(RATE).fit(waves([300, 400]))
    with pytest.raises(ValueError, match=r"row 0 has sample_rate=.* Hz; expected 8000.*resample"):
        refusing.transform(TensorArray([wave], sample_rate=rate))


def test_remove_mean_takes_off_each_band_and_with_it_the_loudness():
    plain = LogMelSpectrogram(RATE, remove_mean=False).fit_transform(waves([900, 500]))
    centered = LogMelSpectrogram(RATE).fit_transform(waves([900, 500]))
    louder = LogMelSpectrogram(RATE).fit_transform([2 * w for w in waves([900, 500])])
    for raw, a, b in zip(plain, centered, louder, strict=True):
        np.testing.assert_allclose(a, raw - raw.mean(0), atol=1e-5)
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_absent_recordings_stay_absent():
    column = TensorArray([waves([300])[0], None, waves([400])[0]])
    front = LogMelSpectrogram(RATE)
    frames = front.fit_transform(column)
    assert frames.isna().tolist() == [False, True, False]
    alone = front.transform(column[[1]])
    assert alone.isna().all() and alone.dtype.cell_shape[-1] == 40
    np.testing.assert_array_equal(frames[2], front.transform(column[[2]])[0])


def test_frequency_limits_are_checked():
    with pytest.raises(ValueError, match=r"fmin=0.0 and fmax=5000 must satisfy.*4000"):
        LogMelSpectrogram(RATE, fmax=5000).fit(waves([300]))
    with pytest.raises(ValueError, match="fmin=3000 and fmax=2000"):
        LogMelSpectrogram(RATE, fmin=3000, fmax=2000).fit(waves([300]))


def test_stereo_recordings_are_refused_by_row():
    stereo = TensorArray([np.ones((300, 2), np.float32)] * 2)
    with pytest.raises(ValueError, match=r"row 0 has shape \(300, 2\); expected.*channels"):
        LogMelSpectrogram(RATE).fit(stereo).transform(stereo)


def test_failed_fit_keeps_the_last_one():
    fitted = LogMelSpectrogram(sample_rate=RATE).fit(np.ones((2, 400)))
    with pytest.raises(ValueError, match="fmin < fmax"):
        fitted.set_params(fmax=5000.0).fit(np.ones((2, 300)))
    assert fitted.n_features_in_ == 400


# ------------------------------------------------------------------------------ tokenizer


def bags(tokenizer, texts):
    """One Counter of n-grams a text, read back from the ids; 0 is None."""
    tokens = {i: token for token, i in tokenizer.vocabulary_.items()}
    return [Counter(tokens.get(int(i)) for i in cell) for cell in tokenizer.transform(texts)]


def counted(vectorizer, texts):
    names = vectorizer.get_feature_names_out()
    rows = vectorizer.transform(texts).toarray()
    return [Counter({names[j]: int(row[j]) for j in row.nonzero()[0]}) for row in rows]


@given(TEXTS, st.sampled_from([(1, 1), (1, 2), (2, 3)]))
def test_word_bags_equal_count_vectorizer(texts, ngram_range):
    if ngram_range[0] > 1:
        texts = [f"{t} a b c" for t in texts]  # scikit-learn refuses an empty vocabulary
    pattern = r"(?u)\b\w+\b"
    vectorizer = CountVectorizer(ngram_range=ngram_range, token_pattern=pattern).fit(texts)
    tokenizer = Tokenizer(ngram_range=ngram_range).fit(texts)
    assert set(tokenizer.vocabulary_) == set(vectorizer.vocabulary_)
    assert bags(tokenizer, texts) == counted(vectorizer, texts)


@given(
    # Longer than the n-grams: scikit-learn counts a shorter word as if it were one.
    st.lists(st.text(alphabet="abcxyz", min_size=3, max_size=9), min_size=1, max_size=6),
    st.sampled_from([(1, 1), (2, 2), (1, 4), (3, 4)]),
)
def test_character_ngrams_of_a_word_equal_count_vectorizer(words, ngram_range):
    vectorizer = CountVectorizer(analyzer="char_wb", ngram_range=ngram_range).fit(words)
    tokenizer = Tokenizer("char", ngram_range=ngram_range).fit(words)
    assert set(tokenizer.vocabulary_) == set(vectorizer.vocabulary_)
    assert bags(tokenizer, words) == counted(vectorizer, words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Red, green & blue-ish!", ["red", "green", "blue", "ish"]),
        ("我喜欢猫 cats", ["我", "喜", "欢", "猫", "cats"]),
        ("ねこ好きcat2", ["ね", "こ", "好", "き", "cat2"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("हिन्दी में शब्द", ["हिन्दी", "में", "शब्द"]),  # vowel signs are combining marks
        ("ภาษาไทย ดี", ["ภาษาไทย", "ดี"]),
        ("السَّلامُ عليكم، نعم", ["السَّلامُ", "عليكم", "نعم"]),
        ("Straße STRASSE", ["strasse", "strasse"]),
        ("привет, МИР", ["привет", "мир"]),
        ("e\u0301te\u0301 \u00e9t\u00e9", ["\u00e9t\u00e9", "\u00e9t\u00e9"]),
        ("ﬁne ＡＢＣ １２ ｶﾞ", ["fine", "abc", "12", "ガ"]),
        ("", []),
        (" \t\n…!?", []),
        ("👍🏽 ok!", ["👍", "🏽", "ok"]),
    ],
)
def test_words_of_many_scripts(text, words):
    assert split_words(normalize_text(text)) == words


@given(st.text(alphabet="aB1_ .-\u00e9\u0431\u2776", max_size=12))
def test_words_do_not_depend_on_other_words_of_a_text(text):
    # An ideograph in the text sends all of it through the pattern for every script.
    assert split_words(f"{text} 猫") == [*split_words(text), "猫"]


@pytest.mark.parametrize("ngram_range", [(1, 1), (2, 3)])
@pytest.mark.parametrize("texts", [["ab cd", "ef gh"], ["ab", "猫 cd e"], ["…", ""], [None, None]])
def test_ids_of_many_texts_equal_those_of_each(texts, ngram_range):
    tokenizer = Tokenizer(ngram_range=ngram_range).fit(["ab cd", "猫 cd e ef"])
    ids = tokenizer.transform(pd.Series(texts, dtype=object))
    assert ids.dtype.value_dtype == np.int32
    for text, own in zip(texts, ids, strict=True):
        if text is not None:
            np.testing.assert_array_equal(own, tokenizer.encode(text))
    assert ids.isna().tolist() == [text is None for text in texts]


def test_composed_and_decomposed_text_get_the_same_ids():
    tokenizer = Tokenizer("char", ngram_range=(1, 3)).fit(["\u00e9t\u00e9", "über"])
    a, b = tokenizer.transform(["e\u0301te\u0301", "\u00e9t\u00e9"])
    np.testing.assert_array_equal(a, b)
    assert (a > 0).all()


def test_case_is_kept_if_asked():
    assert set(Tokenizer(lowercase=False).fit(["Red red"]).vocabulary_) == {"Red", "red"}
    assert set(Tokenizer().fit(["Red red"]).vocabulary_) == {"red"}
    cased = Tokenizer(lowercase=False).fit(["Red red"])
    ids = [cased.vocabulary_["red"], cased.vocabulary_["Red"], 0]
    assert cased.transform(["red Red RED"])[0].tolist() == ids
    assert cased.encode("red Red RED").tolist() == ids


def test_min_df_and_max_features_keep_what_most_texts_hold():
    texts = ["a a a b", "b c", "b c d", "e"]
    ranked = ["b", "c", "a", "d", "e"]  # by texts, then by the alphabet
    assert Tokenizer().fit(texts).vocabulary_ == {w: i for i, w in enumerate(ranked, start=1)}
    assert Tokenizer(max_features=3).fit(texts).vocabulary_ == {"b": 1, "c": 2, "a": 3}
    tokenizer = Tokenizer(min_df=2).fit(texts)
    assert tokenizer.vocabulary_ == {"b": 1, "c": 2}
    assert tokenizer.n_tokens_ == 3
    assert set(CountVectorizer(token_pattern=r"\w+", min_df=2).fit(texts).vocabulary_) == {"b", "c"}


def test_unknown_empty_and_absent_texts():
    tokenizer = Tokenizer().fit(["one two", None, "two"])
    ids = tokenizer.transform(["two six", "", None, "…"])
    assert ids.isna().tolist() == [False, False, True, False]
    assert [ids[i].tolist() for i in (0, 1, 3)] == [[1, 0], [], []]
    assert ids[0].dtype == np.int32


@pytest.mark.parametrize(
    "column",
    [
        np.array(["one two", "two"]),
        pd.Series(["one two", "two"]),
        np.array(["one two", "two"], dtype=object),
        pd.DataFrame({"t": ["one two", "two"]}),
    ],
)
def test_texts_come_in_any_container(column):
    expected = Tokenizer().fit(["one two", "two"])
    tokenizer = Tokenizer().fit(column)
    assert tokenizer.vocabulary_ == expected.vocabulary_
    assert [c.tolist() for c in tokenizer.transform(column)] == [[2, 1], [1]]


def test_numbers_are_read_as_their_digits():
    tokenizer = Tokenizer().fit(np.array([[1.0, 25.0], [3.0, 1.0]]))
    assert set(tokenizer.vocabulary_) == {"1", "25", "3"}


def test_pickled_tokenizer_gives_the_same_ids():
    texts = ["one two", "हिन्दी 猫"]
    tokenizer = Tokenizer("char", ngram_range=(1, 2)).fit(texts)
    again = pickle.loads(pickle.dumps(tokenizer))
    for a, b in zip(tokenizer.transform(texts), again.transform(texts), strict=True):
        np.testing.assert_array_equal(a, b)


def test_paths_are_no_texts(tmp_path):
    match = r"Tokenizer: row 0 holds '.*a\.png', an image; expected the path of a text file \(\.txt"
    with pytest.raises(ValueError, match=match) as caught:
        Tokenizer().fit(FileArray([tmp_path / "a.png", tmp_path / "b.png"]))
    assert "file_params" not in str(getattr(caught.value, "__notes__", ""))  # it has none


def test_integer_samples_of_wide_types_sound_like_the_others():
    samples = (3000 * np.sin(np.arange(4000) / 5)).astype(np.int16)
    expected = LogMelSpectrogram(RATE).fit_transform([samples])[0]
    for dtype in (np.int64, np.float64):
        scale = 1 if dtype is np.int64 else 2.0**15
        got = LogMelSpectrogram(RATE).fit_transform([(samples / scale).astype(dtype)])[0]
        np.testing.assert_allclose(got, expected, atol=1e-3)


def test_unsigned_samples_do_not_depend_on_the_container():
    samples = np.random.default_rng(0).integers(100, 156, (2, 1000), dtype=np.uint8)
    table = LogMelSpectrogram(RATE).fit_transform(samples)
    column = LogMelSpectrogram(RATE).fit_transform(TensorArray(samples))
    assert all(np.array_equal(a, b) for a, b in zip(table, column, strict=True))


def test_ngram_range_is_checked():
    tokenizer = Tokenizer(ngram_range=(3, 1))
    with pytest.raises(ValueError, match=r"ngram_range=\(3, 1\); expected two whole numbers"):
        tokenizer.fit(["a"])
    assert not hasattr(tokenizer, "n_features_in_")


def test_samples_of_16_bits_in_32_are_noticed(tmp_path):
    wave = np.round(2**14 * np.sin(np.arange(400) / 3))
    mel = LogMelSpectrogram(8000).fit([wave.astype(np.int16)])
    match = r"int32, whose full scale is 2\^31, but their peak is 16384, .* astype\(np.int16\)"
    for name, dtype in [("wide", np.int32), ("big_endian", ">i4"), ("narrow", np.int16)]:
        np.save(tmp_path / name, wave.astype(dtype))
    wide, big_endian, narrow = (f"{tmp_path / n}.npy" for n in ("wide", "big_endian", "narrow"))
    wave32 = wave.astype(np.int32)
    for X in ([wave32, None], wave32[None], [wide], [narrow, None, big_endian]):
        with pytest.warns(UserWarning, match=match):
            mel.transform(X)
    mel.transform([narrow])
    deep = mel.transform([(wave * 2**16).astype(np.int32), np.zeros(400, np.int32)])
    np.testing.assert_allclose(deep[0], mel.transform([wave.astype(np.int16)])[0], atol=1e-4)
    mel.transform([np.zeros(400, np.int32)])  # silence does not warn


def test_samples_whose_power_is_infinite_are_refused():
    waves = [np.ones(300, np.float32), None, np.full(300, 1e25), np.ones(300, np.float32)]
    match = r"recording in row 2 has samples as large as 1e\+25, whose power is infinite"
    with pytest.raises(ValueError, match=match):
        LogMelSpectrogram(8000).fit(waves).transform(waves)
    assert np.isfinite(LogMelSpectrogram(8000).fit_transform([np.full(300, 1e12)])[0]).all()
