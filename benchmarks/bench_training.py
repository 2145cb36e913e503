"""How long does training take, against a loop by hand, Keras, skorch and MLPClassifier?

The reference network (`_reference.py`) at three sizes, equal batches and passes. "hand" is a plain
loop: NCHW, float32, unfused Adam, ready tensors sliced by index. "hand, same levers" has all that
the engine has: channels-last, pooling first, uint8 pixels scaled by the batch, fused AdamW,
clipping, the schedule, freed memory kept. "ours" is the training inside `fit`, "ours, whole fit"
all of `fit`. Medians of ratios of CPU time within a round [quartiles], one thread; of the second
training of a process, and, as "first / hand", of the first ones, as a script has it.

    OMP_NUM_THREADS=1 python benchmarks/bench_training.py [--sizes SEED SMALL FEAT] [--rounds 5]
        [--keras-python PATH]   # a Python that has tensorflow, else no row for Keras
"""

import math
import os
import sys
import time

import numpy as np
import torch
from _data import BATCH_SIZE, LR, SIZES, load_data
from _paired import as_ratio, compare, gather, parse, serve
from _reference import HandHead, HandNetwork, as_ours, as_tensors, make_ours
from skorch.callbacks import Callback
from torch import nn


def hand(size):
    """A plain loop."""
    arrays, y = load_data(size, "train")
    inputs, target = as_tensors(arrays), torch.from_numpy(y)

    def work():
        torch.manual_seed(0)
        network = HandHead() if size == "FEAT" else HandNetwork(SIZES[size].frame)
        optimizer = torch.optim.Adam(network.parameters(), lr=LR)
        criterion = nn.CrossEntropyLoss()
        start = time.process_time()
        for _ in range(SIZES[size].n_epochs):
            losses = []
            for rows in torch.randperm(len(y)).split(BATCH_SIZE):
                optimizer.zero_grad()
                loss = criterion(network(*[x[rows] for x in inputs]), target[rows])
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
        seconds = time.process_time() - start
        test_rows, truth = load_data(size, "test")
        accurate = accuracy(network, as_tensors(test_rows), truth)
        return {"seconds": seconds, "loss": np.mean(losses), "accuracy": accurate}

    return work


def accuracy(network, test, truth):
    with torch.inference_mode():
        parts = [
            network(*batch) for batch in zip(*[x.split(BATCH_SIZE) for x in test], strict=True)
        ]
    return (torch.cat(parts).argmax(1).numpy() == truth).mean()


