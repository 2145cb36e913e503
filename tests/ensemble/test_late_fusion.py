"""Late fusion against scikit-learn's ensembles, hand-made sums and itself without a modality."""

import numpy as np
import pytest
import sklearn
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import (
    BayesianRidge,
    LinearRegression,
    LogisticRegression,
    Ridge,
    RidgeCV,
)
from sklearn.metrics import log_loss
from sklearn.model_selection import (
    KFold,
    ShuffleSplit,
    StratifiedKFold,
    cross_val_predict,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_mmfusion.containers import multimodal_frame
from sklearn_mmfusion.ensemble import LateFusionClassifier, LateFusionRegressor
from sklearn_mmfusion.neural_network import NeuralClassifier
from tests._fusion_data import hide
from tests._late_data import RULES, SMALL_NET, iris, members, plain

ALL = slice(None)


@pytest.mark.slow  # the fast tests check one of each class: tests/test_common.py
@parametrize_with_checks(
    [LateFusionClassifier([("a", LogisticRegression(), ALL)], fusion=rule) for rule in RULES]
    + [
        LateFusionClassifier(
            [("a", LogisticRegression(), slice(0, 1)), ("b", LogisticRegression(), ALL)],
            weights="auto",
        ),
        LateFusionClassifier([("a", DecisionTreeClassifier(), ALL)], n_jobs=1),  # multilabel too
        LateFusionClassifier([("a", NeuralClassifier(**SMALL_NET), ALL)], fusion="evidence"),
        LateFusionClassifier([("a", StandardScaler(), ALL)], head=LogisticRegression()),
    ]
    + [
        LateFusionRegressor([("a", Ridge(), ALL), ("b", Ridge(9), slice(0, 1))], fusion=rule)
        for rule in ("mean", "median", "inverse_variance", "stacking")
    ]
    + [LateFusionRegressor([("a", Ridge(), ALL), ("b", Ridge(9), ALL)], weights="auto")],
    expected_failed_checks=lambda estimator: (
        {
            "check_sample_weight_equivalence_on_dense_data": "NeuralClassifier: rows repeated make "
            "other mini-batches than rows weighted"
        }
        if "Neural" in repr(estimator)
        else {}
    ),
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def on_columns(estimator, columns):
    return make_pipeline(ColumnTransformer([("keep", "passthrough", columns)]), estimator)


def their_members():
    (_, sepal, _), (_, petal, _) = members()
    return [
        ("sepal", on_columns(sepal, slice(0, 2))),
        ("petal", on_columns(petal, slice(2, 4))),
    ]


# ------------------------------------------------------------------------------ identities


@pytest.mark.parametrize("weights", [None, {"sepal": 2.0, "petal": 0.5}])
@pytest.mark.parametrize(("fusion", "voting"), [("mean", "soft"), ("vote", "hard")])
def test_mean_and_vote_equal_voting_classifier_over_column_pipelines(fusion, voting, weights):
    X, y = iris()
    mine = LateFusionClassifier(members(), fusion=fusion, weights=weights).fit(X, y)
    theirs = VotingClassifier(
        their_members(), voting=voting, weights=list(weights.values()) if weights else None
    ).fit(plain(X), y)
    np.testing.assert_array_equal(mine.predict(X), theirs.predict(plain(X)))
    if voting == "soft":
        np.testing.assert_allclose(mine.predict_proba(X), theirs.predict_proba(plain(X)))


@pytest.mark.parametrize("classes", [2, 3])
def test_stacking_equals_stacking_classifier_with_the_same_folds(classes):
    X, y = iris()
    kept = np.flatnonzero(y != "setosa") if classes == 2 else np.arange(len(y))
    X, y = X.iloc[kept], y[kept]
    folds = StratifiedKFold(4, shuffle=True, random_state=3)
    final = LogisticRegression(C=10)
    mine = LateFusionClassifier(members(), fusion="stacking", final_estimator=final, cv=folds)
    theirs = StackingClassifier(their_members(), final_estimator=final, cv=folds)
    mine.fit(X, y), theirs.fit(plain(X), y)
    np.testing.assert_allclose(mine.transform(X), theirs.transform(plain(X)), rtol=1e-10)
    np.testing.assert_allclose(mine.final_estimator_.coef_, theirs.final_estimator_.coef_)
    np.testing.assert_allclose(mine.predict_proba(X), theirs.predict_proba(plain(X)))


def test_product_is_the_softmax_of_summed_log_probabilities():
    X, y = iris()
    weights = {"sepal": 0.5}
    parts = [(c, LogisticRegression(max_iter=1000), c) for c in X.columns]
    fitted = LateFusionClassifier(parts, weights=weights).fit(X, y)
    logs = sum(
        w * estimator.fit(np.stack(X[column]), y).predict_log_proba(np.stack(X[column]))
        for (_, estimator, column), w in zip(parts, (0.5, 1.0), strict=True)
    )
    expected = logs - logsumexp(logs, axis=1, keepdims=True)
    np.testing.assert_allclose(fitted.predict_log_proba(X), expected, atol=1e-9)
    assert fitted.weights_ == {"sepal": 0.5, "petal": 1.0}


def test_regression_rules_equal_those_of_scikit_learn():
    X, y = load_diabetes(return_X_y=True)
    parts = [("a", Ridge(), slice(0, 5)), ("b", LinearRegression(), slice(5, 10))]
    theirs = [(name, on_columns(estimator, columns)) for name, estimator, columns in parts]
    mean = LateFusionRegressor(parts, weights={"a": 3.0}).fit(X, y)
    voting = VotingRegressor(theirs, weights=[3, 1]).fit(X, y)
    np.testing.assert_allclose(mean.predict(X), voting.predict(X))
    mine = LateFusionRegressor(parts, fusion="stacking", cv=KFold(3)).fit(X, y)
    final = make_pipeline(StandardScaler(), RidgeCV())
    stacking = StackingRegressor(theirs, final_estimator=final, cv=KFold(3)).fit(X, y)
    np.testing.assert_allclose(mine.predict(X), stacking.predict(X))


@pytest.mark.parametrize("routing", [False, True])
def test_stacked_numbers_do_not_depend_on_the_unit_of_y(routing):
    X, y = load_diabetes(return_X_y=True)
    weight = np.random.default_rng(0).integers(1, 9, len(y))
    parts = [("a", Ridge(), slice(0, 5)), ("b", LinearRegression(), slice(5, 10))]
    expected = LateFusionRegressor(parts, fusion="stacking").fit(X, y, weight).predict(X)
    with sklearn.config_context(enable_metadata_routing=routing):
        if routing:
            parts = [(n, e.set_fit_request(sample_weight=True), c) for n, e, c in parts]
        small = LateFusionRegressor(parts, fusion="stacking").fit(X, 1e-6 * y, weight).predict(X)
    np.testing.assert_allclose(small, 1e-6 * expected)


def test_inverse_variance_weighs_by_out_of_fold_errors():
    X, y = load_diabetes(return_X_y=True)
    parts = [("a", Ridge(), slice(0, 5)), ("b", LinearRegression(), slice(5, 10))]
    fitted = LateFusionRegressor(parts, fusion="inverse_variance", cv=KFold(3)).fit(X, y)
    total, share = 0.0, 0.0
    for name, estimator, columns in parts:
        told = cross_val_predict(estimator, X[:, columns], y, cv=KFold(3))
        variance = np.mean((told - y) ** 2)
        assert fitted.variances_[name] == pytest.approx(variance)
        total += estimator.fit(X[:, columns], y).predict(X[:, columns]) / variance
        share += 1 / variance
    y_mean, y_std = fitted.predict(X, return_std=True)
    np.testing.assert_allclose(y_mean, total / share)
    np.testing.assert_allclose(y_std, share**-0.5)


@pytest.mark.parametrize("estimator", [BayesianRidge(), GaussianProcessRegressor(alpha=1.0)])
def test_inverse_variance_uses_the_deviation_a_regressor_tells(estimator):
    X, y = load_diabetes(return_X_y=True)
    X, y = X[:60], (y[:60] - y.mean()) / y.std()
    parts = [("a", estimator, slice(0, 5)), ("b", estimator, slice(5, 10))]
    fitted = LateFusionRegressor(parts, fusion="inverse_variance", cv=3).fit(X, y)
    told = [clone(e).fit(X[:, c], y).predict(X[:, c], return_std=True) for _, e, c in parts]
    precision = np.array([1 / deviation**2 for _, deviation in told])
    expected = (precision * np.array([mean for mean, _ in told])).sum(0) / precision.sum(0)
    np.testing.assert_allclose(fitted.predict(X), expected)


# ------------------------------------------------------------------------------ absent modalities


@pytest.mark.parametrize("fusion", ["product", "mean", "vote", "max"])
@given(seed=st.integers(0, 999))
def test_absent_modality_equals_the_model_without_it(fusion, seed):
    X, y = iris()
    rng = np.random.default_rng(seed)
    X = hide(X, sepal=rng.choice(150, 30, replace=False), petal=rng.choice(150, 9, replace=False))
    X = X.drop(columns=[]).assign(both=X["petal"].array)
    triples = [*members(), ("both", GaussianNB(), "both")]
    full = LateFusionClassifier(triples, fusion=fusion).fit(X, y)
    without = LateFusionClassifier(triples[1:], fusion=fusion).fit(X, y)
    some = X.loc[~X["petal"].isna()]
    masked = hide(some.reset_index(drop=True), sepal=range(len(some)))
    np.testing.assert_allclose(full.predict_proba(masked), without.predict_proba(some), rtol=1e-12)


def test_absent_modality_equals_the_model_without_it_for_numbers_and_evidence():
    X, y = iris()
    codes = np.unique(y, return_inverse=True)[1]
    masked = hide(X, sepal=range(len(X)))
    for fusion in ("mean", "median", "inverse_variance"):
        parts = [("sepal", Ridge(), "sepal"), ("petal", Ridge(), "petal")]
        full = LateFusionRegressor(parts, fusion=fusion).fit(X, codes)
        without = LateFusionRegressor(parts[1:], fusion=fusion).fit(X, codes)
        np.testing.assert_allclose(full.predict(masked), without.predict(X))
    parts = [(name, NeuralClassifier(**SMALL_NET), name) for name in X.columns]
    full = LateFusionClassifier(parts, fusion="evidence").fit(X, y)
    without = LateFusionClassifier(parts[1:], fusion="evidence").fit(X, y)
    np.testing.assert_allclose(full.predict_proba(masked), without.predict_proba(X), rtol=1e-6)
    np.testing.assert_allclose(full.predict_uncertainty(masked), without.predict_uncertainty(X))
    assert (full.predict_uncertainty(X) < full.predict_uncertainty(masked)).all()


@pytest.mark.parametrize("fusion", RULES)
def test_row_with_nothing_gets_the_class_prior(fusion):
    X, y = iris()
    kept = np.r_[0:150, np.flatnonzero(y == "virginica")]
    X, y = hide(X.iloc[kept].reset_index(drop=True), sepal=[0, 7], petal=[7]), y[kept]
    weight = np.where(y == "setosa", 3.0, 1.0)
    fitted = LateFusionClassifier(members(), fusion=fusion).fit(X, y, sample_weight=weight)
    prior = DummyClassifier(strategy="prior").fit(X, y, sample_weight=weight).class_prior_
    with pytest.warns(UserWarning, match=r"1 of 200 rows .*first \[7\].* get the class prior"):
        proba = fitted.predict_proba(X)
    np.testing.assert_allclose(proba[7], prior)
    np.testing.assert_allclose(fitted.class_prior_, prior)
    with pytest.warns(UserWarning, match="no modality present"):
        assert fitted.predict(X)[7] == "setosa"


def test_row_with_nothing_gets_the_mean_of_the_target():
    X, y = iris()
    y, X = np.arange(150.0), hide(X, sepal=[3], petal=[3])
    parts = [("sepal", Ridge(), "sepal"), ("petal", Ridge(), "petal")]
    for fusion in ("mean", "median", "inverse_variance", "stacking"):
        fitted = LateFusionRegressor(parts, fusion=fusion).fit(X, y)
        with pytest.warns(UserWarning, match="get the mean target"):
            assert fitted.predict(X)[3] == pytest.approx(74.5)


def test_column_absent_at_predict_counts_as_absent_rows():
    X, y = iris()
    fitted = LateFusionClassifier(members()).fit(X, y)
    with pytest.warns(UserWarning, match=r"lacks columns.*\{'sepal': \['sepal'\]\}"):
        proba = fitted.predict_proba(X[["petal"]])
    np.testing.assert_array_equal(
        proba, fitted.predict_proba(hide(X, sepal=range(150))[["petal", "sepal"]])
    )


def test_stacking_fills_in_the_prior_and_tells_the_final_estimator():
    X, y = iris()
    X = hide(X, sepal=[0, 5])
    fitted = LateFusionClassifier(members(), fusion="stacking").fit(X, y)
    names = fitted.get_feature_names_out()
    assert list(names[[0, 3, 6]]) == ["sepal__setosa", "petal__setosa", "missingindicator_sepal"]
    columns = fitted.set_output(transform="pandas").transform(X)
    assert list(columns.columns) == list(names)
    np.testing.assert_allclose(columns.iloc[[0, 5], :3], 1 / 3)
    np.testing.assert_array_equal(columns["missingindicator_sepal"], X["sepal"].isna())


# ------------------------------------------------------------------------------ what is learnt


def test_auto_weights_minimize_the_log_loss_of_out_of_fold_probabilities():
    X, y = iris()
    folds = StratifiedKFold(3)
    parts = [*members(), ("noise", KNeighborsClassifier(1), "noise")]
    X = X.assign(noise=multimodal_frame(n=np.random.default_rng(0).normal(size=(150, 2)))["n"])
    fitted = LateFusionClassifier(parts, weights="auto", cv=folds).fit(X, y)
    logs = []
    for _, estimator, column in parts:
        proba = cross_val_predict(
            estimator, np.stack(X[column]), y, cv=folds, method="predict_proba"
        )
        logs.append(np.log(np.clip(proba, np.finfo(float).eps, None)))

    def loss(weights):
        told = log_loss(y, softmax_rows(np.tensordot(weights, logs, 1)))
        return told + 0.5 * np.sum((weights - 1) ** 2) / len(y)

    learned = np.array(list(fitted.weights_.values()))
    for step in np.vstack([np.eye(3), -np.eye(3)]) * 0.05:
        assert loss(np.maximum(learned + step, 1e-3)) >= loss(learned) - 1e-7
    assert learned[2] < 0.05  # sure of itself and wrong


def softmax_rows(logs):
    return np.exp(logs - logsumexp(logs, axis=1, keepdims=True))


def test_folds_keep_groups_apart():
    X, y = iris()
    groups = np.arange(150) % 7
    seen = []

    class Spy(GaussianNB):
        def fit(self, X, y, sample_weight=None):
            seen.append(set(np.round(X[:, 0], 6)))
            return super().fit(X, y)

    X = X.assign(sepal=multimodal_frame(g=np.column_stack([groups, groups]).astype(float))["g"])
    parts = [("sepal", Spy(), "sepal"), ("petal", GaussianNB(), "petal")]
    LateFusionClassifier(parts, weights="auto").fit(X, y, groups=groups)
    assert len(seen) == 6 and len(seen[0]) == 7  # all rows, then five folds
    assert sum(7 - len(part) for part in seen[1:]) == 7  # every group is left out once


def test_one_group_warns_and_folds_anyway():
    X, y = iris()
    with pytest.warns(UserWarning, match="all rows belong to one group"):
        fitted = LateFusionClassifier(members(), weights="auto").fit(X, y, groups=np.zeros(150))
    assert set(fitted.weights_) == {"sepal", "petal"}


def test_splits_need_not_cover_all_rows():
    X, y = iris()
    once = ShuffleSplit(1, test_size=0.3, random_state=0)
    fitted = LateFusionClassifier(members(), weights="auto", cv=once).fit(X, y)
    assert fitted.score(X, y) > 0.9
    train, test = next(once.split(y))
    stacked = LateFusionClassifier(members(), fusion="stacking", cv=once).fit(X, y)
    assert stacked.final_estimator_.n_features_in_ == 6
    by_hand = [e.fit(np.stack(X[c].iloc[train]), y[train]) for _, e, c in members()]
    columns = [
        e.predict_proba(np.stack(X[c].iloc[test]))
        for e, (_, _, c) in zip(by_hand, members(), strict=True)
    ]
    final = LogisticRegression().fit(np.hstack(columns), y[test])
    np.testing.assert_allclose(stacked.final_estimator_.coef_, final.coef_)


@pytest.mark.parametrize("method", ["sigmoid", "isotonic", "temperature"])
def test_calibration_tempers_overconfident_members(method):
    X, y = iris()
    noisy = np.random.default_rng(0).permutation(150)[:40]
    y = y.copy()
    y[noisy] = np.random.default_rng(1).choice(np.unique(y), 40)
    parts = [("petal", DecisionTreeClassifier(random_state=0, min_samples_leaf=2), "petal")]
    train, test = np.arange(100), np.arange(100, 150)
    raw = LateFusionClassifier(parts).fit(X.iloc[train], y[train])
    fitted = LateFusionClassifier(parts, calibration=method).fit(X.iloc[train], y[train])
    losses = [log_loss(y[test], model.predict_proba(X.iloc[test])) for model in (raw, fitted)]
    assert losses[1] < 0.6 * losses[0]
    assert set(fitted.calibrators_) == {"petal"} and raw.calibrators_ == {}


@pytest.mark.parametrize("method", ["sigmoid", "isotonic", "temperature"])
def test_calibration_of_two_classes_equals_scikit_learn(method):
    X, y = iris()
    two = y != "setosa"
    X, y, folds = X[two], y[two], StratifiedKFold(4)
    weight = np.random.default_rng(0).uniform(0.1, 3, len(y))
    fitted = LateFusionClassifier(
        [("sepal", LogisticRegression(), "sepal")], calibration=method, cv=folds
    ).fit(X, y, sample_weight=weight)
    rows = np.stack(X["sepal"])
    expected = CalibratedClassifierCV(LogisticRegression(), method=method, cv=folds, ensemble=False)
    expected = expected.fit(rows, y, sample_weight=weight).predict_proba(rows)
    np.testing.assert_allclose(fitted.predict_proba(X), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("fusion", ["product", "mean", "max"])
def test_class_unseen_by_a_member_keeps_its_prior(fusion):
    X, y = iris()
    absent = np.flatnonzero(y == "virginica")
    X = hide(X, sepal=absent[1:])  # one row of that class has it: some fold trains without
    parts = [("sepal", GaussianNB(), "sepal"), ("petal", GaussianNB(), "petal")]
    fitted = LateFusionClassifier(parts, weights="auto", cv=StratifiedKFold(3)).fit(X, y)
    assert np.isfinite(list(fitted.weights_.values())).all()
    X = hide(X, sepal=absent)
    fitted = LateFusionClassifier(parts, fusion=fusion).fit(X, y)
    if fusion == "mean":
        proba = fitted.named_estimators_["sepal"].predict_proba(np.stack(X["sepal"].dropna()))
        alone = fitted.predict_proba(hide(X, petal=range(150)).dropna(subset=["sepal"]))
        np.testing.assert_allclose(alone, np.column_stack([proba * 2 / 3, np.full(100, 1 / 3)]))
    shown = X.assign(sepal=iris()[0]["sepal"])  # now that class comes with a sepal
    assert fitted.score(shown.iloc[absent], y[absent]) > 0.6
