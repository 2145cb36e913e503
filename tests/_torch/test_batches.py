"""Batches cut from rows, rows split for validation, prediction in batches."""

import math
import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from torch import nn

from sklearn_mmfusion._skorch import validation_rows
from sklearn_mmfusion._targets import Target
from sklearn_mmfusion._torch import (
    BatchIterator,
    DenseRows,
    FusionInputs,
    Inputs,
    LazyRows,
    RaggedRows,
    RowDataset,
    n_batches,
    predict_batches,
    prefetched,
    resident,
    row_dataset,
    rows_per_batch,
    split_long,
    surely_finite,
)
from sklearn_mmfusion._validation import number_rows

# ------------------------------------------------------------------------------ batches


@given(
    st.integers(1, 120),
    st.integers(1, 40),
    st.booleans(),
    st.booleans(),
)
def test_batches_cover_every_row_once_an_epoch(n, batch_size, shuffle, ragged):
    lengths = np.random.default_rng(n).integers(0, 9, size=n)
    values = np.arange(lengths.sum()) if ragged else np.arange(n)
    source = RaggedRows(values, lengths) if ragged else DenseRows(values)
    rows = np.arange(0, n)
    data = RowDataset(Inputs(x=source), np.arange(n), np.arange(n) / 2, rows)
    batches = BatchIterator(data, batch_size, "cpu", shuffle=shuffle, seed=3)
    epochs = [list(batches) for _ in range(2)]
    for epoch in epochs:
        targets = [target.numpy() for _, target in epoch]
        sizes = [len(t) for t in targets]
        assert sorted(np.concatenate(targets)) == list(range(n))
        assert len(epoch) == len(batches) == n_batches(n, batch_size)
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) <= batch_size + (batch_size == 2)
        assert min(sizes) > 1 or n == 1 or batch_size == 1
        for batch, target in zip(epoch, targets, strict=True):
            np.testing.assert_array_equal(batch.weight, target / 2)
            if ragged:
                np.testing.assert_array_equal(batch[0]["x_lengths"], lengths[target])
                expected = [np.split(values, lengths.cumsum()[:-1])[row] for row in target]
                np.testing.assert_array_equal(batch[0]["x"], np.concatenate(expected))
            else:
                np.testing.assert_array_equal(batch[0]["x"], target)
    if shuffle and not ragged and n > 12:
        orders = [np.concatenate([t for _, t in epoch]) for epoch in epochs]
        assert not np.array_equal(*orders)


def test_rows_of_similar_length_share_a_batch():
    lengths = np.random.default_rng(0).permutation(320)
    data = RowDataset(
        Inputs(x=RaggedRows(np.zeros(lengths.sum()), lengths)), lengths, None, np.arange(320)
    )
    for shuffle in (False, True):
        epoch = [b[0]["x_lengths"].numpy() for b in BatchIterator(data, 32, "cpu", shuffle=shuffle)]
        assert all(np.ptp(batch) == 31 for batch in epoch)
        starts = [batch.min() for batch in epoch]
        assert (starts == sorted(starts)) is not shuffle


def test_a_part_of_the_rows_is_batched_by_its_own_lengths():
    lengths = np.arange(100)
    rows = np.arange(0, 100, 5)
    data = RowDataset(Inputs(x=RaggedRows(np.zeros(lengths.sum()), lengths)), lengths, None, rows)
    seen = np.concatenate([target.numpy() for _, target in BatchIterator(data, 4, "cpu")])
    np.testing.assert_array_equal(seen, rows)


def of_lengths(lengths):
    lengths = np.asarray(lengths)
    source = RaggedRows(np.zeros(lengths.sum(), np.int8), lengths)
    return RowDataset(Inputs(x=source), lengths, None, np.arange(len(lengths)))


