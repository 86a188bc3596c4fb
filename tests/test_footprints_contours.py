import contourpy
import numpy as np
import pytest
import rasterio.features
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from buildseg.footprints.contours import Contours, concatenate, contour_level, trace
from buildseg.footprints.joining import Joiner
from buildseg.footprints.marching import FULL, NODATA, STEPS, march
from buildseg.footprints.raster import cut_blocks


def contours_by_blocks(samples, level, shape, seed=0):
    """All contours in an order of their own, geometries normalized; the blocks come in any order."""
    padded = np.pad(samples, 1, constant_values=NODATA)
    blocks = cut_blocks(*samples.shape, shape)
    joiner, done = Joiner(blocks), []
    for number in np.random.default_rng(seed).permutation(len(blocks)) if seed else range(len(blocks)):
        block = blocks[number]
        inner = padded[block.row + 1 :, block.col + 1 :][: block.rows, : block.cols]
        finished_to = joiner.finished_to
        done += [joiner.add(block, *trace(inner, level, block.row, block.col)), joiner.ready()]
        for contours in done[-2:]:
            assert (shapely.bounds(contours.polygons)[:, 1] >= finished_to).all()
    assert joiner.finished_to == np.inf
    contours = concatenate(done)
    polygons = shapely.normalize(contours.polygons)
    order = np.argsort(shapely.to_wkb(polygons)) if len(polygons) else np.zeros(0, int)
    return Contours(polygons, *contours.sums).where(order)


def brute_sums(samples, level, contours):
    """The sums of `Contours`, from the pixels whose centres lie inside."""
    labels = np.full(samples.shape, -1, np.int32)
    shapes = [(polygon, number) for number, polygon in enumerate(contours.polygons)]
    if shapes:
        rasterio.features.rasterize(shapes, out=labels)
    values = [samples[labels == number].astype(int) for number in range(len(shapes))]
    sure = (level + 254) / 2
    return np.array([[v.sum(), len(v), (v > sure).sum(), v.max()] for v in values]).reshape(-1, 4).T


