"""Features of video clips."""

import numpy as np
from torch.optim import AdamW

from sklearn_mmfusion._shared_docs import document_parameters
from sklearn_mmfusion._sklearn import StrOptions
from sklearn_mmfusion._torch import Inputs, LazyRaggedRows, RaggedRows
from sklearn_mmfusion._validation import check_channels, warn
from sklearn_mmfusion.containers.cells import CellKind
from sklearn_mmfusion.feature_extraction.base import BaseModalityEncoder
from sklearn_mmfusion.modules.video import VideoNetwork
from sklearn_mmfusion.preprocessing.image import arrange, find_layout
from sklearn_mmfusion.preprocessing.scaling import channel_scale, row_slices

__all__ = ["VideoEncoder"]

N_CHECKED = 4  # clips whose range of pixels is compared with that in fit
N_SAMPLED = 16  # files that are read to learn the size of their frames
# Longest side of frames in files, in pixels: a clip has many, and motion shows in small ones too.
LONGEST = 64
PIXELS_PER_STEP = 8  # a pixel takes 500 bytes in training; see `TRAIN_STEPS` of `_torch`


def _single_pixels(estimator, values):
    """Read each number of flat rows as a frame of one pixel: (n, width) -> (n, width, 1, 1)."""
    return values[:, :, None, None]


