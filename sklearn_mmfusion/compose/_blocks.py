"""One modality: its transformer called, and its output as a `Block`."""

import numpy as np
from scipy import sparse

from sklearn_mmfusion._composition import log_elapsed
from sklearn_mmfusion._validation import noted
from sklearn_mmfusion.cross_decomposition._base import Block, block_mean, side_by_side

# ------------------------------------------------------------------------------ children


def _note(child, selection, doing):
    what = "column" if selection.single else "columns"
    labels = ", ".join(repr(label) for label in selection.labels[:5])
    return (
        f"Raised while {doing} modality {selection.name!r} of FusionTransformer "
        f"({type(child).__name__}, {what} {labels}). Rows are counted among those where the "
        "modality is present."
    )


def fit_child(child, data, y, selection, params, message):
    """Fit one transformer, a `CachedChild`; return it and its output for the present rows."""
    with (
        noted(_note(child.estimator, selection, "fitting")),
        log_elapsed("FusionTransformer", message, child),
    ):
        return child, child.fit_transform(data, y, params)


def transform_child(child, data, selection, params):
    """Output of one fitted `CachedChild` for the present rows, None if there are none."""
    if data is None:
        return None
    with noted(_note(child.estimator, selection, "transforming")):
        return child.transform(data, params.get("transform"))


# ------------------------------------------------------------------------------ blocks


def as_block(selection, child, output, present, width=None):
    """The `Block` of a transformer's output, and its column names where it is a frame."""
    columns = None
    if output is None:
        return Block(selection.name, np.zeros((0, width), dtype=np.float32), present), None
    if hasattr(output, "columns") and hasattr(output, "to_numpy"):
        columns = [str(name) for name in output.columns]
        output = output.to_numpy()
    values = output.tocsr() if sparse.issparse(output) else np.asarray(output)
    what = f"modality {selection.name!r}: {type(child).__name__} returned"
    if values.ndim != 2 or values.shape[0] != present.sum():
        raise ValueError(
            f"FusionTransformer: {what} shape {values.shape}; expected ({present.sum()}, "
            "n_features), a row for each row in which the modality is present."
        )
    if width is not None and values.shape[1] != width:
        raise ValueError(
            f"FusionTransformer: {what} {values.shape[1]} features, {width} when fitted."
        )
    return Block(selection.name, _as_float(values, what), present), columns


def _as_float(values, what):
    if values.dtype in (np.float32, np.float64):
        return values
    if values.dtype.kind in "biuf":
        exact = np.result_type(values.dtype, np.float32)  # int64 needs float64, bool does not
        return values.astype(np.float32 if exact == np.float32 else np.float64)
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"FusionTransformer: {what} dtype {values.dtype}, which holds more than numbers "
            f"({error}). Encode it, or set the modality to 'drop'."
        ) from error


def mean_features(values):
    """Mean over the present rows, in float64."""
    if sparse.issparse(values):
        return np.asarray(values.mean(axis=0, dtype=np.float64)).ravel()
    return block_mean(values)


def concatenate(blocks, fills, *, as_sparse):
    """Blocks side by side in float32, `fills` standing for absent rows."""
    if as_sparse:
        rows = [_sparse_rows(block, fills[block.name]) for block in blocks]
        return sparse.hstack(rows, format="csr")
    where = side_by_side({block.name: block.width for block in blocks})
    width = sum(block.width for block in blocks)
    fused = np.empty((len(blocks[0].present), width), dtype=np.float32)
    for block in blocks:
        fused[block.present, where[block.name]] = block.values
        fused[~block.present, where[block.name]] = fills[block.name]
    return fused


def _sparse_rows(block, fill):
    rows = sparse.csr_matrix(block.values, dtype=np.float32)
    if block.present.all():
        return rows
    source = sparse.vstack([rows, sparse.csr_matrix(fill[None], dtype=np.float32)], format="csr")
    index = np.full(len(block.present), rows.shape[0])
    index[block.present] = np.arange(rows.shape[0])
    return source[index]


def append_indicators(fused, blocks):
    """Append one column a block, 1.0 where it is absent."""
    absent = np.column_stack([~block.present for block in blocks]).astype(np.float32)
    if sparse.issparse(fused):
        return sparse.hstack([fused, sparse.csr_matrix(absent)], format="csr")
    return np.hstack([fused, absent])


def refuse_sparse(blocks, setting, otherwise):
    """Raise if a block is sparse, for a setting that cannot keep it so; say what could."""
    names = [block.name for block in blocks if sparse.issparse(block.values)]
    if names:
        raise ValueError(
            f"FusionTransformer({setting}): the features of {names} are sparse, and this setting "
            "needs them dense. Make them dense and few, with TruncatedSVD after the transformer or "
            f"its parameter sparse_output=False, or use {otherwise}."
        )
