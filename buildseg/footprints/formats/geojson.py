"""GeoJSON and its lines: GEOS writes the coordinates, in a third of the time that GDAL's driver takes."""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import date, time
from pathlib import Path

import pyarrow
import pyarrow.compute
import pyproj
import shapely

from buildseg.footprints.formats.arrow import GEOMETRY, ArrowFootprints
from buildseg.footprints.formats.provenance import MEMBER, in_json
from buildseg.footprints.measures import WGS84

_LONG = re.compile(r"\.\d{9}")
_NUMBER = re.compile(r"\d+\.\d{9,}(?:e-?\d+)?")


def _date_or_text(value: object) -> str:
    return value.isoformat() if isinstance(value, date | time) else str(value)


_in_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_date_or_text).encode


def is_wgs84(crs: pyproj.CRS) -> bool:
    """Say whether coordinates are longitude and latitude as GeoJSON has them."""
    return bool(crs.equals(WGS84, ignore_axis_order=True))


def write_geojson(footprints: ArrowFootprints, path: Path, layer: str, provenance: Mapping[str, str]) -> None:
    """Write a FeatureCollection; each of its features, and of its other members, has a line of its own.

    Args:
        footprints: What to write. A CRS other than WGS84 has a code of an authority, and is named.
        path: The file.
        layer: What GDAL and QGIS call it.
        provenance: What goes into a member of its own.
    """
    members = {"type": _in_json("FeatureCollection"), "name": _in_json(layer)}
    authority = footprints.crs.to_authority()
    if authority and not is_wgs84(footprints.crs):
        name = f"urn:ogc:def:crs:{authority[0]}::{authority[1]}"
        members["crs"] = _in_json({"type": "name", "properties": {"name": name}})
    if provenance:
        members[MEMBER] = in_json(provenance)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write("{\n")
        file.writelines(f'"{name}": {value},\n' for name, value in members.items())
        file.write('"features": [')
        file.writelines(f"{',' if number else ''}\n{feature}" for number, feature in enumerate(_features(footprints)))
        file.write("\n]\n}\n")


def write_lines(footprints: ArrowFootprints, path: Path) -> None:
    """Write a feature into each line.

    Args:
        footprints: What to write, in WGS84.
        path: The file.
    """
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{feature}\n" for feature in _features(footprints))


def _features(footprints: ArrowFootprints) -> Iterator[str]:
    """Give each footprint as a Feature, with outer rings counter-clockwise, as RFC 7946 section 3.1.6 asks."""
    for table in footprints.tables():
        polygons = shapely.orient_polygons(shapely.from_wkb(table[GEOMETRY].to_numpy()))
        columns = {name: _with_json_numbers(table[name]) for name in table.column_names if name != GEOMETRY}
        rows = pyarrow.table(columns).to_pylist()
        for row, geometry in zip(rows, shapely.to_geojson(polygons), strict=True):
            yield f'{{"type":"Feature","properties":{_in_json(row)},"geometry":{_shortened(geometry)}}}'


def _shortened(geometry: str) -> str:
    """Write numbers in as few digits as give them; of a thousand, GEOS writes one or two with all 17."""
    return _NUMBER.sub(lambda number: repr(float(number[0])), geometry) if _LONG.search(geometry) else geometry


def _with_json_numbers(column: pyarrow.ChunkedArray) -> pyarrow.ChunkedArray:
    """Give a column without numbers that JSON has no words for."""
    if not pyarrow.types.is_floating(column.type):
        return column
    return pyarrow.compute.if_else(pyarrow.compute.is_finite(column), column, None)
