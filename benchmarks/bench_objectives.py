"""Does each objective of a joint network help where it should?

One planted task for each: data made so that the objective has something to do, a network without
and with it, everything else equal. Accuracy on 1000 new rows over 5 seeds, and the paired
difference with its 95 % interval (t). A task shows that an objective works, not that it
pays on your data.

    OMP_NUM_THREADS=1 python benchmarks/bench_objectives.py

Tasks, sizes and weights were found on other seeds, most on 0 to 4; `--first` (default 200) is the
first seed reported.
"""

import argparse
import warnings

import numpy as np
import pandas as pd
from scipy.stats import t

from sklearn_mmfusion import JointFusionClassifier, multimodal_frame

TRIPLES = [("a", "passthrough", "a"), ("b", "passthrough", "b")]
PLAIN = {
    "fusion": "mean",
    "n_components": 32,
    "objectives": None,
    "modality_dropout": 0.0,
    "max_epochs": 40,
    "early_stopping": False,
}
N_TEST = 1000
STRUCTURE = 7  # seed of what all draws of a task share

# ------------------------------------------------------------------------------ data


def two_views(rng, n_rows, n_features=60, n_shared=6, n_private=10):
    """Two noisy views of one hidden vector, each with factors of its own; y halves its space."""
    structure = np.random.default_rng(STRUCTURE)
    sizes = (n_shared, 2 * n_private)
    shared, private = [structure.normal(size=(k, 2 * n_features)) for k in sizes]
    private[:n_private, n_features:] = private[n_private:, :n_features] = 0
    hidden = rng.normal(size=(n_rows, n_shared))
    views = hidden @ shared + rng.normal(size=(n_rows, 2 * n_private)) @ private
    views += rng.normal(size=views.shape)
    X = multimodal_frame(a=views[:, :n_features], b=views[:, n_features:])
    return X, (hidden @ structure.normal(size=n_shared) > 0).astype(int), hidden


def strong_and_weak(rng, n_rows):
    """One modality determines the class almost for certain, the other less."""
    y = rng.integers(0, 2, n_rows)
    sign = 2.0 * y[:, None] - 1
    a = 0.8 * sign + rng.normal(size=(n_rows, 8))
    b = 0.15 * sign + rng.normal(size=(n_rows, 60))
    return multimodal_frame(a=a, b=b), y


# ------------------------------------------------------------------------------ tasks
# Each returns X, y, X_test, y_test.


def views(seed, n_rows):
    X, y, _ = two_views(np.random.default_rng(seed), n_rows + N_TEST)
    return X[:n_rows], y[:n_rows], X[n_rows:], y[n_rows:]


def views_without_a(seed, n_rows):
    X, y, X_test, y_test = views(seed, n_rows)
    return X, y, X_test.drop(columns=["a"]), y_test


def pairs(seed, n_rows, n_known=60):
    """The label is known in few rows; the others still show which views belong together."""
    X, y, X_test, y_test = views(seed, n_rows)
    known = pd.Series(y, dtype=object).mask(np.arange(n_rows) >= n_known)
    return X, known.to_frame("wanted"), X_test, y_test  # one column, named below


def shortcut(seed, n_rows, share=0.85, n_hidden=5, n_features=20):
    """Each row has one modality; which one hints at the class in training, at the other in test."""
    rng = np.random.default_rng(seed)
    n_all = n_rows + N_TEST
    y, training = rng.integers(0, 2, n_all), np.arange(n_all) < n_rows
    structure = np.random.default_rng(STRUCTURE)
    direction = structure.normal(size=n_hidden)
    direction /= np.linalg.norm(direction)
    hidden = rng.normal(size=(n_all, n_hidden)) + (2 * y[:, None] - 1) * direction
    mixing = structure.normal(size=(n_hidden, n_features))
    a, b = (hidden @ mixing + rng.normal(size=(n_all, n_features)) for _ in "ab")
    has_a = rng.random(n_all) < np.where((y == 1) == training, share, 1 - share)
    X = multimodal_frame(a=a, b=b)
    X.loc[~has_a, "a"], X.loc[has_a, "b"] = pd.NA, pd.NA
    return X[training], y[training], X[~training], y[~training]


