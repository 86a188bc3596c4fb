"""Chips: pixels, place and labels of a window, and the same again once they are written and read."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.enums import ColorInterp

from tests import scenes
from tiling import Grid, Scene, SceneOptions, Window, cut_chip, rasterize_labels, write_chip
from tiling.chips import BACKGROUND, BUILDING
from tiling.errors import OutputError

PLACES = {
    "north up": scenes.PLACE,
    "rotated": scenes.PLACE @ Affine.rotation(33),
    "sheared": scenes.PLACE @ Affine.shear(25, 0),
    "mirrored": scenes.PLACE @ Affine.scale(-1, 1),
    "south up": Affine(0.5, 0, 690000, 0, 0.5, 5340000),
    "degrees": Affine(1e-5, 0, 10, 0, -5e-6, 60),
}


def star(random, reach):
    """A polygon of random corners around a random middle, in pixels, with a hole in it."""
    middle = random.uniform(-0.1 * reach, 1.1 * reach, 2)
    angles = np.sort(random.uniform(0, 2 * np.pi, random.integers(4, 12)))
    corners = random.uniform(0.1, 0.5, len(angles))[:, None] * reach * np.stack([np.cos(angles), np.sin(angles)], 1)
    return shapely.Polygon(middle + corners).buffer(0) - shapely.Point(middle).buffer(0.05 * reach)


def placed(polygons, transform):
    return [shapely.affinity.affine_transform(polygon, transform.to_shapely()) for polygon in polygons]


def middles_inside(polygons, shape):
    """Which pixels' middles lie in a polygon, and which lie too near an outline to tell; polygons in pixels."""
    rows, cols = np.mgrid[: shape[0], : shape[1]] + 0.5
    union = shapely.unary_union(polygons)
    inside = shapely.contains_xy(union, cols.ravel(), rows.ravel()).reshape(shape)
    near = shapely.dwithin(union.boundary, shapely.points(cols.ravel(), rows.ravel()), 1e-4).reshape(shape)
    return inside, near


@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    count=st.integers(1, 5),
    place=st.sampled_from(sorted(PLACES)),
)
def test_a_pixel_is_building_if_its_middle_is_inside(seed, height, width, count, place):
    random = np.random.default_rng(seed)
    polygons = [star(random, max(height, width)) for _ in range(count)]
    mask = rasterize_labels(placed(polygons, PLACES[place]), (height, width), PLACES[place])
    inside, near = middles_inside(polygons, (height, width))
    assert (mask.dtype, mask.shape) == (np.uint8, (height, width))
    np.testing.assert_array_equal(mask[~near], np.where(inside, BUILDING, BACKGROUND)[~near])


def test_slivers_between_the_middles_are_no_building():
    thin = shapely.box(2.6, 0, 3.4, 9)
    assert (rasterize_labels([thin], (9, 9), Affine.identity()) == BACKGROUND).all()


@pytest.mark.parametrize("shapes", [[], [shapely.box(900, 900, 950, 950)]], ids=["none", "elsewhere"])
def test_no_building_here(shapes):
    mask = rasterize_labels(shapes, (20, 30), Affine.identity())
    assert mask.shape == (20, 30)
    assert (mask == BACKGROUND).all()


def test_shapes_may_come_as_geojson_and_as_multipolygons():
    left, right = shapely.box(1, 1, 4, 4), shapely.box(6, 1, 9, 4)
    both = rasterize_labels([left, right], (10, 10), Affine.identity())
    assert (both == BUILDING).sum() == 18
    geojson = [left.__geo_interface__, right.__geo_interface__]
    for shapes in ([shapely.MultiPolygon([left, right])], geojson, {left, right}, iter(geojson)):
        np.testing.assert_array_equal(rasterize_labels(shapes, (10, 10), Affine.identity()), both)


