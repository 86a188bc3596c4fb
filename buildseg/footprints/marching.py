"""Marching squares in whole numbers (Lorensen and Cline 1987, in two dimensions).

Samples stand at pixel centres. An outline parts samples inside, which are above a level, from the others, and crosses
each line between two neighbours of both kinds once. The level lies halfway between two stored values, so it meets no
sample. Saddles are decided by the mean of the four corners. Positions are whole multiples of 1/1024 pixel: a crossing
is a fraction with a denominator of at most 2 * 508, which comes no nearer than 1e-7 to the middle between two such
multiples and no nearer than 2/1024 to a sample, so rounding gives every block the same vertices and never moves one
onto a sample.

Each step is taken for all crossings at once. Going from cell to cell, as contourpy does, takes twice as long.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NODATA = 255
FULL = 254
STEPS = 1024

_DISTANCE_BITS = 32


@dataclass(frozen=True, slots=True)
class Outlines:
    """Outlines of what is inside, as rings of polygons, and the runs of samples in them.

    Attributes:
        points: Column and row of each vertex from the first sample on, in 1/1024 pixel, shape (n, 2); ring by ring,
            each closed by its first vertex. What is inside lies to the left, if rows count upwards.
        rings: Where in `points` each ring begins, and where the last ends.
        polygons: Where in `rings` each polygon begins, its shell before its holes, and where the last ends.
        starts: Row and column of the first sample of each run within a row, shape (2, runs).
        lengths: Samples of each run.
        owners: The polygon that each run lies in.
    """

    points: NDArray[np.int64]
    rings: NDArray[np.int64]
    polygons: NDArray[np.int64]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    owners: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.polygons) - 1


@dataclass(frozen=True, slots=True)
class _Crossings:
    """Where outlines pass between two samples: first all within rows, row by row, then all within columns.

    Samples are numbered row by row, with a line of samples around the block, none of them inside.

    Attributes:
        samples: All of them, flat; nodata in that line.
        width: Samples of a row.
        within_rows: How many of the crossings are within rows.
        own: The sample inside, at the left hand of who follows the outline.
        other: That outside, at the right hand.
        ahead: What leads from both to the next two samples on the way.
    """

    samples: NDArray[np.uint8]
    width: int
    within_rows: int
    own: NDArray[np.int64]
    other: NDArray[np.int64]
    ahead: NDArray[np.int64]


def march(samples: NDArray[np.uint8], level: float) -> Outlines:
    """Follow the outlines of what is above a level.

    Nodata takes the value 2 * level - 254. Where samples on the border of the block are inside, the outline follows it.

    Args:
        samples: Stored values of shape (rows, cols): 0..254 and 255 for nodata.
        level: Halfway between two stored values.
    """
    padded = np.pad(samples, 1, constant_values=NODATA)
    flat, width = padded.ravel(), padded.shape[1]
    inside = (flat > int(level)) & (flat != NODATA)
    crossings = _find(flat, inside, width)
    following = _following(crossings, inside, level)
    ring, distance = _rings(following)

    # In a row outlines are crossed inwards and outwards by turns. The first crossing of a ring leads into a shell, or
    # out of its polygon into a hole. The one before such a hole led into the polygon, on a ring that began earlier.
    firsts = np.flatnonzero(distance == 0)
    is_hole = firsts % 2 == 1
    shell = np.where(is_hole, ring[firsts - 1], np.arange(len(firsts)))
    while not np.array_equal(shell, shell[shell]):
        shell = shell[shell]
    polygon = (np.cumsum(~is_hole) - 1)[shell]

    inwards, outwards = crossings.own[: crossings.within_rows].reshape(-1, 2).T
    return Outlines(
        *_in_order(_positions(crossings, samples.shape, level), following, ring, distance, polygon),
        starts=np.array(np.divmod(inwards, width)) - 1,
        lengths=outwards + 1 - inwards,
        owners=polygon[ring[: crossings.within_rows : 2]],
    )


def _find(samples: NDArray[np.uint8], inside: NDArray[np.bool_], width: int) -> _Crossings:
    beside, below = (np.flatnonzero(inside[step:] != inside[:-step]) for step in (1, width))
    first = np.concatenate([beside, below])
    along, across = (np.repeat(steps, [len(beside), len(below)]) for steps in ((1, width), (width, 1)))
    own = np.where(inside[first], first, first + along)
    # Down with the left sample inside, to the left with the upper one.
    ahead = np.where(inside[first] == (along == 1), across, -across)
    return _Crossings(samples, width, len(beside), own, 2 * first + along - own, ahead)


def _following(crossings: _Crossings, inside: NDArray[np.bool_], level: float) -> NDArray[np.int64]:
    """Give the number of the crossing that comes after each."""
    own, other, ahead = crossings.own, crossings.other, crossings.ahead
    left, right = inside[own + ahead], inside[other + ahead]
    turns_right = left & right
    saddle = np.flatnonzero(right & ~left)
    corners = [side[saddle] + step for side in (own, other) for step in (0, ahead[saddle])]
    turns_right[saddle] = sum(_values(crossings.samples[corner], level) for corner in corners) > 4 * level
    # A line between two samples has the number of the first; those within columns come behind all within rows.
    behind = np.where(np.arange(len(own)) < crossings.within_rows, 0, len(inside))
    line = np.minimum(own, other) + behind
    turned = np.where(turns_right, other, own) + np.minimum(ahead, 0) + len(inside) - behind
    number = np.empty(2 * len(inside), np.int64)
    number[line] = np.arange(len(line))
    return np.asarray(number[np.where(left & ~right, line + ahead, turned)])


def _rings(following: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the rings that crossings form, looking twice as far ahead each time (Wyllie 1979, list ranking).

    Args:
        following: For each crossing the next.

    Returns:
        The ring of each crossing, in the order of their first crossings, and how far ahead that first one is.
    """
    numbers = np.arange(len(following))
    nearest, first, jump, far = numbers << _DISTANCE_BITS, numbers, following, 1
    while True:
        nearest = np.minimum(nearest, nearest[jump] + far)
        found = nearest >> _DISTANCE_BITS
        if np.array_equal(found, first):
            break
        first, jump, far = found, jump[jump], 2 * far
    distance = nearest & (2**_DISTANCE_BITS - 1)
    return (np.cumsum(distance == 0) - 1)[first], distance


