"""Features of point clouds."""

import numpy as np
from torch.optim import AdamW

from sklearn_mmfusion._shared_docs import document_parameters
from sklearn_mmfusion._torch import Inputs, RaggedRows
from sklearn_mmfusion._validation import check_channels
from sklearn_mmfusion.containers.cells import CellKind, rows_of
from sklearn_mmfusion.feature_extraction.base import BaseModalityEncoder
from sklearn_mmfusion.modules.point_cloud import PointCloudNetwork
from sklearn_mmfusion.preprocessing.scaling import FeatureScale, cast_steps

__all__ = ["PointCloudEncoder"]


@document_parameters("encoder", "network")
class PointCloudEncoder(BaseModalityEncoder):
    """Learn features of point clouds with a perceptron shared by all points.

    `fit` trains the network and a linear head to predict `y`; `transform` returns the output of the
    layer before the head. Coordinates are standardized with the mean and standard deviation of all
    training points. The features of a cloud do not depend on the order of its points.

    X is a column of arrays of shape (n_points, 3), each with any number of points (list of arrays,
    pandas column), a column of paths of ``.npy`` files, or a 2-D array whose rows hold the
    coordinates of one point after another, padded with zeros to complete the last point.

    Parameters
    ----------
    channels : tuple of int, default=(64, 128)
        Units of the layers of the shared perceptron.

    module : type, default=None
        Class of a network to use in place of the default one; it is called with the keywords
        ``in_features`` (3), ``out_features`` and `module_params`. Its ``forward`` takes ``points``
        of shape (all points, 3), not standardized (see `mean_`), and ``points_lengths``. If it
        defines ``set_scale(mean, std)``, that is called with the training statistics. Its
        attribute ``out_features`` is the width of its output.

    Attributes
    ----------
    module_ : torch.nn.Module
        The trained network: ``encoder`` and ``head``.

    mean_, scale_ : ndarray of shape (3,), dtype=float64
        Mean and standard deviation with which the network standardizes each coordinate. 0 and 1
        for coordinates far from zero, such as map coordinates, whose digits float32 would lose:
        `prepare` standardizes them.

    classes_ : ndarray of shape (n_classes,)
        Labels of the classes, if the target has classes.

    history_ : list of dict
        Losses of each epoch of the validated training, and of each call of `partial_fit`.

    n_iter_ : int
        Number of epochs of the final network; each call of `partial_fit` adds one.

    n_features_in_ : int
        Numbers in each cloud where all have the same number of points, else 1.

    See Also
    --------
    FusionTransformer : Joins the features of several modalities.

    Notes
    -----
    About 9 000 multiply-adds per point and pass. Results are reproducible bit for bit on a CPU
    with the same seed and number of threads.

    References
    ----------
    .. [1] Qi, Su, Mo, Guibas (2017). "PointNet: deep learning on point sets for 3D classification
       and segmentation." CVPR. arXiv:1612.00593

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mmfusion import PointCloudEncoder
    >>> rng = np.random.default_rng(0)
    >>> balls = [rng.normal(size=(n, 3)) for n in range(20, 30)]
    >>> discs = [ball * [1, 1, 0.1] for ball in balls]
    >>> encoder = PointCloudEncoder(n_components=8, max_epochs=2, random_state=0)
    >>> encoder.fit_transform(balls + discs, ["ball"] * 10 + ["disc"] * 10).shape
    (20, 8)
    """

    _reads = CellKind(
        "point cloud",
        shapes=((None, 3),),
        expected="(n_points, 3)",
        value="coordinate",
        files="array",
        flat=rows_of(3),
    )

    _modality = "point_cloud"

    _parameter_constraints = {
        **BaseModalityEncoder._parameter_constraints,
        "channels": [tuple],
    }

    def __init__(
        self,
        n_components=128,
        *,
        channels=(64, 128),
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
        clouds = cells.read_finite(exact=True)
        self._coordinates = FeatureScale.fit(np.concatenate(list(clouds)))
        self.mean_, self.scale_ = self._coordinates.of_network
        return self._cast(clouds, cells)

    def _prepare(self, cells):
        return self._cast(cells.read_finite(exact=True), cells)

    def _cast(self, clouds, cells):
        return Inputs(points=RaggedRows(*cast_steps(self._coordinates, clouds, cells)))

    def _network(self):
        check_channels(self)
        return PointCloudNetwork, {"in_features": 3}, {"channels": self.channels}
