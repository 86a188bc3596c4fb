"""Writes rasters of any size by strips of rows."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.io import DatasetWriter

from tiling.errors import OutputError
from tiling.output import check_writable, scratch_file, written_whole
from tiling.scene import BLOCK_CACHE_BYTES

BLOCK_SIZE = 512
_GDAL_ERRORS = (RasterioError, CPLE_BaseError, SystemError)  # the last two are what rasterio's copy raises


@dataclass(frozen=True, slots=True)
class RasterProfile:
    """What a raster of one band is, apart from its pixels.

    Attributes:
        height: Rows.
        width: Columns.
        dtype: NumPy name of the pixels' type.
        crs: Coordinate reference system.
        transform: Geotransform.
        nodata: Value of pixels that hold nothing.
        scale: What a pixel is multiplied with to give the quantity.
        description: The band's name.
        tags: Metadata of the file.
    """

    height: int
    width: int
    dtype: str
    crs: CRS
    transform: Affine
    nodata: float | None = None
    scale: float = 1.0
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


class RasterWriter:
    """Takes strips of rows from the top down and writes them in whole rows of blocks.

    Args:
        dataset: A tiled dataset, open for writing.
    """

    def __init__(self, dataset: DatasetWriter) -> None:
        self._dataset = dataset
        self._pending: list[NDArray[np.generic]] = []
        self._pending_rows = 0
        self._row = 0

    def write(self, rows: NDArray[np.generic]) -> None:
        """Append rows.

        Args:
            rows: Shape (rows, width), in the raster's type.
        """
        self._pending.append(rows)
        self._pending_rows += len(rows)
        whole = self._pending_rows // BLOCK_SIZE * BLOCK_SIZE
        if whole:
            self._flush(whole)

    def finish(self) -> None:
        """Write the rows that are left.

        Raises:
            OutputError: Fewer rows came than the raster has.
        """
        if self._pending_rows:
            self._flush(self._pending_rows)
        if self._row != self._dataset.height:
            raise OutputError(f"{self._dataset.name}: only {self._row} of {self._dataset.height} rows were written")

    def _flush(self, count: int) -> None:
        rows = np.concatenate(self._pending)
        window = rasterio.windows.Window(0, self._row, self._dataset.width, count)
        self._dataset.write(rows[:count], 1, window=window)
        self._pending = [rows[count:]]
        self._pending_rows = len(rows) - count
        self._row += count


@contextmanager
def written_raster(target: Path, profile: RasterProfile, *, overwrite: bool = False) -> Iterator[RasterWriter]:
    """Write a cloud-optimised GeoTIFF; it stands at the target only if the block succeeds.

    Args:
        target: The file to write.
        profile: What it is.
        overwrite: Whether an existing file may be replaced.

    Yields:
        A writer for its rows.

    Raises:
        OutputError: The target cannot be written, or the disk is full.
    """
    with written_whole(target, overwrite=overwrite) as whole, scratch_file(target) as plain, writing_to(target):
        with _open_for_strips(plain, profile) as writer:
            yield writer
        with rasterio.Env(GDAL_CACHEMAX=BLOCK_CACHE_BYTES):
            rasterio.shutil.copy(
                plain,
                whole,
                driver="COG",
                COMPRESS="DEFLATE",
                BLOCKSIZE=BLOCK_SIZE,
                OVERVIEW_RESAMPLING="AVERAGE",
                BIGTIFF="IF_SAFER",
                NUM_THREADS="ALL_CPUS",
            )
        check_end(whole)


@contextmanager
def plain_raster(path: Path, profile: RasterProfile) -> Iterator[RasterWriter]:
    """Write a tiled, compressed GeoTIFF without overviews, in place: for intermediate data.

    Args:
        path: The file to write; an existing one is replaced.
        profile: What it is.

    Yields:
        A writer for its rows.

    Raises:
        OutputError: The file cannot be written, or the disk is full.
    """
    with writing_to(path), _open_for_strips(path, profile) as writer:
        yield writer


@contextmanager
def _open_for_strips(path: Path, profile: RasterProfile) -> Iterator[RasterWriter]:
    with rasterio.Env(GDAL_CACHEMAX=BLOCK_CACHE_BYTES):
        dataset = rasterio.open(
            path,
            "w",
            driver="GTiff",
            height=profile.height,
            width=profile.width,
            count=1,
            dtype=profile.dtype,
            crs=profile.crs,
            transform=profile.transform,
            nodata=profile.nodata,
            tiled=True,
            blockxsize=BLOCK_SIZE,
            blockysize=BLOCK_SIZE,
            compress="deflate",
            zlevel=1,
            bigtiff="IF_SAFER",
        )
    with dataset:
        dataset.scales = (profile.scale,)
        dataset.set_band_description(1, profile.description)
        dataset.update_tags(**profile.tags)
        writer = RasterWriter(dataset)
        yield writer
        writer.finish()
    check_end(path)


def check_end(path: Path) -> None:
    """Read the last pixel of a new raster: GDAL says nothing if the disk is full when it closes a file.

    Args:
        path: The raster.

    Raises:
        RasterioIOError: It is not whole.
    """
    with rasterio.open(path) as dataset:
        dataset.read(1, window=rasterio.windows.Window(dataset.width - 1, dataset.height - 1, 1, 1))


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Say in one line what GDAL could not write.

    Args:
        path: What the block writes.

    Raises:
        OutputError: The block could not write it.
    """
    try:
        yield
    except _GDAL_ERRORS as error:
        check_writable(path, overwrite=True)
        free = shutil.disk_usage(path.parent).free / 1e9
        cause = error.__cause__ or error
        raise OutputError(f"{path} cannot be written ({cause}); its disk has {free:.1f} GB free") from error
