"""Displays of the results of :mod:`sklearn_mmfusion.inspection`; matplotlib loads when one draws."""

__all__ = []
