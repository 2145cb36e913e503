"""skorch's net with the training step of all networks.

What `Net` overrides of skorch's ``NeuralNet``:

- ``run_single_epoch``: training mode is set once per epoch, batches go through `Net.step`, losses
  are read from the device once per epoch, and batches are announced only if a callback listens.
  The keys of the history are those of skorch.
- ``notify`` records whether a callback or the user ended the training.
- ``infer`` does not move batches, and ``predict`` serves skorch's scoring callbacks.

With ``net_params={"accelerator": accelerate.Accelerator}`` several processes train one network
(see `accelerate`).

The step and its buffers
------------------------
Training is a loop over ``step(batch)``: forward, weighted loss, backward, clip, optimizer. The rows
of a batch are gathered before the step (`RowDataset.batch`), because a thread gathers data outside
the device ahead of time. The step changes them if the estimator has `augment`. Nothing in it waits
for the device: row losses stay there until the epoch ends.

A batch (`Batch`) has the same layout in every step of a fit:

- ``inputs``, the keywords of the network's ``forward``: the same names for each modality, even if
  no row of the batch has it (tensors of 0 rows); for a joint network ``mask`` (N, M), bool, on the
  host; lengths of sequences (N,), int64, on the host;
- ``target``, (N,) int64 codes or (N, n_outputs) float32;
- ``weight``, (N,) float32, in all batches of a fit or in none.

Absent rows and fixed shapes
----------------------------
A modality that some rows lack has two possible layouts. If no row lacks it, both are the same: N
rows, in the order of the batch.

*Gathered*: the batch holds the n <= N present rows. The network computes those and scatters the
features into N rows. Absent rows cost nothing and never reach a layer, so any module works. The
drawback: n differs from batch to batch.

*Fixed*, for steps that are captured as a CUDA graph: the batch holds N rows, in which an absent row
repeats any present row of the modality; ``lacking`` names these modalities, and ``mask`` is on the
device. Sequences are padded, and a mask (N, L) replaces their lengths. Layers that take a mask
exclude masked rows and steps from all statistics. Features of masked rows are set to zero before
the fusion reads them, like scattered features.

The trainer chooses once per fit (`fixed_steps.why_gather`). Predictions gather, except for single
rows on a GPU (`_torch.cuda_graphs`). Both layouts use the same step function; only the inputs of
the batch differ.
"""

import math
from contextlib import contextmanager

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from skorch.utils import TeeGenerator
from torch import nn

from sklearn_mmfusion._losses import row_losses
from sklearn_mmfusion._skorch.low_precision import autocast
from sklearn_mmfusion._skorch.schedule import schedule
from sklearn_mmfusion._torch import closing_batches
from sklearn_mmfusion._validation import CLASSIFICATION, CONTINUOUS, MULTILABEL


