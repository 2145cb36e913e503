"""Augmentation of batches."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd.profiler import profile

from sklearn_mmfusion.corruptions import CORRUPTIONS
from sklearn_mmfusion.corruptions.inputs import (
    Augmentation,
    JointAugmentation,
    _takes_mask,
    augmentation_steps,
    change_cell,
)

ON_INPUTS = [(m, name) for m, own in CORRUPTIONS.items() for name in own if own[name].on_inputs]
SHAPES = {
    "image": (4, 3, 8, 9),
    "audio": (4, 7, 12),
    "sequence": (4, 7, 3),
    "video": (4, 7, 3, 8, 9),
    "point_cloud": (4, 7, 3),
}


# Operators that copy from the host or wait for a GPU.
REFUSED = {"lift_fresh", "item", "_local_scalar_dense", "nonzero", "masked_select"}


def make_batch(modality):
    if modality == "image":
        return {"pixels": torch.randint(0, 256, SHAPES["image"], dtype=torch.uint8)}
    lengths = torch.tensor([5, 0, 7, 1])
    if modality == "text":
        return {"words": torch.arange(1, 1301), "words_lengths": 100 * lengths}
    if modality == "video":
        frames = torch.randint(0, 256, (13, *SHAPES["video"][2:]), dtype=torch.uint8)
        return {"frames": frames, "frames_lengths": lengths}
    return {"x": torch.randn(13, *SHAPES[modality][2:]), "x_lengths": lengths}


def augment(batch, steps, modality="image"):
    limits = (0, 255) if modality in ("image", "video") else None
    torch.manual_seed(0)
    return Augmentation(augmentation_steps(steps, modality, "E")[1], limits)(batch)


@pytest.mark.parametrize(("modality", "name"), ON_INPUTS)
def test_a_gpu_need_not_wait(modality, name):
    _, (step,) = augmentation_steps([(name, {"severity": 5})], modality, "E")
    values, mask = torch.rand(SHAPES.get(modality, (4, 7))), torch.ones(4, 7, dtype=torch.bool)
    values = (values * 9).long() if modality == "text" else values
    torch.manual_seed(1)
    with profile(use_kineto=False) as profiled:
        changed = step(values, mask=mask) if _takes_mask(step) else step(values)
    operators = {event.name.removeprefix("aten::") for event in profiled.function_events}
    assert operators and not operators & REFUSED
    assert changed.shape == values.shape and changed.dtype == values.dtype
    assert not torch.equal(changed, values)


@pytest.mark.parametrize("preset", ["light", "strong"])
@pytest.mark.parametrize("modality", CORRUPTIONS)
def test_presets_keep_shapes_and_dtypes(modality, preset):
    batch = make_batch(modality)
    changed = augment(batch, preset, modality)
    assert changed.keys() == batch.keys()
    (name, values), *lengths = batch.items()
    assert changed[name].shape == values.shape and changed[name].dtype == values.dtype
    assert not torch.equal(changed[name], values)
    assert all(changed[key] is own for key, own in lengths)
    assert torch.equal(augment(batch, preset, modality)[name], changed[name])


def test_sequences_are_padded_for_their_steps():
    seen = []

    def step(values, mask):
        seen.append((values, mask))
        return values + 1

    batch = make_batch("sequence")
    gathered = augment(batch, step, "sequence")["x"]
    (padded, mask), lengths = seen[0], batch["x_lengths"]
    assert padded.shape == (4, 7, 3) and mask.sum(1).tolist() == lengths.tolist()
    assert torch.equal(padded[mask], batch["x"]) and torch.equal(gathered, batch["x"] + 1)
    fixed = augment({"x": padded, "x_lengths": mask}, step, "sequence")["x"]
    assert torch.equal(fixed[mask], gathered)


def test_pixels_come_in_a_scale_from_0_to_1():
    seen = []
    batch = {"pixels": torch.tensor([[[[0.0, 510.0]]]])}
    _, steps = augmentation_steps(lambda x: seen.append(x) or x * 0.5, "image", "E")
    assert Augmentation(steps, (0, 510))(batch)["pixels"].tolist() == [[[[0, 255]]]]
    assert seen[0].tolist() == [[[[0, 1]]]]
    saturated = augment(
        {"pixels": torch.full((1, 1, 1, 1), 200, dtype=torch.uint8)}, lambda x: 2 * x
    )
    assert saturated["pixels"].item() == 255


def test_joint_augmentation_changes_its_modalities():
    double = Augmentation([lambda x: 2 * x])
    batch = {"mask": torch.ones(2, 2), "a.x": torch.ones(2, 3), "b.x": torch.ones(2, 3)}
    changed = JointAugmentation({"b": double})(batch)
    assert changed["a.x"] is batch["a.x"] and changed["mask"] is batch["mask"]
    assert (changed["b.x"] == 2).all()


def test_a_module_is_copied_and_trains():
    module = nn.Dropout(0.5).eval()
    steps = Augmentation(augmentation_steps(module, None, "E")[1]).to("cpu").steps
    assert steps[0][0] is not module and steps[0][0].training and not module.training


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        ([("blurr", {})], "E: augment: image has no corruption 'blurr'; expected 'flip'"),
        (["blur"], "E: augment contains 'blur'; expected pairs"),
        ([("blur", 1)], "expected pairs"),
        ([("blur", {"sigma": 1})], r"'blur' has parameters \['sigma'\]; expected 'severity' or 's"),
        ([("blur", {"severity": 9})], "severity=9; expected an integer from 0 to 5"),
        ([("blur", {"share": 0})], "share=0; expected a finite number above 0 up to 1"),
        ([("crop", {"share": 1.5})], "share=1.5; expected a finite number above 0 up to 1"),
        ([("rotation", {"degrees": np.inf})], "degrees=inf; expected a finite number above 0"),
        ([("rotation", {"degrees": "5"})], "degrees='5'; expected a finite number above 0"),
        (nn.Dropout, "augment=Dropout is a class; expected an instance"),
    ],
)
def test_bad_parameters(augment, message):
    with pytest.raises((ValueError, TypeError), match=message):
        augmentation_steps(augment, "image", "E")


def test_corruptions_of_cells_and_of_batches():
    given = [("typo", {"severity": 3}), ("drop", {}), ("swap", {"share": 1.0})]
    on_cells, on_inputs = augmentation_steps(given, "text", "E")
    assert len(on_cells) == 2 and len(on_inputs) == 1  # what has both forms acts on batches
    changed = [change_cell("ab cd ef", on_cells, np.random.SeedSequence(s)) for s in (0, 0, 1)]
    assert changed[0] == changed[1] and sorted(changed[0].split()) != ["ab", "cd", "ef"][::-1]
    assert change_cell("", on_cells, np.random.SeedSequence(0)) == ""
    assert augmentation_steps([("noise", {"snr": -3})], "audio", "E")[0]
    with pytest.raises(ValueError, match="no corruptions for the inputs of this encoder"):
        augmentation_steps("light", None, "E")


def test_another_shape_is_an_error():
    with pytest.raises(ValueError, match=r"returned shape \(1, 1, 2\); expected \(1, 1, 2, 2\)"):
        augment({"pixels": torch.zeros(1, 1, 2, 2)}, lambda x: x[..., 0])


def test_severity_0_is_no_step():
    assert augmentation_steps([("blur", {"severity": 0})], "image", "E") == ([], [])


def test_images_of_sets_change_one_by_one_in_both_layouts():
    turn = Augmentation([lambda x: x + torch.arange(len(x)).view(-1, 1, 1, 1)], of_items=True)
    pixels, lengths = torch.zeros(3, 1, 2, 2), torch.tensor([2, 1])
    gathered = turn({"pixels": pixels, "pixels_lengths": lengths})["pixels"]
    assert gathered[:, 0, 0, 0].tolist() == [0, 1, 2]
    mask = torch.tensor([[True, True], [True, False]])
    padded = turn({"pixels": torch.zeros(2, 2, 1, 2, 2), "pixels_lengths": mask})["pixels"]
    assert padded[:, :, 0, 0, 0].tolist() == [[0, 1], [2, 3]]
