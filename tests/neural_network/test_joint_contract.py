"""What scikit-learn and skorch expect of a joint model, beyond their own checks."""

import pickle
import weakref

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from skorch.callbacks import Callback, EpochScoring
from torch import nn

from sklearn_mmfusion import JointFusionClassifier, TextEncoder
from sklearn_mmfusion._torch import Inputs, LazyRows, RowDataset
from sklearn_mmfusion.neural_network.joint_fusion.training import fit_temperature, outputs_of
from tests._registry import SMALL_TEXT, texts

N = 60
RNG = np.random.default_rng(0)
X = pd.DataFrame(RNG.normal(size=(N, 4)), columns=list("abcd"))
Y = RNG.integers(0, 3, N)
WEIGHT = RNG.random(N)


def joint(left=None, right="passthrough", **params):
    triples = [("left", left or "passthrough", ["a", "b"]), ("right", right, ["c", "d"])]
    # a fixed share: for labels at random "auto" may leave the network out
    defaults = {"n_components": 4, "max_epochs": 2, "random_state": 0, "linear_share": 0.5}
    return JointFusionClassifier(triples, **{**defaults, **params})


class Weighed(StandardScaler):
    """Remembers the weights it was given."""

    def fit(self, X, y=None, sample_weight=None):
        Weighed.seen = sample_weight
        return super().fit(X, y, sample_weight=sample_weight)


@pytest.mark.parametrize("asks", [True, False])
def test_routing_hands_weights_to_transformers_that_ask(asks):
    with sklearn.config_context(enable_metadata_routing=True):
        scaler = Weighed().set_fit_request(sample_weight=asks)
        joint(make_pipeline(SimpleImputer(), scaler)).fit(X, Y, sample_weight=WEIGHT)
    np.testing.assert_array_equal(Weighed.seen, WEIGHT if asks else None)


def test_class_weight_is_not_handed_to_transformers():
    joint(Weighed(), class_weight="balanced").fit(X, Y)
    assert Weighed.seen is None


def test_parameters_of_transformers_are_validated():
    with pytest.raises(ValueError, match="'with_mean' parameter of StandardScaler"):
        joint(StandardScaler(with_mean="nonsense")).fit(X, Y)


def test_predictor_in_a_triple_is_refused_before_it_is_fitted():
    with pytest.raises(TypeError, match="'left'.*LogisticRegression.*does not implement transform"):
        joint(LogisticRegression()).fit(X, Y)


def test_names_that_begin_alike_do_not_mix():
    triples = [("a", "passthrough", ["a"]), ("a_", "passthrough", ["b"])]
    model = JointFusionClassifier(triples, n_components=4, max_epochs=1).fit(X, Y)
    assert model.predict(X).shape == (N,)


def test_row_of_mixed_cells_equals_the_array():
    mixed = np.column_stack([X.to_numpy().round().astype(object), RNG.choice(list("uv"), N)])
    triples = [("t", OneHotEncoder(handle_unknown="ignore"), [2, 4]), ("n", "passthrough", [0])]
    model = JointFusionClassifier(triples, n_components=4, max_epochs=2, random_state=0)
    told = model.fit(mixed, Y).predict_proba(mixed)
    rows = [model.predict_proba_one(dict(enumerate(row))) for row in mixed[:5]]
    np.testing.assert_allclose(rows, told[:5], rtol=1e-5)


def test_changing_the_callers_dict_changes_no_fitted_model():
    objectives = {"auxiliary": 0.3}
    model = joint(objectives=objectives).fit(X, Y)
    objectives["contrastive"] = 1.0
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy.predict_proba(X), model.predict_proba(X))


def test_scoring_callbacks_get_probabilities():
    callback = EpochScoring("neg_log_loss", lower_is_better=False, name="log_loss")
    model = joint(callbacks=[callback], refit=False).fit(X, Y)
    assert all(epoch["log_loss"] < 0 for epoch in model.history_)


