"""Joint fusion where modalities are absent, in training and in prediction."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from skorch.callbacks import Callback

from sklearn_mmfusion import JointFusionClassifier, JointFusionRegressor, multimodal_frame
from tests._fusion_data import hide
from tests._registry import (
    SMALL_JOINT,
    classes,
    encoders,
    images,
    numbers,
    table,
    texts,
    waveforms,
)

N = 36
NAMES = ["image", "text", "audio"]
PLAIN = {**SMALL_JOINT, "early_stopping": False, "max_epochs": 2}
BOTH = pytest.mark.parametrize("cls", [JointFusionClassifier, JointFusionRegressor])
FUSIONS = ["concat", "max", "gated", "low_rank", "attention", "graph", "logits"]
NOTHING = "rows have no modality present"


def data(n=N, **absent):
    """Image, text and sound; some rows of them absent."""
    return hide(multimodal_frame(image=images(n), text=texts(n), audio=waveforms(n)), **absent)


def joint(cls=JointFusionClassifier, triples=None, **params):
    return cls(encoders() if triples is None else triples, **{**PLAIN, **params})


def targets(cls, n=N):
    return classes(n) if cls is JointFusionClassifier else numbers(n)


def answers(model, X):
    told = model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)
    return np.asarray(told)


def assert_sensible(model, X):
    told = answers(model, X)
    assert len(told) == len(X) and np.isfinite(told).all()
    if told.ndim == 2:
        np.testing.assert_allclose(told.sum(1), 1, atol=1e-6)
        assert (told >= 0).all()
    return told


# ------------------------------------------------------------------------------ prediction


@BOTH
def test_absent_column_is_a_column_of_absent_cells(cls):
    X = data(text=[3], image=[8])
    model = joint(cls).fit(X, targets(cls))
    with pytest.warns(UserWarning, match=r"X lacks columns seen in fit.*\{'audio': \['audio'\]\}"):
        without = answers(model, X.drop(columns="audio"))
    np.testing.assert_array_equal(without, answers(model, hide(X, audio=range(N))))
    assert not np.allclose(without, answers(model, X))


def test_other_columns_and_their_order_do_not_matter():
    X = data(text=[3], audio=[3, 8])
    model = joint(fusion="attention").fit(X, classes(N))
    other = X.assign(more=np.nan, some=texts(N))[["more", "audio", "some", "image", "text"]]
    np.testing.assert_array_equal(model.predict_proba(other), model.predict_proba(X))
    again = joint(fusion="attention").fit(other, classes(N))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_row_with_a_hidden_modality_does_not_depend_on_other_rows(fusion):
    model = joint(fusion=fusion).fit(data(image=[2], text=[5]), classes(N))
    hidden = {"image": [0, 9], "text": [1, 9], "audio": [3]}
    together = model.predict_proba(data(**hidden))
    alone = np.concatenate([model.predict_proba(data(**hidden).iloc[[r]]) for r in range(12)])
    np.testing.assert_allclose(alone, together[:12], rtol=1e-5, atol=1e-6)
    assert np.abs(together - model.predict_proba(data()))[[0, 1, 3, 9]].max(1).min() > 1e-6


@pytest.mark.parametrize("fusion", ["mean", "sum", "max", "weighted"])
def test_modality_that_is_alone_is_all_there_is_to_fuse(fusion):
    model = joint(fusion=fusion).fit(data(text=[5], audio=[6, 8]), classes(N))
    network = model.module_
    features = network.encoders[0](torch.from_numpy(images(N)[:, None]))
    by_hand = network.head(network.fusion.project[0](features)).softmax(1).detach()
    told = model.predict_proba(data(text=range(N), audio=range(N)))
    np.testing.assert_allclose(told, by_hand, rtol=1e-4, atol=1e-6)


@BOTH
@pytest.mark.parametrize("weighted", [False, True])
def test_row_with_nothing_gets_the_prior(cls, weighted):
    X, y = data(), targets(cls)
    weight = np.arange(1.0, N + 1) if weighted else None
    model = joint(cls).fit(X, y, sample_weight=weight)
    with pytest.warns(UserWarning, match=rf"2 of {N} {NOTHING} \(first \[1, 6\]\); they get"):
        told = assert_sensible(model, hide(X, **dict.fromkeys(NAMES, [1, 6])))
    shares = np.eye(2)[y] if cls is JointFusionClassifier else y
    np.testing.assert_allclose(told[[1, 6]], [np.average(shares, axis=0, weights=weight)] * 2)
    kept = np.delete(np.arange(N), [1, 6])
    np.testing.assert_allclose(told[kept], answers(model, X)[kept], rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------------------ training


@BOTH
@pytest.mark.parametrize("early_stopping", [False, True])
def test_rows_with_nothing_are_left_out_of_training(cls, early_stopping):
    y, nothing = targets(cls), [0, 7, 20]
    X = hide(data(**dict.fromkeys(NAMES, nothing)), text=[3, 4])
    kept = np.delete(np.arange(N), nothing)
    params = {"sample_weight": np.linspace(0.5, 2, N), "groups": np.arange(N) // 4}
    model = joint(cls, early_stopping=early_stopping)
    with pytest.warns(UserWarning, match=rf"3 of {N} {NOTHING} \(first \[0, 7, 20\]\); nothing"):
        model.fit(X, y, **params)
    without = joint(cls, early_stopping=early_stopping)
    without.fit(X.iloc[kept], y[kept], **{name: v[kept] for name, v in params.items()})
    np.testing.assert_array_equal(answers(model, data()), answers(without, data()))


@st.composite
def masks(draw):
    """Which cells are present in training; each modality, and an image of each class, twice."""
    n = draw(st.integers(12, 24))
    cells = st.lists(st.booleans(), min_size=3 * n, max_size=3 * n)
    seen = np.array(draw(cells)).reshape(n, 3)
    for m in range(3):
        seen[draw(st.lists(st.integers(0, n - 1), min_size=2, max_size=2, unique=True)), m] = True
    for c in range(2):
        rows = np.flatnonzero(classes(n) == c).tolist()
        seen[draw(st.lists(st.sampled_from(rows), min_size=2, max_size=2, unique=True)), 0] = True
    return seen, np.array(draw(cells)).reshape(n, 3)


@pytest.mark.filterwarnings(f"ignore:.*{NOTHING}:UserWarning")
@BOTH
@given(masks(), st.sampled_from(FUSIONS), st.booleans())
def test_any_cells_may_be_absent(cls, seen, fusion, early_stopping):
    learnt, asked = (
        data(len(mask), **{name: ~mask[:, m] for m, name in enumerate(NAMES)}) for mask in seen
    )
    y = targets(cls, len(learnt))
    model = joint(cls, fusion=fusion, early_stopping=early_stopping).fit(learnt, y)
    told = assert_sensible(model, asked)
    nothing = ~seen[1].any(1)
    if nothing.any():
        prior = (np.eye(2)[y] if cls is JointFusionClassifier else y)[seen[0].any(1)].mean(0)
        np.testing.assert_allclose(told[nothing], [prior] * nothing.sum())
    if hasattr(model, "modality_weights"):
        assert np.isfinite(model.modality_weights(asked)).all(axis=None)


@pytest.mark.filterwarnings(f"ignore:.*{NOTHING}:UserWarning")
@pytest.mark.parametrize(
    ("fusion", "pretrain"),
    [
        pytest.param(fusion, pretrain, marks=() if fusion == "concat" else pytest.mark.slow)
        for fusion in FUSIONS
        for pretrain in (False, True)
    ],
)
def test_nine_of_ten_cells_may_be_absent(fusion, pretrain):
    n = 120
    absent = np.random.default_rng(0).random((n, 3)) < 0.9
    X = data(n, **{name: absent[:, m] for m, name in enumerate(NAMES)})
    objectives = {"auxiliary": 0.3, "contrastive": 0.1, "adversarial": 0.1}
    model = joint(fusion=fusion, objectives=objectives, pretrain=pretrain, max_epochs=10)
    model.set_params(early_stopping=True, batch_size=16).fit(X, classes(n))
    assert all(p.isfinite().all() for p in model.module_.parameters())
    assert_sensible(model, X)
    # what little is there is learnt from
    assert model.score(X[~absent.all(1)], classes(n)[~absent.all(1)]) > 0.7


@BOTH
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("fusion", ["concat", "attention", "logits"])
def test_modality_of_one_training_row(cls, early_stopping, fusion):
    X = data(audio=np.arange(N) != 5, image=np.arange(N) == 5)
    objectives = {"auxiliary": 0.3, "contrastive": 1.0, "adversarial": 0.2}
    params = {"fusion": fusion, "objectives": objectives, "early_stopping": early_stopping}
    model = joint(cls, pretrain=True, **params).fit(X, targets(cls))
    assert all(v.isfinite().all() for v in model.module_.state_dict().values())
    assert_sensible(model, data())
    # a single row has no spread: the statistics of its encoder stay as they were made
    sound = model.module_.encoders[2].state_dict()
    assert all((v == 0).all() for name, v in sound.items() if name.endswith("running_mean"))


@pytest.mark.parametrize("early_stopping", [False, True])
def test_rows_of_weight_zero_are_left_out_with_their_modalities(early_stopping):
    X, y = data(image=[1, 2], audio=[2, 9]), classes(N)
    weight = np.where(np.arange(N) % 6 == 4, 0.0, np.linspace(1, 2, N))
    kept = np.flatnonzero(weight)
    X.loc[X.index % 6 == 4, "text"] = "words that nothing is learnt from"
    model = joint(early_stopping=early_stopping).fit(X, y, sample_weight=weight)
    without = joint(early_stopping=early_stopping)
    without.fit(X.iloc[kept], y[kept], sample_weight=weight[kept])
    np.testing.assert_array_equal(model.predict_proba(X), without.predict_proba(X))
    X = hide(X, image=range(18, N))
    with pytest.raises(ValueError, match="'image' is present in no row that has a weight"):
        joint().fit(X, y, sample_weight=np.arange(N) >= 18)


@BOTH
def test_model_of_one_modality_with_absent_cells(cls):
    X, y = data(text=[2, 30]), targets(cls)
    kept = X["text"].notna().to_numpy()
    with pytest.warns(UserWarning, match=f"2 of {N} {NOTHING}"):
        model = joint(cls, [encoders()[1]]).fit(X, y)
    without = joint(cls, [encoders()[1]]).fit(X[kept], y[kept])
    with pytest.warns(UserWarning, match=f"2 of {N} {NOTHING}"):
        told = assert_sensible(model, X)
    # not to the last bit: absent rows stand in the batch that the head reads
    np.testing.assert_allclose(told[kept], answers(without, X[kept]), rtol=1e-6)


class Sides(Callback):
    """Row numbers, shown as a feature, in training and in validation."""

    def on_train_begin(self, net, **kwargs):
        self.seen = {True: set(), False: set()}

    def on_batch_begin(self, net, batch, training, **kwargs):
        self.seen[training] |= {int(v) for v in batch[0]["row.features"][:, 0]}


def test_groups_stay_together_where_modalities_are_absent():
    groups, sides = np.arange(N) // 3, Sides()
    X = data(image=range(0, N, 5), text=range(0, N, 4))
    X["row"] = np.where(np.arange(N) % 7 == 0, np.nan, np.arange(N))
    params = {"early_stopping": True, "refit": False, "callbacks": [sides]}
    model = joint(triples=[*encoders()[:2], ("row", "passthrough", "row")], **params)
    with pytest.warns(UserWarning, match=rf"1 of {N} {NOTHING} \(first \[0\]"):
        model.fit(X, classes(N), groups=groups)
    train, valid = sides.seen[True], sides.seen[False]
    assert train | valid == set(range(N)) - set(range(0, N, 7))
    assert {r // 3 for r in train}.isdisjoint({r // 3 for r in valid}) and train and valid


# ------------------------------------------------------------------------------ modalities


@pytest.mark.parametrize("fusion", ["weighted", "gated", "attention", "graph"])
def test_weights_of_modalities_are_shares_of_what_is_present(fusion):
    X = data(image=[4, 7], text=[5, 7], audio=[6]).set_axis([f"row {i}" for i in range(N)])
    model = joint(fusion=fusion, batch_size=12).fit(X, classes(N))
    weights, present = model.modality_weights(X), X.notna()
    assert list(weights.columns) == NAMES
    assert weights.index.equals(X.index)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(weights > 0, present)
    if fusion == "weighted":
        scores = model.module_.fusion.scores.detach().numpy()
        expected = softmax(np.where(present, scores, -np.inf), axis=1)
        np.testing.assert_allclose(weights, expected, rtol=1e-5)


def test_fusion_without_weights_says_which_have_them():
    model = joint().fit(data(), classes(N))
    with pytest.raises(AttributeError, match="modality_weights") as caught:
        model.modality_weights(data())
    assert "fusion='concat' has no modality weights" in str(caught.value.__cause__)
    assert "['weighted', 'gated', 'attention', 'graph']" in str(caught.value.__cause__)


@pytest.mark.parametrize("fusion", ["concat", "logits"])
@BOTH
def test_modalities_predict_what_their_own_head_says(cls, fusion):
    X, y = data(image=[4, 7], text=[5, 7, 30]), targets(cls)
    X = X.assign(table=multimodal_frame(table=table(N))["table"].array)
    X = hide(X, table=[6])
    objectives = {"auxiliary": 0.3} if fusion == "concat" else None
    triples = [*encoders()[:2], ("table", "passthrough", "table")]
    model = joint(cls, triples, fusion=fusion, objectives=objectives).fit(X, y)
    told = model.predict_modalities(X)
    cells = {"image": images(N)[:, None], "table": table(N)}
    for m, name in [(0, "image"), (2, "table")]:
        network, head = model.module_.encoders[m], model.module_.heads[m]
        outputs = head(network(torch.from_numpy(cells[name]))).detach().numpy()
        if cls is JointFusionClassifier:
            outputs = softmax(outputs, axis=1)
        else:
            outputs = outputs * y.std() + y.mean()
        outputs[X[name].isna()] = np.nan
        np.testing.assert_allclose(told[name], outputs, rtol=1e-4, atol=1e-6)
    assert np.isnan(told["text"][[5, 7, 30]]).all() and np.isnan(told["text"]).any(1).sum() == 3


@pytest.mark.parametrize("params", [{"objectives": None}, {"fusion": "mean", "objectives": {}}])
def test_modalities_still_predict_when_parameters_have_changed(params):
    model = joint().fit(data(), classes(N))
    before = model.predict_modalities(data())["audio"]
    model.set_params(**params)
    np.testing.assert_array_equal(model.predict_modalities(data())["audio"], before)


def test_warm_start_refuses_a_modality_that_was_not_there():
    model = joint(triples=encoders()[:2], warm_start=True).fit(data(), classes(N))
    with pytest.raises(ValueError, match="warm_start"):
        model.set_params(encoders=encoders()).fit(data(), classes(N))


@pytest.mark.parametrize(
    ("params", "changed"),
    [
        ({"image__channels": (4, 4)}, "image__channels"),
        ({"image": "passthrough"}, "image, image__"),
        ({"audio__front_end__n_mels": 7}, "audio__front_end__n_mels"),
        ({"encoders": [(name, each, "text") for name, each, _ in encoders()]}, "column of image"),
    ],
)
def test_warm_start_refuses_other_encoders(params, changed):
    model = joint(warm_start=True).fit(data(), classes(N))
    model = pickle.loads(pickle.dumps(model)).fit(data(), classes(N))
    with pytest.raises(ValueError, match=f"warm_start=True, but {changed}.* changed since the"):
        model.set_params(**params).fit(data(), classes(N))
    model.set_params(encoders=encoders(), image__random_state=3, lr=0.001).fit(data(), classes(N))
