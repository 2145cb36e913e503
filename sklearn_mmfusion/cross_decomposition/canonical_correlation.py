"""Canonical analyses: directions that blocks share, whatever their variance in each block."""

from numbers import Integral, Real

import numpy as np

from sklearn_mmfusion._sklearn import Interval
from sklearn_mmfusion.cross_decomposition.block_transformer import (
    BlockTransformer,
    fix_signs,
    side_by_side,
    split_columns,
    thin_svd,
)


class _CanonicalAnalysis(BlockTransformer):
    """Base of the analyses: shrunk bases in, one linear map per block out.

    A subclass solves its eigenproblem in the coordinates of the blocks' own axes, where a block is
    its left singular vectors and shrinkage a factor for each of them.
    """

    _parameter_constraints: dict = {
        **BlockTransformer._parameter_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "shrinkage": [Interval(Real, 0, 1, closed="both")],
        "average": ["boolean"],
    }

    def __init__(self, *, n_components=None, shrinkage=0.1, average=False, missing="mean"):
        self.n_components = n_components
        self.shrinkage = shrinkage
        self.average = average
        self.missing = missing

    def _fit_blocks(self, blocks):
        bases = {block.name: thin_svd(block.values) for block in blocks}
        present = {block.name: block.present for block in blocks}
        ranks = {name: basis.rank for name, basis in bases.items() if basis.rank}
        maps, strength = {}, np.zeros(1)  # no variance at all: one constant feature
        if ranks:
            # beyond the second largest rank, no two blocks are left to agree
            most = self.n_components or sorted(ranks.values())[-2:][0]
            maps, strength = self._solve({k: bases[k] for k in ranks}, present, most)
        k = len(strength)
        nothing = {name: np.zeros((k, len(basis.mean))) for name, basis in bases.items()}
        axes = fix_signs(np.hstack(list((nothing | maps).values())))
        self.means_ = {name: basis.mean for name, basis in bases.items()}
        self.components_ = split_columns(axes, {block.name: block.width for block in blocks})
        self._shares_output = self.average
        slots = {name: slice(0, k) for name in bases}
        self.output_indices_ = slots if self.average else side_by_side(dict.fromkeys(bases, k))
        return strength

    def _shrunk(self, basis):
        """Variance over shrunk variance of each axis of a block: 1 without shrinkage."""
        variance, width = basis.singular**2, basis.axes.shape[1]
        t = self.shrinkage
        return variance / ((1 - t) * variance + t * variance.sum() / width)

    def _map(self, name, values):
        return (values - self.means_[name]) @ self.components_[name].T

    def _fuse(self, blocks):
        return self._mean_of_present(blocks) if self._shares_output else super()._fuse(blocks)

    def _mean_of_present(self, blocks):
        # a block without variance adds nothing to the average
        blocks = [b for b in blocks if self.components_[b.name].any()] or blocks
        total = np.zeros((len(blocks[0].present), len(self.components_[blocks[0].name])))
        count = np.zeros((len(total), 1))
        for block in blocks:
            total[block.present] += self._map(block.name, block.values)
            count += block.present[:, None]
        fills = [self._map(block.name, self.fill_values_[block.name]) for block in blocks]
        return np.where(count > 0, total / np.maximum(count, 1), np.mean(fills, axis=0))


