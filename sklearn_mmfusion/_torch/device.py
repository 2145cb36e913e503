"""Devices, seeds and the state of modules."""

import os
import threading
from contextlib import contextmanager, nullcontext
from functools import cache
from weakref import WeakSet

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sklearn_mmfusion._validation import warn

_TRAINING_LOCK = threading.RLock()
_WARNED = WeakSet()  # fitted modules whose device is not available


def _forget_lock():
    global _TRAINING_LOCK
    _TRAINING_LOCK = threading.RLock()


if hasattr(os, "register_at_fork"):  # a child would wait for a thread that does not exist there
    os.register_at_fork(after_in_child=_forget_lock)


def resolve_device(device):
    """Resolve ``"auto"`` to the GPU if there is one, else the CPU, and add the GPU's index.

    The index is needed because each thread has its own current GPU.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif not _is_available(device):
        raise ValueError(
            f"device={device!r}, but torch finds no GPU of that number (or is a build without "
            "CUDA). Use 'auto' or 'cpu'."
        )
    return f"cuda:{torch.cuda.current_device()}" if device == "cuda" else device


def _is_available(device):
    try:
        kind, index = torch.device(device).type, torch.device(device).index or 0
    except RuntimeError as error:
        raise ValueError(
            f"device={device!r} is no device of torch; expected 'auto', 'cpu', 'cuda', 'cuda:1' or "
            "'mps'."
        ) from error
    if kind == "cuda":
        return torch.cuda.is_available() and index < torch.cuda.device_count()
    return kind != "mps" or torch.backends.mps.is_available()


def place_fitted(module, device, estimator_name):
    """Move a fitted module to its estimator's current device, if it is elsewhere.

    All predictions use this, of batches and of single rows. A model fitted on a GPU can predict on
    a machine without one.

    Parameters
    ----------
    module : torch.nn.Module
    device : str
        Parameter of the estimator.
    estimator_name : str
        Name of the estimator, for the warning.

    Returns
    -------
    device : str
        The module's device: the CPU, with one warning per module, if the requested one is missing.
    """
    try:
        device = resolve_device(device)
    except ValueError:
        if module not in _WARNED:
            _WARNED.add(module)
            warn(
                f"{estimator_name}: device={device!r} is not available here, so the fitted model "
                "predicts on the CPU. Set device='auto' or 'cpu' to silence this."
            )
        device = "cpu"
    first = next(module.parameters(), None)
    if first is None or str(first.device) != device:
        module.to(device)
    return device


def float32_precisions():
    """Precisions of products, convolutions and recurrent layers of float32, on GPUs and CPUs.

    ``torch.get_float32_matmul_precision`` raises where the user has set one of these.
    """
    backends = torch.backends
    on_gpu = backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn
    on_cpu = backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn
    return [work.fp32_precision for work in (*on_gpu, *on_cpu)]


def global_settings():
    """List the settings of torch on which results depend."""
    kinds = [kind for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind)]
    return [
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        str(torch.get_default_dtype()),
        torch.backends.mkldnn.enabled,
        float32_precisions(),
        [(kind, str(torch.get_autocast_dtype(kind))) for kind in kinds],
    ]


@cache
def side_stream(device, work):
    """A stream of a GPU for a kind of work, "training", "rows" or "copies".

    One per process: torch keeps workspaces of cuBLAS, 70 MB and more, for each stream.
    """
    return torch.cuda.Stream(device)


@contextmanager
def note_out_of_memory(note):
    """Add a note to out-of-memory errors of a device or the host."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
        on_host = isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error)
        if on_host or isinstance(error, torch.OutOfMemoryError):
            error.add_note(note)
        raise


@contextmanager
def isolated_rng(seed, device):
    """Seed torch inside the block and restore the caller's generators after it.

    torch's generator is global to the process, so a lock serializes threads that train at the same
    time. With several GPUs, only the one in use is seeded.

    Inside the block the default device is the CPU, whatever the caller has set, because the same
    seed gives other weights on other devices. The caller's autocast is off: it would keep its
    converted weights from step to step while the weights change.
    """
    kind = torch.device(device).type
    generators = torch.random.fork_rng(devices=[device] if kind == "cuda" else [])
    with _TRAINING_LOCK, _default_cpu(), _no_autocast(kind), generators:
        if kind in ("cpu", "cuda"):
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)
        if kind == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def _no_autocast(kind):
    """Context without the caller's autocast, and without its cache for an autocast inside."""
    if not torch.is_autocast_enabled(kind):
        return nullcontext()
    return torch.autocast(kind, enabled=False, cache_enabled=False)


class _PrivateGenerator(TorchDispatchMode):
    """Draw the random numbers of a block, in this thread, from a private generator."""

    overloads = {
        "default": "generator",
        "low": "low_generator",
    }  # of torch.rand, randint and others

    def __init__(self):
        super().__init__()
        self.generator = torch.Generator("cpu").manual_seed(0)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if torch.Tag.nondeterministic_seeded in func.tags:
            if all(argument.name != "generator" for argument in func._schema.arguments):
                overload = self.overloads.get(func._overloadname, "")
                func = getattr(func.overloadpacket, overload, func)
            if any(argument.name == "generator" for argument in func._schema.arguments):
                kwargs["generator"] = self.generator
        return func(*args, **kwargs)


def module_state(module):
    """Return the weights of a module and its other buffers, as two dicts of tensors."""
    weights = module.state_dict()
    # A module may draw non-persistent buffers at random when built, or change them in training.
    buffers = {name: value for name, value in module.named_buffers() if name not in weights}
    return weights, buffers


def load_module_state(module, state):
    """Copy what `module_state` returned into a module of the same structure.

    Raises
    ------
    RuntimeError
        If the weights have other names or shapes.
    """
    weights, buffers = state
    module.load_state_dict(weights)
    for name, value in buffers.items():
        owner, _, buffer = name.rpartition(".")
        copy = value.detach().clone()
        module.get_submodule(owner).register_buffer(buffer, copy, persistent=False)


def rebuild_module(build_module, state):
    """Build a module on the CPU and load its state, without torch's global generator.

    Another thread may be training with that generator and hold its lock. Neither thread waits for
    the other.
    """
    with _default_cpu(), _PrivateGenerator():
        module = build_module()
    load_module_state(module, state)
    return module


def _default_cpu():
    """Context in which the default device is the CPU."""
    # Entered only if needed: it adds a Python call to every torch function.
    usual = torch.get_default_device().type == "cpu"
    return nullcontext() if usual else torch.device("cpu")
