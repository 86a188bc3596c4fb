"""Where a raster lies on earth and how many metres its pixels measure."""

import math

import rasterio.warp
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import CRSError, RasterioError

from tiling.errors import SceneError

WGS84 = CRS.from_epsg(4326)
_SEMI_MAJOR = 6378137.0
_ECCENTRICITY_SQUARED = 6.69437999014e-3


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
    except (CRSError, RasterioError) as error:
        raise SceneError(f"its CRS cannot be related to longitude and latitude ({error})") from error
    if not all(math.isfinite(value) for value in (*lon, *lat)):
        raise SceneError("its coordinates lie outside the area of its CRS; assign the right CRS with gdal_edit")
    along_row = _distance(lon[0], lat[0], lon[1], lat[1])
    along_col = _distance(lon[2], lat[2], lon[3], lat[3])
    return along_row / (2 * reach), along_col / (2 * reach)


def _distance(lon1: float, lat1: float, lon2: float, lat2: float) -> float:
    """Metres between near points: the local radii of curvature, good to 1e-6 over some kilometres."""
    latitude = math.radians((lat1 + lat2) / 2)
    curvature = 1 - _ECCENTRICITY_SQUARED * math.sin(latitude) ** 2
    normal = _SEMI_MAJOR / math.sqrt(curvature)
    meridian = normal * (1 - _ECCENTRICITY_SQUARED) / curvature
    east = math.radians(math.remainder(lon2 - lon1, 360)) * normal * math.cos(latitude)
    north = math.radians(lat2 - lat1) * meridian
    return math.hypot(east, north)