class Net(NeuralNet):
    """skorch's net with a weighted, scheduled, clipped step (see the module's docstring).

    Parameters
    ----------
    *args, **kwargs
        Passed to ``skorch.NeuralNet``.
    total_steps : int or None
        Length of the schedule: linear warm-up, then a half cosine to zero. None: a constant rate.
    precision : {"float32", "bf16"}, default="float32"
        Number format of the forward pass.
    kind : str, default="continuous"
        Type of the target.
    n_outputs : int, default=1
        Width of the output.
    max_norm : float, default=1.0
        Gradients are clipped to this norm; ``inf`` turns clipping off.
    estimator_name : str, default="a net"
        Name of the estimator, for messages.
    cuda_graph : {"auto", False}, default="auto"
        False never captures the step (see `fixed_steps`).
    augmentation : callable, default=None
        ``augmentation(inputs)`` returns changed inputs of a training batch, on its device.
    """

    fixed_steps = None  # set by the trainer

    def __init__(
        self,
        *args,
        total_steps=1,
        precision="float32",
        kind=CONTINUOUS,
        n_outputs=1,
        max_norm=1.0,
        estimator_name="a net",
        cuda_graph="auto",
        augmentation=None,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.cuda_graph = cuda_graph
        self.augmentation = augmentation
        self.total_steps = total_steps
        self.precision = precision
        self.kind = kind
        self.n_outputs = n_outputs
        self.max_norm = max_norm
        self.estimator_name = estimator_name

    # For scikit-learn's scorers in skorch's `EpochScoring`: targets and predictions are codes
    # instead of class labels, and standardized numbers.

    def predict(self, X):
        output = self.predict_proba(X)
        if self.kind == MULTILABEL:
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
        # skorch would move the whole batch to the device, but lengths and masks belong on the host.
        return self.module_(**x)

    @contextmanager
    def training_on(self, dataset):
        """Begin and end a training, as skorch's ``fit`` does around its ``fit_loop``.

        skorch would swallow the user's interrupt and carry on with a half-trained network.
        """
        self.n_steps, self.stopped_by_callback = 0, False
        self.notify("on_train_begin", X=dataset, y=None)
        try:
            yield
        except KeyboardInterrupt:
            if not self.stopped_by_callback:
                raise
        finally:
            self.fixed_steps = None  # its graphs hold memory, and it refers to this net
        self.notify("on_train_end", X=dataset, y=None)
        for parameter in self.trained_parameters():  # gradients take as much memory as the weights
            parameter.grad = None

    @property
    def best_epoch(self):
        """The epoch whose weights were kept; 0 without validation."""
        return dict(self.callbacks_)["keep_best"].epoch

    def notify(self, method_name, **cb_kwargs):
        try:
            super().notify(method_name, **cb_kwargs)
        except KeyboardInterrupt:  # skorch's callbacks, such as EarlyStopping, end training so
            self.stopped_by_callback = method_name == "on_epoch_end"
            raise

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        if iterator is None:
            return
        self._set_training(training)
        records, row_losses = self.history[-1]["batches"], []
        first, announce = len(records), self._has_listener("on_batch_begin", "on_batch_end")
        self.announce_gradients = self._has_listener("on_grad_computed")
        if training and self.fixed_steps is not None:
            row_losses = self._run_fixed_steps(iterator, announce)
            iterator = ()
        with closing_batches(iterator) as batches:
            for batch in batches:
                if training:
                    self._set_rates()
                if not announce:
                    self.history.new_batch()  # as `on_batch_begin` of the net does
                    row_losses.append(self.step(batch, training)[0])
                    continue
                self.notify("on_batch_begin", batch=batch, training=training)
                losses, output = self.step(batch, training)
                row_losses.append(losses)
                loss = losses.mean()
                self.notify(
                    "on_batch_end", batch=batch, training=training, loss=loss, y_pred=output
                )
        self._record_losses(records[first:], row_losses, prefix)

    def _run_fixed_steps(self, iterator, announce):
        """An epoch of `FixedSteps`; callbacks that listen get a batch gathered for them."""
        steps, batches, row_losses = self.fixed_steps, iterator.positions(), []
        steps.captures &= not self.announce_gradients  # a replay calls no Python
        with steps.running():
            steps.begin_epoch(batches)
            for positions in batches:
                if not announce:
                    self.history.new_batch()
                    row_losses.append(steps.step(positions)[0])
                    continue
                batch = iterator.dataset.batch(positions, self.device)
                self.notify("on_batch_begin", batch=batch, training=True)
                losses, output = steps.step(positions)
                row_losses.append(losses)
                loss, output = losses.mean(), output.clone()
                self.notify("on_batch_end", batch=batch, training=True, loss=loss, y_pred=output)
        return row_losses

    def _record_losses(self, records, row_losses, prefix):
        """Read the losses of an epoch from the device and record their means in the history."""
        # One read per epoch: each .item() would make the host wait for the device.
        losses = torch.cat(row_losses).cpu().double().numpy()  # not every device has float64
        sizes = np.array([len(losses) for losses in row_losses])
        sums = [np.add.reduceat(x, np.cumsum(sizes) - sizes) for x in (losses, losses**2)]
        sums, squares, sizes = self._over_processes(np.stack([*sums, sizes]))
        for record, mean, size in zip(records, sums / sizes, sizes, strict=True):
            record[f"{prefix}_loss"], record[f"{prefix}_batch_size"] = float(mean), int(size)
        self.history.record(f"{prefix}_batch_count", len(sizes))
        if prefix == "train" and not np.isfinite(sums).all():
            raise ValueError(
                f"Training of {self.estimator_name} diverged: in epoch {len(self.history)} its "
                f"loss is no longer finite. Lower lr ({self.lr:g} now), or look for infinite or "
                "very large numbers in X and in the outputs of the network."
            )
        n_rows = sizes.sum()
        variance = squares.sum() / n_rows - (sums.sum() / n_rows) ** 2
        self.standard_error = math.sqrt(max(variance, 0.0) / n_rows)

    def step(self, batch, training):
        """Run forward and weighted loss; in training also augmentation, backward and optimizer.

        All training uses this function (see the module's docstring). It leaves its results on the
        device and does not wait for them.

        Parameters
        ----------
        batch : Batch
        training : bool

        Returns
        -------
        losses : Tensor of shape (N,)
            Weighted, one per row.
        output : Tensor of shape (N, n_outputs)
        """
        inputs, target = batch
        if training and self.augmentation is not None:
            with torch.no_grad():
                inputs = self.augmentation(inputs)
        low = autocast(self.module_, self.precision, self.device, training)
        with torch.set_grad_enabled(training), low:
            outputs = self._as_float32(self.module_(**inputs))
            output = outputs[0] if isinstance(outputs, tuple) else outputs  # as skorch reads tuples
            if target.is_floating_point():  # not every loss promotes dtypes
                target = target.to(output.dtype)
            losses = row_losses(self.criterion_, outputs, target)
        weight = None if batch.weight is None else batch.weight.to(losses.dtype)
        if training:
            # d mean / d losses, passed directly: computing a mean would cost two more operations
            shares = torch.ones_like(losses) if weight is None else weight
            self._descend(losses, shares / len(losses))
        losses = losses.detach() if weight is None else losses.detach() * weight
        return losses, output.detach()

    def _has_listener(self, *names):
        """Whether a callback overrides any of these methods; notifying costs as much as a layer."""
        listeners = [(c, Callback) for _, c in self.callbacks_] + [(self, NeuralNet)]
        return any(  # methods set on an instance count too
            getattr(getattr(one, name), "__func__", None) is not getattr(base, name)
            for one, base in listeners
            for name in names
        )

    def _as_float32(self, output):
        """Convert low-precision outputs to float32, in which losses are summed."""
        if isinstance(output, tuple | list):
            return tuple(self._as_float32(part) for part in output)
        return output.float() if output.dtype == torch.bfloat16 else output

    def _set_rates(self):
        """Learning rates of the next step."""
        rate = schedule(self.n_steps, self.total_steps)
        self.n_steps += 1
        for group in self.optimizer_.param_groups:  # each has its own initial rate
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * rate

    def _descend(self, losses, shares):
        parameters = self.trained_parameters()
        for parameter in parameters:  # `zero_grad` costs as much as a small layer
            parameter.grad = None
        self._backward(losses, shares)
        if self.announce_gradients:
            named = TeeGenerator(self.get_all_learnable_params())
            self.notify("on_grad_computed", named_parameters=named, training=True)
        self._clip([p for p in parameters if p.grad is not None])
        self.optimizer_.step()

    def trained_parameters(self):
        """Parameters that the optimizer updates, of the network and the criterion."""
        return [p for group in self.optimizer_.param_groups for p in group["params"]]

    def _clip(self, parameters):
        """Clip the gradients to `max_norm`, inside the optimizer if it can."""
        if math.isinf(self.max_norm):
            return
        norm = nn.utils.get_total_norm([p.grad for p in parameters])
        # Reading the norm is free on a CPU; on a GPU the host would wait.
        small = norm.device.type == "cpu" and bool(norm <= self.max_norm)
        # Fused optimizers divide gradients by `grad_scale` as they read them, as for `GradScaler`,
        # which saves a pass over all gradients.
        fused = getattr(self.optimizer_, "_step_supports_amp_scaling", False)
        if fused and norm.dtype == torch.float32:
            scale = ((norm + 1e-6) / self.max_norm).clamp(min=1.0)
            self.optimizer_.grad_scale = None if small else scale
        elif not small:
            nn.utils.clip_grads_with_norm_(parameters, self.max_norm, norm)

    # Overridden by `AcceleratedNet`.

    def _backward(self, losses, shares):
        losses.backward(shares)

    def _over_processes(self, sums):
        """Sums (3, n_batches) of the losses, their squares and the rows of each batch."""
        return sums
