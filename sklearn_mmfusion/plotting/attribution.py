"""Pictures of attributions: images and spectrograms with heat maps, words with their weights."""

import numpy as np

from sklearn_mmfusion.inspection import modality_attribution
from sklearn_mmfusion.plotting.style import ORANGE, PURPLE, import_pyplot, new_axes

MAX_ROWS = 6  # drawn if no rows are chosen
AXES = {
    "audio": ("frame", "mel band"),
    "sequence": ("step", "channel"),
}


class ModalityAttributionDisplay:
    """Cells of one modality, and the contribution of each pixel, word or time-frequency cell.

    Images, spectrograms and sequences are drawn next to a heat map; texts have one bar per word, in
    the order of the text. Orange raises the explained output; purple (hatched in bars) lowers it.
    On heat maps, solid lines surround the contributions that raise it most, and dashed lines those
    that lower it most. Use `from_estimator`, or pass the result of
    :func:`~sklearn_mmfusion.inspection.modality_attribution`:
    ``ModalityAttributionDisplay(**attribution)``.

    Parameters
    ----------
    modality : str
        Name of the modality.
    kind : {"image", "text", "audio", "sequence"}
        Kind of the modality.
    attributions : list of ndarray or None
        Attributions of each row; None where the modality is absent.
    inputs : list
        The pixels, words, frames or steps of each row.
    targets : list, default=None
        The class or output that was explained.
    outputs, baseline_outputs : ndarray of shape (n_samples,), default=None
        Output for the row and for the baseline.
    errors : ndarray of shape (n_samples,), default=None
        Ignored.

    Attributes
    ----------
    ax_ : ndarray
        Axes: (n_rows, 1) for texts, else (n_rows, 2).

    figure_ : matplotlib.figure.Figure
        Their figure.

    See Also
    --------
    sklearn_mmfusion.inspection.modality_attribution : Computes what is drawn.

    Examples
    --------
    >>> from sklearn_mmfusion import TextEncoder
    >>> from sklearn_mmfusion.plotting import ModalityAttributionDisplay
    >>> texts = ["a good film", "a fine film", "a bad film", "a poor film"] * 5
    >>> encoder = TextEncoder(8, max_epochs=2, early_stopping=False, random_state=0)
    >>> encoder = encoder.fit(texts, [1, 1, 0, 0] * 5)
    >>> display = ModalityAttributionDisplay.from_estimator(encoder, ["a bad film"])
    >>> [label.get_text() for label in display.ax_[0, 0].get_yticklabels()]
    ['a', 'bad', 'film']
    """

    def __init__(
        self,
        *,
        modality,
        kind,
        attributions,
        inputs,
        targets=None,
        outputs=None,
        baseline_outputs=None,
        errors=None,
    ):
        self.modality = modality
        self.kind = kind
        self.attributions = attributions
        self.inputs = inputs
        self.targets = targets
        self.outputs = outputs
        self.baseline_outputs = baseline_outputs
        self.errors = errors

    @classmethod
    def from_estimator(cls, estimator, X, *, rows=None, **params):
        """Compute attributions and draw them.

        Parameters
        ----------
        estimator : estimator
            Fitted.
        X : column of cells, DataFrame or array-like
            Rows to explain.
        rows : list of int, default=None
            Positions of the rows to draw; see `plot`.
        **params : dict
            Of :func:`~sklearn_mmfusion.inspection.modality_attribution`.

        Returns
        -------
        display : ModalityAttributionDisplay
        """
        import_pyplot(f"{cls.__name__}.from_estimator")  # before the work
        return cls(**modality_attribution(estimator, X, **params)).plot(rows=rows)

    def plot(self, *, rows=None, ax=None):
        """Draw some rows.

        Parameters
        ----------
        rows : list of int, default=None
            Their positions; None draws the first six that have the modality.
        ax : array of matplotlib axes, default=None
            One row of axes per drawn row: one for texts, two for others. None makes a figure.

        Returns
        -------
        display : ModalityAttributionDisplay

        Raises
        ------
        ImportError
            If matplotlib is missing.
        ValueError
            If there is nothing to draw, or the modality is absent in a chosen row.
        """
        present = [row for row, values in enumerate(self.attributions) if values is not None]
        rows = present[:MAX_ROWS] if rows is None else list(rows)
        if not rows or not set(rows) <= set(present):
            raise ValueError(
                f"ModalityAttributionDisplay: rows={rows}; expected some of those that have the "
                f"modality {self.modality!r}: {present[:20]}."
            )
        n_columns = 1 if self.kind == "text" else 2
        if ax is None:
            ax = self._new_axes(rows, n_columns)
        self.ax_ = np.asarray(ax, dtype=object).reshape(len(rows), n_columns)
        self.figure_ = self.ax_[0, 0].figure
        for row, axes in zip(rows, self.ax_, strict=True):
            if self.kind == "text":
                draw_words(axes[0], self.inputs[row], self.attributions[row])
            else:
                self._draw_maps(*axes, self.inputs[row], self.attributions[row])
            axes[0].set_title(self._title(row), fontsize=10)
        return self

    def _new_axes(self, rows, n_columns):
        height = 2.4 * len(rows)
        if self.kind == "text":
            height = sum(1.1 + 0.25 * len(self.inputs[row]) for row in rows)
        width = {"text": 5.5, "image": 6}.get(self.kind, 9)
        caller = "ModalityAttributionDisplay.plot"
        return new_axes(caller, len(rows), n_columns, width=width, height=height + 0.3)

    def _title(self, row):
        title = f"{self.modality}, row {row}"
        if self.targets is not None:
            title += f": {self.targets[row]}"
        if self.outputs is not None and self.baseline_outputs is not None:
            title += f"\noutput {self.outputs[row]:.3g}, baseline {self.baseline_outputs[row]:.3g}"
        return title

    def _draw_maps(self, ax, heat_ax, cell, attribution):
        if self.kind == "image":  # channels first
            picture, heat, options = np.moveaxis(cell, 0, -1), attribution.sum(axis=0), {}
            low, high = float(picture.min()), float(picture.max())
            picture = (picture - low) / max(high - low, 1e-12)
            if picture.shape[-1] != 3:
                picture = picture.mean(axis=-1)
        else:  # time first
            picture, heat = cell.T, attribution.T
            options = {"origin": "lower", "aspect": "auto", "interpolation": "nearest"}
        ax.imshow(picture, cmap="gray", **options)
        limit = max(np.abs(heat).max(), 1e-12)
        image = heat_ax.imshow(heat, cmap="PuOr_r", vmin=-limit, vmax=limit, **options)
        if min(heat.shape) > 1 and np.abs(heat).max() > 0:
            levels = [-limit / 2, limit / 2]
            styles = ["dashed", "solid"]
            heat_ax.contour(heat, levels, colors="black", linestyles=styles, linewidths=0.6)
        heat_ax.set_title("attribution", fontsize=10)
        heat_ax.figure.colorbar(image, ax=heat_ax, shrink=0.8, label="contribution")
        for each in (ax, heat_ax):
            if self.kind == "image":
                each.set(xticks=[], yticks=[])
            else:
                x, y = AXES[self.kind]
                each.set(xlabel=x, ylabel=y)


def draw_words(ax, words, attribution):
    """Draw a bar per word, the first word on top; bars that lower the output are hatched."""
    for place, value in enumerate(attribution):
        style = {"color": ORANGE} if value >= 0 else {"facecolor": "white", "edgecolor": PURPLE}
        ax.barh(place, value, hatch=None if value >= 0 else "///", **style)
    ax.set_yticks(range(len(words)), words)
    ax.set_ylim(len(words) - 0.4, -0.6)
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_xlabel("contribution to the output")
