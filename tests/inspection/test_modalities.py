"""Names of scores."""

import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import get_scorer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from sklearn_mmfusion.inspection.modalities import scorer_name


def search(scoring, refit=True):
    return GridSearchCV(LogisticRegression(), {"C": [1]}, scoring=scoring, refit=refit)


@pytest.mark.parametrize(
    ("estimator", "scoring", "name"),
    [
        (LogisticRegression(), None, "accuracy"),
        (Ridge(), None, "r2"),
        (Ridge(), "max_error", "max_error"),
        (LogisticRegression(), get_scorer("f1_macro"), "f1_score"),
        (LogisticRegression(), get_scorer("neg_log_loss"), "neg_log_loss"),
        (search(None), None, "accuracy"),
        (search("neg_log_loss"), None, "neg_log_loss"),
        (search("neg_log_loss"), "accuracy", "accuracy"),
        (make_pipeline(search(["f1", "accuracy"], refit="f1")), None, "f1"),
    ],
)
def test_scores_have_the_name_of_what_is_computed(estimator, scoring, name):
    assert scorer_name(estimator, scoring) == name
