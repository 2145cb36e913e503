"""Reading images, recordings and arrays by suffix."""

import io
import signal
import struct
import subprocess
import sys
import zlib

import numpy as np
import pandas as pd
import pytest
from scipy.io import wavfile

from sklearn_mmfusion import FusionTransformer, PointCloudEncoder
from sklearn_mmfusion._decoders import (
    audio_header,
    image_header,
    pil_pixels,
    read_audio,
    read_file,
    read_image,
)
from sklearn_mmfusion._file_formats import file_kind
from sklearn_mmfusion._file_options import FileOptions
from sklearn_mmfusion.containers import FileArray, TensorArray, file_array
from tests._media import RATE, video_file, waves

SIGNAL = np.array([0.0, 0.5, -0.5, -1.0])


@pytest.mark.parametrize(
    ("dtype", "scale", "offset"),
    [("u1", 128, 128), ("i2", 2**15, 0), ("i4", 2**31, 0), ("f4", 1, 0), ("f8", 1, 0)],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_read_audio_scales_pcm_to_one(tmp_path, dtype, scale, offset, channels):
    path = tmp_path / "tone.WAV"
    signal = np.stack([SIGNAL] * channels, axis=1) if channels > 1 else SIGNAL
    wavfile.write(path, 11025, (signal * scale + offset).astype(dtype))
    samples, rate = read_audio(path)
    assert rate == 11025 and samples.dtype == np.float32
    np.testing.assert_allclose(samples, signal, atol=1e-7)
    np.testing.assert_array_equal(read_file(str(path), sample_rate=11025)[0], samples)


def test_read_file_checks_the_sample_rate(tmp_path):
    wavfile.write(tmp_path / "a.wav", 8000, SIGNAL)
    with pytest.raises(ValueError, match="has sample rate 8000 Hz; the column states 16000 Hz"):
        read_file(tmp_path / "a.wav", sample_rate=16000)


def test_read_audio_of_other_formats(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(tmp_path / "a.flac", SIGNAL, 8000)
    samples, rate = read_audio(tmp_path / "a.flac")
    assert rate == 8000
    np.testing.assert_allclose(samples, SIGNAL, atol=1e-4)


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG"])
@pytest.mark.parametrize("n_channels", [1, 2])
def test_audio_header_is_that_of_the_recording(tmp_path, form, n_channels):
    soundfile = pytest.importorskip("soundfile")
    path = tmp_path / f"a.{form.lower()}"
    soundfile.write(path, np.zeros((999, n_channels)), 8000, format=form)
    samples, rate = read_audio(path)
    assert audio_header(path) == (len(samples), n_channels, rate) == (999, n_channels, 8000)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError):
        audio_header(path)


@pytest.mark.parametrize(("module", "name"), [("PIL", "a.png"), ("soundfile", "a.flac")])
def test_missing_reader_names_what_to_install(tmp_path, monkeypatch, module, name):
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / name).write_bytes(b"no file of this kind")
    with pytest.raises(ImportError, match=r"pip install 'sklearn-mmfusion\[io\]'$"):
        read_file(tmp_path / name)


@pytest.mark.parametrize(
    ("mode", "shape", "dtype"),
    [
        ("L", (3, 5), "u1"),
        ("RGB", (3, 5, 3), "u1"),
        ("RGBA", (3, 5, 4), "u1"),
        ("P", (3, 5, 3), "u1"),
        ("1", (3, 5), "u1"),
        ("I;16", (3, 5), "u2"),
    ],
)
def test_read_image_modes(tmp_path, mode, shape, dtype):
    image = pytest.importorskip("PIL.Image").new(mode, (5, 3))
    image.save(tmp_path / "a.png")
    cell = read_image(tmp_path / "a.png")
    assert cell.shape == shape and cell.dtype == dtype and cell.flags.writeable


def test_read_image_keeps_pixels_and_turns_upright(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    pixels = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_file(tmp_path / "a.png")[0], pixels)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    Image.fromarray(pixels).save(tmp_path / "b.png", exif=exif)
    np.testing.assert_array_equal(read_file(tmp_path / "b.png")[0], np.rot90(pixels, -1))


