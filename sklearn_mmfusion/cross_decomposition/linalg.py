"""Centered blocks as their singular vectors: what whitening, MFA, MCCA and GCCA build on."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Basis:
    """Thin SVD of the centered present rows of a block, ``left * singular @ axes``.

    `mean` is of shape (width,), `left` (n_present, rank) or None, `singular` (rank,), largest
    first, `axes` (rank, width). A block without variance has rank 0.
    """

    mean: np.ndarray
    left: np.ndarray | None
    singular: np.ndarray
    axes: np.ndarray

    @property
    def rank(self):
        """Number of directions that hold more than rounding."""
        return len(self.singular)

    def rows(self, present, scale):
        """`left` times `scale` in all rows: zeros, which stand for the mean, where absent."""
        full = np.zeros((len(present), self.rank))
        full[present] = self.left * scale
        return full


def thin_svd(values, *, left=True):
    """The `Basis` of some rows, in float64; without ``left`` in less memory where rows abound.

    Directions whose singular value is below ``max(n, width) * eps`` of the largest are rounding
    and left out, eps being that of the values' own dtype.
    """
    tolerance = max(values.shape) * np.finfo(values.dtype).eps
    values = np.asarray(values, dtype=np.float64)
    n, mean = len(values), values.mean(axis=0)
    centered = values - mean
    if not left and n > values.shape[1]:  # R has the singular values and axes of the tall block
        centered = np.linalg.qr(centered, mode="r")
    U, singular, axes = np.linalg.svd(centered, full_matrices=False)
    # a large mean leaves its own rounding behind, in constant columns too
    scale = max(singular.max(initial=0), np.sqrt(n) * np.abs(mean).max(initial=0))
    rank = int(np.sum(singular > tolerance * scale))
    return Basis(mean, U[:, :rank] if left else None, singular[:rank], axes[:rank])


def fix_signs(axes):
    """Axes (k, d) turned so that the entry of largest magnitude in each is positive."""
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)
    return axes * np.where(largest < 0, -1.0, 1.0)


def split_columns(stacked, widths):
    """A matrix cut into one piece of columns for each width of {name: width}."""
    pieces = np.split(stacked, np.cumsum(list(widths.values()))[:-1], axis=1)
    return dict(zip(widths, pieces, strict=True))
