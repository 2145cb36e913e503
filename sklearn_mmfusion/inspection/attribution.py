"""Integrated gradients: the contribution of pixels, words or time-frequency cells."""

from copy import deepcopy

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted
from torch import nn
from torch.func import functional_call

from sklearn_mmfusion._columns import select_for_predict
from sklearn_mmfusion._targets import is_number
from sklearn_mmfusion._validation import (
    MULTITASK,
    as_fitted,
    check_choice,
    check_count,
    import_extra,
)
from sklearn_mmfusion.compose import FusionTransformer
from sklearn_mmfusion.containers.cells import Cells
from sklearn_mmfusion.containers.column_input import check_column
from sklearn_mmfusion.containers.conversion import as_column
from sklearn_mmfusion.containers.sets import takes_sets
from sklearn_mmfusion.feature_extraction import (
    AudioEncoder,
    ImageEncoder,
    SequenceEncoder,
    TextEncoder,
)
from sklearn_mmfusion.neural_network import (
    JointFusionClassifier,
    JointFusionRegressor,
    NeuralClassifier,
    NeuralRegressor,
)
from sklearn_mmfusion.preprocessing.text import as_texts

KINDS = {
    ImageEncoder: "image",
    TextEncoder: "text",
    AudioEncoder: "audio",
    SequenceEncoder: "sequence",
}
SUPPORTED = (
    "a fitted encoder of images, texts, recordings or sequences, a joint fusion, or "
    "Pipeline([FusionTransformer with fusion='concat', NeuralClassifier or NeuralRegressor])"
)
BASELINES = ("auto", "zero", "mean")
BUDGET = 1 << 22  # numbers of the interpolated inputs that go through the network at a time


def modality_attribution(
    estimator, X, *, modality=None, target=None, baseline="auto", n_steps=64, verbose=0
):
    """Attribute predictions to the pixels, words or time-frequency cells of one modality.

    Computes integrated gradients [1]_: the gradient of the network's output, averaged over a
    straight path from a baseline without information to the input, times the difference of the two.
    The attributions of a row add up to the effect of the modality: the output for the row minus the
    output for the same row with this modality at its baseline.

    Parameters
    ----------
    estimator : estimator
        Fitted: an encoder, whose training head is then explained; a joint fusion; or a Pipeline of
        a `FusionTransformer` with ``fusion="concat"`` and a `NeuralClassifier` or
        `NeuralRegressor`. For late fusion, pass a member: ``late.named_estimators_["image"]``.
    X : column of cells, DataFrame or array-like
        Rows to explain, as for `predict`. Each row costs about `n_steps` predictions and gradients.
    modality : str, default=None
        Name of an encoder of images, texts, recordings or sequences. May be omitted if there is
        only one.
    target : label or array-like of shape (n_samples,), default=None
        The class whose output is explained, one for all rows or one per row. For regression, the
        position of the output. None means the class with the highest output (for multilabel
        targets, the label), and for regression output 0.
    baseline : {"auto", "zero", "mean"}, default="auto"
        "auto" means the mean color of the training images, a silent recording of the same length,
        the mean step of sequences, or, for texts, the embedding of unknown tokens. "zero" means
        black or zero, "mean" the mean of each channel or band in training. Texts accept only
        "auto".
    n_steps : int, default=64
        Number of steps of the integral (Gauss-Legendre). `errors` shows whether it is enough.
    verbose : int, default=0
        If above 0, print the progress.

    Returns
    -------
    attribution : Bunch
        With the attributes:

        modality : str
            Name of the modality.
        kind : {"image", "text", "audio", "sequence"}
            Kind of the modality.
        attributions : list of length n_samples
            Per row an ndarray: (n_channels, height, width) for images, (n_words,) for texts,
            (n_frames, n_bands) for recordings, (n_steps, n_channels) for sequences. None where
            the modality is absent.
        inputs : list of length n_samples
            The pixels, words, log-mel frames or steps that the attributions belong to, as the
            network gets them, or None.
        targets : list of length n_samples
            The explained class, or the position of the output.
        outputs, baseline_outputs : ndarray of shape (n_samples,)
            Output for the row, and with the modality at its baseline: logits, or numbers in the
            units of the target. NaN where the modality is absent.
        errors : ndarray of shape (n_samples,)
            Sum of the attributions minus the difference of the two outputs: 0 if the integral is
            exact.

    Raises
    ------
    ImportError
        If captum is missing (extra ``explain``).
    TypeError
        If the estimator is none of those above.
    ValueError
        If `modality`, `target` or `baseline` is unknown, or `n_steps` not a positive integer.

    See Also
    --------
    sklearn_mmfusion.plotting.ModalityAttributionDisplay : Draws the attributions.

    Notes
    -----
    Tokens of a text are attributed through their embeddings. The attribution of an n-gram is shared
    equally by its characters, and each word gets the shares of its characters and of the space
    after it.

    The explained outputs are those of the network, before a temperature and without the linear
    model of tables in a joint fusion. Everything is computed on the CPU without dropout, and the
    results are deterministic. The estimator is left unchanged.

    References
    ----------
    .. [1] Sundararajan, Taly, Yan (2017). "Axiomatic attribution for deep networks." ICML.
       arXiv:1703.01365

    Examples
    --------
    >>> from sklearn_mmfusion import TextEncoder
    >>> from sklearn_mmfusion.inspection import modality_attribution
    >>> texts = ["a good film", "a fine film", "a bad film", "a poor film"] * 5
    >>> encoder = TextEncoder(8, max_epochs=5, early_stopping=False, random_state=0)
    >>> found = modality_attribution(encoder.fit(texts, [1, 1, 0, 0] * 5), ["a bad film"])
    >>> found.inputs
    [['a', 'bad', 'film']]
    >>> found.inputs[0][found.attributions[0].argmax()]
    'bad'
    """
    captum = import_extra("captum.attr", "modality_attribution", "explain")
    check_choice("modality_attribution: baseline", baseline, BASELINES)
    check_count("modality_attribution: n_steps", n_steps)
    network = find_network(estimator, X, modality)
    codes = network.codes_of(target)
    path = (TokenPath if network.kind == "text" else InputPath)(network, baseline)
    found = {name: [None] * network.n_rows for name in ("attributions", "inputs", "targets")}
    numbers = ("outputs", "baseline_outputs", "errors")
    found |= {name: np.full(network.n_rows, np.nan) for name in numbers}
    for number, row in enumerate(network.rows):
        if verbose:
            print(f"[modality_attribution] row {number + 1} of {len(network.rows)}")
        code = None if codes is None else int(codes[row])
        for name, value in explain_row(captum, network, path, number, code, n_steps).items():
            found[name][row] = value
    return Bunch(modality=network.modality, kind=network.kind, **found)


