"""FusionTransformer(memory=) of frozen transformers: each cell is asked once."""

import numpy as np
import pandas as pd
import pytest
from joblib import Memory
from sklearn import config_context
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_mmfusion import FusionTransformer, TensorArray, TextEncoder, _caching
from tests import _registry as registry
from tests._cache_data import Counted, CountedEncoder, counts, three
from tests._fusion_data import hide


def search(fused, grid, n_jobs=None):
    pipe = make_pipeline(fused, LogisticRegression())
    return GridSearchCV(pipe, grid, cv=KFold(3), n_jobs=n_jobs, error_score="raise")


def frozen(log, X, y):
    child = CountedEncoder(str(log), "frozen").fit(X["a"], y)
    log.unlink()
    return child


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_frozen_encoder_sees_each_cell_once(tmp_path, behind, n_jobs, new_workers):
    X, y = three()
    X["a"] = X["a"].array.take([*range(30), *range(6)])  # six rows repeat
    X = hide(X, a=[2])
    child = frozen(tmp_path / "log", X.dropna(), y[X["a"].notna()])
    child = FrozenEstimator(child)
    child = make_pipeline(child, PCA(1, random_state=0)) if behind else child
    children = [("a", child, "a"), ("b", "passthrough", "b")]
    fused = FusionTransformer(children, memory=str(tmp_path / "memory"))
    grid = {"logisticregression__C": [0.1, 1.0]}
    found = search(fused, grid, n_jobs).fit(X, y)
    told = counts(tmp_path / "log")
    assert told["cell frozen"] == 30
    assert told["fit frozen"] == 0
    found.predict(X)
    assert counts(tmp_path / "log") == told
    without = search(FusionTransformer(children), grid).fit(X, y)
    np.testing.assert_array_equal(found.predict_proba(X), without.predict_proba(X))


def test_frozen_encoder_whose_cells_are_all_there_is_read(tmp_path, capsys):
    X, y = three()
    child = FrozenEstimator(frozen(tmp_path / "log", X, y))
    memory = str(tmp_path / "memory")
    for rows, doing in [(10, "Fitting"), (10, "Reading"), (36, "Fitting"), (20, "Reading")]:
        fused = FusionTransformer([("a", child, "a")], memory=memory, verbose=True)
        fused.fit(X[:rows], y[:rows])
        assert f"{doing} a" in capsys.readouterr().out


class Stateless(BaseEstimator):
    """Learns nothing, but takes weights."""

    def fit(self, X, y=None, sample_weight=None):
        return self

    def transform(self, X):
        return np.asarray(X)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        return tags


@pytest.mark.parametrize("behind", [[], [StandardScaler()]])
def test_step_that_learns_nothing_may_take_weights(tmp_path, behind):
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(30, 2)), columns=["a", "b"])
    weights = np.arange(30) + 1.0
    frozen = FrozenEstimator(PCA(random_state=0).fit(X.to_numpy()))
    children = [("a", make_pipeline(Stateless(), frozen, *behind), ["a", "b"])]
    expected = FusionTransformer(children).fit(X, sample_weight=weights).transform(X)
    for _ in range(2):
        fused = FusionTransformer(children, memory=str(tmp_path)).fit(X, sample_weight=weights)
        np.testing.assert_array_equal(fused.transform(X), expected)


def test_frozen_text_encoder_and_stateless_steps(tmp_path):
    texts, y = registry.texts(), registry.classes()
    X = registry.modalities()[["text"]].assign(text=texts)
    encoder = TextEncoder(**registry.SMALL_TEXT).fit(texts, y)
    for child in (
        FrozenEstimator(encoder),
        make_pipeline(FrozenEstimator(encoder), FunctionTransformer(np.abs)),
        FrozenEstimator(TfidfVectorizer().fit(texts)),
    ):
        expected = FusionTransformer([("text", child, "text")]).fit(X, y)
        fused = FusionTransformer([("text", child, "text")], memory=str(tmp_path))
        for rows in (slice(0, 9), slice(4, 20), slice(None)):
            told, plain = fused.fit_transform(X[rows], y[rows]), expected.transform(X[rows])
            if hasattr(told, "toarray"):
                told, plain = told.toarray(), plain.toarray()
            np.testing.assert_allclose(told, plain, rtol=1e-5, atol=1e-6)


class Times(BaseEstimator):
    """A transformer whose `transform` takes metadata."""

    def fit(self, X, y=None):
        return self

    def transform(self, X, by=1):
        return by * np.asarray(X)

    def __sklearn_is_fitted__(self):
        return True


