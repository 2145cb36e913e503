"""Shared parameters: one name, one default and one description in every estimator."""

from inspect import signature

import pytest

import sklearn_mmfusion
from sklearn_mmfusion import (
    JointFusionClassifier,
    JointFusionRegressor,
    LateFusionClassifier,
    LateFusionRegressor,
    NeuralClassifier,
    NeuralRegressor,
)
from sklearn_mmfusion._shared_docs import SHARED, document_parameters
from tests._registry import MODALITIES
from tests.test_docstrings import check_object, parse_entries, parse_sections

ENCODERS = [each.encoder for each in MODALITIES.values()]
# What an encoder may have otherwise, and why.
OF_AN_ENCODER = {
    "n_components": "its default is the width that suits the modality",
    "root": "only encoders that read files have it",
}
# What only classifiers have, or have with another default, and why.
ONLY_CLASSES = {
    "class_weight": "numbers have no classes",
    "label_smoothing": "it smooths classes; a joint regressor may have some among its targets",
    "calibration": "it calibrates probabilities",
    "temperature": "it calibrates probabilities",
}
OTHER_DEFAULT = {
    "fusion": "LateFusionClassifier multiplies probabilities, LateFusionRegressor takes the mean"
}


def defaults(cls):
    parameters = list(signature(cls.__init__).parameters.values())[1:]
    return {parameter.name: parameter.default for parameter in parameters}


@pytest.mark.parametrize("cls", ENCODERS)
def test_encoders_share_names_defaults_and_order(cls):
    shared = [*SHARED["encoder"], *SHARED["network"]]
    expected = {name: value for name, value in defaults(ENCODERS[0]).items() if name in shared}
    found = {name: value for name, value in defaults(cls).items() if name in shared}
    for name in OF_AN_ENCODER:
        expected.pop(name, None), found.pop(name, None)
    assert list(found.items()) == list(expected.items())
    assert len(found) >= len(SHARED["network"])


@pytest.mark.parametrize(
    ("classifier", "regressor"),
    [
        (NeuralClassifier, NeuralRegressor),
        (JointFusionClassifier, JointFusionRegressor),
        (LateFusionClassifier, LateFusionRegressor),
    ],
)
def test_a_pair_shares_names_defaults_and_order(classifier, regressor):
    of_classes, of_numbers = defaults(classifier), defaults(regressor)
    assert not of_numbers.keys() - of_classes.keys()
    assert of_classes.keys() - of_numbers.keys() <= ONLY_CLASSES.keys()
    common = [name for name in of_classes if name in of_numbers]
    assert list(of_numbers) == common
    other = {name for name in common if of_classes[name] != of_numbers[name]}
    assert other <= OTHER_DEFAULT.keys()


def test_every_shared_description_is_used():
    used = set()
    for name in sklearn_mmfusion.__all__:
        doc = getattr(sklearn_mmfusion, name).__doc__ or ""
        used |= {(p, *entry) for p, entry in entries_of(doc).items()}
    texts = {(name, " ".join(text.split())) for name, _, text in used}
    for family in SHARED.values():
        for parameter, (_, text) in family.items():
            assert (parameter, " ".join(text.split())) in texts


def entries_of(doc):
    return parse_entries(parse_sections(doc).get("Parameters", []))


def make_class():
    class Scaler:
        """Scale numbers.

        Parameters
        ----------
        factor : float, default=1.0
            What to multiply by.

        Attributes
        ----------
        scale_ : float
            The factor learned.

        Examples
        --------
        >>> 1 + 1
        2
        """

        def __init__(self, lr=0.5, factor=1.0, *, device="auto", verbose=0):
            pass

        def fit(self, X):
            pass

    return Scaler


def test_decorator_inserts_what_is_missing_in_the_order_of_the_signature():
    cls = document_parameters("network")(make_class())
    assert check_object(cls) == []
    entries = entries_of(cls.__doc__)
    assert list(entries) == ["lr", "factor", "device", "verbose"]
    assert entries["lr"][0] == "float, default=0.5"
    assert entries["device"][0] == 'str, default="auto"'
    assert entries["factor"][1] == "What to multiply by."
    assert "Attributes\n----------\nscale_ : float" in cls.__doc__


def test_the_first_family_describes_and_the_own_description_wins():
    cls = document_parameters("late", "network")(make_class())
    assert entries_of(cls.__doc__)["verbose"][1] == "Whether to print the time each fit took."


def test_decorator_leaves_a_class_without_a_docstring():
    cls = make_class()
    cls.__doc__ = None  # as under python -OO
    assert document_parameters("network")(cls).__doc__ is None
