"""One modality's estimator: made ready, fitted, asked, alone and on folds."""

from dataclasses import dataclass
from functools import partial
from inspect import signature

import numpy as np
from sklearn.base import ClassifierMixin, is_classifier, is_regressor
from sklearn.pipeline import Pipeline, make_pipeline

from sklearn_mmfusion._caching import CachedChild
from sklearn_mmfusion._composition import TripleComposition, log_elapsed, seeded_clone
from sklearn_mmfusion._passthrough import as_transformer
from sklearn_mmfusion._sklearn import _check_method_params, _safe_indexing
from sklearn_mmfusion._validation import noted

# ------------------------------------------------------------------------------ making


def kind_of(owner):
    """The kind of predictor an owner joins, and the test for it.

    Not by the owner's tags, which ask its members.
    """
    if isinstance(owner, ClassifierMixin):
        return "classifier", is_classifier
    return "regressor", is_regressor


def as_member(name, estimator, head, owner):
    """A predictor of the owner's kind: the estimator itself, or with a head behind it.

    Encoders have the head they are trained with, other transformers get `head`.
    """
    kind, is_wanted = kind_of(owner)
    estimator = as_transformer(estimator)
    if is_wanted(estimator) or (owner.head is None and has_head(estimator)):
        return estimator
    is_predictor = is_classifier(estimator) or is_regressor(estimator)
    if hasattr(estimator, "transform") and not is_predictor:
        return make_pipeline(estimator, head)
    raise TypeError(
        f"{type(owner).__name__}: modality {name!r} has {estimator!r}; expected a {kind}, or an "
        f"encoder or other transformer, behind which comes a {kind} (parameter head)."
    )


def last_step(member):
    """The last step of a pipeline, or the estimator itself."""
    return member[-1] if isinstance(member, Pipeline) and len(member.steps) else member


def before_last_step(member, data):
    """What reaches the last step of a fitted pipeline; the data for an estimator alone."""
    return member[:-1].transform(data) if isinstance(member, Pipeline) and len(member) > 1 else data


def has_head(estimator):
    """Whether an estimator is (or ends in) an encoder that knows what its own head predicts."""
    return hasattr(last_step(estimator), "predict_head")


def can(estimator, method):
    """Whether an estimator has a method, or its class has and fitting may bring it forth."""
    return hasattr(estimator, method) or hasattr(type(estimator), method)


def prepared_clone(member, name, seed, told):
    """A seeded clone, its parameters in `told` set where the user has left them at "auto"."""
    child = seeded_clone(member, seed, name)
    left = {
        key: told[key.split("__")[-1]]
        for key, value in child.get_params().items()
        if key.split("__")[-1] in told and isinstance(value, str) and value == "auto"
    }
    return child.set_params(**left) if left else child


# ------------------------------------------------------------------------------ fitting, asking


@dataclass(frozen=True)
class Task:
    """What a worker needs to fit one member on some of its present rows and ask it on others.

    `train` and `test` are positions among all rows of X, `data` holds the rows of `present`.
    Without `test` the fitted member comes back, a `CachedChild`, with it the answers for those of
    its rows that are present.
    """

    member: object
    data: object
    present: np.ndarray
    y: np.ndarray
    params: dict
    train: np.ndarray
    test: np.ndarray | None
    ask: object
    note: str
    owner: str
    message: str | None
    memory: object
    label: str

    @property
    def kept(self):
        """Positions of the training rows that have the modality."""
        return self.train[self.present[self.train]]

    def run(self):
        params = _check_method_params(self.present, self.params, indices=self.kept)
        y = self.y[self.kept]

        member = CachedChild(self.member, self.memory, self.label)
        with noted(self.note), log_elapsed(self.owner, self.message, member):
            member.fit(self._rows(self.kept), y, params)
            if self.test is None:
                return member
            rows = self.test[self.present[self.test]]
            return ask_member(self.ask, member, self._rows(rows)) if len(rows) else None

    def _rows(self, rows):
        places = np.cumsum(self.present)[rows] - 1
        whole = np.array_equal(places, np.arange(self.present.sum()))
        return self.data if whole else _safe_indexing(self.data, places)


def run(task):
    """Run a task; a function, which every backend of joblib can pickle."""
    return task.run()


def ask_member(ask, member, data):
    """Answers of a `CachedChild` for the rows in `data`, None where there are none."""
    if data is None:
        return None
    return ask.align(member.estimator, member.apply(ask.function, data))


# ------------------------------------------------------------------------------ answers


