"""The store of the cache: what is kept, what becomes of damage, and many processes at once."""

import subprocess
import sys
import textwrap
import time
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone

from sklearn_mmfusion._cache import _store
from sklearn_mmfusion._cache._keys import key_of
from sklearn_mmfusion._cache._store import Store, open_store


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "memory"))


def test_store_computes_once_and_gives_fresh_objects(store):
    calls = []

    def compute():
        calls.append(1)
        return {"a": np.zeros(3)}

    key = key_of("a")
    first, second, third = (store.get(key, compute) for _ in range(3))
    assert len(calls) == 1
    assert second is not third
    assert first["a"] is not second["a"]
    second["a"][:] = 1
    assert store.get(key, compute)["a"].sum() == 0


def test_store_says_nothing(tmp_path, capsys, recwarn):
    store = Store(joblib.Memory(tmp_path, verbose=50))
    store.get(key_of("a"), lambda: np.zeros(100_000))
    store.get(key_of("a"), None)
    assert capsys.readouterr().out == ""
    assert not recwarn.list


def test_store_keeps_nothing_of_a_failure(store):
    with pytest.raises(ZeroDivisionError):
        store.get(key_of("a"), lambda: 1 / 0)
    assert store.get(key_of("a"), lambda: 5) == 5
    assert not list(Path(store.memory.store_backend.location, "locks").iterdir())


@pytest.mark.parametrize("damage", ["truncate", "empty", "remove"])
def test_store_computes_again_what_is_damaged(store, damage):
    key = key_of("a")
    store.get(key, lambda: np.arange(1000))
    (entry,) = Path(store.memory.store_backend.location).rglob("output.pkl")
    if damage == "remove":
        entry.unlink()
    else:
        entry.write_bytes(entry.read_bytes()[:50] if damage == "truncate" else b"")
    np.testing.assert_array_equal(store.get(key, lambda: np.arange(1000)), np.arange(1000))
    np.testing.assert_array_equal(store.get(key, None), np.arange(1000))


