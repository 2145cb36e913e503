"""One line from a frame to an unfitted pipeline: the parts for each kind of column."""

import os
import re
from functools import partial

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    StandardScaler,
    TargetEncoder,
)

from sklearn_mmfusion._decoders import audio_header
from sklearn_mmfusion._file_options import FileOptions
from sklearn_mmfusion._validation import check_choice, closest, warn
from sklearn_mmfusion.compose import FusionTransformer
from sklearn_mmfusion.ensemble import LateFusionClassifier, LateFusionRegressor
from sklearn_mmfusion.feature_extraction import (
    AudioEncoder,
    ImageEncoder,
    PointCloudEncoder,
    SequenceEncoder,
    TextEncoder,
    VideoEncoder,
)
from sklearn_mmfusion.neural_network import (
    JointFusionClassifier,
    JointFusionRegressor,
    NeuralClassifier,
    NeuralRegressor,
)
from sklearn_mmfusion.pipelines.kinds import (
    MAX_LEVELS,
    N_OPENED,
    UNSUPPORTED,
    examine,
)
from sklearn_mmfusion.preprocessing.table import (
    as_levels,
    date_feature_names,
    date_features,
    parse_numbers,
)

MIN_FREQUENCY = 5  # rarer levels share a column: their effect cannot be estimated
# kind -> name of the triple that reads it; None: the column is dropped
TRIPLES = {
    "number": "numbers",
    "boolean": "numbers",
    "date": "dates",
    "category": "categories",
    "code": "categories",
    "free text": "text",
    "image path": "image",
    "images": "image",
    "image sets": "image_set",
    "audio path": "audio",
    "waveforms": "audio",
    "vectors": "vector",
    "point clouds": "point_cloud",
    "sequences": "sequence",
    "clips": "video",
    "video path": "video",
    "array path": None,
    "identifier": None,
    "constant": None,
    UNSUPPORTED: None,
    "drop": None,
}
REFUSED = UNSUPPORTED, "array path"
CHOSEN = "set by the caller"


# ------------------------------------------------------------------------------ parts of tables


def _function(func, names="one-to-one", **kw_args):
    return FunctionTransformer(func, kw_args=kw_args or None, feature_names_out=names)


def _scaled(first):
    """Impute with indicators and standardize, after a first step unless it is None."""
    # a column may be empty in a fold: its place is kept
    imputer = SimpleImputer(add_indicator=True, keep_empty_features=True)
    return make_pipeline(*([] if first is None else [first]), imputer, StandardScaler())


def _numbers_part(columns, kinds, task):
    are_plain = all(
        isinstance(column.dtype, np.dtype)
        and column.dtype.kind in "iuf"
        and not np.isinf(column.whole.to_numpy()).any()
        for column in columns
    )
    if are_plain:
        return _scaled(None)
    forms = {}
    for j, (column, kind) in enumerate(zip(columns, kinds, strict=True)):
        form = column.form[0] if column.texts is not None else "."
        form = "boolean" if kind == "boolean" else form  # "True" in other rows, too
        if form != ".":
            forms[j] = form
    return _scaled(_function(parse_numbers, **({"forms": forms} if forms else {})))


def _dates_part(columns, kinds, task):
    month_first, has_times = [], False
    for j, column in enumerate(columns):
        dates, is_month_first = column.dates
        month_first += [j] * is_month_first
        has_times |= bool((dates.dropna() != dates.dropna().dt.normalize()).any())
    kw_args = {"month_first": tuple(month_first)} if month_first else {}
    if not has_times:
        kw_args["cycles"] = ("year", "week")
    return _scaled(_function(date_features, date_feature_names, **kw_args))


def _categories_part(columns, kinds, task):
    # dense, since not every estimator after the fusion takes sparse features
    one_hot = OneHotEncoder(
        min_frequency=MIN_FREQUENCY, handle_unknown="infrequent_if_exist", sparse_output=False
    )
    return make_pipeline(_function(as_levels), one_hot)


def _many_categories_part(columns, kinds, task):
    target_type = "continuous" if task == "regressor" else "auto"  # whole numbers are no classes
    return make_pipeline(_function(as_levels), TargetEncoder(target_type=target_type))


TABLE_PARTS = {
    "numbers": _numbers_part,
    "dates": _dates_part,
    "categories": _categories_part,
    "many_categories": _many_categories_part,
}


