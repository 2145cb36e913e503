"""Encode targets for networks: a single one, or several named ones of mixed kinds."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.sparse import issparse
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils.multiclass import type_of_target

from sklearn_mmfusion._losses import LOSSES, losses_for
from sklearn_mmfusion._validation import (
    BINARY,
    CLASSIFICATION,
    COLUMN_TYPES,
    CONTINUOUS,
    MULTICLASS,
    MULTILABEL,
    MULTITASK,
    REGRESSION,
    TARGET_TYPES,
    add_error_note,
    as_numbers_of,
    check_y,
    warn,
)

# kind of classes -> scikit-learn's types of the targets that may be read as that kind
TYPES_READ_AS = {
    BINARY: (BINARY,),
    MULTICLASS: (BINARY, MULTICLASS),
    MULTILABEL: (MULTILABEL,),
}
SMALLEST_SCALE = 1e-150  # deviations whose squares float64 still holds
UNKNOWN_TYPE_REMEDIES = (
    "Convert all labels to one type, e.g. with y.astype(str) or y.astype(int).",
    "Encode several labels per row with MultiLabelBinarizer. For several targets of mixed kinds, "
    "use a joint model with target_type={column: kind}.",
)


@dataclass
class Target:
    """A target, encoded for a network.

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
        """Convert the outputs of a network to probabilities, or to numbers in the units of y.

        Parameters
        ----------
        outputs : ndarray of shape (n_samples, n_outputs)
        loss : str
            Loss that the network was trained with, a key of `_losses.LOSSES`.

        Returns
        -------
        decoded : ndarray of shape (n_samples, n_outputs), dtype=float64
        """
        decoded = LOSSES[loss].activation(np.asarray(outputs, dtype=np.float64))
        return decoded if self.scale is None else decoded * self.scale + self.mean

    def encode(self, y, estimator_name):
        """Encode the target of further rows with these classes or moments.

        Parameters
        ----------
        y : ndarray or CSR matrix of shape (n_samples,) or (n_samples, n_outputs)
            As `check_y` returns it.
        estimator_name : str
            For messages.

        Returns
        -------
        target : Target
        """
        flat = self.kind in (BINARY, MULTICLASS) or (is_number(self) and self.n_outputs == 1)
        if y.shape[1:] != (() if flat else (self.n_outputs,)):
            expected = "(n_samples,)" if flat else f"(n_samples, {self.n_outputs})"
            raise ValueError(
                f"{estimator_name}: y has shape {y.shape}; expected {expected}, since the network "
                f"was trained with a {self.kind} target. Call fit for another one."
            )
        if self.kind == MULTILABEL:
            return _encode_labels(y, self.kind, estimator_name)
        if self.kind in REGRESSION:
            return replace(self, values=self._standardize(y, estimator_name))
        codes = pd.Index(self.classes).get_indexer(y)
        if (codes < 0).any():
            row = int(np.argmin(codes))
            raise ValueError(
                f"{estimator_name}: y holds {y.tolist()[row]!r} in row {row}; expected one of the "
                f"classes {self.classes.tolist()}. Pass all labels as `classes` in the first call "
                "of partial_fit."
            )
        return replace(self, values=codes.astype(np.int64))

    def _standardize(self, y, estimator_name):
        values = as_numbers_of(y, estimator_name).reshape(y.shape[0], -1)
        with np.errstate(over="ignore"):
            values = ((values - self.mean) / self.scale).astype(np.float32)
        if not np.isfinite(values).all():
            row = int(np.argmin(np.isfinite(values).all(axis=1)))
            raise ValueError(
                f"{estimator_name}: y is {y[row]} in row {row}, far beyond the first rows (mean "
                f"{self.mean}, deviation {self.scale}) and the range of float32. Call fit, or "
                "correct this number."
            )
        return values


