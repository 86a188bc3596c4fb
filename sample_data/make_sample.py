"""Draw the sample scene and its labels: `python sample_data/make_sample.py [--out FOLDER]`.

The scene is our own drawing from one seed. It is a sample to try the commands on, not a benchmark.
"""

import argparse
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from canvas import GSD, SIZE, Box, Canvas
from ground import MATERIALS, Street, draw_car, draw_field, draw_hedge, draw_lake, draw_streets, draw_tree
from numpy.typing import NDArray
from plan import Bend, lay_out
from plots import Town, fill
from rasterio.enums import Resampling
from roofs import Building, draw_building
from shapely.affinity import affine_transform
from shapely.geometry import Polygon, box

SEED = 20
CRS = "EPSG:32632"
LEFT, TOP = 401_280.0, 5_318_640.0
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
    scene = box(0, 0, SIZE * GSD, SIZE * GSD)
    town.buildings = [
        b
        for b in town.buildings
        if b.outline().distance(roads) > 0.3 and b.outline().intersection(scene).area > 4
    ]
    roofs = shapely.union_all([building.outline() for building in town.buildings])
    town.cars += _parked(rng, streets)
    town.cars = [car for car in town.cars if roofs.distance(car.polygon()) > 0.4]
    blocked = shapely.union_all([roofs, roads, lake])
    places = shapely.points([(tree.x, tree.y) for tree in town.trees])
    gaps = shapely.distance(places, blocked)
    town.trees = [tree for tree, gap in zip(town.trees, gaps, strict=True) if gap > 0.75 * tree.radius]
    return town, streets, lake


def _lake(rng: np.random.Generator, bend: Bend) -> Polygon:
    u, v, long, short = LAKE
    bearings = np.linspace(0, 2 * np.pi, 160, endpoint=False)
    wobble = 1 + sum(0.16 / k * np.sin(k * bearings + rng.uniform(0, 6.3)) for k in (2, 3, 4, 7))
    return Polygon(
        [
            bend.point(u + long * w * np.cos(b), v + short * w * np.sin(b))
            for b, w in zip(bearings, wobble, strict=True)
        ]
    )


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
    canvas.paint(box(-1, -1, SIZE * GSD + 1, SIZE * GSD + 1), MATERIALS["rough lawn"])
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
        "jpeg_quality": 85,
        "photometric": "ycbcr",
    }
    with rasterio.open(path, "w", **profile) as scene:
        scene.write(np.moveaxis(picture, -1, 0))
    with rasterio.Env(JPEG_QUALITY_OVERVIEW=75), rasterio.open(path, "r+") as scene:
        scene.build_overviews([2, 4, 8], Resampling.average)


def write_labels(buildings: list[Building], path: Path) -> None:
    """Write the roofs, cut to the scene, as RFC 7946 GeoJSON."""
    scene = box(0, 0, SIZE * GSD, SIZE * GSD)
    outlines = [
        affine_transform(b.outline().intersection(scene), (1, 0, 0, -1, LEFT, TOP)) for b in buildings
    ]
    frame = gpd.GeoDataFrame(
        {"id": range(1, len(outlines) + 1), "kind": [building.kind for building in buildings]},
        geometry=outlines,
        crs=CRS,
    )
    frame.to_file(path, driver="GeoJSON", RFC7946="YES", COORDINATE_PRECISION=8)


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
