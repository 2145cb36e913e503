"""Five words stay out of the package, the README, the docs and the examples."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(
    [
        ROOT / "README.md",
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("examples/*.py"),
        *ROOT.glob("sklearn_mmfusion/**/*.py"),
    ]
)
# whole words, also as parts of identifiers: an underscore or a digit ends a word
BANNED = re.compile(
    r"(?<![a-z])(told|telling|heed|notwithstanding|of\s+one's\s+own)(?![a-z])", re.IGNORECASE
)


def banned_words(text):
    """Return the banned words of a text, each with its line."""
    return [
        f"line {text.count(chr(10), 0, match.start()) + 1}: {match[0]}"
        for match in BANNED.finditer(text)
    ]


@pytest.mark.parametrize(
    ("text", "n_found"),
    [
        ("as it was told.", 1),
        ("Telling", 1),
        ("self._told_twice = not_told", 2),
        ("heed2, notwithstanding", 2),
        ("a class of one's\n    own", 1),
        ("storytelling, heedless, untold: other words", 0),
    ],
)
def test_banned_words_are_found_as_whole_words(text, n_found):
    assert len(banned_words(text)) == n_found


def test_files_contain_no_banned_word():
    assert len(FILES) > 80
    found = {str(file.relative_to(ROOT)): banned_words(file.read_text("utf-8")) for file in FILES}
    assert {name: words for name, words in found.items() if words} == {}
