"""Row houses told apart: the share of buildings found one to one, without and with a split of outlines.

    python benchmarks/row_houses.py --out runs/row_houses

Draws scenes of terraces, perimeter blocks and detached houses from a seed, tiles them with boundaries, trains one small
network without and one with the boundary output, and predicts scenes that neither has seen. A building is found one to
one where a part of an outline and it overlap by an IoU above 0.5, which no other part can then; the number of parts
is printed too.

    python benchmarks/row_houses.py --labels buildings.geojson

asks instead what a split makes of real outlines, without a network: probabilities at 0.3 m are drawn from the polygons,
blurred, with noise, and with walls that are seen in part only.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from row_house_scenes import GSD, draw_scene
from scipy.ndimage import gaussian_filter

from buildseg.boundaries import draw_boundaries
from buildseg.footprints.contours import Contours, contour_level, trace
from buildseg.footprints.raster import has_boundary, opened_probability, read_block
from buildseg.footprints.split import Method, SplitOptions, split_outline
from buildseg.labels import read_labels
from buildseg.make_tiles import TileOptions, make_tiles
from buildseg.model_file import load_model
from buildseg.prediction.options import Machine, PredictOptions
from buildseg.prediction.run import Outputs, predict
from buildseg.tiles import Tiles, open_tiles
from buildseg.training.options import NetworkChoice, OptimizerOptions, TrainOptions
from buildseg.training.run import train
from tiling import Block, Chip, rasterize_labels

TRAINED_ON, HELD_OUT = 4, 2
LEAST_AREA = 10 / GSD**2
"""Pixels; smaller outlines are no footprints."""
MACHINE = Machine(device="cpu", precision="fp32")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/row_houses"), help="folder for scenes, tiles and runs")
    parser.add_argument("--labels", type=Path, help="building polygons to split instead")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(f"| {'outlines':<44} | one to one | parts | buildings | ms per outline |\n|{' --- |' * 5}")
    if arguments.labels:
        _on_labels(arguments.labels, arguments.seed)
    else:
        _on_scenes(arguments.out, arguments.epochs, arguments.seed)


def _on_labels(path: Path, seed: int) -> None:
    frame = read_labels(path).frame
    metres = frame.geometry.to_crs(frame.estimate_utm_crs()).to_numpy()
    metres = metres[shapely.area(metres) > 10]
    left, _, _, top = shapely.total_bounds(metres)
    houses = shapely.transform(metres, lambda xy: np.column_stack([xy[:, 0] - left, top - xy[:, 1]]) / GSD)
    samples = drawn_probabilities(houses, np.random.default_rng(seed))
    for method in ("none", "distance", "boundary"):
        _show(f"drawn from {path.name}, {method}", method, [(samples, houses)])


def _on_scenes(out: Path, epochs: int, seed: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    scenes = [draw_scene(out, number, seed) for number in range(TRAINED_ON + HELD_OUT)]
    labels = pd.concat([geopandas.read_file(path.with_suffix(".gpkg")) for path, _ in scenes[:TRAINED_ON]])
    labels.to_file(out / "labels.gpkg")
    paths = [path for path, _ in scenes[:TRAINED_ON]]
    cut = TileOptions(size=128, boundaries=True, seed=seed)
    make_tiles(paths, read_labels(out / "labels.gpkg"), out / "tiles", cut, overwrite=True)
    tiles = open_tiles([out / "tiles"])
    for boundary, methods in ((False, ("none", "distance")), (True, ("none", "boundary"))):
        found = list(_predicted(tiles, out, scenes[TRAINED_ON:], epochs, boundary=boundary))
        for method in methods:
            _show(f"network {'with' if boundary else 'without'} boundaries, {method}", method, found)


def _predicted(
    tiles: Tiles, out: Path, scenes: list[tuple[Path, NDArray[np.object_]]], epochs: int, *, boundary: bool
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.object_]]]:
    """Train a network and predict scenes: their samples in a frame of nodata, and the houses they show."""
    small = {"decoder_channels": [64, 32, 16, 16, 16]}
    choice = NetworkChoice(None, "unet", "tu-resnet10t", "none", small, boundary)
    options = TrainOptions(
        epochs=epochs,
        crop=96,
        window=256,
        workers=0,
        precision="fp32",
        device="cpu",
        optimizer=OptimizerOptions(learning_rate=2e-3),
    )
    started = time.monotonic()
    run = out / ("with" if boundary else "without")
    train(tiles, run, choice, options, overwrite=True)
    model = load_model(run / "last.safetensors")
    print(f"trained in {time.monotonic() - started:.0f} s: {model.card.scores}", flush=True)
    for path, houses in scenes:
        raster = run / f"{path.stem}.tif"
        outputs = Outputs(None, raster, overwrite=True)
        predict(path, outputs, model, PredictOptions(machine=MACHINE))
        with opened_probability(raster) as dataset:
            whole = Block(-1, -1, dataset.height + 2, dataset.width + 2)
            bands = range(1, 3 if has_boundary(dataset) else 2)
            yield np.stack([read_block(dataset, whole, band) for band in bands]), houses


def drawn_probabilities(houses: NDArray[np.object_], random: np.random.Generator) -> NDArray[np.uint8]:
    """Draw what a good network would say of houses.

    Args:
        houses: In pixels, from 0 on.
        random: Makes the noise.

    Returns:
        Samples of building and boundary in a frame of nodata, shape (2, rows + 2, cols + 2).
    """
    _, _, right, bottom = shapely.total_bounds(houses)
    shape, place = (int(bottom) + 2, int(right) + 2), Affine.identity()
    mask = rasterize_labels(houses, shape, place)
    chip = Chip(np.zeros((1, *shape), np.uint8), np.ones(shape, np.bool_), mask, CRS(), place, ("gray",))
    label = draw_boundaries(chip, geopandas.GeoSeries(houses), (GSD, GSD), 0.5)

    def noise(spread: float, strength: float) -> NDArray[np.float64]:
        waves = gaussian_filter(random.normal(0, 1, shape), spread)
        return np.asarray(strength * waves / waves.std())

    building = gaussian_filter((mask > 0).astype(float), 1) + noise(2, 0.06)
    boundary = 0.95 * gaussian_filter(label.astype(float), 1) * np.clip(1 + noise(4, 0.45), 0, 1) + noise(1.5, 0.05)
    stored = (np.stack([building, boundary]).clip(0, 1) * 254).round().astype(np.uint8)
    return np.pad(stored, ((0, 0), (1, 1), (1, 1)), constant_values=255)


def _show(name: str, method: Method, found: list[tuple[NDArray[np.uint8], NDArray[np.object_]]]) -> None:
    """Print a row of the table."""
    options = SplitOptions(method)
    right = parts = buildings = outlines = 0
    seconds = 0.0
    for samples, houses in found:
        contours: Contours = trace(samples[0].copy(), contour_level(0.5), -1, -1)[0]
        polygons = contours.polygons[shapely.area(contours.polygons) > LEAST_AREA]
        boundary = samples[1] if len(samples) > 1 else None
        started = time.process_time()
        split = [split_outline(polygon, samples[0], boundary, (-1, -1), options) for polygon in polygons]
        seconds += time.process_time() - started
        pieces = np.concatenate(split)
        right += one_to_one(houses, pieces)
        parts, buildings, outlines = parts + len(pieces), buildings + len(houses), outlines + len(polygons)
    cost = 1000 * seconds / outlines
    print(f"| {name:<44} | {right / buildings:>10.3f} | {parts:>5} | {buildings:>9} | {cost:>14.2f} |", flush=True)


def one_to_one(houses: NDArray[np.object_], parts: NDArray[np.object_]) -> int:
    """Count the houses that a part overlaps by an IoU above 0.5."""
    house, part = shapely.STRtree(parts).query(houses, predicate="intersects")
    common = shapely.area(shapely.intersection(houses[house], parts[part]))
    union = shapely.area(houses[house]) + shapely.area(parts[part]) - common
    return int(np.count_nonzero(common > 0.5 * union))


if __name__ == "__main__":
    main()
