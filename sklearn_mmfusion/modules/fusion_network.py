"""Networks made of encoders, a fusion and heads."""

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from sklearn_mmfusion.modules.fusion import LogitFusion, Projections
from sklearn_mmfusion.modules.layers import fixed_shapes, is_padded, running_statistics
from sklearn_mmfusion.modules.objectives import ALIGNMENTS


def run_encoder(encoder: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Features (N, out_features); a custom module may return another shape, which raises."""
    features = encoder(**batch)
    shape = tuple(getattr(features, "shape", ()))
    if len(shape) != 2 or shape[1] != encoder.out_features:
        raise ValueError(
            f"{type(encoder).__name__}.forward returned a {type(features).__name__} of shape "
            f"{shape}; expected (n_rows, {encoder.out_features}): the width is its attribute "
            "out_features."
        )
    return features


class EncoderNetwork(nn.Module):
    """One encoder and the linear head that trains it.

    Shape: forward(**batch) -> (N, n_outputs) logits or means.
    """

    def __init__(self, encoder: nn.Module, n_outputs: int):
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.out_features, n_outputs)

    def encoders_by_name(self) -> dict[str, nn.Module]:
        """The only encoder; its modality has no name here."""
        return {"": self.encoder}

    def forward(self, **batch: Tensor) -> Tensor:
        with fixed_shapes(self.encoder) if is_padded(batch) else nullcontext():
            return self.head(run_encoder(self.encoder, batch))


class FusionNetwork(nn.Module):
    """Encoders of several modalities, a fusion and a head, one network.

    Absent modalities never enter their encoder: it runs on the rows that have the modality, and
    its outputs are scattered back. In training each modality of a row is hidden from the fusion
    with probability `modality_dropout`, but never all of them.

    Shape: forward(mask, **batch) with mask (N, M) bool, on the CPU, and, for each modality that
    some row has, the keywords of its encoder as ``name.keyword``, present rows only
    -> (N, n_outputs). In training mode a tuple: that; the outputs of the modalities' own heads, M
    times (N, n_outputs); the weighted sum of the alignments' losses (N,); mask.

    In the fixed layout (`_skorch.training_step`) mask is on the device, every modality has N rows,
    and ``lacking`` names the modalities that some row lacks.

    Parameters of the constructor: ``encoders`` by name; ``fusion`` (see `modules.fusion`);
    ``head``, from the fused features to the outputs, or None where the fusion reads the outputs
    of the modalities' own ``heads``; ``alignments``, pairs of a weight and a module (see
    `modules.objectives`); ``common``, which projects features into the space they are aligned in.
    """

    def __init__(
        self,
        encoders: dict[str, nn.Module],
        fusion: nn.Module,
        head: nn.Module | None,
        heads: list[nn.Module] = (),
        alignments: list[tuple[float, nn.Module]] = (),
        common: nn.Module | None = None,
        modality_dropout: float = 0.0,
    ):
        super().__init__()
        self.names = list(encoders)  # not the keys of a ModuleDict, which refuses some names
        self.encoders = nn.ModuleList(encoders.values())
        self.fusion = fusion
        self.head = head
        self.heads = nn.ModuleList(heads)
        self.strengths = [weight for weight, _ in alignments]
        self.alignments = nn.ModuleList(module for _, module in alignments)
        self.common = common
        self.modality_dropout = modality_dropout
        self.reads_tokens = getattr(fusion, "reads_tokens", False)

    def encoders_by_name(self) -> dict[str, nn.Module]:
        return dict(zip(self.names, self.encoders, strict=True))

    def forward(self, mask: Tensor, lacking: tuple[str, ...] | None = None, **batch: Tensor):
        features, tokens = self.encode(mask, batch, lacking)
        mask = _follow(mask, features[0])
        if not self.training:
            return self.fuse(features, tokens, mask)
        seen = self._hide(mask) if self.modality_dropout else mask
        output = self.fuse(features, tokens, seen)
        penalty = output.new_zeros(len(mask))
        if len(self.alignments):
            aligned = (self.common or self.fusion.project)(features)
            for strength, alignment in zip(self.strengths, self.alignments, strict=True):
                penalty = penalty + strength * alignment(aligned, mask)
        return output, self._own_outputs(features), penalty, mask

    def fuse(self, features: list[Tensor], tokens: list | None, mask: Tensor) -> Tensor:
        """Prediction from the outputs of `encode`: (N, n_outputs)."""
        if self.head is None:
            return self.fusion(self._own_outputs(features), mask)
        fused = self.fusion(features, mask, *([tokens] if tokens else []))
        expected = (len(mask), getattr(self.fusion, "out_features", fused.shape[-1]))
        if fused.shape != expected:
            raise ValueError(
                f"{type(self.fusion).__name__}.forward returned shape {tuple(fused.shape)}; "
                f"expected {expected}, a row of width out_features for each row of mask."
            )
        return self.head(fused)

    def _own_outputs(self, features: list[Tensor]) -> list[Tensor]:
        """Outputs of each modality's own head: M times (N, n_outputs)."""
        return [head(x) for head, x in zip(self.heads, features, strict=False)]

    def encode(self, mask: Tensor, batch: dict[str, Tensor], lacking: tuple | None = None):
        """Features of each modality, M times (N, d_m), and the tokens a fusion reads or None."""
        features, tokens = [], []
        for m, (name, encoder) in enumerate(zip(self.names, self.encoders, strict=True)):
            prefix = f"{name}."  # no identifier has a dot
            own = {k.removeprefix(prefix): v for k, v in batch.items() if k.startswith(prefix)}
            if lacking is None:
                rows = mask[:, m].nonzero()[:, 0]
                # A single row has no spread to normalize by.
                alone = self.training and len(rows) == 1
                with running_statistics(encoder) if alone else nullcontext():
                    outputs = self._run(encoder, own, len(rows))
                outputs = [_follow(x, outputs[0]) for x in outputs]  # masks are on the CPU
                if len(rows) < len(mask):
                    rows = _follow(rows, outputs[0])
                    outputs = [scatter(x, rows, len(mask)) for x in outputs]
            else:
                present = mask[:, m] if name in lacking else None
                with fixed_shapes(encoder, present):
                    outputs = self._run(encoder, own, len(mask) if own else 0, len(mask))
            features.append(outputs[0])
            tokens.append(tuple(outputs[1:]))
        return features, tokens if self.reads_tokens else None

    def _run(self, encoder: nn.Module, batch: dict[str, Tensor], n_rows: int, n_empty: int = 0):
        """Features and, for a fusion that reads them, tokens: (n, d), (n, L, e), (n, L).

        Without rows there is nothing to encode: the result is n_empty rows of zeros.
        """
        if n_rows == 0:
            like = next(self.parameters())
            x = like.new_zeros(n_empty, encoder.out_features)
            values = like.new_zeros(n_empty, 1, token_width(encoder))
        elif self.reads_tokens and hasattr(encoder, "tokens"):
            return encoder.tokens(**batch)
        else:
            x = run_encoder(encoder, batch)
            values = x[:, None]
        if not self.reads_tokens:
            return (x,)
        return x, values, torch.ones(len(x), 1, dtype=torch.bool, device=x.device)

    def weights(self, mask: Tensor, **batch: Tensor) -> Tensor:
        """Share of each modality in the fused features, (N, M), if the fusion defines it."""
        features, tokens = self.encode(mask, batch)
        mask = _follow(mask, features[0])
        return self.fusion.weights(features, mask, *([tokens] if tokens else []))

    def modality_outputs(self, mask: Tensor, **batch: Tensor) -> Tensor:
        """Outputs of each modality's own head: (N, M, n_outputs)."""
        return torch.stack(self._own_outputs(self.encode(mask, batch)[0]), 1)

    def _hide(self, mask: Tensor) -> Tensor:
        chance = torch.rand(mask.shape, device=mask.device).masked_fill(~mask, -1.0)
        seen = chance >= self.modality_dropout
        # never all: the most probable one stays (Neverova et al. 2016)
        best = torch.zeros_like(mask).scatter(1, chance.argmax(1, keepdim=True), True)
        return mask & (seen | (best & ~seen.any(1, keepdim=True)))


