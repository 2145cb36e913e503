"""What do joblib's backends gain for a search, and are the scores the same?

A grid of four settings on three folds over image, text and sound; one torch thread a worker. Ray is
left out where it is not installed; its files go to a folder of their own, deleted at the end.

    OMP_NUM_THREADS=1 python benchmarks/bench_backends.py
"""

import argparse
import os
import tempfile
import time
from contextlib import ExitStack, contextmanager

import joblib
import numpy as np
import torch
from joblib import Parallel, delayed
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from sklearn_mmfusion import (
    AudioEncoder,
    FusionTransformer,
    ImageEncoder,
    NeuralClassifier,
    TextEncoder,
    load_multimodal_digits,
)

GRID = {"fusiontransformer__image__n_components": [32, 128], "neuralclassifier__lr": [1e-3, 3e-3]}


def make_search(epochs):
    """A search over encoders and head."""
    params = {"max_epochs": epochs, "random_state": 0}
    encoders = [
        ("image", ImageEncoder(**params), "image"),
        ("text", TextEncoder(**params), "text"),
        ("audio", AudioEncoder(sample_rate=8000, **params), "audio"),
    ]
    model = make_pipeline(FusionTransformer(encoders), NeuralClassifier(**params))
    return GridSearchCV(model, GRID, cv=3, refit=False)


def warm_up():
    """Import what a search needs."""
    make_search(1)
    time.sleep(0.5)


def process():
    """Number of this process, returned late enough for others to take the next task."""
    time.sleep(0.5)
    return os.getpid()


@contextmanager
def serial():
    yield {"n_jobs": 1}


@contextmanager
def loky():
    yield {"backend": "loky", "n_jobs": 2}


@contextmanager
def dask():
    from distributed import Client, LocalCluster

    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(processes=True, local_directory=folder, **options) as cluster,
        Client(cluster),
    ):
        yield {"backend": "dask"}


@contextmanager
def ray():
    import ray
    from ray.util.joblib import register_ray

    one_thread = {"env_vars": {"OMP_NUM_THREADS": "1"}}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        ray.init(
            num_cpus=2, _temp_dir=folder, include_dashboard=False, runtime_env=one_thread,
            log_to_driver=False,
        )  # fmt: skip
        stack.callback(ray.shutdown)
        register_ray()
        yield {"backend": "ray", "n_jobs": 2}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=4)
    names = ["loky", "dask", "ray"]
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="beside serial")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = load_multimodal_digits()
    X, y = data.data.iloc[: args.rows], data.target[: args.rows]
    expected = baseline = None
    print("| backend | processes | start s | search s | speed-up | scores of n_jobs=1 |")
    print("| --- " * 6 + "|")
    for backend in (serial, *(b for b in (loky, dask, ray) if b.__name__ in args.only)):
        start = time.perf_counter()
        try:
            with backend() as options, joblib.parallel_config(**options):
                # the workers import the package before the clock of the search starts
                Parallel()(delayed(warm_up)() for _ in range(4))
                workers = set(Parallel()(delayed(process)() for _ in range(4)))
                started = time.perf_counter()
                results = make_search(args.epochs).fit(X, y).cv_results_
                seconds = time.perf_counter() - started
        except ImportError as error:
            print(f"| {backend.__name__} | not installed: {error} |  |  |  |  |")
            continue
        scores = np.stack([results[f"split{i}_test_score"] for i in range(3)])
        if expected is None:
            expected, baseline = scores, seconds
        print(
            f"| {backend.__name__} | {len(workers)} | {started - start:.1f} | {seconds:.1f} | "
            f"{baseline / seconds:.2f} | {'equal' if np.array_equal(scores, expected) else 'NO'} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
