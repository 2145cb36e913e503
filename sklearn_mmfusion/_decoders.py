"""Read image, audio, video, array and text files into numpy arrays, and refuse unsafe files.

A source is the path of a file, or its content as `bytes`, as image data sets store it.
Files are opened only if they are regular files of a bounded size; images, arrays and recordings
state their size in a header, which is checked before memory is allocated.
"""

import io
import os
import stat
import struct
import tempfile
import threading
import warnings
from collections import Counter
from contextlib import contextmanager, nullcontext
from importlib import import_module
from tokenize import TokenError

import numpy as np
from scipy.io import wavfile

from sklearn_mmfusion._file_formats import SUFFIXES, format_of, source_kind
from sklearn_mmfusion._file_options import AS_STORED, DEFAULT

PASSING = (MemoryError, TimeoutError)  # errors that no handler swallows or replaces
ALLOWED = (*PASSING, ImportError)  # errors that do not concern a single file


def raise_passing(error):
    """Raise the error again if no handler may swallow it."""
    if isinstance(error, PASSING):
        raise error


class RefusedError(ValueError):
    """Error for a refused file; ``reason`` is the category that `check_files` reports."""

    def __init__(self, message, reason="unreadable"):
        super().__init__(message)
        self.reason = reason


# ------------------------------------------------------------------------------ files


@contextmanager
def opened(source, max_bytes=DEFAULT.max_bytes):
    """Open a path or content for reading, and yield the file and its size in bytes.

    A pipe or device could block, or never end: after links are followed, only regular files are
    opened.

    Raises
    ------
    ValueError
        If it is not a regular file, is empty, or is larger than `max_bytes`.
    OSError
        If it cannot be opened; FileNotFoundError if there is no such file.
    """
    if isinstance(source, bytes):
        _check_size(len(source), max_bytes)
        yield io.BytesIO(source), len(source)
        return
    source = os.fspath(source)
    if "\0" in source:
        raise ValueError("the path holds a NUL character")
    _check_status(os.stat(source), max_bytes)
    # Without O_NONBLOCK, a pipe that replaces the file after this check would block.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(source, flags), "rb") as file:
        status = os.fstat(file.fileno())
        _check_status(status, max_bytes)
        yield file, status.st_size


def _check_status(status, max_bytes):
    if not stat.S_ISREG(status.st_mode):
        kinds = {"is a folder": stat.S_ISDIR, "is a pipe": stat.S_ISFIFO}
        kind = next((kind for kind, check in kinds.items() if check(status.st_mode)), "is a device")
        raise RefusedError(f"it {kind}; expected a regular file", "not a regular file")
    _check_size(status.st_size, max_bytes)


def _check_size(size, max_bytes):
    if size == 0:
        raise RefusedError("the file is empty", "empty")
    check_bytes(size, max_bytes, "the file has")


def check_bytes(size, max_bytes, has="it would take"):
    """Raise if a size in bytes exceeds the option `max_bytes`."""
    if size > max_bytes:
        raise RefusedError(
            f"{has} {size} bytes; expected at most max_bytes={max_bytes}. Raise "
            "file_params={'max_bytes': ...} if this size is intended",
            "too large",
        )


def needs_extra(what, package, error, extra="io"):
    """The ImportError for a package of an extra."""
    return ImportError(
        f"reading {what} needs {package}: pip install 'sklearn-mmfusion[{extra}]'", name=error.name
    )


