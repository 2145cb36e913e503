"""Recurrent layers and networks over sequences of different lengths."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from sklearn_mmfusion.modules.layers import (
    Embedding,
    MaskedBatchNorm,
    StandardizedNetwork,
    masked_mean_max,
    pad,
)

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU}


class BidirectionalRNN(nn.Module):
    """LSTM or GRU in both directions; the padding enters neither.

    Gathered sequences are packed; those in the fixed layout are reversed by index, because packing
    needs lengths on the CPU. Sequences may be empty.

    Shape: x (N, L, in_features), lengths (N,) int64 on the CPU, or the mask (N, L)
    -> (N, L, 2 hidden_size), zero where padded.
    """

    def __init__(
        self,
        cell: str,
        in_features: int,
        hidden_size: int = 64,
        num_layers: int = 1,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.cell, self.out_features = cell, 2 * hidden_size
        self.rnn = CELLS[cell](
            in_features,
            hidden_size,
            num_layers,
            batch_first=True,
            bidirectional=True,
            dropout=dropout if num_layers > 1 else 0.0,
        )

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self._run_padded(x, lengths) if lengths.ndim == 2 else self._run(x, lengths)

    def _run(self, x: Tensor, lengths: Tensor) -> Tensor:
        # Sorted here, where the lengths are: packing would wait for the device to sort them back.
        order = lengths.argsort(descending=True)
        there = order.to(x.device, non_blocking=True)
        packed = nn.utils.rnn.pack_padded_sequence(
            x.index_select(0, there), lengths[order].clamp(min=1), batch_first=True
        )
        steps, _ = nn.utils.rnn.pad_packed_sequence(
            self.rnn(packed)[0], batch_first=True, total_length=x.shape[1]
        )
        if not lengths.all():  # packing needs a step: that of an empty sequence is padding
            steps[(lengths > 0).sum() :] = 0.0
        return torch.empty_like(steps).index_copy(0, there, steps)

    def _run_padded(self, x: Tensor, mask: Tensor) -> Tensor:
        lengths = mask.sum(1, keepdim=True)
        steps = torch.arange(mask.shape[1], device=mask.device)
        # Each sequence backwards, its padding where it is: its own inverse
        turned = torch.where(mask, lengths - 1 - steps, steps)
        for layer in range(self.rnn.num_layers):
            if layer:
                x = functional.dropout(x, self.rnn.dropout, self.training)
            forwards = self._run_direction(x, layer, "")
            backwards = self._run_direction(_reorder(x, turned), layer, "_reverse")
            x = torch.cat([forwards, _reorder(backwards, turned)], 2)
        return torch.where(mask[..., None], x, 0.0)

    def _run_direction(self, x: Tensor, layer: int, suffix: str) -> Tensor:
        parts = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        weights = [getattr(self.rnn, f"{part}_l{layer}{suffix}") for part in parts]
        # cuDNN wants them end to end in memory, and warns while it copies them there.
        ends = torch.cat([weight.flatten() for weight in weights]).split(
            [weight.numel() for weight in weights]
        )
        weights = [end.view_as(weight) for end, weight in zip(ends, weights, strict=True)]
        start = x.new_zeros(1, len(x), self.rnn.hidden_size)
        start = (start, start) if self.cell == "lstm" else start
        run = {"lstm": torch.lstm, "gru": torch.gru}[self.cell]
        return run(x, start, weights, True, 1, 0.0, self.training, False, True)[0]


def _reorder(x: Tensor, order: Tensor) -> Tensor:
    """Steps in another order: x (N, L, C), order (N, L) -> (N, L, C)."""
    return x.gather(1, order[..., None].expand_as(x))


class RecurrentNetwork(StandardizedNetwork):
    """Recurrent layers in both directions, mean and maximum over time, one embedding.

    Shape: frames (V, F), lengths (N,) int64, on the CPU -> (N, out_features).
    """

    fixed_shapes = True

    def __init__(
        self,
        in_features: int,
        out_features: int = 128,
        cell: str = "lstm",
        hidden_size: int = 64,
        num_layers: int = 1,
        dropout: float = 0.3,
    ):
        super().__init__(in_features)
        self.out_features = out_features
        self.recurrent = BidirectionalRNN(cell, in_features, hidden_size, num_layers, dropout)
        self.token_features = self.recurrent.out_features
        self.embedding = Embedding(2 * self.token_features, out_features, dropout)

    def forward(self, frames: Tensor, frames_lengths: Tensor) -> Tensor:
        return self.tokens(frames, frames_lengths)[0]

    def tokens(self, frames: Tensor, frames_lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The embedding, and the steps it pools: (N, L', token_features), valid (N, L')."""
        x, mask = pad(self.standardize(frames), frames_lengths)
        x = self.recurrent(x, frames_lengths)
        return self.embedding(masked_mean_max(x.transpose(1, 2), mask)), x, mask


class ConvolutionalRecurrentNetwork(RecurrentNetwork):
    """A convolution over time, max pooling, recurrent layers, mean and maximum, one embedding.

    The convolution sees `kernel_size` frames; pooling halves their number before the recurrent
    layers, which take most of the time.

    Shape: frames (V, F), lengths (N,) int64, on the CPU -> (N, out_features).
    """

    fixed_shapes = True

    def __init__(
        self,
        in_features: int,
        out_features: int = 128,
        cell: str = "gru",
        channels: int = 96,
        kernel_size: int = 5,
        hidden_size: int = 64,
        num_layers: int = 1,
        dropout: float = 0.3,
    ):
        super().__init__(channels, out_features, cell, hidden_size, num_layers, dropout)
        self.register_buffer("mean", torch.zeros(in_features))
        self.register_buffer("std", torch.ones(in_features))
        self.convolution = nn.Conv1d(in_features, channels, kernel_size, padding="same", bias=False)
        self.norm = MaskedBatchNorm(channels)

    def tokens(self, frames: Tensor, frames_lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The embedding, and the steps it pools: (N, L', token_features), valid (N, L')."""
        x, mask = pad(self.standardize(frames), frames_lengths)  # (N, L, F), (N, L)
        x = functional.relu(self.norm(self.convolution(x.transpose(1, 2)), mask))
        # Padding is zero and the activations are not negative: it never wins the maximum.
        x, mask = functional.max_pool1d(x, 2, ceil_mode=True), mask[:, ::2]
        lengths = mask if frames_lengths.ndim == 2 else (frames_lengths + 1) // 2
        x = self.recurrent(x.transpose(1, 2), lengths)
        return self.embedding(masked_mean_max(x.transpose(1, 2), mask)), x, mask
