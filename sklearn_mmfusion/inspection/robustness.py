"""Scores of a fitted estimator when one modality is corrupted or missing."""

from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.integrate import trapezoid
from sklearn.metrics import check_scoring
from sklearn.utils import Bunch, check_random_state
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from sklearn_mmfusion._triples import VECTORIZERS, first_step, steps_of
from sklearn_mmfusion._validation import add_error_note, check_count
from sklearn_mmfusion.containers import FileArray, TensorArray, as_column
from sklearn_mmfusion.containers.cells import Cells
from sklearn_mmfusion.containers.column_input import check_column, readable_cells
from sklearn_mmfusion.containers.conversion import as_table
from sklearn_mmfusion.containers.dtypes import only_rate
from sklearn_mmfusion.containers.sets import takes_sets
from sklearn_mmfusion.corruptions import CORRUPTIONS, corrupt
from sklearn_mmfusion.corruptions.table import find_corruption, listed
from sklearn_mmfusion.inspection.encoded_rows import encode_again, encode_once, with_composition
from sklearn_mmfusion.inspection.modalities import (
    absence_ignored,
    column_at,
    find_composition,
    find_modalities,
    score_once,
    scorer_name,
    with_columns,
    with_missing,
)

MISSING, NUMBER = "missing", "number"
# Standard deviation of the noise at severities 1 to 5, as a share of the column's own: that of
# the "jitter" of sequences.
NOISE = CORRUPTIONS["sequence"]["jitter"].strengths


