"""Scores of a fitted estimator with some of the modalities, a coalition; the others are absent."""

import numpy as np
import pandas as pd
from sklearn.metrics import check_scoring
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from sklearn_mmfusion._columns import column_names
from sklearn_mmfusion._triples import child_seed, root_seed
from sklearn_mmfusion._validation import add_error_note, check_choice, check_count
from sklearn_mmfusion.containers.conversion import as_table
from sklearn_mmfusion.inspection.encoded_rows import encode_once, hiding, with_composition
from sklearn_mmfusion.inspection.modalities import (
    absence_ignored,
    column_at,
    find_composition,
    find_modalities,
    score_once,
    scorer_name,
    with_columns,
    with_missing,
)

ABSENT = ("auto", "mask", "permute")


class CoalitionScores:
    """Scores of a fitted estimator by coalition, each computed once.

    Coalitions are integers: bit m is set if modality m is present.

    Parameters
    ----------
    estimator, X, y, scoring, modalities, absent, n_repeats, n_jobs, random_state, verbose
        See `modality_importance`.
    caller : str
        Name of the public function, for messages.

    Attributes
    ----------
    names : list of str
        The modalities.
    permuted : list of bool
        Which of them are permuted, not masked.
    scorer : str
        Name of the score.
    """

    def __init__(
        self,
        estimator,
        X,
        y,
        *,
        scoring,
        modalities,
        absent,
        n_repeats,
        n_jobs,
        random_state,
        verbose,
        caller,
    ):
        check_choice(f"{caller}: absent", absent, ABSENT)
        check_count(f"{caller}: n_repeats", n_repeats)
        check_is_fitted(estimator)
        self.estimator, self.X, self.y = estimator, as_table(X), y
        check_consistent_length(self.X, y)
        self.score, self.scorer = check_scoring(estimator, scoring), scorer_name(estimator, scoring)
        self.columns = find_columns(estimator, self.X, modalities, caller)
        self.names = list(self.columns)
        self.n_repeats, self.n_jobs, self.verbose = n_repeats, n_jobs, verbose
        self.caller, self.known = caller, {}
        seed = root_seed(random_state)
        self.seed = int(np.random.default_rng().integers(2**31)) if seed is None else seed
        self.triples = triples_of(estimator, self.X, self.columns)
        self.encoded = None
        if self.triples is not None and absent != "permute":
            with absence_ignored():
                self.encoded = with_composition(estimator, encode_once, self.X)
        self.permuted = [absent == "permute"] * len(self.names)
        if absent == "auto":
            for m in range(len(self.names)):
                self._choose(m)

    def __call__(self, coalitions):
        """Return the scores of coalitions: ndarray of shape (n_repeats or 1, n_coalitions)."""
        self._compute(coalitions)
        n_repeats = self.n_repeats if any(self.permuted) else 1
        scores = [np.broadcast_to(self.known[int(c)], n_repeats) for c in coalitions]
        return np.stack(scores, axis=1)

    def table(self):
        """Return all scores so far: one bool column per modality, and their mean as "score"."""
        coalitions = sorted(self.known)
        return coalition_table(self.names, coalitions, self(coalitions).mean(axis=0))

    def absent_by_name(self):
        """Return how each modality is made absent: "mask" or "permute"."""
        return {
            name: "permute" if permuted else "mask"
            for name, permuted in zip(self.names, self.permuted, strict=True)
        }

    def _choose(self, m):
        """Mask a modality if the estimator can predict without it; otherwise permute it."""
        coalition = 2 ** len(self.names) - 1 - (1 << m)
        try:
            self._compute([coalition])
        except Exception:  # whatever an estimator of another package raises
            self.permuted[m] = True

    def _compute(self, coalitions):
        """Compute and keep the scores that are not known, in parallel."""
        new = [c for c in dict.fromkeys(map(int, coalitions)) if c not in self.known]
        tasks = [(c, repeat) for c in new for repeat in range(self._n_repeats(c))]
        scores = {c: [] for c in new}
        with absence_ignored():
            # threads share the encoded rows
            parallel = Parallel(n_jobs=self.n_jobs, prefer="threads", return_as="generator")
            results = parallel(delayed(self._score)(*task) for task in tasks)
            for number, ((c, _), score) in enumerate(zip(tasks, results, strict=True), start=1):
                scores[c].append(score)
                self._print(f"{number} of {len(tasks)}: {self._describe(c)}: {score:.4g}")
        self.known.update({c: np.array(values) for c, values in scores.items()})

    def _n_repeats(self, coalition):
        return self.n_repeats if self._absent(coalition, permuted=True) else 1

    def _absent(self, coalition, permuted):
        """Names of the modalities that are not in a coalition, permuted or masked ones."""
        return [
            name
            for m, name in enumerate(self.names)
            if not coalition >> m & 1 and self.permuted[m] == permuted
        ]

    def _score(self, coalition, repeat):
        estimator, X = self.estimator, self.X
        masked = self._absent(coalition, permuted=False)
        if self.encoded is not None:
            hidden = {triple for name in masked for triple in self.triples[name]}
            estimator = with_composition(self.encoded, hiding(hidden), X)
        elif masked:
            gone = [j for name in masked for j in self.columns[name]]
            X = with_missing(X, gone, np.ones(len(X), dtype=bool))
        for name in self._absent(coalition, permuted=True):
            order = self._order(name, repeat)
            X = permute_columns(X, self.columns[name], order)
        with add_error_note(self._note(coalition)):
            return score_once(self.score, self.caller, estimator, X, self.y)

    def _order(self, name, repeat):
        """Permutation of the rows of a modality: the same one in all coalitions of a repeat."""
        seed = child_seed(self.seed, f"{name}/{repeat}")
        return np.random.default_rng(seed).permutation(len(self.X))

    def _note(self, coalition):
        hint = " absent='permute' keeps all cells." if self._absent(coalition, False) else ""
        return f"Raised by {self.caller} with {self._describe(coalition)}.{hint}"

    def _describe(self, coalition):
        present = [name for m, name in enumerate(self.names) if coalition >> m & 1]
        return " + ".join(map(str, present)) or "no modality"

    def _print(self, message):
        if self.verbose:
            print(f"[{self.caller}] {message}")


