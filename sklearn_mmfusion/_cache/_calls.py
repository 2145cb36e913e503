"""Estimators fitted and asked through a store.

A fit is one entry: the fitted estimator and its output on the training rows, which a hit gives
back as a fresh object. What a fitted estimator answers for other rows is an entry under the key of
its fit and that of the rows. A frozen estimator is never fitted; what a frozen encoder answers is
kept by cell.
"""

import functools
import inspect
import warnings

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags

from sklearn_mmfusion._cache._given import cell_digests, data_key, environment, inside
from sklearn_mmfusion._cache._keys import INDIFFERENT, NoKeyError, UnseededError, key_of
from sklearn_mmfusion._columns import gathered
from sklearn_mmfusion._sklearn import _safe_indexing
from sklearn_mmfusion._triples import is_encoder, wants_column

ASKED = ("transform", "predict", "predict_proba", "predict_head", "predict_evidence")


def fitted(estimator, data, call, store, *, what, told, who):
    """Fit an estimator, or take a stored fit in its place.

    Parameters
    ----------
    estimator : estimator
        Unfitted and the caller's own: it may be fitted in place.
    data : Series, DataFrame or ndarray
        Rows to learn from, cells not gathered (see `select`).
    call : callable
        ``call(estimator, data)`` fits and returns the output on these rows.
    store : Store or None
    what : str
        What `call` does, "fit" or "fit_transform" say: one data and estimator, many outputs.
    told : object
        What else decides the result of `call`: target and fit parameters.
    who : str
        Owner and modality, for the warning about a parameter that has no key.

    Returns
    -------
    estimator : estimator
    output : object
    key : str or None
        Of the fit, for `asked`.
    """
    if store is None or has_accelerator(estimator):
        return estimator, call(estimator, read(estimator, data)), None
    if is_frozen(estimator):
        return estimator, call(_Frozen(estimator, store, who), data), None
    key = _key(who, estimator, data, estimator, what, told)
    quiet = who if key else None  # one warning is enough

    def compute():
        if n_frozen(estimator) or not _is_long(estimator):
            learned, features = _split(estimator, data, store, quiet)
            return learned, call(learned, features)
        memory, estimator.memory = estimator.memory, _FirstStep(store, quiet)
        try:
            return estimator, call(estimator, data)
        finally:
            estimator.memory = memory

    kept = indifferent(estimator)
    learned, output = compute() if key is None else store.get(key, compute, who)
    estimator = _with(estimator, learned)
    if kept != indifferent(estimator):
        estimator.set_params(**kept)
    return estimator, output, key


def asked(estimator, data, call, store, key, *, what, told=None):
    """``call(estimator, data)`` of a fitted estimator, or a stored answer.

    Parameters as in `fitted`, which gave the `key`.
    """
    if store is None or has_accelerator(estimator):
        return call(estimator, read(estimator, data))

    def compute():
        return call(*_split(estimator, data, store))

    if key is not None:
        key = _key(None, estimator, data, key, what, told)
    return compute() if key is None else store.get(key, compute)


def read(estimator, data):
    """Data as an estimator wants it: cells of equal shape as an array, except to encoders."""
    # what is an array already is not looked at: the tags of an estimator take a while to ask for
    return data if isinstance(data, np.ndarray) or wants_column(estimator) else gathered(data)


def _key(who, estimator, data, *told):
    """Key of what an estimator makes of data, decided by all that is told too.

    None where there is none, with a warning if it is for `who`.
    """
    try:
        return key_of(told, data_key(data, estimator), environment(estimator))
    except NoKeyError as error:
        if who is not None:
            why = _reason(error, who.partition(":")[0])
            warnings.warn(
                f"{who} is computed anew each time, memory notwithstanding: {why}",
                UserWarning,
                stacklevel=3,
            )
        return None


def _reason(error, owner):
    own = error.path.startswith("[0][0].")
    what = f"parameter {error.path[7:]!r}" if own else "what it is given"
    if isinstance(error, UnseededError):
        return f"{what} has no seed. Set random_state=0, or another number, there or in {owner}."
    return (
        f"{what} has no key ({error}). Use classes and functions that can be imported from a "
        "module, and plain arrays."
    )


