"""Decision rules on arrays, against identities and other people's formulas."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import approx_fprime
from scipy.special import logsumexp
from scipy.stats import norm
from sklearn.linear_model import LinearRegression
from sklearn.metrics import log_loss

from sklearn_mmfusion.ensemble import rules

RULES = [rules.product, rules.mean, rules.vote, rules.maximum]
SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 3), st.integers(2, 5))


def draw(shape, seed, missing=0.0):
    """Random distributions, and which are there; every row has one."""
    rng = np.random.default_rng(seed)
    answers = rng.dirichlet(np.ones(shape[-1]), shape[:-1])
    mask = rng.random(shape[:2]) >= missing
    mask[rng.integers(shape[0], size=shape[1]), np.arange(shape[1])] = True
    return answers, mask


@given(shape=SHAPES, seed=st.integers(0, 999), missing=st.sampled_from([0.0, 0.5]))
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_of_what_is_there_equals_rule_without_the_rest(rule, shape, seed, missing):
    answers, mask = draw(shape, seed, missing)
    weights = np.random.default_rng(seed).uniform(0.1, 2, shape[0])
    pooled = rule(answers, mask, weights)
    np.testing.assert_allclose(pooled.sum(axis=-1), 1, rtol=1e-12)
    for row in range(shape[1]):
        there = mask[:, row]
        alone = answers[there, row : row + 1]
        expected = rule(alone, np.ones((there.sum(), 1), dtype=bool), weights[there])
        np.testing.assert_allclose(pooled[row : row + 1], expected, rtol=1e-12)


@given(shape=SHAPES, seed=st.integers(0, 999))
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_does_not_depend_on_the_order_of_modalities(rule, shape, seed):
    answers, mask = draw(shape, seed, 0.3)
    weights = np.random.default_rng(seed).uniform(0.1, 2, shape[0])
    order = np.random.default_rng(seed).permutation(shape[0])
    pooled = rule(answers[order], mask[order], weights[order])
    np.testing.assert_allclose(pooled, rule(answers, mask, weights), rtol=1e-10)


def test_product_is_the_softmax_of_summed_log_probabilities():
    answers, mask = draw((3, 8, 1, 4), 0)
    weights = np.array([1.0, 0.5, 2.0])
    logs = sum(w * np.log(p[:, 0]) for w, p in zip(weights, answers, strict=True))
    expected = np.exp(logs - logsumexp(logs, axis=1, keepdims=True))
    np.testing.assert_allclose(rules.product(answers, mask, weights)[:, 0], expected, rtol=1e-12)


def test_product_of_certain_and_opposite_answers_is_finite():
    answers = np.eye(2)[:, None, None, :]
    pooled = rules.product(answers, np.ones((2, 1), dtype=bool), np.ones(2))
    np.testing.assert_allclose(pooled, 0.5)


def test_vote_counts_weights_and_gives_ties_to_the_first_class():
    answers = np.array([[[[0.1, 0.9, 0.0]]], [[[0.2, 0.3, 0.5]]]])
    mask = np.ones((2, 1), dtype=bool)
    np.testing.assert_allclose(rules.vote(answers, mask, np.ones(2))[0, 0], [0, 0.5, 0.5])
    np.testing.assert_allclose(
        rules.vote(answers, mask, np.array([1.0, 3.0]))[0, 0], [0, 0.25, 0.75]
    )


# ------------------------------------------------------------------------------ evidence


def dempster_by_beliefs(one, other):
    """Dempster's rule as it is defined on beliefs and uncertainty, then back to evidence."""
    n_classes = len(one)
    b, c = one / (one.sum() + n_classes), other / (other.sum() + n_classes)
    u, v = 1 - b.sum(), 1 - c.sum()
    conflict = b.sum() * c.sum() - (b * c).sum()
    joint = (b * c + b * v + c * u) / (1 - conflict)
    uncertainty = u * v / (1 - conflict)
    return joint * n_classes / uncertainty


EVIDENCE = st.lists(st.floats(0, 100), min_size=9, max_size=9).map(lambda e: np.reshape(e, (3, 3)))


def combine(*evidence):
    evidence = np.array(evidence)[:, None, None, :]
    return rules.dempster(evidence, np.ones((len(evidence), 1), dtype=bool), None)[0, 0]


