"""Triples: checking, column selection, presence, seeds, parameters handed on."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler, TargetEncoder
from torch import nn

from sklearn_mmfusion._columns import column_names, gathered, locate, resolve, select_rows
from sklearn_mmfusion._routing import accepted_fit_params, take_params, take_rows
from sklearn_mmfusion._triples import (
    TripleComposition,
    check_triples,
    child_seed,
    root_seed,
    seeded_clone,
    wants_column,
)
from sklearn_mmfusion.compose import FusionTransformer
from sklearn_mmfusion.containers import TensorArray, multimodal_frame
from sklearn_mmfusion.containers.conversion import as_table


class Owner(TripleComposition):
    def __init__(self, transformers=None, *, flag=1):
        self.transformers = transformers
        self.flag = flag


class CellEncoder(TransformerMixin, BaseEstimator):
    wants_column = True

    def fit(self, X, y=None, sample_weight=None, groups=None):
        return self

    def transform(self, X):
        return np.array([[np.mean(cell)] for cell in X])


def resolved(column, X, *, as_series=False):
    return resolve(("m", None, column), X, column_names(X), "Owner", as_series=as_series)


def select(X, selection, where=None):
    data, present = select_rows(X, selection, where)
    return gathered(data), present


@pytest.fixture
def frame():
    return multimodal_frame(
        image=[*np.arange(12.0).reshape(3, 2, 2), None],
        vector=[[1.0, 2.0], None, [3.0, 4.0], [5.0, 6.0]],
        text=["a", None, "c", ""],
        age=[1.0, 2.0, np.nan, 4.0],
    )


# ------------------------------------------------------------------------------ triples


@pytest.mark.parametrize(
    ("triples", "error", "match"),
    [
        ([], ValueError, "non-empty list of .name, estimator, column. triples, got"),
        ([("a", PCA())], ValueError, "every element of transformers must be a .* triple"),
        ([("a b", PCA(), 0)], ValueError, "the name 'a b'; a name must be an identifier"),
        ([("a__b", PCA(), 0)], ValueError, "the name 'a__b'; a name must be an identifier"),
        ([(3, PCA(), 0)], ValueError, "the name 3; a name must be an identifier"),
        ([("self", PCA(), 0)], ValueError, "the name 'self' is reserved by scikit-learn"),
        ([("method_mapping", PCA(), 0)], ValueError, "'method_mapping' is reserved"),
        ([("flag", PCA(), 0)], ValueError, "the name 'flag' is a parameter of Owner itself"),
        ([("a", PCA(), 0), ("a", PCA(), 1)], ValueError, r"must be unique, got \['a'\]"),
        ([("a", "pass", 0)], ValueError, "has 'pass'; expected an estimator or 'passthrough'"),
        ([("a", PCA, 0)], TypeError, "has the class PCA; expected an instance, PCA()"),
        ([("a", object(), 0)], TypeError, r"does not implement fit and transform; .* or 'drop'\.$"),
        ([("a", nn.ReLU(), 0)], TypeError, r"'drop'\. To train a network, .*: module=ReLU\.$"),
        (
            [("a", None, 0)],
            TypeError,
            "'a' has None, which does not implement fit and transform; expected.*or 'drop'",
        ),
    ],
)
def test_malformed_triples_are_refused(triples, error, match):
    with pytest.raises(error, match=match):
        check_triples(triples, Owner())


def test_parameters_are_reached_and_replaced_by_name():
    owner = Owner([("a", PCA(), "x"), ("b", PCA(n_components=2), "y")])
    owner.set_params(a__n_components=5, b=StandardScaler())
    assert owner.get_params()["a__n_components"] == 5
    assert isinstance(owner.transformers[1][1], StandardScaler)
    assert [column for *_, column in owner.transformers] == ["x", "y"]


def test_set_params_takes_new_triples_before_their_parameters():
    owner = Owner([("a", PCA(), "x")])
    owner.set_params(transformers=[("c", PCA(), "z")], c__n_components=3)
    assert owner.get_params()["c"].n_components == 3


def test_malformed_triples_do_not_break_parameters():
    owner = Owner([("a", PCA())])
    assert owner.get_params()["flag"] == 1
    assert "Owner" in repr(owner)


# ------------------------------------------------------------------------------ columns


@pytest.mark.parametrize(
    ("column", "positions", "single"),
    [
        ("text", (2,), True),
        (1, (1,), True),
        (-1, (3,), True),
        (np.int64(0), (0,), True),
        (["age", "text"], (3, 2), False),
        ([0, -1], (0, 3), False),
        (slice(1, 3), (1, 2), False),
        (slice("vector", "age"), (1, 2, 3), False),
        ([False, True, False, True], (1, 3), False),
        (np.array([True, False, False, False]), (0,), False),
        (pd.Index(["age"]), (3,), False),
        ([], (), False),
        (lambda X: [c for c in X.columns if c == "age"], (3,), False),
        (lambda X: "age", (3,), True),
    ],
)
def test_columns_resolve(frame, column, positions, single):
    selection = resolved(column, frame)
    assert selection.positions == positions
    assert selection.single is single
    assert selection.labels == tuple(frame.columns[list(positions)])


def test_a_list_of_one_column_of_cells_is_that_modality_for_an_encoder(frame):
    assert resolved(["image"], frame, as_series=True).single
    assert not resolved(["image"], frame, as_series=False).single
    assert not resolved(["age"], frame, as_series=True).single


@pytest.mark.parametrize(
    ("column", "error", "match"),
    [
        ("clip", ValueError, "Owner: modality 'm': column 'clip' is not in X, which has .*'image'"),
        (7, ValueError, "column 7 is out of range: X has 4 columns"),
        ([True, False], ValueError, "the mask has 2 entries, X has 4 columns"),
        (1.5, TypeError, "column is 1.5; expected a string, an integer"),
        ([1.5], TypeError, "column 1.5 is neither a string nor an integer"),
    ],
)
def test_bad_columns_are_refused(frame, column, error, match):
    with pytest.raises(error, match=match):
        resolved(column, frame)


def test_a_name_needs_named_columns():
    with pytest.raises(ValueError, match="column 'a' is given by name, but X has no column names"):
        resolved("a", np.eye(3))


def test_tables_of_all_kinds():
    polars = pytest.importorskip("polars")
    assert as_table(polars.DataFrame({"a": [1, 2], "b": ["x", None]}))["b"].isna().tolist() == [
        False,
        True,
    ]
    nested = as_table(polars.DataFrame({"v": [[1.0, 2.0], None]}))
    assert isinstance(nested["v"].array, TensorArray)
    assert as_table([[1, 2], [3, 4]]).dtype.kind == "i"
    assert as_table([[1, "a"], [3, "b"]])[0, 0] == 1


@pytest.mark.parametrize(
    ("X", "match"),
    [
        (pd.DataFrame({"a": []}), "Found a frame with 0 sample"),
        (pd.DataFrame(index=[0, 1]), "Found a frame with 0 feature"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), r"more than one column called \['a'\]"),
        ([1, 2, 3], "Expected 2D array, got 1D array"),
    ],
)
def test_bad_tables_are_refused(X, match):
    with pytest.raises(ValueError, match=match):
        as_table(X)


def test_columns_are_located_by_name_in_any_order_among_others(frame):
    other = frame.assign(new=1)[["new", "age", "image", "text"]]
    table, where = locate(other, frame.columns.to_numpy(), 4, "Owner")
    assert table is other
    assert where.tolist() == [2, -1, 3, 1]


def test_columns_are_located_by_position_without_names(frame):
    with pytest.warns(UserWarning, match="X does not have valid feature names, but Owner was"):
        table, where = locate(frame.to_numpy(), frame.columns.to_numpy(), 4, "Owner")
    assert where.tolist() == [0, 1, 2, 3]
    assert list(table.columns) == list(frame.columns)
    with pytest.warns(UserWarning, match="X has feature names, but Owner was fitted without"):
        table, where = locate(frame, None, 4, "Owner")
    assert column_names(table) is None
    with pytest.raises(ValueError, match="X has 3 features, but Owner is expecting 4 features"):
        locate(np.eye(3), None, 4, "Owner")


# ------------------------------------------------------------------------------ presence


def test_a_single_column_gives_its_present_rows(frame):
    data, present = select(frame, resolved("vector", frame))
    np.testing.assert_array_equal(data, [[1, 2], [3, 4], [5, 6]])
    assert present.tolist() == [True, False, True, True]
    text, present = select(frame, resolved("text", frame))
    assert text.tolist() == ["a", "c", ""]  # an empty text is a text
    assert present.tolist() == [True, False, True, True]


def test_an_encoder_gets_the_series_with_its_dtype(frame):
    data, _ = select_rows(frame, resolved("image", frame, as_series=True))
    assert isinstance(data.array, TensorArray)
    assert data.dtype == frame["image"].dtype
    assert data.index.tolist() == [0, 1, 2]


def test_a_list_gives_all_rows_with_their_gaps(frame):
    data, present = select(frame, resolved(["age", "text"], frame))
    assert present.all()
    assert data["age"].isna().sum() == 1


def test_object_columns_become_cells(frame):
    objects = frame.to_numpy(dtype=object)
    data, present = select(objects, resolved(1, objects))
    np.testing.assert_array_equal(data, [[1, 2], [3, 4], [5, 6]])
    assert present.tolist() == [True, False, True, True]


def test_objects_of_other_kinds_are_left_to_the_transformer():
    X = pd.DataFrame({"d": [{"a": 1}, None, {"b": 2}]})
    data, present = select(X, resolved("d", X))
    assert data.tolist() == [{"a": 1}, {"b": 2}]
    assert present.tolist() == [True, False, True]
    with pytest.raises(TypeError, match="column 'd'"):
        select_rows(X, resolved("d", X, as_series=True))


def test_absent_columns_select_nothing_and_gaps(frame):
    there = frame[["text"]]
    _, where = locate(there, frame.columns.to_numpy(), 4, "Owner")
    data, present = select(there, resolved("image", frame), where)
    assert data is None
    assert not present.any()
    table, present = select(there, resolved(["age", "text"], frame), where)
    assert table["age"].isna().all()
    assert list(table.columns) == ["age", "text"]
    assert present.all()


class ArrayTransformer(TransformerMixin, BaseEstimator):
    """One of another package, which takes arrays (n, height, width) and has the tag."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X.reshape(len(X), -1).mean(axis=1, keepdims=True)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


