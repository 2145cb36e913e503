"""A picture of `compare`: scores of estimators and their paired differences."""

import numpy as np

from sklearn_mmfusion.inspection import compare
from sklearn_mmfusion.plotting.style import BLUE, GRAY, RED, import_pyplot, new_axes


class ComparisonDisplay:
    """Scores of several estimators and their paired differences, with intervals.

    On the left, a mark per split, and the mean with its interval; on the right, the differences. If
    the interval of a difference contains 0, the data do not show which estimator is better, and its
    point is hollow. Use `from_estimators`, or pass the result of
    :func:`~sklearn_mmfusion.inspection.compare`: ``ComparisonDisplay(**comparison)``.

    Parameters
    ----------
    names : list of str
        Names of the estimators.
    scorer : str
        Name of the score.
    scores : ndarray of shape (n_estimators, n_splits)
        Scores of each split.
    table : DataFrame
        Columns mean, low and high, a row per estimator.
    differences : DataFrame
        Columns difference, low and high, a row per pair of names.

    Attributes
    ----------
    ax_ : ndarray of shape (2,)
        Axes of the scores and of the differences.

    figure_ : matplotlib.figure.Figure
        Their figure.

    See Also
    --------
    sklearn_mmfusion.inspection.compare : Computes what is drawn.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.dummy import DummyClassifier
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from sklearn_mmfusion.plotting import ComparisonDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> models = {"bayes": GaussianNB(), "dummy": DummyClassifier()}
    >>> display = ComparisonDisplay.from_estimators(models, X, y, cv=5)
    >>> display.ax_[1].get_xlabel()
    'difference of accuracy'
    """

    def __init__(self, *, names, scorer, scores, table, differences):
        self.names = names
        self.scorer = scorer
        self.scores = scores
        self.table = table
        self.differences = differences

    @classmethod
    def from_estimators(cls, estimators, X, y, *, ax=None, **params):
        """Cross-validate estimators on the same splits, and draw the comparison.

        Parameters
        ----------
        estimators : dict of {str: estimator} or list of (str, estimator)
        X : DataFrame or array-like of shape (n_samples, n_columns)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        ax : sequence of two matplotlib axes, default=None
            None makes a figure.
        **params : dict
            Of :func:`~sklearn_mmfusion.inspection.compare`, with one scorer.

        Returns
        -------
        display : ComparisonDisplay
        """
        import_pyplot(f"{cls.__name__}.from_estimators")  # before any training
        return cls(**compare(estimators, X, y, **params)).plot(ax=ax)

    def plot(self, *, ax=None):
        """Draw the scores and the differences.

        Parameters
        ----------
        ax : sequence of two matplotlib axes, default=None
            None makes a figure.

        Returns
        -------
        display : ComparisonDisplay

        Raises
        ------
        ImportError
            If matplotlib is missing.
        ValueError
            If the comparison has several scorers, or `ax` not two axes.
        """
        if not isinstance(self.scorer, str):
            raise ValueError(
                f"ComparisonDisplay: the comparison has the scorers {self.scorer}; expected one. "
                "Pass one as scoring= to compare."
            )
        if ax is None:
            height = 1.6 + 0.35 * max(len(self.names), len(self.differences))
            ax = new_axes("ComparisonDisplay.plot", 1, 2, width=11, height=height)[0]
        self.ax_ = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
        if len(self.ax_) != 2:
            raise ValueError(
                f"ComparisonDisplay: ax has {len(self.ax_)} axes; expected two, one of scores and "
                "one of differences."
            )
        self.figure_ = self.ax_[0].figure
        self._draw_scores(self.ax_[0])
        self._draw_differences(self.ax_[1])
        return self

    def _draw_scores(self, ax):
        for place, scores in enumerate(self.scores):
            ax.plot(scores, np.full(len(scores), place - 0.22), "|", color=GRAY)
        draw_intervals(ax, self.table, "mean", self.names)
        n_splits = self.scores.shape[1]
        ax.set(xlabel=self._score(), title=f"Mean, interval,\nand each of {n_splits} splits (|)")

    def _draw_differences(self, ax):
        ax.axvline(0, color=GRAY, linestyle="--", linewidth=1)
        names = [f"{first} − {second}" for first, second in self.differences.index]
        draw_intervals(ax, self.differences, "difference", names)
        title = "Paired differences\n(hollow: interval contains 0)"
        ax.set(xlabel=f"difference of {self._score()}", title=title)

    def _score(self):
        return self.scorer.replace("_", " ")


def draw_intervals(ax, table, column, names):
    """Draw a point and its interval per row, the first row on top.

    Points whose interval does not contain 0 are filled, the others are hollow.
    """
    for place, (_, row) in enumerate(table.iterrows()):
        is_clear = column == "mean" or row["low"] > 0 or row["high"] < 0
        ax.errorbar(
            row[column],
            place,
            xerr=[[row[column] - row["low"]], [row["high"] - row[column]]],
            fmt="o",
            color=BLUE if is_clear else RED,
            markerfacecolor=BLUE if is_clear else "white",
            capsize=3,
        )
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(axis="x", color="#dddddd", linewidth=0.7)
    ax.set_axisbelow(True)
