"""FusionTransformer(memory=): what is fitted how often, and that a hit equals a fit."""

import copy
import errno
import io
import pickle
import shutil
import threading
from types import MappingProxyType

import numpy as np
import pytest
from joblib import Memory
from joblib._store_backends import CacheWarning, FileSystemStoreBackend
from sklearn import config_context
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_mmfusion import FusionTransformer, TensorArray, _caching, make_fusion_transformer
from tests import _registry as registry
from tests._cache_data import Counted, counts, three, triples
from tests._fusion_data import TRIPLES, hide, make_X, masked, masks


def search(fused, grid, n_jobs=None):
    pipe = make_pipeline(fused, LogisticRegression())
    return GridSearchCV(pipe, grid, cv=KFold(3), n_jobs=n_jobs, error_score="raise")


# ------------------------------------------------------------------------------ searches


@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_search_over_classifier_fits_each_encoder_once_a_fold(tmp_path, n_jobs):
    X, y = three()
    log = str(tmp_path / "log")
    fused = FusionTransformer(triples(log), memory=str(tmp_path / "memory"))
    grid = {"logisticregression__C": [0.01, 0.1, 1.0, 10.0, 100.0, 1000.0]}
    found = search(fused, grid, n_jobs).fit(X, y)
    # 3 folds and the refit; a transform of each fold's training and test rows, and the refit's
    for name in "abc":
        assert counts(log)[f"fit {name}"] == 3 + 1
        assert counts(log)[f"transform {name}"] == 6 + 1
    plain = search(FusionTransformer(triples(str(tmp_path / "other"))), grid).fit(X, y)
    assert counts(tmp_path / "other")["fit a"] == 19
    for key in ("mean_test_score", "std_test_score"):
        np.testing.assert_array_equal(found.cv_results_[key], plain.cv_results_[key])
    np.testing.assert_array_equal(found.predict_proba(X), plain.predict_proba(X))


@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_search_over_three_encoders_costs_the_sum(tmp_path, n_jobs):
    X, y = three()
    log = str(tmp_path / "log")
    fused = FusionTransformer(triples(log), memory=Memory(tmp_path / "memory", verbose=0))
    scales = [0.5, 1.0, 2.0]
    grid = {f"fusiontransformer__{name}__scale": scales for name in "abc"}
    found = search(fused, grid, n_jobs).fit(X, y)
    assert len(found.cv_results_["params"]) == 27
    for name in "abc":  # 3 settings of 3 folds, not 27; and one of the refit
        assert counts(log)[f"fit {name}"] == 9 + 1
        assert counts(log)[f"transform {name}"] == 18 + 1


def test_search_keeps_data_in_place(tmp_path):
    """A hit gathers no cell: the cache reads digests, not bytes."""
    X, y = three()
    fused = FusionTransformer(triples(str(tmp_path / "log")), memory=str(tmp_path / "memory"))
    fused.fit(X, y)
    for name in X:  # any reading of a base fails from here on
        X[name].array._storage.gather = None
        X[name].array._storage._digest = None
    again = FusionTransformer(triples(str(tmp_path / "log")), memory=str(tmp_path / "memory"))
    again.fit(X, y)
    assert counts(tmp_path / "log")["fit a"] == 1


# ------------------------------------------------------------------------------ bits


def weights_of(child):
    child = child[-1] if hasattr(child, "steps") else child
    return pickle.loads(pickle.dumps(child)).__getstate__()


def assert_same_state(one, other):
    """Learned numbers of two fitted transformers, bit for bit."""
    left, right = weights_of(one), weights_of(other)
    assert left.keys() == right.keys()
    for name in left.keys() - {"history_"}:
        pairs = [(left[name], right[name])]
        if isinstance(left[name], dict):
            assert left[name].keys() == right[name].keys()
            pairs = [(left[name][key], right[name][key]) for key in left[name]]
        for a, b in pairs:
            if isinstance(a, np.ndarray):
                assert a.dtype == b.dtype
                np.testing.assert_array_equal(a, b)


def real(**params):
    return registry.fusion_transformer(random_state=0, **params)


def plain(**params):
    return FusionTransformer(TRIPLES, random_state=0, **params)


