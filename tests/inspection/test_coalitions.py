"""Predictions without some modalities: encoded once, equal to those of X without their cells."""

import warnings
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import BayesianRidge, LogisticRegression
from sklearn.metrics import get_scorer
from sklearn.model_selection import GridSearchCV, TunedThresholdClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_mmfusion import (
    FusionTransformer,
    JointFusionClassifier,
    LateFusionClassifier,
    LateFusionRegressor,
    multimodal_frame,
)
from sklearn_mmfusion.containers import TensorArray
from sklearn_mmfusion.inspection import modality_importance, robustness_curve
from sklearn_mmfusion.inspection.coalitions import permute_columns
from sklearn_mmfusion.inspection.encoded_rows import (
    encode_again,
    encode_once,
    hiding,
    with_composition,
)
from sklearn_mmfusion.inspection.modalities import absence_ignored
from tests._fusion_data import CellEncoder, hide
from tests._registry import SMALL_JOINT, encoders, images, texts, waveforms

N = 30
NAMES = ["image", "audio", "table"]


class CountingEncoder(CellEncoder):
    """Counts the rows that all copies transform."""

    counts = dict.fromkeys(NAMES, 0)

    def __init__(self, name, n_components=2, random_state=None):
        super().__init__(n_components, random_state)
        self.name = name

    def transform(self, X):
        self.counts[self.name] += len(X)
        return super().transform(X)


def count_rows(call):
    """Return the encoded rows by modality during a call."""
    CountingEncoder.counts.update(dict.fromkeys(NAMES, 0))
    call()
    return CountingEncoder.counts


def data():
    rng = np.random.default_rng(0)
    y = np.arange(N) % 2
    X = multimodal_frame(
        image=(y[:, None, None] + rng.normal(size=(N, 3, 3))).astype(np.float32),
        audio=[rng.normal(size=k) + 0.5 * label for k, label in zip(range(2, 32), y, strict=True)],
        age=rng.normal(size=N) + y,
        height=rng.normal(size=N),
    )
    return hide(X, image=[1, 2], audio=[2, 5]), y


def triples():
    return [
        ("image", CountingEncoder("image"), "image"),
        ("audio", CountingEncoder("audio"), "audio"),
        ("table", StandardScaler(), ["age", "height"]),
    ]


def feature_level(**params):
    return make_pipeline(FusionTransformer(triples(), **params), LogisticRegression())


def late(cls=LateFusionClassifier, **params):
    head = BayesianRidge() if cls is LateFusionRegressor else LogisticRegression()
    members = [*triples()[:2], ("table", head, ["age", "height"])]
    return cls(members, head=head, cv=2, **params)


def subsets(names):
    return [left_out for k in range(len(names) + 1) for left_out in combinations(names, k)]


def outputs(model, X):
    return getattr(model, "predict_proba", model.predict)(X)


def assert_equals_dropped_columns(model, X, names, columns, rtol=0.0):
    """Compare predictions from encoded rows with those of X without the columns."""
    encoded = with_composition(model, encode_once, X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for left_out in subsets(names):
            gone = [column for name in left_out for column in columns[name]]
            without = X.drop(columns=gone)
            expected = outputs(model, without)
            found = outputs(with_composition(encoded, hiding(left_out), X), X)
            np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol, err_msg=str(left_out))


def assert_equals_changed_columns(model, X, names, columns, rtol=0.0):
    """Compare predictions that encode changed columns only with those of the changed X."""
    encoded = with_composition(model, encode_once, X)
    np.testing.assert_allclose(outputs(encoded, X), outputs(model, X), rtol=rtol, atol=rtol)
    for name in names:
        moved = permute_columns(X, X.columns.get_indexer(columns[name]), np.arange(len(X))[::-1])
        changed = moved if name == "table" else hide(moved, **{name: [0, 3, 4]})
        with absence_ignored():
            again = with_composition(encoded, encode_again([name], changed), changed)
            found, expected = outputs(again, changed), outputs(model, changed)
            assert not np.array_equal(found, outputs(model, X))
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol, err_msg=name)


