from itertools import pairwise

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize, shapes
from scipy import ndimage
from shapely import affinity

from buildseg.evaluation.outlines import angle_error, iou, polis
from buildseg.footprints.contours import contour_level, trace
from buildseg.footprints.marching import NODATA
from buildseg.footprints.regularize import RegularizeOptions, regularize
from buildseg.footprints.regularizing import arcs as arcs_module
from tiling.errors import OptionError

GSD = 0.3
BOUND = 0.9
FINE = 5


def probability(truths, side, *, noise=0.05, seed=0):
    """Each pixel's share of building, blurred, with noise."""
    rng = np.random.default_rng(seed)
    fine = rasterize(truths, (side * FINE, side * FINE), transform=Affine.scale(GSD / FINE))
    share = fine.reshape(side, FINE, side, FINE).mean(axis=(1, 3))
    grain = ndimage.gaussian_filter(rng.standard_normal((side, side)), 1)
    return (np.clip(ndimage.gaussian_filter(share, 0.8) + grain * noise / grain.std(), 0, 1) * 254).astype(np.uint8)


def contours(samples, smallest=2):
    traced, _ = trace(np.pad(samples, 1, constant_values=NODATA), contour_level(0.5), -1, -1)
    polygons = shapely.normalize(shapely.transform(traced.polygons, lambda points: points * GSD))
    return polygons[shapely.area(polygons) >= smallest]


def split(polygons, cells):
    """Cut polygons along the borders of cells of pixels: a coverage, and which polygon each part is of."""
    borders = [shapely.geometry.shape(cell).boundary for cell, _ in shapes(cells, transform=Affine.scale(GSD))]
    lines = shapely.node(shapely.union_all([*shapely.boundary(polygons), *borders]))
    faces = shapely.get_parts(shapely.polygonize(shapely.get_parts(lines)))
    part, whole = shapely.STRtree(polygons).query(shapely.point_on_surface(faces), predicate="within")
    return faces[part], whole


def nearest_cells(side, seeds):
    rows, cols = np.mgrid[:side, :side] + 0.5
    distance = (rows[..., None] - seeds[:, 0]) ** 2 + (cols[..., None] - seeds[:, 1]) ** 2
    return distance.argmin(axis=-1).astype(np.int32)


def farthest(polygon, other):
    """How far points along a boundary, 2 cm apart, are from another boundary."""
    points = shapely.points(shapely.get_coordinates(shapely.segmentize(polygon.boundary, 0.02)))
    return shapely.distance(points, other.boundary).max()


def regular(truth, *, seed=0, bound=BOUND):
    """Regularise what the network would see of a building; its contour, the result, and the status."""
    truth = affinity.translate(truth, 3 - truth.bounds[0], 3 - truth.bounds[1])
    side = int(max(truth.bounds[2:]) / GSD) + 12
    traced = contours(probability([truth], side, seed=seed))
    assert len(traced) == 1
    made, status = regularize(traced, np.zeros(1, np.int64), RegularizeOptions(bound))
    return truth, traced[0], made[0], status[0]


def corners(polygon):
    return shapely.get_num_coordinates(polygon) - 1 - len(polygon.interiors)


def directions(polygon):
    """Angles of the edges, degrees."""
    steps = np.diff(np.array(polygon.exterior.coords), axis=0)
    return np.degrees(np.arctan2(steps[:, 1], steps[:, 0]))


