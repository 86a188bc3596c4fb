"""Finds rings that are circles."""

import numpy as np

from buildseg.footprints.regularizing.arcs import Arcs, Bools, Floats, Ints, owners
from buildseg.footprints.regularizing.edges import PLAIN, Edges, joined

_ROUND = 0.022
_SAGITTA = 0.04
_FEWEST, _MOST = 16, 64


def find_circles(arcs: Arcs, bound: float) -> tuple[Bools, Floats, Floats]:
    """Fit circles to rings (Kasa 1976).

    Args:
        arcs: The arcs.
        bound: Metres that a circle may lie beside the contour.

    Returns:
        Which arcs are circles, and the middle and radius of each arc's circle.
    """
    arc = owners(arcs.first)
    inner = np.flatnonzero(np.append(arc[1:] == arc[:-1], False))
    step = np.hypot(*(arcs.points[inner + 1] - arcs.points[inner]).T)
    points = (arcs.points[inner] + arcs.points[inner + 1]) / 2
    arc = arc[inner]
    first = np.searchsorted(arc, np.arange(len(arcs.closed)))

    def mean(value: Floats) -> Floats:
        return np.add.reduceat(step * value, first) / np.add.reduceat(step, first)

    center = np.stack([mean(points[:, 0]), mean(points[:, 1])], axis=1)
    x, y = (points - center[arc]).T
    square = x * x + y * y
    xx, xy, yy = mean(x * x), mean(x * y), mean(y * y)
    right_x, right_y = mean(x * square) / 2, mean(y * square) / 2
    scale = xx * yy - xy * xy
    solid = scale > 1e-6 * (xx + yy) ** 2
    scale = np.where(solid, scale, 1)
    shift = np.stack([right_x * yy - right_y * xy, right_y * xx - right_x * xy], axis=1) / scale[:, None]
    radius = np.sqrt(np.maximum(mean(square) + (shift**2).sum(axis=1), 0))
    center += shift
    off = np.hypot(*(points - center[arc]).T) - radius[arc]
    even = np.sqrt(mean(off * off)) < _ROUND * radius
    near = np.maximum.reduceat(np.abs(off), first) < np.minimum(bound, radius / 8)
    return arcs.closed & solid & even & near, center, radius


def put_circles(edges: Edges, arcs: Arcs, bound: float, allowed: Bools) -> Edges:
    """Replace the edges of round rings by those of a regular polygon of the circle's area.

    Args:
        edges: Of all arcs.
        arcs: The arcs.
        bound: Metres that a circle may lie beside the contour.
        allowed: Which arcs may become circles.

    Returns:
        Edges, those of circles of kind `PLAIN`.
    """
    chosen, center, radius = find_circles(arcs, bound)
    chosen &= allowed
    if not chosen.any():
        return edges
    edges = edges.take(~chosen[edges.arc])
    sides = [_circle(arcs, int(n), center[n], float(radius[n]), bound) for n in np.flatnonzero(chosen)]
    together = joined(sides)
    return edges.put(np.searchsorted(edges.arc, together.arc), together)


def _circle(arcs: Arcs, number: int, center: Floats, radius: float, bound: float) -> Edges:
    start = arcs.first[number]
    points = arcs.points[start : arcs.first[number + 1]]
    fine = 4 * np.ceil(np.pi / np.arccos(1 - min(_SAGITTA * bound / radius, 1)) / 4)
    count = int(min(np.clip(fine, _FEWEST, _MOST), max(len(points) // 3, 4)))
    first = np.arctan2(*(points[0] - center)[::-1])
    spin = np.sign(_area(points - center))
    angles = first + spin * 2 * np.pi / count * np.arange(count)
    outer = radius * np.sqrt(2 * np.pi / count / np.sin(2 * np.pi / count))
    corner = center + outer * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    # Parted by the turn from the first point: a ring that is round enough to be a circle hardly turns back.
    turn = np.unwrap(np.arctan2(*(points - center).T[::-1])) * spin
    turn = np.maximum.accumulate(turn - turn[0])
    at, mid = (
        start + np.minimum(np.searchsorted(turn, 2 * np.pi / count * (np.arange(count) + share)), len(points) - 2)
        for share in (0, 0.5)
    )
    return _plain(number, at, mid, corner)


def _plain(number: int, at: Ints, mid: Ints, corner: Floats) -> Edges:
    chord = np.roll(corner, -1, axis=0) - corner
    count = len(at)
    return Edges(
        np.full(count, number),
        at,
        mid,
        corner,
        chord,
        np.hypot(*chord.T),
        np.ones((count, 6)),
        np.arctan2(chord[:, 1], chord[:, 0]),
        np.full(count, PLAIN),
    )


def _area(points: Floats) -> float:
    x, y = points.T
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)
