"""Nothing in a network waits for the device: what its shapes hang on is known on the host.

Tensors on the "meta" device have shapes but no data: reading a number of one, as `nonzero`, `item`
or a boolean index do, raises, where on a GPU it would stop the host until all work is done.
"""

import pytest
import torch
from torch import nn

from sklearn_mmfusion.modules.audio import AudioCNN, AudioLSTM
from sklearn_mmfusion.modules.fusion import NETWORK_FUSIONS
from sklearn_mmfusion.modules.fusion_network import build_network
from sklearn_mmfusion.modules.image import ImageCNN
from sklearn_mmfusion.modules.objectives import JointLoss
from sklearn_mmfusion.modules.text import TextNetwork

LENGTHS = torch.tensor([10, 1, 7])
WORDS = {"n_words": 5, "n_ngrams": 6, "n_chars": 7, "channels": 8}


def there(*shape, dtype=torch.float32):
    return torch.empty(*shape, dtype=dtype, device="meta")


def batch_of(name):
    if name == "text":
        ids = {key: there(18, dtype=torch.int64) for key in ("words", "ngrams", "chars")}
        return {**ids, **{f"{key}_lengths": LENGTHS for key in ids}}
    if name == "image":
        return {"pixels": there(3, 3, 16, 16, dtype=torch.uint8)}
    return {"frames": there(18, 12), "frames_lengths": LENGTHS}


ENCODERS = {
    "image": lambda: ImageCNN(3, (16, 16), out_features=8, channels=(4, 4)),
    "text": lambda: TextNetwork(**WORDS, out_features=8),
    "audio": lambda: AudioCNN(12, out_features=8, channels=(4, 4, 4)),
    "lstm": lambda: AudioLSTM(12, out_features=8, hidden_size=4),
}


def test_a_boolean_index_would_be_noticed():
    with pytest.raises((NotImplementedError, RuntimeError), match="(?i)meta"):
        there(3)[there(3, dtype=torch.bool)]


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_do_not_wait(name):
    module = ENCODERS[name]().to("meta")
    module(**batch_of(name)).sum().backward()
    assert all(p.grad is not None for p in module.parameters())


@pytest.mark.parametrize("fusion", NETWORK_FUSIONS)
def test_joint_networks_do_not_wait(fusion):
    cls, params = NETWORK_FUSIONS[fusion]
    names = ["image", "text", "audio"]
    network = build_network(
        {name: ENCODERS[name]() for name in names},
        4,
        fusion=cls,
        fusion_params=params,
        width=8,
        dropout=0.3,
        objectives={"auxiliary": 0.3, "contrastive": 0.1, "adversarial": 0.1},
        modality_dropout=0.3,
        averaged=[False] * 4,
    ).to("meta")
    mask = torch.tensor([[1, 1, 1], [1, 1, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0]], dtype=torch.bool)
    batch = {f"{n}.{key}": x for n in names for key, x in grown(batch_of(n)).items()}
    told = network(mask, **batch)
    criterion = JointLoss(nn.CrossEntropyLoss, auxiliary=0.3, reduction="none")
    criterion(told, there(5, dtype=torch.int64)).mean().backward()
    norm = nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None])
    assert norm.device.type == "meta"  # no number of it was read


def grown(batch):
    """The same for four rows."""
    if "pixels" in batch:
        return {"pixels": there(4, 3, 16, 16, dtype=torch.uint8)}
    one = torch.ones(1, dtype=torch.int64)
    longer = {k: torch.cat([x, one]) for k, x in batch.items() if k.endswith("lengths")}
    ends = {k: there(19, *x.shape[1:], dtype=x.dtype) for k, x in batch.items() if k not in longer}
    return {**ends, **longer}
