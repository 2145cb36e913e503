"""Layers over padded batches against the same sums without padding."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sklearn_mmfusion.modules import layers
from sklearn_mmfusion.modules.audio import AudioCNN
from sklearn_mmfusion.modules.layers import MaskedBatchNorm, masked_mean_max, pad
from sklearn_mmfusion.modules.text import TextNetwork, bag

LENGTHS = st.lists(st.integers(0, 7), min_size=1, max_size=6)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(LENGTHS, st.integers(0, 2))
def test_pad_lays_sequences_side_by_side(lengths, n_axes):
    values = draw(sum(lengths), *[3] * n_axes)
    out, mask = pad(values, torch.tensor(lengths))
    assert out.shape == (len(lengths), max(1, *lengths, 1), *[3] * n_axes)
    for row, (length, cell) in enumerate(zip(lengths, values.split(lengths), strict=True)):
        assert mask[row].tolist() == [step < length for step in range(mask.shape[1])]
        assert torch.equal(out[row, :length], cell)
        assert not out[row, length:].any()


def packed(x, mask):
    """The valid steps of (N, C, L, ...) as the rows of a matrix (V ..., C)."""
    return x.movedim(1, -1)[mask].reshape(-1, x.shape[1])


@given(LENGTHS.filter(lambda lengths: sum(lengths) > 1), st.booleans(), st.booleans())
def test_masked_batch_norm_equals_batch_norm_of_the_valid_steps(lengths, spectrogram, training):
    x, mask = pad(draw(sum(lengths), 3), torch.tensor(lengths))
    x = x.transpose(1, 2)
    if spectrogram:
        x = x[..., None] * draw(2)
    masked, plain = MaskedBatchNorm(3).double(), nn.BatchNorm1d(3).double()
    for norm in (masked.norm, plain):
        norm.weight.data, norm.bias.data = draw(3, seed=1), draw(3, seed=2)
        norm.running_mean, norm.running_var = draw(3, seed=3), draw(3, seed=4) ** 2
        norm.train(training)
    x.requires_grad_()
    twin = x.detach().clone().requires_grad_()
    out, expected = masked(x, mask), plain(packed(twin, mask))
    torch.testing.assert_close(packed(out, mask), expected)
    assert not out.movedim(1, -1)[~mask].any()
    weights = draw(*expected.shape, seed=5)
    (packed(out, mask) * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(x.grad, twin.grad)
    torch.testing.assert_close(masked.norm.weight.grad, plain.weight.grad)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(masked.norm.state_dict()[name], value)


def test_masked_batch_norm_of_one_sequence_shape_equals_batch_norm_2d():
    x, mask = draw(4, 3, 5, 2), torch.ones(4, 5, dtype=torch.bool)
    torch.testing.assert_close(MaskedBatchNorm(3).double()(x, mask), nn.BatchNorm2d(3).double()(x))


@pytest.mark.parametrize("lengths", [[0, 0], [0, 1, 0]])
def test_masked_batch_norm_is_not_spoiled_by_a_batch_of_next_to_nothing(lengths):
    # Rows are sorted by length: empty texts meet in one batch.
    x, mask = pad(draw(sum(lengths), 3), torch.tensor(lengths))
    norm = MaskedBatchNorm(3).double()
    out = norm(x.transpose(1, 2), mask)
    assert out.isfinite().all()
    assert norm.norm.running_mean.isfinite().all()
    assert norm.norm.running_var.isfinite().all()


@given(LENGTHS)
def test_masked_mean_max_equals_numpy_row_by_row(lengths):
    values = draw(sum(lengths), 3) - 2  # mostly negative: padding must not win the maximum
    x, mask = pad(values, torch.tensor(lengths))
    x = x.transpose(1, 2).contiguous().requires_grad_()
    out = masked_mean_max(x, mask)
    for row, cell in enumerate(values.split(lengths)):
        expected = [cell.mean(0), cell.amax(0)] if len(cell) else [torch.zeros(3)] * 2
        np.testing.assert_allclose(out[row].detach(), np.concatenate(expected), atol=1e-12)
    out.sum().backward()
    assert x.grad.isfinite().all()
    assert not x.grad.transpose(1, 2)[~mask].any()


@given(LENGTHS)
def test_bag_equals_the_mean_of_the_rows_of_the_table(lengths):
    embedding = nn.EmbeddingBag(6, 4, mode="mean").double()
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(6, (sum(lengths),), generator=random)
    table = embedding.weight.detach().numpy()
    out = bag(embedding, ids, torch.tensor(lengths)).detach().numpy()
    for row, cell in enumerate(ids.split(lengths)):
        expected = table[cell.numpy()].mean(0) if len(cell) else np.zeros(4)
        np.testing.assert_allclose(out[row], expected, atol=1e-12)


# ------------------------------------------------------------------------------ long sequences


@pytest.mark.parametrize("size", [16, 48, 1000])
@pytest.mark.parametrize("channels", [(6,), (4, 6), (4, 4, 6)])
def test_long_recordings_are_pooled_in_chunks(monkeypatch, size, channels):
    lengths = torch.tensor([150, 0, 33, 97, 1, 301])
    frames = torch.randn(int(lengths.sum()), 13, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    network = AudioCNN(13, out_features=8, channels=channels)
    network(frames, lengths)  # running statistics that are not 0 and 1
    network.eval()
    whole = network.tokens(frames, lengths)[0]
    monkeypatch.setattr(layers, "CHUNK", 8)
    monkeypatch.setattr(layers, "MIN_CHUNK", size)
    torch.testing.assert_close(network(frames, lengths), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_long_texts_are_pooled_in_chunks(monkeypatch, kernel_size):
    lengths = torch.tensor([70, 0, 33, 51, 1, 100])
    ids = torch.randint(9, (int(lengths.sum()),), generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    network = TextNetwork(9, 9, 9, out_features=8, kernel_size=kernel_size)
    batch = (ids, lengths) * 3
    network(*batch)
    network.eval()
    whole = network.tokens(*batch)[0]
    monkeypatch.setattr(layers, "CHUNK", 8)
    monkeypatch.setattr(layers, "MIN_CHUNK", 7)
    sizes = []
    network.convolution.register_forward_hook(lambda _, inputs, x: sizes.append(x.shape[2]))
    torch.testing.assert_close(network(*batch), whole, rtol=1e-5, atol=1e-6)
    assert len(sizes) == 15 and max(sizes) == 7 + 2 * (kernel_size // 2)
    network.train()(*batch)  # gradients and batch statistics need the whole sequence
    assert sizes[15:] == [100]
