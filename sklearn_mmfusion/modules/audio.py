"""Networks over log-mel frames of recordings of different lengths."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from sklearn_mmfusion.modules.layers import (
    Embedding,
    MaskedBatchNorm,
    StandardizedNetwork,
    masked_mean_max,
    pad,
    pool_in_chunks,
)
from sklearn_mmfusion.modules.recurrent import ConvolutionalRecurrentNetwork, RecurrentNetwork


class AudioCNN(StandardizedNetwork):
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
        super().__init__(n_mels)
        self.out_features = out_features
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
        x, mask = pad(self.standardize(frames), frames_lengths)  # (N, L, F), (N, L)
        x = x[:, None].contiguous(memory_format=torch.channels_last)  # (N, 1, L, F)
        mask = mask[:, ::2]
        x = functional.relu(self.norms[0](self.stem(x), mask))
        for convolution, norm in zip(self.convolutions, self.norms[1:], strict=True):
            x = functional.relu(norm(convolution(x), mask))
            # Padding is zero and the activations are not negative: it never wins the maximum.
            x = functional.max_pool2d(x, 2, ceil_mode=True)
            mask = mask[:, ::2]
        return x.transpose(2, 3).flatten(1, 2), mask  # (N, C, L', F') -> (N, C F', L')


class AudioLSTM(RecurrentNetwork):
    """Bidirectional LSTM over frames, mean and maximum over time, one embedding.

    Shape: frames (V, F), lengths (N,) int64, on the CPU -> (N, out_features).
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
        super().__init__(n_mels, out_features, "lstm", hidden_size, num_layers, dropout)


class AudioCRNN(ConvolutionalRecurrentNetwork):
    """A convolution over the frames, max pooling, a bidirectional GRU, one embedding.

    Shape: frames (V, F), lengths (N,) int64, on the CPU -> (N, out_features).
    """

    fixed_shapes = True

    def __init__(
        self,
        n_mels: int,
        out_features: int = 128,
        channels: int = 96,
        hidden_size: int = 64,
        dropout: float = 0.3,
    ):
        sizes = {"channels": channels, "hidden_size": hidden_size}
        super().__init__(n_mels, out_features, **sizes, dropout=dropout)
