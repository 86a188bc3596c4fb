"""On which ground two sides are compared."""

import math
from dataclasses import dataclass

import geopandas
import numpy as np
import pyproj
import shapely
from affine import Affine
from numpy.typing import NDArray

from buildseg.area_of_interest import AreaOfInterest
from buildseg.evaluation.counting import Counter, GroundSides, Look, Surface, everything
from buildseg.evaluation.objects import Objects, Side, compare
from buildseg.evaluation.options import EvaluateOptions
from buildseg.evaluation.outlines import Polygons
from buildseg.evaluation.place import MeasuringGrid, areal, local_projection, reproject
from buildseg.evaluation.scores import PixelTallies
from buildseg.footprints.contours import contour_level
from buildseg.footprints.marching import NODATA
from buildseg.footprints.measures import WGS84
from buildseg.labels import pyproj_crs
from buildseg.progress import Track
from tiling import Block, Scene
from tiling.errors import LabelError, OptionError

_MARGIN = 5.0
_FINEST, _COARSEST = 0.25, 1.0
_PIXELS = 400e6
_STEPS = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """The ground, and what is valid of it.

    Attributes:
        grid: The pixels.
        area: What is compared, in metres.
        look: Reads what is valid.
        said: What ground it is, in words.
    """

    grid: MeasuringGrid
    area: shapely.Geometry
    look: Look
    said: str

    def compare(
        self, found: geopandas.GeoDataFrame, truth: geopandas.GeoDataFrame, options: EvaluateOptions, track: Track
    ) -> tuple[PixelTallies, Objects]:
        """Compare both sides; buildings are cut off at the area's edge, and left out where nothing valid lies below.

        Args:
            found: Footprints in any CRS, with ``confidence`` or without.
            truth: True buildings.
            options: How to compare.
            track: Shows how far it is.
        """
        ours, kept = self._clip(_in_metres(found, self.grid.metric, "the prediction"))
        theirs, _ = self._clip(_in_metres(truth, self.grid.metric, "the truth"))
        to_pixels = self.grid.to_pixels
        sides = GroundSides(to_pixels(ours), to_pixels(theirs), to_pixels(self.area))
        distance, level = options.boundary_pixels(self.grid.gsd), contour_level(options.threshold)
        counted = Counter(self.grid, sides, self.look, distance, level).count(track)
        seen, true = counted.found >= 0, counted.truth >= 0
        confidence = found["confidence"].to_numpy(np.float64)[kept][seen] if "confidence" in found else None
        objects = compare(Side(ours[seen], counted.found[seen], confidence), Side(theirs[true], counted.truth[true]))
        return counted.tallies, objects

    def _clip(self, polygons: Polygons) -> tuple[Polygons, NDArray[np.intp]]:
        """Give what of the polygons lies in the area, and their places."""
        shapely.prepare(self.area)
        inside = shapely.contains_properly(self.area, polygons)
        polygons[~inside] = areal(shapely.intersection(polygons[~inside], self.area))
        kept = np.flatnonzero(shapely.area(polygons) > 0)
        return polygons[kept], kept


def setting_of_scene(
    scene: Scene, truth: geopandas.GeoDataFrame, aoi: AreaOfInterest | None, options: EvaluateOptions, *, levels: bool
) -> Setting:
    """Compare on the valid pixels of a raster.

    Args:
        scene: An image, or a probability raster.
        truth: True buildings.
        aoi: What of it is compared; None takes all.
        options: How to compare.
        levels: Whether the raster holds probabilities.

    Raises:
        LabelError: No building touches the raster.
        OptionError: The area of interest does not.
    """
    crs = pyproj.CRS.from_user_input(pyproj_crs(scene.crs))
    corners = np.array([scene.transform @ corner for corner in ((0, 0), (scene.width, scene.height))])
    metric = local_projection(corners, crs)
    gsd = math.sqrt(scene.gsd[0] * scene.gsd[1])
    grid = MeasuringGrid.over(crs, scene.transform, (scene.height, scene.width), gsd, metric, options.block)
    area = grid.to_metres(grid.extent if aoi is None else aoi.on(scene).geometry)
    if area.is_empty:
        raise OptionError(f"--aoi does not touch {scene.path}; check that both name the right CRS")
    if len(truth) and not shapely.intersects(area, _in_metres(truth, metric, "the truth")).any():
        raise LabelError(
            f"{scene.path} lies outside its labels: none of {len(truth)} buildings of the truth touches it, or the "
            "--aoi in it; check that all name the right CRS"
        )

    def look(block: Block) -> Surface:
        pixels, valid = scene.read_region(block.row, block.col, block.rows, block.cols)
        if not levels:
            return Surface(valid)
        stored = pixels[0].astype(np.uint8)
        return Surface(valid & (stored != NODATA), stored)

    return Setting(grid, area, look, f"the valid pixels of {scene.path}{' in --aoi' if aoi else ''}")


