"""Parts contours that are several buildings, with what lies in each part."""

import math

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.io import DatasetReader

from buildseg.footprints.contours import Contours, concatenate
from buildseg.footprints.marching import FULL, NODATA
from buildseg.footprints.raster import has_boundary, read_block
from buildseg.footprints.split import SplitOptions, split_outline
from tiling import Block

_LARGEST = 2**24


class Parter:
    """Parts contours along what the raster holds. A contour of more than 4096 x 4096 pixels stays whole.

    Args:
        dataset: The raster, from `opened_probability`.
        options: How.
        level: The contours' level.

    Raises:
        OptionError: Boundaries are asked for and the raster has none.
    """

    def __init__(self, dataset: DatasetReader, options: SplitOptions, level: float) -> None:
        self._dataset = dataset
        self._options = options
        self._sure = (level + FULL) / 2
        self._boundary = has_boundary(dataset)
        self._idle = options.settled(boundary=self._boundary) == "none"

    def part(self, contours: Contours) -> tuple[Contours, NDArray[np.int64]]:
        """Part contours.

        Args:
            contours: In the raster's pixel coordinates.

        Returns:
            Their parts, and for each the number of the contour it comes from.
        """
        if self._idle or not len(contours):
            return contours, np.arange(len(contours))
        parted = [self._part(contours.where(np.array([number]))) for number in range(len(contours))]
        return concatenate(parted), np.repeat(np.arange(len(contours)), [len(parts) for parts in parted])

    def _part(self, contour: Contours) -> Contours:
        outline = contour.polygons[0]
        left, top, right, bottom = outline.bounds
        row, col = math.floor(top) - 1, math.floor(left) - 1
        block = Block(row, col, math.ceil(bottom) + 1 - row, math.ceil(right) + 1 - col)
        if block.rows * block.cols > _LARGEST:
            return contour
        building = read_block(self._dataset, block)
        boundary = read_block(self._dataset, block, 2) if self._boundary else None
        parts = split_outline(outline, building, boundary, (row, col), self._options)
        return contour if len(parts) == 1 else Contours(parts, *self._sums(parts, building, block))

    def _sums(self, parts: NDArray[np.object_], samples: NDArray[np.uint8], block: Block) -> NDArray[np.int64]:
        local = shapely.transform(parts, lambda points: points - (block.col, block.row))
        numbers = rasterize(zip(local, range(1, len(parts) + 1), strict=True), samples.shape, dtype="int32")
        known = (numbers > 0) & (samples != NODATA)
        number, values = numbers[known] - 1, samples[known].astype(np.int64)
        sums = np.zeros((4, len(parts)), np.int64)
        np.add.at(sums[0], number, values)
        np.add.at(sums[1], number, 1)
        np.add.at(sums[2], number, values > self._sure)
        np.maximum.at(sums[3], number, values)
        return sums
