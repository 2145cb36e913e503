"""The reference network at three sizes, in plain torch and as an estimator of ours.

Image CNN (32 and 64 channels, 512 features), mean of word embeddings (100), LSTM over frames
(128), head 256-128-10; at SEED 224 x 224 x 3 pixels, 64 tokens, 50 frames of 320 samples; at SMALL
32 x 32 x 3, 32 tokens, 50 frames of 64; at FEAT the head alone on 740 features.
"""

import numpy as np
import pandas as pd
import torch
from _data import BATCH_SIZE, LR, N_CLASSES, N_FEATURES, N_WORDS, SIZES
from sklearn.base import BaseEstimator
from torch import nn
from torch.nn import functional

from sklearn_mmfusion import ImageEncoder, JointFusionClassifier, NeuralClassifier, multimodal_frame
from sklearn_mmfusion.modules.image import max_pool, standardize

# ------------------------------------------------------------------------------ by hand


class HandHead(nn.Module):
    """740 features -> 10 logits; the layer norm is there since ours has one."""

    def __init__(self, in_features=N_FEATURES, n_outputs=N_CLASSES):
        super().__init__()
        self.first, self.second = nn.Linear(in_features, 256), nn.Linear(256, 128)
        self.norm, self.last = nn.LayerNorm(128), nn.Linear(128, n_outputs)

    def forward(self, features):
        x = self.second(functional.relu(self.first(features)))
        return self.last(functional.relu(self.norm(x)))


class HandNetwork(nn.Module):
    """The reference network as one writes it: ReLU, then pooling; NCHW; float32."""

    def __init__(self, frame, levers=False):
        super().__init__()
        self.image, self.levers = ImageBranch(), levers
        self.embedding = nn.Embedding(N_WORDS, 100)
        self.lstm = nn.LSTM(frame, 128, batch_first=True)
        self.head = HandHead()
        if levers:
            self.image.to(memory_format=torch.channels_last)

    def forward(self, image, tokens, frames):
        # the weight of the last state: one direction, one layer
        sound = self.lstm(frames)[1][0][0]
        words = self.embedding(tokens).mean(1)
        return self.head(torch.cat([self.image(image, self.levers), words, sound], 1))


class ImageBranch(nn.Module):
    """Two convolutions and a linear layer: (N, 3, H, W) -> (N, 512)."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1)
        self.last = nn.Linear(64 * 16, 512)

    def forward(self, x, pool_first=False):
        for convolution in (self.first, self.second):
            x = convolution(x)
            if pool_first:
                x = functional.relu_(max_pool(x, (2, 2)))
            else:
                x = functional.max_pool2d(functional.relu(x), 2)
        x = functional.adaptive_avg_pool2d(x, 4).flatten(1)
        return functional.relu(self.last(x))


def as_tensors(arrays):
    """What a loop by hand reads: float32 NCHW pixels, standardized; int64 tokens."""
    if "features" in arrays:
        return [torch.from_numpy(arrays["features"])]
    pixels = torch.from_numpy(arrays["image"]).permute(0, 3, 1, 2).float().contiguous()
    pixels = (pixels - pixels.mean((0, 2, 3), keepdim=True)) / pixels.std((0, 2, 3), keepdim=True)
    return [pixels, torch.from_numpy(arrays["tokens"]).long(), torch.from_numpy(arrays["frames"])]


# ------------------------------------------------------------------------------ ours


class ImageModule(ImageBranch):
    """The image branch as a module of `ImageEncoder`, with the levers of performance."""

    def __init__(self, in_channels, image_size, out_features):
        super().__init__()
        self.out_features = out_features
        self.register_buffer("mean", torch.zeros(1, in_channels, 1, 1))
        self.register_buffer("std", torch.ones(1, in_channels, 1, 1))
        self.to(memory_format=torch.channels_last)

    def set_scale(self, mean, std):
        self.mean.copy_(mean.view_as(self.mean))
        self.std.copy_(std.view_as(self.std))

    def forward(self, pixels):
        return super().forward(standardize(pixels, self.mean, self.std), pool_first=True)


class TextModule(nn.Module):
    """Mean embedding of token ids."""

    out_features = 100

    def __init__(self):
        super().__init__()
        self.embedding = nn.EmbeddingBag(N_WORDS, 100, mode="mean")

    def forward(self, cells):
        return self.embedding(cells)


class SoundModule(nn.Module):
    """Last state of an LSTM over frames."""

    out_features = 128

    def __init__(self, frame):
        super().__init__()
        self.lstm = nn.LSTM(frame, 128, batch_first=True)

    def forward(self, cells):
        return self.lstm(cells)[1][0][0]


class ArrayEncoder(BaseEstimator):
    """A custom encoder of cells that are ready for the network as they are."""

    wants_column = True

    def __init__(self, module, module_params=None):
        self.module = module
        self.module_params = module_params

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X

    def fit_prepare(self, X, y=None):
        return self.prepare(X)

    def prepare(self, X):
        is_column = isinstance(X, pd.Series)  # one row is an array, or a list of one
        return {"cells": X.array.gather(copy=False) if is_column else np.asarray(X)}

    def build_module(self):
        return self.module(**(self.module_params or {}))


class HeadFusion(nn.Module):
    """The first two layers of the head; a joint network adds norm and last layer."""

    def __init__(self, in_features, out_features):
        super().__init__()
        self.out_features = out_features
        self.first = nn.Linear(sum(in_features), 256)
        self.second = nn.Linear(256, out_features)

    def forward(self, features, mask):
        return self.second(functional.relu(self.first(torch.cat(features, 1))))


def make_ours(size, **params):
    """Our estimator of the reference network."""
    shared = {"lr": LR, "batch_size": BATCH_SIZE, "label_smoothing": 0.0, "early_stopping": False}
    shared |= {"dropout": 0.0, "random_state": 0, "device": "cpu", **params}
    shared.setdefault("max_epochs", SIZES[size].n_epochs)
    if size == "FEAT":
        return NeuralClassifier(module=HandHead, **shared)
    encoders = [
        ("image", ImageEncoder(module=ImageModule), "image"),
        ("tokens", ArrayEncoder(TextModule), "tokens"),
        ("frames", ArrayEncoder(SoundModule, {"frame": SIZES[size].frame}), "frames"),
    ]
    return JointFusionClassifier(
        encoders,
        fusion=HeadFusion,
        n_components=128,
        objectives=None,
        modality_dropout=0.0,
        **shared,
    )


def as_ours(arrays):
    """The arrays as what our estimators take."""
    if "features" in arrays:
        return arrays["features"]
    return multimodal_frame(**arrays)
