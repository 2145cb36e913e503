"""What other libraries and other threads expect of a model: copies, tools, containers, routing."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch import nn

from sklearn_mmfusion import NeuralClassifier
from tests._registry import SMALL_NET, classes, having, table

# ------------------------------------------------------------------------------ copies


class DuringTraining(Callback):
    """Run a function in another thread after the first epoch; training waits for its result."""

    def __init__(self, function):
        self.function = function

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 1:
            with ThreadPoolExecutor(1) as pool:
                self.result = pool.submit(self.function).result(timeout=20)


class Drawing(nn.Module):
    """Draws random numbers of every kind when it is made, also into what no state holds."""

    def __init__(self, in_features, n_outputs):
        super().__init__()
        self.layer = nn.Linear(in_features, n_outputs)
        for init in (nn.init.orthogonal_, nn.init.trunc_normal_, nn.init.sparse_):
            init(self.layer.weight, *[0.1] * (init is nn.init.sparse_))
        mixed = torch.randn(in_features) + torch.rand(in_features) + torch.randperm(in_features)
        mixed += torch.randint(3, (in_features,)) + torch.randint(2, 5, (in_features,))
        mixed += torch.bernoulli(torch.full((in_features,), 0.5)) + torch.normal(0.0, mixed.abs())
        mixed += torch.empty(in_features).exponential_() + nn.Dropout()(mixed)
        self.register_buffer("mixed", mixed, persistent=False)
        self.register_buffer("late", None, persistent=False)

    def forward(self, features):
        if self.late is None:  # made at the first batch, as positional encodings are
            self.register_buffer("late", torch.rand(features.shape[1]), persistent=False)
        return self.layer(features * self.mixed + self.late)


COPIES = {"pickle": lambda model: pickle.loads(pickle.dumps(model)), "deepcopy": copy.deepcopy}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("entry", having("net"), ids=str)
def test_a_copy_does_not_wait_for_training_in_another_thread(entry, how):
    model, X = entry.fitted(), table()
    during = DuringTraining(lambda: COPIES[how](model))
    training = NeuralClassifier(**{**SMALL_NET, "dropout": 0.5})
    expected = training.fit(X, classes()).predict_proba(X)
    training.set_params(callbacks=[during]).fit(X, classes())
    np.testing.assert_array_equal(training.predict_proba(X), expected)
    method = "predict" if hasattr(model, "predict") else "transform"
    outputs = [getattr(each, method)(entry.X()) for each in (during.result, model)]
    np.testing.assert_array_equal(*outputs)


def test_a_copy_keeps_what_its_module_drew_and_no_generator_notices():
    X, y = table(), classes()
    model = NeuralClassifier(module=Drawing, **SMALL_NET).fit(X, y)
    expected, state = model.predict_proba(X), torch.get_rng_state()
    for make in COPIES.values():
        np.testing.assert_array_equal(make(model).predict_proba(X), expected)
    assert torch.equal(torch.get_rng_state(), state)
    before = [model.module_.mixed.clone(), model.module_.late.clone()]
    model.set_params(warm_start=True, random_state=1).fit(X, y)
    assert all(map(torch.equal, before, [model.module_.mixed, model.module_.late]))
