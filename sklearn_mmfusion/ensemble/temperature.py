"""Calibrate given probabilities with scikit-learn, one calibrator per modality."""

import numpy as np
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV

from sklearn_mmfusion.ensemble.rules import log


class _PrecomputedClassifier(ClassifierMixin, BaseEstimator):
    """A classifier whose X holds the log-probabilities to predict."""

    def fit(self, X, y, sample_weight=None):
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, X):
        return X[:, 1] - X[:, 0] if X.shape[1] == 2 else X

    def predict(self, X):
        return self.classes_[X.argmax(axis=1)]


def fit_calibrator(method, outputs, target, weight, *, n_classes, label):
    """Fit a calibrator to out-of-fold distributions (n_samples, 1, n_classes)."""
    found = len(np.unique(target))
    if found < n_classes:
        raise ValueError(
            f"{label}: calibration={method!r} needs rows of every class that have the modality, "
            f"but those in the folds (cv) have {found} of {n_classes} classes. Set "
            "calibration=None."
        )
    rows = np.arange(len(target))
    calibrator = CalibratedClassifierCV(
        _PrecomputedClassifier(), method=method, cv=[(rows, rows)], ensemble=False
    )
    with config_context(enable_metadata_routing=False):  # no estimator of the user is involved
        return calibrator.fit(log(outputs[:, 0]), target, weight)


def calibrate(calibrators, outputs, mask):
    """Calibrate outputs (n_modalities, n_samples, 1, n_classes) where present."""
    outputs = outputs.copy()
    for m, calibrator in enumerate(calibrators):
        if mask[m].any():
            outputs[m, mask[m], 0] = calibrator.predict_proba(log(outputs[m, mask[m], 0]))
    return outputs
