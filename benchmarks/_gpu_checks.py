"""Sections of `gpu.py` that check results: registry, faults seen before, little memory.

A row with "ok" False fails the run; without "ok" it only informs.
"""

import gc
import pickle
import tempfile
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import torch
from _data import N_FEATURES
from _gpu_loops import peak_mb, reset_peak, seconds_of
from _reference import HandHead
from sklearn.base import clone
from skorch.callbacks import Callback
from torch import nn

from sklearn_mmfusion import (
    AudioEncoder,
    ImageEncoder,
    JointFusionClassifier,
    NeuralClassifier,
    TextEncoder,
    make_multimodal_classification,
)
from sklearn_mmfusion._skorch import fixed_steps
from sklearn_mmfusion._torch import cuda_graphs

TOLERANCE = 1e-4


@dataclass(frozen=True)
class Case:
    """An estimator of the registry, unfitted, with its data."""

    name: str
    model: Any
    X: Any
    y: Any
    trains: bool  # a network, so that it has a precision


def read_registry():
    """Every public estimator whose output is numbers: the one place that knows the registry."""
    from tests._registry import ENTRIES

    return [
        Case(entry.name, entry.make(), entry.X(), entry.y(), "net" in entry.tags)
        for entry in ENTRIES
        if "cells" not in entry.tags
    ]


@contextmanager
def without_tf32():
    """Float32 in full, as on a CPU."""
    backends = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = False
    try:
        yield
    finally:
        for backend, allowed in zip(backends, before, strict=True):
            backend.allow_tf32 = allowed


def outputs(model, X):
    """Numbers an estimator makes of X."""
    methods = ("predict_proba", "transform", "predict")
    result = getattr(model, next(m for m in methods if hasattr(model, m)))(X)
    return np.asarray(result, dtype=float)


def device_of(model):
    """Where the network of an estimator, or of the first child that has one, is."""
    children = [getattr(model, "transformers_", ()), getattr(model, "estimators_", ())]
    for own in [model, *[part for group in children for part in group]]:
        own = own[1] if isinstance(own, tuple) else own
        if hasattr(own, "module_"):
            return next(own.module_.parameters()).device.type
    return None


def distance(a, b):
    """Largest difference, relative to the largest number; NaN is equal to NaN."""
    if a.shape != b.shape or not np.array_equal(np.isnan(a), np.isnan(b)):
        return np.inf
    scale = max(1.0, np.nanmax(np.abs(b), initial=0.0))
    return float(np.nanmax(np.abs(a - b), initial=0.0) / scale)


# ------------------------------------------------------------------------------ registry


def registry(plan):
    """Each estimator fitted, predicted and pickled here; the copy predicts on the CPU."""
    cases = [case for case in read_registry() if plan.on_gpu or case.trains]
    for case in cases[: plan.n_entries]:
        yield {"estimator": case.name}, partial(check_case, case, plan)


@without_tf32()
def check_case(case, plan):
    model = case.model.fit(case.X, case.y)
    here = outputs(model, case.X)
    row = {"device": device_of(model)}
    copy = pickle.loads(pickle.dumps(model))
    with mock.patch("torch.cuda.is_available", return_value=False):  # as where there is no GPU
        row["CPU differs by"] = distance(outputs(copy, case.X), here)
    row["ok"] = row["CPU differs by"] <= TOLERANCE
    row["ok"] &= row["device"] == plan.device if case.trains else True
    if case.trains:
        low = case.model.set_params(precision="bf16").fit(case.X, case.y)
        row["bf16 differs by"] = distance(outputs(low, case.X), here)
        row["ok"] &= bool(np.isfinite(row["bf16 differs by"]))
    return row


# ------------------------------------------------------------------------------ faults seen


def encoders(**params):
    """Small encoders of all three modalities, the LSTM among them."""
    shared = {"n_components": 16, "max_epochs": 2, "random_state": 0, **params}
    return {
        "image": ImageEncoder(**shared),
        "text": TextEncoder(**shared),
        "audio cnn": AudioEncoder(sample_rate=8000, architecture="cnn", **shared),
        "audio lstm": AudioEncoder(sample_rate=8000, architecture="lstm", **shared),
    }


def joint(plan, audio="audio lstm", **params):
    own = encoders()
    triples = [("image", own["image"], "image"), ("text", own["text"], "text")]
    triples.append(("audio", own[audio], "audio"))
    shared = {"max_epochs": 2, "early_stopping": False, "random_state": 0, "device": plan.device}
    return JointFusionClassifier(triples, **{**shared, **params})


