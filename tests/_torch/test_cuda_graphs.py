"""Graphs of single rows predict like eager passes. Here replays run eagerly, on the CPU."""

import gc
import logging
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sklearn_mmfusion import (
    AudioEncoder,
    ImageEncoder,
    JointFusionClassifier,
    NeuralClassifier,
    SequenceEncoder,
    TextEncoder,
    make_multimodal_classification,
)
from sklearn_mmfusion._torch import Inputs, RaggedRows, cuda_graphs
from sklearn_mmfusion._torch.cuda_graphs import MAX_GRAPHS, WARM_UP, padded_length, row_graphs

SHARED = {"max_epochs": 1, "batch_size": 16, "random_state": 0, "device": "cpu"}


class Replay:
    """In place of a CUDA graph, which a CPU has not: runs again and overwrites the output."""

    def __init__(self, run, output):
        self.run, self.output = run, output

    def replay(self):
        with torch.inference_mode():
            self.output.copy_(self.run())


@pytest.fixture
def on_cpu(monkeypatch):
    """Captures on the CPU; returns how many there were."""
    captured = []

    def capture(run, device, pool):
        output = run()
        captured.append(output.shape)
        return Replay(run, output), output

    monkeypatch.setattr(cuda_graphs, "DEVICES", ("cpu",))
    monkeypatch.setattr(cuda_graphs, "capture", capture)
    monkeypatch.setattr(cuda_graphs, "new_pool", lambda: (0, 1))
    monkeypatch.setattr(cuda_graphs, "_on_side_stream", nullcontext)
    monkeypatch.setattr(cuda_graphs, "_noted_waiting", lambda: nullcontext([]))
    return captured


def head(module=None, **params):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 5)), rng.integers(0, 2, 40)
    return NeuralClassifier(module=module, **{**SHARED, **params}).fit(X, y), X


def joint(**params):
    X, y = make_multimodal_classification(24, random_state=0)
    X["sensor"] = [np.random.default_rng(i).normal(size=(4 + i, 2)) for i in range(24)]
    X.loc[::3, "text"] = pd.NA
    encoders = [
        ("image", ImageEncoder(n_components=8), "image"),
        ("text", TextEncoder(n_components=8), "text"),
        ("audio", AudioEncoder(sample_rate=8000, n_components=8), "audio"),
        ("sensor", SequenceEncoder(n_components=8), "sensor"),
    ]
    return JointFusionClassifier(encoders, **{**SHARED, **params}).fit(X, y), X


def eager(monkeypatch, predict, rows):
    """Predictions of single rows without graphs."""
    with monkeypatch.context() as patch:
        patch.setattr(cuda_graphs, "DEVICES", ())
        return [predict(row) for row in rows]


def test_a_row_of_numbers_is_captured_after_the_warm_up(on_cpu, monkeypatch):
    model, X = head()
    expected = eager(monkeypatch, model.predict_proba_one, X)
    np.testing.assert_array_equal([model.predict_proba_one(row) for row in X], expected)
    assert len(on_cpu) == 1
    np.testing.assert_array_equal(model.predict_proba(X[:1])[0], expected[0])


@pytest.mark.parametrize(
    "fusion",
    ["attention", *(pytest.param(name, marks=pytest.mark.slow) for name in ("gated", "logits"))],
)
def test_rows_of_several_lengths_and_absent_modalities_share_graphs(on_cpu, monkeypatch, fusion):
    model, X = joint(fusion=fusion)
    rows = [X.iloc[i].to_dict() for i in range(len(X))]
    expected = eager(monkeypatch, model.predict_proba_one, rows)
    for _ in range(WARM_UP + 1):
        found = [model.predict_proba_one(row) for row in rows]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    graphs = row_graphs(model.module_)
    assert 2 <= len(on_cpu) == len(graphs.graphs) <= MAX_GRAPHS


def test_a_row_without_any_modality_gets_the_prior(on_cpu):
    model, X = joint()
    for _ in range(WARM_UP + 2):
        with pytest.warns(UserWarning, match="no modality"):
            told = model.predict_proba_one(dict.fromkeys(X.columns))
    np.testing.assert_allclose(told.sum(), 1)
    assert not on_cpu


def repeated(model, row):
    """The last of enough predictions for a capture."""
    return [model.predict_proba_one(row) for _ in range(WARM_UP + 2)][-1]


def test_weights_in_other_memory_are_captured_anew(on_cpu):
    model, X = head()
    repeated(model, X[0])
    for parameter in model.module_.parameters():
        parameter.data = parameter.data * 1.5
    expected = model.predict_proba(X[:2])[0]
    np.testing.assert_allclose(repeated(model, X[0]), expected, rtol=1e-6)
    assert len(on_cpu) == 2


