"""Select the columns of X for each triple, find them again at predict, take present rows."""

from dataclasses import dataclass
from difflib import get_close_matches
from itertools import compress
from numbers import Integral

import numpy as np
import pandas as pd

from sklearn_mmfusion._sklearn import _get_feature_names
from sklearn_mmfusion._validation import add_error_note, warn
from sklearn_mmfusion.containers import TensorArray, as_column
from sklearn_mmfusion.containers.arrow import holds_arrow_cells
from sklearn_mmfusion.containers.column_input import readable_cells
from sklearn_mmfusion.containers.conversion import as_table


@dataclass(frozen=True)
class Selection:
    """The columns of one triple, resolved against the training X.

    Attributes
    ----------
    column : object
        Selection of the triple; if that is a callable, its result.
    positions, labels : tuple
        Positions of the training columns, and their names for messages.
    single : bool
        Whether the selection is a single column, whose absent rows make the modality absent.
    as_series : bool
        Whether it stays a column of cells, as encoders need. Objects that are not cells then raise.
    as_numbers : bool
        Whether its estimator converts dates to numbers. NaT in a table then raises.
    texts : tuple
        Names of the columns that hold texts, if `as_numbers`.
    reader : estimator or None
        The estimator, if it reads files: with ``file_params={"on_error": "missing"}``, files that
        cannot be read make the modality absent.
    """

    name: str
    column: object
    positions: tuple
    labels: tuple
    single: bool
    as_series: bool = False
    as_numbers: bool = False
    texts: tuple = ()
    reader: object = None

    def describe(self):
        """Return the names of the columns, for messages."""
        unit = "column" if self.single else "columns"
        return f"{unit} {', '.join(repr(label) for label in self.labels[:5])}"


# ------------------------------------------------------------------------------ fit


def column_names(X):
    """Return the column names of X as an object array, or None if they are not strings."""
    return _get_feature_names(X)


def remember_columns(estimator, table):
    """Set ``n_features_in_`` and, if all columns have names, ``feature_names_in_``.

    Returns
    -------
    names : ndarray of str or None
    """
    names = column_names(table)
    estimator.n_features_in_ = table.shape[1]
    vars(estimator).pop("feature_names_in_", None)
    if names is not None:
        estimator.feature_names_in_ = names
    return names


def resolve(triple, X, names, estimator_name, *, as_series=False, as_numbers=False, reader=None):
    """Return the `Selection` of a triple in X, a table made by `as_table`."""
    name, _, column = triple
    if callable(column):
        column = column(X)
    try:
        positions, single = _positions(column, names, X.shape[1])
    except (ValueError, TypeError) as error:
        raise type(error)(f"{estimator_name}: modality {name!r}: {error}") from None
    if as_series and len(positions) == 1 and not _is_numeric(X, positions[0]):
        single = True  # ["photo"], as column selectors return it, means "photo"
    labels = tuple(positions if names is None else names[positions])
    pairs = zip(labels, positions, strict=True) if as_numbers else ()
    texts = tuple(label for label, position in pairs if _holds_texts(X, position))
    return Selection(
        *(name, column, tuple(positions), labels, single, as_series, as_numbers, texts),
        reader=reader,
    )


def select_for_fit(table, selections, estimator_name):
    """Apply `select_rows` to each selection of the training table.

    Raises
    ------
    ValueError
        If a modality has no column or no present row.
    """
    selected = [select_rows(table, selection) for selection in selections]
    for selection, (data, _) in zip(selections, selected, strict=True):
        if data is None:
            problem = f"({selection.describe()}) has no present row among {len(table)}"
            if not selection.positions:
                problem = f"selects no column of X (column={selection.column!r})"
            raise ValueError(
                f"{estimator_name}: modality {selection.name!r} {problem}; nothing can be learned "
                "from it. Set it to 'drop'."
            )
    return selected


def _is_numeric(X, position):
    dtype = X.dtypes.iloc[position] if isinstance(X, pd.DataFrame) else X.dtype
    return pd.api.types.is_numeric_dtype(dtype)


def _holds_texts(X, position):
    column = X.iloc[:, position] if isinstance(X, pd.DataFrame) else X[:, position]
    if column.dtype != object:
        return isinstance(column.dtype, pd.StringDtype) or column.dtype.kind == "U"
    return pd.api.types.infer_dtype(column) == "string"


