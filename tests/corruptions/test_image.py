"""Corruptions of images, compared with scipy."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from sklearn_mmfusion.corruptions import image


def make_images(channels=1):
    pixels = np.random.default_rng(0).random((3, channels, 9, 14))
    return torch.from_numpy(ndimage.gaussian_filter(pixels, (0, 0, 1, 1)))


def seeded():
    return torch.Generator().manual_seed(0)


def drawn(*shape, low, high):
    """What the function under test draws first."""
    return low + (high - low) * torch.rand(shape, generator=seeded()).double().numpy()


def test_rotation_equals_scipy():
    images = make_images()
    angles = np.degrees(drawn(3, low=-math.radians(30), high=math.radians(30)))
    found = image.rotation(images, seeded(), 30.0)
    for pixels, angle, rotated in zip(images[:, 0], angles, found[:, 0], strict=True):
        expected = ndimage.rotate(pixels, angle, reshape=False, order=1, mode="nearest")
        assert np.abs(rotated.numpy() - expected).max() < 1e-9
    assert np.abs(angles).max() > 10  # the comparison sees a rotation


def affine(pixels, factor, offset):
    center = (np.array(pixels.shape) - 1) / 2
    start = center - factor * center + offset
    return ndimage.affine_transform(pixels, np.eye(2) * factor, start, order=1, mode="nearest")


def test_scale_equals_scipy():
    images, most = make_images(), math.log1p(0.5)
    zooms = np.exp(drawn(3, low=-most, high=most))
    for pixels, zoom, scaled in zip(images, zooms, image.scale(images, seeded(), 0.5), strict=True):
        expected = affine(pixels[0].numpy(), 1 / zoom, 0)
        assert np.abs(scaled[0].numpy() - expected).max() < 1e-9


def test_crop_equals_scipy():
    images = make_images()
    places = drawn(3, 2, low=-0.2, high=0.2) * [9, 14]
    for pixels, place, cut in zip(images, places, image.crop(images, seeded(), 0.4), strict=True):
        expected = affine(pixels[0].numpy(), 0.6, place)
        assert np.abs(cut[0].numpy() - expected).max() < 1e-9


def test_blur_equals_scipy():
    images = make_images(2)
    expected = ndimage.gaussian_filter(images.numpy(), (0, 0, 0.9, 0.9), mode="nearest")
    assert np.abs(image.blur(images, None, 0.1).numpy() - expected).max() < 1e-4
    assert np.abs(expected - images.numpy()).max() > 0.02


def test_noise_has_the_standard_deviation():
    gray = torch.full((1, 1, 200, 200), 0.5)
    assert image.noise(gray, seeded(), 0.1).std() == pytest.approx(0.1, rel=0.02)


def test_color_factors():
    images = make_images(3).clamp(0.4, 0.6)
    brightness, contrast, saturation = drawn(3, 3, 1, 1, 1, low=0.8, high=1.2)
    expected = images.numpy() * brightness
    mean = expected.mean((1, 2, 3), keepdims=True)
    expected = mean + contrast * (expected - mean)
    gray = np.tensordot(expected, [0.299, 0.587, 0.114], ([1], [0]))[:, None]
    expected = gray + saturation * (expected - gray)
    assert np.abs(image.color(images, seeded(), 0.2).numpy() - expected).max() < 1e-12


def test_occlusion_covers_its_share():
    images = torch.rand(20, 2, 50, 40)
    changed = image.occlusion(images, seeded(), 0.2) != images
    assert (changed[:, 0] == changed[:, 1]).all()
    shares = changed[:, 0].double().mean((1, 2))
    assert (shares - 0.2).abs().max() < 0.02
    assert len(changed[:, 0].flatten(1).unique(dim=0)) > 1  # at other places


def test_flip_mirrors_some_images():
    images = torch.rand(200, 1, 2, 3)
    flipped = image.flip(images, seeded(), 0.3)
    same, mirrored = ((flipped == x).flatten(1).all(1) for x in (images, images.flip(3)))
    assert (same ^ mirrored).all()
    assert mirrored.double().mean() == pytest.approx(0.3, abs=0.1)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, (0, 1)), (0, 7, (0, 7)), (-2, 3, (-2, 3)), (10, 900, (0, 900)), (-3, -1, (-3, 0))],
)
def test_pixel_range(low, high, expected):
    assert image.pixel_range(low, high) == expected
