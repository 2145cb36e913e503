"""Fusions that keep every block apart and rescale it: weighted and whitened blocks."""

from numbers import Integral

import numpy as np
from scipy import sparse
from sklearn.utils.sparsefuncs import mean_variance_axis

from sklearn_mmfusion._sklearn import Interval
from sklearn_mmfusion._validation import check_named_numbers
from sklearn_mmfusion.cross_decomposition.block_transformer import (
    BlockTransformer,
    fix_signs,
    side_by_side,
    thin_svd,
)


class BlockWeighting(BlockTransformer):
    """Put blocks side by side, each scaled to unit total variance and weighted.

    A block of 512 features drowns one of 10 wherever distances or penalties matter. Dividing every
    block by the root of its total variance gives all blocks the same influence; `weights` then
    changes that on purpose. Block ``m`` becomes ``w_m X_m / s_m``, where ``s_m = ||X_m - mean||_F /
    sqrt(n)``, so that the linear kernel of the output is the weighted sum of the blocks' kernels,
    ``sum_m w_m ** 2 K_m / s_m ** 2``. Blocks are not centered.

    Parameters
    ----------
    weights : dict of {str: float} or None, default=None
        Weight of each block by name, 0 or more. Blocks not named weigh 1.
    scale : bool, default=True
        Whether to divide by ``s_m``. False applies the weights alone.
    missing : {"mean", "zero"}, default="mean"
        Replacement for absent rows of a block: its training mean or zeros.

    Attributes
    ----------
    scales_ : dict of {str: float}
        Factor of each block, ``w_m / s_m``.
    fill_values_ : dict of {str: ndarray of shape (width,)}
        Replacement for absent rows of each block, before scaling.
    output_indices_ : dict of {str: slice}
        Position of each block in the output.
    n_features_in_ : int
        Number of columns seen in `fit`: blocks, or features of a plain array.
    feature_names_in_ : ndarray of str
        Names of the columns, when all are strings.

    See Also
    --------
    BlockWhitening : Removes the correlations inside each block as well.
    FusionTransformer : Encodes the modalities and fuses them in one step.

    Notes
    -----
    A constant block has no variance to scale by and is only weighted. Statistics are computed from
    present rows. Cost: O(n_samples * n_features) in time, no copy beyond the output.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mmfusion import BlockWeighting, multimodal_frame
    >>> rng = np.random.default_rng(0)
    >>> X = multimodal_frame(image=10 * rng.normal(size=(50, 8)), text=rng.normal(size=(50, 3)))
    >>> X_t = BlockWeighting(weights={"image": 2.0}).fit_transform(X)
    >>> X_t[:, :8].var(axis=0).sum().round(6), X_t[:, 8:].var(axis=0).sum().round(6)
    (np.float64(4.0), np.float64(1.0))
    """

    _parameter_constraints: dict = {
        **BlockTransformer._parameter_constraints,
        "weights": [dict, None],
        "scale": ["boolean"],
    }
    _keeps_features = True

    def __init__(self, *, weights=None, scale=True, missing="mean"):
        self.weights = weights
        self.scale = scale
        self.missing = missing

    def _fit_blocks(self, blocks):
        weights = self.weights or {}
        check_named_numbers(weights, [block.name for block in blocks], "BlockWeighting: weights")
        spread = {b.name: _total_deviation(b.values) if self.scale else 1.0 for b in blocks}
        self.scales_ = {b.name: weights.get(b.name, 1.0) / spread[b.name] for b in blocks}
        self.output_indices_ = side_by_side({block.name: block.width for block in blocks})

    def _map(self, name, values):
        return values * self.scales_[name]

    # `FusionTransformer` has sparse blocks, too, which no frame can hold.

    def _fit_sparse(self, blocks):
        """`fit` on `Block` objects, some of them with a CSR matrix."""
        self.feature_names_in_ = np.array([block.name for block in blocks], dtype=object)
        self.n_features_in_, self._plain = len(blocks), False
        for block in blocks:
            block.check_finite(type(self).__name__)
        self._learn(blocks)

    def _fuse_sparse(self, blocks):
        """`transform` of `Block` objects, as a CSR matrix."""
        for block in blocks:
            block.check_finite(type(self).__name__)
        return sparse.csr_matrix(self._fuse(blocks))


