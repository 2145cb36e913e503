"""Joint fusion: training by hand, parts of every kind, rates, pretraining, search, errors."""

import math
import pickle
from copy import deepcopy

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from skorch.callbacks import Callback
from torch import nn

from sklearn_mmfusion import (
    ImageEncoder,
    JointFusionClassifier,
    JointFusionRegressor,
    TextEncoder,
    multimodal_frame,
)
from tests._fusion_data import hide
from tests._registry import SMALL_IMAGE, SMALL_JOINT, SMALL_TEXT, classes, images, numbers, texts
from tests._registry import table as make_table

N = 36
STEPS = 40
PLAIN = {**SMALL_JOINT, "early_stopping": False, "modality_dropout": 0.0, "max_epochs": 2}
TEXT = {**SMALL_TEXT, "dropout": 0.0, "module_params": {"channels": 8, "token_dropout": 0.0}}
IMAGE = {**SMALL_IMAGE, "dropout": 0.0, "module_params": {"max_shift": 0.0}}


def data(n=N):
    """Image, text and a table, as a column of vectors and as numbers `a`, `b`; some absent."""
    X = multimodal_frame(
        image=images(n), text=texts(n), table=make_table(n), a=make_table(n)[:, 0], b=np.arange(n)
    )
    return hide(X, image=[4, 7], text=[5, 7, 30], table=[6, 11])


def parts(**replaced):
    """Triples of an image, a text and a table; some replaced, or None to leave them out."""
    own = {
        "image": (ImageEncoder(**IMAGE), "image"),
        "text": (TextEncoder(**TEXT), "text"),
        "table": ("passthrough", "table"),
    }
    own |= replaced
    return [(name, *pair) for name, pair in own.items() if pair is not None]


def joint(triples=None, cls=JointFusionClassifier, **params):
    return cls(parts() if triples is None else triples, **{**PLAIN, **params})


class Recorder(Callback):
    """The network at the start and the end, batches and losses, of every net that is trained."""

    def __init__(self):
        self.nets = []

    def on_train_begin(self, net, **kwargs):
        told = {"start": deepcopy(net.module_), "epochs": net.max_epochs, "batches": []}
        self.nets.append({**told, "losses": [], "ends": [], "groups": groups_of(net)})

    def on_batch_begin(self, net, batch, training, **kwargs):
        if training:
            self.nets[-1]["batches"].append((batch[0], batch[1], batch.weight))

    def on_batch_end(self, net, training, loss, **kwargs):
        if training:
            self.nets[-1]["losses"].append(loss)

    def on_epoch_end(self, net, **kwargs):
        self.nets[-1]["ends"].append(values(net.module_))
        self.nets[-1]["last"] = groups_of(net)

    def on_train_end(self, net, **kwargs):
        self.nets[-1]["end"] = values(net.module_)


def groups_of(net):
    """Rate and number of tensors of each group of the optimizer."""
    return [(group["lr"], len(group["params"])) for group in net.optimizer_.param_groups]


def values(module):
    return {name: value.detach().clone() for name, value in module.named_parameters()}


def recorded(model, X, y, **params):
    recorder = Recorder()
    return model.set_params(callbacks=[recorder]).fit(X, y, **params), recorder.nets


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# ------------------------------------------------------------------------------ training by hand


@pytest.fixture
def double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def features_by_hand(net, batch):
    mask, features = batch["mask"], []
    for m, name in enumerate(["image", "text", "table"]):
        own = {k.split(".")[1]: v for k, v in batch.items() if k.startswith(f"{name}.")}
        x = torch.zeros(len(mask), 8)
        x[mask[:, m]] = net.encoders[m](**own)
        features.append(x)
    return features


def fuse_by_hand(net, fusion, features, mask):
    if fusion == "concat":
        side_by_side = torch.cat(features, 1)
        return side_by_side @ net.fusion.linear.weight.T + net.fusion.linear.bias
    shares = torch.exp(net.fusion.scores) * mask
    shares = shares / shares.sum(1, keepdim=True)
    layers = net.fusion.project
    return sum(
        share[:, None] * (x @ layer.weight.T + layer.bias)
        for share, x, layer in zip(shares.T, features, layers, strict=True)
    )


