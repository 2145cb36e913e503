"""Training by two processes through Accelerate, against the fit of a single process."""

import io
import os
import pickle
import socket
import traceback
from contextlib import redirect_stdout
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch.callbacks import Callback, EarlyStopping
from torch import nn

from sklearn_mmfusion import (
    ImageEncoder,
    JointFusionClassifier,
    NeuralClassifier,
    NeuralRegressor,
    multimodal_frame,
)
from tests._fusion_data import hide

accelerate = pytest.importorskip("accelerate")

Accelerator = partial(accelerate.Accelerator, cpu=True)
TOGETHER = {"accelerator": Accelerator}
N = 101  # no batch is even


class Perceptron(nn.Module):
    """Two layers, without batch norm or dropout."""

    def __init__(self, in_features, n_outputs):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(in_features, 16), nn.Tanh(), nn.Linear(16, n_outputs))

    def forward(self, features):
        return self.layers(features)


class Pixels(nn.Module):
    """A linear encoder of images, without batch norm or dropout."""

    def __init__(self, in_channels, out_features, **sizes):
        super().__init__()
        self.out_features = out_features
        self.layer = nn.LazyLinear(out_features)
        self.layer(torch.zeros(1, 64))

    def forward(self, pixels):
        return torch.tanh(self.layer(pixels.flatten(1).float() / 255))


class Weights(Callback):
    """The weights each net starts from."""

    def __init__(self):
        self.starts = []

    def on_train_begin(self, net, **kwargs):
        self.starts.append(arrays(net.module_))


def arrays(module):
    return {name: value.detach().numpy().copy() for name, value in module.state_dict().items()}


def features():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, 5)).astype(np.float32)
    y = (X @ rng.normal(size=(5, 3)) + rng.normal(size=(N, 3))).argmax(1)
    return X, y, {"sample_weight": rng.uniform(0.2, 3.0, N)}


def pictures():
    """Two images a row; most rows lack the second, so that some shares have none of it."""
    rng = np.random.default_rng(0)
    y = np.arange(N) % 2
    pixels = rng.integers(0, 128, (2, N, 8, 8)) + 60 * y[:, None, None]
    X = multimodal_frame(a=pixels[0].astype(np.uint8), b=pixels[1].astype(np.uint8))
    return hide(X, b=np.flatnonzero(rng.random(N) < 0.9)), y, {}


def perceptron(**params):
    options = {"module": Perceptron, "max_epochs": 6, "lr": 0.02, "early_stopping": True}
    return NeuralClassifier(**{**options, "random_state": 0, **params})


def joint(**params):
    encoder = ImageEncoder(n_components=8, module=Pixels)
    options = {
        "dropout": 0.0,
        "modality_dropout": 0.0,
        "max_epochs": 4,
        "lr": 0.01,
        "batch_size": 8,
    }
    return JointFusionClassifier(
        [("a", encoder, "a"), ("b", encoder, "b")], **{**options, "random_state": 0, **params}
    )


# Equal to the fit of a single process, whatever the shares.
EXACT = {
    "weighted": (perceptron, features),
    "no validation": (partial(perceptron, early_stopping=False), features),
    "no refit": (partial(perceptron, refit=False), features),
    "stopped": (
        partial(
            perceptron,
            refit=False,
            max_epochs=40,
            lr=0.3,
            callbacks=[("stop", EarlyStopping(patience=2, load_best=False, sink=str))],
        ),
        features,
    ),
    "absent cells": (joint, pictures),
}
# Equal in all processes: batch norm, dropout, seeds from nowhere.
LIKE = {
    "batch norm": (partial(NeuralClassifier, max_epochs=3, random_state=0), features),
    "no seed": (partial(NeuralRegressor, max_epochs=3), features),
    "encoder": (
        partial(ImageEncoder, n_components=8, channels=(8,), max_epochs=2, random_state=0),
        lambda: (pictures()[0]["a"], pictures()[1], {}),
    ),
    "joint": (
        lambda **params: JointFusionClassifier(
            [(n, ImageEncoder(n_components=8, channels=(8,)), n) for n in "ab"],
            **{"max_epochs": 2, "random_state": 0, **params},
        ),
        pictures,
    ),
}


def told(model, X):
    """What is compared of a fitted estimator."""
    predict = getattr(model, "predict", None) or model.transform
    return {
        "history": model.history_,
        "epochs": model.n_iter_,
        "weights": arrays(model.module_),
        "predictions": predict(X),
    }


