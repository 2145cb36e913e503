"""The table of corruptions by modality, with the strength of each severity, and the presets."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from numbers import Integral, Real

from sklearn_mmfusion.corruptions import audio, image, sequence, text, video

SEVERITIES = range(6)  # 0 changes nothing
# Limits of each parameter: above the first, at most the second; (0, infinity) if not listed.
LIMITS = {name: (0, 1) for name in ("share", "probability", "strength", "level")}
LIMITS["snr"] = (-math.inf, math.inf)


@dataclass(frozen=True)
class Corruption:
    """A corruption with the strength of its severities.

    Parameters
    ----------
    parameter : str
        Parameter of the functions that sets the strength.
    strengths : tuple of 5 numbers
        Its values at severity 1 to 5.
    on_cells : callable or None, default=None
        Function of one cell and a generator of random numbers.
    on_inputs : callable or None, default=None
        Function of a batch of network inputs, on its device, and a generator.
    """

    parameter: str
    strengths: tuple
    on_cells: Callable | None = None
    on_inputs: Callable | None = None

    @property
    def acts_on(self):
        """What it changes: "cells", "inputs" or both."""
        forms = {"cells": self.on_cells, "inputs": self.on_inputs}
        return tuple(name for name, function in forms.items() if function is not None)

    def params(self, severity):
        """Return the parameters of a severity from 1 to 5."""
        return {self.parameter: self.strengths[severity - 1]}


def of_batches(parameter, strengths, function):
    """Make a corruption whose function takes batches, of one cell or of a network's inputs."""
    return Corruption(parameter, strengths, function, function)


def of_clips(parameter, strengths, function):
    """Make a corruption of clips from a function of images."""
    return of_batches(parameter, strengths, video.on_frames(function))


SHARES = (0.05, 0.1, 0.15, 0.2, 0.3)
JITTER = of_batches("std", (0.05, 0.1, 0.2, 0.4, 0.8), sequence.jitter)
FACTORS = (0.05, 0.1, 0.2, 0.3, 0.5)
ABOUT_MEAN = partial(sequence.scale, about_mean=True)

CORRUPTIONS = {
    "image": {
        "flip": of_batches("probability", (0.1, 0.2, 0.3, 0.4, 0.5), image.flip),
        "rotation": of_batches("degrees", (5, 10, 15, 20, 30), image.rotation),
        "scale": of_batches("factor", FACTORS, image.scale),
        "crop": of_batches("share", (0.05, 0.1, 0.2, 0.3, 0.4), image.crop),
        "color": of_batches("strength", (0.1, 0.2, 0.3, 0.4, 0.6), image.color),
        "noise": of_batches("std", (0.02, 0.04, 0.08, 0.12, 0.2), image.noise),
        "blur": of_batches("share", (0.01, 0.02, 0.03, 0.04, 0.06), image.blur),
        "occlusion": of_batches("share", (0.02, 0.05, 0.1, 0.2, 0.3), image.occlusion),
    },
    "audio": {
        "noise": Corruption("snr", (30, 20, 15, 10, 5), audio.noise),
        "gain": Corruption("decibels", (3, 6, 10, 15, 20), audio.gain),
        "shift": Corruption("share", SHARES, audio.shift),
        "dropouts": Corruption("share", (0.05, 0.1, 0.2, 0.3, 0.4), audio.dropouts),
        "clipping": Corruption("level", (0.8, 0.6, 0.4, 0.2, 0.1), audio.clipping),
        "time_mask": Corruption("share", SHARES, on_inputs=audio.time_mask),
        "band_mask": Corruption("share", SHARES, on_inputs=audio.band_mask),
    },
    "text": {
        "drop": Corruption("share", SHARES, text.drop, text.drop_tokens),
        "swap": Corruption("share", SHARES, text.swap),
        "typo": Corruption("share", (0.01, 0.02, 0.05, 0.1, 0.2), text.typo),
    },
    "sequence": {
        "jitter": JITTER,
        "scale": of_batches("factor", FACTORS, sequence.scale),
        "warp": of_batches("strength", (0.1, 0.2, 0.3, 0.5, 0.8), sequence.warp),
        "crop": of_batches("share", (0.05, 0.1, 0.2, 0.3, 0.4), sequence.crop),
        "channel_dropout": of_batches("probability", SHARES, sequence.channel_dropout),
    },
    "video": {
        "flip": of_clips("probability", (0.1, 0.2, 0.3, 0.4, 0.5), image.flip),
        "rotation": of_clips("degrees", (5, 10, 15, 20, 30), image.rotation),
        "scale": of_clips("factor", FACTORS, image.scale),
        "crop": of_clips("share", (0.05, 0.1, 0.2, 0.3, 0.4), image.crop),
        "noise": of_clips("std", (0.02, 0.04, 0.08, 0.12, 0.2), image.noise),
        "blur": of_clips("share", (0.01, 0.02, 0.03, 0.04, 0.06), image.blur),
        "occlusion": of_clips("share", (0.02, 0.05, 0.1, 0.2, 0.3), image.occlusion),
        "warp": of_batches("strength", (0.1, 0.2, 0.3, 0.5, 0.8), sequence.warp),
    },
    "point_cloud": {
        "jitter": of_batches("std", (0.01, 0.02, 0.05, 0.1, 0.2), sequence.jitter),
        "scale": of_batches("factor", FACTORS, ABOUT_MEAN),
    },
}

