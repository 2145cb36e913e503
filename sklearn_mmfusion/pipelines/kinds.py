"""What each column of a frame holds, and why: a table of detectors, tried in order."""

import os
import re
from datetime import date
from functools import cached_property, partial
from numbers import Number

import numpy as np
import pandas as pd

from sklearn_mmfusion._file_formats import file_kind, format_of
from sklearn_mmfusion._file_options import FileOptions
from sklearn_mmfusion.containers import FileArray, TensorArray
from sklearn_mmfusion.containers.arrow import holds_arrow_cells, holds_arrow_sets
from sklearn_mmfusion.containers.conversion import (
    any_polars_column,
    as_column,
    as_table,
    from_pyarrow,
    is_polars_frame,
    polars_frame,
)
from sklearn_mmfusion.containers.file_array import is_content
from sklearn_mmfusion.containers.sets import as_sets, holds_sets
from sklearn_mmfusion.preprocessing.table import (
    BOOLEAN_PAIRS,
    MISSING_WORDS,
    column_numbers,
    parse_dates,
    read_number,
)

SAMPLE_SIZE = 10_000  # rows in which texts and cells are examined: the share of a kind to .01
MOST = 0.9  # share of texts that have to be numbers or dates; the rest becomes missing
MAX_LEVELS = 40  # one column per level up to here; a network learns more from few wide columns
MIN_ROWS = 20  # in fewer rows, different values are no sign of an identifier
# Row numbers of a part of the rows are at least 1 in 4 of the integers they span. 50 draws from 200
# integers all differ once in 500 times.
DENSITY, MIN_PART = 4, 50
ROWS_PER_LEVEL = 5  # fewer rows per text: their characters say more than which text it is
LONG_VECTOR = 8192  # embeddings are shorter; one second of sound at 8 kHz is about as long
N_OPENED = 20  # files whose existence or header is looked up

_OTHER_VIDEO = (".mpg", ".mpeg", ".wmv", ".flv", ".3gp")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://\S+", re.IGNORECASE)
_PHONE = re.compile(r"[+(]?\d[\d ()./-]{5,}\d")
_KEY_NAME = re.compile(
    r"(?:^|[\W_])(?:id|ids|key|guid|uuid|code|zip|zipcode|postcode|postal|plz|phone|tel|fax|sku"
    r"|isbn|ean|gtin|iban)(?:$|[\W_])|[a-z]I[dD]$|^unnamed: \d+$|[a-z]code$",
    re.IGNORECASE,
)


# ------------------------------------------------------------------------------ one column


