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


class TextNetwork(nn.Module):
    """Mean embeddings of words and character n-grams, and a character convolution.

    The bags follow Joulin et al. (2017, "Bag of tricks"), the convolution Zhang et al. (2015,
    "Character-level convolutional networks").

    Shape: for each of words, ngrams, chars: ids (V,) int64 and lengths (N,) int64, on the CPU
    -> (N, out_features) float. Id 0 is the unknown bucket.
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
    ):
        super().__init__()
        self.out_features, self.token_features = out_features, channels
        self.token_dropout = token_dropout
        self.words = nn.EmbeddingBag(n_words, embedding_dim, mode="mean")
        self.ngrams = nn.EmbeddingBag(n_ngrams, embedding_dim, mode="mean")
        self.chars = nn.Embedding(n_chars, embedding_dim)
        self.convolution = nn.Conv1d(embedding_dim, channels, kernel_size, padding="same")
        self.norm = MaskedBatchNorm(channels)
        self.embedding = Embedding(2 * embedding_dim + 2 * channels, out_features, dropout)

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
            bag(self.words, self._drop(words), words_lengths),
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
    ):
        super().__init__()
        self.out_features, self.token_dropout = out_features, token_dropout
        self.words = nn.Embedding(n_words, embedding_dim)
        self.recurrent = BidirectionalRNN(cell, embedding_dim, hidden_size, num_layers, dropout)
        self.token_features = self.recurrent.out_features
        self.embedding = Embedding(2 * self.token_features, out_features, dropout)

    def forward(self, words: Tensor, words_lengths: Tensor) -> Tensor:
        return self.tokens(words, words_lengths)[0]

    def tokens(self, words: Tensor, words_lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The embedding, and the steps it pools: (N, L, token_features), valid (N, L)."""
        ids = drop_tokens(words, self.token_dropout if self.training else 0.0)
        x, mask = pad(self.words(ids), words_lengths)  # (V, D) -> (N, L, D)
        x = self.recurrent(x, words_lengths)
        return self.embedding(masked_mean_max(x.transpose(1, 2), mask)), x, mask
