"""Base class of late fusion classifiers and regressors."""

from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.base import TransformerMixin, is_classifier
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    check_cv,
)
from sklearn.utils import Bunch, get_tags
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted

from sklearn_mmfusion._caching import MEMORY, CachedChild, open_memory
from sklearn_mmfusion._columns import (
    remember_columns,
    select_for_fit,
    select_for_predict,
    warn_empty_rows,
)
from sklearn_mmfusion._routing import check_weights_are_taken, route_params
from sklearn_mmfusion._sklearn import (
    HasMethods,
    MetadataRouter,
    MethodMapping,
    StrOptions,
    _check_feature_names_in,
    _check_method_params,
    _routing_enabled,
    _safe_indexing,
)
from sklearn_mmfusion._streams import StreamMixin
from sklearn_mmfusion._triples import (
    TripleComposition,
    check_triples,
    columns_hint,
    kept_triples,
    resolve_triples,
    root_seed,
    seeded_clone,
)
from sklearn_mmfusion._validation import (
    check_groups,
    check_named_numbers,
    check_weight,
    check_y,
    number_rows,
    warn,
)
from sklearn_mmfusion.containers.conversion import as_column, as_table
from sklearn_mmfusion.ensemble.members import (
    Task,
    as_member,
    fit_member,
    is_prefit,
    kind_of,
    last_step,
    member_output,
)

FOLDS = 5


