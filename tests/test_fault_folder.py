"""A folder in which every kind of file is damaged, and what each estimator makes of it."""

import io
import os
import pickle
import socket
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.io import wavfile
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_mmfusion import (
    FileArray,
    FusionTransformer,
    ImageEncoder,
    JointFusionClassifier,
    LateFusionClassifier,
    LogMelSpectrogram,
)
from sklearn_mmfusion.containers import column_input, file_array
from tests._checks import state
from tests._fusion_data import hide
from tests._registry import MODALITIES, N_ROWS, RATE, SMALL_IMAGE, SMALL_JOINT, classes

pytest.importorskip("PIL")
pytest.importorskip("soundfile")

from PIL import Image

from tests._media import expected, media_files

RNG = np.random.default_rng(0)

FILES = media_files()
# Formats whose files may lack their end and still be read: those that hold their first frame or
# all of their pixels, and recordings whose last complete packet libsndfile believes.
LENIENT = ("txt", "png", "gif", "tiff", "aiff", "au", "caf", "ogg")
MISSING = {"on_error": "missing"}

# ------------------------------------------------------------------------------ undamaged files


@pytest.mark.parametrize("name", FILES)
def test_file_holds_what_its_library_reads(tmp_path, name):
    (tmp_path / name).write_bytes(FILES[name])
    cell, truth = FileArray([name], root=tmp_path).decode()[0], expected(FILES[name], name)
    if isinstance(truth, str):
        assert cell == truth
    else:
        assert cell.dtype == truth.dtype
        # mpg123 rounds differently after seeking, which soundfile.read does
        np.testing.assert_allclose(cell, truth, rtol=0, atol=2e-7 if name == "mono.mp3" else 0)
    if not name.endswith(".txt"):
        inside = FileArray([{"bytes": FILES[name], "path": name}]).decode()[0]
        np.testing.assert_array_equal(inside, cell)


def test_latin_1_is_refused(tmp_path):
    (tmp_path / "a.txt").write_bytes("Grün".encode("latin-1"))
    with pytest.raises(ValueError, match=r"row 0: cannot read '.*a\.txt': the text is not UTF-8"):
        FileArray([tmp_path / "a.txt"]).decode()


# ------------------------------------------------------------------------------ damaged files


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_truncated_file_is_refused_or_read(tmp_path, name):
    path, n_read = tmp_path / name, 0
    for stop in np.linspace(0, len(FILES[name]) - 1, 50).astype(int):
        path.write_bytes(FILES[name][:stop])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                n_read += FileArray([path]).decode()[0] is not None
            except ValueError as error:
                assert str(error).startswith(f"row 0: cannot read {str(path)!r}: ")
    assert n_read == 0 or name.endswith(LENIENT)


@pytest.fixture
def faults(tmp_path):
    """Names of what cannot be read, in the folder `tmp_path`, with the reason."""
    good = FILES["color.png"]
    found = {
        "wrong.png": FILES["pcm16.wav"],
        "suffix.xyz": good,
        "empty.png": b"",
        "cut.png": good[:400],
        "script.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    }
    for name, content in found.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "pipe_link.png").symlink_to(tmp_path / "pipe.png")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nothing.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(tmp_path / "socket.png"))  # long paths are refused
    reasons = {
        "wrong.png": "it is not an image in one of the formats PNG, ",
        "suffix.xyz": "no known file suffix",
        "empty.png": "the file is empty",
        "cut.png": "image file is truncated",
        "script.png": "it is not an image in one of the formats PNG, ",
        "folder.png": "is a folder",
        "pipe.png": "it is a pipe; expected a regular file",
        "pipe_link.png": "it is a pipe; expected a regular file",
        "dangling.png": "there is no file",
        "absent.png": "there is no file",
        "zero.png": "it is a device; expected a regular file",
        "socket.png": "it is a device; expected a regular file",
        "../outside.png": "leaves root=",
        "/absolute.png": "leaves root=",
        "a\0b.png": "NUL",
        "": "the path is empty",
    }
    if os.geteuid() != 0:  # who may read everything
        (tmp_path / "locked.png").write_bytes(good)
        (tmp_path / "locked.png").chmod(0)
        reasons["locked.png"] = "Permission denied"
    return reasons


