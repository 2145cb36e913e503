"""Prediction methods of joint fusion: from modalities to labels or numbers."""

import os
from collections.abc import Mapping
from numbers import Real

import numpy as np
import pandas as pd
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from sklearn_mmfusion._caching import open_memory
from sklearn_mmfusion._columns import refuse_absent_columns, select_for_predict, warn_empty_rows
from sklearn_mmfusion._skorch import check_finite
from sklearn_mmfusion._streams import StreamMixin
from sklearn_mmfusion._targets import decode, each_target, label, score_targets
from sklearn_mmfusion._torch import FusionInputs, place_fitted
from sklearn_mmfusion._validation import MULTITASK, as_numpy
from sklearn_mmfusion.containers import TensorArray
from sklearn_mmfusion.containers.column_input import readable_cells
from sklearn_mmfusion.containers.file_array import is_content
from sklearn_mmfusion.containers.sets import takes_sets
from sklearn_mmfusion.containers.storage import as_cell, is_absent
from sklearn_mmfusion.modules.fusion import NETWORK_FUSIONS
from sklearn_mmfusion.neural_network.joint_fusion.encoded_inputs import EncodedInputs, Recorder
from sklearn_mmfusion.neural_network.modality_parts import preparing


def _fusion_has_weights(estimator):
    spec = getattr(estimator, "_module_spec", None)
    cls = spec["fusion"] if spec else estimator._named_fusion()[0]
    if hasattr(cls, "weights"):
        return True
    weighing = [name for name, (cls, _) in NETWORK_FUSIONS.items() if hasattr(cls, "weights")]
    raise AttributeError(
        f"{type(estimator).__name__}: fusion={estimator.fusion!r} has no modality weights; only "
        f"{weighing} have them. `predict_modalities` returns the predictions of each modality."
    )


def _modalities_have_heads(estimator):
    if hasattr(estimator, "module_"):
        n_heads = len(estimator.module_.heads)
    else:
        n_heads = estimator.fusion == "logits" or estimator._objectives().get("auxiliary")
    if n_heads:
        return True
    raise AttributeError(
        f"{type(estimator).__name__}: the modalities have no heads. Set fusion='logits' or "
        "objectives={'auxiliary': 0.3} to add them."
    )


class PredictionMixin(StreamMixin):
    """Prediction methods of `JointFusionClassifier` and `JointFusionRegressor`."""

    def _encode(self, X, only=None):
        """Prepare X, or some of its modalities, for the network."""
        check_is_fitted(self)
        selected = select_for_predict(self, X, self._selections, only)
        inputs, memory = {}, open_memory(self.memory)
        for selection, (data, present) in zip(self._selections, selected, strict=True):
            name, part = selection.name, self._parts[selection.name]
            rows = np.flatnonzero(present)
            with preparing(name, part, selection, rows, type(self).__name__):
                inputs[name] = None if data is None else part.prepare(data, memory), present
        return FusionInputs(inputs)

    def _decoded(self, X):
        """Probabilities or numbers of each target; the prior for rows without any modality."""
        inputs = self._encoding(X)
        if isinstance(inputs, EncodedInputs):
            return self._decode(inputs, self._fused(inputs))
        return self._decode(inputs, self._outputs(self.module_, inputs))

    def _encode_once(self, X, only=None):
        """Run the encoders over all rows; `_fused` computes the rest of the network."""
        inputs, recorder = self._encode(X, only), Recorder(self.module_)
        places = self._outputs(recorder, inputs)
        return EncodedInputs.recorded(inputs, recorder, places)

    def _hide(self, inputs, names):
        return inputs.without(names)

    def _replace(self, inputs, others, names):
        return inputs.replaced(others, names)

    def _fused(self, inputs):
        """Outputs of the network for `EncodedInputs`."""
        device = place_fitted(self.module_, self.device, type(self).__name__)
        outputs = inputs.fuse(self.module_, device)
        check_finite(outputs, None, type(self).__name__)
        return outputs

    def _decoded_one(self, row):
        """The same for one row, given as a dict."""
        if not hasattr(self, "module_"):  # the check alone takes half as long as the network
            check_is_fitted(self)
        columns = getattr(self, "feature_names_in_", range(self.n_features_in_))
        inputs = read_row(row, columns, self._selections, self._parts, type(self).__name__)
        return self._decode(inputs, self._row_outputs(inputs))

    def _decode(self, inputs, outputs):
        empty = warn_empty_rows(
            inputs.mask.T,
            type(self).__name__,
            "they get the class prior or the mean target",
        )
        if self._table_share is not None:
            outputs = self._table_share.mix(inputs, outputs)
        decoded = decode(self._target, self._tempered(outputs), self._fitted_loss)
        for values, prior in zip(decoded, self._priors, strict=True):
            values[empty] = prior
        return decoded

    def _tempered(self, outputs):
        """Outputs, divided by a temperature if there is one."""
        return outputs

    def _labels(self, decoded):
        """Labels or numbers of each target."""
        pairs = zip(each_target(self._target), decoded, strict=True)
        return [label(single, values) for single, values in pairs]

    def _predict(self, X):
        """Labels or numbers; a frame for several targets."""
        predictions = self._labels(self._decoded(X))
        if self._target.kind != MULTITASK:
            return predictions[0]
        index = X.index if isinstance(X, pd.DataFrame) else None
        return pd.DataFrame(self._by_target(predictions), index=index)

    def predict_one(self, row):
        """Predict one row without building a frame, for real-time use.

        Parameters
        ----------
        row : dict of {str or int: cell}
            Cells (arrays, texts, numbers, paths) by column name of `fit`, or by position if the
            columns had no names. A modality of one column is absent if its cell is left out, None
            or NA; a table is absent if all its cells are left out, and only some of them is a
            ValueError: None or NA marks an unknown value. Waveforms must have the sample rate of
            the column in `fit`. Paths are used as given, without that column's root.

        Returns
        -------
        y : label or number
            An array for multilabel or several outputs; a dict by name for several targets.
        """
        predictions = self._labels(self._decoded_one(row))
        return self._by_target([prediction[0] for prediction in predictions])

    _predict_cells = predict_one  # of a stream

    def _by_target(self, values):
        """Return the only target's values, or a dict by name for several targets."""
        if self._target.kind != MULTITASK:
            return values[0]
        return dict(zip(self._target.targets, values, strict=True))

    def score(self, X, y, sample_weight=None):
        """Score predictions: accuracy for classes, R2 for numbers, the mean over several targets.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns)
            The modalities, as in `fit`.
        y : array-like of shape (n_samples,) or (n_samples, n_targets), or DataFrame
            True values. With several targets, unknown (NA) values are ignored.
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        score : float
        """
        check_is_fitted(self)
        if self._target.kind != MULTITASK:
            return super().score(X, y, sample_weight)
        return score_targets(
            y, self.predict(X), self._target.targets, type(self).__name__, sample_weight
        )

    # ------------------------------------------------------------------------------ modalities

    @available_if(_fusion_has_weights)
    def modality_weights(self, X):
        """Compute the weight of each modality in the fused features.

        Available for the fusions "weighted", "gated", "attention" and "graph" and for custom
        classes with a ``weights`` method. For "attention" and "graph" these are the attention
        weights of the last round; each modality's own features, which the fusion adds, are not
        included. The weights measure what the fusion passes on, not how much a prediction depends
        on a modality; for that, use :func:`~sklearn_mmfusion.inspection.modality_importance`.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns)
            The modalities, as in `fit`.

        Returns
        -------
        weights : DataFrame of shape (n_samples, n_modalities)
            Rows sum to one. Absent modalities have weight 0; rows without any modality are all 0.
        """
        inputs = self._encode(X)  # first: raises if nothing is fitted
        weights = self._outputs(self.module_, inputs, method="weights")
        index = X.index if isinstance(X, pd.DataFrame) else None
        return pd.DataFrame(weights.astype(np.float64), columns=list(self._parts), index=index)

    @available_if(_modalities_have_heads)
    def predict_modalities(self, X):
        """Predict from each modality alone, with its own head.

        Requires fusion "logits" or the objective "auxiliary". The entropy of the probabilities
        measures the uncertainty of each modality.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns)
            The modalities, as in `fit`.

        Returns
        -------
        predictions : dict of str to ndarray of shape (n_samples, n_classes) or (n_samples, n)
            Probabilities, or numbers in the units of `y`, by modality; rows are NaN where the
            modality is absent. For several targets, each value is a dict by target.
        """
        inputs = self._encode(X)
        outputs = self._outputs(self.module_, inputs, method="modality_outputs")
        predictions = {}
        for m, name in enumerate(self._parts):
            decoded = decode(self._target, outputs[:, m], self._fitted_loss)
            for values in decoded:
                values[~inputs.mask[:, m]] = np.nan
            predictions[name] = self._by_target(decoded)
        return predictions


