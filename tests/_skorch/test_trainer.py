"""The training engine against a hand-written torch loop."""

import math
import pickle
import threading
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax
from sklearn.base import clone
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, EarlyStopping, GradientNormClipping, LRScheduler
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from sklearn_mmfusion._skorch import KeepBest, schedule, trainer
from sklearn_mmfusion._torch import BatchIterator, device, isolated_rng, prefetched
from sklearn_mmfusion.neural_network import NeuralClassifier, NeuralRegressor


class Small(nn.Module):
    """A perceptron in double precision, without batch norm or dropout."""

    def __init__(self, in_features, n_outputs, width=8):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(in_features, width), nn.Tanh(), nn.Linear(width, n_outputs)
        ).double()

    def forward(self, features):
        return self.layers(features.double())


class Linear(nn.Module):
    """A linear model that starts at zero."""

    def __init__(self, in_features, n_outputs):
        super().__init__()
        self.layer = nn.Linear(in_features, n_outputs).double()
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def forward(self, features):
        return self.layer(features.double())


class Recorder(Callback):
    """Initial weights and training batches of every net, weights after every epoch."""

    def __init__(self):
        self.nets = []

    def on_train_begin(self, net, **kwargs):
        self.nets.append({"start": snapshot(net.module_), "batches": [], "epochs": []})

    def on_batch_begin(self, net, batch, training, **kwargs):
        if training:
            self.nets[-1]["batches"].append((batch[0]["features"].clone(), batch[1], batch.weight))

    def on_epoch_end(self, net, **kwargs):
        self.nets[-1]["epochs"].append(snapshot(net.module_))


def snapshot(module):
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def make_data(n=50, n_features=4, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, n_features)).astype(np.float32)
    return X, (X @ rng.normal(size=(n_features, n_classes))).argmax(1)


def fit(model, X, y, **params):
    """Fit with a recorder; return the model and what was recorded of each net."""
    recorder = Recorder()
    model.set_params(callbacks=[recorder], random_state=0).fit(X, y, **params)
    return model, recorder.nets


def train_by_hand(module, start, batches, n_epochs, criterion, lr, weight_decay):
    """Losses of each epoch and the norms of the gradients, over the same batches in order."""
    module.load_state_dict(start)
    optimizer = torch.optim.AdamW(module.parameters(), lr=lr, weight_decay=weight_decay)
    steps, warmup = len(batches), round(0.15 * len(batches))
    rates = SequentialLR(
        optimizer,
        [
            LinearLR(optimizer, start_factor=1 / warmup, total_iters=warmup - 1),
            CosineAnnealingLR(optimizer, T_max=steps - warmup),
        ],
        milestones=[warmup],
    )
    losses, norms, sizes = [], [], [len(b[1]) for b in batches]
    for features, target, weight in batches:
        loss = criterion(module(features).float(), target)
        loss = loss.flatten(1).mean(1) if loss.ndim > 1 else loss
        loss = (loss if weight is None else loss * weight).mean()
        optimizer.zero_grad()
        loss.backward()
        norms.append(float(nn.utils.clip_grad_norm_(module.parameters(), 1.0)))
        optimizer.step()
        rates.step()
        losses.append(loss.item())
    epochs = np.reshape(losses, (n_epochs, -1)), np.reshape(sizes, (n_epochs, -1))
    return (epochs[0] * epochs[1]).sum(1) / epochs[1].sum(1), norms


