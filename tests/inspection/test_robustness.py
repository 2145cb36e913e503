"""Robustness curves, against loops by hand over the very frames that a scorer was given."""

import joblib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.io import wavfile
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline

from sklearn_mmfusion import (
    AudioEncoder,
    FileArray,
    FusionTransformer,
    ImageEncoder,
    LateFusionClassifier,
    multimodal_frame,
)
from sklearn_mmfusion.corruptions import corrupt
from sklearn_mmfusion.inspection import robustness_curve
from tests._fusion_data import hide
from tests._late_data import iris, members


@pytest.fixture(scope="module")
def fitted():
    """A late fusion, a baseline, and the rows that neither was trained on."""
    X, y = iris()
    model = LateFusionClassifier(members()).fit(X[:75], y[:75])
    baseline = LateFusionClassifier(members(), fusion="mean", weights={"petal": 0.2})
    return model, baseline.fit(X[:75], y[:75]), X[75:], y[75:]


class Recorder:
    """A scorer that keeps each frame; all frames belong to one estimator."""

    def __init__(self):
        self.frames = []

    def __call__(self, estimator, X, y):
        self.frames.append(X)
        return estimator.score(X, y)


def test_missing_sets_have_the_size_of_the_level_and_are_nested(fitted):
    model, _, X, y = fitted
    recorder, levels = Recorder(), [0, 0.2, 0.5, 0.9]
    curve = robustness_curve(
        model, X, y, modality="petal", levels=levels, scoring=recorder, n_repeats=3, random_state=0
    )
    clean, *frames = recorder.frames
    assert len(frames) == 9 and not clean["petal"].isna().any()  # level 0 is scored once
    masks = np.array([frame["petal"].isna() for frame in frames]).reshape(3, 3, len(X))
    np.testing.assert_array_equal(masks.sum(axis=2), [[15] * 3, [38] * 3, [68] * 3])
    assert (masks[:-1] <= masks[1:]).all()
    assert (masks[:, 0] != masks[:, 1]).any()
    assert all((frame["sepal"] == X["sepal"]).all() for frame in frames)
    expected = [[model.score(hide(X, petal=mask), y) for mask in of_level] for of_level in masks]
    np.testing.assert_array_equal(curve.scores, [[model.score(X, y)] * 3, *expected])


def test_no_chance_at_the_ends(fitted):
    model, _, X, y = fitted
    curve = robustness_curve(model, X, y, modality="sepal", n_repeats=2, random_state=0)
    np.testing.assert_allclose(curve.levels, np.arange(11) / 10)
    with pytest.warns(UserWarning, match="no present row"):
        alone = model.score(hide(X, sepal=np.ones(len(X), bool)), y)
    assert curve.scores[0].tolist() == [model.score(X, y)] * 2
    assert curve.scores[-1].tolist() == [alone] * 2


def test_areas_and_effective_robustness_by_hand(fitted):
    model, baseline, X, y = fitted
    levels = [0, 0.1, 0.5, 0.8]
    options = {"levels": levels, "n_repeats": 4, "random_state": 1, "modality": "petal"}
    curve = robustness_curve(model, X, y, baseline=baseline, **options)
    alone = robustness_curve(baseline, X, y, **options)
    np.testing.assert_array_equal(curve.baseline_scores, alone.scores)  # equal rows are missing
    mean = [np.mean(scores) for scores in curve.scores]
    np.testing.assert_allclose(curve.mean, mean)
    area = np.trapezoid(mean, np.array(levels) / 0.8)
    assert curve.relative_robustness == pytest.approx(area)
    gain = 0
    for f, b in zip(mean, alone.mean, strict=True):
        gain += f - (b + mean[0] - alone.mean[0])
    assert gain != 0 and curve.effective_robustness == pytest.approx(gain)
    assert robustness_curve(model, X, y, baseline=model, **options).effective_robustness == 0
    assert alone.effective_robustness is None and alone.baseline_mean is None


