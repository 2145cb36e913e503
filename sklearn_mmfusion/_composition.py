"""What every estimator built on ``(name, estimator, column)`` triples shares.

Checking the triples, reaching their parameters, finding their columns in whatever X is, telling
present rows from absent ones, deriving seeds and handing fit parameters on.
"""

import copy
import hashlib
import inspect
import sys
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from timeit import default_timer

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array, check_random_state, get_tags
from sklearn.utils.validation import has_fit_parameter

from sklearn_mmfusion._sklearn import (
    BaseSearchCV,
    _BaseComposition,
    _check_method_params,
    _get_feature_names,
    _message_with_time,
    _safe_indexing,
    _set_random_states,
    _VisualBlock,
)
from sklearn_mmfusion.containers import TensorArray, as_column

KEYWORDS = ("passthrough", "drop")

# ------------------------------------------------------------------------------ triples


class TripleComposition(_BaseComposition):
    """Parameters and picture of an estimator holding ``(name, estimator, column)`` triples.

    A subclass names the constructor parameter that holds them in `_triples_parameter`. A pickle of
    a fitted one has no `memory`: a deployed model neither reads nor writes a folder. `clone` and
    `copy` keep it.
    """

    _triples_parameter = "transformers"

    @property
    def _pairs(self):
        """The triples without their columns: what `_BaseComposition` reads."""
        triples = getattr(self, self._triples_parameter)
        try:
            return [(name, estimator) for name, estimator, _ in triples]
        except (TypeError, ValueError):  # malformed: `fit` says so, `get_params` must not
            return triples

    @_pairs.setter
    def _pairs(self, pairs):
        triples = getattr(self, self._triples_parameter)
        replaced = [
            (name, estimator, column)
            for (name, estimator), (_, _, column) in zip(pairs, triples, strict=True)
        ]
        setattr(self, self._triples_parameter, replaced)

    def __getstate__(self):
        state = super().__getstate__()
        is_fitted = any(name.endswith("_") and not name.startswith("__") for name in vars(self))
        return {**state, "memory": None} if is_fitted and "memory" in state else state

    def __copy__(self):
        return self._twin(dict)

    def __deepcopy__(self, memo):
        return self._twin(partial(copy.deepcopy, memo=memo))

    def _twin(self, copied):
        kept = {"memory": self.memory} if hasattr(self, "memory") else {}
        twin = object.__new__(type(self))
        twin.__setstate__(copied({**self.__getstate__(), **kept}))
        return twin

    def get_params(self, deep=True):
        """Get the parameters of this estimator and of those in its triples.

        Parameters
        ----------
        deep : bool, default=True
            Whether to include the estimators by name, and their parameters as
            ``name__parameter``.

        Returns
        -------
        params : dict
            Parameter names mapped to their values.
        """
        return self._get_params("_pairs", deep=deep)

    def set_params(self, **params):
        """Set parameters of this estimator and of those in its triples.

        ``set_params(image=NewEncoder())`` replaces the estimator called ``image``,
        ``set_params(image="drop")`` takes it out, ``set_params(image__lr=0.1)`` reaches inside.

        Parameters
        ----------
        **params : dict
            Parameter names mapped to their new values.

        Returns
        -------
        self : object
            This estimator.
        """
        if self._triples_parameter in params:  # first: the other names refer to the new triples
            setattr(self, self._triples_parameter, params.pop(self._triples_parameter))
        self._set_params("_pairs", **params)
        return self

    def _sk_visual_block_(self):
        names, estimators, columns = zip(*self._displayed_triples(), strict=True)
        return _VisualBlock("parallel", estimators, names=names, name_details=columns)

    def _displayed_triples(self):
        return getattr(self, self._triples_parameter)


