"""Are predictions of a stream those of rows built by hand, and how long does an event take?

10 000 events of an image, a text and a sound, each four times per second; every two seconds another
class is shown. The image stops halfway; a sound arrives up to three seconds after its time stamp,
out of order and sometimes older than the window of two seconds. Latency of `next` on the stream
and, in turn with it, of one row that is ready: `predict_proba_one` of a joint model,
`predict_proba` of a frame of one row for a late one.

    OMP_NUM_THREADS=1 python benchmarks/bench_streams.py [--seconds 1000] [--epochs 3]
"""

import argparse
import time

import numpy as np
import torch

from sklearn_mmfusion import (
    AudioEncoder,
    ImageEncoder,
    JointFusionClassifier,
    LateFusionClassifier,
    TextEncoder,
    make_multimodal_classification,
    multimodal_frame,
)

WINDOW, DELAY, PER_CLASS, STEP = 2.0, 3.0, 2.0, 0.25  # seconds
MODALITIES = ["image", "text", "audio"]


def make_models(epochs):
    """Unfitted models by level."""
    shared = {"max_epochs": epochs, "early_stopping": False}
    encoders = [
        ("image", ImageEncoder(**shared), "image"),
        ("text", TextEncoder(**shared), "text"),
        ("audio", AudioEncoder(sample_rate=8000, **shared), "audio"),
    ]
    return {
        "joint": JointFusionClassifier(encoders, random_state=0, **shared),
        "late": LateFusionClassifier(encoders, random_state=0),
    }


def make_events(X, y, seconds):
    """Return events in the order of arrival, (time, modality, cell), and the classes shown."""
    rng = np.random.default_rng(0)
    shown = rng.integers(0, y.max() + 1, int(seconds / PER_CLASS) + 1)
    rows = [np.flatnonzero(y == label) for label in range(y.max() + 1)]
    arriving = []
    for name in MODALITIES:
        times = np.arange(0, seconds / 2 if name == "image" else seconds, STEP)
        times = times + rng.uniform(0, STEP, len(times))
        delays = rng.uniform(0, DELAY, len(times)) * (name == "audio")
        for stamp, delay in zip(times.tolist(), delays, strict=True):
            label = shown[int(stamp / PER_CLASS)]
            arriving.append((stamp + delay, (stamp, name, X[name].iloc[rng.choice(rows[label])])))
    return [event for _, event in sorted(arriving, key=lambda pair: pair[0])], shown


def rows_by_hand(events):
    """Search all events so far for the newest cell of each modality, at each event.

    Returns
    -------
    cells : list of dict of str to cell
        Without the modalities that are absent.
    """
    times = np.array([stamp for stamp, _, _ in events])
    names = np.array([name for _, name, _ in events])
    cells = []
    for i in range(len(events)):
        now, row = times[: i + 1].max(), {}
        for name in MODALITIES:
            mine = np.flatnonzero(names[: i + 1] == name)
            newest = mine[times[mine].argmax()] if len(mine) else None
            if newest is not None and now - times[newest] <= WINDOW:
                row[name] = events[newest][2]
        cells.append(row)
    return cells


def timed(call, *arguments):
    start = time.perf_counter()
    result = call(*arguments)
    return time.perf_counter() - start, result


def measure(model, events, cells, X):
    """Latencies of events and of ready rows in turn, and what the stream yielded."""
    has_one = hasattr(model, "predict_proba_one")
    stream = model.predict_stream(iter(events), window=WINDOW)
    seconds, yielded = np.empty((2, len(events))), []
    for i, row in enumerate(cells):
        seconds[0, i], found = timed(next, stream)
        yielded.append(found)
        one = (model.predict_proba_one, row) if has_one else (model.predict_proba, X.iloc[[i]])
        seconds[1, i], _ = timed(*one)
    what = "predict_proba_one" if has_one else "predict_proba, one row"
    return dict(zip(["predict_stream", what], seconds, strict=True)), yielded


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1000.0, help="length of the stream")
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    X, y = make_multimodal_classification(1200, noise=0.5, random_state=0)
    events, shown = make_events(X[600:], y[600:], options.seconds)
    cells = rows_by_hand(events)
    by_hand = multimodal_frame(**{name: [row.get(name) for row in cells] for name in MODALITIES})
    counts = [len(row) for row in cells]
    shares = ", ".join(f"{counts.count(n)} with {n}" for n in sorted(set(counts)))
    print(f"{len(events)} events: {shares} modalities\n")
    print("| level | what | p50 ms | p99 ms | per second | p50 / ready | differing | accuracy |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for level, model in make_models(options.epochs).items():
        model.fit(X[:600], y[:600])
        expected = model.predict(by_hand)
        seconds, yielded = measure(model, events, cells, by_hand)
        wrong = sum(
            label != wanted or set(names) != set(row)
            for (_, label, names), wanted, row in zip(yielded, expected, cells, strict=True)
        )
        right = np.mean([label == shown[int(now / PER_CLASS)] for now, label, _ in yielded])
        *_, ready = seconds.values()
        for what, times in seconds.items():
            p50, p99 = 1e3 * np.percentile(times, [50, 99])
            figures = f"{p50:.2f} | {p99:.2f} | {1 / times.mean():.0f}"
            checked = f"{wrong} | {right:.3f}" if what == "predict_stream" else " | "
            ratio = np.median(times) / np.median(ready)
            print(f"| {level} | {what} | {figures} | {ratio:.2f} | {checked} |", flush=True)
        assert wrong == 0, f"{wrong} predictions differ"


if __name__ == "__main__":
    main()
