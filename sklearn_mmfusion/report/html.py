"""One self-contained HTML page: tables and pictures, without scripts or requests.

`tag` builds elements and escapes everything that is not yet `Html`.
"""

import base64
import html
import io
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd

from sklearn_mmfusion.containers.accessor import Html

_DPI = 144  # of pictures, shown at 96: sharp on dense screens
_LONG = 24  # characters of a text that may wrap
_VOID = ("br", "img", "link", "meta")

# Makes the browser refuse every request, whatever the data contain.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --page: #fff; --soft: #f3f5f7; --line: #c9d0d7;
  --quiet: #57606a; --mark: #0072b2; --warn: #b34700; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e9ec; --page: #14171a; --soft: #1f2428;
  --line: #444c54; --quiet: #a2abb4; --mark: #56b4e9; --warn: #e69f00; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 0 1rem 3rem; background: var(--page);
  color: var(--text); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 1.5rem 0 .5rem; }
h2 { font-size: 1.3rem; margin: 2.2rem 0 .5rem; border-top: 1px solid var(--line);
  padding-top: .8rem; }
h3 { font-size: 1.05rem; margin: 1.3rem 0 .4rem; }
p, ul { max-width: 48rem; margin: .5rem 0; }
a { color: var(--mark); }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; list-style: none; padding: 0;
  max-width: none; }
.scroll { overflow-x: auto; margin: .6rem 0 1rem; max-height: 40rem; overflow-y: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
caption { text-align: left; color: var(--quiet); padding-bottom: .3rem; position: sticky; left: 0;
  max-width: calc(100vw - 2rem); }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right;
  vertical-align: top; overflow-wrap: normal; }
