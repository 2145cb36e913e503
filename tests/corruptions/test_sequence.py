"""Corruptions of sequences, of recordings and of spectrograms."""

import numpy as np
import pytest
import torch

from sklearn_mmfusion.corruptions import audio, corrupt, sequence


def seeded():
    return torch.Generator().manual_seed(0)


def make_ramps():
    """Steps 0, 1, 2, ... in three channels; 30 valid ones in the first row, 12 in the second."""
    ramps = torch.arange(30.0).expand(2, 30)
    mask = ramps < torch.tensor([[30], [12]])
    return torch.where(mask, ramps, torch.nan)[..., None].repeat(1, 1, 3), mask


@pytest.mark.parametrize("function", [sequence.warp, sequence.crop])
def test_resampled_ramps_see_valid_steps_only(function):
    ramps, mask = make_ramps()
    for row, length in zip(function(ramps, seeded(), 0.5, mask=mask), (30, 12), strict=True):
        rising = row[:length, 0]
        assert (rising.diff() > 0).all()
        assert rising.min() >= 0 and rising.max() <= length - 1
        if function is sequence.warp:  # the ends stay, the speed is between 1 - .5 and 1 + .5
            assert rising[[0, -1]].tolist() == pytest.approx([0, length - 1])
            assert rising.diff().min() > 0.49 and rising.diff().max() < 1.51
        else:
            assert rising.diff().tolist() == pytest.approx([0.5] * (length - 1), rel=1e-4)


def test_jitter_is_a_share_of_the_spread_of_each_channel():
    values = torch.randn(1, 5000, 2, generator=seeded()) * torch.tensor([1.0, 100.0]) + 7
    values[0, 3:5] = torch.nan
    added = sequence.jitter(values, seeded(), 0.2) - values
    spread = added.nan_to_num().std(1) / torch.tensor([1.0, 100.0])
    assert spread.flatten().tolist() == pytest.approx([0.2, 0.2], rel=0.05)


def test_scale_multiplies_each_row():
    values, mask = torch.rand(200, 6, 3) + 1, torch.ones(200, 6, dtype=torch.bool)
    ratio = sequence.scale(values, seeded(), 0.25, mask=mask) / values
    assert (ratio - ratio[:, :1, :1]).abs().max() < 1e-5
    assert 0.8 <= ratio.min() < 0.82 and 1.22 < ratio.max() <= 1.25
    centred = sequence.scale(values, seeded(), 0.25, mask=mask, about_mean=True)
    assert (centred.mean(1) - values.mean(1)).abs().max() < 1e-5
    assert torch.allclose(centred.std(1) / values.std(1), ratio[:, 0], rtol=1e-4)


def test_channel_dropout_keeps_a_channel():
    values = torch.rand(300, 4, 3)
    changed = sequence.channel_dropout(values, seeded(), 0.9)
    dropped = (changed != values).all(1)
    assert torch.allclose(changed.mean(1), values.mean(1))
    assert dropped.sum(1).max() == 2
    assert dropped.double().mean() == pytest.approx(0.64, abs=0.05)  # .9, less the one that stays


@pytest.mark.parametrize("function", [audio.time_mask, audio.band_mask])
def test_masks_cover_one_span_with_the_mean(function):
    frames, mask = torch.rand(400, 20, 10, generator=seeded()), torch.ones(400, 20, dtype=bool)
    mask[1, 5:] = False
    changed = function(frames, seeded(), 0.5, mask=mask) != frames
    axis = 2 if function is audio.time_mask else 1
    span = changed.all(axis).double()
    assert (changed.any(axis) == changed.all(axis)).all()
    starts = (span.diff(dim=1) > 0).sum(1) + span[:, 0]
    assert starts.max() == 1
    assert 0.4 < span.mean(1).max() <= 0.5
    assert span.mean() == pytest.approx(0.25, abs=0.05)
    if function is audio.time_mask:
        assert span[1, 5:].sum() == 0


def test_noise_has_the_ratio():
    samples, rng = np.sin(np.arange(500)), np.random.default_rng(0)
    added = audio.noise(samples, rng, 15) - samples
    assert 10 * np.log10(np.mean(samples**2) / np.mean(added**2)) == pytest.approx(15)
    assert (audio.noise(np.zeros(5), rng, 15) == 0).all()


def test_corruptions_of_recordings():
    samples, rng = np.sin(np.arange(1000) / 9), np.random.default_rng(1)
    louder = [20 * np.log10(np.ptp(audio.gain(samples, rng, 6)) / 2) for _ in range(50)]
    assert -6.1 < min(louder) < -4 and 4 < max(louder) < 6.1
    silent = audio.dropouts(samples, rng, 0.2) == 0
    assert 0.05 <= silent.mean() <= 0.21
    clipped = audio.clipping(samples, rng, 0.4)
    assert np.abs(clipped).max() == pytest.approx(0.4, abs=1e-3)
    assert (clipped == samples)[np.abs(samples) < 0.39].all()


def test_shift_moves_both_ways_and_fills_with_zeros():
    samples, rng, seen = np.arange(1.0, 101.0), np.random.default_rng(0), set()
    for _ in range(30):
        moved = audio.shift(samples, rng, 0.3)
        offset = int((moved == 0).sum()) * (1 if moved[0] == 0 else -1)
        assert abs(offset) <= 30
        kept = moved[offset:] if offset > 0 else moved[: 100 + offset]
        assert (kept == (samples[: 100 - offset] if offset > 0 else samples[-offset:])).all()
        seen.add(np.sign(offset))
    assert {-1, 1} <= seen


def test_the_only_channel_is_kept():
    cell = np.arange(6.0)
    corrupted = corrupt([cell, cell + 1], "sequence", "channel_dropout", 5, random_state=0)
    np.testing.assert_array_equal(corrupted[0], cell)