@given(
    st.lists(st.integers(0, 400) | st.sampled_from([0, 3, 5000]), min_size=1, max_size=90),
    st.integers(1, 20),
    st.sampled_from([50, 400, 3000]),
)
def test_batches_of_long_rows_hold_fewer_of_them(lengths, batch_size, max_steps):
    data, lengths = of_lengths(lengths), np.array(lengths)
    free = BatchIterator(data, batch_size, "cpu", shuffle=True, seed=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sklearn_mmfusion._torch.batches.TRAIN_STEPS", max_steps)
        bound = BatchIterator(data, batch_size, "cpu", shuffle=True, seed=1)
    least = 1 if batch_size == 1 else 2
    for _ in range(3):
        usual, epoch = free.positions(), bound.positions()
        assert sorted(np.concatenate(epoch)) == list(range(len(lengths)))
        assert len(epoch) == len(bound)
        assert min(map(len, epoch)) == bound.min_rows >= min(least, len(lengths))
        for rows in epoch:
            fits = len(rows) * lengths[rows].max() <= max_steps
            assert fits or len(rows) <= least + 1 or len(lengths) <= least + 2
        if max(map(len, usual)) * lengths.max() <= max_steps:
            assert all(map(np.array_equal, usual, epoch))


def test_a_long_row_leaves_the_batches_of_the_others_large(monkeypatch):
    monkeypatch.setattr("sklearn_mmfusion._torch.batches.TRAIN_STEPS", 6400)
    lengths = np.full(641, 100)
    lengths[300] = 100_000
    sizes = [len(rows) for rows in BatchIterator(of_lengths(lengths), 64, "cpu").positions()]
    assert sizes == [64] * 9 + [63, 2]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60), st.integers(1, 200))
def test_batches_of_a_prediction_are_split_if_they_are_long(lengths, max_steps):
    lengths, parts = np.array(lengths), np.array_split(np.arange(len(lengths)), 3)
    split = split_long(parts, lengths, max_steps)
    assert sorted(np.concatenate(split)) == list(range(len(lengths)))
    assert all(
        len(rows) * lengths[rows].max(initial=0) <= max_steps or len(rows) == 1 for rows in split
    )
    kept = [p for p in parts if len(p) * lengths[p].max(initial=0) <= max_steps]
    assert all(any(p is rows for rows in split) for p in kept)
    assert split_long(parts, None, max_steps) is parts


@pytest.mark.parametrize("batch_size", [1, 3, 256])
def test_prediction_keeps_the_order_of_rows(batch_size):
    class Sums(nn.Module):
        def forward(self, x, x_lengths):
            return torch.stack([part.sum() for part in x.split(x_lengths.tolist())])[:, None]

    cells = [np.arange(n, dtype=np.float32) for n in (5, 0, 9, 2, 7, 2)]
    inputs = Inputs(x=RaggedRows(np.concatenate(cells), [len(c) for c in cells]))
    module = Sums().train()
    for max_steps in (None, 12, 1):
        out = predict_batches(
            module, inputs, batch_size=batch_size, max_steps=max_steps, device="cpu"
        )
        np.testing.assert_array_equal(out[:, 0], [c.sum() for c in cells])
    assert module.training and out.dtype == np.float32


def test_sources_give_tensors_of_small_types():
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    pixels.flags.writeable = False
    inputs = Inputs(
        pixels=DenseRows(pixels),
        ids=RaggedRows(np.arange(6, dtype=np.int32), [1, 2, 3]),
        more=LazyRows(3, lambda rows: 10.0 * rows),
    )
    batch = inputs.batch(np.array([2, 0]))
    assert batch["pixels"].dtype == torch.uint8
    assert batch["ids"].tolist() == [3, 4, 5, 0]
    assert batch["ids"].dtype == torch.int64
    assert batch["more"].tolist() == [20.0, 0.0]
    assert inputs.lengths().tolist() == [1, 2, 3]


