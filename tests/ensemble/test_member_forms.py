"""Late fusion: forms of members and targets, weights, routing, errors."""

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    cross_validate,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils.validation import has_fit_parameter

from sklearn_mmfusion.ensemble import LateFusionClassifier, LateFusionRegressor
from sklearn_mmfusion.ensemble.rules import fit_weights, product
from sklearn_mmfusion.neural_network import NeuralClassifier
from tests._fusion_data import hide
from tests._late_data import RULES, SMALL_NET, iris, members, plain

# ------------------------------------------------------------------------------ forms


def test_multilabel_members_of_either_form_agree_with_a_sum_by_hand():
    X, y = iris()
    Y = np.column_stack([y == "setosa", np.stack(X["petal"])[:, 0] > 6]).astype(int)
    forest = RandomForestClassifier(5, random_state=0)  # a list of (n, 2)
    net = NeuralClassifier(**SMALL_NET)  # (n, 2 labels)
    parts = [("sepal", forest, "sepal"), ("petal", net, "petal")]
    mean = LateFusionClassifier(parts, fusion="mean").fit(X, Y)
    told = [p[:, 1] for p in forest.fit(np.stack(X["sepal"]), Y).predict_proba(np.stack(X.sepal))]
    expected = (
        np.column_stack(told) + net.fit(np.stack(X.petal), Y).predict_proba(np.stack(X.petal))
    ) / 2
    np.testing.assert_allclose(mean.predict_proba(X), expected)
    np.testing.assert_array_equal(mean.predict(X), expected > 0.5)
    for fusion in RULES:
        fitted = LateFusionClassifier(parts, fusion=fusion, weights=None, cv=2).fit(X, Y)
        assert fitted.predict_proba(X).shape == fitted.predict(X).shape == (150, 2)
    assert list(fitted.get_feature_names_out()) == ["sepal__0", "sepal__1", "petal__0", "petal__1"]


def test_regression_of_several_targets():
    X, y = load_diabetes(return_X_y=True)
    Y = np.column_stack([y, 2 * X[:, 0] + 1])
    parts = [("a", Ridge(), slice(0, 5)), ("b", LinearRegression(), slice(5, 10))]
    for fusion in ("mean", "median", "inverse_variance", "stacking"):
        fitted = LateFusionRegressor(parts, fusion=fusion).fit(X, Y)
        assert fitted.predict(X).shape == Y.shape
    names = ["a__prediction0", "a__prediction1", "b__prediction0", "b__prediction1"]
    assert list(fitted.get_feature_names_out()) == names
    auto = LateFusionRegressor(parts, weights="auto").fit(X, Y)
    assert auto.predict(X).shape == Y.shape and auto.weights_["a"] != 1


def test_members_may_be_pipelines_tables_transformers_and_frozen():
    X, y = iris()
    X = X.assign(age=np.arange(150.0), size=plain(X)[:, 2])
    frozen = FrozenEstimator(LogisticRegression(max_iter=500).fit(np.stack(X["petal"]), y))
    fitted = LateFusionClassifier(
        [
            ("sepal", make_pipeline(StandardScaler(), LogisticRegression()), "sepal"),
            ("petal", frozen, "petal"),
            ("table", StandardScaler(), ["age", "size"]),
            ("gone", "drop", "nowhere"),
        ],
        head=LogisticRegression(),
    ).fit(X, y)
    assert [type(e).__name__ for e in fitted.estimators_] == ["Pipeline", "FrozenEstimator"] + [
        "Pipeline"
    ]
    assert fitted.named_estimators_["petal"].estimator is frozen.estimator
    assert isinstance(fitted.named_estimators_["table"][-1], LogisticRegression)
    assert fitted.score(X, y) > 0.85


@pytest.mark.parametrize("fusion", ["vote", "stacking"])
def test_members_without_probabilities_vote_and_stack(fusion):
    X, y = iris()
    parts = [("sepal", LinearSVC(), "sepal"), ("petal", LinearSVC(), "petal")]
    fitted = LateFusionClassifier(parts, fusion=fusion).fit(X, y)
    assert fitted.score(X, y) > 0.8


