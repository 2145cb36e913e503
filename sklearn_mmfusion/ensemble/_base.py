"""What classifier and regressor of late fusion share: members, folds, answers."""

import warnings
from numbers import Integral, Real

import numpy as np
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
from sklearn_mmfusion._composition import (
    TripleComposition,
    accepted_fit_params,
    as_table,
    check_triples,
    column_names,
    locate,
    resolve,
    root_seed,
    seeded_clone,
    select_rows,
    wants_column,
    warn_absent_columns,
)
from sklearn_mmfusion._sklearn import (
    HasMethods,
    MetadataRouter,
    MethodMapping,
    StrOptions,
    _check_feature_names_in,
    _check_method_params,
    _raise_for_params,
    _routing_enabled,
    process_routing,
)
from sklearn_mmfusion._validation import check_groups, check_weight
from sklearn_mmfusion.ensemble._members import (
    Task,
    as_member,
    ask_member,
    kind_of,
    prepared_clone,
    run,
)

FOLDS = 5


class _LateFusion(TransformerMixin, TripleComposition):
    """One predictor a modality, and a rule that joins their answers.

    A subclass reads the target (`_read_target`), asks its members (`_ask`), learns its rule from
    out-of-fold answers (`_learn_rule`, where `_needs_folds`) and applies it.
    """

    _triples_parameter = "estimators"

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
        who = type(self).__name__
        check_triples(
            self.estimators,
            self,
            methods=("fit",),
            keywords=("drop", "passthrough"),
            parameter="estimators",
        )
        self._check_kinds()
        table = as_table(X)
        y, target = self._read_target(y, len(table))
        params = {key: value for key, value in params.items() if value is not None}
        routed = self._routed(params)
        weight = check_weight(params.get("sample_weight"), len(table), owner=who)
        weight = np.ones(len(table)) if weight is None else weight
        groups = check_groups(params.get("groups"), len(table), owner=who)
        self._rule = self.fusion
        self._learn_prior(target, weight)
        self._set_columns(table)
        members = self._members()
        self._check_parameters()
        for name, member, _ in members:
            self._check_member(name, member)
        splits = self._splits(members, y, groups, routed)
        tasks = self._tasks(members, table, y, routed, splits)
        done = self._run(tasks)
        self.estimators_ = [row[0].estimator for row in done]
        self._fit_keys = [row[0].key for row in done]
        for (name, _, _), member in zip(members, self.estimators_, strict=True):
            self._check_member(name, member, fitted=True)
        tests = [test for _, test in splits]
        present = np.array([row[0].present for row in tasks])
        answers, mask = self._gather(present, done, tests)
        rows = np.concatenate([np.zeros(0, dtype=int), *tests])
        # where a fold could not be fitted there is nothing to learn the rule from
        told = (mask == present[:, rows]).all(axis=0)
        rows, answers, mask = rows[told], answers[:, told], mask[:, told]
        params = _check_method_params(table, routed.get("final_estimator", {}), indices=rows)
        self._learn_rule(answers, mask, y[rows], target[rows], weight[rows], params)
        return self

    def _run(self, tasks):
        """Results of all tasks, in the same rows; None for None."""
        results = iter(
            Parallel(n_jobs=self.n_jobs)(
                delayed(run)(task) for row in tasks for task in row if task
            )
        )
        return [[next(results) if task else None for task in row] for row in tasks]

    def _set_columns(self, table):
        self.n_features_in_ = table.shape[1]
        names = column_names(table)
        if names is not None:
            self.feature_names_in_ = names
        else:
            vars(self).pop("feature_names_in_", None)

    def _members(self):
        """(name, unfitted predictor, column) of every modality that is not dropped."""
        head = self._default_head() if self.head is None else self.head
        members = [
            (name, as_member(name, estimator, head, self), column)
            for name, estimator, column in self.estimators
            if not (isinstance(estimator, str) and estimator == "drop")
        ]
        if not members:
            raise ValueError(f"{type(self).__name__}: every estimator is 'drop'.")
        return members

    def _tasks(self, members, table, y, routed, splits):
        """For every member, the task of fitting it on all rows and one for each split."""
        seed, names, who = root_seed(self.random_state), column_names(table), type(self).__name__
        tasks, self._selections, self._absent = [], [], []
        memory = open_memory(self.memory)
        for i, (name, member, column) in enumerate(members, start=1):
            wants = wants_column(member)
            selection = resolve((name, member, column), table, names, self, wants=wants)
            data, present = select_rows(table, selection, as_series=wants)
            if data is None:
                raise ValueError(
                    f"{who}: modality {name!r} (column {selection.labels}) has no present row "
                    f"among {len(table)}; nothing can be learnt from it. Set it to 'drop'."
                )
            self._selections.append(selection)
            self._absent.append(not present.all())
            row = []
            for k, (train, test) in enumerate([(np.arange(len(table)), None), *splits]):
                part = f", fold {k} of {len(splits)}" if k else ""
                message = f"({i} of {len(members)}) Fitting {name}{part}"
                task = Task(
                    member=prepared_clone(member, name, seed, self._told(y)),
                    data=data,
                    present=present,
                    y=y,
                    params=routed[name],
                    train=train,
                    test=test,
                    ask=self._ask(member),
                    note=f"Raised while fitting modality {name!r} of {who}{part}. Rows are counted "
                    "among those where the modality is present.",
                    owner=who,
                    message=message if self.verbose else None,
                    memory=memory,
                    label=f"{who}: modality {name!r}",
                )
                row.append(task if not k or self._learnable(y[task.kept]) else None)
            tasks.append(row)
        return tasks

    def _splits(self, members, y, groups, routed):
        """Pairs of row positions (train, test), none where the rule has nothing to learn."""
        if not self._needs_folds([member for _, member, _ in members]):
            return []
        cv, metadata = self.cv, {"groups": groups}
        if cv is None or isinstance(cv, Integral):
            cv, metadata["groups"] = self._default_cv(y, groups)
        elif _routing_enabled():
            metadata = routed["cv"]
        rows = np.arange(len(y))
        splits = check_cv(cv, y, classifier=is_classifier(self)).split(rows, y, **metadata)
        return [(rows[train], rows[test]) for train, test in splits]

    def _default_cv(self, y, groups):
        """The splitter that an integer or None stands for, and the groups it is to keep apart."""
        stratified = is_classifier(self) and y.ndim == 1
        most = len(y)  # folds
        if stratified:
            most = np.unique(y, return_counts=True)[1].min()
        if groups is not None and len(np.unique(groups)) == 1:
            warnings.warn(
                f"{type(self).__name__}: all rows are of one group; its rule is learnt on folds "
                "that do not keep groups apart.",
                UserWarning,
                stacklevel=6,
            )
            groups = None
        n_folds = self.cv or max(2, min(FOLDS, most))
        if groups is None:
            return (StratifiedKFold if stratified else KFold)(n_folds), None
        n_folds = min(n_folds, len(np.unique(groups)))
        return (StratifiedGroupKFold if stratified else GroupKFold)(n_folds), groups

    def _gather(self, present, done, tests):
        """Out-of-fold answers of shape (n_modalities, n_rows, ...) and which are there."""
        starts = np.cumsum([0, *map(len, tests)])
        answers = np.ones((len(done), starts[-1], *self._answer_shape()))
        mask = np.zeros(answers.shape[:2], dtype=bool)
        for m, (_, *told) in enumerate(done):
            for test, start, answer in zip(tests, starts[:-1], told, strict=True):
                if answer is not None:
                    self._put(answers, mask, m, start + np.flatnonzero(present[m, test]), answer)
        return answers, mask

    def _put(self, answers, mask, m, rows, answer):
        """Enter a member's answers; those that are not finite count as absent, with a warning."""
        finite = self._is_finite(answer)
        answers[m, rows[finite]] = answer[finite]
        mask[m, rows[finite]] = True
        if not finite.all():
            warnings.warn(
                f"{type(self).__name__}: the estimator of modality {self._selections[m].name!r} "
                f"answered NaN or infinity in {(~finite).sum()} of {len(finite)} rows (first "
                f"{rows[~finite][:5].tolist()}); there the modality counts as absent.",
                UserWarning,
                stacklevel=5,
            )

    # ------------------------------------------------------------------------------ predict

    def _answers(self, X):
        """Answers of all members for X, and which of them are there."""
        check_is_fitted(self)
        table, where = locate(
            as_table(X), getattr(self, "feature_names_in_", None), self.n_features_in_, self
        )
        warn_absent_columns(self._selections, where, self)
        jobs = []
        for member, selection in zip(self.estimators_, self._selections, strict=True):
            data, present = select_rows(table, selection, where, as_series=wants_column(member))
            jobs.append((self._ask(member), member, data, present))
        memory = open_memory(self.memory)
        told = Parallel(n_jobs=self.n_jobs)(
            delayed(ask_member)(ask, CachedChild(member, memory, key=key), data)
            for (ask, member, data, _), key in zip(jobs, self._fit_keys, strict=True)
        )
        present = np.array([present for *_, present in jobs])
        answers, mask = np.ones((*present.shape, *self._answer_shape())), np.zeros_like(present)
        for m, answer in enumerate(told):
            if answer is not None:
                self._put(answers, mask, m, np.flatnonzero(present[m]), answer)
        self._warn_empty(~mask.any(axis=0))
        return answers, mask

    def _warn_empty(self, empty):
        if empty.any():
            warnings.warn(
                f"{type(self).__name__}: {empty.sum()} of {len(empty)} rows have no modality "
                f"present (first {np.flatnonzero(empty)[:5].tolist()}); they get {self._nothing}.",
                UserWarning,
                stacklevel=4,
            )

    def transform(self, X):
        """Predictions of every modality's estimator, side by side.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns)
            The modalities, as in `fit`.

        Returns
        -------
        X_t : ndarray of shape (n_samples, n_features_out), dtype=float64
            What a final estimator reads: for each modality one column a class (one in all for two
            classes) or label, or one a number, the training prior (mean) where the modality is
            absent; then one column for each modality that was absent in `fit`, 1.0 where it is.
            Rows that were in `fit` look too good: `final_estimator` is trained on out-of-fold ones.
        """
        return self._stack(*self._answers(X))

    def _stack(self, answers, mask):
        answers = np.where(_wide(mask, answers), answers, self._prior_answer())
        columns = self._columns(answers)  # (n_modalities, n_samples, n_columns)
        absent = ~mask[self._absent].T
        return np.hstack([*columns, absent.astype(np.float64)])

    def get_feature_names_out(self, input_features=None):
        """Names of the columns of `transform`.

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

    def _routed(self, params):
        """{name: parameters} for the fit of members and final estimator, and the split of cv."""
        fitted = {name: member for name, member, _ in self._members()}
        if self.fusion == "stacking":
            fitted["final_estimator"] = self._final()
        if _routing_enabled():
            routed = process_routing(self, "fit", **params)
            return {**{name: dict(routed[name].fit) for name in fitted}, "cv": routed.cv.split}
        _raise_for_params(params, self, "fit", allow=["sample_weight", "groups"])
        return {name: accepted_fit_params(child, params) for name, child in fitted.items()}

    def get_metadata_routing(self):
        """Get the metadata routing of this object.

        Returns
        -------
        routing : MetadataRouter
            What each estimator, the splitter and the final estimator request.
        """
        router = MetadataRouter(owner=self)
        for name, member, _ in self._members():
            mapping = MethodMapping().add(caller="fit", callee="fit")
            router.add(method_mapping=mapping, **{name: member})
        default = self.cv is None or isinstance(self.cv, Integral)
        mapping = MethodMapping().add(caller="fit", callee="split")
        # the folds that an integer stands for keep groups apart where they are given
        splitter = GroupKFold() if default else check_cv(self.cv)
        router.add(cv=splitter, method_mapping=mapping)
        if self.fusion == "stacking":
            mapping = MethodMapping().add(caller="fit", callee="fit")
            router.add(final_estimator=self._final(), method_mapping=mapping)
        return router

    def _member_tags(self):
        """Tags of the members; none of malformed triples, of which `fit` tells."""
        try:
            return [get_tags(member) for _, member, _ in self._members()]
        except (TypeError, ValueError):
            return []

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        # of a plain table; a cell that is NA is welcome always
        tags.input_tags.allow_nan = all(told.input_tags.allow_nan for told in self._member_tags())
        return tags

    # ------------------------------------------------------------------------------ rule

    def _final(self):
        """The unfitted final estimator of stacking."""
        return self._default_final() if self.final_estimator is None else self.final_estimator

    def _fit_final(self, answers, mask, y, params):
        """Fit the final estimator on the stacked answers for rows that have any."""
        some = np.flatnonzero(mask.any(axis=0))
        columns = self._stack(answers, mask)
        params = _check_method_params(columns, params, indices=some)
        final = seeded_clone(self._final(), root_seed(self.random_state), "final_estimator")
        self.final_estimator_ = final.fit(columns[some], y[some], **params)

    def _weights(self, learn):
        """{name: weight} of all members: given, or what `learn` finds."""
        names = [selection.name for selection in self._selections]
        if isinstance(self.weights, dict):
            return {name: float(self.weights.get(name, 1.0)) for name in names}
        values = np.ones(len(names)) if learn is None else learn(len(names))
        return dict(zip(names, values.tolist(), strict=True))

    def _weight_array(self):
        return np.array([self.weights_[selection.name] for selection in self._selections])

    def _check_kinds(self):
        """Raise unless head and final estimator are of the kind that the owner joins."""
        kind, is_wanted = kind_of(self)
        for parameter in ("head", "final_estimator"):
            value = getattr(self, parameter)
            if value is not None and (isinstance(value, type) or not is_wanted(value)):
                raise TypeError(
                    f"{type(self).__name__}: {parameter}={value!r}; expected a {kind} (an "
                    "instance, unfitted) or None."
                )

    def _check_weights(self, given, learned):
        """Raise unless weights name modalities, are numbers, and the rule has use for them."""
        who = f"{type(self).__name__}(fusion={self.fusion!r})"
        if isinstance(self.weights, str) and self.fusion not in learned:
            raise ValueError(
                f"{who} learns no weights, got weights={self.weights!r}; "
                f"{' and '.join(map(repr, learned))} can. Set weights=None."
            )
        if not isinstance(self.weights, dict):
            return
        if self.fusion not in given:
            raise ValueError(
                f"{who} takes no weights, got {self.weights}; {', '.join(map(repr, given))} do. "
                "Set weights=None."
            )
        names = [name for name, _ in self._pairs]
        unknown = sorted(set(map(str, self.weights)) - set(names))
        if unknown:
            raise ValueError(f"{who}: weights name {unknown}; the modalities are {names}.")
        for name, weight in self.weights.items():
            if not isinstance(weight, Real) or not 0 <= weight < np.inf:
                raise ValueError(
                    f"{who}: the weight of modality {name!r} is {weight!r}; expected a finite "
                    "number of 0 or more."
                )


def _wide(mask, answers):
    return mask.reshape(*mask.shape, *[1] * (answers.ndim - 2))
