"""Late fusion of members, folds and answers that are out of the ordinary."""

import numpy as np
import pytest
import sklearn
from scipy.special import softmax
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import RandomForestClassifier, StackingClassifier, VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import BayesianRidge, LogisticRegression, Ridge, SGDClassifier
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    StratifiedKFold,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from sklearn_mmfusion.containers import multimodal_frame
from sklearn_mmfusion.ensemble import LateFusionClassifier, LateFusionRegressor
from sklearn_mmfusion.feature_extraction import ImageEncoder, TextEncoder
from sklearn_mmfusion.neural_network import NeuralClassifier
from tests._fusion_data import hide
from tests._late_data import SMALL_NET, iris, members
from tests._registry import SMALL_IMAGE, SMALL_TEXT, classes, modalities


@pytest.mark.parametrize(
    "member",
    [
        SVC(),
        make_pipeline(StandardScaler(), SVC()),
        SGDClassifier(),
        VotingClassifier([("a", GaussianNB()), ("b", SVC()), ("c", "drop")], voting="soft"),
        VotingClassifier([("a", GaussianNB())], voting="hard"),
    ],
    ids=["alone", "last step", "loss", "soft vote", "hard vote"],
)
def test_members_without_probabilities_are_refused_before_training(member):
    X, y = iris()
    parts = [("sepal", NotFitted(), "sepal"), ("petal", member, "petal")]
    with pytest.raises(TypeError, match="(?s)modality 'petal' .*no predict_proba. Wrap it"):
        LateFusionClassifier(parts).fit(X, y)


def test_members_that_get_probabilities_in_fit_are_trained():
    X, y = iris()
    stacking = StackingClassifier([("nb", GaussianNB())])
    search = GridSearchCV(GaussianNB(), {"var_smoothing": [1e-9]})
    voting = VotingClassifier([("search", search), ("off", "drop")], voting="soft")
    parts = [("sepal", stacking, "sepal"), ("petal", voting, "petal")]
    assert LateFusionClassifier(parts).fit(X, y).score(X, y) > 0.8


class NotFitted(GaussianNB):
    """A member that must not be fitted."""

    def fit(self, X, y, sample_weight=None):
        raise AssertionError


@pytest.mark.parametrize(
    "labels",
    [
        np.arange(100) % 2,
        ["virginica", "x-large"] * 50,
    ],
    ids=["none", "some"],
)
def test_frozen_member_that_knows_other_classes(labels):
    X, y = iris()
    vectors = np.stack(X["petal"][:100])
    frozen = FrozenEstimator(KNeighborsClassifier().fit(vectors, labels))
    parts = [("sepal", NotFitted(), "sepal"), ("petal", frozen, "petal")]
    match = r"(?s)modality 'petal'.*knows the classes .*; y has \['setosa'.*Fit it on the same"
    with pytest.raises(ValueError, match=match):
        LateFusionClassifier(parts).fit(X, y)


def test_frozen_member_may_know_fewer_or_more_classes():
    X, y = iris()
    known = y != "setosa"
    frozen = FrozenEstimator(GaussianNB().fit(np.stack(X["petal"][known]), y[known]))
    parts = [("petal", frozen, "petal"), ("sepal", GaussianNB(), "sepal")]
    late = LateFusionClassifier(parts, fusion="mean").fit(X, y)
    alone = late.predict_proba(hide(X, sepal=range(150)))
    np.testing.assert_allclose(alone[:, 0], 1 / 3)  # its prior
    frozen = FrozenEstimator(GaussianNB().fit(np.stack(X["petal"]), y))
    late = LateFusionClassifier([("petal", frozen, "petal")]).fit(X[known], y[known])
    np.testing.assert_allclose(late.predict_proba(X).sum(axis=1), 1)


