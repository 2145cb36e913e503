"""Keys and store of the cache: equal keys for equal work only, and what the store survives."""

import os
import runpy
import subprocess
import sys
import textwrap
import time
import warnings
from collections import OrderedDict
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.special
import torch
from scipy import sparse
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import KFold
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch import nn

from sklearn_mmfusion import FileArray, ImageEncoder, TensorArray, TextEncoder, _caching
from sklearn_mmfusion._caching import CachedChild, Key, NoKeyError, Store, key_of, open_memory
from tests import _registry as registry
from tests._cache_data import Counted, counts, equal_frames, three

# ------------------------------------------------------------------------------ objects


def fitted_encoder():
    return TextEncoder(**registry.SMALL_TEXT).fit(registry.texts(), registry.classes())


EQUAL = {
    "number": lambda: 3.5,
    "nested": lambda: {"a": [1, (2.0, None)], "b": {"x", "y"}},
    "array": lambda: np.arange(6.0).reshape(2, 3),
    "objects": lambda: np.array(["a", 1, None], dtype=object),
    "record": lambda: np.array([(1, 2.0)], dtype=[("a", "i1"), ("b", "f8")]),
    "sparse": lambda: sparse.csr_array(np.eye(3)),
    "frame": lambda: pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": pd.Categorical(["u", "v"])}),
    "dates": lambda: pd.Series(pd.to_datetime(["2020-01-01", None])),
    "integers": lambda: pd.Series([1, None], dtype="Int64"),
    "estimator": lambda: make_pipeline(StandardScaler(), PCA(2, random_state=0)),
    "encoder": lambda: ImageEncoder(random_state=0, net_params={"train_split": None}),
    "partial": lambda: FunctionTransformer(partial(np.clip, a_min=0)),
    "ufunc": lambda: FunctionTransformer(np.log1p),
    "method": lambda: FunctionTransformer(str.lower),
    "custom": lambda: Counted("log"),
    "frozen": lambda: FrozenEstimator(fitted_encoder()),
    "forest": lambda: FrozenEstimator(
        RandomForestClassifier(3, random_state=0).fit(registry.table(), registry.classes())
    ),
}


@pytest.mark.parametrize("name", EQUAL)
def test_key_of_equal_objects_is_equal_after_a_pickle_too(name, tmp_path):
    one, other = EQUAL[name](), EQUAL[name]()
    joblib.dump(one, tmp_path / "it")
    assert key_of(one) == key_of(other) == key_of(joblib.load(tmp_path / "it"))
    assert len(key_of(one)) == 32


def test_keys_of_different_objects_differ():
    layers = [("a", nn.ReLU()), ("b", nn.Tanh())]
    objects = [
        *(make() for make in EQUAL.values()),
        *[0, 0.0, -0.0, False, None, "", b"", "None", "0", (), [], {}, set(), Ellipsis],
        *[(1, 2), (12,), [1, 2], [1, 2.0], {1: 2}, {2: 1}, ("a", "b"), ("ab",), ("a", ("b",))],
        *[np.zeros(3), np.zeros(3, np.float32), np.zeros((3, 1)), np.zeros(0)],
        *[np.zeros(3, np.int64), np.zeros(3, np.uint64), np.zeros(3, "M8[s]")],  # equal bytes
        *[np.zeros((1,)), np.array(0.0), sparse.csr_array(np.zeros((3, 3)))],
        *[pd.Series([0, 0]), pd.Series([0, 0], name="a"), pd.Series([0.0, 0.0]), pd.Series(["0"])],
        *[{"a": 1, "b": 2}, {"b": 2, "a": 1}, OrderedDict(a=1, b=2), OrderedDict(b=2, a=1)],
        *[nn.Sequential(OrderedDict(order)) for order in (layers, layers[::-1])],
        *[PCA(2, random_state=0), PCA(3, random_state=0), PCA(2, random_state=1)],
        *[
            PCA(2, random_state=0).set_output(transform="pandas"),
            LogisticRegression(random_state=0),
        ],
        *[Counted("other"), Counted("log", scale=2.0), Counted, PCA, len, np.log, str.upper],
        *[np.expm1, scipy.special.expm1, np.float64(2).__mul__, np.float64(3).__mul__],
        *[TensorArray(np.zeros((2, 2))), TensorArray(np.zeros((2, 2)), sample_rate=8)],
        *[FileArray(["a.png"]), FileArray(["b.png"])],
    ]
    keys = [key_of(obj) for obj in objects]
    alike = [(objects[keys.index(k)], o) for o, k in zip(objects, keys, strict=True)]
    assert len(set(keys)) == len(keys), [pair for pair in alike if pair[0] is not pair[1]]


