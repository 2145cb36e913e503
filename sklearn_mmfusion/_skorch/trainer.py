"""What every estimator that owns a network shares: parameters, training, outputs, pickling."""

import math
import warnings
from dataclasses import replace
from inspect import Parameter, signature
from numbers import Integral, Real

import joblib
import numpy as np
import torch
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit, StratifiedShuffleSplit
from sklearn.utils import check_random_state
from skorch.callbacks import LRScheduler
from torch import nn

from sklearn_mmfusion._losses import LOSSES, LOSSES_FOR_TARGET, NONLINEARITIES
from sklearn_mmfusion._sklearn import Interval, StrOptions
from sklearn_mmfusion._skorch.accelerate import agree, make_net, speaks, start_accelerator
from sklearn_mmfusion._skorch.training_step import KeepBest
from sklearn_mmfusion._torch import (
    BatchIterator,
    Rows,
    isolated_rng,
    keep_freed_memory,
    n_batches,
    predict_batches,
    resident,
    resolve_device,
)
from sklearn_mmfusion._validation import CLASSIFICATION, add_error_note

# what net_params may not hold, and what to do instead
REFUSED = {
    "callbacks": "Use the parameter `callbacks`.",
    "module": "Use the parameter `module`.",
    "warm_start": "Use the parameter `warm_start`.",
    "iterator_train__num_workers": "Batches are gathered in this process.",
    "iterator_valid__num_workers": "Batches are gathered in this process.",
}
MIN_EPOCHS = 20  # what max_epochs="auto" guarantees, beside NetworkMixin._min_steps

# what _parameter_constraints of every estimator that trains a network holds
TRAINING_CONSTRAINTS = {
    "module": [callable, None],
    "module_params": [dict, None],
    "dropout": [Interval(Real, 0, 1, closed="left")],
    "max_epochs": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
    "lr": [Interval(Real, 0, None, closed="neither")],
    # batch normalization needs two rows
    "batch_size": [Interval(Integral, 2, None, closed="left"), StrOptions({"auto"})],
    "optimizer": [callable],
    "weight_decay": [Interval(Real, 0, None, closed="left")],
    "label_smoothing": [Interval(Real, 0, 1, closed="left")],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "refit": ["boolean"],
    "callbacks": [list, None],
    "net_params": [dict, None],
    "device": [str],
    "precision": [StrOptions({"float32", "bf16"})],
    "warm_start": ["boolean"],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}


def check_module(estimator):
    """Refuse a network instance as the ``module`` parameter.

    Raises
    ------
    TypeError
    """
    if isinstance(estimator.module, nn.Module):
        raise TypeError(
            f"{type(estimator).__name__}: module={type(estimator.module).__name__}(...) is an "
            "instance; expected a class, because a clone would keep its trained weights. Pass "
            "the class as `module` and its arguments as `module_params`."
        )


def tells_evidence(estimator):
    """Whether a network was, or is to be, trained with the evidential loss; for `available_if`."""
    loss = getattr(estimator, "_fitted_loss", estimator.loss)
    if loss != "evidential":
        raise AttributeError(
            f"{type(estimator).__name__} has loss={loss!r}; evidence needs loss='evidential'."
        )
    return True


