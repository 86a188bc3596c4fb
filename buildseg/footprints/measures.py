"""Lengths, areas and directions on the ellipsoid; vertices."""

from functools import lru_cache
from itertools import pairwise

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

WGS84 = pyproj.CRS.from_epsg(4326)
_ELLIPSOID = pyproj.Geod(ellps="WGS84")


@lru_cache(maxsize=8)
def transformer(source: pyproj.CRS, target: pyproj.CRS) -> pyproj.Transformer:
    """Give the way from one CRS to another, x before y; to find it takes longer than to go it for a few polygons."""
    return pyproj.Transformer.from_crs(source, target, always_xy=True)


def geodesic_sizes(polygons: NDArray[np.object_], crs: pyproj.CRS) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Measure polygons on the WGS84 ellipsoid, their edges taken as geodesics (Karney 2013).

    Args:
        polygons: Shapely polygons, shape (n,), x before y.
        crs: Their coordinate reference system, any that relates to the earth.

    Returns:
        Areas in square metres, holes left out, and perimeters in metres, holes included, each of shape (n,).
    """
    if not len(polygons):
        return np.zeros(0), np.zeros(0)
    _, points, (rings, shells) = shapely.to_ragged_array(polygons)
    lon, lat = transformer(crs, WGS84).transform(*np.ascontiguousarray(points.T))
    measured = (_ELLIPSOID.polygon_area_perimeter(lon[a:b], lat[a:b]) for a, b in pairwise(rings.tolist()))
    areas, lengths = np.array(list(measured)).T
    areas = -np.abs(areas)
    areas[shells[:-1]] *= -1
    return np.add.reduceat(areas, shells[:-1]), np.add.reduceat(lengths, shells[:-1])


def azimuths(start: NDArray[np.float64], end: NDArray[np.float64], crs: pyproj.CRS) -> NDArray[np.float64]:
    """Give the directions of lines, in degrees clockwise from true north, 0 up to 180.

    Args:
        start: One end of each, shape (n, 2), x before y.
        end: The other.
        crs: Their coordinate reference system.

    Returns:
        Shape (n,).
    """
    to_degrees = transformer(crs, WGS84)
    (lon, lat), (lon_end, lat_end) = (to_degrees.transform(*np.ascontiguousarray(xy.T)) for xy in (start, end))
    forward, _, _ = _ELLIPSOID.inv(lon, lat, lon_end, lat_end)
    return np.asarray(forward) % 180


def count_vertices(polygons: NDArray[np.object_]) -> NDArray[np.int64]:
    """Count vertices of polygons, the first of each ring once, shape (n,)."""
    return np.asarray(shapely.get_num_coordinates(polygons) - 1 - shapely.get_num_interior_rings(polygons), np.int64)
