"""Common checks that every public estimator passes on data of its own modality.

scikit-learn's `check_estimator` feeds tables of numbers; these checks feed images, texts, sound,
blocks and frames. Each is a function of one entry of the registry; the decorator says which
entries it is for. `cases` gives the pairs that `tests/test_common.py` runs.
"""

import copy
import io
import pickle
import pickletools
import random
from contextlib import redirect_stdout
from unittest.mock import patch

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
from sklearn.utils.class_weight import compute_sample_weight
from skorch.callbacks import Callback

from sklearn_mmfusion._skorch import early_stopping
from tests._registry import N_ROWS, having, is_slow, rows

CHECKS = []
# Other values of parameters that affect how new rows are read, computed or fused.
LATER = {
    "analyzer": "char",
    "channel_axis": "last",
    "dtype": np.float64,
    "add_indicator": True,
    "interpolation": "previous",
    "fusion": "mean",
    "image_size": (4, 4),
    "label_smoothing": 0.4,
    "lowercase": False,
    "method": "sum",
    "missing": "zero",
    "ngram_range": (2, 3),
    "n_mels": 3,
    "n_mfcc": 2,
    "objectives": None,
    "remove_mean": False,
    "remove_punctuation": True,
    "strip_html": False,
    "target_type": "continuous",
    "top_db": 1.0,
}


def check(*tags):
    """Register a check for the entries that have all of some tags."""

    def register(function):
        CHECKS.append((function, tags))
        return function

    return register


def cases():
    """All (check, entry) pairs, as pytest parameters."""
    return [
        pytest.param(
            function,
            entry,
            id=f"{entry}-{function.__name__.removeprefix('check_')}",
            marks=[pytest.mark.slow] * is_slow(entry),
        )
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
        if rtol and a.dtype.kind != "U":
            np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)
        else:
            np.testing.assert_array_equal(a, b)


