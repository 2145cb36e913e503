"""Pictures of the results of :mod:`sklearn_mmfusion.inspection` (extra ``plot``)."""

from sklearn_mmfusion.plotting.ablation import ModalityAblationDisplay
from sklearn_mmfusion.plotting.attribution import ModalityAttributionDisplay
from sklearn_mmfusion.plotting.calibration import ReliabilityDisplay
from sklearn_mmfusion.plotting.comparison import ComparisonDisplay
from sklearn_mmfusion.plotting.importance import ModalityImportanceDisplay
from sklearn_mmfusion.plotting.robustness import RobustnessCurveDisplay
from sklearn_mmfusion.plotting.training_history import TrainingHistoryDisplay

__all__ = [
    "ComparisonDisplay",
    "ModalityAblationDisplay",
    "ModalityAttributionDisplay",
    "ModalityImportanceDisplay",
    "ReliabilityDisplay",
    "RobustnessCurveDisplay",
    "TrainingHistoryDisplay",
]