def test_key_ignores_order_of_attributes_layout_verbosity_and_jobs():
    turned = PCA(random_state=0)
    vars(turned).update([(n, vars(turned).pop(n)) for n in reversed(list(vars(turned)))])
    assert key_of(turned) == key_of(PCA(random_state=0))
    array = np.arange(6.0).reshape(2, 3)
    assert key_of(array) == key_of(np.asfortranarray(array)) == key_of(array[:, ::-1][:, ::-1])
    one, other = (RandomForestClassifier(random_state=0, n_jobs=n, verbose=n) for n in (1, 2))
    assert key_of(make_pipeline(one)) == key_of(make_pipeline(other, memory="folder"))


@pytest.mark.parametrize(
    ("obj", "path", "reason"),
    [
        (FunctionTransformer(lambda X: X), "func", "lambda> cannot be imported"),
        (make_pipeline(FunctionTransformer(lambda X: X)), "steps[0][1].func", "cannot be imported"),
        (FunctionTransformer(np.frompyfunc(abs, 1, 1)), "func", "cannot be imported by its name"),
        (Counted("log", tag=(x for x in ())), "tag", "cannot pickle 'generator'"),
        (Counted("log", tag=np.eye(2).view(np.matrix)), "tag", "matrix is not a plain array"),
        (ImageEncoder(random_state=0, net_params={"a": [lambda: 0]}), "net_params.a[0]", "lambda"),
        (PCA(), "random_state", "has no seed"),
        (
            make_pipeline(PCA(random_state=np.random.RandomState(0))),
            "steps[0][1].random_state",
            "no seed",
        ),
        (
            LogisticRegressionCV(cv=KFold(5, shuffle=True), random_state=0),
            "cv.random_state",
            "seed",
        ),
        (MLPClassifier(shuffle=False), "random_state", "has no seed"),
    ],
)
def test_key_is_refused_with_the_place(obj, path, reason):
    with pytest.raises(NoKeyError, match=reason) as caught:
        Key.of(obj)
    assert caught.value.path == path


def test_key_ignores_what_a_dtype_remembers():
    column = pd.Series([1], dtype="UInt16")
    vars(column.dtype).clear()
    key = key_of(column)
    assert column.dtype.itemsize == 2 and vars(column.dtype)
    assert key_of(column) == key


def test_fitted_and_unshuffled_need_no_seed():
    frozen = [FrozenEstimator(make_pipeline(PCA()).fit(np.eye(4))) for _ in range(2)]
    assert key_of(frozen[0]) == key_of(frozen[1])
    folds = [LogisticRegressionCV(cv=KFold(n), random_state=0) for n in (5, 5, 4)]
    assert key_of(folds[0]) == key_of(folds[1]) != key_of(folds[2])


def test_ring_is_refused():
    ring = [()]
    ring.append(ring)
    with pytest.raises(NoKeyError, match="refers to itself"):
        key_of(ring)


def test_key_of_tensors_of_any_dtype():
    dtypes = [torch.bfloat16, torch.float16, torch.int16, torch.bool, torch.complex64]
    made = [[torch.tensor([[1, 0]], dtype=t), torch.tensor([1, 0], dtype=t)] for t in dtypes]
    flat = [tensor for pair in made for tensor in pair]
    assert len(set(map(key_of, flat))) == len(flat)
    assert [key_of(tensor.clone().T.T) for tensor in flat[::2]] == [*map(key_of, flat[::2])]


# ------------------------------------------------------------------------------ code

MODULE = """
    from sklearn.base import BaseEstimator, TransformerMixin

    class Base(TransformerMixin, BaseEstimator):
        def fit(self, X, y=None):
            return self

        def transform(self, X):
            return 2 * X

    class Mine(Base):
        pass

    def plain(X):
        return X + 1
"""