def differ(one, other):
    """Whether outputs differ in any row."""
    return any(
        a.shape != b.shape
        or not np.array_equal(a, b, equal_nan=a.dtype.kind == b.dtype.kind == "f")
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
def check_parameters_set_after_fit_wait_for_the_next_fit(entry):
    fitted = entry.fitted()
    before = output(fitted, entry.X())
    later = entry.other | {key: LATER[key] for key in LATER if key in fitted.get_params()}
    assert_same(output(fitted.set_params(**later), entry.X()), before)


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
    expected = output(entry.fitted(), X)
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
    output(entry.make().fit(entry.X(), entry.y()), entry.X())
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
    for method in ("fit", "fit_transform", "fit_prepare"):
        if hasattr(fitted, method):
            with pytest.raises(ValueError, match="0 sample|no present row"):
                getattr(fitted, method)(rows(X, slice(0, 0)), y[:0])
            assert state(fitted) == before


@check("net")
def check_fit_that_fails_in_training_leaves_the_estimator_as_it_was(entry):
    fitted, X, y = entry.fitted(), entry.X(), entry.y()
    fitted.set_params(net_params={"criterion__no_such_option": 1})
    before, other = state(fitted), [0, 2, 3, 9]  # other rows, other vocabulary and statistics
    with pytest.raises(TypeError, match="no_such_option"):
        fitted.fit(rows(X, other), y[other])
    assert state(fitted) == before


# ------------------------------------------------------------------------------ scikit-learn


@check("columns")
def check_names_match_columns(entry):
    fitted, X = entry.fitted(), entry.X()
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
            np.testing.assert_array_equal(
                fitted.predict(X), np.asarray(labels)[expected.predict(X)]
            )


# ------------------------------------------------------------------------------ weights, groups


def some_weights():
    """Weights of three sizes, some of them zero."""
    return np.random.default_rng(0).choice([0.0, 1.0, 3.0], N_ROWS)


@check("net")
def check_weight_zero_leaves_rows_out(entry):
    X, y, kept = entry.X(), entry.y().copy(), np.arange(N_ROWS) % 4 != 3
    y[~kept] = 5  # another class, or numbers of another size
    weighted = entry.make().fit(X, y, sample_weight=kept.astype(float))
    without = entry.make().fit(rows(X, kept), y[kept])
    assert_same(output(weighted, X), output(without, X))
    assert differ(output(weighted, X), output(entry.fitted(), X))


@check("net")
def check_weights_have_effect_and_no_unit(entry):
    X, y, weight = entry.X(), entry.y(), some_weights()
    weighted = output(entry.make().fit(X, y, sample_weight=weight), X)
    assert_same(output(entry.make().fit(X, y, sample_weight=4 * weight), X), weighted)
    assert differ(weighted, output(entry.make().fit(X, y, sample_weight=weight > 0), X))
    equal = entry.make().fit(X, y, sample_weight=np.full(N_ROWS, 7.0))
    assert_same(output(equal, X), output(entry.fitted(), X))


@check("net", "classes")
def check_balanced_class_weight_equals_sample_weights(entry):
    X, y = entry.X(), entry.y().copy()
    y[:6] = 0
    present = np.asarray(~X.isna()) if "encoder" in entry.tags else np.full(N_ROWS, True)
    weight = np.zeros(N_ROWS)
    weight[present] = compute_sample_weight("balanced", y[present])
    balanced = entry.make(class_weight="balanced").fit(X, y)
    assert_same(output(balanced, X), output(entry.make().fit(X, y, sample_weight=weight), X))
    by_label = entry.make(class_weight={0: 1.0, 1: 50.0}).fit(X, y)
    same = entry.make().fit(X, y, sample_weight=np.where(y == 1, 50.0, 1.0))
    assert_same(output(by_label, X), output(same, X))
    assert differ(output(by_label, X), output(balanced, X))


@check("net", "classes")
def check_weight_zero_counts_in_no_class_balance(entry):
    X, y, kept = entry.X(), entry.y(), np.arange(N_ROWS) > 6
    weighted = entry.make(class_weight="balanced").fit(X, y, sample_weight=kept.astype(float))
    without = entry.make(class_weight="balanced").fit(rows(X, kept), y[kept])
    assert_same(output(weighted, X), output(without, X))


@check("net")
def check_groups_stay_on_one_side_of_the_validation_split(entry):
    X, y, groups = entry.X(), entry.y(), np.arange(N_ROWS) // 3
    estimator = entry.make(early_stopping=True, refit=False)
    splits = []

    def spy(target, groups, *args):
        splits.append((groups, split := validation_rows(target, groups, *args)))
        return split

    validation_rows = early_stopping.validation_rows
    with patch.object(early_stopping, "validation_rows", spy):
        grouped = output(estimator.fit(X, y, groups=groups), X)
    ((seen, (train, valid)),) = splits
    assert len(train) + len(valid) == len(seen) and not set(seen[train]) & set(seen[valid])
    assert differ(grouped, output(estimator.fit(X, y), X))


# ------------------------------------------------------------------------------ absent cells


@check("encoder")
def check_absent_rows_are_nan_and_touch_no_other(entry):
    X, y = entry.X(), entry.y()
    present = np.flatnonzero(~X.isna())
    assert len(present) == N_ROWS - 1
    fitted = entry.fitted()
    features = fitted.transform(X)
    assert features.dtype == np.float32 and features.shape == (N_ROWS, fitted.n_components)
    np.testing.assert_array_equal(np.isnan(features).any(1), X.isna())
    np.testing.assert_array_equal(np.isnan(features).all(1), X.isna())
    without = entry.make().fit(rows(X, present), y[present])
    assert_same(output(without, X), list(features))
    nothing = fitted.transform(rows(X, [1, 1]))
    assert nothing.shape == features[:2].shape and np.isnan(nothing).all()


# ------------------------------------------------------------------------------ training


class Counting(Callback):
    """Count the epochs and batches it is told of."""

    def __init__(self):
        self.epochs, self.batches = 0, 0

    def on_epoch_end(self, net, **kwargs):
        self.epochs += 1

    def on_batch_end(self, net, training, **kwargs):
        self.batches += training


@check("net")
def check_callbacks_are_called(entry):
    counting = Counting()
    fitted = entry.fitted(callbacks=[counting], max_epochs=3, early_stopping=False)
    assert counting.epochs == len(fitted.history_) == fitted.n_iter_ == 3
    assert counting.batches == 3
    assert all(np.isfinite(epoch["train_loss"]) for epoch in fitted.history_)


@check("net")
def check_early_stopping_records_validation_and_refits(entry):
    counting = Counting()
    settings = {"callbacks": [counting], "max_epochs": 3, "early_stopping": True}
    fitted = entry.fitted(**settings)
    losses = [epoch["valid_loss"] for epoch in fitted.history_]
    assert len(losses) == 3 and fitted.n_iter_ > int(np.argmin(losses))
    assert counting.epochs == 3 + fitted.n_iter_
    counting.epochs = 0
    entry.fitted(**settings, refit=False)
    assert counting.epochs == 3


@check("net")
def check_net_params_reach_the_net(entry):
    fitted = entry.fitted(net_params={"max_epochs": 4, "optimizer__betas": (0.5, 0.9)})
    assert len(fitted.history_) == 4
    assert differ(output(fitted, entry.X()), output(entry.fitted(max_epochs=4), entry.X()))


@check("net")
def check_warm_start_goes_on_from_the_last_weights(entry):
    X, y = entry.X(), entry.y()
    estimator = entry.make(lr=1e-12, weight_decay=0.0)
    first = [p.detach().numpy() for p in estimator.fit(X, y).module_.parameters()]
    estimator.set_params(warm_start=True, random_state=5).fit(X, y)
    again = [p.detach().numpy() for p in estimator.module_.parameters()]
    estimator.set_params(warm_start=False).fit(X, y)
    cold = [p.detach().numpy() for p in estimator.module_.parameters()]
    assert_same(again, first, rtol=1e-6)
    assert differ(cold, first)


@check("net")
def check_bf16_runs(entry):
    X = entry.X()
    half, full = output(entry.fitted(precision="bf16"), X), output(entry.fitted(), X)
    for a, b in zip(half, full, strict=True):
        np.testing.assert_array_equal(np.isfinite(a), np.isfinite(b))
    assert differ(half, full)


@check("net")
def check_verbose_prints(entry):
    for verbose, printed in ((0, False), (1, True)):
        with redirect_stdout(io.StringIO()) as text:
            entry.fitted(verbose=verbose)
        assert ("train_loss" in text.getvalue()) == printed


@check("net")
def check_module_is_a_class(entry):
    if not hasattr(entry.make(), "module"):
        pytest.skip("its network is made of its modalities' and a fusion")
    fitted = entry.fitted()
    network = getattr(fitted.module_, "encoder", fitted.module_)
    with pytest.raises(TypeError, match="is an instance; expected a class.*`module_params`"):
        entry.fitted(module=network)
