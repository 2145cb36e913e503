"""Contenders in processes of their own, run in turn, compared round by round.

A contender is a function that gets ready and returns another one, which does the work once and
returns a dict with "seconds" of CPU time and whatever else is worth a column. Each lives in its
own process, since some of what is compared (memory allocators, thread pools) belongs to a process.
"""

import json
import subprocess
import sys

import numpy as np


def serve(contenders):
    """Be a worker: ``script.py --serve NAME SIZE``; do one round for each line read."""
    name, size = sys.argv[2:4]
    work = contenders[name](size)
    for _ in sys.stdin:
        print("result", json.dumps(work()), flush=True)


class Worker:
    """A contender in its own process."""

    def __init__(self, script, name, size, python=sys.executable):
        self.name = name
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


def compare(workers, rounds, against=0):
    """Run all workers in turn; return their results and their ratios to one of them, by name.

    The first round does not count. A ratio is taken within its round, so that a machine that slows
    down slows both.
    """
    told = [[worker.work() for worker in workers] for _ in range(rounds + 1)][1:]
    for worker in workers:
        worker.close()
    ratios = {
        worker.name: np.array([r[i]["seconds"] / r[against]["seconds"] for r in told])
        for i, worker in enumerate(workers)
    }
    return {worker.name: [r[i] for r in told] for i, worker in enumerate(workers)}, ratios


def as_ratio(values):
    """Median and range of ratios, for a table."""
    return f"{np.median(values):.2f} [{values.min():.2f}, {values.max():.2f}]"
