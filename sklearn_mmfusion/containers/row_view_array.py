"""RowViewArray: base of the two extension arrays, a row index over shared cells."""

import numpy as np
import pandas as pd
from pandas.api.extensions import ExtensionArray, no_default
from pandas.api.extensions import take as pandas_take
from pandas.api.indexers import check_array_indexer
from pandas.api.types import is_list_like

from sklearn_mmfusion.containers.storage import blake, is_absent, read_only


def rebuild(cls, dtype_name, state, absent):
    """Unpickle an array from its canonical state."""
    dtype = cls._dtype_class.construct_from_string(dtype_name)
    storage = cls._storage_from_state(state, dtype)
    if absent is None:
        return cls._view(storage, np.arange(storage.n), dtype)
    rows = np.full(len(absent), -1)
    rows[~absent] = np.arange(storage.n)
    return cls._view(storage, rows, dtype)


class RowViewArray(ExtensionArray):
    """Extension array whose rows index the cells of a shared base; -1 is an absent cell.

    Slicing, taking, copying and joining compose the row index and copy no cell. The index is
    replaced, never written, so that marking a cell absent in one view leaves the others alone.
    """

    __array_priority__ = 1000

    # -- hooks of the subclasses -------------------------------------------------------------

    _dtype_class = None
    _has_order = False  # whether cells can be sorted

    def _cell(self, row):
        raise NotImplementedError

    def _key_of(self, cell):
        """Return the 16-byte key of a given value, None if it cannot equal any cell."""
        raise NotImplementedError

    def _is_cell(self, value):
        """Whether `value` is one cell rather than a sequence of cells."""
        raise NotImplementedError

    def _format(self, cell):
        raise NotImplementedError

    # -- construction ------------------------------------------------------------------------

    @classmethod
    def _view(cls, storage, rows, dtype):
        self = object.__new__(cls)
        self._storage = storage
        self._rows = read_only(np.asarray(rows, np.int64))
        self._dtype = dtype
        self._compacted = None
        return self

    def _with_rows(self, rows):
        return self._view(self._storage, rows, self._dtype)

    @classmethod
    def _from_factorized(cls, values, original):
        return cls._from_sequence(values, dtype=original.dtype)

    @classmethod
    def _concat_same_type(cls, to_concat):
        dtype = to_concat[0].dtype
        parts = [part for part in to_concat if (part._rows >= 0).any()]
        if len({id(part._storage) for part in parts}) <= 1:
            storage = (parts or to_concat)[0]._storage
            return cls._view(storage, np.concatenate([p._rows for p in to_concat]), dtype)
        storages, rows, start = [], [], 0
        for part in to_concat:
            present = part._rows >= 0
            moved = np.full(len(part), -1, np.int64)
            moved[present] = np.arange(start, start + present.sum())
            rows.append(moved)
            if present.any():
                storages.append(part._storage.compact(part._rows[present]))
                start += storages[-1].n
        return cls._view(type(storages[0]).concat(storages), np.concatenate(rows), dtype)

    # -- the pandas interface ----------------------------------------------------------------

    @property
    def dtype(self):
        """The dtype, metadata included."""
        return self._dtype

    def __len__(self):
        return len(self._rows)

    @property
    def nbytes(self):
        """Bytes of the distinct cells this view refers to, and of its row index.

        A base shared by several views counts in each of them; a memory-mapped one counts
        although it may occupy no memory.
        """
        return self._rows.nbytes + self._cell_bytes(np.unique(self._rows[self._rows >= 0]))

    def _rows_at(self, positions):
        """Return the base rows at `positions`: None, integers, a mask or a slice."""
        if positions is None:
            return self._rows
        if isinstance(positions, np.ndarray) and positions.dtype.kind == "i":
            return self._rows[positions]  # pandas' own check costs more than a small batch
        return np.atleast_1d(self._rows[check_array_indexer(self, positions)])

    def _places(self, positions):
        """Return `positions` as non-negative integers; O(n), for messages and file reads."""
        return self._with_rows(np.arange(len(self)))._rows_at(positions)

    def isna(self):
        """Return a new bool array (n,): True where the cell is absent."""
        return self._rows < 0

    def copy(self):
        """Return a new view of the same base: cells cannot be written, so none is copied."""
        return self._with_rows(self._rows)

    __copy__ = copy

    def __deepcopy__(self, memo):
        return self.copy()

    def __getitem__(self, item):
        if isinstance(item, tuple):
            item = _one_axis(item)
        item = check_array_indexer(self, item)
        rows = self._rows[item]
        if np.ndim(rows) == 0:
            return self._dtype.na_value if rows < 0 else self._cell(rows)
        result = self._with_rows(rows)
        if isinstance(item, slice) and getattr(self, "_readonly", False):
            result._readonly = True
        return result

    def __setitem__(self, key, value):
        if getattr(self, "_readonly", False):
            raise ValueError("Cannot modify read-only array")
        key = check_array_indexer(self, key)
        is_list = is_list_like(value) and not self._is_cell(value)
        n_rows = np.size(self._rows[key])
        if is_list and len(value) != n_rows:
            raise ValueError(f"cannot assign {len(value)} values to {n_rows} rows")
        if not (self._marks(key, value) if is_list else is_absent(value)):
            raise TypeError(
                f"{type(self).__name__}: cells are read-only; got a value of type "
                f"{type(value).__name__} to assign. Only None, NaN or pandas.NA can be assigned, "
                "which marks the cell absent. Build a new column to change contents."
            )
        rows = self._rows.copy()
        rows[key] = value._rows if isinstance(value, RowViewArray) else -1
        self._rows = read_only(rows)
        self._compacted = None

    def _marks(self, key, values):
        """Whether assigning `values` only marks cells absent.

        pandas assigns into a view of a column and then writes the view back over the column:
        an unchanged cell is not new content.
        """
        if isinstance(values, RowViewArray):
            same = values._storage is self._storage and type(values) is type(self)
            return bool(((values._rows < 0) | (same & (values._rows == self._rows[key]))).all())
        return all(is_absent(value) for value in values)

    def take(self, indices, *, allow_fill=False, fill_value=None):
        """Return a view of the rows `indices`; with `allow_fill`, -1 gives an absent cell."""
        if allow_fill and not is_absent(fill_value):
            filled = self._concat_same_type(
                [self, self._from_sequence([fill_value], dtype=self._dtype)]
            )
            places = pandas_take(np.arange(len(self)), indices, allow_fill=True, fill_value=-1)
            return filled._with_rows(filled._rows[places])
        rows = pandas_take(self._rows, indices, allow_fill=allow_fill, fill_value=-1)
        return self._view(self._storage, rows, self._dtype)

    def _where(self, mask, value):
        mask = np.asarray(mask, bool)
        places = np.arange(len(self))
        if is_list_like(value) and not self._is_cell(value):
            other = self._from_sequence(value, dtype=self._dtype)
            places = np.where(mask, places, places + len(self))
        else:
            other = self._from_sequence([value], dtype=self._dtype)
            places = np.where(mask, places, len(self))
        return self._concat_same_type([self, other]).take(places)

    def fillna(self, value=None, limit=None, copy=True, *, method=None):
        """Raise if a cell is absent, as it cannot be filled; else return a copy.

        pandas before 3 passes `method`, always None.
        """
        if isinstance(value, dict):
            raise TypeError("ExtensionArray.fillna does not support filling with a dict")
        if is_list_like(value) and not self._is_cell(value) and len(value) != len(self):
            raise ValueError(
                f"Length of 'value' does not match. Got ({len(value)})  expected {len(self)}"
            )
        filling = self.isna()
        if is_list_like(value) and not self._is_cell(value):
            filling &= ~np.array([is_absent(v) for v in value], bool)
        elif is_absent(value):
            filling[:] = False
        if filling.any():
            raise TypeError(
                f"{type(self).__name__}: absent cells cannot be filled with a value; an absent "
                "modality stays NA. Use dropna, or the `missing` parameter of the fusion."
            )
        return self.copy()

    def __array__(self, dtype=None, copy=None):
        if dtype is not None and np.dtype(dtype) != np.dtype(object):
            raise ValueError(
                f"{self._dtype} cannot become an array of {np.dtype(dtype)}: its cells are not "
                "scalars. Pass the column to an encoder, use the transformer in a "
                "FusionTransformer, which converts 1-D cells to a table, or get the numbers with "
                "`.gather()`."
            )
        if copy is False:
            raise ValueError("an array of cells is always a new array: copy=False is impossible")
        cells = np.empty(len(self), object)
        for i, row in enumerate(self._rows):
            cells[i] = self._dtype.na_value if row < 0 else self._cell(row)
        return cells

    def to_numpy(self, dtype=None, copy=False, na_value=no_default):
        """Return an object array (n,) of the cells, with `na_value` where one is absent."""
        cells = np.asarray(self, dtype=dtype)  # new each time: `copy` changes nothing
        for place in np.flatnonzero(self.isna() & (na_value is not no_default)):
            cells[place] = na_value
        return cells

    def __arrow_array__(self, type=None):
        from sklearn_mmfusion.containers.arrow import to_arrow

        return to_arrow(self, type)

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        if any(isinstance(x, pd.Series | pd.DataFrame | pd.Index) for x in inputs):
            return NotImplemented
        if method == "__call__" and ufunc in (np.equal, np.not_equal) and not kwargs:
            other = inputs[1] if inputs[0] is self else inputs[0]
            return self == other if ufunc is np.equal else self != other
        raise TypeError(
            f"{type(self).__name__} has no arithmetic: np.{ufunc.__name__} works on numbers, "
            "and its cells are not scalars."
        )

    def _formatter(self, boxed=False):
        return lambda cell: "NaN" if is_absent(cell) else self._format(cell)

    # -- equality, grouping, hashing: through the cells' digests ------------------------------

    def _keys(self, rows):
        """Return the (len(rows), 16) keys whose equality is that of the cells."""
        return self._storage.keys(rows)

    def __eq__(self, other):
        if isinstance(other, pd.Series | pd.DataFrame | pd.Index):
            return NotImplemented
        if isinstance(other, RowViewArray):
            return self._equal_rows(other)
        if is_list_like(other) and not self._is_cell(other):
            keys = [None if is_absent(cell) else self._key_of(cell) for cell in other]
            _check_lengths(self, keys)
            pairs = zip(self._key_bytes(), keys, strict=True)
            return np.fromiter((a is not None and a == b for a, b in pairs), bool, len(self))
        key = None if is_absent(other) else self._key_of(other)
        equal = np.zeros(len(self), bool)
        if key is not None:
            present = self._rows >= 0
            target = np.frombuffer(key, np.uint8)
            equal[present] = (self._keys(self._rows[present]) == target).all(axis=1)
        return equal

    def __ne__(self, other):
        equal = self.__eq__(other)  # `==` would fall back to `other`
        return equal if equal is NotImplemented else ~equal

    def _equal_rows(self, other):
        _check_lengths(self, other)
        equal = (self._rows >= 0) & (other._rows >= 0)
        if type(other) is not type(self):
            return np.zeros(len(self), bool)
        if other._storage is not self._storage:
            unsure = equal.copy()
        else:
            unsure = equal & (self._rows != other._rows)
        mine, theirs = self._keys(self._rows[unsure]), other._keys(other._rows[unsure])
        equal[unsure] = (mine == theirs).all(axis=1)
        return equal

    def _key_bytes(self):
        """Return a list of the cells' keys as bytes, None where absent."""
        present = np.flatnonzero(self._rows >= 0)
        keys = [None] * len(self)
        for place, key in zip(present, self._keys(self._rows[present]), strict=True):
            keys[place] = key.tobytes()
        return keys

    def _codes(self):
        """Return codes (n,) by first appearance, -1 where absent, and each code's first place."""
        present = np.flatnonzero(self._rows >= 0)
        codes = np.full(len(self), -1, np.intp)
        if not len(present):
            return codes, present
        keys = np.ascontiguousarray(self._keys(self._rows[present])).view("V16").ravel()
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        order = np.argsort(first)
        rank = np.empty(len(order), np.intp)
        rank[order] = np.arange(len(order))
        codes[present] = rank[inverse.ravel()]
        return codes, present[first[order]]

    def factorize(self, use_na_sentinel=True):
        """Return (codes, uniques) by content; see `pandas.factorize`."""
        codes, first = self._codes()
        if not use_na_sentinel and (codes < 0).any():
            absent = int(np.flatnonzero(codes < 0)[0])
            place = int(np.searchsorted(first, absent))  # keep the order of first appearance
            codes = np.where(codes >= place, codes + 1, codes)
            codes[self._rows < 0] = place
            first = np.insert(first, place, absent)
        return codes, self.take(first)

    def argsort(self, *, ascending=True, kind=None, na_position="last", **kwargs):
        """Return the positions that sort the array; see `pandas.api.extensions.ExtensionArray`.

        pandas omits `kind` only when it sorts the distinct keys of `groupby` and `factorize`. Cells
        without an order then stay in order of first appearance.
        """
        if kind is None and not self._has_order:
            return np.arange(len(self))
        kind = "quicksort" if kind is None else kind
        return super().argsort(ascending=ascending, kind=kind, na_position=na_position, **kwargs)

    def unique(self):
        """Return the distinct cells in order of first appearance."""
        return self.factorize(use_na_sentinel=False)[1]

    def duplicated(self, keep="first"):
        """Return a bool array (n,): True where the cell repeats another."""
        return pd.Series(self._codes()[0]).duplicated(keep=keep).to_numpy()

    def value_counts(self, dropna=True):
        """Return the number of times each cell occurs."""
        codes, uniques = self.factorize(use_na_sentinel=dropna)
        counts = np.bincount(codes[codes >= 0], minlength=len(uniques)).astype(np.int64)
        return pd.Series(counts, index=pd.Index(uniques), name="count", copy=False)

    def isin(self, values):
        """Return a bool array (n,): True where the cell's content is among `values`."""
        keys = {None if is_absent(cell) else self._key_of(cell) or b"" for cell in values}
        return np.array([key in keys for key in self._key_bytes()], bool)

    def __contains__(self, item):
        if is_absent(item):
            return item is self._dtype.na_value and bool(self.isna().any())
        return bool((self == item).any()) if self._is_cell(item) else False

    def _values_for_factorize(self):
        keys = np.empty(len(self), object)
        keys[:] = self._key_bytes()
        keys[self._rows < 0] = np.nan
        return keys, np.nan

    def _hash_pandas_object(self, *, encoding, hash_key, categorize):
        hashes = np.zeros(len(self), np.uint64)
        present = self._rows >= 0
        keys = np.ascontiguousarray(self._keys(self._rows[present])[:, :8])
        hashes[present] = keys.view(np.uint64).ravel()
        return hashes

    # -- content keys and pickles -------------------------------------------------------------

    def digests(self):
        """Return the cells' digests, uint8 (n, 16); zeros where absent.

        Each cell is read once per base, however many views share it, or at every call if the
        memory may be changed by other code or the cells are files.
        """
        digests = np.zeros((len(self), 16), np.uint8)
        present = self._rows >= 0
        digests[present] = self._storage.digests(self._rows[present])
        return digests

    def content_key(self):
        """Return a hex key of dtype, metadata and contents; equal contents give equal keys.

        O(rows) once the base's digests are kept; the same in every process.
        """
        absent = np.packbits(self._rows < 0)
        head = f"{type(self).__name__} {self._dtype.name} {len(self)}"
        return blake(head.encode(), absent, np.ascontiguousarray(self.digests())).hex()

    def _state(self):
        """Return the plain arrays that `_storage_from_state` rebuilds the present cells from."""
        raise NotImplementedError

    def __reduce__(self):
        absent = self._rows < 0
        state = self._state()
        # the name is a new string each time: a shared one would enter pickle's memo
        absent = read_only(absent) if absent.any() else None
        return rebuild, (type(self), self._dtype.name, state, absent)


def _one_axis(item):
    """Reduce an indexing tuple of one axis and ellipses to its one indexer."""
    rest = [part for part in item if part is not Ellipsis]
    if len(rest) > 1:
        raise IndexError("too many indices for array: a column has one axis")
    return rest[0] if rest else slice(None)


def _check_lengths(one, other):
    if len(one) != len(other):
        raise ValueError(f"Lengths must match to compare: got {len(one)} and {len(other)}")
