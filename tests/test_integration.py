"""Pipelines over ragged sound and absent cells, inside scikit-learn's own tools.

Everything runs on a frame of our column types and on the frame of plain objects of the same
rows, and must give the same scores.
"""

import copy
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import BaggingClassifier, StackingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.impute import SimpleImputer
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    StratifiedKFold,
    cross_validate,
    learning_curve,
)
from sklearn.pipeline import Pipeline, make_pipeline

from sklearn_mmfusion.compose import FusionTransformer
from sklearn_mmfusion.containers import TensorArray
from sklearn_mmfusion.datasets import make_multimodal_classification
from sklearn_mmfusion.feature_extraction import AudioEncoder, ImageEncoder, TextEncoder
from sklearn_mmfusion.neural_network import NeuralClassifier
from sklearn_mmfusion.preprocessing import LogMelSpectrogram

N = 36
COLUMNS = ["image", "text", "audio"]
FOLDS = StratifiedKFold(2, shuffle=True, random_state=0)


class CountingEncoder(ImageEncoder):
    """ImageEncoder that counts its fits in this process."""

    n_fits = 0

    def fit(self, X, y, sample_weight=None, groups=None):
        CountingEncoder.n_fits += 1
        return super().fit(X, y, sample_weight=sample_weight, groups=groups)


def make_encoders(image=ImageEncoder, **params):
    small = {"n_components": 4, "max_epochs": 1, **params}
    return {
        "image": image(channels=(4, 4), **small),
        "text": TextEncoder(embedding_dim=4, module_params={"channels": 4}, **small),
        "audio": AudioEncoder(
            sample_rate=8000,
            front_end=LogMelSpectrogram(n_mels=12),
            module_params={"channels": (4, 4)},
            **small,
        ),
    }


def make_model(head=None, *, by=None, image=ImageEncoder, **params):
    """A small fusion pipeline; `by` gives the columns' positions where names are not wanted."""
    encoders = make_encoders(image)
    triples = [(name, encoders[name], by[i] if by else name) for i, name in enumerate(COLUMNS)]
    fusion = FusionTransformer(triples, random_state=0, **params)
    return Pipeline([("fusion", fusion), ("head", head or LogisticRegression())])


@pytest.fixture(scope="module")
def data():
    """The frame, the frame of plain objects, and the classes."""
    X, y = make_multimodal_classification(N, noise=0.3, missing_rate=0.1, random_state=0)
    assert X["audio"].array.is_ragged
    assert 0.05 < X.isna().to_numpy().mean() < 0.15
    objects = pd.DataFrame({name: X[name].astype(object) for name in X})
    assert set(objects.dtypes) == {np.dtype(object)}
    return X, objects, np.array(["ant", "bee", "cat"])[y]


# ------------------------------------------------------------------------------ scores


def score_cross_validate(X, y):
    return cross_validate(make_model(), X, y, cv=FOLDS, error_score="raise")["test_score"]


def score_neural_head(X, y):
    head = NeuralClassifier((8,), max_epochs=3, random_state=0)
    scoring = ["accuracy", "neg_log_loss"]
    scores = cross_validate(make_model(head), X, y, cv=FOLDS, scoring=scoring)
    return np.concatenate([scores["test_accuracy"], scores["test_neg_log_loss"]])


def score_indicators_and_whitening(X, y):
    model = make_model(fusion="whitened", add_indicator=True)
    return cross_validate(model, X, y, cv=FOLDS, error_score="raise")["test_score"]


def score_grid_search(X, y, n_jobs=None):
    grid = [
        {"fusion__image__n_components": [2, 4], "fusion__fusion": ["concat"]},
        {"fusion__fusion": ["mean"], "head__C": [0.1]},
    ]
    search = GridSearchCV(make_model(), grid, cv=FOLDS, n_jobs=n_jobs, error_score="raise")
    search.fit(X, y)
    assert search.predict(X).shape == (N,)
    return search.cv_results_["mean_test_score"]


