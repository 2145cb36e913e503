"""Neural regressor on features."""

from sklearn.base import RegressorMixin
from torch.optim import AdamW

from sklearn_mmfusion._sklearn import StrOptions
from sklearn_mmfusion.neural_network._base import _NeuralEstimator


class NeuralRegressor(RegressorMixin, _NeuralEstimator):
    """Predict numbers with a multilayer perceptron, trained by skorch on GPU or CPU.

    Features and targets are standardized with the training rows' mean and standard deviation.
    One target or several.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int, default=(256, 128)
        Units of the hidden layers.

    loss : {"squared_error", "huber"}, default="squared_error"
        Loss on standardized targets.

    alpha : float, default=10.0
        Strength of the L2 penalty the linear path starts with: mean loss plus
        ``alpha / (2 n_samples)`` times the sum of squared weights.

    module : type, default=None
        Class of a network to use in place of the default one; it is called with
        ``in_features``, ``n_outputs`` and `module_params`, its ``forward`` takes ``features``,
        not standardized: where it has ``set_scale(mean, std)``, that is called with those of
        training, by which to do so.

    module_params : dict, default=None
        Further arguments of the network's class.

    dropout : float, default=0.3
        Dropout before each layer of the perceptron.

    max_epochs : int or "auto", default="auto"
        Passes over the training rows; "auto" takes at least 20 epochs and 300 steps.

    lr : float, default=1e-3
        Peak learning rate; it rises over the first 15 % of the steps, then follows a cosine.

    batch_size : int or "auto", default="auto"
        Rows a step; "auto" takes 32 below 1000 rows, else 64.

    optimizer : type, default=torch.optim.AdamW
        Class of the optimizer.

    weight_decay : float, default=0.01
        Weight decay of the optimizer.

    early_stopping : bool, default=False
        Whether to keep the last epoch whose loss on a validation part of the rows is within one
        standard error of the lowest. Off by default: encoders have seen the rows of the validation
        part, so that it looks too easy.

    validation_fraction : float, default=0.2
        Share of the rows (of the groups, where given) in the validation part.

    refit : bool, default=True
        Whether to train again on all rows for the number of epochs found.

    callbacks : list, default=None
        skorch callbacks; no `LRScheduler`, since the learning rate has a schedule of its own.

    net_params : dict, default=None
        Anything else for skorch's `NeuralNet`, e.g. ``{"optimizer__betas": (0.9, 0.99)}``
        or ``{"compile": True}``; and ``"max_norm"``, to which the norm of gradients is clipped
        (default inf: not).

    device : str, default="auto"
        "cpu", "cuda", ...; "auto" takes the GPU where there is one.

    precision : {"float32", "bf16"}, default="float32"
        Number format of the forward pass in training.

    warm_start : bool, default=False
        Whether `fit` starts from the weights of the last fit.

    random_state : int, RandomState instance or None, default=None
        Seed of weights, batches and dropout. Pass an int for equal results in every call.

    verbose : int, default=0
        1 prints losses once an epoch.

    Attributes
    ----------
    target_mean_, target_scale_ : ndarray of shape (n_outputs,)
        Mean and standard deviation of each target.

    module_ : torch.nn.Module
        The trained network.

    mean_, scale_ : ndarray of shape (n_features,), dtype=float32
        Mean and standard deviation of each training feature.

    history_ : list of dict
        Losses of each epoch (of the validated training, with `early_stopping`).

    n_iter_ : int
        Epochs the final network was trained for.

    n_features_in_ : int
        Number of features.

    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, where X is a frame with names of type str.

    See Also
    --------
    NeuralClassifier : The same for classes.
    sklearn.neural_network.MLPRegressor : scikit-learn's perceptron, on the CPU.

    Notes
    -----
    A linear path beside the perceptron starts at the solution of the linear model with the same
    penalty (found by L-BFGS on at most 20 000 rows) and the perceptron's last layer at zero:
    training starts from what the linear model finds. Without this a perceptron is worse
    than logistic regression on the features of encoders, which have seen the training rows.
    Equal seeds give equal bits on a CPU at equal thread count.

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
        "loss": [StrOptions({"squared_error", "huber"})],
    }

    def __init__(
        self,
        hidden_layer_sizes=(256, 128),
        *,
        loss="squared_error",
        alpha=10.0,
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
        self.alpha = alpha
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
        """Predict one row, without what checking a table costs: for use in real time.

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