def robustness_curve(
    estimator,
    X,
    y,
    *,
    modality,
    corruption=MISSING,
    kind=None,
    levels=None,
    baseline=None,
    scoring=None,
    n_repeats=5,
    random_state=None,
    n_jobs=None,
    verbose=0,
):
    """Score a fitted estimator while one modality gets worse.

    The modality is missing in a growing share of the rows, or its cells are corrupted at a growing
    severity. All other columns stay as they are, and nothing is fitted.

    Parameters
    ----------
    estimator : estimator
        Any fitted estimator over a table of several columns. For ``"missing"``, it has to accept
        missing values in the columns of the modality. All estimators of this package do.
    X : DataFrame or array-like of shape (n_samples, n_columns)
        Rows that `estimator` was not trained on.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Their targets.
    modality : str or int
        Name of a triple of the composition inside `estimator`, which may have several columns;
        or a column of X.
    corruption : str, default="missing"
        ``"missing"``; one of ``sklearn_mmfusion.corruptions.CORRUPTIONS[kind]`` that acts on cells,
        such as ``"noise"`` (see :func:`~sklearn_mmfusion.corruptions.corrupt`); or, for columns of
        numbers, ``"noise"``: normal, with a standard deviation of .05, .1, .2, .4 or .8 times that
        of the column in X.
    kind : str, default=None
        Kind of the cells: a key of ``CORRUPTIONS`` or ``"number"``. None infers it from the encoder
        of the modality, or else from the column. ``"missing"`` does not need it.
    levels : array-like of shape (n_levels,), default=None
        Shares of rows without the modality (0 to 1), or severities (0 to 5), in ascending order
        and starting with 0. None means 0, 0.1, ..., 1 or 0, 1, ..., 5.
    baseline : estimator, default=None
        Another fitted estimator for the same X, to compare with, such as late fusion.
    scoring : str or callable, default=None
        A scorer, as in scikit-learn. None means the ``score`` of the estimator.
    n_repeats : int, default=5
        Number of random repetitions.
    random_state : int, RandomState instance or None, default=None
        Seed, from which each repetition gets its own. Within a repetition, rows that lack the
        modality at one level lack it at all higher ones, and cells are corrupted in a similar way
        at all severities.
    n_jobs : int, default=None
        Number of parallel jobs. The result does not depend on it.
    verbose : int, default=0
        1 prints a line per score.

    Returns
    -------
    result : :class:`~sklearn.utils.Bunch`
        With these attributes:

        - ``levels``: ndarray of shape (n_levels,);
        - ``scores``: ndarray of shape (n_levels, n_repeats). Level 0 and the share 1 leave nothing
          to chance and are scored once;
        - ``mean``: ndarray of shape (n_levels,), over the repetitions;
        - ``relative_robustness``: area under ``mean``, with levels scaled to 0 to 1;
        - ``baseline_scores``, ``baseline_mean``: those of `baseline`, or None;
        - ``effective_robustness``: see the Notes; None without `baseline`;
        - ``modality``, ``corruption``, ``kind``, ``scorer`` (name of the score).

    Raises
    ------
    ValueError
        For an unknown modality, kind, corruption or level, or if the kind cannot be inferred.

    See Also
    --------
    sklearn_mmfusion.corruptions.corrupt : Corrupts a column.

    Notes
    -----
    For the mean scores :math:`f(l)` at levels :math:`l` and those of the baseline :math:`b(l)`, the
    effective robustness is

    .. math:: \\sum_l \\left[ f(l) - (b(l) + f(0) - b(0)) \\right],

    the loss of the baseline minus the loss of the estimator, summed over the levels [1]_ [2]_. It
    is positive if the estimator loses less. Compare it only for the same levels.

    Files are decoded as the encoder of the modality does, and then corrupted. Rows without the
    modality are drawn from all rows, including those that lack it from the start.

    Cost: the encoders of this package's compositions compute all rows once; then, for each score,
    only the rows of the changed modality. Other estimators predict from scratch for each score.

    References
    ----------
    .. [1] Taori et al. (2020). "Measuring robustness to natural distribution shifts in image
       classification." NeurIPS. arXiv:2007.00644
    .. [2] Liang et al. (2021). "MultiBench: multiscale benchmarks for multimodal representation
       learning." NeurIPS datasets and benchmarks. arXiv:2107.07502

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn_mmfusion import LateFusionClassifier, multimodal_frame
    >>> from sklearn_mmfusion.inspection import robustness_curve
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(0, 2, 200)
    >>> X = multimodal_frame(
    ...     strong=y[:, None] + 0.3 * rng.normal(size=(200, 2)),
    ...     weak=y[:, None] + 2.0 * rng.normal(size=(200, 2)),
    ... )
    >>> triples = [(name, LogisticRegression(), name) for name in X.columns]
    >>> classifier = LateFusionClassifier(triples).fit(X[:100], y[:100])
    >>> curve = robustness_curve(
    ...     classifier, X[100:], y[100:], modality="strong", levels=[0, 0.5, 1], random_state=0
    ... )
    >>> bool(curve.mean[0] > curve.mean[1] > curve.mean[2])
    True
    """
    label = "robustness_curve"
    check_is_fitted(estimator)
    table = as_table(X)
    check_consistent_length(table, y)
    own = _find(estimator, table, modality, label)
    if corruption != MISSING:
        kind = _infer_kind(own, table, label) if kind is None else kind
        _check_corruption(kind, corruption, label)
        table = _as_read(table, own, label)
    levels = _check_levels(levels, corruption, label)
    check_count(f"{label}: n_repeats", n_repeats)
    models = [estimator] if baseline is None else [estimator, baseline]
    models = [_Scored(model, check_scoring(model, scoring)) for model in models]
    change = _Change(own.name, own.positions, corruption, kind)
    seeds = check_random_state(random_state).randint(np.iinfo(np.int32).max, size=n_repeats)
    with absence_ignored():
        scores = _all_scores(models, table, y, change, levels, seeds, n_jobs, verbose)
    mean = scores.mean(axis=2)
    result = Bunch(
        levels=levels,
        scores=scores[0],
        mean=mean[0],
        modality=own.name,
        corruption=corruption,
        kind=kind,
        scorer=scorer_name(estimator, scoring),
        relative_robustness=float(trapezoid(mean[0], levels / levels[-1])),
        baseline_scores=None,
        baseline_mean=None,
        effective_robustness=None,
    )
    if baseline is not None:
        loss = mean - mean[:, :1]
        result.baseline_scores, result.baseline_mean = scores[1], mean[1]
        result.effective_robustness = float((loss[0] - loss[1]).sum())
    return result


def _all_scores(models, table, y, change, levels, seeds, n_jobs, verbose):
    """Scores of shape (n_models, n_levels, n_repeats)."""
    scores = np.empty((len(models), len(levels), len(seeds)))
    with _noting(change, 0):
        models = [model.encoded(table, change.positions) for model in models]
    tasks = [
        (i, repeat)
        for i, level in enumerate(levels)
        for repeat in range(1 if change.is_certain(level) else len(seeds))
    ]
    # threads share the encoded rows
    computed = Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator")(
        delayed(_score)(models, table, y, change, levels[i], seeds[repeat]) for i, repeat in tasks
    )
    for number, ((i, repeat), found) in enumerate(zip(tasks, computed, strict=True), 1):
        end = len(seeds) if change.is_certain(levels[i]) else repeat + 1
        scores[:, i, repeat:end] = np.transpose([found])
        if verbose:
            where = f"{change.modality}, {change.corruption} {levels[i]:g}, repetition {repeat + 1}"
            progress = f"[robustness_curve] ({number} of {len(tasks)})"
            print(f"{progress} {where}: {found[0]:.4g}", flush=True)
    return scores


