"""Keys of the cache: equal for equal work in every process, another for any other work."""

import os
import subprocess
import sys
import textwrap
import types
from collections import OrderedDict
from functools import partial

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.special
import torch
from scipy import sparse
from sklearn import config_context
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import KFold
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch import nn

from sklearn_mmfusion import FileArray, ImageEncoder, TensorArray, TextEncoder
from sklearn_mmfusion._cache._given import data_key, environment, path_roots
from sklearn_mmfusion._cache._keys import NoKeyError, UnseededError, key_of
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


LAYERS = [("a", nn.ReLU()), ("b", nn.Tanh())]


def test_keys_of_different_objects_differ():
    objects = [
        *(make() for make in EQUAL.values()),
        *[0, 0.0, -0.0, False, None, "", b"", "None", "0", (), [], {}, set(), Ellipsis],
        *[(1, 2), (12,), [1, 2], {1: 2}, {2: 1}, ("a", "b"), ("ab",), ("a", ("b",))],
        *[np.zeros(3), np.zeros(3, np.float32), np.zeros((3, 1)), np.zeros(0)],
        *[np.zeros((1,)), np.array(0.0), sparse.csr_array(np.zeros((3, 3)))],
        *[pd.Series([0, 0]), pd.Series([0, 0], name="a"), pd.Series([0.0, 0.0]), pd.Series(["0"])],
        *[{"a": 1, "b": 2}, {"b": 2, "a": 1}, OrderedDict(a=1, b=2), OrderedDict(b=2, a=1)],
        *[nn.Sequential(OrderedDict(layers)) for layers in (LAYERS, LAYERS[::-1])],
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


def with_attrs(data, **attrs):
    data.attrs.update(attrs)
    return data


@pytest.mark.parametrize(
    "make",
    [
        lambda value: with_attrs(pd.DataFrame({"a": [1]}), gain=value),
        lambda value: with_attrs(pd.Series([1]), gain=value),
        lambda value: pd.DataFrame({"a": [1]}).rename_axis(columns=str(value)),
        lambda value: types.SimpleNamespace(owner=value),
        lambda value: types.SimpleNamespace(verbose=value),
    ],
)
def test_key_tells_what_a_transformer_of_the_users_may_read(make):
    assert key_of(make(1)) == key_of(make(1)) != key_of(make(2))


def turned(obj):
    """The object with its attributes in the other order."""
    vars(obj).update([(name, vars(obj).pop(name)) for name in reversed(list(vars(obj)))])
    return obj


def test_key_ignores_order_of_attributes_and_layout_of_arrays():
    assert key_of(turned(PCA(random_state=0))) == key_of(PCA(random_state=0))
    array = np.arange(6.0).reshape(2, 3)
    assert key_of(array) == key_of(np.asfortranarray(array)) == key_of(array[:, ::-1][:, ::-1])


def plus_one(X):
    return X + 1


def plus_two(X):
    return X + 2


def test_key_of_memory_is_where_it_lies_not(tmp_path):
    memories = [joblib.Memory(None), joblib.Memory(tmp_path, verbose=0)]
    assert len({key_of(make_pipeline(PCA(random_state=0), memory=m)) for m in memories}) == 1
    for memory in memories:
        one, same, other = map(memory.cache, (plus_one, plus_one, plus_two))
        assert key_of(one) == key_of(same) != key_of(other)
    ignoring = memories[1].cache(plus_one, ignore=["X"])
    assert key_of(ignoring) != key_of(memories[1].cache(plus_one))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.expm1, scipy.special.expm1),
        (np.float64(2).__mul__, np.float64(3).__mul__),
        ({"a": 2}.get, {"a": 3}.get),
        ({"a": 2}.items(), {"a": 3}.items()),
        (types.MappingProxyType({"a": 2}), types.MappingProxyType({"a": 3})),
        (np.ma.masked_array([1, 2], [0, 1]), np.ma.masked_array([1, 2], [1, 0])),
        (np.ma.masked_array([1, 2], [0, 1]), np.ma.masked_array([2, 2], [0, 1])),
    ],
)
def test_key_tells_what_the_name_or_kind_of_an_object_does_not(one, other):
    assert key_of(FunctionTransformer(one)) != key_of(FunctionTransformer(other))


@pytest.mark.parametrize("obj", [np.log1p, scipy.special.expm1, pd.NA, torch.float32])
def test_key_of_what_pickle_knows_by_name(obj):
    assert len(key_of(obj)) == 32


def test_key_of_a_ufunc_that_cannot_be_imported_is_refused():
    with pytest.raises(NoKeyError, match="cannot be imported"):
        key_of(np.frompyfunc(plus_one, 1, 1))


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


# ------------------------------------------------------------------------------ data


def test_data_key_of_a_view_is_that_of_an_equal_column():
    images = registry.images()
    column = pd.Series(TensorArray(images))
    view = column.iloc[[5, 3, 8]]
    fresh = pd.Series(TensorArray(images[[5, 3, 8]].copy()), index=[5, 3, 8])
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


