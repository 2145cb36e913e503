"""Sections of `gpu.py` that measure time: training, the step, prediction, where the data are."""

import time
from unittest import mock

import numpy as np
import torch
from _data import BATCH_SIZE, make_data
from _gpu_loops import (
    SOURCES,
    CapturedLoop,
    HandLoop,
    autocast,
    make_hand,
    median_ms,
    peak_mb,
    reset_peak,
    seconds_of,
    synchronize,
)
from _paired import as_ratio
from _reference import as_ours, make_ours
from skorch.callbacks import Callback

from sklearn_mmfusion import (
    AudioEncoder,
    ImageEncoder,
    JointFusionClassifier,
    TextEncoder,
    make_multimodal_classification,
)


def machine(plan):
    """What the machine does by itself: launches, copies, products."""
    device, n = plan.device, 4096 if plan.on_gpu else 128
    small = torch.ones(8, device=device)
    yield {"what": "a tiny kernel", "value": 1e3 * median_ms(lambda: small + 1, plan), "unit": "us"}
    large = torch.ones(n, n, device=device)
    for name, x in {"float32": large, "bf16": large.bfloat16()}.items():
        ms = median_ms(lambda x=x: x @ x, plan)
        yield {"what": f"product, {name}", "value": 2 * n**3 / ms / 1e9, "unit": "TFLOP/s"}
    ms = median_ms(lambda: large.clone(), plan)
    yield {"what": "copy on the device", "value": 8 * n * n / ms / 1e6, "unit": "GB/s"}
    host = torch.ones(n, n)
    sources = {"pageable": host} | ({"pinned": host.pin_memory()} if plan.on_gpu else {})
    for name, x in sources.items():
        ms = median_ms(lambda x=x: large.copy_(x), plan)
        yield {"what": f"host to device, {name}", "value": 4 * n * n / ms / 1e6, "unit": "GB/s"}


# ------------------------------------------------------------------------------ training


class Clock(Callback):
    """Seconds of each epoch, the work of the device included."""

    def __init__(self, device):
        self.device = device

    def on_train_begin(self, net, **kwargs):
        self.seconds = []

    def on_epoch_begin(self, net, **kwargs):
        synchronize(self.device)
        self.start = time.perf_counter()

    def on_epoch_end(self, net, **kwargs):
        synchronize(self.device)
        self.seconds.append(time.perf_counter() - self.start)


