"""Rows of prepared inputs, gathered by index.

An encoder converts its column once to *sources*: arrays that return batches of rows as tensors.
Small dtypes (uint8 pixels, int32 token ids) stay small until they are on the device.

Every source has two ways to return rows. `batch` takes row numbers on the host. `gather` takes row
numbers on the device, where the values must be too; the shapes of its tensors do not depend on the
data, and it does not wait for the device (see `_torch.batches`).
"""

import math
from contextlib import contextmanager
from functools import cached_property

import numpy as np
import torch
from scipy.sparse import issparse

from sklearn_mmfusion._validation import add_error_note, number_rows

CHUNK = 1024  # rows per chunk when all rows are moved to a device
PINNED = 1 << 16  # bytes from which page-locked memory pays for copies to a GPU
PIECE = 1 << 23  # bytes that are copied to page-locked memory at a time


class DenseRows:
    """Rows of an array or memory map, gathered with one index.

    Parameters
    ----------
    values : ndarray of shape (n, ...), Tensor on a device, or CSR matrix, which batches make dense
    """

    def __init__(self, values):
        self.values = values

    def __len__(self):
        return self.values.shape[0]

    @property
    def nbytes(self):
        """Bytes of all rows on a device."""
        first = _gather(self.values, slice(0, 1))
        return _bytes(first) * self.values.shape[0] if len(first) else 0

    def lengths(self):
        return None

    def to(self, device):
        """The same rows, kept on a device."""
        return DenseRows(_move(lambda rows: _gather(self.values, rows, device), len(self), device))

    def batch(self, name, rows, device):
        return {name: _on_device(_gather(self.values, rows, device), device)}

    def gather(self, name, rows, n_steps):
        return {name: _widened(_select(self.values, rows))}

    def padded(self, padded_length):
        """The same rows with room for longer ones."""
        return self

    def overwrite(self, other):
        """Take the values of other rows of the same shape."""
        self.values.copy_(other.values, non_blocking=True)


class RaggedRows:
    """Sequences stored end to end; a batch is their values and lengths, without padding.

    The lengths stay on the CPU, because the shapes of later tensors depend on them.

    Parameters
    ----------
    values : ndarray of shape (n_steps, ...) or Tensor on a device
    lengths : ndarray of shape (n,), dtype=int64
    step_size : int, default=1
        How many steps of other sequences take as much memory in a network as one of these: it
        limits the rows of a batch.
    """

    def __init__(self, values, lengths, step_size=1):
        self.values, self.step_size = values, step_size
        self.sizes = np.asarray(lengths, dtype=np.int64)
        self.starts = np.cumsum(self.sizes) - self.sizes

    nbytes = DenseRows.nbytes

    def __len__(self):
        return len(self.sizes)

    def lengths(self):
        return self.sizes

    def to(self, device):
        values = _move(lambda steps: _gather(self.values, steps, device), len(self.values), device)
        return RaggedRows(values, self.sizes, self.step_size)

    def batch(self, name, rows, device):
        sizes = self.sizes[rows]
        ends = np.cumsum(sizes)
        steps = np.repeat(self.starts[rows] - (ends - sizes), sizes) + np.arange(sizes.sum())
        values = _on_device(_gather(self.values, steps, device), device)
        return {name: values, f"{name}_lengths": torch.from_numpy(sizes.copy())}

    @cached_property
    def extents(self):
        """Start and length of each sequence, where the values are: (2, n) int64."""
        return torch.from_numpy(np.stack([self.starts, self.sizes])).to(self.values.device)

    def gather(self, name, rows, n_steps):
        """Padded sequences (N, L, ...) and, in place of lengths, the mask of valid steps (N, L).

        Values of masked steps are arbitrary.
        """
        starts, sizes = self.extents.index_select(1, rows)[:, :, None]
        steps = torch.arange(n_steps[name], device=rows.device)
        valid = steps < sizes
        positions = torch.where(valid, starts + steps, 0)
        values = self.values.index_select(0, positions.flatten())
        return {name: _widened(values).unflatten(0, valid.shape), f"{name}_lengths": valid}

    def padded(self, padded_length):
        """The same tensor with room for more steps: `padded_length` of their number."""
        n_steps = len(self.values)
        values = self.values.new_zeros(padded_length(n_steps), *self.values.shape[1:])
        values[:n_steps] = self.values
        return RaggedRows(values, self.sizes, self.step_size)

    def overwrite(self, other):
        """Take the values of another sequence; for a single one, with room for it."""
        n_steps = len(other.values)
        self.values[:n_steps].copy_(other.values, non_blocking=True)
        self.extents[1].fill_(n_steps)