class Column:
    """One column, with properties for the detectors, each computed once."""

    def __init__(self, series, name, options):
        self.name, self.options = str(name), options
        self.whole, self.dtype = series, series.dtype
        self.n_rows = len(series)
        self.is_object = self.dtype == object
        self.is_categorical = isinstance(self.dtype, pd.CategoricalDtype)

    @cached_property
    def present(self):
        """The present cells of a fixed sample of the rows."""
        rows = np.arange(self.n_rows)
        if self.n_rows > SAMPLE_SIZE:
            rows = np.sort(np.random.default_rng(0).choice(rows, SAMPLE_SIZE, replace=False))
        sample = self.whole.iloc[rows]
        return sample[sample.notna().to_numpy()]

    @cached_property
    def n_present(self):
        return int(self.whole.notna().sum())

    @cached_property
    def cells(self):
        return list(self.present)

    @property
    def n_missing(self):
        return self.n_rows - self.n_present

    @cached_property
    def n_distinct(self):
        """Number of different values in all rows, not in the sample only."""
        return self.whole.nunique()

    @cached_property
    def kind_of_files(self):
        """Kind of most cells as files: "image", "audio", "array", "text", "video", or None."""
        if isinstance(self.whole.array, TensorArray):
            return None
        kinds = [_file_kind(cell) for cell in self.cells]
        best = max(sorted({k for k in kinds if k}), key=kinds.count, default=None)
        return best if best and 2 * kinds.count(best) > len(kinds) else None

    @cached_property
    def arrays(self):
        """The sample as a TensorArray; None if its cells are not arrays; an error if unequal."""
        if isinstance(self.whole.array, TensorArray):
            return self.present.array
        is_arrow = holds_arrow_cells(self.dtype)
        if not is_arrow and not (self.is_object and self.cells and _is_array(self.cells[0])):
            return None
        try:
            column = as_column(self.present)
        except (TypeError, ValueError) as error:
            return error
        return column if isinstance(column, TensorArray) else None

    @cached_property
    def items(self):
        """The items of the sets of the sample; None if its cells are not sets."""
        is_sets = holds_sets(self.present) or holds_arrow_sets(self.dtype)
        return as_sets(as_column(self.present)).items if is_sets else None

    @cached_property
    def texts(self):
        """Stripped texts, with numbers among them written out; None for other cells."""
        is_text = pd.api.types.is_string_dtype(self.dtype) or self.is_categorical
        if not is_text or not all(_is_plain(cell) for cell in self.cells):
            return None
        if not any(isinstance(cell, str) for cell in self.cells) and not self.is_categorical:
            return None  # objects that are all numbers
        return [str(cell).strip() for cell in self.cells]

    @cached_property
    def words(self):
        """The texts that do not mark a missing value."""
        return [t for t in self.texts or () if t.lower() not in MISSING_WORDS]

    @cached_property
    def form(self):
        """How the numbers are written, their share of the texts, and their only unit."""
        best = ".", 0.0, ""
        for form in (",", ".") if _groups_by_point(self.words) else (".", ","):
            read = [read_number(word, form) for word in self.words]
            units = {unit for value, unit in read if value == value}
            share = np.mean([value == value for value, _ in read]) if read else 0.0
            if len(units) == 1 and share > best[1]:
                best = form, float(share), units.pop()
        return best

    @cached_property
    def numbers(self):
        """The present numbers of the sample, also of texts; None if the cells are no numbers."""
        if self.is_categorical or isinstance(self.whole.array, TensorArray | FileArray):
            return None
        is_number = pd.api.types.is_numeric_dtype(self.dtype) and self.dtype.kind != "c"
        is_number |= self.dtype.kind == "m"
        if self.is_object and self.cells and self.texts is None:
            is_number = all(isinstance(cell, Number | pd.Timedelta) for cell in self.cells)
            is_number &= not any(isinstance(cell, complex) for cell in self.cells)
        if self.texts is not None and self.words and self.form[1] >= MOST:
            is_number = True
        if not is_number:
            return None
        values = column_numbers(self.present, self.form[0])
        return values[~np.isnan(values)]

    @property
    def is_whole(self):
        """Whether all numbers are integers, written or stored as such.

        Floats count if cells are missing, since integers then become floats.
        """
        if self.numbers is None or not len(self.numbers):
            return False
        stored = self.dtype.kind in "iu" or self.n_missing or self.texts is not None
        stored |= all(isinstance(cell, int) for cell in self.cells) if self.is_object else False
        return bool(stored) and not self.form[2] and bool((self.numbers % 1 == 0).all())

    @cached_property
    def dates(self):
        """The present cells as dates, and whether their month comes first."""
        dates = parse_dates(self.present)
        if dates.isna().any():
            others = parse_dates(self.present, month_first=True)
            if others.notna().sum() > dates.notna().sum():
                return others, True
        return dates, False

    @cached_property
    def named_key(self):
        return _KEY_NAME.search(self.name) is not None

    @property
    def is_distinct(self):
        return self.n_distinct == self.n_present


def _groups_by_point(words):
    """Whether 1.234 is a thousand and more: other texts are whole, and all decimals are three."""
    grouped = [re.search(r"(?<!\d)\d{1,3}\.\d{3}(?!\d)", word) is not None for word in words]
    whole = [not re.search(r"\d[.,]\d", word) for word in words]
    return any(grouped) and any(whole) and all(g or w for g, w in zip(grouped, whole, strict=True))


def _is_array(cell):
    """Whether a cell is a list, an array of one or more axes, a tensor or a PIL image."""
    if isinstance(cell, list | tuple):
        return True
    if isinstance(cell, str | bytes | Number | np.generic | date):
        return False
    return hasattr(cell, "__array_interface__") or hasattr(cell, "__array__")


def _is_plain(cell):
    return isinstance(cell, str | Number | np.bool_ | pd.Interval)


