"""Cells of files that were decoded before, kept in a folder and read as memory maps.

The folder holds one subfolder per *settings*: all that a decoded cell depends on besides its file.
Each process that decodes appends to its own two files in it, which together are a *shard*:

- ``<name>.cells``: the values, end to end;
- ``<name>.index``: one `RECORD` per cell, with the digest of the file, and checksums. It is written
  after the values.

Other processes and later ones read all shards. They ignore an incomplete record, so no process
reads half a cell, even after a crash. Nothing is unpickled. The folder may be deleted at any time.
"""

import os
import secrets
import threading
import weakref
import zlib
from contextlib import suppress
from importlib import metadata

import numpy as np

from sklearn_mmfusion._decoders import raise_passing
from sklearn_mmfusion._validation import warn
from sklearn_mmfusion.containers.file_array import in_threads
from sklearn_mmfusion.containers.storage import blake

VERSION = 2  # increase it when decoders, `resize` or `RECORD` change
# A layout is a text such as "|u1 3 64 64": dtype and shape.
RECORD = np.dtype(
    [
        *[("digest", "V16"), ("offset", "<i8"), ("layout", "S64"), ("rate", "<f8")],
        *[("source", "S4"), ("checksum", "<u4"), ("record_checksum", "<u4")],
    ]
)
ENTRY = np.dtype(
    [
        *[("shard", "i4"), ("layout", "i4"), ("offset", "i8"), ("rate", "f8")],
        *[("source", "S4"), ("checksum", "u4"), ("is_checked", "?")],
    ]
)
MOST_OPEN = 8  # caches that a process keeps open
_opened = {}
_warned = set()


def open_cache(folder, *settings):
    """Open the subfolder of some settings, once per process.

    Parameters
    ----------
    folder : str
    *settings : object
        Their ``repr`` determines the subfolder.

    Returns
    -------
    cache : DecodedCache
    """
    versions = [_version(package) for package in ("pillow", "soundfile", "torch")]
    name = blake(repr((VERSION, versions, settings))).hex()
    path = os.path.join(os.path.abspath(folder), name)
    key = os.getpid(), path
    cache = _opened.pop(key, None)
    if cache is None or cache.is_gone():
        cache = DecodedCache(path)
    _opened[key] = cache  # the last used one is the last
    for oldest in list(_opened)[:-MOST_OPEN]:
        _opened.pop(oldest, None)  # unless another thread was faster
    cache.refresh()
    return cache


def _version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _warn_once(path, message):
    if path not in _warned:
        _warned.add(path)
        warn(message)


class Shard:
    """A pair of files: values end to end, and their index."""

    def __init__(self, path):
        self.path, self.n_read, self.is_damaged = path, 0, False
        self._map = np.empty(0, np.uint8)

    def values(self, end):
        """The values as bytes, at least up to `end`."""
        if len(self._map) < end:
            self._map = np.asarray(np.memmap(f"{self.path}.cells", np.uint8, mode="r"))
        return self._map

    def new_records(self):
        """Records that were added since the last call; raise ValueError if they are damaged."""
        with open(f"{self.path}.index", "rb") as file:
            file.seek(self.n_read * RECORD.itemsize)
            content = file.read()
        n_records = len(content) // RECORD.itemsize  # another process may be writing the next
        records = np.frombuffer(content, RECORD, n_records)
        if n_records and (_record_checksums(records) != records["record_checksum"]).any():
            raise ValueError("its index is damaged")
        self.n_read += n_records
        return records

    def remove(self):
        for suffix in (".index", ".cells"):
            with suppress(OSError):
                os.unlink(self.path + suffix)


def _record_checksums(records):
    n_bytes = RECORD.itemsize - 4
    content = records.tobytes()
    starts = range(0, len(content), RECORD.itemsize)
    return np.array([zlib.crc32(content[s : s + n_bytes]) for s in starts], np.uint32)


