"""TensorDtype and FileDtype, and the common dtype of different columns."""

import re
from functools import cache

import numpy as np
from pandas.api.extensions import ExtensionDtype, register_extension_dtype

_TENSOR_NAME = re.compile(
    r"tensor\[(?P<values>\w+), (?P<shape>(?:\d+|\?)(?:x(?:\d+|\?))*)(?:, (?P<rate>[^\],]+)Hz)?\]"
)
_FILE_NAME = re.compile(r"file(?:\[(?P<rate>[^\]]+)Hz\])?")


@cache
def native(dtype):
    """Return `dtype` in this machine's byte order, as numpy's own instance.

    Unpickled arrays carry fresh dtype instances; pickle's memo would distinguish them from the
    shared one, so that equal content would not give equal bytes.
    """
    return np.dtype(np.dtype(dtype).newbyteorder("=").str)


def check_sample_rate(sample_rate):
    """Return `sample_rate` as None, an int where it is whole, or a float."""
    if sample_rate is None:
        return None
    if isinstance(sample_rate, bool | str) or not np.isscalar(sample_rate):
        raise TypeError(f"sample_rate must be a number (Hz) or None; got {sample_rate!r}")
    rate = float(sample_rate)
    if not 0 < rate < np.inf:
        raise ValueError(f"sample_rate must be positive and finite (Hz); got {sample_rate!r}")
    return int(rate) if rate.is_integer() else rate


def check_same_rate(stated, sample_rate):
    """Raise if `sample_rate` contradicts the rate that a column states."""
    if stated not in (None, sample_rate):
        raise ValueError(
            f"cannot relabel sample rate {stated} as {sample_rate} (Hz): resample the cells "
            "instead."
        )


def only_rate(rates, files, remedy=""):
    """Return the one rate of files, None if none states any; raise if there are several."""
    rates = sorted({rate for rate in rates if rate is not None})
    if len(rates) > 1:
        raise ValueError(
            f"{files} have sample rates of {rates} Hz; expected one. Resample them{remedy}."
        )
    return rates[0] if rates else None


def check_value_dtype(dtype):
    """Return `dtype` in native byte order; raise unless it is one of numpy's portable numbers."""
    dtype = np.dtype(dtype)
    if dtype.kind not in "biufc" or dtype.itemsize > (16 if dtype.kind == "c" else 8):
        raise TypeError(
            f"cells must hold bool, integer, float16/32/64 or complex64/128 values; got {dtype}"
        )
    return native(dtype)


def common_value_dtype(dtypes):
    """Return the dtype that holds all of `dtypes` without changing kind, None if there is none.

    Integers widen and floats widen, but integers never become floats: mixing 0..255 pixels with
    0..1 pixels is a mistake in the data that a common dtype would hide.
    """
    common = np.result_type(*dtypes)
    kinds = {"i" if dtype.kind in "iu" else dtype.kind for dtype in (*dtypes, common)}
    return common if len(kinds) == 1 else None


class CellDtype(ExtensionDtype):
    """Base of the dtypes of columns of cells; `construct_from_string` reads its name back."""

    kind = "O"
    na_value = np.nan
    _is_immutable = True  # values cannot be assigned; NA can

    def __repr__(self):
        return self.name

    def __reduce__(self):
        return type(self).construct_from_string, (self.name,)

    def __from_arrow__(self, array):
        from sklearn_mmfusion.containers.arrow import from_arrow

        return from_arrow(array, self)


