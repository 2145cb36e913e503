"""Raw text and sound -> tensor-ready columns, with learned state."""

from sklearn_mmfusion.preprocessing._audio import LogMelSpectrogram
from sklearn_mmfusion.preprocessing._text import Tokenizer

__all__ = ["LogMelSpectrogram", "Tokenizer"]
