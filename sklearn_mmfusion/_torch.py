"""Devices, seeds, and batches gathered by row index.

An encoder prepares its column once into *sources*: arrays that give a batch of rows as tensors.
Small dtypes (uint8 pixels, int32 token ids) stay small until they are on the device.
"""

import threading
from contextlib import contextmanager

import numpy as np
import torch
from scipy.sparse import issparse

_TRAINING_LOCK = threading.RLock()
BUCKET = 16  # batches are cut from this many batches' worth of rows sorted by length


def resolve_device(device):
    """Turn ``"auto"`` into the GPU where there is one, else the CPU."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


@contextmanager
def isolated_rng(seed, device):
    """Seed torch inside the block; give the caller's generators back after it.

    torch's generator is global to the process: the lock keeps threads that train at the same
    time from drawing from one another's stream.
    """
    with _TRAINING_LOCK:
        cuda = [torch.device(device)] if str(device).startswith("cuda") else []
        with torch.random.fork_rng(devices=cuda):
            torch.manual_seed(seed)
            yield


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


def n_batches(n_rows, batch_size):
    """How many batches of nearly equal size: none of one row, unless `batch_size` is one."""
    least = 1 if batch_size == 1 else 2
    return max(1, min(-(-n_rows // batch_size), n_rows // least))


class BatchIterator:
    """Batches of nearly equal size, gathered by index; rows of similar length share one.

    Equal sizes, rather than full batches and a rest, keep a batch of a single row from reaching
    batch normalization.
    """

    def __init__(self, dataset, batch_size, device, shuffle=False, seed=0):
        self.dataset, self.batch_size, self.device = dataset, batch_size, device
        self.rng = np.random.default_rng(seed) if shuffle else None
        lengths = dataset.inputs.lengths()
        self.lengths = None if lengths is None else lengths[dataset.rows]

    def __len__(self):
        return n_batches(len(self.dataset), self.batch_size)

    def __iter__(self):
        order = np.arange(len(self.dataset))
        if self.rng is not None:
            self.rng.shuffle(order)
        if self.lengths is not None:
            n_buckets = max(1, len(self) // BUCKET) if self.rng is not None else 1
            order = np.concatenate(
                [
                    b[np.argsort(self.lengths[b], kind="stable")]
                    for b in np.array_split(order, n_buckets)
                ]
            )
        batches = np.array_split(order, len(self))
        if self.rng is not None:
            self.rng.shuffle(turns := np.arange(len(batches)))
            batches = [batches[i] for i in turns]
        for positions in batches:
            yield self.dataset.batch(positions, self.device)


def predict_batches(module, inputs, *, batch_size, device, method="forward"):
    """Run a module, or another `method` of it, over all rows without gradients.

    Rows go through in order of length, so that a batch holds little padding, and come back in
    their own order.

    Returns
    -------
    outputs : ndarray of shape (n_samples, ...), dtype=float32
    """
    lengths = inputs.lengths()
    order = np.arange(len(inputs)) if lengths is None else np.argsort(lengths, kind="stable")
    n_batches = max(1, -(-len(order) // batch_size))
    was_training = module.training
    call = getattr(module.eval(), method)
    outputs = []
    with torch.inference_mode():
        for rows in np.array_split(order, n_batches):
            outputs.append(call(**inputs.batch(rows, device)).float().cpu().numpy())
    module.train(was_training)
    result = np.concatenate(outputs)
    if lengths is not None:
        inverse = np.empty_like(order)
        inverse[order] = np.arange(len(order))
        result = result[inverse]
    return result


def predict_row(module, inputs):
    """Run a module in evaluation mode over inputs of one row, on the device it is on.

    What `predict_batches` does around a batch (moving the module, its mode) costs more than the
    network does for a single row.

    Returns
    -------
    outputs : ndarray of shape (1, ...), dtype=float32
    """
    device = next(module.parameters()).device
    with torch.inference_mode():
        return module(**inputs.batch(np.zeros(1, dtype=np.int64), device)).float().cpu().numpy()
