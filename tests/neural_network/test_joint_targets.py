"""Joint fusion of one target of every kind, and of several named targets of mixed kinds."""

import pickle
from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from scipy.special import log_softmax
from sklearn.base import clone
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import Callback

from sklearn_mmfusion import (
    FusionTransformer,
    JointFusionClassifier,
    JointFusionRegressor,
    LateFusionClassifier,
    NeuralClassifier,
    NeuralRegressor,
    PointCloudEncoder,
    multimodal_frame,
)
from tests._fusion_data import hide
from tests._registry import SMALL_CLOUD, SMALL_JOINT, SMALL_NET

N = 90
TRIPLES = [("left", "passthrough", ["a", "b"]), ("right", "passthrough", ["c", "d"])]
LONG = {"max_epochs": 30, "early_stopping": False}
ONE_STEP = {"max_epochs": 1, "early_stopping": False, "objectives": None, "batch_size": 1000}
ANY = pytest.mark.parametrize("cls", [JointFusionClassifier, JointFusionRegressor])


def make_X(n=N, seed=0):
    """Four independent numbers a row."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(rng.normal(size=(n, 4)), columns=list("abcd"))


def joint(cls=JointFusionClassifier, **params):
    return cls(TRIPLES, **{**SMALL_JOINT, **params})


def several(cls=JointFusionClassifier, *, target_type=(), **params):
    """A joint model of several targets, whose types it infers."""
    return joint(cls, target_type=dict(target_type), **params)


def sign(x):
    return np.where(x > 0, "pos", "neg")


def make_y(X):
    """Strings, whole numbers, fractions far from zero, and booleans."""
    return pd.DataFrame(
        {
            "sign": sign(X["a"]),
            "level": np.digitize(X["b"], [-0.5, 0.5]) + 5,
            "size": 3 * X["c"] + 100,
            "flag": X["d"] > 0,
        },
        index=X.index,
    )


UNKNOWN = {"sign": range(0, 9), "level": range(6, 20), "size": range(3), "flag": range(80, 90)}


def partly_known(X):
    """`make_y` in dtypes that hold NA."""
    y = make_y(X).astype({"level": "Int64", "flag": "boolean"})
    for name, rows in UNKNOWN.items():
        y[name] = y[name].mask(np.isin(np.arange(len(y)), rows))
    return y


@cache
def plain_fit(cls, make_y=make_y):
    """A fit that tests compare theirs with; none of them changes it."""
    X = make_X()
    return several(cls).fit(X, make_y(X))


def as_objects(X, marker):
    """The same in columns of objects, `marker` where not known."""
    y = make_y(X).astype(object)
    for i, rows in enumerate(UNKNOWN.values()):
        y.iloc[rows, i] = marker
    return y


# ------------------------------------------------------------------------------ one target

SINGLE = {
    "binary": (JointFusionClassifier, lambda X: sign(X["a"])),
    "multiclass": (JointFusionClassifier, lambda X: np.digitize(X["c"], [-0.5, 0.5]) - 7),
    "multilabel": (JointFusionClassifier, lambda X: (X[["a", "c"]].to_numpy() > 0).astype(int)),
    "continuous": (JointFusionRegressor, lambda X: 1000 + 20 * (X["a"] - X["d"]).to_numpy()),
    "multioutput": (JointFusionRegressor, lambda X: X[["d", "a"]].to_numpy() * [1, 50] + 3),
}


@pytest.mark.parametrize("kind", SINGLE)
def test_one_target_of_each_kind_learns_what_is_planted(kind):
    cls, target = SINGLE[kind]
    X, X_test = make_X(), make_X(200, seed=1)
    model = joint(cls, **LONG).fit(X, target(X))
    dummy = DummyRegressor() if cls is JointFusionRegressor else DummyClassifier()
    chance = dummy.fit(X, target(X)).score(X_test, target(X_test))
    assert model.score(X_test, target(X_test)) > chance + 0.3
    told = model.predict(X_test)
    assert isinstance(told, np.ndarray) and told.shape == target(X_test).shape
    assert set(told.flat) <= set(target(X).flat) or cls is JointFusionRegressor


# ------------------------------------------------------------------------------ several targets


@ANY
def test_answers_of_several_targets(cls):
    X, X_test = make_X(), make_X(200, seed=1).set_index(np.arange(200) * 3)
    y, y_test = make_y(X), make_y(X_test)
    model = several(cls, **LONG).fit(X, y)
    told = model.predict(X_test)
    assert list(told) == list(y) and told.index.equals(X_test.index)
    numbers = ["size"] if cls is JointFusionClassifier else ["level", "size"]
    assert list(model.classes_) == [name for name in y if name not in numbers]
    for name in y:
        if name in numbers:
            error = told[name] - y_test[name]
            assert told[name].dtype == np.float64
            assert (error**2).mean() < 0.5 * y_test[name].var()
        else:
            assert told[name].dtype == y[name].dtype
            assert model.classes_[name].tolist() == sorted(set(y[name]))
            most = y_test[name].value_counts(normalize=True).max()
            assert (told[name] == y_test[name]).mean() > most + 0.15


def test_probabilities_of_several_targets():
    X = make_X()
    model = several().fit(X, make_y(X))
    proba, told = model.predict_proba(X), model.predict(X)
    widths = {"sign": 2, "level": 3, "size": 1, "flag": 2}
    assert {name: p.shape for name, p in proba.items()} == {k: (N, w) for k, w in widths.items()}
    np.testing.assert_array_equal(proba.pop("size")[:, 0], told["size"])
    for name, p in proba.items():
        np.testing.assert_allclose(p.sum(axis=1), 1)
        assert (model.classes_[name][p.argmax(axis=1)] == told[name]).all()


DTYPES = {
    "string": ("sign", "string"),
    "category": ("sign", "category"),
    "category of numbers": ("level", "category"),
    "object": ("sign", object),
    "nullable integer": ("level", "Int64"),
    "small integer": ("level", np.int8),
    "nullable boolean": ("flag", "boolean"),
    "nullable float": ("size", "Float64"),
    "single precision": ("size", np.float32),
}


def exact_in_single_precision(X):
    y = make_y(X)
    return y.assign(size=(8 * y["size"]).round() / 8)


@pytest.mark.parametrize("case", DTYPES)
def test_dtypes_of_a_target_do_not_matter(case):
    name, dtype = DTYPES[case]
    X = make_X()
    y = exact_in_single_precision(X)
    plain = plain_fit(JointFusionClassifier, exact_in_single_precision).predict(X)
    typed = several().fit(X, y.astype({name: dtype})).predict(X)
    pd.testing.assert_frame_equal(typed, plain, check_dtype=False)


WHOLE = [
    (JointFusionClassifier, {}, {"sign", "level"}),
    (JointFusionRegressor, {}, {"sign"}),
    (JointFusionClassifier, {"level": "continuous"}, {"sign"}),
    (JointFusionRegressor, {"level": "multiclass"}, {"sign", "level"}),
]


@pytest.mark.parametrize(("cls", "target_type", "classes"), WHOLE)
def test_what_whole_numbers_mean(cls, target_type, classes):
    X = make_X()
    y = make_y(X)[["sign", "level", "size"]]
    model = several(cls, target_type=target_type).fit(X, y)
    assert set(model.classes_) == classes
    whole = model.predict(X)["level"] % 1 == 0
    assert whole.all() if "level" in classes else not whole.any()


# ------------------------------------------------------------------------------ forms of y


def polars_frame(y):
    return pytest.importorskip("polars").DataFrame({name: y[name].tolist() for name in y})


FORMS = {
    "object array": (lambda y: y.astype(object).to_numpy(), True),
    "list of rows": (lambda y: y.astype(object).to_numpy().tolist(), True),
    "list of tuples": (lambda y: list(y.itertuples(index=False, name=None)), True),
    "frame of objects": (lambda y: y.astype(object), False),
    "polars": (polars_frame, False),
}


@ANY
@pytest.mark.parametrize("form", FORMS)
def test_forms_of_several_targets(cls, form):
    make, nameless = FORMS[form]
    X = make_X()
    y = make_y(X)
    model, plain = several(cls).fit(X, make(y)), plain_fit(cls)
    names = [f"y{i}" for i in range(4)] if nameless else list(y)
    told, wanted = model.predict(X), plain.predict(X).set_axis(names, axis=1)
    pd.testing.assert_frame_equal(told, wanted)
    assert model.score(X, make(y)) == pytest.approx(plain.score(X, y))


def test_array_of_classes_is_several_targets():
    X = make_X()
    y = np.column_stack([np.digitize(X["a"], [-0.5, 0.5]), np.digitize(X["c"], [0])])
    model, frame = several().fit(X, y), several().fit(X, pd.DataFrame(y, columns=["y0", "y1"]))
    pd.testing.assert_frame_equal(model.predict(X), frame.predict(X))
    assert model.score(X, y) == pytest.approx((model.predict(X).to_numpy() == y).mean())


CONTAINERS = {
    "array": np.asarray,
    "frame": pd.DataFrame,
    "list": lambda y: y.to_numpy().tolist(),
    "nullable": lambda y: y.astype("Int64"),
    "booleans": lambda y: y.astype("boolean"),
    "floats": lambda y: y.astype(np.float32),
    "mixed": lambda y: y.assign(c=y["c"] > 0),
    "sparse": csr_matrix,
    "polars": polars_frame,
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_columns_of_0_and_1_are_multilabel_in_any_container(container):
    X = make_X()
    Y = (X[["a", "c"]] > 0).astype(int)
    y = CONTAINERS[container](Y)
    late = [(name, OneVsRestClassifier(LogisticRegression()), [name]) for name in "ab"]
    for model in (
        joint(),
        NeuralClassifier(**SMALL_NET),
        LateFusionClassifier(late),
        FusionTransformer([("x", PointCloudEncoder(**SMALL_CLOUD), 0)], random_state=0),
    ):
        data = X
        if isinstance(model, FusionTransformer):
            data = multimodal_frame(x=np.tile(X.to_numpy()[:, None, :3], (1, 2, 1)))
        fitted, expected = clone(model).fit(data, y), clone(model).fit(data, Y.to_numpy())
        name = "transform" if isinstance(model, FusionTransformer) else "predict_proba"
        output, wanted = getattr(fitted, name)(data), getattr(expected, name)(data)
        assert isinstance(output, np.ndarray)
        np.testing.assert_array_equal(output, wanted)


@pytest.mark.parametrize("container", ["array", "frame", "list", "floats", "polars"])
def test_numbers_are_outputs_of_a_regressor_in_any_container(container):
    X = make_X()
    Y = (8 * X[["a", "c"]]).round() / 8 * [1, 40]  # exact in float32
    for model in (joint(JointFusionRegressor), NeuralRegressor(**SMALL_NET)):
        expected = clone(model).fit(X, Y.to_numpy()).predict(X)
        told = clone(model).fit(X, CONTAINERS[container](Y)).predict(X)
        assert isinstance(told, np.ndarray) and told.shape == (N, 2)
        np.testing.assert_allclose(told, expected, rtol=1e-9)


def test_dict_as_target_type_makes_several_targets():
    X = make_X()
    Y = (X[["a", "c"]] > 0).astype(float)
    frame = several(target_type={"c": "continuous"}).fit(X, Y)
    assert list(frame.predict(X)) == ["a", "c"] and list(frame.classes_) == ["a"]
    array = several().fit(X, Y.to_numpy()).predict(X)
    assert list(array) == ["y0", "y1"]
    sparse = several().fit(X, csr_matrix(Y.to_numpy())).predict(X)
    pd.testing.assert_frame_equal(sparse, array)
    holes = Y.mask(np.eye(N, 2, dtype=bool))
    assert list(several().fit(X, holes).classes_) == ["a", "c"]
    one = several(target_type={"a": "multiclass"}).fit(X, holes[["a"]])
    assert list(one.predict(X)) == ["a"]


MIXED = {
    "frame": make_y,
    "array": lambda X: make_y(X).astype(object).to_numpy(),
    "list": lambda X: make_y(X).astype(object).to_numpy().tolist(),
    "classes": lambda X: np.digitize(X[["a", "b"]], [-0.5, 0.5]),
    "unknown": lambda X: make_y(X).mask(np.eye(N, 4, dtype=bool)),
}


@pytest.mark.parametrize("form", MIXED)
@pytest.mark.parametrize("model", [joint(), NeuralClassifier(**SMALL_NET)], ids=["joint", "head"])
def test_several_targets_of_mixed_kinds_need_a_dict(model, form):
    y = MIXED[form](make_X())
    match = r"joint model with target_type=\{column: kind\}"
    with pytest.raises(ValueError, match=match):
        clone(model).fit(make_X(), y)


# ------------------------------------------------------------------------------ unknown cells


@ANY
@pytest.mark.parametrize("marker", [None, np.nan, pd.NA])
def test_markers_of_unknown_cells_are_alike(cls, marker):
    X, y = make_X(), as_objects(make_X(), marker)
    typed, marked = plain_fit(cls, partly_known), several(cls).fit(X, y)
    wanted = typed.predict(X)
    pd.testing.assert_frame_equal(marked.predict(X), wanted, check_dtype=False)
    array = several(cls).fit(X, y.to_numpy()).predict(X)
    pd.testing.assert_frame_equal(array.set_axis(list(y), axis=1), wanted, check_dtype=False)
    assert marked.score(X, y) == pytest.approx(typed.score(X, partly_known(X)))


@pytest.mark.parametrize("fractions", [False, True])
def test_frame_of_floats_with_unknown_cells(fractions):
    """scikit-learn's `type_of_target` refuses NaN, whichever classes the other cells hold."""
    X = make_X()
    y = X[["a", "c"]] * 10 if fractions else (X[["a", "c"]] > 0).astype(float)
    y = y.mask(np.random.default_rng(0).random(y.shape) < 0.2)
    model = several(**LONG).fit(X, y)
    assert set(model.classes_) == (set() if fractions else {"a", "c"})
    assert model.score(X, y) > 0.7


