"""Writes rasters of any size, block by block, and as cloud-optimised GeoTIFF."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

from tiling.errors import OutputError
from tiling.grid import Block
from tiling.output import check_writable, written_whole
from tiling.scene import BLOCK_CACHE_BYTES

BLOCK_SIZE = 512
_WRITE_ERRORS = (RasterioError, CPLE_BaseError, SystemError, OSError)  # the middle two are what rasterio's copy raises


@dataclass(frozen=True, slots=True)
class RasterProfile:
    """What a raster is, apart from its pixels.

    Attributes:
        height: Rows.
        width: Columns.
        dtype: NumPy name of the pixels' type.
        crs: Coordinate reference system.
        transform: Geotransform.
        nodata: Value of pixels that hold nothing.
        scale: What a pixel is multiplied with to give the quantity.
        descriptions: A name for each band.
        tags: Metadata of the file.
    """

    height: int
    width: int
    dtype: str
    crs: CRS
    transform: Affine
    nodata: float | None = None
    scale: float = 1.0
    descriptions: tuple[str, ...] = ("",)
    tags: Mapping[str, str] = field(default_factory=dict)


def encode_block(pixels: NDArray[np.generic], block: Block, profile: RasterProfile) -> bytes:
    """Turn a block of a raster into the bytes of a tiled, compressed GeoTIFF of its own.

    Args:
        pixels: Shape (bands, rows, cols) of the block, in the raster's type; of one band also (rows, cols).
        block: Where it lies in the raster.
        profile: The whole raster.

    Returns:
        The content of the file.
    """
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            height=block.rows,
            width=block.cols,
            count=len(profile.descriptions),
            dtype=profile.dtype,
            crs=profile.crs,
            transform=profile.transform @ Affine.translation(block.col, block.row),
            nodata=profile.nodata,
            tiled=True,
            blockxsize=BLOCK_SIZE,
            blockysize=BLOCK_SIZE,
            interleave="band",
            compress="zstd",
            zstd_level=1,
        ) as dataset:
            dataset.write(pixels.reshape(-1, *pixels.shape[-2:]))
        return bytes(memory.getbuffer())


def mosaic_of_blocks(names: Mapping[Block, str], profile: RasterProfile) -> str:
    """Describe a raster that is made up of files of its blocks, as a virtual raster of GDAL.

    Args:
        names: The file of each block, in the folder where the description will stand.
        profile: The whole raster, of type uint8.

    Returns:
        The content of a .vrt file. A part of the raster can be read as soon as its blocks' files are there.
    """
    nodata = "" if profile.nodata is None else f"<NoDataValue>{profile.nodata}</NoDataValue>"
    tags = "".join(f"<MDI key={quoteattr(key)}>{escape(value)}</MDI>" for key, value in profile.tags.items())
    bands = (
        f'<VRTRasterBand dataType="Byte" band="{number}"><Description>{escape(description)}</Description>'
        f"{nodata}<Scale>{profile.scale!r}</Scale>{_sources(names, number)}</VRTRasterBand>"
        for number, description in enumerate(profile.descriptions, 1)
    )
    return (
        f'<VRTDataset rasterXSize="{profile.width}" rasterYSize="{profile.height}">'
        f"<SRS>{escape(profile.crs.to_wkt())}</SRS>"
        f"<GeoTransform>{', '.join(map(repr, profile.transform.to_gdal()))}</GeoTransform><Metadata>{tags}</Metadata>"
        f"{''.join(bands)}</VRTDataset>"
    )


def _sources(names: Mapping[Block, str], band: int) -> str:
    return "".join(
        f'<SimpleSource><SourceFilename relativeToVRT="1">{escape(name)}</SourceFilename>'
        f"<SourceBand>{band}</SourceBand>"
        f'<SourceProperties RasterXSize="{block.cols}" RasterYSize="{block.rows}" DataType="Byte" '
        f'BlockXSize="{BLOCK_SIZE}" BlockYSize="{BLOCK_SIZE}"/>'
        f'<SrcRect xOff="0" yOff="0" xSize="{block.cols}" ySize="{block.rows}"/>'
        f'<DstRect xOff="{block.col}" yOff="{block.row}" xSize="{block.cols}" ySize="{block.rows}"/></SimpleSource>'
        for block, name in names.items()
    )


def write_cog(source: Path, target: Path, *, overwrite: bool = False) -> None:
    """Copy a raster into a cloud-optimised GeoTIFF, which stands at the target when it is whole.

    Args:
        source: What to copy.
        target: The file to write.
        overwrite: Whether an existing file may be replaced.

    Raises:
        OutputError: The target cannot be written, or the disk is full.
    """
    with written_whole(target, overwrite=overwrite) as whole, writing_to(target):
        with rasterio.Env(GDAL_CACHEMAX=BLOCK_CACHE_BYTES):
            rasterio.shutil.copy(
                source,
                whole,
                driver="COG",
                COMPRESS="DEFLATE",
                BLOCKSIZE=BLOCK_SIZE,
                OVERVIEW_RESAMPLING="AVERAGE",
                BIGTIFF="IF_SAFER",
                NUM_THREADS="ALL_CPUS",
            )
        check_end(whole)


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
    """Say in one line what could not be written.

    Args:
        path: What the block writes.

    Raises:
        OutputError: The block could not write it.
    """
    try:
        yield
    except OutputError:
        raise
    except _WRITE_ERRORS as error:
        check_writable(path, overwrite=True)
        free = shutil.disk_usage(path.parent).free / 1e9
        cause = error.__cause__ or error
        raise OutputError(f"{path} cannot be written ({cause}); its disk has {free:.1f} GB free") from error
