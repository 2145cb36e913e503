"""How accurate are the defaults on digits3, each modality alone and fused?

Trains on the official training rows, reads the official test rows once, and prints one table:
test accuracy (mean and spread over seeds) and process seconds on one thread.

    OMP_NUM_THREADS=1 python benchmarks/bench_digits3.py ../shared/data/digits3
    OMP_NUM_THREADS=1 python benchmarks/bench_digits3.py ../shared/data/digits3 --noise

Defaults were chosen by cross-validation over the speakers and languages of the training rows
(`bench_digits3_cv.py`), never on the test rows.
"""

import argparse
import time
from collections import defaultdict

import numpy as np
from sklearn.linear_model import LogisticRegression

from sklearn_mmfusion import (
    AudioEncoder,
    FusionTransformer,
    ImageEncoder,
    NeuralClassifier,
    TextEncoder,
)
from sklearn_mmfusion.containers import TensorArray
from sklearn_mmfusion.datasets import load_digits3


def encoders(noise):
    triples = [
        ("image", ImageEncoder(), "image"),
        ("audio", AudioEncoder(sample_rate=8000), "audio"),
        ("text", TextEncoder(), "text"),
    ]
    return [*triples, ("noise", ImageEncoder(), "noise")] if noise else triples


def add_noise(X):
    """A column of images that say nothing: uniform noise of the size of the others."""
    pixels = np.random.default_rng(0).integers(0, 256, (len(X), 28, 28), dtype=np.uint8)
    return X.assign(noise=TensorArray(pixels))


def run(X, y, train, test, groups, seed, noise):
    """Fit once, try every head: {name: (accuracy, seconds)}."""
    fusion = FusionTransformer(encoders(noise), random_state=seed)
    start = time.process_time()
    Z = fusion.fit_transform(X.iloc[train], y[train], groups=groups)
    encoding = time.process_time() - start
    Z_test = fusion.transform(X.iloc[test])
    parts = {} if noise else dict(fusion.output_indices_)
    parts["fused"] = slice(None)
    results = {}
    for name, columns in parts.items():
        heads = {"NeuralClassifier": NeuralClassifier(random_state=seed)}
        if name == "fused":
            heads["LogisticRegression"] = LogisticRegression(max_iter=1000)
        for head_name, head in heads.items():
            start = time.process_time()
            head.fit(Z[:, columns], y[train])
            seconds = time.process_time() - start + (encoding if name == "fused" else 0)
            accuracy = head.score(Z_test[:, columns], y[test])
            results[name, head_name] = accuracy, seconds
            print(f"  seed {seed}: {name}, {head_name}: {accuracy:.3f}", flush=True)
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="folder of digits3.npz")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--noise", action="store_true", help="add a pure-noise image column")
    parser.add_argument("--groups", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    data = load_digits3(options.folder)
    X, y = data.data, np.asarray(data.target)
    X = add_noise(X) if options.noise else X
    groups = np.asarray(data.groups)[data.train] if options.groups else None
    table = defaultdict(list)
    for seed in range(options.seeds):
        runs = run(X, y, data.train, data.test, groups, seed, options.noise)
        for key, value in runs.items():
            table[key].append(value)
    title = "groups=speaker" if options.groups else "no groups"
    title += ", noise column" if options.noise else ""
    print(f"\n| {title} | head | accuracy | sd | seconds |")
    print("| --- | --- | --- | --- | --- |")
    for (name, head), values in table.items():
        accuracy, seconds = np.array(values).T
        print(
            f"| {name} | {head} | {accuracy.mean():.3f} | {accuracy.std():.3f} "
            f"| {seconds.mean():.0f} |"
        )


if __name__ == "__main__":
    main()
