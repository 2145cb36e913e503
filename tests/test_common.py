"""The common checks on every public estimator, and scikit-learn's own on all of them."""

import pytest
from sklearn.base import BaseEstimator
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import sklearn_mmfusion
from sklearn_mmfusion import FusionTransformer, ImageEncoder
from tests._checks import cases
from tests._registry import ENTRIES, NOT_ESTIMATORS, SMALL_IMAGE, having


def test_registry_is_complete():
    registered = {type(entry.make()).__name__ for entry in ENTRIES}
    assert registered.isdisjoint(NOT_ESTIMATORS)
    assert registered | NOT_ESTIMATORS == set(sklearn_mmfusion.__all__)
    for name in sklearn_mmfusion.__all__:
        public = getattr(sklearn_mmfusion, name)
        is_estimator = isinstance(public, type) and issubclass(public, BaseEstimator)
        assert is_estimator == (name in registered)


@pytest.mark.parametrize(("check", "entry"), cases())
def test_common_check(check, entry):
    check(entry)


# ------------------------------------------------------------------------------ scikit-learn's own


EXPECTED_FAILURES = {
    "net": {
        "check_sample_weight_equivalence_on_dense_data": "rows repeated make other mini-batches, "
        "and other statistics in batch normalization, than rows weighted; scikit-learn expects "
        "the same of its SGD estimators",
    },
}


def expected_failures(estimator):
    """{check: reason} of scikit-learn's checks that an estimator cannot pass."""
    nets = {type(entry.make()) for entry in having("net")}
    return EXPECTED_FAILURES["net"] if type(estimator) in nets else {}


def small_estimators():
    """One small estimator of each entry; the fusion over columns that a plain table has."""
    triples = [
        ("image", ImageEncoder(**SMALL_IMAGE), slice(None)),
        ("table", StandardScaler(), slice(None)),
    ]
    plain = [entry.make() for entry in ENTRIES if entry.name != "FusionTransformer"]
    return [*plain, FusionTransformer(triples, random_state=0)]


@parametrize_with_checks(small_estimators(), expected_failed_checks=expected_failures)
def test_scikit_learn_check(estimator, check):
    check(estimator)