def check_triples(
    triples, owner, *, methods=("fit", "transform"), keywords=KEYWORDS, parameter="transformers"
):
    """Raise unless `triples` are well formed, uniquely named and hold usable estimators.

    `methods` are those every estimator must have, `keywords` the strings accepted in its place.
    """
    who = type(owner).__name__
    if not isinstance(triples, (list, tuple)) or len(triples) == 0:
        raise ValueError(
            f"{who}: {parameter} must be a non-empty list of (name, estimator, column) triples, "
            f"got {triples!r}."
        )
    for triple in triples:
        if not isinstance(triple, (list, tuple)) or len(triple) != 3:
            raise ValueError(
                f"{who}: every element of {parameter} must be a (name, estimator, column) triple, "
                f"got {triple!r}."
            )
    _check_names([name for name, _, _ in triples], owner, parameter)
    for name, estimator, _ in triples:
        _check_child(name, estimator, who, methods, keywords)


def _check_names(names, owner, parameter):
    who = type(owner).__name__
    reserved = owner.get_params(deep=False)
    for name in names:
        if not isinstance(name, str) or not name.isidentifier() or "__" in name:
            raise ValueError(
                f"{who}: {parameter} has the name {name!r}; a name must be an identifier "
                "(letters, digits, single underscores). The column may be called anything."
            )
        if name in reserved:
            raise ValueError(
                f"{who}: the name {name!r} is a parameter of {who} itself; choose another."
            )
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"{who}: names must be unique, got {repeated} more than once.")


def _check_child(name, estimator, who, methods, keywords):
    if isinstance(estimator, str):
        if estimator in keywords:
            return
        expected = " or ".join(["an estimator", *map(repr, keywords)])
        raise ValueError(f"{who}: modality {name!r} has {estimator!r}; expected {expected}.")
    if isinstance(estimator, type):
        raise TypeError(
            f"{who}: modality {name!r} has the class {estimator.__name__}; expected an instance, "
            f"{estimator.__name__}()."
        )
    lacking = [method for method in methods if not hasattr(estimator, method)]
    if lacking:
        raise TypeError(
            f"{who}: modality {name!r} has {estimator!r}, which does not implement "
            f"{' and '.join(lacking)}."
        )


# ------------------------------------------------------------------------------ columns


@dataclass(frozen=True)
class Selection:
    """The columns of one triple, resolved against the training X.

    `column` is the triple's own selection (a callable's answer in place of the callable),
    `positions` index the training columns, `labels` name them for messages, and `single` says
    that the selection is one column, whose absent rows make the modality absent.
    """

    name: str
    column: object
    positions: tuple
    labels: tuple
    single: bool


def as_table(X):
    """X as a pandas DataFrame or a 2-D ndarray.

    polars frames become pandas frames column by column, lists and array-likes become arrays.
    A frame must have a row and a column; anything else goes through scikit-learn's `check_array`.
    """
    first = X[0] if isinstance(X, list) and X else X
    if isinstance(first, dict) and not hasattr(first, "toarray"):  # scipy's dok_array is a dict
        kind = "dict" if isinstance(X, dict) else "list of dicts"
        raise TypeError(
            f"X is a {kind}; expected a DataFrame with one column a modality. Build it with "
            "multimodal_frame(image=..., text=...)."
        )
    polars = sys.modules.get("polars")
    if polars is not None and isinstance(X, (polars.DataFrame, polars.LazyFrame)):
        X = _from_polars(X)
    if not isinstance(X, pd.DataFrame):
        array = check_array(X, dtype=None, ensure_all_finite=False)
        if array.dtype.kind in "US" and not hasattr(X, "dtype"):
            # a list of mixed rows: keep its numbers numbers
            array = check_array(X, dtype=object, ensure_all_finite=False)
        return array
    for count, what in zip(X.shape, ("sample", "feature"), strict=True):
        if count == 0:
            raise ValueError(
                f"Found a frame with 0 {what}(s) (shape={X.shape}) while a minimum of 1 is "
                "required."
            )
    if not X.columns.is_unique:
        repeated = X.columns[X.columns.duplicated()].tolist()
        raise ValueError(f"X has more than one column called {repeated}; names must be unique.")
    return X


