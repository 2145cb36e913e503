"""ImageEncoder(pooling=...): several images per row are encoded one by one and pooled."""

import pickle
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.model_selection import cross_val_score
from torch import nn

from sklearn_mmfusion import (
    FileArray,
    FusionTransformer,
    ImageEncoder,
    JointFusionClassifier,
    LateFusionClassifier,
    TextEncoder,
    multimodal_frame,
)
from tests._registry import N_ROWS, SMALL_IMAGE, SMALL_TEXT, classes, image_sets, images, texts

POOLINGS = {
    "mean": lambda x, network: x.mean(0),
    "max": lambda x, network: x.amax(0),
    "attention": lambda x, network: network.score(x).softmax(0)[:, 0] @ x,
}


def make(pooling="mean", **params):
    return ImageEncoder(**{**SMALL_IMAGE, "max_epochs": 1, "pooling": pooling, **params})


def stacks(n=N_ROWS):
    """Arrays of one to three images of one size, uint8 (n_images, 8, 8)."""
    rng = np.random.default_rng(0)
    return [
        np.stack([image] * k) // np.arange(1, k + 1)[:, None, None].astype(np.uint8)
        for image, k in zip(images(n), rng.integers(1, 4, n), strict=True)
    ]


@cache
def fitted(pooling="mean"):
    """An encoder that was fitted to `stacks`; do not change it."""
    return make(pooling).fit(stacks(), classes())


# ------------------------------------------------------------------------------ oracles


@pytest.mark.parametrize("pooling", POOLINGS)
def test_features_are_those_of_a_loop_over_images(pooling):
    encoder = fitted(pooling)
    network = encoder.module_.encoder.eval()
    with torch.no_grad():
        for cell, features in zip(stacks(), encoder.transform(stacks()), strict=True):
            one_by_one = [network.image_network(torch.from_numpy(i)[None, None]) for i in cell]
            expected = POOLINGS[pooling](torch.cat(one_by_one), network)
            np.testing.assert_allclose(features, expected, atol=1e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_set_of_one_image_is_the_image(pooling):
    single = ImageEncoder(**SMALL_IMAGE).fit(images(), classes())
    encoder = make(pooling).fit(images()[:, None], classes())
    np.testing.assert_array_equal(encoder.mean_, single.mean_)
    encoder.module_.encoder.image_network.load_state_dict(single.module_.encoder.state_dict())
    expected = single.transform(images())
    for cells in (images()[:, None], [[image] for image in images()], images()):
        np.testing.assert_allclose(encoder.transform(cells), expected, atol=1e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_order_of_images_does_not_matter(pooling):
    encoder, features = fitted(pooling), fitted(pooling).transform(stacks())
    turned = [cell[::-1] for cell in stacks()]
    np.testing.assert_allclose(encoder.transform(turned), features, atol=1e-6)


PATTERNS = st.lists(st.one_of(st.none(), st.lists(st.booleans(), max_size=5)), min_size=1)


@given(pattern=PATTERNS)
def test_missing_images_and_neighbors_change_nothing(pattern):
    pool, encoder = images(), fitted()
    single = encoder.transform(pool[:, None])
    sets, expected = [], []
    for row, own in enumerate(pattern):
        chosen = [(3 * row + k) % N_ROWS for k in range(len(own or []))]
        kept = [i for i, is_there in zip(chosen, own or [], strict=True) if is_there]
        cell = [pool[i] if i in kept else None for i in chosen]
        sets.append(None if own is None else cell)
        expected.append(single[kept].mean(0) if kept else np.full(single.shape[1], np.nan))
    found = encoder.transform(pd.Series(sets, dtype=object))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_moments_are_those_of_all_pixels():
    pixels = np.concatenate([cell.ravel() for cell in stacks()]).astype(float)
    np.testing.assert_allclose(fitted().mean_, [pixels.mean()], rtol=1e-6)
    np.testing.assert_allclose(fitted().scale_, [pixels.std()], rtol=1e-5)


# ------------------------------------------------------------------------------ forms of sets


def test_sets_are_the_same_in_any_container():
    arrays = stacks()
    forms = {
        "lists": [list(cell) for cell in arrays],
        "objects": pd.Series([list(cell) for cell in arrays]),
        "nested": [cell.tolist() for cell in arrays[:3]],
        "pillow": [[Image.fromarray(i) for i in cell] for cell in arrays],
        "missing": [[None, *cell, np.nan] for cell in arrays],
        "column": multimodal_frame(x=arrays)["x"],
        "rows of a larger column": multimodal_frame(x=[images()[:5], *arrays])["x"][1:],
    }
    expected = fitted().transform(arrays)
    for name, cells in forms.items():
        own = expected[: len(cells)]
        np.testing.assert_allclose(fitted().transform(cells), own, atol=1e-6, err_msg=name)


def test_images_of_a_set_may_differ_in_size():
    encoder = make().fit(image_sets(), classes())
    assert encoder.image_size_ == (8, 7)
    rows = [0, 3, 5]
    for row in rows:
        cell = image_sets()[row]
        expected = np.mean([encoder.transform([[image]])[0] for image in cell], axis=0)
        np.testing.assert_allclose(encoder.transform([cell])[0], expected, atol=1e-6)


def test_fixed_numbers_of_color_images_make_a_dense_array():
    cells = np.random.default_rng(0).integers(0, 256, (N_ROWS, 2, 6, 6, 3), dtype=np.uint8)
    batch = make().fit_prepare(cells).batch(np.array([4, 1]))
    expected = np.moveaxis(cells[[4, 1]].reshape(4, 6, 6, 3), 3, 1)
    np.testing.assert_array_equal(batch["pixels"], expected)
    assert batch["pixels_lengths"].tolist() == [2, 2]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ([np.zeros((8, 8)), np.full((8, 8), np.nan)], "image in row 1 contains NaN or infinity"),
        ([np.zeros((4, 4)), np.zeros((4, 4, 3))], "row 1: cell of shape.*same number of axes"),
        ([np.zeros((4, 4)), np.zeros((0, 4))], r"image in row 1 has shape \(0, 4\)"),
        (np.zeros((2, 3, 4, 5, 6)), r"image in row 0 has shape \(3, 4, 5, 6\); expected"),
        ([np.zeros((8, 8)), np.zeros((8, 9))], r"image in row 1 has .* = \(1, 8, 9\); expected"),
        ([[np.zeros((4, 4)), np.zeros((4, 5))]], "row 1: expected a numeric array"),
    ],
)
def test_wrong_sets_are_refused(cell, message):
    cells = [cell if isinstance(cell, np.ndarray) else None, cell]
    with pytest.raises((ValueError, TypeError), match=message):
        fitted().transform(cells)


