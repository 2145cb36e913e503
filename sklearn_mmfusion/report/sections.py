"""Sections of the fusion report: tables, pictures and cells, from predictions and fitted models."""

from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix

from sklearn_mmfusion._validation import warn
from sklearn_mmfusion.inspection import (
    calibration_from_predictions,
    modality_ablation,
    modality_importance,
    modality_interaction,
    robustness_curve,
    score_interval,
)
from sklearn_mmfusion.pipelines import column_kinds
from sklearn_mmfusion.plotting import (
    ModalityAblationDisplay,
    ModalityImportanceDisplay,
    ReliabilityDisplay,
    RobustnessCurveDisplay,
)
from sklearn_mmfusion.report import html
from sklearn_mmfusion.report.inputs import readable, shown
from sklearn_mmfusion.report.variants import ALONE, LATE

N_ERRORS = 12
MAX_CLASSES = 20  # of a confusion matrix
MAX_CELLS = 12  # columns that an error shows
SHARES = (0, 0.25, 0.5, 0.75, 1)  # of missing cells
# a corruption of cells for each kind of column
CORRUPTION_OF = {
    **dict.fromkeys(("images", "image path", "clips", "video path"), "noise"),
    **dict.fromkeys(("waveforms", "audio path", "number"), "noise"),
    "free text": "typo",
    "sequences": "jitter",
}


@dataclass
class Evidence:
    """Input of the sections.

    Attributes
    ----------
    task : {"classifier", "multilabel", "regressor"}
    variants : list of Variant
        Fitted; the one with all modalities first.
    X : DataFrame
    y : ndarray
    rows : ndarray of int
        Test rows of all folds, one after the other.
    units : ndarray or None
        Group of each of `rows`.
    last : ndarray of int
        Test rows of the last fold, whose models are kept.
    columns : dict of {str: tuple of int}
        Positions of the columns of each modality.
    modalities : dict or None
    options : dict of {int: FileOptions}
        How the files of a column are read.
    settings : dict
        Keyword arguments `n_jobs` and `random_state` of the functions of `inspection`.
    """

    task: str
    variants: list
    X: pd.DataFrame
    y: np.ndarray
    rows: np.ndarray
    units: np.ndarray | None
    last: np.ndarray
    columns: dict
    modalities: dict | None
    options: dict
    settings: dict

    @property
    def truth(self):
        """True values of the test rows of all folds."""
        return self.y[self.rows]

    @property
    def classes(self):
        """The different values of y."""
        return np.unique(self.y)

    @property
    def predicted(self):
        """Predictions with all modalities."""
        return self.variants[0].predicted

    @property
    def model(self):
        """The model with all modalities of the last fold."""
        return self.variants[0].folds[-1].fitted

    @property
    def test_data(self):
        """The X and y of the test rows of the last fold."""
        return self.X.iloc[self.last], self.y[self.last]

    def of_role(self, role):
        """Return the variants of one role."""
        return [variant for variant in self.variants if variant.role == role]


def make_sections(evidence, report):
    """Return (heading, blocks) of all sections for the task.

    If a section fails, the page shows its error, with a warning: raising would lose the trained
    models.
    """
    sections = []
    for heading, (make, tasks) in SECTIONS.items():
        if evidence.task not in tasks:
            continue
        report(f"section {heading!r}")
        try:
            blocks = make(evidence)
        except Exception as error:  # a scorer or estimator of another package may raise any
            warn(f"fusion_report: the section {heading!r} failed: {error!r}")
            blocks = [html.paragraph(f"Failed: {error!r}", class_="warn")]
        if blocks:
            sections.append((heading, blocks))
    return sections


def drawn(display, alt, **options):
    """Return the picture of a display for the page, or a note if matplotlib is missing."""
    if find_spec("matplotlib") is None:
        text = "No picture: matplotlib is not installed (pip install 'sklearn-mmfusion[plot]')."
        return html.paragraph(text, class_="quiet")
    import matplotlib.pyplot as plt

    figure = display.plot(**options).figure_
    image = html.figure_image(figure, alt)
    plt.close(figure)
    return image


def listing(names, values):
    """Return names and values as one text, for the alt text of pictures."""
    return ", ".join(
        f"{name} {html.format_value(float(value))}"
        for name, value in zip(names, values, strict=True)
    )


# ------------------------------------------------------------------------------ modalities


def _last_fold(evidence):
    n_rows = len(evidence.last)
    return f"the model of the last fold and its {n_rows:,} test rows"


