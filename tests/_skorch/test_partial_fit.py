"""`partial_fit` of heads and encoders: passes over parts of the rows that go on from each other."""

import pickle
from inspect import signature

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.datasets import load_digits
from skorch.callbacks import Callback
from torch import nn
from torch.optim import SGD, AdamW

from sklearn_mmfusion import ImageEncoder, NeuralClassifier, NeuralRegressor, TextEncoder
from sklearn_mmfusion._torch import BatchIterator, DenseRows, Inputs, RowDataset, isolated_rng
from sklearn_mmfusion.modules.perceptron import MLP
from tests._registry import MODALITIES, N_ROWS, SMALL_NET, classes, having, images, rows, table

NETS = [entry for entry in having("net") if hasattr(entry.make(), "partial_fit")]
PARTS = [slice(0, 14), slice(14, N_ROWS)]
Y3 = np.arange(N_ROWS) % 3


def head(cls=NeuralClassifier, **params):
    return cls(**{**SMALL_NET, **params})


def weights_of(estimator):
    return [p.detach().numpy().copy() for p in estimator.module_.state_dict().values()]


def feed(entry, estimator, parts=PARTS, copy=lambda e: e):
    X, y = entry.X(), np.asarray(entry.y())
    known = {"classes": np.unique(y)} if hasattr(estimator, "predict_proba") else {}
    for part in parts:
        estimator = copy(estimator.partial_fit(rows(X, part), y[part], **known))
    return estimator


# ------------------------------------------------------------------------------ training


@pytest.mark.parametrize(
    ("optimizer", "options"), [(SGD, {"momentum": 0.9}), (AdamW, {"amsgrad": True, "eps": 0.01})]
)
@pytest.mark.parametrize("weighted", [False, True])
def test_it_equals_a_loop_over_the_same_batches(optimizer, options, weighted):
    X, weight = table(), 0.5 + np.arange(N_ROWS, dtype=np.float32)
    net_params = {f"optimizer__{name}": value for name, value in options.items()}
    params = {"dropout": 0.0, "batch_size": 4, "lr": 0.05, "weight_decay": 0.1}
    model = head(optimizer=optimizer, net_params=net_params, **params)
    for part in PARTS:
        given = {"sample_weight": weight[part]} if weighted else {}
        model.partial_fit(X[part], Y3[part], classes=[0, 1, 2], **given)

    seed = int(np.random.RandomState(0).randint(np.iinfo(np.int32).max))
    with isolated_rng(seed, "cpu"):
        net = MLP(5, 3, (8,), 0.0)
    net.set_scale(*(torch.from_numpy(f(X[PARTS[0]], axis=0)) for f in (np.mean, np.std)))
    step = optimizer(net.parameters(), lr=0.05, weight_decay=0.1, **options)
    for call, part in enumerate(PARTS):
        dataset = RowDataset(
            Inputs(features=DenseRows(X[part])), Y3[part], weight[part], np.arange(len(X[part]))
        )
        for batch in BatchIterator(dataset, 4, "cpu", shuffle=True, seed=seed + call):
            losses = nn.functional.cross_entropy(net(**batch[0]), batch[1], reduction="none")
            step.zero_grad()
            (losses * batch.weight if weighted else losses).mean().backward()
            step.step()
    for ours, theirs in zip(weights_of(model), net.state_dict().values(), strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("entry", NETS, ids=str)
def test_equal_calls_give_equal_bits_and_leave_the_caller_alone(entry):
    torch.manual_seed(3), np.random.seed(3)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = feed(entry, entry.make())
    pickled = feed(entry, entry.make(), copy=lambda e: pickle.loads(pickle.dumps(e)))
    for a, b in zip(weights_of(first), weights_of(pickled), strict=True):
        np.testing.assert_array_equal(a, b)
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)
    assert first.n_iter_ == 2 and [e["epoch"] for e in first.history_] == [1, 2]
    assert "valid_loss" not in first.history_[0]


