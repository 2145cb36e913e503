"""Targets of joint models: one, or several named ones of mixed kinds."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import issparse
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils.multiclass import type_of_target

from sklearn_mmfusion._skorch import SUITED
from sklearn_mmfusion._validation import CLASSIFICATION, REGRESSION, Target, encode_target, noted

MULTITASK = "multitask"


@dataclass
class MultiTarget:
    """Several targets as one network sees them.

    ``values`` (n, n_columns) float32 holds for each its code of the class or its standardized
    number, NaN where it is not known; ``targets`` by name undo that; ``known`` is the share of
    rows in which each is; ``outputs`` are the slices of the network's output.
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
        ends = np.cumsum([t.n_outputs for t in self.targets.values()])
        widths = [t.n_outputs for t in self.targets.values()]
        return [slice(int(e - w), int(e)) for e, w in zip(ends, widths, strict=True)]


def each_target(target):
    """The single targets that a target consists of."""
    return list(target.targets.values()) if target.kind == MULTITASK else [target]


def loss_of(target):
    """Name of the loss that one of several targets has."""
    return SUITED[target.kind][0]


def is_number(target):
    """Whether a single target holds numbers."""
    return target.kind in REGRESSION


def decode(target, outputs, loss):
    """What outputs (n_samples, n_outputs) say of each target: a list of (n_samples, k) arrays."""
    if target.kind != MULTITASK:
        return [target.decode(outputs, loss)]
    return [
        single.decode(outputs[:, part], loss_of(single))
        for single, part in zip(each_target(target), target.outputs, strict=True)
    ]


def priors(target, weight):
    """What is known of each target where nothing else is: shares of classes, means of numbers."""
    found = []
    for t, single in enumerate(each_target(target)):
        values = target.values[:, [t]] if target.kind == MULTITASK else target.values
        values = values.reshape(len(values), -1).astype(np.float64)
        known = ~np.isnan(values).any(axis=1)
        values = values[known]
        if is_number(single):
            values = values * single.scale + single.mean
        elif single.kind != "multilabel-indicator":
            values = np.eye(single.n_outputs)[values[:, 0].astype(int)]
        found.append(np.average(values, axis=0, weights=None if weight is None else weight[known]))
    return found


def label(single, decoded):
    """Labels or numbers of one target, of which `decoded` holds probabilities or numbers."""
    if is_number(single):
        return decoded[:, 0] if single.kind == "continuous" else decoded
    if single.kind == "multilabel-indicator":
        return (decoded > 0.5).astype(int)
    return single.classes[decoded.argmax(axis=1)]


def as_targets(y, whole_numbers_are_classes):
    """`y` as a frame of several named targets, or None where it is one target.

    A frame of two columns or more holds several, and an array of two columns or more whose
    columns are not all of one kind; a multilabel indicator is one.
    """
    if hasattr(y, "to_pandas") and hasattr(y, "columns"):  # a polars frame
        y = y.to_pandas()
    if issparse(y):
        return None
    values = np.asarray(y)
    if values.dtype.kind in "US" and not hasattr(y, "dtype"):
        values = np.asarray(y, dtype=object)  # a list of mixed rows: keep its numbers numbers
    if values.ndim != 2 or (values.shape[1] < 2 and not has_unknown(y)):
        return None
    if whole_numbers_are_classes and is_indicator(values):
        return None
    if isinstance(y, pd.DataFrame):
        return y.set_axis([str(name) for name in y.columns], axis=1)
    names = [f"y{i}" for i in range(values.shape[1])]
    frame = pd.DataFrame(values, columns=names).infer_objects()
    kinds = {kind_of_column(frame[name], whole_numbers_are_classes) for name in frame}
    return None if kinds == {"continuous"} else frame


def has_unknown(y):
    """Whether `y` is a frame with cells that are NA, targets not known."""
    return isinstance(y, pd.DataFrame) and bool(y.isna().any(axis=None))


def is_indicator(values):
    """Whether an array holds a multilabel indicator: 0 and 1, all known."""
    return not pd.isna(values).any() and type_of_target(values) == "multilabel-indicator"


def kind_of_column(column, whole_numbers_are_classes):
    """Whether a column of `y` holds "continuous" numbers or classes ("multiclass")."""
    known = column.dropna()
    is_number = pd.api.types.is_numeric_dtype(known) and not pd.api.types.is_bool_dtype(known)
    if not is_number:
        return "multiclass"
    if not whole_numbers_are_classes:
        return "continuous"
    return "continuous" if type_of_target(known.to_numpy()) == "continuous" else "multiclass"


def encode_targets(frame, kinds, *, owner, whole_numbers_are_classes):
    """Encode a frame of targets, whose cells may be absent, as a `MultiTarget`.

    Parameters
    ----------
    frame : DataFrame
    kinds : dict
        Kind of a target, by name, where it is not to be inferred.
    owner : str
        Name of the estimator, for messages.
    whole_numbers_are_classes : bool
    """
    unknown = sorted(set(kinds) - set(frame.columns))
    if unknown or not frame.columns.is_unique:
        raise ValueError(
            f"{owner}: target_type names {unknown}; y has the columns {list(frame.columns)}, whose "
            "names must be unique."
        )
    columns, targets = [], {}
    for name in frame.columns:
        kind = kinds.get(name) or kind_of_column(frame[name], whole_numbers_are_classes)
        known = frame[name].notna().to_numpy()
        values = np.array(frame[name][known].tolist())  # as plain numbers or strings
        with noted(f"Raised for target {name!r}, which is known in {len(values)} rows."):
            target = encode_target(values, len(values), owner=owner, target_type=kind)
        column = np.full(len(frame), np.nan, dtype=np.float32)
        column[known] = target.values.reshape(len(values), -1)[:, 0]
        columns.append(column)
        targets[name] = Target(
            target.kind, None, target.n_outputs, target.classes, target.mean, target.scale
        )
    n_outputs = sum(target.n_outputs for target in targets.values())
    values = np.stack(columns, axis=1)
    known = (~np.isnan(values)).mean(axis=0).tolist()
    return MultiTarget(MULTITASK, values, n_outputs, targets, known)


def score_targets(y, predicted, targets, sample_weight=None):
    """Mean over targets of accuracy (classes) or R2 (numbers), on the rows that are known."""
    y = y if isinstance(y, pd.DataFrame) else pd.DataFrame(np.asarray(y, dtype=object))
    scores = []
    for position, (name, target) in enumerate(targets.items()):
        true = y[name] if name in y.columns else y.iloc[:, position]
        known = true.notna().to_numpy()
        score = accuracy_score if target.kind in CLASSIFICATION else r2_score
        weight = None if sample_weight is None else np.asarray(sample_weight)[known]
        guess = predicted[name].to_numpy()[known]
        scores.append(
            score(true.to_numpy()[known].astype(guess.dtype), guess, sample_weight=weight)
        )
    return float(np.mean(scores))
