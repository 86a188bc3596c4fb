"""The other ways to predict a large scene, and the scene and models that all of them are given.

Each of `textbook`, `monai` and `geodeep` takes (scene, model, out), works on the CPU, and returns its seconds, from
opening the scene to the written result. What is done once per model (loading, export, sessions) and imports are not
timed. All take windows of the model's contract, a quarter of which neighbours share.
"""

import importlib.util
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import geopandas as gpd
import numpy as np
import rasterio
import torch
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.features import rasterize, shapes
from rasterio.windows import Window
from shapely import affinity
from shapely.geometry import Polygon, box

from buildseg.contract import Contract
from buildseg.model_file import Model, ModelCard, load_model, save_model
from buildseg.networks import SegmentationNetwork, build_network
from buildseg.networks.output import building_probability
from buildseg.prediction.fitting import fitted_to_bfloat16
from buildseg.training.losses import segmentation_loss
from tiling.grid import Grid

OVERLAP = 0.25
BATCH = 4
THRESHOLD = 0.5
PEERS = ("textbook", "monai", "geodeep")
PLACE = Affine(0.3, 0, 690_000, 0, -0.3, 5_340_000)
CELL = 82  # pixels per building along both axes
ROOFS = np.array([(178, 104, 84), (150, 82, 70), (196, 150, 122), (92, 92, 104), (206, 206, 202), (132, 128, 126.0)])
MEADOW, EARTH, PAVING = (np.array(rgb)[:, None, None] for rgb in ((98, 122, 76), (140, 130, 96), (126, 126, 118)))
CROP, CROPS = 128, 8
STEPS = {"lraspp": 120, "psa-unet": 50}
Result = TypeVar("Result")


def installed(peer: str) -> bool:
    """Whether a peer can be run here; `pip install .[benchmarks]` brings all of them."""
    needed = {"textbook": (), "monai": ("monai",), "geodeep": ("geodeep", "onnx", "onnxscript")}[peer]
    return all(importlib.util.find_spec(name) for name in needed)


def textbook(scene: Path, model: Model, out: Path) -> float:
    """Predict as tutorials do: eager float32, the whole scene's weighted sum and weights, a mask, its pixels' outlines.

    Args:
        scene: A GeoTIFF.
        model: Of one class or more.
        out: GeoJSON to write, in longitude and latitude.

    Returns:
        Seconds.
    """
    network, contract = model.network.eval(), model.card.contract
    started = time.perf_counter()
    with rasterio.open(scene) as dataset:
        grid = Grid(dataset.height, dataset.width, contract.window, int(contract.window * OVERLAP))
        crs, transform = dataset.crs, dataset.transform
        total = np.zeros((dataset.height, dataset.width), np.float32)
        weights = np.zeros_like(total)
        windows = list(grid)
        for first in range(0, len(windows), BATCH):
            batch = windows[first : first + BATCH]
            reads = [dataset.read(window=Window(w.col, w.row, w.size, w.size)) for w in batch]
            with torch.inference_mode():
                scores = building_probability(network(torch.from_numpy(contract.scale(np.stack(reads))))).numpy()
            for window, score in zip(batch, scores, strict=True):
                weight = _hann(window.size)
                place = np.s_[window.row : window.row + window.size, window.col : window.col + window.size]
                total[place] += score * weight
                weights[place] += weight
    mask = (total / weights >= THRESHOLD).astype(np.uint8)
    _write_outlines(mask, crs, transform, out)
    return time.perf_counter() - started


def monai(scene: Path, model: Model, out: Path) -> float:
    """Predict with MONAI's `sliding_window_inference`: eager float32, the whole scene in memory, Gaussian blending.

    Args:
        scene: A GeoTIFF.
        model: Of one class or more.
        out: GeoTIFF of the probability to write, uint8, 0..254, without compression. MONAI makes no polygons.

    Returns:
        Seconds.
    """
    from monai.inferers import sliding_window_inference

    network, contract = model.network.eval(), model.card.contract
    started = time.perf_counter()
    with rasterio.open(scene) as dataset:
        profile = dataset.profile
        pixels = torch.from_numpy(contract.scale(dataset.read()))[None]
    with torch.inference_mode():
        probability = sliding_window_inference(
            pixels,
            roi_size=(contract.window, contract.window),
            sw_batch_size=BATCH,
            predictor=lambda x: building_probability(network(x))[:, None],
            overlap=OVERLAP,
            mode="gaussian",
        )
    levels = (probability[0] * 254).round().to(torch.uint8).numpy()
    profile.pop("photometric", None)
    profile.update(count=1, compress=None, interleave="band")
    with rasterio.open(out, "w", **profile) as dataset:
        dataset.write(levels)
    return time.perf_counter() - started


