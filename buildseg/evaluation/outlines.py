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
_STEP = 0.01
_MAX_STRETCH = 2.0
_MAX_BEND = 1e-3


class _Vertices(NamedTuple):
    """Vertices of many polygons.

    Attributes:
        points: Shape (n, 2).
        owner: Index of the polygon that each belongs to, not decreasing, shape (n,).
        following: Index of the next vertex along the ring, shape (n,).
    """

    points: Measures
    owner: NDArray[np.intp]
    following: NDArray[np.intp]


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

    At points along the polygon's outline, two at least on each edge, a small step is projected to the nearest points of
    the truth's; the error is the largest angle between a step and its projection. Steps that the projection stretches
    or shortens more than twofold, or bends around a corner, say nothing about direction and do not count.

    Args:
        polygons: Shape (n,).
        truths: Shape (n,).
        spacing: Metres between the points on long edges, above 0.

    Returns:
        Degrees from 0 to 90, NaN where no step counts, shape (n,).
    """
    start, end, owner = _steps(polygons, spacing)
    boundaries = _boundaries(truths)
    start_there, end_there = _nearest(start, boundaries[owner]), _nearest(end, boundaries[owner])
    step, step_there = end - start, end_there - start_there
    length, length_there = np.hypot(*step.T), np.hypot(*step_there.T)
    off = shapely.distance(boundaries[owner], shapely.points((start_there + end_there) / 2))
    counts = (
        (length < _MAX_STRETCH * length_there) & (length_there < _MAX_STRETCH * length) & (off < _MAX_BEND * length)
    )
    step, step_there = step[counts], step_there[counts]
    cross = np.abs(step[:, 0] * step_there[:, 1] - step[:, 1] * step_there[:, 0])
    largest = np.full(len(polygons), np.nan)
    np.fmax.at(largest, owner[counts], np.degrees(np.arctan2(cross, np.abs((step * step_there).sum(axis=1)))))
    return largest


def vertex_ratio(polygons: Polygons, truths: Polygons) -> Measures:
    """Divide the number of vertices by the truth's.

    Args:
        polygons: Shape (n,).
        truths: Shape (n,).

    Returns:
        1 where the numbers are equal, more where the outline is more complex, shape (n,).
    """
    ours, theirs = (np.bincount(_vertices(sides).owner, minlength=len(sides)) for sides in (polygons, truths))
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
    points, owner, _ = _vertices(polygons)
    there = _nearest(points, _boundaries(truths)[owner])
    distances = np.hypot(*(there - points).T)
    return np.asarray(np.bincount(owner, distances, len(polygons)) / np.bincount(owner, minlength=len(polygons)))


def _vertices(polygons: Polygons) -> _Vertices:
    """List vertices, each ring's closing one left out."""
    parts, polygon_of = shapely.get_parts(polygons, return_index=True)
    rings, part_of = shapely.get_rings(parts, return_index=True)
    points, ring_of = shapely.get_coordinates(rings, return_index=True)
    closes = np.append(ring_of[1:] != ring_of[:-1], True)[: len(points)]
    points, ring_of = points[~closes], ring_of[~closes]
    firsts = np.searchsorted(ring_of, np.arange(len(rings)))
    following = np.arange(1, len(points) + 1)
    following[np.append(firsts[1:], len(points))[: len(rings)] - 1] = firsts
    return _Vertices(points, polygon_of[part_of[ring_of]], following)


def _steps(polygons: Polygons, spacing: float) -> tuple[Measures, Measures, NDArray[np.intp]]:
    """Lay small steps along edges: starts and ends of shape (n, 2), and the polygon of each."""
    points, owner, following = _vertices(polygons)
    edges = points[following] - points
    lengths = np.hypot(*edges.T)
    real = lengths > 0
    points, owner, edges, lengths = points[real], owner[real], edges[real], lengths[real]
    numbers = np.maximum(2, np.ceil(lengths / spacing)).astype(np.intp)
    edge_of = np.repeat(np.arange(len(numbers)), numbers)
    place = np.arange(len(edge_of)) - np.repeat(np.cumsum(numbers) - numbers, numbers)
    share = (place + 0.5) / numbers[edge_of]
    half = np.minimum(_STEP / lengths[edge_of], 0.25) / 2
    start, end = (points[edge_of] + edges[edge_of] * (share + by)[:, None] for by in (-half, half))
    return start, end, owner[edge_of]


def _boundaries(polygons: Polygons) -> NDArray[np.object_]:
    lines: NDArray[np.object_] = shapely.boundary(polygons)
    shapely.prepare(lines)
    return lines


def _nearest(points: Measures, lines: NDArray[np.object_]) -> Measures:
    """Project points to lines, pair by pair; shape (n, 2)."""
    ways = shapely.shortest_line(lines, shapely.points(points))
    return np.asarray(shapely.get_coordinates(ways).reshape(-1, 2, 2)[:, 0])
