"""Cuts outlines into arcs that neighbours share, and puts polygons together from arcs again."""

from dataclasses import dataclass, replace

import numpy as np
import shapely
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Rings:
    """Of which arcs polygons consist.

    Attributes:
        arc: The arcs along all rings, one ring after the other.
        forward: Whether the ring runs along the arc, or against it.
        first: Where each ring begins in `arc`, and the end.
        shells: Where each polygon begins in the rings, and the end.
    """

    arc: Ints
    forward: Bools
    first: Ints
    shells: Ints

    @property
    def polygon(self) -> Ints:
        """The polygon that each entry of `arc` belongs to."""
        return owners(self.first[self.shells])


@dataclass(frozen=True, slots=True)
class Arcs:
    """Lines from junction to junction, where three or more walls meet, or whole rings without one.

    Attributes:
        points: Of all arcs, one after the other, shape (n, 2); a ring repeats its first point at its end.
        first: Where each arc begins in `points`, and the end.
        closed: Whether it is a ring.
        ends: The junctions at both ends, shape (arcs, 2); -1 for a ring.
        group: The group of each arc, 0, 1, ...
        rings: The polygons.
        polygon_group: The group of each polygon.
    """

    points: Floats
    first: Ints
    closed: Bools
    ends: Ints
    group: Ints
    rings: Rings
    polygon_group: Ints

    def of_groups(self, chosen: Bools) -> "Arcs":
        """Keep the arcs and polygons of some groups; groups and junctions are numbered anew."""
        arcs, polygons = np.flatnonzero(chosen[self.group]), np.flatnonzero(chosen[self.polygon_group])
        place = np.zeros(len(self.closed), np.int64)
        place[arcs] = np.arange(len(arcs))
        ring, shells = spans(self.rings.shells[polygons], self.rings.shells[polygons + 1])
        entry, first = spans(self.rings.first[ring], self.rings.first[ring + 1])
        rings = Rings(place[self.rings.arc[entry]], self.rings.forward[entry], first, shells)
        point, first = spans(self.first[arcs], self.first[arcs + 1])
        closed, ends = self.closed[arcs], self.ends[arcs]
        ends[~closed] = np.unique(ends[~closed], return_inverse=True)[1].reshape(-1, 2)
        number = np.cumsum(chosen) - 1
        group, polygon_group = number[self.group[arcs]], number[self.polygon_group[polygons]]
        return Arcs(self.points[point], first, closed, ends, group, rings, polygon_group)


def owners(first: Ints) -> Ints:
    """Number of the span that each entry lies in, for spans one after the other that begin at `first`."""
    return np.repeat(np.arange(len(first) - 1), np.diff(first))


def spans(start: Ints, stop: Ints) -> tuple[Ints, Ints]:
    """Indices from each start to before its stop, one span after the other, and where each begins, and the end."""
    first = np.concatenate([[0], np.cumsum(stop - start)])
    return np.arange(first[-1]) + np.repeat(start - first[:-1], stop - start), first


def cut(polygons: NDArray[np.object_], groups: Ints) -> Arcs:
    """Cut the outlines of polygons into arcs; what two polygons of a group share becomes one arc of both.

    Args:
        polygons: Valid, shape (n,); those of a group form a valid coverage.
        groups: The group of each, 0, 1, ..., shape (n,).

    Returns:
        The arcs. Rings begin where they are farthest from their middle, which is a corner or near one.
    """
    _, points, (first, shells) = shapely.to_ragged_array(polygons)
    points, first, shells = points[:, :2].copy(), first.astype(np.int64), shells.astype(np.int64)
    ring_group = groups[owners(first[shells])[first[:-1]]] if len(first) > 1 else np.zeros(0, np.int64)
    shared = (np.bincount(groups)[ring_group] > 1)[owners(first)]
    name = np.arange(len(points))
    name[first[1:] - 1] = first[:-1]
    name[shared] = len(points) + _names(points[shared], np.repeat(ring_group, np.diff(first))[shared])
    junction = np.zeros(len(points), np.bool_)
    if shared.any():
        junction[shared] = _junctions(name, first, shared)
    order = _start_at_junctions(first, junction, name)
    points, junction, name = points[order], junction[order], name[order]
    arcs, entries = _split(first, junction)
    same, forward = _same(name, arcs)
    chosen, arc = np.unique(same, return_index=True, return_inverse=True)[1:]
    index, begin = spans(arcs[0][chosen], arcs[1][chosen])
    # Arcs run as their names say, not as the first polygon does: results must not depend on the polygons' order.
    mirrored = (arcs[0] + arcs[1] - 1)[chosen][owners(begin)] - index
    index = np.where(forward[chosen][owners(begin)], index, mirrored)
    ends = np.stack([name[index[begin[:-1]]], name[index[begin[1:] - 1]]], axis=1)
    closed = (ends[:, 0] == ends[:, 1]) & ~junction[index[begin[:-1]]]
    ends[closed] = -1
    ends[~closed] = np.unique(ends[~closed], return_inverse=True)[1].reshape(-1, 2)
    rings = Rings(arc.reshape(-1), forward, entries, shells)
    return _start_at_corners(Arcs(points[index], begin, closed, ends, ring_group[arcs[2][chosen]], rings, groups))