@pytest.mark.parametrize("entry", NETS, ids=str)
def test_it_goes_on_after_fit_with_what_fit_learned(entry):
    X, y = rows(entry.X(), PARTS[1]), np.asarray(entry.y())[PARTS[1]]
    fitted = entry.fitted()
    before, n_iter, epochs = weights_of(fitted), fitted.n_iter_, len(fitted.history_)
    after = weights_of(fitted.set_params(lr=1e-12, weight_decay=0.0).partial_fit(X, y))
    for name, old, new in zip(fitted.module_.state_dict(), before, after, strict=True):
        if "running" not in name and "num_batches" not in name:  # of batch normalization
            np.testing.assert_allclose(new, old, atol=1e-9)
    assert fitted.n_iter_ == n_iter + 1 and len(fitted.history_) == epochs + 1


def test_calls_differ_in_their_batches():
    X, y = table(), classes()
    frozen = {"lr": 1e-12, "weight_decay": 0.0, "batch_size": 4, "dropout": 0.0}
    model = head(**frozen).partial_fit(X, y, classes=[0, 1])
    statistics = []  # of batch normalization: they depend on the order of the batches alone
    for _ in range(2):
        start = pickle.loads(pickle.dumps(model))
        model.partial_fit(X, y)
        statistics.append(model.module_.hidden[1].running_mean.numpy() * 1.0)
        repeated = start.partial_fit(X, y).module_.hidden[1].running_mean.numpy()
        np.testing.assert_array_equal(statistics[-1], repeated)
    assert not np.array_equal(*statistics)


def test_fit_forgets_the_state_of_the_optimizer():
    X, y = table(), classes()
    plain = head().fit(X, y)
    after = head().partial_fit(X, y, classes=[0, 1]).fit(X, y)
    assert vars(after).keys() == vars(plain).keys()
    for a, b in zip(weights_of(after), weights_of(plain), strict=True):
        np.testing.assert_array_equal(a, b)


def test_another_optimizer_starts_anew():
    X, y = table(), classes()
    model = head().partial_fit(X, y, classes=[0, 1])
    model.set_params(optimizer=SGD, net_params={"optimizer__momentum": 0.9}).partial_fit(X, y)
    assert model.n_iter_ == 2


@pytest.mark.slow
def test_twenty_parts_come_near_a_fit():
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))
    X, y = X[order], y[order]
    model = NeuralClassifier((64,), lr=0.01, random_state=0)
    for part in np.array_split(np.arange(1200), 20):
        model.partial_fit(X[part], y[part], classes=np.arange(10))
    quick = {"max_epochs": 5, "linear_alpha": 10.0, "linear_share": 0.0}
    fitted = NeuralClassifier((64,), random_state=0, **quick).fit(X[:1200], y[:1200])
    scores = [each.score(X[1200:], y[1200:]) for each in (model, fitted)]
    assert scores[0] > max(0.94, scores[1] - 0.03), scores


# ------------------------------------------------------------------------------ targets


def test_a_call_may_lack_classes():
    X, y = table(), np.array(["b", "a", "c"])[Y3]
    model = head()
    for label in "cab":
        model.partial_fit(X[y == label], y[y == label], classes=["a", "b", "c"])
    assert model.classes_.tolist() == ["a", "b", "c"]
    assert model.predict_proba(X).shape == (N_ROWS, 3)
    encoder = MODALITIES["image"].make().partial_fit(images()[:4], ["u"] * 4, classes=["u", "v"])
    assert encoder.classes_.tolist() == ["u", "v"]
    assert encoder.predict_head(images()).shape == (N_ROWS, 2)


