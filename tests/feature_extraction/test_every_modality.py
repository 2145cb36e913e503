"""Every modality of the registry serves at all three levels of fusion, with absent rows."""

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
