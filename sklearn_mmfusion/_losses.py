"""The losses networks are trained with, and the kinds of target each suits."""

from functools import partial

import torch
from torch import nn

from sklearn_mmfusion.modules.objectives import EvidentialLoss

LOSSES = {
    "cross_entropy": (nn.CrossEntropyLoss, {"reduction": "none"}),
    "binary_cross_entropy": (nn.BCEWithLogitsLoss, {"reduction": "none"}),
    "evidential": (EvidentialLoss, {"reduction": "none"}),
    "squared_error": (nn.MSELoss, {"reduction": "none"}),
    "huber": (nn.HuberLoss, {"reduction": "none"}),
}
# losses that suit a type of target, the default first
LOSSES_FOR_TARGET = {
    "binary": ("cross_entropy", "evidential"),
    "multiclass": ("cross_entropy", "evidential"),
    "multilabel-indicator": ("binary_cross_entropy",),
    "continuous": ("squared_error", "huber"),
    "continuous-multioutput": ("squared_error", "huber"),
}
# from outputs to the probabilities that skorch's scoring callbacks ask for
NONLINEARITIES = {
    "cross_entropy": partial(torch.softmax, dim=-1),
    "binary_cross_entropy": torch.sigmoid,
}
