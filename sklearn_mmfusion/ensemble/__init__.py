"""Decision-level fusion: one estimator a modality, and a rule that joins their answers."""

from sklearn_mmfusion.ensemble.late_fusion.classifier import LateFusionClassifier
from sklearn_mmfusion.ensemble.late_fusion.regressor import LateFusionRegressor

__all__ = ["LateFusionClassifier", "LateFusionRegressor"]
