"""Decision rules, which join the outputs of several modalities, and calibration before them.

The outputs of classifiers are distributions of shape (n_modalities, n_samples, n_targets,
n_classes): one target and its classes, or, for multilabel targets, one target of two classes per
label. Those of regressors are numbers of shape (n_modalities, n_samples, n_targets). ``mask`` of
shape (n_modalities, n_samples) marks the outputs that are present. The others are ignored; they
hold 1, but any finite number would do.
"""

import numpy as np
from scipy.optimize import minimize
from scipy.special import softmax
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV

EPS = np.finfo(np.float64).eps  # lower limit of probabilities: logarithms stay finite
MAX_EVIDENCE = 1e150  # upper limit of evidence: its square stays finite
MIN_WEIGHT = 1e-3  # lower limit of learned weights: a row may have only that modality


# ------------------------------------------------------------------------------ classes


def product(outputs, mask, weights):
    """Log-opinion pool: softmax of the weighted sum of log-probabilities."""
    return softmax(np.einsum("m,mn,mntk->ntk", weights, mask, log(outputs)), axis=-1)


def mean(outputs, mask, weights):
    """Weighted mean of distributions or numbers over the present modalities."""
    share = weights[:, None] * mask
    total = share.sum(axis=0)
    share = share / np.where(total > 0, total, 1)
    return np.einsum("mn,mn...->n...", share, outputs)


def vote(outputs, mask, weights):
    """Weighted share of the modalities that find a class most likely; ties go to the first."""
    votes = np.eye(outputs.shape[-1])[outputs.argmax(axis=-1)]
    return mean(votes, mask, weights)


def maximum(outputs, mask, weights):
    """Largest probability of each class over the modalities, scaled to sum to one."""
    largest = np.where(mask[:, :, None, None], outputs, 0.0).max(axis=0)
    return largest / np.maximum(largest.sum(axis=-1, keepdims=True), EPS)


def dempster(evidence, mask, weights):
    """Evidence combined by Dempster's rule, in closed form.

    For Dirichlet distributions (belief e_k / S, uncertainty K / S, S = sum e + K)
    Dempster's rule is e1 + e2 + e1 * e2 / K: commutative, associative, with zero as its neutral
    element, and without the division by 1 - conflict that overflows where modalities disagree.
    """
    n_classes = evidence.shape[-1]
    total = np.zeros(evidence.shape[1:], dtype=np.float64)
    for values in np.where(mask[:, :, None, None], evidence, 0.0):
        total = np.minimum(total + values + total * values / n_classes, MAX_EVIDENCE)
    return total


def belief(evidence):
    """Mean of the Dirichlet distribution with this evidence."""
    return (evidence + 1) / (evidence + 1).sum(axis=-1, keepdims=True)


def log(probabilities):
    return np.log(np.clip(probabilities, EPS, None))


# ------------------------------------------------------------------------------ numbers


def median(outputs, mask, weights):
    """Unweighted median over the present modalities."""
    shown = np.where(mask[:, :, None], outputs, np.nan)
    shown[:, ~mask.any(axis=0)] = 0.0
    return np.nanmedian(shown, axis=0)


def inverse_variance(outputs, mask, precision):
    """Mean weighted by the inverse variance of each output, and the variance of that mean.

    This is the product of independent normal distributions with means `outputs`; `precision` has
    the same shape.
    """
    share = np.where(mask[:, :, None], precision, 0.0)
    total = share.sum(axis=0)
    safe = np.where(total > 0, total, 1.0)
    return (share * outputs).sum(axis=0) / safe, 1 / safe


# fusion -> rule(outputs, mask, weights)
LABEL_RULES = {
    "product": product,
    "mean": mean,
    "vote": vote,
    "max": maximum,
    "evidence": dempster,
}
NUMBER_RULES = {"mean": mean, "median": median}


# ------------------------------------------------------------------------------ weights


