"""Keys: equal for what computes equal results, in every process.

A key is the digest of an object's state, walked by value: whether two attributes are the same
object or equal ones changes a pickle, and must not change a key.
"""

import copyreg
import dis
import functools
import hashlib
import inspect
import pickle
import sys
import threading
import types
import warnings
from numbers import Integral
from operator import attrgetter

import joblib
import numpy as np
import pandas as pd
from joblib.memory import MemorizedFunc, NotMemorizedFunc
from scipy import sparse
from sklearn.frozen import FrozenEstimator

from sklearn_mmfusion.containers.row_view_array import RowViewArray

# What the code of these does is told by their version, which `environment` holds.
WITHOUT_TORCH = {"numpy", "scipy", "pandas", "sklearn", "joblib"}
KNOWN = WITHOUT_TORCH | {"torch", "skorch", "sklearn_mmfusion"}
SCALARS = (type(None), bool, int, float, complex, str, bytes)
# Of a class: what says nothing about what it computes, or differs from process to process.
SKIPPED = {"__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__annotations__"}
SKIPPED |= {"__abstractmethods__", "__firstlineno__", "__static_attributes__"}
SKIPPED |= {"_abc_impl", "__slotnames__"}
# Of code, besides bytecode and constants: what it names and how it is called.
CODE = ("co_names", "co_varnames", "co_freevars", "co_cellvars", "co_flags", "co_argcount")
CODE += ("co_posonlyargcount", "co_kwonlyargcount")
# Of bytecode: what reads a global. The other names are attributes.
GLOBALS = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}
# Of instances of known classes: parameters that change no result; a record of training, seconds
# included; whose request it is.
INDIFFERENT = {"verbose", "n_jobs"}
PASSED_OVER = INDIFFERENT | {"history_", "owner"}


class NoKeyError(Exception):
    """An object has no key; ``path`` leads to the attribute that is to blame."""

    def __init__(self, reason, path=""):
        super().__init__(reason)
        self.path = path


class RingError(NoKeyError):
    """An object refers to itself."""


class UnseededError(NoKeyError):
    """A `random_state` is None or a generator: every fit is meant to be another one."""


def key_of(*objects):
    """Key of objects: 32 hexadecimal digits.

    Raises
    ------
    NoKeyError
        If something in them cannot be told from another: a lambda, a function inside a function,
        an open file; or, as `UnseededError`, a `random_state` without a seed.
    """
    return _Walk().digest(objects).hex()


