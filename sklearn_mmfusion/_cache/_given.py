"""What a result depends on besides its estimator: the data it is given, and the surroundings."""

import functools
import inspect
import sys
from importlib import metadata

import numpy as np
import pandas as pd
from joblib.memory import MemorizedFunc, NotMemorizedFunc
from sklearn import get_config
from sklearn.frozen import FrozenEstimator

from sklearn_mmfusion._cache._keys import KNOWN, WITHOUT_TORCH, are_texts, blake, is_known, key_of
from sklearn_mmfusion.containers import FileArray
from sklearn_mmfusion.containers.row_view_array import RowViewArray

FORMAT = 3  # of the cache: entries of another one are never found
LIBRARIES = ("numpy", "scipy", "pandas", "scikit-learn", "skorch", "torch", "pillow", "soundfile")
SETTINGS = ("transform_output", "enable_metadata_routing", "array_api_dispatch", "assume_finite")


def data_key(data, reader):
    """Key of what an estimator is given: a column, a table, an array.

    O(rows) for columns of cells once their digests are known. Texts that an encoder inside
    `reader` reads as paths are keyed by size and time of their files too. The index counts, of a
    target too: some transformers read it, and it is the same for all candidates of a search.
    """
    parts = [data]
    roots = path_roots(reader)
    columns = [data] if isinstance(data, pd.Series) else []
    if isinstance(data, pd.DataFrame):
        columns = [data.iloc[:, j] for j in range(data.shape[1])]
    for column in columns:
        if isinstance(column.array, RowViewArray):
            verified(column.array)
        elif roots:
            paths = [cell if type(cell) is str and cell else None for cell in column]
            parts += [FileArray(paths, root=root).content_key() for root in roots]
    return key_of(*parts)


def verified(array):
    """A column whose recorded digests still hold: of all files, of a sample of arrays.

    A file's digest is its size and time, which cost no more to check than to look up.
    """
    array.verify(n=None if isinstance(array, FileArray) else 16)
    return array


def cell_digests(column, reader):
    """Digests (n, 16) of a Series of present cells; None where cells have none of their own."""
    if not isinstance(column, pd.Series):
        return None
    if isinstance(column.array, RowViewArray):
        return verified(column.array).digests()
    cells = list(column)
    if not are_texts(cells):
        return None
    digests = [np.frombuffer(blake("text", cell), np.uint8) for cell in cells]
    for root in path_roots(reader):
        files = FileArray(cells, root=root).digests()
        digests = [
            np.frombuffer(blake(*pair), np.uint8) for pair in zip(digests, files, strict=True)
        ]
    return np.stack(digests)


def path_roots(estimator):
    """Where relative paths start, for each encoder inside an estimator that reads texts as paths.

    Returns
    -------
    roots : list of str or None
    """
    lone = [each for each in inside(estimator) if not isinstance(each, FrozenEstimator)]
    readers = [each for each in lone if getattr(each, "_paths", None) is not None]
    return [getattr(reader, "root", None) for reader in readers]


def inside(estimator):
    """Yield an estimator and all estimators, classes and functions among its parameters."""
    left = [estimator]
    while left:
        each = left.pop()
        if isinstance(each, list | tuple):
            left += each
        elif isinstance(each, dict):
            left += each.values()
        elif isinstance(each, functools.partial):
            left += [each.func, *each.args, *each.keywords.values()]
        elif isinstance(each, MemorizedFunc | NotMemorizedFunc):
            left.append(each.func)
        elif hasattr(each, "get_params") and not isinstance(each, type):
            yield each
            is_frozen = isinstance(each, FrozenEstimator)
            left += [each.estimator] if is_frozen else each.get_params(deep=False).values()
        elif callable(each):
            yield each


def may_use_torch(each):
    """Whether an estimator, class or function is of another library than those without torch."""
    cls = each if isinstance(each, type) else type(each)
    for one in [each] if inspect.isroutine(each) else cls.__mro__:
        top = (getattr(one, "__module__", None) or "torch").partition(".")[0]
        if top not in WITHOUT_TORCH and (top in KNOWN or not is_known(top)):
            return True
    return False


def environment(estimator):
    """What results depend on besides data and estimator: versions, settings, device, threads.

    Of torch by what is inside, not by whether it is loaded, which differs between processes.
    """
    settings = get_config()
    told = [FORMAT, _versions(), [str(settings[name]) for name in SETTINGS]]
    return [*told, _torch_settings()] if any(map(may_use_torch, inside(estimator))) else told


def _torch_settings():
    import torch

    return [
        torch.get_num_threads(),
        torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        torch.get_float32_matmul_precision(),
        str(torch.get_default_dtype()),
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.mkldnn.enabled,
        torch.backends.cudnn.allow_tf32,
    ]


@functools.cache
def _versions():
    package = sys.modules[__name__.partition(".")[0]].__version__
    return [package, sys.version_info[:2], *map(_version, LIBRARIES)]


def _version(library):
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:  # an extra that is not installed
        return None
