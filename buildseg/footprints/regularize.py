"""Gives outlines the straight walls and right angles that buildings have, within a bound."""

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from buildseg.footprints.regularizing.arcs import Bools, Ints, cut
from buildseg.footprints.regularizing.fitting import KEPT, UNTOUCHED, Fit
from tiling.errors import OptionError

_PATIENCE = 12
# Groups at once: more would only take more memory.
_BATCH = 1024


@dataclass(frozen=True, slots=True)
class RegularizeOptions:
    """How far a regular outline may be from the contour.

    Attributes:
        max_deviation: Metres, above 0.

    Raises:
        OptionError: The value is out of its range.
    """

    max_deviation: float

    def __post_init__(self) -> None:
        if not 0 < self.max_deviation < np.inf:
            raise OptionError(
                f"--max-deviation {self.max_deviation:g} is no length in metres above 0; "
                "give about four times the raster's ground sample distance"
            )


def regularize(
    polygons: NDArray[np.object_], groups: NDArray[np.int64], options: RegularizeOptions
) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
    """Make outlines regular.

    Args:
        polygons: Valid polygons in metres, shape (n,), as traced from probabilities, their vertices not thinned.
        groups: A number for each, shape (n,). Polygons of one group share walls, with equal coordinates along them
            (a valid coverage); all others are apart.
        options: The bound.

    Returns:
        As many valid polygons, and the status of each. "regularized": its walls run along its group's direction or
        across, along a second one, along their own where they are long, or around a circle. "kept": it is the
        contour with fewer vertices, but for walls that it shares with a regularized one. The Hausdorff distance
        between a polygon's boundary and its contour is at most `max_deviation`. Walls that were shared are, and
        polygons that were apart do not overlap.
    """
    if not len(polygons):
        return polygons.copy(), np.zeros(0, np.object_)
    job = _Job(polygons, np.unique(groups, return_inverse=True)[1].reshape(-1), options.max_deviation)
    numbers = np.arange(job.groups)
    for first in range(0, job.groups, _BATCH):
        job.settle((numbers >= first) & (numbers < first + _BATCH))
    job.part_overlaps()
    return job.result, np.where(job.kept(), "kept", "regularized").astype(np.object_)


class _Job:
    """The polygons of one call, the level of each of their arcs, and what has become of them so far."""

    def __init__(self, polygons: NDArray[np.object_], groups: Ints, bound: float) -> None:
        self._polygons = polygons
        self._arcs = cut(polygons, groups)
        self._polygon = self._arcs.rings.polygon
        self._bound = bound
        self._level = np.zeros(len(self._arcs.closed), np.int64)
        self.groups = int(groups.max()) + 1
        self.result = polygons.copy()

    def settle(self, chosen: Bools) -> None:
        """Make the polygons of some groups anew until each is within the bound and valid."""
        rounds = 0
        while chosen.any():
            arcs = self._arcs.of_groups(chosen)
            number = np.flatnonzero(chosen[self._arcs.group])
            places = np.flatnonzero(chosen[self._arcs.polygon_group])
            level = self._level[number]
            made, off = Fit(arcs, level, self._bound).polygons()
            failed = off > self._bound * (1 - 1e-9)
            failed[arcs.rings.arc[~shapely.is_valid(made)[arcs.rings.polygon]]] = True
            untouched = np.ones(len(chosen), np.bool_)
            untouched[arcs.group[level < UNTOUCHED]] = False
            self.result[places] = np.where(untouched[arcs.polygon_group], self._polygons[places], made)
            failed &= ~untouched[arcs.group]
            rounds += 1
            chosen = np.zeros(len(chosen), np.bool_)
            chosen[self._arcs.group[number[failed]]] = True
            self._raise(number[failed if rounds < _PATIENCE else chosen[self._arcs.group[number]]], rounds)

    def part_overlaps(self) -> None:
        """Step back towards the contour wherever polygons overlap."""
        changed = np.arange(len(self.result))
        while True:
            bad = np.zeros(len(self.result), np.bool_)
            bad[self._overlapping(changed)] = True
            arcs = np.unique(self._arcs.rings.arc[bad[self._polygon]])
            arcs = arcs[self._level[arcs] < UNTOUCHED]
            if not len(arcs):
                return
            self._raise(arcs, 0)
            chosen = np.zeros(self.groups, np.bool_)
            chosen[self._arcs.group[arcs]] = True
            self.settle(chosen)
            changed = np.flatnonzero(chosen[self._arcs.polygon_group])

    def _overlapping(self, changed: Ints) -> Ints:
        """Find the polygons that overlap another, or whose walls do not match; one of the two was changed."""
        one, other = shapely.STRtree(self.result).query(self.result[changed], predicate="intersects")
        one = changed[one]
        # Of the two tests this one is quick and the other exact: it lets walls and points be shared.
        near = np.unique(np.concatenate([one[one != other], other[one != other]]))
        wrong = ~shapely.is_empty(shapely.coverage_invalid_edges(self.result[near]))
        return np.asarray(near[wrong])

    def kept(self) -> Bools:
        """Which polygons have an arc that is not regular."""
        kept = np.zeros(len(self.result), np.bool_)
        kept[self._polygon[self._level[self._arcs.rings.arc] >= KEPT]] = True
        return kept

    def _raise(self, arcs: Ints, rounds: int) -> None:
        """Bring arcs to a higher level, and all of a kept polygon's outline that no regular one shares."""
        if not len(arcs):
            return
        higher = self._level[arcs] + 1 if rounds < _PATIENCE else np.full(len(arcs), UNTOUCHED)
        self._level[arcs] = np.minimum(higher, UNTOUCHED)
        regular = np.zeros(len(self._level), np.bool_)
        regular[self._arcs.rings.arc[~self.kept()[self._polygon]]] = True
        self._level = np.where(regular, self._level, np.maximum(self._level, KEPT))
