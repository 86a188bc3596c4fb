"""The area of interest: read from any vector format, brought to a scene, asked for windows and pixels."""

from dataclasses import replace

import geopandas
import numpy as np
import pytest
import rasterio
import scipy.ndimage
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import scenes
from buildseg.area_of_interest import AreaOfInterest, SceneArea
from tiling import Scene, SceneOptions, Window
from tiling.errors import OptionError

SIDE = 40


def write(path, *shapes, crs=scenes.UTM):
    geopandas.GeoDataFrame(geometry=list(shapes), crs=crs).to_file(path, engine="pyogrio")
    return path


def on_ground(shape, place=scenes.PLACE):
    return shapely.transform(shape, lambda points: np.column_stack(place @ (points[:, 0], points[:, 1])))


@pytest.fixture
def scene(tmp_path):
    """150 x 220 pixels of 0.5 m."""
    with Scene(scenes.write(tmp_path / "scene.tif", scenes.picture())) as opened:
        yield opened


def squares(rows, cols, row=0, col=0):
    down, across = np.mgrid[row : row + rows, col : col + cols]
    return shapely.box(across, down, across + 1, down + 1)


coordinates = st.floats(-5, SIDE + 5, width=16) | st.integers(0, SIDE).map(float)


@st.composite
def areas(draw):
    """Some triangles, some with a rectangle cut out, on and off the lines between pixels."""
    corners = draw(st.lists(arrays(np.float64, (3, 2), elements=coordinates), min_size=1, max_size=3))
    area = shapely.union_all([shapely.convex_hull(shapely.MultiPoint(three)) for three in corners])
    if draw(st.booleans()):
        left, top, width, height = draw(st.tuples(*[st.integers(1, SIDE // 2)] * 4))
        area = area.difference(shapely.box(left, top, left + width, top + height))
    parts = shapely.get_parts(shapely.intersection(area, shapely.box(0, 0, SIDE, SIDE)))
    geometry = shapely.union_all([part for part in parts if part.geom_type == "Polygon" and part.area > 0.1])
    return SceneArea(geometry, draw(st.integers(0, 9)))


class TestNeeding:
    @given(areas(), st.integers(0, SIDE - 1), st.integers(0, SIDE - 1), st.integers(1, SIDE))
    def test_a_window_is_needed_iff_one_of_its_pixels_is(self, area, row, col, size):
        needed = area.needed(row, col, min(size, SIDE - row), min(size, SIDE - col))
        assert area.needs(Window(row, col, size)) == needed.any()

    @given(areas(), st.integers(0, SIDE - 1), st.integers(0, SIDE - 1), st.integers(1, SIDE), st.integers(1, SIDE))
    def test_what_is_needed_of_a_part_is_that_of_the_whole(self, area, row, col, rows, cols):
        rows, cols = min(rows, SIDE - row), min(cols, SIDE - col)
        whole = area.needed(0, 0, SIDE, SIDE)
        np.testing.assert_array_equal(area.needed(row, col, rows, cols), whole[row : row + rows, col : col + cols])

    @settings(max_examples=30)
    @given(areas())
    def test_pixels_are_those_that_share_ground_and_their_neighbours(self, area):
        shared = shapely.area(shapely.intersection(area.geometry, squares(SIDE, SIDE)))
        met = shapely.intersects(area.geometry, squares(SIDE, SIDE))
        needed = area.needed(0, 0, SIDE, SIDE)
        around = np.ones((2 * area.reach + 1, 2 * area.reach + 1))
        assert needed[scipy.ndimage.binary_dilation(shared > 1e-6, around)].all()
        assert not needed[~scipy.ndimage.binary_dilation(met, around)].any()

    def test_one_line_of_neighbours(self):
        area = SceneArea(shapely.box(10, 20, 14, 25), reach=1)
        assert area.needed(0, 0, SIDE, SIDE).sum() == 6 * 7
        assert area.needed(19, 9, 7, 6).all()
        assert area.needs(Window(20, 14, 5))
        assert not area.needs(Window(20, 15, 5))

    def test_an_edge_through_the_corner_of_a_pixel(self):
        """Burnt in one part of the scene and not in another, if it is left to GDAL."""
        area = SceneArea(shapely.Polygon([(31, 33), (27, 13), (0, 0)]), reach=0)
        assert area.needed(0, 0, SIDE, SIDE)[18, 28]
        assert area.needed(0, 26, 21, 3)[18, 2]

    def test_nothing_needs_nothing(self):
        area = SceneArea(shapely.Polygon())
        assert area.empty
        assert not area.needs(Window(0, 0, SIDE))
        assert not area.needed(0, 0, SIDE, SIDE).any()


class TestBringing:
    def test_pixels_of_the_scene(self, scene, tmp_path):
        wanted = shapely.box(20, 30, 61, 80)
        area = AreaOfInterest.read(write(tmp_path / "area.gpkg", on_ground(wanted))).on(scene)
        assert shapely.hausdorff_distance(area.geometry, wanted) < 1e-6

    @pytest.mark.parametrize("suffix", [".geojson", ".gpkg", ".shp", ".fgb"])
    def test_any_format_and_crs(self, scene, tmp_path, suffix):
        wanted = shapely.box(20, 30, 61, 80)
        there = geopandas.GeoSeries([on_ground(wanted)], crs=scenes.UTM).to_crs(4326)
        area = AreaOfInterest.read(write(tmp_path / f"area{suffix}", *there, crs=4326)).on(scene)
        assert shapely.hausdorff_distance(area.geometry, wanted) < 0.05

    def test_the_working_resolution(self, scene, tmp_path):
        area = AreaOfInterest.read(write(tmp_path / "area.gpkg", on_ground(shapely.box(20, 30, 60, 80))))
        with Scene(scene.path, SceneOptions(gsd=1)) as coarse:
            assert shapely.hausdorff_distance(area.on(coarse).geometry, shapely.box(10, 15, 30, 40)) < 1e-6

    def test_a_rotated_scene(self, tmp_path):
        with Scene(scenes.rotated(tmp_path / "rotated.tif")) as scene:
            wanted = shapely.box(20, 30, 60, 80)
            path = write(tmp_path / "area.gpkg", on_ground(wanted, scene.transform))
            assert shapely.hausdorff_distance(AreaOfInterest.read(path).on(scene).geometry, wanted) < 1e-6

    def test_what_lies_beyond_the_scene_is_cut_off(self, scene, tmp_path):
        shapes = on_ground(shapely.box(-50, -50, 30, 40)), on_ground(shapely.box(100, 140, 900, 900))
        area = AreaOfInterest.read(write(tmp_path / "area.gpkg", *shapes)).on(scene)
        expected = shapely.union_all([shapely.box(0, 0, 30, 40), shapely.box(100, 140, 220, 150)])
        assert area.geometry.symmetric_difference(expected).area < 1e-3

    @pytest.mark.parametrize(
        "shape", [shapely.box(-80, 0, -1, 40), shapely.box(220, 0, 260, 50), shapely.box(9e5, 0, 9.1e5, 50)]
    )
    def test_elsewhere_is_empty(self, scene, tmp_path, shape):
        assert AreaOfInterest.read(write(tmp_path / "area.gpkg", on_ground(shape))).on(scene).empty

    def test_parallels_bend_as_on_the_ground(self, tmp_path):
        """The 60th parallel over 4 degrees leaves the straight line between its ends by kilometres."""
        place = Affine(200, 0, 390_000, 0, -200, 6_670_000)
        path = write(tmp_path / "area.geojson", shapely.box(7, 50, 11, 60), crs=4326)
        with Scene(scenes.write(tmp_path / "scene.tif", scenes.picture(1, 150, 1100), transform=place)) as scene:
            area = AreaOfInterest.read(path).on(scene)
            middle = geopandas.points_from_xy([9, 8, 10.5], [60] * 3, crs=4326).to_crs(scene.crs)
            for x, y in zip(middle.x, middle.y, strict=True):
                point = shapely.Point(~scene.transform @ (x, y))
                assert shapely.distance(shapely.boundary(area.geometry), point) < 0.01

    def test_the_whole_earth(self, scene, tmp_path):
        area = AreaOfInterest.read(write(tmp_path / "earth.geojson", shapely.box(-180, -90, 180, 90), crs=4326))
        assert area.on(scene).geometry.equals(shapely.box(0, 0, scene.width, scene.height))

    def test_across_the_180th_meridian(self, tmp_path):
        place = Affine(10, 0, 828_000, 0, -10, 1_000_000)
        path = write(tmp_path / "area.geojson", shapely.box(-180, 0, -179.98, 10), crs=4326)
        with Scene(scenes.write(tmp_path / "scene.tif", scenes.picture(), crs="EPSG:32660", transform=place)) as scene:
            area = replace(AreaOfInterest.read(path).on(scene), reach=0)
            needed = area.needed(0, 0, scene.height, scene.width)
            lon = rasterio.warp.transform(
                scene.crs, "EPSG:4326", *scene.transform @ (np.arange(220) + 0.5, np.full(220, 75.5))
            )[0]
        expected = np.array([-180 <= value < -179.98 for value in lon])
        assert 0 < expected.sum() < 220
        assert (needed[75] != expected).sum() <= 2

    def test_an_area_without_a_place_on_earth(self, scene):
        site = 'LOCAL_CS["site",UNIT["metre",1],AXIS["X",EAST],AXIS["Y",NORTH]]'
        with pytest.raises(OptionError, match="--aoi cannot be brought to the CRS") as caught:
            AreaOfInterest(shapely.box(0, 0, 1, 1), site).on(scene)
        assert "\n" not in str(caught.value)


class TestReading:
    def test_overlapping_and_broken_polygons_are_one_area(self, scene, tmp_path):
        bow_tie = shapely.Polygon([(0, 0), (20, 20), (20, 0), (0, 20)])
        shapes = map(on_ground, (shapely.box(50, 50, 90, 90), shapely.box(60, 60, 120, 80), bow_tie))
        area = AreaOfInterest.read(write(tmp_path / "area.gpkg", *shapes)).on(scene)
        assert area.geometry.area == pytest.approx(1600 + 600 + 200)

    @pytest.mark.parametrize(
        ("shape", "crs", "says"),
        [
            (shapely.LineString([(0, 0), (1, 1)]), scenes.UTM, "holds no polygons, only LineString; give an area"),
            (shapely.Polygon(), scenes.UTM, "is empty; give an area"),
            (shapely.box(0, 0, 1, 1), None, "has no CRS; assign the right one"),
        ],
    )
    def test_refused_in_one_line(self, tmp_path, shape, crs, says):
        path = tmp_path / "area.shp"
        write(path, shape, crs=crs or scenes.UTM)
        if crs is None:
            path.with_suffix(".prj").unlink()
        with pytest.raises(OptionError) as caught:
            AreaOfInterest.read(path)
        message = str(caught.value)
        assert message.startswith(f"--aoi: {path}") and says in message and "\n" not in message

    def test_nothing_there(self, tmp_path):
        with pytest.raises(OptionError, match=r"^--aoi: .*area.gpkg does not exist; check the path of the area$"):
            AreaOfInterest.read(tmp_path / "area.gpkg")
