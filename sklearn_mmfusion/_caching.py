"""`memory=`: cache fits and outputs of child estimators between the candidates of a search.

Compositions call their children through a `CachedChild`; no other code uses stores and keys.
A fit and its output on the training rows are one entry in the store of a `joblib.Memory`; the
output of a fitted child for other rows is an entry under the key of its fit. A frozen child is
never fitted, and the outputs of a frozen encoder are stored per cell.

A key contains

- the child's class and parameters. A class or function of an installed library is identified by the
  library's version, one of this package by a hash of all source files, any other by its source text
  and that of its base classes, with defaults and plain class attributes by value. Functions that it
  calls elsewhere are not part of the key: clear the folder when they change. If the source cannot
  be read, nothing is cached, with a warning;
- the content of the data, target, weights and groups, and the index;
- versions, settings and, if torch may be used, its device type, precision and threads.

Anyone who can write to the folder can run code in every process that reads it: entries are pickles,
as with any `joblib.Memory`. Checksums detect damage, not malice.

`Memory.cache` is not used because it clears all entries of a function whose source has changed: two
checkouts would clear each other's entries.
"""

import copy
import copyreg
import inspect
import io
import os
import pickle
import sys
from contextlib import ExitStack, contextmanager
from functools import cache, lru_cache, partial
from importlib import metadata
from numbers import Integral
from pathlib import Path
from typing import NamedTuple

import joblib
import numpy as np
import pandas as pd
from scipy import sparse
from sklearn import get_config
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_memory

from sklearn_mmfusion._decoders import raise_passing
from sklearn_mmfusion._sklearn import _safe_indexing
from sklearn_mmfusion._triples import is_by_cell, is_frozen, n_frozen, read, root_of, steps_of
from sklearn_mmfusion._validation import add_error_note, warn
from sklearn_mmfusion.containers.file_array import cell_digests, file_states, has_digests
from sklearn_mmfusion.containers.row_view_array import RowViewArray
from sklearn_mmfusion.containers.storage import blake

try:
    import cloudpickle
except ImportError:  # joblib before 1.6 brings its own
    from joblib.externals import cloudpickle
try:
    import fcntl
except ImportError:  # Windows: two processes may compute the same result twice
    fcntl = None

MEMORY = [str, os.PathLike, joblib.Memory, None]  # types of the parameter `memory`
FOLDER = "sklearn_mmfusion"  # name of the folder of all entries, inside that of the memory
LIBRARIES = ("numpy", "scipy", "pandas", "scikit-learn", "skorch", "torch", "pillow", "soundfile")
WITHOUT_TORCH = {"numpy", "scipy", "pandas", "sklearn", "joblib"} | sys.stdlib_module_names
CONTAINERS = (list, tuple, dict, set, frozenset)
SCALARS = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis))
IGNORED_PARAMS = {"verbose", "n_jobs", "memory"}  # of library classes: no effect
# history_ contains run times, owner belongs to a metadata request, _cache of a pandas dtype grows
IGNORED_STATE = {*IGNORED_PARAMS, "history_", "owner", "_cache"}
WRAPPED = ("__func__", "fget", "fset", "fn")  # of class methods, properties and the like
STACKED = np.ndarray | pd.DataFrame | sparse.spmatrix | sparse.sparray  # outputs stored per cell


# ------------------------------------------------------------------------------ children


