"""Ground sample distance: metres on the ground, against PROJ's geodesics, in every kind of CRS."""

import math

import pytest
from affine import Affine
from pyproj import Geod, Transformer
from rasterio.crs import CRS

from tests import scenes
from tiling import Scene
from tiling.errors import SceneError
from tiling.georeference import ground_sample_distance

NORTH_UP = Affine(0.3, 0, 0, 0, -0.3, 0)
PLACES = {
    "UTM": ("EPSG:32632", Affine.translation(690000, 5340000) @ NORTH_UP),
    "UTM, far from the middle": ("EPSG:32632", Affine.translation(166000, 5340000) @ NORTH_UP),
    "UTM, south": ("EPSG:32733", Affine.translation(600000, 6000000) @ NORTH_UP),
    "degrees at 60 north": ("EPSG:4326", Affine(1e-5, 0, 10, 0, -5e-6, 60)),
    "degrees, centimetres, south": ("EPSG:4326", Affine(5e-7, 0, 30, 0, -5e-7, -33)),
    "degrees across the date line": ("EPSG:4326", Affine(1e-5, 0, 179.995, 0, -1e-5, 10)),
    "US survey feet": ("EPSG:2263", Affine(0.5, 0, 1000000, 0, -0.5, 200000)),
    "metres of New Brunswick": ("EPSG:2036", Affine(0.5, 0, 2500000, 0, -0.5, 7400000)),
    "Web Mercator at 60 north": ("EPSG:3857", Affine(0.6, 0, 1113000, 0, -0.6, 8399738)),
    "the North Pole": ("EPSG:3413", Affine(1, 0, -1000, 0, -1, 700)),
    "rotated, oblong pixels": ("EPSG:32632", scenes.PLACE @ Affine.rotation(33) @ Affine.scale(1, 2)),
    "sheared": ("EPSG:32632", scenes.PLACE @ Affine.shear(20, 5)),
    "south up": ("EPSG:32632", Affine(0.5, 0, 690000, 0, 0.5, 5340000)),
    "ten metres": ("EPSG:32632", Affine(10, 0, 600000, 0, -10, 5340000)),
}


def geodesic(crs, transform, col, row):
    """Metres of the pixel whose middle is at col, row: along its row and along its column."""
    to_degrees = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    ends = [((col - 0.5, row), (col + 0.5, row)), ((col, row - 0.5), (col, row + 0.5))]
    lengths = []
    for start, end in ends:
        lon, lat = to_degrees.transform(*zip(transform @ start, transform @ end, strict=True))
        lengths.append(Geod(ellps="WGS84").inv(lon[0], lat[0], lon[1], lat[1])[2])
    return lengths


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("size", [(1, 1), (40, 3), (1500, 1200)], ids=str)
def test_against_geodesics(place, size):
    crs, transform = PLACES[place]
    measured = ground_sample_distance(CRS.from_user_input(crs), transform, *size)
    assert measured == pytest.approx(geodesic(crs, transform, size[0] / 2, size[1] / 2), rel=1e-5)


@pytest.mark.parametrize(
    ("make", "metres"),
    [
        (scenes.striped, (0.49998, 0.49998)),
        (scenes.geographic, (0.5581, 0.5571)),
        (scenes.new_york_feet, (0.3048, 0.3048)),
        (scenes.web_mercator, (0.3008, 0.3003)),
        (scenes.rotated, (0.49998, 0.49998)),
        (scenes.south_up, (0.49998, 0.49998)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_scenes_know_theirs(tmp_path, make, metres):
    with Scene(make(tmp_path / "scene.tif")) as scene:
        assert scene.native_gsd == pytest.approx(metres, rel=2e-4)
        assert scene.gsd == scene.native_gsd


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        (CRS.from_wkt('LOCAL_CS["building site",UNIT["metre",1]]'), NORTH_UP),
        (CRS.from_epsg(32632), Affine(0.5, 0, 1e9, 0, -0.5, 1e9)),
        (CRS.from_epsg(4326), Affine(0.5, 0, 690000, 0, -0.5, 5340000)),
        (CRS.from_epsg(4326), Affine(1e-5, 0, math.nan, 0, -1e-5, 10)),
    ],
    ids=["a local CRS", "far outside of its zone", "metres called degrees", "not a number"],
)
def test_no_place_on_earth(crs, transform):
    with pytest.raises(SceneError, match="assign the right CRS"):
        ground_sample_distance(crs, transform, 200, 100)
