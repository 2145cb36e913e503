"""Seeded corruptions of cells and of network inputs: robustness and augmentation."""

from sklearn_mmfusion.corruptions.cells import corrupt
from sklearn_mmfusion.corruptions.table import CORRUPTIONS

__all__ = ["CORRUPTIONS", "corrupt"]