@st.composite
def towns(draw):
    """Contours of noise, plateaus and turned boxes, whole or cut by cells, with groups and a bound."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    side = draw(st.integers(8, 48))
    kind = draw(st.sampled_from(["raw", "smooth", "boxes"]))
    if kind == "raw":
        samples = rng.integers(0, 255, (side, side)).astype(np.uint8)
    elif kind == "smooth":
        grain = ndimage.gaussian_filter(rng.standard_normal((side, side)), rng.uniform(0.5, 4))
        samples = np.clip(127 + 127 * grain / grain.std(), 0, 254).astype(np.uint8)
    else:
        places = rng.uniform(0, GSD * side, (8, 2))
        boxes = [
            affinity.rotate(shapely.box(x, y, x + rng.uniform(1, 8), y + rng.uniform(1, 8)), rng.uniform(0, 90))
            for x, y in places
        ]
        samples = probability(boxes, side, noise=rng.uniform(0, 0.15), seed=side)
    polygons = contours(samples, 0.05)
    groups = np.arange(len(polygons))
    if draw(st.booleans()) and len(polygons):
        seeds = rng.uniform(0, side, (draw(st.integers(2, 9)), 2))
        polygons, groups = split(polygons, nearest_cells(side, seeds))
    return polygons, groups, draw(st.sampled_from([0.05, 0.2, 0.6, 0.9, 3.0]))


@settings(deadline=None, max_examples=60)
@given(towns())
def test_results_are_valid_within_the_bound_and_part_nothing_and_overlap_nowhere(town):
    polygons, groups, bound = town
    made, status = regularize(polygons, groups, RegularizeOptions(bound))
    assert len(made) == len(status) == len(polygons)
    assert set(status) <= {"regularized", "kept"}
    assert shapely.is_valid(made).all()
    assert set(shapely.get_type_id(made)) <= {shapely.GeometryType.POLYGON}
    for polygon, contour in zip(made, polygons, strict=True):
        assert farthest(polygon, contour) <= bound * (1 + 1e-9)
        assert farthest(contour, polygon) <= bound * (1 + 1e-9)
    assert not len(polygons) or shapely.coverage_is_valid(made)


@settings(deadline=None, max_examples=40)
@given(towns(), st.randoms(use_true_random=False))
def test_results_depend_on_no_order_and_on_no_other_group(town, random):
    polygons, groups, bound = town
    made, status = regularize(polygons, groups, RegularizeOptions(bound))
    order = np.array(random.sample(range(len(polygons)), len(polygons)), np.int64)
    again, status_again = regularize(polygons[order], 7 * groups[order] - 3, RegularizeOptions(bound))
    assert shapely.equals_exact(shapely.normalize(again), shapely.normalize(made[order]), 1e-9).all()
    assert (status_again == status[order]).all()
    if len(polygons):
        chosen = groups == groups[order[0]]
        alone, _ = regularize(polygons[chosen], groups[chosen], RegularizeOptions(bound))
        if shapely.coverage_is_valid(np.concatenate([alone, made[~chosen]])):
            assert shapely.equals_exact(alone, made[chosen], 1e-9).all() or "kept" in status[chosen]


@settings(deadline=None, max_examples=60)
@given(towns())
def test_arcs_put_together_are_the_polygons_they_were_cut_from(town):
    polygons, groups, _ = town
    if not len(polygons):
        return
    arcs = arcs_module.cut(polygons, np.unique(groups, return_inverse=True)[1])
    index = np.arange(len(arcs.points))
    ends = np.zeros(len(index), np.bool_)
    ends[arcs.first[1:] - 1] = True
    edges = np.cumsum(~ends)
    edge_first = np.concatenate([[0], edges[arcs.first[1:] - 1]])
    together = arcs_module.assemble(arcs.rings, edge_first, index[~ends], index[~ends] + 1, arcs.points)
    assert shapely.equals_exact(shapely.normalize(together), shapely.normalize(polygons), 0).all()
    lengths = np.add.reduceat(np.append(np.hypot(*np.diff(arcs.points, axis=0).T) * ~ends[:-1], 0), arcs.first[:-1])
    assert lengths.sum() == pytest.approx(
        sum(shapely.length(shapely.union_all(shapely.boundary(polygons[groups == g]))) for g in set(groups))
    )


@pytest.mark.parametrize("angle", [0, 23, 45, 61])
def test_l_shape_has_right_angles_and_fits_better_than_its_contour(angle):
    shape = affinity.rotate(shapely.union_all([shapely.box(0, 0, 14, 8), shapely.box(0, 0, 6, 18)]), angle)
    truth, contour, made, status = regular(shape, seed=angle)
    assert status == "regularized"
    assert corners(made) == 6
    turns = directions(made) - directions(made)[0]
    assert np.abs(turns - 90 * np.round(turns / 90)).max() < 1e-6
    assert angle_error(*np.array([[made], [truth]]))[0] < 1
    assert iou(*np.array([[made], [truth]]))[0] > 0.98
    assert polis(*np.array([[made], [truth]]))[0] < 0.6 * polis(*np.array([[contour], [truth]]))[0]


def test_courtyard_stays_and_is_parallel_to_the_walls():
    court = shapely.difference(shapely.box(0, 0, 22, 22), shapely.box(7, 7, 15, 14))
    truth, _, made, status = regular(affinity.rotate(court, 31))
    assert status == "regularized"
    assert len(made.interiors) == 1
    assert corners(made) == 8
    assert iou(*np.array([[made], [truth]]))[0] > 0.97


@pytest.mark.parametrize("turn", [45, 30])
def test_wing_in_a_second_direction_keeps_it(turn):
    wing = affinity.rotate(shapely.box(0, 0, 16, 7), turn, (0, 0))
    shape = shapely.union_all([shapely.box(-16, 0, 2, 8), wing])
    truth, _, made, status = regular(affinity.rotate(shape, 17), seed=2)
    assert status == "regularized"
    along = directions(made) - 17
    off = np.minimum(
        np.abs(along - 90 * np.round(along / 90)), np.abs(along - turn - 90 * np.round((along - turn) / 90))
    )
    assert off.max() < 1.5
    assert angle_error(*np.array([[made], [truth]]))[0] < 3


def test_slanted_wall_is_one_straight_edge():
    truth, _, made, status = regular(shapely.Polygon([(0, 0), (20, 0), (16, 10), (0, 13)]))
    assert status == "regularized"
    assert corners(made) == 4
    assert angle_error(*np.array([[made], [truth]]))[0] < 2


@pytest.mark.parametrize("radius", [2, 6, 15])
def test_circle_becomes_a_regular_polygon_of_its_area(radius):
    truth, _, made, status = regular(shapely.Point(0, 0).buffer(radius, quad_segs=64))
    assert status == "regularized"
    sides = np.hypot(*np.diff(np.array(made.exterior.coords), axis=0).T)
    assert corners(made) >= 12
    assert np.ptp(sides) < 1e-6
    assert made.area == pytest.approx(truth.area, rel=0.05)


def test_small_shed_becomes_a_rectangle():
    _, _, made, status = regular(affinity.rotate(shapely.box(0, 0, 2.4, 3), 20))
    assert status == "regularized"
    assert corners(made) == 4


@pytest.mark.parametrize("seed", range(3))
def test_row_houses_share_their_walls_and_one_facade(seed):
    rng = np.random.default_rng(seed)
    walls = np.concatenate([[0], np.cumsum(rng.uniform(4.8, 6.2, 6))])
    houses = [affinity.rotate(shapely.box(a, 0, b, 9), 23, (0, 0)) for a, b in pairwise(walls)]
    houses = np.array([affinity.translate(house, 6, 3) for house in houses])
    side = 140
    number = rasterize(zip(houses, range(1, 7), strict=True), (side, side), transform=Affine.scale(GSD))
    rows, cols = ndimage.distance_transform_edt(number == 0, return_distances=False, return_indices=True)
    cells = number[rows, cols].astype(np.int32)
    polygons, groups = split(contours(probability(houses, side, seed=seed)), cells)
    assert len(polygons) == 6
    made, status = regularize(polygons, groups, RegularizeOptions(BOUND))
    assert (status == "regularized").all()
    assert shapely.coverage_is_valid(made)
    row = shapely.union_all(made)
    assert row.geom_type == "Polygon"
    assert not row.interiors
    assert corners(row.simplify(1e-6)) == 4
    order = np.argsort(shapely.get_coordinates(shapely.centroid(made))[:, 0])
    assert iou(made[order], houses).min() > 0.95


def test_neighbour_a_pixel_away_is_not_overlapped():
    upper = shapely.difference(shapely.box(0, 0, 20, 6), shapely.box(8, 5.5, 12, 7))
    lower = shapely.box(8.2, 5.6, 11.8, 14)
    polygons = shapely.segmentize(np.array([upper, lower]), 0.2)
    options = RegularizeOptions(1.5)
    alone = np.concatenate([regularize(polygons[[n]], np.zeros(1, np.int64), options)[0] for n in (0, 1)])
    assert alone[0].overlaps(alone[1])
    made, _ = regularize(polygons, np.arange(2), options)
    assert not made[0].intersects(made[1])


def test_what_cannot_be_regular_within_the_bound_is_kept_with_fewer_vertices():
    angles = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    radius = 10 + 0.8 * np.sin(9 * angles) + 0.3 * np.sin(31 * angles)
    star = shapely.Polygon(np.column_stack([radius * np.cos(angles), radius * np.sin(angles)]))
    made, status = regularize(np.array([star]), np.zeros(1, np.int64), RegularizeOptions(0.002))
    assert status[0] == "kept"
    assert farthest(made[0], star) <= 0.002


def test_nothing_gives_nothing():
    made, status = regularize(np.zeros(0, np.object_), np.zeros(0, np.int64), RegularizeOptions(1))
    assert len(made) == len(status) == 0


@pytest.mark.parametrize("length", [0, -1, float("nan"), float("inf")])
def test_bound_that_is_no_length_is_refused(length):
    with pytest.raises(OptionError, match="--max-deviation"):
        RegularizeOptions(length)