def encode_target(y, *, estimator_name, target_type="auto"):
    """Check ``y`` and encode it for the training of a network.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
    estimator_name : str
        For messages.
    target_type : str, default="auto"
        One of ``TARGET_TYPES``, or "auto" to use scikit-learn's ``type_of_target``, with a warning
        about many whole numbers.

    Returns
    -------
    target : Target

    Raises
    ------
    ValueError
        If y has one class only or another type, or is not finite.
    """
    y = check_y(y, y.shape[0], estimator_name=estimator_name)
    kind = type_of_y(y) if target_type == "auto" else target_type
    if kind not in TARGET_TYPES:
        remedy = UNKNOWN_TYPE_REMEDIES[y.ndim > 1]
        raise ValueError(
            f"{estimator_name}: Unknown label type: {kind!r}. Expected one of {TARGET_TYPES}. "
            f"{remedy}"
        )
    if kind in REGRESSION:
        return _encode_numbers(y, kind, estimator_name)
    if target_type != "auto" and (found := type_of_y(y)) not in TYPES_READ_AS[target_type]:
        raise ValueError(
            f"{estimator_name}: target_type={target_type!r}, but y is {found!r}; expected "
            f"{' or '.join(map(repr, TYPES_READ_AS[target_type]))}. Set target_type='auto'."
        )
    target = _encode_labels(y, kind, estimator_name)
    if target_type == "auto":
        warn_of_whole_numbers(target, len(target.values), estimator_name)
    return target


def encode_part(y, classes, known, *, estimator_name, target_type="auto"):
    """Encode the target of one call of `partial_fit`.

    Parameters
    ----------
    y : ndarray or CSR matrix of shape (n_samples,) or (n_samples, n_outputs)
        As `check_y` returns it.
    classes : array-like of shape (n_classes,) or None
        Labels of all calls.
    known : Target or None
        Target of the last call; None in the first.
    estimator_name : str
        For messages.
    target_type : str, default="auto"
        See `encode_target`. Used in the first call only.

    Returns
    -------
    target : Target
    """
    if classes is not None:
        classes = classes if np.ndim(classes) else [classes]
        with add_error_note("Raised for `classes`."):
            classes = np.unique(check_y(classes, len(classes), estimator_name=estimator_name))
        if known is None:
            known = _target_of(classes, y, target_type, estimator_name)
        if known.classes is None or not np.array_equal(known.classes, classes):
            expected = "none (numbers)" if known.classes is None else known.classes.tolist()
            raise ValueError(
                f"{estimator_name}: classes={classes.tolist()} differs from the classes of the "
                f"target, {expected}. Leave out `classes`, or call fit to start again."
            )
    if known is not None:
        return known.encode(y, estimator_name)
    return encode_target(y, estimator_name=estimator_name, target_type=target_type)


def _target_of(classes, y, target_type, estimator_name):
    """The target of the first call of `partial_fit`, from all classes and without values."""
    kind = type_of_y(y) if target_type == "auto" else target_type
    if kind == MULTILABEL and y.ndim == 2:
        return Target(kind, None, y.shape[1], classes=np.arange(y.shape[1]))
    if len(classes) < 2:
        raise ValueError(
            f"{estimator_name}: classes={classes.tolist()} holds 1 class; expected all labels of "
            "all calls of partial_fit, two or more."
        )
    found = BINARY if len(classes) == 2 else MULTICLASS
    if target_type != "auto" and found not in TYPES_READ_AS.get(target_type, ()):
        raise ValueError(
            f"{estimator_name}: target_type={target_type!r}, but classes={classes.tolist()} make "
            f"the target {found!r}. Set target_type='auto', or leave out `classes`."
        )
    return Target(found, None, len(classes), classes=classes)


def type_of_y(y):
    """Return scikit-learn's `type_of_target`, or "unknown" if `y` cannot be sorted."""
    try:
        return type_of_target(y, input_name="y")
    except TypeError:
        return "unknown"


def is_float_type(y):
    """Whether y has a float dtype. Call it before `check_y`, which widens nullable integers."""
    dtype = getattr(y, "dtype", None)
    is_whole = pd.api.types.is_integer_dtype(dtype) or pd.api.types.is_bool_dtype(dtype)
    return dtype is None or not is_whole


def _encode_labels(y, kind, estimator_name):
    if kind == MULTILABEL:
        values = np.asarray(y.toarray() if hasattr(y, "toarray") else y, dtype=np.float32)
        if not np.isin(values, (0, 1)).all():
            raise ValueError(
                f"{estimator_name}: y is a multilabel indicator that holds {np.unique(values)}; "
                "expected 0 and 1. Encode labels with MultiLabelBinarizer."
            )
        return Target(kind, values, values.shape[1], classes=np.arange(values.shape[1]))
    classes, codes = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(
            f"{estimator_name}: y has 1 class, {classes[0]}, in the {len(y)} rows that are "
            "present and have a sample_weight; at least two classes are needed to learn from. Set "
            "the modality to 'drop' if it occurs with one class only."
        )
    return Target(kind, codes.astype(np.int64), len(classes), classes=classes)