def images_in(folder):
    """Write small images of two classes; return their names."""
    names = [f"{row}.png" for row in range(N_ROWS)]
    for name, cell in zip(names, MODALITIES["image"].cells(), strict=True):
        write(folder / name, cell)
    return names


def write(path, cell):
    """Write a cell of the registry to a file."""
    if path.suffix == ".png":
        Image.fromarray(cell).save(path)
    elif path.suffix == ".wav":
        wavfile.write(path, RATE, cell)
    elif path.suffix == ".txt":
        path.write_text(cell, encoding="utf-8")
    else:
        np.save(path, cell)


def test_each_fault_raises_with_row_path_and_remedy(tmp_path, faults):
    names = images_in(tmp_path)[:6]
    encoder = ImageEncoder(**SMALL_IMAGE, file_params={"root": tmp_path})
    encoder.fit(names, classes(6))
    before, weights = state(encoder), encoder.transform(names)
    for fault, reason in faults.items():
        bad = [*names[:2], fault, *names[3:]]
        for call in (encoder.transform, lambda X: encoder.fit(X, classes(6))):
            with pytest.raises((ValueError, OSError), match="row 2") as caught:
                call(bad)
            message = "\n".join([str(caught.value), *caught.value.__notes__])
            assert reason in message and repr(fault)[1:4] in message
            assert "ImageEncoder" in message
            remedies = ("on_error", "outside_root", "mark an absent file with None")
            assert any(remedy in message for remedy in remedies), fault
    assert state(encoder) == before
    np.testing.assert_array_equal(encoder.transform(names), weights)


