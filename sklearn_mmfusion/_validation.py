"""Check targets, weights and groups; copy estimators, undo failed fits, warn, add error notes."""

import re
import sys
import warnings
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from numbers import Integral, Real
from timeit import default_timer

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.utils import check_array, check_random_state, column_or_1d
from sklearn.utils.class_weight import compute_sample_weight

from sklearn_mmfusion._sklearn import _message_with_time

# Kinds of target, named as scikit-learn's `type_of_target` does.
BINARY, MULTICLASS, MULTILABEL = "binary", "multiclass", "multilabel-indicator"
CONTINUOUS, MULTIOUTPUT = "continuous", "continuous-multioutput"
MULTITASK = "multitask"  # several named targets of mixed kinds
CLASSIFICATION = (BINARY, MULTICLASS, MULTILABEL)
REGRESSION = (CONTINUOUS, MULTIOUTPUT)
TARGET_TYPES = (*CLASSIFICATION, *REGRESSION)
COLUMN_TYPES = (BINARY, MULTICLASS, CONTINUOUS)  # of a single target among several
CELL_OPTIONS = ("mode", "mono")  # of file_params
# `warn` skips frames of these packages to find the user's line
INNER_PACKAGES = ("sklearn_mmfusion", "sklearn", "joblib")


@contextmanager
def all_or_nothing(estimator):
    """Restore an estimator's state if the block, the body of its ``fit``, fails."""
    before = vars(estimator).copy()
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


def remember_params(estimator):
    """Store the parameters at `fit`, for `as_fitted`."""
    estimator._fit_params = estimator.get_params()


def cell_options(params):
    """The items of ``file_params`` that determine the values of cells."""
    given = params.get("file_params") or {}
    return {name: given[name] for name in CELL_OPTIONS if name in given}


def shallow_copy(estimator, /, **changes):
    """Copy an estimator, with the same parameters and learned attributes but for `changes`."""
    twin = object.__new__(type(estimator))  # `copy` would rebuild a network, as unpickling does
    vars(twin).update({**vars(estimator), **changes})
    return twin


def as_fitted(estimator):
    """Return the estimator as it was fitted: parameters set since then wait for the next fit.

    Of ``file_params``, only `CELL_OPTIONS` wait: files may have been moved.
    """
    own = {name: value for name, value in estimator._fit_params.items() if "__" not in name}
    if own.get("file_params") or getattr(estimator, "file_params", None):
        now = {k: v for k, v in (estimator.file_params or {}).items() if k not in CELL_OPTIONS}
        own["file_params"] = now | cell_options(own)
    return shallow_copy(estimator, **own)


@contextmanager
def add_error_note(note):
    """Add a note to any error raised in the block."""
    try:
        yield
    except Exception as error:
        error.add_note(note)
        raise


ROW_NUMBERS = re.compile(r"(?<=\brow )\d+|(?<=\(first \[)[\d, ]+(?=\])")


def renumber(message, rows):
    """Renumber rows in a message: a position among `rows` becomes the row of X."""

    def of_X(match):
        numbers = [int(number) for number in match[0].split(", ")]
        return ", ".join(str(rows[n] if n < len(rows) else n) for n in numbers)

    return ROW_NUMBERS.sub(of_X, message)


@contextmanager
def number_rows(rows):
    """Renumber rows in error messages: a position among `rows` becomes the row of X.

    Parameters
    ----------
    rows : ndarray of int
        The rows of X that the block of code processes.
    """
    try:
        yield
    except Exception as error:
        if len(error.args) == 1 and isinstance(error.args[0], str):
            error.args = (renumber(error.args[0], rows),)
        raise


@contextmanager
def log_elapsed(estimator_name, message, child):
    """Print the time that "Fitting ..." took, as scikit-learn does; "Reading ..." if cached.

    With `message=None` nothing is printed; `child` is a `CachedChild`.
    """
    start = default_timer()
    yield
    if message is not None:
        if child.store is not None and child.store.n_read and not child.store.n_computed:
            message = message.replace("Fitting", "Reading", 1)
        print(_message_with_time(estimator_name, message, default_timer() - start))


