"""Table of the losses for training networks, and the sum of those of several targets."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from scipy.special import expit, log_expit
from torch import Tensor, nn

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
    exp = outputs - outputs.max(axis=1, keepdims=True)
    np.exp(exp, out=exp)  # in place: new arrays would take twice as long
    exp /= exp.sum(axis=1, keepdims=True)
    return exp


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


def row_losses(criterion, outputs, target):
    """One loss per row, (N,): the mean over its outputs.

    Raises
    ------
    ValueError
        If the criterion does not return one loss, or one per output, for each row.
    """
    losses = criterion(outputs, target)
    if losses.shape[:1] != target.shape[:1]:
        raise ValueError(
            f"criterion {type(criterion).__name__} returned shape {tuple(losses.shape)}; expected "
            f"one loss per row, ({len(target)},) or ({len(target)}, ...). Use reduction='none': "
            "the mean is taken over the rows."
        )
    return losses.flatten(1).mean(1) if losses.ndim > 1 else losses


class MultiTaskLoss(nn.Module):
    """Losses of several targets, added.

    Parameters of the constructor: ``tasks``, for each target its loss (reduction "none"), its
    columns of the output and of the target, whether those hold codes of classes, and the factor of
    its weighted loss (one over the share of rows with a known target gives the mean over these);
    ``weights``, one number per task, or None to learn them as in Kendall, Gal, Cipolla (2018,
    arXiv:1705.07115): exp(-s_t) L_t + s_t (half of it for squared errors), s_t the logarithm of the
    task's variance.

    Shape: output (N, n_outputs), target (N, n_columns), NaN where a target is not known -> (N,).
    """

    def __init__(self, tasks, weights: list[float] | None = None):
        super().__init__()
        self.losses = nn.ModuleList(loss for loss, *_ in tasks)
        self.slices = [rest for _, *rest in tasks]
        self.log_variances = nn.Parameter(torch.zeros(len(tasks))) if weights is None else None
        self.weights = weights

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        total = output.new_zeros(len(target))
        for t, (loss, (outputs, columns, codes, scale)) in enumerate(
            zip(self.losses, self.slices, strict=True)
        ):
            wanted = target[:, columns]
            known = ~wanted.isnan().any(1)
            wanted = torch.where(known[:, None], wanted, 0.0)
            own = loss(output[:, outputs], wanted[:, 0].long() if codes else wanted)
            own = own.flatten(1).mean(1) if own.ndim > 1 else own
            total = total + scale * torch.where(known, self._weighted(t, own, codes), 0.0)
        return total

    def _weighted(self, t, loss, codes):
        if self.log_variances is None:
            return self.weights[t] * loss
        s = self.log_variances[t]
        weighted = torch.exp(-s) * loss + s
        return weighted if codes else 0.5 * weighted
