"""Fit parameters for the estimators of a composition."""

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter

from sklearn_mmfusion._sklearn import (
    BaseSearchCV,
    _check_method_params,
    _safe_indexing,
)


def accepted_fit_params(estimator, params):
    """Those of `params` that the `fit` of an estimator takes, spelt for it.

    Used without metadata routing. A Pipeline gets ``step__parameter`` for each of its steps.
    """
    if isinstance(estimator, Pipeline):
        return {
            f"{name}__{key}": value
            for name, step in estimator.steps
            for key, value in accepted_fit_params(step, params).items()
        }
    if hasattr(type(estimator), "_triples_parameter"):  # hands them on in its turn
        return params
    if estimator is None or isinstance(estimator, (str, FrozenEstimator)):
        return {}
    if isinstance(estimator, BaseSearchCV):  # groups for its folds, the rest for its estimator
        groups = {key: value for key, value in params.items() if key == "groups"}
        return {**accepted_fit_params(estimator.estimator, params), **groups}
    return {key: value for key, value in params.items() if has_fit_parameter(estimator, key)}


def take_rows(values, present):
    """Rows of y (or None) that are present."""
    if values is None or present.all():
        return values
    return _safe_indexing(values, np.flatnonzero(present))


def take_params(params, present):
    """Fit parameters with those of one value per row restricted to the present rows."""
    for name, value in params.items():
        if name in ("sample_weight", "groups") and np.ndim(value) and len(value) != len(present):
            raise ValueError(f"{name} has {len(value)} values; expected {len(present)}, one a row.")
    if present.all():
        return params
    return _check_method_params(present, params, indices=np.flatnonzero(present))
