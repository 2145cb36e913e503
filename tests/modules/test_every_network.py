"""Every network: padding and neighbors change nothing, gradients are right, states come back."""

import pytest
import torch
from torch.func import functional_call

from sklearn_mmfusion.modules import audio, text
from tests.modules._networks import (
    NETWORKS,
    RAGGED,
    make_batch,
    make_network,
    pad_more,
    rows_of,
)


@pytest.mark.parametrize("kind", NETWORKS)
def test_rows_do_not_see_one_another_in_evaluation(kind):
    network, batch = make_network(kind).eval(), make_batch(kind)
    together = network(**batch)
    for row in range(5):
        torch.testing.assert_close(network(**rows_of(batch, [row]))[0], together[row])
    order = [3, 0, 4, 2, 1]
    torch.testing.assert_close(network(**rows_of(batch, order)), together[order])


@pytest.mark.parametrize("n_steps", [1, 2, 7])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", RAGGED)
def test_more_padding_changes_nothing(kind, training, n_steps, monkeypatch):
    results = []
    for module in (None, audio, text):
        if module is not None:
            monkeypatch.setattr(module, "pad", pad_more(module.pad, n_steps))
        network, batch = make_network(kind).train(training), make_batch(kind)
        out = network(**batch)
        (out * torch.arange(out.numel()).view_as(out)).sum().backward()
        results.append((out, [p.grad for p in network.parameters()], network.state_dict()))
    plain, padded = results[0], results[-1]
    torch.testing.assert_close(padded[0], plain[0])
    # float64, but gradients through batch norm cancel: an absolute tolerance
    torch.testing.assert_close(padded[1], plain[1], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(padded[2], plain[2])


@pytest.mark.parametrize("kind", RAGGED)
def test_padding_is_really_longer_in_the_test_above(kind):
    _, mask = pad_more(audio.pad, 7)(torch.zeros(3, 2), torch.tensor([1, 2]))
    assert mask.shape == (2, 9)
    assert mask.sum() == 3


@pytest.mark.parametrize("kind", NETWORKS)
def test_gradients_equal_finite_differences(kind):
    network, batch = make_network(kind).train(), make_batch(kind)
    parameters = dict(network.named_parameters())
    random = torch.Generator().manual_seed(1)
    steps = {
        name: torch.randn(p.shape, generator=random, dtype=p.dtype)
        for name, p in parameters.items()
    }
    target = torch.randn(network(**batch).shape, generator=random, dtype=torch.float64)

    def loss(step):
        moved = {name: p + step * steps[name] for name, p in parameters.items()}
        return ((functional_call(network, moved, kwargs=batch) - target) ** 2).sum()

    grads = torch.autograd.grad(loss(0.0), parameters.values())
    slope = sum((g * s).sum() for g, s in zip(grads, steps.values(), strict=True))
    numeric = (loss(1e-6) - loss(-1e-6)) / 2e-6
    torch.testing.assert_close(slope, numeric, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", NETWORKS)
def test_state_comes_back_with_the_scale(kind):
    network, batch = make_network(kind), make_batch(kind)
    if hasattr(network, "set_scale"):
        size = network.mean.numel()
        network.set_scale(torch.arange(size).double(), torch.arange(size).double() + 2)
    network(**batch)  # moves running statistics
    other = make_network(kind, seed=1)
    assert not torch.allclose(other.eval()(**batch), network.eval()(**batch))
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(**batch), network(**batch))


@pytest.mark.parametrize("kind", ["audio_cnn", "audio_lstm", "image", "mlp"])
def test_scale_standardizes_the_input(kind):
    network, batch = make_network(kind).eval(), make_batch(kind)
    (name,) = [n for n in batch if not n.endswith("lengths")]
    size = network.mean.numel()
    mean, std = torch.linspace(-1, 1, size).double(), torch.linspace(1, 3, size).double()
    expected = network(**batch)
    shape = (1, size, 1, 1) if kind == "image" else (1, size)
    batch[name] = batch[name] * std.view(shape) + mean.view(shape)
    network.set_scale(mean, std)
    torch.testing.assert_close(network(**batch), expected)
