"""Training of all networks: a `Trainer`, configured by a `TrainingConfig`.

An estimator makes the config once per fit (`training_config`) with its loss and learning rates, and
passes functions that build and pretrain its network. The trainer does not depend on estimators.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from inspect import Parameter, signature
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
import torch
from sklearn.utils import check_random_state
from torch import nn

from sklearn_mmfusion._losses import LOSSES, criterion_for
from sklearn_mmfusion._sklearn import Interval, StrOptions
from sklearn_mmfusion._skorch.accelerate import make_net, start_accelerator, sync_seed
from sklearn_mmfusion._skorch.early_stopping import KeepBest, drop_validation_callbacks, split_rows
from sklearn_mmfusion._skorch.fixed_steps import LOGGER, FixedSteps, why_gather
from sklearn_mmfusion._skorch.schedule import MIN_STEPS, batch_rows, n_epochs, refuse_schedulers
from sklearn_mmfusion._torch import (
    BatchIterator,
    FixedBatches,
    RowDataset,
    isolated_rng,
    keep_freed_memory,
    load_module_state,
    note_out_of_memory,
    resident,
    resolve_device,
    rows_per_batch,
)
from sklearn_mmfusion._validation import CLASSIFICATION, add_error_note

VALID_BATCHES = 16  # on a GPU: batches of training in one of validation

# unsupported net_params and what to do instead
REFUSED = {
    "callbacks": "Use the parameter `callbacks`.",
    "module": "Use the parameter `module`.",
    "warm_start": "Use the parameter `warm_start`.",
    "iterator_train__num_workers": "Batches are gathered in this process.",
    "iterator_valid__num_workers": "Batches are gathered in this process.",
}

# for _parameter_constraints of every estimator that trains a network
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


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a training, besides data and network.

    The fields of the first group are parameters of every estimator that trains a network.
    """

    max_epochs: int | str
    batch_size: int | str
    lr: float
    optimizer: Callable
    weight_decay: float
    early_stopping: bool
    validation_fraction: float
    refit: bool
    callbacks: list | None
    net_params: dict | None
    device: str
    precision: str
    verbose: int

    estimator_name: str  # name of the estimator, for messages
    seed: int
    kind: str  # type of the target
    n_outputs: int
    criterion: type[nn.Module]
    criterion_options: dict
    nonlinearity: Callable | None  # from outputs to probabilities, for skorch's scoring callbacks
    min_steps: int  # minimum number of steps with max_epochs="auto"
    max_norm: float  # gradients are clipped to this norm
    param_groups: list | None  # learning rates of parts of the network, in skorch's format
    augmentation: Callable | None  # changes the inputs of training batches; has `to(device)`


class TrainingResult(NamedTuple):
    """The trained network, the losses of each epoch and the number of epochs."""

    module: nn.Module
    history: list
    n_iter: int


def training_config(
    estimator,
    target,
    loss,
    *,
    criterion=None,
    param_groups=None,
    min_steps=MIN_STEPS,
    max_norm=1.0,
    augmentation=None,
):
    """Make the config of a fit from the parameters of an estimator.

    Parameters
    ----------
    estimator : estimator
    target : Target or MultiTarget
    loss : str
        Key of `LOSSES`; "auto" with a `criterion` for several targets.
    criterion : tuple of (type, dict), default=None
        Class and arguments of a loss that replaces the one of `LOSSES`.
    param_groups : list, default=None
        skorch's ``optimizer__param_groups``.
    min_steps : int, default=300
    max_norm : float, default=1.0
    augmentation : Augmentation or JointAugmentation, default=None

    Returns
    -------
    config : TrainingConfig
    """
    parameters = estimator.get_params(deep=False)
    shared = {f.name: parameters[f.name] for f in fields(TrainingConfig) if f.name in parameters}
    estimator_name = type(estimator).__name__
    check_optimizer(estimator.optimizer, estimator_name)
    check_net_params(estimator.net_params or {}, max_norm, estimator_name)
    seed = int(check_random_state(estimator.random_state).randint(np.iinfo(np.int32).max))
    criterion = criterion or criterion_for(loss, parameters.get("label_smoothing", 0.0))
    return TrainingConfig(
        **shared,
        estimator_name=estimator_name,
        seed=seed,
        kind=target.kind,
        n_outputs=target.n_outputs,
        criterion=criterion[0],
        criterion_options=criterion[1],
        nonlinearity=LOSSES[loss].nonlinearity if loss in LOSSES else None,
        min_steps=min_steps,
        max_norm=max_norm,
        param_groups=param_groups,
        augmentation=augmentation,
    )


