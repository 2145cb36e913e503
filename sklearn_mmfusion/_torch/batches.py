"""Batches of rows for training, and prediction over all rows."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from itertools import repeat

import numpy as np
import torch

from sklearn_mmfusion._torch.allocator import keep_freed_memory
from sklearn_mmfusion._torch.device import note_out_of_memory

PREDICT_BATCH, LARGE_BATCH, LARGE_ROW = 256, 32, 1 << 16  # rows, rows, bytes
BUCKET = 16  # batches are cut from this many batches' worth of rows sorted by length


def n_batches(n_rows, batch_size):
    """Number of nearly equal batches; none has a single row, unless `batch_size` is 1."""
    least = 1 if batch_size == 1 else 2
    return max(1, min(-(-n_rows // batch_size), n_rows // least))


class BatchIterator:
    """Batches of nearly equal size, gathered by index, of rows of similar length.

    Nearly equal sizes avoid a last batch of a single row, which batch normalization cannot handle.
    For a GPU, batches are prepared ahead while it computes.
    """

    def __init__(self, dataset, batch_size, device, shuffle=False, seed=0):
        self.dataset, self.batch_size, self.device = dataset, batch_size, device
        self.rng = np.random.default_rng(seed) if shuffle else None
        self.stream = None
        if torch.device(device).type == "cuda":
            self.stream = torch.cuda.current_stream(device)
        lengths = dataset.inputs.lengths()
        self.lengths = None if lengths is None else lengths[dataset.rows]

    def __len__(self):
        return n_batches(len(self.dataset), self.batch_size)

    def positions(self):
        """Batches of the next epoch, as arrays of positions in the dataset."""
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
        return batches

    def __iter__(self):
        made = map(self.dataset.batch, self.positions(), repeat(self.device))
        if self.stream is None:
            return made
        # Each thread has its own current device and stream.
        return prefetched(made, within=partial(torch.cuda.stream, self.stream))


def prefetched(batches, depth=2, within=nullcontext):
    """Make batches in a thread, inside a context, `depth` batches ahead."""

    def make():
        with within():
            return next(batches, None)

    with ThreadPoolExecutor(1) as pool:
        waiting = deque(pool.submit(make) for _ in range(depth))
        while (batch := waiting.popleft().result()) is not None:
            waiting.append(pool.submit(make))
            yield batch


def resident(inputs, device):
    """Move inputs to the GPU if they take less than half of its free memory.

    Batches of moved inputs are gathered on the GPU.
    """
    if torch.device(device).type != "cuda":
        return inputs
    free, _ = torch.cuda.mem_get_info(device)
    if inputs.nbytes > free / 2:
        return inputs
    try:
        return inputs.to(device)
    except torch.cuda.OutOfMemoryError:  # the rows were not all like the first
        return inputs


def predict_batches(module, inputs, *, device, batch_size=None, method="forward"):
    """Run a module, or another `method` of it, over all rows without gradients.

    Rows are sorted by length, which keeps padding small; outputs are in the original order.

    Parameters
    ----------
    module : torch.nn.Module
        On `device`.
    inputs : Inputs or FusionInputs
    device : str
    batch_size : int, default=None
        None means 256 rows, or 32 if a row takes more than 64 KiB.
    method : str, default="forward"

    Returns
    -------
    outputs : ndarray of shape (n_samples, ...), dtype=float32
    """
    lengths = inputs.lengths()
    order = None if lengths is None else np.argsort(lengths, kind="stable")
    if batch_size is None:
        batch_size = LARGE_BATCH if inputs.nbytes > LARGE_ROW * len(inputs) else PREDICT_BATCH
    edges = np.linspace(0, len(inputs), max(1, -(-len(inputs) // batch_size)) + 1).astype(int)
    was_training = module.training
    call, result = getattr(module.eval(), method), None
    keep = keep_freed_memory(device) if len(edges) > 2 else nullcontext()
    hint = (
        f"Raised in a prediction with batch_size={batch_size} on {device}. Free memory there, or "
        "predict on the host with set_params(device='cpu')."
    )
    with torch.inference_mode(), keep, note_out_of_memory(hint):
        for start, stop in zip(edges, edges[1:], strict=False):
            rows = slice(start, stop) if order is None else order[start:stop]
            outputs = call(**inputs.batch(rows, device)).float().cpu().numpy()
            if result is None:
                result = np.empty((len(inputs), *outputs.shape[1:]), dtype=np.float32)
            result[rows] = outputs
    module.train(was_training)
    return result


def predict_row(module, inputs, device):
    """Run a module, in evaluation mode on `device`, over inputs of one row.

    For a single row, the overhead of `predict_batches` exceeds the cost of the network.

    Returns
    -------
    outputs : ndarray of shape (1, ...), dtype=float32
    """
    with torch.inference_mode():
        return module(**inputs.batch(np.zeros(1, dtype=np.int64), device)).float().cpu().numpy()
