"""The parts of a joint network, one per triple: an encoder, or a transformer's features.

Every part has:

- ``alone``: the transformer that is fitted separately, before the network, or None;
- ``fitted``: the fitted estimator of the triple;
- ``fit_inputs(X, y, params, memory, label)``: fit the preparation and return the prepared inputs;
- ``prepare(X, memory, training=False)``: prepare new rows; True if they will be trained on;
- ``build_module()``: make the untrained module;
- ``build_augmentation()``: make what changes its batches in training, or None.

X is the data returned by `select_rows`. Fits and inputs are cached in `memory` unless it is None.
"""

from contextlib import contextmanager
from copy import deepcopy
from functools import partial

import numpy as np
import pandas as pd
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from sklearn_mmfusion._caching import CachedChild
from sklearn_mmfusion._columns import check_output, output_columns
from sklearn_mmfusion._torch import (
    DenseRows,
    Inputs,
    LazyRaggedRows,
    LazyRows,
    surely_finite,
)
from sklearn_mmfusion._triples import (
    as_transformer,
    columns_hint,
    is_encoder,
    is_passthrough,
    read,
    wants_column,
)
from sklearn_mmfusion._validation import add_error_note, number_rows
from sklearn_mmfusion.containers.conversion import as_column, cells_of
from sklearn_mmfusion.modules.perceptron import FeatureNetwork
from sklearn_mmfusion.preprocessing.scaling import FeatureScale, float_dtype


def as_part(estimator, width, dropout, adopt=False):
    """Make the part of a joint network for an (unfitted) estimator of a triple.

    Encoders, and pipelines that end in one, are trained with the network. The outputs of other
    transformers, including frozen encoders, enter it as features. With `adopt`, the network trains
    copies of frozen encoders.
    """
    last = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
    is_frozen = isinstance(last, FrozenEstimator)
    if is_frozen and adopt:
        inner = last.estimator
        if isinstance(inner, Pipeline) and is_encoder(inner.steps[-1][1]):
            raise ValueError(
                "pretrain='fitted', but the FrozenEstimator holds a whole Pipeline that ends in an "
                "encoder; expected one around the encoder alone: make_pipeline(cleaner, "
                "FrozenEstimator(encoder))."
            )
        if is_encoder(inner):
            return AdoptedPart(estimator)
    if not is_frozen and is_encoder(last):
        return EncoderPart(estimator)
    return FeaturePart(as_transformer(estimator), width, dropout)


@contextmanager
def preparing(name, part, selection, rows, estimator_name):
    """Add a note to errors raised by a part of the network, and number their rows as in X."""
    hint = "" if isinstance(part, EncoderPart) else columns_hint(part.alone, selection)
    note = f"Raised while preparing modality {name!r} of {estimator_name}.{hint}"
    with number_rows(rows), add_error_note(note):
        yield


class EncoderPart:
    """An encoder, trained with the network, and the pipeline steps before it."""

    takes_arrays = False  # it reads a table of named columns as a frame

    def __init__(self, estimator):
        self.wants_column = wants_column(estimator)
        steps = estimator.steps if isinstance(estimator, Pipeline) else [("", estimator)]
        self.alone = estimator[:-1] if len(steps) > 1 else None
        self.last_name, self.encoder = steps[-1]
        self.fit_keys = None, None  # of `alone` and the encoder

    def fit_inputs(self, X, y, params, memory, label):
        self.sample_rate = sample_rate(X)
        alone_key = None
        if self.alone is not None:
            self.alone, X, alone_key = fit_alone(self.alone, X, y, params, memory, label)
            refuse_absent(X, self.alone)
        inputs, key = self._fit_encoder(X, y, memory, label)
        self.fit_keys = alone_key, key
        return inputs

    def _fit_encoder(self, X, y, memory, label):
        child = CachedChild(self.encoder, memory, label)
        inputs = child.fit_by(partial(fit_prepare, y=y), X)
        self.encoder = child.estimator
        if inputs is None:
            return prepare(self.encoder, read(self.encoder, X)), None
        return inputs, child.key

    def prepare(self, X, memory=None, training=False):
        alone_key, key = self.fit_keys
        if self.alone is not None:
            X = CachedChild(self.alone, memory, key=alone_key).transform(X)
            refuse_absent(X, self.alone)
        # lazy inputs, read from the column batch by batch, are not stored
        function = prepare_copies if training else prepare
        return CachedChild(self.encoder, memory if key else None, key=key).apply(function, X)

    def build_module(self):
        return self.encoder.build_module()

    def build_augmentation(self):
        build = getattr(self.encoder, "build_augmentation", None)
        return None if build is None else build()

    @property
    def fitted(self):
        if self.alone is None:
            return self.encoder
        return Pipeline([*self.alone.steps, (self.last_name, self.encoder)])


