"""Layers that see only the valid steps of padded batches, and only the rows that are there.

Sequences have two layouts. *Gathered*: the valid steps laid end to end, and their lengths on the
CPU, whatever the device of the values: the extent of the padding and the positions of the valid
steps are then known without waiting for the device. *Fixed*: padded sequences, and a mask on their
device in place of lengths; all shapes are known beforehand, and `fixed_shapes` lets normalization
layers count by masks.

Shape legend: ``N`` batch, ``C`` channels, ``F`` frequency bands, ``L`` padded length,
``V`` all valid steps of a batch laid end to end.
"""

import math
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional


def pad(values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Pad sequences that are stored end to end; set the padding of padded ones to zero.

    values : (V, ...), lengths : (N,) int64 on the CPU
    -> (N, L, ...) zero padded, mask (N, L) bool on the CPU

    or values : (N, L, ...), lengths : the mask (N, L), in the fixed layout -> the same shapes
    """
    if lengths.ndim == 2:
        mask = lengths.view(*lengths.shape, *[1] * (values.ndim - 2))
        return torch.where(mask, values, 0), lengths
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


def is_padded(batch: dict[str, Tensor]) -> bool:
    """Whether the sequences of a batch are in the fixed layout."""
    return any(key.endswith("_lengths") and value.ndim == 2 for key, value in batch.items())


@contextmanager
def fixed_shapes(module: nn.Module, present: Tensor | None = None):
    """Let the layers of this package that compute statistics count by masks inside the block.

    present : (N,) bool on the device, the rows that count; None for all
    """
    layers = [layer for layer in module.modules() if isinstance(layer, FixedShapes)]
    try:
        for layer in layers:
            layer.is_fixed, layer.present = True, present
        yield
    finally:
        for layer in layers:
            layer.is_fixed, layer.present = False, None


def batch_norm_where(x: Tensor, mask: Tensor, enough: Tensor, norm: nn.Module) -> Tensor:
    """Batch normalization of x (P, C) whose statistics leave out rows by a mask (P,).

    The counterpart of ``norm`` on ``x[mask]``, of known shapes. enough : () bool; where it is
    False, the running statistics are used and kept, as with a single row.
    """
    low, x = x.dtype, x if x.dtype == torch.float64 else x.float()
    counts = mask[:, None].to(x.dtype)
    n = counts.sum().clamp(min=1)
    mean = (x * counts).sum(0) / n
    variance = ((x - mean) * counts).square().sum(0) / n
    if norm.training:
        with torch.no_grad():
            share = norm.momentum * enough.to(x.dtype)
            unbiased = variance * (n / (n - 1).clamp(min=1))
            norm.running_mean += share * (mean - norm.running_mean)
            norm.running_var += share * (unbiased - norm.running_var)
            norm.num_batches_tracked += enough
    else:
        enough = torch.zeros_like(enough)
    mean = torch.where(enough, mean, norm.running_mean)
    variance = torch.where(enough, variance, norm.running_var)
    return ((x - mean) * torch.rsqrt(variance + norm.eps) * norm.weight + norm.bias).to(low)


class FixedShapes:
    """A layer on which `fixed_shapes` sets the rows that count."""

    is_fixed: bool = False
    present: Tensor | None = None


class BatchNorm(FixedShapes, nn.BatchNorm1d):
    """Batch normalization of (N, C) or (N, C, ...), which `fixed_shapes` restricts to some rows."""

    _check_input_dim = staticmethod(id)  # any number of axes; torch calls this for every batch

    def forward(self, input: Tensor) -> Tensor:
        if self.present is None or not self.training:
            return super().forward(input)
        x = input.movedim(1, -1)
        mask = self.present.view(-1, *[1] * (x.ndim - 2)).expand(x.shape[:-1])
        enough = self.present.sum() > 1
        steps = x.reshape(-1, x.shape[-1])
        return batch_norm_where(steps, mask.flatten(), enough, self).view(x.shape).movedim(-1, 1)


class MaskedBatchNorm(FixedShapes, nn.Module):
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
        if self.is_fixed:
            return self._normalize_where(x, mask).movedim(-1, 1)
        steps = x.flatten(0, 1)  # (N L, ..., C)
        valid = valid_steps(mask, x.device)
        packed = steps.index_select(0, valid)  # (V, ..., C)
        packed = self.normalize(packed.reshape(-1, x.shape[-1])).view_as(packed)
        return torch.zeros_like(steps).index_copy(0, valid, packed).view_as(x).movedim(-1, 1)

    def _normalize_where(self, x: Tensor, mask: Tensor) -> Tensor:
        counted = mask if self.present is None else mask & self.present[:, None]
        enough = counted.sum() * math.prod(x.shape[2:-1]) > 1
        if self.present is not None:
            enough = enough & (self.present.sum() > 1)
        axes = [1] * (x.ndim - 3)
        counts = counted.view(*mask.shape, *axes).expand(x.shape[:-1]).flatten()
        flat = batch_norm_where(x.reshape(-1, x.shape[-1]), counts, enough, self.norm)
        return torch.where(mask.view(*mask.shape, *axes, 1), flat.view(x.shape), 0.0)

    def normalize(self, steps: Tensor) -> Tensor:
        """Normalize valid steps that are laid end to end: (V, C)."""
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


# In evaluation, sequences longer than a chunk are pooled chunk by chunk. A chunk has CHUNK steps
# in all rows together, but at least MIN_CHUNK per row.
CHUNK, MIN_CHUNK = 1 << 15, 1 << 12


def pool_in_chunks(
    module: nn.Module, layers, values: Tensor, lengths: Tensor, reach: int, stride: int = 1
) -> Tensor:
    """`masked_mean_max` of outputs of layers; in evaluation, long sequences are pooled in chunks.

    Chunks overlap by the steps that the layers see. The result is the same except for the order of
    a sum, and the memory does not grow with the length.

    module : owner of the layers; in training mode there are no chunks
    layers : (values, lengths) of either layout -> x (N, C, L'), mask (N, L')
    values : (V, ...), lengths : (N,); or the fixed layout
    reach : steps before and after a step that its output depends on, a multiple of the stride
    stride : steps per step of the outputs; L' is L / stride, rounded up
    -> (N, 2 C)
    """
    size = max(MIN_CHUNK, CHUNK // max(1, len(lengths)) // stride * stride)
    longest = 0 if lengths.ndim == 2 or module.training else int(lengths.max())
    if longest <= size:
        return masked_mean_max(*layers(values, lengths))
    starts, pooled = (lengths.cumsum(0) - lengths)[:, None], []
    for start in range(0, longest, size):
        first, stop = max(0, start - reach), min(longest, start + size)
        steps = torch.arange(first, min(longest, stop + reach), device=lengths.device)
        mask = steps < lengths[:, None]
        places = torch.where(mask, starts + steps, 0).flatten().to(values.device)
        mask = mask.to(values.device)
        x, mask = layers(values.index_select(0, places).unflatten(0, mask.shape), mask)
        inner = slice((start - first) // stride, -(-(stop - first) // stride))
        x, valid = x[:, :, inner], mask[:, None, inner]
        pooled.append(((x * valid).sum(2), valid.sum(2), x.masked_fill(~valid, -torch.inf).amax(2)))
    total, count, top = map(torch.stack, zip(*pooled, strict=True))
    count, top = count.sum(0), top.amax(0)
    return torch.cat([total.sum(0) / count.clamp(min=1), torch.where(count > 0, top, 0.0)], 1)


class StandardizedNetwork(nn.Module):
    """Base of the networks that standardize their input, whose last axis holds the features."""

    def __init__(self, in_features: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(in_features))
        self.register_buffer("std", torch.ones(in_features))

    def set_scale(self, mean: Tensor, std: Tensor) -> None:
        """Set the mean and standard deviation of each feature, (in_features,) each."""
        self.mean.copy_(mean)
        self.std.copy_(std)

    def standardize(self, x: Tensor) -> Tensor:
        """Features of mean 0 and standard deviation 1 in training: (..., in_features)."""
        return (x - self.mean) / self.std


class Embedding(nn.Sequential):
    """The final layers of every encoder: dropout, linear, batch norm, ReLU.

    (N, in_features) -> (N, out_features)
    """

    def __init__(self, in_features: int, out_features: int, dropout: float = 0.3):
        super().__init__(
            nn.Dropout(dropout),
            nn.Linear(in_features, out_features),
            BatchNorm(out_features),
            nn.ReLU(),
        )
