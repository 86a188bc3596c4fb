"""The scene reader at another resolution: true values, the same by windows as whole, masks and overviews heeded."""

import math

import numpy as np
import pytest
import rasterio
from affine import Affine

from tests import scenes
from tiling import Scene, SceneOptions, Window

HEIGHT, WIDTH = 300, 420
VALID = scenes.hole(HEIGHT, WIDTH)
FINER = (0.13, 0.2, 0.25, 0.31, 0.44)
COARSER = (0.6, 0.75, 0.8, 1.0, 1.05, 1.5, 2.0, 3.3, 4.0)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resampled")
    pixels = scenes.picture(3, HEIGHT, WIDTH)
    deep = scenes.picture(3, HEIGHT, WIDTH, "uint16")
    floats = scenes.picture(3, HEIGHT, WIDTH, "float32")
    return {
        "tiled": scenes.tiled(folder / "tiled.tif", pixels),
        "striped": scenes.striped(folder / "striped.tif", pixels),
        "with overviews": scenes.with_overviews(folder / "overviews.tif", pixels),
        "alpha": scenes.transparent(folder / "alpha.tif", VALID),
        "internal mask": scenes.internal_mask(folder / "internal.tif", pixels, VALID),
        "sidecar mask": scenes.sidecar_mask(folder / "sidecar.tif", pixels, VALID),
        "nodata": scenes.with_nodata(folder / "nodata.tif", pixels, VALID, 0),
        "nodata, uint16": scenes.with_nodata(folder / "deep.tif", deep, VALID, 65535),
        "nodata, float32": scenes.with_nodata(folder / "floats.tif", floats, VALID, -9999),
        "nodata and overviews": scenes.with_overviews(folder / "both.tif", np.where(VALID, pixels, 0), nodata=0),
        "undeclared nodata": scenes.with_nodata(folder / "undeclared.tif", pixels, VALID, 255, declared=False),
    }


def opened(files, kind, gsd):
    return Scene(files[kind], SceneOptions(gsd=gsd, nodata=255 if kind.startswith("undeclared") else None))


def whole(scene):
    return scene.read_region(0, 0, scene.height, scene.width)


