"""How long does one row take?

Median and 99th percentile of one prediction: the network alone (its inputs ready), `predict_one` of
a dict, `predict` of a frame of one row; for a network over two small tables and one over image,
text and sound.

    OMP_NUM_THREADS=1 python benchmarks/bench_latency.py
"""

import time

import numpy as np
import torch

from sklearn_mmfusion import (
    AudioEncoder,
    ImageEncoder,
    JointFusionClassifier,
    TextEncoder,
    load_multimodal_digits,
    multimodal_frame,
)

REPEATS = 500


def tables():
    """Two tables of 64 numbers."""
    rng = np.random.default_rng(0)
    X = multimodal_frame(a=rng.normal(size=(300, 64)), b=rng.normal(size=(300, 64)))
    return X, rng.integers(0, 10, 300), [(name, "passthrough", name) for name in "ab"]


def digits():
    """Image of 16 x 16, a word, sound of half a second."""
    data = load_multimodal_digits()
    encoders = [
        ("image", ImageEncoder(), "image"),
        ("text", TextEncoder(), "text"),
        ("audio", AudioEncoder(sample_rate=8000), "audio"),
    ]
    return data.data.iloc[:300], data.target[:300], encoders


def seconds(call):
    """Seconds of each of many calls, after a few that do not count."""
    times = []
    for _ in range(REPEATS + 20):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return np.array(times[20:])


def main():
    torch.set_num_threads(1)
    print("| data | fusion | what | p50 ms | p99 ms | p50 / network |")
    print("| --- " * 6 + "|")
    for make in (tables, digits):
        X, y, encoders = make()
        for fusion in ("concat", "attention"):
            model = JointFusionClassifier(encoders, fusion=fusion, max_epochs=1, random_state=0)
            model.fit(X, y)
            one = X.iloc[:1]
            row = {name: X[name].iloc[0] for name in X.columns}
            batch = model._read(one).batch(np.zeros(1, dtype=np.int64))
            with torch.inference_mode():
                network = seconds(lambda: model.module_(**batch))  # noqa: B023
            rest = {
                "predict_one": seconds(lambda: model.predict_one(row)),  # noqa: B023
                "predict": seconds(lambda: model.predict(one)),  # noqa: B023
            }
            for what, times in {"network": network, **rest}.items():
                p50, p99 = 1e3 * np.percentile(times, [50, 99])
                ratio = p50 / 1e3 / np.median(network)
                print(
                    f"| {make.__name__} | {fusion} | {what} | {p50:.2f} | {p99:.2f} | {ratio:.1f} |"
                )


if __name__ == "__main__":
    main()
