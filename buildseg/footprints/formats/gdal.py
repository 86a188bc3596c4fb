"""The formats that GDAL writes, from Arrow batches, so that it holds what its drivers need and no more.

Shapefile needs nothing. GeoPackage and FlatGeobuf hold some 100 bytes of each footprint for their spatial index, and
FlatGeobuf keeps all footprints in a file beside the target until they are sorted. PMTiles keeps them in a database
beside the target until its tiles are cut, which takes minutes for every 100,000.
"""

import logging
import struct
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow
import pyogrio
from pyogrio.errors import DataLayerError

from buildseg.footprints.formats import pmtiles
from buildseg.footprints.formats.arrow import GEOMETRY, ArrowFootprints
from buildseg.footprints.formats.provenance import in_json

DRIVERS = {
    ".gpkg": "GPKG",
    ".fgb": "FlatGeobuf",
    ".shp": "ESRI Shapefile",
    ".pmtiles": "PMTiles",
}
SHAPEFILE_NAMES = {"edge_width_m": "edge_m", "perimeter_m": "perim_m", "orientation_deg": "orient_deg"}
_LONGEST_NAME = 10
_RESERVED = ("gpkg", "sqlite_", "rtree_")
_log = logging.getLogger(__name__)


def write_with_gdal(footprints: ArrowFootprints, path: Path, layer: str, provenance: Mapping[str, str]) -> None:
    """Write a file whose suffix is one of `DRIVERS`.

    Args:
        footprints: What to write; for PMTiles, in WGS84.
        path: The file.
        layer: What its layer is called.
        provenance: What goes into the file, where the format has a place for it.

    Raises:
        DataSourceError: GDAL cannot write it.
        DataLayerError: Not all arrived.
    """
    suffix, crs = path.suffix.lower(), footprints.crs
    if suffix == ".pmtiles" and not footprints.announced:
        pmtiles.write_empty(path, layer, in_json(provenance), footprints.schema.names)
        _check_tiles(path, layer, sum(map(len, footprints.tables())))
        return
    authority = crs.to_authority()
    with warnings.catch_warnings():
        # Tiles of a wide view hold the largest footprints only, as they must.
        warnings.filterwarnings("ignore", "At least one tile exceeded", RuntimeWarning)
        pyogrio.write_arrow(
            _renamed(footprints, suffix),
            path,
            layer=f"footprints_{layer}" if suffix == ".gpkg" and layer.lower().startswith(_RESERVED) else layer,
            driver=DRIVERS[suffix],
            geometry_name=GEOMETRY,
            geometry_type="Polygon",
            crs=":".join(authority) if authority else crs.to_wkt(),
            **_options(suffix, layer, provenance),
        )
    if suffix == ".pmtiles":
        _check_tiles(path, layer, footprints.rows)
    elif suffix == ".shp":
        _check_shapefile(path, footprints.rows)
    else:
        _check_whole(path, footprints.rows)


def shapefile_names(names: Sequence[str]) -> dict[str, str]:
    """Shorten the names of columns to what a shapefile takes.

    Args:
        names: The columns.

    Returns:
        For each its name of ten characters at most, no two of them the same.
    """
    return _distinct({name: SHAPEFILE_NAMES.get(name, name[:_LONGEST_NAME]) for name in names}, _LONGEST_NAME)


def _distinct(wanted: Mapping[str, str], longest: int) -> dict[str, str]:
    """Give each column the name that is wanted for it, but that none is another's in capitals, or the row's number."""
    given: dict[str, str] = {}
    taken = {"fid"}
    for name, first in wanted.items():
        new, number = first, 1
        while new.lower() in taken:
            number += 1
            new = f"{name[: longest - 1 - len(str(number))]}_{number}"
        taken.add(new.lower())
        given[name] = new
    return given


def _renamed(footprints: ArrowFootprints, suffix: str) -> pyarrow.RecordBatchReader:
    own = [name for name in footprints.schema.names if name != GEOMETRY]
    names = shapefile_names(own) if suffix == ".shp" else _distinct({name: name for name in own}, sys.maxsize)
    schema = pyarrow.schema([field.with_name(names.get(field.name, GEOMETRY)) for field in footprints.schema])
    batches = (pyarrow.record_batch(batch.columns, schema=schema) for batch in footprints.reader())
    return pyarrow.RecordBatchReader.from_batches(schema, batches)


def _options(suffix: str, layer: str, provenance: Mapping[str, str]) -> dict[str, dict[str, str] | str]:
    if suffix == ".shp":
        return {"layer_options": {"2GB_LIMIT": "YES"}, "encoding": "UTF-8"}
    if suffix == ".pmtiles":
        options = {"NAME": layer, "DESCRIPTION": in_json(provenance), "TYPE": "overlay"}
        options |= {"MINZOOM": str(pmtiles.MIN_ZOOM), "MAXZOOM": str(pmtiles.MAX_ZOOM)}
        return {"dataset_options": options}
    return {"layer_metadata": dict(provenance)}


def _check_whole(path: Path, count: int) -> None:
    # GDAL says nothing when a full disk cuts off what it flushes last.
    with pyogrio.open_arrow(path, columns=[], use_pyarrow=True) as (_, batches):
        found = sum(batch.num_rows for batch in batches)
    if found != count:
        raise DataLayerError(f"only {found} of {count} footprints arrived")


def _check_shapefile(path: Path, count: int) -> None:
    # Read through GDAL, a shape that is cut short is a missing one, and attributes that are, empty ones.
    for suffix in (".shp", ".shx"):
        with path.with_suffix(suffix).open("rb") as file:
            (words,) = struct.unpack(">24xi", file.read(28))
        if path.with_suffix(suffix).stat().st_size != 2 * words:
            raise DataLayerError(f"{suffix} has not arrived whole")
    with path.with_suffix(".dbf").open("rb") as file:
        found, head, record = struct.unpack("<4xiHH", file.read(12))
    if found != count or not record or path.with_suffix(".dbf").stat().st_size < head + count * record:
        raise DataLayerError(f"attributes of not all {count} footprints arrived")


def _check_tiles(path: Path, layer: str, count: int) -> None:
    pmtiles.check_end(path)
    found = pmtiles.count_of(path)
    if count and not found:
        raise DataLayerError(f"none of {count} footprints arrived")
    if found < count:
        _log.warning(
            "%s: %d of %d footprints are too small or too dense to be in its tiles", layer, count - found, count
        )