@pytest.fixture
def module_of(tmp_path, monkeypatch):
    """Import a module of the given source; a new name each time."""
    monkeypatch.syspath_prepend(tmp_path)
    # Byte code of a source of the same second and size would be taken for that of the new one.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(source, name):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        sys.modules.pop(name, None)
        _caching.version_of.cache_clear()
        return __import__(name)

    yield write
    for name in ("mine", "other"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("what", ["Mine", "Base", "plain"])
def test_source_of_a_class_and_its_bases_is_in_the_key(module_of, what):
    before = module_of(MODULE, "mine")
    key = key_of(getattr(before, what))
    again = module_of("# a comment\n" + textwrap.dedent(MODULE), "mine")
    assert key_of(getattr(again, what)) == key
    time.sleep(0.01)  # the import system looks at the time
    edited = module_of(MODULE.replace("2 * X", "20 * X").replace("X + 1", "X + 10"), "mine")
    assert key_of(getattr(edited, what)) != key


def test_values_of_a_closure_are_in_the_key(module_of):
    source = """
        import functools

        def plain(X):
            return X

        def scaled(function, by):
            @functools.wraps(function)
            def wrapper(X):
                return by * function(X)
            return wrapper

        one, two = scaled(plain, 1), scaled(plain, 2)
    """
    module = module_of(source, "mine")
    assert len({key_of(f) for f in (module.plain, module.one, module.two)}) == 3


VALUES = """
    FACTOR, NAMES = 2, ["a", "b"]

    class Defaults:
        def __call__(self, X, by=FACTOR):
            return by * X

    class Static:
        @staticmethod
        def scaled(X, by=FACTOR):
            return by * X

    class Attribute:
        factor, unknown = FACTOR, object()  # without a key; ignored

    class Nested:
        names = {"all": NAMES}

    class Child(Attribute):
        pass

    def plain(X, by=FACTOR):
        return by * X

    def keyword(X, *, by=FACTOR):
        return by * X
"""


@pytest.mark.parametrize(
    "what", ["Defaults", "Static", "Attribute", "Nested", "Child", "plain", "keyword"]
)
def test_defaults_and_plain_attributes_are_in_the_key_by_value(module_of, what):
    key = key_of(getattr(module_of(VALUES, "mine"), what))
    assert key_of(getattr(module_of(VALUES, "mine"), what)) == key
    time.sleep(0.01)
    edited = module_of(VALUES.replace('2, ["a", "b"]', '3, ["a", "c"]'), "mine")
    assert key_of(getattr(edited, what)) != key


def test_without_source_nothing_is_cached_with_one_warning(tmp_path):
    made = {"__name__": "made"}
    exec(textwrap.dedent(MODULE) + "\n    pass", made)  # as in a shell
    X = np.eye(3)
    for _ in range(2):
        child = CachedChild(made["Mine"](), open_memory(str(tmp_path)), "Owner: modality 'a'")
        with pytest.warns(UserWarning, match="'a' cannot be cached .* no source of Mine") as caught:
            child.fit_transform(X)
            child.transform(X[:2])
        assert len(caught) == 1
    assert not list(tmp_path.rglob("output.pkl"))


def test_changed_source_of_the_package_misses(tmp_path, monkeypatch):
    X, y = three()
    sources = _caching.package_sources()
    assert "_caching.py" in sources
    assert "containers/storage.py" in sources

    def fit():
        _caching.package_hash.cache_clear()
        _caching.version_of.cache_clear()
        child = Counted(str(tmp_path / "log"), "a")
        CachedChild(child, open_memory(str(tmp_path / "memory"))).fit_transform(X["a"], y)

    fit()
    for _ in range(2):
        fit()
    assert counts(tmp_path / "log")["fit a"] == 1
    for edited in (
        sources | {"_sklearn.py": sources["_sklearn.py"] + b"#"},
        {name.replace("_caching", "_cached"): text for name, text in sources.items()},
    ):
        monkeypatch.setattr(_caching, "package_sources", lambda edited=edited: edited)
        fit()
    assert counts(tmp_path / "log")["fit a"] == 3
    monkeypatch.setattr(_caching, "package_sources", dict)
    with pytest.raises(NoKeyError, match="source files cannot be read"):
        _caching.package_hash.__wrapped__()
    monkeypatch.undo()
    _caching.package_hash.cache_clear()
    _caching.version_of.cache_clear()


# ------------------------------------------------------------------------------ data


def data_key(data, reader):
    return _caching._key(None, Key.of(clone(reader).set_params(random_state=0)), data).hex


def test_key_of_a_view_is_that_of_an_equal_column():
    images = registry.images()
    column = pd.Series(TensorArray(images))
    view = column.iloc[[5, 3, 8]]
    fresh = pd.Series(TensorArray(images[[5, 3, 8]]), index=[5, 3, 8])
    assert data_key(view, PCA()) == data_key(fresh, PCA())
    assert data_key(view, PCA()) != data_key(column.iloc[[3, 5, 8]], PCA())


def test_key_reads_no_owned_cell_twice(monkeypatch):
    column = pd.Series(TensorArray(registry.images()))
    keys = data_key(column, PCA()), data_key(column.iloc[3:20], PCA())
    monkeypatch.setattr(type(column.array._storage), "_digest", None)  # another reading would raise
    assert (data_key(column, PCA()), data_key(column.iloc[3:20], PCA())) == keys


def test_key_notices_every_change_of_shared_memory():
    images = registry.images()
    column = pd.Series(TensorArray(images, copy=False))
    assert data_key(column, PCA()) == data_key(pd.Series(TensorArray(images)), PCA())
    keys = {data_key(column, PCA())}
    for row in range(len(images)):
        images[row, 0, 0] += 1
        keys.add(data_key(column, PCA()))
    assert len(keys) == len(images) + 1


@pytest.mark.parametrize("wrap", [lambda e: e, lambda e: make_pipeline(e, StandardScaler())])
def test_texts_read_as_paths_are_keyed_by_their_files(tmp_path, wrap):
    (tmp_path / "a.npy").write_bytes(b"1")
    texts = pd.Series(["a.npy", "a.npy"], dtype="str")
    reader = Key.of(wrap(ImageEncoder(file_params={"root": str(tmp_path)}, random_state=0)))
    other = Key.of(TextEncoder(random_state=0))
    assert reader.roots == (str(tmp_path),)
    assert other.roots == ()

    def keys():
        return [_caching._key(None, key, texts).hex for key in (reader, other)]

    before = keys()
    (tmp_path / "a.npy").write_bytes(b"12")
    after = keys()
    assert before[0] != after[0]
    assert before[1] == after[1]


def test_key_notices_a_changed_file(tmp_path):
    paths = [tmp_path / f"{i}.npy" for i in range(100)]
    for path in paths:
        np.save(path, np.zeros(3))
    column = pd.Series(FileArray(paths))
    key = data_key(column, PCA())
    assert data_key(pd.Series(FileArray(paths)), PCA()) == key
    os.utime(paths[57], ns=(1, 1))
    assert data_key(column, PCA()) != key


INDEXES = [
    pd.RangeIndex(2),
    pd.Index([5, 6]),
    pd.Index(["u", "v"]),
    pd.to_datetime(["2020-01-01", "2020-01-02"]),
    pd.MultiIndex.from_tuples([(0, "u"), (0, "v")]),
    pd.MultiIndex.from_tuples([(0, "u"), (1, "v")]),
    pd.MultiIndex.from_tuples([(0, "u"), (1, "v")], names=["a", "a"]),
]


def test_index_is_in_the_key_by_its_values():
    columns = [pd.Series(["a", "b"], index=index) for index in INDEXES]
    assert len({key_of(column) for column in columns}) == len(columns)
    assert len({key_of(column.to_frame("a")) for column in columns}) == len(columns)
    again = [pd.Series(["a", "b"], index=index.copy()) for index in INDEXES]
    assert [key_of(column) for column in again] == [key_of(column) for column in columns]
    assert key_of(pd.RangeIndex(2)) == key_of(pd.Index([0, 1]))
    named = pd.Series([1], name="a")
    named.attrs["gain"] = 2
    assert len({key_of(s) for s in (pd.Series([1]), pd.Series([1], name="a"), named)}) == 3


def all_keys():
    X, reader, frame = registry.modalities(), EQUAL["encoder"](), equal_frames()[1]
    return [
        *[key_of(make()) for make in EQUAL.values()],
        *[data_key(X[name].dropna(), reader) for name in X],
        *[joblib.hash(frame), frame.image.array.content_key()],
    ]


@pytest.mark.slow
def test_keys_are_the_same_in_another_process(new_process):
    with new_process.Pool(1) as pool:
        assert pool.apply(all_keys) == all_keys()


# ------------------------------------------------------------------------------ environment


@pytest.mark.parametrize(
    ("estimator", "of_torch"),
    [
        (PCA(random_state=0), False),
        (make_pipeline(FunctionTransformer(np.log1p), LogisticRegression(random_state=0)), False),
        (FunctionTransformer(partial(torch.clip, min=0)), True),
        (Counted("log"), True),  # custom code may call it
        (make_pipeline(TextEncoder(random_state=0)), True),
    ],
)
def test_environment_has_settings_and_threads(monkeypatch, estimator, of_torch):
    key = Key.of(estimator)

    def state():
        return key_of(_caching.environment(key))

    before = state()
    for setting in ({"transform_output": "pandas"}, {"assume_finite": True}):
        with config_context(**setting):
            assert state() != before
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 77)
        assert (state() != before) == of_torch
    assert state() == before


