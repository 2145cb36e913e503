"""Common checks that every public estimator passes on data of its own modality.

scikit-learn's `check_estimator` feeds tables of numbers; these checks feed images, texts, sound,
blocks and frames. Each is a function of one entry of the registry; the decorator says which
entries it is for. `cases` gives the pairs that `tests/test_common.py` runs.
"""

import copy
import pickle
import pickletools
import random

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from tests._registry import N_ROWS, having, rows

CHECKS = []


def check(*tags):
    """Register a check for the entries that have all of some tags."""

    def register(function):
        CHECKS.append((function, tags))
        return function

    return register


def cases():
    """All (check, entry) pairs, as pytest parameters."""
    return [
        pytest.param(function, entry, id=f"{entry}-{function.__name__.removeprefix('check_')}")
        for function, tags in CHECKS
        for entry in having(*tags)
    ]


# ------------------------------------------------------------------------------ tools


def output(estimator, X):
    """What a fitted estimator makes of X: a list of one array a row."""
    methods = ["predict_proba", "predict", "transform"]
    method = next(name for name in methods if hasattr(estimator, name))
    return [np.asarray(row) for row in getattr(estimator, method)(X)]


def assert_same(actual, expected, rtol=0.0):
    """Compare outputs row by row: bit for bit, or to a relative tolerance."""
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        if rtol:
            np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)
        else:
            np.testing.assert_array_equal(a, b)


def differ(one, other):
    """Whether outputs differ in any row."""
    return any(
        a.shape != b.shape or not np.array_equal(a, b, equal_nan=True)
        for a, b in zip(one, other, strict=True)
    )


def state(estimator):
    """Hash of everything an estimator holds."""
    return joblib.hash(estimator.__getstate__())


def generator_states():
    """States of the three global random generators."""
    return joblib.hash((torch.get_rng_state().numpy(), np.random.get_state(), random.getstate()))


def as_features(cells):
    """Mean, spread and size of each cell: a table made of cells."""
    cells = [np.zeros(1) if np.ndim(cell) == 0 else np.ravel(cell) for cell in cells]
    return np.array([[c.sum(), c.std() if len(c) else 0.0, len(c)] for c in cells])


def model(entry):
    """A predictor that has the estimator in it, as a user would build it."""
    if "predictor" in entry.tags:
        return Pipeline([("estimator", entry.make())])
    steps = [("estimator", entry.make())]
    if "cells" in entry.tags:
        steps.append(("features", FunctionTransformer(as_features)))
    # Encoders give NaN rows where the cell is absent.
    return Pipeline([*steps, ("impute", SimpleImputer()), ("head", LogisticRegression())])


def torch_globals(pickled):
    """Names in modules of torch that a pickle refers to."""
    strings, found = [], set()
    for opcode, value, _ in pickletools.genops(pickled):
        if opcode.name == "GLOBAL":
            found.add(value)
        elif opcode.name == "STACK_GLOBAL":
            found.add(f"{strings[-2]} {strings[-1]}")
        elif isinstance(value, str):
            strings.append(value)
    return {name for name in found if name.startswith("torch")}


# ------------------------------------------------------------------------------ parameters


@check()
def check_fit_leaves_parameters_alone(entry):
    estimator = entry.make()
    before = estimator.get_params()
    digest = joblib.hash(before)
    estimator.fit(entry.X(), entry.y())
    after = estimator.get_params()
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)
    assert joblib.hash(after) == digest


@check()
def check_clone_is_unfitted_and_refits_to_the_same(entry):
    fitted = entry.fitted()
    cloned = clone(fitted)
    with pytest.raises(NotFittedError):
        output(cloned, entry.X())
    assert_same(output(cloned.fit(entry.X(), entry.y()), entry.X()), output(fitted, entry.X()))


@check()
def check_set_params_and_refit_equals_a_fresh_object(entry):
    X, y = entry.X(), entry.y()
    before = output(fitted := entry.fitted(), X)
    fresh = output(entry.make(**entry.other).fit(X, y), X)
    again = output(fitted.set_params(**entry.other).fit(X, y), X)
    assert_same(again, fresh)
    assert differ(again, before)


@check()
def check_unfitted_estimator_raises(entry):
    with pytest.raises(NotFittedError, match=type(entry.make()).__name__):
        output(entry.make(), entry.X())


# ------------------------------------------------------------------------------ rows


@check()
def check_row_order_commutes(entry):
    fitted, X = entry.fitted(), entry.X()
    order = np.random.default_rng(0).permutation(N_ROWS)
    whole = output(fitted, X)
    assert_same(output(fitted, rows(X, order)), [whole[i] for i in order], rtol=1e-5)


