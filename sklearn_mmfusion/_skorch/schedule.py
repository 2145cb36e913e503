"""Length of training, batch size and learning-rate schedule."""

import math

from skorch.callbacks import LRScheduler

WARMUP = 0.15  # share of the steps with a rising learning rate
MIN_EPOCHS = 20  # minimum number of epochs with max_epochs="auto"
MIN_STEPS = 300  # minimum number of steps with max_epochs="auto"; some estimators need more
SMALL_SET, SMALL_BATCH, LARGE_BATCH = 1000, 32, 64  # batch_size="auto": rows, batch below, above


def schedule(step, total_steps):
    """Factor of the learning rate at a step: linear warm-up, then a half cosine.

    With ``total_steps=None`` the rate is constant.
    """
    if total_steps is None:
        return 1.0
    warmup = max(1, round(WARMUP * total_steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total_steps - warmup)))


def batch_rows(batch_size, n_rows):
    """Rows per batch; ``batch_size`` is an int or "auto"."""
    if batch_size == "auto":
        return SMALL_BATCH if n_rows < SMALL_SET else LARGE_BATCH
    return min(batch_size, n_rows)


def n_epochs(max_epochs, batch_size, n_rows, min_steps=MIN_STEPS):
    """Number of epochs on ``n_rows`` rows; ``max_epochs`` is an int or "auto"."""
    if max_epochs != "auto":
        return max_epochs
    steps_per_epoch = -(-n_rows // batch_rows(batch_size, n_rows))
    return max(MIN_EPOCHS, -(-min_steps // steps_per_epoch))


def refuse_schedulers(net):
    """Raise if a callback is a learning-rate scheduler: the schedule is fixed."""
    for name, callback in net.callbacks_:
        if isinstance(callback, LRScheduler):
            raise ValueError(
                f"{net.estimator_name}: callback {name!r} is an LRScheduler, which would change "
                "nothing: the learning rate follows a fixed schedule (warm-up, then a half "
                "cosine from `lr`). Remove it from `callbacks`."
            )
