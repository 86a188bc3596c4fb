"""One HTML page that says how good a prediction is, and shows where it is not."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from itertools import groupby
from pathlib import Path

from buildseg import __version__
from buildseg.evaluation.charts import draw_charts
from buildseg.evaluation.colours import COLOURS
from buildseg.evaluation.maps import draw_map
from buildseg.evaluation.measures import MEASURES, written
from buildseg.evaluation.result import Evaluation
from buildseg.evaluation.table import SIZE_HEADER, score_rows, size_rows
from tiling.output import written_whole

_KEYS = ("iou", "boundary_iou", "object_f1", "polis_m")
_PLACES = 6
_OVERVIEW_SIDE, _PLACE_SIDE = 1600, 720
_SAID = {
    "prediction": "prediction",
    "truth": "truth",
    "area": "compared on",
    "compared_km2": "ground, km²",
    "gsd_m": "pixels, m",
    "boundary_m": "boundary IoU looks within, m",
    "threshold": "threshold",
}


def write_report(evaluation: Evaluation, target: Path, *, overwrite: bool = False) -> None:
    """Write the page. It holds its pictures and needs nothing beside it, a network least of all.

    Args:
        evaluation: The comparison.
        target: HTML file to write.
        overwrite: Whether an existing file may be replaced.

    Raises:
        OutputError: The file exists or cannot be written.
    """
    with written_whole(target, overwrite=overwrite) as partial:
        partial.write_text(make_page(evaluation), encoding="utf-8")


def make_page(evaluation: Evaluation) -> str:
    """Make the page.

    Args:
        evaluation: The comparison.
    """
    name = Path(str(evaluation.about["prediction"])).name
    css = files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    parts = (_head(evaluation, name), _tables(evaluation), _curves(evaluation), _maps(evaluation), _notes(evaluation))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(name)}: evaluation</title>\n<style>\n{css}</style>\n</head>\n<body>\n<main>\n"
        f"{''.join(parts)}</main>\n</body>\n</html>\n"
    )


def _head(evaluation: Evaluation, name: str) -> str:
    scores = evaluation.scores
    tiles = []
    for measure in MEASURES:
        if measure.key in _KEYS:
            interval = scores.intervals.get(measure.key)
            between = f"{interval[0]:.{measure.digits}f} to {interval[1]:.{measure.digits}f}" if interval else ""
            label = f"{measure.label} of {measure.group}" if measure.key in {"iou", "object_f1"} else measure.label
            value = written(measure, scores.values[measure.key])
            tiles.append(f"<div><span>{escape(label)}</span><b>{value}</b><small>{between}</small></div>")
    about = evaluation.about
    truth = ", ".join(Path(path).name for path in str(about["truth"]).split(", "))
    return (
        f'<h1>How good is {escape(name)}?</h1>\n<p class="soft">'
        f"Compared with {escape(truth)}, on "
        f'{escape(str(about["area"]))}.</p>\n<div class="keys">{"".join(tiles)}</div>\n'
    )


def _tables(evaluation: Evaluation) -> str:
    tables = []
    for group, rows in groupby(score_rows(evaluation.scores), lambda row: row.group):
        cells = [(row.label, row.value, row.interval) for row in rows]
        if any(value != "-" for _, value, _ in cells):
            tables.append(_table(group, (), cells))
    sizes = _table("buildings by size", SIZE_HEADER, size_rows(evaluation.scores))
    between = (
        f"95% intervals, small, from {evaluation.scores.blocks} blocks drawn anew a thousand times."
        if evaluation.scores.intervals
        else f"{evaluation.scores.blocks} blocks are too few for intervals."
    )
    return (
        f'<h2>Scores</h2>\n<p class="soft">{between}</p>\n<div class="tables">{"".join(tables)}</div>\n'
        f'<div class="wide">{sizes}</div>\n'
    )


def _table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = f"<tr>{''.join(f'<th>{escape(cell)}</th>' for cell in header)}</tr>" if header else ""
    kinds = ("", "", "" if header else ' class="between"')
    lines = [
        "".join(f"<td{kinds[min(place, 2)]}>{escape(cell)}</td>" for place, cell in enumerate(row)) for row in rows
    ]
    return f"<table><caption>{escape(caption)}</caption>{head}{''.join(f'<tr>{line}</tr>' for line in lines)}</table>\n"


def _curves(evaluation: Evaluation) -> str:
    charts = draw_charts(evaluation.scores, evaluation.objects)
    if not charts:
        return ""
    figures = [_figure(svg.encode(), "svg+xml", title, title) for title, svg in charts.items()]
    return f'<h2>Curves</h2>\n<div class="curves">{"".join(figures)}</div>\n'


def _maps(evaluation: Evaluation) -> str:
    overview, places = evaluation.gallery.overview(), evaluation.gallery.worst(_PLACES)
    legend = "".join(
        f'<li><i style="background:rgb({",".join(str(round(255 * part)) for part in colour)})"></i>{kind}</li>'
        for kind, colour in COLOURS.items()
    )
    page = f'<h2>Where</h2>\n<ul class="legend">{legend}</ul>\n'
    if overview is not None:
        page += _figure(draw_map(overview, _OVERVIEW_SIDE, fine=False), "jpeg", "all of it", "Map of all buildings")
    if places:
        shown = [
            _figure(draw_map(view, _PLACE_SIDE, fine=True), "jpeg", view.title, f"Map of errors: {view.title}")
            for view in places
        ]
        page += (
            '<h2>The worst places</h2>\n<p class="soft">Most area in error first; dashed: the true outlines.</p>\n'
            f'<div class="places">{"".join(shown)}</div>\n'
        )
    return page


def _figure(picture: bytes, kind: str, caption: str, alternative: str) -> str:
    data = b64encode(picture).decode()
    return (
        f'<figure><img alt="{escape(alternative)}" src="data:image/{kind};base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>\n"
    )


def _notes(evaluation: Evaluation) -> str:
    about = [
        (_SAID[key], f"{value:.4g}" if isinstance(value, float) else str(value))
        for key, value in evaluation.about.items()
        if value is not None
    ]
    said = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in about)
    meant = "".join(
        f"<dt>{escape(each.group)}: {escape(each.label)}</dt><dd>{escape(each.meaning)}</dd>" for each in MEASURES
    )
    return (
        f"<h2>What was compared</h2>\n<dl>{said}</dl>\n<h2>What the scores mean</h2>\n<dl>{meant}</dl>\n"
        f"<footer>buildseg {__version__}</footer>\n"
    )
