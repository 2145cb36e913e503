"""Scores of subsets of modalities, masked or refitted."""

import numpy as np
import pandas as pd
import pytest
from joblib import parallel_config
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline

from sklearn_mmfusion import FusionTransformer, LateFusionClassifier, multimodal_frame
from sklearn_mmfusion.inspection import modality_ablation, modality_importance
from sklearn_mmfusion.inspection.ablation import find_subsets
from tests._fusion_data import hide

NAMES = ["a", "b", "c"]
EMPTY_ROWS = pytest.mark.filterwarnings("ignore:.*rows have no modality present")


def data(n=90):
    """Two modalities with the same information, and noise; some rows lack one."""
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=n)
    signal = y[:, None] + 0.7 * rng.normal(size=(n, 2))
    X = multimodal_frame(a=signal, b=signal + 0.1, c=rng.normal(size=(n, 2)))
    return hide(X, a=[3, 4], c=[5]), np.array(["no", "yes"])[y]


def feature_level(names=NAMES):
    triples = [(name, "passthrough", name) for name in names]
    return make_pipeline(FusionTransformer(triples), LogisticRegression())


def late(names=NAMES):
    return LateFusionClassifier([(name, LogisticRegression(), name) for name in names])


def test_all_subsets_of_a_fitted_estimator_are_those_of_its_coalitions():
    X, y = data()
    model = feature_level().fit(X[:60], y[:60])
    result = modality_ablation(model, X[60:], y[60:])
    assert result.modalities == NAMES and result.scorer == "accuracy"
    assert list(result.table) == [*NAMES, "score"]
    assert (np.diff(result.scores) <= 0).all()
    np.testing.assert_array_equal(result.table["score"], result.scores)
    importance = modality_importance(model, X[60:], y[60:])
    expected = importance.coalitions.sort_values(NAMES, ignore_index=True)
    pd.testing.assert_frame_equal(result.table.sort_values(NAMES, ignore_index=True), expected)


def test_chosen_subsets():
    assert find_subsets("all", NAMES[:2]) == [3, 1, 2, 0]
    assert find_subsets("leave_one_out", NAMES) == [7, 6, 5, 3]
    assert find_subsets("alone", NAMES) == [7, 1, 2, 4]
    assert find_subsets("alone", ["a"]) == [1]
    assert find_subsets([["c", "a"], ("b",), []], NAMES) == [5, 2, 0]
    with pytest.raises(ValueError, match="subsets='some'; expected 'all', 'leave_one_out'"):
        find_subsets("some", NAMES)
    with pytest.raises(ValueError, match=r"subsets=\['a'\]; expected"):
        find_subsets(["a"], NAMES)
    with pytest.raises(ValueError, match=r"subsets name \['d'\]; the modalities are \['a'"):
        find_subsets([["a", "d"]], NAMES)
    with pytest.raises(ValueError, match="of 11 modalities are 2048; expected at most 10"):
        find_subsets("all", list(range(11)))


@EMPTY_ROWS
@pytest.mark.parametrize("make", [feature_level, late])
def test_refits_equal_estimators_without_the_triples(make):
    X, y = data()
    groups = np.arange(len(X)) // 10
    options = {"cv": GroupKFold(3), "groups": groups, "subsets": "leave_one_out"}
    result = modality_ablation(make(), X, y, refit=True, **options)
    assert len(result.table) == 4 and result.scores.shape == (4, 3)
    folds = list(GroupKFold(3).split(X, y, groups))
    for row, scores in zip(result.table.to_dict("records"), result.scores, strict=True):
        model = make([name for name in NAMES if row[name]])
        np.testing.assert_array_equal(scores, cross_val_score(model, X, y, cv=folds))
        assert row["score"] == scores.mean()
        error = scores.std(ddof=1) * np.sqrt(1 / 3 + 1 / 2)  # folds of equal size
        assert row["standard_error"] == pytest.approx(error)


@EMPTY_ROWS
def test_refits_inside_a_search_forget_the_parameters_of_dropped_triples():
    X, y = data()
    model = make_pipeline(
        FusionTransformer([("a", "passthrough", "a"), ("c", PCA(), "c")]),
        LogisticRegression(),
    )
    grid = {"fusiontransformer__c__n_components": [1, 2], "logisticregression__C": [1.0]}
    search = GridSearchCV(model, grid, cv=2)
    result = modality_ablation(search, X, y, refit=True, cv=2, subsets="alone")
    assert result.scores.shape == (3, 2)
    assert search.param_grid is grid and len(grid) == 2
    alone = result.table.query("a and not c")["score"].item()
    small = make_pipeline(FusionTransformer([("a", "passthrough", "a")]), LogisticRegression())
    assert alone == cross_val_score(small, X, y, cv=2).mean()