class CachedChild:
    """A child estimator, called through a store if there is one.

    Parameters
    ----------
    estimator : estimator
        Fitted in place, or replaced by a stored fit.
    memory : joblib.Memory or None
        As `open_memory` returns it; with None the estimator is called directly.
    label : str, default=None
        Composition and modality, for warnings; None suppresses them.
    key : Key or None, default=None
        Key of the fit, if `estimator` is fitted.

    Notes
    -----
    Data are columns whose cells are not gathered (see `select_rows`). Functions passed to `fit_by`
    and `apply` are part of the key: use module-level functions, partials or dataclass instances.
    """

    def __init__(self, estimator, memory, label=None, key=None):
        self.estimator, self.label = estimator, label
        # the root folder may have changed since the fit
        self.key = key and key._replace(roots=root_of(estimator) or key.roots)
        self.store = None if memory is None else Store(memory)

    def fit(self, data, y=None, params=None):
        """Fit on the given rows, with fit parameters."""
        self.fit_by(partial(_fit, y=y, params=params or {}), data)

    def fit_transform(self, data, y=None, params=None):
        """Fit and transform the same rows.

        Parameters
        ----------
        params : dict of {str: dict}
            Parameters of "fit_transform" if the estimator has it, else of "fit" and "transform".
        """
        params = params or {}
        if self.store is None:
            return _fit_transform(self.estimator, read(self.estimator, data), y, params)
        if is_frozen(self.estimator) and not any(params.values()):
            return self.transform(data)
        return self.fit_by(partial(_fit_transform, y=y, params=params), data)

    def transform(self, data, params=None):
        """Transform other rows."""
        return self.apply(partial(_transform, params=params or {}), data, by_cell=not params)

    def fit_by(self, function, data, *key_parts):
        """Return ``function(estimator, data)``, which fits the estimator on these rows.

        If there are `key_parts`, they replace the function in the key.
        """
        estimator, store = self.estimator, self.store
        if store is None or is_frozen(estimator):
            return function(estimator, read(estimator, data))
        self.key = _key(self.label, estimator, data, "fit", *(key_parts or [function]))
        if self.key is None:  # one warning is enough
            learned, output = self._fit_now(function, data, None)
        else:
            compute, params = partial(self._fit_now, function, data, self.label), self._ignored()
            learned, output = store.get(self.key.hex, compute, self.label)
            _set_params(learned, params)
        if type(estimator) is Pipeline:  # its frozen steps are unchanged
            n_kept = len(estimator.steps) - len(learned.steps)
            estimator.steps = [*estimator.steps[:n_kept], *learned.steps]
        else:
            self.estimator = learned
        return output

    def apply(self, function, data, by_cell=True):
        """Return ``function(estimator, data)``, which does not change the fitted estimator.

        `by_cell` means that the function computes rows separately if the estimator does.
        """
        estimator, store = self.estimator, self.store
        if store is None:
            return function(estimator, read(estimator, data))
        if is_frozen(estimator):
            by_cell = by_cell and is_by_cell(estimator) and has_digests(data)
            return self._apply_frozen(function, data, by_cell)
        key = self.key and _key(None, self.key, data, "apply", function)

        def compute():
            return function(*self._behind_frozen(data, None))

        return store.get(key.hex, compute) if key else compute()

    def _apply_frozen(self, function, data, by_cell):
        def compute(rows):
            return function(self.estimator, read(self.estimator, rows))

        keyed = data.iloc[:0].reset_index(drop=True) if by_cell else data
        key = _key(self.label, self.estimator, keyed, "frozen", function, by_cell)
        if key is None or not len(data):
            return compute(data)
        if not by_cell:
            return self.store.get(key.hex, partial(compute, data), self.label)
        output = _by_cell(cell_digests(data, key.roots), data, compute, self.store, key.hex)
        return output.set_axis(data.index) if isinstance(output, pd.DataFrame) else output

    def _fit_now(self, function, data, label):
        """Fit; return the fitted part (a pipeline without its frozen steps) and the output."""
        estimator, steps = self.estimator, steps_of(self.estimator)
        if n_frozen(estimator) or len(steps) == 1 or steps[0] in (None, "passthrough"):
            learned, features = self._behind_frozen(data, label)
            return learned, function(learned, features)
        memory, estimator.memory = estimator.memory, _FirstStep(self.store.memory, label)
        try:
            return estimator, function(estimator, data)
        finally:
            estimator.memory = memory

    def _behind_frozen(self, data, label):
        """Return the steps that follow the frozen ones, and their input."""
        estimator, frozen = self.estimator, n_frozen(self.estimator)
        if not frozen:
            return estimator, read(estimator, data)
        first = estimator[:frozen] if frozen > 1 else estimator[0]
        return estimator[frozen:], CachedChild(first, self.store.memory, label).transform(data)

    def _ignored(self):
        """Return the parameters that keys ignore, nested ones included."""
        get_params = getattr(self.estimator, "get_params", dict)
        return {n: v for n, v in get_params().items() if n.split("__")[-1] in IGNORED_PARAMS}

    def __getstate__(self):
        # pickles of fitted compositions drop `memory`, which must survive the way to a worker
        return {**vars(self), "params": self._ignored()}

    def __setstate__(self, state):
        vars(self).update(state)
        _set_params(self.estimator, self.params)


