"""The parts of a joint network, one per triple: an encoder, or a transformer's features.

All parts have ``alone``, the transformer that is fitted by itself (or None); ``fit_inputs(X, y,
params, memory, label)``, which learns what preparation needs and returns the prepared inputs;
``prepare(X, memory)``; and ``build_module()``. X is the data of `select_rows`; fits and
inputs are cached in `memory`, unless it is None.
"""

from functools import partial

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array

from sklearn_mmfusion._caching import CachedChild
from sklearn_mmfusion._torch import DenseRows, Inputs, LazyRows
from sklearn_mmfusion._triples import (
    as_transformer,
    is_encoder,
    is_passthrough,
    read,
    wants_column,
)
from sklearn_mmfusion.modules.perceptron import FeatureNetwork
from sklearn_mmfusion.preprocessing.scaling import mean_and_scale


def as_part(estimator, width, dropout):
    """The part of a joint network for an (unfitted) estimator of a triple.

    Encoders, and pipelines that end in one, are trained with the network; other transformers join
    as features, frozen encoders among them.
    """
    last = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
    if not isinstance(last, FrozenEstimator) and is_encoder(last):
        return EncoderPart(estimator)
    return FeaturePart(as_transformer(estimator), width, dropout)


def preparing_note(name, estimator_name):
    """Note on errors raised by a part of the network."""
    return (
        f"Raised while preparing modality {name!r} of {estimator_name}. Rows are counted among "
        "those where the modality is present."
    )


class EncoderPart:
    """An encoder, trained with the network, and the steps that come before it in a pipeline."""

    takes_arrays = False  # a table of named columns is a frame to it

    def __init__(self, estimator):
        self.wants_column = wants_column(estimator)
        steps = estimator.steps if isinstance(estimator, Pipeline) else [("", estimator)]
        self.alone = estimator[:-1] if len(steps) > 1 else None
        self.encoder = steps[-1][1]
        self.fit_keys = None, None  # of both

    def fit_inputs(self, X, y, params, memory, label):
        self.sample_rate = sample_rate(X)
        alone_key = None
        if self.alone is not None:
            self.alone, X, alone_key = fit_alone(self.alone, X, y, params, memory, label)
        child = CachedChild(self.encoder, memory, label)
        inputs = child.fit_by(partial(fit_prepare, y=y), X)
        self.encoder = child.estimator
        self.fit_keys = alone_key, None if inputs is None else child.key
        return prepare(self.encoder, read(self.encoder, X)) if inputs is None else inputs

    def prepare(self, X, memory=None):
        alone_key, key = self.fit_keys
        if self.alone is not None:
            X = CachedChild(self.alone, memory, key=alone_key).transform(X)
        # inputs that are read from the column when a batch is drawn are not stored
        return CachedChild(self.encoder, memory if key else None, key=key).apply(prepare, X)

    def build_module(self):
        return self.encoder.build_module()


def sample_rate(X):
    """Sample rate of a column that has one, in Hz; else None."""
    return getattr(getattr(X, "dtype", None), "sample_rate", None)


def as_small(rows):
    """An array; of floats, one of float32, as the network computes."""
    rows = np.asarray(rows)
    return rows.astype(np.float32, copy=False) if rows.dtype.kind == "f" else rows


def as_inputs(prepared):
    """The inputs an encoder has prepared; those of a custom one may be a dict of arrays."""
    if isinstance(prepared, dict):
        return Inputs(**{key: DenseRows(as_small(rows)) for key, rows in prepared.items()})
    return prepared


def is_lazy(inputs):
    """Whether inputs are read from the column when a batch is drawn."""
    return any(isinstance(source, LazyRows) for source in inputs.sources.values())


def fit_prepare(encoder, X, y):
    """Fit an encoder; inputs of the same rows, None if they are read when a batch is drawn."""
    inputs = as_inputs(encoder.fit_prepare(X, y))
    return None if is_lazy(inputs) else inputs


def prepare(encoder, X):
    """Prepare a column by a fitted encoder."""
    return as_inputs(encoder.prepare(X))


def fit_alone(transformer, X, y, params, memory, label):
    """Fit a transformer with its fit parameters (by method), and transform the same rows.

    Returns
    -------
    transformer, features, key
        The key of a `CachedChild`.
    """
    child = CachedChild(transformer, memory, label)
    features = child.fit_transform(X, y, params)
    return child.estimator, features, child.key


class FeaturePart:
    """A transformer, fitted by itself: its features, standardized, behind one embedding."""

    def __init__(self, transformer, width, dropout):
        self.wants_column = wants_column(transformer)
        self.takes_arrays = is_passthrough(transformer)
        self.alone = transformer
        self.arguments = {"out_features": width, "dropout": dropout}
        self.fit_key = None

    def fit_inputs(self, X, y, params, memory, label):
        self.sample_rate = sample_rate(X)
        self.alone, features, self.fit_key = fit_alone(self.alone, X, y, params, memory, label)
        features = self._check(features)
        self.mean, self.scale = mean_and_scale(features)
        return Inputs(features=DenseRows(features))

    def prepare(self, X, memory=None):
        features = CachedChild(self.alone, memory, key=self.fit_key).transform(X)
        return Inputs(features=DenseRows(self._check(features)))

    def build_module(self):
        module = FeatureNetwork(len(self.mean), **self.arguments)
        module.set_scale(torch.tensor(self.mean), torch.tensor(self.scale))
        return module

    def _check(self, features):
        try:
            return check_array(features, accept_sparse="csr", dtype="float32", input_name="X")
        except ValueError as error:
            error.add_note(
                "Missing values in a table need an imputer: make_pipeline(SimpleImputer(), ...)."
            )
            raise