def contrastive_by_hand(net, features, mask):
    """Row by row: how well it finds its partner among the rows that have both modalities."""
    layers = net.common if net.common is not None else net.fusion.project
    units = [layer(x) for layer, x in zip(layers, features, strict=True)]
    units = [u / u.square().sum(1, keepdim=True).sqrt() for u in units]
    scale, penalty = torch.exp(net.alignments[0].log_scale), [torch.zeros(()) for _ in mask]
    for i, j in [(0, 1), (0, 2), (1, 2)]:
        both = [r for r in range(len(mask)) if mask[r, i] and mask[r, j]]
        for row in both:
            for a, b in [(units[i], units[j]), (units[j], units[i])]:
                scores = scale * (b[both] @ a[row])
                penalty[row] += (torch.logsumexp(scores, 0) - scale * (a[row] @ b[row])) / 6
    return torch.stack(penalty)


def cross_entropy_by_hand(output, target, smoothing=0.1):
    log_proba = output - torch.logsumexp(output, 1, keepdim=True)
    own = log_proba[torch.arange(len(target)), target]
    return -(1 - smoothing) * own - smoothing * log_proba.mean(1)


def squared_error_by_hand(output, target):
    return (output - target).square()[:, 0]


def loss_by_hand(net, case, batch, target, weight):
    mask, features = batch["mask"], features_by_hand(net, batch)
    fused = fuse_by_hand(net, case["fusion"], features, mask)
    norm, last = net.head[0], net.head[3]
    spread = (fused.var(1, unbiased=False, keepdim=True) + norm.eps).sqrt()
    fused = (fused - fused.mean(1, keepdim=True)) / spread * norm.weight + norm.bias
    regress = case["cls"] is JointFusionRegressor
    of_rows = squared_error_by_hand if regress else cross_entropy_by_hand
    loss = of_rows(fused.clamp(min=0) @ last.weight.T + last.bias, target)
    for m, head in enumerate(net.heads):
        loss = loss + case["objectives"]["auxiliary"] * mask[:, m] * of_rows(
            head(features[m]), target
        )
    if "contrastive" in case["objectives"]:
        strength = case["objectives"]["contrastive"]
        loss = loss + strength * contrastive_by_hand(net, features, mask)
    return (loss if weight is None else loss * weight).mean()


def adamw_by_hand(net, loss_of, batches, rate_of, decay=0.01):
    """Loshchilov and Hutter (2019), clipped at norm one, warm-up of 15 % and half a cosine."""
    weights, losses, norms = dict(net.named_parameters()), [], []
    first = {name: torch.zeros_like(p) for name, p in weights.items()}
    second = {name: torch.zeros_like(p) for name, p in weights.items()}
    for t, batch in enumerate(batches, 1):
        loss = loss_of(net, *batch)
        gradients = torch.autograd.grad(loss, list(weights.values()))
        losses.append(loss.item())
        norms.append(math.sqrt(sum(float(g.square().sum()) for g in gradients)))
        clip = min(1.0, 1 / (norms[-1] + 1e-6))  # the small number is torch's
        share = t / 6 if t <= 6 else 0.5 * (1 + math.cos(math.pi * (t - 7) / 34))
        with torch.no_grad():
            for (name, p), g in zip(weights.items(), gradients, strict=True):
                first[name] = 0.9 * first[name] + 0.1 * clip * g
                second[name] = 0.999 * second[name] + 0.001 * (clip * g) ** 2
                step = first[name] / (1 - 0.9**t)
                step = step / ((second[name] / (1 - 0.999**t)).sqrt() + 1e-8)
                p -= share * rate_of(name) * (decay * p + step)
    return losses, norms


