"""`compare`: its formula by hand, equal splits for all, and what it refuses."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import make_classification
from sklearn.dummy import DummyClassifier
from sklearn.metrics import balanced_accuracy_score, make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    RepeatedStratifiedKFold,
    StratifiedGroupKFold,
    StratifiedKFold,
)
from sklearn.naive_bayes import GaussianNB

from sklearn_mmfusion.inspection import compare

X, y = make_classification(90, random_state=0)
MODELS = {"bayes": GaussianNB(), "wide": GaussianNB(var_smoothing=1.0), "none": DummyClassifier()}


def by_hand(estimator, splits):
    """Accuracy on each split, without `cross_validate`."""
    return np.array([np.mean(estimator.fit(X[a], y[a]).predict(X[b]) == y[b]) for a, b in splits])


@pytest.mark.parametrize(
    "cv", [StratifiedKFold(4), RepeatedStratifiedKFold(n_splits=3, n_repeats=2, random_state=0)]
)
def test_compare_is_the_corrected_resampled_interval(cv):
    splits = list(cv.split(X, y))
    one, other = by_hand(GaussianNB(), splits), by_hand(GaussianNB(var_smoothing=1.0), splits)
    found = compare(MODELS, X, y, cv=cv)
    assert found.names == list(MODELS)
    assert found.scorer == "accuracy"
    assert np.array_equal(found.scores[:2], [one, other])
    for row, values in (
        (found.differences.loc["bayes", "wide"], one - other),
        (found.table.loc["bayes"], one),
    ):
        n, mean = len(values), values.sum() / len(values)
        variance = sum((value - mean) ** 2 for value in values) / (n - 1)
        ratio = sum(len(b) / len(a) for a, b in splits) / n
        room = stats.t.ppf(0.975, n - 1) * math.sqrt((1 / n + ratio) * variance)
        assert list(row.iloc[:3]) == pytest.approx([mean, mean - room, mean + room])


class _Recorder(ClassifierMixin, BaseEstimator):
    """Predicts one class; `rows` records the first column of its training rows."""

    rows = []

    def __init__(self, tag=0):
        self.tag = tag

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.rows.append((self.tag, *sorted(X[:, 0])))
        return self

    def predict(self, X):
        return np.zeros(len(X), dtype=int)


def test_splits_are_drawn_once():
    _Recorder.rows.clear()
    cv = StratifiedKFold(3, shuffle=True, random_state=np.random.RandomState(0))  # draws anew
    compare([("a", _Recorder(0)), ("b", _Recorder(1))], X, y, cv=cv)
    first, second = ([row[1:] for row in _Recorder.rows if row[0] == tag] for tag in (0, 1))
    assert len(first) == 3
    assert first == second
    generator = ((np.arange(k, 90), np.arange(k)) for k in (10, 20))
    found = compare(MODELS, X, y, cv=generator)
    assert found.scores.shape == (3, 2)


def test_groups_go_to_the_splitter():
    groups = np.arange(90) // 9
    cv = StratifiedGroupKFold(5)
    found = compare(MODELS, X, y, cv=cv, groups=groups)
    assert np.array_equal(found.scores[0], by_hand(GaussianNB(), list(cv.split(X, y, groups))))


def test_reference_and_several_scorers():
    found = compare(MODELS, X, y, cv=3, reference="none", scoring=["accuracy", "recall_macro"])
    assert found.scorer == ["accuracy", "recall_macro"]
    assert list(found.differences.index) == [
        (scorer, name, "none") for scorer in found.scorer for name in ("bayes", "wide")
    ]
    for scorer in found.scorer:
        single = compare(MODELS, X, y, cv=3, reference="none", scoring=scorer)
        assert single.scorer == scorer
        assert np.array_equal(single.scores, found.scores[scorer])
        pd.testing.assert_frame_equal(single.differences, found.differences.loc[scorer])
        columns = ["mean", "low", "high"]
        pd.testing.assert_frame_equal(single.table[columns], found.table.loc[scorer, columns])
    balanced = make_scorer(balanced_accuracy_score)
    again = compare(MODELS, X, y, cv=3, scoring=balanced)
    assert again.scores == pytest.approx(found.scores["recall_macro"])
    assert again.scorer == "balanced_accuracy_score"
    custom = compare(MODELS, X, y, cv=3, scoring=two_scores)
    assert custom.scorer == ["right", "wrong"]
    assert np.array_equal(custom.scores["right"], 1 - custom.scores["wrong"])


def two_scores(model, X, y):
    right = float(model.score(X, y))
    return {"right": right, "wrong": 1 - right}


def test_fit_parameters_reach_every_estimator(capsys):
    weight = np.where(y == 1, 1.0, 1e-12)  # a majority of one class
    found = compare(MODELS, X, y, cv=3, params={"sample_weight": weight}, verbose=1)
    assert np.allclose(found.scores[2], np.mean(y == 1), atol=0.02)
    assert "[compare] wide (2 of 3):" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"estimators": {"a": GaussianNB()}}, r"names of the estimators are \['a'\]; expected two"),
        ({"estimators": [("a", GaussianNB())] * 2}, "expected two or more, all different"),
        ({"reference": "b"}, r"reference='b'; expected one of \['bayes', 'wide', 'none'\]"),
        ({"cv": [(np.arange(60), np.arange(60, 90))]}, "cv has 1 split; expected two or more"),
        ({"confidence_level": 1.0}, "confidence_level=1.0; expected a number between 0 and 1"),
    ],
)
def test_compare_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        compare(**{"estimators": MODELS, "X": X, "y": y, **changes})


@pytest.mark.parametrize("estimators", [[GaussianNB(), GaussianNB()], GaussianNB(), None])
def test_compare_refuses_estimators_without_names(estimators):
    with pytest.raises(TypeError, match="expected a dict of estimators by name"):
        compare(estimators, X, y)


def test_errors_name_the_estimator():
    broken = {"good": GaussianNB(), "bad": GaussianNB(priors=[0.5])}
    with pytest.raises(ValueError, match="[Nn]umber of priors") as caught:
        compare(broken, X, y, cv=3)
    assert "Raised by estimator 'bad' of compare." in caught.value.__notes__


def test_default_scores_that_differ_have_no_name():
    search = GridSearchCV(GaussianNB(), {}, scoring="recall_macro", cv=2)
    assert compare({"bayes": GaussianNB(), "search": search}, X, y, cv=2).scorer == "score"