def test_empty_polygons_are_nothing():
    full = shapely.box(1, 1, 4, 4)
    expected = rasterize_labels([full], (9, 9), Affine.identity())
    np.testing.assert_array_equal(rasterize_labels([shapely.Polygon(), full], (9, 9), Affine.identity()), expected)
    assert (rasterize_labels([shapely.Polygon()], (9, 9), Affine.identity()) == BACKGROUND).all()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("gsd", [None, 0.8])
def test_chips_lie_where_the_scene_does(tmp_path, place, gsd):
    """The labels of a chip are those of the whole scene, cut."""
    polygons = [star(np.random.default_rng(seed), 150) for seed in range(6)]
    crs = "EPSG:4326" if place == "degrees" else scenes.UTM
    path = scenes.write(tmp_path / "scene.tif", scenes.picture(), crs=crs, transform=PLACES[place])
    shapes = placed(polygons, PLACES[place])
    with Scene(path, SceneOptions(gsd=gsd)) as scene:
        everything = rasterize_labels(shapes, (scene.height, scene.width), scene.transform)
        for window in Grid(scene.height, scene.width, 64, 20):
            chip = cut_chip(scene, window, shapes)
            here = slice(window.row, window.row + 64), slice(window.col, window.col + 64)
            assert (chip.mask != everything[here]).mean() < 0.002
            assert chip.mask.shape == chip.valid.shape == chip.pixels.shape[1:]
            for col, row in ((0, 0), (5, 9)):
                there = scene.transform @ (window.col + col, window.row + row)
                assert chip.transform @ (col, row) == pytest.approx(there, rel=1e-12)


def test_a_window_beyond_the_scene_is_cut_off(tmp_path):
    with Scene(scenes.tiled(tmp_path / "scene.tif", scenes.picture(3, 40, 70))) as scene:
        chip = cut_chip(scene, Window(0, 0, 64), [])
        np.testing.assert_array_equal(chip.pixels, scenes.picture(3, 40, 70)[:, :, :64])
        assert chip.mask.shape == chip.valid.shape == (40, 64)


def test_building_share_counts_valid_pixels_only(tmp_path):
    valid = np.ones((40, 40), bool)
    valid[:20] = False
    path = scenes.internal_mask(tmp_path / "scene.tif", scenes.picture(3, 40, 40), valid)
    with Scene(path) as scene:
        lower_left = placed([shapely.box(0, 0, 20, 40)], scenes.PLACE)
        assert cut_chip(scene, Window(0, 0, 40), lower_left).building_share == 0.5
        upper = placed([shapely.box(0, 0, 40, 20)], scenes.PLACE)
        assert cut_chip(scene, Window(0, 0, 40), upper).building_share == 0
        assert cut_chip(scene, Window(0, 0, 20), upper).building_share == 0


def rgb_and(fourth):
    return (*scenes.RGB, fourth)


