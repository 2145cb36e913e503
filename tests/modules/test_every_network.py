"""Every network: padding and neighbors change nothing, gradients are right, states come back."""

import pytest
import torch
from torch.func import functional_call

from tests.modules._networks import (
    NETWORKS,
    having,
    make_batch,
    make_network,
    pad_more,
    pad_networks_more,
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
@pytest.mark.parametrize("kind", having("ragged"))
def test_more_padding_changes_nothing(kind, training, n_steps, monkeypatch):
    def run():
        network, batch = make_network(kind).train(training), make_batch(kind)
        out = network(**batch)
        (out * torch.arange(out.numel()).view_as(out)).sum().backward()
        return out, [p.grad for p in network.parameters()], network.state_dict()

    plain = run()
    calls = pad_networks_more(monkeypatch, n_steps)
    padded = run()
    assert calls == [5]  # else a network would be compared with itself
    torch.testing.assert_close(padded[0], plain[0])
    # float64, but gradients through batch norm cancel: an absolute tolerance
    torch.testing.assert_close(padded[1], plain[1], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(padded[2], plain[2])


def test_padding_is_really_longer_in_the_test_above():
    _, mask = pad_more(7)(torch.zeros(3, 2), torch.tensor([1, 2]))
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


@pytest.mark.parametrize("kind", having("scaled"))
def test_scale_standardizes_the_input(kind):
    network, batch = make_network(kind).eval(), make_batch(kind)
    name = NETWORKS[kind].scaled
    size = network.mean.numel()
    mean, std = torch.linspace(-1, 1, size).double(), torch.linspace(1, 3, size).double()
    expected = network(**batch)
    shape = (1, size, *[1] * (batch[name].ndim - 2))
    batch[name] = batch[name] * std.view(shape) + mean.view(shape)
    network.set_scale(mean, std)
    torch.testing.assert_close(network(**batch), expected)


LENGTHS = (3, 9, 1, 6, 4)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", having("n_tokens"))
def test_tokens_come_with_the_embedding_and_say_which_are_valid(kind, training):
    network, batch = make_network(kind).train(training), make_batch(kind, LENGTHS)
    embedded, values, valid = network.tokens(**batch)
    torch.testing.assert_close(embedded, network(**batch), rtol=0, atol=0)
    steps = [NETWORKS[kind].n_tokens(length) for length in LENGTHS]
    assert values.shape == (5, max(steps), network.token_features)
    assert valid.tolist() == [[step < own for step in range(max(steps))] for own in steps]
    assert not values[~valid].any()


@pytest.mark.parametrize("kind", having("pool"))
def test_embedding_is_computed_from_the_tokens(kind):
    network, batch = make_network(kind).eval(), make_batch(kind, LENGTHS)
    embedded, values, valid = network.tokens(**batch)
    for row, x in enumerate(values):
        pooled = NETWORKS[kind].pool(x[valid[row]])
        torch.testing.assert_close(network.embedding(pooled[None])[0], embedded[row])


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", having("ragged"))
def test_padding_leaves_valid_tokens_unchanged(kind, training, monkeypatch):
    network, batch = make_network(kind).train(training), make_batch(kind, LENGTHS)
    _, values, valid = network.tokens(**batch)
    pad_networks_more(monkeypatch, 5)
    _, more, more_valid = network.tokens(**batch)
    assert more.shape[1] > values.shape[1]
    assert more_valid.sum(1).tolist() == valid.sum(1).tolist()
    torch.testing.assert_close(more[more_valid], values[valid])


@pytest.mark.parametrize("kind", having("ragged"))
def test_networks_of_sequences_declare_fixed_shapes(kind):
    # A subclass does not inherit it: its own forward may need lengths.
    assert vars(type(make_network(kind)))["fixed_shapes"]
