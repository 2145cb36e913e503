"""The cache of decoded files: the same results with it, and never a wrong or half cell."""

import shutil
from multiprocessing import get_context
from pathlib import Path
from threading import Thread

import numpy as np
import pandas as pd
import pytest
from scipy.io import wavfile
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from sklearn_mmfusion import AudioEncoder, ImageEncoder, LogMelSpectrogram
from sklearn_mmfusion.containers import FileArray, decoded_cache

pillow = pytest.importorskip("PIL.Image", reason="Pillow reads image files")

TINY = {"n_components": 3, "max_epochs": 2, "random_state": 0}
N = 24


@pytest.fixture
def photos(tmp_path):
    """Photographs of several sizes and modes, an array among them: paths and labels."""
    rng, y = np.random.default_rng(0), np.arange(N) % 2
    paths = []
    for row in range(N):
        image = rng.integers(0, 100, (9 + row % 3, 12, 3)).astype(np.uint8)
        image[:5, 6 * y[row] : 6 * y[row] + 5] += 120
        paths.append(str(tmp_path / f"{row}.{'npy' if row == 7 else 'png'}"))
        if row == 7:
            np.save(paths[-1], image.astype(np.float32) + 0.5)
        else:
            pillow.fromarray(image[..., 0] if row % 4 == 1 else image).save(paths[-1])
    return paths, y


@pytest.fixture
def decoded(monkeypatch):
    """Paths of the photographs and recordings that were decoded."""
    names, decode_one = [], FileArray.decode_one

    def counted(self, position, *arguments):
        if not self.name(position).endswith(".npy"):  # also read for its shape
            names.append(self.name(position))
        return decode_one(self, position, *arguments)

    monkeypatch.setattr(FileArray, "decode_one", counted)
    return names


@pytest.fixture(autouse=True)
def forget():
    """Begin and end like a new process."""
    decoded_cache._opened.clear()
    decoded_cache._warned.clear()
    yield
    decoded_cache._opened.clear()


def encoder(folder=None, **params):
    options = None if folder is None else {"cache_folder": folder}
    return ImageEncoder(**TINY | {"channels": (4,), "file_params": options} | params)


def shard_files(folder, suffix):
    return sorted(folder.glob(f"*/*{suffix}"))


def test_features_of_images_are_equal_with_and_without_a_cache(photos, tmp_path, decoded):
    (paths, y), folder = photos, tmp_path / "cache"
    expected = encoder().fit_transform(paths, y)
    for n_decoded in (N - 1, 0, 0):
        decoded.clear()
        np.testing.assert_array_equal(encoder(folder).fit_transform(paths, y), expected)
        assert len(decoded) == n_decoded
        decoded_cache._opened.clear()
    fitted = encoder(str(folder)).fit(paths, y)
    order = np.random.default_rng(1).permutation(N)[:15]
    columns = {
        "list": [paths[i] for i in order],
        "sliced": pd.Series(FileArray(paths)).iloc[order],
        "contents": [Path(paths[i]).read_bytes() for i in order],
    }
    for name, column in columns.items():
        decoded.clear()
        out = fitted.transform(column)
        np.testing.assert_allclose(out, expected[order], atol=1e-6, err_msg=name)
        assert len(decoded) == (len(order) if name == "contents" else 0)
    assert {path.suffix for path in folder.glob("*/*")} == {".cells", ".index"}


def test_other_settings_have_another_folder(photos, tmp_path):
    (paths, y), folder = photos, tmp_path / "cache"
    for params in ({}, {"image_size": (6, 7)}, {"file_params": {"max_pixels": 999}}):
        options = {**params.get("file_params", {}), "cache_folder": folder}
        out = encoder(**params | {"file_params": options}).fit_transform(paths, y)
        np.testing.assert_array_equal(out, encoder(**params).fit_transform(paths, y))
    assert len(list(folder.iterdir())) == 3


