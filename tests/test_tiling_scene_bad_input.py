"""Scenes that cannot be used: one line that names the file and the remedy."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS

from tests import scenes
from tiling import Grid, Scene, SceneOptions
from tiling.errors import SceneError


def text(path):
    path.write_text("a,b\n1,2\n", encoding="utf-8")


def empty(path):
    path.write_bytes(b"")


def header_only(path):
    scenes.tiled(path)
    path.write_bytes(path.read_bytes()[:60])


def flat(path):
    scenes.write(path, scenes.picture(), transform=Affine(0.5, 0, 690000, 0, 0, 5340000))


def site_plan(path):
    scenes.write(path, scenes.picture(), crs=CRS.from_wkt('LOCAL_CS["building site",UNIT["metre",1]]'))


def metres_as_degrees(path):
    scenes.write(path, scenes.picture(), crs="EPSG:4326")


def complex_numbers(path):
    scenes.write(path, scenes.picture(1).astype(np.complex64))


def folder(path):
    path.mkdir()


@pytest.mark.parametrize(
    ("make", "remedy"),
    [
        (lambda path: None, "does not exist; check the path"),
        (folder, "is a folder; name a raster file in it"),
        (text, "not a raster that GDAL can read; give a GeoTIFF"),
        (empty, "not a raster that GDAL can read; give a GeoTIFF"),
        (header_only, "not a raster that GDAL can read; give a GeoTIFF"),
        (scenes.without_crs, "has no CRS; assign the right one, e.g. with gdal_edit -a_srs"),
        (scenes.without_geotransform, "has no geotransform, .* gdal_translate -a_ullr"),
        (scenes.control_points_only, "has no geotransform, .* warp it with gdalwarp first"),
        (flat, "geotransform without area; mend it"),
        (site_plan, "no place on earth; assign the right CRS"),
        (metres_as_degrees, "no place on earth; assign the right CRS"),
        (scenes.palette, "colour table; expand it first"),
        (complex_numbers, "complex64 are no image; convert it"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_refused_in_one_line(tmp_path, make, remedy):
    path = tmp_path / "scene.tif"
    make(path)
    with pytest.raises(SceneError, match=remedy) as caught:
        Scene(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.995])
def test_a_file_cut_short_is_noticed_where_it_ends(tmp_path, share):
    path = scenes.truncated(tmp_path / "scene.tif", share)
    with Scene(path) as scene:
        top, *_ = Grid(scene.height, scene.width, 32, 0)
        scene.read(top)
        with pytest.raises(SceneError, match="damaged or cut short: copy it again") as caught:
            for window in Grid(scene.height, scene.width, 128, 0):
                scene.read(window)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "See previous exception" not in str(caught.value)


@pytest.mark.parametrize("options", [SceneOptions(gsd=1.3), SceneOptions(nodata=0)])
def test_a_file_cut_short_is_noticed_in_every_view(tmp_path, options):
    with Scene(scenes.truncated(tmp_path / "scene.tif"), options) as scene:
        with pytest.raises(SceneError, match=r"scene.tif: .* copy it again"):
            scene.read_region(0, 0, scene.height, scene.width)
        with pytest.raises(SceneError, match=r"scene.tif: .* copy it again"):
            scene.overview(200)


def test_a_file_that_vanishes_is_noticed(tmp_path):
    path = scenes.tiled(tmp_path / "scene.tif")
    with Scene(path) as scene:
        path.unlink()
        with pytest.raises(SceneError, match=r"scene.tif"):
            scene.overview(100)


def test_a_file_of_several_rasters(tmp_path):
    path = tmp_path / "scene.gpkg"
    profile = {"driver": "GPKG", "width": 40, "height": 30, "count": 3, "dtype": "uint8"}
    for table, more in (("one", {}), ("two", {"append_subdataset": "yes"})):
        place = {"crs": scenes.UTM, "transform": scenes.PLACE}
        with rasterio.open(path, "w", raster_table=table, **profile, **place, **more) as dataset:
            dataset.write(scenes.picture(3, 30, 40))
    with pytest.raises(SceneError, match=r"scene.gpkg holds several rasters; name one of them"):
        Scene(path)
    with Scene(f"GPKG:{path}:two") as scene:
        assert scene.width == 40


def test_a_dataset_name_that_is_none():
    with pytest.raises(SceneError, match=r"/vsizip/nowhere.zip/scene.tif is not a raster"):
        Scene("/vsizip/nowhere.zip/scene.tif")
