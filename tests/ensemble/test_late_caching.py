"""LateFusion(memory=): members and their answers, kept between candidates."""

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import BayesianRidge, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline

from sklearn_mmfusion import (
    JointFusionClassifier,
    LateFusionClassifier,
    LateFusionRegressor,
    TensorArray,
)
from tests import _registry as registry
from tests._cache_data import Counted, CountedEncoder, counts, three, triples

HEAD = LogisticRegression(random_state=0)


def search(model, grid, n_jobs=None):
    return GridSearchCV(model, grid, cv=KFold(3), n_jobs=n_jobs, error_score="raise")


@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_search_over_rules_fits_each_member_once_a_fold(tmp_path, n_jobs, new_workers):
    X, y = three()
    log = str(tmp_path / "log")
    grid = {"fusion": ["product", "mean", "vote", "max"]}
    model = LateFusionClassifier(triples(log), head=HEAD, memory=str(tmp_path / "memory"))
    found = search(model, grid, n_jobs).fit(X, y)
    for name in "abc":
        assert counts(log)[f"fit {name}"] == 3 + 1
        assert counts(log)[f"transform {name}"] == 6 + 1
    plain = search(LateFusionClassifier(triples(log), head=HEAD), grid).fit(X, y)
    for key in found.cv_results_:
        if "score" in key and "time" not in key:
            np.testing.assert_array_equal(found.cv_results_[key], plain.cv_results_[key])
    np.testing.assert_array_equal(found.predict_proba(X), plain.predict_proba(X))


def test_search_over_members_and_heads_costs_the_sum(tmp_path):
    X, y = three()
    log = str(tmp_path / "log")
    grid = {"a__scale": [1.0, 2.0], "b__scale": [1.0, 2.0], "head__C": [0.1, 1.0]}
    model = LateFusionClassifier(
        triples(log), head=HEAD, fusion="stacking", cv=2, memory=str(tmp_path / "memory")
    )
    search(model, grid).fit(X, y)
    # On each pair of thirds of the rows, and for the rule on each half of such a pair: a third,
    # of which there are three. Then the refit and its halves. Head and rule fit no encoder.
    assert counts(log)["fit a"] == counts(log)["fit b"] == 2 * (3 + 3) + 3
    assert counts(log)["fit c"] == (3 + 3) + 3


CASES = {
    "product": (LateFusionClassifier, {}, registry.classes),
    "evidence": (LateFusionClassifier, {"fusion": "evidence"}, registry.classes),
    "stacking": (LateFusionClassifier, {"fusion": "stacking", "cv": 2}, registry.classes),
    "head": (LateFusionClassifier, {"head": HEAD, "weights": "auto", "cv": 2}, registry.classes),
    "mean": (LateFusionRegressor, {}, registry.numbers),
    "ridge": (LateFusionRegressor, {"head": Ridge(random_state=0)}, registry.numbers),
}


@pytest.mark.parametrize("name", CASES)
def test_hits_equal_fits(tmp_path, name):
    cls, params, target = CASES[name]
    X, y = registry.modalities(), target()
    weight = np.linspace(0.5, 2, len(y))
    make = registry.of_encoders(cls)
    expected = make(random_state=0, **params).fit(X, y, sample_weight=weight)
    for _ in range(2):
        model = make(random_state=0, memory=str(tmp_path), **params)
        model.fit(X, y, sample_weight=weight)
        for rows in (slice(None), slice(3, 12)):
            told, plain = model.transform(X[rows]), expected.transform(X[rows])
            np.testing.assert_array_equal(told, plain)
            np.testing.assert_array_equal(model.predict(X[rows]), expected.predict(X[rows]))


def test_members_of_a_hit_are_objects_of_their_own(tmp_path):
    X, y = three()
    log = str(tmp_path / "log")
    made = [
        LateFusionClassifier(triples(log), head=HEAD, memory=str(tmp_path / "memory")).fit(X, y)
        for _ in range(2)
    ]
    assert counts(log)["fit a"] == 1
    assert made[0].estimators_[0] is not made[1].estimators_[0]
    assert type(made[1].estimators_[0][0]) is Counted  # nothing of the cache is left in it


def test_frozen_encoder_sees_each_cell_once(tmp_path):
    X, y = three()
    child = CountedEncoder(str(tmp_path / "log"), "frozen").fit(X["a"], y)
    encoders = [("a", FrozenEstimator(child), "a"), ("b", "passthrough", "b")]
    model = LateFusionClassifier(encoders, head=HEAD, fusion="stacking", cv=3)
    grid = {"head__C": [0.1, 1.0]}
    plain = search(model, grid).fit(X, y)
    before = counts(tmp_path / "log")["cell frozen"]
    found = search(model.set_params(memory=str(tmp_path / "memory")), grid).fit(X, y)
    assert counts(tmp_path / "log")["cell frozen"] == before + len(X)
    np.testing.assert_array_equal(found.predict_proba(X), plain.predict_proba(X))