@dataclass(frozen=True)
class AskProbabilities:
    """Distributions over `classes` of shape (n_samples, n_targets, n_classes).

    A classifier that tells no probabilities is as sure as can be of what it predicts.
    """

    classes: np.ndarray
    prior: np.ndarray
    multilabel: bool

    @property
    def function(self):
        return partial(raw_probabilities, multilabel=self.multilabel)

    def align(self, member, proba):
        known = last_step(member) if has_head(member) else member
        if self.multilabel:
            return label_distributions(proba, getattr(known, "classes_", None))
        return align_probabilities(proba, known.classes_, self.classes, self.prior[0])[:, None]


def raw_probabilities(member, data, multilabel):
    """Probabilities in the member's own order of classes, which no prior decides: cached."""
    if has_head(member):
        return last_step(member).predict_head(before_last_step(member, data))
    if hasattr(member, "predict_proba"):
        return member.predict_proba(data)
    if multilabel:
        return member.predict(data)
    return np.asarray(member.predict(data))[:, None] == np.asarray(member.classes_)


@dataclass(frozen=True)
class AskEvidence:
    """Evidence for `classes` of shape (n_samples, 1, n_classes); none for a class never seen."""

    classes: np.ndarray

    @property
    def function(self):
        return raw_evidence

    def align(self, member, evidence):
        return align(evidence, last_step(member).classes_, self.classes)[:, None]


def raw_evidence(member, data):
    """Evidence in the member's own order of classes."""
    return last_step(member).predict_evidence(before_last_step(member, data))


@dataclass(frozen=True)
class AskNumbers:
    """Predictions of shape (n_samples, n_targets).

    With `deviation`, (n_samples, n_targets, 2): beside each its standard deviation, NaN where the
    member does not tell.
    """

    deviation: bool = False

    @property
    def function(self):
        return partial(raw_numbers, deviation=self.deviation)

    def align(self, member, numbers):
        return numbers


def raw_numbers(member, data, deviation):
    """Predictions, with `deviation` and their standard deviation on a last axis."""
    told = np.nan
    if has_head(member):
        numbers = last_step(member).predict_head(before_last_step(member, data))
    elif deviation and tells_deviation(member):
        # not through the pipeline, which would want the parameter requested
        before = before_last_step(member, data)
        numbers, told = last_step(member).predict(before, return_std=True)
        told = as_columns(told)
    else:
        numbers = member.predict(data)
    numbers = as_columns(numbers)
    if not deviation:
        return numbers
    return np.stack([numbers, np.broadcast_to(told, numbers.shape)], axis=-1)


def tells_deviation(member):
    """Whether ``predict(X, return_std=True)`` works, as scikit-learn's Bayesian models have it."""
    last = last_step(member)
    if isinstance(last, TripleComposition):  # a late fusion: its rule decides
        return last.fusion == "inverse_variance"
    return hasattr(last, "predict") and "return_std" in signature(last.predict).parameters


def align(values, known, classes):
    """Columns of a member's classes, put where they are among all; zeros for those not known."""
    known = np.asarray(known)
    aligned = np.zeros((len(values), len(classes)))
    mine = np.flatnonzero(np.isin(known, classes))
    aligned[:, np.searchsorted(classes, known[mine])] = np.asarray(values)[:, mine]
    return aligned


def align_probabilities(proba, known, classes, prior):
    """Distributions over all classes.

    Of a class that a member has not seen it knows nothing: that class keeps its prior. What a
    (frozen) member says of classes that do not occur is left out.
    """
    aligned = align(proba, known, classes)
    unknown = ~np.isin(classes, known)
    rest = 1 - prior[unknown].sum()
    if unknown.any() or len(np.asarray(known)) > len(classes):
        total = aligned.sum(axis=1, keepdims=True)
        share = prior * ~unknown / max(rest, np.finfo(float).tiny)
        aligned = rest * np.where(total > 0, aligned / np.where(total > 0, total, 1), share)
        aligned[:, unknown] = prior[unknown]
    return aligned


def label_distributions(proba, classes=None):
    """What classifiers give for labels, (n, L) or L times (n, 2), as (n, L, 2).

    A label that never varied has one column in the list; `classes` says whether of 0 or 1.
    """
    if isinstance(proba, list):
        proba = np.stack(
            [
                p[:, 1] if p.shape[1] > 1 else np.full(len(p), float(np.ravel(classes[j])[0] == 1))
                for j, p in enumerate(proba)
            ],
            axis=1,
        )
    proba = np.asarray(proba, dtype=np.float64)
    return np.stack([1 - proba, proba], axis=-1)


def as_columns(numbers):
    numbers = np.asarray(numbers, dtype=np.float64)
    return numbers.reshape(len(numbers), -1)
