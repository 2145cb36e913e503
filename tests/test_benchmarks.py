"""The comparison of benchmark tables, on made-up ones, and the list of benchmarks."""

import importlib.util
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
README = """
## First

`OMP_NUM_THREADS=1 python benchmarks/bench_first.py --rounds 3` (`--rounds`): a sentence.

| what | beside | ms | ours / its |
| --- | --- | --- | --- |
| log-mel, 8 kHz | librosa | 50 | 0.50 [0.48, 0.52] |
| log-mel, 8 kHz | scipy | 50 | 0.03 |

| n | speed-up |
| ---: | ---: |
| 10 | 2.0 |
| 100 | 4.0 |

## Second

`python benchmarks/bench_second.py`

| what | seconds |
| --- | --- |
| all | 3 |
"""


@pytest.fixture(scope="module")
def check():
    spec = importlib.util.spec_from_file_location("check_ratios", FOLDER / "check_ratios.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def committed(check):
    return check.find_commands(README)[0][1]


def test_each_command_comes_with_its_tables(check):
    (first, one), (second, other) = check.find_commands(README)
    assert first == "OMP_NUM_THREADS=1 python benchmarks/bench_first.py --rounds 3"
    assert second == "python benchmarks/bench_second.py"
    assert [headers for headers, _ in check.parse_tables(one)] == [
        ["what", "beside", "ms", "ours / its"],
        ["n", "speed-up"],
    ]
    assert check.figures(one) == {
        (("log-mel, 8 kHz", "librosa"), 0, "ours / its"): "0.50 [0.48, 0.52]",
        (("log-mel, 8 kHz", "scipy"), 0, "ours / its"): "0.03",
        ((), 0, "speed-up"): "2.0",
        ((), 1, "speed-up"): "4.0",
    }
    assert check.figures(other) == {}


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        ("0.50 [0.48, 0.52]", "0.59 [0.48, 0.99]", ""),
        ("0.50 [0.48, 0.52]", "0.61", "worse"),
        ("0.50 [0.48, 0.52]", "0.10", ""),  # better
        ("| 0.03 |", "| 0.04 |", ""),  # rounding
        ("| 0.03 |", "| 0.05 |", "worse"),
        ("| 4.0 |", "| 3.4 |", ""),
        ("| 4.0 |", "| 3.2 |", "worse"),
        ("| 4.0 |", "| 9.0 |", ""),
        ("| librosa |", "| torch |", "gone"),
    ],
)
def test_a_loss_of_a_fifth_is_told(check, old, new, verdict):
    before = committed(check)
    lines = check.compare(before, before.replace(old, new).replace("| 50 |", "| 70 |"))
    assert len(lines) == 4
    assert [line[-1] for line in lines if line[-1]] == [verdict] * bool(verdict)


def test_order_of_named_rows_does_not_matter(check):
    before = committed(check)
    named = "| log-mel, 8 kHz | librosa | 50 | 0.50 [0.48, 0.52] |\n"
    after = before.replace(named, "").replace("| 0.03 |\n", f"| 0.03 |\n{named}")
    assert {line[4] for line in check.compare(before, after)} == {"1.00"}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("bench_*.py")), ids=lambda path: path.name)
def test_readme_has_the_command_of_each_benchmark(check, path):
    commands = check.find_commands((FOLDER / "README.md").read_text(encoding="utf-8"))
    assert any(f"python benchmarks/{path.name}" in command for command, _ in commands)


def run_gpu(folder, *options, **environment):
    """`benchmarks/gpu.py` from another folder, where the package is not installed."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | environment
    command = [sys.executable, FOLDER / "gpu.py", "--out", folder / "out", *options]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)


def test_gpu_benchmark_ends_at_once_where_there_is_no_gpu(tmp_path):
    done = run_gpu(tmp_path, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 0, done.stderr
    assert "No GPU" in done.stdout
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_gpu_benchmark_runs_its_plan_on_a_cpu(tmp_path):
    done = run_gpu(tmp_path, "--plan", OMP_NUM_THREADS="1")
    sections = json.loads((tmp_path / "out" / "gpu.json").read_text(encoding="utf-8"))["sections"]
    assert [section["name"] for section in sections if section["error"]] == [], done.stdout
    assert [section["name"] for section in sections] == [
        "registry", "faults", "captured", "single rows", "training", "step", "prediction",
        "out of memory", "memory mapped", "data", "machine", "searches", "compiled",
    ]  # fmt: skip
    assert all(section["rows"] and not section["skipped"] for section in sections)
    failed = [row for section in sections for row in section["rows"] if row.get("ok") is False]
    assert failed == [], done.stdout
    assert done.returncode == 0, done.stderr
    training = {(row["size"], row["contender"]): row for row in sections[4]["rows"]}
    # The captured step, eager here, is the plain loop with levers.
    for size in ("SMALL", "SEED", "FEAT"):
        losses = [
            training[size, f"by hand, {name}, bf16"]["loss"] for name in ("captured", "levers")
        ]
        assert losses[0] == losses[1]
    text = (tmp_path / "out" / "gpu.md").read_text(encoding="utf-8")
    assert text.count("\n## ") == len(sections)


@pytest.fixture(scope="module")
def gpu():
    spec = importlib.util.spec_from_file_location("gpu_benchmark", FOLDER / "gpu.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    path, environment = list(sys.path), dict(os.environ)
    spec.loader.exec_module(module)
    sys.path[:] = path
    os.environ.clear()
    os.environ.update(environment)
    yield module
    del sys.modules[spec.name]


def test_section_of_the_gpu_benchmark_keeps_its_rows_when_it_fails(gpu):
    def some_rows(plan):
        """A question. More words."""
        yield {"what": plan}, lambda: {"value": 1.0, "ok": True}
        yield {"what": "b | c"}, lambda: {"value": 1 / 0}
        raise ValueError("no more")

    section = gpu.run_section(some_rows, "a", seconds=60)
    assert section.name == "some rows"
    assert len(section.rows) == 2
    assert section.failures == section.rows[1:]
    assert section.rows[1]["error"].startswith("ZeroDivisionError: division by zero (test_bench")
    assert "ValueError: no more" in section.error
    lines = gpu.as_markdown(section)
    assert lines[4:8] == [
        "| what | value | ok | error |",
        "| --- | --- | --- | --- |",
        "| a | 1 | True |  |",
        f"| b / c |  | False | {section.rows[1]['error']} |",
    ]


def test_section_of_the_gpu_benchmark_ends_with_its_time(gpu):
    def endless(plan):
        """A question."""
        while True:
            yield {"what": plan}, dict

    section = gpu.run_section(endless, "a", seconds=1e-9)
    assert section.skipped
    assert len(section.rows) == 1
    assert gpu.run_section(endless, "a", seconds=-1.0).rows == []  # no time at all
    assert "skipped" in "\n".join(gpu.as_markdown(section))


def test_gpu_requirements_are_those_of_the_package_without_torch():
    def bounds(lines):
        pairs = [line.split(",")[0].split(">=") for line in lines if not line.startswith("#")]
        return {name: version for name, version in pairs}

    project = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text(encoding="utf-8"))
    needed = bounds(project["project"]["dependencies"])
    del needed["torch"]
    listed = (FOLDER / "gpu-requirements.txt").read_text(encoding="utf-8").splitlines()
    assert bounds(listed) == needed
