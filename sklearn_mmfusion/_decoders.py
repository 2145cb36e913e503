"""Read image, audio and array files into numpy arrays, by their suffix."""

import os
import warnings

import numpy as np
from scipy.io import wavfile


def read_image(path):
    """Read an image file.

    Parameters
    ----------
    path : str or path-like
        Any format Pillow knows. The camera's orientation tag is applied.

    Returns
    -------
    image : ndarray of shape (height, width) or (height, width, channels)
        uint8 (uint16, int32 or float32 for deeper grey images). Palette and CMYK images come
        as RGB, black-and-white ones as 0 and 255.

    Raises
    ------
    ImportError
        If Pillow (the extra ``io``) is not installed.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError(
            "reading image files needs Pillow: pip install 'sklearn-mmfusion[io]'"
        ) from error
    with Image.open(path) as opened:
        return pil_pixels(ImageOps.exif_transpose(opened))


def pil_pixels(image):
    """Pixels of a PIL image, equal whether it came from a file or from memory.

    Parameters
    ----------
    image : PIL.Image.Image

    Returns
    -------
    pixels : ndarray of shape (height, width) or (height, width, channels)
    """
    if image.mode == "1":
        image = image.convert("L")
    elif image.mode in ("P", "PA"):
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        image = image.convert("RGB")
    return np.array(image)


def read_audio(path):
    """Read a recording.

    Parameters
    ----------
    path : str or path-like
        A wav file (PCM of 8 to 64 bits, or float); other formats through soundfile where it is
        installed.

    Returns
    -------
    samples : ndarray of shape (n_samples,) or (n_samples, n_channels), dtype=float32
        In [-1, 1] for PCM; float files as they are.
    sample_rate : int
        In Hz.

    Raises
    ------
    ValueError
        If the file is not a recording in a known format.
    """
    if os.path.splitext(os.fspath(path))[1].lower() not in (".wav", ".wave"):
        return _read_with_soundfile(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", wavfile.WavFileWarning)  # chunks of metadata
        sample_rate, samples = wavfile.read(path)
    if samples.dtype == np.uint8:  # the one unsigned format: silence is 128
        samples = (samples.astype(np.float32) - 128) / 128
    elif samples.dtype.kind == "i":
        samples = samples / np.float64(np.iinfo(samples.dtype).max + 1)
    return np.ascontiguousarray(samples, dtype=np.float32), int(sample_rate)


def _read_with_soundfile(path):
    try:
        import soundfile
    except ImportError as error:
        raise ImportError(
            "reading audio other than wav needs soundfile: pip install soundfile"
        ) from error
    return soundfile.read(path, dtype="float32")


def read_array(path):
    """Read a ``.npy`` file; files that would need unpickling are refused."""
    return np.load(path, allow_pickle=False)


IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
AUDIO_SUFFIXES = (".wav", ".wave", ".flac", ".ogg", ".mp3", ".aif", ".aiff")
ARRAY_SUFFIXES = (".npy",)


def file_kind(path):
    """Return "image", "audio" or "array" by the suffix of `path`, None if it is another."""
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    kinds = (("image", IMAGE_SUFFIXES), ("audio", AUDIO_SUFFIXES), ("array", ARRAY_SUFFIXES))
    return next((kind for kind, suffixes in kinds if suffix in suffixes), None)


def read_file(path, *, sample_rate=None):
    """Read a file into an array, by its suffix.

    Parameters
    ----------
    path : str or path-like
        An image, a recording or a ``.npy`` array.
    sample_rate : float or None, default=None
        Rate in Hz that a recording must have; None accepts any.

    Returns
    -------
    array : ndarray
        As `read_image` or `read_audio` (samples only) gives it.

    Raises
    ------
    ValueError
        If the suffix is unknown, or a recording has another sample rate.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from scipy.io import wavfile
    >>> from sklearn_mmfusion._decoders import read_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "tone.wav")
    ...     wavfile.write(path, 8000, np.array([0, 16384, -32768], np.int16))
    ...     read_file(path)
    array([ 0. ,  0.5, -1. ], dtype=float32)
    """
    kind = file_kind(path)
    if kind == "image":
        return read_image(path)
    if kind == "array":
        return read_array(path)
    if kind is None:
        known = ", ".join(IMAGE_SUFFIXES + AUDIO_SUFFIXES + ARRAY_SUFFIXES)
        suffix = os.path.splitext(os.fspath(path))[1]
        raise ValueError(
            f"unknown file suffix {suffix!r} of {os.fspath(path)!r}; known: {known}. Strings are "
            "read as paths of files: if these are texts, use a TextEncoder."
        )
    samples, found = read_audio(path)
    if sample_rate is not None and found != sample_rate:
        raise ValueError(
            f"{os.fspath(path)!r} has sample rate {found} Hz; the column states {sample_rate} Hz. "
            "Resample the file, or build the column with the rate of its files."
        )
    return samples