def warn(message, category=UserWarning):
    """Warn at the line of the user's code that led here.

    This is the first frame outside the package, scikit-learn and joblib, since a `Pipeline`, a
    search or the wrappers of `fit` may be in between. In a worker process, which has no such frame,
    it is the outermost one.
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] in INNER_PACKAGES:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def draw_seed(random_state):
    """Return an integer seed from whatever scikit-learn accepts as `random_state`."""
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def import_extra(module, needed_by, extra):
    """Import a module; raise an ImportError that names its extra if it is not installed."""
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f"{needed_by} needs {package}: pip install 'sklearn-mmfusion[{extra}]'"
        ) from error


def closest(value, known):
    """Return the end of a message that names the known name closest to a value, or ""."""
    lower = {str(name).lower(): name for name in known}
    close = get_close_matches(str(value).lower(), lower, n=1)
    return f" Did you mean {lower[close[0]]!r}?" if close else ""


def check_choice(label, value, choices):
    """Raise unless a value is one of several names."""
    known = list(choices)
    if not isinstance(value, str):
        raise ValueError(f"{label} is of type {type(value).__name__}; expected one of {known}.")
    if value not in choices:
        raise ValueError(f"{label}={value!r}; expected one of {known}.{closest(value, known)}")


def check_count(label, value, least=1):
    """Raise unless a value is an integer of at least `least`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{label}={value!r}; expected an integer of at least {least}.")


def check_channels(estimator):
    """Raise unless the parameter ``channels`` holds positive integers, at least one."""
    values = estimator.channels
    if not values or not all(isinstance(v, Integral) and v > 0 for v in values):
        raise ValueError(
            f"{type(estimator).__name__}: channels={values!r}; expected a tuple of one or more "
            "positive integers, such as (32, 64)."
        )


def as_numpy(values):
    """Convert a torch tensor on any device to an ndarray; return other values unchanged.

    numpy has no bfloat16, which becomes float32.
    """
    if not hasattr(values, "detach"):
        return values
    values = values.detach().cpu()
    return (values.float() if str(values.dtype) == "torch.bfloat16" else values).numpy()


def check_real(dtype, label):
    """Raise TypeError if numbers are complex: a cast to float would drop their imaginary part."""
    dtype = getattr(dtype, "numpy_dtype", dtype)  # of a pandas dtype
    if dtype.kind == "c":
        raise TypeError(
            f"{label}: Complex data not supported; got {dtype}, expected real numbers. Take the "
            "real part or the absolute value."
        )


def check_y(y, n_samples, *, estimator_name):
    """Check that ``y`` is finite and has one value (or row) for each row of X.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        A sparse indicator matrix is accepted.
    n_samples : int
        Number of rows of X.
    estimator_name : str
        For messages.

    Returns
    -------
    y : ndarray or CSR matrix of shape (n_samples,) or (n_samples, n_outputs)

    Raises
    ------
    ValueError
        If y is None, has another length, or has missing or infinite values.
    """
    if y is None:
        raise ValueError(
            f"This {estimator_name} estimator requires y to be passed, but the target y is None."
        )
    y = as_numpy(y)
    values = y if sparse.issparse(y) else _as_labels(y, estimator_name)
    if not sparse.issparse(y):
        rows = np.flatnonzero(pd.isna(values).reshape(len(values), -1).any(axis=1))
        if len(rows):
            several = " A joint model with target_type={column: kind} accepts unknown values."
            raise ValueError(
                f"{estimator_name}: Input y contains NaN, None or NA in {len(rows)} of "
                f"{len(values)} rows (first {rows[:5].tolist()}). Drop these rows of X and y."
                f"{several if values.ndim > 1 else ''}"
            )
    if isinstance(y, pd.DataFrame) and any(map(pd.api.types.is_string_dtype, y.dtypes)):
        y = values  # scikit-learn 1.8 would convert texts beside nullable numbers to floats
    y = check_array(y, accept_sparse="csr", ensure_2d=False, dtype=None, input_name="y")
    if y.ndim == 2 and y.shape[1] == 1:
        y = column_or_1d(y, warn=True)
    if y.shape[0] != n_samples:
        raise ValueError(
            f"{estimator_name}: Found input variables with inconsistent numbers of samples: X has "
            f"{n_samples} rows, y has {y.shape[0]}."
        )
    return y


