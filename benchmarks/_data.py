"""Made-up data of the reference network at its three sizes (see `_reference.py`); numpy only."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

N_CLASSES, N_WORDS, N_FEATURES = 10, 20_000, 740


@dataclass(frozen=True)
class Size:
    """How large one row is, and how many rows and passes a round trains on."""

    n_rows: int
    n_epochs: int
    n_test: int
    predict_batch: int
    pixels: int = 0
    n_tokens: int = 0
    frame: int = 0


SIZES = {
    "SEED": Size(96, 3, 192, predict_batch=32, pixels=224, n_tokens=64, frame=320),
    "SMALL": Size(4096, 1, 2048, predict_batch=256, pixels=32, n_tokens=32, frame=64),
    "FEAT": Size(20_000, 2, 50_000, predict_batch=256),
}
BATCH_SIZE, LR = 32, 1e-3


def save_data(size, folder):
    """Write training and test rows to files, for workers that have made nothing but their network.

    What a process has freed before decides how its allocator goes on.
    """
    for part, n_rows in (("train", SIZES[size].n_rows), ("test", SIZES[size].n_test)):
        arrays, y = make_data(size, n_rows, seed=len(part))
        np.savez(Path(folder, f"{size}-{part}.npz"), y=y, **arrays)


def load_data(size, part):
    """Arrays by modality, and classes, of "train" or "test"."""
    with np.load(Path(os.environ["BENCH_DATA"], f"{size}-{part}.npz")) as stored:
        arrays = dict(stored)
    return arrays, arrays.pop("y")


def make_data(size, n_rows, seed):
    """Arrays by modality and classes; each modality depends on the class."""
    size, rng = SIZES[size], np.random.default_rng([seed, n_rows])
    shared = np.random.default_rng(0)  # what the classes look like is the same for all rows
    y = rng.integers(0, N_CLASSES, n_rows)
    if not size.pixels:
        centers = shared.normal(size=(N_CLASSES, N_FEATURES)) * 0.15
        X = rng.normal(size=(n_rows, N_FEATURES)) + centers[y]
        return {"features": X.astype(np.float32)}, y
    coarse = shared.normal(size=(N_CLASSES, 8, 8, 3)) * 40
    pattern = coarse.repeat(size.pixels // 8, 1).repeat(size.pixels // 8, 2)
    image = rng.integers(0, 256, (n_rows, size.pixels, size.pixels, 3)) * 0.5 + 64 + pattern[y]
    words = shared.integers(0, N_WORDS, (N_CLASSES, 40))
    tokens = rng.integers(0, N_WORDS, (n_rows, size.n_tokens))
    telling = rng.random(tokens.shape) < 0.3
    picked = words[y[:, None], rng.integers(0, 40, tokens.shape)]
    tone = shared.normal(size=(N_CLASSES, size.frame)) * 0.3
    frames = rng.normal(size=(n_rows, 50, size.frame)) + tone[y][:, None]
    return {
        "image": image.clip(0, 255).astype(np.uint8),
        "tokens": np.where(telling, picked, tokens).astype(np.int32),
        "frames": frames.astype(np.float32),
    }, y
