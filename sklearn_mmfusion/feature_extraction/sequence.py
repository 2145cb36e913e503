"""Features of sequences of sensor readings or feature vectors."""

from collections import Counter
from dataclasses import replace

import numpy as np
from torch.optim import AdamW

from sklearn_mmfusion._shared_docs import document_parameters
from sklearn_mmfusion._sklearn import StrOptions
from sklearn_mmfusion._torch import Inputs, RaggedRows
from sklearn_mmfusion.containers.cells import rows_of
from sklearn_mmfusion.feature_extraction.base import BaseModalityEncoder
from sklearn_mmfusion.modules.recurrent import ConvolutionalRecurrentNetwork, RecurrentNetwork
from sklearn_mmfusion.modules.sequence import TemporalConvNet
from sklearn_mmfusion.preprocessing.cleaning import SEQUENCE
from sklearn_mmfusion.preprocessing.scaling import FeatureScale, cast_steps

__all__ = ["SequenceEncoder"]

ARCHITECTURES = {  # network and its options
    "crnn": (ConvolutionalRecurrentNetwork, {}),
    "gru": (RecurrentNetwork, {"cell": "gru"}),
    "lstm": (RecurrentNetwork, {"cell": "lstm"}),
    "tcn": (TemporalConvNet, {}),
}


@document_parameters("encoder", "network")
class SequenceEncoder(BaseModalityEncoder):
    """Learn features of sequences: sensor readings, speech features, joint angles.

    `fit` trains a network over the steps and a linear head to predict `y`; `transform` returns the
    output of the layer before the head. Every channel is standardized with its mean and standard
    deviation over all training steps.

    X is a column of arrays of shape (n_steps, n_channels), each with any number of steps (list of
    arrays, pandas column), a column of paths of ``.npy`` files, or a 2-D array whose rows are
    sequences of one channel. Cells of one channel may also have shape (n_steps,).

    Parameters
    ----------
    architecture : {"crnn", "gru", "lstm", "tcn"}, default="crnn"
        A convolution and a bidirectional GRU, a bidirectional GRU or LSTM alone, or a stack of
        dilated convolutions [1]_. Mean and maximum over time follow.

    module : type, default=None
        Class of a network to use in place of the default one; it is called with the keywords
        ``in_features`` (the number of channels), ``out_features`` and `module_params`. Its
        ``forward`` takes ``frames`` of shape (all steps, n_channels), not standardized (see
        `mean_`), and ``frames_lengths``. If it defines ``set_scale(mean, std)``, that is called
        with the training statistics. Its attribute ``out_features`` is the width of its output.

    Attributes
    ----------
    module_ : torch.nn.Module
        The trained network: ``encoder`` and ``head``.

    mean_, scale_ : ndarray of shape (n_channels,), dtype=float64
        Mean and standard deviation with which the network standardizes each channel. 0 and 1 for
        channels far from zero, such as time stamps, whose digits float32 would lose: `prepare`
        standardizes them.

    classes_ : ndarray of shape (n_classes,)
        Labels of the classes, if the target has classes.

    history_ : list of dict
        Losses of each epoch of the validated training, and of each call of `partial_fit`.

    n_iter_ : int
        Number of epochs of the final network; each call of `partial_fit` adds one.

    n_features_in_ : int
        Numbers in each sequence where all have the same number of steps, else 1.

    See Also
    --------
    AudioEncoder : The same for recordings, over their spectrogram.
    FusionTransformer : Joins the features of several modalities.

    Notes
    -----
    Sequences of similar length share a batch; every layer sees valid steps only, so that neither
    padding nor batch composition changes a result. Time per step is about proportional to the
    number of steps; "tcn" is the fastest for long sequences.

    References
    ----------
    .. [1] Bai, Kolter, Koltun (2018). "An empirical evaluation of generic convolutional and
       recurrent networks for sequence modeling." arXiv:1803.01271
    .. [2] Cho et al. (2014). "Learning phrase representations using RNN encoder-decoder for
       statistical machine translation." EMNLP. arXiv:1406.1078

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mmfusion import SequenceEncoder
    >>> rng = np.random.default_rng(0)
    >>> walks = [rng.normal(size=(n, 2)).cumsum(0) for n in range(20, 30)]
    >>> noise = [rng.normal(size=(n, 2)) for n in range(20, 30)]
    >>> encoder = SequenceEncoder(n_components=8, max_epochs=2, random_state=0)
    >>> encoder.fit_transform(walks + noise, ["walk"] * 10 + ["noise"] * 10).shape
    (20, 8)
    """

    _reads = replace(SEQUENCE, flat=rows_of(1), allow_nan=False)

    _modality = "sequence"

    _parameter_constraints = {
        **BaseModalityEncoder._parameter_constraints,
        "architecture": [StrOptions(set(ARCHITECTURES))],
    }

    def __init__(
        self,
        n_components=128,
        *,
        architecture="crnn",
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
        sequences = cells.read_finite(exact=True)
        counts = Counter(sequence.shape[1] for sequence in sequences)
        self._n_channels = counts.most_common(1)[0][0]  # so that an error names the odd row
        self._check_channels(sequences, cells)
        self._channels = FeatureScale.fit(np.concatenate(list(sequences)))
        self.mean_, self.scale_ = self._channels.of_network
        return self._cast(sequences, cells)

    def _prepare(self, cells):
        sequences = cells.read_finite(exact=True)
        self._check_channels(sequences, cells)
        return self._cast(sequences, cells)

    def _check_channels(self, sequences, cells):
        for sequence, row in zip(sequences, cells.rows, strict=True):
            if sequence.shape[1] != self._n_channels:
                raise cells.error(
                    row,
                    f"has {sequence.shape[1]} channels; expected {self._n_channels}, as in "
                    "most training rows. Give all sequences the shape (n_steps, n_channels).",
                )

    def _cast(self, sequences, cells):
        return Inputs(frames=RaggedRows(*cast_steps(self._channels, sequences, cells)))

    def _network(self):
        network, options = ARCHITECTURES[self.architecture]
        return network, {"in_features": self._n_channels}, options
