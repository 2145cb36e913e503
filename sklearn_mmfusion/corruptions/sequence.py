"""Corruptions of sequences and point clouds.

Shape legend: values (N, L, ...), float, with a mask (N, L) of the valid steps, None if all are;
results have the same shape. Masked steps of a result are arbitrary. A generator of None is torch's
own, on the device of the values. Nothing waits for the device, and nothing is copied to it, so that
a CUDA graph can hold every function.
"""

import math

import torch


def draw(like, generator, *shape, low=0.0, high=1.0):
    """Draw uniform numbers on the device of a tensor, the same ones for every dtype."""
    numbers = torch.rand(shape, generator=generator, device=like.device)
    return low + (high - low) * numbers.to(like.dtype)


def draw_normal(like, generator):
    """Draw normal numbers in the shape of a tensor, the same ones for every dtype."""
    return torch.randn(like.shape, generator=generator, device=like.device).to(like.dtype)


def per_row(numbers, like):
    """Add axes to numbers (N,) or (N, L), so that they apply to values (N, L, ...)."""
    return numbers.reshape(*numbers.shape, *[1] * (like.ndim - numbers.ndim))


def moments(values, mask):
    """Mean and standard deviation over the valid, finite steps: (N, 1, ...) each."""
    valid = values.isfinite() if mask is None else values.isfinite() & per_row(mask, values)
    count = valid.sum(1, keepdim=True).clamp(min=1)
    mean = torch.where(valid, values, 0.0).sum(1, keepdim=True) / count
    squares = torch.where(valid, values - mean, 0.0).square().sum(1, keepdim=True)
    return mean, (squares / count).sqrt()


def last_step(values, mask):
    """Number of the last valid step of each row, 0 if there is none: (N, 1)."""
    if mask is None:
        return values.new_full((len(values), 1), max(values.shape[1] - 1, 0))
    return (mask.sum(1, keepdim=True) - 1).clamp(min=0).to(values.dtype)


def interpolate(values, positions, last):
    """Values at positions (N, L) from 0 to the last steps (N, 1), linearly interpolated."""
    before = positions.floor().long()
    after = torch.minimum(before + 1, last.long())
    weight = per_row(positions - before, values)
    rows = torch.arange(len(values), device=values.device)[:, None]
    return torch.lerp(values[rows, before], values[rows, after], weight)


def jitter(values, generator, std, mask=None):
    """Add noise; `std` is a share of each channel's own standard deviation."""
    return values + std * moments(values, mask)[1] * draw_normal(values, generator)


def scale(values, generator, factor, mask=None, about_mean=False):
    """Multiply each row by a number from 1 / (1 + factor) to 1 + factor."""
    most = math.log1p(factor)
    numbers = per_row(draw(values, generator, len(values), low=-most, high=most).exp(), values)
    if not about_mean:
        return values * numbers
    mean = moments(values, mask)[0]
    return mean + (values - mean) * numbers


def warp(values, generator, strength, mask=None):
    """Stretch one part of each row and compress the other; the ends stay where they are.

    The speed varies from ``1 - strength`` to ``1 + strength``, at most.
    """
    last = last_step(values, mask)
    steps = torch.arange(values.shape[1], device=values.device, dtype=values.dtype)
    time = (steps / last.clamp(min=1)).clamp(max=1)
    bend = draw(values, generator, len(values), 1, low=-strength, high=strength)
    time = time + bend * (math.pi * time).sin() / math.pi
    return interpolate(values, time.clamp(0, 1) * last, last)


def crop(values, generator, share, mask=None):
    """Cut off a `share` of each row, and stretch the rest to the old length."""
    last = last_step(values, mask)
    steps = torch.arange(values.shape[1], device=values.device, dtype=values.dtype)
    start = share * last * draw(values, generator, len(values), 1)
    return interpolate(values, start + (1 - share) * torch.minimum(steps, last), last)


def channel_dropout(values, generator, probability, mask=None):
    """Replace channels by their mean; at least one channel of each row is kept."""
    chance = draw(values, generator, len(values), *values.shape[2:]).reshape(len(values), -1)
    kept = (chance >= probability) | (chance == chance.amax(1, keepdim=True))
    kept = kept.view(len(values), 1, *values.shape[2:])
    return torch.where(kept, values, moments(values, mask)[0])
