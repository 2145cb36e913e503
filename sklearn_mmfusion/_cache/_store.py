"""Where results lie: a `joblib.Memory`, and one lock a key for processes that miss at once."""

import hashlib
import io
import os
import pickle
import sys
import types
import warnings
from contextlib import contextmanager
from pathlib import Path
from timeit import default_timer

import joblib
from sklearn.utils.validation import check_memory

from sklearn_mmfusion._cache._keys import NoKeyError, key_of
from sklearn_mmfusion._sklearn import _message_with_time

try:
    import cloudpickle
except ImportError:  # joblib before 1.6 brings its own
    from joblib.externals import cloudpickle
try:
    import fcntl
except ImportError:  # Windows: two processes may compute the same, and the result is right
    fcntl = None


FOLDER = "sklearn_mmfusion"  # of all entries, in the folder of the memory


class Store:
    """Results by key.

    Parameters
    ----------
    memory : joblib.Memory
    is_kept : bool, default=True
        Whether what is computed is kept; it is only read otherwise.
    """

    def __init__(self, memory, is_kept=True):
        self.memory, self.is_kept = memory, is_kept
        self.n_read = self.n_computed = 0

    def get(self, key, compute, who=None):
        """The stored result, or that of ``compute()``, which then is stored.

        A stored result is read anew at every call. One that is damaged is computed again. Classes
        of a script or notebook are stored with their code, as workers cannot import them; where
        there is one of equal code, it is taken. `who` is named if the result cannot be pickled.
        """
        found = self.find(key)
        if not found:
            with self.lock(key):
                found = self.find(key)  # another process may have stored it meanwhile
                if not found:
                    self.n_computed += 1
                    found = [compute()]
                    if self.is_kept:
                        self._write(key, *found, who or "A result")
                    return found[0]
        self.n_read += 1
        return found[0]

    def find(self, key):
        """A list of the stored result; an empty one where there is none or it is damaged."""
        entries, place = self.memory.store_backend, [FOLDER, key]
        try:
            if entries.contains_item(place):
                data = entries.load_item(place, verbose=0)
                if data[:16] == _digest(data[16:]):
                    return [pickle.loads(data[16:])]
        except Exception:  # damaged bytes raise anything
            pass
        return []

    def _write(self, key, result, who):
        try:
            data = _dumps(result)
        except Exception as error:
            warnings.warn(
                f"{who} could not be stored, memory notwithstanding: {error}.",
                UserWarning,
                stacklevel=4,
            )
            return
        self.memory.store_backend.dump_item([FOLDER, key], _digest(data) + data, verbose=0)

    @contextmanager
    def lock(self, key):
        """Let no other process or thread into a block of the same key.

        Where the store is no folder, or its file system has no locks, all are let in: they may
        compute the same twice.
        """
        handle = self._open_locked(key)
        try:
            yield
        finally:
            if handle is not None:
                descriptor, path = handle
                path.unlink(missing_ok=True)  # before it is let go: who waits looks again
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # a forked child may hold it open
                os.close(descriptor)

    def _open_locked(self, key):
        location = getattr(getattr(self.memory, "store_backend", None), "location", None)
        if fcntl is None or not isinstance(location, str | os.PathLike):
            return None
        path = Path(location) / "locks" / key
        while True:
            descriptor = None
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError:
                if descriptor is not None:
                    os.close(descriptor)
                return None
            if _is_file(path, descriptor):
                return descriptor, path
            os.close(descriptor)


class _Pickler(cloudpickle.CloudPickler):
    """Stores a class or function of `__main__` by value, to be taken by name where it is one's own.

    What was loaded by value is another class than the script's: it is no instance of that, and
    cannot be pickled.
    """

    def reducer_override(self, obj):
        if isinstance(obj, type | types.FunctionType) and obj.__module__ == "__main__":
            code = _code(obj)
            if code is not None:
                return _own, (obj.__qualname__, code, cloudpickle.dumps(obj))
        return super().reducer_override(obj)


def _dumps(result):
    buffer = io.BytesIO()
    _Pickler(buffer).dump(result)
    return buffer.getvalue()


def _own(name, code, by_value):
    """The class or function of that name and code in `__main__`, else the stored one."""
    found = sys.modules["__main__"]
    for part in name.split("."):
        found = getattr(found, part, None)
    return found if _code(found) == code else pickle.loads(by_value)


def _code(obj):
    """Key of a class or function, None where there is none."""
    try:
        return key_of(obj)
    except NoKeyError:
        return None


def _digest(data):
    return hashlib.blake2b(data, digest_size=16).digest()


def _is_file(path, descriptor):
    """Whether a path still leads to an open file: its last owner has removed it otherwise."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextmanager
def telling(owner, message, store):
    """Print how long a "Fitting ..." took, as scikit-learn does, or the "Reading ..." of a fit.

    Parameters
    ----------
    owner : str
    message : str or None
        None prints nothing.
    store : Store or None
        Where the block fits through.
    """
    before = None if store is None else (store.n_read, store.n_computed)
    start = default_timer()
    yield
    if message is not None:
        if store is not None and store.n_read > before[0] and store.n_computed == before[1]:
            message = message.replace("Fitting", "Reading", 1)
        print(_message_with_time(owner, message, default_timer() - start))


def open_store(memory, *, reading=False):
    """The `Store` of a parameter ``memory``, None where nothing is to be stored.

    Parameters
    ----------
    memory : str, os.PathLike, joblib.Memory or None
    reading : bool, default=False
        Only if the folder is there: a model that was moved elsewhere makes none, and one beside
        a store that cannot be written to reads what it holds.
    """
    if memory is None:
        return None
    memory = os.fspath(memory) if isinstance(memory, os.PathLike) else memory
    if reading and isinstance(memory, str) and not os.path.isdir(memory):
        return None
    if isinstance(memory, str) and (not memory or os.path.isfile(memory)):
        what = "an empty name" if not memory else "a file"
        raise ValueError(
            f"memory={memory!r} is {what}; expected the name of a folder, made where there "
            "is none, or a joblib.Memory."
        )
    try:
        memory = check_memory(memory)
    except OSError as error:
        if reading:
            return None
        raise type(error)(
            f"memory={memory!r}: the folder cannot be made or written to ({error}). Name another, "
            "or None to keep nothing."
        ) from error
    location = getattr(memory, "location", None)
    if location is None:
        return None
    if not reading or not isinstance(location, str | os.PathLike):
        return Store(memory)
    if not os.path.isdir(location):
        return None
    return Store(memory, os.access(memory.store_backend.location, os.W_OK))


MEMORY = [str, os.PathLike, joblib.Memory, None]  # what the parameter may be
