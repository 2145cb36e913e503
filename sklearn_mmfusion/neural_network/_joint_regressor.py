"""Joint fusion of modalities into a regressor."""

from sklearn.base import RegressorMixin
from torch.optim import AdamW

from sklearn_mmfusion._sklearn import StrOptions
from sklearn_mmfusion.neural_network._joint import _JointFusion
from sklearn_mmfusion.neural_network._predict import PredictionMixin


class JointFusionRegressor(PredictionMixin, RegressorMixin, _JointFusion):
    """Predict numbers from rows of several modalities with one network, trained end to end.

    The model-level counterpart of `FusionTransformer` with a regressor (features) and of
    `LateFusionRegressor` (decisions), from the same triples: one encoder a modality, a learned
    fusion, and a head. Targets are standardized with the training rows' mean and deviation.

    Parameters
    ----------
    encoders : list of (str, estimator, column) triples
        The name must be an identifier; ``set_params(name=...)`` and ``name__parameter`` reach the
        estimator by it. An encoder (or a pipeline that ends in one; one of your own needs
        ``fit_prepare``, ``prepare`` and ``build_module``) becomes part of the network: of its
        parameters those that shape it count, not those of its own training. Any other
        transformer is fitted first and joins as features, so does a `FrozenEstimator` (fixed
        features) and ``"passthrough"`` (numbers); ``"drop"`` leaves the modality out. The column
        is a string or an integer (one column: the modality is absent where the cell is NA), or a
        list of either, a slice, a boolean mask, or a callable that answers X with one of these: a
        table, which is absent only where its columns are; NA in it is a gap for an imputer.

    fusion : str or type, default="concat"
        How features become one vector of `n_components`. In all, an absent modality leaves
        the fusion as if it had never been there.

        - ``"concat"``: a linear layer on the features side by side.
        - ``"sum"``, ``"mean"``, ``"max"``: pooled linear projections; ``"weighted"``: their mean
          with one learned weight a modality.
        - ``"gated"``: gated multimodal unit [1]_, weights that depend on the row.
        - ``"low_rank"``: products of features, of `rank` 4 [2]_; ``"tensor"``: all products [3]_,
          for narrow features only.
        - ``"attention"``: features ask the tokens of all modalities (steps of sound, characters,
          cells of an image), one layer [4]_.
        - ``"graph"``: messages between modalities, weighted by attention [5]_.
        - ``"logits"``: sum of what the modalities' own heads say (mean of numbers).
        - a class of your own: a ``torch.nn.Module`` made with ``in_features`` (one width a
          modality), ``out_features`` and `fusion_params`; ``forward(features, mask)`` takes a list
          of tensors (n, width) and a mask (n, n_modalities), True where present, and returns
          (n, out_features). With a method ``weights`` of the same arguments it tells shares of
          modalities. ``sklearn_mmfusion.modules.fusion`` says more.

    fusion_params : dict, default=None
        Further arguments of the fusion: ``rank`` of "low_rank", ``max_weights`` of "tensor",
        ``num_heads`` of "attention" and "graph", ``num_rounds`` of "graph".

    n_components : int, default=128
        Width of the fused features, and of the embedding of transformers' features.

    objectives : dict of {str: float}, "auto" or None, default="auto"
        What the network is trained for besides its prediction, with weights:

        - ``"auxiliary"``: each modality's own head predicts the target from it alone.
        - ``"contrastive"``: modalities of a row agree, those of different rows do not [6]_.
        - ``"adversarial"``: a discriminator cannot tell the modality from its feature [7]_; for
          rows whose modalities being there says too much, and fragile elsewhere.

        The latter two act where the fusion projects the modalities into one space ("sum", "mean",
        "max", "weighted", "gated", "attention", "graph"), else on a projection of their own.
        "auto" is ``{"auxiliary": 0.3}``.

    modality_dropout : float, default=0.3
        Probability of hiding a modality of a row from the fusion in training, never all [8]_.

    pretrain : bool, default=False
        Whether to train each encoder with its own head before the whole.

    encoder_lr : float or dict of {str: float}, default=None
        Peak learning rate of the encoders, or of those named; None takes `lr`. 0 keeps their
        weights as they start: at random, or with `pretrain` as they came from there (batch norm
        still follows the data). Weights of an encoder fitted before are not taken over; frozen,
        ``FrozenEstimator(encoder)``, it gives fixed features.

    loss : "auto", "squared_error", "huber", default="auto"
        Loss on standardized targets; "auto" is the squared error.

    target_type : dict of {str: str} or "auto", default="auto"
        How to read targets of these names, where `y` has several: "multiclass", "continuous".
        By default strings and booleans are classes, and numbers are numbers.

    target_weights : dict of {str: float}, "uncertainty" or None, default=None
        Weights of the losses of several targets, 1 where not named; "uncertainty" learns them [9]_.

    dropout : float, default=0.3
        Dropout before the last layer, and on transformers' features.

    max_epochs : int or "auto", default="auto"
        Passes over the training rows, and as many over each modality with `pretrain`; "auto" takes
        at least 20 epochs and 1000 steps (300 of pretraining).

    lr : float, default=2e-3
        Peak learning rate; it rises over the first 15 % of the steps, then follows a cosine.

    batch_size : int or "auto", default="auto"
        Rows a step; "auto" takes 32 below 1000 rows, else 64.

    optimizer : type, default=torch.optim.AdamW
        Class of the optimizer.

    weight_decay : float, default=0.01
        Weight decay of the optimizer.

    label_smoothing : float, default=0.1
        Label smoothing of the cross-entropy of classes among several targets.

    early_stopping : bool, default=True
        Whether to keep the last epoch whose loss on a validation part of the rows is within one
        standard error of the lowest.

    validation_fraction : float, default=0.2
        Share of the rows (of the groups, where given) in the validation part.

    refit : bool, default=True
        Whether to train again on all rows for the number of epochs found.

    callbacks : list, default=None
        skorch callbacks; no `LRScheduler`, since the learning rate has a schedule of its own.

    net_params : dict, default=None
        Anything else for skorch's `NeuralNet`, e.g. ``{"iterator_train__shuffle": False}``
        or ``{"compile": True}``; and ``"max_norm"``, to which the norm of gradients is clipped
        (default 1.0).

    device : str, default="auto"
        "cpu", "cuda", ...; "auto" takes the GPU where there is one.

    precision : {"float32", "bf16"}, default="float32"
        Number format of the forward pass in training.

    warm_start : bool, default=False
        Whether `fit` starts from the weights, vocabulary and scales of the last fit.

    memory : str, pathlib.Path, joblib.Memory or None, default=None
        Cache of what comes before training, a folder or an object that has one: prepared cells
        (token ids, log-mel frames), transformers fitted first and their features. Other candidates
        of a search read it from there unless they set a parameter of that encoder; see the Notes of
        :class:`FusionTransformer`. None caches nothing; it needs a `random_state`. A pickle of a
        fitted model has no `memory`.

    random_state : int, RandomState instance or None, default=None
        Seed of weights, batches and dropout, and of every `random_state` inside the triples. Pass
        an int for equal results in every call.

    verbose : int, default=0
        1 prints losses once an epoch.

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
        return self._answer(X)

    def _target_type(self, y):
        return "continuous" if y.ndim == 1 else "continuous-multioutput"

    def _check_kind(self, target):
        pass  # what is not numbers has raised

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
