"""Joint fusion: what classifier and regressor share."""

import warnings
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator
from torch import nn

from sklearn_mmfusion._caching import MEMORY, open_memory
from sklearn_mmfusion._composition import (
    KEYWORDS,
    TripleComposition,
    accepted_fit_params,
    as_table,
    check_triples,
    column_names,
    resolve,
    root_seed,
    seeded_clone,
    select_rows,
    take_params,
    take_rows,
)
from sklearn_mmfusion._sklearn import (
    Interval,
    MetadataRouter,
    MethodMapping,
    StrOptions,
    _check_method_params,
    _fit_context,
    _routing_enabled,
    _safe_indexing,
    process_routing,
)
from sklearn_mmfusion._skorch import TRAINING_CONSTRAINTS, NetworkMixin
from sklearn_mmfusion._torch import FusionInputs, Rows
from sklearn_mmfusion._validation import (
    CLASSIFICATION,
    all_or_nothing,
    check_groups,
    check_weight,
    check_y,
    combine_weights,
    encode_target,
    noted,
)
from sklearn_mmfusion.modules.fusion import FUSIONS
from sklearn_mmfusion.modules.network import EncoderNetwork
from sklearn_mmfusion.modules.objectives import ALIGNMENTS, JointLoss, MultiTaskLoss
from sklearn_mmfusion.neural_network._network import build_network
from sklearn_mmfusion.neural_network._parts import as_part
from sklearn_mmfusion.neural_network._targets import (
    MULTITASK,
    as_targets,
    check_target_weights,
    each_target,
    encode_targets,
    is_number,
    loss_of,
    priors,
)

OBJECTIVES = ("auxiliary", *ALIGNMENTS)
DEFAULT_OBJECTIVES = {"auxiliary": 0.3}
PRETRAINING_STEPS = 300  # at least, of each modality


