"""Sections of `gpu.py` that measure time: training, the step, prediction, where the data are."""

import time
from contextlib import nullcontext
from functools import partial
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
from sklearn.model_selection import GridSearchCV
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
    small, large = torch.ones(8, device=device), torch.ones(n, n, device=device)
    low, host = large.bfloat16(), torch.ones(n, n)
    calls = {  # what, unit, units in one call, call
        "a tiny kernel": ("launches per ms", 1, lambda: small + 1),
        "product, float32": ("TFLOP/s", 2 * n**3 / 1e9, lambda: large @ large),
        "product, bf16": ("TFLOP/s", 2 * n**3 / 1e9, lambda: low @ low),
        "copy on the device": ("GB/s", 8 * n * n / 1e6, lambda: large.clone()),
        "host to device, pageable": ("GB/s", 4 * n * n / 1e6, lambda: large.copy_(host)),
    }
    if plan.on_gpu:
        pinned = host.pin_memory()
        calls["host to device, pinned"] = ("GB/s", 4 * n * n / 1e6, lambda: large.copy_(pinned))
    for what, (unit, units, call) in calls.items():
        yield {"what": what, "unit": unit}, partial(rate, call, units, plan)


def rate(call, units, plan):
    return {"value": units / median_ms(call, plan)}


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
        rounds = [train_in_turn(size, arrays, y, plan) for _ in range(plan.rounds)]
        for name in CONTENDERS:
            yield {"size": size, "contender": name}, partial(summarize, name, rounds)


def train_in_turn(size, arrays, y, plan):
    """One round: ms per step, loss and peak by contender, or its error."""
    results = {}
    for name, work in CONTENDERS.items():
        reset_peak()
        try:
            results[name] = (*work(size, arrays, y, plan), peak_mb())
        except Exception as error:
            results[name] = error
    return results


def summarize(name, rounds):
    """Medians of one contender over the rounds; its error, if it had one."""
    errors = [results[name] for results in rounds if isinstance(results[name], Exception)]
    if errors:
        raise errors[0]
    ms = np.array([results[name][0] for results in rounds])
    row = {"ms per step": float(np.median(ms))}
    first = [results[next(iter(CONTENDERS))] for results in rounds]
    if not any(isinstance(one, Exception) for one in first):
        row["this / captured"] = as_ratio(ms / np.array([one[0] for one in first]))
    return row | {"loss": float(rounds[-1][name][1]), "peak MB": rounds[-1][name][2]}


def compiled(plan):
    """The loop with all levers under `torch.compile`: what it takes to get ready, and a step."""
    for size in ("SMALL", "FEAT"):
        yield {"size": size}, partial(compile_loop, size, plan)


def compile_loop(size, plan):
    arrays, y = make_data(size, plan.rows[size][0], seed=5)
    loop = HandLoop(size, arrays, y, plan.device, levers=True, compiled=True)
    ready = seconds_of(loop.epoch, plan.device)
    ms = [1e3 * seconds_of(loop.epoch, plan.device) / loop.n_steps for _ in range(plan.epochs)]
    return {"first epoch s": ready, "ms per step": float(np.median(ms))}


# ------------------------------------------------------------------------------ one step


class ProfiledEpoch(Callback):
    """`torch.profiler` around the second epoch."""

    def on_train_begin(self, net, **kwargs):
        self.n_epochs = 0

    def on_epoch_begin(self, net, **kwargs):
        self.n_epochs += 1
        if self.n_epochs == 2:
            self.profile = torch.profiler.profile(acc_events=True)
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
        arrays, y = make_data(size, min(1024, plan.rows[size][0]), seed=5)
        for precision in ("float32", "bf16"):
            labels = {"network": f"{size}, ours, {precision}"}
            yield labels, partial(profile_ours, size, arrays, y, plan, precision)
        yield (
            {"network": f"{size}, by hand, captured"},
            partial(profile_hand, size, arrays, y, plan),
        )
    for precision in ("float32", "bf16"):
        labels = {"network": f"own encoders, gated, {precision}"}
        yield labels, partial(profile_encoders, plan, precision)


