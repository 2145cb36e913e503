"""Levels of fusion: do features or decisions fuse better, and is the difference more than luck?

Run: python examples/04_levels_of_fusion.py [FOLDER WITH digits3_small.npz]

All contenders meet on the same folds, which test speakers (telephone lines) not heard in training.
Encoders are fitted once per fold, frozen and shared. That is fair: only the fusion differs, and all
contenders share the luck of an encoder. It does not cover fusions that train encoders in another
way. Ten epochs keep the example short: train in full before you conclude, as more epochs help
decisions.

The interval is for the mean difference in accuracy when models are trained on so many of these
speakers and tested on others. Folds share training rows, so their scores are not independent and
the usual t-test is far too sure. The corrected resampled t-test [1] widens the interval by a rule
of thumb: 95 % is approximate and holds for one contender; of many, one may well stand out by luck.
All rows are used, including the official test part, as nothing is tuned on the result.

[1] Nadeau, Bengio (2003). "Inference for the generalization error." Machine Learning 52.
    doi:10.1023/A:1024068626366
"""

import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy import stats
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import sklearn_mmfusion as mm
from sklearn_mmfusion.datasets import load_digits3

REFERENCE, REPEATS, FOLDS = "features: logistic", 3, 3


def load():
    """Return X, y and groups: real speakers if `digits3` is available, else telephone lines."""
    shared = Path(os.environ.get("MMFUSION_DATA", ".")) / "digits3"
    file = (Path(sys.argv[1]) if len(sys.argv) > 1 else shared) / "digits3_small.npz"
    data = load_digits3(file) if file.is_file() else mm.load_multimodal_digits()
    kept = slice(None) if file.is_file() else slice(None, None, 5)  # every fifth row
    return data.data.iloc[kept], data.target[kept], data.groups[kept]


def accuracies(X, y, groups, train, test, seed):
    """Return {contender: accuracy} on one fold; all of them get the same fitted encoders."""
    frozen, shared = [], {"n_components": 64, "max_epochs": 10, "random_state": seed}
    for name, encoder in [
        ("image", mm.ImageEncoder(**shared)),
        ("text", mm.TextEncoder(**shared)),
        ("audio", mm.AudioEncoder(sample_rate=8000, **shared)),
    ]:
        encoder.fit(X[name].iloc[train], y[train], groups=groups[train])
        frozen.append((name, FrozenEstimator(encoder), name))
    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    models = {f"{triple[0]} alone": mm.LateFusionClassifier([triple]) for triple in frozen} | {
        REFERENCE: make_pipeline(mm.FusionTransformer(frozen), head),
        "decisions: product": mm.LateFusionClassifier(frozen, fusion="product"),
        "decisions: mean": mm.LateFusionClassifier(frozen, fusion="mean"),
    }
    X_train, X_test = X.iloc[train], X.iloc[test]
    return {name: m.fit(X_train, y[train]).score(X_test, y[test]) for name, m in models.items()}


def compare(scores, ratio):
    """Return a table of the contenders; `ratio` is that of test to training rows [1]."""
    differences = scores.sub(scores[REFERENCE], axis=0)
    error = np.sqrt((1 / len(scores) + ratio) * differences.var(ddof=1))
    reach, mean = stats.t.ppf(0.975, len(scores) - 1) * error, differences.mean()
    columns = {"difference": mean, "95 % from": mean - reach, "to": mean + reach}
    return pd.DataFrame({"accuracy": scores.mean(), **columns})


def main():
    X, y, groups = load()
    repeats = [GroupKFold(FOLDS, shuffle=True, random_state=r) for r in range(REPEATS)]
    splits = [split for folds in repeats for split in folds.split(X, y, groups)]
    jobs = (delayed(accuracies)(X, y, groups, *split, seed) for seed, split in enumerate(splits))
    scores = pd.DataFrame(Parallel(n_jobs=2)(jobs))  # a row per fold, a column per contender
    ratio = np.mean([len(test) / len(train) for train, test in splits])
    print(f"{len(X)} rows of {len(set(groups))} groups; differences are to '{REFERENCE}'")
    print(compare(scores, ratio).to_string(float_format="{:.3f}".format))


if __name__ == "__main__":
    main()