# ------------------------------------------------------------------------------ the step


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")
@pytest.mark.parametrize("task", ["classes", "smoothed", "weighted", "labels", "numbers", "huber"])
def test_training_equals_a_hand_written_loop(task):
    X, y = make_data()
    X = 5 * X  # steep enough that some gradients are clipped
    options = {"module": Small, "max_epochs": 6, "batch_size": 16, "lr": 0.02, "weight_decay": 0.1}
    options["net_params"] = {"max_norm": 1.0}
    criterion, weight = nn.CrossEntropyLoss(reduction="none"), None
    if task == "smoothed":
        options["label_smoothing"] = 0.2
        criterion = nn.CrossEntropyLoss(reduction="none", label_smoothing=0.2)
    if task == "weighted":
        weight = np.linspace(0.1, 3, len(y))
    if task == "labels":
        y, criterion = np.eye(3, dtype=int)[y], nn.BCEWithLogitsLoss(reduction="none")
    if task in ("numbers", "huber"):
        y = np.column_stack([X[:, 0] * X[:, 1], X[:, 2]])
        criterion = nn.MSELoss(reduction="none")
        if task == "huber":
            options["loss"], criterion = "huber", nn.HuberLoss(reduction="none")
        model = NeuralRegressor(early_stopping=False, **options)
    else:
        model = NeuralClassifier(early_stopping=False, **options)
    model, (net,) = fit(model, X, y, sample_weight=weight)
    n_outputs = 2 if task in ("numbers", "huber") else 3
    twin = Small(4, n_outputs)
    expected, norms = train_by_hand(twin, net["start"], net["batches"], 6, criterion, 0.02, 0.1)
    # the clipping is tested too, where the loss is steep enough
    assert max(norms) > 1 or task in ("labels", "huber")
    np.testing.assert_allclose([e["train_loss"] for e in model.history_], expected, rtol=1e-5)
    for name, value in twin.state_dict().items():
        torch.testing.assert_close(model.module_.state_dict()[name], value, rtol=1e-5, atol=1e-6)


@given(st.integers(1, 400))
def test_schedule_rises_to_one_and_falls_to_nothing(total):
    values = [schedule(step, total) for step in range(total)]
    peak = max(1, round(0.15 * total))
    assert values[:peak] == sorted(values[:peak])
    assert values[peak - 1] == 1
    assert values[peak:] == sorted(values[peak:], reverse=True)
    assert all(0 < value <= 1 for value in values)
    assert schedule(total, total) <= (1e-12 if total > peak else 1)


def test_schedule_by_hand():
    np.testing.assert_allclose([schedule(s, 20) for s in range(4)], [1 / 3, 2 / 3, 1, 1])
    half = 0.5 * (1 + math.cos(math.pi * 8 / 17))
    np.testing.assert_allclose(schedule(11, 20), half)


def test_bf16_forward_trains_close_to_float32():
    X, y = make_data()
    options = {"hidden_layer_sizes": (8,), "dropout": 0.0, "max_epochs": 5, "random_state": 0}
    options["linear_share"] = 0.0
    proba = [
        NeuralClassifier(precision=precision, **options).fit(X, y).predict_proba(X)
        for precision in ("float32", "bf16")
    ]
    assert not np.array_equal(*proba)
    np.testing.assert_allclose(*proba, atol=0.1)


# ------------------------------------------------------------------------------ weights


def test_weighted_loss_by_hand():
    X, y = make_data(n=12)
    weight = np.arange(12.0)
    weight[0] = 0.5
    model = NeuralClassifier(module=Linear, max_epochs=1, batch_size=12, early_stopping=False)
    fit(model, X, y, sample_weight=weight)
    np.testing.assert_allclose(model.history_[0]["train_loss"], np.log(3), rtol=1e-6)
    model, (net,) = fit(model.set_params(module=Small), X, y, sample_weight=weight)
    twin = Small(4, 3)
    twin.load_state_dict(net["start"])
    outputs = twin(torch.from_numpy(X)).detach().numpy()
    log_proba = log_softmax(outputs, axis=1)[np.arange(12), y]
    by_hand = np.average(-log_proba, weights=weight)
    np.testing.assert_allclose(model.history_[0]["train_loss"], by_hand, rtol=1e-5)


@pytest.mark.parametrize("kind", ["classes", "labels"])
def test_whole_weights_equal_repeated_rows(kind):
    X, y = make_data(n=30)
    if kind == "labels":
        y = np.eye(3, dtype=int)[y] | (X[:, :3] > 0.5)
    weight = np.random.default_rng(1).integers(1, 4, size=30)
    options = {"module": Linear, "max_epochs": 30, "lr": 0.5, "early_stopping": False}
    options["optimizer"] = torch.optim.SGD  # Adam would blow rounding up where a gradient vanishes
    weighted = NeuralClassifier(batch_size=30, **options).fit(X, y, sample_weight=weight)
    repeated = NeuralClassifier(batch_size=int(weight.sum()), **options)
    repeated.fit(X.repeat(weight, axis=0), y.repeat(weight, axis=0))
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), atol=1e-5)
    plain = NeuralClassifier(batch_size=30, **options).fit(X, y)
    assert np.abs(plain.predict_proba(X) - weighted.predict_proba(X)).max() > 1e-3


