"""What other libraries and other threads expect of a model: copies, tools, containers, routing."""

import copy
import gc
import mmap
import multiprocessing
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import (
    BaggingClassifier,
    BaggingRegressor,
    StackingClassifier,
    StackingRegressor,
)
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    StratifiedGroupKFold,
    TimeSeriesSplit,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_validate,
)
from sklearn.multioutput import (
    ClassifierChain,
    MultiOutputClassifier,
    MultiOutputRegressor,
    RegressorChain,
)
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.validation import has_fit_parameter
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from torch import nn

from sklearn_mmfusion import (
    FusionTransformer,
    JointFusionClassifier,
    JointFusionRegressor,
    LateFusionClassifier,
    LateFusionRegressor,
    NeuralClassifier,
    NeuralRegressor,
    multimodal_frame,
)
from tests._registry import (
    ENTRIES,
    MODALITIES,
    SMALL_JOINT,
    SMALL_NET,
    classes,
    having,
    modalities,
    numbers,
    table,
)

NAMES = ("image", "text")
GROUPS = np.arange(24) % 6


def triples(by=NAMES):
    return [
        (name, MODALITIES[name].make(max_epochs=1), column)
        for name, column in zip(NAMES, by, strict=True)
    ]


def frame():
    return modalities(names=NAMES)


def feature_level(head):
    def make(by=NAMES):
        net = head(**{**SMALL_NET, "max_epochs": 2})
        return make_pipeline(FusionTransformer(triples(by), random_state=0), net)

    return make


def late(cls):
    return lambda by=NAMES: cls(triples(by), random_state=0)


def joint(cls):
    return lambda by=NAMES: cls(triples(by), **{**SMALL_JOINT, "max_epochs": 1})


CLASSIFIERS = {
    "feature": feature_level(NeuralClassifier),
    "late": late(LateFusionClassifier),
    "joint": joint(JointFusionClassifier),
}
REGRESSORS = {
    "feature": feature_level(NeuralRegressor),
    "late": late(LateFusionRegressor),
    "joint": joint(JointFusionRegressor),
}

# ------------------------------------------------------------------------------ copies


class DuringTraining(Callback):
    """Run a function in another thread after the first epoch; training waits for its result."""

    def __init__(self, function):
        self.function = function

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 1:
            with ThreadPoolExecutor(1) as pool:
                self.result = pool.submit(self.function).result(timeout=20)


class Drawing(nn.Module):
    """Draws random numbers of every kind when built, also into non-persistent buffers."""

    def __init__(self, in_features, n_outputs):
        super().__init__()
        self.layer = nn.Linear(in_features, n_outputs)
        for init in (nn.init.orthogonal_, nn.init.trunc_normal_, nn.init.sparse_):
            init(self.layer.weight, *[0.1] * (init is nn.init.sparse_))
        mixed = torch.randn(in_features) + torch.rand(in_features) + torch.randperm(in_features)
        mixed += torch.randint(3, (in_features,)) + torch.randint(2, 5, (in_features,))
        mixed += torch.bernoulli(torch.full((in_features,), 0.5)) + torch.normal(0.0, mixed.abs())
        mixed += torch.empty(in_features).exponential_() + nn.Dropout()(mixed)
        self.register_buffer("mixed", mixed, persistent=False)
        self.register_buffer("late", None, persistent=False)

    def forward(self, features):
        if self.late is None:  # built at the first batch, like positional encodings
            self.register_buffer("late", torch.rand(features.shape[1]), persistent=False)
        return self.layer(features * self.mixed + self.late)


