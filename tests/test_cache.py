"""Keys of the cache, and the store: equal for equal work, another for any other; safe at once."""

import os
import subprocess
import sys
import textwrap
import types
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_mmfusion import FileArray, ImageEncoder, TensorArray, TextEncoder
from sklearn_mmfusion._cache import _store
from sklearn_mmfusion._cache._keys import (
    NoKeyError,
    UnseededError,
    data_key,
    environment,
    key_of,
    path_roots,
)
from sklearn_mmfusion._cache._store import Store, open_store
from tests import _registry as registry
from tests._cache_data import Counted

# ------------------------------------------------------------------------------ objects


def fitted_encoder():
    return TextEncoder(**registry.SMALL_TEXT).fit(registry.texts(), registry.classes())


EQUAL = {
    "number": lambda: 3.5,
    "nested": lambda: {"a": [1, (2.0, None)], "b": {"x", "y"}},
    "array": lambda: np.arange(6.0).reshape(2, 3),
    "objects": lambda: np.array(["a", 1, None], dtype=object),
    "sparse": lambda: sparse.csr_array(np.eye(3)),
    "frame": lambda: pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": pd.Categorical(["u", "v"])}),
    "dates": lambda: pd.Series(pd.to_datetime(["2020-01-01", None])),
    "integers": lambda: pd.Series([1, None], dtype="Int64"),
    "estimator": lambda: make_pipeline(StandardScaler(), PCA(2, random_state=0)),
    "encoder": lambda: ImageEncoder(random_state=0, net_params={"train_split": None}),
    "partial": lambda: FunctionTransformer(partial(np.clip, a_min=0)),
    "ufunc": lambda: FunctionTransformer(np.log1p),
    "method": lambda: FunctionTransformer(str.lower),
    "own": lambda: Counted("log"),
    "frozen": lambda: FrozenEstimator(fitted_encoder()),
    "forest": lambda: FrozenEstimator(
        RandomForestClassifier(3, random_state=0).fit(registry.table(), registry.classes())
    ),
}


@pytest.mark.parametrize("name", EQUAL)
def test_key_of_equal_objects_is_equal(name):
    make = EQUAL[name]
    assert key_of(make()) == key_of(make())
    assert len(key_of(make())) == 32


@pytest.mark.parametrize("name", EQUAL)
def test_key_survives_pickle(name, tmp_path):
    obj = EQUAL[name]()
    joblib.dump(obj, tmp_path / "it")
    again = joblib.load(tmp_path / "it")
    joblib.dump(again, tmp_path / "it")
    assert key_of(obj) == key_of(again) == key_of(joblib.load(tmp_path / "it"))


def test_keys_of_different_objects_differ():
    objects = [
        *(make() for make in EQUAL.values()),
        *[0, 0.0, -0.0, False, None, "", b"", "None", "0", (), [], {}, set(), Ellipsis],
        *[(1, 2), (12,), [1, 2], {1: 2}, {2: 1}, ("a", "b"), ("ab",), ("a", ("b",))],
        *[np.zeros(3), np.zeros(3, np.float32), np.zeros((3, 1)), np.zeros(0)],
        *[np.zeros((1,)), np.array(0.0), sparse.csr_array(np.zeros((3, 3)))],
        *[pd.Series([0, 0]), pd.Series([0, 0], name="a"), pd.Series([0.0, 0.0]), pd.Series(["0"])],
        *[PCA(2, random_state=0), PCA(3, random_state=0), PCA(2, random_state=1)],
        *[
            PCA(2, random_state=0).set_output(transform="pandas"),
            LogisticRegression(random_state=0),
        ],
        *[Counted("other"), Counted("log", scale=2.0), Counted, PCA, len, np.log, str.upper],
        *[TensorArray(np.zeros((2, 2))), TensorArray(np.zeros((2, 2)), sample_rate=8)],
        *[FileArray(["a.png"]), FileArray(["b.png"])],
    ]
    keys = [key_of(obj) for obj in objects]
    alike = [(objects[keys.index(k)], o) for o, k in zip(objects, keys, strict=True)]
    assert len(set(keys)) == len(keys), [pair for pair in alike if pair[0] is not pair[1]]