def _total_deviation(values):
    """||X - mean||_F / sqrt(n) in float64, 1 for a block without variance."""
    if sparse.issparse(values):
        variance = mean_variance_axis(values.astype(np.float64), axis=0)[1]
        return float(np.sqrt(variance.sum())) or 1.0
    values = np.asarray(values, dtype=np.float64)
    # the mean of a constant 0.1 is off by rounding, the more so the more rows; that of 0 is not
    deviation = np.sqrt((values - values[0]).var(axis=0).sum())
    rounding = 10 * np.finfo(np.float64).eps * np.sqrt(np.square(values).mean(axis=0).sum())
    return float(deviation) if deviation > rounding else 1.0


class BlockWhitening(BlockTransformer):
    """Put blocks side by side, each whitened by its principal components.

    Every block is centered and rotated to its principal components, which are scaled to unit
    variance: the output of block ``m`` is ``sqrt(n - 1) U_m``, with ``U_m`` its left singular
    vectors. Correlated features no longer count twice, and all directions of all blocks weigh the
    same, weak and noisy ones included: bound those with `n_components`.

    Parameters
    ----------
    n_components : int or None, default=None
        Most components to keep of each block, largest variance first. None keeps all that the
        block's rank supports.
    missing : {"mean", "zero"}, default="mean"
        Replacement for absent rows of a block, before whitening: its training mean (which
        becomes zeros) or zeros.

    Attributes
    ----------
    means_ : dict of {str: ndarray of shape (width,)}
        Mean of each block.
    components_ : dict of {str: ndarray of shape (n_components, width)}
        Matrix that multiplies each centered block: principal axes over standard deviations.
    fill_values_ : dict of {str: ndarray of shape (width,)}
        Replacement for absent rows of each block, before whitening.
    output_indices_ : dict of {str: slice}
        Position of each block in the output.
    n_features_in_ : int
        Number of columns seen in `fit`: blocks, or features of a plain array.
    feature_names_in_ : ndarray of str
        Names of the columns, when all are strings.

    See Also
    --------
    BlockWeighting : Scales blocks as wholes and leaves their features alone.
    sklearn.decomposition.PCA : The same for one block, with ``whiten=True``.

    Notes
    -----
    Directions whose singular value is rounding (below ``max(n, width) * eps`` of the largest, eps
    of the block's own dtype) are dropped instead of blown up to unit variance. A block without any
    variance becomes one column of zeros. Signs are fixed: the entry of largest magnitude in every
    axis is positive. Cost: O(n_samples * width ** 2) time for each block, in float64.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mmfusion import BlockWhitening, multimodal_frame
    >>> rng = np.random.default_rng(0)
    >>> X = multimodal_frame(image=rng.normal(size=(50, 8)), text=rng.normal(size=(50, 3)))
    >>> whitening = BlockWhitening(n_components=4).fit(X)
    >>> X_t = whitening.transform(X)
    >>> bool(np.allclose(np.cov(X_t[:, :4].T), np.eye(4)))
    True
    >>> whitening.output_indices_
    {'image': slice(0, 4, None), 'text': slice(4, 7, None)}
    """

    _parameter_constraints: dict = {
        **BlockTransformer._parameter_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
    }
    _feature_name = "whitened"

    def __init__(self, *, n_components=None, missing="mean"):
        self.n_components = n_components
        self.missing = missing

    def _fit_blocks(self, blocks):
        self.means_, self.components_ = {}, {}
        for block in blocks:
            mean, axes = _whitening(block.values, self.n_components)
            self.means_[block.name], self.components_[block.name] = mean, axes
        self.output_indices_ = side_by_side({k: len(axes) for k, axes in self.components_.items()})

    def _map(self, name, values):
        return (values - self.means_[name]) @ self.components_[name].T


def _whitening(values, n_components):
    """Mean, and principal axes divided by their standard deviations, of one block."""
    basis = thin_svd(values, left=False)
    if basis.rank == 0:  # no variance at all: one constant feature
        return basis.mean, np.zeros((1, values.shape[1]))
    axes, singular = basis.axes[:n_components], basis.singular[:n_components]
    return basis.mean, fix_signs(axes) * (np.sqrt(len(values) - 1) / singular)[:, None]
