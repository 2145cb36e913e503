"""A multilayer perceptron on features: classifier and regressor."""

import math
from dataclasses import replace
from numbers import Real

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted
from torch.optim import AdamW

from sklearn_mmfusion._losses import evidence_of, losses_for
from sklearn_mmfusion._shared_docs import document_parameters
from sklearn_mmfusion._sklearn import (
    Interval,
    StrOptions,
    _check_feature_names,
    _fit_context,
    validate_data,
)
from sklearn_mmfusion._skorch import (
    TRAINING_CONSTRAINTS,
    FittedNetworkMixin,
    Trainer,
    check_module,
    has_evidence,
    train_part,
    training_config,
)
from sklearn_mmfusion._targets import encode_part, encode_target, type_of_y
from sklearn_mmfusion._torch import (
    DenseRows,
    Inputs,
    isolated_rng,
    predict_batches,
    surely_finite,
)
from sklearn_mmfusion._validation import (
    CLASSIFICATION,
    MULTILABEL,
    REGRESSION,
    all_or_nothing,
    as_numpy,
    check_groups,
    check_real,
    check_weight,
    check_y,
    combine_weights,
    combine_weights_of_part,
)
from sklearn_mmfusion.modules.perceptron import MLP
from sklearn_mmfusion.neural_network.linear_path import (
    ALPHAS,
    START_ALPHA,
    LinearModel,
    choose_alpha,
    choose_share,
    held_out,
)
from sklearn_mmfusion.preprocessing.scaling import FeatureScale, float_dtype


def set_linear(module, solution, share=1.0):
    """Give a solution of a `LinearModel` its share of the outputs of an `MLP`, in place."""
    W, b = map(torch.from_numpy, solution)
    module.set_linear(W.T, b, share)


