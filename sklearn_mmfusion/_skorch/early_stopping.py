"""Early stopping: the validation split and the choice of the epoch."""

import math
from dataclasses import replace

import numpy as np
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit, StratifiedShuffleSplit
from skorch.callbacks import Callback

from sklearn_mmfusion._validation import warn


class KeepBest(Callback):
    """Keep the weights of the last epoch that is as good as the best on the validation part.

    "As good" means within one standard error of the lowest loss. The last such epoch has the lowest
    learning rate. On a small validation part, the plain minimum is often an early epoch by chance.
    """

    def on_train_begin(self, net, **kwargs):
        self.loss, self.error, self.epoch, self.weights = math.inf, 0.0, 0, None

    def on_epoch_end(self, net, **kwargs):
        loss = net.history[-1].get("valid_loss")
        if loss is None:
            return
        if loss < self.loss:
            self.loss, self.error = loss, net.standard_error
        if loss <= self.loss + self.error or self.weights is None:
            self.epoch = len(net.history)
            self.weights = {k: v.detach().clone() for k, v in net.module_.state_dict().items()}

    def on_train_end(self, net, **kwargs):
        if self.weights is not None:
            net.module_.load_state_dict(self.weights)


def split_rows(target, groups, rows, fraction, seed, estimator_name):
    """Split the given rows into a training and a validation part.

    Returns
    -------
    train, valid : ndarray of int, or None if there are too few rows or groups to split
    """
    if groups is not None:
        groups = groups[rows]
        if len(np.unique(groups)) == 1:
            warn(
                f"{estimator_name}: all rows belong to one group, so none can be held out for "
                "validation and training runs for all epochs. Pass several groups, or set "
                "early_stopping=False."
            )
    split = validation_rows(replace(target, values=target.values[rows]), groups, fraction, seed)
    return None if split is None else tuple(rows[part] for part in split)


def validation_rows(target, groups, fraction, seed):
    """Split rows into a training and a validation part.

    With `groups`, whole groups go to one side. Else the split is stratified if every class has at
    least two rows.

    Returns
    -------
    train, valid : ndarray of int, or None if there are too few rows or groups to split
    """
    n = len(target.values)
    options = {"n_splits": 1, "test_size": fraction, "random_state": seed}
    rows = np.zeros(n)
    if groups is not None:
        if len(np.unique(groups)) < 2:
            return None
        train, valid = next(GroupShuffleSplit(**options).split(rows, groups=groups))
        return (train, valid) if len(train) > 1 else None
    n_valid = math.ceil(fraction * n)
    if n_valid < 2 or n - n_valid < 2:
        return None
    if target.values.ndim == 1:
        counts = np.unique(target.values, return_counts=True)[1]
        if counts.min() >= 2 and min(n_valid, n - n_valid) >= len(counts):
            return next(StratifiedShuffleSplit(**options).split(rows, target.values))
    return next(ShuffleSplit(**options).split(rows))


def drop_validation_callbacks(net, refuse):
    """Drop callbacks that monitor validation from a net without validation rows (the refit).

    With ``refuse``, raise instead: for fits without any validation.
    """
    for name, callback in list(net.callbacks_):
        if not str(getattr(callback, "monitor", "")).startswith("valid"):
            continue
        if refuse:
            raise ValueError(
                f"{net.estimator_name}: callback {name!r} has monitor={callback.monitor!r}, but "
                "there is no validation. Set early_stopping=True (partial_fit never validates), or "
                "monitor='train_loss'."
            )
        net.callbacks_.remove((name, callback))
