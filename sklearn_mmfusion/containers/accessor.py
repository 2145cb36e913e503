"""The accessor ``X.modalities``: presence, summary and previews in HTML."""

import base64
import html
import io

import numpy as np
import pandas as pd
from pandas.api.extensions import register_dataframe_accessor

from sklearn_mmfusion._decoders import raise_passing
from sklearn_mmfusion.containers.conversion import as_column
from sklearn_mmfusion.containers.file_array import FileArray
from sklearn_mmfusion.containers.storage import format_cell
from sklearn_mmfusion.containers.tensor_array import TensorArray


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
        """Return which cells are present.

        Returns
        -------
        presence : pandas.DataFrame of bool of shape (n, m)
        """
        return self._frame.notna()

    def summary(self):
        """Describe each column in one row; no cell is read.

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
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise_passing(error)
        return cell_html(array[i])


_WIDTH, _HEIGHT = 120, 48  # of a waveform, in pixels
_MAX_TEXT = 200


class Html(str):
    """HTML string that a notebook renders."""

    def _repr_html_(self):
        return str(self)


def cell_html(cell):
    """Return one present cell as HTML.

    Parameters
    ----------
    cell : ndarray or object
        1-D arrays are drawn as a line, arrays that look like a picture as a thumbnail (the middle
        frame of a clip), anything else as escaped text.

    Returns
    -------
    markup : str
    """
    if not isinstance(cell, np.ndarray):
        text = str(cell)
        return html.escape(text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…")
    if cell.size == 0 or cell.dtype.kind == "c":
        return html.escape(format_cell(cell))
    if cell.ndim == 1:
        return _waveform(cell)
    picture = _picture(cell)
    return html.escape(format_cell(cell)) if picture is None else _thumbnail(picture, cell)


def _waveform(cell):
    """Return the outline of a signal as an SVG line: lowest and highest value per pixel column."""
    signal = np.nan_to_num(cell.astype(np.float64), posinf=0.0, neginf=0.0)
    if len(signal) > _WIDTH:
        parts = np.array_split(signal, _WIDTH)
        signal = np.array([value for part in parts for value in (part.min(), part.max())])
    span = np.ptp(signal) or 1.0
    x = np.linspace(0, _WIDTH, len(signal))
    y = _HEIGHT * (1 - (signal - signal.min()) / span)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}"><title>{html.escape(format_cell(cell))}</title>'
        f'<polyline points="{points}" fill="none" stroke="currentColor"/></svg>'
    )


def _picture(cell):
    """Return `cell` as uint8 (height, width[, 3 or 4]), None if it is not a picture."""
    if cell.ndim == 4:
        cell = cell[len(cell) // 2]
    if cell.ndim == 3 and cell.shape[-1] not in (1, 3, 4) and cell.shape[0] in (1, 3, 4):
        cell = np.moveaxis(cell, 0, -1)
    if cell.ndim == 3 and cell.shape[-1] == 1:
        cell = cell[..., 0]
    if cell.ndim == 3 and cell.shape[-1] not in (3, 4) or cell.ndim not in (2, 3):
        return None
    if cell.dtype == np.uint8:
        return cell
    values = np.nan_to_num(cell.astype(np.float64), posinf=0.0, neginf=0.0)
    return (255 * (values - values.min()) / (np.ptp(values) or 1.0)).astype(np.uint8)


def _thumbnail(picture, cell):
    try:
        from PIL import Image
    except ImportError:  # an extra: without it the preview describes the cell
        return html.escape(format_cell(cell))
    image = Image.fromarray(np.ascontiguousarray(picture))
    image.thumbnail((96, 96))
    target = io.BytesIO()
    image.save(target, format="PNG")
    data = base64.b64encode(target.getvalue()).decode()
    return f'<img src="data:image/png;base64,{data}" title="{html.escape(format_cell(cell))}">'
