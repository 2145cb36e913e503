"""From a description to a joint network."""

from torch import nn

from sklearn_mmfusion.modules.fusion import LogitFusion, Projections
from sklearn_mmfusion.modules.network import FusionNetwork, token_width
from sklearn_mmfusion.modules.objectives import ALIGNMENTS


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
        Which outputs are numbers.

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
        if not hasattr(fusion, "out_features"):  # a user's own that has not kept it
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
