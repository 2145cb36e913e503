"""What do batches of images, log-mel frames and token ids cost beside what else one would take?

Beside float32 pixels stored ready (four times the memory), librosa and CountVectorizer.

Both sides do the same work, which is checked before it is timed. CPU time of paired rounds; the
ratio is their median, with quartiles.

    OMP_NUM_THREADS=1 python benchmarks/bench_front_ends.py
"""

import argparse
import warnings
from collections import Counter
from functools import partial

import librosa
import numpy as np
import torch
from _paired import as_ratio, cpu_seconds
from sklearn.feature_extraction.text import CountVectorizer

from sklearn_mmfusion import ImageEncoder, LogMelSpectrogram, TextEncoder, Tokenizer
from sklearn_mmfusion._torch import keep_freed_memory
from sklearn_mmfusion.containers import TensorArray
from sklearn_mmfusion.modules.image import standardize

N_RECORDINGS, N_TEXTS, N_WORDS = 256, 4000, 10
SPECTRA = {"8 kHz": (8000, 256, 160, 64), "16 kHz": (16000, 512, 320, 64)}
ALPHABETS = {"English": "abcdefghijklmnopqrstuvwxyz", "Greek": "αβγδεζηθικλμνξοπρτυφχψω"}

# ------------------------------------------------------------------------------ sound


def librosa_frames(waves, rate, n_fft, hop, n_mels):
    """Log-mel frames (..., t, n_mels) of waves (..., length)."""
    power = librosa.feature.melspectrogram(
        y=waves, sr=rate, n_fft=n_fft, hop_length=hop, n_mels=n_mels, pad_mode="constant"
    )
    return np.log(np.maximum(np.swapaxes(power, -1, -2), 1e-10))


def sound():
    """Yield what, ours, theirs and the number of rows."""
    for name, (rate, n_fft, hop, n_mels) in SPECTRA.items():
        rng = np.random.default_rng(0)
        waves = 0.1 * rng.standard_normal((N_RECORDINGS, rate)).astype(np.float32)
        column = TensorArray(waves)
        sizes = {"n_fft": n_fft, "hop_length": hop, "n_mels": n_mels}
        front = LogMelSpectrogram(rate, **sizes, top_db=None, remove_mean=False).fit(column)
        theirs = partial(librosa_frames, rate=rate, n_fft=n_fft, hop=hop, n_mels=n_mels)
        # white noise is loud in every band: neither floor matters
        np.testing.assert_allclose(front.transform(column).gather(), theirs(waves), atol=2e-3)
        own = partial(front.transform, column)
        once = lambda theirs=theirs, waves=waves: [theirs(wave) for wave in waves]  # noqa: E731
        default = LogMelSpectrogram(rate, **sizes).fit(column)
        label = f"log-mel, 1 s at {name}"
        yield label, own, "librosa, once a recording", once, N_RECORDINGS
        yield label, own, "librosa, one batch", partial(theirs, waves), N_RECORDINGS
        both = f"{label}, floored and centered"
        own = partial(default.transform, column)
        yield both, own, "librosa, one batch, neither", partial(theirs, waves), N_RECORDINGS


# ------------------------------------------------------------------------------ images


