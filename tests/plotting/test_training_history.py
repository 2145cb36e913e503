"""Histories are found wherever networks are, and drawn as they are."""

import matplotlib.pyplot as plt
import pytest
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_iris
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Bunch

from sklearn_mmfusion import NeuralClassifier
from sklearn_mmfusion.plotting import TrainingHistoryDisplay

X, y = load_iris(return_X_y=True)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


class _Network(BaseEstimator):
    """A fitted network with a given history."""

    def __init__(self, losses=(3.0, 2.0, 1.5), validation=(2.5, 2.2, 2.4), chosen=2):
        self.losses = losses
        self.validation = validation
        self.chosen = chosen

    def fit(self, X=None, y=None):
        self.n_iter_ = self.chosen
        self.history_ = [
            {"epoch": number, "train_loss": loss} for number, loss in enumerate(self.losses, 1)
        ]
        for entry, loss in zip(self.history_, self.validation, strict=False):
            entry["valid_loss"] = loss
        return self


class _Composition(BaseEstimator):
    """Holds fitted children as compositions do."""

    def fit(self, X=None, y=None):
        parts = {"image": _Network().fit(), "table": StandardScaler().fit(X)}
        parts["text"] = make_pipeline(FrozenEstimator(_Network((9.0, 8.0, 7.0), (), 3).fit()))
        self.named_transformers_ = Bunch(**parts)
        return self


def lines_of(ax):
    return {line.get_label(): list(line.get_ydata()) for line in ax.lines}


def test_losses_and_the_chosen_epoch_are_drawn():
    display = TrainingHistoryDisplay.from_estimator(_Network().fit())
    (ax,) = display.ax_
    lines = lines_of(ax)
    assert lines["training"] == [3.0, 2.0, 1.5]
    assert lines["validation"] == [2.5, 2.2, 2.4]
    assert list(ax.lines[-1].get_xdata()) == [2, 2]
    assert ax.lines[-1].get_label() == "chosen: epoch 2"
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title()) == ("epoch", "loss", "_Network")


def test_networks_inside_pipelines_and_compositions_have_panels():
    pipeline = make_pipeline(_Composition().fit(X), _Network((1.0,), (), 1).fit())
    display = TrainingHistoryDisplay.from_estimator(pipeline)
    names = ["_composition__image", "_composition__text__frozenestimator", "_network"]
    assert [ax.get_title() for ax in display.ax_] == names
    assert list(lines_of(display.ax_[1])) == ["training"]  # was not validated: nothing to choose
    assert display.chosen_epochs == {"_composition__image": 2}


def test_search_shows_its_best_estimator():
    grid = {"logisticregression__C": [1.0, 2.0]}
    search = GridSearchCV(make_pipeline(StandardScaler(), LogisticRegression()), grid, cv=2)
    with pytest.raises(ValueError, match="GridSearchCV has no fitted network with the attribute"):
        TrainingHistoryDisplay.from_estimator(search.fit(X, y))
    search.best_estimator_.steps.append(("head", _Network().fit()))
    assert list(TrainingHistoryDisplay.from_estimator(search).histories) == ["head"]


@pytest.mark.parametrize(("ensemble", "names"), [(True, ["fold0", "fold1"]), (False, ["Neural"])])
def test_calibrated_networks_are_the_fitted_ones(ensemble, names):
    network = NeuralClassifier(max_epochs=5, early_stopping=False, random_state=0).fit(X, y)
    network.set_params(max_epochs=2)  # the calibrated clones are fitted anew
    calibrated = CalibratedClassifierCV(network, cv=2, ensemble=ensemble).fit(X, y)
    histories = TrainingHistoryDisplay.from_estimator(calibrated).histories
    assert [name.removesuffix("Classifier") for name in histories] == names
    assert {len(history) for history in histories.values()} == {2}


def test_own_networks_have_what_is_drawn():
    head = NeuralClassifier((4,), max_epochs=2, linear_share=0, early_stopping=True, random_state=0)
    display = TrainingHistoryDisplay.from_estimator(head.fit(X, y))
    assert lines_of(display.ax_[0])["validation"] == [e["valid_loss"] for e in head.history_]
    assert display.chosen_epochs == {"NeuralClassifier": head.n_iter_}


def test_number_of_axes_is_checked():
    _, axes = plt.subplots(1, 2)
    with pytest.raises(ValueError, match=r"2 axes for the networks \['_Network'\]; expected one"):
        TrainingHistoryDisplay.from_estimator(_Network().fit(), ax=axes)