COPIES = {"pickle": lambda model: pickle.loads(pickle.dumps(model)), "deepcopy": copy.deepcopy}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("entry", having("net", "predictor"), ids=str)
def test_a_copy_does_not_wait_for_training_in_another_thread(entry, how):
    model, X = entry.fitted(), table()
    during = DuringTraining(lambda: COPIES[how](model))
    training = NeuralClassifier(**{**SMALL_NET, "dropout": 0.5})
    expected = training.fit(X, classes()).predict_proba(X)
    training.set_params(callbacks=[during]).fit(X, classes())
    np.testing.assert_array_equal(training.predict_proba(X), expected)
    method = "predict" if hasattr(model, "predict") else "transform"
    outputs = [getattr(each, method)(entry.X()) for each in (during.result, model)]
    np.testing.assert_array_equal(*outputs)


def test_copies_keep_random_buffers_and_leave_generators_alone():
    X, y = table(), classes()
    model = NeuralClassifier(module=Drawing, **SMALL_NET).fit(X, y)
    expected, state = model.predict_proba(X), torch.get_rng_state()
    for make in COPIES.values():
        np.testing.assert_array_equal(make(model).predict_proba(X), expected)
    assert torch.equal(torch.get_rng_state(), state)
    before = [model.module_.mixed.clone(), model.module_.late.clone()]
    model.set_params(warm_start=True, random_state=1).fit(X, y)
    assert all(map(torch.equal, before, [model.module_.mixed, model.module_.late]))


# ------------------------------------------------------------------------------ scikit-learn


def by_hand(make, y, folds, method="predict_proba"):
    """Out-of-fold predictions in the order of the folds, and the rows."""
    X, rows = frame(), np.concatenate([test for _, test in folds])
    outputs = [
        getattr(make().fit(X.iloc[train], y[train]), method)(X.iloc[test]) for train, test in folds
    ]
    return np.concatenate(outputs), rows


FOLDS = list(StratifiedGroupKFold(2).split(np.zeros(24), classes(), GROUPS))


def stacking(make, X, y):
    model = StackingClassifier([("a", make())], cv=FOLDS, stack_method="predict_proba").fit(X, y)
    outputs, rows = by_hand(make, y, FOLDS)
    expected = LogisticRegression().fit(outputs[:, 1:], y[rows])
    np.testing.assert_allclose(model.final_estimator_.coef_, expected.coef_, rtol=1e-5)


def tuned_threshold(make, X, y):
    model = TunedThresholdClassifierCV(make(), cv=FOLDS).fit(X, y)
    expected = make().fit(X, y).predict_proba(X)[:, 1] >= model.best_threshold_
    np.testing.assert_array_equal(model.predict(X), expected.astype(int))


def calibrated(make, X, y):
    model = CalibratedClassifierCV(make(), cv=FOLDS).fit(X, y)
    for fitted, (train, _) in zip(model.calibrated_classifiers_, FOLDS, strict=True):
        expected = make().fit(X.iloc[train], y[train]).predict_proba(X)
        np.testing.assert_array_equal(fitted.estimator.predict_proba(X), expected)
    assert np.isfinite(model.predict_proba(X)).all()


def several_outputs(make, X, y):
    model = MultiOutputClassifier(make()).fit(X, np.c_[y, 1 - y])
    np.testing.assert_array_equal(model.predict_proba(X)[0], make().fit(X, y).predict_proba(X))


def grouped_folds(make, X, y):
    cv = StratifiedGroupKFold(2)
    scores = cross_validate(make(), X, y, groups=GROUPS, cv=cv, error_score="raise")["test_score"]
    expected = [
        make().fit(X.iloc[train], y[train]).score(X.iloc[test], y[test]) for train, test in FOLDS
    ]
    np.testing.assert_array_equal(scores, expected)


def time_series_folds(make, X, y):
    cv = TimeSeriesSplit(2)
    scores = cross_validate(make(), X, y, cv=cv, error_score="raise")["test_score"]
    expected = [
        make().fit(X.iloc[:n], y[:n]).score(X.iloc[n : n + 8], y[n : n + 8]) for n in (8, 16)
    ]
    np.testing.assert_array_equal(scores, expected)


