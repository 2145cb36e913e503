"""Inputs of rows with corrupted copies."""

import numpy as np
import pytest
import torch

from sklearn_mmfusion._torch import (
    CopiedInputs,
    DenseRows,
    FusionInputs,
    Inputs,
    LazyRaggedRows,
    LazyRows,
    RaggedRows,
)

N = 5  # row i holds the number i, once more in each copy, where 10, 20, ... is added


def make_inputs(added, lazy=False):
    lengths = np.arange(1, N + 1) + added // 10
    numbers, rows = np.repeat(np.arange(N), lengths) + added, np.arange(N)[:, None] + added
    if not lazy:
        return Inputs(x=DenseRows(rows), s=RaggedRows(numbers, lengths))
    ends = np.cumsum(lengths)
    parts = [numbers[end - n : end] for end, n in zip(ends, lengths, strict=True)]
    read = LazyRaggedRows(lengths, lambda batch: np.concatenate([parts[i] for i in batch]))
    return Inputs(x=LazyRows(N, lambda batch: rows[batch]), s=read)


@pytest.fixture(params=[False, True], ids=["arrays", "lazy"])
def copied(request):
    return CopiedInputs.of(make_inputs(0, request.param), [make_inputs(10), make_inputs(20)])


def test_copies_are_left_alone_outside_of_training(copied):
    assert len(copied) == N and copied.lengths().tolist() == [1, 2, 3, 4, 5]
    assert copied.step_counts()["s"].tolist() == [1, 2, 3, 4, 5]
    for rows in (slice(None), np.arange(N)):
        batch = copied.to("cpu").batch(rows)
        assert batch["x"][:, 0].tolist() == [0, 1, 2, 3, 4]
        assert batch["s_lengths"].tolist() == [1, 2, 3, 4, 5]


def test_a_copy_of_each_row_is_drawn(copied):
    drawn = copied.drawn(0)
    assert len(drawn) == N and drawn.lengths().tolist() == [3, 4, 5, 6, 7]
    seen = []
    for _ in range(20):
        batch = drawn.batch(np.array([4, 1]))
        row, copy = (batch["x"][:, 0] % 10).tolist(), batch["x"][:, 0] // 10
        assert row == [4, 1] and set(copy.tolist()) <= {1, 2}
        assert torch.equal(batch["s_lengths"], torch.tensor([5, 2]) + copy)  # of the same copy
        assert batch["s"][0] == batch["x"][0, 0] and batch["s"][-1] == batch["x"][1, 0]
        seen.append(tuple(copy.tolist()))
    assert len(set(seen)) == 4
    again = copied.drawn(0)
    batches = [again.batch(np.array([4, 1]))["x"] for _ in range(20)]
    assert [tuple((x[:, 0] // 10).tolist()) for x in batches] == seen


def test_copies_are_drawn_on_the_device(copied):
    drawn = copied.to("cpu").drawn(0)
    torch.manual_seed(0)
    batches = [drawn.gather(torch.tensor([4, 1]), {"s": 7}) for _ in range(20)]
    copies = torch.stack([batch["x"][:, 0] // 10 for batch in batches])
    assert all((batch["x"][:, 0] % 10).tolist() == [4, 1] for batch in batches)
    assert len(copies.unique(dim=0)) == 4 and set(copies.unique().tolist()) == {1, 2}
    counts = torch.stack([batch["s_lengths"].sum(1) for batch in batches])
    assert torch.equal(counts, torch.tensor([5, 2]) + copies)


def test_copies_of_some_modalities():
    mask = np.array([True, False, True, True, True, True, False])
    present = np.ones(7, bool)
    plain = Inputs(x=DenseRows(np.arange(7)[:, None]))
    copied = CopiedInputs.of(make_inputs(0), [make_inputs(10)])
    fusion = FusionInputs({"a": (plain, present), "b": (copied, mask)})
    batch = fusion.drawn(3).batch(np.array([0, 1, 5]))
    assert batch["a.x"][:, 0].tolist() == [0, 1, 5] and batch["b.x"][:, 0].tolist() == [10, 14]
    assert fusion.batch(np.array([0, 1, 5]))["b.x"][:, 0].tolist() == [0, 4]
    without = FusionInputs({"a": (plain, present)})
    assert without.drawn(0) is without and plain.drawn(0) is plain
