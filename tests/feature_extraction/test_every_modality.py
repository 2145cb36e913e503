"""Every modality of the registry serves at all three levels of fusion, with absent rows."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from sklearn_mmfusion import FusionTransformer, JointFusionClassifier, LateFusionClassifier
from sklearn_mmfusion.datasets.generators import RENDERERS
from sklearn_mmfusion.feature_extraction import __all__ as encoder_names
from tests._registry import MODALITIES, N_ROWS, SMALL_JOINT, classes, encoders, modalities

LEVELS = {
    "features": lambda triples: make_pipeline(
        FusionTransformer(triples, random_state=0), LogisticRegression()
    ),
    "network": lambda triples: JointFusionClassifier(triples, fusion="attention", **SMALL_JOINT),
    "decisions": lambda triples: LateFusionClassifier(triples, random_state=0),
}


def test_registry_has_every_encoder():
    assert {each.encoder.__name__ for each in MODALITIES.values()} == set(encoder_names)
    assert MODALITIES.keys() == RENDERERS.keys()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", MODALITIES)
def test_modality_serves_at_every_level(name, level):
    other = "image" if name != "image" else "text"
    names = (name, other)
    X, y = modalities(names=names), classes()
    model = LEVELS[level](encoders(names)).fit(X, y)
    proba = model.predict_proba(X)
    assert proba.shape == (N_ROWS, 2) and np.isfinite(proba).all()
    # Only the row's own cells count: an absent cell changes its row and no other.
    without = X.copy()
    cells = X[name].array.copy()
    cells[[0]] = np.nan
    without[name] = cells
    changed = np.abs(model.predict_proba(without) - proba).max(1) > 1e-6
    assert changed.tolist() == [True] + [False] * (N_ROWS - 1)


# ------------------------------------------------------------------------------ memory

# Encodes 1 000 short cells of the modality argv[1] and, if argv[3] is "with", one of length
# argv[2]; saves the features of the 1 000 and prints the largest resident memory in kB.
LONG_CELL = """
import sys
import numpy as np
from sklearn_mmfusion import AudioEncoder, TextEncoder

rng, length = np.random.default_rng(0), int(sys.argv[2])
added = sys.argv[3] == "with"
if sys.argv[1] == "text":
    words = ["".join(rng.choice(list("abcdefgh"), 5)) for _ in range(300)]
    cells = [" ".join(rng.choice(words, 8)) for _ in range(1000)]
    more = " ".join(rng.choice(words, length // 6 + 1))[:length]
    encoder = TextEncoder(max_epochs=1, early_stopping=False, random_state=0)
else:
    cells = [0.1 * rng.standard_normal(rng.integers(1600, 2400)) for _ in range(1000)]
    cells, more = [np.float32(cell) for cell in cells], np.zeros(length, np.float32)
    more[::7] = 0.1
    encoder = AudioEncoder(sample_rate=2000, max_epochs=1, early_stopping=False, random_state=0)
encoder.fit(cells[:200], np.arange(200) % 2)
features = encoder.transform(cells[:500] + [more] * added + cells[500:])
assert np.isfinite(features).all()
np.save("features", np.delete(features, 500, axis=0) if added else features)
with open("/proc/self/status") as file:
    print(next(line for line in file if line.startswith("VmHWM")).split()[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("modality", "length", "most"),
    # Samples and frames of an hour of sound take 87 MB, exist twice for a moment, and the
    # allocator keeps some of what is freed.
    [("text", 100_000, 200), ("audio", 3600 * 2000, 300)],
)
def test_one_long_cell_takes_little_memory(modality, length, most, tmp_path, script_environment):
    peaks, features = [], []
    for added in ("without", "with"):
        done = subprocess.run(
            [sys.executable, "-c", LONG_CELL, modality, str(length), added],
            env=script_environment,
            cwd=tmp_path,
            check=True,
            capture_output=True,
            text=True,
        )
        peaks.append(int(done.stdout) / 1024)
        features.append(np.load(tmp_path / "features.npy"))
    np.testing.assert_allclose(features[0], features[1], atol=1e-5)
    assert peaks[1] - peaks[0] < most, peaks
