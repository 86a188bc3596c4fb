"""Footprint files, ours and others', read as streams."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pyogrio
import pyproj
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataSourceError
from pyproj.exceptions import CRSError, ProjError

from buildseg.footprints.formats.gdal import SHAPEFILE_NAMES
from buildseg.footprints.ground import cut_at_antimeridian, snap
from buildseg.footprints.measures import WGS84, count_vertices, geodesic_sizes, transformer
from tiling.errors import FootprintsError, OptionError

_ROWS = 10_000
_MOST_LONGITUDE = 540
# Other types of pandas turn whole numbers into floats, and yes and no into text, where some are missing.
_TYPES = {
    pyarrow.bool_(): pd.BooleanDtype(),
    pyarrow.int16(): pd.Int16Dtype(),
    pyarrow.int32(): pd.Int32Dtype(),
    pyarrow.int64(): pd.Int64Dtype(),
}
_LONG_NAMES = {short: name for name, short in SHAPEFILE_NAMES.items()}


class FootprintFile:
    """Footprints in a file of any format that GDAL reads, or GeoParquet. It is a `FootprintStream`.

    Geometries are mended and parted into valid polygons; what is no polygon is left out. ``area_m2`` is measured where
    the file has none. Columns with lists, records or bytes in them are left out.

    Args:
        path: The file.
        crs: What to bring the footprints to; None leaves them in the file's own.

    Raises:
        FootprintsError: The file is missing or unreadable, or has no CRS.
    """

    def __init__(self, path: Path, crs: pyproj.CRS | None = None) -> None:
        self._path = path
        self._count: int | None = None
        if not path.exists():
            raise FootprintsError(f"{path} does not exist; check the path")
        if path.suffix.lower() == ".pmtiles":
            raise FootprintsError(f"{path}: tiles cut buildings in pieces; give the file that they were made from")
        with self._readable(), _opened(path) as (found, _, _):
            self._source = found
        self.crs = crs or self._source

    @property
    def count(self) -> int:
        """Polygons in the file; known once it has been read to its end, which is done for it if need be."""
        if self._count is None:
            self._count = sum(map(len, self))
        return self._count

    def __iter__(self) -> Iterator[geopandas.GeoDataFrame]:
        """Read the file from its start."""
        count, rows = 0, 0
        with self._readable(), _opened(self._path) as (_, geometry, batches):
            for batch in batches:
                table = self._table(pyarrow.Table.from_batches([batch]), geometry)
                count, rows = count + len(table), rows + len(batch)
                yield table
            if not rows:
                yield self._table(batches.schema.empty_table(), geometry)
            elif not count:
                raise FootprintsError(f"none of its {rows} geometries is a polygon; give a file of polygons")
        self._count = count

    def _table(self, table: pyarrow.Table, geometry: str) -> geopandas.GeoDataFrame:
        with np.errstate(invalid="ignore"):  # coordinates that are no numbers are refused with more words
            polygons, origin = self._polygons(shapely.from_wkb(table[geometry].to_numpy()))
        kept = [field.name for field in table.schema if _fits_all(field.type)]
        columns = table.select([name for name in kept if name != geometry])
        frame = columns.to_pandas(types_mapper=_TYPES.get).iloc[origin]
        if self._path.suffix.lower() == ".shp":
            frame = frame.rename(columns=_LONG_NAMES)
        frame = geopandas.GeoDataFrame(frame.reset_index(drop=True), geometry=polygons, crs=self.crs)
        whole = np.array_equal(origin, np.arange(len(table)))
        if not whole or "area_m2" not in frame:
            area, perimeter = geodesic_sizes(polygons, self.crs)
            sizes = {"area_m2": area.round(2), "perimeter_m": perimeter.round(2)}
            measured = sizes | {"vertices": count_vertices(polygons)}
            for name in measured.keys() & {"area_m2", *frame.columns}:
                frame[name] = measured[name]
        return frame

    def _polygons(self, geometry: NDArray[np.object_]) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
        """Bring geometries to valid polygons in the stream's CRS, and say which each comes from."""
        placed = shapely.force_2d(geometry)
        self._check_coordinates(shapely.get_coordinates(placed))
        broken = ~shapely.is_valid(placed) & ~shapely.is_missing(placed)
        placed[broken] = shapely.make_valid(placed[broken])
        if self.crs != self._source:
            way = transformer(self._source, self.crs)
            placed = shapely.transform(placed, lambda points: np.column_stack(way.transform(*points.T)))
            if not np.isfinite(shapely.get_coordinates(placed)).all():
                raise OptionError(f"--crs: {self._path} reaches out of the area of {self.crs.name}; choose another CRS")
            if self.crs.is_geographic:
                placed = snap(cut_at_antimeridian(placed))
        # What was mended may be a collection of collections.
        parts, origin = shapely.get_parts(placed, return_index=True)
        parts, inner = shapely.get_parts(parts, return_index=True)
        whole = (shapely.get_type_id(parts) == shapely.GeometryType.POLYGON) & ~shapely.is_empty(parts)
        return parts[whole], origin[inner][whole]

    def _check_coordinates(self, points: NDArray[np.float64]) -> None:
        if not np.isfinite(points).all():
            raise FootprintsError("some coordinates are no numbers; remove those geometries")
        if not self._source.is_geographic or self._source.axis_info[0].unit_name != "degree":
            return
        beyond = (np.abs(points) > (_MOST_LONGITUDE, 90)).any(axis=1)
        if beyond.any():
            x, y = points[beyond][0]
            raise FootprintsError(
                f"({x:.10g}, {y:.10g}) is no longitude and latitude; assign the right CRS, e.g. with ogr2ogr -a_srs"
            )

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except FootprintsError as error:
            raise FootprintsError(f"{self._path}: {error}") from error
        except (DataSourceError, UnicodeError, CRSError, ProjError, OSError, pyarrow.ArrowException) as error:
            raise FootprintsError(f"{self._path} cannot be read as footprints ({error}); check the file") from error


