"""Learned fusions: features of several modalities, any of which a row may lack, become one vector.

Every fusion, custom ones included, has the same interface:

* its constructor takes ``in_features``, the width of each modality's features in order,
  ``out_features``, its own width, which it keeps as an attribute, and further parameters;
* ``forward(features, mask)`` takes ``features``, a list of one tensor (N, in_features[m]) for each
  modality, and ``mask`` (N, M) bool, True where a row has the modality, and returns
  (N, out_features). Values of ``features`` where ``mask`` is False must not matter.

It may also have ``weights(features, mask)`` -> (N, M), the share of each modality, rows that sum to
one; ``project(features)`` -> (N, M, out_features), the common space in which objectives align
modalities; and ``reads_tokens = True``: the constructor then also receives ``token_features``, one
width per modality, and ``forward`` receives ``tokens``, a list of (values (N, L,
token_features[m]), valid (N, L) bool): the sequence an encoder pooled, or its features as a
sequence of one.

Legend: ``N`` batch, ``M`` modalities, ``D`` the sum of their widths d_m, ``h`` out_features, ``L``
tokens. Costs are multiply-adds per row.
"""

import math
from functools import reduce

import torch
from torch import Tensor, nn


def masked(features: list[Tensor], mask: Tensor) -> list[Tensor]:
    """Zeros in place of the features of absent modalities."""
    return [torch.where(mask[:, m, None], x, 0.0) for m, x in enumerate(features)]


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the modalities that are present: scores, mask (N, M, ...); zeros if none is."""
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return torch.softmax(scores, 1) * mask


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over the modalities that are present: x (N, M, h), mask (N, M) -> (N, h)."""
    x = torch.where(mask[..., None], x, 0.0)
    return x.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


class Projections(nn.ModuleList):
    """One linear layer per modality, into a common space: list of (N, d_m) -> (N, M, out_features).

    Parameters h (D + M), cost h D.
    """

    def __init__(self, in_features: list[int], out_features: int):
        super().__init__(nn.Linear(width, out_features) for width in in_features)

    def forward(self, features: list[Tensor]) -> Tensor:
        return torch.stack([layer(x) for layer, x in zip(self, features, strict=True)], 1)


class ConcatFusion(nn.Module):
    """A linear layer on the features side by side; absent ones are zero.

    Parameters h (D + 1), cost h D.
    """

    def __init__(self, in_features: list[int], out_features: int):
        super().__init__()
        self.out_features = out_features
        self.linear = nn.Linear(sum(in_features), out_features)

    def forward(self, features: list[Tensor], mask: Tensor) -> Tensor:
        return self.linear(torch.cat(masked(features, mask), 1))


class PooledFusion(nn.Module):
    """Sum, mean or maximum of the projected features of the modalities that are present.

    Parameters h (D + M), cost h D.
    """

    def __init__(self, in_features: list[int], out_features: int, method: str = "mean"):
        super().__init__()
        if method not in ("sum", "mean", "max"):
            raise ValueError(f"method is {method!r}; expected 'sum', 'mean' or 'max'.")
        self.out_features = out_features
        self.method = method
        self.project = Projections(in_features, out_features)

    def forward(self, features: list[Tensor], mask: Tensor) -> Tensor:
        x = self.project(masked(features, mask))
        if self.method == "mean":
            return masked_mean(x, mask)
        if self.method == "sum":
            return torch.where(mask[..., None], x, 0.0).sum(1)
        top = x.masked_fill(~mask[..., None], -torch.inf).amax(1)
        return torch.where(mask.any(1, keepdim=True), top, 0.0)


class WeightedFusion(nn.Module):
    """Projected features, weighted by one learned number per modality: softmax over those present.

    Parameters h (D + M) + M, cost h D.
    """

    def __init__(self, in_features: list[int], out_features: int):
        super().__init__()
        self.out_features = out_features
        self.project = Projections(in_features, out_features)
        self.scores = nn.Parameter(torch.zeros(len(in_features)))

    def weights(self, features: list[Tensor], mask: Tensor) -> Tensor:
        return masked_softmax(self.scores.expand(mask.shape), mask)

    def forward(self, features: list[Tensor], mask: Tensor) -> Tensor:
        x = self.project(masked(features, mask))
        return (self.weights(features, mask)[..., None] * x).sum(1)


