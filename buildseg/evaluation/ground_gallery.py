"""Pictures of a comparison on the ground."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from buildseg.evaluation.objects import Objects
from buildseg.evaluation.place import MeasuringGrid
from buildseg.evaluation.views import View, cut_view, worst_squares
from buildseg.labels import pyproj_crs
from tiling import Scene

_OVERVIEW = 1400
_PIXELS = 400
_METRES = (40.0, 150.0)
_PLAIN = 100.0


@dataclass(frozen=True, slots=True, eq=False)
class GroundGallery:
    """Shows errors over an image, or on plain ground.

    Attributes:
        objects: Both sides, compared.
        metric: The projection they are in.
        area: What was compared, in metres.
        image: What lies below; None shows the outlines alone.
    """

    objects: Objects
    metric: pyproj.CRS
    area: shapely.Geometry
    image: Path | None = None

    def overview(self) -> View | None:
        """Give a view of everything."""
        if self.image is None:
            return self._plain("everything", shapely.box(*self.area.bounds))
        with Scene(self.image) as scene:
            picture = _viewable(*scene.overview(_OVERVIEW))
            return self._over(scene, "everything", picture, (0, 0, scene.height, scene.width))

    def worst(self, number: int) -> Sequence[View]:
        """Give views of the squares with the most area in error."""
        if self.image is None:
            return [self._plain(_said(area), square) for square, area in worst_squares(self.objects, _PLAIN, number)]
        with Scene(self.image) as scene:
            side = min(max(_PIXELS * math.sqrt(scene.gsd[0] * scene.gsd[1]), _METRES[0]), _METRES[1])
            return [self._square(scene, *each) for each in worst_squares(self.objects, side, number)]

    def _plain(self, title: str, square: shapely.Polygon) -> View:
        left, bottom, right, top = square.bounds
        return View(title, None, (left, right, bottom, top), *cut_view(self.objects, square))

    def _square(self, scene: Scene, square: shapely.Polygon, area: float) -> View:
        left, top, right, bottom = self._grid(scene).to_pixels(square).bounds
        rows, cols = min(math.ceil(bottom - top), scene.height), min(math.ceil(right - left), scene.width)
        row, col = (
            min(max(0, math.floor(first)), whole - part)
            for first, part, whole in ((top, rows, scene.height), (left, cols, scene.width))
        )
        picture = _viewable(*scene.read_region(row, col, rows, cols))
        return self._over(scene, _said(area), picture, (row, col, rows, cols))

    def _over(self, scene: Scene, title: str, picture: NDArray[np.float32], place: tuple[int, int, int, int]) -> View:
        row, col, rows, cols = place
        grid = self._grid(scene)
        square = grid.to_metres(shapely.box(col, row, col + cols, row + rows))
        found, found_kinds, truth, truth_kinds = cut_view(self.objects, square)
        extent = (float(col), float(col + cols), float(row + rows), float(row))
        return View(title, picture, extent, grid.to_pixels(found), found_kinds, grid.to_pixels(truth), truth_kinds)

    def _grid(self, scene: Scene) -> MeasuringGrid:
        crs = pyproj.CRS.from_user_input(pyproj_crs(scene.crs))
        return MeasuringGrid.over(crs, scene.transform, (scene.height, scene.width), scene.gsd[0], self.metric, None)


def _said(area: float) -> str:
    return f"{area:,.0f} m² in error"


def _viewable(pixels: NDArray[np.generic], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Make a picture: 8-bit colours as they are, else the first bands stretched to their 2nd and 98th percentile."""
    shown = (pixels[:3] if len(pixels) >= 3 else pixels[[0, 0, 0]]).astype(np.float32)
    if pixels.dtype == np.uint8 and len(pixels) >= 3:
        shown /= 255
    elif valid.any():
        low, high = np.percentile(shown[:, valid], (2, 98))
        shown = np.clip((shown - low) / max(float(high - low), 1e-6), 0, 1)
    shown[:, ~valid] = 0.5
    return np.ascontiguousarray(shown.transpose(1, 2, 0))