def test_read_array_refuses_pickles(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3))
    np.save(tmp_path / "b.npy", np.array([{}], object), allow_pickle=True)
    assert read_file(tmp_path / "a.npy")[0].tolist() == [0, 1, 2]
    with pytest.raises(
        ValueError, match="Python objects, which are not unpickled; expected numbers"
    ):
        read_file(tmp_path / "b.npy")


def wav_bytes(channels=1, rate=8000, frame=2, data=bytes(200), stated=None):
    """A wav file of 16-bit samples whose header states the given values."""
    stated = len(data) if stated is None else stated
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * frame % 2**32, frame, 16)
    form = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", stated)
    return b"RIFF" + struct.pack("<I", (36 + stated) % 2**32) + form + data


BROKEN_WAVS = {
    "cut off": (
        wav_bytes(stated=2_000_000),
        "cut off: the header states 2000000 bytes of samples, but the file holds 200",
    ),
    "odd": (
        wav_bytes(data=bytes(201)),
        "201 bytes of samples are not a whole number of frames of 2 bytes",
    ),
    "0 Hz": (wav_bytes(rate=0), "header states 1 channels at 0 Hz in frames of 2 bytes"),
    "65 535 channels": (
        wav_bytes(65535, frame=2 * 65535 % 2**16),
        "65535 channels at 8000 Hz in frames of 65534 bytes; expected .* as many bytes for each",
    ),
    "no channel": (wav_bytes(0), "header states 0 channels at 8000 Hz"),
    "cut header": (wav_bytes()[:30], ""),
    "empty": (b"", ""),
    "text": (b"no recording at all", ""),
}


@pytest.mark.parametrize("kind", BROKEN_WAVS)
def test_broken_recordings_are_refused_with_path_and_row(tmp_path, kind):
    content, message = BROKEN_WAVS[kind]
    wavfile.write(tmp_path / "good.wav", 8000, np.zeros(9, np.int16))
    (tmp_path / "bad.wav").write_bytes(content)
    column = FileArray(["good.wav", None, "bad.wav"], root=tmp_path)
    with pytest.raises(ValueError, match=rf"row 2: cannot read '.*bad\.wav': .*{message}"):
        column.decode([0, 2])


def test_streamed_recordings_are_read(tmp_path):
    (tmp_path / "a.wav").write_bytes(wav_bytes(stated=2**32 - 1))
    assert read_audio(tmp_path / "a.wav")[0].shape == (100,)
    extra = b"LIST" + struct.pack("<I", 3) + b"abc\0"  # before the samples, of an odd length
    whole = wav_bytes()
    (tmp_path / "b.wav").write_bytes(whole[:36] + extra + whole[36:])
    assert read_audio(tmp_path / "b.wav")[0].shape == (100,)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
@pytest.mark.parametrize("kept", [0, 20, 0.5])
def test_broken_images_are_refused_with_path_and_row(tmp_path, suffix, kept):
    Image = pytest.importorskip("PIL.Image", reason="needs Pillow (the extra io)")
    path = tmp_path / f"a.{suffix}"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if kept < 1 else kept])
    with pytest.raises(ValueError, match=rf"row 1: cannot read '.*a\.{suffix}'"):
        FileArray([None, path]).decode([1])


@pytest.mark.parametrize("name", ["a.png", "a.wav", "a.flac", "a.npy"])
def test_folders_and_missing_files_are_named(tmp_path, name):
    for module in {"png": ["PIL"], "flac": ["soundfile"]}.get(name[2:], []):
        pytest.importorskip(module)
    column = FileArray([None, name], root=tmp_path)
    with pytest.raises(FileNotFoundError, match=rf"row 1: there is no file '.*{name}'"):
        column.decode([1])
    (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=rf"row 1: cannot read '.*{name}'"):
        column.decode([1])


def test_array_files_of_other_contents_are_refused(tmp_path):
    with open(tmp_path / "archive.npy", "wb") as file:
        np.savez(file, left=np.zeros(2), right=np.zeros(3))
    np.save(tmp_path / "records.npy", np.zeros(3, [("x", float), ("y", int)]))
    np.save(tmp_path / "times.npy", np.zeros(3, "datetime64[s]"))
    np.save(tmp_path / "words.npy", np.array(["a", "b"]))
    (tmp_path / "empty.npy").write_bytes(b"")
    match = r"row 0: cannot read '.*archive\.npy': .*archive of the arrays \['left', 'right'\]"
    with pytest.raises(ValueError, match=match):
        FileArray(["archive.npy"], root=tmp_path).decode()
    for name, dtype in (("records", r"\[\('x'"), ("times", "datetime64"), ("words", "<U1")):
        with pytest.raises(
            TypeError, match=rf"row 0: .*{name}\.npy': the file holds values of .*{dtype}"
        ):
            FileArray([f"{name}.npy"], root=tmp_path).decode()
    with pytest.raises(ValueError, match=r"row 0: cannot read '.*empty\.npy'"):
        FileArray(["empty.npy"], root=tmp_path).decode()


