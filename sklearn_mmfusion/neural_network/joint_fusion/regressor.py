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
    `LateFusionRegressor` (decisions), from the same triples: one encoder a modality, a learned
    fusion, and a head. Targets are standardized with the training rows' mean and deviation.

    Parameters
    ----------
    loss : "auto", "squared_error", "huber", default="auto"
        Loss on standardized targets; "auto" is the squared error.

    target_type : dict of {str: str} or "auto", default="auto"
        How to read targets of these names, where `y` has several: "multiclass", "continuous".
        By default strings and booleans are classes, and numbers are numbers.

    Attributes
    ----------
    classes_ : dict of ndarray by target
        Labels of the classes among several targets.

    module_ : torch.nn.Module
        The trained network: ``encoders``, ``fusion``, ``head`` and ``heads``.

    history_ : list of dict
        Losses of each epoch of the validated training: of all objectives on the training part, of
        the prediction on the validation part.

    n_iter_ : int
        Epochs the final network was trained for.

    n_features_in_ : int
        Number of columns of X in `fit`.

    feature_names_in_ : ndarray of str
        Names of the columns of X in `fit`, when all are strings.

    Raises
    ------
    ValueError
        If a column is not in the training X or has no present row there, or parameters do not fit
        together. Errors raised while a modality is prepared carry a note that names it.
    TypeError
        If `fusion` is an instance of a network, or a triple holds what is no transformer.

    Warns
    -----
    UserWarning
        If rows have no modality at all: nothing is learnt from them, and asked about one, the
        network answers with the mean. If a column seen in `fit` is absent from X: all its rows
        count as absent.

    See Also
    --------
    JointFusionClassifier : The same for classes.
    LateFusionRegressor : Joins predictions of separately trained regressors.
    FusionTransformer : Fuses features in place of training one network.

    Notes
    -----
    Absent modalities never enter their encoder, nor its statistics. Hiding modalities in training,
    and heads of their own, are what keeps a joint network from leaning on one of them: without
    both it loses most where a modality goes missing (``benchmarks/README.md``).

    Rows of the validation part choose the number of epochs; transformers other than encoders have
    seen them (in a pipeline of scikit-learn's they would, too).

    Cost: that of the encoders for 1000 steps or more, twice with `early_stopping`; the fusion's own
    is in the docstring of its class. Equal seeds give equal bits on a CPU at equal thread count.

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
            The modalities. In a DataFrame, columns are found by name: an absent one counts as
            absent in all rows, unknown ones are ignored.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs), dtype=float64, or DataFrame
            Numbers in the units of `y`; a frame of one column a target for several.
        """
        return self._predict(X)

    def _target_type(self, y):
        return "continuous" if y.ndim == 1 else "continuous-multioutput"

    def _check_kind(self, target):
        pass  # what is not numbers has raised

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
