"""What an install brings along, and that the project's files agree with each other."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
MOST_DISTRIBUTIONS = 14


def installed_closure(name):
    """Return the distribution and everything that an install of it, without extras, brings."""
    found, todo = set(), [canonicalize_name(name)]
    while todo:
        current = todo.pop()
        if current in found:
            continue
        found.add(current)
        for text in requires(current) or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                todo.append(canonicalize_name(requirement.name))
    return found


def read_project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_plain_install_is_small():
    try:
        brought = installed_closure("sklearn-mmfusion") - installed_closure("torch")
    except PackageNotFoundError:
        pytest.skip("the package is not installed here; .ci/run installs it")
    assert len(brought) <= MOST_DISTRIBUTIONS, sorted(brought)


def test_constraints_pin_everything_that_is_asked_for():
    project = read_project()["project"]
    asked = [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {canonicalize_name(line.split("==")[0]) for line in lines if "==" in line}
    names = {canonicalize_name(Requirement(text).name) for text in asked}
    assert names - pinned == {"sklearn-mmfusion"}


def test_constraints_lie_within_the_declared_bounds():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    for text in read_project()["project"]["dependencies"]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pinned[requirement.name]), text


def test_readme_opens_with_the_two_commands():
    commands = re.findall(r"```bash\n(.*)\n```", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert commands[0].endswith(".venv/bin/python -m sklearn_mmfusion")
    assert commands[1].endswith('.venv/bin/pytest -m "not slow" -n 2 --dist loadscope')
    assert all("-c constraints.txt" in command for command in commands[:2])
