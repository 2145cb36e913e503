"""Static checks of a page: no reference leaves it, and everything has its heading or text."""

import re
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br"}
MAX_BYTES = 5_000_000  # of a page


class Page(HTMLParser):
    """Faults of a page, and its texts by element."""

    def __init__(self, markup):
        super().__init__()
        self.faults, self.levels, self.open, self.ids, self.links = [], [], [], set(), []
        self.texts, self.counts = {}, {}
        self.feed(markup)
        self.close()
        self.faults += [f"not closed: {self.open}"] if self.open else []
        self.faults += [f"link to {i}" for i in self.links if i not in self.ids]
        self._check_headings()
        styles = " ".join(self.texts.get("style", []))
        if re.search(r"url\(|@import", styles):
            self.faults.append("a style loads something")
        if len(markup.encode()) > MAX_BYTES:
            self.faults.append(f"{len(markup.encode())} bytes")

    def _check_headings(self):
        if self.levels[:1] != [1] or self.levels.count(1) != 1:
            self.faults.append(f"headings start with {self.levels[:1]}")
        for before, level in zip(self.levels, self.levels[1:], strict=False):
            if level > before + 1:
                self.faults.append(f"h{level} follows h{before}")

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.counts[tag] = self.counts.get(tag, 0) + 1
        if tag not in VOID:
            self.open.append(tag)
        if "id" in attributes:
            self.faults += [f"id {attributes['id']} twice"] * (attributes["id"] in self.ids)
            self.ids.add(attributes["id"])
        if re.fullmatch("h[1-6]", tag):
            self.levels.append(int(tag[1]))
        if tag == "img" and not attributes.get("alt"):
            self.faults.append("a picture without alt")
        if tag == "svg" and attributes.get("role") != "img":
            self.faults.append("a drawing without role")
        if tag == "th" and attributes.get("scope") not in ("row", "col"):
            self.faults.append("a head of a table without scope")
        if tag in ("script", "iframe", "object", "embed", "base", "form"):
            self.faults.append(f"element {tag}")
        for name, value in attributes.items():
            self._check_attribute(name, value or "")

    def _check_attribute(self, name, value):
        if name.startswith("on"):
            self.faults.append(f"script in {name}")
        if name in ("src", "href", "srcset", "action", "data", "poster"):
            if value.startswith("#"):
                self.links.append(value[1:])
            elif not value.startswith("data:"):
                self.faults.append(f"{name} leaves the page: {value[:80]}")
        if "url(" in value:
            self.faults.append(f"{name} loads something: {value[:80]}")

    def handle_startendtag(self, tag, attributes):  # in drawings
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes another element")

    def handle_data(self, data):
        for tag in set(self.open):
            self.texts.setdefault(tag, []).append(data)

    def text(self, tag="body"):
        """Return the text of all elements of a kind."""
        return " ".join(" ".join(self.texts.get(tag, [])).split())
