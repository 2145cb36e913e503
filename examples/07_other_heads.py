"""Other estimators after the fusion: boosted trees, forests, CatBoost; skrub for the table.

Run: python examples/07_other_heads.py

A `FusionTransformer` is an ordinary transformer: any classifier or regressor may follow it, and any
transformer of tables may be one of its parts. CatBoost and skrub take part if they are installed
(extra `recipes`).

Two things to know:

- a `TfidfVectorizer` makes the fused features sparse. Forests, linear models and CatBoost take
  them; HistGradientBoosting needs dense ones: end the part of the text with a `TruncatedSVD`;
- trees take NaN in the numbers of a table, or need no scaling; networks and linear models need an
  imputer in the part of the table.
"""

from importlib.util import find_spec

import numpy as np
import pandas as pd
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_mmfusion import (
    FusionTransformer,
    JointFusionClassifier,
    LateFusionClassifier,
    make_multimodal_classification,
)

NUMBERS = ["price", "weight"]


def make_data(n_samples=400):
    """Return texts and a table; in both, cells are missing."""
    X, y = make_multimodal_classification(
        n_samples, modalities=["text"], missing_rate=0.1, noise=1.5, random_state=0
    )
    rng = np.random.default_rng(0)
    X["price"] = np.exp(rng.normal(size=n_samples) + y)
    X["weight"] = np.where(rng.uniform(size=n_samples) < 0.1, np.nan, rng.normal(y % 2))
    X["city"] = rng.choice(["Oslo", "Rome", "Bonn"], n_samples)
    X["sold"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 300, n_samples), "D")
    return X, np.array(["ash", "elm", "oak"])[y]


def report(name, model, X, y):
    scores = cross_val_score(model, X, y, cv=3, error_score="raise")
    print(f"{name:48}accuracy {scores.mean():.3f}", flush=True)


def catboost():
    """Return a small CatBoost classifier that leaves no files behind."""
    from catboost import CatBoostClassifier

    return CatBoostClassifier(
        iterations=100, random_seed=0, verbose=0, allow_writing_files=False, thread_count=1
    )


def compare_heads(X, y):
    """Any estimator after the same fused features."""
    words = TfidfVectorizer()  # sparse
    topics = make_pipeline(TfidfVectorizer(), TruncatedSVD(20))  # dense
    scaled = make_pipeline(SimpleImputer(), StandardScaler())
    heads = {
        "logistic regression": (words, scaled, LogisticRegression(max_iter=1000)),
        "RandomForest": (words, SimpleImputer(), RandomForestClassifier(random_state=0)),
        "HistGradientBoosting": (topics, "passthrough", HistGradientBoostingClassifier()),
    }
    if find_spec("catboost"):
        heads["CatBoost"] = words, "passthrough", catboost()
    for name, (text, numbers, head) in heads.items():
        triples = [("text", text, "text"), ("numbers", numbers, NUMBERS)]
        report(name, make_pipeline(FusionTransformer(triples, random_state=0), head), X, y)

    triples = [("text", topics, "text"), ("numbers", "passthrough", NUMBERS)]
    fusion = FusionTransformer(triples, random_state=0)
    search = GridSearchCV(
        make_pipeline(fusion, HistGradientBoostingClassifier()),
        {
            "fusiontransformer__text__truncatedsvd__n_components": [5, 20],
            "histgradientboostingclassifier__max_iter": [20, 100],
        },
        cv=2,
    ).fit(X, y)
    print(f"best of a search: {search.best_params_}")

    late = LateFusionClassifier(triples, head=HistGradientBoostingClassifier(), random_state=0)
    report("late fusion, HistGradientBoosting per modality", late, X, y)


def compare_tables(X, y):
    """skrub's `TableVectorizer` reads numbers, categories and dates; it leaves NaN in numbers."""
    from skrub import TableVectorizer

    table = make_pipeline(TableVectorizer(), SimpleImputer())
    columns = [*NUMBERS, "city", "sold"]
    triples = [("text", TfidfVectorizer(), "text"), ("table", table, columns)]
    forest = RandomForestClassifier(random_state=0)
    models = {
        "feature": make_pipeline(FusionTransformer(triples), forest),
        "late": LateFusionClassifier(triples, head=forest),
        "joint": JointFusionClassifier(triples, max_epochs=20, random_state=0),
    }
    for level, model in models.items():
        report(f"TableVectorizer, {level}", model, X, y)


def main():
    X, y = make_data()
    compare_heads(X, y)
    if find_spec("skrub"):
        compare_tables(X, y)
    missing = [name for name in ("catboost", "skrub") if not find_spec(name)]
    if missing:
        print(f"Left out, since not installed: {', '.join(missing)}")


if __name__ == "__main__":
    main()
