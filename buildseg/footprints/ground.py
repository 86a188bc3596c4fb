"""Brings polygons from pixels to the ground."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyproj
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyproj.exceptions import CRSError, ProjError
from rasterio.io import DatasetReader

from buildseg.footprints.measures import WGS84, azimuths, transformer
from tiling.errors import OptionError, ProbabilityError, SceneError
from tiling.georeference import ground_sample_distance

_DECIMALS = 7
# No CRS for maps stretches that much; one that ends at 180 degrees tears polygons that cross it.
_TORN = 100


@dataclass(frozen=True, slots=True)
class Ground:
    """Where a raster's pixels lie.

    Attributes:
        gsd: Metres per pixel along a row and along a column, at the raster's centre.
        transform: From pixel coordinates to the raster's CRS.
        source: The raster's CRS.
        target: The CRS of the footprints.
    """

    gsd: tuple[float, float]
    transform: Affine
    source: pyproj.CRS
    target: pyproj.CRS

    def measure(self, polygons: NDArray[np.object_]) -> NDArray[np.object_]:
        """Bring polygons to metres.

        Args:
            polygons: In pixel coordinates, shape (n,).

        Returns:
            As many polygons, in pixel coordinates times `gsd`.
        """
        metric: NDArray[np.object_] = shapely.transform(polygons, lambda points: points * self.gsd)
        return metric

    def _cut(self, polygons: NDArray[np.object_]) -> NDArray[np.object_]:
        """Bring polygons that cross 180 degrees of longitude from the raster's CRS to a target that ends there."""
        to_degrees, to_target = transformer(self.source, WGS84), transformer(WGS84, self.target)
        degrees = shapely.transform(polygons, lambda points: np.column_stack(to_degrees.transform(*points.T)))
        cut: NDArray[np.object_] = shapely.transform(
            cut_at_antimeridian(degrees), lambda points: np.column_stack(to_target.transform(*points.T))
        )
        return cut

    def orientations(self, metric: NDArray[np.object_]) -> NDArray[np.float64]:
        """Give the directions of polygons: that of the longer side of the smallest rectangle around each.

        Args:
            metric: From `measure`, shape (n,).

        Returns:
            Degrees clockwise from true north, 0 up to 180, shape (n,).
        """
        corners = shapely.get_coordinates(shapely.get_exterior_ring(shapely.oriented_envelope(metric)))
        corners = corners.reshape(-1, 5, 2)
        sides = np.linalg.norm(corners[:, 1:3] - corners[:, :2], axis=2)
        longer = sides.argmax(axis=1)
        ends = corners[np.arange(len(corners))[:, None], longer[:, None] + (0, 1)]
        to_source = self.transform @ Affine.scale(1 / self.gsd[0], 1 / self.gsd[1])
        start, end = (np.column_stack(to_source @ tuple(point.T)) for point in (ends[:, 0], ends[:, 1]))
        return azimuths(start, end, self.source)

    def place(self, metric: NDArray[np.object_]) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
        """Bring polygons to the target CRS.

        Geographic coordinates are rounded to 1e-7 degrees, a centimetre, and polygons cut at the antimeridian, where
        the target ends there. Both can part a polygon in two or leave nothing of it.

        Args:
            metric: From `measure`, shape (n,).

        Returns:
            Valid polygons in the target CRS, and for each the index of the one it comes from.

        Raises:
            OptionError: The raster reaches out of the target CRS.
        """
        to_source = self.transform @ Affine.scale(1 / self.gsd[0], 1 / self.gsd[1])
        to_target = transformer(self.source, self.target)
        there = shapely.transform(metric, lambda points: np.column_stack(to_source @ tuple(points.T)))
        placed = shapely.transform(there, lambda points: np.column_stack(to_target.transform(*points.T)))
        if not np.isfinite(shapely.get_coordinates(placed)).all():
            raise OptionError(f"--crs: the raster reaches out of the area of {self.target.name}; choose another CRS")
        if self.target.is_geographic:
            placed = snap(cut_at_antimeridian(placed))
        elif self.target != self.source:
            torn = _widths(placed) > _TORN * _widths(metric)
            placed[torn] = self._cut(there[torn])
        broken = ~shapely.is_valid(placed)
        placed[broken] = shapely.make_valid(placed[broken], method="structure")
        parts, origin = shapely.get_parts(placed, return_index=True)
        whole = (shapely.get_type_id(parts) == shapely.GeometryType.POLYGON) & ~shapely.is_empty(parts)
        return parts[whole], origin[whole]


