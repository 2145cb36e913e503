"""Nothing in a network waits for the device: what its shapes hang on is known on the host.

Tensors on the "meta" device have shapes but no data: reading a number of one, as `nonzero`, `item`
or a boolean index do, raises, where on a GPU it would stop the host until all work is done. In the
fixed layout, nothing is on the host: a CUDA graph would repeat the first copy.
"""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sklearn_mmfusion.modules.fusion import NETWORK_FUSIONS
from sklearn_mmfusion.modules.fusion_network import EncoderNetwork, build_network
from sklearn_mmfusion.modules.objectives import JointLoss
from tests.modules._networks import having, make_batch, make_network

ENCODERS = having("n_tokens")


def there(*shape, dtype=torch.float32):
    return torch.empty(*shape, dtype=dtype, device="meta")


def batch_of(name, lengths=(10, 1, 7)):
    """Keywords of a network's forward, on the device but for lengths."""
    batch = make_batch(name, lengths)
    return {k: x if k.endswith("lengths") else x.to("meta") for k, x in batch.items()}


def test_a_boolean_index_would_be_noticed():
    with pytest.raises((NotImplementedError, RuntimeError), match="(?i)meta"):
        there(3)[there(3, dtype=torch.bool)]


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_do_not_wait(name):
    module = make_network(name).to("meta")
    module(**batch_of(name)).sum().backward()
    assert all(p.grad is not None for p in module.parameters())


NAMES = ["image", "text", "audio_cnn"]


def make_joint(fusion):
    cls, params = NETWORK_FUSIONS[fusion]
    network = build_network(
        {name: make_network(name) for name in NAMES},
        4,
        fusion=cls,
        fusion_params=params,
        width=8,
        dropout=0.3,
        objectives={"auxiliary": 0.3, "contrastive": 0.1, "adversarial": 0.1},
        modality_dropout=0.3,
        averaged=[False] * 4,
    )
    return network.double().to("meta")


@pytest.mark.parametrize("fusion", NETWORK_FUSIONS)
def test_joint_networks_do_not_wait(fusion):
    network = make_joint(fusion)
    mask = torch.tensor([[1, 1, 1], [1, 1, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0]], dtype=torch.bool)
    batch = {f"{n}.{key}": x for n in NAMES for key, x in batch_of(n, (10, 1, 7, 1)).items()}
    told = network(mask, **batch)
    criterion = JointLoss(nn.CrossEntropyLoss, auxiliary=0.3, reduction="none")
    criterion(told, there(5, dtype=torch.int64)).mean().backward()
    norm = nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None])
    assert norm.device.type == "meta"  # no number of it was read


# ------------------------------------------------------------------------------ fixed layout


class HostTensors(TorchDispatchMode):
    """The operations in the block whose results are on the host."""

    def __enter__(self):
        super().__enter__()
        self.found = []
        return self.found

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        results = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves(results) if isinstance(leaf, torch.Tensor)]
        self.found += [str(func) for tensor in tensors if tensor.device.type == "cpu"]
        return results


def fixed_batch(name, n_rows, n_steps=10):
    """Keywords of a network's forward, sequences padded and with masks, all on the device."""
    batch = {}
    for key, x in make_batch(name, [n_steps] * n_rows).items():
        if key.endswith("_lengths"):
            batch[key] = there(n_rows, n_steps, dtype=torch.bool)
        else:
            shape = x.shape if len(x) == n_rows else (n_rows, n_steps, *x.shape[1:])
            batch[key] = there(*shape, dtype=x.dtype)
    return batch


def test_a_tensor_on_the_host_would_be_noticed():
    with HostTensors() as found:
        there(3) + torch.arange(3, device="meta")
        torch.zeros(3)
    assert found == ["aten.zeros.default"]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ENCODERS)
def test_fixed_layout_of_encoders_is_on_the_device(name, training):
    network = EncoderNetwork(make_network(name), 4).double().to("meta").train(training)
    batch = fixed_batch(name, n_rows=3 if training else 1)
    with torch.inference_mode(not training), HostTensors() as found:
        outputs = network(**batch)
        if training:
            outputs.sum().backward()
    assert not found


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fusion", NETWORK_FUSIONS)
def test_fixed_layout_of_joint_networks_is_on_the_device(fusion, training):
    network, n_rows = make_joint(fusion).train(training), 3 if training else 1
    batch = {f"{n}.{key}": x for n in NAMES[:2] for key, x in fixed_batch(n, n_rows).items()}
    mask, lacking = there(n_rows, 3, dtype=torch.bool), ("text", "audio_cnn")  # no row has sound
    criterion = JointLoss(nn.CrossEntropyLoss, auxiliary=0.3, reduction="none")
    with torch.inference_mode(not training), HostTensors() as found:
        outputs = network(mask, lacking, **batch)
        if training:
            criterion(outputs, there(n_rows, dtype=torch.int64)).sum().backward()
    assert not found