def test_environment_has_autocast():
    key = Key.of(TextEncoder(random_state=0))
    states = {key_of(_caching.environment(key))}
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            states.add(key_of(_caching.environment(key)))
    assert len(states) == 3


@pytest.mark.parametrize("value", ["ieee", "tf32"])
def test_environment_has_the_precision_of_float32(value):
    key, work = Key.of(TextEncoder(random_state=0)), torch.backends.mkldnn.matmul
    before, states = work.fp32_precision, [key_of(_caching.environment(key))]
    try:
        work.fp32_precision = value  # torch.get_float32_matmul_precision may raise now
        states.append(key_of(_caching.environment(key)))
    finally:
        work.fp32_precision = before
    states.append(key_of(_caching.environment(key)))
    assert states[0] == states[2] != states[1]


def refused(*args, **kwargs):
    raise AssertionError("CUDA was touched")


@pytest.mark.parametrize("device", ["cpu", "auto", "cuda:1"])
def test_key_leaves_cuda_alone_unless_it_is_used(monkeypatch, device):
    for name in ("get_device_name", "get_device_properties", "current_device", "init"):
        monkeypatch.setattr(torch.cuda, name, refused)
    key = Key.of(make_pipeline(ImageEncoder(random_state=0, device=device), Counted("log")))
    keys = set()
    for available in (True, False):
        found = (lambda available=available: available) if device == "auto" else refused
        monkeypatch.setattr(torch.cuda, "is_available", found)
        keys.add(str(_caching.environment(key)))
    assert len(keys) == (2 if device == "auto" else 1)
    assert ("'cuda'" in keys.pop()) == (device == "cuda:1") or device == "auto"


