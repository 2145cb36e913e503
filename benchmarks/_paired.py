"""Contenders run in turn and compared round by round, mostly in processes of their own.

A contender is a function that gets ready and returns another one, which does the work once and
returns a dict with "seconds" of CPU time and whatever else is worth a column. Each lives in its
own process, since some of what is compared (memory allocators, thread pools) belongs to a process.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from _data import SIZES, save_data


def serve(contenders):
    """Be a worker: ``script.py --serve NAME SIZE``; do one round for each line read."""
    name, size = sys.argv[2:4]
    work = contenders[name](size)
    for _ in sys.stdin:
        print("result", json.dumps(work()), flush=True)


class Worker:
    """A contender in its own process."""

    def __init__(self, script, name, size, python=sys.executable, label=None):
        self.name = label or name
        self.process = subprocess.Popen(
            [python, script, "--serve", name, size],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def work(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("result "):
                return json.loads(line.removeprefix("result "))
        raise RuntimeError(f"{self.name}: the worker ended without a result")

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def parse(contenders):
    """Options of the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=list(contenders))
    parser.add_argument("--keras-python")
    return parser.parse_args()


@contextmanager
def start(script, contenders, size, options, keras_job):
    """Workers of one size, the first of them what the others are compared with."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        os.environ["BENCH_DATA"] = folder
        save_data(size, folder)
        first, *others = contenders
        names = [first, *[n for n in others if not options.only or n in options.only]]
        workers = [Worker(script, name, size) for name in names]
        if options.keras_python:
            keras = Path(__file__).with_name("_keras.py")
            workers.append(Worker(keras, keras_job, size, options.keras_python, label="keras"))
        for worker in workers:
            stack.callback(worker.close)
        yield workers


def compare(started, options):
    """Run all workers in turn; return their results and their ratios to the first, by name.

    The first round does not count. A ratio is taken within its round, so that a machine that slows
    down slows both.
    """
    with started as workers:
        told = [[worker.work() for worker in workers] for _ in range(options.rounds + 1)][1:]
        names = [worker.name for worker in workers]
    results = {name: [r[i] for r in told] for i, name in enumerate(names)}
    seconds = np.array([[r["seconds"] for r in one] for one in told])
    return results, dict(zip(names, (seconds / seconds[:, :1]).T, strict=True))


def as_ratio(values):
    """Median and quartiles of ratios, for a table."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def cpu_seconds(calls, rounds):
    """Time calls of this process in turn, round by round, after one round that does not count.

    Parameters
    ----------
    calls : dict of str to callable
    rounds : int

    Returns
    -------
    seconds : dict of str to ndarray of shape (rounds,)
    """
    seconds = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            seconds[name].append(time.process_time() - start)
    return {name: np.array(own[1:]) for name, own in seconds.items()}
