"""Prepare, fit and apply the estimator of one modality, on all rows and on folds."""

from dataclasses import dataclass
from functools import partial
from inspect import signature

import numpy as np
from sklearn.base import ClassifierMixin, is_classifier, is_regressor
from sklearn.ensemble import VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils import get_tags

from sklearn_mmfusion._caching import CachedChild
from sklearn_mmfusion._sklearn import (
    BaseSearchCV,
    _check_method_params,
    _routing_enabled,
    _safe_indexing,
)
from sklearn_mmfusion._triples import TripleComposition, as_transformer
from sklearn_mmfusion._validation import MULTILABEL, add_error_note, log_elapsed, number_rows

# ------------------------------------------------------------------------------ making


def kind_of(composition):
    """Return the kind of predictor that a late fusion joins, and the test for it.

    The tags of the fusion cannot decide: they depend on its members.
    """
    if isinstance(composition, ClassifierMixin):
        return "classifier", is_classifier
    return "regressor", is_regressor


def as_member(name, estimator, head, composition):
    """Return a predictor of the fusion's kind: the estimator, followed by a head if needed.

    Encoders use the head they are trained with, other transformers get `head`.
    """
    kind, is_wanted = kind_of(composition)
    estimator = as_transformer(estimator)
    if is_wanted(estimator) or (composition.head is None and has_head(estimator)):
        return estimator
    is_predictor = is_classifier(estimator) or is_regressor(estimator)
    if hasattr(estimator, "transform") and not is_predictor:
        return make_pipeline(estimator, head)
    raise TypeError(
        f"{type(composition).__name__}: modality {name!r} has {estimator!r}; expected a {kind}, or "
        f"an encoder or other transformer, to be followed by a {kind} (parameter head)."
    )


def with_requests(estimator, *params):
    """Make a default estimator request fit parameters if metadata routing is enabled."""
    if _routing_enabled():
        estimator.set_fit_request(**dict.fromkeys(params, True))
    return estimator


def last_step(member):
    """Return the last step of a pipeline, or the estimator itself."""
    return member[-1] if isinstance(member, Pipeline) and len(member.steps) else member


def before_last_step(member, data):
    """Return the input of a fitted pipeline's last step; for other estimators, the data."""
    return member[:-1].transform(data) if isinstance(member, Pipeline) and len(member) > 1 else data


def has_head(estimator):
    """Whether an estimator is (or ends in) an encoder that keeps its training head."""
    return hasattr(last_step(estimator), "predict_head")


def is_prefit(member):
    """Whether the last step of an estimator is frozen, so that it is fitted before `fit`."""
    return isinstance(last_step(member), FrozenEstimator)


def innermost(member):
    """Return the fitted predictor inside pipelines, searches and frozen estimators."""
    if isinstance(member, Pipeline):
        return innermost(member.steps[-1][1])
    if isinstance(member, FrozenEstimator):
        return innermost(member.estimator)
    return innermost(member.best_estimator_) if isinstance(member, BaseSearchCV) else member


def knows_labels(member):
    """Whether a fitted classifier was fitted to a multilabel target; None if it does not show.

    Its `classes_` are not enough: many number the labels of a row from 0, like classes.
    """
    last = innermost(member)
    if hasattr(last, "_target"):
        return last._target.kind == MULTILABEL
    if isinstance(last.classes_, list):
        return True
    for attribute in ("_label_binarizer", "label_binarizer_"):  # MLPClassifier, OneVsRest
        if hasattr(last, attribute):
            return getattr(last, attribute).y_type_.startswith("multilabel")
    if hasattr(last, "_multilabel"):  # late fusion
        return last._multilabel
    of_sklearn = type(last).__module__.startswith("sklearn.")
    return False if of_sklearn or not get_tags(last).classifier_tags.multi_label else None


def may_have(estimator, method):
    """Whether an estimator has a method or, once fitted, may get it from a nested estimator."""
    if isinstance(estimator, VotingClassifier):
        members = [member for _, member in estimator.estimators if not isinstance(member, str)]
        return estimator.voting == "soft" and all(may_have(member, method) for member in members)
    if hasattr(estimator, method):
        return True
    inside = estimator.get_params() if hasattr(estimator, "get_params") else {}
    delegates = any(hasattr(value, "fit") for value in inside.values())
    return delegates and hasattr(type(estimator), method)


# ------------------------------------------------------------------------------ fitting, applying


