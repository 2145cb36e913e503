"""Pipelines made of a frame: their parts, their errors, and that they behave like any other."""

import pickle
import re

import numpy as np
import pandas as pd
import polars as pl
import pytest
from PIL import Image
from scipy.io import wavfile
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler, TargetEncoder
from sklearn.svm import SVC
from sklearn.utils import estimator_html_repr

from sklearn_mmfusion import (
    AudioEncoder,
    FileArray,
    FusionTransformer,
    ImageEncoder,
    JointFusionClassifier,
    LateFusionClassifier,
    NeuralClassifier,
    NeuralRegressor,
    PointCloudEncoder,
    SequenceEncoder,
    TensorArray,
    TextEncoder,
    VideoEncoder,
    make_multimodal_pipeline,
)

N = 60
RNG = np.random.default_rng(0)
Y = np.array(["no", "yes"])[np.arange(N) % 2]


def bikes():
    """A table of odd columns that agree with Y, with a text."""
    which = np.arange(N) % 2
    price = 1000 + 500 * which + RNG.integers(0, 100, N)
    days = pd.to_datetime("2020-01-01") + pd.to_timedelta(100 * which + RNG.integers(0, 50, N), "D")
    X = pd.DataFrame(
        {
            "row": np.arange(N),
            "price": [f"{v:,}".replace(",", ".") + ",50 €" for v in price],
            "km": np.where(RNG.uniform(size=N) < 0.1, np.nan, RNG.normal(size=N)),
            "sold": days.strftime("%d.%m.%Y"),
            "color": np.array(["red", "blue", None], dtype=object)[RNG.integers(0, 3, N)],
            "used": np.where(which == 1, "yes", "no"),
            "brand": "acme",
            "title": [f"{w} bike from the city number {i}" for i, w in enumerate(which)],
        }
    )
    X.loc[3, ["price", "sold", "used"]] = None
    return X


def parts(pipeline):
    step = pipeline[0]
    return {name: (part, column) for name, part, column in step._triples}


def test_parts_are_ordinary_and_named_after_the_modality():
    pipeline = make_multimodal_pipeline(bikes(), "regressor", random_state=0)
    assert type(pipeline) is Pipeline
    assert isinstance(pipeline[0], FusionTransformer) and isinstance(pipeline[1], NeuralRegressor)
    assert pipeline[0].target_type == "continuous"  # whole numbers are no classes
    found = parts(pipeline)
    assert {name: column for name, (_, column) in found.items()} == {
        "numbers": ["price", "km", "used"],
        "dates": ["sold"],
        "categories": ["color"],
        "text": "title",
    }
    assert found["numbers"][0][0].kw_args == {"forms": {0: ",", 2: "boolean"}}
    assert found["dates"][0][0].kw_args == {"cycles": ("year", "week")}  # no times of day
    assert isinstance(found["categories"][0][-1], OneHotEncoder)
    assert isinstance(found["text"][0], TextEncoder)


def test_plain_numbers_need_no_step_that_reads_them():
    X = pd.DataFrame({"a": RNG.normal(size=30), "b": RNG.poisson(3, size=30)})
    steps = parts(make_multimodal_pipeline(X))["numbers"][0]
    assert [type(step) for _, step in steps.steps] == [SimpleImputer, StandardScaler]
    X.loc[0, "a"] = np.inf  # which an imputer refuses
    assert len(parts(make_multimodal_pipeline(X))["numbers"][0]) == 3


def test_booleans_may_be_texts_in_other_rows():
    X = pd.DataFrame({"new": [True, False, False, True] * 5, "old": [True, None, False, True] * 5})
    fusion = make_multimodal_pipeline(X)[0]
    expected = fusion.fit_transform(X)
    assert expected.std() > 0.5
    np.testing.assert_array_equal(
        fusion.transform(X.replace({True: "True", False: "no"})), expected
    )


def test_many_levels_are_encoded_by_the_target():
    X = pd.DataFrame(
        {"city": [f"city{'abcdefghij'[i % 50 // 5]}{'vwxyz'[i % 5]}" for i in range(300)]}
    )
    y = np.arange(300) % 7  # whole numbers
    pipeline = make_multimodal_pipeline(X, "regressor", random_state=0)
    encoder = parts(pipeline)["many_categories"][0][-1]
    assert isinstance(encoder, TargetEncoder) and encoder.target_type == "continuous"
    assert pipeline[0].fit_transform(X, y).shape == (300, 1)
    assert parts(make_multimodal_pipeline(X))["many_categories"][0][-1].target_type == "auto"