def test_unknown_suffix_lists_the_known_ones():
    assert file_kind("a.PNG") == "image" and file_kind("b.wav") == "audio"
    assert file_kind("c.npy") == "array" and file_kind("d") is None
    with pytest.raises(ValueError, match=r"unknown file suffix '.xyz' of 'a.xyz'; known: .*\.wav"):
        read_file("a.xyz")


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK"])
def test_images_in_memory_and_in_files_hold_the_same_pixels(tmp_path, mode):
    image_module = pytest.importorskip("PIL.Image", reason="needs Pillow (the extra io)")
    pixels = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    image = image_module.fromarray(pixels).convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(path)
    np.testing.assert_array_equal(TensorArray([image])[0], read_image(path))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("transparency", [3, bytes(range(256)), None])
def test_palette_images_are_converted_to_any_mode(mode, transparency):
    image_module = pytest.importorskip("PIL.Image", reason="needs Pillow (the extra io)")
    pixels = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    image = image_module.fromarray(pixels).convert("P")
    if transparency is not None:
        image.info["transparency"] = transparency
    truth = np.asarray(image.convert("RGBA"))
    if mode == "L":  # ITU-R BT.601
        truth = truth[..., :3] @ [0.299, 0.587, 0.114]
    found = pil_pixels(image, mode)
    np.testing.assert_allclose(
        found, truth[..., :3] if mode == "RGB" else truth, atol=0.51 * (mode == "L")
    )


# ------------------------------------------------------------------------------ limits


def png_of_zeros(height, width, n_rows=None):
    """A black-and-white PNG that compresses a thousandfold; it may hold fewer rows than stated."""

    def chunk(name, data):
        checksum = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((n_rows or height) * (1 + width // 8)), 9)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


MEASURE = """
import resource, sys
from sklearn_mmfusion._decoders import read_image
from tests.test_decoders import png_of_zeros
read_image(png_of_zeros(8, 8))  # imports
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_image(sys.argv[1])
except ValueError as error:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error)
"""


@pytest.mark.slow
def test_large_image_takes_no_memory(tmp_path, script_environment):
    pytest.importorskip("PIL")
    pytest.importorskip("resource")
    path = tmp_path / "large.png"
    path.write_bytes(png_of_zeros(9000, 12_000))
    command = [sys.executable, "-c", MEASURE, str(path)]
    shown = subprocess.run(
        command, env=script_environment, capture_output=True, text=True, check=True
    ).stdout
    kilobytes, _, message = shown.partition(" ")
    assert int(kilobytes) < 5000
    assert message.startswith("the image has 12000 x 9000 = 108000000 pixels")


def test_max_pixels_is_checked_before_decoding(tmp_path):
    image_module = pytest.importorskip("PIL.Image")
    content = png_of_zeros(9000, 12_000)
    assert len(content) < 20_000
    match = "12000 x 9000 = 108000000 pixels; expected at most max_pixels=60000000. Raise"
    with pytest.raises(ValueError, match=match):
        read_image(content)
    # Pillow has a limit of its own, which is lower, but belongs to the whole process.
    limit = image_module.MAX_IMAGE_PIXELS
    large = png_of_zeros(20_000, 10_000, 1)
    assert 2 * limit < 20_000 * 10_000
    size = image_header(large, FileOptions(max_pixels=10**9))
    assert size == ("L", (20_000, 10_000)) and image_module.MAX_IMAGE_PIXELS == limit


def flac(samples, stated):
    """A flac file whose header states some number of samples."""
    soundfile = pytest.importorskip("soundfile")
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, 8000, format="FLAC")
    content = bytearray(buffer.getvalue())  # 36 bits in the second half of the first block
    content[21:26] = bytes([content[21] & 0xF0 | stated >> 32]) + (stated % 2**32).to_bytes(4)
    return bytes(content)


def npy(header):
    """An npy file with this text as its header."""
    text = header.encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(400)


NPY = "{'descr': '<f4', 'fortran_order': False, 'shape': (%s,)}\n"


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: flac(SIGNAL, 2**36 - 1), "would take 274877906940 bytes; expected at most max_by"),
        (lambda: flac(SIGNAL, 1000), "it is not a recording, or it is damaged: "),
        (lambda: wav_bytes(stated=4 * 10**9), "states 4000000000 bytes of samples, but the file"),
        (lambda: npy(NPY % 10**15), "4000000000000000 bytes; the file holds 400"),
        (lambda: npy(NPY % ("-" * 9000 + "1")), "the header cannot be parsed: "),
        (lambda: npy("(" * 300), "the header cannot be parsed: "),
        (lambda: npy(NPY % "1, -1"), r"the header states shape \(1, -1\) of float32"),
    ],
)
def test_headers_that_state_too_much_are_refused(make, match):
    with pytest.raises(ValueError, match=rf"row 0: cannot read <\d+ bytes>: .*{match}"):
        FileArray([make()]).decode()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: wav_bytes(data=bytes(5000)), "the file has 5044 bytes"),
        (lambda: wav_bytes(data=bytes(1900), frame=1), "would take 7600 bytes"),
        (lambda: flac(np.zeros(5000), 5000), "would take 20000 bytes"),
        (lambda: png_of_zeros(64, 64), "would take 4096 bytes"),
    ],
)
def test_max_bytes_limits_files_and_what_they_hold(make, match):
    content, options = make(), FileOptions(max_bytes=4000)
    if "frame" in match:
        content = content.replace(b"\x10\x00data", b"\x08\x00data")
    message = rf"{match}; expected at most max_bytes=4000. Raise file_params=\{{'max_bytes': ...\}}"
    with pytest.raises(ValueError, match=message):
        read_file(content, options=options)
    read_file(content)