def read_file(path, *, sample_rate=None, options=AS_STORED, kind=None):
    """Read a file into an array, or a text file into a text.

    Parameters
    ----------
    path : str, path-like or bytes
        Path or content of an image, a recording, a video, an array or a text.
    sample_rate : float or None, default=None
        Rate in Hz that a recording must have; None accepts any.
    options : FileOptions, default=AS_STORED
    kind : {"image", "audio", "video", "sound", "array", "text"}, default=None
        Kind of the file; "sound" reads the sound of a video. None determines it by the suffix, or
        by the first bytes of a content, which do not show whether it is a text.

    Returns
    -------
    array : ndarray or str
        Result of `read_image`, `read_audio`, `read_video`, `read_sound`, `read_array` or
        `read_text`.
    sample_rate : float or None
        Rate of a recording in Hz; the argument for an array, None for the others.

    Raises
    ------
    ValueError
        If the suffix is unknown, the file cannot be read, or a recording has another sample rate.
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
    source = path if isinstance(path, bytes) else os.fspath(path)
    kind = kind or source_kind(source)
    if kind is None:
        known = ", ".join(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
        suffix = os.path.splitext(source)[1]
        raise ValueError(f"unknown file suffix {suffix!r} of {source!r}; known: {known}")
    if kind == "image":
        return read_image(source, options), None
    if kind == "video":
        return read_video(source, options), None
    if kind == "text":
        return read_text(source, options), None
    if kind == "array":
        return read_array(source, options), sample_rate
    samples, found = (read_sound if kind == "sound" else read_audio)(source, options)
    if sample_rate is not None and found != sample_rate:
        raise ValueError(
            f"the recording has sample rate {found} Hz; the column states {sample_rate} Hz. "
            "Resample the file, or build the column with the rate of its files."
        )
    return samples, found


# ------------------------------------------------------------------------------ texts and arrays


def read_text(source, options=AS_STORED):
    """Read a text file in UTF-8, with or without a byte order mark."""
    with opened(source, options.max_bytes) as (file, _):
        content = file.read()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"the text is not UTF-8: {error}. Convert the file") from error


_NPY_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_array(source, options=AS_STORED):
    """Read a ``.npy`` file of numbers; files that would need unpickling are refused."""
    with opened(source, options.max_bytes) as (file, size):
        start = file.read(4)
        file.seek(0)
        if start == b"PK\x03\x04":
            with np.load(file) as archive:
                names = archive.files
            raise ValueError(
                f"the file is an .npz archive of the arrays {names}; expected one array, from "
                "np.save"
            )
        version = np.lib.format.read_magic(file)
        if version not in _NPY_HEADERS:
            raise ValueError(f"the file has version {version}; expected one of {[*_NPY_HEADERS]}")
        try:
            shape, by_column, dtype = _NPY_HEADERS[version](file)
        except (MemoryError, RecursionError, SyntaxError, TokenError) as error:
            # Python's parser runs out of its own stack, not of memory.
            raise ValueError(f"the header cannot be parsed: {error!r}") from error
        if dtype.hasobject:
            raise ValueError(
                "the file holds Python objects, which are not unpickled; expected numbers"
            )
        if dtype.kind not in "biufc":
            raise TypeError(f"the file holds values of type {dtype}; expected numbers")
        count, left = 1, size - file.tell()
        for length in shape:
            count *= length
        if min(shape, default=0) < 0 or count * dtype.itemsize > left:
            raise ValueError(
                f"the header states shape {shape} of {dtype}, {count * dtype.itemsize} bytes; the "
                f"file holds {left}"
            )
        values = np.frombuffer(file.read(count * dtype.itemsize), dtype)
        return values.reshape(shape, order="F" if by_column else "C").copy(order="K")


# ------------------------------------------------------------------------------ images

MODES = ("L", "RGB", "RGBA")  # from poor to rich
_TURNED = (5, 6, 7, 8)  # values of the orientation tag that exchange height and width
_ORIENTATION = 0x0112
_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
_PLUGINS = ("Png", "Jpeg", "Gif", "Bmp", "Tiff", "WebP", "Ppm")
_DEEP = {"I": 4, "F": 4, "I;16": 2, "I;16B": 2, "I;16L": 2}  # bytes per value


def _identified(file):
    """Open an image with Pillow, without decoding it.

    ``PIL.Image.open`` would try all formats, of which EPS starts another program, and compare the
    number of pixels with a limit of the whole process, which is not `max_pixels`.
    """
    try:
        from PIL import Image

        if not Image.OPEN.keys() >= set(_FORMATS):
            for plugin in _PLUGINS:
                import_module(f"PIL.{plugin}ImagePlugin")
    except ImportError as error:
        raise needs_extra("image files", "Pillow", error) from error
    start = file.read(16)
    file.seek(0)
    for name in _FORMATS:
        make, accepts = Image.OPEN[name]
        if accepts(start) is True:  # or a text, if the format is not installed
            try:
                return make(file, "")
            except Image.DecompressionBombError as error:  # of WebP
                raise RefusedError(str(error), "too large") from error
            except SyntaxError as error:  # Pillow's type for a header that it cannot parse
                raise ValueError(f"the {name} header is damaged: {error}") from error
    raise ValueError(f"it is not an image in one of the formats {', '.join(_FORMATS)}")


@contextmanager
def ignored_warnings():
    """Ignore warnings of decoders: a file is read, or an error is raised.

    Filters belong to the whole process, so only the main thread changes them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")  # odd metadata
        warnings.filterwarnings("ignore", "Reading `.npy` or `.npz` file required additional")
        warnings.filterwarnings("ignore", module="<unknown>")  # numpy parses headers as Python
        yield


