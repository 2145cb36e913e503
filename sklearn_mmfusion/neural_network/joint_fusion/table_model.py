"""A linear model of the tables of a joint network, and its share of the outputs."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse

from sklearn_mmfusion._losses import criterion_for
from sklearn_mmfusion.neural_network.linear_path import (
    SHARES,
    START_ALPHA,
    LinearModel,
    choose_alpha,
    held_out,
)
from sklearn_mmfusion.neural_network.modality_parts import FeaturePart

CHUNK = 4096  # rows


@dataclass(frozen=True)
class TableShare:
    """A fitted linear model of tables, mixed with the outputs of a network.

    Parameters
    ----------
    names : list of str
        The modalities that it reads.
    W, b : ndarray of shape (n_features, n_outputs) and (n_outputs,)
        For their features, one table after another.
    share : float
    """

    names: list
    W: np.ndarray
    b: np.ndarray
    share: float

    def mix(self, inputs, outputs):
        """Mix the outputs of rows that have all tables; leave those of other rows unchanged.

        Parameters
        ----------
        inputs : FusionInputs
        outputs : ndarray of shape (n_samples, n_outputs)

        Returns
        -------
        outputs : ndarray of shape (n_samples, n_outputs), dtype=float64
        """
        mixed = np.array(outputs, dtype=np.float64)
        if len(complete_rows(inputs, self.names)[0]):
            rows, X = features_of(inputs, self.names)
            for start in range(0, len(rows), CHUNK):  # in float64: a chunk at a time
                part, own = slice(start, start + CHUNK), rows[start : start + CHUNK]
                linear = np.asarray(X[part].astype(np.float64) @ self.W) + self.b
                mixed[own] += self.share * (linear - mixed[own])
        return mixed


def names_of_tables(parts):
    """The modalities that enter a joint network as features."""
    return [name for name, part in parts.items() if isinstance(part, FeaturePart)]


def complete_rows(inputs, names):
    """Rows that have all these modalities."""
    columns = [list(inputs.parts).index(name) for name in names]
    return np.flatnonzero(inputs.mask[:, columns].all(axis=1)), columns


def features_of(inputs, names):
    """Rows that have all these tables, and their features: (k,) and (k, d), dense or CSR."""
    rows, columns = complete_rows(inputs, names)
    tables = [
        inputs.parts[name].sources["features"].values[inputs.positions[rows, column]]
        for name, column in zip(names, columns, strict=True)
    ]
    if any(map(sparse.issparse, tables)):
        return rows, sparse.hstack(tables, format="csr")
    return rows, np.concatenate(tables, axis=1)


class TableModel:
    """The linear model of all tables of a joint network, before and during its training.

    Parameters
    ----------
    inputs : FusionInputs
    parts : dict of str to part
    target : Target
    weight : ndarray of shape (n_samples,) or None
    groups : ndarray of shape (n_samples,) or None
    loss : str
        Key of `_losses.LOSSES`.
    share : float or "auto"
    seed : int
    """

    def __init__(self, inputs, parts, target, weight, groups, *, loss, share, seed):
        self.names = names_of_tables(parts)
        self.rows, X = features_of(inputs, self.names)
        self.groups, self.seed = _of_rows(groups, self.rows), seed
        self.alpha, self.share = None, 0.0 if share == "auto" else share
        self.chooses = share == "auto"
        self.training = np.arange(len(self.rows))  # rows of the validated training
        moments = zip(*(parts[name].scale.of_network for name in self.names), strict=True)
        criterion, options = criterion_for(loss)
        self.model = LinearModel(
            *(X, target.values[self.rows], _of_rows(weight, self.rows)),
            *(list(map(np.concatenate, moments)), criterion(**options).double(), target.n_outputs),
        )

    def choose(self, outputs, part, temperature_for):
        """Choose the share by the loss on validation rows, the penalty on the other rows.

        Parameters
        ----------
        outputs : ndarray of shape (n_rows, n_outputs)
            Of the network, for the validation rows.
        part : RowDataset
            The validation rows.
        temperature_for : callable
            ``temperature_for(outputs, part)`` returns the divisor with the lowest loss: the
            network may be underconfident, the linear model is not.

        Returns
        -------
        outputs : ndarray of shape (n_rows, n_outputs)
            Mixed with those of the linear model.
        """
        _, held, there = np.intersect1d(self.rows, part.rows, return_indices=True)
        self.training = others = np.setdiff1d(self.training, held)
        if len(held) == 0 or len(others) < 2:
            return outputs
        self.alpha = self._penalty(others)
        linear = self.model.outputs(held, *self.model.solve(others, self.alpha, exact=False))

        def mixed(share):
            result = outputs.copy()
            result[there] += share * (linear.numpy() - outputs[there])
            return result

        def loss(share):
            result = mixed(share)
            tempered = torch.from_numpy(result / temperature_for(result, part))
            return float(self.model.losses(tempered[there], held).sum())

        if self.chooses:
            # Not the smallest share within one standard error: on 150 rows of a linear target, that
            # gave an R2 of .58 where ridge regression had .66.
            self.share = min(SHARES, key=loss)
        return mixed(self.share)

    def _penalty(self, rows):
        folds = held_out(self.model.target.numpy()[rows], _of_rows(self.groups, rows), self.seed)
        folds = [(rows[train], rows[held]) for train, held in folds]
        return choose_alpha(self.model, folds) if folds else START_ALPHA

    def solved(self, refit):
        """The model as a `TableShare`, fitted to all rows if `refit`; None if its share is 0."""
        rows = np.arange(len(self.rows)) if refit else self.training
        if self.share == 0 or len(rows) < 2:
            return None
        self.alpha = self.alpha or self._penalty(rows)
        W, b = self.model.solve(rows, self.alpha)
        W = W / self.model.scale[:, None]
        b = b - self.model.mean @ W
        return TableShare(self.names, W, b, self.share)


def _of_rows(values, rows):
    return None if values is None else np.asarray(values)[rows]