class LazyRows:
    """Rows that are read batch by batch.

    Parameters
    ----------
    n_rows : int
    read : callable
        ``read(row indices)`` returns an array.
    is_slow : bool, default=False
        Whether a thread should read batches ahead, because they are decoded from files.
    """

    def __init__(self, n_rows, read, is_slow=False):
        self.n_rows, self.read, self.is_slow = n_rows, read, is_slow

    def __len__(self):
        return self.n_rows

    @cached_property
    def first(self):
        """The first row, from which shape and dtype are taken."""
        return self.batch("first", np.arange(1), "cpu")["first"]

    @property
    def nbytes(self):
        """Bytes of all rows on a device, if they are like the first."""
        return self.n_rows * _bytes(self.first)

    def lengths(self):
        return None

    def to(self, device):
        rows = np.arange(self.n_rows)
        return DenseRows(
            _move(lambda part: self.batch("x", rows[part], "cpu")["x"], len(rows), device)
        )

    def batch(self, name, rows, device):
        if not isinstance(rows, slice) and len(rows) == 0:
            return {name: _on_device(self.first[:0], device)}
        values = self.read(rows)
        if torch.device(device).type != "cuda" or min(values.strides, default=0) < 0:
            return {name: _on_device(_as_tensor(values), device)}
        return {name: _on_device(_view(values), device)}