def _fit(estimator, data, y, params):
    estimator.fit(data, y, **params)


def _fit_transform(transformer, data, y, params):
    if hasattr(transformer, "fit_transform"):
        return transformer.fit_transform(data, y, **params.get("fit_transform", {}))
    transformer.fit(data, y, **params.get("fit", {}))
    return transformer.transform(data, **params.get("transform", {}))


def _transform(transformer, data, params):
    return transformer.transform(data, **params)


def _set_params(estimator, params):
    if params:
        present = estimator.get_params()
        estimator.set_params(**{n: v for n, v in params.items() if n in present})


class _FirstStep:
    """Replace a pipeline's `memory` during one fit: its first step goes through the store.

    If only parameters of later steps differ, the first step is then fitted once.
    """

    location = None  # so that the pipeline fits the step itself, not a clone

    def __init__(self, memory, label):
        self.memory, self.label = memory, label

    def cache(self, fit_one, **options):
        def fit(step, X, y, **params):
            child, self.memory = CachedChild(step, self.memory, self.label), None
            if child.store is None:
                return fit_one(step, X, y, **params)
            key_parts = "step", y, params.get("params")  # other parameters only print progress
            output = child.fit_by(lambda s, X: fit_one(s, X, y, **params)[0], X, *key_parts)
            return output, child.estimator

        return fit


def _by_cell(cells, data, compute, store, key):
    """Return the output for `data`, whose cells have the digests `cells`; compute each cell once.

    Missing outputs are added as one entry, a shard with the next number, so that the limits of the
    store apply. Shards are read until all cells are found. A deleted shard hides the later ones
    until a call writes it again. The output of a cell is that of its first batch; for networks, it
    agrees within 1e-5 (relative) with that of any other batch.
    """
    cells = [cell.tobytes() for cell in cells]
    shards = _shards(store, key, set(cells))
    if set(cells).difference(*(shard for shard, _ in shards)):
        with store.lock(key):  # held while computing: other processes may need the same cells
            shards = _shards(store, key, set(cells))
            known = {cell for shard, _ in shards for cell in shard}
            new = {cell: row for row, cell in enumerate(cells) if cell not in known}
            if new:
                made = list(new), compute(data.iloc[list(new.values())])
                if not isinstance(made[1], STACKED) or made[1].shape[0] != len(new):
                    return compute(data)
                kept = store.get(key_of("shard", key, len(shards)), lambda: made)
                # without locks, another process may have written this shard
                shards += [made] if kept is made else [kept, made]
    store.n_read += 1
    rows = {cell: row for row, cell in enumerate(c for shard, _ in shards for c in shard)}
    stacked = _stack([output for _, output in shards])
    return _safe_indexing(stacked, np.array([rows[cell] for cell in cells]))


def _shards(store, key, wanted):
    """Read stored pairs (cells, output) until all wanted cells are found or none is left."""
    shards = []
    while wanted and (found := store.find(key_of("shard", key, len(shards)))):
        shards += found
        wanted = wanted.difference(found[0][0])
    return shards


def _stack(parts):
    if isinstance(parts[0], pd.DataFrame):
        return pd.concat(parts, ignore_index=True)
    is_dense = isinstance(parts[0], np.ndarray)
    return np.concatenate(parts) if is_dense else sparse.vstack(parts, format="csr")


# ------------------------------------------------------------------------------ store