@pytest.mark.slow
def test_n_jobs_changes_nothing_and_seeds_derive_from_names():
    X, y = iris()
    parts = [(c, RandomForestClassifier(3, max_depth=2), c) for c in X.columns]
    late = LateFusionClassifier(parts, weights="auto", cv=3, random_state=0)
    one, two = clone(late).fit(X, y), clone(late).set_params(n_jobs=2).fit(X, y)
    np.testing.assert_array_equal(one.predict_proba(X), two.predict_proba(X))
    turned = clone(late).set_params(estimators=parts[::-1]).fit(X, y)
    np.testing.assert_allclose(turned.predict_proba(X), one.predict_proba(X), rtol=1e-4)
    other = clone(late).set_params(random_state=1).fit(X, y)
    assert not np.array_equal(other.predict_proba(X), one.predict_proba(X))


def test_grid_search_over_rule_and_a_members_parameter():
    X, y = iris()
    grid = [
        {"fusion": RULES, "sepal__C": [0.1, 1.0]},
        {"fusion": RULES[:2], "weights": ["auto"], "petal": ["drop", GaussianNB()]},
    ]
    search = GridSearchCV(LateFusionClassifier(members()), grid, cv=2, error_score="raise")
    assert search.fit(X, y).best_score_ > 0.9


def test_verbose_tells_each_fit(capsys):
    X, y = iris()
    LateFusionClassifier(members(), weights="auto", cv=2, verbose=True).fit(X, y)
    printed = capsys.readouterr().out
    assert "[LateFusionClassifier]" in printed
    assert "(2 of 2) Fitting petal, fold 2 of 2" in printed


def test_verbose_tells_what_was_read(capsys, tmp_path):
    X, y = iris()
    late = LateFusionClassifier(members(), verbose=True, memory=tmp_path, random_state=0)
    for word in ("Fitting", "Reading"):
        clone(late).fit(X, y)
        assert f"(2 of 2) {word} petal" in capsys.readouterr().out


# ------------------------------------------------------------------------------ weights, routing


def test_sample_weight_reaches_members_weights_and_final_estimator():
    X, y = iris()
    counts = np.random.default_rng(0).integers(0, 3, 150)
    weighted = LateFusionClassifier(members(), fusion="mean").fit(X, y, sample_weight=counts)
    rows = np.repeat(np.arange(150), counts)
    repeated = LateFusionClassifier(members(), fusion="mean").fit(X.iloc[rows], y[rows])
    np.testing.assert_allclose(
        weighted.predict_proba(X), repeated.predict_proba(X), rtol=1e-3, atol=1e-5
    )
    # only the rule can learn from the weights if the members are frozen
    frozen = [
        (name, FrozenEstimator(member.fit(np.stack(X[column]), y)), column)
        for name, member, column in members()
    ]
    for params in ({"weights": "auto"}, {"fusion": "stacking"}, {"calibration": "sigmoid"}):
        late = LateFusionClassifier(frozen, **params)
        unweighted = late.fit(X, y).predict_proba(X)
        difference = late.fit(X, y, sample_weight=counts).predict_proba(X) - unweighted
        assert np.abs(difference).max() > 1e-3
    late = LateFusionClassifier(frozen, weights="auto").fit(X, y, sample_weight=counts)
    outputs = np.stack([m.predict_proba(np.stack(X[c]))[:, None] for _, m, c in frozen])
    codes = np.unique(y, return_inverse=True)[1][:, None]
    weights = fit_weights(product, outputs, np.ones((2, 150), bool), codes, counts, 2)
    np.testing.assert_allclose(list(late.weights_.values()), weights, rtol=1e-3)


WITHOUT_WEIGHT = [*range(0, 150, 7), 1, 2]  # rows
FOLDS = {
    "integer": 3,
    "splitter": GroupKFold(3),
    "positions": list(KFold(3).split(range(150))),
    "masks": [(np.arange(150) % 2 == k, np.arange(150) % 2 != k) for k in range(2)],
}


