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

from sklearn_mmfusion import (
    AudioEncoder,
    FusionTransformer,
    JointFusionClassifier,
    PointCloudEncoder,
    TextEncoder,
)
from sklearn_mmfusion._skorch import fixed_steps, trainer
from sklearn_mmfusion.corruptions.table import PRESETS
from sklearn_mmfusion.feature_extraction import base
from tests._media import recording
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


# Corruptions of cells: so weak that they change nothing, or nearly nothing, and strong ones.
NOTHING = {"text": [("swap", {"share": 1e-12})], "audio": [("gain", {"decibels": 1e-9})]}
MUCH = {"text": [("swap", {"severity": 5})], "audio": [("noise", {"snr": 1.0})]}


@pytest.mark.parametrize("name", NOTHING)
def test_copies_of_cells_replace_them_in_training(name, monkeypatch):
    plain, copies = features(name, fit(name, None)), features(name, fit(name, NOTHING[name]))
    assert np.allclose(copies, plain, rtol=1e-3, atol=1e-4, equal_nan=True)
    noisy = features(name, fit(name, MUCH[name]))
    assert not np.allclose(noisy, plain, rtol=1e-2, atol=1e-2, equal_nan=True)
    assert not np.array_equal(noisy, features(name, fit(name, MUCH[name], augment_copies=1)))
    monkeypatch.setattr(base, "CHUNK", 5)
    assert np.array_equal(noisy, features(name, fit(name, MUCH[name])), equal_nan=True)


def test_copies_are_prepared_once(monkeypatch):
    texts, look_up = [], TextEncoder._look_up

    def counted(self, clean):
        texts.append(clean)
        return look_up(self, clean)

    monkeypatch.setattr(TextEncoder, "_look_up", counted)
    fit("text", MUCH["text"], augment_copies=3, max_epochs=6)
    assert len(texts) == 4 and len({tuple(part) for part in texts}) == 4


@pytest.mark.parametrize("name", NOTHING)
def test_copies_in_fixed_shapes(name, fixed):
    steps = fixed()
    encoder = fit(name, MUCH[name] + NOTHING[name])
    assert steps and np.isfinite(encoder.history_[-1]["train_loss"])


@pytest.mark.slow
def test_copies_in_a_joint_network(tmp_path):
    X, y = modalities(names=("image", "text")), classes()
    model = JointFusionClassifier(encoders(("image", "text")), warm_start=True, **SMALL_JOINT)
    results = {}
    for key, augment in {"plain": None, "same": NOTHING["text"], "much": MUCH["text"]}.items():
        model = clone(model).set_params(text__augment=augment, memory=tmp_path)
        once = model.fit(X, y).predict_proba(X)
        twice = model.fit(X, y).predict_proba(X)  # from the weights of the first fit
        assert np.array_equal(clone(model).fit(X, y).predict_proba(X), once)  # from the store
        results[key] = once, twice
    assert np.array_equal(results["plain"], results["same"])
    assert all((a != b).any() for a, b in zip(results["plain"], results["much"], strict=True))


def test_copies_of_files(tmp_path):
    for i in range(8):
        rate = 8000 if i < 4 else 16000
        content = recording(np.sin(np.arange(900) / (i + 2)), "WAV", "PCM_16", rate)
        (tmp_path / f"{i}.wav").write_bytes(content)
    paths, y = [str(tmp_path / f"{i}.wav") for i in range(8)], [0, 1] * 4
    params = {"n_components": 4, "max_epochs": 2, "early_stopping": False, "random_state": 0}
    encoder = AudioEncoder(sample_rate=8000, augment=MUCH["audio"], **params)
    assert np.isfinite(encoder.fit(paths[:4], y[:4]).transform(paths[:4])).all()
    encoder.set_params(resample=True)
    with pytest.raises(ValueError, match=r"sample rates of \[8000.*16000.*\] Hz; expected one"):
        encoder.fit(paths, y)


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
        ("text", [("typo", {"n": 1})], r"TextEncoder: augment: 'typo' has parameters \['n'\]"),
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


def test_a_custom_encoder_needs_only_the_name_of_its_modality(monkeypatch):
    plain = features("point_cloud", fit("point_cloud", None))
    monkeypatch.setattr(PointCloudEncoder, "_modality", "audio")
    nothing, much = (
        features("point_cloud", fit("point_cloud", [("gain", {"decibels": d})])) for d in (1e-9, 40)
    )
    assert np.allclose(nothing, plain, rtol=1e-3, atol=1e-4, equal_nan=True)
    assert not np.allclose(much, plain, rtol=1e-2, atol=1e-2, equal_nan=True)


def test_digits_of_numbers_can_be_mistyped():
    X, y = np.random.default_rng(0).normal(size=(20, 3)), [0, 1] * 10
    encoder = MODALITIES["text"].make(augment=[("typo", {"severity": 5})], max_epochs=1)
    assert np.isfinite(encoder.fit_transform(X, y)).all()