# ------------------------------------------------------------------------------ parts of cells


def _encoder(make, column, file_params, **params):
    return make(file_params=file_params, **params)


def _text_part(column, file_params):
    return TextEncoder(file_params=file_params if column.texts is None else None)


def _audio_part(column, file_params):
    rate = getattr(column.whole.array.dtype, "sample_rate", None)
    is_arrays = column.arrays is not None
    if rate is None and not is_arrays:
        rate = _most_common_rate(column)
    params = {} if rate is None else {"sample_rate": rate}
    # files of one column may have several rates; arrays have one
    return AudioEncoder(file_params=file_params, resample=not is_arrays, **params)


def _most_common_rate(column):
    """Return the most common sample rate of the first files; None if no header can be read."""
    rates = []
    for cell in column.cells[:N_OPENED]:
        source = cell.get("bytes") or cell.get("path") if isinstance(cell, dict) else cell
        try:
            if not isinstance(source, bytes):
                source = os.path.join(column.options.root or "", source)
            rates.append(audio_header(source, column.options)[2])
        except Exception:  # of any type: `fit` reports what is wrong with a file
            continue
    return max(sorted(set(rates)), key=rates.count, default=None)


def _vector_part(column, file_params):
    return _scaled(None)


CELL_PARTS = {
    "image": partial(_encoder, ImageEncoder),
    "image_set": partial(_encoder, ImageEncoder, pooling="mean"),
    "text": _text_part,
    "audio": _audio_part,
    "vector": _vector_part,
    "point_cloud": partial(_encoder, PointCloudEncoder),
    "sequence": partial(_encoder, SequenceEncoder),
    "video": partial(_encoder, VideoEncoder),
}


# ------------------------------------------------------------------------------ the pipeline

HEADS = {"classifier": NeuralClassifier, "regressor": NeuralRegressor}
FUSIONS = {
    "late": {"classifier": LateFusionClassifier, "regressor": LateFusionRegressor},
    "joint": {"classifier": JointFusionClassifier, "regressor": JointFusionRegressor},
}
# Each modality explains a part of a number. A mean of predictions shrinks every part; stacking
# does not (benchmarks/README.md: R2 of .74 against .67 for prices from a name and a table).
STACKED = {"fusion": "stacking"}
# Parameters of fusion and head. Standardized one by one, 512 features of an image would drown a
# title or 64 numbers. With equal blocks, the accuracy on leaf99 was .03 higher and on fashion .07
# (benchmarks/README.md); R2 of a text and a table was .01 lower.
EQUAL_BLOCKS = {"fusion": "weighted"}, {"standardize": False}


