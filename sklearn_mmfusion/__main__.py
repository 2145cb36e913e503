"""The demonstration, `python -m sklearn_mmfusion`: three modalities alone and fused, in a table.

Every encoder is fitted once on the training rows and then frozen; only the fusion differs from row
to row. Alone and at the feature level, a classifier is fitted on the frozen encoders' features. At
the decision level nothing is left to fit: the heads that the encoders were trained with answer, and
a rule joins their probabilities. Every row of the table reads the test rows once.
"""

import argparse
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from joblib import Parallel, cpu_count, delayed
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, recall_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import has_fit_parameter

from sklearn_mmfusion.compose import FusionTransformer
from sklearn_mmfusion.datasets import load_digits3, load_multimodal_digits
from sklearn_mmfusion.ensemble import LateFusionClassifier
from sklearn_mmfusion.feature_extraction import AudioEncoder, ImageEncoder, TextEncoder
from sklearn_mmfusion.neural_network import NeuralClassifier

HEADS = {"neural": "NeuralClassifier", "logistic": "LogisticRegression"}
RULES = ("product", "mean")
ALONE, FEATURES, DECISIONS = LEVELS = ("alone", "features", "decisions")
MEASURES = ("accuracy", "macro recall", "macro F1")
LEAST_ROWS = 60
EPOCHS = 12  # enough for the embedded set, and a minute is enough for a demonstration


class Row(NamedTuple):
    """One row of the table: what is fused at which level, by which classifier or rule."""

    level: str
    modality: str
    by: str
    scores: tuple
    seconds: float


def build_parser():
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m sklearn_mmfusion",
        description="Classify digits from an image, a text and a sound: each modality alone, then "
        "fused, at the level of features and at that of decisions. Without arguments it runs on a "
        "set that comes with the package (real handwritten digits, the same digit dialed as noisy "
        "touch tones and misspelt in one of 16 languages) in about a minute.",
        epilog="The rows that are tested were recorded by speakers (or over telephone lines) that "
        "training never hears. Exit status: 0 done, 2 wrong arguments or data.",
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="folder with digits3.npz or digits3_small.npz (or such a file): handwritten, spoken "
        "and spelled digits, all real (default: the set that comes with the package)",
    )
    parser.add_argument(
        "--plot",
        metavar="FILE",
        help="draw the table as bars into FILE (.png, .svg, .pdf, ...); needs matplotlib, the "
        "extra 'plot'",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="random_state (default 0)")
    parser.add_argument(
        "--jobs",
        type=positive,
        default=min(3, cpu_count()),
        metavar="N",
        help="encoders fitted at the same time, each in a process of its own (default: one a core; "
        "here %(default)s)",
    )
    parser.add_argument(
        "--rows",
        type=positive,
        metavar="N",
        help=f"use at most N rows, drawn at random, at least {LEAST_ROWS} (default: all)",
    )
    parser.add_argument(
        "--epochs",
        type=positive,
        metavar="N",
        help=f"passes of each encoder over the training rows (default: {EPOCHS} on the embedded "
        "set; with --data the encoders' own default)",
    )
    parser.add_argument(
        "--head",
        choices=HEADS,
        help="classifier on features: neural (NeuralClassifier) or logistic (LogisticRegression) "
        "(default: neural for each modality alone, both for all); decisions need none",
    )
    parser.add_argument(
        "--groups",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="let encoders and heads validate on speakers (lines) they do not train on (default "
        "yes)",
    )
    parser.add_argument(
        "--verbose", action="store_true", help="print every epoch of every network too"
    )
    return parser


def positive(text):
    """Return a positive integer, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


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


def load(parser, options):
    """Return the data set that the command line asks for."""
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
    """Lines that tell what runs now and for how long the program has been running."""

    def __init__(self):
        self.start = time.perf_counter()

    def __call__(self, message):
        print(f"[{time.perf_counter() - self.start:6.1f} s] {message}", flush=True)


def make_encoders(X, options):
    """Return the (name, encoder, column) triples."""
    epochs = options.epochs or ("auto" if options.data else EPOCHS)
    shared = {"random_state": options.seed, "verbose": int(options.verbose), "max_epochs": epochs}
    sample_rate = X["audio"].dtype.sample_rate
    return [  # the slowest first: the others then share the time it takes
        ("audio", AudioEncoder(sample_rate=sample_rate, **shared), "audio"),
        ("image", ImageEncoder(**shared), "image"),
        ("text", TextEncoder(**shared), "text"),
    ]


def make_classifier(triples, kind, options):
    """Return a classifier of the triples' features, fused."""
    if kind == "neural":
        steps = [NeuralClassifier(random_state=options.seed, verbose=int(options.verbose))]
    else:
        # Strong regularization: encoded training rows look more separable than unseen ones are.
        steps = [StandardScaler(), LogisticRegression(C=0.01, max_iter=1000)]
    return make_pipeline(FusionTransformer(triples), *steps)