def _from_polars(X):
    X = X.collect() if hasattr(X, "collect") else X
    return pd.DataFrame({column.name: _polars_column(column) for column in X.get_columns()})


def _polars_column(column):
    try:
        return as_column(column, name=column.name)
    except TypeError:  # dates, categories: a transformer of the user's knows them
        return pd.array(column.to_list())


def resolve(triple, X, names, owner, *, wants=False):
    """The `Selection` a triple makes among the columns of X (a table of `as_table`)."""
    name, _, column = triple
    if callable(column):
        column = column(X)
    try:
        positions, single = _positions(column, names, X.shape[1])
    except (ValueError, TypeError) as error:
        message = f"{type(owner).__name__}: modality {name!r}: {error}"
        raise type(error)(message) from None
    if wants and len(positions) == 1 and not _is_numeric(X, positions[0]):
        single = True  # ["photo"], as a column selector gives it, is that modality
    labels = tuple(positions if names is None else names[positions])
    return Selection(name, column, tuple(positions), labels, single)


def _is_numeric(X, position):
    dtype = X.dtypes.iloc[position] if isinstance(X, pd.DataFrame) else X.dtype
    return pd.api.types.is_numeric_dtype(dtype)


def _positions(column, names, n_columns):
    """Positions a column selection stands for, and whether it is a single column."""
    if isinstance(column, (str, Integral)) and not isinstance(column, (bool, np.bool_)):
        return [_position(column, names, n_columns)], True
    if isinstance(column, slice):
        return _slice_positions(column, names, n_columns), False
    try:
        keys = list(column)
    except TypeError:
        raise TypeError(
            f"column is {column!r}; expected a string, an integer, a list of either, a slice, a "
            "boolean mask or a callable giving one of these."
        ) from None
    if keys and all(isinstance(key, (bool, np.bool_)) for key in keys):
        if len(keys) != n_columns:
            raise ValueError(f"the mask has {len(keys)} entries, X has {n_columns} columns.")
        return np.flatnonzero(keys).tolist(), False
    return [_position(key, names, n_columns) for key in keys], False


def _position(key, names, n_columns):
    if isinstance(key, str):
        if names is None:
            raise ValueError(
                f"column {key!r} is given by name, but X has no column names. Give its position: "
                "some meta-estimators (BaggingClassifier) turn a frame into an array."
            )
        found = np.flatnonzero(names == key)
        if len(found) == 0:
            raise ValueError(f"column {key!r} is not in X, which has {list(names)}.")
        return int(found[0])
    if not isinstance(key, Integral):
        raise TypeError(f"column {key!r} is neither a string nor an integer.")
    if not -n_columns <= key < n_columns:
        raise ValueError(f"column {key} is out of range: X has {n_columns} columns.")
    return int(key) % n_columns


def _slice_positions(column, names, n_columns):
    start, stop = column.start, column.stop
    if isinstance(start, str):
        start = _position(start, names, n_columns)
    if isinstance(stop, str):
        stop = _position(stop, names, n_columns) + 1  # a label slice includes its end, as in pandas
    return list(range(n_columns))[slice(start, stop, column.step)]


def column_names(X):
    """Names of the columns of X as an object array, or None where they are not strings."""
    return _get_feature_names(X)


def locate(X, names_in, n_features_in, owner):
    """X as the table `owner` was fitted on knows it, and where each training column is in it.

    Names decide when both have them, in any order and among any others; positions otherwise, and
    then the number of columns must be the same, and scikit-learn's warning is given.

    Returns
    -------
    table : DataFrame or ndarray
        X, with names or without as in training, so that no transformer repeats the warning.
    where : ndarray of shape (n_features_in,), dtype=int64
        Position of each training column in the table, -1 for an absent one.
    """
    names, who = column_names(X), type(owner).__name__
    if names_in is not None and names is not None:
        found = {name: position for position, name in enumerate(names)}
        return X, np.array([found.get(name, -1) for name in names_in], dtype=np.int64)
    if X.shape[1] != n_features_in:
        raise ValueError(
            f"X has {X.shape[1]} features, but {who} is expecting {n_features_in} features as "
            "input."
        )
    if names_in is not None:
        message = f"X does not have valid feature names, but {who} was fitted with feature names"
        warnings.warn(message, UserWarning, stacklevel=4)
        X = pd.DataFrame(X).set_axis(names_in, axis=1).infer_objects()
    elif names is not None:
        message = f"X has feature names, but {who} was fitted without feature names"
        warnings.warn(message, UserWarning, stacklevel=4)
        X = X.set_axis(range(n_features_in), axis=1)
    return X, np.arange(n_features_in)


