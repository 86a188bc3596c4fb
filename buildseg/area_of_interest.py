"""The polygons that a prediction is confined to."""

from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import rasterio.features
import shapely
from numpy.typing import NDArray
from pyproj import Transformer
from pyproj.exceptions import ProjError
from rasterio.transform import Affine

from buildseg.labels import extent, pyproj_crs, read_labels
from tiling import Scene, Window
from tiling.errors import LabelError, OptionError

REACH = 64
_STEPS = 1000
_MARGIN = 0.1


@dataclass(frozen=True, slots=True)
class SceneArea:
    """An area in the pixel coordinates of a scene: x is the column, y the row.

    What it merely borders on, it does not touch. That is decided pixel by pixel, so that it does not depend on the
    rectangle that is asked for. Pixels some way beyond it are needed, too: buildings across its edge get their shape
    before they are cut, so that it is the same on both sides.

    Attributes:
        geometry: What of the area lies in the scene.
        reach: How many rows and columns beyond pixels that it touches are needed.
    """

    geometry: shapely.Geometry
    reach: int = REACH

    @property
    def empty(self) -> bool:
        """Whether the area does not touch the scene."""
        return bool(self.geometry.is_empty)

    def needs(self, window: Window) -> bool:
        """Say whether any pixel of a window is needed."""
        top, left, far = window.row - self.reach, window.col - self.reach, window.size + 2 * self.reach
        return bool(_share_ground(self.geometry, shapely.box(left, top, left + far, top + far)))

    def needed(self, row: int, col: int, rows: int, cols: int) -> NDArray[np.bool_]:
        """Say which pixels of a rectangle are needed.

        Args:
            row: First row.
            col: First column.
            rows: Number of rows.
            cols: Number of columns.

        Returns:
            Shape (rows, cols).
        """
        reach = self.reach
        touched = self._touched(row - reach, col - reach, rows + 2 * reach, cols + 2 * reach)
        inner = touched[reach : reach + rows, reach : reach + cols]
        return _widened(touched, reach) if touched.any() and not inner.all() else inner

    def _touched(self, row: int, col: int, rows: int, cols: int) -> NDArray[np.bool_]:
        """Say which pixels of a rectangle the area touches, shape (rows, cols)."""
        around = shapely.box(col - 2, row - 2, col + cols + 2, row + rows + 2)
        here = _polygons(shapely.intersection(self.geometry, around))
        if here.is_empty:
            return np.zeros((rows, cols), np.bool_)
        touched = _burn(here, row, col, rows, cols)
        outline = _burn(shapely.boundary(here), row - 1, col - 1, rows + 2, cols + 2)
        # How exactly lines are burnt depends on where they are cut, so that pixels along them are looked at one by one.
        down, across = np.nonzero(_widened(outline, 1))
        left, top = across + col, down + row
        # A copy, for what is prepared must not be used by two threads.
        whole = shapely.from_wkb(shapely.to_wkb(self.geometry))
        shapely.prepare(whole)
        touched[down, across] = _share_ground(whole, shapely.box(left, top, left + 1, top + 1))
        return touched


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
            reason = str(error).replace("of the labels", "of the area")
            raise OptionError(f"--aoi: {reason.replace('labels must be building outlines', 'give an area')}") from error
        return cls(shapely.union_all(frame.geometry.array), frame.crs.to_wkt())

    def on(self, scene: Scene) -> SceneArea:
        """Bring the area to a scene.

        Edges are followed in small steps, so that long ones stay where they are in another CRS.

        Raises:
            OptionError: It cannot be brought to the scene's CRS.
        """
        try:
            target = pyproj_crs(scene.crs)
            near = self._near(scene, target)
            west, south, east, north = near.bounds
            fine = shapely.segmentize(near, max(east - west, north - south) / _STEPS or 1)
            there = geopandas.GeoSeries([fine], crs=self.crs).to_crs(target).iloc[0]
        except ProjError as error:
            raise OptionError(
                f"--aoi cannot be brought to the CRS of {scene.path} ({error}); save it in that CRS"
            ) from error
        if not np.isfinite(shapely.get_coordinates(there)).all():
            raise OptionError(
                f"--aoi reaches beyond what the CRS of {scene.path} can show; cut it to the scene's region"
            )
        to_pixels = ~scene.transform
        pixels = shapely.transform(there, lambda points: np.column_stack(to_pixels @ (points[:, 0], points[:, 1])))
        whole = shapely.box(0, 0, scene.width, scene.height)
        return SceneArea(_polygons(shapely.intersection(shapely.make_valid(pixels), whole)))

    def _near(self, scene: Scene, target: str) -> shapely.Geometry:
        """Cut off what lies far from the scene: the steps become finer, and no other CRS shows the whole earth."""
        bounds = Transformer.from_crs(target, self.crs, always_xy=True).transform_bounds(*extent(scene).bounds)
        west, south, east, north = bounds
        if not np.isfinite(bounds).all() or west >= east:  # the scene lies across the 180th meridian
            return self.geometry
        margin = _MARGIN * max(east - west, north - south)
        return shapely.intersection(
            self.geometry, shapely.box(west - margin, south - margin, east + margin, north + margin)
        )


def _widened(pixels: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """Say where a pixel within so many rows and columns is set, without as many of the outermost lines."""
    for _ in range(2):
        counts = np.pad(np.cumsum(pixels, axis=0, dtype=np.int32), ((1, 0), (0, 0)))
        pixels = (counts[2 * reach + 1 :] > counts[: -2 * reach - 1]).T
    return pixels


def _share_ground(area: shapely.Geometry, squares: NDArray[np.object_] | shapely.Geometry) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = shapely.intersects(area, squares) & ~shapely.touches(area, squares)
    return found


def _polygons(geometry: shapely.Geometry) -> shapely.Geometry:
    """Leave out points and lines, which are left where an outline was cut."""
    parts = shapely.get_parts(shapely.get_parts(geometry))
    return shapely.union_all(parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON])


def _burn(geometry: shapely.Geometry, row: int, col: int, rows: int, cols: int) -> NDArray[np.bool_]:
    burnt: NDArray[np.uint8] = rasterio.features.rasterize(
        [geometry], (rows, cols), transform=Affine.translation(col, row), all_touched=True, dtype="uint8"
    )
    return burnt.astype(np.bool_)
