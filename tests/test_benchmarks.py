"""The comparison of benchmark tables, on made-up ones, and the list of benchmarks."""

import importlib.util
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
