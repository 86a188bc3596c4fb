import numpy as np
import pyproj
import pytest
import shapely

from buildseg.footprints.measures import azimuths, geodesic_sizes


@pytest.mark.parametrize("latitude", [-89.0, -33.0, 0.0, 47.0, 75.0])
def test_square_has_its_area_anywhere_on_earth(latitude):
    crs = pyproj.CRS.from_user_input(f"+proj=laea +lat_0={latitude} +lon_0=179.9999 +datum=WGS84")
    squares = shapely.box(np.array([-5, -50]), np.array([-5, -50]), np.array([5, 50]), np.array([5, 50]))
    to_degrees = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    degrees = shapely.transform(squares, lambda points: np.column_stack(to_degrees.transform(*points.T)))
    for polygons, their_crs in ((squares, crs), (degrees, pyproj.CRS.from_epsg(4326))):
        areas, perimeters = geodesic_sizes(polygons, their_crs)
        assert areas == pytest.approx([100, 10_000], rel=1e-5)
        assert perimeters == pytest.approx([40, 400], rel=1e-5)


def test_holes_and_the_sense_of_rings():
    crs = pyproj.CRS.from_user_input("+proj=laea +lat_0=47 +lon_0=9 +datum=WGS84")
    outer, inner = shapely.box(0, 0, 100, 100), shapely.box(20, 20, 40, 60)
    frame = shapely.Polygon(outer.exterior, [inner.exterior])
    senses = np.array([frame, frame.reverse(), shapely.normalize(frame), shapely.box(0, 0, 10, 10)])
    areas, perimeters = geodesic_sizes(senses, crs)
    assert areas == pytest.approx([9200, 9200, 9200, 100], rel=1e-4)
    assert perimeters == pytest.approx([520, 520, 520, 40], rel=1e-4)


def test_nothing_has_no_size():
    sizes = geodesic_sizes(np.zeros(0, np.object_), pyproj.CRS.from_epsg(4326))
    assert [size.shape for size in sizes] == [(0,), (0,)]


@pytest.mark.parametrize("place", [(9.0, 47.0), (15.0, 70.0), (9.0, -33.0), (-170.0, 0.0)])
def test_azimuths_are_from_true_north(place):
    crs = pyproj.CRS.from_user_input(f"+proj=laea +lon_0={place[0]} +lat_0={place[1]} +datum=WGS84")
    directions = np.radians([0, 30, 90, 135, 179])
    start, end = np.zeros((5, 2)), 20 * np.column_stack([np.sin(directions), np.cos(directions)])
    assert azimuths(start, end, crs) == pytest.approx([0, 30, 90, 135, 179], abs=0.01)
    assert azimuths(end, start, crs)[1:] == pytest.approx([30, 90, 135, 179], abs=0.01)


def test_grid_north_is_not_true_north():
    there = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:32632", always_xy=True).transform(12, 60)
    north = azimuths(np.array([there]), np.array([there]) + np.array([0, 100]), pyproj.CRS.from_epsg(32632))
    assert north == pytest.approx([np.degrees(np.arctan(np.tan(np.radians(3)) * np.sin(np.radians(60))))], abs=0.01)
