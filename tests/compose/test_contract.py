"""FusionTransformer: seeds, parameters, names, routing, errors: scikit-learn's protocol."""

import pickle
import re

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import PCA
from sklearn.ensemble import BaggingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.utils import estimator_html_repr

from sklearn_mmfusion.compose import FusionTransformer, make_fusion_transformer
from sklearn_mmfusion.neural_network import JointFusionClassifier
from tests._fusion_data import (
    NAMES,
    TRIPLES,
    CellEncoder,
    hide,
    make_X,
    masked,
    masks,
    pass_both,
    two_vectors,
)
from tests._registry import SMALL_JOINT


def test_adding_a_modality_changes_no_other():
    X = make_X()
    draws = [
        FusionTransformer(triples, random_state=7).fit(X).named_transformers_["image"].draw_
        for triples in (TRIPLES[:1], TRIPLES, TRIPLES[::-1])
    ]
    np.testing.assert_array_equal(draws[0], draws[1])
    np.testing.assert_array_equal(draws[0], draws[2])
    fused = FusionTransformer(TRIPLES, random_state=7).fit(X)
    children = fused.named_transformers_
    assert children["image"].random_state != children["audio"].random_state
    assert TRIPLES[0][1].random_state is None
    kept = FusionTransformer([("image", CellEncoder(random_state=3), "image")]).fit(X)
    assert kept.named_transformers_["image"].random_state == 3


def test_parameters_are_searched_and_transformers_replaced():
    X, y = make_X(), np.arange(24) % 2
    model = make_pipeline(FusionTransformer(TRIPLES, random_state=0), LogisticRegression())
    grid = {
        "fusiontransformer__image__n_components": [2, 3],
        "fusiontransformer__fusion": ["concat", "weighted"],
        "fusiontransformer__audio": ["drop", CellEncoder()],
    }
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(X, y)
    assert len(search.cv_results_["params"]) == 8
    fused = FusionTransformer(TRIPLES).set_params(vector=StandardScaler(), image="drop").fit(X)
    assert fused.output_indices_["image"] == slice(0, 0)
    assert fused.named_transformers_["image"] == "drop"
    assert fused.output_indices_["vector"] == slice(2, 6)


@pytest.mark.parametrize("missing", [pytest.param(0.0, marks=pytest.mark.slow), 0.3])
def test_cross_validation_scores_are_equal_with_two_jobs_and_from_a_pickle(missing):
    X, y = masked(make_X(), masks(missing=missing)), np.arange(24) % 2
    fused = FusionTransformer(TRIPLES, random_state=0, n_jobs=2).fit(X, y)
    serial = clone(fused).set_params(n_jobs=None).fit(X, y)
    np.testing.assert_array_equal(fused.transform(X), serial.transform(X))
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(fused)).transform(X), fused.transform(X)
    )
    model = make_pipeline(serial, LogisticRegression())
    assert np.isfinite(cross_validate(model, X, y, cv=2)["test_score"]).all()


def test_bagging_works_by_position():
    X, y = masked(make_X(), masks()), np.arange(24) % 2
    by_position = [(n, t, [4, 5] if n == "table" else i) for i, (n, t, _) in enumerate(TRIPLES)]
    model = make_pipeline(FusionTransformer(by_position), LogisticRegression())
    bagging = BaggingClassifier(model, n_estimators=2, random_state=0).fit(X, y)
    assert bagging.predict(X).shape == (24,)
    by_name = make_pipeline(FusionTransformer(TRIPLES), LogisticRegression())
    with pytest.raises(ValueError, match="'image' is given by name.*Give its position"):
        BaggingClassifier(by_name, n_estimators=2, random_state=0).fit(X, y)


def test_a_frozen_transformer_is_reused():
    X = make_X()
    encoder = CellEncoder(random_state=0).fit(X["image"])
    fused = FusionTransformer([("image", FrozenEstimator(encoder), "image")], random_state=5).fit(X)
    np.testing.assert_array_equal(fused.transform(X), encoder.transform(X["image"]))


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_set_output(library):
    frames = pytest.importorskip(library)
    X = make_X().set_index(np.arange(100, 124))
    out = FusionTransformer(TRIPLES).set_output(transform=library).fit_transform(X)
    assert isinstance(out, frames.DataFrame)
    assert list(out.columns)[:3] == ["image__0", "image__1", "audio__0"]
    assert list(out.columns)[-1] == "table__height"
    if library == "pandas":
        assert out.index.equals(X.index)