class _Walk:
    """One walk through objects; digests of classes and functions met are remembered."""

    def __init__(self):
        self.codes = {}  # id -> digest, or None while being computed
        self.open = set()  # ids of what is being walked, to notice rings
        self.met = None  # or id -> (number, object) of all that was met in a ring
        self.frozen = False
        self.by_code = False  # functions that cannot be imported will do: code refers to them

    def digest(self, obj):
        """16 bytes of anything."""
        if type(obj) in SCALARS or obj is Ellipsis:
            return blake(type(obj).__name__, repr(obj))
        for kinds, content in OPENED:
            if isinstance(obj, kinds):
                return blake(type(obj).__name__, self.digest(content(obj)))
        if isinstance(obj, type) or inspect.isroutine(obj):
            return self.callable(obj)
        if self.met is not None:
            if id(obj) in self.met:
                return blake("met", str(self.met[id(obj)][0]))
            self.met[id(obj)] = len(self.met), obj  # kept, or another may get its id
        elif id(obj) in self.open:
            raise RingError("it refers to itself")
        self.open.add(id(obj))
        try:
            return self.compound(obj)
        except NoKeyError:
            raise
        except Exception as error:  # objects of others may fail in any way
            raise NoKeyError(f"{type(obj).__name__} cannot be read: {error}") from error
        finally:
            self.open.discard(id(obj))

    def compound(self, obj):
        if type(obj) in (list, tuple):
            parts = [self.at(f"[{i}]", item) for i, item in enumerate(obj)]
            return blake(type(obj).__name__, *parts)
        if type(obj) is dict:
            parts = [self.digest(k) + self.at(str(k), v) for k, v in obj.items()]
            return blake("dict", *parts)  # a function may go through them in order
        if isinstance(obj, set | frozenset):
            return blake(type(obj).__name__, *sorted(map(self.digest, obj)))
        if isinstance(obj, types.ModuleType):
            return blake("module", obj.__name__)
        for kinds, convert in CONVERSIONS:
            if isinstance(obj, kinds):
                return convert(self, obj)
        if hasattr(obj, "detach") and type(obj).__module__.startswith("torch"):
            rows = obj.detach().cpu().contiguous().reshape(-1)
            numbers = rows.view(sys.modules["torch"].uint8).numpy()  # NumPy has no bfloat16
            return blake("tensor", repr(obj.dtype), repr(tuple(obj.shape)), numbers)
        return self.instance(obj)

    def at(self, place, obj):
        """Digest of what stands at a place, which errors are to name."""
        try:
            return self.digest(obj)
        except NoKeyError as error:
            if self.by_code and not isinstance(error, RingError):  # but not what stands beside it
                return blake(type(obj).__qualname__)
            joint = "" if error.path.startswith("[") or not error.path else "."
            error.path = f"{place}{joint}{error.path}"
            raise

    # ------------------------------------------------------------------------ instances

    def instance(self, obj):
        """Any object by what pickle would keep of it."""
        if isinstance(obj, FrozenEstimator) and not self.frozen:
            self.frozen = True  # no longer fitted: its seeds do not matter
            try:
                return self.instance(obj)
            finally:
                self.frozen = False
        try:
            reduce = copyreg.dispatch_table.get(type(obj))
            reduced = obj.__reduce_ex__(4) if reduce is None else reduce(obj)
        except Exception as error:
            raise NoKeyError(f"{type(obj).__name__} objects cannot be pickled") from error
        if isinstance(reduced, str):  # a global, such as pandas.NA
            return blake("global", _module_of(obj, reduced), reduced)
        make, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        parts = [self.callable(type(obj)), self.digest(make), self.at("", arguments)]
        parts.append(self.state(obj, state))
        parts.append(b"" if items is None else self.digest(list(items)))
        parts.append(b"" if pairs is None else self.digest(dict(pairs)))
        return blake("object", *parts)

    def state(self, obj, state):
        if type(state) is not dict:
            return self.digest(state)
        is_seeded = isinstance(state.get("random_state", 0), Integral)
        if not (is_seeded or self.frozen or self.by_code or _draws_nothing(obj)):
            raise UnseededError("it has no seed", "random_state")
        if type(obj).__module__.partition(".")[0] in KNOWN:
            over = PASSED_OVER | (set() if "estimator" in _parameters(obj) else {"estimator"})
            state = {name: value for name, value in state.items() if name not in over}
        return self.digest(dict(sorted(state.items(), key=lambda item: str(item[0]))))

    # ------------------------------------------------------------------------ code

    def callable(self, obj):
        """A class or function: by name, and by its code where no version tells that."""
        owner = None if isinstance(obj, type) else getattr(obj, "__self__", None)
        if not isinstance(owner, types.ModuleType | None):
            return blake("method", obj.__name__, self.digest(owner))
        module, name = getattr(obj, "__module__", None), getattr(obj, "__qualname__", "")
        if module is None:  # a method of a type written in C
            return blake("method", self.digest(obj.__objclass__), obj.__name__)
        if is_known(module) and "<" not in name:
            return blake("known", module, name)
        known = "<" not in name and (module == "__main__" or _is_importable(obj, module, name))
        if not (known or self.by_code):
            raise NoKeyError(f"{name} cannot be imported from {module}")
        top = sys.modules.get(module.partition(".")[0])
        version = str(getattr(top, "__version__", ""))
        return blake("own", module, name, version, self.code_of(obj))

    def code_of(self, obj):
        """Digest of the code that runs: a file may have been edited since it was read."""
        if id(obj) in self.codes:
            return self.codes[id(obj)] or b"ring"
        self.codes[id(obj)] = None
        if isinstance(obj, type):
            found = self.class_code(obj)
        elif isinstance(obj, types.FunctionType):
            found = self.function_code(obj)
        else:  # a wrapper, such as scikit-learn's available_if
            inner = [self.member(getattr(obj, n, None)) for n in ("fn", "check", "__wrapped__")]
            found = blake("wrapper", type(obj).__qualname__, *inner)
        self.codes[id(obj)] = found
        return found

    def class_code(self, cls):
        parts = [self.member(type(cls))]
        for base in cls.__mro__:
            if is_known(base.__module__):
                parts.append(blake(base.__module__, base.__qualname__))
                continue
            for name, member in sorted(vars(base).items()):
                if name not in SKIPPED:
                    parts.append(blake(name, self.member(member)))
        return blake("class", *parts)

    def member(self, value):
        """What a class or function refers to: of what has no key, the kind must do."""
        outside = self.by_code, self.open, self.met
        self.by_code = True
        try:
            return self.digest(value)
        except RingError:  # once more, what is met again by its number
            self.open, self.met = set(), {}
            return self.member(value)
        except NoKeyError:
            return blake(type(value).__qualname__)
        finally:
            self.by_code, self.open, self.met = outside

    def function_code(self, function):
        cells = [self.member(vars(function))]
        for cell in function.__closure__ or ():
            try:
                cells.append(self.member(cell.cell_contents))
            except ValueError:  # not filled yet
                cells.append(b"")
        defaults = self.member((function.__defaults__, function.__kwdefaults__))
        names = set()
        code = self.code(function.__code__, names)
        globals_ = [blake(n, self.member(function.__globals__.get(n))) for n in sorted(names)]
        return blake("function", code, defaults, *cells, *globals_)

    def code(self, code, names):
        """Bytecode and what it refers to, without the lines it was written on."""
        names.update(i.argval for i in dis.get_instructions(code) if i.opname in GLOBALS)
        consts = [
            self.code(c, names) if isinstance(c, types.CodeType) else self.digest(c)
            for c in code.co_consts
        ]
        told = repr([getattr(code, name) for name in CODE])
        return blake("code", code.co_code, code.co_exceptiontable, told, *consts)


