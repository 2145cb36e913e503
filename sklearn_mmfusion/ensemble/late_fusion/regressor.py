"""Late fusion of regressors."""

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_mmfusion._shared_docs import document_parameters
from sklearn_mmfusion._sklearn import StrOptions, _fit_context
from sklearn_mmfusion._validation import all_or_nothing, as_numbers_of
from sklearn_mmfusion.ensemble import rules
from sklearn_mmfusion.ensemble.late_fusion.base import _LateFusion
from sklearn_mmfusion.ensemble.members import (
    Numbers,
    as_columns,
    has_deviation,
    has_head,
    is_prefit,
    last_step,
    with_requests,
)
from sklearn_mmfusion.ensemble.rules import NUMBER_RULES
from sklearn_mmfusion.neural_network import NeuralRegressor

MIN_VARIANCE = 1e-12  # lower limit of variances, as a share of the target's


@document_parameters("late")
class LateFusionRegressor(RegressorMixin, _LateFusion):
    """Predict numbers from each modality separately and join the predictions.

    The decision-level counterpart of a `FusionTransformer` and a regressor, from the same triples.
    An absent modality is left out of the rule; nothing is filled in for it.

    Parameters
    ----------
    estimators : list of (str, estimator, column) triples
        The name must be an identifier; it is used in ``set_params(name=...)`` and
        ``name__parameter``. The estimator is a regressor (any pipeline that ends in one), an
        encoder or another transformer (see `head`), ``"passthrough"`` (numbers, for the head) or
        ``"drop"``. The column is a string or an integer (one column: the modality is absent where
        the cell is NA), or a list of either, a slice, a
        boolean mask, or a callable that takes X and returns one of these (a table: the modality
        always counts as present, and NA is a missing value for an imputer).
    fusion : {"mean", "median", "inverse_variance", "stacking"}, default="mean"
        The rule that joins the predictions.

        - ``"mean"``: their weighted mean.
        - ``"median"``: their median.
        - ``"inverse_variance"``: their mean weighted by 1 / variance, as for independent normal
          errors [1]_. The variance of each row is the regressor's own if it has one (``predict(X,
          return_std=True)``, as in :class:`~sklearn.linear_model.BayesianRidge` and
          :class:`~sklearn.gaussian_process.GaussianProcessRegressor`), else its mean squared error
          on out-of-fold rows. Folds are fitted only if some regressor has none.
        - ``"stacking"``: `final_estimator` on out-of-fold predictions [2]_.
    weights : dict of {str: float}, "auto" or None, default=None
        Weight of each modality in ``"mean"``. Modalities that are not named have weight 1; None
        gives all weight 1. "auto" learns the weights by minimizing the squared error of
        out-of-fold predictions.
    head : regressor or None, default=None
        Predictor that follows an estimator that only transforms. With None, an encoder uses the
        head it is trained with (`predict_head`), and other transformers are followed by a
        :class:`NeuralRegressor`.
    final_estimator : regressor or None, default=None
        Regressor of ``"stacking"``; None is :class:`~sklearn.linear_model.RidgeCV` after a
        :class:`~sklearn.preprocessing.StandardScaler`.
    cv : int, splitter, iterable or None, default=None
        Folds for out-of-fold predictions, used by ``"stacking"``, ``"inverse_variance"`` and
        ``weights="auto"`` only. None means 5. Integers make folds that keep `groups` apart if these
        are given. Splits need not cover all rows.

    Attributes
    ----------
    target_mean_ : ndarray of shape (n_targets,)
        Mean of each target in training, weighted by sample weight: the prediction for a row that
        has no modality.
    estimators_ : list of estimators
        The fitted estimators, without dropped ones.
    named_estimators_ : :class:`~sklearn.utils.Bunch`
        The fitted estimators by name.
    weights_ : dict of {str: float}
        Weight of each modality.
    variances_ : dict of {str: ndarray of shape (n_targets,)}
        Mean squared error of each modality's out-of-fold predictions, with
        ``fusion="inverse_variance"`` (the variance of the target if no folds were needed).
    final_estimator_ : regressor
        The fitted final estimator, with ``fusion="stacking"``.
    n_features_in_ : int
        Number of columns of X in `fit`.
    feature_names_in_ : ndarray of str
        Names of the columns of X in `fit`, when all are strings.

    Raises
    ------
    ValueError
        If a column is not in the training X or has no present row there, or parameters contradict
        each other. Errors raised by an estimator carry a note that names its modality.
    TypeError
        If an estimator is neither a regressor nor a transformer, or if weights are given and it
        predicts but takes none.

    Warns
    -----
    UserWarning
        If rows have no modality at all (they get the mean target), a column seen in `fit` is absent
        from X (all its rows count as absent), or an estimator predicts NaN (the modality counts as
        absent in these rows).

    See Also
    --------
    LateFusionClassifier : The same for classes.
    FusionTransformer : Fuses features instead of predictions.
    sklearn.ensemble.VotingRegressor : Mean of regressors that share one X.

    Notes
    -----
    ``"stacking"`` fills in the mean target for an absent modality and appends an indicator column
    for each modality that was absent in `fit`. Encoders with ``target_type="auto"`` are fitted with
    ``target_type="continuous"``, or ``"continuous-multioutput"`` for several targets.

    `fit` passes `sample_weight` and `groups` to the estimators that take them; with metadata
    routing enabled, it follows their requests. Predictors must take weights; transformers may
    ignore them. Learned weights and variances use `sample_weight` too. A `FrozenEstimator` is not
    refitted, not even on folds: train it on other rows. If `fit` fails, the earlier fit is kept.

    Cost: one fit of each estimator, and one more per fold if out-of-fold predictions are
    needed.

    References
    ----------
    .. [1] Cochran (1954). "The combination of estimates from different experiments." Biometrics
       10(1). doi:10.2307/3001666
    .. [2] Wolpert (1992). "Stacked generalization." Neural Networks 5(2).
       doi:10.1016/S0893-6080(05)80023-1

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import BayesianRidge
    >>> from sklearn_mmfusion import LateFusionRegressor, multimodal_frame
    >>> rng = np.random.default_rng(0)
    >>> y = rng.normal(size=60)
    >>> X = multimodal_frame(
    ...     scale=(y + 0.1 * rng.normal(size=60))[:, None], ruler=(y + rng.normal(size=60))[:, None]
    ... )
    >>> regressor = LateFusionRegressor(
    ...     [("scale", BayesianRidge(), "scale"), ("ruler", BayesianRidge(), "ruler")],
    ...     fusion="inverse_variance",
    ... )
    >>> regressor.fit(X, y).score(X, y) > 0.98
    True
    """

    _parameter_constraints: dict = {
        **_LateFusion._parameter_constraints,
        "fusion": [StrOptions({*NUMBER_RULES, "inverse_variance", "stacking"})],
    }

    _empty_rows_get = "the mean target"

    def __init__(
        self,
        estimators,
        *,
        fusion="mean",
        weights=None,
        head=None,
        final_estimator=None,
        cv=None,
        n_jobs=None,
        memory=None,
        random_state=None,
        verbose=False,
    ):
        self.estimators = estimators
        self.fusion = fusion
        self.weights = weights
        self.head = head
        self.final_estimator = final_estimator
        self.cv = cv
        self.n_jobs = n_jobs
        self.memory = memory
        self.random_state = random_state
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, sample_weight=None, groups=None, **params):
        """Fit a regressor for each modality on the rows that have it, then the rule.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns)
            The modalities: a pandas or polars frame, or a 2-D array (of objects too).
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Numbers.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row, also in learned weights and calibration. Rows of weight zero are
            left out.
        groups : array-like of shape (n_samples,), default=None
            Rows of one group (speaker, patient) stay on one side of a split.
        **params : dict
            With metadata routing enabled, whatever the estimators request.

        Returns
        -------
        self : object
            Fitted regressor.
        """
        with all_or_nothing(self):
            return self._fit(X, y, {"sample_weight": sample_weight, "groups": groups, **params})

    def predict(self, X, return_std=False):
        """Predict numbers.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns)
            The modalities. In a DataFrame, columns are found by name; unknown ones are ignored.
            A modality whose columns X lacks counts as absent in all rows, with a warning. If X
            has unknown columns as well, or a part of a table only, that is a ValueError.
        return_std : bool, default=False
            Whether to also return the standard deviation of the joint prediction; with
            ``fusion="inverse_variance"`` only.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_targets), dtype=float64
            Predictions.
        y_std : ndarray of the same shape
            Standard deviations, only with `return_std`; that of the training target for a row
            without any modality.

        Raises
        ------
        ValueError
            If `return_std` is set and the rule has no standard deviation.
        """
        if return_std and getattr(self, "_rule", self.fusion) != "inverse_variance":
            raise ValueError(
                f"{type(self).__name__}(fusion={self.fusion!r}) has no standard deviation; "
                "return_std=True needs fusion='inverse_variance'."
            )
        outputs = self._encoding(X)
        if not return_std:
            return self._predict_outputs(*outputs)
        y, variance = self._pool(*outputs)
        return self._shaped(y), self._shaped(np.sqrt(variance))

    def _predict_outputs(self, outputs, mask):
        return self._shaped(self._pool(outputs, mask)[0])

    # ------------------------------------------------------------------------------ target

    def _read_target(self, y):
        y = as_numbers_of(y, type(self).__name__)
        self._flat = y.ndim == 1
        return y, y.reshape(len(y), -1)

    def _learn_prior(self, target, weight):
        self.target_mean_ = np.average(target, axis=0, weights=weight)
        spread = np.average((target - self.target_mean_) ** 2, axis=0, weights=weight)
        self._target_variance = np.where(spread > 0, spread, 1.0)

    def _prior_output(self):
        return self._with_deviation(self.target_mean_)

    def _with_deviation(self, mean):
        """Append the standard deviation of the target if the rule uses deviations."""
        if self._rule != "inverse_variance":
            return mean
        return np.stack([mean, np.sqrt(self._target_variance)], axis=-1)

    def _is_finite(self, output):
        numbers = output[..., 0] if self._rule == "inverse_variance" else output
        return np.isfinite(numbers).all(axis=1)

    def _learnable(self, y):
        return len(y) > 1

    # ------------------------------------------------------------------------------ members

    def _default_head(self):
        return with_requests(NeuralRegressor(), "sample_weight", "groups")

    def _default_final(self):
        # without a scaler, the penalty would depend on the unit of y
        steps = StandardScaler(), RidgeCV()
        return make_pipeline(*(with_requests(step, "sample_weight") for step in steps))

    def _auto_params(self, y):
        return {"target_type": "continuous" if y.ndim == 1 else "continuous-multioutput"}

    def _output(self):
        return Numbers(deviation=self._rule == "inverse_variance")

    def _check_member(self, name, member, *, fitted=False):
        """Raise if an encoder was trained on classes."""
        known = fitted or is_prefit(member)
        if known and has_head(member) and hasattr(last_step(member), "classes_"):
            remedy = "Fit it on numbers." if is_prefit(member) else "Set target_type='auto'."
            raise ValueError(
                f"{type(self).__name__}: modality {name!r} has {member!r}, an encoder trained on "
                f"classes; expected one trained on numbers. {remedy}"
            )

    # ------------------------------------------------------------------------------ rule

    def _check_parameters(self):
        self._check_weights(("mean",), ("mean",))

    def _needs_folds(self, members):
        if self.fusion == "inverse_variance":
            return not all(has_deviation(member) for member in members)
        return isinstance(self.weights, str) or self.fusion == "stacking"

    def _learn_rule(self, outputs, mask, y, target, weight, params):
        for name in ("final_estimator_", "variances_"):
            vars(self).pop(name, None)
        learn = None
        if isinstance(self.weights, str):

            def learn(n):
                return rules.fit_weights(rules.mean, outputs, mask, target, weight, n)

        self.weights_ = self._weights(learn)
        if self.fusion == "inverse_variance":
            self.variances_ = {
                selection.name: self._mean_squared_error(
                    outputs[m, :, :, 0], mask[m], target, weight
                )
                for m, selection in enumerate(self._selections)
            }
        if self.fusion == "stacking":
            self._fit_final(outputs, mask, y, params)

    def _mean_squared_error(self, outputs, mask, target, weight):
        """Return a modality's out-of-fold error; the target's variance if it has no rows."""
        if not weight[mask].any():
            return self._target_variance
        error = np.average((outputs - target)[mask] ** 2, axis=0, weights=weight[mask])
        return np.maximum(error, MIN_VARIANCE * self._target_variance)

    def _pool(self, outputs, mask):
        """Return joint predictions and variances (or None), both (n_samples, n_targets)."""
        variance = None
        if self._rule == "inverse_variance":
            y, variance = rules.inverse_variance(outputs[..., 0], mask, self._precision(outputs))
        elif self._rule == "stacking":
            y = as_columns(self.final_estimator_.predict(self._stack(outputs, mask)))
        else:
            y = NUMBER_RULES[self._rule](outputs, mask, self._weight_array())
        nothing = ~mask[self._weight_array() > 0].any(axis=0)
        y[nothing] = self.target_mean_
        if variance is not None:
            variance[nothing] = self._target_variance
        return y, variance

    def _precision(self, outputs):
        known = np.stack([self.variances_[selection.name] for selection in self._selections])
        variance = np.maximum(outputs[..., 1] ** 2, MIN_VARIANCE * self._target_variance)
        return 1 / np.where(np.isnan(variance), known[:, None], variance)

    def _shaped(self, values):
        return values[:, 0] if self._flat else values

    # ------------------------------------------------------------------------------ stacking

    def _columns(self, outputs):
        return outputs[..., 0] if self._rule == "inverse_variance" else outputs

    def _column_names(self):
        n_targets = len(self.target_mean_)
        return ["prediction"] if n_targets == 1 else [f"prediction{i}" for i in range(n_targets)]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        # encoders accept several targets, though their tags are not those of regressors
        tags.target_tags.multi_output = all(
            t.target_tags.multi_output for t in self._member_tags() if t.regressor_tags
        )
        return tags