@check()
def check_output_does_not_depend_on_other_rows(entry):
    """Rows one at a time, in calls of unequal size: batch and padding change nothing."""
    fitted, X = entry.fitted(), entry.X()
    parts = [slice(i, i + 1) for i in range(7)] + [slice(7, 10), slice(10, N_ROWS)]
    apart = [row for part in parts for row in output(fitted, rows(X, part))]
    assert_same(apart, output(fitted, X), rtol=1e-5)


@check()
def check_inputs_are_unchanged(entry):
    X, y = entry.X(), entry.y()
    before = joblib.hash((X, y))
    output(entry.make().fit(X, y), X)
    assert joblib.hash((X, y)) == before


@check("transformer")
def check_fit_transform_equals_fit_and_transform(entry):
    X, y = entry.X(), entry.y()
    expected = output(entry.make().fit(X, y), X)
    assert_same([np.asarray(row) for row in entry.make().fit_transform(X, y)], expected)


# ------------------------------------------------------------------------------ seeds


@check("random")
def check_seeds_repeat_and_differ(entry):
    X = entry.X()
    first = output(entry.fitted(random_state=1), X)
    torch.rand(3), np.random.random(3)
    assert_same(output(entry.fitted(random_state=1), X), first)
    assert differ(output(entry.fitted(random_state=2), X), first)


@check()
def check_global_generators_are_untouched(entry):
    before = generator_states()
    output(entry.fitted(), entry.X())
    assert generator_states() == before


# ------------------------------------------------------------------------------ state


@check()
def check_pickle_and_deepcopy_give_equal_outputs(entry):
    fitted, X = entry.fitted(), entry.X()
    expected = output(fitted, X)
    assert_same(output(pickle.loads(pickle.dumps(fitted)), X), expected)
    assert_same(output(copy.deepcopy(fitted), X), expected)
    assert_same(output(fitted, X), expected)


@check()
def check_pickle_holds_no_torch_object(entry):
    """The class of the optimizer, a parameter, is all a pickle may name of torch."""
    found = torch_globals(pickle.dumps(entry.fitted(), protocol=4))
    assert found <= {"torch.optim.adamw AdamW"}


@check()
def check_failed_fit_leaves_the_estimator_as_it_was(entry):
    fitted, X, y = entry.fitted(), entry.X(), entry.y()
    before = state(fitted)
    with pytest.raises(ValueError, match="0 sample|minimum of|at least|empty"):
        fitted.fit(rows(X, slice(0, 0)), y[:0])
    assert state(fitted) == before


@check("net")
def check_fit_that_fails_in_training_leaves_the_estimator_as_it_was(entry):
    fitted, X, y = entry.fitted(), entry.X(), entry.y()
    fitted.set_params(net_params={"criterion__no_such_option": 1})
    before = state(fitted)
    with pytest.raises(TypeError, match="no_such_option"):
        fitted.fit(X, y[::-1])
    assert state(fitted) == before


# ------------------------------------------------------------------------------ scikit-learn


@check("transformer")
def check_names_match_columns(entry):
    fitted, X = entry.fitted(), entry.X()
    if "cells" in entry.tags:
        return  # one column of cells has no columns to name
    names = fitted.get_feature_names_out()
    values = np.asarray(fitted.transform(X))
    assert len(set(names)) == len(names) == values.shape[1]
    frame = entry.make().set_output(transform="pandas").fit(X, entry.y()).transform(X)
    assert list(frame.columns) == list(names)
    assert frame.index.equals(X.index)
    np.testing.assert_array_equal(frame.to_numpy(), values)


@check()
def check_works_in_pipeline_and_cross_validation(entry):
    X, y = entry.X(), entry.y()
    pipeline = make_pipeline(model(entry)).fit(X, y)
    assert pipeline.predict(X).shape == (N_ROWS,)
    scores = cross_validate(model(entry), X, y, cv=2, error_score="raise")["test_score"]
    assert np.isfinite(scores).all()


@check()
def check_works_in_grid_search(entry):
    name = next(iter(entry.other))
    values = [entry.make().get_params()[name], entry.other[name]]
    search = GridSearchCV(model(entry), {f"estimator__{name}": values}, cv=2, error_score="raise")
    search.fit(entry.X(), entry.y())
    assert len(search.cv_results_["params"]) == 2
    assert search.predict(entry.X()).shape == (N_ROWS,)


@check("classes")
def check_labels_of_any_type(entry):
    X, y = entry.X(), entry.y()
    expected = entry.fitted()
    for labels in ([3, 7], ["no", "yes"], [False, True], np.array(["no", "yes"], dtype=object)):
        named = np.asarray(labels)[y]
        fitted = entry.make().fit(X, named)
        assert_same(output(fitted, X), output(expected, X))
        if "predictor" in entry.tags:
            assert list(fitted.classes_) == list(labels)
            np.testing.assert_array_equal(fitted.predict(X), np.asarray(labels)[expected.predict(X)])
