"""Inputs of the reports: the frame, and cells to read, compare and show."""

from contextlib import suppress

import numpy as np
import pandas as pd
from joblib import hash as hash_object

from sklearn_mmfusion._decoders import ALLOWED, opened
from sklearn_mmfusion.containers import FileArray, TensorArray, as_column
from sklearn_mmfusion.containers.accessor import (
    Html,
    cell_html,
    cell_html_at,
    content_keys,
)
from sklearn_mmfusion.containers.arrow import holds_arrow_cells
from sklearn_mmfusion.containers.conversion import as_table
from sklearn_mmfusion.containers.file_array import as_files, holds_paths, in_threads
from sklearn_mmfusion.containers.sets import holds_sets, is_set

MAX_ITEMS = 3  # of a set that are shown


def as_data_frame(X):
    """Return the input of an estimator as a frame; columns without names are called x0, x1, ...."""
    table = as_table(X)
    if isinstance(table, pd.DataFrame):
        return table
    return pd.DataFrame(table).infer_objects().add_prefix("x")


def readable(column, options):
    """Return the array of a Series: paths as files, objects and Arrow cells as arrays.

    Sets and cells that cannot be converted are returned unchanged.
    """
    array = column.to_numpy() if isinstance(column.dtype, np.dtype) else column.array
    if holds_sets(column) or column.isna().all():
        return array
    if holds_paths(column):
        is_files = isinstance(array, FileArray)
        return as_files(array if is_files else list(column), options)[0]
    if column.dtype == object or holds_arrow_cells(column.dtype):
        with suppress(TypeError, ValueError):
            return pd.Series(as_column(column, name=column.name)).array
    return array


def cell_codes(array, options):
    """Return one integer per cell: equal for equal contents, -1 for absent cells."""
    present = np.flatnonzero(~np.asarray(pd.isna(array), dtype=bool))
    codes = np.full(len(array), -1)
    if isinstance(array, FileArray):
        sources = [array[row] for row in present]
        sizes = in_threads(lambda source: _n_bytes(source, options), sources)
        keys = content_keys(sources, sizes, options)
    elif isinstance(array, TensorArray):
        keys = [digest.tobytes() for digest in array[present].digests()]
    elif array.dtype == object:
        keys = [cell if isinstance(cell, str) else hash_object(cell) for cell in array[present]]
    else:
        codes[present] = pd.factorize(array[present])[0]
        return codes
    codes[present] = pd.factorize(np.array([*keys, None], dtype=object)[:-1])[0]
    return codes


def _n_bytes(source, options):
    try:
        with opened(source, options.max_bytes) as (_, n_bytes):
            return n_bytes
    except ALLOWED:
        raise
    except (OSError, ValueError):
        return None


def shown(array, row, options):
    """Return a cell as HTML: a picture, a waveform, or escaped text; a dash if it is absent."""
    cell = array[row]
    if is_set(cell):
        items = [_item(item, options) for item in cell[:MAX_ITEMS]]
        rest = len(cell) - MAX_ITEMS
        return Html("".join(items) + (f" and {rest} more" if rest > 0 else ""))
    if not isinstance(cell, np.ndarray) and pd.isna(cell):
        return Html("–")
    if isinstance(array, FileArray):
        return Html(cell_html_at(array, row))
    if isinstance(cell, float | np.floating):
        cell = f"{cell:.6g}"
    return Html(cell_html(cell))


def _item(item, options):
    files, refused = as_files([item], options)
    if refused:  # an image
        return cell_html(np.asarray(item))
    return cell_html_at(files, 0)
