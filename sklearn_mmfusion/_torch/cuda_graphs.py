"""CUDA graphs: work that is recorded once and launched as one, in training and for single rows.

Networks of this package launch hundreds of small kernels: with few rows a GPU spends most of the
time waiting for launches.
"""

import gc
import logging
import random
import threading
import warnings
from collections import Counter
from contextlib import contextmanager, suppress
from weakref import WeakKeyDictionary

import numpy as np
import torch

from sklearn_mmfusion._torch.device import float32_precisions, side_stream

LOGGER = logging.getLogger("sklearn_mmfusion")
DEVICES = ("cuda",)  # tests add the CPU, with a replacement for graphs
WARM_UP = 3  # libraries choose algorithms and allocate workspaces in the first runs
MAX_GRAPHS = 16  # of one network, for rows of several shapes
MAX_STEPS = 1 << 15  # of a sequence: networks pool longer ones in chunks, in less memory
WINDOW = 1000  # rows after which counts of shapes are halved
MAX_TRIES = 3  # another thread may have drawn random numbers
WAITS = "called a synchronizing"  # of torch's warning
DRAWS = "it draws random numbers on the host, which replays would repeat"
# Warnings, torch's debug mode, garbage collection and generators belong to the process.
_ONE_AT_A_TIME = threading.RLock()
FIRST = np.zeros(1, dtype=np.int64)  # the only row


def takes_masks(module, name):
    """Whether the network of a modality takes a mask for sequences and for absent rows.

    It declares that with ``fixed_shapes = True``. A subclass may do anything: it must declare the
    attribute itself.
    """
    encoders = module.encoders_by_name() if hasattr(module, "encoders_by_name") else {}
    return bool(vars(type(encoders.get(name))).get("fixed_shapes"))


def has_hooks(module):
    """Whether Python must call hooks in each pass of a network."""
    return any(
        part._forward_hooks or part._forward_pre_hooks or part._backward_hooks
        for part in module.modules()
    )


def run_and_check(run):
    """Run eagerly, and find out why replays would differ.

    Returns
    -------
    output : object
        Return value of `run`.
    reason : object or None
        Why the work cannot be captured, or None if it can.
    """
    with _ONE_AT_A_TIME:
        before = _host_randomness()
        with _noted_waiting() as notes:
            output = run()
        if notes:
            return output, notes[0]
        return output, None if _host_randomness() == before else DRAWS


def capture(run, device, pool):
    """Record what `run` launches on the current stream, which must not be the default one.

    Parameters
    ----------
    run : callable
    device : torch.device
        With an index.
    pool : tuple
        Memory pool of the graph. Graphs that share a pool must not run at the same time.

    Returns
    -------
    graph : torch.cuda.CUDAGraph
    output : object
        Return value of `run`: tensors that a replay overwrites.
    """
    with _ONE_AT_A_TIME:
        generator = torch.cuda.default_generators[device.index]
        before, graph = generator.clone_state(), torch.cuda.CUDAGraph()
        try:
            with _paused_collection(), _recorded(graph, device, pool):
                output = run()
        except BaseException:
            # The generator would go on expecting a capture (pytorch issue 171263).
            generator.graphsafe_set_state(before)
            raise
    return graph, output


def _host_randomness():
    """State of the generators from which a module may draw on the host."""
    name, keys, *rest = np.random.get_state()
    return torch.get_rng_state().tolist(), random.getstate(), name, keys.tolist(), rest


@contextmanager
def _noted_waiting():
    """Collect torch's warnings of operations in the block, in this thread, that wait for the GPU.

    torch repeats in this thread what its threads of backward passes warn of.
    """
    notes, thread, mode = [], threading.get_ident(), torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message, *args):
            if WAITS not in str(message):
                usual(message, *args)
            elif threading.get_ident() == thread:
                notes.append(message)

        warnings.showwarning = show
        warnings.filterwarnings("always", f".*{WAITS}")
        warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield notes
        finally:
            torch.cuda.set_sync_debug_mode(mode)


