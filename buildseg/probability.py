"""The probability raster: the one intermediate between network and polygons."""

from collections.abc import Mapping

import torch
from affine import Affine
from rasterio.crs import CRS
from torch import Tensor

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


def encode(probability: Tensor, valid: Tensor) -> Tensor:
    """Turn probabilities into stored values.

    Args:
        probability: 0..1, any shape.
        valid: bool, same shape; other pixels become nodata.

    Returns:
        uint8 of the same shape.
    """
    stored = (probability * LEVELS).round_().clamp_(0, LEVELS).to(torch.uint8)
    return stored if valid.all() else stored.masked_fill_(~valid, NODATA)
