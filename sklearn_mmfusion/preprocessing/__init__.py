"""Raw columns -> clean columns, and text and sound -> tensor-ready columns."""

from sklearn_mmfusion.preprocessing.audio import LogMelSpectrogram
from sklearn_mmfusion.preprocessing.cleaning import (
    AudioCleaner,
    ImageCleaner,
    SequenceCleaner,
    TextCleaner,
)
from sklearn_mmfusion.preprocessing.text import Tokenizer

__all__ = [
    "AudioCleaner",
    "ImageCleaner",
    "LogMelSpectrogram",
    "SequenceCleaner",
    "TextCleaner",
    "Tokenizer",
]