CASES = {
    "encoders": (real, registry.modalities, registry.classes),
    "transformers": (plain, lambda: masked(make_X(), masks()), lambda: np.arange(24) % 2),
    "regression": (real, registry.modalities, registry.numbers),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("extra", ["nothing", "weights", "groups"])
def test_hits_equal_fits(tmp_path, name, extra):
    make, data, target = CASES[name]
    X, y = data(), target()
    params = {
        "nothing": {},
        "weights": {"sample_weight": np.linspace(0.5, 2, len(y))},
        "groups": {"groups": np.repeat(np.arange(len(y) // 3), 3)},
    }[extra]
    other = X.iloc[5:15]
    expected = make().fit(X, y, **params)
    for turn in ("miss", "hit"):
        fused = make(memory=str(tmp_path))
        features = fused.fit_transform(X, y, **params)
        np.testing.assert_array_equal(features, make().fit_transform(X, y, **params), turn)
        np.testing.assert_array_equal(fused.transform(other), expected.transform(other), turn)
        for (_, child, _), (_, theirs, _) in zip(
            fused.transformers_, expected.transformers_, strict=True
        ):
            assert_same_state(child, theirs)


def test_hits_equal_fits_as_frames(tmp_path):
    X, y = registry.modalities(), registry.classes()
    X.index = X.index[::-1]
    for _ in range(2):
        fused = real(memory=str(tmp_path)).set_output(transform="pandas")
        told = fused.fit_transform(X, y)
        told_frame = real().set_output(transform="pandas").fit_transform(X, y)
        assert told.equals(told_frame)
        assert fused.transform(X.iloc[::2]).equals(told_frame.iloc[::2])
    with config_context(transform_output="pandas"):  # children make frames: other entries
        again = real(memory=str(tmp_path)).fit(X, y).transform(X)
        assert again.equals(real().fit(X, y).transform(X))


@pytest.mark.parametrize("turn", [1, 2])
def test_hits_follow_routing(tmp_path, turn):
    X, y = three()
    with config_context(enable_metadata_routing=True):
        told = []
        for memory in (None, str(tmp_path), str(tmp_path)):
            child = Counted(str(tmp_path / "log"), "a").set_fit_request(sample_weight=True)
            other = Counted(str(tmp_path / "log"), "b").set_fit_request(sample_weight=False)
            fused = FusionTransformer([("a", child, "a"), ("b", other, "b")], memory=memory)
            weight = np.full(len(X), float(turn))
            told.append(fused.fit_transform(X, y, sample_weight=weight))
    np.testing.assert_array_equal(told[0], told[1])
    np.testing.assert_array_equal(told[0], told[2])


@pytest.mark.parametrize(
    "change",
    [
        lambda X, y, w: (X.iloc[::-1], y, w),
        lambda X, y, w: (X, 1 - y[::-1] * 3, w),
        lambda X, y, w: (X, y, w * 2),
        lambda X, y, w: (hide(X, a=[3]), y, w),
    ],
)
def test_other_rows_targets_and_weights_are_fitted_anew(tmp_path, change):
    X, y = three()
    log = tmp_path / "log"
    weight = np.ones(len(y))
    make = {"memory": str(tmp_path / "memory")}
    FusionTransformer(triples(str(log)), **make).fit(X, y, sample_weight=weight)
    X, y, weight = change(X, y, weight)
    FusionTransformer(triples(str(log)), **make).fit(X, y, sample_weight=weight)
    assert counts(log)["fit a"] == 2


def test_hits_are_objects_of_their_own(tmp_path):
    X, y = three()
    made = [
        FusionTransformer(triples(str(tmp_path / "log")), memory=str(tmp_path / "memory")).fit(X, y)
        for _ in range(3)
    ]
    children = [fused.named_transformers_["a"] for fused in made]
    children[1].factor_ = np.nan
    assert np.isfinite([children[0].factor_, children[2].factor_]).all()
    assert np.isfinite(made[2].transform(X)).all()


# ------------------------------------------------------------------------------ not kept


def test_without_memory_nothing_is_keyed(monkeypatch):
    monkeypatch.setattr(_caching, "_key", None)
    X, y = registry.modalities(), registry.classes()
    assert np.isfinite(real().fit(X, y).transform(X)).all()  # a key would call None


def test_unseeded_is_fitted_each_time_with_a_warning(tmp_path):
    X, y = three()
    log = tmp_path / "log"
    for _ in range(2):
        made = triples(str(log), random_state=None)
        message = r"modality '(a|b|c)' cannot be cached .* 'random_state' has no seed. Set it"
        with pytest.warns(UserWarning, match=message) as told:
            fused = FusionTransformer(made, memory=str(tmp_path / "memory")).fit(X, y)
            fused.transform(X)
        assert len(told) == 3  # one a modality
    assert counts(log)["fit a"] == 2
    made = triples(str(log), random_state=None)
    for _ in range(2):
        FusionTransformer(made, memory=str(tmp_path / "memory"), random_state=0).fit(X, y)
    assert counts(log)["fit a"] == 3


def test_lambda_is_not_kept_and_named(tmp_path):
    X, y = three()
    children = [("a", make_pipeline(FunctionTransformer(lambda X: X[:, 0]), StandardScaler()), "a")]
    fused = FusionTransformer(children, memory=str(tmp_path))
    message = r"modality 'a' cannot be cached .* parameter 'steps\[0\]\[1\].func' has no key"
    with pytest.warns(UserWarning, match=message):
        told = fused.fit_transform(X, y)
    np.testing.assert_array_equal(told, fused.transform(X))


def test_hits_have_the_parameters_asked_for(tmp_path):
    X, y = three()
    for verbose in (0, 1):
        child = make_pipeline(Counted(str(tmp_path / "log"), "a"), KMeans(2, random_state=0))
        child.set_params(kmeans__verbose=verbose)
        fused = FusionTransformer([("a", child, "a")], memory=str(tmp_path / "memory")).fit(X, y)
        assert fused.named_transformers_["a"][-1].verbose == verbose
    assert counts(tmp_path / "log")["fit a"] == 1


class Trained(Counted):
    net_params = MappingProxyType({"accelerator": dict})


def test_what_processes_train_together_is_not_kept(tmp_path):
    """Of ranks that share a folder all must train: one would wait for the other's lock."""
    X, y = three()
    for _ in range(2):
        child = make_pipeline(Trained(str(tmp_path / "log"), "a"), StandardScaler())
        fused = FusionTransformer([("a", child, "a")], memory=str(tmp_path / "memory")).fit(X, y)
        fused.transform(X)
    assert counts(tmp_path / "log")["fit a"] == 2
    assert not list((tmp_path / "memory").rglob("output.pkl"))


@pytest.mark.parametrize("copy", [True, False])
def test_changed_base_is_fitted_anew_if_it_is_shared(tmp_path, copy):
    X, y = three()
    pixels = np.zeros((len(y), 3, 3))
    X["a"] = TensorArray(pixels, copy=copy)
    fused = FusionTransformer(triples(str(tmp_path / "log")), memory=str(tmp_path / "memory"))
    before = fused.fit_transform(X, y)
    pixels[:] = 1
    assert (fused.fit_transform(X, y) == before).all() == copy
    assert counts(tmp_path / "log")["fit a"] == (1 if copy else 2)


def test_failed_fit_is_not_kept(tmp_path):
    X, y = three()
    broken = FusionTransformer([("a", PCA(50, random_state=0), "a")], memory=str(tmp_path))
    for _ in range(2):
        with pytest.raises(ValueError, match="n_components") as caught:
            broken.fit(X.assign(a=list(np.zeros((len(y), 9)))), y)
        assert "modality 'a'" in caught.value.__notes__[0]


@pytest.mark.parametrize("make", [str, lambda folder: Memory(folder, verbose=0)])
def test_pickle_of_a_fitted_model_has_no_memory(tmp_path, make):
    X, y = three()
    memory = make(tmp_path / "memory")
    fused = FusionTransformer(triples(str(tmp_path / "log")), memory=memory)
    assert str(pickle.loads(pickle.dumps(fused)).memory) == str(memory)
    expected = fused.fit(X, y).transform(X)
    moved = pickle.loads(pickle.dumps(make_pipeline(fused)))[0]
    shutil.rmtree(tmp_path / "memory")
    assert moved.memory is None
    np.testing.assert_array_equal(moved.transform(X), expected)
    assert not (tmp_path / "memory").exists()
    for twin in (copy.copy(fused), clone(fused), copy.deepcopy(make_pipeline(fused))[0]):
        assert str(twin.memory) == str(memory)
    np.testing.assert_array_equal(copy.deepcopy(fused).transform(X), expected)


def test_full_disk_leaves_no_litter(tmp_path, monkeypatch):
    X, y = three()
    fused = FusionTransformer(triples(str(tmp_path / "log")), memory=str(tmp_path / "memory"))
    expected = FusionTransformer(triples(str(tmp_path / "log"))).fit_transform(X, y)
    (tmp_path / "memory").mkdir()
    full = OSError(errno.ENOSPC, "No space left on device")

    class Full(io.FileIO):
        def write(self, data):
            super().write(memoryview(data)[:7])
            raise full

    with monkeypatch.context() as patch:
        patch.setattr(FileSystemStoreBackend, "_open_item", staticmethod(Full))
        with pytest.warns(CacheWarning, match="No space left"):
            np.testing.assert_array_equal(fused.fit_transform(X, y), expected)
    files = [path.name for path in (tmp_path / "memory").rglob("*") if path.is_file()]
    assert files == [".gitignore"]
    np.testing.assert_array_equal(fused.fit_transform(X, y), expected)
    assert counts(tmp_path / "log")["fit a"] == 3


class Locked(Counted):
    def fit(self, X, y=None):
        self.lock_ = threading.Lock()
        return super().fit(X, y)


def test_what_cannot_be_pickled_is_named(tmp_path):
    X, y = three()
    child = Locked(str(tmp_path / "log"), "a")
    fused = FusionTransformer([("a", child, "a")], memory=str(tmp_path / "memory"))
    message = "modality 'a' cannot be stored and is computed every time: cannot pickle '_thread.lo"
    with pytest.warns(UserWarning, match=message):
        fused.fit(X, y)


# ------------------------------------------------------------------------------ nested


@pytest.mark.slow  # starts workers
def test_pipelines_nested_fusions_and_workers(tmp_path):
    X, y = three()

    def make(memory, log, n_jobs=None):
        log = str(tmp_path / log)
        b = [("b", Counted(log, "b"), "b")]
        inner = FusionTransformer(b, memory=memory, random_state=0)
        made = [
            ("a", make_pipeline(Counted(log, "a"), PCA(1, random_state=0)), "a"),
            ("rest", inner, ["b", "c"]),
        ]
        return FusionTransformer(made, memory=memory, n_jobs=n_jobs)

    expected = make(None, "plain").fit_transform(X, y)
    for n_jobs in (None, 2, None):
        fused = make(str(tmp_path / "memory"), "log", n_jobs)
        np.testing.assert_array_equal(fused.fit_transform(X, y), expected)
        np.testing.assert_array_equal(fused.transform(X), expected)
    assert counts(tmp_path / "log")["fit a"] == counts(tmp_path / "log")["fit b"] == 1


def test_other_steps_behind_an_encoder_fit_it_once(tmp_path):
    X, y = three()
    log = str(tmp_path / "log")
    fused = FusionTransformer(
        [("a", make_pipeline(Counted(log, "a"), PCA(random_state=0)), "a")],
        memory=str(tmp_path / "memory"),
    )
    search(fused, {"fusiontransformer__a__pca__n_components": [1, 2]}).fit(X, y)
    assert counts(log)["fit a"] == 3 + 1


@pytest.mark.parametrize("new", ["target", "weight"])
def test_first_step_of_a_pipeline_is_fitted_anew_for_another_target_or_weight(tmp_path, new):
    X, y = three()
    child = make_pipeline(Counted(str(tmp_path / "log"), "a"), FunctionTransformer())
    cached = FusionTransformer([("a", child, "a")], memory=str(tmp_path / "memory"))
    plain = clone(cached).set_params(memory=None)
    cached.fit(X, y, sample_weight=np.ones(len(y)))
    y, weight = (y, np.full(len(y), 3.0)) if new == "weight" else (y + 5, np.ones(len(y)))
    learned = [model.fit_transform(X, y, sample_weight=weight) for model in (cached, plain)]
    np.testing.assert_array_equal(*learned)
    assert counts(tmp_path / "log")["fit a"] == 2 + 1


def test_make_fusion_transformer_takes_memory(tmp_path):
    fused = make_fusion_transformer((Counted("log"), "a"), memory=str(tmp_path))
    assert fused.memory == str(tmp_path)
