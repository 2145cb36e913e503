"""joblib's backends change where work is done, not what comes out."""

import os
import warnings

import joblib
import numpy as np
import pytest
import torch
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline

from sklearn_mmfusion import (
    AudioEncoder,
    FusionTransformer,
    JointFusionClassifier,
    NeuralClassifier,
    multimodal_frame,
)
from tests._cache_data import Counted, counts
from tests._registry import (
    SMALL_CNN,
    SMALL_JOINT,
    SMALL_NET,
    classes,
    encoders,
    modalities,
    table,
    waveforms,
)
from tests.conftest import ROOT

GRID = {"fusiontransformer__image__n_components": [4, 8], "neuralclassifier__lr": [0.01, 0.05]}


@pytest.fixture(scope="module")
def dask(tmp_path_factory):
    """A cluster of two processes of one thread, as joblib's backend."""
    distributed = pytest.importorskip("distributed")
    options = {"processes": True, "dashboard_address": None}
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            local_directory=str(tmp_path_factory.mktemp("dask")),
            **options,
        ) as cluster,
        distributed.Client(cluster),
    ):
        yield {"backend": "dask"}


@pytest.fixture(scope="module")
def ray():
    """A local Ray cluster of two processes as the joblib backend."""
    cluster = pytest.importorskip("ray")
    from ray.util.joblib import register_ray

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own deprecations
        environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        options = {"include_dashboard": False, "log_to_driver": False, "logging_level": "error"}
        cluster.init(num_cpus=2, runtime_env={"env_vars": environment}, **options)
    register_ray()
    yield {"backend": "ray", "n_jobs": 2}
    cluster.shutdown()


@pytest.fixture(params=["dask", "ray", "loky", "threading"])
def backend(request):
    """Arguments of `joblib.parallel_config`."""
    if request.param in ("dask", "ray"):
        return request.getfixturevalue(request.param)
    return {"backend": request.param, "n_jobs": 2}


@pytest.fixture(scope="module")
def serial():
    """What a single process says."""
    return results()


def results():
    X, y = modalities(), classes()
    features = make_pipeline(FusionTransformer(encoders()), NeuralClassifier(**SMALL_NET))
    search = GridSearchCV(features, GRID, cv=2).fit(X, y)
    joint = JointFusionClassifier(encoders(), **SMALL_JOINT)
    scores = cross_validate(joint, X, y, cv=3, scoring="neg_log_loss", return_train_score=True)
    fusion = search.best_estimator_[0]
    chunks = Parallel()(delayed(fusion.transform)(X.iloc[i : i + 5]) for i in range(0, len(X), 5))
    return {
        **{key: v for key, v in search.cv_results_.items() if key.endswith("test_score")},
        "predictions": search.predict_proba(X),
        "test": scores["test_score"],
        "train": scores["train_score"],
        "transformed": np.concatenate(chunks),
    }


@pytest.mark.slow
def test_backends_give_what_a_single_process_gives(backend, serial):
    with joblib.parallel_config(**backend):
        elsewhere = os.getpid() not in Parallel()(delayed(os.getpid)() for _ in range(4))
        parallel = results()
    assert elsewhere == (backend["backend"] != "threading")
    for name, expected in serial.items():
        np.testing.assert_array_equal(parallel[name], expected, err_msg=name)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["dask", "ray"])
def test_search_with_memory_on_a_cluster_fits_each_encoder_once_per_fold(name, request, tmp_path):
    X, y = modalities(), classes()
    grid = {"fusiontransformer__image__scale": [1.0, 2.0], "logisticregression__C": [0.1, 1, 10]}

    def search(log, memory):
        fusion = FusionTransformer(
            [(m, Counted(str(log), m, sleep=0.2), m) for m in ("image", "audio")],
            memory=memory,
            random_state=0,
        )
        model = make_pipeline(fusion, LogisticRegression())
        found = GridSearchCV(model, grid, cv=3, refit=False, error_score="raise").fit(X, y)
        return found.cv_results_["mean_test_score"]

    expected = search(tmp_path / "serial", None)
    assert counts(tmp_path / "serial")["fit image"] == 2 * 3 * 3
    with joblib.parallel_config(**request.getfixturevalue(name)):
        scores = search(tmp_path / "parallel", str(tmp_path / "shared"))
    np.testing.assert_array_equal(scores, expected)
    assert counts(tmp_path / "parallel")["fit image"] == 2 * 3  # settings of the encoder x folds
    assert counts(tmp_path / "parallel")["fit audio"] == 3


@pytest.fixture
def warn_always():
    """torch tells of read-only arrays once a process; let it tell again."""
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(before)


@pytest.mark.usefixtures("warn_always")
@pytest.mark.parametrize(
    ("model", "X"),
    [
        (NeuralClassifier(**SMALL_NET), table()),
        (AudioEncoder(**SMALL_CNN), waveforms()),
        (JointFusionClassifier([("t", "passthrough", "t")], **SMALL_JOINT), {"t": table()}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_fitted_estimator_whose_arrays_a_backend_maps_read_only(model, X, tmp_path):
    # joblib maps large arrays for its workers, Ray all of them
    X = multimodal_frame(**X) if isinstance(X, dict) else X
    joblib.dump(model.fit(X, classes()), tmp_path / "model")
    mapped = joblib.load(tmp_path / "model", mmap_mode="r")
    answer = "predict_proba" if hasattr(model, "predict_proba") else "transform"
    np.testing.assert_array_equal(getattr(mapped, answer)(X), getattr(model, answer)(X))
    np.testing.assert_array_equal(
        getattr(clone(mapped).fit(X, classes()), answer)(X), getattr(model, answer)(X)
    )
