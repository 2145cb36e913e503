"""How often does the prose use words that plain English does without?

    python benchmarks/count_words.py [FOLDER OF A CHECKOUT]

Prints uses per 10 000 lines of the package: whole words, not parts of identifiers.
"""

import re
import sys
from pathlib import Path

FIVE = ("told", "says", "tells", "asked", "speaks")
OTHERS = (
    "telling",
    "heed",
    "notwithstanding",
    "ask",
    "asks",
    "answer",
    "answers",
    "gaps",
    "beside",
)
PHRASES = ("stands for", "stand for", "stands in", "stand in", "by which", "of one's own")
WORDS = (*FIVE, *OTHERS, *PHRASES, "of your own")


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parents[1])
    texts = [path.read_text(encoding="utf-8") for path in root.glob("sklearn_mmfusion/**/*.py")]
    n_lines, total = sum(text.count("\n") for text in texts), 0.0
    print("| word | per 10 000 lines |\n| --- | ---: |")
    for word in WORDS:
        pattern = re.compile(rf"(?<![a-z_]){word}(?![a-z_])", re.IGNORECASE)
        rate = 1e4 * sum(len(pattern.findall(text)) for text in texts) / n_lines
        total += rate if word in FIVE else 0.0
        print(f"| {word} | {rate:.1f} |")
    print(f"| {', '.join(FIVE)} together | {total:.1f} |")


if __name__ == "__main__":
    main()
