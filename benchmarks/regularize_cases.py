"""What `benchmarks/regularize.py` measures on: true outlines, and contours of probabilities of the same buildings."""

import math
import tempfile
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.features import rasterize, shapes
from rasterio.windows import Window
from scipy import ndimage

from buildseg.evaluation.outlines import iou
from buildseg.footprints.contours import contour_level, trace
from buildseg.footprints.ground import find_ground
from buildseg.footprints.marching import FULL, NODATA
from buildseg.model_file import load_model
from buildseg.prediction.run import Outputs, predict

GSD = 0.3
_FINE = 5
_BLUR, _NOISE, _GRAIN = 1.0, 0.06, 1.0
_FIELD = 3.0
_EQUATOR = 40075016.685578488


@dataclass(frozen=True, slots=True)
class Case:
    """Contours and what they are contours of.

    Attributes:
        name: What stands in the table.
        contours: As vectorised, in metres, shape (n,).
        groups: Contours of one group share walls, shape (n,).
        truths: The true outline of each contour, shape (n,).
        gsd: Metres per pixel of the probabilities.
    """

    name: str
    contours: NDArray[np.object_]
    groups: NDArray[np.int64]
    truths: NDArray[np.object_]
    gsd: float


def probability(truths: NDArray[np.object_], shape: tuple[int, int], seed: int) -> NDArray[np.uint8]:
    """Make the probability raster that a good network would give for true outlines.

    Each pixel's share of building, blurred by a Gaussian of one pixel, and noise as of neighbouring pixels that err
    alike (standard deviation 0.06, over about a pixel).

    Args:
        truths: Polygons in metres, y downwards from the raster's corner.
        shape: Rows and columns.
        seed: Of the noise.

    Returns:
        Stored values, 0..254.
    """
    rng = np.random.default_rng(seed)
    rows, cols = shape
    fine = rasterize(truths, (rows * _FINE, cols * _FINE), transform=Affine.scale(GSD / _FINE), dtype="uint8")
    share = fine.reshape(rows, _FINE, cols, _FINE).mean(axis=(1, 3), dtype=np.float32)
    noise = ndimage.gaussian_filter(rng.standard_normal(shape, np.float32), _GRAIN)
    blurred = ndimage.gaussian_filter(share, _BLUR) + noise * (_NOISE / noise.std())
    return np.asarray((np.clip(blurred, 0, 1) * FULL).round().astype(np.uint8))


def contours(samples: NDArray[np.uint8], gsd: float | tuple[float, float] = GSD) -> NDArray[np.object_]:
    """Vectorise as `vectorize --simplify 0` does, buildings of 5 m2 and more, in metres."""
    traced, _ = trace(np.pad(samples, 1, constant_values=NODATA), contour_level(0.5), -1, -1)
    polygons: NDArray[np.object_] = shapely.normalize(shapely.transform(traced.polygons, lambda points: points * gsd))
    return polygons[shapely.area(polygons) >= 5]


def row_houses(seed: int) -> Case:
    """Six row houses turned by 23 degrees, their contour cut where the nearest house changes.

    Args:
        seed: Of their widths and of the noise.
    """
    rng = np.random.default_rng(seed)
    walls = np.concatenate([[0], np.cumsum(rng.uniform(4.8, 6.2, 6))])
    houses = shapely.box(walls[:-1], 0, walls[1:], 9)
    angle = math.radians(23)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    houses = shapely.transform(houses, lambda points: points @ turn + rng.uniform(0, 1) + (12, 12))
    samples = probability(houses, (120, 180), seed)
    number = rasterize(zip(houses, range(1, 7), strict=True), samples.shape, transform=Affine.scale(GSD))
    nearest = ndimage.distance_transform_edt(number == 0, return_distances=False, return_indices=True)
    number = number[tuple(nearest)].astype(np.int32)
    cells = [shapely.geometry.shape(cell) for cell, _ in shapes(number, transform=Affine.scale(GSD))]
    whole = shapely.union_all(contours(samples))
    lines = shapely.node(shapely.union_all([whole.boundary, *(shapely.boundary(np.array(cells)))]))
    parts = shapely.get_parts(shapely.polygonize(shapely.get_parts(lines)))
    parts = parts[shapely.within(shapely.point_on_surface(parts), whole)]
    return _paired("(a) six row houses", parts, np.zeros(len(parts), np.int64), houses, GSD)


