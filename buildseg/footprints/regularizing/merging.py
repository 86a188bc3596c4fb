"""Merges edges along one line, drops cut corners and jogs, and puts in what is missing between parallel edges."""

import numpy as np

from buildseg.footprints.regularizing.arcs import Arcs, Bools, Floats, Ints
from buildseg.footprints.regularizing.edges import (
    OWN,
    PLAIN,
    SECOND_ACROSS,
    Edges,
    joined,
    line_angle,
    middle,
    neighbours,
)

_ROUNDS = 400
_LONG = 16
_APART = 4
_PARALLEL = np.sin(np.radians(20))
_NEARLY = np.sin(np.radians(9))


def merge_edges(edges: Edges, arcs: Arcs, origin: Floats, slack: Floats) -> Edges:
    """Merge and drop edges, the least loss first, one of each arc at a time or some that are far apart.

    Args:
        edges: With directions.
        arcs: Their arcs.
        origin: Of each arc's group.
        slack: Metres that a corner or an edge may move, of each arc.

    Returns:
        Fewer edges; rings keep four.
    """
    finished = []
    for _ in range(_ROUNDS):
        loss, action = _losses(edges, arcs, origin, slack)
        chosen = np.flatnonzero((loss < np.inf) & _least_around(loss, edges, arcs))
        active = np.zeros(len(arcs.closed), np.bool_)
        active[edges.arc[chosen]] = True
        finished.append(edges.take(~active[edges.arc]))
        if not len(chosen):
            break
        edges = _act(edges, arcs, chosen, action[chosen])
        edges = edges.take(active[edges.arc])
    else:
        finished.append(edges)
    together = joined(finished)
    return together.take(np.argsort(together.arc, kind="stable"))


def _least_around(loss: Floats, edges: Edges, arcs: Arcs) -> Bools:
    """Whether an edge's loss is the least of its arc; in long arcs, of the edges that going would change for others."""
    rank = np.empty(len(loss), np.int64)
    rank[np.argsort(loss, kind="stable")] = np.arange(len(loss))
    least = np.full(len(arcs.closed), len(loss))
    np.minimum.at(least, edges.arc, rank)
    long = (np.bincount(edges.arc, minlength=len(arcs.closed)) >= _LONG)[edges.arc]
    local = long.copy()
    for way in neighbours(edges, arcs):
        place = way
        for _ in range(_APART):
            local &= (place < 0) | (rank <= rank[place])
            place = np.where(place < 0, -1, way[place])
    return np.where(long, local, rank == least[edges.arc])


_JOIN, _EXTEND, _SPAN, _SHED = range(4)
_WAYS = np.arange(4) == _EXTEND
_CORNER = 1.6


def _losses(edges: Edges, arcs: Arcs, origin: Floats, slack: Floats) -> tuple[Floats, Ints]:
    """For each edge the least move by which it goes, and how; infinite where there is no such way."""
    before, after = neighbours(edges, arcs)
    count = np.bincount(edges.arc, minlength=len(arcs.closed))[edges.arc]
    ring = arcs.closed[edges.arc]
    limit = slack[edges.arc]
    join = _offset(edges, np.arange(len(edges.arc)), after)
    join[(after < 0) | (ring & (count < 5))] = np.inf
    extend, span = np.full((2, len(join)), np.inf)
    between = np.flatnonzero(
        (before >= 0) & (after >= 0) & np.where(ring, count > 4, count > 2) & (edges.length < 4 * limit)
    )
    span[between] = _offset(edges, before[between], after[between])
    span[ring & (count < 6)] = np.inf
    extend[between] = _reach(edges, arcs, origin, (before, between, after))
    losses = np.stack([join, extend, span, _end_loss(edges, arcs, origin, limit)])
    losses[:, edges.kind == PLAIN] = np.inf
    losses[losses > np.where(_WAYS[:, None] & (edges.kind == OWN), _CORNER, 1) * limit] = np.inf
    return losses.min(axis=0), losses.argmin(axis=0)


def _end_loss(edges: Edges, arcs: Arcs, origin: Floats, limit: Floats) -> Floats:
    """How far beside a junction the line of the next edge passes, for short edges at an end of their arc."""
    begins = edges.begins(len(arcs.closed))
    losses = np.full(len(edges.arc), np.inf)
    long = np.flatnonzero(~arcs.closed & (np.diff(begins) > 1))
    for edge, step, point in ((begins[:-1], 1, arcs.first[:-1]), (begins[1:] - 1, -1, arcs.first[1:] - 1)):
        last = edge[long]
        short = (edges.length[last] < 4 * limit[last]) & (edges.kind[last] != PLAIN)
        ends, last = long[short], last[short]
        aside = arcs.points[point[ends]] - origin[ends] - middle(edges.moments[last + step])
        angle = edges.angle[last + step]
        losses[last] = np.abs(aside[:, 1] * np.cos(angle) - aside[:, 0] * np.sin(angle))
    return losses


