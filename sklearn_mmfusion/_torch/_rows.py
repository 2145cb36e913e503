"""Rows of prepared inputs, gathered by index.

An encoder prepares its column once into *sources*: arrays that give a batch of rows as tensors.
Small dtypes (uint8 pixels, int32 token ids) stay small until they are on the device.
"""

import numpy as np
import torch
from scipy.sparse import issparse


class DenseRows:
    """Rows of an array or memory map, gathered with one index.

    Parameters
    ----------
    values : ndarray of shape (n, ...) or CSR matrix, which batches make dense
    """

    def __init__(self, values):
        self.values = values

    def __len__(self):
        return self.values.shape[0]

    def lengths(self):
        return None

    def batch(self, name, rows):
        values = self.values[rows]
        return {name: _as_tensor(values.toarray() if issparse(values) else values)}


class RaggedRows:
    """Sequences that stand end to end; a batch is their values and lengths, unpadded.

    Parameters
    ----------
    values : ndarray of shape (n_steps, ...)
    lengths : ndarray of shape (n,), dtype=int64
    """

    def __init__(self, values, lengths):
        self.values = values
        self.sizes = np.asarray(lengths, dtype=np.int64)
        self.starts = np.cumsum(self.sizes) - self.sizes

    def __len__(self):
        return len(self.sizes)

    def lengths(self):
        return self.sizes

    def batch(self, name, rows):
        sizes = self.sizes[rows]
        ends = np.cumsum(sizes)
        steps = np.repeat(self.starts[rows] - (ends - sizes), sizes) + np.arange(sizes.sum())
        return {name: _as_tensor(self.values[steps]), f"{name}_lengths": torch.from_numpy(sizes)}


class LazyRows:
    """Rows that ``read(row indices) -> ndarray`` decodes when a batch asks for them."""

    def __init__(self, n_rows, read):
        self.n_rows, self.read = n_rows, read

    def __len__(self):
        return self.n_rows

    def lengths(self):
        return None

    def batch(self, name, rows):
        return {name: _as_tensor(self.read(rows))}


def _as_tensor(values):
    values = np.ascontiguousarray(values)
    if not values.flags.writeable:
        values = values.copy()
    if values.dtype.kind in "iu" and values.dtype != np.uint8:
        values = values.astype(np.int64)
    return torch.from_numpy(values)


class Inputs:
    """What a network reads: one source per keyword of its ``forward``.

    Parameters
    ----------
    sources : dict of str to DenseRows, RaggedRows or LazyRows
    """

    def __init__(self, **sources):
        self.sources = sources

    def __len__(self):
        return len(next(iter(self.sources.values())))

    def lengths(self):
        """Longest axis of each row, or None where all rows are equally long."""
        lengths = [s.lengths() for s in self.sources.values() if s.lengths() is not None]
        return np.max(lengths, axis=0) if lengths else None

    def batch(self, rows, device="cpu"):
        """Gather rows as a dict of tensors on ``device``, the keywords of ``forward``."""
        tensors = {}
        for name, source in self.sources.items():
            tensors.update(source.batch(name, rows))
        return {name: tensor.to(device) for name, tensor in tensors.items()}


class FusionInputs:
    """What a joint network reads: the inputs of several modalities, any of which a row may lack.

    Parameters
    ----------
    parts : dict of str to (Inputs or None, ndarray of shape (n,), dtype=bool)
        For each modality the inputs of its present rows, and which rows those are.
    """

    def __init__(self, parts):
        self.parts = {name: inputs for name, (inputs, _) in parts.items()}
        self.mask = np.stack([present for _, present in parts.values()], axis=1)
        self.places = np.cumsum(self.mask, axis=0) - 1  # of each row among the present ones

    def __len__(self):
        return len(self.mask)

    def lengths(self):
        """Longest axis over all modalities of each row, or None where there is none."""
        lengths = []
        for m, inputs in enumerate(self.parts.values()):
            own = None if inputs is None else inputs.lengths()
            if own is not None:
                lengths.append(np.where(self.mask[:, m], own[self.places[:, m]], 0))
        return np.max(lengths, axis=0) if lengths else None

    def batch(self, rows, device="cpu"):
        """Gather rows: ``mask`` and, as ``name.keyword``, each modality's present rows."""
        mask = self.mask[rows]
        tensors = {"mask": torch.from_numpy(mask).to(device)}
        for m, (name, inputs) in enumerate(self.parts.items()):
            own = self.places[rows[mask[:, m]], m]
            if len(own):
                batch = inputs.batch(own, device)
                tensors.update({f"{name}.{key}": tensor for key, tensor in batch.items()})
        return tensors


class Batch(tuple):
    """A pair (inputs, targets) as skorch expects it, with the weights of its rows."""

    def __new__(cls, inputs, targets, weight):
        batch = super().__new__(cls, (inputs, targets))
        batch.weight = weight
        return batch


class Rows(torch.utils.data.Dataset):
    """Rows of prepared inputs with their targets and weights.

    Parameters
    ----------
    inputs : Inputs or FusionInputs
    target, weight : ndarray or None
    rows : ndarray of int
        The rows this set holds.
    """

    def __init__(self, inputs, target, weight, rows):
        self.inputs, self.target, self.weight, self.rows = inputs, target, weight, rows

    def __len__(self):
        return len(self.rows)

    def batch(self, positions, device):
        rows = self.rows[positions]
        target = torch.from_numpy(self.target[rows]).to(device)
        weight = None
        if self.weight is not None:
            weight = torch.from_numpy(self.weight[rows]).to(device)
        return Batch(self.inputs.batch(rows, device), target, weight)