def test_frozen_member_of_other_labels():
    X, y = iris()
    Y = np.column_stack([y == "setosa", y == "virginica"]).astype(int)
    frozen = FrozenEstimator(KNeighborsClassifier().fit(np.stack(X["petal"]), Y))
    parts = [("sepal", KNeighborsClassifier(), "sepal"), ("petal", frozen, "petal")]
    assert LateFusionClassifier(parts).fit(X, Y).score(X, Y) > 0.9
    with pytest.raises(ValueError, match=r"(?s)modality 'petal'.*knows the classes .*Fit it on"):
        LateFusionClassifier(parts).fit(X, Y[:, [0, 1, 1]])


FIT_ON_ONE_KIND = {
    "sklearn": KNeighborsClassifier(),
    "binarizer": MLPClassifier((3,), max_iter=1),
    "per label": OneVsRestClassifier(LogisticRegression()),
    "net": NeuralClassifier(**SMALL_NET),
    "pipeline": make_pipeline(StandardScaler(), KNeighborsClassifier()),
    "search": GridSearchCV(KNeighborsClassifier(), {"n_neighbors": [3]}, cv=2),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("kind", FIT_ON_ONE_KIND)
def test_frozen_member_of_another_kind_of_target(kind, multilabel):
    X, y = iris()
    Y = np.column_stack([y == "setosa", y == "virginica"]).astype(int)
    one = Y[:, 0]  # its classes are 0 and 1, like the numbers of the labels
    member, vectors = FIT_ON_ONE_KIND[kind], np.stack(X["petal"])
    frozen = FrozenEstimator(clone(member).fit(vectors, one if multilabel else Y))
    parts = [("sepal", NotFitted(), "sepal"), ("petal", frozen, "petal")]
    match = "(?s)modality 'petal'.*was fitted to (one|several).*y has (one|several).*Fit it on the"
    with pytest.raises(ValueError, match=match):
        LateFusionClassifier(parts).fit(X, Y if multilabel else one)
    frozen = FrozenEstimator(clone(member).fit(vectors, Y if multilabel else one))
    LateFusionClassifier([("petal", frozen, "petal")]).fit(X, Y if multilabel else one)


@pytest.mark.parametrize("multilabel", [False, True])
def test_frozen_encoder_of_another_kind_of_target(multilabel):
    texts, y = modalities()[["text"]].dropna(), classes()
    y = y[texts.index]
    one = (y == y[0]).astype(int)
    Y = np.column_stack([one, 1 - one])
    frozen = FrozenEstimator(TextEncoder(**SMALL_TEXT).fit(texts["text"], one if multilabel else Y))
    match = "(?s)modality 'text'.*was fitted to (one|several).*y has (one|several).*Fit it on the"
    with pytest.raises(ValueError, match=match):
        LateFusionClassifier([("text", frozen, "text")]).fit(texts, Y if multilabel else one)


@pytest.mark.parametrize(
    ("late", "member"), [(LateFusionClassifier, GaussianNB()), (LateFusionRegressor, Ridge())]
)
def test_frozen_member_that_is_not_fitted(late, member):
    X, y = iris()
    parts = [("petal", FrozenEstimator(member), "petal")]
    with pytest.raises(NotFittedError, match="(?s)modality 'petal' has .*Fit an estimator before"):
        late(parts).fit(X, np.arange(150) % 2)


def test_label_that_never_varies_is_told_by_every_rule():
    X, y = iris()
    Y = np.column_stack([np.ones(150), y == "setosa", np.zeros(150)]).astype(int)
    parts = [
        ("sepal", RandomForestClassifier(3, random_state=0), "sepal"),
        ("petal", KNeighborsClassifier(), "petal"),
    ]
    for fusion in ("product", "mean", "vote"):
        fitted = LateFusionClassifier(parts, fusion=fusion).fit(X, Y)
        assert (fitted.predict(X)[:, [0, 2]] == [1, 0]).all()


@pytest.mark.filterwarnings("ignore:Label .* is present in all training examples")
def test_stacking_of_a_label_that_never_varies():
    X, y = iris()
    Y = np.column_stack([np.ones(150), y == "setosa"]).astype(int)
    parts = [("petal", RandomForestClassifier(3, random_state=0), "petal")]
    fitted = LateFusionClassifier(parts, fusion="stacking").fit(X, Y)
    assert (fitted.predict(X)[:, 0] == 1).all() and fitted.score(X, Y) > 0.9


def test_stacking_knows_classes_that_its_folds_lack():
    X, y = iris()
    rows = np.flatnonzero(y != "virginica")
    cv = [(np.arange(150), rows)]
    fitted = LateFusionClassifier(members(), fusion="stacking", cv=cv).fit(X, y)
    proba = fitted.predict_proba(X)
    assert proba.shape == (150, 3) and (proba[:, 2] == 0).all()


def test_stacking_does_not_leak_classes_that_a_fold_has_not_seen():
    rng = np.random.default_rng(0)
    X = multimodal_frame(a=rng.normal(size=(60, 2)), b=rng.normal(size=(60, 2)))
    y, groups = np.arange(60) % 3, np.repeat(np.arange(3), 20)
    X = hide(X, b=np.flatnonzero((y == 2) & (groups != 0)))
    parts = [("a", GaussianNB(), "a"), ("b", GaussianNB(), "b")]
    seen = []

    class Spy(LogisticRegression):
        def fit(self, X, y, sample_weight=None):
            seen.append((X[:, -1], y))
            return super().fit(X, y)

    late = LateFusionClassifier(parts, fusion="stacking", cv=GroupKFold(3), final_estimator=Spy())
    late.fit(X, y, groups=groups)
    ((absent, target),) = seen
    # rows of class 2 that have b, judged by a fold that saw none of them, are not told as absent
    assert (absent[target == 2] == 0).sum() == ((y == 2) & (groups == 0)).sum()


def test_boolean_masks_are_splits_too():
    X, y = iris()
    train = np.random.default_rng(0).random(150) < 0.7
    masks, rows = (train, ~train), (np.flatnonzero(train), np.flatnonzero(~train))
    late = LateFusionClassifier(members(), weights="auto")
    by_mask = clone(late).set_params(cv=[masks]).fit(X, y).weights_
    assert by_mask == clone(late).set_params(cv=[rows]).fit(X, y).weights_


class Broken(GaussianNB):
    """Answers NaN for long sepals."""

    def predict_proba(self, X):
        proba = super().predict_proba(X)
        proba[X[:, 0] > 7] = np.nan
        return proba


def test_answers_that_are_not_finite_count_as_absent():
    X, y = iris()
    parts = [("sepal", Broken(), "sepal"), ("petal", GaussianNB(), "petal")]
    fitted = LateFusionClassifier(parts).fit(X, y)
    big = np.flatnonzero(np.stack(X["sepal"])[:, 0] > 7)
    with pytest.warns(UserWarning, match=f"'sepal' predicted NaN or infinity in {len(big)} of 150"):
        proba = fitted.predict_proba(X)
    np.testing.assert_allclose(proba[big], fitted.predict_proba(hide(X, sepal=big))[big])


def test_modality_without_a_say_in_training_keeps_one_for_rows_that_have_it_alone():
    X, y = load_iris(return_X_y=True)
    X = multimodal_frame(a=X[:, :2], b=X[:, 2:])
    parts = [(c, LogisticRegression(max_iter=1000), c) for c in "ab"]
    fitted = LateFusionClassifier(parts, weights="auto").fit(X, y)
    assert fitted.score(hide(X, b=range(150)), y) > 0.75


def test_few_rows_make_few_folds():
    X, y = iris()
    rows = np.r_[np.flatnonzero(y == "setosa")[:3], np.flatnonzero(y == "virginica")[:3]]
    X, y = X.iloc[rows], y[rows]
    late = LateFusionClassifier([("petal", LogisticRegression(), "petal")], weights="auto")
    assert late.fit(X, y, groups=np.arange(6)).weights_ and late.fit(X, y).weights_
    few = LateFusionRegressor([("petal", Ridge(), "petal")], weights="auto")
    assert few.fit(X.iloc[:3], [1.0, 2.0, 3.0]).weights_


def test_search_as_member_gets_weights_and_groups():
    X, y = iris()
    weight, groups = np.random.default_rng(0).uniform(0.1, 3, 150), np.arange(150) % 5
    search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=GroupKFold(2))
    fitted = LateFusionClassifier([("petal", search, "petal")])
    fitted.fit(X, y, sample_weight=weight, groups=groups)
    alone = clone(search).fit(np.stack(X["petal"]), y, sample_weight=weight, groups=groups)
    np.testing.assert_allclose(fitted.predict_proba(X), alone.predict_proba(np.stack(X["petal"])))