def _widths(polygons: NDArray[np.object_]) -> NDArray[np.float64]:
    bounds = shapely.bounds(polygons)
    return np.asarray(bounds[:, 2] - bounds[:, 0])


def find_ground(path: Path, dataset: DatasetReader, crs: str) -> Ground:
    """Find out where a raster lies.

    Args:
        path: The raster's path, for messages.
        dataset: The raster, open.
        crs: "wgs84", "native" or "EPSG:n".

    Returns:
        Its place and the way to the CRS asked for.

    Raises:
        ProbabilityError: The raster's CRS does not relate to the earth.
        OptionError: There is no way to the CRS asked for.
    """
    try:
        source = pyproj.CRS.from_user_input(dataset.crs)
        _check_on_earth(source, dataset.transform @ (dataset.width / 2, dataset.height / 2))
        gsd = ground_sample_distance(dataset.crs, dataset.transform, dataset.width, dataset.height)
    except (SceneError, CRSError, ProjError) as error:
        raise ProbabilityError(
            f"{path} cannot be placed on earth ({error}); assign the right CRS, e.g. with gdal_edit -a_srs"
        ) from error
    target = chosen_crs(crs, source)
    try:
        transformer(source, target)
    except ProjError as error:
        raise OptionError(f"--crs {crs}: {path} cannot be brought to it ({error}); choose another CRS") from error
    return Ground(gsd, dataset.transform, source, target)


def chosen_crs(name: str, native: pyproj.CRS) -> pyproj.CRS:
    """Give the CRS that a checked name stands for: "wgs84", "native" or "EPSG:n"."""
    return native if name == "native" else pyproj.CRS.from_user_input("EPSG:4326" if name == "wgs84" else name)


def check_crs(name: str) -> None:
    """Refuse the name of a CRS that there is none of, or none for maps.

    Args:
        name: "wgs84", "native" or "EPSG:n".

    Raises:
        OptionError: It is something else.
    """
    if name in {"wgs84", "native"}:
        return
    remedy = "give wgs84, native or a code like EPSG:32632"
    if not re.fullmatch(r"EPSG:\d+", name, re.IGNORECASE):
        raise OptionError(f"--crs {name} is no CRS; {remedy}")
    try:
        crs = pyproj.CRS.from_user_input(name)
    except pyproj.exceptions.CRSError as error:
        raise OptionError(f"--crs {name} is not known to PROJ; {remedy}") from error
    if not (crs.is_geographic or crs.is_projected):
        raise OptionError(f"--crs {name} ({crs.name}) is no CRS for maps; {remedy}")


def _check_on_earth(crs: pyproj.CRS, point: tuple[float, float]) -> None:
    lon, lat = transformer(crs, WGS84).transform(*point)
    if not (abs(lon) <= 360 and abs(lat) <= 90):
        raise SceneError(f"its centre would be at longitude {lon:g}, latitude {lat:g}")


def snap(polygons: NDArray[np.object_]) -> NDArray[np.object_]:
    """Round coordinates in degrees to seven decimals and keep the geometries valid.

    Args:
        polygons: In degrees, shape (n,).

    Returns:
        Polygons, multipolygons or empty ones, shape (n,).
    """
    rounded: NDArray[np.object_] = shapely.transform(polygons, lambda points: points.round(_DECIMALS))
    broken = ~shapely.is_valid(rounded)
    rounded[broken] = shapely.set_precision(polygons[broken], 10.0**-_DECIMALS)
    return rounded


def cut_at_antimeridian(polygons: NDArray[np.object_]) -> NDArray[np.object_]:
    """Cut polygons that cross 180 degrees of longitude, as RFC 7946 section 3.1.9 asks.

    Args:
        polygons: Longitude and latitude, shape (n,).

    Returns:
        Polygons, or multipolygons where one was cut, with longitudes from -180 to 180.
    """
    west, _, east, _ = shapely.bounds(polygons).T
    crossing = (east - west > 180) | (east > 180) | (west < -180)
    if not crossing.any():
        return polygons
    round_earth = shapely.transform(polygons[crossing], _eastward)
    near = shapely.intersection(round_earth, shapely.box(0, -90, 180, 90))
    far = shapely.intersection(round_earth, shapely.box(180, -90, 360, 90))
    cut = polygons.copy()
    cut[crossing] = shapely.union(near, shapely.transform(far, lambda points: points - (360, 0)))
    return cut


def _eastward(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.column_stack([points[:, 0] % 360, points[:, 1]])
