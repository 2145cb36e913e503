import numpy as np
import pandas as pd
import pytest

from sklearn_mmfusion.containers.accessor import Html
from sklearn_mmfusion.report import html
from tests.report._pages import Page


def page(*blocks):
    return html.page("A <title>", [], [("First & foremost", blocks)])


def test_page_escapes_everything_that_is_not_html():
    evil = "<script>alert('x')</script>"
    frame = pd.DataFrame({evil: [evil, "a & b"]}, index=[evil, "b"])
    found = page(
        html.table(frame, evil, index_name=evil),
        html.paragraph(evil),
        html.bullets([evil]),
        html.wall([(evil, evil)]),
        html.definitions([(evil, evil)]),
        html.tag("p", title=f'"{evil}'),
    )
    checked = Page(found)
    assert checked.faults == [] and "<script>" not in found
    assert checked.text().count(evil) == 11  # the region's label and the title are attributes
    assert checked.text("h1") == "A <title>" and checked.text("h2") == "First & foremost"


def test_page_has_policy_viewport_and_contents():
    found = page()
    assert "default-src 'none'" in found and "width=device-width" in found
    assert 'href="#first-foremost"' in found and 'id="first-foremost"' in found


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.nan, "–"),
        (pd.NA, "–"),
        (None, "–"),
        (True, "yes"),
        (np.int64(12345), "12,345"),
        (0.12345, "0.123"),
        (np.float32(12345.6), "12,346"),
        ("0.1", "0.1"),
    ],
)
def test_table_formats_values(value, text):
    assert html.format_value(value) == text


def test_table_heads_have_scopes_and_texts_their_class():
    found = html.table({"n": [1, 2], "why": ["because", ""]}, "caption", index=["a", "b"])
    assert found.count('scope="col"') == 3 and found.count('scope="row"') == 2
    assert found.count('class="text"') == 1 + 1 + 2  # index name, head, cells


def test_interval_track_places_estimate_and_limits():
    found = html.interval_track(0.5, 0.25, 0.75, (0, 1), zero=0.1)
    assert "left:25.0%;width:50.0%" in found and "left:50.0%" in found and "left:10.0%" in found
    assert "<i" not in html.interval_track(np.nan, 0, 1, (0, 1))


@pytest.mark.slow  # matplotlib is imported
def test_figure_image_is_inside_the_page():
    figure = pytest.importorskip("matplotlib.figure").Figure(figsize=(1, 2))
    found = html.figure_image(figure, "a <b>")
    assert 'alt="a &lt;b&gt;" width="96" height="192"' in found
    assert Page(page(html.figure(found, "caption"))).faults == []


@pytest.mark.parametrize(
    ("markup", "fault"),
    [
        ("<h1>a</h1><h3>b</h3>", "h3 follows h1"),
        ("<h1>a</h1><img src='data:,'>", "a picture without alt"),
        ("<h1>a</h1><img alt='b' src='http://b'>", "src leaves the page"),
        ("<h1>a</h1><table><tr><th>b</th></tr></table>", "without scope"),
        ("<h1>a</h1><p onclick='b'></p>", "script in onclick"),
        ("<h1>a</h1><style>p { background: url(b) }</style>", "a style loads"),
        ("<h1>a</h1><script></script>", "element script"),
        ("<h1>a</h1><p>", "not closed"),
        ("<h1>a</h1><a href='#b'>b</a>", "link to b"),
    ],
)
def test_page_checker_finds_a_planted_fault(markup, fault):
    assert any(fault in found for found in Page(markup).faults)


def test_write_page_keeps_the_file_if_it_fails(tmp_path):
    path = tmp_path / "report.html"
    html.write_page(path, Html("old"))
    with pytest.raises(UnicodeEncodeError):
        html.write_page(path, Html("half\ud800"))
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_check_path_names_the_remedy(tmp_path):
    assert html.check_path(None, "f") is None
    with pytest.raises(ValueError, match="f: path=.* is a folder; expected the name of a file"):
        html.check_path(tmp_path, "f")
    with pytest.raises(ValueError, match="f: path=.*there is no folder .*none.*Create it"):
        html.check_path(tmp_path / "none" / "a.html", "f")
