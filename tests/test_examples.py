"""The examples run as a user runs them: as scripts, from another folder."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("[0-9]*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(script, tmp_path, script_environment):
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=script_environment,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout
    assert "Warning" not in done.stderr, done.stderr


def test_examples_are_there():
    assert len(EXAMPLES) >= 3
