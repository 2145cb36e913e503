"""Closed-form fusions of feature blocks: scaled, whitened and pooled."""

from sklearn_mmfusion.cross_decomposition._pooling import BlockPooling
from sklearn_mmfusion.cross_decomposition._scaling import BlockWeighting, BlockWhitening

__all__ = ["BlockPooling", "BlockWeighting", "BlockWhitening"]
