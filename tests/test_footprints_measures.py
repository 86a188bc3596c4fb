import numpy as np
import pyproj
import pytest
import shapely

from buildseg.footprints.measures import geodesic_areas


@pytest.mark.parametrize("latitude", [-89.0, -33.0, 0.0, 47.0, 75.0])
def test_square_has_its_area_anywhere_on_earth(latitude):
    crs = pyproj.CRS.from_user_input(f"+proj=laea +lat_0={latitude} +lon_0=179.9999 +datum=WGS84")
    squares = shapely.box(np.array([-5, -50]), np.array([-5, -50]), np.array([5, 50]), np.array([5, 50]))
    to_degrees = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    degrees = shapely.transform(squares, lambda points: np.column_stack(to_degrees.transform(*points.T)))
    assert geodesic_areas(squares, crs) == pytest.approx([100, 10_000], rel=1e-5)
    assert geodesic_areas(degrees, pyproj.CRS.from_epsg(4326)) == pytest.approx([100, 10_000], rel=1e-5)


def test_holes_and_the_sense_of_rings():
    crs = pyproj.CRS.from_user_input("+proj=laea +lat_0=47 +lon_0=9 +datum=WGS84")
    outer, inner = shapely.box(0, 0, 100, 100), shapely.box(20, 20, 40, 60)
    frame = shapely.Polygon(outer.exterior, [inner.exterior])
    senses = np.array([frame, frame.reverse(), shapely.normalize(frame), shapely.box(0, 0, 10, 10)])
    assert geodesic_areas(senses, crs) == pytest.approx([9200, 9200, 9200, 100], rel=1e-4)


def test_nothing_has_no_area():
    assert geodesic_areas(np.zeros(0, np.object_), pyproj.CRS.from_epsg(4326)).shape == (0,)
