"""JointFusion(memory=): prepared inputs and fitted transformers, kept between candidates."""

from functools import partial

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline

from sklearn_mmfusion import JointFusionClassifier, JointFusionRegressor
from sklearn_mmfusion.feature_extraction.audio import AudioEncoder
from sklearn_mmfusion.feature_extraction.image import ImageEncoder
from sklearn_mmfusion.feature_extraction.text import TextEncoder
from tests import _registry as registry
from tests._cache_data import CountedEncoder, counts, three, triples

SMALL = {**registry.SMALL_JOINT, "max_epochs": 2}


def search(model, grid, n_jobs=None):
    return GridSearchCV(model, grid, cv=KFold(3), n_jobs=n_jobs, error_score="raise")


@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_search_fits_each_transformer_once_a_fold(tmp_path, n_jobs, new_workers):
    X, y = three()
    log = str(tmp_path / "log")
    grid = {"fusion": ["concat", "gated"], "lr": [0.01, 0.02]}
    model = JointFusionClassifier(triples(log), memory=str(tmp_path / "memory"), **SMALL)
    found = search(model, grid, n_jobs).fit(X, y)
    for name in "abc":
        assert counts(log)[f"fit {name}"] == 3 + 1
        assert counts(log)[f"transform {name}"] == 6 + 1
    plain = search(JointFusionClassifier(triples(log), **SMALL), grid).fit(X, y)
    np.testing.assert_array_equal(
        found.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"]
    )
    np.testing.assert_array_equal(found.predict_proba(X), plain.predict_proba(X))


@pytest.mark.parametrize("cls", [TextEncoder, AudioEncoder])
def test_search_prepares_inputs_once_a_fold(tmp_path, monkeypatch, cls):
    calls = []

    def count(method):
        return lambda self, X, *args: calls.append(len(X)) or method(self, X, *args)

    for name in ("fit_prepare", "prepare"):
        monkeypatch.setattr(cls, name, count(getattr(cls, name)))
    X, y = registry.modalities(), registry.classes()
    model = registry.of_encoders(JointFusionClassifier)(memory=str(tmp_path), **SMALL)
    search(model, {"fusion": ["concat", "gated", "mean"]}).fit(X, y)
    assert len(calls) == 3 + 3 + 1  # of training and test rows of 3 folds, and the refit


def test_search_takes_statistics_of_images_once_a_fold(tmp_path, monkeypatch):
    calls = []
    learn = ImageEncoder._learn
    monkeypatch.setattr(ImageEncoder, "_learn", lambda s, *a: calls.append(1) or learn(s, *a))
    X, y = registry.modalities(), registry.classes()
    model = registry.of_encoders(JointFusionClassifier)(memory=str(tmp_path), **SMALL)
    search(model, {"fusion": ["concat", "gated", "mean"]}).fit(X, y)
    assert len(calls) == 3 + 1


CASES = {
    "classifier": (JointFusionClassifier, registry.classes, {}),
    "regressor": (JointFusionRegressor, registry.numbers, {}),
    "pretrained": (JointFusionClassifier, registry.classes, {"pretrain": True}),
}


def with_more(cls, **params):
    """Encoders, one behind a step of its own, a frozen one, and plain transformers."""
    X, y = registry.modalities(), registry.classes()
    text = dict((n, e) for n, e, _ in registry.encoders())["text"]
    known = X["text"].notna()
    frozen = FrozenEstimator(text.fit(X["text"][known], y[known]))
    triples = [
        *registry.encoders(),
        ("flat", make_pipeline(PCA(3, random_state=0)), "image"),
        ("frozen", frozen, "text"),
        ("pixels", "passthrough", "image"),
    ]
    return cls(triples, **params)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("make", [registry._make_of_encoders, with_more])
def test_hits_equal_fits(tmp_path, name, make):
    cls, target, params = CASES[name]
    X, y = registry.modalities(), target()
    if make is with_more:
        flat = X.assign(image=list(registry.images().reshape(len(X), -1)))
        X = X.assign(image=flat["image"].array.take([0, *range(1, len(X))]))
    make = partial(make, cls, **params, **SMALL)
    weight = np.linspace(0.5, 2, len(y))
    expected = make().fit(X, y, sample_weight=weight)
    for _ in range(2):
        model = make(memory=str(tmp_path)).fit(X, y, sample_weight=weight)
        for rows in (slice(None), slice(3, 12)):
            np.testing.assert_array_equal(model.predict(X[rows]), expected.predict(X[rows]))
        weights = [m.module_.state_dict() for m in (model, expected)]
        for key, value in weights[0].items():
            np.testing.assert_array_equal(value, weights[1][key])
        row = {column: X[column].iloc[0] for column in X}
        assert model.predict_one(row) == expected.predict_one(row)


def test_without_a_seed_nothing_is_kept(tmp_path):
    X, y = three()
    log = tmp_path / "log"
    params = {**SMALL, "random_state": None, "memory": str(tmp_path / "memory")}
    for _ in range(2):
        with pytest.warns(UserWarning, match="'random_state' has no seed"):
            JointFusionClassifier(triples(str(log), random_state=None), **params).fit(X, y)
    assert counts(log)["fit a"] == 2


def test_frozen_encoder_sees_each_cell_once(tmp_path):
    X, y = three()
    child = CountedEncoder(str(tmp_path / "log"), "frozen").fit(X["a"], y)
    (tmp_path / "log").unlink()
    encoders = [("a", FrozenEstimator(child), "a"), ("b", "passthrough", "b")]
    model = JointFusionClassifier(encoders, memory=str(tmp_path / "memory"), **SMALL)
    search(model, {"fusion": ["concat", "gated"]}).fit(X, y)
    assert counts(tmp_path / "log")["cell frozen"] == len(X)


def test_warm_start_goes_on_with_what_is_kept(tmp_path):
    X, y = registry.modalities(), registry.classes()
    told = []
    for memory in (None, str(tmp_path), str(tmp_path)):
        model = registry.of_encoders(JointFusionClassifier)(
            memory=memory, **{**SMALL, "warm_start": True}
        )
        told.append(model.fit(X, y).fit(X, y).predict_proba(X))
    np.testing.assert_array_equal(told[0], told[1])
    np.testing.assert_array_equal(told[0], told[2])
