"""Documentation of the parameters that several estimators share: one table, one decorator."""

import inspect
import re
import textwrap

WIDTH = 100

# family -> parameter -> (type, description); defaults come from the signature. A description of
# several lines is taken as it is, another one is wrapped.
SHARED = {
    "network": {
        "module_params": ("dict", "Further arguments of the network's class."),
        "max_epochs": (
            'int or "auto"',
            'Passes over the training rows; "auto" trains for at least 20 epochs and 300 steps.',
        ),
        "lr": (
            "float",
            "Peak learning rate; it rises over the first 15 % of the steps, then follows a cosine.",
        ),
        "batch_size": (
            'int or "auto"',
            'Rows per step; "auto" takes 32 below 1000 rows, else 64.',
        ),
        "optimizer": ("type", "Class of the optimizer."),
        "weight_decay": ("float", "Weight decay of the optimizer."),
        "label_smoothing": (
            "float",
            "Label smoothing of the cross-entropy; it has no effect on other losses.",
        ),
        "early_stopping": (
            "bool",
            "Whether to keep the last epoch whose loss on a validation part of the rows is within "
            "one standard error of the lowest.",
        ),
        "validation_fraction": (
            "float",
            "Share of the rows (of the groups, if given) in the validation part.",
        ),
        "refit": (
            "bool",
            "Whether to train again on all rows for the number of epochs found.",
        ),
        "class_weight": (
            'dict, list of dict or "balanced"',
            "Weights of the classes, as in scikit-learn.",
        ),
        "callbacks": (
            "list",
            "skorch callbacks. `LRScheduler` is refused: the schedule of the learning rate is "
            "fixed.",
        ),
        "net_params": (
            "dict",
            "Other parameters of skorch's `NeuralNet`, e.g. "
            '``{"iterator_train__shuffle": False}`` or ``{"compile": True}``; '
            '``"max_norm"``, to which the norm of gradients is clipped (default 1.0; '
            '`NeuralClassifier` and `NeuralRegressor` do not clip); and ``"cuda_graph"``, which is '
            '"auto" or False: no CUDA graphs.',
        ),
        "device": (
            "str",
            '"cpu", "cuda", ...; "auto" uses a GPU if there is one. A fitted model predicts on '
            "the current value of `device`; if that is unavailable, on the CPU with a warning. "
            "Setting it through a composition (``set_params(image__device=...)``) moves the "
            "fitted estimators, too.",
        ),
        "precision": (
            '{"float32", "bf16"}',
            "Number format of the forward pass in training.",
        ),
        "warm_start": ("bool", "Whether `fit` starts from the weights of the last fit."),
        "random_state": (
            "int, RandomState instance or None",
            "Seed of weights, batches and dropout. Pass an int for equal results in every call.",
        ),
        "verbose": ("int", "1 prints the losses of every epoch."),
    },
    "encoder": {
        "n_components": ("int", "Width of the features."),
        "file_params": (
            "dict",
            """\
How files are read. A key has no effect on files that it does not concern:

- ``"root"``: folder that relative paths start from (default None: the current folder). Paths may
  not leave it: absolute paths and ``..`` are refused, unless ``"outside_root"`` is True (default
  False). Links inside the folder are followed.
- ``"on_error"``: "raise" (default), or "missing": files that cannot be read count as absent, with
  one warning that names the first five. All files are then read once before training, and again if
  they change. Some files that are cut off can still be read: those that hold a whole first image,
  and recordings in aiff, au, caf and ogg, which are then shorter. Time-outs, interrupts, full
  memory and missing packages always raise.
- ``"mode"``: channels of images: "L" (gray), "RGB", "RGBA" or "auto" (default), the most common
  mode of the training files. All images are converted to this mode.
- ``"mono"``: how to make one channel of several in a recording: their "mean" (default), or the
  "first".
- ``"n_frames"``: number of frames that are read from a video, spread evenly over it (default 16),
  or ``"fps"``: how many of every second (default None: `n_frames` decides).
- ``"max_pixels"``: largest number of pixels of an image or a frame (default 60 million);
  ``"max_bytes"``: largest size of a file, and of the array that it is decoded or resampled to
  (default 2**28). Both are checked before decoding.
- ``"cache_folder"``: folder in which decoded and resized cells are kept for later epochs, fits and
  processes (default None). A file whose size or modification time has changed is decoded again.
  Outdated cells stay until the folder is deleted, which is possible at any time.""",
        ),
        "augment": (
            '{"light", "strong"}, list of (str, dict) or callable',
            """\
How the inputs of the network (pixels, spectrograms, token ids, coordinates) change at random in
training, each time they are drawn; never in validation and prediction. Corruptions of recordings
and texts change a few copies of the cells (`augment_copies`).

- ``"light"``, ``"strong"``: a choice of corruptions that rarely change the label.
- a list of pairs ``(name, {"severity": 1})`` with severities from 0 to 5, or with the parameter of
  the corruption in place of the severity: ``("rotation", {"degrees": 10})``. The names are those of
  ``sklearn_mmfusion.corruptions.CORRUPTIONS``. Image: "flip", "rotation", "scale", "crop",
  "color", "noise", "blur", "occlusion"; audio: "time_mask", "band_mask", and on recordings
  "noise", "gain", "shift", "dropouts", "clipping"; text: "drop", and on texts "swap", "typo";
  sequence: "jitter", "scale", "warp", "crop", "channel_dropout"; video: those of images without
  "color", and "warp"; point cloud: "jitter", "scale".
- a callable, such as an instance of a ``torch.nn.Module`` (kornia's, for example), that takes and
  returns a tensor on the device: images (n, channels, height, width) in a scale from 0 to 1; padded
  sequences (n, length, ...), for which it may have a parameter ``mask`` (n, length) of their valid
  steps; token ids (n, length), once for each kind of token. `fit` works on a copy. It should draw
  from torch's own generators, which `random_state` seeds.""",
        ),
        "dropout": ("float", "Dropout before the last linear layer."),
        "target_type": (
            "str",
            'How to read `y`: "binary", "multiclass", "multilabel-indicator", "continuous", '
            '"continuous-multioutput", or "auto" to infer it with scikit-learn\'s '
            "`type_of_target` (whole numbers are classes).",
        ),
        "loss": (
            '{"auto", "cross_entropy", "binary_cross_entropy", "evidential", "squared_error", '
            '"huber"}',
            'Loss. "auto" takes cross-entropy for classes, binary cross-entropy for labels and '
            'squared error for numbers; "evidential" trains the head to predict evidence for each '
            "class.",
        ),
    },
    "perceptron": {
        "hidden_layer_sizes": ("tuple of int", "Units of the hidden layers."),
        "standardize": (
            "bool",
            "Whether to divide each feature by its standard deviation. False divides all by "
            "one number, the root of their mean variance, so that they keep their relative scales. "
            'Then the blocks of ``FusionTransformer(encoders, fusion="weighted")`` weigh the same.',
        ),
        "linear_alpha": (
            'float or "auto"',
            "Strength of the L2 penalty of the linear model: it minimizes the mean loss plus "
            "``linear_alpha / (2 n_samples)`` times the sum of squared weights. "
            '"auto" chooses from 1000, 100, ..., 0.01 by the loss on rows held out. '
            "Ignored with `module` and in a warm start.",
        ),
        "linear_share": (
            'float from 0 to 1 or "auto"',
            "Share of the linear model in the outputs; the rest is the network's. "
            '"auto" chooses from 0, 0.1, ..., 1 by the loss on rows held out. For this it trains '
            "the network on the other rows, without `callbacks`: three times below 1500 rows, else "
            "once, on about 3333 rows at most. With fewer than 6 rows or groups, and with several "
            "processes, the share is 0 and the penalty 10. Ignored with `module` and in a warm "
            "start.",
        ),
        "module": (
            "type",
            "Class of a network to use in place of the default one. It is called with "
            "``in_features``, ``n_outputs`` and `module_params`; its ``forward`` takes "
            "``features`` in float32, of which only features that float32 cannot hold, such as "
            "time stamps, are standardized. If it defines ``set_scale(mean, std)``, that is called "
            "with the training statistics (0 and 1 for standardized features).",
        ),
        "dropout": ("float", "Dropout after each hidden layer."),
        "early_stopping": (
            "bool",
            "Whether to keep the last epoch whose loss on a validation part of the rows is within "
            "one standard error of the lowest. Off by default: if the features come from encoders "
            "that were fitted to the validation rows, the validation loss is too optimistic.",
        ),
    },
    "joint": {
        "encoders": (
            "list of (str, estimator, column) triples",
            """\
The name must be an identifier; ``set_params(name=...)`` and ``name__parameter`` reach the
estimator. An encoder (or a pipeline that ends in one; a custom one needs ``fit_prepare``,
``prepare`` and ``build_module``) becomes part of the network: the parameters that determine its
architecture are used, those of its training are ignored. Any other transformer is fitted first,
and its output enters the network as features; so do the fixed features of a `FrozenEstimator` and
the numbers of ``"passthrough"``. ``"drop"`` leaves the modality out. The column is a string or an
integer (one column: the modality is absent where the cell is NA), or a list of either, a slice, a
boolean mask, or a callable that takes X and returns one of these (a table: absent only if its
columns are missing from X; impute NA in it first).""",
        ),
        "fusion": (
            "str or type",
            """\
How features are combined into one vector of length `n_components`. An absent modality contributes
nothing to any fusion.

- ``"concat"``: a linear layer on the features side by side.
- ``"sum"``, ``"mean"``, ``"max"``: pooled linear projections; ``"weighted"``: their mean with one
  learned weight per modality.
- ``"gated"``: gated multimodal unit [1]_, weights that depend on the row.
- ``"low_rank"``: products of features, of `rank` 4 [2]_; ``"tensor"``: all products [3]_, for
  narrow features only.
- ``"attention"``: features attend to the tokens of all modalities (steps of sound, characters,
  cells of an image), one layer [4]_.
- ``"graph"``: messages between modalities, weighted by attention [5]_.
- ``"logits"``: sum of the outputs of the modalities' own heads (mean of numbers).
- a custom class: a ``torch.nn.Module`` made with ``in_features`` (one width per modality),
  ``out_features`` and `fusion_params`; ``forward(features, mask)`` takes a list of tensors
  (n, width) and a mask (n, n_modalities), True where present, and returns (n, out_features). An
  optional method ``weights`` of the same arguments returns the shares of the modalities. See
  ``sklearn_mmfusion.modules.fusion``.""",
        ),
        "objectives": (
            'dict of {str: float}, "auto" or None',
            """\
Training objectives in addition to the prediction, with weights:

- ``"auxiliary"``: each modality's own head predicts the target from it alone.
- ``"contrastive"``: the modalities of a row get similar features, those of different rows get
  dissimilar ones [6]_.
- ``"adversarial"``: a discriminator cannot identify the modality from its features [7]_. Use it
  only if the set of present modalities reveals the target; it is fragile otherwise.

The last two act on the common space into which some fusions project the modalities ("sum", "mean",
"max", "weighted", "gated", "attention", "graph"); for other fusions a projection is added. "auto"
is ``{"auxiliary": 0.3}``.""",
        ),
        "fusion_params": (
            "dict",
            'Further arguments of the fusion: ``rank`` of "low_rank", ``max_weights`` of '
            '"tensor", ``num_heads`` of "attention" and "graph", ``num_rounds`` of "graph".',
        ),
        "n_components": (
            "int",
            "Width of the fused features, and of the embedding of transformers' features.",
        ),
        "modality_dropout": (
            "float",
            "Probability with which each modality of a row is hidden from the fusion in training; "
            "at least one always stays [8]_.",
        ),
        "linear_share": (
            'float from 0 to 1 or "auto"',
            "Share of a linear model of the tables (features of transformers that are not "
            "encoders) in the outputs of rows that have all tables; the rest is the network's. "
            '"auto" chooses from 0, 0.1, ..., 1 by the loss on the validation rows; without '
            "`early_stopping`, it is 0. The penalty is chosen as in :class:`NeuralClassifier`. "
            "Ignored with several targets.",
        ),
        "pretrain": (
            'bool or "fitted"',
            "Whether to train each encoder with its own head before the whole network. With "
            '"fitted", training starts from the weights of fitted encoders instead, given as '
            "``FrozenEstimator(encoder)``; the encoders themselves do not change.",
        ),
        "encoder_lr": (
            "float or dict of {str: float}",
            "Peak learning rate of the encoders, or of those named; None means `lr`. 0 freezes "
            "the encoders at their initial (random or pretrained) weights; batch norm "
            "statistics are still updated. A fitted encoder in a ``FrozenEstimator`` contributes "
            'features that do not change, unless `pretrain` is "fitted".',
        ),
        "target_weights": (
            'dict of {str: float}, "uncertainty" or None',
            'Weights of the losses of several targets, 1 for those not named; "uncertainty" learns '
            "them [9]_.",
        ),
        "dropout": ("float", "Dropout before the last layer, and on transformers' features."),
        "max_epochs": (
            'int or "auto"',
            "Passes over the training rows, and as many over each modality with `pretrain`; "
            '"auto" trains for at least 20 epochs and 1000 steps (300 in pretraining).',
        ),
        "warm_start": (
            "bool",
            "Whether `fit` starts from the weights, vocabulary and scales of the last fit.",
        ),
        "memory": (
            "str, pathlib.Path, joblib.Memory or None",
            "Cache of all steps before training (a folder or a `joblib.Memory`): prepared cells "
            "(token ids, log-mel frames), separately fitted transformers and their features. "
            "Other candidates of a search read them from there, unless they set a parameter of "
            "that encoder; see the Notes of :class:`FusionTransformer`. None disables caching. "
            "Caching needs a `random_state`. Pickles of fitted models do not contain `memory`.",
        ),
        "random_state": (
            "int, RandomState instance or None",
            "Seed of weights, batches and dropout, and of every `random_state` inside the triples. "
            "Pass an int for equal results in every call.",
        ),
    },
    "late": {
        "n_jobs": (
            "int or None",
            "Fits (modalities times folds) to run at once. None means 1 unless in a joblib "
            "context, -1 all cores.",
        ),
        "memory": (
            "str, pathlib.Path, joblib.Memory or None",
            "Cache of fitted estimators and their predictions: a folder or a `joblib.Memory`. "
            "An estimator is read from there if its parameters and its rows are the same as "
            "before, such as in other candidates of a search; see the Notes of "
            ":class:`FusionTransformer`. None disables caching. Pickles of fitted models do not "
            "contain `memory`.",
        ),
        "random_state": (
            "int, RandomState instance or None",
            "Every `random_state` inside each estimator is set from this and the modality's name, "
            "so that adding a modality changes no other. None leaves them as they are.",
        ),
        "verbose": ("bool", "Whether to print the time each fit took."),
    },
}


