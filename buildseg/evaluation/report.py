"""One HTML page that says how good a prediction is, and shows where it is not."""

from html import escape
from itertools import groupby
from pathlib import Path

from buildseg.evaluation.charts import draw_charts
from buildseg.evaluation.colours import COLOURS
from buildseg.evaluation.maps import draw_map
from buildseg.evaluation.measures import MEASURES, written
from buildseg.evaluation.result import Evaluation
from buildseg.evaluation.table import SIZE_HEADER, score_rows, size_rows
from buildseg.page import html_figure, html_footer, html_keys, html_list, html_page, html_table
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
    parts = (_head(evaluation, name), _tables(evaluation), _curves(evaluation), _maps(evaluation), _notes(evaluation))
    return html_page(f"{name}: evaluation", "".join(parts))


def _head(evaluation: Evaluation, name: str) -> str:
    scores = evaluation.scores
    tiles = []
    for measure in MEASURES:
        if measure.key in _KEYS:
            interval = scores.intervals.get(measure.key)
            between = f"{interval[0]:.{measure.digits}f} to {interval[1]:.{measure.digits}f}" if interval else ""
            label = f"{measure.label} of {measure.group}" if measure.key in {"iou", "object_f1"} else measure.label
            value = written(measure, scores.values[measure.key])
            tiles.append((label, value, between))
    about = evaluation.about
    truth = ", ".join(Path(path).name for path in str(about["truth"]).split(", "))
    return (
        f'<h1>How good is {escape(name)}?</h1>\n<p class="soft">'
        f"Compared with {escape(truth)}, on "
        f"{escape(str(about['area']))}.</p>\n{html_keys(tiles)}"
    )


def _tables(evaluation: Evaluation) -> str:
    tables = []
    for group, rows in groupby(score_rows(evaluation.scores), lambda row: row.group):
        cells = [(row.label, row.value, row.interval) for row in rows]
        if any(value != "-" for _, value, _ in cells):
            tables.append(html_table(group, (), cells))
    sizes = html_table("buildings by size", SIZE_HEADER, size_rows(evaluation.scores))
    between = (
        f"95% intervals, small, from {evaluation.scores.blocks} blocks drawn anew a thousand times."
        if evaluation.scores.intervals
        else f"{evaluation.scores.blocks} blocks are too few for intervals."
    )
    return (
        f'<h2>Scores</h2>\n<p class="soft">{between}</p>\n<div class="tables">{"".join(tables)}</div>\n'
        f'<div class="wide">{sizes}</div>\n'
    )


def _curves(evaluation: Evaluation) -> str:
    charts = draw_charts(evaluation.scores, evaluation.objects)
    if not charts:
        return ""
    figures = [html_figure(svg.encode(), "svg+xml", title, title) for title, svg in charts.items()]
    return f'<h2>Curves</h2>\n<div class="curves">{"".join(figures)}</div>\n'


def _maps(evaluation: Evaluation) -> str:
    overview, places = evaluation.gallery.overview(), evaluation.gallery.worst(_PLACES)
    legend = "".join(
        f'<li><i style="background:rgb({",".join(str(round(255 * part)) for part in colour)})"></i>{kind}</li>'
        for kind, colour in COLOURS.items()
    )
    page = f'<ul class="legend">{legend}</ul>\n'
    if overview is not None:
        page = f"<h2>Where</h2>\n{page}"
        page += html_figure(draw_map(overview, _OVERVIEW_SIDE, fine=False), "jpeg", "all of it", "Map of all buildings")
    if places:
        shown = [
            html_figure(draw_map(view, _PLACE_SIDE, fine=True), "jpeg", view.title, f"Map of errors: {view.title}")
            for view in places
        ]
        title = '<h2>The worst places</h2>\n<p class="soft">Most area in error first; dashed: the true outlines.</p>\n'
        page = (f"{page}{title}" if overview is not None else f"{title}{page}") + (
            f'<div class="places">{"".join(shown)}</div>\n'
        )
    return page


def _notes(evaluation: Evaluation) -> str:
    about = {
        _SAID[key]: f"{value:.4g}" if isinstance(value, float) else str(value)
        for key, value in evaluation.about.items()
        if value is not None
    }
    meant = {f"{each.group}: {each.label}": each.meaning for each in MEASURES}
    return (
        f"<h2>What was compared</h2>\n{html_list(about)}<h2>What the scores mean</h2>\n{html_list(meant)}"
        f"{html_footer()}"
    )
