"""Training of all networks. Only this package imports skorch."""

from sklearn_mmfusion._skorch.early_stopping import KeepBest, validation_rows
from sklearn_mmfusion._skorch.fitted_network import (
    FittedNetworkMixin,
    changed_settings,
    check_finite,
    check_module,
    check_same_settings,
    has_evidence,
    settings_of,
)
from sklearn_mmfusion._skorch.partial_fit import train_part
from sklearn_mmfusion._skorch.schedule import schedule
from sklearn_mmfusion._skorch.trainer import (
    TRAINING_CONSTRAINTS,
    Trainer,
    TrainingConfig,
    TrainingResult,
    training_config,
)
from sklearn_mmfusion._skorch.training_step import Net

__all__ = [
    "TRAINING_CONSTRAINTS",
    "FittedNetworkMixin",
    "KeepBest",
    "Net",
    "Trainer",
    "TrainingConfig",
    "TrainingResult",
    "changed_settings",
    "check_finite",
    "check_module",
    "check_same_settings",
    "has_evidence",
    "schedule",
    "settings_of",
    "train_part",
    "training_config",
    "validation_rows",
]