def test_refits_of_other_estimators_drop_columns():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(60, 4)), columns=list("pqrs"))
    y = (X["p"] + X["q"] > 0).to_numpy()
    options = {"refit": True, "cv": 3, "scoring": "accuracy"}
    modalities = {"left": ["p", "q"], "right": ["r", "s"]}
    result = modality_ablation(LogisticRegression(), X, y, modalities=modalities, **options)
    by_subset = result.table.set_index(["left", "right"])["score"]
    expected = cross_val_score(LogisticRegression(), X[["r", "s"]], y, cv=3)
    assert by_subset[False, True] == expected.mean()
    assert by_subset[True, False] > 0.9 and result.scorer == "accuracy"
    array = modality_ablation(LogisticRegression(), X.to_numpy(), y, subsets="alone", **options)
    assert array.modalities == ["0", "1", "2", "3"]
    options |= {"modalities": modalities, "n_jobs": 2}
    with parallel_config(backend="threading"):
        two = modality_ablation(LogisticRegression(), X, y, **options)
    np.testing.assert_array_equal(two.scores, result.scores)


@EMPTY_ROWS
def test_refits_keep_the_other_triples_of_a_shared_column():
    X, y = data()
    parts = [(name, LogisticRegression(C=c), "a") for name, c in (("weak", 1e-3), ("strong", 1))]
    model = LateFusionClassifier([*parts, ("c", LogisticRegression(), "c")])
    result = modality_ablation(model, X, y, refit=True, cv=3, subsets="alone")
    present = map(tuple, result.table[["weak", "strong"]].to_numpy().tolist())
    table = dict(zip(present, result.scores, strict=True))
    for part, only in zip(parts, [(True, False), (False, True)], strict=True):
        expected = cross_val_score(LateFusionClassifier([part]), X, y, cv=3)
        np.testing.assert_array_equal(table[only], expected)


def test_estimators_and_data_stay_as_they_were():
    X, y = data()
    model, before = late(), X.copy()
    result = modality_ablation(model, X, y, refit=True, cv=2, subsets=[["a"], []])
    assert result.scores.shape == (1, 2)  # nothing is fitted without any modality
    assert "drop" not in [child for _, child, _ in model.estimators]
    assert not hasattr(model, "estimators_")
    pd.testing.assert_frame_equal(X, before)


def test_errors():
    X, y = data()
    model = feature_level()
    with pytest.raises(ValueError, match="cv is given with refit=False"):
        modality_ablation(model.fit(X, y), X, y, cv=3)
    with pytest.raises(ValueError, match="groups is given with refit=False"):
        modality_ablation(model, X, y, groups=np.zeros(len(X)))
    with pytest.raises(ValueError, match="groups has 3 values, X has 90 rows"):
        modality_ablation(model, X, y, refit=True, groups=[0, 1, 2])
    with pytest.raises(ValueError, match=r"subsets=5; expected 'all', 'leave_one_out', 'alone'"):
        modality_ablation(model, X, y, subsets=5)
    with pytest.raises(ValueError, match=r"subsets=\[\[\]\] with refit=True; expected a subset"):
        modality_ablation(model, X, y, subsets=[[]], refit=True)
    with pytest.raises(ValueError, match="scoring returned {'accuracy': .*; expected one number"):
        modality_ablation(model, X, y, refit=True, scoring=["accuracy", "f1_macro"])
    table = FusionTransformer([("table", "passthrough", ["p", "q"])])
    frame = pd.DataFrame({"p": np.arange(20.0), "q": 1.0})
    parts = {"first": "p", "second": "q"}
    pipeline = make_pipeline(table, LogisticRegression())
    with pytest.raises(ValueError, match="triple 'table' of FusionTransformer has columns of"):
        modality_ablation(pipeline, frame, np.arange(20) % 2, refit=True, modalities=parts)


def test_progress_is_printed(capsys):
    X, y = data()
    modality_ablation(feature_level(), X, y, refit=True, cv=2, subsets="alone", verbose=1)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[1].startswith("[modality_ablation] 2 of 4: without ['b', 'c']: ")
