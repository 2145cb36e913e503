"""Joint fusion: base of classifier and regressor."""

from functools import partial
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import Bunch
from torch import nn

from sklearn_mmfusion._caching import MEMORY, open_memory
from sklearn_mmfusion._columns import remember_columns, select_for_fit, warn_empty_rows
from sklearn_mmfusion._routing import (
    route_params,
    take_params,
    take_rows,
    transformer_mapping,
)
from sklearn_mmfusion._sklearn import (
    Interval,
    MetadataRouter,
    StrOptions,
    _check_method_params,
    _fit_context,
    _safe_indexing,
)
from sklearn_mmfusion._skorch import (
    TRAINING_CONSTRAINTS,
    FittedNetworkMixin,
    Trainer,
    changed_settings,
    check_same_settings,
    training_config,
)
from sklearn_mmfusion._targets import (
    as_targets,
    each_target,
    encode_target,
    encode_targets,
    is_number,
    priors,
)
from sklearn_mmfusion._torch import FusionInputs
from sklearn_mmfusion._triples import (
    TripleComposition,
    check_triples,
    kept_triples,
    resolve_triples,
    root_seed,
    seeded_clone,
)
from sklearn_mmfusion._validation import (
    MULTITASK,
    add_error_note,
    all_or_nothing,
    check_groups,
    check_named_numbers,
    check_weight,
    check_y,
    combine_weights,
    number_rows,
    warn,
)
from sklearn_mmfusion.containers.conversion import as_table
from sklearn_mmfusion.corruptions.inputs import JointAugmentation
from sklearn_mmfusion.modules.fusion import NETWORK_FUSIONS
from sklearn_mmfusion.modules.fusion_network import build_network
from sklearn_mmfusion.modules.objectives import ALIGNMENTS
from sklearn_mmfusion.neural_network.joint_fusion.table_model import (
    TableModel,
    complete_rows,
    names_of_tables,
)
from sklearn_mmfusion.neural_network.joint_fusion.training import (
    encoder_rates,
    encoder_settings,
    joint_criterion,
    outputs_of,
    pretrain_encoders,
    replaced_params,
)
from sklearn_mmfusion.neural_network.modality_parts import (
    AdoptedPart,
    as_part,
    preparing,
)

OBJECTIVES = ("auxiliary", *ALIGNMENTS)
DEFAULT_OBJECTIVES = {"auxiliary": 0.3}
MIN_STEPS = 1000  # minimum number of steps with max_epochs="auto"


