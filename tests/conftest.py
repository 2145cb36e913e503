"""Settings every test runs under, and the small real data sets."""

import multiprocessing
import os
from multiprocessing.forkserver import ensure_running
from pathlib import Path

# Before torch or a BLAS is loaded, and whatever the user's environment has: results repeat bit for
# bit only at an equal thread count, and workers of `pytest -n 2` with two threads each would wait
# for one another. The variable, unlike torch.set_num_threads, reaches processes that tests start.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("MPLBACKEND", "Agg")

import joblib
import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]

# Few examples for each change, the same ones each time; many and new ones in .ci/full. A first
# example may import or compile something: no deadlines.
settings.register_profile("fast", max_examples=10, derandomize=True, deadline=None)
settings.register_profile("thorough", max_examples=100, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))


@pytest.fixture(scope="session")
def script_environment():
    """Environment of a program started from another folder: it finds this checkout and the data."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    if "MMFUSION_DATA" in environment:  # may be relative to where the tests were started
        environment["MMFUSION_DATA"] = str(Path(environment["MMFUSION_DATA"]).resolve())
    return environment


@pytest.fixture(scope="session")
def new_process():
    """Context whose processes start at once: forks of one process that has imported the package.

    That process shares no state with this one and iterates over sets of names in another order.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["accelerate", "torch._dynamo", "tests._registry", "sklearn_mmfusion._skorch"]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("PYTHONHASHSEED", "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2")
        ensure_running()
    return context


@pytest.fixture
def new_workers(new_process):
    """Have joblib start its workers as `new_process` does; those of loky import all anew."""
    with joblib.parallel_config("multiprocessing", context=new_process):
        yield


@pytest.fixture(scope="session")
def digits3_folder():
    """Folder of the `digits3` set (real digits, speech and words); skip where it is not."""
    data = Path(os.environ.get("MMFUSION_DATA", "../shared/data"))
    folder = data / "digits3"
    if not (folder / "digits3_small.npz").exists():
        pytest.skip(f"needs digits3 in {data} (name its parent folder in MMFUSION_DATA)")
    return folder
