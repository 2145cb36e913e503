"""From a data frame to a pipeline in one line."""

from sklearn_mmfusion.pipelines.kinds import column_kinds
from sklearn_mmfusion.pipelines.multimodal_pipeline import make_multimodal_pipeline

__all__ = ["column_kinds", "make_multimodal_pipeline"]
