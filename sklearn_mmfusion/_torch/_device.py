"""Devices and seeds."""

import threading
from contextlib import contextmanager

import torch

_TRAINING_LOCK = threading.RLock()


def resolve_device(device):
    """Turn ``"auto"`` into the GPU where there is one, else the CPU."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


@contextmanager
def isolated_rng(seed, device):
    """Seed torch inside the block; give the caller's generators back after it.

    torch's generator is global to the process: the lock keeps threads that train at the same
    time from drawing from one another's stream.
    """
    with _TRAINING_LOCK:
        cuda = [torch.device(device)] if str(device).startswith("cuda") else []
        with torch.random.fork_rng(devices=cuda):
            torch.manual_seed(seed)
            yield
