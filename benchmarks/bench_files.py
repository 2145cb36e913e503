"""What do files cost, compared with arrays and with a loop written by hand?

Memory: peak of anonymous memory (RssAnon: pages of mapped files do not count) of fit and transform,
without what transform returns, with one process per case. Speed: seconds of an epoch on files, on
files that `cache_folder` keeps, on arrays, and of a plain loop whose pool of threads decodes the
next batch meanwhile. All take turns in one process, round by round. Frames of clips are computed
before the first epoch, and are kept if they are small; the loop computes them in every epoch.

    OMP_NUM_THREADS=1 python benchmarks/bench_files.py memory speed (--n, --rounds)
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from functools import partial
from pathlib import Path

import numpy as np
import torch
from _paired import as_ratio
from bench_memory import AnonymousPeak
from PIL import Image
from scipy.io import wavfile
from skorch.callbacks import Callback

from sklearn_mmfusion import AudioEncoder, ImageEncoder
from sklearn_mmfusion.containers.file_array import n_threads

MB = 1 << 20
PHOTO, SIZE, RATE = (96, 128), (32, 32), 8000
BATCH, N_CLASSES = 64, 10
PARTS = "first epoch", "second epoch", "whole fit"
TRAINING = {"batch_size": BATCH, "early_stopping": False, "random_state": 0}


def make_files(kind, n, folder):
    """Photographs of smooth noise, or clips of 0.4 to 0.6 s; returns their paths."""
    rng, suffix = np.random.default_rng(0), {"image": "jpg", "audio": "wav"}[kind]
    paths = [f"{folder}/{row}.{suffix}" for row in range(n)]
    for path in paths:
        if kind == "image":
            coarse = rng.integers(0, 256, (12, 16, 3), np.uint8)
            Image.fromarray(coarse).resize(PHOTO[::-1]).save(path)
        else:
            samples = rng.normal(0, 3000, rng.integers(3200, 4800))
            wavfile.write(path, RATE, samples.astype(np.int16))
    return paths


def encoder(kind, folder=None, **params):
    options = {"file_params": {"cache_folder": folder} if folder else None, **TRAINING, **params}
    if kind == "image":
        return ImageEncoder(64, image_size=SIZE, **options)
    return AudioEncoder(64, sample_rate=RATE, **options)


# ------------------------------------------------------------------------------ memory


def measure(kind, folder, cache):
    """Print the peak of one fit and transform in this process, without what transform returns."""
    paths = sorted(map(str, Path(folder).iterdir()))
    network = {"channels": (8,)} if kind == "image" else {}
    peak = AnonymousPeak()
    peak.start()
    model = encoder(kind, cache, max_epochs=1, **network)
    out = model.fit(paths, np.arange(len(paths)) % N_CLASSES).transform(paths)
    print(json.dumps(peak.peak - out.nbytes))


def memory(options):
    print("| cells | cache_folder | n | peak MiB | n | peak MiB | difference |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for kind in options.kinds:
        with tempfile.TemporaryDirectory() as folder:
            counts = options.n // 10, options.n
            for count in counts:
                Path(folder, str(count)).mkdir()
                make_files(kind, count, f"{folder}/{count}")
            for cached in (False, True):
                cells = [kind, "yes" if cached else "no"]
                peaks = []
                for count in counts:
                    cache = f"{folder}/cache{count}" if cached else ""
                    command = ["--case", kind, "--folder", f"{folder}/{count}", "--cache", cache]
                    done = subprocess.run(
                        [sys.executable, __file__, *command], stdout=subprocess.PIPE, check=True
                    )
                    peaks.append(json.loads(done.stdout.splitlines()[-1]) / MB)
                    cells += [str(count), f"{peaks[-1]:.0f}"]
                print("|", " | ".join([*cells, f"{peaks[1] - peaks[0]:.0f}"]), "|", flush=True)


# ------------------------------------------------------------------------------ speed


def now():
    return np.array([time.perf_counter(), time.process_time()])


class Epochs(Callback):
    """Wall and CPU seconds of each epoch."""

    seconds = []  # of all: nets clone their callbacks

    def on_epoch_begin(self, net, **kwargs):
        self.start = now()

    def on_epoch_end(self, net, **kwargs):
        self.seconds.append(now() - self.start)


def fit_epochs(kind, X, y, folder=None):
    """Wall and CPU seconds of both epochs and of the whole fit, and the encoder."""
    Epochs.seconds.clear()
    start = now()
    model = encoder(kind, folder, max_epochs=2, callbacks=[Epochs()]).fit(X, y)
    return [*Epochs.seconds, now() - start], model


def decode(path):
    with Image.open(path) as image:
        return np.asarray(image.resize(SIZE[::-1], Image.Resampling.BILINEAR))


def as_pixels(images):
    return {"pixels": torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)}


def clip_reader(front_end, path):
    """Log-mel frames of one clip, (n_frames, n_mels)."""
    return front_end.transform([wavfile.read(path)[1]])[0]


def as_frames(clips):
    lengths = torch.tensor([len(clip) for clip in clips])
    return {"frames": torch.from_numpy(np.concatenate(clips)), "frames_lengths": lengths}


def loop_epochs(kind, paths, y, fitted):
    """A plain loop that decodes in every epoch; what `fit_epochs` returns, of its network."""
    read, join = decode, as_pixels
    if kind == "audio":
        read, join = partial(clip_reader, fitted.front_end_), as_frames
    network = deepcopy(fitted.module_).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.01)
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    times, target, rng = [now()], torch.from_numpy(y), np.random.default_rng(0)
    with ThreadPoolExecutor(n_threads()) as pool:
        for _ in range(2):
            batches = np.array_split(rng.permutation(len(y)), len(y) // BATCH)
            waiting = [pool.map(read, [paths[row] for row in rows]) for rows in batches[:2]]
            for number, rows in enumerate(batches):
                batch = join(list(waiting[number]))
                if number + 2 < len(batches):
                    waiting.append(pool.map(read, [paths[row] for row in batches[number + 2]]))
                optimizer.zero_grad(set_to_none=True)
                loss_of(network(**batch), target[rows]).backward()
                optimizer.step()
            times.append(now())
    return [times[1] - times[0], times[2] - times[1], times[2] - times[0]], network


def speed(options):
    print("| cells | what | wall seconds | ratio of wall | ratio of CPU | to |")
    print("| --- | --- | ---: | ---: | ---: | --- |")
    for kind in options.kinds:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "files").mkdir()
            paths = make_files(kind, options.n, f"{folder}/files")
            y = np.arange(len(paths)) % N_CLASSES
            if kind == "image":
                arrays = np.stack([decode(path) for path in paths])
            else:
                arrays = [wavfile.read(path)[1] for path in paths]
            cache = f"{folder}/cache"
            _, fitted = fit_epochs(kind, paths, y, cache)
            contenders = {
                "files": partial(fit_epochs, kind, paths, y),
                "cached": partial(fit_epochs, kind, paths, y, cache),
                "arrays": partial(fit_epochs, kind, arrays, y),
                "loop": partial(loop_epochs, kind, paths, y, fitted),
            }
            rounds = [{n: run()[0] for n, run in contenders.items()} for _ in range(options.rounds)]
        pairs = [("files", 0, "loop"), ("files", 2, "loop"), ("cached", 1, "arrays")]
        pairs += [("files", 1, "arrays"), ("cached", 2, "arrays"), ("files", 2, "arrays")]
        for name, part, other in pairs:
            seconds = np.array([own[name][part] for own in rounds])
            ratios = seconds / [own[other][part] for own in rounds]
            columns = [kind, f"{name}, {PARTS[part]}", f"{np.median(seconds[:, 0]):.2f}"]
            columns += [as_ratio(ratios[:, 0]), as_ratio(ratios[:, 1]), other]
            print("|", " | ".join(columns), "|", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["memory", "speed"])
    parser.add_argument("--kinds", nargs="+", default=["image", "audio"])
    parser.add_argument("--n", type=int, default=2000, help="files; also a tenth, for memory")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--cache", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        return measure(options.case, options.folder, options.cache)
    for part in options.parts:
        {"memory": memory, "speed": speed}[part](options)


if __name__ == "__main__":
    main()
