"""ImageEncoder: every way to write down the same images gives the same features."""

import threading

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from skorch.callbacks import Callback
from torch import nn

from sklearn_mmfusion import JointFusionClassifier, multimodal_frame
from sklearn_mmfusion.containers import FileArray, TensorArray
from sklearn_mmfusion.feature_extraction import ImageEncoder
from sklearn_mmfusion.preprocessing.image import resize

TINY = {"n_components": 4, "channels": (4, 4), "max_epochs": 2, "random_state": 0}


def make_images(n=40, shape=(10, 12), seed=0):
    """Noise with a bright patch, on the left for class 0 and on the right for class 1."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    images = rng.integers(0, 60, size=(n, *shape))
    for image, label in zip(images, y, strict=True):
        row, column = rng.integers(0, 7), rng.integers(0, 3) + 7 * label
        image[row : row + 3, column : column + 3] += 150
    return images.astype(np.uint8), y


def features(X, y=None, **params):
    y = np.arange(len(X)) % 2 if y is None else y
    return ImageEncoder(**TINY | params).fit_transform(X, y)


def test_features_tell_classes_apart():
    images, y = make_images(300)
    encoder = ImageEncoder(n_components=8, channels=(8, 8), max_epochs=8, random_state=0)
    encoder.fit(images[:200], y[:200])
    head = LogisticRegression().fit(encoder.transform(images[:200]), y[:200])
    assert head.score(encoder.transform(images[200:]), y[200:]) > 0.9


def test_gray_images_are_the_same_in_any_container():
    images, _ = make_images()
    expected = features(images)
    assert expected.shape == (40, 4)
    assert expected.dtype == np.float32
    same = {
        "channel last": images[..., None],
        "channel first": images[:, None],
        "list": list(images),
        "nested lists": images.tolist(),
        "column": TensorArray(images),
        "series": pd.Series(TensorArray(images), index=np.arange(40) + 7),
        "view": TensorArray(np.concatenate([images, images]))[np.arange(40)],
        "objects": pd.Series(list(images)),
        "frame": pd.DataFrame({"image": TensorArray(images)}),
        "tensor": torch.from_numpy(images),
        "fortran": np.asfortranarray(images),
    }
    for name, X in same.items():
        np.testing.assert_allclose(features(X), expected, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.int64, ">f4", np.float16])
def test_pixels_of_any_number_type_give_the_same(dtype):
    images, _ = make_images()
    np.testing.assert_allclose(features(images.astype(dtype)), features(images), atol=1e-5)


def test_flat_rows_with_a_shape_are_images():
    images, _ = make_images()
    rows = images.reshape(40, -1)
    np.testing.assert_allclose(features(rows, image_shape=(10, 12)), features(images), atol=1e-5)
    color = np.stack([images, images // 2, 255 - images], 1)
    np.testing.assert_allclose(
        features(color.reshape(40, -1), image_shape=(3, 10, 12)), features(color), atol=1e-5
    )
    with pytest.raises(ValueError, match=r"120 numbers; expected 130.*image_shape=\(10, 13\)"):
        features(rows, image_shape=(10, 13))


@pytest.mark.parametrize("n_channels", [2, 3, 4])
def test_channels_may_stand_first_or_last(n_channels):
    images, _ = make_images()
    last = np.stack([images // (k + 1) for k in range(n_channels)], -1)
    first = np.ascontiguousarray(np.moveaxis(last, -1, 1))
    np.testing.assert_array_equal(features(first), features(last))
    np.testing.assert_array_equal(features(first, channel_axis="first"), features(last))
    encoder = ImageEncoder(**TINY).fit(last, np.arange(40) % 2)
    np.testing.assert_allclose(encoder.mean_, last.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(encoder.scale_, last.std((0, 1, 2)), rtol=1e-4)


def test_channel_axis_settles_what_the_shape_leaves_open():
    cubes = np.random.default_rng(0).normal(size=(20, 4, 6, 5)).astype(np.float32)
    encoders = {
        axis: ImageEncoder(**TINY, channel_axis=axis).fit(cubes, np.arange(20) % 2)
        for axis in ("first", "last", "auto")
    }
    assert [len(e.mean_) for e in encoders.values()] == [4, 5, 4]


def strips(n=20, height=1, channels=3):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (n, height, 40, channels)).astype(np.uint8)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("height", [1, 2, 3])
def test_a_last_axis_of_three_or_four_holds_channels(height, channels):
    X, y = strips(height=height, channels=channels), np.arange(20) % 2
    encoder = ImageEncoder(**TINY).fit(X, y)
    assert len(encoder.mean_) == channels
    expected = ImageEncoder(**TINY, channel_axis="last").fit(X, y).transform(X)
    np.testing.assert_array_equal(encoder.transform(X), expected)
    for row in range(3):
        alone = encoder.transform(X[row : row + 1])
        np.testing.assert_allclose(alone[0], expected[row], atol=1e-5)


def test_the_position_of_channels_is_decided_in_fit():
    strip, y = strips(), np.arange(20) % 2
    encoder = ImageEncoder(**TINY, image_size=(8, 8))
    ragged = [cell if i % 2 else cell.repeat(2, 0)[:, :30] for i, cell in enumerate(strip)]
    encoder.fit(ragged, y)
    by_hand = [resize(np.moveaxis(cell, -1, 0)[None], (8, 8))[0] for cell in ragged]
    for X in (by_hand, [np.moveaxis(cell, 0, -1) for cell in by_hand]):
        last = ImageEncoder(**TINY, channel_axis="first" if X is by_hand else "last")
        np.testing.assert_allclose(
            last.fit(np.stack(X), y).transform(np.stack(X)), encoder.transform(ragged), atol=1e-5
        )
    first = ImageEncoder(**TINY, image_size=(8, 8)).fit(np.moveaxis(strips(20, 9), -1, 1), y)
    narrow = np.moveaxis(strips(2, 9), -1, 1)[..., :3]  # (3, 9, 3): first, as in fit
    assert first.transform(narrow).shape == (2, 4)


def test_gray_files_with_alpha_are_gray(tmp_path):
    pillow = pytest.importorskip("PIL.Image", reason="Pillow reads image files")
    strip = strips(4, channels=2)  # gray and alpha, one pixel high
    paths = [str(tmp_path / f"{i}.png") for i in range(4)]
    for path, image in zip(paths, strip, strict=True):
        pillow.fromarray(image, mode="LA").save(path)
    assert len(ImageEncoder(**TINY).fit(paths, [0, 1, 0, 1]).mean_) == 1


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_8_and_16_bit_images_share_one_scale(tmp_path, suffix):
    pillow = pytest.importorskip("PIL.Image", reason="Pillow reads image files")
    images, y = make_images()
    deep = images.astype(np.uint16) * 257
    paths = [str(tmp_path / f"{i}.{suffix}") for i in range(40)]
    for row, path in enumerate(paths):
        pillow.fromarray((deep if row % 2 else images)[row]).save(path)
    expected = features(images)
    np.testing.assert_allclose(features(paths), expected, atol=1e-4)
    np.testing.assert_allclose(features(deep), expected, atol=1e-4)
    np.testing.assert_allclose(features(deep.astype(">u2")), expected, atol=1e-4)
    encoder = ImageEncoder(**TINY).fit(images, y)
    np.testing.assert_allclose(encoder.transform(deep), expected, atol=1e-4)
    np.testing.assert_allclose(encoder.transform(paths), expected, atol=1e-4)
    np.testing.assert_allclose(encoder.mean_, ImageEncoder(**TINY).fit(deep, y).mean_, rtol=1e-5)
    assert not np.allclose(encoder.transform(deep // 2), expected, atol=1e-2)


def test_8_bit_pixels_of_type_uint16_warn():
    images, y = make_images()
    deep = images.astype(np.uint16)
    mixed = [image * 257 if i % 2 else images[i] for i, image in enumerate(deep)]
    for X, count in ((deep, 40), (list(deep), 40), (mixed, 20)):
        match = f"have type uint16, from 0 to 65535, but {count} of 40 images have none above 255"
        with pytest.warns(UserWarning, match=match):
            ImageEncoder(**TINY).fit(X, y)
    fitted = ImageEncoder(**TINY).fit(images, y)
    with pytest.warns(UserWarning, match="pixels from 0 to 0.8.*, in fit from 0 to 209"):
        fitted.transform(deep)
    full = images.astype(np.uint16) * 257
    full[7] //= 300  # one image that is nearly black is no sign of another depth
    ImageEncoder(**TINY).fit(full, y)


def test_pixels_in_another_scale_than_in_fit_are_noticed(tmp_path):
    images, y = make_images()
    floats = images.astype(np.float32)
    fitted = ImageEncoder(**TINY, image_size=images.shape[1:]).fit(images, y)
    late = np.concatenate([floats[:36], floats[36:] / 255])
    match = r"pixels from 0 to 0\.8.* in 4 of 40 images \(first in row 36\), in fit from 0 to 209"
    for X in (late, [image[:9] if k == 2 else image for k, image in enumerate(late)]):
        with pytest.warns(UserWarning, match=match):
            fitted.transform(X)
    with pytest.warns(UserWarning, match="pixels from 0 to 1 in 40 of 40 images"):
        fitted.transform(images > 127)
    paths = [f"{tmp_path}/{row}.npy" for row in range(40)]
    for path, image in zip(paths, late, strict=True):
        np.save(path, image)
    with pytest.warns(UserWarning, match=r"in 2 of 16 images \(first in row 36\)"):
        fitted.transform(paths)
    dim = floats.copy()
    dim[[3, 20]] /= 255  # a few dark images, and black ones, are no other scale
    dim[5:25] = 0
    fitted.transform(dim)


def test_files_of_integers_and_floats_in_two_scales_are_noticed(tmp_path):
    images, y = make_images()
    paths = [f"{tmp_path}/{row}.npy" for row in range(40)]
    for path, image in zip(paths, images, strict=True):
        np.save(path, image)
    np.save(paths[9], images[9].astype(np.float32))
    ImageEncoder(**TINY).fit(paths, y)
    np.save(paths[9], images[9].astype(np.float32) / 255)
    with pytest.warns(UserWarning, match=r"1 of 40 images have no pixel above 1 \(first in row 9"):
        ImageEncoder(**TINY).fit(paths, y)


@pytest.mark.parametrize("as_paths", [list, FileArray, pd.Series])
def test_files_equal_arrays(tmp_path, as_paths):
    pillow = pytest.importorskip("PIL.Image", reason="Pillow reads image files")
    images, _ = make_images()
    names = [f"{i}.png" for i in range(40)]
    for name, image in zip(names, images, strict=True):
        pillow.fromarray(image).save(tmp_path / name)
    paths = [str(tmp_path / name) for name in names]
    np.testing.assert_array_equal(features(as_paths(paths)), features(images))
    np.testing.assert_array_equal(
        features(names, file_params={"root": str(tmp_path)}), features(images)
    )


def test_pillow_images_are_cells():
    pillow = pytest.importorskip("PIL.Image", reason="Pillow makes the images")
    images, _ = make_images()
    np.testing.assert_array_equal(features([pillow.fromarray(i) for i in images]), features(images))


def test_resizing_equals_pillow():
    pillow = pytest.importorskip("PIL.Image", reason="Pillow is the oracle")
    images, _ = make_images(4)
    for size in [(5, 6), (20, 31), (10, 12), (7, 24)]:
        ours = resize(images[:, None], size)[:, 0]
        theirs = [
            np.asarray(pillow.fromarray(i).resize(size[::-1], pillow.Resampling.BILINEAR))
            for i in images
        ]
        np.testing.assert_allclose(ours.astype(int), np.array(theirs, dtype=int), atol=1)
    assert resize(images[:, None].astype(np.float32), (5, 6)).dtype == np.float32


def test_resizing_bytes_depends_on_neither_batch_nor_memory_layout():
    images = np.random.default_rng(0).integers(0, 256, (5, 30, 41, 3)).astype(np.uint8)
    images = np.moveaxis(images, -1, 1)
    for size in [(9, 20), (50, 41)]:
        expected = resize(np.ascontiguousarray(images), size)
        np.testing.assert_array_equal(resize(images, size), expected)
        for image, own in zip(images, expected, strict=True):
            np.testing.assert_array_equal(resize(image[None], size)[0], own)


def test_images_of_many_sizes_are_resized():
    images, y = make_images()
    ragged = [i if k % 3 else i[:, :11] for k, i in enumerate(images)]
    encoder = ImageEncoder(**TINY, image_size=(8, 8)).fit(ragged, y)
    out = encoder.transform(ragged)
    for k in (0, 1, 2):
        by_hand = resize(np.asarray(ragged[k])[None, None], (8, 8))[0, 0]
        np.testing.assert_allclose(encoder.transform(by_hand[None])[0], out[k], atol=1e-5)


def test_a_gray_file_among_color_ones_gets_three_channels(tmp_path):
    pillow = pytest.importorskip("PIL.Image", reason="Pillow reads image files")
    images, y = make_images()
    color = np.repeat(images[..., None], 3, axis=3)
    paths = [str(tmp_path / f"{i}.png") for i in range(40)]
    for row, path in enumerate(paths):
        pillow.fromarray(images[row] if row % 3 == 1 else color[row]).save(path)
    np.testing.assert_array_equal(features(paths), features(color))


def test_absent_images_take_no_part():
    images, y = make_images()
    absent = np.arange(40) % 5 == 0
    column = TensorArray(images).copy()
    column[absent] = np.nan
    encoder = ImageEncoder(**TINY).fit(column, y)
    out = encoder.transform(column)
    assert np.isnan(out[absent]).all()
    np.testing.assert_array_equal(out[~absent], features(images[~absent], y[~absent]))
    assert np.isnan(encoder.transform(column[[0, 5]])).all()


def test_rows_without_weight_take_no_part():
    images, y = make_images()
    weight = (np.arange(40) % 5 > 0).astype(float)
    kept = weight > 0
    encoder = ImageEncoder(**TINY).fit(images, y, sample_weight=weight)
    expected = ImageEncoder(**TINY).fit(images[kept], y[kept])
    np.testing.assert_allclose(encoder.mean_, expected.mean_, rtol=1e-6)
    np.testing.assert_allclose(encoder.transform(images), expected.transform(images), atol=1e-4)


@pytest.mark.parametrize(
    "y",
    [
        np.array(["cat", "dog"] * 20),
        np.arange(40) % 3,
        np.eye(3, dtype=int)[np.arange(40) % 3] | np.eye(3, dtype=int)[np.arange(40) % 2],
        np.linspace(0, 1, 40) ** 2,
        np.random.default_rng(0).normal(size=(40, 2)),
    ],
    ids=["binary", "multiclass", "multilabel", "continuous", "multioutput"],
)
def test_targets_of_every_type_train(y):
    images, _ = make_images()
    out = features(images, y)
    assert out.shape == (40, 4)
    assert np.isfinite(out).all()


def test_target_type_reads_whole_numbers_as_numbers():
    images, y = make_images()
    numbers = features(images, y, target_type="continuous")
    np.testing.assert_allclose(numbers, features(images, y + 0.5 * (y - 0.5)), atol=1e-4)


def test_an_own_network_gets_sizes_and_parameters():
    class Flat(nn.Module):
        def __init__(self, in_channels, image_size, out_features, bias):
            super().__init__()
            self.out_features = out_features
            self.layer = nn.Linear(in_channels * image_size[0] * image_size[1], out_features, bias)

        def forward(self, pixels):
            return self.layer(pixels.float().flatten(1) / 255)

    images, y = make_images()
    encoder = ImageEncoder(**TINY, module=Flat, module_params={"bias": False}).fit(images, y)
    layer = encoder.module_.encoder.layer
    assert layer.bias is None
    by_hand = images.reshape(40, -1) / 255 @ layer.weight.detach().numpy().T
    np.testing.assert_allclose(encoder.transform(images), by_hand, atol=1e-5)


def test_a_custom_network_has_its_width():
    class Narrow(nn.Module):
        def __init__(self, in_channels, image_size, out_features):
            super().__init__()
            self.out_features = out_features

        def forward(self, pixels):
            return pixels.flatten(1)[:, :2]

    images, y = make_images()
    match = r"Narrow\.forward returned a Tensor of shape \(\d+, 2\); expected \(n_rows, 8\)"
    encoder = ImageEncoder(module=Narrow, n_components=8, max_epochs=1)
    with pytest.raises(ValueError, match=match):
        encoder.fit(images, y)
    X = multimodal_frame(image=images)
    with pytest.raises(ValueError, match=match):
        JointFusionClassifier([("image", encoder, "image")], max_epochs=1).fit(X, y)

    class Silent(nn.Module):
        def __init__(self, in_channels, image_size, out_features):
            super().__init__()

    with pytest.raises(TypeError, match="module Silent has no attribute out_features"):
        ImageEncoder(**TINY, module=Silent).fit(*make_images())
    with pytest.raises(TypeError, match="unexpected keyword argument") as caught:
        ImageEncoder(**TINY, module=nn.ReLU).fit(*make_images())
    assert caught.value.__notes__ == [
        "ImageEncoder builds its network by calling "
        "ReLU(in_channels=..., image_size=..., out_features=...)."
    ]


def test_a_memory_map_is_read_and_left_alone(tmp_path):
    images, _ = make_images()
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    np.testing.assert_array_equal(features(mapped), features(images))
    np.testing.assert_array_equal(np.load(tmp_path / "images.npy"), images)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, ValueError])
def test_a_fit_on_files_that_ends_early_leaves_no_thread(tmp_path, error):
    class Fails(Callback):
        def on_batch_end(self, net, training, **kwargs):
            raise error("stop")

    paths = [str(tmp_path / f"{i}.npy") for i in range(64)]
    for i, path in enumerate(paths):
        np.save(path, np.full((6, 6), i, np.uint8))
    encoder = ImageEncoder(n_components=4, batch_size=4, callbacks=[Fails()], random_state=0)
    with pytest.raises(error):
        encoder.fit(paths, np.arange(64) % 2)
    names = [t.name for t in threading.enumerate()]  # the decoding threads of the process stay
    assert not [n for n in names if n.startswith("sklearn_mmfusion") and "decode" not in n]
