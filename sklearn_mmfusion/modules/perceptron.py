"""Perceptrons on features: for heads that are trained alone, and for tables in a joint network."""

import torch
from torch import Tensor, nn

from sklearn_mmfusion.modules.layers import Embedding


class MLP(nn.Module):
    """Multilayer perceptron on standardized features, with a parallel linear path.

    Training starts from a linear model: the linear path at its solution
    (`fit_linear`), the last layer of the perceptron at zero.

    Shape: features (N, in_features) -> (N, n_outputs).
    """

    def __init__(
        self,
        in_features: int,
        n_outputs: int,
        hidden_layer_sizes: tuple[int, ...] = (256, 128),
        dropout: float = 0.3,
    ):
        super().__init__()
        self.register_buffer("mean", torch.zeros(in_features))
        self.register_buffer("std", torch.ones(in_features))
        sizes = [in_features, *hidden_layer_sizes]
        layers: list[nn.Module] = []
        for i, o in zip(sizes, sizes[1:], strict=False):
            layers += [nn.Dropout(dropout), nn.Linear(i, o), nn.BatchNorm1d(o), nn.ReLU()]
        self.hidden = nn.Sequential(*layers, nn.Dropout(dropout))
        self.output = nn.Linear(sizes[-1], n_outputs, bias=False)
        nn.init.zeros_(self.output.weight)
        self.linear = nn.Linear(in_features, n_outputs)

    def set_scale(self, mean: Tensor, std: Tensor) -> None:
        """Set the mean and standard deviation of each feature, (in_features,) each."""
        self.mean.copy_(mean)
        self.std.copy_(std)

    def forward(self, features: Tensor) -> Tensor:
        x = (features - self.mean) / self.std
        return self.linear(x) + self.output(self.hidden(x))

    def fit_linear(
        self, features: Tensor, target: Tensor, weight: Tensor | None, criterion, alpha: float
    ) -> None:
        """Start the linear path at the minimum of loss + alpha / (2 N) ||W||^2, by L-BFGS.

        features (N, in_features), target as ``criterion`` takes it, weight (N,) with mean one.
        """
        x = (features - self.mean) / self.std
        nn.init.zeros_(self.linear.weight)
        optimizer = torch.optim.LBFGS(
            self.linear.parameters(), max_iter=100, line_search_fn="strong_wolfe"
        )

        def closure():
            optimizer.zero_grad()
            loss = criterion(self.linear(x), target)
            loss = loss.flatten(1).mean(1) if loss.ndim > 1 else loss
            loss = (loss if weight is None else loss * weight).mean()
            loss = loss + 0.5 * alpha / len(x) * self.linear.weight.square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        optimizer.zero_grad()


class FeatureNetwork(nn.Module):
    """A perceptron on standardized features: the network of a table in a joint network.

    One hidden layer of twice the output's width; no dropout before it, because a table may have few
    features.

    Shape: features (N, in_features) -> (N, out_features).
    """

    fixed_shapes = True

    def __init__(self, in_features: int, out_features: int, dropout: float = 0.3):
        super().__init__()
        self.out_features = out_features
        self.register_buffer("mean", torch.zeros(in_features))
        self.register_buffer("std", torch.ones(in_features))
        width = 2 * out_features
        self.hidden = Embedding(in_features, width, dropout=0.0)
        self.embedding = Embedding(width, out_features, dropout)

    def set_scale(self, mean: Tensor, std: Tensor) -> None:
        """Set the mean and standard deviation of each feature, (in_features,) each."""
        self.mean.copy_(mean)
        self.std.copy_(std)

    def forward(self, features: Tensor) -> Tensor:
        return self.embedding(self.hidden((features - self.mean) / self.std))