class GatedFusion(nn.Module):
    """Gated multimodal unit (Arevalo et al. 2017, arXiv:1702.01992).

    h_m = tanh(W_m x_m); each unit of the output is a mean of the h_m with weights that depend on
    all features: z = softmax over the modalities present of G_m [x_1 .. x_M]. For two modalities
    this is the paper's bimodal unit, whose gate is sigmoid((G_1 - G_2) [x_1, x_2]); for more
    modalities the paper uses independent gates, which do not renormalize if one is absent.

    Parameters h (D + M) + M h D, cost the same.
    """

    def __init__(self, in_features: list[int], out_features: int):
        super().__init__()
        self.out_features = out_features
        self.hidden = Projections(in_features, out_features)
        self.gate = nn.Linear(sum(in_features), len(in_features) * out_features, bias=False)

    def project(self, features: list[Tensor]) -> Tensor:
        return torch.tanh(self.hidden(features))

    def _gates(self, features: list[Tensor], mask: Tensor) -> Tensor:
        scores = self.gate(torch.cat(masked(features, mask), 1))  # (N, M h)
        scores = scores.view(*mask.shape, self.out_features)
        return masked_softmax(scores, mask[..., None].expand_as(scores))

    def weights(self, features: list[Tensor], mask: Tensor) -> Tensor:
        return self._gates(features, mask).mean(2)

    def forward(self, features: list[Tensor], mask: Tensor) -> Tensor:
        x = self.project(masked(features, mask))
        return (self._gates(features, mask) * x).sum(1)


class LowRankFusion(nn.Module):
    """Low-rank multimodal fusion (Liu et al. 2018, arXiv:1806.00064).

    sum_r w_r prod_m F_m^r [x_m; 1] + b: a `TensorFusion` whose weights are a sum of `rank`
    products. An absent modality is x_m = 0, which leaves the terms of lower order.

    Parameters rank h (D + M) + rank + h, cost rank h (D + M).
    """

    def __init__(self, in_features: list[int], out_features: int, rank: int = 4):
        super().__init__()
        self.out_features = out_features
        self.rank = rank
        self.factors = Projections(in_features, rank * out_features)
        self.weight = nn.Parameter(torch.full((rank,), 1 / rank))
        self.bias = nn.Parameter(torch.zeros(out_features))
        for layer in self.factors:  # factors near one, so that products neither vanish nor explode
            nn.init.xavier_normal_(layer.weight)
            nn.init.ones_(layer.bias)

    def forward(self, features: list[Tensor], mask: Tensor) -> Tensor:
        # Not `prod`, whose gradient waits for the device.
        x = reduce(torch.mul, self.factors(masked(features, mask)).unbind(1))  # (N, rank h)
        x = x.view(-1, self.rank, self.out_features)
        return (x * self.weight[:, None]).sum(1) + self.bias


class TensorFusion(nn.Module):
    """Tensor fusion network (Zadeh et al. 2017, arXiv:1707.07250): all products of features.

    A linear layer on the outer product of the [1; x_m]. An absent modality is x_m = 0, which leaves
    the products of the others.

    Parameters h (P + 1) with P the product of the (d_m + 1), cost h P. More than `max_weights` of
    them raise an error before anything is allocated.
    """

    def __init__(self, in_features: list[int], out_features: int, max_weights: int = 10_000_000):
        super().__init__()
        products = math.prod(width + 1 for width in in_features)
        if products * out_features > max_weights:
            raise ValueError(
                f"fusion='tensor' of features of widths {list(in_features)} needs {products} "
                f"products and {products * out_features} weights, more than max_weights="
                f"{max_weights}. Use fusion='low_rank', or encoders with a smaller n_components."
            )
        self.out_features = out_features
        self.linear = nn.Linear(products, out_features)

    def forward(self, features: list[Tensor], mask: Tensor) -> Tensor:
        product = features[0].new_ones(len(mask), 1)
        for x in masked(features, mask):
            x = torch.cat([torch.ones_like(x[:, :1]), x], 1)
            product = (product[:, :, None] * x[:, None]).flatten(1)
        return self.linear(product)


def check_heads(out_features: int, num_heads: int) -> None:
    """Raise unless the heads of an attention share its width evenly."""
    if num_heads < 1 or out_features % num_heads:
        raise ValueError(
            f"n_components={out_features} is not a multiple of num_heads={num_heads}; set "
            "fusion_params={'num_heads': ...} to a divisor."
        )


