"""Cross-validation by group: how good is the model on speakers it has never heard?

Run: python examples/02_group_cross_validation.py [FOLDER WITH digits3_small.npz]

Rows of one speaker (patient, device, telephone line) are alike in ways that do not carry over to
the next one. Random folds put the same speakers on both sides and overestimate the accuracy;
GroupKFold keeps each on one side. The same holds inside training, where encoders put rows aside to
find the best epoch: with metadata routing they get the groups too and put whole speakers aside.
"""

import os
import sys
from pathlib import Path

import numpy as np
from sklearn import config_context
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_mmfusion import (
    AudioEncoder,
    FusionTransformer,
    ImageEncoder,
    TextEncoder,
    load_multimodal_digits,
)
from sklearn_mmfusion.datasets import load_digits3


def load():
    """Return X, y and groups: real speakers if `digits3` is available, else telephone lines."""
    shared = Path(os.environ.get("MMFUSION_DATA", ".")) / "digits3"
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else shared
    if (folder / "digits3_small.npz").is_file():
        data, rows = load_digits3(folder / "digits3_small.npz"), slice(None)
    else:
        data, rows = load_multimodal_digits(), slice(300)
    kept = data.train[rows]
    return data.data.iloc[kept], data.target[kept], data.groups[kept]


def make_model(routed):
    """Return a pipeline whose encoders request `groups` if `routed`."""
    triples = []
    for name, encoder in [
        ("image", ImageEncoder(n_components=64)),
        ("text", TextEncoder(n_components=64)),
        ("audio", AudioEncoder(n_components=64, sample_rate=8000)),
    ]:
        encoder.set_params(max_epochs=8, random_state=0)  # short, for the example's sake
        triples.append((name, encoder.set_fit_request(groups=True) if routed else encoder, name))
    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    return make_pipeline(FusionTransformer(triples), head)


def report(title, scores):
    print(f"{title:<16}{np.mean(scores):.3f}  (folds {', '.join(f'{s:.3f}' for s in scores)})")


def main():
    X, y, groups = load()
    print(f"{len(X)} rows of {len(set(groups))} groups; accuracy:")
    folds = KFold(n_splits=4, shuffle=True, random_state=0)
    scores = cross_val_score(make_model(False), X, y, cv=folds, n_jobs=2)
    report("random folds", scores)
    with config_context(enable_metadata_routing=True):
        model, by_group = make_model(True), GroupKFold(n_splits=4)
        scores = cross_val_score(model, X, y, cv=by_group, params={"groups": groups}, n_jobs=2)
    report("folds by group", scores)


if __name__ == "__main__":
    main()
