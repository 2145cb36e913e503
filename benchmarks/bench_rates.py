"""At what rates does one core read, encode, train and hash? The figures that docs/scaling.md uses.

Files of (image, sound) on the local disk, texts in memory; one thread. Rates are by CPU time, so
that other processes on the machine do not change them much; reading is from the page cache.

    OMP_NUM_THREADS=1 python benchmarks/bench_rates.py
"""

import argparse
import multiprocessing
import tempfile
import threading
import time
import wave
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sklearn_mmfusion import (
    AudioEncoder,
    FileArray,
    FusionTransformer,
    ImageEncoder,
    JointFusionClassifier,
    NeuralClassifier,
    TensorArray,
    TextEncoder,
    multimodal_frame,
)

SIDE, RATE, WORDS = 64, 8000, 20  # pixels, samples of one second, words a text
SETTINGS = {"max_epochs": 4, "early_stopping": False, "batch_size": 256, "random_state": 0}


def write_files(folder, n_rows, rng):
    """One image as PNG and as JPEG (a smooth one, as photographs are) and one sound a row."""
    small = rng.integers(0, 256, (n_rows, 8, 8, 3), dtype=np.uint8)
    for i in range(n_rows):
        image = Image.fromarray(small[i]).resize((224, 224), Image.BICUBIC)
        image.save(folder / f"{i}.jpg", quality=90)
        image.resize((SIDE, SIDE)).save(folder / f"{i}.png")
        with wave.open(str(folder / f"{i}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes(rng.integers(-9999, 9999, RATE, dtype=np.int16).tobytes())


def frame(folder, n_rows, rng):
    """The files as columns that are read when a batch asks for them, and texts."""
    vocabulary = np.array([f"word{i}" for i in range(5000)])
    return multimodal_frame(
        image=FileArray([f"{i}.png" for i in range(n_rows)], root=folder),
        text=[" ".join(rng.choice(vocabulary, WORDS)) for _ in range(n_rows)],
        audio=FileArray([f"{i}.wav" for i in range(n_rows)], root=folder),
    )


def rate(call, amount):
    """Amount a CPU second: the median of three calls."""
    seconds = []
    for _ in range(3):
        start = time.process_time()
        call()
        seconds.append(time.process_time() - start)
    return amount / np.median(seconds)


def head_memory(path):
    """MB a fit of the head adds to a process, the mapped file apart (Linux)."""

    def own():
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024

    X = np.load(path, mmap_mode="r")
    y = np.random.default_rng(0).integers(0, 10, len(X))
    model = NeuralClassifier(**{**SETTINGS, "max_epochs": 1})
    model.fit(np.array(X[:1000]), y[:1000])  # what the first fit loads
    before, peak, done = own(), [0.0], threading.Event()

    def watch():
        while not done.wait(0.01):
            peak[0] = max(peak[0], own())

    watcher = threading.Thread(target=watch)
    watcher.start()
    model.fit(X, y)
    done.set()
    watcher.join()
    return peak[0] - before


def file_rates(folder, n_rows):
    for what, suffix in {
        "read and decode JPEG 224 x 224": "jpg",
        f"read and decode PNG {SIDE} x {SIDE}": "png",
        "read and decode WAV, 1 s at 8 kHz": "wav",
    }.items():
        files = FileArray([f"{i}.{suffix}" for i in range(n_rows)], root=folder)
        yield what, rate(files.decode, n_rows)


def encoder_rates(X, y):
    """Rows of the fused transform, decoding included; rows of an epoch of training."""
    encoders = [
        ("image", ImageEncoder(**SETTINGS), "image"),
        ("text", TextEncoder(**SETTINGS), "text"),
        ("audio", AudioEncoder(sample_rate=RATE, **SETTINGS), "audio"),
    ]
    fusion = FusionTransformer(encoders).fit(X, y)
    for name, encoder, column in fusion.transformers_:
        yield f"{name} encoder, transform", rate(lambda: encoder.transform(X[column]), len(X))  # noqa: B023
    yield "all three, transform", rate(lambda: fusion.transform(X), len(X))
    joint = JointFusionClassifier(encoders, **SETTINGS)
    epochs = SETTINGS["max_epochs"]
    yield "joint network, rows trained (one epoch)", rate(lambda: joint.fit(X, y), epochs * len(X))
    yield "joint network, predict", rate(lambda: joint.predict(X), len(X))


def head_rates(folder, n_rows, rng):
    """Rows of 740 features in a memory map."""
    shard = np.lib.format.open_memmap(folder / "shard.npy", "w+", np.float32, (n_rows, 740))
    values = rng.normal(size=(n_rows, 740)).astype(np.float32)

    def write():
        shard[:] = values
        shard.flush()

    yield "write float32 features, 740 per row", rate(write, n_rows)
    X, y = np.load(folder / "shard.npy", mmap_mode="r"), rng.integers(0, 10, n_rows)
    seconds = {}
    for epochs in (1, 3):
        model = NeuralClassifier(**{**SETTINGS, "max_epochs": epochs})
        seconds[epochs] = 1 / rate(lambda: model.fit(X, y), 1)  # noqa: B023
    epoch = (seconds[3] - seconds[1]) / 2
    yield "classifier head, rows trained (one epoch)", n_rows / epoch
    yield "classifier head, scales and linear start", n_rows / (seconds[1] - epoch)
    yield "classifier head, predict", rate(lambda: model.predict(X), n_rows)
    yield "digests of 740 features", rate(lambda: TensorArray(X).digests(), n_rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--head-rows", type=int, default=20_000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    print("| what | rows / CPU s | CPU hours per million rows |")
    print("| --- " * 3 + "|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder, args.rows, rng)
        X, y = frame(folder, args.rows, rng), rng.integers(0, 10, args.rows)
        for rates in (
            file_rates(folder, args.rows),
            encoder_rates(X, y),
            head_rates(folder, args.head_rows, rng),
        ):
            for what, rows in rates:
                print(f"| {what} | {rows:.0f} | {1e6 / rows / 3600:.3f} |", flush=True)
        for suffix in ("jpg", "png", "wav"):
            sizes = [path.stat().st_size for path in folder.glob(f"*.{suffix}")]
            print(f"| bytes of a {suffix} | {np.mean(sizes):.0f} |  |")
        size = (folder / "shard.npy").stat().st_size / 2**20
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
            added = fresh.submit(head_memory, folder / "shard.npy").result()
        print(f"| MB that a fit of the head takes, file of {size:.0f} | {added:.0f} |  |")


if __name__ == "__main__":
    main()
