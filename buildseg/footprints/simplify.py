"""Drops vertices that outlines can do without."""

import numpy as np
import shapely
from numpy.typing import NDArray

_HALVINGS = 4


def simplify(polygons: NDArray[np.object_], tolerance: float) -> NDArray[np.object_]:
    """Drop vertices, so that no outline moves farther than the tolerance and no polygon breaks.

    Rings are thinned one by one (Douglas and Peucker 1973). Where that breaks a polygon, half the tolerance is
    tried for it, and so on. GEOS' own topology-preserving form moves outlines up to twice as far, since it may
    drop a ring's first vertex at the end, and takes minutes for a polygon with some 10,000 holes.

    Args:
        polygons: Valid polygons, shape (n,).
        tolerance: In the polygons' unit, above 0.

    Returns:
        As many valid polygons, the originals where none simpler was found.
    """
    simple = polygons.copy()
    left = np.arange(len(polygons))
    for halving in range(_HALVINGS):
        if len(left):
            thin = _thin(polygons[left], tolerance / 2**halving)
            valid = shapely.is_valid(thin)
            simple[left[valid]] = thin[valid]
            left = left[~valid]
    return simple


def simplify_groups(polygons: NDArray[np.object_], groups: NDArray[np.int64], tolerance: float) -> NDArray[np.object_]:
    """Simplify polygons so that walls that are shared stay shared.

    Args:
        polygons: Valid polygons, shape (n,).
        groups: Those with the same number share walls, shape (n,).
        tolerance: In the polygons' unit, above 0: for a polygon alone the distance of `simplify`, for several the
            root of the area of the triangles that are cut off (Visvalingam and Whyatt 1993).

    Returns:
        As many valid polygons.
    """
    _, number, size = np.unique(groups, return_inverse=True, return_counts=True)
    alone = size[number] == 1
    simple = polygons.copy()
    simple[alone] = simplify(polygons[alone], tolerance)
    for group in np.flatnonzero(size > 1):
        members = number == group
        thin = shapely.coverage_simplify(polygons[members], tolerance)
        if shapely.is_valid(thin).all() and shapely.coverage_is_valid(thin):
            simple[members] = thin
    return simple


def _thin(polygons: NDArray[np.object_], tolerance: float) -> NDArray[np.object_]:
    """Thin all rings; those that would shrink to a line stay as they are."""
    _, points, (rings, shells) = shapely.to_ragged_array(polygons)
    lines = shapely.from_ragged_array(shapely.GeometryType.LINESTRING, points, (rings,))
    # As lines, not rings: GEOS then keeps the first vertex, on which the bound rests.
    thin = shapely.simplify(lines, tolerance, preserve_topology=False)
    thin = np.where(shapely.get_num_points(thin) < 4, lines, thin)
    _, points, (rings,) = shapely.to_ragged_array(thin)
    polygon: NDArray[np.object_] = shapely.from_ragged_array(shapely.GeometryType.POLYGON, points, (rings, shells))
    return polygon
