"""The demonstration, `python -m sklearn_mmfusion`: three modalities alone and fused, in a table.

Every encoder is fitted once on the training rows and then frozen; the classifiers behind it, alone
and fused, are fitted on the same features and read the test rows once.
"""

import argparse
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from joblib import Parallel, cpu_count, delayed
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, recall_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import has_fit_parameter

from sklearn_mmfusion.compose import FusionTransformer
from sklearn_mmfusion.datasets import load_digits3, load_multimodal_digits
from sklearn_mmfusion.feature_extraction import AudioEncoder, ImageEncoder, TextEncoder
from sklearn_mmfusion.neural_network import NeuralClassifier

HEADS = ("neural", "logistic")
MEASURES = ("accuracy", "macro recall", "macro F1")
LEAST_ROWS = 60
EPOCHS = 12  # enough for the embedded set, and a minute is enough for a demonstration


def build_parser():
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m sklearn_mmfusion",
        description="Classify digits from an image, a text and a sound: each modality alone, then "
        "fused. Without arguments it runs on a set that comes with the package (real "
        "handwritten digits, the same digit dialed as noisy touch tones and misspelt in one of "
        "16 languages) in about a minute.",
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
        help="classifier on the features: neural (NeuralClassifier) or logistic "
        "(LogisticRegression) (default: neural for each modality alone, both for the fusion)",
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


def make_head(kind, options):
    """Return a classifier for features."""
    if kind == "neural":
        return NeuralClassifier(random_state=options.seed, verbose=int(options.verbose))
    # Strong regularization: encoded training rows look more separable than unseen ones are.
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))


def fit_timed(estimator, X, y, groups):
    """Return a fitted clone and the seconds that took; `groups` goes where it is understood."""
    start = time.perf_counter()
    told = (
        {"groups": groups} if groups is not None and has_fit_parameter(estimator, "groups") else {}
    )
    return clone(estimator).fit(X, y, **told), time.perf_counter() - start


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


def measure(features, y, heads, label, encoder_seconds, groups, options, progress):
    """Return one table row a head: (label, head, the three measures, seconds with encoding)."""
    rows = []
    for kind in heads:
        progress(f"fitting the {kind} head on {label} ({features[0].shape[1]} features) ...")
        head, seconds = fit_timed(make_head(kind, options), features[0], y[0], groups)
        told = head.predict(features[1])
        scores = (
            accuracy_score(y[1], told),
            recall_score(y[1], told, average="macro", zero_division=0),
            f1_score(y[1], told, average="macro", zero_division=0),
        )
        rows.append((label, kind, *scores, encoder_seconds + seconds))
    return rows


def run(data, options, progress):
    """Return the table's rows: each modality alone, then all fused."""
    train, test = data.train, data.test
    X_train, X_test = data.data.iloc[train], data.data.iloc[test]
    y = data.target[train], data.target[test]
    groups = data.groups[train] if options.groups else None
    triples = make_encoders(X_train, options)
    fitted = fit_encoders(triples, X_train, y[0], groups, options.jobs, progress)
    frozen = [(name, FrozenEstimator(fitted[name][0]), column) for name, _, column in triples]
    rows = []
    for name, encoder, column in [*frozen, ("fused", None, None)]:
        alone = encoder is not None
        fusion = FusionTransformer([(name, encoder, column)] if alone else frozen)
        features = fusion.fit_transform(X_train, y[0]), fusion.transform(X_test)
        heads = (options.head,) if options.head else HEADS[:1] if alone else HEADS
        seconds = fitted[name][1] if alone else sum(s for _, s in fitted.values())
        rows += measure(features, y, heads, name, seconds, groups, options, progress)
    return rows


def format_table(rows):
    """Return the table as text."""
    lines = [f"{'features':<10}{'head':<10}" + "".join(f"{m:>14}" for m in (*MEASURES, "seconds"))]
    lines.append("-" * len(lines[0]))
    for label, head, *scores, seconds in rows:
        cells = "".join(f"{score:>14.3f}" for score in scores)
        lines.append(f"{label:<10}{head:<10}{cells}{seconds:>14.1f}")
    return "\n".join(lines)


def format_verdict(rows):
    """Return what the table says, in a sentence."""
    alone = max((row for row in rows if row[0] != "fused"), key=lambda row: row[2])
    fused = max((row for row in rows if row[0] == "fused"), key=lambda row: row[2])
    points = 100 * (fused[2] - alone[2])
    return (
        f"The fusion reaches accuracy {fused[2]:.3f} ({fused[1]} head), {points:+.1f} points on "
        f"the best modality alone ({alone[0]}, {alone[2]:.3f})."
    )


def draw(rows, file, title):
    """Draw the table as bars, one group a row, into `file`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.5 + 1.4 * len(rows), 4), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(rows))
    for k, name in enumerate(MEASURES):
        bars = axes.bar(places + (k - 1) * 0.27, [row[2 + k] for row in rows], 0.25, label=name)
        axes.bar_label(bars, fmt="%.2f", fontsize=7)
    axes.set_xticks(places, [f"{row[0]}\n{row[1]}, {row[5]:.0f} s" for row in rows])
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
    print(f"\n{format_table(rows)}\n\n{format_verdict(rows)}")
    if options.plot:
        draw(rows, options.plot, f"{source}, seed {options.seed}")
        print(f"Drawn in {options.plot}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