def _positions(column, names, n_columns):
    """Return the positions of a selection, and whether it is a single column."""
    if isinstance(column, (str, Integral)) and not isinstance(column, (bool, np.bool_)):
        return [_position(column, names, n_columns)], True
    if isinstance(column, slice):
        return _slice_positions(column, names, n_columns), False
    try:
        keys = list(column)
    except TypeError:
        raise TypeError(
            f"column is {column!r}; expected a string, an integer, a list of either, a slice, a "
            "boolean mask or a callable that returns one of these."
        ) from None
    if keys and all(isinstance(key, (bool, np.bool_)) for key in keys):
        if len(keys) != n_columns:
            raise ValueError(f"the mask has {len(keys)} entries, X has {n_columns} columns.")
        return np.flatnonzero(keys).tolist(), False
    return [_position(key, names, n_columns) for key in keys], False


def _position(key, names, n_columns):
    if isinstance(key, str):
        if names is None:
            raise ValueError(
                f"column {key!r} is given by name, but X has no column names. Give its position: "
                "some meta-estimators (BaggingClassifier) turn a frame into an array."
            )
        found = np.flatnonzero(names == key)
        if len(found) == 0:
            raise ValueError(f"column {key!r} is not in X, which has {list(names)}.")
        return int(found[0])
    if not isinstance(key, Integral):
        raise TypeError(f"column {key!r} is neither a string nor an integer.")
    if not -n_columns <= key < n_columns:
        raise ValueError(f"column {key} is out of range: X has {n_columns} columns.")
    return int(key) % n_columns


def _slice_positions(column, names, n_columns):
    start, stop = column.start, column.stop
    if isinstance(start, str):
        start = _position(start, names, n_columns)
    if isinstance(stop, str):
        stop = _position(stop, names, n_columns) + 1  # a label slice includes its end, as in pandas
    return list(range(n_columns))[slice(start, stop, column.step)]


# ------------------------------------------------------------------------------ predict


def select_for_predict(estimator, X, selections, only=None):
    """Apply `select_rows` to each selection of X, for a fitted estimator.

    A modality whose only column X lacks, or has without a present row, counts as absent in all
    rows, with a warning. A modality that is not in `only` also counts as absent, without a warning.
    """
    estimator_name = type(estimator).__name__
    names_in = getattr(estimator, "feature_names_in_", None)
    table, where = locate(as_table(X), names_in, estimator.n_features_in_, estimator_name)
    names = column_names(table)
    by_name = names_in is not None and names is not None
    unknown = [name for name in names if name not in set(names_in)] if by_name else []
    check_absent_columns(selections, where, unknown, estimator_name)
    wanted = [only is None or selection.name in only for selection in selections]
    selected = [
        select_rows(table, selection, where) if is_wanted else (None, np.zeros(len(table), bool))
        for selection, is_wanted in zip(selections, wanted, strict=True)
    ]
    warn_empty_columns(
        list(compress(selections, wanted)), list(compress(selected, wanted)), where, estimator_name
    )
    return selected


def locate(X, names_in, n_features_in, estimator_name):
    """Match X to the training columns of an estimator.

    If both have names, columns are found by name, in any order and among others. Otherwise they are
    found by position: the number of columns must then be the same, and a warning (scikit-learn's)
    is issued if only one of the two has names.

    Returns
    -------
    table : DataFrame or ndarray
        X, with or without names as in training, so that no transformer repeats the warning.
    where : ndarray of shape (n_features_in,), dtype=int64
        Position of each training column in the table, -1 for an absent one.
    """
    names = column_names(X)
    if names_in is not None and names is not None:
        found = {name: position for position, name in enumerate(names)}
        return X, np.array([found.get(name, -1) for name in names_in], dtype=np.int64)
    if X.shape[1] != n_features_in:
        raise ValueError(
            f"X has {X.shape[1]} features, but {estimator_name} is expecting {n_features_in} "
            "features as input."
        )
    if names_in is not None:
        warn(
            f"X does not have valid feature names, but {estimator_name} was fitted with feature "
            "names"
        )
        X = pd.DataFrame(X).set_axis(names_in, axis=1).infer_objects()
    elif names is not None:
        warn(f"X has feature names, but {estimator_name} was fitted without feature names")
        X = X.set_axis(range(n_features_in), axis=1)
    return X, np.arange(n_features_in)


