"""Variants of an estimator with fewer modalities, fitted and tested on the same folds."""

import time
from dataclasses import dataclass, field

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.utils.parallel import Parallel, delayed

from sklearn_mmfusion._sklearn import _check_method_params, _safe_indexing
from sklearn_mmfusion._triples import kept_triples
from sklearn_mmfusion.ensemble import LateFusionClassifier, LateFusionRegressor
from sklearn_mmfusion.inspection.ablation import compositions_of, leave_out, modalities_to_fit
from sklearn_mmfusion.inspection.modalities import absence_ignored

ALL, ALONE, WITHOUT, LATE = "all", "alone", "without", "late"


@dataclass
class Variant:
    """An unfitted estimator, its part of X, and the results of its fits.

    Attributes
    ----------
    name : str
    role : {"all", "alone", "without", "late"}
    modality : str or None
        The modality that is alone or left out.
    folds : list of FoldResult
    """

    name: str
    role: str
    estimator: object
    X: object
    modality: str | None = None
    folds: list = field(default_factory=list)

    @property
    def predicted(self):
        """Predictions of the test rows of all folds, concatenated."""
        return np.concatenate([fold.predicted for fold in self.folds])

    def probabilities(self, classes):
        """Probabilities of the test rows of all folds (n, n_classes), or None."""
        if any(fold.probabilities is None for fold in self.folds):
            return None
        joined = []
        for fold in self.folds:
            # classes without training rows have the probability 0
            whole = np.zeros((len(fold.probabilities), len(classes)))
            whole[:, np.searchsorted(classes, fold.classes)] = fold.probabilities
            joined.append(whole)
        return np.concatenate(joined)


@dataclass
class FoldResult:
    """Predictions of the test rows of one fold."""

    predicted: np.ndarray
    probabilities: np.ndarray | None
    classes: np.ndarray | None
    fit_seconds: float
    predict_seconds: float
    n_parameters: int | None
    fitted: object = None


def make_variants(estimator, X, modalities):
    """Return the estimator with all modalities, with each one alone, without each, and late fusion.

    Parameters
    ----------
    estimator : estimator
        Unfitted.
    X : DataFrame of shape (n_samples, n_columns)
    modalities : dict of {str: column or list of columns} or None

    Returns
    -------
    variants : list of Variant
        First the one with all modalities.
    columns : dict of {str: tuple of int}
        Positions of the columns of each modality.
    """
    columns = modalities_to_fit(estimator, X, modalities)
    variants = [Variant("all modalities", ALL, estimator, X)]
    if len(columns) > 1:
        for name in columns:
            others = [other for other in columns if other != name]
            variants.append(
                Variant(f"{name} alone", ALONE, *leave_out(estimator, X, columns, others), name)
            )
    if len(columns) > 2:  # of two, the other one is already there alone
        for name in columns:
            reduced = leave_out(estimator, X, columns, [name])
            variants.append(Variant(f"without {name}", WITHOUT, *reduced, name))
    late = make_late(estimator)
    if late is not None:
        variants.append(Variant(f"late fusion ({late.fusion})", LATE, late, X))
    return variants, columns


def make_late(estimator):
    """Return late fusion of the same triples, or None if impossible or already the estimator."""
    compositions = list(compositions_of(estimator).values())
    if len(compositions) != 1:
        return None
    (composition,) = compositions
    make = LateFusionClassifier if is_classifier(estimator) else LateFusionRegressor
    triples = kept_triples(composition._triples)
    if isinstance(composition, LateFusionClassifier | LateFusionRegressor):
        return None
    if len(triples) < 2 or any(isinstance(child, str) for _, child, _ in triples):
        return None
    shared = {key: getattr(composition, key, None) for key in ("memory", "random_state")}
    return make(triples, **shared)


def fit_variants(variants, y, folds, *, groups, params, n_jobs, report):
    """Fit each variant on each fold and keep the results in its `folds`.

    The fitted estimators of the last fold are kept for "all modalities" and late fusion.

    Parameters
    ----------
    variants : list of Variant
    y : ndarray
    folds : list of (ndarray, ndarray)
    groups : ndarray or None
        Passed to the `fit` of late fusion.
    params : dict
        Passed to the `fit` of all other variants.
    n_jobs : int or None
    report : callable
        Called with a line per fit.
    """
    tasks = [(variant, k) for variant in variants for k in range(len(folds))]
    results = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(fit_fold)(
            variant.estimator,
            variant.X,
            y,
            *folds[k],
            params if variant.role != LATE else {} if groups is None else {"groups": groups},
            k == len(folds) - 1 and variant.role in (ALL, LATE),
        )
        for variant, k in tasks
    )
    for (variant, k), result in zip(tasks, results, strict=True):
        variant.folds.append(result)
        report(f"{variant.name}, fold {k + 1} of {len(folds)}: {result.fit_seconds:.1f} s")


def fit_fold(estimator, X, y, train, test, params, is_kept):
    """Fit a clone to the training rows and predict the test rows."""
    fitted = clone(estimator)
    params = _check_method_params(X, params, indices=train)
    X_train, X_test = _safe_indexing(X, train), _safe_indexing(X, test)
    probabilities = None
    with absence_ignored():  # rows that lack the only modality get the prior
        start = time.perf_counter()
        fitted.fit(X_train, _safe_indexing(y, train), **params)
        fit_seconds, start = time.perf_counter() - start, time.perf_counter()
        predicted = np.asarray(fitted.predict(X_test))
        predict_seconds = time.perf_counter() - start
        if hasattr(fitted, "predict_proba") and predicted.ndim == 1 and is_classifier(fitted):
            probabilities = fitted.predict_proba(X_test)
    return FoldResult(
        predicted,
        probabilities,
        getattr(fitted, "classes_", None),
        fit_seconds,
        predict_seconds,
        n_parameters(fitted),
        fitted if is_kept else None,
    )


def n_parameters(estimator):
    """Count the weights of networks and linear models in a fitted estimator; None without any."""
    sizes = {}
    _collect(estimator, sizes, set())
    return sum(sizes.values()) if sizes else None


def _collect(part, sizes, seen):
    if id(part) in seen:
        return
    seen.add(id(part))
    if hasattr(part, "named_parameters"):  # a torch module
        sizes |= {id(weight): weight.numel() for weight in part.parameters()}
    elif isinstance(part, dict):
        for value in part.values():
            _collect(value, sizes, seen)
    elif isinstance(part, list | tuple):
        for value in part:
            _collect(value, sizes, seen)
    elif hasattr(part, "get_params") and not isinstance(part, type):
        for name, value in vars(part).items():
            if name.rstrip("_") in ("coef", "intercept", "coefs", "intercepts"):
                arrays = value if isinstance(value, list) else [value]
                sizes |= {id(array): np.size(array) for array in arrays}
            elif name.endswith("_") or name in ("steps", "estimator"):
                _collect(value, sizes, seen)
