"""Scores with and without modalities, of one fitted estimator or of refitted ones."""

from functools import partial
from itertools import chain

import numpy as np
import pandas as pd
from sklearn.base import clone, is_classifier
from sklearn.metrics import check_scoring
from sklearn.model_selection import cross_validate
from sklearn.utils import Bunch

from sklearn_mmfusion._columns import column_names
from sklearn_mmfusion._sklearn import BaseSearchCV
from sklearn_mmfusion._triples import TripleComposition, kept_triples, resolve_triples
from sklearn_mmfusion._validation import add_error_note, check_groups
from sklearn_mmfusion.containers.conversion import as_table
from sklearn_mmfusion.inspection.coalitions import (
    CoalitionScores,
    coalition_table,
    find_columns,
)
from sklearn_mmfusion.inspection.folds import folds_of
from sklearn_mmfusion.inspection.modalities import absence_ignored, score_once, scorer_name

MOST = 10  # modalities of which all subsets are scored


def modality_ablation(
    estimator,
    X,
    y,
    *,
    subsets="all",
    refit=False,
    cv=None,
    groups=None,
    scoring=None,
    modalities=None,
    absent="auto",
    n_repeats=1,
    n_jobs=None,
    random_state=None,
    verbose=0,
):
    """Score an estimator with subsets of the modalities.

    For one fitted estimator, the scores show how much it loses without a modality. With `refit`,
    they show how much can be learned from the other modalities alone. That is often more, because
    redundant modalities replace each other.

    Parameters
    ----------
    estimator : estimator
        Fitted. With `refit`, it is cloned and need not be fitted.
    X : DataFrame or array-like of shape (n_samples, n_columns)
        Rows that the estimator was not trained on; with `refit`, all rows.
    y : array-like of shape (n_samples,) or (n_samples, n_targets)
        True values.
    subsets : {"all", "leave_one_out", "alone"} or list of lists of str, default="all"
        The subsets of present modalities: all subsets; all modalities, and all but each one; all
        modalities, and each one alone; or the given lists.
    refit : bool, default=False
        Whether to cross-validate the estimator with each subset. Triples of this package's
        estimators are then set to ``"drop"``, also inside pipelines and searches. For other
        estimators, columns of X are dropped.
    cv : int, cross-validation generator or iterable, default=None
        Folds of `refit`, the same ones for all subsets. None means five.
    groups : array-like of shape (n_samples,), default=None
        Groups of the rows. With an integer `cv`, the rows of a group stay in one fold; a splitter
        must use groups itself, such as :class:`~sklearn.model_selection.GroupKFold`.
    scoring : str, callable or None, default=None
        One scorer; None means the estimator's `score`.
    modalities : dict of {str: column or list of columns} or None, default=None
        The columns of each modality, see `modality_importance`.
    absent : {"auto", "mask", "permute"}, default="auto"
        How a modality is made absent without `refit`, see `modality_importance`.
    n_repeats : int, default=1
        Number of permutations of the rows, if any modality is permuted.
    n_jobs : int or None, default=None
        Number of jobs: threads that compute scores, or fits of `refit`.
    random_state : int, RandomState instance or None, default=None
        Seed of the permutations of rows. Estimators use their own seeds.
    verbose : int, default=0
        Whether to print each score.

    Returns
    -------
    result : :class:`~sklearn.utils.Bunch`
        With the attributes:

        - modalities : list of str
        - table : DataFrame, one bool column per modality and the column "score", best first; with
          `refit`, also "standard_error"
        - scores : ndarray of shape (n_subsets,), or (n_subsets, n_folds) with `refit`; in the order
          of the table
        - scorer : str

    Raises
    ------
    ValueError
        If `subsets` has unknown names, if it is "all" with more than ten modalities, or if `cv` or
        `groups` are given without `refit`.

    See Also
    --------
    modality_importance : One number per modality from all subsets.
    ModalityAblationDisplay : The picture.

    Notes
    -----
    The empty subset (all modalities absent) is scored only without `refit`. Folds share training
    rows, so the standard error of the mean over :math:`k` folds with standard deviation :math:`s`
    is :math:`s \\sqrt{1/k + n_{test}/n_{train}}` [1]_. The warnings of this package about rows and
    columns without any modality are silenced.

    References
    ----------
    .. [1] Nadeau, Bengio (2003). "Inference for the generalization error." Machine Learning 52.
       doi:10.1023/A:1024068626366

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn_mmfusion import LateFusionClassifier, multimodal_frame
    >>> from sklearn_mmfusion.inspection import modality_ablation
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=200)
    >>> X = multimodal_frame(
    ...     sound=3 * y[:, None] + rng.normal(size=(200, 3)), image=rng.normal(size=(200, 3))
    ... )
    >>> late = LateFusionClassifier(
    ...     [("sound", LogisticRegression(), "sound"), ("image", LogisticRegression(), "image")]
    ... )
    >>> late.fit(X[:100], y[:100])
    LateFusionClassifier(...)
    >>> modality_ablation(late, X[100:], y[100:], subsets="alone").table.round(1)
       sound  image  score
    0   True   True    1.0
    1   True  False    1.0
    2  False   True    0.5
    >>> modality_ablation(late, X, y, subsets=[["image"]], refit=True, cv=3).scores.shape
    (1, 3)
    """
    options = {"subsets": subsets, "scoring": scoring, "modalities": modalities}
    options |= {"n_jobs": n_jobs, "verbose": verbose}
    if refit:
        return _refitted(estimator, X, y, cv=cv, groups=groups, **options)
    for name, value in {"cv": cv, "groups": groups}.items():
        if value is not None:
            raise ValueError(
                f"modality_ablation: {name} is given with refit=False, which fits nothing. Set "
                f"refit=True, or {name}=None."
            )
    del options["subsets"]
    game = CoalitionScores(
        estimator,
        X,
        y,
        absent=absent,
        n_repeats=n_repeats,
        random_state=random_state,
        caller="modality_ablation",
        **options,
    )
    coalitions = find_subsets(subsets, game.names)
    return _result(game.names, coalitions, game(coalitions).mean(axis=0), game.scorer)


