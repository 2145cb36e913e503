"""Both pages in headless Chromium: nothing is requested, nothing fails, nothing is cut off."""

import re
import shutil
import subprocess

import numpy as np
import pytest

from sklearn_mmfusion.report import data_report, fusion_report
from tests.report._pages import MAX_BYTES, Page
from tests.report._tiny import late_classifier, make_data

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="chromium is not installed"),
]
WIDTH = 400
# measures a page in a frame, since windows are at least 500 pixels wide
FRAME = """<!DOCTYPE html>
<iframe style="width: {width}px; height: 3000px; border: 0" src="{page}"></iframe>
<p></p>
<script>
onload = () => {{
  const inner = document.querySelector("iframe").contentDocument;
  const width = inner.documentElement.scrollWidth, images = [...inner.images];
  const broken = images.filter(image => !image.naturalWidth).length;
  document.querySelector("p").textContent =
    `width ${{width}} images ${{images.length}} broken ${{broken}}`;
}};
</script>
"""


def open_page(path, profile):
    """Return the document after loading, and the lines of the console."""
    command = [
        *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"),
        *("--allow-file-access-from-files", "--host-resolver-rules=MAP * ~NOTFOUND"),
        *("--enable-logging=stderr", "--v=0", "--dump-dom", path.as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    pytest.importorskip("matplotlib")
    pytest.importorskip("PIL")
    folder = tmp_path_factory.mktemp("pages")
    X, y = make_data(n=90, n_classes=3)
    X["photo"] = list(np.random.default_rng(0).integers(0, 256, (90, 12, 9, 3), dtype=np.uint8))
    X["title"] = [f"<b>a long title of the row {i}</b>" for i in range(90)]
    data_report(X, y, cv=3, path=folder / "data.html")
    fusion_report(late_classifier(["strong", "weak", "noise"]), X, y, path=folder / "fusion.html")
    return folder


@pytest.mark.parametrize("name", ["data", "fusion"])
def test_page_opens_without_errors_and_requests(pages, tmp_path, name):
    path = pages / f"{name}.html"
    markup = path.read_text("utf-8")
    assert Page(markup).faults == [] and "Failed" not in markup
    assert path.stat().st_size < MAX_BYTES
    document, console = open_page(path, tmp_path)
    assert console == [] and "<h1>" in document


@pytest.mark.parametrize("name", ["data", "fusion"])
def test_page_fits_a_narrow_screen(pages, tmp_path, name):
    path = pages / f"{name}.html"
    frame = pages / f"frame-{name}.html"
    frame.write_text(FRAME.format(width=WIDTH, page=path.as_uri()))
    document, console = open_page(frame, tmp_path)
    assert console == []
    width, n_images, n_broken = re.search(
        r"width (\d+) images (\d+) broken (\d+)", document
    ).groups()
    assert int(width) <= WIDTH and int(n_images) > 5 and int(n_broken) == 0


def test_a_planted_request_is_refused_and_seen(pages, tmp_path):
    markup = (pages / "data.html").read_text("utf-8")
    path = tmp_path / "planted.html"
    path.write_text(markup.replace("</main>", '<img src="http://a.invalid/b.png"></main>'))
    assert Page(path.read_text("utf-8")).faults
    _, console = open_page(path, tmp_path)
    assert len(console) == 1 and "Content Security Policy" in console[0]