def score_halving_grid_search(X, y):
    grid = {"fusion__image__n_components": [2, 4]}
    search = HalvingGridSearchCV(
        make_model(), grid, cv=FOLDS, min_resources=N // 2, factor=2, random_state=0
    ).fit(X, y)
    assert search.n_resources_ == [N // 2, N]
    return search.cv_results_["mean_test_score"]


def score_learning_curve(X, y):
    curve = learning_curve(
        make_model(), X, y, cv=FOLDS, train_sizes=[0.6, 1.0], error_score="raise"
    )
    return np.concatenate([curve[1], curve[2]])


def score_permutation_importance(X, y):
    result = permutation_importance(make_model().fit(X, y), X, y, n_repeats=3, random_state=0)
    assert result.importances.shape == (3, 3)
    return result.importances


def score_stacking(X, y):
    alone = [
        (
            name,
            Pipeline(
                [
                    ("fusion", FusionTransformer([(name, encoder, name)], random_state=0)),
                    ("head", LogisticRegression()),
                ]
            ),
        )
        for name, encoder in make_encoders().items()
    ]
    return StackingClassifier(alone, cv=FOLDS).fit(X, y).predict_proba(X)


def score_calibration(X, y):
    return CalibratedClassifierCV(make_model(), cv=FOLDS).fit(X, y).predict_proba(X)


def score_bagging_by_position(X, y):
    """BaggingClassifier turns X into an object array (n, 3): columns are named by position."""
    bagging = BaggingClassifier(make_model(by=[0, 1, 2]), n_estimators=2, random_state=0)
    return bagging.fit(X, y).predict_proba(X)


def column_transformer(by):
    encoders = make_encoders(random_state=0)
    triples = [(name, encoders[name], column) for name, column in zip(COLUMNS, by, strict=True)]
    return ColumnTransformer(triples)


def score_column_transformer(X, y):
    by_name, by_position = (
        make_pipeline(column_transformer(by), SimpleImputer(), LogisticRegression())
        .fit(X, y)
        .predict_proba(X)
        for by in (COLUMNS, [0, 1, 2])
    )
    np.testing.assert_array_equal(by_position, by_name)
    return by_name


SLOW_TOOLS = ("grid_search", "halving_grid_search", "learning_curve")
SCORES = {name[6:]: score for name, score in list(globals().items()) if name.startswith("score_")}


@pytest.mark.filterwarnings("ignore:.* rows have no modality present:UserWarning")
@pytest.mark.parametrize(
    "tool", [pytest.param(t, marks=[pytest.mark.slow] * (t in SLOW_TOOLS)) for t in SCORES]
)
def test_scores_are_equal_on_both_frames(tool, data):
    X, objects, y = data
    scores = SCORES[tool](X, y)
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(SCORES[tool](objects, y), scores)


def test_the_pipeline_learns(data):
    X, _, y = data
    encoders = [
        (name, encoder.set_params(max_epochs=8, module_params=None, n_components=8), name)
        for name, encoder in make_encoders().items()
    ]
    model = make_pipeline(FusionTransformer(encoders, random_state=0), LogisticRegression())
    large, target = make_multimodal_classification(150, noise=0.3, missing_rate=0.1, random_state=1)
    assert model.fit(large[:100], target[:100]).score(large[100:], target[100:]) > 0.8


@pytest.mark.slow
def test_grid_search_scores_are_equal_with_two_jobs(data):
    X, objects, y = data
    serial = score_grid_search(X, y)
    np.testing.assert_array_equal(score_grid_search(X, y, n_jobs=2), serial)
    np.testing.assert_array_equal(score_grid_search(objects, y, n_jobs=2), serial)


# ------------------------------------------------------------------------------ copies and hashes


def test_copies_predict_the_same(data):
    X, objects, y = data
    model = make_model(NeuralClassifier((8,), max_epochs=3, random_state=0)).fit(X, y)
    expected = model.predict_proba(X)
    np.testing.assert_array_equal(model.predict_proba(objects), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict_proba(X), expected)
    np.testing.assert_array_equal(copy.deepcopy(model).predict_proba(X), expected)
    np.testing.assert_array_equal(clone(model).fit(X, y).predict_proba(X), expected)
    np.testing.assert_array_equal(clone(model).fit(objects, y).predict_proba(X), expected)
    order = np.random.default_rng(0).permutation(N)
    np.testing.assert_allclose(model.predict_proba(X.iloc[order]), expected[order], atol=1e-5)


@pytest.mark.parametrize("kind", [0, 1], ids=["columns", "objects"])
def test_equal_content_has_an_equal_hash(kind, data):
    X = data[kind]
    expected = joblib.hash(X)
    order = np.random.default_rng(0).permutation(N)
    assert joblib.hash(X.copy()) == expected
    assert joblib.hash(pickle.loads(pickle.dumps(X))) == expected
    back = X.iloc[order].iloc[np.argsort(order)]
    if kind == 0:  # pandas' own index of a shuffled frame has another class than a range
        back = back.set_index(X.index)
        assert joblib.hash(back) == expected
        assert joblib.hash(pd.concat([X, X]).iloc[:N].set_index(X.index)) == expected
    assert joblib.hash(X.iloc[order]) != expected
    assert joblib.hash(X.iloc[: N - 1]) != expected


def test_pipeline_memory_is_hit_by_equal_content_and_from_a_pickle(data, tmp_path):
    X, objects, y = data
    for frame in (X, objects):
        memory = joblib.Memory(tmp_path / str(len(list(tmp_path.iterdir()))), verbose=0)
        model = make_model(image=CountingEncoder).set_params(memory=memory)
        CountingEncoder.n_fits = 0
        expected = model.fit(frame, y).predict_proba(frame)
        assert CountingEncoder.n_fits == 1
        for same in (frame, frame.copy(), pickle.loads(pickle.dumps(frame))):
            again = clone(model).set_params(head__C=1.0).fit(same, y)
            np.testing.assert_array_equal(again.predict_proba(same), expected)
        assert CountingEncoder.n_fits == 1
        changed = frame.copy()
        changed["audio"] = changed["audio"].where(np.arange(N) != 5)
        assert changed["audio"].isna().sum() == frame["audio"].isna().sum() + 1
        clone(model).fit(changed, y)
        assert CountingEncoder.n_fits == 2


def test_pipeline_memory_is_missed_by_other_parameters(data, tmp_path):
    X, _, y = data
    model = make_model(image=CountingEncoder).set_params(memory=joblib.Memory(tmp_path, verbose=0))
    CountingEncoder.n_fits = 0
    model.fit(X, y)
    clone(model).set_params(head__C=0.1).fit(X, y)
    assert CountingEncoder.n_fits == 1
    clone(model).set_params(fusion__text__n_components=3).fit(X, y)
    clone(model).set_params(fusion__random_state=1).fit(X, y)
    clone(model).fit(X, np.roll(y, 1))
    assert CountingEncoder.n_fits == 4


# ------------------------------------------------------------------------------ output and routing


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_set_output_gives_frames_with_names(library, data):
    frames = pytest.importorskip(library, reason=f"{library} makes the output")
    X, objects, y = data
    plain = make_model()[0].fit_transform(X, y)
    for frame in (X, objects):
        model = make_model().set_output(transform=library).fit(frame, y)
        out = model[0].transform(frame)
        assert isinstance(out, frames.DataFrame)
        assert list(out.columns) == model[0].get_feature_names_out().tolist()
        assert list(out.columns)[:2] == ["image__0", "image__1"]
        np.testing.assert_array_equal(out.to_numpy(), plain)
        assert model.predict(frame).shape == (N,)


def test_one_encoder_alone_sets_output_too(data):
    X, _, y = data
    encoder = make_encoders()["text"].set_output(transform="pandas")
    out = encoder.fit_transform(X["text"], y)
    assert list(out.columns) == [f"textencoder{i}" for i in range(4)]
    assert out.isna().all(axis=1).tolist() == X["text"].isna().tolist()


def test_sample_weight_is_routed_to_encoders_and_head(data):
    X, objects, y = data
    weight = np.random.default_rng(0).integers(1, 9, size=N).astype(float)
    fusion = make_model()[0].fit(X, y, sample_weight=weight)
    head = LogisticRegression().fit(fusion.transform(X), y, sample_weight=weight)
    expected = head.predict_proba(fusion.transform(X))
    plain = make_model().fit(X, y).predict_proba(X)
    with sklearn.config_context(enable_metadata_routing=True):
        head = LogisticRegression().set_fit_request(sample_weight=True)
        model = make_model(head.set_score_request(sample_weight=True))
        for _, encoder, _ in model[0].transformers:
            encoder.set_fit_request(sample_weight=True)
        for frame in (X, objects):
            routed = clone(model).fit(frame, y, sample_weight=weight)
            np.testing.assert_array_equal(routed.predict_proba(frame), expected)
        scores = [
            cross_validate(model, frame, y, cv=FOLDS, params={"sample_weight": weight})
            for frame in (X, objects)
        ]
        np.testing.assert_array_equal(scores[0]["test_score"], scores[1]["test_score"])
    assert np.abs(plain - expected).max() > 1e-3


def test_groups_are_routed_to_the_encoders(data):
    X, _, y = data
    groups = np.arange(N) % 6
    with sklearn.config_context(enable_metadata_routing=True):
        model = make_model()
        for _, encoder, _ in model[0].transformers:
            encoder.set_fit_request(groups=True)
        routed = model.fit(X, y, groups=groups).predict_proba(X)
    by_hand = make_model()
    by_hand[0].fit(X, y, groups=groups)
    by_hand[1].fit(by_hand[0].transform(X), y)
    np.testing.assert_array_equal(routed, by_hand.predict_proba(X))


# ------------------------------------------------------------------------------ frames


def test_what_pandas_does_to_frames_keeps_the_scores(data):
    X, _, y = data
    model = make_model().fit(X, y)
    expected = model.predict_proba(X)
    keyed = X.assign(key=np.arange(N), label=y)
    right = keyed.sample(frac=1, random_state=0)[["key", "text", "audio"]]
    merged = keyed[["key", "image"]].merge(right, on="key")
    np.testing.assert_allclose(model.predict_proba(merged), expected, atol=1e-6)
    again = pd.concat([X[20:], X[:20]]).sort_index()
    np.testing.assert_allclose(model.predict_proba(again), expected, atol=1e-6)
    some = keyed.query("label == 'bee' and key > 10").dropna(subset=["audio"])
    np.testing.assert_allclose(model.predict_proba(some), expected[some["key"]], atol=1e-5)
    for _, group in keyed.groupby("label"):
        np.testing.assert_allclose(model.predict_proba(group), expected[group["key"]], atol=1e-5)
    assert isinstance(some["audio"].array, TensorArray)


def test_cells_are_marked_absent_through_the_frame(data):
    X = data[0].copy()
    n_absent = data[0]["image"].isna().sum()
    row = np.flatnonzero(X["image"].notna())[0]
    X.loc[row, "image"] = np.nan
    assert X["image"].isna().sum() == n_absent + 1
    assert data[0]["image"].isna().sum() == n_absent
