"""Loaders of digits that are written, heard and spelled: one from real files, one without."""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from sklearn_mmfusion._validation import draw_seed
from sklearn_mmfusion.containers import TensorArray, multimodal_frame
from sklearn_mmfusion.datasets.shared import as_bunch, build_frame, stream

FILES = ("digits3.npz", "digits3_small.npz")
ARRAYS = ("image", "audio", "audio_offsets", "text", "y", "split", "speaker", "sample_rate")


def load_digits3(path, *, return_X_y=False):
    """Load the `digits3` set from a folder or an `.npz` file.

    Parameters
    ----------
    path : str or pathlib.Path
        Folder with `digits3.npz` or `digits3_small.npz` (the larger one wins), or such a file.
    return_X_y : bool, default=False
        Return `(X, y)` instead of a Bunch.

    Returns
    -------
    data : Bunch
        `data` (columns `image` (28, 28) uint8, `text`, ragged int16 `audio` at 8 kHz), `target`,
        `target_names`, `groups` (the speaker), `train` and `test` (positions of the official
        split) and `DESCR`.
    (X, y) : tuple
        The first two of these, if `return_X_y`.

    Raises
    ------
    FileNotFoundError
        If neither file is there.
    ValueError
        If the file lacks one of the arrays.
    """
    file = find_file(path)
    with np.load(file, allow_pickle=False) as archive:
        lacking = [name for name in ARRAYS if name not in archive]
        if lacking:
            raise ValueError(
                f"{file} lacks the arrays {lacking}; expected those of digits3: {list(ARRAYS)}."
            )
        arrays = {name: archive[name] for name in ARRAYS}
    split = arrays["split"]
    return as_bunch(
        read_frame(arrays),
        arrays["y"].astype(np.int64),
        return_X_y,
        target_names=[str(digit) for digit in range(10)],
        groups=arrays["speaker"],
        train=np.flatnonzero(split == "train"),
        test=np.flatnonzero(split == "test"),
        DESCR=f"digits3: handwritten, spoken and spelled digits, read from {file.name}.",
    )


def find_file(path):
    """Return the file to read; raise with the expected names."""
    path = Path(path)
    if path.is_file():
        return path
    for name in FILES:
        if (path / name).is_file():
            return path / name
    found = (
        f"it holds {sorted(p.name for p in path.iterdir())}" if path.is_dir() else "no such folder"
    )
    raise FileNotFoundError(
        f"No digits3 data at {str(path)!r}: {found}. Expected a folder with {' or '.join(FILES)}."
    )


def read_frame(arrays):
    """Return the frame of the three modalities."""
    starts, stops = arrays["audio_offsets"][:-1], arrays["audio_offsets"][1:]
    audio = [arrays["audio"][a:b] for a, b in zip(starts, stops, strict=True)]
    return multimodal_frame(
        image=TensorArray._adopt(arrays["image"]),
        text=[str(word) for word in arrays["text"]],
        audio=TensorArray(audio, sample_rate=int(arrays["sample_rate"])),
    )


# ------------------------------------------------------------------------------ no download

# fmt: off
NUMBER_WORDS = {
    "arabic": ("صفر", "واحد", "اثنان", "ثلاثة", "أربعة", "خمسة", "ستة", "سبعة", "ثمانية", "تسعة"),
    "chinese": ("零", "一", "二", "三", "四", "五", "六", "七", "八", "九"),
    "dutch": ("nul", "een", "twee", "drie", "vier", "vijf", "zes", "zeven", "acht", "negen"),
    "english": ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    "finnish": ("nolla", "yksi", "kaksi", "kolme", "neljä", "viisi", "kuusi", "seitsemän",
                "kahdeksan", "yhdeksän"),
    "french": ("zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf"),
    "german": ("null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"),
    "greek": ("μηδέν", "ένα", "δύο", "τρία", "τέσσερα", "πέντε", "έξι", "επτά", "οκτώ", "εννέα"),
    "hindi": ("शून्य", "एक", "दो", "तीन", "चार", "पाँच", "छह", "सात", "आठ", "नौ"),
    "indonesian": ("nol", "satu", "dua", "tiga", "empat", "lima", "enam", "tujuh", "delapan",
                   "sembilan"),
    "japanese": ("ぜろ", "いち", "に", "さん", "よん", "ご", "ろく", "なな", "はち", "きゅう"),
    "korean": ("영", "하나", "둘", "셋", "넷", "다섯", "여섯", "일곱", "여덟", "아홉"),
    "polish": ("zero", "jeden", "dwa", "trzy", "cztery", "pięć", "sześć", "siedem", "osiem",
               "dziewięć"),
    "russian": ("ноль", "один", "два", "три", "четыре", "пять", "шесть", "семь", "восемь",
                "девять"),
    "spanish": ("cero", "uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve"),
    "turkish": ("sıfır", "bir", "iki", "üç", "dört", "beş", "altı", "yedi", "sekiz", "dokuz"),
}
# fmt: on

