"""Shapley values and interaction indices: axioms, brute force, planted contributions."""

from itertools import combinations, permutations
from math import factorial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

from sklearn_mmfusion import FusionTransformer, LateFusionClassifier, multimodal_frame
from sklearn_mmfusion.inspection import modality_importance, modality_interaction
from sklearn_mmfusion.inspection.importance import (
    sampled_shapley_interactions,
    sampled_shapley_values,
    shapley_interactions,
    shapley_values,
    summarize,
)

GAMES = st.integers(1, 5).flatmap(
    lambda m: st.lists(st.floats(-9, 9), min_size=2**m, max_size=2**m).map(np.array)
)


def n_players(values):
    return int(np.log2(len(values)))


def of_set(values, players):
    return values[sum(1 << p for p in players)]


def brute_force_values(values):
    """Average gain over all orders, one after another."""
    m = n_players(values)
    totals = np.zeros(m)
    for order in permutations(range(m)):
        for k, player in enumerate(order):
            totals[player] += of_set(values, order[: k + 1]) - of_set(values, order[:k])
    return totals / factorial(m)


def brute_force_interaction(values, i, j):
    """Merge both players into one: its gain, minus each one's gain in the game without the other.

    Grabisch and Roubens (1999) derive the index from this recursion.
    """
    others = [p for p in range(n_players(values)) if p not in (i, j)]

    def value_of(player, rest):
        """Shapley value of a set of players that joins as one."""
        seats, total = [player, *((p,) for p in rest)], 0.0
        for order in permutations(range(len(seats))):
            before = [p for seat in order[: order.index(0)] for p in seats[seat]]
            total += of_set(values, [*before, *player]) - of_set(values, before)
        return total / factorial(len(seats))

    return value_of((i, j), others) - value_of((i,), others) - value_of((j,), others)


@given(GAMES)
def test_values_equal_brute_force(values):
    found = shapley_values(values)
    np.testing.assert_allclose(found, brute_force_values(values), atol=1e-12)
    assert found.sum() == pytest.approx(values[-1] - values[0], abs=1e-12)


@given(GAMES)
def test_interactions_equal_brute_force(values):
    found, m = shapley_interactions(values), n_players(values)
    expected = np.zeros((m, m))
    for i, j in combinations(range(m), 2):
        expected[i, j] = expected[j, i] = brute_force_interaction(values, i, j)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@given(GAMES, st.data())
def test_players_that_are_alike_or_useless(values, draw):
    """A null player has nothing, players of the same gains the same; permuting permutes."""
    m = n_players(values)
    coalitions = np.arange(2**m)
    null = draw.draw(st.integers(0, m - 1))
    without = values[coalitions & ~(1 << null)]
    assert shapley_values(without)[null] == 0
    np.testing.assert_allclose(shapley_interactions(without)[null], 0, atol=1e-12)
    order = draw.draw(st.permutations(range(m)))
    moved = [sum(1 << order[p] for p in range(m) if c >> p & 1) for c in coalitions]
    np.testing.assert_allclose(
        shapley_values(values[moved]), shapley_values(values)[order], atol=1e-12
    )
    np.testing.assert_allclose(
        shapley_interactions(values[moved]),
        shapley_interactions(values)[np.ix_(order, order)],
        atol=1e-12,
    )


@given(GAMES)
def test_all_orders_together_are_exact(values):
    m = n_players(values)
    orders = np.array(list(permutations(range(m))))

    def game(coalitions):
        found = values[coalitions.astype(int)]
        return np.stack([found, 2 * found])

    found = sampled_shapley_values(game, orders)
    assert found.shape == (2, len(orders), m)
    np.testing.assert_allclose(found[0].mean(axis=0), shapley_values(values), atol=1e-12)
    np.testing.assert_allclose(found[1], 2 * found[0])
    if m > 1:
        found = sampled_shapley_interactions(game, orders)[0].mean(axis=0)
        np.testing.assert_allclose(found, shapley_interactions(values), atol=1e-12)


# ------------------------------------------------------------------------------ estimators


class Voter(ClassifierMixin, BaseEstimator):
    """Sign of a weighted sum of columns, NA counting as 0."""

    def __init__(self, weights=()):
        self.weights = weights

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return (np.nan_to_num(np.asarray(X, dtype=float)) @ self.weights > 0).astype(int)


