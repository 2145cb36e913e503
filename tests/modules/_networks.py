"""Small double-precision networks without dropout, and batches for them: one record each."""

import importlib
import math
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import signature

import torch

from sklearn_mmfusion import modules
from sklearn_mmfusion.modules.audio import AudioCNN, AudioCRNN, AudioLSTM
from sklearn_mmfusion.modules.fusion_network import EncoderNetwork
from sklearn_mmfusion.modules.image import ImageCNN, ImageSetNetwork
from sklearn_mmfusion.modules.layers import pad
from sklearn_mmfusion.modules.perceptron import MLP
from sklearn_mmfusion.modules.point_cloud import PointCloudNetwork
from sklearn_mmfusion.modules.recurrent import RecurrentNetwork
from sklearn_mmfusion.modules.sequence import TemporalConvNet
from sklearn_mmfusion.modules.text import TextNetwork, TextRNN
from sklearn_mmfusion.modules.video import VideoNetwork

N_MELS = 6
SIZES = {"n_words": 7, "n_ngrams": 9, "n_chars": 5}
RANDOMNESS = ["dropout", "token_dropout", "max_shift"]


@dataclass(frozen=True)
class Network:
    """What the tests of every network know of one.

    ``make()`` builds it; ``batch(lengths, random)`` draws keywords of its ``forward``, one row per
    length. ``ragged``: it reads sequences of these lengths, padded. ``scaled``: the keyword that
    ``set_scale`` standardizes. ``n_tokens(length)``: how many tokens a row of that length has;
    ``pool(tokens)``: what of the valid ones (L, token_features) its ``embedding`` reads.
    """

    make: Callable
    batch: Callable
    ragged: bool = False
    scaled: str | None = None
    n_tokens: Callable | None = None
    pool: Callable | None = None


def quiet(network, *args, **params):
    """The network without anything random in training."""
    off = {name: 0.0 for name in RANDOMNESS if name in signature(network).parameters}
    return network(*args, **off, **params)


def make_image():
    return quiet(ImageCNN, 2, (9, 8), out_features=5, channels=(3, 4))


def make_mlp():
    """With weights after its last layers, which are zero at first."""
    network = quiet(MLP, 3, 2, hidden_layer_sizes=(6, 4))
    for parameter in (*network.output.parameters(), *network.linear.parameters()):
        torch.nn.init.normal_(parameter)
    return network


def normal(*shape, random):
    return torch.randn(*shape, generator=random, dtype=torch.float64)


def draw_frames(lengths, random):
    return {"frames": normal(int(lengths.sum()), N_MELS, random=random), "frames_lengths": lengths}


def draw_ids(lengths, random):
    batch = {}
    for name, size in SIZES.items():
        ids = torch.randint(size, (int(lengths.sum()),), generator=random)
        batch |= {name[2:]: ids, f"{name[2:]}_lengths": lengths}
    return batch


def draw_words(lengths, random):
    ids = torch.randint(SIZES["n_words"], (int(lengths.sum()),), generator=random)
    return {"words": ids, "words_lengths": lengths}


def draw_pixels(lengths, random):
    return {"pixels": normal(len(lengths), 2, 9, 8, random=random)}


def draw_image_sets(lengths, random):
    pixels = normal(int(lengths.sum()), 2, 9, 8, random=random)
    return {"pixels": pixels, "pixels_lengths": lengths}


def draw_features(lengths, random):
    return {"features": normal(len(lengths), 3, random=random)}


def draw_points(lengths, random):
    return {"points": normal(int(lengths.sum()), 3, random=random), "points_lengths": lengths}


def draw_clips(lengths, random):
    frames = normal(int(lengths.sum()), 2, 6, 5, random=random)
    return {"frames": frames, "frames_lengths": lengths}


def make_video(pooling):
    sizes = {"channels": (3, 4), "frame_features": 6, "hidden_size": 4}
    return quiet(VideoNetwork, 2, (6, 5), out_features=5, pooling=pooling, **sizes)


def mean_max(tokens):
    return torch.cat([tokens.mean(0), tokens.amax(0)])