@given(EVIDENCE)
def test_evidence_follows_dempsters_rule(evidence):
    a, b, c = evidence
    np.testing.assert_allclose(combine(a, b), dempster_by_beliefs(a, b), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(combine(a, b), combine(b, a), rtol=1e-12)
    np.testing.assert_allclose(combine(combine(a, b), c), combine(a, combine(b, c)), rtol=1e-10)
    np.testing.assert_allclose(combine(a, b, c), combine(combine(a, b), c), rtol=1e-12)
    np.testing.assert_array_equal(combine(a, np.zeros(3)), a)


def test_absent_evidence_is_zero_evidence():
    evidence = np.random.default_rng(0).uniform(0, 9, (3, 4, 1, 5))
    mask = np.ones((3, 4), dtype=bool)
    mask[1, 2] = False
    zero = np.where(mask[:, :, None, None], evidence, 0)
    full = np.ones_like(mask)
    np.testing.assert_array_equal(
        rules.dempster(evidence, mask, None), rules.dempster(zero, full, None)
    )


def test_opposing_evidence_of_1e8_is_finite_in_float32():
    evidence = (1e8 * np.eye(3, dtype=np.float32))[:, None, None, :]
    joint = rules.dempster(evidence, np.ones((3, 1), dtype=bool), None)
    np.testing.assert_allclose(rules.belief(joint), 1 / 3, rtol=1e-6)


# ------------------------------------------------------------------------------ numbers


def test_inverse_variance_is_the_product_of_normal_densities():
    means, deviations = np.array([1.0, 2.0, 4.0]), np.array([0.5, 1.0, 2.0])
    mean, variance = rules.inverse_variance(
        means[:, None, None], np.ones((3, 1), dtype=bool), 1 / deviations[:, None, None] ** 2
    )
    grid = np.linspace(-5, 9, 20_001)
    density = np.prod([norm(m, s).pdf(grid) for m, s in zip(means, deviations, strict=True)], 0)
    density /= density.sum()
    expected = (grid * density).sum()
    assert mean[0, 0] == pytest.approx(expected, abs=1e-6)
    assert variance[0, 0] == pytest.approx((density * (grid - expected) ** 2).sum(), rel=1e-5)


@pytest.mark.filterwarnings("ignore:All-NaN")
@given(seed=st.integers(0, 999))
def test_median_and_mean_are_those_of_what_is_there(seed):
    rng = np.random.default_rng(seed)
    answers, mask = rng.normal(size=(4, 7, 2)), rng.random((4, 7)) > 0.4
    shown = np.where(mask[:, :, None], answers, np.nan)
    some = mask.any(axis=0)
    for rule, expected in ((rules.median, np.nanmedian), (rules.mean, np.nanmean)):
        mine = rule(answers, mask, np.ones(4))
        np.testing.assert_allclose(mine[some], expected(shown[:, some], axis=0), rtol=1e-12)
        np.testing.assert_array_equal(mine[~some], 0)


# ------------------------------------------------------------------------------ learned weights


def learnable(seed, n=400, shape=(3, 4)):
    """Three members of different quality and confidence, absent here and there."""
    rng = np.random.default_rng(seed)
    target = rng.integers(shape[1], size=(n, 1))
    logits = rng.normal(size=(shape[0], n, 1, shape[1]))
    logits += np.array([0.0, 1.5, 3.0])[:, None, None, None] * np.eye(shape[1])[target]
    logits *= np.array([3.0, 1.0, 0.3])[:, None, None, None]
    answers = np.exp(logits - logsumexp(logits, axis=-1, keepdims=True))
    mask = rng.random((shape[0], n)) > 0.2
    mask[0] = True
    return answers, mask, target, rng.uniform(0.5, 2, n)


@pytest.mark.parametrize("loss", [rules._product_loss, rules._mean_loss], ids=["product", "mean"])
def test_slopes_of_the_log_loss_are_right(loss):
    answers, mask, target, weight = learnable(0, n=30)
    answers = np.log(answers) if loss is rules._product_loss else answers
    args = (answers, mask, target, weight / weight.sum())
    at = np.array([0.7, 1.3, 0.4])
    numeric = approx_fprime(at, lambda w: loss(w, *args)[0], 1e-7)
    np.testing.assert_allclose(loss(at, *args)[1], numeric, rtol=1e-4, atol=1e-7)


def test_slope_of_the_squared_error_is_right():
    rng = np.random.default_rng(0)
    args = (rng.normal(size=(3, 20, 2)), rng.random((3, 20)) > 0.3, rng.normal(size=(20, 2)))
    args[1][0] = True
    args = (*args, np.full(20, 1 / 20))
    at = np.array([0.7, 1.3, 0.4])
    numeric = approx_fprime(at, lambda w: rules._mean_error(w, *args)[0], 1e-7)
    np.testing.assert_allclose(rules._mean_error(at, *args)[1], numeric, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("rule", [rules.product, rules.mean], ids=["product", "mean"])
def test_learned_weights_are_the_minimum_of_the_log_loss(rule):
    answers, mask, target, weight = learnable(1)

    def loss(weights):
        pooled = rule(answers, mask, weights)[:, 0]
        penalty = 0.5 * np.sum((weights - 1) ** 2) / weight.sum() if rule is rules.product else 0.0
        return log_loss(target[:, 0], pooled, sample_weight=weight, labels=range(4)) + penalty

    learned = rules.fit_weights(rule, answers, mask, target, weight, 3)
    best = loss(learned)
    assert best < loss(np.ones(3)) - 0.01
    close = 1e-7 if rule is rules.product else 5e-4  # of a mean the penalty moves the ratios
    for step in np.vstack([np.eye(3), -np.eye(3)]) * 0.02:
        assert loss(np.maximum(learned + step, 1e-3)) >= best - close
    assert learned[0] < learned[2]  # the first is confident and wrong


@pytest.mark.parametrize("numbers", [False, True])
def test_learned_weights_equal_those_of_repeated_rows(numbers):
    outputs, mask, target, _ = learnable(2, n=60)
    rule, counts = rules.product, np.random.default_rng(0).integers(0, 3, 60)
    if numbers:
        rule, outputs, target = rules.mean, outputs[..., 0], target.astype(float)
    rows = np.repeat(np.arange(60), counts)
    weighted = rules.fit_weights(rule, outputs, mask, target, counts, 3)
    repeated = (outputs[:, rows], mask[:, rows], target[rows], np.ones(len(rows)), 3)
    np.testing.assert_allclose(weighted, rules.fit_weights(rule, *repeated), rtol=1e-4)


def test_learned_weights_of_numbers_equal_least_squares_on_the_simplex():
    rng = np.random.default_rng(0)
    n = 50_000  # enough for the penalty to be nothing
    truth = rng.normal(size=(n, 1))
    answers = truth + np.array([0.5, 1.0])[:, None, None] * rng.normal(size=(2, n, 1))
    mask = np.ones((2, n), dtype=bool)
    learned = rules.fit_weights(rules.mean, answers, mask, truth, np.ones(n), 2)
    # y - b = w (a - b) for weights w and 1 - w
    a, b = answers[:, :, 0]
    w = LinearRegression(fit_intercept=False).fit((a - b)[:, None], truth[:, 0] - b).coef_[0]
    np.testing.assert_allclose(learned / learned.sum(), [w, 1 - w], atol=1e-4)
    tiny = rules.fit_weights(rules.mean, answers * 1e-6, mask, truth * 1e-6, np.ones(n), 2)
    np.testing.assert_allclose(tiny, learned, rtol=1e-3)


def test_learned_exponents_stay_bounded_where_every_row_is_easy():
    answers = np.tile([[[[0.99, 0.01]]]], (2, 20, 1, 1))
    target, mask = np.zeros((20, 1), dtype=int), np.ones((2, 20), dtype=bool)
    learned = rules.fit_weights(rules.product, answers, mask, target, np.ones(20), 2)
    assert (learned < 3).all()


def test_very_much_evidence_is_finite():
    evidence = np.full((40, 1, 1, 3), 1e12)
    joint = rules.dempster(evidence, np.ones((40, 1), dtype=bool), None)
    np.testing.assert_allclose(rules.belief(joint), 1 / 3)


def test_weight_of_what_is_never_there_stays_one():
    answers, mask, target, weight = learnable(0)
    mask[1] = False
    assert rules.fit_weights(rules.product, answers, mask, target, weight, 3)[1] == 1
    nothing = np.zeros_like(mask)
    assert rules.fit_weights(rules.mean, answers, nothing, target, weight, 3).tolist() == [1] * 3
