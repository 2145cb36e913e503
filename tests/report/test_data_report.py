import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GroupKFold, KFold

from sklearn_mmfusion import FileArray, multimodal_frame
from sklearn_mmfusion.report import data_report
from tests.report._pages import Page

RNG = np.random.default_rng(0)
N = 30
IMAGES = RNG.integers(0, 256, (N, 6, 6), dtype=np.uint8)
WAVES = [RNG.normal(size=20 + i) for i in range(N)]
TEXTS = [f"<b>row {i}</b> in some words" for i in range(N)]
Y = np.arange(N) % 3


def frame(**more):
    X = multimodal_frame(image=IMAGES, text=TEXTS, sound=WAVES)
    return X.assign(**more)


def test_data_report_of_clean_data_finds_nothing(tmp_path):
    pytest.importorskip("PIL")
    X = frame(age=np.linspace(0, 1, N))
    report = data_report(X, Y, cv=3, path=tmp_path / "a.html")
    assert report.findings == [] and report.files is None
    assert report.kinds["kind"].tolist() == ["images", "free text", "waveforms", "number"]
    assert report.folds["n_test"].tolist() == [10, 10, 10]
    page = Page((tmp_path / "a.html").read_text("utf-8"))
    assert page.faults == []
    # 24 of each of the three columns of cells; numbers are not shown one by one
    assert page.counts["img"] == page.counts["svg"] == 24
    assert page.text("figcaption").count(":") == 72 and "<b>row" in page.text("figure")


def test_data_report_describes_columns_that_fit_refuses(tmp_path):
    X = frame(info=[{"a": i} for i in range(N)], mixed=[1, "one", None] * 10)
    report = data_report(X, Y, path=tmp_path / "a.html")
    assert any(finding.startswith("'info': unsupported") for finding in report.findings)
    assert report.summary.loc[["info", "mixed"], "kind"].tolist() == ["other", "other"]


def test_data_report_leaves_its_input_unchanged():
    X, y = frame(), Y.copy()
    before = X.copy(deep=True)
    data_report(X, y, groups=Y, cv=2)
    pd.testing.assert_frame_equal(X, before)
    assert (y == Y).all()


def test_data_report_counts_equal_cells_across_folds_and_groups():
    X = frame()
    # rows 0 and 29 hear the same sound; rows 1 and 28 are equal as a whole
    rows = np.arange(N)
    rows[28] = 1
    X = X.iloc[rows].reset_index(drop=True)
    X["sound"] = X["sound"].array.take([*range(29), 0])
    groups = rows // 2
    report = data_report(X, Y, groups=groups, cv=KFold(3))
    found = report.duplicates
    assert found["n_duplicates"].to_dict() == {"image": 1, "text": 1, "sound": 2, "whole row": 1}
    assert found["n_seen"].to_dict() == {"image": 2, "text": 2, "sound": 4, "whole row": 2}
    assert found["n_other_group"].to_dict() == {"image": 0, "text": 0, "sound": 2, "whole row": 0}
    # 28 % 3 == 1 % 3, but 29 % 3 != 0 % 3
    assert found["n_other_target"].to_dict() == {"image": 0, "text": 0, "sound": 2, "whole row": 0}
    assert report.folds["n_seen_rows"].tolist() == [1, 0, 1]
    assert report.folds["n_shared_groups"].tolist() == [1, 0, 1]
    text = "\n".join(report.findings)
    assert "'sound': 4 of 30 test rows (13 %) have a cell that equals" in text
    assert "2 of 30 test rows (7 %) equal a training row of their fold in all columns" in text
    assert "Groups have rows on both sides of 2 of 3 folds" in text


def test_data_report_number_of_folds_keeps_groups_together():
    groups = np.arange(N) // 5
    report = data_report(frame(), Y, groups=groups, cv=3)
    assert report.folds["n_shared_groups"].tolist() == [0, 0, 0]
    expected = [len(test) for _, test in GroupKFold(3).split(Y, Y, groups)]
    assert report.folds["n_test"].tolist() == expected