def check_optimizer(optimizer, estimator_name):
    """Raise for optimizers that evaluate the loss several times per step."""
    optimizer = getattr(optimizer, "func", optimizer)  # of a partial
    step = getattr(optimizer, "step", None)
    closure = signature(step).parameters.get("closure") if step is not None else None
    if closure is not None and closure.default is Parameter.empty:
        raise ValueError(
            f"{estimator_name}: optimizer={optimizer.__name__} evaluates the loss several times "
            "per step, with a closure; expected one that needs only the gradients, such as "
            "torch.optim.AdamW."
        )


def check_net_params(net_params, max_norm, estimator_name):
    """Raise for unsupported `net_params` and for wrong values of our own ones."""
    max_norm = net_params.get("max_norm", max_norm)
    if not isinstance(max_norm, Real) or not max_norm > 0:
        raise ValueError(
            f"{estimator_name}: net_params has max_norm={max_norm!r}; expected a number above "
            "0, to which the norm of gradients is clipped, or math.inf for no clipping."
        )
    if net_params.get("cuda_graph", "auto") not in ("auto", False):
        raise ValueError(
            f"{estimator_name}: net_params has cuda_graph={net_params['cuda_graph']!r}; expected "
            "'auto' or False."
        )
    for name in REFUSED.keys() & net_params:
        raise ValueError(
            f"{estimator_name}: net_params has {name!r}, which is not supported here. "
            f"{REFUSED[name]}"
        )