def _offset(edges: Edges, one: Ints, other: Ints) -> Floats:
    """How far the shorter of two edges moves when they become one; infinite unless they run the same way."""
    middles = middle(edges.moments)
    turn = edges.angle[other] - edges.angle[one]
    longer = np.where(edges.length[one] >= edges.length[other], one, other)
    angle = edges.angle[longer]
    apart = middles[other] - middles[one]
    offset = np.abs(apart[:, 1] * np.cos(angle) - apart[:, 0] * np.sin(angle))
    share = edges.length[longer] / (edges.length[one] + edges.length[other])
    same = (edges.kind[one] == edges.kind[other]) | (np.abs(np.sin(turn)) < _NEARLY)
    alike = same & (np.abs(np.sin(turn)) < _PARALLEL) & (np.cos(turn) > 0)
    alike &= (edges.kind[one] != PLAIN) & (edges.kind[other] != PLAIN)
    return np.where(alike, offset * share, np.inf)


def _reach(edges: Edges, arcs: Arcs, origin: Floats, triple: tuple[Ints, Ints, Ints]) -> Floats:
    """How far from an edge's middle its neighbours meet without it; infinite where they are nearly parallel."""
    before, edge, after = triple[0][triple[1]], triple[1], triple[2][triple[1]]
    cross, where = _meeting(edges, before, after)
    point = arcs.points[edges.mid[edge]] - origin[edges.arc[edge]]
    reach = np.hypot(*(where - point).T)
    lined = (edges.kind[before] != PLAIN) & (edges.kind[after] != PLAIN)
    return np.where(lined & (np.abs(cross) > _PARALLEL), reach, np.inf)


def _meeting(edges: Edges, one: Ints, other: Ints) -> tuple[Floats, Floats]:
    """The sine of the turn between two lines, and where they meet."""
    middles = middle(edges.moments)
    a, b = ((np.stack([np.cos(angle), np.sin(angle)], axis=1)) for angle in (edges.angle[one], edges.angle[other]))
    cross = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    apart = middles[other] - middles[one]
    along = (apart[:, 0] * b[:, 1] - apart[:, 1] * b[:, 0]) / np.where(cross == 0, 1, cross)
    return cross, middles[one] + a * along[:, None]


def _act(edges: Edges, arcs: Arcs, chosen: Ints, action: Ints) -> Edges:
    before, after = neighbours(edges, arcs)
    gone = np.zeros(len(edges.arc), np.bool_)
    joined, extended, spanned = (chosen[action == way] for way in (_JOIN, _EXTEND, _SPAN))
    gone[chosen[action != _JOIN]] = True
    shed = chosen[(action == _SHED) & (before[chosen] < 0)]
    edges.at[after[shed]], edges.corner[after[shed]] = edges.at[shed], edges.corner[shed]
    edges.at[after[extended]] = edges.mid[extended]
    edges.corner[after[extended]] = arcs.points[edges.mid[extended]]
    one = np.concatenate([joined, before[spanned]])
    other = np.concatenate([after[joined], after[spanned]])
    _unite(edges, one, other, gone)
    return edges.take(~gone)


def _unite(edges: Edges, one: Ints, other: Ints, gone: Bools) -> None:
    """Make one edge of two, in the place of the longer one, whose direction counts."""
    first_longer = edges.length[one] >= edges.length[other]
    longer, shorter = np.where(first_longer, one, other), np.where(first_longer, other, one)
    gone[shorter] = True
    edges.at[longer], edges.corner[longer] = edges.at[one], edges.corner[one]
    edges.moments[longer] += edges.moments[shorter]
    edges.chord[longer] += edges.chord[shorter]
    edges.length[longer] += edges.length[shorter]
    own = longer[edges.kind[longer] == OWN]
    edges.angle[own] = line_angle(edges.moments[own], edges.chord[own])


def connect_parallels(edges: Edges, arcs: Arcs, origin: Floats) -> Edges:
    """Put an edge across between two that follow each other in one direction of the group.

    Args:
        edges: After `merge_edges`.
        arcs: Their arcs.
        origin: Of each arc's group.

    Returns:
        The edges with those between.
    """
    before, _ = neighbours(edges, arcs)
    lined = (edges.kind <= SECOND_ACROSS) & (before >= 0)
    place = np.flatnonzero(lined & (edges.kind == edges.kind[before]))
    step = edges.take(place)
    # Where a ring's first edge starts before the ring's first point, that point is as good.
    step.at = np.where(step.at > step.mid, arcs.first[step.arc], step.at)
    step.mid = step.at
    step.corner = arcs.points[step.at]
    step.kind = step.kind ^ 1
    x, y = (step.corner - origin[step.arc]).T
    step.moments = 1e-9 * np.stack([np.ones(len(x)), x, y, x * x, x * y, y * y], axis=1)
    step.angle = step.angle + np.pi / 2
    step.length = np.full(len(x), 1e-9)
    return edges.put(place, step)
