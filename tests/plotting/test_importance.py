"""Pictures of contributions hold their numbers."""

import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgba

from sklearn_mmfusion import LateFusionClassifier
from sklearn_mmfusion.inspection import modality_importance
from sklearn_mmfusion.plotting import ModalityImportanceDisplay
from sklearn_mmfusion.plotting.style import BLUE, ORANGE
from tests._late_data import iris, members


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def fitted():
    X, y = iris()
    return LateFusionClassifier(members()).fit(X[:75], y[:75]), X[75:], y[75:]


def test_bars_are_the_importances_in_order(fitted):
    result = modality_importance(*fitted)
    ax = ModalityImportanceDisplay(**result).plot().ax_
    names = [tick.get_text() for tick in ax.get_yticklabels()]
    widths = [bar.get_width() for bar in ax.patches]
    assert widths == sorted(result.importances)
    assert names == ["sepal", "petal"]
    assert ax.get_xlabel() == "Shapley value: contribution to accuracy"
    assert f"{result.score_none:.3f} with none, {result.score_all:.3f} with all" in ax.get_title()


def test_losses_differ_in_color_and_hatch_and_errors_are_drawn():
    display = ModalityImportanceDisplay(
        modalities=["gain", 1], importances=np.array([0.5, -0.2]), standard_errors=[0.1, 0.05]
    )
    loss, gain = display.plot().ax_.patches
    assert (loss.get_facecolor(), loss.get_hatch()) == (to_rgba(ORANGE), "//")
    assert (gain.get_facecolor(), gain.get_hatch()) == (to_rgba(BLUE), None)
    (errors,) = display.ax_.collections
    spans = [np.ptp(path.vertices[:, 0]) for path in errors.get_paths()]
    np.testing.assert_allclose(spans, [0.1, 0.2])
    assert "± standard error" in display.ax_.get_title()


def test_matrix_holds_the_interactions(fitted):
    display = ModalityImportanceDisplay.from_estimator(*fitted, kind="interaction")
    (image,) = display.ax_.get_images()
    values = np.ma.filled(image.get_array(), np.nan)
    assert np.isnan(np.diag(values)).all()
    assert values[0, 1] == values[1, 0] == display.interactions[0, 1]
    assert image.norm.vmin == -image.norm.vmax
    assert [text.get_text() for text in display.ax_.texts] == [f"{values[0, 1]:+.3f}"] * 2


def test_given_axes_are_used(fitted):
    figure, ax = plt.subplots()
    display = ModalityImportanceDisplay.from_estimator(*fitted, ax=ax)
    assert display.ax_ is ax and display.figure_ is figure and len(plt.get_fignums()) == 1


def test_errors(fitted, monkeypatch):
    with pytest.raises(ValueError, match=r"kind='pairs'; expected one of \['importance'"):
        ModalityImportanceDisplay.from_estimator(*fitted, kind="pairs")
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"needs matplotlib: pip install .*\[plot\]"):
        ModalityImportanceDisplay.from_estimator(*fitted)
    with pytest.raises(ImportError, match=r"ModalityImportanceDisplay.plot needs matplotlib"):
        ModalityImportanceDisplay(modalities=["a"], importances=np.ones(1)).plot()
