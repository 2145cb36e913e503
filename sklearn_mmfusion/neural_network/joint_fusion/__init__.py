"""One network of several modalities: encoders, a fusion and a head, trained end to end."""

from sklearn_mmfusion.neural_network.joint_fusion.classifier import JointFusionClassifier
from sklearn_mmfusion.neural_network.joint_fusion.regressor import JointFusionRegressor

__all__ = ["JointFusionClassifier", "JointFusionRegressor"]
