"""Call the child transformers, turn their outputs into blocks, and fuse the blocks."""

from dataclasses import replace

import numpy as np
from scipy import sparse

from sklearn_mmfusion._columns import check_output, warn_empty_rows
from sklearn_mmfusion._triples import columns_hint, seeded_clone, wants_column
from sklearn_mmfusion._validation import add_error_note, check_real, log_elapsed, number_rows
from sklearn_mmfusion.cross_decomposition import (
    GCCA,
    MCCA,
    MFA,
    BlockPooling,
    BlockWeighting,
    BlockWhitening,
)
from sklearn_mmfusion.cross_decomposition.block_transformer import (
    Block,
    block_frame,
    block_mean,
    side_by_side,
)

# name -> block transformer and its fixed parameters. Only concat, which needs no transformer,
# preserves NaN in tables; only concat and weighted take sparse blocks, and preserve them.
FEATURE_FUSIONS = {
    "concat": (None, {}),
    "weighted": (BlockWeighting, {}),
    "whitened": (BlockWhitening, {}),
    "sum": (BlockPooling, {"method": "sum"}),
    "mean": (BlockPooling, {"method": "mean"}),
    "max": (BlockPooling, {"method": "max"}),
    "mfa": (MFA, {}),
    "mcca": (MCCA, {}),
    "gcca": (GCCA, {}),
}

COMPARED = 200_000  # numbers per block in which distinct values are counted, before and after

# ------------------------------------------------------------------------------ children


def _note(child, selection, doing):
    return (
        f"Raised while {doing} modality {selection.name!r} of FusionTransformer "
        f"({type(child).__name__}, {selection.describe()}).{columns_hint(child, selection)}"
    )


def fit_child(child, data, present, y, selection, params, message):
    """Fit one `CachedChild`; return it and its output for the present rows."""
    with (
        number_rows(np.flatnonzero(present)),
        add_error_note(_note(child.estimator, selection, "fitting")),
        log_elapsed("FusionTransformer", message, child),
    ):
        return child, child.fit_transform(data, y, params)


def transform_child(child, data, present, selection, params):
    """Return the output of a fitted `CachedChild` for the present rows, None if there are none."""
    if data is None:
        return None
    note = _note(child.estimator, selection, "transforming")
    with number_rows(np.flatnonzero(present)), add_error_note(note):
        return child.transform(data, params.get("transform"))


# ------------------------------------------------------------------------------ blocks


def as_block(selection, child, output, present, width=None, columns=None):
    """Return a transformer's output as a `Block`; `width` and `columns` are those of fit."""
    if output is None:
        return Block(selection.name, np.zeros((0, width), dtype=np.float32), present)
    values = output.tocsr() if sparse.issparse(output) else np.asarray(output)
    label = f"modality {selection.name!r}: {type(child).__name__}"
    if values.ndim != 2 or values.shape[0] != present.sum():
        raise ValueError(
            f"FusionTransformer: {label} returned shape {values.shape}; expected ({present.sum()}, "
            "n_features), one row per row in which the modality is present."
        )
    if width is not None:
        check_output(output, width, columns, f"FusionTransformer: {label}")
    values = _as_float(values, f"{label} returned")
    if wants_column(child):
        values, present = _without_absent(values, present)
    return Block(selection.name, values, present)


def _without_absent(values, present):
    """Leave out rows of NaN: the cells that a cleaner before the encoder has made absent."""
    absent = (
        np.zeros(len(values), bool) if sparse.issparse(values) else np.isnan(values).all(axis=1)
    )
    if not absent.any():
        return values, present
    left = present.copy()
    left[np.flatnonzero(present)[absent]] = False
    return values[~absent], left


def _as_float(values, label):
    if values.dtype in (np.float32, np.float64):
        return values
    if values.dtype.kind in "biuf":
        exact = np.result_type(values.dtype, np.float32)  # int64 needs float64, bool does not
        return values.astype(np.float32 if exact == np.float32 else np.float64)
    check_real(values.dtype, f"FusionTransformer: {label} complex numbers")
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"FusionTransformer: {label} dtype {values.dtype}, which is not numeric "
            f"({error}). Encode it, or set the modality to 'drop'."
        ) from error


