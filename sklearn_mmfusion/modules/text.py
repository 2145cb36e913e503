"""Embedding bags and character convolution, or recurrent layers over words, for texts."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from sklearn_mmfusion.modules.layers import (
    Embedding,
    MaskedBatchNorm,
    masked_mean_max,
    pad,
    pool_in_chunks,
)
from sklearn_mmfusion.modules.recurrent import BidirectionalRNN


def bag(embedding: nn.EmbeddingBag, ids: Tensor, lengths: Tensor) -> Tensor:
    """Mean embedding of each text: ids (V,), lengths (N,) -> (N, D); zero where empty.

    Or ids (N, L), lengths the mask (N, L), in the fixed layout.
    """
    if lengths.ndim == 2:
        valid = lengths.to(embedding.weight.dtype)
        total = functional.embedding_bag(
            ids, embedding.weight, mode="sum", per_sample_weights=valid
        )
        return total / valid.sum(1, keepdim=True).clamp(min=1)
    offsets = lengths.cumsum(0) - lengths
    return embedding(ids, offsets.to(ids.device, non_blocking=True))


def drop_tokens(ids: Tensor, probability: float) -> Tensor:
    """Make some tokens unknown, so that the unknown bucket learns a meaning."""
    if not probability:
        return ids
    return ids * (torch.rand(ids.shape, device=ids.device) >= probability)


class WordEmbedding(nn.EmbeddingBag):
    """Embeddings of words; those of the last `n_frozen` ids are given and never trained."""

    def __init__(self, n_words: int, embedding_dim: int, n_frozen: int = 0):
        super().__init__(n_words - n_frozen, embedding_dim, mode="mean")
        self.register_buffer("frozen", torch.zeros(n_frozen, embedding_dim) if n_frozen else None)

    def set_vectors(self, vectors: Tensor) -> None:
        """Set the vectors of the last ids, (K, D): all frozen ones, or where training starts."""
        table = self.weight.detach() if self.frozen is None else self.frozen
        table[len(table) - len(vectors) :].copy_(vectors)

    def each(self, ids: Tensor) -> Tensor:
        """Embeddings of ids of any shape (...): (..., D)."""
        if self.frozen is None:
            return functional.embedding(ids, self.weight)
        is_frozen = ids >= self.num_embeddings
        trained = functional.embedding(torch.where(is_frozen, 0, ids), self.weight)
        given = functional.embedding((ids - self.num_embeddings).clamp(min=0), self.frozen)
        return torch.where(is_frozen[..., None], given, trained)

    def mean(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Mean embedding of each text, in either layout -> (N, D); zero where empty."""
        if self.frozen is None:
            return bag(self, ids, lengths)
        x, mask = pad(self.each(ids), lengths)
        mask = mask.to(x.device, non_blocking=True)
        return x.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


