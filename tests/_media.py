"""One small file of each format, and what Pillow, soundfile and numpy make of it by themselves."""

import io
import struct

import numpy as np
import pytest
import soundfile
from PIL import Image, ImageOps

RATE = 8000


def pixels(*shape, dtype=np.uint8):
    """Smooth colors with some noise, so that codecs have something to do."""
    ramp = np.add.outer(np.arange(shape[0]), np.arange(shape[1])) * (200 / sum(shape[:2]))
    ramp = ramp.reshape(*ramp.shape, *[1] * (len(shape) - 2))
    noisy = ramp + np.random.default_rng(0).integers(0, 56, shape)
    return (noisy * (np.iinfo(dtype).max // 255)).astype(dtype)


def waves(n=400, channels=1):
    """Tones between -0.8 and 0.8: (n,) or (n, channels)."""
    tones = 0.8 * np.sin(np.outer(np.arange(n), 0.3 + 0.2 * np.arange(channels)))
    return tones[:, 0] if channels == 1 else tones


# ------------------------------------------------------------------------------ images


def image(array, form, mode=None, **params):
    """Content of an image file."""
    made = Image.fromarray(array)
    made = made.convert(mode) if mode else made
    buffer = io.BytesIO()
    made.save(buffer, form, **params)
    return buffer.getvalue()


def turned():
    """An Exif of which the orientation says that the camera was held upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def image_files():
    """Contents of image files by name."""
    gray, color, alpha = pixels(16, 20), pixels(16, 20, 3), pixels(16, 20, 4)
    deep = pixels(16, 20, dtype=np.uint16)
    pages = {"save_all": True, "append_images": [Image.fromarray(color[::-1].copy())]}
    files = {
        "gray.png": image(gray, "PNG"),
        "color.png": image(color, "PNG"),
        "alpha.png": image(alpha, "PNG"),
        "gray_alpha.png": image(pixels(16, 20, 2), "PNG"),
        "palette.png": image(color, "PNG", "P"),
        "transparent.png": image(color, "PNG", "P", transparency=3),
        "translucent.png": image(color, "PNG", "P", transparency=bytes(range(0, 256, 2))),
        "black_white.png": image(gray, "PNG", "1"),
        "deep.png": image(deep, "PNG"),
        "color.jpg": image(color, "JPEG"),
        "gray.jpeg": image(gray, "JPEG"),
        "turned.jpg": image(color, "JPEG", exif=turned()),
        "print.jpg": image(color, "JPEG", "CMYK"),
        "progressive.jpg": image(color, "JPEG", progressive=True),
        "color.webp": image(color, "WEBP"),
        "alpha.webp": image(alpha, "WEBP", lossless=True),
        "color.bmp": image(color, "BMP"),
        "palette.bmp": image(color, "BMP", "P"),
        "color.gif": image(color, "GIF"),
        "moving.gif": image(color, "GIF", **pages),
        "gray.pgm": image(gray, "PPM"),
        "deep.pgm": image(deep.astype(np.int32), "PPM"),
        "color.ppm": image(color, "PPM"),
        "deep.tif": image(deep, "TIFF"),
        "float.tif": image(deep.astype(np.float32), "TIFF"),
        "pages.tiff": image(color, "TIFF", **pages),
    }
    for compression in ("raw", "tiff_lzw", "tiff_deflate", "packbits", "jpeg"):
        files[f"{compression}.tif"] = image(color, "TIFF", compression=compression)
    return files


def expected_image(content, name):
    """Pixels of an image file, from Pillow alone."""
    with Image.open(io.BytesIO(content)) as opened:
        opened.load()
        if name == "gray_alpha.png":
            return np.asarray(opened)
        upright = ImageOps.exif_transpose(opened)
        if name in ("transparent.png", "translucent.png"):
            upright = upright.convert("RGBA")
        elif upright.mode in ("P", "CMYK"):
            upright = upright.convert("RGB")
        elif upright.mode == "1":
            upright = upright.convert("L")
        array = np.asarray(upright)
        return array.astype(np.uint16) if name.startswith("deep") else array


# ------------------------------------------------------------------------------ recordings


def recording(samples, form, subtype, rate=RATE):
    """Content of a recording."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=form, subtype=subtype)
    return buffer.getvalue()


def wide_wav(samples):
    """Content of a wav file of 64-bit integers, which soundfile does not write."""
    data = (samples * (2**63 - 1)).astype("<i8").tobytes()
    body = struct.pack("<4s4sIHHIIHH", b"WAVE", b"fmt ", 16, 1, 1, RATE, 8 * RATE, 8, 64)
    body += struct.pack("<4sI", b"data", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def audio_files():
    """Contents of recordings by name."""
    mono, stereo = waves(), waves(channels=2)
    long = waves(4000)  # mp3 and ogg need some frames
    return {
        "pcm8.wav": recording(mono, "WAV", "PCM_U8"),
        "pcm16.wav": recording(mono, "WAV", "PCM_16"),
        "pcm24.wav": recording(mono, "WAV", "PCM_24"),
        "pcm32.wav": recording(mono, "WAV", "PCM_32"),
        "pcm64.wav": wide_wav(mono),
        "float.wav": recording(mono, "WAV", "FLOAT"),
        "double.wav": recording(mono, "WAV", "DOUBLE"),
        "mu_law.wav": recording(mono, "WAV", "ULAW"),
        "stereo.wav": recording(stereo, "WAV", "PCM_16"),
        "extensible.wav": recording(stereo, "WAVEX", "PCM_24"),
        "mono.flac": recording(mono, "FLAC", "PCM_16"),
        "stereo.flac": recording(stereo, "FLAC", "PCM_24"),
        "mono.ogg": recording(long, "OGG", "VORBIS"),
        "mono.opus": recording(long, "OGG", "OPUS"),
        "mono.mp3": recording(long, "MP3", "MPEG_LAYER_III"),
        "mono.aiff": recording(mono, "AIFF", "PCM_16"),
        "mono.au": recording(mono, "AU", "PCM_16"),
        "mono.caf": recording(mono, "CAF", "PCM_16"),
    }


def expected_audio(content, name):
    """Samples of a recording, from soundfile alone."""
    if name == "pcm64.wav":
        return waves().astype(np.float32)
    return soundfile.read(io.BytesIO(content), dtype="float32")[0]


# ------------------------------------------------------------------------------ arrays and texts


def array_file(values):
    """Content of a npy file."""
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


ARRAYS = {
    "gray.npy": pixels(16, 20),
    "by_column.npy": np.asfortranarray(pixels(16, 20, 3)),
    "double.npy": waves(64),
    "big_endian.npy": waves(64).astype(">f4"),
}
TEXT = "Grün ist die Heide.\r\nEnde"
TEXTS = {"plain.txt": TEXT.encode(), "marked.txt": TEXT.encode("utf-8-sig")}


def media_files():
    """Contents of all files by name."""
    arrays = {name: array_file(values) for name, values in ARRAYS.items()}
    return image_files() | audio_files() | arrays | TEXTS


def expected(content, name):
    """The cell in an undamaged file of `media_files`."""
    if name in ARRAYS:
        return ARRAYS[name]
    if name in TEXTS:
        return TEXT
    oracle = expected_audio if name in audio_files() else expected_image
    return oracle(content, name)


# ------------------------------------------------------------------------------ videos


def video_file(clip, name="matroska", codec="ffv1", pixels="gray", rate=10, sound=None):
    """Content of a video; the default codec loses nothing.

    ``sound``: int16 samples (n,) or (n, 2) at `RATE`, stored without loss.
    """
    av = pytest.importorskip("av")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=name) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = *clip.shape[1:3], pixels
        if sound is not None:
            layout = "mono" if sound.ndim == 1 else "stereo"
            track = container.add_stream("pcm_s16le", rate=RATE, layout=layout)
            frame = av.AudioFrame.from_ndarray(sound.reshape(1, -1), format="s16", layout=layout)
            frame.sample_rate = RATE
            container.mux([*track.encode(frame), *track.encode(None)])
        for frame in clip:
            form = "gray" if frame.ndim == 2 else "rgb24"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format=form)))
        container.mux(stream.encode())
    return buffer.getvalue()
