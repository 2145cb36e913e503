"""Images as cells: their shapes, the axis of their channels, and one size for all."""

import numpy as np
import torch

from sklearn_mmfusion._file_formats import source_kind
from sklearn_mmfusion.containers.cells import CellKind, channels_lead

# Longest side of images in files, in pixels: time and memory of training grow with its square.
LONGEST = 128


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
    sets=True,
)


def channels_first(shape, cells):
    """Whether the first axis of images holds the channels.

    Their `shape` is None where they differ; for files, it is that of the first image. The
    parameter `channel_axis` of their estimator decides unless it is "auto".
    """
    axis = cells.estimator.channel_axis
    if len(shape) != 3 or axis != "auto":
        return len(shape) == 3 and axis == "first"
    if cells.is_file and source_kind(cells.column[cells.rows[0]]) == "image":
        return False
    return channels_lead(shape)


def find_layout(cells, shape, shapes, image_size, longest=LONGEST):
    """Find the size that all images get, and how they are stored.

    Parameters
    ----------
    cells : Cells
        Images, or clips of them.
    shape : tuple of (int or None)
        Shape of an image, None along axes in which they differ; of files, that of the first.
    shapes : sequence of tuple of int
        Shapes of the images, or a single one if all have it.
    image_size : tuple of (int, int) or None
        The parameter of the estimator.
    longest : int
        Longest side of images that are resized without `image_size`.

    Returns
    -------
    size : tuple of (int, int)
        Height and width.
    layout : dict
        "channels": their number; "first": whether their axis is the first; "resizes": whether
        images may have another size.
    """
    first = channels_first(shape, cells)
    channels = 1 if len(shape) == 2 else shape[0 if first else 2]
    if channels is None:
        other = int(np.argmax((shapes != shapes[0]).any(axis=1)))
        raise ValueError(
            f"{type(cells.estimator).__name__}: {cells.kind.name}s have different numbers of "
            f"channels ({cells.column.dtype}): row {cells.rows[0]} has shape "
            f"{tuple(shapes[0].tolist())}, row {cells.rows[other]} "
            f"{tuple(shapes[other].tolist())}. Convert them to the same number, or set "
            "channel_axis if another axis holds the channels."
        )
    sizes = np.array([each[1:3] if first else each[:2] for each in shapes], dtype=np.intp)
    size = image_size or _common_size(sizes, cells.is_file, longest)
    resizes = cells.is_file or image_size is not None or (sizes != sizes[0]).any()
    layout = {"channels": int(channels), "first": first, "resizes": bool(resizes)}
    return tuple(map(int, size)), layout


def _common_size(sizes, are_files, longest):
    """The median size, with at most `longest` pixels per side; arrays of one size keep it."""
    if (sizes == sizes[0]).all() and not are_files:
        return sizes[0]
    median = np.median(sizes, axis=0)
    return np.maximum(1, np.rint(median * min(1, longest / median.max()))).astype(int)


def arrange(cells, pixels, row, layout, size):
    """Bring images to a size and their channels to the second axis; raise if that fails.

    Parameters
    ----------
    cells : Cells
    pixels : ndarray of shape (n, height, width), (n, height, width, channels) or with the channels
        first
    row : int
        Row of the first image, for errors.
    layout, size
        From `find_layout`.

    Returns
    -------
    pixels : ndarray of shape (n, channels, height, width)
    """
    channels, first, resizes = (layout[k] for k in ("channels", "first", "resizes"))
    name = cells.kind.name
    if pixels.ndim == 3:
        pixels = pixels[:, None]
    elif not first:
        pixels = pixels.transpose(0, 3, 1, 2)
    if resizes and pixels.shape[2:] != size:
        pixels = resize(pixels, size)
    if pixels.shape[1] == 1 and channels == 3:
        pixels = np.repeat(pixels, 3, axis=1)
    if pixels.shape[1] != channels:
        raise cells.error(
            row,
            f"has {pixels.shape[1]} channels; expected {channels}, like the first training "
            f"{name}. Convert all {name}s to the same mode.",
        )
    if pixels.shape[1:] != (channels, *size):
        raise cells.error(
            row,
            f"has (channels, height, width) = {pixels.shape[1:]}; expected "
            f"{(channels, *size)}. To resize {name}s, set image_size=(height, width) and fit "
            "again.",
        )
    return pixels


def resize(pixels, size):
    """Resize images bilinearly, with antialiasing.

    Parameters
    ----------
    pixels : ndarray of shape (n, channels, height, width), uint8 or float32
    size : tuple of (int, int)

    Returns
    -------
    pixels : ndarray of shape (n, channels, *size), of the same dtype
    """
    dtype = np.uint8 if pixels.dtype == np.uint8 else np.float32  # bytes are 10 times as fast
    return torch.nn.functional.interpolate(
        torch.from_numpy(np.array(pixels, dtype=dtype)), size=size, mode="bilinear", antialias=True
    ).numpy()
