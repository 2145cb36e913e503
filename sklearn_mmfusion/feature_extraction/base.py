"""Base class of the modality encoders: check, prepare, train, encode."""

import warnings
from numbers import Integral

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from sklearn_mmfusion._losses import LOSSES, evidence_of
from sklearn_mmfusion._sklearn import Interval, StrOptions, _fit_context
from sklearn_mmfusion._skorch import (
    TRAINING_CONSTRAINTS,
    FittedNetworkMixin,
    Trainer,
    check_module,
    check_same_settings,
    has_evidence,
    settings_of,
    train_part,
    training_config,
)
from sklearn_mmfusion._targets import (
    encode_part,
    encode_target,
    is_float_type,
    type_of_y,
    warn_of_whole_numbers,
)
from sklearn_mmfusion._torch import CopiedInputs
from sklearn_mmfusion._validation import (
    TARGET_TYPES,
    add_error_note,
    all_or_nothing,
    as_fitted,
    cell_options,
    check_groups,
    check_weight,
    check_y,
    combine_weights,
    combine_weights_of_part,
    draw_seed,
    remember_params,
)
from sklearn_mmfusion.containers.cells import Cells
from sklearn_mmfusion.containers.column_input import check_column, readable_cells
from sklearn_mmfusion.containers.conversion import as_column
from sklearn_mmfusion.containers.sets import takes_sets
from sklearn_mmfusion.corruptions.inputs import Augmentation, augmentation_steps, change_cell
from sklearn_mmfusion.modules.fusion_network import EncoderNetwork

# Parameters that may change between warm starts. `file_params` names the folder of the files.
TRAINING = {*TRAINING_CONSTRAINTS, "loss", "target_type", "class_weight"} - {
    *("module", "module_params"),
}
TRAINING |= {"file_params", "augment", "augment_copies"}
CHUNK = 256  # cells that are read at a time to corrupt copies of them


