"""Decision-level fusion: one estimator a modality, and a rule that joins their answers."""

from sklearn_mmfusion.ensemble._classifier import LateFusionClassifier
from sklearn_mmfusion.ensemble._regressor import LateFusionRegressor

__all__ = ["LateFusionClassifier", "LateFusionRegressor"]
