"""`augment=` of every encoder, alone and in a joint network."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torch import nn

from sklearn_mmfusion import FusionTransformer, JointFusionClassifier
from sklearn_mmfusion._skorch import fixed_steps, trainer
from sklearn_mmfusion.corruptions.table import PRESETS
from tests._registry import MODALITIES, N_ROWS, SMALL_JOINT, classes, encoders, modalities

CALLS = []  # rows of the batches that a `Recorder` has seen; copies share it


class Recorder(nn.Module):
    """Add 0.1, and count calls."""

    def __init__(self, added=0.1):
        super().__init__()
        self.added = added
        self.register_buffer("n_calls", torch.zeros(()))

    def forward(self, values):
        CALLS.append(len(values))
        self.n_calls += 1
        return (values + self.added).to(values.dtype)


class LikeKornia(nn.Module):
    """Dim each image; strict about its input, and with parameters drawn on the host."""

    def forward(self, input, params=None, **kwargs):
        if not input.is_floating_point():
            raise TypeError(f"Expected a float tensor; got {input.dtype}")
        assert input.ndim == 4 and input.min() >= 0 and input.max() <= 1
        return input * torch.rand(len(input)).to(input.device)[:, None, None, None]


@pytest.fixture(autouse=True)
def no_calls():
    CALLS.clear()


@pytest.fixture
def fixed(monkeypatch):
    """Have training take fixed steps on the CPU, as on a GPU; count them."""
    steps, run = [], fixed_steps.FixedSteps._run

    def counted(self, *shape):
        steps.append(shape)
        return run(self, *shape)

    def switch_on():
        monkeypatch.setattr(fixed_steps, "DEVICES", ("cpu",))
        monkeypatch.setattr(trainer, "resident", lambda inputs, device: inputs.to(device))
        monkeypatch.setattr(fixed_steps.FixedSteps, "_run", counted)
        return steps

    return switch_on


def fit(name, augment, **params):
    modality = MODALITIES[name]
    return modality.make(augment=augment, **params).fit(modality.column(), classes())


def features(name, encoder):
    return encoder.transform(MODALITIES[name].column())


@pytest.mark.parametrize("name", MODALITIES)
def test_presets_change_the_training_and_repeat(name):
    found = {a: features(name, fit(name, a)) for a in (None, "light", "strong")}
    distinct = {values.tobytes() for values in found.values()}
    assert len(distinct) == 3
    named = [(n, {"severity": s}) for n, s in PRESETS[name]["light"].items()]
    assert np.array_equal(found["light"], features(name, fit(name, named)), equal_nan=True)


def test_only_training_batches_are_augmented():
    encoder = fit("image", Recorder(), batch_size=8, validation_fraction=0.25)
    n_valid = N_ROWS - 1 - CALLS[0] - CALLS[1] - CALLS[2]
    assert 0 < n_valid < 8  # 23 rows are present
    epochs = 2 * (N_ROWS - 1 - n_valid) + encoder.n_iter_ * (N_ROWS - 1)
    assert sum(CALLS) == epochs  # training, then the refit on all rows
    CALLS.clear()
    features("image", encoder), encoder.predict_head(MODALITIES["image"].column())
    assert CALLS == []


def test_an_instance_stays_as_it_was():
    recorder = Recorder()
    encoder = fit("image", recorder)
    assert CALLS and recorder.n_calls == 0
    assert encoder.augment is recorder
    assert clone(encoder).augment.added == 0.1
    again = pickle.loads(pickle.dumps(encoder))
    assert np.array_equal(features("image", again), features("image", encoder), equal_nan=True)


def test_a_strict_module_on_images_works_unchanged():
    assert np.isfinite(fit("image", LikeKornia()).history_[-1]["train_loss"])


def test_kornia_works_unchanged():
    kornia = pytest.importorskip("kornia.augmentation")
    assert fit("image", kornia.RandomAffine(10.0)).n_iter_


@pytest.mark.parametrize("name", [n for n in MODALITIES if n != "text"])
def test_fixed_shapes_see_the_same_augmentation(name, fixed):
    params = {"dropout": 0.0, "max_epochs": 1, "early_stopping": False}
    if name == "image":
        params["module_params"] = {"max_shift": 0.0}

    def first_loss(augment):  # of the only step
        return fit(name, augment, **params).history_[0]["train_loss"]

    gathered, without = first_loss(torch.square), first_loss(None)
    steps = fixed()
    assert first_loss(torch.square) == pytest.approx(gathered, rel=1e-5)
    assert len(steps) == 1
    assert without != pytest.approx(gathered, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["light", "strong"])
def test_joint_network_in_both_layouts(preset, fixed):
    X, y = modalities(), classes()
    triples = [(n, encoder.set_params(augment=preset), c) for n, encoder, c in encoders()]
    model = JointFusionClassifier(triples, pretrain=True, **SMALL_JOINT)
    proba = model.fit(X, y).predict_proba(X)
    assert np.array_equal(proba, clone(model).fit(X, y).predict_proba(X))
    plain = clone(model).set_params(**{f"{n}__augment": None for n, _, _ in triples})
    assert not np.array_equal(proba, plain.fit(X, y).predict_proba(X))
    steps = fixed()
    assert np.isfinite(clone(model).fit(X, y).predict_proba(X)).all()
    assert steps


def test_joint_network_augments_each_modality_also_in_pretraining():
    X, y = modalities(), classes()
    triples = encoders()
    triples[0][1].set_params(augment=Recorder())
    params = {**SMALL_JOINT, "early_stopping": False, "max_epochs": 3}
    JointFusionClassifier(triples, **params).fit(X, y)
    alone, n_present = sum(CALLS), N_ROWS - 1
    assert alone == 3 * n_present
    CALLS.clear()
    JointFusionClassifier(triples, pretrain=True, **params).fit(X, y)
    assert sum(CALLS) == 2 * alone


def test_augment_can_be_searched_and_cached(tmp_path):
    X, y = modalities(), classes()
    model = FusionTransformer(encoders(["image"]), memory=tmp_path, random_state=0)
    X = X.dropna()
    y = y[X.index]
    pipeline = make_pipeline(model, LogisticRegression())
    values, n_calls = [None, Recorder(0.1), Recorder(0.3)], []
    for _ in range(2):
        search = GridSearchCV(pipeline, {"fusiontransformer__image__augment": values}, cv=2)
        assert np.isfinite(search.fit(X, y).cv_results_["mean_test_score"]).all()
        n_calls.append(len(CALLS))
    assert 0 < n_calls[0] == n_calls[1]  # in the second search, all fits come from the store


def test_warm_start_may_change_it():
    modality = MODALITIES["image"]
    encoder = fit("image", None, warm_start=True)
    encoder.set_params(augment=Recorder()).fit(modality.column(), classes())
    assert CALLS


@pytest.mark.parametrize(
    ("name", "augment", "message"),
    [
        ("image", "weak", "augment' parameter of ImageEncoder must be a str among"),
        ("image", [("time_mask", {})], "ImageEncoder: augment: image has no corruption"),
        ("text", [("typo", {})], "TextEncoder: augment: 'typo' acts on the cells of a column"),
        ("audio", Recorder, "AudioEncoder: augment=Recorder is a class"),
    ],
)
def test_a_bad_value_leaves_the_encoder_as_it_was(name, augment, message):
    modality = MODALITIES[name]
    encoder = modality.make(augment=augment)
    before = dict(vars(encoder))
    with pytest.raises((ValueError, TypeError), match=message):
        encoder.fit(modality.column(), classes())
    with pytest.raises((ValueError, TypeError), match=message):
        encoder.fit_prepare(modality.column()[2:])
    assert vars(encoder) == before
