"""Convolutional network over sequences of different lengths."""

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


class TemporalConvNet(StandardizedNetwork):
    """Residual blocks of dilated convolutions over time, mean and maximum, one embedding.

    Block k has a dilation of 2^k. Unlike those of Bai, Kolter and Koltun (2018, arXiv:1803.01271),
    the convolutions see both sides: the whole sequence is known.

    Shape: frames (V, F), lengths (N,) int64, on the CPU -> (N, out_features).
    """

    fixed_shapes = True

    def __init__(
        self,
        in_features: int,
        out_features: int = 128,
        channels: int = 64,
        n_blocks: int = 4,
        kernel_size: int = 5,
        dropout: float = 0.3,
    ):
        super().__init__(in_features)
        self.out_features, self.token_features = out_features, channels
        self.stem = nn.Conv1d(in_features, channels, 1)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel_size, padding="same", dilation=2**k, bias=False)
            for k in range(n_blocks)
        )
        self.norms = nn.ModuleList(MaskedBatchNorm(channels) for _ in range(n_blocks))
        self.dropout = nn.Dropout(dropout)
        self.reach = kernel_size // 2 * (2**n_blocks - 1)
        self.embedding = Embedding(2 * channels, out_features, dropout)

    def forward(self, frames: Tensor, frames_lengths: Tensor) -> Tensor:
        pooled = pool_in_chunks(self, self._convolve, frames, frames_lengths, self.reach)
        return self.embedding(pooled)

    def tokens(self, frames: Tensor, frames_lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The embedding, and the steps it pools: (N, L, token_features), valid (N, L)."""
        x, mask = self._convolve(frames, frames_lengths)
        return self.embedding(masked_mean_max(x, mask)), x.transpose(1, 2), mask

    def _convolve(self, frames: Tensor, frames_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The last block, time last: (N, token_features, L), valid (N, L)."""
        x, mask = pad(self.standardize(frames), frames_lengths)  # (N, L, F), (N, L)
        valid = mask.to(x.device, non_blocking=True)[:, None]
        x = self.stem(x.transpose(1, 2)) * valid  # its bias would enter at the padding
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = x + self.dropout(functional.relu(norm(convolution(x), mask)))
        return x, mask
