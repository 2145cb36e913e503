"""Freed memory kept by the C allocator between the steps of a loop."""

import ctypes
import os
import sys
import threading
from contextlib import contextmanager
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # of glibc's malloc.h
KEEP = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: -1}
# Setting any of these disables glibc's dynamic adjustment. Afterwards they are set to its upper
# bounds, which it reaches in a program that frees large arrays.
USUAL = {M_MMAP_MAX: 65536, M_TRIM_THRESHOLD: 64 << 20, M_MMAP_THRESHOLD: 32 << 20}
TUNED = ("MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")

_LOCK = threading.Lock()
_blocks = 0  # number of open blocks, in all threads


def _forget_blocks():
    """Leave, in a forked child, the blocks that threads of the parent have entered."""
    global _LOCK, _blocks
    _LOCK = threading.Lock()
    if _blocks:
        _blocks = 0
        _set(USUAL)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_blocks)


@contextmanager
def keep_freed_memory(device):
    """Keep memory that is freed inside the block, and return it to the system afterwards.

    After the block, glibc keeps 64 MiB, as it would by itself: a second call reuses that memory.

    By default, glibc maps every large allocation anew and unmaps it when it is freed: each step
    then pays for zeroed pages of all its activations, which doubles the time of a convolution on
    pictures of 224 x 224 pixels. Memory is kept only on a CPU, with glibc, unless the environment
    variable ``MMFUSION_KEEP_MEMORY`` is ``"0"`` or the user has set malloc's own variables. Like
    all settings of malloc, this affects every thread of the process.

    Parameters
    ----------
    device : str or torch.device
        Where the tensors of the block are.
    """
    if not _applies(device):
        yield
        return
    global _blocks
    with _LOCK:
        _blocks += 1
        if _blocks == 1:
            _set(KEEP)
    try:
        yield
    finally:
        with _LOCK:
            _blocks -= 1
            if _blocks == 0:
                _set(USUAL)
                _glibc().malloc_trim(USUAL[M_TRIM_THRESHOLD])


def release_freed_memory(device):
    """Return freed memory to the system, inside `keep_freed_memory`, too.

    Batches of unequal sizes leave holes that later ones do not fit into: memory grows with the
    number of batches, by 100 MB over 80 batches of recordings. Takes about 20 ms.
    """
    if _applies(device):
        _glibc().malloc_trim(0)


def _applies(device):
    if str(device).split(":")[0] != "cpu" or os.environ.get("MMFUSION_KEEP_MEMORY") == "0":
        return False
    return not any(name in os.environ for name in TUNED) and _glibc() is not None


def _set(values):
    for parameter, value in values.items():
        _glibc().mallopt(parameter, value)


@cache
def _glibc():
    """The C library, None where it is not glibc."""
    if sys.platform != "linux":
        return None
    try:
        library = ctypes.CDLL("libc.so.6")
        library.gnu_get_libc_version, library.mallopt, library.malloc_trim  # noqa: B018
    except (OSError, AttributeError):
        return None
    return library
