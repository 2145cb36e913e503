"""BlockImputer against scikit-learn's Ridge and planted truths."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from sklearn_mmfusion.cross_decomposition import BlockImputer
from tests._blocks import make_blocks, make_frame, make_related

PATTERNS = [p for p in product([False, True], repeat=3) if 0 < sum(p) < 3]


@pytest.mark.parametrize("alpha", [0.1, 50.0, None])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_learnt_from_complete_rows_it_is_ridge_for_every_pattern(pattern, alpha):
    blocks, mask = make_related()
    fitted = BlockImputer(alpha=alpha).fit(make_frame(blocks))
    X_t = fitted.transform(make_frame(blocks, mask & pattern))
    known, absent = (
        np.hstack([X for X, is_in in zip(blocks.values(), pattern, strict=True) if is_in == there])
        for there in (True, False)
    )
    scaler, target = StandardScaler().fit(known), StandardScaler().fit(absent)
    ridge = Ridge(alpha=known.shape[1] if alpha is None else alpha)
    ridge.fit(scaler.transform(known), target.transform(absent))
    predicted = target.inverse_transform(ridge.predict(scaler.transform(known)))
    for name, is_in in zip(blocks, pattern, strict=True):
        slot, width = fitted.output_indices_[name], blocks[name].shape[1]
        if is_in:
            np.testing.assert_array_equal(X_t[:, slot], blocks[name])
        else:
            np.testing.assert_allclose(X_t[:, slot], predicted[:, :width], atol=1e-8)
            predicted = predicted[:, width:]


def test_rows_of_all_patterns_are_filled_as_if_alone():
    blocks, mask = make_related(missing=0.4)
    X = make_frame(blocks, mask)
    fitted = BlockImputer().fit(X)
    X_t = fitted.transform(X)
    for row in range(0, len(X), 5):
        np.testing.assert_allclose(X_t[[row]], fitted.transform(X.iloc[[row]]), atol=1e-10)


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_planted_linear_data_are_recovered(missing):
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(400, 3))
    blocks = {name: 3 + shared @ rng.normal(size=(3, 6)) for name in "ab"}
    mask = rng.random((400, 2)) >= missing
    mask[:, 0] |= ~mask[:, 1]
    mask[:40, 1] = False
    mask[:40, 0] = True
    filled = BlockImputer(alpha=1.0).fit_transform(make_frame(blocks, mask))
    residual = filled[:40, 6:] - blocks["b"][:40]
    share = residual.var(axis=0) / blocks["b"].var(axis=0)
    assert (share < (0.05 if missing else 0.005)).all()


@given(seed=st.integers(0, 999), dtype=st.sampled_from([np.float32, np.float64]))
def test_nothing_absent_gives_the_input_side_by_side(seed, dtype):
    blocks, mask = make_blocks(missing=0.3, widths=(2, 5, 3), seed=seed, dtype=dtype)
    X_t = BlockImputer().fit(make_frame(blocks, mask)).transform(make_frame(blocks))
    assert X_t.dtype == dtype
    np.testing.assert_array_equal(X_t, np.hstack(list(blocks.values())))


def test_a_row_with_nothing_gets_the_means():
    blocks, mask = make_blocks(missing=0.2)
    mask[4] = False
    X_t = BlockImputer().fit_transform(make_frame(blocks, mask))
    means = [X[mask[:, j]].mean(axis=0) for j, X in enumerate(blocks.values())]
    np.testing.assert_allclose(X_t[4], np.hstack(means))


# ------------------------------------------------------------------------------ covariances


def available_case(blocks, mask):
    """Covariances of standardised features, a loop over pairs of blocks and their common rows."""
    rows = [
        np.where(m[:, None], (X - X[m].mean(axis=0)) / X[m].std(axis=0), np.nan)
        for X, m in zip(blocks.values(), mask.T, strict=True)
    ]
    M = len(rows)
    pairs = [[None] * M for _ in range(M)]
    for i, j in product(range(M), repeat=2):
        both = mask[:, i] & mask[:, j]
        pairs[i][j] = rows[i][both].T @ rows[j][both] / both.sum()
    return np.block(pairs)


def test_covariances_come_from_rows_that_have_both_blocks():
    blocks, mask = make_related(n=500, missing=0.2)
    expected = available_case(blocks, mask)
    assert np.linalg.eigvalsh(expected)[0] > 0  # or it would be mended
    covariance = BlockImputer().fit(make_frame(blocks, mask)).covariance_
    np.testing.assert_allclose(covariance, expected, atol=1e-10)


def test_each_block_is_penalised_by_its_own_number_of_rows():
    blocks, mask = make_related(n=500, missing=0.2)
    mask[:250, 0] = False
    mask[:250, 1:] = True
    fitted = BlockImputer(alpha=20.0).fit(make_frame(blocks, mask))
    C, known = available_case(blocks, mask), slice(0, 10)
    penalty = np.repeat(20.0 / mask[:, :2].sum(axis=0), [4, 6])
    weights = np.linalg.solve(C[known, known] + np.diag(penalty), C[known, 10:])
    X = {
        k: (v - v[m].mean(axis=0)) / v[m].std(axis=0)
        for (k, v), m in zip(blocks.items(), mask.T, strict=True)
    }
    c = blocks["c"][mask[:, 2]]
    expected = np.hstack([X["a"], X["b"]]) @ weights * c.std(axis=0) + c.mean(axis=0)
    X_t = fitted.transform(make_frame(blocks, np.ones_like(mask) & [True, True, False]))
    np.testing.assert_allclose(X_t[:, 10:], expected, atol=1e-8)


def test_covariances_are_mended_where_they_contradict_each_other():
    blocks, mask = make_related(n=14, missing=0.5)
    broken = available_case(blocks, mask)
    values, vectors = np.linalg.eigh(broken)
    assert values[0] < -0.1
    covariance = BlockImputer().fit(make_frame(blocks, mask)).covariance_
    kept = values > 0
    expected = vectors[:, kept] @ np.diag(values[kept]) @ vectors[:, kept].T
    np.testing.assert_allclose(covariance, expected, atol=1e-10)


def test_blocks_never_seen_together_predict_the_mean():
    blocks, mask = make_related(widths=(4, 6))
    mask[:30] = [True, False]
    mask[30:] = [False, True]
    X_t = BlockImputer().fit_transform(make_frame(blocks, mask))
    means = np.broadcast_to(blocks["b"][30:].mean(axis=0), (30, 6))
    np.testing.assert_allclose(X_t[:30, 4:], means, atol=1e-10)


@pytest.mark.parametrize("n", [1, 3, 40])
def test_degenerate_blocks_stay_finite(n):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(n, 3))
    blocks = {"a": np.hstack([a, a]), "b": np.full((n, 2), 0.1), "c": a @ np.ones((3, 9))}
    fitted = BlockImputer(alpha=1e-300).fit(make_frame(blocks))
    mask = np.ones((n, 3), dtype=bool)
    mask[:, 1:] = False
    X_t = fitted.transform(make_frame(blocks, mask))
    assert np.isfinite(X_t).all()
    np.testing.assert_array_equal(fitted.scales_["b"], 1)  # 0.1 has a variance made of rounding
    np.testing.assert_allclose(X_t[:, 6:8], 0.1)
    if n == 40:  # duplicates share the weight
        np.testing.assert_allclose(X_t[:, 8:], blocks["c"], atol=1e-6)


def test_alpha_must_be_positive():
    with pytest.raises(ValueError, match="'alpha' parameter of BlockImputer must be a float in"):
        BlockImputer(alpha=0.0).fit(np.eye(3))
