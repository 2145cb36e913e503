"""Steps on fixed shapes train like ordinary steps. Here they run eagerly, on the CPU."""

import logging
from contextlib import nullcontext
from copy import deepcopy
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skorch.callbacks import Callback
from torch import nn

from sklearn_mmfusion import (
    AudioEncoder,
    ImageEncoder,
    JointFusionClassifier,
    NeuralClassifier,
    NeuralRegressor,
    PointCloudEncoder,
    SequenceEncoder,
    TensorArray,
    TextEncoder,
    VideoEncoder,
    make_multimodal_classification,
)
from sklearn_mmfusion._skorch import fixed_steps, trainer
from sklearn_mmfusion._torch import FixedBatches, RowDataset, cuda_graphs
from sklearn_mmfusion._torch.batches import buckets

SHARED = {"max_epochs": 2, "batch_size": 16, "random_state": 0, "device": "cpu"}


@pytest.fixture
def on_cpu(monkeypatch):
    """Fixed steps on the CPU, as on a GPU that holds all rows; counts them."""
    steps = []
    run = fixed_steps.FixedSteps._run

    def counted(self, *shape):
        steps.append(shape)
        return run(self, *shape)

    def switch(on):
        monkeypatch.setattr(fixed_steps, "DEVICES", ("cuda", "cpu") if on else ("cuda",))
        move = (lambda inputs, device: inputs.to(device)) if on else (lambda inputs, device: inputs)
        monkeypatch.setattr(trainer, "resident", move)
        return steps

    monkeypatch.setattr(fixed_steps.FixedSteps, "_run", counted)
    return switch


def weights_of(model):
    return {name: value.clone() for name, value in model.module_.state_dict().items()}


def fit_both(on_cpu, make, X, y, **params):
    """The weights after ordinary and after fixed steps, and their histories."""
    results = []
    for on in (False, True):
        steps = on_cpu(on)
        steps.clear()
        model = make().fit(X, y, **params)
        assert bool(steps) == on
        results.append((weights_of(model), model.history_))
    return results


def assert_equal_bits(results):
    (ordinary, history), (fixed, fixed_history) = results
    for name, value in ordinary.items():
        assert torch.equal(value, fixed[name]), name
    losses = [[epoch["train_loss"] for epoch in h] for h in (history, fixed_history)]
    assert losses[0] == losses[1]


def joint(**params):
    triples = [
        ("image", ImageEncoder(n_components=16), "image"),
        ("text", TextEncoder(n_components=16), "text"),
        ("audio", AudioEncoder(sample_rate=8000, n_components=16), "audio"),
    ]
    chosen = params.pop("modalities", ("image", "text", "audio"))
    triples = [triple for triple in triples if triple[0] in chosen]
    return JointFusionClassifier(triples, **{**SHARED, **params})


@pytest.mark.parametrize("early_stopping", [True, False])
def test_head_trains_to_the_same_bits(on_cpu, early_stopping):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(70, 5)), rng.integers(0, 3, 70)
    weight = rng.uniform(0.5, 2, 70)

    def make():
        return NeuralClassifier(**SHARED, early_stopping=early_stopping)

    assert_equal_bits(fit_both(on_cpu, make, X, y))
    assert_equal_bits(fit_both(on_cpu, make, X, y, sample_weight=weight))


def test_several_outputs_train_to_the_same_bits(on_cpu):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(70, 5))

    def make():
        return NeuralRegressor(**SHARED)

    assert_equal_bits(fit_both(on_cpu, make, X, X[:, :2] @ rng.normal(size=(2, 3))))


def test_image_encoder_trains_to_the_same_bits(on_cpu):
    X, y = make_multimodal_classification(40, random_state=0)

    def make():
        return ImageEncoder(n_components=16, **SHARED)

    assert_equal_bits(fit_both(on_cpu, make, X["image"], y))


OBJECTIVES = {"auxiliary": 0.3, "contrastive": 0.1, "adversarial": 0.1}


@pytest.mark.parametrize("fusion", ["gated", "attention", "logits"])
def test_joint_network_trains_to_the_same_bits(on_cpu, fusion):
    X, y = make_multimodal_classification(40, random_state=0)
    X["other"] = X["image"].array.take(np.r_[1:40, 0])
    triples = [(name, ImageEncoder(n_components=16), name) for name in ("image", "other")]
    objectives = None if fusion == "logits" else OBJECTIVES

    def make():
        return JointFusionClassifier(triples, fusion=fusion, objectives=objectives, **SHARED)

    assert_equal_bits(fit_both(on_cpu, make, X, y))