@dataclass(frozen=True)
class _Change:
    """What happens to the columns of a modality at a level."""

    modality: str
    positions: tuple
    corruption: str
    kind: str | None

    def is_certain(self, level):
        """Whether nothing is drawn at a level."""
        return level == 0 or self.corruption == MISSING and level == 1

    def __call__(self, table, level, seed):
        if level == 0:
            return table
        if self.corruption == MISSING:
            n_rows = len(table)
            rows = np.zeros(n_rows, dtype=bool)
            # the first rows of one order, whatever the level: the sets of missing rows are nested
            order = np.random.default_rng(seed).permutation(n_rows)
            rows[order[: round(level * n_rows)]] = True
            return with_missing(table, self.positions, rows)
        return with_columns(
            table,
            {
                position: self._corrupted(column_at(table, position), level, [seed, j])
                for j, position in enumerate(self.positions)
            },
        )

    def _corrupted(self, column, level, seeds):
        if self.kind == NUMBER:
            return _add_noise(column, level, seeds)
        seed = np.random.RandomState(seeds)
        return corrupt(column, self.kind, self.corruption, int(level), random_state=seed)


@dataclass(frozen=True)
class _Scored:
    """A fitted model and its scorer; `triples` are those that read the changed columns."""

    model: object
    scorer: object
    triples: tuple = ()

    def encoded(self, table, positions):
        """Return a copy that encodes only the changed columns again, if that is possible."""
        composition = find_composition(self.model)
        if composition is None:
            return self
        modalities = find_modalities(composition, table, None, "robustness_curve")
        triples = [own.name for own in modalities if not set(positions).isdisjoint(own.positions)]
        model = with_composition(self.model, encode_once, table)
        return replace(self, model=model, triples=tuple(triples))

    def score(self, X, y, is_changed):
        """Score another X, which differs from the encoded one in the changed columns only."""
        model = self.model
        if is_changed and find_composition(model) is not None:
            model = with_composition(model, encode_again(self.triples, X), X)
        return score_once(self.scorer, "robustness_curve", model, X, y)


def _score(models, table, y, change, level, seed):
    """Score models at a level."""
    changed = change(table, level, seed)
    with _noting(change, level):
        return [model.score(changed, y, changed is not table) for model in models]


def _noting(change, level):
    """Add the level to errors in the block."""
    note = f"Raised while scoring with {change.modality!r}: {change.corruption} {level:g}."
    if change.corruption == MISSING and level > 0:
        note += " The estimator has to accept missing values: add an imputer."
    return add_error_note(note)


def _add_noise(column, level, seed):
    if isinstance(column.array, TensorArray):
        return _add_noise_to_cells(column, level, seed)
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    noise = np.random.default_rng(seed).normal(size=len(values))
    spread = np.nanstd(values) if np.isfinite(values).any() else 0.0
    noisy = values + NOISE[int(level) - 1] * spread * noise
    return pd.Series(noisy, index=column.index, name=column.name)


def _add_noise_to_cells(column, level, seed):
    """Noise in cells of equal shape, in proportion to the spread of each of their numbers."""
    rows = np.flatnonzero(column.notna())
    cells = column.array.gather(rows)
    if isinstance(cells, list):
        raise ValueError(
            f"robustness_curve: the cells of column {column.name!r} have different shapes; kind="
            "'number' expects equal ones. Pass their kind, such as kind='sequence'."
        )
    noise = np.random.default_rng(seed).normal(size=(len(column), *cells.shape[1:]))[rows]
    changed = [None] * len(column)
    for row, cell in zip(
        rows, cells + NOISE[int(level) - 1] * cells.std(axis=0) * noise, strict=True
    ):
        changed[row] = cell
    return pd.Series(as_column(changed), index=column.index, name=column.name)


# ------------------------------------------------------------------------------ arguments