def test_targets_known_in_different_rows_are_all_learned():
    X, X_test = make_X(120), make_X(200, seed=1)
    y, first = make_y(X)[["sign", "size"]], np.arange(120) < 60
    y = y.assign(sign=y["sign"].where(first), size=y["size"].mask(first))
    model = several(**LONG).fit(X, y)
    told, true = model.predict(X_test), make_y(X_test)
    assert (told["sign"] == true["sign"]).mean() > 0.75
    assert ((told["size"] - true["size"]) ** 2).mean() < 0.5 * true["size"].var()


def test_row_with_nothing_present_gets_what_is_known_of_each_target():
    X, y = make_X(), partly_known(make_X())
    cells = multimodal_frame(left=X[["a", "b"]].to_numpy(), right=X[["c", "d"]].to_numpy())
    triples = [(name, "passthrough", name) for name in cells]
    model = JointFusionClassifier(triples, **SMALL_JOINT, target_type={}).fit(cells, y)
    with pytest.warns(UserWarning, match="1 of 90 rows have no modality"):
        proba = model.predict_proba(hide(cells, left=[7], right=[7]))
    for name in y:
        known = y[name].dropna()
        shares = known.value_counts(normalize=True).sort_index().to_numpy(float)
        wanted = [known.mean()] if name == "size" else shares
        np.testing.assert_allclose(proba[name][7], wanted, rtol=1e-6)