class _NeuralEstimator(FittedNetworkMixin, BaseEstimator):
    """A multilayer perceptron on 2-D features: base of classifier and regressor."""

    _parameter_constraints = {
        **TRAINING_CONSTRAINTS,
        "hidden_layer_sizes": [tuple, list],
        "standardize": ["boolean"],
        "linear_alpha": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "linear_share": [Interval(Real, 0, 1, closed="both"), StrOptions({"auto"})],
    }

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, groups=None):
        """Train the network.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Features. Sparse rows are converted to dense ones batch by batch.
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
        with all_or_nothing(self):
            estimator_name = type(self).__name__
            warm = self.warm_start and hasattr(self, "module_")  # keeps its scales and widths
            X, y, weight, groups = self._check_rows(X, y, sample_weight, groups, warm)
            kind = self._target_type(y)
            target = encode_target(y, estimator_name=estimator_name, target_type=kind)
            class_weight = getattr(self, "class_weight", None)
            weight = combine_weights(
                weight, class_weight, y, estimator_name=estimator_name, kind=target.kind
            )
            X, weights, config = self._set_up(X, y, target, warm)
            data = Inputs(features=DenseRows(X)), target, weight, groups
            if self.module or weights is not None:
                result = Trainer(config).train(self._build_module, *data, weights)
            else:
                result = self._train_with_linear(config, X, *data)
            self.module_, self.history_, self.n_iter_ = result
            vars(self).pop("_optimizer_state", None)  # of `partial_fit`
        return self

    def _partial_fit(self, X, y, sample_weight, classes=None):
        with all_or_nothing(self):
            named, goes_on = {"estimator_name": type(self).__name__}, hasattr(self, "module_")
            X, y, weight, _ = self._check_rows(X, y, sample_weight, None, goes_on)
            known, kind = self._target if goes_on else None, self._target_type(y)
            if kind == "auto" and known is None and classes is None and type_of_y(y) != MULTILABEL:
                raise ValueError(
                    f"{type(self).__name__}: classes must be passed on the first call to "
                    "partial_fit, because its rows may lack some. Pass the labels of all calls, "
                    "such as np.unique(all_y)."
                )
            target = encode_part(y, classes, known, target_type=kind, **named)
            class_weight = getattr(self, "class_weight", None)
            weight = combine_weights_of_part(
                weight, class_weight, y, target.classes, kind=target.kind, **named
            )
            X, weights, config = self._set_up(X, y, target, goes_on)
            # The first call starts with a linear path of zero. From the linear solution of its
            # rows, one pass over scikit-learn's digits in 20 parts was hardly better (accuracy .898
            # against .886), and much worse if these rows lacked classes (.49 against .79).
            inputs = Inputs(features=DenseRows(X))
            train_part(self, config, inputs, target, weight, weights)
        return self

    def _check_rows(self, X, y, sample_weight, groups, warm):
        """Check the arguments of `fit`; return them without the rows of weight zero."""
        estimator_name = type(self).__name__
        check_module(self)
        X = self._check_features(X, reset=not warm, ensure_min_samples=2)
        y = check_y(y, X.shape[0], estimator_name=estimator_name)
        groups = check_groups(groups, X.shape[0], estimator_name=estimator_name)
        weight = check_weight(sample_weight, X.shape[0], estimator_name=estimator_name)
        if weight is not None and not weight.all():
            kept = np.flatnonzero(weight)
            if len(kept) < 2:
                raise ValueError(
                    f"{estimator_name}: {len(kept)} of {X.shape[0]} rows have a sample_weight "
                    "above zero; expected 2 or more."
                )
            X, y, weight = X[kept], y[kept], weight[kept]
            groups = None if groups is None else groups[kept]
        return X, y, weight, groups

    def _set_up(self, X, y, target, warm):
        """Set what describes the network; return features, weights to start from, settings."""
        if not warm:
            self._features = FeatureScale.fit(X, self.standardize)
            self.mean_, self.scale_ = self._features.mean, self._features.scale
        self._keep_target(target, y)
        weights = self._remember_target(target, warm)
        self._module_spec = self._describe_module()
        for name in ("linear_alpha_", "linear_share_"):
            vars(self).pop(name, None)
        # Starting at the linear solution keeps gradients small: with max_norm 1, accuracy and log
        # loss were equal to four decimals on folds of digits3 and leaf99, and clipping takes a
        # sixth of the time of a step.
        config = training_config(self, target, self._fitted_loss, max_norm=math.inf)
        return self._features.cast(X), weights, config

    def _train_with_linear(self, config, X, inputs, target, weight, groups):
        """Train a network that starts from a linear model; then mix it with one."""
        trainer, rows = Trainer(config), {}
        with isolated_rng(config.seed, "cpu"):  # a custom criterion may draw, or have buffers
            criterion = trainer.criterion().to("cpu").double()
        moments = self._features.of_network
        model = LinearModel(X, target.values, weight, moments, criterion, self._n_outputs)
        alpha, share, least = self.linear_alpha, self.linear_share, 0.0
        # Several processes that train one network must not choose for themselves.
        folds = held_out(target.values, groups, config.seed) if trainer.accelerator is None else []
        if alpha == "auto":
            alphas = ALPHAS if share != 0 else [a for a in ALPHAS if a >= START_ALPHA]
            alpha = choose_alpha(model, folds, alphas) if folds else START_ALPHA
            least = START_ALPHA

        def start(module, parts, trainer):
            rows["training"] = parts[0].rows
            set_linear(module, model.solve(parts[0].rows, max(alpha, least), exact=False))

        def train(trainer, weight):
            return trainer.train(self._build_module, inputs, target, weight, groups, pretrain=start)

        if share == "auto":
            pairs = []
            for number, (others, held) in enumerate(folds, 1):
                if self.verbose:
                    print(f"[{config.estimator_name}] held-out rows {number} of {len(folds)}")
                inside = np.zeros(len(model), dtype=np.float32)
                inside[others] = 1.0 if weight is None else weight[others]
                quiet = replace(config, refit=False, callbacks=None, verbose=0)
                module = train(Trainer(quiet), inside).module
                part = Inputs(features=DenseRows(X[held]))
                network = torch.from_numpy(predict_batches(module, part, device=trainer.device))
                linear = model.outputs(held, *model.solve(others, alpha, exact=False))
                pairs.append((linear, network.double()))
            share = choose_share(model, folds, pairs) if folds else 0.0
        if self.verbose:
            print(f"[{config.estimator_name}] linear model: alpha={alpha:g}, share={share:g}")
        result = train(trainer, weight)
        if share > 0:
            set_linear(result.module, model.solve(rows["training"], alpha), share)
        self.linear_alpha_, self.linear_share_ = alpha, share
        return result

    def _describe_module(self):
        own = {"hidden_layer_sizes": tuple(self.hidden_layer_sizes), "dropout": self.dropout}
        arguments = {"in_features": self.n_features_in_, **({} if self.module else own)}
        return self.module or MLP, {**arguments, **(self.module_params or {})}

    def _build_module(self):
        network, arguments = self._module_spec
        module = network(n_outputs=self._n_outputs, **arguments)
        if hasattr(module, "set_scale"):
            module.set_scale(*(torch.tensor(m, device="cpu") for m in self._features.of_network))
        return module

    def _check_features(self, X, **checks):
        X = as_numpy(X)
        checks |= {"accept_sparse": "csr", "dtype": float_dtype(X)}
        return validate_data(self, X, ensure_all_finite=not surely_finite(X), **checks)

    def _raw_outputs(self, X):
        check_is_fitted(self)
        X = self._features.cast(self._check_features(X, reset=False))
        return self._outputs(self.module_, Inputs(features=DenseRows(X))).astype(np.float64)

    def _decoded(self, X):
        """Probabilities, or numbers in the units of the target."""
        outputs = self._raw_outputs(X)  # first: raises if nothing is fitted
        return self._target.decode(outputs, self._fitted_loss)

    def _raw_output(self, row):
        """Outputs for one row of features, of shape (1, n_outputs)."""
        if not hasattr(self, "module_"):  # the check alone takes half as long as the network
            check_is_fitted(self)
        if isinstance(row, pd.Series):
            _check_feature_names(self, row.to_frame().T, reset=False)
        row = as_numpy(row)
        try:
            is_complex = np.iscomplexobj(row)
            row = np.array(row, dtype=None if is_complex else np.float64)
        except (TypeError, ValueError) as error:
            raise type(error)(
                f"{type(self).__name__}: the row is a {type(row).__name__}, not an array of "
                f"{self.n_features_in_} numbers ({error}); expected one number per feature."
            ) from error
        check_real(row.dtype, f"{type(self).__name__}: the row")
        if row.shape != (self.n_features_in_,):
            raise ValueError(
                f"{type(self).__name__}: the row has shape {row.shape}; expected "
                f"({self.n_features_in_},), one number per feature. Use predict for several rows."
            )
        if not np.isfinite(row).all():
            feature = int(np.argmin(np.isfinite(row)))
            raise ValueError(
                f"{type(self).__name__}: feature {feature} of the row is {row[feature]}; expected "
                "finite numbers. Impute it first."
            )
        row = self._features.cast(row[None])
        return self._row_outputs(Inputs(features=DenseRows(row))).astype(np.float64)


@document_parameters("perceptron", "network")
class NeuralClassifier(ClassifierMixin, _NeuralEstimator):
    """Classify features with a multilayer perceptron, trained by skorch on GPU or CPU.

    Features are standardized with the training mean and standard deviation (rare ones: see the
    Notes). Targets may be binary, multiclass or multilabel indicators, with labels of any type.

    Parameters
    ----------
    loss : {"auto", "cross_entropy", "binary_cross_entropy", "evidential"}, default="auto"
        Loss; "auto" takes binary cross-entropy for multilabel targets, else cross-entropy.
        "evidential" trains a Dirichlet distribution over class probabilities [3]_ instead of a
        point estimate, and adds `predict_evidence`: the evidence learned for each class.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels, in the order of the columns of `predict_proba`.

    module_ : torch.nn.Module
        The trained network.

    mean_, scale_ : ndarray of shape (n_features,), dtype=float64
        Mean and standard deviation of the features in training; of rare features, see the Notes.
        The scales are equal with ``standardize=False``.

    linear_alpha_, linear_share_ : float
        Penalty and share of the linear model; absent with `module`, and after a warm start or
        `partial_fit`.

    history_ : list of dict
        Losses of each epoch (with `early_stopping`, of the validated training) and of each call of
        `partial_fit`.

    n_iter_ : int
        Number of epochs of the final network; each call of `partial_fit` adds one.

    n_features_in_ : int
        Number of features.

    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if X is a frame whose column names are strings.

    See Also
    --------
    NeuralRegressor : The same for numbers.
    sklearn.neural_network.MLPClassifier : scikit-learn's perceptron, on the CPU.

    Notes
    -----
    A linear path runs parallel to the perceptron [1]_. Training starts from the solution of a
    linear model, with the perceptron's last layer at zero. With `linear_alpha="auto"` the penalty
    of this start is 10 or more. After training, the outputs are a weighted mean of those of the
    network and of a linear model (`linear_share`): few rows, or features that are rare words, often
    give a network nothing to learn beyond a linear model. Linear models are solved by L-BFGS on the
    CPU; if rows and outputs are more than 20 million numbers, on a sample of rows.

    Features that are zero in more than three quarters of the rows (words, categories) are divided
    by the geometric mean of their standard deviation and the root mean square of their other
    numbers. By the deviation alone, a word seen three times would weigh as much as a common one.

    Results are reproducible bit for bit on a CPU with the same seed and number of threads.

    References
    ----------
    .. [1] Cheng et al. (2016). "Wide & deep learning for recommender systems." DLRS.
       arXiv:1606.07792
    .. [2] Loshchilov, Hutter (2019). "Decoupled weight decay regularization." ICLR.
       arXiv:1711.05101
    .. [3] Sensoy, Kaplan, Kandemir (2018). "Evidential deep learning to quantify classification
       uncertainty." NeurIPS. arXiv:1806.01768

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from sklearn_mmfusion import NeuralClassifier
    >>> X, y = make_classification(200, random_state=0)
    >>> classifier = NeuralClassifier(max_epochs=10, random_state=0).fit(X, y)
    >>> classifier.score(X, y) > 0.8
    True
    """

    _parameter_constraints = {
        **_NeuralEstimator._parameter_constraints,
        "loss": [StrOptions({"auto", *losses_for(*CLASSIFICATION)})],
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        hidden_layer_sizes=(256, 128),
        *,
        loss="auto",
        standardize=True,
        linear_alpha="auto",
        linear_share="auto",
        module=None,
        module_params=None,
        dropout=0.3,
        max_epochs="auto",
        lr=1e-3,
        batch_size="auto",
        optimizer=AdamW,
        weight_decay=0.01,
        label_smoothing=0.0,
        early_stopping=False,
        validation_fraction=0.2,
        refit=True,
        class_weight=None,
        callbacks=None,
        net_params=None,
        device="auto",
        precision="float32",
        warm_start=False,
        random_state=None,
        verbose=0,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.loss = loss
        self.standardize = standardize
        self.linear_alpha = linear_alpha
        self.linear_share = linear_share
        self.module = module
        self.module_params = module_params
        self.dropout = dropout
        self.max_epochs = max_epochs
        self.lr = lr
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.weight_decay = weight_decay
        self.label_smoothing = label_smoothing
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.refit = refit
        self.class_weight = class_weight
        self.callbacks = callbacks
        self.net_params = net_params
        self.device = device
        self.precision = precision
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Train for one pass over some of the rows, at a constant learning rate.

        The first call learns the scales of the features; later calls, and calls after `fit`, keep
        them. There is no validation, and no linear model: `linear_alpha` and `linear_share` are
        ignored, and the linear path starts at zero.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Features, of 2 rows or more. `batch_size` rows make one step.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Classes, or a multilabel indicator.
        classes : array-like of shape (n_classes,), default=None
            Labels of all calls. Required in the first call, unless ``y`` is a multilabel indicator.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row in the loss, not rescaled. Rows of weight zero are left out.

        Returns
        -------
        self : object

        Notes
        -----
        The state of the optimizer is kept from call to call, also in pickles; `fit` discards it.
        Calls with the same rows and `random_state` give equal results.
        """
        return self._partial_fit(X, y, sample_weight, classes)

    def predict_proba(self, X):
        """Estimate class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes), dtype=float64
            Columns in the order of `classes_`; rows sum to one. For multilabel targets, the
            probability of each label.
        """
        return self._decoded(X)

    @available_if(has_evidence)
    def predict_evidence(self, X):
        """Compute the evidence for each class, if fitted with ``loss="evidential"``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        evidence : ndarray of shape (n_samples, n_classes), dtype=float64
            0 or more. Probabilities are ``(evidence + 1) / S`` and the uncertainty is
            ``n_classes / S``, with S the sum of ``evidence + 1``.
        """
        return evidence_of(self._raw_outputs(X))

    def predict_log_proba(self, X):
        """Estimate the logarithm of the class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        log_proba : ndarray of shape (n_samples, n_classes), dtype=float64
        """
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def predict(self, X):
        """Predict labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_labels)
            Labels as given to `fit`; an indicator matrix for multilabel targets.
        """
        return self._labels(self._raw_outputs(X))

    def predict_one(self, row):
        """Predict the label of one row without the cost of table checks, for real-time use.

        Parameters
        ----------
        row : array-like of shape (n_features,)

        Returns
        -------
        y : label, or ndarray of shape (n_labels,) for multilabel targets
        """
        return self._labels(self._raw_output(row))[0]

    def predict_proba_one(self, row):
        """Estimate the class probabilities of one row.

        Parameters
        ----------
        row : array-like of shape (n_features,)

        Returns
        -------
        proba : ndarray of shape (n_classes,), dtype=float64
            In the order of `classes_`.
        """
        return self._target.decode(self._raw_output(row), self._fitted_loss)[0]

    def _labels(self, outputs):
        if self._multilabel:
            return (outputs > 0).astype(int)
        return self.classes_[outputs.argmax(1)]

    def _target_type(self, y):
        return "auto"

    def _keep_target(self, target, y):
        if target.kind not in CLASSIFICATION:
            raise ValueError(
                f"Unknown label type: {target.kind}. NeuralClassifier expects classes or a "
                "multilabel indicator; use NeuralRegressor for numbers."
            )
        self._multilabel = target.kind == MULTILABEL
        self.classes_ = target.classes

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        tags.input_tags.sparse = True
        return tags