def some_inputs(n=9):
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 5, n)
    mask = rng.random((n, 2)) < 0.6
    mask[0] = True
    parts = {
        "table": Inputs(features=DenseRows(rng.normal(size=(mask[:, 0].sum(), 3)))),
        "nothing": None,
        "text": Inputs(
            ids=RaggedRows(rng.integers(0, 9, lengths[mask[:, 1]].sum()), lengths[mask[:, 1]]),
            pixels=LazyRows(mask[:, 1].sum(), lambda rows: np.uint8(rows)[:, None]),
        ),
    }
    masks = {"table": mask[:, 0], "nothing": np.zeros(n, dtype=bool), "text": mask[:, 1]}
    return FusionInputs({name: (inputs, masks[name]) for name, inputs in parts.items()})


def assert_equal_batches(one, two):
    assert one.keys() == two.keys()
    for name in one:
        assert one[name].dtype == two[name].dtype
        assert torch.equal(one[name], two[name]), name


@pytest.mark.parametrize("rows", [np.array([4, 0, 7]), slice(2, 8), np.array([0])])
def test_inputs_kept_on_a_device_give_the_same_batches(rows):
    inputs = some_inputs()
    moved = inputs.to("cpu")
    positions = np.arange(9)[rows]
    assert_equal_batches(moved.batch(positions), inputs.batch(rows))
    assert moved.nbytes == inputs.nbytes > 0
    np.testing.assert_array_equal(moved.lengths(), inputs.lengths())


@pytest.mark.parametrize(("free", "moves"), [(10_000, True), (100, False)])
def test_inputs_move_to_a_gpu_where_they_take_less_than_half_of_it(monkeypatch, free, moves):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, free))
    inputs = Inputs(x=DenseRows(np.zeros((10, 10), dtype=np.float32)))  # 400 bytes
    monkeypatch.setattr(inputs, "to", lambda device: device)
    assert resident(inputs, "cuda:0") == ("cuda:0" if moves else inputs)
    assert resident(inputs, "cpu") is inputs


def test_sparse_rows_count_as_the_dense_ones_they_become():
    rows = sparse.random(6, 5, density=0.3, format="csr", random_state=0, dtype=np.float32)
    inputs = Inputs(x=DenseRows(rows))
    assert inputs.nbytes == 6 * 5 * 4
    for source in (inputs, inputs.to("cpu")):
        np.testing.assert_array_equal(source.batch(np.array([3, 1]))["x"], rows[[3, 1]].toarray())


def test_batches_made_ahead_keep_their_order_and_raise_their_errors():
    assert list(prefetched(iter(range(7)))) == list(range(7))
    assert list(prefetched(iter(()))) == []

    def broken():
        yield 1
        raise OSError("the file is gone")

    told = prefetched(broken())
    assert next(told) == 1
    with pytest.raises(OSError, match="the file is gone"):
        next(told)


def test_batches_made_ahead_may_be_abandoned():
    made = []
    told = prefetched(made.append(i) or i for i in range(1, 1000))
    assert next(told) == 1
    told.close()
    assert len(made) <= 4


# ------------------------------------------------------------------------------ files


def reading(names, fails=None):
    """A source of 40 rows, read in the threads whose names it collects."""

    def read(rows):
        rows = np.arange(40)[rows]
        names.append(threading.current_thread().name)
        if fails is not None and fails in rows:
            raise ValueError(f"row {fails} cannot be read")
        return np.float32(rows)[:, None]

    return LazyRows(40, read, is_slow=True)


class Doubles(nn.Module):
    def forward(self, x):
        return 2 * x


def reading_threads():
    return [t for t in threading.enumerate() if t.name.startswith("sklearn_mmfusion-batches")]


def test_files_are_read_ahead_in_a_thread():
    names = []
    inputs, memory = (
        Inputs(x=reading(names)),
        Inputs(x=DenseRows(np.float32(np.arange(40))[:, None])),
    )
    for rows in (inputs, memory):
        out = predict_batches(Doubles(), rows, batch_size=8, device="cpu")
        np.testing.assert_array_equal(out[:, 0], 2 * np.arange(40))
    epochs = [
        list(BatchIterator(RowDataset(rows, np.arange(40), None, np.arange(40)), 8, "cpu", True, 5))
        for rows in (inputs, memory)
    ]
    for (a, ay), (b, by) in zip(*epochs, strict=True):
        assert torch.equal(a["x"], b["x"]) and torch.equal(ay, by)
    assert len(names) == 10 and all(name.startswith("sklearn_mmfusion-batches") for name in names)
    assert not reading_threads()


