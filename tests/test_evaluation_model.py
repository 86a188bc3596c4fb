"""A model on tiles."""

from dataclasses import replace

import numpy as np
import pytest
import rasterio
import torch
from torchmetrics.functional.classification import binary_stat_scores

import buildseg.evaluation.model_run
import scenes
from bright_model import bright_model
from buildseg.classes import BUILDING, IGNORE
from buildseg.evaluation.model_run import evaluate_model
from buildseg.evaluation.options import EvaluateOptions
from buildseg.evaluation.pixels import count_boundary
from buildseg.tiles import open_tiles
from buildseg.training.dataset import WholeChips
from tiling.errors import TilesError

HOUSES = [(slice(10, 30), slice(12, 40)), (slice(50, 80), slice(20, 45)), (slice(40, 55), slice(70, 96))]


@pytest.fixture
def tiles(tmp_path):
    """Nine chips of bright houses at 0.5 m; in some an image is shifted or a house dark, and a strip holds nothing."""
    rng = np.random.default_rng(0)
    for number in range(10):
        folder = tmp_path / "tiles" / ("train" if number == 9 else "val")
        mask, pixels = np.zeros((100, 110), np.uint8), np.full((3, 100, 110), 60, np.uint8)
        for place, house in enumerate(HOUSES):
            mask[house] = 255
            if (number + place) % 4:
                pixels[:, house[0], house[1]] = 180
        pixels = np.roll(pixels, number % 3, axis=2) + rng.integers(0, 9, pixels.shape, np.uint8)
        valid = np.ones(mask.shape, bool)
        valid[:, 104:] = False
        for name in ("images", "masks"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        scenes.internal_mask(folder / "images" / f"{number}.tif", pixels, valid)
        scenes.write(folder / "masks" / f"{number}.tif", mask[None])
    return tmp_path / "tiles"


@pytest.fixture(autouse=True)
def model(monkeypatch):
    bright = bright_model(gsd=0.5)
    card = replace(bright.card, architecture=bright.card.architecture | {"classes": 1})
    bright = replace(bright, card=card)
    monkeypatch.setattr(buildseg.evaluation.model_run, "load_model", lambda path: bright)
    return bright


def evaluate(tiles, **options):
    return evaluate_model(None, [tiles], EvaluateOptions(**options), device="cpu")


def test_pixels_are_those_of_torchmetrics_on_the_same_chips(tiles, model):
    chips = WholeChips(open_tiles([tiles]).val, model.card.contract)
    counts = torch.zeros(5, dtype=torch.long)
    rims = np.zeros(2, np.int64)
    for image, target, _ in (chips[index] for index in range(len(chips))):
        with torch.inference_mode():
            logits = model.network(image[None])[0, 0]
        counts += binary_stat_scores(logits, target.long(), ignore_index=IGNORE)
        found = ((logits > 0) & (target != IGNORE)).numpy()
        rims += count_boundary((target == BUILDING).numpy(), found, 2, (slice(None), slice(None)))
    hit, false, _, missed, _ = counts.tolist()
    values = evaluate(tiles).scores.values
    assert 0.5 < values["iou"] < 0.9
    assert values["iou"] == hit / (hit + false + missed)
    assert values["boundary_iou"] == rims[0] / rims[1]
    assert values["precision"] == hit / (hit + false)
    assert values["recall"] == hit / (hit + missed)


def test_buildings_are_drawn_from_masks_and_probabilities(tiles):
    evaluation = evaluate(tiles)
    values = evaluation.scores.values
    assert values["truth_buildings"] == 9 * 3
    assert (
        values["matched"] == values["prediction_buildings"] == sum((n + p) % 4 > 0 for n in range(9) for p in range(3))
    )
    assert values["object_precision"] == 1 and values["ap50"] == pytest.approx(values["object_recall"], abs=0.01)
    areas = sum((house[0].stop - house[0].start) * (house[1].stop - house[1].start) / 4 for house in HOUSES)
    assert values["truth_area_m2"] == pytest.approx(9 * areas, rel=0.01)
    assert 0 < values["polis_m"] < 0.5
    assert "iou" in evaluation.scores.intervals and evaluation.scores.blocks == 9


def test_small_ones_and_the_threshold_are_options(tiles):
    assert evaluate(tiles, min_area=120.0).scores.values["truth_buildings"] == 9 * 2
    assert evaluate(tiles, threshold=0.9999).scores.values["recall"] < 0.9


def test_worst_chips_come_first(tiles):
    views = evaluate(tiles).gallery.worst(4)
    worst = [float(view.title.rsplit(" ", 1)[1]) for view in views]
    assert len(views) == 4 and worst[0] == min(worst) < 0.7
    assert views[0].image.shape == (100, 110, 3)
    assert views[0].extent[1] - views[0].extent[0] == pytest.approx(55, rel=1e-3)
    assert len(views[0].truth) == 3 and set(views[0].truth_kinds) <= {"matched", "missed"}


def test_tiles_of_another_kind_are_refused(tiles):
    for path in tiles.rglob("images/*.tif"):
        with rasterio.open(path) as dataset:
            pixels = dataset.read(1)
        scenes.write(path, pixels[None])
    with pytest.raises(TilesError, match="holds 1 bands of uint8, but the model takes 3 of uint8"):
        evaluate(tiles)
