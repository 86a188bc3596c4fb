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
from contourpy import FillType, LineType, ThreadedContourGenerator, ZInterp
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
        sure: Number of those whose value is nearer to certainty than to the level, shape (n,).
        peak: The largest of the values, shape (n,).
    """

    polygons: NDArray[np.object_]
    total: NDArray[np.int64]
    count: NDArray[np.int64]
    sure: NDArray[np.int64]
    peak: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.polygons)

    @property
    def sums(self) -> tuple[NDArray[np.int64], ...]:
        """All but the polygons."""
        return self.total, self.count, self.sure, self.peak

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> "Contours":
        """Keep some of the polygons.

        Args:
            chosen: Which to keep: bool of shape (n,), or their numbers.

        Returns:
            Those, in the same order, or that of the numbers.
        """
        return Contours(self.polygons[chosen], *(each[chosen] for each in self.sums))

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
        kept = self.where(np.concatenate([np.flatnonzero(inside), crossing[owner[areal]]]))
        return Contours(np.concatenate([self.polygons[inside], pieces[areal]]), *kept.sums)


def concatenate(contours: Sequence[Contours]) -> Contours:
    """Put contours one behind the other."""
    if not contours:
        return Contours(np.zeros(0, np.object_), *np.zeros((4, 0), np.int64))
    columns = zip(*((each.polygons, *each.sums) for each in contours), strict=True)
    return Contours(*(np.concatenate(column) for column in columns))


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
        The polygons with sums that leave out the last row and column, which are the neighbour's, and for each polygon
        whether it goes on in the neighbour to the left, above, to the right and below, shape (n, 4).
    """
    missing = samples == NODATA
    inside = (samples > int(level)) & ~missing
    if not inside.any():
        return concatenate([]), np.zeros((0, 4), np.bool_)
    values = samples.astype(np.float64)
    values[missing] = 2 * level - FULL
    lines = cast(list[list[NDArray[np.generic]]], _generator(values).filled(level, NODATA))
    points, rings, shells = (np.asarray(line[0]) for line in lines)
    rings, shells = rings.astype(np.int64), shells.astype(np.int64)
    steps = np.rint(points * _STEPS).astype(np.int64)
    owner = np.repeat(np.arange(len(shells) - 1), np.diff(rings[shells]))
    last = (np.array(samples.shape[::-1]) - 1) * _STEPS
    goes_on = np.zeros((len(shells) - 1, 4), np.bool_)
    for side, line in enumerate((0, 0, *last)):
        goes_on[owner[steps[:, side % 2] == line], side] = True
    sums = _sums(samples, inside, steps, owner, (level + FULL) / 2)
    if missing.any():
        steps, rings = _bend(steps, rings, missing)
    corners = steps / _STEPS + (col + 0.5, row + 0.5)
    polygons = shapely.from_ragged_array(shapely.GeometryType.POLYGON, corners, (rings, shells))
    return Contours(polygons, *sums), goes_on


def _generator(values: NDArray[np.float64]) -> ThreadedContourGenerator:
    """Give what contourpy's factory gives, which looks for values that are no numbers first; here are none.

    It is the kind that lets other threads run meanwhile; it starts none itself.
    """
    rows, cols = values.shape
    return ThreadedContourGenerator(
        *_places(values.shape),
        values,
        np.array(False),  # no mask
        x_chunk_size=cols - 1,
        y_chunk_size=rows - 1,
        line_type=LineType.ChunkCombinedOffset,
        fill_type=FillType.ChunkCombinedOffsetOffset,
        quad_as_tri=False,
        z_interp=ZInterp.Linear,
        corner_mask=False,
        thread_count=1,
    )


@lru_cache(maxsize=4)
def _places(shape: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The column and the row of every sample; making them anew for each block would take as long as the tracing."""
    rows, cols = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    return cols, rows


def join(parts: Contours) -> tuple[Contours, NDArray[np.int64]]:
    """Join parts of polygons that meet on the lines that blocks share.

    Args:
        parts: What `trace` found to go on, of any blocks.

    Returns:
        Joined polygons, and the number of that which each part has gone into, shape (n,).
    """
    joined = shapely.get_parts(shapely.coverage_union_all(parts.polygons))
    piece, home = shapely.STRtree(joined).query(shapely.point_on_surface(parts.polygons), predicate="within")
    home = home[np.argsort(piece)]
    total, count, sure, peak = np.zeros((4, len(joined)), np.int64)
    for each, sums in ((total, parts.total), (count, parts.count), (sure, parts.sure)):
        np.add.at(each, home, sums)
    np.maximum.at(peak, home, parts.peak)
    return Contours(joined, total, count, sure, peak), home


def _sums(
    samples: NDArray[np.uint8],
    inside: NDArray[np.bool_],
    steps: NDArray[np.int64],
    owner: NDArray[np.int64],
    sure: float,
) -> NDArray[np.int64]:
    """Sum up the samples inside each polygon, along runs in rows: a run belongs to the polygon it enters.

    Whether a sample is inside was settled by its value, so no point has to be looked for in a polygon. A run
    begins behind the vertex before its first sample, or on it at the block's edge.
    """
    on_row = np.flatnonzero(steps[:, 1] % _STEPS == 0)
    x, y = steps[on_row].T
    entered = np.zeros(samples.shape, np.int32)
    entered[y // _STEPS, -(-x // _STEPS)] = owner[on_row]
    inside[-1], inside[:, -1] = False, False
    flips = np.flatnonzero(np.diff(inside.ravel(), prepend=False))
    sums = np.zeros((4, owner[-1] + 1), np.int64)
    if len(flips):
        polygon, lengths = entered.ravel()[flips[::2]], flips[1::2] - flips[::2]
        values, starts = samples[inside].astype(np.int64), np.concatenate([[0], np.cumsum(lengths)[:-1]])
        np.add.at(sums[0], polygon, np.add.reduceat(values, starts))
        np.add.at(sums[1], polygon, lengths)
        np.add.at(sums[2], polygon, np.add.reduceat((values > sure).astype(np.int64), starts))
        np.maximum.at(sums[3], polygon, np.maximum.reduceat(values, starts))
    return sums


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