def train_ours(size, arrays, y, plan, **params):
    """One fit: ms per step, loss of the last epoch."""
    clock = Clock(plan.device)
    params = {"device": plan.device, "max_epochs": plan.epochs + 1, "callbacks": [clock], **params}
    model = make_ours(size, **params).fit(as_ours(arrays), y)
    n_steps = -(-len(y) // BATCH_SIZE)
    return 1e3 * np.median(clock.seconds[1:]) / n_steps, model.history_[-1]["train_loss"]


def train_by_hand(make, size, arrays, y, plan, **params):
    """A loop from its start: ms per step, loss of the last epoch."""
    loop, losses = make(size, arrays, y, plan.device, **params), []
    loop.epoch()
    seconds = [
        seconds_of(lambda: losses.append(loop.epoch()), plan.device) for _ in range(plan.epochs)
    ]
    return 1e3 * np.median(seconds) / loop.n_steps, losses[-1]


CONTENDERS = {  # the first is what the others are compared with
    "by hand, captured, bf16": lambda *args: train_by_hand(CapturedLoop, *args),
    "by hand, plain, float32": lambda *args: train_by_hand(HandLoop, *args),
    "by hand, levers, bf16": lambda *args: train_by_hand(HandLoop, *args, levers=True),
    "ours, float32": train_ours,
    "ours, bf16": lambda *args: train_ours(*args, precision="bf16"),
}


def training(plan):
    """Training at three sizes, beside loops by hand; rounds in turn."""
    for size, (n_rows, _) in plan.rows.items():
        arrays, y = make_data(size, n_rows, seed=5)
        measured = {name: [] for name in CONTENDERS}
        for _ in range(plan.rounds):
            for name, work in CONTENDERS.items():
                reset_peak()
                measured[name].append((*work(size, arrays, y, plan), peak_mb()))
        first = np.array([ms for ms, *_ in next(iter(measured.values()))])
        for name, told in measured.items():
            ms = np.array([ms for ms, *_ in told])
            yield {
                "size": size,
                "contender": name,
                "ms per step": float(np.median(ms)),
                "this / captured": as_ratio(ms / first),
                "loss": float(told[-1][1]),
                "peak MB": told[-1][2],
            }


def compiled(plan):
    """The loop with all levers under `torch.compile`: what it takes to get ready, and a step."""
    for size in ("SMALL", "FEAT"):
        arrays, y = make_data(size, plan.rows[size][0], seed=5)
        loop = HandLoop(size, arrays, y, plan.device, levers=True, compiled=True)
        ready = seconds_of(loop.epoch, plan.device)
        ms = [1e3 * seconds_of(loop.epoch, plan.device) / loop.n_steps for _ in range(plan.epochs)]
        yield {"size": size, "first epoch s": ready, "ms per step": float(np.median(ms))}


# ------------------------------------------------------------------------------ one step


class ProfiledEpoch(Callback):
    """`torch.profiler` around the second epoch."""

    def on_train_begin(self, net, **kwargs):
        self.n_epochs = 0

    def on_epoch_begin(self, net, **kwargs):
        self.n_epochs += 1
        if self.n_epochs == 2:
            self.profile = torch.profiler.profile()
            self.profile.__enter__()

    def on_epoch_end(self, net, **kwargs):
        if self.n_epochs == 2:
            self.profile.__exit__(None, None, None)


def own_encoders(plan, **params):
    """The default encoders in a gated joint network, and its data."""
    X, y = make_multimodal_classification(plan.rows["SMALL"][0] // 2, random_state=0)
    encoders = [
        ("image", ImageEncoder(), "image"),
        ("text", TextEncoder(), "text"),
        ("audio", AudioEncoder(sample_rate=8000), "audio"),
    ]
    shared = {"early_stopping": False, "random_state": 0, "device": plan.device, "max_epochs": 2}
    shared |= {"batch_size": BATCH_SIZE, "fusion": "gated", **params}
    return JointFusionClassifier(encoders, **shared), X, y


def count(profile, n_steps):
    """Operators, launches, copies, synchronizations and kernels of a profiled epoch, per step."""
    events = profile.key_averages()

    def per_step(*beginnings):
        return sum(e.count for e in events if e.key.startswith(beginnings)) / n_steps

    on_device = [e for e in events if e.device_type == torch.autograd.DeviceType.CUDA]
    other = ("Memcpy", "Memset", "Optimizer.", "ProfilerStep")  # no kernels, though on the device
    kernels = [e for e in on_device if not e.key.startswith(other)]
    return {
        "operators": per_step("aten::"),
        "copies": per_step("aten::copy_"),
        "launches": per_step("cudaLaunch", "cuLaunch", "cudaGraphLaunch"),
        "pageable copies": per_step("Memcpy HtoD (Pageable", "Memcpy DtoH (Device -> Pageable"),
        "synchronizations": per_step("cudaStreamSync", "cudaDeviceSync", "cudaEventSync"),
        "kernels": sum(e.count for e in kernels) / n_steps,
        "kernels ms": sum(e.self_device_time_total for e in kernels) / 1e3 / n_steps,
    }


def step(plan):
    """What one training step does, per step."""
    for size in ("SMALL", "FEAT"):
        for precision in ("float32", "bf16"):
            arrays, y = make_data(size, min(1024, plan.rows[size][0]), seed=5)
            profiled = ProfiledEpoch()
            params = {"device": plan.device, "max_epochs": 2, "callbacks": [profiled]}
            make_ours(size, precision=precision, **params).fit(as_ours(arrays), y)
            counts = count(profiled.profile, -(-len(y) // BATCH_SIZE))
            yield {"network": f"{size}, {precision}", **counts}
        loop = CapturedLoop(size, arrays, y, plan.device)
        loop.epoch()
        with torch.profiler.profile() as profile:
            loop.epoch()
        yield {"network": f"{size}, captured by hand", **count(profile, loop.n_steps)}
    clock, profiled = Clock(plan.device), ProfiledEpoch()
    for callback in (clock, profiled):  # a profiler would slow down what the clock measures
        model, X, y = own_encoders(plan, callbacks=[callback])
        model.fit(X, y)
    n_steps = -(-len(y) // BATCH_SIZE)
    counts = count(profiled.profile, n_steps)
    yield {
        "network": "own encoders, gated, float32",
        **counts,
        "ms per step": 1e3 * clock.seconds[-1] / n_steps,
    }


# ------------------------------------------------------------------------------ prediction


def fitted(size, plan):
    """Our estimator after one short epoch, and test rows."""
    arrays, y = make_data(size, 64 if plan.on_gpu else 4, seed=5)
    model = make_ours(size, device=plan.device, max_epochs=1).fit(as_ours(arrays), y)
    return model, make_data(size, plan.rows[size][1], seed=4)[0]


def prediction(plan):
    """Rows per second, ours and a loop over resident rows, and one row."""
    for size in plan.rows:
        model, arrays = fitted(size, plan)
        X = as_ours(arrays)
        for _ in range(2):  # the first warms up
            seconds = seconds_of(lambda model=model, X=X: model.predict_proba(X), plan.device)
        yield {"size": size, "contender": "ours", "rows per s": len(X) / seconds}
        for precision, batch in (("float32", 256), ("float32", 2048), ("bf16", 2048)):
            call = predict_by_hand(size, arrays, precision, batch, plan)
            seconds = min(seconds_of(call, plan.device) for _ in range(3))
            name = f"by hand, resident, {precision}, {batch} rows"
            yield {"size": size, "contender": name, "rows per s": len(X) / seconds}
        for name, call in one_row(size, model, arrays, X, plan).items():
            yield {"size": size, "contender": name, "ms": median_ms(call, plan)}


def predict_by_hand(size, arrays, precision, batch, plan):
    """A function that predicts all rows in batches."""
    network, bases = make_hand(size, arrays, levers=precision != "float32")
    network, bases = network.to(plan.device).eval(), [b.to(plan.device) for b in bases]

    def call():
        with torch.inference_mode(), autocast(plan.device, precision):
            parts = [network(*rows) for rows in zip(*[b.split(batch) for b in bases], strict=True)]
            return torch.cat(parts).float().softmax(1).cpu().numpy()

    return call


def one_row(size, model, arrays, X, plan):
    """Functions that predict one row: the network alone, ours, and ours as a frame of one row."""
    network, bases = make_hand(size, {name: a[:1] for name, a in arrays.items()}, levers=True)
    network, bases = network.to(plan.device).eval(), [b.to(plan.device) for b in bases]

    def module():
        with torch.inference_mode():
            return network(*bases)

    if size == "FEAT":
        row, one = X[0], X[:1]
    else:
        row, one = {name: X[name].iloc[0] for name in X.columns}, X.iloc[:1]
    return {
        "one row, module by hand": module,
        "one row, predict_proba_one": lambda: model.predict_proba_one(row),
        "one row, predict_proba": lambda: model.predict_proba(one),
    }


# ------------------------------------------------------------------------------ data


def data(plan):
    """Where the rows are: a loop by hand with the same levers, and ours, at SMALL."""
    arrays, y = make_data("SMALL", plan.rows["SMALL"][0], seed=5)
    for source in SOURCES:
        ms, _ = train_by_hand(HandLoop, "SMALL", arrays, y, plan, levers=True, source=source)
        yield {"rows": f"by hand, {source}", "ms per step": ms}
    yield {"rows": "ours, resident", "ms per step": train_ours("SMALL", arrays, y, plan)[0]}
    with mock.patch("torch.cuda.mem_get_info", return_value=(0, 1 << 30)):  # nothing is free
        yield {"rows": "ours, prefetched", "ms per step": train_ours("SMALL", arrays, y, plan)[0]}
