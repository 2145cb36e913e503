"""FusionTransformer(missing="impute"): every fusion sees the blocks that BlockImputer fills."""

import numpy as np
import pytest
from sklearn import config_context
from sklearn.feature_extraction.text import TfidfVectorizer

from sklearn_mmfusion.compose import FusionTransformer
from sklearn_mmfusion.containers import multimodal_frame
from sklearn_mmfusion.cross_decomposition import BlockImputer, BlockPooling
from tests._fusion_data import TRIPLES, hide, make_X, masked, masks, pass_both, two_vectors

FUSIONS = ["concat", "weighted", "whitened", "sum", "mean", "max", "mfa", "mcca", "gcca"]


def filled(X, imputer):
    """X with its absent blocks filled, as a frame of blocks."""
    X_t = imputer.transform(X)
    return multimodal_frame(**{k: X_t[:, slot] for k, slot in imputer.output_indices_.items()})


@pytest.mark.parametrize("fusion", [*FUSIONS, BlockPooling(method="max")])
def test_every_fusion_sees_complete_blocks(fusion):
    X = hide(two_vectors(), a=[2, 7], b=[5, 6])
    X_new = hide(two_vectors(seed=1), b=[0])
    fused = pass_both(fusion=fusion, missing="impute").fit(X)
    imputer = BlockImputer().fit(X)
    plain = pass_both(fusion=fusion).fit(filled(X, imputer))
    for data in (X, X_new):
        expected = plain.transform(filled(data, imputer))
        np.testing.assert_allclose(fused.transform(data), expected, rtol=1e-5, atol=1e-6)
    assert fused.get_feature_names_out().tolist() == plain.get_feature_names_out().tolist()
    assert fused.output_indices_ == plain.output_indices_
    assert isinstance(fused.imputer_, BlockImputer) and plain.imputer_ is None


def test_present_modalities_are_as_without_imputation():
    X, mask = make_X(), masks()
    X = masked(X, mask)
    fused = FusionTransformer(TRIPLES, missing="impute", random_state=0, add_indicator=True)
    plain = FusionTransformer(TRIPLES, random_state=0, add_indicator=True).fit(X)
    X_t, expected = fused.fit_transform(X), plain.transform(X)
    np.testing.assert_array_equal(fused.transform(X), X_t)
    assert X_t.shape == expected.shape and np.isfinite(X_t).all()
    assert fused.get_feature_names_out().tolist() == plain.get_feature_names_out().tolist()
    for name, present in mask.items():
        slot = fused.output_indices_[name]
        np.testing.assert_array_equal(X_t[present, slot], expected[present, slot])
        assert not np.allclose(X_t[~present, slot], expected[~present, slot])
    np.testing.assert_array_equal(X_t[:, -5:], expected[:, -5:])  # the indicators


def test_a_fusion_object_imputes_with_another_penalty():
    X = hide(two_vectors(), a=[2, 7])
    fused = pass_both(fusion=BlockImputer(alpha=1.0)).fit(X)
    expected = BlockImputer(alpha=1.0).fit_transform(X)
    np.testing.assert_allclose(fused.transform(X), expected, rtol=1e-6)
    assert fused.get_feature_names_out()[-1] == "b__2"


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_column_that_is_absent_altogether_is_predicted(fusion):
    X = two_vectors()
    fused = pass_both(fusion=fusion, missing="impute").fit(X)
    with pytest.warns(UserWarning, match="X lacks columns seen in fit"):
        X_t = fused.transform(X[["a"]])
    gone = hide(X, b=np.ones(20, dtype=bool))
    np.testing.assert_allclose(X_t, fused.transform(gone), rtol=1e-6)
    assert (np.ptp(X_t, axis=0) > 0).all()  # rows differ: no mean was put in


def test_a_row_with_nothing_gets_the_means_and_a_warning():
    X = hide(two_vectors(), a=[3], b=[3])
    with pytest.warns(UserWarning, match="1 of 20 rows have no modality present"):
        X_t = pass_both(missing="impute").fit_transform(X)
    np.testing.assert_allclose(X_t[3], np.delete(X_t, 3, axis=0).mean(axis=0), rtol=1e-5)


def test_sparse_features_are_refused_with_advice():
    X = masked(make_X(), masks())
    triples = [("text", TfidfVectorizer(), "text"), ("age", "passthrough", "age")]
    match = r"missing='impute'\): the features of \['text'\] are sparse.*use missing='mean'"
    with pytest.raises(ValueError, match=match):
        FusionTransformer(triples, missing="impute").fit(X)


def test_gaps_of_a_table_are_refused_with_advice():
    X = make_X()
    triples = [("table", "passthrough", ["age", "height"]), ("vector", "passthrough", "vector")]
    fused = FusionTransformer(triples, missing="impute").fit(X)
    X.loc[4, "age"] = np.nan
    for call in (FusionTransformer(triples, missing="impute").fit, fused.transform):
        with pytest.raises(
            ValueError, match="'table' contains NaN .* row 4. Impute the missing values"
        ) as e:
            call(X)
        assert "Raised by missing='impute'" in e.value.__notes__[-1]


def test_imputes_if_transformers_return_frames():
    X = hide(two_vectors(), a=[2, 7], b=[5])
    expected = pass_both(missing="impute").fit(X).transform(X)
    with config_context(transform_output="pandas"):
        fused = pass_both(missing="impute").fit(X)
        X_t = fused.transform(X)
    np.testing.assert_array_equal(X_t.to_numpy(), expected)
    assert X_t.columns.tolist() == fused.get_feature_names_out().tolist()