KINDS = {
    "RGB": scenes.tiled,
    "gray": lambda path: scenes.write(path, scenes.picture(1)),
    "uint16": lambda path: scenes.write(path, scenes.picture(dtype="uint16")),
    "int16": lambda path: scenes.write(path, scenes.picture(dtype="int16")),
    "float32": lambda path: scenes.write(path, scenes.picture(dtype="float32")),
    "RGB and near infrared": lambda path: scenes.write(path, scenes.picture(4), colours=rgb_and(ColorInterp.nir)),
    "RGB and a fourth": lambda path: scenes.write(path, scenes.picture(4), colours=rgb_and(ColorInterp.undefined)),
    "BGR": lambda path: scenes.write(path, scenes.picture(), colours=scenes.RGB[::-1]),
    "eight plain bands": lambda path: scenes.write(path, scenes.picture(8, dtype="uint16")),
    "internal mask": lambda path: scenes.internal_mask(path, scenes.picture(), scenes.hole()),
    "alpha": lambda path: scenes.transparent(path, scenes.hole()),
    "nodata": lambda path: scenes.with_nodata(path, scenes.picture(), scenes.hole(), 0),
    "NaN": lambda path: scenes.with_nodata(path, scenes.picture(dtype="float32"), scenes.hole(), np.nan),
    "rotated": scenes.rotated,
    "degrees": scenes.geographic,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_written_chip_is_a_scene_like_the_one_it_was_cut_from(tmp_path, kind):
    with Scene(KINDS[kind](tmp_path / "scene.tif")) as scene:
        chip = cut_chip(scene, Window(10, 30, 100), placed([shapely.box(40, 20, 90, 60)], scene.transform))
    image, mask = tmp_path / "image.tif", tmp_path / "mask.tif"
    write_chip(chip, image, mask)
    with Scene(image) as again:
        pixels, valid = again.read_region(0, 0, again.height, again.width)
        np.testing.assert_array_equal(pixels, chip.pixels)
        np.testing.assert_array_equal(valid, chip.valid)
        assert (again.dtype, again.band_names) == (scene.dtype, scene.band_names)
        assert (again.crs, again.transform) == (scene.crs, chip.transform)
        assert again.gsd == pytest.approx(scene.gsd, rel=1e-4)
    with rasterio.open(mask) as label:
        np.testing.assert_array_equal(label.read(1), chip.mask)
        assert (label.crs, label.transform) == (scene.crs, chip.transform)
        assert set(np.unique(chip.mask)) == {BACKGROUND, BUILDING}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.tif", "mask.tif", "scene.tif"]


def test_invalid_pixels_become_an_internal_mask_and_only_where_there_are_any(tmp_path):
    with Scene(scenes.transparent(tmp_path / "scene.tif", scenes.hole())) as scene:
        for name, window in (("whole", Window(0, 0, 32)), ("holed", Window(30, 60, 64))):
            chip = cut_chip(scene, window, [])
            write_chip(chip, tmp_path / f"{name}.tif", tmp_path / "mask.tif")
            with rasterio.open(tmp_path / f"{name}.tif") as image:
                flags = {flag.name for flag in image.mask_flag_enums[0]}
                assert flags == ({"all_valid"} if name == "whole" else {"per_dataset"})
                np.testing.assert_array_equal(image.dataset_mask() > 0, chip.valid)
                assert (image.count, image.nodata) == (3, None)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from tiling import Scene, Window, cut_chip, write_chip
from tiling.errors import OutputError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
image, mask = (Path(name) for name in sys.argv[2:])
with Scene(sys.argv[1]) as scene:
    chip = cut_chip(scene, Window(0, 0, 150), [])
write_chip(chip, image, mask)
size = image.stat().st_size
for limit in range(300, size - 3000, size // 20):
    image.unlink()
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        write_chip(chip, image, mask)
        print(f"{limit} of {size} bytes were enough")
    except OutputError as error:
        assert "cannot be written" in str(error) and "\\n" not in str(error), error
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the size of files is limited as on Linux")
def test_a_full_disk_is_noticed(tmp_path):
    path = scenes.internal_mask(tmp_path / "scene.tif", scenes.picture(), scenes.hole())
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, path, tmp_path / "image.tif", tmp_path / "mask.tif"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(Path(__file__).parents[1])},
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_a_missing_folder_is_named(tmp_path):
    with Scene(scenes.tiled(tmp_path / "scene.tif")) as scene:
        chip = cut_chip(scene, Window(0, 0, 32), [])
    with pytest.raises(OutputError, match="missing does not exist; create it first"):
        write_chip(chip, tmp_path / "missing" / "image.tif", tmp_path / "mask.tif")


def test_chosen_bands_are_named_in_the_file(tmp_path):
    path = scenes.write(tmp_path / "scene.tif", scenes.picture(4), colours=rgb_and(ColorInterp.undefined))
    with Scene(path, SceneOptions(bands=(4, "red"))) as scene:
        chip = cut_chip(scene, Window(0, 0, 32), [])
    assert chip.band_names == ("band4", "red")
    write_chip(chip, tmp_path / "image.tif", tmp_path / "mask.tif")
    with rasterio.open(tmp_path / "image.tif") as image:
        assert image.descriptions == ("band4", "red")
        assert image.colorinterp == (ColorInterp.gray, ColorInterp.red)
