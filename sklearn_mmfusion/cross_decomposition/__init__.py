"""Closed-form fusions of feature blocks: scaled, whitened, pooled, correlated and imputed."""

from sklearn_mmfusion.cross_decomposition.block_imputer import BlockImputer
from sklearn_mmfusion.cross_decomposition.block_pooling import BlockPooling
from sklearn_mmfusion.cross_decomposition.block_scaling import BlockWeighting, BlockWhitening
from sklearn_mmfusion.cross_decomposition.canonical_correlation import GCCA, MCCA
from sklearn_mmfusion.cross_decomposition.mfa import MFA

__all__ = [
    "GCCA",
    "MCCA",
    "MFA",
    "BlockImputer",
    "BlockPooling",
    "BlockWeighting",
    "BlockWhitening",
]
