"""Do members that share weights, or piecewise-linear numbers, make a better head?

"head" is `NeuralClassifier` or `NeuralRegressor` with defaults, with its linear model and its
choices. Contenders change the network or the features of numeric columns, and nothing else:

- "mini 8": 8 members as in TabM-mini (Gorishniy, Kotelnikov, Babenko 2025, arXiv:2410.24210). A
  member has its own scales of the features, random signs at first, its own output layer and its
  own loss. Hidden layers are shared. Probabilities, or numbers, are averaged.
- "full 8": as in TabM, with scales and shifts of each member around each hidden layer.
- "masks 8": no members; each row enters a training step 8 times, with other dropout.
- "head, 30", "mini 8, 30": with 30 % dropout of the features.
- "+ spline": numeric columns as piecewise-linear functions with knots at quantiles (Gorishniy,
  Rubachev, Babenko 2022, arXiv:2203.05556), by scikit-learn's `SplineTransformer`; "+ both" keeps
  the standardized columns too.

Repetitions of two folds; accuracy or R2, and log loss; paired differences to "head" with 95 %
intervals, as in `bench_heads.py`; CPU seconds of one fit.

    MMFUSION_DATA=../shared/data OMP_NUM_THREADS=1 python benchmarks/bench_members.py

`--only`, `--rows`, `--contenders`, `--repetitions`.
"""

import argparse
import re
import time
import warnings

import numpy as np
import torch
from bench_heads import PROBLEMS, interval
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import KFold
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import SplineTransformer, StandardScaler
from torch import nn

from sklearn_mmfusion import NeuralClassifier, NeuralRegressor
from sklearn_mmfusion.modules.perceptron import MLP

# ------------------------------------------------------------------------------ networks


class MemberScale(nn.Module):
    """Scales of each member: (N, 1 or k, features) -> (N, k, features)."""

    def __init__(self, n_members, n_features, signs):
        super().__init__()
        scale = torch.ones(n_members, n_features)
        self.scale = nn.Parameter(2.0 * torch.bernoulli(0.5 * scale) - 1.0 if signs else scale)

    def forward(self, x):
        return x * self.scale


class SharedNorm(nn.BatchNorm1d):
    """Batch normalization of (N, k, features) over rows and members."""

    def forward(self, x):
        return super().forward(x.flatten(0, 1)).view_as(x)


class MemberNorm(nn.Module):
    """Batch normalization of each member, with its own scales and shifts."""

    def __init__(self, n_members, n_features):
        super().__init__()
        self.norm = nn.BatchNorm1d(n_members * n_features)

    def forward(self, x):
        return self.norm(x.flatten(1)).view_as(x)


class MemberOutput(nn.Module):
    """A zero output layer per member: (N, k, features) -> (N, k, n_outputs)."""

    def __init__(self, n_members, n_features, n_outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_members, n_features, n_outputs))

    def forward(self, x):
        return torch.bmm(x.transpose(0, 1), self.weight).transpose(0, 1)


class Members(MLP):
    """`MLP` with members: (N, in_features) -> (N, k, n_outputs) in training, else their mean."""

    def __init__(
        self, in_features, n_outputs, hidden_layer_sizes, dropout, design, n_members, classes
    ):
        super().__init__(in_features, n_outputs, hidden_layer_sizes, dropout)
        self.design, self.n_members, self.classes = design, n_members, classes
        layers, size = [], in_features
        for number, width in enumerate(hidden_layer_sizes):
            linear = nn.Linear(size, width)
            if design == "full" or (design == "mini" and number == 0):
                layers.append(MemberScale(n_members, size, signs=number == 0))
            norm = MemberNorm(n_members, width) if design == "full" else SharedNorm(width)
            layers += [linear, norm, nn.ReLU(), nn.Dropout(dropout)]
            size = width
        self.hidden = nn.Sequential(*layers)
        if design != "masks":
            self.output = MemberOutput(n_members, size, n_outputs)

    def forward(self, features):
        x = (features - self.mean) / self.std
        of_members = x[:, None]
        if self.design == "masks" and self.training:
            of_members = of_members.expand(-1, self.n_members, -1)
        outputs = self.linear(x)[:, None] + self.output(self.hidden(of_members))
        if self.training:
            return outputs
        if self.classes:  # softmax of this is the mean of the members' probabilities
            return outputs.log_softmax(-1).logsumexp(1)
        return outputs.mean(1)


class MembersCrossEntropy(nn.CrossEntropyLoss):
    """Mean of the losses of the members."""

    def forward(self, outputs, target):
        if outputs.ndim == 2:
            return super().forward(outputs, target)
        n, k, _ = outputs.shape
        return (
            super().forward(outputs.flatten(0, 1), target.repeat_interleave(k)).view(n, k).mean(1)
        )


class MembersSquaredError(nn.MSELoss):
    """Mean of the losses of the members."""

    def forward(self, outputs, target):
        target = target[:, None].expand_as(outputs) if outputs.ndim == 3 else target
        return super().forward(outputs, target)