def test_a_pool_whose_graphs_are_gone_is_not_used_again(on_cpu, monkeypatch):
    handles, pools = iter(range(9)), []
    monkeypatch.setattr(cuda_graphs, "new_pool", lambda: next(handles))
    monkeypatch.setattr(
        cuda_graphs,
        "capture",
        lambda run, device, pool: (pools.append(pool), (Recording(), run()))[1],
    )
    model, X = joint()
    rows = [X.iloc[i][["image", *more]].to_dict() for i, more in ((1, []), (2, ["audio"]))]
    for _ in range(2):
        for row in rows:
            repeated(model, row)
        for parameter in model.module_.parameters():
            parameter.data = parameter.data.clone()
    assert pools == [0, 0, 1, 1]


def test_weights_that_change_in_place_need_no_other_graph(on_cpu):
    model, X = head()
    before = repeated(model, X[0])
    with torch.no_grad():
        for parameter in model.module_.parameters():
            parameter *= 1.5
    after = model.predict_proba_one(X[0])
    assert not np.allclose(before, after)
    np.testing.assert_allclose(after, model.predict_proba(X[:2])[0], rtol=1e-6)
    assert len(on_cpu) == 1


@pytest.mark.parametrize("work", [torch.backends.cuda.matmul, torch.backends.cudnn.conv])
def test_rows_in_another_precision_have_another_graph(on_cpu, work):
    (model, X), before = head(), work.fp32_precision
    try:
        found = []
        for precision in ("ieee", "tf32"):  # an older function of torch raises where it reads that
            work.fp32_precision = precision
            found.append(repeated(model, X[0]))
    finally:
        work.fp32_precision = before
    np.testing.assert_array_equal(*found)
    assert len(on_cpu) == 2


def test_rows_are_not_captured_under_autocast(on_cpu):
    model, X = head()
    torch.set_autocast_enabled("cuda", True)
    try:
        repeated(model, X[0])
    finally:
        torch.set_autocast_enabled("cuda", False)
    assert not on_cpu
    repeated(model, X[0])
    assert len(on_cpu) == 1


def test_hooks_are_called_for_every_row(on_cpu):
    model, X = head()
    repeated(model, X[0])
    calls = []
    handle = model.module_.register_forward_hook(lambda *args: calls.append(1))
    repeated(model, X[0])
    assert len(calls) == WARM_UP + 2
    handle.remove()
    repeated(model, X[0])
    assert len(calls) == WARM_UP + 2


def test_cuda_graph_false_turns_graphs_off(on_cpu):
    model, X = head(net_params={"cuda_graph": False})
    repeated(model, X[0])
    assert not on_cpu


class Noisy(nn.Module):
    """Draws from numpy's generator in every pass."""

    def __init__(self, in_features, n_outputs):
        super().__init__()
        self.layer = nn.Linear(in_features, n_outputs)

    def forward(self, features):
        return self.layer(features) * np.random.uniform(0.5, 2)


def test_a_module_that_draws_on_the_host_is_not_captured(on_cpu, caplog):
    caplog.set_level(logging.DEBUG, logger="sklearn_mmfusion")
    model, X = head(Noisy)
    n = cuda_graphs.MAX_TRIES * (WARM_UP + 1) + 2
    assert len({float(model.predict_proba_one(X[0])[0]) for _ in range(n)}) == n
    assert not on_cpu
    messages = [record.getMessage() for record in caplog.records]
    assert sum("draws random numbers on the host" in message for message in messages) == 1


def test_only_waits_of_this_thread_are_noted(monkeypatch):
    modes = []
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    waits = "called a synchronizing CUDA operation (Triggered internally at ...)"

    def warn():
        warnings.warn(waits, stacklevel=1)

    def run():
        with ThreadPoolExecutor(1) as pool:
            pool.submit(warn).result()
        warnings.warn("a warning of the network", stacklevel=1)
        return 7

    with pytest.warns(UserWarning, match="a warning of the network") as record:
        assert cuda_graphs.run_and_check(run) == (7, None)
    assert len(record) == 1
    for _ in range(2):
        output, reason = cuda_graphs.run_and_check(warn)
        assert str(reason) == waits
    assert modes == ["warn", 0] * 3


def test_threads_capture_one_at_a_time(on_cpu, monkeypatch):
    inside, most = [], []

    @contextmanager
    def on_side_stream(device):
        inside.append(device)
        most.append(len(inside))
        time.sleep(0.05)
        yield
        inside.pop()

    monkeypatch.setattr(cuda_graphs, "_on_side_stream", on_side_stream)
    models = [head() for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda pair: repeated(pair[0], pair[1][0]), models))
    assert len(on_cpu) == 2
    assert most == [1, 1]


