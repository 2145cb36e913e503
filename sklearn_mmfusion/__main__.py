"""The demonstration, `python -m sklearn_mmfusion`: three modalities alone and fused, in a table.

Each encoder is fitted once on the training rows and then frozen. Alone, it predicts with the head
it was trained with. Feature-level fusion fits a classifier on the frozen encoders' features.
Decision-level fusion has nothing left to fit: a rule combines the probabilities of the encoders'
own heads. The joint network trains encoders of its own, in a second process. Each row of the table
predicts the test rows once.
"""

import argparse
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from joblib import Parallel, cpu_count, delayed
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, recall_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import has_fit_parameter

from sklearn_mmfusion._skorch.schedule import MIN_STEPS, n_epochs
from sklearn_mmfusion.compose import FusionTransformer
from sklearn_mmfusion.datasets import load_digits3, load_multimodal_digits
from sklearn_mmfusion.ensemble import LateFusionClassifier
from sklearn_mmfusion.feature_extraction import AudioEncoder, ImageEncoder, TextEncoder
from sklearn_mmfusion.neural_network import JointFusionClassifier, NeuralClassifier
from sklearn_mmfusion.neural_network.joint_fusion.base import MIN_STEPS as JOINT_STEPS
from sklearn_mmfusion.report import fusion_report
from sklearn_mmfusion.report.html import check_path

HEADS = {"neural": "NeuralClassifier", "logistic": "LogisticRegression"}
RULES = ("product", "mean")
ALONE, FEATURES, JOINT, DECISIONS = LEVELS = ("alone", "features", "joint", "decisions")
MEASURES = ("accuracy", "macro recall", "macro F1")
LEAST_ROWS = 60
# The embedded set takes seconds with so few passes, which need small batches and a high rate.
SHORT = {"batch_size": 32, "lr": 4e-3, "early_stopping": False}
EPOCHS, JOINT_EPOCHS = 4, 5
PROBE_ROWS = 256  # trained for one epoch to estimate how long all will take


class Row(NamedTuple):
    """One row of the table: level of fusion, modality, and classifier or rule."""

    level: str
    modality: str
    by: str
    scores: tuple
    seconds: float