def test_late_fusion_is_a_member_of_late_fusion():
    X, y = load_diabetes(return_X_y=True)
    inner = LateFusionRegressor([("a", BayesianRidge(), [0, 1])], fusion="inverse_variance")
    for rule in ("inverse_variance", "mean"):
        inner.set_params(fusion=rule)
        parts = [("inner", inner, slice(0, 3)), ("rest", BayesianRidge(), slice(3, 10))]
        fitted = LateFusionRegressor(parts, fusion="inverse_variance").fit(X, y)
        assert fitted.score(X, y) > 0.3
    X, y = iris()
    net = NeuralClassifier(**SMALL_NET)
    inner = LateFusionClassifier([("sepal", net, "sepal")], fusion="evidence")
    parts = [("inner", inner, ["sepal"]), ("petal", net, "petal")]
    nested = LateFusionClassifier(parts, fusion="evidence", random_state=0).fit(X, y)
    evidence = nested.predict_evidence(X)
    np.testing.assert_allclose(nested.predict_uncertainty(X), 3 / (evidence + 1).sum(axis=1))


def test_evidence_stacks_all_columns_and_nothing_for_absent_ones():
    X, y = iris()
    kept = np.flatnonzero(y != "setosa")
    X, y = hide(X.iloc[kept], sepal=[0]), y[kept]
    parts = [(c, NeuralClassifier(**SMALL_NET), c) for c in X.columns]
    fitted = LateFusionClassifier(parts, fusion="evidence").fit(X, y)
    columns = fitted.transform(X)
    assert columns.shape == (100, 5) == (100, len(fitted.get_feature_names_out()))
    assert columns[0].tolist()[:2] == [0, 0] and columns[0, 4] == 1


