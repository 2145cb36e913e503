"""Displays of results of :mod:`sklearn_mmfusion.inspection`. They load matplotlib when drawn."""

from sklearn_mmfusion.plotting.calibration import ReliabilityDisplay
from sklearn_mmfusion.plotting.robustness import RobustnessCurveDisplay

__all__ = ["ReliabilityDisplay", "RobustnessCurveDisplay"]
