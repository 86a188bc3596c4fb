"""Gives outlines the straight walls and right angles that buildings have, within a bound."""

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from buildseg.footprints.regularizing.arcs import Arcs, Bools, Floats, Ints, assemble, cut
from buildseg.footprints.regularizing.circles import put_circles
from buildseg.footprints.regularizing.corners import deviations, place_nodes, pool_lines
from buildseg.footprints.regularizing.directions import set_directions
from buildseg.footprints.regularizing.edges import PLAIN, Edges, find_edges, number_nodes
from buildseg.footprints.regularizing.merging import connect_parallels, merge_edges
from tiling.errors import OptionError

# An arc that fails goes to the next level. First lines are fitted, then the contour is thinned, then left alone.
_TOLERANCES = np.array([0.5, 0.25, 0.25, 0.0625, 0])
_KEPT = 2
_UNTOUCHED = len(_TOLERANCES) - 1
_TURN = 0.3
_MERGE = 0.5
_POOL = 0.5
_PATIENCE = 12


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
                "give about three times the raster's ground sample distance"
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
    job.settle(np.ones(job.groups, np.bool_))
    job.part_overlaps()
    return job.result, np.where(job.kept(), "kept", "regularized").astype(np.object_)


class _Job:
    """The polygons of one call, the level of each of their arcs, and what has become of them so far."""

    def __init__(self, polygons: NDArray[np.object_], groups: Ints, bound: float) -> None:
        self._polygons = polygons
        self._arcs = cut(polygons, groups)
        self._bound = bound
        self._level = np.zeros(len(self._arcs.closed), np.int64)
        self._junctions = int(self._arcs.ends.max()) + 1
        self.groups = int(groups.max()) + 1
        self.result = polygons.copy()

    def settle(self, chosen: Bools) -> None:
        """Make the polygons of some groups anew until each is within the bound and valid."""
        rounds = 0
        while chosen.any():
            self._keep_alone()
            arcs = self._arcs.of_groups(chosen)
            number = np.flatnonzero(chosen[self._arcs.group])
            places = np.flatnonzero(chosen[self._arcs.polygon_group])
            level = self._level[number]
            made, off = _fit(arcs, level, self._bound, self._junctions, self.groups)
            failed = off > self._bound * (1 - 1e-9)
            broken = ~shapely.is_valid(made)
            failed[arcs.rings.arc[broken[arcs.rings.polygon]]] = True
            untouched = np.ones(self.groups, np.bool_)
            untouched[arcs.group[level < _UNTOUCHED]] = False
            made = np.where(untouched[arcs.polygon_group], self._polygons[places], made)
            failed &= ~untouched[arcs.group]
            self.result[places] = made
            rounds += 1
            chosen = np.zeros(self.groups, np.bool_)
            chosen[arcs.group[failed]] = True
            self._raise(number[failed if rounds < _PATIENCE else chosen[arcs.group]], rounds)

    def part_overlaps(self) -> None:
        """Step back towards the contour wherever polygons overlap."""
        looked_at = np.arange(len(self.result))
        rings = self._arcs.rings
        while True:
            wrong = ~shapely.is_empty(shapely.coverage_invalid_edges(self.result[looked_at]))
            bad = np.zeros(len(self.result), np.bool_)
            bad[looked_at[wrong]] = True
            arcs = np.unique(rings.arc[bad[rings.polygon]])
            arcs = arcs[self._level[arcs] < _UNTOUCHED]
            if not len(arcs):
                return
            self._raise(arcs, 0)
            chosen = np.zeros(self.groups, np.bool_)
            chosen[self._arcs.group[arcs]] = True
            self.settle(chosen)
            changed = np.flatnonzero(chosen[self._arcs.polygon_group])
            near = shapely.STRtree(self.result).query(self.result[changed])[1]
            looked_at = np.unique(np.concatenate([changed, near]))

    def kept(self) -> Bools:
        """Which polygons have an arc that is not regular."""
        rings = self._arcs.rings
        kept = np.zeros(len(self.result), np.bool_)
        kept[rings.polygon[self._level[rings.arc] >= _KEPT]] = True
        return kept

    def _keep_alone(self) -> None:
        """Leave all of a kept polygon's outline to the contour that no regular one shares."""
        rings = self._arcs.rings
        regular = np.zeros(len(self._level), np.bool_)
        regular[rings.arc[~self.kept()[rings.polygon]]] = True
        self._level = np.where(regular, self._level, np.maximum(self._level, _KEPT))

    def _raise(self, arcs: Ints, rounds: int) -> None:
        higher = self._level[arcs] + 1 if rounds < _PATIENCE else np.full(len(arcs), _UNTOUCHED)
        self._level[arcs] = np.minimum(higher, _UNTOUCHED)


def _fit(
    arcs: Arcs, level: Ints, bound: float, junctions: int, groups: int
) -> tuple[NDArray[np.object_], Floats]:
    """Make polygons of arcs at their levels, and bound how far each arc is from its contour."""
    origin = np.zeros((groups, 2))
    origin[arcs.group] = arcs.points[arcs.first[:-1]]
    origin = origin[arcs.group]
    edges = find_edges(arcs, origin, _TOLERANCES[level] * bound)
    edges.kind[level[edges.arc] >= _KEPT] = PLAIN
    set_directions(edges, arcs.group[edges.arc], groups, _TURN * bound)
    edges = merge_edges(edges, arcs, origin, _slack(level) * bound)
    edges = connect_parallels(edges, arcs, origin)
    edges = _with_circles(edges, arcs, level, bound)
    nodes = number_nodes(edges, arcs, junctions)
    pool_lines(edges, nodes, junctions, _POOL * bound)
    marks = np.concatenate([np.zeros((junctions, 2)), edges.corner])
    opened = ~arcs.closed
    marks[arcs.ends[opened]] = np.stack([arcs.points[arcs.first[:-1]], arcs.points[arcs.first[1:] - 1]], axis=1)[opened]
    places = place_nodes(edges, nodes, marks, origin[edges.arc])
    fixed = arcs.ends[opened & (level == _UNTOUCHED)]
    places[fixed] = marks[fixed]
    made = assemble(arcs.rings, edges.begins(len(arcs.closed)), *nodes, places)
    return made, deviations(arcs, edges, nodes, places)


def _slack(level: Ints) -> Floats:
    return np.where(level == 0, _MERGE, _MERGE / 2)


def _with_circles(edges: Edges, arcs: Arcs, level: Ints, bound: float) -> Edges:
    return put_circles(edges, arcs, bound, level == 0)
