"""The picture of a comparison shows its numbers."""

import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.dummy import DummyClassifier
from sklearn.naive_bayes import GaussianNB

from sklearn_mmfusion.inspection import compare
from sklearn_mmfusion.plotting import ComparisonDisplay

X, y = load_iris(return_X_y=True)
MODELS = {"bayes": GaussianNB(), "wide": GaussianNB(var_smoothing=0.1), "none": DummyClassifier()}


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_display_shows_means_intervals_and_differences():
    comparison = compare(MODELS, X, y, cv=5, scoring="accuracy")
    display = ComparisonDisplay(**comparison).plot()
    left, right = display.ax_
    points = [line.get_xdata()[0] for line in right.lines if line.get_marker() == "o"]
    assert points == pytest.approx(list(comparison.differences["difference"]))
    ends = [segment[:, 0] for bars in right.collections for segment in bars.get_segments()]
    assert np.allclose(ends, comparison.differences[["low", "high"]])
    hollow = [
        line.get_markerfacecolor() == "white" for line in right.lines if line.get_marker() == "o"
    ]
    contains_zero = (comparison.differences["low"] <= 0) & (comparison.differences["high"] >= 0)
    assert hollow == list(contains_zero) == [True, False, False]
    assert [text.get_text() for text in left.get_yticklabels()] == list(MODELS)
    assert left.get_xlabel() == "accuracy"
    assert right.get_yticklabels()[1].get_text() == "bayes − none"


def test_display_draws_into_given_axes():
    figure, axes = plt.subplots(1, 2)
    display = ComparisonDisplay.from_estimators(MODELS, X, y, cv=3, reference="none", ax=axes)
    assert list(display.ax_) == list(axes)
    assert display.figure_ is figure
    assert len(axes[1].get_yticklabels()) == 2
    with pytest.raises(ValueError, match="ax has 1 axes; expected two"):
        display.plot(ax=axes[0])


def test_names_of_scores_are_written_as_words():
    comparison = compare(MODELS, X, y, cv=3, scoring="balanced_accuracy")
    left, right = ComparisonDisplay(**comparison).plot().ax_
    assert left.get_xlabel() == "balanced accuracy"
    assert right.get_xlabel() == "difference of balanced accuracy"


def test_several_scorers_are_refused():
    comparison = compare(MODELS, X, y, cv=3, scoring=["accuracy", "f1_macro"])
    with pytest.raises(ValueError, match=r"scorers \['accuracy', 'f1_macro'\]; expected one"):
        ComparisonDisplay(**comparison).plot()


def test_matplotlib_is_named_before_any_training(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    message = r"from_estimators needs matplotlib: pip install 'sklearn-mmfusion\[plot\]'"
    with pytest.raises(ImportError, match=message):
        ComparisonDisplay.from_estimators({"bad": None}, X, y)