@contextmanager
def _opened_image(source, options):
    """Open an image without decoding it, and check its size."""
    with opened(source, options.max_bytes) as (file, _):
        with _identified(file) as image:
            n_pixels = image.width * image.height
            if n_pixels > options.max_pixels:
                raise RefusedError(
                    f"the image has {image.width} x {image.height} = {n_pixels} pixels; expected "
                    f"at most max_pixels={options.max_pixels}. Raise "
                    "file_params={'max_pixels': ...} if this size is intended",
                    "too large",
                )
            depth = len(image.getbands()) * _DEEP.get(image.mode, 1)
            check_bytes(n_pixels * depth, options.max_bytes)
            yield image


def read_image(source, options=AS_STORED):
    """Read an image file.

    Parameters
    ----------
    source : str or bytes
        PNG, JPEG, GIF, BMP, TIFF, WebP, PGM or PPM, whatever the suffix. The camera's orientation
        tag is applied. If there are several frames, the first is read.
    options : FileOptions, default=AS_STORED

    Returns
    -------
    image : ndarray of shape (height, width) or (height, width, channels)
        uint8; uint16 for 16-bit gray images, int32 or float32 for deeper ones. Palette and CMYK
        images are converted to RGB, black-and-white ones to 0 and 255.

    Raises
    ------
    ImportError
        If Pillow (the extra ``io``) is not installed.
    ValueError
        If the image has more pixels than `options` allow.
    """
    with _opened_image(source, options) as image:
        from PIL import ImageOps

        # Pillow opens 16-bit images of these formats in mode "I" (PNG only before 11.3).
        is_widened = image.mode == "I" and image.format in ("PNG", "PPM")
        pixels = pil_pixels(ImageOps.exif_transpose(image), options.mode)
        return pixels.astype(np.uint16) if is_widened else pixels


def image_header(source, options=AS_STORED):
    """Read mode and size of an image file without decoding it.

    Returns
    -------
    mode : str
        One of `MODES`.
    size : tuple of (int, int)
        Height and width, after the orientation tag is applied.
    """
    with _opened_image(source, options) as image:
        height, width = image.height, image.width
        if image.getexif().get(_ORIENTATION) in _TURNED:
            height, width = width, height
        return pil_mode(image), (height, width)


def pil_mode(image):
    """The mode among `MODES` that a PIL image is read in: gray, color, or color with alpha."""
    if image.mode in ("P", "PA"):
        return "RGBA" if image.mode == "PA" or "transparency" in image.info else "RGB"
    if image.mode in ("RGBA", "RGBa"):
        return "RGBA"
    is_gray = image.mode in ("1", "L", "LA", "La", "F") or image.mode.startswith("I")
    return "L" if is_gray else "RGB"


def most_common_mode(modes):
    """The most common mode; among equally common ones, the richest."""
    counts = Counter(modes)
    return max(counts, key=lambda mode: (counts[mode], MODES.index(mode)))


