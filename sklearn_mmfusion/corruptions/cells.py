"""Corruptions of the cells of a column."""

import numpy as np
import pandas as pd
import torch

from sklearn_mmfusion._validation import check_real, draw_seed
from sklearn_mmfusion.containers.cells import channels_lead
from sklearn_mmfusion.containers.conversion import as_column
from sklearn_mmfusion.containers.dtypes import TensorDtype, only_rate
from sklearn_mmfusion.containers.file_array import FileArray, in_threads
from sklearn_mmfusion.containers.tensor_array import TensorArray
from sklearn_mmfusion.corruptions.image import pixel_range
from sklearn_mmfusion.corruptions.table import (
    CORRUPTIONS,
    check_severity,
    find_corruption,
    listed,
)


def corrupt(X, modality, name, severity=1, *, random_state=None):
    """Corrupt the cells of a column, to measure how robust a fitted model is.

    Absent cells stay absent. Cells keep their shape (texts may change their length) and their type.

    Parameters
    ----------
    X : column of cells
        A Series, a list or an array of n cells. Files are decoded.
    modality : {"image", "audio", "text", "sequence", "video", "point_cloud"}
        Kind of the cells.
    name : str
        One of ``CORRUPTIONS[modality]`` that acts on cells:

        - image: "flip", "rotation", "scale", "crop", "color", "noise", "blur", "occlusion";
        - audio: "noise", "gain", "shift", "dropouts", "clipping";
        - text: "drop" (of words), "swap" (of neighboring words), "typo";
        - sequence: "jitter", "scale", "warp", "crop", "channel_dropout";
        - video: those of images without "color", the same for all frames; "warp" (of time);
        - point_cloud: "jitter", "scale".
    severity : int, default=1
        From 0, which changes nothing, to 5. ``CORRUPTIONS[modality][name].strengths`` holds the
        strengths of 1 to 5.
    random_state : int, RandomState instance or None, default=None
        Seed. Each row has a seed of its own, made from this one and its number, so that a row
        does not depend on the others.

    Returns
    -------
    X_corrupted : Series, TensorArray or ExtensionArray of str, of length n
        A Series, with the same index and name, if X is one.

    Raises
    ------
    ValueError
        For an unknown modality, name or severity, and for corruptions that only act on the inputs
        of networks, such as masks of spectrograms.

    Notes
    -----
    The strength of noise and the limits of pixels need a scale. It is 0 to 255 for uint8; for other
    types it is 0 to 1 if the image lies there, else from its lowest pixel or 0 to its highest.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mmfusion.corruptions import corrupt
    >>> tones = [np.sin(np.arange(2000) / 5), None]
    >>> noisy = corrupt(tones, "audio", "noise", severity=3, random_state=0)
    >>> power = np.mean(tones[0] ** 2) / np.mean((noisy[0] - tones[0]) ** 2)
    >>> round(10 * np.log10(power), 6), noisy.isna().tolist()
    (np.float64(15.0), [False, True])
    """
    corruption = find_corruption(modality, name, "corrupt")
    check_severity(severity, "corrupt")
    if corruption.on_cells is None:
        possible = [n for n, c in CORRUPTIONS[modality].items() if c.on_cells is not None]
        raise ValueError(
            f"corrupt: {name!r} of {modality} acts on the inputs of a network, not on cells; "
            f"expected {listed(possible)}. Pass it to an encoder as augment=[({name!r}, {{}})]."
        )
    column = _decoded(as_column(X, name=getattr(X, "name", None), copy=False))
    if severity == 0:
        column = column.copy()
    else:
        seeds = _row_seeds(random_state)
        apply, params = APPLY[modality], corruption.params(severity)
        present = ~np.asarray(pd.isna(column))
        cells = [None] * len(column)
        for row in np.flatnonzero(present):
            cell = _checked(column[row], modality, row)
            if np.size(cell):
                cell = apply(cell, corruption.on_cells, params, seeds(row))
            cells[row] = cell
        column = type(column)._from_sequence(cells, dtype=column.dtype)
    if isinstance(X, pd.Series):
        return pd.Series(column, index=X.index, name=X.name)
    return column


def _row_seeds(random_state):
    """Return a function that makes the seed of a row."""
    if random_state is None:  # numpy's global generator stays as it is
        random_state = np.random.RandomState()
    root = draw_seed(random_state)
    return lambda row: np.random.SeedSequence([root, row])


