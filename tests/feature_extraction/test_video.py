"""VideoEncoder: motion, missing frames, forms of input, what is refused."""

import os

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_mmfusion import (
    AudioEncoder,
    FusionTransformer,
    VideoEncoder,
    make_multimodal_classification,
)
from sklearn_mmfusion._torch import RowDataset
from sklearn_mmfusion._torch.batches import BatchIterator
from tests._media import RATE, video_file
from tests._registry import MODALITIES, N_ROWS, SMALL, SMALL_CNN, classes, clips

make = MODALITIES["video"].make


def ordered(n, rng):
    """A flash on the left and one on the right in ragged noise; the class is which comes first."""
    y = np.arange(n) % 2
    cells = []
    for label in y:
        length = rng.integers(8, 16)
        first, second = np.sort(rng.choice(length, 2, replace=False))
        cell = rng.integers(0, 60, (length, 12, 12, 3))
        cell[first, 2:10, 1 + 6 * label : 5 + 6 * label] += 150
        cell[second, 2:10, 7 - 6 * label : 11 - 6 * label] += 150
        cells.append(cell.astype(np.uint8))
    return cells, y


def turning(n, rng):
    X, y = make_multimodal_classification(
        n, modalities=["video"], noise=0.5, random_state=rng.integers(1000)
    )
    return list(X["video"]), y


@pytest.mark.slow
@pytest.mark.parametrize(
    ("generate", "architecture"),
    [(turning, "gru"), (ordered, "gru"), (ordered, "lstm")],
)
def test_motion_is_learned_where_averages_of_frames_are_at_chance(generate, architecture):
    rng = np.random.default_rng(0)
    (cells, y), (others, expected) = generate(300, rng), generate(300, rng)
    plain = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    means, other_means = ([c.mean(0).ravel() for c in part] for part in (cells, others))
    chance = 1 / len(np.unique(y))
    assert plain.fit(means, y).score(other_means, expected) < chance + 0.1
    encoder = VideoEncoder(architecture=architecture, random_state=0).fit(cells, y)
    assert (encoder.predict_head(others).argmax(1) == expected).mean() > 0.95


def test_scale_is_that_of_all_pixels():
    encoder = make().fit(clips(), classes())
    pixels = np.concatenate([clip.ravel() for clip in clips()]).astype(float)
    np.testing.assert_allclose(encoder.mean_, [pixels.mean()], rtol=1e-6)
    np.testing.assert_allclose(encoder.scale_, [pixels.std()], rtol=1e-5)


@pytest.mark.parametrize("architecture", ["gru", "lstm", "attention"])
def test_every_architecture_reads_one_frame(architecture):
    cells = [*clips()[:-1], clips()[-1][:1]]
    encoder = VideoEncoder(architecture=architecture, **SMALL).fit(cells, classes())
    assert np.isfinite(encoder.transform(cells)).all()


def test_frames_of_nan_are_left_out():
    whole = [clip.astype(np.float32) for clip in clips()]
    rng = np.random.default_rng(0)
    damaged = [np.insert(clip, rng.integers(len(clip)), np.nan, axis=0) for clip in whole]
    encoder, expected = make().fit(damaged, classes()), make().fit(whole, classes())
    np.testing.assert_array_equal(encoder.transform(damaged), expected.transform(whole))
    np.testing.assert_array_equal(encoder.mean_, expected.mean_)


