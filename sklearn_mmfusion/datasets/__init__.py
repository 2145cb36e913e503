"""Data sets of several modalities that need no download."""

from sklearn_mmfusion.datasets.digits3 import load_digits3
from sklearn_mmfusion.datasets.generators import (
    make_multimodal_classification,
    make_multimodal_multilabel_classification,
    make_multimodal_regression,
)
from sklearn_mmfusion.datasets.multimodal_digits import load_multimodal_digits

__all__ = [
    "load_digits3",
    "load_multimodal_digits",
    "make_multimodal_classification",
    "make_multimodal_multilabel_classification",
    "make_multimodal_regression",
]
