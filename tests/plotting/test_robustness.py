"""The picture of a robustness curve holds its numbers."""

import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest

from sklearn_mmfusion import LateFusionClassifier
from sklearn_mmfusion.inspection import robustness_curve
from sklearn_mmfusion.plotting import RobustnessCurveDisplay
from tests._late_data import iris, members


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def fitted():
    X, y = iris()
    return LateFusionClassifier(members()).fit(X[:75], y[:75]), X[75:], y[75:]


def band_of(ax, number):
    """Lower and upper ends of a band by level."""
    x, ends = ax.collections[number].get_paths()[0].vertices.T
    levels = np.unique(x)
    return np.array([[f(ends[x == level]) for level in levels] for f in (np.min, np.max)])


def test_lines_are_means_and_bands_are_ranges(fitted):
    model, X, y = fitted
    options = {"modality": "petal", "levels": [0, 0.5, 1], "n_repeats": 3, "random_state": 0}
    curve = robustness_curve(model, X, y, baseline=model, **options)
    display = RobustnessCurveDisplay(**curve).plot(name="late")
    line, dashed = display.ax_.get_lines()
    for each, mean in ((line, curve.mean), (dashed, curve.baseline_mean)):
        np.testing.assert_array_equal(each.get_xydata(), np.column_stack([curve.levels, mean]))
    assert (line.get_linestyle(), dashed.get_linestyle()) == ("-", "--")
    expected = curve.scores.min(axis=1), curve.scores.max(axis=1)
    np.testing.assert_allclose(band_of(display.ax_, 0), expected)
    label = f"late (relative robustness {curve.relative_robustness:.3f})"
    assert line.get_label() == label
    assert display.ax_.get_title() == "Robustness to missing petal\neffective robustness +0.000"
    assert display.ax_.get_xlabel() == "share of rows without petal"
    assert display.figure_ is display.ax_.figure


def test_a_second_curve_in_the_same_axes_differs(fitted):
    model, X, y = fitted
    options = {"corruption": "jitter", "kind": "sequence", "levels": [0, 2], "n_repeats": 1}
    first = RobustnessCurveDisplay.from_estimator(*fitted, modality="petal", **options)
    options["ax"] = first.ax_
    RobustnessCurveDisplay.from_estimator(*fitted, modality="sepal", name="other", **options)
    one, two = first.ax_.get_lines()
    assert one.get_color() != two.get_color() and one.get_marker() != two.get_marker()
    assert one.get_label().startswith("LateFusionClassifier (") and "other" in two.get_label()
    assert "severity of jitter in sepal" in first.ax_.get_xlabel()


def test_scores_alone_are_enough():
    scores = np.array([[0.9, 0.9], [0.6, 0.8]])
    parts = {"levels": [0, 1], "modality": "x", "corruption": "missing", "scorer": "r2"}
    display = RobustnessCurveDisplay(scores=scores, **parts).plot()
    np.testing.assert_allclose(display.ax_.get_lines()[0].get_ydata(), [0.9, 0.7])


def test_without_matplotlib_nothing_is_computed(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"from_estimator needs matplotlib: pip .*\[plot\]"):
        RobustnessCurveDisplay.from_estimator(None, None, None, modality="petal")