def _file_kind(cell):
    """Kind of a path by its suffix, or of contents by their first bytes; None for others."""
    if isinstance(cell, dict):
        content = cell.get("bytes") if is_content(cell) else None
        return _file_kind(cell.get("path") if content is None else content)
    if isinstance(cell, bytes | bytearray | memoryview):
        return format_of(cell)[1]
    if not isinstance(cell, str | os.PathLike) or "\n" in os.fspath(cell):
        return None
    if os.path.splitext(os.fspath(cell))[1].lower() in _OTHER_VIDEO:
        return "other video"
    return file_kind(cell)


def _of(part, whole):
    return f"{part:,} of {whole:,}"


def _looked_up(column):
    """State how many of the first paths exist."""
    cells = (column.items or column.cells)[:N_OPENED]
    paths = [os.fspath(cell) for cell in cells if isinstance(cell, str | os.PathLike)]
    if not paths or isinstance(column.whole.array, FileArray):
        return ""
    found = sum(os.path.exists(os.path.join(column.options.root or "", path)) for path in paths)
    where = f"in {column.options.root!r}" if column.options.root else "in the working directory"
    advice = "" if found else "; file_params={'root': folder} sets where paths start"
    return f"; {_of(found, len(paths))} looked up exist {where}{advice}"


# ------------------------------------------------------------------------------ detectors
# Each takes a `Column` and returns the reason for its kind, or None.


def _is_empty(column):
    if column.n_rows == 0:
        return "the frame has no rows"
    return None if column.n_present else f"all {column.n_rows:,} cells are missing"


def _is_address(column):
    if column.texts and np.mean([bool(_ADDRESS.fullmatch(t)) for t in column.texts]) >= MOST:
        return (
            f"most of {len(column.texts):,} texts are addresses such as {column.texts[0][:60]!r}; "
            "download the files first, nothing is fetched"
        )


def _is_other_video(column):
    if column.kind_of_files == "other video":
        return "most cells are paths of videos in formats that are not read; convert them to mp4"


def _is_file(kind, column):
    if column.kind_of_files == kind:
        count = sum(_file_kind(cell) == kind for cell in column.cells)
        what = "contents or paths" if not isinstance(column.cells[0], str) else "paths"
        found = f"{_of(count, len(column.cells))} cells are {what} of {kind} files"
        advice = "; arrays of pixels are an 'image path'" if kind == "array" else ""
        return f"{found}{_looked_up(column)}{advice}"


def _is_image_sets(column):
    if column.items is None:
        return None
    are_files = [_file_kind(item) == "image" for item in column.items]
    if 2 * sum(are_files) > len(column.items):
        found = f"{_of(sum(are_files), len(column.items))} items of lists are paths or contents of"
        return f"{found} image files{_looked_up(column)}"
    if all(_is_array(item) and np.ndim(item) in (2, 3) for item in column.items):
        return f"{len(column.items):,} items of lists are arrays of image shape"


def _is_text_file(column):
    if column.kind_of_files == "text" and not isinstance(column.whole.array, FileArray):
        return (
            "most cells are paths of text files, which are read only from a FileArray; use "
            "FileArray(paths, root=folder)"
        )


def _shape(column):
    """Shape and dtype of the cells in words, e.g. "arrays of shape (?, 3), float32"."""
    dtype = column.arrays.dtype
    shape = ", ".join("?" if n is None else str(n) for n in dtype.cell_shape)
    return f"cells are arrays of shape ({shape}), {dtype.value_dtype}"


def _shaped(detector):
    """Make a detector of one of a TensorArray's shape: called with shape and dtype."""

    def detect(column):
        if not isinstance(column.arrays, TensorArray):
            return None
        dtype = column.arrays.dtype
        if np.dtype(dtype.value_dtype).kind not in "biuf":
            return None
        found = detector(tuple(dtype.cell_shape), np.dtype(dtype.value_dtype), dtype.sample_rate)
        return f"{_shape(column)}{found}" if found is not None else None

    return detect


@_shaped
def _is_images(shape, dtype, rate):
    if rate is not None:
        return None
    if len(shape) == 3 and not {1, 2, 3, 4}.isdisjoint((shape[0], shape[2])):
        return ": height, width and channels"
    is_pixels = dtype.kind in "bu" or None not in shape and min(shape, default=0) >= 8
    return ": height and width" if len(shape) == 2 and is_pixels else None


@_shaped
def _is_clips(shape, dtype, rate):
    if len(shape) == 4 and rate is None:
        return ": frames, height, width and channels"
    is_ragged = len(shape) == 3 and shape[0] is None and None not in shape[1:]
    return ": any number of frames of one size" if is_ragged and dtype.kind in "bu" else None


