"""Training in bfloat16: weights are converted together, once per step."""

from contextlib import contextmanager, nullcontext

import torch
from torch import nn

PACKAGES = ("torch.nn.", "sklearn_mmfusion.")
# Layers that autocast computes in bfloat16. Subclasses may do anything with their weights.
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class _Converted(torch.autograd.Function):
    """Tensors as bfloat16, and their gradients back, in one kernel each way.

    Autocast converts each weight and each gradient separately: at small batches these kernels take
    longer than bfloat16 saves.
    """

    @staticmethod
    def forward(ctx, *tensors):
        ctx.set_materialize_grads(False)
        return _converted(tensors, torch.bfloat16)

    @staticmethod
    def backward(ctx, *grads):
        found = [grad for grad in grads if grad is not None]
        converted = iter(_converted(found, torch.float32))
        return tuple(None if grad is None else next(converted) for grad in grads)


def _converted(tensors, dtype):
    copies = [torch.empty_like(tensor, dtype=dtype) for tensor in tensors]
    if copies:
        torch._foreach_copy_(copies, tensors)
    return tuple(copies)


def _own_layers(module):
    """Layers to convert, of networks of this package and torch only.

    The ``forward`` of a custom module may read or change its weights, which must then be the
    original ones; so may hooks.
    """
    if type(module) in LAYERS:
        return [] if module._forward_pre_hooks else [module]
    if not type(module).__module__.startswith(PACKAGES):
        return []
    return [layer for child in module.children() for layer in _own_layers(child)]


@contextmanager
def _converted_weights(module):
    """Give layers their weights as bfloat16 inside the block."""
    weights = [
        (layer._parameters, name, weight)
        for layer in _own_layers(module)
        for name, weight in layer._parameters.items()
        if weight is not None and weight.requires_grad and weight.dtype == torch.float32
    ]
    distinct = {id(weight): weight for _, _, weight in weights}  # layers may share a weight
    converted = _Converted.apply(*distinct.values()) if distinct else ()
    by_id = dict(zip(distinct, converted, strict=True))
    for parameters, name, weight in weights:
        parameters[name] = by_id[id(weight)]
    try:
        yield
    finally:
        for parameters, name, weight in weights:
            parameters[name] = weight


@contextmanager
def autocast(module, precision, device, training):
    """Compute in this precision inside the block.

    Parameters
    ----------
    module : torch.nn.Module
    precision : {"float32", "bf16"}
    device : str
    training : bool
        Whether gradients are computed.
    """
    if precision == "float32":
        yield
        return
    # a compiled module would be recompiled for each set of weights
    converts = training and not hasattr(module, "_orig_mod")
    with torch.autocast(torch.device(device).type, dtype=torch.bfloat16):
        with _converted_weights(module) if converts else nullcontext():
            yield