def levers(size):
    """A loop by hand that knows all that the engine knows."""
    from sklearn_mmfusion._skorch import schedule
    from sklearn_mmfusion._torch import keep_freed_memory
    from sklearn_mmfusion.modules.image import standardize

    arrays, y = load_data(size, "train")
    tensors, target = [torch.from_numpy(a) for a in arrays.values()], torch.from_numpy(y)
    n_steps = SIZES[size].n_epochs * -(-len(y) // BATCH_SIZE)
    if size != "FEAT":
        flat = arrays["image"].reshape(-1, 3)
        scales = (flat.mean(0), flat.std(0))
        mean, std = (torch.from_numpy(x.astype(np.float32)).view(1, 3, 1, 1) for x in scales)

    def ready(batch):
        if size == "FEAT":
            return batch
        return [standardize(batch[0].permute(0, 3, 1, 2), mean, std), *batch[1:]]

    class Network(nn.Module):  # as in `accuracy`
        def __init__(self):
            super().__init__()
            made = HandHead() if size == "FEAT" else HandNetwork(SIZES[size].frame, levers=True)
            self.inner = made

        def forward(self, *batch):
            return self.inner(*ready(list(batch)))

    def work():
        torch.manual_seed(0)
        network = Network()
        optimizer = torch.optim.AdamW(network.parameters(), lr=LR, fused=True)
        criterion, step = nn.CrossEntropyLoss(), 0
        start = time.process_time()
        with keep_freed_memory("cpu"):
            for _ in range(SIZES[size].n_epochs):
                losses = []
                for rows in np.array_split(np.random.permutation(len(y)), n_batches(len(y))):
                    rows = torch.from_numpy(rows)
                    optimizer.param_groups[0]["lr"] = LR * schedule(step, n_steps)
                    optimizer.zero_grad()
                    output = network(*[x.index_select(0, rows) for x in tensors])
                    loss = criterion(output, target.index_select(0, rows))
                    loss.backward()
                    if size != "FEAT":  # where ours does not clip
                        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                    optimizer.step()
                    losses.append(loss.detach())
                    step += 1
                mean_loss = torch.stack(losses).mean().item()
        seconds = time.process_time() - start
        test_rows, truth = load_data(size, "test")
        accurate = accuracy(network, [torch.from_numpy(a) for a in test_rows.values()], truth)
        return {"seconds": seconds, "loss": mean_loss, "accuracy": accurate}

    return work


def n_batches(n_rows):
    return -(-n_rows // BATCH_SIZE)


class Clock(Callback):
    """CPU time between the start and the end of training."""

    def on_train_begin(self, net, **kwargs):
        self.start = time.process_time()

    def on_train_end(self, net, **kwargs):
        type(self).seconds = time.process_time() - self.start


def ours(size, whole=False, **params):
    """Our estimator."""
    arrays, y = load_data(size, "train")
    X = as_ours(arrays)

    def work():
        model = make_ours(size, callbacks=[Clock()], **params)
        start = time.process_time()
        model.fit(X, y)
        seconds = time.process_time() - start if whole else Clock.seconds
        test_rows, truth = load_data(size, "test")
        accurate = float((model.predict(as_ours(test_rows)) == truth).mean())
        return {"seconds": seconds, "loss": model.history_[-1]["train_loss"], "accuracy": accurate}

    return work


def unkept(size):
    """Ours in a process that leaves the C allocator as it is."""
    os.environ["MMFUSION_KEEP_MEMORY"] = "0"
    return ours(size)


def skorch(size):
    """skorch with its defaults, a softmax and its NLLLoss."""
    from skorch import NeuralNetClassifier

    arrays, y = load_data(size, "train")

    class Network(HandHead):
        def forward(self, X):
            return super().forward(X).softmax(1)

    def work():
        torch.manual_seed(0)
        net = NeuralNetClassifier(
            Network,
            max_epochs=SIZES[size].n_epochs,
            lr=LR,
            optimizer=torch.optim.Adam,
            batch_size=BATCH_SIZE,
            iterator_train__shuffle=True,
            train_split=None,
            verbose=0,
            callbacks=[Clock()],
        )
        net.fit(arrays["features"], y)
        test_rows, truth = load_data(size, "test")
        accurate = float((net.predict(test_rows["features"]) == truth).mean())
        loss = net.history[-1]["train_loss"]
        return {"seconds": Clock.seconds, "loss": loss, "accuracy": accurate}

    return work


def perceptron(size):
    """scikit-learn's MLPClassifier."""
    import warnings

    from sklearn.neural_network import MLPClassifier

    arrays, y = load_data(size, "train")
    warnings.simplefilter("ignore")  # that it has not converged

    def work():
        model = MLPClassifier(
            (256, 128),
            batch_size=BATCH_SIZE,
            learning_rate_init=LR,
            max_iter=SIZES[size].n_epochs,
            random_state=0,
        )
        start = time.process_time()
        model.fit(arrays["features"], y)
        seconds = time.process_time() - start
        test_rows, truth = load_data(size, "test")
        accurate = float((model.predict(test_rows["features"]) == truth).mean())
        return {"seconds": seconds, "loss": model.loss_, "accuracy": accurate}

    return work


CONTENDERS = {
    "hand": hand,
    "hand, same levers": levers,
    "ours": ours,
    "ours, unclipped": lambda size: ours(size, net_params={"max_norm": math.inf}),
    "ours, bf16": lambda size: ours(size, precision="bf16"),
    "ours, whole fit": lambda size: ours(size, whole=True),
    "ours, memory not kept": unkept,
    "skorch": skorch,
    "MLPClassifier": perceptron,
}
ONLY_FEAT = ("skorch", "MLPClassifier")


def main():
    options = parse(CONTENDERS)
    print("| size | contender | training / hand | ours / this | first / hand | loss | accuracy |")
    print("| --- " * 7 + "|")
    for size in options.sizes:
        contenders = [n for n in CONTENDERS if size == "FEAT" or n not in ONLY_FEAT]
        gathered = gather(__file__, contenders, size, options, "train")
        results, ratios, first = compare(gathered, options)
        for name in ratios:
            loss, accurate = (np.mean([r[k] for r in results[name]]) for k in ("loss", "accuracy"))
            own = as_ratio(ratios["ours"] / ratios[name]) if "ours" in ratios else ""
            cells = [size, name, as_ratio(ratios[name]), own, as_ratio(first[name])]
            print("|", " | ".join([*cells, f"{loss:.3f}", f"{accurate:.3f}"]), "|", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["--serve"]:
        serve(CONTENDERS)
    else:
        main()
