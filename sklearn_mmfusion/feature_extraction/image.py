"""Features of images."""

from dataclasses import replace

import numpy as np
from torch.optim import AdamW

from sklearn_mmfusion._decoders import most_common_mode
from sklearn_mmfusion._shared_docs import document_parameters
from sklearn_mmfusion._sklearn import StrOptions
from sklearn_mmfusion._torch import Inputs, LazyRaggedRows, LazyRows
from sklearn_mmfusion._validation import check_channels, warn
from sklearn_mmfusion.containers.sets import end_to_end
from sklearn_mmfusion.feature_extraction.base import BaseModalityEncoder
from sklearn_mmfusion.modules.image import CustomImageSetNetwork, ImageCNN, ImageSetNetwork
from sklearn_mmfusion.preprocessing.image import IMAGE, arrange, find_layout
from sklearn_mmfusion.preprocessing.scaling import channel_scale, row_slices

# The range of pixels is compared with that in fit, of this many images, or of small ones with
# this many pixels.
N_CHECKED, PIXELS_CHECKED = 16, 1 << 20
N_SAMPLED = 1000  # files whose headers are read to learn mode and size
DARK_SHARE = 0.1  # of images in another scale: single images may be nearly black
PIXELS_PER_STEP = 4  # a pixel takes 1000 bytes in training; see `TRAIN_STEPS` of `_torch`

__all__ = ["ImageEncoder"]


def _ends(images):
    """Lowest and highest pixel of each image of an array: (n, ...) -> (n, 2)."""
    axes = tuple(range(1, images.ndim))
    return np.stack([images.min(axes), images.max(axes)], axis=1).astype(np.float64)


def _is_dark(ends):
    """Whether images reach 1 at most, as in a scale from 0 to 1, and are not black."""
    peaks = np.abs(ends).max(axis=1)
    return (peaks > 0) & (peaks <= 1)


