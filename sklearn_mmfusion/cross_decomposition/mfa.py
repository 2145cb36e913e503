"""Multiple factor analysis: one principal component analysis of balanced blocks."""

from numbers import Integral

import numpy as np

from sklearn_mmfusion._sklearn import Interval
from sklearn_mmfusion.cross_decomposition.block_transformer import (
    BlockTransformer,
    fix_signs,
    split_columns,
    thin_svd,
)

_LEAST_VARIANCE = 0.1  # of a component kept by default, relative to the first


class MFA(BlockTransformer):
    """Multiple factor analysis: principal components of blocks with equal influence.

    Every block is centered and divided by its first singular value, so that none can dictate the
    first component by its size or by many redundant features; a block with several strong
    directions still weighs more. The scores of a principal component analysis of all blocks side by
    side are the output: few features, shared by all blocks.

    Parameters
    ----------
    n_components : int or None, default=None
        Most components to keep, largest variance first. None keeps those with at least a tenth of
        the variance of the first: later ones are mostly noise of single blocks, which a classifier
        that standardizes its features, as :class:`NeuralClassifier` does, would blow up.
    missing : {"mean", "zero"}, default="mean"
        Replacement for absent rows of a block at `transform`, before scaling: its training mean
        (which adds nothing to the scores) or zeros. `fit` takes the mean.

    Attributes
    ----------
    means_ : dict of {str: ndarray of shape (width,)}
        Mean of each block.
    scales_ : dict of {str: float}
        Divisor of each centered block: its first singular value over ``sqrt(n_present)``.
    components_ : dict of {str: ndarray of shape (n_components, width)}
        The principal axes of the scaled blocks side by side, cut into blocks.
    explained_variance_ratio_ : ndarray of shape (n_components,)
        Share of each component in the variance of the scaled blocks.
    fill_values_ : dict of {str: ndarray of shape (width,)}
        Replacement for absent rows of each block, before scaling.
    output_indices_ : dict of {str: slice}
        Position of each block in the output: all of it, for every block.
    n_features_in_ : int
        Number of columns seen in `fit`: blocks, or features of a plain array.
    feature_names_in_ : ndarray of str
        Names of the columns, when all are strings.

    See Also
    --------
    BlockWeighting : Divides by the total variance instead and keeps the features.
    MCCA : Finds directions that blocks share, whatever their variance.
    sklearn.decomposition.PCA : The same for one block, up to its scale.

    Notes
    -----
    Rows weigh ``1 / n_present`` in the singular values, as in the literature [1]_: the first
    principal component of every scaled block has variance 1 over its present rows (divisor n), so
    outputs do not shrink as rows are added. A block without variance is left as it is and adds
    nothing. Features of different units within a block should be standardized before. Signs are
    fixed: the entry of largest magnitude in every axis is positive. Cost: O(n_samples *
    n_features ** 2) time, in float64.

    References
    ----------
    .. [1] B. Escofier, J. Pages, "Multiple factor analysis (AFMULT package)", Computational
       Statistics & Data Analysis 18(1), 1994, :doi:`10.1016/0167-9473(94)90135-X`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mmfusion import MFA, multimodal_frame
    >>> rng = np.random.default_rng(0)
    >>> shared = rng.normal(size=(50, 2))
    >>> X = multimodal_frame(
    ...     image=100 * shared @ rng.normal(size=(2, 8)) + rng.normal(size=(50, 8)),
    ...     text=shared @ rng.normal(size=(2, 3)) + 0.1 * rng.normal(size=(50, 3)),
    ... )
    >>> mfa = MFA(n_components=2).fit(X)
    >>> mfa.transform(X).shape
    (50, 2)
    >>> bool(mfa.explained_variance_ratio_.sum() > 0.9)
    True
    """

    _parameter_constraints: dict = {
        **BlockTransformer._parameter_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
    }
    _feature_name = "mfa"
    _shares_output = True

    def __init__(self, *, n_components=None, missing="mean"):
        self.n_components = n_components
        self.missing = missing

    def _fit_blocks(self, blocks):
        bases = {block.name: thin_svd(block.values) for block in blocks}
        self.means_ = {name: basis.mean for name, basis in bases.items()}
        self.scales_ = {name: _leading_deviation(basis) for name, basis in bases.items()}
        # each block in the coordinates of its own axes: fewer columns, the same inner products
        rows = [
            bases[b.name].rows(b.present, bases[b.name].singular / self.scales_[b.name])
            for b in blocks
        ]
        joint = thin_svd(np.hstack(rows), left=False)
        parts = split_columns(joint.axes, {name: basis.rank for name, basis in bases.items()})
        axes = np.hstack([parts[name] @ basis.axes for name, basis in bases.items()])
        variance = joint.singular**2
        if joint.rank == 0:  # no variance at all: one constant feature
            axes, variance = np.zeros((1, axes.shape[1])), np.ones(1)
        most = self.n_components or int(np.sum(variance >= _LEAST_VARIANCE * variance[0]))
        axes = fix_signs(axes[:most])
        self.components_ = split_columns(axes, {block.name: block.width for block in blocks})
        self.explained_variance_ratio_ = variance[: len(axes)] / variance.sum()
        self.output_indices_ = {block.name: slice(0, len(axes)) for block in blocks}

    def _map(self, name, values):
        return (values - self.means_[name]) @ self.components_[name].T / self.scales_[name]

    def _fuse(self, blocks):
        return sum(self._mapped(blocks))


def _leading_deviation(basis):
    """First singular value over sqrt(n), 1 for a block without variance."""
    return float(basis.singular[0] / np.sqrt(len(basis.left))) if basis.rank else 1.0
