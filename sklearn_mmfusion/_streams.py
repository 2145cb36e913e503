"""Predictions on a stream of events: the newest cell of each modality counts for a while."""

from numbers import Real

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from sklearn_mmfusion._validation import closest
from sklearn_mmfusion.containers.storage import is_absent


class StreamMixin:
    """Add `predict_stream` to a model of triples that defines ``_predict_cells(cells)``."""

    def predict_stream(self, events, *, window):
        """Predict at each event of a stream.

        Cells arrive one at a time. The prediction at an event uses the newest cell of each modality
        that is at most `window` seconds old; a modality without one is absent.

        Parameters
        ----------
        events : iterable of (time, modality, cell)
            In the order of arrival. Times are numbers of seconds, or datetimes. The modality is the
            name of a triple. The cell is as in a column of X; for a triple of several columns, a
            dict by column. None marks the modality absent from then on.
        window : float
            Seconds for which a cell counts.

        Yields
        ------
        time : number or datetime
            The latest time of the events so far.
        y : label or number
            As `predict` returns it for one row.
        modalities : tuple of str
            The modalities that were present.

        Raises
        ------
        TypeError
            If an event is not a triple, or if numbers and datetimes are mixed as times.
        ValueError
            If a modality is unknown, a time is missing or infinite, `window` is not above 0, or two
            modalities share a column.

        Notes
        -----
        A late event is ordered by its time, not its arrival: it counts if its modality has no newer
        cell and it is not too old. Nothing is computed ahead, and nothing waits for a silent
        modality. Every event costs a prediction of one row.

        Without any modality, the prediction is that of an empty row, with a warning.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.linear_model import LogisticRegression
        >>> from sklearn_mmfusion import LateFusionClassifier, multimodal_frame
        >>> rng = np.random.default_rng(0)
        >>> y = np.arange(40) % 2
        >>> X = multimodal_frame(
        ...     heart=rng.normal(y[:, None], size=(40, 3)),
        ...     skin=rng.normal(y[:, None], size=(40, 2)),
        ... )
        >>> triples = [(name, LogisticRegression(), name) for name in X]
        >>> model = LateFusionClassifier(triples).fit(X, y)
        >>> events = [(0.0, "heart", [2, 2, 2]), (1.0, "skin", [2, 2]), (9.0, "skin", [-2, -2])]
        >>> for time, label, modalities in model.predict_stream(events, window=5):
        ...     print(time, label, modalities)
        0.0 1 ('heart',)
        1.0 1 ('heart', 'skin')
        9.0 0 ('skin',)
        """
        check_is_fitted(self)
        if not isinstance(window, Real) or isinstance(window, bool) or not window > 0:
            raise ValueError(
                f"{type(self).__name__}: window={window!r}; expected a number of seconds above 0."
            )
        owners = {}
        for selection in self._selections:
            for column in selection.labels:
                if column in owners:
                    raise ValueError(
                        f"{type(self).__name__}: column {column!r} belongs to the modalities "
                        f"{owners[column]!r} and {selection.name!r}; predict_stream needs columns "
                        "of one modality each. Fit on a frame with a copy of the column."
                    )
                owners[column] = selection.name
        return self._predict_events(events, float(window))

    def _predict_events(self, events, window):
        newest, now = {}, None
        selections = {selection.name: selection for selection in self._selections}
        for number, event in enumerate(events):
            label = f"{type(self).__name__}: event {number}"
            time, name, cell = _read_event(event, selections, label)
            now = time if now is None else _later(now, time, label)
            if name not in newest or newest[name][0] <= time:
                newest[name] = time, cell
            kept = {
                name: cell
                for name, (since, cell) in newest.items()
                if cell is not None and _seconds(now - since) <= window
            }
            cells = {}
            for name, cell in kept.items():
                selection = selections[name]
                cells |= {selection.labels[0]: cell} if selection.single else dict(cell)
            names = tuple(name for name in selections if name in kept)
            yield now, self._predict_cells(cells), names


def _read_event(event, selections, label):
    """Check one event; return its time, modality and cell."""
    if not isinstance(event, tuple | list) or len(event) != 3:
        raise TypeError(f"{label} is {event!r:.80}; expected (time, modality, cell).")
    time, name, cell = event
    if name not in selections:
        raise ValueError(
            f"{label} has the modality {name!r}; expected one of {list(selections)}."
            f"{closest(name, selections)}"
        )
    if isinstance(time, np.datetime64) or not isinstance(time, Real):
        try:
            if isinstance(time, str):  # "10:00" would be today
                raise TypeError("a str")
            time = pd.Timestamp(time)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"{label} has the time {time!r}; expected seconds or a datetime."
            ) from error
    if pd.isna(time) or (isinstance(time, Real) and not np.isfinite(time)):
        raise ValueError(f"{label} has the time {time}; expected a known time.")
    selection = selections[name]
    if not selection.single and cell is not None:
        has = list(cell) if isinstance(cell, dict) else f"a {type(cell).__name__}"
        if not isinstance(cell, dict) or set(cell) != set(selection.labels):
            raise ValueError(
                f"{label}, modality {name!r}, has {has}; expected a dict of the columns "
                f"{list(selection.labels)}."
            )
    return time, name, None if is_absent(cell) else cell


def _later(now, time, label):
    try:
        return max(now, time)
    except TypeError as error:
        raise TypeError(
            f"{label} has the time {time!r}, an earlier event {now!r}; expected times of one kind, "
            "and datetimes all with or all without a time zone."
        ) from error


def _seconds(difference):
    return difference.total_seconds() if hasattr(difference, "total_seconds") else difference