def test_errors_of_a_thread_have_their_row_and_note():
    class Masks(nn.Module):
        def forward(self, mask, **batch):
            return mask

    mask = np.arange(80) % 2 == 1
    inputs = FusionInputs({"photo": (Inputs(x=reading([], fails=33)), mask)})
    dataset = RowDataset(inputs, np.arange(80), None, np.arange(80))
    for call in (
        lambda: predict_batches(Masks(), inputs, batch_size=8, device="cpu"),
        lambda: list(BatchIterator(dataset, 8, "cpu", shuffle=True)),
        lambda: inputs.to("cpu"),
    ):
        with pytest.raises(ValueError, match="^row 167 cannot be read") as raised:
            with number_rows(np.arange(80) + 100):
                call()
        assert raised.value.__notes__ == ["Raised while reading a batch of modality 'photo'."]
        assert not reading_threads()


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, ZeroDivisionError])
def test_a_loop_that_ends_early_leaves_no_thread(error):
    class Fails(Doubles):
        def forward(self, x):
            raise error

    with pytest.raises(error) as raised:
        predict_batches(Fails(), Inputs(x=reading([])), batch_size=4, device="cpu")
    assert raised.traceback and not reading_threads()  # the frames are still there


def test_large_rows_are_predicted_in_small_batches():
    class Size(nn.Module):
        def forward(self, x):
            return torch.full((len(x), 1), len(x))

    small = Inputs(x=DenseRows(np.zeros((512, 2), dtype=np.float32)))
    large = Inputs(x=DenseRows(np.zeros((64, 1 << 17), dtype=np.uint8)))
    assert set(predict_batches(Size(), small, device="cpu").ravel()) == {256}
    assert set(predict_batches(Size(), large, device="cpu").ravel()) == {32}


@pytest.mark.parametrize(
    ("width", "free", "n_rows"),
    [
        (740, 1 << 37, 8192),  # at most
        (4096, 1 << 37, 2048),  # 32 MiB
        (1 << 17, 1 << 37, 128),  # at least
        (4096, 1 << 29, 65),  # 512 MiB free, of which half is for 256 times the bytes of the rows
    ],
)
def test_batches_of_predictions_on_a_gpu_fit_its_memory(monkeypatch, width, free, n_rows):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, free))
    for name, value in {"memory_reserved": 8 << 20, "memory_allocated": 0}.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    inputs = Inputs(x=DenseRows(np.zeros((1, width), dtype=np.float32)))
    assert rows_per_batch(inputs, "cuda:0") == n_rows


