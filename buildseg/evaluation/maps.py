"""Both sides drawn over a piece of ground."""

from io import BytesIO

import numpy as np
import shapely
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from buildseg.evaluation.colours import COLOURS
from buildseg.evaluation.outlines import Polygons
from buildseg.evaluation.views import View

_DPI = 100
_SIDE = 11.0
_PLAIN = "#e9e7e0"
_QUALITY = {"quality": 86, "optimize": True}


def draw_map(view: View, side: int, *, fine: bool) -> bytes:
    """Draw a view as a JPEG without frame.

    Footprints are filled in the colour of what became of them, as are the buildings that were not found. The true
    outlines are white.

    Args:
        view: What is drawn.
        side: Pixels along its longer side.
        fine: Whether the ground is so near that lines are wanted more than areas.
    """
    left, right, bottom, top = view.extent
    across, up = abs(right - left), abs(top - bottom)
    inches = side / _DPI / max(across, up)
    figure = Figure(figsize=(max(across * inches, 0.5), max(up * inches, 0.5)), dpi=_DPI, facecolor=_PLAIN)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    if view.image is not None:
        axes.imshow(view.image, extent=view.extent, aspect="auto", interpolation="bilinear")
    for kind, colour in COLOURS.items():
        chosen = np.concatenate([view.found[view.found_kinds == kind], view.truth[view.truth_kinds == kind]])
        if len(chosen):
            path = _path(chosen)
            axes.add_patch(PathPatch(path, facecolor=(*colour, 0.22 if fine else 0.5), edgecolor="none"))
            axes.add_patch(PathPatch(path, fill=False, edgecolor=colour, linewidth=1.6 if fine else 0.6))
    if fine and len(view.truth):
        axes.add_patch(PathPatch(_path(view.truth), fill=False, edgecolor="white", linewidth=0.8, linestyle="--"))
    axes.set(xlim=(left, right), ylim=(bottom, top))
    picture = BytesIO()
    figure.savefig(picture, format="jpg", dpi=_DPI, pil_kwargs=_QUALITY)
    return picture.getvalue()


def _path(polygons: Polygons) -> Path:
    """Make one path of all rings, holes the other way round so that they stay open."""
    rings = shapely.get_rings(shapely.get_parts(shapely.normalize(polygons)))
    points, owner = shapely.get_coordinates(rings, return_index=True)
    codes = np.full(len(points), Path.LINETO, np.uint8)
    codes[np.flatnonzero(np.diff(owner, prepend=-1))] = Path.MOVETO
    return Path(points, codes)
