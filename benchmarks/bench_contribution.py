"""Do contributions and interactions of modalities find a planted structure?

Each draw has five modalities of a few numbers and two hidden bits, which make four classes.
"informative" holds the first bit, "redundant" the same numbers, and the second bit is the exclusive
or of a bit in "xor_a" and one in "xor_b". Noise covers all bits. Half of the rows are fitted, the
other half scored by accuracy. The script prints the mean and standard deviation over draws of the
importance of each modality and of the interactions of pairs, and first the "optimal" ones: of the
best possible estimator of each set of modalities, computed from the distribution.

    OMP_NUM_THREADS=1 python benchmarks/bench_contribution.py

`--draws` and `--rows` change the size.
"""

import argparse
import time

import numpy as np
from scipy.stats import norm
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from sklearn_mmfusion import (
    FusionTransformer,
    JointFusionClassifier,
    LateFusionClassifier,
    multimodal_frame,
)
from sklearn_mmfusion.inspection import modality_importance, modality_interaction
from sklearn_mmfusion.inspection.importance import shapley_interactions, shapley_values

NAMES = ["informative", "redundant", "noise", "xor_a", "xor_b"]
DISTANCE, XOR_DISTANCE = 1.0, 1.5  # of the two values of a bit from 0; the noise has variance 1
SHORT = {"max_epochs": 20, "early_stopping": False}
PAIRS = {
    "informative, redundant": [(0, 1)],
    "xor_a, xor_b": [(3, 4)],
    "noise, each other": [(m, 2) for m in (0, 1, 3, 4)],
    "first bit, xor": [(m, n) for m in (0, 1) for n in (3, 4)],
}


def draw(seed, n_rows):
    """Return a frame with the modalities, and four classes."""
    rng = np.random.default_rng(seed)
    first, a, b = rng.integers(2, size=(3, n_rows))

    def cells(bit, distance):
        values = rng.normal(size=(n_rows, 2))
        values[:, 0] += distance * (2 * bit - 1)
        return values

    known = cells(first, DISTANCE)
    parts = [known, known, cells(0, 0.0), cells(a, XOR_DISTANCE), cells(b, XOR_DISTANCE)]
    return multimodal_frame(**dict(zip(NAMES, parts, strict=True))), 2 * first + (a ^ b)


def optimal():
    """Importances and interactions of the best estimator of each set of modalities."""
    accuracy, one = norm.cdf(DISTANCE), norm.cdf(XOR_DISTANCE)
    values = []
    for coalition in range(2 ** len(NAMES)):
        informative, redundant, _, a, b = (coalition >> m & 1 for m in range(len(NAMES)))
        first = accuracy if informative or redundant else 0.5
        second = one**2 + (1 - one) ** 2 if a and b else 0.5
        values.append(first * second)
    return shapley_values(np.array(values)), shapley_interactions(np.array(values))


def contenders(seed):
    """Return unfitted estimators by name."""
    plain = [(name, "passthrough", name) for name in NAMES]
    trees = ExtraTreesClassifier(40, min_samples_leaf=5, random_state=seed)
    linear = [(name, LogisticRegression(), name) for name in NAMES]
    return {
        "features, trees": make_pipeline(FusionTransformer(plain), trees),
        "joint network": JointFusionClassifier(plain, **SHORT, random_state=seed),
        "decisions, linear": LateFusionClassifier(linear),
    }


def measure(name, seed, n_rows):
    """Return (importances, interactions) by the way modalities are made absent."""
    X, y = draw(seed, n_rows)
    half = n_rows // 2
    estimator = contenders(seed)[name].fit(X[:half], y[:half])
    results = {}
    for absent in ("mask", "permute"):
        options = {"scoring": "accuracy", "absent": absent, "random_state": seed}
        importance = modality_importance(estimator, X[half:], y[half:], **options)
        interaction = modality_interaction(estimator, X[half:], y[half:], **options)
        results[absent] = importance.importances, interaction.interactions
    return results


def show(title, columns, rows):
    """Print a table: {(estimator, absent): one array of shape (n_draws,) per column}."""
    header = ["estimator", "absent", *columns]
    print(f"\n{title}:\n\n| {' | '.join(header)} |\n| --- | --- |{' ---: |' * len(columns)}")
    for key, samples in rows.items():
        cells = [
            f"{s.mean():+.3f}" + (f" ± {s.std(ddof=1):.3f}" if len(s) > 1 else "") for s in samples
        ]
        print(f"| {' | '.join([*key, *cells])} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--rows", type=int, default=2000)
    options = parser.parse_args()
    importances, interactions = optimal()
    found = {("optimal", ""): ([importances], [interactions])}
    for name in contenders(0):
        start = time.perf_counter()
        draws = [measure(name, seed, options.rows) for seed in range(options.draws)]
        print(f"  {name}: {time.perf_counter() - start:.0f} s", flush=True)
        for absent in draws[0]:
            found[name, absent] = tuple(zip(*(each[absent] for each in draws), strict=True))
    show("Importances", NAMES, {key: np.array(each[0]).T for key, each in found.items()})
    rows = {}
    for key, (_, by_draw) in found.items():
        rows[key] = [np.mean([np.array(by_draw)[:, i, j] for i, j in p], 0) for p in PAIRS.values()]
    show("Interactions", list(PAIRS), rows)


if __name__ == "__main__":
    main()