COLUMNS = {"image": ["image"], "audio": ["audio"], "table": ["age", "height"]}
MODELS = {
    "concat": feature_level(add_indicator=True),
    "impute": feature_level(missing="impute"),
    "mean": feature_level(fusion="mean"),
    "mcca": feature_level(fusion="mcca", fusion_params={"n_components": 2}),
    "product": late(),
    "temperature": late(calibration="temperature"),
    "stacking": late(fusion="stacking"),
    "calibrated": CalibratedClassifierCV(late(), method="sigmoid", cv=2),
    "numbers": late(LateFusionRegressor, fusion="inverse_variance"),
}


@pytest.mark.parametrize("name", MODELS)
def test_encoded_rows_equal_dropped_and_changed_columns(name):
    X, y = data()
    X = X.assign(unused=0.0)  # so that a frame without any modality has a column
    model = MODELS[name].fit(X, y)
    expected = outputs(model, X)
    assert_equals_dropped_columns(model, X, NAMES, COLUMNS)
    assert_equals_changed_columns(model, X, NAMES, COLUMNS)
    np.testing.assert_array_equal(outputs(model, X), expected)  # the original is unchanged


def joint_data(n=24):
    X = multimodal_frame(image=images(n), text=texts(n), audio=waveforms(n))
    rng = np.random.default_rng(0)
    X = X.assign(age=rng.normal(size=n), height=rng.normal(size=n), unused=0.0)
    return hide(X, image=[1, 2], text=[2], audio=[2, 7]), np.arange(n) % 2


@pytest.mark.parametrize(
    "fusion",
    ["concat", *(pytest.param(f, marks=pytest.mark.slow) for f in ("attention", "logits"))],
)
def test_joint_network_runs_each_encoder_once(fusion):
    X, y = joint_data()
    parts = [*encoders(), ("table", "passthrough", ["age", "height"])]
    parameters = {**SMALL_JOINT, "max_epochs": 1, "early_stopping": False, "linear_share": 0.5}
    model = JointFusionClassifier(parts, fusion=fusion, **parameters).fit(X, y)
    columns = {name: [name] for name in ["image", "text", "audio"]} | {"table": ["age", "height"]}
    names = list(columns)
    assert_equals_dropped_columns(model, X, names, columns, rtol=1e-6)
    assert_equals_changed_columns(model, X, names, columns, rtol=1e-6)
    assert not model.module_.training
    rows = dict.fromkeys(names, 0)

    def counting(name):
        def count(module, args, kwargs, output):
            rows[name] += len(output[0] if isinstance(output, tuple) else output)

        return count

    for name, encoder in model.module_.encoders_by_name().items():
        method = "tokens" if fusion == "attention" and hasattr(encoder, "tokens") else "forward"
        if method == "forward":
            encoder.register_forward_hook(counting(name), with_kwargs=True)
        else:
            count_calls(encoder, counting(name))
    modality_importance(model, X, y, scoring="neg_log_loss")
    assert rows == {"image": 22, "text": 23, "audio": 22, "table": 24}


def count_calls(encoder, count):
    tokens = encoder.tokens

    def counted(**batch):
        count(encoder, (), batch, output := tokens(**batch))
        return output

    encoder.tokens = counted


# ------------------------------------------------------------------------------ wrappers


def searched():
    return GridSearchCV(feature_level(), {"logisticregression__C": [0.1, 1.0]}, cv=2)