def open_memory(memory):
    """Return the `joblib.Memory` of a parameter ``memory``, None if nothing is to be stored."""
    memory = os.fspath(memory) if isinstance(memory, os.PathLike) else memory
    if isinstance(memory, str) and (not memory or os.path.isfile(memory)):
        what = f"memory={memory!r} is {'a file' if memory else 'an empty name'}"
        raise ValueError(f"{what}; expected the name of a folder, or a joblib.Memory.")
    with add_error_note(f"memory={memory!r}: the folder cannot be made or written to."):
        memory = check_memory(memory)
    return None if getattr(memory, "location", None) is None else memory


class Store:
    """Results by key in the store of a `joblib.Memory`, with counts of reads and computations."""

    def __init__(self, memory):
        self.memory, self.n_read, self.n_computed = memory, 0, 0

    def get(self, key, compute, label=None):
        """Return the stored result, or compute and store it.

        Each call reads the result again. A damaged result is computed again.
        """
        found = self.find(key)
        if not found:
            with self.lock(key):
                found = self.find(key)  # another process may have stored it meanwhile
                if not found:
                    self.n_computed += 1
                    result = compute()
                    self._write(key, result, label or "A result")
                    return result
        self.n_read += 1
        return found[0]

    def find(self, key):
        """Return a list with the stored result, empty if there is none or it is damaged."""
        backend, place = self.memory.store_backend, [FOLDER, key]
        try:
            data = backend.load_item(place, verbose=0) if backend.contains_item(place) else b""
            return [pickle.loads(data[16:])] if data and data[:16] == blake(data[16:]) else []
        except Exception as error:  # damaged bytes can raise any
            raise_passing(error)
            return []

    def _write(self, key, result, label):
        buffer = io.BytesIO()
        try:
            _Pickler(buffer).dump(result)
        except Exception as error:
            raise_passing(error)
            return warn(f"{label} cannot be stored and is computed every time: {error}.")
        backend, place, data = self.memory.store_backend, [FOLDER, key], buffer.getvalue()
        backend.clear_item(place)  # a damaged one
        try:
            backend.dump_item(place, blake(data) + data, verbose=0)
        finally:  # on a full disk, joblib only warns and leaves an incomplete file
            if not backend.contains_item(place):
                backend.clear_item(place)

    @contextmanager
    def lock(self, key):
        """Keep other processes and threads out of a block with the same key.

        If the store is not a folder, or its file system has no locks, there is no lock: two
        processes may compute the same result.
        """
        location = getattr(self.memory.store_backend, "location", None)
        is_folder = fcntl is not None and isinstance(location, str | os.PathLike)
        path = Path(location, "locks", key) if is_folder else None
        file = path and _open_locked(path)
        try:
            yield
        finally:
            if file:
                path.unlink(missing_ok=True)  # before unlocking: waiting processes then look again
                fcntl.flock(file, fcntl.LOCK_UN)  # a forked child may hold it open
                file.close()


def _open_locked(path):
    """Create and lock a file; return None if that is impossible."""
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(path.open("ab"))
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.path.samestat(path.stat(), os.fstat(file.fileno())):
                stack.pop_all()
                return file
        except OSError as error:
            raise_passing(error)
            if not isinstance(error, FileNotFoundError):  # the last holder has removed it
                return None
    return _open_locked(path)


class _Pickler(cloudpickle.CloudPickler):
    """Pickle definitions of a script or notebook with their code: workers cannot import them.

    When loading, a class or function with the same name and source in the script is preferred: one
    loaded by value would differ from the script's, and could not be pickled.
    """

    def reducer_override(self, obj):
        if (inspect.isclass(obj) or inspect.isfunction(obj)) and obj.__module__ == "__main__":
            return _from_main, (obj.__name__, source_of(obj), cloudpickle.dumps(obj))
        return super().reducer_override(obj)


def _from_main(name, source, by_value):
    found = getattr(sys.modules["__main__"], name, None)
    return found if found and source_of(found) == source else pickle.loads(by_value)


# ------------------------------------------------------------------------------ keys


class NoKeyError(Exception):
    """An object has no key; ``path`` is that of the attribute at fault."""

    def __init__(self, reason, path=""):
        super().__init__(reason)
        self.path = path


