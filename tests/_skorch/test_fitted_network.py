"""Where fitted networks predict, what they keep, and what a device out of memory raises."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn

from sklearn_mmfusion import (
    FusionTransformer,
    ImageEncoder,
    JointFusionClassifier,
    LateFusionClassifier,
    NeuralClassifier,
    TextEncoder,
    make_multimodal_classification,
    multimodal_frame,
)
from sklearn_mmfusion._skorch import fitted_network
from sklearn_mmfusion._torch import place_fitted
from tests._registry import MODALITIES, SMALL_IMAGE, classes, images

N = 40
WORDS = [" ".join(["ash", "elm"][i % 2] for _ in range(3)) for i in range(N)]


def features():
    return np.random.default_rng(0).normal(size=(N, 4)).astype(np.float32)


def classifier(**params):
    return NeuralClassifier((4,), **{"max_epochs": 1, "random_state": 0, **params})


def joint(**params):
    encoder = TextEncoder(n_components=4)
    return JointFusionClassifier(
        [("text", encoder, "text"), ("table", "passthrough", ["a"])],
        **{"n_components": 4, "max_epochs": 1, "random_state": 0, **params},
    )


def frame():
    return multimodal_frame(text=WORDS, a=features()[:, 0])


Y = np.arange(N) % 2
MODELS = {
    "perceptron": (classifier, features),
    "encoder": (lambda **p: TextEncoder(n_components=4, max_epochs=1, random_state=0, **p), None),
    "joint": (joint, frame),
    "pretrained joint": (lambda **p: joint(pretrain=True, fusion="logits", **p), frame),
}


def fit(name, **params):
    make, data = MODELS[name]
    X = WORDS if data is None else data()
    return make(**params).fit(X, Y), X


def output(model, X):
    return model.predict_proba(X) if hasattr(model, "predict_proba") else model.transform(X)


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_a_fitted_network_keeps_no_gradients(name, early_stopping):
    model, _ = fit(name, early_stopping=early_stopping)
    assert [n for n, p in model.module_.named_parameters() if p.grad is not None] == []


@pytest.mark.parametrize("name", MODELS)
def test_a_fit_inside_another_default_device_is_the_same(name):
    model, X = fit(name, device="cpu")
    with torch.device("meta"):
        inside, _ = fit(name, device="cpu")
        np.testing.assert_array_equal(output(inside, X), output(model, X))
        again = pickle.loads(pickle.dumps(inside))
        np.testing.assert_array_equal(output(again, X), output(model, X))
    torch.set_default_device("meta")
    try:
        inside, _ = fit(name, device="cpu")
    finally:
        torch.set_default_device(None)
    np.testing.assert_array_equal(output(inside, X), output(model, X))


# ------------------------------------------------------------------------------ where it predicts


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device must be unavailable")
@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_a_gpu_predicts_without_one_and_warns_once(name):
    model, X = fit(name)
    again = pickle.loads(pickle.dumps(model.set_params(device="cuda")))
    with pytest.warns(UserWarning, match=r"device='cuda' is not available here.*the CPU") as caught:
        result = output(again, X)
    assert len(caught) == 1
    np.testing.assert_array_equal(result, output(model.set_params(device="cpu"), X))
    with pytest.raises(ValueError, match="device='cuda', but torch finds no GPU"):
        again.fit(X, Y)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device must be unavailable")
@pytest.mark.parametrize("name", ["perceptron", "joint"])
def test_a_single_row_follows_the_rule_of_batches(name):
    model, X = fit(name)
    row = X[3] if name == "perceptron" else X.iloc[3].to_dict()
    expected = model.predict_proba_one(row)
    model.set_params(device="cuda")
    with pytest.warns(UserWarning, match="device='cuda' is not available here") as caught:
        np.testing.assert_array_equal(model.predict_proba_one(row), expected)
    assert len(caught) == 1


@pytest.mark.parametrize("name", ["perceptron", "joint"])
def test_a_network_is_moved_to_the_device_of_the_estimator(name, monkeypatch):
    # "meta" plays a GPU on which the model was fitted: the weights come from a copy.
    model, X = fit(name, device="cpu")
    row = X[3] if name == "perceptron" else X.iloc[3].to_dict()
    placed = []

    def place(module, device, owner):
        placed.append((module, device))
        return place_fitted(module, device, owner)

    monkeypatch.setattr(fitted_network, "place_fitted", place)
    model.predict_proba(X), model.predict_proba_one(row)
    assert placed == [(model.module_, "cpu")] * 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device must be unavailable")
@pytest.mark.parametrize("composition", [FusionTransformer, LateFusionClassifier])
def test_setting_the_device_of_a_child_reaches_its_fitted_copy(composition):
    X, y = make_multimodal_classification(30, modalities=("image", "text"), random_state=0)
    shared = {"n_components": 4, "max_epochs": 1, "random_state": 0, "device": "cpu"}
    scaled = make_pipeline(FunctionTransformer(), ImageEncoder(**shared))
    triples = [("image", scaled, "image"), ("text", TextEncoder(**shared), "text")]
    model = composition(triples).fit(X, y)
    expected = output(model, X)
    model.set_params(text__device="cuda", image__imageencoder__device="cuda", text__lr=0.5)
    with pytest.warns(UserWarning, match="device='cuda' is not available here") as caught:
        np.testing.assert_array_equal(output(model, X), expected)
    assert len(caught) == 2
    children = getattr(model, "named_transformers_", None) or model.named_estimators_
    assert children["text"].get_params()["lr"] != 0.5
    composition(triples).set_params(text__device="cpu")  # not fitted: the estimator itself only


def test_a_module_that_is_elsewhere_is_moved():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        moved = []
        module = nn.Linear(2, 2)
        module.to = moved.append
        assert place_fitted(module, "cpu", "a model") == "cpu" and moved == []
        assert place_fitted(module, "meta", "a model") == "meta" and moved == ["meta"]
        assert place_fitted(nn.ReLU(), "cpu", "a model") == "cpu"  # has no parameters


# ------------------------------------------------------------------------------ out of memory


class Hungry(nn.Module):
    """Raises what a full GPU does, in training or in evaluation mode."""

    in_training = True

    def __init__(self, in_features, n_outputs):
        super().__init__()
        self.layer = nn.Linear(in_features, n_outputs)

    def forward(self, features):
        if self.training == self.in_training:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return self.layer(features)


class HungryLater(Hungry):
    in_training = False


def test_out_of_memory_in_fit_names_the_batch_size():
    with pytest.raises(torch.OutOfMemoryError, match="out of memory") as caught:
        classifier(module=Hungry, batch_size=16).fit(features(), Y)
    (note,) = caught.value.__notes__
    assert "NeuralClassifier trained on cpu with batch_size=16. Lower batch_size" in note


def test_out_of_memory_in_predict_names_the_batch_size():
    model = classifier(module=HungryLater).fit(features(), Y)
    with pytest.raises(torch.OutOfMemoryError, match="out of memory") as caught:
        model.predict(features())
    (note,) = caught.value.__notes__
    assert "batch_size=256 on cpu" in note


# ------------------------------------------------------------------------------ parameters of fit


@pytest.mark.parametrize("name", MODALITIES)
def test_unpickled_encoder_builds_no_network_to_encode(name, monkeypatch):
    modality = MODALITIES[name]
    encoder = modality.make().fit(modality.cells(), classes())
    expected = encoder.transform(modality.cells())
    encoder = pickle.loads(pickle.dumps(encoder))
    monkeypatch.setattr(type(encoder), "build_module", None)
    np.testing.assert_array_equal(encoder.transform(modality.cells()), expected)


CHANGES = [
    ("text", {"lowercase": False}),
    ("text", {"max_features": 2}),
    ("image", {"image_size": (5, 5)}),
    ("image", {"channels": (4, 4)}),
    ("audio", {"sample_rate": 4000}),
    ("audio", {"front_end__n_mels": 7}),
    ("point_cloud", {"n_components": 4}),
]


@pytest.mark.parametrize(("name", "change"), CHANGES, ids=str)
def test_warm_start_refuses_another_preparation(name, change):
    modality = MODALITIES[name]
    encoder = modality.make().set_params(warm_start=True).fit(modality.cells(), classes())
    expected = encoder.transform(modality.cells())
    encoder = pickle.loads(pickle.dumps(encoder)).set_params(**change)
    with pytest.raises(ValueError, match=f"warm_start=True, but {next(iter(change))} changed"):
        encoder.fit(modality.cells(), classes())
    np.testing.assert_array_equal(encoder.transform(modality.cells()), expected)
    encoder.set_params(warm_start=False).fit(modality.cells(), classes())


def test_warm_start_takes_other_parameters_of_training():
    encoder = MODALITIES["text"].make().set_params(warm_start=True, class_weight="balanced")
    cells = MODALITIES["text"].cells()
    expected = [p.detach().clone() for p in encoder.fit(cells, classes()).module_.parameters()]
    encoder.set_params(lr=1e-9, dropout=0.1, max_epochs=1, random_state=3, class_weight=None)
    weights = list(encoder.fit(cells, classes()).module_.parameters())
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-7)  # not those of a new network
    assert encoder.n_iter_ == 1


def test_image_shape_of_new_rows_is_that_of_fit():
    rows = images().reshape(len(images()), -1)
    encoder = ImageEncoder(**SMALL_IMAGE, image_shape=(8, 8)).fit(rows, classes())
    expected = encoder.transform(rows)
    np.testing.assert_array_equal(encoder.set_params(image_shape=None).transform(rows), expected)
