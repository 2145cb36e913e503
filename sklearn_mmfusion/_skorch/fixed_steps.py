"""Training steps on buffers of fixed shapes, on a GPU captured once and replayed as CUDA graphs.

`FixedSteps` keeps everything that changes from step to step on the device: the order of the rows in
this epoch, a cursor in it, the learning rates of all steps, the losses. A step gathers its rows at
the cursor, trains on them with `Net.step`, and moves the cursor. It neither reads from the host nor
waits, so that it can be captured: one graph per shape, after `WARM_UP` steps that run eagerly.

`why_gather` decides. Fixed shapes need

- rows that are kept on the device;
- an optimizer that keeps its state there (``capturable``);
- encoders that take masks for the modalities with sequences or absent rows. They declare it with
  ``fixed_shapes = True``. Other modules must do without: they never see padding or absent rows.

A module that cannot be captured, because it waits for the device, runs the same steps eagerly. The
reasons are logged as debug messages of the logger "sklearn_mmfusion".
"""

import logging
from contextlib import contextmanager
from inspect import signature

import numpy as np
import torch
from skorch.callbacks import Callback

from sklearn_mmfusion._skorch.schedule import schedule
from sklearn_mmfusion._torch import (
    capture,
    has_hooks,
    new_pool,
    run_and_check,
    side_stream,
    takes_masks,
)

LOGGER = logging.getLogger("sklearn_mmfusion")
DEVICES = ("cuda",)  # tests add the CPU, on which fixed steps run eagerly
WARM_UP = 3  # libraries choose algorithms and allocate workspaces in the first steps
HOOKS = "the network has hooks, which replays would not call"
MIN_REPLAYS = 10  # a capture takes as long as this many eager steps (5 to 45 ms)


# net_params that rule out fixed shapes; None stands for any value
GATHER = {"cuda_graph": False, "compile": True, "iterator_train": None, "train_split": None}


def why_gather(module, inputs, device, config):
    """Why a training cannot use fixed shapes, or None if it can.

    Parameters
    ----------
    module : torch.nn.Module
    inputs : Inputs or FusionInputs
    device : str
    config : TrainingConfig

    Returns
    -------
    reason : str or None
    """
    net_params = config.net_params or {}
    if torch.device(device).type not in DEVICES:
        return f"the device is {device}"
    for name, value in GATHER.items():
        if name in net_params and value in (None, net_params[name]):
            return f"net_params has {name}={net_params[name]}"
    if net_params.get("accelerator") is not None:
        return "several processes train one network"
    if any(changes_batches(callback) for callback in config.callbacks or ()):
        return "a callback listens to on_batch_begin, where it may change the batch"
    if not inputs.are_on(device):
        return "the rows are not kept on the device"
    if "capturable" not in signature(config.optimizer).parameters:
        return "the optimizer has no parameter `capturable`"
    for name in inputs.irregular():
        if not takes_masks(module, name):
            return f"the network of {name or 'the rows'} takes no masks"
    return None


def changes_batches(callback):
    """Whether a callback, or a pair of its name and it, has a method `on_batch_begin`."""
    callback = callback[1] if isinstance(callback, tuple | list) else callback
    cls = callback if isinstance(callback, type) else type(callback)
    return getattr(cls, "on_batch_begin", Callback.on_batch_begin) is not Callback.on_batch_begin


