"""Joint fusion of modalities into a classifier."""

import numpy as np
from sklearn.base import ClassifierMixin
from torch.optim import AdamW

from sklearn_mmfusion._losses import LOSSES
from sklearn_mmfusion._shared_docs import document_parameters
from sklearn_mmfusion._sklearn import StrOptions
from sklearn_mmfusion._validation import CLASSIFICATION, MULTITASK
from sklearn_mmfusion.neural_network.joint_fusion.base import _JointFusion
from sklearn_mmfusion.neural_network.joint_fusion.prediction import PredictionMixin
from sklearn_mmfusion.neural_network.joint_fusion.training import fit_temperature


@document_parameters("joint", "network")
class JointFusionClassifier(PredictionMixin, ClassifierMixin, _JointFusion):
    """Classify rows of several modalities with one network, trained end to end.

    The model-level counterpart of `FusionTransformer` with a classifier (features) and of
    `LateFusionClassifier` (decisions), from the same triples: one encoder per modality, a learned
    fusion, and a head.

    Parameters
    ----------
    loss : "auto", "cross_entropy", "binary_cross_entropy", default="auto"
        Loss; "auto" takes binary cross-entropy for multilabel targets, else cross-entropy.

    target_type : dict of {str: str} or "auto", default="auto"
        With a dict, the columns of `y` are several named targets of the given types ("multiclass"
        or "continuous"). Types of columns that are not in the dict are inferred: strings, booleans
        and whole numbers are classes, other numbers are continuous. "auto" means a single target,
        whose type is inferred from the values by scikit-learn's `type_of_target`.

    temperature : "auto" or None, default="auto"
        Divisor of the logits in `predict_proba`. "auto" minimizes the log loss of the validation
        rows [10]_, which undoes the underconfidence that label smoothing causes. The divisor is 1
        if None, without `early_stopping`, and for multilabel or several targets. Predicted labels
        do not depend on it.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,), or dict of them by target
        Labels, in the order of the columns of `predict_proba`.

    module_ : torch.nn.Module
        The trained network: ``encoders``, ``fusion``, ``head`` and ``heads``.

    named_encoders_ : :class:`~sklearn.utils.Bunch`
        The estimators of the triples by name, with what they learned from the cells (vocabulary,
        scales). The networks of encoders are in ``module_.encoders``, in the same order.

    temperature_ : float
        Divisor of the logits.

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
        class frequencies of the training rows), or if a column seen in `fit` is missing from X
        (it counts as absent in all rows).

    See Also
    --------
    JointFusionRegressor : The same for numbers.
    LateFusionClassifier : Joins decisions of separately trained classifiers.
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
    .. [10] Guo, Pleiss, Sun, Weinberger (2017). "On calibration of modern neural networks." ICML.
       arXiv:1706.04599

    Examples
    --------
    >>> from sklearn_mmfusion import (
    ...     ImageEncoder,
    ...     JointFusionClassifier,
    ...     TextEncoder,
    ...     load_multimodal_digits,
    ... )
    >>> data = load_multimodal_digits()
    >>> X, y = data.data.iloc[:60], data.target[:60]
    >>> classifier = JointFusionClassifier(
    ...     [
    ...         ("image", ImageEncoder(n_components=16, channels=(8, 8)), "image"),
    ...         ("text", TextEncoder(n_components=16), "text"),
    ...     ],
    ...     fusion="gated",
    ...     max_epochs=2,
    ...     random_state=0,
    ... ).fit(X, y)
    >>> classifier.predict_proba(X).shape
    (60, 10)
    >>> classifier.modality_weights(X).shape
    (60, 2)
    """

    _whole_numbers_are_classes = True

    _parameter_constraints = {
        **_JointFusion._parameter_constraints,
        "loss": [StrOptions({"auto", "cross_entropy", "binary_cross_entropy"})],
        "temperature": [StrOptions({"auto"}), None],
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
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
        temperature="auto",
        early_stopping=True,
        validation_fraction=0.2,
        refit=True,
        class_weight=None,
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
        self.temperature = temperature
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.refit = refit
        self.class_weight = class_weight
        self.callbacks = callbacks
        self.net_params = net_params
        self.device = device
        self.precision = precision
        self.warm_start = warm_start
        self.memory = memory
        self.random_state = random_state
        self.verbose = verbose

    def predict_proba(self, X):
        """Estimate class probabilities.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns)
            The modalities. In a DataFrame, columns are found by name; unknown ones are ignored.
            A modality whose columns X lacks counts as absent in all rows, with a warning. If X
            has unknown columns as well, or a part of a table only, that is a ValueError.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes), dtype=float64
            Columns in the order of `classes_`; rows sum to one. For multilabel targets the
            probability of each label. For several targets, a dict by name of class
            probabilities, or of numbers of shape (n_samples, 1).
        """
        return self._by_target(self._decoded(X))

    def predict_proba_one(self, row):
        """Estimate the class probabilities of one row, without building a frame.

        Parameters
        ----------
        row : dict of {str or int: cell}
            As in `predict_one`.

        Returns
        -------
        proba : ndarray of shape (n_classes,), dtype=float64
            In the order of `classes_`; a dict by name for several targets.
        """
        return self._by_target([decoded[0] for decoded in self._decoded_one(row)])

    def predict_log_proba(self, X):
        """Estimate the logarithm of the class probabilities.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns)
            The modalities, as in `predict_proba`.

        Returns
        -------
        log_proba : ndarray of shape (n_samples, n_classes), dtype=float64
            For several targets, a dict by name of those that have classes.
        """
        decoded = self._decoded(X)
        with np.errstate(divide="ignore"):
            if self._target.kind != MULTITASK:
                return np.log(decoded[0])
            proba = self._by_target(decoded)
            return {name: np.log(proba[name]) for name in self._target.classes}

    def predict(self, X):
        """Predict labels.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns)
            The modalities, as in `predict_proba`.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_labels), or DataFrame
            Labels as given to `fit`; an indicator matrix for multilabel targets; a frame of one
            column per target for several targets.
        """
        return self._predict(X)

    def _tempered(self, outputs):
        # in double precision, so that rounding creates no ties
        return np.asarray(outputs, dtype=np.float64) / self.temperature_

    def _temperature_for(self, outputs, part):
        loss = LOSSES.get(self._fitted_loss)  # None for several targets
        smooths = loss is not None and loss.smooths_labels
        return fit_temperature(outputs, part) if smooths else 1.0

    def _keep_temperature(self, temperature):
        self.temperature_ = 1.0 if self.temperature is None else temperature

    def _target_type(self, y):
        return "auto"

    def _check_kind(self, target):
        if target.kind not in CLASSIFICATION:
            raise ValueError(
                f"Unknown label type: {target.kind}. JointFusionClassifier expects classes or a "
                "multilabel indicator. Use JointFusionRegressor for numbers, or "
                "target_type={column: kind} for several targets of mixed kinds."
            )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        if isinstance(self.target_type, dict):  # scikit-learn must not stratify by several targets
            tags.estimator_type = None
        tags.classifier_tags.multi_label = True
        return tags