def indifferent(estimator):
    """Parameters that no key holds, inside an estimator too."""
    params = estimator.get_params()
    return {name: v for name, v in params.items() if name.split("__")[-1] in INDIFFERENT}


def has_accelerator(estimator):
    """Whether processes train something inside together: one must not wait for another's fit."""
    return any("accelerator" in (getattr(e, "net_params", None) or {}) for e in inside(estimator))


# ------------------------------------------------------------------------------ pipelines


def n_steps(estimator):
    """How many steps an estimator has."""
    return len(estimator.steps) if type(estimator) is Pipeline else 1


def _is_long(estimator):
    """Whether it is a pipeline whose first step has others behind it."""
    return n_steps(estimator) > 1 and estimator.steps[0][1] not in (None, "passthrough")


def n_frozen(estimator):
    """How many leading steps learn nothing, the last of them frozen."""
    if type(estimator) is Pipeline and estimator.transform_input:  # of metadata, by all steps
        return 0
    steps = [s for _, s in estimator.steps] if type(estimator) is Pipeline else [estimator]
    frozen = 0
    for i, step in enumerate(steps, start=1):
        if isinstance(step, FrozenEstimator):
            frozen = i
        elif not (step in (None, "passthrough") or _learns_nothing(step)):
            break
    return frozen


def _learns_nothing(step):
    """Whether a step need not be fitted, nor is handed weights or the like in a fit."""
    if get_tags(step).requires_fit or not hasattr(step, "fit"):
        return False
    return inspect.signature(step.fit).parameters.keys() <= {"X", "y"}


def is_frozen(estimator):
    """Whether nothing in an estimator is left to learn."""
    return n_frozen(estimator) == n_steps(estimator)


def is_by_cell(estimator):
    """Whether an estimator is sure to answer for each cell by itself, as encoders do.

    Of anything else, a function that subtracts a mean say, the rows may decide together.
    """
    if type(estimator) is Pipeline:
        return all(is_by_cell(step) for _, step in estimator.steps)
    if isinstance(estimator, FrozenEstimator):
        return is_by_cell(estimator.estimator)
    return estimator in (None, "passthrough") or is_encoder(estimator)


def _split(estimator, data, store, who=None):
    """What of an estimator is left to ask behind its frozen part, and the features it is given."""
    frozen = n_frozen(estimator)
    if is_frozen(estimator):
        return _Frozen(estimator, store, who), data
    if not frozen:
        return estimator, read(estimator, data)
    first = estimator[:frozen] if frozen > 1 else estimator[0]
    return estimator[frozen:], answers(first, data, "transform", store, who)


def _with(estimator, learned):
    """The estimator with what a fit has made of it, its frozen part left out."""
    if type(estimator) is not Pipeline:
        return learned
    n_kept = n_steps(estimator) - n_steps(learned)
    estimator.steps = [*estimator.steps[:n_kept], *learned.steps]
    return estimator


class _FirstStep:
    """Stands for a pipeline's `memory` in one fit: its first step goes through the store.

    Another step behind it shall not fit it again.
    """

    location = None  # the step itself is fitted, not a clone

    def __init__(self, store, who):
        self.store, self.who = store, who

    def cache(self, fit_one, **options):
        def fit(step, X, y, **params):
            def call(step, X):
                return fit_one(step, X, y, **params)[0]

            store, self.store = self.store, None
            step, output, _ = fitted(
                step, X, call, store, what="step", told=(y, params.get("params")), who=self.who
            )
            return output, step

        return fit