@pytest.mark.parametrize("early_stopping", [False, True])
def test_rows_of_weight_zero_are_left_out(early_stopping):
    X, y = make_data(n=60)
    weight = (np.arange(60) % 4 > 0).astype(float)
    kept = weight > 0
    options = {"max_epochs": 4, "early_stopping": early_stopping, "random_state": 0}
    weighted = NeuralClassifier(module=Small, **options).fit(X, y, sample_weight=weight)
    without = NeuralClassifier(module=Small, **options).fit(X[kept], y[kept])
    np.testing.assert_allclose(weighted.predict_proba(X), without.predict_proba(X), rtol=1e-5)


def test_class_weights_equal_sample_weights():
    X, y = make_data()
    options = {"hidden_layer_sizes": (8,), "max_epochs": 4, "random_state": 0, "linear_share": 0.0}
    by_class = NeuralClassifier(class_weight={0: 1, 1: 5, 2: 0.5}, **options).fit(X, y)
    by_row = NeuralClassifier(**options).fit(X, y, sample_weight=np.array([1, 5, 0.5])[y])
    np.testing.assert_array_equal(by_class.predict_proba(X), by_row.predict_proba(X))
    assert (by_class.predict(X) == 1).mean() > (y == 1).mean()


def test_batches_of_one_row_never_reach_batch_norm():
    X, y = make_data(n=7)
    model = NeuralClassifier((4,), batch_size=2, max_epochs=2, random_state=0).fit(X, y)
    assert np.isfinite(model.predict_proba(X)).all()
    assert len(list(model.history_)) == 2


# ------------------------------------------------------------------------------ validation


def test_the_best_epoch_is_restored():
    X, y = make_data(n=60)
    y = np.random.default_rng(0).permutation(y)  # nothing to learn: the best epoch comes early
    model = NeuralClassifier(module=Small, max_epochs=12, lr=0.1, early_stopping=True, refit=False)
    model, (net,) = fit(model, X, y)
    best = int(np.argmin([e["valid_loss"] for e in model.history_]))
    assert best < model.n_iter_ < 12
    assert len(model.history_) == 12
    for name, value in net["epochs"][model.n_iter_ - 1].items():
        assert torch.equal(model.module_.state_dict()[name], value)
    n_seen = sum(len(b[1]) for b in net["batches"]) / 12
    assert n_seen == 48


def test_refit_trains_on_all_rows_for_the_best_number_of_epochs():
    X, y = make_data(n=60)
    y = np.random.default_rng(0).permutation(y)
    model = NeuralClassifier(module=Small, max_epochs=12, lr=0.1, early_stopping=True)
    model, (first, second) = fit(model, X, y)
    assert len(first["epochs"]) == 12
    assert len(second["epochs"]) == model.n_iter_ < 12
    assert sum(len(b[1]) for b in second["batches"]) == 60 * model.n_iter_
    for name, value in second["epochs"][-1].items():
        assert torch.equal(model.module_.state_dict()[name], value)
    alone, (net,) = fit(
        NeuralClassifier(module=Small, max_epochs=model.n_iter_, lr=0.1, early_stopping=False), X, y
    )
    np.testing.assert_array_equal(alone.predict_proba(X), model.predict_proba(X))


def test_validation_respects_groups_in_training():
    X, y = make_data(n=60)
    X[:, 0] = groups = np.arange(60) % 6
    model = NeuralClassifier(module=Small, max_epochs=1, early_stopping=True, refit=False)
    model, (net,) = fit(model, X, y, groups=groups)
    seen = {float(v) for b in net["batches"] for v in b[0][:, 0]}
    assert len(seen) == 4  # 2 of the 6 groups are put aside, whole


