"""How good is `SequenceEncoder` on public sequences, compared with Rocket and with moments?

Defaults before `NeuralClassifier`, and the encoder's own head; mean, standard deviation, skewness,
kurtosis, minimum and maximum of each channel before a logistic regression. Accuracy on the test
rows of the official split: mean and standard deviation over three seeds, and CPU seconds of one
fit and prediction (of the two rows of the encoder: for both together).

    OMP_NUM_THREADS=1 python benchmarks/bench_sequences.py ../shared/data/sequences

`--peers` runs MiniRocket and Rocket of aeon instead, each with its default classifier
(`RidgeClassifierCV`), and needs only aeon and NumPy: aeon needs a different pandas than this
package. They need equal lengths, the longest of the training rows: ragged sequences are padded with
zeros (longer test rows are cut), or stretched by linear interpolation.

`--folds` reads only the training rows: five folds, one seed.
"""

import argparse
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

DATA = ["japanesevowels", "basicmotions", "pickupgesturewiimotez"]
SEEDS = 3


def load(path):
    """Return sequences, each (n_steps, n_channels), labels, and whether they are for training."""
    with np.load(path) as stored:
        sequences = np.split(stored["values"], stored["offsets"][1:-1])
        return sequences, stored["y"], stored["split"] == "train"


def splits(y, is_train, folds):
    """Yield training rows, test rows and a seed."""
    train, test = np.flatnonzero(is_train), np.flatnonzero(~is_train)
    if not folds:
        yield from [(train, test, seed) for seed in range(SEEDS)]
        return
    for inner, outer in StratifiedKFold(5, shuffle=True, random_state=0).split(train, y[train]):
        yield train[inner], train[outer], 0


# ------------------------------------------------------------------------------ ours


def moments(sequences):
    """Summary statistics of each channel: (n_sequences, 6 * n_channels)."""
    rows = []
    for values in sequences:
        mean, std = values.mean(0), values.std(0)
        scaled = (values - mean) / np.maximum(std, 1e-12)
        higher = (scaled**3).mean(0), (scaled**4).mean(0)
        rows.append(np.concatenate([mean, std, *higher, values.min(0), values.max(0)]))
    return np.stack(rows)


def from_moments(X, y, others, seed):
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    return {"moments, logistic regression": model.fit(moments(X), y).predict(moments(others))}


def by_network(X, y, others, seed):
    from sklearn_mmfusion import NeuralClassifier, SequenceEncoder  # aeon's environment has neither

    model = make_pipeline(SequenceEncoder(random_state=seed), NeuralClassifier(random_state=seed))
    model.fit(X, y)
    encoder = model[0]
    return {
        "SequenceEncoder, NeuralClassifier": model.predict(others),
        "SequenceEncoder, its head": encoder.classes_[encoder.predict_head(others).argmax(1)],
    }


# ------------------------------------------------------------------------------ aeon


def padded(sequences, length):
    """Add zeros at the end, or cut: (n_sequences, n_channels, length)."""
    rows = np.zeros((len(sequences), sequences[0].shape[1], length), dtype=np.float32)
    for row, values in zip(rows, sequences, strict=True):
        row[:, : len(values)] = values[:length].T
    return rows


def stretched(sequences, length):
    """Interpolate linearly: (n_sequences, n_channels, length)."""
    return np.stack(
        [
            [np.interp(np.linspace(0, len(v) - 1, length), np.arange(len(v)), c) for c in v.T]
            for v in sequences
        ]
    ).astype(np.float32)


def by_rocket(name, equal, X, y, others, seed):
    from aeon.classification import convolution_based

    length = max(len(values) for values in X)
    model = getattr(convolution_based, f"{name}Classifier")(random_state=seed)
    labels = model.fit(equal(X, length), y).predict(equal(others, length))
    return {f"{name}, {equal.__name__}": labels}


OURS = [from_moments, by_network]
PEERS = [
    partial(by_rocket, name, equal)
    for name in ("MiniRocket", "Rocket")
    for equal in (padded, stretched)
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of the .npz files")
    parser.add_argument("--peers", action="store_true", help="run the classifiers of aeon")
    parser.add_argument("--folds", action="store_true", help="read training rows alone")
    parser.add_argument("--data", nargs="+", choices=DATA, default=DATA)
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)  # classes with few rows
    print("| data | contender | accuracy | sd | seconds |\n| --- | --- | ---: | ---: | ---: |")
    for name in options.data:
        sequences, y, is_train = load(options.folder / f"{name}.npz")
        for predict in PEERS if options.peers else OURS:
            scores, seconds = {}, []
            for train, test, seed in splits(y, is_train, options.folds):
                X, others = ([sequences[row] for row in rows] for rows in (train, test))
                start = time.process_time()
                for contender, labels in predict(X, y[train], others, seed).items():
                    scores.setdefault(contender, []).append(np.mean(labels == y[test]))
                seconds.append(time.process_time() - start)
            for contender, own in scores.items():
                figures = f"{np.mean(own):.3f} | {np.std(own, ddof=1):.3f}"
                cost = f"{np.median(seconds):.1f}"
                print(f"| {name} | {contender} | {figures} | {cost} |", flush=True)


if __name__ == "__main__":
    main()