def test_passthrough_is_the_head_alone():
    X, y = iris()
    X = X.assign(size=np.stack(X["petal"])[:, 0])
    head = LogisticRegression()
    parts = [("size", "passthrough", "size"), ("petal", "passthrough", "petal")]
    fitted = LateFusionClassifier(parts, head=head).fit(X, y)
    by_hand = [
        clone(head).fit(Z, y).predict_log_proba(Z)
        for Z in (X[["size"]].to_numpy(), np.stack(X["petal"]))
    ]
    np.testing.assert_allclose(fitted.predict_proba(X), softmax(sum(by_hand), axis=1))


def test_rule_set_after_fit_waits_for_the_next_fit():
    X, y = load_diabetes(return_X_y=True)
    fitted = LateFusionRegressor([("a", Ridge(), slice(None))]).fit(X, y)
    before = fitted.predict(X)
    np.testing.assert_array_equal(fitted.set_params(fusion="stacking").predict(X), before)


def test_splitter_gets_what_it_requests():
    X, y = iris()
    speaker = np.arange(150) % 3
    with sklearn.config_context(enable_metadata_routing=True):
        cv = GroupKFold(3).set_split_request(groups="speaker")
        late = LateFusionClassifier(members(), weights="auto", cv=cv)
        routed = late.fit(X, y, speaker=speaker)
    by_hand = clone(late).set_params(cv=list(GroupKFold(3).split(y, y, speaker))).fit(X, y)
    assert routed.weights_ == by_hand.weights_


