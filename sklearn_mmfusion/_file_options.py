"""How files are read: the keys of the parameter `file_params`, and the folder of relative paths."""

import os
import re
from dataclasses import dataclass, fields
from difflib import get_close_matches
from numbers import Integral, Real

import numpy as np


@dataclass(frozen=True)
class FileOptions:
    """How files are read: the keys of the parameter ``file_params`` of the encoders.

    Parameters
    ----------
    mode : {"auto", "L", "RGB", "RGBA"}, default="auto"
        Channels of images: gray, color, or color with alpha. "auto" keeps those of the file;
        an `ImageEncoder` then converts all images to the most common mode of the training files.
    mono : {"mean", "first"} or None, default="mean"
        How to make one channel of several; None keeps all.
    n_frames : int, default=16
        Number of frames of a video, spread evenly over it; shorter ones have fewer.
    fps : float or None, default=None
        Frames per second of a video, in place of `n_frames`.
    on_error : {"raise", "missing"}, default="raise"
        What to do with a file that cannot be read: raise, or treat the cell as absent.
    max_pixels : int, default=60_000_000
        Largest number of pixels of an image.
    max_bytes : int, default=2**28
        Largest size of a file, and of the array that it is decoded or resampled to.
    cache_folder : str, default=None
        Folder in which decoded and resized cells are kept.
    root : str, default=None
        Folder that relative paths start from; no path may leave it.
    outside_root : bool, default=False
        Whether paths may leave `root`: absolute ones, and those that contain "..".
    """

    mode: str = "auto"
    mono: str | None = "mean"
    n_frames: int = 16
    fps: float | None = None
    on_error: str = "raise"
    max_pixels: int = 60_000_000
    max_bytes: int = 2**28
    cache_folder: str | None = None
    root: str | None = None
    outside_root: bool = False

    @classmethod
    def of(cls, estimator):
        """Read the parameter ``file_params`` of an estimator, which may have none.

        Raises
        ------
        TypeError, ValueError
            If it is not a dict, or has an unknown key or a wrong value.
        """
        return cls.from_dict(getattr(estimator, "file_params", None), type(estimator).__name__)

    @classmethod
    def from_dict(cls, params, caller):
        """Check a dict of options, or None; errors name the caller."""
        if not params:
            return DEFAULT
        label = f"{caller}: file_params"
        if not isinstance(params, dict):
            raise TypeError(f"{label} is {params!r}; expected a dict such as {{'root': 'photos'}}.")
        names = [field.name for field in fields(cls)]
        for name, value in params.items():
            if name not in names:
                close = get_close_matches(str(name), names, n=1)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                raise ValueError(f"{label} has the key {name!r}; expected one of {names}.{hint}")
            check, expected = _CHECKS[name]
            if not check(value):
                raise ValueError(f"{label} has {name}={value!r}; expected {expected}.")
        paths = {key: os.fspath(params[key]) for key in ("root", "cache_folder") if params.get(key)}
        return cls(**{**params, **paths})


def _one_of(*values):
    return lambda value: isinstance(value, str) and value in values, " or ".join(map(repr, values))


def _is_count(value):
    return isinstance(value, Integral) and not isinstance(value, bool) and value > 0


def _is_rate(value):
    return value is None or isinstance(value, Real) and 0 < value < float("inf")


_COUNT = _is_count, "an integer above 0"
_FOLDER = lambda value: value is None or isinstance(value, str | os.PathLike), "a path or None"
_CHECKS = {
    "mode": _one_of("auto", "L", "RGB", "RGBA"),
    "mono": _one_of("mean", "first"),
    "n_frames": _COUNT,
    "fps": (_is_rate, "a number above 0 or None"),
    "on_error": _one_of("raise", "missing"),
    "max_pixels": _COUNT,
    "max_bytes": _COUNT,
    "cache_folder": _FOLDER,
    "root": _FOLDER,
    "outside_root": (lambda value: isinstance(value, bool | np.bool_), "True or False"),
}
DEFAULT = FileOptions()
AS_STORED = FileOptions(mono=None)


def check_root(options, estimator_name):
    """Raise if the root folder does not exist, whatever `on_error` is."""
    if options.root is not None and not os.path.isdir(options.root):
        where = "" if os.path.isabs(options.root) else f" in {os.getcwd()!r}"
        raise FileNotFoundError(
            f"{estimator_name}: file_params has root={options.root!r}, but there is no such folder"
            f"{where}. Set root to an existing folder."
        )


def leaves_root(path):
    """Whether a path, joined to a folder, may lead out of it: links are not followed.

    Data folders hold links to other disks on purpose; whoever may write links into the folder may
    read what they point to. A path comes from a table, which anybody may have written.
    """
    path = os.fspath(path)
    text = os.fsdecode(path)
    # "/x" too on Windows, where recent versions of Python do not count it as absolute
    is_absolute = text[:1] in ("/", "\\") or bool(os.path.splitdrive(text)[0])
    return is_absolute or ".." in re.split(r"[/\\]", text)
