"""Cells as small pieces of HTML: thumbnails, waveforms, escaped text."""

import base64
import html
import io

import numpy as np

from sklearn_mmfusion.containers._cells import format_cell

_WIDTH, _HEIGHT = 120, 48  # of a waveform, in pixels
_MAX_TEXT = 200


class Html(str):
    """HTML text that a notebook shows as what it says."""

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
    """Return the outline of a signal as an SVG line: lowest and highest value a pixel column."""
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
    """Return `cell` as uint8 (height, width[, 3 or 4]), None if it is no picture."""
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
    except ImportError:  # an extra: without it the preview says what the cell is
        return html.escape(format_cell(cell))
    image = Image.fromarray(np.ascontiguousarray(picture))
    image.thumbnail((96, 96))
    target = io.BytesIO()
    image.save(target, format="PNG")
    data = base64.b64encode(target.getvalue()).decode()
    return f'<img src="data:image/png;base64,{data}" title="{html.escape(format_cell(cell))}">'