def profile_ours(size, arrays, y, plan, precision):
    profiled = ProfiledEpoch()
    params = {"device": plan.device, "max_epochs": 2, "callbacks": [profiled]}
    make_ours(size, precision=precision, **params).fit(as_ours(arrays), y)
    return count(profiled.profile, -(-len(y) // BATCH_SIZE))


def profile_hand(size, arrays, y, plan):
    loop = CapturedLoop(size, arrays, y, plan.device)
    loop.epoch()
    with torch.profiler.profile(acc_events=True) as profile:
        loop.epoch()
    return count(profile, loop.n_steps)


def profile_encoders(plan, precision):
    clock, profiled = Clock(plan.device), ProfiledEpoch()
    for callback in (clock, profiled):  # a profiler would slow down what the clock measures
        model, X, y = own_encoders(plan, precision=precision, callbacks=[callback])
        model.fit(X, y)
    n_steps = -(-len(y) // BATCH_SIZE)
    row = {"ms per step": 1e3 * clock.seconds[-1] / n_steps}
    return row | count(profiled.profile, n_steps)


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
        ours = partial(model.predict_proba, X)
        yield {"size": size, "contender": "ours"}, partial(predict_all, ours, len(X), plan)
        for precision, batch in (("float32", 256), ("float32", 2048), ("bf16", 2048)):
            call = predict_by_hand(size, arrays, precision, batch, plan)
            labels = {"size": size, "contender": f"by hand, resident, {precision}, {batch} rows"}
            yield labels, partial(predict_all, call, len(X), plan)
        for name, call in one_row(size, model, arrays, X, plan).items():
            yield {"size": size, "contender": name}, partial(predict_row, call, plan)


def predict_all(call, n_rows, plan):
    seconds = min(seconds_of(call, plan.device) for _ in range(3))  # the first warms up
    return {"rows per s": n_rows / seconds}


def predict_row(call, plan):
    return {"ms": median_ms(call, plan)}


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


# ------------------------------------------------------------------------------ searches


def searches(plan):
    """A search of 4 settings x 3 folds on one device, in one process and in two."""
    n_rows = 20_000 if plan.on_gpu else 60
    arrays, y = make_data("FEAT", n_rows, seed=5)
    X = as_ours(arrays)
    for n_jobs in (1, 2) if plan.on_gpu else (1,):
        yield {"n_jobs": n_jobs}, partial(search, X, y, n_jobs, plan)


def search(X, y, n_jobs, plan):
    model = make_ours("FEAT", device=plan.device, max_epochs=5)
    grid = GridSearchCV(model, {"lr": [1e-4, 3e-4, 1e-3, 3e-3]}, cv=3, n_jobs=n_jobs, refit=False)
    return {"seconds": seconds_of(lambda: grid.fit(X, y), plan.device)}


# ------------------------------------------------------------------------------ data


def data(plan):
    """Where the rows are: a loop by hand with the same levers, and ours, at SMALL."""
    arrays, y = make_data("SMALL", plan.rows["SMALL"][0], seed=5)
    common = ("SMALL", arrays, y, plan)
    for source in SOURCES:
        train = partial(train_by_hand, HandLoop, *common, levers=True, source=source)
        yield {"rows": f"by hand, {source}"}, partial(time_step, train)
    ours = partial(train_ours, *common)
    yield {"rows": "ours, resident"}, partial(time_step, ours)
    yield {"rows": "ours, prefetched"}, partial(time_step, ours, free=0)


def time_step(train, free=None):
    """Milliseconds per step, on a device that is said to have so many bytes free."""
    patch = mock.patch("torch.cuda.mem_get_info", return_value=(free, 1 << 30))
    with nullcontext() if free is None else patch:
        return {"ms per step": float(train()[0])}