def fit_weights(rule, outputs, mask, target, row_weight, n_modalities):
    """Return the weights of modalities that minimize the loss of a rule out of fold.

    The loss is the log loss for ``product`` and ``mean`` of distributions (``target``: codes of
    shape (n_samples, n_targets)), and the squared error in units of each target's variance for
    ``mean`` of numbers (``target``: numbers of that shape). A penalty is added, half the squared
    distance of the weights from one over the rows' total weight: a few rows that are all easy would
    otherwise drive exponents to infinity. For ``product`` the problem is convex. A modality that
    is never present keeps weight one.
    """
    known = mask.any(axis=1)
    some = mask.any(axis=0)
    if not some.any():
        return np.ones(n_modalities)
    outputs, mask = outputs[known][:, some], mask[known][:, some]
    target, total = target[some], row_weight[some].sum()
    row_weight = row_weight[some] / total
    loss = {(product, 4): _product_loss, (mean, 4): _mean_loss, (mean, 3): _mean_error}[
        rule, outputs.ndim
    ]
    if loss is _product_loss:
        outputs = log(outputs)
    if loss is _mean_error:
        scale = np.sqrt(row_weight @ (target - row_weight @ target) ** 2)
        scale = np.where(scale > 0, scale, 1.0)
        outputs, target = outputs / scale, target / scale

    def penalized(weights):
        value, slope = loss(weights, outputs, mask, target, row_weight)
        distance = (weights - 1) / total
        return value + 0.5 * distance @ (weights - 1), slope + distance

    found = minimize(
        penalized,
        np.ones(len(outputs)),
        jac=True,
        method="L-BFGS-B",
        bounds=[(MIN_WEIGHT, None)] * len(outputs),
    ).x
    weights = np.ones(n_modalities)
    # a mean depends only on the ratios of weights
    weights[known] = found if rule is product else found * len(found) / max(found.sum(), EPS)
    return weights


def _at(values, target):
    """Return the entries of the last axis at the target's codes."""
    return np.take_along_axis(values, target[..., None], axis=-1)[..., 0]


def _product_loss(weights, logs, mask, target, row_weight):
    pooled = np.einsum("m,mn,mntk->ntk", weights, mask, logs)
    pooled -= pooled.max(axis=-1, keepdims=True)
    pooled -= np.log(np.exp(pooled).sum(axis=-1, keepdims=True))
    n_targets = target.shape[1]
    loss = -(row_weight[:, None] * _at(pooled, target)).sum() / n_targets
    expected = np.einsum("ntk,mntk->mnt", np.exp(pooled), logs)
    picked = _at(logs, np.broadcast_to(target, expected.shape))
    slope = np.einsum("n,mn,mnt->m", row_weight, mask, expected - picked) / n_targets
    return loss, slope


def _mean_loss(weights, outputs, mask, target, row_weight):
    picked = _at(outputs, np.broadcast_to(target, outputs.shape[:-1]))
    share = weights[:, None] * mask
    total = np.maximum(share.sum(axis=0), EPS)
    pooled = np.maximum(np.einsum("mn,mnt->nt", share / total, picked), EPS)
    n_targets = target.shape[1]
    loss = -(row_weight[:, None] * np.log(pooled)).sum() / n_targets
    change = (pooled - picked) / pooled / total[:, None]
    return loss, np.einsum("n,mn,mnt->m", row_weight, mask, change) / n_targets


def _mean_error(weights, outputs, mask, target, row_weight):
    share = weights[:, None] * mask
    total = np.maximum(share.sum(axis=0), EPS)
    error = np.einsum("mn,mnt->nt", share / total, outputs) - target
    n_targets = target.shape[1]
    loss = (row_weight[:, None] * error**2).sum() / n_targets
    change = 2 * error * (outputs - error - target) / total[:, None]
    return loss, np.einsum("n,mn,mnt->m", row_weight, mask, change) / n_targets


# ------------------------------------------------------------------------------ calibration
# With scikit-learn, of given probabilities: one calibrator per modality.


class _PrecomputedClassifier(ClassifierMixin, BaseEstimator):
    """A classifier whose X holds the log-probabilities to predict."""

    def fit(self, X, y, sample_weight=None):
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, X):
        return X[:, 1] - X[:, 0] if X.shape[1] == 2 else X

    def predict(self, X):
        return self.classes_[X.argmax(axis=1)]


def fit_calibrator(method, outputs, target, weight, *, n_classes, label):
    """Fit a calibrator to out-of-fold distributions (n_samples, 1, n_classes)."""
    found = len(np.unique(target))
    if found < n_classes:
        raise ValueError(
            f"{label}: calibration={method!r} needs rows of every class that have the modality, "
            f"but those in the folds (cv) have {found} of {n_classes} classes. Set "
            "calibration=None."
        )
    rows = np.arange(len(target))
    calibrator = CalibratedClassifierCV(
        _PrecomputedClassifier(), method=method, cv=[(rows, rows)], ensemble=False
    )
    with config_context(enable_metadata_routing=False):  # no estimator of the user is involved
        return calibrator.fit(log(outputs[:, 0]), target, weight)


def calibrate(calibrators, outputs, mask):
    """Calibrate outputs (n_modalities, n_samples, 1, n_classes) where present."""
    outputs = outputs.copy()
    for m, calibrator in enumerate(calibrators):
        if mask[m].any():
            outputs[m, mask[m], 0] = calibrator.predict_proba(log(outputs[m, mask[m], 0]))
    return outputs
