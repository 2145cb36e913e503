"""Are the probabilities of a joint network calibrated, and what does label smoothing do to them?

Cross-validation on training rows only: each fold of digits3 leaves out one speaker and trains on
900 rows of the other three; leaf99 has four stratified folds. The script prints accuracy /
calibration error / log loss by fold and over all out-of-fold rows, for each network with and
without its temperature. The calibration error is the square root of the debiased squared error,
averaged over seeds. "difference" compares accuracy with the first row of the table: the difference
of each out-of-fold row, averaged over seeds; shown are its mean and lower 95 % bound (mean - 1.96
standard errors).

    OMP_NUM_THREADS=1 python benchmarks/bench_calibration.py digits3 ../shared/data/digits3
    OMP_NUM_THREADS=1 python benchmarks/bench_calibration.py leaf99 ../shared/data/leaf99

`--smoothing 0.1` and `--seeds 0` limit the runs. With `--cache FOLDER`, an interrupted run resumes
from saved predictions.
"""

import argparse

import joblib
import numpy as np
from bench_accuracy import MODALITIES, digits3, leaf99
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from sklearn_mmfusion import JointFusionClassifier
from sklearn_mmfusion._losses import softmax
from sklearn_mmfusion.inspection import squared_calibration_error

N_ROWS = 900  # per fold of digits3: below 1000 rows a step takes 32 rows, which halves the time


def load(data, folder):
    """Return X, y, groups and the folds of the training rows."""
    if data == "leaf99":
        X, y, groups, _, folds = leaf99(folder)
        return X, y, groups, folds
    X, y, groups, (rows, _), _ = digits3(folder)
    folds = []
    for speaker in np.unique(groups[rows]):
        train, test = rows[groups[rows] != speaker], rows[groups[rows] == speaker]
        strata = [f"{groups[i]} {y[i]}" for i in train]
        train, _ = train_test_split(train, train_size=N_ROWS, stratify=strata, random_state=0)
        folds.append((train, test))
    return X, y, groups, folds


def out_of_fold(data, folder, fold, smoothing, seed):
    """Return the fold's probabilities without and with the temperature, and the temperature."""
    X, y, groups, folds = load(data, folder)
    train, test = folds[fold]
    triples = [(name, MODALITIES[name][2], name) for name in X.columns]
    model = JointFusionClassifier(triples, label_smoothing=smoothing, random_state=seed)
    model.fit(X.iloc[train], y[train], groups=None if groups is None else groups[train])
    logits = model.predict_log_proba(X.iloc[test]) * model.temperature_
    return softmax(logits), softmax(logits / model.temperature_), model.temperature_


def measures(y, proba):
    """Return accuracy, squared calibration error and log loss."""
    labels = np.arange(proba.shape[1])
    squared = squared_calibration_error(y, proba, labels=labels)
    return (proba.argmax(1) == y).mean(), squared, log_loss(y, proba, labels=labels)


def cell(y, probas):
    """Format the means over seeds; the calibration error is the root of the mean squared error."""
    accuracy, squared, loss = np.mean([measures(y, proba) for proba in probas], axis=0)
    return f"{accuracy:.3f} / {np.sqrt(max(squared, 0)):.3f} / {loss:.3f}"


def compare(y, probas, base):
    """Format the paired difference in accuracy and its lower 95 % bound."""
    hits, base_hits = (np.mean([p.argmax(1) == y for p in each], axis=0) for each in (probas, base))
    difference = hits - base_hits
    bound = difference.mean() - 1.96 * difference.std(ddof=1) / np.sqrt(len(y))
    return f"{difference.mean():+.4f}, {bound:+.4f}"


def show(results, y, folds):
    """Print the table; results: {(smoothing, logits): probabilities by seed and fold}."""
    names = [f"fold {f}" for f in range(len(folds))]
    header = ["smoothing", "logits", *names, "all rows", "difference"]
    print(f"\n| {' | '.join(header)} |\n{'| --- ' * len(header)}|")
    y_all = np.concatenate([y[test] for _, test in folds])
    pooled = {key: [np.concatenate(probas) for probas in each] for key, each in results.items()}
    base = next(iter(pooled.values()))
    for key, by_seed in results.items():
        by_fold = zip(folds, zip(*by_seed, strict=True), strict=True)
        cells = [cell(y[test], probas) for (_, test), probas in by_fold]
        cells += [cell(y_all, pooled[key]), compare(y_all, pooled[key], base)]
        print(f"| {' | '.join([*map(str, key), *cells])} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", choices=("digits3", "leaf99"))
    parser.add_argument("folder", help="folder of the data")
    parser.add_argument("--smoothing", nargs="+", type=float, default=[0.1, 0.0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--cache", help="folder for predictions")
    options = parser.parse_args()
    predict = joblib.Memory(options.cache, verbose=0).cache(out_of_fold)
    _, y, _, folds = load(options.data, options.folder)
    results = {}
    for smoothing in options.smoothing:
        fits = []
        for seed in options.seeds:
            fits.append([])
            for fold, (_, test) in enumerate(folds):
                plain, tempered, found = predict(
                    options.data, options.folder, fold, smoothing, seed
                )
                hits = (plain.argmax(1) == y[test]).mean()
                print(
                    f"  {smoothing}, seed {seed}, fold {fold}: {hits:.3f}, T {found:.2f}",
                    flush=True,
                )
                fits[-1].append((plain, tempered))
        for part, logits in enumerate(("as trained", "temperature")):
            results[smoothing, logits] = [[pair[part] for pair in each] for each in fits]
    show(results, y, folds)


if __name__ == "__main__":
    main()