@pytest.mark.parametrize("where", [0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_store_computes_again_what_has_a_flipped_bit(store, where):
    key = key_of("a")
    store.get(key, lambda: np.arange(1000))
    (entry,) = Path(store.memory.store_backend.location).rglob("output.pkl")
    data = bytearray(entry.read_bytes())
    data[int(where * len(data))] ^= 4
    entry.write_bytes(data)
    np.testing.assert_array_equal(store.get(key, lambda: np.arange(1000)), np.arange(1000))
    np.testing.assert_array_equal(store.get(key, None), np.arange(1000))


def test_store_is_bounded_by_reduce_size(store):
    for i in range(4):
        store.get(key_of(i), lambda: np.zeros(1000))
    store.memory.reduce_size(items_limit=1)
    assert len(list(Path(store.memory.store_backend.location).rglob("output.pkl"))) == 1
    store.memory.reduce_size(bytes_limit=0)
    assert not list(Path(store.memory.store_backend.location).rglob("output.pkl"))
    assert store.get(key_of(0), lambda: 7) == 7


def test_store_without_locks_works(store, monkeypatch):
    monkeypatch.setattr(_store, "fcntl", None)
    assert store.get(key_of("a"), lambda: 5) == 5
    assert not Path(store.memory.store_backend.location, "locks").exists()


def test_store_whose_folder_cannot_hold_locks_works(store):
    Path(store.memory.store_backend.location, "locks").write_text("a file")
    assert store.get(key_of("a"), lambda: 5) == 5


@pytest.mark.parametrize("memory", [None, joblib.Memory(None)])
def test_no_store(memory):
    assert open_store(memory) is None


def test_reading_makes_no_folder(tmp_path):
    memory = joblib.Memory(tmp_path / "gone", verbose=0)
    for path in sorted((tmp_path / "gone").rglob("*"), reverse=True):
        path.unlink()
    (tmp_path / "gone").rmdir()
    assert open_store(memory, reading=True) is None
    assert open_store(str(tmp_path / "never"), reading=True) is None
    assert not list(tmp_path.iterdir())


RACER = """
    import sys, time
    from sklearn_mmfusion._cache._store import open_store
    folder, go = sys.argv[1:]
    def compute():
        with open(folder + "/log", "a") as file:
            file.write("computed\\n")
        time.sleep(0.5)
        return 5
    store = open_store(folder + "/memory")
    while time.time() < float(go):
        pass
    for key in ("a" * 32, "b" * 32):
        assert store.get(key, compute) == 5
"""


def test_two_processes_that_miss_at_once_compute_once(tmp_path, script_environment):
    go = str(time.time() + 8)
    command = [sys.executable, "-c", textwrap.dedent(RACER), str(tmp_path), go]
    racers = [subprocess.Popen(command, env=script_environment) for _ in range(3)]
    assert [racer.wait() for racer in racers] == [0, 0, 0]
    assert (tmp_path / "log").read_text().splitlines() == ["computed"] * 2
    assert not list((tmp_path / "memory" / "joblib" / "locks").iterdir())


def test_threads_that_miss_at_once_compute_once(store):
    calls = []

    def compute():
        calls.append(1)
        time.sleep(0.2)
        return 5

    run = joblib.Parallel(n_jobs=4, backend="threading")
    assert run(joblib.delayed(store.get)(key_of("a"), compute) for _ in range(4)) == [5] * 4
    assert len(calls) == 1


def test_memory_parameter_is_cloned(tmp_path):
    class Holder(BaseEstimator):
        def __init__(self, memory=None):
            self.memory = memory

    memory = clone(Holder(joblib.Memory(tmp_path, verbose=0))).memory
    assert memory.location == tmp_path
    assert Store(memory).get(key_of("a"), lambda: 5) == 5
    assert Store(joblib.Memory(tmp_path, verbose=0)).get(key_of("a"), None) == 5


def test_store_warns_of_what_cannot_be_pickled(store):
    for _ in range(2):
        with pytest.warns(UserWarning, match="could not be stored"):
            assert next(store.get(key_of("a"), lambda: (x for x in (5,)))) == 5


SCRIPT = """
    import sys
    import numpy as np
    from sklearn.base import BaseEstimator, TransformerMixin
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, KFold
    from sklearn.pipeline import make_pipeline
    from sklearn_mmfusion import FusionTransformer

    OFFSET = 1.0

    def shifted(X):
        return X + OFFSET

    class Mine(TransformerMixin, BaseEstimator):
        def __init__(self, log):
            self.log = log

        def fit(self, X, y=None):
            with open(self.log, "a") as file:
                file.write("fit\\n")
            return self

        def transform(self, X):
            return shifted(X)

    if __name__ == "__main__":
        folder = sys.argv[1]
        X, y = np.random.default_rng(0).normal(size=(30, 2)), np.arange(30) % 2
        fused = FusionTransformer([("a", Mine(folder + "/log"), [0, 1])], memory=folder + "/memory")
        pipe = make_pipeline(fused, LogisticRegression())
        grid = {"logisticregression__C": [0.1, 1.0, 10.0]}
        GridSearchCV(pipe, grid, cv=KFold(3), n_jobs=2).fit(X, y)
        GridSearchCV(pipe, grid, cv=KFold(3)).fit(X, y)
"""


def test_class_of_a_script_is_kept_in_workers_too(tmp_path, script_environment):
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    command = [sys.executable, "-W", "error", str(tmp_path / "script.py"), str(tmp_path)]
    for _ in range(2):
        subprocess.run(command, env=script_environment, check=True)
    assert (tmp_path / "log").read_text().splitlines() == ["fit"] * 4


def test_a_path_is_the_folder_of_its_name(tmp_path):
    assert open_store(tmp_path).memory.location == open_store(str(tmp_path)).memory.location


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    memory = str(tmp_path / "file" / "folder")
    with pytest.raises(OSError, match=f"memory='{memory}': the folder cannot be made"):
        open_store(memory)


@pytest.mark.parametrize("what", ["a file", "an empty name"])
def test_a_store_in_no_folder_is_refused(tmp_path, what):
    path = tmp_path / "file"
    path.write_text("")
    memory = str(path) if what == "a file" else ""
    with pytest.raises(ValueError, match=f"memory=.* is {what}; expected the name of a folder"):
        open_store(memory)


OWN = """
    import pickle
    import sys
    import numpy as np
    from sklearn.base import BaseEstimator, TransformerMixin
    from sklearn.model_selection import cross_validate
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn_mmfusion import FusionTransformer

    class Scaled(TransformerMixin, BaseEstimator):
        by = 2

        def fit(self, X, y=None):
            with open(sys.argv[1] + "/log", "a") as file:
                file.write("fit\\n")
            return self

        def transform(self, X):
            return self.by * X

    def plus(X):
        return X + 1

    def fused(scaled):
        children = [("a", scaled, [0]), ("b", FunctionTransformer(plus), [1])]
        return FusionTransformer(children, memory=sys.argv[1] + "/memory")

    if __name__ == "__main__":
        X, y = np.random.default_rng(0).normal(size=(30, 2)), np.arange(30) % 2
        old = Scaled()
        if sys.argv[2] == "search first":
            model = make_pipeline(fused(old), LogisticRegression())
            cross_validate(model, X, y, cv=[(range(30), [0, 1])] * 2, n_jobs=2)
        found = fused(old).fit(X, y).named_transformers_
        assert type(found["a"]) is Scaled
        assert found["b"].func is plus
        pickle.dumps(found)

        class Scaled(Scaled):
            by = 3

        again = fused(old).fit(X, y)  # what was fitted before the class was edited
        np.testing.assert_array_equal(again.transform(X)[:, 0], (2 * X[:, 0]).astype(np.float32))
"""


@pytest.mark.parametrize("first", ["fit first", "search first"])
def test_class_of_a_script_is_its_own_after_a_hit(tmp_path, script_environment, first):
    (tmp_path / "script.py").write_text(textwrap.dedent(OWN))
    command = [sys.executable, "-W", "error", str(tmp_path / "script.py"), str(tmp_path)]
    for what in (first, "fit"):
        subprocess.run([*command, what], env=script_environment, check=True)
    assert (tmp_path / "log").read_text().splitlines() == ["fit"]
