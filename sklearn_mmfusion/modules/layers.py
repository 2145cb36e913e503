"""Layers that see only the valid steps of padded batches.

Shape legend: ``N`` batch, ``C`` channels, ``F`` frequency bands, ``L`` padded length,
``V`` all valid steps of a batch laid end to end.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


def pad(values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Lay sequences that stand end to end side by side.

    values : (V, ...), lengths : (N,) int64 -> (N, L, ...) zero padded, mask (N, L) bool
    """
    steps = torch.arange(max(int(lengths.max()), 1), device=values.device)
    mask = steps < lengths[:, None]
    out = values.new_zeros((*mask.shape, *values.shape[1:]))
    out[mask] = values
    return out, mask


class MaskedBatchNorm(nn.Module):
    """Batch normalization over valid steps only (Ioffe and Szegedy, 2015).

    ``nn.BatchNorm`` would count the padding, so that the longest clip of a batch changed the
    statistics of all the others. Here valid steps are laid end to end, normalized and put back.

    Shape: x (N, C, L, ...), mask (N, L) bool -> (N, C, L, ...), zero where masked.
    """

    def __init__(self, num_features: int):
        super().__init__()
        self.norm = nn.BatchNorm1d(num_features)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x.movedim(1, -1)  # (N, C, L, ...) -> (N, L, ..., C): no copy if channels-last
        steps = x.flatten(0, 1)  # (N L, ..., C)
        valid = mask.flatten().nonzero()[:, 0]
        packed = steps.index_select(0, valid)  # (V, ..., C)
        packed = self._normalize(packed.reshape(-1, x.shape[-1])).view_as(packed)
        return torch.zeros_like(steps).index_copy(0, valid, packed).view_as(x).movedim(-1, 1)

    def _normalize(self, steps: Tensor) -> Tensor:
        if self.training and len(steps) == 1:
            # One step, of a batch of empty texts and one of a single character, has no spread.
            norm = self.norm
            return functional.batch_norm(
                steps, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
            )
        return self.norm(steps)


def masked_mean_max(x: Tensor, mask: Tensor) -> Tensor:
    """Mean and maximum over valid steps: x (N, C, L), mask (N, L) -> (N, 2 C)."""
    valid = mask[:, None]
    # Mean over valid steps: padding must not dilute the average.
    mean = (x * valid).sum(2) / mask.sum(1, keepdim=True).clamp(min=1)
    top = x.masked_fill(~valid, -torch.inf).amax(2)
    return torch.cat([mean, torch.where(mask.any(1, keepdim=True), top, 0.0)], 1)


class Embedding(nn.Sequential):
    """The end every encoder shares: dropout, linear, batch norm, ReLU.

    (N, in_features) -> (N, out_features)
    """

    def __init__(self, in_features: int, out_features: int, dropout: float = 0.3):
        super().__init__(
            nn.Dropout(dropout),
            nn.Linear(in_features, out_features),
            nn.BatchNorm1d(out_features),
            nn.ReLU(),
        )