def make_multimodal_pipeline(
    X,
    task="classifier",
    *,
    level="feature",
    kinds=None,
    file_params=None,
    random_state=None,
    memory=None,
    verbose=False,
):
    """Make an unfitted pipeline for the columns of a frame.

    Looks at the columns once, see `column_kinds`, and returns an ordinary pipeline: print it,
    search over it, replace its steps.

    Parameters
    ----------
    X : DataFrame or array-like of shape (n_samples, n_columns)
        The training rows, without the target.
    task : {"classifier", "regressor"}, default="classifier"
        What the pipeline predicts: classes or numbers.
    level : {"feature", "late", "joint"}, default="feature"
        Level of fusion: a `FusionTransformer` before a `NeuralClassifier`, a
        `LateFusionClassifier`, or a `JointFusionClassifier`; or those for numbers. At the level
        "feature", all parts have the same weight in a classifier, unless all are parts of a table:
        ``fusion="weighted"`` and ``standardize=False``. The predicted
        numbers of several modalities are stacked at the level "late", which fits each part six
        times; ``set_params(latefusionregressor__fusion="mean")`` fits it once.
    kinds : dict of {column: str}, default=None
        Kinds of single columns, see `column_kinds`, where it decides otherwise. "drop" leaves a
        column out.
    file_params : dict, default=None
        How files are read: the parameter of the encoders, such as ``{"root": "photos"}``.
    random_state : int, RandomState instance or None, default=None
        Seed of all parts.
    memory : str, pathlib.Path, joblib.Memory or None, default=None
        Cache of fitted parts, see `FusionTransformer`.
    verbose : bool, default=False
        Whether to print one line per column with the decision and the reason.

    Returns
    -------
    pipeline : sklearn.pipeline.Pipeline
        The parts are named after the modality:

        - "numbers": numbers, read from texts if necessary, and booleans, imputed with indicators
          and standardized;
        - "dates": days, and sine and cosine of the year, the week and, if there are times, the
          day;
        - "categories": one column per level; levels of fewer than 5 rows share one;
        - "many_categories": columns of more than 40 levels, by the mean of the target;
        - "text", "image", "image_set", "audio", "point_cloud", "sequence", "video": one encoder
          per column;
        - "vector": standardized.

        A name is followed by that of the column (``text_title``) if several columns share it. At
        the levels "late" and "joint", the four parts of tables are one, called "table".

    Raises
    ------
    ValueError
        If an argument has another value than those above, a column is not supported and `kinds`
        has no kind for it, or no column is left.

    Warns
    -----
    UserWarning
        If the shape of a column fits point clouds as well as sequences.

    See Also
    --------
    column_kinds : The kinds and the reasons for them.
    FusionTransformer : Write the list of parts by hand.

    Notes
    -----
    Identifiers and constants are dropped. Free text gets a `TextEncoder`, which reads characters
    as well as words, so that misspelled and unseen words still count. Replace it by a
    `TfidfVectorizer` for speed: ``set_params(fusiontransformer__text=TfidfVectorizer())``. Its
    features are sparse: add a `TruncatedSVD` for estimators that need dense ones.
    skrub's `TableVectorizer` can replace the parts of the table: any transformer fits. With several
    targets, replace "many_categories": scikit-learn's `TargetEncoder` takes one.

    X is not kept. Parts depend on it only in their choice and in how texts are read (decimal mark,
    order of day and month), so that the pipeline can be cross-validated on the same rows.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_mmfusion import make_multimodal_pipeline
    >>> X = pd.DataFrame({"id": range(101, 141), "km": range(0, 80000, 2000)})
    >>> X["bike"] = [f"sports bike of the year {1980 + i}" for i in range(40)]
    >>> X["color"] = ["red", "blue"] * 20
    >>> pipeline = make_multimodal_pipeline(X, "regressor", verbose=True)
    'id': identifier, dropped (all 40 cells differ, and the name 'id' is that of a key)
    'km': number -> numbers (dtype int64, 40 different values)
    'bike': free text -> text (40 different texts in 40 cells, with a median of 6 words)
    'color': category -> categories (2 different texts in 40 cells)
    >>> [name for name, _, _ in pipeline[0].transformers]
    ['numbers', 'categories', 'text']

    Numbers as piecewise-linear functions with knots at quantiles, for outliers and steps:

    >>> from sklearn.preprocessing import SplineTransformer
    >>> spline = SplineTransformer(degree=1, knots="quantile")
    >>> _ = pipeline.set_params(fusiontransformer__numbers__standardscaler=spline)

    A search over the width of the text, and another estimator after the fusion:

    >>> from sklearn.ensemble import HistGradientBoostingRegressor
    >>> from sklearn.model_selection import GridSearchCV
    >>> _ = pipeline.set_params(neuralregressor=HistGradientBoostingRegressor())
    >>> grid = {"fusiontransformer__text__n_components": [50, 100]}
    >>> search = GridSearchCV(pipeline, grid)
    """
    check_choice("make_multimodal_pipeline: task", task, HEADS)
    check_choice("make_multimodal_pipeline: level", level, ["feature", *FUSIONS])
    options = FileOptions.from_dict(file_params, "make_multimodal_pipeline")
    decided, columns = examine(X, options)
    decided = _override(decided, kinds)
    _warn_ambiguous(decided)
    targets = [_triple_name(*pair) for pair in zip(columns, decided["kind"], strict=True)]
    if verbose:
        _print_decisions(decided, targets)
    _refuse(decided, targets)
    by_name = all(isinstance(name, str) for name in decided.index)
    keys = list(decided.index) if by_name else list(range(len(decided)))
    entries = list(zip(keys, columns, decided["kind"], targets, strict=True))
    table = _table_triples(entries, task)
    if level != "feature" and table:
        table = [_joined(table)]
    triples = table + _cell_triples(entries, file_params)
    shared = {"memory": memory, "random_state": random_state}
    if level == "late" and task == "regressor" and len(triples) > 1:
        shared |= STACKED
    if level != "feature":
        return make_pipeline(FUSIONS[level][task](triples, **shared))
    target_type = "continuous" if task == "regressor" else "auto"
    of_fusion, of_head = {}, {}
    if task == "classifier" and len(triples) > len(table):
        of_fusion, of_head = EQUAL_BLOCKS
    fusion = FusionTransformer(triples, target_type=target_type, **shared, **of_fusion)
    return make_pipeline(fusion, HEADS[task](random_state=random_state, **of_head))