def label_rasters(folder: Path, side: int) -> Case:
    """The buildings of Austin's masks; what counts as true is the mask's contour thinned by 0.9 pixels.

    That is the least that makes one straight edge of the staircase that a straight wall is in a mask. It leaves small
    cuts at corners, which blunt every method's angles alike.
    """
    parts = []
    for number, path in enumerate(sorted(folder.glob("austin*.tif"))):
        with rasterio.open(path) as dataset:
            mask = dataset.read(1)[:side, :side] > 0
        truths = thinned_mask(mask, GSD)
        traced = contours(probability(truths, mask.shape, number))
        parts.append(_paired("", traced, np.arange(len(traced)), truths, GSD))
    return _together("(b) masks of Austin", parts)


def label_polygons(folder: Path, copies: int) -> Case:
    """Polygons that people drew in Banepa and Kampala, each in a field of its own, turned at random.

    Args:
        folder: Of the data sets.
        copies: How often each is taken.
    """
    drawn = []
    for name in ("banepa", "kampala"):
        table = gpd.read_file(folder / name / "labels.geojson")
        drawn.append(table.to_crs(table.estimate_utm_crs()).geometry.explode().to_numpy())
    polygons = np.concatenate(drawn)
    low, high = shapely.bounds(polygons).reshape(-1, 2, 2).transpose(1, 0, 2)
    right_size = shapely.is_valid(polygons) & (shapely.area(polygons) >= 10) & ((high - low).max(axis=1) < 60)
    polygons = np.tile(polygons[right_size], copies)
    rng = np.random.default_rng(0)
    parts = []
    for first in range(0, len(polygons), 400):
        truths = _laid_out(polygons[first : first + 400], rng)
        side = math.ceil(shapely.total_bounds(truths).max() / GSD) + 10
        traced = contours(probability(truths, (side, side), first))
        parts.append(_paired("", traced, np.arange(len(traced)), truths, GSD))
    return _together("(b) polygons of Banepa and Kampala", parts)


def thinned_mask(mask: NDArray[np.bool_], gsd: float) -> NDArray[np.object_]:
    """True outlines of a mask: its contours thinned by 0.9 pixels, buildings of 10 m2 and more."""
    polygons = shapely.simplify(contours(np.where(mask, FULL, 0).astype(np.uint8), gsd), 0.9 * gsd)
    kept = shapely.is_valid(polygons) & (shapely.area(polygons) >= 10)
    return np.asarray(polygons[kept])


def predictions(folder: Path, side: int, count: int) -> Case:
    """What the shipped model sees in validation images: Banepa with true polygons, Massachusetts with masks of 1 m.

    Args:
        folder: Of the data sets.
        side: Pixels of the scenes of Massachusetts that are looked at, from the corner at 400, 400.
        count: How many of those scenes.
    """
    model = load_model()
    parts = []
    with tempfile.TemporaryDirectory() as scratch:
        scene, raster = Path(scratch) / "scene.tif", Path(scratch) / "probability.tif"
        images = [(_place_banepa, path) for path in sorted((folder / "banepa/val/images").glob("*.tif"))]
        towns = sorted((folder / "massachusetts/val/images").glob("*.tif"))[1:]
        images += [(partial(_place_massachusetts, side=side), path) for path in towns[:count]]
        for place, image in images:
            truths = place(image, scene)
            predict(scene, Outputs(None, raster, overwrite=True), model)
            parts.append(_predicted(raster, truths))
    return _together("(c) predictions", [part for part in parts if len(part.truths)])


def _predicted(raster: Path, truths: NDArray[np.object_]) -> Case:
    """Pair the contours of a probability raster with true outlines in its CRS that lie within it."""
    with rasterio.open(raster) as dataset:
        gsd = find_ground(raster, dataset, "native").gsd
        to_pixels, samples = ~dataset.transform, dataset.read(1)
    metric = shapely.transform(truths, lambda points: np.column_stack(to_pixels @ tuple(points.T)) * gsd)
    inside = shapely.within(metric, shapely.box(1, 1, *(np.array(samples.shape[::-1]) * gsd - 1)))
    traced = contours(samples, gsd)
    return _paired("", traced, np.arange(len(traced)), metric[inside], GSD)