def make_rows(n_rows=64, **params):
    return make_multimodal_classification(n_rows, random_state=0, **params)


def faults(plan):
    """What went wrong on the first GPU, each by itself."""
    for check in (lone_row, default_device, gradients, moved_to_cpu, caller_state):
        yield {"what": check.__doc__.rstrip(".")}, partial(check, plan)
    yield from determinism(plan)


def lone_row(plan):
    """A batch in which one row has sound, LSTM."""
    X, y = make_rows(32)
    X.iloc[1:, list(X.columns).index("audio")] = pd.NA
    model = joint(plan, batch_size=32).fit(X, y)
    return {"ok": bool(np.isfinite(model.predict_proba(X)).all())}


def default_device(plan):
    """A fit under another default device is the same."""
    X, y = make_rows()
    expected = outputs(joint(plan).fit(X, y), X)
    with torch.device("cuda" if plan.on_gpu else "meta"), without_tf32():
        differs = distance(outputs(joint(plan).fit(X, y), X), expected)
    return {"differs by": differs, "ok": differs < (0.2 if plan.on_gpu else 1e-6)}


def gradients(plan):
    """A fitted network keeps no gradients."""
    X, y = make_rows()
    model = joint(plan).fit(X, y)
    return {"ok": all(p.grad is None for p in model.module_.parameters())}


def moved_to_cpu(plan):
    """After set_params(device="cpu") predict_one computes on the CPU."""
    X, y = make_rows()
    model = joint(plan).fit(X, y).set_params(device="cpu")
    model.predict_one({name: X[name].iloc[0] for name in X.columns})
    return {"device": device_of(model), "ok": device_of(model) == "cpu"}


def random_states():
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state()] if torch.cuda.is_available() else states


def caller_state(plan):
    """The caller's random states are untouched, and memory comes back."""
    X, y = make_rows()
    joint(plan).fit(X, y)
    before, used = random_states(), allocated()
    for _ in range(3):
        joint(plan).fit(X, y).predict(X)
    same = all(torch.equal(*pair) for pair in zip(random_states(), before, strict=True))
    return {"MB more": allocated() - used, "ok": same and allocated() - used < 1}


def allocated():
    """Megabytes on the device that are in use."""
    gc.collect()
    return torch.cuda.memory_allocated() / 1e6 if torch.cuda.is_initialized() else 0.0


def determinism(plan):
    """Two fits of equal seeds: equal bits with deterministic algorithms, how far apart without."""
    X, y = make_rows()
    models = {name: (model, X[name.split()[0]]) for name, model in encoders().items()}
    models["joint, attention"] = (joint(plan, fusion="attention", objectives=OBJECTIVES), X)
    for name, (model, rows) in list(models.items())[: plan.n_entries]:
        yield {"what": f"two fits, {name}"}, partial(fit_twice, model, rows, y)


def fit_twice(model, X, y):
    twice = [outputs(model.fit(X, y), X) for _ in range(2)]
    row = {"differs by": distance(*twice)}
    with deterministic():
        twice = [outputs(model.fit(X, y), X) for _ in range(2)]
    return row | {"ok": np.array_equal(*twice, equal_nan=True)}


OBJECTIVES = {"auxiliary": 0.3, "contrastive": 0.1, "adversarial": 0.1}


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


# ------------------------------------------------------------------------------ captured steps


class Waits(nn.Module):
    """A perceptron that waits for the device in every step, so that no graph can hold it."""

    def __init__(self, in_features, n_outputs):
        super().__init__()
        self.linear = nn.Linear(in_features, n_outputs)

    def forward(self, features):
        return self.linear(features / max(1.0, features.abs().max().item()))


class Synchronizes(nn.Module):
    """A perceptron that waits in a way torch does not warn of: it makes a capture invalid."""

    def __init__(self, in_features, n_outputs):
        super().__init__()
        self.linear = nn.Linear(in_features, n_outputs)

    def forward(self, features):
        if features.is_cuda:
            torch.cuda.synchronize()
        return self.linear(features)


class Freeze(Callback):
    """Trains the last layer only, from the third epoch on."""

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == 3:
            for name, parameter in net.module_.named_parameters():
                parameter.requires_grad_("output" in name)


LEAST_GRAPHS = {"head that waits": 0, "head that synchronizes": 0, "head, frozen later": 2}