# ------------------------------------------------------------------------------ the loss


def cross_entropy(logits, code, smoothing):
    """Mean over the label's own term and, by the share `smoothing`, the mean of all terms."""
    terms = -log_softmax(logits)
    return (1 - smoothing) * terms[code] + smoothing * terms.mean()


class Watch(Callback):
    """Notes outputs and loss of each step, and the learned variances in the end."""

    def __init__(self):
        self.steps = []

    def on_batch_end(self, net, batch, training, loss, y_pred, **kwargs):
        if training:
            self.steps.append((y_pred.numpy().astype(float), float(loss)))

    def on_train_end(self, net, **kwargs):
        self.log_variances = dict(net.criterion_.named_parameters())


@pytest.mark.parametrize("weights", [None, {"sign": 0.25, "size": 3}])
def test_loss_of_a_step_is_the_sum_of_means_over_known_rows(weights):
    X = make_X()
    y = partly_known(X)
    watch = Watch()
    several(
        **ONE_STEP,
        callbacks=[watch],
        target_weights=weights,
        label_smoothing=0.2,
        net_params={"iterator_train__shuffle": False},
    ).fit(X, y)
    ((output, loss),) = watch.steps
    weight = {name: 1.0 for name in y} | (weights or {})
    total = 0.0
    for name, first, last in [("sign", 0, 2), ("level", 2, 5), ("size", 5, 6), ("flag", 6, 8)]:
        rows = np.flatnonzero(y[name].notna())
        values, told = y[name].iloc[rows], output[rows, first:last]
        if name == "size":
            own = (told[:, 0] - (values - values.mean()) / values.std(ddof=0)) ** 2
        else:
            codes = np.searchsorted(sorted(set(values)), values.to_numpy(dtype=object))
            own = [cross_entropy(z, c, 0.2) for z, c in zip(told, codes, strict=True)]
        total += weight[name] * np.mean(own)
    assert loss == pytest.approx(total, rel=1e-5)