def positive(text):
    """Return a positive integer, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


DESCRIPTION = (
    "Classify digits from an image, a text and a sound: each modality alone, then "
    "all three fused at the level of features, in one joint network, and at the level of "
    "decisions. Without arguments it uses a set that comes with the package (real handwritten "
    "digits, the same digit dialed as noisy touch tones and misspelled in one of 16 "
    "languages), trains for a few epochs and takes about 20 seconds."
)
EPILOG = (
    "The test rows come from speakers (telephone lines) that are not in the training "
    "rows. Exit status: 0 done, 2 wrong arguments or data."
)
ARGUMENTS = {
    "--data": dict(
        metavar="DIR",
        help="folder with digits3.npz or digits3_small.npz (or such a file): handwritten, spoken "
        "and spelled digits, all real (default: the set that comes with the package)",
    ),
    "--plot": dict(
        metavar="FILE",
        help="save the table as a bar chart in FILE (.png, .svg, .pdf, ...); needs matplotlib, "
        "the extra 'plot'",
    ),
    "--report": dict(
        metavar="FILE",
        help="write a report of feature-level fusion to FILE (.html): scores with intervals, the "
        "contribution of each modality, calibration, the worst errors; pictures need matplotlib",
    ),
    "--seed": dict(
        type=int,
        default=0,
        metavar="N",
        help="random_state (default 0)",
    ),
    "--jobs": dict(
        type=int,
        choices=(1, 2),
        default=min(2, cpu_count()),
        help="2 trains the joint network in a second process while the encoders are fitted "
        "(default: 2 if there are two cores; here %(default)s)",
    ),
    "--rows": dict(
        type=positive,
        metavar="N",
        help=f"use at most N rows, drawn at random, at least {LEAST_ROWS} (default: all)",
    ),
    "--epochs": dict(
        type=positive,
        metavar="N",
        help="max_epochs of every network, with the other defaults as they are (default: with "
        f"--data 'auto', the networks' own default; else {EPOCHS}, {JOINT_EPOCHS} for the joint "
        "network, in small batches without early stopping)",
    ),
    "--head": dict(
        choices=HEADS,
        help="classifier on the fused features: neural (NeuralClassifier) or logistic "
        "(LogisticRegression) (default: both)",
    ),
    "--groups": dict(
        action=argparse.BooleanOptionalAction,
        default=True,
        help="choose the number of epochs on speakers (lines) that are not trained on (default "
        "yes; requires --data or --epochs, as the short training does no validation)",
    ),
    "--verbose": dict(
        action="store_true",
        help="print every epoch of every network too",
    ),
}


def build_parser():
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m sklearn_mmfusion", description=DESCRIPTION, epilog=EPILOG
    )
    for flag, options in ARGUMENTS.items():
        parser.add_argument(flag, **options)
    return parser


def check_plot(parser, file):
    """Stop before any training when the figure could not be written after it."""
    if find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib: pip install 'sklearn-mmfusion[plot]'")
    from matplotlib.backend_bases import FigureCanvasBase

    path, known = Path(file), sorted(FigureCanvasBase.get_supported_filetypes())
    if not path.resolve().parent.is_dir():
        parser.error(f"--plot {file}: the folder {str(path.parent)!r} does not exist")
    if path.suffix.lstrip(".").lower() not in known:
        parser.error(f"--plot {file}: expected a name ending in one of {', '.join(known)}")


def check_report(parser, file):
    """Stop before any training when the report could not be written after it."""
    try:
        check_path(file, "--report")
    except ValueError as error:
        parser.error(str(error))


def load(parser, options):
    """Return the data set that the command line selects."""
    if options.rows is not None and options.rows < LEAST_ROWS:
        parser.error(f"--rows {options.rows}: expected at least {LEAST_ROWS}")
    try:
        data = load_digits3(options.data) if options.data else load_multimodal_digits()
    except (OSError, ValueError) as error:
        parser.error(f"--data {options.data}: {error}")
    if options.rows is not None:
        kept = np.random.RandomState(options.seed).permutation(len(data.target))[: options.rows]
        data.train, data.test = np.intersect1d(data.train, kept), np.intersect1d(data.test, kept)
    return data


class Progress:
    """Print the current step and the seconds since the program started."""

    def __init__(self):
        self.start = time.perf_counter()

    def __call__(self, message):
        print(f"[{time.perf_counter() - self.start:6.1f} s] {message}", flush=True)


def training_params(options, short_epochs):
    """Return the parameters of a network's training that differ from its defaults."""
    if options.epochs:
        epochs = {"max_epochs": options.epochs}
    else:
        epochs = {} if options.data else {"max_epochs": short_epochs, **SHORT}
    return {**epochs, "random_state": options.seed, "verbose": int(options.verbose)}


def make_encoders(X, options):
    """Return the (name, encoder, column) triples."""
    params = training_params(options, EPOCHS)
    sample_rate = X["audio"].dtype.sample_rate
    return [
        ("audio", AudioEncoder(sample_rate=sample_rate, **params), "audio"),
        ("image", ImageEncoder(**params), "image"),
        ("text", TextEncoder(**params), "text"),
    ]


def make_joint(triples, options):
    """Return the joint network of the triples' encoders."""
    return JointFusionClassifier(triples, **training_params(options, JOINT_EPOCHS))


def make_classifier(triples, kind, options):
    """Return a classifier of the triples' features, fused."""
    if kind == "neural":
        steps = [NeuralClassifier(**training_params(options, EPOCHS))]
    else:
        # Strong regularization: encoded training rows look more separable than unseen ones are.
        steps = [StandardScaler(), LogisticRegression(C=0.01, max_iter=1000)]
    return make_pipeline(FusionTransformer(triples), *steps)


def fit_timed(estimator, X, y, groups):
    """Return a fitted clone and the seconds it took; the last step gets `groups` if it can."""
    last, prefix = estimator, ""
    if isinstance(estimator, Pipeline):
        last, prefix = estimator[-1], f"{estimator.steps[-1][0]}__"
    wanted = groups is not None and has_fit_parameter(last, "groups")
    start = time.perf_counter()
    fitted = clone(estimator).fit(X, y, **({f"{prefix}groups": groups} if wanted else {}))
    return fitted, time.perf_counter() - start


