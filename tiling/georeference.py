"""Where a raster lies on earth and how many metres its pixels measure."""

import math

import rasterio.warp
from affine import Affine
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import RasterioError

from tiling.errors import SceneError

WGS84 = CRS.from_epsg(4326)
_SEMI_MAJOR = 6378137.0
_ECCENTRICITY_SQUARED = 6.69437999014e-3
_LOST = "its coordinates in its CRS are no place on earth; assign the right CRS, e.g. with gdal_edit -a_srs EPSG:32632"


def ground_sample_distance(crs: CRS, transform: Affine, width: int, height: int) -> tuple[float, float]:
    """Measure a raster's pixels on the ground, at its centre.

    The distance is taken on the WGS84 ellipsoid, so it is true for degrees, feet and the stretched metres of
    Web Mercator alike.

    Args:
        crs: The raster's coordinate reference system.
        transform: Its geotransform.
        width: Its columns.
        height: Its rows.

    Returns:
        Metres per pixel along a row and along a column.

    Raises:
        SceneError: The CRS cannot be related to the earth.
    """
    col, row = width / 2, height / 2
    reach = min(100.0, max(width, height) / 2)
    points = [(col - reach, row), (col + reach, row), (col, row - reach), (col, row + reach)]
    xs, ys = zip(*(transform @ point for point in points), strict=True)
    try:
        lon, lat = rasterio.warp.transform(crs, WGS84, xs, ys)
    except (CPLE_BaseError, RasterioError) as error:
        raise SceneError(_LOST) from error
    if not all(abs(x) <= 540 and abs(y) <= 90 for x, y in zip(lon, lat, strict=True)):
        raise SceneError(_LOST)
    left, right, upper, lower = map(_from_centre, lon, lat)
    return math.dist(left, right) / (2 * reach), math.dist(upper, lower) / (2 * reach)


def _from_centre(lon: float, lat: float) -> tuple[float, float, float]:
    """Metres from the earth's centre, where a chord of some kilometres is an arc to 1e-7, at the poles too."""
    east, north = math.radians(lon), math.radians(lat)
    normal = _SEMI_MAJOR / math.sqrt(1 - _ECCENTRICITY_SQUARED * math.sin(north) ** 2)
    axis = normal * math.cos(north)
    return axis * math.cos(east), axis * math.sin(east), normal * (1 - _ECCENTRICITY_SQUARED) * math.sin(north)
