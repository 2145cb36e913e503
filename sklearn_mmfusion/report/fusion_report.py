"""The evidence about a model: scores with and without each modality, and the reasons."""

from functools import partial

import numpy as np
import pandas as pd
from sklearn.base import is_classifier, is_regressor
from sklearn.metrics import f1_score, recall_score
from sklearn.utils.multiclass import type_of_target

from sklearn_mmfusion._file_options import FileOptions
from sklearn_mmfusion._triples import first_step, kept_triples
from sklearn_mmfusion._validation import check_groups, check_y
from sklearn_mmfusion.inspection import difference_interval, score_interval
from sklearn_mmfusion.inspection.ablation import compositions_of, triples_to_fit
from sklearn_mmfusion.inspection.folds import folds_of
from sklearn_mmfusion.report import html
from sklearn_mmfusion.report.inputs import as_data_frame
from sklearn_mmfusion.report.sections import (
    CLASSIFIER,
    MULTILABEL,
    REGRESSOR,
    Evidence,
    make_sections,
)
from sklearn_mmfusion.report.variants import fit_variants, make_variants

# The first one is drawn. Balanced accuracy is the macro recall, under its other name.
METRICS = {
    CLASSIFIER: ("accuracy", "balanced_accuracy", "recall_macro", "f1_macro"),
    MULTILABEL: ("accuracy", "recall_macro", "f1_macro"),
    REGRESSOR: ("r2", "mean_absolute_error"),
}
# `score_interval` knows these for one label per row only
OF_LABELS = {
    "recall_macro": partial(recall_score, average="macro", zero_division=0),
    "f1_macro": partial(f1_score, average="macro", zero_division=0),
}
NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "recall_macro": "macro recall",
    "f1_macro": "macro F1",
    "r2": "R2",
    "mean_absolute_error": "mean absolute error",
}
COSTS = {
    "fit_seconds": "fit, seconds per fold",
    "predict_milliseconds": "predict, ms per row",
    "n_parameters": "parameters",
}


