"""Recordings -> log-mel frames or cepstral coefficients."""

from fractions import Fraction
from functools import lru_cache
from numbers import Integral, Real

import numpy as np
from scipy import fft, signal
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from sklearn_mmfusion._sklearn import Interval, StrOptions, _fit_context
from sklearn_mmfusion._validation import (
    all_or_nothing,
    as_fitted,
    import_extra,
    remember_params,
    warn,
)
from sklearn_mmfusion.containers.cells import CellKind, Cells
from sklearn_mmfusion.containers.column_input import check_column, is_table, readable_cells
from sklearn_mmfusion.containers.tensor_array import join_cells

BLOCK = 1 << 18  # samples that go through one FFT; longer recordings are cut into such pieces

RECORDING = CellKind(
    "recording",
    shapes=((None,),),
    expected="(n_samples,). Average the channels, or encode images with an ImageEncoder",
    value="sample",
    files="audio",
)


def to_float(samples):
    """Bring samples of any type to float32, integers to [-1, 1) as in wav files.

    Parameters
    ----------
    samples : ndarray of shape (n_samples,)

    Returns
    -------
    samples : ndarray of shape (n_samples,), dtype=float32
    """
    kind = samples.dtype.kind
    if kind not in "iu":
        return samples.astype(np.float32, copy=False)
    # Nobody records 64 bits: such numbers are 16-bit samples that passed through a list.
    half = 2.0 ** (8 * min(samples.dtype.itemsize, 4) - 1 if samples.dtype.itemsize < 8 else 15)
    silence = half if kind == "u" else 0.0  # unsigned samples swing about the middle
    scaled = np.empty(samples.shape, dtype=np.float32)
    for start in range(0, len(samples), BLOCK):  # in pieces: float64 takes twice the memory
        piece = samples[start : start + BLOCK].astype(np.float64)
        scaled[start : start + BLOCK] = (piece - silence) / half
    return scaled


def check_peaks(peaks, estimator):
    """Warn if 32-bit samples use only 16 bits.

    Parameters
    ----------
    peaks : list of int
        The largest absolute sample of each recording of type int32.
    estimator : estimator
    """
    peak = max(peaks, default=0)
    if 0 < peak < 1 << 16:
        warn(
            f"{type(estimator).__name__}: samples have type int32, whose full scale is "
            f"2^31, but their peak is {peak}, below 2^16: near silence. Convert 16-bit samples "
            "with astype(np.int16)."
        )


@lru_cache(maxsize=16)
def taper(n_fft):
    """Periodic Hann window: ndarray of shape (n_fft,), dtype=float32."""
    return signal.get_window("hann", n_fft).astype(np.float32)


@lru_cache(maxsize=16)
def mel_filters(sample_rate, n_fft, n_mels, fmin, fmax):
    """Triangular filters on Slaney's mel scale, each of unit area.

    Linear below 1 kHz, logarithmic above (Slaney, 1998, "Auditory Toolbox").

    Parameters
    ----------
    sample_rate : float
        In Hz.
    n_fft : int
        Window length in samples.
    n_mels : int
        Number of filters.
    fmin, fmax : float
        Lowest and highest frequency in Hz.

    Returns
    -------
    filters : ndarray of shape (n_fft // 2 + 1, n_mels), dtype=float32
    """

    def to_mel(hz):
        hz = np.asarray(hz, dtype=float)
        high = 15 + np.log(np.maximum(hz, 1e-10) / 1000) * 27 / np.log(6.4)
        return np.where(hz < 1000, hz * 3 / 200, high)

    def to_hz(mel):
        return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))

    edges = to_hz(np.linspace(to_mel(fmin), to_mel(fmax), n_mels + 2))
    frequencies = np.fft.rfftfreq(n_fft, 1 / sample_rate)
    widths = np.diff(edges)
    slopes = frequencies[:, None] - edges[None, :]
    triangles = np.minimum(slopes[:, :-2] / widths[:-1], -slopes[:, 2:] / widths[1:])
    areas = (edges[2:] - edges[:-2]) / 2
    return (np.maximum(triangles, 0) / areas).astype(np.float32)


def resampling_ratio(rate, new_rate):
    """Ratio of two rates; of fractional ones to 1e-4, as small numbers keep the filter short."""
    ratio = Fraction(float(new_rate)) / Fraction(float(rate))
    if rate == int(rate) and new_rate == int(new_rate):
        return ratio
    limit = 1 << 12
    while abs(ratio.limit_denominator(limit) / ratio - 1) > 1e-4:
        limit *= 4
    return ratio.limit_denominator(limit)