CASES = {
    "concat": {"objectives": {"auxiliary": 0.3}},
    "contrastive": {"objectives": {"auxiliary": 0.3, "contrastive": 0.5}},
    "weighted": {
        "fusion": "weighted",
        "objectives": {"auxiliary": 1.0, "contrastive": 0.2},
        "encoder_lr": {"image": 0.001, "table": 0.04},
    },
    "regressor": {"cls": JointFusionRegressor, "objectives": {"auxiliary": 0.5}},
}


@pytest.mark.parametrize("name", CASES)
def test_training_equals_a_hand_written_loop(name, double):
    case = {"cls": JointFusionClassifier, "fusion": "concat", **CASES[name]}
    regress = case["cls"] is JointFusionRegressor
    weight = None if name == "concat" else np.linspace(0.2, 3, N)
    model, (net,) = recorded(
        joint(max_epochs=10, batch_size=9, **case),
        data(),
        numbers(N) if regress else classes(N),
        sample_weight=weight,
    )
    assert len(net["losses"]) == len(net["batches"]) == STEPS
    tensors = [*net["losses"], *model.module_.parameters(), *model.module_.buffers()]
    assert {t.dtype for t in tensors if t.is_floating_point()} == {torch.float64}
    twin, rates = net["start"].train(), case.get("encoder_lr", {})
    rates = {"encoders.0": rates.get("image", 0.02), "encoders.2": rates.get("table", 0.02)}
    losses, norms = adamw_by_hand(
        twin,
        lambda module, *batch: loss_by_hand(module, case, *batch),
        net["batches"],
        lambda name: rates.get(name[:10], 0.02),
    )
    assert max(norms) > 1 > min(norms)
    np.testing.assert_allclose([float(loss) for loss in net["losses"]], losses, atol=1e-8, rtol=0)
    for key, value in twin.state_dict().items():
        torch.testing.assert_close(model.module_.state_dict()[key], value, atol=1e-8, rtol=0)


# ------------------------------------------------------------------------------ parts


def test_frozen_encoder_joins_as_fixed_features():
    X, y = data(), classes(N)
    encoder = ImageEncoder(**SMALL_IMAGE).fit(X["image"], y)
    before, features = values(encoder.module_), encoder.transform(X["image"])
    frozen = joint(parts(image=(FrozenEstimator(encoder), "image"))).fit(X, y)
    assert equal(values(encoder.module_), before)
    np.testing.assert_array_equal(encoder.transform(X["image"]), features)
    # the same features as a column of vectors, absent in the same rows
    cells = multimodal_frame(image=np.nan_to_num(features))
    given = X.assign(image=hide(cells, image=[4, 7])["image"].array)
    by_hand = joint(parts(image=("passthrough", "image"))).fit(given, y)
    np.testing.assert_allclose(frozen.predict_proba(X), by_hand.predict_proba(given), rtol=1e-6)


def shout(texts):
    return texts.str.upper()


def test_pipeline_that_ends_in_an_encoder_trains_it():
    X, y = data(), classes(N)
    encoder = TextEncoder(**{**TEXT, "lowercase": False})
    pipeline = make_pipeline(FunctionTransformer(shout), encoder)
    model, (net,) = recorded(joint(parts(text=(pipeline, "text"))), X, y)
    start = net["start"].encoders[1].state_dict()
    assert not torch.equal(start["words.weight"], model.module_.encoders[1].words.weight)
    loud = X.assign(text=shout(X["text"]))
    alone = joint(parts(text=(encoder, "text"))).fit(loud, y)
    np.testing.assert_array_equal(model.predict_proba(X), alone.predict_proba(loud))


class Centres(TransformerMixin, BaseEstimator):
    """Distances to the class means: learns from y, and remembers what it was given."""

    seen = {}

    def fit(self, X, y, sample_weight=None):
        self.seen.update(X=X, y=y, weight=sample_weight)
        rows = [np.flatnonzero(y == c) for c in np.unique(y)]
        self.means_ = [np.average(X[r], axis=0, weights=sample_weight[r]) for r in rows]
        return self

    def transform(self, X):
        return np.stack([np.linalg.norm(X - mean, axis=1) for mean in self.means_], 1)


