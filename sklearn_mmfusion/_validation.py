"""Checks of targets, weights and groups, and the messages that go with them."""

import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps

import numpy as np
from scipy.special import expit, log_expit
from sklearn.utils import check_array, column_or_1d
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target

CLASSIFICATION = ("binary", "multiclass", "multilabel-indicator")
REGRESSION = ("continuous", "continuous-multioutput")
TARGET_TYPES = (*CLASSIFICATION, *REGRESSION)


def all_or_nothing(fit):
    """Decorate a ``fit`` so that a failed call leaves the estimator as it was."""

    @wraps(fit)
    def wrapper(self, *args, **kwargs):
        before = self.__dict__.copy()
        try:
            return fit(self, *args, **kwargs)
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    return wrapper


@contextmanager
def noted(note):
    """Add a note to whatever error leaves the block."""
    try:
        yield
    except Exception as error:
        error.add_note(note)
        raise


@dataclass
class Target:
    """A target as networks see it.

    ``values`` holds class codes (n,) int64, indicators (n, k) float32, or standardized numbers
    (n, k) float32; ``classes`` the labels; ``mean`` and ``scale`` undo the standardization.
    """

    kind: str
    values: np.ndarray
    n_outputs: int
    classes: np.ndarray | None = None
    mean: np.ndarray | None = None
    scale: np.ndarray | None = None

    def decode(self, outputs, loss):
        """What a network trained with a loss says: probabilities, or numbers in the units of y.

        Parameters
        ----------
        outputs : ndarray of shape (n_samples, n_outputs)
        loss : str
            Its name, a key of `_skorch.LOSSES`.

        Returns
        -------
        decoded : ndarray of shape (n_samples, n_outputs), dtype=float64
        """
        outputs = np.asarray(outputs, dtype=np.float64)
        if self.kind in REGRESSION:
            return outputs * self.scale + self.mean
        if loss == "evidential":
            alpha = evidence_of(outputs) + 1
            return alpha / alpha.sum(axis=1, keepdims=True)
        if loss == "binary_cross_entropy":
            return expit(outputs)
        # scipy's softmax takes as long as a layer does for one row
        shares = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        return shares / shares.sum(axis=1, keepdims=True)


def evidence_of(outputs):
    """Evidence that outputs trained with the evidential loss stand for: their softplus."""
    return -log_expit(-np.asarray(outputs, dtype=np.float64))


def check_y(y, n_samples, *, owner):
    """Check that ``y`` is finite and has one value (or row) for each row of X.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        A sparse indicator matrix is accepted.
    n_samples : int
        Number of rows of X.
    owner : str
        Name of the estimator, for messages.

    Returns
    -------
    y : ndarray or CSR matrix of shape (n_samples,) or (n_samples, n_outputs)

    Raises
    ------
    ValueError
        Where y is None, of another length, or not finite.
    """
    if y is None:
        raise ValueError(
            f"This {owner} estimator requires y to be passed, but the target y is None."
        )
    y = check_array(y, accept_sparse="csr", ensure_2d=False, dtype=None, input_name="y")
    if y.ndim == 2 and y.shape[1] == 1:
        y = column_or_1d(y, warn=True)
    if y.shape[0] != n_samples:
        raise ValueError(
            f"{owner}: Found input variables with inconsistent numbers of samples: X has "
            f"{n_samples} rows, y has {y.shape[0]}."
        )
    return y


def encode_target(y, n_samples, *, owner, target_type="auto", rows=slice(None)):
    """Check ``y`` and turn it into what a network is trained on.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
    n_samples : int
        Number of rows of X.
    owner : str
        Name of the estimator, for messages.
    target_type : str, default="auto"
        One of ``TARGET_TYPES``, or "auto" to ask scikit-learn's ``type_of_target``.
    rows : index, default=slice(None)
        Rows whose mean and standard deviation numbers are standardized with.

    Returns
    -------
    target : Target

    Raises
    ------
    ValueError
        Where y is None, of another length, not finite, of one class only, or of another type.
    """
    y = check_y(y, n_samples, owner=owner)
    kind = type_of_target(y, input_name="y") if target_type == "auto" else target_type
    if kind not in TARGET_TYPES:
        raise ValueError(
            f"{owner}: Unknown label type: {kind!r}. Expected y of one of {TARGET_TYPES}; "
            "target_type= says which, where whole numbers are no classes."
        )
    return _encode_numbers(y, kind, rows) if kind in REGRESSION else _encode_labels(y, kind, owner)


