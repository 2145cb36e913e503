"""Columns of images, waveforms, clips and files for an ordinary pandas DataFrame."""

from sklearn_mmfusion.containers.accessor import ModalitiesAccessor
from sklearn_mmfusion.containers.arrow import register_cell_type
from sklearn_mmfusion.containers.conversion import as_column, as_frame, multimodal_frame
from sklearn_mmfusion.containers.dtypes import FileDtype, TensorDtype
from sklearn_mmfusion.containers.file_array import FileArray
from sklearn_mmfusion.containers.file_checks import check_files
from sklearn_mmfusion.containers.tensor_array import TensorArray

__all__ = [
    "FileArray",
    "FileDtype",
    "ModalitiesAccessor",
    "TensorArray",
    "TensorDtype",
    "as_column",
    "as_frame",
    "check_files",
    "multimodal_frame",
]

register_cell_type()  # by name: readers of parquet and feather look it up
