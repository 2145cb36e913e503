"""Data sets of several modalities that need no download."""

from sklearn_mmfusion.datasets._digits import load_multimodal_digits
from sklearn_mmfusion.datasets._digits3 import load_digits3
from sklearn_mmfusion.datasets._make import (
    make_multimodal_classification,
    make_multimodal_multilabel_classification,
    make_multimodal_regression,
)

__all__ = [
    "load_digits3",
    "load_multimodal_digits",
    "make_multimodal_classification",
    "make_multimodal_multilabel_classification",
    "make_multimodal_regression",
]
