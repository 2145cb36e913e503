"""Feature-level fusion: every modality through its own transformer, then into one matrix."""

from sklearn_mmfusion.compose._factory import make_fusion_transformer
from sklearn_mmfusion.compose._transformer import FusionTransformer

__all__ = ["FusionTransformer", "make_fusion_transformer"]
