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
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from _data import SIZES, save_data
from scipy.stats import t


def serve(contenders):
    """Be a worker: ``script.py --serve NAME SIZE``; do one round for each line read."""
    name, size = sys.argv[2:4]
    work = contenders[name](size)
    for _ in sys.stdin:
        print("result", json.dumps(work()), flush=True)


class Contender:
    """What `serve` runs, in a process of its own for each round."""

    def __init__(self, script, name, size, python=sys.executable, label=None):
        self.name, self.command = label or name, [python, script, "--serve", name, size]

    def work_twice(self):
        """What the work returned the first and the second time in one process."""
        process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        measured, _ = process.communicate("\n\n")
        lines = [line for line in measured.splitlines() if line.startswith("result ")]
        if len(lines) != 2:
            raise RuntimeError(f"{self.name}: the worker ended without a result")
        return [json.loads(line.removeprefix("result ")) for line in lines]


def parse(contenders):
    """Options of the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=list(contenders))
    parser.add_argument("--keras-python")
    return parser.parse_args()


@contextmanager
def gather(script, names, size, options, keras_job):
    """Contenders of one size, the first of them what the others are compared with."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BENCH_DATA"] = folder
        save_data(size, folder)
        first, *others = names
        names = [first, *[n for n in others if not options.only or n in options.only]]
        contenders = [Contender(script, name, size) for name in names]
        if options.keras_python:
            keras = Path(__file__).with_name("_keras.py")
            python = options.keras_python
            contenders.append(Contender(keras, keras_job, size, python, label="keras"))
        yield contenders


def compare(gathered, options):
    """Run all contenders in turn; return what they measured, and ratios to the first one, by name.

    Each round starts every contender in a new process, since where its memory happens to lie makes
    a difference of several percent, and lets it work twice. The first time pays for what a process
    does once: tracing a graph, pages of memory from the system (the C allocator of a loop that
    leaves it as it is asks for fewer of them once blocks of some size have been freed). A ratio is
    taken within its round, so that a machine that slows down slows both.

    Returns
    -------
    results : dict of str to list of dict
        Of the second times.
    again, first : dict of str to ndarray of shape (rounds,)
        Ratios of the second times, and of the first times.
    """
    with gathered as contenders:
        measured = [[c.work_twice() for c in contenders] for _ in range(options.rounds)]
        names = [contender.name for contender in contenders]
    results = {name: [r[i][1] for r in measured] for i, name in enumerate(names)}
    seconds = np.array([[[w["seconds"] for w in one] for one in row] for row in measured])
    ratios = seconds / seconds[:, :1]  # (rounds, contenders, 2)
    first, again = (dict(zip(names, ratios[..., i].T, strict=True)) for i in (0, 1))
    return results, again, first


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


# ------------------------------------------------------------------------------ folds


def interval(differences, share):
    """Mean and 95 % interval of differences paired by fold, as text.

    `share` is that of the rows held out: folds share training rows (Nadeau and Bengio 2003).
    """
    n, mean = len(differences), np.mean(differences)
    if n == 1:
        return f"{mean:+.4f}"
    spread = np.std(differences, ddof=1) * np.sqrt(1 / n + share / (1 - share))
    half = t.ppf(0.975, n - 1) * spread
    return f"{mean:+.4f} [{mean - half:+.4f}, {mean + half:+.4f}]"