def geodeep(scene: Path, model: Model, out: Path) -> float:
    """Predict as `geodeep scene.tif model.onnx -t geojson --classes building` does, without making its session.

    Its windows do not blend: each gives its middle. Float32 in ONNX Runtime, one window at a time, on all cores; then
    a median filter and a sieve over the mask of the whole scene, and the outlines of its pixels.

    Args:
        scene: A GeoTIFF of three bands of uint8.
        model: For such a scene.
        out: GeoJSON to write, in longitude and latitude.

    Returns:
        Seconds.
    """
    from geodeep_model import segment

    return segment(scene, model, out, OVERLAP)


def built_share(scene: Path, result: Path) -> float:
    """What share of a scene's pixels a peer calls building.

    Args:
        scene: The scene.
        result: What the peer wrote: GeoJSON polygons, or a GeoTIFF of the probability.
    """
    with rasterio.open(scene) as dataset:
        if result.suffix == ".tif":
            with rasterio.open(result) as probability:
                return float((probability.read(1) >= 254 * THRESHOLD).mean())
        area = gpd.read_file(result).to_crs(dataset.crs).area.sum()
        return float(area / abs(dataset.transform.determinant) / (dataset.width * dataset.height))


def peak_memory(function: Callable[[], Result]) -> tuple[Result, int]:
    """Run a function in a new process.

    Args:
        function: One that can be pickled: of a module, or a `functools.partial` of such.

    Returns:
        What it returned, and the most memory that its process held at any time, in bytes; imports count.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_with_peak, function).result()


def _with_peak(function: Callable[[], Result]) -> tuple[Result, int]:
    result = function()
    # Not getrusage: its ru_maxrss starts from the peak of the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return result, 1024 * int(status.split("VmHWM:", 1)[1].split()[0])


def drawn_scene(path: Path, side: int, seed: int) -> None:
    """Draw a town into a GeoTIFF: RGB of uint8, deflate in tiles of 512, 0.3 m in EPSG:32632.

    Args:
        path: The file to write.
        side: Rows and columns. 8192 hold about 10,000 buildings: rectangles under gable roofs, turned at will, on
            meadow, earth and paving.
        seed: The same for the same scene.
    """
    tiles = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "photometric": "rgb"}
    shape = {"count": 3, "height": side, "width": side, "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32632", transform=PLACE, **shape, **tiles) as dataset:
        for row, pixels, _ in draw(side, seed):
            dataset.write(pixels, window=Window(0, row, side, pixels.shape[1]))


def draw(side: int, seed: int) -> Iterator[tuple[int, NDArray[np.uint8], NDArray[np.bool_]]]:
    """Draw what `drawn_scene` writes.

    Yields:
        By bands of at most 512 rows: the first row, RGB of shape (3, rows, side), and where buildings stand.
    """
    random = np.random.default_rng(seed)
    halves = _roof_halves(side, random)
    colours = ROOFS[random.integers(len(ROOFS), size=len(halves) // 2)].repeat(2, axis=0)
    colours[::2] *= 0.8  # the side away from the sun
    patches = {cell: random.standard_normal((2, side // cell + 2, side // cell + 2)) for cell in (16, 128)}
    for row in range(0, side, 512):
        rows = min(512, side - row)
        paved, dry = (sum(_smooth(p[i], cell, row, (rows, side)) for cell, p in patches.items()) for i in (0, 1))
        picture = np.where(paved > 0.9, PAVING, np.where(dry > 0.3, EARTH, MEADOW)).astype(np.float32)
        number = np.zeros((rows, side), np.int32)
        near = [(half, i + 1) for i, half in enumerate(halves) if half.bounds[1] < row + rows and half.bounds[3] > row]
        if near:
            rasterize(near, out=number, transform=Affine.translation(0, row))
        picture = np.where(number > 0, colours[number - 1].transpose(2, 0, 1), picture)
        picture += 6 * random.standard_normal((rows, side)) + 3 * random.standard_normal((3, rows, side))
        yield row, picture.clip(1, 255).astype(np.uint8), number > 0


def trained_model(network: str, encoder: str | None, folder: Path) -> Model:
    """Train a network on drawn towns for about a minute, or take it from the folder where an earlier call left it.

    Args:
        network: Its name; STEPS says how long it learns.
        encoder: Its encoder; None for its own.
        folder: Where models are kept.

    Returns:
        The model; the score `iou` is that on another drawn town.
    """
    path = folder / f"{network}-{encoder or 'default'}.safetensors"
    if not path.exists():
        torch.manual_seed(0)
        net = build_network(network, encoder=encoder).to(memory_format=torch.channels_last)
        contract = Contract(("red", "green", "blue"), "uint8", (127.0,) * 3, (45.0,) * 3, 0.3, 512)
        _train(net, contract, STEPS[network])
        pixels, truth = _town(768, seed=2)
        with torch.inference_mode():
            found = building_probability(net.eval()(torch.from_numpy(contract.scale(pixels[None]))))[0].numpy()
        scores = {"iou": float((truth & (found >= 0.5)).sum() / (truth | (found >= 0.5)).sum())}
        card = ModelCard(asdict(net.architecture), contract, scores=scores)
        save_model(path, fitted_to_bfloat16(net, contract), card)
    return load_model(path)


def _train(net: SegmentationNetwork, contract: Contract, steps: int) -> None:
    pixels, truth = _town(1536, seed=1)
    random = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in range(steps):
        corners = random.integers(0, 1536 - CROP, size=(CROPS, 2))
        places = [np.s_[..., row : row + CROP, col : col + CROP] for row, col in corners]
        images = torch.from_numpy(contract.scale(np.stack([pixels[place] for place in places])))
        target = torch.from_numpy(np.stack([truth[place] for place in places]).astype(np.uint8))
        loss = segmentation_loss(net(images.contiguous(memory_format=torch.channels_last)).logits, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def _town(side: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    _, pixels, built = zip(*draw(side, seed), strict=True)
    return np.concatenate(pixels, axis=1), np.concatenate(built)


def _roof_halves(side: int, random: np.random.Generator) -> list[Polygon]:
    """Two halves of each roof in pixels; no building reaches the next."""
    halves = []
    for y in np.arange(CELL / 2, side, CELL):
        for x in np.arange(CELL / 2, side, CELL):
            length, width = random.uniform(28, 56), random.uniform(22, 40)
            place = [x + random.uniform(-6, 6), y + random.uniform(-6, 6), random.uniform(0, 180)]
            for low, high in ((-width / 2, 0), (0, width / 2)):
                half = affinity.rotate(box(-length / 2, low, length / 2, high), place[2], origin=(0, 0))
                halves.append(affinity.translate(half, *place[:2]))
    return halves


def _smooth(coarse: NDArray[np.float64], cell: int, row: int, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Rows, from one on, of a coarse raster that is stretched to `cell` pixels per value."""
    y, x = (row + np.arange(shape[0])) / cell, np.arange(shape[1]) / cell
    top, left = y.astype(int), x.astype(int)
    lines = coarse[top] + (y - top)[:, None] * (coarse[top + 1] - coarse[top])
    return lines[:, left] + (x - left) * (lines[:, left + 1] - lines[:, left])


def _hann(size: int) -> NDArray[np.float32]:
    profile = np.sin(np.pi * (np.arange(size, dtype=np.float32) + 0.5) / size) ** 2
    return np.outer(profile, profile)


def _write_outlines(mask: NDArray[np.uint8], crs: CRS, transform: Affine, out: Path) -> None:
    outlines = [
        {"type": "Feature", "geometry": geometry, "properties": {}}
        for geometry, _ in shapes(mask, mask=mask > 0, transform=transform)
    ]
    if not outlines:
        out.write_text(json.dumps({"type": "FeatureCollection", "features": []}), encoding="utf-8")
        return
    gpd.GeoDataFrame.from_features(outlines, crs=crs).to_crs("EPSG:4326").to_file(out, driver="GeoJSON")
