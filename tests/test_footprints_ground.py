import numpy as np
import pytest
import shapely

from buildseg.footprints.contours import contour_level, trace
from buildseg.footprints.ground import cut_at_antimeridian, snap
from buildseg.footprints.marching import NODATA
from buildseg.footprints.simplify import simplify


@pytest.fixture(scope="module")
def ragged():
    """Contours of noise: one polygon with hundreds of holes, and specks."""
    samples = np.random.default_rng(2).integers(0, 255, (80, 80), np.uint8)
    contours, _ = trace(np.pad(samples, 1, constant_values=NODATA), contour_level(0.4))
    return shapely.normalize(contours.polygons)


@pytest.mark.parametrize("tolerance", [0.1, 0.5, 1.0, 3.0])
def test_simplified_polygons_stay_valid_and_within_the_tolerance(ragged, tolerance):
    simple = simplify(ragged, tolerance)
    moved = shapely.hausdorff_distance(shapely.boundary(ragged), shapely.boundary(simple))
    assert shapely.is_valid(simple).all()
    assert moved.max() <= tolerance * (1 + 1e-9)
    assert np.array_equal(shapely.get_num_interior_rings(simple), shapely.get_num_interior_rings(ragged))
    assert shapely.get_num_coordinates(simple).sum() < shapely.get_num_coordinates(ragged).sum()


def test_simplifying_tries_less_where_the_tolerance_breaks_a_polygon():
    frame = shapely.Polygon([(0, 0), (5, -0.9), (10, 0), (10, 5), (5, 5.2), (0, 5)], [[(4, -0.3), (5, -0.5), (5, 1)]])
    thin = simplify(np.array([frame]), 1.0)[0]
    assert thin.is_valid
    assert (5, -0.9) in thin.exterior.coords and (5, 5.2) not in thin.exterior.coords


def test_snapped_polygons_lie_on_the_grid_and_are_valid():
    rng = np.random.default_rng(4)
    centres = rng.uniform((5, 45), (6, 46), (200, 2))
    rings = centres[:, None] + rng.uniform(-3e-7, 3e-7, (200, 4, 2))
    polygons = shapely.polygons(rings)
    polygons = polygons[shapely.is_valid(polygons)]
    snapped = snap(polygons)
    points = shapely.get_coordinates(snapped)
    assert shapely.is_valid(snapped).all()
    assert np.array_equal(points, points.round(7))
    assert 0 < shapely.is_empty(snapped).sum() < len(snapped) / 2


@pytest.mark.parametrize("shift", [0, 360, -360])
def test_polygons_across_the_antimeridian_are_cut_there(shift):
    east, west = shapely.box(179.5, -1, 180, 1), shapely.box(-180, -1, -179.5, 1)
    whole = shapely.box(179.5 + shift, -1, 180.5 + shift, 1)
    elsewhere = shapely.box(10, 10, 11, 11)
    cut, same = cut_at_antimeridian(np.array([whole, elsewhere]))
    assert cut.symmetric_difference(shapely.union(east, west)).area < 1e-9
    assert same == elsewhere


def test_polygon_written_with_a_jump_is_cut_too():
    jumping = shapely.Polygon([(179.5, -1), (-179.5, -1), (-179.5, 1), (179.5, 1)])
    (cut,) = cut_at_antimeridian(np.array([jumping]))
    assert cut.geom_type == "MultiPolygon"
    assert sorted(part.bounds for part in cut.geoms) == [(-180, -1, -179.5, 1), (179.5, -1, 180, 1)]