def fit_timed(estimator, X, y, groups):
    """Return a fitted clone and the seconds that took; `groups` goes where it is understood."""
    last, prefix = estimator, ""
    if isinstance(estimator, Pipeline):
        last, prefix = estimator[-1], f"{estimator.steps[-1][0]}__"
    wanted = groups is not None and has_fit_parameter(last, "groups")
    start = time.perf_counter()
    fitted = clone(estimator).fit(X, y, **({f"{prefix}groups": groups} if wanted else {}))
    return fitted, time.perf_counter() - start


def fit_encoder(name, encoder, column, y, groups):
    """Return the triple's name, fitted encoder and seconds; runs in a worker process too."""
    return name, *fit_timed(encoder, column, y, groups)


def encoder_tasks(triples, X, y, groups, announce):
    """Yield the work of each encoder, told of as it is taken up."""
    for name, encoder, column in triples:
        announce(f"fitting the {name} encoder on {len(y)} rows ...")
        yield delayed(fit_encoder)(name, encoder, X[column], y, groups)


def fit_encoders(triples, X, y, groups, jobs, progress):
    """Return {name: (fitted encoder, seconds)}, telling of each as it is done."""
    fitted = {}
    # One task a worker at a time, so that none is announced before it starts.
    parallel = Parallel(
        n_jobs=jobs, return_as="generator_unordered", batch_size=1, pre_dispatch="n_jobs"
    )
    for name, encoder, seconds in parallel(encoder_tasks(triples, X, y, groups, progress)):
        progress(f"{name} encoder fitted in {seconds:.1f} s")
        fitted[name] = encoder, seconds
    return fitted


def contenders(frozen, options):
    """Yield (level, modality, by, triples, estimator) of every row of the table."""
    for triple in frozen:
        kind = options.head or "neural"
        yield ALONE, triple[0], HEADS[kind], [triple], make_classifier([triple], kind, options)
    for kind in (options.head,) if options.head else HEADS:
        yield FEATURES, "all", HEADS[kind], frozen, make_classifier(frozen, kind, options)
    for rule in RULES:
        yield DECISIONS, "all", rule, frozen, LateFusionClassifier(frozen, fusion=rule)


def measure(y, told):
    """Return the three measures of what was told."""
    return (
        accuracy_score(y, told),
        recall_score(y, told, average="macro", zero_division=0),
        f1_score(y, told, average="macro", zero_division=0),
    )


def run(data, options, progress):
    """Return the table's rows: each modality alone, then all fused, level by level."""
    train, test = data.train, data.test
    X, y = data.data.iloc[train], data.target[train]
    groups = data.groups[train] if options.groups else None
    triples = make_encoders(X, options)
    fitted = fit_encoders(triples, X, y, groups, options.jobs, progress)
    frozen = [(name, FrozenEstimator(fitted[name][0]), column) for name, _, column in triples]
    rows = []
    for level, modality, by, used, estimator in contenders(frozen, options):
        progress(f"{level}: {modality} by {by} ...")
        estimator, seconds = fit_timed(estimator, X, y, groups)
        seconds += sum(fitted[name][1] for name, _, _ in used)
        scores = measure(data.target[test], estimator.predict(data.data.iloc[test]))
        rows.append(Row(level, modality, by, scores, seconds))
    return rows


def format_table(rows):
    """Return the table as text."""
    heading = f"{'level':<11}{'modality':<10}{'by':<20}"
    lines = [heading + "".join(f"{name:>14}" for name in (*MEASURES, "seconds"))]
    lines.append("-" * len(lines[0]))
    for level, modality, by, scores, seconds in rows:
        cells = "".join(f"{score:>14.3f}" for score in scores)
        lines.append(f"{level:<11}{modality:<10}{by:<20}{cells}{seconds:>14.1f}")
    return "\n".join(lines)


def format_verdict(rows, n_tested):
    """Return what the table says, and how far that can be trusted."""
    alone, features, decisions = (
        max((row for row in rows if row.level == level), key=lambda row: row.scores[0])
        for level in LEVELS
    )
    one, first, second = (row.scores[0] for row in (alone, features, decisions))
    lead = 100 * abs(first - second)
    error = 100 * np.sqrt(max(first, second) * (1 - max(first, second)) / n_tested)
    ahead = f"{'Features' if first > second else 'Decisions'} lead by {lead:.1f} points"
    return (
        f"The best modality alone is {alone.modality} (accuracy {one:.3f}). All three fused reach "
        f"{first:.3f} at the level of features ({features.by}), {100 * (first - one):+.1f} points, "
        f"and {second:.3f} at that of decisions ({decisions.by}), {100 * (second - one):+.1f} "
        f"points.\n{ahead if lead else 'The levels are equal'} on these {n_tested} rows; chance "
        f"moves either figure by {error:.1f} points (one standard error) if rows are independent, "
        "by more if rows of one group are alike."
    )


def draw(rows, file, title):
    """Draw the table as bars, one group a row, into `file`."""
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
    progress = Progress()
    data = load(parser, options)
    source = options.data or "the embedded set"
    progress(f"{source}: {len(data.train)} rows to train on, {len(data.test)} to test on")
    rows = run(data, options, progress)
    progress("done")
    print(f"\n{format_table(rows)}\n\n{format_verdict(rows, len(data.test))}")
    if options.plot:
        draw(rows, options.plot, f"{source}, seed {options.seed}")
        print(f"Drawn in {options.plot}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
