"""Reports in one HTML page: of data before training, and of a model's evidence after it."""

__all__ = []
