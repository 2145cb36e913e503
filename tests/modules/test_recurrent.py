"""The GRU against a loop over steps; convolutions before it and dilated ones, by hand."""

import torch
from torch.nn import functional

from tests.modules._networks import make_batch, make_network


def run_gru(gru, sequence, suffix):
    """Hidden states of one direction of one sequence, step by step: (L, F) -> (L, H)."""
    weights = [getattr(gru, f"{kind}_l0{suffix}") for kind in ("weight_ih", "weight_hh")]
    biases = [getattr(gru, f"{kind}_l0{suffix}") for kind in ("bias_ih", "bias_hh")]
    hidden, states = torch.zeros(gru.hidden_size, dtype=sequence.dtype), []
    for step in sequence:
        reset, update, new = (weights[0] @ step + biases[0]).chunk(3)
        reset_, update_, new_ = (weights[1] @ hidden + biases[1]).chunk(3)
        reset, update = (reset + reset_).sigmoid(), (update + update_).sigmoid()
        hidden = (1 - update) * (new + reset * new_).tanh() + update * hidden
        states.append(hidden)
    return torch.stack(states)


def run_both(gru, sequence):
    backward = run_gru(gru, sequence.flip(0), "_reverse").flip(0)
    return torch.cat([run_gru(gru, sequence, ""), backward], 1)


def sequences(batch):
    return batch["frames"].split(batch["frames_lengths"].tolist())


def test_gru_equals_a_loop_over_steps():
    network, batch = make_network("gru").eval(), make_batch("gru")
    states = [run_both(network.recurrent.rnn, cell) for cell in sequences(batch)]
    pooled = torch.stack([torch.cat([s.mean(0), s.amax(0)]) for s in states])
    torch.testing.assert_close(network(**batch), network.embedding(pooled))


def test_convolutional_recurrent_network_equals_a_loop_over_sequences():
    network, batch = make_network("audio_crnn").eval(), make_batch("audio_crnn")
    pooled = []
    for cell in sequences(batch):
        x = functional.conv1d(cell.T[None], network.convolution.weight, padding=2)[0].T
        x = (x / (1 + network.norm.norm.eps) ** 0.5).relu()  # untrained: mean 0, variance 1
        halved = torch.stack([pair.amax(0) for pair in x.split(2)])
        states = run_both(network.recurrent.rnn, halved)
        pooled.append(torch.cat([states.mean(0), states.amax(0)]))
    torch.testing.assert_close(network(**batch), network.embedding(torch.stack(pooled)))


def test_dilated_convolutions_equal_sums_over_neighbors():
    network, batch = make_network("tcn").eval(), make_batch("tcn")
    pooled = []
    for cell in sequences(batch):
        x = cell @ network.stem.weight[:, :, 0].T + network.stem.bias
        for k, convolution in enumerate(network.convolutions):
            total = torch.zeros_like(x)
            for tap, shift in enumerate((-(2**k), 0, 2**k)):
                for step in range(len(x)):
                    if 0 <= step + shift < len(x):
                        total[step] += convolution.weight[:, :, tap] @ x[step + shift]
            x = x + (total / (1 + network.norms[k].norm.eps) ** 0.5).relu()
        pooled.append(torch.cat([x.mean(0), x.amax(0)]))
    torch.testing.assert_close(network(**batch), network.embedding(torch.stack(pooled)))
