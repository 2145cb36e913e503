"""Helpers of the data sets: independent random streams, and absent cells."""

import zlib

import numpy as np
from sklearn.utils import Bunch

from sklearn_mmfusion.containers import TensorArray, multimodal_frame


def stream(seed, name):
    """Return the generator of one named part: another part drawing more does not disturb it.

    The legacy generator, because numpy keeps its numbers the same from version to version.
    """
    return np.random.RandomState(zlib.crc32(f"{seed}/{name}".encode()))


def draw_absent(n_samples, n_modalities, rate, rng):
    """Draw which cells are absent; a row keeps at least one modality.

    Parameters
    ----------
    n_samples, n_modalities : int
        Shape of the frame.
    rate : float
        Probability that a cell is absent, from 0 to below 1.
    rng : numpy.random.RandomState
        Source of randomness.

    Returns
    -------
    absent : ndarray of shape (n_samples, n_modalities), dtype=bool
        True where the cell becomes absent.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"missing_rate={rate!r}; expected a share from 0 to below 1.")
    absent = rng.uniform(size=(n_samples, n_modalities)) < rate
    kept = rng.randint(n_modalities, size=n_samples)
    empty = absent.all(axis=1)
    absent[empty, kept[empty]] = False
    return absent


def build_frame(columns, missing_rate, seed):
    """Build the data frame of columns, some of their cells absent.

    Parameters
    ----------
    columns : dict of str to TensorArray or list of str
        The complete columns, by name.
    missing_rate : float
        Probability that a cell is absent.
    seed : int
        Seed of the data set; which cells are absent changes nothing else.

    Returns
    -------
    X : pandas.DataFrame of shape (n_samples, n_modalities)
        The frame.
    """
    n_samples = len(next(iter(columns.values())))
    absent = draw_absent(n_samples, len(columns), missing_rate, stream(seed, "absent"))
    thinned = {
        name: remove_cells(column, gone)
        for (name, column), gone in zip(columns.items(), absent.T, strict=True)
    }
    return multimodal_frame(**thinned)


def remove_cells(column, gone):
    """Return the column with the cells where `gone` marked absent."""
    if not gone.any():
        return column
    if isinstance(column, TensorArray):
        column[gone] = column.dtype.na_value
        return column
    return [None if away else cell for cell, away in zip(column, gone, strict=True)]


def as_bunch(X, y, return_X_y, **extras):
    """Return (X, y), or a Bunch with everything, as scikit-learn's loaders do."""
    return (X, y) if return_X_y else Bunch(data=X, target=y, **extras)
