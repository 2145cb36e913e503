"""Multilabel and regression targets planted in all modalities: fusion above linear models.

Each modality shows one number between 0 and 1: an image where a patch stands, which is bright or
dark; a recording how high a tone is, in noise, of any length and loudness; a text a misspelt
number word. Targets need all three.
"""

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import average_precision_score, f1_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_mmfusion.compose import FusionTransformer
from sklearn_mmfusion.containers import multimodal_frame
from sklearn_mmfusion.feature_extraction import AudioEncoder, ImageEncoder, TextEncoder
from sklearn_mmfusion.neural_network import NeuralClassifier, NeuralRegressor

RATE = 8000
NUMBERS = "zero one two three four five six seven eight nine".split()
TRAIN, TEST = slice(400), slice(400, 700)


def draw_image(place, rng):
    image = rng.normal(128, 20, size=(16, 16))
    row, column = rng.integers(0, 12), round(12 * place)
    image[row : row + 4, column : column + 4] += rng.choice([-70, 70])
    return image.clip(0, 255).astype(np.uint8)


def sound_tone(height, rng):
    n_samples = rng.integers(800, 1800)
    steps = np.arange(n_samples)
    tone = np.sin(2 * np.pi * 300 * 10**height * steps / RATE + rng.uniform(0, 2 * np.pi))
    # In a part of the recording only: the encoder takes the mean of each band off.
    tone *= abs(steps - rng.uniform(0.2, 0.8) * n_samples) < 0.2 * n_samples
    loudness = rng.uniform(0.1, 0.3)
    return (loudness * (tone + 0.7 * rng.standard_normal(n_samples))).astype(np.float32)


def write_word(value, rng):
    word = list(NUMBERS[round(9 * value)])
    word[rng.integers(len(word))] = rng.choice(list("abcdefghijklmnopqrstuvwxyz"))
    others = rng.choice(["it", "is", "about", "or", "near", "say"], rng.integers(1, 4))
    return " ".join(rng.permutation([*others, "".join(word)]))


def make_data(seed):
    """Frame and the three numbers behind each row: (700, 3)."""
    rng = np.random.default_rng(seed)
    shown = rng.uniform(size=(700, 3))
    X = multimodal_frame(
        image=np.stack([draw_image(value, rng) for value in shown[:, 0]]),
        audio=[sound_tone(value, rng) for value in shown[:, 1]],
        text=[write_word(value, rng) for value in shown[:, 2]],
    )
    return X, shown


def flat_pixels(images):
    return np.stack([np.ravel(image) for image in images]) / 255


def sound_statistics(recordings):
    """Loudness, peak, zero crossings, length and the power in 16 bands of each recording."""
    rows = []
    for wave in map(np.asarray, recordings):
        power = np.abs(np.fft.rfft(wave)) ** 2 / len(wave)
        bands = [band.mean() for band in np.array_split(power, 16)]
        crossings = (np.diff(np.sign(wave)) != 0).mean()
        rows.append([wave.std(), np.abs(wave).max(), crossings, len(wave), *bands])
    return np.array(rows)


def simple_features():
    return FusionTransformer(
        [
            ("image", make_pipeline(FunctionTransformer(flat_pixels), StandardScaler()), "image"),
            (
                "audio",
                make_pipeline(FunctionTransformer(sound_statistics), StandardScaler()),
                "audio",
            ),
            ("text", TfidfVectorizer(), "text"),
        ]
    )


def learned_features():
    size = {"n_components": 16, "max_epochs": 20}
    return FusionTransformer(
        [
            ("image", ImageEncoder(channels=(8, 16), **size), "image"),
            (
                "audio",
                AudioEncoder(sample_rate=RATE, module_params={"channels": (8, 16)}, **size),
                "audio",
            ),
            ("text", TextEncoder(**size), "text"),
        ],
        random_state=0,
    )


def transform_both(features, X, y):
    features.fit(X[TRAIN], y[TRAIN])
    return features.transform(X[TRAIN]), features.transform(X[TEST])


@pytest.mark.slow
def test_multilabel_fusion_beats_one_vs_rest_logistic_regression():
    X, shown = make_data(seed=0)
    image, audio, text = (shown > 0.5).T
    Y = np.column_stack([image, audio, text, image ^ audio]).astype(int)

    def score(model, parts):
        model.fit(parts[0], Y[TRAIN])
        precision = average_precision_score(Y[TEST], model.predict_proba(parts[1]))
        return f1_score(Y[TEST], model.predict(parts[1]), average="macro"), precision

    def best_linear(parts):
        linear = [LogisticRegression(C=C, max_iter=5000) for C in (0.001, 0.01, 0.1)]
        return np.max([score(OneVsRestClassifier(model), parts) for model in linear], axis=0)

    learned = transform_both(learned_features(), X, Y)
    simple = transform_both(simple_features(), X, Y)
    fused = np.array(score(NeuralClassifier(random_state=0), learned))
    assert (fused > best_linear(simple) + 0.2).all()
    assert (fused > best_linear(learned) + 0.03).all()


@pytest.mark.slow
def test_regression_fusion_beats_ridge():
    X, shown = make_data(seed=1)
    y = shown.sum(1) + 2 * (shown[:, 0] - 0.5) * (shown[:, 1] - 0.5)

    def score(model, parts):
        return model.fit(parts[0], y[TRAIN]).score(parts[1], y[TEST])

    def best_linear(parts):
        return max(score(Ridge(alpha), parts) for alpha in (1, 10, 100, 1000))

    learned = transform_both(learned_features(), X, y)
    simple = transform_both(simple_features(), X, y)
    fused = score(NeuralRegressor(random_state=0), learned)
    assert fused > best_linear(simple) + 0.3
    assert fused > best_linear(learned) + 0.01
