"""Evidence about fitted models: what each modality contributes, and whether to trust it."""

from sklearn_mmfusion.inspection.ablation import modality_ablation
from sklearn_mmfusion.inspection.attribution import modality_attribution
from sklearn_mmfusion.inspection.calibration import (
    calibration,
    calibration_from_predictions,
    squared_calibration_error,
)
from sklearn_mmfusion.inspection.comparison import compare
from sklearn_mmfusion.inspection.importance import modality_importance, modality_interaction
from sklearn_mmfusion.inspection.intervals import difference_interval, score_interval
from sklearn_mmfusion.inspection.robustness import robustness_curve

__all__ = [
    "calibration",
    "calibration_from_predictions",
    "compare",
    "difference_interval",
    "modality_ablation",
    "modality_attribution",
    "modality_importance",
    "modality_interaction",
    "robustness_curve",
    "score_interval",
    "squared_calibration_error",
]
