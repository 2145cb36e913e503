"""Training in parts: one pass over the rows of each call of `partial_fit`."""

from dataclasses import replace

import numpy as np
import torch
from skorch.callbacks import Callback

from sklearn_mmfusion._skorch.trainer import Trainer

# One pass at a constant learning rate; overrides the `net_params` of the user.
ONE_PASS = {"max_epochs": 1, "total_steps": None}


class OptimizerState(Callback):
    """Start from the optimizer state of earlier training, and store that of this training.

    Parameters
    ----------
    state : tuple of (str, dict) or None
        Name of the optimizer's class and its state, as numpy arrays: no GPU is needed to unpickle
        them. Ignored if the optimizer is of another class.
    """

    def __init__(self, state):
        self.state = state

    def on_train_begin(self, net, **kwargs):
        optimizer = net.optimizer_
        if self.state is None or self.state[0] != type(optimizer).__qualname__:
            return
        state = _map_values(self.state[1], np.ndarray, lambda v: torch.from_numpy(v.copy()))
        groups = optimizer.param_groups  # loading would copy them, and with them the rates
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        optimizer.param_groups = groups

    def on_train_end(self, net, **kwargs):
        state = net.optimizer_.state_dict()["state"]
        state = _map_values(state, torch.Tensor, lambda v: v.detach().cpu().numpy())
        self.state = type(net.optimizer_).__qualname__, state


def _map_values(state, cls, function):
    """Apply a function to the values of an optimizer's state that are of a class."""
    return {
        key: {name: function(v) if isinstance(v, cls) else v for name, v in values.items()}
        for key, values in state.items()
    }


def train_part(estimator, config, inputs, target, weight, weights):
    """Train the network of an estimator on the rows of one call of `partial_fit`.

    Sets ``module_``, ``history_``, ``n_iter_`` and the state of the optimizer.

    Parameters
    ----------
    estimator : FittedNetworkMixin
    config : TrainingConfig
        As for `fit`.
    inputs, target, weight, weights
        See `Trainer.train`; ``weights`` is None in the first call.
    """
    done, history, state = 0, [], None
    if weights is not None:
        done, history = estimator.n_iter_, estimator.history_
        state = getattr(estimator, "_optimizer_state", None)
    optimizer_state = OptimizerState(state)
    config = replace(
        config,
        seed=config.seed + done,  # each call draws its own batches
        max_epochs=1,
        early_stopping=False,
        callbacks=[*(config.callbacks or []), optimizer_state],
        net_params={**(config.net_params or {}), **ONE_PASS},
    )
    result = Trainer(config).train(estimator._build_module, inputs, target, weight, weights=weights)
    estimator.module_, estimator.n_iter_ = result.module, done + 1
    estimator.history_ = [*history, *({**e, "epoch": done + 1} for e in result.history)]
    estimator._optimizer_state = optimizer_state.state
