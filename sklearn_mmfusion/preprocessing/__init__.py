"""Raw text and sound -> tensor-ready columns, with learned state."""

from sklearn_mmfusion.preprocessing.audio import LogMelSpectrogram
from sklearn_mmfusion.preprocessing.text import Tokenizer

__all__ = ["LogMelSpectrogram", "Tokenizer"]
