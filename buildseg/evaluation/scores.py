"""From tallies to scores: the same arithmetic for the scores and for the bootstrap's replicates of them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from buildseg.evaluation.calibration import Bin, best_threshold, calibration_error, reliability
from buildseg.evaluation.intervals import Interval, draw_blocks, interval
from buildseg.evaluation.matching import FALSE, MERGED, MISSED, SPLIT
from buildseg.evaluation.measures import KEYS
from buildseg.evaluation.objects import Objects
from buildseg.evaluation.precision import IOUS, average_precision
from buildseg.evaluation.sizes import SizeScores, scores_by_size

Draws = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class PixelTallies:
    """What was counted in each block, n of them.

    Attributes:
        pixels: Hit, false, missed and rightly left out, shape (n, 4).
        boundary: Pixels in both boundary regions and in either, shape (n, 2).
        levels: Pixels by stored probability, all and building, shape (n, 255, 2); None without probabilities.
    """

    pixels: NDArray[np.int64]
    boundary: NDArray[np.int64]
    levels: NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """All that was measured.

    Attributes:
        values: Every score of `measures.KEYS`, None where there is nothing to score.
        intervals: The 95% interval of those that have one.
        sizes: Scores by the size of buildings.
        reliability: Bars of the reliability diagram; empty where no probabilities are known.
        blocks: Blocks that the intervals are drawn from.
    """

    values: Mapping[str, float | None]
    intervals: Mapping[str, Interval]
    sizes: tuple[SizeScores, ...]
    reliability: tuple[Bin, ...]
    blocks: int


def score(tallies: PixelTallies, objects: Objects, seed: int) -> Scores:
    """Score a comparison.

    Args:
        tallies: Pixels by block.
        objects: Buildings, whose blocks are those of the tallies.
        seed: Of the bootstrap.
    """
    used = tallies.pixels.sum(axis=1) > 0
    counted = {name: tally[used] for name, tally in _by_block(tallies, objects).items()}
    draws = draw_blocks(int(used.sum()), seed)
    drawn = _measure({name: np.tensordot(draws, tally, axes=1) for name, tally in counted.items()})
    total = _measure({name: tally.sum(axis=0)[None] for name, tally in counted.items()})
    values = {name: float(value[0]) for name, value in total.items()} | _of_objects(objects)
    for name in {"ap50", "ap50_95"} & drawn.keys():
        drawn[name] += values[name] - total[name]  # over bins of ranks it is a thousandth off
    bars: list[Bin] = []
    if "levels" in counted:
        levels = counted["levels"].sum(axis=0).astype(np.int64)
        bars = reliability(levels)
        positives = len(objects.truth.polygons) if tallies.levels is None else int(levels[:, 1].sum())
        values |= dict(
            zip(("best_threshold", "f1_at_best_threshold"), best_threshold(levels, positives) or (), strict=False)
        )
    return Scores(
        {key: _known(values.get(key, np.nan)) for key in KEYS},
        {key: found for key in KEYS if key in drawn and (found := interval(drawn[key]))},
        tuple(scores_by_size(objects)),
        tuple(bars),
        int(used.sum()),
    )


def _by_block(tallies: PixelTallies, objects: Objects) -> dict[str, Draws]:
    number = len(tallies.pixels)
    counted = {
        "pixels": tallies.pixels,
        "boundary": tallies.boundary,
        "objects": objects.tally(number),
        "outlines": objects.tally_outlines(number),
        "levels": objects.tally_levels(number) if tallies.levels is None else tallies.levels,
        "ranked": objects.tally_ranked(number),
    }
    return {name: np.asarray(tally, np.float64) for name, tally in counted.items() if tally is not None}


def _measure(sums: Mapping[str, Draws]) -> dict[str, Draws]:
    """Measure several draws at once, which are the first axis of all sums."""
    hit, false, missed, _ = sums["pixels"].T
    shared, either = sums["boundary"].T
    truths, founds, matches = sums["objects"].T
    outlines = _share(sums["outlines"][..., 0], sums["outlines"][..., 1])
    measured = {
        "iou": _share(hit, hit + false + missed),
        "f1": _share(2 * hit, 2 * hit + false + missed),
        "precision": _share(hit, hit + false),
        "recall": _share(hit, hit + missed),
        "boundary_iou": _share(shared, either),
        "object_precision": _share(matches, founds),
        "object_recall": _share(matches, truths),
        "object_f1": _share(2 * matches, truths + founds),
        "polis_m": outlines[:, 0],
        "angle_error_deg": outlines[:, 1],
        "vertex_ratio": outlines[:, 2],
    }
    if "levels" in sums:
        measured["ece"] = calibration_error(sums["levels"])
    if "ranked" in sums:
        hits, misses = np.split(sums["ranked"], 2, axis=2)
        averages = [average_precision(*each) for each in zip(hits, misses, truths, strict=True)]
        measured |= _averages(np.reshape(averages, (len(hits), len(IOUS))))
    return measured


def _of_objects(objects: Objects) -> dict[str, float]:
    """Give what is no sum over blocks, average precision over every single rank among it."""
    truth, found = objects.truth.polygons, objects.found.polygons
    counts: dict[str, float] = {
        "truth_buildings": len(truth),
        "prediction_buildings": len(found),
        "matched": len(objects.matched.found),
        "missed": int((objects.truth_kinds == MISSED).sum()),
        "false": int((objects.found_kinds == FALSE).sum()),
        "merged": int((objects.truth_kinds == MERGED).sum()),
        "split": int((objects.truth_kinds == SPLIT).sum()),
        "truth_area_m2": float(shapely.area(truth).sum()),
        "prediction_area_m2": float(shapely.area(found).sum()),
    }
    if objects.hits is None:
        return counts
    averages = _averages(average_precision(objects.hits, ~objects.hits, len(truth))[None])
    return counts | {name: float(value[0]) for name, value in averages.items()}


def _averages(by_iou: Draws) -> dict[str, Draws]:
    return {"ap50": by_iou[:, 0], "ap50_95": by_iou.mean(axis=1)}


def _share(part: Draws, whole: Draws) -> Draws:
    share = np.full(part.shape, np.nan)
    np.divide(part, whole, out=share, where=whole > 0)
    return share


def _known(value: float) -> float | None:
    return value if np.isfinite(value) else None
