"""The linear model of a joint network's tables: what it reads, and its share of the outputs."""

import pickle

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import StandardScaler

from sklearn_mmfusion import (
    ImageEncoder,
    JointFusionClassifier,
    JointFusionRegressor,
    multimodal_frame,
)
from sklearn_mmfusion._torch import DenseRows, FusionInputs, Inputs
from sklearn_mmfusion.neural_network.joint_fusion.table_model import TableShare
from tests._registry import SMALL_JOINT, images

N_ROWS = 60
SHARED = {**SMALL_JOINT, "max_epochs": 2, "random_state": 0}


def frame(missing=()):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(N_ROWS, 3)), columns=list("abc"))
    y = np.where(X["a"] + 0.3 * rng.normal(size=N_ROWS) > 0, "high", "low")
    X["title"] = np.where(y == "high", "red wine", "white wine")
    X["vector"] = list(rng.normal(size=(N_ROWS, 2)))
    X.loc[list(missing), "vector"] = None
    return X, y


def joint(cls=JointFusionClassifier, **params):
    triples = [
        ("numbers", "passthrough", ["a", "b", "c"]),
        ("text", TfidfVectorizer(dtype=np.float32), "title"),
    ]
    return cls(params.pop("encoders", triples), **{**SHARED, **params})


def solved_by_hand(X, y, alpha):
    """Penalized logistic regression of standardized features by scipy: W and b for X as it is."""
    scaler = StandardScaler().fit(X)
    Z, codes = scaler.transform(X), (y == "low").astype(int)
    n, d = Z.shape

    def loss(theta):
        W, b = theta[: 2 * d].reshape(d, 2), theta[2 * d :]
        log_proba = log_softmax(Z @ W + b, axis=1)
        return -log_proba[np.arange(n), codes].mean() + alpha / 2 / n * (W**2).sum()

    theta = minimize(loss, np.zeros(2 * d + 2), method="BFGS", options={"gtol": 1e-7}).x
    W = theta[: 2 * d].reshape(d, 2) / scaler.scale_[:, None]
    return W, theta[2 * d :] - scaler.mean_ @ W


def test_a_whole_share_is_a_penalized_logistic_regression():
    X, y = frame()
    model = joint(
        encoders=[("numbers", "passthrough", ["a", "b", "c"])], linear_share=1.0, temperature=None
    )
    proba = model.fit(X, y).predict_proba(X)
    table = X[["a", "b", "c"]].to_numpy()
    fits = [solved_by_hand(table, y, alpha) for alpha in (1000, 100, 10, 1, 0.1, 0.01)]
    found = [softmax(table @ W + b, axis=1) for W, b in fits]
    assert min(np.abs(each - proba).max() for each in found) < 2e-3


def test_the_share_mixes_logits():
    (X, y), share = frame(), 0.3
    models = [joint(linear_share=s, temperature=None).fit(X, y) for s in (0.0, share, 1.0)]
    network, mixed, linear = (np.log(model.predict_proba(X)) for model in models)
    expected = softmax((1 - share) * network + share * linear, axis=1)
    np.testing.assert_allclose(np.exp(mixed), expected, atol=1e-5)
    assert [model.linear_share_ for model in models] == [0.0, share, 1.0]


def test_the_network_does_not_depend_on_the_share():
    X, y = frame()
    weights = [joint(linear_share=s).fit(X, y).module_.state_dict() for s in (0.0, 0.5)]
    for name, value in weights[0].items():
        assert value.equal(weights[1][name]), name


def test_the_linear_model_wins_where_the_network_learns_nothing():
    X, y = frame()
    still = joint(lr=1e-12).fit(X, y)
    assert still.linear_share_ > 0  # however little: the temperature scales it
    assert still.score(X, y) >= 0.9


def test_sparse_and_dense_tables_share_a_model():
    X, y = frame()
    dense = [
        ("numbers", "passthrough", ["a", "b", "c"]),
        ("text", Dense(), "title"),
    ]
    proba = [m.fit(X, y).predict_proba(X) for m in (joint(), joint(encoders=dense))]
    np.testing.assert_allclose(*proba, atol=1e-4)


