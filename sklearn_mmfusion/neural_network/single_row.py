"""Prepare one row for a joint network without building a frame."""

from collections.abc import Mapping
from numbers import Real

import numpy as np
import pandas as pd

from sklearn_mmfusion._torch import FusionInputs
from sklearn_mmfusion._validation import add_error_note, warn
from sklearn_mmfusion.containers import TensorArray


def read_row(row, columns, selections, parts, estimator_name):
    """Prepare one row as `FusionInputs`.

    Parameters
    ----------
    row : dict of {column: cell}
        Absent modalities are left out, None or NA.
    columns : sequence of str or int
        All columns seen in fit, used or not.
    selections : list of Selection
    parts : dict of str to part
    estimator_name : str
        For messages.
    """
    if not isinstance(row, Mapping):
        raise TypeError(
            f"{estimator_name}: the row is a {type(row).__name__}; expected a dict of one cell per "
            "column, such as {'image': pixels, 'title': 'red wine'}."
        )
    known = {label for selection in selections for label in selection.labels}
    if row and known.isdisjoint(row):
        raise ValueError(
            f"{estimator_name}: the row has {list(row)}, none of the columns of fit, "
            f"{sorted(known)}."
        )
    if row.keys() != known:
        _warn_unknown(row, columns, known, estimator_name)
    inputs = {}
    for selection, (name, part) in zip(selections, parts.items(), strict=True):
        data = _cell(row, selection, part)
        with add_error_note(f"Raised while preparing modality {name!r} of {estimator_name}."):
            prepared = None if data is None else part.prepare(data)
        inputs[name] = prepared, np.array([data is not None])
    return FusionInputs(inputs)


def _warn_unknown(row, columns, known, estimator_name):
    """Warn about unknown keys if a column is missing: a key may be a misspelling of it."""
    unknown = [key for key in row if key not in columns]
    lost = sorted(known - row.keys(), key=str)
    if unknown and lost:
        warn(
            f"{estimator_name}: the row has keys {unknown}, which were not columns in fit, and "
            f"lacks {lost}, which count as absent. Remove unused keys and correct misspelled "
            "ones."
        )


def _cell(row, selection, part):
    """Data of this row as `select_rows` would return it for a frame; None if absent."""
    if not selection.single:
        if not any(label in row for label in selection.labels):
            return None
        cells = [row.get(label) for label in selection.labels]
        cells = [np.nan if _is_absent(cell) else cell for cell in cells]
        of_array = not isinstance(selection.labels[0], str)
        if of_array or part.takes_arrays:
            numeric = all(isinstance(cell, Real) for cell in cells)
            return np.array([cells], dtype=None if numeric else object)
        return pd.DataFrame([cells], columns=list(selection.labels))
    cell = row.get(selection.labels[0])
    if _is_absent(cell):
        return None
    if isinstance(cell, str) and part.wants_column:
        return [cell]
    if isinstance(cell, Real) and part.wants_column:
        raise TypeError(
            f"column {selection.labels[0]!r} of the row is the number {cell!r}; expected a cell as "
            "in fit: an array, a text or the path of a file."
        )
    if part.wants_column and part.sample_rate is not None:
        return TensorArray([cell], sample_rate=part.sample_rate)
    if isinstance(cell, (str, Real)):
        return pd.Series([cell], name=selection.labels[0])
    if not part.wants_column:  # a transformer may scale its input in place
        return np.array(cell)[None]
    return np.asarray(cell)[None] if np.ndim(cell) != 1 else [cell]


def _is_absent(cell):
    return cell is None or (np.ndim(cell) == 0 and pd.isna(cell))
