"""Contours of probabilities: polygons block by block, exact whatever the blocks are."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from buildseg.footprints.marching import FULL, NODATA, STEPS, Outlines, march


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
    outlines = march(samples, level)
    points, rings = outlines.points, outlines.rings
    owner = np.repeat(np.arange(len(outlines)), np.diff(rings[outlines.polygons]))
    last = (np.array(samples.shape[::-1]) - 1) * STEPS
    goes_on = np.zeros((len(outlines), 4), np.bool_)
    for side, line in enumerate((0, 0, *last)):
        goes_on[owner[points[:, side % 2] == line], side] = True
    sums = _sums(samples, outlines, level)
    missing = samples == NODATA
    if missing.any():
        points, rings = _bend(points, rings, missing)
    corners = points / STEPS + (col + 0.5, row + 0.5)
    polygons = shapely.from_ragged_array(shapely.GeometryType.POLYGON, corners, (rings, outlines.polygons))
    return Contours(polygons, *sums), goes_on


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


def _sums(samples: NDArray[np.uint8], outlines: Outlines, level: float) -> NDArray[np.int64]:
    """Sum up the samples inside each polygon, run by run; the last row and column are the neighbour's."""
    rows, cols = outlines.starts
    ours = samples[:-1, :-1]
    lengths = np.minimum(outlines.lengths, ours.shape[1] - cols)
    counted = (rows < ours.shape[0]) & (lengths > 0)
    polygon, lengths = outlines.owners[counted], lengths[counted]
    sums = np.zeros((4, len(outlines)), np.int64)
    if len(polygon):
        values = ours[(ours > int(level)) & (ours != NODATA)].astype(np.int64)
        starts = np.cumsum(lengths) - lengths
        np.add.at(sums[0], polygon, np.add.reduceat(values, starts))
        np.add.at(sums[1], polygon, lengths)
        np.add.at(sums[2], polygon, np.add.reduceat((values > (level + FULL) / 2).astype(np.int64), starts))
        np.maximum.at(sums[3], polygon, np.maximum.reduceat(values, starts))
    return sums


def _bend(
    points: NDArray[np.int64], rings: NDArray[np.int64], missing: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Bend segments around nodata pixels whose corner they would cut off.

    Between three valid samples and one of nodata the straight segment leaves up to an eighth of the nodata
    pixel inside. A vertex where the four pixels meet mends that. No other segment of the cell can lie beyond
    that point, so the polygon stays valid.
    """
    middle = points[:-1] + points[1:]
    cells = np.minimum(middle // (2 * STEPS), np.array(missing.shape[::-1]) - 2)
    corners = [(0, 0), (0, 1), (1, 0), (1, 1)]
    near = np.any([missing[cells[:, 1] + down, cells[:, 0] + right] for right, down in corners], axis=0)
    near[rings[1:-1] - 1] = False  # from one ring to the next
    segments = np.flatnonzero(near)
    start, end, cell = points[segments], points[segments + 1], cells[segments]
    cuts = np.zeros(len(segments), np.bool_)
    for corner in corners:
        sample = cell + corner
        cuts |= missing[sample[:, 1], sample[:, 0]] & (_left_of(start, end, sample * STEPS) < 0)
    meeting = cell * STEPS + STEPS // 2
    cuts &= _left_of(start, end, meeting) > 0
    before = segments[cuts] + 1
    return np.insert(points, before, meeting[cuts], axis=0), rings + np.searchsorted(before, rings)


def _left_of(start: NDArray[np.int64], end: NDArray[np.int64], point: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positive where the point lies on the inner side of the segment, shapes (n, 2)."""
    along, to = end - start, point - start
    return np.asarray(along[:, 0] * to[:, 1] - along[:, 1] * to[:, 0])
