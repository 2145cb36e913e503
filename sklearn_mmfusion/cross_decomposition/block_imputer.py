"""Absent blocks from those that are present, by ridge regression."""

from numbers import Real

import numpy as np
from scipy import linalg

from sklearn_mmfusion._sklearn import Interval
from sklearn_mmfusion.cross_decomposition.block_transformer import BlockTransformer, side_by_side


class BlockImputer(BlockTransformer):
    """Predict absent blocks from those that are present, by ridge regression.

    In every row, the features of an absent block are the ridge regression on the features of all
    blocks that the row has. The output holds the blocks side by side, unchanged where present.
    Any pattern of presence works, including those not seen in `fit`; a row without any block gets
    the means. `FusionTransformer` does this before any fusion with ``missing="impute"``.

    Parameters
    ----------
    alpha : float or None, default=None
        Penalty of the regressions, as in :class:`sklearn.linear_model.Ridge` on standardized
        features, above 0. Large values draw the prediction to the mean. None means the number of
        predictor features, which suits features that together explain half of the variance.

    Attributes
    ----------
    means_ : dict of {str: ndarray of shape (width,)}
        Mean of each block.
    scales_ : dict of {str: ndarray of shape (width,)}
        Standard deviation of each feature, 1 where it does not vary.
    covariance_ : ndarray of shape (n_features_out, n_features_out)
        Covariance of all standardized features, blocks in order.
    n_present_ : dict of {str: int}
        Number of training rows that have each block.
    fill_values_ : dict of {str: ndarray of shape (width,)}
        Features of each block in rows without any block: its mean.
    output_indices_ : dict of {str: slice}
        Position of each block in the output.
    n_features_in_ : int
        Number of columns seen in `fit`: blocks, or features of a plain array.
    feature_names_in_ : ndarray of str
        Names of the columns, when all are strings.

    See Also
    --------
    FusionTransformer : Encodes the modalities, imputes and fuses them in one step.
    sklearn.impute.IterativeImputer : For single missing values in a table.

    Notes
    -----
    If all training rows are complete, each prediction equals that of ``Ridge(alpha)`` fitted on
    standardized features. Otherwise every covariance is computed from the rows that have both
    blocks (0 if none has), and the matrix is replaced by the nearest positive semi-definite one.
    A plain array is a single block without absent rows and is returned unchanged.

    Cost, D being the number of all features: `fit` O(n_samples * D ** 2) time, and O(D ** 3) if
    rows are absent; `transform` O(D ** 3) for each pattern of presence among its rows that lacks a
    block; D ** 2 numbers in memory.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mmfusion import BlockImputer, multimodal_frame
    >>> rng = np.random.default_rng(0)
    >>> image = rng.normal(size=(100, 3))
    >>> text = list(image @ np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]]))
    >>> truth, text[7] = text[7], None
    >>> X = multimodal_frame(image=image, text=text)
    >>> filled = BlockImputer(alpha=1e-3).fit_transform(X)
    >>> bool(np.allclose(filled[7, 3:], truth, atol=0.1))
    True
    """

    _parameter_constraints: dict = {"alpha": [Interval(Real, 0, None, closed="neither"), None]}
    _keeps_features = True

    def __init__(self, *, alpha=None):
        self.alpha = alpha

    def _fit_blocks(self, blocks):
        self.output_indices_ = side_by_side({block.name: block.width for block in blocks})
        moments = {block.name: _moments(block.values) for block in blocks}
        self.means_ = {name: mean for name, (mean, _) in moments.items()}
        self.scales_ = {name: scale for name, (_, scale) in moments.items()}
        self.n_present_ = {block.name: int(block.present.sum()) for block in blocks}
        self._alpha = self.alpha
        present = np.column_stack([block.present for block in blocks])
        together = present.T.astype(np.float64) @ present
        widths = [block.width for block in blocks]
        counts = np.repeat(np.repeat(together, widths, axis=0), widths, axis=1)
        rows = self._standardized(blocks)
        covariance = rows.T @ rows / np.maximum(counts, 1)
        self.covariance_ = covariance if present.all() else _semidefinite(covariance)

    def _standardized(self, blocks):
        """All features standardized, zeros where absent."""
        rows = [
            (block.filled(self.means_[block.name], np.float64) - self.means_[block.name])
            / self.scales_[block.name]
            for block in blocks
        ]
        return np.hstack(rows)

    def _fuse(self, blocks):
        widths = [block.width for block in blocks]
        rows = self._standardized(blocks)
        patterns, which = np.unique(
            np.column_stack([block.present for block in blocks]), axis=0, return_inverse=True
        )
        for i, pattern in enumerate(patterns):
            if pattern.any() and not pattern.all():
                known, here = np.repeat(pattern, widths), np.flatnonzero(which.ravel() == i)
                rows[np.ix_(here, ~known)] = rows[np.ix_(here, known)] @ self._weights(known)
        return np.hstack([self._filled(block, rows) for block in blocks])

    def _weights(self, known):
        """Ridge coefficients of the other standardized features on the known ones."""
        alpha = known.sum() if self._alpha is None else self._alpha
        penalty = np.empty(len(known))
        for name, slot in self.output_indices_.items():
            penalty[slot] = alpha / self.n_present_[name]
        gram = self.covariance_[np.ix_(known, known)] + np.diag(penalty[known])
        target = self.covariance_[np.ix_(known, ~known)]
        try:
            return linalg.cho_solve(linalg.cho_factor(gram), target)
        except linalg.LinAlgError:  # duplicate features: alpha lost in rounding
            return linalg.lstsq(gram, target)[0]

    def _filled(self, block, rows):
        """A block in all rows: its own values, and predictions where it is absent."""
        name, absent = block.name, ~block.present
        full = block.filled(self.fill_values_[name], np.float64)
        if absent.any():
            predicted = rows[absent, self.output_indices_[name]]
            full[absent] = predicted * self.scales_[name] + self.means_[name]
        return full


def _moments(values):
    """Mean and standard deviation of each feature, 1 for those that do not vary."""
    values = np.asarray(values, dtype=np.float64)
    mean, deviation = values.mean(axis=0), values.std(axis=0)
    # the mean of a constant 0.1 is off by rounding, so its deviation is pure rounding error
    rounding = len(values) * np.finfo(np.float64).eps * np.abs(mean)
    return mean, np.where(deviation > rounding, deviation, 1.0)


def _semidefinite(matrix):
    """The nearest positive semi-definite matrix: negative eigenvalues become 0."""
    values, vectors = np.linalg.eigh(matrix)
    return vectors * np.maximum(values, 0) @ vectors.T
