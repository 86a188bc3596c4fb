"""Outlines parted into buildings: parts cover the outline exactly, and one building stays one."""

import itertools

import numpy as np
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from buildseg.footprints.contours import trace
from buildseg.footprints.regions import narrow_regions, without_small
from buildseg.footprints.split import SplitOptions, split_outline
from buildseg.footprints.walls import _faces, cut_outline, without_slivers
from tiling.errors import OptionError

LEVEL = 126.5
BY_BOUNDARY = SplitOptions("boundary")
BY_DISTANCE = SplitOptions("distance")


def stored(share):
    """Probabilities 0..1 as samples, in a frame of nodata."""
    samples = (np.clip(share, 0, 1) * 254).round().astype(np.uint8)
    samples[[0, -1]] = samples[:, [0, -1]] = 255
    return samples


def inside(shape, size):
    rows, cols = np.mgrid[: size[0], : size[1]] + 0.5
    return shapely.contains_xy(shape, cols, rows)


def seen(houses, size, width=1.7, noise=0.0, seed=0):
    """What a good network says of houses: building, and boundary near each outline."""
    random = np.random.default_rng(seed)
    rims = [house - house.buffer(-width) for house in houses]
    building, boundary = (np.any([inside(s, size) for s in shapes], axis=0) for shapes in (houses, rims))
    blurred = [gaussian_filter(one.astype(float), 0.8) + random.normal(0, noise, size) for one in (building, boundary)]
    return tuple(map(stored, blurred))


def outlines(building):
    contours, _ = trace(building, LEVEL)
    return contours.polygons


def parts_of(houses, size, options, **how):
    building, boundary = seen(houses, size, **how)
    return [part for o in outlines(building) for part in split_outline(o, building, boundary, (0, 0), options)]


def terrace(count=4, width=20, depth=26, angle=0.0):
    houses = [shapely.box(i * width, 0, (i + 1) * width, depth) for i in range(count)]
    turned = shapely.affinity.rotate(shapely.MultiPolygon(houses), angle, origin=(0, 0))
    left, top, right, bottom = turned.bounds
    size = (int(bottom - top) + 12, int(right - left) + 12)
    return list(shapely.affinity.translate(turned, 6 - left, 6 - top).geoms), size


def iou(one, other):
    return shapely.area(shapely.intersection(one, other)) / shapely.area(shapely.union(one, other))


@st.composite
def scenes(draw):
    """Smooth random probabilities, now and then without data, and one of their outlines."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = (draw(st.integers(12, 50)), draw(st.integers(12, 50)))
    spread = draw(st.sampled_from([1.0, 2.0, 3.0]))

    def field(level):
        waves = gaussian_filter(random.normal(0, 1, size), spread)
        return stored(level + 0.35 * waves / waves.std())

    building, boundary = field(draw(st.sampled_from([0.5, 0.65, 0.8]))), field(0.3)
    if draw(st.booleans()):
        row, col = random.integers(1, size)
        building[row : row + 6, col : col + 6] = boundary[row : row + 6, col : col + 6] = 255
    largest = sorted(outlines(building), key=shapely.area, reverse=True)[:3]
    return building, boundary, largest


options = st.builds(SplitOptions, st.sampled_from(["boundary", "distance"]), st.sampled_from([0.0, 8.0, 40.0]))


@settings(max_examples=120, deadline=None)
@given(scenes(), options)
def test_parts_cover_the_outline_exactly(case, options):
    building, boundary, drawn = case
    for outline in drawn:
        parts = split_outline(outline, building, boundary, (0, 0), options)
        assert shapely.is_valid(parts).all() and (shapely.get_type_id(parts) == 3).all()
        assert shapely.coverage_is_valid(parts)
        assert shapely.area(parts).sum() == outline.area
        assert shapely.normalize(shapely.coverage_union_all(parts)) == shapely.normalize(outline)
        steps = shapely.get_coordinates(parts) * 1024
        assert np.array_equal(steps, np.rint(steps))
        assert len(parts) == 1 or shapely.area(parts).min() >= options.min_part


@settings(max_examples=40, deadline=None)
@given(scenes(), options, st.integers(0, 2**32 - 1))
def test_only_what_is_in_the_bounding_box_counts(case, options, seed):
    """Neither samples around it, nor where the scene's first sample is, nor where rings begin."""
    building, boundary, drawn = case
    random = np.random.default_rng(seed)
    for outline in drawn:
        parts = split_outline(outline, building, boundary, (0, 0), options)
        left, top, right, bottom = (int(edge) for edge in (*np.floor(outline.bounds[:2]), *np.ceil(outline.bounds[2:])))
        boxes = [samples[top:bottom, left:right] for samples in (building, boundary)]
        exact = split_outline(outline, *boxes, (top, left), options)
        rings = [np.roll(np.asarray(ring.coords)[:-1], random.integers(99), axis=0) for ring in rings_of(outline)]
        turned = shapely.Polygon(rings[0], rings[1:][::-1])
        above, beside = random.integers(0, 9, 2)
        moved = shapely.affinity.translate(turned, 1000 + beside, 50_000 + above)
        wide = [random.integers(0, 256, (bottom - top + 20, right - left + 20), np.uint8) for _ in boxes]
        for samples, box in zip(wide, boxes, strict=True):
            samples[above : above + bottom - top, beside : beside + right - left] = box
        far = split_outline(moved, *wide, (50_000 + top, 1000 + left), options)
        back = shapely.affinity.translate(shapely.MultiPolygon(list(far)), -1000 - beside, -50_000 - above)
        assert len(exact) == len(parts) == len(far)
        for others in (exact, np.array(back.geoms)):
            assert np.array_equal(shapely.normalize(parts), shapely.normalize(others))


