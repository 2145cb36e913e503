"""A batch in which a single row has a modality: only normalization changes its mode."""

import pytest
import torch
from torch import nn

from sklearn_mmfusion.modules.fusion import ConcatFusion
from sklearn_mmfusion.modules.fusion_network import FusionNetwork
from sklearn_mmfusion.modules.layers import MaskedBatchNorm, running_statistics
from tests.modules._networks import make_batch, make_network


class CustomNorm(nn.Module):
    """Batch normalization as a user writes it, with a layer inside."""

    def __init__(self, width):
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(width))
        self.inner = nn.Dropout(0.5)

    def forward(self, x):
        mean = x.mean(0) if self.training else self.running_mean
        if self.training:
            self.running_mean.lerp_(mean.detach(), 0.1)
        return x - mean


class Sequences(nn.Module):
    """An encoder with an LSTM, dropout and three kinds of normalization, one of them frozen."""

    out_features = 4

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, num_layers=2, dropout=0.5, batch_first=True)
        self.batch, self.custom, self.frozen = nn.BatchNorm1d(4), CustomNorm(4), nn.BatchNorm1d(4)
        self.masked = MaskedBatchNorm(4)
        self.layer, self.drop = nn.LayerNorm(4), nn.Dropout(0.5)
        self.fail = False

    def forward(self, x):
        self.seen = modes(self)
        x = self.frozen(self.custom(self.batch(self.lstm(x)[0][:, -1])))
        if self.fail:
            raise RuntimeError("a failure inside the network")
        x = self.masked(x[:, :, None], torch.ones(len(x), 1, dtype=torch.bool))[..., 0]
        return self.drop(self.layer(x))


def modes(module):
    return {name: layer.training for name, layer in module.named_modules()}


def make_joint():
    encoders = {"a": Sequences(), "b": nn.Linear(2, 4)}
    encoders["b"].out_features = 4
    network = FusionNetwork(encoders, ConcatFusion([4, 4], 4), nn.Linear(4, 2)).train()
    encoders["a"].frozen.eval()
    return network, encoders["a"]


def batch_of(n_rows):
    mask = torch.ones(3, 2, dtype=torch.bool)
    mask[n_rows:, 0] = False
    return mask, {"a.x": torch.randn(n_rows, 5, 3), "b.input": torch.randn(3, 2)}


def test_only_normalization_changes_its_mode_and_all_comes_back():
    network, encoder = make_joint()
    before, buffers = modes(network), [b.clone() for b in encoder.buffers()]
    mask, batch = batch_of(1)
    network(mask, **batch)[0].sum().backward()
    changed = {name for name, training in encoder.seen.items() if not training}
    assert changed == {"batch", "custom", "frozen", "masked.norm"}
    assert modes(network) == before
    assert not encoder.frozen.training
    # the statistics stay as they were
    assert all(torch.equal(b, old) for b, old in zip(encoder.buffers(), buffers, strict=True))
    assert all(p.grad is not None for p in encoder.lstm.parameters())


def test_two_rows_are_normalized_by_their_own_statistics():
    network, encoder = make_joint()
    mask, batch = batch_of(2)
    network(mask, **batch)
    assert [name for name, training in encoder.seen.items() if not training] == ["frozen"]
    assert encoder.batch.num_batches_tracked == 1


def test_modes_come_back_after_an_error():
    network, encoder = make_joint()
    encoder.fail, before = True, modes(network)
    mask, batch = batch_of(1)
    with pytest.raises(RuntimeError, match="inside the network"):
        network(mask, **batch)
    assert modes(network) == before


@pytest.mark.parametrize("kind", ["audio_cnn", "audio_lstm", "text", "image"])
def test_a_lone_row_is_computed_as_in_evaluation(kind):
    # The networks of these tests draw nothing at random, so that only normalization differs.
    network, batch = make_network(kind), make_batch(kind, lengths=(5,))
    expected = network.eval()(**batch)
    network.train()
    with running_statistics(network):
        torch.testing.assert_close(network(**batch), expected)
    assert all(modes(network).values())
