"""Contours of probabilities: marching squares by blocks, exact whatever the blocks are.

Samples stand at pixel centres. The contour runs at a level halfway between two stored values, so it meets no
sample, and it crosses each line between two neighbouring samples at most once (Lorensen and Cline 1987, in
two dimensions; saddles are decided by the mean of the four corners). Positions are whole multiples of 1/1024
pixel. A crossing is a fraction with a denominator of at most 2 * 508, which comes no nearer than 1e-7 to the
middle between two such multiples and no nearer than 2/1024 to a sample: rounding gives every block the same
vertices and never moves one onto a sample.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import numpy as np
import shapely
from contourpy import FillType, contour_generator
from numpy.typing import NDArray

NODATA = 255
FULL = 254
_STEPS = 1024


@dataclass(frozen=True, slots=True)
class Contours:
    """Polygons and what lies in them.

    Attributes:
        polygons: Shapely polygons, shape (n,), in pixel coordinates: x is the column, y the row, and the
            first pixel's centre is (0.5, 0.5).
        total: Sum of the stored values whose pixel centres lie inside, shape (n,).
        count: Number of those pixels, shape (n,).
    """

    polygons: NDArray[np.object_]
    total: NDArray[np.int64]
    count: NDArray[np.int64]

    def where(self, chosen: NDArray[np.bool_]) -> "Contours":
        """Keep some of the polygons.

        Args:
            chosen: Which to keep, shape (n,).

        Returns:
            Those, in the same order.
        """
        return Contours(self.polygons[chosen], self.total[chosen], self.count[chosen])

    def cut(self, area: shapely.Geometry) -> "Contours":
        """Keep what of the polygons lies in an area; each piece keeps the sums of the whole.

        Args:
            area: A polygon or several, in pixel coordinates.

        Returns:
            Polygons: those that lie in the area as they were, then the pieces of those that cross its edge.
        """
        shapely.prepare(area)
        inside = shapely.contains_properly(area, self.polygons)
        crossing = np.flatnonzero(~inside & shapely.intersects(area, self.polygons))
        pieces, owner = shapely.get_parts(shapely.intersection(self.polygons[crossing], area), return_index=True)
        areal = shapely.get_type_id(pieces) == shapely.GeometryType.POLYGON
        kept = np.concatenate([np.flatnonzero(inside), crossing[owner[areal]]])
        polygons = np.concatenate([self.polygons[inside], pieces[areal]])
        return Contours(polygons, self.total[kept], self.count[kept])


def contour_level(threshold: float) -> float:
    """Find the level that parts stored values of at least the threshold from the others.

    Args:
        threshold: Probability in (0, 1).

    Returns:
        A number halfway between two stored values, from 0.5 to 253.5.
    """
    tolerance = 1e-9
    return math.ceil(threshold * FULL - tolerance) - 0.5


def trace(samples: NDArray[np.uint8], level: float, row: int = 0, col: int = 0) -> tuple[Contours, NDArray[np.bool_]]:
    """Trace the contours of one block.

    Nodata takes the value 2 * level - 254. Even beside a probability of 1 the contour then stays within half
    a pixel of the valid sample, which is where that sample's pixel ends.

    Args:
        samples: Stored values of shape (rows, cols): 0..254 and 255 for nodata. A block shares its first and
            last row and column with its neighbours; the scene's own edge must be a line of nodata.
        level: From `contour_level`.
        row: The scene's row of the first sample.
        col: The scene's column of the first sample.

    Returns:
        The polygons with totals and counts that leave out the last row and column, which are the neighbour's,
        and for each polygon whether it goes on in a neighbour, shape (n,).
    """
    missing = samples == NODATA
    values = np.where(missing, 2 * level - FULL, samples)
    x, y = _places(samples.shape)
    generator = contour_generator(x=x, y=y, z=values, name="serial", fill_type=FillType.ChunkCombinedOffsetOffset)
    lines = cast(list[list[NDArray[np.generic] | None]], generator.filled(level, NODATA))
    if lines[0][0] is None:
        return join([]), np.zeros(0, np.bool_)
    points, rings, shells = (np.asarray(line[0]) for line in lines)
    rings, shells = rings.astype(np.int64), shells.astype(np.int64)
    steps = np.rint(points * _STEPS).astype(np.int64)
    owner = np.repeat(np.arange(len(shells) - 1), np.diff(rings[shells]))
    last = (np.array(samples.shape[::-1]) - 1) * _STEPS
    goes_on = np.zeros(len(shells) - 1, np.bool_)
    goes_on[owner[((steps == 0) | (steps == last)).any(axis=1)]] = True
    total, count = _sums(samples, values > level, steps, owner)
    if missing.any():
        steps, rings = _bend(steps, rings, missing)
    corners = steps / _STEPS + (col + 0.5, row + 0.5)
    polygons = shapely.from_ragged_array(shapely.GeometryType.POLYGON, corners, (rings, shells))
    return Contours(polygons, total, count), goes_on


@lru_cache(maxsize=4)
def _places(shape: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The column and the row of every sample; making them anew for each block would take as long as the tracing."""
    rows, cols = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    return cols, rows


