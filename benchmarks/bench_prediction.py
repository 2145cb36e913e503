"""How long does prediction take, against a loop by hand and Keras?

The reference network (`_reference.py`) at three sizes; "hand" is a loop over slices of ready
tensors, NCHW and float32, in `inference_mode`, with a softmax; "ours" is `predict_proba`, checks
and preparation of X included, on uint8 pixels. Equal batches: 32 rows at SEED, 256 at SMALL and
FEAT. Medians of ratios of CPU time within a round [quartiles], of the second prediction of a
process, one thread.

    OMP_NUM_THREADS=1 python benchmarks/bench_prediction.py [--sizes SEED SMALL FEAT] [--rounds 5]
        [--keras-python PATH]   # a Python that has tensorflow, else no row for Keras
"""

import sys
import time

import torch
from _data import SIZES, load_data
from _paired import as_ratio, compare, gather, parse, serve
from _reference import HandHead, HandNetwork, as_ours, as_tensors, make_ours


def hand(size):
    """A loop over slices."""
    torch.manual_seed(0)
    network = HandHead() if size == "FEAT" else HandNetwork(SIZES[size].frame)
    network.eval()
    inputs = as_tensors(load_data(size, "test")[0])

    def work():
        begin, parts = time.process_time(), []
        with torch.inference_mode():
            for batch in zip(*[x.split(SIZES[size].predict_batch) for x in inputs], strict=True):
                parts.append(network(*batch).softmax(1))
            torch.cat(parts).numpy()
        return {"seconds": time.process_time() - begin}

    return work


def ours(size, precision="float32"):
    """`predict_proba` of our estimator."""
    arrays, y = load_data(size, "train")
    few = {name: values[:64] for name, values in arrays.items()}
    model = make_ours(size, precision=precision, max_epochs=1).fit(as_ours(few), y[:64])
    X = as_ours(load_data(size, "test")[0])

    def work():
        begin = time.process_time()
        model.predict_proba(X)
        return {"seconds": time.process_time() - begin}

    return work


CONTENDERS = {"hand": hand, "ours": ours}


def main():
    options = parse(CONTENDERS)
    print("| size | contender | prediction / hand | microseconds a row |")
    print("| --- | --- | --- | --- |")
    for size in options.sizes:
        gathered = gather(__file__, CONTENDERS, size, options, "predict")
        results, ratios, _ = compare(gathered, options)
        for name, measured in results.items():
            row = sorted(r["seconds"] for r in measured)[len(measured) // 2] / SIZES[size].n_test
            print(f"| {size} | {name} | {as_ratio(ratios[name])} | {1e6 * row:.1f} |", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["--serve"]:
        serve(CONTENDERS)
    else:
        main()
