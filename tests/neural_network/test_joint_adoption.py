"""`pretrain="fitted"`: a joint network goes on from the weights of fitted encoders."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_mmfusion import JointFusionClassifier, JointFusionRegressor
from tests._registry import MODALITIES, SMALL_JOINT, classes, modalities, numbers

NAMES = ["image", "text", "audio"]


def one(name):
    """A frame of one modality, and the classes of its rows."""
    X = modalities(names=(name,))
    kept = X[name].notna().to_numpy()
    return X[kept], classes()[kept]


def fitted(name):
    return MODALITIES[name].make().fit(modalities()[name], classes())


def joint(encoders, cls=JointFusionClassifier, **params):
    triples = [(name, FrozenEstimator(encoder), name) for name, encoder in encoders.items()]
    return cls(triples, pretrain="fitted", **{**SMALL_JOINT, **params})


def weights(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


@pytest.mark.parametrize("name", MODALITIES)
def test_a_frozen_rate_keeps_the_weights_of_every_encoder(name):
    X, y = one(name)
    encoder = MODALITIES[name].make().fit(X[name], y)
    model = joint({name: encoder}, encoder_lr=0.0, modality_dropout=0.0).fit(X, y)
    own = encoder.module_.encoder
    for key, value in model.module_.encoders[0].named_parameters():
        assert torch.equal(value, own.get_parameter(key)), key


def test_training_starts_from_the_weights_and_leaves_the_encoders_alone():
    encoders = {name: fitted(name) for name in NAMES}
    before = {name: weights(e.module_) for name, e in encoders.items()}
    kept = {name: pickle.dumps(e) for name, e in encoders.items()}
    model = joint(encoders)
    cross_validate(model, modalities(), classes(), cv=2, error_score="raise")
    model.fit(modalities(), classes())
    for name, encoder in encoders.items():
        assert_equal(weights(encoder.module_), before[name])
        assert pickle.dumps(encoder) == kept[name]
        assert model.named_encoders_[name] is not encoder
    trained = model.module_.encoders[0].state_dict()
    assert not any(
        torch.equal(value, before["image"][f"encoder.{key}"])
        for key, value in trained.items()
        if value.is_floating_point() and key.endswith("weight")
    )


def test_the_vocabulary_of_the_encoder_is_kept():
    X, y = one("text")
    encoder = MODALITIES["text"].make().fit(X["text"][:8], y[:8])
    n_words = encoder.module_.encoder.state_dict()["words.weight"].shape
    model = joint({"text": encoder}).fit(X, y)
    assert model.module_.encoders[0].state_dict()["words.weight"].shape == n_words
    assert pickle.loads(pickle.dumps(model)).predict(X).tolist() == model.predict(X).tolist()
    assert model.predict_one(X.iloc[0].to_dict()) == model.predict(X[:1])[0]


def test_a_later_fit_of_the_encoder_changes_nothing():
    X, y = one("text")
    encoder = MODALITIES["text"].make().fit(X["text"], y)
    model = joint({"text": encoder}).fit(X, y)
    expected = model.predict_proba(X)
    encoder.fit(X["text"].str.upper(), y)
    np.testing.assert_array_equal(model.predict_proba(X), expected)


def test_other_triples_are_as_before():
    X = modalities().assign(number=np.arange(24.0))
    triples = [
        ("image", FrozenEstimator(fitted("image")), "image"),
        ("text", MODALITIES["text"].make(), "text"),
        ("number", make_pipeline(StandardScaler()), ["number"]),
    ]
    model = JointFusionRegressor(triples, pretrain="fitted", **SMALL_JOINT).fit(X, numbers())
    assert np.isfinite(model.predict(X)).all()
    assert len(model.module_.encoders) == 3


def test_both_forms_can_be_searched():
    model = joint({"image": fitted("image")})
    grid = {"pretrain": [False, "fitted"]}
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(*one("image"))
    assert len(search.cv_results_["params"]) == 2


def test_without_a_fitted_encoder_it_is_refused():
    triples = [("image", MODALITIES["image"].make(), "image")]
    model = JointFusionClassifier(triples, pretrain="fitted", **SMALL_JOINT)
    with pytest.raises(ValueError, match="no triple has a fitted encoder in a FrozenEstimator; "):
        model.fit(modalities(), classes())
    inside = FrozenEstimator(make_pipeline(StandardScaler(), fitted("image")))
    with pytest.raises(ValueError, match="holds a whole Pipeline .*expected one around the encod"):
        model.set_params(encoders=[("image", inside, "image")]).fit(modalities(), classes())
    unfitted = [("image", FrozenEstimator(MODALITIES["image"].make()), "image")]
    with pytest.raises(NotFittedError, match="ImageEncoder instance is not fitted"):
        model.set_params(encoders=unfitted).fit(modalities(), classes())
