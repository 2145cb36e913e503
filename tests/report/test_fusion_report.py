import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.metrics import accuracy_score, f1_score, recall_score
from sklearn.model_selection import GroupKFold, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

from sklearn_mmfusion import FusionTransformer, ImageEncoder, TextEncoder
from sklearn_mmfusion._file_options import FileOptions
from sklearn_mmfusion.inspection import difference_interval, score_interval
from sklearn_mmfusion.report import fusion_report, sections
from sklearn_mmfusion.report.fusion_report import find_file_options
from tests.report._pages import Page
from tests.report._tiny import late_classifier, late_regressor, make_data


@pytest.fixture
def no_pictures(monkeypatch):
    """Pictures take most of the time; tests/report/test_browser.py looks at them."""
    monkeypatch.setattr(sections, "find_spec", lambda name: None)


def test_fusion_report_agrees_with_cross_val_predict(capsys):
    X, y = make_data()
    folds = StratifiedKFold(3)
    table = fusion_report(late_classifier(), X, y, cv=folds)
    assert table.index.tolist() == ["all modalities", "strong alone", "weak alone"]
    predicted = cross_val_predict(late_classifier(), X, y, cv=folds)
    alone = cross_val_predict(late_classifier(["weak"]), X, y, cv=folds)
    full, weak = table.iloc[0], table.loc["weak alone"]
    assert full["accuracy"] == accuracy_score(y, predicted)
    assert (
        full["balanced_accuracy"]
        == full["recall_macro"]
        == pytest.approx(recall_score(y, predicted, average="macro"))
    )
    assert weak["f1_macro"] == pytest.approx(f1_score(y, alone, average="macro"))
    assert weak["accuracy_difference"] == pytest.approx(weak["accuracy"] - full["accuracy"])
    # folds are stratified without shuffling, so that the order of the rows does not matter
    interval = score_interval("accuracy", y, predicted)
    assert (full["accuracy_low"], full["accuracy_high"]) == (interval.low, interval.high)
    interval = difference_interval("accuracy", y, alone, predicted)
    assert weak["accuracy_difference_low"] == interval.low
    assert pd.isna(full["accuracy_difference"])
    assert table["n_parameters"].tolist() == [6, 3, 3]
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 4 and printed[1].startswith("all modalities")


def test_fusion_report_keeps_groups_together_and_widens_intervals(capsys):
    X, y = make_data()
    groups = np.arange(60) // 10
    table = fusion_report(late_classifier(), X, y, cv=3, groups=groups)
    folds = list(GroupKFold(3).split(X, y, groups))
    same = fusion_report(late_classifier(), X, y, cv=folds, groups=groups)
    assert table.loc["weak alone", "accuracy"] == same.loc["weak alone", "accuracy"]
    predicted = cross_val_predict(late_classifier(["weak"]), X, y, cv=folds)
    interval = score_interval("accuracy", y, predicted, groups=groups)
    assert same.loc["weak alone", "accuracy_low"] == pytest.approx(interval.low)


def test_fusion_report_counts_a_row_of_several_folds_once_in_intervals(capsys):
    X, y = make_data()
    fold = np.arange(30), np.arange(30, 60)
    once = fusion_report(late_classifier(), X, y, cv=[fold])
    twice = fusion_report(late_classifier(), X, y, cv=[fold, fold])
    weak_once, weak_twice = (table.loc["weak alone"] for table in (once, twice))
    assert weak_once["accuracy"] == weak_twice["accuracy"]
    width = weak_once["accuracy_high"] - weak_once["accuracy_low"]
    assert weak_twice["accuracy_high"] - weak_twice["accuracy_low"] == pytest.approx(width, rel=0.1)


def test_fusion_report_page_of_a_classifier(tmp_path, no_pictures, capsys):
    X, y = make_data(n_classes=3)
    y = np.array(["<a>", "b & c", "d"])[y]
    path = tmp_path / "a.html"
    fusion_report(late_classifier(), X, y, cv=2, path=path, random_state=0, verbose=1)
    page = Page(path.read_text("utf-8"))
    assert page.faults == [] and page.text("h1") == "Fusion report"
    headings = ["Scores", *sections.SECTIONS]
    assert page.text("h2") == " ".join(headings)
    assert "Failed" not in page.text() and "matplotlib is not installed" in page.text()
    assert "true <a>" in page.text("figcaption") and page.counts["svg"] > 0  # cells of errors
    assert "[fusion_report] section 'Worst errors'" in capsys.readouterr().out


@pytest.mark.slow
def test_fusion_report_page_of_a_regressor(tmp_path, no_pictures, capsys):
    X, y = make_data()
    path = tmp_path / "a.html"
    table = fusion_report(late_regressor(), X, y + 0.5, cv=2, path=path)
    predicted = cross_val_predict(late_regressor(), X, y + 0.5, cv=2)
    expected = np.abs(y + 0.5 - predicted).mean()
    assert table.loc["all modalities", "mean_absolute_error"] == pytest.approx(expected)
    page = Page(path.read_text("utf-8"))
    assert page.faults == [] and "Failed" not in page.text()
    assert "Calibration" not in page.text("h2") and "Worst errors" in page.text("h2")
    assert page.text("figcaption").count("true ") == sections.N_ERRORS


