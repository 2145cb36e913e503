"""Decision-level fusion: one estimator per modality, and a rule that joins their outputs."""

from sklearn_mmfusion.ensemble.late_fusion.classifier import LateFusionClassifier
from sklearn_mmfusion.ensemble.late_fusion.regressor import LateFusionRegressor

__all__ = ["LateFusionClassifier", "LateFusionRegressor"]
