"""Damaged files of each format: an error that names the path, or a cell; nothing else happens."""

import faulthandler
import random
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest

from sklearn_mmfusion._decoders import image_header
from sklearn_mmfusion._file_formats import file_kind
from sklearn_mmfusion.containers import FileArray
from sklearn_mmfusion.containers.file_array import in_threads

KINDS = ("flip", "header", "number", "delete", "insert", "cut")
NUMBERS = [bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80"]
SECONDS = 20  # for one file
MEGABYTES = 150  # by which the peak of a process may grow


def mutated(content, rng):
    """Change a file in 1 to 16 places."""
    data, kind = bytearray(content), rng.choice(KINDS)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        if not data:
            break
        at = rng.randrange(min(len(data), 200) if kind in ("header", "number") else len(data))
        few = rng.choice([1, 2, 4, 50])
        if kind == "flip":
            data[at] ^= 1 << rng.randrange(8)
        elif kind == "header":
            data[at] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
        elif kind == "number":
            data[at : at + 4] = rng.choice(NUMBERS)
        elif kind == "delete":
            del data[at : at + few]
        elif kind == "insert":
            data[at:at] = rng.randbytes(few)
        else:
            del data[at:]
    return bytes(data)


def read_or_refused(path, content, what):
    """Whether a file gives a cell; if it does not, check that the error names row and path."""
    path.write_bytes(content)
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            column = FileArray([path])
            cell = column.decode()[0]
            if file_kind(path) == "image":
                mode, size = in_threads(lambda row: column.apply(row, image_header), [0])[0]
                assert cell.shape[:2] == size, what
                assert cell.ndim == 2 or cell.shape[2] in (2, len(mode)), what  # 2: gray and alpha
        except (ValueError, TypeError) as error:
            assert f"row 0: cannot read {str(path)!r}: " in str(error), what
            cell = None
        finally:
            faulthandler.cancel_dump_traceback_later()
    assert not caught, (what, caught[0].message)
    assert cell is None or isinstance(cell, str | np.ndarray), what
    return cell is not None


def read_mutated(folder, first, n_files):
    """Read that many mutated files; return how many give a cell."""
    from tests._media import media_files

    files, n_cells = sorted(media_files().items()), 0
    for seed in range(first, first + n_files):
        name, content = files[seed % len(files)]
        changed = mutated(content, random.Random(seed))
        n_cells += read_or_refused(Path(folder, name), changed, f"seed {seed}: {name}")
    return n_cells


def peak_memory():
    """Largest memory of this process so far, in megabytes."""
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def test_mutated_files_give_a_cell_or_an_error_with_the_path(tmp_path):
    pytest.importorskip("PIL")
    pytest.importorskip("soundfile")
    assert 5 < read_mutated(tmp_path, 0, 60) < 55  # some of both


@pytest.mark.slow
@pytest.mark.parametrize("first", [0, 1000])
def test_two_thousand_mutated_files(first, script_environment):
    """In a process of its own, which may hang or crash."""
    pytest.importorskip("PIL")
    pytest.importorskip("soundfile")
    script = f"from tests.test_media_fuzzing import main; main({first}, 1000)"
    run = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", script],
        env=script_environment,
        capture_output=True,
        text=True,
        timeout=300,
        errors="replace",
    )
    assert run.returncode == 0, run.stderr[-3000:]
    n_cells, megabytes = map(float, run.stdout.split())
    assert 100 < n_cells < 900
    assert megabytes < MEGABYTES


def main(first, n_files):
    with tempfile.TemporaryDirectory() as folder:
        read_mutated(folder, 0, 60)  # imports
        before = peak_memory()
        print(read_mutated(folder, first, n_files), peak_memory() - before)
