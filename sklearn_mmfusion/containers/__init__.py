"""Columns of images, waveforms, clips and files for an ordinary pandas DataFrame."""

from sklearn_mmfusion.containers._accessor import ModalitiesAccessor
from sklearn_mmfusion.containers._columns import as_column, as_frame, multimodal_frame
from sklearn_mmfusion.containers._dtypes import FileDtype, TensorDtype
from sklearn_mmfusion.containers._file import FileArray
from sklearn_mmfusion.containers._tensor import TensorArray

__all__ = [
    "FileArray",
    "FileDtype",
    "ModalitiesAccessor",
    "TensorArray",
    "TensorDtype",
    "as_column",
    "as_frame",
    "multimodal_frame",
]
