"""The linear model beside a perceptron: its penalty, its solution, its share of the prediction."""

import numpy as np
import torch
from scipy import sparse
from scipy.optimize import minimize
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

from sklearn_mmfusion._losses import row_losses

# Penalties to choose from. The strongest comes first: each solution is the start of the next one.
ALPHAS = (1000.0, 100.0, 10.0, 1.0, 0.1, 0.01)
# A network starts from a solution with at least this penalty: a weaker one fits its training rows
# so closely that little is left to learn from.
START_ALPHA = 10.0
SHARES = [round(0.1 * k, 1) for k in range(11)]
N_FOLDS = 3
MOST_CELLS = 20_000_000  # numbers in rows and outputs that a solution reads; more hardly matter
FEW_ROWS = 1500  # below, all folds are held out in turn, else one
MOST_ROWS = 5000  # in all folds together


SPLITTERS = {  # by groups, and classes of which each fold can have a row
    (False, False): KFold,
    (False, True): StratifiedKFold,
    (True, False): GroupKFold,
    (True, True): StratifiedGroupKFold,
}


class LinearModel:
    """A linear model of standardized features: mean loss + alpha / (2 n) ||W||^2.

    Sparse rows stay sparse: mean and deviation are applied to the weights.

    Parameters
    ----------
    X : ndarray or CSR matrix of shape (n_samples, n_features), dtype=float32
    target : ndarray of shape (n_samples,) or (n_samples, n_targets)
        What `criterion` takes.
    weight : ndarray of shape (n_samples,) or None
    moments : pair of ndarray of shape (n_features,)
        Mean and scale.
    criterion : torch.nn.Module
        Loss without reduction.
    n_outputs : int
    """

    def __init__(self, X, target, weight, moments, criterion, n_outputs):
        self.X = X
        self.target, self.weight = torch.from_numpy(np.array(target)), weight
        if self.target.is_floating_point():
            self.target = self.target.double()
        self.mean, self.scale = (np.asarray(m, dtype=np.float64) for m in moments)
        self.criterion, self.shape = criterion, (X.shape[1], n_outputs)

    def __len__(self):
        return self.X.shape[0]

    def _some(self, rows):
        """At most `MOST_CELLS` numbers' worth of rows, drawn at random, but 1000 at least."""
        per_row = self.X.nnz / len(self) if sparse.issparse(self.X) else self.X.shape[1]
        most = max(1000, int(MOST_CELLS / (per_row + self.shape[1])))
        if len(rows) <= most:
            return rows
        return np.sort(np.random.RandomState(0).choice(rows, most, replace=False))

    def losses(self, outputs, rows):
        """Weighted losses of rows whose outputs are a tensor of shape (n, n_outputs)."""
        losses = row_losses(self.criterion, outputs, self.target[rows])
        return losses if self.weight is None else losses * torch.from_numpy(self.weight[rows])

    def solve(self, rows, alpha, start=None, exact=True):
        """Minimize the loss of some rows by L-BFGS.

        Parameters
        ----------
        rows : ndarray of int
        alpha : float
        start : pair, default=None
            A solution to start from; None for zeros.
        exact : bool, default=True
            False stops early, which is enough to compare penalties.

        Returns
        -------
        W, b : ndarray of shape (n_features, n_outputs) and (n_outputs,), dtype=float64
            For standardized features.
        """
        rows = self._some(rows)
        n, (d, k) = len(rows), self.shape
        X, backward = self._products(self.X[rows])

        def loss_and_gradient(theta):
            W, b = theta[: d * k].reshape(d, k), theta[d * k :]
            outputs = X(W, b).requires_grad_()
            with torch.enable_grad():
                loss = self.losses(outputs, rows).sum() / n
            (gradient,) = torch.autograd.grad(loss, outputs)
            of_b = gradient.sum(0).numpy()
            of_W = (backward(gradient) - np.outer(self.mean, of_b)) / self.scale[:, None]
            of_W += alpha / n * W
            loss = float(loss.detach()) + 0.5 * alpha / n * float(np.vdot(W, W))
            # L-BFGS-B stops at absolute differences, and losses may be means over many outputs.
            return n * k * loss, n * k * np.concatenate([of_W.ravel(), of_b])

        # In float64: rounding would send the search along other paths for dense and sparse rows.
        theta = np.zeros(d * k + k) if start is None else np.concatenate([x.ravel() for x in start])
        options = {"maxiter": 100, "ftol": 1e-8} if exact else {"maxiter": 50, "ftol": 1e-5}
        theta = minimize(loss_and_gradient, theta, jac=True, method="L-BFGS-B", options=options).x
        return theta[: d * k].reshape(d, k), theta[d * k :]

    def outputs(self, rows, W, b):
        """Outputs of a solution: Tensor of shape (n, n_outputs), dtype=float64."""
        return self._products(self.X[rows])[0](W, b)

    def _products(self, X):
        """Functions for the outputs of rows, and for the gradient of the unscaled weights."""
        X = X.astype(np.float64)
        if sparse.issparse(X):
            across = X.T.tocsr()

            def product(W):
                return torch.from_numpy(np.asarray(X @ W))

            def backward(gradient):
                return np.asarray(across @ gradient.numpy())
        else:
            X = torch.from_numpy(X)  # torch, because the caller sets its number of threads

            def product(W):
                return X @ torch.from_numpy(W)

            def backward(gradient):
                return (X.T @ gradient).numpy()

        def outputs(W, b):
            W = W / self.scale[:, None]
            return product(W) + torch.from_numpy(b - self.mean @ W)

        return outputs, backward


