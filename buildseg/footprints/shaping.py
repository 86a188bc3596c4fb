"""Gives contours their shape: parted, in metres, without small holes, simplified or regular."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import shapely
from numpy.typing import NDArray

from buildseg.footprints.contours import Contours, concatenate
from buildseg.footprints.ground import Ground
from buildseg.footprints.parting import Parter
from buildseg.footprints.regularize import RegularizeOptions, regularize
from buildseg.footprints.simplify import simplify_groups
from buildseg.footprints.split import SplitOptions
from tiling.errors import OptionError

_GRID = 2.0**-12


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
        simplify: Metres that an outline may move to save vertices; None takes half a pixel, 0 keeps all. Regular
            outlines are not simplified.
        min_hole: Square metres below which a hole is filled, unless a footprint stands in it; 0 fills none.
        regularize: Whether walls are made straight and corners right where they nearly are.
        max_deviation: Metres that a regular outline may be from the contour; None takes four pixels.
        split: How buildings that touch are told apart.

    Raises:
        OptionError: A value is out of its range.
    """

    simplify: float | None = None
    min_hole: float = 0.0
    regularize: bool = False
    max_deviation: float | None = None
    split: SplitOptions = field(default_factory=SplitOptions)

    def __post_init__(self) -> None:
        if self.simplify is not None and not 0 <= self.simplify < np.inf:
            raise OptionError(f"--simplify {self.simplify:g} is no length in metres; give 0 or more")
        if not 0 <= self.min_hole < np.inf:
            raise OptionError(f"--min-hole {self.min_hole:g} is no area in square metres; give 0 or more")
        if self.max_deviation is not None:
            RegularizeOptions(self.max_deviation)
            if not self.regularize:
                raise OptionError("--max-deviation is the bound of --regularize; give both, or neither")


class Shaper:
    """Shapes contours.

    Args:
        ground: Where they are.
        options: How.
        parter: What parts those that are several buildings.
    """

    def __init__(self, ground: Ground, options: ShapeOptions, parter: Parter) -> None:
        self._ground = ground
        self._parter = parter
        self._min_hole = options.min_hole
        self._tolerance = min(ground.gsd) / 2 if options.simplify is None else options.simplify
        self._regular = RegularizeOptions(options.max_deviation or 4 * max(ground.gsd)) if options.regularize else None

    @property
    def reach(self) -> float:
        """Metres that an outline may move."""
        return self._regular.max_deviation if self._regular else self._tolerance

    @property
    def untouched(self) -> str:
        """The status of a footprint that is its contour."""
        return "kept" if self._regular else "contour"

    def shape(self, contours: Contours) -> Shaped:
        """Shape contours.

        Args:
            contours: Those that begin in one band of rows, in any order.

        Returns:
            As many shapes, or more where contours are parted.
        """
        # The same polygon may come with another first vertex from other blocks, and simplifying keeps the first.
        whole = Contours(shapely.normalize(contours.polygons), *contours.sums)
        contours, group = self._parter.part(whole)
        plain = self._ground.measure(contours.polygons)
        shape = _without_small_holes(plain, group, self._min_hole)
        status = np.full(len(plain), self.untouched, np.object_)
        if self._regular:
            shape, status = self._firm(plain, *regularize(shape, group, self._regular), group)
        elif self._tolerance:
            shape = simplify_groups(shape, group, self._tolerance)
        return Shaped(contours, plain, shape, status, group)

    def _firm(
        self,
        plain: NDArray[np.object_],
        shape: NDArray[np.object_],
        status: NDArray[np.object_],
        group: NDArray[np.int64],
    ) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
        """Round vertices, so that what is valid stays so in other coordinates; give up groups where it is not."""
        grid = _GRID * min(self._ground.gsd)
        rounded = shapely.transform(shape, lambda points: np.round(points / grid) * grid)
        shares = np.bincount(group, minlength=1)[group] > 1
        wrong = ~shapely.is_valid(rounded)
        wrong[shares] |= ~shapely.is_empty(shapely.coverage_invalid_edges(rounded[shares]))
        broken = np.isin(group, group[wrong])
        rounded[broken] = simplify_groups(plain[broken], group[broken], self.reach / 2)
        return rounded, np.where(broken, self.untouched, status)


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


def _without_small_holes(
    polygons: NDArray[np.object_], group: NDArray[np.int64], smallest: float
) -> NDArray[np.object_]:
    """Fill holes of less than some square metres; not of parts, since other parts may stand in them."""
    filled = polygons.copy()
    if not smallest or not len(polygons):
        return filled
    alone = np.bincount(group)[group] == 1
    for index in np.flatnonzero(alone & (shapely.get_num_interior_rings(polygons) > 0)):
        holes = shapely.polygons(shapely.get_rings(polygons[index])[1:])
        large = holes[shapely.area(holes) >= smallest]
        filled[index] = shapely.polygons(
            shapely.get_exterior_ring(polygons[index]), shapely.get_exterior_ring(large) if len(large) else None
        )
    return filled
