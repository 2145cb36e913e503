"""Features of texts."""

import os
from collections.abc import Mapping
from numbers import Integral

import numpy as np
import torch
from torch.optim import AdamW

from sklearn_mmfusion._shared_docs import document_parameters
from sklearn_mmfusion._sklearn import Interval, StrOptions
from sklearn_mmfusion._torch import Inputs, RaggedRows
from sklearn_mmfusion._validation import warn
from sklearn_mmfusion.containers.column_input import check_column
from sklearn_mmfusion.feature_extraction.base import BaseModalityEncoder
from sklearn_mmfusion.modules.text import TextNetwork, TextRNN
from sklearn_mmfusion.preprocessing.text import (
    TEXT,
    Tokenizer,
    as_texts,
    clean_texts,
    cut_texts,
    warn_if_paths,
)
from sklearn_mmfusion.preprocessing.word_vectors import read_vectors

__all__ = ["TextEncoder"]

# network, its options, and the tokenizers whose ids it reads
ARCHITECTURES = {
    "cnn": (TextNetwork, {}, ("words", "ngrams", "chars")),
    "gru": (TextRNN, {"cell": "gru"}, ("words",)),
    "lstm": (TextRNN, {"cell": "lstm"}, ("words",)),
}
LONG_TEXT = 50_000  # characters; training on longer texts gives a warning
BYTES_PER_CHARACTER = 9_000  # of memory in training: measured with a text of 10^6 characters