class TextNetwork(nn.Module):
    """Mean embeddings of words and character n-grams, and a character convolution.

    The bags follow Joulin et al. (2017, "Bag of tricks"), the convolution Zhang et al. (2015,
    "Character-level convolutional networks").

    Shape: for each of words, ngrams, chars: ids (V,) int64 and lengths (N,) int64, on the CPU
    -> (N, out_features) float. Id 0 is the unknown bucket. Embeddings of words have `word_dim`
    features, as many as the others by default.
    """

    fixed_shapes = True

    def __init__(
        self,
        n_words: int,
        n_ngrams: int,
        n_chars: int,
        out_features: int = 100,
        embedding_dim: int = 64,
        channels: int = 96,
        kernel_size: int = 3,
        dropout: float = 0.3,
        token_dropout: float = 0.1,
        word_dim: int | None = None,
        n_frozen: int = 0,
    ):
        super().__init__()
        self.out_features, self.token_features = out_features, channels
        self.token_dropout = token_dropout
        word_dim = word_dim or embedding_dim
        self.words = WordEmbedding(n_words, word_dim, n_frozen)
        self.ngrams = nn.EmbeddingBag(n_ngrams, embedding_dim, mode="mean")
        self.chars = nn.Embedding(n_chars, embedding_dim)
        self.convolution = nn.Conv1d(embedding_dim, channels, kernel_size, padding="same")
        self.norm = MaskedBatchNorm(channels)
        width = word_dim + embedding_dim + 2 * channels
        self.embedding = Embedding(width, out_features, dropout)

    def set_vectors(self, vectors: Tensor) -> None:
        """Set the embeddings of the last words, (K, word_dim)."""
        self.words.set_vectors(vectors)

    def forward(
        self,
        words: Tensor,
        words_lengths: Tensor,
        ngrams: Tensor,
        ngrams_lengths: Tensor,
        chars: Tensor,
        chars_lengths: Tensor,
    ) -> Tensor:
        bags = self._bags(words, words_lengths, ngrams, ngrams_lengths)
        reach = self.convolution.kernel_size[0] // 2
        pooled = pool_in_chunks(self, self._convolve, chars, chars_lengths, reach)
        return self.embedding(torch.cat([*bags, pooled], 1))

    def tokens(
        self,
        words: Tensor,
        words_lengths: Tensor,
        ngrams: Tensor,
        ngrams_lengths: Tensor,
        chars: Tensor,
        chars_lengths: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The embedding, and the convolved characters: (N, L, C), valid (N, L)."""
        bags = self._bags(words, words_lengths, ngrams, ngrams_lengths)
        x, valid = self._convolve(chars, chars_lengths)  # (N, C, L), (N, L)
        embedded = self.embedding(torch.cat([*bags, masked_mean_max(x, valid)], 1))
        return embedded, x.transpose(1, 2), valid

    def _bags(
        self, words: Tensor, words_lengths: Tensor, ngrams: Tensor, ngrams_lengths: Tensor
    ) -> list[Tensor]:
        return [
            self.words.mean(self._drop(words), words_lengths),
            bag(self.ngrams, self._drop(ngrams), ngrams_lengths),
        ]

    def _drop(self, ids: Tensor) -> Tensor:
        return drop_tokens(ids, self.token_dropout if self.training else 0.0)

    def _convolve(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x, mask = pad(self.chars(self._drop(ids)), lengths)  # (V, D) -> (N, L, D)
        x = self.convolution(x.transpose(1, 2))  # (N, D, L) -> (N, C, L)
        return functional.relu(self.norm(x, mask)), mask


class TextRNN(nn.Module):
    """Bidirectional LSTM or GRU over word embeddings, mean and maximum over words, one embedding.

    Shape: words (V,) int64, words_lengths (N,) int64, on the CPU -> (N, out_features) float. Id 0
    is the unknown bucket.
    """

    fixed_shapes = True

    def __init__(
        self,
        n_words: int,
        out_features: int = 100,
        cell: str = "gru",
        embedding_dim: int = 64,
        hidden_size: int = 64,
        num_layers: int = 1,
        dropout: float = 0.3,
        token_dropout: float = 0.1,
        word_dim: int | None = None,
        n_frozen: int = 0,
    ):
        super().__init__()
        self.out_features, self.token_dropout = out_features, token_dropout
        word_dim = word_dim or embedding_dim
        self.words = WordEmbedding(n_words, word_dim, n_frozen)
        self.recurrent = BidirectionalRNN(cell, word_dim, hidden_size, num_layers, dropout)
        self.token_features = self.recurrent.out_features
        self.embedding = Embedding(2 * self.token_features, out_features, dropout)

    def set_vectors(self, vectors: Tensor) -> None:
        """Set the embeddings of the last words, (K, word_dim)."""
        self.words.set_vectors(vectors)

    def forward(self, words: Tensor, words_lengths: Tensor) -> Tensor:
        return self.tokens(words, words_lengths)[0]

    def tokens(self, words: Tensor, words_lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The embedding, and the steps it pools: (N, L, token_features), valid (N, L)."""
        ids = drop_tokens(words, self.token_dropout if self.training else 0.0)
        x, mask = pad(self.words.each(ids), words_lengths)  # (V, D) -> (N, L, D)
        x = self.recurrent(x, words_lengths)
        return self.embedding(masked_mean_max(x.transpose(1, 2), mask)), x, mask