class MCCA(_CanonicalAnalysis):
    """Regularized multiset canonical correlation analysis.

    Finds, for every block, the linear combinations that correlate most with those of the other
    blocks, however little of the block's variance they explain: what the modalities share is
    kept, and what is specific to one of them is dropped. With two blocks and no shrinkage this is
    canonical correlation analysis [1]_; with more blocks, the sum of all pairwise correlations is
    maximized [2]_. Prefer this, or :class:`GCCA`, if the blocks are different noisy views of the
    same thing.

    Parameters
    ----------
    n_components : int or None, default=None
        Most canonical variates to keep of each block, strongest first. None keeps as many as two
        blocks can agree on: the second largest rank of a block, or that of the only one.
    shrinkage : float, default=0.1
        How far from 0 (none) to 1 (full) the covariance of each block is drawn to a multiple of
        the identity: ``(1 - t) C + t * trace(C) / width * I``. Without it, blocks of about as many
        features as there are rows correlate perfectly, by chance.
    average : bool, default=False
        Whether to return the mean of the variates over the blocks that are present, instead of
        those of every block side by side.
    missing : {"mean", "zero"}, default="mean"
        Replacement for absent rows of a block at `transform`, before projection: its training
        mean (whose variates are zeros) or zeros. Averages leave the block out instead. `fit` takes
        the mean.

    Attributes
    ----------
    correlations_ : ndarray of shape (n_components,)
        Eigenvalue of each variate over the number of other blocks. Without shrinkage, the canonical
        correlations of two blocks; for more blocks, the mean correlation over all pairs if their
        variates have equal variance. With shrinkage they are not correlations: leading axes count
        for more, and values above 1 occur. Zeros for a single block.
    means_ : dict of {str: ndarray of shape (width,)}
        Mean of each block.
    components_ : dict of {str: ndarray of shape (n_components, width)}
        Matrix that multiplies each centered block.
    fill_values_ : dict of {str: ndarray of shape (width,)}
        Replacement for absent rows of each block, before projection.
    output_indices_ : dict of {str: slice}
        Position of each block in the output: all of it if averaged.
    n_features_in_ : int
        Number of columns seen in `fit`: blocks, or features of a plain array.
    feature_names_in_ : ndarray of str
        Names of the columns, when all are strings.

    See Also
    --------
    GCCA : Projects onto one shared space, with absent rows left out of it.
    BlockWhitening : The result for a single block without shrinkage.
    sklearn.cross_decomposition.CCA : Two blocks, by an iterative algorithm.

    Notes
    -----
    Solves ``A v = lambda B v``, where A holds the covariances between blocks and B those within
    blocks; absent rows count as the mean. Each block is first reduced to the axes that exceed
    rounding error, so singular blocks need no shrinkage. Variates are scaled to variance 1 for two
    blocks without shrinkage, and on average over blocks otherwise, before shrinkage. Only positive
    eigenvalues are kept. A single block becomes its principal components, whitened with the shrunk
    variance; a block without variance takes no part. Signs are fixed: the largest weight of every
    component is positive. Cost: O(n_samples * n_features ** 2 + r ** 3) time, r the sum of the
    blocks' ranks, in float64.

    References
    ----------
    .. [1] H. Hotelling, "Relations between two sets of variates", Biometrika 28, 1936,
       :doi:`10.1093/biomet/28.3-4.321`.
    .. [2] J. R. Kettenring, "Canonical analysis of several sets of variables", Biometrika 58(3),
       1971, :doi:`10.1093/biomet/58.3.433`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mmfusion import MCCA, multimodal_frame
    >>> rng = np.random.default_rng(0)
    >>> shared = rng.normal(size=(200, 1))
    >>> X = multimodal_frame(
    ...     image=np.hstack([shared, 10 * rng.normal(size=(200, 4))]),
    ...     text=np.hstack([10 * rng.normal(size=(200, 2)), shared]),
    ... )
    >>> mcca = MCCA(n_components=1, shrinkage=0.0).fit(X)
    >>> mcca.correlations_.round(3)
    array([1.])
    >>> mcca.transform(X).shape
    (200, 2)
    """

    _feature_name = "mcca"

    def _fit_blocks(self, blocks):
        self.correlations_ = super()._fit_blocks(blocks)

    def _solve(self, bases, present, most):
        factors = {name: np.sqrt(self._shrunk(basis)) for name, basis in bases.items()}
        ranks = {name: basis.rank for name, basis in bases.items()}
        rows = np.hstack([b.rows(present[name], factors[name]) for name, b in bases.items()])
        if len(bases) == 1:  # nothing to correlate with: its own axes, largest variance first
            values, vectors = np.zeros(rows.shape[1]), np.eye(rows.shape[1])
        else:
            values, vectors = np.linalg.eigh(_without_blocks(rows.T @ rows, ranks))
            most = min(most, max(1, int(np.sum(values > 0))))
            values, vectors = values[::-1], vectors[:, ::-1]
        parts = split_columns(vectors[:, :most].T, ranks)
        maps = {}
        for name, basis in bases.items():
            deviation = basis.singular / np.sqrt(len(bases) * (len(basis.left) - 1))
            maps[name] = parts[name] * (factors[name] / deviation) @ basis.axes
        return maps, values[:most] / max(len(bases) - 1, 1)


def _without_blocks(matrix, widths):
    """The matrix with zeros in the diagonal blocks of these widths."""
    for slot in side_by_side(widths).values():
        matrix[slot, slot] = 0
    return matrix