@pytest.mark.parametrize("folds", FOLDS)
@pytest.mark.parametrize("params", [{"fusion": "stacking"}, {"weights": "auto"}], ids=str)
@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_rows_of_weight_zero_equal_removed_rows(kind, params, folds):
    X, y = iris()
    y[WITHOUT_WEIGHT] = "a class that only rows without weight have"
    X = hide(X, sepal=range(20, 30))
    late, parts = LateFusionClassifier, members()
    if kind == "numbers":
        late, y = LateFusionRegressor, np.stack(X["petal"])[:, 1] ** 2
        parts = [(c, Ridge(), c) for c in X]
    kept = np.setdiff1d(np.arange(150), WITHOUT_WEIGHT)
    weight = np.random.default_rng(0).uniform(0.1, 3, 150)
    weight[WITHOUT_WEIGHT] = 0
    groups, cv, fewer = np.arange(150) % 5, FOLDS[folds], FOLDS[folds]
    if isinstance(cv, list):
        rows = np.arange(150)
        fewer = [[np.searchsorted(kept, np.intersect1d(rows[f], kept)) for f in s] for s in cv]
    removed = late(parts, cv=fewer, **params)
    removed.fit(X.iloc[kept], y[kept], sample_weight=weight[kept], groups=groups[kept])
    model = late(parts, cv=iter(cv) if isinstance(cv, list) else cv, **params)
    model.fit(X, y, sample_weight=weight, groups=groups)
    np.testing.assert_array_equal(model.transform(X), removed.transform(X))
    np.testing.assert_array_equal(model.predict(X), removed.predict(X))
    assert model.weights_ == removed.weights_


def test_error_in_a_weighted_row_names_the_row_of_x():
    X, y = iris()
    X = X.assign(length=np.arange(150.0))
    weight = np.ones(150)
    weight[:10] = 0

    def fail(column):
        row = int(np.flatnonzero(column == 17)[0])
        raise ValueError(f"row {row} is odd")

    member = make_pipeline(FunctionTransformer(fail), GaussianNB())
    with pytest.raises(ValueError, match="row 17 is odd"):
        LateFusionClassifier([("length", member, "length")]).fit(X, y, sample_weight=weight)


def test_weights_reach_members_that_hand_them_on():
    X, y = iris()
    counts = np.random.default_rng(0).integers(0, 3, 150)
    voting = VotingClassifier([("a", LogisticRegression()), ("b", GaussianNB())], voting="soft")
    late = LateFusionClassifier([("petal", make_pipeline(StandardScaler(), voting), "petal")])
    rows = np.stack(X["petal"])
    scaler = StandardScaler().fit(rows, sample_weight=counts)
    expected = clone(voting).fit(scaler.transform(rows), y, sample_weight=counts)
    proba = late.fit(X, y, sample_weight=counts).predict_proba(X)
    np.testing.assert_allclose(proba, expected.predict_proba(scaler.transform(rows)), rtol=1e-6)


@pytest.mark.parametrize("routing", [False, True])
def test_final_estimator_of_labels_uses_weights(routing):
    X, y = iris()
    Y = np.column_stack([y == "setosa", np.stack(X["petal"])[:, 0] > 5]).astype(int)
    weight = np.random.default_rng(0).uniform(0.1, 3, 150)
    forest = FrozenEstimator(RandomForestClassifier(5, random_state=0).fit(np.stack(X["petal"]), Y))
    late = LateFusionClassifier([("petal", forest, "petal")], fusion="stacking", cv=KFold(3))
    with sklearn.config_context(enable_metadata_routing=routing):
        final = late.fit(X, Y, sample_weight=weight).final_estimator_
    columns = late.transform(X)
    for one, labels in zip(final.estimators_, Y.T, strict=True):
        alone = LogisticRegression().fit(columns, labels, sample_weight=weight)
        np.testing.assert_allclose(one.coef_, alone.coef_, rtol=1e-3)