@contextmanager
def _opened(path: Path) -> Iterator[tuple[pyproj.CRS, str, pyarrow.RecordBatchReader]]:
    """Give a file's CRS, the name of its column of WKB, and its batches."""
    if path.suffix.lower() == ".parquet":
        with pyarrow.parquet.ParquetFile(path) as file:
            crs, geometry, columns = _geo_metadata(file)
            schema = pyarrow.schema([file.schema_arrow.field(name) for name in columns])
            batches = file.iter_batches(_ROWS, columns=columns)
            yield crs, geometry, pyarrow.RecordBatchReader.from_batches(schema, batches)
    elif path.suffix.lower() == ".geojsonl" and not path.stat().st_size:
        schema = pyarrow.schema([("geometry", pyarrow.binary())])
        yield WGS84, "geometry", pyarrow.RecordBatchReader.from_batches(schema, [])
    else:
        layers = layers_of(path)
        if not layers:
            raise FootprintsError("there are no geometries in it; give a file of polygons")
        with pyogrio.open_arrow(path, layer=layers[0], batch_size=_ROWS, use_pyarrow=True) as (about, batches):
            if about["crs"] is None:
                raise FootprintsError("it has no CRS; assign the right one, e.g. with ogr2ogr -a_srs")
            yield pyproj.CRS.from_user_input(about["crs"]), about["geometry_name"] or "wkb_geometry", batches


def layers_of(path: Path) -> list[str]:
    """List a file's layers with geometries, of which the first is read; GeoParquet has none that have names."""
    if path.suffix.lower() == ".parquet" or not path.stat().st_size:
        return []
    return [name for name, kind in pyogrio.list_layers(path) if kind is not None]


def _geo_metadata(file: pyarrow.parquet.ParquetFile) -> tuple[pyproj.CRS, str, list[str]]:
    """Read the CRS, the name of the geometry column and the other columns that can be kept."""
    try:
        geo = json.loads((file.metadata.metadata or {})[b"geo"])
        name = geo["primary_column"]
        column = geo["columns"][name]
    except (KeyError, ValueError) as error:
        raise FootprintsError("it is Parquet without geometries; give a GeoParquet file") from error
    if column["encoding"] != "WKB":
        raise FootprintsError(f"its geometries are encoded as {column['encoding']}; save it again as WKB")
    crs = column.get("crs", "OGC:CRS84")
    if crs is None:
        raise FootprintsError("it has no CRS; assign the right one")
    others = set(geo["columns"]) - {name}
    flat = [field.name for field in file.schema_arrow if field.name == name or _fits_all(field.type)]
    return pyproj.CRS.from_user_input(crs), name, [field for field in flat if field not in others]


def _fits_all(kind: pyarrow.DataType) -> bool:
    """Say whether all formats that we write have a place for a column of a type."""
    return not (pyarrow.types.is_nested(kind) or pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind))
