"""Data sets of several modalities that need no download."""

from sklearn_mmfusion.datasets.digits import load_digits3, load_multimodal_digits
from sklearn_mmfusion.datasets.generators import (
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