LANGUAGES = tuple(sorted(NUMBER_WORDS))
N_LINES, N_TRAIN_LINES = 12, 8
# Chosen so that each modality alone leaves plain scikit-learn models at .65 to .80: deviation of
# the noise of pixels, and of that of a line relative to the low tone; maximum amplitude of a key
# that leaks in from another line; share of letters that come out wrong.
PIXEL_NOISE, TONE_NOISE, CROSSTALK, TYPO_RATE = 0.45, 1.0, 1.2, 0.55


def misspell(word, letters, rate, rng):
    """Return `word` with typing errors.

    Parameters
    ----------
    word : str
        The intended word.
    letters : str
        Letters of the language, from which wrong ones are drawn.
    rate : float
        Probability that a letter comes out wrong: another one, twice, missing, or swapped with
        the one before it, equally often.
    rng : numpy.random.RandomState
        Source of randomness.

    Returns
    -------
    typed : str
        Never empty.
    """
    typed = []
    for letter in word:
        slip = rng.randint(4) if rng.uniform() < rate else None
        if slip == 0:
            typed.append(letters[rng.randint(len(letters))])
        elif slip == 1:
            typed.extend((letter, letter))
        elif slip == 3:
            typed.insert(max(len(typed) - 1, 0), letter)
        elif slip is None:
            typed.append(letter)
    return "".join(typed) or letters[rng.randint(len(letters))]


def write_digits(digits, rng):
    """Write each digit as a misspelled number word of a language drawn at random.

    Parameters
    ----------
    digits : ndarray of shape (n_samples,), dtype=int
        Values from 0 to 9.
    rng : numpy.random.RandomState
        Source of randomness.

    Returns
    -------
    texts : list of str
        One word per digit.
    languages : ndarray of shape (n_samples,), dtype=object
        Name of the language of each word.
    """
    letters = {name: "".join(sorted(set("".join(w)))) for name, w in NUMBER_WORDS.items()}
    languages = np.array(LANGUAGES, dtype=object)[rng.randint(len(LANGUAGES), size=len(digits))]
    texts = [
        misspell(NUMBER_WORDS[language][digit], letters[language], TYPO_RATE, rng)
        for digit, language in zip(digits, languages, strict=True)
    ]
    return texts, languages


SAMPLE_RATE = 8000
# Key -> (row, column) of the pad; 0 sits below 8.
ROW_HZ = np.array([941, 697, 697, 697, 770, 770, 770, 852, 852, 852])
COLUMN_HZ = np.array([1336, 1209, 1336, 1477, 1209, 1336, 1477, 1209, 1336, 1477])


def draw_lines(rng):
    """Draw the characteristics of the telephone lines.

    Parameters
    ----------
    rng : numpy.random.RandomState
        Source of randomness.

    Returns
    -------
    lines : list of dict
        Detuning (ratio), twist (level of the high tone against the low one), smoothing of the
        line (0 none, towards 1 dull), frequency and level of its hum, and level of its noise.
    """
    return [
        {
            "detune": rng.uniform(0.985, 1.015),
            "twist": rng.uniform(0.6, 1.6),
            "dullness": rng.uniform(0.0, 0.5),
            "hum_hz": rng.uniform(90, 400),
            "hum": rng.uniform(0.2, 1.0),
            "noise": rng.uniform(0.8, 1.25),
        }
        for _ in range(N_LINES)
    ]