def pil_pixels(image, mode="auto"):
    """Pixels of a PIL image, the same for images in files and in memory.

    Parameters
    ----------
    image : PIL.Image.Image
    mode : {"auto", "L", "RGB", "RGBA"}, default="auto"
        "auto" keeps gray images gray, and alpha. Conversion to "L" weights the colors as
        ITU-R BT.601 does; conversion to "L" and "RGB" drops alpha.

    Returns
    -------
    pixels : ndarray of shape (height, width) or (height, width, channels)
    """
    if mode == "auto":
        mode = image.mode if image.mode == "LA" else pil_mode(image)
    if image.mode == "F" or image.mode.startswith("I"):  # 16 bits and more: Pillow would clip them
        pixels = np.array(image)
        if mode == "L":
            return pixels
        color = np.repeat(pixels[..., None], 3, axis=2)
        if mode == "RGB":
            return color
        opaque = 65535 if image.mode != "F" else 255
        return np.concatenate([color, np.full_like(color[..., :1], opaque)], axis=2)
    is_palette = image.mode == "PA" or (image.mode == "P" and "transparency" in image.info)
    if is_palette and mode != "RGBA":  # Pillow would warn, or could not convert
        image = image.convert("RGBA")
    return np.array(image if image.mode == mode else image.convert(mode))


# ------------------------------------------------------------------------------ videos

_PIXEL_FORMATS = {"L": "gray", "RGB": "rgb24", "RGBA": "rgba"}


def read_video(source, options=AS_STORED):
    """Read some frames of a video, with PyAV (the extra ``video``).

    Parameters
    ----------
    source : str or bytes
        MP4, MOV, Matroska, WebM or AVI, whatever the suffix.
    options : FileOptions, default=AS_STORED
        `n_frames` or `fps` choose the frames.

    Returns
    -------
    clip : ndarray of shape (n_frames, height, width) or (n_frames, height, width, channels)
        uint8; RGB, unless the video is gray.

    Raises
    ------
    ImportError
        If PyAV is not installed.
    ValueError
        If it is no such video, is damaged, or has more pixels or bytes than `options` allow.
    """
    with _opener_of_video(source, options) as open_video:
        try:
            total = None
            if options.fps is None:
                with open_video() as video:
                    total = sum(packet.size > 0 for packet in video.demux(video=0))
            with open_video() as video:
                return _read_frames(video, total, options)
        except IndexError as error:
            raise ValueError("the file holds no video, perhaps only sound") from error


@contextmanager
def _opener_of_video(source, options):
    """Yield a function that opens a video at its start with PyAV."""
    with opened(source, options.max_bytes) as (file, _):
        name, kind, _ = format_of(file.read(64))
        if kind != "video":
            raise ValueError("it is not a video in one of the formats MP4, Matroska and AVI")
        try:
            import av
        except ImportError as error:
            raise needs_extra("video files", "av", error, "video") from error
        # The format is given, because others, such as playlists, may open more files.
        form = {"an MP4 file": "mp4", "an AVI video": "avi"}.get(name, "matroska")

        def open_video():
            file.seek(0)
            return av.open(file, format=form)

        try:
            yield open_video
        except av.FFmpegError as error:
            raise ValueError(f"the video is damaged: {error.strerror}") from error


def _read_frames(video, total, options):
    frames, n_bytes, mode = [], 0, options.mode
    for frame in _chosen(video.decode(video=0), total, options):
        if frame.width * frame.height > options.max_pixels:
            raise RefusedError(
                f"frames have {frame.width} x {frame.height} pixels; expected at most "
                f"max_pixels={options.max_pixels}",
                "too large",
            )
        if mode == "auto":
            mode = "L" if frame.format.name.startswith("gray") else "RGB"
        n_bytes += frame.width * frame.height * len(mode)
        check_bytes(n_bytes, options.max_bytes, "its frames have")
        frames.append(frame.to_ndarray(format=_PIXEL_FORMATS[mode]))
    if not frames:
        raise ValueError("the video holds no frames")
    return np.stack(frames)


def _chosen(frames, total, options):
    """Those of the `total` frames that are spread evenly, or `fps` of every second."""
    if options.fps is None:
        places = np.linspace(0, total - 1, min(options.n_frames, total)).round().tolist()
        yield from (frame for place, frame in enumerate(frames) if place in places)
        return
    start, n_due = None, 0
    for frame in frames:
        start = frame.time if start is None else start
        n_passed = (frame.time - start) * options.fps + 1e-6
        if n_passed >= n_due:
            n_due = int(n_passed) + 1
            yield frame


