"""How long does one row take?

Median and 99th percentile of one prediction: the network alone (its inputs ready), one row as a
dict or array (`predict_proba_one`), a frame or table of one row (`predict_proba`). For the
reference network (`_reference.py`) at FEAT and SMALL, joint networks over two small tables, and
over image, text and sound (waveforms and texts: the row is prepared, too).

    OMP_NUM_THREADS=1 python benchmarks/bench_latency.py
"""

import time

import numpy as np
import torch
from _data import make_data
from _reference import as_ours, make_ours

from sklearn_mmfusion import (
    AudioEncoder,
    ImageEncoder,
    JointFusionClassifier,
    NeuralClassifier,
    TextEncoder,
    load_multimodal_digits,
    multimodal_frame,
)

REPEATS = 1000


def tables(fusion):
    """Two tables of 64 numbers."""
    rng = np.random.default_rng(0)
    X = multimodal_frame(a=rng.normal(size=(300, 64)), b=rng.normal(size=(300, 64)))
    encoders = [(name, "passthrough", name) for name in "ab"]
    return joint(encoders, fusion), X, rng.integers(0, 10, 300)


def digits(fusion):
    """Image of 16 x 16, a word, sound of half a second."""
    data = load_multimodal_digits()
    encoders = [
        ("image", ImageEncoder(), "image"),
        ("text", TextEncoder(), "text"),
        ("audio", AudioEncoder(sample_rate=8000), "audio"),
    ]
    return joint(encoders, fusion), data.data.iloc[:300], data.target[:300]


def joint(encoders, fusion):
    return JointFusionClassifier(encoders, fusion=fusion, max_epochs=1, random_state=0)


def reference(size):
    """The reference network."""
    arrays, y = make_data(size, 300, seed=1)
    return make_ours(size, max_epochs=1), as_ours(arrays), y


def features():
    """The default `NeuralClassifier` on 740 features."""
    _, X, y = reference("FEAT")
    return NeuralClassifier(max_epochs=1, random_state=0), X, y


CASES = {
    "FEAT, reference": lambda: reference("FEAT"),
    "FEAT, default head": features,
    "SMALL, reference": lambda: reference("SMALL"),
    "tables, concat": lambda: tables("concat"),
    "tables, attention": lambda: tables("attention"),
    "digits, concat": lambda: digits("concat"),
    "digits, attention": lambda: digits("attention"),
}


def seconds(calls):
    """Seconds of many calls of each function, in turn, so that all see the same machine."""
    times = np.empty((REPEATS + 20, len(calls)))
    for repeat in times:
        for i, call in enumerate(calls):
            start = time.perf_counter()
            call()
            repeat[i] = time.perf_counter() - start
    return times[20:].T


def measure(model, X, y):
    """Seconds by what is done."""
    model.fit(X, y)
    if isinstance(X, np.ndarray):
        one, row = X[:1], X[0]
        batch = {"features": torch.from_numpy(one.copy())}
    else:
        one, row = X.iloc[:1], {name: X[name].iloc[0] for name in X.columns}
        batch = model._read(one).batch(np.zeros(1, dtype=np.int64))

    def network():
        with torch.inference_mode():
            return model.module_(**batch)

    calls = {
        "network": network,
        "predict_proba_one": lambda: model.predict_proba_one(row),
        "predict_proba": lambda: model.predict_proba(one),
    }
    return dict(zip(calls, seconds(list(calls.values())), strict=True))


def main():
    torch.set_num_threads(1)
    print("| case | what | p50 ms | p99 ms | p50 / network |")
    print("| --- " * 5 + "|")
    for case, make in CASES.items():
        measured = measure(*make())
        for what, times in measured.items():
            p50, p99 = 1e3 * np.percentile(times, [50, 99])
            ratio = np.median(times) / np.median(measured["network"])
            print(f"| {case} | {what} | {p50:.3f} | {p99:.3f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