def test_supervised_transformer_gets_targets_and_weights_of_its_present_rows():
    X, y, weight = data(), classes(N), np.arange(N) % 5.0
    joint(parts(table=(Centres(), "table"))).fit(X, y, sample_weight=weight)
    rows = [r for r in range(N) if r not in (6, 11) and weight[r] > 0]
    np.testing.assert_array_equal(Centres.seen["X"], make_table(N)[rows])
    np.testing.assert_array_equal(Centres.seen["y"], y[rows])
    ratio = Centres.seen["weight"] / weight[rows]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)


def dense(features):
    return features.toarray()


TABLES = {  # two ways to the same features: those of a table are standardized anyway
    "sparse": [
        {"text": (TfidfVectorizer(), "text")},
        {"text": (make_pipeline(TfidfVectorizer(), FunctionTransformer(dense)), "text")},
    ],
    "columns": [
        {"table": (StandardScaler(), ["a", "b"])},
        {"table": ("passthrough", slice("a", "b"))},
    ],
}


@pytest.mark.parametrize("kind", TABLES)
def test_features_of_transformers_join_in(kind):
    X, y = data(), classes(N)
    sgd = {"optimizer": torch.optim.SGD}  # Adam would blow rounding up where a gradient vanishes
    model, twin = (joint(parts(**p), **sgd).fit(X, y) for p in TABLES[kind])
    one, other = model.predict_proba(X), twin.predict_proba(X)
    np.testing.assert_allclose(one, other, atol=1e-5)
    other_way = {name: X[name].array[::-1] for name in ("text", "a", "b")}
    assert np.abs(model.predict_proba(X.assign(**other_way)) - one).max() > 1e-3


# ------------------------------------------------------------------------------ rates


@pytest.mark.parametrize(
    ("encoder_lr", "kept", "rates"),
    [
        (None, [], [0.02]),
        (0, [0, 1, 2], [0, 0, 0, 0.02]),
        ({"text": 0}, [1], [0, 0.02]),
        ({"image": 0.5, "table": 0.0}, [2], [0.5, 0.0, 0.02]),
    ],
)
def test_encoders_have_their_own_rates(encoder_lr, kept, rates):
    model, (net,) = recorded(joint(encoder_lr=encoder_lr, batch_size=12), data(), classes(N))
    start, network = net["start"], model.module_
    for m, (before, after) in enumerate(zip(start.encoders, network.encoders, strict=True)):
        assert equal(values(before), values(after)) == (m in kept)
    assert not equal(values(start.head), values(network.head))
    assert [rate for rate, _ in net["groups"]] == pytest.approx(rates)
    assert sum(n for _, n in net["groups"]) == len(list(network.parameters()))
    # the schedule scales all of them alike: 6 steps, the first of which warms up
    share = 0.5 * (1 + math.cos(math.pi * 4 / 5))
    assert [rate for rate, _ in net["last"]] == pytest.approx([share * r for r in rates])


def test_frozen_rates_keep_what_pretraining_found():
    X = hide(data(), image=range(12, 20))
    params = {"pretrain": True, "encoder_lr": 0.0, "max_epochs": 3}
    model, nets = recorded(joint(**params), X, classes(N))
    assert len(nets) == 4
    for m, (net, n_present) in enumerate(zip(nets[:3], [26, 33, 34], strict=True)):
        found = {k.removeprefix("encoder."): v for k, v in net["end"].items()}
        head = {k: found.pop(f"head.{k}") for k in ("weight", "bias")}
        assert equal(values(model.module_.encoders[m]), found)
        assert equal(values(nets[3]["start"].heads[m]), head)
        assert not equal(values(net["start"].encoder), found)
        assert sum(len(target) for _, target, _ in net["batches"]) == 3 * n_present
    pixels = torch.cat([batch["pixels"] for batch, *_ in nets[0]["batches"][:1]])[:, 0]
    shown = {image.numpy().tobytes() for image in pixels}
    rows = [r for r in range(N) if r not in (4, 7, *range(12, 20))]
    assert shown == {images(N)[r].tobytes() for r in rows}


