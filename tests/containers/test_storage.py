"""Keys, pickles and memory of the containers: across histories, processes and workers."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import KFold

from sklearn_mmfusion.containers import FileArray, TensorArray, TensorDtype

RNG = np.random.default_rng(0)


def _history():
    """The same frame by two ways."""
    images = np.arange(20 * 16, dtype=np.uint8).reshape(20, 4, 4)
    waves = [np.arange(i, dtype="f4") if i % 3 else None for i in range(20)]
    paths = [f"{i}.wav" if i % 4 else None for i in range(20)]

    def make(rows):
        return pd.DataFrame(
            {
                "image": TensorArray(images[rows].copy()),
                "audio": TensorArray._from_sequence(
                    [waves[i] for i in rows], dtype=TensorDtype("f4", (None,), 8000)
                ),
                "clip": FileArray([paths[i] for i in rows]),
            }
        )

    rows = np.arange(5, 15)
    whole = make(np.arange(20))
    joined = pd.concat([make(rows[:3]), whole.iloc[rows[3:]]], ignore_index=True)
    return make(rows), whole.iloc[5:15].reset_index(drop=True), joined


def test_equal_frames_have_equal_pickles_and_hashes_whatever_their_history():
    fresh, sliced, joined = _history()
    for other in (sliced, joined, fresh.copy(), pickle.loads(pickle.dumps(sliced))):
        assert pickle.dumps(other) == pickle.dumps(fresh)
        assert joblib.hash(other) == joblib.hash(fresh)
        for name in ("image", "audio"):
            assert other[name].array.content_key() == fresh[name].array.content_key()
    assert joblib.hash(fresh.iloc[::-1].reset_index(drop=True)) != joblib.hash(fresh)
    assert len(pickle.dumps(sliced)) < 12_000


def test_keys_are_the_same_in_another_process():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import joblib, test_storage as t;"
        "f = t._history()[1]; print(joblib.hash(f), f.image.array.content_key())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    fresh = _history()[0]
    assert run.stdout.split() == [joblib.hash(fresh), fresh.image.array.content_key()]


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


def test_verify_finds_a_changed_base(tmp_path):
    base = np.zeros((50, 3))
    array = TensorArray(base)
    assert array.verify() == 0  # nothing has been recorded yet
    array.content_key()
    assert array.verify(n=5, random_state=0) == 5 and array[:10].verify(n=None) == 10
    base[7] = 1
    assert array[:5].verify(n=None) == 5
    with pytest.raises(ValueError, match=r"content of row 2 changed .*1 of 45 rows"):
        array[5:].verify(n=None)
    file = tmp_path / "a.npy"
    np.save(file, base)
    files = FileArray([file, None])
    files.content_key()
    np.save(file, base[:1])
    with pytest.raises(ValueError, match="FileArray: the content of row 0 changed"):
        files.verify()


def test_digests_are_read_once_per_base(monkeypatch):
    from sklearn_mmfusion.containers import storage

    count = []
    digest = storage.array_digest
    monkeypatch.setattr(storage, "array_digest", lambda cell: count.append(1) or digest(cell))
    array = TensorArray(RNG.random((30, 4)))
    array[:10].content_key()
    assert len(count) == 10
    restored = pickle.loads(pickle.dumps(array.take([5, 20, 20])))
    assert len(count) == 11 and restored.verify() == 3  # re-reads three
    del count[:]
    assert restored.content_key() == array.take([5, 20, 20]).content_key()
    array.content_key(), array[::2].content_key(), array.copy().unique(), array == array[::-1]
    assert len(count) == 19
    pd.concat([pd.Series(array), pd.Series(restored)]).array.content_key()
    assert len(count) == 19


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
    assert _resident() - start < 10
    assert all(len(fold.image.array.gather([0])) == 1 for fold in folds)


def _where_from(frame, positions):
    """In a worker: whether the base is a memory map, and some content."""
    array = frame.iloc[positions].image.array
    base = frame.image.array._storage.values
    while base is not None and not isinstance(base, np.memmap):
        base = base.base
    return base is not None, float(array.gather().sum()), array.content_key()


@pytest.mark.parametrize("history", ["array", "view", "memmap"])
def test_joblib_workers_map_the_base(history, tmp_path):
    values = RNG.random((400, 1000))  # 3.2 MB: above joblib's 1 MB
    if history == "memmap":
        values = np.memmap(tmp_path / "base", values.dtype, "w+", shape=values.shape)
        values[:] = 1
    X = pd.DataFrame({"image": TensorArray(values)})
    X = X.iloc[10:380] if history == "view" else X
    parts = np.array_split(np.arange(len(X)), 4)
    got = joblib.Parallel(n_jobs=2)(joblib.delayed(_where_from)(X, part) for part in parts)
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