# ------------------------------------------------------------------------------ recordings


def read_audio(source, options=AS_STORED):
    """Read a recording.

    Parameters
    ----------
    source : str or bytes
        A wav file (PCM of 8 to 64 bits, or float); other formats through soundfile, of the extra
        ``io``.
    options : FileOptions, default=AS_STORED

    Returns
    -------
    samples : ndarray of shape (n_samples,) or (n_samples, n_channels), dtype=float32
        In [-1, 1] for PCM; float files as they are.
    sample_rate : int
        In Hz.

    Raises
    ------
    ImportError
        If soundfile is needed and not installed.
    ValueError
        If the file is not a recording in a known format, or is shorter than its header states.
    """
    with opened(source, options.max_bytes) as (file, size):
        content = file.read(12)
        file.seek(0)
        plain = _plain_wav(file, size) if content[:4] == b"RIFF" else None
        if plain is None:
            samples, sample_rate = _read_with_soundfile(file, options)
        else:
            sample_rate, samples = wavfile.read(io.BytesIO(plain))
            check_bytes(samples.size * 4, options.max_bytes)
    if samples.dtype == np.uint8:  # the one unsigned format: silence is 128
        samples = (samples.astype(np.float32) - 128) / 128
    elif samples.dtype.kind == "i":
        scale = np.float32(np.iinfo(samples.dtype).max + 1)  # a power of two: divides exactly
        samples = samples.astype(np.float32) / scale
    with np.errstate(over="ignore", invalid="ignore"):  # encoders report infinite samples
        samples = np.ascontiguousarray(samples, dtype=np.float32)
    return _to_mono(samples, options.mono), int(sample_rate)


def read_sound(source, options=AS_STORED):
    """Read the first audio track of a video, as `read_audio` reads a recording, with PyAV.

    Raises
    ------
    ImportError
        If PyAV, of the extra ``video``, is not installed.
    ValueError
        If it is not a video that `read_video` reads, is damaged, or has no sound.
    """
    with _opener_of_video(source, options) as open_video, open_video() as video:
        if not video.streams.audio:
            raise ValueError("the video has no sound")
        from av import AudioResampler

        track, parts, n_bytes = video.streams.audio[0], [], 0
        to_float = AudioResampler(format="fltp")  # numbers between -1 and 1, channel by channel
        for frame in video.decode(track):
            own = [part.to_ndarray() for part in to_float.resample(frame)]
            n_bytes += sum(part.nbytes for part in own)
            check_bytes(n_bytes, options.max_bytes, "its sound has")
            parts += own
        if not parts:
            raise ValueError("the sound of the video has no samples")
        samples, sample_rate = np.concatenate(parts, axis=1).T, track.rate
    samples = np.ascontiguousarray(samples[:, 0] if samples.shape[1] == 1 else samples)
    return _to_mono(samples, options.mono), int(sample_rate)


def audio_header(source, options=AS_STORED):
    """Read the size of a recording without decoding it.

    Returns
    -------
    n_samples : int
        Per channel.
    n_channels : int
    sample_rate : int
        In Hz.
    """
    with opened(source, options.max_bytes) as (file, size):
        is_riff = file.read(4) == b"RIFF"
        header = _wav_header(file, size) if is_riff else None
        if header is not None:
            form, length = header
            _, n_channels, sample_rate, _, frame_size = struct.unpack("<HHIIH", form[:14])
            return length // frame_size, n_channels, sample_rate
        file.seek(0)
        with _opened_sound(file) as sound:
            return sound.frames, sound.channels, sound.samplerate


def _to_mono(samples, mono):
    if samples.ndim == 1 or mono is None:
        return samples
    return samples.mean(axis=1) if mono == "mean" else np.ascontiguousarray(samples[:, 0])


_STREAMED = 0xFFFFFFFF  # size in the header of a recording that was written to a pipe
_PLAIN_FORMATS = (1, 3)  # PCM and float
_EXTENSIBLE = 0xFFFE  # the tag follows later in the header


