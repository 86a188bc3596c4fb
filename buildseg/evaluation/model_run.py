"""Compares a model with the masks of validation chips."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import shapely
import torch
from numpy.typing import NDArray

from buildseg.classes import BUILDING, IGNORE
from buildseg.devices import resolve_device
from buildseg.evaluation.calibration import LEVELS
from buildseg.evaluation.chip_gallery import ChipGallery
from buildseg.evaluation.chips import Chips
from buildseg.evaluation.objects import Objects, Side, compare
from buildseg.evaluation.options import EvaluateOptions
from buildseg.evaluation.outlines import Polygons
from buildseg.evaluation.pixels import count_boundary, count_levels, count_pixels
from buildseg.evaluation.result import Evaluation
from buildseg.evaluation.scores import PixelTallies, score
from buildseg.footprints.contours import contour_level, trace
from buildseg.footprints.marching import NODATA
from buildseg.footprints.simplify import simplify
from buildseg.model_file import load_model
from buildseg.probability import encode
from buildseg.progress import Track, silent
from buildseg.tiles import open_tiles
from tiling.errors import TilesError


def evaluate_model(
    model: Path | None, tiles: Sequence[Path], options: EvaluateOptions, *, device: str = "auto", track: Track = silent
) -> Evaluation:
    """Compare a model with the masks of validation chips. Each chip is a block of the bootstrap.

    Args:
        model: Model file; None takes the one that comes along.
        tiles: Tiles folders.
        options: How to compare.
        device: Where the network runs.
        track: Shows the chips that are done.

    Raises:
        ModelFileError: The model file is none.
        TilesError: The tiles are damaged, or not of the model's kind.
    """
    loaded = load_model(model)
    opened = open_tiles(tiles, classes=int(loaded.card.architecture["classes"]))
    contract = loaded.card.contract
    if len(opened.bands) != len(contract.bands) or opened.dtype != contract.dtype:
        raise TilesError(
            f"{tiles[0]} holds {len(opened.bands)} bands of {opened.dtype}, but the model takes "
            f"{len(contract.bands)} of {contract.dtype}; give the tiles that it was trained on, or others of that kind"
        )
    where = resolve_device(device)
    loaded.network.to(where)
    chips = Chips(opened.val, loaded, where)
    tallies, objects = _compare(chips, options, track)
    about = {
        "prediction": str(model) if model else "the model that comes with buildseg",
        "truth": ", ".join(map(str, tiles)),
        "area": f"{len(opened.val)} validation chips",
        "boundary_m": options.boundary,
        "threshold": options.threshold,
    }
    return Evaluation(score(tallies, objects, options.seed), objects, about, ChipGallery(chips, objects, tallies))


def _compare(chips: Chips, options: EvaluateOptions, track: Track) -> tuple[PixelTallies, Objects]:
    number = len(chips.files)
    pixels, boundary = np.zeros((number, 4), np.int64), np.zeros((number, 2), np.int64)
    levels = np.zeros((number, LEVELS + 1, 2), np.int64)
    found, truth = _Buildings(options.min_area), _Buildings(options.min_area)
    level = contour_level(options.threshold)
    for index in track(range(number), "comparing", number):
        probability, target = chips.predict(index)
        valid, true = target != IGNORE, target == BUILDING
        # Not by stored values, which are rounded: the scores are to be those that training logs.
        hit = (probability.numpy() >= options.threshold) & valid
        stored = encode(probability, torch.from_numpy(valid)).numpy()
        gsd = chips.gsd(index, len(target))
        whole = (slice(None), slice(None))
        pixels[index] = count_pixels(true, hit, valid)
        boundary[index] = count_boundary(true, hit, options.boundary_pixels(gsd), whole)
        levels[index] = count_levels(stored, true, valid)
        found.add(stored, level, index, chips)
        truth.add(np.where(valid, true * np.uint8(LEVELS), np.uint8(NODATA)), contour_level(0.5), index, chips)
    ours, confidence = found.side()
    theirs, _ = truth.side()
    return PixelTallies(pixels, boundary, levels), compare(Side(*ours, confidence), Side(*theirs))


class _Buildings:
    """Buildings drawn from chips, one after the other."""

    def __init__(self, min_area: float) -> None:
        self._min_area = min_area
        self._polygons: list[Polygons] = [np.zeros(0, np.object_)]
        self._blocks: list[NDArray[np.intp]] = [np.zeros(0, np.intp)]
        self._confidence: list[NDArray[np.float64]] = [np.zeros(0)]

    def add(self, samples: NDArray[np.uint8], level: float, index: int, chips: Chips) -> None:
        """Draw the contours of a chip, moved by a quarter of a pixel at most: more would eat the corners of masks."""
        contours, _ = trace(np.pad(samples, 1, constant_values=NODATA), level, -1, -1)
        gsd, origin = chips.gsd(index, len(samples)), chips.origin(index)
        metric = simplify(shapely.transform(contours.polygons, lambda points: points * gsd + origin), gsd / 4)
        large = shapely.area(metric) >= self._min_area
        self._polygons.append(metric[large])
        self._blocks.append(np.full(int(large.sum()), index))
        self._confidence.append((contours.total / np.maximum(contours.count, 1) / LEVELS)[large])

    def side(self) -> tuple[tuple[Polygons, NDArray[np.intp]], NDArray[np.float64]]:
        """Give polygons with their chips, and their mean probabilities."""
        return (np.concatenate(self._polygons), np.concatenate(self._blocks)), np.concatenate(self._confidence)
