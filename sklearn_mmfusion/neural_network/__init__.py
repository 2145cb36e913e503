"""Neural classifier and regressor on features."""

from sklearn_mmfusion.neural_network._classifier import NeuralClassifier
from sklearn_mmfusion.neural_network._regressor import NeuralRegressor

__all__ = ["NeuralClassifier", "NeuralRegressor"]