def test_data_report_balances_classes_by_modality():
    X = frame()
    X.loc[X.index[Y == 2], "sound"] = pd.NA
    report = data_report(X, np.array(["a", "b", "c"])[Y])
    assert report.target["n_rows"].tolist() == [10, 10, 10]
    np.testing.assert_allclose(report.target["image"], 1 / 3)
    assert report.target["sound"].tolist() == [0.5, 0.5, 0]
    assert report.findings == ["'sound': absent in all rows of 1 class (c)."]
    assert report.presence["n_rows"].tolist() == [20, 10]
    assert report.presence["sound"].tolist() == [True, False]


def test_data_report_describes_numbers_and_several_targets():
    y = pd.DataFrame({"age": np.linspace(0, 1, N), "kind": ["x", None, "y"] * 10})
    report = data_report(frame(), y)
    assert report.target.loc[("age", "mean"), "all rows"] == pytest.approx(0.5)
    assert report.target.loc[("kind", "x"), "text"] == 0.5
    assert data_report(frame(), y["age"]).target.loc["max", "sound"] == 1


def test_data_report_reads_files_by_content(tmp_path):
    image = pytest.importorskip("PIL.Image")
    paths = [f"{i}.png" for i in range(N)]
    for path, pixels in zip(paths, IMAGES, strict=True):
        image.fromarray(pixels).save(tmp_path / path)
    image.fromarray(IMAGES[0]).save(tmp_path / "29.png")  # another name, the same content
    (tmp_path / "3.png").write_bytes(b"no picture")
    X = pd.DataFrame({"photo": paths})
    page = tmp_path / "a.html"
    report = data_report(X, cv=KFold(3), file_params={"root": str(tmp_path)}, path=page, n_shown=N)
    assert report.files["reason"].tolist() == ["unreadable", "duplicate"]
    assert report.duplicates.loc["photo", "n_seen"] == 2
    assert "'photo': 2 of 30 files (7 %) are odd, 1 of them unreadable" in report.findings[0]
    checked = Page(page.read_text("utf-8"))
    assert checked.faults == [] and checked.counts["img"] == 29 and "3.png" in checked.text()
    rooted = data_report(pd.DataFrame({"photo": FileArray(paths, root=tmp_path)}), cv=KFold(3))
    assert rooted.duplicates.equals(report.duplicates)


def test_data_report_shows_sets_and_array_rows(tmp_path):
    pytest.importorskip("PIL")
    X = pd.DataFrame({"views": [[image, image[:3]] for image in IMAGES], "n": range(N)})
    page = tmp_path / "a.html"
    data_report(X, path=page, n_shown=2)
    checked = Page(page.read_text("utf-8"))
    assert checked.faults == [] and checked.counts["img"] == 4
    report = data_report(RNG.normal(size=(N, 2)), Y)
    assert report.kinds.index.tolist() == ["x0", "x1"]


def test_data_report_points_out_constant_columns_and_empty_rows():
    X = frame(one=1.0)[["sound", "one"]]
    assert data_report(X).findings[0].startswith("'one': constant")
    X.loc[X.index[3], :] = pd.NA
    assert "1 of 30 rows (3 %) have no cell at all." in data_report(X).findings
    (found,) = data_report(X[:22], [0] * 21 + [1]).findings[-1:]
    assert found == "The classes are unbalanced: 21 rows of 0, 1 of 1."


def test_data_report_checks_lengths_and_path_first(tmp_path):
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        data_report(frame(), Y[:-1])
    with pytest.raises(ValueError, match="data_report: groups has 29 values, X has 30 rows"):
        data_report(frame(), Y, groups=Y[:-1])
    with pytest.raises(ValueError, match="data_report: path=.* is a folder"):
        data_report(frame(), path=tmp_path)
    with pytest.raises(ValueError, match="data_report: file_params has the key 'rot'"):
        data_report(frame(), file_params={"rot": "a"})