def test_criterion_of_the_users_is_refused():
    with pytest.raises(ValueError, match="net_params has 'criterion'.*objectives"):
        joint(net_params={"criterion": nn.CrossEntropyLoss}).fit(X, Y)
    smooth = joint(net_params={"criterion__label_smoothing": 0.9}).fit(X, Y).predict_proba(X)
    assert not np.array_equal(smooth, joint().fit(X, Y).predict_proba(X))


def test_pretraining_depends_on_the_seed():
    params = {"pretrain": True, "encoder_lr": 0.0, "early_stopping": False}
    one, same, other = (joint(**params, random_state=s).fit(X, Y) for s in (0, 0, 1))
    np.testing.assert_array_equal(one.predict_proba(X), same.predict_proba(X))
    assert not np.array_equal(one.predict_proba(X), other.predict_proba(X))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"encoder_lr": {"left": -1.0}}, "encoder_lr of 'left' is -1.0"),
        ({"encoder_lr": {"left": "x"}}, "encoder_lr of 'left' is 'x'"),
        ({"fusion": "graph", "n_components": 6}, "n_components=6 is not a multiple of num_heads=4"),
        ({"fusion": "graph", "fusion_params": {"num_rounds": 0}}, "num_rounds is 0"),
    ],
)
def test_parameters_out_of_range(params, message):
    with pytest.raises(ValueError, match=message):
        joint(**params).fit(X, Y)


class Narrow(nn.Module):
    """A fusion that returns one column, and does not say how wide it is."""

    def __init__(self, in_features, out_features):
        super().__init__()
        self.layer = nn.Linear(in_features[0], 1)

    def forward(self, features, mask):
        return self.layer(features[0])


def test_fusion_of_the_wrong_width_says_so():
    message = r"Narrow.forward returned shape \(\d+, 1\); expected \(\d+, 4\)"
    with pytest.raises(ValueError, match=message):
        joint(fusion=Narrow).fit(X, Y)
    assert joint(fusion=Narrow, n_components=1).fit(X, Y).predict(X).shape == (N,)


def test_unfitted_model_says_so():
    with pytest.raises(NotFittedError):
        joint(fusion="gated").modality_weights(X)


def test_gaps_in_a_table_ask_for_an_imputer():
    holes = X.mask(np.eye(N, 4, dtype=bool))
    with pytest.raises(ValueError, match="contains NaN") as caught:
        joint().fit(holes, Y)
    notes = " ".join(caught.value.__notes__)
    assert "imputer" in notes and "'left'" in notes


def test_prepared_encoder_is_not_fitted_any_more():
    encoder = TextEncoder(**SMALL_TEXT).fit(texts(), np.arange(24) % 2)
    encoder.fit_prepare(["quite other words"])
    with pytest.raises(NotFittedError, match="not fitted"):
        encoder.transform(["quite other words"])


# ------------------------------------------------------------------------------ temperature


def smoothed_log_loss(logits, codes, weight, temperature):
    """The loss row by row; one extra row counts equally for all classes."""
    n_rows, n_classes = logits.shape
    losses = []
    for row, code in zip(logits / temperature, codes, strict=True):
        log_proba = row - np.log(np.exp(row).sum())
        losses.append(-(n_rows * log_proba[code] + log_proba.mean()) / (n_rows + 1))
    return np.dot(weight, losses) / weight.sum()


def draw(rng, n_rows, temperature):
    """Draw logits, and classes with the probabilities of the logits at a temperature."""
    logits = rng.normal(size=(n_rows, 3)) * 3
    odds = np.exp(logits / temperature)
    shares = odds.cumsum(axis=1) / odds.sum(axis=1, keepdims=True)
    return logits, (rng.random((n_rows, 1)) > shares[:, :2]).sum(axis=1)


@pytest.mark.parametrize("weighted", [False, True])
def test_temperature_has_the_lowest_log_loss(weighted):
    rng = np.random.default_rng(0)
    logits, codes = draw(rng, 200, 2.0)
    weight = rng.random(200) + 0.5 if weighted else None
    rows = rng.permutation(200)[:100]
    found = fit_temperature(logits[rows], RowDataset(None, codes, weight, rows))
    weight = np.ones(100) if weight is None else weight[rows]
    grid = found * np.array([0.5, 0.9, 0.99, 1, 1.01, 1.1, 2])
    losses = [smoothed_log_loss(logits[rows], codes[rows], weight, each) for each in grid]
    assert np.argmin(losses) == 3