def weak_alone(seed, n_rows):
    X, y = strong_and_weak(np.random.default_rng(seed), n_rows + N_TEST)
    return X[:n_rows], y[:n_rows], X[n_rows:].drop(columns=["a"]), y[n_rows:]


def few_labels(seed, n_rows, n_known=60):
    """The wanted label is known in few rows, eight related numbers in all."""
    rng = np.random.default_rng(seed)
    X, y, hidden = two_views(rng, n_rows + N_TEST)
    wanted = pd.Series(y.astype(float), name="wanted").mask(np.arange(len(y)) >= n_known)
    mixing = np.random.default_rng(STRUCTURE).normal(size=(hidden.shape[1], 8))
    related = hidden @ mixing + 0.1 * rng.normal(size=(len(y), 8))
    targets = pd.DataFrame(related, columns=[f"r{i}" for i in range(8)]).assign(wanted=wanted)
    return X[:n_rows], targets[:n_rows], X[n_rows:], y[n_rows:]


def unequal_noise(seed, n_rows):
    """Beside the wanted label, five numbers that are noise."""
    rng = np.random.default_rng(seed)
    X, y, _ = two_views(rng, n_rows + N_TEST)
    noise = rng.normal(size=(len(y), 5))
    targets = pd.DataFrame(noise, columns=[f"n{i}" for i in range(5)]).assign(wanted=y)
    return X[:n_rows], targets[:n_rows], X[n_rows:], y[n_rows:]


# ------------------------------------------------------------------------------ comparison


def accuracy(seed, task, n_rows, params):
    X, y, X_test, y_test = task(seed, n_rows)
    params = {**PLAIN, **params}
    if params.pop("alone", False):
        known = y["wanted"].notna().to_numpy()
        X, y = X[known], y.loc[known, "wanted"].to_numpy()
    y = y if isinstance(y, pd.DataFrame) else y.astype(int)  # known in full
    if isinstance(y, pd.DataFrame):
        params["target_type"] = {"wanted": "binary"}
    model = JointFusionClassifier(TRIPLES, random_state=seed, **params).fit(X, y)
    answer = model.predict(X_test)
    answer = answer["wanted"] if isinstance(answer, pd.DataFrame) else answer
    return (np.asarray(answer, dtype=int) == y_test).mean()


# question, task, rows, parameters without, parameters with
QUESTIONS = [
    ("auxiliary .3; a strong modality goes missing", weak_alone, 300, {}, {"auxiliary": 0.3}),
    ("contrastive 1; one of two views at test", views_without_a, 300, {}, {"contrastive": 1.0}),
    ("contrastive .3; label known in 60 of 1000", pairs, 1000, {}, {"contrastive": 0.3}),
    ("adversarial .3; presence is a shortcut", shortcut, 1000, {}, {"adversarial": 0.3}),
    ("modality dropout .3; a strong modality goes missing", weak_alone, 300, {}, 0.3),
    ("several targets; wanted label known in 60 of 1000", few_labels, 1000, {"alone": True}, None),
    (
        "weights by uncertainty; five targets of noise",
        unequal_noise,
        600,
        {},
        {"target_weights": "uncertainty"},
    ),
]


def changed(change):
    """Parameters that a change stands for."""
    if change is None:
        return {}
    if isinstance(change, float):
        return {"modality_dropout": change}
    return change if "target_weights" in change else {"objectives": change}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=200)
    parser.add_argument("--only", default="", help="questions that contain this")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*lacks columns")
    print("| objective; task | without | with | difference |\n" + "| --- " * 4 + "|")
    for question, task, n_rows, base, change in QUESTIONS:
        if options.only not in question:
            continue
        scores = np.array(
            [
                [accuracy(seed, task, n_rows, params) for params in (base, changed(change))]
                for seed in range(options.first, options.first + options.seeds)
            ]
        )
        gain = scores[:, 1] - scores[:, 0]
        half = t.ppf(0.975, len(gain) - 1) * gain.std(ddof=1) / np.sqrt(len(gain))
        without, with_it = scores.mean(axis=0)
        interval = f"{gain.mean():+.3f} [{gain.mean() - half:+.3f}, {gain.mean() + half:+.3f}]"
        print(f"| {question} | {without:.3f} | {with_it:.3f} | {interval} |", flush=True)


if __name__ == "__main__":
    main()
