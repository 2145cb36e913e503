"""Keys of code of one's own: another for every edit of what runs, or of what it refers to."""

import re
import sys
import textwrap
import types

import pytest
from sklearn.preprocessing import FunctionTransformer

from sklearn_mmfusion._cache import key_of


def module_of(source, name="edited_in_a_notebook"):
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(textwrap.dedent(source), module.__dict__)
    return module


def has_another_key(source, edited, name):
    """Whether an edit changes the key of a function, or of an instance of a class."""

    def key(source):
        found = getattr(module_of(source), name)
        return key_of(found() if isinstance(found, type) else found)

    assert edited != source and key(source) == key(source)
    return key(edited) != key(source)


SOURCE = """
    from sklearn.base import BaseEstimator, TransformerMixin

    FACTOR = 2

    def helper(X):
        return FACTOR * X

    class Base(TransformerMixin, BaseEstimator):
        def fit(self, X, y=None):
            return self

    class Scale(Base):
        shift = 1
        names = staticmethod(lambda: [c for c in "ab"])

        def transform(self, X):
            '''Scale.'''
            return helper(X) + self.shift

        @property
        def twice(self):
            return super().__class__, Scale, 2
"""


@pytest.fixture
def cleaned():
    yield
    sys.modules.pop("edited_in_a_notebook", None)


def test_code_that_is_equal_has_an_equal_key(cleaned):
    key = key_of(module_of(SOURCE).Scale())
    assert key_of(module_of(SOURCE).Scale()) == key
    assert key_of(module_of("\n\n" + SOURCE).Scale()) == key  # elsewhere in the file


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("+ self.shift", "- self.shift"),
        ("shift = 1", "shift = 3"),
        ("FACTOR = 2", "FACTOR = 3"),
        ("FACTOR * X", "FACTOR + X"),
        ("y=None", "y=1"),
        ('"ab"', '"abc"'),
        ("Scale, 2", "Scale, 3"),
        ("return self\n", "return None\n"),
    ],
)
def test_edited_code_has_another_key(cleaned, old, new):
    assert has_another_key(SOURCE, SOURCE.replace(old, new), "Scale")


