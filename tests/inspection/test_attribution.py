"""Integrated gradients of modalities: axioms, analytic linear models, and what is refused."""

import sys

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch import nn

from sklearn_mmfusion import (
    AudioEncoder,
    FusionTransformer,
    ImageEncoder,
    JointFusionClassifier,
    LateFusionClassifier,
    NeuralClassifier,
    SequenceEncoder,
    TextCleaner,
    TextEncoder,
    multimodal_frame,
)
from sklearn_mmfusion.inspection import modality_attribution
from sklearn_mmfusion.inspection.attribution import token_spans
from sklearn_mmfusion.preprocessing.text import Tokenizer

pytest.importorskip("captum")

RNG = np.random.default_rng(0)
N = 24
y = np.array(["no", "yes", "maybe"])[np.arange(N) % 3]
IMAGES = RNG.integers(0, 256, (N, 6, 5)).astype(np.uint8)
TEXTS = [f"the {word} one {i}" for i, word in enumerate(np.tile(["poor", "good", "odd"], 8))]
SOUNDS = [RNG.standard_normal(900 + 40 * i).astype(np.float32) for i in range(N)]
X = multimodal_frame(image=IMAGES, text=TEXTS, audio=SOUNDS)
SHORT = {"max_epochs": 1, "early_stopping": False, "random_state": 0}
TRIPLES = [
    ("image", ImageEncoder(4, channels=(4,), **SHORT), "image"),
    ("text", TextEncoder(4, embedding_dim=4, **SHORT), "text"),
    ("audio", AudioEncoder(4, sample_rate=8000, **SHORT), "audio"),
]


class LinearPixels(nn.Module):
    """A linear map of the pixels, blind to the first one."""

    def __init__(self, in_channels, image_size, out_features):
        super().__init__()
        self.out_features = out_features
        self.linear = nn.Linear(in_channels * image_size[0] * image_size[1], out_features)
        with torch.no_grad():
            self.linear.weight[:, 0] = 0

    def forward(self, pixels):
        blind = torch.ones(pixels[0].numel())
        blind[0] = 0
        return self.linear(pixels.float().flatten(1) * blind / 255)


@pytest.fixture(scope="module")
def linear():
    return ImageEncoder(4, module=LinearPixels, **SHORT).fit(X["image"], y)


@pytest.fixture(scope="module")
def pipeline():
    head = NeuralClassifier((8,), linear_share=0, max_epochs=2, random_state=0)
    return make_pipeline(FusionTransformer(TRIPLES), head).fit(X, y)


@pytest.fixture(scope="module")
def joint():
    return JointFusionClassifier(TRIPLES, n_components=4, linear_share=0, **SHORT).fit(X, y)


@pytest.mark.parametrize("baseline", ["zero", "mean", "auto"])
def test_attributions_of_a_linear_network_are_its_weights_times_the_change(linear, baseline):
    found = modality_attribution(linear, X["image"][:5], target="maybe", baseline=baseline)
    module, code = linear.module_, list(linear.classes_).index("maybe")
    with torch.no_grad():
        weight = (module.head.weight[code] @ module.encoder.linear.weight).numpy() / 255
    weight[0] = 0
    origin = 0 if baseline == "zero" else float(IMAGES.mean())
    for image, attribution in zip(IMAGES, found.attributions, strict=False):
        expected = (image.astype(float) - origin) * weight.reshape(6, 5)
        assert np.allclose(attribution, expected[None], atol=1e-5)
        assert attribution[0, 0, 0] == 0  # the network cannot see this pixel
    assert np.allclose(found.errors, 0, atol=1e-5)
    assert found.targets == ["maybe"] * 5
    assert np.array_equal(found.inputs[2], IMAGES[2][None])


