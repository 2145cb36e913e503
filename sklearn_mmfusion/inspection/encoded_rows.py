"""Predictions of a fitted estimator that start after the encoders: rows are encoded once."""

from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from sklearn_mmfusion._triples import TripleComposition
from sklearn_mmfusion._validation import shallow_copy
from sklearn_mmfusion.inspection.modalities import find_composition, wrapped_attribute


class Remembered(BaseEstimator):
    """Fitted steps of a pipeline, with their output for one X, which is not computed again."""

    def __init__(self, steps, X, output):
        self.steps = steps
        self.X = X
        self.output = output

    def __sklearn_is_fitted__(self):
        return True

    def transform(self, X):
        return self.output if X is self.X else self.steps.transform(X)


def with_composition(estimator, make, X):
    """Copy a fitted estimator; its composition becomes ``make(composition, X)``.

    The X is the one that reaches the composition: the output of earlier steps of a pipeline.
    """
    if isinstance(estimator, TripleComposition):
        return make(estimator, X)
    twin = shallow_copy(estimator)
    if isinstance(estimator, Pipeline):
        twin.steps = list(estimator.steps)
        i = [find_composition(step) is not None for _, step in twin.steps].index(True)
        if any(step not in (None, "passthrough") for _, step in twin.steps[:i]):
            before = estimator.steps[0][1] if i == 1 else estimator[:i]
            output = before.transform(X)
            twin.steps[:i] = [("before", Remembered(before, X, output))]
            X, i = output, 1
        name, step = twin.steps[i]
        twin.steps[i] = name, with_composition(step, make, X)
    elif attribute := wrapped_attribute(estimator):
        setattr(twin, attribute, with_composition(getattr(estimator, attribute), make, X))
    else:
        members = [shallow_copy(member) for member in estimator.calibrated_classifiers_]
        for member in members:
            member.estimator = with_composition(member.estimator, make, X)
        twin.calibrated_classifiers_ = members
    return twin


def encode_once(composition, X):
    """Make a composition that starts its predictions of X after the encoders."""
    return composition._without((), X, composition._encode_once(X))


def hiding(names):
    """Return the function that makes triples absent in the result of `encode_once`."""
    return lambda composition, X: composition._without(names, *composition._encoded)


def encode_again(names, changed):
    """Return the function that encodes these triples for another X in the result of `encode_once`.

    The two X differ in columns of these triples only.
    """

    def make(composition, X):
        if X is not changed:  # earlier steps may have passed the change on to other columns
            return composition
        encoding = composition._encode_once(X, names)
        return composition._without(
            (), X, composition._replace(composition._encoded[1], encoding, names)
        )

    return make
