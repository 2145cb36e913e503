"""Network over point clouds of different sizes."""

from torch import Tensor, nn
from torch.nn import functional

from sklearn_mmfusion.modules.layers import Embedding, MaskedBatchNorm, StandardizedNetwork, pad


class PointCloudNetwork(StandardizedNetwork):
    """A perceptron shared by all points, their maximum, one embedding.

    PointNet (Qi et al. 2017, arXiv:1612.00593) without its learned transforms of the input. The
    order of the points does not matter. Padding enters neither the perceptron nor its batch
    normalization: both work on the valid points laid end to end.

    Shape: points (V, D), lengths (N,) int64, on the CPU -> (N, out_features).
    """

    fixed_shapes = True

    def __init__(
        self,
        in_features: int,
        out_features: int = 128,
        channels: tuple[int, ...] = (64, 128),
        dropout: float = 0.3,
    ):
        super().__init__(in_features)
        self.out_features, self.token_features = out_features, channels[-1]
        sizes = [in_features, *channels]
        self.layers = nn.ModuleList(
            nn.Linear(i, o, bias=False) for i, o in zip(sizes, sizes[1:], strict=False)
        )
        self.norms = nn.ModuleList(MaskedBatchNorm(c) for c in channels)
        self.embedding = Embedding(channels[-1], out_features, dropout)

    def forward(self, points: Tensor, points_lengths: Tensor) -> Tensor:
        return self.tokens(points, points_lengths)[0]

    def tokens(self, points: Tensor, points_lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The embedding, and the points it pools: (N, L, token_features), valid (N, L)."""
        x, mask = self.standardize(points), points_lengths
        is_padded = mask.ndim == 2
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = layer(x)  # (V, C), or (N, L, C) with a mask
            x = norm(x.movedim(2, 1), mask).movedim(1, 2) if is_padded else norm.normalize(x)
            x = functional.relu(x)
        x, mask = pad(x, mask)  # (N, L, C), (N, L)
        # Padding is zero and the activations are not negative: it never wins the maximum.
        return self.embedding(x.amax(1)), x, mask