class BaseModalityEncoder(
    ClassNamePrefixFeaturesOutMixin, FittedNetworkMixin, TransformerMixin, BaseEstimator
):
    """Base of the encoders: a column of one modality -> (n_samples, n_components) float32.

    To add a modality, write a subclass with its own parameters in an explicit ``__init__`` and:

    ``_reads``
        A `CellKind`: the cells it accepts. It determines the checks of cells and their messages,
        the reading of files, the treatment of flat rows and the type of the column.
    ``_learn(cells)``
        Set fitted attributes (vocabulary, sizes, ``mean_`` and ``scale_``) from the present
        `Cells` of the training rows. If this computes their `Inputs` anyway, it may return them;
        otherwise ``_prepare`` is called.
    ``_prepare(cells)``
        Present cells -> `Inputs`, whose batches are the keywords of the module's ``forward``.
    ``_modality``
        Optional: the key of `corruptions.CORRUPTIONS` with the corruptions of its inputs.
    ``_network()``
        A triple made from fitted attributes: the class of the default module; the size arguments
        of any module; options of the default module only (``dropout`` is added).

    The base class implements the encoder protocol with these. A joint network accepts any estimator
    that implements the protocol, with or without this base class:

    ``fit_prepare(X, y=None)``
        Learn vocabulary, scaling or sizes from the cells, set fitted attributes, and return the
        `Inputs` of the cells.
    ``prepare(X)``
        Return the `Inputs` of cells, whose batches are the keywords of the module's ``forward``.
        A dict of arrays with one row per cell works too.
    ``build_module()``
        Return an untrained module, made from fitted attributes; ``module.out_features`` is its
        width. For fusions that read sequences, the module may define ``tokens(**batch)``, which
        returns its features, the sequence they are pooled from (n, L, token_features) and the mask
        of its valid steps (n, L).
    ``prepare_copies(X)``
        Optional: like ``prepare``, for training rows in a warm start.
    ``build_augmentation()``
        Optional: return None, or an object that changes batches in training: called with a batch,
        it returns one of the same shapes; its ``to(device)`` returns itself.

    X is an array of the cells, or a Series of the column if the class sets ``wants_column = True``;
    ``X.array.gather(copy=False)`` then returns the cells, without a copy if possible. In
    ``predict_one``, `prepare` gets one cell in a list or an array, because making a Series would
    take longer than most networks.
    """

    wants_column = True
    _modality = None
    augment_copies = 4  # a parameter of the encoders that have corruptions of cells

    _parameter_constraints = {
        **TRAINING_CONSTRAINTS,
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "target_type": [StrOptions({"auto", *TARGET_TYPES})],
        "loss": [StrOptions({"auto", *LOSSES})],
        "file_params": [dict, None],
        "augment": [StrOptions({"light", "strong"}), list, callable, None],
        "augment_copies": [Interval(Integral, 1, None, closed="left")],
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
    }

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, groups=None):
        """Learn features that predict ``y``.

        Parameters
        ----------
        X : column of cells or array-like of shape (n_samples, n_features)
            See the docstring of the class. NA, None or NaN marks absent cells.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Target: binary, multiclass, multilabel-indicator, continuous or
            continuous-multioutput.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row in the loss. Rows of weight zero are left out.
        groups : array-like of shape (n_samples,), default=None
            Rows of one group (speaker, patient) stay on one side of the validation split.

        Returns
        -------
        self : object
        """
        with all_or_nothing(self):
            is_float = is_float_type(y)
            cells, y, weight, groups = self._check_rows(X, y, sample_weight, groups, reset=True)
            target = self._encode_target(y, is_float)
            weight = combine_weights(
                weight, self.class_weight, y, estimator_name=type(self).__name__, kind=target.kind
            )
            warm = self.warm_start and hasattr(self, "module_")  # keeps its vocabulary and scales
            inputs = self._prepare_again(cells) if warm else self._learn_inputs(cells)
            inputs, weights = self._set_up(cells, inputs, target, warm)
            trainer = Trainer(self._config(target))
            self.module_, self.history_, self.n_iter_ = trainer.train(
                self._build_module, inputs, target, weight, groups, weights
            )
            vars(self).pop("_optimizer_state", None)  # of `partial_fit`
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Train for one pass over some of the rows, at a constant learning rate.

        The first call learns vocabulary, scales, sizes and the moments of a numeric target from
        its rows; later calls, and calls after `fit`, keep them. For example, words that the first
        rows lack stay unknown. There is no validation.

        Parameters
        ----------
        X : column of cells or array-like of shape (n_samples, n_features)
            See the docstring of the class. NA, None or NaN marks absent cells.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Target, of the same kind in all calls.
        classes : array-like of shape (n_classes,), default=None
            Labels of all calls. Pass them in the first call, unless its rows have every label.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row in the loss, not rescaled. Rows of weight zero are left out.

        Returns
        -------
        self : object

        Notes
        -----
        `batch_size` rows make one step; pass at least 2 rows. The state of the optimizer is kept
        from call to call, also in pickles; `fit` discards it. ``history_`` and ``n_iter_`` count
        the calls. Calls with the same rows and `random_state` give equal results.
        """
        with all_or_nothing(self):
            named, is_float = {"estimator_name": type(self).__name__}, is_float_type(y)
            goes_on = hasattr(self, "module_")
            cells, y, weight, _ = self._check_rows(X, y, sample_weight, None, reset=not goes_on)
            if goes_on or classes is not None:
                known = self._target if goes_on else None
                target = encode_part(y, classes, known, target_type=self.target_type, **named)
            else:
                target = self._encode_target(y, is_float)
            weight = combine_weights_of_part(
                weight, self.class_weight, y, target.classes, kind=target.kind, **named
            )
            if goes_on:
                inputs = self._prepare_again(cells, part=True)
            else:
                inputs = self._learn_inputs(cells)
            inputs, weights = self._set_up(cells, inputs, target, goes_on)
            train_part(self, self._config(target), inputs, target, weight, weights)
        return self

    def _check_rows(self, X, y, sample_weight, groups, reset):
        """Check the arguments of `fit`; return the rows that are present and have a weight."""
        check_module(self)
        self._augmentation_steps()
        column = check_column(self, X, reset=reset)
        named = {"estimator_name": type(self).__name__}
        y = check_y(y, len(column), **named)
        groups = check_groups(groups, len(column), **named)
        weight = check_weight(sample_weight, len(column), **named)
        taken = ~np.asarray(column.isna())
        rows = np.flatnonzero(taken if weight is None else taken & (weight > 0))
        if len(rows) < 2:
            raise ValueError(
                f"{type(self).__name__}: X has n_samples={len(column)}, of which {len(rows)} are "
                "present and have a weight; a minimum of 2 such rows is required."
            )
        y, weight, groups = (None if v is None else v[rows] for v in (y, weight, groups))
        return Cells(self, column, rows), y, weight, groups

    def _set_up(self, cells, inputs, target, warm):
        """Set what describes the network; return inputs with copies, and weights to start from."""
        self._n_features_out = self.n_components
        inputs = self._add_copies(cells, inputs)
        weights = self._remember_target(target, warm)
        self._module_spec = self._describe_module()
        vars(self).pop("classes_", None)
        if target.classes is not None:
            self.classes_ = target.classes
        return inputs, weights

    def fit_transform(self, X, y=None, sample_weight=None, groups=None):
        """Fit and encode the same rows, like ``fit(X, y).transform(X)``.

        Parameters
        ----------
        X : column of cells or array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None
        groups : array-like of shape (n_samples,), default=None

        Returns
        -------
        X_t : ndarray of shape (n_samples, n_components), dtype=float32
        """
        X = readable_cells(X, self)  # warns once
        return self.fit(X, y, sample_weight=sample_weight, groups=groups).transform(X)

    def transform(self, X):
        """Encode rows.

        Parameters
        ----------
        X : column of cells or array-like of shape (n_samples, n_features)

        Returns
        -------
        X_t : ndarray of shape (n_samples, n_components), dtype=float32
            Rows of absent cells are NaN.
        """
        check_is_fitted(self)
        return self._compute(X, self.module_.encoder, self._n_features_out)

    def get_feature_names_out(self, input_features=None):
        """Get the names of the columns of `transform`.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Only their number is checked. A single name is taken as that of the column.

        Returns
        -------
        feature_names_out : ndarray of str objects
            The class name in lower case, followed by a number.
        """
        if np.size(input_features) == 1:  # as a ColumnTransformer passes it
            input_features = None
        return super().get_feature_names_out(input_features)

    def predict_head(self, X):
        """Predict with the linear head that the encoder was trained with.

        Late fusion uses this. A separate predictor on the output of `transform` may be more
        accurate, but is trained on features that the encoder has fitted to the same rows.

        Parameters
        ----------
        X : column of cells or array-like of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples, n_outputs), dtype=float64
            Probabilities of the classes (in the order of `classes_`) or of the labels, or numbers
            in the units of the target. Rows of absent cells are NaN.
        """
        check_is_fitted(self)
        outputs = self._compute(X, self.module_, self._n_outputs)
        return self._target.decode(outputs, self._fitted_loss)

    @available_if(has_evidence)
    def predict_evidence(self, X):
        """Compute the evidence for each class, if fitted with ``loss="evidential"``.

        Parameters
        ----------
        X : column of cells or array-like of shape (n_samples, n_features)

        Returns
        -------
        evidence : ndarray of shape (n_samples, n_classes), dtype=float64
            0 or more, in the order of `classes_`. Rows of absent cells are NaN.
        """
        check_is_fitted(self)
        return evidence_of(self._compute(X, self.module_, self._n_outputs))

    def fit_prepare(self, X, y=None):
        """Fit the preparation of cells without training, and prepare the cells.

        The encoder itself is not fitted: a joint network trains the module that it builds.

        Parameters
        ----------
        X : column of cells
            None of them absent.
        y : Ignored

        Returns
        -------
        inputs : Inputs
            See `prepare`.
        """
        with all_or_nothing(self):
            check_module(self)
            self._validate_params()
            self._augmentation_steps()
            column = check_column(self, X, reset=True)
            cells = Cells(self, column, np.arange(len(column)))
            inputs = self._add_copies(cells, self._learn_inputs(cells))
            self._n_features_out = self.n_components
            self._module_spec = self._describe_module()
            for name in ("module_", "classes_", "history_", "n_iter_"):  # of another vocabulary
                vars(self).pop(name, None)
            return inputs

    def prepare(self, X):
        """Convert cells to the inputs of the network.

        Parameters
        ----------
        X : column of cells
            None of them absent.

        Returns
        -------
        inputs : Inputs
            ``inputs.batch(rows, device)`` gathers some of ``len(inputs)`` rows as a dict of
            tensors, the keywords of the network's ``forward``. A custom encoder may return a dict
            of arrays instead.
        """
        fitted = as_fitted(self)
        column = check_column(fitted, X, reset=False)
        cells = Cells(fitted, column, np.arange(len(column)))
        self._check_range(cells)
        return fitted._prepare(cells)

    def prepare_copies(self, X):
        """Convert cells and the corrupted copies that `augment` describes to inputs for training.

        Parameters
        ----------
        X : column of cells
            None of them absent.

        Returns
        -------
        inputs : Inputs
            See `prepare`; those of the copies are drawn in training only.
        """
        fitted = as_fitted(self)
        column = check_column(fitted, X, reset=False)
        cells = Cells(fitted, column, np.arange(len(column)))
        return fitted._add_copies(cells, fitted._prepare(cells))

    def build_module(self):
        """Build an untrained network for the cells that `fit_prepare` or `fit` has seen.

        Returns
        -------
        module : torch.nn.Module
            Its attribute ``out_features`` is the width of its output.
        """
        network, arguments = self._module_spec
        call = f"{network.__name__}({', '.join(f'{name}=...' for name in arguments)})"
        with add_error_note(f"{type(self).__name__} builds its network by calling {call}."):
            module = network(**arguments)
        if hasattr(module, "set_scale") and hasattr(self, "mean_"):
            learned = self.mean_, self.scale_
            module.set_scale(*(torch.tensor(m, dtype=torch.float32, device="cpu") for m in learned))
        if not hasattr(module, "out_features"):
            raise TypeError(
                f"{type(self).__name__}: module {network.__name__} has no attribute out_features; "
                "expected the number of features that its forward returns."
            )
        return module

    def build_augmentation(self):
        """Build the function that changes the batches of a training, as `augment` describes.

        Returns
        -------
        augmentation : callable or None
            ``augmentation(batch)`` takes and returns a dict of tensors, the keywords of the
            network's ``forward``; ``augmentation.to(device)`` moves it and returns itself.
        """
        _, steps = self._augmentation_steps()
        return Augmentation(steps, self._pixel_limits(), takes_sets(self)) if steps else None

    def _augmentation_steps(self):
        # custom subclasses may lack the parameter
        augment = getattr(self, "augment", None)
        return augmentation_steps(augment, self._modality, type(self).__name__)

    def _add_copies(self, cells, inputs):
        """Add the inputs of corrupted copies, if `augment` has corruptions of cells."""
        steps, _ = self._augmentation_steps()
        if not steps:
            return inputs
        root = draw_seed(self.random_state)
        copies = [[] for _ in range(self.augment_copies)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the cells themselves have had theirs
            for start in range(0, len(cells), CHUNK):
                given, rate = self._read_cells(cells.part(slice(start, start + CHUNK)))
                for number, prepared in enumerate(copies):
                    changed = [
                        change_cell(cell, steps, np.random.SeedSequence([root, number, row]))
                        for row, cell in enumerate(given, start)
                    ]
                    column = as_column(changed, sample_rate=rate)
                    prepared.append(self._prepare(Cells(self, column)))
        return CopiedInputs.of(inputs, [part for prepared in copies for part in prepared])

    def _read_cells(self, cells):
        """The cells as arrays or texts, and their sample rate or None."""
        return list(cells.read()), None

    def _pixel_limits(self):
        """Lowest and highest pixel in training; None if the inputs are no images."""

    def _encode_target(self, y, is_float):
        kind = type_of_y(y) if self.target_type == "auto" else self.target_type
        label = type(self).__name__
        target = encode_target(y, estimator_name=label, target_type=kind)
        if self.target_type == "auto":  # a regression may follow: also warn about few floats
            remedy = "set target_type='continuous' on the encoder or its FusionTransformer"
            warn_of_whole_numbers(target, y.shape[0], label, remedy, few_floats=is_float)
        return target

    def _compute(self, X, module, width):
        """Outputs of a module for all rows; NaN for absent cells."""
        fitted = as_fitted(self)
        column = check_column(fitted, X, reset=False)
        cells = Cells(fitted, column)
        outputs = np.full((len(column), width), np.nan, dtype=np.float32)
        if len(cells):
            self._check_range(cells)
            inputs = fitted._prepare(cells)
            outputs[cells.rows] = self._outputs(module, inputs, rows=cells.rows)
        return outputs

    def _check_range(self, cells):
        """Warn if new cells have another range of numbers than those in fit."""

    def _prepare_again(self, cells, part=False):
        """Prepare the rows of a warm start or a `part`, which keep vocabulary, scales and sizes."""
        params = self.get_params(), self._fit_params
        settings, before = (settings_of(p, TRAINING) | cell_options(p) for p in params)
        check_same_settings(settings, before, type(self).__name__, part)
        if part:
            self._check_range(cells)
        remember_params(self)
        return self._prepare(cells)

    def _learn_inputs(self, cells):
        remember_params(self)
        inputs = self._learn(cells)
        return self._prepare(cells) if inputs is None else inputs

    def _describe_module(self):
        default, sizes, options = self._network()
        arguments = {**sizes, "out_features": self._n_features_out}
        if self.module is None:
            arguments |= {"dropout": self.dropout, **options}
        return self.module or default, {**arguments, **(self.module_params or {})}

    def _config(self, target):
        augmentation = self.build_augmentation()
        return training_config(self, target, self._fitted_loss, augmentation=augmentation)

    def _build_module(self):
        return EncoderNetwork(self.build_module(), self._n_outputs)

    def __sklearn_is_fitted__(self):
        return hasattr(self, "module_")  # `fit_prepare` alone sets other fitted attributes

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.three_d_array = True
        tags.input_tags.string = self._reads.files is None
        tags.transformer_tags.preserves_dtype = []
        return tags