def _decoded(column):
    """Replace files by what they hold, and other columns of texts by one of str."""
    if isinstance(column, TensorArray):
        check_real(column.dtype.value_dtype, "corrupt")
    if isinstance(column.dtype, TensorDtype | pd.StringDtype):
        return column
    cells, rate = [None] * len(column), None
    if isinstance(column, FileArray):
        rows = np.flatnonzero(~column.isna())
        pairs = in_threads(column.decode_one, rows)
        rate = only_rate((rate for _, rate in pairs), "corrupt: files")
        for row, (cell, _) in zip(rows, pairs, strict=True):
            cells[row] = cell
    else:
        cells = [
            None if is_na else cell for cell, is_na in zip(column, pd.isna(column), strict=True)
        ]
    return as_column(cells, sample_rate=rate)


def _checked(cell, modality, row):
    """Return a cell; raise if a modality has no such cells."""
    is_text = isinstance(cell, str)
    n_axes = N_AXES[modality]
    if is_text == (modality == "text") and (is_text or np.ndim(cell) in n_axes):
        return cell
    shown = "a text" if is_text else f"an array of {np.ndim(cell)} axes"
    wanted = f"arrays of {' or '.join(map(str, n_axes))} axes" if n_axes else "texts"
    raise ValueError(f"corrupt: row {row} holds {shown}; expected {wanted} for {modality!r}.")


# ------------------------------------------------------------------------------ cells by modality


def _limits(pixels):
    """The scale of pixels, see `pixel_range`; 0 to 255 for uint8."""
    if pixels.dtype == np.uint8:
        return 0.0, 255.0
    finite = pixels[np.isfinite(pixels)]
    return pixel_range(finite.min(initial=0), finite.max(initial=0))


def _corrupt_clip(clip, function, params, seed):
    low, high = _limits(clip)
    frames = (_as_float(clip) - low) / (high - low)
    first = frames.ndim == 4 and channels_lead(frames.shape[1:])
    frames = frames if first else np.moveaxis(frames.reshape(*clip.shape[:3], -1), -1, 1)
    frames = _apply_to_batch(np.ascontiguousarray(frames), function, params, seed)
    frames = frames if first else np.moveaxis(frames, 1, -1)
    return _as_type(frames.reshape(clip.shape) * (high - low) + low, clip.dtype)


def _corrupt_image(image, function, params, seed):
    low, high = _limits(image)
    channels = image.reshape(*image.shape, -1) if image.ndim == 2 else image
    first = image.ndim == 3 and channels_lead(image.shape)
    channels = channels if first else np.moveaxis(channels, -1, 0)
    pixels = (_as_float(channels) - low) / (high - low)
    pixels = _apply_to_batch(pixels, function, params, seed) * (high - low) + low
    pixels = pixels if first else np.moveaxis(pixels, 0, -1)
    return _as_type(pixels.reshape(image.shape), image.dtype)


def _corrupt_sequence(values, function, params, seed):
    return _as_type(_apply_to_batch(_as_float(values), function, params, seed), values.dtype)


def _corrupt_samples(samples, function, params, seed):
    samples, dtype = samples.astype(np.float64), samples.dtype
    return _as_type(function(samples, np.random.default_rng(seed), **params), dtype)


def _corrupt_text(text, function, params, seed):
    return function(text, np.random.default_rng(seed), **params)


def _apply_to_batch(values, function, params, seed):
    """Call a function of batches with one cell and a generator of its own."""
    generator = torch.Generator("cpu").manual_seed(int(seed.generate_state(1, np.uint64)[0] >> 1))
    return function(torch.from_numpy(values[None]), generator, **params)[0].numpy()


def _as_float(values):
    """A writable float32 copy, or a float64 one of types that float32 would round."""
    return np.array(values, dtype=np.result_type(values.dtype, np.float32), order="C")


def _as_type(values, dtype):
    """Convert back to the type of the column; whole numbers are rounded and saturate."""
    if dtype.kind == "b":
        return values >= 0.5
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        # as a float, the largest 64-bit integer rounds up to a number that is out of range
        most = min(limits.max, np.nextafter(float(limits.max) + 1, 0))
        values = np.clip(np.rint(values), limits.min, most)
    return values.astype(dtype)


APPLY = {
    "image": _corrupt_image,
    "audio": _corrupt_samples,
    "text": _corrupt_text,
    "sequence": _corrupt_sequence,
    "video": _corrupt_clip,
    "point_cloud": _corrupt_sequence,
}
N_AXES = {
    "image": (2, 3),
    "audio": (1, 2),
    "text": (),
    "sequence": (1, 2, 3, 4),
    "video": (3, 4),
    "point_cloud": (2,),
}
