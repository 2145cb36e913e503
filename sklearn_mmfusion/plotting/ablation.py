"""A picture of `modality_ablation`: the score of each subset of modalities."""

import numpy as np

from sklearn_mmfusion.inspection import modality_ablation
from sklearn_mmfusion.plotting.style import BLACK, BLUE, GRAY, import_pyplot, new_axes

LIGHT = "#d9d9d9"
MOST_LABELS = 16  # bars with their score written above


class ModalityAblationDisplay:
    """Bars with the score of each subset of modalities, above dots that show the subset.

    Laid out like an UpSet plot [1]_. The bar of all modalities is hatched. Use `from_estimator`,
    or pass the result of :func:`~sklearn_mmfusion.inspection.modality_ablation`:
    ``ModalityAblationDisplay(**result)``.

    Parameters
    ----------
    modalities : list of str
        Names of the modalities.
    table : DataFrame
        One bool column per modality, then "score" and, if refitted, "standard_error".
    scores : ndarray of shape (n_subsets,) or (n_subsets, n_folds), default=None
        If there are folds, each of their scores is drawn as a dot.
    scorer : str, default="score"
        Name of the score.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Axes of the bars.

    presence_ax_ : matplotlib.axes.Axes
        Axes of the dots below them.

    figure_ : matplotlib.figure.Figure
        Their figure.

    See Also
    --------
    sklearn_mmfusion.inspection.modality_ablation : Computes what is drawn.

    References
    ----------
    .. [1] Lex et al. (2014). "UpSet: visualization of intersecting sets." IEEE TVCG 20.
       doi:10.1109/TVCG.2014.2346248

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn_mmfusion import LateFusionClassifier, multimodal_frame
    >>> from sklearn_mmfusion.plotting import ModalityAblationDisplay
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=100)
    >>> X = multimodal_frame(
    ...     strong=y[:, None] + 0.3 * rng.normal(size=(100, 2)),
    ...     weak=y[:, None] + 2.0 * rng.normal(size=(100, 2)),
    ... )
    >>> triples = [(name, LogisticRegression(), name) for name in X.columns]
    >>> classifier = LateFusionClassifier(triples).fit(X, y)
    >>> display = ModalityAblationDisplay.from_estimator(classifier, X, y)
    >>> len(display.ax_.patches)
    4
    """

    def __init__(self, *, modalities, table, scores=None, scorer="score"):
        self.modalities = modalities
        self.table = table
        self.scores = scores
        self.scorer = scorer

    @classmethod
    def from_estimator(cls, estimator, X, y, *, ax=None, **params):
        """Compute and draw the scores of an estimator without some modalities.

        Parameters
        ----------
        estimator : estimator
            Any fitted estimator over a table of several columns.
        X : DataFrame or array-like of shape (n_samples, n_columns)
            Rows that `estimator` was not trained on; all rows with ``refit=True``.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            True values.
        ax : matplotlib.axes.Axes, default=None
            None makes a figure.
        **params : dict
            Of :func:`~sklearn_mmfusion.inspection.modality_ablation`: ``subsets``, ...

        Returns
        -------
        display : ModalityAblationDisplay
        """
        import_pyplot(f"{cls.__name__}.from_estimator")  # before any prediction
        return cls(**modality_ablation(estimator, X, y, **params)).plot(ax=ax)

    def plot(self, *, ax=None):
        """Draw bars and dots, best subset first.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Its area is divided between bars and dots. None makes a figure.

        Returns
        -------
        display : ModalityAblationDisplay

        Raises
        ------
        ImportError
            If matplotlib is missing.
        """
        n_modalities, n_subsets = len(self.modalities), len(self.table)
        if ax is None:
            width = min(16, max(5.5, 2.2 + 0.55 * n_subsets))
            height = 3.6 + 0.35 * n_modalities
            ax = new_axes("ModalityAblationDisplay.plot", width=width, height=height)[0, 0]
        self.figure_, place = ax.figure, ax.get_subplotspec()
        ratios = [3.0, max(0.8, 0.35 * n_modalities)]
        if place is None:  # axes at a free position, such as an inset
            self.ax_ = ax
            self.presence_ax_ = ax.inset_axes([0, -ratios[1] / 3, 1, ratios[1] / 3], sharex=ax)
        else:
            ax.remove()
            grid = place.subgridspec(2, 1, height_ratios=ratios, hspace=0.02)
            self.ax_ = self.figure_.add_subplot(grid[0])
            self.presence_ax_ = self.figure_.add_subplot(grid[1], sharex=self.ax_)
        order = np.argsort(-self._means(), kind="stable")
        self._draw_scores(order)
        self._draw_presence(order)
        return self

    def _means(self):
        return self.table.iloc[:, len(self.modalities)].to_numpy(dtype=float)

    def _presence(self):
        return self.table.iloc[:, : len(self.modalities)].to_numpy(dtype=bool)

    def _draw_scores(self, order):
        means, present = self._means()[order], self._presence()[order]
        positions, n_modalities = np.arange(len(order)), len(self.modalities)
        has_errors = self.table.shape[1] > n_modalities + 1
        errors = self.table.iloc[:, -1].to_numpy(dtype=float)[order] if has_errors else None
        bars = self.ax_.bar(positions, means, 0.7, color=BLUE, edgecolor="white", linewidth=0)
        for bar, is_present in zip(bars, present, strict=True):
            if is_present.all():
                bar.set_hatch("//")
        if has_errors:
            self.ax_.errorbar(positions, means, errors, fmt="none", ecolor=BLACK, capsize=4)
        folds = None if self.scores is None else np.asarray(self.scores)
        if folds is not None and folds.ndim == 2:
            every = np.broadcast_to(positions[:, None] + 0.2, folds.shape)
            self.ax_.plot(
                every.ravel(), folds[order].ravel(), ".", color=GRAY, markeredgecolor="white"
            )
        elif len(order) <= MOST_LABELS:
            self.ax_.bar_label(bars, [f"{mean:.3f}" for mean in means], padding=2, fontsize=8)
        self.ax_.set(ylabel=self.scorer.replace("_", " "), title=self._title(has_errors))
        self.ax_.axhline(0, color="black", linewidth=0.8)
        self.ax_.margins(y=0.1)
        self.ax_.grid(axis="y", color="#dddddd", linewidth=0.7)
        self.ax_.set_axisbelow(True)
        self.ax_.tick_params(axis="x", bottom=False, labelbottom=False)

    def _title(self, has_errors):
        if has_errors:
            return "Refitted without modalities\nmean of folds ± corrected standard error"
        return "Score without modalities"

    def _draw_presence(self, order):
        ax, present = self.presence_ax_, self._presence()[order]
        rows = np.arange(len(self.modalities))
        for row in rows[::2]:
            ax.axhspan(row - 0.5, row + 0.5, color="#f2f2f2", zorder=0)
        columns, of_row = np.nonzero(~present)
        ax.plot(columns, of_row, "o", color=LIGHT, markersize=7, zorder=1)
        for column, is_present in enumerate(present):
            there = rows[is_present]
            ax.plot([column] * len(there), there, "o-", color=BLACK, markersize=7, zorder=2)
        ax.set_yticks(rows, [str(name) for name in self.modalities])
        ax.set_xticks([])
        ax.set(ylim=(len(rows) - 0.5, -0.5), xlabel="modalities present (black)")
        ax.tick_params(axis="y", left=False)
        ax.spines[:].set_visible(False)
