"""Pictures of attributions show cells and their heat maps, on made-up attributions."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from sklearn_mmfusion.plotting import ModalityAttributionDisplay

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_images_have_a_heat_map_summed_over_channels():
    pixels = RNG.integers(0, 256, (3, 4, 5))
    heat = RNG.standard_normal((3, 4, 5))
    display = ModalityAttributionDisplay(
        modality="photo",
        kind="image",
        attributions=[None, heat],
        inputs=[None, pixels],
        targets=[None, "cat"],
        outputs=np.array([np.nan, 2.0]),
        baseline_outputs=np.array([np.nan, 0.5]),
    ).plot()
    picture, map_ = (ax.images[0] for ax in display.ax_[0])
    shown = (pixels.transpose(1, 2, 0) - pixels.min()) / np.ptp(pixels)
    assert np.allclose(picture.get_array(), shown)
    assert np.allclose(map_.get_array(), heat.sum(axis=0))
    assert map_.get_clim() == pytest.approx([-abs(heat.sum(0)).max(), abs(heat.sum(0)).max()])
    assert display.ax_[0, 0].get_title() == "photo, row 1: cat\noutput 2, baseline 0.5"


def test_spectrograms_have_time_from_left_to_right():
    frames, heat = RNG.standard_normal((2, 9, 4))
    display = ModalityAttributionDisplay(
        modality="voice", kind="audio", attributions=[heat], inputs=[frames]
    ).plot()
    for ax, values in zip(display.ax_[0], (frames, heat), strict=True):
        assert np.array_equal(ax.images[0].get_array(), values.T)
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("frame", "mel band")


def test_words_have_bars_in_their_order():
    display = ModalityAttributionDisplay(
        modality="title",
        kind="text",
        attributions=[np.array([0.5, -1.0]), np.zeros(0)],
        inputs=[["good", "film"], []],
    ).plot()
    bars = display.ax_[0, 0].patches
    assert [bar.get_width() for bar in bars] == [0.5, -1.0]
    assert [bar.get_hatch() for bar in bars] == [None, "///"]
    assert [t.get_text() for t in display.ax_[0, 0].get_yticklabels()] == ["good", "film"]
    assert display.ax_[0, 0].yaxis_inverted()


def test_chosen_rows_are_drawn_into_given_axes():
    values = [np.ones(1), None, np.ones(1)]
    display = ModalityAttributionDisplay(
        modality="title", kind="text", attributions=values, inputs=[["a"], None, ["b"]]
    )
    _, ax = plt.subplots()
    assert display.plot(rows=[2], ax=ax).ax_[0, 0] is ax
    assert ax.get_title() == "title, row 2"
    message = r"rows=\[1\]; expected some of those that have the modality 'title': \[0, 2\]"
    with pytest.raises(ValueError, match=message):
        display.plot(rows=[1])