def recorded(call, *arguments):
    """The result of a call, and the messages of its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = call(*arguments)
    return result, [str(warning.message) for warning in caught]


def test_faults_become_absent_with_one_warning(tmp_path, faults):
    names = images_in(tmp_path)
    bad = [*faults, *names[len(faults) :]]
    absent = [None] * len(faults) + names[len(faults) :]
    encoder = ImageEncoder(**SMALL_IMAGE, file_params={"root": tmp_path, **MISSING})
    features, messages = recorded(encoder.fit_transform, bad, classes())
    np.testing.assert_array_equal(features, clone(encoder).fit_transform(absent, classes()))
    assert np.isnan(features[: len(faults)]).all() and np.isfinite(features[len(faults) :]).all()
    assert len(messages) == 1
    assert messages[0].startswith(
        f"ImageEncoder: {len(faults)} of 24 files cannot be read and count as absent, because "
        "file_params has on_error='missing'. The first: row 0: cannot read "
    )
    assert all(reason in messages[0] for reason in list(faults.values())[:5])
    assert "folder.png" not in messages[0]  # the sixth


# ------------------------------------------------------------------------------ labels

SUFFIXES = {"image": "png", "audio": "wav", "text": "txt", "point_cloud": "npy"}


def bad_rows(kind):
    """Rows of the damaged files; no row lacks all modalities."""
    return [row + list(SUFFIXES).index(kind) for row in (1, 6, 7, 13, 20)]


def paths_of(kind, folder):
    """Files of the cells of a modality, some of them damaged; and the same with None in those."""
    suffix, folder = SUFFIXES[kind], folder / kind
    folder.mkdir()
    paths = [folder / f"{row}.{suffix}" for row in range(N_ROWS)]
    for path, cell in zip(paths, MODALITIES[kind].cells(), strict=True):
        write(path, cell)
    cut, absent, empty, folder, odd = bad_rows(kind)
    content = paths[cut].read_bytes()
    paths[cut].write_bytes(b"\xff" if kind == "text" else content[: len(content) // 2])
    paths[absent].unlink()
    paths[empty].write_bytes(b"")
    paths[folder].unlink()
    paths[folder].mkdir()
    paths[odd] = paths[odd].with_suffix(".xyz")
    none = [None if row in bad_rows(kind) else path for row, path in enumerate(paths)]
    return FileArray(paths), FileArray(none)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """Two frames of files, the first with damaged ones, the second with None for those."""
    folder = tmp_path_factory.mktemp("modalities")
    pairs = {kind: paths_of(kind, folder) for kind in SUFFIXES}
    return [pd.DataFrame({kind: pair[i] for kind, pair in pairs.items()}) for i in (0, 1)]


def reader(kind, **params):
    """Encoder of a modality that treats files that it cannot read as absent."""
    return MODALITIES[kind].make(file_params={"on_error": "missing"}, **params)


def check_warning(messages, kind):
    """One warning has the count and the first five files."""
    label = f"{MODALITIES[kind].encoder.__name__}: 5 of {N_ROWS} files cannot be read"
    found = [message for message in messages if message.startswith(label)]
    assert len(found) == 1
    assert all(f"/{row}." in found[0] for row in bad_rows(kind))


@pytest.mark.parametrize("kind", SUFFIXES)
def test_encoder_learns_as_if_unreadable_files_were_none(kind, damaged):
    (bad, none), encoder = (frame[kind] for frame in damaged), reader(kind)
    truth = clone(encoder)
    expected_features = truth.fit_transform(none, classes())
    features, messages = recorded(encoder.fit_transform, bad, classes())
    check_warning(messages, kind)
    np.testing.assert_array_equal(features, expected_features)
    for method in ("transform", "predict_head"):
        output, messages = recorded(getattr(encoder, method), bad)
        check_warning(messages, kind)
        np.testing.assert_array_equal(output, getattr(truth, method)(none))
    with pytest.raises(ValueError, match="24, of which 0 are present"):
        recorded(encoder.fit, bad.iloc[bad_rows(kind)[:1] * N_ROWS], classes())
    output, messages = recorded(encoder.transform, bad.iloc[bad_rows(kind)[:2]])
    assert np.isnan(output).all() and "2 of 2 files cannot be read" in messages[0]


def test_front_end_computes_as_if_unreadable_files_were_none(damaged):
    bad, none = (frame["audio"] for frame in damaged)
    front_end = LogMelSpectrogram(RATE, n_mels=6, file_params=MISSING)
    frames, messages = recorded(front_end.fit_transform, bad)
    assert len(messages) == 1 and messages[0].startswith("LogMelSpectrogram: 5 of 24 files")
    for one, other in zip(frames, front_end.fit_transform(none), strict=True):
        np.testing.assert_array_equal(one, other)


def fusion(kind):
    """Estimators that read three modalities of files, by name."""
    triples = [(name, reader(name), name) for name in ("image", "text", "audio")]
    if kind == "wrapped":
        triples[0] = ("image", make_pipeline(reader("image"), StandardScaler()), "image")
    makers = {
        "features": lambda: FusionTransformer(triples, random_state=0),
        "wrapped": lambda: FusionTransformer(triples, random_state=0),
        "joint": lambda: JointFusionClassifier(triples, **SMALL_JOINT),
        "late": lambda: LateFusionClassifier(triples, random_state=0),
    }
    return makers[kind]()


def outputs(estimator, X):
    """Features or probabilities."""
    return (estimator.transform if hasattr(estimator, "transform") else estimator.predict_proba)(X)


@pytest.mark.parametrize(
    "kind", ["features", pytest.param("wrapped", marks=pytest.mark.slow), "joint", "late"]
)
def test_fusion_learns_as_if_unreadable_files_were_none(kind, damaged):
    bad, none = damaged
    truth = fusion(kind).fit(none, classes())
    model, messages = recorded(fusion(kind).fit, bad, classes())
    for name in ("image", "text", "audio"):
        check_warning(messages, name)
    assert len(messages) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_array_equal(outputs(model, bad), outputs(truth, none))
        nowhere = {"text": range(N_ROWS), "audio": range(N_ROWS)}
        np.testing.assert_array_equal(
            outputs(model, hide(bad, **nowhere)), outputs(truth, hide(none, **nowhere))
        )


@pytest.fixture
def decoded(monkeypatch):
    """Names of the files that are decoded from now on."""
    read, names = file_array.read_file, []

    def counted(source, **arguments):
        names.append(os.path.basename(source))
        return read(source, **arguments)

    monkeypatch.setattr(file_array, "read_file", counted)
    monkeypatch.setattr(column_input, "_readable", set())
    return names


def test_files_are_read_once_more_for_the_check(damaged, decoded):
    paths = damaged[0]["point_cloud"]
    plain = MODALITIES["point_cloud"].make()
    recorded(plain.fit, damaged[1]["point_cloud"], classes())
    without = decoded.count("0.npy")
    decoded.clear()
    recorded(reader("point_cloud").fit, paths, classes())
    assert decoded.count("0.npy") == without + 1
    decoded.clear()
    recorded(reader("point_cloud").fit, paths, classes())
    assert decoded.count("0.npy") == without


def test_file_that_changes_is_checked_again(tmp_path, decoded):
    names = images_in(tmp_path)
    encoder = reader("image").set_params(file_params={"root": tmp_path, "on_error": "missing"})
    assert recorded(encoder.fit, names, classes())[1] == []
    (tmp_path / "3.png").write_bytes(b"damaged")
    features, messages = recorded(encoder.transform, names)
    assert np.isnan(features).all(axis=1).tolist() == [row == 3 for row in range(N_ROWS)]
    assert "1 of 24 files" in messages[0] and "3.png" in messages[0]


def test_sample_rate_of_the_column_is_part_of_the_check(tmp_path, decoded):
    paths = [tmp_path / f"{row}.wav" for row in range(N_ROWS)]
    for path, samples in zip(paths, MODALITIES["audio"].cells(), strict=True):
        wavfile.write(path, RATE + (path.stem == "2"), samples)
    encoder = reader("audio", resample=True)
    assert recorded(encoder.fit, FileArray(paths), classes())[1] == []
    _, messages = recorded(encoder.fit, FileArray(paths, sample_rate=RATE), classes())
    assert "1 of 24 files" in messages[0] and "has sample rate 1001 Hz" in messages[0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["features", "joint", "late"])
def test_unreadable_files_in_validation_and_caches(kind, damaged, tmp_path):
    """Cross-validation, a cache and single rows give the same as None in place of the files."""
    bad, none = damaged
    model = fusion(kind)
    if kind == "features":
        model = make_pipeline(model, LogisticRegression())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for each in (model, clone(model).set_params(**memory_of(kind, tmp_path))):
            scored = cross_validate(each, bad, classes(), cv=2, scoring="neg_log_loss")
            truth = cross_validate(each, none, classes(), cv=2, scoring="neg_log_loss")
            np.testing.assert_array_equal(scored["test_score"], truth["test_score"])
        if kind == "joint":
            model.fit(bad, classes())
            for make in (Path, lambda path: {"bytes": Path(path).read_bytes()}):
                found = [model.predict_one(row_of(bad, row, make)) for row in range(N_ROWS)]
                np.testing.assert_array_equal(found, model.predict(none))


def row_of(frame, row, make):
    """A row as a dict, whose files are paths, or contents where there is a file."""
    found = {}
    for name in ("image", "text", "audio"):
        path = frame[name].iloc[row]
        is_file = os.path.isfile(path) and os.path.getsize(path)
        found[name] = make(path) if is_file else Path(path)
    return found


def memory_of(kind, folder):
    name = "fusiontransformer__memory" if kind == "features" else "memory"
    return {name: str(folder)}


def test_frozen_encoder_treats_unreadable_files_as_absent(damaged):
    bad, none = damaged
    frozen = FrozenEstimator(reader("image").fit(none["image"], classes()))
    model = FusionTransformer([("image", frozen, "image")], random_state=0)
    output, messages = recorded(model.fit_transform, bad, classes())
    check_warning(messages, "image")
    np.testing.assert_array_equal(output, recorded(model.fit_transform, none, classes())[0])


def test_all_files_unreadable(damaged):
    bad, none = damaged
    column = bad["image"].iloc[bad_rows("image")[:1] * N_ROWS].array
    frame = none.assign(image=column)
    with pytest.raises(ValueError, match="modality 'image' .* has no present row among 24"):
        recorded(fusion("late").fit, frame, classes())
    model = recorded(fusion("late").fit, none, classes())[0]
    output, messages = recorded(model.predict_proba, frame)
    nowhere = hide(none, image=range(N_ROWS))
    np.testing.assert_array_equal(output, recorded(model.predict_proba, nowhere)[0])
    assert "24 of 24 files cannot be read" in messages[0]


def test_error_names_modality_row_of_x_and_path(damaged):
    bad, none = damaged
    triples = [(name, MODALITIES[name].make(), name) for name in ("image", "text", "audio")]
    frame = hide(none.assign(image=bad["image"]), image=[0])  # so that positions differ from rows
    for cls in (FusionTransformer, JointFusionClassifier, LateFusionClassifier):
        model = cls(triples, random_state=0)
        before = state(model)
        with pytest.raises(ValueError, match=r"row 1: cannot read '.*1\.png': ") as caught:
            model.fit(frame, classes())
        notes = " ".join(caught.value.__notes__)
        assert "'image'" in notes and "set 'on_error' to 'missing'" in notes
        assert state(model) == before


# ------------------------------------------------------------------------------ modes and sizes


MIXED = ("color.png", "alpha.png", "palette.png", "gray.png", "turned.jpg", "print.jpg", "deep.png")


@pytest.fixture
def mixed(tmp_path):
    """24 images of different modes and sizes, of which most are in color; and two classes."""
    names = []
    for row in range(N_ROWS):
        name = MIXED[row % len(MIXED)]
        names.append(f"{row}_{name}")
        with Image.open(io.BytesIO(FILES[name])) as image:
            size = (20 + row % 3, 16 + row % 2)
            form, exif = image.format, image.getexif()
            image.resize(size).save(tmp_path / names[-1], form, exif=exif)
    return names


def encoder_of(folder, **file_params):
    return ImageEncoder(**SMALL_IMAGE, file_params={"root": folder, **file_params})


SLOW_MODES = [pytest.param(mode, marks=pytest.mark.slow) for mode in ("L", "RGB", "RGBA")]


@pytest.mark.parametrize("mode", ["auto", *SLOW_MODES])
def test_images_of_several_modes_and_sizes(tmp_path, mixed, mode):
    encoder = encoder_of(tmp_path, mode=mode).fit(mixed, classes())
    assert encoder.image_mode_ == ("RGB" if mode == "auto" else mode)
    sizes = [np.shape(cell)[:2] for cell in FileArray(mixed, root=tmp_path).decode()]
    assert encoder.image_size_ == tuple(np.rint(np.median(sizes, axis=0)).astype(int))
    assert encoder.mean_.shape == ({"L": 1, "RGBA": 4}.get(mode, 3),)
    features = encoder.transform(mixed)
    assert np.isfinite(features).all()
    # Contents are files, too; each image alone has the features that it has among others.
    contents = [{"bytes": (tmp_path / name).read_bytes(), "path": name} for name in mixed]
    for given in (contents, [content["bytes"] for content in contents]):
        np.testing.assert_array_equal(encoder.transform(given), features)
    alone = [encoder.transform([name])[0] for name in mixed[:7]]
    np.testing.assert_allclose(alone, features[:7], rtol=1e-4, atol=1e-5)


def test_images_in_memory_are_converted_as_files_are(tmp_path, mixed):
    """All of one size: an array in memory is not resized."""
    names = [name for name in mixed if "turned" not in name]
    opened = []
    for name in names:
        with Image.open(tmp_path / name) as image:
            opened.append(image.resize((12, 10)))
    for name, image in zip(names, opened, strict=True):
        image.save(tmp_path / f"small_{name}")
    labels = classes(len(names))
    lossless = [not name.endswith("jpg") for name in names]
    files = [f"small_{name}" for name, keep in zip(names, lossless, strict=True) if keep]
    images = [image for image, keep in zip(opened, lossless, strict=True) if keep]
    encoder = encoder_of(tmp_path, mode="RGBA")  # the richest of them
    np.testing.assert_array_equal(
        encoder.fit_transform(images, labels[lossless]),
        clone(encoder).fit_transform(files, labels[lossless]),
    )


def test_an_image_in_memory_does_not_depend_on_the_others():
    color = [Image.fromarray(pixels) for pixels in RNG.integers(0, 256, (12, 9, 9, 3), np.uint8)]
    encoder = ImageEncoder(**SMALL_IMAGE).fit(color, classes(12))
    mixed = encoder.transform([color[0], color[1].convert("L"), color[2].convert("L")])
    np.testing.assert_allclose(mixed[:1], encoder.transform(color[:1]), atol=1e-6)


def test_a_refit_learns_the_mode_again(tmp_path):
    for row in range(12):
        pixels = RNG.integers(0, 256, (9, 9, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"color{row}.png")
        Image.fromarray(pixels[..., 0]).save(tmp_path / f"gray{row}.png")
    gray, color = ([f"{kind}{row}.png" for row in range(12)] for kind in ("gray", "color"))
    encoder = encoder_of(tmp_path).fit(gray, classes(12))
    assert encoder.image_mode_ == "L"
    refitted = clone(encoder).fit(gray, classes(12)).fit(color, classes(12))
    assert refitted.image_mode_ == "RGB"
    fresh = encoder_of(tmp_path).fit_transform(color, classes(12))
    np.testing.assert_array_equal(refitted.transform(color), fresh)
    refitted.set_params(file_params={"root": tmp_path, "mode": "L"}).fit(color, classes(12))
    assert refitted.image_mode_ == "L" and len(refitted.mean_) == 1


@pytest.mark.parametrize("form", ["str", "Path", "dict", "FileArray"])
@pytest.mark.parametrize("on_error", ["raise", "missing"])
def test_root_holds_for_every_form_of_paths(tmp_path, form, on_error):
    inside = tmp_path / "inside"
    inside.mkdir()
    for row in range(12):
        pixels = RNG.integers(0, 256, (9, 9), np.uint8)
        Image.fromarray(pixels).save(inside / f"{row}.png")
    Image.fromarray(pixels).save(tmp_path / "secret.png")
    make = {"str": str, "Path": Path, "dict": lambda path: {"bytes": None, "path": path}}
    names = [f"{row}.png" for row in range(12)]
    convert = make.get(form, Path)

    def column(names):
        cells = [convert(name) for name in names]
        return FileArray(cells) if form == "FileArray" else cells

    encoder = encoder_of(inside, on_error=on_error).fit(column(names), classes(12))
    for name in ("../secret.png", str(tmp_path / "secret.png")):
        if on_error == "raise":
            with pytest.raises(ValueError, match="row 1: the path '.*secret.png' leaves root="):
                encoder.transform(column([names[0], name]))
            continue
        with pytest.warns(UserWarning, match="1 of 2 files cannot be read"):
            features = encoder.transform(column([names[0], name]))
        assert np.isnan(features[1]).all() and np.isfinite(features[0]).all()
    rooted = FileArray(names, root=inside)  # stays as it is
    np.testing.assert_array_equal(encoder.transform(rooted), encoder.transform(column(names)))
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(rooted[::-1])).decode()[-1], rooted.decode()[0]
    )


@pytest.mark.parametrize("on_error", ["raise", "missing"])
def test_a_root_that_does_not_exist_is_no_fault_of_files(tmp_path, on_error):
    encoder = encoder_of(tmp_path / "phtos", on_error=on_error)
    with pytest.raises(FileNotFoundError, match="ImageEncoder: .*phtos'.* no such folder"):
        encoder.fit(["a.png"] * 12, classes(12))


def test_a_verbose_fit_reports_the_mode_of_mixed_images(tmp_path, capsys):
    for row in range(12):
        Image.new("RGB" if row % 3 else "L", (9, 9)).save(tmp_path / f"{row}.png")
    names = [f"{row}.png" for row in range(12)]
    encoder_of(tmp_path).set_params(verbose=1).fit(names, classes(12))
    assert "(4 L, 8 RGB in a sample of 12) are converted to 'RGB'" in capsys.readouterr().out


def test_large_photographs_of_one_camera_are_made_small(tmp_path):
    for row in range(12):
        Image.new("L", (300, 200), 20 * row).save(tmp_path / f"{row}.png")
    names = [f"{row}.png" for row in range(12)]
    assert encoder_of(tmp_path).fit(names, classes(12)).image_size_ == (85, 128)
    wide = encoder_of(tmp_path).set_params(image_size=(4, 6))
    assert wide.fit(names, classes(12)).image_size_ == (4, 6)


def test_files_that_move_after_the_fit(tmp_path):
    for folder in ("before", "after"):
        (tmp_path / folder).mkdir()
        for row in range(12):
            shade = 20 * row if folder == "before" else 255 - 20 * row
            Image.new("L", (9, 9), shade).save(tmp_path / folder / f"{row}.png")
    frame = pd.DataFrame({"photo": [f"{row}.png" for row in range(12)]})
    encoder = encoder_of(tmp_path / "before")
    fusion = FusionTransformer(
        [("photo", encoder, "photo")], memory=str(tmp_path / "memory"), random_state=0
    )
    before = fusion.fit_transform(frame, classes(12))
    fusion.transform(frame)
    fusion.set_params(photo__file_params={"root": tmp_path / "after"})
    after = fusion.transform(frame)
    np.testing.assert_array_equal(after[::1], fusion.transform(frame))
    assert np.abs(after - before).max() > 1e-3
    alone = fusion.named_transformers_["photo"]
    expected = alone.transform(FileArray(frame["photo"], root=tmp_path / "after"))
    np.testing.assert_allclose(after, expected, atol=1e-6)


def test_files_of_a_joint_model_may_move_after_the_fit(tmp_path):
    (tmp_path / "before").mkdir()
    for row in range(12):
        Image.new("L", (9, 9), 20 * row).save(tmp_path / "before" / f"{row}.png")
    frame = pd.DataFrame({"photo": [f"{row}.png" for row in range(12)]})
    triples = [("photo", encoder_of(tmp_path / "before"), "photo")]
    joint = JointFusionClassifier(triples, **SMALL_JOINT).fit(frame, classes(12))
    expected = joint.predict_proba(frame)
    (tmp_path / "before").rename(tmp_path / "after")
    joint.set_params(photo__file_params={"root": tmp_path / "after"})
    np.testing.assert_array_equal(joint.predict_proba(frame), expected)


@pytest.mark.parametrize("mono", ["mean", "first", None])
def test_stereo_files(tmp_path, mono):
    paths = [tmp_path / f"{row}.wav" for row in range(N_ROWS)]
    both = [np.stack([cell, 0.5 * cell**2], axis=1) for cell in MODALITIES["audio"].cells()]
    for path, samples in zip(paths, both, strict=True):
        wavfile.write(path, RATE, samples)
    encoder = MODALITIES["audio"].make(file_params={"mono": mono} if mono else None)
    single = [cell[:, 0] if mono == "first" else cell.mean(axis=1) for cell in both]
    np.testing.assert_array_equal(
        encoder.fit_transform(paths, classes()), clone(encoder).fit_transform(single, classes())
    )


@pytest.mark.slow
def test_file_params_are_searched_cloned_and_checked(tmp_path, mixed):
    options = [{"root": str(tmp_path), "mode": mode} for mode in ("L", "RGB")]
    model = make_pipeline(encoder_of(tmp_path), LogisticRegression())
    search = GridSearchCV(model, {"imageencoder__file_params": options}, cv=2)
    search.fit(np.array(mixed, dtype=object), classes())
    best = search.best_estimator_[0]
    assert best.image_mode_ == best.file_params["mode"]
    assert clone(best).file_params == best.file_params
    assert best.set_params(file_params=None).file_params is None


@pytest.mark.parametrize(
    ("params", "error", "match"),
    [
        (
            {"rot": "a"},
            ValueError,
            r"has the key 'rot'; expected one of \[.*\]. Did you mean 'root'",
        ),
        ({"onerror": "missing"}, ValueError, r"Did you mean 'on_error'\?"),
        ({1: 2}, ValueError, r"has the key 1; expected one of \['mode', .*\]\.(\n|$)"),
        (
            {"mode": "CMYK"},
            ValueError,
            "has mode='CMYK'; expected 'auto' or 'L' or 'RGB' or 'RGBA'",
        ),
        ({"mono": "left"}, ValueError, "has mono='left'; expected 'mean' or 'first'"),
        (
            {"on_error": "ignore"},
            ValueError,
            "has on_error='ignore'; expected 'raise' or 'missing'",
        ),
        ({"on_error": np.array(["raise"])}, ValueError, "has on_error=array"),
        ({"max_pixels": 0}, ValueError, "has max_pixels=0; expected an integer above 0"),
        ({"max_bytes": 1e6}, ValueError, "has max_bytes=1000000.0; expected an integer above 0"),
        ({"max_bytes": True}, ValueError, "has max_bytes=True; expected an integer above 0"),
        ({"root": 3}, ValueError, "has root=3; expected a path or None"),
        ({"outside_root": 1}, ValueError, "has outside_root=1; expected True or False"),
        ([("root", "a")], (TypeError, ValueError), "file_params"),
        ("photos", (TypeError, ValueError), "file_params"),
    ],
)
def test_bad_file_params_are_refused(params, error, match):
    encoder = ImageEncoder(**SMALL_IMAGE, file_params=params)
    for model in (encoder, FusionTransformer([("image", encoder, "image")])):
        before = state(model)
        with pytest.raises(error, match=match):
            model.fit(pd.DataFrame({"image": ["a.png", "b.png"]}), [0, 1])
        assert state(model) == before
