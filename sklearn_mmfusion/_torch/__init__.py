"""Devices, seeds, and batches gathered by row index."""

from sklearn_mmfusion._torch._batches import BatchIterator, n_batches, predict_batches, predict_row
from sklearn_mmfusion._torch._device import isolated_rng, resolve_device
from sklearn_mmfusion._torch._rows import (
    Batch,
    DenseRows,
    FusionInputs,
    Inputs,
    LazyRows,
    RaggedRows,
    Rows,
)

__all__ = [
    "Batch",
    "BatchIterator",
    "DenseRows",
    "FusionInputs",
    "Inputs",
    "LazyRows",
    "RaggedRows",
    "Rows",
    "isolated_rng",
    "n_batches",
    "predict_batches",
    "predict_row",
    "resolve_device",
]
