"""Keys, pickles and memory of the containers: across histories, processes and workers."""

import os
import pickle
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.model_selection import KFold

from sklearn_mmfusion.containers import (
    TensorArray,
    multimodal_frame,
    storage,
)
from tests._cache_data import equal_frames, where_from

RNG = np.random.default_rng(0)


def test_equal_frames_have_equal_pickles_and_hashes_whatever_theirequal_frames():
    fresh, sliced, joined = equal_frames()
    for other in (sliced, joined, fresh.copy(), pickle.loads(pickle.dumps(sliced))):
        assert pickle.dumps(other) == pickle.dumps(fresh)
        assert joblib.hash(other) == joblib.hash(fresh)
        for name in ("image", "audio"):
            assert other[name].array.content_key() == fresh[name].array.content_key()
    assert joblib.hash(fresh.iloc[::-1].reset_index(drop=True)) != joblib.hash(fresh)
    assert len(pickle.dumps(sliced)) < 12_000


def test_content_key_tells_columns_apart():
    base = np.zeros((3, 4), np.float32)
    keys = {
        TensorArray(base).content_key(),
        TensorArray(base, sample_rate=8000).content_key(),
        TensorArray(base.astype("f8")).content_key(),
        TensorArray(base.reshape(3, 2, 2)).content_key(),
        TensorArray(base)[:2].content_key(),
        TensorArray([base[0], None, base[0]]).content_key(),
        TensorArray([None, base[0], base[0]]).content_key(),
        TensorArray.from_flat(base.ravel(), [4, 4, 4]).content_key(),
    }
    assert len(keys) == 8


@pytest.fixture
def hashed(monkeypatch):
    """Cells that were hashed, one by one."""
    cells = []
    digest = storage.array_digest
    monkeypatch.setattr(storage, "array_digest", lambda cell: cells.append(cell) or digest(cell))
    return cells


def test_owned_digests_are_taken_once_per_base(hashed):
    array = TensorArray(RNG.random((30, 4)))
    array[:10].content_key()
    assert len(hashed) == 10
    restored = pickle.loads(pickle.dumps(array.take([5, 20, 20])))
    assert len(hashed) == 11
    assert restored.content_key() == array.take([5, 20, 20]).content_key()
    array.content_key(), array[::2].content_key(), array.copy().unique(), array == array[::-1]
    assert len(hashed) == 30
    pd.concat([pd.Series(array), pd.Series(restored)]).array.content_key()
    assert len(hashed) == 30
    array.astype("tensor[float64, ?]").content_key()
    assert len(hashed) == 30


@pytest.mark.parametrize("ragged", [False, True])
def test_digests_of_a_read_only_memory_map_are_kept_until_the_file_changes(
    ragged, hashed, tmp_path
):
    np.save(tmp_path / "base.npy", RNG.random(40) if ragged else RNG.random((10, 4)))

    def make():
        base = np.load(tmp_path / "base.npy", mmap_mode="r")
        return TensorArray.from_flat(base, [4] * 10) if ragged else TensorArray(base)

    array = make()
    keys = {array.content_key() for _ in range(3)}
    assert len(hashed) == 10
    values = np.load(tmp_path / "base.npy", mmap_mode="r+")
    values[3] += 1
    values.flush()
    os.utime(tmp_path / "base.npy", ns=(1, 1))  # a clock may be too coarse to tell
    keys.add(array.content_key())
    keys.add(make().content_key())
    assert len(keys) == 2
    assert len(hashed) == 30


UNOWNED = {
    "array": lambda base, path: base,
    "older view": lambda base, path: read_only_view(base),
    "torch": lambda base, path: torch.from_numpy(base),
    "w+": lambda base, path: np.memmap(path, base.dtype, "w+", shape=base.shape),
    "c": lambda base, path: np.memmap(save(base, path), base.dtype, "c", shape=base.shape),
}


def read_only_view(base):
    view = base[:]
    view.flags.writeable = False
    return view


def save(base, path):
    base.tofile(path)
    return path


