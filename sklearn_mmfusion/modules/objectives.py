"""Losses of joint networks, of the alignment of modalities, and of evidence."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Contrastive(nn.Module):
    """Features of one row agree, those of different rows do not (Radford et al. 2021, CLIP).

    For each pair of modalities and the B rows that have both: cross-entropy of finding a row's
    partner among the B by cosine similarity over a learned temperature (1/0.07 at the start,
    between 1 and 100), the mean of both directions; the mean over pairs. Cost B^2 h per pair.
    """

    def __init__(self, in_features: int, n_modalities: int):
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, aligned: Tensor, mask: Tensor) -> Tensor:
        units = F.normalize(aligned, dim=2)
        scale = self.log_scale.exp().clamp(1, 100)
        n_rows, n_modalities = mask.shape
        own = torch.arange(n_rows, device=mask.device)
        others = own != own[:, None]
        loss = aligned.new_zeros(n_rows)
        pairs = [(i, j) for i in range(n_modalities) for j in range(i)]
        for i, j in pairs:
            both = mask[:, i] & mask[:, j]
            similarity = scale * units[:, i] @ units[:, j].T
            # A row's own partner always stays: a softmax over nothing would be NaN.
            similarity = similarity.masked_fill(others & ~(both & both[:, None]), -torch.inf)
            there = F.cross_entropy(similarity, own, reduction="none")
            back = F.cross_entropy(similarity.T, own, reduction="none")
            counted = both & (both.sum() > 1)  # no other row: nothing to contrast with
            loss = loss + torch.where(counted, (there + back) / 2, 0.0).to(loss.dtype)
        return loss / max(1, len(pairs))


class Adversarial(nn.Module):
    """Features whose modality a discriminator cannot tell (Ganin et al. 2016, arXiv:1505.07818).

    A perceptron of one hidden layer predicts the modality each feature comes from; its gradient
    reaches the features with the sign reversed. The loss is its cross-entropy, the mean over the
    modalities a row has. Cost M h^2.
    """

    def __init__(self, in_features: int, n_modalities: int):
        super().__init__()
        self.discriminator = nn.Sequential(
            nn.Linear(in_features, in_features), nn.ReLU(), nn.Linear(in_features, n_modalities)
        )

    def forward(self, aligned: Tensor, mask: Tensor) -> Tensor:
        guesses = self.discriminator(ReverseGradient.apply(aligned))  # (N, M, M)
        own = torch.arange(mask.shape[1], device=mask.device).expand(mask.shape)
        loss = F.cross_entropy(guesses.movedim(2, 1), own, reduction="none")
        return torch.where(mask, loss, 0.0).sum(1) / mask.sum(1).clamp(min=1)


class ReverseGradient(torch.autograd.Function):
    """The identity, whose gradient has the opposite sign."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return -gradient


ALIGNMENTS = {"contrastive": Contrastive, "adversarial": Adversarial}


class JointLoss(nn.Module):
    """Loss of a joint network's prediction and, in training, of all its objectives.

    Shape: the network's output (N, n_outputs), or in training what `FusionNetwork` returns, and
    the target -> (N,).

    Parameters of the constructor: ``base`` makes the loss of a prediction, of any shape that
    starts with N; ``auxiliary`` weighs the sum of the modalities' own losses; other arguments go to
    ``base``.
    """

    def __init__(self, base, auxiliary: float = 0.0, **options):
        super().__init__()
        self.base = base(**options)
        self.auxiliary = auxiliary

    def _rows(self, output: Tensor, target: Tensor) -> Tensor:
        loss = self.base(output, target)
        return loss.flatten(1).mean(1) if loss.ndim > 1 else loss

    def forward(self, output, target: Tensor) -> Tensor:
        if isinstance(output, Tensor):
            return self._rows(output, target)
        output, heads, penalty, mask = output
        loss = self._rows(output, target) + penalty
        if self.auxiliary:
            own = torch.stack([self._rows(head, target) for head in heads], 1)
            loss = loss + self.auxiliary * torch.where(mask, own, 0.0).sum(1)
        return loss


class EvidentialLoss(nn.Module):
    """Expected cross-entropy under a Dirichlet distribution, and a penalty on wrong evidence.

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
