"""Footprint files: the extension chooses the format."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import geopandas
import numpy as np
import shapely
from pyogrio.errors import DataLayerError, DataSourceError

from buildseg.footprints.formats.arrow import GEOMETRY, ArrowFootprints
from buildseg.footprints.formats.gdal import shapefile_names, write_with_gdal
from buildseg.footprints.formats.geojson import is_wgs84, write_geojson, write_lines
from buildseg.footprints.formats.parquet import write_parquet
from buildseg.footprints.formats.provenance import BESIDE, sidecar, write_beside
from buildseg.footprints.ground import snap
from buildseg.footprints.stream import FootprintStream
from buildseg.footprints.style import SUFFIX as STYLE
from buildseg.footprints.style import style_to_write
from tiling.errors import OptionError, OutputError
from tiling.output import written_whole

FORMATS = (".geojson", ".geojsonl", ".gpkg", ".fgb", ".parquet", ".shp", ".pmtiles")
_PARTS_OF_SHAPEFILE = (".shx", ".dbf", ".prj", ".cpg")
_INDEXES_OF_SHAPEFILE = (".qix", ".sbn", ".sbx")
_LONGITUDE_LATITUDE = (".geojsonl", ".pmtiles")
_log = logging.getLogger(__name__)


def check_format(target: Path, crs: str = "wgs84") -> None:
    """Refuse a file name whose extension names no format, or none for a CRS, before any work is done for it.

    Args:
        target: The file to be written.
        crs: "wgs84", "native" or "EPSG:n".

    Raises:
        OptionError: The extension names none, or a format that holds longitude and latitude only.
    """
    suffix = target.suffix.lower()
    if suffix not in FORMATS:
        raise OptionError(f"--out {target}: the extension chooses the format; give one of {', '.join(FORMATS)}")
    if suffix in _LONGITUDE_LATITUDE and crs.lower() not in {"wgs84", "epsg:4326"}:
        _refuse_crs(target, crs)


def files_of(target: Path) -> list[Path]:
    """Name the files that a footprint file consists of, for checks before any work is done."""
    parts = _PARTS_OF_SHAPEFILE if target.suffix.lower() == ".shp" else ()
    return [target, *(target.with_suffix(suffix) for suffix in parts)]


def write_footprints(
    footprints: FootprintStream,
    target: Path,
    *,
    provenance: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> None:
    """Write footprints to a file in the format that its extension names, one of `FORMATS`.

    GeoJSON in WGS84 follows RFC 7946: longitude before latitude, seven decimals at most, outer rings
    counter-clockwise, no ``crs`` member. ``.geojsonl`` holds one feature a line, without the record separators of RFC
    8142, as GDAL, QGIS and tippecanoe all read it. A style for QGIS comes beside the file (see `style_to_write`).

    Args:
        footprints: They may be none.
        target: The file to write.
        provenance: How the footprints came to be, each thing by its name. It goes into the file, or, of a shapefile
            and of ``.geojsonl``, into ``.shp.provenance.json`` or such beside it.
        overwrite: Whether existing files may be replaced.

    Raises:
        OptionError: The extension names no format, or one that cannot hold the CRS.
        OutputError: The target exists, or cannot be written.
    """
    check_format(target)
    suffix, provenance = target.suffix.lower(), provenance or {}
    _check_crs(footprints, target)
    in_degrees = suffix.startswith(".geojson") and is_wgs84(footprints.crs)
    tables = _seven_decimals(footprints) if in_degrees else iter(footprints)
    arrow = ArrowFootprints(tables, footprints.crs, footprints.count)
    style = style_to_write(target, arrow.schema.names, overwrite=overwrite)
    beside = files_of(target)[1:] and (*_PARTS_OF_SHAPEFILE, *_INDEXES_OF_SHAPEFILE)
    beside = (*beside, *((sidecar(target),) if suffix in BESIDE else ()), *((STYLE,) if style else ()))
    with _writable(target, arrow), written_whole(target, overwrite=overwrite, beside=beside) as partial:
        if suffix == ".parquet":
            write_parquet(arrow, partial, provenance)
        elif suffix == ".geojson":
            write_geojson(arrow, partial, target.stem, provenance)
        elif suffix == ".geojsonl":
            write_lines(arrow, partial)
        else:
            write_with_gdal(arrow, partial, target.stem, provenance)
        if suffix in BESIDE:
            write_beside(partial, provenance)
        if style:
            partial.with_suffix(STYLE).write_text(style, encoding="utf-8")
    if suffix == ".shp":
        _tell_limits(target, arrow.schema.names)


def _check_crs(footprints: FootprintStream, target: Path) -> None:
    suffix, crs = target.suffix.lower(), footprints.crs
    if is_wgs84(crs):
        return
    if suffix in _LONGITUDE_LATITUDE:
        _refuse_crs(target, crs.to_string())
    if suffix == ".geojson":
        _warn_of_crs(footprints, target)


def _refuse_crs(target: Path, crs: str) -> None:
    raise OptionError(
        f"--crs {crs}: {target.suffix} holds longitude and latitude only; leave --crs out, or write {target.stem}.gpkg"
    )


def _warn_of_crs(footprints: FootprintStream, target: Path) -> None:
    if footprints.crs.to_authority() is None:
        raise OptionError(f"--crs: GeoJSON cannot name the CRS {footprints.crs.name}; write {target.stem}.gpkg instead")
    _log.warning(
        "%s is in %s, named in a crs member, which RFC 7946 does not know: some programs will misplace it",
        target,
        footprints.crs.to_string(),
    )


def _tell_limits(target: Path, columns: Iterable[str]) -> None:
    names = shapefile_names([name for name in columns if name != GEOMETRY])
    shortened = ", ".join(f"{name} is {short}" for name, short in names.items() if name != short)
    if shortened:
        _log.warning("%s: names in a shapefile have 10 letters, so %s; .gpkg has no such limits", target, shortened)


def _seven_decimals(footprints: FootprintStream) -> Iterator[geopandas.GeoDataFrame]:
    """Round degrees as RFC 7946 asks; as that can part or remove footprints, ids are counted from there on."""
    written, counting = 0, False
    for frame in footprints:
        table = _rounded(frame)
        counting = counting or table is not frame
        if counting and "id" in table:
            table = table.assign(id=np.arange(written + 1, written + len(table) + 1))
        written += len(table)
        yield table


def _rounded(frame: geopandas.GeoDataFrame) -> geopandas.GeoDataFrame:
    points = shapely.get_coordinates(frame.geometry.array)
    if np.array_equal(points, points.round(7)):
        return frame
    parts = frame.set_geometry(snap(frame.geometry.array), crs=frame.crs).explode(ignore_index=True)
    return parts[(parts.geom_type == "Polygon") & ~parts.is_empty]


@contextmanager
def _writable(target: Path, footprints: ArrowFootprints) -> Iterator[None]:
    try:
        yield
    except (DataSourceError, DataLayerError, OSError, RuntimeError) as error:
        if footprints.error is not None:
            raise footprints.error from None
        if isinstance(error, OutputError) or type(error) is RuntimeError:
            raise
        raise OutputError(f"{target} cannot be written ({error}); check the disk, or choose another folder") from error