@pytest.mark.parametrize("name", UNOWNED)
def test_every_change_of_memory_that_others_own_is_noticed(name, tmp_path):
    base = np.zeros((50, 3))
    values = UNOWNED[name](base, tmp_path / "base")
    writable = values if name in ("w+", "c") else base
    array = TensorArray(values, copy=False)
    draw = np.random.default_rng(0).integers(0, 150, 250)
    keys = [array.content_key()]
    for place in draw:
        writable.reshape(-1)[place] += 1
        keys.append(array.content_key())
        assert (
            array[[place // 3]].content_key() == TensorArray(writable[[place // 3]]).content_key()
        )
    assert len(set(keys)) == len(keys)


def test_pickles_follow_changes_of_memory_that_others_own():
    base = np.zeros((6, 3))
    shared = TensorArray(base, copy=False)
    for column in (shared, shared[1:], shared[[4, 2]]):
        pickle.dumps(column)
        base[4] += 1
        restored = pickle.loads(pickle.dumps(column))
        assert restored.content_key() == column.content_key()
        np.testing.assert_array_equal(restored.gather(), column.gather())


def _bases(array):
    while isinstance(array, np.ndarray):
        yield array
        array = array.base


def made_by_the_package():
    """Columns in memory of the package's own, by every way to get one."""
    base = RNG.random((6, 4))
    dense, ragged = TensorArray(base), TensorArray.from_flat(base.ravel(), [4] * 6)
    pickled = pickle.loads(pickle.dumps((base, dense, dense.gather(copy=False))))
    yield from (dense, ragged, TensorArray(list(base)), TensorArray([base[0], base[1][:2]]))
    yield from (pickled[1], pickle.loads(pickle.dumps(ragged)), dense.astype("tensor[float64, ?]"))
    yield pd.concat([pd.Series(dense), pd.Series(dense.copy()[::-1])]).array
    yield TensorArray._concat_same_type([dense, TensorArray(base)])


def test_memory_of_the_package_cannot_be_written_to():
    for array in made_by_the_package():
        whole = array._view(array._storage, np.arange(array._storage.n), array.dtype)
        for view in (array[0], array._storage.values, whole.gather(copy=False)[0]):
            for base in _bases(view):
                with pytest.raises(ValueError, match="cannot set WRITEABLE"):
                    base.flags.writeable = True


def test_what_is_pickled_together_shares_no_memory():
    base = RNG.random((6, 4))
    array = TensorArray(base)
    restored, own, view = pickle.loads(pickle.dumps((array, base, array.gather(copy=False))))
    key = restored.content_key()
    for other in (own, view):
        other = other if other.flags.writeable else other.copy()
        other[:] = 0
    assert TensorArray(restored.gather()).content_key() == restored.content_key() == key


def test_memory_maps_and_own_arrays_are_not_copied(tmp_path):
    np.save(tmp_path / "base.npy", RNG.random((6, 4)))
    for mode in ("r", "r+", "c"):
        base = np.load(tmp_path / "base.npy", mmap_mode=mode)
        X = multimodal_frame(a=base, b=base[::-1])
        assert np.shares_memory(X["a"][0], base) and np.shares_memory(X["b"][0], base)
        again = multimodal_frame(a=X["a"], b=X["a"].array)
        assert np.shares_memory(again["a"][0], base) and np.shares_memory(again["b"][0], base)


def _resident():
    """Private resident memory of this process, in MB; pages of mapped files excluded."""
    fields = Path("/proc/self/statm").read_text().split()
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_splitting_a_memory_map_adds_no_memory(tmp_path):
    n = 200_000_000 // 3136
    base = np.memmap(tmp_path / "base", np.float32, "w+", shape=(n, 28, 28))  # sparse on disk
    X = pd.DataFrame({"image": TensorArray(base), "n": np.arange(n)})
    start, folds = _resident(), []
    for train, test in KFold(5, shuffle=True, random_state=0).split(X):
        folds += [X.iloc[train], X.iloc[test]]
    assert _resident() - start < 20  # a copy of each fold would add 1000
    assert all(len(fold.image.array.gather([0])) == 1 for fold in folds)


@pytest.mark.parametrize("history", ["array", "view", "memmap"])
def test_joblib_workers_map_the_base(history, tmp_path):
    values = RNG.random((400, 1000))  # 3.2 MB: above joblib's 1 MB
    if history == "memmap":
        values = np.memmap(tmp_path / "base", values.dtype, "w+", shape=values.shape)
        values[:] = 1
    X = pd.DataFrame({"image": TensorArray(values, copy=False)})
    X = X.iloc[10:380] if history == "view" else X
    parts = np.array_split(np.arange(len(X)), 4)
    got = joblib.Parallel(n_jobs=2)(joblib.delayed(where_from)(X, part) for part in parts)
    assert all(mapped for mapped, _, _ in got)
    for part, (_, total, key) in zip(parts, got, strict=True):
        assert total == X.iloc[part].image.array.gather().sum()
        assert key == X.iloc[part].image.array.content_key()


def test_compaction_is_kept_for_the_next_task():
    array = TensorArray(np.zeros((100, 10)))[5:]
    ragged = TensorArray.from_flat(np.zeros(100), [10] * 10)[5:]
    for column in (array, array[:3], ragged):
        first, second = column.__reduce__()[1][2], column.__reduce__()[1][2]
        # joblib knows by identity what it has written for its workers
        assert all(a is b for a, b in zip(first, second, strict=True))
    whole = TensorArray(np.zeros((100, 10)))
    assert np.shares_memory(whole.__reduce__()[1][2][0], whole[0])