def test_feature_names_come_from_the_transformers():
    X = make_X().assign(city=["oslo", "rome"] * 12)
    triples = [
        *TRIPLES[:3],
        ("plain", FunctionTransformer(np.asarray), ["age"]),
        ("city", OneHotEncoder(sparse_output=False).set_output(transform="pandas"), ["city"]),
        ("age", "passthrough", "age"),
        ("raw", "passthrough", "vector"),
    ]
    fused = FusionTransformer(triples).fit(X)
    assert fused.get_feature_names_out().tolist() == (
        ["image__0", "image__1", "audio__0", "audio__1", "vector__pca0", "vector__pca1"]
        + ["plain__0", "city__city_oslo", "city__city_rome", "age__age"]
        + [f"raw__{i}" for i in range(4)]
    )
    fused.set_params(verbose_feature_names_out="{feature_name}@{transformer_name}")
    assert fused.get_feature_names_out()[4] == "pca0@vector"
    fused.set_params(verbose_feature_names_out=lambda name, feature: f"{name}.{feature}")
    assert fused.get_feature_names_out()[4] == "vector.pca0"
    fused.set_params(verbose_feature_names_out=False)
    with pytest.raises(ValueError, match=r"names \['0', 'cellencoder0', .* are not unique"):
        fused.get_feature_names_out()
    with pytest.raises(ValueError, match="input_features is not equal to feature_names_in_"):
        fused.get_feature_names_out(["x"] * 7)


# ------------------------------------------------------------------------------ fit parameters


class Failing(TransformerMixin, BaseEstimator):
    def __init__(self, when="fit", out=None):
        self.when = when
        self.out = out

    def fit(self, X, y=None):
        if self.when == "fit":
            raise RuntimeError("boom")
        return self

    def transform(self, X):
        if self.when == "transform":
            raise RuntimeError("boom")
        return self.out


def test_fit_params_reach_the_children_that_take_them():
    X, weight = make_X(), np.linspace(0, 1, 24)
    triples = [
        ("image", CellEncoder(), "image"),
        ("pipe", make_pipeline(CellEncoder(), StandardScaler()), "audio"),
        ("nested", FusionTransformer([("s", StandardScaler(), ["age"])]), ["age"]),
        ("pca", PCA(2), "vector"),
    ]
    fused = FusionTransformer(triples).fit(X, sample_weight=weight, groups=np.arange(24))
    children = fused.named_transformers_
    np.testing.assert_array_equal(children["image"].seen_["groups"], np.arange(24))
    np.testing.assert_array_equal(children["pipe"][0].seen_["sample_weight"], weight)
    mean = children["nested"].named_transformers_["s"].mean_
    np.testing.assert_allclose(mean, np.average(X["age"], weights=weight))
    with pytest.raises(ValueError, match="color"):
        fused.fit(X, color=3)


def test_metadata_routing_follows_requests_on_present_rows():
    X, weight = hide(make_X(), image=[0, 1]), np.linspace(0, 1, 24)
    with sklearn.config_context(enable_metadata_routing=True):
        encoder = CellEncoder().set_fit_request(sample_weight=True, groups=False)
        triples = [
            ("image", encoder, "image"),
            ("table", StandardScaler().set_fit_request(sample_weight=False), ["age"]),
            ("keep", "passthrough", ["height"]),
        ]
        model = make_pipeline(FusionTransformer(triples), StandardScaler())
        model[-1].set_fit_request(sample_weight=False)
        model.fit(X, sample_weight=weight)
        image = model[0].named_transformers_["image"]
        np.testing.assert_array_equal(image.seen_["sample_weight"], weight[2:])
        assert image.seen_["groups"] is None
        plain = StandardScaler().fit(X[["age"]])
        np.testing.assert_allclose(model[0].named_transformers_["table"].mean_, plain.mean_)
        assert np.isfinite(model.transform(X)).all()


def test_metadata_is_routed_to_children_without_fit_transform():
    class OnlyFit(BaseEstimator):
        def fit(self, X, y=None, sample_weight=None):
            self.weight_ = sample_weight
            return self

        def transform(self, X):
            return np.asarray(X)

    X, weight = make_X(), np.linspace(0, 1, 24)
    plain = FusionTransformer([("t", OnlyFit(), ["age"])]).fit(X, sample_weight=weight)
    np.testing.assert_array_equal(plain.named_transformers_["t"].weight_, weight)
    with sklearn.config_context(enable_metadata_routing=True):
        child = OnlyFit().set_fit_request(sample_weight=True)
        routed = FusionTransformer([("t", child, ["age"])]).fit(X, sample_weight=weight)
    np.testing.assert_array_equal(routed.named_transformers_["t"].weight_, weight)


# ------------------------------------------------------------------------------ errors