def _names(points: Floats, group: Ints) -> Ints:
    """Number points, equal ones of a group alike."""
    order = np.lexsort((points[:, 1], points[:, 0], group))
    ordered = points[order]
    fresh = (np.diff(ordered, axis=0) != 0).any(axis=1) | (np.diff(group[order]) != 0)
    names = np.empty(len(points), np.int64)
    names[order] = np.concatenate([[0], np.cumsum(fresh)])
    return names


def _junctions(name: Ints, first: Ints, shared: Bools) -> Bools:
    """Whether a point of the shared rings has other than two neighbours."""
    along = shared.copy()
    along[first[1:] - 1] = False
    start = np.flatnonzero(along)
    one, other = name[start], name[start + 1]
    size = name.max() + 1
    sides = np.unique(np.minimum(one, other) * size + np.maximum(one, other))
    degree = np.bincount(sides // size, minlength=size) + np.bincount(sides % size, minlength=size)
    return np.asarray(degree[name[shared]] != 2)


def _start_at_junctions(first: Ints, junction: Bools, name: Ints) -> Ints:
    """Order of points in which each ring begins at a junction; at its least name if it has none."""
    rank = np.where(junction, -1, name)
    ring = owners(first)
    least = np.minimum.reduceat(rank, first[:-1])
    found = np.flatnonzero(rank == least[ring])
    shift = np.zeros(len(first) - 1, np.int64)
    shift[ring[found][::-1]] = (found - first[ring[found]])[::-1]
    return _turned(first, shift)


def _turned(first: Ints, shift: Ints) -> Ints:
    """Order of points that turns closed rings by so many points."""
    ring = owners(first)
    length = np.diff(first)[ring] - 1
    return np.asarray(first[ring] + (np.arange(len(ring)) - first[ring] + shift[ring]) % length)


def _split(first: Ints, junction: Bools) -> tuple[tuple[Ints, Ints, Ints], Ints]:
    """Start, stop and ring of each piece between junctions, and where the rings begin in the pieces."""
    begins = junction.copy()
    begins[first[:-1]] = True
    begins[first[1:] - 1] = False
    start = np.flatnonzero(begins)
    ring = owners(first)[start]
    stop = np.append(start[1:] + 1, len(junction))
    last = np.append(ring[1:] != ring[:-1], True)
    stop[last] = first[1:][ring[last]]
    return (start, stop, ring), np.searchsorted(ring, np.arange(len(first)))


def _same(name: Ints, arcs: tuple[Ints, Ints, Ints]) -> tuple[Ints, Bools]:
    """A number that pieces along the same points have in common, and whether each runs from lesser names to greater."""
    start, stop, _ = arcs
    size = name.max() + 1
    ahead, back = name[start] * size + name[start + 1], name[stop - 1] * size + name[stop - 2]
    return np.unique(np.minimum(ahead, back), return_inverse=True)[1].reshape(-1), ahead <= back


def _start_at_corners(arcs: Arcs) -> Arcs:
    arc = owners(arcs.first)
    inner = np.ones(len(arc), np.bool_)
    inner[arcs.first[1:] - 1] = False
    count = np.bincount(arc[inner], minlength=len(arcs.closed))
    low, high = (f.reduceat(arcs.points, arcs.first[:-1]) for f in (np.minimum, np.maximum))
    distance = ((arcs.points - ((low + high) / 2)[arc]) ** 2).sum(axis=1)
    distance[~inner] = -1
    farthest = np.flatnonzero(distance == np.maximum.reduceat(distance, arcs.first[:-1])[arc])
    shift = np.zeros(len(count), np.int64)
    shift[arc[farthest][::-1]] = (farthest - arcs.first[arc[farthest]])[::-1]
    order = np.where(arcs.closed[arc], _turned(arcs.first, shift), np.arange(len(arc)))
    return replace(arcs, points=arcs.points[order])


def assemble(rings: Rings, edge_first: Ints, start: Ints, end: Ints, nodes: Floats) -> NDArray[np.object_]:
    """Make polygons of the corners along their arcs.

    Args:
        rings: Of which arcs the polygons consist.
        edge_first: Where each arc begins in the edges, and the end.
        start: The node at which each edge starts.
        end: The node at which it ends.
        nodes: Where the nodes lie, shape (m, 2).

    Returns:
        Polygons, perhaps invalid; None where a ring has less than three corners.
    """
    lengths = np.diff(edge_first)[rings.arc]
    piece_first = np.concatenate([[0], np.cumsum(lengths)])
    piece = owners(piece_first)
    step = np.arange(len(piece)) - piece_first[piece]
    forward, arc = rings.forward[piece], rings.arc[piece]
    ahead, back = edge_first[arc] + step, edge_first[arc + 1] - 1 - step
    node = np.where(forward, start[ahead], end[back])
    ring_first = piece_first[rings.first]
    index, first = spans(ring_first[:-1], ring_first[1:] + 1)
    index[first[1:] - 1] = ring_first[:-1]
    coordinates = nodes[node[index]]
    short = np.diff(first) < 4
    polygons = np.full(len(rings.shells) - 1, None, np.object_)
    ruined = np.bitwise_or.reduceat(short, rings.shells[:-1])
    kept = np.flatnonzero(~ruined)
    ring, shells = spans(rings.shells[kept], rings.shells[kept + 1])
    point, first = spans(first[ring], first[ring + 1])
    polygons[kept] = shapely.from_ragged_array(shapely.GeometryType.POLYGON, coordinates[point], (first, shells))
    return polygons