@pytest.mark.parametrize("encoder", [ImageEncoder(), TextEncoder()])
@pytest.mark.parametrize("cells", [[["a.png", "b.png"], ["c.png"]], [["a.png"], [Path("b.png")]]])
def test_encoders_of_single_cells_refuse_sets(encoder, cells):
    with pytest.raises(TypeError, match="Encoder: row 0 holds a list of . items; expected one"):
        encoder.fit(cells, [0, 1])


def test_the_remedy_names_pooling():
    with pytest.raises(TypeError, match=r"expected one image per row. Set pooling='mean' to read"):
        ImageEncoder().fit(image_sets(), classes())


def test_single_color_images_are_not_taken_for_sets():
    for shape in ((8, 8, 3), (8, 8, 4)):
        with pytest.raises(ValueError, match="look like single color images; with pooling="):
            make().fit(np.zeros((N_ROWS, *shape)), classes())


# ------------------------------------------------------------------------------ files


@pytest.fixture
def folder(tmp_path):
    for row, cell in enumerate(stacks()):
        for k, image in enumerate(cell):
            Image.fromarray(image).save(tmp_path / f"{row}_{k}.png")
    return tmp_path


def paths():
    return [[f"{row}_{k}.png" for k in range(len(cell))] for row, cell in enumerate(stacks())]


