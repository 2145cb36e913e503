"""MFA, MCCA and GCCA against PCA, CCA and dense eigenproblems."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg
from sklearn.base import clone
from sklearn.cross_decomposition import CCA
from sklearn.decomposition import PCA

from sklearn_mmfusion.cross_decomposition import GCCA, MCCA, MFA, BlockWhitening
from tests._blocks import make_blocks, make_frame, make_related

CANONICAL = [MCCA(), MCCA(shrinkage=0.0), GCCA(), GCCA(shrinkage=0.0)]


def up_to_sign(mine, expected, atol=1e-8):
    """Compare columns whose signs are free."""
    signs = np.sign((mine * expected).sum(axis=0))
    np.testing.assert_allclose(mine, signs * expected, atol=atol)


def canonical_correlations(X, Y):
    Q, R = (linalg.qr(Z - Z.mean(axis=0), mode="economic")[0] for Z in (X, Y))
    return linalg.svdvals(Q.T @ R)


def shrunk_covariance(X, t):
    """Centered X, and its scatter matrix drawn to a multiple of the identity."""
    X = X - X.mean(axis=0)
    C = X.T @ X
    return X, (1 - t) * C + t * np.trace(C) / len(C) * np.eye(len(C))


# ------------------------------------------------------------------------------ MFA


def test_mfa_gives_every_block_leading_singular_value_one():
    blocks, mask = make_related(missing=0.3)
    mfa = MFA().fit(make_frame(blocks, mask))
    for j, (name, X) in enumerate(blocks.items()):
        X = X[mask[:, j]]
        scaled = (X - X.mean(axis=0)) / mfa.scales_[name]
        assert linalg.svdvals(scaled / np.sqrt(len(X)))[0] == pytest.approx(1)


def test_mfa_is_pca_of_the_scaled_blocks_with_zeros_where_absent():
    blocks, mask = make_related(missing=0.3)
    X = make_frame(blocks, mask)
    mfa = MFA(n_components=6).fit(X)
    scaled = [np.where(m[:, None], Z, np.nan) for m, Z in zip(mask.T, blocks.values(), strict=True)]
    scaled = [Z - np.nanmean(Z, axis=0) for Z in scaled]
    scaled = [Z / s for Z, s in zip(scaled, mfa.scales_.values(), strict=True)]
    pca = PCA(n_components=6, svd_solver="full")
    up_to_sign(mfa.transform(X), pca.fit_transform(np.nan_to_num(np.hstack(scaled))))
    np.testing.assert_allclose(mfa.explained_variance_ratio_, pca.explained_variance_ratio_)
    np.testing.assert_allclose(
        np.abs(np.hstack(list(mfa.components_.values()))), np.abs(pca.components_), atol=1e-8
    )
    assert mfa.output_indices_ == dict.fromkeys("abc", slice(0, 6))


def test_mfa_of_an_array_is_pca_over_the_leading_deviation():
    X = make_related()[0]["b"]
    scores = PCA(n_components=4, svd_solver="full").fit_transform(X)
    up_to_sign(MFA(n_components=4).fit_transform(X), scores / scores[:, 0].std())


def test_mfa_keeps_a_tenth_of_the_first_variance_by_default():
    deviations = np.array([1.0, 0.5, 0.33, 0.3, 0.01])  # 0.33 ** 2 > 0.1 > 0.3 ** 2
    X = linalg.qr(np.random.default_rng(0).normal(size=(50, 6)), mode="economic")[0]
    X = linalg.qr(X - X.mean(axis=0), mode="economic")[0][:, :5] * deviations
    assert MFA().fit_transform(X).shape == (50, 3)
    assert MFA(n_components=99).fit_transform(X).shape == (50, 5)


# ------------------------------------------------------------------------------ two blocks


@pytest.mark.parametrize("widths", [(4, 6), (5, 5), (1, 7)])
def test_two_blocks_without_shrinkage_are_cca(widths):
    blocks, _ = make_related(widths=widths)
    X = make_frame(blocks)
    expected = canonical_correlations(*blocks.values())
    mcca, gcca = MCCA(shrinkage=0.0).fit(X), GCCA(shrinkage=0.0).fit(X)
    np.testing.assert_allclose(mcca.correlations_, expected, atol=1e-8)
    np.testing.assert_allclose(gcca.eigenvalues_ - 1, expected, atol=1e-8)
    k = min(widths)
    for X_t in (mcca.transform(X), gcca.transform(X)):
        correlations = np.corrcoef(X_t.T)
        np.testing.assert_allclose(correlations[:k, k:], np.diag(expected), atol=1e-7)
        np.testing.assert_allclose(correlations[:k, :k], np.eye(k), atol=1e-7)
    np.testing.assert_allclose(mcca.transform(X).var(axis=0, ddof=1), 1)


def test_mcca_agrees_with_scikit_learn():
    blocks, _ = make_related(n=300, widths=(4, 6))
    mine = MCCA(n_components=2, shrinkage=0.0).fit_transform(make_frame(blocks))
    cca = CCA(n_components=2, max_iter=2000, tol=1e-9).fit(*blocks.values())
    theirs = np.hstack(cca.transform(*blocks.values()))
    agreement = np.diag(np.corrcoef(mine.T, theirs.T)[:4, 4:])
    np.testing.assert_allclose(np.abs(agreement), 1, atol=1e-2)


# ------------------------------------------------------------------------------ more blocks


@pytest.mark.parametrize("shrinkage", [0.0, 0.1, 1.0])
def test_mcca_solves_the_generalised_eigenproblem(shrinkage):
    blocks, _ = make_related()
    mcca = MCCA(n_components=3, shrinkage=shrinkage).fit(make_frame(blocks))
    centered, within = zip(*(shrunk_covariance(X, shrinkage) for X in blocks.values()), strict=True)
    Z = np.hstack(centered)
    A, B = Z.T @ Z, linalg.block_diag(*within)
    A[linalg.block_diag(*(np.ones_like(C) for C in within)) > 0] = 0
    values, vectors = linalg.eigh(A, B)
    np.testing.assert_allclose(mcca.correlations_, values[:-4:-1] / 2, atol=1e-8)
    mine = np.hstack(list(mcca.components_.values())).T
    norms = np.sqrt(np.diag(mine.T @ B @ mine))
    np.testing.assert_allclose(norms, np.sqrt(3 * 59))  # unit variance on average over blocks
    up_to_sign(mine / norms, vectors[:, :-4:-1])


def test_mcca_counts_absent_rows_as_the_mean():
    blocks, mask = make_related(missing=0.3)
    filled = {
        name: np.where(mask[:, [j]], X, X[mask[:, j]].mean(axis=0))
        for j, (name, X) in enumerate(blocks.items())
    }
    mine = MCCA(shrinkage=0.0).fit(make_frame(blocks, mask)).correlations_
    expected = MCCA(shrinkage=0.0).fit(make_frame(filled)).correlations_
    np.testing.assert_allclose(mine, expected, atol=1e-10)


@pytest.mark.parametrize("shrinkage", [0.0, 0.2])
@given(seed=st.integers(0, 999), missing=st.floats(0, 0.5))
def test_gcca_is_the_dense_eigenproblem_over_present_rows(shrinkage, seed, missing):
    blocks, mask = make_related(missing=missing, seed=seed)
    mask[:12] = True  # more rows than features in every block
    n = len(mask)
    gcca = GCCA(n_components=2, shrinkage=shrinkage).fit(make_frame(blocks, mask))
    total, share = np.zeros((n, n)), np.diag(mask.mean(axis=1))
    for X, present in zip(blocks.values(), mask.T, strict=True):
        X, S = shrunk_covariance(X[present], shrinkage)
        total[np.ix_(present, present)] += X @ linalg.inv(S) @ X.T
    values, Y = linalg.eigh(total, share)
    np.testing.assert_allclose(gcca.eigenvalues_, values[:-3:-1], atol=1e-8)
    Y = Y[:, :-3:-1] * np.sqrt(np.trace(share) - 1)
    X_t = gcca.transform(make_frame(blocks, mask))
    for (name, X), present in zip(blocks.items(), mask.T, strict=True):
        X, S = shrunk_covariance(X[present], shrinkage)
        up_to_sign(
            X_t[present, gcca.output_indices_[name]], X @ linalg.solve(S, X.T @ Y[present]), 1e-6
        )


def test_gcca_leaves_out_rows_that_have_nothing():
    blocks, mask = make_related(missing=0.3)
    mask[[3, 8]] = False
    kept = mask.any(axis=1)
    mine = GCCA().fit(make_frame(blocks, mask))
    rest = GCCA().fit(make_frame({k: X[kept] for k, X in blocks.items()}, mask[kept]))
    for name in blocks:
        np.testing.assert_allclose(mine.components_[name], rest.components_[name], atol=1e-10)


# ------------------------------------------------------------------------------ one block


@pytest.mark.parametrize("fusion", [MCCA(shrinkage=0.0), GCCA(shrinkage=0.0)])
def test_one_block_without_shrinkage_is_whitened(fusion):
    X = make_related()[0]["b"]
    up_to_sign(fusion.fit_transform(X), BlockWhitening().fit_transform(X))


def test_one_block_is_divided_by_its_shrunk_deviations():
    X = np.tile(make_related()[0]["b"], 2)  # of rank 6, but the mean variance is that of all 12
    pca = PCA(n_components=6, svd_solver="full").fit(X)
    variance = 0.7 * pca.explained_variance_ + 0.3 * X.var(axis=0, ddof=1).mean()
    mcca = MCCA(shrinkage=0.3).fit(X)
    up_to_sign(mcca.transform(X), pca.transform(X) / np.sqrt(variance))
    np.testing.assert_array_equal(mcca.correlations_, 0)
    projected = pca.transform(X) * np.sqrt(pca.explained_variance_) / variance
    up_to_sign(GCCA(shrinkage=0.3).fit_transform(X), projected)


# ------------------------------------------------------------------------------ symmetries


@pytest.mark.parametrize("fusion", [MFA(), *CANONICAL], ids=str)
def test_orders_of_rows_and_blocks_commute(fusion):
    blocks, mask = make_related(missing=0.2)
    X = make_frame(blocks, mask)
    order = np.random.default_rng(1).permutation(len(X))
    expected = clone(fusion).fit(X)
    shuffled = clone(fusion).fit(X.iloc[order]).transform(X)
    np.testing.assert_allclose(shuffled, expected.transform(X), atol=1e-8)
    turned = clone(fusion).fit(X[["c", "a", "b"]])
    X_t = turned.transform(X[["c", "a", "b"]])
    for name in blocks:
        mine = X_t[:, turned.output_indices_[name]]
        theirs = expected.transform(X)[:, expected.output_indices_[name]]
        np.testing.assert_allclose(mine, theirs, atol=1e-8)


@pytest.mark.parametrize("fusion", CANONICAL, ids=str)
def test_average_is_the_mean_over_present_blocks(fusion):
    blocks, mask = make_related(missing=0.3)
    mask[5] = False
    X = make_frame(blocks, mask)
    apart = clone(fusion).fit(X)
    slots = apart.output_indices_.values()
    each = np.stack([apart.transform(X)[:, slot] for slot in slots])
    counts = np.maximum(mask.sum(axis=1), 1)[:, None]
    expected = (each * mask.T[:, :, None]).sum(axis=0) / counts  # row 5: the means, which are 0
    averaged = clone(fusion).set_params(average=True).fit(X)
    np.testing.assert_allclose(averaged.transform(X), expected, atol=1e-12)
    assert averaged.output_indices_ == dict.fromkeys("abc", slice(0, expected.shape[1]))


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("fusion", CANONICAL, ids=str)
def test_a_block_that_is_absent_everywhere_leaves_the_others_as_they_are(fusion, average):
    blocks, mask = make_related()
    fitted = clone(fusion).set_params(average=average).fit(make_frame(blocks))
    mask[:, 1] = False
    X_t = fitted.transform(make_frame(blocks, mask))
    whole = {k: (X - fitted.means_[k]) @ fitted.components_[k].T for k, X in blocks.items()}
    if average:
        expected = (whole["a"] + whole["c"]) / 2
    else:
        expected = np.hstack([whole["a"], 0 * whole["b"], whole["c"]])
    np.testing.assert_allclose(X_t, expected, atol=1e-10)


def test_zero_stands_for_absent_rows_before_projection():
    blocks, mask = make_related(missing=0.3)
    mask[5] = False
    X = make_frame(blocks, mask)
    for fusion in [MCCA(missing="zero"), GCCA(missing="zero")]:
        X_t = fusion.fit_transform(X)[5]
        expected = {k: -fusion.components_[k] @ fusion.means_[k] for k in blocks}
        np.testing.assert_allclose(X_t, np.hstack(list(expected.values())))
        averaged = fusion.set_params(average=True).fit_transform(X)[5]
        np.testing.assert_allclose(averaged, np.mean(list(expected.values()), axis=0))


# ------------------------------------------------------------------------------ degenerate data


@pytest.mark.parametrize("kind", [MCCA, GCCA])
def test_features_that_add_nothing_change_nothing(kind):
    blocks, _ = make_related()
    doubled = {name: np.hstack([X, X, np.ones((60, 1))]) for name, X in blocks.items()}
    mine, plain = (kind(shrinkage=0.0).fit(make_frame(b)) for b in (doubled, blocks))
    np.testing.assert_allclose(
        mine.transform(make_frame(doubled)), plain.transform(make_frame(blocks)), atol=1e-7
    )


@pytest.mark.parametrize("fusion", [MFA(), *CANONICAL], ids=str)
@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("n", [1, 2, 6, 40])
def test_degenerate_blocks_stay_finite(fusion, average, n):
    rng = np.random.default_rng(0)
    X = make_frame({"a": np.full((n, 3), 0.1), "b": rng.normal(size=(n, 9)), "c": np.zeros((n, 1))})
    fusion = clone(fusion)
    if average and not isinstance(fusion, MFA):
        fusion.set_params(average=True)
    X_t = fusion.fit_transform(X)
    assert np.isfinite(X_t).all()
    assert len(X_t) == n and X_t.shape[1] >= 1
    alone = clone(fusion).fit_transform(X[["b"]])  # blocks without variance take no part
    slot = fusion.output_indices_["b"]
    np.testing.assert_allclose(X_t[:, slot], alone, atol=1e-8)


@pytest.mark.parametrize("kind", [MCCA, GCCA])
def test_default_components_are_what_two_blocks_can_agree_on(kind):
    X = make_frame(make_related(widths=(4, 6, 1))[0])
    assert kind().fit_transform(X).shape == (60, 3 * 4)
    assert kind(n_components=2).fit_transform(X).shape == (60, 3 * 2)
    assert kind().fit_transform(X[["a", "c"]]).shape == (60, 2)
    assert kind().fit_transform(X[["b"]]).shape == (60, 6)


def test_mcca_keeps_no_negative_correlations():
    X = make_frame(make_blocks(widths=(3, 3))[0])
    mcca = MCCA(n_components=99, shrinkage=0.0).fit(X)
    assert len(mcca.correlations_) == 3 and (mcca.correlations_ > 0).all()


def test_shrinkage_must_be_a_fraction():
    with pytest.raises(ValueError, match="'shrinkage' parameter of GCCA must be a float in the"):
        GCCA(shrinkage=1.5).fit(np.eye(3))
