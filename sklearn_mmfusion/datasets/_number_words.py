"""Number words zero to nine in sixteen languages and eight scripts, and a clumsy typist."""

import numpy as np

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


def misspell(word, letters, rate, rng):
    """Return `word` with keys hit wrongly.

    Parameters
    ----------
    word : str
        What was meant.
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


def write_digits(digits, *, rate, rng):
    """Write each digit as a misspelt number word of a language drawn at random.

    Parameters
    ----------
    digits : ndarray of shape (n_samples,), dtype=int
        Values from 0 to 9.
    rate : float
        Share of letters that come out wrong.
    rng : numpy.random.RandomState
        Source of randomness.

    Returns
    -------
    texts : list of str
        One word a digit.
    languages : ndarray of shape (n_samples,), dtype=object
        Name of the language of each word.
    """
    letters = {name: "".join(sorted(set("".join(w)))) for name, w in NUMBER_WORDS.items()}
    languages = np.array(LANGUAGES, dtype=object)[rng.randint(len(LANGUAGES), size=len(digits))]
    texts = [
        misspell(NUMBER_WORDS[language][digit], letters[language], rate, rng)
        for digit, language in zip(digits, languages, strict=True)
    ]
    return texts, languages
