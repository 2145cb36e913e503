"""Table of the losses for training networks."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from scipy.special import expit, log_expit
from torch import nn

from sklearn_mmfusion._validation import (
    BINARY,
    MULTICLASS,
    MULTILABEL,
    MULTITASK,
    REGRESSION,
)
from sklearn_mmfusion.modules.objectives import EvidentialLoss


@dataclass(frozen=True)
class Loss:
    """A loss: its criterion, the kinds of target it suits, and the decoding of outputs.

    ``activation`` turns outputs of shape (n, n_outputs), float64, into probabilities or numbers;
    ``nonlinearity`` does the same to tensors, for the scoring callbacks of skorch.
    """

    criterion: type[nn.Module]
    kinds: tuple[str, ...]
    activation: Callable
    nonlinearity: Callable | None = None
    smooths_labels: bool = False


def softmax(outputs):
    """Class probabilities. For one row, scipy's softmax would take as long as a layer."""
    exp = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return exp / exp.sum(axis=1, keepdims=True)


def evidence_of(outputs):
    """Evidence for each class: softplus of outputs trained with the evidential loss."""
    return -log_expit(-np.asarray(outputs, dtype=np.float64))


def expected_probabilities(outputs):
    """Mean of the Dirichlet distribution over class probabilities."""
    alpha = evidence_of(outputs) + 1
    return alpha / alpha.sum(axis=1, keepdims=True)


def unchanged(outputs):
    """Standardized numbers need no activation."""
    return outputs


ONE_CLASS = (BINARY, MULTICLASS)  # kinds of target with one class per row

# The first loss that suits a kind of target is its default.
LOSSES = {
    "cross_entropy": Loss(
        nn.CrossEntropyLoss, ONE_CLASS, softmax, partial(torch.softmax, dim=-1), smooths_labels=True
    ),
    "binary_cross_entropy": Loss(nn.BCEWithLogitsLoss, (MULTILABEL,), expit, torch.sigmoid),
    "evidential": Loss(EvidentialLoss, ONE_CLASS, expected_probabilities),
    "squared_error": Loss(nn.MSELoss, REGRESSION, unchanged),
    "huber": Loss(nn.HuberLoss, REGRESSION, unchanged),
}


def losses_for(*kinds):
    """Return the names of losses that suit any of these kinds of target, default first."""
    return [name for name, loss in LOSSES.items() if set(kinds) & set(loss.kinds)]


def resolve_loss(loss, kind, estimator_name):
    """Return the name of the loss for a kind of target; ``loss`` is a name or "auto".

    Raises
    ------
    ValueError
        If the loss does not suit the target. Several targets accept "auto" only.
    """
    if kind == MULTITASK:
        if loss != "auto":
            raise ValueError(
                f"{estimator_name}: loss={loss!r}, but y has several targets, each with the loss "
                "of its kind. Set loss='auto'."
            )
        return loss
    suited = losses_for(kind)
    if loss != "auto" and loss not in suited:
        raise ValueError(
            f"{estimator_name}: loss={loss!r} does not fit: the target is {kind}, for which it "
            f"must be {' or '.join(map(repr, suited))}. Set loss='auto'."
        )
    return suited[0] if loss == "auto" else loss


def criterion_for(loss, label_smoothing=0.0):
    """Return class and arguments of a loss with one value per row (or per output of a row)."""
    options = {"reduction": "none"}
    if LOSSES[loss].smooths_labels:
        options["label_smoothing"] = label_smoothing
    return LOSSES[loss].criterion, options
