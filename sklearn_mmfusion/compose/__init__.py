"""Feature-level fusion: every modality through its own transformer, then into one matrix."""

from sklearn_mmfusion.compose.fusion_transformer import FusionTransformer, make_fusion_transformer

__all__ = ["FusionTransformer", "make_fusion_transformer"]