# ------------------------------------------------------------------------------ weights


@ANY
def test_target_of_weight_zero_has_no_influence(cls):
    X = make_X()
    y = make_y(X)[["sign", "size"]]
    other = y.assign(size=np.random.default_rng(0).permutation(y["size"]))

    def predictions(y, weights):
        model = several(cls, target_weights=weights).fit(X, y)
        return model.predict_modalities(X)["left"]["sign"], model.predict(X)["sign"]

    none, none_other = predictions(y, {"size": 0}), predictions(other, {"size": 0})
    np.testing.assert_array_equal(none[0], none_other[0])
    assert (none[1] == none_other[1]).all()
    assert (predictions(y, {"size": 1})[0] != predictions(other, {"size": 1})[0]).any()


@ANY
def test_noisy_target_learns_a_larger_variance(cls):
    X, rng = make_X(), np.random.default_rng(1)
    y = pd.DataFrame({"clean": X["a"] + X["c"], "noise": rng.normal(size=N)})
    y["sign"], y["coin"] = sign(X["a"]), sign(rng.normal(size=N))
    watch = Watch()
    several(cls, target_weights="uncertainty", callbacks=[watch], **LONG).fit(X, y)
    ((_, learned),) = watch.log_variances.items()
    clean, noise, of_sign, coin = learned.detach().cpu().tolist()
    assert 0 != clean < noise - 0.1 and 0 != of_sign < coin - 0.1
    fixed = Watch()
    several(cls, callbacks=[fixed]).fit(X, y)
    assert not fixed.log_variances