@pytest.mark.parametrize(
    ("member", "final"),
    [
        (KNeighborsClassifier(), None),
        (make_pipeline(StandardScaler(), KNeighborsClassifier()), None),
        (GridSearchCV(KNeighborsClassifier(), {"n_neighbors": [1, 3]}), None),
        (OneVsRestClassifier(LogisticRegression()), None),
        (GaussianNB(), KNeighborsClassifier()),
    ],
)
def test_weights_that_would_be_ignored_are_refused(member, final):
    X, y = iris()
    late = LateFusionClassifier(
        [("petal", member, "petal")], fusion="stacking", final_estimator=final
    )
    name = "final_estimator" if final else "petal"
    with pytest.raises(TypeError, match=f"'{name}': .* takes no sample_weight in fit"):
        late.fit(X, y, sample_weight=np.ones(150))
    late.fit(X, y)


@pytest.mark.parametrize("late", [LateFusionClassifier, LateFusionRegressor])
def test_fit_names_weights_and_groups_and_requests_them(late):
    assert has_fit_parameter(late, "sample_weight") and has_fit_parameter(late, "groups")
    request = late([("a", "drop", "a")])._get_metadata_request().fit.requests
    assert request == {"sample_weight": True, "groups": True}


def test_metadata_is_routed_to_members_folds_and_final_estimator():
    X, y = iris()
    weight, groups = np.random.default_rng(0).uniform(1, 2, 150), np.arange(150) % 6
    with sklearn.config_context(enable_metadata_routing=True):
        parts = [
            (name, estimator.set_fit_request(sample_weight=name == "sepal"), column)
            for name, estimator, column in members()
        ]
        final = LogisticRegression().set_fit_request(sample_weight=True)
        late = LateFusionClassifier(parts, fusion="stacking", final_estimator=final)
        late.set_params(cv=GroupKFold(3)).set_score_request(sample_weight=True)
        routed = late.fit(X, y, sample_weight=weight, groups=groups)
        cross_validate(
            late,
            X,
            y,
            cv=GroupKFold(3),
            params={"sample_weight": weight, "groups": groups},
            error_score="raise",
        )
        with pytest.raises(TypeError, match="unexpected argument.*other"):
            late.fit(X, y, other=weight)
    sepal, petal = (estimator for _, estimator, _ in members())
    folds = list(GroupKFold(3).split(y, y, groups))
    columns = np.zeros((150, 6))
    for train, test in folds:
        S, P = np.stack(X["sepal"]), np.stack(X["petal"])
        columns[test, :3] = sepal.fit(S[train], y[train], weight[train]).predict_proba(S[test])
        columns[test, 3:] = petal.fit(P[train], y[train]).predict_proba(P[test])
    order = np.concatenate([test for _, test in folds])
    expected = LogisticRegression().fit(columns[order], y[order], weight[order])
    np.testing.assert_allclose(routed.final_estimator_.coef_, expected.coef_, rtol=1e-6)


def test_weights_under_another_name_reach_prior_and_members():
    X, y = iris()
    weight = np.random.default_rng(0).uniform(0.1, 3, 150)
    with sklearn.config_context(enable_metadata_routing=True):
        member = GaussianNB().set_fit_request(sample_weight="trust")
        late = LateFusionClassifier([("petal", member, "petal")])
        late.set_fit_request(sample_weight="trust").set_score_request(sample_weight=False)
        search = GridSearchCV(late, {}, cv=2).fit(X, y, trust=weight).best_estimator_
    expected = GaussianNB().fit(np.stack(X["petal"]), y, weight)
    np.testing.assert_allclose(search.class_prior_, expected.class_prior_)
    np.testing.assert_allclose(search.estimators_[0].var_, expected.var_)


