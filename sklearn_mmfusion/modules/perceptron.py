"""Perceptrons on features: for heads that are trained alone, and for tables in a joint network."""

import torch
from torch import Tensor, nn

from sklearn_mmfusion.modules.layers import Embedding, StandardizedNetwork


class MLP(StandardizedNetwork):
    """Multilayer perceptron on standardized features, with a parallel linear path.

    Dropout follows every hidden layer. The features themselves have none: of a few numbers, none
    can be guessed from the others.

    The last layer of the perceptron and the linear path are zero at first. `set_linear` makes a
    linear model the start of training, or gives one a share of the trained network.

    Shape: features (N, in_features) -> (N, n_outputs).
    """

    def __init__(
        self,
        in_features: int,
        n_outputs: int,
        hidden_layer_sizes: tuple[int, ...] = (256, 128),
        dropout: float = 0.3,
    ):
        super().__init__(in_features)
        sizes = [in_features, *hidden_layer_sizes]
        layers: list[nn.Module] = []
        for i, o in zip(sizes, sizes[1:], strict=False):
            layers += [nn.Linear(i, o), nn.BatchNorm1d(o), nn.ReLU(), nn.Dropout(dropout)]
        self.hidden = nn.Sequential(*layers)
        self.output = nn.Linear(sizes[-1], n_outputs, bias=False)
        self.linear = nn.Linear(in_features, n_outputs)
        for parameter in (self.output.weight, self.linear.weight, self.linear.bias):
            nn.init.zeros_(parameter)

    def forward(self, features: Tensor) -> Tensor:
        x = self.standardize(features)
        return self.linear(x) + self.output(self.hidden(x))

    @torch.no_grad()
    def set_linear(self, weight: Tensor, bias: Tensor, share: float = 1.0) -> None:
        """Give a linear model of standardized features this share of the output.

        weight (n_outputs, in_features), bias (n_outputs,). The rest is the network as it is.
        """
        self.linear.weight.lerp_(weight.to(self.linear.weight), share)
        self.linear.bias.lerp_(bias.to(self.linear.bias), share)
        self.output.weight.mul_(1 - share)


class FeatureNetwork(StandardizedNetwork):
    """A perceptron on standardized features: the network of a table in a joint network.

    One hidden layer of twice the output's width; no dropout before it, because a table may have few
    features.

    Shape: features (N, in_features) -> (N, out_features).
    """

    fixed_shapes = True

    def __init__(self, in_features: int, out_features: int, dropout: float = 0.3):
        super().__init__(in_features)
        self.out_features = out_features
        width = 2 * out_features
        self.hidden = Embedding(in_features, width, dropout=0.0)
        self.embedding = Embedding(width, out_features, dropout)

    def forward(self, features: Tensor) -> Tensor:
        return self.embedding(self.hidden(self.standardize(features)))