def _as_labels(y, estimator_name):
    """Convert y to an array; raise if its values cannot be compared with each other."""
    try:
        values = np.asarray(y)
    except ValueError:  # lists of different lengths
        values = np.empty(len(y), dtype=object)
        values[:] = y
    if np.iscomplexobj(values):
        raise ValueError(
            f"{estimator_name}: Complex data not supported: y has dtype {values.dtype}."
        )
    if values.dtype.kind == "U" and isinstance(y, (list, tuple)):  # numpy turned numbers into text
        values = np.asarray(y, dtype=object)
    if values.dtype != object:
        return values
    first = values.flat[0] if values.size else None
    if isinstance(first, (list, tuple, set, frozenset, np.ndarray)):
        raise ValueError(
            f"{estimator_name}: y holds a {type(first).__name__} per row, {first!r} in row 0; "
            "expected one value per row. Encode several labels per row with MultiLabelBinarizer."
        )
    is_text = np.array([isinstance(value, str) for value in values.flat])
    texts = np.flatnonzero(is_text)
    others = np.flatnonzero(~is_text & ~pd.isna(values).ravel())
    if values.ndim == 1 and len(texts) and len(others):
        raise ValueError(
            f"{estimator_name}: y holds text and other values, {values[texts[0]]!r} in row "
            f"{texts[0]} and {values[others[0]]!r} in row {others[0]}; expected labels of one "
            "type. Convert them with y.astype(str)."
        )
    return values


def as_numbers_of(y, estimator_name):
    """Convert y, as returned by `check_y`, to finite float64 numbers."""
    try:
        return check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
    except (TypeError, ValueError) as error:
        if y.dtype.kind not in "OUS":
            raise
        raise ValueError(
            f"{estimator_name}: y holds {str(y.flat[0])!r} in row 0; expected numbers ({error}). "
            "Use a classifier for labels."
        ) from error


