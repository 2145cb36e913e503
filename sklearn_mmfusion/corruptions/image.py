"""Corruptions of images.

Shape legend: images (N, C, H, W), float, in a scale from 0 to 1; results have the same shape. A
generator of None is torch's own, on the device of the images. Nothing waits for the device, and
nothing is copied to it, so that a CUDA graph can hold every function.
"""

import math

import torch
from torch.nn import functional

from sklearn_mmfusion.corruptions.sequence import draw, draw_normal, per_row

GRAY = (0.299, 0.587, 0.114)  # shares of red, green and blue in the luminance (ITU-R BT.601)


def pixel_range(low, high):
    """The scale of pixels from `low` to `high`: 0 to 1 if they lie there, else up to their ends."""
    # 255 cannot be assumed above 1: noise in that scale would drown images from 0 to 16.
    return (0.0, 1.0) if low >= 0 and high <= 1 else (min(low, 0.0), max(high, 0.0))


def identity(images):
    """One identity matrix per image: (N, 2, 2)."""
    return torch.eye(2, device=images.device, dtype=images.dtype).expand(len(images), 2, 2)


def resample(images, matrices, offsets=0.0):
    """Bilinear values at ``matrix @ place + offset``; beyond the border, its pixels are repeated.

    Places are (row, column) in pixels from the center; matrices (N, 2, 2), offsets (N, 2).
    """
    height, width = images.shape[2:]
    axes = [
        torch.arange(n, device=images.device, dtype=images.dtype) - (n - 1) / 2
        for n in (height, width)
    ]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)  # (H, W, 2)
    places = torch.einsum("nij,hwj->nhwi", matrices, places)
    places = places if isinstance(offsets, float) else places + offsets[:, None, None]
    # grid_sample takes (column, row), each from -1 to 1 over the outer edges of the border pixels
    grid = torch.stack([2 * places[..., 1] / width, 2 * places[..., 0] / height], -1)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def flip(images, generator, probability):
    """Mirror images left to right, each with a probability."""
    flipped = draw(images, generator, len(images)) < probability
    return torch.where(per_row(flipped, images), images.flip(3), images)


def rotation(images, generator, degrees):
    """Rotate each image about its center by up to `degrees`, in either direction."""
    most = math.radians(degrees)
    angles = draw(images, generator, len(images), low=-most, high=most)
    cos, sin = angles.cos(), angles.sin()
    return resample(images, torch.stack([cos, sin, -sin, cos], 1).view(-1, 2, 2))


def scale(images, generator, factor):
    """Enlarge each image by a number from 1 / (1 + factor) to 1 + factor about its center."""
    most = math.log1p(factor)
    zooms = draw(images, generator, len(images), low=-most, high=most).exp()
    return resample(images, identity(images) / zooms[:, None, None])


def crop(images, generator, share):
    """Cut off a `share` of height and width, and enlarge the rest to the old size."""
    places = draw(images, generator, len(images), 2, low=-share / 2, high=share / 2)
    offsets = torch.stack([places[:, 0] * images.shape[2], places[:, 1] * images.shape[3]], 1)
    return resample(images, (1 - share) * identity(images), offsets)


def color(images, generator, strength):
    """Change brightness, contrast and, of three channels, saturation.

    Each is multiplied by a number from ``1 - strength`` to ``1 + strength``.
    """
    low, high = 1 - strength, 1 + strength
    factors = draw(images, generator, 3, len(images), 1, 1, 1, low=low, high=high)
    brightness, contrast, saturation = factors
    images = images * brightness
    images = torch.lerp(images.mean((1, 2, 3), keepdim=True), images, contrast)
    if images.shape[1] == 3:
        gray = sum(share * images[:, i, None] for i, share in enumerate(GRAY))
        images = torch.lerp(gray, images, saturation)
    return images.clamp(0, 1)


def noise(images, generator, std):
    """Add Gaussian noise; `std` is a share of the range of pixels."""
    return (images + std * draw_normal(images, generator)).clamp(0, 1)


def blur(images, generator, share):
    """Blur with a Gaussian whose standard deviation is a `share` of the shorter side."""
    sigma = share * min(images.shape[2:])
    reach = max(1, math.ceil(4 * sigma))
    steps = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    weights = torch.softmax(-(steps**2) / (2 * sigma**2), 0)
    padded = images.flatten(0, 1)[:, None]  # the same kernel for each channel
    for axis in (2, 3):
        rows = [1, 1, 1, 1]
        rows[axis] = len(weights)
        border = [0, 0, reach, reach] if axis == 2 else [reach, reach, 0, 0]
        padded = functional.conv2d(functional.pad(padded, border, "replicate"), weights.view(rows))
    return padded.view(images.shape)


def occlusion(images, generator, share):
    """Cover a rectangle, a `share` of the area at a random place, with the mean of each channel."""
    inside = []
    for length in images.shape[2:]:
        covered = math.sqrt(share) * length
        first = draw(images, generator, len(images), 1, high=max(length - covered, 0))
        steps = torch.arange(length, device=images.device) + 0.5
        inside.append((steps >= first) & (steps < first + covered))
    covered = (inside[0][:, :, None] & inside[1][:, None])[:, None]
    return torch.where(covered, images.mean((2, 3), keepdim=True), images)
