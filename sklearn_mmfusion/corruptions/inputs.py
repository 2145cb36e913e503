"""Augmentation: corruptions of the inputs of a network, drawn anew for every training batch."""

import copy
import inspect
from functools import partial

import numpy as np
from torch import nn

from sklearn_mmfusion.corruptions.cells import APPLY
from sklearn_mmfusion.corruptions.image import pixel_range
from sklearn_mmfusion.corruptions.table import (
    PRESETS,
    check_severity,
    check_strength,
    find_corruption,
)
from sklearn_mmfusion.modules.layers import pad, valid_steps


def augmentation_steps(augment, modality, estimator_name):
    """Return the functions of a cell and those of a batch that a parameter ``augment`` describes.

    Corruptions that have both forms act on batches.

    Parameters
    ----------
    augment : None, str, list of (str, dict) or callable
    modality : str or None
        Key of `CORRUPTIONS`; None if there are no corruptions for the encoder's inputs.
    estimator_name : str
        Name of the estimator, for messages.

    Returns
    -------
    on_cells : list of callable
        ``step(cell, seed=seed)`` returns a cell; the seed is a numpy ``SeedSequence``.
    on_inputs : list of callable
        ``step(values)``, or ``step(values, mask=mask)`` if it has a parameter ``mask``. A callable
        is copied, so that neither its weights nor its random state change the original.
    """
    label = f"{estimator_name}: augment"
    if augment is None:
        return [], []
    if isinstance(augment, type):
        raise TypeError(f"{label}={augment.__name__} is a class; expected an instance of it.")
    if callable(augment):
        return [], [copy.deepcopy(augment)]
    if modality is None:
        raise ValueError(
            f"{label}={augment!r}, but there are no corruptions for the inputs of this encoder; "
            "expected None or a callable."
        )
    if isinstance(augment, str):
        augment = [(n, {"severity": s}) for n, s in PRESETS[modality][augment].items()]
    on_cells, on_inputs = [], []
    for item in augment:
        corruption, params = _resolve(item, modality, label)
        if params is None:
            continue
        if corruption.on_inputs is None:
            arguments = {"function": corruption.on_cells, "params": params}
            on_cells.append(partial(APPLY[modality], **arguments))
        else:
            on_inputs.append(partial(corruption.on_inputs, generator=None, **params))
    return on_cells, on_inputs


def _resolve(item, modality, label):
    """The corruption of a pair (name, parameters), and its strength; None at severity 0."""
    if not (isinstance(item, tuple | list) and len(item) == 2 and isinstance(item[1], dict)):
        raise TypeError(f"{label} contains {item!r}; expected pairs (name, {{parameter: value}}).")
    name, params = item
    corruption, label = find_corruption(modality, name, label), f"{label}: {name!r}"
    if unknown := set(params) - {"severity", corruption.parameter}:
        raise ValueError(
            f"{label} has parameters {sorted(unknown, key=str)}; expected 'severity' or "
            f"{corruption.parameter!r}."
        )
    strength = params.get(corruption.parameter)
    if strength is None:
        severity = params.get("severity", 1)
        check_severity(severity, label)
        if severity == 0:
            return corruption, None
        strength = corruption.strengths[severity - 1]
    else:
        check_strength(strength, corruption.parameter, label)
    return corruption, {corruption.parameter: strength}


def change_cell(cell, on_cells, seed):
    """Return a cell after all steps, each with a seed made from the given one."""
    for step, own in zip(on_cells, seed.spawn(len(on_cells)), strict=True):
        cell = step(cell, seed=own) if np.size(cell) else cell
    return cell


class Augmentation:
    """Change the batches of one modality.

    Every tensor of a batch (pixels, frames, ids of words) goes through all steps, sequences padded
    and with the mask of their valid steps. Shapes and dtypes stay the same.

    Parameters
    ----------
    steps : list of callable
        See `augmentation_steps`.
    limits : pair of float, default=None
        Lowest and highest pixel in training, if the inputs are images or clips. Steps see pixels
        in a scale from 0 to 1.
    of_items : bool, default=False
        Whether sequences are sets of inputs, such as images, that are changed one by one.
    """

    def __init__(self, steps, limits=None, of_items=False):
        self.steps, self.of_items = [(step, _takes_mask(step)) for step in steps], of_items
        self.range = None if limits is None else pixel_range(*limits)

    def to(self, device):
        """Move the steps that are modules to a device; return itself."""
        for step, _ in self.steps:
            if isinstance(step, nn.Module):
                step.to(device).train()
        return self

    def __call__(self, batch):
        changed = dict(batch)
        for name, values in batch.items():
            if not name.endswith("_lengths") and len(values):
                lengths = batch.get(f"{name}_lengths")
                changed[name] = self._change(values, lengths).to(values.dtype)
        return changed

    def _change(self, values, lengths):
        if self.range is None:
            return self._change_steps(values, lengths)
        low, high = self.range
        changed = self._change_steps((values.float() - low) / (high - low), lengths)
        changed = changed * (high - low) + low
        return changed if values.is_floating_point() else changed.round().clamp(0, 255)

    def _change_steps(self, values, lengths):
        if lengths is None or self.of_items and lengths.ndim == 1:
            return self._run(values, None)
        if self.of_items:
            return self._run(values.flatten(0, 1), None).unflatten(0, lengths.shape)
        padded, mask = pad(values, lengths)
        there = mask.to(values.device, non_blocking=True)
        padded = self._run(padded, there)
        if lengths.ndim == 2:  # the fixed layout (see `_skorch.training_step`)
            return padded
        return padded.flatten(0, 1).index_select(0, valid_steps(mask, values.device))

    def _run(self, values, mask):
        for step, takes_mask in self.steps:
            given = values.shape
            values = step(values, mask=mask) if takes_mask else step(values)
            if values.shape != given:
                raise ValueError(
                    f"augment={_name(step)} returned shape {tuple(values.shape)}; expected "
                    f"{tuple(given)}, that of its batch."
                )
        return values


class JointAugmentation:
    """Change the batches of several modalities, whose tensors are called ``name.keyword``.

    Parameters
    ----------
    by_name : dict of str to Augmentation
    """

    def __init__(self, by_name):
        self.by_name = by_name

    def to(self, device):
        """Move the steps that are modules to a device; return itself."""
        for augmentation in self.by_name.values():
            augmentation.to(device)
        return self

    def __call__(self, batch):
        changed = dict(batch)
        for name, augmentation in self.by_name.items():
            prefix = f"{name}."
            own = {k.removeprefix(prefix): v for k, v in batch.items() if k.startswith(prefix)}
            changed |= {f"{prefix}{key}": value for key, value in augmentation(own).items()}
        return changed


def _takes_mask(step):
    function = step.forward if isinstance(step, nn.Module) else step
    try:
        return "mask" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # of C, such as torch.neg
        return False


def _name(step):
    return getattr(step, "__name__", None) or repr(step)
