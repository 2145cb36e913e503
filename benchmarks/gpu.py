"""Does everything work on a GPU, and how much of it is kept busy?

    python benchmarks/gpu.py --out FOLDER [--quick]

Writes ``gpu.json`` and ``gpu.md`` to FOLDER, anew after each section, so that what was measured is
kept whatever comes next. Sections are ordered by value; an error is recorded and ends its row only;
a section that has used up its time skips its other rows. About 7 minutes, with --quick 2. Exits
with 1 where a check failed. Without a GPU it prints that, writes nothing and exits with 0.
"""

import argparse
import json
import os
import platform
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

# cuBLAS has deterministic products with one of two workspaces only, and reads it once.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]  # the package and the tests' registry

import torch  # noqa: E402 (after the setting above)

TOTAL = {False: 385, True: 95}  # seconds, whole and quick; a row may take longer, as may imports


@dataclass
class Section:
    """Rows of one question, as they come."""

    name: str
    question: str
    rows: list = field(default_factory=list)
    seconds: float = 0.0
    error: str | None = None
    skipped: bool = False

    @property
    def failures(self):
        return [row for row in self.rows if row.get("ok") is False]


def make_sections():
    """Sections with their seconds, whole and quick; most valuable first.

    A section is a function of the plan that yields pairs: the labels of a row, and a function that
    measures its other columns.
    """
    import _gpu_checks as checks
    import _gpu_speed as speed

    return [
        (checks.registry, 90, 35),
        (checks.faults, 60, 20),
        (checks.captured, 30, 15),
        (checks.single_rows, 15, 8),
        (speed.training, 120, 30),
        (speed.step, 30, 12),
        (speed.prediction, 40, 10),
        (checks.out_of_memory, 15, 5),
        (checks.memory_mapped, 25, 8),
        (speed.data, 20, 8),
        (speed.machine, 10, 4),
        (speed.searches, 60, 1),
        (speed.compiled, 100, 30),
    ]


def run_section(function, plan, seconds):
    """All rows of a section, or as many as its time allowed."""
    section = Section(function.__name__.replace("_", " "), function.__doc__.strip().splitlines()[0])
    if seconds <= 0:
        section.skipped = True
        return section
    start = time.perf_counter()
    try:
        for labels, measure in function(plan):
            if section.rows and time.perf_counter() - start > seconds:
                section.skipped = True
                break
            section.rows.append({**labels, **guarded(measure)})
    except Exception:  # between rows; the other sections still run
        section.error = traceback.format_exc(limit=-4)
    section.seconds = time.perf_counter() - start
    return section


def guarded(measure):
    """Columns of a row, or the error as a failure."""
    try:
        return measure()
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(frame.filename).name}:{frame.lineno}"
        return {"ok": False, "error": f"{type(error).__name__}: {error} ({where})"[:400]}


def describe():
    """Versions and hardware."""
    import numpy
    import pandas
    import sklearn
    import skorch

    modules = (torch, numpy, pandas, sklearn, skorch)
    found = {"Python": platform.python_version()}
    found |= {module.__name__: module.__version__ for module in modules}
    found["CUDA"], found["cuDNN"] = torch.version.cuda, torch.backends.cudnn.version()
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found |= {"GPU": properties.name, "GPU GB": properties.total_memory / 1e9}
    return found | {"CUBLAS_WORKSPACE_CONFIG": os.environ["CUBLAS_WORKSPACE_CONFIG"]}


def write(folder, environment, sections):
    """JSON for programs, Markdown for people."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = [vars(section) for section in sections]
    content = json.dumps({"environment": environment, "sections": contents}, indent=1, default=str)
    (folder / "gpu.json").write_text(content, encoding="utf-8")
    lines = [", ".join(f"{name} {value}" for name, value in environment.items()), ""]
    for section in sections:
        lines += as_markdown(section)
    (folder / "gpu.md").write_text("\n".join(lines), encoding="utf-8")


def as_markdown(section):
    """Lines of a section: a table of its rows, and what went wrong."""
    lines = [f"## {section.name}", "", f"{section.question} {section.seconds:.0f} s.", ""]
    columns = list(dict.fromkeys(key for row in section.rows for key in row))
    if columns:
        lines += [f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
    for row in section.rows:
        lines.append(f"| {' | '.join(as_cell(row.get(key)) for key in columns)} |")
    if section.skipped:
        lines += ["", "The rest was skipped: the time of this section was over."]
    if section.error:
        lines += ["", "```", section.error.strip(), "```"]
    return [*lines, ""]


def as_cell(value):
    if value is None:
        return ""
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return " ".join(text.split()).replace("|", "/")


def run(plan, folder, quick):
    """All sections; returns how many checks or sections failed."""
    deadline = time.perf_counter() + TOTAL[quick]
    environment, done = describe(), []
    for function, whole, short in make_sections():
        seconds = min(short if quick else whole, deadline - time.perf_counter())
        section = run_section(function, plan, seconds)
        done.append(section)
        write(folder, environment, done)
        print("\n".join(as_markdown(section)), flush=True)
    return sum(len(section.failures) + (section.error is not None) for section in done)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu.json and gpu.md")
    parser.add_argument("--quick", action="store_true", help="2 minutes in place of 7")
    parser.add_argument("--plan", action="store_true", help=argparse.SUPPRESS)  # tiny, on a CPU
    options = parser.parse_args()
    if not options.plan and not torch.cuda.is_available():
        print(f"No GPU: torch {torch.__version__} finds none. Nothing was measured.")
        return 0
    from _gpu_loops import QUICK, TINY, WHOLE

    plan = TINY if options.plan else QUICK if options.quick else WHOLE
    failures = run(plan, options.out, options.quick)
    print(f"{failures} failures; see {options.out / 'gpu.md'}")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
