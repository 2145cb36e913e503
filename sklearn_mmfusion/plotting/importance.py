"""Pictures of the contributions of modalities (bars) and their interactions (matrix)."""

import numpy as np

from sklearn_mmfusion._validation import check_choice
from sklearn_mmfusion.inspection import modality_importance, modality_interaction
from sklearn_mmfusion.plotting.style import BLUE, ORANGE, import_pyplot, new_axes

FUNCTIONS = {"importance": modality_importance, "interaction": modality_interaction}


class ModalityImportanceDisplay:
    """Bars with the contribution of each modality to the score, or a matrix of interactions.

    Use `from_estimator`, or pass the result of
    :func:`~sklearn_mmfusion.inspection.modality_importance` or
    :func:`~sklearn_mmfusion.inspection.modality_interaction`:
    ``ModalityImportanceDisplay(**result)``.

    Parameters
    ----------
    modalities : list of str
        Names of the modalities.
    importances : ndarray of shape (n_modalities,), default=None
        Contributions to the score.
    interactions : ndarray of shape (n_modalities, n_modalities), default=None
        Interactions of pairs; used if there are no `importances`.
    standard_errors : ndarray of the same shape, default=None
        Standard errors of these values.
    score_all, score_none : float, default=None
        Score with all modalities and with none, shown in the title.
    scorer : str, default="score"
        Name of the score.
    coalitions : DataFrame, default=None
        Not drawn.
    absent : dict, default=None
        Not drawn.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Axes of the picture.

    figure_ : matplotlib.figure.Figure
        Their figure.

    See Also
    --------
    sklearn_mmfusion.inspection.modality_importance : Computes the bars.
    sklearn_mmfusion.inspection.modality_interaction : Computes the matrix.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn_mmfusion import LateFusionClassifier, multimodal_frame
    >>> from sklearn_mmfusion.plotting import ModalityImportanceDisplay
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=100)
    >>> X = multimodal_frame(
    ...     strong=y[:, None] + 0.3 * rng.normal(size=(100, 2)),
    ...     weak=y[:, None] + 2.0 * rng.normal(size=(100, 2)),
    ... )
    >>> triples = [(name, LogisticRegression(), name) for name in X.columns]
    >>> classifier = LateFusionClassifier(triples).fit(X, y)
    >>> display = ModalityImportanceDisplay.from_estimator(classifier, X, y)
    >>> display.ax_.get_xlabel()
    'Shapley value: contribution to accuracy'
    """

    def __init__(
        self,
        *,
        modalities,
        importances=None,
        interactions=None,
        standard_errors=None,
        score_all=None,
        score_none=None,
        scorer="score",
        coalitions=None,
        absent=None,
    ):
        self.modalities = modalities
        self.importances = importances
        self.interactions = interactions
        self.standard_errors = standard_errors
        self.score_all = score_all
        self.score_none = score_none
        self.scorer = scorer
        self.coalitions = coalitions
        self.absent = absent

    @classmethod
    def from_estimator(cls, estimator, X, y, *, kind="importance", ax=None, **params):
        """Compute the contributions to the score of a fitted estimator, and draw them.

        Parameters
        ----------
        estimator : estimator
            Any fitted estimator over a table of several columns.
        X : DataFrame or array-like of shape (n_samples, n_columns)
            Rows that `estimator` was not trained on.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            True values.
        kind : {"importance", "interaction"}, default="importance"
            Bars of the modalities, or the matrix of their pairs.
        ax : matplotlib.axes.Axes, default=None
            None makes a figure.
        **params : dict
            Of :func:`~sklearn_mmfusion.inspection.modality_importance`: ``scoring``, ...

        Returns
        -------
        display : ModalityImportanceDisplay

        Raises
        ------
        ValueError
            If `kind` is unknown.
        """
        import_pyplot(f"{cls.__name__}.from_estimator")  # before any prediction
        check_choice(f"{cls.__name__}.from_estimator: kind", kind, FUNCTIONS)
        return cls(**FUNCTIONS[kind](estimator, X, y, **params)).plot(ax=ax)

    def plot(self, *, ax=None):
        """Draw the bars, with the largest on top, or the matrix.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            None makes a figure.

        Returns
        -------
        display : ModalityImportanceDisplay

        Raises
        ------
        ImportError
            If matplotlib is missing.
        """
        n_modalities = len(self.modalities)
        if ax is None:
            is_matrix = self.importances is None
            width = max(5.0, 2.5 + 0.8 * n_modalities) if is_matrix else 6.4
            height = width - 0.8 if is_matrix else 1.6 + 0.5 * n_modalities
            ax = new_axes("ModalityImportanceDisplay.plot", width=width, height=height)[0, 0]
        self.ax_, self.figure_ = ax, ax.figure
        self._draw_matrix() if self.importances is None else self._draw_bars()
        return self

    def _draw_bars(self):
        order, values = np.argsort(self.importances, kind="stable"), np.asarray(self.importances)
        names = [str(self.modalities[m]) for m in order]
        errors = None if self.standard_errors is None else np.nan_to_num(self.standard_errors)
        if errors is not None:
            errors = errors[order] if errors.any() else None
        bars = self.ax_.barh(
            np.arange(len(order)), values[order], xerr=errors, color=BLUE, capsize=4, height=0.6
        )
        for bar, value in zip(bars, values[order], strict=True):
            if value < 0:  # a loss differs from a gain in gray, too
                bar.set(facecolor=ORANGE, hatch="//")
        self.ax_.bar_label(bars, [f"{value:+.3f}" for value in values[order]], padding=6)
        self.ax_.set_yticks(np.arange(len(order)), names)
        self.ax_.axvline(0, color="black", linewidth=0.8)
        self.ax_.margins(x=0.2)
        title = "Contribution of each modality"
        if self.score_all is not None and self.score_none is not None:
            title += f"\nscore {self.score_none:.3f} with none, {self.score_all:.3f} with all"
        if errors is not None:
            title += ", ± standard error" if "\n" in title else "\n± standard error"
        label = f"Shapley value: contribution to {self._score()}"
        self.ax_.set(xlabel=label, ylabel="modality", title=title)
        self.ax_.grid(axis="x", color="#dddddd", linewidth=0.7)
        self.ax_.set_axisbelow(True)

    def _draw_matrix(self):
        values = np.array(self.interactions, dtype=float)
        names, size = [str(name) for name in self.modalities], len(values)
        np.fill_diagonal(values, np.nan)
        limit = np.nanmax(np.abs(values), initial=0) or 1.0
        image = self.ax_.imshow(values, cmap="PuOr_r", vmin=-limit, vmax=limit)
        for i, j in np.argwhere(np.isfinite(values)):
            # the text has the sign: in gray, both ends of the scale are dark
            color = "white" if abs(values[i, j]) > 0.6 * limit else "black"
            text = f"{values[i, j]:+.3f}"
            if self.standard_errors is not None and self.standard_errors[i, j] > 0:
                text += f"\n± {self.standard_errors[i, j]:.3f}"
            self.ax_.text(j, i, text, ha="center", va="center", color=color)
        self.ax_.set_xticks(np.arange(size), names, rotation=30, ha="right")
        self.ax_.set_yticks(np.arange(size), names)
        self.ax_.set(
            xlabel="modality",
            ylabel="modality",
            title="Interaction of modalities\n+ complementary, − redundant",
        )
        label = f"Shapley interaction index of {self._score()}"
        self.figure_.colorbar(image, ax=self.ax_, label=label, shrink=0.8)

    def _score(self):
        return self.scorer.replace("_", " ")
