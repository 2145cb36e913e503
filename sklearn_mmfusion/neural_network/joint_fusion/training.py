"""Training of a joint network: loss, learning rates, pretraining of the encoders, temperature."""

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from sklearn_mmfusion._losses import MultiTaskLoss, criterion_for
from sklearn_mmfusion._skorch import TRAINING_CONSTRAINTS, settings_of
from sklearn_mmfusion._targets import each_target, loss_of
from sklearn_mmfusion._torch import (
    RowDataset,
    n_batches,
    rows_per_batch,
    split_long,
    steps_per_batch,
)
from sklearn_mmfusion._triples import is_encoder
from sklearn_mmfusion._validation import CLASSIFICATION, MULTITASK
from sklearn_mmfusion.modules.fusion_network import EncoderNetwork
from sklearn_mmfusion.modules.objectives import JointLoss

PRETRAINING_STEPS = 300  # minimum number of steps per modality with max_epochs="auto"
# parameters of encoders that a joint model overrides
REPLACED = {*TRAINING_CONSTRAINTS, "loss", "target_type", "class_weight"} - {
    *("module", "module_params", "dropout"),
}


def replaced_params(params):
    """Find the encoder parameters that a joint model overrides, among its `get_params`."""
    pairs = [(key, *key.rpartition("__")[::2]) for key in params if "__" in key]
    return {key for key, owner, own in pairs if own in REPLACED and is_encoder(params[owner])}


def encoder_settings(triples, params):
    """Return the parameters and columns, by name, on which the encoders of a network depend."""
    names = {name for name, _, _ in triples}
    of_encoders = {k: value for k, value in params.items() if k.partition("__")[0] in names}
    columns = {f"column of {name}": column for name, _, column in triples}
    return {**columns, **settings_of(of_encoders, replaced_params(params))}


def joint_criterion(target, loss, *, auxiliary, target_weights, label_smoothing):
    """Return class and arguments of the loss of a joint network.

    Parameters
    ----------
    target : Target or MultiTarget
    loss : str
        Key of `_losses.LOSSES`; unused for several targets, which use their default losses.
    auxiliary : float
        Weight of the losses of the modalities' heads.
    target_weights : dict of str to float, "uncertainty" or None
        Weights of several targets.
    label_smoothing : float
    """
    if target.kind != MULTITASK:
        base, options = criterion_for(loss, label_smoothing)
        return JointLoss, {"base": base, "auxiliary": auxiliary, **options}
    tasks = []
    for column, (single, outputs) in enumerate(
        zip(each_target(target), target.outputs, strict=True)
    ):
        base, options = criterion_for(loss_of(single), label_smoothing)
        codes = single.kind in CLASSIFICATION
        # a mean over the rows with a known target, however few
        scale = 1 / target.known[column]
        tasks.append((base(**options), outputs, slice(column, column + 1), codes, scale))
    weights = None
    if target_weights != "uncertainty":
        given = target_weights or {}
        weights = [float(given.get(name, 1.0)) for name in target.targets]
    arguments = {"base": MultiTaskLoss, "auxiliary": auxiliary, "tasks": tasks, "weights": weights}
    return JointLoss, arguments


def encoder_rates(encoder_lr, names):
    """Return skorch's parameter groups for encoders whose learning rate differs from ``lr``.

    Parameters
    ----------
    encoder_lr : float, dict of str to float, or None
    names : list of str
        The modalities, in the order of the network.
    """
    if encoder_lr is None:
        return None
    rates = encoder_lr if isinstance(encoder_lr, dict) else dict.fromkeys(names, encoder_lr)
    return [
        (f"encoders.{m}.*", {"lr": float(rates[name])})
        for m, name in enumerate(names)
        if name in rates
    ]


def pretrain_encoders(module, parts, trainer, epochs):
    """Train each encoder of a joint network on the rows that have its modality, in place.

    Parameters
    ----------
    module : FusionNetwork
    parts : sequence of RowDataset
        Training rows and, with early stopping, validation rows.
    trainer : Trainer
    epochs : dict of str to int
        Epochs by modality. The validated run writes them; the refit on all rows reads them.
    """
    for m, name in enumerate(module.names):
        own = [rows_with(name, m, part) for part in parts]
        if len(own[0]) < 2:
            continue
        if len(own[-1]) < 2:  # too few rows to validate on: run all epochs, also in the refit
            own = own[:1]
        network = EncoderNetwork(module.encoders[m], trainer.config.n_outputs)
        if len(module.heads):
            network.head = module.heads[m]
        n_epochs = epochs.get(name) or trainer.n_epochs(len(own[0]), PRETRAINING_STEPS)
        trainer.announce(f"pretraining {name}", own, n_epochs)
        augmentation = trainer.config.augmentation
        augmentation = augmentation and augmentation.by_name.get(name)
        net = trainer.make_net(network.to(trainer.device), own, n_epochs, augmentation=augmentation)
        with net.training_on(own[0]):
            net.fit_loop(own[0])
        epochs[name] = net.best_epoch or n_epochs


def rows_with(name, m, part):
    """Restrict a part to the rows that have a modality, with only that modality's inputs."""
    present, positions = part.inputs.mask[:, m], part.inputs.positions[:, m]
    rows = part.rows[present[part.rows]]
    weight = None if part.weight is None else part.weight[present]
    return RowDataset(part.inputs.parts[name], part.target[present], weight, positions[rows])


def outputs_of(module, part, device):
    """Outputs of a network for the rows of a part, in their order.

    Parameters
    ----------
    module : torch.nn.Module
    part : RowDataset
    device : str

    Returns
    -------
    outputs : ndarray of shape (n_rows, n_outputs), dtype=float64
    """
    n_rows, module = len(part), module.eval()
    n_parts = n_batches(n_rows, rows_per_batch(part.inputs, device))
    lengths = part.inputs.lengths()
    lengths = None if lengths is None else lengths[part.rows]
    parts = np.array_split(np.arange(n_rows), n_parts)
    parts = split_long(parts, lengths, steps_per_batch(device))
    with torch.inference_mode():
        batches = (part.batch(rows, device) for rows in parts)
        outputs = np.concatenate([module(**inputs).cpu().double().numpy() for inputs, _ in batches])
    return outputs[np.argsort(np.concatenate(parts))]


def fit_temperature(logits, part):
    """Fit the temperature of a network to rows it was not trained on.

    The temperature divides the logits and minimizes the log loss of the rows (Guo et al. 2017,
    arXiv:1706.04599).

    Parameters
    ----------
    logits : ndarray of shape (n_rows, n_classes)
    part : RowDataset
        The rows, with class codes as targets.

    Returns
    -------
    temperature : float
    """
    n_rows, codes = len(part), part.target[part.rows]
    weight = None if part.weight is None else part.weight[part.rows]
    # One extra row counts equally for all classes (cf. Platt 1999). Without it, the temperature
    # would be zero if all rows were predicted correctly.
    shares = np.full(logits.shape, 1 / (n_rows + 1) / logits.shape[1])
    shares[np.arange(n_rows), codes] += n_rows / (n_rows + 1)

    def loss(log_temperature):
        log_proba = log_softmax(logits / np.exp(log_temperature), axis=1)
        return np.average(-(shares * log_proba).sum(axis=1), weights=weight)

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))
