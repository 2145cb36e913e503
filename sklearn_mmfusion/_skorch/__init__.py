"""The engine that trains every network: the only room that imports skorch."""

from sklearn_mmfusion._skorch.trainer import (
    TRAINING_CONSTRAINTS,
    NetworkMixin,
    check_module,
    tells_evidence,
    validation_rows,
)
from sklearn_mmfusion._skorch.training_step import KeepBest, Net, schedule

__all__ = [
    "TRAINING_CONSTRAINTS",
    "KeepBest",
    "Net",
    "NetworkMixin",
    "check_module",
    "schedule",
    "tells_evidence",
    "validation_rows",
]
