"""Evidence about fitted models: what each modality contributes, and whether to trust it."""

from sklearn_mmfusion.inspection.attribution import modality_attribution
from sklearn_mmfusion.inspection.calibration import squared_calibration_error
from sklearn_mmfusion.inspection.comparison import compare
from sklearn_mmfusion.inspection.intervals import difference_interval, score_interval

__all__ = [
    "compare",
    "difference_interval",
    "modality_attribution",
    "score_interval",
    "squared_calibration_error",
]
