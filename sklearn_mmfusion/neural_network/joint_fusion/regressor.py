"""Joint fusion of modalities into a regressor."""

from sklearn.base import RegressorMixin
from torch.optim import AdamW

from sklearn_mmfusion._shared_docs import document_parameters
from sklearn_mmfusion._sklearn import StrOptions
from sklearn_mmfusion.neural_network.joint_fusion.base import _JointFusion
from sklearn_mmfusion.neural_network.joint_fusion.prediction import PredictionMixin


@document_parameters("joint", "network")
class JointFusionRegressor(PredictionMixin, RegressorMixin, _JointFusion):
    """Predict numbers from rows of several modalities with one network, trained end to end.

    The model-level counterpart of `FusionTransformer` with a regressor (features) and of
    `LateFusionRegressor` (decisions), from the same triples: one encoder per modality, a learned
    fusion, and a head. Targets are standardized with the training mean and deviation.

    Parameters
    ----------
    loss : "auto", "squared_error", "huber", default="auto"
        Loss on standardized targets; "auto" is the squared error.

    target_type : dict of {str: str} or "auto", default="auto"
        With a dict, the columns of `y` are several named targets of the given types ("multiclass"
        or "continuous"). Types of columns that are not in the dict are inferred: strings and
        booleans are classes, numbers are continuous. "auto" means a single target, whose type is
        inferred from the values by scikit-learn's `type_of_target`.

    Attributes
    ----------
    classes_ : dict of ndarray by target
        Labels of the classes among several targets.

    module_ : torch.nn.Module
        The trained network: ``encoders``, ``fusion``, ``head`` and ``heads``.

    named_encoders_ : :class:`~sklearn.utils.Bunch`
        The estimators of the triples by name, with what they learned from the cells (vocabulary,
        scales). The networks of encoders are in ``module_.encoders``, in the same order.

    linear_share_ : float
        Share of the linear model of the tables; 0 if there is none.

    history_ : list of dict
        Losses of each epoch of the validated training: the sum of all objectives on the training
        part, the prediction loss on the validation part.

    n_iter_ : int
        Number of epochs of the final network.

    n_features_in_ : int
        Number of columns of X in `fit`.

    feature_names_in_ : ndarray of str
        Names of the columns of X in `fit`, when all are strings.

    Raises
    ------
    ValueError
        If a column is not in the training X or has no present row there, or parameters
        contradict each other. Errors raised while preparing a modality carry a note that names it.
    TypeError
        If `fusion` is an instance, or a triple holds neither an encoder nor a transformer.

    Warns
    -----
    UserWarning
        If rows have no modality (they are left out of training, and their prediction is the
        mean of the training rows), or if a column seen in `fit` is missing from X (it counts as
        absent in all rows).

    See Also
    --------
    JointFusionClassifier : The same for classes.
    LateFusionRegressor : Joins predictions of separately trained regressors.
    FusionTransformer : Fuses features instead of training one network.

    Notes
    -----
    Absent modalities never reach their encoder or its statistics. Modality dropout and the
    modalities' own heads keep a joint network from relying on a single modality; without both,
    accuracy drops most when a modality is missing (``benchmarks/README.md``).

    The validation rows determine the number of epochs. Transformers other than encoders are fitted
    before that split and have seen them, as in a scikit-learn pipeline.

    The cost is that of training the encoders for at least 1000 steps, twice with `early_stopping`,
    plus that of the fusion, stated in the docstring of its class. Results are reproducible bit for
    bit on a CPU with the same seed and number of threads.

    References
    ----------
    .. [1] Arevalo, Solorio, Montes-y-Gomez, Gonzalez (2017). "Gated multimodal units for
       information fusion." ICLR workshop. arXiv:1702.01992
    .. [2] Liu et al. (2018). "Efficient low-rank multimodal fusion with modality-specific factors."
       ACL. arXiv:1806.00064
    .. [3] Zadeh et al. (2017). "Tensor fusion network for multimodal sentiment analysis." EMNLP.
       arXiv:1707.07250
    .. [4] Tsai et al. (2019). "Multimodal transformer for unaligned multimodal language sequences."
       ACL. arXiv:1906.00295
    .. [5] Velickovic et al. (2018). "Graph attention networks." ICLR. arXiv:1710.10903
    .. [6] Radford et al. (2021). "Learning transferable visual models from natural language
       supervision." ICML. arXiv:2103.00020
    .. [7] Ganin et al. (2016). "Domain-adversarial training of neural networks." JMLR 17(59).
       arXiv:1505.07818
    .. [8] Neverova, Wolf, Taylor, Nebout (2016). "ModDrop: adaptive multi-modal gesture
       recognition." IEEE TPAMI 38(8). arXiv:1501.00102
    .. [9] Kendall, Gal, Cipolla (2018). "Multi-task learning using uncertainty to weigh losses for
       scene geometry and semantics." CVPR. arXiv:1705.07115

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mmfusion import JointFusionRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 4))
    >>> y = X[:, 0] * X[:, 2]
    >>> triples = [("left", "passthrough", [0, 1]), ("right", "passthrough", [2, 3])]
    >>> regressor = JointFusionRegressor(triples, fusion="low_rank", max_epochs=2, random_state=0)
    >>> regressor.fit(X, y).predict(X).shape
    (200,)
    """

    _whole_numbers_are_classes = False

    _parameter_constraints = {
        **_JointFusion._parameter_constraints,
        "loss": [StrOptions({"auto", "squared_error", "huber"})],
    }

    def __init__(
        self,
        encoders,
        *,
        fusion="concat",
        fusion_params=None,
        n_components=128,
        objectives="auto",
        modality_dropout=0.3,
        linear_share="auto",
        pretrain=False,
        encoder_lr=None,
        loss="auto",
        target_type="auto",
        target_weights=None,
        dropout=0.3,
        max_epochs="auto",
        lr=2e-3,
        batch_size="auto",
        optimizer=AdamW,
        weight_decay=0.01,
        label_smoothing=0.1,
        early_stopping=True,
        validation_fraction=0.2,
        refit=True,
        callbacks=None,
        net_params=None,
        device="auto",
        precision="float32",
        warm_start=False,
        memory=None,
        random_state=None,
        verbose=0,
    ):
        self.encoders = encoders
        self.fusion = fusion
        self.fusion_params = fusion_params
        self.n_components = n_components
        self.objectives = objectives
        self.modality_dropout = modality_dropout
        self.linear_share = linear_share
        self.pretrain = pretrain
        self.encoder_lr = encoder_lr
        self.loss = loss
        self.target_type = target_type
        self.target_weights = target_weights
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
        self.callbacks = callbacks
        self.net_params = net_params
        self.device = device
        self.precision = precision
        self.warm_start = warm_start
        self.memory = memory
        self.random_state = random_state
        self.verbose = verbose

    def predict(self, X):
        """Predict numbers.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns)
            The modalities. In a DataFrame, columns are found by name; unknown ones are ignored.
            A modality whose columns X lacks counts as absent in all rows, with a warning. If X
            has unknown columns as well, or a part of a table only, that is a ValueError.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs), dtype=float64, or DataFrame
            Numbers in the units of `y`; a frame of one column per target for several targets.
        """
        return self._predict(X)

    def _target_type(self, y):
        return "continuous" if y.ndim == 1 else "continuous-multioutput"

    def _check_kind(self, target):
        pass  # encoding has raised for anything but numbers

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
