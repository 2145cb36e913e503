"""Neural networks: classifier and regressor on features, and of several modalities at once."""

from sklearn_mmfusion.neural_network._classifier import NeuralClassifier
from sklearn_mmfusion.neural_network._joint_classifier import JointFusionClassifier
from sklearn_mmfusion.neural_network._joint_regressor import JointFusionRegressor
from sklearn_mmfusion.neural_network._regressor import NeuralRegressor

__all__ = [
    "JointFusionClassifier",
    "JointFusionRegressor",
    "NeuralClassifier",
    "NeuralRegressor",
]