def check_absent_columns(selections, where, unknown, estimator_name):
    """Raise or warn if X lacks columns seen in fit.

    Parameters
    ----------
    selections : list of Selection
    where : ndarray
        As `locate` returns it.
    unknown : list of str
        Columns of X that fit has not seen.
    estimator_name : str
    """
    pairs = [pair for s in selections for pair in zip(s.labels, s.positions, strict=True)]
    found = {label for label, position in pairs if where[position] >= 0}
    absent = refuse_absent_columns(selections, found, unknown, f"{estimator_name}: X")
    if absent:
        warn(
            f"{estimator_name}: X lacks columns seen in fit (modality: columns): {absent}. These "
            "modalities count as absent in all rows."
        )


def warn_empty_columns(selections, selected, where, estimator_name):
    """Warn if columns of X have no present row, unless all have none (see `warn_empty_rows`).

    A single row is no sign of a mistake, such as a failed merge.

    Parameters
    ----------
    selections : list of Selection
    selected : list of (data, present)
        Results of `select_rows`.
    where : ndarray
        As `locate` returns it.
    estimator_name : str
    """
    empty = {
        selection.name: list(selection.labels)
        for selection, (data, present) in zip(selections, selected, strict=True)
        if data is None and len(present) > 1 and (where[list(selection.positions)] >= 0).any()
    }
    if empty and any(data is not None for data, _ in selected):
        warn(
            f"{estimator_name}: columns of X have no present row (modality: columns): {empty}. "
            "These modalities count as absent in all rows."
        )


def refuse_absent_columns(selections, found, unknown, label):
    """Find the columns seen in fit that X, or a row, lacks; raise if that may be a mistake.

    Parameters
    ----------
    selections : list of Selection
    found : container of str or int
        Columns of X that fit has seen.
    unknown : list of str or int
        Columns of X that fit has not seen.
    label : str
        Estimator and input, for messages.

    Returns
    -------
    absent : dict of {str: list}
        The columns that X lacks, by modality.

    Raises
    ------
    ValueError
        If X has unknown columns, too: one may be an absent column under another name. If a table
        lacks some of its columns, but not all.
    """
    absent = {}
    for selection in selections:
        own = [column for column in selection.labels if column not in found]
        if own:
            absent[selection.name] = own
        if 0 < len(own) < len(selection.labels) and not unknown:
            raise ValueError(
                f"{label} lacks columns {own} of modality {selection.name!r}; expected all of "
                f"{list(selection.labels)}, or none if the modality is absent. Add them, with NaN "
                "where a value is not known."
            )
    if absent and unknown:
        raise ValueError(
            f"{label} lacks columns seen in fit (modality: columns): {absent}, and has columns "
            f"that fit has not seen: {unknown}{alike(sum(absent.values(), []), unknown)}. Rename "
            "them, or drop them if the modality is absent."
        )
    return absent


def alike(absent, unknown):
    """Name the unknown column that is most like an absent one, for a message."""
    for label in absent:
        lower = {str(other).lower(): other for other in reversed(unknown)}
        match = get_close_matches(str(label).lower(), lower, n=1)
        if match:
            return f" ({lower[match[0]]!r} may be {label!r})"
    return ""


def warn_empty_rows(present, estimator_name, consequence):
    """Warn about rows in which no modality is present.

    Parameters
    ----------
    present : array-like of shape (n_modalities, n_samples), dtype=bool
    estimator_name : str
    consequence : str
        What happens to these rows, to complete the message.

    Returns
    -------
    empty : ndarray of shape (n_samples,), dtype=bool
        Mask of these rows.
    """
    empty = ~np.any(present, axis=0)
    if empty.any():
        warn(
            f"{estimator_name}: {empty.sum()} of {len(empty)} rows have no modality present "
            f"(first {np.flatnonzero(empty)[:5].tolist()}); {consequence}."
        )
    return empty


# ------------------------------------------------------------------------------ present rows