def _find(estimator, table, modality, label):
    """Return the `Modality` of this name, or that of one column."""
    found = find_modalities(estimator, table, None, label)
    for each in found:
        if each.name == modality:
            return each
    try:
        (column,) = find_modalities(estimator, table, {str(modality): modality}, label)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{label}: modality={modality!r} is neither a modality of the estimator "
            f"({listed(each.name for each in found)}) nor a column of X. {error}"
        ) from error
    child = next((each.child for each in found if each.positions == column.positions), None)
    return replace(column, child=child)


def _check_levels(levels, corruption, label):
    is_missing = corruption == MISSING
    if levels is None:
        return np.linspace(0, 1, 11) if is_missing else np.arange(6)
    given, levels = levels, np.asarray(levels)
    most = 1 if is_missing else 5
    if (
        levels.ndim != 1
        or len(levels) < 2
        or levels.dtype.kind not in ("iuf" if is_missing else "iu")
        or levels[0] != 0
        or not (np.diff(levels) > 0).all()
        or levels[-1] > most
    ):
        wanted = "shares of rows from 0 to 1" if is_missing else "integers from 0 to 5"
        raise ValueError(
            f"{label}: levels={given!r} of {corruption!r}; expected two or more {wanted}, growing "
            "and beginning with 0, the level without corruption."
        )
    return levels


def _check_corruption(kind, corruption, label):
    if kind == NUMBER:
        if corruption != "noise":
            raise ValueError(
                f"{label}: columns of numbers have no corruption {corruption!r}; expected 'noise' "
                "or 'missing'."
            )
        return
    if find_corruption(kind, corruption, label).on_cells is None:
        possible = [n for n, c in CORRUPTIONS[kind].items() if c.on_cells is not None]
        raise ValueError(
            f"{label}: {corruption!r} of {kind} acts on the inputs of a network, not on cells; "
            f"expected {listed(possible)} or 'missing'."
        )


def _infer_kind(own, table, label):
    """Return the kind of a modality's cells: that of its encoder, or of its first column."""
    for step in _steps(own):
        if getattr(step, "_modality", None) is not None:
            return step._modality
        if isinstance(step, VECTORIZERS):
            return "text"
    column = column_at(table, own.positions[0])
    if all(_holds_numbers(column_at(table, position)) for position in own.positions):
        return NUMBER
    with suppress(TypeError, ValueError):  # objects of another kind
        cells = as_column(column, name=column.name, copy=False)
        if isinstance(cells.dtype, pd.StringDtype):
            return "text"
        if isinstance(cells, TensorArray) and cells.dtype.sample_rate is not None:
            return "audio"
    raise ValueError(
        f"{label}: the kind of modality {own.name!r} (column {column.name!r} of dtype "
        f"{column.dtype}) is not known from an encoder; pass kind=, one of "
        f"{listed([*CORRUPTIONS, NUMBER])}, or corruption='missing'."
    )


def _holds_numbers(column):
    is_numeric = pd.api.types.is_numeric_dtype(column.dtype)
    return is_numeric and not pd.api.types.is_bool_dtype(column.dtype)


def _steps(own):
    """The steps of the child of a modality, inside FrozenEstimators too."""
    steps = [] if own.child is None or isinstance(own.child, str) else steps_of(own.child)
    return [inner for inner in map(first_step, steps) if inner is not None]


def _as_read(table, own, label):
    """Decode the files of a modality as its first step does; other columns stay as they are."""
    step = next(iter(_steps(own)), None)
    if getattr(step, "_reads", None) is None:
        return table
    columns = {}
    for position in own.positions:
        column = column_at(table, position)
        if takes_sets(step):
            raise ValueError(
                f"{label}: modality {own.name!r} holds several cells per row, which no corruption "
                "changes; use corruption='missing'."
            )
        read = check_column(step, readable_cells(column, step), reset=False)
        if isinstance(read, FileArray):
            read = _decoded(read, step, label)
        columns[position] = pd.Series(read, index=column.index, name=column.name, copy=False)
    return with_columns(table, columns)


def _decoded(files, step, label):
    cells, values, rates = Cells(step, files), [None] * len(files), set()
    if getattr(step, "image_mode_", None) is not None:
        cells.options = replace(cells.options, mode=step.image_mode_)
    for row, value, rate in cells.read_runs():
        values[row] = value
        rates.add(rate)
    rate = only_rate(rates, f"{label}: the files", ", or use corruption='missing'")
    return as_column(values, sample_rate=rate)
