"""Batches of rows for training, and prediction over all rows."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from itertools import pairwise, repeat

import numpy as np
import torch

from sklearn_mmfusion._torch import cuda_graphs
from sklearn_mmfusion._torch.allocator import keep_freed_memory, release_freed_memory
from sklearn_mmfusion._torch.cuda_graphs import FIRST, row_graphs
from sklearn_mmfusion._torch.device import note_out_of_memory, side_stream
from sklearn_mmfusion._torch.row_dataset import Batch

LARGE_ROW = 1 << 16  # bytes
# Rows per batch in predictions: on a CPU usual and large ones, on a GPU at least and at most
PREDICT_BATCH = {"cpu": (256, 32), "cuda": (128, 8192)}
PREDICT_BYTES = 1 << 25  # of a batch on a GPU: smaller ones make it wait for the host
ROOM = 256  # a network is assumed to need so many times the bytes of its inputs
LEAST = 16  # rows per batch: fewer would hardly take less memory
RELEASE = 4  # batches of files after which a prediction returns freed memory to the system
AHEAD = 2  # batches that a GPU may still have to compute while the host prepares the next
BUCKET = 16  # batches are cut from this many batches' worth of rows sorted by length
# Rows of a batch times its longest sequence, to which it is padded. A step takes 1 to 2 KiB in
# predictions with the networks of this package, and about four times that in training.
PREDICT_STEPS = {"cpu": 1 << 18, "cuda": 1 << 21}
TRAIN_STEPS = 1 << 20


def n_batches(n_rows, batch_size):
    """Number of nearly equal batches; none has a single row, unless `batch_size` is 1."""
    least = 1 if batch_size == 1 else 2
    return max(1, min(-(-n_rows // batch_size), n_rows // least))


def groups_by_length(lengths, batch_size):
    """Groups of rows that may share a batch; they bound its padding.

    If a row is so long that its batch would exceed `TRAIN_STEPS`, its group has batches of half,
    a quarter, ... of the rows. The groups do not depend on the order of an epoch: every epoch has
    as many steps as the schedule of the learning rate expects. Each group has two rows or more,
    unless `batch_size` is 1.

    Parameters
    ----------
    lengths : ndarray of shape (n,)
    batch_size : int

    Returns
    -------
    groups : list of (ndarray of int, int)
        Positions of the rows, ascending, and the size of their batches. One group of all rows if
        no batch exceeds `TRAIN_STEPS`.
    """
    n_rows, least = len(lengths), 1 if batch_size == 1 else 2
    size = -(-n_rows // n_batches(n_rows, batch_size))
    if n_rows == 0 or size * lengths.max() <= TRAIN_STEPS:
        return [(np.arange(n_rows), batch_size)]
    size = min(batch_size, n_rows)  # the batches of a group may be larger than those of all rows
    order = np.argsort(lengths, kind="stable")
    rising, groups, stop = lengths[order], [], n_rows
    sizes = sorted({max(least, size >> k) for k in range(size.bit_length())})
    for own, larger in zip(sizes, [*sizes[1:], None], strict=True):  # the longest rows first
        start = 0
        if larger is not None:
            start = int(np.searchsorted(rising, TRAIN_STEPS // larger, side="right"))
            start = min(start, stop - least) if start < stop else stop
        if start < least:
            start = 0
        if start < stop:
            groups.append((np.sort(order[start:stop]), own if larger else batch_size))
        stop = start
    return groups[::-1]


class BatchIterator:
    """Batches of nearly equal size, gathered by index, of rows of similar length.

    Nearly equal sizes avoid a last batch of a single row, which batch normalization cannot handle.
    Only very long rows share a batch with fewer others (see `groups_by_length`). For a GPU, and
    if rows are read from files, a thread prepares batches ahead.
    """

    def __init__(self, dataset, batch_size, device, shuffle=False, seed=0):
        self.dataset, self.batch_size, self.device = dataset, batch_size, device
        self.rng = np.random.default_rng(seed) if shuffle else None
        self.stream = None
        if torch.device(device).type == "cuda":
            self.stream = torch.cuda.current_stream(device)
        lengths = dataset.inputs.lengths()
        self.lengths = None if lengths is None else lengths[dataset.rows]
        self.groups = [(np.arange(len(dataset)), batch_size)]
        if lengths is not None:
            self.groups = groups_by_length(self.lengths, batch_size)

    def __len__(self):
        return sum(n_batches(len(rows), size) for rows, size in self.groups)

    @property
    def min_rows(self):
        """Rows of the smallest batch."""
        return min(len(rows) // n_batches(len(rows), size) for rows, size in self.groups)

    def positions(self):
        """Batches of the next epoch, as arrays of positions in the dataset."""
        order = np.arange(len(self.dataset))
        if self.rng is not None:
            self.rng.shuffle(order)
        batches = []
        for rows, size in self.groups:
            own = order if len(self.groups) == 1 else order[np.isin(order, rows)]
            batches += self._cut(own, n_batches(len(own), size))
        if self.rng is not None:
            self.rng.shuffle(turns := np.arange(len(batches)))
            batches = [batches[i] for i in turns]
        return batches

    def _cut(self, order, n_parts):
        """Cut positions into nearly equal batches of rows of similar length."""
        if self.lengths is not None:
            n_buckets = max(1, n_parts // BUCKET) if self.rng is not None else 1
            order = np.concatenate(
                [
                    b[np.argsort(self.lengths[b], kind="stable")]
                    for b in np.array_split(order, n_buckets)
                ]
            )
        return np.array_split(order, n_parts)

    def __iter__(self):
        made = map(self.dataset.batch, self.positions(), repeat(self.device))
        if self.stream is not None:
            # Each thread has its own current device and stream.
            return prefetched(made, within=partial(torch.cuda.stream, self.stream))
        return prefetched(made) if self.dataset.inputs.is_slow else made


@contextmanager
def closing_batches(batches):
    """Iterate over batches in the block; afterwards, no thread prepares more of them.

    A traceback keeps the frame of a loop alive, and with it a generator, which must be closed.
    """
    batches = iter(batches)
    try:
        yield batches
    finally:
        if hasattr(batches, "close"):  # custom iterators start no such thread
            batches.close()


def prefetched(batches, depth=2, within=nullcontext):
    """Make batches in a thread, inside a context, `depth` batches ahead.

    Order and errors are the same. Closing the generator cancels the batches that have not been
    started, and waits for the one in progress.
    """

    def make():
        with within():
            return next(batches, None)

    pool = ThreadPoolExecutor(1, thread_name_prefix="sklearn_mmfusion-batches")
    try:
        waiting = deque(pool.submit(make) for _ in range(depth))
        while (batch := waiting.popleft().result()) is not None:
            waiting.append(pool.submit(make))
            yield batch
    finally:
        pool.shutdown(cancel_futures=True)


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


def rows_per_batch(inputs, device):
    """Number of rows per batch in predictions, by the bytes of a row and the device's free memory.

    Parameters
    ----------
    inputs : Inputs or FusionInputs
    device : str
    """
    row = inputs.nbytes / max(1, len(inputs))
    if torch.device(device).type != "cuda":
        usual, large = PREDICT_BATCH["cpu"]
        return large if row > LARGE_ROW else usual
    least, most = PREDICT_BATCH["cuda"]
    n_rows = min(most, max(least, PREDICT_BYTES / max(1, row)))
    free, _ = torch.cuda.mem_get_info(device)
    if free < 2 * n_rows * ROOM * row:  # only then: counting takes as long as a small batch
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(min(n_rows, max(1, free / 2 / (ROOM * max(1, row)))))


def split_long(parts, lengths, max_steps):
    """Split batches whose padded sequences would take more than `max_steps`; keep the others.

    Parameters
    ----------
    parts : list of ndarray of int
        Rows of each batch.
    lengths : ndarray of shape (n,) or None
        Length of each row.
    max_steps : int
        Largest product of rows and longest row of a batch; a longer row is a batch by itself.

    Returns
    -------
    parts : list of ndarray of int
        Rows of a batch that was split are sorted by length.
    """
    if lengths is None:
        return parts
    batches = []
    for rows in parts:
        if len(rows) * lengths[rows].max(initial=0) <= max_steps:
            batches.append(rows)
            continue
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        while len(rows):
            n_rows = max(1, max_steps // max(1, int(lengths[rows[-1]])))
            batches.append(rows[-n_rows:])
            rows = rows[:-n_rows]
    return batches


def steps_per_batch(device):
    """Largest product of rows and longest row of a batch in predictions."""
    return PREDICT_STEPS.get(torch.device(device).type, PREDICT_STEPS["cpu"])


def predict_batches(module, inputs, *, device, batch_size=None, max_steps=None, method="forward"):
    """Run a module, or another `method` of it, over all rows without gradients.

    Rows are sorted by length, which keeps padding small, and very long ones get smaller batches;
    outputs are in the original order. A thread reads files ahead.

    Parameters
    ----------
    module : torch.nn.Module
        On `device`.
    inputs : Inputs or FusionInputs
    device : str
    batch_size : int, default=None
        None means `rows_per_batch`, and half of it where the memory of a GPU does not suffice.
    max_steps : int, default=None
        See `split_long`; None means `steps_per_batch`, and is halved with the batch size.
    method : str, default="forward"

    Returns
    -------
    outputs : ndarray of shape (n_samples, ...), dtype=float32
    """
    max_steps = max_steps or steps_per_batch(device)
    if batch_size is None:
        batch_size = rows_per_batch(inputs, device)
        while torch.device(device).type == "cuda" and batch_size > LEAST:
            limits = {"batch_size": batch_size, "max_steps": max_steps}
            with suppress(torch.OutOfMemoryError):
                return predict_batches(module, inputs, device=device, method=method, **limits)
            batch_size, max_steps = batch_size // 2, max_steps // 2
    lengths = inputs.lengths()
    order = None if lengths is None else np.argsort(lengths, kind="stable")
    edges = np.linspace(0, len(inputs), max(1, -(-len(inputs) // batch_size)) + 1).astype(int)
    was_training = module.training
    call, collected = getattr(module.eval(), method), Outputs(len(inputs), device)
    keep = keep_freed_memory(device) if len(edges) > 2 else nullcontext()
    hint = (
        f"Raised in a prediction with batch_size={batch_size} on {device}. Free memory there, or "
        "predict on the host with set_params(device='cpu')."
    )
    with torch.inference_mode(), keep, note_out_of_memory(hint):
        parts = [slice(*pair) for pair in pairwise(edges)]
        if order is not None:
            # The longest first: the memory that a batch frees is then enough for the next one.
            parts = split_long([order[part] for part in parts], lengths, max_steps)[::-1]
        batches = map(inputs.batch, parts, repeat(device))
        if torch.device(device).type == "cuda" and len(parts) > 1:
            batches = copied_ahead(batches, device, in_thread=inputs.is_slow)
        elif inputs.is_slow and len(parts) > 1:
            batches = prefetched(batches)
        with closing_batches(batches) as batches:
            for number, (rows, batch) in enumerate(zip(parts, batches, strict=True), 1):
                collected.add(rows, call(**batch).float())
                if inputs.is_slow and number % RELEASE == 0:
                    del batch
                    release_freed_memory(device)
    module.train(was_training)
    return collected.all()


def copied_ahead(batches, device, in_thread):
    """Batches of inputs that are copied to a GPU while it computes.

    A thread pays only for batches that are read from files: it would take cores from torch's own
    threads, which copy the others.
    """
    usual, side = torch.cuda.current_stream(device), side_stream(device, "copies")
    side.wait_stream(usual)  # resident rows may still be on their way
    within = partial(torch.cuda.stream, side)
    batches = prefetched(batches, within=within) if in_thread else batches
    with closing_batches(batches) as batches:
        while True:
            with within():
                batch = next(batches, None)
            if batch is None:
                return
            usual.wait_stream(side)
            for tensor in batch.values():
                if tensor.is_cuda:
                    tensor.record_stream(usual)
            yield batch


class Outputs:
    """Outputs of batches, collected in one array.

    On a GPU they are copied back asynchronously: the host waits only if it is `AHEAD` batches ahead
    of the device, so that few batches take memory at a time.

    Parameters
    ----------
    n_rows : int
    device : str
    """

    def __init__(self, n_rows, device):
        self.n_rows, self.result, self.waiting = n_rows, None, deque()
        self.on_gpu = torch.device(device).type == "cuda"

    def add(self, rows, outputs):
        """Add the outputs of some rows (indices or a slice)."""
        if not self.on_gpu:
            self._store(rows, outputs.cpu())
            return
        event, stream = torch.cuda.Event(), torch.cuda.current_stream(outputs.device)
        outputs = outputs.to("cpu", non_blocking=True)
        event.record(stream)
        self.waiting.append((event, rows, outputs))
        if len(self.waiting) > AHEAD:
            self._store_first()

    def _store_first(self):
        event, rows, outputs = self.waiting.popleft()
        event.synchronize()
        self._store(rows, outputs)

    def _store(self, rows, outputs):
        outputs = outputs.numpy()
        if self.result is None:
            self.result = np.empty((self.n_rows, *outputs.shape[1:]), dtype=np.float32)
        self.result[rows] = outputs

    def all(self):
        """The array: ndarray of shape (n_rows, ...), dtype=float32."""
        while self.waiting:
            self._store_first()
        return self.result


def predict_row(module, inputs, device, captures=True):
    """Run a module, in evaluation mode on `device`, over inputs of one row.

    For a single row, the overhead of `predict_batches` exceeds the cost of the network; on a GPU,
    the cost of kernel launches does, too (see `RowGraphs`).

    Parameters
    ----------
    module : torch.nn.Module
    inputs : Inputs or FusionInputs
    device : str
    captures : bool, default=True
        Whether later rows of this shape may replay a CUDA graph.

    Returns
    -------
    outputs : ndarray of shape (1, ...), dtype=float32
    """
    with torch.inference_mode():
        captures = captures and torch.device(device).type in cuda_graphs.DEVICES
        if captures and not (graphs := row_graphs(module)).refused:
            inputs = inputs.to("cpu")  # files are read once
            output = graphs.run(module, inputs, device)
            if output is not None:
                return output.numpy()
        return module(**inputs.batch(FIRST, device)).float().cpu().numpy()


# ------------------------------------------------------------------------------ fixed shapes

# A CUDA graph repeats the same kernels on the same memory: what it computes may change from batch
# to batch, shapes may not. `FixedBatches` therefore gathers N rows of every modality, also of those
# that some rows lack, and pads sequences to one of a few lengths.

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
        self.left_out = dataset.inputs.absent_in(dataset.rows)

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
        inputs = self.inputs.gather(rows, self.n_steps[bucket], self.left_out)
        return Batch(inputs, target, weight)


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