WRAPPED = """
    import functools, re, threading
    import numpy as np
    from sklearn.decomposition import PCA
    from torch import nn
    from sklearn.base import BaseEstimator
    from sklearn.utils.metaestimators import available_if

    ACT = nn.ReLU
    TABLE = {"a": [1, 2]}
    ARRAY = np.arange(3)
    PATTERN = re.compile("a+")
    PART = functools.partial(np.clip, a_min=0)
    OTHER = BaseEstimator()
    OTHER.strength = 17
    UNSEEDED = PCA(n_components=19)
    LOCKED = {"lock": threading.Lock(), "size": 23}

    def by(factor):
        def decorate(function):
            @functools.wraps(function)
            def wrapper(*args):
                return factor * function(*args)
            return wrapper
        return decorate

    def may(self):
        return len("x") + may.level

    may.level = 29

    @functools.singledispatch
    def each(X):
        return X

    @each.register
    def _(X: int):
        return X * 31

    @functools.lru_cache
    def kept(X):
        return X + 1

    class Mine(BaseEstimator):
        act = nn.Tanh
        pool = staticmethod(np.mean)
        call = functools.partial(lambda X, by: X * by, by=7)

        @by(2)
        def fit(self, X, y=None):
            return ACT, TABLE, ARRAY, PATTERN, PART, OTHER, UNSEEDED, LOCKED, kept(X), each(X)

        @available_if(may)
        def transform(self, X):
            return X * 11

        @functools.cached_property
        def width(self):
            return 5

        @classmethod
        def make(cls):
            return cls, 13
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("nn.Tanh", "nn.GELU"),
        ("np.mean", "np.median"),
        ("nn.ReLU", "nn.GELU"),
        ("[1, 2]", "[1, 3]"),
        ("arange(3)", "arange(4)"),
        ('"a+"', '"b+"'),
        ("a_min=0", "a_min=1"),
        ("= 17", "= 18"),
        ("by=7", "by=8"),
        ("n_components=19", "n_components=20"),
        ('"size": 23', '"size": 24'),
        ("level = 29", "level = 30"),
        ("X * 31", "X * 32"),
        ("X * by,", "X + by,"),
        ("@by(2)", "@by(3)"),
        ("factor * function", "factor + function"),
        ('len("x")', 'len("xy")'),
        ("X + 1", "X + 2"),
        ("X * 11", "X * 12"),
        ("return 5", "return 6"),
        ("cls, 13", "cls, 14"),
    ],
)
def test_edited_wrapper_attribute_or_global_has_another_key(cleaned, old, new):
    assert has_another_key(WRAPPED, WRAPPED.replace(old, new), "Mine")


REFERRED = """
    import joblib, threading
    import numpy as np
    from types import MappingProxyType, SimpleNamespace

    class Node:
        pass

    class Meta(type):
        def __call__(cls):
            return 11

    class Made(metaclass=Meta):
        pass

    CONSTANTS = MappingProxyType({"a": 2})
    MASKED = np.ma.array([3.0], mask=[False])
    PAIRS = {"a": 5}.items()
    TIMES = np.float64(7).__mul__
    HERE = threading.local()
    HERE.by = 13
    INTS = {"b": 17}.values()
    root = Node()
    root.kid, root.lock, root.names = Node(), threading.Lock(), {"u", "v"}
    root.kid.up, root.kid.strength = root, 19
    by_hand = [23]
    by_hand.append(by_hand)
    twice = [29]
    twice = SimpleNamespace(one=twice, two=twice)

    @joblib.Memory(None).cache
    def kept(X):
        return X + 31

    def f(X):
        used = CONSTANTS, MASKED, PAIRS, TIMES, HERE, INTS, root, by_hand, twice
        return kept(X), Made(), used
"""


@pytest.mark.parametrize("number", [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31])
def test_edited_object_that_code_refers_to_has_another_key(cleaned, number):
    assert has_another_key(REFERRED, re.sub(rf"\b{number}\b", "99", REFERRED), "f")


def test_function_of_another_version_of_its_library_has_another_key(cleaned):
    module = module_of(SOURCE)
    keys = []
    for module.__version__ in ("1.0", "1.1"):
        keys += [key_of(module.helper), key_of(module.Scale)]
    assert len(set(keys)) == 4


def test_global_that_is_named_like_an_attribute_counts_not(cleaned):
    source = "shape, scale = {}, {}\ndef f(X):\n    return X.shape, [scale for _ in X]"
    key = key_of(module_of(source.format(1, 2)).f)
    assert key_of(module_of(source.format(3, 2)).f) == key
    assert key_of(module_of(source.format(1, 3)).f) != key


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("def f(X, of): return len(of)", "def f(X, *of): return len(of)"),
        ("def f(X, of): return len(of)", "def f(X, *, of): return len(of)"),
        (
            """
            def f(X):
                try:
                    a = len(X)
                    b = int(X)
                except ValueError:
                    return None
                return b
            """,
            """
            def f(X):
                try:
                    a = len(X)
                except ValueError:
                    return None
                else:
                    b = int(X)
                return b
            """,
        ),
    ],
)
def test_code_of_equal_bytes_that_does_another_thing_has_another_key(cleaned, old, new):
    key, code = key_of(module_of(old).f), module_of(old).f.__code__.co_code
    edited = module_of(new).f
    assert edited.__code__.co_code == code
    assert key_of(edited) != key


def test_key_of_an_edited_function(cleaned):
    key = key_of(FunctionTransformer(module_of(SOURCE).helper))
    edited = module_of(SOURCE.replace("FACTOR *", "FACTOR -"))
    assert key_of(FunctionTransformer(edited.helper)) != key