# ------------------------------------------------------------------------------ masks


def make_rows(n_rows=40, share_absent=0.3):
    X, y = make_multimodal_classification(n_rows, random_state=0)
    rng = np.random.default_rng(1)
    for name in ("text", "audio"):  # at least the image is there, or one of them
        absent = rng.random(n_rows) < share_absent
        X.loc[absent, name] = pd.NA
    X.loc[X["text"].notna() & (rng.random(n_rows) < share_absent), "image"] = pd.NA
    return X, y


def network_and_inputs(monkeypatch, model, X, y):
    """The network of an estimator in float64, without anything random, its inputs and target."""
    given = {}

    def keep(self, build_module, inputs, target, *args, **kwargs):
        # moved now: a failed fit forgets how its cells are read
        given.update(inputs=inputs.to("cpu"))
        given.update(module=build_module(), target=target, trainer=self)
        raise InterruptedError

    monkeypatch.setattr(trainer.Trainer, "train", keep)
    with pytest.raises(InterruptedError):
        model.fit(X, y)
    module = given["module"].double()
    for layer in module.modules():
        for name in ("max_shift", "token_dropout", "modality_dropout"):
            if hasattr(layer, name):
                setattr(layer, name, 0.0)
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
        if isinstance(layer, nn.LSTM):
            layer.dropout = 0.0
    return module, given["inputs"], given["target"].values, given["trainer"].criterion()


def gradients(module, criterion, batch):
    module.train().zero_grad()
    inputs = {
        k: v.double() if torch.is_tensor(v) and v.is_floating_point() else v
        for k, v in batch[0].items()
    }
    losses = criterion(module(**inputs), batch[1])
    losses.mean().backward()
    found = {n: p.grad for n, p in module.named_parameters()}
    return losses.detach(), found, {n: b.clone() for n, b in module.named_buffers()}


def compare_layouts(monkeypatch, model, X, y, rows):
    """One step on these rows, gathered and with fixed shapes, to 1e-10."""
    module, inputs, target, criterion = network_and_inputs(monkeypatch, model, X, y)
    twin = deepcopy(module)
    dataset = RowDataset(inputs, target, None, np.arange(len(y)))
    batches = FixedBatches(dataset, "cpu")
    bucket = batches.bucket(rows)
    fixed = gradients(twin, criterion, batches.gather(torch.from_numpy(rows), bucket))
    ordinary = gradients(module, criterion, dataset.batch(rows, "cpu"))
    torch.testing.assert_close(fixed[0], ordinary[0], rtol=1e-10, atol=1e-10)
    for mine, other in zip(fixed[1:], ordinary[1:], strict=True):
        for name, value in other.items():
            torch.testing.assert_close(mine[name], value, rtol=1e-10, atol=1e-10, msg=name)


@pytest.mark.parametrize("fusion", ["gated", "attention", "graph", "tensor", "logits"])
@pytest.mark.parametrize("share_absent", [0.0, 0.3])
def test_absent_rows_and_padding_change_no_step(monkeypatch, fusion, share_absent):
    X, y = make_rows(share_absent=share_absent)
    objectives = None if fusion == "logits" else OBJECTIVES
    params = {"fusion_params": {"max_weights": 10**8}} if fusion == "tensor" else {}
    model = joint(fusion=fusion, objectives=objectives, n_components=8, **params)
    compare_layouts(monkeypatch, model, X, y, np.arange(5, 21))


def test_a_modality_of_one_row_changes_no_step(monkeypatch):
    X, y = make_rows()
    X["image"] = make_rows(share_absent=0.0)[0]["image"]
    X.loc[1:15, ["text", "audio"]] = pd.NA
    X.loc[0, "image"] = pd.NA
    compare_layouts(monkeypatch, joint(objectives=OBJECTIVES), X, y, np.arange(16))


POOLINGS = ("mean", "max", "attention")  # of sets of images
RAGGED = {
    "text": TextEncoder,
    "audio": partial(AudioEncoder, sample_rate=8000),
    "lstm": partial(AudioEncoder, sample_rate=8000, architecture="lstm"),
    "lstm of two layers": partial(
        AudioEncoder, sample_rate=8000, architecture="lstm", module_params={"num_layers": 2}
    ),
    "point_cloud": PointCloudEncoder,
    **{name: partial(SequenceEncoder, architecture=name) for name in ("crnn", "gru", "tcn")},
    "video": VideoEncoder,
    **{name: partial(ImageEncoder, pooling=name) for name in POOLINGS},
}


