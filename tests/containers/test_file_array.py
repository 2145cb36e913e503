"""Columns of files: decoding in threads, in forked processes and in workers."""

import multiprocessing
import threading
import time
import warnings

import numpy as np
import pytest
from joblib import Parallel, delayed

from sklearn_mmfusion._decoders import ignored_warnings
from sklearn_mmfusion.containers import FileArray, file_array
from sklearn_mmfusion.containers.file_array import in_threads, n_threads


@pytest.fixture
def three_threads(monkeypatch):
    monkeypatch.setattr(file_array, "n_threads", lambda: 3)


@pytest.fixture
def arrays(tmp_path):
    """A column of 12 small arrays in files, and the arrays."""
    values = [np.full((3, 2), row, np.float32) for row in range(12)]
    for row, value in enumerate(values):
        np.save(tmp_path / f"{row}.npy", value)
    return FileArray([f"{row}.npy" for row in range(12)], root=tmp_path), values


def test_n_threads_is_bounded_by_openmp(monkeypatch):
    monkeypatch.setattr(file_array.os, "sched_getaffinity", lambda _: range(64), raising=False)
    for granted, expected in [("1", 1), ("3", 3), ("64", 8), ("many", 8), ("0", 1), ("", 8)]:
        monkeypatch.setenv("OMP_NUM_THREADS", granted)
        assert n_threads() == expected


def test_results_keep_their_order(three_threads):
    names = set()

    def slow_first(item):
        names.add(threading.current_thread().name)
        time.sleep(0.02 * (item == 0))
        return item**2

    assert in_threads(slow_first, range(20)) == [item**2 for item in range(20)]
    assert len(names) > 1 and all(name.startswith("sklearn_mmfusion-decode") for name in names)


def test_first_error_in_order_is_raised(three_threads, arrays):
    def fail(item):
        time.sleep(0.03 * (item == 1))  # the later one fails earlier
        if item in (1, 2):
            raise ValueError(f"item {item}")

    with pytest.raises(ValueError, match="item 1"):
        in_threads(fail, range(6))
    column, _ = arrays
    column = FileArray([*column[:3], "none.npy", *column[4:9], "nothing.npy"])
    with pytest.raises(FileNotFoundError, match=r"row 3: there is no file 'none\.npy'"):
        column.decode()


def test_interrupt_cancels_the_rest(three_threads):
    done = []

    def interrupt(item):
        if item == 4:
            raise KeyboardInterrupt
        time.sleep(0.005)
        done.append(item)

    with pytest.raises(KeyboardInterrupt):
        in_threads(interrupt, range(400))
    time.sleep(0.05)  # those that have begun
    assert len(done) < 100
    assert in_threads(str, range(4)) == ["0", "1", "2", "3"]


def test_threads_give_what_a_loop_gives(three_threads, arrays, monkeypatch):
    column, values = arrays
    in_parallel = column.decode()
    monkeypatch.setattr(file_array, "n_threads", lambda: 1)
    for one, other, value in zip(in_parallel, column.decode(), values, strict=True):
        np.testing.assert_array_equal(one, value)
        np.testing.assert_array_equal(other, value)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_process_decodes_in_threads_of_its_own(three_threads, arrays):
    column, values = arrays
    column.decode()  # starts the threads of this process, which a fork does not copy
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(column.decode()))
    child.start()
    try:
        assert receiver.poll(30)
        np.testing.assert_array_equal(receiver.recv(), values)
    finally:
        child.join(5)
        child.kill()


@pytest.mark.slow
def test_workers_decode(arrays):
    column, values = arrays
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        jobs = [delayed(column[part].decode)() for part in (slice(6), slice(6, 12))]
        found = sum(Parallel(n_jobs=2)(jobs), [])
    np.testing.assert_array_equal(found, values)


def test_warnings_are_ignored_in_the_main_thread_alone():
    """Filters belong to the process: two threads that change them would mix them up."""
    before, during = warnings.filters[:], []

    def enter():
        with ignored_warnings():
            during.append(warnings.filters[:])

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert during == [before]
    enter()
    assert len(during[1]) > len(before) and warnings.filters == before
