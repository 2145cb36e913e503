"""Corruptions of recordings and of their spectrograms.

Those of recordings take samples (n_samples, ...), float64, and a numpy generator. Those of
spectrograms take frames (N, L, bands) with a mask (N, L), as those of sequences do.
"""

import numpy as np
import torch

from sklearn_mmfusion.corruptions.sequence import draw, last_step, moments

N_DROPOUTS = 4  # pieces that drop-outs cut from a recording


def noise(samples, rng, snr):
    """Add white noise at a signal-to-noise ratio in dB."""
    added = rng.normal(size=samples.shape)
    power = np.mean(np.square(added)) or 1.0
    wanted = np.mean(np.square(samples)) / 10 ** (snr / 10)
    return samples + added * np.sqrt(wanted / power)


def gain(samples, rng, decibels):
    """Make louder or softer by up to so many dB."""
    return samples * 10 ** (rng.uniform(-decibels, decibels) / 20)


def shift(samples, rng, share):
    """Move by up to a `share` of the length, either way; zeros fill the end that becomes free."""
    n_steps = round(rng.uniform(-share, share) * len(samples))
    moved = np.zeros_like(samples)
    if n_steps >= 0:
        moved[n_steps:] = samples[: len(samples) - n_steps]
    else:
        moved[:n_steps] = samples[-n_steps:]
    return moved


def dropouts(samples, rng, share):
    """Set a few pieces, a `share` of the length in total if they do not overlap, to zero."""
    samples, length = samples.copy(), max(1, round(share * len(samples) / N_DROPOUTS))
    for start in rng.integers(0, max(1, len(samples) - length + 1), N_DROPOUTS):
        samples[start : start + length] = 0.0
    return samples


def clipping(samples, rng, level):
    """Clip at a `level`, a share of the largest amplitude."""
    most = level * np.max(np.abs(samples), initial=0.0)
    return np.clip(samples, -most, most)


def time_mask(frames, generator, share, mask=None):
    """Replace a span of up to a `share` of the frames by the mean of each band (SpecAugment)."""
    n_valid = last_step(frames, mask) + 1
    width = share * n_valid * draw(frames, generator, len(frames), 1)
    first = (n_valid - width) * draw(frames, generator, len(frames), 1)
    steps = torch.arange(frames.shape[1], device=frames.device) + 0.5
    covered = (steps >= first) & (steps < first + width)
    return torch.where(covered[:, :, None], moments(frames, mask)[0], frames)


def band_mask(frames, generator, share, mask=None):
    """Replace neighboring bands, up to a `share` of all, by their mean (SpecAugment)."""
    n_bands = frames.shape[2]
    width = share * n_bands * draw(frames, generator, len(frames), 1)
    first = (n_bands - width) * draw(frames, generator, len(frames), 1)
    bands = torch.arange(n_bands, device=frames.device) + 0.5
    covered = (bands >= first) & (bands < first + width)
    return torch.where(covered[:, None], moments(frames, mask)[0], frames)