# ------------------------------------------------------------------------------ interrupts


@pytest.mark.parametrize("error", [MemoryError, TimeoutError, ImportError, KeyboardInterrupt])
@pytest.mark.parametrize("on_error", ["raise", "missing"])
@pytest.mark.parametrize("threads", [1, 3])
def test_errors_that_concern_no_file_pass_unchanged(monkeypatch, error, on_error, threads):
    raised = error("stop")

    def read(source, **arguments):
        raise raised

    monkeypatch.setattr(file_array, "read_file", read)
    monkeypatch.setattr(file_array, "n_threads", lambda: threads)
    column = FileArray([f"{i}.npy" for i in range(6)])
    encoder = PointCloudEncoder(file_params={"on_error": on_error})
    fusion = FusionTransformer([("points", encoder, "points")])
    calls = [
        column.decode,
        lambda: encoder.fit(column, [0, 1] * 3),
        lambda: fusion.fit(pd.DataFrame({"points": column}), [0, 1] * 3),
        lambda: pd.DataFrame({"points": column}).modalities.preview(),
    ]
    for call in calls[: 3 if error is ImportError else 4]:  # the preview shows the path instead
        with pytest.raises(error) as caught:
            call()
        assert caught.value is raised


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers of the system")
@pytest.mark.parametrize("make", [lambda path: path, lambda path: path.read_bytes()])
def test_time_out_passes_through_libsndfile(tmp_path, monkeypatch, make):
    """It would get lost in a callback from C to Python."""
    soundfile = pytest.importorskip("soundfile")
    path = tmp_path / "long.flac"
    soundfile.write(path, np.random.default_rng(0).uniform(-1, 1, 2_000_000), 8000)
    column = FileArray([make(path)])

    def stop(*_):
        raise TimeoutError("stop")

    previous = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with pytest.raises(TimeoutError, match="stop"):
            column.decode()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


# ------------------------------------------------------------------------------ videos


