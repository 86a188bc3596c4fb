"""The probability raster: the one intermediate between network and polygons."""

from collections.abc import Mapping

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from tiling import RasterProfile

LEVELS = 254
NODATA = 255


def probability_profile(height: int, width: int, crs: CRS, transform: Affine, tags: Mapping[str, str]) -> RasterProfile:
    """Describe a probability raster: uint8, 0..254 for 0..1, 255 for nodata.

    Args:
        height: Rows.
        width: Columns.
        crs: Coordinate reference system.
        transform: Geotransform.
        tags: What made it.
    """
    return RasterProfile(
        height=height,
        width=width,
        dtype="uint8",
        crs=crs,
        transform=transform,
        nodata=NODATA,
        scale=1 / LEVELS,
        description="building probability",
        tags=tags,
    )


def encode(probability: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Turn probabilities into stored values.

    Args:
        probability: 0..1, any shape.
        valid: Same shape; other pixels become nodata.

    Returns:
        uint8 of the same shape.
    """
    stored = np.rint(np.clip(probability, 0, 1) * LEVELS).astype(np.uint8)
    stored[~valid] = NODATA
    return stored
