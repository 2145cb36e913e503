"""Texts -> token ids, with a learned vocabulary."""

import re
import unicodedata
from collections import Counter
from functools import cache
from itertools import chain, repeat
from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from sklearn_mmfusion._file_formats import file_kind
from sklearn_mmfusion._sklearn import Interval, StrOptions, _fit_context
from sklearn_mmfusion._validation import all_or_nothing, as_fitted, remember_params, warn
from sklearn_mmfusion.containers import TensorArray
from sklearn_mmfusion.containers.cells import CellKind
from sklearn_mmfusion.containers.column_input import check_column, is_table
from sklearn_mmfusion.containers.tensor_array import join_cells

TEXT = CellKind("text")
UNKNOWN = 0  # id of the bucket that every n-gram outside the vocabulary falls into
_ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_ALONE_BEYOND = "\U00020000-\U0003134f"  # of the planes after the first
_SIGNS, _SIGNS_BEYOND = "\u2600-\u27bf", "\U0001f300-\U0001faff"
_PLAIN_WORDS = re.compile(r"\w+").findall


@cache
def _patterns():
    """Patterns for characters that `_PLAIN_WORDS` splits wrongly, and for all words."""
    # Python's \w leaves out the combining vowel signs of Indic and other scripts, which would
    # cut their words apart; and Chinese and Japanese write no spaces, so that there every
    # ideograph or kana is a token and n-grams make the words. Emoji carry meaning in a short text.
    marks = [c for c in map(chr, range(0x300, 0x1E94C)) if unicodedata.category(c)[0] == "M"]
    alone = f"{_ALONE}{_ALONE_BEYOND}"
    joining = re.escape(re.sub(f"[{alone}]", "", "".join(marks)))
    words = f"[{alone}{_SIGNS}{_SIGNS_BEYOND}]|(?:[^\\W{alone}]+|[{joining}]+)+"
    # A class of the first plane and one range is looked up ten times as fast as all of them.
    first_plane = re.escape("".join(c for c in marks if c < "\U00010000"))
    special = f"[{_ALONE}{_SIGNS}{first_plane}\U00010000-\U0010ffff]"
    return re.compile(special), re.compile(words)


def normalize_text(text, lowercase=True):
    """Apply Unicode NFKC and, optionally, case folding.

    Parameters
    ----------
    text : str
    lowercase : bool, default=True

    Returns
    -------
    text : str
    """
    text = unicodedata.normalize("NFKC", text)
    return text.casefold() if lowercase else text


def split_words(text):
    """Split text into words; each Chinese or Japanese character is one word.

    Parameters
    ----------
    text : str

    Returns
    -------
    words : list of str
    """
    if text.isascii():
        return _PLAIN_WORDS(text)
    special, words = _patterns()
    return words.findall(text) if special.search(text) else _PLAIN_WORDS(text)


def clean_texts(texts, lowercase=True):
    """Turn texts into words separated by single spaces, as `Tokenizer` counts them.

    Parameters
    ----------
    texts : iterable of str
    lowercase : bool, default=True

    Returns
    -------
    texts : list of str
    """
    return [" ".join(split_words(normalize_text(text, lowercase))) for text in texts]


def cut_texts(texts, max_length, estimator_name):
    """Keep the first characters of each text; warn about those that are longer.

    Parameters
    ----------
    texts : list of str
        Output of `clean_texts`.
    max_length : int or None
        None keeps all characters.
    estimator_name : str
        For the warning.

    Returns
    -------
    texts : list of str
    """
    cut = [len(text) for text in texts if len(text) > max_length] if max_length else []
    if not cut:
        return texts
    warn(
        f"{estimator_name}: {len(cut)} of {len(texts)} texts have more than "
        f"max_length={max_length} characters, the longest one {max(cut)}; the rest is not read. "
        "Raise max_length to read more."
    )
    return [text[:max_length].rstrip() for text in texts]


