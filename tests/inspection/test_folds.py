"""Folds keep groups together, also if their number is given."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold

from sklearn_mmfusion.inspection import compare, modality_ablation
from sklearn_mmfusion.inspection.folds import folds_of

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
Y = (X[:, 0] > 0).astype(int)
GROUPS = RNG.integers(0, 7, 60)


@pytest.mark.parametrize("classifier", [True, False])
@pytest.mark.parametrize("cv", [None, 3, 20])
def test_numbers_of_folds_keep_groups_together(cv, classifier):
    folds = folds_of(cv, X, Y, GROUPS, classifier)
    assert len(folds) == min(cv or 5, 7)
    assert np.array_equal(np.sort(np.concatenate([test for _, test in folds])), np.arange(60))
    for train, test in folds:
        assert not set(GROUPS[train]) & set(GROUPS[test])


def test_splitters_decide_for_themselves():
    splitter = KFold(3, shuffle=True, random_state=0)
    for found, expected in zip(
        folds_of(splitter, X, Y, GROUPS, True), splitter.split(X), strict=True
    ):
        np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize(
    ("estimator", "splitter"),
    [(LogisticRegression(), StratifiedGroupKFold(3)), (Ridge(), GroupKFold(3))],
)
def test_comparisons_and_refits_keep_groups_together(estimator, splitter):
    for cv in (3, splitter):
        pair = compare([("a", estimator), ("b", estimator)], X, Y, cv=cv, groups=GROUPS).scores
        refits = modality_ablation(estimator, X, Y, refit=True, cv=cv, groups=GROUPS).scores
        if cv == 3:
            expected = pair, refits
    np.testing.assert_array_equal(pair, expected[0])
    np.testing.assert_array_equal(refits, expected[1])