@pytest.mark.parametrize(
    ("losses", "errors", "kept"),
    [
        ((3, 2, 2.4, 2.1, 2.3), (0.2, 0.2, 0.2, 0.2, 0.9), 4),  # the last within 0.2 of the best
        ((3, 2, 2.1, 1.5, 1.8), (0.5, 0.2, 0.2, 0.2, 0.5), 4),  # a new best sets the measure
        ((3, 2, 1), (0, 0, 0), 3),
        ((1, 2, 3), (0.5, 0.5, 5.0), 1),
        ((math.nan, math.nan), (math.nan, math.nan), 1),  # no loss is a number: the first
    ],
)
def test_keep_best_keeps_the_last_epoch_as_good_as_the_best(losses, errors, kept):
    class FakeNet:
        history = []
        module_ = nn.Linear(1, 1)

    keeper, net = KeepBest(), FakeNet()
    keeper.on_train_begin(net)
    for loss, net.standard_error in zip(losses, errors, strict=True):
        net.history.append({"valid_loss": loss})
        keeper.on_epoch_end(net)
    assert keeper.epoch == kept


@pytest.mark.parametrize("weighted", [False, True])
def test_standard_error_is_that_of_the_rows_losses(weighted):
    X, y = make_data(n=60)
    weight = np.linspace(0.5, 1.5, 60) if weighted else None
    seen = {}

    class Watch(Callback):
        def on_epoch_end(self, net, dataset_valid, **kwargs):
            batch = dataset_valid.batch(np.arange(len(dataset_valid)), "cpu")
            rows = nn.functional.cross_entropy(net.module_(**batch[0]), batch[1], reduction="none")
            rows = rows.detach() if batch.weight is None else rows.detach() * batch.weight
            seen["error"] = rows.std(unbiased=False) / len(rows) ** 0.5, net.standard_error

    model = NeuralClassifier(module=Small, max_epochs=2, early_stopping=True, callbacks=[Watch()])
    model.set_params(batch_size=7, refit=False, random_state=0).fit(X, y, sample_weight=weight)
    assert seen["error"][1] == pytest.approx(float(seen["error"][0]), rel=1e-4)


def test_history_has_the_keys_of_skorch():
    X, y = make_data(n=60)
    model = NeuralClassifier(module=Small, max_epochs=2, early_stopping=True).fit(X, y)
    theirs = NeuralNetClassifier(Linear, module__in_features=4, module__n_outputs=3, max_epochs=2)
    theirs.set_params(verbose=0, criterion=nn.CrossEntropyLoss, batch_size=32)
    theirs.fit({"features": X}, y)
    ours, expected = model.history_[-1], theirs.history[-1]
    assert set(ours) == set(expected) - {"batches", "valid_acc", "valid_acc_best"}
    assert all(isinstance(ours[k], type(expected[k])) for k in ours)
    assert ours["train_batch_count"] == expected["train_batch_count"] == 2


@pytest.mark.parametrize("loss", ["train_loss", "valid_loss"])
def test_callbacks_may_end_training(loss):
    class Stop(Callback):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 3 and net.history[-1].get(loss) is not None:
                raise KeyboardInterrupt  # as skorch's own EarlyStopping does

    X, y = make_data(n=60)
    model = NeuralClassifier((4,), max_epochs=9, early_stopping=True, callbacks=[Stop()])
    model.fit(X, y)
    assert len(model.history_) == 3
    assert model.n_iter_ <= 3


def test_batches_are_told_to_what_is_set_on_a_callback():
    X, y = make_data(n=60)
    callback, told = Callback(), []
    callback.on_batch_end = lambda net, **kwargs: told.append(kwargs["loss"])
    model = NeuralClassifier((4,), max_epochs=2, early_stopping=False, callbacks=[callback])
    model.fit(X, y)
    assert len(told) == sum(epoch["train_batch_count"] for epoch in model.history_) > 0


