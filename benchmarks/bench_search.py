"""What does a grid search cost with and without the cache?

1. 6 settings of the classifier x 3 folds over images of 2 MB and of 400 MB: a `FusionTransformer`
   and a classifier in a pipeline, without memory, with scikit-learn's ``Pipeline(memory=)`` around
   them, and with ``FusionTransformer(memory=)``. CPU seconds in paired rounds: medians, and ratios
   to no memory. The encoder averages patches and keeps principal components, which costs little
   more than to read the images: hard on a cache. Every search starts with an empty folder and with
   a column whose digests nobody has taken.
2. 3 x 3 x 3 settings of three encoders (small networks for image, text and sound) x 3 folds with
   ``FusionTransformer(memory=)`` and 1 and 2 jobs, against the arithmetic: 27 encoder fits, 54
   encodings and 81 heads, measured one by one. CPU seconds of all processes, which start before the
   clock does, and wall seconds, which mean something on an idle machine only.

    OMP_NUM_THREADS=1 python benchmarks/bench_search.py

`--parts 2` does the second only, `--rounds 1` is quicker, `--megabytes 40` needs less memory
(defaults 12, 3 and 400: about five minutes and 3 GB).
"""

import argparse
import os
import statistics
import tempfile
import time
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline

from sklearn_mmfusion import (
    AudioEncoder,
    FusionTransformer,
    ImageEncoder,
    TextEncoder,
    load_multimodal_digits,
    multimodal_frame,
)

SETTINGS = {"head__C": [0.001, 0.01, 0.1, 1.0, 10.0, 100.0]}
FOLDS = KFold(3)
SIZE = 224
PATCH = 16
LOG = "BENCH_SEARCH_LOG"  # environment variable: workers inherit it


