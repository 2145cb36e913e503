"""Warnings name the line of the user's code, whatever lies between it and the place that warns."""

import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_mmfusion import (
    FusionTransformer,
    JointFusionClassifier,
    JointFusionRegressor,
    LateFusionClassifier,
    LateFusionRegressor,
    multimodal_frame,
)
from tests._fusion_data import hide
from tests._registry import N_ROWS, SMALL_JOINT, classes, having, numbers, table

EMPTY, ABSENT = "rows have no modality present", "X lacks columns seen in fit"
NO_ROW = "columns of X have no present row (modality: columns): {'other': ['other']}"


def two_modalities():
    """Two columns of vectors, both absent in row 3."""
    return hide(multimodal_frame(vector=table(), other=table()[:, ::-1]), vector=[3], other=[3])


def triples(child):
    return [("vector", child, "vector"), ("other", child, "other")]


COMPOSITIONS = {
    "feature": (lambda: FusionTransformer(triples(StandardScaler())), classes),
    "late classifier": (lambda: LateFusionClassifier(triples(LogisticRegression())), classes),
    "late regressor": (lambda: LateFusionRegressor(triples(Ridge())), numbers),
    "joint classifier": (
        lambda: JointFusionClassifier(triples("passthrough"), **SMALL_JOINT),
        classes,
    ),
    "joint regressor": (
        lambda: JointFusionRegressor(triples("passthrough"), **SMALL_JOINT),
        numbers,
    ),
}


def warning_files(call, match):
    """Files that the warnings of a call with that message name."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [warning.filename for warning in caught if match in str(warning.message)]


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_compositions_warn_at_the_users_line(name):
    make, target = COMPOSITIONS[name]
    X, y, model = two_modalities(), target(), make()
    at_fit = warning_files(lambda: model.fit(X, y), EMPTY)
    assert at_fit == ([] if "late" in name else [__file__])  # late fusion warns when it predicts
    methods = ["transform", "fit_transform", "predict", "predict_proba", "predict_modalities"]
    for method in [m for m in methods if hasattr(model, m)]:
        arguments = (X, y) if method.startswith("fit") else (X,)
        found = warning_files(lambda m=method, a=arguments: getattr(model, m)(*a), EMPTY)
        assert set(found) == ({__file__} if method != "predict_modalities" else set())
        if not method.startswith("fit"):
            found = warning_files(
                lambda m=method: getattr(model, m)(X.drop(columns="other")), ABSENT
            )
            assert found == [__file__]
            for n_rows, expected in [(9, [__file__]), (1, [])]:
                part = hide(X.iloc[:n_rows], other=range(n_rows))
                found = warning_files(lambda m=method, p=part: getattr(model, m)(p), NO_ROW)
                assert found == expected
    if hasattr(model, "predict_one"):
        assert (
            warning_files(lambda: model.predict_one({"vector": table()[0], "other": None}), "")
            == []
        )
        assert warning_files(lambda: model.predict_one({"vector": None}), EMPTY) == [__file__]


@pytest.mark.parametrize("n_jobs", [None, 1])
def test_warnings_cross_pipelines_and_searches(n_jobs):
    model = make_pipeline(FusionTransformer(triples(StandardScaler())), LogisticRegression())
    search = GridSearchCV(model, {"fusiontransformer__missing": ["mean", "zero"]}, n_jobs=n_jobs)
    found = warning_files(lambda: search.fit(two_modalities(), classes()), EMPTY)
    assert found and set(found) == {__file__}


@pytest.mark.parametrize("entry", having("encoder"), ids=str)
@pytest.mark.parametrize("inside", [False, True])
def test_encoders_warn_at_the_users_line(entry, inside):
    encoder, X = entry.make(max_epochs=1), entry.X()
    model, X = (
        (FusionTransformer([("m", encoder, X.name)]), X.to_frame()) if inside else (encoder, X)
    )
    y = np.arange(N_ROWS)
    assert warning_files(lambda: model.fit(X, y), "different whole numbers") == [__file__]


def test_names_that_differ_warn_at_the_users_line():
    fusion = FusionTransformer(triples(StandardScaler())).fit(two_modalities().drop(index=3))
    array = two_modalities().drop(index=3).to_numpy()
    assert warning_files(lambda: fusion.transform(array), "valid feature names") == [__file__]
