"""The modalities of a fitted estimator: their columns of X, and X with other cells in them."""

import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real

import numpy as np
import pandas as pd
from sklearn.base import is_classifier, is_regressor
from sklearn.compose import TransformedTargetRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.pipeline import Pipeline
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.utils.validation import check_is_fitted

from sklearn_mmfusion._columns import column_names, locate, resolve
from sklearn_mmfusion._sklearn import BaseSearchCV
from sklearn_mmfusion._triples import TripleComposition

# class of a wrapper, and its attribute with the fitted estimator that gets X unchanged
WRAPPERS = [
    (FrozenEstimator, "estimator"),
    (BaseSearchCV, "best_estimator_"),
    (
        (FixedThresholdClassifier, TunedThresholdClassifierCV, SelfTrainingClassifier),
        "estimator_",
    ),
    (TransformedTargetRegressor, "regressor_"),
]
DEFAULT_SCORES = {is_classifier: "accuracy", is_regressor: "r2"}


@dataclass(frozen=True)
class Modality:
    """A modality: its name, the positions of its columns, and the fitted child that reads it."""

    name: str
    positions: tuple
    child: object = None


def find_modalities(estimator, table, modalities, label):
    """Find the modalities of a fitted estimator.

    Parameters
    ----------
    estimator : estimator
    table : DataFrame or ndarray
        X, made by `as_table`.
    modalities : dict of {str: column or list of columns} or None
        None takes those of the composition of triples inside `estimator`, or if there is none,
        one per column.
    label : str
        Function, for messages.

    Returns
    -------
    modalities : list of Modality
    """
    names = column_names(table)
    if modalities is not None:
        triples = [(name, None, columns) for name, columns in modalities.items()]
        found = [resolve(triple, table, names, label) for triple in triples]
        return [Modality(selection.name, selection.positions) for selection in found]
    composition = find_composition(estimator)
    if composition is None:
        return [
            Modality(str(j) if names is None else names[j], (j,)) for j in range(table.shape[1])
        ]
    check_is_fitted(composition)
    names_in = getattr(composition, "feature_names_in_", None)
    where = locate(table, names_in, composition.n_features_in_, type(composition).__name__)[1]
    children = composition._fitted_children()
    found = []
    for selection in composition._selections:
        positions = tuple(int(where[p]) for p in selection.positions if where[p] >= 0)
        if positions:
            found.append(Modality(selection.name, positions, children.get(selection.name)))
    return found


def find_composition(estimator):
    """Return the composition of triples that a fitted estimator applies to X, or None.

    It may be in Pipelines, searches, and calibrated, frozen and other wrapped estimators.
    """
    if isinstance(estimator, TripleComposition):
        return estimator
    if isinstance(estimator, Pipeline):
        found = (find_composition(step) for _, step in estimator.steps)
        return next((composition for composition in found if composition is not None), None)
    if attribute := wrapped_attribute(estimator):
        return find_composition(getattr(estimator, attribute))
    calibrated = getattr(estimator, "calibrated_classifiers_", None)
    return find_composition(calibrated[0].estimator) if calibrated else None


def wrapped_attribute(estimator):
    """Name of the attribute with the estimator that a fitted wrapper calls, or None."""
    for classes, attribute in WRAPPERS:
        if isinstance(estimator, classes) and hasattr(estimator, attribute):
            return attribute
    return None


def with_columns(table, columns):
    """Return a table with some columns, given by position, replaced; the given one is unchanged."""
    is_frame = isinstance(table, pd.DataFrame)
    changed = table.copy(deep=False) if is_frame else pd.DataFrame(table)
    for position, column in columns.items():
        changed.isetitem(position, column)
    return changed if is_frame else changed.to_numpy()


def column_at(table, position):
    """Return one column of a table as a Series."""
    if isinstance(table, pd.DataFrame):
        return table.iloc[:, position]
    return pd.Series(table[:, position]).infer_objects()


def with_missing(table, positions, rows):
    """Return a table with the cells of some columns missing in some rows.

    Parameters
    ----------
    table : DataFrame or ndarray
        Stays unchanged.
    positions : iterable of int
    rows : ndarray of shape (n_samples,), dtype=bool
    """
    columns = {position: column_at(table, position) for position in positions}
    return with_columns(table, {p: _without(column, rows) for p, column in columns.items()})


def _without(column, rows):
    if isinstance(column.dtype, np.dtype):
        return column.where(~rows)
    kept = np.where(rows, -1, np.arange(len(column)))
    cells = column.array.take(kept, allow_fill=True)  # of TensorArray: the cells are not copied
    return pd.Series(cells, index=column.index, name=column.name)


def has_cells(table, positions):
    """Return a mask of the rows in which a modality has a cell."""
    absent = [np.asarray(column_at(table, position).isna()) for position in positions]
    return ~np.all(absent, axis=0)


@contextmanager
def absence_ignored():
    """Silence the package's warnings about modalities that are absent on purpose."""
    with warnings.catch_warnings():
        for message in ("have no modality present", "count as absent in all rows"):
            warnings.filterwarnings("ignore", message=f".*{message}", category=UserWarning)
        yield


def score_once(scorer, caller, estimator, X, y):
    """Return the number that a scorer returns, or raise if it returns several."""
    score = scorer(estimator, X, y)
    if not isinstance(score, Real):
        raise ValueError(
            f"{caller}: scoring returned {score!r}; expected one number. Pass one scorer, such as "
            "scoring='accuracy'."
        )
    return float(score)


def scorer_name(estimator, scoring):
    """Return the name of a score, for results and axes of pictures."""
    if isinstance(scoring, str):
        return scoring
    if scoring is None:
        last = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
        if isinstance(last, BaseSearchCV) and last.scoring is not None:
            return last.refit if isinstance(last.refit, str) else scorer_name(None, last.scoring)
        return next((name for is_, name in DEFAULT_SCORES.items() if is_(estimator)), "score")
    function = getattr(scoring, "_score_func", scoring)
    name = getattr(function, "__name__", type(scoring).__name__)
    return f"neg_{name}" if getattr(scoring, "_sign", 1) < 0 else name
