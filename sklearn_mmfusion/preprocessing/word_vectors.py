"""Word vectors from a mapping or a text file, for the words of a vocabulary."""

import gzip
import os
import zlib
from collections.abc import Mapping

import numpy as np

from sklearn_mmfusion.preprocessing.text import normalize_text, split_words

GZIP = b"\x1f\x8b"  # the first bytes of a gzip file
LABEL = "TextEncoder: embeddings"  # starts messages


def read_vectors(embeddings, vocabulary, *, n_others, lowercase):
    """Read the vectors of the words of a vocabulary, and of some other words.

    Words are normalized as texts are; of several spellings of a word, the first counts.

    Parameters
    ----------
    embeddings : mapping of str to array-like, str or PathLike
        Vectors, or a file of them: see `TextEncoder`. A file is read line by line.
    vocabulary : collection of str
        Words whose vectors are read.
    n_others : int or float
        Number of other words whose vectors are read, the first ones that a text can hold.
    lowercase : bool
        Whether to case-fold.

    Returns
    -------
    vectors : dict of str to ndarray of shape (width,), dtype=float32
    """
    vectors, is_empty = {}, True
    is_mapping = isinstance(embeddings, Mapping)
    for place, word, values in (_items if is_mapping else _lines)(embeddings):
        is_empty, word = False, normalize_text(word, lowercase)
        if word in vectors:
            continue
        if word not in vocabulary:
            if n_others <= 0 or split_words(word) != [word]:
                continue
            n_others -= 1
        vectors[word] = _as_vector(values, place)
        _check_width(place, len(vectors[word]), len(next(iter(vectors.values()))))
    if is_empty:
        what = f"a {type(embeddings).__name__}" if is_mapping else repr(os.fspath(embeddings))
        raise ValueError(f"{LABEL}: {what} holds no vectors; expected at least one word.")
    return vectors


def _items(embeddings):
    for word, values in embeddings.items():
        if not isinstance(word, str):
            raise TypeError(f"{LABEL} has the key {word!r}; expected words (str).")
        yield f"{LABEL}[{word!r}]", word, values


def _lines(path):
    """Yield the place, the word and the values (one str) of each line of a file."""
    name = os.fspath(path)
    try:
        with open(name, "rb") as raw:
            is_gzip = raw.read(2) == GZIP
        options = {"mode": "rt", "encoding": "utf-8", "errors": "replace"}
        with (gzip.open if is_gzip else open)(name, **options) as file:
            yield from _split_lines(file, name)
    except (OSError, EOFError, zlib.error) as error:
        kind = type(error) if isinstance(error, FileNotFoundError) else ValueError
        raise kind(f"{LABEL}: cannot read the file {name!r} of word vectors: {error}") from error


def _split_lines(file, name):
    width, n_stated, n_rows = None, None, 0
    for row, line in enumerate(file, start=1):
        # Some words of published files are exotic spaces, at which `split()` would split.
        line = line.replace("\t", " ").rstrip(" \r\n")
        fields = line.split(" ") if width is None else ()
        if row == 1 and len(fields) == 2 and all(field.isdecimal() for field in fields):
            n_stated, width = map(int, fields)
        elif line:
            width = len(fields) - 1 if width is None else width
            place = f"{LABEL}: row {row} of {name!r}"
            n_rows += 1
            yield place, *_split_line(line, width, place)
    if n_stated is not None and n_rows < n_stated:
        raise ValueError(
            f"{LABEL}: {name!r} has {n_rows} rows after its first one, which states {n_stated}. "
            "The file is incomplete; download it again."
        )


def _split_line(line, width, place):
    word, _, values = line.partition(" ")
    if values.count(" ") + bool(values) != width or not width:
        fields = [field for field in line.split(" ") if field]
        n_words = len(fields) - width
        if n_words > 1 and _is_number(fields[1]) or not width:
            n_words = 1  # too many values, not a word of several parts
        n_values = len(fields) - n_words if n_words > 0 else len(fields) - 1
        _check_width(place, n_values, width, " Lines hold a word and its values, with spaces.")
        word, values = " ".join(fields[:n_words]), " ".join(fields[n_words:])
    return word, values


def _check_width(place, n_values, width, hint=""):
    if n_values != width or not width:
        expected = f"{width}, as before" if width else "at least one"
        raise ValueError(f"{place} has {n_values} values; expected {expected}.{hint}")


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def _as_vector(values, place):
    try:
        vector = np.array(values.split() if isinstance(values, str) else values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place} has values that are no numbers: {error}") from error
    if vector.ndim != 1:
        raise ValueError(f"{place} has shape {vector.shape}; expected one vector, (n_values,).")
    if not np.isfinite(vector).all():
        raise ValueError(f"{place} has NaN or infinite values; expected finite numbers.")
    return vector