@pytest.mark.parametrize("gsd", FINER + COARSER)
@pytest.mark.parametrize("kind", ["tiled", "with overviews", "internal mask", "nodata and overviews", "nodata, uint16"])
def test_windows_equal_the_whole(files, kind, gsd):
    random = np.random.default_rng(int(gsd * 100))
    with opened(files, kind, gsd) as scene:
        pixels, valid = whole(scene)
        for _ in range(12):
            size = int(random.integers(1, min(scene.height, scene.width, 200) + 1))
            row = int(random.integers(0, scene.height - size + 1))
            col = int(random.integers(0, scene.width - size + 1))
            read, known = scene.read(Window(row, col, size))
            here = slice(row, row + size), slice(col, col + size)
            np.testing.assert_array_equal(known, valid[here])
            difference = np.abs(read.astype(int) - pixels[:, here[0], here[1]])[:, known]
            assert difference.max(initial=0) <= 1


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_coarser_pixels_are_means(files, factor):
    with opened(files, "tiled", 0.5 * factor) as scene:
        assert (scene.height, scene.width) == (HEIGHT // factor, WIDTH // factor)
        pixels, _ = whole(scene)
    blocks = scenes.picture(3, HEIGHT, WIDTH).reshape(3, HEIGHT // factor, factor, WIDTH // factor, factor)
    assert np.abs(pixels - blocks.mean(axis=(2, 4))).max() <= 0.51


@pytest.mark.parametrize("factor", [2, 3])
def test_finer_pixels_are_interpolated(files, factor):
    with opened(files, "tiled", 0.5 / factor) as scene:
        assert (scene.height, scene.width) == (HEIGHT * factor, WIDTH * factor)
        pixels, _ = whole(scene)
    coarse = scenes.picture(3, HEIGHT, WIDTH).astype(float)
    for axis, length in ((1, HEIGHT), (2, WIDTH)):
        at = np.clip((np.arange(length * factor) + 0.5) / factor - 0.5, 0, length - 1)
        low = np.floor(at).astype(int)
        share = (at - low).reshape([-1 if axis == place else 1 for place in range(3)])
        high = np.minimum(low + 1, length - 1)
        coarse = coarse.take(low, axis) * (1 - share) + coarse.take(high, axis) * share
    assert np.abs(pixels - coarse).max() <= 1


@pytest.mark.parametrize("gsd", FINER + COARSER)
@pytest.mark.parametrize(
    "kind",
    [
        "alpha",
        "internal mask",
        "sidecar mask",
        "nodata",
        "nodata, uint16",
        "nodata, float32",
        "nodata and overviews",
        "undeclared nodata",
    ],
)
def test_masks_survive(files, kind, gsd):
    """A pixel is valid if the file's pixel below its middle is, and nothing invalid is mixed into its value."""
    with opened(files, kind, gsd) as scene:
        pixels, valid = whole(scene)
        rows, cols = (
            np.minimum((np.arange(length) + 0.5) * own / length, own - 1).astype(int)
            for length, own in ((scene.height, HEIGHT), (scene.width, WIDTH))
        )
        expected = VALID[np.ix_(rows, cols)]
        assert (valid == expected).mean() > (0.995 if "overviews" in kind else 0.9999)
        true = scenes.picture(3, HEIGHT, WIDTH, scene.dtype)[:, VALID]
        assert pixels[:, valid].min() >= true.min()
        assert pixels[:, valid].max() <= true.max()


@pytest.mark.parametrize("kind", ["internal mask", "nodata", "undeclared nodata"])
@pytest.mark.parametrize("gsd", [0.3, 0.7, 1.0, 2.0])
def test_a_plain_field_stays_plain_up_to_its_mask(tmp_path, kind, gsd):
    plain = np.full((1, HEIGHT, WIDTH), 100, np.uint8)
    path = tmp_path / "scene.tif"
    if kind == "internal mask":
        scenes.internal_mask(path, plain, VALID)
    else:
        scenes.with_nodata(path, plain, VALID, 255, declared=kind == "nodata")
    with opened({kind: path}, kind, gsd) as scene:
        pixels, valid = whole(scene)
        assert (pixels[:, valid] == 100).all()
        assert valid.mean() == pytest.approx(VALID.mean(), abs=0.02)


def test_what_is_no_number_spreads_no_further_than_its_neighbours(tmp_path):
    floats = scenes.picture(1, HEIGHT, WIDTH, "float32")
    path = scenes.with_nodata(tmp_path / "scene.tif", floats, VALID, np.nan, declared=False)
    for gsd in (0.3, 1.0):
        with Scene(path, SceneOptions(gsd=gsd)) as scene:
            pixels, valid = whole(scene)
            assert np.isfinite(pixels).all()
            assert valid.mean() == pytest.approx(VALID.mean(), abs=0.03)
            assert pixels[:, valid].min() >= floats[:, VALID].min()


def test_overviews_are_used_for_strong_reduction_only(tmp_path):
    pixels = scenes.picture(3, HEIGHT, WIDTH)
    path = scenes.with_overviews(tmp_path / "scene.tif", pixels, levels=(4,), shifted=10)
    for gsd, shift in ((2.0, -10), (3.0, -10), (1.8, 0), (1.0, 0), (0.5, 0)):
        with Scene(path, SceneOptions(gsd=gsd)) as scene:
            assert whole(scene)[0].mean() - pixels.mean() == pytest.approx(shift, abs=1)
            read, _ = scene.read(Window(3, 5, 40))
            assert read.mean() - whole(scene)[0][:, 3:43, 5:45].mean() == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize("gsd", FINER + COARSER)
def test_the_scene_keeps_its_place(files, gsd):
    with opened(files, "tiled", gsd) as scene, rasterio.open(files["tiled"]) as dataset:
        for share in ((0, 0), (1, 0), (0.3, 0.8), (1, 1)):
            here = scene.transform @ (share[0] * scene.width, share[1] * scene.height)
            there = dataset.transform @ (share[0] * WIDTH, share[1] * HEIGHT)
            assert here == pytest.approx(there, abs=1e-6)
        assert scene.gsd == pytest.approx((gsd, gsd), rel=0.02)
        assert scene.gsd[0] * scene.width == pytest.approx(scene.native_gsd[0] * WIDTH)


@pytest.mark.parametrize(("gsd", "same"), [(0.46, True), (0.5, True), (0.55, True), (0.44, False), (0.57, False)])
def test_a_resolution_within_a_tenth_leaves_the_pixels_alone(files, gsd, same):
    with opened(files, "tiled", gsd) as scene:
        assert ((scene.height, scene.width) == (HEIGHT, WIDTH)) is same
        if same:
            np.testing.assert_array_equal(whole(scene)[0], scenes.picture(3, HEIGHT, WIDTH))


def test_pixels_of_degrees_become_square(tmp_path):
    with Scene(scenes.geographic(tmp_path / "scene.tif"), SceneOptions(gsd=1.0)) as scene:
        assert scene.gsd == pytest.approx((1, 1), rel=0.01)
        assert (scene.height, scene.width) == (round(150 * 0.5571), round(220 * 0.5581))


def test_a_reduced_scene_smaller_than_a_window_is_reflected(files):
    with opened(files, "internal mask", 4.0) as scene:
        pixels, valid = whole(scene)
        read, known = scene.read(Window(0, 0, 96))
        beyond = ((0, 96 - scene.height), (0, 96 - scene.width))
        np.testing.assert_array_equal(known, np.pad(valid, beyond, "reflect"))
        assert np.abs(read.astype(int) - np.pad(pixels, ((0, 0), *beyond), "reflect")).max() <= 1


def test_nothing_is_left_of_a_scene_but_one_pixel(files):
    with opened(files, "tiled", 1000.0) as scene:
        assert (scene.height, scene.width) == (1, 1)
        read, valid = scene.read(Window(0, 0, 8))
        assert read.shape == (3, 8, 8)
        assert valid.all()
        assert read[:, 0, 0] == pytest.approx(scenes.picture(3, HEIGHT, WIDTH).mean(axis=(1, 2)), abs=1)


class TestOverview:
    @pytest.mark.parametrize(("side", "shape"), [(420, (300, 420)), (1000, (300, 420)), (210, (150, 210)), (7, (5, 7))])
    def test_size(self, files, side, shape):
        with opened(files, "internal mask", None) as scene:
            pixels, valid = scene.overview(side)
            assert pixels.shape == (3, *shape)
            assert valid.shape == shape
            assert valid.mean() == pytest.approx(VALID.mean(), abs=0.1)

    def test_does_not_depend_on_the_working_resolution(self, files):
        with opened(files, "nodata", None) as own, opened(files, "nodata", 2.0) as other:
            for one, two in zip(own.overview(100), other.overview(100), strict=True):
                np.testing.assert_array_equal(one, two)

    def test_uses_overviews(self, tmp_path):
        pixels = scenes.picture(3, HEIGHT, WIDTH)
        path = scenes.with_overviews(tmp_path / "scene.tif", pixels, levels=(4,), shifted=10)
        with Scene(path) as scene:
            assert scene.overview(math.ceil(WIDTH / 4))[0].mean() == pytest.approx(pixels.mean() - 10, abs=1)
            assert scene.overview(WIDTH)[0].mean() == pixels.mean()

    def test_an_overview_of_one_pixel(self, tmp_path):
        with Scene(scenes.striped(tmp_path / "scene.tif", scenes.picture(1, 1, 300))) as scene:
            assert scene.overview(10)[0].shape == (1, 1, 10)


@pytest.mark.parametrize(
    ("finest", "coarsest", "seen"), [(0.2, 0.7, 0.5), (0.8, 1.2, 0.8), (0.1, 0.25, 0.25), (0.2, 0.46, 0.5)]
)
def test_a_scene_between_two_resolutions_stays_as_it_is(files, finest, coarsest, seen):
    with Scene(files["tiled"], SceneOptions(gsd=finest, coarsest_gsd=coarsest)) as scene:
        assert scene.gsd == pytest.approx((seen, seen), rel=0.02)
        if seen == 0.5:
            np.testing.assert_array_equal(whole(scene)[0], scenes.picture(3, HEIGHT, WIDTH))


def test_oblong_pixels_become_square_between_two_resolutions_too(tmp_path):
    oblong = Affine(0.5, 0, 500_000, 0, -1.0, 5_300_000)
    path = scenes.write(tmp_path / "scene.tif", scenes.picture(3, 100, 100), transform=oblong)
    with Scene(path, SceneOptions(gsd=0.1, coarsest_gsd=2.0)) as scene:
        assert scene.native_gsd == pytest.approx((0.5, 1.0), rel=0.01)
        assert scene.gsd == pytest.approx((0.707, 0.707), rel=0.02)