class _JointFusion(FittedNetworkMixin, TripleComposition, BaseEstimator):
    """One network of encoders, a fusion and a head, trained end to end."""

    _triples_parameter = "encoders"

    _parameter_constraints = {
        **{k: v for k, v in TRAINING_CONSTRAINTS.items() if not k.startswith("module")},
        "encoders": [list, tuple],
        "fusion": [StrOptions(set(NETWORK_FUSIONS)), callable],
        "fusion_params": [dict, None],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "objectives": [dict, StrOptions({"auto"}), None],
        "modality_dropout": [Interval(Real, 0, 1, closed="left")],
        "linear_share": [Interval(Real, 0, 1, closed="both"), StrOptions({"auto"})],
        "pretrain": ["boolean", StrOptions({"fitted"})],
        "encoder_lr": [Interval(Real, 0, None, closed="left"), dict, None],
        "target_type": [StrOptions({"auto"}), dict],
        "target_weights": [StrOptions({"uncertainty"}), dict, None],
        "memory": MEMORY,
    }

    # ------------------------------------------------------------------------------ fit

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, sample_weight=None, groups=None):
        """Train encoders, fusion and head as one network.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns)
            The modalities: a pandas or polars frame, or a 2-D array (also of objects). In a
            modality of a single column, NA, None or NaN marks the row's cell as absent.
        y : array-like of shape (n_samples,) or (n_samples, n_targets), or DataFrame
            Target. With a dict as `target_type`, the columns are several named targets, possibly
            of different kinds, and NA marks an unknown value. Otherwise the values decide, as in
            scikit-learn: columns of 0 and 1 are a multilabel indicator.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row in the loss. Rows of weight zero are left out.
        groups : array-like of shape (n_samples,), default=None
            Rows of one group (speaker, patient) stay on one side of the validation split.

        Returns
        -------
        self : object
        """
        with all_or_nothing(self):
            self._check_parameters()
            estimator_name = type(self).__name__
            table = as_table(X)
            y, several, weight, checked = self._check_rows(y, sample_weight, groups, len(table))
            warm = self.warm_start and hasattr(self, "module_")  # keeps its vocabulary and scales
            self._parts = self._make_parts(warm)
            names, triples = remember_columns(self, table), kept_triples(self.encoders)
            self._selections = resolve_triples(triples, table, names, estimator_name)
            selected = select_for_fit(table, self._selections, estimator_name)
            rows = self._learnable_rows([present for _, present in selected], weight)
            params = {"sample_weight": sample_weight, "groups": groups}
            routed = route_params(self, self._fitted_alone(), params)
            y, weight, groups = (
                None if v is None else _safe_indexing(v, rows) for v in (y, weight, checked)
            )
            target = self._encode_y(y, several)
            inputs, memory = {}, open_memory(self.memory)
            for selection, (data, present) in zip(self._selections, selected, strict=True):
                name, part = selection.name, self._parts[selection.name]
                kept, data = present[rows], self._learnable_data(name, data, present, rows)
                with preparing(name, part, selection, rows[kept], estimator_name):
                    if warm:
                        inputs[name] = part.prepare(data, memory, training=True), kept
                        continue
                    args = take_rows(y, kept), self._child_params(routed, name, present, rows)
                    label = f"{estimator_name}: modality {name!r}"
                    inputs[name] = part.fit_inputs(data, *args, memory, label), kept
            weight = self._with_class_weight(weight, y, target.kind)
            self._priors = priors(target, weight)
            weights = self._remember_target(target, warm)
            self._module_spec = self._describe_module()
            with number_rows(rows):
                self._train(FusionInputs(inputs), target, weight, groups, weights)
            self._keep_classes(target)
        return self

    def _with_class_weight(self, weight, y, kind):
        class_weight, name = getattr(self, "class_weight", None), type(self).__name__
        return combine_weights(weight, class_weight, y, estimator_name=name, kind=kind)

    def _check_rows(self, y, sample_weight, groups, n_rows):
        y, several = self._check_target(y, n_rows)
        estimator_name = type(self).__name__
        weight = check_weight(sample_weight, n_rows, estimator_name=estimator_name)
        groups = check_groups(groups, n_rows, estimator_name=estimator_name)
        return y, several, weight, groups

    def _train(self, inputs, target, weight, groups, weights):
        """Train the network, then mix it with a linear model of its tables."""
        config, tables = self._config(target), None
        names = names_of_tables(self._parts)
        has_tables = names and len(complete_rows(inputs, names)[0]) > 1
        share = 0 if self.linear_share == "auto" and not self.early_stopping else self.linear_share
        if has_tables and target.kind != MULTITASK and share != 0:
            tables = TableModel(
                *(inputs, self._parts, target, weight, groups),
                **{"loss": self._fitted_loss, "share": share, "seed": config.seed},
            )

        def calibrate(module, part, device):
            if tables is None and not hasattr(self, "temperature"):
                return
            outputs = outputs_of(module, part, device)
            if tables is not None:
                outputs = tables.choose(outputs, part, self._temperature_for)
            self._keep_temperature(self._temperature_for(outputs, part))

        pretrains = self.pretrain and self.pretrain != "fitted"
        pretrain = partial(pretrain_encoders, epochs={}) if pretrains else None
        self._keep_temperature(1.0)
        self.module_, self.history_, self.n_iter_ = Trainer(config).train(
            *(self._build_module, inputs, target, weight, groups, weights, pretrain, calibrate)
        )
        self._table_share = None if tables is None else tables.solved(self.refit)
        self.linear_share_ = 0.0 if self._table_share is None else self._table_share.share

    def _temperature_for(self, outputs, part):
        """The divisor of the outputs with the lowest loss on validation rows; 1 for numbers."""
        return 1.0

    def _keep_temperature(self, temperature):
        """Set the divisor of the outputs in predictions, if there is one."""

    def _keep_classes(self, target):
        vars(self).pop("classes_", None)
        if target.classes is not None:
            self.classes_ = target.classes

    def _check_parameters(self):
        estimator_name = type(self).__name__
        check_triples(self.encoders, self, methods=("fit",), parameter="encoders")
        if isinstance(self.fusion, nn.Module):
            raise TypeError(
                f"{estimator_name}: fusion={type(self.fusion).__name__}(...) is an instance; "
                "expected a class, because a clone would keep its trained weights. Pass the class "
                "as `fusion` and its arguments as `fusion_params`."
            )
        n_modalities = len(kept_triples(self.encoders))
        if not n_modalities:
            raise ValueError(
                f"{estimator_name}: every encoder is 'drop'; there is nothing to fuse."
            )
        check_named_numbers(self._objectives(), OBJECTIVES, f"{estimator_name}: objectives")
        for name, weight in self._objectives().items():
            if weight and name in ALIGNMENTS and n_modalities < 2:
                raise ValueError(
                    f"{estimator_name}: objective {name!r} aligns modalities with one another; "
                    "there is only one."
                )
        if isinstance(self.encoder_lr, dict):
            names = dict(self._pairs)
            check_named_numbers(self.encoder_lr, names, f"{estimator_name}: encoder_lr")
        if "criterion" in (self.net_params or {}):
            raise ValueError(
                f"{estimator_name}: net_params has 'criterion', but a joint network adds up the "
                "losses of its objectives. Choose the loss of the prediction with `loss`, and set "
                "its arguments with net_params={'criterion__label_smoothing': 0.0}."
            )

    def _make_parts(self, warm):
        """Return {name: part} of the network; with `warm`, the parts of the last fit."""
        triples = kept_triples(self.encoders)
        names = [name for name, _, _ in triples]
        if warm and names != list(self._parts):
            raise ValueError(
                f"{type(self).__name__}: warm_start=True, but the modalities are {names} and "
                f"those of the fitted network are {list(self._parts)}. Set warm_start=False."
            )
        settings = encoder_settings(triples, self.get_params())
        if warm:
            check_same_settings(settings, self._encoder_settings, type(self).__name__)
            return self._parts
        self._encoder_settings = settings
        seed, parts = root_seed(self.random_state), {}
        for name, estimator, _ in triples:
            child = estimator
            if not isinstance(estimator, str):
                child = seeded_clone(estimator, seed, name)
            with add_error_note(f"Raised by modality {name!r} of {type(self).__name__}."):
                parts[name] = self._as_part(child)
            if not hasattr(parts[name].alone, "transform") and parts[name].alone is not None:
                raise TypeError(
                    f"{type(self).__name__}: modality {name!r} has {estimator!r}, which does not "
                    "implement transform; expected an encoder, a transformer, 'passthrough' or "
                    "'drop'. Late fusion joins predictors."
                )
        if self.pretrain == "fitted":
            self._check_adopted(parts)
        return parts

    def _as_part(self, estimator):
        return as_part(estimator, self.n_components, self.dropout, self.pretrain == "fitted")

    def _check_adopted(self, parts):
        if not any(isinstance(part, AdoptedPart) for part in parts.values()):
            raise ValueError(
                f"{type(self).__name__}: pretrain='fitted', but no triple has a fitted encoder in "
                f"a FrozenEstimator; the modalities are {list(parts)}. Pass one as "
                "('image', FrozenEstimator(encoder), 'image'), or set pretrain=False."
            )

    def _warn_of_replaced(self, params, before):
        """Warn about training parameters of encoders, e.g. from a search, that have no effect."""
        replaced = replaced_params(self.get_params()).intersection(params)
        given, kept = ({key: values.get(key) for key in replaced} for values in (params, before))
        replaced = changed_settings(given, kept)
        # meta-estimators set every random_state
        replaced = sorted(key for key in replaced if not key.endswith("__random_state"))
        if replaced:
            own = sorted({key.rpartition("__")[2] for key in replaced})
            rate = ", or encoder_lr={name: rate} for one encoder" if "lr" in own else ""
            have = "has" if len(replaced) == 1 else "have"
            warn(
                f"{type(self).__name__}: {', '.join(replaced)} {have} no effect: the joint model "
                f"trains encoders with its own parameters. Set its {', '.join(own)}{rate}."
            )

    def _learnable_rows(self, present, weight):
        """Positions of the rows that have a weight and any modality."""
        estimator_name = type(self).__name__
        known = ~warn_empty_rows(present, estimator_name, "nothing is learned from them")
        rows = np.flatnonzero(known if weight is None else known & (weight > 0))
        if len(rows) < 2:
            raise ValueError(
                f"{estimator_name}: X has n_samples={len(known)}, of which {len(rows)} have a "
                "modality and a weight; a minimum of 2 such rows is required."
            )
        return rows

    def _learnable_data(self, name, data, present, rows):
        """Select the present rows of a modality that are among `rows`."""
        positions = (np.cumsum(present) - 1)[rows[present[rows]]]
        if len(positions) == 0:
            raise ValueError(
                f"{type(self).__name__}: modality {name!r} is present in no row that has a "
                "weight; nothing can be learned from it. Set it to 'drop'."
            )
        return data if len(positions) == present.sum() else _safe_indexing(data, positions)

    @property
    def named_encoders_(self):
        """The fitted estimators of the triples by name.

        Those of ``pretrain="fitted"`` are copies from before the training of the joint network.
        """
        return Bunch(**{name: part.fitted for name, part in self._parts.items()})

    # ------------------------------------------------------------------------------ routing

    def _fitted_alone(self):
        """Return {name: transformer fitted before the network} for the modalities that have one."""
        alone = {
            name: self._as_part(estimator).alone
            for name, estimator, _ in kept_triples(self.encoders)
        }
        return {name: child for name, child in alone.items() if child is not None}

    def _child_params(self, routed, name, present, rows):
        """Fit parameters of a separately fitted transformer, by method, for the present `rows`."""
        params = {}
        for method, values in routed.get(name, {}).items():
            values = _check_method_params(present, values, indices=rows)
            params[method] = take_params(values, present[rows])
        return params

    def get_metadata_routing(self):
        """Get the metadata routing of this object.

        Returns
        -------
        routing : MetadataRouter
            Requests of this estimator and of the transformers that are fitted before training.
        """
        router = MetadataRouter(owner=self).add_self_request(self)
        for name, child in self._fitted_alone().items():
            router.add(method_mapping=transformer_mapping(child, ["fit"]), **{name: child})
        return router

    # ------------------------------------------------------------------------------ target

    def _check_target(self, y, n_samples):
        """Check `y`; return it and whether it is a frame of several targets."""
        estimator_name = type(self).__name__
        if not isinstance(self.target_type, dict):
            if self.target_weights is not None:
                raise ValueError(
                    f"{estimator_name}: target_weights={self.target_weights!r} needs several "
                    "targets. Set target_type={column: kind}, or target_weights=None."
                )
            return check_y(y, n_samples, estimator_name=estimator_name), False
        frame = None if y is None else as_targets(y)
        if frame is None:
            raise ValueError(
                f"{estimator_name}: target_type={self.target_type!r} needs several targets, but y "
                "has one. Pass y as a frame with one named column per target."
            )
        if len(frame) != n_samples:
            raise ValueError(
                f"{estimator_name}: Found input variables with inconsistent numbers of samples: X "
                f"has {n_samples} rows, y has {len(frame)}."
            )
        if isinstance(self.target_weights, dict):
            label = f"{estimator_name}: target_weights"
            check_named_numbers(self.target_weights, frame.columns, label)
        return frame, True

    def _encode_y(self, y, several):
        estimator_name = type(self).__name__
        if several:
            kinds = self.target_type if isinstance(self.target_type, dict) else {}
            return encode_targets(
                y,
                kinds,
                estimator_name=estimator_name,
                whole_numbers_are_classes=self._whole_numbers_are_classes,
            )
        kind = self._target_type(y)
        target = encode_target(y, estimator_name=estimator_name, target_type=kind)
        self._check_kind(target)
        return target

    # ------------------------------------------------------------------------------ network

    def _objectives(self):
        given = DEFAULT_OBJECTIVES if isinstance(self.objectives, str) else self.objectives
        return dict(given or {})

    def _describe_module(self):
        cls, params = self._named_fusion()
        return {
            "fusion": cls,
            "fusion_params": {**params, **(self.fusion_params or {})},
            "width": self.n_components,
            "dropout": self.dropout,
            "objectives": self._objectives(),
            "modality_dropout": self.modality_dropout,
            "averaged": self._averaged(),
        }

    def _named_fusion(self):
        """Class of the fusion and, if it is given by name, its arguments."""
        return NETWORK_FUSIONS[self.fusion] if isinstance(self.fusion, str) else (self.fusion, {})

    def _averaged(self):
        """Flag the outputs that are numbers: fusion="logits" averages those."""
        return [
            is_number(single)
            for single in each_target(self._target)
            for _ in range(single.n_outputs)
        ]

    def _build_module(self):
        encoders = {name: part.build_module() for name, part in self._parts.items()}
        with add_error_note(f"Raised while building the network of {type(self).__name__}."):
            return build_network(encoders, self._n_outputs, **self._module_spec)

    def _config(self, target):
        criterion = joint_criterion(
            target,
            self._fitted_loss,
            auxiliary=self._objectives().get("auxiliary", 0.0),
            target_weights=self.target_weights,
            label_smoothing=getattr(self, "label_smoothing", 0.0),
        )
        return training_config(
            self,
            target,
            self._fitted_loss,
            criterion=criterion,
            param_groups=encoder_rates(self.encoder_lr, list(self._parts)),
            min_steps=MIN_STEPS,
            augmentation=self._build_augmentation(),
        )

    def _build_augmentation(self):
        built = {name: part.build_augmentation() for name, part in self._parts.items()}
        built = {name: augmentation for name, augmentation in built.items() if augmentation}
        return JointAugmentation(built) if built else None
