"""Route fit parameters to the children of a composition, with or without metadata routing."""

from inspect import Parameter, signature

import numpy as np
from sklearn.base import is_classifier, is_regressor
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import Bunch
from sklearn.utils.validation import has_fit_parameter

from sklearn_mmfusion._sklearn import (
    BaseSearchCV,
    MethodMapping,
    _check_method_params,
    _raise_for_params,
    _routing_enabled,
    _safe_indexing,
    process_routing,
)

# scikit-learn's predictors with ``fit(X, y, **params)`` that hand weights on without routing; its
# others raise. Names, because importing the classes takes long.
FORWARDING = {
    *("StackingClassifier", "StackingRegressor", "VotingClassifier", "VotingRegressor"),
    *("TransformedTargetRegressor", "RegressorChain", "RFE"),
}


def route_params(composition, children, params, caller="fit"):
    """Return fit parameters by child and method, like scikit-learn's `process_routing`.

    Parameters
    ----------
    composition : estimator
        Estimator whose parameters are routed; messages name it.
    children : dict of {str: estimator}
        Children that may take `sample_weight` and `groups` if metadata routing is disabled.
    params : dict
        As passed to the method `caller`; None counts as not passed.
    caller : str, default="fit"

    Returns
    -------
    routed : mapping of {str: {str: dict}}
        By child and method ("fit", "fit_transform", "transform").
    """
    params = {key: value for key, value in params.items() if value is not None}
    if _routing_enabled():
        return process_routing(composition, caller, **params)
    allow = None if caller == "transform" else ["sample_weight", "groups"]
    _raise_for_params(params, composition, caller, allow=allow)
    accepted = {name: accepted_fit_params(child, params) for name, child in children.items()}
    return Bunch(
        **{n: Bunch(fit=taken, fit_transform=taken, transform={}) for n, taken in accepted.items()}
    )


def transformer_mapping(transformer, callers):
    """Map the fitting methods `callers` of a composition to methods of its child transformer."""
    one_pass = hasattr(transformer, "fit_transform")
    mapping = MethodMapping()
    for caller in callers:
        for callee in ["fit_transform"] if one_pass else ["fit", "transform"]:
            mapping.add(caller=caller, callee=callee)
    return mapping


def accepted_fit_params(estimator, params):
    """Return the `params` that the `fit` of an estimator accepts, under the names it expects.

    Used without metadata routing. The names for a Pipeline are ``step__parameter``.
    """
    if isinstance(estimator, Pipeline):
        return {
            f"{name}__{key}": value
            for name, step in estimator.steps
            for key, value in accepted_fit_params(step, params).items()
        }
    if hasattr(type(estimator), "_triples_parameter"):  # routes them itself
        return params
    if estimator is None or isinstance(estimator, (str, FrozenEstimator)):
        return {}
    if isinstance(estimator, BaseSearchCV):  # groups for its folds, the rest for its estimator
        groups = {key: value for key, value in params.items() if key == "groups"}
        return {**accepted_fit_params(estimator.estimator, params), **groups}
    return {key: value for key, value in params.items() if _takes(estimator, key)}


def _takes(estimator, key):
    """Whether `fit` names a parameter, or is that of a predictor that hands weights on.

    Transformers with ``**params``, such as a ColumnTransformer, take none without metadata routing.
    """
    if has_fit_parameter(estimator, key):
        return True
    cls = type(estimator)
    if cls.__module__.startswith("sklearn.") and cls.__name__ not in FORWARDING:
        return False
    is_predictor = is_classifier(estimator) or is_regressor(estimator)
    kinds = [parameter.kind for parameter in signature(estimator.fit).parameters.values()]
    return key == "sample_weight" and is_predictor and Parameter.VAR_KEYWORD in kinds


def check_weights_are_taken(predictors, params, estimator_name):
    """Raise if the last step of one of the predictors, a dict, would ignore `sample_weight`.

    With metadata routing, their requests decide.
    """
    if _routing_enabled() or params.get("sample_weight") is None:
        return
    for name, predictor in predictors.items():
        last = predictor.steps[-1][1] if isinstance(predictor, Pipeline) else predictor
        is_frozen = isinstance(last, FrozenEstimator)
        if not is_frozen and not accepted_fit_params(last, {"sample_weight": None}):
            raise TypeError(
                f"{estimator_name}: {name!r}: {type(last).__name__} takes no sample_weight in fit. "
                "Use an estimator that does, fit without weights, or enable metadata routing to "
                "choose which estimators get them."
            )


def take_rows(values, present):
    """Return the present rows of y (or None)."""
    if values is None or present.all():
        return values
    return _safe_indexing(values, np.flatnonzero(present))


def take_params(params, present):
    """Restrict fit parameters with one value per row to the present rows."""
    for name, value in params.items():
        if name in ("sample_weight", "groups") and np.ndim(value) and len(value) != len(present):
            raise ValueError(
                f"{name} has {len(value)} values; expected {len(present)}, one per row."
            )
    if present.all():
        return params
    return _check_method_params(present, params, indices=np.flatnonzero(present))
