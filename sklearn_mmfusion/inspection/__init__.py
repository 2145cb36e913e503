"""Evidence about fitted models: what each modality contributes, and whether to trust it."""

from sklearn_mmfusion.inspection.calibration import (
    calibration,
    calibration_from_predictions,
    squared_calibration_error,
)
from sklearn_mmfusion.inspection.robustness import robustness_curve

__all__ = [
    "calibration",
    "calibration_from_predictions",
    "robustness_curve",
    "squared_calibration_error",
]
