"""Fusion of blocks that share one feature space: their mean, sum or maximum."""

import numpy as np

from sklearn_mmfusion._sklearn import StrOptions
from sklearn_mmfusion.cross_decomposition.block_transformer import BlockTransformer


class BlockPooling(BlockTransformer):
    """Pool blocks of equal width into one, over the blocks that are present.

    Feature ``j`` of the output is the mean, sum or maximum of feature ``j`` of all present blocks:
    sensible where the blocks share one space, as the outputs of encoders trained on the same
    classes do. An absent block leaves the pool; nothing is filled in for it.

    Parameters
    ----------
    method : {"mean", "sum", "max"}, default="mean"
        How to pool.
    missing : {"mean", "zero"}, default="mean"
        Features of rows in which **all** blocks are absent: the blocks' training means or zeros.

    Attributes
    ----------
    fill_values_ : dict of {str: ndarray of shape (width,)}
        Features of each block in rows without any block.
    output_indices_ : dict of {str: slice}
        Position of each block in the output: all of it, for every block.
    n_features_in_ : int
        Number of columns seen in `fit`: blocks, or features of a plain array.
    feature_names_in_ : ndarray of str
        Names of the columns, when all are strings.

    See Also
    --------
    BlockWeighting : Keeps the blocks apart.

    Notes
    -----
    Cost: O(n_samples * n_features) in time, one output in memory.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mmfusion import BlockPooling, multimodal_frame
    >>> X = multimodal_frame(image=[[1.0, 5.0], [2.0, 2.0]], text=[[3.0, 1.0], None])
    >>> BlockPooling(method="max").fit_transform(X)
    array([[3., 5.],
           [2., 2.]])
    """

    _parameter_constraints: dict = {
        **BlockTransformer._parameter_constraints,
        "method": [StrOptions({"mean", "sum", "max"})],
    }
    _shares_output = True

    def __init__(self, *, method="mean", missing="mean"):
        self.method = method
        self.missing = missing

    def _fit_blocks(self, blocks):
        widths = {block.name: block.width for block in blocks}
        if len(set(widths.values())) > 1:
            raise ValueError(
                f"BlockPooling(method={self.method!r}) needs blocks of equal width, got {widths}. "
                "Give the transformers the same number of components, or put the blocks side by "
                "side (fusion='concat', 'weighted' or 'whitened')."
            )
        self.output_indices_ = {name: slice(0, width) for name, width in widths.items()}
        self._feature_name = self.method

    def _fuse(self, blocks):
        shape = (len(blocks[0].present), blocks[0].width)
        pooled = np.full(shape, -np.inf if self.method == "max" else 0.0)
        count = np.zeros(len(pooled))
        for block in blocks:
            pool = np.maximum if self.method == "max" else np.add
            pooled[block.present] = pool(pooled[block.present], block.values)
            count += block.present
        if self.method == "mean":
            pooled /= np.maximum(count, 1)[:, None]
        empty = count == 0
        if empty.any():
            fills = np.stack([self.fill_values_[block.name] for block in blocks])
            pooled[empty] = getattr(np, self.method)(fills, axis=0)
        return pooled