@pytest.mark.parametrize(
    "model",
    [
        feature_level(),
        late(),
        searched(),
        make_pipeline("passthrough", feature_level()),
        make_pipeline(FunctionTransformer(), FunctionTransformer(), late()),
        TunedThresholdClassifierCV(feature_level(), cv=2),
        FrozenEstimator(feature_level().fit(*data())),
        TransformedTargetRegressor(late(LateFusionRegressor)),
    ],
    ids=["pipeline", "late", "search", "nested", "steps", "threshold", "frozen", "target"],
)
def test_each_row_is_encoded_once_inside_wrappers(model):
    X, y = data()
    model.fit(X, y)
    counts = count_rows(lambda: modality_importance(model, X, y))
    assert counts == {"image": N - 2, "audio": N - 2, "table": 0}


@pytest.mark.parametrize("model", [searched(), late()], ids=["search", "late"])
def test_robustness_curves_encode_the_changed_modality_only(model):
    X, y = data()
    model.fit(X, y)
    options = {"modality": "image", "levels": [0, 0.5, 1], "n_repeats": 4, "random_state": 0}
    counts = count_rows(lambda: robustness_curve(model, X, y, **options))
    assert counts["audio"] == N - 2
    assert N - 2 + 4 * (N // 2 - 2) <= counts["image"] <= N - 2 + 4 * N // 2


def test_steps_before_the_composition_may_move_a_change_to_other_columns():
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 2)), columns=["a", "b"])
    y = (X["a"] > 0).astype(int)
    parts = [(name, StandardScaler(), [name]) for name in X]
    swap = FunctionTransformer(lambda X: X.set_axis(["b", "a"], axis=1)[["a", "b"]])
    model = make_pipeline(swap, FusionTransformer(parts), LogisticRegression())
    model.fit(X, y)
    options = {"modality": "a", "corruption": "noise", "levels": [0, 5], "random_state": 0}
    frames = []

    def score(estimator, X, y):
        frames.append(X)
        return estimator.score(X, y)

    curve = robustness_curve(model, X, y, scoring=score, **options)
    assert curve.scores.ravel()[4:].tolist() == [model.score(X, y) for X in frames]
    assert len(set(curve.scores.ravel())) > 1


def test_a_scorer_that_predicts_other_rows_gets_them_without_the_modality():
    X, y = data()
    model, seen = late().fit(X, y), []

    def score(estimator, X, y):
        seen.append(estimator.predict_proba(X.iloc[:10])[:, 1])
        return 0.0

    modality_importance(model, X, y, scoring=score)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        without = model.predict_proba(X.drop(columns="image"))[:10, 1]
    assert any(np.allclose(found, without, rtol=1e-5) for found in seen)


def test_several_columns_in_one_modality_hide_their_triples():
    X, y = data()
    model = feature_level().fit(X, y)
    modalities = {"media": ["image", "audio"], "table": ["age", "height"]}
    CountingEncoder.counts.update(dict.fromkeys(NAMES, 0))
    result = modality_importance(model, X, y, scoring="neg_log_loss", modalities=modalities)
    assert CountingEncoder.counts["image"] == N - 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = get_scorer("neg_log_loss")(model, X.drop(columns=["image", "audio"]), y)
    table = result.coalitions.set_index(["media", "table"])["score"]
    assert table[False, True] == expected


def test_part_of_a_table_is_masked_by_its_cells():
    X, y = data()
    model = make_pipeline(
        FusionTransformer([("table", StandardScaler(), ["age", "height"])]),
        FunctionTransformer(np.nan_to_num),
        LogisticRegression(),
    ).fit(X, y)
    result = modality_importance(
        model, X, y, scoring="neg_log_loss", modalities={"age": "age", "height": "height"}
    )
    table = result.coalitions.set_index(["age", "height"])["score"]
    assert result.absent == {"age": "mask", "height": "mask"}
    assert table[False, True] == get_scorer("neg_log_loss")(model, X.assign(age=np.nan), y)


