"""The evidential loss against integrals over the distributions it is made of."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import beta, dirichlet
from torch.nn.functional import softplus

from sklearn_mmfusion.modules.objectives import EvidentialLoss, kl_from_uniform

OUTPUT = torch.tensor([[0.3, -1.0], [2.5, 2.0], [-3.0, 4.0]], dtype=torch.float64)
TARGET = torch.tensor([0, 1, 1])


def test_evidential_loss_is_the_expected_cross_entropy():
    loss = EvidentialLoss(kl_weight=0.0, reduction="none")(OUTPUT, TARGET)
    for row, own, value in zip((softplus(OUTPUT) + 1).numpy(), TARGET, loss, strict=True):
        density = beta(row[own], row[1 - own])
        expected, _ = quad(lambda p, density=density: -np.log(p) * density.pdf(p), 0, 1)
        assert float(value) == pytest.approx(expected, rel=1e-6)


def test_divergence_from_uniform_is_its_integral():
    alpha = torch.tensor([[1.0, 1.0], [2.0, 3.5], [9.0, 1.0]], dtype=torch.float64)
    for row, value in zip(alpha.numpy(), kl_from_uniform(alpha), strict=True):
        density = beta(*row)
        expected, _ = quad(lambda p, d=density: d.pdf(p) * d.logpdf(p), 0, 1)
        assert float(value) == pytest.approx(expected, abs=1e-7)
    three = np.array([1.5, 2.0, 4.0])  # KL = entropy of the uniform distribution less its own
    expected = dirichlet([1, 1, 1]).entropy() - dirichlet(three).entropy()
    mine = float(kl_from_uniform(torch.from_numpy(three)[None]))
    rows = np.random.default_rng(0).dirichlet(three, 200_000)
    sampled = np.mean(dirichlet(three).logpdf(rows.T)) - dirichlet([1, 1, 1]).logpdf([0.2, 0.3])
    assert mine == pytest.approx(sampled, abs=0.01)
    assert mine == pytest.approx(expected, abs=1e-9)


def test_own_evidence_is_free_and_other_evidence_costs():
    at = torch.tensor([[3.0, 0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    (own,) = torch.autograd.grad(EvidentialLoss()(at, torch.tensor([0])), at)
    (other,) = torch.autograd.grad(EvidentialLoss()(at, torch.tensor([1])), at)
    assert own[0, 0] < 0 < other[0, 0]
    without = EvidentialLoss(0.0)(at, torch.tensor([0]))
    alpha = torch.cat([torch.ones(1, 1), softplus(at[:, 1:]) + 1], dim=1)
    with_pull = without + 0.5 * kl_from_uniform(alpha.double())[0]
    torch.testing.assert_close(EvidentialLoss(0.5)(at, torch.tensor([0])), with_pull)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_evidential_loss_has_right_gradients_and_reductions(reduction):
    criterion = EvidentialLoss(reduction=reduction)
    output = OUTPUT.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: criterion(x, TARGET), output)
    rows = EvidentialLoss(reduction="none")(OUTPUT, TARGET)
    expected = rows if reduction == "none" else getattr(rows, reduction)()
    torch.testing.assert_close(criterion(OUTPUT, TARGET), expected)


def test_large_outputs_are_finite():
    output = torch.tensor([[1e6, -1e6], [1e6, 1e6]], requires_grad=True)
    loss = EvidentialLoss(reduction="sum")(output, torch.tensor([1, 0]))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(output.grad).all()