@pytest.mark.parametrize("name", ["image", "text", "audio"])
def test_attributions_of_encoders_are_complete(name):
    encoder = dict((name, encoder) for name, encoder, _ in TRIPLES)[name].fit(X[name], y)
    found = modality_attribution(encoder, X[name][:4], n_steps=100)
    assert (found.modality, found.kind) == (name, name)
    sums = [attribution.sum() for attribution in found.attributions]
    assert np.allclose(sums - (found.outputs - found.baseline_outputs), found.errors)
    assert np.abs(found.errors).max() < 0.05 * np.abs(found.attributions[0]).sum() + 1e-3
    labels = encoder.classes_[encoder.predict_head(X[name][:4]).argmax(axis=1)]
    assert found.targets == list(labels)
    if name == "text":
        assert found.inputs[0] == ["the", "poor", "one", "0"]
    again = modality_attribution(encoder, X[name][:4], n_steps=100)
    assert all(map(np.array_equal, found.attributions, again.attributions))


@pytest.mark.parametrize("kind", ["pipeline", "joint"])
@pytest.mark.parametrize("name", ["image", "text", "audio"])
def test_outputs_of_compositions_are_those_of_predictions(request, kind, name):
    model = request.getfixturevalue(kind)
    some = X.iloc[:3].copy()
    some.loc[some.index[1], name] = None
    some.loc[some.index[2], "audio" if name == "image" else "image"] = None
    logits = [
        modality_attribution(model, some, modality=name, target=label)
        for label in model.classes_[:2]
    ]
    proba = np.log(model.predict_proba(some)[:, :2])
    difference = (proba[:, 0] - proba[:, 1]) * getattr(model, "temperature_", 1.0)
    found = logits[0].outputs - logits[1].outputs
    assert np.allclose(found[[0, 2]], difference[[0, 2]], atol=1e-4)
    assert np.isnan(found[1])
    for one in logits:
        assert one.attributions[1] is one.inputs[1] is one.targets[1] is None
        for row in (0, 2):  # a coarse integral over networks of a few rectified units
            assert abs(one.errors[row]) < 0.05 * np.abs(one.attributions[row]).sum() + 0.01
        assert np.nanmax(np.abs(one.outputs - one.baseline_outputs)) > 0


def test_baseline_of_a_composition_is_the_row_with_a_black_image(pipeline):
    black = X.iloc[:3].assign(image=list(np.zeros((3, 6, 5), dtype=np.uint8)))
    given = {"modality": "image", "n_steps": 10}
    found = modality_attribution(pipeline, X.iloc[:3], baseline="zero", target="yes", **given)
    expected = modality_attribution(pipeline, black, target="yes", **given)
    assert np.allclose(found.baseline_outputs, expected.outputs, atol=1e-5)


def test_frozen_encoders_and_those_after_a_cleaner_are_found(linear):
    cleaned = make_pipeline(TextCleaner(), TextEncoder(4, embedding_dim=4, **SHORT))
    triples = [("image", FrozenEstimator(linear), "image"), ("text", cleaned, "text")]
    head = NeuralClassifier((8,), linear_share=0, max_epochs=1, random_state=0)
    model = make_pipeline(FusionTransformer(triples), head).fit(X, y)
    image, text = (
        modality_attribution(model, X.iloc[:2], modality=name, target="no", n_steps=10)
        for name in ("image", "text")
    )
    assert np.allclose(image.outputs, text.outputs, atol=1e-5)  # equal rows, two paths
    assert text.inputs[1] == ["the", "good", "one", "1"]
    nothing = X.iloc[:2].assign(image=None)
    with pytest.warns(UserWarning, match="no present row"):
        absent = modality_attribution(model, nothing, modality="image")
    assert absent.attributions == [None, None]


def test_estimator_is_left_unchanged(joint):
    before = {k: v.clone() for k, v in joint.module_.state_dict().items()}
    modality_attribution(joint, X.iloc[:2], modality="text", n_steps=3)
    assert all(torch.equal(v, before[k]) for k, v in joint.module_.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in joint.module_.parameters())