NETWORKS = {
    "audio_cnn": Network(
        make=lambda: quiet(AudioCNN, N_MELS, out_features=5, channels=(3, 4)),
        batch=draw_frames,
        ragged=True,
        scaled="frames",
        n_tokens=lambda length: math.ceil(length / 4),
        pool=mean_max,
    ),
    "audio_lstm": Network(
        make=lambda: quiet(AudioLSTM, N_MELS, out_features=5, hidden_size=4),
        batch=draw_frames,
        ragged=True,
        scaled="frames",
        n_tokens=lambda length: length,
        pool=mean_max,
    ),
    "audio_crnn": Network(
        make=lambda: quiet(AudioCRNN, N_MELS, out_features=5, channels=6, hidden_size=4),
        batch=draw_frames,
        ragged=True,
        scaled="frames",
        n_tokens=lambda length: math.ceil(length / 2),
        pool=mean_max,
    ),
    "gru": Network(
        make=lambda: quiet(RecurrentNetwork, N_MELS, 5, "gru", hidden_size=4),
        batch=draw_frames,
        ragged=True,
        scaled="frames",
        n_tokens=lambda length: length,
        pool=mean_max,
    ),
    "tcn": Network(
        make=lambda: quiet(TemporalConvNet, N_MELS, 5, channels=6, n_blocks=2, kernel_size=3),
        batch=draw_frames,
        ragged=True,
        scaled="frames",
        n_tokens=lambda length: length,
        pool=mean_max,
    ),
    "text": Network(
        make=lambda: quiet(TextNetwork, **SIZES, out_features=5, embedding_dim=4, channels=6),
        batch=draw_ids,
        ragged=True,
        n_tokens=lambda length: length,
    ),
    **{
        f"text_{cell}": Network(
            make=partial(quiet, TextRNN, SIZES["n_words"], 5, cell, embedding_dim=4, hidden_size=4),
            batch=draw_words,
            ragged=True,
            n_tokens=lambda length: length,
            pool=mean_max,
        )
        for cell in ("gru", "lstm")
    },
    "image": Network(
        make=make_image,
        batch=draw_pixels,
        scaled="pixels",
        n_tokens=lambda length: 4 * 4,  # 9 x 8 pixels, halved once
        pool=lambda tokens: tokens.T.flatten(),
    ),
    **{
        f"images_{pooling}": Network(
            make=lambda pooling=pooling: ImageSetNetwork(make_image(), pooling, attention_size=4),
            batch=draw_image_sets,
            ragged=True,
            n_tokens=lambda length: length,
        )
        for pooling in ("mean", "max", "attention")
    },
    "point_cloud": Network(
        make=lambda: quiet(PointCloudNetwork, 3, out_features=5, channels=(4, 6)),
        batch=draw_points,
        ragged=True,
        scaled="points",
        n_tokens=lambda length: length,
        pool=lambda tokens: tokens.amax(0),
    ),
    "video_gru": Network(
        make=lambda: make_video("gru"),
        batch=draw_clips,
        ragged=True,
        scaled="frames",
        n_tokens=lambda length: length,
        pool=mean_max,
    ),
    "video_attention": Network(
        make=lambda: make_video("attention"),
        batch=draw_clips,
        ragged=True,
        scaled="frames",
        n_tokens=lambda length: length,
    ),
    "mlp": Network(
        make=make_mlp,
        batch=draw_features,
        scaled="features",
    ),
    "headed": Network(make=lambda: EncoderNetwork(make_image(), 3), batch=draw_pixels),
}


def having(field):
    """Names of the networks whose record has a field."""
    return [kind for kind, network in NETWORKS.items() if getattr(network, field)]


def make_network(kind, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[kind].make().double()


def make_batch(kind, lengths=(5, 2, 9, 1, 4), seed=0):
    """Keywords of a network's forward, one row for each length."""
    random = torch.Generator().manual_seed(seed)
    return NETWORKS[kind].batch(torch.tensor(lengths), random)


def rows_of(batch, rows):
    """The batch of some rows."""
    part = {}
    for name, values in batch.items():
        if f"{name}_lengths" in batch:
            cells = values.split(batch[f"{name}_lengths"].tolist())
            part[name] = torch.cat([cells[row] for row in rows])
        else:
            part[name] = values[list(rows)]
    return part


def pad_more(n_steps, calls=None):
    """`layers.pad` that lays `n_steps` steps of padding behind the longest sequence too."""

    def padded(values, lengths):
        if calls is not None:
            calls.append(len(lengths))
        out, mask = pad(values, lengths)
        more = out.new_zeros((out.shape[0], n_steps, *out.shape[2:]))
        return torch.cat([out, more], 1), torch.cat([mask, mask.new_zeros(len(mask), n_steps)], 1)

    return padded


def pad_networks_more(monkeypatch, n_steps):
    """Let every network pad by `n_steps` steps more; return the list that its calls extend."""
    calls = []
    for info in pkgutil.iter_modules(modules.__path__, f"{modules.__name__}."):
        module = importlib.import_module(info.name)
        if getattr(module, "pad", None) is pad:
            monkeypatch.setattr(module, "pad", pad_more(n_steps, calls))
    return calls
