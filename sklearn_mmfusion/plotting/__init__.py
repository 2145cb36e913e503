"""Displays of results of :mod:`sklearn_mmfusion.inspection`. They load matplotlib when drawn."""

__all__ = []