def captured(plan):
    """50 steps replayed as CUDA graphs, compared with eager steps; deterministic algorithms."""
    X, y = make_rows(320)
    lacking = X.copy()
    lacking.iloc[::3, list(X.columns).index("text")] = pd.NA
    features = np.random.default_rng(0).normal(size=(320, 20)).astype(np.float32)
    shared = {"max_epochs": 5, "batch_size": 32, "random_state": 0, "device": plan.device}
    shared |= {"early_stopping": False}
    own = {name: encoder.set_params(**shared) for name, encoder in encoders().items()}
    off = {f"{name}__dropout": 0.0 for name in ("image", "text", "audio")}
    off |= {"modality_dropout": 0.0, "dropout": 0.0, "text__module_params": {"token_dropout": 0.0}}
    no_draws = {**off, "image__module_params": {"max_shift": 0.0}}
    models = {
        "head": (NeuralClassifier(**shared), features),
        "head that waits": (NeuralClassifier(module=Waits, **shared), features),
        "image": (own["image"], X["image"]),
        "joint": (joint(plan, **shared).set_params(**no_draws), X),
        "joint, objectives, absent rows": (
            joint(plan, "audio cnn", objectives=OBJECTIVES, **shared).set_params(**no_draws),
            lacking,
        ),
        "head that synchronizes": (NeuralClassifier(module=Synchronizes, **shared), features),
        "head, frozen later": (
            NeuralClassifier(linear_share=0.0, callbacks=[Freeze()], **shared),
            features,
        ),
    }
    for name, (model, rows) in list(models.items())[: plan.n_entries]:
        least = LEAST_GRAPHS.get(name, 1) if plan.on_gpu else 0
        has_masks = name.startswith("joint")
        yield {"network": name}, partial(fit_captured, model, rows, y, has_masks, least)


@without_tf32()
def fit_captured(model, X, y, has_masks, least_graphs):
    """Replayed steps against the same steps run eagerly, and against steps on gathered rows.

    Those have other shapes: the order of sums differs, and its rounding errors grow over 50 steps.
    """
    capture, done = fixed_steps.capture, []

    def counted(*args):
        made = capture(*args)
        done.append(1)
        return made

    with deterministic():
        with mock.patch.object(fixed_steps, "capture", counted):
            graph = clone(model).fit(X, y)
        with mock.patch.object(fixed_steps, "MIN_REPLAYS", 10**9):  # too few steps for a capture
            eager = clone(model).fit(X, y)
        gathered = clone(model).set_params(net_params={"cuda_graph": False}).fit(X, y)
    losses = [fitted.history_[-1]["train_loss"] for fitted in (graph, gathered)]
    row = {"graphs": len(done), "outputs differ by": distance(outputs(graph, X), outputs(eager, X))}
    row["gathered: outputs"] = distance(outputs(graph, X), outputs(gathered, X))
    row["gathered: losses"] = abs(losses[0] / losses[1] - 1)
    same = row["gathered: losses"] <= 0.01 if has_masks else row["gathered: outputs"] <= TOLERANCE
    same = same and row["outputs differ by"] <= TOLERANCE
    return row | {"ok": bool(same and len(done) >= least_graphs)}


def single_rows(plan):
    """Compare replayed with eager predictions of single rows, some with absent modalities."""
    X, y = make_rows(32)
    X.iloc[::3, list(X.columns).index("text")] = pd.NA
    features = np.random.default_rng(0).normal(size=(32, 20)).astype(np.float32)
    shared = {"max_epochs": 1, "random_state": 0, "device": plan.device}
    models = {
        "head": (NeuralClassifier(**shared), features, list(features)),
        "joint, gated": (joint(plan, **shared), X, X.to_dict("records")),
        "joint, attention": (
            joint(plan, "audio cnn", fusion="attention", **shared),
            X,
            X.to_dict("records"),
        ),
    }
    for name, (model, rows, cells) in list(models.items())[: plan.n_entries]:
        yield {"network": name}, partial(predict_singly, model, rows, cells, y)


@without_tf32()
def predict_singly(model, X, rows, y):
    """Each row often enough for a graph, then after the weights have moved to the CPU and back."""
    model.fit(X, y)
    with mock.patch.object(cuda_graphs, "DEVICES", ()):
        expected = np.array([model.predict_proba_one(row) for row in rows])
    often = range(cuda_graphs.WARM_UP + 1)
    found = [[model.predict_proba_one(row) for row in rows] for _ in often]
    graphs = cuda_graphs.row_graphs(model.module_)
    row = {"graphs": len(graphs.graphs), "differs by": distance(np.array(found[-1]), expected)}
    model.module_.to("cpu")
    moved = [[model.predict_proba_one(row) for row in rows] for _ in often]
    row["moved, differs by"] = distance(np.array(moved[-1]), expected)
    on_cpu = not next(model.module_.parameters()).is_cuda  # it has no graphs
    same = max(row["differs by"], row["moved, differs by"]) <= TOLERANCE
    return row | {"ok": bool(same and (graphs.graphs or on_cpu))}


