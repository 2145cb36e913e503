"""Wrong targets, and unusual but valid ones, at every level."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from sklearn_mmfusion import (
    ImageEncoder,
    JointFusionClassifier,
    JointFusionRegressor,
    LateFusionClassifier,
    LateFusionRegressor,
    NeuralClassifier,
    NeuralRegressor,
)
from tests._registry import (
    MODALITIES,
    N_ROWS,
    SMALL_IMAGE,
    SMALL_JOINT,
    SMALL_NET,
    classes,
    fusion_transformer,
    having,
    images,
    modalities,
    numbers,
    table,
)

PAIR = [("a", "passthrough", [0, 1]), ("b", "passthrough", [2, 3])]
ENCODERS = having("encoder")
NETS = having("net")


def test_whole_numbers_of_a_float_type_are_classes_with_a_warning():
    y = np.arange(24) % 4
    with pytest.warns(
        UserWarning, match="y holds 4 different whole numbers .* target_type"
    ) as seen:
        encoder = ImageEncoder(**SMALL_IMAGE).fit(images(), y.astype(float))
    assert len(seen) == 1
    np.testing.assert_array_equal(encoder.classes_, np.arange(4.0))
    ImageEncoder(**SMALL_IMAGE).fit(images(), y)
    ImageEncoder(**SMALL_IMAGE).fit(images(), pd.Series(y, dtype="Int64"))
    ImageEncoder(**SMALL_IMAGE).fit(images(), classes().astype(float))
    ImageEncoder(**SMALL_IMAGE, target_type="continuous").fit(images(), y.astype(float))
    NeuralClassifier(**SMALL_NET).fit(table(), y.astype(float))


def test_target_type_of_a_fusion_transformer_reaches_its_encoders():
    X, y = modalities(), (np.arange(24) % 4).astype(float)
    fusion = fusion_transformer(random_state=0)
    with pytest.warns(UserWarning, match="set target_type='continuous' on .* FusionTransformer"):
        fusion.fit(X, y)
    fusion.set_params(target_type="continuous", text__target_type="multiclass").fit(X, y)
    kinds = {name: hasattr(each, "classes_") for name, each in fusion.named_transformers_.items()}
    assert kinds == {"image": False, "text": True, "audio": False}
    with pytest.raises(ValueError, match="'target_type' parameter of FusionTransformer must be"):
        fusion.set_params(target_type="numbers").fit(X, y)


def test_advice_names_parameters_that_exist():
    X, y = np.random.default_rng(0).normal(size=(60, 2)), np.arange(60) // 2
    late = LateFusionClassifier(
        [("a", LogisticRegression(), [0]), ("b", LogisticRegression(), [1])]
    )
    joint = JointFusionClassifier([("a", "passthrough", [0, 1])], **SMALL_JOINT)
    for model in (NeuralClassifier(**SMALL_NET), late, joint):
        with pytest.warns(
            UserWarning, match="y holds 30 .* For regression, use a regressor"
        ) as seen:
            model.fit(X, y)
        assert "target_type" not in str(seen[0].message)


@pytest.mark.parametrize("form", ["float64", "Int64"])
def test_late_classifier_does_not_advise_a_regression(form):
    X, y = modalities(), pd.Series(np.arange(24) % 3).astype(form)
    late = LateFusionClassifier([("text", MODALITIES["text"].make(), "text")])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        late.fit(X, y)
    assert late.estimators_[0].target_type == "multiclass"
    joint = JointFusionClassifier(
        [("image", ImageEncoder(**SMALL_IMAGE), ["image"])], **SMALL_JOINT
    )
    late = LateFusionClassifier(
        [("text", late.estimators_[0], "text"), ("joint", joint, ["image"])]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        late.fit(X.dropna(), y[X.notna().all(axis=1)])
    many = LateFusionClassifier([("image", ImageEncoder(**SMALL_IMAGE), "image")])
    with pytest.warns(UserWarning, match="use a regressor") as seen:
        many.fit(modalities(60), np.arange(60) // 2)
    assert sum("whole numbers" in str(each.message) for each in seen) == 1


PAIRS = np.column_stack([classes(), 1 - classes()])
WRONG_TYPES = [
    ("multilabel-indicator", numbers()[:, None] * [1, 2], "'continuous-multioutput'"),
    ("multilabel-indicator", classes(), "'binary'"),
    ("multilabel-indicator", np.arange(24) % 3, "'multiclass'"),
    ("binary", PAIRS, "'multilabel-indicator'"),
    ("binary", np.arange(24) % 3, "'multiclass'; expected 'binary'. Set target_type='auto'"),
    ("multiclass", PAIRS, "'multilabel-indicator'; expected 'binary' or 'multiclass'"),
    ("multiclass", numbers(), "'continuous'"),
]


@pytest.mark.parametrize(("target_type", "y", "found"), WRONG_TYPES)
def test_target_type_is_compared_with_y(target_type, y, found):
    encoder = ImageEncoder(**SMALL_IMAGE, target_type=target_type)
    with pytest.raises(ValueError, match=f"target_type='{target_type}', but y is {found}"):
        encoder.fit(images(), y)


@pytest.mark.parametrize(
    ("target_type", "y"),
    [
        ("binary", classes()),
        ("multiclass", classes()),
        ("multiclass", np.array(["a", "b", "c"])[np.arange(24) % 3]),
        ("multilabel-indicator", PAIRS),
        ("continuous", classes()),
        ("continuous-multioutput", PAIRS),
    ],
)
def test_target_type_may_be_stated(target_type, y):
    encoder = ImageEncoder(**SMALL_IMAGE, target_type=target_type).fit(images(), y)
    assert encoder.predict_head(images()).shape[0] == N_ROWS


def test_target_type_of_a_column_is_compared_with_it():
    y = pd.DataFrame({"a": np.arange(24) % 3, "b": numbers()})
    joint = JointFusionClassifier(PAIR, **SMALL_JOINT, target_type={"a": "binary"})
    with pytest.raises(ValueError, match="target_type='binary', but y is 'multiclass'") as caught:
        joint.fit(table(), y)
    assert "target 'a'" in caught.value.__notes__[0]


def test_target_that_is_never_known():
    y = pd.DataFrame({"a": classes(), "b": np.full(N_ROWS, np.nan)})
    joint = JointFusionClassifier(PAIR, **SMALL_JOINT, target_type={})
    with pytest.raises(ValueError, match="target 'b' is unknown in all 24 rows; .* Drop this"):
        joint.fit(table(), y)


def test_indicators_of_other_numbers_than_0_and_1():
    with pytest.raises(ValueError, match=r"indicator that holds \[1. 2.\]; expected 0 and 1"):
        NeuralClassifier(**SMALL_NET).fit(table(), PAIRS + 1)


def test_numbers_whose_squares_are_zero():
    model = NeuralRegressor(**SMALL_NET)
    with pytest.raises(ValueError, match="NeuralRegressor: y has numbers as small as .*Multiply"):
        model.fit(table(), numbers() * 1e-300)
    scaled = numbers() * 2.0**-400  # exact
    expected = model.fit(table(), numbers()).predict(table()) * 2.0**-400
    np.testing.assert_allclose(model.fit(table(), scaled).predict(table()), expected, rtol=1e-6)


CODES = classes()


WORDS = np.array(["no", "yes"])[CODES]


def polars_labels(values, dtype=None):
    polars = pytest.importorskip("polars")
    dtypes = {"categories": polars.Categorical, "enum": polars.Enum(["yes", "no"])}
    return polars.Series(list(values), dtype=dtypes.get(dtype))


LABEL_FORMS = {
    "Int64": lambda: pd.Series(CODES, dtype="Int64"),
    "boolean": lambda: pd.Series(CODES > 0, dtype="boolean"),
    "array of Int8": lambda: pd.array(CODES, dtype="Int8"),
    "Float64": lambda: pd.Series(CODES, dtype="Float64"),
    "string": lambda: pd.Series(WORDS, dtype="string"),
    "string of Python": lambda: pd.Series(WORDS, dtype="string[python]"),
    "category": lambda: pd.Series(WORDS, dtype="category"),
    "category of numbers": lambda: pd.Categorical(CODES, categories=[2, 1, 0]),
    "big-endian": lambda: CODES.astype(">i4"),
    "big-endian text": lambda: WORDS.astype(">U3"),
    "arrow numbers": lambda: pd.Series(CODES, dtype="int64[pyarrow]"),
    "arrow booleans": lambda: pd.Series(CODES > 0, dtype="bool[pyarrow]"),
    "arrow text": lambda: pd.Series(WORDS, dtype="string[pyarrow]"),
    "dates": lambda: pd.Series(pd.to_datetime(["2026-01-01", "2025-01-01"])[CODES]),
    "polars numbers": lambda: polars_labels(CODES.tolist()),
    "polars booleans": lambda: polars_labels((CODES > 0).tolist()),
    "polars text": lambda: polars_labels(WORDS.tolist()),
    "polars categories": lambda: polars_labels(WORDS.tolist(), "categories"),
    "polars enum": lambda: polars_labels(WORDS.tolist(), "enum"),
}


LABELLED = {
    "head": lambda: NeuralClassifier(**SMALL_NET),
    "joint": lambda: JointFusionClassifier(PAIR, **SMALL_JOINT),
    "late": lambda: LateFusionClassifier([(n, LogisticRegression(), c) for n, _, c in PAIR]),
    "voting": lambda: LateFusionClassifier(
        [(n, LogisticRegression(), c) for n, _, c in PAIR], fusion="vote"
    ),
    "encoder": lambda: ImageEncoder(**SMALL_IMAGE),
}


FEW_FORMS = ("Int64", "boolean", "category", "polars enum")


@pytest.mark.parametrize(
    ("level", "form"),
    [(n, form) for n in LABELLED for form in (LABEL_FORMS if n == "head" else FEW_FORMS)],
)
def test_labels_have_the_dtype_that_logistic_regression_gives_them(level, form):
    y, X = LABEL_FORMS[form](), table()
    expected = LogisticRegression().fit(X, y)
    model = LABELLED[level]()
    if level == "encoder":
        classes_ = model.fit(images(), y).classes_
    else:
        classes_ = model.fit(X, y).classes_
        predicted = model.predict(X)
        assert predicted.dtype == expected.predict(X).dtype
        assert set(predicted) <= set(expected.classes_)
    assert classes_.dtype == expected.classes_.dtype
    np.testing.assert_array_equal(classes_, expected.classes_)


NULLS = ("Int64", "boolean", "string", "category", "polars", "arrow")


@pytest.mark.parametrize(
    ("level", "form"), [(n, f) for n in LABELLED for f in (NULLS if n == "head" else NULLS[:1])]
)
def test_labels_with_a_null_are_refused_with_their_rows(level, form):
    values = [None, *classes()[1:-1].tolist(), None]
    words = [value if value is None else ["no", "yes"][value] for value in values]
    y = {
        "Int64": lambda: pd.array(values, dtype="Int64"),
        "boolean": lambda: pd.Series(values, dtype="boolean"),
        "string": lambda: pd.Series(words, dtype="string"),
        "category": lambda: pd.Categorical(words),
        "polars": lambda: polars_labels(values),
        "arrow": lambda: pd.Series(values, dtype="int64[pyarrow]"),
    }[form]()
    match = r"Input y contains NaN, None or NA in 2 of 24 rows \(first \[0, 23\]\)\. Drop"
    with pytest.raises(ValueError, match=match):
        LABELLED[level]().fit(images() if level == "encoder" else table(), y)


FORMS_OF_NO_LABELS = {
    "mixed": (["a", 1] * 12, r"text and other values, 'a' in row 0 and 1 in row 1; .*astype\(str"),
    "lists": ([["a"], ["a", "b"]] * 12, "a list per row, .*MultiLabelBinarizer"),
    "square": ([["a", "b"]] * 24, "Unknown label type.*MultiLabelBinarizer"),
    "series": (pd.Series([["a"], ["b"]] * 12), "a list per row, .*MultiLabelBinarizer"),
    "sets": ([{"a"}, {"b"}] * 12, "a set per row, .*MultiLabelBinarizer"),
    "complex": (np.arange(24) * 1j, "Complex data not supported: y has dtype complex128"),
    "short": (np.arange(23) % 2, "X has 24 rows, y has 23"),
}


@pytest.mark.parametrize("form", FORMS_OF_NO_LABELS)
@pytest.mark.parametrize("level", [*LABELLED, "feature"])
def test_labels_that_cannot_be_compared_are_refused(level, form):
    y, match = FORMS_OF_NO_LABELS[form]
    X = {"encoder": images(), "feature": modalities()}.get(level, table())
    model = fusion_transformer() if level == "feature" else LABELLED[level]()
    with pytest.raises(ValueError, match=match):
        model.fit(X, y)


@pytest.mark.parametrize(
    "model",
    [
        NeuralRegressor(**SMALL_NET),
        JointFusionRegressor(PAIR, **SMALL_JOINT),
        LateFusionRegressor([("a", Ridge(), [0])]),
    ],
    ids=["head", "joint", "late"],
)
def test_regressors_refuse_labels(model):
    with pytest.raises(ValueError, match="y holds 'a' in row 0; expected numbers .*classifier"):
        model.fit(table(), ["a", "b"] * 12)


def test_row_numbers_of_labels_are_those_of_x():
    X, y = modalities(), np.array(["no", "yes"], dtype=object)[classes()]
    y[[6, 9]] = None
    with pytest.raises(ValueError, match=r"Input y contains NaN, .*\(first \[6, 9\]\)"):
        fusion_transformer().fit(X, y)


@pytest.mark.parametrize("entry", NETS, ids=str)
def test_y_is_none(entry):
    name = type(entry.make()).__name__
    with pytest.raises(ValueError, match=f"{name} estimator requires y to be passed"):
        entry.make().fit(entry.X(), None)


@pytest.mark.parametrize("entry", NETS, ids=str)
@pytest.mark.parametrize("n", [N_ROWS - 1, N_ROWS + 1])
def test_y_of_another_length(entry, n):
    y = np.resize(entry.y(), n)
    with pytest.raises(ValueError, match=f"X has 24 rows, y has {n}"):
        entry.make().fit(entry.X(), y)


@pytest.mark.parametrize("entry", having("classes"), ids=str)
@pytest.mark.parametrize("missing", [None, np.nan, pd.NA], ids=str)
def test_labels_with_a_missing_one(entry, missing):
    y = np.where(entry.y() > 0, "yes", "no").astype(object)
    y[[4, 9]] = missing
    match = r"Input y contains NaN, None or NA in 2 of 2. rows \(first \[4, 9\]\)|in 1 of .*\[9\]"
    with pytest.raises(ValueError, match=match):
        entry.make().fit(entry.X(), y)


@pytest.mark.parametrize("entry", NETS, ids=str)
def test_y_with_nan(entry):
    y = numbers()
    y[4] = np.nan
    with pytest.raises(ValueError, match="Input y contains NaN"):
        entry.make().fit(entry.X(), y)