def select_rows(X, selection, where=None):
    """Take the data of one selection, and find its present rows.

    Parameters
    ----------
    X : DataFrame or ndarray
        A table made by `as_table`.
    selection : Selection
        Columns to take.
    where : ndarray of int, default=None
        As `locate` returns it; None for the training X.

    Returns
    -------
    data : DataFrame, Series, ndarray or None
        The **present rows** of a single column, as a Series whose cells are not copied (see
        `gathered`); all rows of a list of columns; None if nothing is present.
    present : ndarray of shape (n_samples,), dtype=bool
        Rows of X that `data` holds.
    """
    positions = np.array(selection.positions, dtype=np.int64)
    if where is not None:
        positions = where[positions]
    if len(positions) == 0 or (positions < 0).all():
        return None, np.zeros(len(X), dtype=bool)
    if not selection.single:
        data = _take_columns(X, positions, selection.labels)
        if selection.as_numbers:
            _refuse_nat(data, selection)
        return data, np.ones(len(X), dtype=bool)
    column = _take_column(X, positions[0], selection)
    if selection.reader is not None:
        with add_error_note(f"Raised while reading the files of modality {selection.name!r}."):
            column = readable_cells(column, selection.reader)
    present = ~np.asarray(column.isna(), dtype=bool)
    if not present.any():
        return None, present
    if not present.all():
        column = column.iloc[np.flatnonzero(present)]
    return column, present


def _refuse_nat(data, selection):
    """Raise if a column holds NaT: scikit-learn would convert it to the lowest integer."""
    for j, label in enumerate(selection.labels):
        column = data.iloc[:, j] if isinstance(data, pd.DataFrame) else data[:, j]
        rows = np.flatnonzero(pd.isna(column)) if column.dtype.kind in "mM" else []
        if len(rows):
            raise ValueError(
                f"modality {selection.name!r}: column {label!r} holds NaT in {len(rows)} of "
                f"{len(data)} rows (first {rows[:5].tolist()}); scikit-learn would read it as "
                "-9.2e18. Convert the column to float days with NaN first, such as "
                "(x - x.min()) / pd.Timedelta('1D')."
            )


def gathered(data):
    """Convert a column of present cells of one shape to an ndarray; return others unchanged."""
    is_tensors = isinstance(data, pd.Series) and isinstance(data.array, TensorArray)
    return data.array.gather() if is_tensors and not data.dtype.is_ragged else data


def output_columns(output):
    """Return the column names of a transformer's output as texts, or None if it is no frame."""
    is_frame = hasattr(output, "columns") and hasattr(output, "to_numpy")
    return [str(name) for name in output.columns] if is_frame else None


def check_output(output, width, columns, label):
    """Raise if the output of a transformer has other features than in fit.

    Parameters
    ----------
    output : array-like, sparse matrix or DataFrame of shape (n_samples, n_features)
    width : int
        Number of features in fit.
    columns : list of str or None
        Column names in fit, see `output_columns`.
    label : str
        Transformer, for messages.
    """
    found = output_columns(output)
    # names that are no texts are positions: they differ between an array in fit and a frame now
    is_named = found is not None and all(isinstance(name, str) for name in output.columns)
    if is_named and columns is not None and found != columns:
        raise ValueError(
            f"{label} returned the columns {found[:10]}; expected {columns[:10]}, as in fit. Use a "
            "transformer that learns its columns in fit, such as OneHotEncoder."
        )
    if (n_features := np.shape(output)[1]) != width:
        raise ValueError(
            f"{label} returned {n_features} features; expected {width}, as in fit. Use a "
            "transformer whose number of features does not depend on the rows."
        )


def _take_columns(X, positions, labels):
    if (positions >= 0).all():
        return X.iloc[:, positions] if isinstance(X, pd.DataFrame) else X[:, positions]
    absent = np.full(len(X), np.nan)
    columns = [X.iloc[:, i] if i >= 0 else pd.Series(absent, index=X.index) for i in positions]
    return pd.concat(columns, axis=1, keys=labels)


def _take_column(X, position, selection):
    """Return one column as a Series, with objects converted to cells if possible."""
    label = selection.labels[0]
    if isinstance(X, pd.DataFrame):
        column = X.iloc[:, position]
    else:
        column = pd.Series(X[:, position], name=label)
    if column.dtype != object and not holds_arrow_cells(column.dtype):
        return column
    try:
        return pd.Series(as_column(column, name=label), index=column.index, name=label)
    except (TypeError, ValueError):
        if selection.as_series:
            raise
        return column  # objects of another kind: a custom transformer may take them