# ------------------------------------------------------------------------------ store


@pytest.fixture
def store(tmp_path):
    return Store(open_memory(str(tmp_path / "memory")))


def location(store):
    return Path(store.memory.store_backend.location)


def test_store_computes_once_and_gives_fresh_objects(store):
    calls = []

    def compute():
        calls.append(1)
        return {"a": np.zeros(3)}

    first, second, third = (store.get(key_of("a"), compute) for _ in range(3))
    assert len(calls) == 1
    assert second is not third
    second["a"][:] = 1
    assert first["a"].sum() == store.get(key_of("a"), compute)["a"].sum() == 0


def test_store_prints_nothing(tmp_path, capsys, recwarn):
    store = Store(joblib.Memory(tmp_path, verbose=50))
    for _ in range(2):
        store.get(key_of("a"), lambda: np.zeros(100_000))
    assert capsys.readouterr().out == ""
    assert not recwarn.list


def test_store_keeps_nothing_of_a_failure(store):
    with pytest.raises(ZeroDivisionError):
        store.get(key_of("a"), lambda: 1 / 0)
    assert store.get(key_of("a"), lambda: 5) == 5
    assert not list((location(store) / "locks").iterdir())


@pytest.mark.parametrize("damage", ["truncated", "empty", "removed", 0.1, 0.5, 0.9, 0.99])
def test_store_computes_a_damaged_entry_again(store, damage):
    key = key_of("a")
    store.get(key, lambda: np.arange(1000))
    (entry,) = location(store).rglob("output.pkl")
    data = bytearray(entry.read_bytes())
    if damage == "removed":
        entry.unlink()
    elif damage in ("truncated", "empty"):
        entry.write_bytes(data[:50] if damage == "truncated" else b"")
    else:
        data[int(damage * len(data))] ^= 4
        entry.write_bytes(data)
    np.testing.assert_array_equal(store.get(key, lambda: np.arange(1000)), np.arange(1000))
    np.testing.assert_array_equal(store.get(key, None), np.arange(1000))


