"""Do encoders learn order and motion, which averages over time cannot show?

Generated data, encoders with defaults, three seeds, each with its own training and test rows:

- gestures: three strokes at random times in noisy sequences of 60 to 120 steps of two channels.
  A stroke is a circle, a swing in the first, or a swing in the second channel: 27 classes. Moments
  may show which strokes there are, which separates 10 groups of classes, but not their order. 320
  training rows, as in five folds of 400 rows; 400 test rows.
- turning: clips of a circling dot; the class is its direction and speed (the library's generator).
  300 training and 300 test rows, as for the next.
- order: noisy clips of 8 to 15 frames with a flash on each side; the class is which comes first.

Accuracy of the encoder's own head and of moments (of clips, the mean of all frames) before a
logistic regression; their paired difference with its 95 % interval; the longest fit of the encoder
in wall-clock seconds.

    OMP_NUM_THREADS=1 python benchmarks/bench_generated.py [--only gestures]
"""

import argparse
import time

import numpy as np
import torch
from bench_sequences import moments
from scipy.stats import t
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_mmfusion import SequenceEncoder, VideoEncoder, make_multimodal_classification

SEEDS = 3

# ------------------------------------------------------------------------------ data


def stroke(kind, n_steps):
    """One of three movements in a plane: (n_steps, 2)."""
    angle = np.linspace(0, 2 * np.pi, n_steps)
    across, up = np.sin(angle), np.cos(angle) - 1
    still = np.zeros(n_steps)
    return np.stack([(across, up), (across, still), (still, up)][kind], axis=1)


def gestures(n_rows, rng):
    """Return ragged sequences of three strokes each, and their classes."""
    y = rng.permutation(np.arange(n_rows) % 27)
    cells = []
    for label in y:
        n_steps = rng.integers(60, 121)
        cell = 0.3 * rng.normal(size=(n_steps, 2))
        durations = rng.integers(10, 17, 3)
        rest = n_steps - durations.sum()
        starts = np.sort(rng.integers(0, rest + 1, 3)) + np.cumsum(durations) - durations
        kinds = label // 9, label // 3 % 3, label % 3
        for kind, start, n in zip(kinds, starts, durations, strict=True):
            cell[start : start + n] += rng.uniform(0.7, 1.3) * stroke(kind, n)
        cells.append(cell.astype(np.float32))
    return cells, y


def turning(n_rows, rng):
    """Return clips of a circling dot, and their classes."""
    X, y = make_multimodal_classification(
        n_rows, modalities=["video"], noise=0.5, random_state=int(rng.integers(2**31))
    )
    return list(X["video"]), y


def order(n_rows, rng):
    """Return clips of two flashes, and which of them comes first."""
    y = rng.permutation(np.arange(n_rows) % 2)
    clips = []
    for label in y:
        n_frames = rng.integers(8, 16)
        clip = rng.integers(0, 60, (n_frames, 16, 16), dtype=np.uint8)
        first, second = np.sort(rng.choice(n_frames, 2, replace=False))
        for place, side in ((first, label), (second, 1 - label)):
            clip[place, 4:12, 2 + 8 * side : 6 + 8 * side] += 150
        clips.append(clip)
    return clips, y


def mean_frames(clips):
    return np.stack([clip.mean(axis=0).ravel() for clip in clips])


CASES = {  # number of classes, generator, encoder, summary, rows of training and test
    "gestures": (27, gestures, SequenceEncoder, moments, (320, 400)),
    "turning": (3, turning, VideoEncoder, mean_frames, (300, 300)),
    "order": (2, order, VideoEncoder, mean_frames, (300, 300)),
}


def measure(generate, encoder, summarize, n_rows):
    """Return accuracies by contender, one per seed, and the seconds of each fit of the encoder."""
    scores, seconds = {"encoder": [], "summary": []}, []
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        (X, y), (others, expected) = (generate(n, rng) for n in n_rows)
        start = time.perf_counter()
        fitted = encoder(random_state=seed).fit(X, y)
        seconds.append(time.perf_counter() - start)
        predicted = fitted.classes_[fitted.predict_head(others).argmax(1)]
        scores["encoder"].append(np.mean(predicted == expected))
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        model.fit(summarize(X), y)
        scores["summary"].append(model.score(summarize(others), expected))
    return {name: np.array(own) for name, own in scores.items()}, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| data | classes | encoder | lowest seed | summary | difference | longest fit, s |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in options.only:
        n_classes, *case = CASES[name]
        scores, seconds = measure(*case)
        own, other = scores["encoder"], scores["summary"]
        gain = own - other
        half = t.ppf(0.975, SEEDS - 1) * gain.std(ddof=1) / np.sqrt(SEEDS)
        means = f"{own.mean():.3f} | {own.min():.3f} | {other.mean():.3f}"
        difference = f"{gain.mean():+.3f} [{gain.mean() - half:+.3f}, {gain.mean() + half:+.3f}]"
        line = f"| {name} | {n_classes} | {means} | {difference} | {max(seconds):.0f} |"
        print(line, flush=True)


if __name__ == "__main__":
    main()