def test_key_ignores_order_of_dicts_and_layout_of_arrays():
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})
    array = np.arange(6.0).reshape(2, 3)
    assert key_of(array) == key_of(np.asfortranarray(array)) == key_of(array[:, ::-1][:, ::-1])


def test_key_of_memory_is_where_it_lies_not():
    memories = [joblib.Memory(None), joblib.Memory(None, verbose=3)]
    assert len({key_of(make_pipeline(PCA(random_state=0), memory=m)) for m in memories[:1]}) == 1


@pytest.mark.parametrize(
    ("obj", "path"),
    [
        (FunctionTransformer(lambda X: X), "func"),
        (make_pipeline(StandardScaler(), FunctionTransformer(lambda X: X)), "steps[1][1].func"),
        (Counted("log", tag=(x for x in ())), "tag"),
        (ImageEncoder(random_state=0, net_params={"callbacks": [lambda: 0]}), "net_params"),
    ],
)
def test_key_is_refused_with_the_place(obj, path):
    with pytest.raises(NoKeyError) as caught:
        key_of(obj)
    assert caught.value.path.removeprefix("[0].").startswith(path)
    assert not isinstance(caught.value, UnseededError)


def test_key_of_a_ring_is_refused():
    ring = []
    ring.append(ring)
    with pytest.raises(NoKeyError, match="refers to itself"):
        key_of(ring)


@pytest.mark.parametrize("seed", [None, np.random.RandomState(0)])
def test_key_needs_a_seed(seed):
    child = make_pipeline(StandardScaler(), PCA(random_state=seed))
    with pytest.raises(UnseededError, match="no seed"):
        key_of(child)
    key_of(FrozenEstimator(child.fit(np.eye(4))))  # no longer fitted


# ------------------------------------------------------------------------------ code


def module_of(source, name="edited_in_a_notebook"):
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(textwrap.dedent(source), module.__dict__)
    return module


SOURCE = """
    from sklearn.base import BaseEstimator, TransformerMixin

    FACTOR = 2

    def helper(X):
        return FACTOR * X

    class Base(TransformerMixin, BaseEstimator):
        def fit(self, X, y=None):
            return self

    class Scale(Base):
        shift = 1
        names = staticmethod(lambda: [c for c in "ab"])

        def transform(self, X):
            '''Scale.'''
            return helper(X) + self.shift

        @property
        def twice(self):
            return super().__class__, Scale, 2
"""


@pytest.fixture
def cleaned():
    yield
    sys.modules.pop("edited_in_a_notebook", None)


def test_code_that_is_equal_has_an_equal_key(cleaned):
    key = key_of(module_of(SOURCE).Scale())
    assert key_of(module_of(SOURCE).Scale()) == key
    assert key_of(module_of("\n\n" + SOURCE).Scale()) == key  # elsewhere in the file


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("+ self.shift", "- self.shift"),
        ("shift = 1", "shift = 3"),
        ("FACTOR = 2", "FACTOR = 3"),
        ("FACTOR * X", "FACTOR + X"),
        ("y=None", "y=1"),
        ('"ab"', '"abc"'),
        ("Scale, 2", "Scale, 3"),
        ("return self\n", "return None\n"),
    ],
)
def test_edited_code_has_another_key(cleaned, old, new):
    key = key_of(module_of(SOURCE).Scale())
    assert old in SOURCE
    assert key_of(module_of(SOURCE.replace(old, new)).Scale()) != key


def test_key_of_an_edited_function(cleaned):
    key = key_of(FunctionTransformer(module_of(SOURCE).helper))
    edited = module_of(SOURCE.replace("FACTOR *", "FACTOR -"))
    assert key_of(FunctionTransformer(edited.helper)) != key


# ------------------------------------------------------------------------------ data


def test_data_key_of_a_view_is_that_of_an_equal_column():
    images = registry.images()
    column = pd.Series(TensorArray(images))
    view = column.iloc[[5, 3, 8]]
    fresh = pd.Series(TensorArray(images[[5, 3, 8]].copy()))
    assert data_key(view, PCA()) == data_key(fresh, PCA())
    assert data_key(view, PCA()) != data_key(column.iloc[[3, 5, 8]], PCA())