@given(st.integers(1, 20), st.sampled_from([None, np.nan, np.inf, -np.inf]), st.booleans())
def test_surely_finite_agrees_with_numpy(n, odd, is_writeable):
    for dtype in (np.float32, np.float64):
        X = np.full((n, 3), np.finfo(dtype).max / 100, dtype=dtype)
        if odd is not None:
            X[n // 2, 1] = odd
        X.flags.writeable = is_writeable
        assert surely_finite(X) == np.isfinite(X).all()


def test_surely_finite_leaves_other_forms_to_the_usual_check():
    huge = np.full((4, 3), np.finfo(np.float64).max)  # their sum is infinite
    ones = np.ones((4, 4))
    for other in (huge, ones.astype(int), ones[:, ::2], ones.astype(">f4"), ones.tolist()):
        assert not surely_finite(other)


# ------------------------------------------------------------------------------ validation


def as_target(values):
    values = np.asarray(values)
    kind = "multiclass" if values.ndim == 1 else "continuous-multioutput"
    return Target(kind, values, 3)


@given(st.lists(st.integers(0, 6), min_size=4, max_size=40), st.integers(0, 5))
def test_groups_stay_on_one_side(groups, seed):
    split = validation_rows(as_target(np.arange(len(groups)) % 3), np.array(groups), 0.25, seed)
    if split is None:  # one group, or one row would be left to train on
        assert len(set(groups)) == 1 or min(groups.count(g) for g in groups) == 1
        return
    sides = [{groups[i] for i in part} for part in split]
    assert sides[0].isdisjoint(sides[1])
    assert sorted(np.concatenate(split)) == list(range(len(groups)))
    assert len(sides[1]) == math.ceil(0.25 * len(set(groups)))


def test_classes_are_kept_in_proportion():
    y = np.repeat([0, 1, 2], [60, 30, 10])
    train, valid = validation_rows(as_target(y), None, 0.2, 0)
    assert np.bincount(y[valid]).tolist() == [12, 6, 2]
    assert np.bincount(y[train]).tolist() == [48, 24, 8]
    other = validation_rows(as_target(y), None, 0.2, 1)[1]
    assert not np.array_equal(np.sort(valid), np.sort(other))


def test_classes_without_a_row_do_not_matter():
    # All rows of class 1 lack this modality.
    y = np.repeat([0, 2], [60, 20])
    _, valid = validation_rows(as_target(y), None, 0.2, 0)
    assert np.bincount(y[valid]).tolist() == [12, 0, 4]


@pytest.mark.parametrize("y", [[0] * 9 + [1], np.zeros((10, 2)), np.zeros((10, 1))])
def test_rows_are_split_where_classes_cannot_be(y):
    train, valid = validation_rows(as_target(y), None, 0.2, 0)
    assert sorted([*train, *valid]) == list(range(10))
    assert len(valid) == 2


@pytest.mark.parametrize("n", [2, 3])
def test_too_few_rows_are_not_split(n):
    assert validation_rows(as_target(np.arange(n) % 2), None, 0.2, 0) is None


# ------------------------------------------------------------------------------ the user's arrays


def test_a_network_may_write_into_its_batch():
    class Writes(nn.Module):
        def forward(self, x):
            return x.sub_(1.0)

    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    told = predict_batches(Writes(), Inputs(x=DenseRows(values)), device="cpu")
    np.testing.assert_array_equal(told, values - 1)
    np.testing.assert_array_equal(values, np.arange(6).reshape(3, 2))


def test_rows_that_turn_out_wider_than_the_first_are_kept_whole(monkeypatch):
    monkeypatch.setattr(row_dataset, "CHUNK", 2)
    pixels = [np.uint8([7]), np.uint8([8]), np.float32([0.5])]
    inputs = Inputs(x=LazyRows(3, lambda rows: np.stack([pixels[row] for row in rows])))
    assert inputs.to("cpu").batch(np.arange(3))["x"].ravel().tolist() == [7.0, 8.0, 0.5]


def test_batches_of_a_joint_network_have_one_layout():
    # no row of the batch has "files" or "steps", of which other rows have some
    decoded = []

    def read(rows):
        decoded.extend(rows.tolist())
        return np.ones((len(rows), 2, 2), np.uint8)

    lengths = np.array([2, 1])
    parts = {
        "table": (Inputs(x=DenseRows(np.zeros((4, 3), np.float32))), np.ones(4, bool)),
        "files": (Inputs(x=LazyRows(2, read)), np.array([False, False, True, True])),
        "steps": (Inputs(x=RaggedRows(np.zeros((3, 5)), lengths)), np.array([0, 0, 1, 1], bool)),
    }
    inputs = FusionInputs(parts)
    none, all_ = inputs.batch(np.array([0, 1])), inputs.batch(np.array([2, 3]))
    assert none.keys() == all_.keys()
    for key, tensor in all_.items():
        assert none[key].dtype == tensor.dtype and none[key].shape[1:] == tensor.shape[1:]
    assert [len(none[key]) for key in ("files.x", "steps.x", "steps.x_lengths")] == [0, 0, 0]
    inputs.batch(np.array([0, 1]))
    assert decoded == [0, 0, 1]  # the shape of a file is read once