def _override(decided, kinds):
    """Set the kinds that the caller chose."""
    for column, kind in (kinds or {}).items():
        label = f"make_multimodal_pipeline: kinds={{{column!r}: {kind!r}}}"
        if column not in decided.index:
            raise ValueError(
                f"{label}: X has no such column, but {list(decided.index)}."
                f"{closest(column, decided.index)}"
            )
        known = [kind for kind in TRIPLES if kind not in REFUSED]
        if kind not in known:
            raise ValueError(f"{label}: expected one of {known}.{closest(kind, known)}")
        decided.loc[column] = [kind, CHOSEN]
    return decided


def _warn_ambiguous(decided):
    """Warn about columns that may be of two kinds, judging by their shape."""
    for column, (kind, reason) in decided.iterrows():
        if kind == "point clouds" and reason != CHOSEN:
            warn(
                f"make_multimodal_pipeline: column {column!r} is read as point clouds, in which "
                f"the order of the points means nothing: {reason}. If it holds sequences, set "
                f"kinds={{{column!r}: 'sequences'}}; kinds={{{column!r}: {kind!r}}} silences this "
                "warning."
            )


def _triple_name(column, kind):
    name = TRIPLES[kind]
    is_many = name == "categories" and column.n_distinct > MAX_LEVELS
    return "many_categories" if is_many else name


def _print_decisions(decided, targets):
    for (name, (kind, reason)), target in zip(decided.iterrows(), targets, strict=True):
        goal = ", dropped" if target is None else f" -> {target}"
        goal = ", refused" if kind in REFUSED else goal
        print(f"{name!r}: {kind}{goal} ({reason})")


def _refuse(decided, targets):
    """Raise if a column is not supported, or none is left."""
    refused = decided[decided["kind"].isin(REFUSED)]
    if len(refused):
        listing = "; ".join(f"{name!r}: {row.reason}" for name, row in refused.iterrows())
        name = refused.index[0]
        raise ValueError(
            f"make_multimodal_pipeline: {len(refused)} of {len(decided)} columns are not "
            f"supported ({listing}). Convert them, or set kinds={{{name!r}: 'drop'}}."
        )
    if all(target is None for target in targets):
        listing = "; ".join(
            f"{name!r}: {row.kind}, {row.reason}" for name, row in decided.iterrows()
        )
        raise ValueError(
            f"make_multimodal_pipeline: no column of {len(decided)} is left ({listing}). Add "
            "columns, or set kinds={column: kind}."
        )


def _table_triples(entries, task):
    triples = []
    for name, make in TABLE_PARTS.items():
        own = [entry for entry in entries if entry[3] == name]
        if own:
            keys, columns, kinds, _ = zip(*own, strict=True)
            triples.append((name, make(columns, kinds, task), list(keys)))
    return triples


def _joined(triples):
    """Join the parts of a table to one triple: late and joint fusion see one modality."""
    keys = [key for _, _, own in triples for key in own]
    by_name = all(isinstance(key, str) for key in keys)
    inner = [
        (name, part, own if by_name else [keys.index(key) for key in own])
        for name, part, own in triples
    ]
    return "table", ColumnTransformer(inner), keys


def _cell_triples(entries, file_params):
    triples, used = [], set(TABLE_PARTS)
    for name, make in CELL_PARTS.items():
        own = [(key, column) for key, column, _, target in entries if target == name]
        for key, column in own:
            unique = name if len(own) == 1 else _unique_name(name, column.name, used)
            triples.append((unique, make(column, file_params), key))
    return triples


def _unique_name(name, column, used):
    """Return an identifier, since names of triples are keywords of set_params."""
    words = re.sub(r"[\W_]+", "_", column).strip("_") or "column"
    unique, i = f"{name}_{words}", 2
    while unique in used:
        unique, i = f"{name}_{words}_{i}", i + 1
    used.add(unique)
    return unique
