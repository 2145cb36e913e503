"""Network over the frames of clips of different lengths."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from sklearn_mmfusion.modules.fusion import masked_softmax
from sklearn_mmfusion.modules.image import ImageCNN, encode_each
from sklearn_mmfusion.modules.layers import Embedding, FixedShapes, masked_mean_max, pad
from sklearn_mmfusion.modules.recurrent import BidirectionalRNN


class RecurrentPooling(nn.Module):
    """Recurrent layers in both directions, mean and maximum over the valid steps.

    Shape: x (N, L, in_features), lengths (N,) or the mask (N, L), mask (N, L)
    -> steps (N, L, token_features), zero where masked, and (N, 2 token_features).
    """

    def __init__(self, cell: str, in_features: int, hidden_size: int = 64):
        super().__init__()
        self.recurrent = BidirectionalRNN(cell, in_features, hidden_size)
        self.token_features = self.recurrent.out_features

    def forward(self, x: Tensor, lengths: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        x = self.recurrent(x, lengths)
        return x, masked_mean_max(x.transpose(1, 2), mask)


class AttentionPooling(nn.Module):
    """Means over the valid steps, each weighted by learned scores.

    Steps also contain their place, from the first to the last: without it, their order would not
    matter.

    Shape: as `RecurrentPooling`.
    """

    def __init__(self, in_features: int, num_heads: int = 8):
        super().__init__()
        self.token_features = in_features
        # From half a turn to four turns between the first step and the last
        self.register_buffer("turns", math.pi * 2.0 ** torch.arange(4), persistent=False)
        self.place = nn.Linear(2 * len(self.turns), in_features)
        self.mix = nn.Linear(in_features, in_features)
        self.score = nn.Linear(in_features, num_heads)
        self.join = nn.Linear(num_heads * in_features, 2 * in_features)

    def forward(self, x: Tensor, lengths: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        valid = mask.to(x.device, non_blocking=True)[..., None]  # (N, L, 1)
        last = (valid.sum(1, keepdim=True) - 1).clamp(min=1)
        steps = torch.arange(x.shape[1], device=x.device)[:, None]
        angles = (steps / last).to(x.dtype) * self.turns  # (N, L, turns)
        x = x + self.place(torch.cat([angles.sin(), angles.cos()], 2))
        x = functional.relu(self.mix(x)) * valid
        weights = masked_softmax(self.score(x), valid)  # (N, L, heads)
        return x, self.join(torch.einsum("nlh,nlc->nhc", weights, x).flatten(1))


class VideoNetwork(FixedShapes, nn.Module):
    """A convolutional network per frame, recurrent layers or attention over time, one embedding.

    Shape: frames (V, C, H, W) of any numeric dtype, lengths (N,) int64, on the CPU
    -> (N, out_features).
    """

    fixed_shapes = True

    def __init__(
        self,
        in_channels: int,
        image_size: tuple[int, int],
        out_features: int = 128,
        pooling: str = "gru",
        channels: tuple[int, ...] = (16, 32, 64),
        frame_features: int = 64,
        hidden_size: int = 64,
        dropout: float = 0.3,
    ):
        super().__init__()
        self.out_features = out_features
        sizes = in_channels, image_size, frame_features, channels
        # A shift of single frames would look like motion.
        self.frame_network = ImageCNN(*sizes, dropout=dropout, max_shift=0.0)
        if pooling == "attention":
            self.pooling = AttentionPooling(frame_features)
        else:
            self.pooling = RecurrentPooling(pooling, frame_features, hidden_size)
        self.token_features = self.pooling.token_features
        self.embedding = Embedding(2 * self.token_features, out_features, dropout)

    @property
    def mean(self) -> Tensor:
        """Mean of the pixels of each channel."""
        return self.frame_network.mean

    def set_scale(self, mean: Tensor, std: Tensor) -> None:
        """Set the pixel mean and standard deviation of each channel, (C,) each."""
        self.frame_network.set_scale(mean, std)

    def forward(self, frames: Tensor, frames_lengths: Tensor) -> Tensor:
        return self.tokens(frames, frames_lengths)[0]

    def tokens(self, frames: Tensor, frames_lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The embedding, and the steps it pools: (N, L, token_features), valid (N, L)."""
        x = encode_each(self.frame_network, frames, frames_lengths, self.present)
        x, mask = pad(x, frames_lengths)
        x, pooled = self.pooling(x, frames_lengths, mask)
        return self.embedding(pooled), x, mask
