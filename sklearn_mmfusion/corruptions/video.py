"""Corruptions of clips.

Shape legend: clips (N, L, C, H, W), float, in a scale from 0 to 1, padded; results have the same
shape. Masked frames of a result are arbitrary. A generator of None is torch's own, on the device of
the clips.
"""

from functools import partial


def on_frames(function):
    """Make a corruption of clips from one of images: all frames of a clip change alike.

    Noise, whose numbers differ from pixel to pixel, differs from frame to frame too.
    """
    return partial(_apply, function)


def _apply(function, clips, generator, **params):
    # Frames as more channels of one image: one draw moves, turns or covers all of them.
    return function(clips.flatten(1, 2), generator, **params).view(clips.shape)
