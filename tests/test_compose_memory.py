"""FusionTransformer(memory=): what is fitted how often, and that a hit equals a fit."""

import numpy as np
import pandas as pd
import pytest
from joblib import Memory
from sklearn import config_context
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_mmfusion import FusionTransformer, TensorArray
from tests._cache_data import Counted, counts, three, triples
from tests._fusion_data import hide, make_X, masked, masks
from tests._registry import classes, encoders, modalities


def search(fused, grid, n_jobs=None):
    pipe = make_pipeline(fused, LogisticRegression())
    return GridSearchCV(pipe, grid, cv=KFold(3), n_jobs=n_jobs, error_score="raise")


# ------------------------------------------------------------------------------ searches


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_search_over_classifier_fits_each_encoder_once_a_fold(tmp_path, n_jobs):
    X, y = three()
    log = str(tmp_path / "log")
    fused = FusionTransformer(triples(log), memory=str(tmp_path / "memory"))
    grid = {"logisticregression__C": [0.01, 0.1, 1.0, 10.0, 100.0, 1000.0]}
    found = search(fused, grid, n_jobs).fit(X, y)
    # 3 folds and the refit; a transform of each fold's training and test rows, and the refit's
    for name in "abc":
        assert counts(log)[f"fit {name}"] == 3 + 1
        assert counts(log)[f"transform {name}"] == 6 + 1
    plain = search(FusionTransformer(triples(str(tmp_path / "other"))), grid).fit(X, y)
    assert counts(tmp_path / "other")["fit a"] == 19
    for key in ("mean_test_score", "std_test_score"):
        np.testing.assert_array_equal(found.cv_results_[key], plain.cv_results_[key])
    np.testing.assert_array_equal(found.predict_proba(X), plain.predict_proba(X))


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_search_over_three_encoders_costs_the_sum(tmp_path, n_jobs):
    X, y = three()
    log = str(tmp_path / "log")
    fused = FusionTransformer(triples(log), memory=Memory(tmp_path / "memory", verbose=0))
    scales = [0.5, 1.0, 2.0]
    grid = {f"fusiontransformer__{name}__scale": scales for name in "abc"}
    found = search(fused, grid, n_jobs).fit(X, y)
    assert len(found.cv_results_["params"]) == 27
    for name in "abc":  # 3 settings of 3 folds, not 27; and one of the refit
        assert counts(log)[f"fit {name}"] == 9 + 1
        assert counts(log)[f"transform {name}"] == 18 + 1