def _importance(evidence):
    if len(evidence.columns) < 2:
        return []
    X, y = evidence.test_data
    options = {"modalities": evidence.modalities, **evidence.settings}
    found = modality_importance(evidence.model, X, y, **options)
    pairs = modality_interaction(evidence.model, X, y, **options).interactions
    gain = found.score_all - found.score_none
    table = {
        "Shapley value": found.importances,
        "standard error": found.standard_errors,
        "made absent by": [found.absent[name] for name in found.modalities],
    }
    table |= {
        f"with {name}": column for name, column in zip(found.modalities, pairs.T, strict=True)
    }
    alt = f"Contributions to the score: {listing(found.modalities, found.importances)}."
    return [
        html.paragraph(
            f"How much each modality adds to the score ({found.scorer}), averaged over all orders "
            f"in which modalities can join. Computed with {_last_fold(evidence)}. The values add "
            f"up to {gain:.3f}: {found.score_all:.3f} with all modalities, minus "
            f"{found.score_none:.3f} with none. The columns 'with ...' are interactions of pairs: "
            "positive if the two together add more than each on its own, negative if they repeat "
            "each other."
        ),
        drawn(ModalityImportanceDisplay(**found), alt),
        html.table(
            table,
            "Contribution of each modality. Made absent by mask: the model predicts without the "
            "modality. By permute: its cells are shuffled among the rows.",
            index=found.modalities,
            index_name="modality",
        ),
    ]


def _ablation(evidence):
    n_modalities = len(evidence.columns)
    if n_modalities < 2:
        return []
    X, y = evidence.test_data
    found = modality_ablation(
        evidence.model,
        X,
        y,
        subsets="all" if n_modalities <= 5 else "leave_one_out",
        modalities=evidence.modalities,
        **evidence.settings,
    )
    table = found.table
    names = [
        " + ".join(map(str, np.array(found.modalities)[row])) or "none"
        for row in table[found.modalities].to_numpy(dtype=bool)
    ]
    alt = f"Score of each subset of modalities: {listing(names, table['score'])}."
    return [
        html.paragraph(
            f"Score ({found.scorer}) when modalities are absent in prediction only. Nothing is "
            f"refitted: computed with {_last_fold(evidence)}. In contrast, the section Scores "
            "has models that were trained without them."
        ),
        drawn(ModalityAblationDisplay(**found), alt),
        html.table(
            {"score": table["score"]}, "Score by subset.", index=names, index_name="modalities"
        ),
    ]


def _curves(evidence, late):
    """Return curves of all modalities: missing and, if possible, corrupted."""
    X, y = evidence.test_data
    kinds, curves = column_kinds(X)["kind"].tolist(), []
    for name, positions in evidence.columns.items():
        if evidence.modalities is not None and len(positions) > 1:
            continue  # robustness_curve takes triples and single columns
        key = name if evidence.modalities is None else X.columns[positions[0]]
        options = {"modality": key, "baseline": late, "n_repeats": 3, **evidence.settings}
        curves.append(robustness_curve(evidence.model, X, y, levels=SHARES, **options))
        corruption = CORRUPTION_OF.get(kinds[positions[0]]) if len(positions) == 1 else None
        if corruption is not None:
            curves.append(robustness_curve(evidence.model, X, y, corruption=corruption, **options))
    return curves


def _robustness(evidence):
    late = next((v.folds[-1].fitted for v in evidence.of_role(LATE)), None)
    curves = _curves(evidence, late)
    if not curves:
        return []
    pictures = [
        drawn(
            RobustnessCurveDisplay(**curve),
            f"Score by level of corruption ({curve.modality}, {curve.corruption}): "
            f"{listing(curve.levels, curve.mean)}.",
            name="this model",
        )
        for curve in curves
    ]
    table = {
        "corruption": [curve.corruption for curve in curves],
        "score at level 0": [curve.mean[0] for curve in curves],
        "score at the highest level": [curve.mean[-1] for curve in curves],
        "relative robustness": [curve.relative_robustness for curve in curves],
    }
    compared, caption = "", "Relative robustness: mean score over the levels."
    if late is not None:
        table["effective robustness"] = [curve.effective_robustness for curve in curves]
        compared = " (dashed baseline: late fusion)"
        caption += " Effective robustness: loss of late fusion minus loss of this model, summed "
        caption += "over the levels. Above 0, this model loses less."
    return [
        html.paragraph(
            f"Score ({curves[0].scorer}) when one modality is missing in a growing share of the "
            f"rows, or its cells are corrupted at a growing severity{compared}. Computed with "
            f"{_last_fold(evidence)}."
        ),
        html.tag("div", *pictures, class_="plots"),
        html.table(
            table,
            caption,
            index=[curve.modality for curve in curves],
            index_name="modality",
        ),
    ]