@pytest.mark.slow
def test_fusion_report_of_other_estimators_and_multilabel_targets(tmp_path, no_pictures, capsys):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(30, 2)), columns=["a", "b"])
    y = (X.to_numpy() + 0.3 * rng.normal(size=(30, 2)) > 0).astype(int)
    path = tmp_path / "a.html"
    # masked cells would raise: the evidence permutes them, and only that section fails
    with pytest.warns(UserWarning, match="the section 'Robustness' failed: ValueError"):
        table = fusion_report(RidgeClassifier(), X, y, cv=2, path=path)
    assert table.index[1:].tolist() == ["a alone", "b alone"]
    predicted = cross_val_predict(RidgeClassifier(), X, y, cv=2)
    assert table["f1_macro"].iloc[0] == pytest.approx(f1_score(y, predicted, average="macro"))
    page = Page(path.read_text("utf-8"))
    assert page.faults == [] and "Failed: ValueError" in page.text()
    assert "true " in page.text("figcaption")


@pytest.mark.slow
def test_fusion_report_worst_errors_come_first_and_once(tmp_path, no_pictures, capsys):
    X, y = make_data()
    X["strong"] = X["weak"]
    path = tmp_path / "a.html"
    folds = list(StratifiedKFold(3).split(X, y))
    fusion_report(late_classifier(), X, y, cv=folds + folds, path=path)
    proba = cross_val_predict(late_classifier(), X, y, cv=folds, method="predict_proba")
    of_truth = proba[np.arange(60), y]
    worst = np.argsort(of_truth)[: sections.N_ERRORS]
    captions = Page(path.read_text("utf-8")).text("figcaption")
    found = [int(part.split(":")[0]) for part in captions.split("Row ")[1:]]
    assert found == worst[of_truth[worst] < 0.5].tolist()


def test_fusion_report_reads_files_as_the_encoder_of_their_column_does():
    encoders = [
        ("text", TextEncoder(), "title"),
        ("image", ImageEncoder(file_params={"root": "photos"}), "photo"),
    ]
    estimator = make_pipeline(FusionTransformer(encoders), LogisticRegression())
    X = pd.DataFrame({"photo": ["a.png", "b.png"], "title": ["a", "b"]})
    roots = {p: o.root for p, o in find_file_options(estimator, X, None).items()}
    assert roots == {0: "photos", 1: None}
    given = find_file_options(estimator, X, {"root": "other"})
    assert {options.root for options in given.values()} == {"other"}


def test_fusion_report_shows_files_of_errors(tmp_path, no_pictures, capsys):
    image = pytest.importorskip("PIL.Image")
    for i in range(20):
        image.fromarray(np.full((4, 4), i, np.uint8)).save(tmp_path / f"{i}.png")
    frame = pd.DataFrame({"photo": [f"{i}.png" for i in range(20)], "n": np.arange(20.0)})
    modalities = {"photo": "photo", "n": "n"}
    found = sections.Evidence(
        *("classifier", [], frame, np.arange(20), np.arange(20), None, np.arange(20)),
        *({"photo": (0,), "n": (1,)}, modalities, {}, {}),
    )
    found.options = dict.fromkeys((0, 1), FileOptions(root=str(tmp_path)))
    shown = sections._cells(found, 0, np.array([3, 7]))
    assert [cell.count("<img") for cell in shown] == [1, 1]
    assert sections._cells(found, 1, np.array([3])) == ["3"]


@pytest.mark.slow
def test_fusion_report_of_many_classes_lists_confusions(tmp_path, no_pictures, capsys):
    X = pd.DataFrame({"a": np.arange(100.0) % 7, "b": np.arange(100.0) % 5})
    y = np.array([f"class {k}" for k in range(25)])[np.arange(100) % 25]
    path, fold = tmp_path / "a.html", (np.arange(50), np.arange(50, 100))
    table = fusion_report(DecisionTreeClassifier(random_state=0), X, y, cv=[fold], path=path)
    assert table["n_parameters"].isna().all()
    page = Page(path.read_text("utf-8"))
    assert page.faults == [] and "most frequent confusions among 25 classes" in page.text()


def test_fusion_report_checks_its_arguments_before_any_fit(tmp_path):
    X, y = make_data()
    with pytest.raises(ValueError, match="fusion_report: path=.* is a folder"):
        fusion_report(late_classifier(), X, y, path=tmp_path)
    with pytest.raises(TypeError, match="fusion_report: estimator is KMeans.*; expected a class"):
        fusion_report(KMeans(), X, y)
    with pytest.raises(ValueError, match="fusion_report: y is 'continuous'; expected one class"):
        fusion_report(LogisticRegression(), X, y + 0.5)
    with pytest.raises(ValueError, match="fusion_report: groups has 3 values, X has 60 rows"):
        fusion_report(Ridge(), X, y, groups=[1, 2, 3])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        fusion_report(Ridge(), X, y[:-1])