@ANY
def test_rows_of_weight_zero_are_as_good_as_left_out(cls):
    X, kept = make_X(), np.arange(N) % 3 > 0
    y = make_y(X)
    y.loc[~kept, ["sign", "size"]] = ["other", 1e6]
    weight = kept * np.linspace(1, 2, N)
    model = several(cls).fit(X, y, sample_weight=weight)
    without = several(cls).fit(X[kept], y[kept], sample_weight=weight[kept])
    pd.testing.assert_frame_equal(model.predict(X), without.predict(X))
    assert model.classes_["sign"].tolist() == ["neg", "pos"]
    assert not model.predict(X).equals(several(cls).fit(X[kept], y[kept]).predict(X))


# ------------------------------------------------------------------------------ score


@ANY
@pytest.mark.parametrize("weighted", [False, True])
def test_score_is_the_mean_of_accuracy_and_r2_on_known_rows(cls, weighted):
    X = make_X()
    y = partly_known(X)
    weight = np.random.default_rng(0).uniform(0.5, 3, N) if weighted else np.ones(N)
    model = several(cls).fit(X, y)
    told, scores = model.predict(X), []
    for name in y:
        known = y[name].notna().to_numpy()
        true, guess, w = y[name][known].to_numpy(), told[name][known].to_numpy(), weight[known]
        if name in model.classes_:
            scores.append(np.average(true == guess, weights=w))
        else:
            spread = true - np.average(true, weights=w)
            scores.append(1 - (w * (true - guess) ** 2).sum() / (w * spread**2).sum())
    told = model.score(X, y, sample_weight=weight if weighted else None)
    assert told == pytest.approx(np.mean(scores))
    reordered = y[["flag", "size", "sign", "level"]]
    assert model.score(X, reordered, weight) == pytest.approx(model.score(X, y, weight))


# ------------------------------------------------------------------------------ in scikit-learn


@ANY
def test_several_targets_in_a_pipeline_and_a_cross_validation(cls):
    X = make_X()
    y = partly_known(X)
    pipeline = make_pipeline(FunctionTransformer(), several(cls))
    scores = cross_val_score(pipeline, X, y, cv=3, error_score="raise")
    predicted = cross_val_predict(pipeline, X, y, cv=3)
    for (train, test), score in zip(KFold(3).split(X), scores, strict=True):
        alone = several(cls).fit(X.iloc[train], y.iloc[train])
        assert alone.score(X.iloc[test], y.iloc[test]) == pytest.approx(score)
        assert (predicted[test] == alone.predict(X.iloc[test]).to_numpy()).all()
    assert list(pipeline.fit(X, y).predict(X)) == list(y)


@ANY
def test_several_targets_in_a_search_and_a_pickle(cls):
    X = make_X()
    y = make_y(X)
    grid = {"target_weights": [None, "uncertainty", {"size": 0.0}], "fusion": ["mean"]}
    search = GridSearchCV(several(cls), grid, cv=2).fit(X, y)
    best = clone(search.best_estimator_)
    assert best.get_params()["target_weights"] == search.best_params_["target_weights"]
    pd.testing.assert_frame_equal(best.fit(X, y).predict(X), search.predict(X))
    assert search.score(X, y) == pytest.approx(best.score(X, y))
    again = pickle.loads(pickle.dumps(best))
    pd.testing.assert_frame_equal(again.predict(X), best.predict(X))


