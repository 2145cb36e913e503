"""Corruptions of texts and of their token ids.

Those of texts take a str and a numpy generator. Those of token ids take ids (N, L) with a mask
(N, L), as those of sequences do.
"""

import torch

UNKNOWN = 0  # the id of tokens outside the vocabulary


def chosen(rng, n, share):
    """Numbers below `n`, each chosen with probability `share`."""
    return (rng.random(max(n, 0)) < share).nonzero()[0].tolist()


def drop(text, rng, share):
    """Leave out words, each with probability `share`; at least one stays."""
    words = text.split()
    dropped = set(chosen(rng, len(words), share))
    if not dropped:
        return text
    if len(dropped) == len(words):
        dropped.discard(rng.integers(len(words)))
    return " ".join(word for i, word in enumerate(words) if i not in dropped)


def swap(text, rng, share):
    """Exchange neighboring words, each pair with probability `share`."""
    words = text.split()
    swapped = chosen(rng, len(words) - 1, share)
    for i in swapped:
        words[i], words[i + 1] = words[i + 1], words[i]
    return " ".join(words) if swapped else text


def typo(text, rng, share):
    """Mistype characters, each with probability `share`.

    A character is replaced, left out, doubled, or exchanged with the next one. Replacements are
    characters of the same text, so that any script works.
    """
    letters = [c for c in text if not c.isspace()]
    typed = list(text)
    for i in chosen(rng, len(text), share):
        if typed[i].isspace():
            continue
        kind = rng.integers(4)
        if kind == 0:
            typed[i] = letters[rng.integers(len(letters))]
        elif kind == 1:
            typed[i] = ""
        elif kind == 2:
            typed[i] *= 2
        elif i + 1 < len(typed):
            typed[i], typed[i + 1] = typed[i + 1], typed[i]
    return "".join(typed) or text


def drop_tokens(ids, generator, share, mask=None):
    """Make tokens unknown, each with probability `share`."""
    chance = torch.rand(ids.shape, generator=generator, device=ids.device)
    return torch.where(chance < share, UNKNOWN, ids)
