"""How accurate are the defaults, at which level of fusion, and what if a modality goes?

One table a run: every modality alone, fused features, fused decisions, joint networks; test
accuracy, log loss, expected calibration error (15 bins), accuracy without each modality at test,
process seconds.

    OMP_NUM_THREADS=1 python benchmarks/bench_accuracy.py digits3 ../shared/data/digits3
    OMP_NUM_THREADS=1 python benchmarks/bench_accuracy.py leaf99 ../shared/data/leaf99

`--folds` reads no test row: four folds of the training rows (of digits3 each without one speaker
and a quarter of the languages). Defaults are chosen there. `--noise` adds a modality of pure
noise; `--missing .3` hides that share of all cells in training and test, never a row's last;
`--levels joint` and `--only product mean` run the contenders of these levels and names; `--seeds`
sets their number.
"""

import argparse
import time
import warnings
from collections import defaultdict

import joblib
import numpy as np
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_mmfusion import (
    AudioEncoder,
    FusionTransformer,
    ImageEncoder,
    JointFusionClassifier,
    LateFusionClassifier,
    NeuralClassifier,
    TensorArray,
    TextEncoder,
    multimodal_frame,
)
from sklearn_mmfusion.datasets import load_digits3

# ------------------------------------------------------------------------------ equal fits once

FITTED, USED = {}, set()


def once(cls):
    """A subclass that does equal fits once, so that contenders share their encoders."""

    class Once(cls):
        def fit(self, X, y, sample_weight=None, groups=None):
            key = joblib.hash((cls.__name__, self.get_params(), X, y, sample_weight, groups))
            if key not in FITTED:
                start = time.process_time()
                super().fit(X, y, sample_weight=sample_weight, groups=groups)
                learned = {k: v for k, v in vars(self).items() if not k.startswith("_parent")}
                FITTED[key] = learned, time.process_time() - start
            USED.add(key)
            vars(self).update(FITTED[key][0])
            return self

    Once.__name__ = cls.__name__
    return Once


Image, Text, Audio, Neural = map(once, (ImageEncoder, TextEncoder, AudioEncoder, NeuralClassifier))

# ------------------------------------------------------------------------------ data


def digits3(folder):
    """X, y, groups, (train, test) and the folds of the training rows."""
    data = load_digits3(folder)
    language = np.load(f"{folder}/digits3.npz")["language"]
    groups, rows = np.asarray(data.groups), np.arange(len(data.target))
    names = np.unique(language[data.train])
    np.random.default_rng(0).shuffle(names)
    quarter = dict(zip(names, np.arange(len(names)) % 4, strict=True))
    part = np.array([quarter.get(name, -1) for name in language])
    folds = []
    for i, speaker in enumerate(np.unique(groups[data.train])):
        heard = (groups != speaker) & (part != i)
        rest = np.intersect1d(data.train, rows[heard])
        folds.append((rest, np.intersect1d(data.train, rows[(groups == speaker) & (part == i)])))
    return data.data, np.asarray(data.target), groups, (data.train, data.test), folds


def leaf99(folder):
    """The same of the leaves: silhouettes and one table, without groups."""
    arrays = np.load(f"{folder}/leaf99.npz")
    train, test = (np.flatnonzero(arrays["split"] == part) for part in ("train", "test"))
    X = multimodal_frame(image=arrays["image"], shape=arrays["shape"])
    y = arrays["y"].astype(np.int64)
    splitter = StratifiedKFold(4, shuffle=True, random_state=0)
    folds = [(train[a], train[b]) for a, b in splitter.split(train, y[train])]
    return X, y, None, (train, test), folds


