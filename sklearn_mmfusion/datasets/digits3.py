"""Reader of the `digits3` folder: the same digit handwritten, spoken and spelled, all real."""

from pathlib import Path

import numpy as np

from sklearn_mmfusion.containers import TensorArray, multimodal_frame
from sklearn_mmfusion.datasets.shared import as_bunch

FILES = ("digits3.npz", "digits3_small.npz")
ARRAYS = ("image", "audio", "audio_offsets", "text", "y", "split", "speaker", "sample_rate")


def load_digits3(path, *, return_X_y=False):
    """Load the `digits3` set from a folder or an `.npz` file.

    Parameters
    ----------
    path : str or pathlib.Path
        Folder with `digits3.npz` or `digits3_small.npz` (the larger one wins), or such a file.
    return_X_y : bool, default=False
        Return `(X, y)` instead of a Bunch.

    Returns
    -------
    data : Bunch
        `data` (columns `image` (28, 28) uint8, `text`, ragged int16 `audio` at 8 kHz), `target`,
        `target_names`, `groups` (the speaker), `train` and `test` (positions of the official
        split) and `DESCR`.
    (X, y) : tuple
        The first two of these, if `return_X_y`.

    Raises
    ------
    FileNotFoundError
        If neither file is there.
    ValueError
        If the file lacks one of the arrays.
    """
    file = find_file(path)
    with np.load(file, allow_pickle=False) as archive:
        lacking = [name for name in ARRAYS if name not in archive]
        if lacking:
            raise ValueError(
                f"{file} lacks the arrays {lacking}; expected those of digits3: {list(ARRAYS)}."
            )
        arrays = {name: archive[name] for name in ARRAYS}
    split = arrays["split"]
    return as_bunch(
        read_frame(arrays),
        arrays["y"].astype(np.int64),
        return_X_y,
        target_names=[str(digit) for digit in range(10)],
        groups=arrays["speaker"],
        train=np.flatnonzero(split == "train"),
        test=np.flatnonzero(split == "test"),
        DESCR=f"digits3: handwritten, spoken and spelled digits, read from {file.name}.",
    )


def find_file(path):
    """Return the file to read; raise with the expected names."""
    path = Path(path)
    if path.is_file():
        return path
    for name in FILES:
        if (path / name).is_file():
            return path / name
    found = (
        f"it holds {sorted(p.name for p in path.iterdir())}" if path.is_dir() else "no such folder"
    )
    raise FileNotFoundError(
        f"No digits3 data at {str(path)!r}: {found}. Expected a folder with {' or '.join(FILES)}."
    )


def read_frame(arrays):
    """Return the frame of the three modalities."""
    starts, stops = arrays["audio_offsets"][:-1], arrays["audio_offsets"][1:]
    audio = [arrays["audio"][a:b] for a, b in zip(starts, stops, strict=True)]
    return multimodal_frame(
        image=TensorArray._adopt(arrays["image"]),
        text=[str(word) for word in arrays["text"]],
        audio=TensorArray(audio, sample_rate=int(arrays["sample_rate"])),
    )