def accuracy(model, X, y):
    return np.mean(model.predict(X) == y)


def votes(weights, n=300, seed=0):
    X = pd.DataFrame(np.random.default_rng(seed).normal(size=(n, len(weights))))
    X.columns = [f"m{j}" for j in range(len(weights))]
    y = (X.to_numpy() @ np.array(weights) > 0).astype(int)
    return Voter(tuple(weights)).fit(X, y), X, y


def test_importances_sum_to_the_gain_and_are_those_of_the_table():
    model, X, y = votes([3.0, 1.0, 0.0, 1.0])
    result = modality_importance(model, X, y, scoring="accuracy")
    values = result.coalitions["score"].to_numpy()
    present = result.coalitions[result.modalities].to_numpy()
    assert present.dtype == bool
    np.testing.assert_array_equal(present @ [1, 2, 4, 8], np.arange(16))
    np.testing.assert_allclose(result.importances, brute_force_values(values), atol=1e-12)
    assert result.importances.sum() == pytest.approx(result.score_all - result.score_none)
    assert result.score_all == 1.0 and result.score_none == np.mean(y == 0)
    assert result.importances[2] == 0.0
    assert result.importances[0] > 2 * result.importances[1] > 0
    assert (result.standard_errors == 0).all()
    assert result.modalities == ["m0", "m1", "m2", "m3"] and result.scorer == "accuracy"
    whole = modality_importance(model, X, y, modalities={"all of them": list(X)})
    assert whole.importances.tolist() == [whole.score_all - whole.score_none]


def test_equal_modalities_share_equally():
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(300, 2)), columns=["left", "right"])
    X["right"] = X["left"]
    y = (X["left"] > 0).to_numpy().astype(int)
    result = modality_importance(Voter((1.0, 1.0)).fit(X, y), X, y)
    assert result.importances[0] == result.importances[1] > 0.2
    both = modality_interaction(Voter((1.0, 1.0)).fit(X, y), X, y)
    assert both.interactions[0, 1] == -2 * result.importances[0]  # fully redundant


def xor(n=400):
    rng = np.random.default_rng(0)
    bits = rng.integers(2, size=(n, 4))
    y = bits[:, 0] ^ bits[:, 1]
    cells = bits[:, :, None] + 0.1 * rng.normal(size=(n, 4, 2))
    return multimodal_frame(**{name: cells[:, j] for j, name in enumerate("abcd")}), y


def test_interaction_finds_a_planted_xor():
    X, y = xor()
    triples = [(name, "passthrough", name) for name in "abcd"]
    model = make_pipeline(FusionTransformer(triples), DecisionTreeClassifier(random_state=0))
    model.fit(X[:200], y[:200])
    result = modality_interaction(model, X[200:], y[200:], n_jobs=2)
    inter = result.interactions
    np.testing.assert_array_equal(inter, inter.T)
    assert (np.diag(inter) == 0).all()
    assert inter[0, 1] > 0.35
    assert np.abs(inter[np.triu_indices(4, 1)][1:]).max() < 0.1
    assert (result.standard_errors == 0).all()


# ------------------------------------------------------------------------------ sampling


@pytest.mark.parametrize(
    ("sampled", "exact"),
    [
        (sampled_shapley_values, shapley_values),
        (sampled_shapley_interactions, shapley_interactions),
    ],
)
def test_sampled_orders_have_honest_standard_errors(sampled, exact):
    rng = np.random.default_rng(0)
    values = rng.normal(size=2**6)
    truth, ratios = exact(values), []
    for _ in range(40):
        orders = rng.permuted(np.tile(np.arange(6), (30, 1)), axis=1)
        found, errors = summarize(sampled(lambda c: values[c.astype(int)][None], orders), False)
        pairs = ... if found.ndim == 1 else np.triu_indices(6, 1)
        ratios.append(((found - truth) / np.where(errors > 0, errors, 1))[pairs])
    # t statistics: mean 0, variance a little above 1
    assert abs(np.mean(ratios)) < 0.15
    assert 0.85 < np.mean(np.square(ratios)) < 1.25


