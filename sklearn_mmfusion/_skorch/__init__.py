"""The engine that trains every network: the only room that imports skorch."""

from sklearn_mmfusion._skorch._net import KeepBest, Net, schedule
from sklearn_mmfusion._skorch._training import (
    LOSSES,
    SUITED,
    TRAINING_CONSTRAINTS,
    NetworkMixin,
    check_module,
    tells_evidence,
    validation_rows,
)

__all__ = [
    "LOSSES",
    "SUITED",
    "TRAINING_CONSTRAINTS",
    "KeepBest",
    "Net",
    "NetworkMixin",
    "check_module",
    "schedule",
    "tells_evidence",
    "validation_rows",
]