@_shaped
def _is_point_clouds(shape, dtype, rate):
    is_cloud = len(shape) == 2 and shape[1] == 3 and dtype.kind == "f" and rate is None
    return ": points in three dimensions, or sequences of three channels" if is_cloud else None


@_shaped
def _is_sequences(shape, dtype, rate):
    return ": steps and channels" if len(shape) == 2 and rate is None else None


@_shaped
def _is_waveforms(shape, dtype, rate):
    if rate is not None and len(shape) <= 2:
        return f" at {rate:g} Hz"
    if len(shape) != 1:
        return None
    if shape[0] is None:
        return " of different lengths, as recordings have"
    if dtype == np.int16:
        return ", the dtype of recordings"
    return f", at least {LONG_VECTOR} numbers" if shape[0] >= LONG_VECTOR else None


@_shaped
def _is_vectors(shape, dtype, rate):
    return ": equally many numbers in each row" if len(shape) == 1 else None


def _is_other_array(column):
    if isinstance(column.arrays, Exception):
        return f"cells cannot be joined to one array: {column.arrays}"
    if column.arrays is not None:
        return f"{_shape(column)}, for which no encoder is chosen; write the triple by hand"


def _is_other_object(column):
    is_files = column.kind_of_files is not None
    if not column.is_object or is_files or column.texts is not None or column.numbers is not None:
        return None
    if all(isinstance(cell, date) for cell in column.cells):
        return None
    if all(isinstance(cell, date | str) for cell in column.cells):
        return None
    kinds = sorted({type(cell).__name__ for cell in column.cells})
    return f"cells are of type {', '.join(kinds[:4])}; convert them to numbers, texts or arrays"


def _is_constant(column):
    if column.n_distinct == 1 and not column.n_missing:
        value = repr(column.cells[0])
        return f"all {column.n_rows:,} cells are {value[:60]}"
    if column.texts and not column.words:
        return f"all texts mark missing values, such as {column.texts[0]!r}"


def _is_one_or_missing(column):
    if column.n_distinct == 1 and column.dtype.kind != "M":
        return (
            f"one value, and {_of(column.n_missing, column.n_rows)} cells missing, which may matter"
        )


def _is_declared(column):
    if column.is_categorical and 2 * column.n_distinct <= max(column.n_present, MIN_ROWS):
        order = "ordered" if column.dtype.ordered else "not ordered"
        return f"a categorical column, {order}, of {column.n_distinct:,} levels"


def _is_boolean(column):
    if pd.api.types.is_bool_dtype(column.dtype) and not column.is_categorical:
        return f"dtype {column.dtype}"
    if column.texts is None and column.numbers is not None and column.dtype.kind != "m":
        return "all numbers are 0 or 1" if set(column.numbers) == {0.0, 1.0} else None
    words = {word.lower() for word in column.words}
    pair = next((pair for pair in BOOLEAN_PAIRS if words == set(pair)), None)
    return pair and f"all texts are {pair[0]!r} or {pair[1]!r}"


def _is_date(column):
    if column.dtype.kind == "M" or isinstance(column.dtype, pd.PeriodDtype):
        return f"dtype {column.dtype}"
    is_digits = column.is_whole and len(column.numbers) and column.numbers.min() >= 19_000_101
    if column.texts is None and not is_digits and not column.is_object:
        return None
    if column.numbers is not None and not is_digits:
        return None
    dates, month_first = column.dates
    missing = [isinstance(c, str) and c.strip().lower() in MISSING_WORDS for c in column.cells]
    n_cells = len(dates) - sum(missing)
    count = int(dates.notna().sum())
    if not count or count < MOST * n_cells:
        return None
    order = ", the month first" if month_first else ""
    return f"{_of(count, n_cells)} cells are dates{order}"