def _follow(tensor: Tensor, other: Tensor) -> Tensor:
    """Move a tensor to the device of another."""
    return tensor.to(other.device, non_blocking=True)


def token_width(encoder: nn.Module) -> int:
    """Width of an encoder's tokens, or of its features if it makes no sequence."""
    return encoder.token_features if hasattr(encoder, "tokens") else encoder.out_features


def scatter(x: Tensor, rows: Tensor, n_rows: int) -> Tensor:
    """Put rows where they belong among `n_rows`, zeros elsewhere: (n, ...) -> (n_rows, ...)."""
    return x.new_zeros(n_rows, *x.shape[1:]).index_copy(0, rows, x)


def build_network(
    encoders,
    n_outputs,
    *,
    fusion,
    fusion_params,
    width,
    dropout,
    objectives,
    modality_dropout,
    averaged,
):
    """Build an untrained `FusionNetwork`.

    Parameters
    ----------
    encoders : dict of str to torch.nn.Module
    n_outputs : int
    fusion : type
        Class of the fusion (see `modules.fusion`), made with `fusion_params`.
    fusion_params : dict
    width : int
        Width of the fused features, and of the space in which modalities are aligned.
    dropout : float
        Dropout before the last layer.
    objectives : dict of str to float
    modality_dropout : float
    averaged : list of bool
        Which outputs are continuous targets.

    Returns
    -------
    network : FusionNetwork
    """
    widths = [encoder.out_features for encoder in encoders.values()]
    sums_heads = fusion is LogitFusion
    heads, head = [], None
    if sums_heads or objectives.get("auxiliary"):
        heads = [nn.Linear(own, n_outputs) for own in widths]
    if sums_heads:
        fusion = LogitFusion(averaged, **fusion_params)
    else:
        tokens = {}
        if getattr(fusion, "reads_tokens", False):
            tokens["token_features"] = [token_width(encoder) for encoder in encoders.values()]
        fusion = fusion(in_features=widths, out_features=width, **tokens, **fusion_params)
        if not hasattr(fusion, "out_features"):  # a custom fusion that does not set it
            fusion.out_features = width
        head = make_head(fusion.out_features, n_outputs, dropout)
    aligned = {name: w for name, w in objectives.items() if name in ALIGNMENTS and w}
    common, space = None, getattr(fusion, "out_features", width)
    if aligned and not hasattr(fusion, "project"):
        common, space = Projections(widths, width), width
    alignments = [(w, ALIGNMENTS[name](space, len(widths))) for name, w in aligned.items()]
    return FusionNetwork(encoders, fusion, head, heads, alignments, common, modality_dropout)


def make_head(in_features, n_outputs, dropout):
    """From fused features to outputs."""
    return nn.Sequential(
        nn.LayerNorm(in_features), nn.ReLU(), nn.Dropout(dropout), nn.Linear(in_features, n_outputs)
    )