def test_moments_and_vocabulary_are_those_of_the_first_call():
    X, y = table().astype(np.float64), 10.0 + 3 * np.arange(N_ROWS)
    model = head(NeuralRegressor).partial_fit(X[:10], y[:10]).partial_fit(X[10:], y[10:])
    np.testing.assert_allclose(model.mean_, X[:10].mean(0), rtol=1e-6)
    np.testing.assert_allclose(model.target_scale_, y[:10].std())
    texts = ["red wine", "blue sky", "red sky", "blue wine"]
    encoder = MODALITIES["text"].make().partial_fit(texts, [0, 1, 0, 1])
    encoder.partial_fit(["zzz qqq", "qqq zzz", *texts[:2]], [0, 1, 0, 1])
    unknown = encoder.transform(["zzz", "jjj"])
    np.testing.assert_array_equal(unknown[0], unknown[1])


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
def test_multilabel_indicators_need_no_classes(form):
    X, Y = table(), np.stack([classes(), 1 - classes(), Y3 == 0], axis=1).astype(int)
    model = head().partial_fit(X[:10], form(Y[:10])).partial_fit(X[10:], form(Y[10:]))
    assert model.predict(X).shape == (N_ROWS, 3)
    with pytest.raises(ValueError, match=r"y has shape \(24, 2\); expected \(n_samples, 3\)"):
        model.partial_fit(X, Y[:, :2])
    with pytest.raises(ValueError, match=r"classes=\[0, 1\] differs from the classes.*\[0, 1, 2\]"):
        head().partial_fit(X, Y, classes=[0, 1])


def test_several_numbers_and_weights():
    X, Y = table(), np.stack([np.arange(N_ROWS), classes()], axis=1).astype(float)
    weight = np.ones(N_ROWS)
    weight[::3] = 0
    whole = head(NeuralRegressor).partial_fit(X, Y, sample_weight=weight)
    part = head(NeuralRegressor).partial_fit(X[weight > 0], Y[weight > 0])
    np.testing.assert_allclose(whole.predict(X), part.predict(X), rtol=1e-5)
    assert whole.predict(X).shape == (N_ROWS, 2)


# ------------------------------------------------------------------------------ errors

X, Y = table(), classes()
FIRST_CALLS = [
    ({}, "NeuralClassifier: classes must be passed on the first call to partial_fit"),
    ({"classes": [0]}, r"classes=\[0\] holds 1 class; expected all labels"),
    ({"classes": 5}, r"classes=\[5\] holds 1 class"),
    ({"classes": [0, 2]}, r"y holds 1 in row \d+; expected one of the classes \[0, 2\]"),
    ({"classes": ["0", "1"]}, r"y holds . in row \d+; expected one of the classes \['0', '1'\]"),
    ({"classes": [0, np.nan]}, "contains NaN"),
    ({"classes": [0, 1], "sample_weight": np.eye(N_ROWS)[0]}, "1 of 24 rows have a sample_weight"),
]


@pytest.mark.parametrize(("given", "message"), FIRST_CALLS)
def test_first_calls_that_are_refused(given, message):
    y = 1 - Y if "sample_weight" in given else Y
    model = head()
    with pytest.raises(ValueError, match=message):
        model.partial_fit(X, y, **given)
    assert not any(name.endswith("_") for name in vars(model))


def test_class_weight_is_checked():
    with pytest.raises(ValueError, match="class_weight='balanced' is not supported by par"):
        head(class_weight="balanced").partial_fit(X, Y, classes=[0, 1])
    with pytest.raises(ValueError, match=r"class_weight names \['x'\]; expected .* \[0, 1\]"):
        head(class_weight={"x": 2.0}).partial_fit(X, Y, classes=[0, 1])
    # rows of one class weigh ten times as much, also in a call without the other
    weighted = head(class_weight={1: 10.0}).partial_fit(X[Y == 1], Y[Y == 1], classes=[0, 1])
    weight = np.full((Y == 1).sum(), 10.0)
    same = head().partial_fit(X[Y == 1], Y[Y == 1], sample_weight=weight, classes=[0, 1])
    np.testing.assert_array_equal(weighted.predict_proba(X), same.predict_proba(X))