def fusion_report(
    estimator,
    X,
    y,
    *,
    path=None,
    cv=None,
    groups=None,
    modalities=None,
    params=None,
    file_params=None,
    confidence_level=0.95,
    n_jobs=None,
    random_state=None,
    verbose=0,
):
    """Cross-validate a model with and without each modality, and explain its errors.

    On each fold, the estimator is fitted with all modalities, with each one alone and without each
    one. Late fusion of the same triples is fitted, too. The printed table compares these variants
    on the same test rows. The page also shows the importance of the modalities, ablation,
    robustness, calibration, confusions, and the worst errors with their cells.

    Parameters
    ----------
    estimator : classifier or regressor
        It is cloned and need not be fitted. A pipeline with a `FusionTransformer`, late or joint
        fusion, or any other estimator. To leave a modality out, triples are dropped from the first
        three, and columns from X for others.
    X : DataFrame or array-like of shape (n_samples, n_columns)
        One column per modality or number.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Classes, a multilabel indicator or numbers.
    path : str or path-like, default=None
        HTML file to write: one self-contained page without scripts. An existing file is replaced
        only when the report is complete. None writes no page.
    cv : int, splitter or iterable of folds, default=None
        None means 5 folds. With a number, folds are stratified by class and keep groups together.
    groups : array-like of shape (n_samples,), default=None
        Group of each row, such as a speaker or patient, for folds and intervals. They are also
        passed to `fit` of late fusion, but not of `estimator`: use `params` for that.
    modalities : dict of {str: column or list of columns} or None, default=None
        The columns of each modality. None means the triples of the composition in `estimator`, or
        else one modality per column.
    params : dict, default=None
        Parameters of the estimator's `fit`. Values with one entry per row are split by fold.
    file_params : dict, default=None
        How to read the files of cells that the page shows, such as ``{"root": "photos"}``. None
        uses the parameter of the column's encoder.
    confidence_level : float, default=0.95
        Confidence level of the intervals.
    n_jobs : int, default=None
        Number of parallel jobs.
    random_state : int, RandomState instance or None, default=None
        Seed of the corruptions and permutations. Fits use the estimator's own seeds.
    verbose : int, default=0
        1 prints a line per fit and section.

    Returns
    -------
    table : DataFrame
        One row per variant, "all modalities" first. For each metric, such as "accuracy":
        ``accuracy``, ``accuracy_low``, ``accuracy_high``, and the paired difference from the first
        row, ``accuracy_difference``, ``accuracy_difference_low``, ``accuracy_difference_high``.
        For classes, the metrics are accuracy, balanced_accuracy, recall_macro and f1_macro; for
        numbers, r2 and mean_absolute_error. The last columns are ``fit_seconds``,
        ``predict_milliseconds`` (per row) and ``n_parameters``: weights of networks and linear
        models, NA for others.

    Raises
    ------
    ValueError
        If lengths differ, the target has several columns of classes, or `path` is a folder or its
        folder does not exist.
    TypeError
        If the estimator is neither a classifier nor a regressor.

    See Also
    --------
    data_report : A look at the data before training.
    sklearn_mmfusion.inspection.compare : Compares different estimators.
    sklearn_mmfusion.inspection.score_interval : The intervals.

    Notes
    -----
    With m modalities, 2 m + 2 estimators are fitted per fold, or m + 2 if m is 2. With ``memory=``,
    a composition trains each encoder only once per fold, and the seconds of the variants that reuse
    it do not include it.

    If a variant has one modality and a row lacks it, the prediction is the prior. Late fusion
    trains encoders with their own parameters, even if they come from a joint model.

    Importance, ablation and robustness need a fitted model: they use the model of the last fold and
    its test rows. All other results use the out-of-fold predictions of all test rows. If a section
    fails, the page shows its error, and a warning is raised.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn_mmfusion import LateFusionClassifier, multimodal_frame
    >>> from sklearn_mmfusion.report import fusion_report
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(60) % 2
    >>> strong, noise = y[:, None] + 0.1 * rng.normal(size=(60, 2)), rng.normal(size=(60, 2))
    >>> X = multimodal_frame(strong=strong, noise=noise)
    >>> triples = [(name, LogisticRegression(), name) for name in X.columns]
    >>> table = fusion_report(LateFusionClassifier(triples), X, y, cv=2)
                            accuracy               difference ...
    all modalities  0.983 [0.911, 0.997]                        – ...
    strong alone    1.000 [0.940, 1.000]  +0.017 [-0.028, +0.061] ...
    noise alone     0.500 [0.377, 0.623]  -0.483 [-0.596, -0.340] ...
    """
    path = html.check_path(path, "fusion_report")
    X = as_data_frame(X)
    y = check_y(y, len(X), estimator_name="fusion_report")
    y = y.toarray() if hasattr(y, "toarray") else y
    groups = check_groups(groups, len(X), estimator_name="fusion_report")
    task = find_task(estimator, y)
    variants, columns = make_variants(estimator, X, modalities)
    options = find_file_options(estimator, X, file_params)
    folds = folds_of(cv, X, y, groups, task == CLASSIFIER)

    def report(message):
        if verbose:
            print(f"[fusion_report] {message}", flush=True)

    fit_variants(
        variants, y, folds, groups=groups, params=params or {}, n_jobs=n_jobs, report=report
    )
    rows = np.concatenate([test for _, test in folds])
    units = _units(rows, groups)
    report("intervals")
    table = make_table(variants, y[rows], units, METRICS[task], confidence_level)
    print(format_table(table, METRICS[task]))
    if path is not None:
        last, settings = folds[-1][1], {"n_jobs": n_jobs, "random_state": random_state}
        evidence = Evidence(
            *(task, variants, X, y, rows, units, last, columns, modalities, options, settings)
        )
        scores = _score_blocks(table, METRICS[task], confidence_level, groups is not None)
        sections = [("Scores", scores), *make_sections(evidence, report)]
        lead = _lead(estimator, evidence, len(folds))
        html.write_page(path, html.page("Fusion report", lead, sections))
    return table


def _units(rows, groups):
    """Return the groups of test rows; a row that is tested several times is one group."""
    if groups is not None:
        return groups[rows]
    return rows if len(np.unique(rows)) < len(rows) else None


def find_task(estimator, y):
    """Return which metrics and sections a target needs."""
    if is_regressor(estimator):
        return REGRESSOR
    if not is_classifier(estimator):
        raise TypeError(
            f"fusion_report: estimator is {estimator!r}; expected a classifier or a regressor, or "
            "a pipeline that ends in one."
        )
    kind = type_of_target(y)
    if kind == "multilabel-indicator":
        return MULTILABEL
    if kind not in ("binary", "multiclass"):
        raise ValueError(
            f"fusion_report: y is {kind!r}; expected one class per row or a multilabel indicator. "
            "Report each column of y separately."
        )
    return CLASSIFIER


def find_file_options(estimator, X, file_params):
    """Return the options with which the files of each column are read, by position."""
    given = FileOptions.from_dict(file_params, "fusion_report")
    options = dict.fromkeys(range(X.shape[1]), given)
    if file_params is not None:
        return options
    for composition in compositions_of(estimator).values():
        positions = triples_to_fit(composition, X)
        for name, child, _ in kept_triples(composition._triples):
            if hasattr(first_step(child), "file_params"):
                own = FileOptions.of(first_step(child))
                options |= dict.fromkeys(positions[name], own)
    return options


# ------------------------------------------------------------------------------ table


