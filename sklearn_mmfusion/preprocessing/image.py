"""Images as cells: their shapes, and the axis of their channels."""

import numpy as np

from sklearn_mmfusion._decoders import file_kind
from sklearn_mmfusion.containers.cells import CellKind, channels_lead


def unflatten(estimator, pixels):
    """Reshape flat images to the parameter `image_shape`: (n, width) -> (n, *image_shape)."""
    shape = tuple(estimator.image_shape or (1, pixels.shape[1]))
    if np.prod(shape) != pixels.shape[1]:
        raise ValueError(
            f"is flat and has {pixels.shape[1]} numbers; expected {np.prod(shape)}, the product "
            f"of image_shape={shape}."
        )
    return pixels.reshape(len(pixels), *shape)


IMAGE = CellKind(
    "image",
    shapes=((None, None), (None, None, None)),
    expected="(height, width), (height, width, channels) or (channels, height, width)",
    value="pixel",
    files="image",
    flat=unflatten,
    flat_parameter="image_shape",
    divisors={"uint16": 257},
)


def channels_first(shape, cells):
    """Whether the first axis of images holds the channels.

    Their `shape` is None where they differ; for files, it is that of the first image. The
    parameter `channel_axis` of their estimator decides unless it is "auto".
    """
    axis = cells.estimator.channel_axis
    if len(shape) != 3 or axis != "auto":
        return len(shape) == 3 and axis == "first"
    if cells.is_file and file_kind(cells.column[cells.rows[0]]) == "image":
        return False
    return channels_lead(shape)
