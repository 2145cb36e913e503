"""What classifier and regressor of late fusion share: members, folds, answers."""

import warnings
from numbers import Integral

import numpy as np
from sklearn.base import TransformerMixin, is_classifier
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, StratifiedKFold, check_cv
from sklearn.utils import Bunch, get_tags
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted

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
    select,
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
from sklearn_mmfusion.ensemble._members import Task, as_member, prepared_clone, run

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
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    # ------------------------------------------------------------------------------ fit

    def _fit(self, X, y, params):
        check_triples(
            self.estimators, self, methods=("fit",), keywords=("drop",), parameter="estimators"
        )
        who = type(self).__name__
        table = as_table(X)
        y, target = self._read_target(y, len(table))
        params = {key: value for key, value in params.items() if value is not None}
        routed = self._routed(params)
        weight = check_weight(params.get("sample_weight"), len(table), owner=who)
        weight = np.ones(len(table)) if weight is None else weight
        self._learn_prior(target, weight)
        self._set_columns(table)
        for name, member, _ in self._members():
            self._check_member(name, member)
        self._check_parameters([name for name, _, _ in self._members()])
        splits = self._splits(y, check_groups(params.get("groups"), len(table), owner=who))
        tasks = self._tasks(table, y, routed, splits)
        done = Parallel(n_jobs=self.n_jobs)(delayed(run)(t) for row in tasks for t in row if t)
        results = iter(done)
        done = [[next(results) if task else None for task in row] for row in tasks]
        self.estimators_ = [row[0] for row in done]
        self._absent = [not row[0].present.all() for row in tasks]
        rows = [np.flatnonzero(test) for _, test in splits]
        answers, mask = self._gather(rows, tasks, done, target)
        rows = np.concatenate(rows) if rows else np.zeros(0, dtype=int)
        final = {key: value for key, value in routed.items() if key == "final_estimator"}
        params = _check_method_params(table, final.get("final_estimator", {}), indices=rows)
        self._learn_rule(answers, mask, y[rows], target[rows], weight[rows], params)
        return self

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
            if not isinstance(estimator, str)
        ]
        if not members:
            raise ValueError(f"{type(self).__name__}: every estimator is 'drop'.")
        return members

    def _tasks(self, table, y, routed, splits):
        """For every member, the task of fitting it on all rows and one for each split."""
        seed, names, who = root_seed(self.random_state), column_names(table), type(self).__name__
        everything = np.ones(len(table), dtype=bool)
        tasks, self._selections = [], []
        members = self._members()
        for i, (name, member, column) in enumerate(members, start=1):
            wants = wants_column(member)
            selection = resolve((name, member, column), table, names, self, wants=wants)
            data, present = select(table, selection, as_series=wants)
            if data is None:
                raise ValueError(
                    f"{who}: modality {name!r} (column {selection.labels}) has no present row "
                    f"among {len(table)}; nothing can be learnt from it. Set it to 'drop'."
                )
            self._selections.append(selection)
            row = []
            for k, (train, test) in enumerate([(everything, None), *splits]):
                part = f", fold {k} of {len(splits)}" if k else ""
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
                    message=f"({i} of {len(members)}) Fitting {name}{part}"
                    if self.verbose
                    else None,
                )
                row.append(task if not k or self._learnable(y[train & present]) else None)
            tasks.append(row)
        return tasks

    def _splits(self, y, groups):
        """Pairs of masks (train, test), none where the rule has nothing to learn."""
        if not self._needs_folds():
            return []
        cv = self.cv
        if cv is None or isinstance(cv, Integral):
            cv, groups = self._default_cv(y, groups)
        rows = np.arange(len(y))
        splits = []
        for train, test in check_cv(cv, y, classifier=is_classifier(self)).split(rows, y, groups):
            splits.append((np.isin(rows, train), np.isin(rows, test)))
        return splits

    def _default_cv(self, y, groups):
        """The splitter that an integer or None stands for, and the groups it is to keep apart."""
        who, n_folds = type(self).__name__, FOLDS if self.cv is None else self.cv
        stratified = is_classifier(self) and y.ndim == 1
        if groups is not None:
            n_groups = len(np.unique(groups))
            if n_groups > 1:
                kind = StratifiedGroupKFold if stratified else GroupKFold
                return kind(min(n_folds, n_groups)), groups
            warnings.warn(
                f"{who}: all rows are of one group; its rule is learnt on folds that do not keep "
                "groups apart.",
                UserWarning,
                stacklevel=6,
            )
        if stratified and self.cv is None:
            rarest = np.unique(y, return_counts=True)[1].min()
            return StratifiedKFold(int(np.clip(rarest, 2, FOLDS))), None
        return n_folds, None

    def _gather(self, rows, tasks, done, target):
        """Out-of-fold answers of shape (n_modalities, n_rows, ...) and which are there."""
        shape = (len(tasks), sum(map(len, rows)), *self._answer_shape(target))
        answers, mask = np.ones(shape), np.zeros(shape[:2], dtype=bool)
        starts = np.cumsum([0, *map(len, rows)])
        for m, row in enumerate(tasks):
            for k, (task, answer) in enumerate(zip(row[1:], done[m][1:], strict=True)):
                if answer is None:
                    continue
                there = task.present[rows[k]]
                places = starts[k] + np.flatnonzero(there)
                answers[m, places] = answer
                mask[m, places] = self._known(task, rows[k][there])
        return answers, mask

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
            data, present = select(table, selection, where, as_series=wants_column(member))
            jobs.append((self._ask(member), member, data, present))
        told = Parallel(n_jobs=self.n_jobs)(
            delayed(ask_if_present)(ask, member, data) for ask, member, data, _ in jobs
        )
        mask = np.array([present for *_, present in jobs])
        answers = np.ones((*mask.shape, *self._answer_shape(None)))
        for m, answer in enumerate(told):
            if answer is not None:
                answers[m, mask[m]] = answer
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
            What a final estimator is trained on: for each modality one column a class (one in all
            for two classes) or label, or one a number, the training prior (mean) where the
            modality is absent; then one column for each modality that was absent in `fit`, 1.0
            where it is.
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
        """{name: fit parameters} for every member."""
        fitted = {name: member for name, member, _ in self._members()}
        if self.fusion == "stacking":
            fitted["final_estimator"] = self._final()
        if _routing_enabled():
            routed = process_routing(self, "fit", **params)
            return {name: dict(routed[name].fit) for name in fitted}
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

    def _check_weights(self, names, weighted):
        """Raise unless given weights name modalities, are numbers and of use to the rule."""
        who = f"{type(self).__name__}(fusion={self.fusion!r})"
        if not isinstance(self.weights, dict):
            return
        if self.fusion not in weighted:
            raise ValueError(
                f"{who} takes no weights, got {self.weights}; {', '.join(map(repr, weighted))} do. "
                "Set weights=None."
            )
        unknown = sorted(set(map(str, self.weights)) - set(names))
        if unknown:
            raise ValueError(f"{who}: weights name {unknown}; the modalities are {names}.")
        for name, weight in self.weights.items():
            if not isinstance(weight, (int, float, np.number)) or not 0 <= weight < np.inf:
                raise ValueError(
                    f"{who}: the weight of modality {name!r} is {weight!r}; expected a finite "
                    "number of 0 or more."
                )


def ask_if_present(ask, member, data):
    """Answers for the rows in `data`, None where there are none."""
    return None if data is None else ask(member, data)


def _wide(mask, answers):
    return mask.reshape(*mask.shape, *[1] * (answers.ndim - 2))
