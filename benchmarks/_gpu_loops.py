"""Loops by hand over the reference network, plain or with every lever, for `gpu.py`.

All keep their rows on the device unless their source keeps them elsewhere, and read no loss before
the end.
"""

import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
from _data import BATCH_SIZE, LR
from _reference import SIZES, HandHead, HandNetwork, as_tensors
from torch import nn

from sklearn_mmfusion.modules.image import standardize


@dataclass(frozen=True)
class Plan:
    """How much of everything is run, and where."""

    device: str
    rows: dict  # size -> training rows, test rows
    rounds: int
    epochs: int  # measured, after one that warms up
    repeats: int  # of a call of a few milliseconds
    n_entries: int | None  # of the registry; None: all
    mapped_rows: int  # of 740 float32 each

    @property
    def on_gpu(self):
        return self.device == "cuda"


WHOLE = Plan(
    "cuda",
    {"SMALL": (2048, 8192), "SEED": (256, 256), "FEAT": (8192, 50_000)},
    rounds=3,
    epochs=3,
    repeats=200,
    n_entries=None,
    mapped_rows=150_000,
)
QUICK = replace(
    WHOLE,
    rows={"SMALL": (2048, 4096), "SEED": (128, 128), "FEAT": (4096, 20_000)},
    rounds=1,
    epochs=2,
    repeats=50,
    mapped_rows=60_000,
)
TINY = Plan(
    "cpu",
    {"SMALL": (34, 8), "SEED": (2, 2), "FEAT": (64, 64)},
    rounds=1,
    epochs=1,
    repeats=2,
    n_entries=2,
    mapped_rows=64,
)