def join(parts: Sequence[Contours]) -> Contours:
    """Join parts of polygons that meet on the lines that blocks share.

    Args:
        parts: What `trace` found to go on, of all blocks.

    Returns:
        Whole polygons.
    """
    if not parts:
        return Contours(np.zeros(0, np.object_), np.zeros(0, np.int64), np.zeros(0, np.int64))
    pieces = np.concatenate([part.polygons for part in parts])
    whole = shapely.get_parts(shapely.coverage_union_all(pieces))
    piece, home = shapely.STRtree(whole).query(shapely.point_on_surface(pieces), predicate="within")
    total, count = np.zeros((2, len(whole)), np.int64)
    np.add.at(total, home, np.concatenate([part.total for part in parts])[piece])
    np.add.at(count, home, np.concatenate([part.count for part in parts])[piece])
    return Contours(whole, total, count)


def _sums(
    samples: NDArray[np.uint8], inside: NDArray[np.bool_], steps: NDArray[np.int64], owner: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sum the samples inside each polygon, along runs in rows: a run belongs to the polygon it enters.

    Whether a sample is inside was settled by its value, so no point has to be looked for in a polygon. A run
    begins behind the vertex before its first sample, or on it at the block's edge.
    """
    on_row = steps[:, 1] % _STEPS == 0
    entered = np.zeros(samples.shape, np.int64)
    entered[steps[on_row, 1] // _STEPS, -(-steps[on_row, 0] // _STEPS)] = owner[on_row]
    inside[-1], inside[:, -1] = False, False
    flips = np.flatnonzero(np.diff(inside.ravel(), prepend=False))
    total, count = np.zeros((2, owner[-1] + 1), np.int64)
    if len(flips):
        polygon = entered.ravel()[flips[::2]]
        sums = np.concatenate([[0], np.cumsum(samples.ravel(), dtype=np.int64)])
        np.add.at(total, polygon, sums[flips[1::2]] - sums[flips[::2]])
        np.add.at(count, polygon, flips[1::2] - flips[::2])
    return total, count


def _bend(
    steps: NDArray[np.int64], rings: NDArray[np.int64], missing: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Bend segments around nodata pixels whose corner they would cut off.

    Between three valid samples and one of nodata the straight segment leaves up to an eighth of the nodata
    pixel inside. A vertex where the four pixels meet mends that. No other segment of the cell can lie beyond
    that point, so the polygon stays valid.
    """
    start, end = steps[:-1], steps[1:]
    cell = np.minimum((start + end) // (2 * _STEPS), np.array(missing.shape[::-1]) - 2)
    bends = _left_of(start, end, cell * _STEPS + _STEPS // 2) > 0
    bends[rings[1:-1] - 1] = False
    cuts = np.zeros(len(cell), np.bool_)
    for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
        sample = cell + corner
        cuts |= missing[sample[:, 1], sample[:, 0]] & (_left_of(start, end, sample * _STEPS) < 0)
    before = np.flatnonzero(bends & cuts) + 1
    bent = np.insert(steps, before, cell[before - 1] * _STEPS + _STEPS // 2, axis=0)
    return bent, rings + np.searchsorted(before, rings)


def _left_of(start: NDArray[np.int64], end: NDArray[np.int64], point: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positive where the point lies on the inner side of the segment, shapes (n, 2)."""
    along, to = end - start, point - start
    return np.asarray(along[:, 0] * to[:, 1] - along[:, 1] * to[:, 0])