class Key(NamedTuple):
    """Key of a result, with the information needed to derive other keys from it."""

    hex: str
    devices: tuple  # torch device types; empty if nothing may use torch
    roots: tuple  # folders of relative paths, one per encoder that reads texts as paths

    @classmethod
    def of(cls, estimator):
        """Return the key of an estimator: its parameters, and its learned state if frozen."""
        walk = _Walk()
        digest = walk.digest(estimator).hex()
        devices = sorted(walk.devices) if walk.modules - WITHOUT_TORCH else ()
        return cls(digest, tuple(devices), tuple(walk.roots))


def key_of(*objects):
    """Return 32 hexadecimal digits that are equal in every process if the content is.

    Objects are compared by value. A pickle depends on whether two attributes are identical or only
    equal; a key must not.

    Raises
    ------
    NoKeyError
        If an object cannot be identified, such as a lambda or an open file, or if a `random_state`
        is not an integer: every fit is then meant to differ.
    """
    return _Walk().digest(objects).hex()


def _key(label, estimator, data, *parts):
    """Return the `Key` of an estimator's output for some data, None if there is none.

    `estimator` may also be a `Key`. With a `label`, a missing key causes a warning that begins
    with it.
    """
    try:
        key = estimator if isinstance(estimator, Key) else Key.of(estimator)
        files = file_states(data, key.roots)
        return key._replace(hex=key_of(key.hex, parts, data, files, environment(key)))
    except NoKeyError as error:
        if label is not None and error.path.rpartition(".")[2] != "net_params[accelerator]":
            what = "its input" if error.path.startswith("[") else f"parameter {error.path!r}"
            warn(f"{label} cannot be cached and is computed every time: {what} {error}")
        return None


