"""Pieces of ground to look at, with both sides on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import shapely
from numpy.typing import NDArray

from buildseg.evaluation.matching import MATCHED
from buildseg.evaluation.objects import Objects
from buildseg.evaluation.outlines import Polygons


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A piece of ground.

    Attributes:
        title: What it is.
        image: Colours in 0..1, shape (rows, cols, 3); None where there is no image.
        extent: Left, right, bottom and top of it, in the polygons' coordinates.
        found: Footprints on it.
        found_kinds: What became of each.
        truth: Buildings on it.
        truth_kinds: What became of each.
    """

    title: str
    image: NDArray[np.float32] | None
    extent: tuple[float, float, float, float]
    found: Polygons
    found_kinds: NDArray[np.object_]
    truth: Polygons
    truth_kinds: NDArray[np.object_]


class Gallery(Protocol):
    """Knows what to show of a comparison."""

    def overview(self) -> View | None:
        """Give a view of everything, None where there is no such thing."""

    def worst(self, number: int) -> Sequence[View]:
        """Give views of the places with the most errors, the worst first.

        Args:
            number: How many at most.
        """


def cut_view(
    objects: Objects, square: shapely.Polygon
) -> tuple[Polygons, NDArray[np.object_], Polygons, NDArray[np.object_]]:
    """Give footprints, their kinds, buildings and theirs, all that touch a square in metres."""
    sides = ((objects.found.polygons, objects.found_kinds), (objects.truth.polygons, objects.truth_kinds))
    here = [np.flatnonzero(shapely.intersects(polygons, square)) for polygons, _ in sides]
    (found, found_kinds), (truth, truth_kinds) = sides
    return found[here[0]], found_kinds[here[0]], truth[here[1]], truth_kinds[here[1]]


def worst_squares(objects: Objects, side: float, number: int) -> list[tuple[shapely.Polygon, float]]:
    """Find the squares with the most area in error: that of all footprints and buildings that do not match.

    Args:
        objects: Both sides, compared.
        side: Of a square, in metres.
        number: How many at most.

    Returns:
        Squares with that area in square metres, the worst first.
    """
    wrong = [
        side_polygons[kinds != MATCHED]
        for side_polygons, kinds in (
            (objects.found.polygons, objects.found_kinds),
            (objects.truth.polygons, objects.truth_kinds),
        )
    ]
    polygons = np.concatenate(wrong)
    if not len(polygons):
        return []
    centres = shapely.get_coordinates(shapely.centroid(polygons))
    cells, place = np.unique(np.floor(centres / side).astype(np.int64), axis=0, return_inverse=True)
    areas = np.bincount(place.ravel(), shapely.area(polygons))
    order = np.argsort(-areas, kind="stable")[:number]
    return [(shapely.box(*(cells[i] * side), *((cells[i] + 1) * side)), float(areas[i])) for i in order.tolist()]