@document_parameters("encoder", "network")
class ImageEncoder(BaseModalityEncoder):
    """Learn features of images with a convolutional network.

    `fit` trains the network and a linear head to predict `y`; `transform` returns the output of the
    layer before the head. Pixels are standardized per channel with the training rows' mean and
    standard deviation.

    X is a column of images (array of shape (n_samples, height, width[, channels]), list, pandas
    column), of image files (paths or contents, read with Pillow when a batch needs them), or a
    2-D array whose rows are flat images of `image_shape`.

    Parameters
    ----------
    image_shape : tuple of int, default=None
        Shape of the images that 2-D rows hold, e.g. (28, 28) or (3, 32, 32); None reads a row as
        an image one pixel high.

    image_size : tuple of (int, int), default=None
        Height and width that all images are resized to (bilinear). None takes the median size of
        the training images, with the longer side at most 128 pixels; arrays of one size keep
        it.

    channel_axis : {"auto", "first", "last"}, default="auto"
        Position of the channels in images with three axes, the same for all images. "auto" decides
        in `fit`: the last axis if its length is 3 or 4 in all images, or if Pillow reads them;
        otherwise the shorter of the first and the last axis, or the last if they are equal.

    channels : tuple of int, default=(32, 64, 128)
        Channels of the convolution blocks.

    pooling : {"mean", "max", "attention"}, default=None
        Read each cell as a set of one or more images, such as ten photographs of one product, in
        any order: an array (n_images, height, width[, channels]), a list of arrays of any sizes, or
        a list of paths or contents of files. Each image is encoded alone; their features are pooled
        by their mean, their maximum, or a mean with learned weights. Images that are None are left
        out, and with ``on_error="missing"`` unreadable ones, too; an empty set is an absent cell.
        None reads one image per cell.

    module : type, default=None
        Class of a network to use in place of the default CNN; it is called with the keywords
        ``in_channels``, ``image_size``, ``out_features`` and `module_params`, and its ``forward``
        takes ``pixels`` of shape (n, channels, height, width), as stored (uint8 from 0 to 255,
        floats as given). If it defines ``set_scale(mean, std)``, that is called with the training
        statistics. Its attribute ``out_features`` is the width of its output.

    Attributes
    ----------
    module_ : torch.nn.Module
        The trained network: ``encoder`` and ``head``.

    image_size_ : tuple of (int, int)
        Height and width of the images that the network sees.

    image_mode_ : {"L", "RGB", "RGBA"} or None
        Mode that image files are converted to; None without image files.

    mean_, scale_ : ndarray of shape (n_channels,), dtype=float32
        Pixel mean and standard deviation of each channel.

    classes_ : ndarray of shape (n_classes,)
        Labels of the classes, if the target has classes.

    history_ : list of dict
        Losses of each epoch of the validated training, and of each call of `partial_fit`.

    n_iter_ : int
        Number of epochs of the final network; each call of `partial_fit` adds one.

    n_features_in_ : int
        Pixels per image times channels, 1 where images differ in size, are files or sets.

    See Also
    --------
    FusionTransformer : Joins the features of several modalities.

    Notes
    -----
    uint8 images stay uint8 until a batch is on the device. Pixels of type uint16, in arrays and in
    files, are divided by 257, so that 8-bit and 16-bit images share the scale from 0 to 255;
    pixels of other types are used unchanged. In training, the default network moves each image at
    random by up to 8 % of its size, whatever `augment` is; ``module_params={"max_shift": 0.0}``
    turns this off. Training costs about 7 million
    multiply-adds per 28 x 28 image and pass. Results are reproducible bit for bit on a CPU with
    the same seed and number of threads.

    References
    ----------
    .. [1] LeCun, Bottou, Bengio, Haffner (1998). "Gradient-based learning applied to document
       recognition." Proceedings of the IEEE 86(11). doi:10.1109/5.726791
    .. [2] Ioffe, Szegedy (2015). "Batch normalization." ICML. arXiv:1502.03167

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_mmfusion import ImageEncoder
    >>> digits = load_digits()
    >>> encoder = ImageEncoder(n_components=16, max_epochs=1, random_state=0)
    >>> encoder.fit_transform(digits.images[:100], digits.target[:100]).shape
    (100, 16)
    """

    _reads = IMAGE

    _modality = "image"

    _parameter_constraints = {
        **BaseModalityEncoder._parameter_constraints,
        "image_shape": [tuple, None],
        "image_size": [tuple, None],
        "channel_axis": [StrOptions({"auto", "first", "last"})],
        "channels": [tuple],
        "pooling": [StrOptions({"mean", "max", "attention"}), None],
    }

    def __init__(
        self,
        n_components=512,
        *,
        image_shape=None,
        image_size=None,
        channel_axis="auto",
        channels=(32, 64, 128),
        pooling=None,
        file_params=None,
        augment=None,
        module=None,
        module_params=None,
        dropout=0.3,
        target_type="auto",
        loss="auto",
        max_epochs="auto",
        lr=2e-3,
        batch_size="auto",
        optimizer=AdamW,
        weight_decay=0.01,
        label_smoothing=0.1,
        early_stopping=True,
        validation_fraction=0.2,
        refit=True,
        class_weight=None,
        callbacks=None,
        net_params=None,
        device="auto",
        precision="float32",
        warm_start=False,
        random_state=None,
        verbose=0,
    ):
        self.n_components = n_components
        self.image_shape = image_shape
        self.image_size = image_size
        self.channel_axis = channel_axis
        self.channels = channels
        self.pooling = pooling
        self.file_params = file_params
        self.augment = augment
        self.module = module
        self.module_params = module_params
        self.dropout = dropout
        self.target_type = target_type
        self.loss = loss
        self.max_epochs = max_epochs
        self.lr = lr
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.weight_decay = weight_decay
        self.label_smoothing = label_smoothing
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.refit = refit
        self.class_weight = class_weight
        self.callbacks = callbacks
        self.net_params = net_params
        self.device = device
        self.precision = precision
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    def _learn(self, cells):
        images = cells.items
        with images.numbered():
            self._check_depth(images)
            self._layout = self._find_layout(images)
        inputs = self._prepare(cells)
        source, channels = inputs.sources["pixels"], self._layout["channels"]
        longest = 1 if source.lengths() is None else source.lengths().max()
        slices = row_slices(len(cells), channels * np.prod(self.image_size_) * longest)
        ends = []

        def pixels(part):
            values = source.read(part)
            ends.append(_ends(values))
            return np.moveaxis(values, 1, -1).reshape(-1, channels)

        self.mean_, self.scale_ = channel_scale(map(pixels, slices))
        self._learn_range(images, np.concatenate(ends))
        return inputs

    def _check_depth(self, cells):
        """Warn if a uint16 column holds 8-bit images, which were probably widened."""
        if cells.is_file or cells.column.dtype.value_dtype.name not in self._reads.divisors:
            return
        peaks = np.array([np.max(cells.column[row], initial=0) for row in cells.rows])
        low = cells.row_numbers[(peaks > 0) & (peaks < 256)]
        if len(low) >= DARK_SHARE * len(cells):
            warn(
                f"{type(self).__name__}: pixels have type uint16, from 0 to 65535, but "
                f"{len(low)} of {len(cells)} images have none above 255 (first in row {low[0]}). "
                "If all images have 8 bits, convert them with astype(np.uint8). If only some have, "
                "multiply those by 257: a list that mixes them with 16-bit images is widened."
            )

    def _learn_range(self, cells, ends):
        """Keep the range of pixels; warn if files of integers and of floats have two scales."""
        rows = cells.row_numbers
        dark, most = _is_dark(ends), float(ends.max())
        self._pixel_range = float(ends.min()), most, float(dark.mean())
        is_mixed = "f" in cells.value_kinds and len(cells.value_kinds) > 1
        if is_mixed and most > 10 and dark.any():
            warn(
                f"{type(self).__name__}: some files hold integers and others floats, which are not "
                f"rescaled: {dark.sum()} of {len(cells)} images have no pixel above 1 (first in "
                f"row {rows[np.argmax(dark)]}), others reach {most:g}. Save all files in "
                "the same scale, such as from 0 to 255."
            )

    def _pixel_limits(self):
        return self._pixel_range[:2]

    def _check_range(self, cells):
        images = cells.items
        with images.numbered():
            self._check_image_range(images)

    def _check_image_range(self, cells):
        """Warn if pixels, those of evenly spaced images, have another range than those in fit."""
        n_checked = N_CHECKED
        if not cells.is_file:
            n_checked = max(n_checked, PIXELS_CHECKED // cells.read(slice(0, 1))[0].size)
        batch = np.linspace(0, len(cells) - 1, min(n_checked, len(cells))).astype(np.intp)
        raw = cells.estimator._reader(cells)(batch) if cells.is_file else cells.read(batch)
        parts = [image[None] for image in raw] if cells.each else [raw]
        divisors = [self._reads.divisors.get(part.dtype.name, 1) for part in parts]
        ends = np.concatenate([_ends(p) / d for p, d in zip(parts, divisors, strict=True)])
        least, most, dark_share = self._pixel_range
        room = 10 * float(self.scale_.max())
        rows = cells.row_numbers[batch]
        odd = (ends[:, 0] < least - room) | (ends[:, 1] > most + room)
        if most > 10 and dark_share < DARK_SHARE / 10:
            types = zip(parts, divisors, strict=True)
            # 8-bit pixels may be stored as uint16; images of type uint8 may be nearly black.
            rescaled = [len(p) * [p.dtype.kind in "fb" or d > 1] for p, d in types]
            dark = _is_dark(ends) & np.concatenate(rescaled)
            odd |= dark & (dark.mean() >= DARK_SHARE)
        if odd.any():
            low, high = ends[odd, 0].min(), ends[odd, 1].max()
            warn(
                f"{type(self).__name__}: pixels from {low:g} to {high:g} in {odd.sum()} of "
                f"{len(odd)} images (first in row {rows[np.argmax(odd)]}), in fit "
                f"from {least:g} to {most:g}. Scale all in the same way, such as from 0 to 255."
            )

    def _find_layout(self, cells):
        """Find mode, height, width, number of channels and whether channels come first."""
        self.image_mode_ = None
        if cells.is_file:
            shapes = self._learn_mode(cells)
            shape = shapes[0]
        else:
            shape = cells.shape()
            shapes = cells.column.cell_shapes()[cells.rows] if None in shape else [shape]
        self.image_size_, layout = find_layout(cells, shape, shapes, self.image_size)
        return layout

    def _learn_mode(self, cells):
        """Learn the mode of images in files; return the shapes of a sample in this mode."""
        batch = np.linspace(0, len(cells) - 1, min(N_SAMPLED, len(cells))).astype(np.intp)
        headers = cells.image_headers(batch)
        modes = [mode for mode, _ in headers if mode is not None]
        if not modes:  # all are array files
            return [shape for _, shape in headers]
        mode = cells.options.mode
        if mode == "auto":
            mode = most_common_mode(modes)
            if self.verbose and len(set(modes)) > 1:
                counts = ", ".join(f"{modes.count(each)} {each}" for each in sorted(set(modes)))
                print(
                    f"[{type(self).__name__}] images of several modes ({counts} in a sample of "
                    f"{len(modes)}) are converted to {mode!r}"
                )
        self.image_mode_ = mode
        own = (len(mode),) if len(mode) > 1 else ()
        return [(*shape[:2], *own) for mode, shape in headers if mode is not None]

    def _prepare(self, cells):
        images = cells.items

        def read_equal(batch):
            return self._arrange(images, images.read_finite(batch), images.rows[batch][0])

        def read_each(batch):
            pixels = reader(batch)
            pixels = np.stack(pixels) if isinstance(pixels, list) else pixels
            return np.moveaxis(pixels, 1 if self._layout["first"] else -1, 1)

        def read_sets(batch):
            with images.numbered():
                return read(end_to_end(starts[batch], sizes[batch]))

        reader = self._reader(images) if images.each else None
        read = read_each if images.each else read_equal
        if images is cells:
            return Inputs(pixels=LazyRows(len(cells), read, is_slow=cells.is_file))
        sizes = cells.sizes
        starts = np.cumsum(sizes) - sizes
        step_size = max(1, int(np.prod(self.image_size_)) // PIXELS_PER_STEP)
        return Inputs(pixels=LazyRaggedRows(sizes, read_sets, step_size))

    def _reader(self, cells):
        """The function that reads and resizes images one at a time, with channels as in files."""

        def arrange_one(pixels, row):
            image = self._arrange(cells, pixels, row)[0]
            # The order in memory may affect the last bits of the network's output.
            return np.ascontiguousarray(np.moveaxis(image, 0, 0 if self._layout["first"] else -1))

        if self.image_mode_ is not None:
            cells.options = replace(cells.options, mode=self.image_mode_)
        return cells.arranged(
            arrange_one, type(self), self._layout, self.image_size_, self.image_shape
        )

    def _arrange(self, cells, pixels, row):
        """Images of equal size, the first one in `row` -> (n, channels, height, width)."""
        return arrange(cells, pixels, row, self._layout, self.image_size_)

    def _network(self):
        sizes = {"in_channels": self._layout["channels"], "image_size": self.image_size_}
        check_channels(self)
        return ImageCNN, sizes, {"channels": self.channels}

    def build_module(self):
        """Build an untrained network for the cells that `fit_prepare` or `fit` has seen.

        Returns
        -------
        module : torch.nn.Module
            Its attribute ``out_features`` is the width of its output.
        """
        module, pooling = super().build_module(), self._fit_params["pooling"]
        if pooling is None:
            return module
        takes_masks = vars(type(module)).get("fixed_shapes", False)
        return (ImageSetNetwork if takes_masks else CustomImageSetNetwork)(module, pooling)