class Tokenizer(TransformerMixin, BaseEstimator):
    """Turn texts into sequences of token ids.

    `fit` learns which n-grams get an id of their own; all others share id 0. Text is brought to
    Unicode NFKC form and, by default, case-folded. Words are runs of letters, digits and
    combining marks of any script; each Chinese or Japanese character is one word.

    Parameters
    ----------
    analyzer : {"word", "char"}, default="word"
        N-grams of words, or of the characters of the words separated by single spaces.

    ngram_range : tuple of (int, int), default=(1, 1)
        Shortest and longest n-gram.

    lowercase : bool, default=True
        Whether to case-fold.

    min_df : int, default=1
        Smallest number of texts an n-gram must occur in.

    max_features : int, default=None
        Keep only the n-grams that occur in most texts; None keeps all.

    Attributes
    ----------
    vocabulary_ : dict of str to int
        N-gram to id, from 1.

    n_tokens_ : int
        Number of ids, including the unknown bucket.

    n_features_in_ : int
        1 for a column of texts, else the number of columns of a numeric table.

    See Also
    --------
    TextEncoder : Learns features from these ids.
    sklearn.feature_extraction.text.CountVectorizer : Counts instead of sequences.

    Notes
    -----
    About 5 microseconds per text of ten words; memory is the vocabulary.

    Examples
    --------
    >>> from sklearn_mmfusion import Tokenizer
    >>> tokenizer = Tokenizer().fit(["one two", "two three"])
    >>> tokenizer.vocabulary_
    {'two': 1, 'one': 2, 'three': 3}
    >>> [ids.tolist() for ids in tokenizer.transform(["two four"])]
    [[1, 0]]
    """

    wants_column = True
    _reads = TEXT

    _parameter_constraints = {
        "analyzer": [StrOptions({"word", "char"})],
        "ngram_range": [tuple],
        "lowercase": ["boolean"],
        "min_df": [Interval(Integral, 1, None, closed="left")],
        "max_features": [Interval(Integral, 1, None, closed="left"), None],
    }

    def __init__(
        self, analyzer="word", *, ngram_range=(1, 1), lowercase=True, min_df=1, max_features=None
    ):
        self.analyzer = analyzer
        self.ngram_range = ngram_range
        self.lowercase = lowercase
        self.min_df = min_df
        self.max_features = max_features

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Learn the vocabulary.

        Parameters
        ----------
        X : sequence of str or array-like of shape (n_samples, n_features)
            Texts, None where absent. Rows of numbers are read as their digits.
        y : Ignored

        Returns
        -------
        self : object
        """
        with all_or_nothing(self):
            texts = as_texts(check_column(self, X, reset=True))
            texts = [text for text in texts if text is not None]
            warn_if_paths(texts, type(self).__name__)
            return self.fit_clean(clean_texts(texts, self.lowercase))

    def fit_clean(self, texts):
        """Learn the vocabulary of texts that are clean already.

        Parameters
        ----------
        texts : list of str
            Output of `clean_texts`.

        Returns
        -------
        self : object
        """
        shortest, longest = self.ngram_range if len(self.ngram_range) == 2 else (0, 0)
        if not 1 <= shortest <= longest:
            raise ValueError(
                f"{type(self).__name__}: ngram_range={self.ngram_range}; expected two whole "
                "numbers, 1 <= shortest <= longest."
            )
        counts = Counter(chain.from_iterable(set(self._analyze(text)) for text in texts))
        kept = [token for token, count in counts.items() if count >= self.min_df]
        kept.sort(key=lambda token: (-counts[token], token))
        self.vocabulary_ = {token: i for i, token in enumerate(kept[: self.max_features], start=1)}
        self.n_tokens_ = len(self.vocabulary_) + 1
        remember_params(self)
        return self

    def transform(self, X):
        """Convert texts to token ids.

        Parameters
        ----------
        X : sequence of str or array-like of shape (n_samples, n_features)

        Returns
        -------
        ids : TensorArray of length n_samples, cells of shape (n_tokens,), dtype=int32
            NA where the text is absent; an empty cell where it holds no token. A table of
            numbers gives a table of words: an ndarray of shape (n_samples, n_tokens).
        """
        check_is_fitted(self)
        texts, fitted = as_texts(check_column(self, X, reset=False)), as_fitted(self)
        present = np.array([text is not None for text in texts])
        clean = clean_texts((t for t in texts if t is not None), fitted.lowercase)
        ids = join_cells(*fitted.look_up(clean), present)
        # Every number is one word: rows of equally many numbers have equally many words.
        return ids.gather() if is_table(X) and fitted.analyzer == "word" else ids

    def encode(self, text):
        """Return the token ids of one text.

        Parameters
        ----------
        text : str

        Returns
        -------
        ids : ndarray of shape (n_tokens,), dtype=int32
        """
        fitted = as_fitted(self)
        return fitted.look_up(clean_texts([text], fitted.lowercase))[0]

    def look_up(self, texts):
        """Convert clean texts to token ids.

        Parameters
        ----------
        texts : list of str
            Output of `clean_texts`.

        Returns
        -------
        ids : ndarray of shape (total,), dtype=int32
            Of all texts, end to end.
        counts : ndarray of shape (n_texts,), dtype=int64
            Number of tokens of each text.
        """
        counts = []

        def tokens():
            for text in texts:
                counts.append(len(own := self._analyze(text)))
                yield own

        found = map(self.vocabulary_.get, chain.from_iterable(tokens()), repeat(UNKNOWN))
        return np.fromiter(found, dtype=np.int32), np.array(counts, dtype=np.int64)

    def _analyze(self, text):
        """N-grams of a clean text, the shortest first."""
        shortest, longest = self.ngram_range
        if self.analyzer == "word":
            words = text.split()
            if longest == 1:
                return words
            return [
                " ".join(gram)
                for n in range(shortest, longest + 1)
                for gram in zip(*(words[i:] for i in range(n)), strict=False)  # to the last whole
            ]
        text = f" {text} " if text else ""
        grams = list(text) if shortest == 1 else []
        for n in range(max(shortest, 2), longest + 1):
            grams += [text[i : i + n] for i in range(len(text) - n + 1)]
        return grams

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags


def as_texts(column):
    """Read any column as texts.

    Parameters
    ----------
    column : ExtensionArray or ndarray
        Text, or numeric cells, which are read as their digits.

    Returns
    -------
    texts : list of str or None
    """
    if isinstance(column, TensorArray):
        is_flat = len(column.dtype.cell_shape) == 1 and not column.is_ragged
        if not (is_flat or column.isna().all()):
            raise TypeError(f"Got a column of cells of type {column.dtype}; expected texts.")
        return [
            " ".join(map(_as_word, np.ravel(c))) if isinstance(c, np.ndarray) else None
            for c in column
        ]
    if isinstance(column, np.ndarray):
        return [None if v != v else f"{v:.6g}" for v in column]
    wrong = _not_texts(column)
    if wrong is not None:
        raise TypeError(f"Got {wrong}; expected texts. Convert them with `astype(str)`.")
    return [str(t) if isinstance(t, str) else None for t in column]


def warn_if_paths(texts, estimator_name):
    """Warn if all texts are paths of images, recordings or arrays."""
    if texts and all(map(file_kind, texts)):
        warn(
            f"{estimator_name}: all {len(texts)} texts are paths of files, such as {texts[0]!r}; "
            "the paths are encoded as texts. To encode the contents of the files, use an "
            "ImageEncoder or an AudioEncoder."
        )


def _not_texts(column):
    """What a column of other things than texts holds, for a message; None for texts."""
    values = column.categories if isinstance(column, pd.Categorical) else column
    if pd.api.types.is_string_dtype(values.dtype) and values.dtype != object:
        return None
    for value in values:
        if not isinstance(value, str) and not (np.ndim(value) == 0 and pd.isna(value)):
            kind = "categories" if values is not column else "cells"
            return f"a column of dtype {column.dtype} with {kind} such as {value!r}"
    return None


def _as_word(number):
    # Letters replace signs and point, which would split a number into several words.
    digits = str(number) if isinstance(number, np.integer) else f"{number + 0.0:.6g}"
    return digits.translate({ord("-"): "m", ord("+"): "p", ord("."): "_"})
