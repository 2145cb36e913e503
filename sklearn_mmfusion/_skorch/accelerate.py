"""One network trained by several processes, each on its shard of every batch.

The processes come from Hugging Face Accelerate (``accelerate launch script.py``). All run the same
script and hold all rows (memory maps are shared). All use the batches of a single process: each
computes every n-th row, and the gradients are summed. Losses are summed as well, so the history,
the kept epoch and the weights are the same in all processes. They equal those of a single process
up to rounding, with two exceptions:

- dropout draws other numbers;
- batch normalization, and objectives that compare the rows of a batch, see one shard at a time.

Running statistics are averaged before validation.

The code uses ``Accelerator.reduce`` and not ``prepare``, because a shard may lack a modality that
another one has, and the rows of a batch need not divide evenly. Accelerate's mixed precision,
gradient accumulation, FSDP and DeepSpeed are not used.
"""

import zlib

import numpy as np
import torch

from sklearn_mmfusion._skorch.training_step import Net
from sklearn_mmfusion._torch import RowDataset


def start_accelerator(net_params):
    """Make the accelerator given by ``net_params={"accelerator": class or function}``.

    The accelerators of a process share their state, so making another one is free.

    Returns
    -------
    accelerator : accelerate.Accelerator or None
    """
    factory = (net_params or {}).get("accelerator")
    if factory is None:
        return None
    if not callable(factory):
        raise TypeError(
            f"net_params['accelerator'] is an instance ({type(factory).__name__}); expected a "
            "class or function that makes one, because a clone would copy it. Pass "
            "accelerate.Accelerator or functools.partial(accelerate.Accelerator, ...)."
        )
    return factory()


def sync_seed(accelerator, seed, rows, target):
    """Return the main process's seed; check that all processes train on the same rows.

    The check compares row numbers and targets, not the inputs.

    Raises
    ------
    ValueError
        In every process, if one has other rows or targets than the main process.
    """
    checksum = zlib.crc32(np.ascontiguousarray(target)) ^ zlib.crc32(np.ascontiguousarray(rows))
    own = torch.tensor([seed, checksum], device=accelerator.device)
    main = _from_main(accelerator, own)
    differ = int(accelerator.reduce((main[1:] != own[1:]).long()))
    if differ:
        raise ValueError(
            f"{differ} of {accelerator.num_processes} processes have other rows or targets than "
            "the main process. Give all of X and y to every process: each takes its own share of "
            "every batch."
        )
    return int(main[0])


def _from_main(accelerator, tensor):
    """Broadcast the main process's tensor to every process."""
    tensor = tensor.byte() if tensor.dtype == torch.bool else tensor  # bools cannot be summed
    return accelerator.reduce(tensor if accelerator.is_main_process else torch.zeros_like(tensor))


class RankShard(RowDataset):
    """A dataset that reads only every n-th row of a batch, for one process."""

    def __init__(self, whole, accelerator):
        super().__init__(whole.inputs, whole.target, whole.weight, whole.rows)
        self.index, self.n = accelerator.process_index, accelerator.num_processes

    def batch(self, positions, device):
        own = positions[self.index :: self.n]
        batch = super().batch(own, device)
        batch.fraction = len(own) / len(positions)
        return batch


class AcceleratedNet(Net):
    """A `Net` that trains in step with the other processes (see the module's docstring).

    Parameters
    ----------
    *args, **kwargs
        Passed to `Net`.
    accelerator : accelerate.Accelerator
    """

    def __init__(self, *args, accelerator, **kwargs):
        super().__init__(*args, **kwargs)
        self.accelerator = accelerator

    def initialize(self):
        super().initialize()
        with torch.no_grad():
            for tensor in (*self.trained_parameters(), *self.module_.buffers()):
                tensor.copy_(_from_main(self.accelerator, tensor))
        if self.accelerator.process_index:  # so that dropout drops other units in each shard
            torch.manual_seed(torch.initial_seed() + self.accelerator.process_index)
        return self

    def get_iterator(self, dataset, training=False):
        iterator = super().get_iterator(RankShard(dataset, self.accelerator), training)
        smallest = getattr(iterator, "min_rows", len(dataset) // len(iterator))
        n = self.accelerator.num_processes
        min_rows = 2 if training else 1  # batch normalization needs two rows
        if smallest < min_rows * n:
            raise ValueError(
                f"a batch of {smallest} rows is too small for {n} processes: expected at least "
                f"{min_rows} for each. Raise batch_size, give more rows, or start fewer processes."
            )
        if training:
            self.has_gradient = None
            # with absent cells, a shard may use parameters that another one does not
            self.has_missing_cells = not np.all(getattr(dataset.inputs, "mask", True))
        return iterator

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        super().run_single_epoch(iterator, training, prefix, step_fn, **fit_params)
        if training:
            for buffer in self.module_.buffers():
                if buffer.is_floating_point():
                    buffer.copy_(self.accelerator.reduce(buffer, "mean"))
                else:
                    buffer.copy_(_from_main(self.accelerator, buffer))

    def step(self, batch, training):
        self.fraction = batch.fraction
        return super().step(batch, training)

    def _backward(self, losses, shares):
        losses.backward(shares * self.fraction)
        parameters = [p for p in self.trained_parameters() if p.requires_grad]
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flags = torch.tensor(
            [p.grad is not None for p in parameters],
            dtype=parameters[0].dtype,
            device=parameters[0].device,
        )
        # in one message: one per parameter would cost more than its content
        summed = self.accelerator.reduce(torch.cat([flags, *(g.flatten() for g in grads)]))
        pieces = summed.split([len(flags), *(g.numel() for g in grads)])
        if self.has_missing_cells or self.has_gradient is None:  # not every step: the host waits
            self.has_gradient = pieces[0].tolist()
        for p, grad, piece, found in zip(
            parameters, grads, pieces[1:], self.has_gradient, strict=True
        ):
            # None, not zero: the optimizer must skip it, as in a single process
            p.grad = grad.copy_(piece.view_as(grad)) if found else None

    def _over_processes(self, sums):
        own = torch.tensor(sums, dtype=torch.float32, device=self.accelerator.device)
        return self.accelerator.reduce(own).cpu().double().numpy()


def make_net(module, params, accelerator=None):
    """Make a `Net`, or an `AcceleratedNet` if there is an accelerator."""
    params = {name: value for name, value in params.items() if name != "accelerator"}
    if accelerator is None:
        return Net(module, **params)
    if not accelerator.is_main_process:
        params["verbose"] = 0
    return AcceleratedNet(module, **params, accelerator=accelerator)
