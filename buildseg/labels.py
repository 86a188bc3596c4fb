"""Building polygons that people bring: read, checked and repaired."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyogrio
import shapely
from pyogrio.errors import DataLayerError, DataSourceError
from pyproj.exceptions import ProjError
from rasterio.crs import CRS

from tiling import Scene
from tiling.errors import LabelError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Building polygons with their CRS.

    Attributes:
        path: The file they come from.
        frame: Valid polygons, at least one.
        layer: Layer of the file, where one was chosen.
        where: Condition on the attributes, where there was one.
    """

    path: Path
    frame: geopandas.GeoDataFrame
    layer: str | None = None
    where: str | None = None

    def around(self, scene: Scene) -> geopandas.GeoSeries:
        """Bring the labels to a scene.

        Args:
            scene: Where they are wanted.

        Returns:
            The polygons that touch the scene, in its CRS.

        Raises:
            LabelError: None does, or they cannot be brought to the scene's CRS.
        """
        try:
            polygons = self.frame.geometry.to_crs(pyproj_crs(scene.crs))
        except ProjError as error:
            raise LabelError(f"{self.path} cannot be brought to the CRS of {scene.path} ({error})") from error
        near = polygons.iloc[np.sort(polygons.sindex.query(extent(scene), predicate="intersects"))]
        if near.empty:
            raise LabelError(
                f"{scene.path} lies outside its labels: none of {len(polygons)} polygons of {self.path} touches it; "
                "check that both name the right CRS, or leave the scene out"
            )
        return near


def extent(scene: Scene) -> shapely.Polygon:
    """Outline a scene in its CRS, rotated ones included."""
    corners = [(0, 0), (scene.width, 0), (scene.width, scene.height), (0, scene.height)]
    return shapely.Polygon([scene.transform @ corner for corner in corners])


def read_labels(
    path: Path,
    layer: str | None = None,
    where: str | None = None,
    *,
    keep: Sequence[str] = (),
    may_be_empty: bool = False,
) -> Labels:
    """Read building polygons from any vector format.

    Broken geometry is repaired and what is no polygon is left out, both said in the log.

    Args:
        path: GeoJSON, GeoPackage, Shapefile, FlatGeobuf, GeoParquet or another format that GDAL reads.
        layer: The layer to read, where the file has several.
        where: Condition on the attributes that tells buildings from other polygons, as in SQL: ``class = 'house'``.
        keep: Attributes that stay with the polygons, where the file has them.
        may_be_empty: Whether a file that holds nothing is labels too, those of ground without buildings.

    Raises:
        LabelError: The file cannot be read, has no CRS, is empty, or holds no polygons.
    """
    frame = _read(path, layer, where, keep)
    kept = [name for name in keep if name in frame.columns]
    geometry = frame.geometry[~(frame.geometry.is_empty | frame.geometry.isna())].force_2d()
    if geometry.empty and may_be_empty:
        return Labels(path, frame.loc[[], [*kept, frame.geometry.name]].set_crs(frame.crs or 4326), layer, where)
    if geometry.empty:
        chosen = f"{path} has nothing where {where}" if where else f"{path} is empty"
        raise LabelError(f"{chosen}; labels must be building outlines as polygons")
    if frame.crs is None:
        raise LabelError(f"{path} has no CRS; assign the right one in QGIS, or with ogr2ogr -a_srs EPSG:4326")
    broken = ~geometry.is_valid
    if broken.any():
        logger.warning("%s: %d of %d geometries were broken and are repaired", path, broken.sum(), len(geometry))
        geometry = geometry.where(~broken, geometry.make_valid(method="structure"))
    parts = geometry.explode(index_parts=False)
    parts = parts[~parts.is_empty]
    polygons = parts[parts.geom_type == "Polygon"]
    if polygons.empty:
        kinds = ", ".join(sorted(set(parts.geom_type)))
        raise LabelError(f"{path} holds no polygons, only {kinds}; labels must be building outlines as polygons")
    if len(polygons) < len(parts):
        logger.warning("%s: %d geometries are no polygons and are left out", path, len(parts) - len(polygons))
    table = geopandas.GeoDataFrame(frame.loc[polygons.index, kept], geometry=polygons.array, crs=frame.crs)
    return Labels(path, table.reset_index(drop=True), layer, where)


def _read(path: Path, layer: str | None, where: str | None, keep: Sequence[str]) -> geopandas.GeoDataFrame:
    if not path.exists():
        raise LabelError(f"{path} does not exist; check the path of the labels")
    try:
        if path.suffix.lower() in {".parquet", ".geoparquet"}:
            if where:
                raise LabelError(f"{path}: --where does not work on GeoParquet; convert it to GeoPackage first")
            return geopandas.read_parquet(path)
        # Some drivers know no attribute to compare if none is to be read.
        columns: list[str] | None = None if where else list(keep)
        frame: Any = pyogrio.read_dataframe(path, layer=_choose_layer(path, layer), columns=columns, where=where)
    except LabelError:
        raise
    except (DataSourceError, DataLayerError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        if where:
            raise LabelError(f"{path} cannot be read where {where} ({reason}); check --where and the file") from error
        raise LabelError(
            f"{path} is not a vector file that can be read; give GeoJSON, GPKG or the like ({reason})"
        ) from error
    if not isinstance(frame, geopandas.GeoDataFrame):
        raise LabelError(f"{path} is a table without geometry; labels must be building outlines as polygons")
    return frame


def _choose_layer(path: Path, wanted: str | None) -> str | None:
    """Find the layer to read; tables without geometry, such as the styles that QGIS saves, are no choice."""
    layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
    if wanted is None and len(layers) <= 1:
        return next(iter(layers), None)
    if wanted not in layers:
        missing = "" if wanted is None else f", but none named {wanted}"
        raise LabelError(
            f"{path} has {len(layers)} layers ({', '.join(layers)}){missing}; choose one of them with --layer"
        )
    return wanted


def pyproj_crs(crs: CRS) -> str:
    """Hand a CRS over by authority code where it has one: the two libraries may bring different PROJ databases."""
    authority = crs.to_authority()
    return ":".join(authority) if authority else crs.to_wkt()