def _is_identifier(column):
    if not column.is_distinct or column.n_present < MIN_ROWS:
        return None
    distinct = f"all {column.n_present:,} cells differ"
    if column.is_whole:
        values = column_numbers(column.whole, column.form[0])
        low, high = np.nanmin(values), np.nanmax(values)
        if column.texts and any(re.match(r"0\d", text) for text in column.texts):
            return f"{distinct}, some with leading zeros"
        if column.named_key:
            return f"{distinct}, and the name {column.name!r} is that of a key"
        span, n = high - low + 1, column.n_present
        is_dense = span == n or n >= MIN_PART and span <= DENSITY * n
        is_dense &= not 1900 <= low <= high <= 2100  # years
        return f"{distinct}: integers from {low:.0f} to {high:.0f}" if is_dense else None
    if column.texts is None or column.numbers is not None:
        return None
    if _share(column, _is_token) >= MOST:
        return f"{distinct}: single words with digits, such as {column.texts[0][:40]!r}"


def _is_token(text):
    is_word = " " not in text and any(c.isdigit() for c in text)
    return is_word or _PHONE.fullmatch(text) is not None


def _share(column, test):
    """Share of the words for which a test is true."""
    return np.mean([bool(test(word)) for word in column.words]) if column.words else 0.0


def _is_code(column):
    if column.is_whole and column.named_key:
        return f"integers, and the name {column.name!r} is that of a key: their size means nothing"
    if column.texts is None or column.is_categorical:
        return None
    if any(re.fullmatch(r"0\d+", word) for word in column.words) and column.is_whole:
        return "digits with leading zeros, which a number would lose"
    if column.numbers is None and _share(column, _is_token) >= MOST:
        return f"single words with digits, such as {column.words[0][:40]!r}"


def _is_numbered_category(column):
    n = column.n_distinct
    if not column.is_whole or not 3 <= n <= MIN_ROWS or column.n_present < 10 * n:
        return None
    span = column.numbers.max() - column.numbers.min()
    if span >= DENSITY * n:
        return f"{n} different integers over a range of {span:.0f}: they look like numbered levels"


def _is_number(column):
    if column.numbers is None:
        return None
    if column.texts is None:
        infinite = len(column.present) - len(column.numbers)
        more = f"; {infinite:,} infinite values count as missing" if infinite else ""
        what = f"dtype {column.dtype}, {column.n_distinct:,} different values"
        return f"{what}{_dominance(column)}{more}"
    form, _, unit = column.form
    mark = "decimal comma" if form == "," else "decimal point"
    rest = len(column.texts) - len(column.numbers)
    more = "; the others count as missing" if rest else ""
    more = f", unit {unit!r}{more}" if unit else more
    found = f"{len(column.numbers):,} of {len(column.texts):,} texts are numbers"
    return f"{found} with a {mark}{more}"


def _dominance(column):
    counts = column.present.value_counts()
    share = counts.iloc[0] / len(column.present) if len(counts) else 0
    return f"; {share:.1%} of the cells are {counts.index[0]}" if share >= MOST else ""


def _has_few_levels(column):
    if column.texts is None:
        return None
    n, per_level = column.n_distinct, column.n_present / column.n_distinct
    n_words = np.median([len(text.split()) for text in column.texts])
    is_few = n <= MAX_LEVELS and (per_level >= 2 or n_words <= 1 and column.n_present < MIN_ROWS)
    if is_few or n_words < 3 and per_level >= ROWS_PER_LEVEL:
        return f"{n:,} different texts in {column.n_present:,} cells{_dominance(column)}"


def _is_mixed_text(column):
    others = [cell for cell in column.cells if not isinstance(cell, str)]
    if column.texts is not None and column.is_object and others:
        return (
            f"{len(others):,} cells of a column of texts are {type(others[0]).__name__}, which a "
            "text encoder refuses; convert them with X[column].map(str, na_action='ignore')"
        )


def _is_free_text(column):
    if column.texts is None:
        is_file = column.kind_of_files == "text"
        return "a FileArray of text files" if is_file else None
    n_words = np.median([len(text.split()) for text in column.texts])
    return (
        f"{column.n_distinct:,} different texts in {column.n_present:,} cells, with a median of "
        f"{n_words:.0f} words"
    )