def warn_of_whole_numbers(
    target, n_samples, estimator_name, remedy="use a regressor", *, few_floats=False
):
    """Warn if classes are many different numbers or, with `few_floats`, three or more floats."""
    if target.kind != MULTICLASS or target.classes.dtype.kind not in "iuf":
        return
    n_classes = len(target.classes)
    is_many = n_classes > max(20, n_samples / 5)
    if is_many or (few_floats and target.classes.dtype.kind == "f" and n_classes > 2):
        warn(
            f"{estimator_name}: y holds {n_classes} different whole numbers in {n_samples} rows; "
            f"each is treated as a class. For regression, {remedy}."
        )


def _encode_numbers(y, kind, estimator_name):
    values = as_numbers_of(y, estimator_name)
    values = values.reshape(len(values), -1)
    with np.errstate(over="ignore"):
        mean, scale = values.mean(0), values.std(0)
    if not np.isfinite(mean).all() or not np.isfinite(scale).all():
        raise ValueError(
            f"{estimator_name}: y has numbers as large as {np.abs(values).max():g}, whose squares "
            "are infinite. Divide y by a power of ten."
        )
    if ((scale < SMALLEST_SCALE) & (values != values[0]).any(axis=0)).any():
        raise ValueError(
            f"{estimator_name}: y has numbers as small as {np.abs(values).max():g}, whose squares "
            "are zero. Multiply y by a power of ten."
        )
    scale[scale == 0] = 1.0
    standardized = ((values - mean) / scale).astype(np.float32)
    return Target(kind, standardized, values.shape[1], mean=mean, scale=scale)


@dataclass
class MultiTarget:
    """Several targets, encoded for one network.

    ``values`` (n, n_columns) float32 holds class codes or standardized numbers, NaN where a target
    is unknown; ``targets`` by name decode them; ``known`` is the share of rows in which each target
    is known; ``outputs`` are the slices of the network's output.
    """

    kind: str
    values: np.ndarray
    n_outputs: int
    targets: dict
    known: list

    @property
    def classes(self):
        return {name: t.classes for name, t in self.targets.items() if t.classes is not None}

    @property
    def outputs(self):
        ends = np.cumsum([0, *(t.n_outputs for t in self.targets.values())]).tolist()
        return list(map(slice, ends[:-1], ends[1:]))


def each_target(target):
    """Return the single targets that a target consists of."""
    return list(target.targets.values()) if target.kind == MULTITASK else [target]


def loss_of(target):
    """Return the name of the loss of one of several targets."""
    return losses_for(target.kind)[0]


def is_number(target):
    """Whether a single target holds numbers."""
    return target.kind in REGRESSION


def decode(target, outputs, loss):
    """Decode outputs (n_samples, n_outputs) to a list of one (n_samples, k) array per target."""
    if target.kind != MULTITASK:
        return [target.decode(outputs, loss)]
    return [
        single.decode(outputs[:, part], loss_of(single))
        for single, part in zip(each_target(target), target.outputs, strict=True)
    ]


def priors(target, weight):
    """Return the prior of each target: shares of classes or means of numbers."""
    found = []
    for t, single in enumerate(each_target(target)):
        values = target.values[:, [t]] if target.kind == MULTITASK else target.values
        values = values.reshape(len(values), -1).astype(np.float64)
        known = ~np.isnan(values).any(axis=1)
        values, w = values[known], None if weight is None else weight[known]
        if is_number(single):
            found.append(np.average(values * single.scale + single.mean, axis=0, weights=w))
        elif single.kind == MULTILABEL:
            found.append(np.average(values, axis=0, weights=w))
        else:
            counts = np.bincount(values[:, 0].astype(int), w, single.n_outputs)
            found.append(counts / counts.sum())
    return found


def label(single, decoded):
    """Convert decoded probabilities or numbers of one target to labels or numbers."""
    if is_number(single):
        return decoded[:, 0] if single.kind == CONTINUOUS else decoded
    if single.kind == MULTILABEL:
        return (decoded > 0.5).astype(int)
    return single.classes[decoded.argmax(axis=1)]