def is_known(module):
    """Whether a module belongs to a library whose version stands for its code."""
    top = module.partition(".")[0]
    return top in KNOWN or (top in sys.stdlib_module_names and top != "__main__")


def _parameters(obj):
    """Names of parameters: a forest's `estimator` is none, and has no seed of its own."""
    return obj.get_params(deep=False) if hasattr(obj, "get_params") else ("estimator",)


def _draws_nothing(obj):
    """Whether it is a splitter that does not shuffle, whose `random_state` has to be None."""
    return hasattr(obj, "get_n_splits") and getattr(obj, "shuffle", True) is False


def _is_importable(obj, module, name):
    """Whether an object is what a name leads to, or what is decorated there."""
    found = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    places = (found, *(getattr(found, n, None) for n in ("__wrapped__", "func")))
    return any(place is obj for place in places)


def _module_of(obj, name):
    """Where a global is that pickle knows by name only: `pandas.NA`, a dtype of torch, a ufunc."""
    for module in (type(obj).__module__, "numpy", "scipy.special"):
        if _is_importable(obj, module, name):
            return module
    with warnings.catch_warnings():  # it looks for the name in all modules there are
        warnings.simplefilter("ignore")
        module = pickle.whichmodule(obj, name)
    if not _is_importable(obj, module, name):
        raise NoKeyError(f"{name} cannot be imported from {module}")
    return module


def blake(*parts):
    hasher = hashlib.blake2b(digest_size=16)
    for part in parts:
        part = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        hasher.update(len(part).to_bytes(8, "little"))
        hasher.update(part)
    return hasher.digest()


# ------------------------------------------------------------------------ arrays, tables


