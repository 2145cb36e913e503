"""Networks over log-mel frames of recordings of different lengths."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from sklearn_mmfusion.modules.layers import (
    Embedding,
    MaskedBatchNorm,
    masked_mean_max,
    pad,
    pool_in_chunks,
)


class AudioCNN(nn.Module):
    """2-D convolutions over the spectrogram, mean and maximum over time, one embedding.

    The first convolution is 5 x 5 with a stride of two, the others are 3 x 3 and followed by
    max pooling: each block halves the frequency axis and the time axis, and masks the padding
    again.

    Shape: frames (V, F), lengths (N,) int64, on the CPU -> (N, out_features).
    """

    fixed_shapes = True

    def __init__(
        self,
        n_mels: int,
        out_features: int = 128,
        channels: tuple[int, ...] = (16, 32, 64),
        dropout: float = 0.3,
    ):
        super().__init__()
        self.out_features = out_features
        self.register_buffer("mean", torch.zeros(n_mels))
        self.register_buffer("std", torch.ones(n_mels))
        self.stem = nn.Conv2d(1, channels[0], 5, stride=2, padding=2, bias=False)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(i, o, 3, padding=1, bias=False)
            for i, o in zip(channels, channels[1:], strict=False)
        )
        self.to(memory_format=torch.channels_last)
        self.norms = nn.ModuleList(MaskedBatchNorm(c) for c in channels)
        bands = n_mels
        for _ in channels:
            bands = -(-bands // 2)
        self.token_features = channels[-1] * bands
        self.embedding = Embedding(2 * self.token_features, out_features, dropout)

    def set_scale(self, mean: Tensor, std: Tensor) -> None:
        """Set the mean and standard deviation of each band, (F,) each."""
        self.mean.copy_(mean)
        self.std.copy_(std)

    def forward(self, frames: Tensor, frames_lengths: Tensor) -> Tensor:
        # Block k has steps of 2^(k + 1) frames. Its output depends on one more step of its input on
        # each side, the first one on two: on 2, 2, 4, 8, ... frames, 2^n of all n blocks.
        stride = 2 ** len(self.norms)
        pooled = pool_in_chunks(self, self._convolve, frames, frames_lengths, stride, stride)
        return self.embedding(pooled)

    def tokens(self, frames: Tensor, frames_lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The embedding, and the steps it pools: (N, L', token_features), valid (N, L')."""
        x, mask = self._convolve(frames, frames_lengths)
        return self.embedding(masked_mean_max(x, mask)), x.transpose(1, 2), mask

    def _convolve(self, frames: Tensor, frames_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The last block, time last: (N, token_features, L'), valid (N, L')."""
        x, mask = pad((frames - self.mean) / self.std, frames_lengths)  # (N, L, F), (N, L)
        x = x[:, None].contiguous(memory_format=torch.channels_last)  # (N, 1, L, F)
        mask = mask[:, ::2]
        x = functional.relu(self.norms[0](self.stem(x), mask))
        for convolution, norm in zip(self.convolutions, self.norms[1:], strict=True):
            x = functional.relu(norm(convolution(x), mask))
            # Padding is zero and the activations are not negative: it never wins the maximum.
            x = functional.max_pool2d(x, 2, ceil_mode=True)
            mask = mask[:, ::2]
        return x.transpose(2, 3).flatten(1, 2), mask  # (N, C, L', F') -> (N, C F', L')


class AudioLSTM(nn.Module):
    """Bidirectional LSTM over frames, mean and maximum over time, one embedding.

    Shape: frames (V, F), lengths (N,) int64, on the CPU -> (N, out_features). Sequences are
    packed, or in the fixed layout reversed by index: the padding enters neither direction.
    """

    fixed_shapes = True

    def __init__(
        self,
        n_mels: int,
        out_features: int = 128,
        hidden_size: int = 64,
        num_layers: int = 1,
        dropout: float = 0.3,
    ):
        super().__init__()
        self.out_features = out_features
        self.register_buffer("mean", torch.zeros(n_mels))
        self.register_buffer("std", torch.ones(n_mels))
        self.lstm = nn.LSTM(
            n_mels,
            hidden_size,
            num_layers,
            batch_first=True,
            bidirectional=True,
            dropout=dropout if num_layers > 1 else 0.0,
        )
        self.token_features = 2 * hidden_size
        self.embedding = Embedding(2 * self.token_features, out_features, dropout)

    set_scale = AudioCNN.set_scale

    def forward(self, frames: Tensor, frames_lengths: Tensor) -> Tensor:
        return self.tokens(frames, frames_lengths)[0]

    def tokens(self, frames: Tensor, frames_lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The embedding, and the steps it pools: (N, L', token_features), valid (N, L')."""
        x, mask = pad((frames - self.mean) / self.std, frames_lengths)
        x = self._run_padded(x, mask) if frames_lengths.ndim == 2 else self._run(x, frames_lengths)
        return self.embedding(masked_mean_max(x.transpose(1, 2), mask)), x, mask

    def _run(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Outputs of both directions: (N, L, F), lengths (N,) -> (N, L, 2 H)."""
        # Sorted here, where the lengths are: packing would wait for the device to sort them back.
        order = lengths.argsort(descending=True)
        there = order.to(x.device, non_blocking=True)
        packed = nn.utils.rnn.pack_padded_sequence(
            x.index_select(0, there), lengths[order], batch_first=True
        )
        steps, _ = nn.utils.rnn.pad_packed_sequence(
            self.lstm(packed)[0], batch_first=True, total_length=x.shape[1]
        )
        return torch.empty_like(steps).index_copy(0, there, steps)

    def _run_padded(self, x: Tensor, mask: Tensor) -> Tensor:
        """The same with a mask (N, L). Packing needs lengths on the CPU."""
        lengths = mask.sum(1, keepdim=True)
        steps = torch.arange(mask.shape[1], device=mask.device)
        # Each sequence backwards, its padding where it is: its own inverse
        turned = torch.where(mask, lengths - 1 - steps, steps)
        for layer in range(self.lstm.num_layers):
            if layer:
                x = functional.dropout(x, self.lstm.dropout, self.training)
            forwards = self._run_direction(x, layer, "")
            backwards = self._run_direction(_reorder(x, turned), layer, "_reverse")
            x = torch.cat([forwards, _reorder(backwards, turned)], 2)
        return torch.where(mask[..., None], x, 0.0)

    def _run_direction(self, x: Tensor, layer: int, suffix: str) -> Tensor:
        parts = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        weights = [getattr(self.lstm, f"{part}_l{layer}{suffix}") for part in parts]
        # cuDNN wants them end to end in memory, and warns while it copies them there.
        ends = torch.cat([weight.flatten() for weight in weights]).split(
            [weight.numel() for weight in weights]
        )
        weights = [end.view_as(weight) for end, weight in zip(ends, weights, strict=True)]
        start = x.new_zeros(1, len(x), self.lstm.hidden_size)
        return torch.lstm(x, (start, start), weights, True, 1, 0.0, self.training, False, True)[0]


def _reorder(x: Tensor, order: Tensor) -> Tensor:
    """Steps in another order: x (N, L, C), order (N, L) -> (N, L, C)."""
    return x.gather(1, order[..., None].expand_as(x))
