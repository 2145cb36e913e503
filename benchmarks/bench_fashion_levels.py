"""How well do photo and title of a product predict at each level of fusion, from one line each?

`make_multimodal_pipeline` on the photo, the title and both, at the levels feature, late and joint:
accuracy of article, usage and colour, over folds of the training rows of the fashion table, and
seconds of all folds together.

    MMFUSION_DATA=../shared/data OMP_NUM_THREADS=1 python benchmarks/bench_fashion_levels.py

`--rows 300` takes that many training rows, `--epochs 5` limits the encoders and joint networks (of
`TextEncoder` and `ImageEncoder`; heads are trained in full), `--targets colour` and `--levels
feature late` choose some.
"""

import argparse
import os
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold, cross_val_score

from sklearn_mmfusion import make_multimodal_pipeline

FOLDER = Path(os.environ.get("MMFUSION_DATA", "../shared/data")) / "fashion"
TARGETS, LEVELS = ["article", "usage", "colour"], ["feature", "late", "joint"]
INPUTS = {"photo": ["photo"], "title": ["title"], "both": ["photo", "title"]}
FOLDS = 2


def load(target, n_rows):
    """Return training rows, in random order, of the classes with a row for each fold."""
    products = pd.read_csv(FOLDER / "products.csv")
    products = products[products["split"] == "train"].sample(frac=1, random_state=0)[:n_rows]
    counts = products[target].value_counts()
    products = products[products[target].map(counts) >= FOLDS]
    return products, products[target].to_numpy()


def one_line(X, level, epochs):
    kinds = {"photo": "image path", "title": "free text"}
    pipeline = make_multimodal_pipeline(
        X,
        level=level,
        kinds={name: kinds[name] for name in X},
        file_params={"root": str(FOLDER)},
        random_state=0,
    )
    heads = "neuralclassifier__", "head__"
    names = [name for name in pipeline.get_params() if name.endswith("max_epochs")]
    limited = [name for name in names if not any(head in name for head in heads)]
    return pipeline.set_params(**dict.fromkeys(limited if epochs else [], epochs))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, help="number of training rows; default: all")
    parser.add_argument("--epochs", type=int, help="of encoders and joint networks")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=TARGETS)
    parser.add_argument("--levels", nargs="+", choices=LEVELS, default=LEVELS)
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)  # classes with few rows
    inputs = " | ".join(f"{name} | seconds" for name in INPUTS)
    print(f"| target | classes | most common | level | {inputs} |")
    print(f"| --- | ---: | ---: | ---{' | ---: | ---:' * len(INPUTS)} |")
    for target in options.targets:
        products, y = load(target, options.rows)
        counts = pd.Series(y).value_counts()
        for level in options.levels:
            cells = [target, f"{len(counts)}", f"{counts.max() / len(y):.3f}", level]
            for columns in INPUTS.values():
                X, start = products[columns], time.perf_counter()
                cv = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
                model = one_line(X, level, options.epochs)
                scores = cross_val_score(model, X, y, cv=cv, error_score="raise")
                cells += [f"{np.mean(scores):.3f}", f"{time.perf_counter() - start:.0f}"]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
