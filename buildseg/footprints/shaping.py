"""Gives contours their shape: in metres, without small holes, simplified."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from buildseg.footprints.contours import Contours, concatenate
from buildseg.footprints.ground import Ground
from buildseg.footprints.simplify import simplify
from tiling.errors import OptionError


@dataclass(frozen=True, slots=True, eq=False)
class Shaped:
    """Footprints before they are placed.

    Attributes:
        contours: As they were traced, or parted from such.
        plain: Their polygons in metres, shape (n,). No two of them overlap.
        shape: What becomes of them, in metres, shape (n,): simplified, regular.
        status: How that came about, str, shape (n,).
        group: Those with the same number share walls, shape (n,).
    """

    contours: Contours
    plain: NDArray[np.object_]
    shape: NDArray[np.object_]
    status: NDArray[np.object_]
    group: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.plain)

    def where(self, chosen: NDArray[np.bool_]) -> "Shaped":
        """Keep some."""
        rest = (self.plain[chosen], self.shape[chosen], self.status[chosen], self.group[chosen])
        return Shaped(self.contours.where(chosen), *rest)


@dataclass(frozen=True, slots=True)
class ShapeOptions:
    """What shape footprints are given.

    Attributes:
        simplify: Metres that an outline may move to save vertices; None takes half a pixel, 0 keeps all.
        min_hole: Square metres below which a hole is filled, unless a footprint stands in it; 0 fills none.

    Raises:
        OptionError: A value is out of its range.
    """

    simplify: float | None = None
    min_hole: float = 0.0

    def __post_init__(self) -> None:
        if self.simplify is not None and not 0 <= self.simplify < np.inf:
            raise OptionError(f"--simplify {self.simplify:g} is no length in metres; give 0 or more")
        if not 0 <= self.min_hole < np.inf:
            raise OptionError(f"--min-hole {self.min_hole:g} is no area in square metres; give 0 or more")


class Shaper:
    """Shapes contours.

    Args:
        ground: Where they are.
        options: How.
    """

    untouched = "contour"
    """The status of a footprint that is its contour."""

    def __init__(self, ground: Ground, options: ShapeOptions) -> None:
        self._ground = ground
        self._min_hole = options.min_hole
        self._tolerance = min(ground.gsd) / 2 if options.simplify is None else options.simplify

    @property
    def reach(self) -> float:
        """Metres that an outline may move."""
        return self._tolerance

    def shape(self, contours: Contours) -> Shaped:
        """Shape contours.

        Args:
            contours: Those that begin in one band of rows, in any order.

        Returns:
            As many shapes.
        """
        # The same polygon may come with another first vertex from other blocks, and simplifying keeps the first.
        polygons = shapely.normalize(contours.polygons)
        contours = Contours(polygons, *contours.sums)
        plain = self._ground.measure(polygons)
        shape = _without_small_holes(plain, self._min_hole)
        if self._tolerance:
            shape = simplify(shape, self._tolerance)
        status = np.full(len(plain), self.untouched, np.object_)
        return Shaped(contours, plain, shape, status, np.arange(len(plain)))


def join_shaped(shaped: Sequence[Shaped]) -> Shaped:
    """Put footprints one behind the other, with groups of their own."""
    starts = np.cumsum([0, *(each.group.max(initial=-1) + 1 for each in shaped)])
    return Shaped(
        concatenate([each.contours for each in shaped]),
        np.concatenate([each.plain for each in shaped]),
        np.concatenate([each.shape for each in shaped]),
        np.concatenate([each.status for each in shaped]),
        np.concatenate([each.group + start for each, start in zip(shaped, starts, strict=False)]),
    )


def _without_small_holes(polygons: NDArray[np.object_], smallest: float) -> NDArray[np.object_]:
    """Fill holes of less than some square metres."""
    filled = polygons.copy()
    for index in np.flatnonzero(shapely.get_num_interior_rings(polygons) if smallest else []):
        holes = shapely.polygons(shapely.get_rings(polygons[index])[1:])
        large = holes[shapely.area(holes) >= smallest]
        filled[index] = shapely.polygons(
            shapely.get_exterior_ring(polygons[index]), shapely.get_exterior_ring(large) if len(large) else None
        )
    return filled
