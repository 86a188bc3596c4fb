"""The polygons that a prediction is confined to."""

from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import rasterio.features
import shapely
from numpy.typing import NDArray
from pyproj.exceptions import ProjError
from rasterio.transform import Affine

from buildseg.labels import read_labels
from tiling import Scene, Window
from tiling.errors import LabelError, OptionError

_STEPS = 50


@dataclass(frozen=True, slots=True)
class SceneArea:
    """An area in the pixel coordinates of a scene: x is the column, y the row.

    Attributes:
        geometry: What of the area lies in the scene.
    """

    geometry: shapely.Geometry

    @property
    def empty(self) -> bool:
        """Whether the area does not touch the scene."""
        return bool(self.geometry.is_empty)

    def touches(self, window: Window) -> bool:
        """Say whether any of the area lies in a window."""
        square = shapely.box(window.col, window.row, window.col + window.size, window.row + window.size)
        return bool(shapely.intersects(self.geometry, square))

    def mask(self, row: int, col: int, rows: int, cols: int) -> NDArray[np.bool_]:
        """Say which pixels of a rectangle the area touches.

        Args:
            row: First row.
            col: First column.
            rows: Number of rows.
            cols: Number of columns.

        Returns:
            Shape (rows, cols).
        """
        here = shapely.intersection(self.geometry, shapely.box(col, row, col + cols, row + rows))
        if here.is_empty:
            return np.zeros((rows, cols), np.bool_)
        inside: NDArray[np.uint8] = rasterio.features.rasterize(
            [here], (rows, cols), transform=Affine.translation(col, row), all_touched=True, dtype="uint8"
        )
        return inside.astype(np.bool_)


@dataclass(frozen=True, slots=True)
class AreaOfInterest:
    """Where to look for buildings.

    Attributes:
        geometry: One or more polygons.
        crs: Their coordinate reference system, as WKT.
    """

    geometry: shapely.Geometry
    crs: str

    @classmethod
    def read(cls, path: Path) -> "AreaOfInterest":
        """Read polygons from any vector format.

        Args:
            path: The file.

        Raises:
            OptionError: It cannot be read, has no CRS, or holds no polygons.
        """
        try:
            frame = read_labels(path).frame
        except LabelError as error:
            raise OptionError(
                f"--aoi: {str(error).replace('labels must be building outlines', 'give an area')}"
            ) from error
        return cls(shapely.union_all(frame.geometry.array), frame.crs.to_wkt())

    def on(self, scene: Scene) -> SceneArea:
        """Bring the area to a scene.

        Edges are followed in small steps, so that long ones stay where they are in another CRS.

        Raises:
            OptionError: It cannot be brought to the scene's CRS.
        """
        west, south, east, north = self.geometry.bounds
        step = max(east - west, north - south) / _STEPS
        fine = geopandas.GeoSeries([shapely.segmentize(self.geometry, step)], crs=self.crs)
        authority = scene.crs.to_authority()
        try:
            there = fine.to_crs(":".join(authority) if authority else scene.crs.to_wkt()).iloc[0]
        except ProjError as error:
            raise OptionError(
                f"--aoi cannot be brought to the CRS of {scene.path} ({error}); save it in that"
            ) from error
        if not np.isfinite(shapely.get_coordinates(there)).all():
            raise OptionError(
                f"--aoi reaches beyond what the CRS of {scene.path} can show; cut it to the scene's region"
            )
        to_pixels = ~scene.transform
        pixels = shapely.transform(there, lambda points: np.column_stack(to_pixels @ (points[:, 0], points[:, 1])))
        geometry = shapely.intersection(shapely.make_valid(pixels), shapely.box(0, 0, scene.width, scene.height))
        areal = [part for part in shapely.get_parts(geometry) if part.geom_type == "Polygon"]
        geometry = shapely.union_all(areal)
        shapely.prepare(geometry)
        return SceneArea(geometry)
