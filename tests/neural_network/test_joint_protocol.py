"""An encoder of a user's own, which is no subclass of ours, as part of a joint network."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler
from torch import nn

from sklearn_mmfusion import JointFusionClassifier, multimodal_frame

ROWS = 60


class LetterNetwork(nn.Module):
    """Counts of letters through one layer; each letter is a token."""

    token_features = 1

    def __init__(self, n_letters, out_features):
        super().__init__()
        self.out_features = out_features
        self.layer = nn.Linear(n_letters, out_features)

    def forward(self, counts):
        return self.layer(counts.to(self.layer.weight.dtype))

    def tokens(self, counts):
        values = counts[..., None].to(self.layer.weight.dtype)
        return self(counts), values, torch.ones_like(counts, dtype=torch.bool)


class LetterEncoder(TransformerMixin, BaseEstimator):
    """Counts of the letters seen in training, by the encoder protocol alone."""

    wants_column = True

    def __init__(self, n_components=4):
        self.n_components = n_components

    def fit_prepare(self, X, y=None):
        self.letters_ = sorted(set("".join(X)))
        return self.prepare(X)

    def prepare(self, X):
        return {"counts": np.array([[text.count(x) for x in self.letters_] for text in X], "f4")}

    def build_module(self):
        return LetterNetwork(len(self.letters_), self.n_components)

    def fit(self, X, y=None):
        raise AssertionError("a joint network trains the module itself")

    def transform(self, X):
        raise AssertionError("a joint network runs the module itself")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        return tags


def make_data():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, ROWS)
    texts = ["".join(rng.choice(list("aab" if label else "abb"), 12)) for label in y]
    texts[3] = None
    return multimodal_frame(text=texts, table=rng.normal(size=(ROWS, 2))), y


def make_model(**params):
    triples = [("text", LetterEncoder(), "text"), ("table", "passthrough", "table")]
    defaults = {"max_epochs": 40, "early_stopping": False, "n_components": 8, "random_state": 0}
    return JointFusionClassifier(triples, **{**defaults, **params})


@pytest.mark.parametrize("fusion", ["concat", "attention"])
def test_own_encoder_is_trained_with_the_network(fusion):
    X, y = make_data()
    model = make_model(fusion=fusion).fit(X, y)
    assert model.score(X, y) > 0.8
    present = X["text"].notna()
    with pytest.warns(UserWarning, match="lacks columns"):
        alone = {name: model.score(X.loc[present, [name]], y[present]) for name in X.columns}
    assert alone["text"] > 0.75 > alone["table"]
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy.predict_proba(X), model.predict_proba(X))
    assert model.predict_one({"text": "aaab"}) == 1


class InPlaceEncoder(LetterEncoder):
    """Numbers of each row, scaled where they lie, by torch, which ignores read-only flags."""

    wants_column = False

    def prepare(self, X):
        self.letters_ = "abc"
        return {"counts": torch.from_numpy(X).mul_(2).numpy()}

    def fit_prepare(self, X, y=None):
        return self.prepare(X)


@pytest.mark.parametrize("own", [InPlaceEncoder(), StandardScaler(copy=False)])
def test_what_writes_into_its_input_writes_into_a_copy(own):
    numbers = np.random.default_rng(0).normal(size=(ROWS, 3)).astype(np.float32)
    kept, X = numbers.copy(), multimodal_frame(rows=numbers)
    model = JointFusionClassifier([("rows", own, "rows")], max_epochs=2, random_state=0)
    model.fit(X, np.arange(ROWS) % 2)
    expected = model.predict_proba(X)[3]
    for _ in range(2):
        np.testing.assert_allclose(model.predict_proba_one({"rows": numbers[3]}), expected, 1e-5)
    np.testing.assert_array_equal(numbers, kept)


def test_own_encoder_is_searched_and_cloned():
    X, y = make_data()
    search = GridSearchCV(make_model(max_epochs=2), {"text__n_components": [2, 3]}, cv=2).fit(X, y)
    width = search.best_params_["text__n_components"]
    assert search.best_estimator_.module_.encoders[0].out_features == width
    assert not hasattr(clone(search.best_estimator_).encoders[0][1], "letters_")