def rings_of(polygon):
    return [polygon.exterior, *polygon.interiors]


@pytest.mark.parametrize("angle", [0, 13, 30, 45, 71])
def test_row_houses_become_houses_with_straight_walls(angle):
    houses, size = terrace(angle=angle)
    assert len(outlines(seen(houses, size)[0])) == 1
    parts = parts_of(houses, size, BY_BOUNDARY, noise=0.02)
    assert len(parts) == 4
    best = [max(parts, key=lambda part: iou(house, part)) for house in houses]
    assert min(map(iou, houses, best)) > 0.85
    for one, other in itertools.pairwise(best):
        wall = shapely.line_merge(shapely.intersection(one, other))
        ends = np.asarray(wall.coords)[[0, -1]]
        assert wall.length < 1.02 * np.linalg.norm(ends[1] - ends[0])
        assert wall.length == pytest.approx(26, abs=2.5)


def test_a_wall_with_a_jog_keeps_it():
    one = shapely.box(6, 6, 30, 20) | shapely.box(6, 20, 24, 36)
    two = shapely.box(6, 6, 54, 36) - one
    parts = parts_of([one, two], (42, 60), BY_BOUNDARY)
    assert len(parts) == 2
    assert all(max(iou(house, part) for part in parts) > 0.93 for house in (one, two))


def test_a_wall_that_was_seen_in_part_still_parts():
    houses, size = terrace(2)
    building, boundary = seen(houses, size)
    row = size[0] // 2
    boundary[row - 3 : row + 3, 10:-10] = 10
    (outline,) = outlines(building)
    assert len(split_outline(outline, building, boundary, (0, 0), BY_BOUNDARY)) == 2
    boundary[10:-10, 10:-10] = 10
    assert len(split_outline(outline, building, boundary, (0, 0), BY_BOUNDARY)) == 1


def test_houses_around_a_courtyard():
    ring = shapely.box(8, 8, 88, 88) - shapely.box(30, 30, 66, 66)
    walls = [
        shapely.box(8, 8, 48, 48),
        shapely.box(48, 8, 88, 48),
        shapely.box(8, 48, 48, 88),
        shapely.box(48, 48, 88, 88),
    ]
    houses = [ring & wall for wall in walls]
    parts = parts_of(houses, (96, 96), BY_BOUNDARY)
    assert len(parts) == 4
    assert min(max(iou(house, part) for part in parts) for house in houses) > 0.9
    assert not any(part.interiors for part in parts)


def shape_of(kind):
    hall = shapely.box(0, 0, 120, 14)
    return {
        "hall": hall,
        "L": hall | shapely.box(0, 0, 14, 60),
        "fat L": shapely.box(0, 0, 50, 50) - shapely.box(25, 25, 50, 50),
        "T": shapely.box(0, 0, 60, 16) | shapely.box(22, 0, 38, 50),
        "U": shapely.box(0, 0, 60, 50) - shapely.box(16, 16, 44, 50),
        "court": shapely.box(0, 0, 70, 60) - shapely.box(18, 18, 52, 42),
        "house with an annexe": shapely.box(0, 0, 40, 40) | shapely.box(40, 5, 50, 20),
        "disc": shapely.Point(0, 0).buffer(25),
    }[kind]


@pytest.mark.parametrize("options", [BY_BOUNDARY, BY_DISTANCE], ids=["boundary", "distance"])
@pytest.mark.parametrize("angle", [0, 10, 33, 45])
@pytest.mark.parametrize("kind", ["hall", "L", "fat L", "T", "U", "court", "house with an annexe", "disc"])
def test_one_building_stays_one(kind, angle, options):
    turned = shapely.affinity.rotate(shape_of(kind), angle, origin=(0, 0))
    left, top, right, bottom = turned.bounds
    house = shapely.affinity.translate(turned, 5 - left, 5 - top)
    parts = parts_of([house], (int(bottom - top) + 10, int(right - left) + 10), options, noise=0.02)
    assert len(parts) == 1


