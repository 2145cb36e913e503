"""The image network: shapes, dtypes, and pooling before the activation."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from sklearn_mmfusion.modules.image import (
    CustomImageSetNetwork,
    GridPool,
    ImageCNN,
    max_pool,
    shift,
    standardize,
)
from tests.modules._networks import make_batch, make_network


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 4), st.integers(1, 6))
def test_any_size_gives_the_width_asked_for(height, width, in_channels, out_features):
    network = ImageCNN(in_channels, (height, width), out_features, channels=(2, 3))
    out = network(torch.randn(2, in_channels, height, width))
    assert out.shape == (2, out_features)
    assert out.dtype == torch.float32


def test_large_pictures_cost_no_large_last_layer():
    sizes = [
        sum(p.numel() for p in ImageCNN(1, (side, side), 8, channels=(2, 3)).parameters())
        for side in (16, 256)
    ]
    assert sizes[0] == sizes[1]


def test_pooling_before_the_activation_is_pooling_after_it(monkeypatch):
    network, batch = make_network("image"), make_batch("image")
    expected = network(**batch)
    pool, relu = functional.max_pool2d, functional.relu
    swapped = make_network("image")
    monkeypatch.setattr(functional, "max_pool2d", lambda x, *a, **k: pool(relu(x), *a, **k))
    torch.testing.assert_close(swapped(**batch), expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32])
def test_pixels_of_any_number_type_give_the_same(dtype):
    network = make_network("image").float().eval()
    pixels = torch.randint(256, (3, 2, 9, 8), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(network(pixels.to(dtype)), network(pixels.double()))


@given(
    st.sampled_from([torch.uint8, torch.float32, torch.float64]),
    st.sampled_from([torch.contiguous_format, torch.channels_last]),
    st.tuples(st.integers(0, 3), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)),
)
def test_standardized_pixels_are_those_of_the_formula_and_the_input_stays(dtype, order, shape):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, shape, generator=generator).to(dtype, memory_format=order)
    mean, std = 100 * torch.rand(2, 1, shape[1], 1, 1, generator=generator) + 1
    before = pixels.clone()
    result = standardize(pixels, mean, std)
    torch.testing.assert_close(result, (before.float() - mean) / std)
    assert torch.equal(pixels, before)
    assert result.is_contiguous(memory_format=torch.channels_last)


@given(
    st.sampled_from([torch.float32, torch.bfloat16]),
    st.sampled_from([torch.contiguous_format, torch.channels_last]),
    st.tuples(st.integers(0, 3), st.integers(1, 4), st.integers(2, 9), st.integers(2, 9)),
    st.tuples(st.sampled_from([1, 2]), st.sampled_from([1, 2])),
)
def test_pooling_without_gradients_is_that_of_torch(dtype, order, shape, pool):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    x = x.to(dtype, memory_format=order)
    with torch.inference_mode():
        assert torch.equal(max_pool(x, pool), functional.max_pool2d(x, pool))


def test_gradients_reach_the_pixels():
    pixels = torch.rand(2, 3, 4, 5, requires_grad=True)
    std = torch.tensor([1.0, 2.0, 4.0]).view(1, 3, 1, 1)
    standardize(pixels, torch.zeros(1, 3, 1, 1), std).sum().backward()
    torch.testing.assert_close(pixels.grad, (1 / std).expand_as(pixels))


def test_shift_moves_whole_pictures_and_repeats_the_border():
    torch.manual_seed(0)
    rows, columns = torch.meshgrid(torch.arange(20), torch.arange(30), indexing="ij")
    images = torch.stack([rows, columns]).expand(50, 2, 20, 30)
    moved = shift(images, 0.1)
    offsets = torch.stack([moved[:, 0, 10, 0] - 10, moved[:, 1, 0, 15] - 15], 1)
    assert offsets.amin(0).tolist() == [-2, -3]
    assert offsets.amax(0).tolist() == [2, 3]
    for image, (down, right) in zip(moved, offsets, strict=True):
        assert torch.equal(image[0], (rows + down).clamp(0, 19))
        assert torch.equal(image[1], (columns + right).clamp(0, 29))


def test_images_are_moved_in_training_only():
    network, batch = make_network("image"), make_batch("image")
    network.max_shift = 0.5
    torch.testing.assert_close(network.eval()(**batch), network(**batch))
    moved = [network.train()(**batch) for _ in range(2)]
    assert not torch.allclose(*moved)


@pytest.mark.parametrize("size", [8, 4])  # a block that pools, then one that does not; none that do
def test_what_a_hook_is_told_stays_as_it_was(size):
    network, told = ImageCNN(1, (size, size), 2, channels=(3, 4)), []
    norm = network.norms[-1]
    norm.register_forward_hook(lambda module, given, output: told.append((output, output.clone())))
    norm.register_full_backward_hook(lambda module, *gradients: told.append(gradients))
    network(torch.rand(4, 1, size, size)).sum().backward()
    (output, copy), _ = told
    torch.testing.assert_close(output, copy)
    assert (output < 0).any()


@given(
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.sampled_from([torch.float32, torch.float64]),
    st.booleans(),
)
def test_grid_pool_is_adaptive_average_pooling(size, grid, dtype, expected_size):
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0), dtype=dtype)
    x = x.to(memory_format=torch.channels_last)
    pool = GridPool(size if expected_size else (7, 11), grid).to(dtype)
    ours, torchs = x.clone().requires_grad_(), x.clone().requires_grad_()
    result, expected = pool(ours), functional.adaptive_avg_pool2d(torchs, grid)
    torch.testing.assert_close(result, expected)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1), dtype=dtype)
    (result * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(ours.grad, torchs.grad)


@pytest.mark.parametrize("size", [(4, 4), (3, 2), (8, 4), (16, 28)])
def test_grid_pool_has_the_bits_of_torch_where_the_grid_divides_the_size(size):
    grid = tuple(min(length, 4) for length in size)
    x = torch.randn(5, 3, *size, generator=torch.Generator().manual_seed(0))
    x = x.to(memory_format=torch.channels_last)
    assert torch.equal(GridPool(size, grid)(x), functional.adaptive_avg_pool2d(x, grid))


@pytest.mark.parametrize("size", [16, 32, 44])  # the grid itself, a multiple, no multiple
def test_nothing_in_the_network_has_random_gradients_on_a_gpu(size):
    # Operations that raise on a GPU under `torch.use_deterministic_algorithms`.
    network = ImageCNN(1, (size, size), 2, channels=(3, 4))
    with torch.profiler.profile() as profile:
        network(torch.rand(4, 1, size, size)).sum().backward()
    names = {event.key for event in profile.key_averages()}
    assert "aten::max_pool2d_with_indices_backward" in names  # the backward pass was seen
    assert not any("adaptive" in name or "upsample" in name for name in names)


def test_pooling_weights_are_no_state():
    assert not [name for name in ImageCNN(1, (20, 20), 2).state_dict() if "cells" in name]


def test_custom_networks_of_sets_declare_no_masks():
    # Their statistics would count the padding of the fixed layout.
    assert "fixed_shapes" not in vars(CustomImageSetNetwork)
