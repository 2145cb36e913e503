"""Is the pipeline of one line as good as boosted trees on a text and a table?

Prices of used motorcycles: R2 of the log price and the median absolute error of the price, over
five random 90/10 folds of the training rows. Differences are to the peer with the highest R2,
paired by fold, with 95 % intervals (t, with the variance of Nadeau and Bengio 2003).

    MMFUSION_DATA=../shared/data OMP_NUM_THREADS=1 python benchmarks/bench_bikes.py

`--only "one line" "one line, late"` runs these contenders, `--folds 2` the first folds.
`--memory FOLDER` keeps the features of fitted encoders, so that heads on the same features share
them: the first of them takes the time of the encoder. `--test` fits on all training rows and reads
the test rows instead: once, after the choice is fixed. CatBoost takes part if it is installed.
"""

import argparse
import os
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from _paired import interval
from sklearn.compose import make_column_transformer
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from sklearn_mmfusion import make_multimodal_pipeline

try:
    from catboost import CatBoostRegressor
except ImportError:
    CatBoostRegressor = None

DATA = Path(os.environ.get("MMFUSION_DATA", "../shared/data"))
NUMBERS, LEVELS = ["km_driven", "model_year"], ["city_posted", "color", "owner_type"]
SHARE = 0.1  # of the rows of a fold that are held out


def load(split):
    """Return X and the price; prices below 3,000 are placeholders."""
    table = pd.read_csv(DATA / "bikes" / "bikes.csv")
    table = table[(table["split"] == split) & (table["price"] >= 3000)]
    return table.drop(columns=["price", "split"]), table["price"].to_numpy()


# ------------------------------------------------------------------------------ contenders


def trees():
    return HistGradientBoostingRegressor(random_state=0)


def forest():
    return RandomForestRegressor(max_features=1 / 3, random_state=0)


def catboost(**params):
    params = {"random_seed": 0, "thread_count": 1, "allow_writing_files": False} | params
    return CatBoostRegressor(verbose=0, **params)


def on_words(head):
    """TF-IDF and SVD of the name, one-hot categories and numbers before a head."""
    words = make_pipeline(TfidfVectorizer(), TruncatedSVD(30, random_state=0))
    one_hot = OneHotEncoder(handle_unknown="ignore", min_frequency=5, sparse_output=False)
    return make_pipeline(
        make_column_transformer((words, "bike_name"), (one_hot, LEVELS), ("passthrough", NUMBERS)),
        head,
    )


def ridge():
    """As a careful user has it: log of the kilometers, one of which are 9.5 million."""
    return make_pipeline(
        make_column_transformer(
            (TfidfVectorizer(), "bike_name"),
            (OneHotEncoder(handle_unknown="ignore", min_frequency=5), LEVELS),
            (make_pipeline(FunctionTransformer(np.log1p), StandardScaler()), ["km_driven"]),
            (StandardScaler(), ["model_year"]),
        ),
        Ridge(),
    )


def catboost_of_columns():
    """CatBoost's own statistics of categories, among them the name."""
    columns = ["bike_name", *LEVELS]
    texts = make_column_transformer(
        (FunctionTransformer(lambda frame: frame.fillna("missing").to_numpy(object)), columns),
        ("passthrough", NUMBERS),
    ).set_output(transform="default")
    return make_pipeline(texts, catboost(iterations=300, cat_features=list(range(len(columns)))))


def one_line(X, memory, head=None, text=None, level="feature"):
    """The pipeline of one line, with another head or another text part."""
    pipeline = make_multimodal_pipeline(X, "regressor", level=level, random_state=0, memory=memory)
    if head is not None:
        pipeline.set_params(neuralregressor=head())
    if text is not None:
        pipeline.set_params(fusiontransformer__text=text())
    return pipeline


def peers():
    found = {
        "TF-IDF, SVD, HistGradientBoosting": lambda: on_words(trees()),
        "ridge, log of kilometers": ridge,
    }
    if CatBoostRegressor is not None:
        found["TF-IDF, SVD, CatBoost"] = lambda: on_words(catboost())
        found["CatBoost, 300 trees, categories"] = catboost_of_columns
    return found


def contenders(X, memory):
    make = partial(partial, one_line, X, memory)
    found = {"one line": make()}
    if CatBoostRegressor is not None:
        found["one line, CatBoost"] = make(catboost)
    return found | {
        "one line, HistGradientBoosting": make(trees),
        "one line, RandomForest": make(forest),
        "one line, TF-IDF": make(text=TfidfVectorizer),
        "one line, late": make(level="late"),
        "one line, joint": make(level="joint"),
    }


# ------------------------------------------------------------------------------ measurement


def measure(make, X, price, folds):
    """Return R2 of the log price and the median absolute error, of shape (2, n_folds)."""
    scores = []
    for train, test in folds:
        model = make().fit(X.iloc[train], np.log(price[train]))
        predicted = model.predict(X.iloc[test])
        error = np.median(np.abs(np.exp(predicted) - price[test]))
        scores.append([r2_score(np.log(price[test]), predicted), error])
    return np.array(scores).T


def measure_all(makers, X, price, folds, only):
    for name, make in makers.items():
        if only is None or name in only:
            start = time.perf_counter()
            scores = measure(make, X, price, folds)
            yield name, scores, time.perf_counter() - start


def print_row(name, scores, best, seconds):
    difference = "" if best is None else interval(scores[0] - best[0], SHARE)
    cells = [name, f"{scores[0].mean():.4f}", f"{scores[1].mean():.0f}", difference]
    print(f"| {' | '.join([*cells, f'{seconds:.0f}'])} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", help="contenders; default: all")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--memory")
    parser.add_argument("--test", action="store_true", help="read the test rows, once")
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)  # encoders in joint models
    X, price = load("train")
    folds = list(ShuffleSplit(5, test_size=SHARE, random_state=0).split(X))[: options.folds]
    looked_at = X  # the one line sees training rows only
    if options.test:
        X_test, price_test = load("test")
        rows = np.arange(len(X) + len(X_test))
        folds = [(rows[: len(X)], rows[len(X) :])]
        X, price = pd.concat([X, X_test]), np.concatenate([price, price_test])
    print("| pipeline | R2 | median error | R2 - best peer | seconds |")
    print("| --- | ---: | ---: | --- | ---: |")
    run = partial(measure_all, X=X, price=price, folds=folds, only=options.only)
    measured = list(run(peers()))
    best = max((scores for _, scores, _ in measured), key=lambda s: s[0].mean(), default=None)
    for name, scores, seconds in measured:
        print_row(name, scores, None if scores is best else best, seconds)
    for name, scores, seconds in run(contenders(looked_at, options.memory)):
        print_row(name, scores, best, seconds)


if __name__ == "__main__":
    main()
