"""Transformers that learn features from one modality."""

from sklearn_mmfusion.feature_extraction.audio import AudioEncoder
from sklearn_mmfusion.feature_extraction.image import ImageEncoder
from sklearn_mmfusion.feature_extraction.point_cloud import PointCloudEncoder
from sklearn_mmfusion.feature_extraction.sequence import SequenceEncoder
from sklearn_mmfusion.feature_extraction.text import TextEncoder
from sklearn_mmfusion.feature_extraction.video import VideoEncoder

__all__ = [
    "AudioEncoder",
    "ImageEncoder",
    "PointCloudEncoder",
    "SequenceEncoder",
    "TextEncoder",
    "VideoEncoder",
]