def _encode_labels(y, kind, owner):
    if kind == "multilabel-indicator":
        values = np.asarray(y.toarray() if hasattr(y, "toarray") else y, dtype=np.float32)
        return Target(kind, values, values.shape[1], classes=np.arange(values.shape[1]))
    check_classification_targets(y)
    classes, codes = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(
            f"{owner}: y has 1 class, {classes[0]}, in the {len(y)} rows that are present and have "
            "a sample_weight; at least two classes are needed to learn from. Set the modality to "
            "'drop' if it occurs with one class only."
        )
    if classes.dtype.kind in "iuf" and len(classes) > max(20, len(y) / 5):
        warnings.warn(
            f"{owner}: y holds {len(classes)} different whole numbers in {len(y)} rows and is read "
            "as so many classes. For a regression, use a regressor or, in an encoder, set "
            "target_type='continuous'.",
            UserWarning,
            stacklevel=2,
        )
    return Target(kind, codes.astype(np.int64), len(classes), classes=classes)


def _encode_numbers(y, kind, rows):
    values = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
    values = values.reshape(len(values), -1)
    mean, scale = values[rows].mean(0), values[rows].std(0)
    scale[scale == 0] = 1.0
    standardized = ((values - mean) / scale).astype(np.float32)
    return Target(kind, standardized, values.shape[1], mean=mean, scale=scale)


def check_weight(sample_weight, n_samples, *, owner):
    """Check sample weights; one value a row.

    Returns
    -------
    weight : ndarray of shape (n_samples,), dtype=float64, or None
    """
    if sample_weight is None:
        return None
    weight = np.asarray(sample_weight, dtype=float)
    if weight.ndim == 0:
        weight = np.full(n_samples, float(weight))
    if weight.ndim != 1:
        raise ValueError(f"{owner}: Sample weights must be 1D array or scalar.")
    if len(weight) != n_samples:
        raise ValueError(
            f"{owner}: sample_weight.shape == {weight.shape}, expected {(n_samples,)}!"
        )
    wrong = ~np.isfinite(weight) | (weight < 0)
    if wrong.any() or not weight.any():
        row = int(np.argmax(wrong))
        got = f"row {row} has {weight[row]}" if wrong.any() else "all are zero"
        raise ValueError(
            f"{owner}: sample_weight must be finite, not negative and not all zero; {got}."
        )
    return weight


def combine_weights(weight, class_weight, y, *, owner, kind):
    """Multiply row and class weights; scale those that are not zero to a mean of one.

    Rows of weight zero count neither in the mean nor in the balance of the classes, so that
    they are as good as left out.

    Parameters
    ----------
    weight : ndarray of shape (n_samples,) or None
        What `check_weight` gave.
    class_weight : dict, list of dict, "balanced" or None
    y : ndarray or CSR matrix of shape (n_samples,) or (n_samples, n_outputs)
    owner : str
        Name of the estimator, for messages.
    kind : str
        Type of the target.

    Returns
    -------
    weight : ndarray of shape (n_samples,), dtype=float32, or None where all are equal
    """
    if class_weight is not None and kind not in CLASSIFICATION:
        raise ValueError(
            f"{owner}: class_weight={class_weight!r} needs classes; the target is {kind}. Set "
            "class_weight=None, or pass sample_weight to fit."
        )
    if weight is None and class_weight is None:
        return None
    weight = np.ones(y.shape[0]) if weight is None else weight.copy()
    kept = np.flatnonzero(weight)
    if class_weight is not None:
        weight[kept] *= compute_sample_weight(class_weight, y[kept])
    return (weight / weight[kept].mean()).astype(np.float32)


def check_groups(groups, n_samples, *, owner):
    """Check group labels; one value a row.

    Returns
    -------
    groups : ndarray of shape (n_samples,), or None
    """
    if groups is None:
        return None
    groups = column_or_1d(groups)
    if len(groups) != n_samples:
        raise ValueError(f"{owner}: groups has {len(groups)} values, X has {n_samples} rows.")
    return groups
