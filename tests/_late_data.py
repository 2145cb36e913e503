"""Two modalities made of iris, their members, and small networks, for the tests of late fusion."""

import numpy as np
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

from sklearn_mmfusion.containers import multimodal_frame

RULES = ["product", "mean", "vote", "max", "stacking"]
SMALL_NET = {"hidden_layer_sizes": (4,), "max_epochs": 2, "linear_share": 0.0, "random_state": 0}


def iris():
    """Two modalities of one column each, as a frame of cells."""
    X, y = load_iris(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    X, y = X[order], np.array(["setosa", "versicolor", "virginica"])[y[order]]
    return multimodal_frame(sepal=X[:, :2], petal=X[:, 2:] + 0.7 * X[:, :2]), y


def members():
    return [
        ("sepal", LogisticRegression(max_iter=1000), "sepal"),
        ("petal", GaussianNB(), "petal"),
    ]


def plain(X):
    return np.hstack([np.stack(X["sepal"]), np.stack(X["petal"])])