def test_triples_that_share_a_column_are_absent_one_by_one():
    X, y = data()
    strong, weak = LogisticRegression(), LogisticRegression(C=1e-3)
    parts = [
        ("weak", weak, ["age"]),
        ("strong", strong, ["age"]),
        ("both", strong, ["age", "height"]),
    ]
    model = LateFusionClassifier(parts).fit(X, y)
    result = modality_importance(model, X, y, scoring="neg_log_loss")
    table = result.coalitions.set_index(["weak", "strong", "both"])["score"]
    for part in parts:
        alone = LateFusionClassifier([part]).fit(X, y)
        only = tuple(name == part[0] for name in table.index.names)
        assert table[only] == pytest.approx(get_scorer("neg_log_loss")(alone, X, y))


# ------------------------------------------------------------------------------ other estimators


class CountingClassifier(ClassifierMixin, BaseEstimator):
    """Predicts from the sign of a sum of columns; refuses NaN unless `allows_nan`."""

    def __init__(self, allows_nan=True):
        self.allows_nan = allows_nan

    def fit(self, X, y):
        self.classes_, self.n_calls_ = np.unique(y), 0
        return self

    def predict(self, X):
        X = np.asarray(X, dtype=float)
        if np.isnan(X).any() and not self.allows_nan:
            raise ValueError("Input X contains NaN.")
        self.n_calls_ += 1
        return (np.nansum(X[:, :2], axis=1) > 0).astype(int)


@pytest.mark.parametrize("as_frame", [True, False])
@pytest.mark.parametrize(("allows_nan", "how"), [(True, "mask"), (False, "permute")])
def test_other_estimators_predict_once_per_coalition(as_frame, allows_nan, how):
    X = np.random.default_rng(0).normal(size=(50, 3))
    y = (X[:, 0] + X[:, 1] > 0).astype(int)
    X = pd.DataFrame(X, columns=["a", "b", "c"]) if as_frame else X
    before = X.copy()
    model = CountingClassifier(allows_nan).fit(X, y)
    result = modality_importance(model, X, y, random_state=0)
    assert model.n_calls_ == 8
    assert set(result.absent.values()) == {how}
    assert result.importances[2] == 0.0
    np.testing.assert_array_equal(X, before)
    if how == "mask":
        table = result.coalitions.set_index(list(result.modalities))["score"]
        assert table[True, False, True] == np.mean((np.asarray(X)[:, 0] > 0) == y)


def test_columns_are_permuted_together_and_modalities_apart():
    X = np.random.default_rng(0).normal(size=(200, 4))
    X = pd.DataFrame(
        {"a": X[:, 0], "b": X[:, 0], "c": X[:, 1], "d": X[:, 1]}, index=range(200, 0, -1)
    )
    seen = []

    class Recording(CountingClassifier):
        def predict(self, X):
            seen.append(X)
            return super().predict(X)

    y = np.arange(200) % 2
    model = Recording().fit(X, y)
    modalities = {"first": ["a", "b"], "second": slice("c", "d")}
    options = {"modalities": modalities, "absent": "permute", "random_state": 0}
    modality_importance(model, X, y, n_repeats=3, **options)
    assert len(seen) == 1 + 3 * 3
    for frame in seen:
        assert (frame["a"] == frame["b"]).all() and (frame["c"] == frame["d"]).all()
        assert frame.index.equals(X.index)
        np.testing.assert_array_equal(np.sort(frame["a"]), np.sort(X["a"]))
    moved = [frame for frame in seen if not frame.equals(X)]
    orders = {tuple(frame["a"]) for frame in moved if not frame["a"].equals(X["a"])}
    assert len(orders) == 3  # one per repeat, the same in all coalitions
    both = [f for f in moved if not f["a"].equals(X["a"]) and not f["c"].equals(X["c"])]
    pairs = set(zip(X["a"], X["c"], strict=True))
    assert len(both) == 3
    assert all(len(pairs.intersection(zip(f["a"], f["c"], strict=True))) < 10 for f in both)


