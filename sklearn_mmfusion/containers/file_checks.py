"""Read all files of a frame once, and list those that are unreadable, odd or suspicious."""

import os
from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from sklearn_mmfusion._decoders import (
    ALLOWED,
    RefusedError,
    opened,
    read_array,
    read_audio,
    read_image,
    read_text,
    read_video,
)
from sklearn_mmfusion._file_formats import content_kind, file_kind, format_of
from sklearn_mmfusion._file_options import FileOptions, check_root
from sklearn_mmfusion._validation import check_real, renumber
from sklearn_mmfusion.containers.conversion import as_frame
from sklearn_mmfusion.containers.file_array import (
    FileArray,
    as_files,
    holds_paths,
    in_threads,
    key_of_source,
)
from sklearn_mmfusion.containers.sets import as_sets, holds_sets
from sklearn_mmfusion.containers.storage import blake

REASONS = (  # in the order of the findings of one cell
    *("not a path", "outside root", "missing", "not a regular file", "too large", "empty"),
    *("unreadable", "unknown suffix", "wrong content", "not finite", "blank", "silent"),
    *("other kind", "other mode", "other size", "other rate", "other channels", "other shape"),
    *("short", "long", "duplicate"),
)
_BATCH = 64  # files between two updates of the progress bar


def check_files(X, *, columns=None, file_params=None, verbose=True):
    """Find the unreadable, odd and suspicious files of a frame before any training.

    Each file is read and decoded once, in threads; no decoded cell is kept.

    Parameters
    ----------
    X : pandas.DataFrame, Series or array-like of shape (n,)
        In a frame, these columns are checked: those of type `FileArray`, and those in which most
        cells are paths with a known suffix, or contents of files. A Series or a list holds paths
        or contents. Cells that are lists of these are checked item by item.
    columns : str or list of str, default=None
        The columns of a frame to check instead.
    file_params : dict, default=None
        How files are read: the options of encoders, such as ``{"root": "photos"}``. The root of
        a `FileArray` takes precedence. "on_error" and "cache_folder" have no effect.
    verbose : bool, default=True
        Whether to show a progress bar if the check takes more than a second.

    Returns
    -------
    findings : pandas.DataFrame
        One row per finding, sorted by column and row; empty if there is none. Absent cells are
        skipped. The columns are:

        - "column": name of the column of X;
        - "row": position in X, from 0; "label": its index label;
        - "path": path of the file, with root; the stored name of a content;
        - "reason": category, see Notes;
        - "readable": whether the file can be decoded;
        - "problem": description, with the error message of the decoder.

    Raises
    ------
    ValueError
        If a frame has no column of files, or lacks one of `columns`.
    ImportError
        If a file needs a package of the extra ``io`` that is not installed.

    See Also
    --------
    FileArray : Column of files.

    Notes
    -----
    Reasons of cells that encoders cannot read:

    ==================  ==========================================================================
    not a path          neither a path nor the content of a file
    outside root        the path is absolute or contains "..", without "outside_root"
    missing             there is no such file
    not a regular file  a folder, pipe or device
    too large           more than "max_bytes" or "max_pixels", as a file or decoded
    empty               a file of 0 bytes, a recording without samples or an array without values
    unreadable          the decoder failed: damaged, cut off, not permitted
    unknown suffix      no decoder is known for it
    ==================  ==========================================================================

    Reasons of suspicious cells, most of which can be read:

    ==================  ==========================================================================
    wrong content       the first bytes show another format than the suffix
    not finite          the array or recording holds NaN or infinity
    blank               an image of one color, an array of one repeated value, a text of white
                        space
    silent              all samples of the recording are equal
    other kind          another kind of file (image, audio, text) than the most common one
    other mode          another mode of image (gray, color, with alpha) than the most common one;
                        only if ``file_params["mode"]`` is "auto"
    other size          an image whose ratio of height to width differs from the median ratio by a
                        factor above 4, or whose height or width is below 1/8 of the median:
                        resizing would distort or enlarge it by more
    other rate          another sample rate than the most common one, or than the column states
                        (not readable then)
    other channels      a recording with another number of channels than the most common one
    other shape         an array whose shape differs from the most common one in other axes than
                        the first
    short, long         a recording whose duration differs from the median by a factor above 10
    duplicate           the same path, or the same content, as in an earlier row of the column
    ==================  ==========================================================================

    "Most common" and medians refer to the readable files of the column. Among equally common
    values, that of the earliest row counts.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import pandas as pd
    >>> from sklearn_mmfusion import check_files
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ["a.npy", "b.npy"]:
    ...         np.save(os.path.join(folder, name), np.arange(3))
    ...     X = pd.DataFrame({"signal": ["a.npy", "b.npy", "c.npy"]}, index=[10, 11, 12])
    ...     findings = check_files(X, file_params={"root": folder})
    >>> findings[["column", "row", "label", "reason"]]
       column  row  label     reason
    0  signal    1     11  duplicate
    1  signal    2     12    missing
    """
    options = FileOptions.from_dict(file_params, "check_files")
    check_root(options, "check_files")
    selected, index = _select(X, columns)
    items = [_one_per_row(column) for column in selected]
    readers = [(column.name, owners, *_files_of(column, options)) for column, owners in items]
    n_files = sum(int((~files.isna()).sum()) for _, _, files, _ in readers)
    with _progress_bar(n_files, verbose) as bar:
        found = [
            (name, owners[row], path, reason, readable, renumber(problem, owners))
            for name, owners, files, refused in readers
            for row, path, reason, readable, problem in sorted(
                [*refused, *_check_column(files, options, bar)],
                key=lambda finding: (finding[0], REASONS.index(finding[2])),
            )
        ]
    return _as_frame(found, index)


