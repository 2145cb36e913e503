"""A picture of `robustness_curve`: the score while one modality gets worse."""

import numpy as np

from sklearn_mmfusion.inspection import robustness_curve
from sklearn_mmfusion.plotting.style import COLORS, GRAY, MARKERS, import_pyplot, new_axes


class RobustnessCurveDisplay:
    """Score of an estimator by severity of a corruption, or by share of rows without a modality.

    The line is the mean of the repetitions, and the band reaches from the lowest to the highest.
    The baseline is dashed. Use `from_estimator`, or pass the result of
    :func:`~sklearn_mmfusion.inspection.robustness_curve`: ``RobustnessCurveDisplay(**curve)``.

    Parameters
    ----------
    levels : ndarray of shape (n_levels,)
        Severities, or shares of rows.
    scores : ndarray of shape (n_levels, n_repeats)
        Scores of the estimator.
    modality : str
        Name of the modality.
    corruption : str
        Name of the corruption, or "missing".
    scorer : str
        Name of the score.
    mean : ndarray of shape (n_levels,), default=None
        Mean of `scores`; None computes it.
    kind : str, default=None
        Kind of the cells.
    relative_robustness : float, default=None
        Shown in the legend.
    baseline_scores : ndarray of shape (n_levels, n_repeats), default=None
        Scores of the baseline.
    baseline_mean : ndarray of shape (n_levels,), default=None
        Their mean; None computes it.
    effective_robustness : float, default=None
        Shown in the title.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Axes of the curve.

    figure_ : matplotlib.figure.Figure
        Their figure.

    See Also
    --------
    sklearn_mmfusion.inspection.robustness_curve : Computes what is drawn.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn_mmfusion import LateFusionClassifier, multimodal_frame
    >>> from sklearn_mmfusion.plotting import RobustnessCurveDisplay
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(0, 2, 100)
    >>> X = multimodal_frame(
    ...     strong=y[:, None] + 0.3 * rng.normal(size=(100, 2)),
    ...     weak=y[:, None] + 2.0 * rng.normal(size=(100, 2)),
    ... )
    >>> triples = [(name, LogisticRegression(), name) for name in X.columns]
    >>> classifier = LateFusionClassifier(triples).fit(X, y)
    >>> display = RobustnessCurveDisplay.from_estimator(
    ...     classifier, X, y, modality="strong", levels=[0, 0.5, 1], random_state=0
    ... )
    >>> display.ax_.get_ylabel()
    'accuracy'
    """

    def __init__(
        self,
        *,
        levels,
        scores,
        modality,
        corruption,
        scorer,
        mean=None,
        kind=None,
        relative_robustness=None,
        baseline_scores=None,
        baseline_mean=None,
        effective_robustness=None,
    ):
        self.levels = levels
        self.scores = scores
        self.modality = modality
        self.corruption = corruption
        self.scorer = scorer
        self.mean = mean
        self.kind = kind
        self.relative_robustness = relative_robustness
        self.baseline_scores = baseline_scores
        self.baseline_mean = baseline_mean
        self.effective_robustness = effective_robustness

    @classmethod
    def from_estimator(cls, estimator, X, y, *, ax=None, name=None, **params):
        """Compute the curve of a fitted estimator, and draw it.

        Parameters
        ----------
        estimator : estimator
            Any fitted estimator over a table of several columns.
        X : DataFrame or array-like of shape (n_samples, n_columns)
            Rows that `estimator` was not trained on.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Their targets.
        ax : matplotlib.axes.Axes, default=None
            None makes a figure.
        name : str, default=None
            Name of the curve in the legend; None takes the class of the estimator.
        **params : dict
            Of :func:`~sklearn_mmfusion.inspection.robustness_curve`: ``modality``, ...

        Returns
        -------
        display : RobustnessCurveDisplay
        """
        import_pyplot(f"{cls.__name__}.from_estimator")  # before any prediction
        name = type(estimator).__name__ if name is None else name
        return cls(**robustness_curve(estimator, X, y, **params)).plot(ax=ax, name=name)

    def plot(self, *, ax=None, name=None):
        """Draw the curve.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            None makes a figure. A second curve in the same axes gets another color and marker.
        name : str, default=None
            Name of the curve in the legend; None is "estimator".

        Returns
        -------
        display : RobustnessCurveDisplay

        Raises
        ------
        ImportError
            If matplotlib is missing.
        """
        self.ax_ = new_axes("RobustnessCurveDisplay.plot")[0, 0] if ax is None else ax
        self.figure_ = self.ax_.figure
        label = "estimator" if name is None else name
        if self.relative_robustness is not None:
            label += f" (relative robustness {self.relative_robustness:.3f})"
        number = len(self.ax_.get_legend_handles_labels()[1])
        color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
        self._draw(self.scores, self.mean, color=color, marker=marker, label=label)
        if self.baseline_scores is not None:
            self._draw(
                *(self.baseline_scores, self.baseline_mean),
                **{"color": GRAY, "marker": "x", "linestyle": "--", "label": "baseline"},
            )
        title = f"Robustness to {self._noun()}"
        if self.effective_robustness is not None:
            title += f"\neffective robustness {self.effective_robustness:+.3f}"
        self.ax_.set(xlabel=self._level(), ylabel=self.scorer.replace("_", " "), title=title)
        self.ax_.grid(color="#dddddd", linewidth=0.7)
        self.ax_.set_axisbelow(True)
        self.ax_.legend(frameon=False)
        return self

    def _draw(self, scores, mean, **style):
        scores = np.asarray(scores)
        mean = scores.mean(axis=1) if mean is None else mean
        self.ax_.plot(self.levels, mean, **style)
        bounds = scores.min(axis=1), scores.max(axis=1)
        self.ax_.fill_between(self.levels, *bounds, color=style["color"], alpha=0.2, linewidth=0)

    def _noun(self):
        if self.corruption == "missing":
            return f"missing {self.modality}"
        return f"{self.corruption} in {self.modality}"

    def _level(self):
        if self.corruption == "missing":
            return f"share of rows without {self.modality}"
        return f"severity of {self.corruption} in {self.modality} (0: none, 5: strongest)"
