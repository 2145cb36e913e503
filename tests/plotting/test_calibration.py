"""Reliability diagrams hold the bins and the distribution of confidence."""

import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest

from sklearn_mmfusion import LateFusionClassifier
from sklearn_mmfusion.inspection import calibration
from sklearn_mmfusion.plotting import ReliabilityDisplay
from tests._late_data import iris, members


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def test_each_modality_has_its_bins_intervals_and_bars():
    X, y = iris()
    model = LateFusionClassifier(members()).fit(X[:75], y[:75])
    display = ReliabilityDisplay.from_estimator(model, X[75:], y[75:], n_bins=5)
    result = calibration(model, X[75:], y[75:], n_bins=5)
    assert [ax.get_title().split(" ")[0] for ax in display.ax_] == ["fused", "sepal", "petal"]
    for ax, name in zip(display.ax_, result.names, strict=True):
        bins = result.bins[name]
        _, hollow, filled = ax.get_lines()
        points = np.concatenate([hollow.get_xydata(), filled.get_xydata()])
        np.testing.assert_allclose(
            points[np.lexsort(points.T[::-1])], bins[["confidence", "accuracy"]].to_numpy()
        )
        is_off = (bins["confidence"] < bins["low"]) | (bins["confidence"] > bins["high"])
        assert len(filled.get_xdata()) == is_off.sum()
        segments = ax.collections[0].get_segments()
        np.testing.assert_allclose([s[:, 1] for s in segments], bins[["low", "high"]])
        proba = model.predict_proba(X[75:]) if name == "fused" else None
        heights = [bar.get_height() for bar in ax.patches]
        assert sum(heights) == pytest.approx(1)
        if proba is not None:
            expected = np.histogram(proba.max(axis=1), 20, (0, 1))[0] / 75
            np.testing.assert_allclose(heights, expected)


def test_predictions_fill_a_grid_or_given_axes():
    rng = np.random.default_rng(0)
    proba = rng.dirichlet([1, 1], size=60)
    y = (rng.random(60) < proba[:, 1]).astype(int)
    many = {f"model {i}": proba for i in range(5)}
    display = ReliabilityDisplay.from_predictions(y, many, n_bins=5)
    assert len(display.ax_) == 5 and len(display.figure_.axes) == 8
    one = ReliabilityDisplay.from_predictions(y, proba, n_bins=5, ax=display.ax_[2])
    assert one.ax_[0] is display.ax_[2] and one.ax_[0].get_title().startswith("fused (60 rows)")
    message = r"ax has 2 axes; expected 1, one per name: \['fused'\]"
    with pytest.raises(ValueError, match=message):
        one.plot(ax=display.ax_[:2])


def test_without_matplotlib_nothing_is_computed(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"from_estimator needs matplotlib: pip .*\[plot\]"):
        ReliabilityDisplay.from_estimator(None, None, None)
