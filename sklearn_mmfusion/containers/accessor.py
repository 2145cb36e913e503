"""The accessor ``X.modalities``: presence, summary and previews in HTML."""

import base64
import html
import io
from collections import Counter
from contextlib import suppress

import numpy as np
import pandas as pd
from pandas.api.extensions import register_dataframe_accessor

from sklearn_mmfusion._decoders import ALLOWED, audio_header, image_header, opened, raise_passing
from sklearn_mmfusion._file_formats import source_kind
from sklearn_mmfusion._file_options import FileOptions
from sklearn_mmfusion.containers.arrow import holds_arrow_cells
from sklearn_mmfusion.containers.conversion import as_column
from sklearn_mmfusion.containers.file_array import (
    FileArray,
    as_files,
    holds_paths,
    in_threads,
    key_of_source,
)
from sklearn_mmfusion.containers.sets import holds_sets
from sklearn_mmfusion.containers.storage import blake, format_cell
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

    def summary(self, *, read_cells=False, file_params=None):
        """Describe each column in one row.

        Parameters
        ----------
        read_cells : bool, default=False
            Whether to open the files and to hash the arrays. By default nothing is read. If
            True, only the header of a file is read, or all of it if another file has the same size.
        file_params : dict, default=None
            How files are read: the options of encoders, such as ``{"root": "photos"}``.

        Returns
        -------
        summary : pandas.DataFrame of shape (m, 16)
            Columns:

            - "kind": "tensor", "file" (a FileArray, or objects of paths or contents), "path"
              (texts, most of which have a known file suffix), "set" (lists of paths or images),
              "text", "number" or "other";
            - "dtype", and "cell_shape" of arrays;
            - "n_present", "n_absent";
            - "n_duplicates": present cells that are equal to an earlier one, as texts, paths or
              contents; with `read_cells`, also arrays and files of equal content. NA for others;
            - "n_unreadable": files without a readable header, such as missing ones; NA unless
              `read_cells`. `check_files` decodes the files, and gives reasons;
            - "length_min", "length_median", "length_max" of the present cells: first-axis length
              of arrays, items of sets, characters of texts, else NaN;
            - "sizes" of image files, height x width, with `read_cells`: "80x60" if all are equal,
              else "40x60 to 80x90, median 80x60", for height and width separately;
            - "rates": sample rates that the column states, or its files with `read_cells`, most
              common first, with the number of files;
            - "seconds_min", "seconds_median", "seconds_max": durations of recordings, of files
              with `read_cells`;
            - "MB": memory, which is not the size of the files.
        """
        options = FileOptions.from_dict(file_params, "summary")
        columns = (self._frame.iloc[:, j] for j in range(self._frame.shape[1]))
        rows = [_describe(column, options, read_cells) for column in columns]
        counts = {"n_duplicates": "Int64", "n_unreadable": "Int64"} if rows else {}
        return pd.DataFrame(rows, index=self._frame.columns).astype(counts)

    def preview(self, n=5):
        """Show the first rows as a table with thumbnails, waveforms and text.

        Parameters
        ----------
        n : int, default=5
            Number of rows. Files in them are read; an unreadable one is shown as its path.

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


def _describe(column, options, read_cells):
    """Return the summary row of one column."""
    absent = column.isna().to_numpy()
    array = column.array
    # objects and Arrow cells, converted as `fit` does; those that it refuses are of kind "other"
    if column.dtype == object and not absent.all() or holds_arrow_cells(column.dtype):
        with suppress(TypeError, ValueError):
            array = as_column(column, name=column.name)
    kind, lengths, shape, found = "other", np.empty(0), "", {}
    present = column[~absent]
    if isinstance(array, TensorArray):
        kind, lengths = "tensor", array.cell_lengths()[~absent]
        shape = "x".join("?" if axis is None else str(axis) for axis in array.dtype.cell_shape)
        found = _describe_arrays(array[~absent], lengths, read_cells)
    elif holds_sets(array):
        kind, lengths = "set", np.array([len(cell) for cell in array[~absent]])
    elif isinstance(array, FileArray) or holds_paths(column):
        kind = "file" if isinstance(array, FileArray) else "path"
        found = _describe_files(present, options, read_cells)
    elif pd.api.types.is_string_dtype(present):  # also looks at objects
        kind = "text"
        lengths = np.array([len(str(text)) for text in present])
        found = {"n_duplicates": int(present.duplicated().sum())}
    elif any(map(pd.api.types.is_numeric_dtype, (column.dtype, array.dtype))):
        kind = "number"
    size = array.nbytes if kind in ("tensor", "file") else column.memory_usage(False, deep=True)
    return {
        "kind": kind,
        "dtype": str(column.dtype),
        "cell_shape": shape,
        "n_present": int((~absent).sum()),
        "n_absent": int(absent.sum()),
        "n_duplicates": found.get("n_duplicates", pd.NA),
        "n_unreadable": found.get("n_unreadable", pd.NA),
        **_quantiles("length", lengths),
        "sizes": found.get("sizes", ""),
        "rates": found.get("rates", ""),
        **_quantiles("seconds", found.get("seconds", ())),
        "MB": size / 1e6,
    }


def _quantiles(name, values):
    names = [f"{name}_min", f"{name}_median", f"{name}_max"]
    quantiles = np.quantile(values, [0, 0.5, 1]) if len(values) else [np.nan] * 3
    return dict(zip(names, map(float, quantiles), strict=True))


def _describe_arrays(cells, lengths, read_cells):
    found, rate = {}, cells.dtype.sample_rate
    if rate is not None:
        found = {"rates": f"{rate:g} Hz", "seconds": lengths / rate}
    if read_cells:
        found["n_duplicates"] = len(cells) - len(np.unique(cells.digests(), axis=0))
    return found


def _describe_files(cells, options, read_cells):
    """Describe present cells, which are paths or contents."""
    is_files = isinstance(cells.array, FileArray)
    files, refused = as_files(cells.array if is_files else list(cells), options)
    rows = np.flatnonzero(~files.isna())
    sources = [files[row] for row in rows]
    rate = files.dtype.sample_rate
    if not read_cells:
        rates = {} if rate is None else {"rates": f"{rate:g} Hz"}
        return {"n_duplicates": len(rows) - len(set(map(key_of_source, sources))), **rates}
    headers = in_threads(lambda source: _read_header(source, options), sources)
    different = set(content_keys(sources, [h.get("n_bytes") for h in headers], options))
    rates = Counter(header["rate"] for header in headers if "rate" in header).most_common()
    return {
        "n_duplicates": len(rows) - len(different),
        "n_unreadable": len(refused) + sum(not header for header in headers),
        "sizes": _sizes([header["size"] for header in headers if "size" in header]),
        "rates": ", ".join(f"{rate:g} Hz" + f" ({n})" * (len(rates) > 1) for rate, n in rates),
        "seconds": [header["seconds"] for header in headers if "seconds" in header],
    }


def _read_header(source, options):
    """Return what the header of a file states; {} if it cannot be read."""
    kind = source_kind(source)
    try:
        with opened(source, options.max_bytes) as (_, n_bytes):
            header = {"n_bytes": n_bytes}
        if kind == "image":
            header["size"] = image_header(source, options)[1]
        elif kind == "audio":
            n_samples, _, rate = audio_header(source, options)
            header.update(rate=rate, seconds=n_samples / rate)
        return header if kind else {}
    except ALLOWED:
        raise
    except Exception:  # decoders raise errors of any type on damaged files
        return {}


def content_keys(sources, n_bytes, options):
    """Return one key per file: equal for equal contents, or else for equal paths.

    Parameters
    ----------
    sources : list of str or bytes
        Paths or contents.
    n_bytes : list of int or None
        Their sizes, None for unreadable files. Only files of equal size are read.
    options : FileOptions

    Returns
    -------
    keys : list of bytes
    """
    counts = Counter(n_bytes)
    keys = [key_of_source(source) for source in sources]
    shared = [i for i, size in enumerate(n_bytes) if size is not None and counts[size] > 1]
    digests = in_threads(lambda i: _content_digest(sources[i], options), shared)
    for i, digest in zip(shared, digests, strict=True):
        keys[i] = digest
    return keys


def _content_digest(source, options):
    with opened(source, options.max_bytes) as (file, _):
        return blake(file.read())


def _sizes(sizes):
    if not sizes:
        return ""
    low, middle, high = (
        "x".join(f"{length:g}" for length in lengths)
        for lengths in np.quantile(sizes, [0, 0.5, 1], axis=0)
    )
    return low if low == high else f"{low} to {high}, median {middle}"


def _cells_html(array):
    """Return the cells of one column as HTML; an absent one as a dash."""
    absent = pd.isna(array)
    cells = []
    for i in range(len(array)):
        cells.append("–" if absent[i] else cell_html_at(array, i))
    return cells


def cell_html_at(array, i):
    """Return a present cell of an array as HTML; files are read, unreadable ones named."""
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
        f'<svg role="img" width="{_WIDTH}" height="{_HEIGHT}">'
        f"<title>{html.escape(format_cell(cell))}</title>"
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
    words = html.escape(format_cell(cell))
    return f'<img src="data:image/png;base64,{data}" alt="Picture {words}" title="{words}">'
