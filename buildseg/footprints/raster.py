"""Opens a probability raster, refuses what is none, and reads it by blocks."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from buildseg.classes import BAND_NAMES
from buildseg.footprints.marching import FULL, NODATA
from tiling import Block
from tiling.errors import ProbabilityError
from tiling.output import is_text

_CACHE_BYTES = 64 * 2**20


def cut_blocks(height: int, width: int, shape: tuple[int, int]) -> list[Block]:
    """Cut a scene and one line of nodata around it into blocks that share their border lines of samples.

    Args:
        height: The scene's rows.
        width: The scene's columns.
        shape: Rows and columns from one shared line to the next. The first shared lines are the last of the scene's
            first rows and columns, so that no block of those waits for a line of the next; the last may have one more.

    Returns:
        The blocks, row by row; row -1 is the line above the scene, column -1 the line left of it.
    """

    def spans(length: int, step: int) -> list[tuple[int, int]]:
        return [(first, last - first + 1) for first, last in pairwise((-1, *range(step - 1, length - 1, step), length))]

    down, across = spans(height, shape[0]), spans(width, shape[1])
    return [Block(row, col, rows, cols) for row, rows in down for col, cols in across]


def limited_cache() -> rasterio.Env:
    """Limit the cache of blocks that GDAL keeps for the process, for the length of a with block."""
    return rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES)


@contextmanager
def opened_probability(path: Path) -> Iterator[DatasetReader]:
    """Open a probability raster.

    Args:
        path: A raster file.

    Yields:
        The dataset: uint8, georeferenced, scaled by 1/254; one band, or a second one of boundaries (`has_boundary`).

    Raises:
        ProbabilityError: The file is something else.
    """
    with _open(path) as dataset:
        _check_pixels(path, dataset)
        _check_place(path, dataset)
        yield dataset


def has_boundary(dataset: DatasetReader) -> bool:
    """Say whether a probability raster has a second band, with the probability of boundaries."""
    return bool(dataset.count == len(BAND_NAMES))


def read_block(dataset: DatasetReader, block: Block, band: int = 1) -> NDArray[np.uint8]:
    """Read a block's samples.

    Args:
        dataset: From `opened_probability`.
        block: One of `cut_blocks`, or any rectangle that shares a pixel with the scene.
        band: 1 for building, 2 for boundary.

    Returns:
        Stored values of shape (rows, cols), nodata beyond the scene.

    Raises:
        ProbabilityError: The file is damaged there.
    """
    top, left = max(block.row, 0), max(block.col, 0)
    rows = min(block.row + block.rows, dataset.height) - top
    cols = min(block.col + block.cols, dataset.width) - left
    samples = np.full((block.rows, block.cols), NODATA, np.uint8)
    inner = samples[top - block.row :, left - block.col :][:rows, :cols]
    try:
        dataset.read(band, window=Window(left, top, cols, rows), out=inner)
    except RasterioIOError as error:
        raise ProbabilityError(
            f"{dataset.name}: cannot be read to its end; the file is damaged or cut short: run predict again ({error})"
        ) from error
    return samples


def _open(path: Path) -> DatasetReader:
    if not is_text(path):
        raise ProbabilityError(f"{path}: the name is not UTF-8, which GDAL needs; rename it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            return rasterio.open(path)
    except RasterioIOError as error:
        if not path.exists():
            raise ProbabilityError(f"{path} does not exist; check the path") from error
        raise ProbabilityError(f"{path} is not a raster; give the GeoTIFF of predict --probability") from error


def _check_pixels(path: Path, dataset: DatasetReader) -> None:
    remedy = "give the GeoTIFF of predict --probability"
    if dataset.count != 1 and dataset.descriptions[1:] != BAND_NAMES[1:]:
        raise ProbabilityError(
            f"{path} has {dataset.count} bands where a probability raster has one, or a second one called "
            f"{BAND_NAMES[1]!r}; {remedy}"
        )
    if other := [dtype for dtype in dataset.dtypes if dtype != "uint8"]:
        raise ProbabilityError(f"{path} has {other[0]} pixels where probabilities are uint8; {remedy}")
    if odd := [scale for scale in dataset.scales if not math.isclose(scale, 1 / FULL, rel_tol=1e-6)]:
        raise ProbabilityError(
            f"{path} has the band scale {odd[0]:g} where probabilities have 1/{FULL}; {remedy}, "
            f"or set it with gdal_edit -scale {1 / FULL:.9f} if the pixels are probabilities of 0 to {FULL}"
        )
    if dataset.nodata not in {None, NODATA}:
        raise ProbabilityError(
            f"{path} has the nodata value {dataset.nodata:g} where probabilities have {NODATA}; {remedy}"
        )


def _check_place(path: Path, dataset: DatasetReader) -> None:
    if not dataset.crs:
        raise ProbabilityError(f"{path} has no CRS; assign the right one, e.g. with gdal_edit -a_srs EPSG:32632")
    if dataset.transform.is_identity or dataset.transform.is_degenerate:
        raise ProbabilityError(f"{path} has no usable geotransform; add one, e.g. with gdal_edit -a_ullr")