def test_refit_pretrains_for_the_epochs_found():
    y = np.random.default_rng(3).permutation(classes(N))  # chance: the best epoch comes early
    params = {"pretrain": True, "early_stopping": True, "max_epochs": 8, "lr": 0.1}
    model, nets = recorded(joint(**params), data(), y)
    found, again = nets[:3], nets[4:7]
    best = [[equal(net["end"], end) for end in net["ends"]].index(True) + 1 for net in found]
    assert min(best) < 8
    assert [net["epochs"] for net in again] == best
    assert nets[7]["epochs"] == model.n_iter_


def test_pretraining_without_validation_forgets_the_last_fit():
    y = np.random.default_rng(3).permutation(classes(N))
    model = joint(pretrain=True, early_stopping=True, max_epochs=8, lr=0.1).fit(data(), y)
    _, nets = recorded(model.set_params(early_stopping=False), data(), y)
    assert [net["epochs"] for net in nets] == [8, 8, 8, 8]


def test_warm_start_goes_on_and_refuses_other_classes():
    X, y = data(), classes(N)
    model = joint(max_epochs=8, warm_start=True)
    first = model.fit(X, y).history_
    again = model.fit(X, y).history_
    assert again[0]["train_loss"] < first[0]["train_loss"] - 0.1
    before = model.predict_proba(X)
    with pytest.raises(ValueError, match=r"warm_start=True, but y has classes \[1 2\]"):
        model.fit(X, y + 1)
    np.testing.assert_array_equal(model.predict_proba(X), before)


# ------------------------------------------------------------------------------ parameters, search


def test_parameters_inside_the_triples():
    model = joint()
    assert clone(model).get_params()["image__n_components"] == 8
    model.set_params(image__channels=(4, 4), text__n_components=16, fusion="mean")
    assert model.encoders[0][1].channels == model.get_params()["image__channels"] == (4, 4)
    twin = clone(model).set_params(image="drop", table=StandardScaler()).fit(data(), classes(N))
    assert twin.module_.names == ["text", "table"]
    assert twin.module_.encoders[0].out_features == 16
    assert isinstance(model.encoders[0][1], ImageEncoder) and model.encoders[2][1] == "passthrough"
    page = twin._repr_html_()
    assert all(name in page for name in ("JointFusion", "TextEncoder", "table", "StandardScaler"))


def test_fitted_encoders_have_names():
    text = make_pipeline(FunctionTransformer(), TextEncoder(**SMALL_TEXT))
    triples = [("image", ImageEncoder(**SMALL_IMAGE), "image"), ("text", text, "text")]
    model = joint([*triples, ("table", StandardScaler(), ["age"])])
    assert not hasattr(model, "named_encoders_")
    fitted = model.fit(data().assign(age=np.arange(float(N))), classes(N)).named_encoders_
    assert list(fitted) == ["image", "text", "table"]
    assert fitted.image.mean_.shape == (1,) and fitted.table.mean_ == (N - 1) / 2
    assert fitted.text[-1].tokenizers_["words"].vocabulary_


def test_training_parameters_of_encoders_have_no_effect_and_warn():
    match = r"image__lr has no effect.*Set its lr, or encoder_lr=\{name: rate\} for one encoder"
    with pytest.warns(UserWarning, match=match):
        joint().set_params(image__lr=0.5)
    grid = {"text__weight_decay": [0.0, 0.1]}
    with pytest.warns(UserWarning, match="text__weight_decay has no effect.*Set its weight_decay"):
        GridSearchCV(joint(), grid, cv=2).fit(data(), classes(N))
    with pytest.warns(UserWarning, match="image__lr, text__lr have no effect"):
        joint().set_params(image__lr=0.5, text__lr=0.5)
    joint().set_params(image__random_state=3, image__dropout=0.1, image=TextEncoder(lr=0.3))
    joint().set_params(**joint().get_params())  # no value is new


