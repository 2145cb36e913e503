"""Clean cells: a column of one modality -> the same kind of column."""

import re
import unicodedata
from functools import reduce
from html import unescape
from numbers import Real

import numpy as np
import pandas as pd
from scipy import signal
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.feature_extraction.text import (
    ENGLISH_STOP_WORDS,
    strip_accents_ascii,
    strip_accents_unicode,
)
from sklearn.utils.validation import check_is_fitted

from sklearn_mmfusion._sklearn import (
    Interval,
    StrOptions,
    _check_feature_names_in,
    _fit_context,
    _get_output_config,
)
from sklearn_mmfusion._validation import (
    add_error_note,
    all_or_nothing,
    as_fitted,
    remember_params,
    warn,
)
from sklearn_mmfusion.containers import TensorArray
from sklearn_mmfusion.containers.cells import CellKind, Cells
from sklearn_mmfusion.containers.column_input import check_column, is_table, readable_cells
from sklearn_mmfusion.preprocessing.audio import (
    RECORDING,
    check_resampled_size,
    resampling_ratio,
    to_float,
)
from sklearn_mmfusion.preprocessing.image import IMAGE, channels_first
from sklearn_mmfusion.preprocessing.text import TEXT, as_texts

__all__ = ["AudioCleaner", "ImageCleaner", "SequenceCleaner", "TextCleaner"]

TO_DEVIATION = 1.4826  # times the median absolute deviation: the standard deviation if normal

SEQUENCE = CellKind(
    "sequence",
    shapes=((None, None), (None,)),
    expected="(n_steps, n_channels), or (n_steps,) for one channel",
    files="array",
    allow_nan=True,
)