def out_of_fold_probabilities(make, X, y):
    outputs, rows = by_hand(make, y, FOLDS)
    found = cross_val_predict(make(), X, y, cv=FOLDS, method="predict_proba")
    np.testing.assert_array_equal(found[rows], outputs)


def importances(make, X, y):
    model = make().fit(X, y)
    result = permutation_importance(model, X, y, n_repeats=2, random_state=0)
    assert result.importances.shape == (2, 2)
    constant = X.assign(text=[X["text"].iloc[0]] * 24)
    result = permutation_importance(model, constant, y, n_repeats=2, random_state=0)
    np.testing.assert_array_equal(result.importances[1], 0)


CLASSIFIER_TOOLS = [
    stacking,
    tuned_threshold,
    calibrated,
    several_outputs,
    grouped_folds,
    time_series_folds,
    out_of_fold_probabilities,
    importances,
]


@pytest.mark.slow
@pytest.mark.parametrize("level", CLASSIFIERS)
@pytest.mark.parametrize("tool", CLASSIFIER_TOOLS, ids=lambda tool: tool.__name__)
def test_tools_for_classifiers_take_multimodal_frames(tool, level):
    tool(CLASSIFIERS[level], frame(), classes())


@pytest.mark.slow
@pytest.mark.parametrize("level", ["feature", "joint"])
def test_a_halving_search_grows_max_epochs(level):
    model = CLASSIFIERS[level]()
    prefix = "neuralclassifier__" if level == "feature" else ""
    search = HalvingGridSearchCV(
        model,
        {f"{prefix}lr": [0.01, 0.02]},
        resource=f"{prefix}max_epochs",
        min_resources=1,
        max_resources=2,
        factor=2,
        cv=FOLDS,
        error_score="raise",
    ).fit(frame(), classes())
    assert search.n_resources_ == [1, 2]
    best = search.best_estimator_[-1] if prefix else search.best_estimator_
    assert best.max_epochs == 2


def transformed_target(make, X, y):
    model = TransformedTargetRegressor(make(), func=np.negative, inverse_func=np.negative)
    expected = -make().fit(X, -y).predict(X)
    np.testing.assert_array_equal(model.fit(X, y).predict(X), expected)


def stacked_regressors(make, X, y):
    model = StackingRegressor([("a", make())], cv=FOLDS).fit(X, y)
    outputs, rows = by_hand(make, y, FOLDS, "predict")
    slope = np.cov(outputs, y[rows])
    assert np.sign(model.final_estimator_.coef_[0]) == np.sign(slope[0, 1])


def several_regressors(make, X, y):
    model = MultiOutputRegressor(make()).fit(X, np.c_[y, -y])
    np.testing.assert_array_equal(model.predict(X)[:, 0], make().fit(X, y).predict(X))


@pytest.mark.slow
@pytest.mark.parametrize("level", REGRESSORS)
@pytest.mark.parametrize(
    "tool",
    [transformed_target, stacked_regressors, several_regressors],
    ids=lambda tool: tool.__name__,
)
def test_tools_for_regressors_take_multimodal_frames(tool, level):
    tool(REGRESSORS[level], frame(), numbers())


@pytest.mark.slow
@pytest.mark.parametrize("level", CLASSIFIERS)
@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_bagging_needs_positions_and_the_message_names_them(level, kind):
    make, y = (
        (CLASSIFIERS[level], classes()) if kind == "classes" else (REGRESSORS[level], numbers())
    )
    bagging = BaggingClassifier if kind == "classes" else BaggingRegressor
    with pytest.raises(ValueError, match=r"'image' is given by name.*position.*\(BaggingClass"):
        bagging(make(), n_estimators=1).fit(frame(), y)
    model = bagging(make(by=[0, 1]), n_estimators=1, bootstrap=False, random_state=0)
    assert np.isfinite(model.fit(frame(), y).predict(frame())).all()