@pytest.mark.parametrize("name", RAGGED)
def test_padding_changes_no_step_of_an_encoder(monkeypatch, name):
    X, y = make_multimodal_classification(
        40, modalities=("text", "audio", "point_cloud", "sequence", "video"), random_state=0
    )
    encoder = RAGGED[name](n_components=16, **SHARED)
    own = {"lstm": "audio", "lstm of two layers": "audio", **dict.fromkeys(POOLINGS, "video")}
    column = X[own.get(name, name if name in X else "sequence")]
    compare_layouts(monkeypatch, encoder, column, y, np.arange(16))


@pytest.mark.parametrize("share_absent", [0.0, 0.2])
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 0.01), ("bf16", 0.03)])
def test_joint_fit_with_masks_ends_with_the_same_loss(on_cpu, share_absent, precision, tolerance):
    X, y = make_rows(60, share_absent)
    y = y[X["text"].notna() | X["audio"].notna()]
    X = X[X["text"].notna() | X["audio"].notna()]

    def make():
        params = {"dropout": 0.0, "modality_dropout": 0.0, "early_stopping": False}
        params |= {"max_epochs": 6, "precision": precision}
        model = joint(modalities=("text", "audio"), **params)
        off = {"text__dropout": 0.0, "audio__dropout": 0.0}
        return model.set_params(**off, text__module_params={"token_dropout": 0.0})

    (_, history), (_, fixed) = fit_both(on_cpu, make, X[["text", "audio"]], y)
    assert fixed[-1]["train_loss"] == pytest.approx(history[-1]["train_loss"], rel=tolerance)


@pytest.mark.parametrize("architecture", ["crnn", "gru", "tcn"])
def test_batches_without_padding_differ_by_rounding_only(on_cpu, architecture):
    # Not bit-equal: the gathered layout lays the steps end to end and packs them, so that sums of
    # statistics and gradients run in another order. After two steps Adam's weights show it more
    # than the losses do.
    rng = np.random.default_rng(0)
    cells = [rng.normal(size=(n, 3)).astype(np.float32) for n in np.repeat([20, 40], 16)]
    y = np.tile([0, 1], 16)

    def make():
        return SequenceEncoder(
            n_components=8, architecture=architecture, early_stopping=False, **SHARED
        )

    (_, history), (_, fixed) = fit_both(on_cpu, make, TensorArray(cells), y)
    for epoch, other in zip(history, fixed, strict=True):
        assert other["train_loss"] == pytest.approx(epoch["train_loss"], rel=1e-5)


# ------------------------------------------------------------------------------ shapes


@given(
    lengths=arrays(np.int64, st.integers(1, 60), elements=st.integers(0, 50)),
    seed=st.integers(0, 9),
)
def test_buckets_hold_their_rows(lengths, seed):
    other = np.random.default_rng(seed).permutation(lengths)
    longest = np.maximum(lengths, other)
    edges, n_steps = buckets(longest, {"a": lengths, "b": other})
    assert len(edges) == len(n_steps) <= 4
    assert edges == sorted(set(edges))
    for rows in np.array_split(np.random.default_rng(seed).permutation(len(lengths)), 3):
        if len(rows):
            steps = n_steps[np.searchsorted(edges, longest[rows].max())]
            assert steps["a"] >= lengths[rows].max()
            assert steps["b"] >= other[rows].max()


# ------------------------------------------------------------------------------ the rule


class Perceptron(nn.Module):
    out_features = 4

    def __init__(self, in_channels, image_size, out_features):
        super().__init__()
        self.layer = nn.LazyLinear(4)

    def forward(self, pixels):
        return self.layer(pixels.float().flatten(1))


def reasons(caplog):
    return " ".join(record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({}, "the device is cpu"),
        ({"net_params": {"cuda_graph": False}}, "cuda_graph=False"),
        ({"optimizer": torch.optim.SGD}, "no parameter `capturable`"),
    ],
)
def test_the_log_names_the_reason(on_cpu, caplog, params, reason):
    caplog.set_level(logging.DEBUG, logger="sklearn_mmfusion")
    steps = on_cpu(bool(params))
    X, y = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 2
    NeuralClassifier(**{**SHARED, **params}).fit(X, y)
    assert reason in reasons(caplog)
    assert not steps


def test_graphs_are_on_or_off():
    X, y = np.zeros((4, 2)), np.arange(4) % 2
    with pytest.raises(ValueError, match="NeuralClassifier: net_params has cuda_graph='yes'; exp"):
        NeuralClassifier(net_params={"cuda_graph": "yes"}).fit(X, y)


