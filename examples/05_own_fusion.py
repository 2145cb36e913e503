"""A custom fusion in a joint network: mixture of experts, and the modality weights of each row.

Run: python examples/05_own_fusion.py

A fusion is a torch module with two methods; the estimator does the rest: absent modalities,
training, search, clones, pickles. Here each modality is an expert, and a gate that sees them all
weighs them.
"""

import warnings

import torch
from sklearn.model_selection import GridSearchCV, GroupKFold
from torch import nn

import sklearn_mmfusion as mm


class Experts(nn.Module):
    """One small network per modality, mixed by a gate (Jacobs et al. 1991)."""

    def __init__(self, in_features, out_features, hidden=64):
        super().__init__()
        self.out_features = out_features
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, out_features))
            for width in in_features
        )
        self.gate = nn.Linear(sum(in_features), len(in_features))

    def weights(self, features, mask):
        present = [torch.where(mask[:, [m]], x, 0.0) for m, x in enumerate(features)]
        scores = self.gate(torch.cat(present, 1))
        # the lowest number, not minus infinity: softmax of nothing but that is NaN
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        return torch.softmax(scores, 1) * mask

    def forward(self, features, mask):
        present = [torch.where(mask[:, [m]], x, 0.0) for m, x in enumerate(features)]
        outputs = torch.stack([f(x) for f, x in zip(self.experts, present, strict=True)], 1)
        return (self.weights(features, mask)[..., None] * outputs).sum(1)


def main():
    data = mm.load_multimodal_digits()
    X, y, groups = data.data.iloc[:300], data.target[:300], data.groups[:300]
    model = mm.JointFusionClassifier(
        [
            ("image", mm.ImageEncoder(n_components=32, channels=(16, 32)), "image"),
            ("text", mm.TextEncoder(n_components=32), "text"),
            ("audio", mm.AudioEncoder(n_components=32, sample_rate=8000), "audio"),
        ],
        max_epochs=8,
        lr=5e-3,
        early_stopping=False,  # for the example's sake: the length of training is not searched
        random_state=0,
    )
    fusions = {"fusion": ["concat", Experts]}
    search = GridSearchCV(model, fusions, cv=GroupKFold(3)).fit(X, y, groups=groups)
    for fusion, score in zip(fusions["fusion"], search.cv_results_["mean_test_score"], strict=True):
        print(f"{getattr(fusion, '__name__', fusion):>8}: accuracy {score:.3f}")

    model.set_params(fusion=Experts, fusion_params={"hidden": 32}).fit(X, y)
    print("\nWhat the gate lets through, three rows:")
    print(model.modality_weights(X.iloc[:3]).round(2).to_string())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*lacks columns")  # meant here
        print("\nand without sound:")
        print(model.modality_weights(X.iloc[:3].drop(columns="audio")).round(2).to_string())
    row = {name: X[name].iloc[0] for name in ("image", "text")}  # as it comes in: no frame
    print(f"\nOne row, no sound: {model.predict_one(row)} (true {y[0]})")


if __name__ == "__main__":
    main()
