"""Neural networks: perceptrons on features and joint networks of several modalities."""

from sklearn_mmfusion.neural_network.joint_fusion.classifier import JointFusionClassifier
from sklearn_mmfusion.neural_network.joint_fusion.regressor import JointFusionRegressor
from sklearn_mmfusion.neural_network.perceptron import NeuralClassifier, NeuralRegressor

__all__ = [
    "JointFusionClassifier",
    "JointFusionRegressor",
    "NeuralClassifier",
    "NeuralRegressor",
]