def test_a_custom_module_sees_no_absent_rows(on_cpu, caplog):
    caplog.set_level(logging.DEBUG, logger="sklearn_mmfusion")
    steps = on_cpu(True)
    X, y = make_rows()
    triples = [("image", ImageEncoder(module=Perceptron), "image")]
    triples.append(("text", TextEncoder(n_components=8), "text"))
    JointFusionClassifier(triples, **SHARED).fit(X, y)
    assert "the network of image takes no masks" in reasons(caplog)
    assert not steps
    X["image"] = make_rows(share_absent=0)[0]["image"]
    JointFusionClassifier(triples, **SHARED).fit(X, y)
    assert steps


# ------------------------------------------------------------------------------ callbacks


class Listener(Callback):
    """Keeps what it is shown."""

    def on_train_begin(self, net, **kwargs):
        self.seen, self.gradients = [], 0

    def on_batch_end(self, net, batch, training, loss, y_pred, **kwargs):
        if training:
            self.seen.append((batch[1].clone(), float(loss), y_pred))

    def on_grad_computed(self, net, named_parameters, **kwargs):
        self.gradients += all(p.grad is not None for _, p in named_parameters)


def test_callbacks_see_the_same_batches(on_cpu):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(70, 5)), rng.integers(0, 3, 70)
    seen = []
    for on in (False, True):
        on_cpu(on)
        listener = Listener()
        NeuralClassifier(**SHARED, callbacks=[listener], early_stopping=False).fit(X, y)
        seen.append(listener)
    ordinary, fixed = seen
    assert len(fixed.seen) == fixed.gradients == len(ordinary.seen) == 10
    for mine, other in zip(fixed.seen, ordinary.seen, strict=True):
        assert torch.equal(mine[0], other[0])
        assert mine[1] == other[1]
        assert torch.equal(mine[2], other[2])


class ZeroFeatures(Callback):
    """Changes batches before they are trained on."""

    def on_batch_begin(self, net, batch, **kwargs):
        batch[0]["features"].zero_()


def test_a_callback_may_change_batches(on_cpu, caplog):
    caplog.set_level(logging.DEBUG, logger="sklearn_mmfusion")
    X, y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2

    def fit(callback):
        model = NeuralClassifier(**SHARED, linear_share=0.0, callbacks=[callback])
        return model.fit(X, y).history_[-1]["train_loss"]

    on_cpu(False)
    expected = fit(ZeroFeatures())
    steps = on_cpu(True)
    for callback in (ZeroFeatures(), ZeroFeatures, ("zero", ZeroFeatures())):
        assert fit(callback) == expected
    assert not steps
    assert "a callback listens to on_batch_begin" in reasons(caplog)


class LoadState(Callback):
    """Loads the optimizer's own state, as one does to resume, which replaces its groups."""

    def on_epoch_begin(self, net, **kwargs):
        net.optimizer_.load_state_dict(deepcopy(net.optimizer_.state_dict()))


class Freeze(Callback):
    """Trains the last layer only, from the second epoch on."""

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == 2:
            for name, parameter in net.module_.named_parameters():
                parameter.requires_grad_("output" in name)


@pytest.mark.parametrize("callback", [LoadState, Freeze])
def test_callbacks_that_change_the_optimizer_or_the_network_are_followed(on_cpu, callback):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(70, 5)), rng.integers(0, 3, 70)

    def make():
        return NeuralClassifier(**{**SHARED, "max_epochs": 4}, callbacks=[callback()])

    assert_equal_bits(fit_both(on_cpu, make, X, y))


def test_the_iterator_may_have_its_own_batch_size(on_cpu):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(70, 5)), rng.integers(0, 3, 70)

    def make():
        return NeuralClassifier(**SHARED, net_params={"iterator_train__batch_size": 4})

    assert_equal_bits(fit_both(on_cpu, make, X, y))


def test_a_modality_of_validation_rows_only_is_not_trained(monkeypatch):
    X, y = make_rows(40, 0.0)
    X.loc[:35, "text"] = pd.NA
    model = joint(modalities=("image", "text"))
    module, inputs, target, criterion = network_and_inputs(monkeypatch, model, X, y)
    batches = FixedBatches(RowDataset(inputs, target, None, np.arange(36)), "cpu")
    batch = batches.gather(torch.arange(16), bucket=0)
    assert set(batch[0]) == {"mask", "lacking", "image.pixels"}
    _, found, _ = gradients(module, criterion, batch)
    for name, gradient in found.items():
        assert (gradient is None) == name.startswith("encoders.1."), name


