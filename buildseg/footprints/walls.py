"""Cuts an outline along the lines between regions of pixels, so that its parts share their walls exactly.

A wall runs from vertex to vertex of the outline, or to a pixel's corner where three regions meet. Only vertices that
are there already, and pixels' corners, become vertices of the parts, so nothing is rounded and nothing gets lost.
"""

import numpy as np
import shapely
from numpy.typing import NDArray

_TOLERANCES = (1.5, 0.75, 0.0)
"""Pixels that a wall may move to become straight; the next is tried where it would leave the outline."""


def cut_outline(outline: shapely.Polygon, regions: NDArray[np.int32]) -> NDArray[np.object_]:
    """Cut an outline along the lines between regions.

    Args:
        outline: In pixels of the regions: x is the column, y the row, and the first pixel's centre is (0.5, 0.5).
        regions: Shape (rows, cols): a number from 1 for each pixel inside, 0 outside and along the array's border.

    Returns:
        Its parts, a valid coverage of it, shape (n,); the outline alone where no line cuts it.
    """
    whole = np.array([outline], dtype=object)
    arcs = _arcs(regions, _vertices(outline))
    shapely.prepare(outline)
    for least in range(len(_TOLERANCES)):
        walls = [wall for arc in arcs if (wall := _straightened(arc, outline, _TOLERANCES[least:])) is not None]
        parts = _faces(outline, walls)
        if parts is not None:
            return parts
    return whole


def _vertices(outline: shapely.Polygon) -> NDArray[np.float64]:
    """The outline's vertices, sorted, so that it does not matter where its rings begin."""
    return np.unique(shapely.get_coordinates(outline), axis=0)


def _arcs(regions: NDArray[np.int32], vertices: NDArray[np.float64]) -> NDArray[np.object_]:
    """The lines between each two regions along the sides of pixels; ends at the outside go to the nearest vertex."""
    row, col, pair = _sides(regions[:, :-1], regions[:, 1:])
    vertical = np.stack([col + 1, row, col + 1, row + 1], axis=1)
    row, col, other = _sides(regions[:-1], regions[1:])
    horizontal = np.stack([col, row + 1, col + 1, row + 1], axis=1)
    sides = np.concatenate([vertical, horizontal]).reshape(-1, 2, 2).astype(np.float64)
    _, owner = np.unique(np.concatenate([pair, other]), return_inverse=True)
    order = np.argsort(owner, kind="stable")
    lines = shapely.multilinestrings(shapely.linestrings(sides[order]), indices=owner[order])
    arcs = shapely.get_parts(shapely.line_merge(lines))
    return np.array([_ended(shapely.get_coordinates(arc), regions, vertices) for arc in arcs], dtype=object)


def _sides(
    one: NDArray[np.int32], other: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Row and column of neighbours of two regions, and a number for the pair."""
    row, col = np.nonzero((one != other) & (one > 0) & (other > 0))
    a, b = one[row, col].astype(np.int64), other[row, col].astype(np.int64)
    return row, col, np.minimum(a, b) << 32 | np.maximum(a, b)


def _ended(arc: NDArray[np.float64], regions: NDArray[np.int32], vertices: NDArray[np.float64]) -> shapely.LineString:
    for end in (0, -1):
        col, row = arc[end].astype(int)
        if (regions[row - 1 : row + 1, col - 1 : col + 1] == 0).any():
            arc[end] = vertices[np.square(vertices - arc[end]).sum(axis=1).argmin()]
    return shapely.linestrings(arc)


def _straightened(
    arc: shapely.LineString, outline: shapely.Polygon, tolerances: tuple[float, ...]
) -> shapely.LineString | None:
    """Simplify a line as far as it stays in the outline; None if it leaves it in any case."""
    for tolerance in tolerances:
        wall = shapely.simplify(arc, tolerance, preserve_topology=arc.is_closed)
        if wall.length > 0 and shapely.covers(outline, wall):
            return wall
    return None


def _faces(outline: shapely.Polygon, walls: list[shapely.LineString]) -> NDArray[np.object_] | None:
    """Give the faces that walls make of an outline; None if walls meet where none has a vertex."""
    lines = shapely.union_all([outline.boundary, *walls])
    known = np.unique(shapely.get_coordinates([outline, *walls]), axis=0)
    drawn = np.unique(shapely.get_coordinates(lines), axis=0)
    if len(np.unique(np.concatenate([known, drawn]), axis=0)) > len(known):
        return None
    faces = shapely.get_parts(shapely.polygonize(shapely.get_parts(lines)))
    parts = shapely.normalize(faces[shapely.covers(outline, shapely.point_on_surface(faces))])
    if shapely.area(parts).sum() != outline.area or not shapely.coverage_is_valid(parts):
        return None
    bounds = shapely.bounds(parts)
    return np.asarray(parts[np.lexsort(bounds.T)])


def without_slivers(parts: NDArray[np.object_], least: float) -> NDArray[np.object_]:
    """Join small parts to the neighbour with the longest wall in common, the smallest first.

    Args:
        parts: A valid coverage, shape (n,).
        least: Area of the smallest part that is left alone.

    Returns:
        A valid coverage of the same area.
    """
    while len(parts) > 1 and shapely.area(parts).min() < least:
        small = shapely.area(parts).argmin()
        others = np.delete(parts, small)
        shared = shapely.length(shapely.intersection(others, parts[small]))
        if shared.max() == 0:
            break
        others[shared.argmax()] = shapely.coverage_union(others[shared.argmax()], parts[small])
        parts = others
    return parts