def test_reduce_size_and_clear_work_on_entries(store):
    for i in range(4):
        store.get(key_of(i), lambda: np.zeros(1000))
    store.memory.reduce_size(items_limit=1)
    assert len(list(location(store).rglob("output.pkl"))) == 1
    store.memory.reduce_size(bytes_limit=0)
    assert not list(location(store).rglob("output.pkl"))
    assert store.get(key_of(0), lambda: 7) == 7
    store.memory.clear(warn=False)
    assert store.get(key_of(0), lambda: 8) == 8


def test_store_without_locks_works(store, monkeypatch):
    monkeypatch.setattr(_caching, "fcntl", None)
    assert store.get(key_of("a"), lambda: 5) == 5
    assert not (location(store) / "locks").exists()


def test_store_whose_folder_cannot_hold_locks_works(store):
    (location(store) / "locks").write_text("a file")
    assert store.get(key_of("a"), lambda: 5) == 5


def race(folder, start):
    X, y = three()
    start.wait(60)
    for tag in "ab":
        child = CachedChild(Counted(folder + "/log", tag, sleep=0.5), open_memory(folder + "/m"))
        features = child.fit_transform(X[tag], y)
        plain = Counted(folder + "/plain", tag).fit_transform(X[tag], y)
        np.testing.assert_array_equal(features, plain)