class _Walk:
    """A walk through nested objects, which computes their digest."""

    def __init__(self):
        self.open, self.frozen = set(), False  # ids of objects being walked, to detect cycles
        self.modules, self.devices, self.roots = set(), set(), []  # found on the walk

    def digest(self, obj, place=""):
        """Return a 16-byte digest of any object. Errors name its place."""
        if type(obj) in SCALARS:
            return blake(type(obj).__name__, repr(obj))
        if id(obj) in self.open:
            raise NoKeyError("has no key: it refers to itself", place)
        self.open.add(id(obj))
        try:
            return self.compound(obj)
        except NoKeyError as error:
            joint = "." if place and error.path and not error.path.startswith("[") else ""
            error.path = f"{place}{joint}{error.path}"
            raise
        except Exception as error:  # foreign objects may fail in any way
            raise_passing(error)
            raise NoKeyError(f"has no key: {type(obj).__name__} ({error})", place) from error
        finally:
            self.open.discard(id(obj))

    def compound(self, obj):
        kind = type(obj).__name__
        if inspect.isclass(obj) or inspect.isfunction(obj):
            return self.code(obj)
        if type(obj) in (list, tuple):
            if all(type(item) in SCALARS for item in obj):
                return blake(kind, repr(obj))
            return blake(kind, *(self.digest(item, f"[{i}]") for i, item in enumerate(obj)))
        if type(obj) is dict:  # in its order, on which a function may depend
            return blake(kind, *(self.digest(k) + self.digest(v, str(k)) for k, v in obj.items()))
        if isinstance(obj, set | frozenset):
            return blake(kind, *sorted(map(self.digest, obj)))
        if isinstance(obj, np.ndarray):
            return self.array(obj)
        for kinds, convert in CONVERSIONS:
            if isinstance(obj, kinds):
                return blake(kinds.__name__, self.digest(convert(obj)))
        if hasattr(obj, "detach") and type(obj).__module__.startswith("torch"):
            # NumPy has no bfloat16.
            rows = obj.detach().cpu().contiguous().reshape(-1).view(sys.modules["torch"].uint8)
            return blake("tensor", repr(obj.dtype), repr(tuple(obj.shape)), rows.numpy())
        return self.instance(obj)

    def array(self, array):
        if type(array) not in (np.ndarray, np.memmap):  # subclasses may hold more state
            raise NoKeyError(f"has no key: {type(array).__name__} is not a plain array")
        head = repr(array.dtype), repr(array.shape)
        if array.dtype.hasobject or array.dtype.names:  # padding between fields is random
            return blake("cells", *head, self.digest(array.ravel().tolist()))
        flat = np.ascontiguousarray(array).reshape(-1)
        return blake("array", *head, flat.view(np.uint8) if flat.size else b"")

    def instance(self, obj):
        """Return the digest of any object, from the state that pickle would store."""
        if isinstance(obj, FrozenEstimator) and not self.frozen:
            walk = copy.copy(self)
            walk.frozen = True  # it is not refitted, so its seeds do not matter
            return walk.instance(obj)
        reduced = copyreg.dispatch_table.get(type(obj), lambda obj: obj.__reduce_ex__(4))(obj)
        if isinstance(reduced, str):  # a global, such as pandas.NA
            return blake("global", self.module_of(obj, reduced), reduced)
        make, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        parts = make, arguments, items and list(items), pairs and dict(pairs)
        return blake("object", *map(self.digest, (type(obj), *parts)), self.state(obj, state))

    def module_of(self, obj, name):
        """Return module and version of a global that pickle stores by name, as `pandas.NA`."""
        own = getattr(obj, "__module__", None) or "torch._VF"
        for module in (own, type(obj).__module__, "numpy", "scipy.special"):
            if getattr(sys.modules.get(module), name, None) is obj:
                self.modules.add(module.partition(".")[0])
                return f"{module} {version_of(module)}"
        raise NoKeyError(f"has no key: {name} cannot be imported by its name alone")

    def state(self, obj, state):
        if type(state) is not dict:
            return self.digest(state)
        if "accelerator" in (getattr(obj, "net_params", None) or ()):
            # processes that train together must not wait for each other's fits
            raise NoKeyError("is trained by several processes", "net_params[accelerator]")
        self.roots += root_of(obj) if hasattr(obj, "_reads") else ()
        self.devices.add(str(state.get("device") or "cpu").partition(":")[0])
        # a splitter that does not shuffle has no seed; a deprecated seed is that of the splitter
        is_split = hasattr(obj, "get_n_splits") and getattr(obj, "shuffle", True) is False
        is_split |= state.get("random_state") == "deprecated" and hasattr(obj.cv, "split")
        if not (isinstance(state.get("random_state", 0), Integral) or is_split or self.frozen):
            raise NoKeyError("has no seed. Set it, there or in the composition", "random_state")
        if version_of(type(obj).__module__) is not None:
            # a forest's `estimator` is not a parameter, and has no seed
            params = obj.get_params(deep=False) if hasattr(obj, "get_params") else ("estimator",)
            ignored = IGNORED_STATE | ({"estimator"} - set(params))
            state = {name: value for name, value in state.items() if name not in ignored}
        # an empty state is like none: pickle stores none
        return self.digest({str(name): state[name] for name in sorted(state, key=str)} or None)

    def code(self, obj):
        """Return the digest of a class or function: its name, and its version or source."""
        bases = obj.__mro__ if isinstance(obj, type) else [obj]
        self.modules |= {base.__module__.partition(".")[0] for base in bases}
        if "<" in obj.__qualname__:
            raise NoKeyError(f"has no key: {obj.__qualname__} cannot be imported")
        texts = [version_of(base.__module__) or source_of(base) for base in bases]
        values = [bound_values(b) for b in bases if version_of(b.__module__) is None]
        values += [cell.cell_contents for cell in getattr(obj, "__closure__", None) or ()]
        return blake("code", obj.__module__, obj.__qualname__, *texts, self.digest(values))


# ------------------------------------------------------------------------------ code


@cache
def version_of(module):
    """Return the version of the library of a module, None for a user's module."""
    top = module.partition(".")[0]
    if top == __name__.partition(".")[0]:
        return package_hash()
    if top in sys.stdlib_module_names:
        return sys.version
    loaded = None if top == "__main__" else sys.modules.get(top)
    places = [getattr(loaded, "__file__", None) or "", *getattr(loaded, "__path__", [])]
    is_library = any(name in p for name in ("site-packages", "dist-packages") for p in places)
    return str(getattr(loaded, "__version__", None) or _installed(top)) if is_library else None