def frames(n, *shape):
    return np.random.default_rng(0).integers(0, 256, (n, *shape), dtype=np.uint8)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0, 1, 3, 4, 5, 7, 8, 9, 11, 12, 13, 15, 16, 17, 19, 20]),
        ({"n_frames": 3}, [0, 10, 20]),
        ({"n_frames": 1}, [0]),
        ({"n_frames": 99}, range(21)),
        ({"fps": 2}, [0, 5, 10, 15, 20]),
        ({"fps": 4}, [0, 3, 5, 8, 10, 13, 15, 18, 20]),
        ({"fps": 99.0}, range(21)),
    ],
)
def test_frames_of_a_video_are_chosen(options, expected):
    clip = frames(21, 16, 24)
    options = FileOptions.from_dict(options, "E")
    found, rate = read_file(video_file(clip), options=options)
    assert rate is None
    np.testing.assert_array_equal(found, clip[list(expected)])


def test_colors_of_a_video():
    clip = frames(3, 16, 24, 3)
    content = video_file(clip, pixels="bgr0")
    np.testing.assert_array_equal(read_file(content)[0], clip)
    gray = read_file(content, options=FileOptions(mode="L"))[0]
    luminance = clip @ [0.299, 0.587, 0.114]
    assert gray.shape == (3, 16, 24) and np.corrcoef(gray.ravel(), luminance.ravel())[0, 1] > 0.99


@pytest.mark.parametrize(("name", "codec"), [("mp4", "mpeg4"), ("avi", "mpeg4")])
def test_formats_of_videos(name, codec, tmp_path):
    clip = np.repeat(np.linspace(40, 200, 9).astype(np.uint8), 32 * 32).reshape(9, 32, 32)
    path = tmp_path / f"a.{name}"
    path.write_bytes(video_file(clip, name, codec, "yuv420p"))
    found = read_file(path)[0]
    assert found.shape == (9, 32, 32, 3)
    assert np.abs(found.mean((1, 2, 3)) - clip.mean((1, 2))).max() < 5


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda content: b"#EXTM3U\n/etc/passwd", {}, "not a video in one of the formats"),
        (lambda content: content[:64] + bytes(99), {}, "damaged|no video|no frames"),
        (lambda content: content, {"max_pixels": 100}, "16 x 8 pixels; expected at most max_pixel"),
        (lambda content: content, {"max_bytes": 700}, "its frames have 768 bytes; expected at m"),
    ],
)
def test_bad_videos_are_refused(change, options, message):
    content = change(video_file(frames(9, 8, 16)))
    if "max_bytes" in options:
        content = video_file(np.zeros((99, 8, 16), np.uint8))
        options = {"max_bytes": len(content), "n_frames": 99}
        message = "its frames have .* bytes; expected at most max_bytes"
    with pytest.raises(ValueError, match=message):
        read_file(content, options=FileOptions(**options), kind="video")


def test_videos_without_pyav_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"video files needs av: pip install .*\[video\]"):
        read_file(b"\x1a\x45\xdf\xa3" + bytes(60))


@pytest.mark.parametrize("name", ["matroska", "avi"])
@pytest.mark.parametrize(
    ("mono", "pick"),
    [(None, lambda x: x), ("mean", lambda x: x.mean(1)), ("first", lambda x: x[:, 0])],
)
def test_sound_of_a_video(name, mono, pick):
    sound = (32767 * waves(3000, channels=2)).astype(np.int16)
    content = video_file(frames(9, 16, 24), name, sound=sound)
    found, rate = read_file(content, options=FileOptions(mono=mono), kind="sound")
    assert rate == RATE and found.dtype == np.float32
    np.testing.assert_allclose(found, pick(sound.astype(np.float32) / 32768), atol=1e-6)
    np.testing.assert_array_equal(read_file(content)[0], frames(9, 16, 24))


def test_mono_sound_of_a_video_has_one_axis():
    sound = (32767 * waves(3000)).astype(np.int16)
    found, _ = read_file(video_file(frames(2, 8, 8), sound=sound), kind="sound")
    np.testing.assert_array_equal(found, sound.astype(np.float32) / 32768)


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (lambda: video_file(frames(2, 8, 8)), {}, "^the video has no sound$"),
        (lambda: b"RIFF" + bytes(60), {}, "not a video in one of the formats"),
        (
            lambda: video_file(frames(2, 8, 8), sound=np.zeros(9000, np.int16)),
            {"max_bytes": 20_000},
            "its sound has .* bytes; expected at most max_bytes=20000",
        ),
    ],
)
def test_videos_without_usable_sound_are_refused(content, options, message):
    with pytest.raises(ValueError, match=message):
        read_file(content(), options=FileOptions(**options), kind="sound")