def explain_row(captum, network, path, number, code, n_steps):
    """Return the results of `modality_attribution` for one row."""
    inputs, baselines, forward = path.ends(number)
    with torch.no_grad():
        output, origin = (forward(*end)[0].double().numpy() for end in (inputs, baselines))
    if code is None:
        code = 0 if is_number(network.target) else int(output.argmax())
    parts = [torch.zeros_like(end) for end in inputs]
    n_numbers = sum(end.numel() for end in inputs)
    if n_numbers:
        parts = captum.IntegratedGradients(forward).attribute(
            inputs,
            baselines,
            target=code,
            n_steps=n_steps,
            internal_batch_size=max(1, min(n_steps, BUDGET // n_numbers)),
        )
    scale, shift = network.units(code)
    attributions, shown = path.collect(number, [part[0].double().numpy() for part in parts])
    difference = (output[code] - origin[code]) * scale
    return {
        "attributions": attributions * scale,
        "inputs": shown,
        "targets": network.name_of(code),
        "outputs": output[code] * scale + shift,
        "baseline_outputs": origin[code] * scale + shift,
        "errors": attributions.sum() * scale - difference,
    }


class ExplainedNetwork:
    """A network as a function of one modality.

    Parameters
    ----------
    modality : str
        Name of the modality.
    encoder : encoder
        Fitted: it has prepared the inputs.
    cells : Cells
        Of the present rows.
    rows : ndarray of int
        Their positions in X.
    n_rows : int
        Rows of X.
    network : torch.nn.Module
        The whole network. A copy is made.
    prefix : str
        Of the encoder's parameters in it.
    target : Target
        Decodes the outputs.
    keywords : str, default=""
        Prefix of the encoder's inputs among the keywords of ``network.forward``.
    others : callable, default=None
        ``others(row)`` returns the remaining keywords for one row of X.
    """

    def __init__(
        self,
        modality,
        encoder,
        cells,
        rows,
        n_rows,
        network,
        prefix,
        target,
        keywords="",
        others=None,
    ):
        self.modality, self.encoder, self.cells = modality, encoder, cells
        self.kind = kind_of(encoder)
        self.rows, self.n_rows, self.prefix = rows, n_rows, prefix
        self.target, self.keywords, self.others = target, keywords, others
        self.network = deepcopy(network).cpu().eval().requires_grad_(False)
        self.inputs = encoder._prepare(cells) if len(cells) else None
        if target.kind == MULTITASK:
            raise TypeError(
                f"modality_attribution: the network has several targets, {list(target.targets)}; "
                "expected one. Fit one network per target."
            )

    @property
    def encoder_network(self):
        """The module of the encoder inside the copy."""
        return self.network.get_submodule(self.prefix.rstrip("."))

    def batch(self, number):
        """Inputs of one of the present rows, as a dict of tensors."""
        return self.inputs.batch(np.array([number]))

    def outputs(self, number, own, n_copies, parameters=None):
        """Outputs for copies of a row with other inputs of the modality: (n_copies, n_outputs)."""
        keywords = {f"{self.keywords}{name}": values for name, values in own.items()}
        others = {} if self.others is None else self.others(int(self.rows[number]))
        # Copies of a sequence end to end are the sequences of a batch.
        others = {k: v.repeat(n_copies, *[1] * (v.ndim - 1)) for k, v in others.items()}
        parameters = {f"{self.prefix}{k}": v for k, v in (parameters or {}).items()}
        return functional_call(self.network, parameters, kwargs={**others, **keywords})

    def codes_of(self, target):
        """Positions of the outputs to explain, one per row of X, or None for the highest."""
        if target is None:
            return None
        if np.ndim(target) and len(target) != self.n_rows:
            raise ValueError(
                f"modality_attribution: target has length {len(target)}; expected one label, or "
                f"one for each of the {self.n_rows} rows of X."
            )
        labels = np.asarray(target) if np.ndim(target) else np.array([target] * self.n_rows)
        known = self.target.classes
        known = np.arange(self.target.n_outputs) if known is None else np.asarray(known)
        codes = pd.Index(known).get_indexer(labels)
        if (codes < 0).any():
            wrong = labels.tolist()[np.argmin(codes)]
            raise ValueError(
                f"modality_attribution: target has {wrong!r}; expected one of {known.tolist()}."
            )
        return codes

    def name_of(self, code):
        """The class of an output, or its position."""
        return code if self.target.classes is None else self.target.classes[code]

    def units(self, code):
        """Factor and summand that turn an output into the units of the target."""
        if self.target.scale is None:
            return 1.0, 0.0
        return float(self.target.scale[code]), float(self.target.mean[code])


def kind_of(encoder):
    """The kind of modality of a supported encoder, or None."""
    if takes_sets(encoder):
        return None
    return next((kind for cls, kind in KINDS.items() if isinstance(encoder, cls)), None)


def find_network(estimator, X, modality):
    """Return the `ExplainedNetwork` of a supported estimator."""
    if isinstance(estimator, JointFusionClassifier | JointFusionRegressor):
        return joint_network(estimator, X, modality)
    if isinstance(estimator, tuple(KINDS)) and kind_of(estimator):
        check_is_fitted(estimator)
        encoder = as_fitted(estimator)
        cells = Cells(encoder, column := check_column(encoder, X, reset=False))
        name = modality or kind_of(encoder)
        size = cells.rows, len(column)
        return ExplainedNetwork(
            name, encoder, cells, *size, estimator.module_, "encoder.", estimator._target
        )
    if isinstance(estimator, Pipeline) and len(estimator) == 2:
        fusion, head = (step for _, step in estimator.steps)
        heads = NeuralClassifier | NeuralRegressor
        if isinstance(fusion, FusionTransformer) and isinstance(head, heads):
            return pipeline_network(fusion, head, X, modality)
    raise TypeError(
        f"modality_attribution: got {type(estimator).__name__}; expected {SUPPORTED}. Members of "
        "late fusion, such as late.named_estimators_['image'], can be explained one by one."
    )


def choose(modality, encoders):
    """Return the name of the modality to explain, and its encoder."""
    names = [name for name, encoder in encoders.items() if kind_of(encoder)]
    if modality is None and len(names) == 1:
        modality = names[0]
    if modality not in names:
        raise ValueError(
            f"modality_attribution: modality={modality!r}; expected one of {names}, those with an "
            "encoder of images (one per row), texts, recordings or sequences."
        )
    return modality, as_fitted(encoders[modality])


def last_step(estimator):
    """The encoder at the end of a pipeline, or in a FrozenEstimator."""
    while isinstance(estimator, Pipeline | FrozenEstimator):
        is_pipeline = isinstance(estimator, Pipeline)
        estimator = estimator.steps[-1][1] if is_pipeline else estimator.estimator
    return estimator


def present_cells(encoder, steps, data, present):
    """Cells of a modality after the steps before its encoder, and their positions in X."""
    rows = np.flatnonzero(present)
    if data is None:
        return [], rows
    column = check_column(encoder, data if steps is None else steps.transform(data), reset=False)
    cells = Cells(encoder, column)
    return cells, rows[cells.rows]


def joint_network(joint, X, modality):
    """Return the network of a joint fusion."""
    inputs = joint._encode(X)  # first: raises if nothing is fitted
    parts = joint._parts
    encoders = {name: getattr(part, "encoder", None) for name, part in parts.items()}
    modality, encoder = choose(modality, encoders)
    number = list(parts).index(modality)
    selected = select_for_predict(joint, X, joint._selections)[number]
    cells, rows = present_cells(encoder, parts[modality].alone, *selected)

    def others(row):
        batch = inputs.batch(np.array([row]))
        return {k: v for k, v in batch.items() if not k.startswith(f"{modality}.")}

    where = joint.module_, f"encoders.{number}.", joint._target, f"{modality}.", others
    return ExplainedNetwork(modality, encoder, cells, rows, len(inputs), *where)


class EncoderAndHead(nn.Module):
    """A head on features, some of which come from an encoder.

    Shape: forward(features, **batch) -> (N, n_outputs).
    """

    def __init__(self, encoder: nn.Module, head: nn.Module, block: slice):
        super().__init__()
        self.encoder, self.head, self.block = encoder, head, block

    def forward(self, features, **batch):
        before, after = features[:, : self.block.start], features[:, self.block.stop :]
        return self.head(torch.cat([before, self.encoder(**batch), after], 1))


def pipeline_network(fusion, head, X, modality):
    """The encoders of a FusionTransformer and the head, as one network."""
    features = fusion.transform(X)  # first: raises if nothing is fitted
    check_is_fitted(head)
    if fusion.fusion_ is not None:
        raise TypeError(
            f"modality_attribution: FusionTransformer has fusion={fusion.fusion!r}, which has no "
            f"gradient here; expected {SUPPORTED}."
        )
    children = {selection.name: child for child, selection in fusion._active}
    modality, encoder = choose(modality, {name: last_step(c) for name, c in children.items()})
    number, child = list(children).index(modality), children[modality]
    selections = [selection for _, selection in fusion._active]
    selected = select_for_predict(fusion, X, selections)[number]
    steps = child[:-1] if isinstance(child, Pipeline) and len(child) > 1 else None
    cells, rows = present_cells(encoder, steps, *selected)
    features = features.toarray() if sparse.issparse(features) else np.asarray(features)
    features = torch.from_numpy(head._features.cast(head._check_features(features, reset=False)))
    block = fusion.output_indices_[modality]
    network = EncoderAndHead(encoder.module_.encoder, head.module_, block)

    def others(row):
        return {"features": features[row : row + 1]}

    where = network, "encoder.", head._target, "", others
    return ExplainedNetwork(modality, encoder, cells, rows, len(features), *where)


class InputPath:
    """Paths from baselines to images, frames or steps."""

    def __init__(self, network, baseline):
        self.network = network
        self.baseline = self._baseline(network.encoder, baseline)

    def _baseline(self, encoder, baseline):
        """The baseline of one step or pixel, by channel."""
        if baseline == "zero":
            return torch.zeros(len(encoder.mean_))
        if baseline == "auto" and self.network.kind == "audio":
            return torch.from_numpy(silent_frame(encoder))
        return torch.from_numpy(np.asarray(encoder.mean_))

    def ends(self, number):
        """Input and baseline, each in a tuple, and the network as a function of copies of them."""
        batch = self.network.batch(number)
        (name, values), *lengths = batch.items()
        values = values.float()
        outputs = self.network.outputs
        if not lengths:  # (1, channels, height, width)
            baseline = self.baseline[:, None, None].expand_as(values)
            return (values,), (baseline,), lambda x: outputs(number, {name: x}, len(x))
        inputs = values[None]  # (1, steps, channels)

        def forward(x):
            lengths_of_copies = torch.full((len(x),), x.shape[1])
            own = {name: x.flatten(0, 1), f"{name}_lengths": lengths_of_copies}
            return outputs(number, own, len(x))

        return (inputs,), (self.baseline.expand_as(inputs),), forward

    def collect(self, number, parts):
        """Attributions of a row, and the values they belong to."""
        values, *lengths = self.network.batch(number).values()
        return parts[0], (values if lengths else values[0]).numpy()


def silent_frame(encoder):
    """The frame of silence, as the front end of an audio encoder makes it."""
    front_end = encoder.front_end_
    rate = front_end.sample_rate_
    silence = as_column([np.zeros(2 * front_end.n_fft_, dtype=np.float32)], sample_rate=rate)
    frames, _ = next(iter(front_end.iter_frames(Cells(encoder, silence))))
    return frames.mean(axis=0).astype(np.float32)


class TokenPath:
    """Paths from the embedding of unknown tokens to those of the tokens of a text.

    The embedding tables of the network are replaced by one row per token of the text, which are
    the inputs to integrate over.
    """

    def __init__(self, network, baseline):
        encoder = network.encoder
        if baseline != "auto":
            raise ValueError(
                f"modality_attribution: baseline={baseline!r} of texts; expected 'auto', the "
                "embedding of unknown tokens."
            )
        self.network, self.tokenizers = network, encoder.tokenizers_
        self.tables = {}
        for name in self.tokenizers:
            layer = getattr(network.encoder_network, name, None)
            if not hasattr(layer, "weight"):
                raise TypeError(
                    f"modality_attribution: module {type(network.encoder_network).__name__} has no "
                    f"embedding {name!r}; expected the network of an architecture of TextEncoder."
                )
            self.tables[name] = layer.weight
            if getattr(layer, "frozen", None) is not None:  # given vectors have the last ids
                self.tables[name] = torch.cat([layer.weight, layer.frozen])
                layer.frozen = None
        texts = as_texts(network.cells.take()) if len(network.cells) else []
        self.texts = encoder._clean(texts)

    def ends(self, number):
        """Embeddings and baselines of all tokens, and the network as a function of them."""
        batch = self.network.batch(number)
        inputs = tuple(table[batch[name]][None] for name, table in self.tables.items())
        baselines = tuple(
            table[0].expand_as(own) for own, table in zip(inputs, self.tables.values(), strict=True)
        )

        def forward(*tables):
            own, parameters = {}, {}
            for name, table in zip(self.tables, tables, strict=True):
                n_copies, n_tokens, _ = table.shape
                own[name] = torch.arange(n_copies * n_tokens)
                own[f"{name}_lengths"] = torch.full((n_copies,), n_tokens)
                parameters[f"{name}.weight"] = table.flatten(0, 1)
            return self.network.outputs(number, own, n_copies, parameters)

        return inputs, baselines, forward

    def collect(self, number, parts):
        """Attributions of the words of a text, and the words."""
        text = self.texts[number]
        changes = np.zeros(len(text) + 3)  # of the attribution from one character to the next
        for tokenizer, part in zip(self.tokenizers.values(), parts, strict=True):
            starts, stops = token_spans(text, tokenizer.analyzer, tokenizer.ngram_range)
            shares = part.sum(axis=1) / (stops - starts)
            np.add.at(changes, starts, shares)
            np.subtract.at(changes, stops, shares)
        words = text.split()
        if not words:
            return np.zeros(0), words
        starts = np.cumsum([0] + [len(word) + 1 for word in words])[:-1] + 1
        starts[0] = 0  # the space before the text
        return np.add.reduceat(np.cumsum(changes), starts), words


def token_spans(text, analyzer, ngram_range):
    """First character and end of each token in a clean text between two spaces.

    The order is that of `Tokenizer`, the shortest tokens first.
    """
    if analyzer == "word":
        lengths = np.array([len(word) for word in text.split()], dtype=int)
        starts = np.cumsum(lengths + 1) - lengths
        stops = starts + lengths
    else:
        starts = np.arange(len(text) + 2 if text else 0)
        stops = starts + 1
    shortest, longest = ngram_range
    sizes = range(shortest, longest + 1)
    pairs = [(starts[: len(starts) - n + 1], stops[n - 1 :]) for n in sizes if n <= len(starts)]
    if not pairs:
        return np.zeros(0, dtype=int), np.zeros(0, dtype=int)
    return tuple(np.concatenate(each) for each in zip(*pairs, strict=True))