@pytest.mark.parametrize("level", CLASSIFIERS)
def test_chains_of_scikit_learn_refuse_frames_of_cells(level):
    # They convert X to a table of numbers before our code runs.
    X, y = frame(), classes()
    match = "could not convert|setting an array element|truth value of an array"
    with pytest.raises(ValueError, match=match):
        ClassifierChain(CLASSIFIERS[level]()).fit(X, np.c_[y, 1 - y])
    with pytest.raises(ValueError, match=match):
        RegressorChain(REGRESSORS[level]()).fit(X, np.c_[y, 1.5 - y])


def test_encoders_in_a_column_transformer_and_a_feature_union():
    X, y = frame(), classes()
    alone = {name: encoder.fit(X[name], y).transform(X[name]) for name, encoder, _ in triples()}
    expected = np.hstack(list(alone.values()))
    columns = ColumnTransformer(triples())
    np.testing.assert_array_equal(columns.fit_transform(X, y), expected)
    union = FeatureUnion([(t[0], ColumnTransformer([t])) for t in triples()])
    np.testing.assert_array_equal(union.fit_transform(X, y), expected)
    named = columns.set_output(transform="pandas").fit(X, y).transform(X)
    np.testing.assert_array_equal(named.to_numpy(), expected)
    assert list(named)[:2] == ["image__imageencoder0", "image__imageencoder1"]
    image = FeatureUnion([("a", triples()[0][1])]).set_output(transform="pandas")
    assert list(image.fit_transform(X["image"], y))[0] == "a__imageencoder0"
    with pytest.raises(ValueError, match="input_features should have length"):
        triples()[0][1].fit(X["image"], y).get_feature_names_out(["a", "b"])


def test_tensor_cells_reach_a_foreign_transformer_through_a_fusion_transformer():
    X = multimodal_frame(vector=table())
    with pytest.raises(ValueError, match="use the transformer in a FusionTransformer"):
        ColumnTransformer([("a", StandardScaler(), "vector")]).fit(X)
    fused = FusionTransformer([("a", StandardScaler(), "vector")]).fit_transform(X)
    np.testing.assert_allclose(fused, StandardScaler().fit_transform(table()), rtol=1e-5)
    with pytest.raises(ValueError, match="setting an array element with a sequence"):
        ColumnTransformer([("a", StandardScaler(), ["vector"])]).fit(X)  # numpy's own message


class Softmax(nn.Module):
    """A plain classifier as skorch expects it."""

    def __init__(self, width):
        super().__init__()
        self.layer = nn.Linear(width, 2)

    def forward(self, X):
        return self.layer(X).softmax(1)


def test_skorch_net_works_as_last_step():
    X, y = frame().assign(price=np.arange(24.0)), classes()
    fusion = FusionTransformer([*triples(), ("price", StandardScaler(), ["price"])], random_state=0)
    options = {"max_epochs": 2, "verbose": 0, "module__width": 17, "train_split": None}
    model = make_pipeline(fusion, NeuralNetClassifier(Softmax, **options))
    torch.manual_seed(0)
    probability = model.fit(X, y).predict_proba(X)
    features = fusion.fit_transform(X, y)
    assert features.dtype == np.float32  # as the weights of the net
    torch.manual_seed(0)
    alone = NeuralNetClassifier(Softmax, **options).fit(features, y)
    np.testing.assert_array_equal(probability, alone.predict_proba(features))
    scores = cross_validate(model, X, y, cv=FOLDS, error_score="raise")["test_score"]
    assert np.isfinite(scores).all()


@pytest.mark.slow
@pytest.mark.parametrize("entry", ENTRIES, ids=str)
def test_an_attribute_of_another_package_survives_fit(entry):
    model = entry.fitted()
    model.note_ = "kept"
    assert model.fit(entry.X(), entry.y()).note_ == "kept"


# ------------------------------------------------------------------------------ containers

CITIES = ["rome", "oslo", None] * 8


