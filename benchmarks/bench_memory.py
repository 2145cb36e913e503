"""How much memory does training take beyond the data?

Each case runs in a process of its own, on data of growing size: peak resident memory of all
(Python, libraries, data, work), or, for memory-mapped data, of what is no page of a file. A line
through the peaks gives bytes of memory a byte of data, and a constant. Spare buffers that the
allocator keeps move a peak by 100 MiB either way, so each is the median of several runs; small
data tell nothing.

    OMP_NUM_THREADS=1 python benchmarks/bench_memory.py
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline

from sklearn_mmfusion import (
    FusionTransformer,
    ImageEncoder,
    JointFusionClassifier,
    NeuralClassifier,
    multimodal_frame,
)

MB = 1 << 20
IMAGE, N_FEATURES, N_CLASSES = (64, 64, 3), 740, 10
KINDS = {"uint8": (np.uint8, IMAGE), "float32": (np.float32, (N_FEATURES,))}
KINDS["float64"] = (np.float64, (N_FEATURES,))


class AnonymousPeak(threading.Thread):
    """Largest RssAnon of this process, looked up every few milliseconds."""

    def __init__(self):
        super().__init__(daemon=True)
        self.peak = 0

    def run(self):
        while True:
            self.peak = max(self.peak, status("RssAnon"))
            time.sleep(0.003)


def status(name):
    """Memory of this process in bytes, as the kernel counts it."""
    return int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0]) * 1024


def fill(array):
    """Random numbers, a few rows at a time."""
    rng = np.random.default_rng(0)
    for start in range(0, len(array), 256):
        part = array[start : start + 256]
        whole = array.dtype == np.uint8
        part[:] = rng.integers(0, 256, part.shape, np.uint8) if whole else rng.random(part.shape)
    return array


def shape_of(kind, n_bytes):
    dtype, cell = KINDS[kind]
    return (int(n_bytes // (np.dtype(dtype).itemsize * np.prod(cell))), *cell)


# ------------------------------------------------------------------------------ cases


class Pooled(torch.nn.Module):
    """A network that is done in time: what a wider one needs is the same for any n."""

    def __init__(self, in_channels, image_size, out_features):
        super().__init__()
        self.out_features = out_features
        self.last = torch.nn.Linear(in_channels * 16, out_features)

    def forward(self, pixels):
        pooled = torch.nn.functional.adaptive_avg_pool2d(pixels.float() / 255, 4)
        return self.last(pooled.flatten(1))


def encoder(early_stopping=False):
    own = {"module": Pooled, "batch_size": 256, "early_stopping": early_stopping}
    return ImageEncoder(16, **own, max_epochs=1, random_state=0)


def encoder_fit(X, y):
    encoder(early_stopping=True).fit(X, y)


def encoder_transform(X, y):
    encoder().fit(X[:640], y[:640]).transform(X)


def search(X, y):
    model = make_pipeline(
        FusionTransformer([("image", encoder(), "image")]),
        NeuralClassifier(max_epochs=1, batch_size=256, early_stopping=False, random_state=0),
    )
    cross_validate(model, multimodal_frame(image=X), y, cv=2, error_score="raise")


def joint_fit(X, y):
    model = JointFusionClassifier(
        [("image", encoder(), "image")],
        batch_size=256,
        max_epochs=1,
        early_stopping=False,
        random_state=0,
    )
    model.fit(multimodal_frame(image=X), y)


def classifier_fit(X, y, weight=None):
    model = NeuralClassifier(max_epochs=1, batch_size=256, random_state=0)
    model.fit(X, y, sample_weight=weight)


def classifier_weighted(X, y):
    classifier_fit(X, y, (np.arange(len(y)) % 3 > 0).astype(float))


def classifier_predict(X, y):
    model = NeuralClassifier(max_epochs=1, batch_size=256, early_stopping=False, random_state=0)
    model.fit(X[:1000], y[:1000]).predict_proba(X)


# name: what it does, kind of data
CASES = {
    "ImageEncoder.fit": (encoder_fit, "uint8"),
    "ImageEncoder.transform": (encoder_transform, "uint8"),
    "cross_validate, FusionTransformer and NeuralClassifier": (search, "uint8"),
    "JointFusionClassifier.fit": (joint_fit, "uint8"),
    "NeuralClassifier.fit": (classifier_fit, "float32"),
    "NeuralClassifier.fit, a third of the rows of weight zero": (classifier_weighted, "float32"),
    "NeuralClassifier.predict_proba": (classifier_predict, "float32"),
    "NeuralClassifier.fit, float64": (classifier_fit, "float64"),
}


def measure(name, n_bytes, path):
    """Run one case in this process; print the peak in bytes."""
    run, kind = CASES[name]
    shape = shape_of(kind, n_bytes)
    y = np.arange(shape[0]) % N_CLASSES
    if path:
        X = np.load(path, mmap_mode="r")
        anonymous = AnonymousPeak()
        anonymous.start()
        run(X, y)
        print(json.dumps(anonymous.peak))
    else:
        run(fill(np.empty(shape, KINDS[kind][0])), y)
        # not ru_maxrss, which begins at what the parent had
        print(json.dumps(status("VmHWM")))


def peaks(name, sizes, rounds, folder):
    """Median peak of one case at each size, in fresh processes; mapped where there is a folder."""
    found = []
    for size in sizes:
        path = ""
        if folder:
            kind = CASES[name][1]
            path = f"{folder}/{kind}_{size}.npy"
            if not Path(path).exists():
                shape = shape_of(kind, size * MB)
                fill(np.lib.format.open_memmap(path, "w+", KINDS[kind][0], shape)).flush()
        command = [sys.executable, __file__, "--case", name, "--sizes", str(size), "--path", path]
        found.append(np.median([peak(command) for _ in range(rounds)]))
    return np.array(found)


def peak(command):
    """What one run prints."""
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise RuntimeError(answer.stderr)
    return json.loads(answer.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[200, 400, 800], help="MiB of data")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each case and size")
    parser.add_argument("--only", default="", help="cases that contain this")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        return measure(options.case, options.sizes[0] * MB, options.path)
    heads = " | ".join(f"peak MiB at {size}" for size in options.sizes)
    print(f"| what | data | {heads} | bytes / byte of data | constant, MiB |")
    print("| --- " * (4 + len(options.sizes)) + "|")
    with tempfile.TemporaryDirectory() as folder:
        for name, (_, kind) in CASES.items():
            for where in ("memory", "memory map"):
                if options.only not in f"{name}, {kind}, {where}":
                    continue
                mapped = folder if where == "memory map" else ""
                found = peaks(name, options.sizes, options.rounds, mapped) / MB
                slope, constant = np.polyfit(options.sizes, found, 1)
                figures = " | ".join(f"{each:.0f}" for each in found)
                line = f"| {name} | {kind}, {where} | {figures} | {slope:.2f} | {constant:.0f} |"
                print(line, flush=True)
    return None


if __name__ == "__main__":
    main()
