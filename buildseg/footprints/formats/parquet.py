"""GeoParquet 1.1, with the bounding box of every row, so that readers can skip what lies elsewhere."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pyproj
import shapely
from numpy.typing import NDArray

from buildseg.footprints.formats.arrow import GEOMETRY, ArrowFootprints
from buildseg.footprints.formats.provenance import MEMBER, in_json

_BBOX = "bbox"
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_BOX_TYPE = pyarrow.struct([(side, pyarrow.float64()) for side in _SIDES])
_GROUP = 50_000


def write_parquet(footprints: ArrowFootprints, path: Path, provenance: Mapping[str, str]) -> None:
    """Write a GeoParquet file, one row group after the other.

    Args:
        footprints: What to write.
        path: The file.
        provenance: What goes into the key-value metadata, as one JSON object.
    """
    schema = footprints.schema.append(pyarrow.field(_BBOX, _BOX_TYPE))
    west_south, east_north = np.full(2, np.inf), np.full(2, -np.inf)
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for table in _grouped(footprints.tables()):
            bounds = shapely.bounds(shapely.from_wkb(table[GEOMETRY].to_numpy()))
            if len(bounds):
                west_south = np.fmin(west_south, np.nanmin(bounds[:, :2], axis=0))
                east_north = np.fmax(east_north, np.nanmax(bounds[:, 2:], axis=0))
            boxes = pyarrow.StructArray.from_arrays(list(bounds.T), fields=list(_BOX_TYPE))
            writer.write_table(table.append_column(_BBOX, boxes))
        geo = _metadata(footprints.crs, np.concatenate([west_south, east_north]))
        writer.add_key_value_metadata({"geo": json.dumps(geo), MEMBER: in_json(provenance)})


def _grouped(tables: Iterable[pyarrow.Table]) -> Iterator[pyarrow.Table]:
    """Put tables together until they make a row group."""
    held: list[pyarrow.Table] = []
    for table in tables:
        held.append(table)
        if sum(map(len, held)) >= _GROUP:
            yield pyarrow.concat_tables(held)
            held = []
    if held:
        yield pyarrow.concat_tables(held)


def _metadata(crs: pyproj.CRS, bounds: NDArray[np.float64]) -> dict[str, object]:
    column: dict[str, object] = {
        "encoding": "WKB",
        "geometry_types": ["Polygon"],
        "crs": crs.to_json_dict(),
        "covering": {_BBOX: {side: [_BBOX, side] for side in _SIDES}},
    }
    if np.isfinite(bounds).all():
        column["bbox"] = bounds.tolist()
    return {"version": "1.1.0", "primary_column": GEOMETRY, "columns": {GEOMETRY: column}}
