"""The blocks of README and of the guides run, in order, in one folder."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]
README, GUIDE = ROOT / "README.md", ROOT / "docs" / "scaling.md"
FILES, EVIDENCE = ROOT / "docs" / "files.md", ROOT / "docs" / "evidence.md"


def find_scripts(file):
    """Return the Python blocks of a file, without doctests."""
    blocks = re.findall(r"```python\n(.*?)```", file.read_text(encoding="utf-8"), re.DOTALL)
    return [block for block in blocks if not block.startswith(">>>")]


def run_script(script, path, environment):
    """Write a script, run it in its folder and return what it prints."""
    path.write_text(script, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, path.name],
        cwd=path.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{script}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_blocks_of_the_readme_run_one_after_another(tmp_path, script_environment):
    scripts = find_scripts(README)
    assert len(scripts) == 5  # first example, search, decisions, joint, evidence
    printed = run_script("\n".join(scripts), tmp_path / "readme.py", script_environment)
    assert float(printed.splitlines()[0]) > 0.4  # the score; guessing has 0.1


@pytest.mark.slow
def test_scripts_of_the_scaling_guide_run(tmp_path, script_environment):
    for module in ("accelerate", "distributed", "PIL"):
        pytest.importorskip(module)
    scripts = find_scripts(GUIDE)
    assert len(scripts) == 4  # search, data, training, shards
    for n, script in enumerate(scripts):
        run_script(script, tmp_path / f"script{n}.py", script_environment)
    assert len(np.load(tmp_path / "features.npy", mmap_mode="r")) == 200
    assert (tmp_path / "head.joblib").exists()


@pytest.mark.slow
def test_blocks_of_the_guide_to_files_run_one_after_another(tmp_path, script_environment):
    data = Path(os.environ.get("MMFUSION_DATA", "")) / "fashion"
    if not (data / "products.csv").exists():
        pytest.skip("MMFUSION_DATA names no folder with the data set fashion")
    for module in ("PIL", "pyarrow"):
        pytest.importorskip(module)
    products = pd.read_csv(data / "products.csv")[:300]
    (tmp_path / "fashion" / "images").mkdir(parents=True)
    for photo in products["photo"]:
        shutil.copy(data / photo, tmp_path / "fashion" / photo)
    products.to_csv(tmp_path / "fashion" / "products.csv", index=False)
    damaged = tmp_path / "fashion" / products["photo"][7]
    damaged.write_bytes(damaged.read_bytes()[:300])
    scripts = find_scripts(FILES)
    assert len(scripts) == 4  # scores, check_files, another folder, parquet
    script = "\n".join(scripts).replace("max_epochs=5", "max_epochs=1")
    printed = run_script(script, tmp_path / "files.py", script_environment)
    assert printed.startswith("[0.") and products["photo"][7] in printed and "file" in printed


@pytest.mark.slow
def test_blocks_of_the_guide_to_evidence_run_one_after_another(tmp_path, script_environment):
    for module in ("matplotlib", "captum"):
        pytest.importorskip(module)
    scripts = find_scripts(EVIDENCE)
    assert len(scripts) == 7  # set-up, and one per section
    run_script("\n".join(scripts), tmp_path / "evidence.py", script_environment)
    pictures = ("ablation", "reliability", "missing", "noise", "pixels")
    files = [*(f"{name}.png" for name in pictures), "data.html", "model.html"]
    assert all((tmp_path / file).stat().st_size > 5000 for file in files)