def test_a_transformer_of_arrays_gets_an_array_whatever_its_tags():
    images = np.random.default_rng(0).random((6, 4, 4))
    fused = FusionTransformer([("image", ArrayTransformer(), "image")])
    X_t = fused.fit_transform(multimodal_frame(image=images))
    np.testing.assert_allclose(X_t[:, 0], images.mean(axis=(1, 2)), rtol=1e-6)


def test_encoders_want_a_column_inside_pipelines_and_frozen_too():
    encoder = CellEncoder()
    assert wants_column(encoder)
    assert wants_column(make_pipeline(encoder, StandardScaler()))
    assert wants_column(Pipeline([("skip", "passthrough"), ("e", encoder)]))
    assert wants_column(FrozenEstimator(make_pipeline(encoder)))
    assert not wants_column(make_pipeline(StandardScaler(), encoder))
    assert not wants_column(Pipeline([("skip", "passthrough")]))
    assert not wants_column("passthrough")


# ------------------------------------------------------------------------------ seeds, parameters


def test_seeds_depend_on_seed_and_name_only():
    assert child_seed(0, "image") != child_seed(0, "text")
    assert child_seed(0, "image") != child_seed(1, "image")
    assert child_seed(0, "image") == 1077193163  # in every process: hash() would differ


def test_root_seed():
    assert root_seed(None) is None
    assert root_seed(3) == 3
    assert root_seed(np.random.RandomState(0)) == root_seed(np.random.RandomState(0))


