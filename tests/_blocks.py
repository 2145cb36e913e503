"""Feature blocks with absent rows, for the tests of fusions over blocks."""

import numpy as np

from sklearn_mmfusion.containers import TensorArray, multimodal_frame


def make_blocks(n=30, widths=(5, 5, 5), missing=0.0, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    blocks, mask = {}, rng.random((n, len(widths))) >= missing
    mask[0] = True  # every block is there once
    for j, width in enumerate(widths):
        values = (j + 1) * rng.normal(size=(n, width)) + j
        blocks["abc"[j]] = values.astype(dtype)
    return blocks, mask


def make_frame(blocks, mask=None):
    frame = multimodal_frame(**blocks)
    if mask is not None:
        for j, name in enumerate(blocks):
            rows = np.where(mask[:, j], np.arange(len(mask)), -1)
            frame[name] = TensorArray(blocks[name]).take(rows, allow_fill=True)
    return frame


def make_related(n=60, widths=(4, 6, 5), missing=0.0, seed=0):
    """Blocks that share three directions of falling strength, each with noise of its own."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n, 3)) * [2.0, 1.0, 0.5]
    blocks = {
        name: shared @ rng.normal(size=(3, width)) + rng.normal(size=(n, width)) + j
        for j, (name, width) in enumerate(zip("abc", widths, strict=False))
    }
    mask = rng.random((n, len(widths))) >= missing
    mask[np.arange(n), rng.integers(len(widths), size=n)] = True  # every row has something
    return blocks, mask