class Dense(TfidfVectorizer):
    """TF-IDF as an array."""

    def __init__(self, dtype=np.float32):
        super().__init__(dtype=dtype)

    def transform(self, raw_documents):
        return super().transform(raw_documents).toarray()

    def fit_transform(self, raw_documents, y=None):
        return super().fit_transform(raw_documents, y).toarray()


def test_rows_without_a_table_are_left_to_the_network():
    X, y = frame(missing=range(0, N_ROWS, 4))
    triples = [("numbers", "passthrough", ["a", "b", "c"]), ("vector", "passthrough", "vector")]
    network = joint(encoders=triples, linear_share=0.0, temperature=None).fit(X, y)
    mixed = joint(encoders=triples, linear_share=0.5, temperature=None).fit(X, y)
    changed = np.abs(network.predict_proba(X) - mixed.predict_proba(X)).max(1) > 1e-6
    np.testing.assert_array_equal(changed, X["vector"].notna())


def test_one_row_pickles_and_streams_use_the_share():
    X, y = frame()
    model = joint(linear_share=0.7).fit(X, y)
    proba = model.predict_proba(X)
    row = X.iloc[5].drop("vector").to_dict()
    np.testing.assert_allclose(model.predict_proba_one(row), proba[5], atol=1e-6)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict_proba(X), proba)


def test_numbers_are_predicted_in_the_units_of_the_target():
    X, _ = frame()
    y = 1000 + 50 * X["a"].to_numpy() - 20 * X["b"].to_numpy()
    model = joint(JointFusionRegressor, linear_share=1.0).fit(X, y)
    assert model.score(X, y) > 0.99
    assert joint(JointFusionRegressor, lr=1e-12).fit(X, y).linear_share_ == 1.0


def test_encoders_alone_have_no_linear_model():
    X = multimodal_frame(image=images(), other=images())
    triples = [("image", ImageEncoder(), "image"), ("other", ImageEncoder(), "other")]
    y = np.arange(len(X)) % 2
    assert joint(encoders=triples).fit(X, y).linear_share_ == 0.0


def test_no_share_without_validation_rows_or_for_several_targets():
    X, y = frame()
    assert joint(early_stopping=False).fit(X, y).linear_share_ == 0.0
    targets = pd.DataFrame({"class": y, "number": X["a"]})
    kinds = {"class": "multiclass", "number": "continuous"}
    assert joint(target_type=kinds, linear_share=0.5).fit(X, targets).linear_share_ == 0.0


@given(st.integers(0, 2**20), st.floats(0, 1), st.booleans())
def test_mixing_equals_a_loop_over_rows(bits, share, is_sparse):
    rng = np.random.default_rng(bits)
    present = np.array([[bits >> (2 * i) & 1, bits >> (2 * i + 1) & 1] for i in range(10)], bool)
    tables = [rng.normal(size=(10, d)).astype(np.float32) for d in (2, 3)]
    outputs, W, b = rng.normal(size=(10, 2)), rng.normal(size=(5, 2)), rng.normal(size=2)
    parts = {}
    for m, (name, table) in enumerate(zip("uv", tables, strict=True)):
        rows = table[present[:, m]]
        rows = sparse.csr_matrix(rows) if is_sparse and m else rows
        parts[name] = Inputs(features=DenseRows(rows)) if len(table) else None, present[:, m]
    mixed = TableShare(["u", "v"], W, b, share).mix(FusionInputs(parts), outputs)
    for i in range(10):
        expected = outputs[i]
        if present[i].all():
            linear = np.concatenate([tables[0][i], tables[1][i]]) @ W + b
            expected = (1 - share) * outputs[i] + share * linear
        np.testing.assert_allclose(mixed[i], expected, rtol=1e-6, atol=1e-9)


def test_tables_that_no_row_has_together_have_no_linear_model():
    X, y = frame(missing=range(0, N_ROWS, 2))
    X["other"] = X["vector"].array[np.r_[1:N_ROWS, 0]]
    triples = [(name, "passthrough", name) for name in ("vector", "other")]
    model = joint(encoders=triples, linear_share=0.5).fit(X, y)
    assert model.linear_share_ == 0.0