def held_out(target, groups, seed):
    """Pairs of training rows and rows held out, on which penalty and share are chosen.

    Parameters
    ----------
    target : ndarray of shape (n_rows,) or (n_rows, n_targets)
        Codes of classes if 1-D. Rows whose class is not in training are not held out.
    groups : ndarray of shape (n_rows,) or None
        Rows of a group stay together.
    seed : int

    Returns
    -------
    folds : list of (ndarray of int, ndarray of int)
        Empty if there are too few rows or groups.
    """
    rng, rows = np.random.RandomState(seed), np.arange(len(target))
    if len(rows) > MOST_ROWS:
        rows = np.sort(rng.choice(rows, MOST_ROWS, replace=False))
    groups, codes = (v if v is None else v[rows] for v in (groups, target))
    if len(rows if groups is None else np.unique(groups)) < 2 * N_FOLDS:
        return []
    has_classes = codes.ndim == 1
    stratifies = has_classes and np.unique(codes, return_counts=True)[1].min() >= N_FOLDS
    splitter = SPLITTERS[groups is not None, stratifies]
    folds = splitter(N_FOLDS, shuffle=True, random_state=rng).split(rows, codes, groups)
    if has_classes:
        folds = [(a, b[np.isin(codes[b], codes[a])]) for a, b in folds]
    folds = [(rows[train], rows[held]) for train, held in folds]
    folds = folds if len(rows) < FEW_ROWS else folds[:1]
    enough = sum(len(held) for _, held in folds) >= len(folds) * len(rows) / N_FOLDS / 2
    return folds if enough and all(len(held) for _, held in folds) else []


def choose_alpha(model, folds, alphas=ALPHAS):
    """The one of `alphas` whose solutions have the lowest loss on rows held out."""
    solutions, losses = [None] * len(folds), []
    for alpha in alphas:
        total = 0.0
        for i, (train, held) in enumerate(folds):
            solutions[i] = model.solve(train, alpha, solutions[i], exact=False)
            total += float(model.losses(model.outputs(held, *solutions[i]), held).sum())
        losses.append(total)
        if len(losses) - np.argmin(losses) > 2:  # the last two were no better
            break
    return alphas[int(np.argmin(losses))]


def choose_share(model, folds, pairs):
    """The share of the linear model in the outputs that has the lowest loss on rows held out.

    Parameters
    ----------
    model : LinearModel
    folds : list of (ndarray of int, ndarray of int)
    pairs : list of (Tensor, Tensor)
        Outputs of the linear model and of the network for the rows held out in each fold.

    Returns
    -------
    share : float
        From 0 to 1; the smallest if several are equal.
    """
    totals = np.zeros(len(SHARES))
    for (_, held), (linear, network) in zip(folds, pairs, strict=True):
        mixed = (share * linear + (1 - share) * network for share in SHARES)
        totals += [float(model.losses(outputs, held).sum()) for outputs in mixed]
    return SHARES[int(totals.argmin())]
