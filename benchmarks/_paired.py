"""CPU seconds of several calls in paired rounds, and the ratios between them."""

import time

import numpy as np


def cpu_seconds(calls, rounds):
    """Time calls in turn, round by round, after one round that does not count.

    Parameters
    ----------
    calls : dict of str to callable
    rounds : int

    Returns
    -------
    seconds : dict of str to ndarray of shape (rounds,)
    """
    seconds = {name: [] for name in calls}
    for n in range(rounds + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            if n:
                seconds[name].append(time.process_time() - start)
    return {name: np.array(own) for name, own in seconds.items()}


def ratio(ours, theirs):
    """Median and quartiles of the ratio of two paired measurements, as text."""
    low, middle, high = np.percentile(ours / theirs, [25, 50, 75])
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"
