"""The demonstration: its arguments, its messages, its table."""

import re
import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_mmfusion.__main__ import (
    Row,
    build_parser,
    contenders,
    draw,
    fit_timed,
    format_table,
    format_verdict,
    load,
    main,
)

ROWS = [
    Row("alone", "image", "NeuralClassifier", (0.5, 0.4, 0.3), 2.0),
    Row("alone", "audio", "NeuralClassifier", (0.7, 0.6, 0.5), 3.0),
    Row("features", "all", "NeuralClassifier", (0.8, 0.7, 0.6), 6.0),
    Row("features", "all", "LogisticRegression", (0.75, 0.7, 0.6), 5.5),
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
    for option in ("--data", "--plot", "--seed", "--jobs", "--rows", "--head", "--no-groups"):
        assert option in told


def test_main_rejects_a_missing_folder(capsys, tmp_path):
    told = refusal(capsys, "--data", str(tmp_path / "nowhere"))
    assert "no such folder" in told and "digits3.npz or digits3_small.npz" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--jobs", "0"], "0 is not a positive number"),
        (["--rows", "5"], "--rows 5: expected at least 60"),
        (["--head", "forest"], "invalid choice: 'forest'"),
        (["--plot", "nowhere/table.png"], "the folder 'nowhere' does not exist"),
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
    told = format_verdict(ROWS, 100)
    assert "best modality alone is audio (accuracy 0.700)" in told
    assert "0.800 at the level of features (NeuralClassifier), +10.0 points" in told
    assert "0.900 at that of decisions (product), +20.0 points" in told
    # of 100 throws with chance 0.9, the share has the standard deviation sqrt(0.09 / 100)
    assert "Decisions lead by 10.0 points on these 100 rows; chance moves" in told
    assert "by 3.0 points (one standard error)" in told


@pytest.mark.parametrize(
    ("accuracy", "message"),
    [(0.8, "The levels are equal on"), (0.7, "Features lead by 10.0 points on")],
)
def test_main_verdict_does_not_favor_a_level(accuracy, message):
    product = Row("decisions", "all", "product", (accuracy, 0.8, 0.7), 5.0)
    assert message in format_verdict([*ROWS[:4], product], 100)


@pytest.mark.parametrize("head", [None, "logistic"])
def test_main_contenders_build_each_level_on_the_same_encoders(head):
    encoders = [(name, FrozenEstimator(FunctionTransformer()), name) for name in ("image", "text")]
    options = build_parser().parse_args(["--head", head] if head else [])
    classifiers = ["LogisticRegression" if head else "NeuralClassifier"] * 2
    fused = ["LogisticRegression"] if head else ["NeuralClassifier", "LogisticRegression"]
    found = list(contenders(encoders, options))
    assert [row[:3] for row in found] == [
        *(("alone", name, by) for name, by in zip(("image", "text"), classifiers, strict=True)),
        *(("features", "all", by) for by in fused),
        ("decisions", "all", "product"),
        ("decisions", "all", "mean"),
    ]
    for level, _, by, triples, estimator in found:
        if level == "decisions":
            assert estimator.fusion == by and estimator.estimators == triples == encoders
        else:
            assert type(estimator[-1]).__name__ == by and estimator[0].transformers == triples


class Listener(ClassifierMixin, BaseEstimator):
    def fit(self, X, y, groups=None):
        self.heard_ = groups
        return self


@pytest.mark.parametrize("steps", [[], [StandardScaler()]])
def test_main_fit_timed_tells_groups_to_the_last_step(steps):
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
    command = [sys.executable, "-m", "sklearn_mmfusion", "--rows", "300", "--plot", "table.png"]
    done = subprocess.run(
        command, cwd=tmp_path, env=script_environment, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    found = re.findall(r"^(\w+ +\w+ +\w+) +\d\.\d{3}", done.stdout, flags=re.MULTILINE)
    assert [name.split() for name in found] == [
        ["alone", "audio", "NeuralClassifier"],
        ["alone", "image", "NeuralClassifier"],
        ["alone", "text", "NeuralClassifier"],
        ["features", "all", "NeuralClassifier"],
        ["features", "all", "LogisticRegression"],
        ["decisions", "all", "product"],
        ["decisions", "all", "mean"],
    ]
    assert (tmp_path / "table.png").exists()


@pytest.mark.slow
def test_main_runs_on_digits3_with_two_jobs(digits3_folder, tmp_path, capsys):
    small = str(digits3_folder / "digits3_small.npz")
    assert main(["--data", small, "--jobs", "2", "--head", "logistic", "--no-groups"]) == 0
    told = capsys.readouterr().out
    assert "200 rows to train on, 100 to test on" in told
    assert "features   all       LogisticRegression" in told and "Neural" not in told
    assert "decisions  all       product" in told
