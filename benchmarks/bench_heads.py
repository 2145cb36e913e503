"""Does a head with defaults ever lose to a linear model on the same features?

`NeuralClassifier` and `NeuralRegressor` beside logistic and ridge regression, the better of raw
and standardized features, their penalty tuned by three folds over three values. Five repetitions of
two folds; accuracy or R2, paired differences with 95 % intervals (t, with the variance of Nadeau
and Bengio 2003, since folds share rows), and seconds of a fit. "plain" is the head without its
share of a linear model and without wider scales of rare features.

    MMFUSION_DATA=../shared/data OMP_NUM_THREADS=1 python benchmarks/bench_heads.py

`--only bikes wine` runs these data sets, `--rows 300` these numbers of rows, `--repetitions 2` that
many repetitions; `--plain` adds "plain", `--joint` a joint network of these features, with and
without its linear model.
"""

import argparse
import os
import time
import warnings
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
from _paired import interval
from scipy import sparse
from sklearn import datasets
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from sklearn_mmfusion import (
    ImageEncoder,
    JointFusionClassifier,
    JointFusionRegressor,
    NeuralClassifier,
    NeuralRegressor,
    multimodal_frame,
)
from sklearn_mmfusion.datasets import load_digits3
from sklearn_mmfusion.preprocessing import scaling

DATA = Path(os.environ.get("MMFUSION_DATA", "../shared/data"))
ROWS = (300, 2000, 6000)
NEURAL = {"classes": NeuralClassifier, "numbers": NeuralRegressor}
JOINT = {"classes": JointFusionClassifier, "numbers": JointFusionRegressor}
PENALTIES = {"classes": {"C": [0.1, 1, 10]}, "numbers": {"alpha": [0.1, 1, 10]}}
words = partial(TfidfVectorizer, dtype=np.float32)

# ------------------------------------------------------------------------------ data


def training_rows(name):
    frame = pd.read_csv(DATA / name)
    return frame[frame["split"] == "train"]


def bikes():
    frame = training_rows("bikes/bikes.csv")
    frame = frame[frame["price"] >= 3000]
    features = make_column_transformer(
        (words(), "bike_name"),
        (
            OneHotEncoder(handle_unknown="ignore", min_frequency=2),
            ["city_posted", "color", "fuel_type", "owner_type"],
        ),
        (make_pipeline(SimpleImputer(), StandardScaler()), ["km_driven", "model_year"]),
    )
    return frame, np.log(frame["price"].to_numpy()), features, "numbers"


def titles(target):
    frame = training_rows("fashion/products.csv")
    counts = frame[target].value_counts()
    frame = frame[frame[target].isin(counts[counts >= 8].index)]
    return frame["title"], frame[target].to_numpy().astype(str), words(), "classes"


def spelled():
    data = load_digits3(DATA / "digits3")
    features = words(analyzer="char_wb", ngram_range=(1, 3))
    return data.data["text"].iloc[data.train], data.target[data.train], features, "classes"


def encoded():
    """Features of an image encoder for rows that it has not seen."""
    data = load_digits3(DATA / "digits3")
    image, y, rows = data.data["image"], data.target, data.train
    seen = np.isin(np.asarray(data.groups)[rows], ["george", "jackson"])
    encoder = ImageEncoder(max_epochs=8, random_state=0).fit(image.iloc[rows[seen]], y[rows[seen]])
    features = encoder.transform(image.iloc[rows[~seen]])
    return features, y[rows[~seen]], FunctionTransformer(), "classes"


def levels(kind):
    """Two categories, of 150 and 40 levels, most of them rare."""
    rng, n = np.random.default_rng(1), max(ROWS)
    one, other = rng.zipf(1.5, n) % 150, rng.integers(0, 40, n)
    y = rng.normal(size=150)[one] + 0.7 * rng.normal(size=40)[other] + 0.8 * rng.normal(size=n)
    if kind == "classes":
        y = np.digitize(y, np.quantile(y, [1 / 3, 2 / 3]))
    return np.stack([one, other], 1), y, OneHotEncoder(handle_unknown="ignore"), kind


def numbers(kind, linear):
    """20 columns, of which half matter, or four and not linearly."""
    rng, n = np.random.default_rng(2), max(ROWS)
    X = rng.normal(size=(n, 20))
    if linear:
        y = 0.5 * X @ (rng.normal(size=20) * (np.arange(20) % 2)) + 1.5 * rng.normal(size=n)
    else:
        y = np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2] + X[:, 3] + 0.5 * rng.normal(size=n)
    return X, (y > 0).astype(int) if kind == "classes" else y, FunctionTransformer(), kind


def bundled(load, kind):
    return *load(return_X_y=True), StandardScaler(), kind


