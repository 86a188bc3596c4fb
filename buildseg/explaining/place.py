"""From the point that a person names to a pixel of a scene."""

import math
from dataclasses import dataclass

import pyproj
from pyproj.enums import TransformDirection
from pyproj.exceptions import CRSError, ProjError

from tiling import Scene
from tiling.errors import OptionError


@dataclass(frozen=True, slots=True)
class Place:
    """A point on a scene.

    Attributes:
        x: Easting or longitude; of a pixel its column, the first being 0.
        y: Northing or latitude; of a pixel its row, the first being 0.
        crs: The CRS of x and y, in any form that PROJ knows; None stands for the scene's own.
        pixel: Whether x and y name a pixel of the scene's file instead.

    Raises:
        OptionError: A CRS is given for a pixel, or is unknown.
    """

    x: float
    y: float
    crs: str | None = None
    pixel: bool = False

    def __post_init__(self) -> None:
        if self.crs is None:
            return
        if self.pixel:
            raise OptionError("--pixel counts columns and rows, which have no CRS: leave out --pixel or --at-crs")
        remedy = "give a code like EPSG:4326"
        try:
            crs = pyproj.CRS.from_user_input(self.crs)
        except CRSError as error:
            raise OptionError(f"--at-crs {self.crs} is not known to PROJ; {remedy}") from error
        if not (crs.is_geographic or crs.is_projected):
            raise OptionError(f"--at-crs {self.crs} ({crs.name}) is no CRS for maps; {remedy}")

    def __str__(self) -> str:
        if self.pixel:
            return f"column {self.x:.0f}, row {self.y:.0f}"
        return f"{self.x:.12g},{self.y:.12g}" + (f" ({self.crs})" if self.crs else "")


def find_pixel(scene: Scene, place: Place) -> tuple[int, int]:
    """Find the pixel under a point.

    Args:
        scene: At the resolution it is worked at.
        place: The point.

    Returns:
        Row and column at that resolution.

    Raises:
        OptionError: The point lies outside the scene.
    """
    if place.pixel:
        return _resampled(scene, place)
    own = pyproj.CRS.from_user_input(scene.crs)
    crs = own if place.crs is None else pyproj.CRS.from_user_input(place.crs)
    try:
        to_scene = pyproj.Transformer.from_crs(crs, own, always_xy=True)
    except ProjError as error:
        raise OptionError(f"--at-crs {place.crs}: no way from it to {own.name}; choose another CRS") from error
    point = to_scene.transform(place.x, place.y)
    column, row = ~scene.transform @ point if all(map(math.isfinite, point)) else point
    if not (0 <= row < scene.height and 0 <= column < scene.width):
        raise OptionError(
            f"--at {place} lies outside {scene.path}, which spans {_span(scene, to_scene, crs)} ({crs.name}); "
            "coordinates in another CRS need --at-crs, columns and rows --pixel"
        )
    return math.floor(row), math.floor(column)


def _resampled(scene: Scene, place: Place) -> tuple[int, int]:
    shrunk = [own / now for own, now in zip(scene.native_gsd, scene.gsd, strict=True)]
    width, height = round(scene.width / shrunk[0]), round(scene.height / shrunk[1])
    if not (0 <= place.x < width and 0 <= place.y < height):
        raise OptionError(
            f"--at {place} lies outside {scene.path}, whose columns are 0 to {width - 1} and rows 0 to {height - 1}"
        )
    centre = math.floor(place.x) + 0.5, math.floor(place.y) + 0.5
    return math.floor(centre[1] * shrunk[1]), math.floor(centre[0] * shrunk[0])


def _span(scene: Scene, to_scene: pyproj.Transformer, crs: pyproj.CRS) -> str:
    corners = [scene.transform @ (x, y) for x in (0, scene.width) for y in (0, scene.height)]
    xs, ys = zip(*corners, strict=True)
    bounds = to_scene.transform_bounds(min(xs), min(ys), max(xs), max(ys), direction=TransformDirection.INVERSE)
    decimals, names = (6, ("longitude", "latitude")) if crs.is_geographic else (1, ("X", "Y"))
    left, bottom, right, top = (f"{bound:.{decimals}f}" for bound in bounds)
    return f"{names[0]} {left} to {right} and {names[1]} {bottom} to {top}"