def check_resampled_size(cells, row, cell, rate, ratio, remedy):
    """Raise, before anything is allocated, if resampling would take too much memory.

    Parameters
    ----------
    cells : Cells
    row : int
        Row of the cell in the column.
    cell : ndarray of shape (n_samples, ...)
    rate : float
        Its sample rate, in Hz.
    ratio : Fraction
        As `resampling_ratio` returns it.
    remedy : str
        For the message.
    """
    limit, n_samples = cells.options.max_bytes, len(cell)
    resampled = -(-n_samples * ratio.numerator // ratio.denominator)
    # float32 samples, and the filter of `resample_poly`, which is designed in float64
    width = 4 * cell.size // n_samples
    size = width * resampled + 8 * (20 * max(ratio.numerator, ratio.denominator) + 1)
    if size > limit:
        raise cells.error(
            row,
            f"has {n_samples} samples at sample_rate={rate:g} Hz, {n_samples / rate:.4g} seconds: "
            f"resampling them to {float(rate * ratio):g} Hz takes {resampled} samples and {size} "
            f"bytes; expected at most {limit}. {remedy}, or raise the limit: "
            f"file_params={{'max_bytes': {size}}}.",
        )


def join_blocks(blocks, width):
    """Concatenate blocks and empty their list, so that memory holds only one block twice."""
    frames = np.empty((sum(map(len, blocks)), width), dtype=np.float32)
    start = 0
    while blocks:
        block = blocks.pop(0)
        frames[start : start + len(block)] = block
        start += len(block)
    return frames


class LogMelSpectrogram(TransformerMixin, BaseEstimator):
    """Turn waveforms into log-mel frames, or into mel-frequency cepstral coefficients (MFCC).

    Hann windows, power spectrum, triangular filters on Slaney's mel scale, natural logarithm.
    By default the mean of each band over the recording is subtracted: it carries the voice and
    the channel rather than the words. With `n_mfcc`, a cosine transform of each frame follows.

    Parameters
    ----------
    sample_rate : float, default=None
        Sampling frequency in Hz. A recording with another rate raises an error, or is resampled.
        None means the rate stored with the column or the first file or, inside an `AudioEncoder`,
        the rate of the encoder.

    n_fft : int, default=None
        Window length in samples; None takes the first power of two of at least 25 ms.

    hop_length : int, default=None
        Step between windows in samples; None takes 10 ms.

    n_mels : int, default=40
        Number of bands.

    n_mfcc : int, default=None
        Number of cepstral coefficients that replace the bands of a frame, at most `n_mels`: the
        first ones of its orthonormal cosine transform (DCT-II). 13 to 20 are usual. None keeps
        the bands.

    fmin : float, default=0.0
        Lowest frequency in Hz.

    fmax : float, default=None
        Highest frequency in Hz; None takes half the sample rate.

    top_db : float, default=40.0
        Bands more than this far below the loudest one of the recording, in dB, are raised to
        that level: levels below it are the room rather than the sound. None keeps all.

    remove_mean : bool, default=True
        Whether to subtract each recording's mean of each band.

    resample : bool or "soxr", default=False
        Whether to resample recordings of another rate. True uses scipy's polyphase filter. "soxr"
        uses the package soxr (extra ``io``), whose filter is sharper: from 44 100 to 16 000 Hz, it
        removes a tone of 8 500 Hz, of which True keeps a fifth.

    max_length : float, default=None
        Seconds of each recording that are read. The rest is cut, with a warning that counts the
        recordings; None reads all.

    file_params : dict, default=None
        How files are read, as in `AudioEncoder`.

    Attributes
    ----------
    sample_rate_ : float
        Sampling frequency used, in Hz.

    n_fft_ : int
        Window length used.

    hop_length_ : int
        Step used.

    n_features_in_ : int
        Samples of each recording where all are equally long, else 1.

    See Also
    --------
    AudioEncoder : Learns features from these frames.

    Notes
    -----
    Integers are scaled to [-1, 1) by the range of their type. Power is floored at 1e-10
    before the logarithm. About 45 microseconds for one second at 8 kHz on one core.

    Coefficients are those of librosa divided by 10 / ln(10), because librosa's logarithm is in dB,
    if ``remove_mean=False`` and `top_db` is equal (80 in librosa).

    References
    ----------
    .. [1] Davis, Mermelstein (1980). "Comparison of parametric representations for monosyllabic
       word recognition." IEEE Transactions on Acoustics, Speech, and Signal Processing 28(4).
       doi:10.1109/TASSP.1980.1163420

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mmfusion import LogMelSpectrogram
    >>> tone = np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)
    >>> frames = LogMelSpectrogram(sample_rate=8000).fit_transform([tone, tone[:4000]])
    >>> [f.shape for f in frames]
    [(101, 40), (51, 40)]
    >>> cepstra = LogMelSpectrogram(sample_rate=8000, n_mfcc=13).fit_transform([tone])
    >>> cepstra[0].shape
    (101, 13)
    """

    wants_column = True
    _reads = RECORDING

    _parameter_constraints = {
        "sample_rate": [Interval(Real, 1, None, closed="left"), None],
        "n_fft": [Interval(Integral, 2, None, closed="left"), None],
        "hop_length": [Interval(Integral, 1, None, closed="left"), None],
        "n_mels": [Interval(Integral, 1, None, closed="left")],
        "n_mfcc": [Interval(Integral, 1, None, closed="left"), None],
        "fmin": [Interval(Real, 0, None, closed="left")],
        "fmax": [Interval(Real, 0, None, closed="neither"), None],
        "top_db": [Interval(Real, 0, None, closed="neither"), None],
        "remove_mean": ["boolean"],
        "resample": ["boolean", StrOptions({"soxr"})],
        "max_length": [Interval(Real, 0, None, closed="neither"), None],
        "file_params": [dict, None],
    }

    def __init__(
        self,
        sample_rate=None,
        *,
        n_fft=None,
        hop_length=None,
        n_mels=40,
        n_mfcc=None,
        fmin=0.0,
        fmax=None,
        top_db=40.0,
        remove_mean=True,
        resample=False,
        max_length=None,
        file_params=None,
    ):
        self.sample_rate = sample_rate
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.n_mels = n_mels
        self.n_mfcc = n_mfcc
        self.fmin = fmin
        self.fmax = fmax
        self.top_db = top_db
        self.remove_mean = remove_mean
        self.resample = resample
        self.max_length = max_length
        self.file_params = file_params

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Check the recordings and settle window and step.

        Parameters
        ----------
        X : sequence of ndarray of shape (length_i,) or array-like of shape (n_samples, length)
            Waveforms, audio files, or None where absent.
        y : Ignored

        Returns
        -------
        self : object
        """
        with all_or_nothing(self):
            self._fit(X)
        return self

    def _fit(self, X):
        column = check_column(self, X, reset=True)
        rate = self.sample_rate or self._stated_rate(Cells(self, column))
        highest = rate / 2
        fmax = highest if self.fmax is None else self.fmax
        if not self.fmin < fmax <= highest:
            raise ValueError(
                f"LogMelSpectrogram: fmin={self.fmin} and fmax={fmax} must satisfy "
                f"fmin < fmax <= sample_rate / 2 = {highest}."
            )
        if self.n_mfcc is not None and self.n_mfcc > self.n_mels:
            raise ValueError(
                f"LogMelSpectrogram: n_mfcc={self.n_mfcc}; expected at most n_mels={self.n_mels}, "
                "the number of bands that the coefficients are computed from."
            )
        remember_params(self)
        self.sample_rate_ = rate
        self.n_fft_ = self.n_fft or 1 << (int(rate * 0.025) - 1).bit_length()
        self.hop_length_ = self.hop_length or max(1, int(rate // 100))
        empty = np.flatnonzero(~self._filters().any(axis=0))
        if len(empty):
            warn(
                f"LogMelSpectrogram: {len(empty)} of n_mels={self.n_mels} bands lie between two "
                f"frequencies of n_fft={self.n_fft_} samples, {rate / self.n_fft_:.4g} Hz apart, "
                f"and stay empty (first {empty[:5].tolist()}). Lower n_mels or raise n_fft."
            )

    def _stated_rate(self, cells):
        """The sample rate that the column or its first file states."""
        rate = cells.column.dtype.sample_rate
        if rate is None and cells.is_file and len(cells):
            rate = cells.read_one(cells.rows[0])[1]
        if rate is None:
            raise ValueError(
                "LogMelSpectrogram: sample_rate=None, and the recordings have no sample rate. "
                "Pass sample_rate=, in Hz, or set it with TensorArray(..., sample_rate=)."
            )
        return rate

    def fit_transform(self, X, y=None):
        """Fit and compute the frames of the same recordings, like ``fit(X).transform(X)``.

        Parameters
        ----------
        X : sequence of ndarray of shape (length_i,) or array-like of shape (n_samples, length)
        y : Ignored

        Returns
        -------
        frames : TensorArray of length n_samples, or ndarray
            See `transform`.
        """
        X = readable_cells(X, self)  # warns once
        return self.fit(X).transform(X)

    def transform(self, X):
        """Compute the frames.

        Parameters
        ----------
        X : sequence of ndarray of shape (length_i,) or array-like of shape (n_samples, length)

        Returns
        -------
        frames : TensorArray of length n_samples, cells of shape (n_frames, n_mels), float32
            With `n_mfcc`, the width is n_mfcc. NA where the recording is absent. A recording of n
            samples gives ``1 + n // hop_length`` frames. A table of numbers, whose rows are equally
            long, gives an ndarray of shape (n_samples, n_frames, n_mels).
        """
        check_is_fitted(self)
        column = check_column(self, X, reset=False)
        cells = Cells(self, column)
        frames = join_cells(*as_fitted(self).compute(cells), ~np.asarray(column.isna()))
        return frames.gather() if is_table(X) else frames

    def compute(self, cells, quiet=False):
        """Compute the frames of some recordings, end to end.

        Parameters
        ----------
        cells : Cells
            Recordings.
        quiet : bool, default=False
            Whether to leave out the warnings.

        Returns
        -------
        frames : ndarray of shape (total, n_mels or n_mfcc), dtype=float32
        counts : ndarray of shape (n,), dtype=int64
            Number of frames of each recording.
        """
        blocks, counts = [], []
        for frames, own_counts in self.iter_frames(cells, quiet):
            blocks.append(frames)
            counts.extend(own_counts)
        return join_blocks(blocks, self.n_mfcc or self.n_mels), np.array(counts, dtype=np.int64)

    def iter_frames(self, cells, quiet=False):
        """Compute the frames of some recordings, a few recordings at a time.

        Parameters
        ----------
        cells : Cells
        quiet : bool, default=False

        Yields
        ------
        frames : ndarray of shape (n_frames, n_mels or n_mfcc), dtype=float32
        counts : ndarray of shape (n,), dtype=int64
            As in `compute`, of the next recordings.
        """
        peaks, cut = [], []
        for rows, waveforms in self._blocks(cells, peaks, cut):
            yield self._frames(cells, rows, waveforms)
        if quiet:
            return
        check_peaks(peaks, cells.estimator)
        if cut:
            warn(
                f"{type(cells.estimator).__name__}: {len(cut)} of {len(cells)} recordings are "
                f"longer than max_length={self.max_length:g} seconds, the longest one "
                f"{max(cut):.4g}; the rest is not read. Raise max_length to read more."
            )

    def _blocks(self, cells, peaks, cut):
        """Group recordings into blocks of about `BLOCK` samples: lists of rows and of waveforms.

        A longer recording is a block by itself. The method appends the peaks of int32 samples to
        `peaks`, and the seconds of recordings that are cut to `cut`.
        """
        block, size = ([], []), 0
        for row, cell, rate in cells.read_runs():
            waveform = self._waveform(cells, row, cell, rate, peaks, cut)
            if len(waveform) > BLOCK:
                if size:
                    yield block
                yield [row], [waveform]
                block, size = ([], []), 0
                continue
            block[0].append(row)
            block[1].append(waveform)
            size += len(waveform)
            if size >= BLOCK:
                yield block
                block, size = ([], []), 0
        if size:
            yield block

    def _waveform(self, cells, row, cell, rate, peaks, cut):
        if cell.ndim != 1 or not len(cell):  # the check itself costs a tenth of a short recording
            cells.check_shape(cell.shape, row)
        if cell.dtype.kind == "i" and cell.dtype.itemsize == 4:
            peaks.append(max(int(cell.max(initial=0)), -int(cell.min(initial=0))))
        own_rate = rate or self.sample_rate_
        if self.max_length is not None:
            n_samples = max(1, round(self.max_length * own_rate))
            if len(cell) > n_samples:
                cut.append(len(cell) / own_rate)
                cell = cell[:n_samples]
        cell = to_float(cell)
        if rate in (None, self.sample_rate_):
            return cell
        if not self.resample:
            raise cells.error(
                row,
                f"has sample_rate={rate} Hz; expected {self.sample_rate_} Hz. Set "
                f"sample_rate={rate} or resample=True, and fit again.",
            )
        ratio = resampling_ratio(rate, self.sample_rate_)
        check_resampled_size(cells, row, cell, rate, ratio, "Check the sample rate, set max_length")
        if self.resample == "soxr":
            soxr = import_extra("soxr", "resample='soxr' (in contrast to resample=True)", "io")
            return soxr.resample(cell, rate, self.sample_rate_)
        return signal.resample_poly(cell, ratio.numerator, ratio.denominator)

    @np.errstate(over="ignore", invalid="ignore")  # `_check_power` raises
    def _frames(self, cells, rows, waveforms):
        """Frames of a run of recordings: (total, n_mels or n_mfcc) and the count of each."""
        lengths = np.array([len(w) for w in waveforms])
        counts = 1 + lengths // self.hop_length_
        levels = np.empty((counts.sum(), self.n_mels), dtype=np.float32)
        own = np.split(levels, np.cumsum(counts)[:-1])
        if lengths[0] > BLOCK:
            finite = self._fill_long(waveforms[0], levels)
        else:
            finite = self._fill(waveforms, lengths, own)
        if not finite:
            row = next(r for r, w in zip(rows, waveforms, strict=True) if not np.isfinite(w).all())
            raise cells.error(row, cells.not_finite())
        self._check_power(cells, rows, waveforms, own)
        np.log(np.maximum(levels, 1e-10, out=levels), out=levels)
        for level in own:
            self._center(level)
        if self.n_mfcc is not None:
            levels = np.concatenate([self._cepstra(level) for level in own])
        return levels, counts

    def _fill(self, waveforms, lengths, levels):
        """Compute the band powers of a few recordings through one FFT.

        Returns
        -------
        finite : bool
            Whether all samples are finite.
        """
        n_fft, hop = self.n_fft_, self.hop_length_
        # Recordings are laid end to end, each starting at a multiple of the step with silence on
        # both sides, so that one strided view holds all windows, and a few that straddle two
        # recordings.
        steps = -(-np.maximum((lengths // hop) * hop + n_fft, n_fft // 2 + lengths) // hop)
        starts = np.cumsum(steps) - steps
        samples = np.zeros(int(steps.sum()) * hop + n_fft, dtype=np.float32)
        for waveform, start in zip(waveforms, starts * hop + n_fft // 2, strict=True):
            samples[start : start + len(waveform)] = waveform
        power, filters = self._power(samples[:-1]), self._filters()
        for level, start in zip(levels, starts, strict=True):
            # One product per recording: a larger one adds in another order, and a recording's
            # frames would depend on its batch in the last bit.
            np.matmul(power[start : start + len(level)], filters, out=level)
        return np.isfinite(samples).all()

    def _fill_long(self, waveform, levels):
        """Compute the band powers of one recording in pieces: its windows take 3 times as much."""
        n_fft, hop, filters = self.n_fft_, self.hop_length_, self._filters()
        n_frames, finite = max(1, BLOCK // hop), True
        for first in range(0, len(levels), n_frames):
            level = levels[first : first + n_frames]
            start = first * hop - n_fft // 2  # silence comes before and after the recording
            samples = np.zeros((len(level) - 1) * hop + n_fft, dtype=np.float32)
            inside = waveform[max(0, start) : start + len(samples)]
            samples[max(0, -start) :][: len(inside)] = inside
            np.matmul(self._power(samples), filters, out=level)
            finite = finite and np.isfinite(samples).all()
        return finite

    def _power(self, samples):
        """Power spectrum of all windows: (n_windows, n_fft // 2 + 1)."""
        windows = np.lib.stride_tricks.sliding_window_view(samples, self.n_fft_)
        spectrum = fft.rfft(windows[:: self.hop_length_] * taper(self.n_fft_), axis=1)
        return spectrum.real**2 + spectrum.imag**2

    def _check_power(self, cells, rows, waveforms, levels):
        """Raise if the power of a recording is infinite."""
        for row, waveform, level in zip(rows, waveforms, levels, strict=True):
            if not np.isfinite(level.sum()):
                raise cells.error(
                    row,
                    f"has samples as large as {np.abs(waveform).max():.2g}, whose power is "
                    "infinite; expected samples from about -1 to 1. Scale the recordings.",
                )

    def _filters(self):
        fmax = float(self.sample_rate_ / 2 if self.fmax is None else self.fmax)
        return mel_filters(self.sample_rate_, self.n_fft_, self.n_mels, float(self.fmin), fmax)

    def _center(self, levels):
        """Floor and center the levels of one recording in place."""
        if self.top_db is not None:
            floor = levels.max() - np.float32(self.top_db * np.log(10) / 10)
            np.maximum(levels, floor, out=levels)
        if self.remove_mean:
            levels -= levels.mean(0)

    def _cepstra(self, levels):
        return fft.dct(levels, norm="ortho")[:, : self.n_mfcc]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = []
        return tags
