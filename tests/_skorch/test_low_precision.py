"""Weights converted to bfloat16 together train to the same bits as under autocast alone."""

import warnings
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from sklearn_mmfusion import (
    ImageEncoder,
    JointFusionClassifier,
    NeuralClassifier,
    SequenceEncoder,
    TextEncoder,
    make_multimodal_classification,
)
from sklearn_mmfusion._skorch import low_precision

SHARED = {
    "max_epochs": 2,
    "batch_size": 16,
    "random_state": 0,
    "device": "cpu",
    "precision": "bf16",
}


class Tied(nn.Module):
    """Two layers with the same weights, one that is frozen, one that is not used."""

    def __init__(self, in_features, n_outputs):
        super().__init__()
        self.first, self.again = (
            nn.Linear(in_features, in_features),
            nn.Linear(in_features, in_features),
        )
        self.again.weight = self.first.weight
        self.frozen = nn.Linear(in_features, in_features).requires_grad_(False)
        self.unused = nn.Linear(in_features, in_features)
        self.last = nn.Linear(in_features, n_outputs)

    def forward(self, features):
        return self.last(torch.relu(self.again(self.frozen(torch.relu(self.first(features))))))


def numbers():
    rng = np.random.default_rng(0)
    return rng.normal(size=(70, 5)).astype(np.float32), rng.integers(0, 3, 70)


def joint():
    X, y = make_multimodal_classification(40, random_state=0)
    X["sensor"] = [np.random.default_rng(i).normal(size=(6 + i % 3, 2)) for i in range(40)]
    X.loc[::3, "text"] = pd.NA
    encoders = [
        ("image", ImageEncoder(n_components=8), "image"),
        ("text", TextEncoder(n_components=8), "text"),
        ("sensor", SequenceEncoder(n_components=8), "sensor"),
    ]
    objectives = {"auxiliary": 0.3, "contrastive": 0.1}
    return JointFusionClassifier(encoders, fusion="gated", objectives=objectives, **SHARED), X, y


MODELS = {
    "head": lambda: (NeuralClassifier(**SHARED), *numbers()),
    "tied": lambda: (NeuralClassifier(module=Tied, **SHARED), *numbers()),
    "joint": joint,
}


@pytest.mark.parametrize("name", ["head", "tied", pytest.param("joint", marks=pytest.mark.slow)])
def test_training_equals_that_with_autocast_alone(name, monkeypatch):
    model, X, y = MODELS[name]()
    warnings.simplefilter("ignore", UserWarning)
    monkeypatch.setattr(low_precision, "PACKAGES", (*low_precision.PACKAGES, "tests."))
    converted = model.fit(X, y).module_.state_dict()
    converted = {key: value.clone() for key, value in converted.items()}
    calls = []
    monkeypatch.setattr(
        low_precision, "_converted_weights", lambda module: calls.append(1) or nullcontext()
    )
    alone = model.fit(X, y).module_.state_dict()
    assert calls
    for key, value in alone.items():
        assert torch.equal(value, converted[key]), key


def test_custom_modules_keep_their_weights():
    """They may change them in ``forward``."""

    class Clamped(nn.Linear):
        def forward(self, x):
            with torch.no_grad():
                self.weight.clamp_(-0.01, 0.01)
            return super().forward(x)

    network = nn.Sequential(Clamped(3, 3), nn.Linear(3, 2))
    with low_precision.autocast(network, "bf16", "cpu", training=True):
        network(torch.ones(1, 3))
        assert [layer.weight.dtype for layer in network] == [torch.float32, torch.bfloat16]
    assert network[0].weight.abs().max() <= 0.01


def test_frozen_weights_and_layers_with_hooks_stay_as_they_are():
    network = nn.Sequential(nn.Linear(3, 3), nn.utils.spectral_norm(nn.Linear(3, 3)))
    network[0].requires_grad_(False)
    with low_precision.autocast(network, "bf16", "cpu", training=True):
        assert network[0].weight.dtype == torch.float32
        network(torch.ones(1, 3)).sum().backward()


def test_one_conversion_per_step(monkeypatch):
    calls, forward = [], low_precision._Converted.forward

    def counted(ctx, *tensors):
        calls.append(len(tensors))
        return forward(ctx, *tensors)

    monkeypatch.setattr(low_precision._Converted, "forward", staticmethod(counted))
    monkeypatch.setattr(low_precision, "PACKAGES", ("torch.nn.", "tests."))
    X, y = numbers()
    model = NeuralClassifier(**SHARED, early_stopping=False, module=Tied).fit(X, y)
    # five layers, two of which share a weight, and one of which is frozen; five steps
    assert calls == [7] * (2 * 5)
    assert len(list(model.module_.parameters())) == 9


def test_weights_come_back_after_an_error():
    layer = nn.Linear(3, 2)
    weight = layer.weight
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        with low_precision.autocast(layer, "bf16", "cpu", training=True):
            assert layer.weight.dtype == torch.bfloat16
            layer(torch.ones(1, 4))
    assert layer.weight is weight
    assert list(layer.parameters())[0] is weight


def test_predictions_and_float32_keep_their_weights():
    layer = nn.Linear(3, 2)
    for precision, training in (("bf16", False), ("float32", True)):
        with low_precision.autocast(layer, precision, "cpu", training):
            assert layer.weight.dtype == torch.float32


class Untied(Tied):
    """No weights are used twice: the sum of their gradients would be rounded."""

    def __init__(self, in_features, n_outputs):
        super().__init__(in_features, n_outputs)
        self.again = nn.Linear(in_features, in_features)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_callers_autocast_changes_no_training(precision):
    X, y = numbers()
    model = NeuralClassifier(**{**SHARED, "precision": precision}, module=Untied)
    expected = model.fit(X, y).module_.state_dict()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model.fit(X, y)
        assert torch.is_autocast_enabled("cpu") and torch.is_autocast_cache_enabled()
    for name, value in model.module_.state_dict().items():
        assert torch.equal(value, expected[name]), name
