"""Finds the straight edges of arcs and fits a line to each, by the points of the contour that it stands for."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import shapely

from buildseg.footprints.regularizing.arcs import Arcs, Bools, Floats, Ints, owners

# Kinds of edges: along a direction of the group or across it, the same for its second one, or neither.
ALONG, ACROSS, SECOND_ALONG, SECOND_ACROSS, OWN, PLAIN = range(6)

_TRIM = 0.6
_MOST = 0.25


@dataclass(slots=True)
class Edges:
    """Edges of arcs in order, arrays of one length.

    Attributes:
        arc: The arc of each.
        at: Index in the arcs' points at which the edge starts.
        mid: Index of a point in its middle; rises along an arc.
        corner: The place at which it starts, before lines are fitted, shape (n, 2).
        chord: From its first point to its last, shape (n, 2).
        length: Metres.
        moments: Sums over the contour that it stands for, less what is near its ends: length, and length times
            x, y, xx, xy and yy, from the group's origin, shape (n, 6).
        angle: Of its line, in radians, in the chord's sense.
        kind: `ALONG` to `OWN`; `PLAIN` edges have no line, they run from corner to corner.
    """

    arc: Ints
    at: Ints
    mid: Ints
    corner: Floats
    chord: Floats
    length: Floats
    moments: Floats
    angle: Floats
    kind: Ints

    def take(self, order: Ints | Bools) -> "Edges":
        """Some of the edges, in the order given."""
        return Edges(*(getattr(self, field.name)[order] for field in fields(self)))

    def put(self, places: Ints, edges: "Edges") -> "Edges":
        """Insert edges, each before the place given."""
        pairs = ((getattr(self, field.name), getattr(edges, field.name)) for field in fields(self))
        return Edges(*(np.insert(mine, places, theirs, axis=0) for mine, theirs in pairs))

    def begins(self, arcs: int) -> Ints:
        """Where each arc begins in the edges, and the end."""
        return np.searchsorted(self.arc, np.arange(arcs + 1))


def joined(parts: Sequence[Edges]) -> Edges:
    """Edges of several parts, one part after the other."""
    return Edges(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Edges)))


def find_edges(arcs: Arcs, origin: Floats, tolerance: Floats) -> Edges:
    """Part arcs into edges (Douglas and Peucker 1973).

    Args:
        arcs: The arcs.
        origin: Of each arc's group, shape (arcs, 2).
        tolerance: Metres that the contour may lie beside an edge, of each arc.

    Returns:
        The edges, of kind `OWN`, at least three for a ring.
    """
    kept = _thin(arcs, tolerance)
    arc = owners(arcs.first)[kept]
    starts = np.flatnonzero(arc[:-1] == arc[1:])
    begin, end = kept[starts], kept[starts + 1]
    corner = arcs.points[begin]
    chord = arcs.points[end] - corner
    length = np.maximum(np.hypot(*chord.T), 1e-9)
    segments = segments_of(arcs), np.repeat(np.arange(len(begin)), end - begin)
    of_edge = arc[starts]
    moments = fit_moments(arcs, segments, (corner, arcs.points[end]), tolerance[of_edge], origin[of_edge])
    mid, kind = (begin + end) // 2, np.full(len(begin), OWN)
    return Edges(of_edge, begin, mid, corner, chord, length, moments, line_angle(moments, chord), kind)


def _thin(arcs: Arcs, tolerance: Floats) -> Ints:
    """Indices of the points that stay; a ring keeps three at least."""
    tolerance = tolerance.copy()
    numbered = np.column_stack([arcs.points, np.arange(len(arcs.points))])
    lines = shapely.from_ragged_array(shapely.GeometryType.LINESTRING, numbered, (arcs.first,))
    thin = shapely.simplify(lines, tolerance, preserve_topology=False)
    while (flat := np.flatnonzero(arcs.closed & (shapely.get_num_points(thin) < 4))).size:
        tolerance[flat] = np.where(tolerance[flat] > 1e-6, tolerance[flat] / 2, 0)
        thin[flat] = shapely.simplify(lines[flat], tolerance[flat], preserve_topology=False)
    return np.asarray(shapely.get_coordinates(thin, include_z=True)[:, 2].astype(np.int64))


def segments_of(arcs: Arcs) -> Ints:
    """Indices of the points at which the contour's segments start, arc by arc."""
    return np.flatnonzero(np.append(np.diff(owners(arcs.first)) == 0, False))


