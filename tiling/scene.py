"""Reads windows of a georeferenced raster of any size."""

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import MaskFlags, Resampling
from rasterio.env import get_gdal_config, set_gdal_config
from rasterio.errors import RasterioIOError
from rasterio.io import DatasetReader, MemoryFile

from tiling.bands import Band, band_name, select_bands
from tiling.errors import OptionError, SceneError
from tiling.georeference import ground_sample_distance
from tiling.grid import Block, Window
from tiling.opening import checked_crs, declare_nodata, open_raster
from tiling.remote import is_remote, network_reason, opening, reading

BLOCK_CACHE_BYTES = 128 * 2**20
_STRIP_CACHE_BYTES = 1024 * 2**20
SAME_RESOLUTION = 0.1
_MARGIN = 2


@dataclass(frozen=True, slots=True)
class SceneOptions:
    """How a scene is to be seen.

    Attributes:
        bands: Names of colours or band numbers from 1; None takes all but alpha.
        gsd: Metres per pixel to resample to; None, or a value within a tenth of the scene's own, leaves the
            pixels as they are.
        coarsest_gsd: Metres per pixel up to which a coarser scene is left as it is too; beyond, this is resampled to.
        nodata: Value of pixels that hold nothing. It stands in for the one that the file declares, and is added to
            the file's mask or alpha.

    Raises:
        OptionError: The resolution is out of range.
    """

    bands: Sequence[Band] | None = None
    gsd: float | None = None
    coarsest_gsd: float | None = None
    nodata: float | None = None

    def __post_init__(self) -> None:
        if self.gsd is not None and not 0 < self.gsd < math.inf:
            raise OptionError(f"--gsd {self.gsd:g} is out of range; give metres per pixel, such as 0.3")


def nearest_gsd(own: float, finest: float, coarsest: float | None) -> float:
    """Give the resolution from ``finest`` to ``coarsest``, or ``finest`` itself where that is None, next to ``own``."""
    return min(max(own, finest), coarsest or finest)