def _positions(crossings: _Crossings, shape: tuple[int, ...], level: float) -> NDArray[np.int64]:
    """Give the column and the row of each crossing, in steps, shape (n, 2)."""
    own, other = crossings.samples[crossings.own], _values(crossings.samples[crossings.other], level)
    towards = np.where(crossings.other > crossings.own, STEPS, -STEPS)
    share = np.rint((own - level) / (own - other) * towards).astype(np.int64)
    rows, cols = np.divmod(crossings.own, crossings.width)
    points = np.column_stack([cols - 1, rows - 1]) * STEPS
    points[: crossings.within_rows, 0] += share[: crossings.within_rows]
    points[crossings.within_rows :, 1] += share[crossings.within_rows :]
    # Not into the line around the block.
    return np.asarray(np.clip(points, 0, (np.array(shape[::-1]) - 1) * STEPS))


def _in_order(
    points: NDArray[np.int64],
    following: NDArray[np.int64],
    ring: NDArray[np.int64],
    distance: NDArray[np.int64],
    polygon: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Bring the vertices of rings, and the rings of polygons, into order: the first three of `Outlines`."""
    lengths, by_polygon = np.bincount(ring), np.argsort(polygon, kind="stable")
    begins = np.empty_like(lengths)
    begins[by_polygon] = np.cumsum(lengths[by_polygon]) - lengths[by_polygon]
    order = np.empty_like(ring)
    order[begins[ring] + (lengths[ring] - distance) % lengths[ring]] = np.arange(len(ring))
    # At a corner of the block that is inside, two crossings stand on the one sample.
    cols, rows = points.T
    single = (cols != cols[following]) | (rows != rows[following])
    order, lengths = order[single[order]], np.bincount(ring[single])[by_polygon]

    numbers = np.arange(len(lengths))
    rings = np.concatenate([[0], np.cumsum(lengths + 1)])
    closed = np.empty(rings[-1], np.int64)
    closed[np.arange(len(order)) + np.repeat(numbers, lengths)] = order
    closed[rings[1:] - 1] = order[rings[:-1] - numbers]
    return points[closed], rings, np.concatenate([[0], np.cumsum(np.bincount(polygon))])


def _values(samples: NDArray[np.uint8], level: float) -> NDArray[np.float64]:
    return np.where(samples == NODATA, 2 * level - FULL, samples)
