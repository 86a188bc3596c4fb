"""Draw the sample scene and its labels: `python sample_data/make_sample.py [--out FOLDER]`.

The scene is our own drawing from one seed. It is a sample to try the commands on, not a benchmark.
"""

import argparse
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.enums import Resampling
from shapely.affinity import affine_transform
from shapely.geometry import Point, Polygon, box
from shapely.geometry.base import BaseGeometry

from blocks import fill
from canvas import GSD, SIZE, Box, Canvas
from ground import MATERIALS, Street, Tree, draw_car, draw_field, draw_hedge, draw_lake, draw_streets, draw_tree
from plan import Bend, lay_out
from roofs import Building, draw_building
from town import Town

SEED = 20
CRS = "EPSG:32632"
LEFT, TOP = 401_280.0, 5_318_640.0
FRAME = box(0, 0, SIZE * GSD, SIZE * GSD)
LAKE = (-262.0, 190.0, 105.0, 62.0)


def plan_town(rng: np.random.Generator) -> tuple[Town, list[Street], Polygon]:
    """Lay out streets, blocks and lake, and keep what does not stand in the way of something else."""
    bend = Bend()
    town = Town(rng, bend)
    blocks, streets = lay_out(rng, bend)
    for block in blocks:
        fill(town, block)
    lake = _lake(rng, bend)
    roads = shapely.union_all([street.line.buffer(street.width / 2 + 0.8) for street in streets])
    town.buildings = [building for building in town.buildings if _stands(building.outline(), roads)]
    roofs = shapely.union_all([building.outline() for building in town.buildings])
    town.cars += _parked(rng, streets)
    town.cars = [car for car in town.cars if roofs.distance(car.polygon()) > 0.4]
    avenue = [tree for tree in _avenues(rng, streets) if roads.distance(Point(tree.x, tree.y)) > 0.8]
    town.trees = _growing(town.trees, roads.union(lake)) + avenue
    town.trees = _growing(town.trees, roofs)
    return town, streets, lake


def _stands(outline: Polygon, roads: BaseGeometry) -> bool:
    """Whether a building is clear of the roads and a piece of it worth drawing is in the scene."""
    return bool(outline.distance(roads) > 0.3 and outline.intersection(FRAME).area > 4)


def _growing(trees: list[Tree], blocked: BaseGeometry) -> list[Tree]:
    """The trees whose crowns hang over `blocked` by a quarter of their radius at most."""
    gaps = shapely.distance(shapely.points([(tree.x, tree.y) for tree in trees]), blocked)
    return [tree for tree, gap in zip(trees, gaps, strict=True) if gap > 0.75 * tree.radius]


def _lake(rng: np.random.Generator, bend: Bend) -> Polygon:
    """A rounded shape with bays, closed and smooth."""
    u, v, long, short = LAKE
    bearings = np.linspace(0, 2 * np.pi, 240, endpoint=False)
    waves = [0.22 / k**0.8 * np.sin(k * bearings + rng.uniform(0, 6.3)) for k in (2, 3, 5, 8, 13)]
    reach = 1 + np.sum(waves, axis=0)
    along, across = u + long * reach * np.cos(bearings), v + short * reach * np.sin(bearings)
    return Polygon([bend.point(float(a), float(b)) for a, b in zip(along, across, strict=True)]).buffer(0)


def _avenues(rng: np.random.Generator, streets: list[Street]) -> list[Tree]:
    """Trees in line along one or both sides of the main streets, with gaps."""
    trees = []
    for street in streets:
        if street.kind == "main":
            for side in (-1, 1):
                row = street.line.offset_curve(side * (street.width / 2 + 2.6))
                for start in np.arange(5, row.length, 11.0):
                    if rng.random() < 0.6:
                        place = row.interpolate(start + rng.uniform(-1, 1))
                        trees.append(Tree(place.x, place.y, rng.uniform(1.4, 2.6)))
    return trees


def _parked(rng: np.random.Generator, streets: list[Street]) -> list[Box]:
    """Cars along the kerbs of lanes, and a few driving on the main streets."""
    cars = []
    for street in streets:
        if street.kind == "track":
            continue
        spacing, share = (6.2, 0.2) if street.kind == "lane" else (14.0, 0.22)
        for start in np.arange(9, street.line.length - 9, spacing):
            if rng.random() < share:
                side = rng.choice([-1, 1])
                near, far = (street.line.interpolate(start + step) for step in (0, 1))
                angle = np.arctan2(far.y - near.y, far.x - near.x)
                away = side * (street.width / 2 - (1.0 if street.kind == "lane" else 2.4))
                size = (rng.uniform(3.9, 4.8), 1.8)
                cars.append(Box(near.x - away * np.sin(angle), near.y + away * np.cos(angle), *size, angle))
    return cars


def draw(town: Town, streets: list[Street], lake: Polygon) -> NDArray[np.uint8]:
    """The picture, rows by columns by RGB."""
    rng = town.rng
    canvas = Canvas(rng)
    canvas.paint(FRAME, MATERIALS["rough lawn"])
    for rect, angle in town.fields:
        draw_field(canvas, town.bend.polygon(rect), town.bend.angle(*rect.middle) + angle, rng)
    for cover in town.covers:
        canvas.paint(cover.shape, MATERIALS[cover.material])
    draw_lake(canvas, lake)
    draw_streets(canvas, streets)
    for line, width, rise in town.hedges:
        draw_hedge(canvas, line, width, rise)
    for building in town.buildings:
        draw_building(canvas, building, rng)
    for car in town.cars:
        draw_car(canvas, car, rng)
    for tree in sorted(town.trees, key=lambda tree: tree.radius):
        draw_tree(canvas, tree, rng)
    return canvas.photograph()


def write_scene(picture: NDArray[np.uint8], path: Path) -> None:
    """Write the scene as a tiled JPEG GeoTIFF with overviews."""
    profile = {
        "driver": "GTiff",
        "dtype": "uint8",
        "count": 3,
        "height": SIZE,
        "width": SIZE,
        "crs": CRS,
        "transform": rasterio.Affine(GSD, 0, LEFT, 0, -GSD, TOP),
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "compress": "jpeg",
        "jpeg_quality": 88,
        "photometric": "ycbcr",
    }
    with rasterio.open(path, "w", **profile) as scene:
        scene.write(np.moveaxis(picture, -1, 0))
    with rasterio.Env(JPEG_QUALITY_OVERVIEW=75), rasterio.open(path, "r+") as scene:
        scene.build_overviews([2, 4, 8], Resampling.average)


def write_labels(buildings: list[Building], path: Path) -> None:
    """Write the roofs, cut to the scene, as RFC 7946 GeoJSON; a roof cut in two is two labels."""
    cut = [building.outline().intersection(FRAME) for building in buildings]
    outlines = [affine_transform(outline, (1, 0, 0, -1, LEFT, TOP)) for outline in cut]
    kinds = [building.kind for building in buildings]
    frame = gpd.GeoDataFrame({"kind": kinds}, geometry=outlines, crs=CRS).explode(ignore_index=True)
    frame.insert(0, "id", range(1, len(frame) + 1))
    frame.to_file(path, driver="GeoJSON", RFC7946="YES")


def main() -> None:
    """Make both files in the folder given by --out, by default beside this script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    out: Path = parser.parse_args().out
    town, streets, lake = plan_town(np.random.default_rng(SEED))
    write_scene(draw(town, streets, lake), out / "scene.tif")
    write_labels(town.buildings, out / "labels.geojson")
    print(f"{out / 'scene.tif'}: {len(town.buildings)} buildings")


if __name__ == "__main__":
    main()