def test_gradients_are_told_before_the_step():
    def weights(max_norm):
        model = NeuralClassifier((4,), max_epochs=2, linear_share=0.0, random_state=0)
        callbacks = [] if max_norm is None else [GradientNormClipping(max_norm)]
        model.set_params(callbacks=callbacks).fit(*make_data(n=60))
        return model.module_.state_dict()["output.weight"]

    torch.testing.assert_close(weights(1e9), weights(None))
    assert not torch.allclose(weights(1e-9), weights(None))


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"callbacks": [LRScheduler()]}, "LRScheduler, which would change nothing"),
        ({"callbacks": [("rates", LRScheduler)]}, "callback 'rates' is an LRScheduler"),
        ({"callbacks": [EarlyStopping()]}, "'EarlyStopping' has monitor='valid_loss', but there"),
        ({"optimizer": torch.optim.LBFGS}, "optimizer=LBFGS evaluates the loss several times"),
        ({"optimizer": partial(torch.optim.LBFGS, lr=1.0)}, "optimizer=LBFGS evaluates the loss"),
        ({"net_params": {"callbacks": []}}, "has 'callbacks', .* Use the parameter `callbacks`"),
        ({"net_params": {"iterator_train__num_workers": 2}}, "num_workers', .* in this process"),
        ({"lr": 1e20}, "Training of NeuralClassifier diverged: in epoch 1 .* Lower lr"),
        ({"device": "cuda:9"}, "device='cuda:9', but torch finds no GPU"),
        (
            {"net_params": {"criterion__reduction": "mean"}},
            r"CrossEntropyLoss returned shape \(\); expected one loss per row, \(42,\)",
        ),
    ],
)
def test_unsupported_training_options_raise(params, match):
    X, y = make_data(n=64)
    model = NeuralClassifier((4,), max_epochs=1, early_stopping=False, batch_size=32)
    with pytest.raises(ValueError, match=match):
        model.set_params(**params).fit(X, y)
    assert not hasattr(model, "classes_")


def test_names_that_skorch_does_not_know_are_told_of():
    model = NeuralClassifier((4,), max_epochs=1, net_params={"maxnorm": 1.0})
    with pytest.raises(ValueError, match="maxnorm") as raised:
        model.fit(*make_data(n=64))
    assert raised.value.__notes__ == [
        "NeuralClassifier has net_params={'maxnorm': 1.0} for skorch's net."
    ]


def test_what_watches_validation_is_left_out_of_the_refit():
    X, y = make_data(n=60)
    model = NeuralClassifier((4,), max_epochs=40, early_stopping=True, random_state=0)
    model.set_params(callbacks=[EarlyStopping(patience=2)], lr=1.0, linear_share=0.0).fit(X, y)
    assert model.n_iter_ <= len(model.history_) < 40
    # the refit is a training of n_iter_ epochs on all rows, of which nothing is validated
    alone = clone(model).set_params(early_stopping=False, callbacks=None, max_epochs=model.n_iter_)
    np.testing.assert_array_equal(alone.fit(X, y).predict_proba(X), model.predict_proba(X))


def test_a_single_group_is_told_of():
    X, y = make_data(n=60)
    model = NeuralClassifier((4,), max_epochs=2, early_stopping=True)
    with pytest.warns(UserWarning, match="NeuralClassifier: all rows belong to one group"):
        model.fit(X, y, groups=np.zeros(60))
    assert len(model.history_) == 2 and "valid_loss" not in model.history_[0]


def test_an_interrupt_by_the_user_is_no_end_of_training():
    class Interrupt(Callback):
        def on_batch_begin(self, net, training=False, **kwargs):
            if len(net.history) == 2:
                raise KeyboardInterrupt

    X, y = make_data(n=60)
    model = NeuralClassifier((4,), max_epochs=3, random_state=0).fit(X, y)
    before = model.predict_proba(X)
    model.set_params(callbacks=[Interrupt()])
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    assert np.array_equal(model.predict_proba(X), before)


def test_net_params_have_the_last_word():
    X, y = make_data(n=40)
    model = NeuralClassifier((4,), max_epochs=9, batch_size=8, early_stopping=False)
    model.set_params(net_params={"max_epochs": 2, "batch_size": 20, "optimizer__eps": 1e-3})
    model.fit(X, y)
    assert len(model.history_) == 2
    assert model.history_[0]["train_batch_count"] == 2


# ------------------------------------------------------------------------------ state and seeds


def test_warm_start_continues_from_the_last_weights():
    X, y = make_data()
    model = NeuralClassifier(module=Small, max_epochs=2, early_stopping=False, warm_start=True)
    model, (first,) = fit(model, X, y)
    model, (second,) = fit(model, X, y)
    for name, value in first["epochs"][-1].items():
        assert torch.equal(second["start"][name], value)
    cold, (third,) = fit(model.set_params(warm_start=False), X, y)
    for name, value in first["start"].items():
        assert torch.equal(third["start"][name], value)


def test_seeds_repeat_and_the_callers_generators_are_untouched():
    X, y = make_data()
    options = {"hidden_layer_sizes": (8,), "max_epochs": 2}
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    a, b, c = (
        NeuralClassifier(random_state=s, **options).fit(X, y).predict_proba(X) for s in (0, 0, 1)
    )
    np.testing.assert_array_equal(a, b)
    assert not np.allclose(a, c)
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)


