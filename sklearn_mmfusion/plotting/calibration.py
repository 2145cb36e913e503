"""A picture of `calibration`: accuracy against confidence, fused and by modality."""

import math

import numpy as np

from sklearn_mmfusion.inspection import calibration, calibration_from_predictions
from sklearn_mmfusion.plotting.style import BLUE, GRAY, import_pyplot, new_axes

N_COLUMNS = 4
N_BARS = 20  # of the histogram of confidence


class ReliabilityDisplay:
    """Accuracy against confidence (reliability diagrams), fused and for each modality alone.

    Each point is a bin of rows, with the interval of its accuracy. On the diagonal, probabilities
    can be trusted; below it, the classifier is overconfident. Points whose interval misses the
    diagonal are filled. Bars show how the confidence is distributed. Use `from_estimator` or
    `from_predictions`, or pass the result of
    :func:`~sklearn_mmfusion.inspection.calibration`: ``ReliabilityDisplay(**result)``.

    Parameters
    ----------
    names : list of str
        "fused", and the modalities.
    table : DataFrame
        A row per name; its ``expected_calibration_error`` and ``n_rows`` are shown.
    bins : dict of {str: DataFrame}
        Columns confidence, accuracy, low, high and n_rows, a row per bin.
    confidences : dict of {str: ndarray}
        Probability of the predicted class of each row.

    Attributes
    ----------
    ax_ : ndarray of shape (n_names,)
        Axes, one per name.

    figure_ : matplotlib.figure.Figure
        Their figure.

    See Also
    --------
    sklearn_mmfusion.inspection.calibration : Computes what is drawn.
    sklearn.calibration.CalibrationDisplay : The curve of one class of one classifier.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mmfusion.plotting import ReliabilityDisplay
    >>> rng = np.random.default_rng(0)
    >>> proba = rng.dirichlet([0.3, 0.3, 0.3], size=1000)
    >>> y = np.array([rng.choice(3, p=p) for p in proba])
    >>> sharper = proba**3 / (proba**3).sum(axis=1, keepdims=True)
    >>> display = ReliabilityDisplay.from_predictions(y, {"true": proba, "sharper": sharper})
    >>> len(display.ax_)
    2
    """

    def __init__(self, *, names, table, bins, confidences):
        self.names = names
        self.table = table
        self.bins = bins
        self.confidences = confidences

    @classmethod
    def from_estimator(cls, estimator, X, y, *, ax=None, **params):
        """Compute the calibration of a fitted classifier, and draw it.

        Parameters
        ----------
        estimator : classifier
            Any fitted classifier with `predict_proba` over a table of several columns.
        X : DataFrame or array-like of shape (n_samples, n_columns)
            Rows that `estimator` was not trained on.
        y : array-like of shape (n_samples,)
            Their labels.
        ax : sequence of matplotlib axes, default=None
            One per name; None makes a figure.
        **params : dict
            Of :func:`~sklearn_mmfusion.inspection.calibration`.

        Returns
        -------
        display : ReliabilityDisplay
        """
        import_pyplot(f"{cls.__name__}.from_estimator")  # before any prediction
        return cls(**calibration(estimator, X, y, **params)).plot(ax=ax)

    @classmethod
    def from_predictions(cls, y_true, y_proba, *, ax=None, **params):
        """Draw the calibration of given probabilities.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            True labels.
        y_proba : array-like of shape (n_samples, n_classes), or dict of {str: array-like}
            Class probabilities.
        ax : sequence of matplotlib axes, default=None
            One per name; None makes a figure.
        **params : dict
            Of :func:`~sklearn_mmfusion.inspection.calibration_from_predictions`.

        Returns
        -------
        display : ReliabilityDisplay
        """
        return cls(**calibration_from_predictions(y_true, y_proba, **params)).plot(ax=ax)

    def plot(self, *, ax=None):
        """Draw the diagrams.

        Parameters
        ----------
        ax : sequence of matplotlib axes, default=None
            One per name; None makes a figure.

        Returns
        -------
        display : ReliabilityDisplay

        Raises
        ------
        ImportError
            If matplotlib is missing.
        ValueError
            If there are more or fewer axes than names.
        """
        n_names = len(self.names)
        if ax is None:
            columns = min(n_names, N_COLUMNS)
            rows = math.ceil(n_names / columns)
            size = {"width": 3.2 * columns + 0.6, "height": 3.6 * rows + 0.5}
            ax = new_axes("ReliabilityDisplay.plot", rows, columns, **size).ravel()
            for unused in ax[n_names:]:
                unused.set_axis_off()
            ax = ax[:n_names]
        self.ax_ = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
        if len(self.ax_) != n_names:
            raise ValueError(
                f"ReliabilityDisplay: ax has {len(self.ax_)} axes; expected {n_names}, one per "
                f"name: {self.names}."
            )
        self.figure_ = self.ax_[0].figure
        for place, (axes, name) in enumerate(zip(self.ax_, self.names, strict=True)):
            self._draw(axes, name)
            axes.set_ylabel("accuracy, or share of rows (bars)" if place % N_COLUMNS == 0 else "")
        self.ax_[0].legend(loc="upper left", frameon=False, fontsize="small")
        return self

    def _draw(self, ax, name):
        bins, row = self.bins[name], self.table.loc[name]
        confidence, accuracy = bins["confidence"], bins["accuracy"]
        weights = np.full(len(self.confidences[name]), 1 / len(self.confidences[name]))
        ax.hist(
            *(self.confidences[name], np.linspace(0, 1, N_BARS + 1)),
            **{"weights": weights, "color": "#cccccc", "edgecolor": "white"},
        )
        ax.plot([0, 1], [0, 1], "--", color=GRAY, linewidth=1, label="calibrated")
        ax.vlines(confidence, bins["low"], bins["high"], color=BLUE, linewidth=1)
        is_off = (confidence < bins["low"]) | (confidence > bins["high"])
        for which, face, label in (
            (~is_off, "white", None),
            (is_off, BLUE, "interval misses confidence"),
        ):
            points = confidence[which], accuracy[which]
            style = {"color": BLUE, "markerfacecolor": face, "markersize": 5}
            ax.plot(*points, "o", label=label, **style)
        error = row["expected_calibration_error"]
        ax.set_title(f"{name} ({row['n_rows']:.0f} rows)\nexpected calibration error {error:.3f}")
        ax.title.set_fontsize("medium")
        ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="confidence")
