"""Scores a model on the same chips at several ground resolutions, and prints a table.

    python benchmarks/resolutions.py TILES ... --out runs/resolutions [--model MODEL] [--gsd 0.3 0.5 0.75 1]

Of each tiles folder the validation chips that are finer than asked are averaged to coarser pixels; a pixel of their
masks is building where most of it is. Chips that do not say their resolution are taken to be of ``--unknown``.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

from buildseg.chip_file import ChipFile, read_image, read_mask
from buildseg.classes import BUILDING, IGNORE
from buildseg.evaluation.model_run import evaluate_model
from buildseg.evaluation.options import EvaluateOptions
from buildseg.evaluation.result import Evaluation
from buildseg.tiles import open_tiles

COLUMNS = {"iou": "IoU", "f1": "F1", "precision": "precision", "recall": "recall", "object_f1": "F1 of buildings"}


def main() -> None:
    """Make chips coarser, score, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tiles", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True, help="folder for the coarser chips")
    parser.add_argument("--model", type=Path, help="the one that comes along unless said otherwise")
    parser.add_argument("--gsd", type=float, nargs="+", default=[0.3, 0.5, 0.75, 1.0], help="metres per pixel")
    parser.add_argument("--unknown", type=float, default=0.3, help="of chips that do not say")
    arguments = parser.parse_args()
    print(f"| place | metres per pixel | {' | '.join(COLUMNS.values())} |\n|{' --- |' * (2 + len(COLUMNS))}")
    for tiles in arguments.tiles:
        for gsd in arguments.gsd:
            folder = arguments.out / f"{tiles.name}-{gsd:g}"
            if not folder.exists():
                coarser_tiles(tiles, folder, gsd, arguments.unknown)
            result = evaluate_model(arguments.model, [folder], EvaluateOptions())
            print(f"| {tiles.name} | {gsd:g} | {' | '.join(cell(result, key) for key in COLUMNS)} |", flush=True)


def cell(result: Evaluation, key: str) -> str:
    """Write a score, and its interval where it has one."""
    value, bounds = result.scores.values[key], result.scores.intervals.get(key)
    if value is None:
        return ""
    return f"{value:.3f}" + (f" ({bounds[0]:.3f} to {bounds[1]:.3f})" if bounds else "")


def coarser_tiles(source: Path, target: Path, gsd: float, unknown: float) -> None:
    """Write the validation chips of a tiles folder at a coarser resolution, for training too, which tiles need.

    Args:
        source: Tiles folder.
        target: Another, which is made.
        gsd: Metres per pixel; chips that are coarser already stay as they are.
        unknown: Metres per pixel of chips that do not say.
    """
    for chip in open_tiles([source]).val:
        for split in ("train", "val"):
            write_coarser(chip, target / split, gsd, unknown)


def write_coarser(chip: ChipFile, folder: Path, gsd: float, unknown: float) -> None:
    """Write one chip."""
    pixels, valid = read_image(chip.image)
    mask = read_mask(chip.mask, chip.classes)
    known = valid & (mask != IGNORE)
    own = chip.gsd or unknown
    rows, cols = (max(1, round(length * min(1.0, own / gsd))) for length in chip.shape)
    weight = averaged(known.astype(np.float32), rows, cols)
    shares = averaged((known & (mask == BUILDING)).astype(np.float32), rows, cols) / np.maximum(weight, 1e-6)
    bands = np.stack([averaged(np.where(valid, band, 0).astype(np.float32), rows, cols) for band in pixels])
    seen = np.maximum(averaged(valid.astype(np.float32), rows, cols), 1e-6)
    image = np.round(bands / seen).clip(0, 255).astype(pixels.dtype)
    place = {
        "driver": "GTiff",
        "height": rows,
        "width": cols,
        "crs": "EPSG:32632",  # any in metres
        "transform": Affine.translation(500_000, 5_000_000) @ Affine.scale(max(own, gsd), -max(own, gsd)),
    }
    for kind, values in (("images", image), ("masks", np.where(shares > 0.5, 255, 0).astype(np.uint8)[None])):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        path = folder / kind / f"{chip.image.stem}.tif"
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(path, "w", count=len(values), dtype=values.dtype, **place) as file,
        ):
            file.write(values)
            file.write_mask(weight > 0.5)


def averaged(values: NDArray[np.float32], rows: int, cols: int) -> NDArray[np.float32]:
    """Average to fewer pixels."""
    return np.asarray(cv2.resize(values, (cols, rows), interpolation=cv2.INTER_AREA), np.float32)


if __name__ == "__main__":
    main()