def setting_of_vectors(
    found: geopandas.GeoDataFrame, truth: geopandas.GeoDataFrame, aoi: AreaOfInterest | None, options: EvaluateOptions
) -> Setting:
    """Compare on the area of interest, or else within the rectangle around the truth.

    Args:
        found: Footprints.
        truth: True buildings.
        aoi: What is compared; None takes the rectangle, 5 m wider on all sides, or that around the footprints if there
            is no building.
        options: How to compare.

    Raises:
        LabelError: No footprint touches the rectangle.
        OptionError: The area of interest holds nothing.
    """
    around, name = (truth, "the truth") if len(truth) else (found, "the prediction")
    if aoi is not None:
        around, name = geopandas.GeoDataFrame(geometry=[aoi.geometry], crs=aoi.crs), "--aoi"
    metric = local_projection(*_corners(around))
    area = _polygon_of(aoi, metric) if aoi else _rectangle(_in_metres(around, metric, name))
    if aoi is not None and (len(found) or len(truth)) and not _any_in(area, (found, truth), metric):
        raise OptionError(
            f"--aoi holds none of {len(found)} footprints and {len(truth)} buildings; check that all name the right CRS"
        )
    if aoi is None and len(found) and not shapely.intersects(area, _in_metres(found, metric, "the prediction")).any():
        raise LabelError(
            f"none of {len(found)} footprints of the prediction lies where the truth does; check that both name the "
            "right CRS, or say with --aoi where both are to be compared"
        )
    left, bottom, right, top = area.bounds
    gsd = options.gsd or min(_COARSEST, max(_FINEST, math.sqrt((right - left) * (top - bottom) / _PIXELS)))
    shape = (math.ceil((top - bottom) / gsd), math.ceil((right - left) / gsd))
    grid = MeasuringGrid.over(metric, Affine(gsd, 0, left, 0, -gsd, top), shape, gsd, metric, options.block)
    return Setting(grid, area, everything, "--aoi" if aoi else f"the rectangle around {name}")


def _any_in(area: shapely.Geometry, frames: tuple[geopandas.GeoDataFrame, ...], metric: pyproj.CRS) -> bool:
    return any(shapely.intersects(area, _in_metres(frame, metric, "a side")).any() for frame in frames)


def _in_metres(frame: geopandas.GeoDataFrame, metric: pyproj.CRS, name: str) -> Polygons:
    return reproject(np.asarray(frame.geometry.array), frame.crs, metric, name)


def _polygon_of(aoi: AreaOfInterest, metric: pyproj.CRS) -> shapely.Geometry:
    """Bring an area of interest to metres; its edges are followed in small steps, so that long ones stay in place."""
    west, south, east, north = aoi.geometry.bounds
    fine = shapely.segmentize(aoi.geometry, max(east - west, north - south) / _STEPS)
    return reproject(np.array([fine]), pyproj.CRS.from_user_input(aoi.crs), metric, "--aoi")[0]


def _rectangle(polygons: Polygons) -> shapely.Polygon:
    """The ground around polygons, or a square metre if there are none."""
    if not len(polygons):
        return shapely.box(0, 0, 1, 1)
    left, bottom, right, top = shapely.total_bounds(polygons)
    return shapely.box(left - _MARGIN, bottom - _MARGIN, right + _MARGIN, top + _MARGIN)


def _corners(frame: geopandas.GeoDataFrame) -> tuple[NDArray[np.float64], pyproj.CRS]:
    if not len(frame):
        return np.zeros((1, 2)), WGS84
    return shapely.get_coordinates(frame.geometry.array), frame.crs
