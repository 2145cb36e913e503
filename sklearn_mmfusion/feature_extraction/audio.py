"""Features of recordings."""

from numbers import Integral, Real

import numpy as np
from torch.optim import AdamW

from sklearn_mmfusion._sklearn import Interval, StrOptions
from sklearn_mmfusion._torch import Inputs, RaggedRows
from sklearn_mmfusion.feature_extraction.base import BaseModalityEncoder
from sklearn_mmfusion.modules.audio import AudioCNN, AudioLSTM
from sklearn_mmfusion.preprocessing import LogMelSpectrogram
from sklearn_mmfusion.preprocessing.scaling import mean_and_variance, row_slices

__all__ = ["AudioEncoder"]

ARCHITECTURES = {"cnn": AudioCNN, "lstm": AudioLSTM}


class AudioEncoder(BaseModalityEncoder):
    """Learn features of recordings from log-mel frames.

    `fit` trains a network over the frames and a linear head to predict `y`; `transform` gives
    the layer before the head. The mean of each band over a recording is taken off, which
    removes much of the voice and the channel.

    X is a column of waveforms of any lengths (list of arrays, pandas column), of paths of wav
    files, or a 2-D array whose rows are signals of equal length.

    Parameters
    ----------
    n_components : int, default=128
        Width of the features.

    sample_rate : int, default=16000
        Sampling frequency in Hz. A column or file that says another one is refused, or resampled.

    resample : bool, default=False
        Whether to resample recordings of another rate.

    n_mels : int, default=40
        Number of mel bands.

    n_fft : int, default=None
        Window length in samples; None takes the first power of two of at least 25 ms.

    hop_length : int, default=None
        Step between windows in samples; None takes 10 ms.

    top_db : float, default=40.0
        Bands more than this far below the loudest one of the recording, in dB, are raised to
        that level; None keeps all.

    remove_mean : bool, default=True
        Whether to subtract each recording's mean of each band: right for words and events, wrong
        where a steady sound is the message.

    architecture : {"cnn", "lstm"}, default="cnn"
        2-D convolutions over the spectrogram, or a bidirectional LSTM over its frames.

    root : str, default=None
        Folder that relative paths start from.

    module : type, default=None
        Class of a network to use in place of the default network; it is called with the
        keywords ``n_mels``, ``out_features`` and `module_params`, and its ``forward`` takes
        ``frames`` of shape (all frames, n_mels) and ``frames_lengths``, as they are computed:
        where it has ``set_scale(mean, std)``, that is called with those of training, by which to
        standardize. It says its width in the attribute ``out_features``.

    module_params : dict, default=None
        Further arguments of the network's class.

    dropout : float, default=0.3
        Dropout before the last linear layer.

    target_type : str, default="auto"
        How to read `y`: "binary", "multiclass", "multilabel-indicator", "continuous",
        "continuous-multioutput", or "auto" to infer it with scikit-learn's `type_of_target`
        (whole numbers are classes).

    loss : {"auto", "cross_entropy", "binary_cross_entropy", "evidential", "squared_error", \
"huber"}, default="auto"
        Loss. "auto" takes cross-entropy for classes, binary cross-entropy for labels and squared
        error for numbers; "evidential" makes the head tell evidence for classes.

    max_epochs : int or "auto", default="auto"
        Passes over the training rows; "auto" takes at least 20 epochs and 300 steps.

    lr : float, default=2e-3
        Peak learning rate; it rises over the first 15 % of the steps, then follows a cosine.

    batch_size : int or "auto", default="auto"
        Rows a step; "auto" takes 32 below 1000 rows, else 64.

    optimizer : type, default=torch.optim.AdamW
        Class of the optimizer.

    weight_decay : float, default=0.01
        Weight decay of the optimizer.

    label_smoothing : float, default=0.1
        Label smoothing of the cross-entropy.

    early_stopping : bool, default=True
        Whether to keep the last epoch whose loss on a validation part of the rows is within one
        standard error of the lowest.

    validation_fraction : float, default=0.2
        Share of the rows (of the groups, where given) in the validation part.

    refit : bool, default=True
        Whether to train again on all rows for the number of epochs found.

    class_weight : dict, list of dict or "balanced", default=None
        Weights of the classes, as in scikit-learn.

    callbacks : list, default=None
        skorch callbacks; no `LRScheduler`, since the learning rate has a schedule of its own.

    net_params : dict, default=None
        Anything else for skorch's `NeuralNet`, e.g. ``{"criterion__label_smoothing": 0.0}``
        or ``{"compile": True}``; and ``"max_norm"``, to which the norm of gradients is clipped
        (default 1.0).

    device : str, default="auto"
        "cpu", "cuda", ...; "auto" takes the GPU where there is one.

    precision : {"float32", "bf16"}, default="float32"
        Number format of the forward pass in training.

    warm_start : bool, default=False
        Whether `fit` starts from the weights of the last fit.

    random_state : int, RandomState instance or None, default=None
        Seed of weights, batches and dropout. Pass an int for equal results in every call.

    verbose : int, default=0
        1 prints losses once an epoch.

    Attributes
    ----------
    module_ : torch.nn.Module
        The trained network: ``encoder`` and ``head``.

    frontend_ : LogMelSpectrogram
        The fitted front end.

    mean_, scale_ : ndarray of shape (n_mels,), dtype=float32
        Mean and standard deviation of each band.

    classes_ : ndarray of shape (n_classes,)
        Labels of the classes, where the target has classes.

    history_ : list of dict
        Losses of each epoch of the validated training.

    n_iter_ : int
        Epochs the final network was trained for.

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

    _paths = "audio"

    _parameter_constraints = {
        **BaseModalityEncoder._parameter_constraints,
        "sample_rate": [Interval(Integral, 1, None, closed="left")],
        "resample": ["boolean"],
        "n_mels": [Interval(Integral, 1, None, closed="left")],
        "n_fft": [Interval(Integral, 2, None, closed="left"), None],
        "hop_length": [Interval(Integral, 1, None, closed="left"), None],
        "top_db": [Interval(Real, 0, None, closed="neither"), None],
        "remove_mean": ["boolean"],
        "architecture": [StrOptions(set(ARCHITECTURES))],
        "root": [str, None],
    }

    def __init__(
        self,
        n_components=128,
        *,
        sample_rate=16000,
        resample=False,
        n_mels=40,
        n_fft=None,
        hop_length=None,
        top_db=40.0,
        remove_mean=True,
        architecture="cnn",
        root=None,
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
        self.resample = resample
        self.n_mels = n_mels
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.top_db = top_db
        self.remove_mean = remove_mean
        self.architecture = architecture
        self.root = root
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

    def _learn(self, column, rows):
        self.frontend_ = LogMelSpectrogram(
            self.sample_rate,
            n_fft=self.n_fft,
            hop_length=self.hop_length,
            n_mels=self.n_mels,
            top_db=self.top_db,
            remove_mean=self.remove_mean,
            resample=self.resample,
        ).fit(column)
        inputs = self._prepare(column, rows)
        frames = inputs.sources["frames"].values
        slices = row_slices(*frames.shape)
        mean, variance = mean_and_variance(frames[part] for part in slices)
        scale = np.sqrt(variance)
        scale[scale < 1e-6] = 1.0  # a silent band
        self.mean_, self.scale_ = mean.astype(np.float32), scale.astype(np.float32)
        return inputs

    def _prepare(self, column, rows):
        return Inputs(frames=RaggedRows(*self.frontend_.compute(column, rows)))

    def _module(self):
        own = {} if self.module else {"dropout": self.dropout}
        return ARCHITECTURES[self.architecture], {"n_mels": self.n_mels, **own}
