"""Footprint files: the extension chooses the format."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import shapely
from pyogrio.errors import DataLayerError, DataSourceError

from buildseg.footprints.ground import snap
from buildseg.footprints.measures import WGS84
from tiling.errors import OptionError, OutputError
from tiling.output import written_whole

_DRIVERS = {".geojson": "GeoJSON", ".gpkg": "GPKG", ".fgb": "FlatGeobuf", ".parquet": "Parquet"}
_log = logging.getLogger(__name__)


def check_format(target: Path) -> None:
    """Refuse a file name whose extension names no format, before any work is done for it.

    Args:
        target: The file to be written.

    Raises:
        OptionError: The extension is not one of the four.
    """
    if target.suffix.lower() not in _DRIVERS:
        raise OptionError(f"--out {target}: the extension chooses the format; give one of {', '.join(_DRIVERS)}")


def write_footprints(footprints: geopandas.GeoDataFrame, target: Path, *, overwrite: bool = False) -> None:
    """Write footprints to .geojson, .gpkg, .fgb or .parquet.

    GeoJSON in WGS84 follows RFC 7946: longitude before latitude, seven decimals at most, outer rings
    counter-clockwise, no ``crs`` member.

    Args:
        footprints: From `vectorize`; it may be empty.
        target: The file to write.
        overwrite: Whether an existing file may be replaced.

    Raises:
        OptionError: The extension is none of the four, or GeoJSON cannot name the CRS.
        OutputError: The target exists, or cannot be written.
    """
    check_format(target)
    driver = _DRIVERS[target.suffix.lower()]
    options = {}
    if driver == "GeoJSON" and footprints.crs.equals(WGS84, ignore_axis_order=True):
        footprints = _seven_decimals(footprints)
        options = {"RFC7946": "YES"}
    elif driver == "GeoJSON":
        _warn_of_crs(footprints, target)
    with written_whole(target, overwrite=overwrite) as partial, _writable(target):
        if driver == "Parquet":
            footprints.to_parquet(partial, index=False)
        else:
            layer = {"layer": target.stem, "geometry_type": "Polygon", "layer_options": options}
            pyogrio.write_dataframe(footprints, partial, driver=driver, **layer)
            _check_whole(partial, len(footprints))


def _seven_decimals(footprints: geopandas.GeoDataFrame) -> geopandas.GeoDataFrame:
    points = shapely.get_coordinates(footprints.geometry.array)
    if np.array_equal(points, points.round(7)):
        return footprints
    parts = footprints.set_geometry(snap(footprints.geometry.array), crs=footprints.crs).explode(ignore_index=True)
    parts = parts[(parts.geom_type == "Polygon") & ~parts.is_empty]
    return parts.assign(id=np.arange(1, len(parts) + 1))


def _warn_of_crs(footprints: geopandas.GeoDataFrame, target: Path) -> None:
    if footprints.crs.to_authority() is None:
        raise OptionError(f"--crs: GeoJSON cannot name the CRS {footprints.crs.name}; write {target.stem}.gpkg instead")
    _log.warning(
        "%s is in %s, named in a crs member, which RFC 7946 does not know: some programs will misplace it",
        target,
        footprints.crs.to_string(),
    )


def _check_whole(written: Path, count: int) -> None:
    # GDAL says nothing when a full disk cuts off what it flushes last.
    found = len(pyogrio.read_bounds(written)[0])
    if found != count:
        raise DataLayerError(f"only {found} of {count} footprints arrived")


@contextmanager
def _writable(target: Path) -> Iterator[None]:
    try:
        yield
    except (DataSourceError, DataLayerError, OSError) as error:
        raise OutputError(f"{target} cannot be written ({error}); check the disk, or choose another folder") from error
