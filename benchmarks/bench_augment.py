"""Does random augmentation of the training inputs improve encoders and joint networks?

Every modality alone, without and with `augment="light"` (or `--augment strong`): accuracy of the
encoder's own head (decisions), of a `NeuralClassifier` on its features, and of a joint network, on
folds of training rows; paired differences with 95 % intervals.

    MMFUSION_DATA=../shared/data OMP_NUM_THREADS=1 python benchmarks/bench_augment.py

`--only leaf99 "fashion colour"` runs these data sets, `--modalities image photo` these modalities,
`--levels features decisions` these levels, `--rows 1000` takes that many rows of each set.
"""

import argparse
import os
import time
import warnings
from functools import partial
from pathlib import Path

import bench_accuracy
import numpy as np
import pandas as pd
from _paired import interval
from sklearn.model_selection import StratifiedKFold

from sklearn_mmfusion import (
    AudioEncoder,
    ImageEncoder,
    JointFusionClassifier,
    NeuralClassifier,
    TextEncoder,
)

DATA = Path(os.environ.get("MMFUSION_DATA", "../shared/data"))
LEVELS = ["decisions", "features", "joint"]
N_FOLDS = 2  # of fashion

ENCODERS = {
    "image": ImageEncoder,
    "text": TextEncoder,
    "audio": partial(AudioEncoder, sample_rate=8000),
    "photo": partial(ImageEncoder, file_params={"root": str(DATA / "fashion")}),
    "title": TextEncoder,
}


def with_folds(name):
    """A data set of `bench_accuracy` and the folds of its training rows."""
    X, y, groups, _, folds = getattr(bench_accuracy, name)(str(DATA / name))
    return X, y, groups, folds


def fashion(target):
    products = pd.read_csv(DATA / "fashion" / "products.csv")
    products = products[products["split"] == "train"].sample(frac=1, random_state=0)
    products = products[products[target].map(products[target].value_counts()) >= 2 * N_FOLDS]
    y = products[target].to_numpy()
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=0).split(products, y)
    return products[["photo", "title"]].reset_index(drop=True), y, None, list(folds)


PROBLEMS = {
    "digits3": partial(with_folds, "digits3"),
    "leaf99": partial(with_folds, "leaf99"),
    "fashion colour": partial(fashion, "colour"),
    "fashion article": partial(fashion, "article"),
}


def accuracies(make, X, y, train, test, groups, levels):
    """Accuracy by level of one modality alone, with the encoder that `make` returns."""
    groups = {} if groups is None else {"groups": groups[train]}
    column, found = X.columns[0], {}
    if {"decisions", "features"} & set(levels):
        encoder = make().fit(X[column].iloc[train], y[train], **groups)
        own = encoder.predict_head(X[column].iloc[test])
        found["decisions"] = np.mean(encoder.classes_[own.argmax(1)] == y[test])
    if "features" in levels:
        head = NeuralClassifier(random_state=0)
        head.fit(encoder.transform(X[column].iloc[train]), y[train], **groups)
        found["features"] = head.score(encoder.transform(X[column].iloc[test]), y[test])
    if "joint" in levels:
        model = JointFusionClassifier([(column, make(), column)], random_state=0)
        model.fit(X.iloc[train], y[train], **groups)
        found["joint"] = model.score(X.iloc[test], y[test])
    return {level: found[level] for level in levels}


def measure(X, y, groups, folds, name, augment, levels):
    """Accuracies without and with `augment`: by level, of shape (n_folds, 2)."""
    rows = {level: [] for level in levels}
    for train, test in folds:
        pair = [
            accuracies(
                partial(ENCODERS[name], augment=each, random_state=0),
                *(X[[name]], y, train, test, groups, levels),
            )
            for each in (None, augment)
        ]
        for level in levels:
            rows[level].append([one[level] for one in pair])
    return {level: np.array(pairs) for level, pairs in rows.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(PROBLEMS), default=list(PROBLEMS))
    parser.add_argument("--modalities", nargs="+", choices=list(ENCODERS), default=list(ENCODERS))
    parser.add_argument("--levels", nargs="+", choices=LEVELS, default=LEVELS)
    parser.add_argument("--augment", default="light", choices=["light", "strong"])
    parser.add_argument("--rows", type=int, help="number of rows of a data set; default: all")
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    print("| data | modality | level | without | with | difference | seconds |")
    print("| --- | --- | --- | ---: | ---: | --- | ---: |")
    for data in options.only:
        X, y, groups, folds = PROBLEMS[data]()
        kept = np.random.default_rng(0).permutation(len(y))[: options.rows]
        folds = [tuple(np.intersect1d(part, kept) for part in fold) for fold in folds]
        for name in [column for column in X.columns if column in options.modalities]:
            start = time.perf_counter()
            found = measure(X, y, groups, folds, name, options.augment, options.levels)
            seconds = time.perf_counter() - start
            for level, pairs in found.items():
                means = " | ".join(f"{mean:.3f}" for mean in pairs.mean(0))
                difference = interval(pairs[:, 1] - pairs[:, 0], 1 / len(folds))
                cells = f"{data} | {name} | {level} | {means} | {difference} | {seconds:.0f}"
                print(f"| {cells} |", flush=True)


if __name__ == "__main__":
    main()
