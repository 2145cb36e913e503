"""The accessor `X.modalities`: look at the modalities of any DataFrame."""

import html

import numpy as np
import pandas as pd
from pandas.api.extensions import register_dataframe_accessor

from sklearn_mmfusion.containers._columns import as_column
from sklearn_mmfusion.containers._file import FileArray
from sklearn_mmfusion.containers._preview import Html, cell_html
from sklearn_mmfusion.containers._tensor import TensorArray


@register_dataframe_accessor("modalities")
class ModalitiesAccessor:
    """Look at the modalities of a DataFrame: presence, sizes, pictures.

    Registered as ``X.modalities`` once `sklearn_mmfusion.containers` is imported; works on any
    frame.

    Parameters
    ----------
    frame : pandas.DataFrame of shape (n, m)

    Examples
    --------
    >>> from sklearn_mmfusion import multimodal_frame
    >>> X = multimodal_frame(audio=[[0.1, 0.2], None, [0.3]], text=["one", "two", None])
    >>> X.modalities.presence().sum().to_dict()
    {'audio': 2, 'text': 2}
    >>> X.modalities.summary()[["kind", "n_present", "n_absent", "length_max"]]
             kind  n_present  n_absent  length_max
    audio  tensor          2         1         2.0
    text     text          2         1         3.0
    """

    def __init__(self, frame):
        self._frame = frame

    def presence(self):
        """Return which cells are there.

        Returns
        -------
        presence : pandas.DataFrame of bool of shape (n, m)
        """
        return self._frame.notna()

    def summary(self):
        """Describe each column in a row; reads no cell.

        Returns
        -------
        summary : pandas.DataFrame of shape (m, 9)
            kind ("tensor", "file", "text", "number" or "other"), dtype, cell_shape, n_present,
            n_absent, length_min, length_median, length_max (of the present cells: first-axis
            length of arrays, characters of text, else NaN) and MB.
        """
        columns = (self._frame.iloc[:, j] for j in range(self._frame.shape[1]))
        rows = [_describe(column) for column in columns]
        return pd.DataFrame(rows, index=self._frame.columns)

    def preview(self, n=5):
        """Show the first rows as a table with thumbnails, waveforms and text.

        Parameters
        ----------
        n : int, default=5
            Number of rows. Files among them are read; one that cannot be is shown as its path.

        Returns
        -------
        table : str
            HTML, shown as a table by notebooks. Text is escaped. Without Pillow (the extra
            ``io``) pictures are named, not shown.
        """
        frame = self._frame.iloc[:n]
        heads = "".join(f"<th>{html.escape(str(name))}</th>" for name in frame.columns)
        columns = [_cells_html(frame.iloc[:, j].array) for j in range(frame.shape[1])]
        lines = []
        for i, label in enumerate(frame.index):
            cells = "".join(f"<td>{column[i]}</td>" for column in columns)
            lines.append(f"<tr><th>{html.escape(str(label))}</th>{cells}</tr>")
        body = "\n".join(lines)
        return Html(
            f"<table>\n<thead><tr><th></th>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
        )


def _describe(column):
    """Return the summary row of one column."""
    absent = column.isna().to_numpy()
    array = column.array
    if column.dtype == object and not absent.all():  # of arrays, images or texts, as fit reads it
        array = as_column(column, name=column.name)
    kind, lengths, shape = "other", np.empty(0), ""
    if isinstance(array, TensorArray):
        kind, lengths = "tensor", array.cell_lengths()[~absent]
        shape = "x".join("?" if axis is None else str(axis) for axis in array.dtype.cell_shape)
    elif isinstance(array, FileArray):
        kind = "file"
    elif pd.api.types.is_string_dtype(column.dtype):
        kind = "text"
        lengths = np.array([len(str(text)) for text in column[~absent]])
    elif pd.api.types.is_numeric_dtype(column.dtype):
        kind = "number"
    low, middle, high = np.quantile(lengths, [0, 0.5, 1]) if len(lengths) else [np.nan] * 3
    size = array.nbytes if kind in ("tensor", "file") else column.memory_usage(False, deep=True)
    return {
        "kind": kind,
        "dtype": str(column.dtype),
        "cell_shape": shape,
        "n_present": int((~absent).sum()),
        "n_absent": int(absent.sum()),
        "length_min": float(low),
        "length_median": float(middle),
        "length_max": float(high),
        "MB": size / 1e6,
    }


def _cells_html(array):
    """Return the cells of one column as HTML; an absent one as a dash."""
    absent = pd.isna(array)
    cells = []
    for i in range(len(array)):
        cells.append("–" if absent[i] else _one_html(array, i))
    return cells


def _one_html(array, i):
    if not isinstance(array, FileArray):
        return cell_html(array[i])
    try:
        return cell_html(array.decode([i])[0])
    except (ValueError, OSError, ImportError):
        return cell_html(array[i])