def _array(walk, array):
    if type(array) is np.ma.MaskedArray:
        told = array.data, array.mask, array.fill_value, array.hardmask
        return blake("masked", walk.digest(told))
    if type(array) not in (np.ndarray, np.memmap):  # there may be more to it
        raise NoKeyError(f"{type(array).__name__} is not a plain array")
    if array.dtype.kind == "O":
        return blake("objects", repr(array.shape), walk.digest(array.ravel().tolist()))
    if array.dtype.names:  # not as bytes: there may be chance ones between the fields
        fields = [_array(walk, array[name]) for name in array.dtype.names]
        return blake("record", repr(array.dtype.names), *fields)
    numbers = np.ascontiguousarray(array).reshape(-1).view(np.uint8) if array.size else b""
    return blake("array", repr(array.dtype), repr(array.shape), numbers)


def _sparse(walk, matrix):
    rows = matrix.tocsr(copy=True)
    rows.sum_duplicates()
    parts = map(walk.digest, (rows.indptr, rows.indices, rows.data))
    return blake(type(matrix).__name__, repr(matrix.shape), *parts)


def _series(walk, series):
    index = walk.digest(series.index)
    told = walk.digest((series.name, series.attrs))
    return blake("series", told, index, walk.digest(series.array))


def _frame(walk, frame):
    names = walk.digest((frame.columns.tolist(), list(frame.columns.names), frame.attrs))
    columns = [walk.digest(frame.iloc[:, j].array) for j in range(frame.shape[1])]
    return blake("frame", names, walk.digest(frame.index), *columns)


def _index(walk, index):
    if isinstance(index, pd.MultiIndex):
        frame = index.to_frame(index=False, allow_duplicates=True)
        levels = [frame.iloc[:, j].array for j in range(frame.shape[1])]
    else:
        levels = [index.array]
    return blake("index", walk.digest(list(index.names)), *map(walk.digest, levels))


def _cells(walk, array):
    """A column of pandas."""
    if isinstance(array, RowViewArray):
        return blake("cells", array.content_key())
    if isinstance(array, pd.arrays.NumpyExtensionArray):
        array = array.to_numpy()
    if isinstance(array.dtype, np.dtype) and array.dtype.kind != "O":
        return _array(walk, np.asarray(array))
    if isinstance(array.dtype, pd.CategoricalDtype):
        categories = walk.digest(array.categories.tolist())
        return blake(repr(array.ordered), categories, _array(walk, np.asarray(array.codes)))
    return blake(str(array.dtype), texts_key(array) or walk.digest(array.tolist()))


def texts_key(cells):
    """Digest of cells that are all texts, else None."""
    cells = list(cells)
    if not are_texts(cells):
        return None
    encoded = [cell.encode("utf-8", "surrogatepass") for cell in cells]
    lengths = np.array([len(cell) for cell in encoded], np.int64)
    return blake("texts", lengths.tobytes(), b"".join(encoded))


def are_texts(cells):
    """Whether every cell is a str."""
    return all(type(cell) is str for cell in cells)


CONVERSIONS = [
    (np.ndarray, _array),
    (np.generic, lambda walk, number: _array(walk, np.asarray(number))),
    (np.dtype, lambda walk, dtype: blake("dtype", repr(dtype))),
    (sparse.spmatrix | sparse.sparray, _sparse),
    (pd.Series, _series),
    (pd.DataFrame, _frame),
    (pd.api.extensions.ExtensionArray, _cells),
    (pd.Index, _index),
]
# Of wrappers, descriptors among them: what they wrap, and what else decides what they do.
OPENED = [
    (staticmethod | classmethod, attrgetter("__func__")),
    (property, attrgetter("fget", "fset", "fdel")),
    (functools.cached_property, attrgetter("func")),
    (functools._lru_cache_wrapper, attrgetter("__wrapped__")),
    (MemorizedFunc, attrgetter("func", "ignore")),
    (NotMemorizedFunc, attrgetter("func")),
    (joblib.Memory, lambda memory: None),  # where results lie changes none
    (types.MappingProxyType, dict),
    (type({}.keys()) | type({}.values()) | type({}.items()), list),
    (threading.local, vars),
]