@dataclass(frozen=True)
class Task:
    """Job of a worker: fit one member on some of its present rows and apply it to others.

    `train` and `test` are positions among all rows of X, `data` holds the rows of `present`.
    `output` (such as `Probabilities`) has two steps: `function` computes on rows, `align` maps the
    result to all classes. Without `test`, `fit_member` returns the fitted member as a
    `CachedChild`; otherwise the output on the test rows that are present.
    """

    member: object
    data: object
    present: np.ndarray
    y: np.ndarray
    params: dict
    train: np.ndarray
    test: np.ndarray | None
    output: object
    note: str
    message: str | None
    memory: object
    label: str

    @property
    def kept(self):
        """Return the positions of the training rows that have the modality."""
        return self.train[self.present[self.train]]

    def rows(self, rows):
        """Return the data of present rows, given by their positions among all rows."""
        positions = np.cumsum(self.present)[rows] - 1
        whole = np.array_equal(positions, np.arange(self.present.sum()))
        return self.data if whole else _safe_indexing(self.data, positions)


def fit_member(task):
    """Run a `Task`. A function, because every backend of joblib can pickle it."""
    params = _check_method_params(task.present, task.params, indices=task.kept)
    member, y = CachedChild(task.member, task.memory, task.label), task.y[task.kept]
    estimator_name = task.label.partition(":")[0]
    with log_elapsed(estimator_name, task.message, member):
        with number_rows(task.kept), add_error_note(task.note):
            member.fit(task.rows(task.kept), y, params)
        if task.test is None:
            return member
        rows = task.test[task.present[task.test]]
        data = task.rows(rows) if len(rows) else None
        return member_output(task.output, member, data, rows, task.note)


def member_output(output, member, data, rows, note):
    """Return the output of a fitted `CachedChild` on `data`, None if there are no rows.

    `rows` holds the row numbers of `data` in X; `note` is added to errors.
    """
    if data is None:
        return None
    with number_rows(rows), add_error_note(note):
        return output.align(member.estimator, member.apply(output.function, data))


# ------------------------------------------------------------------------------ outputs


@dataclass(frozen=True)
class Probabilities:
    """Distributions over `classes` of shape (n_samples, n_targets, n_classes).

    Classifiers without probabilities give probability 1 to the class they predict.
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
    """Return probabilities in the member's class order; cached, since no prior enters."""
    if has_head(member):
        return last_step(member).predict_head(before_last_step(member, data))
    if hasattr(member, "predict_proba"):
        return member.predict_proba(data)
    if multilabel:
        return member.predict(data)
    return np.asarray(member.predict(data))[:, None] == np.asarray(member.classes_)


@dataclass(frozen=True)
class Evidence:
    """Evidence for `classes` of shape (n_samples, 1, n_classes), 0 for classes not seen in fit."""

    classes: np.ndarray

    @property
    def function(self):
        return raw_evidence

    def align(self, member, evidence):
        return align(evidence, last_step(member).classes_, self.classes)[:, None]


def raw_evidence(member, data):
    """Return evidence in the member's class order."""
    return last_step(member).predict_evidence(before_last_step(member, data))


@dataclass(frozen=True)
class Numbers:
    """Predictions of shape (n_samples, n_targets).

    With `deviation`, (n_samples, n_targets, 2): each followed by its standard deviation, NaN if the
    member has none.
    """

    deviation: bool = False

    @property
    def function(self):
        return partial(raw_numbers, deviation=self.deviation)

    def align(self, member, numbers):
        return numbers


def raw_numbers(member, data, deviation):
    """Return predictions; with `deviation`, stacked with standard deviations on a last axis."""
    std = np.nan
    if has_head(member):
        numbers = last_step(member).predict_head(before_last_step(member, data))
    elif deviation and has_deviation(member):
        # call the last step: through the pipeline, return_std would need a metadata request
        before = before_last_step(member, data)
        numbers, std = last_step(member).predict(before, return_std=True)
        std = as_columns(std)
    else:
        numbers = member.predict(data)
    numbers = as_columns(numbers)
    if not deviation:
        return numbers
    return np.stack([numbers, np.broadcast_to(std, numbers.shape)], axis=-1)


def has_deviation(member):
    """Whether ``predict(X, return_std=True)`` works, as in scikit-learn's Bayesian models."""
    last = last_step(member)
    if isinstance(last, TripleComposition):  # a late fusion: its rule decides
        return last.fusion == "inverse_variance"
    return hasattr(last, "predict") and "return_std" in signature(last.predict).parameters


def align(values, known, classes):
    """Map columns of a member's classes to all classes, with zeros for unknown classes."""
    known = np.asarray(known)
    aligned = np.zeros((len(values), len(classes)))
    shared = np.flatnonzero(np.isin(known, classes))
    aligned[:, np.searchsorted(classes, known[shared])] = np.asarray(values)[:, shared]
    return aligned


def align_probabilities(proba, known, classes, prior):
    """Map distributions over a member's classes to all classes.

    Classes a member has not seen keep their prior probability. Classes of a (frozen) member that
    are not in `classes` are left out.
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
    """Convert label probabilities, (n, L) or a list of L arrays (n, 2), to shape (n, L, 2).

    A label that is constant in training has one column in the list, that of its class (0 or 1).
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
