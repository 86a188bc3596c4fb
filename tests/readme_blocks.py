"""Reads the shell blocks of the README: `python3 tests/readme_blocks.py NAME` prints the one of that name.

A block is named by a comment in the line before it: ``<!-- run: NAME -->``.
"""

import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"
_BLOCK = re.compile(r"(?:<!-- run: (?P<name>[\w-]+) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)```", re.DOTALL)


def blocks(language: str) -> list[tuple[str | None, str]]:
    """Give the name (None where it has none) and the text of each block of a language, in order."""
    found = _BLOCK.finditer(README.read_text(encoding="utf-8"))
    return [(match["name"], match["text"]) for match in found if match["language"] == language]


if __name__ == "__main__":
    print(dict(blocks("sh"))[sys.argv[1]], end="")