def most_passes(network, n_rows, min_steps):
    """Return the largest number of passes over the rows that fitting a network takes."""
    # Early stopping trains on the training part, then again on all rows.
    repeats = 2 - network.validation_fraction if network.early_stopping else 1
    return repeats * n_epochs(network.max_epochs, network.batch_size, n_rows, min_steps)


def estimate_seconds(triples, joint, X, y, jobs):
    """Return about how long all fits take: one epoch on a few rows is timed.

    The encoders together take about as long for an epoch as the joint network.
    """
    probe = clone(joint).set_params(max_epochs=1, early_stopping=False, verbose=0)
    n_probed = min(PROBE_ROWS, len(y))
    for n_rows in (min(LEAST_ROWS, n_probed), n_probed):  # the first fit imports torch's compiler
        _, seconds = fit_timed(probe, X.iloc[:n_rows], y[:n_rows], None)
    alone = most_passes(triples[0][1], len(y), MIN_STEPS)
    together = most_passes(joint, len(y), JOINT_STEPS)
    passes = alone + together if jobs == 1 else max(alone, together)
    return passes * seconds * len(y) / n_probed


def announce(triples, joint, X, y, options, progress):
    """Print which epochs are reduced, or else how long training takes."""
    if options.data or options.epochs:
        minutes = estimate_seconds(triples, joint, X, y, options.jobs) / 60
        progress(f"training will take about {minutes:.1f} minutes (estimated from one epoch)")
        return
    progress(
        f"max_epochs is reduced from 'auto' to {EPOCHS} ({JOINT_EPOCHS} for the joint network), "
        f"with lr={SHORT['lr']}, batch_size={SHORT['batch_size']} and no early stopping; "
        "the defaults take minutes and score higher"
    )


def fit_encoders(triples, X, y, groups, progress):
    """Return {name: (fitted encoder, seconds)}."""
    fitted = {}
    for name, encoder, column in triples:
        fitted[name] = fit_timed(encoder, X[column], y, groups)
        progress(f"{name} encoder fitted in {fitted[name][1]:.1f} s")
    return fitted


def contenders(frozen, options):
    """Yield (level, modality, by, triples, estimator) of the rows that use frozen encoders."""
    for triple in frozen:
        by = type(triple[1].estimator).__name__
        yield ALONE, triple[0], by, [triple], LateFusionClassifier([triple])
    for kind in (options.head,) if options.head else HEADS:
        yield FEATURES, "all", HEADS[kind], frozen, make_classifier(frozen, kind, options)
    for rule in RULES:
        yield DECISIONS, "all", rule, frozen, LateFusionClassifier(frozen, fusion=rule)


def measure(y, predicted):
    """Return the three measures of predictions."""
    return (
        accuracy_score(y, predicted),
        recall_score(y, predicted, average="macro", zero_division=0),
        f1_score(y, predicted, average="macro", zero_division=0),
    )


def run(data, options, progress):
    """Return the table's rows, level by level, and the triples with frozen encoders."""
    train, test = data.train, data.test
    X, y = data.data.iloc[train], data.target[train]
    X_test, y_test = data.data.iloc[test], data.target[test]
    groups = data.groups[train] if options.groups else None
    triples = make_encoders(X, options)
    joint = make_joint(triples, options)
    announce(triples, joint, X, y, options, progress)
    # With two jobs the process starts at this call; with one the fit runs when it is collected.
    joint_fits = Parallel(n_jobs=options.jobs, return_as="generator")(
        [delayed(fit_timed)(joint, X, y, groups)]
    )
    fitted = fit_encoders(triples, X, y, groups, progress)
    frozen = [(name, FrozenEstimator(fitted[name][0]), column) for name, _, column in triples]
    rows = []
    for level, modality, by, used, estimator in contenders(frozen, options):
        progress(f"{level}: {modality} by {by} ...")
        estimator, seconds = fit_timed(estimator, X, y, groups)
        seconds += sum(fitted[name][1] for name, _, _ in used)
        rows.append(Row(level, modality, by, measure(y_test, estimator.predict(X_test)), seconds))
    progress(f"{JOINT}: all by {type(joint).__name__} ...")
    joint, seconds = next(joint_fits)
    scores = measure(y_test, joint.predict(X_test))
    rows.append(Row(JOINT, "all", type(joint).__name__, scores, seconds))
    return sorted(rows, key=lambda row: LEVELS.index(row.level)), frozen