def test_estimators_without_absent_modalities_get_permuted_ones():
    X, y = data()
    X, y = X.drop(index=X.index[[1, 2, 5]]), np.delete(y, [1, 2, 5])
    model = feature_level(missing="error").fit(X, y)
    result = modality_importance(model, X, y, random_state=0)
    assert set(result.absent.values()) == {"permute"}
    with pytest.raises(ValueError, match="modality 'image' is absent") as caught:
        modality_importance(model, X, y, absent="mask")
    assert "absent='permute' keeps all cells" in caught.value.__notes__[-1]


def test_permuted_columns_keep_type_and_index():
    frame = pd.DataFrame(
        {
            "cells": pd.Series(TensorArray([np.ones(2), np.zeros(2)])),
            "count": [1, 2],
            "flag": [True, False],
            "day": pd.to_datetime(["2020-01-01", "2020-01-02"]),
            "kind": pd.Categorical(["x", "y"]),
            "text": ["one", "two"],
        }
    ).set_axis([7, 7])
    moved = permute_columns(frame, [0, 5], np.array([1, 0]))
    assert moved["text"].tolist() == ["two", "one"] and moved["count"].tolist() == [1, 2]
    np.testing.assert_array_equal(moved["cells"].iloc[0], [0, 0])
    assert moved.dtypes.equals(frame.dtypes) and moved.index.equals(frame.index)
    assert frame["text"].tolist() == ["one", "two"]
    numbers = np.array([[1, 2], [3, 4]])
    assert permute_columns(numbers, [1], np.array([1, 0])).tolist() == [[1, 4], [3, 2]]


# ------------------------------------------------------------------------------ errors


def test_options_are_checked():
    X = np.random.default_rng(0).normal(size=(20, 3))
    y = np.arange(20) % 2
    model = LogisticRegression().fit(X, y)
    with pytest.raises(ValueError, match=r"absent='zero'; expected one of \['auto'"):
        modality_importance(model, X, y, absent="zero")
    with pytest.raises(ValueError, match="n_repeats=0; expected an integer of at least 1"):
        modality_importance(model, X, y, n_repeats=0)
    with pytest.raises(ValueError, match="expected one number. Pass one scorer"):
        modality_importance(model, X, y, scoring=["accuracy", "roc_auc"])
    with pytest.raises(ValueError, match=r"modalities=\[0\]; expected a dict"):
        modality_importance(model, X, y, modalities=[0])
    with pytest.raises(ValueError, match="modalities 'a' and 'b' share column 1; expected each"):
        modality_importance(model, X, y, modalities={"a": [0, 1], "b": [1, 2]})
    with pytest.raises(ValueError, match="modality 'a' has no column"):
        modality_importance(model, X, y, modalities={"a": []})
    with pytest.raises(ValueError, match="modality 'a': column 'x' is given by name"):
        modality_importance(model, X, y, modalities={"a": "x"})
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        modality_importance(model, X, y[:5])


def test_expected_warnings_are_silenced_only_there():
    X, y = data()
    model = LateFusionClassifier(triples()[:2], head=LogisticRegression()).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        modality_importance(model, X, y, n_jobs=2)
    with pytest.warns(UserWarning, match="rows have no modality present"):
        model.predict(X)


def test_progress_is_printed(capsys):
    X, y = data()
    modality_importance(late().fit(X, y), X, y, verbose=1)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    assert all(line.startswith("[modality_importance] ") for line in lines)
    assert any("audio + table: " in line for line in lines)
    assert any("no modality: " in line for line in lines)


def test_pca_of_two_columns_has_its_modalities_by_name():
    """Selections by position, an array X, and columns that no triple uses."""
    X = np.random.default_rng(0).normal(size=(30, 5))
    y = (X[:, 3] > 0).astype(int)
    model = make_pipeline(
        FusionTransformer([("left", PCA(1), [0, 1]), ("right", "passthrough", [3])]),
        LogisticRegression(),
    ).fit(X, y)
    result = modality_importance(model, X, y)
    assert result.modalities == ["left", "right"]
    assert result.importances[1] > 0.3