def mean_features(block, sample_weight=None):
    """Return the mean of each feature over the present rows of positive weight, in float64."""
    values = block.values
    if sample_weight is not None:
        kept = sample_weight[block.present] > 0
        values = values if kept.all() or not kept.any() else values[kept]
    return block_mean(values)


def concatenate(blocks, fills, dtype, *, as_sparse):
    """Concatenate blocks as `dtype`, with `fills` in absent rows."""
    cast_blocks = [
        replace(block, values=cast(block.values, dtype, f"modality {block.name!r}", block.present))
        for block in blocks
    ]
    if as_sparse:
        rows = [block.sparse(fills[block.name]) for block in cast_blocks]
        return sparse.hstack(rows, format="csr")
    where = side_by_side({block.name: block.width for block in blocks})
    width = sum(block.width for block in blocks)
    fused = np.empty((len(blocks[0].present), width), dtype=dtype)
    for block in cast_blocks:
        fused[block.present, where[block.name]] = block.values
        fused[~block.present, where[block.name]] = fills[block.name]
    return fused


def cast(values, dtype, label, present):
    """Convert the features of the present rows to a dtype; raise if one is beyond its range."""
    if values.dtype == dtype:
        return values
    with np.errstate(over="ignore"):
        near = values.astype(dtype)
    numbers, before = (v.data if sparse.issparse(v) else v for v in (near, values))
    if np.isinf(numbers).any() and (np.isinf(numbers) & ~np.isinf(before)).any():
        near = near.toarray() if sparse.issparse(near) else near
        row, feature = (int(i[0]) for i in np.nonzero(np.isinf(near)))
        raise ValueError(
            f"FusionTransformer: {label}: feature {feature} is {values[row, feature]:g} in row "
            f"{np.flatnonzero(present)[row]}, beyond the range of {np.dtype(dtype)}. Scale it, or "
            "set dtype=np.float64 and fit again."
        )
    return near