def document_parameters(*families):
    """Decorate a class: complete the Parameters section of its docstring from `SHARED`.

    A parameter that the docstring describes stays as it is. The others are inserted in the order
    of the signature, each with its default.

    Parameters
    ----------
    *families : str
        Keys of `SHARED`; the first that has a parameter describes it.
    """

    def decorate(cls):
        if cls.__doc__ is None:  # python -OO
            return cls
        start, own, rest = split_parameters(inspect.cleandoc(cls.__doc__))
        entries = []
        for parameter in list(inspect.signature(cls.__init__).parameters.values())[1:]:
            shared = (SHARED[f][parameter.name] for f in families if parameter.name in SHARED[f])
            entry = own.pop(parameter.name, None) or format_entry(parameter, *next(shared))
            entries.append(entry)
        cls.__doc__ = "\n\n".join([start + "\n".join(entries[:1]), *entries[1:], *own.values()])
        cls.__doc__ += f"\n\n{rest}"
        return cls

    return decorate


def split_parameters(doc):
    """Split a docstring: up to its parameters, {parameter: entry}, from the next section on."""
    underline = re.search(r"^Parameters\n-{10}\n", doc, flags=re.MULTILINE)
    following = re.search(r"^\w[\w ]*\n-{3,}\n", doc[underline.end() :], flags=re.MULTILINE)
    end = underline.end() + following.start()
    entries = re.split(r"^(?=\w+ : )", doc[underline.end() : end], flags=re.MULTILINE)
    named = {each.partition(" : ")[0]: each.rstrip() for each in entries if each.strip()}
    return doc[: underline.end()], named, doc[end:]


def format_entry(parameter, kind, text):
    """The entry of one parameter, its default taken from the signature."""
    default = parameter.default
    if isinstance(default, type):
        default = f"torch.optim.{default.__name__}"
    elif isinstance(default, str):
        default = f'"{default}"'
    head = f"{parameter.name} : {kind}"
    if parameter.default is not inspect.Parameter.empty:
        head += f", default={default}"
    text = text if "\n" in text else textwrap.fill(text, WIDTH - 4, break_on_hyphens=False)
    return f"{head}\n{textwrap.indent(text, ' ' * 4)}"