LATER_CALLS = [
    (head, (X, Y), {"classes": [0, 1, 2]}, r"classes=\[0, 1, 2\] differs from .*, \[0, 1\]"),
    (head, (X, Y + 1), {}, r"y holds 2 in row \d+; expected one of the classes \[0, 1\]"),
    (head, (X, np.eye(2)[Y]), {}, r"y has shape \(24, 2\); expected \(n_samples,\)"),
    (head, (X[:1], Y[:1]), {}, "1 sample"),
    (lambda: head(NeuralRegressor), (X, np.full(N_ROWS, 1e300)), {}, "y is 1e.300 in row 0, far"),
    (MODALITIES["image"].make, (images(), Y + 1), {}, r"y holds 2 in row \d+; expected one of"),
    (MODALITIES["image"].make, (images()[:1], Y[:1]), {}, "a minimum of 2 such rows is required"),
]


@pytest.mark.parametrize(("make", "args", "given", "message"), LATER_CALLS)
def test_a_call_that_fails_leaves_the_estimator_as_it_was(make, args, given, message):
    model = make()
    first = images() if isinstance(model, ImageEncoder) else X
    options = {"classes": [0, 1]} if not isinstance(model, NeuralRegressor) else {}
    model.partial_fit(first, Y, **options)
    before, state = dict(vars(model)), pickle.dumps(model)
    with pytest.raises(ValueError, match=message):
        model.partial_fit(*args, **given)
    assert vars(model).keys() == before.keys()
    assert all(vars(model)[name] is value for name, value in before.items())
    assert pickle.dumps(model) == state


@pytest.mark.parametrize("entry", NETS, ids=str)
def test_a_training_that_stops_halfway_leaves_the_estimator_as_it_was(entry):
    class Fail(Callback):
        def on_epoch_end(self, net, **kwargs):
            raise RuntimeError("disk full")

    fitted = feed(entry, entry.make(), parts=PARTS[:1])
    before, state = dict(vars(fitted)), weights_of(fitted)
    with pytest.raises(RuntimeError, match="disk full"):
        feed(entry, fitted.set_params(callbacks=[Fail()]), parts=PARTS[1:])
    fitted.set_params(callbacks=None)
    assert all(vars(fitted)[name] is value for name, value in before.items())
    for a, b in zip(weights_of(fitted), state, strict=True):
        np.testing.assert_array_equal(a, b)


def test_settings_that_a_call_keeps_may_not_change():
    texts = MODALITIES["text"].cells()
    encoder = MODALITIES["text"].make().partial_fit(texts, Y)
    with pytest.raises(ValueError, match="embedding_dim changed since the last call, but part"):
        encoder.set_params(embedding_dim=4).partial_fit(texts, Y)
    model = head().partial_fit(X, Y, classes=[0, 1]).set_params(hidden_layer_sizes=(4,))
    with pytest.raises(ValueError, match=r"goes on from the fitted network \(warm_start=True"):
        model.partial_fit(X, Y)


def test_target_type_of_an_encoder_and_classes_agree():
    text = TextEncoder(n_components=4, target_type="continuous")
    with pytest.raises(ValueError, match=r"target_type='continuous', but classes=\[0, 1\] make"):
        text.partial_fit(["a b", "b c"], [0, 1], classes=[0, 1])
    text.partial_fit(["a b", "b c"], [0, 1])
    with pytest.raises(ValueError, match=r"classes=\[0, 1\] differs from .*, none \(numbers\)"):
        text.partial_fit(["a b", "b c"], [0, 1], classes=[0, 1])


def test_frames_of_later_calls_have_the_names_of_the_first():
    frame = pd.DataFrame(X, columns=list("abcde"))
    model = head().partial_fit(frame, Y, classes=[0, 1])
    with pytest.raises(ValueError, match="feature names should match"):
        model.partial_fit(frame[list("edcba")], Y)


@pytest.mark.parametrize("cls", [NeuralClassifier, ImageEncoder])
def test_classes_come_before_weights_as_in_scikit_learn(cls):
    assert list(signature(cls.partial_fit).parameters)[1:] == ["X", "y", "classes", "sample_weight"]
