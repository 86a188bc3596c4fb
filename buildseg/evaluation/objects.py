"""Buildings one by one: what matches, how well, and how many in each block."""

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from buildseg.evaluation.calibration import LEVELS
from buildseg.evaluation.matching import Pairs, find_pairs, match, name_kinds, ranks
from buildseg.evaluation.outlines import Measures, Polygons, angle_error, polis, vertex_ratio
from buildseg.evaluation.precision import hits_by_rank, tally_ranked


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """The buildings of one side.

    Attributes:
        polygons: Valid polygons in metres, shape (n,).
        blocks: The block that each lies in, shape (n,).
        confidence: 0 to 1, shape (n,); None where it is not known.
    """

    polygons: Polygons
    blocks: NDArray[np.intp]
    confidence: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Objects:
    """Both sides compared, building by building.

    Attributes:
        found: Footprints, m of them.
        truth: True buildings, n of them.
        pairs: Those that share ground.
        matched: Those that match at an IoU of 0.5, k of them.
        found_kinds: What became of each footprint, shape (m,).
        truth_kinds: What became of each building, shape (n,).
        polis: Of the matched pairs, metres, shape (k,).
        angle: Of the matched pairs, degrees, shape (k,), NaN where it cannot be measured.
        vertices: Ratio of the matched pairs, shape (k,).
        hits: Whether footprints match at ten IoUs, the most confident first, shape (m, 10); None without confidences.
    """

    found: Side
    truth: Side
    pairs: Pairs
    matched: Pairs
    found_kinds: NDArray[np.object_]
    truth_kinds: NDArray[np.object_]
    polis: Measures
    angle: Measures
    vertices: Measures
    hits: NDArray[np.bool_] | None

    @property
    def found_blocks(self) -> NDArray[np.intp]:
        """The block that each footprint counts in: its own, or that of the building it matches."""
        blocks = self.found.blocks.copy()
        blocks[self.matched.found] = self.truth.blocks[self.matched.truth]
        return blocks

    def tally(self, number: int) -> NDArray[np.float64]:
        """Count buildings, footprints and matches by block.

        Args:
            number: Of blocks.

        Returns:
            Shape (number, 3).
        """
        places = (self.truth.blocks, self.found_blocks, self.truth.blocks[self.matched.truth])
        return np.stack([np.bincount(place, minlength=number) for place in places], axis=1).astype(np.float64)

    def tally_outlines(self, number: int) -> NDArray[np.float64]:
        """Add up the outline measures of the matched pairs by block.

        Args:
            number: Of blocks.

        Returns:
            Shape (number, 3, 2): sum and count of PoLiS, angle error and vertex ratio.
        """
        blocks = self.truth.blocks[self.matched.truth]
        tally = np.zeros((number, 3, 2))
        for place, measure in enumerate((self.polis, self.angle, self.vertices)):
            known = np.isfinite(measure)
            tally[:, place, 0] = np.bincount(blocks[known], measure[known], number)
            tally[:, place, 1] = np.bincount(blocks[known], minlength=number)
        return tally

    def tally_ranked(self, number: int) -> NDArray[np.float64] | None:
        """Count hits and misses by block and rank, as `precision.tally_ranked` does; None without confidences."""
        if self.hits is None or self.found.confidence is None:
            return None
        ordered = np.empty_like(self.found_blocks)
        ordered[ranks(self.found.confidence)] = self.found_blocks
        return tally_ranked(self.hits, ordered, number)

    def tally_levels(self, number: int) -> NDArray[np.int64] | None:
        """Count footprints and matches by block and confidence, shape (number, 255, 2); None without confidences."""
        if self.found.confidence is None:
            return None
        levels = np.rint(self.found.confidence * LEVELS).astype(np.intp)
        places = self.found_blocks * (LEVELS + 1) + levels
        tallies = [np.bincount(each, minlength=number * (LEVELS + 1)) for each in (places, places[self.matched.found])]
        return np.stack(tallies, axis=1).reshape(number, LEVELS + 1, 2)


def compare(found: Side, truth: Side) -> Objects:
    """Compare footprints with true buildings.

    Args:
        found: The footprints.
        truth: The buildings.
    """
    pairs = find_pairs(found.polygons, truth.polygons)
    matched = match(pairs, found.confidence)
    kinds = name_kinds(pairs, matched, shapely.area(found.polygons), shapely.area(truth.polygons))
    ours, theirs = found.polygons[matched.found], truth.polygons[matched.truth]
    return Objects(
        found,
        truth,
        pairs,
        matched,
        *kinds,
        polis=polis(ours, theirs),
        angle=angle_error(ours, theirs),
        vertices=vertex_ratio(ours, theirs),
        hits=None if found.confidence is None else hits_by_rank(pairs, found.confidence),
    )
