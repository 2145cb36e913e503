"""Late fusion of classifiers."""

import numpy as np
from sklearn import config_context
from sklearn.base import ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.utils.metaestimators import available_if

from sklearn_mmfusion._shared_docs import document_parameters
from sklearn_mmfusion._sklearn import StrOptions, _fit_context
from sklearn_mmfusion._targets import encode_target
from sklearn_mmfusion._validation import CLASSIFICATION, MULTILABEL, all_or_nothing
from sklearn_mmfusion.ensemble import rules
from sklearn_mmfusion.ensemble.late_fusion.base import _LateFusion
from sklearn_mmfusion.ensemble.members import (
    Evidence,
    Probabilities,
    align,
    has_head,
    is_prefit,
    knows_labels,
    label_distributions,
    last_step,
    may_have,
    with_requests,
)
from sklearn_mmfusion.ensemble.rules import LABEL_RULES, calibrate, fit_calibrator
from sklearn_mmfusion.neural_network import NeuralClassifier

WEIGHTED, LEARNED = ("product", "mean", "vote"), ("product", "mean")
WITHOUT_PROBABILITIES = ("vote", "stacking")  # fusions that do not need them


def _has_probabilities(self):
    final = getattr(self, "final_estimator_", self.final_estimator)
    rule = getattr(self, "_rule", self.fusion)
    return rule != "stacking" or final is None or hasattr(final, "predict_proba")


def _has_evidence(self):
    return getattr(self, "_rule", self.fusion) == "evidence"


class _OnePerLabel(OneVsRestClassifier):
    """A classifier per label that takes weights without metadata routing."""

    def fit(self, X, y, sample_weight=None):
        with config_context(enable_metadata_routing=True):
            self.estimator.set_fit_request(sample_weight=True)
            return super().fit(X, y, sample_weight=sample_weight)