def _plain_wav(file, size):
    """Reduce a wav file to its format and samples; None if scipy does not know the format.

    scipy warns about every other chunk. Only a warning filter would silence it, but filters belong
    to the whole process, and files are decoded in threads.
    """
    header = _wav_header(file, size)
    if header is None:
        return None
    form, length = header
    parts = [(b"fmt ", form), (b"data", file.read(length))]
    parts = [struct.pack("<4sI", key, len(part)) + part for key, part in parts]
    body = b"WAVE" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _wav_header(file, size):
    """Read the header of a wav file, up to the first sample.

    Returns
    -------
    header : (bytes, int) or None
        The format and the number of bytes of all samples; None if scipy does not know the format.

    Raises
    ------
    ValueError
        If the file does not hold the samples that its header states.
    """
    form = None
    file.seek(12)
    while len(head := file.read(8)) == 8:
        name, length = struct.unpack("<4sI", head)
        start = file.tell()
        if name == b"fmt " and length >= 14:
            is_plain, frame_size, form = _wav_format(file.read(min(length, 64)))
        if name == b"data" and form is not None:
            length = _check_wav_data(length, size - start, frame_size)
            return (form, length) if is_plain else None
        file.seek(start + length + length % 2)
    raise ValueError("the file holds no samples: it is cut off, or not a recording")


def _wav_format(form):
    """Return whether scipy knows a format, the bytes of a frame, and the format as scipy wants it.

    Some programs state a wrong byte rate. Nothing needs it, but scipy checks it.
    """
    if len(form) < 14:
        raise ValueError("the file is cut off within its header")
    tag, channels, rate, _, frame_size = struct.unpack("<HHIIH", form[:14])
    if tag == _EXTENSIBLE and len(form) >= 26:
        tag = int.from_bytes(form[24:26], "little")
    is_plain = tag in _PLAIN_FORMATS
    if not (channels and rate and frame_size) or (is_plain and frame_size % channels):
        raise ValueError(
            f"the header states {channels} channels at {rate} Hz in frames of {frame_size} bytes; "
            "expected numbers above 0, and as many bytes for each channel"
        )
    byte_rate = struct.pack("<I", rate * frame_size & 0xFFFFFFFF)
    return is_plain, frame_size, form[:8] + byte_rate + form[12:]


def _check_wav_data(length, available, frame_size):
    if length == _STREAMED:
        length = available
    if length > available:
        raise ValueError(
            f"the file is cut off: the header states {length} bytes of samples, but the file "
            f"holds {available}"
        )
    if length % frame_size:
        raise ValueError(
            f"{length} bytes of samples are not a whole number of frames of {frame_size} bytes"
        )
    return length


@contextmanager
def _opened_sound(file):
    try:
        import soundfile
    except ImportError as error:
        raise needs_extra("audio files other than plain wav", "soundfile", error) from error
    # Given a file object, soundfile would call it from C, where errors and interrupts get lost.
    # Systems other than posix may number the files of a library differently.
    is_named = os.name == "posix"
    is_memory = isinstance(file, io.BytesIO)
    with tempfile.TemporaryFile() if is_memory and is_named else nullcontext(file) as real:
        if real is not file:
            real.write(file.getbuffer())
            real.flush()
        real.seek(0)
        if is_named:
            os.lseek(real.fileno(), 0, os.SEEK_SET)
        try:
            sound = soundfile.SoundFile(real.fileno() if is_named else real, closefd=False)
            with sound:
                yield sound
        except soundfile.LibsndfileError as error:  # its own message names a Python object
            message = f"it is not a recording, or it is damaged: {error.error_string}"
            raise ValueError(message) from error


def _read_with_soundfile(file, options):
    with _opened_sound(file) as sound:
        check_bytes(sound.frames * sound.channels * 4, options.max_bytes)
        samples = sound.read(dtype="float32")
        if len(samples) < sound.frames:
            raise ValueError(
                f"the file is cut off: the header states {sound.frames} samples, but the file "
                f"holds {len(samples)}"
            )
        return samples, sound.samplerate