# ------------------------------------------------------------------------------ one row


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
        unknown = [key for key in row if key not in columns]
        refuse_absent_columns(selections, row, unknown, f"{estimator_name}: the row")
    inputs = {}
    for selection, (name, part) in zip(selections, parts.items(), strict=True):
        with preparing(name, part, selection, np.zeros(1, dtype=int), estimator_name):
            data = _cell(row, selection, part)
            prepared = None if data is None else part.prepare(data)
        inputs[name] = prepared, np.array([data is not None])
    return FusionInputs(inputs)


def _cell(row, selection, part):
    """Data of this row as `select_rows` would return it for a frame; None if absent."""
    if not selection.single:
        if not any(label in row for label in selection.labels):
            return None
        cells = [row[label] for label in selection.labels]
        cells = [np.nan if is_absent(cell) else cell for cell in cells]
        of_array = not isinstance(selection.labels[0], str)
        if of_array or part.takes_arrays:
            numeric = all(isinstance(cell, Real) for cell in cells)
            return np.array([cells], dtype=None if numeric else object)
        return pd.DataFrame([cells], columns=list(selection.labels))
    cell = as_numpy(row.get(selection.labels[0]))
    if is_absent(cell):
        return None
    if part.wants_column and takes_sets(selection.reader):
        column = readable_cells(pd.Series([cell]), selection.reader)
        return None if column.isna().all() else column
    if part.wants_column and (isinstance(cell, str | os.PathLike) or is_content(cell)):
        return _text_or_file(cell, selection.reader)
    if isinstance(cell, Real) and part.wants_column:
        raise TypeError(
            f"column {selection.labels[0]!r} of the row is the number {cell!r}; expected a cell as "
            "in fit: an array, a text or the path of a file."
        )
    if part.wants_column and isinstance(cell, (list, tuple)):
        as_cell(cell)  # raises unless it is an array
    if part.wants_column and part.sample_rate is not None:
        return TensorArray([cell], sample_rate=part.sample_rate)
    if isinstance(cell, (str, Real)):
        return pd.Series([cell], name=selection.labels[0])
    if not part.wants_column:  # a transformer may scale its input in place
        return np.array(cell)[None]
    return np.asarray(cell)[None] if np.ndim(cell) != 1 else [cell]


def _text_or_file(cell, reader):
    """A cell as a column; None for an unreadable file that counts as absent."""
    column = [cell] if reader is None else readable_cells([cell], reader)
    return None if isinstance(column, pd.Series) and column.isna().all() else column