class BaseCleaner(TransformerMixin, BaseEstimator):
    """Base of the cleaners, which return a column of the cells that they get.

    A subclass sets ``_reads``, a `CellKind`, and defines ``_clean_column(column)``, which returns
    the cleaned column, and optionally ``_learn(column)``.
    """

    wants_column = True

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Check the cells, and learn what cleaning them needs.

        Parameters
        ----------
        X : column of cells or array-like of shape (n_samples, n_features)
            See the docstring of the class. NA, None or NaN marks absent cells.
        y : Ignored

        Returns
        -------
        self : object
        """
        with all_or_nothing(self):
            column = check_column(self, X, reset=True)
            name = getattr(X, "name", None)
            self._column_name = name if isinstance(name, str) else None
            remember_params(self)
            self._learn(column)
        return self

    def _learn(self, column):
        """Set fitted attributes; most cleaners have none."""

    def fit_transform(self, X, y=None):
        """Fit and clean the same cells, like ``fit(X).transform(X)``.

        Parameters
        ----------
        X : column of cells or array-like of shape (n_samples, n_features)
        y : Ignored

        Returns
        -------
        X_t : column of n_samples cells, or ndarray of shape (n_samples, n_features)
        """
        X = readable_cells(X, self)  # warns once
        return self.fit(X).transform(X)

    def transform(self, X):
        """Clean cells.

        Parameters
        ----------
        X : column of cells or array-like of shape (n_samples, n_features)

        Returns
        -------
        X_t : column of n_samples cells, or ndarray of shape (n_samples, n_features)
            A table of numbers gives a table.
        """
        check_is_fitted(self)
        column = check_column(self, X, reset=False)
        cleaned = as_fitted(self)._clean_column(column, is_table(X))
        if _get_output_config("transform", self)["dense"] == "polars" and cleaned.ndim == 1:
            return pd.DataFrame({0: cleaned})  # scikit-learn cannot convert an extension array
        return cleaned

    def get_feature_names_out(self, input_features=None):
        """Get the name of the column, or those of the columns of a table.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Name of the column; None takes that of the Series in `fit`, or the class name.

        Returns
        -------
        feature_names_out : ndarray of str objects
        """
        check_is_fitted(self)
        if not self._cells_in:
            return _check_feature_names_in(self, input_features)
        default = self._column_name or f"{type(self).__name__.lower()}0"
        given = [default] if input_features is None else list(input_features)
        if len(given) != 1:
            raise ValueError(
                f"{type(self).__name__}: input_features has {len(given)} names; expected the name "
                "of one column."
            )
        return np.array(given, dtype=object)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.string = not self._reads.shapes
        tags.input_tags.allow_nan = self._reads.allow_nan
        tags.transformer_tags.preserves_dtype = []
        return tags


# ------------------------------------------------------------------------------ texts


# Comments, scripts and styles are no text; unclosed ones end with it, which also keeps the search
# linear in its length. A "<" before a space is no tag.
_HTML = re.compile(
    r"<!--.*?(?:-->|\Z)|<(script|style)\b[^<>]*>.*?(?:</\1\s*>|\Z)|</?[a-z!][^<>]*>",
    re.DOTALL | re.IGNORECASE,
)
_URL = re.compile(r"\b(?:(?:https?|ftp)://|www\.)[^\s<>\"]*[^\s<>\"'.,;:!?)\]}]", re.IGNORECASE)
_WORD = re.compile(r"\w+(?:['\u2019]\w+)*")  # apostrophes join: don't
_SIGN = re.compile(r"[^\w\s]|_")
ACCENTS = {"unicode": strip_accents_unicode, "ascii": strip_accents_ascii, None: str}


def _space_for_punctuation(match):
    return " " if unicodedata.category(match[0])[0] == "P" else match[0]


class TextCleaner(BaseCleaner):
    """Remove from texts what carries no meaning.

    The steps are applied in the order of the parameters; white space is then reduced to single
    spaces. By default only markup and addresses are removed: `TextEncoder` and scikit-learn's
    vectorizers handle case and punctuation.

    X is a column of texts (list, array of str, pandas column) or of text files (FileArray).

    Parameters
    ----------
    strip_html : bool, default=True
        Whether to replace tags, comments, scripts and styles by spaces, and entities by their
        characters ("&amp;" becomes "&"), once.

    remove_urls : bool, default=True
        Whether to remove addresses that start with "http://", "https://", "ftp://" or "www.".

    strip_accents : {"ascii", "unicode"} or None, default=None
        Whether to remove accents, as in :class:`~sklearn.feature_extraction.text.CountVectorizer`;
        "ascii" then removes all characters that are still not ASCII.

    lowercase : bool, default=False
        Whether to case-fold.

    stop_words : "english", list of str or None, default=None
        Words to remove, in any case; "english" takes scikit-learn's list.

    remove_punctuation : bool, default=False
        Whether to replace punctuation by spaces. Symbols ($, +) and emoji are kept.

    Attributes
    ----------
    n_features_in_ : int
        1 for a column of texts, else the number of columns of a numeric table.

    See Also
    --------
    TextEncoder : Learns features of texts.

    Notes
    -----
    A text of which nothing is left is empty, not absent. A table of numbers is returned unchanged.

    Examples
    --------
    >>> from sklearn_mmfusion import TextCleaner
    >>> texts = ["<p>Caf\u00e9 &amp; bar:<br>see https://example.com/menu!</p>", None]
    >>> TextCleaner().fit_transform(texts).tolist()
    ['Caf\u00e9 & bar: see !', nan]
    >>> cleaner = TextCleaner(strip_accents="unicode", lowercase=True, remove_punctuation=True)
    >>> cleaner.fit_transform(texts).tolist()
    ['cafe bar see', nan]
    """

    _reads = TEXT

    _parameter_constraints = {
        "strip_html": ["boolean"],
        "remove_urls": ["boolean"],
        "strip_accents": [StrOptions({"ascii", "unicode"}), None],
        "lowercase": ["boolean"],
        "stop_words": [StrOptions({"english"}), list, None],
        "remove_punctuation": ["boolean"],
    }

    def __init__(
        self,
        *,
        strip_html=True,
        remove_urls=True,
        strip_accents=None,
        lowercase=False,
        stop_words=None,
        remove_punctuation=False,
    ):
        self.strip_html = strip_html
        self.remove_urls = remove_urls
        self.strip_accents = strip_accents
        self.lowercase = lowercase
        self.stop_words = stop_words
        self.remove_punctuation = remove_punctuation

    def _learn(self, column):
        wrong = [word for word in self.stop_words or () if not isinstance(word, str)]
        if wrong:
            raise TypeError(f"TextCleaner: stop_words holds {wrong[0]!r}; expected words as str.")

    def _clean_column(self, column, table):
        if table:
            return column.gather()
        stop = self._stop_words()
        cells = [None if t is None else self._clean(t, stop) for t in as_texts(column)]
        return pd.array(cells, dtype=pd.StringDtype(storage="python", na_value=np.nan))

    def _stop_words(self):
        words = ENGLISH_STOP_WORDS if self.stop_words == "english" else self.stop_words or ()
        return frozenset(ACCENTS[self.strip_accents](word).casefold() for word in words)

    def _clean(self, text, stop):
        if self.strip_html:
            text = unescape(_HTML.sub(" ", text))
        if self.remove_urls:
            text = _URL.sub(" ", text)
        text = ACCENTS[self.strip_accents](text)
        if self.lowercase:
            text = text.casefold()
        if stop:
            text = _WORD.sub(lambda m: " " if m[0].casefold() in stop else m[0], text)
        if self.remove_punctuation:
            text = _SIGN.sub(_space_for_punctuation, text)
        return " ".join(text.split())


# ------------------------------------------------------------------------------ arrays


class ArrayCleaner(BaseCleaner):
    """Base of the cleaners of cells that are arrays: one cell at a time.

    A subclass defines ``_clean(cells, row, cell, rate, flagged)``, which returns the cleaned cell,
    or None to make it absent. If it appends rows to `flagged`, it also defines
    ``_warning(flagged, n_cells)``, the text of a warning about them.
    """

    # Values of parameters for the rows of a table, which keep their length.
    _of_tables = {}

    def _clean_column(self, column, table):
        if table:
            vars(self).update(self._of_tables)
        cells, cleaned = Cells(self, column), [None] * len(column)
        rates, flagged = {}, []
        for row, given, rate in cells.read_runs():
            cell = cells.shaped(given, row)
            result = self._clean(cells, row, cell, rate, flagged)
            is_flat = result is not None and cell.shape != given.shape
            cleaned[row] = result.reshape(given.shape) if is_flat else result
            rates.setdefault(self._rate_out(rate), row)
        if flagged:
            warn(self._warning(flagged, len(cells)))
        if len(rates) > 1:
            (one, row), (other, other_row), *_ = rates.items()
            raise ValueError(
                f"{type(self).__name__}: the {self._reads.name} in row {row} has {one} Hz, that in "
                f"row {other_row} {other} Hz; expected one sample rate. Clean them in separate "
                "calls, or resample them first."
            )
        if table:
            return _as_rows(cleaned, column)
        remedy = ". For files of several kinds, set 'mode' or 'mono' in file_params."
        with add_error_note(
            f"Raised by {type(self).__name__}, whose cells make one column{remedy}"
        ):
            default = self._rate_out(getattr(column.dtype, "sample_rate", None))
            return TensorArray(cleaned, sample_rate=next(iter(rates), default))

    def _rate_out(self, rate):
        return rate


def _as_rows(cleaned, column):
    """Rows of a table, NaN for those that became absent."""
    rows = np.full((len(column), *column.dtype.cell_shape), np.nan, dtype=np.float32)
    present = [row for row, cell in enumerate(cleaned) if cell is not None]
    if len(present) == len(cleaned):
        return np.stack(cleaned)
    rows[present] = [cleaned[row] for row in present]
    return rows


class SequenceCleaner(ArrayCleaner):
    """Fill missing values of sequences, remove outliers and resample.

    A step whose value is NaN, infinite or an outlier is replaced by interpolation over time, in
    each channel. `fit` learns the usual level and spread of each channel.

    X is a column of sequences of any lengths (arrays of shape (n_steps,) or (n_steps, n_channels)),
    of array files (.npy), or a 2-D array whose rows are sequences of one channel.

    Parameters
    ----------
    outlier_threshold : float, default=None
        Robust z-score from which a value is an outlier: its distance from the median of the
        channel over the training rows, in units of 1.4826 times the median absolute deviation.
        None keeps all finite values.

    interpolation : {"linear", "previous"}, default="linear"
        How to fill: by a line between the known values on both sides, or by the last known value,
        as a live system would. Before the first and after the last known value, the nearest one is
        used; a channel without any gets its training median.

    sample_rate : float, default=None
        Rate that sequences are resampled to, in steps per second. It needs the rate of the column:
        ``TensorArray(cells, sample_rate=...)``. None keeps the rate.

    file_params : dict, default=None
        How files are read, as in `AudioEncoder`.

    Attributes
    ----------
    center_ : ndarray of shape (n_channels,), dtype=float64
        Median of each channel.

    scale_ : ndarray of shape (n_channels,), dtype=float64
        1.4826 times the median absolute deviation of each channel. A channel in which it is 0 has
        no outliers.

    n_features_in_ : int
        Numbers of a sequence where all are of one shape, else 1.

    See Also
    --------
    cut_windows : Cuts a long sequence into cells.

    Notes
    -----
    Sequences without any known value become absent. Cells become float32, or stay float64.
    Resampling uses scipy's polyphase filter, continued by the line from the first to the last value
    at the ends. `fit` holds all training values in memory.

    References
    ----------
    .. [1] Iglewicz, Hoaglin (1993). "How to detect and handle outliers." ASQC Quality Press.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mmfusion import SequenceCleaner
    >>> sequences = [[0.0, np.nan, 2.0, 3.0], [1.0, 2.0, 90.0, 2.0, 1.0], None]
    >>> cleaner = SequenceCleaner(outlier_threshold=5)
    >>> [np.asarray(cell).tolist() for cell in cleaner.fit_transform(sequences)]
    [[0.0, 1.0, 2.0, 3.0], [1.0, 2.0, 2.0, 2.0, 1.0], nan]
    """

    _reads = SEQUENCE

    _parameter_constraints = {
        "outlier_threshold": [Interval(Real, 0, None, closed="neither"), None],
        "interpolation": [StrOptions({"linear", "previous"})],
        "sample_rate": [Interval(Real, 0, None, closed="neither"), None],
        "file_params": [dict, None],
    }

    def __init__(
        self,
        outlier_threshold=None,
        *,
        interpolation="linear",
        sample_rate=None,
        file_params=None,
    ):
        self.outlier_threshold = outlier_threshold
        self.interpolation = interpolation
        self.sample_rate = sample_rate
        self.file_params = file_params

    def _learn(self, column):
        cells, parts = Cells(self, column), []
        for row, cell, _ in cells.read_runs():
            values = _as_channels(cells.shaped(cell, row))
            if parts and values.shape[1] != parts[0].shape[1]:
                raise cells.error(row, _channel_message(values, parts[0].shape[1]))
            parts.append(values)
        if not parts:
            raise ValueError("SequenceCleaner: X has no present row; expected at least one.")
        values = np.concatenate(parts).astype(np.float64)
        values[~np.isfinite(values)] = np.nan
        known = ~np.isnan(values).all(axis=0)
        self.center_, self.scale_ = np.zeros((2, values.shape[1]))
        self.center_[known] = np.nanmedian(values[:, known], axis=0)
        deviations = np.abs(values - self.center_)
        self.scale_[known] = TO_DEVIATION * np.nanmedian(deviations[:, known], axis=0)

    def _clean(self, cells, row, cell, rate, flagged):
        values = _as_channels(cell).astype(np.float64)
        if values.shape[1] != len(self.center_):
            raise cells.error(row, _channel_message(values, len(self.center_)))
        known = np.isfinite(values)
        if self.outlier_threshold is not None:
            with np.errstate(invalid="ignore"):
                far = np.abs(values - self.center_) > self.outlier_threshold * self.scale_
            known &= ~(far & (self.scale_ > 0))
        if not known.any():
            return None
        for channel in np.flatnonzero(~known.all(axis=0)):
            values[:, channel] = self._fill(values[:, channel], known[:, channel], channel)
        if self.sample_rate is not None:
            values = self._resample(cells, row, values, rate)
        dtype = np.float64 if cell.dtype == np.float64 else np.float32
        return values.reshape(-1, *cell.shape[1:]).astype(dtype)

    def _fill(self, values, known, channel):
        steps = np.flatnonzero(known)
        if not len(steps):
            return self.center_[channel]
        if self.interpolation == "linear":
            return np.interp(np.arange(len(values)), steps, values[steps])
        before = np.searchsorted(steps, np.arange(len(values)), side="right") - 1
        return values[steps[np.maximum(before, 0)]]

    def _resample(self, cells, row, values, rate):
        if rate is None:
            raise cells.error(
                row,
                f"has no sample rate; sample_rate={self.sample_rate} needs one. Set it with "
                "TensorArray(cells, sample_rate=...).",
            )
        ratio = resampling_ratio(rate, self.sample_rate)
        check_resampled_size(cells, row, values, rate, ratio, "Check the sample rate")
        if len(values) == 1:  # has no line to continue
            return np.repeat(values, -(-ratio.numerator // ratio.denominator), axis=0)
        return signal.resample_poly(
            values, ratio.numerator, ratio.denominator, axis=0, padtype="line"
        )

    def _rate_out(self, rate):
        return rate if self.sample_rate is None else self.sample_rate


def _as_channels(cell):
    """(n_steps,) or (n_steps, n_channels) -> (n_steps, n_channels)."""
    return cell[:, None] if cell.ndim == 1 else cell


def _channel_message(values, expected):
    return (
        f"has {values.shape[1]} channels; expected {expected}, as in the other rows. Clean "
        "sequences of other channels with another SequenceCleaner."
    )


# ------------------------------------------------------------------------------ recordings


FULL_SCALE = 0.99  # 8-bit samples reach 127 / 128
LEVELS = {"peak": -1.0, "rms": -20.0}  # dBFS


class AudioCleaner(ArrayCleaner):
    """Center recordings, cut silence at their ends, set their level and report clipping.

    X is a column of waveforms of any lengths (list of arrays, pandas column), of audio files (paths
    or contents), or a 2-D array whose rows are signals of equal length.

    Parameters
    ----------
    remove_dc : bool, default=True
        Whether to subtract the mean of each recording.

    trim_db : float or None, default=40.0
        Cut samples before the first and after the last one that is less than this far below the
        peak of the recording, in dB. None keeps them. The rows of a table are not cut.

    normalize : {"peak", "rms"} or None, default="peak"
        What to bring to `level`: the largest absolute sample, or the root mean square, but without
        samples beyond -1 and 1. None keeps the level.

    level : float, default=None
        Level in dB relative to full scale, 0 or less; None takes -1 for the peak, -20 for the root
        mean square.

    on_clipping : {"warn", "missing", "ignore"}, default="warn"
        What to do with recordings that are clipped (see `find_clipped`): warn once with their
        number; make them absent too; or nothing.

    file_params : dict, default=None
        How files are read, as in `AudioEncoder`. Decoded recordings are held in memory.

    Attributes
    ----------
    n_features_in_ : int
        Samples of each recording where all are equally long, else 1.

    See Also
    --------
    AudioEncoder : Learns features of recordings; it also resamples.

    Notes
    -----
    Integers are scaled to [-1, 1) by the range of their type; the result is float32. A recording in
    which all samples are equal stays silent: it is neither cut nor amplified.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mmfusion import AudioCleaner
    >>> waves = [[0.0, 0.0, 0.1, -0.1, 0.2, -0.2, 0.0], None]
    >>> cleaned = AudioCleaner(normalize="peak", level=0).fit_transform(waves)
    >>> cleaned[0]
    array([ 0.5, -0.5,  1. , -1. ], dtype=float32)
    """

    _reads = RECORDING
    _of_tables = {"trim_db": None}

    _parameter_constraints = {
        "remove_dc": ["boolean"],
        "trim_db": [Interval(Real, 0, None, closed="neither"), None],
        "normalize": [StrOptions(set(LEVELS)), None],
        "level": [Interval(Real, None, 0, closed="right"), None],
        "on_clipping": [StrOptions({"warn", "missing", "ignore"})],
        "file_params": [dict, None],
    }

    def __init__(
        self,
        *,
        remove_dc=True,
        trim_db=40.0,
        normalize="peak",
        level=None,
        on_clipping="warn",
        file_params=None,
    ):
        self.remove_dc = remove_dc
        self.trim_db = trim_db
        self.normalize = normalize
        self.level = level
        self.on_clipping = on_clipping
        self.file_params = file_params

    def find_clipped(self, X):
        """Find recordings that are clipped.

        These have three or more equal samples in a row at their highest or lowest value, which is
        at least 99 % of full scale.

        Parameters
        ----------
        X : column of recordings or array-like of shape (n_samples, length)

        Returns
        -------
        clipped : ndarray of shape (n_samples,), dtype=bool
            False where the recording is absent.
        """
        check_is_fitted(self)
        column = check_column(self, X, reset=False)
        cells, clipped = Cells(as_fitted(self), column), np.zeros(len(column), dtype=bool)
        for row, cell, _ in cells.read_runs():
            clipped[row] = _is_clipped(_samples(cells, row, cells.shaped(cell, row)))
        return clipped

    def _clean(self, cells, row, cell, rate, flagged):
        samples = _samples(cells, row, cell)
        if self.on_clipping != "ignore" and _is_clipped(samples):
            flagged.append(int(row))
            if self.on_clipping == "missing":
                return None
        if samples.min() == samples.max():
            return samples - samples if self.remove_dc else samples
        if self.remove_dc:
            samples = samples - np.float32(samples.mean(dtype=np.float64))
        size = np.abs(samples)
        if self.trim_db is not None:
            loud = np.flatnonzero(size > size.max() * 10 ** (-self.trim_db / 20))
            samples = samples[loud[0] : loud[-1] + 1]
        return self._at_level(samples, float(size.max()))

    def _at_level(self, samples, peak):
        if self.normalize is None:
            return samples
        level = 10 ** ((LEVELS[self.normalize] if self.level is None else self.level) / 20)
        if self.normalize == "peak":
            return samples * np.float32(level / peak)
        rms = np.sqrt(np.mean(np.square(samples, dtype=np.float64)))
        return samples * np.float32(min(level / rms, 1 / peak))

    def _warning(self, flagged, n_cells):
        end = " and become absent" if self.on_clipping == "missing" else ""
        return (
            f"AudioCleaner: {len(flagged)} of {n_cells} recordings are clipped{end} (first rows "
            f"{flagged[:5]}). Record them at a lower level, or set on_clipping='ignore'; "
            "find_clipped(X) lists all of them."
        )


def _samples(cells, row, cell):
    samples = to_float(cell)
    if not np.isfinite(samples).all():
        raise cells.error(row, cells.not_finite())
    return samples


def _is_clipped(samples):
    for end in (samples.max(), samples.min()):
        at = samples == end
        if abs(end) >= FULL_SCALE and (at[2:] & at[1:-1] & at[:-2]).any():
            return True
    return False


# ------------------------------------------------------------------------------ images


class ImageCleaner(ArrayCleaner):
    """Replace single outlying pixels of images, and make constant images absent.

    A pixel is an outlier if it is brighter, or darker, than all its eight neighbors by far more
    than neighbors usually differ, as with defective sensor elements or transmission errors. It gets
    the median of its neighbors. Lines and edges stay as they are.

    X is a column of images of any sizes (array of shape (n_samples, height, width[, channels]),
    list, pandas column), of image files, or a 2-D array whose rows are flat images of
    `image_shape`.

    Parameters
    ----------
    outlier_threshold : float or None, default=8.0
        Distance from all neighbors, in units of the robust standard deviation of the noise in the
        channel: 1.4826 / sqrt(2) times the median absolute difference of horizontal neighbors, at
        least 1/255 of the range. None keeps all pixels.

    on_constant : {"missing", "keep"}, default="missing"
        What to do with images whose pixels are all equal: make them absent, with a warning that
        counts them, or keep them. In a table, rows that become absent are NaN.

    image_shape : tuple of int, default=None
        Shape of the images that 2-D rows hold; None reads a row as an image one pixel high, whose
        pixels are all kept.

    channel_axis : {"auto", "first", "last"}, default="auto"
        Position of the channels in images with three axes, as in `ImageEncoder`.

    file_params : dict, default=None
        How files are read, as in `ImageEncoder`. Decoded images are held in memory.

    Attributes
    ----------
    n_features_in_ : int
        Pixels of an image where all are of one shape, else 1.

    See Also
    --------
    ImageEncoder : Learns features of images.

    Notes
    -----
    The range is that of the type for 8 and 16 bits, else that of the channel. Types of pixels are
    kept. At the border, the neighbors inside count twice.

    An image that becomes absent in a pipeline before an encoder counts as absent in a
    `FusionTransformer` and in late fusion. For joint networks, clean the column of X first.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mmfusion import ImageCleaner
    >>> images = np.tile(np.arange(0, 40, 10, dtype=np.uint8), (2, 4, 1))
    >>> images[0, 1, 2] = 255
    >>> images[1, :, 2] = 255
    >>> [image[1].tolist() for image in ImageCleaner().fit_transform(images)]
    [[0, 10, 20, 30], [0, 10, 255, 30]]
    """

    _reads = IMAGE

    _parameter_constraints = {
        "outlier_threshold": [Interval(Real, 0, None, closed="neither"), None],
        "on_constant": [StrOptions({"missing", "keep"})],
        "image_shape": [tuple, None],
        "channel_axis": [StrOptions({"auto", "first", "last"})],
        "file_params": [dict, None],
    }

    def __init__(
        self,
        outlier_threshold=8.0,
        *,
        on_constant="missing",
        image_shape=None,
        channel_axis="auto",
        file_params=None,
    ):
        self.outlier_threshold = outlier_threshold
        self.on_constant = on_constant
        self.image_shape = image_shape
        self.channel_axis = channel_axis
        self.file_params = file_params

    def _learn(self, column):
        cells = Cells(self, column)
        self._channels_first = len(cells) > 0 and channels_first(cells.shape(), cells)

    def _clean(self, cells, row, cell, rate, flagged):
        if not np.isfinite(cell).all():
            raise cells.error(row, cells.not_finite())
        if self.outlier_threshold is not None:
            axis = 0 if self._channels_first else -1
            planes = cell[None] if cell.ndim == 2 else np.moveaxis(cell, axis, 0)
            planes = np.stack([_without_outliers(p, self.outlier_threshold) for p in planes])
            cell = planes[0] if cell.ndim == 2 else np.moveaxis(planes, 0, axis)
        if self.on_constant == "missing" and cell.min() == cell.max():
            flagged.append(int(row))
            return None
        return cell

    def _warning(self, flagged, n_cells):
        return (
            f"ImageCleaner: {len(flagged)} of {n_cells} images are constant and become absent "
            f"(first rows {flagged[:5]}). Set on_constant='keep' to keep them."
        )


def _without_outliers(plane, threshold):
    """Replace isolated pixels of one channel by the median of their neighbors."""
    height, width = plane.shape
    values = plane.astype(np.result_type(plane.dtype, np.float32))
    noise = TO_DEVIATION / np.sqrt(2) * np.median(np.abs(np.diff(values))) if width > 1 else 0.0
    is_short = plane.dtype.kind in "iu" and plane.dtype.itemsize < 4
    span = np.iinfo(plane.dtype).max if is_short else values.max() - values.min()
    limit = threshold * max(noise, span / 255)
    padded = np.pad(values, 1, mode="reflect")
    places = [(i, j) for i in range(3) for j in range(3) if (i, j) != (1, 1)]
    around = [padded[i : i + height, j : j + width] for i, j in places]
    high = values > reduce(np.maximum, around) + limit
    low = values < reduce(np.minimum, around) - limit
    rows, columns = np.nonzero(high | low)
    cleaned = plane.copy()
    if len(rows):
        medians = np.median([each[rows, columns] for each in around], axis=0)
        cleaned[rows, columns] = np.rint(medians) if plane.dtype.kind in "iu" else medians
    return cleaned
