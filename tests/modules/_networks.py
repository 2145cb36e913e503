"""Small double-precision networks without dropout, and batches for them."""

from inspect import signature

import torch

from sklearn_mmfusion.modules.audio import AudioCNN, AudioLSTM
from sklearn_mmfusion.modules.fusion_network import EncoderNetwork
from sklearn_mmfusion.modules.image import ImageCNN
from sklearn_mmfusion.modules.perceptron import MLP
from sklearn_mmfusion.modules.text import TextNetwork

N_MELS = 6
SIZES = {"n_words": 7, "n_ngrams": 9, "n_chars": 5}


RANDOMNESS = ["dropout", "token_dropout", "max_shift"]


def quiet(network, *args, **params):
    """The network without anything random in training."""
    off = {name: 0.0 for name in RANDOMNESS if name in signature(network).parameters}
    return network(*args, **off, **params)


def make_audio_cnn():
    return quiet(AudioCNN, N_MELS, out_features=5, channels=(3, 4))


def make_audio_lstm():
    return quiet(AudioLSTM, N_MELS, out_features=5, hidden_size=4)


def make_text():
    return quiet(TextNetwork, **SIZES, out_features=5, embedding_dim=4, channels=6)


def make_image():
    return quiet(ImageCNN, 2, (9, 8), out_features=5, channels=(3, 4))


def make_mlp():
    return quiet(MLP, 3, 2, hidden_layer_sizes=(6, 4))


def make_headed():
    return EncoderNetwork(make_image(), 3)


NETWORKS = {
    "audio_cnn": make_audio_cnn,
    "audio_lstm": make_audio_lstm,
    "text": make_text,
    "image": make_image,
    "mlp": make_mlp,
    "headed": make_headed,
}
RAGGED = ["audio_cnn", "audio_lstm", "text"]


def make_network(kind, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[kind]().double()


def make_batch(kind, lengths=(5, 2, 9, 1, 4), seed=0):
    """Keywords of a network's forward, one row for each length."""
    random = torch.Generator().manual_seed(seed)
    lengths = torch.tensor(lengths)
    n, steps = len(lengths), int(lengths.sum())
    if kind.startswith("audio"):
        frames = torch.randn(steps, N_MELS, generator=random, dtype=torch.float64)
        return {"frames": frames, "frames_lengths": lengths}
    if kind == "text":
        batch = {}
        for name, size in SIZES.items():
            ids = torch.randint(size, (steps,), generator=random)
            batch |= {name[2:]: ids, f"{name[2:]}_lengths": lengths}
        return batch
    if kind == "mlp":
        return {"features": torch.randn(n, 3, generator=random, dtype=torch.float64)}
    return {"pixels": torch.randn(n, 2, 9, 8, generator=random, dtype=torch.float64)}


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


def pad_more(pad, n_steps):
    """`layers.pad` that lays `n_steps` steps of padding behind the longest sequence too."""

    def padded(values, lengths):
        out, mask = pad(values, lengths)
        more = out.new_zeros((out.shape[0], n_steps, *out.shape[2:]))
        return torch.cat([out, more], 1), torch.cat([mask, mask.new_zeros(len(mask), n_steps)], 1)

    return padded
