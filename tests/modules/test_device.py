"""Nothing in a network waits for the device: what its shapes hang on is known on the host.

Tensors on the "meta" device have shapes but no data: reading a number of one, as `nonzero`, `item`
or a boolean index do, raises, where on a GPU it would stop the host until all work is done.
"""

import pytest
import torch
from torch import nn

from sklearn_mmfusion.modules.fusion import NETWORK_FUSIONS
from sklearn_mmfusion.modules.fusion_network import build_network
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


@pytest.mark.parametrize("fusion", NETWORK_FUSIONS)
def test_joint_networks_do_not_wait(fusion):
    cls, params = NETWORK_FUSIONS[fusion]
    names = ["image", "text", "audio_cnn"]
    network = build_network(
        {name: make_network(name) for name in names},
        4,
        fusion=cls,
        fusion_params=params,
        width=8,
        dropout=0.3,
        objectives={"auxiliary": 0.3, "contrastive": 0.1, "adversarial": 0.1},
        modality_dropout=0.3,
        averaged=[False] * 4,
    )
    network = network.double().to("meta")
    mask = torch.tensor([[1, 1, 1], [1, 1, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0]], dtype=torch.bool)
    batch = {f"{n}.{key}": x for n in names for key, x in batch_of(n, (10, 1, 7, 1)).items()}
    told = network(mask, **batch)
    criterion = JointLoss(nn.CrossEntropyLoss, auxiliary=0.3, reduction="none")
    criterion(told, there(5, dtype=torch.int64)).mean().backward()
    norm = nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None])
    assert norm.device.type == "meta"  # no number of it was read