@pytest.mark.parametrize("as_texts", [True, False])
def test_relative_paths_are_those_of_the_folder(tmp_path, monkeypatch, as_texts):
    reader = ImageEncoder()
    keys = []
    for name in ("clean", "noisy"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.npy").write_bytes(b"1")
        os.utime(tmp_path / name / "a.npy", ns=(1, 1))
        monkeypatch.chdir(tmp_path / name)
        for path in ("a.npy", str(tmp_path / name / "a.npy")):
            keys.append(data_key(pd.Series([path] if as_texts else FileArray([path])), reader))
    assert len(set(keys)) == (4 if as_texts else 2)  # a text is told as it is, too


def test_key_is_the_same_in_another_process(script_environment):
    code = """
        import numpy as np, pandas as pd
        from tests import _registry as registry
        from tests.test_cache import EQUAL
        from tests.test_cache_code import REFERRED, WRAPPED, module_of
        from sklearn_mmfusion._cache._given import data_key
        from sklearn_mmfusion._cache._keys import key_of
        from sklearn_mmfusion.containers import TensorArray
        print([key_of(EQUAL[name]()) for name in EQUAL])
        print(key_of(module_of(REFERRED).f), key_of(module_of(WRAPPED).Mine()))
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
        (make_pipeline(FunctionTransformer(np.log1p), LogisticRegression()), False),
        (FunctionTransformer(partial(torch.clip, min=0)), True),
        (FunctionTransformer(joblib.Memory(None).cache(torch.relu)), True),
        (Counted("log"), True),  # any code of a user's may call it
        (make_pipeline(FrozenEstimator(TextEncoder())), True),
    ]:
        before = key_of(environment(estimator))
        for setting in ({"transform_output": "pandas"}, {"assume_finite": True}):
            with config_context(**setting):
                assert key_of(environment(estimator)) != before
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "get_num_threads", lambda: 77)
            assert (key_of(environment(estimator)) != before) == of_torch
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")
            assert (key_of(environment(estimator)) != before) == of_torch
        assert key_of(environment(estimator)) == before


class Indexed(BaseEstimator):
    """A transformer of the user's, whose code might read the index."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return np.asarray(X.index)[:, None]


INDEXES = [
    pd.RangeIndex(2),
    pd.Index([5, 6]),
    pd.Index(["u", "v"]),
    pd.to_datetime(["2020-01-01", "2020-01-02"]),
    pd.MultiIndex.from_tuples([(0, "u"), (0, "v")]),
    pd.MultiIndex.from_tuples([(0, "u"), (1, "v")]),
    pd.MultiIndex.from_tuples([(0, "u"), (1, "v")], names=["a", "a"]),
]


def test_index_counts():
    """A step behind one of a library's may read it, or a function that looks up the target."""
    reader = make_pipeline(StandardScaler().set_output(transform="pandas"), Indexed())
    columns = [pd.Series(["a", "b"], index=index) for index in INDEXES]
    assert len({data_key(column, reader) for column in columns}) == len(columns)
    assert len({key_of(column) for column in columns}) == len(columns)
    assert len({key_of(column.to_frame("a")) for column in columns}) == len(columns)
    again = [pd.Series(["a", "b"], index=index.copy()) for index in INDEXES]
    assert [key_of(column) for column in again] == [key_of(column) for column in columns]


class Measured(np.ma.MaskedArray):
    unit = "m"


@pytest.mark.parametrize("array", [np.eye(2).view(Measured), np.eye(2).view(np.matrix)])
def test_arrays_with_more_to_them_have_no_key(array):
    with pytest.raises(NoKeyError, match="is not a plain array"):
        key_of(array)


class Broken:
    def __getattribute__(self, name):
        raise RuntimeError("broken")


def test_any_failure_is_a_missing_key():
    with pytest.raises(NoKeyError, match="broken") as caught:
        key_of(Counted("log", tag={"a": Broken()}))
    assert caught.value.path.startswith("[0].tag")


def test_key_of_tensors_of_any_dtype():
    dtypes = [torch.bfloat16, torch.float16, torch.int16, torch.bool, torch.complex64]
    made = [[torch.tensor([[1, 0]], dtype=t), torch.tensor([1, 0], dtype=t)] for t in dtypes]
    flat = [tensor for pair in made for tensor in pair]
    assert len(set(map(key_of, flat))) == len(flat)
    assert [key_of(tensor.clone().T.T) for tensor in flat[::2]] == [*map(key_of, flat[::2])]


def test_splitter_that_does_not_shuffle_needs_no_seed():
    key_of(LogisticRegressionCV(cv=KFold(5), random_state=0))
    with pytest.raises(UnseededError):
        key_of(LogisticRegressionCV(cv=KFold(5, shuffle=True), random_state=0))
    with pytest.raises(UnseededError):  # its weights begin at random
        key_of(MLPClassifier(shuffle=False))


def test_key_holds_no_verbosity_nor_jobs():
    one, other = (RandomForestClassifier(random_state=0, n_jobs=n, verbose=n) for n in (1, 2))
    assert key_of(make_pipeline(one)) == key_of(make_pipeline(other))
