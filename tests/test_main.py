"""The demonstration: its arguments, its messages, its table."""

import re
import subprocess
import sys

import numpy as np
import pytest

from sklearn_mmfusion.__main__ import (
    build_parser,
    draw,
    format_table,
    format_verdict,
    load,
    main,
)

ROWS = [
    ("image", "neural", 0.5, 0.4, 0.3, 2.0),
    ("audio", "neural", 0.7, 0.6, 0.5, 3.0),
    ("fused", "neural", 0.8, 0.7, 0.6, 6.0),
    ("fused", "logistic", 0.9, 0.8, 0.7, 5.5),
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


def test_main_table_and_verdict():
    lines = format_table(ROWS).splitlines()
    assert len(lines) == 2 + len(ROWS) and len(set(map(len, lines))) == 1
    assert lines[-1].split() == ["fused", "logistic", "0.900", "0.800", "0.700", "5.5"]
    assert "0.900 (logistic head), +20.0 points on the best modality alone (audio, 0.700)" in (
        format_verdict(ROWS)
    )


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
    found = dict(re.findall(r"^(\w+ +\w+) +(\d\.\d+)", done.stdout, flags=re.MULTILINE))
    assert [name.split() for name in found] == [
        ["audio", "neural"],
        ["image", "neural"],
        ["text", "neural"],
        ["fused", "neural"],
        ["fused", "logistic"],
    ]
    assert (tmp_path / "table.png").exists()


@pytest.mark.slow
def test_main_runs_on_digits3_with_two_jobs(digits3_folder, tmp_path, capsys):
    small = str(digits3_folder / "digits3_small.npz")
    assert main(["--data", small, "--jobs", "2", "--head", "logistic", "--no-groups"]) == 0
    told = capsys.readouterr().out
    assert "200 rows to train on, 100 to test on" in told
    assert "fused     logistic" in told and "neural" not in told
