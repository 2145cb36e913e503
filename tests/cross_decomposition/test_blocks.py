"""What all fusions of blocks do; scaled, whitened and pooled ones against their identities."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg, sparse
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_mmfusion.containers import multimodal_frame
from sklearn_mmfusion.cross_decomposition import (
    GCCA,
    MCCA,
    MFA,
    BlockImputer,
    BlockPooling,
    BlockWeighting,
    BlockWhitening,
)
from sklearn_mmfusion.cross_decomposition.block_transformer import Block
from tests._blocks import make_blocks, make_frame

FUSIONS = [
    BlockWeighting(),
    BlockWhitening(),
    BlockPooling(method="mean"),
    BlockPooling(method="sum"),
    BlockPooling(method="max"),
    MFA(),
    MCCA(),
    MCCA(average=True, shrinkage=0.0),
    GCCA(),
    GCCA(average=True, shrinkage=0.0),
    BlockImputer(),
]


@parametrize_with_checks(FUSIONS)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def masked_stack(blocks, mask):
    return np.where(mask.T[:, :, None], np.stack(list(blocks.values())), np.nan)


# ------------------------------------------------------------------------------ identities


def test_weighting_linear_kernel_is_the_weighted_sum_of_the_blocks_kernels():
    blocks, _ = make_blocks(widths=(4, 7, 2))
    weights = {"a": 2.0, "c": 0.5}
    X_t = BlockWeighting(weights=weights).fit_transform(make_frame(blocks))
    expected = sum(
        weights.get(name, 1.0) ** 2 * X @ X.T / (linalg.norm(X - X.mean(axis=0)) ** 2 / len(X))
        for name, X in blocks.items()
    )
    np.testing.assert_allclose(X_t @ X_t.T, expected, rtol=1e-12)


def test_weighting_gives_every_block_unit_total_variance():
    blocks, mask = make_blocks(widths=(4, 7, 2), missing=0.3)
    X = make_frame(blocks, mask)
    weighting = BlockWeighting().fit(X)
    X_t = weighting.transform(X)
    for j, slot in enumerate(weighting.output_indices_.values()):
        assert X_t[mask[:, j], slot].var(axis=0).sum() == pytest.approx(1)


def test_weighting_without_scale_only_weighs():
    blocks, _ = make_blocks()
    X_t = BlockWeighting(weights={"b": 3.0}, scale=False).fit_transform(make_frame(blocks))
    np.testing.assert_array_equal(X_t, np.hstack([blocks["a"], 3 * blocks["b"], blocks["c"]]))


@pytest.mark.parametrize("n", [10, 1003])  # the rounding of a mean grows with the rows
def test_weighting_leaves_a_constant_block_alone(n):
    X = make_frame({"a": np.full((n, 3), 0.1), "b": np.arange(n)[:, None]})
    np.testing.assert_array_equal(BlockWeighting().fit_transform(X)[:, :3], np.full((n, 3), 0.1))


@pytest.mark.parametrize("width", [6, 60])
def test_whitening_is_the_left_singular_vectors_up_to_sign(width):
    n = 40
    blocks, _ = make_blocks(n=n, widths=(width, 4))
    whitening = BlockWhitening().fit(make_frame(blocks))
    X_t = whitening.transform(make_frame(blocks))
    for name, X in blocks.items():
        U = linalg.svd(X - X.mean(axis=0), full_matrices=False)[0][:, : min(width, n - 1)]
        mine = X_t[:, whitening.output_indices_[name]][:, : U.shape[1]]
        expected = np.sqrt(n - 1) * U[:, : mine.shape[1]]
        signs = np.sign((mine * expected).sum(axis=0))
        np.testing.assert_allclose(mine, signs * expected, atol=1e-9)


def test_whitening_of_an_array_is_whitened_pca():
    X = np.random.default_rng(0).normal(size=(50, 6)) @ np.diag([5, 4, 3, 2, 1, 0.5])
    mine = BlockWhitening(n_components=3).fit_transform(X)
    theirs = PCA(n_components=3, whiten=True, svd_solver="full").fit_transform(X)
    np.testing.assert_allclose(np.abs(mine), np.abs(theirs), atol=1e-10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_whitening_drops_directions_that_are_rounding(dtype):
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(60, 3)) @ rng.normal(size=(3, 20)) + 100).astype(dtype)
    X_t = BlockWhitening().fit_transform(X)
    assert X_t.shape == (60, 3)
    assert X_t.dtype == dtype
    np.testing.assert_allclose(np.cov(X_t.T), np.eye(3), atol=1e-2 if dtype == np.float32 else 1e-8)


@pytest.mark.parametrize("n", [1, 10])
def test_whitening_makes_one_zero_column_of_a_block_without_variance(n):
    X_t = BlockWhitening().fit_transform(np.full((n, 4), 7.3))
    np.testing.assert_array_equal(X_t, np.zeros((n, 1)))


@pytest.mark.filterwarnings("ignore:All-NaN:RuntimeWarning", "ignore:Mean of empty:RuntimeWarning")
@pytest.mark.parametrize("method", ["mean", "sum", "max"])
@given(seed=st.integers(0, 999), missing=st.floats(0, 0.6))
def test_pooling_is_the_nan_reduction_over_present_blocks(method, seed, missing):
    blocks, mask = make_blocks(missing=missing, seed=seed)
    some = mask.any(axis=1)
    X_t = BlockPooling(method=method).fit_transform(make_frame(blocks, mask))
    expected = getattr(np, f"nan{method}")(masked_stack(blocks, mask), axis=0)
    np.testing.assert_allclose(X_t[some], expected[some], rtol=1e-12)
    assert np.isfinite(X_t).all()


@pytest.mark.parametrize("method", ["mean", "sum", "max"])
@given(seed=st.integers(0, 999), gone=st.sampled_from("abc"))
def test_pooling_with_a_masked_block_equals_pooling_without_it(method, seed, gone):
    blocks, mask = make_blocks(missing=0.3, seed=seed)
    mask[:, "abc".index(gone) - 1] = True  # rows keep something
    pooling = BlockPooling(method=method)
    masked = mask.copy()
    masked[:, "abc".index(gone)] = False
    with_it = pooling.fit(make_frame(blocks, mask)).transform(make_frame(blocks, masked))
    kept = [name for name in "abc" if name != gone]
    X = make_frame(blocks, mask)[kept]
    np.testing.assert_array_equal(with_it, clone(pooling).fit(X).transform(X))


# ------------------------------------------------------------------------------ absent rows


@pytest.mark.parametrize("fusion", FUSIONS[:2], ids=lambda f: type(f).__name__)
def test_absent_rows_touch_no_statistics_and_become_the_mean(fusion):
    blocks, mask = make_blocks(missing=0.4)
    X = make_frame(blocks, mask)
    fitted = clone(fusion).fit(X)
    for j, (name, values) in enumerate(blocks.items()):
        alone = clone(fusion).fit(make_frame({name: values[mask[:, j]]}))
        slot = fitted.output_indices_[name]
        mean = make_frame({name: values[mask[:, j]].mean(axis=0, keepdims=True)})
        X_t = fitted.transform(X)[:, slot]
        np.testing.assert_allclose(
            X_t[mask[:, j]], alone.transform(make_frame({name: values[mask[:, j]]})), atol=1e-12
        )
        absent = X_t[~mask[:, j]]
        np.testing.assert_allclose(
            absent, np.broadcast_to(alone.transform(mean), absent.shape), atol=1e-12
        )


@pytest.mark.parametrize("missing", ["mean", "zero"])
@pytest.mark.parametrize("method", ["mean", "sum", "max"])
def test_pooling_of_a_row_with_nothing_pools_what_stands_for_it(method, missing):
    blocks, mask = make_blocks()
    mask[3] = False
    X_t = BlockPooling(method=method, missing=missing).fit_transform(make_frame(blocks, mask))
    means = [np.delete(values, 3, axis=0).mean(axis=0) for values in blocks.values()]
    expected = getattr(np, method)(means, axis=0) if missing == "mean" else np.zeros(5)
    np.testing.assert_allclose(X_t[3], expected)


def test_zero_stands_for_absent_rows_before_whitening():
    blocks, mask = make_blocks(missing=0.4)
    fitted = BlockWhitening(missing="zero").fit(make_frame(blocks, mask))
    X_t = fitted.transform(make_frame(blocks, mask))
    expected = -fitted.components_["b"] @ fitted.means_["b"]
    np.testing.assert_allclose(X_t[~mask[:, 1], fitted.output_indices_["b"]][0], expected)


# ------------------------------------------------------------------------------ forms, errors


@pytest.mark.parametrize("fusion", FUSIONS, ids=lambda f: f"{f}")
def test_float32_blocks_come_out_float32(fusion):
    blocks, mask = make_blocks(missing=0.2, dtype=np.float32)
    assert clone(fusion).fit_transform(make_frame(blocks, mask)).dtype == np.float32


@pytest.mark.parametrize("fusion", FUSIONS, ids=lambda f: f"{f}")
def test_a_numeric_frame_is_one_block_like_its_array(fusion):
    X = np.random.default_rng(0).normal(size=(20, 3))
    frame = pd.DataFrame(X, columns=["p", "q", "r"])
    mine, theirs = clone(fusion).fit_transform(frame), clone(fusion).fit_transform(X)
    np.testing.assert_allclose(mine, theirs, atol=1e-12)


def test_a_numeric_column_among_blocks_is_a_block_of_width_one():
    X = make_frame({"a": np.eye(4)}).assign(age=[1.0, np.nan, 3.0, 4.0])
    X_t = BlockWeighting(scale=False).fit_transform(X)
    np.testing.assert_allclose(X_t[:, 4], [1, 8 / 3, 3, 4])


@pytest.mark.parametrize(
    ("fusion", "names"),
    [
        (BlockWeighting(), ["a__0", "a__1", "b__0", "b__1"]),
        (BlockWhitening(), ["a__whitened0", "a__whitened1", "b__whitened0", "b__whitened1"]),
        (BlockPooling(method="max"), ["max0", "max1"]),
        (MFA(n_components=2), ["mfa0", "mfa1"]),
        (MCCA(), ["a__mcca0", "a__mcca1", "b__mcca0", "b__mcca1"]),
        (MCCA(average=True), ["mcca0", "mcca1"]),
        (GCCA(n_components=1), ["a__gcca0", "b__gcca0"]),
        (GCCA(average=True), ["gcca0", "gcca1"]),
        (BlockImputer(), ["a__0", "a__1", "b__0", "b__1"]),
    ],
)
def test_feature_names_and_set_output(fusion, names):
    X = make_frame(make_blocks(widths=(2, 2))[0])
    out = clone(fusion).set_output(transform="pandas").fit_transform(X)
    assert list(out.columns) == names


def test_feature_names_of_one_array():
    X = np.random.default_rng(0).normal(size=(10, 2))
    assert list(BlockWeighting().fit(X).get_feature_names_out()) == ["x0", "x1"]
    assert list(BlockWhitening().fit(X).get_feature_names_out()) == ["whitened0", "whitened1"]
    assert list(MCCA().fit(X).get_feature_names_out()) == ["mcca0", "mcca1"]


def test_feature_names_of_one_block_named_as_an_array_is():
    X = make_frame({"x": np.eye(4)[:, :2]})
    assert list(BlockWeighting().fit(X).get_feature_names_out()) == ["x__0", "x__1"]


def test_not_fitted():
    with pytest.raises(NotFittedError, match="BlockPooling"):
        BlockPooling().transform(np.eye(3))


def test_pooling_refuses_blocks_of_different_width():
    X = make_frame(make_blocks(widths=(2, 3))[0])
    with pytest.raises(ValueError, match=r"equal width, got \{'a': 2, 'b': 3\}.*fusion='concat'"):
        BlockPooling().fit(X)


@pytest.mark.parametrize(
    ("weights", "match"),
    [
        ({"z": 1.0}, r"weights names \['z'\]; expected some of \['a', 'b'\]"),
        ({"a": -1.0}, "weights of 'a' is -1.0; expected a finite number of 0 or more"),
        ({"a": np.nan}, "weights of 'a' is nan"),
        ({"a": "big"}, "weights of 'a' is 'big'"),
    ],
)
def test_weighting_refuses_bad_weights(weights, match):
    X = make_frame(make_blocks(widths=(2, 3))[0])
    with pytest.raises(ValueError, match=match):
        BlockWeighting(weights=weights).fit(X)


def test_a_block_without_a_present_row_is_refused_in_fit_only():
    blocks, mask = make_blocks()
    fitted = BlockWeighting().fit(make_frame(blocks))
    mask[:, 1] = False
    X = make_frame(blocks, mask)
    with pytest.raises(ValueError, match="block 'b' has no present row among 30"):
        BlockWeighting().fit(X)
    assert np.isfinite(fitted.transform(X)).all()


def test_nan_in_a_present_cell_is_refused_by_row():
    blocks, _ = make_blocks()
    blocks["b"][4, 0] = np.nan
    with pytest.raises(ValueError, match="block 'b' contains NaN or infinity in row 4"):
        BlockWhitening().fit(make_frame(blocks))


def test_cells_that_are_not_features_are_refused():
    with pytest.raises(ValueError, match=r"block 'a' has cells of shape \(2, 2\); expected 1-D"):
        BlockWeighting().fit(multimodal_frame(a=np.zeros((3, 2, 2))))
    with pytest.raises(ValueError, match=r"block 'a' has cells of shape \(None,\); expected 1-D"):
        BlockWeighting().fit(multimodal_frame(a=[[1.0], [1.0, 2.0]]))
    X = multimodal_frame(a=np.eye(2), b=["some", "text"])
    with pytest.raises(ValueError, match="block 'b' has dtype str; expected numbers"):
        BlockWeighting().fit(X)


def test_a_block_of_another_width_is_refused():
    fitted = BlockWeighting().fit(make_frame({"a": np.eye(3)}))
    with pytest.raises(ValueError, match="block 'a' has 2 features, fitted with 3"):
        fitted.transform(make_frame({"a": np.eye(3)[:, :2]}))


@pytest.mark.parametrize("fusion", FUSIONS, ids=lambda fusion: type(fusion).__name__)
def test_failed_fit_keeps_the_last_one(fusion):
    blocks, mask = make_blocks()
    X = make_frame(blocks, mask)
    fitted = clone(fusion).fit(X)
    before, expected = dict(vars(fitted)), fitted.transform(X)
    mask[:, 1] = False
    with pytest.raises(ValueError, match="block 'b' has no present row"):
        fitted.fit(make_frame(blocks, mask).rename(columns={"a": "other"}))
    assert vars(fitted) == before
    np.testing.assert_array_equal(fitted.transform(X), expected)


@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_matrix])
@pytest.mark.filterwarnings("error")
def test_the_message_about_nan_names_its_row_not_one_whose_sum_overflows(convert):
    values = np.array([[3e38, 3e38], [0, 0], [0, np.nan], [1, 0]], dtype=np.float32)
    block = Block("a", convert(values), np.array([True, False, True, True, True]))
    with pytest.raises(ValueError, match="Weighting: block 'a' contains NaN or infinity in row 3"):
        block.check_finite("Weighting")