def test_errors_of_a_transformer_name_its_modality():
    X = make_X()
    with pytest.raises(RuntimeError, match="boom") as caught:
        FusionTransformer([("sound", Failing(), "audio")]).fit(X)
    assert caught.value.__notes__ == [
        "Raised while fitting modality 'sound' of FusionTransformer (Failing, column 'audio'). "
        "An estimator of tables takes a list of columns: ['audio']."
    ]
    with pytest.raises(RuntimeError, match="boom") as caught:
        FusionTransformer([("table", Failing("transform"), ["age", "height"])]).fit(X)
    assert "modality 'table' of FusionTransformer (Failing, columns 'age', 'height')" in str(
        caught.value.__notes__
    )


@pytest.mark.parametrize(
    ("out", "match"),
    [
        (
            np.zeros(24),
            r"modality 'm': Failing returned shape \(24,\); expected \(24, n_features\)",
        ),
        (np.zeros((3, 2)), r"returned shape \(3, 2\); expected \(24, n_features\)"),
        (
            np.full((24, 1), "a", dtype=object),
            "returned dtype object, which is not numeric",
        ),
    ],
)
def test_bad_output_of_a_transformer_is_refused(out, match):
    with pytest.raises(ValueError, match=match):
        FusionTransformer([("m", Failing(when=None, out=out), ["age"])]).fit(make_X())


def test_a_width_that_changes_is_refused():
    fused = FusionTransformer([("m", Failing(when=None, out=np.zeros((24, 2))), ["age"])])
    fused.fit(make_X()).named_transformers_["m"].out = np.zeros((24, 3))
    with pytest.raises(ValueError, match="returned 3 features; expected 2"):
        fused.transform(make_X())


@pytest.mark.parametrize("level", ["feature", "joint"])
def test_columns_that_depend_on_the_rows_are_refused(level):
    dummies = FunctionTransformer(pd.get_dummies)
    triples = [("color", dummies, ["color"])]
    X = pd.DataFrame({"color": ["red", "blue", "green"] * 8})
    model = FusionTransformer(triples)
    if level == "joint":
        model = JointFusionClassifier(triples, **SMALL_JOINT)
    model.fit(X, np.arange(24) % 2)
    apply = model.predict if level == "joint" else model.transform
    apply(X[::-1])
    for colors, found in [("pink red green", "green.*pink.*red"), ("red green red", "green.*red")]:
        message = rf"FunctionTransformer returned the columns .*{found}'\]; expected .*blue.*as in"
        with pytest.raises(ValueError, match=message):
            apply(pd.DataFrame({"color": colors.split()}))
    arrays = FunctionTransformer(lambda X: pd.get_dummies(X).to_numpy())
    model.set_params(color=arrays).fit(X, np.arange(24) % 2)
    with pytest.raises(ValueError, match="FunctionTransformer returned 2 features; expected 3"):
        apply(X[:2])


def test_nothing_to_learn_from_is_refused():
    X = hide(make_X(), audio=np.ones(24, dtype=bool))
    with pytest.raises(ValueError, match=r"modality 'audio' \(column 'audio'\) has no present row"):
        FusionTransformer(TRIPLES).fit(X)
    with pytest.raises(ValueError, match="every transformer is 'drop' or selects no column"):
        FusionTransformer([("a", "drop", "audio"), ("b", PCA(), [])]).fit(X)
    with pytest.raises(ValueError, match=r"modality 'a': column 'clip' is not in X, which has"):
        FusionTransformer([("a", PCA(), "clip")]).fit(X)


def test_passthrough_of_text_is_refused():
    for column in ["text", ["age", "text"]]:
        with pytest.raises(ValueError, match="'passthrough' needs numbers .* column 'text'"):
            FusionTransformer([("a", "passthrough", column)]).fit(make_X())


def test_passthrough_of_a_table_flattens_cells_and_leaves_absent_ones_open():
    X = hide(make_X(), image=[2])
    X_t = FusionTransformer([("all", "passthrough", ["age", "image"])]).fit_transform(X)
    assert X_t.shape == (24, 10)
    assert np.isnan(X_t[2, 1:]).all() and np.isnan(X_t).sum() == 9


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"missing": "median"}, "'missing' parameter of FusionTransformer must be"),
        ({"remainder": "keep"}, "'remainder' parameter of FusionTransformer must be"),
        ({"n_jobs": 1.5}, "'n_jobs' parameter of FusionTransformer must be"),
        ({"fusion_params": 3}, "'fusion_params' parameter of FusionTransformer must be"),
        ({"transformers": {}}, "'transformers' parameter of FusionTransformer must be"),
        ({"transformers": []}, "transformers must be a non-empty list"),
        ({"transformers": [("fusion", PCA(), "a")]}, "'fusion' is a parameter of FusionTransform"),
    ],
)
def test_bad_parameters_are_refused(params, match):
    with pytest.raises(ValueError, match=match):
        pass_both().set_params(**params).fit(two_vectors())