# ------------------------------------------------------------------------------ classes


def _calibration(evidence):
    classes = evidence.classes
    fused, *_ = evidence.variants
    probabilities = {
        variant.name: variant.probabilities(classes)
        for variant in [fused, *evidence.of_role(ALONE), *evidence.of_role(LATE)]
    }
    known = {name: p for name, p in probabilities.items() if p is not None}
    if fused.name not in known:
        return []
    found = calibration_from_predictions(evidence.truth, known, labels=classes)
    names = {
        "expected_calibration_error": "expected calibration error",
        "squared_calibration_error": "squared error, debiased",
        "log_loss": "log loss",
        "brier": "Brier score",
    }
    table = found.table[list(names)].rename(columns=names)
    pictures = [
        drawn(
            ReliabilityDisplay(**{**found, "names": [name]}),
            f"Accuracy by confidence of {name}: expected calibration error {error:.3f}.",
        )
        for name, error in zip(found.names, table.iloc[:, 0], strict=True)
    ]
    return [
        html.paragraph(
            "Probabilities can be trusted if, for example, 80 % of the predictions with a "
            "probability of 0.8 are right. Computed with the out-of-fold predictions of all "
            f"{len(evidence.rows):,} test rows, in {len(found.bins[fused.name])} bins of equally "
            "many rows (fewer for models with fewer predictions). For a "
            "calibrated model, the debiased squared error is 0 on average; the expected "
            "calibration error is always above 0."
        ),
        html.tag("div", *pictures, class_="plots"),
        html.table(table, "Calibration; smaller is better.", index_name="model"),
    ]


def _confusion(evidence):
    classes, truth = evidence.classes, evidence.truth
    counts = confusion_matrix(truth, evidence.predicted, labels=classes)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    if len(classes) > MAX_CLASSES:
        return [_confusions(classes, counts, shares)]
    cells = {
        f"predicted {name}": list(map(html.shaded, counts[:, j], shares[:, j]))
        for j, name in enumerate(classes)
    }
    caption = "Rows: true class. Columns: predicted class. Shading: share of the true class."
    return [html.table(cells, caption, index=classes, index_name="true class")]


def _confusions(classes, counts, shares):
    wrong = counts * ~np.eye(len(classes), dtype=bool)
    order = np.argsort(-wrong, axis=None, kind="stable")[:MAX_CLASSES]
    true, predicted = np.unravel_index(order[wrong.flat[order] > 0], wrong.shape)
    table = {
        "predicted class": classes[predicted].astype(str),
        "rows": counts[true, predicted],
        "share of the true class": [f"{s:.0%}" for s in shares[true, predicted]],
    }
    caption = f"The most frequent confusions among {len(classes)} classes."
    return html.table(table, caption, index=classes[true], index_name="true class")


def _recall(evidence):
    truth, predicted = evidence.truth, evidence.predicted
    table = {"rows": [], "recall": [], "95 % interval": [], "interval, drawn": []}
    alone = {variant.name: variant.predicted for variant in evidence.of_role(ALONE)}
    table |= {name: [] for name in alone} | {"most often predicted instead": []}
    classes = evidence.classes
    recalls = [np.mean(predicted[truth == label] == label) for label in classes]
    order = np.argsort(recalls, kind="stable")
    for label in classes[order]:
        own = truth == label
        low, high = _recall_limits(evidence, own)
        recall = np.mean(predicted[own] == label)
        wrong = pd.Series(predicted[own & (predicted != label)]).value_counts()
        table["rows"].append(own.sum())
        table["recall"].append(f"{recall:.3f}")
        table["95 % interval"].append("–" if np.isnan(low) else f"{low:.2f} to {high:.2f}")
        table["interval, drawn"].append(html.interval_track(recall, low, high, (0, 1)))
        for name, others in alone.items():
            share = np.mean(others[own] == label)
            table[name].append(html.shaded(f"{share:.3f}", share))
        table["most often predicted instead"].append(
            f"{wrong.index[0]} ({wrong.iloc[0]})" if len(wrong) else "–"
        )
    caption = "Share of right predictions of each class, lowest first, with all modalities and "
    caption += "with each one alone."
    return [html.table(table, caption, index=classes[order], index_name="class")]