class _Frozen:
    """A frozen estimator that answers through the store. Lives for one call only."""

    def __init__(self, estimator, store, who):
        self.estimator, self.store, self.who = estimator, store, who

    def fit(self, X, y=None, **params):
        return self

    def __getattr__(self, name):
        if name.startswith("__") or name in (*vars(self), "fit_transform"):
            raise AttributeError(name)
        last = self.estimator
        if type(last) is Pipeline and not hasattr(last, name):
            last = last[-1]
        found = getattr(last, name)
        if name not in ASKED:
            return found

        @functools.wraps(found)
        def method(X, **params):
            if params:
                return found(read(self.estimator, X), **params)
            return answers(self.estimator, X, name, self.store, self.who)

        return method


def fit_transform(transformer, data, y, params):
    """Fit a transformer and transform the same rows.

    Parameters
    ----------
    params : dict of {str: dict}
        Parameters of "fit_transform" where there is such a method, else of "fit" and "transform".
    """
    if hasattr(transformer, "fit_transform"):
        return transformer.fit_transform(data, y, **params.get("fit_transform", {}))
    transformer.fit(data, y, **params.get("fit", {}))
    return transformer.transform(data, **params.get("transform", {}))


# ------------------------------------------------------------------------------ frozen


def answers(estimator, data, method, store, who=None):
    """Answers of a frozen estimator: by cell where each stands for itself, else for all rows."""

    def ask(rows):
        return _ask(estimator, method, read(estimator, rows))

    digests = cell_digests(data, estimator) if is_by_cell(estimator) else None
    none = data if digests is None else data.iloc[:0].reset_index(drop=True)
    key = _key(who, estimator, none, estimator, "frozen", method, digests is None)
    if key is None or not len(data):
        return ask(data)
    if digests is None:
        return store.get(key, lambda: ask(data))
    told = by_cell([digest.tobytes() for digest in digests], data, ask, store, key)
    return told.set_axis(data.index) if isinstance(told, pd.DataFrame) else told


def by_cell(cells, data, ask, store, key):
    """Answers for the digests `cells` of `data`, each asked once, whatever rows come together.

    What was not found is added as one entry, numbered after those before it, so that the store's
    own limits bound them. Entries are read until all cells are there; one that was deleted hides
    those behind it until a call has filled its place. Answers are those of the batch in which a
    cell first came: for networks equal within 1e-5 (relative) to those of another batch.
    """
    shards = _shards(store, key, set(cells))
    if set(cells).difference(*(shard for shard, _ in shards)):
        with store.lock(key):  # while asking too: others may want the same cells
            shards = _shards(store, key, set(cells))
            known = {cell for shard, _ in shards for cell in shard}
            new = {cell: row for row, cell in enumerate(cells) if cell not in known}
            if new:
                store.n_computed += 1
                own = list(new), ask(data.iloc[list(new.values())])
                if not _has_rows(own[1], len(new)):
                    return ask(data)
                kept = store.get(_place(key, len(shards)), lambda: own)
                # where there are no locks, another process may have filled the place
                shards += [own] if kept is own else [kept, own]
    store.n_read += 1
    places = {cell: row for row, cell in enumerate(c for shard, _ in shards for c in shard)}
    stacked = _stack([answers for _, answers in shards])
    return _safe_indexing(stacked, np.array([places[cell] for cell in cells]))


def _ask(estimator, method, data):
    if type(estimator) is Pipeline and not hasattr(estimator, method):
        return getattr(estimator[-1], method)(estimator[:-1].transform(data))
    return getattr(estimator, method)(data)


def _place(key, number):
    return key_of("shard", key, number)


def _shards(store, key, wanted):
    """Pairs (cells, answers) that are stored, until all that is wanted is there or none follows."""
    shards = []
    while wanted:
        found = store.find(_place(key, len(shards)))
        if not found:
            break
        shards += found
        wanted = wanted.difference(found[0][0])
    return shards


def _has_rows(answers, n):
    kinds = np.ndarray | pd.DataFrame | sparse.spmatrix | sparse.sparray
    return isinstance(answers, kinds) and answers.shape[0] == n


def _stack(parts):
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    if isinstance(parts[0], pd.DataFrame):
        return pd.concat(parts, ignore_index=True)
    return sparse.vstack(parts, format="csr")