class _LateFusion(StreamMixin, TransformerMixin, TripleComposition):
    """One predictor per modality, and a rule that joins their outputs.

    A subclass reads the target (`_read_target`), selects the members' outputs (`_output`), learns
    its rule from out-of-fold outputs (`_learn_rule`, if `_needs_folds`) and applies it.
    """

    _triples_parameter = "estimators"
    # Requested by default: rules, calibration and the default folds use them if they are passed.
    # Members get them by their own requests.
    __metadata_request__fit = {"sample_weight": True, "groups": True}

    _parameter_constraints: dict = {
        "estimators": [list, tuple],
        "weights": [StrOptions({"auto"}), dict, None],
        "head": [HasMethods(["fit", "predict"]), None],
        "final_estimator": [HasMethods(["fit", "predict"]), None],
        "cv": ["cv_object"],
        "n_jobs": [Integral, None],
        "memory": MEMORY,
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    # ------------------------------------------------------------------------------ fit

    def _fit(self, X, y, params):
        estimator_name = type(self).__name__
        check_triples(self.estimators, self, methods=("fit",), parameter="estimators")
        self._check_kinds()
        table = as_table(X)
        n_rows = len(table)
        y = check_y(y, n_rows, estimator_name=estimator_name)
        weight = check_weight(params.get("sample_weight"), n_rows, estimator_name=estimator_name)
        groups = check_groups(params.get("groups"), n_rows, estimator_name=estimator_name)
        # rows of weight zero are left out
        kept = np.arange(n_rows) if weight is None else np.flatnonzero(weight)
        if len(kept) < n_rows:
            params = _check_method_params(table, params, indices=kept)
            table, y = _safe_indexing(table, kept), _safe_indexing(y, kept)
            groups = None if groups is None else groups[kept]
        weight = np.ones(n_rows) if weight is None else weight[kept]
        with number_rows(kept):
            return self._fit_rows(table, y, weight, groups, params, self._folds(n_rows, kept))

    def _folds(self, n_rows, kept):
        """Return `cv`; an iterable of folds of all rows as folds of the rows that are kept."""
        cv = self.cv
        if len(kept) == n_rows or cv is None or isinstance(cv, Integral) or hasattr(cv, "split"):
            return cv
        places = np.full(n_rows, -1)
        places[kept] = np.arange(len(kept))
        folds = ([places[rows] for rows in fold] for fold in cv)
        return (tuple(rows[rows >= 0] for rows in fold) for fold in folds)

    def _fit_rows(self, table, y, weight, groups, params, cv):
        estimator_name = type(self).__name__
        y, target = self._read_target(y)
        members = self._members()
        children = self._routed_children(members)
        routed = route_params(self, children, params)
        check_weights_are_taken(children, params, estimator_name)
        self._rule = self.fusion
        self._learn_prior(target, weight)
        names = remember_columns(self, table)
        self._check_parameters()
        self._check_members(members)
        splits = self._splits(members, y, groups, routed, cv)
        self._selections = resolve_triples(members, table, names, estimator_name)
        selected = select_for_fit(table, self._selections, estimator_name)
        tasks = self._tasks(members, selected, y, routed, splits)
        results = iter(
            Parallel(n_jobs=self.n_jobs)(
                delayed(fit_member)(task) for row in tasks for task in row if task
            )
        )
        done = [[next(results) if task else None for task in row] for row in tasks]
        self._keep_members(members, [row[0] for row in done])
        present = np.array([present for _, present in selected])
        self._absent = (~present.all(axis=1)).tolist()
        tests = [test for _, test in splits]
        outputs, mask, rows = self._out_of_fold(present, [row[1:] for row in done], tests)
        final = routed.get("final_estimator", Bunch(fit={})).fit
        final = _check_method_params(table, final, indices=rows)
        self._learn_rule(outputs, mask, y[rows], target[rows], weight[rows], final)
        return self

    def _members(self):
        """Return (name, unfitted predictor, column) of every modality that is not dropped."""
        head = self._default_head() if self.head is None else self.head
        members = [
            (name, as_member(name, estimator, head, self), column)
            for name, estimator, column in kept_triples(self.estimators)
        ]
        if not members:
            raise ValueError(f"{type(self).__name__}: every estimator is 'drop'.")
        return members

    def _check_members(self, members):
        for name, member, _ in members:
            if is_prefit(member):
                message = (
                    f"{type(self).__name__}: modality {name!r} has {member!r}, which is not "
                    "fitted. Fit an estimator before it is frozen."
                )
                check_is_fitted(last_step(member), msg=message.replace("%", "%%"))
            self._check_member(name, member)

    def _routed_children(self, members):
        """Return {name: estimator} of all children that may get fit parameters."""
        children = {name: member for name, member, _ in members}
        return children | ({"final_estimator": self._final()} if self._is_stacking() else {})

    def _keep_members(self, members, fitted):
        self.estimators_ = [member.estimator for member in fitted]
        self._fit_keys = [member.key for member in fitted]
        for (name, _, _), member in zip(members, self.estimators_, strict=True):
            self._check_member(name, member, fitted=True)

    def _tasks(self, members, selected, y, routed, splits):
        """Return one list per member: the task of fitting it on all rows, then one per split."""
        seed, estimator_name = root_seed(self.random_state), type(self).__name__
        tasks, memory = [], open_memory(self.memory)
        for i, (name, member, _) in enumerate(members):
            data, present = selected[i]
            row, hint = [], columns_hint(member, self._selections[i])
            for k, (train, test) in enumerate([(np.arange(len(y)), None), *splits]):
                fold = f", fold {k} of {len(splits)}" if k else ""
                message = f"({i + 1} of {len(members)}) Fitting {name}{fold}"
                task = Task(
                    member=seeded_clone(member, seed, name, self._auto_params(y)),
                    data=data,
                    present=present,
                    y=y,
                    params=routed[name].fit,
                    train=train,
                    test=test,
                    output=self._output(),
                    note=f"Raised while fitting modality {name!r} of {estimator_name}{fold}.{hint}",
                    message=message if self.verbose else None,
                    memory=memory,
                    label=f"{estimator_name}: modality {name!r}",
                )
                row.append(task if not k or self._learnable(y[task.kept]) else None)
            tasks.append(row)
        return tasks

    def _splits(self, members, y, groups, routed, cv):
        """Return pairs of row positions (train, test), none if the rule learns nothing."""
        if not self._needs_folds([member for _, member, _ in members]):
            return []
        metadata = {"groups": groups}
        if cv is None or isinstance(cv, Integral):
            cv, metadata["groups"] = self._default_cv(y, groups)
        elif _routing_enabled():
            metadata = routed.cv.split
        rows = np.arange(len(y))
        splits = check_cv(cv, y, classifier=is_classifier(self)).split(rows, y, **metadata)
        return [(rows[train], rows[test]) for train, test in splits]

    def _default_cv(self, y, groups):
        """Return the splitter for an integer or None, and the groups that it keeps apart."""
        stratified = is_classifier(self) and y.ndim == 1
        most = len(y)  # folds
        if stratified:
            most = np.unique(y, return_counts=True)[1].min()
        if groups is not None and len(np.unique(groups)) == 1:
            warn(
                f"{type(self).__name__}: all rows belong to one group, so the rule is learned on "
                "folds that ignore groups."
            )
            groups = None
        n_folds = self.cv or max(2, min(FOLDS, most))
        if groups is None:
            return (StratifiedKFold if stratified else KFold)(n_folds), None
        n_folds = min(n_folds, len(np.unique(groups)))
        return (StratifiedGroupKFold if stratified else GroupKFold)(n_folds), groups

    def _out_of_fold(self, present, outputs, tests):
        """Return out-of-fold outputs (n_modalities, n_rows, ...), their mask and their rows.

        `outputs` holds one list per modality with one item per split, None if no row was present.
        Rows of folds in which a member could not be fitted are left out.
        """
        rows = np.concatenate([np.zeros(0, dtype=int), *tests])
        starts = np.cumsum([0, *map(len, tests)])
        joined, mask = self._no_outputs(len(outputs), starts[-1])
        for m, of_modality in enumerate(outputs):
            for test, start, output in zip(tests, starts[:-1], of_modality, strict=True):
                self._enter(joined, mask, m, start + np.flatnonzero(present[m, test]), output)
        complete = (mask == present[:, rows]).all(axis=0)
        return joined[:, complete], mask[:, complete], rows[complete]

    def _no_outputs(self, n_modalities, n_rows):
        """Return placeholder outputs, to be filled in by members, and a mask of False."""
        shape = n_modalities, n_rows
        return np.ones((*shape, *np.shape(self._prior_output()))), np.zeros(shape, dtype=bool)

    def _enter(self, outputs, mask, m, rows, output):
        """Write a member's output; rows that are not finite count as absent, with a warning."""
        if output is None:
            return
        finite = self._is_finite(output)
        outputs[m, rows[finite]] = output[finite]
        mask[m, rows[finite]] = True
        if not finite.all():
            warn(
                f"{type(self).__name__}: the estimator of modality {self._selections[m].name!r} "
                f"predicted NaN or infinity in {(~finite).sum()} of {len(finite)} rows (first "
                f"{rows[~finite][:5].tolist()}); the modality counts as absent in these rows."
            )

    # ------------------------------------------------------------------------------ predict

    def _predict_cells(self, cells):
        """Predict one row of a stream, given as a dict of the cells that are there."""
        labels = {selection.name: selection.labels for selection in self._selections}
        there = [name for name, own in labels.items() if not cells.keys().isdisjoint(own)]
        columns = {c: as_column([cells.get(c)], name=c) for own in labels.values() for c in own}
        return self._predict_outputs(*self._encode(pd.DataFrame(columns), there))[0]

    def _encode(self, X, only=None):
        """Return the outputs of all members on X and a mask of those present.

        `only` names the modalities to read; their outputs are not stored.
        """
        check_is_fitted(self)
        selected = select_for_predict(self, X, self._selections, only)
        memory = open_memory(self.memory if only is None else None)
        computed = Parallel(n_jobs=self.n_jobs if only is None else 1)(
            delayed(member_output)(
                self._output(),
                CachedChild(member, memory, key=key),
                data,
                np.flatnonzero(present),
                f"Raised while applying modality {selection.name!r} of {type(self).__name__}.",
            )
            for member, (data, present), key, selection in zip(
                self.estimators_, selected, self._fit_keys, self._selections, strict=True
            )
        )
        outputs, mask = self._no_outputs(len(selected), len(selected[0][1]))
        for m, ((_, present), output) in enumerate(zip(selected, computed, strict=True)):
            self._enter(outputs, mask, m, np.flatnonzero(present), output)
        warn_empty_rows(mask, type(self).__name__, f"they get {self._empty_rows_get}")
        return outputs, mask

    def _hide(self, encoding, names):
        """Make the outputs of these modalities' members absent in all rows."""
        outputs, mask = (values.copy() for values in encoding)
        hidden = [selection.name in names for selection in self._selections]
        outputs[hidden], mask[hidden] = self._no_outputs(1, mask.shape[1])
        return outputs, mask

    def _replace(self, encoding, other, names):
        """Take the outputs of these modalities' members from another encoding."""
        taken = np.array([selection.name in names for selection in self._selections])
        outputs, mask = (
            np.where(taken.reshape(-1, *[1] * (old.ndim - 1)), new, old)
            for old, new in zip(encoding, other, strict=True)
        )
        return outputs, mask

    def transform(self, X):
        """Concatenate the predictions of all modalities' estimators.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns)
            The modalities, as in `fit`.

        Returns
        -------
        X_t : ndarray of shape (n_samples, n_features_out), dtype=float64
            Input of a final estimator. For each modality: one column per class (a single one for
            two classes), label or number, with the training prior (mean) where it is absent. Then
            one column per modality that was absent in any row of `fit`, 1.0 where it is absent.
            Predictions for the rows of `fit` are optimistic; `final_estimator` is trained on
            out-of-fold predictions.
        """
        return self._stack(*self._encoding(X))

    def _stack(self, outputs, mask):
        wide = mask.reshape(*mask.shape, *[1] * (outputs.ndim - 2))
        outputs = np.where(wide, outputs, self._prior_output())
        columns = self._columns(outputs)  # (n_modalities, n_samples, n_columns)
        absent = ~mask[self._absent].T
        return np.hstack([*columns, absent.astype(np.float64)])

    def get_feature_names_out(self, input_features=None):
        """Get the names of the columns of `transform`.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Names of the columns of X; must equal `feature_names_in_` where that is defined.

        Returns
        -------
        feature_names_out : ndarray of str objects
            ``modality__class``, ``modality__label`` or ``modality__target``; then
            ``missingindicator_modality``.
        """
        check_is_fitted(self)
        _check_feature_names_in(self, input_features)
        names = [selection.name for selection in self._selections]
        columns = [f"{name}__{column}" for name in names for column in self._column_names()]
        absent = [name for name, absent in zip(names, self._absent, strict=True) if absent]
        return np.asarray([*columns, *(f"missingindicator_{n}" for n in absent)], dtype=object)

    # ------------------------------------------------------------------------------ protocol

    @property
    def named_estimators_(self):
        """The fitted estimators by name."""
        names = [selection.name for selection in self._selections]
        return Bunch(**dict(zip(names, self.estimators_, strict=True)))

    def get_metadata_routing(self):
        """Get the metadata routing of this object.

        Returns
        -------
        routing : MetadataRouter
            Requests of this estimator, each member, the splitter and the final estimator.
        """
        router = MetadataRouter(owner=self).add_self_request(self)
        for name, member, _ in self._members():
            mapping = MethodMapping().add(caller="fit", callee="fit")
            router.add(method_mapping=mapping, **{name: member})
        default = self.cv is None or isinstance(self.cv, Integral)
        mapping = MethodMapping().add(caller="fit", callee="split")
        # The default folds keep groups apart if they are given. An iterable of folds requests
        # nothing; it may be a generator, which must not be read here.
        given = self.cv if hasattr(self.cv, "split") else KFold()
        splitter = GroupKFold() if default else given
        router.add(cv=splitter, method_mapping=mapping)
        if self._is_stacking():
            mapping = MethodMapping().add(caller="fit", callee="fit")
            router.add(final_estimator=self._final(), method_mapping=mapping)
        return router

    def _member_tags(self):
        """Return the tags of the members; none for malformed triples, which make `fit` raise."""
        try:
            return [get_tags(member) for _, member, _ in self._members()]
        except (TypeError, ValueError):
            return []

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        # in a plain table; NA cells of other columns are always allowed
        tags.input_tags.allow_nan = all(t.input_tags.allow_nan for t in self._member_tags())
        return tags

    # ------------------------------------------------------------------------------ rule

    def _is_stacking(self):
        return self.fusion == "stacking"

    def _final(self):
        """Return the unfitted final estimator of stacking."""
        return self._default_final() if self.final_estimator is None else self.final_estimator

    def _fit_final(self, outputs, mask, y, params):
        """Fit the final estimator on the stacked outputs of rows that have any modality."""
        some = np.flatnonzero(mask.any(axis=0))
        columns = self._stack(outputs, mask)
        params = _check_method_params(columns, params, indices=some)
        final = seeded_clone(self._final(), root_seed(self.random_state), "final_estimator")
        self.final_estimator_ = final.fit(columns[some], y[some], **params)

    def _weights(self, learn):
        """Return {name: weight} of all members: given, or learned by `learn`."""
        names = [selection.name for selection in self._selections]
        if isinstance(self.weights, dict):
            return {name: float(self.weights.get(name, 1.0)) for name in names}
        values = np.ones(len(names)) if learn is None else learn(len(names))
        return dict(zip(names, values.tolist(), strict=True))

    def _weight_array(self):
        return np.array([self.weights_[selection.name] for selection in self._selections])

    def _check_kinds(self):
        """Raise unless head and final estimator are predictors of the fusion's kind."""
        kind, is_wanted = kind_of(self)
        for parameter in ("head", "final_estimator"):
            value = getattr(self, parameter)
            if value is not None and (isinstance(value, type) or not is_wanted(value)):
                raise TypeError(
                    f"{type(self).__name__}: {parameter}={value!r}; expected a {kind} (an "
                    "instance, unfitted) or None."
                )

    def _check_weights(self, given, learned):
        """Raise unless weights are numbers for existing modalities and the rule uses them."""
        label = f"{type(self).__name__}(fusion={self.fusion!r})"
        if isinstance(self.weights, str) and self.fusion not in learned:
            raise ValueError(
                f"{label} cannot learn weights, got weights={self.weights!r}; "
                f"{' and '.join(map(repr, learned))} can. Set weights=None."
            )
        if not isinstance(self.weights, dict):
            return
        if self.fusion not in given:
            raise ValueError(
                f"{label} does not use weights, got {self.weights}; {', '.join(map(repr, given))} "
                "do. Set weights=None."
            )
        check_named_numbers(self.weights, dict(self._pairs), f"{label}: weights")
        names = [name for name, _, _ in kept_triples(self.estimators)]
        if not any(self.weights.get(name, 1.0) for name in names):
            raise ValueError(
                f"{label}: weights={self.weights} is 0 for every modality; expected a weight above "
                "0 for one of them. To leave out a modality, set its estimator to 'drop'."
            )
