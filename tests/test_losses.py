"""The table of losses: what each suits, what it returns, how its outputs are decoded."""

import numpy as np
import pytest
import torch
from scipy.special import softmax

from sklearn_mmfusion._losses import LOSSES, criterion_for, losses_for, resolve_loss
from sklearn_mmfusion._validation import TARGET_TYPES


@pytest.mark.parametrize("kind", TARGET_TYPES)
def test_every_kind_of_target_has_a_default_loss(kind):
    default, *others = losses_for(kind)
    assert resolve_loss("auto", kind, "a model") == default
    for name in LOSSES.keys() - {default, *others}:
        with pytest.raises(ValueError, match=f"a model: loss='{name}' does not fit: .* is {kind}"):
            resolve_loss(name, kind, "a model")


@pytest.mark.parametrize("name", LOSSES)
def test_activations_in_numpy_and_torch_agree(name):
    loss = LOSSES[name]
    if loss.nonlinearity is None:
        pytest.skip("scoring callbacks see the outputs as they are")
    outputs = np.random.default_rng(0).normal(scale=5, size=(6, 3))
    expected = loss.nonlinearity(torch.from_numpy(outputs)).numpy()
    np.testing.assert_allclose(loss.activation(outputs), expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["cross_entropy", "binary_cross_entropy", "evidential"])
def test_probabilities_of_large_outputs_are_finite(name):
    # exp overflows in float64 above 709
    outputs = np.array([[800.0, -800.0, 0.0], [-3000.0, -3001.0, -3000.0]])
    proba = LOSSES[name].activation(outputs)
    expected = {
        "cross_entropy": [[1, 0, 0], softmax([0.0, -1.0, 0.0])],
        "binary_cross_entropy": [[1, 0, 0.5], [0, 0, 0]],
        # softplus of the outputs, plus one
        "evidential": [np.array([801, 1, 1 + np.log(2)]) / (803 + np.log(2)), [1 / 3] * 3],
    }
    np.testing.assert_allclose(proba, expected[name], rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("name", LOSSES)
def test_criteria_return_one_loss_per_row(name):
    criterion, options = criterion_for(name, label_smoothing=0.1)
    assert ("label_smoothing" in options) == (name == "cross_entropy")
    codes = LOSSES[name].kinds[0] in ("binary", "multiclass")
    target = torch.tensor([0, 2]) if codes else torch.ones(2, 3)
    assert len(criterion(**options)(torch.zeros(2, 3), target)) == 2