def synchronize(device):
    """Wait until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def seconds_of(call, device):
    """Seconds of a call, the work of the device included."""
    synchronize(device)
    start = time.perf_counter()
    call()
    synchronize(device)
    return time.perf_counter() - start


def median_ms(call, plan):
    """Median milliseconds of a short call."""
    for _ in range(min(10, plan.repeats)):
        call()
    return 1e3 * float(np.median([seconds_of(call, plan.device) for _ in range(plan.repeats)]))


def peak_mb():
    """Peak of allocated device memory since `reset_peak`, None on a CPU."""
    return torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_initialized() else None


def reset_peak():
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()


# ------------------------------------------------------------------------------ networks


class LeverNetwork(nn.Module):
    """The reference network on rows as they are stored: uint8 pixels, scaled on the device."""

    def __init__(self, size, arrays):
        super().__init__()
        self.inner = HandHead() if size == "FEAT" else HandNetwork(SIZES[size].frame, levers=True)
        if "image" in arrays:
            flat = torch.from_numpy(arrays["image"].reshape(-1, 3)[:100_000]).float()
            self.register_buffer("mean", flat.mean(0).view(1, 3, 1, 1))
            self.register_buffer("std", flat.std(0).view(1, 3, 1, 1))

    def forward(self, *batch):
        if hasattr(self, "mean"):
            pixels = standardize(batch[0].permute(0, 3, 1, 2), self.mean, self.std)
            batch = [pixels, *batch[1:]]
        return self.inner(*batch)


def make_hand(size, arrays, levers):
    """Network and the tensors it reads."""
    if levers:
        return LeverNetwork(size, arrays), [torch.from_numpy(a) for a in arrays.values()]
    return HandHead() if size == "FEAT" else HandNetwork(SIZES[size].frame), as_tensors(arrays)


def autocast(device, precision):
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device, dtype=torch.bfloat16)


# ------------------------------------------------------------------------------ where rows are


def resident(bases, order, device):
    """Batches gathered on the device, whose row numbers come in one copy."""
    for rows in order.to(device):
        yield [base.index_select(0, rows) for base in bases]


def pageable(bases, order, device):
    """Batches gathered on the host and copied; the host waits for each copy."""
    for rows in order:
        yield [base.index_select(0, rows).to(device) for base in bases]


def pinned(bases, order, device):
    """Batches gathered on the host, and copied from pinned memory."""
    for rows in order:
        batch = [base.index_select(0, rows) for base in bases]
        if device == "cuda":
            batch = [x.pin_memory() for x in batch]
        yield [x.to(device, non_blocking=True) for x in batch]


def prefetched(bases, order, device):
    """`pinned` in a thread, two batches ahead."""
    batches = pinned(bases, order, device)
    stream = torch.cuda.current_stream() if device == "cuda" else None

    def make():
        with torch.cuda.stream(stream) if stream else nullcontext():
            return next(batches, None)

    with ThreadPoolExecutor(1) as pool:
        waiting = deque(pool.submit(make) for _ in range(2))
        while (batch := waiting.popleft().result()) is not None:
            waiting.append(pool.submit(make))
            yield batch


SOURCES = {
    "resident": resident,
    "pageable": pageable,
    "pinned": pinned,
    "prefetched": prefetched,
}


# ------------------------------------------------------------------------------ loops


class HandLoop:
    """A training loop by hand; each call of `epoch` returns its mean loss."""

    def __init__(self, size, arrays, y, device, *, levers=False, compiled=False, source="resident"):
        torch.manual_seed(0)
        self.device, self.source = device, SOURCES[source]
        self.precision = "bf16" if levers else "float32"
        network, bases = make_hand(size, arrays, levers)
        self.network = network.to(device).train()
        bases = [*bases, torch.from_numpy(y)]
        self.bases = [b.to(device) for b in bases] if source == "resident" else bases
        parameters = self.network.parameters()
        if levers:  # a tensor as step count: a graph can hold it
            self.optimizer = torch.optim.AdamW(
                parameters, lr=LR, fused=True, capturable=device == "cuda"
            )
        else:
            self.optimizer = torch.optim.Adam(parameters, lr=LR)
        self.max_norm = 1.0 if levers and size != "FEAT" else None  # as ours clips
        self.batch = min(BATCH_SIZE, len(y))
        self.n_steps = len(y) // self.batch
        self.total = torch.zeros((), device=device)
        self.call = self.network
        if compiled:
            backend = "inductor" if device == "cuda" else "eager"
            self.call = torch.compile(self.network, backend=backend)

    def order(self):
        """Row numbers of an epoch: (n_steps, batch)."""
        n_rows = self.n_steps * self.batch
        return torch.randperm(len(self.bases[-1]))[:n_rows].view(self.n_steps, self.batch)

    def step(self, batch):
        with autocast(self.device, self.precision):
            output = self.call(*batch[:-1])
        loss = nn.functional.cross_entropy(output.float(), batch[-1])
        loss.backward()
        if self.max_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.max_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=not isinstance(self, CapturedLoop))
        self.total.add_(loss.detach())

    def epoch(self):
        self.total.zero_()
        self.run(self.order())
        return self.total.item() / self.n_steps

    def run(self, order):
        for batch in self.source(self.bases, order, self.device):
            self.step(batch)


class CapturedLoop(HandLoop):
    """All levers, and the whole step as one CUDA graph; on a CPU the same step, eagerly."""

    def __init__(self, size, arrays, y, device):
        super().__init__(size, arrays, y, device, levers=True)
        self.rows = torch.arange(self.batch, device=device)
        self.graph = None
        if device == "cuda":
            self.capture()

    def fixed_step(self):
        """A step on the rows whose numbers are in the buffer."""
        self.step([base.index_select(0, self.rows) for base in self.bases])

    def capture(self):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):  # lets libraries choose their algorithms and make their workspaces
                self.fixed_step()
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.fixed_step()

    def run(self, order):
        for rows in order.to(self.device):
            self.rows.copy_(rows)
            if self.graph is None:
                self.fixed_step()
            else:
                self.graph.replay()