def make_table(variants, truth, units, metrics, confidence_level):
    """Return scores, paired differences from the first variant and costs, one row per variant."""
    full, rows = variants[0].predicted, {}
    options = {"groups": units, "confidence_level": confidence_level}
    several = OF_LABELS if metrics == METRICS[MULTILABEL] else {}
    for variant in variants:
        predicted, row = variant.predicted, {}
        for name in metrics:
            metric = several.get(name, name)
            row |= _entries(name, score_interval(metric, truth, predicted, **options))
            found = dict.fromkeys(("estimate", "low", "high"), np.nan)
            if variant is not variants[0]:
                found = difference_interval(metric, truth, predicted, full, **options)
            row |= _entries(f"{name}_difference", found)
        rows[variant.name] = row | _costs(variant)
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.astype({"n_parameters": "Int64"})


def _entries(name, interval):
    parts = {"": "estimate", "_low": "low", "_high": "high"}
    return {f"{name}{suffix}": interval[part] for suffix, part in parts.items()}


def _costs(variant):
    n_tested = sum(len(fold.predicted) for fold in variant.folds)
    seconds = sum(fold.predict_seconds for fold in variant.folds)
    return {
        "fit_seconds": np.mean([fold.fit_seconds for fold in variant.folds]),
        "predict_milliseconds": 1000 * seconds / n_tested,
        "n_parameters": variant.folds[-1].n_parameters,
    }


def interval_text(row, name):
    """Return an estimate and its interval of a row of the table as text."""
    estimate, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
    if np.isnan(estimate):
        return "–"
    sign = "+" if name.endswith("_difference") else ""
    return f"{estimate:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def _interval_texts(table, name):
    return [interval_text(row, name) for _, row in table.iterrows()]


def format_table(table, metrics):
    """Return the table as text: the first metric and its differences with intervals."""
    first, *others = (metric for metric in metrics if metric != "recall_macro")
    shown = pd.DataFrame(index=table.index)
    shown[NAMES[first]] = _interval_texts(table, first)
    shown["difference"] = _interval_texts(table, f"{first}_difference")
    for metric in others:
        shown[NAMES[metric]] = table[metric].map("{:.3f}".format)
    shown["fit s"] = table["fit_seconds"].map("{:.1f}".format)
    shown["parameters"] = table["n_parameters"].map(html.format_value)
    return shown.to_string()


# ------------------------------------------------------------------------------ page


def _lead(estimator, evidence, n_folds):
    n_tested, n_rows = len(evidence.rows), len(np.unique(evidence.rows))
    tested = f"{n_tested:,} test rows in {n_folds} {'fold' if n_folds == 1 else 'folds'}"
    if n_tested > n_rows:
        tested += f", {n_rows:,} different ones"
    elif evidence.units is not None:
        tested += f", of {len(np.unique(evidence.units)):,} groups"
    names = ", ".join(map(str, evidence.columns))
    return [
        html.paragraph(f"{len(evidence.X):,} rows with the modalities {names}; {tested}."),
        html.tag("details", html.tag("summary", "Estimator"), html.tag("pre", repr(estimator))),
    ]


def _score_blocks(table, metrics, confidence_level, is_grouped):
    first, *others = (metric for metric in metrics if metric != "recall_macro")
    unit = "groups" if is_grouped else "rows"
    names = {NAMES[metric]: metric for metric in others}
    names |= {f"difference of {NAMES[metric]}": f"{metric}_difference" for metric in others}
    cells = {heading: _interval_texts(table, name) for heading, name in names.items()}
    caption = "Other scores."
    if "balanced_accuracy" in others:
        caption += " Balanced accuracy is the macro recall."
    return [
        html.paragraph(
            f"Out-of-fold scores, their {100 * confidence_level:g} % intervals for new {unit}, and "
            "paired differences from the model with all modalities. If the interval of a "
            "difference contains 0, the data do not show which model is better. Models without "
            "a modality are trained without it."
        ),
        _track_table(table, first),
        html.table(cells, caption, index=table.index, index_name="model"),
        html.table(
            table[list(COSTS)].rename(columns=COSTS),
            "Costs. Parameters: weights of networks and linear models. With memory=, the time of a "
            "part that was computed before, such as an encoder, is missing from the later rows.",
            index_name="model",
        ),
    ]


def _track_table(table, metric):
    difference = f"{metric}_difference"
    cells = {}
    for name, heading, zero in ((metric, NAMES[metric], None), (difference, "difference", 0.0)):
        low, high = table[f"{name}_low"].min(), table[f"{name}_high"].max()
        limits = (low, high) if zero is None else (min(low, zero), max(high, zero))
        cells[heading] = _interval_texts(table, name)
        cells[f"{heading}, drawn"] = [
            html.interval_track(row[name], row[f"{name}_low"], row[f"{name}_high"], limits, zero)
            for _, row in table.iterrows()
        ]
    caption = (
        f"{NAMES[metric].capitalize()} with its interval, and the difference from all modalities."
    )
    return html.table(cells, caption, index=table.index, index_name="model")