def test_seeded_clone_sets_nested_states_of_a_clone_only():
    pipe = make_pipeline(TruncatedSVD(), PCA(random_state=1))
    child = seeded_clone(pipe, 0, "image")
    seeds = [child[0].random_state, child[1].random_state]
    assert all(isinstance(seed, int) for seed in seeds)
    assert seeds[0] != seeds[1]
    assert (pipe[0].random_state, pipe[1].random_state) == (None, 1)
    assert seeded_clone(pipe, None, "image")[1].random_state == 1
    frozen = FrozenEstimator(pipe)
    assert seeded_clone(frozen, 0, "image") is frozen


def test_fit_params_go_where_they_are_accepted():
    params = {"sample_weight": [1], "groups": [2]}
    assert accepted_fit_params(CellEncoder(), params) == params
    assert accepted_fit_params(StandardScaler(), params) == {"sample_weight": [1]}
    assert accepted_fit_params(PCA(), params) == {}
    assert accepted_fit_params(make_pipeline(CellEncoder(), PCA()), params) == {
        "cellencoder__sample_weight": [1],
        "cellencoder__groups": [2],
    }
    assert accepted_fit_params("passthrough", params) == {}
    assert accepted_fit_params(FrozenEstimator(CellEncoder()), params) == {}


def test_rows_and_params_follow_presence():
    present = np.array([True, False, True])
    assert list(take_rows(["a", "b", "c"], present)) == ["a", "c"]
    assert take_rows(None, present) is None
    assert take_rows(pd.Series([1, 2, 3]), present).tolist() == [1, 3]
    taken = take_params({"sample_weight": [1, 2, 3], "flag": True}, present)
    assert list(taken["sample_weight"]) == [1, 3]
    assert taken["flag"] is True


@pytest.mark.parametrize("target_type", ["continuous", "binary"])
def test_folds_of_a_target_encoder_are_seeded_and_cached(target_type, tmp_path):
    # since scikit-learn 1.9, the encoder's own seed is deprecated, and setting it warns
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"city": rng.integers(0, 5, 80).astype(str)})
    y = rng.integers(0, 2, 80)
    encoder = make_pipeline(TargetEncoder(target_type=target_type))
    triples = [("city", encoder, ["city"])]

    def encoded(seed, memory=None):
        fusion = FusionTransformer(triples, random_state=seed, memory=memory)
        return fusion.fit_transform(X, y)

    np.testing.assert_array_equal(encoded(0), encoded(0))
    assert (encoded(0) != encoded(1)).any()
    np.testing.assert_array_equal(encoded(0, str(tmp_path)), encoded(0))
    with pytest.warns(UserWarning, match="has no seed"):
        encoded(None, str(tmp_path))
