"""Fits lines to arcs and makes polygons of them."""

import numpy as np
from numpy.typing import NDArray

from buildseg.footprints.regularizing.arcs import Arcs, Floats, Ints, assemble
from buildseg.footprints.regularizing.circles import put_circles
from buildseg.footprints.regularizing.corners import deviations, part_contour, place_nodes, pool_lines
from buildseg.footprints.regularizing.directions import set_directions
from buildseg.footprints.regularizing.edges import (
    OWN,
    PLAIN,
    Edges,
    find_edges,
    fit_moments,
    line_angle,
    number_nodes,
    residual,
    segments_of,
)
from buildseg.footprints.regularizing.merging import connect_parallels, merge_edges

# An arc that fails goes to the next level: first lines are fitted, from `KEPT` on the contour is thinned, then it is
# left alone. All lengths are shares of the bound.
_TOLERANCES = np.array([0.5, 0.25, 0.125, 0.25, 0.0625, 0])
_SLACKS = np.array([0.5, 0.25, 0.125, 0, 0, 0])
KEPT = 3
UNTOUCHED = len(_TOLERANCES) - 1
_TURN = 0.7
_POOL = 0.5
_CLEAN = 0.05
_MOST_EASE = 1.8


class Fit:
    """One attempt at some arcs.

    Args:
        arcs: Whole groups.
        level: Of each arc, 0 to `UNTOUCHED`.
        bound: Metres that the result may be from the contour; it is aimed at, not ensured.
    """

    def __init__(self, arcs: Arcs, level: Ints, bound: float) -> None:
        self._arcs = arcs
        self._level = level
        self._bound = bound
        self._groups = int(arcs.polygon_group.max()) + 1
        self._tolerance = _TOLERANCES[level] * bound
        origin = np.zeros((self._groups, 2))
        origin[arcs.group] = arcs.points[arcs.first[:-1]]
        self._origin = origin[arcs.group]
        self._ease = np.ones(self._groups)

    def polygons(self) -> tuple[NDArray[np.object_], Floats]:
        """Make the polygons.

        Returns:
            Polygons, perhaps invalid or None, and for each arc a bound on its Hausdorff distance from the contour.
        """
        edges = find_edges(self._arcs, self._origin, self._tolerance)
        edges.kind[self._level[edges.arc] >= KEPT] = PLAIN
        self._ease = self._eased(edges)
        edges = self._straighten(edges)
        edges = put_circles(edges, self._arcs, self._bound, self._level == 0)
        # Once more, by all points between the corners found, not only those between the first guesses.
        edges = self._straighten(self._fitted_again(edges))
        nodes, places = self._corners(edges)
        made = assemble(self._arcs.rings, edges.begins(len(self._level)), *nodes, places)
        return made, deviations(self._arcs, edges, nodes, places)

    def _eased(self, edges: Edges) -> Floats:
        """How much more than usual the walls of each group may move: more where the contour wavers, less is lost."""
        group = self._arcs.group[edges.arc]
        total = np.bincount(group, edges.length, self._groups)
        square = np.bincount(group, edges.length * residual(edges.moments, edges.angle), self._groups) / total
        return np.asarray(np.clip(np.sqrt(square) / (_CLEAN * self._bound), 1, _MOST_EASE))

    def _straighten(self, edges: Edges) -> Edges:
        group = self._arcs.group[edges.arc]
        set_directions(edges, group, self._groups, _TURN * self._bound * self._ease[group])
        slack = _SLACKS[self._level] * self._bound * self._ease[self._arcs.group]
        edges = merge_edges(edges, self._arcs, self._origin, slack)
        return connect_parallels(edges, self._arcs, self._origin)

    def _fitted_again(self, edges: Edges) -> Edges:
        nodes, places = self._corners(edges)
        start, end = places[nodes[0]], places[nodes[1]]
        edge, _ = part_contour(self._arcs, edges, nodes, places)
        index = segments_of(self._arcs)
        origin, tolerance = self._origin[edges.arc], self._tolerance[edges.arc]
        moments = fit_moments(self._arcs, (index, edge[index]), (start, end), tolerance, origin)
        chord = end - start
        better = np.flatnonzero((edges.kind != PLAIN) & (moments[:, 0] > 0) & ((chord * edges.chord).sum(axis=1) > 0))
        edges.moments[better], edges.chord[better] = moments[better], chord[better]
        edges.length[better] = np.hypot(*chord[better].T)
        edges.angle[better] = line_angle(moments[better], chord[better])
        edges.kind[better] = OWN
        return edges

    def _corners(self, edges: Edges) -> tuple[tuple[Ints, Ints], Floats]:
        """Number the corners and place them."""
        arcs, opened = self._arcs, ~self._arcs.closed
        ends = arcs.ends[opened]
        junctions = int(ends.max(initial=-1)) + 1
        nodes = number_nodes(edges, arcs, junctions)
        pool_lines(edges, nodes, junctions, _POOL * self._bound)
        marks = np.concatenate([np.zeros((junctions, 2)), edges.corner])
        marks[ends] = np.stack([arcs.points[arcs.first[:-1]], arcs.points[arcs.first[1:] - 1]], axis=1)[opened]
        places = place_nodes(edges, nodes, marks, self._origin[edges.arc])
        fixed = arcs.ends[opened & (self._level == UNTOUCHED)]
        places[fixed] = marks[fixed]
        return nodes, places