def fit_moments(
    arcs: Arcs, segments: tuple[Ints, Ints], ends: tuple[Floats, Floats], tolerance: Floats, origin: Floats
) -> Floats:
    """Sum up the contour along each edge, a part at both ends left out.

    Corners are rounded by blur and by the raster: what is near one does not lie on the edge.

    Args:
        arcs: The arcs.
        segments: Indices of the points at which segments of the contour start, and the edge that each is part of.
        ends: Where each edge starts and ends.
        tolerance: Metres that the contour may lie beside an edge; a part of that is left out.
        origin: Of each edge's group.

    Returns:
        Moments, as in `Edges`; of no length where an edge has no segment.
    """
    index, edge = segments
    chord = ends[1] - ends[0]
    square = np.maximum((chord**2).sum(axis=1), 1e-18)
    step = arcs.points[index + 1] - arcs.points[index]
    middle = (arcs.points[index] + arcs.points[index + 1]) / 2
    weight = np.hypot(*step.T)
    along = ((middle - ends[0][edge]) * chord[edge]).sum(axis=1) / square[edge]
    trim = np.minimum(_MOST, _TRIM * tolerance / np.sqrt(square))
    kept = np.where(np.abs(along - 0.5) < 0.5 - trim[edge], weight, 0)
    lonely = np.bincount(edge, kept, len(chord)) == 0
    kept = np.where(lonely[edge], weight, kept)
    x, y = (middle - origin[edge]).T
    values = (kept, kept * x, kept * y, kept * x * x, kept * x * y, kept * y * y)
    return np.stack([np.bincount(edge, value, len(chord)) for value in values], axis=1)


def scatter(moments: Floats) -> Floats:
    """Central second moments xx, xy, yy, shape (n, 3)."""
    weight, x, y, xx, xy, yy = moments.T
    return np.stack([xx - x * x / weight, xy - x * y / weight, yy - y * y / weight], axis=1)


def middle(moments: Floats) -> Floats:
    """Centres of gravity, shape (n, 2)."""
    return np.asarray(moments[:, 1:3] / moments[:, :1])


def line_angle(moments: Floats, chord: Floats) -> Floats:
    """Direction of the line that fits best, in the chord's sense; the chord's where there is too little to fit."""
    xx, xy, yy = scatter(moments).T
    angle = np.arctan2(2 * xy, xx - yy) / 2
    straight = np.arctan2(chord[:, 1], chord[:, 0])
    angle = np.where(np.cos(angle - straight) < 0, angle + np.pi, angle)
    return np.where(np.cos(angle - straight) > 0.94, angle, straight)


def residual(moments: Floats, angle: Floats) -> Floats:
    """Mean square distance of the contour from lines of these angles through its middle."""
    xx, xy, yy = scatter(moments).T
    sine, cosine = np.sin(angle), np.cos(angle)
    return np.asarray(np.maximum(sine * sine * xx - 2 * sine * cosine * xy + cosine * cosine * yy, 0) / moments[:, 0])


def neighbours(edges: Edges, arcs: Arcs) -> tuple[Ints, Ints]:
    """Index of the edge before and after each along its arc; -1 beyond a junction."""
    begins = edges.begins(len(arcs.closed))
    count = len(edges.arc)
    before, after = np.arange(count) - 1, np.arange(count) + 1
    there = begins[:-1] < begins[1:]
    first, last, closed = begins[:-1][there], begins[1:][there] - 1, arcs.closed[there]
    before[first] = np.where(closed, last, -1)
    after[last] = np.where(closed, first, -1)
    return before, after


NodeNumbers = tuple[Ints, Ints]


def number_nodes(edges: Edges, arcs: Arcs, junctions: int) -> NodeNumbers:
    """Number the places where edges meet.

    Args:
        edges: The edges.
        arcs: Their arcs.
        junctions: How many there are; their numbers are 0 to that.

    Returns:
        The node at which each edge starts, and at which it ends. Within an arc, edge n starts at junctions + n.
    """
    begins = edges.begins(len(arcs.closed))
    start = junctions + np.arange(len(edges.arc))
    end = start + 1
    first, last = begins[:-1], begins[1:] - 1
    end[last] = np.where(arcs.closed, start[first], arcs.ends[:, 1])
    start[first] = np.where(arcs.closed, start[first], arcs.ends[:, 0])
    return start, end