def test_few_validation_rows_are_in_memory_at_a_time():
    batches, most = [], []

    def read(rows):
        values = np.repeat(rows[:, None], 1 << 15, axis=1).astype(np.float32)
        batches.append(weakref.ref(values))
        most.append(sum(batch() is not None for batch in batches))
        return values

    class Sums(nn.Module):
        def forward(self, x):
            return x.mean(1, keepdim=True)

    n_rows = 200  # so large that batches have 32 of them
    part = RowDataset(Inputs(x=LazyRows(n_rows, read)), np.zeros(n_rows), None, np.arange(n_rows))
    outputs = outputs_of(Sums(), part, "cpu")
    np.testing.assert_array_equal(outputs[:, 0], np.arange(n_rows))
    assert len(most) > 4 and max(most) <= 3


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_temperature_is_recovered(temperature):
    logits, codes = draw(np.random.default_rng(1), 10_000, temperature)
    found = fit_temperature(logits, RowDataset(None, codes, None, np.arange(10_000)))
    assert found == pytest.approx(temperature, rel=0.05)


def test_temperature_is_moderate_if_all_rows_are_correct():
    logits = np.eye(3)[np.arange(30) % 3] * 4
    temperature = fit_temperature(logits, RowDataset(None, np.arange(30) % 3, None, np.arange(30)))
    confidence = 1 / (1 + 2 * np.exp(-4 / temperature))
    assert confidence == pytest.approx((30 + 1 / 3) / 31, abs=1e-4)


class ValidationRows(Callback):
    def on_train_begin(self, net, X=None, y=None, **kwargs):
        valid = net.get_split_datasets(X, y)[1]
        ValidationRows.seen = ValidationRows.seen if valid is None else valid.rows


def test_temperature_is_that_of_the_validation_rows_and_keeps_labels():
    y = np.digitize(X["a"] + X["c"], [-0.5, 0.5])
    params = {"max_epochs": 20, "callbacks": [ValidationRows()], "refit": False}
    tempered = joint(**params).fit(X, y)
    plain = joint(**params, temperature=None).fit(X, y)
    rows = ValidationRows.seen
    assert len(rows) == N / 5
    logits = plain.predict_log_proba(X)
    assert plain.temperature_ == 1 != pytest.approx(tempered.temperature_)
    proba = np.exp(logits / tempered.temperature_)
    proba /= proba.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(tempered.predict_proba(X), proba, rtol=1e-6)
    np.testing.assert_array_equal(tempered.predict(X), plain.predict(X))
    np.testing.assert_allclose(
        tempered.predict_proba_one(X.iloc[0].to_dict()), tempered.predict_proba(X)[0], rtol=1e-5
    )
    grid = tempered.temperature_ * np.array([0.5, 0.98, 1, 1.02, 2])
    losses = [smoothed_log_loss(logits[rows], y[rows], np.ones(len(rows)), each) for each in grid]
    assert np.argmin(losses) == 2
    refitted = joint(**{**params, "refit": True}).fit(X, y)
    assert refitted.temperature_ == tempered.temperature_


@pytest.mark.parametrize(
    ("params", "y"),
    [
        ({"early_stopping": False}, Y),
        ({"temperature": None}, Y),
        ({}, np.eye(3, dtype=int)[Y]),
        ({"target_type": {}}, pd.DataFrame({"kind": Y, "size": X["a"]})),
    ],
    ids=["no validation", "None", "multilabel", "several targets"],
)
def test_temperature_is_one_if_not_fitted(params, y):
    model = joint(max_epochs=1)
    model.fit(X, Y)
    assert model.temperature_ != 1
    assert model.set_params(**params).fit(X, y).temperature_ == 1