# ------------------------------------------------------------------------------ little memory


class Hungry(nn.Module):
    """A perceptron that takes more memory at its third step than there is."""

    n_steps, greedy = 0, True

    def __init__(self, in_features, n_outputs):
        super().__init__()
        self.linear = nn.Linear(in_features, n_outputs)

    def forward(self, features):
        Hungry.n_steps += 1
        if Hungry.greedy and Hungry.n_steps > 2:
            if features.is_cuda:
                torch.empty(1 << 42, dtype=torch.uint8, device=features.device)
            raise torch.OutOfMemoryError("made up: this is not a GPU")
        return self.linear(features)


def out_of_memory(plan):
    """A fit and a prediction that run out of memory, and what is left afterwards."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(256, 16)).astype(np.float32), rng.integers(0, 2, 256)
    params = {"max_epochs": 2, "batch_size": 32, "random_state": 0, "device": plan.device}
    Hungry.greedy = False
    expected = NeuralClassifier(module=Hungry, **params).fit(X, y).predict_proba(X)
    for what in ("fit", "predict_proba"):
        model = NeuralClassifier(module=Hungry, **params)
        if what == "predict_proba":
            model.fit(X, y)
        yield {"what": what}, partial(run_out, model, what, X, y, expected)


def run_out(model, what, X, y, expected):
    """One call with too little memory, then a fit with enough."""
    before, used = random_states(), allocated()
    Hungry.greedy, Hungry.n_steps = True, 2 * (what == "predict_proba")
    try:
        model.fit(X, y) if what == "fit" else model.predict_proba(X)
        row = {"raised": "nothing", "names batch_size": False}
    except Exception as error:
        notes = " ".join([str(error), *getattr(error, "__notes__", ())])
        row = {"raised": type(error).__name__, "names batch_size": "batch_size" in notes}
    finally:
        Hungry.greedy = False
    same = all(torch.equal(*pair) for pair in zip(random_states(), before, strict=True))
    row |= {"random states restored": same, "MB more": allocated() - used}
    row["later fit differs by"] = distance(outputs(clone(model).fit(X, y), X), expected)
    row["ok"] = (
        row["raised"] == "OutOfMemoryError"
        and row["names batch_size"]
        and same
        and row["MB more"] < 1
        and row["later fit differs by"] < 1e-3
    )
    return row


def memory_mapped(plan):
    """Rows of a file, more than the device is said to have free: peak, and rows per second."""
    n_rows = plan.mapped_rows
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.npy")
        shape, rng = (n_rows, N_FEATURES), np.random.default_rng(0)
        X = np.lib.format.open_memmap(path, "w+", np.float32, shape)
        for start in range(0, n_rows, 10_000):
            part = X[start : start + 10_000]
            part[:] = rng.standard_normal(part.shape, dtype=np.float32)
        X.flush()
        X = np.load(path, mmap_mode="r")
        y = np.asarray(X[:, 0] > 0)
        limit = X.nbytes // 2
        for name, free in {"as it is": None, "limited": limit}.items():
            yield {"what": name, "file MB": X.nbytes / 1e6}, partial(fit_mapped, X, y, free, plan)
        del X


def fit_mapped(X, y, limit, plan):
    params = {"max_epochs": 1, "early_stopping": False, "device": plan.device, "random_state": 0}
    model = NeuralClassifier(module=HandHead, batch_size=512, **params)
    used = allocated()
    reset_peak()
    with device_memory(limit) if limit and plan.on_gpu else nullcontext():
        seconds = seconds_of(lambda: model.fit(X, y), plan.device)
    peak = peak_mb()
    row = {"limit MB": limit and limit / 1e6, "peak MB more": peak and peak - used}
    return row | {"rows per s": len(X) / seconds}


@contextmanager
def device_memory(limit):
    """A GPU that has so many bytes free, and gives no more."""
    torch.cuda.empty_cache()
    total = torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + limit) / total)
    try:
        with mock.patch("torch.cuda.mem_get_info", return_value=(limit, total)):
            yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
