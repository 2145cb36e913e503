"""Read image, audio and array files into numpy arrays, by their suffix."""

import os
import struct
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
        uint8; uint16 for 16-bit grey images, int32 or float32 for deeper ones. Palette and CMYK
        images are converted to RGB, black-and-white ones to 0 and 255.

    Raises
    ------
    ImportError
        If Pillow (the extra ``io``) is not installed.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError("reading image files needs Pillow: pip install pillow") from error
    with Image.open(path) as opened:
        pixels = pil_pixels(ImageOps.exif_transpose(opened))
        # Pillow opens 16-bit images of these formats in mode "I" (PNG only before 11.3).
        is_widened = opened.mode == "I" and opened.format in ("PNG", "PPM")
        return pixels.astype(np.uint16) if is_widened else pixels


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
        If the file is not a recording in a known format, or is shorter than its header states.
    """
    if os.path.splitext(os.fspath(path))[1].lower() not in (".wav", ".wave"):
        return _read_with_soundfile(path)
    with warnings.catch_warnings(), open(path, "rb") as file:
        warnings.simplefilter("ignore", wavfile.WavFileWarning)  # chunks of metadata
        _check_wav(file, os.path.getsize(path))
        sample_rate, samples = wavfile.read(file)
    if samples.dtype == np.uint8:  # the one unsigned format: silence is 128
        samples = (samples.astype(np.float32) - 128) / 128
    elif samples.dtype.kind == "i":
        samples = samples / np.float64(np.iinfo(samples.dtype).max + 1)
    return np.ascontiguousarray(samples, dtype=np.float32), int(sample_rate)


_STREAMED = 0xFFFFFFFF  # size in the header of a recording that was written to a pipe


def _check_wav(file, size):
    """Raise unless a RIFF wav file holds the samples that its header states; rewind it."""
    frame_size = None
    if file.read(12)[:4] == b"RIFF":  # RIFX and RF64 are left to scipy
        while len(head := file.read(8)) == 8:
            name, length = struct.unpack("<4sI", head)
            start = file.tell()
            if name == b"fmt " and length >= 14:
                _, channels, rate, _, frame_size = struct.unpack("<HHIIH", file.read(14))
                if not (channels and rate and frame_size):
                    raise ValueError(
                        f"the header states {channels} channels at {rate} Hz in frames of "
                        f"{frame_size} bytes; expected numbers above 0"
                    )
            if name == b"data":
                _check_wav_data(length, size - start, frame_size)
                break
            file.seek(start + length + length % 2)
    file.seek(0)


def _check_wav_data(length, available, frame_size):
    if length == _STREAMED:
        length = available
    if length > available:
        raise ValueError(
            f"the file is cut off: the header states {length} bytes of samples, but the file "
            f"holds {available}"
        )
    if frame_size is not None and length % frame_size:
        raise ValueError(
            f"{length} bytes of samples are not a whole number of frames of {frame_size} bytes"
        )


def _read_with_soundfile(path):
    try:
        import soundfile
    except ImportError as error:
        raise ImportError(
            "reading audio other than wav needs soundfile: pip install soundfile"
        ) from error
    return soundfile.read(path, dtype="float32")


def read_array(path):
    """Read a ``.npy`` file of numbers; files that would need unpickling are refused."""
    array = np.load(path, allow_pickle=False)
    if not isinstance(array, np.ndarray):
        names = array.files
        array.close()
        raise ValueError(
            f"the file is an .npz archive of the arrays {names}; expected one array, from np.save"
        )
    if array.dtype.kind not in "biufc":
        raise TypeError(f"the file holds values of type {array.dtype}; expected numbers")
    return array


IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
AUDIO_SUFFIXES = (
    *(".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3"),
    *(".aif", ".aiff", ".aifc", ".au", ".caf", ".w64", ".rf64"),
)
ARRAY_SUFFIXES = (".npy",)
SUFFIXES = {"image": IMAGE_SUFFIXES, "audio": AUDIO_SUFFIXES, "array": ARRAY_SUFFIXES}


def file_kind(path):
    """Return "image", "audio" or "array" by the suffix of `path`, None if it is another."""
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    return next((kind for kind, suffixes in SUFFIXES.items() if suffix in suffixes), None)


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
        As `read_image`, `read_audio` or `read_array` gives it.
    sample_rate : float or None
        Rate of a recording in Hz; the argument for an array, None for an image.

    Raises
    ------
    ValueError
        If the suffix is unknown, or a recording has another sample rate.
    FileNotFoundError
        If there is no such file.

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
    (array([ 0. ,  0.5, -1. ], dtype=float32), 8000)
    """
    kind = file_kind(path)
    if kind is None:
        known = ", ".join(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
        suffix = os.path.splitext(os.fspath(path))[1]
        raise ValueError(f"unknown file suffix {suffix!r} of {os.fspath(path)!r}; known: {known}")
    if not os.path.exists(path):  # readers raise errors of several types
        raise FileNotFoundError(f"there is no file {os.fspath(path)!r}")
    if kind == "image":
        return read_image(path), None
    if kind == "array":
        return read_array(path), sample_rate
    samples, found = read_audio(path)
    if sample_rate is not None and found != sample_rate:
        raise ValueError(
            f"{os.fspath(path)!r} has sample rate {found} Hz; the column states {sample_rate} Hz. "
            "Resample the file, or build the column with the rate of its files."
        )
    return samples, found