def images():
    """Yield what, ours, theirs and the number of rows: batches of 32, standardized."""
    for size, n_rows in ((32, 4096), (224, 256)):
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 256, (n_rows, size, size, 3), dtype=np.uint8)
        inputs = ImageEncoder().fit_prepare(pixels)
        mean = torch.tensor(pixels.mean((0, 1, 2)), dtype=torch.float32).view(1, 3, 1, 1)
        std = torch.tensor(pixels.std((0, 1, 2)), dtype=torch.float32).view(1, 3, 1, 1)
        stored = (torch.from_numpy(pixels).permute(0, 3, 1, 2) - mean) / std
        order = [torch.from_numpy(part) for part in np.split(rng.permutation(n_rows), n_rows // 32)]

        def ours(inputs=inputs, order=order, mean=mean, std=std):
            for rows in reversed(order):
                batch = standardize(inputs.batch(rows.numpy())["pixels"], mean, std)
            return batch

        def theirs(stored=stored, order=order):
            for rows in reversed(order):
                batch = stored[rows]
            return batch

        torch.testing.assert_close(ours(), theirs(), rtol=1e-4, atol=1e-5)
        what = f"image batch, uint8 {size}x{size}x3, scaled"
        yield what, ours, "stored scaled float32, indexed", theirs, n_rows


# ------------------------------------------------------------------------------ text


def make_texts(alphabet):
    rng = np.random.default_rng(0)
    letters = list(alphabet)
    words = ["".join(rng.choice(letters, rng.integers(2, 10))) for _ in range(5000)]
    often = 1 / np.arange(1, len(words) + 1)
    return [" ".join(rng.choice(words, N_WORDS, p=often / often.sum())) for _ in range(N_TEXTS)]


def look_up(vectorizers, texts):
    """Ids by CountVectorizer's analyzer and its vocabulary, an array a text."""
    for vectorizer in vectorizers:
        analyze, ids = vectorizer.build_analyzer(), vectorizer.vocabulary_
        for text in texts:
            np.array([ids.get(token, -1) for token in analyze(text)], dtype=np.int32)


def check_tokens(tokenizer, vectorizer, texts):
    assert set(tokenizer.vocabulary_) == set(vectorizer.vocabulary_)
    tokens = {i: token for token, i in tokenizer.vocabulary_.items()}
    analyze = vectorizer.build_analyzer()
    for text, ids in zip(texts, tokenizer.transform(texts), strict=True):
        assert Counter(tokens[i] for i in ids) == Counter(analyze(text))


def pairs(texts):
    """The tokenizers that `TextEncoder` has, each with its CountVectorizer, both fitted."""
    for name, analyzer, ngram_range in (
        ("words", "word", (1, 1)),
        ("1 to 4 characters", "char", (1, 4)),
        ("characters", "char", (1, 1)),
    ):
        tokenizer = Tokenizer(analyzer, ngram_range=ngram_range).fit(texts)
        vectorizer = CountVectorizer(analyzer=analyzer, ngram_range=ngram_range).fit(texts)
        check_tokens(tokenizer, vectorizer, texts)
        yield name, tokenizer, vectorizer


def text():
    """Yield what, ours, theirs and the number of rows."""
    for language, alphabet in ALPHABETS.items():
        # a space on either side, which our n-grams of characters take in by themselves
        texts = [f" {text} " for text in make_texts(alphabet)]
        fitted = list(pairs(texts))
        for name, own, other in fitted[:2]:
            what = f"{name}, {language}"
            yield f"fit, {what}", partial(own.fit, texts), "fit", partial(other.fit, texts), N_TEXTS
            ours = partial(own.transform, texts)
            yield f"ids, {what}", ours, "transform", partial(other.transform, texts), N_TEXTS
            theirs = partial(look_up, [other], texts)
            yield f"ids, {what}", ours, "analyzer and dict", theirs, N_TEXTS
        encoder, others = TextEncoder(), [other for *_, other in fitted]
        yield (
            f"TextEncoder: vocabularies and ids, {language}",
            partial(encoder.fit_prepare, texts),
            "three times fit, analyzer and dict",
            lambda others=others, texts=texts: (
                [other.fit(texts) for other in others],
                look_up(others, texts),
            ),
            N_TEXTS,
        )
        yield (
            f"TextEncoder: ids, {language}",
            partial(encoder.prepare, texts),
            "three times analyzer and dict",
            partial(look_up, others, texts),
            N_TEXTS,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    rounds = parser.parse_args().rounds
    warnings.filterwarnings("ignore", message="The parameter 'token_pattern' will not be used")
    print("| what | beside | µs a row | its µs | ours / its |\n" + "| --- " * 5 + "|")
    for cases, library in ((images, ""), (sound, ""), (text, "CountVectorizer: ")):
        for what, ours, beside, theirs, n_rows in cases():
            with keep_freed_memory("cpu"):  # as in training
                seconds = cpu_seconds({"ours": ours, "theirs": theirs}, rounds)
            cost, other = (1e6 * np.median(s) / n_rows for s in seconds.values())
            quotient = as_ratio(seconds["ours"] / seconds["theirs"])
            print(
                f"| {what} | {library}{beside} | {cost:.0f} | {other:.0f} | {quotient} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
