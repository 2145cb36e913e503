"""Have the ratios got worse? Runs benchmarks afresh and compares them with the committed tables.

    OMP_NUM_THREADS=1 python benchmarks/check_ratios.py [bench_front_ends.py ...]

README.md holds each benchmark's command in backticks and, below it, the tables it printed. Compared
are the columns whose header has " / ", "ratio" or "speed-up" in it; lower is better unless the
header has "speed-up" or "higher is better". Exits with 1 where a fresh figure is more than 20 %
worse than the committed one, or its row is gone.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMAND = re.compile(r"`((?:\w+=\S+ )*python (benchmarks/bench_\w+\.py)[^`]*)`")
NUMBER = re.compile(r"[+-]?\d+(\.(\d+))?(?= \[|$)")  # alone, or before an interval


def find_commands(text):
    """The commands of a README, each with the text up to the next: list of (command, text)."""
    found = list(COMMAND.finditer(text))
    ends = [match.start() for match in found[1:]] + [len(text)]
    return [(m[1], text[m.end() : end]) for m, end in zip(found, ends, strict=True)]


def parse_tables(text):
    """The Markdown tables of a text: list of (headers, rows), each row a list of cells."""
    tables, open_table = [], False
    for line in text.splitlines():
        if not line.startswith("|"):
            open_table = False
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if not open_table:
            tables.append((cells, []))
            open_table = True
        elif set(line) - set("|-: "):
            tables[-1][1].append(cells)
    return tables


def figures(text):
    """Compared figures of all tables of a text.

    Returns
    -------
    figures : dict of (cells of text, occurrence, header) to str
        Rows of the same text, which differ in numbers only, are distinguished by their order.
    """
    found = {}
    for headers, rows in parse_tables(text):
        seen = Counter()
        for row in rows:
            name = tuple(cell for cell in row if cell and not NUMBER.match(cell))
            for header, cell in zip(headers, row, strict=True):
                if re.search(r" / |ratio|speed-up", header) and NUMBER.match(cell):
                    found[name, seen[name], header] = cell
            seen[name] += 1
    return found


def compare(committed, fresh, loss=0.2):
    """Compare two texts with tables.

    A difference of one in the last digit shown is rounding, whatever its share.

    Returns
    -------
    lines : list of tuple (what, header, old, new, new / old, "" or why it is worse)
    """
    old_figures, new_figures, lines = figures(committed), figures(fresh), []
    for key, old_cell in old_figures.items():
        name, occurrence, header = key
        what = ", ".join(name) + (f" ({occurrence + 1})" if occurrence else "")
        if key not in new_figures:
            lines.append((what, header, old_cell, "", "", "gone"))
            continue
        match = NUMBER.match(old_cell)
        old, new = float(match[0]), float(NUMBER.match(new_figures[key])[0])
        higher = re.search("speed-up|higher is better", header)
        better, worse = (new, old) if higher else (old, new)
        digit = 10.0 ** -len(match[2] or "")
        is_loss = worse > better * (1 + loss) and worse - better > 1.01 * digit
        change = f"{new / old:.2f}" if old else ""
        lines.append((what, header, old_cell, new_figures[key], change, "worse" if is_loss else ""))
    return lines


def run(command):
    """What a command of the README prints, run in the root of the repository."""
    words = shlex.split(command)
    settings = dict(word.split("=", 1) for word in words[: words.index("python")])
    words = [sys.executable, *words[words.index("python") + 1 :]]
    answer = subprocess.run(
        words,
        cwd=ROOT,
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return answer.stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", help="benchmarks to run; all that have ratios if none")
    parser.add_argument("--loss", type=float, default=0.2, help="share that may be lost")
    options = parser.parse_args()
    readme = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    failed = False
    print("| what | figure | committed | fresh | new / old | |\n" + "| --- " * 6 + "|")
    for command, committed in find_commands(readme):
        wanted = not options.files or any(Path(f).name in command for f in options.files)
        if wanted and figures(committed):
            for line in compare(committed, run(command), options.loss):
                print("| " + " | ".join(line) + " |", flush=True)
                failed = failed or bool(line[-1])
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