def texts(n=60, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    words = np.array([["dark", "cold", "rain"], ["warm", "sunny", "dry"]])
    X = pd.DataFrame(
        {
            "note": [" ".join(rng.choice(words[label], 6)) for label in y],
            "degrees": np.round(15 * y + rng.normal(size=n) * 9).astype(int),
        }
    )
    return X, y


def test_cells_are_corrupted_as_by_hand():
    X, y = texts()
    vectorizer = TfidfVectorizer(analyzer="char")
    model = LateFusionClassifier(
        [
            ("words", make_pipeline(vectorizer, MultinomialNB()), "note"),
            ("weather", LogisticRegression(), ["degrees"]),
        ]
    ).fit(X, y)
    recorder = Recorder()
    options = {"corruption": "typo", "n_repeats": 2, "random_state": 7}
    curve = robustness_curve(model, X, y, modality="words", scoring=recorder, **options)
    assert (curve.kind, curve.levels.tolist()) == ("text", [0, 1, 2, 3, 4, 5])
    seeds = np.random.RandomState(7).randint(np.iinfo(np.int32).max, size=2)
    frames = iter(recorder.frames[1:])
    for level in range(1, 6):
        for seed in seeds:
            random_state = np.random.RandomState([seed, 0])
            expected = corrupt(X["note"], "text", "typo", level, random_state=random_state)
            frame = next(frames)
            assert frame["note"].tolist() == expected.tolist()
            assert frame["degrees"].equals(X["degrees"])
    by_column = robustness_curve(model, X, y, modality="note", **options)
    np.testing.assert_array_equal(by_column.scores, curve.scores)


def test_numbers_get_noise_in_proportion_to_their_spread():
    X, y = texts(4000)
    X["degrees"] = X["degrees"].astype("Int64")
    X.loc[::5, "degrees"] = pd.NA
    model = HistGradientBoostingClassifier(max_iter=1).fit(X[["degrees"]], y)
    recorder = Recorder()
    curve = robustness_curve(
        *(model, X[["degrees"]], y),
        **{"modality": "degrees", "corruption": "noise", "levels": [0, 1, 5], "n_repeats": 1},
        **{"scoring": recorder, "random_state": 0},
    )
    assert curve.kind == "number" and curve.scores[0] > curve.scores[2] > 0.5
    clean, weak, strong = (f["degrees"].astype(float).to_numpy() for f in recorder.frames)
    np.testing.assert_array_equal(np.isnan(weak), np.isnan(clean))
    assert np.nanstd(weak - clean) == pytest.approx(0.05 * np.nanstd(clean), rel=0.05)
    np.testing.assert_allclose(strong - clean, 16 * (weak - clean), atol=1e-9)  # .8 / .05


def test_cells_of_numbers_get_noise_in_proportion_to_their_spread():
    rng = np.random.default_rng(0)
    y = np.arange(400) % 2
    X = hide(multimodal_frame(vector=rng.normal(size=(400, 2)) * [1, 10]), vector=[3])
    model = LateFusionClassifier([("vector", LogisticRegression(), "vector")]).fit(X, y)
    seen = []

    def score(estimator, X, y):
        seen.append(X["vector"])
        return 0.0

    options = {"modality": "vector", "corruption": "noise", "kind": "number", "levels": [0, 5]}
    robustness_curve(model, X, y, scoring=score, n_repeats=1, random_state=0, **options)
    before, after = (column.array.gather(np.flatnonzero(column.notna())) for column in seen)
    assert seen[1].isna().tolist() == (np.arange(400) == 3).tolist()
    np.testing.assert_allclose((after - before).std(axis=0), [0.8, 8], rtol=0.15)


def test_result_depends_on_the_seed_alone(fitted):
    model, _, X, y = fitted
    before = X.copy(deep=True)
    options = {"modality": "petal", "n_repeats": 2, "levels": [0, 0.5, 1]}
    first = robustness_curve(model, X, y, random_state=3, **options)
    with joblib.parallel_config("threading"):
        again = robustness_curve(model, X, y, random_state=3, n_jobs=2, **options)
    np.testing.assert_array_equal(first.scores, again.scores)
    other = robustness_curve(model, X, y, random_state=4, **options)
    assert (first.scores[1] != other.scores[1]).any()
    pd.testing.assert_frame_equal(X, before)


def test_files_are_decoded_before_they_are_corrupted(tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(16) % 2
    pixels = (100 * y[:, None, None] + rng.integers(0, 99, (16, 8, 8))).astype(np.uint8)
    for i, image in enumerate(pixels):  # half of them in color: the encoder reads them in gray
        Image.fromarray(image).convert("L" if i < 9 else "RGB").save(tmp_path / f"{i}.png")
    names = [f"{i}.png" for i in range(15)] + [None]
    X = pd.DataFrame({"photo": names, "x": rng.normal(size=16)})
    encoder = ImageEncoder(
        n_components=2, channels=(2,), max_epochs=1, file_params={"root": str(tmp_path)}
    )
    fusion = FusionTransformer([("image", encoder, "photo"), ("x", "passthrough", ["x"])])
    model = make_pipeline(fusion.set_params(random_state=0), LogisticRegression()).fit(X, y)
    recorder = Recorder()
    options = {"corruption": "noise", "levels": [0, 3], "n_repeats": 1, "random_state": 0}
    options["scoring"] = recorder
    robustness_curve(model, X, y, modality="image", **options)
    clean, noisy = recorder.frames
    np.testing.assert_array_equal(model.predict_proba(clean), model.predict_proba(X))
    seed = np.random.RandomState(0).randint(np.iinfo(np.int32).max, size=1)[0]
    cells = [*pixels[:15], None]
    expected = corrupt(cells, "image", "noise", 3, random_state=np.random.RandomState([seed, 0]))
    for found, wanted in zip(noisy["photo"][:15], expected[:15], strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert noisy["photo"].isna().tolist() == 15 * [False] + [True]
    assert X["photo"].tolist()[:15] == names[:15]

    files = X.assign(photo=FileArray(names, root=str(tmp_path)))
    robustness_curve(model, files, y, modality="photo", **options)
    assert recorder.frames[-1]["photo"].array.equals(noisy["photo"].array)


def test_recordings_without_a_rate_join_those_with_one(tmp_path):
    rng = np.random.default_rng(0)
    waves = rng.normal(size=(8, 400)).astype(np.float32)
    paths = [str(tmp_path / f"{i}.{'npy' if i % 2 else 'wav'}") for i in range(len(waves))]
    for path, wave in zip(paths, waves, strict=True):
        np.save(path, wave) if path.endswith("npy") else wavfile.write(path, 8000, wave)
    X, y = pd.DataFrame({"sound": paths}), [0, 1] * 4
    encoder = AudioEncoder(4, sample_rate=8000, max_epochs=1, random_state=0)
    model, recorder = LateFusionClassifier([("sound", encoder, "sound")]).fit(X, y), Recorder()
    options = {"corruption": "noise", "levels": [0, 1], "scoring": recorder, "n_repeats": 1}
    robustness_curve(model, X, y, modality="sound", **options)
    column = recorder.frames[0]["sound"]
    assert column.dtype.sample_rate == 8000
    np.testing.assert_array_equal(np.stack(column), waves)


def test_wrapped_and_foreign_estimators_and_arrays(fitted):
    _, _, X, y = fitted
    base = LateFusionClassifier(members())
    search = GridSearchCV(base, {"fusion": ["mean"]}, cv=2).fit(X, y)
    calibrated = CalibratedClassifierCV(base, method="temperature", cv=2).fit(X, y)
    for model in (search, calibrated):
        curve = robustness_curve(model, X, y, modality="petal", levels=[0, 1], n_repeats=1)
        assert curve.modality == "petal" and curve.mean[0] > curve.mean[1]
    array = np.column_stack([np.stack(X["sepal"]), np.stack(X["petal"])])
    trees = HistGradientBoostingClassifier(max_iter=5).fit(array, y)
    curve = robustness_curve(trees, array, y, modality=2, levels=[0, 1], n_repeats=1)
    array[:, 2] = np.nan
    assert curve.scores[1] == trees.score(array, y) != curve.scores[0]


def test_scorers_and_progress(fitted, capsys):
    model, _, X, y = fitted
    options = {"modality": "petal", "levels": [0, 0.5], "n_repeats": 2, "random_state": 0}
    curve = robustness_curve(model, X, y, scoring="neg_log_loss", verbose=1, **options)
    assert curve.scorer == "neg_log_loss" and (curve.scores < 0).all()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and "(2 of 3) petal, missing 0.5, repetition 1: -" in lines[1]
    assert robustness_curve(model, X, y, **options).scorer == "accuracy"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"modality": "touch"}, r"modality='touch' is neither.*\('sepal', 'petal'\) nor a column"),
        ({"levels": [0.1, 1]}, r"levels=\[0.1, 1\] of 'missing'; expected two or more shares"),
        ({"levels": [0, 2]}, "shares of rows from 0 to 1, growing and beginning with 0"),
        ({"scoring": ["accuracy"]}, "scoring returned {'accuracy': .*; expected one number"),
        ({"n_repeats": 0}, "n_repeats=0; expected an integer of at least 1"),
        ({"n_repeats": 2.5}, "n_repeats=2.5; expected an integer of at least 1"),
        ({"corruption": "noise"}, "kind of modality 'petal' .* is not known from an encoder; pass"),
        ({"corruption": "noise", "kind": "smell"}, "modality 'smell' is unknown"),
        ({"corruption": "fog", "kind": "image"}, "image has no corruption 'fog'; expected 'flip'"),
        (
            {"corruption": "time_mask", "kind": "audio"},
            "acts on the inputs.*'missing'",
        ),
        ({"corruption": "blur", "kind": "number"}, "no corruption 'blur'; expected 'noise'"),
        (
            {"corruption": "noise", "kind": "audio", "levels": [0, 0.5]},
            r"levels=\[0, 0.5\] of 'noise'; expected two or more integers from 0 to 5",
        ),
    ],
)
def test_wrong_arguments_are_refused(fitted, params, message):
    model, _, X, y = fitted
    with pytest.raises(ValueError, match=message):
        robustness_curve(model, X, y, **{"modality": "petal", **params})


def test_an_estimator_that_accepts_no_missing_values_is_named(fitted):
    X, y = texts()
    model = LogisticRegression().fit(X[["degrees"]], y)
    with pytest.raises(ValueError, match="contains NaN") as caught:
        robustness_curve(model, X[["degrees"]], y, modality="degrees")
    assert any("'degrees': missing 0.1. The estimator has" in n for n in caught.value.__notes__)


def test_sets_of_cells_are_refused():
    images = [[np.zeros((8, 8), np.uint8)] * 2, [np.ones((8, 8), np.uint8)]] * 4
    X, y = multimodal_frame(image=images, x=np.arange(8.0)), np.arange(8) % 2
    encoder = ImageEncoder(n_components=2, channels=(2,), pooling="mean", max_epochs=1)
    fusion = FusionTransformer([("image", encoder, "image"), ("x", "passthrough", ["x"])])
    model = make_pipeline(fusion, LogisticRegression()).fit(X, y)
    with pytest.raises(ValueError, match="modality 'image' holds several cells per row"):
        robustness_curve(model, X, y, modality="image", corruption="noise")
