"""Batches whose shapes do not depend on the data, gathered on the device.

A CUDA graph repeats the same kernels on the same memory: what it computes may change from batch to
batch, shapes may not. `FixedBatches` therefore gathers N rows of every modality, also of those that
some rows lack, and pads sequences to one of a few lengths.
"""

import numpy as np
import torch

from sklearn_mmfusion._torch.row_dataset import Batch

# Lengths to which sequences are padded: more shapes mean less padding and more graphs. Batches have
# two sizes, N and N - 1, so that there are up to eight shapes.
N_BUCKETS = 4


class FixedBatches:
    """Rows of a dataset with its targets and weights, all on one device.

    Parameters
    ----------
    dataset : RowDataset
        With inputs that are on the device.
    device : str
    """

    def __init__(self, dataset, device):
        self.inputs = dataset.inputs
        self.rows = torch.from_numpy(dataset.rows).to(device)
        self.target = torch.from_numpy(dataset.target).to(device)
        weight = dataset.weight
        self.weight = None if weight is None else torch.from_numpy(weight).to(device)
        self.lengths = _of_rows(dataset.inputs.lengths(), dataset.rows)
        counts = {k: v[dataset.rows] for k, v in dataset.inputs.step_counts().items()}
        self.edges, self.n_steps = buckets(self.lengths, counts)

    def __len__(self):
        return len(self.rows)

    @property
    def n_buckets(self):
        return len(self.n_steps)

    def bucket(self, positions):
        """Index of the shape of a batch of these positions in the dataset."""
        if self.lengths is None:
            return 0
        return int(np.searchsorted(self.edges, self.lengths[positions].max()))

    def gather(self, positions, bucket):
        """Gather the rows at these positions.

        Parameters
        ----------
        positions : Tensor of shape (N,), dtype=int64
            On the device.
        bucket : int

        Returns
        -------
        batch : Batch
        """
        rows = self.rows.index_select(0, positions)
        target = self.target.index_select(0, rows)
        weight = None if self.weight is None else self.weight.index_select(0, rows)
        return Batch(self.inputs.gather(rows, self.n_steps[bucket]), target, weight)


def _of_rows(lengths, rows):
    return None if lengths is None else lengths[rows]


def buckets(lengths, counts):
    """Choose the lengths to which sequences are padded.

    Parameters
    ----------
    lengths : ndarray of shape (n,) or None
        The longest sequence of each row, over all sources.
    counts : dict of str to ndarray of shape (n,)
        Length of each row in each source.

    Returns
    -------
    edges : list of int
        The longest row of each bucket, rising.
    n_steps : list of dict of str to int
        For each bucket, the length of each source that holds all its rows.
    """
    if lengths is None:
        return [], [{}]
    quantiles = np.quantile(lengths, np.arange(1, N_BUCKETS + 1) / N_BUCKETS, method="higher")
    edges = np.unique(quantiles).tolist()
    inside = [lengths <= edge for edge in edges]
    steps = [{k: max(1, int(own[rows].max())) for k, own in counts.items()} for rows in inside]
    return edges, steps
