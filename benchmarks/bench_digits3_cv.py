"""Which settings of one encoder carry over to speakers and languages it has not heard?

Four folds over the *training* rows of digits3: each leaves out one speaker and a quarter of the
languages. Prints mean accuracy and process seconds a fit. Settings are Python literals:

    OMP_NUM_THREADS=1 python benchmarks/bench_digits3_cv.py ../shared/data/digits3 audio
    OMP_NUM_THREADS=1 python benchmarks/bench_digits3_cv.py ../shared/data/digits3 audio top_db=None

Without early stopping and refit (`--plain`, 14 epochs) it takes half as long.
"""

import argparse
import ast
import time

import numpy as np
from sklearn.linear_model import LogisticRegression

from sklearn_mmfusion import AudioEncoder, ImageEncoder, TextEncoder
from sklearn_mmfusion.datasets import load_digits3

ENCODERS = {
    "image": ImageEncoder(),
    "audio": AudioEncoder(sample_rate=8000),
    "text": TextEncoder(),
}


def folds(speakers, languages):
    """Yield (train, test by speaker, test by language), positions among the training rows."""
    names = np.unique(languages)
    np.random.default_rng(0).shuffle(names)
    part = dict(zip(names, np.arange(len(names)) % 4, strict=True))
    parts = np.array([part[language] for language in languages])
    for i, speaker in enumerate(np.unique(speakers)):
        rest = np.flatnonzero((speakers != speaker) & (parts != i))
        yield rest, np.flatnonzero(speakers == speaker), np.flatnonzero(parts == i)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="folder of digits3.npz")
    parser.add_argument("modality", choices=ENCODERS)
    parser.add_argument("settings", nargs="*", help="name=value, value a Python literal")
    parser.add_argument("--plain", action="store_true")
    options = parser.parse_intermixed_args()
    data = load_digits3(options.folder)
    arrays = np.load(f"{options.folder}/digits3.npz")
    X, y = data.data[options.modality].iloc[data.train], np.asarray(data.target)[data.train]
    speakers = np.asarray(data.groups)[data.train]
    encoder = ENCODERS[options.modality].set_params(random_state=0)
    if options.plain:
        encoder.set_params(early_stopping=False, max_epochs=14)
    for name, value in (setting.split("=", 1) for setting in options.settings):
        encoder.set_params(**{name: ast.literal_eval(value)})
    scores, seconds = [], []
    for train, by_speaker, by_language in folds(speakers, arrays["language"][data.train]):
        test = by_language if options.modality == "text" else by_speaker
        start = time.process_time()
        Z = encoder.fit_transform(X.iloc[train], y[train], groups=speakers[train])
        seconds.append(time.process_time() - start)
        head = LogisticRegression(max_iter=1000).fit(Z, y[train])
        scores.append(head.score(encoder.transform(X.iloc[test]), y[test]))
        print(f"  {scores[-1]:.3f}", flush=True)
    chosen = " ".join(options.settings) or "defaults"
    print(f"| {options.modality} | {chosen} | {np.mean(scores):.3f} | {np.mean(seconds):.0f} |")


if __name__ == "__main__":
    main()