def validation_rows(target, groups, fraction, seed):
    """Split rows into a training and a validation part.

    Whole groups go to one side where groups are given; else classes are kept in proportion
    where every class has two rows.

    Returns
    -------
    train, valid : ndarray of int, or None where there are too few rows or groups to split
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


def _watches_validation(callback):
    return str(getattr(callback, "monitor", "")).startswith("valid")


class NetworkMixin:
    """What every estimator that owns a network shares: training, outputs, pickling.

    A subclass has the training parameters in its ``__init__``; ``_describe_module()``, class and
    arguments of the network, taken down in ``fit``; and ``_build_module(n_outputs)``, which makes
    an untrained network of that description, whatever the parameters are by then.
    """

    _min_steps = 300  # that max_epochs="auto" guarantees
    _max_norm = 1.0  # that gradients are clipped to

    def _train(self, inputs, target, weight, groups):
        """Train, choosing the number of epochs on a validation part; set fitted attributes."""
        self._check_warm_start(target)
        self._target, self._fitted_loss = replace(target, values=None), self._loss(target.kind)
        self._module_spec = self._describe_module()
        rows = np.arange(len(inputs))
        if weight is not None:
            rows = rows[weight > 0]
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        device = resolve_device(self.device)
        if accelerator := start_accelerator(self.net_params):
            seed = agree(accelerator, seed, rows, target.values)
            device = str(accelerator.device) if self.device == "auto" else device
        epochs = self._n_epochs(len(rows), self._min_steps)
        split = self._split(target, groups, rows, seed) if self.early_stopping else None
        inputs = resident(inputs, device)
        parts = [Rows(inputs, target.values, weight, r) for r in (split or (rows,))]
        self._announce("training", parts, epochs)
        with isolated_rng(seed, device), keep_freed_memory(device):
            net, best = self._fit_net(target, parts, epochs, seed, device)
        self.history_ = [{k: v for k, v in e.items() if k != "batches"} for e in net.history]
        self.n_iter_ = len(net.history) if best is None else best
        if split is not None and self.refit:
            parts = [Rows(inputs, target.values, weight, rows)]
            self._announce("refit on all rows", parts, self.n_iter_)
            with isolated_rng(seed, device), keep_freed_memory(device):
                net, _ = self._fit_net(target, parts, self.n_iter_, seed, device)
        self.module_ = getattr(net.module_, "_orig_mod", net.module_).eval()  # if compiled

    def _announce(self, what, parts, epochs):
        if self.verbose and speaks(self.net_params):
            sizes = " + ".join(str(len(part)) for part in parts)
            print(f"[{type(self).__name__}] {what}: {sizes} rows, {epochs} epochs")

    def _split(self, target, groups, rows, seed):
        if groups is not None:
            groups = groups[rows]
            if len(np.unique(groups)) == 1:
                warnings.warn(
                    f"{type(self).__name__}: all rows are of one group, so that there is none to "
                    "validate on: training takes all epochs, early_stopping notwithstanding.",
                    UserWarning,
                    stacklevel=3,
                )
        kept = replace(target, values=target.values[rows])
        split = validation_rows(kept, groups, self.validation_fraction, seed)
        return None if split is None else tuple(rows[part] for part in split)

    def _batch_size(self, n_rows):
        if self.batch_size == "auto":
            return 32 if n_rows < 1000 else 64
        return min(self.batch_size, n_rows)

    def _n_epochs(self, n_rows, min_steps):
        if self.max_epochs != "auto":
            return self.max_epochs
        return max(MIN_EPOCHS, -(-min_steps // -(-n_rows // self._batch_size(n_rows))))

    def _fit_net(self, target, parts, epochs, seed, device, module=None):
        """Train a net on the first part, watching the second: net, best epoch or None.

        Without a `module` a fresh one is made.
        """
        keep_best = KeepBest()
        params = self._net_params(target.kind, epochs, len(parts[0]))
        steps_an_epoch = n_batches(len(parts[0]), params["batch_size"])
        defaults = {
            "device": device,
            "precision": self.precision,
            "kind": target.kind,
            "n_outputs": target.n_outputs,
            "max_norm": self._max_norm,
            "owner": type(self).__name__,
            "total_steps": params["max_epochs"] * steps_an_epoch,
            "iterator_train": BatchIterator,
            "iterator_train__shuffle": True,
            "iterator_train__seed": seed,
            "iterator_train__device": device,
            "iterator_valid": BatchIterator,
            "iterator_valid__device": device,
            "train_split": (lambda dataset, y=None: tuple(parts)) if len(parts) == 2 else None,
            "callbacks": [("keep_best", keep_best), *(self.callbacks or [])],
        }
        if module is None:
            module = self._initial_module(target, parts, params, device, seed)
            params = {**self._part_rates(), **params}
        with add_error_note(
            f"{type(self).__name__} has net_params={self.net_params} for skorch's net."
        ):
            net = make_net(module, {**defaults, **params}).initialize()
        if len(parts) == 1:
            self._leave_out_validation(net)
        self._check_callbacks(net)
        # What skorch's fit does, except that it would swallow the user's interrupt and carry on
        # with a half-trained network.
        net.stopped_by_callback_ = False
        net.notify("on_train_begin", X=parts[0], y=None)
        try:
            net.fit_loop(parts[0])
        except KeyboardInterrupt:
            if not net.stopped_by_callback_:
                raise
        net.notify("on_train_end", X=parts[0], y=None)
        return net, keep_best.epoch if len(parts) == 2 else None

    def _leave_out_validation(self, net):
        """Drop callbacks that watch a validation, as in the refit; refuse them if none is asked."""
        for pair in [pair for pair in net.callbacks_ if _watches_validation(pair[1])]:
            if not self.early_stopping:
                raise ValueError(
                    f"{type(self).__name__}: callback {pair[0]!r} has monitor={pair[1].monitor!r}, "
                    "but nothing is validated. Set early_stopping=True, or have it watch "
                    "'train_loss'."
                )
            net.callbacks_.remove(pair)

    def _check_callbacks(self, net):
        for name, callback in net.callbacks_:
            if isinstance(callback, LRScheduler):
                raise ValueError(
                    f"{type(self).__name__}: callback {name!r} is an LRScheduler, which would "
                    "change nothing: the learning rate has a schedule of its own (warm-up, then a "
                    "half cosine from `lr`). Leave it out."
                )

    def _net_params(self, kind, epochs, n_rows):
        """Parameters of skorch's net; the user's `net_params` come last."""
        optimizer = getattr(self.optimizer, "func", self.optimizer)  # of a partial
        step = getattr(optimizer, "step", None)
        closure = signature(step).parameters.get("closure") if step is not None else None
        if closure is not None and closure.default is Parameter.empty:
            raise ValueError(
                f"{type(self).__name__}: optimizer={optimizer.__name__} evaluates the loss "
                "several times a step, by a closure; expected one that takes a step from the "
                "gradients, such as torch.optim.AdamW."
            )
        criterion, options = self._criterion(self._loss(kind))
        params = {
            "criterion": criterion,
            **{f"criterion__{k}": v for k, v in options.items()},
            "lr": self.lr,
            "max_epochs": epochs,
            "batch_size": self._batch_size(n_rows),
            "optimizer": self.optimizer,
            "verbose": self.verbose,
        }
        if kind in CLASSIFICATION:  # skorch would make two columns of each label
            params["predict_nonlinearity"] = NONLINEARITIES.get(self._loss(kind))
        accepted = signature(self.optimizer).parameters
        for name, value in {"weight_decay": self.weight_decay, "fused": True}.items():
            if name in accepted:
                params[f"optimizer__{name}"] = value
        max_norm = (self.net_params or {}).get("max_norm", self._max_norm)
        if not isinstance(max_norm, Real) or not max_norm > 0:
            raise ValueError(
                f"{type(self).__name__}: net_params has max_norm={max_norm!r}; expected a number "
                "above 0, to which the norm of gradients is clipped, or math.inf for no clipping."
            )
        for name in REFUSED.keys() & (self.net_params or {}):
            raise ValueError(
                f"{type(self).__name__}: net_params has {name!r}, which is not skorch's to decide "
                f"here. {REFUSED[name]}"
            )
        return {**params, **(self.net_params or {})}

    def _part_rates(self):
        """skorch parameter groups, for parts of the network with a learning rate of their own."""
        return {}

    def _criterion(self, loss):
        """Class and arguments of a loss."""
        criterion, options = LOSSES[loss]
        if criterion is nn.CrossEntropyLoss:
            options = {**options, "label_smoothing": self.label_smoothing}
        return criterion, options

    def _initial_module(self, target, parts, params, device, seed):
        module = self._build_module(target.n_outputs).to(device)
        if not (self.warm_start and hasattr(self, "module_")):
            self._start(module, target, parts, params, device, seed)
        else:
            try:
                module.load_state_dict(self.module_.state_dict())
            except RuntimeError as error:
                raise ValueError(
                    f"{type(self).__name__}: warm_start=True, but the network that X and y ask for "
                    "has another shape than the fitted one (other classes, sizes or vocabulary). "
                    "Set warm_start=False."
                ) from error
        return module

    def _check_warm_start(self, target):
        """Refuse to go on from a network whose outputs mean other classes."""
        if not (self.warm_start and hasattr(self, "module_")):
            return
        before, names = (
            self._target,
            [list(getattr(t, "targets", ())) for t in (self._target, target)],
        )
        same = before.kind == target.kind and names[0] == names[1]
        if not same or joblib.hash(before.classes) != joblib.hash(target.classes):
            raise ValueError(
                f"{type(self).__name__}: warm_start=True, but y has classes {target.classes} "
                f"({target.kind}), the fitted network {before.classes} ({before.kind}). Set "
                "warm_start=False."
            )

    def _start(self, module, target, parts, params, device, seed):
        """Give a fresh module better weights than random ones, where there is a way."""

    def _loss(self, kind):
        suited = LOSSES_FOR_TARGET[kind]
        if self.loss != "auto" and self.loss not in suited:
            raise ValueError(
                f"{type(self).__name__}: loss={self.loss!r} does not fit: the target is {kind}, "
                f"for which it must be {' or '.join(map(repr, suited))}. Set loss='auto'."
            )
        return suited[0] if self.loss == "auto" else self.loss

    def _outputs(self, module, inputs, method="forward"):
        """Outputs of a module over all rows: ndarray of shape (n_samples, ...), float32."""
        device = resolve_device(self.device)
        return predict_batches(module.to(device), inputs, device=device, method=method)

    def __getstate__(self):
        # numpy only: no device tags, nothing that needs a GPU to be read back
        state = dict(super().__getstate__())
        if "module_" in state:
            weights = state["module_"].state_dict()
            state["module_"] = {k: v.detach().cpu().numpy() for k, v in weights.items()}
        return state

    def __setstate__(self, state):
        super().__setstate__(state)
        if isinstance(state.get("module_"), dict):
            with isolated_rng(0, "cpu"):
                module = self._build_module(self._n_outputs)
            weights = {k: torch.from_numpy(np.array(v)) for k, v in state["module_"].items()}
            module.load_state_dict(weights)
            self.module_ = module.eval()
