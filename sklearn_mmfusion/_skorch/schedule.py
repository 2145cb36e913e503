"""How long training takes, and how the learning rate changes over its steps."""

import math

from skorch.callbacks import LRScheduler

WARMUP = 0.15  # share of the steps over which the learning rate rises
MIN_EPOCHS = 20  # epochs that max_epochs="auto" takes at least
MIN_STEPS = 300  # steps that max_epochs="auto" takes at least, except where an estimator needs more
SMALL_SET, SMALL_BATCH, LARGE_BATCH = 1000, 32, 64  # batch_size="auto": rows, batch below, above


def schedule(step, total_steps):
    """Share of the learning rate at a step: linear warm-up, then a half cosine."""
    warmup = max(1, round(WARMUP * total_steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total_steps - warmup)))


def batch_rows(batch_size, n_rows):
    """Rows per batch, where ``batch_size`` is an int or "auto"."""
    if batch_size == "auto":
        return SMALL_BATCH if n_rows < SMALL_SET else LARGE_BATCH
    return min(batch_size, n_rows)


def n_epochs(max_epochs, batch_size, n_rows, min_steps=MIN_STEPS):
    """Epochs of a training on ``n_rows`` rows, where ``max_epochs`` is an int or "auto"."""
    if max_epochs != "auto":
        return max_epochs
    steps_per_epoch = -(-n_rows // batch_rows(batch_size, n_rows))
    return max(MIN_EPOCHS, -(-min_steps // steps_per_epoch))


def refuse_schedulers(net):
    """Raise where a callback would change the learning rate, which has its own schedule."""
    for name, callback in net.callbacks_:
        if isinstance(callback, LRScheduler):
            raise ValueError(
                f"{net.estimator_name}: callback {name!r} is an LRScheduler, which would change "
                "nothing: the learning rate follows a fixed schedule (warm-up, then a half "
                "cosine from `lr`). Remove it from `callbacks`."
            )