class FixedSteps:
    """The training steps of one net.

    Parameters
    ----------
    net : Net
        Initialized.
    batches : FixedBatches
        Training rows.
    n_steps : int
        Number of steps of the training.
    """

    def __init__(self, net, batches, n_steps):
        self.net, self.batches = net, batches
        device = torch.device(net.device)
        n_rows = len(batches)
        self.order = torch.zeros(n_rows, dtype=torch.int64, device=device)
        self.losses = torch.zeros(n_rows, device=device)
        self.cursor = torch.zeros(1, dtype=torch.int64, device=device)
        self.n_steps = torch.zeros(1, dtype=torch.int64, device=device)
        self.n_eager, self.seen, self.graphs, self.pool = 0, set(), {}, None
        self.trained = [p.requires_grad for p in net.trained_parameters()]
        on_gpu = device.type == "cuda"
        self.stream = side_stream(device, "training") if on_gpu else None
        self.captures = on_gpu and n_steps >= MIN_REPLAYS * batches.n_buckets
        self._prepare_rates(n_steps)

    def _prepare_rates(self, n_steps):
        """Learning rates of all steps, (n_groups, n_steps), and tensors for the current ones."""
        optimizer = self.net.optimizer_
        optimizer._warned_capturable_if_run_uncaptured = True  # the first steps are not captured
        factors = np.array([schedule(i, self.net.total_steps) for i in range(n_steps)])
        # On a CPU a rate is read as a Python number; on a GPU fused kernels read float32.
        dtype = torch.float64 if self.stream is None else torch.float32
        self.rates = []
        for group in optimizer.param_groups:
            table = torch.from_numpy(group["lr"] * factors).to(self.net.device, dtype)
            group["lr"] = table[:1].clone()[0]
            self.rates.append((group["lr"], table))

    @contextmanager
    def running(self):
        """An epoch: graphs are captured and replayed on a stream of their own."""
        if self.stream is None:
            yield
            return
        usual = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(usual)
        try:
            with torch.cuda.stream(self.stream):
                yield
        finally:  # after an error, too: queued steps still use memory of this training
            usual.wait_stream(self.stream)

    def begin_epoch(self, positions):
        """Send the order of an epoch to the device, in one copy.

        Parameters
        ----------
        positions : list of ndarray
            Positions of the rows of each batch.
        """
        self.order.copy_(torch.from_numpy(np.concatenate(positions)))
        self.cursor.zero_()
        self.done = 0
        self._follow_callbacks()

    def _follow_callbacks(self):
        """Capture anew after a callback has frozen parameters or loaded the optimizer's state."""
        groups = self.net.optimizer_.param_groups
        loaded = any(g["lr"] is not rate for g, (rate, _) in zip(groups, self.rates, strict=True))
        trained = [p.requires_grad for p in self.net.trained_parameters()]
        if loaded or trained != self.trained:
            self.graphs.clear()
            self.n_eager, self.seen, self.trained = 0, set(), trained
        if self.graphs and has_hooks(self.net.module_):
            self._give_up(HOOKS)
        for group, (rate, _) in zip(groups, self.rates, strict=True):
            group["lr"] = rate

    def step(self, positions):
        """Train on the next batch of the epoch.

        Parameters
        ----------
        positions : ndarray of shape (N,)

        Returns
        -------
        losses : Tensor of shape (N,)
            Valid until the next epoch.
        output : Tensor of shape (N, n_outputs)
            Valid until the next step.
        """
        shape = len(positions), self.batches.bucket(positions)
        if self.captures and self.n_eager >= WARM_UP and shape in self.seen - self.graphs.keys():
            self._capture(shape)
        if shape in self.graphs:
            graph, output = self.graphs[shape]
            graph.replay()
        else:
            output = self._warm_up(shape)
        self.done += len(positions)
        return self.losses[self.done - len(positions) : self.done], output

    def _run(self, n_rows, bucket):
        """The step: what a graph holds."""
        turn = self.cursor + torch.arange(n_rows, device=self.cursor.device)
        batch = self.batches.gather(self.order.index_select(0, turn), bucket)
        for rate, table in self.rates:
            rate.copy_(table.index_select(0, self.n_steps)[0])
        losses, output = self.net.step(batch, training=True)
        self.losses.index_copy_(0, turn, losses.float())
        self.cursor += n_rows
        self.n_steps += 1
        return output

    def _warm_up(self, shape):
        """An eager step; the last before captures finds out whether replays would be the same."""
        self.n_eager += 1
        self.seen.add(shape)
        if not self.captures or self.n_eager != WARM_UP:
            return self._run(*shape)
        output, reason = run_and_check(lambda: self._run(*shape))
        reason = HOOKS if has_hooks(self.net.module_) else reason
        if reason is not None:
            self._give_up(reason)
        return output

    def _give_up(self, reason):
        LOGGER.debug("%s: the step is not captured: %s", self.net.estimator_name, reason)
        self.captures = False
        self.graphs.clear()

    def _capture(self, shape):
        """Capture a step of this shape; if that fails, capture nothing any more."""
        if not self.graphs:
            self.pool = new_pool()
        try:
            captured = capture(lambda: self._run(*shape), self.stream.device, self.pool)
        except Exception as error:
            self._give_up(error)  # the eager step raises it again if it is not about capture
        else:
            self.graphs[shape] = captured