def polars_cities(kind):
    polars = pytest.importorskip("polars")
    kinds = {"Enum": polars.Enum(["oslo", "rome"]), "Categorical": polars.Categorical}
    return polars.DataFrame(
        {"city": polars.Series(CITIES, dtype=kinds.get(kind, polars.String)), "price": PRICES}
    )


def arrow_cities():
    pytest.importorskip("pyarrow")
    city = pd.array(CITIES, dtype="string[pyarrow]")
    return pd.DataFrame({"city": city, "price": pd.array(PRICES, dtype="double[pyarrow]")})


PRICES = np.arange(24.0)
CONTAINERS = {
    "polars strings": lambda: polars_cities("String"),
    "polars categories": lambda: polars_cities("Categorical"),
    "polars enums": lambda: polars_cities("Enum"),
    "arrow": arrow_cities,
    "big-endian": lambda: pd.DataFrame({"city": CITIES, "price": PRICES.astype(">f8")}),
}


FAST = {"polars strings": (), "arrow": ()}


@pytest.mark.parametrize(
    "container", [pytest.param(n, marks=FAST.get(n, pytest.mark.slow)) for n in CONTAINERS]
)
def test_results_do_not_depend_on_the_container(container):
    X, y = CONTAINERS[container](), classes()
    plain = pd.DataFrame({"city": CITIES, "price": PRICES})
    text = MODALITIES["text"].make(max_epochs=1)
    np.testing.assert_array_equal(
        text.fit(X["city"], y).transform(X["city"]),
        text.fit(plain["city"], y).transform(plain["city"]),
    )
    both = [("city", text, "city"), ("price", StandardScaler(), ["price"])]
    for model in [
        FusionTransformer(both, random_state=0),
        JointFusionClassifier(both, **{**SMALL_JOINT, "max_epochs": 1}),
        LateFusionClassifier([both[0], ("price", LogisticRegression(), ["price"])], random_state=0),
    ]:
        method = "transform" if isinstance(model, FusionTransformer) else "predict_proba"
        expected = getattr(model.fit(plain, y), method)(plain)
        np.testing.assert_array_equal(getattr(model.fit(X, y), method)(X), expected)


@pytest.mark.parametrize("container", CONTAINERS)
def test_categories_of_any_container_reach_an_encoder_of_tables(container):
    X = CONTAINERS[container]()
    fusion = FusionTransformer([("city", OneHotEncoder(sparse_output=False), ["city"])])
    if container == "arrow":  # pandas' NA, which scikit-learn itself does not sort
        with pytest.raises(TypeError, match="uniformly strings or numbers"):
            OneHotEncoder().fit(X[["city"]])
        with pytest.raises(TypeError, match="uniformly strings or numbers"):
            fusion.fit(X)
        X = X.fillna({"city": "none"})
    one_hot = fusion.fit_transform(X)
    groups = [np.flatnonzero(row) for row in one_hot]
    assert len(set(map(tuple, groups))) == 3 and groups == groups[:3] * 8


NUMERIC = {name: MODALITIES[name] for name in ("image", "audio", "point_cloud")}


@pytest.mark.parametrize("name", NUMERIC)
def test_the_byte_order_of_cells_and_labels_does_not_matter(name):
    cells, y = [np.asarray(cell) for cell in NUMERIC[name].cells()], classes()
    swapped = [cell.astype(cell.dtype.newbyteorder(">")) for cell in cells]
    expected = NUMERIC[name].make().fit(cells, y).transform(cells)
    found = NUMERIC[name].make().fit(swapped, y.astype(">i4")).transform(swapped)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("net", [NeuralClassifier, NeuralRegressor])
def test_the_byte_order_of_features_targets_and_weights_does_not_matter(net):
    X, y, weight = table(), numbers() if net is NeuralRegressor else classes(), np.arange(24.0)
    groups = np.arange(24) % 6
    expected = net(**SMALL_NET).fit(X, y, weight, groups).predict(X)
    swapped = [values.astype(values.dtype.newbyteorder(">")) for values in (X, y, weight, groups)]
    np.testing.assert_array_equal(net(**SMALL_NET).fit(*swapped).predict(swapped[0]), expected)


