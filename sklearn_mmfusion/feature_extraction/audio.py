"""Features of recordings."""

from collections import deque
from numbers import Real

import numpy as np
from sklearn.base import clone
from torch.optim import AdamW

from sklearn_mmfusion._shared_docs import document_parameters
from sklearn_mmfusion._sklearn import HasMethods, Interval, StrOptions
from sklearn_mmfusion._torch import Inputs, LazyRaggedRows, RaggedRows
from sklearn_mmfusion.containers.dtypes import only_rate
from sklearn_mmfusion.feature_extraction.base import BaseModalityEncoder
from sklearn_mmfusion.modules.audio import AudioCNN, AudioCRNN, AudioLSTM
from sklearn_mmfusion.preprocessing.audio import RECORDING, LogMelSpectrogram, join_blocks
from sklearn_mmfusion.preprocessing.scaling import mean_and_variance, rows_in_chunks

__all__ = ["AudioEncoder"]

ARCHITECTURES = {"cnn": AudioCNN, "crnn": AudioCRNN, "lstm": AudioLSTM}
KEPT_BYTES = 1 << 26  # of the frames of files; if they take more, each batch computes its own


@document_parameters("encoder", "network")
class AudioEncoder(BaseModalityEncoder):
    """Learn features of recordings from log-mel frames or cepstral coefficients.

    `fit` trains a network over the frames and a linear head to predict `y`; `transform` returns the
    output of the layer before the head. The mean of each band over a recording is subtracted, which
    removes much of the voice and the channel.

    X is a column of waveforms of any lengths (list of arrays, pandas column), of audio files (paths
    or contents), of video files, whose first audio track is read with PyAV (the extra ``video``),
    or a 2-D array whose rows are signals of equal length.

    Parameters
    ----------
    sample_rate : float, default=16000
        Sampling frequency in Hz. A column or file with another rate raises an error, or is
        resampled.

    front_end : LogMelSpectrogram or None, default=None
        Transformer of recordings into frames; None is ``LogMelSpectrogram()``. `fit` works on a
        clone, to which it gives `sample_rate` if the front end has none. Pass one to search its
        parameters: ``front_end__n_mels``; with `n_mfcc`, frames are cepstral coefficients.

    resample : bool or "soxr", default=False
        Whether to resample recordings of another rate, as in `LogMelSpectrogram`.

    max_length : float, default=None
        Seconds of each recording that are read. The rest is cut, with a warning that counts the
        recordings. None uses `max_length` of the front end, which reads all by default.

    architecture : {"cnn", "crnn", "lstm"}, default="cnn"
        2-D convolutions over the spectrogram, a convolution over its frames before a bidirectional
        GRU, or a bidirectional LSTM over its frames.

    augment_copies : int, default=4
        Corruptions of recordings in `augment` are applied to so many copies of each training cell
        before training. Every epoch draws one of them.

    module : type, default=None
        Class of a network to use in place of the default network; it is called with the
        keywords ``n_mels`` (the width of a frame), ``out_features`` and `module_params`, and its
        ``forward`` takes ``frames`` of shape (all frames, n_mels) and ``frames_lengths``, as
        computed. If it defines ``set_scale(mean, std)``, that is called with the training
        statistics. Its attribute ``out_features`` is the width of its output.

    Attributes
    ----------
    module_ : torch.nn.Module
        The trained network: ``encoder`` and ``head``.

    front_end_ : LogMelSpectrogram
        The fitted front end.

    mean_, scale_ : ndarray of shape (n_mels,) or (n_mfcc,), dtype=float32
        Mean and standard deviation of each band or coefficient.

    classes_ : ndarray of shape (n_classes,)
        Labels of the classes, if the target has classes.

    history_ : list of dict
        Losses of each epoch of the validated training, and of each call of `partial_fit`.

    n_iter_ : int
        Number of epochs of the final network; each call of `partial_fit` adds one.

    n_features_in_ : int
        Samples of each recording where all are equally long, else 1.

    See Also
    --------
    LogMelSpectrogram : The front end by itself.
    FusionTransformer : Joins the features of several modalities.

    Notes
    -----
    Recordings of similar length share a batch; every layer sees valid frames only, so that
    neither padding nor batch composition changes a result.

    References
    ----------
    .. [1] Hochreiter, Schmidhuber (1997). "Long short-term memory." Neural Computation 9(8).
       doi:10.1162/neco.1997.9.8.1735
    .. [2] Davis, Mermelstein (1980). "Comparison of parametric representations for monosyllabic
       word recognition." IEEE Transactions on Acoustics, Speech, and Signal Processing 28(4).
       doi:10.1109/TASSP.1980.1163420

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mmfusion import AudioEncoder
    >>> time = np.arange(800) / 8000
    >>> tones = [np.sin(2 * np.pi * f * time[: 600 + f // 10]) for f in [300, 900] * 10]
    >>> encoder = AudioEncoder(n_components=8, sample_rate=8000, max_epochs=2, random_state=0)
    >>> encoder.fit_transform(tones, ["low", "high"] * 10).shape
    (20, 8)
    """

    _reads = RECORDING

    _modality = "audio"

    _parameter_constraints = {
        **BaseModalityEncoder._parameter_constraints,
        "sample_rate": [Interval(Real, 1, None, closed="left")],
        "front_end": [HasMethods(["fit", "iter_frames"]), None],
        "resample": ["boolean", StrOptions({"soxr"})],
        "max_length": [Interval(Real, 0, None, closed="neither"), None],
        "architecture": [StrOptions(set(ARCHITECTURES))],
    }

    def __init__(
        self,
        n_components=128,
        *,
        sample_rate=16000,
        front_end=None,
        resample=False,
        max_length=None,
        architecture="cnn",
        file_params=None,
        augment=None,
        augment_copies=4,
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
        self.sample_rate = sample_rate
        self.front_end = front_end
        self.resample = resample
        self.max_length = max_length
        self.architecture = architecture
        self.file_params = file_params
        self.augment = augment
        self.augment_copies = augment_copies
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
        self.front_end_ = self._make_front_end().fit(cells.column)
        frames = Frames(self.front_end_, cells)
        mean, variance = mean_and_variance(rows_in_chunks(frames))
        scale = np.sqrt(variance)
        scale[scale < 1e-6] = 1.0  # a silent band
        self.mean_, self.scale_ = mean.astype(np.float32), scale.astype(np.float32)
        return Inputs(frames=frames.source())

    def _make_front_end(self):
        front_end = LogMelSpectrogram() if self.front_end is None else clone(self.front_end)
        if front_end.sample_rate not in (None, self.sample_rate):
            raise ValueError(
                f"AudioEncoder: front_end has sample_rate={front_end.sample_rate}, but the "
                f"encoder has sample_rate={self.sample_rate}; expected equal rates. Omit "
                "sample_rate in the front end."
            )
        if self.max_length is not None:
            if front_end.max_length not in (None, self.max_length):
                raise ValueError(
                    f"AudioEncoder: front_end has max_length={front_end.max_length}, but the "
                    f"encoder has max_length={self.max_length}; expected equal ones. Omit "
                    "max_length in the front end."
                )
            front_end.set_params(max_length=self.max_length)
        if getattr(front_end, "file_params", None) is not None:
            raise ValueError(
                f"AudioEncoder: front_end has file_params={front_end.file_params}, which the "
                "encoder does not use. Set file_params on the encoder."
            )
        resample = self.resample or front_end.resample
        return front_end.set_params(sample_rate=self.sample_rate, resample=resample)

    def _read_cells(self, cells):
        pairs = [cells.read_one(row) for row in cells.rows]
        files = "AudioEncoder: augment has corruptions of recordings, which"
        remedy = ", or use 'time_mask' and 'band_mask'"
        return [cell for cell, _ in pairs], only_rate((rate for _, rate in pairs), files, remedy)

    def _prepare(self, cells):
        frames = Frames(self.front_end_, cells)
        deque(frames, maxlen=0)  # a pass that learns the number of frames of each recording
        return Inputs(frames=frames.source())

    def _network(self):
        return ARCHITECTURES[self.architecture], {"n_mels": len(self.mean_)}, {}


class Frames:
    """Frames of recordings, in one pass over blocks of them; `source` returns all afterwards.

    Frames of arrays are kept, and those of files if they take at most `KEPT_BYTES`. Otherwise only
    their number per file is kept, and every batch reads its files again.

    Parameters
    ----------
    front_end : LogMelSpectrogram
        Fitted.
    cells : Cells
    """

    def __init__(self, front_end, cells):
        self.front_end, self.cells = front_end, cells
        self.blocks, self.counts, self.are_kept = [], [], True

    def __iter__(self):
        n_bytes = 0
        for frames, counts in self.front_end.iter_frames(self.cells):
            self.counts.extend(counts)
            n_bytes += frames.nbytes
            if self.cells.is_file and n_bytes / len(self.counts) * len(self.cells) > KEPT_BYTES:
                self.are_kept = False  # if the others are like those so far
                self.blocks.clear()
            if self.are_kept:
                self.blocks.append(frames)
            yield frames

    def source(self):
        """The rows of a network's input: RaggedRows or LazyRaggedRows."""
        if self.are_kept:
            return RaggedRows(join_blocks(self.blocks, self.blocks[0].shape[1]), self.counts)
        self.counts = np.array(self.counts)
        return LazyRaggedRows(self.counts, self._read)

    def _read(self, batch):
        cells = self.cells.part(batch)
        frames, counts = self.front_end.compute(cells, quiet=True)  # the pass has warned
        for row, count, before in zip(cells.rows, counts, self.counts[batch], strict=True):
            if count != before:
                raise cells.error(
                    row,
                    f"has {count} frames; it had {before} when it was first read. Do not change "
                    "files during a fit or a prediction.",
                )
        return frames