class Patches(TransformerMixin, BaseEstimator):
    """Principal components of patch means; counts its calls."""

    wants_column = True

    def __init__(self, n_components=32, random_state=0):
        self.n_components = n_components
        self.random_state = random_state

    def fit(self, X, y=None):
        note("fit")
        self.pca_ = PCA(self.n_components, random_state=self.random_state).fit(self.means(X))
        return self

    def transform(self, X):
        note("transform")
        return self.pca_.transform(self.means(X))

    def fit_transform(self, X, y=None):
        return self.fit(X).transform(X)

    def means(self, X):
        batches = np.array_split(np.arange(len(X)), max(1, len(X) // 256))
        return np.concatenate([self.batch(X.array.gather(rows)) for rows in batches])

    def batch(self, pixels):
        side = pixels.shape[1] // PATCH
        tiles = pixels.reshape(len(pixels), PATCH, side, PATCH, side, -1)
        return tiles.mean(axis=(2, 4, 5), dtype=np.float32).reshape(len(pixels), -1)


def note(what):
    """Write down a call and the CPU seconds so far: to a file, as workers are processes."""
    with open(os.environ[LOG], "a") as file:
        file.write(f"{what} {os.getpid()} {time.process_time()}\n")


def take_notes():
    """Fits and transforms since the last time, and CPU seconds from first to last in workers."""
    log = Path(os.environ[LOG])
    lines = [line.split() for line in log.read_text().splitlines()]
    log.write_text("")
    calls, spans = Counter(what for what, _, _ in lines), {}
    for _, process, seconds in lines:
        if process != str(os.getpid()):
            spans.setdefault(process, []).append(float(seconds))
    seconds = sum(max(span) - min(span) for span in spans.values())
    return f"{calls['fit']} and {calls['transform']}", seconds


# ------------------------------------------------------------------------------ 1


def images(megabytes):
    """uint8 images of two classes that differ in brightness; few bytes: of 32 x 32."""
    rng = np.random.default_rng(0)
    size = SIZE if megabytes else 32
    n = int(megabytes * 1e6 / (size * size * 3)) if megabytes else 600
    y = np.arange(n) % 2
    pixels = rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    pixels[y == 1, :4, :4] //= 2
    return pixels, y


CONTENDERS = {
    "no memory": (False, False),
    "Pipeline(memory=)": (True, False),
    "FusionTransformer(memory=)": (False, True),
}


def search_classifier(pixels, y, contender):
    """CPU seconds of one search, and the calls of the encoder."""
    of_pipeline, of_fusion = CONTENDERS[contender]
    with tempfile.TemporaryDirectory() as folder:
        fused = FusionTransformer(
            [("image", Patches(), "image")], memory=folder if of_fusion else None
        )
        pipe = Pipeline(
            [("fusion", fused), ("head", LogisticRegression(max_iter=1000))],
            memory=folder if of_pipeline else None,
        )
        X = multimodal_frame(image=pixels)
        start = time.process_time()
        GridSearchCV(pipe, SETTINGS, cv=FOLDS).fit(X, y)
        return time.process_time() - start, take_notes()[0]


def first(rounds, megabytes):
    print("| X | search | fits and transforms | CPU seconds | CPU / no memory |")
    print("| --- | --- | ---: | ---: | ---: |")
    for size in (0, megabytes):
        pixels, y = images(size)
        timings = [
            {name: search_classifier(pixels, y, name) for name in CONTENDERS} for _ in range(rounds)
        ]
        for name in CONTENDERS:
            seconds = statistics.median(t[name][0] for t in timings)
            ratio = statistics.median(t[name][0] / t["no memory"][0] for t in timings)
            what = f"{pixels.nbytes / 1e6:.0f} MB"
            print(f"| {what} | {name} | {timings[0][name][1]} | {seconds:.2f} | {ratio:.2f} |")


# ------------------------------------------------------------------------------ 2


class Counting:
    """Before an encoder: counts its calls."""

    def fit(self, X, y, sample_weight=None, groups=None):
        note("fit")
        return super().fit(X, y, sample_weight, groups)

    def transform(self, X):
        note("transform")
        return super().transform(X)


class CountingImage(Counting, ImageEncoder):
    pass


class CountingText(Counting, TextEncoder):
    pass


class CountingAudio(Counting, AudioEncoder):
    pass


WIDTHS = (32, 64, 96)
HEAD = LogisticRegression(max_iter=1000)


def encoders():
    params = {"max_epochs": 4, "random_state": 0}
    return {
        "image": CountingImage(**params),
        "text": CountingText(**params),
        "audio": CountingAudio(sample_rate=8000, **params),
    }


def fit_one(encoder, X, y, train, test):
    """Features of the training and the test rows."""
    return encoder.fit_transform(X.iloc[train], y[train]), encoder.transform(X.iloc[test])


def fit_head(blocks, y, train, test):
    learned, tested = (np.hstack(part) for part in zip(*blocks, strict=True))
    return clone(HEAD).fit(learned, y[train]).score(tested, y[test])


def seconds_of(call, *args):
    """CPU and wall seconds, as an array, and the result."""
    start = np.array([time.process_time(), time.perf_counter()])
    result = call(*args)
    return np.array([time.process_time(), time.perf_counter()]) - start, result


def arithmetic(X, y):
    """Seconds of 27 fits with their two transforms, and of 81 heads, one by one."""
    fits, heads = np.zeros(2), np.zeros(2)
    for train, test in FOLDS.split(X):
        features = {}
        for name, encoder in encoders().items():
            for width in WIDTHS:
                made = clone(encoder).set_params(n_components=width)
                seconds, features[name, width] = seconds_of(fit_one, made, X[name], y, train, test)
                fits += seconds
        for widths in product(WIDTHS, repeat=3):
            blocks = [features[pair] for pair in zip(encoders(), widths, strict=True)]
            heads += seconds_of(fit_head, blocks, y, train, test)[0]
    return fits, heads


def score(model, X, y):
    """Accuracy; the last thing a worker does for a candidate."""
    accuracy = model.score(X, y)
    note("score")
    return accuracy


def search_encoders(X, y, n_jobs):
    """Seconds of one search over three encoders, those of workers not counted in the first."""
    with tempfile.TemporaryDirectory() as folder:
        triples = [(name, encoder, name) for name, encoder in encoders().items()]
        pipe = Pipeline([("fusion", FusionTransformer(triples, memory=folder)), ("head", HEAD)])
        grid = {f"fusion__{name}__n_components": WIDTHS for name in encoders()}
        search = GridSearchCV(pipe, grid, scoring=score, cv=FOLDS, n_jobs=n_jobs, refit=False)
        return seconds_of(search.fit, X, y)[0]


def warm(encoder):
    """Load in a worker what it will need."""
    torch.set_num_threads(1)
    time.sleep(1)  # long enough that the other worker gets one too
    note("warm")


def second():
    data = load_multimodal_digits()
    X, y = data.data.iloc[:600], data.target[:600]
    fits, heads = arithmetic(X, y)
    once = fits + heads
    rows = [
        (f"arithmetic: 27 fits {fits[0]:.1f} + 81 heads {heads[0]:.1f}", take_notes()[0], once),
        ("no memory, by arithmetic", "243 and 486", 9 * fits + heads),
    ]
    for n_jobs in (1, 2):
        Parallel(n_jobs=n_jobs)(delayed(warm)(encoders()) for _ in range(2 * n_jobs))
        seconds = search_encoders(X, y, n_jobs)
        calls, in_workers = take_notes()
        rows.append((f"memory, n_jobs={n_jobs}", calls, seconds + [in_workers, 0]))
    print("\n| search | fits and transforms | CPU seconds | CPU / arithmetic | wall seconds |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for what, calls, (cpu, wall) in rows:
        print(f"| {what} | {calls} | {cpu:.1f} | {cpu / once[0]:.2f} | {wall:.1f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=400, help="of the larger X, 20 or more")
    parts = {"choices": ("1", "2", "12"), "help": "1: classifiers; 2: encoders (default: both)"}
    parser.add_argument("--parts", default="12", **parts)
    arguments = parser.parse_args()
    if arguments.megabytes < 20:
        parser.error(f"--megabytes {arguments.megabytes}: expected 20 or more")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ[LOG] = f"{folder}/log"
        if "1" in arguments.parts:
            first(arguments.rounds, arguments.megabytes)
        if "2" in arguments.parts:
            second()


if __name__ == "__main__":
    main()