@pytest.mark.slow
def test_grid_search_over_fusion_and_encoder_with_workers(new_workers):
    grid = {"fusion": ["concat", "graph"], "image__n_components": [4, 8]}
    search = GridSearchCV(joint(), grid, cv=2, scoring="neg_log_loss")
    one, two = (clone(search).set_params(n_jobs=j).fit(data(), classes(N)) for j in (1, 2))
    assert one.best_params_ == two.best_params_
    scores = one.cv_results_["mean_test_score"]
    np.testing.assert_allclose(scores, two.cv_results_["mean_test_score"], rtol=1e-6)
    assert len(set(scores)) == 4
    assert two.best_estimator_.module_.encoders[0].out_features in (4, 8)


class FiLM(nn.Module):
    """The first modality, scaled and moved by what the others say (Perez et al. 2018)."""

    def __init__(self, in_features, out_features, hidden=4):
        super().__init__()
        self.out_features = out_features
        self.own = nn.Linear(in_features[0], out_features)
        self.inner = nn.Linear(sum(in_features[1:]), hidden)
        self.scale = nn.Linear(hidden, 2 * out_features)

    def forward(self, features, mask):
        first, *others = (x * mask[:, [m]] for m, x in enumerate(features))
        gain, offset = self.scale(torch.tanh(self.inner(torch.cat(others, 1)))).chunk(2, 1)
        return (1 + gain) * self.own(first) + offset


def test_fusion_may_be_a_class_of_the_user():
    X, y = data(), classes(N)
    model = joint(fusion=FiLM, fusion_params={"hidden": 3}, max_epochs=8)
    fitted = clone(model).fit(X, y)
    assert fitted.module_.fusion.inner.out_features == 3
    assert fitted.score(X, y) > 0.8
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
    grid = {"fusion_params": [{"hidden": 2}, {"hidden": 5}], "max_epochs": [1]}
    best = GridSearchCV(model, grid, cv=2).fit(X, y).best_estimator_
    assert best.module_.fusion.inner.out_features == best.fusion_params["hidden"]
    with pytest.raises(TypeError, match=r"fusion=FiLM\(...\) is an instance; expected a class"):
        model.set_params(fusion=FiLM([8, 8, 8], 8)).fit(X, y)


# ------------------------------------------------------------------------------ errors


DROPPED = [(name, "drop", name) for name in ("image", "text")]
WIDE = [("one", "passthrough", "a"), ("two", "passthrough", "b")]
ALONE = parts(text=None, table=None)
ERRORS = [
    ({}, "Unknown label type: continuous.*Use JointFusionRegressor"),
    ({"fusion": "sumup"}, "'fusion' parameter .* must be a str among"),
    ({"objectives": {"clip": 1.0}}, r"objectives names \['clip'\]; expected some of"),
    ({"objectives": {"auxiliary": -1}}, "objectives of 'auxiliary' is -1"),
    (
        {"objectives": {"contrastive": 1.0}, "encoders": ALONE},
        "'contrastive' aligns .* there is only one",
    ),
    ({"encoders": DROPPED}, "every encoder is 'drop'"),
    ({"encoders": [("image", "image")]}, "must be a .* triple, got"),
    ({"encoders": [("image", ImageEncoder(), "photo")]}, "'image': column 'photo' is not in X"),
    ({"encoder_lr": {"sound": 0.1}}, r"encoder_lr names \['sound'\]; expected some of"),
    (
        {"encoders": WIDE, "fusion": "tensor", "n_components": 400},
        r"widths \[400, 400\].*Use fusion='low_rank'",
    ),
]


@pytest.fixture(scope="module")
def pickled():
    return pickle.dumps(joint().fit(data(), classes(N)))


@pytest.mark.parametrize(("params", "message"), ERRORS)
def test_errors_say_what_is_wrong_and_leave_the_model_alone(params, message, pickled):
    model, X = pickle.loads(pickled), data()
    before = model.predict_proba(X)
    with pytest.raises(ValueError, match=message):
        model.set_params(**params).fit(X, classes(N) if params else numbers(N))
    np.testing.assert_array_equal(model.predict_proba(X), before)