@contextmanager
def _on_side_stream(device):
    """Run the block on a side stream, between earlier and later work of the current one."""
    stream, usual = side_stream(device, "rows"), torch.cuda.current_stream(device)
    stream.wait_stream(usual)
    try:
        with torch.cuda.stream(stream):
            yield
    finally:
        usual.wait_stream(stream)


def new_pool():
    """Make a memory pool for graphs that never run at the same time.

    A pool whose graphs are all gone takes no others.
    """
    torch.cuda.empty_cache()  # a capture cannot free what eager runs have cached
    return torch.cuda.graph_pool_handle()


@contextmanager
def _recorded(graph, device, pool):
    """Record the work of the current stream in a graph, which ends in any case.

    Unlike ``torch.cuda.graph``, this does not empty the caches for each graph.
    """
    graph.capture_begin(pool=pool, capture_error_mode="thread_local")
    try:
        yield
    except BaseException:
        try:
            graph.capture_end()
        except RuntimeError:  # the same failure, after which torch leaves the pool open
            with suppress(RuntimeError):  # it was closed
                torch.cuda.memory._cuda_endAllocateToPool(device.index, pool)
                torch.cuda.memory._cuda_releasePool(device.index, pool)
        raise
    graph.capture_end()


@contextmanager
def _paused_collection():
    """No garbage collection inside: freeing other graphs or events would break a capture."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


# ------------------------------------------------------------------------------ one row


class RowGraphs:
    """Passes of one network over one row: a graph for each of the most frequent shapes of a row.

    The first `WARM_UP` rows of a shape run eagerly. Sequences are padded to one of four lengths per
    octave, so that rows of similar lengths share a graph. If there are `MAX_GRAPHS`, a shape that
    is more than twice as frequent as the rarest takes its place. A network that cannot be captured
    runs eagerly for good; the reason is logged as a debug message of the logger "sklearn_mmfusion".
    """

    def __init__(self):
        self.lock, self.pool = threading.Lock(), None
        self.graphs, self.weights = {}, None
        self.seen, self.n_rows = Counter(), 0
        self.refused, self.n_failed = False, 0

    def run(self, module, inputs, device):
        """Run the network over one row.

        Parameters
        ----------
        module : torch.nn.Module
            On `device`.
        inputs : Inputs or FusionInputs
            One row, as tensors on the host.
        device : str

        Returns
        -------
        output : Tensor of shape (1, ...), dtype=float32, or None
            On the host. None if this row must run eagerly.
        """
        with self.lock:  # the buffers of a graph hold one row at a time
            weights = None if self.refused else _state_of(module)
            if weights is None or not _is_short(inputs):
                return None
            if weights != self.weights:  # moved or replaced: the graphs would read freed memory
                self.graphs.clear()
                self.weights = weights
            shape = _shape_of(inputs)
            self._count(shape)
            if shape not in self.graphs:
                if not self._is_frequent(shape) or not self._capture(module, inputs, device, shape):
                    return None
            replay, row, output = self.graphs[shape]
            row.overwrite(inputs)
            replay()
            return output.cpu()

    def _count(self, shape):
        self.seen[shape] += 1
        self.n_rows += 1
        if self.n_rows % WINDOW == 0:
            self.seen = Counter({other: n // 2 for other, n in self.seen.items() if n > 1})

    def _is_frequent(self, shape):
        """Whether a shape should get a graph: a capture takes longer than a pass."""
        least = WARM_UP
        if len(self.graphs) == MAX_GRAPHS:
            least = max(least, 2 * min(self.seen[other] for other in self.graphs))
        return self.seen[shape] > least

    def _capture(self, module, inputs, device, shape):
        """Make a graph for rows of this shape; False if the network cannot be captured."""
        ragged = set(inputs.irregular()) - set(inputs.absent_in(FIRST))
        if all(takes_masks(module, name) for name in ragged):
            reason = self._record(module, FixedRow(inputs, device), device, shape)
        else:
            reason = f"a network of {sorted(ragged)} takes no masks"
        if reason is None:
            return True
        self.seen[shape], self.n_failed = 0, self.n_failed + 1
        if reason != DRAWS or self.n_failed == MAX_TRIES:
            LOGGER.debug("The network runs eagerly over single rows: %s", reason)
            self.refused = True
            self.graphs.clear()
        return False

    def _record(self, module, row, device, shape):
        """Add a graph; return why that failed, or None."""

        def run():
            return module(**row.gather()).float()

        try:
            # Threads share the side stream, which must not wait for others during a capture.
            with _ONE_AT_A_TIME, _on_side_stream(device):
                _, reason = run_and_check(run)
                if reason is not None:
                    return reason
                if not self.graphs:
                    self.pool = new_pool()
                graph, output = capture(run, torch.device(device), self.pool)
        except Exception as error:
            return error  # the eager pass raises it again if it is not about capture
        if len(self.graphs) == MAX_GRAPHS:
            del self.graphs[min(self.graphs, key=self.seen.__getitem__)]
        self.graphs[shape] = graph.replay, row, output
        return None


_ROW_GRAPHS, _LOCK = WeakKeyDictionary(), threading.Lock()


def row_graphs(module):
    """The graphs of a network; they live as long as it does."""
    graphs = _ROW_GRAPHS.get(module)
    if graphs is None:
        with _LOCK:
            graphs = _ROW_GRAPHS.setdefault(module, RowGraphs())
    return graphs


class FixedRow:
    """One row in buffers on a device; other rows of the same shape overwrite it.

    Parameters
    ----------
    inputs : Inputs or FusionInputs
        One row, as tensors on the host.
    device : str
    """

    def __init__(self, inputs, device):
        self.inputs = inputs.padded(padded_length).to(device)
        sources = self.inputs.each_source().items()
        self.n_steps = {name: len(s.values) for name, s in sources if s.lengths() is not None}
        self.first = torch.from_numpy(FIRST).to(device)
        self.left_out = inputs.absent_in(FIRST)
        self.gather()  # the first call copies data to the device, which a graph must not do

    def overwrite(self, inputs):
        """Write another row into the buffers."""
        others = inputs.each_source()
        for name, source in self.inputs.each_source().items():
            source.overwrite(others[name])

    def gather(self):
        """The row as keywords of the network, sequences with their masks."""
        return self.inputs.gather(self.first, self.n_steps, self.left_out)


def padded_length(n_steps):
    """The next of four lengths per octave, so at most a quarter more; at least 1."""
    step = 1 << max(0, int(n_steps).bit_length() - 3)
    return max(1, -(-n_steps // step) * step)


def _is_short(inputs):
    """Whether a row has a modality, and no sequence of more than `MAX_STEPS`."""
    lengths = [len(source.values) for source in inputs.each_source().values()]
    return bool(lengths) and max(lengths) <= MAX_STEPS


def _shape_of(inputs):
    """Modalities of a row, their types and shapes, all of which a graph fixes."""
    return tuple(
        (
            name,
            source.values.dtype,
            source.values.shape[1:],
            padded_length(len(source.values)),
        )
        for name, source in inputs.each_source().items()
    )


def _state_of(module):
    """Addresses of the weights, modes and settings, which a graph fixes, too.

    None if the network has hooks, which Python must call for each row, and under autocast, which
    frees its converted weights at the end of the caller's block.
    """
    if torch.is_autocast_enabled("cuda"):
        return None
    state = [*float32_precisions(), torch.are_deterministic_algorithms_enabled()]
    for part in module.modules():
        if part._forward_hooks or part._forward_pre_hooks:
            return None
        tensors = (*part._parameters.values(), *part._buffers.values())
        state += [part.training, *(t.data_ptr() for t in tensors if t is not None)]
    return state