class LazyRaggedRows:
    """Sequences that are read batch by batch; their lengths are known.

    Parameters
    ----------
    lengths : ndarray of shape (n,), dtype=int64
    read : callable
        ``read(row indices)`` returns the values of these sequences, end to end.
    step_size : int, default=1
        See `RaggedRows`.
    """

    is_slow = True

    def __init__(self, lengths, read, step_size=1):
        self.sizes, self.read = np.asarray(lengths, dtype=np.int64), read
        self.step_size = step_size

    first, __len__, lengths = LazyRows.first, RaggedRows.__len__, RaggedRows.lengths

    @property
    def nbytes(self):
        """Bytes of all rows on a device."""
        return int(self.sizes.sum()) * _bytes(self.first[:1])

    def to(self, device):
        parts = np.array_split(np.arange(len(self)), -(-len(self) // CHUNK))
        values = [self.batch("x", rows, device)["x"] for rows in parts]
        return RaggedRows(torch.cat(values), self.sizes, self.step_size)

    def batch(self, name, rows, device):
        rows = np.arange(len(self))[rows]
        values = _as_tensor(self.read(rows)) if len(rows) else self.first[:0]
        values = _on_device(values, device)
        return {name: values, f"{name}_lengths": torch.from_numpy(self.sizes[rows])}


def _gather(values, rows, device="cpu"):
    """Rows of an array, memory map, CSR matrix or tensor as a tensor on its device.

    A copy, except for slices that will be moved to a GPU: that is a copy, too. Other rows for a GPU
    are copied to page-locked memory.
    """
    if isinstance(values, torch.Tensor):
        if isinstance(rows, slice):
            return values[rows].clone()
        return _select(values, torch.from_numpy(rows).to(values.device, non_blocking=True))
    if issparse(values):
        return torch.from_numpy(values[rows].toarray())
    if torch.device(device).type == "cuda":
        if isinstance(rows, slice) and min(values.strides) >= 0:
            return _view(values[rows])
        if values.flags.c_contiguous:
            return _gather_pinned(values, rows)
    if isinstance(rows, slice):  # a copy: a network may write into its inputs
        return _as_tensor(np.array(values[rows]))
    # `take` is twice as fast as indexing, but first copies an array that is not C-contiguous
    return _as_tensor(values.take(rows, axis=0) if values.flags.c_contiguous else values[rows])


def _gather_pinned(values, rows):
    shape = (len(rows), *values.shape[1:])
    pinned = math.prod(shape) * values.itemsize >= PINNED
    dtype = torch.from_numpy(np.empty(0, values.dtype)).dtype
    tensor = torch.empty(shape, dtype=dtype, device="cpu", pin_memory=pinned)
    # with mode="raise", `take` would fill a buffer first
    np.take(values, rows, axis=0, out=tensor.numpy(), mode="clip")
    return tensor


class _Writable:
    """An array that may be read-only, for `torch.from_numpy`, which would warn."""

    def __init__(self, values):
        address, _ = values.__array_interface__["data"]
        self.values = values  # keeps the memory
        self.__array_interface__ = {**values.__array_interface__, "data": (address, False)}


def _view(values):
    """A tensor on the memory of an array, only to be read."""
    return torch.from_numpy(values if values.flags.writeable else np.asarray(_Writable(values)))


def surely_finite(X):
    """Whether X is a float array without NaN and infinity, found with several threads.

    scikit-learn's check uses one, and on a GPU takes longer than a prediction. False if it must
    decide: X is something else, or its sum is not finite.
    """
    is_float = isinstance(X, np.ndarray) and X.dtype in (np.float32, np.float64)
    return is_float and X.flags.c_contiguous and bool(_view(X).sum().isfinite())


def _select(values, rows):
    """Rows of a tensor, in its memory format; `index_select` alone would lose channels-last."""
    if _channels_last(values):
        return values.movedim(1, -1).index_select(0, rows).movedim(-1, 1)
    return values.index_select(0, rows)


def _channels_last(values):
    return (
        values.ndim == 4
        and values.is_contiguous(memory_format=torch.channels_last)
        and not values.is_contiguous()
    )


def _as_tensor(values):
    # Any memory order works: channels-last pixels are not rearranged.
    if min(values.strides, default=0) < 0 or not values.flags.writeable:
        values = values.copy(order="K")
    return torch.from_numpy(values)


def _on_device(tensor, device):
    """Move a batch, then widen ids to int64, torch's index type, on the device."""
    on_host = tensor.device.type == "cpu" and torch.device(device).type == "cuda"
    if on_host and tensor.nbytes >= PINNED and not tensor.is_pinned():
        return _widened(_staged(tensor, device))
    return _widened(tensor.to(device, non_blocking=True))


def _staged(tensor, device):
    """Copy to a GPU through page-locked memory, piece by piece.

    The copy does not wait for the work that the device still has to do. Several threads fill a
    piece while the device reads the one before. A copy from pageable memory uses one thread, which
    takes three times as long on 16 cores.
    """
    there = torch.empty_like(tensor, device=device)
    n_rows = max(1, PIECE * len(tensor) // tensor.nbytes)
    for part, place in zip(tensor.split(n_rows), there.split(n_rows), strict=True):
        place.copy_(torch.empty_like(part, pin_memory=True).copy_(part), non_blocking=True)
    return there


def _widened(tensor):
    """Ids as int64, torch's index type."""
    return tensor.long() if _is_id(tensor) else tensor


def _is_id(tensor):
    return not (tensor.is_floating_point() or tensor.dtype in (torch.uint8, torch.bool))


def _bytes(tensor):
    return tensor.numel() * (8 if _is_id(tensor) else tensor.element_size())


def _move(read, n_rows, device):
    """Read and move all rows to a device in chunks, with at most one chunk on the host."""
    moved = None
    for start in range(0, max(1, n_rows), CHUNK):
        chunk = _on_device(read(slice(start, start + CHUNK)), device)
        layout = torch.channels_last if _channels_last(chunk) else torch.contiguous_format
        if moved is None:
            shape = (n_rows, *chunk.shape[1:])
            moved = torch.empty(shape, dtype=chunk.dtype, device=device, memory_format=layout)
        if chunk.dtype != moved.dtype:  # files of uint8, then one of float32
            moved = moved.to(torch.promote_types(moved.dtype, chunk.dtype))
        moved[start : start + len(chunk)] = chunk
    return moved


class Inputs:
    """Inputs of a network: one source per keyword of its ``forward``.

    Parameters
    ----------
    sources : dict of str to DenseRows, RaggedRows, LazyRows or LazyRaggedRows
    """

    def __init__(self, **sources):
        self.sources = sources

    def __len__(self):
        return len(next(iter(self.sources.values())))

    @property
    def nbytes(self):
        """Bytes of all rows on a device."""
        return sum(source.nbytes for source in self.sources.values())

    @property
    def is_slow(self):
        """Whether a thread should read batches ahead."""
        return any(getattr(source, "is_slow", False) for source in self.sources.values())

    def lengths(self):
        """Steps of each row by their memory, or None if all rows are equally long."""
        ragged = [s for s in self.sources.values() if s.lengths() is not None]
        lengths = [s.lengths() * getattr(s, "step_size", 1) for s in ragged]
        return np.max(lengths, axis=0) if lengths else None

    def to(self, device):
        """The same inputs, kept on a device."""
        return Inputs(**{name: source.to(device) for name, source in self.sources.items()})

    def padded(self, padded_length):
        """The same inputs with room for longer sequences."""
        return Inputs(**{name: own.padded(padded_length) for name, own in self.sources.items()})

    def each_source(self):
        """All sources by name."""
        return self.sources

    def batch(self, rows, device="cpu"):
        """Gather rows (indices or a slice) as a dict of tensors, the keywords of ``forward``.

        Lengths of sequences stay on the CPU.
        """
        tensors = {}
        for name, source in self.sources.items():
            tensors.update(source.batch(name, rows, device))
        return tensors

    def step_counts(self):
        """Lengths of the rows of each source of sequences: (n,) by name."""
        lengths = {name: source.lengths() for name, source in self.sources.items()}
        return {name: own for name, own in lengths.items() if own is not None}

    def absent_in(self, rows):
        """Names of the modalities that none of these rows has."""
        return ()

    def gather(self, rows, n_steps, left_out=()):
        """Gather rows by a tensor of row numbers, sequences padded to ``n_steps[name]``."""
        tensors = {}
        for name, source in self.sources.items():
            tensors.update(source.gather(name, rows, n_steps))
        return tensors

    def are_on(self, device):
        """Whether `gather` works: all values are on the device."""
        values = [getattr(source, "values", None) for source in self.sources.values()]
        return all(
            isinstance(v, torch.Tensor) and len(v) and v.device == torch.device(device)
            for v in values
        )

    def irregular(self):
        """Names of the modalities whose rows differ in length or are absent; "" for the only."""
        return [""] if self.step_counts() else []

    def drawn(self, seed):
        """The inputs of training batches: these, or one of the copies of each row."""
        return self


class CopiedInputs(Inputs):
    """Inputs of rows and, for training, of several corrupted copies of each.

    Row ``c * n_rows + i`` of the sources is copy c of row i; copy 0 is the row itself.
    """

    def __init__(self, n_rows, /, **sources):
        super().__init__(**sources)
        self.n_rows = n_rows

    @classmethod
    def of(cls, inputs, copies):
        """Join inputs with those of the copies, which are in the same order.

        Parameters
        ----------
        inputs : Inputs
        copies : list of Inputs
            Of all rows of the first copy, in one or several parts, then of the second, and so on.
        """
        parts = [inputs, *copies]
        names = inputs.sources
        return cls(len(inputs), **{n: _join([part.sources[n] for part in parts]) for n in names})

    def __len__(self):
        return self.n_rows

    def lengths(self):
        lengths = super().lengths()
        return None if lengths is None else lengths[: self.n_rows]

    def step_counts(self):
        return {name: own[: self.n_rows] for name, own in super().step_counts().items()}

    def to(self, device):
        sources = {name: source.to(device) for name, source in self.sources.items()}
        return CopiedInputs(self.n_rows, **sources)

    def batch(self, rows, device="cpu"):
        return super().batch(np.arange(self.n_rows)[rows], device)

    def drawn(self, seed):
        return DrawnInputs(self.n_rows, np.random.default_rng(seed), **self.sources)


class DrawnInputs(Inputs):
    """Inputs of one copy of each row, drawn anew for every batch.

    Parameters
    ----------
    n_rows : int
    rng : numpy.random.Generator
        Draws the copies of batches on the host; torch draws those of `gather`.
    **sources
        Those of `CopiedInputs`.
    """

    def __init__(self, n_rows, rng, /, **sources):
        super().__init__(**sources)
        self.n_rows, self.rng = n_rows, rng
        self.stop = super().__len__() // n_rows

    def __len__(self):
        return self.n_rows

    def _longest(self, lengths):
        """The length of the longest copy of each row."""
        return lengths.reshape(self.stop, self.n_rows)[1:].max(0)

    def lengths(self):
        lengths = super().lengths()
        return None if lengths is None else self._longest(lengths)

    def step_counts(self):
        return {name: self._longest(own) for name, own in super().step_counts().items()}

    def batch(self, rows, device="cpu"):
        rows = np.arange(self.n_rows)[rows]
        copies = self.rng.integers(1, self.stop, len(rows))
        return super().batch(rows + self.n_rows * copies, device)

    def gather(self, rows, n_steps, left_out=()):
        copies = torch.randint(1, self.stop, rows.shape, device=rows.device)
        return super().gather(rows + self.n_rows * copies, n_steps, left_out)


def _join(sources):
    """Rows of several sources, one after another, as one source of an array."""
    lazy = LazyRows | LazyRaggedRows
    sources = [source.to("cpu") if isinstance(source, lazy) else source for source in sources]
    values = np.concatenate([np.asarray(source.values) for source in sources])
    if isinstance(sources[0], RaggedRows):
        return RaggedRows(values, np.concatenate([source.sizes for source in sources]))
    return DenseRows(values)


class FusionInputs:
    """Inputs of a joint network: those of several modalities, any of which a row may lack.

    Parameters
    ----------
    parts : dict of str to (Inputs or None, ndarray of shape (n,), dtype=bool)
        For each modality, the inputs of its present rows and the mask of those rows.
    """

    def __init__(self, parts):
        self.parts = {name: inputs for name, (inputs, _) in parts.items()}
        self.mask = np.stack([present for _, present in parts.values()], axis=1)
        self.complete = self.mask.all()

    @cached_property
    def positions(self):
        """Position of each row among the present rows of each modality: (n, M)."""
        return np.cumsum(self.mask, axis=0) - 1

    def __len__(self):
        return len(self.mask)

    @property
    def nbytes(self):
        return sum(inputs.nbytes for inputs in self.parts.values() if inputs is not None)

    @property
    def is_slow(self):
        """Whether a thread should read batches ahead."""
        return any(inputs is not None and inputs.is_slow for inputs in self.parts.values())

    def lengths(self):
        """Longest axis of each row over all modalities, or None without sequences."""
        lengths = []
        for m, inputs in enumerate(self.parts.values()):
            own = None if inputs is None else inputs.lengths()
            if own is not None:
                lengths.append(np.where(self.mask[:, m], own[self.positions[:, m]], 0))
        return np.max(lengths, axis=0) if lengths else None

    def to(self, device):
        there = {}
        for m, (name, inputs) in enumerate(self.parts.items()):
            with self._reading(m, name):
                there[name] = None if inputs is None else inputs.to(device)
        return self._with_parts(there)

    def padded(self, padded_length):
        """The same inputs with room for longer sequences."""
        parts = self.parts.items()
        return self._with_parts({name: part and part.padded(padded_length) for name, part in parts})

    def each_source(self):
        """All sources, as ``name.keyword``."""
        parts = [(name, part) for name, part in self.parts.items() if part is not None]
        return {f"{name}.{key}": own for name, part in parts for key, own in part.sources.items()}

    def _with_parts(self, parts):
        pairs = zip(parts.items(), self.mask.T, strict=True)
        return FusionInputs({name: (inputs, present) for (name, inputs), present in pairs})

    def drawn(self, seed):
        """The inputs of training batches: these, or one of the copies of each row."""
        if not any(isinstance(inputs, CopiedInputs) for inputs in self.parts.values()):
            return self
        parts = enumerate(self.parts.items())
        return self._with_parts({n: inputs and inputs.drawn([seed, m]) for m, (n, inputs) in parts})

    def batch(self, rows, device="cpu"):
        """Gather rows: ``mask`` and, as ``name.keyword``, the present rows of each modality.

        The mask stays on the CPU. A modality that is absent in these rows gives tensors of 0 rows,
        so all batches have the same keys. A modality that is absent in all rows has no keys.
        """
        mask = self.mask[rows]
        tensors = {"mask": torch.from_numpy(mask)}
        for m, (name, inputs) in enumerate(self.parts.items()):
            if inputs is None:
                continue
            own = rows if self.complete else self.positions[rows, m][mask[:, m]]
            with self._reading(m, name):
                batch = inputs.batch(own, device)
            tensors.update({f"{name}.{key}": tensor for key, tensor in batch.items()})
        return tensors

    @contextmanager
    def _reading(self, m, name):
        """Name the modality and the rows of X in errors."""
        note = f"Raised while reading a batch of modality {name!r}."
        with number_rows(np.flatnonzero(self.mask[:, m])), add_error_note(note):
            yield

    def step_counts(self):
        """Lengths of the rows of each source of sequences, 0 if absent: (n,) by name."""
        counts = {}
        for m, (name, inputs) in enumerate(self.parts.items()):
            for key, own in ({} if inputs is None else inputs.step_counts()).items():
                counts[f"{name}.{key}"] = np.where(
                    self.mask[:, m], own[self.positions[:, m].clip(0)], 0
                )
        return counts

    @cached_property
    def lacking(self):
        """Names of the modalities that some row lacks."""
        present = self.mask.all(axis=0)
        return tuple(name for name, here in zip(self.parts, present, strict=True) if not here)

    def irregular(self):
        """Names of the modalities whose rows differ in length or are absent."""
        ragged = [name for name, part in self.parts.items() if part and part.irregular()]
        return list(dict.fromkeys([*ragged, *self.lacking]))

    def are_on(self, device):
        """Whether `gather` works: all values are on the device."""
        return all(inputs is None or inputs.are_on(device) for inputs in self.parts.values())

    @cached_property
    def there(self):
        """The mask, and the positions of its rows in each part, on the device of the parts.

        An absent row has the position of a present one: it repeats that row.
        """
        device = next(
            source.values.device
            for inputs in self.parts.values()
            if inputs is not None
            for source in inputs.sources.values()
        )
        positions = torch.from_numpy(np.ascontiguousarray(self.positions.clip(0).T))
        return torch.from_numpy(self.mask).to(device), positions.to(device)

    def absent_in(self, rows):
        """Names of the modalities that none of these rows has."""
        present = self.mask[rows].any(axis=0)
        return tuple(name for name, here in zip(self.parts, present, strict=True) if not here)

    def gather(self, rows, n_steps, left_out=()):
        """Gather rows by a tensor of row numbers: N rows of each modality, and the mask (N, M).

        ``lacking`` names the modalities some row lacks; an absent row repeats a present one.
        Modalities to be left out have no keys.
        """
        mask, positions = self.there
        tensors = {"mask": mask.index_select(0, rows), "lacking": self.lacking}
        for m, (name, inputs) in enumerate(self.parts.items()):
            if inputs is None or name in left_out:
                continue
            own = positions[m].index_select(0, rows) if name in self.lacking else rows
            prefix = f"{name}."
            steps = {k.removeprefix(prefix): n for k, n in n_steps.items() if k.startswith(prefix)}
            batch = inputs.gather(own, steps)
            tensors.update({f"{prefix}{key}": tensor for key, tensor in batch.items()})
        return tensors


class Batch(tuple):
    """A pair (inputs, targets) as skorch expects it, with the weights of its rows.

    `_skorch.training_step` describes its tensors.
    """

    def __new__(cls, inputs, targets, weight):
        batch = super().__new__(cls, (inputs, targets))
        batch.weight = weight
        return batch


class RowDataset(torch.utils.data.Dataset):
    """Rows of prepared inputs with their targets and weights.

    Parameters
    ----------
    inputs : Inputs or FusionInputs
    target, weight : ndarray or None
    rows : ndarray of int
        The rows this set holds.
    """

    def __init__(self, inputs, target, weight, rows):
        self.inputs, self.target, self.weight, self.rows = inputs, target, weight, rows

    def __len__(self):
        return len(self.rows)

    def batch(self, positions, device):
        rows = self.rows[positions]
        target = _on_device(torch.from_numpy(self.target[rows]), device)
        weight = None
        if self.weight is not None:
            weight = _on_device(torch.from_numpy(self.weight[rows]), device)
        return Batch(self.inputs.batch(rows, device), target, weight)
