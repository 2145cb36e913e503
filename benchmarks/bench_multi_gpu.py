"""How many rows a second do several processes train, one on each GPU (or on the CPU)?

Prints the rows a second that one network is trained with by the number of processes it is started
with, the rows a CPU second of one process (what a busy machine can tell), and the sum of the
absolute weights: that of `head` must not depend on the number (up to rounding), that of `joint`
does, by its dropout and batch norm. `--batch-size` is that of all processes together.

    accelerate launch --num_processes 1 benchmarks/bench_multi_gpu.py
    accelerate launch --num_processes 8 benchmarks/bench_multi_gpu.py

and on the CPU, where `accelerate launch` starts a single process:

    OMP_NUM_THREADS=1 torchrun --nproc_per_node 2 benchmarks/bench_multi_gpu.py --cpu \
        --rows 2000 --batch-size 64
"""

import argparse
import time

import numpy as np
import torch
from accelerate import Accelerator
from skorch.callbacks import Callback
from torch import nn

from sklearn_mmfusion import JointFusionClassifier, NeuralClassifier, multimodal_frame
from sklearn_mmfusion.feature_extraction.image import ImageEncoder


class Perceptron(nn.Module):
    """Three layers without batch norm or dropout: the same weights whatever the shares."""

    def __init__(self, in_features, n_outputs, width=1024):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(in_features, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(),
            nn.Linear(width, n_outputs),
        )  # fmt: skip

    def forward(self, features):
        return self.layers(features)


class Clock(Callback):
    """Seconds of each epoch, the work of the device included."""

    def on_train_begin(self, net, **kwargs):
        self.seconds, self.cpu = [], []

    def on_epoch_begin(self, net, **kwargs):
        self.start = time.perf_counter(), time.process_time()

    def on_epoch_end(self, net, **kwargs):  # after the losses were read from the device
        self.seconds.append(time.perf_counter() - self.start[0])
        self.cpu.append(time.process_time() - self.start[1])


def head(n_rows, options):
    """740 features, a wide perceptron."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, 740)).astype(np.float32)
    model = NeuralClassifier(module=Perceptron, **options)
    return model, X, rng.integers(0, 10, n_rows)


def joint(n_rows, options):
    """Images of 64 x 64 and 100 numbers, end to end."""
    rng = np.random.default_rng(0)
    X = multimodal_frame(
        image=rng.integers(0, 256, (n_rows, 64, 64, 3), dtype=np.uint8),
        table=rng.normal(size=(n_rows, 100)).astype(np.float32),
    )
    encoders = [("image", ImageEncoder(), "image"), ("table", "passthrough", "table")]
    options = {**options, "early_stopping": False}
    return JointFusionClassifier(encoders, **options), X, rng.integers(0, 10, n_rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--cpu", action="store_true", help="also where there is a GPU")
    args = parser.parse_args()
    accelerator = Accelerator(cpu=args.cpu or not torch.cuda.is_available())
    if accelerator.device.type == "cpu":
        torch.set_num_threads(1)
    if accelerator.is_main_process:
        headers = ["network", "processes", "device", "batch", "rows a second", "rows a CPU second"]
        print("|", " | ".join([*headers, "sum of weights"]), "|")
        print("| --- " * 7 + "|")
    for make in (head, joint):
        clock = Clock()
        options = {
            "batch_size": args.batch_size,
            "max_epochs": args.epochs,
            "random_state": 0,
            "device": str(accelerator.device),
            "callbacks": [clock],
            "net_params": {"accelerator": lambda: accelerator},
        }
        model, X, y = make(args.rows, options)
        model.fit(X, y)
        weights = sum(float(p.detach().abs().sum()) for p in model.module_.parameters())
        if accelerator.is_main_process:
            # the first epoch warms up
            rate, own = (len(X) / np.median(t[1:]) for t in (clock.seconds, clock.cpu))
            print(
                f"| {make.__name__} | {accelerator.num_processes} | {accelerator.device.type} | "
                f"{args.batch_size} | {rate:.0f} | {own:.0f} | {weights:.2f} |",
                flush=True,
            )
    accelerator.end_training()


if __name__ == "__main__":
    main()
