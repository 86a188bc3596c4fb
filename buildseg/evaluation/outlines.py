"""How well outlines agree with true ones, building by building.

Every function compares pairs: ``polygons[i]`` with ``truths[i]``, both valid polygons in metres. The boundary of a
building with a courtyard is its outer ring and its holes together, and its vertices are those of all rings, each ring's
first one counted once.
"""

from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

Polygons = NDArray[np.object_]
Measures = NDArray[np.float64]

_SPACING = 2.0
_MAX_ANGLE = 60.0
_ROWS = 2**20


class _Edges(NamedTuple):
    """Edges of many polygons.

    Attributes:
        start: Where each starts, a vertex, shape (n, 2).
        along: From there to its end, shape (n, 2).
        owner: Index of the polygon that each belongs to, not decreasing, shape (n,).
    """

    start: Measures
    along: Measures
    owner: NDArray[np.intp]


class _Nearest(NamedTuple):
    """The nearest points of outlines.

    Attributes:
        distance: To it, shape (n,).
        along: The edge it lies on, shape (n, 2).
        within: Whether it lies between the ends of that edge, shape (n,).
    """

    distance: Measures
    along: Measures
    within: NDArray[np.bool_]


def iou(polygons: Polygons, truths: Polygons) -> Measures:
    """Measure the area that two polygons share over the area that either covers.

    Args:
        polygons: Shape (n,).
        truths: Shape (n,).

    Returns:
        0 to 1, shape (n,).
    """
    shared = shapely.area(shapely.intersection(polygons, truths))
    either = shapely.area(polygons) + shapely.area(truths) - shared
    return np.asarray(np.divide(shared, either, out=np.zeros(len(polygons)), where=either > 0))


def polis(polygons: Polygons, truths: Polygons) -> Measures:
    """Measure the PoLiS distance (Avbelj, Müller and Bamler 2015).

    That is the mean distance from one polygon's vertices to the other's boundary, averaged over both directions.

    Args:
        polygons: Shape (n,).
        truths: Shape (n,).

    Returns:
        Metres, 0 for equal outlines, shape (n,).
    """
    return (_mean_distance(polygons, truths) + _mean_distance(truths, polygons)) / 2


def angle_error(polygons: Polygons, truths: Polygons, spacing: float = _SPACING) -> Measures:
    """Measure the max tangent angle error (Girard, Smirnov, Solomon and Tarabalka 2021).

    Points along the polygon's outline, two at least on each edge, are projected to the nearest points of the truth's;
    the error is the largest angle between the edges that the two lie on. As published, points do not count where the
    projection shortens the outline more than twofold, as it does at corners: those that are projected to a vertex, or
    to an edge at more than 60 degrees.

    Args:
        polygons: Shape (n,).
        truths: Shape (n,).
        spacing: Metres between the points on long edges, above 0.

    Returns:
        Degrees from 0 to 60, NaN where no point counts, shape (n,).
    """
    edges = _edges(polygons)
    lengths = np.hypot(*edges.along.T)
    numbers = np.where(lengths > 0, np.maximum(2, np.ceil(lengths / spacing)), 0).astype(np.intp)
    edge = np.repeat(np.arange(len(numbers)), numbers)
    place = np.arange(len(edge)) - np.repeat(np.cumsum(numbers) - numbers, numbers)
    along, owner = edges.along[edge], edges.owner[edge]
    there = _project(edges.start[edge] + along * ((place + 0.5) / numbers[edge])[:, None], owner, truths)
    cross = np.abs(along[:, 0] * there.along[:, 1] - along[:, 1] * there.along[:, 0])
    angles = np.degrees(np.arctan2(cross, np.abs((along * there.along).sum(axis=1))))
    counts = there.within & (angles <= _MAX_ANGLE)
    largest = np.full(len(polygons), np.nan)
    np.fmax.at(largest, owner[counts], angles[counts])
    return largest


def vertex_ratio(polygons: Polygons, truths: Polygons) -> Measures:
    """Divide the number of vertices by the truth's.

    Args:
        polygons: Shape (n,).
        truths: Shape (n,).

    Returns:
        1 where the numbers are equal, more where the outline is more complex, shape (n,).
    """
    ours, theirs = (np.bincount(_edges(sides).owner, minlength=len(sides)) for sides in (polygons, truths))
    return np.asarray(ours / theirs)


def hausdorff(polygons: Polygons, truths: Polygons) -> Measures:
    """Measure the largest distance from a vertex of either polygon to the other's boundary.

    Args:
        polygons: Shape (n,).
        truths: Shape (n,).

    Returns:
        Metres, shape (n,).
    """
    return np.asarray(shapely.hausdorff_distance(shapely.boundary(polygons), shapely.boundary(truths)))


def _mean_distance(polygons: Polygons, truths: Polygons) -> Measures:
    points, _, owner = _edges(polygons)
    distances = _project(points, owner, truths).distance
    return np.asarray(np.bincount(owner, distances, len(polygons)) / np.bincount(owner, minlength=len(polygons)))


def _edges(polygons: Polygons) -> _Edges:
    parts, polygon_of = shapely.get_parts(polygons, return_index=True)
    rings, part_of = shapely.get_rings(parts, return_index=True)
    points, ring_of = shapely.get_coordinates(rings, return_index=True)
    starts = np.flatnonzero(np.append(ring_of[1:] == ring_of[:-1], False)[: len(points)])
    return _Edges(points[starts], points[starts + 1] - points[starts], polygon_of[part_of[ring_of[starts]]])


def _project(points: Measures, owner: NDArray[np.intp], truths: Polygons) -> _Nearest:
    """Find the nearest point on the outline of the truth that each point's polygon is paired with."""
    edges = _edges(truths)
    first = np.searchsorted(edges.owner, np.arange(len(truths) + 1))
    numbers = first[owner + 1] - first[owner]
    ends = np.cumsum(numbers)
    nearest = _Nearest(np.empty(len(points)), np.empty((len(points), 2)), np.empty(len(points), np.bool_))
    start = 0
    while start < len(points):
        # So many points that their distances to all edges fit in memory.
        stop = max(start + 1, int(np.searchsorted(ends, ends[start] - numbers[start] + _ROWS)))
        here = slice(start, stop)
        found = _nearest_edges(points[here], first[owner[here]], numbers[here], edges)
        for whole, part in zip(nearest, found, strict=True):
            whole[here] = part
        start = stop
    return nearest


def _nearest_edges(points: Measures, first: NDArray[np.intp], numbers: NDArray[np.intp], edges: _Edges) -> _Nearest:
    """Compare each point with the edges from its first one on."""
    point = np.repeat(np.arange(len(points)), numbers)
    rows = np.cumsum(numbers) - numbers
    edge = np.arange(len(point)) + np.repeat(first - rows, numbers)
    along, off = edges.along[edge], points[point] - edges.start[edge]
    length = (along**2).sum(axis=1)
    share = (along * off).sum(axis=1) / np.where(length > 0, length, 1)
    squared = ((off - along * share.clip(0, 1)[:, None]) ** 2).sum(axis=1)
    least = np.minimum.reduceat(squared, rows)
    equal = np.flatnonzero(squared == least[point])
    best = equal[np.searchsorted(point[equal], np.arange(len(points)))]
    return _Nearest(np.sqrt(least), along[best], (share[best] > 0) & (share[best] < 1))