def test_data_key_reads_no_cell_twice(monkeypatch):
    column = pd.Series(TensorArray(registry.images()))
    data_key(column, PCA())
    storage = column.array._storage
    read = []
    digest = type(storage)._digest
    monkeypatch.setattr(type(storage), "_digest", lambda s, row: read.append(row) or digest(s, row))
    data_key(column.iloc[3:20], PCA())
    assert len(read) == 16  # the sample that is verified


def test_data_key_notices_a_changed_base():
    images = registry.images()
    column = pd.Series(TensorArray(images))
    data_key(column, PCA())
    images[:] = 0
    with pytest.raises(ValueError, match="changed since it was first read"):
        data_key(column, PCA())


def test_data_key_notices_one_changed_file(tmp_path):
    paths = [tmp_path / f"{i}.npy" for i in range(100)]
    for path in paths:
        np.save(path, np.zeros(3))
    column = pd.Series(FileArray(paths))
    key = data_key(column, PCA())
    assert data_key(pd.Series(FileArray(paths)), PCA()) == key
    os.utime(paths[57], ns=(1, 1))
    with pytest.raises(ValueError, match="row 57 changed"):
        data_key(column, PCA())
    assert data_key(pd.Series(FileArray(paths)), PCA()) != key


@pytest.mark.parametrize(
    "wrap", [lambda e: e, FrozenEstimator, lambda e: make_pipeline(e, StandardScaler())]
)
def test_texts_read_as_paths_are_keyed_by_their_files(tmp_path, wrap):
    (tmp_path / "a.npy").write_bytes(b"1")
    texts = pd.Series(["a.npy", "a.npy"], dtype="str")
    reader = wrap(ImageEncoder(root=str(tmp_path)))
    assert path_roots(reader) == [str(tmp_path)]
    before, text = data_key(texts, reader), data_key(texts, TextEncoder())
    (tmp_path / "a.npy").write_bytes(b"12")
    assert data_key(texts, reader) != before
    assert data_key(texts, TextEncoder()) == text
    assert data_key(texts.to_frame("a"), reader) != data_key(texts.to_frame("a"), TextEncoder())


def test_key_is_the_same_in_another_process(script_environment):
    code = """
        import numpy as np, pandas as pd
        from tests import _registry as registry
        from tests.test_cache import EQUAL
        from sklearn_mmfusion._cache._keys import data_key, key_of
        from sklearn_mmfusion.containers import TensorArray
        print([key_of(EQUAL[name]()) for name in EQUAL])
        X = registry.modalities()
        print([data_key(X[name].dropna(), EQUAL["encoder"]()) for name in X])
    """
    runs = set()
    for seed in ("1", "2"):  # of Python's own hashes: order of sets and dicts of names
        environment = script_environment | {"PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", textwrap.dedent(code)]
        runs.add(subprocess.check_output(command, env=environment, text=True))
    (told,) = runs
    X = registry.modalities()
    here = [data_key(X[name].dropna(), EQUAL["encoder"]()) for name in X]
    assert str(here) in told


def test_environment_tells_settings_and_threads():
    for estimator, of_torch in [
        (PCA(), False),
        (make_pipeline(FrozenEstimator(TextEncoder())), True),
    ]:
        before = key_of(environment(estimator))
        with config_context(transform_output="pandas"):
            assert key_of(environment(estimator)) != before
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "get_num_threads", lambda: 77)
            assert (key_of(environment(estimator)) != before) == of_torch
        assert key_of(environment(estimator)) == before


# ------------------------------------------------------------------------------ store


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
    import time

    go = str(time.time() + 8)
    command = [sys.executable, "-c", textwrap.dedent(RACER), str(tmp_path), go]
    racers = [subprocess.Popen(command, env=script_environment) for _ in range(3)]
    assert [racer.wait() for racer in racers] == [0, 0, 0]
    assert (tmp_path / "log").read_text().splitlines() == ["computed"] * 2
    assert not list((tmp_path / "memory" / "joblib" / "locks").iterdir())


def test_threads_that_miss_at_once_compute_once(store):
    import time

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
