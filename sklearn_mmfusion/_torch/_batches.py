"""Which rows meet in a batch, and a module run over all of them."""

import numpy as np
import torch

BUCKET = 16  # batches are cut from this many batches' worth of rows sorted by length


def n_batches(n_rows, batch_size):
    """How many batches of nearly equal size: none of one row, unless `batch_size` is one."""
    least = 1 if batch_size == 1 else 2
    return max(1, min(-(-n_rows // batch_size), n_rows // least))


class BatchIterator:
    """Batches of nearly equal size, gathered by index; rows of similar length share one.

    Equal sizes, rather than full batches and a rest, keep a batch of a single row from reaching
    batch normalization.
    """

    def __init__(self, dataset, batch_size, device, shuffle=False, seed=0):
        self.dataset, self.batch_size, self.device = dataset, batch_size, device
        self.rng = np.random.default_rng(seed) if shuffle else None
        lengths = dataset.inputs.lengths()
        self.lengths = None if lengths is None else lengths[dataset.rows]

    def __len__(self):
        return n_batches(len(self.dataset), self.batch_size)

    def __iter__(self):
        order = np.arange(len(self.dataset))
        if self.rng is not None:
            self.rng.shuffle(order)
        if self.lengths is not None:
            n_buckets = max(1, len(self) // BUCKET) if self.rng is not None else 1
            order = np.concatenate(
                [
                    b[np.argsort(self.lengths[b], kind="stable")]
                    for b in np.array_split(order, n_buckets)
                ]
            )
        batches = np.array_split(order, len(self))
        if self.rng is not None:
            self.rng.shuffle(turns := np.arange(len(batches)))
            batches = [batches[i] for i in turns]
        for positions in batches:
            yield self.dataset.batch(positions, self.device)


def predict_batches(module, inputs, *, batch_size, device, method="forward"):
    """Run a module, or another `method` of it, over all rows without gradients.

    Rows go through in order of length, so that a batch holds little padding, and come back in
    their own order.

    Returns
    -------
    outputs : ndarray of shape (n_samples, ...), dtype=float32
    """
    lengths = inputs.lengths()
    order = np.arange(len(inputs)) if lengths is None else np.argsort(lengths, kind="stable")
    n_batches = max(1, -(-len(order) // batch_size))
    was_training = module.training
    call = getattr(module.eval(), method)
    outputs = None
    with torch.inference_mode():
        for rows in np.array_split(order, n_batches):
            batch = call(**inputs.batch(rows, device)).float().cpu().numpy()
            if outputs is None:  # only now is their width known
                outputs = np.empty((len(order), *batch.shape[1:]), dtype=np.float32)
            outputs[rows] = batch
    module.train(was_training)
    return outputs


def predict_row(module, inputs):
    """Run a module in evaluation mode over inputs of one row, on the device it is on.

    What `predict_batches` does around a batch (moving the module, its mode) costs more than the
    network does for a single row.

    Returns
    -------
    outputs : ndarray of shape (1, ...), dtype=float32
    """
    device = next(module.parameters()).device
    with torch.inference_mode():
        return module(**inputs.batch(np.zeros(1, dtype=np.int64), device)).float().cpu().numpy()