@pytest.mark.slow
def test_processes_that_miss_at_once_fit_once(tmp_path, new_process):
    arguments = (str(tmp_path), new_process.Barrier(2))
    racers = [new_process.Process(target=race, args=arguments) for _ in range(2)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert [racer.exitcode for racer in racers] == [0, 0]
    assert counts(tmp_path / "log")["fit a"] == counts(tmp_path / "log")["fit b"] == 1
    assert not list((tmp_path / "m" / "joblib" / "locks").iterdir())


def test_threads_that_miss_at_once_compute_once(store):
    calls = []

    def compute():
        calls.append(1)
        time.sleep(0.2)
        return 5

    run = joblib.Parallel(n_jobs=4, backend="threading")
    assert run(joblib.delayed(store.get)(key_of("a"), compute) for _ in range(4)) == [5] * 4
    assert len(calls) == 1


class Interrupting:
    """Raise an error when it is pickled, loaded or identified."""

    def __init__(self, error):
        self.error = error

    def __reduce_ex__(self, protocol):
        raise self.error


@pytest.mark.parametrize("error", [MemoryError("full"), TimeoutError("late"), KeyboardInterrupt()])
def test_errors_that_concern_no_entry_pass(store, monkeypatch, error):
    """They are neither damage nor a missing key."""
    calls = [
        lambda: key_of(Interrupting(error)),
        lambda: store.get("a", lambda: Interrupting(error)),
    ]
    store.get("b", lambda: 1)

    def stop(*arguments, **keywords):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(_caching.pickle, "loads", stop)
        calls.append(lambda: store.get("b", lambda: 1))
        for call in calls:
            with pytest.raises(type(error)) as caught:
                call()
            assert caught.value is error
    if _caching.fcntl is not None:
        monkeypatch.setattr(_caching.fcntl, "flock", stop)
        with pytest.raises(type(error)) as caught:
            store.get("c", lambda: 1)
        assert caught.value is error


def test_store_warns_of_what_cannot_be_pickled(store):
    for _ in range(2):
        with pytest.warns(UserWarning, match="A result cannot be stored and is computed every"):
            assert next(store.get(key_of("a"), lambda: (x for x in (5,)))) == 5


# ------------------------------------------------------------------------------ memory=


@pytest.mark.parametrize("memory", [None, joblib.Memory(None)])
def test_no_memory(memory):
    assert open_memory(memory) is None


def test_without_memory_a_child_is_called_directly():
    class Plain:
        def fit_transform(self, X, y, **params):
            return X, y, params

        def transform(self, X, by=1):
            return X * by

    X = np.eye(2)
    child = CachedChild(Plain(), None)
    assert child.fit_transform(X, 1, {"fit_transform": {"a": 2}}) == (X, 1, {"a": 2})
    assert child.transform(X, {"by": 3})[0, 0] == 3
    assert child.key is None


def test_memory_parameter_is_cloned(tmp_path):
    class Holder(BaseEstimator):
        def __init__(self, memory=None):
            self.memory = memory

    memory = clone(Holder(joblib.Memory(tmp_path, verbose=0))).memory
    assert Store(memory).get(key_of("a"), lambda: 5) == 5
    assert Store(joblib.Memory(tmp_path, verbose=0)).get(key_of("a"), None) == 5
    assert open_memory(tmp_path).location == open_memory(str(tmp_path)).location


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    memory = str(tmp_path / "file" / "folder")
    with pytest.raises(OSError, match=f"memory='{memory}': the folder cannot be made"):
        open_memory(memory)


@pytest.mark.parametrize("what", ["a file", "an empty name"])
def test_a_store_in_no_folder_is_refused(tmp_path, what):
    path = tmp_path / "file"
    path.write_text("")
    memory = str(path) if what == "a file" else ""
    with pytest.raises(ValueError, match=f"memory=.* is {what}; expected the name of a folder"):
        open_memory(memory)


SCRIPT = """
    import pickle, sys
    import numpy as np
    from sklearn.base import BaseEstimator, TransformerMixin
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_validate
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer
    from sklearn_mmfusion import FusionTransformer

    class Mine(TransformerMixin, BaseEstimator):
        def fit(self, X, y=None):
            with open(sys.argv[1] + "/log", "a") as file:
                file.write("fit\\n")
            return self

        def transform(self, X):
            return 2 * X

    def plus(X):
        return X + 1

    if __name__ == "__main__":
        X = np.random.default_rng(0).normal(size=(30, 2))
        children = [("a", Mine(), [0]), ("b", FunctionTransformer(plus), [1])]
        fused = FusionTransformer(children, memory=sys.argv[1] + "/memory")
        if sys.argv[2] == "workers first":
            model = make_pipeline(fused, LogisticRegression())
            folds = [(range(30), [0, 1])] * 2
            cross_validate(model, X, np.arange(30) % 2, cv=folds, n_jobs=2)
        found = fused.fit(X, np.arange(30) % 2).named_transformers_
        assert type(found["a"]) is Mine
        assert found["b"].func is plus
        pickle.dumps(found)
"""


def run_script(path, folder):
    warnings.simplefilter("error")
    sys.argv = [path, folder, "alone"]
    runpy.run_path(path, run_name="__main__")


def test_classes_and_functions_of_a_script_are_cached(tmp_path, new_process):
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    with new_process.Pool(1, maxtasksperchild=1) as pool:
        for _ in range(2):
            pool.apply(run_script, (str(tmp_path / "script.py"), str(tmp_path)))
    assert (tmp_path / "log").read_text().splitlines() == ["fit"]


@pytest.mark.slow
def test_classes_and_functions_of_a_script_with_workers_are_cached(tmp_path, script_environment):
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    command = [sys.executable, "-W", "error", str(tmp_path / "script.py"), str(tmp_path)]
    for what in ("workers first", "alone"):
        subprocess.run([*command, what], env=script_environment, check=True)
    assert (tmp_path / "log").read_text().splitlines() == ["fit"]
