"""One line from a data frame to a pipeline, then another estimator after the fusion, and a search.

Run: python examples/06_one_line.py

`make_multimodal_pipeline` looks at the columns once and returns an ordinary pipeline.
"""

import numpy as np
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV, train_test_split

from sklearn_mmfusion import make_multimodal_classification, make_multimodal_pipeline


def make_table(n_samples=300):
    """Return pictures, texts and a table as a spreadsheet exports it."""
    X, y = make_multimodal_classification(
        n_samples, modalities=["image", "text"], missing_rate=0.05, random_state=0
    )
    rng = np.random.default_rng(0)
    days = np.datetime64("2024-01-01") + rng.integers(0, 300, n_samples)
    table = {
        "id": np.arange(n_samples),
        "price": [f"{value:,.2f} $" for value in rng.uniform(100, 3000, n_samples) + 900 * y],
        "zip": rng.choice(["01067", "10115", "80331"], n_samples),
        "sold": [f"{day.month}/{day.day}/{day.year}" for day in days.astype(object)],
        "new": rng.choice(["yes", "no", "n/a"], n_samples),
    }
    return X.assign(**table), np.array(["ash", "elm", "oak"])[y]


def main():
    X, y = make_table()
    X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
    pipeline = make_multimodal_pipeline(X_train, "classifier", random_state=0, verbose=True)

    # ordinary parameters of ordinary parts: few epochs, for a quick look
    quick = {"max_epochs": 10, "early_stopping": False, "n_components": 32}
    for name in ("image", "text"):
        pipeline.set_params(**{f"fusiontransformer__{name}__{k}": v for k, v in quick.items()})
    heads = {
        "NeuralClassifier": clone(pipeline[-1]),
        "HistGradientBoosting": HistGradientBoostingClassifier(max_iter=50),
        "RandomForest": RandomForestClassifier(random_state=0),
        "Ridge": RidgeClassifier(),
    }
    print()
    for name, head in heads.items():
        model = clone(pipeline).set_params(neuralclassifier=head).fit(X_train, y_train)
        print(f"{name:24}accuracy {model.score(X_test, y_test):.3f}")

    pipeline.set_params(neuralclassifier=RidgeClassifier())
    grid = {"fusiontransformer__fusion": ["concat", "whitened"], "neuralclassifier__alpha": [1, 30]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(X_train, y_train)
    print(f"\nbest of the search: {search.best_params_}")


if __name__ == "__main__":
    main()