td { white-space: nowrap; }
thead th { background: var(--soft); vertical-align: bottom; }
th[scope=row], th.text, td.text { text-align: left; }
td.text { max-width: 32rem; white-space: normal; }
td.long { min-width: 16rem; }
th[scope=row] { font-weight: 600; }
.track { position: relative; width: 11rem; height: 1.3rem; }
.track i { position: absolute; }
.track .range { top: .5rem; height: .3rem; min-width: 1px; background: var(--mark); }
.track .dot { top: .2rem; width: 3px; height: .9rem; margin-left: -1px; background: var(--text); }
.track .zero { top: 0; bottom: 0; border-left: 1px dashed var(--quiet); }
.shade { background: color-mix(in srgb, var(--mark) var(--share), var(--page)); }
.warn { color: var(--warn); font-weight: 600; }
.quiet { color: var(--quiet); }
figure { margin: .8rem 0; }
figcaption { color: var(--quiet); font-size: .85rem; }
img { max-width: 100%; height: auto; }
img.plot { background: #fff; border-radius: .3rem; }
.plots > img { max-width: min(100%, 36rem); }
pre { white-space: pre-wrap; font-size: .85rem; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
.wall { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); gap: .8rem;
  margin: .6rem 0 1rem; }
.wall > figure { margin: 0; padding: .5rem; background: var(--soft); border-radius: .3rem; }
.wall img { display: block; width: 6rem; }
.wall svg { display: block; max-width: 100%; }
.cards { grid-template-columns: repeat(auto-fill, minmax(min(100%, 15rem), 1fr)); }
dl { margin: .4rem 0 0; display: grid; grid-template-columns: auto 1fr; gap: .3rem .7rem;
  font-size: .9rem; }
dt { color: var(--quiet); }
dd { margin: 0; }
"""


# ------------------------------------------------------------------------------ elements


def escape(value):
    """Return a value as HTML; `Html` is returned unchanged."""
    return value if isinstance(value, Html) else Html(html.escape(str(value)))


def join(parts):
    """Return parts one after the other as HTML."""
    return Html("".join(map(escape, parts)))


def tag(name, *content, **attributes):
    """Return an element; attributes lose a trailing underscore (``class_``)."""
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    closing = "" if name in _VOID else f"{join(content)}</{name}>"
    return Html(f"<{name}{pairs}>{closing}")


def paragraph(*content, class_=None):
    """Return a paragraph."""
    return tag("p", *content, class_=class_)


def bullets(items):
    """Return a list of items."""
    return tag("ul", *(tag("li", item) for item in items))


def format_value(value):
    """Return a value for a table: numbers rounded to about three digits, a dash for missing."""
    if isinstance(value, str):
        return value
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return "–"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if isinstance(value, float | np.floating):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def table(columns, caption, *, index=None, index_name=""):
    """Return a table that scrolls sideways on narrow screens.

    Parameters
    ----------
    columns : DataFrame or dict of {str: list}
        Values, or cells made by `shaded` and `interval_track`. Pass those in a dict: in a frame,
        pandas would turn them into plain texts.
    caption : str
    index : sequence, default=None
        First column; None takes the index of the frame.
    index_name : str, default=""
    """
    index = columns.index if index is None else index
    heads = [tag("th", index_name, scope="col", class_="text")]
    bodies = []
    for name in columns:
        values = list(columns[name])
        class_ = "text" if any(map(_is_text, values)) else None
        heads.append(tag("th", name, scope="col", class_=class_))
        bodies.append([v if _is_cell(v) else _cell(v, class_) for v in values])
    lines = [
        tag("tr", tag("th", label, scope="row"), *cells)
        for label, *cells in zip(index, *bodies, strict=True)
    ]
    head, body = tag("thead", tag("tr", *heads)), tag("tbody", *lines)
    # focusable, so that it can be scrolled with the keyboard
    return tag(
        "div",
        tag("table", tag("caption", caption), head, body),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label=caption,
    )


def _is_cell(value):
    return isinstance(value, Html) and value.startswith("<td")


def _is_text(value):
    if not isinstance(value, str) or _is_cell(value):
        return False
    return len(value) > _LONG or re.match(r"[^-+–.\d]", value)


def _cell(value, class_):
    text = format_value(value)
    return tag("td", text, class_="text long" if class_ and len(text) > _LONG else class_)


def shaded(value, share):
    """Return a cell of a table whose background shows a share from 0 to 1."""
    return tag("td", format_value(value), class_="shade", style=f"--share: {60 * share:.0f}%")


def interval_track(value, low, high, limits, zero=None):
    """Return a cell with a drawing of an interval, for a column next to its numbers."""
    start, stop = limits

    def place(x):
        return 100 * (min(max(x, start), stop) - start) / ((stop - start) or 1.0)

    if not np.isfinite([value, low, high]).all():
        return tag("td", "–")
    left = place(low)
    span = f"left:{left:.1f}%;width:{place(high) - left:.1f}%"
    marks = [
        tag("i", class_="range", style=span),
        tag("i", class_="dot", style=f"left:{place(value):.1f}%"),
    ]
    if zero is not None and start <= zero <= stop:
        marks.insert(0, tag("i", class_="zero", style=f"left:{place(zero):.1f}%"))
    return tag("td", tag("div", *marks, class_="track", aria_hidden="true"))


def figure_image(figure, alt):
    """Return a matplotlib figure as a picture inside the page."""
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=_DPI, metadata={"Software": None})
    data = base64.b64encode(target.getvalue()).decode()
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    return tag(
        "img",
        src=f"data:image/png;base64,{data}",
        alt=alt,
        width=width,
        height=height,
        class_="plot",
    )


def figure(content, caption):
    """Return pictures with a caption."""
    return tag("figure", content, tag("figcaption", caption))


def wall(items, class_="wall"):
    """Return (content, caption) pairs side by side."""
    return tag("div", *(figure(content, caption) for content, caption in items), class_=class_)


def definitions(pairs):
    """Return (term, description) pairs as a list."""
    return tag("dl", *(join([tag("dt", term), tag("dd", text)]) for term, text in pairs))


# ------------------------------------------------------------------------------ page


def page(title, lead, sections):
    """Return a whole page.

    Parameters
    ----------
    title : str
    lead : list of str or Html
        Blocks under the title.
    sections : list of (str, list of str or Html)
        Headings of the second level and the blocks under them. Headings inside the blocks have
        the third level.

    Returns
    -------
    page : Html
    """
    ids = [re.sub(r"\W+", "-", heading.lower()).strip("-") for heading, _ in sections]
    links = [
        tag("li", tag("a", heading, href=f"#{i}"))
        for i, (heading, _) in zip(ids, sections, strict=True)
    ]
    body = [
        tag("section", tag("h2", heading, id=i), *blocks)
        for i, (heading, blocks) in zip(ids, sections, strict=True)
    ]
    head = [
        tag("meta", charset="utf-8"),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("link", rel="icon", href="data:,"),
        tag("title", title),
        tag("style", Html(_STYLE)),
    ]
    contents = tag("nav", tag("ul", *links), aria_label="Contents")
    main = tag("main", tag("h1", title), *lead, contents, *body)
    return Html(
        f"<!DOCTYPE html>\n{tag('html', tag('head', *head), tag('body', main), lang='en')}\n"
    )


def check_path(path, caller):
    """Return the path of a page or None; raise before any work if it cannot be written."""
    if path is None:
        return None
    path = Path(path)
    if path.is_dir():
        raise ValueError(
            f"{caller}: path={str(path)!r} is a folder; expected the name of a file, such as "
            f"{str(path / 'report.html')!r}."
        )
    if not path.absolute().parent.is_dir():
        raise ValueError(
            f"{caller}: path={str(path)!r}: there is no folder {str(path.parent)!r}. Create it "
            "first."
        )
    return path


def write_page(path, markup):
    """Write a page; if that fails, an existing file stays unchanged."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(markup, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