@document_parameters("perceptron", "network")
class NeuralRegressor(RegressorMixin, _NeuralEstimator):
    """Predict numbers with a multilayer perceptron, trained by skorch on GPU or CPU.

    Features and targets are standardized with the training mean and standard deviation (rare
    features: see the Notes). One or several targets.

    Parameters
    ----------
    loss : {"auto", "squared_error", "huber"}, default="auto"
        Loss on standardized targets; "auto" is the squared error.

    Attributes
    ----------
    target_mean_, target_scale_ : ndarray of shape (n_outputs,)
        Mean and standard deviation of each target.

    module_ : torch.nn.Module
        The trained network.

    mean_, scale_ : ndarray of shape (n_features,), dtype=float64
        Mean and standard deviation of the features in training; of rare features, see the Notes.
        The scales are equal with ``standardize=False``.

    linear_alpha_, linear_share_ : float
        Penalty and share of the linear model; absent with `module`, and after a warm start or
        `partial_fit`.

    history_ : list of dict
        Losses of each epoch (with `early_stopping`, of the validated training) and of each call of
        `partial_fit`.

    n_iter_ : int
        Number of epochs of the final network; each call of `partial_fit` adds one.

    n_features_in_ : int
        Number of features.

    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if X is a frame whose column names are strings.

    See Also
    --------
    NeuralClassifier : The same for classes.
    sklearn.neural_network.MLPRegressor : scikit-learn's perceptron, on the CPU.

    Notes
    -----
    A linear path runs parallel to the perceptron [1]_. The Notes of :class:`NeuralClassifier`
    describe it, and how rare features are scaled.

    Results are reproducible bit for bit on a CPU with the same seed and number of threads.

    References
    ----------
    .. [1] Cheng et al. (2016). "Wide & deep learning for recommender systems." DLRS.
       arXiv:1606.07792
    .. [2] Loshchilov, Hutter (2019). "Decoupled weight decay regularization." ICLR.
       arXiv:1711.05101

    Examples
    --------
    >>> from sklearn.datasets import make_regression
    >>> from sklearn_mmfusion import NeuralRegressor
    >>> X, y = make_regression(200, 10, random_state=0)
    >>> regressor = NeuralRegressor(max_epochs=10, random_state=0).fit(X, y)
    >>> regressor.score(X, y) > 0.8
    True
    """

    _parameter_constraints = {
        **_NeuralEstimator._parameter_constraints,
        "loss": [StrOptions({"auto", *losses_for(*REGRESSION)})],
    }

    def __init__(
        self,
        hidden_layer_sizes=(256, 128),
        *,
        loss="auto",
        standardize=True,
        linear_alpha="auto",
        linear_share="auto",
        module=None,
        module_params=None,
        dropout=0.3,
        max_epochs="auto",
        lr=1e-3,
        batch_size="auto",
        optimizer=AdamW,
        weight_decay=0.01,
        early_stopping=False,
        validation_fraction=0.2,
        refit=True,
        callbacks=None,
        net_params=None,
        device="auto",
        precision="float32",
        warm_start=False,
        random_state=None,
        verbose=0,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.loss = loss
        self.standardize = standardize
        self.linear_alpha = linear_alpha
        self.linear_share = linear_share
        self.module = module
        self.module_params = module_params
        self.dropout = dropout
        self.max_epochs = max_epochs
        self.lr = lr
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.refit = refit
        self.callbacks = callbacks
        self.net_params = net_params
        self.device = device
        self.precision = precision
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None):
        """Train for one pass over some of the rows, at a constant learning rate.

        The first call learns the scales of features and targets; later calls, and calls after
        `fit`, keep them. See :meth:`NeuralClassifier.partial_fit`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Features, of 2 rows or more. `batch_size` rows make one step.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Numbers, of the same shape in all calls.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row in the loss, not rescaled. Rows of weight zero are left out.

        Returns
        -------
        self : object
        """
        return self._partial_fit(X, y, sample_weight)

    def predict(self, X):
        """Predict numbers.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs), dtype=float64
        """
        y = self._decoded(X)
        return y[:, 0] if self._flat else y

    def predict_one(self, row):
        """Predict one row without the cost of table checks, for real-time use.

        Parameters
        ----------
        row : array-like of shape (n_features,)

        Returns
        -------
        y : float, or ndarray of shape (n_outputs,), dtype=float64
        """
        y = self._target.decode(self._raw_output(row), self._fitted_loss)[0]
        return y[0] if self._flat else y

    def _target_type(self, y):
        return "continuous" if y.ndim == 1 else "continuous-multioutput"

    def _keep_target(self, target, y):
        self.target_mean_, self.target_scale_ = target.mean, target.scale
        self._flat = y.ndim == 1

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.input_tags.sparse = True
        return tags
