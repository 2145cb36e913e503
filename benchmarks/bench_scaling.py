"""Does the cost grow in line with the number of rows?

CPU seconds of one epoch, of what fitting needs besides (checks, scales, the linear start,
vocabularies) and of prediction, a row; the first and the last divided by those at the row above:
1 where cost is linear. Beside a hand-written loop (AdamW, batches cut by index) where that is
cheap.

    OMP_NUM_THREADS=1 python benchmarks/bench_scaling.py
"""

import argparse
import time

import numpy as np
import torch
from skorch.callbacks import Callback

from sklearn_mmfusion import (
    ImageEncoder,
    JointFusionClassifier,
    NeuralClassifier,
    TextEncoder,
    multimodal_frame,
)
from sklearn_mmfusion.modules.perceptron import MLP

N_FEATURES, N_CLASSES, HAND_ROWS = 740, 10, 100_000


class Stopwatch(Callback):
    """CPU seconds of the epochs."""

    seconds = 0.0

    def on_epoch_begin(self, net, **kwargs):
        self.start = time.process_time()

    def on_epoch_end(self, net, **kwargs):
        Stopwatch.seconds += time.process_time() - self.start


def features(n_rows):
    rng = np.random.default_rng(0)
    X = np.empty((n_rows, N_FEATURES), np.float32)
    for start in range(0, n_rows, 1000):
        rng.standard_normal(out=X[start : start + 1000], dtype=np.float32)
    return X


def classifier(**params):
    return NeuralClassifier(**params)


def modalities(n_rows):
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefgh"), 5)) for _ in range(2000)]
    texts = [" ".join(rng.choice(words, 5)) for _ in range(n_rows)]
    images = rng.integers(0, 256, (n_rows, 32, 32, 3), np.uint8)
    return multimodal_frame(image=images, text=texts)


def joint(**params):
    encoders = [("image", ImageEncoder(128), "image"), ("text", TextEncoder(), "text")]
    return JointFusionClassifier(encoders, **params)


def cost(make, X, y):
    """CPU seconds of one epoch, of the rest of fit, and of prediction."""
    Stopwatch.seconds, start = 0.0, time.process_time()
    model = make(
        max_epochs=1, batch_size=64, early_stopping=False, callbacks=[Stopwatch()], random_state=0
    ).fit(X, y)
    fitted = time.process_time()
    model.predict_proba(X)
    return Stopwatch.seconds, fitted - start - Stopwatch.seconds, time.process_time() - fitted


def hand_epoch(X, y):
    """CPU seconds of an epoch of a plain loop over the same network."""
    X, y = torch.from_numpy(X), torch.from_numpy(y)
    network = MLP(N_FEATURES, N_CLASSES, hidden_layer_sizes=(256, 128), dropout=0.3)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    start = time.process_time()
    for rows in torch.randperm(len(X)).split(64):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(X[rows]), y[rows]).backward()
        optimizer.step()
    return time.process_time() - start


def measure(make, make_data, n_rows):
    """Medians over more rounds where there are few rows: epoch, rest, prediction, hand."""
    X, y = make_data(n_rows), np.arange(n_rows) % N_CLASSES
    has_hand = make is classifier and n_rows <= HAND_ROWS
    rounds = []
    for _ in range(int(np.clip(20_000 // n_rows, 1, 9))):
        hand = hand_epoch(X, y) if has_hand else np.nan
        rounds.append([*cost(make, X, y), hand])
    return 1e6 * np.median(rounds, axis=0) / n_rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", type=int, nargs="*", default=[10**k for k in range(3, 7)])
    parser.add_argument("--joint", type=int, nargs="*", default=[100, 1000, 10_000])
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| what | rows | epoch, µs a row | rest of fit, µs a row | prediction, µs a row | epoch / "
        "row above | prediction / row above | epoch / hand loop |\n" + "| --- " * 8 + "|"
    )
    for what, make, make_data, sizes in (
        (f"NeuralClassifier, {N_FEATURES} features", classifier, features, options.features),
        ("joint, image 32x32x3 and text", joint, modalities, options.joint),
    ):
        measure(make, make_data, 200)  # what only the first call pays
        above = None
        for n_rows in sizes:
            found = measure(make, make_data, n_rows)
            epoch, rest, prediction, hand = found
            growth = ["", ""] if above is None else [f"{q:.2f}" for q in (found / above)[[0, 2]]]
            beside = "" if np.isnan(hand) else f"{epoch / hand:.2f}"
            cells = [f"{n_rows}", f"{epoch:.1f}", f"{rest:.1f}", f"{prediction:.1f}"]
            print(f"| {what} | " + " | ".join([*cells, *growth, beside]) + " |", flush=True)
            above = found


if __name__ == "__main__":
    main()
