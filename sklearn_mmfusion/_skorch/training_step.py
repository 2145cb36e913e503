"""A net of skorch with the step that trains every network.

Of training, `Net` overrides one method of skorch's ``NeuralNet``, ``run_single_epoch``: the module
is set to training mode once an epoch, sample weights enter the loss, the learning rate follows the
schedule per step, gradients are clipped, losses are read from the device once an epoch, and batches
are announced only where a callback has something to do at them. The keys of the history stay
skorch's own. Besides, ``notify`` remembers whether a callback ended the training or the user did,
``infer`` leaves batches where they are, and ``predict`` answers skorch's scoring callbacks. With
``net_params={"accelerator": accelerate.Accelerator}`` several processes train one network
(`_accelerate`).
"""

import math
from contextlib import nullcontext

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from skorch.utils import TeeGenerator
from torch import nn

from sklearn_mmfusion._validation import CLASSIFICATION

WARMUP = 0.15  # part of the steps over which the learning rate rises


class Net(NeuralNet):
    """skorch's net with a weighted, scheduled, clipped step (see the module's docstring).

    Parameters
    ----------
    *args, **kwargs
        Passed to ``skorch.NeuralNet``.
    total_steps : int
        Steps the schedule spans: linear warm-up, then a half cosine to zero.
    precision : {"float32", "bf16"}, default="float32"
        Number format of the forward pass.
    kind : str, default="continuous"
        Type of the target.
    n_outputs : int, default=1
        Width of the output.
    max_norm : float, default=1.0
        Norm that the gradients are scaled down to where theirs is larger; ``inf`` leaves them.
    owner : str, default="a net"
        What trains, for messages.
    """

    def __init__(
        self,
        *args,
        total_steps=1,
        precision="float32",
        kind="continuous",
        n_outputs=1,
        max_norm=1.0,
        owner="a net",
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.total_steps = total_steps
        self.precision = precision
        self.kind = kind
        self.n_outputs = n_outputs
        self.max_norm = max_norm
        self.owner = owner

    # What scikit-learn's scorers ask of a net, in skorch's `EpochScoring`: codes of classes stand
    # for the labels on both sides, standardized numbers for the numbers.

    def predict(self, X):
        output = self.predict_proba(X)
        if self.kind == "multilabel-indicator":
            return (output > 0.5).astype(int)
        return output.argmax(1) if self.kind in CLASSIFICATION else output

    @property
    def classes_(self):
        if self.kind not in CLASSIFICATION:
            raise AttributeError(f"a net for {self.kind} targets has no classes_")
        return np.arange(self.n_outputs)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.estimator_type = "classifier" if self.kind in CLASSIFICATION else "regressor"
        return tags

    def infer(self, x, **fit_params):
        # skorch would move all of a batch to the device: lengths and masks belong on the host.
        return self.module_(**x)

    def notify(self, method_name, **cb_kwargs):
        try:
            super().notify(method_name, **cb_kwargs)
        except KeyboardInterrupt:  # how skorch's callbacks, EarlyStopping among them, end training
            self.stopped_by_callback_ = method_name == "on_epoch_end"
            raise

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        if iterator is None:
            return
        self._set_training(training)
        records, heard = self.history[-1]["batches"], self._hears("on_batch_begin", "on_batch_end")
        self.hears_gradients_ = self._hears("on_grad_computed")
        first, told = len(records), []
        for batch in iterator:
            if not heard:
                self.history.new_batch()  # what the net itself does with the notice
                told.append(self._step(batch, training)[0])
                continue
            self.notify("on_batch_begin", batch=batch, training=training)
            losses, output = self._step(batch, training)
            told.append(losses)
            self.notify(
                "on_batch_end", batch=batch, training=training, loss=losses.mean(), y_pred=output
            )
        # One read an epoch: each .item() would make the host wait for the device.
        losses = torch.cat(told).cpu().double().numpy()  # not every device has float64
        sizes = np.array([len(losses) for losses in told])
        sums = [np.add.reduceat(x, np.cumsum(sizes) - sizes) for x in (losses, losses**2)]
        sums, squares, sizes = self._over_processes(np.stack([*sums, sizes]))
        for record, mean, size in zip(records[first:], sums / sizes, sizes, strict=True):
            record[f"{prefix}_loss"], record[f"{prefix}_batch_size"] = float(mean), int(size)
        self.history.record(f"{prefix}_batch_count", len(sizes))
        if training and not np.isfinite(sums).all():
            raise ValueError(
                f"Training of {self.owner} diverged: in epoch {len(self.history)} its loss is no "
                f"longer finite. Lower lr ({self.lr:g} now), or look for infinite or very large "
                "numbers in X and in what the network makes of them."
            )
        n_rows = sizes.sum()
        variance = squares.sum() / n_rows - (sums.sum() / n_rows) ** 2
        self.standard_error_ = math.sqrt(max(variance, 0.0) / n_rows)

    def _step(self, batch, training):
        inputs, target = batch
        with torch.set_grad_enabled(training), self._autocast():
            told = self._wide(self.module_(**inputs))
            output = told[0] if isinstance(told, tuple) else told  # as skorch reads tuples
            if target.is_floating_point():  # not every loss promotes
                target = target.to(output.dtype)
            losses = self._losses(told, target)
        losses = losses.flatten(1).mean(1) if losses.ndim > 1 else losses
        weight = None if batch.weight is None else batch.weight.to(losses.dtype)
        if training:
            # d mean / d losses, given as it is: a mean and its way back cost two operations more
            shares = torch.ones_like(losses) if weight is None else weight
            self._descend(losses, shares / len(losses))
        losses = losses.detach() if weight is None else losses.detach() * weight
        return losses, output.detach()

    def _losses(self, output, target):
        losses = self.criterion_(output, target)
        if losses.shape[:1] != target.shape[:1]:
            raise ValueError(
                f"criterion {type(self.criterion_).__name__} returned shape "
                f"{tuple(losses.shape)}; expected one loss a row, ({len(target)},) or "
                f"({len(target)}, ...). Use reduction='none': the mean is taken over the rows."
            )
        return losses

    def _hears(self, *names):
        """Whether anybody does something when told; telling all costs as much as a layer does."""
        listeners = [(c, Callback) for _, c in self.callbacks_] + [(self, NeuralNet)]
        return any(  # also what is set on an instance: it has another function, or none
            getattr(getattr(one, name), "__func__", None) is not getattr(base, name)
            for one, base in listeners
            for name in names
        )

    def _wide(self, output):
        """Outputs of low precision as float32: losses add up in it."""
        if isinstance(output, tuple | list):
            return tuple(self._wide(part) for part in output)
        return output.float() if output.dtype == torch.bfloat16 else output

    def _autocast(self):
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16)

    def _descend(self, losses, shares):
        step = self.steps_ = getattr(self, "steps_", -1) + 1
        share = schedule(step, self.total_steps)
        parameters = []
        for group in self.optimizer_.param_groups:  # each with the rate it came with
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * share
            parameters += group["params"]
        for parameter in parameters:  # `zero_grad` costs as much as a small layer
            parameter.grad = None
        self._backward(losses, shares)
        if self.hears_gradients_:
            named = TeeGenerator(self.get_all_learnable_params())
            self.notify("on_grad_computed", named_parameters=named, training=True)
        self._clip([p for p in parameters if p.grad is not None])
        self.optimizer_.step()

    def _clip(self, parameters):
        """Scale the gradients down to `max_norm`, the optimizer doing so where it can."""
        if math.isinf(self.max_norm):
            return
        norm = nn.utils.get_total_norm([p.grad for p in parameters])
        # On a CPU it costs nothing to look; a GPU would be waited for.
        small = norm.device.type == "cpu" and bool(norm <= self.max_norm)
        # Fused optimizers divide gradients by this as they read them, as for `GradScaler`: a pass
        # over all of them less.
        fused = getattr(self.optimizer_, "_step_supports_amp_scaling", False)
        if fused and norm.dtype == torch.float32:
            scale = ((norm + 1e-6) / self.max_norm).clamp(min=1.0)
            self.optimizer_.grad_scale = None if small else scale
        elif not small:
            nn.utils.clip_grads_with_norm_(parameters, self.max_norm, norm)

    # What `AcceleratedNet` does together with other processes.

    def _backward(self, losses, shares):
        losses.backward(shares)

    def _over_processes(self, sums):
        """Sums (3, n_batches) of the losses, their squares and the rows of each batch."""
        return sums


def schedule(step, total_steps):
    """Share of the learning rate at a step: linear warm-up, then a half cosine."""
    warmup = max(1, round(WARMUP * total_steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total_steps - warmup)))


class KeepBest(Callback):
    """Remember the weights of the last epoch as good as the best on the validation part.

    As good means within one standard error of the lowest loss: among those the longest training,
    whose learning rate has come down the furthest. The plain minimum of a small validation part is
    often the chance of an early epoch.
    """

    def on_train_begin(self, net, **kwargs):
        self.loss, self.error, self.epoch, self.weights = math.inf, 0.0, 0, None

    def on_epoch_end(self, net, **kwargs):
        loss = net.history[-1].get("valid_loss")
        if loss is None:
            return
        if loss < self.loss:
            self.loss, self.error = loss, net.standard_error_
        if loss <= self.loss + self.error or self.weights is None:
            self.epoch = len(net.history)
            self.weights = {k: v.detach().clone() for k, v in net.module_.state_dict().items()}

    def on_train_end(self, net, **kwargs):
        if self.weights is not None:
            net.module_.load_state_dict(self.weights)