@document_parameters("late")
class LateFusionClassifier(ClassifierMixin, _LateFusion):
    """Classify every modality on its own and join the decisions.

    The decision-level counterpart of a `FusionTransformer` and a classifier, from the same
    triples. On small data the product of separately trained classifiers is hard to beat. It handles
    an absent modality exactly, by leaving out its factor.

    Parameters
    ----------
    estimators : list of (str, estimator, column) triples
        The name must be an identifier; it is used in ``set_params(name=...)`` and
        ``name__parameter``. The estimator is a classifier (any pipeline that ends in one), an
        encoder or another transformer (see `head`), ``"passthrough"`` (numbers, for the head) or
        ``"drop"``. The column is a string or an integer (one column: the modality is absent where
        the cell is NA), or a list of either, a slice, a
        boolean mask, or a callable that takes X and returns one of these (a table: the modality
        always counts as present, and NA is a missing value for an imputer).
    fusion : {"product", "mean", "vote", "max", "stacking", "evidence"}, default="product"
        The rule that joins the classifiers' probabilities :math:`p_m`.

        - ``"product"``: log-opinion pool [1]_, softmax of :math:`\\sum_m w_m \\log p_m`.
        - ``"mean"``: linear opinion pool, :math:`\\sum_m w_m p_m / \\sum_m w_m`.
        - ``"vote"``: weighted share of the modalities that favor a class. Ties go to the first
          class.
        - ``"max"``: largest :math:`p_m` of each class, scaled to sum to one [1]_.
        - ``"stacking"``: `final_estimator` on out-of-fold probabilities [2]_.
        - ``"evidence"``: Dempster's rule on the evidence for each class [3]_; `predict_uncertainty`
          measures the lack of evidence. Encoders and neural classifiers with ``loss="auto"`` are
          trained with the evidential loss.
    weights : dict of {str: float}, "auto" or None, default=None
        Weight of each modality in ``"product"`` (an exponent), ``"mean"`` and ``"vote"``; 0 leaves
        a modality out. Modalities that are not named have weight 1; None gives all weight 1.
        "auto" learns the weights of ``"product"`` and ``"mean"`` by minimizing the log loss of
        out-of-fold probabilities.
    calibration : {"sigmoid", "isotonic", "temperature"} or None, default=None
        Method of :class:`~sklearn.calibration.CalibratedClassifierCV` that calibrates each
        modality's log-probabilities, fitted to out-of-fold ones. "sigmoid" and "isotonic" calibrate
        each class separately.
    head : classifier or None, default=None
        Predictor that follows an estimator that only transforms. With None, an encoder uses the
        head it is trained with (`predict_head`), and other transformers are followed by a
        :class:`NeuralClassifier`.
    final_estimator : classifier or None, default=None
        Classifier of ``"stacking"``; None is :class:`~sklearn.linear_model.LogisticRegression`,
        one per label for multilabel targets.
    cv : int, splitter, iterable or None, default=None
        Folds for out-of-fold probabilities, used by ``"stacking"``, ``weights="auto"`` and
        `calibration` only. None means 5, or fewer if a class has fewer rows. Integers make
        stratified folds that keep `groups` apart if these are given. Splits need not cover all
        rows, so :class:`~sklearn.model_selection.ShuffleSplit` is allowed.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels; for multilabel targets the indices of the labels.
    class_prior_ : ndarray of shape (n_classes,)
        Share (of sample weight) of each class or label in training: the prediction for a row
        that has no modality.
    estimators_ : list of estimators
        The fitted estimators, without dropped ones.
    named_estimators_ : :class:`~sklearn.utils.Bunch`
        The fitted estimators by name.
    weights_ : dict of {str: float}
        Weight of each modality.
    calibrators_ : dict of {str: CalibratedClassifierCV}
        The calibrator of each modality, empty without `calibration`.
    final_estimator_ : classifier
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
        If an estimator lacks a method that the rule needs, or if weights are given and it
        predicts but takes none.

    Warns
    -----
    UserWarning
        If rows have no modality at all (they get the class prior), a column seen in `fit` is absent
        from X (all its rows count as absent), or an estimator predicts NaN (the modality counts as
        absent in these rows).

    See Also
    --------
    LateFusionRegressor : The same for numbers.
    FusionTransformer : Fuses features instead of decisions.
    sklearn.ensemble.VotingClassifier : Mean and vote of classifiers that share one X.

    Notes
    -----
    The rule joins the present modalities only. ``"stacking"`` fills in the class prior for an
    absent modality and appends an indicator column for each modality that was absent in `fit`.
    Classes an estimator has not seen keep their prior probability. With a single modality,
    ``"product"`` and ``"mean"`` return the output of its classifier.

    The product assumes that modalities are independent given the class, and counts the class prior
    once per modality: if class sizes differ a lot, use ``"mean"`` or ``class_weight`` of the
    estimators. Overconfident members (an unregularized classifier after an encoder that has seen
    the training rows) spoil the product, and members that predict zeros (trees, nearest
    neighbors) have a veto. To soften both, use ``weights="auto"`` or `calibration`.

    Equal weights are the default because learned weights were not better on rows of unseen
    speakers: weights that suited the fold models did not suit the final ones
    (``benchmarks/README.md``).

    `fit` passes `sample_weight` and `groups` to the estimators that take them; with metadata
    routing enabled, it follows their requests. Predictors must take weights; transformers may
    ignore them. Learned weights and calibration use `sample_weight` too. A `FrozenEstimator` is not
    refitted, not even on folds: train it on other rows. If `fit` fails, the earlier fit is kept.

    Cost: one fit of each estimator, and one more per fold if out-of-fold probabilities are
    needed.

    References
    ----------
    .. [1] Kittler, Hatef, Duin, Matas (1998). "On combining classifiers." IEEE TPAMI 20(3).
       doi:10.1109/34.667881
    .. [2] Wolpert (1992). "Stacked generalization." Neural Networks 5(2).
       doi:10.1016/S0893-6080(05)80023-1
    .. [3] Han, Zhang, Fu, Zhou (2021). "Trusted multi-view classification." ICLR.
       arXiv:2102.02051

    Examples
    --------
    >>> from sklearn.feature_extraction.text import TfidfVectorizer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_mmfusion import LateFusionClassifier, multimodal_frame
    >>> X = multimodal_frame(
    ...     title=["red wine", "warm red", "blue sky", None],
    ...     color=[[0.9, 0.1], None, [0.2, 0.8], [0.1, 0.9]],
    ... )
    >>> y = ["wine", "wine", "sky", "sky"]
    >>> classifier = LateFusionClassifier(
    ...     [
    ...         ("title", make_pipeline(TfidfVectorizer(), LogisticRegression()), "title"),
    ...         ("color", LogisticRegression(), "color"),
    ...     ]
    ... )
    >>> classifier.fit(X, y).predict(X)
    array(['wine', 'wine', 'sky', 'sky'], dtype='<U4')
    >>> classifier.predict_proba(X.iloc[[3]]).argmax()  # from the color alone
    np.int64(0)
    """

    _parameter_constraints: dict = {
        **_LateFusion._parameter_constraints,
        "fusion": [StrOptions({*LABEL_RULES, "stacking"})],
        "calibration": [StrOptions({"sigmoid", "isotonic", "temperature"}), None],
    }

    _empty_rows_get = "the class prior"

    def __init__(
        self,
        estimators,
        *,
        fusion="product",
        weights=None,
        calibration=None,
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
        self.calibration = calibration
        self.head = head
        self.final_estimator = final_estimator
        self.cv = cv
        self.n_jobs = n_jobs
        self.memory = memory
        self.random_state = random_state
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, sample_weight=None, groups=None, **params):
        """Fit a classifier for each modality on the rows that have it, then the rule.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns)
            The modalities: a pandas or polars frame, or a 2-D array (of objects too).
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Classes, or a multilabel indicator.
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
            Fitted classifier.
        """
        with all_or_nothing(self):
            return self._fit(X, y, {"sample_weight": sample_weight, "groups": groups, **params})

    @available_if(_has_probabilities)
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
            Columns in the order of `classes_`; rows sum to one. For multilabel targets, the
            probability of each label. Shares of votes with ``fusion="vote"``.
        """
        pooled = self._pool(*self._encoding(X))
        return pooled[:, :, 1] if self._multilabel else pooled[:, 0]

    @available_if(_has_probabilities)
    def predict_log_proba(self, X):
        """Estimate the logarithm of the class probabilities.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns)
            The modalities, as in `predict_proba`.

        Returns
        -------
        log_proba : ndarray of shape (n_samples, n_classes), dtype=float64
            Minus infinity where a probability is zero.
        """
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def predict(self, X):
        """Predict labels.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns)
            The modalities, as in `predict_proba`.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_labels)
            Labels as given to `fit`; an indicator matrix for multilabel targets.
        """
        return self._predict_outputs(*self._encoding(X))

    def _predict_outputs(self, outputs, mask):
        if self._rule != "stacking":
            return self._decide(self._pool(outputs, mask))
        y = self.final_estimator_.predict(self._stack(outputs, mask))
        nothing = ~mask.any(axis=0)
        if nothing.any():
            y[nothing] = self._decide(self._prior[None])[0]
        return y

    @available_if(_has_evidence)
    def predict_evidence(self, X):
        """Compute the joint evidence for each class, with ``fusion="evidence"``.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns)
            The modalities, as in `predict_proba`.

        Returns
        -------
        evidence : ndarray of shape (n_samples, n_classes), dtype=float64
            Not negative, in the order of `classes_`; zeros if a row has no modality.
        """
        return rules.dempster(*self._encoding(X), None)[:, 0]

    @available_if(_has_evidence)
    def predict_uncertainty(self, X):
        """Compute the lack of evidence for any class, with ``fusion="evidence"``.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns)
            The modalities, as in `predict_proba`.

        Returns
        -------
        uncertainty : ndarray of shape (n_samples,), dtype=float64
            ``n_classes / S`` in (0, 1], where S is the sum of the joint ``evidence + 1``: 1 if a
            row has no modality, near 0 if there is much evidence for some class.
        """
        return len(self.classes_) / (self.predict_evidence(X) + 1).sum(axis=1)

    # ------------------------------------------------------------------------------ target

    def _read_target(self, y):
        estimator_name = type(self).__name__
        if y.ndim == 1 and len(np.unique(y)) == 1:
            raise ValueError(
                f"{estimator_name}: y has 1 class, {y[0]}; at least two classes are needed."
            )
        target = encode_target(y, estimator_name=estimator_name)
        if target.kind not in CLASSIFICATION:
            raise ValueError(
                f"Unknown label type: {target.kind}. {estimator_name} expects classes or a "
                "multilabel indicator; use LateFusionRegressor for numbers."
            )
        self._target_kind, self.classes_ = target.kind, target.classes
        self._multilabel = target.kind == MULTILABEL
        codes = target.values.astype(np.int64)
        return (codes, codes) if self._multilabel else (y, codes[:, None])

    def _learn_prior(self, target, weight):
        n_classes = 2 if self._multilabel else len(self.classes_)
        share = np.eye(n_classes)[target]  # (n_samples, n_targets, n_classes)
        self._prior = np.average(share, axis=0, weights=weight)
        self.class_prior_ = self._prior[:, 1] if self._multilabel else self._prior[0]

    def _prior_output(self):
        return np.zeros_like(self._prior) if self._rule == "evidence" else self._prior

    def _is_finite(self, output):
        return np.isfinite(output).all(axis=(1, 2))

    def _learnable(self, y):
        """Whether a fold's classifier can be fitted to rows with this target."""
        return len(y) > 1 and (self._multilabel or len(np.unique(y)) > 1)

    # ------------------------------------------------------------------------------ members

    def _default_head(self):
        return with_requests(NeuralClassifier(), "sample_weight", "groups")

    def _default_final(self):
        final = with_requests(LogisticRegression(), "sample_weight")
        if not getattr(self, "_multilabel", False):
            return final
        return with_requests(_OnePerLabel(final), "sample_weight")

    def _auto_params(self, y):
        loss = {"loss": "evidential"} if self.fusion == "evidence" else {}
        return {"target_type": self._target_kind, **loss}

    def _output(self):
        if self._rule == "evidence":
            return Evidence(self.classes_)
        return Probabilities(self.classes_, self._prior, self._multilabel)

    def _check_member(self, name, member, *, fitted=False):
        """Raise if a member lacks a method that the rule needs (unfitted: if it cannot get it)."""
        label = f"{type(self).__name__}(fusion={self.fusion!r}): modality {name!r} has {member!r}"
        last = last_step(member)
        has = hasattr if fitted else may_have
        if self.fusion == "evidence":
            # before fit, an instance with loss="auto" hides the method
            may_get = not fitted and hasattr(type(last), "predict_evidence")
            if not (may_get or hasattr(last, "predict_evidence")):
                raise TypeError(
                    f"{label}, which has no predict_evidence. Use an encoder or NeuralClassifier "
                    "with loss='auto' or 'evidential', which have it, or fusion='product'."
                )
        elif self.fusion not in WITHOUT_PROBABILITIES and not (
            has_head(member) or has(last, "predict_proba")
        ):
            raise TypeError(
                f"{label}, which has no predict_proba. Wrap it in CalibratedClassifierCV, or use "
                "fusion='vote' or 'stacking'."
            )
        if fitted or is_prefit(member):
            self._check_classes(label, member)

    def _check_classes(self, label, member):
        """Raise if a fitted member knows another kind of target or other classes than those of y.

        It may know more or fewer: the rows of a fold or a modality may lack some classes.
        """
        known = getattr(last_step(member), "classes_", None)
        remedy = " Set target_type='auto'." if has_head(member) else ""
        remedy = " Fit it on the same classes." if is_prefit(member) else remedy
        if known is not None and knows_labels(member) == (not self._multilabel):
            kinds = ["one class per row", "several labels per row (a multilabel indicator)"]
            fitted, given = kinds[not self._multilabel], kinds[self._multilabel]
            raise ValueError(f"{label}, which was fitted to {fitted}; y has {given}.{remedy}")
        if self._multilabel:
            unknown = known is None and not has_head(member)
            agree = unknown or known is not None and len(known) == len(self.classes_)
        else:
            of_labels = known is None or isinstance(known, list)  # an array of classes per label
            known_set, of_y = set(() if of_labels else known), set(self.classes_)
            agree = not of_labels and (known_set <= of_y or known_set >= of_y)
        if agree:
            return
        raise ValueError(
            f"{label}, which knows the classes {known}; y has {self.classes_}.{remedy}"
        )

    # ------------------------------------------------------------------------------ rule

    def _check_parameters(self):
        label = f"{type(self).__name__}(fusion={self.fusion!r})"
        self._check_weights(WEIGHTED, LEARNED)
        if self.calibration is not None and (self.fusion == "evidence" or self._multilabel):
            what = "multilabel targets" if self._multilabel else "evidence"
            raise ValueError(f"{label}: calibration={self.calibration!r} does not support {what}.")
        if self.fusion == "evidence" and self._multilabel:
            raise ValueError(f"{label} needs classes, but y is multilabel; use 'product'.")

    def _needs_folds(self, members):
        learns = isinstance(self.weights, str) or self.calibration is not None
        return learns or self.fusion == "stacking"

    def _learn_rule(self, outputs, mask, y, target, weight, params):
        vars(self).pop("final_estimator_", None)
        self.calibrators_ = {}
        if self.calibration is not None:
            for m, selection in enumerate(self._selections):
                self.calibrators_[selection.name] = fit_calibrator(
                    self.calibration,
                    *(outputs[m, mask[m]], target[mask[m], 0], weight[mask[m]]),
                    n_classes=len(self.classes_),
                    label=f"{type(self).__name__}: modality {selection.name!r}",
                )
            outputs = calibrate(self.calibrators_.values(), outputs, mask)
        learn = None
        if isinstance(self.weights, str):

            def learn(n):
                return rules.fit_weights(LABEL_RULES[self.fusion], outputs, mask, target, weight, n)

        self.weights_ = self._weights(learn)
        if self.fusion == "stacking":
            self._fit_final(outputs, mask, y, params)

    def _encode(self, X, only=None):
        outputs, mask = super()._encode(X, only)
        if self.calibrators_:
            outputs = calibrate(self.calibrators_.values(), outputs, mask)
        return outputs, mask

    def _pool(self, outputs, mask):
        """Return joint distributions of shape (n_samples, n_targets, n_classes)."""
        if self._rule == "stacking":
            pooled = self._final_proba(self._stack(outputs, mask))
        else:
            pooled = LABEL_RULES[self._rule](outputs, mask, self._weight_array())
        if self._rule == "evidence":
            pooled = rules.belief(pooled)
        nothing = ~mask[self._weight_array() > 0].any(axis=0)
        pooled[nothing] = self._prior
        return pooled

    def _final_proba(self, columns):
        proba, known = self.final_estimator_.predict_proba(columns), self.final_estimator_.classes_
        if self._multilabel:
            return label_distributions(proba, known)
        return align(proba, known, self.classes_)[:, None]

    def _decide(self, pooled):
        if self._multilabel:
            return (pooled[:, :, 1] > 0.5).astype(int)
        return self.classes_[pooled[:, 0].argmax(axis=1)]

    # ------------------------------------------------------------------------------ stacking

    def _is_one_column(self):
        """Whether one column, that of the second of two classes, describes a distribution."""
        return self._prior.shape[-1] == 2 and self._rule != "evidence"

    def _columns(self, outputs):
        return outputs[..., 1] if self._is_one_column() else outputs.reshape(*outputs.shape[:2], -1)

    def _column_names(self):
        one = self._is_one_column() and not self._multilabel
        return self.classes_[1:] if one else self.classes_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        # encoders accept labels, though their tags are not those of classifiers
        tags.classifier_tags.multi_label = (
            self.fusion != "evidence"
            and self.calibration is None
            and all(t.classifier_tags.multi_label for t in self._member_tags() if t.classifier_tags)
        )
        return tags