# ------------------------------------------------------------------------------ captures


class Replay:
    """In place of a CUDA graph, which a CPU has not: runs the step again."""

    def __init__(self, run):
        self.replay = run


@pytest.fixture
def captures(monkeypatch):
    """Shapes that were captured, with `Replay` in place of graphs."""
    captured, init = [], fixed_steps.FixedSteps.__init__

    def start(self, *args):
        init(self, *args)
        self.captures = True

    def capture(self, shape):
        captured.append(shape)
        self.graphs[shape] = Replay(lambda: self._run(*shape)), None

    monkeypatch.setattr(fixed_steps.FixedSteps, "__init__", start)
    monkeypatch.setattr(fixed_steps.FixedSteps, "_capture", capture)
    monkeypatch.setattr(cuda_graphs, "_noted_waiting", lambda: nullcontext([]))
    return captured


# dropout on a CPU draws on the host
NO_DRAWS = {"dropout": 0.0, "early_stopping": False, "linear_share": 0.0}


def test_each_shape_is_captured_once_after_an_eager_step(on_cpu, captures):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(72, 5)), rng.integers(0, 3, 72)

    def make():
        return NeuralClassifier(**{**SHARED, "max_epochs": 4}, **NO_DRAWS)

    assert_equal_bits(fit_both(on_cpu, make, X, y))
    assert sorted(captures) == [(14, 0), (15, 0)]


def test_frozen_parameters_are_captured_anew(on_cpu, captures):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(70, 5)), rng.integers(0, 3, 70)

    def make():
        return NeuralClassifier(**{**SHARED, "max_epochs": 4}, **NO_DRAWS, callbacks=[Freeze()])

    assert_equal_bits(fit_both(on_cpu, make, X, y))
    assert captures == [(14, 0), (14, 0)]


class Hooks(Callback):
    """Counts the training passes of the network, from an epoch on."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == self.epoch:
            self.n_calls = 0
            net.module_.register_forward_hook(self.count)

    def count(self, module, args, output):
        self.n_calls += module.training


@pytest.mark.parametrize("epoch", [1, 3])
def test_hooks_are_called_in_every_step(on_cpu, captures, caplog, epoch):
    caplog.set_level(logging.DEBUG, logger="sklearn_mmfusion")
    on_cpu(True)
    X, y = np.random.default_rng(0).normal(size=(48, 5)), np.arange(48) % 2
    hooks = Hooks(epoch)
    model = NeuralClassifier(**{**SHARED, "max_epochs": 4}, **NO_DRAWS, callbacks=[hooks])
    model.fit(X, y)
    assert hooks.n_calls == 3 * (5 - epoch)
    assert captures == ([(16, 0)] if epoch == 3 else [])
    assert reasons(caplog).count("the network has hooks") == 1


def test_a_pool_whose_graphs_are_gone_is_not_used_again(monkeypatch):
    handles = iter(range(9))
    monkeypatch.setattr(fixed_steps, "new_pool", lambda: next(handles))
    monkeypatch.setattr(fixed_steps, "capture", lambda run, device, pool: pool)
    steps = fixed_steps.FixedSteps.__new__(fixed_steps.FixedSteps)
    steps.graphs, steps.pool, steps.stream = {}, None, SimpleNamespace(device="cuda:0")
    for shape in ((8, 0), (7, 0)):
        steps._capture(shape)
    assert steps.graphs == {(8, 0): 0, (7, 0): 0}
    steps.graphs.clear()  # as when parameters are frozen
    steps._capture((8, 0))
    assert steps.graphs == {(8, 0): 1}


class Noisy(nn.Module):
    """Draws from numpy's generator in every step."""

    def __init__(self, in_features, n_outputs):
        super().__init__()
        self.layer = nn.Linear(in_features, n_outputs)

    def forward(self, features):
        return self.layer(features) * np.random.uniform(0.9, 1.1)


def test_a_module_that_draws_on_the_host_is_not_captured(on_cpu, captures, caplog):
    caplog.set_level(logging.DEBUG, logger="sklearn_mmfusion")
    steps = on_cpu(True)
    X, y = np.random.default_rng(0).normal(size=(70, 5)), np.arange(70) % 2
    NeuralClassifier(module=Noisy, **SHARED).fit(X, y)
    assert steps
    assert not captures
    assert "it draws random numbers on the host" in reasons(caplog)
