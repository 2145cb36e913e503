"""Losses of the networks of a fitted estimator by epoch."""

import math

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from sklearn_mmfusion.plotting.style import BLUE, GRAY, RED, new_axes

# Attributes in which fitted estimators keep other estimators: several by name, or one.
NAMED_CHILDREN = ("named_steps", "named_transformers_", "named_estimators_")
SINGLE_CHILDREN = ("best_estimator_", "estimator_", "regressor_")


class TrainingHistoryDisplay:
    """Training and validation loss of each network of a fitted estimator.

    One panel per network, e.g. three encoders and the head of a pipeline. The vertical line is the
    chosen epoch: the last one whose validation loss is within one standard error of the best. If
    the validation loss rises long before it, the network overfits. If losses still fall at the last
    epoch, `max_epochs` is too low.

    Parameters
    ----------
    histories : dict of {str: list of dict}
        The attribute ``history_`` of networks, by name.
    chosen_epochs : dict of {str: int}, default=None
        The chosen epoch of networks that were validated.

    Attributes
    ----------
    ax_ : ndarray of shape (n_networks,)
        Axes of the panels.

    figure_ : matplotlib.figure.Figure
        Their figure.

    Notes
    -----
    The training loss of an epoch is a mean over its steps, with dropout, augmentation and label
    smoothing, so it may be above the validation loss.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_mmfusion import NeuralClassifier
    >>> from sklearn_mmfusion.plotting import TrainingHistoryDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> model = NeuralClassifier(max_epochs=3, early_stopping=True, random_state=0).fit(X, y)
    >>> display = TrainingHistoryDisplay.from_estimator(model)
    >>> display.ax_[0].get_title()
    'NeuralClassifier'
    """

    def __init__(self, *, histories, chosen_epochs=None):
        self.histories = histories
        self.chosen_epochs = chosen_epochs

    @classmethod
    def from_estimator(cls, estimator, *, ax=None):
        """Draw the histories of all networks of a fitted estimator.

        Parameters
        ----------
        estimator : estimator
            Fitted: an encoder, a head, a joint or late fusion, or a pipeline, search or column
            transformer with some of them.
        ax : matplotlib axes or sequence of them, default=None
            One per network; None makes a figure.

        Returns
        -------
        display : TrainingHistoryDisplay

        Raises
        ------
        ValueError
            If no network is found.
        """
        check_is_fitted(estimator)
        networks = dict(find_networks(estimator))
        if not networks:
            raise ValueError(
                f"{cls.__name__}: {type(estimator).__name__} has no fitted network with the "
                "attribute history_; expected an encoder, Neural*, Joint*, or a composition of "
                "them."
            )
        histories = {name: network.history_ for name, network in networks.items()}
        chosen = {
            name: network.n_iter_
            for name, network in networks.items()
            if "valid_loss" in network.history_[-1]
        }
        return cls(histories=histories, chosen_epochs=chosen).plot(ax=ax)

    def plot(self, *, ax=None):
        """Draw a panel per network.

        Parameters
        ----------
        ax : matplotlib axes or sequence of them, default=None
            One per network; None makes a figure.

        Returns
        -------
        display : TrainingHistoryDisplay

        Raises
        ------
        ImportError
            If matplotlib is missing.
        ValueError
            If there are more or fewer axes than networks.
        """
        n_panels = len(self.histories)
        if ax is None:
            n_columns = min(3, n_panels)
            n_rows = math.ceil(n_panels / n_columns)
            size = {"width": max(5, 3.6 * n_columns), "height": 3.2 * n_rows + 0.2}
            grid = new_axes("TrainingHistoryDisplay.plot", n_rows, n_columns, **size).ravel()
            for empty in grid[n_panels:]:
                empty.remove()
            ax = grid[:n_panels]
        self.ax_ = np.atleast_1d(np.asarray(ax, dtype=object))
        if len(self.ax_) != n_panels:
            raise ValueError(
                f"TrainingHistoryDisplay: {len(self.ax_)} axes for the networks "
                f"{list(self.histories)}; expected one per network."
            )
        self.figure_ = self.ax_[0].figure
        for panel, (name, history) in zip(self.ax_, self.histories.items(), strict=True):
            draw_history(panel, history, (self.chosen_epochs or {}).get(name))
            panel.set(title=name, xlabel="epoch", ylabel="loss")
        return self


def draw_history(ax, history, chosen):
    """Draw the losses of one network."""
    epochs = [entry.get("epoch", number) for number, entry in enumerate(history, 1)]
    for key, label, color, style in (
        ("train_loss", "training", BLUE, "-"),
        ("valid_loss", "validation", RED, "--"),
    ):
        losses = [entry.get(key, np.nan) for entry in history]
        if np.isfinite(losses).any():
            marker = "o" if len(losses) < 4 else None
            ax.plot(epochs, losses, style, color=color, label=label, marker=marker)
    if chosen is not None:
        ax.axvline(chosen, color=GRAY, linestyle=":", label=f"chosen: epoch {chosen}")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.grid(color="#dddddd", linewidth=0.7)
    ax.legend(frameon=False)


def find_networks(estimator, name=""):
    """Yield (name, fitted estimator with a history); names are like those of parameters."""
    if hasattr(estimator, "history_"):
        yield name or type(estimator).__name__, estimator
        return
    if isinstance(estimator, FrozenEstimator):
        yield from find_networks(estimator.estimator, name)
        return
    calibrated = getattr(estimator, "calibrated_classifiers_", ())
    folds = {f"fold{number}": child.estimator for number, child in enumerate(calibrated)}
    if len(folds) == 1:
        yield from find_networks(*folds.values(), name)
        return
    for children in [folds, *(getattr(estimator, name, None) or {} for name in NAMED_CHILDREN)]:
        for child_name, child in children.items():
            yield from find_networks(child, f"{name}__{child_name}" if name else child_name)
    for attribute in SINGLE_CHILDREN:
        if hasattr(estimator, attribute):
            yield from find_networks(getattr(estimator, attribute), name)
            return
