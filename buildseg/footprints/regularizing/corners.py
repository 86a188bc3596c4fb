"""Places the corners where lines meet, and bounds how far the result is from the contour."""

import numpy as np

from buildseg.footprints.regularizing.arcs import Arcs, Bools, Floats, Ints, owners
from buildseg.footprints.regularizing.edges import (
    OWN,
    PLAIN,
    SECOND_ACROSS,
    Edges,
    NodeNumbers,
    line_angle,
    middle,
)

_LIGHT = 0.01
_PULL = 1e-3
_CLEAR = 1 - np.cos(np.radians(18))
_SAME_LINE = np.radians(8)


def pool_lines(edges: Edges, nodes: NodeNumbers, junctions: int, slack: float) -> None:
    """Give edges that meet at a junction along one line the same line.

    Args:
        edges: Gets `moments`, and `angle` where it is the edge's own.
        nodes: From `number_nodes`.
        junctions: How many there are.
        slack: Metres that two lines may be apart to count as one.
    """
    one, other = _pairs(nodes, junctions)
    if not len(one):
        return
    same = _on_one_line(edges, one, other, slack)
    leader = _components(len(edges.arc), one[same], other[same])
    members = np.flatnonzero(np.bincount(leader, minlength=len(leader))[leader] > 1)
    sums = np.zeros_like(edges.moments)
    np.add.at(sums, leader[members], edges.moments[members])
    edges.moments[members] = sums[leader[members]]
    own = members[edges.kind[members] == OWN]
    edges.angle[own] = line_angle(edges.moments[own], edges.chord[own])


def _pairs(nodes: NodeNumbers, junctions: int) -> tuple[Ints, Ints]:
    """Every two edges that meet at a junction."""
    node = np.concatenate(nodes)
    edge = np.tile(np.arange(len(nodes[0])), 2)[node < junctions]
    node = node[node < junctions]
    order = np.lexsort((edge, node))
    edge, node = edge[order], node[order]
    ahead = [np.flatnonzero(node[k:] == node[:-k]) for k in range(1, 4)]
    one = np.concatenate([edge[index] for index in ahead])
    other = np.concatenate([edge[index + k] for k, index in enumerate(ahead, 1)])
    return one, other


def _on_one_line(edges: Edges, one: Ints, other: Ints, slack: float) -> Bools:
    lined = (edges.kind[one] == edges.kind[other]) & (edges.kind[one] != PLAIN)
    turn = np.abs(np.sin(edges.angle[one] - edges.angle[other]))
    apart = middle(edges.moments[other]) - middle(edges.moments[one])
    longer = np.where(edges.length[one] >= edges.length[other], one, other)
    offset = np.abs(apart[:, 1] * np.cos(edges.angle[longer]) - apart[:, 0] * np.sin(edges.angle[longer]))
    return np.asarray(lined & (turn < np.sin(_SAME_LINE)) & (offset < slack))


def _components(count: int, one: Ints, other: Ints) -> Ints:
    """The least number that each can be reached from along pairs."""
    leader = np.arange(count)
    while True:
        least = np.minimum(leader[one], leader[other])
        lower = leader.copy()
        for end in (leader[one], leader[other], one, other):
            np.minimum.at(lower, end, least)
        lower = lower[lower]
        if np.array_equal(lower, leader):
            return leader
        leader = lower


def place_nodes(edges: Edges, nodes: NodeNumbers, marks: Floats, origin: Floats) -> Floats:
    """Place each node where the lines of its edges meet.

    Where lines are nearly parallel, or there are none, the node's mark counts.

    Args:
        edges: With lines.
        nodes: From `number_nodes`.
        marks: Where the contour has the nodes, shape (m, 2).
        origin: Of each edge's group, shape (n, 2).

    Returns:
        Positions, shape (m, 2).
    """
    count = len(marks)
    lined = np.flatnonzero(edges.kind != PLAIN)
    node = np.concatenate([nodes[0][lined], nodes[1][lined]])
    normal = np.stack([-np.sin(edges.angle[lined]), np.cos(edges.angle[lined])], axis=1)
    offset = (normal * (middle(edges.moments[lined]) + origin[lined])).sum(axis=1)
    weight = np.tile(np.where(edges.kind[lined] <= SECOND_ACROSS, 1, _LIGHT), 2)
    # From the mark, so that the numbers stay small.
    normal, offset = np.tile(normal, (2, 1)), np.tile(offset, 2)
    offset = offset - (normal * marks[node]).sum(axis=1)

    def total(value: Floats) -> Floats:
        return np.asarray(np.bincount(node, value, count), np.float64)

    x, y = normal.T
    xx, xy, yy = total(x * x), total(x * y), total(y * y)
    clear = (xx + yy) / 2 - np.hypot((xx - yy) / 2, xy) > _CLEAR
    pull = np.where(clear, 0, _PULL)
    xx, xy, yy = total(weight * x * x) + pull, total(weight * x * y), total(weight * y * y) + pull
    right_x, right_y = total(weight * offset * x), total(weight * offset * y)
    scale = xx * yy - xy * xy
    moved = np.stack([right_x * yy - right_y * xy, right_y * xx - right_x * xy], axis=1) / scale[:, None]
    return np.asarray(marks + moved)