class BrokenGraph:
    """A graph whose capture something has made invalid: torch ends it with the same error."""

    def capture_begin(self, **params):
        pass

    def capture_end(self):
        raise RuntimeError("operation failed due to a previous error during capture")


@pytest.mark.parametrize("is_open", [True, False])
def test_an_invalid_capture_closes_its_pool(monkeypatch, is_open):
    device, calls = torch.device("cuda:1"), []

    def end(*args):
        if not is_open:
            raise RuntimeError("not currently recording to mempool_id")
        calls.append(("end", *args))

    memory = torch.cuda.memory
    monkeypatch.setattr(memory, "_cuda_endAllocateToPool", end)
    monkeypatch.setattr(memory, "_cuda_releasePool", lambda *args: calls.append(("release", *args)))
    with pytest.raises(RuntimeError, match="not permitted"):
        with cuda_graphs._recorded(BrokenGraph(), device, (0, 7)):
            raise RuntimeError("operation not permitted when stream is capturing")
    assert calls == ([("end", 1, (0, 7)), ("release", 1, (0, 7))] if is_open else [])


def sequences(n_shapes):
    """Rows of so many lengths that are padded to different ones."""
    lengths = dict.fromkeys(padded_length(n) for n in range(1, 200))
    return [Inputs(frames=RaggedRows(torch.zeros(n), [n])) for n in list(lengths)[:n_shapes]]


class Length(nn.Module):
    fixed_shapes = True

    def encoders_by_name(self):
        return {"": self}

    def forward(self, frames, frames_lengths):
        return frames_lengths.sum(1)


def test_rows_of_many_shapes_are_not_captured_again_and_again(on_cpu):
    graphs, module, rows = cuda_graphs.RowGraphs(), Length(), sequences(MAX_GRAPHS + 4)
    often, rare = rows[:MAX_GRAPHS], rows[MAX_GRAPHS:]
    with torch.inference_mode():
        for _ in range(10):
            for row in rows:
                found = graphs.run(module, row, "cpu")
                assert found is None or found == len(row.sources["frames"].values)
        assert len(on_cpu) == len(graphs.graphs) == MAX_GRAPHS
        for _ in range(10):
            assert graphs.run(module, rare[0], "cpu") is None
        assert graphs.run(module, rare[0], "cpu") is not None  # more than twice as frequent
        assert graphs.run(module, often[0], "cpu") is None
        assert len(on_cpu) == len(graphs.graphs) + 1 == MAX_GRAPHS + 1


def test_long_sequences_are_not_captured(on_cpu, monkeypatch):
    monkeypatch.setattr(cuda_graphs, "MAX_STEPS", 8)
    graphs, module = cuda_graphs.RowGraphs(), Length()
    with torch.inference_mode():
        for n_steps in (9, 8):
            row = Inputs(frames=RaggedRows(torch.zeros(n_steps), [n_steps]))
            found = [graphs.run(module, row, "cpu") for _ in range(WARM_UP + 1)]
            assert (found[-1] is None) == (n_steps == 9)


def test_counts_of_shapes_are_halved(on_cpu, monkeypatch):
    monkeypatch.setattr(cuda_graphs, "WINDOW", 8)
    graphs, module, rows = cuda_graphs.RowGraphs(), Length(), sequences(20)
    with torch.inference_mode():
        for row in rows:
            graphs.run(module, row, "cpu")
    assert len(graphs.seen) == 20 % 8


def test_a_failed_capture_leaves_predictions_as_they_were(on_cpu, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG, logger="sklearn_mmfusion")

    def fail(*args):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(cuda_graphs, "capture", fail)
    model, X = head()
    expected = model.predict_proba(X[:2])[0]
    np.testing.assert_allclose(repeated(model, X[0]), expected, rtol=1e-6)
    assert "not permitted when stream is capturing" in caplog.text


class Recording:
    """A graph that, unlike `Replay`, has no reference to what it was recorded from."""

    def replay(self):
        pass


def test_graphs_live_as_long_as_their_network(on_cpu, monkeypatch):
    monkeypatch.setattr(cuda_graphs, "capture", lambda run, *args: (Recording(), run()))
    model, X = head()
    repeated(model, X[0])
    before = len(cuda_graphs._ROW_GRAPHS)
    del model
    gc.collect()
    assert len(cuda_graphs._ROW_GRAPHS) == before - 1


@given(st.integers(0, 10**6))
def test_padded_lengths_waste_a_quarter_at_most(n):
    assert max(1, n) <= padded_length(n) <= max(1, 1.25 * n)


def test_padded_lengths_are_four_per_octave():
    assert len({padded_length(n) for n in range(64, 128)}) == 5  # 64 is one of the octave before