def test_files_equal_arrays(folder):
    root = {"root": str(folder)}
    expected = fitted().transform(stacks())
    encoder = make(image_size=(8, 8), file_params=root).fit(paths(), classes())
    np.testing.assert_allclose(encoder.transform(paths()), expected, atol=1e-6)
    full = [[folder / name for name in own] for own in paths()]
    content = [[path.read_bytes() for path in own] for own in full]
    encoder.set_params(file_params=None)
    for cells in (full, pd.Series(content)):
        np.testing.assert_allclose(encoder.transform(cells), expected, atol=1e-6)
    encoder.set_params(file_params={**root, "cache_folder": str(folder / "cache")})
    for _ in range(2):
        np.testing.assert_allclose(encoder.transform(paths()), expected, atol=1e-6)


def test_a_path_alone_is_a_set_of_one(folder):
    encoder = make(file_params={"root": str(folder)}).fit(paths(), classes())
    first = [own[0] for own in paths()]
    expected = encoder.transform([[name] for name in first])
    for cells in (first, FileArray(first, root=folder), np.array(first)):
        np.testing.assert_array_equal(encoder.transform(cells), expected)


def damaged(folder):
    """One of several files of row 2 is missing, the only ones of row 7 are unreadable."""
    cells = paths()
    cells[2] = [cells[2][0], "gone.png"]
    cells[7] = ["broken.png"]
    (folder / "broken.png").write_bytes(b"no image")
    return cells


def test_an_unreadable_file_raises_with_row_and_path(folder):
    encoder = make(file_params={"root": str(folder)})
    with pytest.raises(FileNotFoundError, match=r"row 2: there is no file '.*gone.png'"):
        encoder.fit(damaged(folder), classes())
    fusion = FusionTransformer([("photo", encoder, "photo")])
    X = pd.DataFrame({"photo": [None, *damaged(folder)]})
    with pytest.raises(FileNotFoundError, match=r"row 3: there is no file '.*gone.png'"):
        fusion.fit(X, [0, *classes()])
    with pytest.raises(ValueError, match=r"row 0: the path '../a.png' leaves root="):
        encoder.fit([["../a.png"], *paths()[1:]], classes())


def test_unreadable_files_may_count_as_missing(folder):
    options = {"root": str(folder), "on_error": "missing"}
    encoder = make(file_params=options).fit(paths(), classes())
    expected = encoder.transform(paths())
    with pytest.warns(UserWarning, match=r"2 of .* files .* The first: row 2: .*gone.*; row 7: "):
        found = encoder.transform(damaged(folder))
    others = np.setdiff1d(np.arange(N_ROWS), [2, 7])
    np.testing.assert_array_equal(found[others], expected[others])
    np.testing.assert_allclose(found[2], encoder.transform([paths()[2][:1]])[0], atol=1e-6)
    assert np.isnan(found[7]).all()
    X = pd.DataFrame({"photo": damaged(folder)})
    fusion = FusionTransformer([("photo", make(file_params=options), "photo")], missing="zero")
    with pytest.warns(UserWarning) as warned:
        features = fusion.fit_transform(X, classes())
    assert not features[7].any()
    assert [str(w.message)[:13] for w in warned] == ["ImageEncoder:", "FusionTransfo"]


@pytest.mark.parametrize("convert", [list, lambda paths: FileArray(paths)])
def test_unreadable_single_files_are_absent_rows(folder, convert):
    names = [None, *(str(folder / own[0]) for own in paths()[1:]), str(folder / "gone.png")]
    X = pd.DataFrame({"photo": convert(names), "title": [*texts(), "end"]})
    given = triples(file_params={"on_error": "missing"})
    with pytest.warns(UserWarning, match="1 of 24 files .* row 24: there is no file"):
        fused = FusionTransformer(given, missing="zero").fit_transform(X, [*classes(), 1])
    assert (~fused[:, :8].any(axis=1)).nonzero()[0].tolist() == [0, 24]


# ------------------------------------------------------------------------------ training


def triples(**params):
    text = TextEncoder(**SMALL_TEXT)
    return [("photo", make(**params), "photo"), ("title", text, "title")]


def frame():
    sets = [cell if row % 5 else [] for row, cell in enumerate(image_sets())]
    return pd.DataFrame({"photo": sets, "title": texts()})


