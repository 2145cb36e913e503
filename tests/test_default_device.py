"""Every tensor is made on a device that is named, whatever the caller's default device.

"meta" as the default finds a tensor that is not: it has no data, and meets none that has.
"""

import ast
import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import sklearn_mmfusion
from sklearn_mmfusion._losses import MultiTaskLoss
from sklearn_mmfusion._torch import isolated_rng
from sklearn_mmfusion.modules.fusion import NETWORK_FUSIONS
from sklearn_mmfusion.modules.fusion_network import build_network
from sklearn_mmfusion.modules.objectives import EvidentialLoss, JointLoss
from tests._registry import having
from tests.modules._networks import NETWORKS, make_batch, make_network

ROOT = Path(sklearn_mmfusion.__file__).parent
FACTORIES = {"arange", "empty", "eye", "full", "linspace", "ones", "rand", "randint", "randn"}
FACTORIES |= {"randperm", "tensor", "zeros"}


def in_constructor(tree):
    """Nodes of `__init__`: what it makes is moved with the module, as `nn.Linear` is."""
    return {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == "__init__"
        for inner in ast.walk(node)
    }


def find_nameless(source):
    """Lines that make a tensor without naming its device, or copy a number to a device."""
    tree = ast.parse(source)
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call)]
    exempt, lines = in_constructor(tree), []
    for call in calls:
        if not isinstance(call.func, ast.Attribute) or call in exempt:
            continue
        of_torch = isinstance(call.func.value, ast.Name) and call.func.value.id == "torch"
        nameless = "device" not in {keyword.arg for keyword in call.keywords}
        # `new_zeros` and its like take the device of their tensor; `new_tensor` copies as well
        if of_torch and call.func.attr in FACTORIES and nameless or call.func.attr == "new_tensor":
            lines.append(call.lineno)
    return lines


@pytest.mark.parametrize("room", ["modules", "_torch"])
def test_no_tensor_is_made_without_a_device(room):
    paths = sorted((ROOT / room).glob("*.py"))
    assert len(paths) > 3
    found = {path.name: find_nameless(path.read_text(encoding="utf-8")) for path in paths}
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("torch.arange(3)", True),
        ("x + torch.zeros(3, dtype=torch.int64)", True),
        ("x.new_tensor(3.0)", True),
        ("torch.arange(3, device=x.device)", False),
        ("x.new_zeros(3)", False),
        ("np.zeros(3)", False),
        ("class A:\n    def __init__(self):\n        self.a = torch.zeros(3)", False),
    ],
)
def test_planted_factory_is_found(source, found):
    assert bool(find_nameless(source)) == found


def loss_and_gradients(network, criterion, keywords, *target):
    network, criterion = copy.deepcopy(network), copy.deepcopy(criterion)
    torch.default_generator.manual_seed(0)
    loss = criterion(network(**keywords), *target)
    loss.sum().backward()
    return [loss.detach(), *[p.grad for p in network.parameters() if p.grad is not None]]


def assert_equal_under_meta(*args):
    with torch.random.fork_rng(devices=[]):
        expected = loss_and_gradients(*args)
        with torch.device("meta"):
            result = loss_and_gradients(*args)
    assert all(x.device.type == "cpu" for x in result)
    assert len(result) == len(expected) > 1
    assert all(torch.equal(*pair) for pair in zip(result, expected, strict=True))


@pytest.mark.parametrize("kind", NETWORKS)
def test_networks_train_under_another_default_device(kind):
    network = make_network(kind)
    for name in ("max_shift", "token_dropout"):
        if hasattr(network, name):
            setattr(network, name, 0.3)
    assert_equal_under_meta(network, torch.square, make_batch(kind))


@pytest.mark.parametrize("fusion", NETWORK_FUSIONS)
def test_joint_networks_train_under_another_default_device(fusion):
    cls, params = NETWORK_FUSIONS[fusion]
    kinds = ["audio_lstm", "text", "image"]
    network = build_network(
        {kind: make_network(kind) for kind in kinds},
        4,
        fusion=cls,
        fusion_params=params,
        width=8,
        dropout=0.3,
        objectives={"auxiliary": 0.3, "contrastive": 0.1, "adversarial": 0.1},
        modality_dropout=0.3,
        averaged=[False] * 4,
    ).double()
    n_rows = {"audio_lstm": 5, "text": 1, "image": 0}  # all, one and none of the rows
    mask = torch.tensor([[row < n_rows[kind] for kind in kinds] for row in range(5)])
    batch = {"mask": mask}
    for kind in kinds[:2]:
        own = make_batch(kind, lengths=(5, 2, 9, 1, 4)[: n_rows[kind]])
        batch |= {f"{kind}.{key}": values for key, values in own.items()}
    criterion = JointLoss(nn.CrossEntropyLoss, auxiliary=0.3, reduction="none")
    assert_equal_under_meta(network, criterion, batch, torch.tensor([0, 1, 2, 3, 0]))


def test_losses_work_under_another_default_device():
    classes, numbers = EvidentialLoss(reduction="none"), nn.MSELoss(reduction="none")
    tasks = [(classes, slice(0, 2), slice(0, 1), True, 1.0), (numbers, slice(2, 3), [1], False, 1)]
    target = torch.tensor([[0.0, 0.3], [1.0, torch.nan], [torch.nan, 1.0]])
    features = {"input": torch.randn(3, 4, generator=torch.Generator().manual_seed(0))}
    assert_equal_under_meta(nn.Linear(4, 3), MultiTaskLoss(tasks), features, target)


def test_default_device_comes_back():
    with torch.device("meta"):
        with isolated_rng(0, "cpu"):
            assert torch.empty(1).device.type == "cpu"
        assert torch.empty(1).device.type == "meta"
    assert torch.empty(1).device.type == "cpu"


def outputs(model, X):
    method = next(m for m in ("transform", "predict_proba", "predict") if hasattr(model, m))
    return np.asarray(getattr(model, method)(X))


@pytest.mark.parametrize("entry", having("net"), ids=str)
def test_fit_is_the_same_under_another_default_device(entry):
    X, y = entry.X(), entry.y()
    expected = outputs(entry.make(device="cpu").fit(X, y), X)
    with torch.device("meta"):
        model = entry.make(device="cpu").fit(X, y)
        result, again = outputs(model, X), outputs(pickle.loads(pickle.dumps(model)), X)
    np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(again, expected)
