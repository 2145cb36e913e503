"""joblib's backends change where work is done, not what comes out."""

import os

import joblib
import numpy as np
import pytest
from joblib import Parallel, delayed
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline

from sklearn_mmfusion import FusionTransformer, JointFusionClassifier, NeuralClassifier
from tests._registry import SMALL_JOINT, SMALL_NET, classes, encoders, modalities

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


@pytest.fixture(params=["dask", "loky", "threading"])
def backend(request):
    """Arguments of `joblib.parallel_config`."""
    if request.param == "dask":
        return request.getfixturevalue("dask")
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