# What `augment="light"` and "strong" do: the severities of corruptions that rarely change a label.
PRESETS = {
    "image": {
        "light": {"rotation": 1, "scale": 1, "color": 1},
        "strong": {"rotation": 3, "scale": 3, "color": 3, "noise": 1, "occlusion": 2},
    },
    "audio": {
        "light": {"time_mask": 1, "band_mask": 1},
        "strong": {"time_mask": 4, "band_mask": 4},
    },
    "text": {"light": {"drop": 1}, "strong": {"drop": 4}},
    "sequence": {
        "light": {"jitter": 1, "scale": 1},
        "strong": {"jitter": 2, "scale": 3, "warp": 2, "channel_dropout": 2},
    },
    "video": {
        "light": {"rotation": 1, "scale": 1},
        "strong": {"rotation": 3, "scale": 3, "noise": 1, "occlusion": 2, "warp": 2},
    },
    "point_cloud": {"light": {"jitter": 1, "scale": 1}, "strong": {"jitter": 3, "scale": 3}},
}


def find_corruption(modality, name, label):
    """Return a corruption of the table.

    Raises
    ------
    ValueError
        If there is none of this name; the message begins with `label` and lists those there are.
    """
    if modality not in CORRUPTIONS:
        raise ValueError(
            f"{label}: modality {modality!r} is unknown; expected {listed(CORRUPTIONS)}."
        )
    if name not in CORRUPTIONS[modality]:
        raise ValueError(
            f"{label}: {modality} has no corruption {name!r}; expected "
            f"{listed(CORRUPTIONS[modality])}."
        )
    return CORRUPTIONS[modality][name]


def check_severity(severity, label):
    """Raise unless a severity is one of 0 to 5."""
    is_integer = isinstance(severity, Integral) and not isinstance(severity, bool)
    if not is_integer or severity not in SEVERITIES:
        raise ValueError(f"{label}: severity={severity!r}; expected an integer from 0 to 5.")


def check_strength(strength, parameter, label):
    """Raise unless a parameter is a number within its limits."""
    low, high = LIMITS.get(parameter, (0, math.inf))
    if not isinstance(strength, Real) or not math.isfinite(strength) or not low < strength <= high:
        limits = [f"above {low}"] * math.isfinite(low) + [f"up to {high}"] * math.isfinite(high)
        wanted = " ".join(["finite number", *limits])
        raise ValueError(f"{label} has {parameter}={strength!r}; expected a {wanted}.")


def listed(names):
    """Names in quotes, joined by commas."""
    return ", ".join(map(repr, names))