def test_words_without_meaning_have_no_attribution():
    """Unknown tokens are at their baseline already."""
    encoder = TextEncoder(4, architecture="gru", embedding_dim=4, **SHORT).fit(TEXTS, y)
    found = modality_attribution(encoder, ["poor never seen", "", "one"], target="no")
    assert found.inputs == [["poor", "never", "seen"], [], ["one"]]
    assert found.attributions[0][0] != 0
    assert np.array_equal(found.attributions[0][1:], [0, 0])
    assert found.attributions[1].shape == (0,)
    assert np.abs(found.errors).max() < 1e-3


def test_given_word_vectors_are_attributed():
    vectors = {word: RNG.standard_normal(4).astype(np.float32) for word in ("poor", "good", "odd")}
    encoder = TextEncoder(4, embeddings=vectors, embedding_dim=4, **SHORT).fit(TEXTS, y)
    found = modality_attribution(encoder, TEXTS[:2])
    assert np.abs(found.errors).max() < 0.02


def test_numbers_are_in_the_units_of_the_target():
    values = 1000 + 50 * np.arange(N, dtype=float)
    sequences = [RNG.standard_normal((8 + i, 2)).astype(np.float32) for i in range(N)]
    encoder = SequenceEncoder(4, target_type="continuous", **SHORT).fit(sequences, values)
    found = modality_attribution(encoder, sequences[:3])
    assert np.allclose(found.outputs, encoder.predict_head(sequences[:3])[:, 0], rtol=1e-5)
    assert [a.shape for a in found.attributions] == [(8, 2), (9, 2), (10, 2)]
    assert found.targets == [0, 0, 0]


@pytest.mark.parametrize(
    ("analyzer", "ngram_range"),
    [("char", (1, 4)), ("char", (2, 3)), ("word", (1, 1)), ("word", (1, 3))],
)
@pytest.mark.parametrize("text", ["a bad film", "x", ""])
def test_token_spans_are_those_of_the_tokenizer(analyzer, ngram_range, text):
    starts, stops = token_spans(text, analyzer, ngram_range)
    padded = f" {text} "
    tokens = [padded[a:b] for a, b in zip(starts, stops, strict=True)]
    assert tokens == Tokenizer(analyzer, ngram_range=ngram_range)._analyze(text)


def test_unsupported_estimators_are_refused(pipeline):
    late = LateFusionClassifier(TRIPLES)
    for other in (late, LogisticRegression(), make_pipeline(FusionTransformer(TRIPLES), late)):
        with pytest.raises(TypeError, match=f"got {type(other).__name__}; expected a fitted enc"):
            modality_attribution(other, X)
    fusion = FusionTransformer(TRIPLES[:2], fusion="mean").fit(X, y)
    head = pipeline[-1]
    with pytest.raises(TypeError, match="fusion='mean', which has no gradient"):
        modality_attribution(make_pipeline(fusion, head), X)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, r"modality=None; expected one of \['image', 'text', 'audio'\]"),
        ({"modality": "video"}, "modality='video'; expected one of"),
        ({"modality": "text", "baseline": "zero"}, "baseline='zero' of texts; expected 'auto'"),
        ({"modality": "image", "baseline": "black"}, "baseline='black'; expected one of"),
        ({"modality": "image", "n_steps": 0}, "n_steps=0; expected an integer of at least 1"),
        ({"modality": "image", "target": "never"}, r"target has 'never'; expected one of \['maybe"),
        ({"modality": "image", "target": ["no", "yes"]}, "target has length 2; expected one label"),
    ],
)
def test_wrong_arguments_are_refused(pipeline, changes, message):
    with pytest.raises(ValueError, match=message):
        modality_attribution(pipeline, X.iloc[:3], **changes)


def test_captum_is_named(monkeypatch, linear):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    message = r"modality_attribution needs captum: pip install 'sklearn-mmfusion\[explain\]'"
    with pytest.raises(ImportError, match=message):
        modality_attribution(linear, X["image"])