def add_noise(X):
    """A column of images that say nothing: uniform noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (len(X), 28, 28), dtype=np.uint8)
    return X.assign(noise=TensorArray(pixels))


def take_away(X, share):
    """Hide that share of all cells, but none that is the last of its row."""
    rng = np.random.default_rng(0)
    gone = rng.random(X.shape) < share
    gone[np.arange(len(X)), rng.integers(0, X.shape[1], len(X))] = False
    X = X.copy()
    for m, name in enumerate(X.columns):
        X[name] = X[name].mask(gone[:, m])
    return X


# name -> encoder or transformer for features, estimator for decisions, part of a joint network
MODALITIES = {
    "image": (Image(), Image(), ImageEncoder()),
    "audio": (Audio(sample_rate=8000), Audio(sample_rate=8000), AudioEncoder(sample_rate=8000)),
    "text": (Text(), Text(), TextEncoder()),
    "shape": (StandardScaler(), Neural(), "passthrough"),
    "noise": (Image(), Image(), ImageEncoder()),
}

# ------------------------------------------------------------------------------ contenders

FEATURES = {
    "concat, neural": ({}, Neural()),
    "weighted, neural": ({"fusion": "weighted"}, Neural(standardize=False)),
    "concat": ({}, None),
    "concat, imputed": ({"missing": "impute"}, None),
    **{fusion: ({"fusion": fusion}, None) for fusion in ("whitened", "mfa", "mcca", "gcca")},
}
DECISIONS = {
    "product": {},
    "product, learned weights": {"weights": "auto"},
    "product, NeuralClassifier heads": {"head": Neural()},
    "product, temperature": {"calibration": "temperature"},
    "mean": {"fusion": "mean"},
    "vote": {"fusion": "vote"},
    "max": {"fusion": "max"},
    "stacking": {"fusion": "stacking"},
    "evidence": {"fusion": "evidence"},
}
JOINT = {
    "concat (default)": {},
    **{
        fusion: {"fusion": fusion}
        for fusion in ("logits", "mean", "sum", "max", "weighted", "gated", "low_rank", "graph")
    },
    "attention": {"fusion": "attention"},
    "tensor, encoders 16 wide": {"fusion": "tensor"},
    "concat, pretrained": {"pretrain": True},
    "logits, pretrained": {"fusion": "logits", "pretrain": True},
    "concat, no objective": {"objectives": None},
    "concat, no modality dropout": {"modality_dropout": 0.0},
    "concat, neither": {"objectives": None, "modality_dropout": 0.0},
    "concat, auxiliary 1": {"objectives": {"auxiliary": 1.0}},
    "concat, + contrastive .1": {"objectives": {"auxiliary": 0.3, "contrastive": 0.1}},
    "concat, + adversarial .1": {"objectives": {"auxiliary": 0.3, "adversarial": 0.1}},
}


def contenders(names, seed):
    """Yield (level, name, unfitted model)."""
    for_features = [(name, MODALITIES[name][0], name) for name in names]
    for_decisions = [(name, MODALITIES[name][1], name) for name in names]
    for triple in for_decisions:
        yield "alone", triple[0], LateFusionClassifier([triple], random_state=seed)
    for name, (params, head) in FEATURES.items():
        fusion = FusionTransformer(for_features, random_state=seed, **params)
        if head is None:
            head = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
        else:
            head.set_params(random_state=seed)
        yield "features", name, Pipeline([("fusion", fusion), ("head", head)])
    for name, params in DECISIONS.items():
        yield "decisions", name, LateFusionClassifier(for_decisions, random_state=seed, **params)
    for name, params in JOINT.items():
        model = clone(JointFusionClassifier([(m, MODALITIES[m][2], m) for m in names]))
        model.set_params(random_state=seed, **params)
        if name.startswith("tensor"):
            narrow = {f"{m}__n_components": 16 for m in names if m != "shape"}
            model.set_params(n_components=16, **narrow)
        yield "joint", name, model


# ------------------------------------------------------------------------------ measures


def calibration_error(proba, y, n_bins=15):
    """Expected calibration error of the predicted class (Guo et al. 2017)."""
    confidence, right = proba.max(axis=1), proba.argmax(axis=1) == y
    bins = np.clip(np.ceil(confidence * n_bins) - 1, 0, n_bins - 1).astype(int)
    gaps = [(right[bins == b] - confidence[bins == b]).sum() for b in range(n_bins)]
    return np.abs(gaps).sum() / len(y)


def evaluate(level, model, X, y, groups, train, test, names):
    """Fit once, read the test rows: accuracy, log loss, calibration, accuracy without each."""
    passed = {} if groups is None else {"groups": groups[train]}
    if isinstance(model, Pipeline):
        passed = {f"fusion__{key}": value for key, value in passed.items()}
    USED.clear()
    start = time.process_time()
    before = sum(seconds for _, seconds in FITTED.values())
    model.fit(X.iloc[train], y[train], **passed)
    new = sum(seconds for _, seconds in FITTED.values()) - before
    seconds = time.process_time() - start - new + sum(FITTED[key][1] for key in USED)
    proba = model.predict_proba(X.iloc[test])
    row = {
        "accuracy": (proba.argmax(axis=1) == y[test]).mean(),
        "log loss": log_loss(y[test], proba, labels=np.unique(y)),
        "ECE": calibration_error(proba, y[test]),
    }
    for name in names if level != "alone" else ():
        without = model.predict_proba(X.iloc[test].drop(columns=[name]))
        row[f"-{name}"] = (without.argmax(axis=1) == y[test]).mean()
    return {**row, "seconds": seconds}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", choices=("digits3", "leaf99"))
    parser.add_argument("folder", help="folder of the data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", action="store_true", help="training rows only")
    parser.add_argument("--noise", action="store_true", help="add a pure-noise image column")
    parser.add_argument("--missing", type=float, default=0.0, help="share of cells to hide")
    parser.add_argument("--levels", nargs="*", metavar="LEVEL", help="these levels of fusion")
    parser.add_argument("--only", nargs="*", metavar="NAME", help="contenders of these names")
    parser.add_argument("--groups", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    X, y, groups, official, folds = {"digits3": digits3, "leaf99": leaf99}[options.data](
        options.folder
    )
    X, groups = add_noise(X) if options.noise else X, groups if options.groups else None
    X = take_away(X, options.missing) if options.missing else X
    for expected in ("lacks columns", "no modality present"):
        warnings.filterwarnings("ignore", message=f".*{expected}")
    names, table = list(X.columns), defaultdict(list)
    for seed in range(options.seeds):
        for train, test in folds if options.folds else [official]:
            FITTED.clear()
            for level, name, model in contenders(names, seed):
                if name in (options.only or [name]) and level in (options.levels or [level]):
                    row = evaluate(level, model, X, y, groups, train, test, names)
                    table[level, name].append(row)
                    print(f"  seed {seed}: {level}, {name}: {row['accuracy']:.3f}", flush=True)
    show(table, [f"-{name}" for name in names])


def show(table, removed):
    """Print means over seeds and splits, and the deviation of the accuracy."""
    columns = ["accuracy", "sd", "log loss", "ECE", *removed, "seconds"]
    print(f"\n| level | fusion | {' | '.join(columns)} |")
    print("| --- " * (2 + len(columns)) + "|")
    for (level, name), rows in table.items():
        mean = {key: np.mean([row[key] for row in rows]) for key in rows[0]}
        mean["sd"] = np.std([row["accuracy"] for row in rows])
        cells = [f"{mean[c]:.3f}" if c in mean else "" for c in columns[:-1]]
        print(f"| {level} | {name} | {' | '.join(cells)} | {mean['seconds']:.0f} |")


if __name__ == "__main__":
    main()
