"""The scripts of docs/scaling.md run, in their order, in one folder."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

GUIDE = Path(__file__).resolve().parents[1] / "docs" / "scaling.md"


@pytest.mark.slow
def test_scripts_of_the_scaling_guide_run(tmp_path, script_environment):
    for module in ("accelerate", "distributed", "PIL"):
        pytest.importorskip(module)
    scripts = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(scripts) == 4  # search, data, training, shards
    for n, script in enumerate(scripts):
        path = tmp_path / f"script{n}.py"
        path.write_text(script, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, path.name],
            cwd=tmp_path,
            env=script_environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{script}\n{done.stderr}"
    assert len(np.load(tmp_path / "features.npy", mmap_mode="r")) == 200
    assert (tmp_path / "head.joblib").exists()