def refuse_absent(X, alone):
    """Raise if the steps before an encoder, such as a cleaner, have made cells absent."""
    cells = cells_of(X)  # of frames too
    absent = [] if cells is None else np.flatnonzero(pd.isna(as_column(cells, copy=False)))
    if len(absent):
        raise ValueError(
            f"{alone[-1] if isinstance(alone, Pipeline) else alone} before the encoder made "
            f"{len(absent)} of {len(X)} cells absent, the first in row {absent[0]}; expected none: "
            "a joint network needs to know absent cells before. Clean the column of X first, as in "
            "X['image'] = ImageCleaner().fit_transform(X['image'])."
        )


class AdoptedPart(EncoderPart):
    """A fitted encoder: a copy of its network is trained further, the encoder itself is not."""

    def __init__(self, estimator):
        super().__init__(estimator)
        self.encoder = self.encoder.estimator
        check_is_fitted(self.encoder)
        if not hasattr(getattr(self.encoder, "module_", None), "encoder"):
            raise TypeError(
                f"pretrain='fitted' needs the attribute module_.encoder, the trained network of "
                f"build_module; {type(self.encoder).__name__} has none. Set pretrain=False to use "
                "its features as they are."
            )

    def _fit_encoder(self, X, y, memory, label):
        # A later fit of the original must not change the vocabulary of this network.
        self.encoder = deepcopy(self.encoder)
        return prepare_copies(self.encoder, read(self.encoder, X)), None

    def build_module(self):
        module = self.encoder.build_module()
        module.load_state_dict(self.encoder.module_.encoder.state_dict())
        return module


def sample_rate(X):
    """Sample rate of a column in Hz, or None."""
    return getattr(getattr(X, "dtype", None), "sample_rate", None)


def as_small(rows):
    """Convert to an array, floats to float32, the dtype of the network."""
    rows = np.asarray(rows)
    return rows.astype(np.float32, copy=False) if rows.dtype.kind == "f" else rows


def as_inputs(prepared):
    """Convert what an encoder prepared to `Inputs`; custom encoders may return a dict of arrays."""
    if isinstance(prepared, dict):
        return Inputs(**{key: DenseRows(as_small(rows)) for key, rows in prepared.items()})
    return prepared


def is_lazy(inputs):
    """Whether inputs are read from the column batch by batch."""
    lazy = LazyRows | LazyRaggedRows
    return any(isinstance(source, lazy) for source in inputs.sources.values())


def fit_prepare(encoder, X, y):
    """Fit an encoder and return the inputs of its training rows, or None if they are lazy."""
    inputs = as_inputs(encoder.fit_prepare(X, y))
    return None if is_lazy(inputs) else inputs


def prepare(encoder, X):
    """Prepare a column with a fitted encoder."""
    return as_inputs(encoder.prepare(X))


def prepare_copies(encoder, X):
    """Prepare a column for training, with corrupted copies of its cells if the encoder has any."""
    return as_inputs(getattr(encoder, "prepare_copies", encoder.prepare)(X))


def fit_alone(transformer, X, y, params, memory, label):
    """Fit a transformer with its fit parameters (by method) and transform the same rows.

    Returns
    -------
    transformer, features, key
        The key of a `CachedChild`.
    """
    child = CachedChild(transformer, memory, label)
    features = child.fit_transform(X, y, params)
    return child.estimator, features, child.key


class FeaturePart:
    """A separately fitted transformer: its features are standardized, then embedded."""

    def __init__(self, transformer, width, dropout):
        self.wants_column = wants_column(transformer)
        self.takes_arrays = is_passthrough(transformer)
        self.alone = transformer
        self.arguments = {"out_features": width, "dropout": dropout}
        self.fit_key = None

    def fit_inputs(self, X, y, params, memory, label):
        self.sample_rate = sample_rate(X)
        self.alone, features, self.fit_key = fit_alone(self.alone, X, y, params, memory, label)
        self.columns = output_columns(features)
        features = self._check(features)
        self.scale = FeatureScale.fit(features)
        return self._inputs(features)

    def prepare(self, X, memory=None, training=False):
        features = CachedChild(self.alone, memory, key=self.fit_key).transform(X)
        checked = self._check(features)
        fitted = len(self.scale.mean), self.columns
        check_output(features, *fitted, type(self.alone).__name__)
        return self._inputs(checked)

    def build_module(self):
        mean, scale = map(torch.tensor, self.scale.of_network)
        module = FeatureNetwork(len(mean), **self.arguments)
        module.set_scale(mean, scale)
        return module

    def build_augmentation(self):
        return None

    @property
    def fitted(self):
        return self.alone

    def _inputs(self, features):
        return Inputs(features=DenseRows(self.scale.cast(features)))

    def _check(self, features):
        try:
            checks = {"accept_sparse": "csr", "dtype": float_dtype(features), "input_name": "X"}
            return check_array(features, ensure_all_finite=not surely_finite(features), **checks)
        except ValueError as error:
            error.add_note(
                "Missing values in a table need an imputer: make_pipeline(SimpleImputer(), ...)."
            )
            raise
