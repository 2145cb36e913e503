"""Losses that torch does not have."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class EvidentialLoss(nn.Module):
    """Expected cross-entropy under a Dirichlet distribution, and a pull of wrong evidence to zero.

    softplus of the network's output is evidence e, alpha = e + 1 the Dirichlet distribution of
    class probabilities, S = sum alpha. Loss of a row of class y:

        digamma(S) - digamma(alpha_y) + kl_weight * KL(Dir(alpha') || Dir(1)),

    where alpha' is alpha with alpha_y set to one: equation 4 of Sensoy, Kaplan, Kandemir,
    "Evidential deep learning to quantify classification uncertainty", NeurIPS 2018,
    arXiv:1806.01768, and its divergence term with a constant weight in place of one that grows
    over the epochs.

    Shape: output (N, n_classes), target (N,) of codes -> (N,), or () for another `reduction`.
    """

    def __init__(self, kl_weight: float = 0.1, reduction: str = "mean"):
        super().__init__()
        self.kl_weight = kl_weight
        self.reduction = reduction

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        alpha = F.softplus(output) + 1
        own = alpha.gather(1, target[:, None])
        loss = torch.digamma(alpha.sum(1)) - torch.digamma(own[:, 0])
        loss = loss + self.kl_weight * kl_from_uniform(alpha.scatter(1, target[:, None], 1.0))
        return loss if self.reduction == "none" else getattr(loss, self.reduction)()


def kl_from_uniform(alpha: Tensor) -> Tensor:
    """KL(Dir(alpha) || Dir(1)): alpha (N, n_classes) -> (N,)."""
    # `new_full` writes the number on the device; `new_tensor` would copy it from the host.
    total, n_classes = alpha.sum(1, keepdim=True), alpha.new_full((), alpha.shape[1])
    normalizer = torch.lgamma(total[:, 0]) - torch.lgamma(n_classes) - torch.lgamma(alpha).sum(1)
    return normalizer + ((alpha - 1) * (torch.digamma(alpha) - torch.digamma(total))).sum(1)