def _recall_limits(evidence, rows):
    units = None if evidence.units is None else evidence.units[rows]
    n_units = rows.sum() if units is None else len(np.unique(units))
    if n_units < 2:
        return np.nan, np.nan
    interval = score_interval(
        "accuracy", evidence.truth[rows], evidence.predicted[rows], groups=units
    )
    return interval.low, interval.high


# ------------------------------------------------------------------------------ errors


def _errors(evidence):
    """The rows with the worst predictions, and their cells."""
    wrongness, describe = _wrongness(evidence)
    order, seen, worst = np.argsort(-wrongness, kind="stable"), set(), []
    for i in order[wrongness[order] > 0]:
        if evidence.rows[i] not in seen and len(worst) < N_ERRORS:
            seen.add(evidence.rows[i])
            worst.append(i)
    if not worst:
        return [html.paragraph("All predictions are right.")]
    positions = sorted({p for own in evidence.columns.values() for p in own})
    rows = evidence.rows[worst]
    cells = {p: _cells(evidence, p, rows) for p in positions[:MAX_CELLS]}
    cards = []
    for k, i in enumerate(worst):
        pairs = [(evidence.X.columns[p], shown_cells[k]) for p, shown_cells in cells.items()]
        if len(positions) > MAX_CELLS:
            pairs.append(("", f"and {len(positions) - MAX_CELLS} more columns"))
        caption = f"Row {evidence.X.index[rows[k]]}: {describe(i)}"
        cards.append((html.definitions(pairs), caption))
    return [
        html.paragraph(
            f"The {len(worst)} rows whose out-of-fold predictions are furthest from the truth. "
            "Probabilities, if the model has them, are in brackets."
        ),
        html.wall(cards, class_="wall cards"),
    ]


def _cells(evidence, position, rows):
    options = evidence.options[position]
    column = evidence.X.iloc[rows, position]
    array = readable(column, options)
    return [shown(array, k, options) for k in range(len(rows))]


def _wrongness(evidence):
    """Return the error of each prediction (0: right), and a function that describes it."""
    truth, predicted = evidence.truth, evidence.predicted
    if evidence.task == REGRESSOR:
        distance = np.abs(truth - predicted).reshape(len(truth), -1)
        spread = truth.reshape(len(truth), -1).std(axis=0)
        wrongness = (distance / np.where(spread > 0, spread, 1)).sum(axis=1)
        return wrongness, lambda i: f"true {_numbers(truth[i])}, predicted {_numbers(predicted[i])}"
    if evidence.task == MULTILABEL:
        wrongness = (truth != predicted).sum(axis=1)
        return wrongness, lambda i: f"true {_labels(truth[i])}, predicted {_labels(predicted[i])}"
    return _wrongness_of_classes(evidence)


def _wrongness_of_classes(evidence):
    truth, predicted, classes = evidence.truth, evidence.predicted, evidence.classes
    wrong = (truth != predicted).astype(float)
    proba = evidence.variants[0].probabilities(classes)
    if proba is None:
        return wrong, lambda i: f"true {truth[i]}, predicted {predicted[i]}"
    every = np.arange(len(truth))
    right = proba[every, np.searchsorted(classes, truth)]
    chosen = proba[every, np.searchsorted(classes, predicted)]

    def describe(i):
        return f"true {truth[i]} ({right[i]:.2f}), predicted {predicted[i]} ({chosen[i]:.2f})"

    return wrong * (1 + chosen - right), describe


def _numbers(values):
    return ", ".join(f"{value:.4g}" for value in np.atleast_1d(values))


def _labels(row):
    return ", ".join(map(str, np.flatnonzero(row))) or "none"


CLASSIFIER, MULTILABEL, REGRESSOR = "classifier", "multilabel", "regressor"
ANY = (CLASSIFIER, MULTILABEL, REGRESSOR)
SECTIONS = {
    "Importance of the modalities": (_importance, ANY),
    "Ablation": (_ablation, ANY),
    "Robustness": (_robustness, ANY),
    "Calibration": (_calibration, (CLASSIFIER,)),
    "Confusion matrix": (_confusion, (CLASSIFIER,)),
    "Recall per class": (_recall, (CLASSIFIER,)),
    "Worst errors": (_errors, ANY),
}
