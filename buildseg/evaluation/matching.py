"""Which footprint stands for which building, and what became of the others."""

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from buildseg.evaluation.outlines import Polygons

HALF = 0.5
MATCHED, MISSED, FALSE, MERGED, SPLIT = "matched", "missed", "false", "merged", "split"


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Footprints and true buildings that share ground; all arrays of shape (n,).

    Attributes:
        found: Index of the footprint.
        truth: Index of the building.
        shared: Square metres that both cover.
        iou: Shared area over the area that either covers, above 0.
    """

    found: NDArray[np.intp]
    truth: NDArray[np.intp]
    shared: NDArray[np.float64]
    iou: NDArray[np.float64]

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> "Pairs":
        """Keep some of the pairs.

        Args:
            chosen: Which, as a mask or as positions.
        """
        return Pairs(self.found[chosen], self.truth[chosen], self.shared[chosen], self.iou[chosen])


def find_pairs(found: Polygons, truths: Polygons) -> Pairs:
    """Find all footprints and buildings that share ground.

    Args:
        found: Valid polygons in metres, shape (m,).
        truths: The same, shape (n,).
    """
    ours, theirs = shapely.STRtree(truths).query(found, predicate="intersects")
    shared = shapely.area(shapely.intersection(found[ours], truths[theirs]))
    either = shapely.area(found)[ours] + shapely.area(truths)[theirs] - shared
    real = shared > 0
    return Pairs(ours[real], theirs[real], shared[real], shared[real] / either[real])


def match(pairs: Pairs, confidence: NDArray[np.float64] | None, least: float = HALF) -> Pairs:
    """Match one to one, as COCO does: the most confident footprint first takes the free building of the highest IoU.

    Args:
        pairs: From `find_pairs`.
        confidence: Of each footprint, shape (m,). Without it, the pair of the highest IoU comes first.
        least: IoU from which a pair may match.

    Returns:
        The pairs that match, each footprint and each building in one at most.
    """
    near = pairs.where(pairs.iou >= least)
    if confidence is None:
        order = np.argsort(-near.iou, kind="stable")
    else:
        order = np.lexsort((-near.iou, ranks(confidence)[near.found]))
    near = near.where(order)
    alone = (np.bincount(near.found)[near.found] == 1) & (np.bincount(near.truth)[near.truth] == 1)
    kept = alone.copy()
    taken_found: set[int] = set()
    taken_truth: set[int] = set()
    for place in np.flatnonzero(~alone).tolist():
        ours, theirs = int(near.found[place]), int(near.truth[place])
        if ours not in taken_found and theirs not in taken_truth:
            kept[place] = True
            taken_found.add(ours)
            taken_truth.add(theirs)
    return near.where(kept)


def ranks(confidence: NDArray[np.float64]) -> NDArray[np.intp]:
    """Number footprints from the most confident down, shape (m,); equal ones in their order in the file."""
    rank = np.empty(len(confidence), np.intp)
    rank[np.argsort(-confidence, kind="stable")] = np.arange(len(confidence))
    return rank


def name_kinds(
    pairs: Pairs, matched: Pairs, found_areas: NDArray[np.float64], truth_areas: NDArray[np.float64]
) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
    """Say what became of every footprint and every building.

    A footprint that covers at least half of two buildings or more merges them: those it does not match are merged. Two
    footprints or more, each with at least half of its area in one building, which they cover by half at least, split
    it: those that it does not match are split, and so is the building unless it matches one.

    Args:
        pairs: From `find_pairs`.
        matched: From `match`.
        found_areas: Square metres, shape (m,).
        truth_areas: Square metres, shape (n,).

    Returns:
        For footprints matched, false, merged or split, shape (m,); for buildings matched, missed, merged or split,
        shape (n,).
    """
    covered = pairs.where(pairs.shared >= HALF * truth_areas[pairs.truth])
    merging = np.bincount(covered.found, minlength=len(found_areas)) > 1
    inside = pairs.where(pairs.shared >= HALF * found_areas[pairs.found])
    pieces = np.bincount(inside.truth, minlength=len(truth_areas)) > 1
    filled = np.bincount(inside.truth, inside.shared, minlength=len(truth_areas))
    splitting = pieces & (filled >= HALF * truth_areas)
    found_kinds, truth_kinds = np.full(len(found_areas), FALSE, object), np.full(len(truth_areas), MISSED, object)
    found_kinds[inside.found[splitting[inside.truth]]] = SPLIT
    truth_kinds[splitting] = SPLIT
    found_kinds[merging] = MERGED
    truth_kinds[covered.truth[merging[covered.found]]] = MERGED
    found_kinds[matched.found] = MATCHED
    truth_kinds[matched.truth] = MATCHED
    return found_kinds, truth_kinds