def test_many_modalities_are_sampled():
    model, X, y = votes([2.0, 1.5, 1, 1, 1, 0.5, 0.5, 0.3, 0], n=50)
    options = {"scoring": accuracy, "n_permutations": 3, "random_state": 0}
    result = modality_importance(model, X, y, **options)
    again = modality_importance(model, X, y, n_jobs=2, **options)
    np.testing.assert_array_equal(result.importances, again.importances)
    assert result.standard_errors[8] == 0 == result.importances[8]
    assert (result.standard_errors > 0).any() and np.isfinite(result.standard_errors).all()
    assert result.importances.sum() == pytest.approx(result.score_all - result.score_none)
    assert 9 < len(result.coalitions) <= 2 + 3 * 8 + 9
    pairs = modality_interaction(model, X, y, **options)
    np.testing.assert_array_equal(pairs.interactions, pairs.interactions.T)
    assert (pairs.interactions[8] == 0).all()
    with pytest.raises(ValueError, match="n_permutations=1; expected an integer of at least 2"):
        modality_importance(model, X, y, n_permutations=1)


@pytest.mark.parametrize("n_columns", [63, 70])
def test_coalitions_may_have_more_players_than_an_integer_has_bits(n_columns):
    weights = np.arange(1.0, n_columns + 1)

    def game(coalitions):  # additive, but for a bonus of 5 to the last two together
        last = 3 << n_columns - 2
        bonus = np.array([5.0 * (int(c) & last == last) for c in coalitions])
        return bonus[None] + [
            [sum(w for m, w in enumerate(weights) if int(c) >> m & 1) for c in coalitions]
        ]

    orders = np.array([np.arange(n_columns), np.arange(n_columns)[::-1]])
    expected = weights.copy()
    expected[-2:] += 2.5
    np.testing.assert_allclose(sampled_shapley_values(game, orders)[0].mean(axis=0), expected)
    pairs = sampled_shapley_interactions(game, orders)[0].mean(axis=0)
    assert pairs[-1, -2] == 5 and np.abs(pairs).sum() == pytest.approx(10)


def test_standard_errors_of_permuted_rows():
    model, X, y = votes([1.0, 1.0], n=60)
    options = {"absent": "permute", "scoring": accuracy}
    once = modality_importance(model, X, y, random_state=0, **options)
    assert np.isnan(once.standard_errors).all() and np.isfinite(once.importances).all()
    more = modality_importance(model, X, y, n_repeats=20, random_state=0, **options)
    runs = [
        modality_importance(model, X, y, random_state=seed, **options).importances
        for seed in range(1, 41)
    ]
    expected = np.std(runs, axis=0, ddof=1) / np.sqrt(20)
    np.testing.assert_allclose(more.standard_errors, expected, rtol=0.5)
    np.testing.assert_allclose(more.importances, np.mean(runs, axis=0), atol=5 * expected.max())


@pytest.mark.parametrize("absent", ["auto", "permute"])
def test_jobs_and_repeated_seeds_give_the_same_bits(absent):
    X, y = xor(60)
    late = LateFusionClassifier(
        [(name, LogisticRegression(), name) for name in "abc"], fusion="mean"
    ).fit(X, y)
    options = {"scoring": "neg_log_loss", "absent": absent, "n_repeats": 2}
    one = modality_importance(late, X, y, random_state=3, **options)
    two = modality_importance(late, X, y, random_state=3, n_jobs=2, **options)
    np.testing.assert_array_equal(one.importances, two.importances)
    pd.testing.assert_frame_equal(one.coalitions, two.coalitions)
    other = modality_importance(late, X, y, random_state=4, **options)
    assert np.array_equal(one.importances, other.importances) == (absent == "auto")
    # a permutation belongs to a modality, whatever others there are
    fewer = {"modalities": {"a": "a", "b": "b"}}
    some = modality_importance(late, X, y, random_state=3, **options, **fewer)
    merged = one.coalitions.set_index(["a", "b", "c"])["score"]
    kept = some.coalitions.set_index(["a", "b"])["score"]
    assert merged[False, True, True] == kept[False, True]


def test_random_state_leaves_the_global_state_alone():
    model, X, y = votes([1.0, 1.0])
    before = np.random.get_state()[1].copy()
    modality_importance(model, X, y, absent="permute", random_state=0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_strings_of_any_kind_are_names_of_modalities():
    model, X, y = votes([1.0, 0.5])
    X.columns = ["score", "the left sensor (mV)"]
    result = modality_importance(model, X, y)
    assert result.modalities == ["score", "the left sensor (mV)"]
    assert list(result.coalitions.columns) == ["score", "the left sensor (mV)", "score"]