def flat():
    X, y = three()
    return X.assign(a=TensorArray(np.stack(list(X["a"])).reshape(len(y), -1))), y


def test_frozen_classifier(tmp_path):
    X, y = flat()
    rows = np.stack(list(X["a"]))
    member = FrozenEstimator(LogisticRegression(random_state=0).fit(rows, y))
    for _ in range(2):
        model = LateFusionClassifier([("a", member, "a")], memory=str(tmp_path)).fit(X, y)
        np.testing.assert_allclose(model.predict_proba(X), member.predict_proba(rows))


@pytest.mark.parametrize("turn", [1, -1])
def test_one_estimator_fitted_for_different_ends(tmp_path, turn):
    """Alone it is asked for classes; before a classifier, or in a network, for features."""
    X, y = flat()
    both = (
        LinearDiscriminantAnalysis(),
        make_pipeline(LinearDiscriminantAnalysis(), LogisticRegression(random_state=0)),
    )
    made = [LateFusionClassifier([("a", member, "a")]) for member in both]
    made.append(
        JointFusionClassifier([("a", LinearDiscriminantAnalysis(), "a")], **registry.SMALL_JOINT)
    )
    for model in made[::turn]:
        expected = clone(model).fit(X, y).predict_proba(X)
        told = model.set_params(memory=str(tmp_path)).fit(X, y).predict_proba(X)
        np.testing.assert_array_equal(told, expected)


@pytest.mark.parametrize("turn", [1, -1])
def test_one_fit_keeps_each_of_its_outputs(tmp_path, turn):
    """Both rules fit the same members; one reads numbers, the other also their deviations."""
    X, y = flat()
    members, X_new = [("a", BayesianRidge(), "a")], X[::-1]
    for fusion in ["mean", "inverse_variance"][::turn]:
        plain = LateFusionRegressor(members, fusion=fusion).fit(X, y)
        cached = clone(plain).set_params(memory=str(tmp_path)).fit(X, y)
        for _ in range(2):
            np.testing.assert_array_equal(cached.predict(X_new), plain.predict(X_new))
            if fusion == "inverse_variance":
                both = [model.predict(X_new, return_std=True)[1] for model in (cached, plain)]
                np.testing.assert_array_equal(*both)
    assert len(list(tmp_path.rglob("output.pkl"))) == 1 + 2  # a fit, two outputs


@pytest.mark.parametrize("fusion", ["product", "evidence"])
def test_frozen_encoders_are_asked_through_the_cache(tmp_path, fusion):
    X, y = registry.modalities(), registry.classes()
    loss = {"loss": "evidential"} if fusion == "evidence" else {}
    frozen = [
        (name, FrozenEstimator(encoder.set_params(**loss).fit(X[name].dropna(), told)), name)
        for name, encoder, _ in registry.encoders()
        for told in [y[X[name].notna()]]
    ]
    expected = LateFusionClassifier(frozen, fusion=fusion).fit(X, y)
    for _ in range(2):
        model = LateFusionClassifier(frozen, fusion=fusion, memory=str(tmp_path)).fit(X, y)
        for rows in (slice(0, 10), slice(5, None)):
            np.testing.assert_allclose(
                model.predict_proba(X[rows]), expected.predict_proba(X[rows]), rtol=1e-4
            )


def test_lambda_is_not_kept_and_named(tmp_path):
    X, y = three()
    child = Counted(str(tmp_path / "log"), tag=(x for x in ()))
    child.__sklearn_clone__ = lambda: child  # a generator is not copied
    model = LateFusionClassifier([("a", child, "a")], head=HEAD, memory=str(tmp_path / "memory"))
    with pytest.warns(UserWarning, match="LateFusionClassifier: modality 'a' cannot be cached"):
        model.fit(X, y)


def test_hits_follow_routing(tmp_path):
    X, y = three()
    weight = np.linspace(0.5, 2, len(y))
    with config_context(enable_metadata_routing=True):
        told = []
        for memory in (None, str(tmp_path / "memory"), str(tmp_path / "memory")):
            child = Counted(str(tmp_path / "log"), "a").set_fit_request(sample_weight=True)
            member = make_pipeline(child, clone(HEAD).set_fit_request(sample_weight=False))
            model = LateFusionClassifier([("a", member, "a")], memory=memory)
            told.append(model.fit(X, y, sample_weight=weight).predict_proba(X))
    np.testing.assert_array_equal(told[0], told[1])
    np.testing.assert_array_equal(told[0], told[2])
    assert counts(tmp_path / "log")["fit a"] == 2