def test_frozen_transformer_is_handed_its_metadata(tmp_path):
    X = pd.DataFrame(np.ones((6, 2)), columns=["a", "b"])
    with config_context(enable_metadata_routing=True):
        child = FrozenEstimator(Times().set_transform_request(by=True))
        fused = FusionTransformer([("a", child, ["a", "b"])], memory=str(tmp_path))
        np.testing.assert_array_equal(fused.fit_transform(X, by=3), 3 * X)
        np.testing.assert_array_equal(fused.transform(X, by=2), 2 * X)


def test_first_step_is_kept_before_one_without_a_key(tmp_path):
    X, y = three()
    log = tmp_path / "log"
    for _ in range(2):
        child = make_pipeline(Counted(str(log), "a"), FunctionTransformer(lambda X: X))
        fused = FusionTransformer([("a", child, "a")], memory=str(tmp_path / "memory"))
        with pytest.warns(UserWarning, match="cannot be cached and is computed every time"):
            fused.fit(X, y)
        assert fused.named_transformers_["a"].memory is None
    assert counts(log)["fit a"] == 1


def test_frozen_encoder_fitted_again_is_another(tmp_path):
    X, y = three()
    child = frozen(tmp_path / "log", X, y)
    fused = FusionTransformer([("a", FrozenEstimator(child), "a")], memory=str(tmp_path / "m"))
    before = fused.fit_transform(X, y)
    child.fit(X["a"], 5 * y)
    assert (fused.transform(X) != before).any()


def centred(X):
    return X - X.mean(axis=0)


@pytest.mark.parametrize("behind", [False, True])
def test_what_rows_decide_together_is_not_kept_by_cell(tmp_path, behind):
    X, y = three()
    X = X.assign(a=TensorArray(np.stack(list(X["a"])).reshape(len(y), -1)))
    child = FrozenEstimator(FunctionTransformer(centred).fit(np.zeros((1, 9))))
    child = (
        make_pipeline(child, FrozenEstimator(StandardScaler().fit(np.eye(9)))) if behind else child
    )
    for rows in (slice(0, 20), slice(10, 36), slice(0, 20)):
        fused = FusionTransformer([("a", child, "a")], memory=str(tmp_path))
        expected = FusionTransformer([("a", child, "a")]).fit_transform(X[rows], y[rows])
        np.testing.assert_array_equal(fused.fit_transform(X[rows], y[rows]), expected)


def test_frozen_encoder_without_locks(tmp_path, monkeypatch):
    """Another process may fill the place that a call is about to fill."""
    X, y = three()
    child = FrozenEstimator(frozen(tmp_path / "log", X, y))
    expected = child.transform(X["a"])
    monkeypatch.setattr(_caching, "fcntl", None)

    def told(rows):
        fused = FusionTransformer([("a", child, "a")], memory=str(tmp_path / "memory"))
        return fused.fit_transform(X[rows], y[rows])

    with monkeypatch.context() as patch:
        transform = CountedEncoder.transform

        def late(*args):
            patch.setattr(CountedEncoder, "transform", transform)
            told(slice(20, 36))
            return transform(*args)

        patch.setattr(CountedEncoder, "transform", late)
        np.testing.assert_allclose(told(slice(0, 20)), expected[:20], rtol=1e-6)
    np.testing.assert_allclose(told(slice(None)), expected, rtol=1e-6)


def test_frozen_answers_are_read_no_further_than_needed(tmp_path, monkeypatch):
    X, y = three()
    child = FrozenEstimator(frozen(tmp_path / "log", X, y))
    make = {"memory": str(tmp_path / "memory")}
    for end in (10, 20, 36):
        FusionTransformer([("a", child, "a")], **make).fit(X[:end], y[:end])
    found = []
    find = _caching.Store.find
    monkeypatch.setattr(_caching.Store, "find", lambda s, key: found.append(key) or find(s, key))
    monkeypatch.setattr(_caching.Store, "lock", None)  # what is there is read without
    FusionTransformer([("a", child, "a")], **make).fit(X[:10], y[:10])
    assert len(found) == 1


def test_frozen_answers_that_were_deleted_are_computed_again(tmp_path):
    X, y = three()
    child = FrozenEstimator(frozen(tmp_path / "log", X, y))
    memory = Memory(tmp_path / "memory", verbose=0)
    fused = FusionTransformer([("a", child, "a")], memory=memory).fit(X.iloc[:20], y[:20])
    expected = fused.transform(X)
    memory.reduce_size(items_limit=1)
    np.testing.assert_array_equal(fused.transform(X), expected)
    memory.reduce_size(bytes_limit=0)
    np.testing.assert_array_equal(fused.transform(X), expected)
    assert counts(tmp_path / "log")["cell frozen"] > 36