def test_not_fitted():
    with pytest.raises(NotFittedError, match="FusionTransformer"):
        pass_both().transform(two_vectors())
    with pytest.raises(NotFittedError, match="FusionTransformer"):
        pass_both().get_feature_names_out()


@pytest.mark.parametrize("change", [{"b": Failing()}, {"fusion": "sum", "b": PCA(1)}])
def test_a_failed_fit_leaves_the_fitted_state_alone(change):
    X = two_vectors()
    fused = pass_both().fit(X)
    expected, state = fused.transform(X), dict(vars(fused))
    renamed = X.rename(columns={"a": "c"}).assign(a=X["a"], z=1.0)
    with pytest.raises((RuntimeError, ValueError)):
        fused.set_params(**change).fit(renamed)
    learned = {k: v for k, v in state.items() if k.endswith("_")}
    assert all(vars(fused)[key] is value for key, value in learned.items())
    np.testing.assert_array_equal(
        fused.set_params(b="passthrough", fusion="concat").transform(X), expected
    )


def test_a_refit_forgets_column_names():
    fused = pass_both().fit(two_vectors())
    fused.set_params(transformers=[("a", StandardScaler(), [0])]).fit(np.eye(3))
    assert not hasattr(fused, "feature_names_in_")


def test_frames_and_arrays_meet_by_position_with_a_warning():
    X = two_vectors().assign(n=1.0)
    fused = FusionTransformer([("a", "passthrough", "a"), ("n", StandardScaler(), ["n"])]).fit(X)
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        out = fused.transform(X.to_numpy(dtype=object))
    np.testing.assert_array_equal(out, fused.transform(X))
    fused = FusionTransformer([("s", StandardScaler(), [0])]).fit(np.eye(3))
    with pytest.warns(UserWarning, match="X has feature names, but FusionTransformer was fitted"):
        fused.transform(pd.DataFrame(np.eye(3), columns=list("abc")))


# ------------------------------------------------------------------------------ the rest


def test_html_shows_parallel_blocks_before_and_after_fit():
    fused = FusionTransformer(TRIPLES, remainder=StandardScaler())
    for model in (fused, clone(fused).fit(make_X().assign(more=1.0))):
        html = estimator_html_repr(model)
        assert "sk-parallel" in html
        assert all(name in html for name in [*NAMES, "table", "remainder"])
    assert "FusionTransformer" in estimator_html_repr(FusionTransformer([("a", PCA())]))


def test_verbose_prints_the_time_of_each_fit(capsys):
    FusionTransformer(TRIPLES, verbose=True).fit(make_X())
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert re.fullmatch(r"\[FusionTransformer\] \.+ \(2 of 5\) Fitting audio, total= .*s", lines[1])
    FusionTransformer(TRIPLES).fit(make_X())
    assert capsys.readouterr().out == ""


def test_verbose_tells_what_was_read(capsys, tmp_path):
    fused = FusionTransformer(TRIPLES, verbose=True, random_state=0, memory=tmp_path)
    for fit, words in (
        (fused, ["Fitting"] * 5),
        (clone(fused), ["Reading"] * 5),
        (clone(fused).set_params(vector__n_components=1), ["Reading", "Fitting"]),
    ):
        fit.fit(make_X())
        told = re.findall(r"Fitting|Reading", capsys.readouterr().out)
        assert told == words if len(words) == 5 else set(told) == set(words)


def test_make_fusion_transformer_names_by_class():
    fused = make_fusion_transformer(
        (StandardScaler(), ["age"]),
        (PCA(2), "vector"),
        (StandardScaler(), ["height"]),
        fusion="sum",
    )
    names = ["standardscaler_1", "pca", "standardscaler_2"]
    assert [name for name, *_ in fused.transformers] == names
    assert fused.fusion == "sum"
    assert fused.set_params(fusion="concat").fit_transform(make_X()).shape == (24, 4)
    with pytest.raises(ValueError, match=r"must be a \(transformer, column\) pair, got PCA.."):
        make_fusion_transformer(PCA(), "vector")


def test_input_and_global_generator_are_left_alone():
    X = masked(make_X(), masks())
    before, state = X.copy(), np.random.get_state()[1].copy()
    FusionTransformer(TRIPLES, random_state=0, missing="zero").fit(X).transform(X)
    pd.testing.assert_frame_equal(X, before)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