@st.composite
def rasters(draw):
    """Noise, noise of two values, few large values, plateaus near a level: with and without nodata."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    samples = rng.integers(0, 255, (draw(st.integers(1, 48)), draw(st.integers(1, 48))), np.uint8)
    kind = draw(st.sampled_from(["noise", "holes", "specks", "smooth", "level"]))
    if kind == "holes":
        samples = np.where(samples > 40, 254, 0).astype(np.uint8)
    elif kind == "specks":
        samples = np.where(samples > 200, 254, 0).astype(np.uint8)
    elif kind == "smooth":
        rows, cols = np.indices(samples.shape)
        wave = np.sin(rows * rng.uniform(0.1, 1)) * np.cos(cols * rng.uniform(0.1, 1))
        samples = (127 + 127 * wave).astype(np.uint8)
    elif kind == "level":
        samples = rng.integers(124, 131, samples.shape, np.uint8)
    samples[rng.random(samples.shape) < draw(st.sampled_from([0, 0, 0.03, 0.3]))] = NODATA
    return samples


SHAPES = st.tuples(st.integers(3, 40), st.integers(3, 40))
THRESHOLDS = st.one_of(st.sampled_from([0.5, 0.001, 0.999]), st.floats(0.01, 0.99))


@settings(deadline=None, max_examples=120)
@given(rasters(), THRESHOLDS, SHAPES, st.integers(0, 9))
def test_contours_do_not_depend_on_the_block_size_nor_on_the_order(samples, threshold, shape, seed):
    level = contour_level(threshold)
    whole = contours_by_blocks(samples, level, (1000, 1000))
    parts = contours_by_blocks(samples, level, shape, seed)
    assert len(parts.polygons) == len(whole.polygons)
    assert shapely.equals_exact(parts.polygons, whole.polygons, 0).all()
    assert np.array_equal(parts.sums, whole.sums)


@settings(deadline=None, max_examples=120)
@given(rasters(), THRESHOLDS, SHAPES)
def test_contours_hold_exactly_the_pixel_centres_above_the_threshold(samples, threshold, shape):
    level = contour_level(threshold)
    contours = contours_by_blocks(samples, level, shape)
    inside = (samples > level) & (samples != NODATA)
    shapes = [(polygon, number) for number, polygon in enumerate(contours.polygons, 1)]
    labels = np.zeros(samples.shape, np.int32)
    if shapes:
        rasterio.features.rasterize(shapes, out=labels)
    assert shapely.is_valid(contours.polygons).all()
    assert np.array_equal(labels > 0, inside)
    assert np.array_equal(contours.sums, brute_sums(samples, level, contours))


@settings(deadline=None, max_examples=120)
@given(rasters(), THRESHOLDS, SHAPES)
def test_contours_cover_no_nodata_pixel_and_nothing_beyond_the_raster(samples, threshold, shape):
    polygons = contours_by_blocks(samples, contour_level(threshold), shape).polygons
    rows, cols = np.nonzero(samples == NODATA)
    holes = shapely.box(cols, rows, cols + 1, rows + 1)
    assert shapely.area(shapely.intersection(polygons[:, None], holes)).sum() == 0
    assert shapely.covers(shapely.box(0, 0, samples.shape[1], samples.shape[0]), polygons).all()


def contours_of_contourpy(samples, level):
    """What goes from cell to cell finds; its vertices rounded as ours are."""
    values = np.where(samples == NODATA, 2 * level - FULL, samples)
    generator = contourpy.contour_generator(z=values, name="serial", fill_type="ChunkCombinedOffsetOffset")
    (points,), (rings,), (polygons,) = generator.filled(level, NODATA)
    if points is None:
        return np.zeros(0, np.object_)
    corners = np.rint(points * STEPS) / STEPS + 0.5
    offsets = (rings.astype(np.int64), polygons.astype(np.int64))
    return shapely.from_ragged_array(shapely.GeometryType.POLYGON, corners, offsets)


def in_one_order(polygons):
    polygons = shapely.normalize(polygons)
    return polygons[np.argsort(shapely.to_wkb(polygons))] if len(polygons) else polygons


@settings(deadline=None, max_examples=300)
@given(rasters().filter(lambda samples: min(samples.shape) > 1), THRESHOLDS)
def test_contours_are_those_of_contourpy_saddles_and_the_border_of_the_block_included(samples, threshold):
    level = contour_level(threshold)
    outlines = march(samples, level)
    offsets = (outlines.rings, outlines.polygons)
    ours = shapely.from_ragged_array(shapely.GeometryType.POLYGON, outlines.points / STEPS + 0.5, offsets)
    assert len(ours) == len(outlines)
    theirs = in_one_order(contours_of_contourpy(samples, level))
    assert len(ours) == len(theirs)
    assert shapely.equals_exact(in_one_order(ours), theirs, 0).all()


def test_contours_inside_of_holes_and_one_that_winds_through_all_the_block():
    nested = np.zeros((41, 41), np.uint8)
    for ring in range(1, 20, 2):
        nested[ring:-ring, ring:-ring] = 254
        nested[ring + 1 : -ring - 1, ring + 1 : -ring - 1] = 0
    contours, _ = trace(nested, contour_level(0.5))
    assert [len(polygon.interiors) for polygon in contours.polygons] == [1] * 10
    assert contours.count.tolist() == [4 * (40 - 2 * ring) for ring in range(1, 20, 2)]

    winding = np.full((501, 501), 254, np.uint8)
    winding[::4, 1:], winding[2::4, :-1] = 0, 0
    contours, _ = trace(np.pad(winding, 1), contour_level(0.5))
    assert len(contours) == 1
    assert contours.count.tolist() == [np.count_nonzero(winding)]


@settings(deadline=None)
@given(st.floats(1e-6, 1, exclude_max=True))
def test_level_parts_stored_values_at_the_threshold(threshold):
    level = contour_level(threshold)
    stored = np.arange(255)
    assert 0 < level < 254
    assert np.array_equal(stored > level, stored / 254 >= threshold - 1e-11)


def test_level_keeps_a_value_that_is_exactly_the_threshold():
    assert all(contour_level(stored / 254) == stored - 0.5 for stored in range(1, 254))


def test_contour_runs_between_samples_where_the_level_is_reached():
    samples = np.tile(np.array([0, 100, 200, 100, 0], np.uint8), (5, 1))
    polygon = contours_by_blocks(samples, contour_level(0.5), (100, 100)).polygons[0]
    west, north, east, south = polygon.bounds
    assert (west, east) == pytest.approx((1.5 + 0.265, 3.5 - 0.265), abs=1 / 1024)
    assert (north, south) == pytest.approx((0.5 - 0.365, 4.5 + 0.365), abs=1 / 1024)


def test_contour_of_certainty_ends_at_the_pixel_edge_of_the_scene_and_of_nodata():
    samples = np.full((4, 6), 254, np.uint8)
    samples[:, 4:] = NODATA
    polygon = contours_by_blocks(samples, contour_level(0.5), (100, 100)).polygons[0]
    assert polygon.bounds == (0, 0, 4, 4)


def test_inner_corner_of_nodata_is_followed_to_the_corner():
    samples = np.full((4, 4), 254, np.uint8)
    samples[2:, 2:] = NODATA
    polygon = contours_by_blocks(samples, contour_level(0.5), (100, 100)).polygons[0]
    assert (2, 2) in polygon.exterior.coords


def test_pixels_that_touch_across_nodata_stay_apart():
    samples = np.array([[254, 255], [255, 254]], np.uint8)
    assert len(contours_by_blocks(samples, contour_level(0.5), (100, 100)).polygons) == 2


def test_hole_across_block_borders_stays_a_hole():
    samples = np.full((20, 20), 254, np.uint8)
    samples[6:14, 6:14] = 0
    contours = contours_by_blocks(samples, contour_level(0.5), (7, 7))
    assert len(contours.polygons) == 1
    assert len(contours.polygons[0].interiors) == 1
    assert contours.count[0] == 400 - 64


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(1, 200), st.tuples(st.integers(1, 60), st.integers(1, 60)))
def test_blocks_share_lines_and_cover_the_scene_with_one_line_around_it(height, width, shape):
    blocks = cut_blocks(height, width, shape)
    covered = np.zeros((height + 2, width + 2), np.int8)
    for block in blocks:
        covered[block.row + 1 :, block.col + 1 :][: block.rows - 1, : block.cols - 1] += 1
        for length, most in zip((block.rows, block.cols), shape, strict=True):
            assert min(3, most + 1) <= length <= most + 2
    assert (covered[:-1, :-1] == 1).all()
    assert (covered[-1] == 0).all() and (covered[:, -1] == 0).all()
