"""The picture of an ablation holds its numbers."""

import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest

from sklearn_mmfusion import LateFusionClassifier
from sklearn_mmfusion.inspection import modality_ablation
from sklearn_mmfusion.plotting import ModalityAblationDisplay
from tests._late_data import iris, members


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def fitted():
    X, y = iris()
    return LateFusionClassifier(members()).fit(X[:75], y[:75]), X[75:], y[75:]


def dots(ax, color):
    """Positions (column, row) of the dots of a color."""
    lines = [line for line in ax.get_lines() if line.get_color() == color]
    return {tuple(point) for line in lines for point in line.get_xydata().astype(int)}


def test_bars_are_scores_and_dots_are_modalities(fitted):
    result = modality_ablation(*fitted)
    display = ModalityAblationDisplay(**result).plot()
    heights = [bar.get_height() for bar in display.ax_.patches]
    assert heights == result.scores.tolist() == sorted(heights, reverse=True)
    present = result.table[result.modalities].to_numpy()
    below = display.presence_ax_
    assert dots(below, "#000000") == set(zip(*np.nonzero(present), strict=True))
    assert dots(below, "#d9d9d9") == set(zip(*np.nonzero(~present), strict=True))
    assert [tick.get_text() for tick in below.get_yticklabels()] == ["sepal", "petal"]
    hatched = [bar.get_hatch() == "//" for bar in display.ax_.patches]
    assert hatched == present.all(axis=1).tolist()
    assert [text.get_text() for text in display.ax_.texts] == [f"{s:.3f}" for s in heights]
    assert display.ax_.get_ylabel() == "accuracy"


def test_refits_have_folds_and_errors(fitted):
    display = ModalityAblationDisplay.from_estimator(
        *fitted, refit=True, cv=3, subsets="alone", scoring="balanced_accuracy"
    )
    table = display.table
    (errors,) = display.ax_.collections
    middles = [path.vertices[:, 1].mean() for path in errors.get_paths()]
    halves = [np.ptp(path.vertices[:, 1]) / 2 for path in errors.get_paths()]
    np.testing.assert_allclose(middles, table["score"])
    np.testing.assert_allclose(halves, table["standard_error"])
    points = next(line for line in display.ax_.get_lines() if line.get_marker() == ".")
    np.testing.assert_array_equal(points.get_ydata(), display.scores.ravel())
    assert display.ax_.get_ylabel() == "balanced accuracy"


@pytest.mark.parametrize("inset", [False, True])
def test_given_axes_are_divided(fitted, inset):
    figure, axes = plt.subplots(1, 2)
    ax = figure.add_axes([0.6, 0.5, 0.3, 0.4]) if inset else axes[1]
    display = ModalityAblationDisplay.from_estimator(*fitted, ax=ax)
    assert display.figure_ is figure and len(plt.get_fignums()) == 1
    figure.canvas.draw()
    above, below = (a.get_position() for a in (display.ax_, display.presence_ax_))
    assert below.y1 <= above.y0 + 1e-6 and below.x0 == pytest.approx(above.x0)


def test_matplotlib_is_named_where_it_is_missing(fitted, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"from_estimator needs matplotlib: pip install .*plot"):
        ModalityAblationDisplay.from_estimator(*fitted)
