import math

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely.affinity import rotate, scale, translate

from buildseg.evaluation.outlines import angle_error, hausdorff, iou, polis, vertex_ratio

SQUARE = shapely.box(0, 0, 10, 10)
FRAME = shapely.Polygon(SQUARE.exterior, [shapely.box(3, 3, 6, 6).exterior])
MEASURES = [iou, polis, angle_error, vertex_ratio, hausdorff]


def pair(polygon, truth):
    return np.array([polygon], np.object_), np.array([truth], np.object_)


def star(seed, corners):
    rng = np.random.default_rng(seed)
    turns = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    outward = np.column_stack([np.cos(turns), np.sin(turns)])
    rings = [outward * rng.uniform(low, high, (corners, 1)) for low, high in ((5, 12), (1, 3))]
    return shapely.Polygon(rings[0], rings[1:] if corners > 4 else [])


def slow_distance(point, polygon):
    """From a point to the nearest edge, from the formula."""
    best = math.inf
    for ring in (polygon.exterior, *polygon.interiors):
        for (ax, ay), (bx, by) in zip(ring.coords[:-1], ring.coords[1:], strict=True):
            along = ((point[0] - ax) * (bx - ax) + (point[1] - ay) * (by - ay)) / ((bx - ax) ** 2 + (by - ay) ** 2)
            along = min(1, max(0, along))
            best = min(best, math.hypot(point[0] - ax - along * (bx - ax), point[1] - ay - along * (by - ay)))
    return best


def slow_polis(a, b):
    """The definition: 1/(2q) of a's vertices' distances to b's boundary and 1/(2r) of b's to a's."""
    total = 0.0
    for here, there in ((a, b), (b, a)):
        vertices = [vertex for ring in (here.exterior, *here.interiors) for vertex in ring.coords[:-1]]
        total += sum(slow_distance(vertex, there) for vertex in vertices) / (2 * len(vertices))
    return total


polygons = st.builds(star, st.integers(0, 1000), st.integers(3, 12))


@given(st.lists(st.tuples(polygons, polygons, st.floats(-8, 8)), min_size=1, max_size=4))
def test_polis_is_what_its_definition_says(pairs):
    ours = np.array([translate(polygon, by, -by) for polygon, _, by in pairs])
    truths = np.array([truth for _, truth, _ in pairs])
    expected = [slow_polis(a, b) for a, b in zip(ours, truths, strict=True)]
    assert polis(ours, truths) == pytest.approx(expected, abs=1e-9)
    assert polis(truths, ours) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("polygon", [SQUARE, FRAME, star(3, 9), shapely.MultiPolygon([SQUARE, translate(FRAME, 30)])])
def test_equal_outlines(polygon):
    same = pair(polygon, polygon.reverse())
    assert [measure(*same)[0] for measure in MEASURES] == pytest.approx([1, 0, 0, 1, 0], abs=1e-6)


def test_square_beside_itself():
    shifted = pair(translate(SQUARE, 1), SQUARE)
    assert iou(*shifted) == pytest.approx([90 / 110])
    # Two corners of each lie on or within the other's sides 0 and 1 away.
    assert polis(*shifted) == pytest.approx([slow_polis(translate(SQUARE, 1), SQUARE)])
    assert hausdorff(*shifted) == pytest.approx([1])
    assert angle_error(*shifted) == pytest.approx([0], abs=1e-6)


def test_apart_and_without_area():
    assert list(iou(*pair(SQUARE, translate(SQUARE, 50)))) == [0]
    flat = shapely.Polygon([(0, 0), (1, 0), (0, 0)])
    assert list(iou(*pair(flat, flat))) == [0]


def test_holes_count():
    frame = pair(FRAME, SQUARE)
    assert iou(*frame) == pytest.approx([0.91])
    assert polis(*frame) == pytest.approx([(4 * 0 + 3 + 3 + 3 + 4) / 8 / 2])
    assert vertex_ratio(*frame) == pytest.approx([2])
    assert hausdorff(*frame) == pytest.approx([4])


@pytest.mark.parametrize("degrees", [2.0, 10.0, 20.0])
def test_turned_square_is_wrong_by_its_turn(degrees):
    assert angle_error(*pair(rotate(SQUARE, degrees), SQUARE)) == pytest.approx([degrees], abs=1e-6)


@pytest.mark.parametrize("by", [0.1, 1, 6])
def test_cut_corner_is_wrong_by_its_angle(by):
    cut = shapely.Polygon([(0, 0), (10, 0), (10, 10 - by), (10 - by, 10), (0, 10)])
    assert angle_error(*pair(cut, SQUARE)) == pytest.approx([45], abs=1e-6)


def test_staircase_along_a_wall_projects_to_nothing_where_it_turns():
    steps = [(x + dx, 10 + (x % 2) * 0.2) for x in range(10) for dx in (0, 1)]
    staircase = shapely.Polygon([(0, 0), (10, 0), *reversed(steps)])
    assert angle_error(*pair(staircase, SQUARE)) == pytest.approx([0], abs=1e-6)
    assert vertex_ratio(*pair(staircase, SQUARE)) == pytest.approx([22 / 4])


def test_no_step_counts_where_all_project_to_one_corner():
    assert np.isnan(angle_error(*pair(translate(scale(SQUARE, 0.2, 0.2), 30, 30), SQUARE))).all()


def test_many_at_once_are_what_each_is_alone():
    ours = np.array([star(seed, 3 + seed) for seed in range(9)])
    truths = np.array([translate(star(seed + 50, 11 - seed), 1) for seed in range(9)])
    for measure in MEASURES:
        alone = [measure(ours[i : i + 1], truths[i : i + 1])[0] for i in range(9)]
        assert measure(ours, truths) == pytest.approx(alone)


@pytest.mark.parametrize("measure", MEASURES)
def test_no_pairs(measure):
    nothing = np.zeros(0, np.object_)
    assert measure(nothing, nothing).shape == (0,)