# ------------------------------------------------------------------------------ routing

WEIGHT = np.random.default_rng(0).integers(1, 9, 24).astype(float)


def weighted(level, score):
    """A model whose parts request weights; with `score`, its score does too."""
    model = CLASSIFIERS[level]()
    last = model[-1] if level == "feature" else model
    for _, encoder, _ in last.get_params().get("estimators", []):
        encoder.set_fit_request(sample_weight=True)
    if level == "feature":
        for _, encoder, _ in model[0].transformers:
            encoder.set_fit_request(sample_weight=True)
    last.set_fit_request(sample_weight=True).set_score_request(sample_weight=score)
    return model


# A Pipeline passes weights to `score` only if a step requests them; otherwise it raises TypeError.
@pytest.mark.parametrize(
    ("level", "score"),
    [
        ("feature", True),
        ("late", True),
        pytest.param("late", False, marks=pytest.mark.slow),
        pytest.param("joint", True, marks=pytest.mark.slow),
        ("joint", False),
    ],
)
def test_weights_reach_fit_and_score_by_request(level, score):
    X, y = frame(), classes()
    expected = []
    for train, test in FOLDS:
        model = CLASSIFIERS[level]()
        if level == "feature":  # without routing, a Pipeline accepts no weights
            features = model[0].fit_transform(X.iloc[train], y[train], sample_weight=WEIGHT[train])
            model[1].fit(features, y[train], sample_weight=WEIGHT[train])
        else:
            model.fit(X.iloc[train], y[train], sample_weight=WEIGHT[train])
        weight = WEIGHT[test] if score else None
        expected.append(accuracy_score(y[test], model.predict(X.iloc[test]), sample_weight=weight))
    with sklearn.config_context(enable_metadata_routing=True):
        options = {"cv": FOLDS, "error_score": "raise"}
        model = weighted(level, score)
        scores = cross_validate(model, X, y, params={"sample_weight": WEIGHT}, **options)
        search = GridSearchCV(model, {}, **options).fit(X, y, sample_weight=WEIGHT)
    np.testing.assert_allclose(scores["test_score"], expected)
    np.testing.assert_allclose(search.best_score_, np.mean(expected))


@pytest.mark.parametrize("late", [LateFusionClassifier, LateFusionRegressor])
def test_late_fusion_refuses_unrequested_weights(late):
    make = CLASSIFIERS["late"] if late is LateFusionClassifier else REGRESSORS["late"]
    with sklearn.config_context(enable_metadata_routing=True):
        model = make()
        for _, encoder, _ in model.estimators:
            encoder.set_fit_request(sample_weight=True)
        options = {"params": {"sample_weight": WEIGHT}, "cv": 2, "error_score": "raise"}
        with pytest.raises(ValueError, match=r"sample_weight\] are passed.*score"):
            cross_validate(model, frame(), classes(), **options)


# ------------------------------------------------------------------------------ processes


def output(model, X):
    method = next(m for m in ("predict_proba", "predict", "transform") if hasattr(model, m))
    return getattr(model, method)(X)


COMPUTED = having("random")  # encoders, networks and compositions


@pytest.mark.parametrize("level", CLASSIFIERS)
def test_predictions_do_not_change_while_another_thread_trains(level):
    X, y = frame(), classes()
    model = CLASSIFIERS[level]().fit(X, y)
    expected, during = model.predict_proba(X), DuringTraining(lambda: model.predict_proba(X))
    NeuralClassifier(**SMALL_NET, callbacks=[during]).fit(table(), y)
    np.testing.assert_array_equal(during.result, expected)