def test_result_equals_parts_written_by_hand():
    X = bikes()[["price", "km", "color", "used"]]
    pipeline = make_multimodal_pipeline(X)
    pipeline.set_params(neuralclassifier=LogisticRegression())
    numbers = X.assign(
        price=pd.to_numeric(X["price"].str.replace("[.€ ]", "", regex=True).str.replace(",", ".")),
        used=X["used"].map({"yes": 1.0, "no": 0.0}),
    )
    by_hand = make_pipeline(
        make_column_transformer(
            (
                make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()),
                ["price", "km", "used"],
            ),
            (OneHotEncoder(), ["color"]),
        ),
        LogisticRegression(),
    )
    found = pipeline.fit(X, Y).predict_proba(X)
    expected = by_hand.fit(numbers.fillna({"color": np.nan}), Y).predict_proba(
        numbers.fillna({"color": np.nan})
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_new_rows_may_hold_what_fit_has_not_seen():
    X = bikes().drop(columns="title")
    pipeline = make_multimodal_pipeline(X)
    pipeline.set_params(neuralclassifier=LogisticRegression()).fit(X, Y)
    new = X.iloc[:4].copy()
    new["price"] = ["2.000,5 €", "free", None, 7]
    new["color"] = ["green", None, 3, True]
    new["sold"] = ["2021-01-01", "soon", None, pd.Timestamp("2021-01-01")]
    new["used"] = [True, "maybe", None, "YES"]
    new["km"] = [np.inf, -np.inf, np.nan, 0]
    assert np.isfinite(pipeline.predict_proba(new)).all()
    kept = [c for c in X if c not in ("row", "brand")]  # dropped columns may go
    np.testing.assert_array_equal(pipeline.predict(X[kept]), pipeline.predict(X))


def test_verbose_prints_a_line_per_column(capsys):
    make_multimodal_pipeline(bikes(), kinds={"km": "drop"}, verbose=True)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    assert lines[0] == "'row': identifier, dropped (all 60 cells differ: integers from 0 to 59)"
    assert lines[2] == "'km': drop, dropped (set by the caller)"
    assert lines[4] == "'color': category -> categories (2 different texts in 43 cells)"
    with pytest.raises(ValueError, match="1 of 1 columns are not supported"):
        make_multimodal_pipeline(pd.DataFrame({"a": [{}] * 9}), verbose=True)
    assert capsys.readouterr().out.startswith("'a': unsupported, refused (")


def test_kinds_override_the_decision():
    kinds = {"row": "number", "color": "free text", "title": "drop", "price": "category"}
    found = parts(make_multimodal_pipeline(bikes(), kinds=kinds))
    assert found["numbers"][1] == ["row", "km", "used"]
    assert found["text"][1] == "color"
    assert found["many_categories"][1] == ["price"]


def test_arrays_in_files_are_read_as_the_caller_sets(tmp_path):
    for i in range(30):
        np.save(tmp_path / f"{i}.npy", np.zeros((8, 8), np.uint8))
    X = pd.DataFrame({"scan": [f"{i}.npy" for i in range(30)], "empty": [None] * 30})
    file_params = {"root": str(tmp_path)}
    with pytest.raises(ValueError, match="arrays of pixels are an 'image path'"):
        make_multimodal_pipeline(X, file_params=file_params)
    kinds = {"scan": "image path", "empty": "waveforms"}
    found = parts(make_multimodal_pipeline(X, file_params=file_params, kinds=kinds))
    assert isinstance(found["image"][0], ImageEncoder) and found["audio"][1] == "empty"


def test_lists_of_photos_are_pooled():
    X = pd.DataFrame({"photos": [[f"{i}.png", f"{i}.jpg"] for i in range(30)]})
    encoder, column = parts(make_multimodal_pipeline(X))["image_set"]
    assert column == "photos"
    assert isinstance(encoder, ImageEncoder) and encoder.pooling == "mean"


def test_several_columns_of_a_kind_are_numbered_by_name():
    texts = [f"some words about item {i}" for i in range(30)]
    X = pd.DataFrame({"Title (en)": texts, "title__en": texts, "Title_en": texts, "ü": texts})
    pipeline = make_multimodal_pipeline(X)
    names = list(parts(pipeline))
    assert names == ["text_Title_en", "text_title_en", "text_Title_en_2", "text_ü"]
    assert "fusiontransformer__text_title_en__n_components" in pipeline.get_params()


@pytest.mark.parametrize(
    ("X", "keywords", "message"),
    [
        (bikes, {"task": "clasifier"}, "task='clasifier'.*Did you mean 'classifier'"),
        (bikes, {"task": np.ones(9)}, "task is of type ndarray; expected one of .*'regressor'"),
        (bikes, {"level": "early"}, "level='early'; expected one of .*'feature'"),
        (bikes, {"kinds": {"colour": "code"}}, "no such column.*Did you mean 'color'"),
        (bikes, {"kinds": {"color": "categorie"}}, "expected one of .*Did you mean 'category'"),
        (bikes, {"file_params": {"rot": "a"}}, "Did you mean 'root'"),
        (
            lambda: pd.DataFrame({"clip": [f"{i}.wmv" for i in range(30)], "a": [*range(29), 7]}),
            {},
            re.escape("1 of 2 columns are not supported ('clip': most cells are paths of videos"),
        ),
        (lambda: bikes()[["row", "brand"]], {}, "no column of 2 is left .'row': identifier"),
    ],
)
def test_errors_name_the_value_and_the_remedy(X, keywords, message):
    with pytest.raises(ValueError, match=message):
        make_multimodal_pipeline(X(), **keywords)


def test_pipeline_is_printed_drawn_cloned_pickled_and_searched():
    X = bikes()
    pipeline = make_multimodal_pipeline(X, random_state=0)
    assert "fusiontransformer" in repr(pipeline)
    assert "parse_numbers" in estimator_html_repr(pipeline)
    assert clone(pipeline).get_params().keys() == pipeline.get_params().keys()
    words = TfidfVectorizer(analyzer="char_wb")
    pipeline.set_params(fusiontransformer__text=words)  # sparse, under fusion="weighted"
    pipeline.set_params(neuralclassifier=LogisticRegression())
    grid = {"fusiontransformer__text__ngram_range": [(1, 1), (1, 2)]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(X, Y)
    again = pickle.loads(pickle.dumps(search))
    np.testing.assert_array_equal(again.predict(X), search.predict(X))
    assert search.best_score_ > 0.9


def test_parts_weigh_the_same_in_classifiers_of_more_than_a_table():
    X, plain, equal = bikes(), ("concat", True), ("weighted", False)
    table = X.drop(columns=["title"])
    for data, task, expected in [
        (X, "classifier", equal),
        (table, "classifier", plain),
        (X, "regressor", plain),
    ]:
        fusion, head = make_multimodal_pipeline(data, task)
        assert (fusion.fusion, head.standardize) == expected


@pytest.mark.parametrize("level", ["late", "joint"])
def test_the_table_is_one_modality_at_the_other_levels(level):
    pipeline = make_multimodal_pipeline(bikes(), level=level, random_state=3)
    model = {"late": LateFusionClassifier, "joint": JointFusionClassifier}[level]
    assert isinstance(pipeline[0], model) and pipeline[0].random_state == 3
    found = parts(pipeline)
    assert list(found) == ["table", "text"]
    table, columns = found["table"]
    assert columns == ["price", "km", "used", "sold", "color"]
    assert table.fit_transform(bikes()[columns]).shape[0] == N


def test_late_regression_adds_what_each_modality_explains():
    rng = np.random.default_rng(0)
    km, color = rng.normal(size=200), rng.integers(0, 2, 200)
    names = np.array(["a plain bike of some years", "one fine scooter like a new one"])
    X = pd.DataFrame({"km": km, "bike": names[color]})
    y = km + 2 * color
    kinds = {"bike": "free text", "km": "number"}
    pipeline = make_multimodal_pipeline(X, "regressor", level="late", kinds=kinds, random_state=0)
    assert pipeline[0].fusion == "stacking"
    model = pipeline[0].set_params(text=TfidfVectorizer(), head=Ridge())
    assert model.fit(X, y).score(X, y) > 0.95
    assert model.set_params(fusion="mean").fit(X, y).score(X, y) < 0.8
    alone = make_multimodal_pipeline(X[["km"]], "regressor", level="late", kinds={"km": "number"})
    assert alone[0].fusion == "mean"


@pytest.mark.parametrize(
    "convert",
    [pl.from_pandas, lambda X: X.to_numpy(), lambda X: X.set_axis(range(5, 10), axis=1)],
    ids=["polars", "array", "numbered columns"],
)
def test_other_containers_give_the_same_features(convert):
    X = bikes()[["price", "km", "sold", "color", "used"]]
    expected = make_multimodal_pipeline(X)[0].fit_transform(X)
    other = convert(X)
    fusion = make_multimodal_pipeline(other)[0]
    np.testing.assert_array_equal(fusion.fit_transform(other), expected)
    table = make_multimodal_pipeline(other, level="joint")[0].encoders[0]
    assert len(table[2]) == 5


def test_memory_caches_the_parts(tmp_path):
    X = bikes().drop(columns="title")
    pipeline = make_multimodal_pipeline(X, memory=str(tmp_path), random_state=0)
    first = pipeline[0].fit_transform(X, Y)
    assert any(tmp_path.iterdir())
    np.testing.assert_array_equal(clone(pipeline[0]).fit_transform(X, Y), first)


def test_cells_get_the_encoder_of_their_modality(tmp_path):
    for i in range(4):
        Image.new("L", (8, 8)).save(tmp_path / f"{i}.png")
        wavfile.write(tmp_path / f"{i}.wav", 8000, np.zeros(80, np.int16))
    X = pd.DataFrame({"photo": [f"{i}.png" for i in range(4)]})
    X["clip"] = [f"{i}.wav" for i in range(4)]
    content = (tmp_path / "0.wav").read_bytes()
    X["bytes"] = [{"bytes": content, "path": None}, {"bytes": None, "path": "1.wav"}] * 2
    X["rooted"] = FileArray([f"{i}.wav" for i in range(4)], root=tmp_path)
    X["sound"] = TensorArray([np.zeros(9 + i, np.float32) for i in range(4)], sample_rate=4000)
    X["cloud"] = TensorArray([np.zeros((5 + i, 3), np.float32) for i in range(4)])
    X["gestures"] = TensorArray([np.zeros((5 + i, 6), np.float32) for i in range(4)])
    X["video"] = TensorArray([np.zeros((5 + i, 8, 8), np.uint8) for i in range(4)])
    X["embedding"] = TensorArray(np.eye(4, dtype=np.float32))
    with pytest.warns(UserWarning, match=r"'cloud' is read as point clouds.*'sequences'}"):
        make_multimodal_pipeline(X, file_params={"root": str(tmp_path)})
    kinds = {"cloud": "point clouds"}  # silences the warning
    found = parts(make_multimodal_pipeline(X, kinds=kinds, file_params={"root": str(tmp_path)}))
    photo, clip, sound = found["image"][0], found["audio_clip"][0], found["audio_sound"][0]
    assert isinstance(photo, ImageEncoder) and photo.file_params == {"root": str(tmp_path)}
    assert isinstance(clip, AudioEncoder) and clip.sample_rate == 8000 and clip.resample
    assert found["audio_bytes"][0].sample_rate == found["audio_rooted"][0].sample_rate == 8000
    assert sound.sample_rate == 4000 and not sound.resample
    assert isinstance(found["point_cloud"][0], PointCloudEncoder)
    assert isinstance(found["sequence"][0], SequenceEncoder)
    assert isinstance(found["video"][0], VideoEncoder)
    fusion = FusionTransformer([("vector", *found["vector"])])
    assert fusion.fit_transform(X).shape == (4, 4)


# ------------------------------------------------------------------------------ recipes


@pytest.mark.slow
@pytest.mark.parametrize(
    "head",
    [
        HistGradientBoostingClassifier(max_iter=20),
        RandomForestClassifier(50, random_state=0),
        RidgeClassifier(),
        SVC(),
        make_pipeline(StandardScaler(), LogisticRegression()),
    ],
    ids=lambda head: type(head).__name__,
)
def test_any_estimator_may_follow(head):
    pipeline = make_multimodal_pipeline(bikes(), random_state=0)
    pipeline.set_params(neuralclassifier=head, fusiontransformer__text__max_epochs=2)
    assert cross_val_score(pipeline, bikes(), Y, cv=3).mean() > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classifier", "regressor"])
@pytest.mark.parametrize("level", ["feature", "late", "joint"])
def test_every_level_learns(level, task):
    X = bikes()
    y = Y if task == "classifier" else (Y == "yes") * 10 + np.arange(N) % 3
    pipeline = make_multimodal_pipeline(X, task, level=level, random_state=0)
    few = {"max_epochs": 12, "early_stopping": False}
    models = [pipeline[-1], *(part for part, _ in parts(pipeline).values())]
    for model in models[:1] if level == "joint" else models:
        model.set_params(**{k: v for k, v in few.items() if k in model.get_params()})
    pipeline.fit(X[:40], y[:40])
    assert pipeline.score(X[40:], y[40:]) > 0.8
    again = clone(pipeline).fit(X[:40], y[:40])
    np.testing.assert_array_equal(again.predict(X), pipeline.predict(X))


def test_head_of_the_feature_level_is_a_network():
    pipeline = make_multimodal_pipeline(bikes(), random_state=5)
    assert isinstance(pipeline[-1], NeuralClassifier) and pipeline[-1].random_state == 5
