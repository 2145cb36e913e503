"""The common checks on every public estimator, and scikit-learn's own on all of them."""

import pickle
from functools import partial

import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy import sparse
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import get_scorer
from sklearn.model_selection import GroupKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from skorch.callbacks import EpochScoring
from torch import nn

import sklearn_mmfusion
from sklearn_mmfusion import (
    AudioEncoder,
    FusionTransformer,
    ImageEncoder,
    JointFusionClassifier,
    JointFusionRegressor,
    LateFusionClassifier,
    LateFusionRegressor,
    NeuralClassifier,
    NeuralRegressor,
    multimodal_frame,
)
from tests._checks import assert_same, cases, output
from tests._registry import (
    ENTRIES,
    MODALITIES,
    N_ROWS,
    NOT_ESTIMATORS,
    SMALL_CNN,
    SMALL_IMAGE,
    SMALL_JOINT,
    SMALL_NET,
    classes,
    having,
    images,
    is_slow,
    modalities,
    numbers,
    table,
    waveforms,
)


def test_registry_is_complete():
    registered = {type(entry.make()).__name__ for entry in ENTRIES}
    assert registered.isdisjoint(NOT_ESTIMATORS)
    assert registered | NOT_ESTIMATORS == set(sklearn_mmfusion.__all__)
    for name in sklearn_mmfusion.__all__:
        public = getattr(sklearn_mmfusion, name)
        is_estimator = isinstance(public, type) and issubclass(public, BaseEstimator)
        assert is_estimator == (name in registered)


@pytest.mark.parametrize(("check", "entry"), cases())
def test_common_check(check, entry):
    check(entry)


# ------------------------------------------------------------------------------ scikit-learn's own


REPEATED_ROWS = (
    "rows repeated make other mini-batches, and other statistics in batch normalization, than rows "
    "weighted; scikit-learn expects the same of its SGD estimators"
)
ON_DENSE = {"check_sample_weight_equivalence_on_dense_data": REPEATED_ROWS}
EXPECTED_FAILURES = {
    ("encoder",): ON_DENSE,
    ("table",): {  # these read sparse features too
        **ON_DENSE,
        "check_sample_weight_equivalence_on_sparse_data": REPEATED_ROWS,
    },
    ("net",): ON_DENSE,
    ("predictor", "columns"): ON_DENSE,  # late fusions, of an encoder
}


def expected_failures(estimator):
    """{check: reason} of scikit-learn's checks that an estimator cannot pass."""
    for tags, failures in EXPECTED_FAILURES.items():
        if type(estimator) in {type(entry.make()) for entry in having(*tags)}:
            return failures
    return {}


def small_estimators():
    """One small estimator of each entry; the fusions over columns that a plain table has."""
    image = ("image", ImageEncoder(**SMALL_IMAGE), slice(None))
    plain = [entry.make() for entry in ENTRIES if "Fusion" not in entry.name and not is_slow(entry)]
    return [
        *plain,
        FusionTransformer([image, ("table", StandardScaler(), slice(None))], random_state=0),
        LateFusionClassifier([image, ("table", LogisticRegression(), slice(None))], random_state=0),
        LateFusionRegressor([image, ("table", Ridge(), slice(None))], random_state=0),
        *small_joints("classifier", ["alone"]),
    ]


def small_joints(kind, networks):
    """Joint networks over a plain table: of the table alone, and of it and an image of it."""
    table = ("table", "passthrough", slice(None))
    image = ("image", ImageEncoder(**SMALL_IMAGE), slice(None))
    cls = {"classifier": JointFusionClassifier, "regressor": JointFusionRegressor}[kind]
    small = {**SMALL_JOINT, "max_epochs": 8, "lr": 0.05}
    # The two networks of two modalities train once, the one of one modality refits as well.
    once = {**small, "max_epochs": 12, "early_stopping": False}
    joints = {
        "alone": cls([table], **small),
        "gated": cls([image, table], **once, fusion="gated"),
        "pretrained": cls([image, table], **once, fusion="logits", pretrain=True),
    }
    return [joints[name] for name in networks]


