"""Closed-form fusions of feature blocks: scaled, whitened, pooled, correlated and imputed."""

from sklearn_mmfusion.cross_decomposition._cca import GCCA, MCCA
from sklearn_mmfusion.cross_decomposition._impute import BlockImputer
from sklearn_mmfusion.cross_decomposition._mfa import MFA
from sklearn_mmfusion.cross_decomposition._pooling import BlockPooling
from sklearn_mmfusion.cross_decomposition._scaling import BlockWeighting, BlockWhitening

__all__ = [
    "GCCA",
    "MCCA",
    "MFA",
    "BlockImputer",
    "BlockPooling",
    "BlockWeighting",
    "BlockWhitening",
]