def press(digit, line, n_steps, rng):
    """Return the two tones of a key, of amplitude 1, held for a part of `n_steps` samples."""
    held = int(n_steps * rng.uniform(0.4, 0.7))
    start = rng.randint(n_steps - held)
    t = np.arange(held) / SAMPLE_RATE
    low, high = (2 * np.pi * line["detune"] * hz[digit] for hz in (ROW_HZ, COLUMN_HZ))
    phases = rng.uniform(0, 2 * np.pi, size=2)
    sound = np.zeros(n_steps)
    sound[start : start + held] = np.sin(low * t + phases[0])
    sound[start : start + held] += line["twist"] * np.sin(high * t + phases[1])
    return sound


def dial(digit, line, rng):
    """Dial one digit on a line.

    Parameters
    ----------
    digit : int
        The key, 0 to 9.
    line : dict
        One of `draw_lines`.
    rng : numpy.random.RandomState
        Source of randomness.

    Returns
    -------
    recording : ndarray of shape (n_steps,), dtype=int16
        0.125 to 0.3 s at 8 kHz; the key is held for less than three quarters of it.
    """
    n_steps = rng.randint(1000, 2400)
    t = np.arange(n_steps) / SAMPLE_RATE
    sound = press(digit, line, n_steps, rng)
    sound += rng.uniform(0, CROSSTALK) * press(rng.randint(10), line, n_steps, rng)
    hum = 2 * np.pi * line["hum_hz"] * t + rng.uniform(0, 2 * np.pi)
    sound += line["hum"] * np.sin(hum)
    sound += TONE_NOISE * line["noise"] * rng.standard_normal(n_steps)
    sound[1:] = (1 - line["dullness"]) * sound[1:] + line["dullness"] * sound[:-1]
    level = rng.uniform(0.1, 0.5) / np.abs(sound).max()
    return np.round(32767 * level * sound).astype(np.int16)


DESCR = """\
The same digit written by hand, dialed and spelled
--------------------------------------------------
1797 rows, ten classes (0 to 9), three modalities:

image  (16, 16) uint8. scikit-learn's `load_digits` (handwriting of 13 people, from the UCI
       repository), doubled in size; a gray 8 x 8 patch at a random place and Gaussian noise
       make it hard.
text   The number's name in one of 16 languages (8 scripts), typed with many mistakes.
audio  int16, 8 kHz, 0.125 to 0.3 s. The key pressed on a telephone with tone dialing, held for
       a part of the recording, under noise and another key that leaks in from elsewhere. Each
       of 12 lines is detuned, dull and humming in its own way.

`groups` is the line. Rows of lines 0 to 7 are in `train`, of lines 8 to 11 in `test`: the lines of
the test rows do not occur in training. Only the handwriting is real; sound and spelling are
generated from the digit, so modalities are independent given the class. The set shows that fusion
works and tolerates absent modalities; it supports no claims about how modalities interact.
"""


def load_multimodal_digits(*, missing_rate=0.0, random_state=0, return_X_y=False):
    """Load handwritten digits together with dialed and misspelled ones.

    A small three-modality classification problem that needs no download: scikit-learn's real
    handwritten digits with a gray patch and noise, the same digit dialed as touch tones on a
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
    Takes about half a second. The same `random_state` gives the same data.

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
    texts, language = write_digits(y, stream(seed, "text"))
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
    """Double the size, cover a quarter with a gray patch, add noise: (n, 16, 16) uint8."""
    large = np.kron(images / images.max(), np.ones((1, 2, 2)))
    for image, (row, column) in zip(large, rng.randint(9, size=(len(large), 2)), strict=True):
        image[row : row + 8, column : column + 8] = 0.5
    large += PIXEL_NOISE * rng.standard_normal(large.shape)
    return np.round(255 * large.clip(0, 1)).astype(np.uint8)


def _dial_all(y, groups, rng):
    """Return one int16 recording per row, each on its line."""
    lines = draw_lines(rng)
    return [dial(digit, lines[line], rng) for digit, line in zip(y, groups, strict=True)]
