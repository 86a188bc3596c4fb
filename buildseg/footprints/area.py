"""Areas on the ellipsoid."""

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


def geodesic_areas(polygons: NDArray[np.object_], crs: pyproj.CRS) -> NDArray[np.float64]:
    """Measure polygons on the WGS84 ellipsoid, their edges taken as geodesics (Karney 2013).

    Args:
        polygons: Shapely polygons, shape (n,), x before y.
        crs: Their coordinate reference system, any that relates to the earth.

    Returns:
        Areas in square metres, holes left out, shape (n,).
    """
    if not len(polygons):
        return np.zeros(0)
    _, points, (rings, shells) = shapely.to_ragged_array(polygons)
    to_degrees = transformer(crs, WGS84)
    lon, lat = to_degrees.transform(*np.ascontiguousarray(points.T))
    areas = -np.abs([_ELLIPSOID.polygon_area_perimeter(lon[a:b], lat[a:b])[0] for a, b in pairwise(rings)])
    areas[shells[:-1]] *= -1
    return np.asarray(np.add.reduceat(areas, shells[:-1]))