def test_a_failure_gives_the_generators_back():
    state = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="boom"), isolated_rng(0, "cpu"):
        torch.rand(3)
        raise RuntimeError("boom")
    assert torch.equal(torch.get_rng_state(), state)


def test_threads_that_train_at_once_do_not_disturb_one_another():
    X, y = make_data()
    models = [NeuralClassifier((8,), max_epochs=3, random_state=i % 2) for i in range(4)]
    threads = [threading.Thread(target=m.fit, args=(X, y)) for m in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, model in enumerate(models):
        alone = NeuralClassifier((8,), max_epochs=3, random_state=i % 2).fit(X, y)
        np.testing.assert_array_equal(model.predict_proba(X), alone.predict_proba(X))


def test_pickles_hold_numpy_and_predict_the_same():
    X, y = make_data()
    model = NeuralClassifier((8,), max_epochs=2, random_state=0).fit(X, y)
    blob = pickle.dumps(model)
    assert b"torch.storage" not in blob and b"_rebuild_tensor" not in blob
    state = torch.get_rng_state()
    again = pickle.loads(blob)
    assert torch.equal(torch.get_rng_state(), state)
    assert not again.module_.training
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


def test_an_instance_of_a_network_is_refused():
    X, y = make_data()
    with pytest.raises(TypeError, match=r"module=Small\(...\) is an instance.*`module_params`"):
        NeuralClassifier(module=Small(4, 3)).fit(X, y)
    model = NeuralClassifier(module=Small, module_params={"width": 3}, max_epochs=1).fit(X, y)
    assert model.module_.layers[0].out_features == 3


# ------------------------------------------------------------------------------ where it runs


@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_fitted_network_keeps_no_gradients(early_stopping):
    model = NeuralClassifier((8,), max_epochs=2, early_stopping=early_stopping, random_state=0)
    model.fit(*make_data(n=60))
    assert all(p.grad is None for p in model.module_.parameters())


class Hungry(Small):
    """A network that runs out of memory where it is let."""

    fails = False

    def forward(self, features):
        if Hungry.fails:
            raise torch.OutOfMemoryError("no memory left")
        return super().forward(features)


@pytest.mark.parametrize("method", ["fit", "predict"])
def test_an_error_of_too_little_memory_names_batch_size(method, monkeypatch):
    X, y = make_data()
    model = NeuralClassifier(module=Hungry, max_epochs=1, batch_size=10).fit(X, y)
    monkeypatch.setattr(Hungry, "fails", True)
    size = {"fit": 10, "predict": 256}[method]
    with pytest.raises(torch.OutOfMemoryError) as raised:
        model.fit(X, y) if method == "fit" else model.predict(X)
    assert f"batch_size={size}" in raised.value.__notes__[0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize("unpickled", [False, True])
def test_a_fitted_network_without_its_device_predicts_on_the_cpu(unpickled):
    X, y = make_data()
    model = NeuralClassifier((8,), max_epochs=2, random_state=0).fit(X, y)
    expected = model.predict_proba(X)
    model.set_params(device="cuda")
    model = pickle.loads(pickle.dumps(model)) if unpickled else model
    with pytest.warns(
        UserWarning, match="NeuralClassifier: device='cuda' is not available"
    ) as caught:
        np.testing.assert_array_equal(model.predict_proba(X), expected)
        assert model.predict_one(X[0]) == model.predict(X)[0]
    assert len(caught) == 1 and caught[0].filename == __file__
    with pytest.raises(ValueError, match="device='cuda', but torch finds no GPU"):
        model.fit(X, y)


def test_rows_and_batches_follow_the_device_parameter(monkeypatch):
    X, y = make_data()
    model = NeuralClassifier((8,), max_epochs=2, device="cpu", random_state=0).fit(X, y)
    moved = []
    monkeypatch.setattr(
        device, "resolve_device", lambda name: {"cuda": "cpu:0", "cpu": "cpu"}[name]
    )
    monkeypatch.setattr(nn.Module, "to", lambda module, name: moved.append(name) or module)
    for predict in (lambda: model.predict(X), lambda: model.predict_one(X[0])):
        model.set_params(device="cuda")
        predict()
        model.set_params(device="cpu")
        predict()
    assert moved == ["cpu:0", "cpu:0"]  # the module never leaves "cpu": "cuda" has it moved, twice


def test_inputs_that_stay_on_the_device_train_the_same_network(monkeypatch):
    X, y = make_data()
    plain = NeuralClassifier(max_epochs=3, random_state=0).fit(X, y)
    monkeypatch.setattr(trainer, "resident", lambda inputs, device: inputs.to(device))
    kept = NeuralClassifier(max_epochs=3, random_state=0).fit(X, y)
    np.testing.assert_array_equal(kept.predict_proba(X), plain.predict_proba(X))


def test_batches_made_ahead_train_the_same_network(monkeypatch):
    X, y = make_data()
    params = {"max_epochs": 3, "linear_share": 0.0, "random_state": 0}
    plain = NeuralClassifier(**params).fit(X, y)
    made = []

    def ahead(self):
        made.append(self)
        return prefetched(original(self))

    original = BatchIterator.__iter__
    monkeypatch.setattr(BatchIterator, "__iter__", ahead)
    ahead = NeuralClassifier(**params).fit(X, y)
    assert len(made) == 3
    np.testing.assert_array_equal(ahead.predict_proba(X), plain.predict_proba(X))


@pytest.mark.slow
def test_a_compiled_network_trains_and_pickles(recwarn):
    # "eager" follows the code as the compiler does, and makes no machine code.
    X, y = make_data()
    compiled = {"compile": True, "compile__backend": "eager"}
    params = {"max_epochs": 3, "early_stopping": True, "random_state": 0}
    plain = NeuralClassifier(**params).fit(X, y)
    model = NeuralClassifier(**params, net_params=compiled).fit(X, y)
    np.testing.assert_allclose(model.predict_proba(X), plain.predict_proba(X), rtol=1e-5)
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy.predict_proba(X), model.predict_proba(X))


class Single(Small):
    """`Small` in the precision that fused optimizers scale gradients in."""

    def __init__(self, in_features, n_outputs):
        super().__init__(in_features, n_outputs)
        self.layers.float()

    def forward(self, features):
        return self.layers(features)


@pytest.mark.parametrize("max_norm", [0.1, math.inf])
@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.RMSprop])
def test_gradients_are_clipped_as_by_hand(optimizer, max_norm):
    # RMSprop has no fused step, which would do the clipping itself.
    X, y = make_data()
    model = NeuralClassifier(
        module=Single, max_epochs=3, optimizer=optimizer, net_params={"max_norm": max_norm}
    )
    model, (net,) = fit(model, X, y)
    module = Single(4, 3)
    module.load_state_dict(net["start"])
    by_hand = optimizer(module.parameters(), lr=1e-3, weight_decay=0.01)
    n_steps, clipped = len(net["batches"]), 0
    for step, (features, target, _) in enumerate(net["batches"]):
        by_hand.param_groups[0]["lr"] = 1e-3 * schedule(step, n_steps)
        by_hand.zero_grad()
        nn.functional.cross_entropy(module(features), target).backward()
        clipped += nn.utils.clip_grad_norm_(module.parameters(), max_norm) > max_norm
        by_hand.step()
    assert clipped == (0 if math.isinf(max_norm) else n_steps)
    for name, value in module.state_dict().items():
        np.testing.assert_allclose(value, net["epochs"][-1][name], rtol=1e-4, atol=1e-6)


def test_heads_on_features_are_not_clipped_unless_asked():
    X, y = make_data()
    params = {"module": Single, "max_epochs": 2, "random_state": 0}
    told = [
        NeuralClassifier(**params, net_params=net_params).fit(50 * X, y).predict_proba(X)
        for net_params in (None, {"max_norm": math.inf}, {"max_norm": 0.1})
    ]
    np.testing.assert_array_equal(told[0], told[1])
    assert not np.allclose(told[0], told[2])


@pytest.mark.parametrize("max_norm", [0, -1, math.nan, None, "1"])
def test_a_norm_that_is_none_is_refused(max_norm):
    X, y = make_data()
    with pytest.raises(ValueError, match="max_norm=.*expected a number above 0"):
        NeuralClassifier(net_params={"max_norm": max_norm}).fit(X, y)
