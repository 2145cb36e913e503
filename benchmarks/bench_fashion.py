"""From a CSV file and a folder of photographs to cross-validated scores, with damaged files.

Copies the `fashion` data set to a temporary folder, damages five photographs, and cross-validates
a classifier of the color from photograph and title on the training rows, in the ten lines of
`docs/files.md`. Then fits once without and twice with `cache_folder`, and compares predictions.

    OMP_NUM_THREADS=1 python benchmarks/bench_fashion.py ../shared/data/fashion --epochs 5
"""

import argparse
import shutil
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline

from sklearn_mmfusion import FusionTransformer, ImageEncoder, NeuralClassifier, TextEncoder

FOLDS = 3


def damage(folder, paths):
    """Damage five photographs in five ways."""
    cut, empty, text, gone, noise = (folder / path for path in paths)
    cut.write_bytes(cut.read_bytes()[:400])
    empty.write_bytes(b"")
    text.write_bytes(b"<html>404: not found</html>")
    gone.unlink()
    noise.write_bytes(np.random.default_rng(0).bytes(2000))


def make_model(folder, epochs, **file_params):
    settings = {"max_epochs": epochs, "random_state": 0}
    file_params = {"root": str(folder), "on_error": "missing", **file_params}
    photo = ImageEncoder(file_params=file_params, **settings)
    encoders = [("photo", photo, "photo"), ("title", TextEncoder(**settings), "title")]
    return make_pipeline(FusionTransformer(encoders), NeuralClassifier(random_state=0))


def timed(function, *arguments, **keywords):
    start = time.perf_counter()
    result = function(*arguments, **keywords)
    return result, time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of products.csv")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rows", type=int, help="number of training rows; default: all")
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)  # the damaged files
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "fashion")
        shutil.copytree(options.folder, folder)
        products = pd.read_csv(folder / "products.csv")
        train = products[products["split"] == "train"][: options.rows]
        damage(folder, train["photo"].iloc[:50:10])
        X, y = train[["photo", "title"]], train["colour"]
        model = make_model(folder, options.epochs)
        scores, seconds = timed(cross_validate, model, X, y, cv=FOLDS)
        mean, sd = scores["test_score"].mean(), scores["test_score"].std()
        print(f"accuracy {mean:.3f}, sd {sd:.3f} over {FOLDS} folds, {seconds:.0f} s\n")
        print("| fit and predict | seconds | largest difference of probabilities |")
        print("| --- | --- | --- |")
        expected = None
        cache = {"cache_folder": f"{temporary}/cache"}
        fits = [("without a cache", {}), ("filling `cache_folder`", cache)]
        for label, file_params in [*fits, ("reading `cache_folder`", cache)]:
            model = make_model(folder, options.epochs, **file_params)
            _, seconds = timed(model.fit, X, y)
            found, more = timed(model.predict_proba, X)
            expected = found if expected is None else expected
            print(f"| {label} | {seconds + more:.1f} | {np.abs(found - expected).max():.1g} |")


if __name__ == "__main__":
    main()