@pytest.mark.parametrize(
    "params", [{"fusion": "logits"}, {"pretrain": True}, {"warm_start": True}, {"encoder_lr": 0.01}]
)
def test_several_targets_with_uncertainty_learn_in_every_way_of_training(params):
    X, X_test = make_X(), make_X(200, seed=1)
    model = several(**LONG, target_weights="uncertainty", **params)
    model.fit(X, make_y(X))
    if "warm_start" in params:
        model.fit(X, make_y(X))
    assert model.score(X_test, make_y(X_test)) > 0.6


def test_own_heads_of_modalities_answer_for_each_target():
    """With fusion "logits", a row of one modality is told what that modality's head says."""
    X = make_X()
    cells = multimodal_frame(left=X[["a", "b"]].to_numpy(), right=X[["c", "d"]].to_numpy())
    cells = hide(cells, left=range(0, 10), right=range(20, 30))
    triples = [(name, "passthrough", name) for name in cells]
    model = JointFusionClassifier(triples, **SMALL_JOINT, fusion="logits", target_type={}).fit(
        cells, make_y(X)
    )
    own, fused = model.predict_modalities(cells), model.predict_proba(cells)
    for name in make_y(X):
        np.testing.assert_allclose(own["right"][name][:10], fused[name][:10], rtol=1e-6)
        np.testing.assert_allclose(own["left"][name][20:30], fused[name][20:30], rtol=1e-6)
        assert np.isnan(own["left"][name][:10]).all()


# ------------------------------------------------------------------------------ errors


def _y(**columns):
    return make_y(make_X())[["sign", "level", "size"]].assign(**columns)


KIND = r"target_type of 'level' is .*; expected one of \['binary', 'multiclass'"
NEGATIVE = "target_weights.*size"
ERRORS = [
    ({}, _y(z=None), "(?s)Raised for target 'z', which is known in 0 rows"),
    ({}, _y(z="same"), "(?s)1 class, same.*target 'z'"),
    ({}, _y(z=["same"] + [None] * (N - 1)), "(?s)1 class, same.*target 'z'"),
    ({}, _y()[:-1], "inconsistent numbers of samples: X has 90 rows, y has 89"),
    ({}, pd.concat([_y(), _y()], axis=1), "names must be unique"),
    ({"target_weights": {"z": 1.0}}, _y(), r"target_weights names \['z'\]; expected.*'level'"),
    ({"target_weights": {"size": -1.0}}, _y(), NEGATIVE),
    ({"target_weights": {"size": None}}, _y(), NEGATIVE),
    ({"target_type": {"z": "continuous"}}, _y(), r"target_type names 'z'.*'sign', 'level'"),
    ({"target_type": {"level": "numbers"}}, _y(), KIND),
    ({"target_type": {"level": "multilabel-indicator"}}, _y(), KIND),
    ({"target_type": {"level": "continuous-multioutput"}}, _y(), KIND),
    ({"target_type": {"sign": "continuous"}}, _y(), "(?s)Raised for target 'sign'"),
    ({"loss": "cross_entropy"}, _y(), "several targets, each with the loss of its kind"),
    ({"class_weight": "balanced"}, _y(), "class_weight='balanced'"),
    ({"target_type": {"sign": "multiclass"}}, _y()["sign"], "several targets, but y has one"),
]


@pytest.mark.parametrize(("params", "y", "match"), ERRORS)
def test_targets_that_do_not_fit_say_so(params, y, match):
    with pytest.raises(ValueError, match=match):
        several(**params).fit(make_X(), y)


@pytest.mark.parametrize("weights", ["uncertainty", {"sign": 2.0}])
def test_target_weights_need_several_targets(weights):
    with pytest.raises(ValueError, match=r"target_weights=.* needs several targets\. Set t"):
        joint(target_weights=weights).fit(make_X(), _y()["sign"])


@ANY
def test_infinite_numbers_name_their_target(cls):
    y = _y(z=[2.5] + [np.inf] * (N - 1))
    with pytest.raises(ValueError, match="(?s)infinity.*target 'z'"):
        several(cls).fit(make_X(), y)