def as_targets(y):
    """Return the columns of `y` as a frame of named targets, or None if `y` is 1-D.

    The columns of an array or a list of rows are named y0, y1, ...
    """
    if hasattr(y, "to_pandas") and hasattr(y, "columns"):  # a polars frame
        y = y.to_pandas()
    if isinstance(y, pd.DataFrame):
        return y.set_axis([str(name) for name in y.columns], axis=1)
    if issparse(y):
        y = y.toarray()
    values = np.asarray(y)
    if values.dtype.kind in "US" and not hasattr(y, "dtype"):
        values = np.asarray(y, dtype=object)  # a list of mixed rows: keep numbers as numbers
    if values.ndim != 2:
        return None
    names = [f"y{i}" for i in range(values.shape[1])]
    return pd.DataFrame(values, columns=names).infer_objects()


def known_values(column):
    """Return the known cells of a column of `y` as plain booleans, numbers or strings."""
    return np.array(column.dropna().tolist())


def kind_of_column(column, whole_numbers_are_classes):
    """Return "continuous" if a column of `y` holds numbers, "multiclass" if it holds classes."""
    values = known_values(column)
    if values.dtype.kind not in "iuf":
        return MULTICLASS
    if not whole_numbers_are_classes:
        return CONTINUOUS
    return MULTICLASS if np.array_equal(values, np.round(values)) else CONTINUOUS


def encode_targets(frame, kinds, *, estimator_name, whole_numbers_are_classes):
    """Encode a frame of targets, whose cells may be absent, as a `MultiTarget`.

    Parameters
    ----------
    frame : DataFrame
    kinds : dict
        {name: kind} of the targets whose kind is not to be inferred.
    estimator_name : str
        For messages.
    whole_numbers_are_classes : bool
    """
    check_names(frame, kinds, estimator_name)
    columns, targets = [], {}
    for name in frame.columns:
        known = frame[name].notna().to_numpy()
        with add_error_note(f"Raised for target {name!r}, which is known in {known.sum()} rows."):
            if not known.any():
                raise ValueError(
                    f"{estimator_name}: target {name!r} is unknown in all {len(frame)} rows; "
                    "expected a known value in some of them. Drop this column of y."
                )
            kind = kinds.get(name) or kind_of_column(frame[name], whole_numbers_are_classes)
            values = known_values(frame[name])
            target = encode_target(values, estimator_name=estimator_name, target_type=kind)
            if name not in kinds:
                warn_of_whole_numbers(target, len(values), estimator_name)
        column = np.full(len(frame), np.nan, dtype=np.float32)
        column[known] = target.values.reshape(len(values), -1)[:, 0]
        columns.append(column)
        targets[name] = replace(target, values=None)
    n_outputs = sum(target.n_outputs for target in targets.values())
    values = np.stack(columns, axis=1)
    known = (~np.isnan(values)).mean(axis=0).tolist()
    return MultiTarget(MULTITASK, values, n_outputs, targets, known)


def check_names(frame, kinds, estimator_name):
    """Raise unless target names are unique and `kinds` maps some of them to valid kinds."""
    names = list(frame.columns)
    if len(set(names)) < len(names):
        raise ValueError(f"{estimator_name}: y has the columns {names}; names must be unique.")
    for name, kind in kinds.items():
        if name not in names:
            raise ValueError(
                f"{estimator_name}: target_type names {name!r}; y has the columns {names}."
            )
        if kind not in COLUMN_TYPES:
            raise ValueError(
                f"{estimator_name}: target_type of {name!r} is {kind!r}; expected one of "
                f"{list(COLUMN_TYPES)}."
            )


def score_targets(y, predicted, targets, estimator_name, sample_weight=None):
    """Average accuracy (classes) or R2 (numbers) over targets, each on its known rows."""
    y = y if isinstance(y, pd.DataFrame) else pd.DataFrame(np.asarray(y, dtype=object))
    if y.shape[1] != len(targets):
        raise ValueError(f"{estimator_name}: y has {y.shape[1]} columns; expected {list(targets)}.")
    scores = []
    for position, (name, target) in enumerate(targets.items()):
        column = y[name] if name in y.columns else y.iloc[:, position]
        known = column.notna().to_numpy()
        if not known.any():
            continue
        labels = predicted[name].to_numpy()[known]
        true = known_values(column)
        if target.classes is not None and target.classes.dtype.kind == "U":
            true = true.astype(str)  # as `fit` reads a column of strings and numbers
        score = accuracy_score if target.kind in CLASSIFICATION else r2_score
        weight = None if sample_weight is None else np.asarray(sample_weight)[known]
        scores.append(score(true, labels, sample_weight=weight))
    if not scores:
        raise ValueError(
            f"{estimator_name}: none of the targets {list(targets)} is known in any row of y."
        )
    return float(np.mean(scores))
