"""Devices, seeds, memory, and batches gathered by row index."""

from sklearn_mmfusion._torch.allocator import keep_freed_memory
from sklearn_mmfusion._torch.batches import (
    BatchIterator,
    FixedBatches,
    n_batches,
    predict_batches,
    predict_row,
    prefetched,
    resident,
    rows_per_batch,
    split_long,
    steps_per_batch,
)
from sklearn_mmfusion._torch.device import (
    isolated_rng,
    load_module_state,
    module_state,
    note_out_of_memory,
    place_fitted,
    rebuild_module,
    resolve_device,
    side_stream,
)
from sklearn_mmfusion._torch.row_dataset import (
    Batch,
    DenseRows,
    FusionInputs,
    Inputs,
    LazyRows,
    RaggedRows,
    RowDataset,
)

__all__ = [
    "Batch",
    "BatchIterator",
    "DenseRows",
    "FixedBatches",
    "FusionInputs",
    "Inputs",
    "LazyRows",
    "RaggedRows",
    "RowDataset",
    "isolated_rng",
    "keep_freed_memory",
    "load_module_state",
    "module_state",
    "n_batches",
    "note_out_of_memory",
    "place_fitted",
    "predict_batches",
    "predict_row",
    "prefetched",
    "rebuild_module",
    "resident",
    "resolve_device",
    "rows_per_batch",
    "side_stream",
    "split_long",
    "steps_per_batch",
]
