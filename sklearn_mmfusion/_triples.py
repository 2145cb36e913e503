"""``(name, estimator, column)`` triples: their checks, names, parameters and seeds."""

import copy
import hashlib
import inspect
from contextlib import suppress
from functools import partial
from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import get_tags

from sklearn_mmfusion._columns import gathered, resolve
from sklearn_mmfusion._sklearn import (
    _BaseComposition,
    _set_random_states,
    _VisualBlock,
)
from sklearn_mmfusion._validation import check_real, draw_seed, shallow_copy
from sklearn_mmfusion.containers import TensorArray

VECTORIZERS = CountVectorizer, HashingVectorizer  # TfidfVectorizer is a CountVectorizer
KEYWORDS = ("passthrough", "drop")
FITTED = ("named_transformers_", "named_estimators_", "named_encoders_")  # children, by name
MOVED = ("device", "file_params")  # parameters that reach fitted estimators
NO_KEYWORDS = ("self", "method_mapping")  # taken in set_params, Bunch and MetadataRouter


class TripleComposition(_BaseComposition):
    """Parameters and picture of an estimator holding ``(name, estimator, column)`` triples.

    A subclass sets `_triples_parameter` to the constructor parameter that holds them. The pickle of
    a fitted composition has no `memory`: a deployed model neither reads nor writes a folder.
    `clone` and `copy` keep it.
    """

    _triples_parameter = "transformers"
    _left_out = frozenset()  # names of modalities, see `_without`
    _encoded = None

    @property
    def _triples(self):
        """The triples as they were given."""
        return getattr(self, self._triples_parameter)

    @property
    def _pairs(self):
        """The triples without their columns, as `_BaseComposition` needs them."""
        try:
            return [(name, estimator) for name, estimator, _ in self._triples]
        except (TypeError, ValueError):  # malformed: `fit` raises, `get_params` must not
            return self._triples

    @_pairs.setter
    def _pairs(self, pairs):
        replaced = [
            (name, estimator, column)
            for (name, estimator), (_, _, column) in zip(pairs, self._triples, strict=True)
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
        ``set_params(image="drop")`` removes it, ``set_params(image__lr=0.1)`` sets its parameter.
        A new ``device`` or ``file_params`` also reaches the fitted copy (except its ``mode``
        and ``mono``); all other parameters wait for the next `fit`.

        Parameters
        ----------
        **params : dict
            Parameter names mapped to their new values.

        Returns
        -------
        self : object
            This estimator.
        """
        before = self.get_params()
        if self._triples_parameter in params:  # first: other names refer to the new triples
            setattr(self, self._triples_parameter, params.pop(self._triples_parameter))
        self._set_params("_pairs", **params)
        self._move_fitted(params)
        self._warn_of_replaced(params, before)
        return self

    def _warn_of_replaced(self, params, before):
        """Warn about new parameters of children that this estimator overrides."""

    def _without(self, names, X=None, encoding=None):
        """Copy of the fitted estimator to which some modalities count as absent in all rows.

        Its predictions of X, the same object, start from `encoding`, the result of
        ``_encode_once(X)`` of this estimator, so that no row is encoded again.
        """
        return shallow_copy(self, _left_out=frozenset(names), _encoded=(X, encoding))

    def _encoding(self, X):
        """Return the encoding that predictions start from: ``_encode(X)``, or that of `_without`.

        A subclass defines `_encode`, `_hide`, which makes modalities of an encoding absent, and
        `_replace`, which takes some from another encoding.
        """
        is_known = self._encoded is not None and self._encoded[0] is X
        encoding = self._encoded[1] if is_known else self._encode(X)
        return self._hide(encoding, self._left_out) if self._left_out else encoding

    def _encode_once(self, X, only=None):
        """Encoding of X for many predictions: all steps that see one modality are done.

        `only` names the modalities to encode; all others are absent.
        """
        return self._encode(X, only)

    def _fitted_children(self):
        """The fitted estimators by name, which may be elsewhere than those of the triples."""
        for attribute in FITTED:
            with suppress(AttributeError):  # not fitted
                return getattr(self, attribute)
        return {}

    def _move_fitted(self, params):
        """Set new parameters in `MOVED` on the fitted copies, which predict."""
        moved = {k: v for k, v in params.items() if "__" in k and k.split("__")[-1] in MOVED}
        children = self._fitted_children() if moved else {}
        for key, value in moved.items():
            name, _, own = key.partition("__")
            if hasattr(children.get(name), "get_params") and own in children[name].get_params():
                children[name].set_params(**{own: value})

    def _sk_visual_block_(self):
        names, estimators, columns = zip(*self._displayed_triples(), strict=True)
        return _VisualBlock("parallel", estimators, names=names, name_details=columns)

    def _displayed_triples(self):
        return self._triples


def check_triples(triples, estimator, *, methods=("fit", "transform"), parameter="transformers"):
    """Raise unless `triples` are well formed, uniquely named and hold usable children.

    Every child must have the `methods`, or be one of the strings in `KEYWORDS`.
    """
    estimator_name = type(estimator).__name__
    if not isinstance(triples, (list, tuple)) or len(triples) == 0:
        raise ValueError(
            f"{estimator_name}: {parameter} must be a non-empty list of (name, estimator, column) "
            f"triples, got {triples!r}."
        )
    for triple in triples:
        if not isinstance(triple, (list, tuple)) or len(triple) != 3:
            raise ValueError(
                f"{estimator_name}: every element of {parameter} must be a (name, estimator, "
                f"column) triple, got {triple!r}."
            )
        _check_order(triple, f"{estimator_name}: {parameter}")
    reserved = estimator.get_params(deep=False)
    _check_names([name for name, _, _ in triples], reserved, estimator_name, parameter)
    for name, child, _ in triples:
        _check_child(child, f"{estimator_name}: modality {name!r}", methods)


def _check_order(triple, label):
    """Raise if the estimator of a triple comes first or last."""
    name, child, column = triple
    if hasattr(name, "fit") or isinstance(child, str) and hasattr(column, "fit"):
        raise ValueError(
            f"{label} has the triple {triple!r}; expected (name, estimator, column), such as "
            "('photo', estimator, 'image')."
        )


def _check_names(names, reserved, estimator_name, parameter):
    for name in names:
        if not isinstance(name, str) or not name.isidentifier() or "__" in name:
            raise ValueError(
                f"{estimator_name}: {parameter} has the name {name!r}; a name must be an "
                "identifier (letters, digits, single underscores), because it is a keyword of "
                "set_params. The column may have any name."
            )
        if name in NO_KEYWORDS:
            raise ValueError(
                f"{estimator_name}: the name {name!r} is reserved by scikit-learn; choose another."
            )
        if name in reserved:
            raise ValueError(
                f"{estimator_name}: the name {name!r} is a parameter of {estimator_name} itself; "
                "choose another."
            )
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"{estimator_name}: names must be unique, got {repeated} more than once.")


def _check_child(child, label, methods):
    if isinstance(child, str):
        if child in KEYWORDS:
            return
        expected = " or ".join(["an estimator", *map(repr, KEYWORDS)])
        raise ValueError(f"{label} has {child!r}; expected {expected}.")
    if isinstance(child, type):
        raise TypeError(
            f"{label} has the class {child.__name__}; expected an instance, {child.__name__}()."
        )
    lacking = [method for method in methods if not hasattr(child, method)]
    if lacking:
        expected = " or ".join(["an estimator that does", *map(repr, KEYWORDS)])
        remedy = ""
        if hasattr(child, "forward"):
            name = type(child).__name__
            remedy = f" To train a network, pass its class to an encoder: module={name}."
        raise TypeError(
            f"{label} has {child!r}, which does not implement {' and '.join(lacking)}; expected "
            f"{expected}.{remedy}"
        )


def kept_triples(triples):
    """Return the triples whose child is not ``"drop"``."""
    return [t for t in triples if not (isinstance(t[1], str) and t[1] == "drop")]


def resolve_triples(triples, table, names, estimator_name):
    """Return the `Selection` of each triple in a table made by `as_table`."""
    selections = []
    for triple in triples:
        child = triple[1]
        forms = {"as_series": wants_column(child), "as_numbers": reads_numbers(child)}
        forms["reader"] = step if hasattr(step := first_step(child), "_reads") else None
        selections.append(resolve(triple, table, names, estimator_name, **forms))
        labels = list(selections[-1].labels)
        if isinstance(first_step(child), VECTORIZERS) and labels and not selections[-1].single:
            raise ValueError(
                f"{estimator_name}: modality {triple[0]!r}: a text vectorizer takes one column: "
                f"{labels[0]!r}, not {labels}."
            )
    return selections


def first_step(estimator):
    """Return the estimator that reads the data, inside Pipelines and FrozenEstimators, or None."""
    while isinstance(estimator, (Pipeline, FrozenEstimator)):
        if isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        else:
            steps = [step for _, step in estimator.steps if step not in (None, "passthrough")]
            if not steps:
                return None
            estimator = steps[0]
    return estimator


def root_of(estimator):
    """Return a tuple of the root folder, or () if the estimator does not read texts as paths."""
    step = first_step(estimator)
    if getattr(getattr(step, "_reads", None), "files", None) is None:
        return ()
    return ((getattr(step, "file_params", None) or {}).get("root"),)


def wants_column(estimator):
    """Whether an estimator takes one column of cells as a Series (all modality encoders do).

    This is the attribute ``wants_column`` of the `first_step`. The tag ``three_d_array`` is not
    enough: transformers of other packages that set it take arrays.
    """
    return getattr(first_step(estimator), "wants_column", False)


def reads_numbers(estimator):
    """Whether the first step is scikit-learn's and has neither a function nor another estimator.

    Such an estimator converts dates to numbers, NaT too. Others may read dates in another way.
    """
    step = first_step(estimator)
    if not type(step).__module__.startswith("sklearn.") or isinstance(step, FunctionTransformer):
        return False
    return not any(hasattr(value, "fit") for value in step.get_params().values())


def is_encoder(estimator):
    """Whether an estimator follows the encoder protocol (see `BaseModalityEncoder`)."""
    return all(hasattr(estimator, name) for name in ("fit_prepare", "prepare", "build_module"))


def learns_from_y(estimator):
    """Whether an estimator is an encoder to be trained, or a Pipeline that ends in one."""
    last = steps_of(estimator)[-1]
    return not isinstance(last, FrozenEstimator) and is_encoder(last)


def read(estimator, data):
    """Convert data for an estimator: cells of equal shape to an array, except for encoders."""
    return data if wants_column(estimator) else gathered(data)


def as_transformer(transformer):
    """Return the transformer itself, or the one that ``"passthrough"`` names."""
    if not (isinstance(transformer, str) and transformer == "passthrough"):
        return transformer
    # otherwise it warns under a global transform_output, since it returns arrays
    return FunctionTransformer(as_numbers).set_output(transform="default")


def columns_hint(estimator, selection):
    """Return a reminder, for an error note, of the columns that an estimator of tables needs."""
    step = first_step(estimator)
    if wants_column(estimator) or isinstance(step, VECTORIZERS):
        return ""
    if selection.texts and not _takes_categories(step):
        return f" Column {selection.texts[0]!r} holds texts; use an encoder or a vectorizer."
    if not selection.single:
        return ""
    return f" An estimator of tables takes a list of columns: {list(selection.labels)}."


def _takes_categories(estimator):
    return isinstance(estimator, SimpleImputer) or get_tags(estimator).input_tags.categorical


def is_passthrough(child):
    """Whether a child is the transformer that ``"passthrough"`` names."""
    return isinstance(child, FunctionTransformer) and child.func is as_numbers


def as_numbers(data):
    """Convert a column or a table to a 2-D array of numbers, with cells flattened."""
    if isinstance(data, pd.DataFrame):
        return np.hstack([as_numbers(data.iloc[:, j]) for j in range(data.shape[1])])
    if isinstance(data, pd.Series):
        return _series_numbers(data)
    data = np.asarray(data)
    return data.reshape(len(data), -1)


def _series_numbers(series):
    label = f"'passthrough' of column {series.name!r}"
    check_real(getattr(series.dtype, "value_dtype", series.dtype), label)
    if isinstance(series.array, TensorArray) and not series.array.is_ragged:
        present = ~np.asarray(series.isna())
        cells = series.array.gather(np.flatnonzero(present))
        numbers = np.full((len(series), *cells.shape[1:]), np.nan)
        numbers[present] = cells
        return numbers.reshape(len(series), -1)
    if not pd.api.types.is_numeric_dtype(series.dtype):
        raise ValueError(
            f"'passthrough' needs numbers or cells of one shape; column {series.name!r} has dtype "
            f"{series.dtype}. Give it a transformer, or 'drop'."
        )
    return series.to_numpy(dtype=np.float64, na_value=np.nan)[:, None]


# ------------------------------------------------------------------------------ frozen steps


def steps_of(estimator):
    """Return the steps of a Pipeline; any other estimator is its own only step."""
    return [step for _, step in estimator.steps] if type(estimator) is Pipeline else [estimator]


def n_frozen(estimator):
    """Count the leading steps up to the last frozen one before a step that learns."""
    if type(estimator) is Pipeline and estimator.transform_input:  # metadata, by all steps
        return 0
    frozen = 0
    for i, step in enumerate(steps_of(estimator), start=1):
        if isinstance(step, FrozenEstimator):
            frozen = i
        elif not (step in (None, "passthrough") or _learns_nothing(step)):
            break
    return frozen


def _learns_nothing(step):
    """Whether a step needs no fit, and its `fit` takes no weights or other parameters."""
    if get_tags(step).requires_fit or not hasattr(step, "fit"):
        return False
    return inspect.signature(step.fit).parameters.keys() <= {"X", "y"}


def is_frozen(estimator):
    """Whether an estimator has nothing left to learn."""
    return n_frozen(estimator) == len(steps_of(estimator))


def is_by_cell(estimator):
    """Whether an estimator certainly computes each cell separately, as encoders do.

    In others, such as a function that subtracts the mean, rows may depend on each other.
    """
    if type(estimator) is Pipeline:
        return all(map(is_by_cell, steps_of(estimator)))
    if isinstance(estimator, FrozenEstimator):
        return is_by_cell(estimator.estimator)
    return estimator in (None, "passthrough") or is_encoder(estimator)


# ------------------------------------------------------------------------------ seeds


def root_seed(random_state):
    """Return None, or the integer from which all children's seeds derive."""
    if random_state is None or isinstance(random_state, Integral):
        return random_state
    return draw_seed(random_state)


def child_seed(seed, name):
    """Return a seed that depends on (seed, name) only, on every machine."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:4], "little") & 0x7FFFFFFF


def seeded_clone(estimator, seed, name, auto_params=None):
    """Clone an estimator; unless seed is None, set every `random_state` from (seed, name).

    Parameters
    ----------
    estimator : estimator
    seed : int or None
    name : str
    auto_params : dict of {str: value}, default=None
        Values of parameters that the user left at "auto"; `target_type` is set only on encoders.
    """
    child = clone(estimator)
    if not hasattr(child, "get_params"):
        return child
    if seed is not None:
        _set_seeds(child, child_seed(seed, name))
    params, auto_params = child.get_params(), auto_params or {}
    for key, value in params.items():
        prefix, _, own = key.rpartition("__")
        if own in auto_params and isinstance(value, str) and value == "auto":
            owner = params[prefix] if prefix else child
            if own != "target_type" or is_encoder(owner):
                owner.set_params(**{own: auto_params[own]})  # a joint model's own would warn
    return child


def _set_seeds(child, seed):
    """Set every `random_state`; where that is deprecated, the seed of the splitter `cv` instead.

    Since scikit-learn 1.9, `TargetEncoder` warns about its own `random_state`. Without a seeded
    splitter, its folds are random.
    """
    before = child.get_params()
    _set_random_states(child, seed)
    after = child.get_params()
    for key, value in before.items():
        prefix, is_seed, _ = key.rpartition("random_state")
        if is_seed and isinstance(value, str) and value == "deprecated":
            cv = before.get(f"{prefix}cv", "")
            moved = {key: value}
            if cv is None or isinstance(cv, Integral):
                moved[f"{prefix}cv"] = KFold(cv or 5, shuffle=True, random_state=after[key])
            child.set_params(**moved)