PROBLEMS = {
    "bikes": bikes,
    "fashion article": partial(titles, "article"),
    "fashion usage": partial(titles, "usage"),
    "fashion colour": partial(titles, "colour"),
    "digits3 words": spelled,
    "digits3 image features": encoded,
    "levels, classes": partial(levels, "classes"),
    "levels, numbers": partial(levels, "numbers"),
    "linear, classes": partial(numbers, "classes", True),
    "linear, numbers": partial(numbers, "numbers", True),
    "not linear, classes": partial(numbers, "classes", False),
    "not linear, numbers": partial(numbers, "numbers", False),
    "breast cancer": partial(bundled, datasets.load_breast_cancer, "classes"),
    "wine": partial(bundled, datasets.load_wine, "classes"),
    "digits": partial(bundled, datasets.load_digits, "classes"),
    "diabetes": partial(bundled, datasets.load_diabetes, "numbers"),
}

# ------------------------------------------------------------------------------ contenders


def linear(kind):
    """A linear model, tuned inside its training rows."""
    model = LogisticRegression(max_iter=500) if kind == "classes" else Ridge()
    scaled = make_pipeline(StandardScaler(with_mean=False), model)
    name = type(model).__name__.lower()
    scaled_grid = {f"{name}__{key}": values for key, values in PENALTIES[kind].items()}
    return [GridSearchCV(model, PENALTIES[kind], cv=3), GridSearchCV(scaled, scaled_grid, cv=3)]


def fit_linear(kind, X, y):
    return max((search.fit(X, y) for search in linear(kind)), key=lambda fitted: fitted.best_score_)


def fit_head(kind, X, y):
    return NEURAL[kind](random_state=0).fit(X, y)


def fit_plain(kind, X, y):
    with mock.patch.object(scaling, "RARE", 0):
        return NEURAL[kind](linear_alpha=10.0, linear_share=0.0, random_state=0).fit(X, y)


class Joint:
    """A joint network of one modality: these features."""

    def __init__(self, kind, X, y, **params):
        model = JOINT[kind]([("table", "passthrough", "features")], random_state=0, **params)
        self.fitted = model.fit(as_frame(X), y)

    def score(self, X, y):
        return self.fitted.score(as_frame(X), y)


def as_frame(X):
    """One column whose cells are the rows of a matrix."""
    return multimodal_frame(features=X.toarray() if sparse.issparse(X) else X)


def measure(problem, n_rows, contenders, repetitions):
    """Scores (contenders, folds) and seconds of one fit of each."""
    X, y, features, kind = problem
    rows = np.random.default_rng(0).permutation(len(y))[:n_rows]
    X, y = X.iloc[rows] if hasattr(X, "iloc") else X[rows], np.asarray(y)[rows]
    scores, seconds = [], []
    for repetition in range(repetitions):
        for train, test in KFold(2, shuffle=True, random_state=repetition).split(y):
            part = [X.iloc[r] if hasattr(X, "iloc") else X[r] for r in (train, test)]
            Z, T = features.fit_transform(part[0]), features.transform(part[1])
            Z, T = (sparse.csr_matrix(M) if sparse.issparse(M) else M for M in (Z, T))
            own = []
            for fit in contenders.values():
                start = time.perf_counter()
                fitted = fit(kind, Z, y[train])
                own.append((fitted.score(T, y[test]), time.perf_counter() - start))
            scores.append([score for score, _ in own])
            seconds.append([duration for _, duration in own])
    return np.array(scores).T, np.median(seconds, axis=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=list(PROBLEMS))
    parser.add_argument("--rows", nargs="+", type=int, default=ROWS)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--joint", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # classes with one row, and L-BFGS of the peers
    contenders = {"linear": fit_linear, "head": fit_head}
    if options.plain:
        contenders["plain"] = fit_plain
    if options.joint:
        contenders["joint, network alone"] = partial(Joint, linear_share=0.0)
        contenders["joint"] = Joint
    differing = list(contenders).index("joint" if options.joint else "head")
    heads = ["data", "rows", *contenders, f"{list(contenders)[differing]} - linear", "seconds"]
    print(f"| {' | '.join(heads)} |")
    print(f"| --- {'| ---: ' * (len(heads) - 1)}|")
    differences = []
    for name in options.only:
        problem = PROBLEMS[name]()
        for n_rows in sorted({min(n, len(problem[1])) for n in options.rows}):
            scores, seconds = measure(problem, n_rows, contenders, options.repetitions)
            difference = scores[differing] - scores[0]
            differences.append(difference.mean())
            cells = [name, n_rows, *(f"{own.mean():.3f}" for own in scores)]
            cells += [interval(difference, 1 / 2)]
            cells += [" / ".join(f"{s:.1f}" for s in seconds)]
            print(f"| {' | '.join(map(str, cells))} |", flush=True)
    print(f"\nMean difference of {len(differences)} cells: {np.mean(differences):+.4f}")


if __name__ == "__main__":
    main()
