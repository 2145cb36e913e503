"""Displays of results of :mod:`sklearn_mmfusion.inspection`. They load matplotlib when drawn."""

from sklearn_mmfusion.plotting.ablation import ModalityAblationDisplay
from sklearn_mmfusion.plotting.importance import ModalityImportanceDisplay

__all__ = ["ModalityAblationDisplay", "ModalityImportanceDisplay"]
