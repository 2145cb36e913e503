"""Freed memory kept inside a block, and given back after it."""

import subprocess
import sys
import threading
import time

import pytest

from sklearn_mmfusion._torch import allocator, keep_freed_memory

glibc = pytest.mark.skipif(allocator._glibc() is None, reason="the C library is not glibc")


@pytest.fixture(autouse=True)
def untuned(monkeypatch):
    for name in ("MMFUSION_KEEP_MEMORY", *allocator.TUNED):
        monkeypatch.delenv(name, raising=False)


# A process of its own: what other tests have allocated decides where malloc puts new blocks.
MEASURE = """
import resource
import torch
from sklearn_mmfusion._torch import keep_freed_memory

BYTES = 64 << 20  # more than malloc ever keeps by itself

def pages_touched(n_times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(n_times):
        torch.ones(BYTES // 4)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident_bytes():
    with open("/proc/self/statm") as stated:
        return int(stated.read().split()[1]) * resource.getpagesize()

before = resident_bytes()
with keep_freed_memory("cpu"):
    torch.ones(4 * BYTES // 4)
    print((resident_bytes() - before) / BYTES)
print((resident_bytes() - before) / BYTES)
print(pages_touched(8))
with keep_freed_memory("cpu"):
    print(min(pages_touched(8) for _ in range(6)))  # it takes some turns
"""


@glibc
def test_memory_is_kept_inside_the_block_and_given_back_but_for_64_mib(script_environment):
    done = subprocess.run(
        [sys.executable, "-c", MEASURE],
        env=script_environment,
        check=True,
        capture_output=True,
        text=True,
    )
    kept, left, pages_outside, pages_inside = map(float, done.stdout.split())
    assert kept > 2  # in units of 64 MiB, of which one may be left from before
    assert left < 1.1
    assert pages_inside < pages_outside / 10


@glibc
@pytest.mark.parametrize(
    ("variable", "value"),
    [("MMFUSION_KEEP_MEMORY", "0"), ("MALLOC_TRIM_THRESHOLD_", "1000"), ("GLIBC_TUNABLES", "a=1")],
)
def test_the_environment_switches_it_off(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    calls = []
    monkeypatch.setattr(allocator, "_set", calls.append)
    with keep_freed_memory("cpu"):
        pass
    assert calls == []


@glibc
def test_nothing_is_set_for_a_gpu_or_without_glibc(monkeypatch):
    calls = []
    monkeypatch.setattr(allocator, "_set", calls.append)
    with keep_freed_memory("cuda:1"):
        pass
    monkeypatch.setattr(allocator, "_glibc", lambda: None)
    with keep_freed_memory("cpu"):
        pass
    assert calls == []


def test_other_systems_have_no_such_switch(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert allocator._glibc.__wrapped__() is None


@glibc
def test_blocks_of_several_threads_end_with_the_last(monkeypatch):
    calls, entered, leave = [], threading.Event(), threading.Event()
    monkeypatch.setattr(allocator, "_set", calls.append)

    def hold():
        with keep_freed_memory("cpu"):
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    assert entered.wait(10)
    with pytest.raises(KeyError), keep_freed_memory("cpu"):
        raise KeyError
    assert calls == [allocator.KEEP]
    leave.set()
    thread.join(10)
    deadline = time.monotonic() + 10
    while len(calls) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert calls == [allocator.KEEP, allocator.USUAL]
