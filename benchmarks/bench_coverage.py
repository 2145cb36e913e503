"""Do the intervals of scores and differences cover the true value, and are they short?

Simulated predictions of ten classes of unequal size. A row is predicted right if its score is below
a threshold; scores of rows of one group have the given correlation, those of two models for one row
.5 more. Hence the true accuracy, recalls, F1 and differences are known. Groups have lognormal sizes
(sigma .6). "width / exact" divides the mean width by that of the exact interval of Clopper and
Pearson for accuracies of independent rows, by that of Student's t for differences, and, where rows
depend on each other, by that of a normal interval with the true standard error, which nobody knows.

The last table is of `compare`: linear discriminant analysis and naive Bayes on draws of two classes
of Gaussian rows, against the difference of models trained on as many rows (the mean over draws).

    OMP_NUM_THREADS=1 python benchmarks/bench_coverage.py

`--draws 100` is a quick look. `--only comparisons` limits the run to one of the tables.
"""

import argparse
from functools import lru_cache
from itertools import product

import numpy as np
from scipy import stats
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import (
    RepeatedStratifiedKFold,
    StratifiedKFold,
    StratifiedShuffleSplit,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.utils import Bunch

from sklearn_mmfusion.inspection import compare, difference_interval, score_interval

N_CLASSES = 10
PRIORS = np.linspace(1, 3, N_CLASSES) / np.linspace(1, 3, N_CLASSES).sum()
SPREAD = np.linspace(-0.4, 0.4, N_CLASSES)  # of the classes' thresholds: their recalls differ
SHARED = 0.5  # correlation of two models' scores for one row, in addition to that of its group


@lru_cache
def thresholds(accuracy):
    """Thresholds per class with this overall accuracy."""
    low, high = -5.0, 5.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        reached = PRIORS @ stats.norm.cdf(middle + SPREAD) >= accuracy
        low, high = (low, middle) if reached else (middle, high)
    return low + SPREAD


def true_values(accuracy):
    """Population values of the metrics; wrong predictions are spread evenly over other classes."""
    recalls = stats.norm.cdf(thresholds(accuracy))
    wrong = PRIORS * (1 - recalls) / (N_CLASSES - 1)
    predicted = PRIORS * recalls + wrong.sum() - wrong
    f1 = 2 * PRIORS * recalls / (PRIORS + predicted)
    return {
        "accuracy": accuracy,
        "balanced_accuracy": recalls.mean(),
        "recall_macro": recalls.mean(),
        "f1_macro": f1.mean(),
    }


def draw_groups(rng, n_groups, mean_size):
    """Group of each row, of unequal sizes."""
    sizes = mean_size * np.exp(0.6 * rng.standard_normal(n_groups) - 0.18)
    return np.repeat(np.arange(n_groups), np.maximum(1, np.round(sizes).astype(int)))


def draw_classes(rng, groups, correlation, accuracies):
    """Labels, and predictions of as many models as accuracies."""
    y = rng.choice(N_CLASSES, size=len(groups), p=PRIORS)
    of_group = np.sqrt(correlation) * rng.standard_normal(groups.max() + 1)[groups]
    shared = min(SHARED, 1 - correlation)
    common = of_group + np.sqrt(shared) * rng.standard_normal(len(y))
    predictions = []
    for accuracy in accuracies:
        score = common + np.sqrt(1 - correlation - shared) * rng.standard_normal(len(y))
        other = (y + rng.integers(1, N_CLASSES, size=len(y))) % N_CLASSES
        predictions.append(np.where(score < thresholds(accuracy)[y], y, other))
    return y, *predictions


def draw_numbers(rng, groups, correlation, noises):
    """Targets of variance 1, and predictions with errors of these standard deviations."""
    y = rng.standard_normal(len(groups))
    of_group = np.sqrt(correlation) * rng.standard_normal(groups.max() + 1)[groups]
    own = [np.sqrt(1 - correlation) * rng.standard_normal(len(y)) for _ in noises]
    return y, *(y + s * (of_group + e) for s, e in zip(noises, own, strict=True))


def summarize(intervals, true, exact_width):
    """Coverage and relative width, as cells of the table."""
    low, high = np.array([(each.low, each.high) for each in intervals]).T
    covered = np.mean((low <= true) & (true <= high))
    return f"{covered:.3f} | {np.mean(high - low) / exact_width:.2f}"


def clopper_pearson(n_right, n):
    """Width of the exact interval of a share: that of scipy's `binomtest`, which is slow."""
    low = stats.beta.ppf(0.025, n_right, n - n_right + 1) if n_right else 0
    high = stats.beta.ppf(0.975, n_right + 1, n - n_right) if n_right < n else 1
    return high - low


def student(differences):
    """Width of Student's interval of a mean."""
    n = len(differences)
    return 2 * stats.t.ppf(0.975, n - 1) * differences.std(ddof=1) / np.sqrt(n)


def each_setting():
    """Yield (metric, accuracy, groups or None, rows per group, correlation)."""
    for n, accuracy in [*product((200, 1000), (0.7, 0.9, 0.97)), (1000, 0.99)]:
        yield "accuracy", accuracy, None, n, 0.0
    for n_groups, size, correlation in product((20, 50), (10, 40), (0.0, 0.1, 0.3)):
        for accuracy in (0.7, 0.9, 0.97):
            yield "accuracy", accuracy, n_groups, size, correlation
    for n_groups, correlation in product((5, 10), (0.0, 0.3)):
        yield "accuracy", 0.9, n_groups, 40, correlation
    for metric in ("balanced_accuracy", "recall_macro", "f1_macro"):
        yield metric, 0.9, None, 1000, 0.0
        yield metric, 0.9, 20, 40, 0.1
        yield metric, 0.7, 20, 40, 0.3


def print_scores(n_draws):
    """Coverage of `score_interval`."""
    print("\n| metric | value | groups | rows | correlation | coverage | width / exact |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for number, (metric, accuracy, n_groups, size, correlation) in enumerate(each_setting()):
        rng, intervals, exact = np.random.default_rng([0, number]), [], []
        for _ in range(n_draws):
            groups = np.arange(size) if n_groups is None else draw_groups(rng, n_groups, size)
            y, predicted = draw_classes(rng, groups, correlation, [accuracy])
            given = None if n_groups is None else groups
            intervals.append(score_interval(metric, y, predicted, groups=given))
            exact.append(clopper_pearson((y == predicted).sum(), len(y)))
        if correlation or metric != "accuracy":
            exact = 2 * 1.96 * np.std([each.estimate for each in intervals])
        true = true_values(accuracy)[metric]
        rows = size if n_groups is None else f"{size} each"
        cells = summarize(intervals, true, np.mean(exact))
        print(f"| {metric} | {true:.3f} | {n_groups or '-'} | {rows} | {correlation} | {cells} |")
    print_numbers(n_draws)


def print_numbers(n_draws):
    """The same for numbers: errors of standard deviation .5."""
    truths = {"r2": 0.75, "mean_absolute_error": 0.5 * np.sqrt(2 / np.pi)}
    for metric, (n_groups, size, correlation) in product(
        truths, [(None, 200, 0.0), (None, 1000, 0.0), (20, 40, 0.1), (50, 40, 0.3)]
    ):
        rng, intervals = np.random.default_rng([1, size, n_groups or 0]), []
        for _ in range(n_draws):
            groups = np.arange(size) if n_groups is None else draw_groups(rng, n_groups, size)
            y, predicted = draw_numbers(rng, groups, correlation, [0.5])
            given = None if n_groups is None else groups
            intervals.append(score_interval(metric, y, predicted, groups=given))
        exact = 2 * 1.96 * np.std([each.estimate for each in intervals])
        rows = size if n_groups is None else f"{size} each"
        cells = summarize(intervals, truths[metric], exact)
        true = truths[metric]
        print(f"| {metric} | {true:.3f} | {n_groups or '-'} | {rows} | {correlation} | {cells} |")


def print_differences(n_draws):
    """Coverage of `difference_interval`."""
    print("\n| metric | values | groups | rows | correlation | coverage | width / exact |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    pairs = [(0.7, 0.65), (0.9, 0.9), (0.97, 0.95)]
    settings = [("accuracy", n, None, 0.0, pair) for n, pair in product((200, 1000), pairs)]
    settings += [
        ("accuracy", size, n_groups, correlation, pair)
        for n_groups, size, correlation, pair in product((20, 50), (10, 40), (0.0, 0.3), pairs)
    ]
    settings += [("accuracy", 40, n, 0.3, pairs[1]) for n in (5, 10)]
    settings += [("f1_macro", 1000, None, 0.0, pairs[1]), ("f1_macro", 40, 20, 0.3, pairs[1])]
    for number, (metric, size, n_groups, correlation, pair) in enumerate(settings):
        rng, intervals, exact = np.random.default_rng([2, number]), [], []
        for _ in range(n_draws):
            groups = np.arange(size) if n_groups is None else draw_groups(rng, n_groups, size)
            y, a, b = draw_classes(rng, groups, correlation, pair)
            given = None if n_groups is None else groups
            intervals.append(difference_interval(metric, y, a, b, groups=given))
            exact.append(student((y == a).astype(float) - (y == b)))
        if correlation or metric != "accuracy":
            exact = 2 * 1.96 * np.std([each.estimate for each in intervals])
        true = true_values(pair[0])[metric] - true_values(pair[1])[metric]
        rows = size if n_groups is None else f"{size} each"
        cells = summarize(intervals, true, np.mean(exact))
        values = f"{pair[0]}, {pair[1]}"
        print(f"| {metric} | {values} | {n_groups or '-'} | {rows} | {correlation} | {cells} |")


def print_comparisons(n_draws):
    """Coverage of the differences of `compare`."""
    print("\n| test rows of | rows | splits | coverage | width / known error |")
    print("| --- | ---: | ---: | ---: | ---: |")
    models = {"linear": LinearDiscriminantAnalysis(), "bayes": GaussianNB()}
    splitters = {
        "5 folds": StratifiedKFold(5, shuffle=True, random_state=0),
        "10 folds": StratifiedKFold(10, shuffle=True, random_state=0),
        "2 times 5 folds": RepeatedStratifiedKFold(n_splits=5, n_repeats=2, random_state=0),
        "15 random tenths": StratifiedShuffleSplit(15, test_size=0.1, random_state=0),
    }
    for name, n_rows in product(splitters, (100, 400)):
        intervals = []
        for draw in range(n_draws):
            X, y = draw_gaussian(np.random.default_rng([3, n_rows, draw]), n_rows)
            comparison = compare(models, X, y, cv=splitters[name])
            _, low, high = comparison.differences.iloc[0]
            mean = comparison.differences["difference"].iloc[0]
            intervals.append(Bunch(estimate=mean, low=low, high=high))
        estimates = [each.estimate for each in intervals]
        # The mean over draws is the true difference of models trained on as many rows.
        cells = summarize(intervals, np.mean(estimates), 2 * 1.96 * np.std(estimates))
        print(f"| {name} | {n_rows} | {comparison.scores.shape[1]} | {cells} |", flush=True)


def draw_gaussian(rng, n_rows):
    """Two classes with correlated features, some without meaning."""
    y = np.arange(n_rows) % 2
    X = rng.standard_normal((n_rows, 6)) @ MIX
    X[:, :3] += 0.5 * y[:, None]
    return X, y


MIX = np.eye(6) + 0.4 * np.eye(6, k=1)
TABLES = {
    "scores": print_scores,
    "differences": print_differences,
    "comparisons": print_comparisons,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--only", choices=TABLES)
    args = parser.parse_args()
    for name, print_table in TABLES.items():
        if args.only in (None, name):
            print_table(args.draws)


if __name__ == "__main__":
    main()
