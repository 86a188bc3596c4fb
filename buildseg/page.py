"""Pieces of self-contained HTML pages: they hold their style and pictures, and need no network."""

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files

from buildseg import __version__


def html_page(title: str, body: str) -> str:
    """Make a page.

    Args:
        title: Plain text.
        body: HTML.
    """
    css = files("buildseg.evaluation").joinpath("report.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{css}</style>\n</head>\n<body>\n<main>\n"
        f"{body}</main>\n</body>\n</html>\n"
    )


def html_keys(tiles: Iterable[tuple[str, str, str]]) -> str:
    """Make a row of the numbers that matter most: what it is, how much, and what is to be added, in small."""
    cells = (
        f"<div><span>{escape(label)}</span><b>{escape(value)}</b><small>{escape(more)}</small></div>"
        for label, value, more in tiles
    )
    return f'<div class="keys">{"".join(cells)}</div>\n'


def html_table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Make a table of plain text; without a header, the third column is small."""
    head = f"<tr>{''.join(f'<th>{escape(cell)}</th>' for cell in header)}</tr>" if header else ""
    kinds = ("", "", "" if header else ' class="between"')
    lines = [
        "".join(f"<td{kinds[min(place, 2)]}>{escape(cell)}</td>" for place, cell in enumerate(row)) for row in rows
    ]
    return f"<table><caption>{escape(caption)}</caption>{head}{''.join(f'<tr>{line}</tr>' for line in lines)}</table>\n"


def html_figure(picture: bytes, kind: str, caption: str, alternative: str) -> str:
    """Make a figure that holds its picture.

    Args:
        picture: Content of an image file.
        kind: ``png``, ``jpeg`` or ``svg+xml``.
        caption: Plain text.
        alternative: What is said in place of the picture.
    """
    data = b64encode(picture).decode()
    return (
        f'<figure><img alt="{escape(alternative)}" src="data:image/{kind};base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>\n"
    )


def html_list(said: Mapping[str, str]) -> str:
    """Make a list of plain texts by what they are about."""
    return f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{escape(text)}</dd>' for name, text in said.items())}</dl>\n"


def html_footer() -> str:
    """Say what made the page."""
    return f"<footer>buildseg {__version__}</footer>\n"
