"""Finds the directions of each group's walls, and which edge runs along which."""

import numpy as np

from buildseg.footprints.regularizing.arcs import Bools, Floats, Ints
from buildseg.footprints.regularizing.edges import ALONG, PLAIN, SECOND_ALONG, Edges, scatter

_RIGHT = np.pi / 2
_BINS = 90
_REACH = np.radians(10)
_WIDEST = np.radians(40)
_DIAGONAL = np.radians(3)
_APART = np.radians(15)


def set_directions(edges: Edges, group: Ints, groups: int, slack: Floats) -> None:
    """Give edges the direction of their group, or its second one, where that moves them little.

    Args:
        edges: Gets `angle` and `kind`.
        group: The group of each edge.
        groups: How many groups there are.
        slack: Metres that the ends of each edge may move when it turns about its middle.
    """
    free = edges.kind != PLAIN
    main = _refine(edges, group, _peaks(edges, group, groups, free), free)
    main = _refine(edges, group, main, _fits(edges, main[group], slack) & free)
    left = free & ~_fits(edges, main[group], slack) & (edges.length > 4 * slack)
    second = np.full(groups, np.nan)
    if left.any():
        second = _refine(edges, group, _peaks(edges, group, groups, left), left)
        diagonal = np.abs(_turn(second - main - _RIGHT / 2)) < _DIAGONAL
        second = np.where(diagonal, main + _RIGHT / 2, second)
        second[np.abs(_turn(second - main)) < _APART] = np.nan
    turn_main, turn_second = (np.abs(_turn(edges.angle - direction[group])) for direction in (main, second))
    on_second = _fits(edges, second[group], slack) & ((turn_second < turn_main) | ~_fits(edges, main[group], slack))
    _snap(edges, second[group], free & on_second, SECOND_ALONG)
    _snap(edges, main[group], free & ~on_second & _fits(edges, main[group], slack), ALONG)


def _turn(angle: Floats) -> Floats:
    """The turn to the nearest multiple of a right angle."""
    return angle - _RIGHT * np.round(angle / _RIGHT)


def _fits(edges: Edges, direction: Floats, slack: Floats) -> Bools:
    turn = np.abs(_turn(edges.angle - direction))
    return np.asarray((turn < _WIDEST) & (edges.length / 2 * np.sin(turn) < slack))


def _snap(edges: Edges, direction: Floats, chosen: Bools, kind: int) -> None:
    quarters = np.round((edges.angle[chosen] - direction[chosen]) / _RIGHT)
    edges.angle[chosen] = direction[chosen] + quarters * _RIGHT
    edges.kind[chosen] = kind + quarters.astype(np.int64) % 2


def _peaks(edges: Edges, group: Ints, groups: int, chosen: Bools) -> Floats:
    """The most frequent direction of each group by length, modulo a right angle; NaN without edges."""
    share = (edges.angle[chosen] % _RIGHT) / _RIGHT * _BINS
    low = np.floor(share).astype(np.int64)
    weight = edges.length[chosen] ** 1.5
    rows = group[chosen] * _BINS
    table = np.bincount(rows + low % _BINS, weight * (1 - share + low), groups * _BINS)
    table += np.bincount(rows + (low + 1) % _BINS, weight * (share - low), groups * _BINS)
    table = table.reshape(groups, _BINS)
    smooth = sum(np.roll(table, shift, axis=1) * (4 - abs(shift)) for shift in range(-3, 4))
    peak = np.argmax(smooth, axis=1) * (_RIGHT / _BINS)
    return np.where(np.max(smooth, axis=1) > 0, peak, np.nan)


def _refine(edges: Edges, group: Ints, direction: Floats, chosen: Bools) -> Floats:
    """The direction that the edges near it fit best together, each through its own middle."""
    turn = edges.angle - direction[group]
    near = chosen & (np.abs(_turn(turn)) < _REACH)
    xx, xy, yy = scatter(edges.moments[near]).T
    odd = np.round(turn[near] / _RIGHT).astype(np.int64) % 2 == 1
    groups = len(direction)
    sine = np.bincount(group[near], np.where(odd, -2 * xy, 2 * xy), groups)
    cosine = np.bincount(group[near], np.where(odd, yy - xx, xx - yy), groups)
    angle = np.arctan2(sine, cosine) / 2
    better = direction + _turn(angle - direction)
    return np.where(np.hypot(sine, cosine) > 0, better, direction)