@pytest.mark.parametrize("routing", [False, True])
def test_generator_of_folds_is_read_once(routing):
    X, y = iris()
    folds = list(StratifiedKFold(3).split(y, y))
    expected = LateFusionClassifier(members(), weights="auto", cv=folds).fit(X, y).weights_
    with sklearn.config_context(enable_metadata_routing=routing):
        late = LateFusionClassifier(members(), weights="auto", cv=(fold for fold in folds))
        assert late.fit(X, y).weights_ == expected


@pytest.mark.parametrize("column", [[], slice(0, 0), [False, False], lambda X: []])
def test_selection_without_a_column_is_named(column):
    X, y = iris()
    match = r"modality 'petal' selects no column of X \(column=.*Set it to 'drop'"
    with pytest.raises(ValueError, match=match):
        LateFusionClassifier([*members()[:1], ("petal", GaussianNB(), column)]).fit(X, y)


@pytest.mark.parametrize(
    ("params", "error", "match"),
    [
        ({"head": Ridge()}, TypeError, r"head=Ridge\(\); expected a classifier"),
        ({"head": GaussianNB}, TypeError, "head=.*GaussianNB.*expected a classifier .an instance"),
        ({"final_estimator": Ridge()}, TypeError, "final_estimator=Ridge.*expected a classifier"),
        ({"fusion": "vote", "weights": "auto"}, ValueError, "cannot learn weights"),
        ({"weights": {"sepal": 0, "petal": 0.0}}, ValueError, "is 0 for every modality; expected"),
        ({"weights": {"petal": 0}, "sepal": "drop"}, ValueError, "is 0 for every modality; exp"),
        (
            {"cv": [(np.arange(30), np.arange(90, 150))], "calibration": "sigmoid"},
            ValueError,
            "modality 'sepal': calibration='sigmoid' needs rows of every class.*have [12] of 3",
        ),
    ],
)
def test_parameters_that_do_not_fit_say_so(params, error, match):
    X, y = load_iris(return_X_y=True)
    order = np.r_[0:20, 50:70, 100:120, 20:50, 70:100]  # the last 60 rows hold two classes
    X, y = X[np.r_[order, 120:150]], y[np.r_[order, 120:150]]
    X = multimodal_frame(sepal=X[:, :2], petal=X[:, 2:])
    with pytest.raises(error, match=match):
        LateFusionClassifier(members()).set_params(**params).fit(X, y)


def test_encoders_of_another_kind_are_refused():
    X, y = modalities(), classes()
    image = ImageEncoder(**SMALL_IMAGE)
    with pytest.raises(ValueError, match="knows the classes None.*target_type='auto'"):
        numbers = clone(image).set_params(target_type="continuous")
        LateFusionClassifier([("image", numbers, "image")]).fit(X, y)
    frozen = FrozenEstimator(clone(image).fit(X["image"], y))
    with pytest.raises(
        ValueError, match="(?s)modality 'image'.*an encoder trained on classes; expected one"
    ):
        LateFusionRegressor([("image", frozen, "image")]).fit(X, y.astype(float))


def test_pipeline_that_ends_in_an_encoder_is_asked_by_its_head():
    X, y = modalities(), classes()
    loud = FunctionTransformer(lambda texts: texts.str.upper())
    pipeline = make_pipeline(loud, TextEncoder(**SMALL_TEXT, lowercase=True))
    fitted = LateFusionClassifier([("text", pipeline, "text")]).fit(
        X.dropna(), y[X.notna().all(axis=1)]
    )
    member = fitted.estimators_[0]
    texts = X["text"].dropna()
    told = member[-1].predict_head(texts.str.upper())
    alone = fitted.predict_proba(X.dropna(subset=["text"])[["text"]])
    np.testing.assert_allclose(alone, told / told.sum(axis=1, keepdims=True), rtol=1e-6)
