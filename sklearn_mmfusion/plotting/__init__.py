"""Displays of results of :mod:`sklearn_mmfusion.inspection`. They load matplotlib when drawn."""

from sklearn_mmfusion.plotting.attribution import ModalityAttributionDisplay
from sklearn_mmfusion.plotting.comparison import ComparisonDisplay
from sklearn_mmfusion.plotting.training_history import TrainingHistoryDisplay

__all__ = ["ComparisonDisplay", "ModalityAttributionDisplay", "TrainingHistoryDisplay"]
