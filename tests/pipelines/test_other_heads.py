"""Recipes: other estimators after the fusion, and skrub's parts for tables."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_mmfusion import (
    FusionTransformer,
    JointFusionClassifier,
    LateFusionClassifier,
    NeuralClassifier,
)

N = 90
Y = np.array(["ash", "elm", "oak"])[np.arange(N) % 3]
NUMBERS, TABLE = ["price", "weight"], ["price", "weight", "city", "sold"]


def data():
    """Texts that agree with Y and a table, with missing cells in both."""
    rng = np.random.default_rng(0)
    which = np.arange(N) % 3
    words = np.array(["small fast", "large slow", "old heavy"])[which]
    X = pd.DataFrame({"text": [f"{w} bike of {rng.integers(9)} towns" for w in words]})
    X["price"] = 3.0 * which + rng.normal(size=N)
    X["weight"] = rng.normal(size=N)
    X["city"] = rng.choice(["Oslo", "Rome", "Bonn"], N)
    X["sold"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 300, N), "D")
    X.loc[::7, "text"], X.loc[::5, "weight"], X.loc[::11, "city"] = None, np.nan, None
    return X


def topics():
    return make_pipeline(TfidfVectorizer(), TruncatedSVD(4))


def imputed():
    return make_pipeline(SimpleImputer(), StandardScaler())


def triples(text, numbers):
    return [("text", text, "text"), ("numbers", numbers, NUMBERS)]


def catboost():
    module = pytest.importorskip("catboost")
    params = {"iterations": 20, "verbose": 0, "allow_writing_files": False, "thread_count": 1}
    return module.CatBoostClassifier(**params)


def check_head(text, numbers, head, widths):
    """Cross-validate, search, clone and pickle a pipeline with a head."""
    X = data()
    model = make_pipeline(FusionTransformer(triples(text, numbers), random_state=0), head)
    assert cross_val_score(model, X, Y, cv=2, error_score="raise").min() > 0.7
    grid = {f"fusiontransformer__text__{name}": values for name, values in widths.items()}
    search = GridSearchCV(clone(model), grid, cv=2, error_score="raise").fit(X, Y)
    assert set(search.classes_) == set(Y)
    predicted = search.predict(X).ravel()
    assert (predicted == Y).mean() > 0.8
    again = pickle.loads(pickle.dumps(search))
    np.testing.assert_array_equal(again.predict(X).ravel(), predicted)


@pytest.mark.parametrize(
    "head",
    [RandomForestClassifier(5, random_state=0), LogisticRegression()],
    ids=lambda head: type(head).__name__,
)
def test_head_on_sparse_words(head):
    check_head(TfidfVectorizer(), imputed(), head, {"binary": [False, True]})


def test_boosted_trees_take_dense_features_with_nan():
    head = HistGradientBoostingClassifier(max_iter=5)
    check_head(topics(), "passthrough", head, {"truncatedsvd__n_components": [2, 4]})
    sparse = make_pipeline(FusionTransformer(triples(TfidfVectorizer(), "passthrough")), head)
    with pytest.raises(TypeError, match="Sparse data was passed"):
        sparse.fit(data(), Y)


def test_late_fusion_takes_other_heads():
    X, head = data(), HistGradientBoostingClassifier(max_iter=5)
    late = LateFusionClassifier(triples(topics(), imputed()), head=head, random_state=0)
    assert cross_val_score(late, X, Y, cv=2, error_score="raise").min() > 0.7
    late.set_params(text=TfidfVectorizer())
    with pytest.raises(TypeError, match="Sparse data was passed") as raised:
        late.fit(X, Y)
    assert raised.value.__notes__ == [
        "Raised while fitting modality 'text' of LateFusionClassifier."
    ]


# ------------------------------------------------------------------------------ other packages


@pytest.mark.slow
def test_catboost_on_sparse_words_and_nan():
    check_head(TfidfVectorizer(), "passthrough", catboost(), {"binary": [False, True]})


@pytest.mark.slow
def test_catboost_per_modality_of_late_fusion():
    parts = triples(TfidfVectorizer(), "passthrough")
    late = LateFusionClassifier(parts, head=catboost(), random_state=0)
    fitted = late.fit(data(), Y)
    assert fitted.predict(data()).shape == (N,)  # CatBoost's own are (N, 1)
    assert fitted.score(data(), Y) > 0.8


@pytest.mark.slow
def test_catboost_predicts_numbers():
    regressor = pytest.importorskip("catboost").CatBoostRegressor(
        iterations=50, verbose=0, allow_writing_files=False, thread_count=1
    )
    fusion = FusionTransformer(triples(topics(), "passthrough"), random_state=0)
    y = (np.arange(N) % 3).astype(float)
    assert cross_val_score(make_pipeline(fusion, regressor), data(), y, cv=2).min() > 0.6


@pytest.mark.slow
@pytest.mark.parametrize("level", ["feature", "late", "joint"])
def test_skrub_reads_the_table_at_every_level(level):
    table = make_pipeline(pytest.importorskip("skrub").TableVectorizer(), SimpleImputer())
    parts = [("text", TfidfVectorizer(), "text"), ("table", table, TABLE)]
    X, few = data(), {"max_epochs": 10, "random_state": 0}
    if level == "feature":
        model = make_pipeline(FusionTransformer(parts), NeuralClassifier(**few))
        prefix = "fusiontransformer__"
    elif level == "late":
        model, prefix = LateFusionClassifier(parts, head=NeuralClassifier(**few)), ""
    else:
        model, prefix = JointFusionClassifier(parts, **few), ""
    assert cross_val_score(model, X, Y, cv=2, error_score="raise").min() > 0.7
    grid = {f"{prefix}table__tablevectorizer__drop_null_fraction": [0.5, 1.0]}
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(X, Y)
    assert search.predict(X).shape == (N,)


@pytest.mark.slow
def test_skrub_reads_a_table_not_a_column():
    table = pytest.importorskip("skrub").TableVectorizer()
    fusion = FusionTransformer([("table", table, "price")])
    with pytest.raises(TypeError, match="Only pandas and polars DataFrames") as raised:
        fusion.fit(data(), Y)
    assert "takes a list of columns: ['price']" in raised.value.__notes__[0]
    wide = FusionTransformer([("table", table, TABLE)]).fit(data(), Y)
    assert "table__sold_month" in wide.get_feature_names_out()
