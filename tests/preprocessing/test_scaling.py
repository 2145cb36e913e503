"""Mean and variance in chunks, against numpy over all rows at once."""

import tracemalloc

import numpy as np
import pytest
from scipy import sparse

from sklearn_mmfusion import ImageEncoder
from sklearn_mmfusion.preprocessing.scaling import (
    CHUNK,
    FeatureScale,
    mean_and_variance,
    row_slices,
    rows_in_chunks,
)


@pytest.mark.parametrize("shape", [(1, 3), (1000, 7), (CHUNK + 5, 1), (3, CHUNK + 1), (400, 2000)])
def test_slices_cover_all_rows_once(shape):
    slices = row_slices(*shape)
    rows = np.concatenate([np.arange(shape[0])[part] for part in slices])
    np.testing.assert_array_equal(rows, np.arange(shape[0]))
    assert len(slices) == 1 or (slices[0].stop * shape[1] <= max(CHUNK, shape[1]))


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_chunks_equal_all_rows_at_once(offset, dtype):
    X = (50 * np.random.default_rng(0).random((1000, 4)) + offset).astype(dtype)
    mean, variance = mean_and_variance(np.split(X, [1, 10, 700]))
    np.testing.assert_allclose(mean, X.mean(0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(variance, X.var(0, dtype=np.float64), rtol=1e-9)


def test_constant_columns_have_no_spread():
    _, variance = mean_and_variance([np.full((7, 2), 0.1, np.float32)] * 3)
    np.testing.assert_array_equal(variance, 0)


def test_scales_of_features_need_no_float64_copy():
    X = np.random.default_rng(0).random((20_000, 100), dtype=np.float32)
    tracemalloc.start()
    scale = FeatureScale.fit(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(scale.mean, X.mean(0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(scale.scale, X.std(0, dtype=np.float64), rtol=1e-6)
    assert peak < X.nbytes


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_one_scale_is_the_root_of_the_mean_variance(form):
    X = np.random.default_rng(0).normal(size=(50, 4)) * [1, 100, 0, 1e-3] + [0, 5, 0.1, 1e4]
    X[:, 3] += 1e4 * X[:, 3].std()  # far from zero
    scale = FeatureScale.fit(form(X), standardize=False)
    assert scale.far.tolist() == [3]
    np.testing.assert_allclose(scale.mean, X.mean(0), rtol=1e-5)
    np.testing.assert_allclose(scale.scale, np.sqrt(X.var(0).mean()), rtol=1e-5)


def test_one_scale_of_constant_features_is_one():
    np.testing.assert_array_equal(FeatureScale.fit(np.ones((5, 2)), standardize=False).scale, 1)


def test_scales_of_images_need_no_float64_copy():
    images = np.random.default_rng(0).integers(0, 256, (200, 128, 128, 3), np.uint8)
    tracemalloc.start()
    encoder = ImageEncoder()
    encoder.fit_prepare(images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(encoder.mean_, images.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(encoder.scale_, images.std((0, 1, 2)), rtol=1e-6)
    assert peak < images.nbytes


@pytest.mark.parametrize("sizes", [[5], [1, 2, 3], [700, 1, 0, 300, 1001], [250, 250, 250]])
def test_rows_of_blocks_are_regrouped_as_if_they_were_one_array(monkeypatch, sizes):
    monkeypatch.setattr("sklearn_mmfusion.preprocessing.scaling.CHUNK", 750)
    X = np.arange(3 * sum(sizes)).reshape(-1, 3)
    chunks = list(rows_in_chunks(np.split(X, np.cumsum(sizes)[:-1])))
    expected = [X[part] for part in row_slices(*X.shape)]
    assert [len(chunk) for chunk in chunks] == [len(part) for part in expected]
    np.testing.assert_array_equal(np.concatenate(chunks), X)