def _refitted(estimator, X, y, *, subsets, cv, groups, scoring, modalities, n_jobs, verbose):
    table = as_table(X)
    groups = check_groups(groups, len(table), estimator_name="modality_ablation")
    columns = modalities_to_fit(estimator, table, modalities)
    names, splits = list(columns), folds_of(cv, table, y, groups, is_classifier(estimator))
    coalitions = [c for c in find_subsets(subsets, names) if c]
    if not coalitions:
        raise ValueError(
            f"modality_ablation: subsets={subsets!r} with refit=True; expected a subset that "
            "is not empty, since nothing can be fitted to none."
        )
    scorer, scores = partial(score_once, check_scoring(estimator, scoring), "modality_ablation"), []
    for number, coalition in enumerate(coalitions, start=1):
        left_out = [name for m, name in enumerate(names) if not coalition >> m & 1]
        with add_error_note(f"Raised by modality_ablation without the modalities {left_out}."):
            reduced, rest = leave_out(estimator, table, columns, left_out)
            with absence_ignored():
                found = cross_validate(
                    reduced, rest, y, cv=splits, scoring=scorer, n_jobs=n_jobs, error_score="raise"
                )
        scores.append(found["test_score"])
        if verbose:
            progress = f"{number} of {len(coalitions)}: without {left_out}"
            print(f"[modality_ablation] {progress}: {np.mean(scores[-1]):.4g}")
    test_share = np.mean([len(test) / len(train) for train, test in splits])
    return _result(names, coalitions, np.array(scores), scorer_name(estimator, scoring), test_share)


def _result(names, coalitions, scores, scorer, test_share=None):
    """Bunch of `modality_ablation`, best subset first."""
    means = scores if scores.ndim == 1 else scores.mean(axis=1)
    order = np.argsort(-means, kind="stable")
    table = coalition_table(names, [coalitions[i] for i in order], means[order])
    if scores.ndim == 2:
        n_folds = scores.shape[1]
        spread = scores[order].std(axis=1, ddof=1) if n_folds > 1 else np.full(len(order), np.nan)
        errors = spread * np.sqrt(1 / n_folds + test_share)
        table.insert(table.shape[1], "standard_error", errors, allow_duplicates=True)
    return Bunch(modalities=names, table=table, scores=scores[order], scorer=scorer)


