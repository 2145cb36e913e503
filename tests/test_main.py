"""The demonstration: its arguments, its messages, its table."""

import re
import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_mmfusion import (
    ImageEncoder,
    JointFusionClassifier,
    NeuralClassifier,
    multimodal_frame,
)
from sklearn_mmfusion.__main__ import (
    Row,
    announce,
    build_parser,
    contenders,
    draw,
    estimate_seconds,
    fit_timed,
    format_table,
    format_verdict,
    load,
    main,
    most_passes,
)
from tests.report._pages import Page

ROWS = [
    Row("alone", "image", "NeuralClassifier", (0.5, 0.4, 0.3), 2.0),
    Row("alone", "audio", "NeuralClassifier", (0.7, 0.6, 0.5), 3.0),
    Row("features", "all", "NeuralClassifier", (0.8, 0.7, 0.6), 6.0),
    Row("features", "all", "LogisticRegression", (0.75, 0.7, 0.6), 5.5),
    Row("joint", "all", "JointFusionClassifier", (0.85, 0.7, 0.6), 9.0),
    Row("decisions", "all", "product", (0.9, 0.8, 0.7), 5.0),
    Row("decisions", "all", "mean", (0.6, 0.5, 0.4), 5.0),
]


def refusal(capsys, *arguments):
    """Return what the program says as it refuses the arguments."""
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_main_help_names_every_option(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    told = capsys.readouterr().out
    for option in (
        "--data",
        "--plot",
        "--report",
        "--seed",
        "--jobs",
        "--rows",
        "--head",
        "--no-groups",
    ):
        assert option in told


def test_main_rejects_a_missing_folder(capsys, tmp_path):
    told = refusal(capsys, "--data", str(tmp_path / "nowhere"))
    assert "no such folder" in told and "digits3.npz or digits3_small.npz" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--jobs", "0"], "invalid choice: 0"),
        (["--epochs", "0"], "0 is not a positive number"),
        (["--rows", "5"], "--rows 5: expected at least 60"),
        (["--head", "forest"], "invalid choice: 'forest'"),
        (["--plot", "nowhere/table.png"], "the folder 'nowhere' does not exist"),
        (["--report", "nowhere/a.html"], "--report: path='nowhere/a.html': there is no folder"),
        (["--plot", "table.docx"], "expected a name ending in one of"),
    ],
)
def test_main_rejects_arguments(capsys, arguments, message):
    assert message in refusal(capsys, *arguments)


def test_main_names_the_extra_when_matplotlib_is_absent(capsys, monkeypatch):
    monkeypatch.setattr("sklearn_mmfusion.__main__.find_spec", lambda name: None)
    assert "pip install 'sklearn-mmfusion[plot]'" in refusal(capsys, "--plot", "table.png")


def test_main_rows_keep_the_split():
    parser = build_parser()
    whole = load(parser, parser.parse_args([]))
    part = load(parser, parser.parse_args(["--rows", "90"]))
    assert len(part.train) + len(part.test) == 90
    assert np.isin(part.train, whole.train).all() and np.isin(part.test, whole.test).all()


def test_main_table_has_a_line_a_row():
    lines = format_table(ROWS).splitlines()
    assert len(lines) == 2 + len(ROWS) and len(set(map(len, lines))) == 1
    assert lines[0].split()[:3] == ["level", "modality", "by"]
    assert lines[-2].split() == ["decisions", "all", "product", "0.900", "0.800", "0.700", "5.0"]


def test_main_verdict_names_the_best_of_each_level():
    verdict = " ".join(format_verdict(ROWS, 100).split())
    assert "best modality alone is audio (accuracy 0.700)" in verdict
    assert "0.800 at the level of features (NeuralClassifier, +10.0 points)" in verdict
    assert "0.850 as one joint network (+15.0 points)" in verdict
    assert "0.900 at the level of decisions (product, +20.0 points)" in verdict
    # of 100 throws with chance 0.9, the share has the standard deviation sqrt(0.09 / 100)
    assert "The standard error of the best accuracy on these 100 rows is 3.0 points" in verdict


@pytest.mark.parametrize("early_stopping", [True, False])
def test_main_counts_the_passes_that_a_fit_takes(early_stopping):
    X, y = np.random.RandomState(0).randn(60, 4), np.arange(60) % 2
    network = NeuralClassifier(max_epochs=5, early_stopping=early_stopping, random_state=0)
    fitted = clone(network).fit(X, y)
    assert len(fitted.history_) == 5
    # 5 epochs on 80 % of the rows, then as many on all of them; or 5 on all of them
    assert most_passes(network, 60, 300) == (5 * 0.8 + 5 if early_stopping else 5)
    assert most_passes(network.set_params(max_epochs="auto"), 60, 300) > 20