def check_weight(sample_weight, n_samples, *, estimator_name):
    """Check sample weights; one value per row.

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
        raise ValueError(f"{estimator_name}: Sample weights must be 1D array or scalar.")
    if len(weight) != n_samples:
        raise ValueError(
            f"{estimator_name}: sample_weight.shape == {weight.shape}, expected {(n_samples,)}!"
        )
    wrong = ~np.isfinite(weight) | (weight < 0)
    if wrong.any() or not weight.any():
        row = int(np.argmax(wrong))
        got = f"row {row} has {weight[row]}" if wrong.any() else "all are zero"
        raise ValueError(
            f"{estimator_name}: sample_weight must be finite, not negative and not all zero; {got}."
        )
    return weight


def combine_weights(weight, class_weight, y, *, estimator_name, kind, rescale=True):
    """Multiply row and class weights; scale those that are not zero to a mean of one.

    Rows of weight zero are ignored in the mean and in the balance of the classes.

    Parameters
    ----------
    weight : ndarray of shape (n_samples,) or None
        As `check_weight` returns it.
    class_weight : dict, list of dict, "balanced" or None
    y : ndarray or CSR matrix of shape (n_samples,) or (n_samples, n_outputs)
    estimator_name : str
        For messages.
    kind : str
        Type of the target.
    rescale : bool, default=True
        False keeps the scale of the weights.

    Returns
    -------
    weight : ndarray of shape (n_samples,), dtype=float32, or None if all are equal
    """
    if class_weight is not None and kind not in CLASSIFICATION:
        raise ValueError(
            f"{estimator_name}: class_weight={class_weight!r} needs classes; the target is {kind}. "
            "Set class_weight=None, or pass sample_weight to fit."
        )
    if weight is None and class_weight is None:
        return None
    weight = np.ones(y.shape[0]) if weight is None else weight.copy()
    kept = np.flatnonzero(weight)
    if class_weight is not None:
        by_class = compute_sample_weight(class_weight, y[kept])
        if not np.isfinite(by_class).all() or (by_class < 0).any() or not by_class.any():
            raise ValueError(
                f"{estimator_name}: class_weight={class_weight!r} gives the rows weights of "
                f"{by_class.min():g} to {by_class.max():g}; expected finite weights of 0 or more, "
                "not all zero."
            )
        weight[kept] *= by_class
    return (weight / weight[kept].mean() if rescale else weight).astype(np.float32)


def combine_weights_of_part(weight, class_weight, y, classes, *, estimator_name, kind):
    """Multiply row and class weights of one call of `partial_fit`, which may lack some classes.

    They are not rescaled: the weights of all calls are on one scale.

    Parameters
    ----------
    weight, class_weight, y, estimator_name, kind
        See `combine_weights`.
    classes : ndarray or None
        Classes of all calls.

    Returns
    -------
    weight : ndarray of shape (n_samples,), dtype=float32, or None if all are equal
    """
    if isinstance(class_weight, str):
        raise ValueError(
            f"{estimator_name}: class_weight={class_weight!r} is not supported by partial_fit, "
            "because one call does not show how frequent the classes are. Pass a dict: "
            "sklearn.utils.class_weight.compute_class_weight('balanced', ...) computes its values."
        )
    if isinstance(class_weight, dict) and classes is not None:
        ones = dict.fromkeys(classes.tolist(), 1.0)
        unknown = [label for label in class_weight if label not in ones]
        if unknown:
            raise ValueError(
                f"{estimator_name}: class_weight names {unknown}; expected some of the classes "
                f"{list(ones)}."
            )
        class_weight = ones | class_weight
    options = {"estimator_name": estimator_name, "kind": kind}
    return combine_weights(weight, class_weight, y, **options, rescale=False)


def check_named_numbers(values, names, label):
    """Raise unless a dict maps some of the names to finite numbers of 0 or more.

    Parameters
    ----------
    values : dict
    names : iterable of str
    label : str
        Estimator and parameter, for messages.
    """
    names = list(names)
    unknown = [name for name in values if name not in names]
    if unknown:
        raise ValueError(f"{label} names {unknown}; expected some of {names}.")
    for name, value in values.items():
        if not isinstance(value, Real) or not 0 <= value < np.inf:
            raise ValueError(
                f"{label} of {name!r} is {value!r}; expected a finite number of 0 or more."
            )


def check_groups(groups, n_samples, *, estimator_name):
    """Check group labels; one value per row.

    Returns
    -------
    groups : ndarray of shape (n_samples,), or None

    Raises
    ------
    ValueError
        If groups has another length than X, several axes, or missing values.
    """
    if groups is None:
        return None
    groups = as_numpy(groups)
    if _n_axes(groups) != 1:
        raise ValueError(
            f"{estimator_name}: groups holds {_n_axes(groups)}-D data; expected one label per row, "
            "a 1-D array. Join several labels per row into one text."
        )
    # by object: NA among numbers, None among strings
    rows = np.flatnonzero(pd.isna(pd.Series(groups, dtype=object)))
    if len(rows):
        raise ValueError(
            f"{estimator_name}: groups is None, NaN or NA in {len(rows)} of {len(groups)} rows "
            f"(first {rows[:5].tolist()}); expected one group per row. Give these rows a group "
            "each, or drop them."
        )
    groups = column_or_1d(groups)
    if len(groups) != n_samples:
        raise ValueError(
            f"{estimator_name}: groups has {len(groups)} values, X has {n_samples} rows."
        )
    return groups


def _n_axes(values):
    try:
        return np.ndim(values)
    except ValueError:  # rows of several lengths
        return 2