def write_report(data, frozen, options):
    """Write the report of a classifier on the features, with the test rows as the only fold."""
    kept = np.concatenate([data.train, data.test])
    train, test = np.split(np.arange(len(kept)), [len(data.train)])
    fusion_report(
        make_classifier(frozen, options.head or "logistic", options),
        data.data.iloc[kept],
        data.target[kept],
        cv=[(train, test)],
        groups=data.groups[kept],
        path=options.report,
        random_state=options.seed,
    )


def format_table(rows):
    """Return the table as text."""
    heading = f"{'level':<11}{'modality':<10}{'by':<23}"
    lines = [heading + "".join(f"{name:>14}" for name in (*MEASURES, "seconds"))]
    lines.append("-" * len(lines[0]))
    for level, modality, by, scores, seconds in rows:
        cells = "".join(f"{score:>14.3f}" for score in scores)
        lines.append(f"{level:<11}{modality:<10}{by:<23}{cells}{seconds:>14.1f}")
    return "\n".join(lines)


def format_verdict(rows, n_tested):
    """Return a summary of the table and of its uncertainty."""
    alone, *fused = (
        max((row for row in rows if row.level == level), key=lambda row: row.scores[0])
        for level in LEVELS
    )
    base = alone.scores[0]
    gains = [
        f"{row.scores[0]:.3f} at the level of {row.level} ({row.by}, "
        f"{100 * (row.scores[0] - base):+.1f} points)"
        if row.level != JOINT
        else f"{row.scores[0]:.3f} as one joint network "
        f"({100 * (row.scores[0] - base):+.1f} points)"
        for row in fused
    ]
    best = max(row.scores[0] for row in fused)
    error = 100 * np.sqrt(best * (1 - best) / n_tested)
    return (
        f"The best modality alone is {alone.modality} (accuracy {base:.3f}). All three fused "
        f"reach {gains[0]}, {gains[1]}\nand {gains[2]}. The standard error of the best accuracy on "
        f"these {n_tested} rows is {error:.1f} points\nif rows are independent, and larger if rows "
        "of one group are alike: smaller differences mean nothing."
    )


def draw(rows, file, title):
    """Draw the table into `file`, one group of bars per row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.5 + 1.6 * len(rows), 4), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(rows))
    for k, name in enumerate(MEASURES):
        heights = [row.scores[k] for row in rows]
        bars = axes.bar(places + (k - 1) * 0.27, heights, 0.25, label=name)
        axes.bar_label(bars, fmt="%.2f", fontsize=7)
    ticks = [f"{row.level}\n{row.modality} by\n{row.by}\n{row.seconds:.0f} s" for row in rows]
    axes.set_xticks(places, ticks)
    axes.set(ylim=(0, 1.05), ylabel="score on the test rows", title=title)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    figure.savefig(file, dpi=150)


def main(arguments=None):
    """Run the demonstration.

    Parameters
    ----------
    arguments : list of str, default=None
        The command line after the program's name; None reads `sys.argv`.

    Returns
    -------
    status : int
        0 when done; argparse exits with 2 on wrong arguments or data.
    """
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.plot:
        check_plot(parser, options.plot)
    check_report(parser, options.report)
    # Two processes with all threads each would wait for one another.
    torch.set_num_threads(max(1, torch.get_num_threads() // options.jobs))
    progress = Progress()
    data = load(parser, options)
    source = options.data or "the embedded set"
    progress(f"{source}: {len(data.train)} rows to train on, {len(data.test)} to test on")
    rows, frozen = run(data, options, progress)
    progress("done")
    print(f"\n{format_table(rows)}\n\n{format_verdict(rows, len(data.test))}")
    if options.plot:
        draw(rows, options.plot, f"{source}, seed {options.seed}")
        print(f"Drawn in {options.plot}.")
    if options.report:
        print("\nFeature-level fusion, refitted on the features of the fitted encoders:\n")
        write_report(data, frozen, options)
        print(f"\nWritten to {options.report}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
