"""One modality's estimator: made ready, fitted, asked, alone and on folds."""

from dataclasses import dataclass
from inspect import signature

import numpy as np
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, is_classifier, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.pipeline import Pipeline, make_pipeline

from sklearn_mmfusion._composition import seeded_clone, take_params, take_rows
from sklearn_mmfusion._sklearn import _print_elapsed_time, _safe_indexing
from sklearn_mmfusion._validation import noted
from sklearn_mmfusion.ensemble import _rules

# ------------------------------------------------------------------------------ making


def as_member(name, estimator, head, owner):
    """A predictor of the owner's kind: the estimator itself, or with a head behind it.

    Encoders have the head they are trained with, other transformers get `head`, None for none.
    """
    # not by its tags, which ask its members
    wanted, kind = is_regressor, "regressor"
    if isinstance(owner, ClassifierMixin):
        wanted, kind = is_classifier, "classifier"
    if wanted(estimator) or (owner.head is None and has_head(estimator)):
        return estimator
    if hasattr(estimator, "transform") and not hasattr(estimator, "predict"):
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

    `train` and `test` are masks over all rows of X, `data` holds the rows of `present`. Without
    `test` the fitted member comes back, with it the answers for those of its rows that are present.
    """

    member: object
    data: object
    present: np.ndarray
    y: object
    params: dict
    train: np.ndarray
    test: np.ndarray | None
    ask: object
    note: str
    owner: str
    message: str | None

    def run(self):
        kept = self.train & self.present
        y, params = take_rows(self.y, kept), take_params(self.params, kept)
        with noted(self.note), _print_elapsed_time(self.owner, self.message):
            self.member.fit(self._rows(kept), y, **params)
            if self.test is None:
                return self.member
            asked = self.test & self.present
            return self.ask(self.member, self._rows(asked)) if asked.any() else None

    def _rows(self, mask):
        kept = mask[self.present]
        return self.data if kept.all() else _safe_indexing(self.data, np.flatnonzero(kept))


def run(task):
    """Run a task; a function, which every backend of joblib can pickle."""
    return task.run()


# ------------------------------------------------------------------------------ answers


@dataclass(frozen=True)
class AskProbabilities:
    """Distributions over `classes` of shape (n_samples, n_targets, n_classes).

    A classifier that tells no probabilities is as sure as can be of what it predicts.
    """

    classes: np.ndarray
    multilabel: bool

    def __call__(self, member, data):
        known = member
        if has_head(member):
            known = last_step(member)
            proba = known.predict_head(before_last_step(member, data))
        elif hasattr(member, "predict_proba"):
            proba = member.predict_proba(data)
        elif self.multilabel:
            proba = member.predict(data)
        else:
            proba = np.asarray(member.predict(data))[:, None] == np.asarray(known.classes_)
        if self.multilabel:
            return label_distributions(proba)
        return align(proba, known.classes_, self.classes)


@dataclass(frozen=True)
class AskEvidence:
    """Evidence for `classes` of shape (n_samples, 1, n_classes)."""

    classes: np.ndarray

    def __call__(self, member, data):
        known = last_step(member)
        evidence = known.predict_evidence(before_last_step(member, data))
        return align(evidence, known.classes_, self.classes)


@dataclass(frozen=True)
class AskNumbers:
    """Predictions of shape (n_samples, n_targets).

    With `deviation`, (n_samples, n_targets, 2): beside each its standard deviation, NaN where the
    member does not tell.
    """

    deviation: bool = False

    def __call__(self, member, data):
        told = np.nan
        if has_head(member):
            numbers = last_step(member).predict_head(before_last_step(member, data))
        elif self.deviation and tells_deviation(member):
            numbers, told = member.predict(data, return_std=True)
            told = as_columns(told)
        else:
            numbers = member.predict(data)
        numbers = as_columns(numbers)
        if not self.deviation:
            return numbers
        return np.stack([numbers, np.broadcast_to(told, numbers.shape)], axis=-1)


def tells_deviation(member):
    """Whether ``predict(X, return_std=True)`` works, as scikit-learn's Bayesian models have it."""
    return "return_std" in signature(last_step(member).predict).parameters


def align(values, known, classes):
    """Columns of a member's own classes, put where they are among all classes."""
    aligned = np.zeros((len(values), 1, len(classes)))
    aligned[:, 0, np.searchsorted(classes, known)] = values
    return aligned


def label_distributions(proba):
    """What classifiers give for labels, (n, L) or L times (n, 2), as (n, L, 2)."""
    if isinstance(proba, list):
        columns = [p[:, 1] if p.shape[1] > 1 else np.zeros(len(p)) for p in proba]
        proba = np.stack(columns, axis=1)
    proba = np.asarray(proba, dtype=np.float64)
    return np.stack([1 - proba, proba], axis=-1)


def as_columns(numbers):
    numbers = np.asarray(numbers, dtype=np.float64)
    return numbers.reshape(len(numbers), -1)


# ------------------------------------------------------------------------------ calibration


class _Told(ClassifierMixin, BaseEstimator):
    """A classifier whose data are the log-probabilities it answers with."""

    def fit(self, X, y, sample_weight=None):
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, X):
        return X[:, 1] - X[:, 0] if X.shape[1] == 2 else X

    def predict(self, X):
        return self.classes_[X.argmax(axis=1)]


def fit_calibrator(method, answers, target, weight):
    """scikit-learn's calibration, fitted to out-of-fold distributions (n_samples, 1, n_classes)."""
    rows = np.arange(len(target))
    calibrator = CalibratedClassifierCV(_Told(), method=method, cv=[(rows, rows)], ensemble=False)
    with config_context(enable_metadata_routing=False):  # nothing in here is the user's
        return calibrator.fit(_rules.log(answers[:, 0]), target, weight)


def calibrate(calibrator, answers):
    """Calibrated distributions in place of (n_samples, 1, n_classes) others."""
    return calibrator.predict_proba(_rules.log(answers[:, 0]))[:, None]
