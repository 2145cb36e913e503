"""Feature-level fusion: one transformer per modality, outputs joined in one matrix."""

from sklearn_mmfusion.compose.fusion_transformer import FusionTransformer, make_fusion_transformer

__all__ = ["FusionTransformer", "make_fusion_transformer"]
