"""Scores by the size of buildings."""

from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from buildseg.evaluation.objects import Objects

EDGES = (0.0, 50.0, 100.0, 250.0, 1000.0, np.inf)


class SizeScores(NamedTuple):
    """Scores of the buildings of one size; None where there are none to count.

    Attributes:
        from_m2: Area from which they are in it.
        to_m2: Area below which they are in it, None without a bound.
        truth: Number of buildings.
        prediction: Number of footprints, those that match counted with their building, the others by their own area.
        precision: Share of the footprints that match.
        recall: Share of the buildings that match.
        f1: Of precision and recall.
        mean_iou: Of every building's best IoU with any footprint, 0 where none touches it.
    """

    from_m2: float
    to_m2: float | None
    truth: int
    prediction: int
    precision: float | None
    recall: float | None
    f1: float | None
    mean_iou: float | None


def scores_by_size(objects: Objects) -> list[SizeScores]:
    """Score buildings by size, from the smallest up.

    Args:
        objects: Both sides, compared.
    """
    truth_areas = shapely.area(objects.truth.polygons)
    found_areas = shapely.area(objects.found.polygons)
    found_areas[objects.matched.found] = truth_areas[objects.matched.truth]
    truth_sizes, found_sizes = (np.digitize(areas, EDGES[1:-1]) for areas in (truth_areas, found_areas))
    number = len(EDGES) - 1
    truths, founds, hits = (
        np.bincount(sizes, minlength=number).tolist()
        for sizes in (truth_sizes, found_sizes, truth_sizes[objects.matched.truth])
    )
    overlap = np.bincount(truth_sizes, best_ious(objects), number).tolist()
    return [
        SizeScores(
            EDGES[i],
            EDGES[i + 1] if np.isfinite(EDGES[i + 1]) else None,
            truths[i],
            founds[i],
            _share(hits[i], founds[i]),
            _share(hits[i], truths[i]),
            _share(2 * hits[i], truths[i] + founds[i]),
            _share(overlap[i], truths[i]),
        )
        for i in range(number)
    ]


def best_ious(objects: Objects) -> NDArray[np.float64]:
    """Give every building's best IoU with any footprint, 0 where none touches it, shape (n,)."""
    best = np.zeros(len(objects.truth.polygons))
    np.maximum.at(best, objects.pairs.truth, objects.pairs.iou)
    return best


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
