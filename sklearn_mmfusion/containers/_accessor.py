"""The `modalities` accessor."""

import pandas as pd


@pd.api.extensions.register_dataframe_accessor("modalities")
class ModalitiesAccessor:
    """Look at the modalities of a frame."""

    def __init__(self, frame):
        self._frame = frame