class Trainer:
    """Train networks with the settings of a config.

    Parameters
    ----------
    config : TrainingConfig
    """

    def __init__(self, config):
        self.config = config
        self.seed = config.seed
        self.device = resolve_device(config.device)
        self.accelerator = start_accelerator(config.net_params)
        if self.accelerator is not None and config.device == "auto":
            self.device = str(self.accelerator.device)

    def train(
        self,
        build_module,
        inputs,
        target,
        weight=None,
        groups=None,
        weights=None,
        pretrain=None,
        calibrate=None,
    ):
        """Train a network. With early stopping, find the number of epochs, then refit on all rows.

        Parameters
        ----------
        build_module : callable
            ``build_module()`` makes an untrained network and draws its weights.
        inputs : Inputs or FusionInputs
        target : Target or MultiTarget
        weight : ndarray of shape (n_samples,), default=None
            Rows of weight zero are left out.
        groups : ndarray of shape (n_samples,), default=None
            Rows of one group stay on one side of the validation split.
        weights : pair of dict, default=None
            `module_state` of a trained network to start from.
        pretrain : callable, default=None
            ``pretrain(module, parts, trainer)`` improves the weights of a fresh network in place
            before training. ``parts`` holds a `RowDataset` of training rows and, with early
            stopping, one of validation rows. Not called if `weights` are given.
        calibrate : callable, default=None
            ``calibrate(module, part, device)`` is called with the trained network and the
            `RowDataset` of the validation rows, before the refit. Not called without early
            stopping.

        Returns
        -------
        result : TrainingResult
        """
        config, result = self.config, None
        rows = np.arange(len(inputs)) if weight is None else np.flatnonzero(weight > 0)
        if self.accelerator is not None:
            self.seed = sync_seed(self.accelerator, config.seed, rows, target.values)
        split = self._split(target, groups, rows) if config.early_stopping else None
        inputs = resident(inputs, self.device)
        stages = [("training", split or (rows,))]
        if split is not None and config.refit:
            stages.append(("refit on all rows", (rows,)))
        for stage, row_sets in stages:
            sources = [inputs.drawn(self.seed), inputs]  # of training and validation
            parts = [
                RowDataset(source, target.values, weight, part)
                for source, part in zip(sources, row_sets, strict=False)
            ]
            epochs = self.n_epochs(len(rows)) if result is None else result.n_iter
            self.announce(stage, parts, epochs)
            with (
                isolated_rng(self.seed, self.device),
                keep_freed_memory(self.device),
                note_out_of_memory(self._memory_hint(len(rows))),
            ):
                module = self._initial_module(build_module, weights)
                if weights is None and pretrain is not None:
                    pretrain(module, parts, self)
                net = self.make_net(module, parts, epochs, config.param_groups, config.augmentation)
                with net.training_on(parts[0]):
                    net.fit_loop(parts[0])
            module = getattr(net.module_, "_orig_mod", net.module_).eval()  # if compiled
            if result is None:
                history = [{k: v for k, v in e.items() if k != "batches"} for e in net.history]
                result = TrainingResult(module, history, net.best_epoch or len(history))
                if calibrate is not None and len(parts) == 2:
                    calibrate(module, parts[1], self.device)
        return result._replace(module=module)

    def _initial_module(self, build_module, weights):
        module = build_module()
        if weights is None:
            return module.to(self.device)
        try:
            load_module_state(module, weights)
        except RuntimeError as error:
            raise ValueError(
                f"{self.config.estimator_name}: training goes on from the fitted network "
                "(warm_start=True or partial_fit), but X, y and the parameters need one of another "
                "shape (other classes, sizes or vocabulary). Call fit with warm_start=False."
            ) from error
        return module.to(self.device)

    def n_epochs(self, n_rows, min_steps=None):
        """Number of epochs for this many rows."""
        config = self.config
        return n_epochs(config.max_epochs, config.batch_size, n_rows, min_steps or config.min_steps)

    def criterion(self):
        """Make the loss module, as the net does."""
        params, prefix = self._criterion_params(), "criterion__"
        options = {k.removeprefix(prefix): v for k, v in params.items() if k.startswith(prefix)}
        return params["criterion"](**options)

    def _criterion_params(self):
        """skorch's parameters of the loss, overridden by `net_params`."""
        config = self.config
        options = {f"criterion__{name}": v for name, v in config.criterion_options.items()}
        return {"criterion": config.criterion, **options, **(config.net_params or {})}

    def announce(self, stage, parts, epochs):
        """Print the next stage if the estimator is verbose, in the main process only."""
        if self.config.verbose and (self.accelerator is None or self.accelerator.is_main_process):
            sizes = " + ".join(str(len(part)) for part in parts)
            print(f"[{self.config.estimator_name}] {stage}: {sizes} rows, {epochs} epochs")

    def make_net(self, module, parts, epochs, param_groups=None, augmentation=None):
        """Make a net that trains a module on the first part and validates on the second, if any.

        Train it with ``with net.training_on(parts[0]): net.fit_loop(parts[0])``, inside
        `isolated_rng`.
        """
        config = self.config
        params = self._net_params(parts, epochs)
        if augmentation is not None:
            params["augmentation"] = augmentation.to(self.device)
        batch_size = params.get("iterator_train__batch_size", params["batch_size"])
        batches = BatchIterator(parts[0], batch_size, "cpu")
        reason = why_gather(module, parts[0].inputs, self.device, config)
        if reason is None and len(batches.groups) > 1:
            reason = "some rows are too long for padded batches"
        if torch.device(self.device).type == "cuda":
            n_rows = rows_per_batch(parts[-1].inputs, self.device)
            n_rows = min(n_rows, VALID_BATCHES * params["batch_size"])
            params = {"iterator_valid__batch_size": n_rows, **params}
            if reason is None:
                params["optimizer__capturable"] = True
        if param_groups:
            params = {"optimizer__param_groups": param_groups, **params}
        n_steps = params["max_epochs"] * len(batches)
        params = {"total_steps": n_steps, **params}
        with add_error_note(
            f"{config.estimator_name} has net_params={config.net_params} for skorch's net."
        ):
            net = make_net(module, params, self.accelerator).initialize()
        if len(parts) == 1:
            drop_validation_callbacks(net, refuse=not config.early_stopping)
        refuse_schedulers(net)
        if reason is None:
            net.fixed_steps = FixedSteps(
                net, FixedBatches(parts[0], self.device), net.max_epochs * len(batches)
            )
        else:
            LOGGER.debug("%s gathers its batches: %s.", config.estimator_name, reason)
        return net

    def _net_params(self, parts, epochs):
        """Parameters of skorch's net, overridden by the user's `net_params`."""
        config = self.config
        params = {
            "estimator_name": config.estimator_name,
            "kind": config.kind,
            "n_outputs": config.n_outputs,
            "device": self.device,
            "precision": config.precision,
            "verbose": config.verbose,
            "lr": config.lr,
            "max_norm": config.max_norm,
            "max_epochs": epochs,
            "batch_size": batch_rows(config.batch_size, len(parts[0])),
            "optimizer": config.optimizer,
            "iterator_train": BatchIterator,
            "iterator_train__shuffle": True,
            "iterator_train__seed": self.seed,
            "iterator_train__device": self.device,
            "iterator_valid": BatchIterator,
            "iterator_valid__device": self.device,
            "train_split": (lambda dataset, y=None: tuple(parts)) if len(parts) == 2 else None,
            "callbacks": [("keep_best", KeepBest()), *(config.callbacks or [])],
        }
        if config.kind in CLASSIFICATION:  # skorch would make two columns of each label
            params["predict_nonlinearity"] = config.nonlinearity
        accepted = signature(config.optimizer).parameters
        for name, value in {"weight_decay": config.weight_decay, "fused": True}.items():
            if name in accepted:
                params[f"optimizer__{name}"] = value
        return {**params, **self._criterion_params()}

    def _memory_hint(self, n_rows):
        size = batch_rows(self.config.batch_size, n_rows)
        return (
            f"Raised while {self.config.estimator_name} trained on {self.device} with "
            f"batch_size={size}. Lower batch_size, or free memory of the device."
        )

    def _split(self, target, groups, rows):
        config = self.config
        return split_rows(
            target, groups, rows, config.validation_fraction, self.seed, config.estimator_name
        )