def test_main_estimates_from_one_epoch(monkeypatch):
    seen = []

    def fit_timed(estimator, X, y, groups):
        seen.append((estimator.max_epochs, len(X)))
        return estimator, 2.0

    monkeypatch.setattr("sklearn_mmfusion.__main__.fit_timed", fit_timed)
    X, y = multimodal_frame(image=np.zeros((1024, 4, 4))), np.arange(1024) % 2
    triples = [("image", ImageEncoder(max_epochs=10, early_stopping=False), "image")]
    joint = JointFusionClassifier(triples, max_epochs=15, early_stopping=False)
    # 256 rows take 2 s: an epoch on 1024 takes 8
    assert estimate_seconds(triples, joint, X, y, jobs=2) == 15 * 8
    assert estimate_seconds(triples, joint, X, y, jobs=1) == 25 * 8
    assert set(seen) == {(1, 60), (1, 256)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "max_epochs is reduced from 'auto' to 4 (5 for the joint network)"),
        (["--epochs", "40"], "training will take about 1.5 minutes"),
    ],
)
def test_main_announces_short_or_long_training(capsys, monkeypatch, arguments, message):
    monkeypatch.setattr("sklearn_mmfusion.__main__.estimate_seconds", lambda *rest: 90.0)
    announce([], None, None, None, build_parser().parse_args(arguments), print)
    assert message in capsys.readouterr().out


@pytest.mark.parametrize("head", [None, "logistic"])
def test_main_contenders_build_each_level_on_the_same_encoders(head):
    encoders = [(name, FrozenEstimator(FunctionTransformer()), name) for name in ("image", "text")]
    options = build_parser().parse_args(["--head", head] if head else [])
    fused = ["LogisticRegression"] if head else ["NeuralClassifier", "LogisticRegression"]
    found = list(contenders(encoders, options))
    assert [row[:3] for row in found] == [
        ("alone", "image", "FunctionTransformer"),
        ("alone", "text", "FunctionTransformer"),
        *(("features", "all", by) for by in fused),
        ("decisions", "all", "product"),
        ("decisions", "all", "mean"),
    ]
    for level, _, by, triples, estimator in found:
        if level == "features":
            assert type(estimator[-1]).__name__ == by and estimator[0].transformers == triples
        else:
            assert estimator.estimators == triples
            assert level == "alone" or (estimator.fusion == by and triples == encoders)


class Listener(ClassifierMixin, BaseEstimator):
    def fit(self, X, y, groups=None):
        self.heard_ = groups
        return self


@pytest.mark.parametrize("steps", [[], [StandardScaler()]])
def test_main_fit_timed_passes_groups_to_the_last_step(steps):
    X, y, groups = np.eye(4), np.arange(4), np.array([0, 0, 1, 1])
    estimator = make_pipeline(*steps, Listener()) if steps else Listener()
    for given in (groups, None):
        fitted, seconds = fit_timed(estimator, X, y, given)
        assert (fitted[-1] if steps else fitted).heard_ is given and seconds > 0
    fit_timed(make_pipeline(StandardScaler()), X, y, groups)  # wants none


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_main_draw_writes_a_figure(tmp_path, suffix):
    file = tmp_path / f"table.{suffix}"
    draw(ROWS, file, "a title")
    assert file.stat().st_size > 1000


@pytest.mark.slow
def test_main_runs_on_the_embedded_set(tmp_path, script_environment):
    files = ["--plot", "table.png", "--report", "report.html"]
    command = [sys.executable, "-m", "sklearn_mmfusion", "--rows", "300", *files]
    done = subprocess.run(
        command, cwd=tmp_path, env=script_environment, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    found = re.findall(r"^(\w+ +\w+ +\w+) +\d\.\d{3}", done.stdout, flags=re.MULTILINE)
    assert [name.split() for name in found] == [
        ["alone", "audio", "AudioEncoder"],
        ["alone", "image", "ImageEncoder"],
        ["alone", "text", "TextEncoder"],
        ["features", "all", "NeuralClassifier"],
        ["features", "all", "LogisticRegression"],
        ["joint", "all", "JointFusionClassifier"],
        ["decisions", "all", "product"],
        ["decisions", "all", "mean"],
    ]
    assert (tmp_path / "table.png").exists()
    markup = (tmp_path / "report.html").read_text("utf-8")
    page = Page(markup)
    assert page.faults == [] and "Failed" not in markup and page.counts["img"] > 12


@pytest.mark.slow
def test_main_runs_on_digits3_with_two_jobs(digits3_folder, tmp_path, capsys):
    small = str(digits3_folder / "digits3_small.npz")
    options = ["--jobs", "2", "--head", "logistic", "--no-groups", "--epochs", "3"]
    assert main(["--data", small, *options]) == 0
    printed = capsys.readouterr().out
    assert "200 rows to train on, 100 to test on" in printed and "estimated from" in printed
    assert "features   all       LogisticRegression" in printed and "Neural" not in printed
    assert "decisions  all       product" in printed