@document_parameters("encoder", "network")
class VideoEncoder(BaseModalityEncoder):
    """Learn features of video clips: a convolutional network per frame, then a network over time.

    `fit` trains the network and a linear head to predict `y`; `transform` returns the output of the
    layer before the head. Pixels are standardized per channel with the mean and standard deviation
    of all training frames.

    X is a column of arrays of shape (n_frames, height, width) or (n_frames, height, width,
    channels), each with any number of frames (list of arrays, pandas column), a column of video
    files (paths or contents, read with PyAV, of the extra ``video``; ``file_params`` chooses the
    frames; an `AudioEncoder` on the same column reads their sound), or a 2-D array, whose numbers
    are read as frames of one pixel. Frames that are missing are NaN in all pixels, or left out;
    both give the same features.

    Parameters
    ----------
    architecture : {"gru", "lstm", "attention"}, default="gru"
        Network over time: a bidirectional GRU or LSTM, then mean and maximum over time; or
        attention pooling, for clips in which single frames decide: it learns motion and the order
        of events less well.

    image_size : tuple of (int, int), default=None
        Height and width that all frames are resized to (bilinear). None takes the median size of
        the training clips; arrays of one size keep it, frames in files have at most 64 pixels on
        the longer side.

    channel_axis : {"auto", "first", "last"}, default="auto"
        Position of the channels in clips with four axes, after that of the frames. "auto" decides
        in `fit`: the last axis if its length is 3 or 4, otherwise the shorter of the second and the
        last axis, or the last if they are equal.

    channels : tuple of int, default=(16, 32, 64)
        Channels of the convolution blocks.

    module : type, default=None
        Class of a network to use in place of the default one; it is called with the keywords
        ``in_channels``, ``image_size``, ``out_features`` and `module_params`. Its ``forward`` takes
        ``frames`` of shape (all frames, channels, height, width), as stored (uint8 from 0 to 255,
        floats as given), and ``frames_lengths``. If it defines ``set_scale(mean, std)``, that is
        called with the training statistics. Its attribute ``out_features`` is the width of its
        output.

    Attributes
    ----------
    module_ : torch.nn.Module
        The trained network: ``encoder`` and ``head``.

    image_size_ : tuple of (int, int)
        Height and width of the frames that the network sees.

    mean_, scale_ : ndarray of shape (n_channels,), dtype=float32
        Pixel mean and standard deviation of each channel.

    classes_ : ndarray of shape (n_classes,)
        Labels of the classes, if the target has classes.

    history_ : list of dict
        Losses of each epoch of the validated training.

    n_iter_ : int
        Number of epochs of the final network.

    n_features_in_ : int
        Numbers in each clip where all have the same number of frames, else 1.

    See Also
    --------
    ImageEncoder : The same for single images.
    SequenceEncoder : The same for sequences of numbers.

    Notes
    -----
    Clips of similar length share a batch; every layer sees valid frames only, so that neither
    padding nor batch composition changes a result. uint8 frames stay uint8 until a batch is on the
    device. Arrays are gathered batch by batch; files are decoded once per `fit` or `transform`, and
    their frames are kept in memory, at the size that the network sees (``cache_folder`` has no
    effect). In training, a batch takes about 500 bytes per pixel of all its frames: 100 frames of
    64 x 64 pixels take 0.2 GB per clip. Batches of long or large clips get fewer rows, so that they
    take 5 GB at most; a smaller `image_size` or `batch_size` saves memory.

    References
    ----------
    .. [1] Donahue et al. (2015). "Long-term recurrent convolutional networks for visual recognition
       and description." CVPR. arXiv:1411.4389
    .. [2] Bahdanau, Cho, Bengio (2015). "Neural machine translation by jointly learning to align
       and translate." ICLR. arXiv:1409.0473

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mmfusion import VideoEncoder
    >>> rng = np.random.default_rng(0)
    >>> clips = [rng.integers(0, 256, (n, 8, 8), dtype=np.uint8) for n in range(5, 25)]
    >>> brighter = [np.sort(clip, axis=0) for clip in clips[::2]]
    >>> darker = [np.sort(clip, axis=0)[::-1] for clip in clips[1::2]]
    >>> encoder = VideoEncoder(n_components=8, max_epochs=2, random_state=0)
    >>> encoder.fit_transform(brighter + darker, ["up"] * 10 + ["down"] * 10).shape
    (20, 8)
    """

    _reads = CellKind(
        "clip",
        shapes=((None, None, None), (None, None, None, None)),
        expected="(n_frames, height, width) or (n_frames, height, width, channels)",
        value="pixel",
        files="video",
        flat=_single_pixels,
        divisors={"uint16": 257},
    )

    _modality = "video"

    _parameter_constraints = {
        **BaseModalityEncoder._parameter_constraints,
        "architecture": [StrOptions({"gru", "lstm", "attention"})],
        "image_size": [tuple, None],
        "channel_axis": [StrOptions({"auto", "first", "last"})],
        "channels": [tuple],
    }

    def __init__(
        self,
        n_components=128,
        *,
        architecture="gru",
        image_size=None,
        channel_axis="auto",
        channels=(16, 32, 64),
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
        self.architecture = architecture
        self.image_size = image_size
        self.channel_axis = channel_axis
        self.channels = channels
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
        self.image_size_, self._layout = self._find_layout(cells)
        inputs = self._prepare(cells)
        source, (height, width) = inputs.sources["frames"], self.image_size_
        channels, ends = self._layout["channels"], []

        def pixels(part):
            frames = source.batch("frames", part, "cpu")["frames"].numpy()
            ends.append((frames.min(), frames.max()))
            return np.moveaxis(frames, 1, -1).reshape(-1, channels)

        slices = row_slices(len(cells), channels * height * width * int(source.lengths().max()))
        self.mean_, self.scale_ = channel_scale(map(pixels, slices))
        self._pixel_range = float(np.min(ends)), float(np.max(ends))
        return inputs

    def _check_range(self, cells):
        """Warn if pixels, those of evenly spaced clips, have another range than those in fit."""
        if cells.is_file:  # decoded to 0 to 255
            return
        least, most = self._pixel_range
        room = 10 * float(self.scale_.max())
        for i in np.linspace(0, len(cells) - 1, min(N_CHECKED, len(cells))).astype(np.intp):
            clip = cells.read_steps(slice(i, i + 1))[0]
            low, high = float(clip.min()), float(clip.max())
            is_rescaled = most > 10 and clip.dtype.kind == "f" and 0 < max(-low, high) <= 1
            if low < least - room or high > most + room or is_rescaled:
                warn(
                    f"VideoEncoder: pixels from {low:g} to {high:g} in row {cells.rows[i]}, in fit "
                    f"from {least:g} to {most:g}. Scale all in the same way, such as from 0 to 255."
                )
                return

    def _pixel_limits(self):
        return self._pixel_range

    def _find_layout(self, cells):
        if cells.is_file:
            sample = np.linspace(0, len(cells) - 1, min(N_SAMPLED, len(cells))).astype(np.intp)
            shapes = [cells.read(slice(i, i + 1))[0].shape for i in sample]
            shape = shapes[0]
        else:
            shape = cells.shape()
            shapes = [shape]
            if None in shape[1:]:
                shapes = cells.column.cell_shapes()[cells.rows]
        frames = [each[1:] for each in shapes]
        frames = np.array(frames) if None in shape[1:] else frames
        return find_layout(cells, shape[1:], frames, self.image_size, LONGEST)

    def _prepare(self, cells):
        layout, size = self._layout, self.image_size_
        step_size = max(1, size[0] * size[1] // PIXELS_PER_STEP)

        def read(batch):
            clips = zip(cells.read_steps(batch), cells.rows[batch], strict=True)
            return np.concatenate([arrange(cells, clip, row, layout, size) for clip, row in clips])

        # One by one: NaN frames are found and shapes are checked here, not in the middle of a fit.
        clips = (read(slice(i, i + 1)) for i in range(len(cells)))
        if cells.is_file:
            clips = list(clips)
            frames = RaggedRows(np.concatenate(clips), [len(clip) for clip in clips], step_size)
        else:
            frames = LazyRaggedRows([len(clip) for clip in clips], read, step_size)
        return Inputs(frames=frames)

    def _network(self):
        sizes = {"in_channels": self._layout["channels"], "image_size": self.image_size_}
        check_channels(self)
        return VideoNetwork, sizes, {"pooling": self.architecture, "channels": self.channels}