def _one_per_row(column):
    """A Series of single files, and the row of each in the given one, which may hold sets."""
    if not holds_sets(column):
        return column, np.arange(len(column))
    sets = as_sets(column.to_numpy(object))
    return pd.Series(sets.items, dtype=object, name=column.name), sets.owners


def _files_of(column, options):
    """Files of a Series, and findings for the cells that are refused."""
    is_files = isinstance(column.array, FileArray)
    files, refused = as_files(column.array if is_files else list(column), options)
    return files, [
        (
            *(row, str(column.iloc[row])[:80], getattr(error, "reason", "not a path"), False),
            str(error).removeprefix(f"row {row}: "),
        )
        for row, error in refused.items()
    ]


def _progress_bar(total, verbose):
    from tqdm import tqdm  # with skorch

    return tqdm(total=total, desc="check_files", unit="file", disable=not verbose, delay=1)


def _as_frame(found, index):
    """Make the frame of findings (column, row, path, reason, readable, problem)."""
    columns, rows, paths, reasons, readable, problems = (
        zip(*found, strict=True) if found else [()] * 6
    )
    rows = np.array(rows, dtype=np.intp)
    labels = index.to_flat_index() if isinstance(index, pd.MultiIndex) else index
    return pd.DataFrame(
        {
            "column": pd.Series(list(columns), dtype=object),
            "row": rows,
            "label": labels.take(rows).array,
            "path": pd.array(paths, dtype="str"),
            "reason": pd.array(reasons, dtype="str"),
            "readable": np.array(readable, dtype=bool),
            "problem": pd.array(problems, dtype="str"),
        }
    )


def _select(X, columns):
    """Return the columns to check as a list of Series, and the index of X."""
    if isinstance(X, str | bytes | os.PathLike | dict):
        raise TypeError(
            f"check_files: X is a {type(X).__name__}; expected a DataFrame, or a Series or list of "
            "paths."
        )
    if getattr(X, "ndim", 1) == 1 and not hasattr(X, "columns"):
        if columns is not None:
            raise ValueError(f"check_files: columns={columns!r}; expected None unless X is a frame")
        X = X if isinstance(X, pd.Series) else pd.Series(_as_cells(X))
        return [X], X.index
    X = X if isinstance(X, pd.DataFrame) else as_frame(X)
    each = [X.iloc[:, j] for j in range(X.shape[1])]
    if columns is None:
        selected = [column for column in each if holds_paths(column)]
        if not selected:
            raise ValueError(
                f"check_files: none of the columns {list(X.columns)} holds paths of files with a "
                "known suffix. Name the columns to check with columns=[...]."
            )
        return selected, X.index
    columns = [columns] if isinstance(columns, str) else list(columns)
    unknown = [name for name in columns if name not in X.columns]
    if unknown:
        raise ValueError(
            f"check_files: X has no columns {unknown}; it has the columns {list(X.columns)}"
        )
    return [column for column in each if column.name in columns], X.index


