"""Evidence about fitted models: what each modality contributes, and whether to trust it."""

from sklearn_mmfusion.inspection.calibration import squared_calibration_error

__all__ = ["squared_calibration_error"]