def test_recordings_of_several_lengths_and_rates(tmp_path, decoded):
    rng, folder = np.random.default_rng(0), tmp_path / "cache"
    paths, y = [str(tmp_path / f"{row}.wav") for row in range(10)], np.arange(10) % 2
    for row, path in enumerate(paths):
        samples = rng.normal(0, 3000, (900 + 40 * row, 1 + row % 2)).astype(np.int16)
        wavfile.write(path, (8000, 6000)[row // 5], samples)
    params = {**TINY, "sample_rate": 8000, "resample": True}
    expected = AudioEncoder(**params).fit_transform(paths, y)
    options = {"cache_folder": folder}
    for n_decoded in (10, 0):
        decoded.clear()
        out = AudioEncoder(**params, file_params=options).fit_transform(paths, y)
        np.testing.assert_array_equal(out, expected)
        assert len(set(decoded)) == n_decoded
        decoded_cache._opened.clear()
    first = LogMelSpectrogram(8000, file_params={"mono": "first"}).fit_transform(paths[:5])
    own = LogMelSpectrogram(8000, file_params={"mono": "first", **options}).fit_transform(paths[:5])
    assert all(np.array_equal(a, b) for a, b in zip(first, own, strict=True))


def test_a_changed_file_is_decoded_again(photos, tmp_path, decoded):
    (paths, y), folder = photos, tmp_path / "cache"
    plain, fitted = encoder().fit(paths, y), encoder(folder).fit(paths, y)
    before = fitted.transform(paths)
    image = np.array(pillow.open(paths[2]))
    pillow.fromarray(255 - image).save(paths[2])
    decoded.clear()
    after = fitted.transform(paths)
    assert decoded == [paths[2]]
    assert np.flatnonzero((before != after).any(axis=1)).tolist() == [2]
    np.testing.assert_array_equal(after, plain.transform(paths))


def test_cross_validation_decodes_each_file_once(photos, tmp_path, decoded):
    paths, y = photos
    model = make_pipeline(encoder(tmp_path / "cache"), KNeighborsClassifier(1))
    with_cache = cross_val_predict(model, np.array(paths, object), y, cv=3)
    assert sorted(decoded) == sorted(path for path in paths if path.endswith("png"))
    model.set_params(imageencoder__file_params=None)
    without = cross_val_predict(model, np.array(paths, object), y, cv=3)
    np.testing.assert_array_equal(with_cache, without)


@pytest.mark.parametrize("damage", ["flip a byte", "cut the values", "flip the index"])
def test_a_damaged_shard_is_decoded_again(photos, tmp_path, decoded, damage):
    (paths, y), folder = photos, tmp_path / "cache"
    expected = encoder(folder).fit_transform(paths, y)
    decoded_cache._opened.clear()
    (path,) = shard_files(folder, ".index" if "index" in damage else ".cells")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content[: len(content) // 3] if "cut" in damage else content)
    with pytest.warns(UserWarning, match="a part of cache_folder, .*cells, is damaged") as caught:
        out = encoder(folder).fit_transform(paths, y)
    assert len(caught) == 1
    np.testing.assert_array_equal(out, expected)
    decoded_cache._opened.clear()
    decoded.clear()
    np.testing.assert_array_equal(encoder(folder).fit_transform(paths, y), expected)
    assert decoded == []  # the second shard holds them


def test_an_unfinished_record_is_ignored(photos, tmp_path, decoded):
    (paths, y), folder = photos, tmp_path / "cache"
    expected = encoder(folder).fit_transform(paths, y)
    decoded_cache._opened.clear()
    (path,) = shard_files(folder, ".index")
    path.write_bytes(path.read_bytes()[:-5])  # as after a crash
    decoded.clear()
    np.testing.assert_array_equal(encoder(folder).fit_transform(paths, y), expected)
    assert len(decoded) == 1


def test_a_folder_that_cannot_be_written_to_warns_once(photos, tmp_path):
    (paths, y), folder = photos, tmp_path / "cache"
    expected = encoder().fit_transform(paths, y)
    folder.write_text("a file")
    with pytest.warns(UserWarning, match=f"cannot write to cache_folder='{folder}'") as caught:
        out = encoder(folder).fit_transform(paths, y)
        encoder(folder).fit(paths, y)
    assert len(caught) == 1
    np.testing.assert_array_equal(out, expected)


def test_a_full_disk_warns_and_keeps_what_was_written(photos, tmp_path, monkeypatch, decoded):
    (paths, y), folder = photos, tmp_path / "cache"
    expected = encoder().fit_transform(paths, y)
    fitted = encoder(folder).fit(paths, y)
    write, calls = decoded_cache.Writer.write, []

    def full(self, values, records):
        calls.append(len(values))
        if len(calls) > 1:
            self.files[0].write(values[0][:3])
            raise OSError(28, "No space left on device")
        write(self, values, records)

    for path in folder.glob("*/*"):
        path.unlink()
    monkeypatch.setattr(decoded_cache.Writer, "write", full)
    fitted.transform(paths[:10])
    with pytest.warns(UserWarning, match="No space left on device"):
        np.testing.assert_array_equal(fitted.transform(paths), expected)
    decoded_cache._opened.clear()
    decoded.clear()
    fitted.transform(paths[:10])
    assert decoded == []


def test_a_deleted_folder_is_filled_again(photos, tmp_path, decoded):
    (paths, y), folder = photos, tmp_path / "cache"
    expected = encoder(folder).fit_transform(paths, y)
    for path in folder.glob("*/*"):
        path.unlink()
    decoded.clear()
    np.testing.assert_array_equal(encoder(folder).fit_transform(paths, y), expected)
    assert len(decoded) == N - 1
    assert len(shard_files(folder, ".index")) == 1


def array_files(folder, n=6):
    paths = [folder / f"{row}.npy" for row in range(n)]
    for row, path in enumerate(paths):
        np.save(path, np.full((2, 3), row, np.float32))
    column = FileArray(paths)

    def decode(row):
        cell = np.load(paths[row])
        return cell, None, cell.dtype

    return column, decode


def test_a_folder_that_is_deleted_in_use_is_filled_again(tmp_path):
    column, decode = array_files(tmp_path)
    rows, folder = np.arange(6), tmp_path / "cache"
    files = decoded_cache.CachedFiles(column, decoded_cache.open_cache(folder, "settings"))
    expected = np.stack([decode(row)[0] for row in rows])
    for _ in range(2):
        np.testing.assert_array_equal(files.read(rows, decode)[0], expected)
    later = decoded_cache.CachedFiles(column, decoded_cache.DecodedCache(files.cache.path))
    later.cache.refresh()
    later.read(rows[:2], decode)
    shutil.rmtree(folder)
    later.cache._shards[0]._map = np.empty(0, np.uint8)  # as if it had not been mapped yet
    with pytest.warns(UserWarning, match="was deleted.*its files are decoded again"):
        np.testing.assert_array_equal(later.read(rows[::-1], decode)[0], expected[::-1])
    np.testing.assert_array_equal(later.read(rows, decode)[0], expected)
    assert len(shard_files(folder, ".index")) == 1


def test_a_file_that_changes_while_it_is_decoded_is_not_kept(tmp_path):
    column, decode = array_files(tmp_path)
    files = decoded_cache.CachedFiles(column, decoded_cache.open_cache(tmp_path / "c", "settings"))

    def decode_slowly(row):
        decoded = decode(row)
        np.save(tmp_path / f"{row}.npy", np.full((2, 3, 2), 9.0))  # another size
        return decoded

    files.read(np.arange(2), decode_slowly)
    cells, *_ = files.read(np.arange(2), decode)
    assert np.shape(cells) == (2, 2, 3, 2)


@pytest.mark.parametrize("dtype", ["float64", "longdouble", "bool", "uint16"])
def test_every_type_of_number_is_kept(tmp_path, dtype):
    path = tmp_path / "a.npy"
    np.save(path, np.array([[0, 1], [1, 0]], dtype))
    files = decoded_cache.CachedFiles(
        FileArray([path]), decoded_cache.open_cache(tmp_path / "c", "settings")
    )
    for _ in range(2):
        cells, sources, _ = files.read(
            np.arange(1), lambda row: ((cell := np.load(path)), None, cell.dtype)
        )
        assert {np.dtype(source) for source in sources} == {np.dtype(dtype)}
        np.testing.assert_array_equal(cells[0], np.load(path))


def test_another_version_of_a_decoder_has_another_folder(tmp_path, monkeypatch):
    first = decoded_cache.open_cache(tmp_path, "settings").path
    assert decoded_cache.open_cache(tmp_path, "settings").path == first
    monkeypatch.setattr(decoded_cache, "_version", lambda package: f"1.0 of {package}")
    assert decoded_cache.open_cache(tmp_path, "settings").path != first


def test_another_channel_axis_has_another_folder(tmp_path):
    rng, folder = np.random.default_rng(0), tmp_path / "cache"
    paths = [str(tmp_path / f"{row}.npy") for row in range(12)]
    for path in paths:
        np.save(path, rng.random((3, 6, 3), dtype=np.float32))
    for axis in ("first", "last"):
        params = {**TINY, "channels": (4,), "channel_axis": axis}
        options = {"cache_folder": folder}
        cached = ImageEncoder(**params, file_params=options).fit_transform(paths, np.arange(12) % 2)
        expected = ImageEncoder(**params).fit_transform(paths, np.arange(12) % 2)
        np.testing.assert_array_equal(cached, expected)
    assert len(list(folder.iterdir())) == 2


def fill(path, first):
    """Add 300 cells one by one, and read each back."""
    cache = decoded_cache.DecodedCache(path)
    for number in range(first, first + 300):
        cache.refresh()
        if (cache.find(digests_of([number])) < 0).all():
            cell = np.full((2, 3 + number % 2), number, np.float32)
            cache.add(digests_of([number]), [(cell, number, cell.dtype)])
        cells, sources, rates = cache.gather(cache.find(digests_of([number])))
        assert (cells[0] == number).all()
        assert (sources, rates) == ({"<f4"}, [number])


def digests_of(numbers):
    return np.repeat(np.array(numbers, "<u4"), 4).view(np.uint8).reshape(-1, 16)


@pytest.mark.parametrize("kind", ["thread", pytest.param("process", marks=pytest.mark.slow)])
def test_two_write_at_once(tmp_path, kind):
    start = Thread if kind == "thread" else get_context("spawn").Process
    both = [start(target=fill, args=(str(tmp_path), first)) for first in (1, 101)]
    for worker in both:
        worker.start()
    for worker in both:
        worker.join()
    cache = decoded_cache.DecodedCache(str(tmp_path))
    cache.refresh()
    numbers = np.arange(1, 401)
    places = cache.find(digests_of(numbers))
    assert (places >= 0).all()
    found, _, rates = cache.gather(places)
    assert rates == numbers.tolist()
    assert all((cell == i).all() for i, cell in zip(numbers, found, strict=True))
    even, _, _ = cache.gather(places[1::2])  # of one shape, in two shards
    np.testing.assert_array_equal(even[:, 1, 2], numbers[1::2])
    assert len(list(tmp_path.glob("*.cells"))) == 2