def _as_cells(X):
    if isinstance(X, pd.api.extensions.ExtensionArray | pd.Index):
        return X
    cells = np.empty(len(X), dtype=object)
    cells[:] = list(X)
    return cells


# -- one file -------------------------------------------------------------------------------------


@dataclass
class _File:
    """Findings and properties of one file; None where it has no such property."""

    problems: dict = field(default_factory=dict)  # reason: problem
    readable: bool = False
    digest: bytes = None  # of the content
    kind: str = None
    mode: str = None
    size: tuple = None
    rate: str = None
    channels: int = None
    seconds: float = None
    shape: str = None  # "?" for the first axis


def _is_uniform(values):
    """Whether all rows of an array (n, ...) of two rows or more are equal."""
    some = values[:: len(values) // 1000 + 1]  # enough to rule out most arrays quickly
    return len(values) > 1 and all((part == values[:1]).all() for part in (some, values))


def _check_not_finite(file, values):
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        file.problems["not finite"] = f"{count} of {values.size} values are NaN or infinite"


def _examine_image(file, content, options, _):
    pixels = read_image(content, replace(options, mode="auto"))
    n_channels = pixels.shape[2] if pixels.ndim == 3 else 1
    file.kind, file.size = "image", pixels.shape[:2]
    if options.mode == "auto":
        file.mode = {3: "RGB", 4: "RGBA"}.get(n_channels, "L")
    if _is_uniform(pixels.reshape(-1, n_channels)):
        file.problems["blank"] = f"all pixels are {pixels[0, 0].tolist()}"


def _examine_audio(file, content, options, stated_rate):
    samples, rate = read_audio(content, replace(options, mono=None))
    if len(samples) == 0:
        raise RefusedError("the recording has no samples", "empty")
    file.kind, file.rate = "audio", f"{rate} Hz"
    file.channels = 1 if samples.ndim == 1 else samples.shape[1]
    file.seconds = len(samples) / rate
    _check_not_finite(file, samples)
    if _is_uniform(samples):
        file.problems["silent"] = f"all samples are {samples[0].tolist()}"
    if stated_rate not in (None, rate):
        message = f"the sample rate is {rate} Hz; the column states {stated_rate} Hz"
        raise RefusedError(message, "other rate")


def _examine_array(file, content, options, _):
    values = read_array(content, options)
    check_real(values.dtype, "the array")
    if values.size == 0:
        raise RefusedError(f"the array has shape {values.shape}: no values", "empty")
    file.shape = "x".join(["?", *map(str, values.shape[1:])]) if values.ndim else "a number"
    _check_not_finite(file, values)
    if _is_uniform(values.reshape(-1)):
        file.problems["blank"] = f"all values are {values.flat[0]}"


def _examine_video(file, content, options, _):
    clip = read_video(content, options)
    file.kind, file.shape = "video", "x".join(["?", *map(str, clip.shape[1:])])
    if _is_uniform(clip.reshape(-1)):
        file.problems["blank"] = f"all pixels are {clip.flat[0]}"


def _examine_text(file, content, options, _):
    file.kind = "text"
    if not read_text(content, options).strip():
        file.problems["blank"] = "the text holds only white space"


_EXAMINE = {
    "image": _examine_image,
    "audio": _examine_audio,
    "video": _examine_video,
    "array": _examine_array,
    "text": _examine_text,
}


def _examine(files, row, options):
    """Read one file of a column and return its findings and properties."""
    source, name = files[row], files.name(row)
    file = _File()
    try:
        with opened(source, options.max_bytes) as (stream, _):
            content = stream.read()
        suffix = os.path.splitext(name)[1].lower()
        kind = file_kind(name)
        if isinstance(source, bytes) and kind != "text":  # any content may be a text
            kind = content_kind(content)
        found, _, suffixes = format_of(content)
        if kind is None:
            looks_like = f"; the content is {found}" if found else ""
            raise RefusedError(
                f"no decoder for the suffix {suffix!r}{looks_like}", "unknown suffix"
            )
        if found and file_kind(name) and suffix not in suffixes:
            file.problems["wrong content"] = f"the suffix is {suffix}; the content is {found}"
        _EXAMINE[kind](file, content, options, files.dtype.sample_rate)
        file.readable, file.digest = True, blake(content)
    except ALLOWED:
        raise
    except (FileNotFoundError, NotADirectoryError):
        where = "" if os.path.isabs(name) else f" in {os.getcwd()!r}"
        is_rooted = files._storage.is_rooted(files._rows[row])
        remedy = "" if is_rooted or not where else "; set file_params={'root': ...}"
        file.problems["missing"] = f"there is no such file{where}{remedy}"
    except RefusedError as error:
        file.problems[error.reason] = str(error)
    except Exception as error:  # decoders raise errors of any type on damaged files
        reason = "wrong content" if file.problems else "unreadable"
        message = getattr(error, "strerror", None) or str(error) or type(error).__name__
        file.problems[reason] = "; ".join([*file.problems.values(), message])
    return file


# -- one column -----------------------------------------------------------------------------------


def _check_column(files, options, bar):
    """Return findings as (row, path, reason, readable, problem)."""
    rows = np.flatnonzero(~files.isna()).tolist()
    keys = {row: (files.name(row), key_of_source(files[row])) for row in rows}
    first = {}  # of equal paths, only the first is read
    for row in rows:
        first.setdefault(keys[row], row)

    def examine(row):
        return _examine(files, row, options)

    read, todo = {}, list(first.values())
    for start in range(0, len(todo), _BATCH):
        batch = todo[start : start + _BATCH]
        read.update(zip(batch, in_threads(examine, batch), strict=True))
        bar.update(len(batch))
    bar.update(len(rows) - len(todo))
    each = {row: read[first[keys[row]]] for row in rows}
    readable = {row: file for row, file in each.items() if file.readable}
    found = [(row, *item) for row, file in each.items() for item in file.problems.items()]
    found += _compare(readable)
    found += _duplicates(readable, keys)
    return [(row, keys[row][0], reason, row in readable, text) for row, reason, text in found]


_COMPARED = {  # reason: property, and a word for it
    "other kind": ("kind", "kind of file"),
    "other mode": ("mode", "mode"),
    "other rate": ("rate", "sample rate"),
    "other channels": ("channels", "number of channels"),
    "other shape": ("shape", "shape"),
}
_MOST_DISTORTION, _MOST_ENLARGEMENT, _MOST_DURATION = 4, 8, 10  # factors


def _values(files, name):
    values = {row: getattr(file, name) for row, file in files.items()}
    return {row: value for row, value in values.items() if value is not None}


def _compare(files):
    """Yield (row, reason, problem) for files that differ from the others; `files` are by row."""
    for reason, (name, word) in _COMPARED.items():
        values = _values(files, name)
        for common, count in Counter(values.values()).most_common(1):
            share = f"it is {common} in {count} of {len(values)} files"
            others = {row: value for row, value in values.items() if value != common}
            yield from (
                (r, reason, f"the {word} is {value}; {share}") for r, value in others.items()
            )
    seconds = _values(files, "seconds")
    middle = np.median([*seconds.values()]) if seconds else 0
    for row, duration in seconds.items():
        if not middle / _MOST_DURATION <= duration <= middle * _MOST_DURATION:
            text = f"it lasts {duration:.4g} s; the median is {middle:.4g} s"
            yield row, "short" if duration < middle else "long", text
    yield from _odd_sizes(_values(files, "size"))


def _odd_sizes(sizes):
    middle = np.median([*sizes.values()], axis=0) if sizes else None
    ratio = np.median([height / width for height, width in sizes.values()]) if sizes else None
    for row, (height, width) in sizes.items():
        distortion = height / width / ratio
        is_distorted = not 1 / _MOST_DISTORTION <= distortion <= _MOST_DISTORTION
        if (
            is_distorted
            or height < middle[0] / _MOST_ENLARGEMENT
            or width < middle[1] / _MOST_ENLARGEMENT
        ):
            medians = f"{middle[0]:g} x {middle[1]:g}, and that of height / width {ratio:.3g}"
            yield row, "other size", f"it has {height} x {width} pixels; the median is {medians}"


def _duplicates(files, keys):
    """Yield (row, reason, problem) for files with the path or content of an earlier one."""
    first = {}
    for row, file in files.items():
        earlier = first.setdefault(file.digest, row)
        if earlier != row:
            what = "path" if keys[row] == keys[earlier] else "content"
            yield row, "duplicate", f"the same {what} as in row {earlier}"