class AttentionFusion(nn.Module):
    """Cross-modal attention (one layer; Vaswani et al. 2017, Tsai et al. 2019).

    The projected features of each modality are the queries, the tokens of all modalities the keys
    and values. Each modality adds the result to its query; the output is the mean over the
    modalities present.

    Parameters h (D + M) + h (E + M) + 4 h (h + 1) with E the sum of the token widths; cost
    h (D + L E_m + 2 h (M + L)) + 2 M L h, L being all tokens.
    """

    reads_tokens = True

    def __init__(
        self,
        in_features: list[int],
        out_features: int,
        token_features: list[int],
        num_heads: int = 4,
    ):
        super().__init__()
        check_heads(out_features, num_heads)
        self.out_features = out_features
        self.project = Projections(in_features, out_features)
        self.tokens = Projections(token_features, out_features)
        self.attention = nn.MultiheadAttention(out_features, num_heads, batch_first=True)

    def _attend(self, features, mask, tokens, need_weights):
        queries = self.project(masked(features, mask))  # (N, M, h)
        seen = [valid & mask[:, m, None] for m, (_, valid) in enumerate(tokens)]
        values = [torch.where(s[..., None], v, 0.0) for s, (v, _) in zip(seen, tokens, strict=True)]
        keys = torch.cat([p(v) for p, v in zip(self.tokens, values, strict=True)], 1)
        valid = torch.cat(seen, 1)
        # Softmax over nothing is NaN: a row without any token attends to all, and is left out
        # below.
        blocked = ~valid & valid.any(1, keepdim=True)
        keys = torch.where(valid[..., None], keys, 0.0)
        return (
            queries,
            valid,
            *self.attention(
                queries, keys, keys, key_padding_mask=blocked, need_weights=need_weights
            ),
        )

    def weights(self, features: list[Tensor], mask: Tensor, tokens: list) -> Tensor:
        _, valid, _, attended = self._attend(features, mask, tokens, True)  # (N, M, L)
        seen = masked_mean(attended * valid[:, None], mask)  # (N, L)
        shares = seen.split([values.shape[1] for values, _ in tokens], 1)
        return torch.stack([share.sum(1) for share in shares], 1)

    def forward(self, features: list[Tensor], mask: Tensor, tokens: list) -> Tensor:
        queries, valid, outputs, _ = self._attend(features, mask, tokens, False)
        outputs = torch.where(valid.any(1)[:, None, None], outputs, 0.0)
        return masked_mean(queries + outputs, mask)


class GraphFusion(nn.Module):
    """Message passing between modalities, a graph with attention on its edges.

    Nodes are the projected features; in each round every node receives messages from all nodes
    present, weighted by scaled dot-product attention, as a graph attention network on the complete
    graph (Velickovic et al. 2018, arXiv:1710.10903); the output is the mean over the nodes present.

    Parameters h (D + M) + rounds 4 h (h + 1), cost h D + rounds (4 M h^2 + 2 M^2 h).
    """

    def __init__(
        self, in_features: list[int], out_features: int, num_rounds: int = 2, num_heads: int = 4
    ):
        super().__init__()
        check_heads(out_features, num_heads)
        if num_rounds < 1:
            raise ValueError(f"num_rounds is {num_rounds}; expected 1 or more.")
        self.out_features = out_features
        self.project = Projections(in_features, out_features)
        self.rounds = nn.ModuleList(
            nn.MultiheadAttention(out_features, num_heads, batch_first=True)
            for _ in range(num_rounds)
        )

    def _pass(self, features, mask, need_weights):
        nodes = self.project(masked(features, mask))  # (N, M, h)
        blocked = ~mask & mask.any(1, keepdim=True)  # softmax over nothing is NaN
        weights = None
        for attention in self.rounds:
            messages, weights = attention(
                nodes, nodes, nodes, key_padding_mask=blocked, need_weights=need_weights
            )
            nodes = nodes + messages
        return nodes, weights

    def weights(self, features: list[Tensor], mask: Tensor) -> Tensor:
        return masked_mean(self._pass(features, mask, True)[1], mask) * mask

    def forward(self, features: list[Tensor], mask: Tensor) -> Tensor:
        return masked_mean(self._pass(features, mask, False)[0], mask)


class LogitFusion(nn.Module):
    """Sum of the outputs of the modalities' own heads: a product of experts, trained as one.

    The heads' outputs are (N, n_outputs) each. Those in `averaged` (continuous targets) are
    averaged over the modalities present, the others (logits of classes) are added.

    Parameters none (the heads have n_outputs (D + M)), no cost beyond theirs.
    """

    def __init__(self, averaged: list[bool]):
        super().__init__()
        self.out_features = len(averaged)
        self.register_buffer("averaged", torch.tensor(averaged), persistent=False)

    def forward(self, outputs: list[Tensor], mask: Tensor) -> Tensor:
        total = torch.stack(masked(outputs, mask), 1).sum(1)
        return torch.where(self.averaged, total / mask.sum(1, keepdim=True).clamp(min=1), total)


# name -> class and its fixed arguments
NETWORK_FUSIONS = {
    "concat": (ConcatFusion, {}),
    "weighted": (WeightedFusion, {}),
    "sum": (PooledFusion, {"method": "sum"}),
    "mean": (PooledFusion, {"method": "mean"}),
    "max": (PooledFusion, {"method": "max"}),
    "gated": (GatedFusion, {}),
    "low_rank": (LowRankFusion, {}),
    "tensor": (TensorFusion, {}),
    "attention": (AttentionFusion, {}),
    "graph": (GraphFusion, {}),
    "logits": (LogitFusion, {}),
}