# ------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("params", "error", "match"),
    [
        ({"estimators": []}, ValueError, "estimators must be a non-empty list"),
        ({"estimators": [("a", "drop", "sepal")]}, ValueError, "every estimator is 'drop'"),
        (
            {"estimators": [("a", Ridge(), "sepal")]},
            TypeError,
            r"modality 'a' has Ridge\(\); expected a classifier, or an encoder",
        ),
        (
            {"estimators": [("a", LinearSVC(), "sepal")]},
            TypeError,
            "modality 'a' has LinearSVC.*no predict_proba. Wrap it in CalibratedClassifierCV",
        ),
        (
            {"fusion": "evidence"},
            TypeError,
            "modality 'sepal' has Logistic.*has no predict_evidence",
        ),
        ({"weights": {"smell": 1.0}}, ValueError, r"weights names \['smell'\]; expected some of"),
        ({"weights": {"sepal": -1.0}}, ValueError, "weights of 'sepal' is -1.0"),
        ({"fusion": "max", "weights": {"sepal": 1.0}}, ValueError, "does not use weights"),
        ({"fusion": "sum"}, ValueError, "The 'fusion' parameter of LateFusionClassifier must be"),
        ({"estimators": [("a", GaussianNB(), "smell")]}, ValueError, "'a': column 'smell' is not"),
        ({"cv": 1}, ValueError, "The 'cv' parameter of LateFusionClassifier must be an int in"),
    ],
)
def test_bad_parameters_say_so(params, error, match):
    X, y = iris()
    late = LateFusionClassifier(members(), weights="auto").set_params(**params)
    if "weights" not in params and "cv" not in params:
        late.set_params(weights=None)
    with pytest.raises(error, match=match):
        late.fit(X, y)
    assert not hasattr(late, "estimators_")


def test_error_of_a_member_names_its_modality_and_fold():
    class Broken(GaussianNB):
        def fit(self, X, y):
            if len(X) < 150:
                raise ValueError("out of ink")
            return super().fit(X, y)

    X, y = iris()
    late = LateFusionClassifier([("sepal", Broken(), "sepal")], weights="auto", cv=3)
    with pytest.raises(ValueError, match="out of ink") as caught:
        late.fit(X, y)
    assert (
        "fitting modality 'sepal' of LateFusionClassifier, fold 1 of 3"
        in (caught.value.__notes__[0])
    )


def test_failed_fit_leaves_the_last_one():
    X, y = iris()
    late = LateFusionClassifier(members()).fit(X, y)
    before = late.predict_proba(X)
    with pytest.raises(ValueError, match="modality 'petal'.*no present row among 150"):
        late.fit(hide(X, petal=range(150)), y)
    np.testing.assert_array_equal(late.predict_proba(X), before)


def test_targets_that_do_not_fit_are_refused():
    X, _ = iris()
    with pytest.raises(ValueError, match="continuous.*use LateFusionRegressor for numbers"):
        LateFusionClassifier(members()).fit(X, np.linspace(0, 1, 150))
    Y = np.tile([[0, 1], [1, 1]], (75, 1))
    parts = [(c, NeuralClassifier(**SMALL_NET), c) for c in X.columns]
    with pytest.raises(ValueError, match="needs classes, but y is multilabel"):
        LateFusionClassifier(parts, fusion="evidence").fit(X, Y)
    with pytest.raises(ValueError, match="does not support multilabel targets"):
        LateFusionClassifier(parts, calibration="sigmoid").fit(X, Y)


def test_return_std_needs_the_rule_that_knows_it():
    X, y = load_diabetes(return_X_y=True)
    fitted = LateFusionRegressor([("a", Ridge(), slice(None))]).fit(X, y)
    with pytest.raises(ValueError, match="return_std=True needs fusion='inverse_variance'"):
        fitted.predict(X, return_std=True)


def test_probabilities_depend_on_the_final_estimator():
    X, y = iris()
    late = LateFusionClassifier(members(), fusion="stacking", final_estimator=LinearSVC())
    assert not hasattr(late.fit(X, y), "predict_proba")
    assert late.score(X, y) > 0.9
    assert not hasattr(LateFusionClassifier(members()), "predict_uncertainty")


def test_frame_with_a_plain_table_of_numbers_works():
    X = pd.DataFrame(load_iris().data, columns=list("abcd"))
    y = load_iris().target
    parts = [("left", GaussianNB(), ["a", "b"]), ("right", GaussianNB(), ["c", "d"])]
    assert LateFusionClassifier(parts).fit(X, y).score(X, y) > 0.9
