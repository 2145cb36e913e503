"""The LSTM against a loop over steps; recordings of any length."""

import pytest
import torch

from sklearn_mmfusion.modules.audio import AudioCNN, AudioLSTM
from tests.modules._networks import N_MELS, make_batch, make_network


def run_lstm(lstm, sequence, suffix):
    """Hidden states of one direction of one sequence, step by step: (L, F) -> (L, H)."""
    weight_in, weight_hidden = (getattr(lstm, f"weight_{k}_l0{suffix}") for k in ("ih", "hh"))
    bias = getattr(lstm, f"bias_ih_l0{suffix}") + getattr(lstm, f"bias_hh_l0{suffix}")
    hidden = cell = torch.zeros(lstm.hidden_size, dtype=sequence.dtype)
    states = []
    for step in sequence:
        gates = weight_in @ step + weight_hidden @ hidden + bias
        enter, forget, new, leave = gates.chunk(4)
        cell = forget.sigmoid() * cell + enter.sigmoid() * new.tanh()
        hidden = leave.sigmoid() * cell.tanh()
        states.append(hidden)
    return torch.stack(states)


def test_lstm_equals_a_loop_over_steps():
    network, batch = make_network("audio_lstm").eval(), make_batch("audio_lstm")
    pooled = []
    for cell in batch["frames"].split(batch["frames_lengths"].tolist()):
        forward = run_lstm(network.recurrent.rnn, cell, "")
        backward = run_lstm(network.recurrent.rnn, cell.flip(0), "_reverse").flip(0)
        states = torch.cat([forward, backward], 1)
        pooled.append(torch.cat([states.mean(0), states.amax(0)]))
    torch.testing.assert_close(network(**batch), network.embedding(torch.stack(pooled)))


@pytest.mark.parametrize("network", [AudioCNN, AudioLSTM])
@pytest.mark.parametrize("n_mels", [1, 7, 40])
def test_one_frame_is_enough(network, n_mels):
    frames, lengths = torch.randn(3, n_mels), torch.tensor([1, 1, 1])
    assert network(n_mels, out_features=4)(frames, lengths).shape == (3, 4)


def test_cnn_tells_order_of_frames_apart():
    network, batch = make_network("audio_cnn").eval(), make_batch("audio_cnn", (12,))
    backward = batch | {"frames": batch["frames"].flip(0)}
    assert not torch.allclose(network(**batch), network(**backward))
    assert batch["frames"].shape == (12, N_MELS)
