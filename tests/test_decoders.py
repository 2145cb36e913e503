"""Reading images, recordings and arrays by suffix."""

import sys

import numpy as np
import pytest
from scipy.io import wavfile

from sklearn_mmfusion._decoders import file_kind, read_audio, read_file, read_image
from sklearn_mmfusion.containers import TensorArray

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
    np.testing.assert_array_equal(read_file(str(path), sample_rate=11025), samples)


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


@pytest.mark.parametrize(("module", "name"), [("PIL", "a.png"), ("soundfile", "a.flac")])
def test_missing_reader_names_what_to_install(monkeypatch, module, name):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match="pip install"):
        read_file(name)


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
    np.testing.assert_array_equal(read_file(tmp_path / "a.png"), pixels)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    Image.fromarray(pixels).save(tmp_path / "b.png", exif=exif)
    np.testing.assert_array_equal(read_file(tmp_path / "b.png"), np.rot90(pixels, -1))


def test_read_array_refuses_pickles(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3))
    np.save(tmp_path / "b.npy", np.array([{}], object), allow_pickle=True)
    assert read_file(tmp_path / "a.npy").tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_file(tmp_path / "b.npy")


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
