"""Encoded rows of a joint network, for predictions in which some modalities are changed."""

import numpy as np
import torch
from torch import nn

from sklearn_mmfusion._torch import FusionInputs


class Recorder(nn.Module):
    """Runs the encoders of a `FusionNetwork` and keeps the outputs of each batch.

    Shape: forward(mask, **batch) -> (N, 2): number of the batch, and row within it.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self.batches = []
        self.eval()  # `predict_batches` restores the mode, also that of the network

    def forward(self, mask, **batch):
        features, tokens = self.network.encode(mask, batch)
        on_host = [x.cpu() for x in features]
        if tokens is not None:
            tokens = [tuple(x.cpu() for x in own) for own in tokens]
        self.batches.append((on_host, tokens))
        rows = torch.arange(len(mask))
        return torch.stack([torch.full_like(rows, len(self.batches) - 1), rows], dim=1)


class EncodedInputs(FusionInputs):
    """Inputs of a joint network with the outputs of its encoders.

    Parameters
    ----------
    parts : dict of str to (Inputs or None, ndarray of shape (n,), dtype=bool)
        See `FusionInputs`.
    batches : list of (ndarray of int, list of Tensor, list of tuple of Tensor or None)
        Rows, features and tokens of each batch, as `FusionNetwork.encode` returns them.
    """

    def __init__(self, parts, batches):
        super().__init__(parts)
        self.batches = batches

    @classmethod
    def recorded(cls, inputs, recorder, places):
        """Join inputs and the batches of a `Recorder`, which returned `places` for the rows."""
        batches, (numbers, order) = [], places.astype(np.int64).T
        for number in np.unique(numbers):  # those of an attempt without enough memory are not there
            rows = np.flatnonzero(numbers == number)
            batches.append((rows[np.argsort(order[rows])], *recorder.batches[number]))
        masks = zip(inputs.parts.items(), inputs.mask.T, strict=True)
        return cls({name: (part, present) for (name, part), present in masks}, batches)

    def without(self, names):
        """The same inputs, with some modalities absent in all rows."""
        hidden = [name in names for name in self.parts]
        parts = {
            name: (None, np.zeros_like(present)) if is_hidden else (part, present)
            for (name, part), present, is_hidden in zip(
                self.parts.items(), self.mask.T, hidden, strict=True
            )
        }
        batches = [
            (
                rows,
                _cleared(features, hidden, torch.zeros_like),
                tokens and _cleared(tokens, hidden, _none),
            )
            for rows, features, tokens in self.batches
        ]
        return EncodedInputs(parts, batches)

    def replaced(self, other, names):
        """The same inputs, with some modalities of other inputs for the same rows."""
        parts = {}
        batches = [(rows, list(own), tokens and list(tokens)) for rows, own, tokens in self.batches]
        for m, name in enumerate(self.parts):
            source = other if name in names else self
            parts[name] = source.parts[name], source.mask[:, m]
            if source is self:
                continue
            features, tokens = other._in_order(m)
            for rows, own, own_tokens in batches:
                own[m] = features[rows]
                if own_tokens is not None:
                    own_tokens[m] = tuple(x[rows] for x in tokens)
        return EncodedInputs(parts, batches)

    def _in_order(self, m):
        """Features of a modality for all rows, and its tokens, padded to the longest."""
        place = torch.from_numpy(np.argsort(np.concatenate([rows for rows, _, _ in self.batches])))
        features = torch.cat([own[m] for _, own, _ in self.batches])[place]
        if self.batches[0][2] is None:
            return features, None
        tokens = [own[m] for _, _, own in self.batches]
        longest = max(mask.shape[1] for _, mask in tokens)
        return features, tuple(
            torch.cat([_lengthened(x, longest) for x in own])[place]
            for own in zip(*tokens, strict=True)
        )

    def fuse(self, network, device):
        """Outputs of a `FusionNetwork` in eval mode: ndarray of shape (n, n_outputs)."""
        outputs = []
        with torch.inference_mode():
            for rows, features, tokens in self.batches:
                features = [x.to(device) for x in features]
                if tokens is not None:
                    tokens = [tuple(x.to(device) for x in own) for own in tokens]
                mask = torch.from_numpy(self.mask[rows]).to(device)
                outputs.append(network.fuse(features, tokens, mask).float().cpu().numpy())
        in_order = np.empty((len(self), *outputs[0].shape[1:]), dtype=np.float32)
        in_order[np.concatenate([rows for rows, _, _ in self.batches])] = np.concatenate(outputs)
        return in_order


def _cleared(values, hidden, clear):
    return [clear(x) if is_hidden else x for x, is_hidden in zip(values, hidden, strict=True)]


def _lengthened(tokens, n_steps):
    """Tokens (N, L, ...) or their mask (N, L) with zeros at the end."""
    longer = tokens.new_zeros((len(tokens), n_steps, *tokens.shape[2:]))
    longer[:, : tokens.shape[1]] = tokens
    return longer


def _none(tokens):
    """Tokens of a modality that no row of a batch has, as `FusionNetwork.encode` makes them."""
    values, mask = tokens
    return torch.zeros_like(values[:, :1]), torch.zeros_like(mask[:, :1])