def lossy_features(values, dtype):
    """Find features that lose more than 5 % of their distinct values in a dtype.

    Returns
    -------
    lossy : dict of {int: str}
        Distinct values that remain, by feature, such as "1 of 60". Only the first rows are
        compared, at most `COMPARED` numbers.
    """
    if values.dtype == dtype:
        return {}
    rows = values[: max(2, COMPARED // max(1, values.shape[1]))]
    before = np.sort(rows.toarray() if sparse.issparse(rows) else rows, axis=0)
    with np.errstate(over="ignore", invalid="ignore"):  # `cast` refuses infinity
        # the last of the 16 digits of float64 are noise
        rounding = 1e-13 * np.nanmax(np.abs(before), axis=0, initial=0)
        n_before = 1 + (np.diff(before, axis=0) > rounding).sum(axis=0)
        n_after = 1 + (np.diff(before.astype(dtype), axis=0) > 0).sum(axis=0)
    lossy = np.flatnonzero(n_after < 0.95 * n_before)
    return {int(j): f"{n_after[j]} of {n_before[j]}" for j in lossy}


def append_indicators(fused, blocks):
    """Append one column per block: 1.0 where the block is absent."""
    absent = np.column_stack([~block.present for block in blocks]).astype(fused.dtype)
    if sparse.issparse(fused):
        return sparse.hstack([fused, sparse.csr_matrix(absent)], format="csr")
    return np.hstack([fused, absent])


def refuse_sparse(blocks, setting, alternative):
    """Raise if a block is sparse but `setting` needs dense ones; suggest an alternative."""
    names = [block.name for block in blocks if sparse.issparse(block.values)]
    if names:
        raise ValueError(
            f"FusionTransformer({setting}): the features of {names} are sparse, and this setting "
            "needs dense features. Reduce them with TruncatedSVD after the transformer, set its "
            f"parameter sparse_output=False, or use {alternative}."
        )


# ------------------------------------------------------------------------------ absent blocks


def check_absent(blocks, missing):
    """Raise if a block is absent and ``missing="error"``; warn about rows without any modality."""
    for block in blocks:
        if missing == "error" and not block.present.all():
            rows = np.flatnonzero(~block.present)
            raise ValueError(
                f"FusionTransformer(missing='error'): modality {block.name!r} is absent in "
                f"{len(rows)} of {len(block.present)} rows (first {rows[:5].tolist()}). Drop these "
                "rows, or set missing='mean' and fit again."
            )
    warn_empty_rows(
        [block.present for block in blocks],
        "FusionTransformer",
        "all their features are fill values (parameter missing)",
    )


def impute(imputer, blocks, *, fit=False):
    """Fill the absent rows of each block with a `BlockImputer`; return them unchanged if None."""
    if imputer is None:
        return blocks
    refuse_sparse(blocks, "missing='impute'", "missing='mean'")
    with add_error_note("Raised by missing='impute', which uses the features of all modalities."):
        frame = block_frame(blocks)
        filled = imputer.fit_transform(frame) if fit else imputer.transform(frame)
    filled = np.asarray(filled)  # a frame, if config_context(transform_output="pandas") is set
    where, present = imputer.output_indices_, np.ones(len(filled), dtype=bool)
    return [replace(b, values=filled[:, where[b.name]], present=present) for b in blocks]


# ------------------------------------------------------------------------------ fusions


def build_fusion(fusion, fusion_params, missing, seed):
    """Return the unfitted block transformer of a `fusion` (name or object), None for concat."""
    params = fusion_params or {}
    label = f"FusionTransformer(fusion={fusion!r})"
    if not isinstance(fusion, str):
        if params:
            raise ValueError(
                f"{label}: fusion_params={params} is for a fusion given by name; set the "
                "parameters of the fusion object itself."
            )
        return seeded_clone(fusion, seed, "fusion")
    cls, fixed = FEATURE_FUSIONS[fusion]
    allowed = set() if cls is None else set(cls().get_params()) - {"missing", *fixed}
    unknown = sorted(set(params) - allowed)
    if unknown:
        takes = sorted(allowed) or "no parameters"
        raise ValueError(f"{label} takes {takes}, got fusion_params with {unknown}.")
    if cls is None:
        return None
    return cls(missing="zero" if missing == "zero" else "mean", **fixed, **params)


def fit_fusion(fusion, blocks, y, setting):
    """Fit a block transformer; messages name the parameter `setting`."""
    is_sparse = any(sparse.issparse(block.values) for block in blocks)
    weighs_sparse = is_sparse and isinstance(fusion, BlockWeighting)
    if not weighs_sparse:
        refuse_sparse(blocks, setting, "fusion='concat' or 'weighted'")
    with add_error_note(
        f"Raised by {setting}, which is fitted on one column of 1-D cells per modality."
    ):
        if weighs_sparse:
            fusion._fit_sparse(blocks)
            return
        fusion.fit(block_frame(blocks), y)


def fuse(fusion, blocks, setting, *, as_sparse):
    """Apply a fitted block transformer and check its output."""
    with add_error_note(f"Raised by {setting}, which reads one column of 1-D cells per modality."):
        if as_sparse:
            return fusion._fuse_sparse(blocks)
        fused = np.asarray(fusion.transform(block_frame(blocks)))
    n = len(blocks[0].present)
    if fused.ndim != 2 or len(fused) != n:
        raise ValueError(
            f"FusionTransformer: {setting} returned shape {fused.shape}; expected ({n}, "
            "n_features)."
        )
    if np.isnan(fused).any():
        raise ValueError(
            f"FusionTransformer: {setting} returned NaN in {np.isnan(fused).any(axis=1).sum()} of "
            f"{n} rows; a fusion must fill in absent blocks."
        )
    return fused