def part_contour(arcs: Arcs, edges: Edges, nodes: NodeNumbers, places: Floats) -> tuple[Ints, Floats]:
    """Part the contour at the points nearest to the corners, one part for each edge.

    Args:
        arcs: The arcs.
        edges: Their edges.
        nodes: From `number_nodes`.
        places: Where the nodes lie.

    Returns:
        The edge that each point belongs to, and for each edge how far its end is from where the contour is parted.
    """
    begins = edges.begins(len(arcs.closed))
    arc = owners(arcs.first)
    index = np.arange(len(arc))
    edge = np.searchsorted(edges.mid, index, side="right") - 1
    head = edge < begins[arc]
    edge = np.where(head, begins[arc + 1] - 1, edge)
    # Along the arc from the middle of one edge to that of the next, over the ring's start.
    position = index + np.where(head, np.diff(arcs.first)[arc], 0)
    inner = (edge + 1 < begins[arc + 1]) | arcs.closed[arc]
    follower = np.arange(1, len(edges.arc) + 1)
    follower[begins[1:] - 1] = begins[:-1]
    # The middles themselves count on both sides: an edge may stand for one step of the contour.
    parting, nearest = edges.mid.copy(), _distance(arcs.points[edges.mid], places[nodes[1]])
    beyond = _distance(arcs.points[edges.mid[follower]], places[nodes[1]])
    wrapped = edges.mid[follower] + np.where(follower > np.arange(len(follower)), 0, np.diff(arcs.first)[edges.arc])
    parting, nearest = np.where(beyond < nearest, wrapped, parting), np.minimum(beyond, nearest)
    off = _distance(arcs.points, places[nodes[1][edge]])
    np.minimum.at(nearest, edge[inner], off[inner])
    hit = np.flatnonzero(inner & (off == nearest[edge]))[::-1]
    parting[edge[hit]] = position[hit]
    edge = np.where(inner & (position > parting[edge]), follower[edge], edge)
    edge = np.where(~inner & head, begins[arc], edge)
    return edge, nearest


def deviations(arcs: Arcs, edges: Edges, nodes: NodeNumbers, places: Floats) -> Floats:
    """Bound the Hausdorff distance between each arc and its edges.

    Within the part of the contour that belongs to an edge, the distance to the edge is largest at a vertex, for an
    edge is convex. The other way, the part's shadow on the edge's line is without a gap, and what of the edge it
    leaves out ends at a corner: no farther off than the corner is from where the contour is parted.

    Args:
        arcs: The arcs.
        edges: Their edges.
        nodes: From `number_nodes`.
        places: Where the nodes lie.

    Returns:
        Metres, at least the distance, both ways, of each arc.
    """
    edge, nearest = part_contour(arcs, edges, nodes, places)
    distance = _to_segments(arcs.points, places[nodes[0][edge]], places[nodes[1][edge]])
    worst = np.maximum.reduceat(distance, arcs.first[:-1])
    within = np.append(edges.arc[1:] == edges.arc[:-1], False) | arcs.closed[edges.arc]
    np.maximum.at(worst, edges.arc[within], nearest[within])
    opened = np.flatnonzero(~arcs.closed)
    for end, point in ((0, arcs.first[opened]), (1, arcs.first[opened + 1] - 1)):
        worst[opened] = np.maximum(worst[opened], _distance(arcs.points[point], places[arcs.ends[opened, end]]))
    return np.asarray(worst)


def _distance(one: Floats, other: Floats) -> Floats:
    return np.asarray(np.hypot(*(one - other).T))


def _to_segments(points: Floats, start: Floats, end: Floats) -> Floats:
    along = end - start
    square = (along**2).sum(axis=1)
    share = ((points - start) * along).sum(axis=1) / np.where(square > 0, square, 1)
    nearest = start + np.clip(share, 0, 1)[:, None] * along
    return _distance(points, nearest)
