"""Layers that see only the valid steps of padded batches.

Lengths and masks stay on the CPU, whatever the device of the values: the extent of the padding and
the positions of the valid steps are then known without waiting for the device.

Shape legend: ``N`` batch, ``C`` channels, ``F`` frequency bands, ``L`` padded length,
``V`` all valid steps of a batch laid end to end.
"""

from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional


def pad(values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Pad sequences that are stored end to end.

    values : (V, ...), lengths : (N,) int64 on the CPU
    -> (N, L, ...) zero padded, mask (N, L) bool on the CPU
    """
    steps = torch.arange(max(int(lengths.max()), 1), device=lengths.device)
    mask = steps < lengths[:, None]
    out = values.new_zeros((mask.numel(), *values.shape[1:]))
    out = out.index_copy(0, valid_steps(mask, values.device), values)
    return out.unflatten(0, mask.shape), mask


def valid_steps(mask: Tensor, device: torch.device) -> Tensor:
    """Positions of the valid steps of a mask (N, L) among all N L of them: (V,) int64."""
    return mask.flatten().nonzero()[:, 0].to(device, non_blocking=True)


@contextmanager
def running_statistics(module: nn.Module):
    """Let normalization layers use their running statistics inside the block, and keep them.

    Other layers stay in training mode: cuDNN computes no gradients of a recurrent layer in
    evaluation mode, and dropout goes on.
    """
    norms = [layer for layer in module.modules() if layer.training and _has_statistics(layer)]
    try:
        for layer in norms:
            layer.training = False  # `eval` would reach the layers inside it too
        yield
    finally:
        for layer in norms:
            layer.training = True


def _has_statistics(layer):
    """Whether a layer is a batch normalization, torch's or one with the same buffer names."""
    return hasattr(layer, "running_mean") or hasattr(layer, "running_var")


class MaskedBatchNorm(nn.Module):
    """Batch normalization over valid steps only (Ioffe and Szegedy, 2015).

    ``nn.BatchNorm`` would count the padding, so that the longest clip of a batch changed the
    statistics of all the others. Here valid steps are laid end to end, normalized and put back.

    Shape: x (N, C, L, ...), mask (N, L) bool, on the CPU -> (N, C, L, ...), zero where masked.
    """

    def __init__(self, num_features: int):
        super().__init__()
        self.norm = nn.BatchNorm1d(num_features)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x.movedim(1, -1)  # (N, C, L, ...) -> (N, L, ..., C): no copy if channels-last
        steps = x.flatten(0, 1)  # (N L, ..., C)
        valid = valid_steps(mask, x.device)
        packed = steps.index_select(0, valid)  # (V, ..., C)
        packed = self._normalize(packed.reshape(-1, x.shape[-1])).view_as(packed)
        return torch.zeros_like(steps).index_copy(0, valid, packed).view_as(x).movedim(-1, 1)

    def _normalize(self, steps: Tensor) -> Tensor:
        if self.training and len(steps) == 1:
            # A single valid step (empty texts and one of one character) has no variance.
            norm = self.norm
            return functional.batch_norm(
                steps, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
            )
        return self.norm(steps)


def masked_mean_max(x: Tensor, mask: Tensor) -> Tensor:
    """Mean and maximum over valid steps: x (N, C, L), mask (N, L) -> (N, 2 C)."""
    mask = mask.to(x.device, non_blocking=True)
    valid = mask[:, None]
    # Mean over valid steps: padding must not dilute the average.
    mean = (x * valid).sum(2) / mask.sum(1, keepdim=True).clamp(min=1)
    top = x.masked_fill(~valid, -torch.inf).amax(2)
    return torch.cat([mean, torch.where(mask.any(1, keepdim=True), top, 0.0)], 1)


class Embedding(nn.Sequential):
    """The final layers of every encoder: dropout, linear, batch norm, ReLU.

    (N, in_features) -> (N, out_features)
    """

    def __init__(self, in_features: int, out_features: int, dropout: float = 0.3):
        super().__init__(
            nn.Dropout(dropout),
            nn.Linear(in_features, out_features),
            nn.BatchNorm1d(out_features),
            nn.ReLU(),
        )
