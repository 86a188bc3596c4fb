"""Draws scenes of row houses, perimeter blocks and detached houses from a seed, for `row_houses.py`."""

from pathlib import Path

import geopandas
import numpy as np
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import rasterize
from scipy.ndimage import gaussian_filter

GSD = 0.3
SIDE = 768
"""Pixels of a scene along a side."""
PLACE = Affine(GSD, 0, 690000, 0, -GSD, 5340000)
CRS = "EPSG:32632"
_CELL = 192
_FINER = 2
_GROUND = (95, 110, 80)


def draw_scene(folder: Path, number: int, seed: int) -> tuple[Path, NDArray[np.object_]]:
    """Draw a scene and its labels.

    Args:
        folder: Where to; it gets ``sceneN.tif`` and ``sceneN.gpkg``.
        number: Of the scene. Scenes lie beside each other.
        seed: What it is drawn from, with the number.

    Returns:
        The scene, and its houses as polygons in pixels.
    """
    random = np.random.default_rng((seed, number))
    houses, group = _lay_out(random)
    path = folder / f"scene{number}.tif"
    place = PLACE @ Affine.translation(2 * SIDE * number, 0)
    profile = {"driver": "GTiff", "height": SIDE, "width": SIDE, "count": 3, "dtype": "uint8"}
    with rasterio.open(path, "w", crs=CRS, transform=place, photometric="rgb", **profile) as dataset:
        dataset.write(_picture(houses, group, random))
    on_ground = shapely.transform(houses, lambda xy: np.column_stack(place @ (xy[:, 0], xy[:, 1])))
    geopandas.GeoDataFrame(geometry=on_ground, crs=CRS).to_file(path.with_suffix(".gpkg"))
    return path, houses


def _lay_out(random: np.random.Generator) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """A group of houses in every cell, turned at random; for each house the number of its group."""
    houses: list[shapely.Polygon] = []
    sizes: list[int] = []
    for top in range(0, SIDE, _CELL):
        for left in range(0, SIDE, _CELL):
            kind = (_rows, _rows, _perimeter, _detached)[random.integers(4)]
            turned = shapely.affinity.rotate(shapely.MultiPolygon(kind(random)), random.uniform(0, 90), origin=(0, 0))
            moved = shapely.affinity.translate(turned, left + _CELL / 2, top + _CELL / 2)
            houses.extend(moved.geoms)
            sizes.append(len(moved.geoms))
    return np.array(houses, dtype=object), np.repeat(np.arange(len(sizes)), sizes)


def _rows(random: np.random.Generator) -> list[shapely.Polygon]:
    """Two terraces with gardens between them: houses 5 to 8 m wide and 8 to 10 m deep, some facades set back."""
    houses = []
    for top in (-45.0, 15.0):
        left, depth, width = -65.0, random.uniform(8, 10) / GSD, random.uniform(5, 8) / GSD
        while left + width <= 65:
            front = top + random.choice([0, 0, 0, 2])
            houses.append(shapely.box(left, front, left + width, front + depth))
            left += width
    return houses


def _perimeter(random: np.random.Generator) -> list[shapely.Polygon]:
    """Houses around a courtyard, those at the corners of the shape of an L."""
    outer, depth = 62.0, random.uniform(9, 11) / GSD
    inner = outer - depth
    ring = shapely.box(-outer, -outer, outer, outer) - shapely.box(-inner, -inner, inner, inner)
    walls = []
    for quarter in range(4):
        for at in (random.uniform(-18, -14), random.uniform(-2, 2), random.uniform(14, 18)):
            wall = shapely.LineString([(at, -outer - 1), (at, 1 - inner)])
            walls.append(shapely.affinity.rotate(wall, 90 * quarter, origin=(0, 0)))
    faces = shapely.get_parts(shapely.polygonize(shapely.get_parts(shapely.union_all([ring.boundary, *walls]))))
    return list(faces[shapely.contains(ring, shapely.point_on_surface(faces))])


def _detached(random: np.random.Generator) -> list[shapely.Polygon]:
    """Single houses, some of the shape of an L."""
    houses = []
    for col in (-55, 0, 55):
        for row in (-50, 5):
            width, depth = random.uniform(8, 11, 2) / GSD
            house = shapely.box(col - width / 2, row, col + width / 2, row + depth)
            if random.random() < 0.4:
                house -= shapely.box(col, row - 1, col + width, row + depth * 0.45)
            houses.append(house)
    return houses


def _picture(houses: NDArray[np.object_], group: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.uint8]:
    """Roofs of a colour per group that differs a little from house to house, a line along walls, ridges, noise."""
    fine, shape = Affine.scale(1 / _FINER), (SIDE * _FINER, SIDE * _FINER)

    def drawn(shapes: NDArray[np.object_]) -> NDArray[np.int32]:
        numbered = zip(shapes, range(1, len(shapes) + 1), strict=True)
        picture: NDArray[np.int32] = rasterize(numbered, shape, transform=fine, dtype="int32")
        return picture

    base = random.uniform((90, 60, 50), (190, 140, 130), (group.max() + 1, 3))
    roofs = base[group] + random.normal(0, 8, (len(houses), 1)) + random.normal(0, 3, (len(houses), 3))
    ground = _GROUND + 300 * gaussian_filter(random.normal(0, 1, (*shape, 1)), (12, 12, 0))
    house = drawn(houses)
    pixels = np.where(house[..., None] > 0, roofs[house - 1], ground)
    pixels[(drawn(shapely.buffer(shapely.boundary(houses), 0.5)) > 0) & (house > 0)] *= 0.78
    pixels[drawn(_ridges(houses)) > 0] *= 0.92
    pixels = gaussian_filter(pixels, (0.6 * _FINER, 0.6 * _FINER, 0))
    pixels = pixels.reshape(SIDE, _FINER, SIDE, _FINER, 3).mean(axis=(1, 3)) + random.normal(0, 5, (SIDE, SIDE, 3))
    return pixels.clip(1, 255).astype(np.uint8).transpose(2, 0, 1)


def _ridges(houses: NDArray[np.object_]) -> NDArray[np.object_]:
    """A line through the middle of every house, along its longer side or across: as misleading as a wall is telling."""
    boxes = shapely.get_coordinates(shapely.oriented_envelope(houses)).reshape(-1, 5, 2)
    ends = np.stack([boxes[:, 0] + boxes[:, 1], boxes[:, 2] + boxes[:, 3]], axis=1) / 2
    lines = shapely.intersection(shapely.linestrings(ends), houses)
    return np.asarray(lines[~shapely.is_empty(lines)])