class Scene:
    """A georeferenced raster, seen at one resolution, read by windows from any thread.

    Every thread reads through a dataset handle of its own. Use it as a context manager, or call `close`. Reading
    limits the cache that GDAL keeps for the process.

    Args:
        path: A path, URL or GDAL dataset name.
        options: How to see it.

    Attributes:
        path: What was opened.
        width: Columns at the working resolution.
        height: Rows at the working resolution.
        crs: Coordinate reference system.
        transform: Geotransform at the working resolution.
        bands: Band numbers that are read.
        band_names: A name for each.
        dtype: NumPy name of the pixels' type.
        native_gsd: Metres per pixel of the file, along a row and along a column.
        gsd: The same at the working resolution.

    Raises:
        SceneError: The raster cannot be read, is not georeferenced, or lacks a band.
    """

    def __init__(self, path: str | Path, options: SceneOptions | None = None) -> None:
        options = options or SceneOptions()
        self.path = str(path)
        self._source = self.path
        self._virtual: MemoryFile | None = None
        self._local = threading.local()
        self._handles: list[_Handle] = []
        self._lock = threading.Lock()
        self._closed = False
        with open_raster(self.path) as dataset:
            self._describe_bands(dataset, options)
            self._describe_place(dataset, options)
            self._describe_validity(dataset, options.nodata)

    def _describe_bands(self, dataset: DatasetReader, options: SceneOptions) -> None:
        self.bands = select_bands(self.path, dataset.colorinterp, options.bands)
        self.band_names = tuple(band_name(dataset.colorinterp, number) for number in self.bands)
        types = sorted({dataset.dtypes[number - 1] for number in self.bands})
        if len(types) > 1:
            raise SceneError(f"{self.path}: bands of different types ({', '.join(types)}); choose others with --bands")
        self.dtype: str = types[0]
        if np.dtype(self.dtype).kind not in "uif":
            raise SceneError(f"{self.path}: pixels of type {self.dtype} are no image; convert it to uint8 or uint16")

    def _describe_place(self, dataset: DatasetReader, options: SceneOptions) -> None:
        self.crs: CRS = checked_crs(self.path, dataset)
        try:
            self.native_gsd = ground_sample_distance(self.crs, dataset.transform, dataset.width, dataset.height)
        except SceneError as error:
            raise SceneError(f"{self.path}: {error}") from error
        own = math.sqrt(self.native_gsd[0] * self.native_gsd[1])
        wanted = options.gsd and nearest_gsd(own, options.gsd, options.coarsest_gsd)
        self.width, self.height = (
            _resampled_length(length, own, wanted)
            for length, own in zip((dataset.width, dataset.height), self.native_gsd, strict=True)
        )
        self._scale = (dataset.height / self.height, dataset.width / self.width)
        self._native_shape = (dataset.height, dataset.width)
        self.transform: Affine = dataset.transform @ Affine.scale(self._scale[1], self._scale[0])
        self.gsd = (self.native_gsd[0] * self._scale[1], self.native_gsd[1] * self._scale[0])

    def _describe_validity(self, dataset: DatasetReader, nodata: float | None) -> None:
        flags = {number: dataset.mask_flag_enums[number - 1] for number in self.bands}
        shared = [number for number in self.bands if MaskFlags.per_dataset in flags[number]]
        own = [number for number in self.bands if MaskFlags.all_valid not in flags[number]]
        self._masks = shared[:1] or own
        self._nodata = nodata
        self._strip_rows, self._strip_row_bytes = _strips(dataset)
        if nodata is not None and not shared:
            self._virtual = declare_nodata(self.path, dataset, nodata)
            self._source = self._virtual.name
            self._masks = list(self.bands)

    @property
    def resampled(self) -> bool:
        """Whether the working resolution is another than the file's."""
        return self._scale != (1.0, 1.0)

    def read(self, window: Window) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        """Read a window; what lies beyond the scene is filled by reflection.

        Args:
            window: A window of a grid over ``height`` x ``width``.

        Returns:
            Pixels of shape (bands, size, size) in the scene's type, 0 where invalid numbers stood, and
            validity of shape (size, size): False on nodata, transparent or masked pixels.

        Raises:
            SceneError: The file cannot be read there.
        """
        return self.read_block(Block(window.row, window.col, window.size, window.size))

    def read_block(self, block: Block) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        """Read a rectangle; what lies beyond the scene's right or lower edge is filled by reflection.

        Args:
            block: Its first pixel lies in the scene.

        Returns:
            Pixels of shape (bands, rows, cols) and validity of shape (rows, cols), as `read` does.

        Raises:
            SceneError: The file cannot be read there.
        """
        rows = min(block.rows, self.height - block.row)
        cols = min(block.cols, self.width - block.col)
        pixels, valid = self.read_region(block.row, block.col, rows, cols)
        if (rows, cols) == (block.rows, block.cols):
            return pixels, valid
        beyond = ((0, block.rows - rows), (0, block.cols - cols))
        return np.pad(pixels, ((0, 0), *beyond), "reflect"), np.pad(valid, beyond, "reflect")

    def read_region(self, row: int, col: int, rows: int, cols: int) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        """Read a rectangle inside the scene.

        Args:
            row: First row.
            col: First column.
            rows: Number of rows.
            cols: Number of columns.

        Returns:
            Pixels of shape (bands, rows, cols) and validity of shape (rows, cols), as `read` does.

        Raises:
            SceneError: The file cannot be read there.
        """
        margin = _MARGIN if self.resampled else 0
        top, left = max(0, row - margin), max(0, col - margin)
        bottom, right = min(self.height, row + rows + margin), min(self.width, col + cols + margin)
        pixels, valid = self._read(top, left, bottom - top, right - left)
        inner = (slice(row - top, row - top + rows), slice(col - left, col - left + cols))
        return pixels[(slice(None), *inner)], valid[inner]

    def overview(self, side: int) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        """Read the whole scene, thinned out to at most ``side`` pixels a side; overviews are used.

        Args:
            side: The longer side of the result at most, in pixels.

        Returns:
            Pixels of shape (bands, rows, cols) and validity of shape (rows, cols).
        """
        factor = max(1.0, max(self._native_shape) / side)
        shape = tuple(max(1, round(length / factor)) for length in self._native_shape)
        whole = rasterio.windows.Window(0, 0, self._native_shape[1], self._native_shape[0])
        _limit_cache(BLOCK_CACHE_BYTES)
        return self._decode(whole, (shape[0], shape[1]), Resampling.nearest)

    def _read(self, row: int, col: int, rows: int, cols: int) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        down, across = self._scale
        source = rasterio.windows.Window(col * across, row * down, cols * across, rows * down)
        resampling = Resampling.average if max(down, across) > 1 else Resampling.bilinear
        _limit_cache(max(BLOCK_CACHE_BYTES, min(self._strip_bytes(source.height), _STRIP_CACHE_BYTES)))
        return self._decode(source, (rows, cols), resampling)

    def _strip_bytes(self, rows: float) -> int:
        """What GDAL must keep, for every reader, so as not to decode strips anew for each window that they cross."""
        readers = max(1, len(self._handles))
        return math.ceil(readers * (rows + 2 * self._strip_rows) * self._strip_row_bytes)

    def _decode(
        self, source: rasterio.windows.Window, shape: tuple[int, int], resampling: Resampling
    ) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        with self._readable(), self._dataset() as dataset, reading(self.path):
            pixels = dataset.read(self.bands, window=source, out_shape=(len(self.bands), *shape), resampling=resampling)
            valid = np.ones(shape, np.bool_)
            if self._masks:
                masks = dataset.read_masks(self._masks, window=source, out_shape=(len(self._masks), *shape))
                valid = (masks > 0).any(axis=0)
        if self._nodata is not None:
            valid &= (pixels != self._nodata).any(axis=0)
        if pixels.dtype.kind == "f":
            finite = np.isfinite(pixels)
            valid &= finite.all(axis=0)
            pixels = np.where(finite, pixels, 0)
        return pixels, valid

    @contextmanager
    def _dataset(self) -> Iterator[DatasetReader]:
        handle = self._handle()
        with handle.in_use:
            self._assert_open()
            yield handle.dataset

    def _handle(self) -> "_Handle":
        """Give this thread's own; it is opened when first asked for."""
        self._assert_open()
        if not hasattr(self._local, "handle"):
            with opening(self.path):
                self._local.handle = _Handle(rasterio.open(self._source))
            with self._lock:
                self._handles.append(self._local.handle)
        handle: _Handle = self._local.handle
        return handle

    def _assert_open(self) -> None:
        if self._closed:
            raise SceneError(f"{self.path} has been closed; open it again")

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except RasterioIOError as error:
            if is_remote(self.path):
                raise SceneError(network_reason(self.path, error)) from error
            raise SceneError(
                f"{self.path}: cannot be read to its end; the file is damaged or cut short: copy it again "
                f"({error.__cause__ or error})"
            ) from error

    def close(self) -> None:
        """Close every thread's handle; what is being read is waited for, and what is read later is refused."""
        with self._lock:
            self._closed = True
            for handle in self._handles:
                with handle.in_use:
                    handle.dataset.close()
            self._handles.clear()
        if self._virtual is not None:
            self._virtual.close()

    def __enter__(self) -> "Scene":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class _Handle:
    """A thread's own dataset. GDAL brings the process down where one is closed while it is read."""

    dataset: DatasetReader
    in_use: threading.Lock = field(default_factory=threading.Lock)


def _limit_cache(size: int) -> None:
    """Limit the cache of blocks, one for the whole process: an Env per read would empty it for the other threads."""
    if get_gdal_config("GDAL_CACHEMAX") != size:
        set_gdal_config("GDAL_CACHEMAX", size)


def _strips(dataset: DatasetReader) -> tuple[int, int]:
    """Rows of a strip and bytes that a row takes in GDAL's cache, its mask included; 0, 0 for a tiled raster."""
    rows, cols = dataset.block_shapes[0]
    if cols < dataset.width:
        return 0, 0
    return rows, dataset.width * (dataset.count * np.dtype(dataset.dtypes[0]).itemsize + 1)


def _resampled_length(length: int, own: float, wanted: float | None) -> int:
    if wanted is None or math.isclose(own, wanted, rel_tol=SAME_RESOLUTION):
        return length
    return max(1, round(length * own / wanted))