@document_parameters("encoder", "network")
class TextEncoder(BaseModalityEncoder):
    """Learn features of texts from words, character n-grams and a character convolution.

    Or, with another `architecture`, from words in their order. `fit` learns the vocabularies, then
    trains embeddings, network and a linear head to predict `y`; `transform` returns the output of
    the layer before the head. Text is brought to Unicode NFKC form and case-folded; each Chinese or
    Japanese character is one word. An n-gram outside the vocabulary falls into an unknown bucket.

    X is a column of texts (list, pandas column, array of str), or a 2-D numeric array, whose
    rows are read as their digits.

    Parameters
    ----------
    architecture : {"cnn", "gru", "lstm"}, default="cnn"
        Mean embeddings of words and character n-grams, and a convolution over the characters; or a
        bidirectional GRU or LSTM over the words alone, for longer texts in which the order of
        words matters.

    word_ngram_range : tuple of (int, int), default=(1, 1)
        Shortest and longest n-gram of words; (1, 1) if the architecture is recurrent.

    char_ngram_range : tuple of (int, int), default=(1, 4)
        Shortest and longest n-gram of characters; unused if the architecture is recurrent.

    lowercase : bool, default=True
        Whether to case-fold.

    min_df : int, default=1
        Smallest number of training texts an n-gram must occur in.

    max_features : int, default=50000
        Maximum size of each vocabulary; the n-grams in most texts are kept.

    embedding_dim : int, default=64
        Width of the embeddings; those of words have the width of `embeddings`, if given.

    embeddings : mapping of str to array-like, str or PathLike, default=None
        Word vectors, or the path of a file of them in the text format of word2vec and GloVe, also
        gzipped: one word and its values per line, optionally after a line with their numbers. A
        file is read line by line, and a path keeps clones and pickles small. Words are normalized
        like the texts.

    freeze_embeddings : bool, default=True
        Whether the word vectors stay as they are. The vocabulary then also gets the first other
        words of `embeddings`, up to `max_features` in all, so that words unseen in training count
        in prediction. If False, the vectors are where the training of the embeddings starts. Words
        without a vector are trained in either case.

    max_length : int, default=None
        Characters of each text that are read, after normalization. The rest is cut, with a warning
        that counts the texts; None reads all.

    augment_copies : int, default=4
        Corruptions of texts in `augment` are applied to so many copies of each training cell
        before training. Every epoch draws one of them.

    module : type, default=None
        Class of a network to use in place of the default network; it is called with the
        keywords ``n_words``, ``n_ngrams``, ``n_chars``, ``out_features`` and `module_params`,
        and its ``forward`` takes ``words``, ``ngrams``, ``chars`` (ids end to end) and their
        ``..._lengths``; without n-grams and characters if `architecture` is recurrent. If
        it defines ``set_vectors(vectors)``, that is called with `vectors_`. Its attribute
        ``out_features`` is the width of its output.

    Attributes
    ----------
    module_ : torch.nn.Module
        The trained network: ``encoder`` and ``head``.

    tokenizers_ : dict of str to Tokenizer
        The fitted tokenizers of "words", "ngrams" and "chars"; of "words" alone if the
        architecture is recurrent.

    vectors_ : ndarray of shape (n_vectors, width), dtype=float32
        Word vectors of the last ids of words, if `embeddings` has any.

    n_words_found_ : int
        Number of the words of the training texts that `embeddings` has, if given.

    classes_ : ndarray of shape (n_classes,)
        Labels of the classes, if the target has classes.

    history_ : list of dict
        Losses of each epoch of the validated training, and of each call of `partial_fit`.

    n_iter_ : int
        Number of epochs of the final network; each call of `partial_fit` adds one.

    n_features_in_ : int
        1 for a column of texts, else the number of columns of a numeric table.

    See Also
    --------
    Tokenizer : The vocabulary by itself.
    FusionTransformer : Joins the features of several modalities.

    Notes
    -----
    Bags are summed without padding; the convolution sees valid characters only, so that neither
    padding nor batch composition changes a result. A fitted encoder holds its word vectors twice,
    4 bytes per value: lower `max_features` to keep fewer.

    References
    ----------
    .. [1] Joulin, Grave, Bojanowski, Mikolov (2017). "Bag of tricks for efficient text
       classification." EACL. arXiv:1607.01759
    .. [2] Hochreiter, Schmidhuber (1997). "Long short-term memory." Neural Computation 9(8).
       doi:10.1162/neco.1997.9.8.1735
    .. [3] Zhang, Zhao, LeCun (2015). "Character-level convolutional networks for text
       classification." NeurIPS. arXiv:1509.01626

    Examples
    --------
    >>> from sklearn_mmfusion import TextEncoder
    >>> texts = ["good film", "fine film", "bad film", "poor film"] * 5
    >>> encoder = TextEncoder(n_components=8, max_epochs=2, random_state=0)
    >>> encoder.fit_transform(texts, [1, 1, 0, 0] * 5).shape
    (20, 8)
    """

    _reads = TEXT

    _modality = "text"

    _parameter_constraints = {
        **BaseModalityEncoder._parameter_constraints,
        "architecture": [StrOptions(set(ARCHITECTURES))],
        "word_ngram_range": [tuple],
        "char_ngram_range": [tuple],
        "lowercase": ["boolean"],
        "min_df": [Interval(Integral, 1, None, closed="left")],
        "max_features": [Interval(Integral, 1, None, closed="left"), None],
        "embedding_dim": [Interval(Integral, 1, None, closed="left")],
        "embeddings": [Mapping, str, os.PathLike, None],
        "freeze_embeddings": ["boolean"],
        "max_length": [Interval(Integral, 1, None, closed="left"), None],
    }

    def __init__(
        self,
        n_components=100,
        *,
        architecture="cnn",
        word_ngram_range=(1, 1),
        char_ngram_range=(1, 4),
        lowercase=True,
        min_df=1,
        max_features=50000,
        embedding_dim=64,
        embeddings=None,
        freeze_embeddings=True,
        max_length=None,
        file_params=None,
        augment=None,
        augment_copies=4,
        module=None,
        module_params=None,
        dropout=0.3,
        target_type="auto",
        loss="auto",
        max_epochs="auto",
        lr=2e-3,
        batch_size="auto",
        optimizer=AdamW,
        weight_decay=0.01,
        label_smoothing=0.1,
        early_stopping=True,
        validation_fraction=0.2,
        refit=True,
        class_weight=None,
        callbacks=None,
        net_params=None,
        device="auto",
        precision="float32",
        warm_start=False,
        random_state=None,
        verbose=0,
    ):
        self.n_components = n_components
        self.architecture = architecture
        self.word_ngram_range = word_ngram_range
        self.char_ngram_range = char_ngram_range
        self.lowercase = lowercase
        self.min_df = min_df
        self.max_features = max_features
        self.embedding_dim = embedding_dim
        self.embeddings = embeddings
        self.freeze_embeddings = freeze_embeddings
        self.max_length = max_length
        self.file_params = file_params
        self.augment = augment
        self.augment_copies = augment_copies
        self.module = module
        self.module_params = module_params
        self.dropout = dropout
        self.target_type = target_type
        self.loss = loss
        self.max_epochs = max_epochs
        self.lr = lr
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.weight_decay = weight_decay
        self.label_smoothing = label_smoothing
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.refit = refit
        self.class_weight = class_weight
        self.callbacks = callbacks
        self.net_params = net_params
        self.device = device
        self.precision = precision
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    def _learn(self, cells):
        texts = as_texts(cells.take())
        warn_if_paths(texts, type(self).__name__)
        self.tokenizers_ = self._make_tokenizers()
        clean = self._clean(texts)
        longest = max(map(len, clean))
        if longest > LONG_TEXT:
            gigabytes = longest * BYTES_PER_CHARACTER / 1e9
            warn(
                f"TextEncoder: the longest of {len(texts)} texts has {longest} characters; "
                f"training on it takes about {gigabytes:.1f} GB of memory. Set max_length to read "
                "fewer characters."
            )
        for tokenizer in self.tokenizers_.values():
            check_column(tokenizer, cells.column, reset=True)  # so that it also works on its own
            tokenizer.fit_clean(clean)
        if all(tokenizer.n_tokens_ == 1 for tokenizer in self.tokenizers_.values()):
            raise ValueError(
                f"TextEncoder: no token occurs in at least min_df={self.min_df} of the "
                f"{len(texts)} texts (first text: {texts[0]!r}); the vocabulary is empty."
            )
        self._read_embeddings()
        return self._look_up(clean)

    def _read_embeddings(self):
        """Read the vectors of words, which become the last ones of the vocabulary."""
        for name in ("vectors_", "n_words_found_"):  # of an earlier fit
            vars(self).pop(name, None)
        if self.embeddings is None:
            return
        tokenizer = self.tokenizers_["words"]
        words, n_others = tokenizer.vocabulary_, 0
        if self.freeze_embeddings:
            n_others = (np.inf if self.max_features is None else self.max_features) - len(words)
        options = {"n_others": n_others, "lowercase": self.lowercase}
        vectors = read_vectors(self.embeddings, words, **options)
        without = [word for word in words if word not in vectors]
        self.n_words_found_ = len(words) - len(without)
        if not self.n_words_found_:
            warn(
                f"TextEncoder: embeddings has none of the {len(words)} words of the training texts "
                f"(such as {without[:3]}). Check its language, and lowercase={self.lowercase}."
            )
        if vectors:
            self.vectors_ = np.stack(list(vectors.values()))
            tokenizer.vocabulary_ = {w: i for i, w in enumerate([*without, *vectors], start=1)}
            tokenizer.n_tokens_ = len(tokenizer.vocabulary_) + 1

    def build_module(self):
        """Build an untrained network for the texts that `fit_prepare` or `fit` has seen.

        Returns
        -------
        module : torch.nn.Module
            Its attribute ``out_features`` is the width of its output.
        """
        module = super().build_module()
        if hasattr(self, "vectors_") and hasattr(module, "set_vectors"):
            module.set_vectors(torch.tensor(self.vectors_, device="cpu"))
        return module

    def _make_tokenizers(self):
        names = ARCHITECTURES[self.architecture][2]
        if "ngrams" not in names and self.word_ngram_range != (1, 1):
            raise ValueError(
                f"TextEncoder: word_ngram_range={self.word_ngram_range}, but "
                f"architecture={self.architecture!r} reads single words in their order; expected "
                "(1, 1). Omit word_ngram_range, or set architecture='cnn'."
            )
        shared = {"lowercase": self.lowercase, "min_df": self.min_df}
        shared["max_features"] = self.max_features
        tokenizers = {
            "words": Tokenizer("word", ngram_range=self.word_ngram_range, **shared),
            "ngrams": Tokenizer("char", ngram_range=self.char_ngram_range, **shared),
            "chars": Tokenizer("char", **shared),
        }
        return {name: tokenizers[name] for name in names}

    def _read_cells(self, cells):
        return as_texts(cells.take()), None

    def _prepare(self, cells):
        return self._look_up(self._clean(as_texts(cells.take())))

    def _clean(self, texts):
        clean = clean_texts(texts, self.lowercase)
        return cut_texts(clean, self.max_length, type(self).__name__)

    def _look_up(self, clean):
        tokenizers = self.tokenizers_.items()
        return Inputs(**{name: RaggedRows(*t.look_up(clean)) for name, t in tokenizers})

    def _network(self):
        sizes = {f"n_{name}": t.n_tokens_ for name, t in self.tokenizers_.items()}
        network, options, _ = ARCHITECTURES[self.architecture]
        options = {**options, "embedding_dim": self.embedding_dim}
        if hasattr(self, "vectors_"):
            n_vectors, options["word_dim"] = self.vectors_.shape
            options["n_frozen"] = n_vectors if self.freeze_embeddings else 0
        return network, sizes, options

    def __getstate__(self):
        state = super().__getstate__()
        if isinstance(self.embeddings, str | os.PathLike) and os.path.exists(self.embeddings):
            file = os.stat(self.embeddings)
            state["_embeddings_file"] = file.st_size, file.st_mtime_ns  # part of keys of caches
        return state