@register_extension_dtype
class TensorDtype(CellDtype):
    """Dtype of a column whose cells are numeric arrays.

    Parameters
    ----------
    value_dtype : dtype-like
        Dtype of the numbers: bool, an integer, float16/32/64, complex64/128.
    cell_shape : tuple of (int or None)
        Shape of a cell; None marks an axis whose length varies between cells: (28, 28) dense,
        (None,) waveforms, (None, None, 3) photos of any size.
    sample_rate : float or None, default=None
        Samples per second along the first axis, in Hz.

    Examples
    --------
    >>> from sklearn_mmfusion.containers import TensorDtype
    >>> TensorDtype("float32", (None,), sample_rate=8000)
    tensor[float32, ?, 8000Hz]
    >>> TensorDtype.construct_from_string("tensor[uint8, 28x28]").cell_shape
    (28, 28)
    """

    type = np.ndarray
    _metadata = ("value_dtype", "cell_shape", "sample_rate")

    def __init__(self, value_dtype, cell_shape, sample_rate=None):
        self.value_dtype = check_value_dtype(value_dtype)
        if not isinstance(cell_shape, tuple | list) or len(cell_shape) == 0:
            raise TypeError(
                f"cell_shape must be a tuple of at least one axis; got {cell_shape!r}. "
                "A column of scalars is an ordinary numeric column."
            )
        self.cell_shape = tuple(None if axis is None else int(axis) for axis in cell_shape)
        self.sample_rate = check_sample_rate(sample_rate)

    @property
    def name(self):
        """The dtype as text."""
        shape = "x".join("?" if axis is None else str(axis) for axis in self.cell_shape)
        rate = "" if self.sample_rate is None else f", {self.sample_rate}Hz"
        return f"tensor[{self.value_dtype.name}, {shape}{rate}]"

    @property
    def is_ragged(self):
        """Whether some axis varies between cells."""
        return None in self.cell_shape

    @classmethod
    def construct_array_type(cls):
        """Return `TensorArray`."""
        from sklearn_mmfusion.containers.tensor_array import TensorArray

        return TensorArray

    @classmethod
    def construct_from_string(cls, string):
        """Return the dtype named `string`; TypeError if it names none."""
        if not isinstance(string, str):
            raise TypeError(f"'construct_from_string' expects a string, got {type(string)}")
        match = _TENSOR_NAME.fullmatch(string)
        if match is None:
            raise TypeError(f"Cannot construct a '{cls.__name__}' from '{string}'")
        shape = tuple(None if n == "?" else int(n) for n in match["shape"].split("x"))
        try:
            rate = None if match["rate"] is None else float(match["rate"])
            return cls(match["values"], shape, sample_rate=rate)
        except (TypeError, ValueError) as error:
            raise TypeError(f"Cannot construct a '{cls.__name__}' from '{string}'") from error

    def _get_common_dtype(self, dtypes):
        if not all(isinstance(dtype, TensorDtype) for dtype in dtypes):
            return None
        rates = list(dict.fromkeys(dtype.sample_rate for dtype in dtypes))
        if len(rates) > 1:
            return ConflictDtype(
                ValueError,
                f"cannot join columns of sample rates {rates[0]} and {rates[1]} (Hz): resample "
                "one, or state an unknown rate with `astype` to the same dtype with sample_rate.",
            )
        values = common_value_dtype([dtype.value_dtype for dtype in dtypes])
        shapes = [dtype.cell_shape for dtype in dtypes]
        if values is None or len({len(shape) for shape in shapes}) > 1:
            names = list(dict.fromkeys(dtype.name for dtype in dtypes))
            return ConflictDtype(
                TypeError,
                f"cannot join {names[0]} and {names[1]}: cells must agree in the kind of number "
                "and in the number of axes. Convert one of the columns first.",
            )
        shape = tuple(
            axes[0] if len(set(axes)) == 1 else None for axes in zip(*shapes, strict=True)
        )
        return TensorDtype(values, shape, sample_rate=rates[0])


class ConflictDtype(ExtensionDtype):
    """Common dtype of columns that must not be joined.

    pandas requests a common dtype both to join columns, which must fail, and to return one row of a
    frame as objects, which must work; only its next call distinguishes the two.
    """

    type = object
    name = "conflict"
    _metadata = ("message",)

    def __init__(self, error, message):
        self.error = error
        self.message = message

    @classmethod
    def construct_array_type(cls):
        """Return the constructor of an object array: one row of a frame."""
        return _ObjectRow

    @classmethod
    def construct_from_string(cls, string):
        """Raise: this dtype has no name."""
        raise TypeError(f"Cannot construct a '{cls.__name__}' from '{string}'")


class _ObjectRow:
    @classmethod
    def _from_sequence(cls, scalars, *, dtype=None, copy=False):
        return np.asarray(scalars, dtype=object)


@register_extension_dtype
class FileDtype(CellDtype):
    """Dtype of a column whose cells are paths of files.

    Parameters
    ----------
    sample_rate : float or None, default=None
        Rate that every recording of the column must have, in Hz; None accepts any.

    Examples
    --------
    >>> from sklearn_mmfusion.containers import FileDtype
    >>> FileDtype(sample_rate=16000)
    file[16000Hz]
    """

    type = str
    _metadata = ("sample_rate",)

    def __init__(self, sample_rate=None):
        self.sample_rate = check_sample_rate(sample_rate)

    @property
    def name(self):
        """The dtype as text."""
        return "file" if self.sample_rate is None else f"file[{self.sample_rate}Hz]"

    @classmethod
    def construct_array_type(cls):
        """Return `FileArray`."""
        from sklearn_mmfusion.containers.file_array import FileArray

        return FileArray

    @classmethod
    def construct_from_string(cls, string):
        """Return the dtype named `string`; TypeError if it names none."""
        if not isinstance(string, str):
            raise TypeError(f"'construct_from_string' expects a string, got {type(string)}")
        match = _FILE_NAME.fullmatch(string)
        try:
            if match is not None:
                return cls(None if match["rate"] is None else float(match["rate"]))
        except ValueError:
            pass
        raise TypeError(f"Cannot construct a '{cls.__name__}' from '{string}'")

    def _get_common_dtype(self, dtypes):
        if not all(isinstance(dtype, FileDtype) for dtype in dtypes):
            return None
        rates = list(dict.fromkeys(dtype.sample_rate for dtype in dtypes))
        if len(rates) == 1:
            return self
        return ConflictDtype(
            ValueError,
            f"cannot join file columns of sample rates {rates[0]} and {rates[1]} (Hz): build "
            "both with one rate.",
        )