def fit_case(make, data, **params):
    X, y, options = data()
    return told(make(**params).fit(X, y, **options), X)


def message_of(model, X, y):
    before = set(vars(model))
    with pytest.raises(ValueError) as caught:
        model.fit(X, y)
    assert set(vars(model)) == before
    return str(caught.value)


def work(rank, port, results):
    """What each process runs."""
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2",
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
    )  # fmt: skip
    torch.set_num_threads(1)
    try:
        results.put((rank, pickle.dumps(run_cases(rank))))
    except BaseException:
        results.put((rank, traceback.format_exc()))
        raise
    torch.distributed.destroy_process_group()


def run_cases(rank):
    """All cases, in the same order in each process."""
    told = {
        name: fit_case(make, data, net_params=TOGETHER)
        for name, (make, data) in {**EXACT, **LIKE}.items()
    }
    X, y, _ = features()
    with redirect_stdout(io.StringIO()) as printed:
        perceptron(max_epochs=1, net_params=TOGETHER, verbose=1).fit(X, y)
    told["printed"] = printed.getvalue()
    other = np.roll(y, 1) if rank else y
    told["other rows"] = message_of(perceptron(net_params=TOGETHER), X, other)
    told["small"] = message_of(perceptron(net_params=TOGETHER, batch_size=3), X, y)
    weights = Weights()
    perceptron(max_epochs=1, net_params=TOGETHER, callbacks=[weights]).fit(X, y)
    told["starts"] = weights.starts
    return told


@pytest.fixture(scope="module")
def two(new_process):
    """What two processes over gloo found, main process first."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    results = new_process.Queue()
    processes = [new_process.Process(target=work, args=(r, port, results)) for r in range(2)]
    for process in processes:
        process.start()
    try:
        told = {}
        for _ in processes:
            rank, result = results.get(timeout=120)
            assert isinstance(result, bytes), f"process {rank}: {result}"
            told[rank] = pickle.loads(result)
    finally:
        for process in processes:
            process.join(timeout=10)
            process.kill()
    return told


def assert_same(told, expected, **tolerance):
    assert told["epochs"] == expected["epochs"]
    for own, other in zip(told["history"], expected["history"], strict=True):
        assert own.keys() == other.keys()
        for key in ("train_loss", "valid_loss", "train_batch_count"):
            np.testing.assert_allclose(own.get(key, 0), other.get(key, 0), **tolerance)
    for name, weights in expected["weights"].items():
        np.testing.assert_allclose(told["weights"][name], weights, **tolerance)
    np.testing.assert_allclose(told["predictions"], expected["predictions"], **tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("case", EXACT)
def test_two_processes_equal_one(two, case):
    assert_same(two[0][case], fit_case(*EXACT[case]), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("case", [*EXACT, *LIKE])
def test_two_processes_end_alike(two, case):
    assert_same(two[1][case], two[0][case], rtol=0)


def test_absent_cells_leave_shares_without_a_modality():
    # what the case is for: some batches have rows of "b" in one share only, others in none
    X, _, _ = pictures()
    present = X["b"].notna().to_numpy()
    assert 3 <= present.sum() < N // 8


def test_only_the_main_process_prints(two):
    assert "training: 80 + 21 rows" in two[0]["printed"]
    assert "train_loss" in two[0]["printed"]
    assert two[1]["printed"] == ""


def test_other_rows_in_a_process_are_refused_in_all(two):
    for told in two.values():
        assert "1 of 2 processes have other rows or targets" in told["other rows"]


def test_batch_too_small_for_the_processes(two):
    for told in two.values():
        assert "too small for 2 processes: expected at least 2 for each" in told["small"]


@pytest.mark.parametrize("make", [perceptron, joint])
def test_a_factory_survives_clone_and_pickle(make):
    model = make(net_params=TOGETHER)
    for copy in (clone(model), pickle.loads(pickle.dumps(model))):
        assert isinstance(copy.net_params["accelerator"](), accelerate.Accelerator)


def test_one_process_with_an_accelerator_is_one_process():
    assert_same(
        fit_case(*EXACT["weighted"], net_params=TOGETHER), fit_case(*EXACT["weighted"]), rtol=1e-6
    )


def test_an_accelerator_instance_is_refused():
    X, y, _ = features()
    with pytest.raises(TypeError, match="a clone would copy it. Pass accelerate.Accelerator"):
        perceptron(net_params={"accelerator": Accelerator()}).fit(X, y)