@cache
def package_hash():
    """Return a hash of all source files of the package."""
    files = sorted(package_sources().items())
    if not files:
        raise NoKeyError("has no key: the package's source files cannot be read", "[0]")
    return blake(*(part for pair in files for part in pair)).hex()


def package_sources():
    """Return {relative path: bytes} of the package's source files."""
    root = Path(__file__).parent
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.py")}


@lru_cache(maxsize=256)
def source_of(obj):
    """Return the source of a class or function; read once, as soon after its import as possible.

    Raises
    ------
    NoKeyError
        If it cannot be read, as in C extensions or interactive shells.
    """
    try:
        if not isinstance(obj, type) or obj.__module__ != "__main__":
            return inspect.getsource(obj)
        # workers and notebooks cannot find the class statement of a script, only its methods
        members = sorted(vars(obj).items())
        return repr([[name, *map(inspect.getsource, functions_in(m))] for name, m in members])
    except (OSError, TypeError, SyntaxError) as error:
        raise NoKeyError(f"has no key: no source of {obj.__qualname__} ({error})") from error


def bound_values(obj):
    """Return values that the source of a class or function may not show.

    These are the defaults of functions, and class attributes that are scalars or containers of
    scalars.
    """
    if inspect.isfunction(obj):
        return obj.__defaults__, obj.__kwdefaults__
    values = []
    for name, member in sorted(vars(obj).items()):
        values += [(name, f.__defaults__, f.__kwdefaults__) for f in functions_in(member)]
        values += [(name, member)] if is_plain(member) and not name.startswith("__") else []
    return values


def functions_in(member):
    """Return the functions in a class attribute: itself, or those of a property or the like."""
    parts = member, *(getattr(member, part, None) for part in WRAPPED)
    return map(inspect.unwrap, filter(inspect.isfunction, parts))


def is_plain(obj):
    """Whether an object is a scalar, or a container of scalars."""
    parts = [*obj, *obj.values()] if type(obj) is dict else obj
    return type(obj) in SCALARS or (type(obj) in CONTAINERS and all(map(is_plain, parts)))


# ------------------------------------------------------------------------------ environment


def environment(key):
    """List what else results depend on: versions, settings, device, threads.

    torch is included only if something may use it, since whether it is loaded differs between
    processes. CUDA is not initialized unless used: only the device "auto" looks for a GPU.
    """
    parts = [package_hash(), sys.version, repr(get_config()), *map(_installed, LIBRARIES)]
    if not key.devices:
        return parts
    import torch

    from sklearn_mmfusion._torch import global_settings

    auto = "cuda" if "auto" in key.devices and torch.cuda.is_available() else "cpu"
    devices = sorted({auto if device == "auto" else device for device in key.devices})
    return [*parts, devices, *global_settings()]


@cache
def _installed(library):
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:  # an optional dependency that is not installed
        return None


# ------------------------------------------------------------------------------ data


def _column(array):
    """Return the content of a pandas column."""
    if isinstance(array, pd.arrays.NumpyExtensionArray) or isinstance(array.dtype, np.dtype):
        return np.asarray(array)  # numbers are hashed as bytes, not one by one
    return array.dtype, np.asarray(array, dtype=object)


# The parts that decide equality, for objects with more than one possible pickle.
CONVERSIONS = [
    (pd.Series, lambda series: (series.name, series.attrs, series.index, series.array)),
    (pd.DataFrame, lambda f: (f.columns, f.attrs, f.index, [c.array for _, c in f.items()])),
    (RowViewArray, RowViewArray.content_key),
    (pd.api.extensions.ExtensionArray, _column),
    (pd.MultiIndex, lambda i: (list(i.names), i.to_frame(False, allow_duplicates=True))),
    (pd.Index, lambda index: (list(index.names), index.array)),
]
