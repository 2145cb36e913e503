"""Evidence about fitted models: what each modality contributes, and whether to trust it."""

from sklearn_mmfusion.inspection.ablation import modality_ablation
from sklearn_mmfusion.inspection.calibration import squared_calibration_error
from sklearn_mmfusion.inspection.importance import modality_importance, modality_interaction

__all__ = [
    "modality_ablation",
    "modality_importance",
    "modality_interaction",
    "squared_calibration_error",
]
