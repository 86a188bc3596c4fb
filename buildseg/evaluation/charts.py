"""Curves of a comparison, as SVG on no ground, in greys that stand out from light and dark pages alike."""

from io import StringIO
from typing import Any

import matplotlib as mpl
import numpy as np
import shapely
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from buildseg.evaluation.colours import COLOURS
from buildseg.evaluation.matching import MATCHED, MERGED, MISSED
from buildseg.evaluation.objects import Objects
from buildseg.evaluation.precision import IOUS
from buildseg.evaluation.scores import Scores
from buildseg.evaluation.sizes import best_ious

_GREY = "#858b91"
_SIZE = (4.4, 3.5)
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "buildseg",
    "font.size": 11,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _GREY),
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_QUARTILES = (25, 50, 75)
_LEAST = 5


def draw_charts(scores: Scores, objects: Objects) -> dict[str, str]:
    """Draw what there is to draw.

    Args:
        scores: What was measured.
        objects: Both sides, compared.

    Returns:
        SVG by title.
    """
    charts = {}
    with mpl.rc_context(_STYLE):
        if objects.hits is not None and len(objects.hits) and len(objects.truth.polygons):
            charts["Precision and recall of buildings"] = _precision_recall(objects)
        if scores.reliability:
            charts["Reliability"] = _reliability(scores)
        if len(objects.truth.polygons):
            charts["IoU by size"] = _sizes(objects)
    return charts


def _precision_recall(objects: Objects) -> str:
    figure, axes = _axes("recall", "precision")
    hits = np.zeros((0, 10)) if objects.hits is None else objects.hits
    for column, kind in ((0, MATCHED), (5, MISSED), (8, MERGED)):
        hit = hits[:, column].cumsum()
        recall, precision = hit / len(objects.truth.polygons), hit / np.arange(1, len(hit) + 1)
        axes.plot(recall, precision, color=COLOURS[kind], label=f"IoU {IOUS[column]:.2g}")
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(frameon=False)
    return _svg(figure)


def _reliability(scores: Scores) -> str:
    figure, axes = _axes("probability said", "share that is building")
    axes.plot((0, 1), (0, 1), color=_GREY, linestyle=":", linewidth=1)
    middles = [each.probability for each in scores.reliability]
    axes.plot(middles, [each.frequency for each in scores.reliability], marker="o", markersize=4, color=COLOURS[MISSED])
    share = np.array([each.number for each in scores.reliability], np.float64)
    axes.bar(middles, 0.25 * share / share.max(), width=0.04, color=_GREY, alpha=0.35)
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    return _svg(figure)


def _sizes(objects: Objects) -> str:
    """Median and quartiles of every building's best IoU, over its area."""
    figure, axes = _axes("area of the building, m²", "best IoU with a footprint")
    areas, ious = shapely.area(objects.truth.polygons), best_ious(objects)
    edges = np.geomspace(max(areas.min(), 1), max(areas.max(), 2) * 1.001, 13)
    place = np.digitize(areas, edges)
    groups = [
        (np.median(areas[place == i]), ious[place == i]) for i in np.unique(place) if (place == i).sum() >= _LEAST
    ]
    if groups:
        middles = [middle for middle, _ in groups]
        low, median, high = np.array([np.percentile(group, _QUARTILES) for _, group in groups]).T
        axes.fill_between(middles, low, high, color=COLOURS[MATCHED], alpha=0.25, linewidth=0)
        axes.plot(middles, median, color=COLOURS[MATCHED], marker="o", markersize=4)
    if len(areas) <= 2000:
        axes.plot(areas, ious, ".", color=_GREY, alpha=0.5, markersize=3)
    axes.set(xscale="log", ylim=(0, 1.02))
    axes.xaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.4)))
    return _svg(figure)


def _axes(across: str, up: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE, layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.subplots()
    axes.patch.set_alpha(0)
    axes.grid(color=_GREY, alpha=0.25, linewidth=0.6)
    axes.set(xlabel=across, ylabel=up)
    return figure, axes


def _svg(figure: Figure) -> str:
    text = StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