class _ChangedHead:
    """A head with another network; it keeps the linear model, which `module=` turns off."""

    def _describe_module(self):
        network, arguments = super()._describe_module()
        if self.design == "head":
            return network, arguments
        is_classifier = isinstance(self, NeuralClassifier)
        own = {"design": self.design, "n_members": self.n_members, "classes": is_classifier}
        return Members, arguments | own

    def _build_module(self):
        module = super()._build_module()
        if self.input_dropout:
            module.hidden.insert(0, nn.Dropout(self.input_dropout))
        return module


class ChangedClassifier(_ChangedHead, NeuralClassifier):
    """A classifier with another network."""


class ChangedRegressor(_ChangedHead, NeuralRegressor):
    """A regressor with another network."""


HEADS = {
    "classes": (ChangedClassifier, MembersCrossEntropy),
    "numbers": (ChangedRegressor, MembersSquaredError),
}
NAME = re.compile(r"(?P<design>\w+)( (?P<number>\d+))?(, (?P<inputs>\d+))?( \+ (?P<encoding>\w+))?")


def make_head(kind, design, number=None, inputs=None):
    """The head of a contender; numbers as in its name."""
    estimator, criterion = HEADS[kind]
    head = estimator(random_state=0, net_params={"criterion": criterion})
    head.design, head.n_members = design, int(number or 1)
    head.input_dropout = int(inputs or 0) / 100
    return head


# ------------------------------------------------------------------------------ features


def spline():
    return SplineTransformer(12, degree=1, knots="quantile", extrapolation="linear")


ENCODINGS = {
    "spline": spline,
    "both": lambda: FeatureUnion([("scaled", StandardScaler()), ("spline", spline())]),
}


def encoded(features, encoding):
    """The features of a problem with another encoding of its numbers."""
    if not encoding:
        return features
    if not isinstance(features, ColumnTransformer):
        return ENCODINGS[encoding]()
    features = clone(features)  # bikes: the numbers are the last part
    name, (imputer, *_), columns = features.transformers[-1]
    features.transformers[-1] = name, make_pipeline(imputer, ENCODINGS[encoding]()), columns
    return features


# ------------------------------------------------------------------------------ measurement


def log_loss(fitted, T, y):
    """Of rows whose class was in training."""
    classes = fitted.classes_
    known = np.isin(y, classes)
    proba = fitted.predict_proba(T)[known]
    own = proba[np.arange(len(proba)), np.searchsorted(classes, y[known])]
    return -np.log(np.maximum(own, 1e-12)).mean()


def measure(problem, n_rows, contenders, repetitions):
    X, y, features, kind = problem
    rows = np.random.default_rng(0).permutation(len(y))[:n_rows]
    X, y = X.iloc[rows] if hasattr(X, "iloc") else X[rows], np.asarray(y)[rows]
    found = []
    for repetition in range(repetitions):
        for train, test in KFold(2, shuffle=True, random_state=repetition).split(y):
            part = [X.iloc[r] if hasattr(X, "iloc") else X[r] for r in (train, test)]
            own, made = [], {}
            for name in contenders:
                parts = NAME.fullmatch(name).groupdict()
                encoding = parts.pop("encoding")
                if encoding not in made:
                    columns = encoded(features, encoding)
                    made[encoding] = columns.fit_transform(part[0]), columns.transform(part[1])
                Z, T = made[encoding]
                start = time.process_time()
                fitted = make_head(kind, **parts).fit(Z, y[train])
                seconds = time.process_time() - start
                loss = log_loss(fitted, T, y[test]) if kind == "classes" else np.nan
                own.append((fitted.score(T, y[test]), loss, seconds))
            found.append(own)
    return np.array(found).T  # (score, loss, seconds) x contenders x folds


def paired(difference):
    mean, half = difference.mean(), interval(difference)
    low, high = mean - half, mean + half
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=list(PROBLEMS))
    parser.add_argument("--rows", nargs="+", type=int, default=[2000])
    parser.add_argument("--contenders", nargs="+", default=["mini 8"])
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    names = ["head", *options.contenders]
    heads = ["data", "rows", "contender", "score", "difference", "log loss"]
    heads += ["difference of log loss", "CPU seconds"]
    print(f"| {' | '.join(heads)} |")
    print(f"| --- | ---: | --- {'| ---: ' * 5}|")
    for name in options.only:
        problem = PROBLEMS[name]()
        for n_rows in sorted({min(n, len(problem[1])) for n in options.rows}):
            scores, losses, seconds = measure(problem, n_rows, names, options.repetitions)
            for i, contender in enumerate(names):
                cells = [name, n_rows, contender, f"{scores[i].mean():.3f}"]
                cells += [paired(scores[i] - scores[0]) if i else ""]
                has_loss = not np.isnan(losses[i]).any()
                cells += [f"{losses[i].mean():.3f}" if has_loss else ""]
                cells += [paired(losses[i] - losses[0]) if i and has_loss else ""]
                cells += [f"{np.median(seconds[i]):.1f}"]
                print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
