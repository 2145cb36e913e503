"""The table of losses: what each suits, what it returns, how its outputs are decoded."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from torch import nn

from sklearn_mmfusion._losses import (
    LOSSES,
    MultiTaskLoss,
    criterion_for,
    losses_for,
    resolve_loss,
)
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


# ------------------------------------------------------------------------------ several targets


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-10)


def normal(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def make_tasks():
    """Classes in three outputs, two numbers, a number whose loss is absolute."""
    return [
        (nn.CrossEntropyLoss(reduction="none"), slice(0, 3), slice(0, 1), True, 1.0),
        (nn.MSELoss(reduction="none"), slice(3, 5), slice(1, 3), False, 2.5),
        (nn.L1Loss(reduction="none"), slice(5, 6), slice(3, 4), False, 1.0),
    ]


def losses_by_hand(output, target):
    """Loss of each row and task (N, 3), NaN where the target is not known."""
    classes = target[:, 0]
    codes = np.where(np.isnan(classes), 0, classes).astype(int)
    picked = -log_softmax(output[:, :3], axis=1)[np.arange(len(output)), codes]
    squared = ((output[:, 3:5] - target[:, 1:3]) ** 2).mean(axis=1)
    absolute = np.abs(output[:, 5] - target[:, 3])
    return np.stack([np.where(np.isnan(classes), np.nan, picked), squared, absolute], axis=1)


@pytest.mark.parametrize("weights", [[0.5, 2.0, 0.0], None])
@given(st.lists(st.sets(st.integers(0, 3)), min_size=1, max_size=6))
def test_multi_task_loss_equals_the_sum_by_hand(weights, unknown):
    output, target = normal(len(unknown), 6).requires_grad_(), normal(len(unknown), 4, seed=1)
    target[:, 0] = torch.arange(len(unknown)) % 3
    for row, columns in enumerate(unknown):
        target[row, list(columns)] = torch.nan
    loss = MultiTaskLoss(make_tasks(), weights=weights).double()
    losses = losses_by_hand(output.detach().numpy(), target.numpy())
    if weights is None:
        assert loss.log_variances.tolist() == [0.0] * 3
        s = np.array([0.4, -0.7, 1.1])
        loss.log_variances.data = torch.from_numpy(s)
        losses = (np.exp(-s) * losses + s) * [1, 0.5, 0.5]
    else:
        assert not list(loss.parameters())
        losses = losses * weights
    rows = loss(output, target)
    close(rows.detach().numpy(), np.nansum(losses * [1.0, 2.5, 1.0], axis=1))
    rows.sum().backward()
    assert output.grad.isfinite().all()
    for row, columns in enumerate(unknown):
        if 0 in columns:
            assert not output.grad[row, :3].any()
        if columns & {1, 2}:
            assert not output.grad[row, 3:5].any()


def test_learned_log_variances_rest_at_the_logarithm_of_the_mean_loss():
    output, target = normal(9, 6), normal(9, 4, seed=1)
    target[:, 0] = torch.arange(9) % 3
    target[4:, 2] = torch.nan
    loss = MultiTaskLoss(make_tasks()).double()
    mean = np.nanmean(losses_by_hand(output.numpy(), target.numpy()), axis=0)
    loss.log_variances.data = torch.from_numpy(np.log(mean))
    loss(output, target).sum().backward()
    close(loss.log_variances.grad, torch.zeros(3, dtype=torch.float64))
