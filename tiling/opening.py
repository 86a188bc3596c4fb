"""Opens rasters and refuses, with a remedy, those that have no place on earth."""

import warnings
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
from rasterio.io import DatasetReader, MemoryFile

from tiling.errors import SceneError
from tiling.output import is_text
from tiling.remote import is_remote, network_reason, opening


def open_raster(path: str) -> DatasetReader:
    """Open a raster for reading, georeferenced or not.

    Args:
        path: A path, URL or GDAL dataset name.

    Raises:
        SceneError: There is nothing there, or it is not one raster.
    """
    if not is_text(path):
        raise SceneError(f"{path}: the name is not UTF-8, which GDAL needs; rename it")
    local = "://" not in path and not path.startswith("/vsi")
    if local and Path(path).is_dir():
        raise SceneError(f"{path} is a folder; name a raster file in it")
    try:
        with warnings.catch_warnings(), opening(path):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            dataset = rasterio.open(path)
    except RasterioIOError as error:
        if is_remote(path):
            raise SceneError(network_reason(path, error)) from error
        if local and not Path(path).exists() and ":" not in path:
            raise SceneError(f"{path} does not exist; check the path") from error
        raise SceneError(f"{path} is not a raster that GDAL can read; give a GeoTIFF or the like ({error})") from error
    if dataset.count == 0:
        dataset.close()
        raise SceneError(f"{path} holds several rasters; name one of them as gdalinfo lists it")
    return dataset


def checked_crs(path: str, dataset: DatasetReader) -> CRS:
    """Look whether a raster says where it lies.

    Args:
        path: The raster, for messages.
        dataset: The raster.

    Returns:
        Its coordinate reference system.

    Raises:
        SceneError: It has none, or no geotransform, or one without area.
    """
    if dataset.transform.is_identity:
        gcps, _ = dataset.gcps
        remedy = "warp it with gdalwarp first" if gcps or dataset.rpcs else "add one, e.g. with gdal_translate -a_ullr"
        raise SceneError(f"{path} has no geotransform, so its pixels have no place on earth; {remedy}")
    if not dataset.crs:
        raise SceneError(f"{path} has no CRS; assign the right one, e.g. with gdal_edit -a_srs EPSG:32632")
    if dataset.transform.is_degenerate:
        raise SceneError(f"{path} has a geotransform without area; mend it, e.g. with gdal_edit -a_ullr")
    return dataset.crs


def declare_nodata(path: str, dataset: DatasetReader, nodata: float) -> MemoryFile:
    """Lay a virtual raster over a raster that declares a nodata value, so that resampling leaves those pixels out.

    Args:
        path: The raster, for messages.
        dataset: The raster.
        nodata: Value of pixels that hold nothing.

    Returns:
        The file of the virtual raster, in memory; it must be closed in the end.

    Raises:
        SceneError: No pixel can have that value.
    """
    dtype = np.dtype(dataset.dtypes[0])
    if dtype.kind in "ui" and not np.iinfo(dtype).min <= nodata <= np.iinfo(dtype).max:
        raise SceneError(f"{path} holds {dtype}, so that no pixel is {nodata:g}; give another --nodata, or none")
    virtual = MemoryFile(ext=".vrt")
    rasterio.shutil.copy(dataset, virtual.name, driver="VRT")
    with rasterio.open(virtual.name, "r+") as editable:
        editable.nodata = nodata
    return virtual