def test_every_level_of_fusion_reads_sets():
    X, y = frame(), classes()
    fused = FusionTransformer(triples(), missing="zero").fit_transform(X, y)
    assert not fused[::5, :8].any()
    assert fused[1::5, :8].any(axis=1).all()
    late = LateFusionClassifier(triples(), random_state=0).fit(X, y)
    assert late.predict(X).shape == (N_ROWS,)
    scores = cross_val_score(LateFusionClassifier(triples()), X, y, cv=2, error_score="raise")
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("fusion", ["gated", "attention"])
def test_a_joint_network_predicts_one_row_alone(fusion):
    X, y = frame(), classes()
    joint = JointFusionClassifier(triples(pooling="attention"), fusion=fusion, random_state=0)
    joint = joint.set_params(max_epochs=2).fit(X, y)
    expected = joint.predict_proba(X)
    np.testing.assert_allclose(pickle.loads(pickle.dumps(joint)).predict_proba(X), expected)
    for row in range(6):
        alone = joint.predict_proba_one(X.iloc[row].to_dict())
        np.testing.assert_allclose(alone, expected[row], atol=1e-5)


def test_files_that_change_are_encoded_again(folder):
    X = pd.DataFrame({"photo": paths()})
    encoder = make(file_params={"root": str(folder)}, image_size=(8, 8))
    fusion = FusionTransformer([("photo", encoder, "photo")], memory=str(folder / "memory"))
    before = fusion.fit_transform(X, classes())
    np.testing.assert_array_equal(fusion.fit_transform(X, classes()), before)
    Image.fromarray(255 - stacks()[0][0]).save(folder / "0_0.png")
    assert not np.array_equal(fusion.fit_transform(X, classes())[0], before[0])


def test_pooling_waits_for_the_next_fit():
    encoder = make("max").fit(stacks(), classes())
    expected = encoder.transform(stacks())
    encoder.set_params(pooling=None)
    again = pickle.loads(pickle.dumps(encoder))
    for each in (encoder, again):
        np.testing.assert_array_equal(each.transform(stacks()), expected)


def test_augmentation_changes_images_one_by_one():
    shapes = set()

    class Inverted(nn.Module):
        def forward(self, pixels):
            shapes.add(pixels.shape[1:])
            return 1 - pixels

    plain = make().fit(stacks(), classes())
    changed = make(augment=Inverted()).fit(stacks(), classes())
    assert shapes == {(1, 8, 8)}
    assert not np.array_equal(changed.transform(stacks()), plain.transform(stacks()))
    make(augment="light").fit(stacks(), classes())


class Pixels(nn.Module):
    """The mean of each image; batch normalization would count padding."""

    def __init__(self, in_channels, image_size, out_features):
        super().__init__()
        self.out_features, self.norm = in_channels, nn.BatchNorm1d(in_channels)

    def forward(self, pixels):
        return self.norm(pixels.float().mean((2, 3)))


def test_a_custom_module_encodes_each_image():
    encoder = make(n_components=1, module=Pixels).fit(stacks(), classes())
    means = torch.tensor([[cell.mean((1, 2)).mean()] for cell in stacks()]).float()
    expected = encoder.module_.encoder.image_network.norm.eval()(means).detach()
    np.testing.assert_allclose(encoder.transform(stacks()), expected, rtol=1e-4, atol=1e-5)


def test_single_color_images_do_not_depend_on_other_rows():
    rng = np.random.default_rng(0)
    colors = [Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)) for _ in range(7)]
    X = pd.Series([colors[:2], *colors[1:]], dtype=object)
    encoder = make().fit(X, np.arange(7) % 2)
    whole = encoder.transform(X)
    for row in range(7):
        np.testing.assert_allclose(encoder.transform(X[row : row + 1])[0], whole[row], atol=1e-6)


def test_an_encoder_of_single_cells_may_have_an_attribute_pooling():
    class Mine(TextEncoder):
        pooling = "mean"

    encoder = Mine(**{**SMALL_TEXT, "max_epochs": 1})
    assert encoder.fit(["a b", "c d"] * 6, [0, 1] * 6).transform(["a b"]).shape[0] == 1