class _JointFusion(NetworkMixin, TripleComposition, BaseEstimator):
    """One network of encoders, a fusion and a head, trained end to end."""

    _triples_parameter = "encoders"
    _min_steps = 1000

    _parameter_constraints = {
        **{k: v for k, v in TRAINING_CONSTRAINTS.items() if not k.startswith("module")},
        "encoders": [list, tuple],
        "fusion": [StrOptions(set(FUSIONS)), callable],
        "fusion_params": [dict, None],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "objectives": [dict, StrOptions({"auto"}), None],
        "modality_dropout": [Interval(Real, 0, 1, closed="left")],
        "pretrain": ["boolean"],
        "encoder_lr": [Interval(Real, 0, None, closed="left"), dict, None],
        "target_type": [StrOptions({"auto"}), dict],
        "target_weights": [StrOptions({"uncertainty"}), dict, None],
        "memory": MEMORY,
    }

    # ------------------------------------------------------------------------------ fit

    @_fit_context(prefer_skip_nested_validation=False)
    @all_or_nothing
    def fit(self, X, y, sample_weight=None, groups=None):
        """Train encoders, fusion and head as one network.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns)
            The modalities: a pandas or polars frame, or a 2-D array (of objects too). A cell that
            is NA, None or NaN marks the modality absent in that row, where it is a single column.
        y : array-like of shape (n_samples,) or (n_samples, n_targets), or DataFrame
            Target. A frame of several columns (or of one that `target_type` names) is several named
            targets, each of its own kind, in which NA means not known. Stratified folds, the
            default of scikit-learn for a number of folds, do not split those: pass ``KFold(5)``.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row in the loss. Rows of weight zero are left out.
        groups : array-like of shape (n_samples,), default=None
            Rows of one group (speaker, patient) stay on one side of the validation split.

        Returns
        -------
        self : object
        """
        self._check_parameters()
        owner = type(self).__name__
        table = as_table(X)
        y, several = self._check_target(y, len(table))
        weight = check_weight(sample_weight, len(table), owner=owner)
        groups = check_groups(groups, len(table), owner=owner)
        warm = self.warm_start and hasattr(self, "module_")  # its vocabulary and scales stay
        self._parts = self._make_parts(warm)
        columns = self._select_columns(table)
        rows = self._learnable_rows(columns, weight)
        routed = self._routed(sample_weight=sample_weight, groups=groups)
        y, weight, groups = (
            None if v is None else _safe_indexing(v, rows) for v in (y, weight, groups)
        )
        target = self._encode(y, several)
        inputs = self._fit_parts(columns, rows, y, routed, warm)
        weight = combine_weights(
            weight, getattr(self, "class_weight", None), y, owner=owner, kind=target.kind
        )
        self._n_outputs = target.n_outputs
        self._priors = priors(target, weight)
        self._pretraining_epochs = {}
        self._train(inputs, target, weight, groups)
        vars(self).pop("classes_", None)
        if target.classes is not None:
            self.classes_ = target.classes
        return self

    def _check_parameters(self):
        owner = type(self).__name__
        check_triples(
            self.encoders, self, methods=("fit",), keywords=KEYWORDS, parameter="encoders"
        )
        if isinstance(self.fusion, nn.Module):
            raise TypeError(
                f"{owner}: fusion={type(self.fusion).__name__}(...) is an instance; expected a "
                "class, because a clone would keep its trained weights. Pass the class as `fusion` "
                "and its arguments as `fusion_params`."
            )
        n_modalities = len(self._kept_triples())
        if not n_modalities:
            raise ValueError(f"{owner}: every encoder is 'drop'; there is nothing to fuse.")
        for name, weight in self._objectives().items():
            if name not in OBJECTIVES:
                raise ValueError(
                    f"{owner}: objectives has {name!r}; expected some of {list(OBJECTIVES)}."
                )
            if not isinstance(weight, Real) or not 0 <= weight < np.inf:
                raise ValueError(
                    f"{owner}: objectives has {name!r} with weight {weight!r}; expected a finite "
                    "number of 0 or more."
                )
            if weight and name in ALIGNMENTS and n_modalities < 2:
                raise ValueError(
                    f"{owner}: objective {name!r} aligns modalities with one another; there is one."
                )
        if isinstance(self.encoder_lr, dict):
            self._check_rates()
        if "criterion" in (self.net_params or {}):
            raise ValueError(
                f"{owner}: net_params has 'criterion', but a joint network adds up the losses of "
                "its objectives. Choose the prediction's own by `loss`, its arguments as "
                "net_params={'criterion__label_smoothing': 0.0}."
            )

    def _check_rates(self):
        owner, names = type(self).__name__, [name for name, _ in self._pairs]
        for name, rate in self.encoder_lr.items():
            if name not in names:
                raise ValueError(f"{owner}: encoder_lr names {name!r}; the modalities are {names}.")
            if not isinstance(rate, Real) or not 0 <= rate < np.inf:
                raise ValueError(
                    f"{owner}: encoder_lr of {name!r} is {rate!r}; expected a finite number of 0 "
                    "or more."
                )

    def _kept_triples(self):
        return [t for t in self.encoders if not (isinstance(t[1], str) and t[1] == "drop")]

    def _make_parts(self, warm):
        """{name: part} of the network, those of the last fit to go on with."""
        names = [name for name, _, _ in self._kept_triples()]
        if warm and names != list(self._parts):
            raise ValueError(
                f"{type(self).__name__}: warm_start=True, but the modalities are {names}, those of "
                f"the fitted network {list(self._parts)}. Set warm_start=False."
            )
        if warm:
            return self._parts
        seed, parts = root_seed(self.random_state), {}
        for name, estimator, _ in self._kept_triples():
            child = estimator
            if not isinstance(estimator, str):
                child = seeded_clone(estimator, seed, name)
            parts[name] = as_part(child, self.n_components, self.dropout)
            if not hasattr(parts[name].alone, "transform") and parts[name].alone is not None:
                raise TypeError(
                    f"{type(self).__name__}: modality {name!r} has {estimator!r}, which does not "
                    "implement transform; expected an encoder, a transformer, 'passthrough' or "
                    "'drop'. LateFusion joins predictors."
                )
        return parts

    def _select_columns(self, table):
        """For each modality the data of its present rows, and which those are."""
        names, columns = column_names(table), []
        self.n_features_in_ = table.shape[1]
        vars(self).pop("feature_names_in_", None)
        if names is not None:
            self.feature_names_in_ = names
        self._selections = []
        for triple, part in zip(self._kept_triples(), self._parts.values(), strict=True):
            selection = resolve(triple, table, names, self, wants=part.wants_column)
            data, present = select_rows(table, selection, as_series=part.wants_column)
            if data is None:
                raise ValueError(
                    f"{type(self).__name__}: modality {selection.name!r} (column "
                    f"{selection.labels}) has no present row among {len(table)}; nothing can be "
                    "learnt from it. Set it to 'drop'."
                )
            self._selections.append(selection)
            columns.append((data, present))
        return columns

    def _learnable_rows(self, columns, weight):
        """Positions of the rows that have a weight and any modality."""
        owner = type(self).__name__
        some = np.any([present for _, present in columns], axis=0)
        if not some.all():
            warnings.warn(
                f"{owner}: {(~some).sum()} of {len(some)} rows have no modality present (first "
                f"{np.flatnonzero(~some)[:5].tolist()}); nothing is learnt from them.",
                UserWarning,
                stacklevel=5,
            )
        rows = np.flatnonzero(some if weight is None else some & (weight > 0))
        if len(rows) < 2:
            raise ValueError(
                f"{owner}: X has n_samples={len(some)}, of which {len(rows)} have a modality and "
                "a weight; a minimum of 2 such rows is required."
            )
        return rows

    def _fit_parts(self, columns, rows, y, routed, warm):
        """Prepare the modalities of the rows to learn from, learning what that needs."""
        inputs, memory = {}, open_memory(self.memory)
        for (name, part), (data, present) in zip(self._parts.items(), columns, strict=True):
            kept = present[rows]
            places = (np.cumsum(present) - 1)[rows[kept]]
            if len(places) == 0:
                raise ValueError(
                    f"{type(self).__name__}: modality {name!r} is present in no row that has a "
                    "weight; nothing can be learnt from it. Set it to 'drop'."
                )
            if len(places) < present.sum():
                data = _safe_indexing(data, places)
            with noted(
                f"Raised while preparing modality {name!r} of {type(self).__name__}. Rows are "
                "counted among those where the modality is present."
            ):
                if warm:
                    inputs[name] = part.prepare(data, memory), kept
                    continue
                told = _check_method_params(present, routed.get(name, {}), indices=rows)
                args = data, take_rows(y, kept), take_params(told, kept), memory
                who = f"{type(self).__name__}: modality {name!r}"
                inputs[name] = part.fit_prepare(*args, who), kept
        return FusionInputs(inputs)

    # ------------------------------------------------------------------------------ routing

    def _fitted_alone(self):
        """{name: what is fitted before the network}, of the modalities that have it."""
        parts = {n: as_part(e, self.n_components, self.dropout) for n, e, _ in self._kept_triples()}
        return {name: part.alone for name, part in parts.items() if part.alone is not None}

    def _routed(self, **params):
        """{name: fit parameters} for what is fitted alone."""
        params = {key: value for key, value in params.items() if value is not None}
        alone = self._fitted_alone()
        if not _routing_enabled():
            return {name: accepted_fit_params(child, params) for name, child in alone.items()}
        routed = process_routing(self, "fit", **params)
        method = {
            n: "fit_transform" if hasattr(c, "fit_transform") else "fit" for n, c in alone.items()
        }
        return {name: dict(routed[name][method[name]]) for name in alone}

    def get_metadata_routing(self):
        """Get the metadata routing of this object.

        Returns
        -------
        routing : MetadataRouter
            What this estimator requests, and transformers that are fitted before it is trained.
        """
        router = MetadataRouter(owner=self).add_self_request(self)
        for name, child in self._fitted_alone().items():
            mapping = MethodMapping()
            fits = ["fit_transform"] if hasattr(child, "fit_transform") else ["fit", "transform"]
            for callee in fits:
                mapping.add(caller="fit", callee=callee)
            router.add(method_mapping=mapping, **{name: child})
        return router

    # ------------------------------------------------------------------------------ target

    def _check_target(self, y, n_samples):
        """`y` checked, and whether it is a frame of several targets."""
        owner = type(self).__name__
        named = isinstance(self.target_type, dict)
        frame = None
        if y is not None:
            frame = as_targets(y, self._whole_numbers_are_classes, named)
        if frame is None:
            if named or self.target_weights is not None:
                raise ValueError(
                    f"{owner}: target_type and target_weights by name need y with several "
                    "targets; it has one. Pass a frame, one named column a target."
                )
            return check_y(y, n_samples, owner=owner), False
        if len(frame) != n_samples:
            raise ValueError(
                f"{owner}: Found input variables with inconsistent numbers of samples: X has "
                f"{n_samples} rows, y has {len(frame)}."
            )
        if isinstance(self.target_weights, dict):
            check_target_weights(self.target_weights, frame, owner)
        return frame, True

    def _encode(self, y, several):
        owner = type(self).__name__
        if several:
            kinds = self.target_type if isinstance(self.target_type, dict) else {}
            return encode_targets(
                y,
                kinds,
                owner=owner,
                whole_numbers_are_classes=self._whole_numbers_are_classes,
            )
        target = encode_target(y, y.shape[0], owner=owner, target_type=self._target_type(y))
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
        """Class of the fusion and the arguments its name stands for."""
        return FUSIONS[self.fusion] if isinstance(self.fusion, str) else (self.fusion, {})

    def _averaged(self):
        """Which outputs are numbers, whose fusion by logits is a mean."""
        return [
            is_number(single)
            for single in each_target(self._target)
            for _ in range(single.n_outputs)
        ]

    def _build_module(self, n_outputs):
        encoders = {name: part.build_module() for name, part in self._parts.items()}
        with noted(f"Raised while building the network of {type(self).__name__}."):
            return build_network(encoders, n_outputs, **self._module_spec)

    def _part_rates(self):
        if self.encoder_lr is None:
            return {}
        rates = self.encoder_lr
        if not isinstance(rates, dict):
            rates = dict.fromkeys(self._parts, rates)
        groups = [
            (f"encoders.{m}.*", {"lr": float(rates[name])})
            for m, name in enumerate(self._parts)
            if name in rates
        ]
        return {"optimizer__param_groups": groups}

    def _loss(self, kind):
        if kind != MULTITASK:
            return super()._loss(kind)
        if self.loss != "auto":
            raise ValueError(
                f"{type(self).__name__}: loss={self.loss!r}, but y has several targets, each with "
                "the loss of its kind. Set loss='auto'."
            )
        return self.loss

    def _criterion(self, loss):
        auxiliary = {"auxiliary": self._objectives().get("auxiliary", 0.0)}
        if self._target.kind != MULTITASK:
            base, options = super()._criterion(loss)
            return JointLoss, {"base": base, **auxiliary, **options}
        tasks = []
        for column, (single, outputs) in enumerate(
            zip(each_target(self._target), self._target.outputs, strict=True)
        ):
            base, options = super()._criterion(loss_of(single))
            codes = single.kind in CLASSIFICATION
            # a mean over the rows that know the target, however few those are
            scale = 1 / self._target.known[column]
            tasks.append((base(**options), outputs, slice(column, column + 1), codes, scale))
        weights = None
        if self.target_weights != "uncertainty":
            given = self.target_weights or {}
            weights = [float(given.get(name, 1.0)) for name in self._target.targets]
        return JointLoss, {"base": MultiTaskLoss, **auxiliary, "tasks": tasks, "weights": weights}

    # ------------------------------------------------------------------------------ pretraining

    def _start(self, module, target, parts, params, device, seed):
        if not self.pretrain:
            return
        for m, name in enumerate(module.names):
            own = [self._rows_of(name, m, part) for part in parts]
            if len(own[0]) < 2:
                continue
            if len(own[-1]) < 2:  # nothing to watch: in full, and so when it is done again
                own = own[:1]
            network = EncoderNetwork(module.encoders[m], target.n_outputs)
            if len(module.heads):
                network.head = module.heads[m]
            epochs = self._pretraining_epochs.get(name)
            epochs = epochs or self._n_epochs(len(own[0]), PRETRAINING_STEPS)
            self._announce(f"pretraining {name}", own, epochs)
            network = network.to(device)
            _, best = self._fit_net(target, own, epochs, seed, device, network)
            self._pretraining_epochs[name] = best or epochs

    def _rows_of(self, name, m, part):
        """The rows of a part that have a modality, as rows of that modality's inputs alone."""
        present, places = part.inputs.mask[:, m], part.inputs.places[:, m]
        rows = part.rows[present[part.rows]]
        weight = None if part.weight is None else part.weight[present]
        return Rows(part.inputs.parts[name], part.target[present], weight, places[rows])
