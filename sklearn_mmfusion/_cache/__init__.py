"""Fits and answers kept between candidates of a search: what `memory=` does."""

from sklearn_mmfusion._cache._calls import asked, fit_transform, fitted, read
from sklearn_mmfusion._cache._keys import key_of
from sklearn_mmfusion._cache._store import MEMORY, open_store, telling

__all__ = ["MEMORY", "asked", "fit_transform", "fitted", "key_of", "open_store", "read", "telling"]
