"""Evidence about fitted models: what each modality contributes, and whether to trust it."""

from sklearn_mmfusion.inspection.calibration import squared_calibration_error
from sklearn_mmfusion.inspection.robustness import robustness_curve

__all__ = ["robustness_curve", "squared_calibration_error"]