def coalition_table(names, coalitions, scores):
    """Frame of coalitions: one bool column per modality, then "score"."""
    present = [[bool(c >> m & 1) for m in range(len(names))] for c in coalitions]
    table = pd.DataFrame(present, columns=names, dtype=bool)
    table.insert(len(names), "score", np.asarray(scores, dtype=float), allow_duplicates=True)
    return table


# ------------------------------------------------------------------------------ modalities


def find_columns(estimator, table, modalities, caller):
    """Return the positions of each modality's columns in a table made by `as_table`.

    Parameters
    ----------
    estimator : estimator or None
        Fitted; None if `modalities` or single columns are wanted.
    table : DataFrame or ndarray
    modalities : dict of {str: column or list of columns} or None
    caller : str
        For messages.

    Returns
    -------
    columns : dict of {str: tuple of int}
    """
    if modalities is not None and not (isinstance(modalities, dict) and modalities):
        raise ValueError(
            f"{caller}: modalities={modalities!r}; expected a dict of names and their columns, "
            "such as {'image': ['photo'], 'sensors': ['t1', 't2']}."
        )
    found = find_modalities(estimator, table, modalities, caller)
    if modalities is not None:
        check_columns(found, column_names(table), caller)
    return {modality.name: modality.positions for modality in found}


def check_columns(modalities, names, caller):
    """Raise if a modality has no column, or two share one."""
    owners = {}
    for modality in modalities:
        if not modality.positions:
            raise ValueError(
                f"{caller}: modality {modality.name!r} has no column; expected at least one."
            )
        for j in modality.positions:
            if owners.setdefault(j, modality.name) != modality.name:
                raise ValueError(
                    f"{caller}: modalities {owners[j]!r} and {modality.name!r} share column "
                    f"{j if names is None else names[j]!r}; expected each column in one modality."
                )


def triples_of(estimator, table, columns):
    """Return {modality: names of the triples that are absent without it}.

    None if the estimator has no composition of triples, or a modality holds some of the columns of
    a triple only.
    """
    composition = find_composition(estimator)
    if composition is None:
        return None
    found = {name: [] for name in columns}
    for triple in find_modalities(composition, table, None, ""):
        for name in columns:
            inside = belongs(triple.name, set(triple.positions), name, columns)
            if inside is None:
                return None
            if inside:
                found[name].append(triple.name)
    return found


def belongs(triple, positions, modality, columns):
    """Whether a triple is absent without a modality; None if only some of its columns are.

    Triples may share columns. One that is a modality itself is absent without that one only.
    """
    if positions <= set(columns.get(triple, ())):
        return triple == modality
    inside = positions & set(columns[modality])
    return None if inside and inside < positions else bool(inside)


def permute_columns(table, positions, order):
    """Copy a table with the rows of some columns in another order."""
    columns = {j: column_at(table, j) for j in positions}
    moved = {j: column.iloc[order].set_axis(column.index) for j, column in columns.items()}
    return with_columns(table, moved)
