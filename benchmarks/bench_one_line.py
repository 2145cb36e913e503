"""Is the pipeline of one line as good as one that is written by hand for the data?

Cross-validates `make_multimodal_pipeline` and pipelines written by hand on scikit-learn's tables,
digits3, leaf99, fashion (color from photo, title and subcategory) and bikes (R2 of the log price),
on their training rows. Accuracy of classifiers, R2 of regressors; seconds of all folds together.

    MMFUSION_DATA=../shared/data OMP_NUM_THREADS=1 python benchmarks/bench_one_line.py

`--only bikes wine` runs these data sets, `--rows 300` takes that many training rows, `--levels
feature late joint` adds levels of fusion, `--epochs 5` limits the encoders.
"""

import argparse
import os
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn import datasets
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sklearn_mmfusion import (
    AudioEncoder,
    FusionTransformer,
    ImageEncoder,
    NeuralClassifier,
    NeuralRegressor,
    TextEncoder,
    make_multimodal_pipeline,
    multimodal_frame,
)
from sklearn_mmfusion.datasets import load_digits3

DATA = Path(os.environ.get("MMFUSION_DATA", "../shared/data"))
FOLDS = 3


@dataclass
class Problem:
    """Training rows of a data set and pipelines written by hand for it."""

    X: object
    y: object
    by_hand: dict
    task: str = "classifier"
    file_params: dict = None


def head(task):
    return {"classifier": NeuralClassifier, "regressor": NeuralRegressor}[task](random_state=0)


def fused(triples, task="classifier"):
    target_type = "continuous" if task == "regressor" else "auto"
    fusion = FusionTransformer(triples, target_type=target_type, random_state=0)
    return make_pipeline(fusion, head(task))


def one_hot():
    return OneHotEncoder(handle_unknown="ignore", min_frequency=5)


def table(load, task="classifier"):
    """A table of scikit-learn's: numbers only."""
    X, y = load(return_X_y=True, as_frame=True)
    linear = Ridge() if task == "regressor" else RidgeClassifier()
    by_hand = {
        "network": make_pipeline(StandardScaler(), head(task)),
        "ridge": make_pipeline(StandardScaler(), linear),
    }
    return Problem(X, y.to_numpy(), by_hand, task)


def digits3():
    data = load_digits3(DATA / "digits3")
    encoders = [
        ("image", ImageEncoder(), "image"),
        ("text", TextEncoder(), "text"),
        ("audio", AudioEncoder(sample_rate=8000), "audio"),
    ]
    y = np.asarray(data.target)[data.train]
    return Problem(data.data.iloc[data.train], y, {"network": fused(encoders)})


def leaf99():
    arrays = np.load(DATA / "leaf99" / "leaf99.npz")
    train = arrays["split"] == "train"
    X = multimodal_frame(image=arrays["image"][train], shape=arrays["shape"][train])
    triples = [("image", ImageEncoder(), "image"), ("shape", StandardScaler(), "shape")]
    return Problem(X, arrays["y"][train].astype(int), {"network": fused(triples)})


def fashion():
    products = pd.read_csv(DATA / "fashion" / "products.csv")
    products = products[products["split"] == "train"]
    file_params = {"root": str(DATA / "fashion")}
    triples = [
        ("photo", ImageEncoder(file_params=file_params), "photo"),
        ("title", TextEncoder(), "title"),
        ("group", one_hot(), ["subcategory"]),
    ]
    words = make_column_transformer((TfidfVectorizer(), "title"), (one_hot(), ["subcategory"]))
    by_hand = {
        "network": fused(triples),
        "title and subcategory, ridge": make_pipeline(words, RidgeClassifier()),
    }
    X = products[["photo", "title", "subcategory"]]
    return Problem(X, products["colour"].to_numpy(), by_hand, file_params=file_params)


def bikes():
    table = pd.read_csv(DATA / "bikes" / "bikes.csv")
    table = table[(table["split"] == "train") & (table["price"] >= 3000)]
    numbers, levels = ["km_driven", "model_year"], ["city_posted", "color", "owner_type"]
    scaled = make_pipeline(SimpleImputer(), StandardScaler())
    triples = [
        ("numbers", scaled, numbers),
        ("levels", one_hot(), levels),
        ("name", TextEncoder(), "bike_name"),
    ]
    words = make_column_transformer(
        (scaled, numbers), (one_hot(), levels), (TfidfVectorizer(), "bike_name")
    )
    by_hand = {"network": fused(triples, "regressor"), "ridge": make_pipeline(words, Ridge())}
    X = table.drop(columns=["price", "split"])
    return Problem(X, np.log(table["price"].to_numpy()), by_hand, "regressor")


PROBLEMS = {
    "wine": lambda: table(datasets.load_wine),
    "cancer": lambda: table(datasets.load_breast_cancer),
    "digits": lambda: table(datasets.load_digits),
    "diabetes": lambda: table(datasets.load_diabetes, "regressor"),
    "digits3": digits3,
    "leaf99": leaf99,
    "fashion": fashion,
    "bikes": bikes,
}


def contenders(problem, levels):
    """Pipelines by name; that of one line looks at all rows, and learns nothing from them."""
    for level in levels:
        yield (
            f"one line, {level}",
            make_multimodal_pipeline(
                problem.X,
                problem.task,
                level=level,
                file_params=problem.file_params,
                random_state=0,
            ),
        )
    words = make_multimodal_pipeline(
        problem.X, problem.task, file_params=problem.file_params, random_state=0
    )
    if "fusiontransformer__text" in words.get_params():
        words.set_params(fusiontransformer__text=TfidfVectorizer())
        yield "one line, TF-IDF", words
    for name, model in problem.by_hand.items():
        yield f"by hand, {name}", model


def shortened(model, epochs):
    """Limit the epochs of every network in a pipeline."""
    if epochs:
        names = [name for name in model.get_params() if name.endswith("max_epochs")]
        model.set_params(**dict.fromkeys(names, epochs))
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(PROBLEMS), default=list(PROBLEMS))
    parser.add_argument("--levels", nargs="+", default=["feature"])
    parser.add_argument("--rows", type=int, help="number of training rows; default: all")
    parser.add_argument("--epochs", type=int, help="of every network; default: theirs")
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)  # classes with few rows; encoders in joint models
    print("| data | rows | pipeline | score | sd | seconds |")
    print("| --- | --- | --- | --- | --- | --- |")
    for data in options.only:
        problem = PROBLEMS[data]()
        rows = np.random.default_rng(0).permutation(len(problem.y))[: options.rows]
        problem.X, problem.y = problem.X.iloc[rows], problem.y[rows]
        splitter = KFold if problem.task == "regressor" else StratifiedKFold
        cv = splitter(FOLDS, shuffle=True, random_state=0)
        for name, model in contenders(problem, options.levels):
            start = time.perf_counter()
            model = shortened(model, options.epochs)
            scores = cross_val_score(model, problem.X, problem.y, cv=cv, error_score="raise")
            seconds = time.perf_counter() - start
            figures = f"{scores.mean():.3f} | {scores.std():.3f} | {seconds:.0f}"
            print(f"| {data} | {len(rows)} | {name} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
