"""Computed cells -> a column."""

import numpy as np

from sklearn_mmfusion.containers import TensorArray
from sklearn_mmfusion.containers._dtypes import TensorDtype


def join_cells(values, lengths, present):
    """Make a column of cells that stand end to end.

    Parameters
    ----------
    values : ndarray of shape (total, ...), which the column takes over
    lengths : ndarray of int of shape (n_present,)
        Length of each cell along the first axis.
    present : ndarray of shape (n_samples,), dtype=bool
        Where the cells belong; the others are absent.

    Returns
    -------
    column : TensorArray of length n_samples
        Dense where all cells are equally long; nothing is copied.
    """
    inner = values.shape[1:]
    if len(lengths) and (lengths == lengths[0]).all():
        cells = TensorArray._adopt(values.reshape(len(lengths), lengths[0], *inner))
    else:
        shapes = np.column_stack([lengths, np.tile(inner, (len(lengths), 1))])
        cells = TensorArray._adopt_flat(values.reshape(-1), shapes)
        cells = cells.astype(TensorDtype(values.dtype, (None, *inner)))
    if present.all():
        return cells
    return cells.take(np.where(present, np.cumsum(present) - 1, -1), allow_fill=True)