def test_channels_may_come_first_or_last(tmp_path):
    last = [np.stack([clip, 255 - clip, clip // 2], 3) for clip in clips()]
    expected = make().fit(last, classes()).transform(last)
    first = [np.moveaxis(clip, 3, 1) for clip in last]
    np.testing.assert_allclose(make().fit(first, classes()).transform(first), expected, atol=1e-5)
    names = [str(tmp_path / f"{i}.npy") for i in range(N_ROWS)]
    for name, clip in zip(names, last, strict=True):
        np.save(name, clip)
    found = make().fit(names, classes()).transform(names)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_one_gray_channel_has_two_forms():
    one = [clip[..., None] for clip in clips()]
    encoder = make(channel_axis="last").fit(one, classes())
    expected = make().fit(clips(), classes()).transform(clips())
    np.testing.assert_allclose(encoder.transform(one), expected, atol=1e-5)


def test_frames_get_one_size():
    cells = [np.repeat(clip, 1 + i % 2, axis=2) for i, clip in enumerate(clips())]
    encoder = make().fit(cells, classes())
    assert encoder.image_size_ == (8, 12)
    assert np.isfinite(encoder.transform(cells)).all()
    assert make(image_size=(4, 6)).fit(clips(), classes()).image_size_ == (4, 6)
    with pytest.raises(ValueError, match=r"clip in row 0 has .* = \(1, 4, 8\); expected \(1, 8, 8"):
        make().fit(clips(), classes()).transform([clip[:, ::2] for clip in clips()])


def test_uint8_stays_uint8():
    encoder = make()
    batch = encoder.fit_prepare(clips()).batch(np.arange(3))
    assert batch["frames"].dtype.itemsize == 1
    np.testing.assert_array_equal(batch["frames"][:, 0], np.concatenate(clips()[:3]))
    assert batch["frames_lengths"].tolist() == [len(clip) for clip in clips()[:3]]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (np.zeros((5, 2)), r"has shape \(5, 2\); expected \(n_frames, height, width\) or"),
        (np.zeros((0, 8, 8)), r"has shape \(0, 8, 8\); expected at least one pixel. Assign NA"),
        (np.full((2, 8, 8), np.nan), "has only pixels that are NaN. Assign NA to mark the clip"),
        (np.where(np.eye(8), np.nan, np.zeros((2, 8, 8))), "contains NaN or infinity; expected"),
        (np.zeros((2, 8, 8, 3)), r"has 3 channels; expected 1, like the first training clip"),
    ],
)
def test_wrong_clips_are_refused(cell, message):
    fitted = make().fit(clips(), classes())
    with pytest.raises(ValueError, match=f"VideoEncoder: clip in row 0 {message}"):
        fitted.transform([cell] * 3)


def test_batches_of_large_clips_have_fewer_rows():
    def largest_batch(size):
        cells = [np.zeros((100, size, size), np.uint8)] * 2 + [np.ones((90, size, size), np.uint8)]
        inputs = make().fit_prepare(cells * 10)
        assert inputs.step_counts()["frames"].max() == 100
        dataset = RowDataset(inputs, None, None, np.arange(30))
        return max(map(len, BatchIterator(dataset, 30, "cpu").positions()))

    assert largest_batch(8) == 30
    assert largest_batch(64) <= 15


def test_a_long_clip_of_large_frames_is_read():
    rng = np.random.default_rng(0)
    cells = [rng.integers(0, 256, (n, 64, 64, 3), dtype=np.uint8) for n in (100, 2, 3)]
    encoder = make(max_epochs=1, early_stopping=False).fit(cells, [0, 1, 1])
    assert np.isfinite(encoder.transform(cells)).all()


def test_video_files_give_the_features_of_their_frames(tmp_path):
    cells = [np.repeat(np.repeat(clip, 2, 1), 2, 2) for clip in clips()]
    for i, clip in enumerate(cells):
        (tmp_path / f"{i}.mkv").write_bytes(video_file(clip))
    names = [f"{i}.mkv" for i in range(N_ROWS)]
    options = {"root": str(tmp_path), "n_frames": 4}
    encoder = make(file_params=options).fit(names, classes())
    places = [np.linspace(0, len(clip) - 1, min(4, len(clip))).round() for clip in cells]
    chosen = [clip[own.astype(int)] for clip, own in zip(cells, places, strict=True)]
    expected = make().fit(chosen, classes()).transform(chosen)
    np.testing.assert_allclose(encoder.transform(names), expected, atol=1e-5)
    with pytest.raises(ValueError, match=r"a.png', an image; expected the path of a video"):
        encoder.transform(["a.png"])


@pytest.mark.parametrize("scale", [1 / 255, 300.0])
def test_another_range_of_pixels_warns(scale):
    rng = np.random.default_rng(0)
    bright = [rng.integers(0, 256, (n, 6, 6), dtype=np.uint8) for n in (3, 5) * 6]
    encoder = make().fit(bright, [0, 1] * 6)
    encoder.transform([clip.astype(np.float32) for clip in bright])  # the same range
    with pytest.warns(UserWarning, match="VideoEncoder: pixels from .* in row 0, in fit from 0 to"):
        encoder.transform([(clip * scale).astype(np.float32) for clip in bright])


# ------------------------------------------------------------------------------ sound


def sounds():
    """int16 recordings of 1500 to 2600 samples; two pitches."""
    rng = np.random.default_rng(0)
    pitches = np.array([0.1, 0.4])[classes()] * rng.uniform(0.9, 1.1, N_ROWS)
    return [
        (20000 * np.sin(pitch * np.arange(1500 + 50 * row))).astype(np.int16)
        for row, pitch in enumerate(pitches[:N_ROWS])
    ]


@pytest.fixture
def videos(tmp_path):
    """A frame of paths of videos with sound, and the options of their folder."""
    for row, (clip, sound) in enumerate(zip(clips(), sounds(), strict=True)):
        (tmp_path / f"{row}.mkv").write_bytes(video_file(clip, sound=sound))
    names = [f"{row}.mkv" for row in range(N_ROWS)]
    return pd.DataFrame({"film": names}), {"root": str(tmp_path)}


def listen(**params):
    return AudioEncoder(**{**SMALL_CNN, "sample_rate": RATE, **params})


def test_one_column_feeds_the_encoders_of_frames_and_of_sound(videos):
    X, options = videos
    arrays = [sound.astype(np.float32) / 32768 for sound in sounds()]
    expected = listen().fit(arrays, classes()).transform(arrays)
    alone = listen(file_params=options).fit(X["film"], classes())
    np.testing.assert_allclose(alone.transform(X["film"]), expected, atol=1e-5)
    triples = [
        ("frames", make(file_params=options), "film"),
        ("sound", listen(file_params=options), "film"),
    ]
    fused = FusionTransformer(triples).fit_transform(X, classes())
    assert fused.shape == (N_ROWS, 16)
    np.testing.assert_allclose(fused[:, 8:], expected, atol=1e-5)


def test_videos_without_sound_follow_on_error(videos):
    X, options = videos
    silent = os.path.join(options["root"], "3.mkv")
    with open(silent, "wb") as file:
        file.write(video_file(clips()[3]))
    with pytest.raises(ValueError, match=r"row 3: cannot read '.*3.mkv': the video has no sound"):
        listen(file_params=options).fit(X["film"], classes())
    encoder = listen(file_params={**options, "on_error": "missing"})
    with pytest.warns(UserWarning, match=r"1 of 24 files .* row 3: .* the video has no sound"):
        features = encoder.fit_transform(X["film"], classes())
    assert np.isnan(features).any(axis=1).nonzero()[0].tolist() == [3]
    assert np.isfinite(make(file_params=options).fit_transform(X["film"], classes())).all()
