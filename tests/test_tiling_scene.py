"""The scene reader at the file's own resolution: every way of storing pixels, and of saying that some are none."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.enums import ColorInterp

from tests import scenes
from tiling import Grid, Scene, SceneOptions, Window
from tiling.errors import OptionError, SceneError

STORED = {
    "in strips": (scenes.striped, "uint8", {}),
    "in strips, by band": (scenes.striped, "uint8", {"interleave": "band"}),
    "in strips, deflated": (scenes.striped, "uint8", {"compress": "deflate", "predictor": 2}),
    "in tiles": (scenes.tiled, "uint8", {}),
    "in tiles, uint16": (scenes.tiled, "uint16", {}),
    "in tiles, int16": (scenes.tiled, "int16", {}),
    "in tiles, float32": (scenes.tiled, "float32", {"predictor": 3}),
    "in tiles, float64": (scenes.tiled, "float64", {}),
    "as a BigTIFF": (scenes.tiled, "uint8", {"bigtiff": "yes"}),
    "rotated": (scenes.tiled, "uint8", {"transform": scenes.PLACE @ Affine.rotation(33)}),
    "south up": (scenes.tiled, "uint8", {"transform": Affine(0.5, 0, 690000, 0, 0.5, 5340000)}),
    "in degrees": (scenes.tiled, "uint8", {"crs": "EPSG:4326", "transform": Affine(1e-5, 0, 10, 0, -1e-5, 60)}),
}
VALID = scenes.hole()
MASKED = {
    "alpha": lambda path: scenes.transparent(path, VALID),
    "alpha of 16 bits": lambda path: scenes.transparent(path, VALID, "uint16"),
    "internal mask": lambda path: scenes.internal_mask(path, scenes.picture(), VALID),
    "internal mask, uint16": lambda path: scenes.internal_mask(path, scenes.picture(dtype="uint16"), VALID),
    "sidecar mask": lambda path: scenes.sidecar_mask(path, scenes.picture(), VALID),
    "nodata 0": lambda path: scenes.with_nodata(path, scenes.picture(), VALID, 0),
    "nodata 65535": lambda path: scenes.with_nodata(path, scenes.picture(dtype="uint16"), VALID, 65535),
    "nodata -9999": lambda path: scenes.with_nodata(path, scenes.picture(dtype="float32"), VALID, -9999),
    "nodata NaN": lambda path: scenes.with_nodata(path, scenes.picture(dtype="float32"), VALID, np.nan),
    "NaN": lambda path: scenes.with_nodata(path, scenes.picture(dtype="float32"), VALID, np.nan, declared=False),
    "infinity": lambda path: scenes.with_nodata(path, scenes.picture(dtype="float32"), VALID, np.inf, declared=False),
}


def whole(scene):
    return scene.read_region(0, 0, scene.height, scene.width)


@pytest.mark.parametrize("kind", STORED)
def test_every_window_holds_the_pixels_of_the_file(tmp_path, kind):
    make, dtype, creation = STORED[kind]
    pixels = scenes.picture(dtype=dtype)
    with Scene(make(tmp_path / "scene.tif", pixels, **creation)) as scene:
        assert (scene.height, scene.width, scene.dtype, scene.bands) == (150, 220, dtype, (1, 2, 3))
        for window in Grid(scene.height, scene.width, 64, 21):
            read, valid = scene.read(window)
            assert (read.dtype, valid.dtype) == (np.dtype(dtype), np.bool_)
            here = slice(window.row, window.row + 64), slice(window.col, window.col + 64)
            np.testing.assert_array_equal(read, pixels[:, here[0], here[1]])
            assert valid.all()


@pytest.mark.parametrize("kind", MASKED)
def test_pixels_that_hold_nothing_are_not_valid(tmp_path, kind):
    with Scene(MASKED[kind](tmp_path / "scene.tif")) as scene:
        pixels, valid = whole(scene)
        np.testing.assert_array_equal(valid, VALID)
        np.testing.assert_array_equal(pixels[:, VALID], scenes.picture(dtype=scene.dtype)[:, VALID])
        assert np.isfinite(pixels).all()
        _, part = scene.read(Window(20, 50, 100))
        np.testing.assert_array_equal(part, VALID[20:120, 50:150])


def test_a_pixel_that_shines_through_a_little_is_valid(tmp_path):
    alpha = np.random.default_rng(0).choice(np.array([0, 1, 128, 255], np.uint8), (1, 150, 220))
    pixels = np.concatenate([scenes.picture(), alpha])
    with Scene(scenes.write(tmp_path / "scene.tif", pixels, colours=(*scenes.RGB, ColorInterp.alpha))) as scene:
        np.testing.assert_array_equal(whole(scene)[1], alpha[0] > 0)


def test_invalid_numbers_become_zero(tmp_path):
    with Scene(MASKED["NaN"](tmp_path / "scene.tif")) as scene:
        pixels, valid = whole(scene)
        assert (pixels[:, ~valid] == 0).all()
        assert pixels.dtype == np.float32


def test_one_band_that_holds_something_makes_a_pixel_valid(tmp_path):
    pixels = scenes.picture()
    pixels[0, :50] = 0
    pixels[:, 100:] = 0
    with Scene(scenes.write(tmp_path / "scene.tif", pixels, nodata=0)) as scene:
        _, valid = whole(scene)
        assert valid[:100].all()
        assert not valid[100:].any()


@pytest.mark.parametrize(("dtype", "value"), [("uint8", 0), ("uint16", 65535), ("float32", -3.4028234663852886e38)])
def test_a_nodata_value_that_only_the_caller_knows(tmp_path, dtype, value):
    pixels = scenes.picture(dtype=dtype)
    path = scenes.with_nodata(tmp_path / "scene.tif", pixels, VALID, value, declared=False)
    with Scene(path) as scene:
        assert whole(scene)[1].all()
    with Scene(path, SceneOptions(nodata=value)) as scene:
        read, valid = whole(scene)
        np.testing.assert_array_equal(valid, VALID)
        np.testing.assert_array_equal(read[:, VALID], pixels[:, VALID])
        assert scene.path == str(path)


def test_the_callers_nodata_stands_in_for_the_files(tmp_path):
    path = scenes.with_nodata(tmp_path / "scene.tif", scenes.picture(), VALID, 255, declared=False)
    with rasterio.open(path, "r+") as dataset:
        dataset.nodata = 17
    with Scene(path, SceneOptions(nodata=255)) as scene:
        np.testing.assert_array_equal(whole(scene)[1], VALID)


@pytest.mark.parametrize("kind", ["internal mask", "sidecar mask", "alpha"])
def test_the_callers_nodata_is_added_to_the_files_mask(tmp_path, kind):
    path = MASKED[kind](tmp_path / "scene.tif")
    with rasterio.open(path, "r+") as dataset:
        black = np.full((dataset.count, 20, 30), 7, np.uint8)
        dataset.write(black, window=rasterio.windows.Window(0, 0, 30, 20))
        if dataset.count == 4:
            dataset.write(np.full((20, 30), 255, np.uint8), 4, window=rasterio.windows.Window(0, 0, 30, 20))
    with Scene(path, SceneOptions(nodata=7)) as scene:
        expected = VALID.copy()
        expected[:20, :30] = False
        np.testing.assert_array_equal(whole(scene)[1], expected)


@pytest.mark.parametrize("value", [300, -1, np.nan])
def test_a_nodata_value_that_no_pixel_can_have(tmp_path, value):
    with pytest.raises(SceneError, match=r"scene.tif holds uint8, so that no pixel is .*--nodata"):
        Scene(scenes.striped(tmp_path / "scene.tif"), SceneOptions(nodata=value))


def test_a_scene_of_nodata_has_no_valid_pixel(tmp_path):
    path = scenes.write(tmp_path / "scene.tif", np.zeros((3, 90, 80), np.uint8), nodata=0)
    with Scene(path) as scene:
        assert not any(scene.read(window)[1].any() for window in Grid(90, 80, 64, 0))


def test_jpeg_inside(tmp_path):
    path = scenes.jpeg(tmp_path / "scene.tif")
    with Scene(path) as scene, rasterio.open(path) as dataset:
        read, valid = scene.read(Window(3, 5, 140))
        np.testing.assert_array_equal(read, dataset.read()[:, 3:143, 5:145])
        assert valid.all()


def test_a_mosaic_of_files(tmp_path):
    left = scenes.striped(tmp_path / "left.tif", scenes.picture(seed=1))
    right = scenes.tiled(tmp_path / "right.tif", scenes.picture(seed=2))
    both = np.concatenate([scenes.picture(seed=1), scenes.picture(seed=2)], axis=2)
    with Scene(scenes.mosaic(tmp_path / "both.vrt", left, right)) as scene:
        assert (scene.width, scene.band_names) == (440, ("red", "green", "blue"))
        np.testing.assert_array_equal(scene.read(Window(10, 150, 128))[0], both[:, 10:138, 150:278])


@given(height=st.integers(1, 40), width=st.integers(1, 40), size=st.integers(1, 100))
def test_what_lies_beyond_a_small_scene_is_its_reflection(tmp_path_factory, height, width, size):
    pixels = scenes.picture(2, height, width)
    valid = np.random.default_rng(height).random((height, width)) < 0.7
    path = scenes.internal_mask(tmp_path_factory.mktemp("small") / "scene.tif", pixels, valid)
    with Scene(path) as scene:
        window = next(iter(Grid(scene.height, scene.width, size, 0)))
        read, known = scene.read(window)
    rows, cols = (mirrored(length, size) for length in (height, width))
    assert read.shape == (2, size, size)
    np.testing.assert_array_equal(known, valid[np.ix_(rows, cols)])
    np.testing.assert_array_equal(read[:, known], pixels[:, rows][:, :, cols][:, known])


def mirrored(length, size):
    """Index of the pixel that is seen at each of ``size`` places: to and fro, edges once."""
    period = max(1, 2 * (length - 1))
    return [min(place % period, period - place % period) for place in range(size)]


def test_a_region_is_cut_off_nowhere(tmp_path):
    pixels = scenes.picture()
    with Scene(scenes.tiled(tmp_path / "scene.tif", pixels)) as scene:
        read, valid = scene.read_region(149, 3, 1, 217)
        np.testing.assert_array_equal(read, pixels[:, 149:, 3:])
        assert valid.shape == (1, 217)


def test_place(tmp_path):
    path = scenes.rotated(tmp_path / "scene.tif")
    with Scene(str(path)) as scene, rasterio.open(path) as dataset:
        assert scene.transform == dataset.transform
        assert scene.crs == dataset.crs
        assert scene.path == str(path)


@pytest.mark.parametrize("gsd", [0, -0.3, float("nan"), float("inf")])
def test_resolution_out_of_range(gsd):
    with pytest.raises(OptionError, match="--gsd"):
        SceneOptions(gsd=gsd)