@pytest.mark.slow
def test_predictions_of_other_processes_are_equal():
    pairs = [(entry.fitted(), entry.X()) for entry in COMPUTED]
    expected = [output(*pair) for pair in pairs]
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        spawned = list(pool.map(output, *zip(*pairs, strict=True)))
    with joblib.parallel_config("loky", n_jobs=2):
        loky = joblib.Parallel()(joblib.delayed(output)(*pair) for pair in pairs)
    for entry, here, *elsewhere in zip(COMPUTED, expected, spawned, loky, strict=True):
        for there in elsewhere:
            np.testing.assert_array_equal(there, here, err_msg=str(entry))


SCRIPT = """
import pickle, sys
import torch
from tests._registry import having
from tests.test_conventions import output

folder, n_threads = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(n_threads)
with open(f"{folder}/models", "rb") as file:
    loaded = [output(model, X) for model, X in pickle.load(file)]
fits = []
if n_threads == 1:
    fits = [output(e.make().fit(e.X(), e.y()), e.X()) for e in having("random")]
with open(f"{folder}/outputs", "wb") as file:
    pickle.dump((loaded, fits), file)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_threads", "environment"),
    [
        (1, {"PYTHONHASHSEED": "0"}),
        (1, {"PYTHONHASHSEED": "1"}),
        (1, {"LC_ALL": "C"}),
        (2, {"OMP_NUM_THREADS": "2"}),
    ],
    ids=str,
)
def test_a_new_process_fits_and_predicts_the_same(
    n_threads, environment, script_environment, tmp_path
):
    pairs = [(entry.fitted(), entry.X()) for entry in COMPUTED]
    (tmp_path / "models").write_bytes(pickle.dumps(pairs))
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(tmp_path), str(n_threads)]
    subprocess.run(command, env=script_environment | environment, check=True, cwd=tmp_path)
    loaded, fits = pickle.loads((tmp_path / "outputs").read_bytes())
    for entry, pair, there in zip(COMPUTED, pairs, loaded, strict=True):
        np.testing.assert_allclose(there, output(*pair), atol=1e-6, err_msg=str(entry))
    for entry, pair, there in zip(COMPUTED, pairs, fits, strict=bool(fits)):
        np.testing.assert_array_equal(there, output(*pair), err_msg=str(entry))


# ------------------------------------------------------------------------------ purity and leaks

METHODS = (
    "transform",
    "predict",
    "predict_proba",
    "predict_log_proba",
    "predict_head",
    "predict_modalities",
    "modality_weights",
    "decision_function",
    "prepare",
    "fit_prepare",
    "fit_transform",
    "score",
)


@pytest.mark.slow
@pytest.mark.parametrize("entry", ENTRIES, ids=str)
def test_no_public_call_changes_its_inputs(entry):
    X, y, weight, groups = entry.X(), entry.y(), np.ones(24), np.arange(24) % 6
    model, before = entry.make(), joblib.hash((X, y, weight, groups))
    params = {"sample_weight": weight, "groups": groups}
    model.fit(X, y, **{k: v for k, v in params.items() if has_fit_parameter(model, k)})
    for name in filter(partial(hasattr, model), METHODS):
        takes_y = name in ("score", "fit_transform", "fit_prepare")
        if name in ("prepare", "fit_prepare"):  # present cells only
            getattr(model, name)(*[v[X.notna()] for v in ((X, y) if takes_y else (X,))])
        else:
            getattr(model, name)(*((X, y) if takes_y else (X,)))
        assert joblib.hash((X, y, weight, groups)) == before, name


def resident_megabytes():
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE / 2**20


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's statistics")
@pytest.mark.parametrize("entry", ENTRIES, ids=str)
def test_many_calls_do_not_keep_memory(entry):
    X, y, model = entry.X(), entry.y(), entry.fitted()
    for call, n in [(lambda: output(model, X), 100), (lambda: entry.make().fit(X, y), 12)]:
        for _ in range(4):
            call()
        before = resident_megabytes()
        for _ in range(n - 4):
            call()
        assert resident_megabytes() - before < 5