@parametrize_with_checks(small_estimators(), expected_failed_checks=expected_failures)
def test_scikit_learn_check(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(
    [
        *[entry.make() for entry in ENTRIES if is_slow(entry)],
        *small_joints("classifier", ["gated", "pretrained"]),
        *small_joints("regressor", ["alone", "gated", "pretrained"]),
    ],
    expected_failed_checks=expected_failures,
)
def test_scikit_learn_check_of_others(estimator, check):
    check(estimator)


# ------------------------------------------------------------------------------ targets


TARGETS = {
    "binary": classes,
    "multiclass": lambda: np.arange(N_ROWS) % 3,
    "multilabel-indicator": lambda: np.random.default_rng(0).integers(0, 2, (N_ROWS, 3)),
    "continuous": numbers,
    "continuous-multioutput": lambda: np.column_stack([numbers(), classes() + 0.5]),
}
REFUSED = {
    "multiclass-multioutput": np.arange(2 * N_ROWS).reshape(N_ROWS, 2) % 3,
    "unknown": np.array([object() for _ in range(N_ROWS)]),
}


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize(
    "entry",
    [pytest.param(e, marks=[pytest.mark.slow] * is_slow(e), id=str(e)) for e in having("encoder")],
)
def test_encoders_learn_from_every_type_of_target(entry, kind):
    X, y = entry.X(), TARGETS[kind]()
    features = entry.make().fit(X, y).transform(X)
    assert features.shape == (N_ROWS, 8)
    assert_same(list(entry.make(target_type=kind).fit(X, y).transform(X)), list(features))
    as_list = entry.make().fit(X, y.tolist()).transform(X)
    as_pandas = entry.make().fit(X, pd.DataFrame(y) if y.ndim > 1 else pd.Series(y)).transform(X)
    assert_same(list(as_list), list(features))
    assert_same(list(as_pandas), list(features))


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("entry", having("encoder", "net"), ids=str)
def test_other_types_of_target_are_refused(entry, kind):
    with pytest.raises(ValueError, match=f"Unknown label type.*{kind}"):
        entry.make().fit(entry.X(), REFUSED[kind])


def test_whole_numbers_are_a_regression_target_when_asked():
    X, y = images(), np.arange(N_ROWS) // 2
    encoder = ImageEncoder(**SMALL_IMAGE, target_type="continuous").fit(X, y)
    assert encoder.module_.head.out_features == 1
    assert ImageEncoder(**SMALL_IMAGE).fit(X, y).module_.head.out_features == N_ROWS // 2


@pytest.mark.parametrize("make_y", [sparse.csr_matrix, sparse.csr_array, np.asarray])
def test_multilabel_indicators_may_be_sparse(make_y):
    X, y = table(), np.random.default_rng(0).integers(0, 2, (N_ROWS, 3))
    classifier = NeuralClassifier(**SMALL_NET).fit(X, make_y(y))
    assert classifier.predict(X).shape == (N_ROWS, 3)
    proba = classifier.predict_proba(X)
    np.testing.assert_array_equal(proba > 0.5, classifier.predict(X))
    np.testing.assert_array_equal(proba, NeuralClassifier(**SMALL_NET).fit(X, y).predict_proba(X))


def test_classifier_refuses_numbers_and_regressor_takes_whole_ones():
    with pytest.raises(ValueError, match="Unknown label type: continuous.*use NeuralRegressor"):
        NeuralClassifier(**SMALL_NET).fit(table(), numbers())
    assert NeuralRegressor(**SMALL_NET).fit(table(), classes()).predict(table()).dtype == float


# ------------------------------------------------------------------------------ kinds of arrays


def array_variants(values):
    """The same small whole numbers in other types and layouts: {name: array}."""
    return {
        "float64": values.astype(np.float64),
        "float16": values.astype(np.float16),
        "int32": values.astype(np.int32),
        "big-endian": values.astype(">f4"),
        "fortran": np.asfortranarray(values),
        "negative-stride": np.ascontiguousarray(values[::-1, ::-1])[::-1, ::-1],
        "strided": np.repeat(values, 2, axis=1)[:, ::2],
        "read-only": read_only(values),
    }


def read_only(values):
    values = values.copy()
    values.flags.writeable = False
    return values


ARRAYS = {
    "image": (partial(ImageEncoder, **SMALL_IMAGE), lambda: images().astype(np.float32)),
    "audio": (
        partial(AudioEncoder, **SMALL_CNN),
        lambda: np.round(10 * np.stack([w[:60] for w in waveforms()])),
    ),
    "features": (partial(NeuralClassifier, **SMALL_NET), lambda: np.round(10 * table())),
}


@pytest.mark.parametrize("kind", [*array_variants(np.zeros((2, 2))), "memmap"])
@pytest.mark.parametrize("name", ARRAYS)
def test_other_types_and_layouts_give_the_same_result(name, kind, tmp_path):
    make, data = ARRAYS[name]
    values, y = data(), classes()
    if kind == "memmap":
        np.save(tmp_path / "values.npy", values)
        other = np.load(tmp_path / "values.npy", mmap_mode="r")
    else:
        other = array_variants(values)[kind]
    if name == "audio" and kind == "int32":
        pytest.skip("whole numbers are samples on another scale")
    before = other.copy()
    expected = output(make().fit(values, y), values)
    fitted = make().fit(other, y)
    assert_same(output(fitted, other), expected, rtol=1e-5)
    assert_same(output(fitted, values), expected, rtol=1e-5)
    np.testing.assert_array_equal(other, before)


@pytest.mark.parametrize("name", ARRAYS)
def test_bool_arrays_are_zeros_and_ones(name):
    make, data = ARRAYS[name]
    values, y = data(), classes()
    flags = values > np.median(values)
    expected = output(make().fit(flags.astype(np.float32), y), flags.astype(np.float32))
    assert_same(output(make().fit(flags, y), flags), expected, rtol=1e-5)


def test_uint8_images_equal_float_images():
    expected = output(ImageEncoder(**SMALL_IMAGE).fit(images(), classes()), images())
    floats = images().astype(np.float32)
    fitted = ImageEncoder(**SMALL_IMAGE).fit(floats, classes())
    assert_same(output(fitted, floats), expected, rtol=1e-5)


@pytest.mark.parametrize("entry", having("table"), ids=str)
@pytest.mark.parametrize("container", [sparse.csr_matrix, sparse.csr_array, sparse.coo_array])
def test_sparse_features_equal_dense_ones(entry, container):
    X, y = entry.X() * (entry.X() > 0), entry.y()
    expected = output(entry.make().fit(X, y), X)
    assert_same(output(entry.make().fit(container(X), y), container(X)), expected, rtol=1e-4)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4", bool])
def test_ragged_recordings_of_other_types_give_the_same_result(dtype):
    waves = [np.round(8 * wave) for wave in waveforms()]
    if dtype is bool:
        waves = [wave > 0 for wave in waves]
    expected, other = ([w.astype(d) for w in waves] for d in (np.float32, dtype))
    y = classes()
    features = AudioEncoder(**SMALL_CNN).fit(expected, y).transform(expected)
    assert_same(
        list(AudioEncoder(**SMALL_CNN).fit(other, y).transform(other)), list(features), rtol=1e-5
    )


# ------------------------------------------------------------------------------ containers of X


CONTAINERS = {
    "list": lambda cells: list(cells),
    "object array": lambda cells: as_objects(cells),
    "series": lambda cells: pd.Series(as_objects(cells), index=np.arange(100, 100 + len(cells))),
    "one-column frame": lambda cells: multimodal_frame(x=cells),
    "extension array": lambda cells: multimodal_frame(x=cells)["x"].array,
}


def as_objects(cells):
    objects = np.empty(len(cells), dtype=object)
    objects[:] = list(cells)
    return objects


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("modality", MODALITIES.values(), ids=MODALITIES)
def test_one_modality_comes_in_any_container(modality, container):
    plain = multimodal_frame(x=modality.cells())["x"]
    X = CONTAINERS[container](modality.cells())
    expected = output(modality.make().fit(plain, classes()), plain)
    assert_same(output(modality.make().fit(X, classes()), X), expected)


def test_flat_images_equal_their_image_shape():
    flat = images().reshape(N_ROWS, -1)
    encoder = ImageEncoder(**SMALL_IMAGE, image_shape=(8, 8)).fit(flat, classes())
    expected = output(ImageEncoder(**SMALL_IMAGE).fit(images(), classes()), images())
    assert encoder.n_features_in_ == 64
    assert_same(output(encoder, flat), expected, rtol=1e-5)


@pytest.mark.parametrize("n_channels", [1, 2, 3, 5])
def test_channels_first_equal_channels_last(n_channels):
    last = np.random.default_rng(0).integers(0, 256, (N_ROWS, 9, 8, n_channels), dtype=np.uint8)
    first = np.moveaxis(last, -1, 1)
    y = classes()
    expected = output(ImageEncoder(**SMALL_IMAGE, channel_axis="last").fit(last, y), last)
    fitted = ImageEncoder(**SMALL_IMAGE, channel_axis="first").fit(first, y)
    assert_same(output(fitted, first), expected, rtol=1e-5)
    for X in (last, first):
        assert_same(output(ImageEncoder(**SMALL_IMAGE).fit(X, y), X), expected, rtol=1e-5)


# ------------------------------------------------------------------------------ training


class Plain(nn.Module):
    """A linear model without dropout or normalization."""

    def __init__(self, in_features, n_outputs, bias=True):
        super().__init__()
        self.linear = nn.Linear(in_features, n_outputs, bias=bias)

    def forward(self, features):
        return self.linear(features)


class PlainImages(nn.Module):
    """The mean of each row of pixels, and a linear layer."""

    def __init__(self, in_channels, image_size, out_features):
        super().__init__()
        self.out_features = out_features
        self.linear = nn.Linear(in_channels * image_size[0], out_features)

    def forward(self, pixels):
        return self.linear(pixels.float().mean(3).flatten(1) / 255)


def full_batch(cls, **params):
    settings = {"module": Plain, "max_epochs": 20, "batch_size": 1000, "lr": 0.05}
    return cls(**{**settings, "random_state": 0, **params})


@pytest.mark.parametrize("cls", [NeuralClassifier, NeuralRegressor])
def test_sample_weight_equals_repeated_rows(cls):
    """Full batches and no batch normalization: the weights must do what repetition does."""
    X, y = table(), classes() if cls is NeuralClassifier else numbers()
    counts = np.random.default_rng(0).integers(0, 4, N_ROWS)
    if cls is NeuralRegressor:  # equal weighted and unweighted scale of the target
        counts[:] = 2
        counts[:4] = 0
    weighted = full_batch(cls).fit(X, y, sample_weight=counts)
    repeated = full_batch(cls).fit(np.repeat(X, counts, 0), np.repeat(y, counts))
    assert_same(output(weighted, X), output(repeated, X), rtol=1e-5)


def test_module_may_be_a_class_of_the_user():
    classifier = full_batch(NeuralClassifier, module_params={"bias": False}).fit(table(), classes())
    assert type(classifier.module_) is Plain and classifier.module_.linear.bias is None
    encoder = ImageEncoder(4, module=PlainImages, max_epochs=2, random_state=0)
    features = encoder.fit(images(), classes()).transform(images())
    assert features.shape == (N_ROWS, 4) and type(encoder.module_.encoder) is PlainImages
    again = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(again.transform(images()), features)


@pytest.mark.parametrize(
    ("cls", "y", "scoring"),
    [
        (NeuralClassifier, classes, "accuracy"),
        (NeuralClassifier, lambda: np.array(["no", "yes"])[classes()], "roc_auc"),
        (NeuralClassifier, lambda: np.eye(2, dtype=int)[classes()], "f1_macro"),
        (NeuralRegressor, lambda: 3 * table()[:, 0] + 5, "r2"),
    ],
)
def test_epoch_scoring_of_skorch(cls, y, scoring):
    scored = EpochScoring(scoring, lower_is_better=False, name="score")
    settings = {"early_stopping": True, "validation_fraction": 0.5, "refit": False}
    model = cls(**{**SMALL_NET, "max_epochs": 30}, **settings, callbacks=[scored])
    scores = [epoch["score"] for epoch in model.fit(table(), y()).history_]
    assert len(scores) == 30 and max(scores) > 0.6


def test_warm_start_with_other_sizes_says_so():
    model = NeuralClassifier(**SMALL_NET, warm_start=True).fit(table(), classes())
    with pytest.raises(ValueError, match=r"warm_start=True, but y has classes \[0 1 2\]"):
        model.fit(table(), np.arange(N_ROWS) % 3)
    with pytest.raises(ValueError, match="X has 4 features, but NeuralClassifier is expecting 5"):
        model.fit(table()[:, :4], classes())
    assert model.predict(table()).max() == 1


# ------------------------------------------------------------------------------ metadata routing


def routed_model():
    encoders = [
        ("image", ImageEncoder(**SMALL_IMAGE), "image"),
        ("audio", AudioEncoder(**SMALL_CNN), "audio"),
    ]
    for _, encoder, _ in encoders:
        encoder.set_fit_request(sample_weight=True, groups=True)
    head = NeuralClassifier(**SMALL_NET).set_fit_request(sample_weight=True, groups=False)
    return make_pipeline(FusionTransformer(encoders, random_state=0), head)


def test_weights_and_groups_are_routed_through_pipeline_and_fusion():
    X, y, weight, groups = modalities(), classes(), np.arange(N_ROWS) % 3, np.arange(N_ROWS) // 3
    with sklearn.config_context(enable_metadata_routing=True):
        model = routed_model()
        routed = model.fit(X, y, sample_weight=weight, groups=groups).predict_proba(X)
        bare = routed_model().fit(X, y).predict_proba(X)
        scores = cross_validate(
            routed_model(),
            X,
            y,
            cv=GroupKFold(2),
            params={"sample_weight": weight, "groups": groups},
            scoring=get_scorer("accuracy").set_score_request(sample_weight=True),
            error_score="raise",
        )
    by_hand = clone(model)
    features = by_hand[0].fit_transform(X, y, sample_weight=weight, groups=groups)
    by_hand[1].fit(features, y, sample_weight=weight)
    np.testing.assert_array_equal(routed, by_hand[1].predict_proba(by_hand[0].transform(X)))
    assert not np.array_equal(routed, bare)
    assert np.isfinite(scores["test_score"]).all()


def test_weights_reach_the_encoders_without_routing():
    X, y, weight = modalities(), classes(), np.arange(N_ROWS) % 3
    triples = [("image", ImageEncoder(**SMALL_IMAGE), "image"), ("text", "drop", "text")]
    fusion = FusionTransformer(triples, random_state=0)
    with pytest.warns(UserWarning, match="1 of 24 rows have no modality present"):
        weighted = fusion.fit_transform(X, y, sample_weight=weight)
    encoder = clone(fusion.named_transformers_["image"])
    present = np.flatnonzero(~X["image"].isna())
    alone = encoder.fit(X["image"], y, sample_weight=weight).transform(X["image"])
    np.testing.assert_array_equal(weighted[present], alone[present])
