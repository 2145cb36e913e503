"""How blocks meet: the table of named fusions, fitting and applying one."""

import warnings
from dataclasses import replace

import numpy as np
from scipy import sparse

from sklearn_mmfusion._composition import seeded_clone
from sklearn_mmfusion._validation import noted
from sklearn_mmfusion.compose._blocks import append_indicators, concatenate, refuse_sparse
from sklearn_mmfusion.cross_decomposition import (
    GCCA,
    MCCA,
    MFA,
    BlockImputer,
    BlockPooling,
    BlockWeighting,
    BlockWhitening,
)
from sklearn_mmfusion.cross_decomposition._base import block_frame, side_by_side

# name -> the transformer over blocks that does it and what its name stands for; concat, which
# alone keeps sparse blocks sparse and tables' gaps open, needs none
FUSIONS = {
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


class FusionMixin:
    """The fusing half of a `FusionTransformer`: from blocks to one matrix."""

    def _check_absent(self, blocks):
        """Raise where ``missing="error"`` says so; warn of rows that have nothing."""
        who = type(self).__name__
        for block in blocks:
            if self.missing == "error" and not block.present.all():
                rows = np.flatnonzero(~block.present)
                raise ValueError(
                    f"{who}(missing='error'): modality {block.name!r} is absent in {len(rows)} of "
                    f"{len(block.present)} rows (first {rows[:5].tolist()}). Drop these rows, or "
                    "set missing='mean'."
                )
        empty = ~np.any([block.present for block in blocks], axis=0)
        if empty.any():
            warnings.warn(
                f"{who}: {empty.sum()} of {len(empty)} rows have no modality present (first "
                f"{np.flatnonzero(empty)[:5].tolist()}); what stands for absent modalities "
                "(parameter missing) is all their features say.",
                UserWarning,
                stacklevel=4,
            )

    def _impute(self, blocks, *, fit=False):
        """The blocks with nothing absent if ``missing="impute"``, else as they are."""
        if fit:
            self.imputer_ = BlockImputer() if self.missing == "impute" else None
        if self.imputer_ is None:
            return blocks
        refuse_sparse(blocks, "missing='impute'", "missing='mean'")
        with noted("Raised by missing='impute', which reads the features of every modality."):
            frame = block_frame(blocks)
            impute = self.imputer_.fit_transform if fit else self.imputer_.transform
            filled = impute(frame)
        where, present = self.imputer_.output_indices_, np.ones(len(filled), dtype=bool)
        return [replace(b, values=filled[:, where[b.name]], present=present) for b in blocks]

    def _build_fusion(self, seed):
        params = self.fusion_params or {}
        who = f"{type(self).__name__}(fusion={self.fusion!r})"
        if not isinstance(self.fusion, str):
            if params:
                raise ValueError(
                    f"{who}: fusion_params={params} is for a fusion given by name; set the "
                    "parameters of the fusion object itself."
                )
            return seeded_clone(self.fusion, seed, "fusion")
        kind, fixed = FUSIONS[self.fusion]
        allowed = set() if kind is None else set(kind().get_params()) - {"missing", *fixed}
        unknown = sorted(set(params) - allowed)
        if unknown:
            takes = sorted(allowed) or "no parameters"
            raise ValueError(f"{who} takes {takes}, got fusion_params with {unknown}.")
        if kind is None:
            return None
        return kind(missing="zero" if self.missing == "zero" else "mean", **fixed, **params)

    def _fit_fusion(self, blocks, y, seed):
        """Fit the fusion on the training blocks; return the fused features."""
        self._sparse = any(sparse.issparse(block.values) for block in blocks)
        self.fusion_ = self._build_fusion(seed)
        if self.fusion_ is None:
            return self._concat(blocks)
        refuse_sparse(blocks, f"fusion={self.fusion!r}", "fusion='concat'")
        with noted(f"Raised by fusion={self.fusion!r}, given one column of 1-D cells a modality."):
            self.fusion_.fit(block_frame(blocks), y)
        return self._fuse(blocks)

    def _fuse(self, blocks):
        if self.fusion_ is None:
            return self._concat(blocks)
        with noted(f"Raised by fusion={self.fusion!r}, given one column of 1-D cells a modality."):
            fused = np.asarray(self.fusion_.transform(block_frame(blocks)))
        n = len(blocks[0].present)
        if fused.ndim != 2 or len(fused) != n:
            raise ValueError(
                f"{type(self).__name__}: fusion={self.fusion!r} returned shape {fused.shape}; "
                f"expected ({n}, n_features)."
            )
        if np.isnan(fused).any():
            raise ValueError(
                f"{type(self).__name__}: fusion={self.fusion!r} returned NaN in "
                f"{np.isnan(fused).any(axis=1).sum()} of {n} rows; a fusion must decide what "
                "stands for absent blocks."
            )
        return fused.astype(np.float32, copy=False)

    def _concat(self, blocks):
        return concatenate(blocks, self.fill_values_, as_sparse=self._sparse)

    def _assemble(self, blocks, fused):
        """The fused features with their indicators."""
        return append_indicators(fused, blocks) if self.add_indicator else fused

    def _record_outputs(self, blocks, fused):
        if self.fusion_ is None:
            where = side_by_side({block.name: block.width for block in blocks})
        else:
            whole = {block.name: slice(0, fused.shape[1]) for block in blocks}
            where = {**whole, **getattr(self.fusion_, "output_indices_", {})}
        nothing = {name: slice(0, 0) for name, *_ in self.transformers_}
        indicators = [f"missingindicator_{block.name}" for block in blocks]
        flags = {name: slice(j, j + 1) for j, name in enumerate(indicators, fused.shape[1])}
        self.output_indices_ = {**nothing, **where, **(flags if self.add_indicator else {})}
        self._n_fused = fused.shape[1]
