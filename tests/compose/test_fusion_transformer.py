"""FusionTransformer: what it computes, on complete data and with absent rows."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_mmfusion.compose import FusionTransformer
from sklearn_mmfusion.cross_decomposition import GCCA, MCCA, MFA, BlockPooling, BlockWhitening
from tests._fusion_data import (
    NAMES,
    TRIPLES,
    hide,
    make_X,
    masked,
    masks,
    pass_both,
    two_vectors,
)

FUSIONS = ["concat", "weighted", "whitened", "sum", "mean", "max", "mfa", "mcca", "gcca"]
POOLED = FUSIONS[3:6]
APART = [("a", StandardScaler(), slice(0, 1)), ("b", StandardScaler(), slice(1, None))]
ALIKE = [("a", StandardScaler(), slice(None)), ("b", MinMaxScaler(), slice(None))]


@pytest.mark.slow  # the fast tests check a FusionTransformer in tests/test_common.py
@parametrize_with_checks(
    [FusionTransformer(ALIKE if fusion in POOLED else APART, fusion=fusion) for fusion in FUSIONS]
    + [
        FusionTransformer(APART, fusion=BlockWhitening(), missing="zero", add_indicator=True),
        FusionTransformer(APART, missing="impute"),
    ]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


# ------------------------------------------------------------------------------ complete data


def test_concat_equals_column_transformer():
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(30, 4)), columns=list("pqrs"))
    triples = [
        ("scale", StandardScaler(), ["p", "q"]),
        ("keep", "passthrough", ["r"]),
        ("out", "drop", ["s"]),
        ("pca", PCA(1), make_column_selector(pattern="[ps]")),
    ]
    mine, theirs = FusionTransformer(triples), ColumnTransformer(triples)
    np.testing.assert_allclose(mine.fit_transform(X), theirs.fit_transform(X), rtol=1e-6)
    assert mine.get_feature_names_out().tolist() == theirs.get_feature_names_out().tolist()
    shared = {name: mine.output_indices_[name] for name in ["scale", "keep", "out", "pca"]}
    assert shared == {k: v for k, v in theirs.output_indices_.items() if k != "remainder"}


@pytest.mark.parametrize("remainder", ["passthrough", MinMaxScaler()])
def test_remainder_equals_column_transformer(remainder):
    X = np.random.default_rng(0).normal(size=(30, 4))
    triples = [("scale", StandardScaler(), [2, 0])]
    mine = FusionTransformer(triples, remainder=remainder).fit(X)
    theirs = ColumnTransformer(triples, remainder=remainder).fit(X)
    np.testing.assert_allclose(mine.transform(X), theirs.transform(X), rtol=1e-6)
    assert mine.output_indices_ == theirs.output_indices_
    assert mine.get_feature_names_out().tolist() == theirs.get_feature_names_out().tolist()
    assert mine.transformers_[-1][0] == "remainder"


@pytest.mark.parametrize("fusion", FUSIONS)
def test_fit_then_transform_equals_fit_transform(fusion):
    X, y = masked(make_X(), masks()), np.arange(24) % 2
    fused = FusionTransformer(TRIPLES, fusion=fusion, random_state=0, add_indicator=True)
    both = clone(fused).fit_transform(X, y)
    assert both.dtype == np.float32
    assert np.isfinite(both).all()
    np.testing.assert_allclose(fused.fit(X, y).transform(X), both, rtol=1e-5, atol=1e-6)
    assert fused.named_transformers_["image"].fit_transformed_


def test_all_forms_of_x_give_the_same_features():
    polars = pytest.importorskip("polars")
    X = masked(make_X(), masks())
    expected = FusionTransformer(TRIPLES, random_state=0).fit_transform(X)
    objects = pd.DataFrame({name: X[name].astype(object) for name in X})
    by_position = [(n, t, [4, 5] if n == "table" else i) for i, (n, t, _) in enumerate(TRIPLES)]
    nested = {
        name: [None if isinstance(cell, float) else cell.tolist() for cell in objects[name]]
        for name in ["image", "audio", "vector"]
    }
    text = [None if pd.isna(cell) else cell for cell in X["text"]]
    frame = polars.DataFrame(
        {**nested, "text": text, "age": X["age"].to_numpy(), "height": X["height"].to_numpy()}
    )
    for triples, data in [(TRIPLES, objects), (by_position, objects.to_numpy()), (TRIPLES, frame)]:
        out = FusionTransformer(triples, random_state=0).fit_transform(data)
        np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------------------ absent rows


@given(seed=st.integers(0, 99))
def test_transformers_see_present_rows_and_the_mean_stands_for_absent_ones(seed):
    X, mask = make_X(), masks(seed=seed)
    y, weight = np.arange(24), np.arange(1, 25) / 24
    fused = FusionTransformer(TRIPLES, random_state=0)
    X_t = fused.fit_transform(masked(X, mask), y, sample_weight=weight, groups=list(y))
    image = fused.named_transformers_["image"]
    for given_, seen in [(y, "y"), (weight, "sample_weight"), (y, "groups")]:
        np.testing.assert_array_equal(image.seen_[seen], given_[mask["image"]])
    for name, transformer, column in TRIPLES[:4]:
        rows, slot = mask[name], fused.output_indices_[name]
        alone = FusionTransformer([(name, transformer, column)], random_state=0)
        expected = alone.fit_transform(X[rows].reset_index(drop=True))
        np.testing.assert_allclose(X_t[rows, slot], expected, rtol=1e-4, atol=1e-6)
        mean = np.broadcast_to(expected.mean(axis=0), X_t[~rows, slot].shape)
        np.testing.assert_allclose(X_t[~rows, slot], mean, rtol=1e-4, atol=1e-6)


def test_zero_stands_for_absent_rows_and_indicators_tell():
    X, mask = make_X(), masks()
    fused = FusionTransformer(TRIPLES, missing="zero", add_indicator=True)
    X_t = fused.fit_transform(masked(X, mask))
    assert list(fused.get_feature_names_out()[-5:]) == [
        f"missingindicator_{name}" for name in [*NAMES, "table"]
    ]
    for name in NAMES:
        assert not X_t[~mask[name], fused.output_indices_[name]].any()
        flags = X_t[:, fused.output_indices_[f"missingindicator_{name}"]].ravel()
        np.testing.assert_array_equal(flags, ~mask[name])


def test_fill_values_ignore_rows_of_weight_zero():
    X, kept = hide(two_vectors(), b=[2, 5]), np.arange(20) % 4 > 0
    fused = pass_both().fit(X, sample_weight=kept)
    without = pass_both().fit(X[kept])
    np.testing.assert_array_equal(fused.transform(X), without.transform(X))
    assert (fused.transform(X) != pass_both().fit(X).transform(X)).any()


def test_error_refuses_absent_rows():
    X = two_vectors()
    fused = pass_both(missing="error").fit(X)
    with pytest.raises(ValueError, match=r"'b' is absent in 2 of 20 rows \(first \[2, 5\]\)"):
        fused.transform(hide(X, b=[2, 5]))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_row_with_nothing_warns_and_is_finite(fusion):
    X = hide(two_vectors(), a=[3], b=[3])
    with pytest.warns(UserWarning, match=r"1 of 20 rows have no modality present \(first \[3\]\)"):
        X_t = pass_both(fusion=fusion).fit_transform(X)
    assert np.isfinite(X_t).all()
    if fusion == "concat":
        np.testing.assert_allclose(X_t[3], X_t[np.arange(20) != 3].mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize("fusion", POOLED)
@given(seed=st.integers(0, 999))
def test_pooling_with_a_modality_masked_equals_the_fusion_without_it(fusion, seed):
    X = two_vectors().assign(c=two_vectors(seed=1)["a"])
    triples = [(name, StandardScaler(), name) for name in "abc"]
    X = hide(X, a=np.random.default_rng(seed).random(20) < 0.3)
    fitted = FusionTransformer(triples, fusion=fusion).fit(X)
    without = FusionTransformer(triples[:2], fusion=fusion).fit(X)
    hidden = hide(X, c=np.ones(20, dtype=bool))
    np.testing.assert_array_equal(fitted.transform(hidden), without.transform(X[["a", "b"]]))


def test_columns_at_transform_any_order_any_others_some_absent():
    X = make_X()
    fused = FusionTransformer(TRIPLES, random_state=0).fit(X)
    expected = fused.transform(X)
    shuffled = X.assign(new="?")[["new", *reversed(X.columns)]]
    np.testing.assert_array_equal(fused.transform(shuffled), expected)
    with pytest.warns(UserWarning, match=r"X lacks columns seen in fit.*\{'audio': \['audio'\]\}"):
        without = fused.transform(X.drop(columns="audio"))
    slot = fused.output_indices_["audio"]
    np.testing.assert_allclose(without[:, slot] - fused.fill_values_["audio"], 0, atol=1e-6)
    np.testing.assert_array_equal(without[:, slot.stop :], expected[:, slot.stop :])


def test_gaps_of_a_table_are_left_to_its_imputer():
    X = make_X()
    X.loc[4, "age"] = np.nan
    triples = [("table", SimpleImputer(), ["age", "height"])]
    assert np.isfinite(FusionTransformer(triples).fit_transform(X)).all()
    raw = [("table", "passthrough", ["age", "height"])]
    assert np.isnan(FusionTransformer(raw).fit_transform(X)).sum() == 1
    with pytest.raises(ValueError, match="block 'table' contains NaN or infinity in row 4"):
        FusionTransformer(raw, fusion="weighted").fit(X)


# ------------------------------------------------------------------------------ fusions


def test_weighted_takes_weights_and_keeps_names():
    X = two_vectors()
    fused = pass_both(fusion="weighted", fusion_params={"weights": {"b": 3.0}}).fit(X)
    variance = [fused.transform(X)[:, fused.output_indices_[m]].var(axis=0).sum() for m in "ab"]
    np.testing.assert_allclose(variance, [1, 9], rtol=1e-5)
    assert fused.get_feature_names_out()[-1] == "b__2"


def test_whitened_blocks_have_unit_covariance_and_own_slices():
    X = two_vectors()
    fused = pass_both(fusion="whitened", fusion_params={"n_components": 2}).fit(X)
    for slot in [fused.output_indices_["a"], fused.output_indices_["b"]]:
        np.testing.assert_allclose(np.cov(fused.transform(X)[:, slot].T), np.eye(2), atol=1e-5)
    names = ["a__whitened0", "a__whitened1", "b__whitened0", "b__whitened1"]
    assert fused.get_feature_names_out().tolist() == names
    fused.set_params(verbose_feature_names_out=False)
    assert fused.get_feature_names_out().tolist() == [f"whitened{i}" for i in range(4)]


@pytest.mark.parametrize(
    ("fusion", "params", "names"),
    [
        ("mfa", {"n_components": 2}, ["mfa0", "mfa1"]),
        ("mcca", {"n_components": 1}, ["a__mcca0", "b__mcca0"]),
        ("mcca", {"n_components": 1, "average": True}, ["mcca0"]),
        ("gcca", {"n_components": 1, "shrinkage": 0.5}, ["a__gcca0", "b__gcca0"]),
        ("gcca", {"n_components": 2, "average": True}, ["gcca0", "gcca1"]),
    ],
)
def test_joint_fusions_are_their_transformers_and_name_their_features(fusion, params, names):
    X = hide(two_vectors(), a=[2], b=[5, 6])
    fused = pass_both(fusion=fusion, fusion_params=params).set_output(transform="pandas").fit(X)
    X_t = fused.transform(X)
    assert X_t.columns.tolist() == names
    alone = {"mfa": MFA, "mcca": MCCA, "gcca": GCCA}[fusion](**params).fit(X)
    np.testing.assert_allclose(X_t, alone.transform(X), rtol=1e-5, atol=1e-6)
    assert fused.output_indices_ == alone.output_indices_
    fused.set_params(verbose_feature_names_out=False)
    assert fused.get_feature_names_out().tolist() == [f"{fusion}{i}" for i in range(len(names))]


@pytest.mark.parametrize("fusion", POOLED)
def test_pooled_modalities_share_their_output(fusion):
    X = two_vectors()
    fused = pass_both(fusion=fusion, verbose_feature_names_out=False).fit(X)
    stack = np.stack([X["a"].array.gather(), X["b"].array.gather()])
    np.testing.assert_allclose(fused.transform(X), getattr(np, fusion)(stack, axis=0), rtol=1e-6)
    assert fused.get_feature_names_out().tolist() == [f"{fusion}{i}" for i in range(3)]
    assert fused.output_indices_ == {"a": slice(0, 3), "b": slice(0, 3)}


class FrameSpy(TransformerMixin, BaseEstimator):
    def __init__(self, value=0.0, random_state=None):
        self.value = value
        self.random_state = random_state

    def fit(self, X, y=None):
        self.X_ = X
        return self

    def transform(self, X):
        return np.full((len(X), 2), self.value)


def test_a_fusion_object_gets_blocks_with_na_and_is_cloned_and_seeded():
    X = masked(make_X(), masks())
    spy = FrameSpy()
    fused = FusionTransformer(TRIPLES, fusion=spy, random_state=0).fit(X)
    blocks = fused.fusion_.X_
    assert list(blocks) == [name for name, *_ in TRIPLES]
    assert [blocks[name].array.dtype.cell_shape for name in blocks] == [(2,)] * 5
    np.testing.assert_array_equal(blocks[NAMES].isna(), X[NAMES].isna())
    assert not hasattr(spy, "X_")
    assert fused.fusion_.random_state is not None
    assert fused.get_feature_names_out().tolist() == ["framespy0", "framespy1"]
    assert fused.output_indices_["text"] == slice(0, 2)
    assert fused.get_params()["fusion__value"] == 0.0


def test_bad_fusion_objects_are_explained():
    X = two_vectors()
    with pytest.raises(ValueError, match="returned NaN in 20 of 20 rows"):
        pass_both(fusion=FrameSpy(np.nan)).fit(X)
    with pytest.raises((TypeError, ValueError)) as caught:
        pass_both(fusion=StandardScaler()).fit(X)
    assert "one column of 1-D cells per modality" in caught.value.__notes__[0]
    with pytest.raises(ValueError, match="fusion_params=.* is for a fusion given by name"):
        pass_both(fusion=BlockPooling(), fusion_params={"method": "sum"}).fit(X)


def test_bad_fusion_parameters_are_refused():
    X = two_vectors()
    with pytest.raises(ValueError, match=r"takes \['n_components'\], got .* with \['rank'\]"):
        pass_both(fusion="whitened", fusion_params={"rank": 2}).fit(X)
    with pytest.raises(ValueError, match=r"'sum'\) takes no parameters, got .* \['method'\]"):
        pass_both(fusion="sum", fusion_params={"method": "max"}).fit(X)
    with pytest.raises(ValueError, match="'fusion' parameter of FusionTransformer must be"):
        pass_both(fusion="tensor").fit(X)
    triples = [("a", "passthrough", "a"), ("b", PCA(2), "b")]
    with pytest.raises(ValueError, match=r"blocks of equal width, got \{'a': 3, 'b': 2\}"):
        FusionTransformer(triples, fusion="sum").fit(X)


def text_and_table(**params):
    return [("text", TfidfVectorizer(**params), "text"), ("table", StandardScaler(), ["age"])]


class Dense(TfidfVectorizer):
    def fit_transform(self, raw_documents, y=None):
        return super().fit_transform(raw_documents, y).toarray()

    def transform(self, raw_documents):
        return super().transform(raw_documents).toarray()


@pytest.mark.parametrize("missing", ["mean", "zero"])
@pytest.mark.parametrize("params", [{}, {"weights": {"text": 2.0}}, {"scale": False}])
def test_weighted_sparse_blocks_equal_dense_ones(missing, params):
    X = masked(make_X(), masks())
    options = {"fusion": "weighted", "fusion_params": params, "missing": missing}
    options |= {"add_indicator": True, "dtype": np.float64}
    fused = FusionTransformer(text_and_table(), **options)
    X_t = fused.fit_transform(X)
    (_, _, column), table = text_and_table()
    dense = FusionTransformer([("text", Dense(), column), table], **options)
    assert sparse.issparse(X_t) and X_t.format == "csr"
    np.testing.assert_allclose(X_t.toarray(), dense.fit_transform(X))
    np.testing.assert_allclose(fused.transform(X[:9]).toarray(), dense.transform(X[:9]))
    assert fused.output_indices_ == dense.output_indices_
    assert list(fused.get_feature_names_out()) == list(dense.get_feature_names_out())
    assert fused.fusion_.scales_ == pytest.approx(dense.fusion_.scales_)
    with pytest.warns(UserWarning, match="lacks columns"):
        without = fused.transform(X.drop(columns="text"))
    with pytest.warns(UserWarning, match="lacks columns"):
        np.testing.assert_allclose(without.toarray(), dense.transform(X.drop(columns="text")))


def test_weighted_sparse_blocks_refuse_gaps_of_tables():
    X = make_X()
    triples = [("text", TfidfVectorizer(), "text"), ("table", "passthrough", ["age"])]
    fused = FusionTransformer(triples, fusion="weighted").fit(X)
    X.loc[X.index[3], "age"] = np.nan
    for call in (fused.fit, fused.transform):
        with pytest.raises(ValueError, match="block 'table' contains NaN or infinity in row 3"):
            call(X)


def test_sparse_blocks_stay_sparse_under_concat():
    X, mask = make_X(), masks()
    triples = [("text", TfidfVectorizer(), "text"), ("table", StandardScaler(), ["age"])]
    fused = FusionTransformer(triples, add_indicator=True)
    X_t = fused.fit_transform(masked(X, mask))
    assert sparse.issparse(X_t) and X_t.format == "csr" and X_t.dtype == np.float32
    rows = TfidfVectorizer().fit_transform(X["text"][mask["text"]]).toarray()
    slot = fused.output_indices_["text"]
    np.testing.assert_allclose(X_t.toarray()[mask["text"], slot], rows, rtol=1e-5)
    absent = X_t.toarray()[~mask["text"], slot]
    np.testing.assert_allclose(absent, np.broadcast_to(rows.mean(axis=0), absent.shape), rtol=1e-5)
    with pytest.warns(UserWarning, match="lacks columns"):
        assert sparse.issparse(fused.transform(X.drop(columns="text")))
    with pytest.raises(ValueError, match=r"features of \['text'\] are sparse.*TruncatedSVD"):
        FusionTransformer(triples, fusion="whitened").fit(X)


# ------------------------------------------------------------------------------ dtype


def time_stamps(n=60):
    return pd.DataFrame({"time": 1.7e9 + np.arange(n), "size": np.arange(n) / n})


@pytest.mark.parametrize("fusion", ["concat", "weighted"])
def test_features_that_lose_distinct_values_are_named(fusion):
    X = time_stamps()
    fused = FusionTransformer([("table", "passthrough", ["time", "size"])], fusion=fusion)
    match = r"lose distinct values in float32: ('time' of modality 'table'|feature 0 of fusion=)"
    with pytest.warns(UserWarning, match=match + r".*\(1 of 60\)\. Set dtype=np\.float64") as seen:
        X_t = fused.fit_transform(X)
    assert len(seen) == 1 and X_t.dtype == np.float32
    fused.set_params(dtype=np.float64, add_indicator=True)
    for X_t in (fused.fit_transform(X), fused.transform(X)):
        assert X_t.dtype == np.float64 and len(np.unique(X_t[:, 0])) == 60
    scaled = FusionTransformer([("table", StandardScaler(), ["time", "size"])], fusion=fusion)
    assert len(np.unique(scaled.fit_transform(X)[:, 0])) == 60


def test_dtype_of_sparse_features():
    X, mask = make_X(), masks()
    triples = [("text", TfidfVectorizer(), "text"), ("table", StandardScaler(), ["age"])]
    fused = FusionTransformer(triples, dtype="float64", add_indicator=True)
    X_t = fused.fit_transform(masked(X, mask))
    assert sparse.issparse(X_t) and X_t.dtype == np.float64
    plain = clone(fused).set_params(dtype=np.float32).fit_transform(masked(X, mask))
    np.testing.assert_allclose(plain.toarray(), X_t.toarray(), rtol=1e-6)
    assert (plain != X_t).nnz > 0


@pytest.mark.parametrize("dtype", [np.float16, int, "numbers", None])
def test_other_dtypes_are_refused(dtype):
    fused = FusionTransformer([("table", "passthrough", ["time"])], dtype=dtype)
    with pytest.raises(ValueError, match=r"dtype=.*expected np\.float32 or np\.float64"):
        fused.fit(time_stamps())


@pytest.mark.parametrize("fusion", ["concat", "weighted"])
def test_numbers_beyond_the_dtype_are_refused(fusion):
    X = time_stamps()[["size"]] * 1e36
    params = {"fusion_params": {"scale": False}} if fusion == "weighted" else {}
    fused = FusionTransformer([("t", "passthrough", ["size"])], fusion=fusion, **params).fit(X)
    X.iloc[7] = 1e39
    match = r"(modality 't'|fusion='weighted'): feature 0 is 1e\+39 in row 7, beyond the range of f"
    match += ".*set dtype=np.float64 and fit again"
    with pytest.raises(ValueError, match=match):
        fused.transform(X)
    assert fused.set_params(dtype=np.float64).fit(X).transform(X)[7] == 1e39


def test_transform_uses_the_parameters_of_fit():
    X = hide(two_vectors(), a=[2])
    fused = pass_both().fit(X)
    expected, names = fused.transform(X), fused.get_feature_names_out()
    fused.set_params(missing="error", add_indicator=True, dtype=np.float64, fusion="mean")
    np.testing.assert_array_equal(fused.transform(X), expected)
    assert fused.transform(X).dtype == np.float32
    np.testing.assert_array_equal(fused.get_feature_names_out(), names)
    with pytest.raises(ValueError, match="missing='error'"):
        fused.fit(X)
    strict = pass_both(missing="error").fit(two_vectors())
    with pytest.raises(ValueError, match="set missing='mean' and fit again"):
        strict.transform(X)
    np.testing.assert_array_equal(fused.transform(X), expected)