class GCCA(_CanonicalAnalysis):
    """Generalized canonical correlation analysis, respecting absent rows.

    Finds the shared space that is best predicted from every block by linear regression (MAXVAR
    [1]_) and returns each block's prediction of it. Blocks lie in one space, so they can be
    averaged over whatever is present, and a row that lacks a block is ignored when learning from
    that block, whereas :class:`MCCA` counts it as the mean.

    Parameters
    ----------
    n_components : int or None, default=None
        Most dimensions of the shared space, strongest first. None keeps as many as two blocks can
        agree on: the second largest rank of a block, or that of the only one.
    shrinkage : float, default=0.1
        How far from 0 (none) to 1 (full) the covariance of each block is drawn to a multiple of
        the identity: ``(1 - t) C + t * trace(C) / width * I``. Without it, blocks of about as many
        features as there are rows predict any space perfectly.
    average : bool, default=False
        Whether to return the mean of the predictions over the blocks that are present, instead of
        those of every block side by side.
    missing : {"mean", "zero"}, default="mean"
        Replacement for absent rows of a block at `transform`, before projection: its training
        mean (whose projection is zeros) or zeros. Averages leave the block out instead.

    Attributes
    ----------
    eigenvalues_ : ndarray of shape (n_components,)
        How well the blocks agree on each dimension: the number of blocks if they agree perfectly,
        1 if only one of them explains it. For two complete blocks without shrinkage, 1 plus the
        canonical correlation. With shrinkage, leading axes count for more.
    means_ : dict of {str: ndarray of shape (width,)}
        Mean of each block.
    components_ : dict of {str: ndarray of shape (n_components, width)}
        Matrix that multiplies each centered block.
    fill_values_ : dict of {str: ndarray of shape (width,)}
        Replacement for absent rows of each block, before projection.
    output_indices_ : dict of {str: slice}
        Position of each block in the output: all of it if averaged.
    n_features_in_ : int
        Number of columns seen in `fit`: blocks, or features of a plain array.
    feature_names_in_ : ndarray of str
        Names of the columns, when all are strings.

    See Also
    --------
    MCCA : Maximizes correlations between blocks instead; the same space for two complete blocks.
    BlockWhitening : The result for a single block without shrinkage.

    Notes
    -----
    With ``K_m`` the diagonal matrix of the rows that have block ``m``, ``P_m`` the projector onto
    its present rows, centered and shrunk, and ``K = sum K_m / M``, the shared space Y holds the top
    eigenvectors of ``sum K_m P_m K_m`` relative to K, ``Y' K Y`` being a multiple of the identity:
    rows count by how many of their blocks are present [2]_ [3]_. The variance of Y, so weighted, is
    1; that of a block's projection is smaller the less the block explains. A row with no block
    takes no part, nor does a block without variance. No matrix of n_samples ** 2 is formed: the
    eigenvectors are singular vectors of the blocks' orthonormal bases side by side. Signs are
    fixed: the largest weight of every component is positive. Cost: O(n_samples * n_features ** 2)
    time, in float64.

    References
    ----------
    .. [1] J. D. Carroll, "Generalization of canonical correlation analysis to three or more sets
       of variables", Proceedings of the 76th Annual Convention of the American Psychological
       Association 3, 1968.
    .. [2] M. van de Velden, T. H. A. Bijmolt, "Generalized canonical correlation analysis of
       matrices with missing rows: a simulation study", Psychometrika 71(2), 2006.
    .. [3] M. van de Velden, Y. Takane, "Generalized canonical correlation analysis with missing
       values", Computational Statistics 27(3), 2012, :doi:`10.1007/s00180-011-0276-y`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mmfusion import GCCA, multimodal_frame
    >>> rng = np.random.default_rng(0)
    >>> shared = rng.normal(size=(200, 1))
    >>> image = list(np.hstack([shared, 10 * rng.normal(size=(200, 4))]))
    >>> text = list(np.hstack([10 * rng.normal(size=(200, 2)), shared]))
    >>> image[3] = text[7] = None
    >>> X = multimodal_frame(image=image, text=text)
    >>> gcca = GCCA(n_components=1, shrinkage=0.0, average=True).fit(X)
    >>> gcca.eigenvalues_.round(1)
    array([2.])
    >>> bool(abs(np.corrcoef(gcca.transform(X).ravel(), shared.ravel())[0, 1]) > 0.99)
    True
    """

    _feature_name = "gcca"

    def _fit_blocks(self, blocks):
        self.eigenvalues_ = super()._fit_blocks(blocks)

    def _solve(self, bases, present, most):
        shrunk = {name: self._shrunk(basis) for name, basis in bases.items()}
        share = np.mean([present[name] for name in bases], axis=0)  # the diagonal of K
        root = np.sqrt(np.where(share > 0, share, 1))[:, None]
        rows = [b.rows(present[name], np.sqrt(shrunk[name])) for name, b in bases.items()]
        left, singular = _left_vectors(np.hstack(rows) / root, single=len(bases) == 1)
        kept = min(most, int(np.sum(singular > len(root) * np.finfo(float).eps * singular[0])))
        shared = left[:, :kept] / root * np.sqrt(share.sum() - 1)
        maps = {
            name: shared[present[name]].T
            @ basis.left
            * (shrunk[name] / basis.singular)
            @ basis.axes
            for name, basis in bases.items()
        }
        return maps, singular[:kept] ** 2


def _left_vectors(rows, *, single):
    """Left singular vectors and singular values, largest first.

    The columns of a `single` basis are orthogonal and in order already; equal singular values
    would let the decomposition return any rotation of them.
    """
    if single:
        norms = np.linalg.norm(rows, axis=0)
        return rows / norms, norms
    left, singular, _ = np.linalg.svd(rows, full_matrices=False)
    return left, singular
