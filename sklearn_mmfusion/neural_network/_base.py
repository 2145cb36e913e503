"""A multilayer perceptron on features: what classifier and regressor share."""

import math
from numbers import Real

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from sklearn_mmfusion._sklearn import (
    Interval,
    _check_feature_names,
    _fit_context,
    validate_data,
)
from sklearn_mmfusion._skorch import TRAINING_CONSTRAINTS, NetworkMixin, check_module
from sklearn_mmfusion._torch import DenseRows, Inputs, predict_row
from sklearn_mmfusion._validation import (
    all_or_nothing,
    check_groups,
    check_weight,
    check_y,
    combine_weights,
    encode_target,
)
from sklearn_mmfusion.modules.network import MLP
from sklearn_mmfusion.neural_network._scale import mean_and_scale

# What the linear path is started on at the most: more rows would not change it much.
LINEAR_ROWS, LINEAR_CELLS = 20_000, 20_000_000


class _NeuralEstimator(NetworkMixin, BaseEstimator):
    """A multilayer perceptron on 2-D features: what classifier and regressor share."""

    # Starting at the linear solution keeps gradients small: with 1.0, accuracy and log loss were
    # equal to four decimals on folds of digits3 and leaf99, and to look costs a sixth of a step.
    _max_norm = math.inf

    _parameter_constraints = {
        **TRAINING_CONSTRAINTS,
        "hidden_layer_sizes": [tuple, list],
        "alpha": [Interval(Real, 0, None, closed="left")],
    }

    @_fit_context(prefer_skip_nested_validation=True)
    @all_or_nothing
    def fit(self, X, y, sample_weight=None, groups=None):
        """Train the network.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Features; sparse rows are made dense one batch at a time.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Target.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row in the loss. Rows of weight zero are left out.
        groups : array-like of shape (n_samples,), default=None
            Rows of one group stay on one side of the validation split (`early_stopping`).

        Returns
        -------
        self : object
        """
        owner = type(self).__name__
        check_module(self)
        warm = self.warm_start and hasattr(self, "module_")  # its scales and widths stay
        accepted = {"accept_sparse": "csr", "dtype": np.float32, "ensure_min_samples": 2}
        X = validate_data(self, X, reset=not warm, **accepted)
        y = check_y(y, X.shape[0], owner=owner)
        groups = check_groups(groups, X.shape[0], owner=owner)
        weight = check_weight(sample_weight, X.shape[0], owner=owner)
        kept = slice(None) if weight is None else weight > 0
        target = encode_target(
            y, X.shape[0], owner=owner, target_type=self._target_type(y), rows=kept
        )
        class_weight = getattr(self, "class_weight", None)
        weight = combine_weights(weight, class_weight, y, owner=owner, kind=target.kind)
        if not warm:
            self.mean_, self.scale_ = mean_and_scale(X, kept)
        self._n_outputs = target.n_outputs
        self._keep_target(target, y)
        self._train(Inputs(features=DenseRows(X)), target, weight, groups)
        return self

    def _describe_module(self):
        own = {"hidden_layer_sizes": tuple(self.hidden_layer_sizes), "dropout": self.dropout}
        arguments = {"in_features": self.n_features_in_, **({} if self.module else own)}
        return self.module or MLP, {**arguments, **(self.module_params or {})}

    def _build_module(self, n_outputs):
        network, arguments = self._module_spec
        module = network(n_outputs=n_outputs, **arguments)
        if hasattr(module, "set_scale"):
            module.set_scale(torch.tensor(self.mean_), torch.tensor(self.scale_))
        return module

    def _start(self, module, target, parts, params, device, seed):
        if self.module is not None:
            return
        part = parts[0]
        prefix = "criterion__"
        options = {k.removeprefix(prefix): v for k, v in params.items() if k.startswith(prefix)}
        n_rows = min(LINEAR_ROWS, max(1000, LINEAR_CELLS // self.n_features_in_))
        rows = torch.randperm(len(part))[:n_rows].sort().values.numpy()
        batch = part.batch(rows, device)
        criterion = params["criterion"](**options)
        module.fit_linear(batch[0]["features"], batch[1], batch.weight, criterion, self.alpha)

    def _raw_outputs(self, X):
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=np.float32, reset=False)
        return self._outputs(self.module_, Inputs(features=DenseRows(X))).astype(np.float64)

    def _decoded(self, X):
        """Probabilities, or numbers in the units of the target."""
        outputs = self._raw_outputs(X)  # first: it says if nothing is fitted
        return self._target.decode(outputs, self._fitted_loss)

    def _raw_output(self, row):
        """Outputs for one row of features, of shape (1, n_outputs)."""
        if not hasattr(self, "module_"):  # the check itself takes half as long as the network
            check_is_fitted(self)
        if isinstance(row, pd.Series):
            _check_feature_names(self, row.to_frame().T, reset=False)
        try:
            row = np.array(row, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise type(error)(
                f"{type(self).__name__}: the row is a {type(row).__name__} that is no array of "
                f"{self.n_features_in_} numbers ({error}); expected one number a feature."
            ) from error
        if row.shape != (self.n_features_in_,):
            raise ValueError(
                f"{type(self).__name__}: the row has shape {row.shape}; expected "
                f"({self.n_features_in_},), one number a feature. Use predict for several rows."
            )
        if not np.isfinite(row).all():
            feature = int(np.argmin(np.isfinite(row)))
            raise ValueError(
                f"{type(self).__name__}: feature {feature} of the row is {row[feature]}; expected "
                "finite numbers. Impute it first."
            )
        inputs = Inputs(features=DenseRows(row[None]))
        return predict_row(self.module_, inputs).astype(np.float64)