def find_subsets(subsets, names):
    """Return subsets of modalities as integers with one bit per modality, largest first.

    Parameters
    ----------
    subsets : str or list of lists of str
        See `modality_ablation`.
    names : list of str
    """
    bits = {name: 1 << m for m, name in enumerate(names)}
    everything = 2 ** len(names) - 1
    if isinstance(subsets, str) and subsets == "all":
        if len(names) > MOST:
            raise ValueError(
                f"modality_ablation: subsets='all' of {len(names)} modalities are "
                f"{everything + 1}; expected at most {MOST} modalities. Set "
                "subsets='leave_one_out', or list the subsets."
            )
        return sorted(range(everything + 1), key=lambda c: (-c.bit_count(), c))
    if isinstance(subsets, str) and subsets in ("leave_one_out", "alone"):
        single = [everything - bit if subsets == "leave_one_out" else bit for bit in bits.values()]
        return list(dict.fromkeys([everything, *single]))
    is_list = isinstance(subsets, (list, tuple)) and all(
        isinstance(subset, (list, tuple, set)) for subset in subsets
    )
    if not is_list or not len(subsets):
        raise ValueError(
            f"modality_ablation: subsets={subsets!r}; expected 'all', 'leave_one_out', 'alone' or "
            "a list of lists of modalities."
        )
    unknown = [name for name in chain.from_iterable(subsets) if name not in bits]
    if unknown:
        raise ValueError(f"modality_ablation: subsets name {unknown}; the modalities are {names}.")
    return list(dict.fromkeys(sum({bits[name] for name in subset}) for subset in subsets))


# ------------------------------------------------------------------------------ refits


def compositions_of(estimator):
    """Return {parameter prefix: composition} of the outermost compositions of an estimator."""
    params = {"": estimator}
    if hasattr(estimator, "get_params"):
        params |= {f"{key}__": value for key, value in estimator.get_params().items()}
    found = {}
    for prefix in sorted(params, key=len):
        is_inside = any(prefix.startswith(outer) for outer in found)
        if isinstance(params[prefix], TripleComposition) and not is_inside:
            found[prefix] = params[prefix]
    return found


def triples_to_fit(composition, table):
    """Return {name: set of column positions} of the triples of an unfitted composition."""
    triples = kept_triples(composition._triples)
    names, label = column_names(table), type(composition).__name__
    selections = resolve_triples(triples, table, names, label)
    return {selection.name: set(selection.positions) for selection in selections}


def modalities_to_fit(estimator, table, modalities):
    """Return {name: positions of columns} of the modalities of an unfitted estimator."""
    compositions = compositions_of(estimator)
    if modalities is not None or not compositions:
        return find_columns(None, table, modalities, "modality_ablation")
    found = {}
    for composition in compositions.values():
        for name, positions in triples_to_fit(composition, table).items():
            found[name] = tuple(sorted({*found.get(name, ()), *positions}))
    return found


def leave_out(estimator, table, columns, left_out):
    """Return an unfitted estimator without these modalities, and the table it is fitted to."""
    gone = {j for name in left_out for j in columns[name]}
    reduced, compositions = clone(estimator), compositions_of(estimator)
    if not compositions:
        kept = [j for j in range(table.shape[1]) if j not in gone]
        return reduced, table.iloc[:, kept] if isinstance(table, pd.DataFrame) else table[:, kept]
    dropped = []
    for prefix, composition in compositions.items():
        for name, positions in triples_to_fit(composition, table).items():
            own = positions <= set(columns.get(name, ()))  # triples may share columns
            if name in left_out if own else positions <= gone:
                dropped.append(f"{prefix}{name}")
            elif positions & gone and not own:
                raise ValueError(
                    f"modality_ablation: the triple {name!r} of {type(composition).__name__} has "
                    f"columns of modalities that are left out, {left_out}, and others. With "
                    "refit=True, expected all columns of a triple in one modality."
                )
    _forget_parameters(reduced, dropped)
    return reduced.set_params(**dict.fromkeys(dropped, "drop")), table


def _forget_parameters(search, dropped):
    """Remove the parameters of dropped triples from the candidates of a search."""
    if not isinstance(search, BaseSearchCV):
        return
    inside = [name.removeprefix("estimator__") for name in dropped]
    for attribute in ("param_grid", "param_distributions"):
        given = getattr(search, attribute, None)
        if given is None:
            continue
        grids = [given] if isinstance(given, dict) else given
        kept = [
            {key: values for key, values in grid.items() if not _belongs(key, inside)}
            for grid in grids
        ]
        setattr(search, attribute, kept[0] if isinstance(given, dict) else kept)


def _belongs(key, names):
    """Whether a parameter is one of these estimators, or a parameter of one."""
    return any(key == name or key.startswith(f"{name}__") for name in names)
