"""Real handwritten digits, the same digit dialed, and its name: three modalities, no download."""

import numpy as np
from sklearn.datasets import load_digits

from sklearn_mmfusion.containers import TensorArray
from sklearn_mmfusion.datasets._common import as_bunch, build_frame, draw_seed, stream
from sklearn_mmfusion.datasets._number_words import write_digits
from sklearn_mmfusion.datasets._tones import SAMPLE_RATE, dial, draw_lines

N_LINES, N_TRAIN_LINES = 12, 8
# Chosen so that each modality alone leaves plain scikit-learn models at .65 to .80.
PIXEL_NOISE, TONE_NOISE, CROSSTALK, TYPO_RATE = 0.45, 1.0, 1.2, 0.55

DESCR = """\
The same digit written by hand, dialed and spelled
--------------------------------------------------
1797 rows, ten classes (0 to 9), three modalities:

image  (16, 16) uint8. scikit-learn's `load_digits` (handwriting of 13 people, from the UCI
       repository), doubled in size; a grey 8 x 8 patch at a random place and Gaussian noise
       make it hard.
text   The number's name in one of 16 languages (8 scripts), typed with many mistakes.
audio  int16, 8 kHz, 0.125 to 0.3 s. The key pressed on a telephone with tone dialing, held for
       a part of the recording, under noise and another key that leaks in from elsewhere. Each
       of 12 lines is detuned, dull and humming in its own way.

`groups` tells the line. Rows of lines 0 to 7 are in `train`, of lines 8 to 11 in `test`: the
lines of the test rows are never heard in training. Only the handwriting is real; sound and
spelling are generated from the digit, so modalities are independent given the class. Good for
showing that fusion works and that absent modalities are survived; not for claims about how
modalities interact.
"""


def load_multimodal_digits(*, missing_rate=0.0, random_state=0, return_X_y=False):
    """Load handwritten digits together with dialed and misspelled ones.

    A small three-modality classification problem that needs no download: scikit-learn's real
    handwritten digits with a grey patch and noise, the same digit dialed as touch tones on a
    noisy telephone line, and its name typed clumsily in one of 16 languages. Each modality is
    hard enough to need the others.

    Parameters
    ----------
    missing_rate : float, default=0.0
        Probability that a cell is absent, from 0 to below 1. Every row keeps at least one
        modality. The cells that stay are the same at every rate.
    random_state : int, RandomState instance or None, default=0
        Source of noise, languages, lines and absent cells. The handwriting never changes.
    return_X_y : bool, default=False
        Return `(X, y)` instead of a Bunch.

    Returns
    -------
    data : Bunch
        With the attributes

        data : pandas.DataFrame of shape (1797, 3)
            Columns `image` (`TensorArray` of (16, 16) uint8), `text` (str) and `audio`
            (ragged `TensorArray` of int16 with `sample_rate` 8000).
        target : ndarray of shape (1797,), dtype=int64
            The digit.
        target_names : list of str
            The classes in words.
        groups : ndarray of shape (1797,), dtype=int64
            Telephone line, 0 to 11.
        language : ndarray of shape (1797,), dtype=object
            Language of the text.
        train, test : ndarray of int64
            Positions of the rows of lines 0 to 7, and of lines 8 to 11.
        DESCR : str
            Description.
    (X, y) : tuple
        The first two of these, if `return_X_y`.

    Raises
    ------
    ValueError
        If `missing_rate` is not from 0 to below 1.

    Notes
    -----
    Takes about half a second. Equal `random_state`, equal data.

    References
    ----------
    .. [1] E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine
       Learning Repository, 1998. doi:10.24432/C50P49
    .. [2] ITU-T Recommendation Q.23, "Technical features of push-button telephone sets", 1988.

    Examples
    --------
    >>> from sklearn_mmfusion import load_multimodal_digits
    >>> digits = load_multimodal_digits()
    >>> digits.data.shape
    (1797, 3)
    >>> digits.data["image"].iloc[0].shape
    (16, 16)
    >>> len(digits.train), len(digits.test)
    (1194, 603)
    """
    seed = draw_seed(random_state)
    handwriting = load_digits()
    y = handwriting.target.astype(np.int64)
    groups = stream(seed, "line").randint(N_LINES, size=len(y))
    texts, language = write_digits(y, rate=TYPO_RATE, rng=stream(seed, "text"))
    columns = {
        "image": TensorArray._adopt(_spoil(handwriting.images, stream(seed, "image"))),
        "text": texts,
        "audio": TensorArray(_dial_all(y, groups, stream(seed, "audio")), sample_rate=SAMPLE_RATE),
    }
    return as_bunch(
        build_frame(columns, missing_rate, seed),
        y,
        return_X_y,
        target_names="zero one two three four five six seven eight nine".split(),
        groups=groups,
        language=language,
        train=np.flatnonzero(groups < N_TRAIN_LINES),
        test=np.flatnonzero(groups >= N_TRAIN_LINES),
        DESCR=DESCR,
    )


def _spoil(images, rng):
    """Double the size, cover a quarter with a grey patch, add noise: (n, 16, 16) uint8."""
    large = np.kron(images / images.max(), np.ones((1, 2, 2)))
    for image, (row, column) in zip(large, rng.randint(9, size=(len(large), 2)), strict=True):
        image[row : row + 8, column : column + 8] = 0.5
    large += PIXEL_NOISE * rng.standard_normal(large.shape)
    return np.round(255 * large.clip(0, 1)).astype(np.uint8)


def _dial_all(y, groups, rng):
    """Return one int16 recording a row, each on its line."""
    lines = draw_lines(N_LINES, rng)
    return [
        dial(digit, lines[line], TONE_NOISE, CROSSTALK, rng)
        for digit, line in zip(y, groups, strict=True)
    ]
