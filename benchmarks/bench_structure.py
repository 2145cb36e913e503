"""How much of the package does one fit go through, and are predictions still the same bits?

    OMP_NUM_THREADS=1 python benchmarks/bench_structure.py [--save FILE.npz | --compare FILE.npz]

Prints, for one small fit at each level, how many files of the package it enters, how many calls
it makes into them, and how many of their frames are on the stack at once at the deepest point
(comprehensions and lambdas not counted). The feature level is traced over scikit-learn's own
transformers, the joint level over an image and a table of numbers.
``--save`` keeps the seeded predictions of those models, ``--compare`` reports where those of
another checkout differ. Bits repeat only on one machine, at one thread count.
"""

import argparse
import hashlib
import sys
import threading
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import sklearn_mmfusion as mm

PACKAGE = str(Path(mm.__file__).parent)
CLASSES = np.array(["ash", "elm", "oak"])


class Tracer:
    """Counts the package's files, calls and simultaneous frames while it is installed."""

    def __init__(self):
        self.files, self.n_calls, self.depth, self.deepest = set(), 0, 0, 0
        self.path, self.deepest_path = [], []

    def __call__(self, frame, event, arg):
        code = frame.f_code
        if not code.co_filename.startswith(PACKAGE) or code.co_name.startswith("<"):
            return
        if event == "call":
            self.files.add(code.co_filename)
            self.n_calls += 1
            self.path.append(f"{Path(code.co_filename).name}:{code.co_name}")
            if len(self.path) > self.deepest:
                self.deepest, self.deepest_path = len(self.path), list(self.path)
        elif event == "return" and self.path:
            self.path.pop()

    def __enter__(self):
        sys.setprofile(self)
        threading.setprofile(self)
        return self

    def __exit__(self, *error):
        sys.setprofile(None)
        threading.setprofile(None)


def make_data(n=90, seed=0):
    """Images, texts and waveforms of three classes, some cells absent."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % 3
    tones = np.sin(np.arange(800) * (0.2 + 0.2 * codes[:, None]))
    images = rng.normal(size=(n, 12, 12)) + codes[:, None, None]
    words = [" ".join(rng.choice(["leaf", "bark", CLASSES[c]], 3)) for c in codes]
    X = mm.multimodal_frame(
        image=images.astype(np.float32),
        text=words,
        audio=(tones + rng.normal(size=(n, 800))).astype(np.float32),
    )
    for column, rows in (("image", [1, 5]), ("text", [2, 9]), ("audio", [0, 3])):
        X.loc[rows, column] = None if column == "text" else X[column].dtype.na_value
    return X, CLASSES[codes]


def triples():
    small = {"max_epochs": 2, "n_components": 8}
    return [
        ("image", mm.ImageEncoder(**small), "image"),
        ("text", mm.TextEncoder(**small), "text"),
        ("audio", mm.AudioEncoder(sample_rate=8000, **small), "audio"),
    ]


def traced_models():
    scaled = ("audio", StandardScaler(), "audio")
    fused = [scaled, ("text", TfidfVectorizer(), "text")]
    return {
        "FusionTransformer": mm.FusionTransformer(fused, random_state=0),
        "ImageEncoder": mm.ImageEncoder(max_epochs=2, n_components=8, random_state=0),
        "JointFusionClassifier": mm.JointFusionClassifier(
            [triples()[0], scaled], max_epochs=2, random_state=0
        ),
    }


def predicting_models():
    features = mm.FusionTransformer(triples(), random_state=0)
    head = mm.NeuralClassifier(max_epochs=2, random_state=0)
    return {
        "feature": make_pipeline(features, head),
        "late": mm.LateFusionClassifier(triples(), random_state=0),
        "joint": mm.JointFusionClassifier(triples(), max_epochs=2, random_state=0),
    }


def trace(name, model, X, y):
    with Tracer() as tracer:
        model.fit(X["image"] if name == "ImageEncoder" else X, y)
    print(f"| {name}.fit | {len(tracer.files)} | {tracer.n_calls} | {tracer.deepest} |")
    return tracer


def predict(X, y):
    """Probabilities of the three seeded models for all rows."""
    return {n: model.fit(X, y).predict_proba(X) for n, model in predicting_models().items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--save", metavar="FILE", help="keep the seeded predictions")
    parser.add_argument("--compare", metavar="FILE", help="compare with predictions kept before")
    parser.add_argument("--stack", action="store_true", help="print the deepest stack of each fit")
    options = parser.parse_args()
    X, y = make_data()
    predictions = predict(X, y)  # first: lazy imports are not part of what is counted
    print("| fit | files | calls | frames at once |\n| --- | ---: | ---: | ---: |")
    stacks = {}
    for name, model in traced_models().items():
        stacks[name] = trace(name, model, X, y).deepest_path
    if options.stack:
        for name, path in stacks.items():
            print(f"\n{name}: " + " > ".join(path))
    print("\n| seeded predictions | sha256 | first row |\n| --- | --- | --- |")
    for name, proba in predictions.items():
        digest = hashlib.sha256(np.ascontiguousarray(proba)).hexdigest()[:12]
        print(f"| {name} | {digest} | {' '.join(f'{p:.6f}' for p in proba[0])} |")
    if options.save:
        np.savez(options.save, **predictions)
    if options.compare:
        with np.load(options.compare) as before:
            for name, proba in predictions.items():
                off = np.abs(proba - before[name]).max()
                print(f"{name}: " + ("equal bits" if off == 0 else f"differs by up to {off:.2g}"))


if __name__ == "__main__":
    main()