@pytest.mark.parametrize("angle", [0, 25, 45])
def test_a_neck_parts_without_boundaries(angle):
    two = shapely.box(0, 0, 30, 30) | shapely.box(30, 12, 34, 20) | shapely.box(34, 2, 60, 28)
    turned = shapely.affinity.rotate(two, angle, origin=(0, 0))
    left, top, right, bottom = turned.bounds
    building, _ = seen([shapely.affinity.translate(turned, 5 - left, 5 - top)], (90, 90))
    (outline,) = outlines(building)
    assert len(split_outline(outline, building, None, (0, 0), BY_DISTANCE)) == 2
    assert right > left and bottom > top


def test_without_a_wish_or_a_band_the_outline_is_given_back():
    houses, size = terrace()
    building, boundary = seen(houses, size)
    (outline,) = outlines(building)
    for samples, method in ((boundary, "none"), (None, "auto")):
        (part,) = split_outline(outline, building, samples, (0, 0), SplitOptions(method))
        assert part is outline
    assert len(split_outline(outline, building, boundary, (0, 0), SplitOptions())) == 4
    with pytest.raises(OptionError, match="--split boundary: the raster has no boundary probability"):
        split_outline(outline, building, None, (0, 0), BY_BOUNDARY)


def test_small_outlines_are_not_looked_at():
    houses, size = terrace(2, width=6, depth=6)
    building, _ = seen(houses, size)
    (outline,) = outlines(building)
    (part,) = split_outline(outline, building, None, (0, 0), SplitOptions("distance", min_part=60))
    assert part is outline


@pytest.mark.parametrize(
    ("values", "said"), [({"method": "best"}, "--split best is unknown"), ({"min_part": -1}, "-1")]
)
def test_bad_options_are_refused(values, said):
    with pytest.raises(OptionError, match=said):
        SplitOptions(**values)


# ---- walls


@example(regions=np.pad(np.array([[1, 2], [3, 4]], np.int32).repeat(4, 0).repeat(4, 1), 1))
@given(st.integers(0, 2**32 - 1).map(lambda seed: checkered(np.random.default_rng(seed))))
@settings(max_examples=60, deadline=None)
def test_any_regions_cut_exactly(regions):
    outline = shapely.union_all([shapely.box(c, r, c + 1, r + 1) for r, c in np.argwhere(regions)])
    outline = max(shapely.get_parts(outline), key=shapely.area)
    parts = cut_outline(outline, regions)
    assert shapely.area(parts).sum() == outline.area and shapely.coverage_is_valid(parts)
    assert shapely.coverage_union_all(parts).equals(outline)
    fewer = without_slivers(parts, 6.0)
    assert shapely.area(fewer).sum() == outline.area and shapely.coverage_is_valid(fewer)
    assert len(fewer) == 1 or shapely.area(fewer).min() >= 6


def checkered(random):
    """Some numbers, in patches, with holes and gaps."""
    patches = random.integers(0, 5, random.integers(2, 6, 2)).repeat(3, 0).repeat(3, 1).astype(np.int32)
    specks = random.random(patches.shape) < 0.1
    patches[specks] = random.integers(0, 5, specks.sum())
    patches[0, 0] = 1
    return np.pad(patches, 1)


def test_where_a_ring_begins_does_not_matter_to_walls():
    """Both ends of the wall are as near to one vertex as to another."""
    corners = [(1, 1), (4, 1), (6, 1), (9, 1), (9, 9), (6, 9), (4, 9), (1, 9)]
    regions = np.zeros((10, 10), np.int32)
    regions[1:9, 1:5], regions[1:9, 5:9] = 1, 2
    cut = [cut_outline(shapely.Polygon(np.roll(corners, turn, axis=0)), regions) for turn in range(8)]
    assert len(cut[0]) == 2 and all(np.array_equal(cut[0], other) for other in cut)


def test_walls_that_cross_where_there_is_no_vertex_are_refused():
    outline = shapely.Polygon([(0, 0), (5, 0), (10, 0), (10, 5), (10, 10), (5, 10), (0, 10), (0, 5)])
    across, down = shapely.LineString([(0, 5), (10, 5)]), shapely.LineString([(5, 0), (5, 10)])
    assert len(_faces(outline, [across])) == len(_faces(outline, [down])) == 2
    assert _faces(outline, [across, down]) is None


# ---- regions


def test_a_middle_without_a_neck_goes_to_the_side_of_the_higher_pass():
    height = np.zeros((3, 9))
    height[1, 1:8] = [9.0, 10.0, 3.5, 4.0, 3.4, 10.0, 9.0]
    row = narrow_regions(height)[1]
    assert row[2] == row[4] != row[6] > 0 and row[2] > 0
    height[1, 5] = 3.6
    row = narrow_regions(height)[1]
    assert row[4] == row[6] != row[2]


def test_small_regions_go_to_the_neighbour_with_most_sides():
    regions = np.zeros((6, 9), np.int32)
    regions[1:5, 1:4], regions[1:5, 5:8] = 1, 2
    regions[2:4, 4], regions[2, 3] = 3, 3
    joined = without_small(regions, 4)
    assert set(np.unique(joined)) == {0, 1, 2} and (joined[regions == 3] == 1).all()
    assert np.array_equal(without_small(regions, 3), regions)
