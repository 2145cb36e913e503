import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from sklearn_mmfusion import FusionTransformer, LateFusionClassifier, LateFusionRegressor
from sklearn_mmfusion.report.inputs import as_data_frame
from sklearn_mmfusion.report.variants import (
    ALL,
    ALONE,
    LATE,
    WITHOUT,
    fit_fold,
    fit_variants,
    make_late,
    make_variants,
    n_parameters,
)
from tests.report._tiny import late_classifier, late_regressor, make_data

NAMES = ("strong", "weak", "noise")


def feature_level(head):
    return make_pipeline(FusionTransformer([(n, StandardScaler(), n) for n in NAMES]), head)


def fitted(variants, X, y, folds, **options):
    options = {"groups": None, "params": {}, "n_jobs": None, "report": lambda line: None} | options
    fit_variants(variants, y, folds, **options)
    return variants


def test_variants_cover_all_alone_without_and_late_fusion():
    X, _ = make_data()
    variants, columns = make_variants(feature_level(LogisticRegression()), X, None)
    assert [variant.name for variant in variants] == [
        "all modalities",
        *(f"{name} alone" for name in NAMES),
        *(f"without {name}" for name in NAMES),
        "late fusion (product)",
    ]
    assert columns == {name: (i,) for i, name in enumerate(NAMES)}


def test_variants_of_two_modalities_leave_none_out():
    variants, _ = make_variants(late_classifier(), make_data()[0], None)
    assert [variant.role for variant in variants] == [ALL, ALONE, ALONE]


def test_variant_alone_equals_a_pipeline_of_that_modality():
    X, y = make_data()
    fold = np.arange(40), np.arange(40, 60)
    variants, _ = make_variants(feature_level(LogisticRegression()), X, None)
    fitted(variants[1:4], X, y, [fold])
    for name, variant in zip(NAMES, variants[1:4], strict=True):
        cells = np.stack(list(X[name]))
        expected = make_pipeline(StandardScaler(), LogisticRegression()).fit(cells[:40], y[:40])
        np.testing.assert_allclose(
            variant.probabilities(np.unique(y)), expected.predict_proba(cells[40:]), atol=1e-6
        )


def test_variants_of_other_estimators_are_fitted_to_fewer_columns():
    X, y = np.random.default_rng(0).normal(size=(30, 3)), np.arange(30) % 2
    frame = as_data_frame(X)
    modalities = {"left": ["x0", "x1"], "right": "x2"}
    variants, columns = make_variants(LogisticRegression(), frame, modalities)
    fitted(variants, frame, y, [(np.arange(20), np.arange(20, 30))])
    assert columns == {"left": (0, 1), "right": (2,)}
    expected = LogisticRegression().fit(X[:20, :2], y[:20]).predict_proba(X[20:, :2])
    np.testing.assert_allclose(variants[1].probabilities(np.unique(y)), expected)
    assert [variant.role for variant in variants] == [ALL, ALONE, ALONE]


def test_late_fusion_is_made_of_the_same_triples():
    late = make_late(feature_level(LogisticRegression()))
    assert isinstance(late, LateFusionClassifier) and [n for n, _, _ in late.estimators] == [*NAMES]
    assert isinstance(make_late(feature_level(Ridge())), LateFusionRegressor)
    assert make_late(late_classifier()) is None and make_late(late_regressor()) is None
    assert make_late(LogisticRegression()) is None
    raw = FusionTransformer([("a", "passthrough", ["a"]), ("b", "passthrough", ["b"])])
    assert make_late(make_pipeline(raw, LogisticRegression())) is None


def test_probabilities_of_folds_are_joined_by_class():
    X, y = make_data(n=30, n_classes=3)
    kept = np.flatnonzero(y < 2)
    folds = [(kept, np.arange(6)), (np.arange(30), np.arange(6, 12))]  # the first without class 2
    variants, _ = make_variants(late_classifier(), X, None)
    proba = fitted(variants[:1], X, y, folds)[0].probabilities(np.arange(3))
    assert proba.shape == (12, 3)
    assert (proba[:6, 2] == 0).all() and (proba[6:, 2] > 0).all()
    np.testing.assert_allclose(proba.sum(axis=1), 1)


def test_rows_without_the_only_modality_get_the_prior_silently():
    X, y = make_data(n=30, n_classes=3)
    X.loc[X.index[25:], "weak"] = None
    variants, _ = make_variants(late_classifier(), X, None)
    fitted(variants, X, y, [(np.arange(20), np.arange(20, 30))])
    prior = np.bincount(y[:20]) / 20
    np.testing.assert_allclose(variants[2].probabilities(np.arange(3))[5:], [prior] * 5)


def test_fits_get_their_parameters_and_keep_the_last_model_only():
    X, y = make_data()
    weight = np.ones(60)
    folds = [(np.arange(30), np.arange(30, 60)), (np.arange(30, 60), np.arange(30))]
    lines, pipeline = [], feature_level(LogisticRegression())
    variants, _ = make_variants(pipeline, X, None)
    variants[-1].estimator = late_classifier()  # fitted faster
    params = {"logisticregression__sample_weight": weight}
    fitted(variants, X, y, folds, params=params, groups=np.arange(60) // 2, report=lines.append)
    kept = {v.role: [fold.fitted is not None for fold in v.folds] for v in variants}
    assert kept == {
        ALL: [False, True],
        ALONE: [False] * 2,
        WITHOUT: [False] * 2,
        LATE: [False, True],
    }
    assert len(lines) == 16 and lines[0].startswith("all modalities, fold 1 of 2: ")


def test_parameters_of_networks_and_linear_models_are_counted_once():
    X, y = make_data()
    result = fit_fold(late_classifier(NAMES), X, y, np.arange(40), np.arange(40, 60), {}, True)
    assert result.n_parameters == 3 + 3 + 4
    frozen = LateFusionClassifier([("all", FrozenEstimator(result.fitted), [*NAMES])])
    assert n_parameters(frozen.fit(X, y)) == 10
    shared = torch.nn.Linear(3, 4)

    class Network(LogisticRegression):
        pass

    network = Network()
    network.module_ = torch.nn.Sequential(shared, shared)
    assert n_parameters(network) == 16
    assert n_parameters(StandardScaler().fit([[1.0]])) is None
    assert n_parameters(DecisionTreeClassifier()) is None