class Writer:
    """The shard that this process adds to."""

    def __init__(self, folder):
        os.makedirs(folder, exist_ok=True)
        self.pid, self.size = os.getpid(), 0
        self.path = os.path.join(folder, secrets.token_hex(8))
        self.files = [open(self.path + suffix, "xb") for suffix in (".cells", ".index")]
        self.close = weakref.finalize(self, _close, self.files)

    def write(self, values, records):
        """Append values, then their records."""
        for file, parts in zip(self.files, (values, [records]), strict=True):
            file.writelines(parts)
            file.flush()
        self.size += sum(part.nbytes for part in values)


def _close(files):
    for file in files:
        with suppress(OSError):
            file.close()


class DecodedCache:
    """Decoded cells of one kind, by the digests of their files.

    A *place* is the row of a cell in the table of all known cells.

    Parameters
    ----------
    path : str
        Folder of the shards.
    """

    def __init__(self, path):
        self.path = path
        self._lock = threading.RLock()
        self._shards, self._layouts = [], []
        self._table, self._n_entries, self._digests = np.zeros(256, ENTRY), 0, []
        self._places, self._layout_numbers = {}, {}
        self._writer, self._is_writable = None, True

    def is_gone(self):
        """Whether the folder, or a shard in it, was deleted."""
        paths = [f"{shard.path}.index" for shard in self._shards if not shard.is_damaged]
        return not all(map(os.path.exists, paths))

    def drop_gone(self):
        """Forget the shards that were deleted; return whether there are any, now or before."""
        with self._lock:
            shards = enumerate(self._shards)
            gone = [n for n, s in shards if not (s.is_damaged or os.path.exists(f"{s.path}.cells"))]
            for number in gone:
                self._drop(number, "it was deleted")
            return any(shard.is_damaged for shard in self._shards)

    def refresh(self):
        """Read what other processes have added."""
        with self._lock:
            try:
                names = sorted(os.listdir(self.path))
            except OSError as error:  # it does not exist yet, or is not readable
                raise_passing(error)
                return
            known = {shard.path for shard in self._shards}
            paths = [os.path.splitext(os.path.join(self.path, name)) for name in names]
            new = [path for path, suffix in paths if suffix == ".index" and path not in known]
            self._shards += map(Shard, new)
            for number, shard in enumerate(self._shards):
                if not (shard.is_damaged or (self._writer and shard.path == self._writer.path)):
                    self._load(number)

    def _load(self, number):
        try:
            self._add_records(self._shards[number].new_records(), number)
        except (OSError, ValueError) as error:
            self._drop(number, error)

    def _add_records(self, records, number):
        if not len(records):
            return
        texts, layouts = np.unique(records["layout"], return_inverse=True)
        parsed = [_parse_layout(text) for text in texts.tolist()]
        ends = records["offset"] + np.array([n_bytes for *_, n_bytes in parsed])[layouts]
        size = os.path.getsize(f"{self._shards[number].path}.cells")
        if records["offset"].min() < 0 or ends.max() > size:
            raise ValueError(f"it holds {size} bytes; its index states {ends.max()}")
        numbers = np.array([self._layout_number(text) for text in texts.tolist()])
        entries = np.zeros(len(records), ENTRY)
        for name in ("offset", "rate", "source", "checksum"):
            entries[name] = records[name]
        entries["shard"], entries["layout"] = number, numbers[layouts]
        first, last = self._n_entries, self._n_entries + len(entries)
        if last > len(self._table):
            room = np.zeros(max(last, 2 * len(self._table)), ENTRY)
            room[:first] = self._table[:first]
            self._table = room
        self._table[first:last] = entries
        self._n_entries = last
        digests = [digest.tobytes() for digest in records["digest"]]
        self._digests += digests
        self._places.update(zip(digests, range(first, last), strict=True))

    def _layout_number(self, text):
        if text not in self._layout_numbers:
            self._layout_numbers[text] = len(self._layouts)
            self._layouts.append(_parse_layout(text))
        return self._layout_numbers[text]

    def _drop(self, number, problem):
        """Forget and remove a damaged shard; its cells are decoded again."""
        shard = self._shards[number]
        shard.is_damaged = True
        if self._writer and shard.path == self._writer.path:
            self._writer.close()
            self._writer = None
        shard.remove()
        owners = self._table["shard"][: self._n_entries].tolist()
        places = zip(self._digests, range(self._n_entries), owners, strict=True)
        self._places = {d: place for d, place, own in places if not self._shards[own].is_damaged}
        _warn_once(
            self.path,
            f"file_params: a part of cache_folder, {shard.path}.cells, is damaged ({problem}). It "
            "is removed, and its files are decoded again.",
        )

    def find(self, digests):
        """Look up cells, and check the values of those that were not used before.

        Parameters
        ----------
        digests : ndarray of shape (n, 16), dtype=uint8

        Returns
        -------
        places : ndarray of int of shape (n,)
            -1 for a cell that is not cached.
        """
        keys = [digest.tobytes() for digest in digests]
        with self._lock:
            while True:
                places = [self._places.get(key, -1) for key in keys]
                damaged = next((p for p in places if p >= 0 and not self._is_whole(p)), None)
                if damaged is None:
                    return np.array(places, dtype=np.intp)
                self._drop(self._table["shard"][damaged], "it was deleted, or a checksum differs")

    def _is_whole(self, place):
        if not self._table["is_checked"][place]:
            try:
                checksum = zlib.crc32(self._bytes(place))
            except OSError as error:
                raise_passing(error)
                return False
            self._table["is_checked"][place] = checksum == self._table["checksum"][place]
        return self._table["is_checked"][place]

    def _bytes(self, place):
        """The values of a cell as bytes in the map."""
        number, layout, start = self._table[["shard", "layout", "offset"]][place].item()
        end = start + self._layouts[layout][2]
        return self._shards[number].values(end)[start:end]

    def gather(self, places):
        """Copy the cells at some places.

        Parameters
        ----------
        places : ndarray of int of shape (n,)
            n > 0.

        Returns
        -------
        cells : ndarray of shape (n, ...), or list of ndarray if they differ in shape or dtype
        sources : set of str
            Data types of the values in the files.
        rates : list of float or None
            Sample rates in Hz.
        """
        entries = self._table[places]
        rates = [None if rate != rate else rate for rate in entries["rate"].tolist()]
        sources = {source.decode() for source in np.unique(entries["source"]).tolist()}
        if (entries["layout"] == entries["layout"][0]).all():
            return self._gather_equal(entries), sources, rates
        return (
            [self._gather_equal(entries[i : i + 1])[0] for i in range(len(places))],
            sources,
            rates,
        )

    def _gather_equal(self, entries):
        """Copy cells of one layout: one `take` per shard whose cells all have the same size."""
        dtype, shape, n_bytes = self._layouts[entries["layout"][0]]
        cells = np.empty((len(entries), n_bytes), np.uint8)
        for number in np.unique(entries["shard"]):
            own = np.flatnonzero(entries["shard"] == number)
            starts = entries["offset"][own]
            values = self._shards[number].values(starts.max() + n_bytes)
            if (starts % n_bytes).any():
                for i, start in zip(own, starts, strict=True):
                    cells[i] = values[start : start + n_bytes]
            else:
                table = values[: len(values) // n_bytes * n_bytes].reshape(-1, n_bytes)
                cells[own] = table.take(starts // n_bytes, axis=0)
        return cells.view(dtype).reshape(len(entries), *shape)

    def add(self, digests, decoded):
        """Add cells; if that fails, warn once and add none from then on.

        Parameters
        ----------
        digests : ndarray of shape (n, 16), dtype=uint8
        decoded : list of (ndarray, float or None, dtype)
            Each cell, its sample rate in Hz, and the data type of the values in its file.
        """
        texts = [_layout(cell) for cell, *_ in decoded]
        taken = [i for i, text in enumerate(texts) if text is not None]
        with self._lock:
            if not taken or not self._is_writable:
                return
            try:
                self._append([digests[i] for i in taken], [decoded[i] for i in taken])
            except OSError as error:
                raise_passing(error)
                self._is_writable = False
                if self._writer:
                    self._writer.close()
                _warn_once(
                    self.path,
                    f"file_params: cannot write to cache_folder={os.path.dirname(self.path)!r}: "
                    f"{error}. Files are decoded at each use. Choose a writable folder on a disk "
                    "with free space.",
                )

    def _append(self, digests, decoded):
        if self._writer is None or self._writer.pid != os.getpid():
            self._writer = Writer(self.path)
            self._shards.append(Shard(self._writer.path))
        number = [shard.path for shard in self._shards].index(self._writer.path)
        values = [np.ascontiguousarray(cell).reshape(-1).view(np.uint8) for cell, *_ in decoded]
        records = np.zeros(len(values), RECORD)
        sizes = np.array([part.nbytes for part in values])
        records["offset"] = self._writer.size + np.cumsum(sizes) - sizes
        for record, digest, part, (cell, rate, source) in zip(
            records, digests, values, decoded, strict=True
        ):
            record["digest"], record["layout"] = digest.tobytes(), _layout(cell)
            record["rate"] = np.nan if rate is None else rate
            record["source"], record["checksum"] = source.str, zlib.crc32(part)
        records["record_checksum"] = _record_checksums(records)
        self._writer.write(values, records)
        first = self._n_entries
        self._add_records(records, number)
        self._table["is_checked"][first : self._n_entries] = True


def _layout(cell):
    """The layout of a cell as a text; None if such cells are not kept."""
    text = " ".join([cell.dtype.str, *map(str, cell.shape)])
    is_kept = cell.dtype.kind in "buif" and cell.size > 0 and len(text) <= RECORD["layout"].itemsize
    return text if is_kept else None


def _parse_layout(text):
    """Dtype, shape and number of bytes."""
    name, *shape = text.decode().split()
    dtype, shape = np.dtype(name), tuple(map(int, shape))
    n_bytes = dtype.itemsize
    for length in shape:
        n_bytes *= length
    if dtype.kind not in "buif" or n_bytes <= 0:
        raise ValueError(f"it holds a cell of layout {text!r}")
    return dtype, shape, n_bytes


class CachedFiles:
    """The cells of a FileArray, decoded only if the cache lacks them.

    Parameters
    ----------
    column : FileArray
    cache : DecodedCache
    """

    def __init__(self, column, cache):
        self.column, self.cache = column, cache
        self._places = np.full(len(column), -1)

    def read(self, rows, decode):
        """Read cells.

        Parameters
        ----------
        rows : ndarray of int of shape (n,)
        decode : callable
            ``decode(row)`` returns a cell, its sample rate and the data type of the values in its
            file. Called in threads.

        Returns
        -------
        cells, sources, rates
            See `DecodedCache.gather`.
        """
        try:
            return self._read(rows, decode)
        except OSError as error:
            raise_passing(error)
            if not self.cache.drop_gone():
                raise
            self._places[:] = -1
            return self._read(rows, decode)

    def _read(self, rows, decode):
        places = self._places[rows]
        lacking = np.flatnonzero(places < 0)
        if len(lacking):
            files = self.column[rows[lacking]]
            digests = files.digests()
            places[lacking] = self.cache.find(digests)
            self._places[rows] = places
            is_lacking = places[lacking] < 0
            lacking, digests, files = lacking[is_lacking], digests[is_lacking], files[is_lacking]
        if not len(lacking):
            return self.cache.gather(places)
        decoded = in_threads(decode, rows[lacking])
        same = (files.digests() == digests).all(axis=1)  # a file may have changed in between
        self.cache.add(digests[same], [decoded[i] for i in np.flatnonzero(same)])
        cells, rates = [None] * len(rows), [None] * len(rows)
        sources = {source.str for *_, source in decoded}
        found = np.flatnonzero(places >= 0)
        if len(found):
            values, more, own = self.cache.gather(places[found])
            sources |= more
            for i, cell, rate in zip(found, values, own, strict=True):
                cells[i], rates[i] = cell, rate
        for i, (cell, rate, _) in zip(lacking, decoded, strict=True):
            cells[i], rates[i] = cell, rate
        return cells, sources, rates