def _place_banepa(image: Path, scene: Path) -> NDArray[np.object_]:
    """Copy an image to its place on earth, which its name says (a tile of web maps), and read its polygons."""
    col, row, zoom = (int(part) for part in image.stem.split("-")[1:])
    size = _EQUATOR / 2**zoom
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(image) as dataset:
            pixels = dataset.read()
    place = Affine.translation(col * size - _EQUATOR / 2, _EQUATOR / 2 - row * size)
    place @= Affine.scale(size / pixels.shape[2], -size / pixels.shape[1])
    profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "crs": "EPSG:3857", "transform": place}
    with rasterio.open(scene, "w", height=pixels.shape[1], width=pixels.shape[2], **profile) as dataset:
        dataset.write(pixels)
    labels = gpd.read_file(image.parents[2] / "labels.geojson").to_crs("EPSG:3857").geometry
    return np.asarray(labels.explode().to_numpy())


def _place_massachusetts(image: Path, scene: Path, side: int) -> NDArray[np.object_]:
    """Copy a square of a scene and outline its mask."""
    window = Window(400, 400, side, side)
    with rasterio.open(image) as dataset:
        pixels, crs, place = dataset.read(window=window), dataset.crs, dataset.window_transform(window)
    with rasterio.open(image.parents[1] / "masks" / image.name) as dataset:
        outlines = thinned_mask(dataset.read(1, window=window) > 0, place.a)
    profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "crs": crs, "transform": place}
    with rasterio.open(scene, "w", height=side, width=side, **profile) as dataset:
        dataset.write(pixels)
    return np.asarray(shapely.transform(outlines, lambda points: np.column_stack(place @ tuple((points / place.a).T))))


def _laid_out(polygons: NDArray[np.object_], rng: np.random.Generator) -> NDArray[np.object_]:
    """Turn polygons and lay them out in rows and columns, some metres apart."""
    angles = rng.uniform(0, 2 * np.pi, len(polygons))
    places = rng.uniform(0, 1, (len(polygons), 2))
    turned = []
    for polygon, angle in zip(polygons, angles, strict=True):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        middle = np.array(polygon.centroid.coords[0])
        turned.append(shapely.transform(polygon, lambda points, m=middle, t=turn: (points - m) @ t))
    bounds = shapely.bounds(np.array(turned))
    step = (bounds[:, 2:] - bounds[:, :2]).max() + 2 * _FIELD
    laid, x, y, row = [], _FIELD, _FIELD, 0.0
    for polygon, (west, north, east, south), place in zip(turned, bounds, places, strict=True):
        if x + east - west > 20 * step / 3:
            x, y, row = _FIELD, y + row + _FIELD, 0.0
        shift = np.array([x - west, y - north]) + place
        laid.append(shapely.transform(polygon, lambda points, s=shift: points + s))
        x, row = x + east - west + _FIELD, max(row, south - north)
    return np.array(laid)


def _paired(
    name: str,
    polygons: NDArray[np.object_],
    groups: NDArray[np.int64],
    truths: NDArray[np.object_],
    gsd: float,
) -> Case:
    """Pair contours with the true outlines that they overlap by more than half; the others count nowhere."""
    contour, truth = shapely.STRtree(truths).query(polygons, predicate="intersects")
    alike = iou(polygons[contour], truths[truth]) > 0.5
    contour, truth = contour[alike], truth[alike]
    return Case(name, polygons[contour], groups[contour], truths[truth], gsd)


def _together(name: str, cases: list[Case]) -> Case:
    """One case of several, side by side."""
    contours_, groups, truths = [], [], []
    east = 0.0
    for case in cases:
        for kept, polygons in ((contours_, case.contours), (truths, case.truths)):
            kept.append(shapely.transform(polygons, lambda points, e=east: points + np.array([e, 0])))
        groups.append(case.groups + (groups[-1].max() + 1 if groups else 0))
        east += shapely.total_bounds(case.truths)[2] + 100
    return Case(name, np.concatenate(contours_), np.concatenate(groups), np.concatenate(truths), cases[0].gsd)