def warn_absent_columns(selections, where, owner):
    """Warn of columns that were there in `fit` and are not now; they count as absent in all rows.

    It may be meant, it may be a misspelling: the caller cannot tell from the result.
    """
    lost = {
        selection.name: [
            label
            for label, position in zip(selection.labels, selection.positions, strict=True)
            if where[position] < 0
        ]
        for selection in selections
    }
    lost = {name: labels for name, labels in lost.items() if labels}
    if lost:
        warnings.warn(
            f"{type(owner).__name__}: X lacks columns seen in fit, all their rows count as absent, "
            f"in a table of several columns as NaN (modality: columns): {lost}.",
            UserWarning,
            stacklevel=4,
        )


def select(X, selection, where=None, *, as_series=False):
    """The data of one selection, and which rows are present.

    Parameters
    ----------
    X : DataFrame or ndarray
        A table made by `as_table`.
    selection : Selection
        What to take.
    where : ndarray of int, default=None
        What `locate` gave; None for the training X itself.
    as_series : bool, default=False
        Keep a single column of tensors a Series, which modality encoders want, rather than
        an ndarray.

    Returns
    -------
    data : DataFrame, Series, ndarray or None
        The **present rows** of a single column, all rows of a list of columns, None if nothing
        is present.
    present : ndarray of shape (n_samples,), dtype=bool
        Rows of X that `data` holds.

    See Also
    --------
    select_rows : The same, cells never gathered.
    """
    data, present = select_rows(X, selection, where, as_series=as_series)
    return (data if as_series else gathered(data)), present


def select_rows(X, selection, where=None, *, as_series=False):
    """What `select` gives, a single column always a Series, none of whose cells are copied.

    `gathered` makes of it what `select` gives without `as_series`, which here only says whether
    objects that are no cells raise.
    """
    positions = np.array(selection.positions, dtype=np.int64)
    if where is not None:
        positions = where[positions]
    if len(positions) == 0 or (positions < 0).all():
        return None, np.zeros(len(X), dtype=bool)
    if not selection.single:
        return _take_columns(X, positions, selection.labels), np.ones(len(X), dtype=bool)
    column = _take_column(X, positions[0], selection.labels[0], strict=as_series)
    present = ~np.asarray(column.isna(), dtype=bool)
    if not present.any():
        return None, present
    if not present.all():
        column = column.iloc[np.flatnonzero(present)]
    return column, present


def gathered(data):
    """A column of present cells of one shape as an ndarray; anything else as it is."""
    is_tensors = isinstance(data, pd.Series) and isinstance(data.array, TensorArray)
    return data.array.gather() if is_tensors and not data.array.is_ragged else data


def _take_columns(X, positions, labels):
    if (positions >= 0).all():
        return X.iloc[:, positions] if isinstance(X, pd.DataFrame) else X[:, positions]
    absent = np.full(len(X), np.nan)
    columns = [X.iloc[:, i] if i >= 0 else pd.Series(absent, index=X.index) for i in positions]
    return pd.concat(columns, axis=1, keys=labels)


def _take_column(X, position, label, *, strict):
    """One column as a Series, its objects converted to an array of cells where they can be."""
    if isinstance(X, pd.DataFrame):
        column = X.iloc[:, position]
    else:
        column = pd.Series(X[:, position], name=label)
    if column.dtype != object:
        return column
    try:
        return pd.Series(as_column(column, name=label), index=column.index, name=label)
    except (TypeError, ValueError):
        if strict:
            raise
        return column  # objects of some other kind: a transformer of the user's knows them


