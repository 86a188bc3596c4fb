"""Speed and memory of vectorizing: ours against `rasterio.features.shapes` over the same probability raster.

Run: python benchmarks/vectorize.py [--buildings 100000 1000000] [--format gpkg] [--no-peer]

The raster is drawn: turned rectangles of 8 to 16 m with soft, ragged edges at 0.3 m, on a grid of 25 m. Each run is a
process of its own; peaks are what its memory held at most, libraries included. Bars: a million buildings in 10 minutes
and 2 GB, at a cost per building that does not grow.
"""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

import geopandas
import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from predict_peers import peak_memory
from rasterio.features import shapes
from rasterio.windows import Window

from buildseg.footprints import VectorizeOptions, vectorized, write_footprints

CELL, GSD = 84, 0.3
TRANSFORM = rasterio.Affine(GSD, 0, 300_000, 0, -GSD, 5_400_000)
MOST_SECONDS, MOST_BYTES = 600, 2e9


def draw(path: Path, buildings: int) -> None:
    """Write a probability raster with so many buildings."""
    across = round(buildings**0.5)
    down = buildings // across
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "nodata": 255, "crs": "EPSG:32632"}
    tiles = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "zlevel": 1}
    shape = {"width": across * CELL, "height": down * CELL, "transform": TRANSFORM, "bigtiff": "if_safer"}
    random = np.random.default_rng(0)
    with rasterio.open(path, "w", **profile, **tiles, **shape) as dataset:
        dataset.scales = (1 / 254,)
        for row in range(down):
            cells = np.concatenate([_building(random) for _ in range(across)], axis=1)
            dataset.write(cells, 1, window=Window(0, row * CELL, across * CELL, CELL))


def _building(random: np.random.Generator) -> NDArray[np.uint8]:
    rows, cols = np.mgrid[:CELL, :CELL] - CELL / 2 + random.uniform(-3, 3, (2, 1, 1))
    angle, half = random.uniform(0, np.pi), random.uniform(13, 26, 2)
    along = np.abs(cols * np.cos(angle) + rows * np.sin(angle)) - half[0]
    across = np.abs(rows * np.cos(angle) - cols * np.sin(angle)) - half[1]
    return np.clip(127 - 40 * np.maximum(along, across) + random.normal(0, 8, rows.shape), 0, 254).astype(np.uint8)


def ours(raster: Path, out: Path, options: VectorizeOptions) -> tuple[float, int]:
    """Vectorize and write: seconds, footprints."""
    started = time.perf_counter()
    with vectorized(raster, options) as footprints:
        write_footprints(footprints, out, overwrite=True)
        return time.perf_counter() - started, footprints.count


def pixels(raster: Path, out: Path) -> tuple[float, int]:
    """Outline pixels with rasterio, the whole mask in memory, and write: seconds, footprints."""
    started = time.perf_counter()
    with rasterio.open(raster) as dataset:
        values = dataset.read(1)
        mask = ((values >= 127) & (values != 255)).astype(np.uint8)
        found = [shapely.geometry.shape(outline) for outline, _ in shapes(mask, mask > 0, transform=dataset.transform)]
        geopandas.GeoDataFrame(geometry=found, crs=dataset.crs).to_crs("EPSG:4326").to_file(out, engine="pyogrio")
    return time.perf_counter() - started, len(found)


def main() -> None:
    """Print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--buildings", nargs="+", type=int, default=[10_000, 100_000])
    parser.add_argument("--format", default="gpkg")
    parser.add_argument("--no-peer", action="store_true", help="Leave rasterio out.")
    arguments = parser.parse_args()
    print("buildings  system                seconds  ms each  peak GB     found")
    with tempfile.TemporaryDirectory() as folder:
        for buildings in arguments.buildings:
            raster, out = Path(folder, f"{buildings}.tif"), Path(folder, f"out.{arguments.format}")
            draw(raster, buildings)
            systems = {"ours": partial(ours, raster, out, VectorizeOptions())}
            if not arguments.no_peer:
                systems["rasterio"] = partial(pixels, raster, Path(folder, "pixels.gpkg"))
            for name, run in systems.items():
                (seconds, found), peak = peak_memory(run)
                each = 1000 * seconds / buildings
                print(f"{buildings:9}  {name:20} {seconds:8.1f} {each:8.3f} {peak / 1e9:8.2f} {found:9}", flush=True)


if __name__ == "__main__":
    main()