UNSUPPORTED = "unsupported"
# (kind, detector) pairs; the first detector that gives a reason decides.
DETECTORS = [
    ("constant", _is_empty),
    (UNSUPPORTED, _is_address),
    (UNSUPPORTED, _is_other_video),
    ("image path", partial(_is_file, "image")),
    ("audio path", partial(_is_file, "audio")),
    ("video path", partial(_is_file, "video")),
    ("array path", partial(_is_file, "array")),
    ("image sets", _is_image_sets),
    (UNSUPPORTED, _is_text_file),
    ("point clouds", _is_point_clouds),
    ("images", _is_images),
    ("clips", _is_clips),
    ("sequences", _is_sequences),
    ("waveforms", _is_waveforms),
    ("vectors", _is_vectors),
    (UNSUPPORTED, _is_other_array),
    (UNSUPPORTED, _is_other_object),
    ("constant", _is_constant),
    ("category", _is_one_or_missing),
    ("category", _is_declared),
    ("boolean", _is_boolean),
    ("date", _is_date),
    ("identifier", _is_identifier),
    ("code", _is_code),
    ("category", _is_numbered_category),
    ("number", _is_number),
    ("category", _has_few_levels),
    (UNSUPPORTED, _is_mixed_text),
    ("free text", _is_free_text),
]


def _kind_of(column):
    """Return the kind of a `Column` and the reason for it."""
    try:
        for kind, detector in DETECTORS:
            reason = detector(column)
            if reason is not None:
                return kind, reason
    except Exception as error:  # cells of any class may raise anything when compared or hashed
        return UNSUPPORTED, f"looking at the cells raised {type(error).__name__}: {error}"
    return UNSUPPORTED, f"dtype {column.dtype}, which no part reads; convert the column"


# ------------------------------------------------------------------------------ column_kinds


def column_kinds(X, *, file_params=None):
    """Decide what each column of a frame holds.

    Parameters
    ----------
    X : DataFrame or array-like of shape (n_samples, n_columns)
        Frames of pandas or polars, tables of pyarrow, 2-D arrays.
    file_params : dict, default=None
        How files are read: the options of encoders, such as ``{"root": "photos"}``.

    Returns
    -------
    kinds : pandas.DataFrame of shape (n_columns, 2)
        One row per column of X, in the same order. The column "reason" is a sentence with the
        numbers that decided; "kind" is one of:

        - "number": also as text, with currency signs, units, percent signs, thousands separators
          or a decimal comma; durations;
        - "boolean": 0 and 1, or words such as "yes" and "no";
        - "category": texts of which few differ, categorical columns, integers with few values far
          apart;
        - "code": texts or integers that name something, such as zip codes;
        - "date": dates and times, also as text;
        - "free text";
        - "image path", "audio path", "video path", "array path": paths or contents of files;
        - "image sets": lists of paths or contents of image files, or of images of several sizes;
        - "images", "waveforms", "vectors", "point clouds", "sequences", "clips": arrays, by their
          shape and dtype;
        - "identifier": row numbers and keys, different in each row;
        - "constant": one value, or none;
        - "unsupported": web addresses, dicts and whatever else no encoder reads.

    See Also
    --------
    make_multimodal_pipeline : Builds a pipeline from these kinds.

    Notes
    -----
    The result depends on the cells only. Of a column of more than 10 000 rows, a fixed random
    sample of 10 000 is examined; different values are counted in all rows. At most 20 paths per
    column are looked up, and no file is opened. Few rows show little: in fewer than 20, no column
    is an identifier.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_mmfusion import column_kinds
    >>> X = pd.DataFrame(
    ...     {
    ...         "photo": ["a.jpg", "b.jpg", "c.jpg", "d.jpg"],
    ...         "price": ["1.200,50 €", "12,00 €", "8,99 €", "n/a"],
    ...         "zip": ["01067", "10115", "01067", "80331"],
    ...         "sold": ["31.12.2024", "01.02.2025", "17.03.2025", None],
    ...     }
    ... )
    >>> column_kinds(X)["kind"]
    photo    image path
    price        number
    zip            code
    sold           date
    Name: kind, dtype: ...
    """
    return examine(X, FileOptions.from_dict(file_params, "column_kinds"))[0]


def examine(X, options):
    """Return the kinds of the columns of X, see `column_kinds`, and the list of its `Column`."""
    X = from_pyarrow(X)
    if is_polars_frame(X):
        X = polars_frame(X, any_polars_column)
    elif not isinstance(X, pd.DataFrame):
        X = pd.DataFrame(as_table(X)).infer_objects()
    columns = [Column(X.iloc[:, j], X.columns[j], options) for j in range(X.shape[1])]
    rows = [_kind_of(column) for column in columns]
    kinds = pd.DataFrame(rows, index=X.columns, columns=["kind", "reason"], dtype=str)
    return kinds, columns