def wants_column(estimator):
    """Whether an estimator wants one column of cells as a Series (all modality encoders do).

    They say so with the tag ``input_tags.three_d_array``; the first step of a Pipeline and the
    inside of a FrozenEstimator are looked at.
    """
    while isinstance(estimator, (Pipeline, FrozenEstimator)):
        if isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        else:
            steps = [step for _, step in estimator.steps if step not in (None, "passthrough")]
            if not steps:
                return False
            estimator = steps[0]
    if estimator is None or isinstance(estimator, str):
        return False
    return bool(get_tags(estimator).input_tags.three_d_array)


def is_encoder(estimator):
    """Whether an estimator follows the encoder protocol (`BaseModalityEncoder` tells it)."""
    return all(hasattr(estimator, name) for name in ("fit_prepare", "prepare", "build_module"))


@contextmanager
def log_elapsed(owner, message, child):
    """Print how long a "Fitting ..." took, as scikit-learn does; "Reading ..." of a cached fit.

    A `message` of None prints nothing; `child` is a `CachedChild`.
    """
    start = default_timer()
    yield
    if message is not None:
        if child.store is not None and child.store.n_read and not child.store.n_computed:
            message = message.replace("Fitting", "Reading", 1)
        print(_message_with_time(owner, message, default_timer() - start))


def read(estimator, data):
    """Data as an estimator wants it: cells of equal shape as an array, except to encoders."""
    # an array is returned at once: the tags of an estimator take a while
    return data if isinstance(data, np.ndarray) or wants_column(estimator) else gathered(data)


# ------------------------------------------------------------------------------ frozen steps


def steps_of(estimator):
    """Steps of a Pipeline; any other estimator is its only one."""
    return [step for _, step in estimator.steps] if type(estimator) is Pipeline else [estimator]


def n_frozen(estimator):
    """How many leading steps learn nothing, the last of them frozen."""
    if type(estimator) is Pipeline and estimator.transform_input:  # of metadata, by all steps
        return 0
    frozen = 0
    for i, step in enumerate(steps_of(estimator), start=1):
        if isinstance(step, FrozenEstimator):
            frozen = i
        elif not (step in (None, "passthrough") or _learns_nothing(step)):
            break
    return frozen


def _learns_nothing(step):
    """Whether a step need not be fitted, and takes no weights or the like in a fit."""
    if get_tags(step).requires_fit or not hasattr(step, "fit"):
        return False
    return inspect.signature(step.fit).parameters.keys() <= {"X", "y"}


def is_frozen(estimator):
    """Whether nothing in an estimator is left to learn."""
    return n_frozen(estimator) == len(steps_of(estimator))


def is_by_cell(estimator):
    """Whether an estimator is sure to compute each cell by itself, as encoders do.

    In anything else, a function that subtracts a mean say, rows may depend on one another.
    """
    if type(estimator) is Pipeline:
        return all(map(is_by_cell, steps_of(estimator)))
    if isinstance(estimator, FrozenEstimator):
        return is_by_cell(estimator.estimator)
    return estimator in (None, "passthrough") or is_encoder(estimator)


# ------------------------------------------------------------------------------ seeds, parameters


def root_seed(random_state):
    """None, or the integer all children's seeds derive from."""
    if random_state is None or isinstance(random_state, Integral):
        return random_state
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def child_seed(seed, name):
    """A seed that depends on (seed, name) only, equal in every process and on every machine."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:4], "little") & 0x7FFFFFFF


def seeded_clone(estimator, seed, name):
    """A clone whose every `random_state` derives from (seed, name); left alone if seed is None."""
    child = clone(estimator)
    if seed is not None and hasattr(child, "get_params"):
        _set_random_states(child, child_seed(seed, name))
    return child


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
    if isinstance(estimator, TripleComposition):  # hands them on in its turn
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
