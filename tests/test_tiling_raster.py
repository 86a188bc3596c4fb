"""Rasters written by strips: a valid COG, or nothing at all."""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.enums import ColorInterp

from tiling import RasterProfile, plain_raster, written_raster
from tiling.errors import OutputError, SceneError

PLACE = Affine(0.3, 0, 690000, 0, -0.3, 5340000)
TAGS = {"BUILDSEG_SCENE": "a scene's name, with [brackets]", "BUILDSEG_VERSION": "1"}


def profile(height, width, dtype="uint8", **more):
    return RasterProfile(height, width, dtype, CRS.from_epsg(32632), PLACE, **{"nodata": 255, **more})


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (height, width), np.uint8)


def write(path, pixels, how=written_raster, step=300, **options):
    described = profile(*pixels.shape, scale=1 / 254, description="building probability", tags=TAGS)
    with how(path, described, **options) as writer:
        for row in range(0, len(pixels), step):
            writer.write(pixels[row : row + step])


def directories(path):
    """Offsets of the TIFF directories, in their order, and of the first block that each names."""
    content = path.read_bytes()
    assert content[:4] == b"II*\0"

    def number(at, size):
        return int.from_bytes(content[at : at + size], "little")

    found, at = [], number(4, 4)
    while at:
        entries = range(at + 2, at + 2 + 12 * number(at, 2), 12)
        offsets = next(entry for entry in entries if number(entry, 2) == 324)
        inline = number(offsets + 4, 4) == 1
        found.append((at, number(offsets + 8, 4) if inline else number(number(offsets + 8, 4), 4)))
        at = number(entries[-1] + 12, 4)
    return found


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("cog") / "out.tif"
    pixels = noise(1440, 1200)
    pixels[:701, :801] = 255
    write(path, pixels)
    return path, pixels


class TestCog:
    def test_pixels_and_place(self, written):
        path, pixels = written
        with rasterio.open(path) as dataset:
            np.testing.assert_array_equal(dataset.read(1), pixels)
            assert (dataset.crs.to_epsg(), dataset.transform) == (32632, PLACE)
            assert (dataset.count, dataset.dtypes) == (1, ("uint8",))

    def test_what_it_says_of_itself(self, written):
        with rasterio.open(written[0]) as dataset:
            assert dataset.nodata == 255
            assert dataset.scales == pytest.approx((1 / 254,))
            assert dataset.offsets == (0,)
            assert dataset.descriptions == ("building probability",)
            assert dataset.colorinterp == (ColorInterp.gray,)
            assert TAGS.items() <= dataset.tags().items()

    def test_layout(self, written):
        with rasterio.open(written[0]) as dataset:
            assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            assert dataset.compression.name == "deflate"
            assert dataset.block_shapes == [(512, 512)]
            assert dataset.overviews(1) == [2, 4]

    def test_directories_come_first_and_overviews_before_the_full_resolution(self, written):
        """The rules of a cloud-optimised GeoTIFF, read off the bytes."""
        full, *overviews = directories(written[0])
        places = [at for at, _ in (full, *overviews)]
        assert len(places) == 3
        assert places == sorted(places)
        first_blocks = [block for _, block in (full, *overviews)]
        assert first_blocks == sorted(first_blocks, reverse=True)
        assert max(places) < min(first_blocks)

    def test_overviews_are_means_that_leave_nodata_out(self, written):
        path, pixels = written
        with rasterio.open(path, overview_level=0) as dataset:
            half = dataset.read(1)
        blocks = pixels.reshape(len(pixels) // 2, 2, -1, 2).astype(float)
        blocks[blocks == 255] = np.nan
        empty = np.isnan(blocks).all(axis=(1, 3))
        means = np.where(empty, 255, np.nansum(blocks, (1, 3)) / np.maximum(1, (~np.isnan(blocks)).sum((1, 3))))
        assert np.abs(half - means).max() <= 0.51
        assert empty.any()

    def test_nothing_stands_beside_it(self, written):
        assert [file.name for file in written[0].parent.iterdir()] == ["out.tif"]


@given(height=st.integers(1, 1300), width=st.integers(1, 40), cuts=st.lists(st.integers(0, 1300), max_size=8))
@settings(max_examples=25)
def test_any_cut_into_strips_gives_the_same_raster(tmp_path_factory, height, width, cuts):
    pixels = noise(height, width, seed=height)
    path = tmp_path_factory.mktemp("cut") / "out.tif"
    edges = [0, *sorted(min(cut, height) for cut in cuts), height]
    with plain_raster(path, profile(height, width)) as writer:
        for start, stop in itertools.pairwise(edges):
            writer.write(pixels[start:stop])
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(1), pixels)
        assert dataset.block_shapes == [(512, 512)]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_other_types(tmp_path, dtype):
    pixels = np.random.default_rng(0).random((70, 90)) * 200
    with written_raster(tmp_path / "out.tif", profile(70, 90, dtype, nodata=None)) as writer:
        writer.write(pixels.astype(dtype))
    with rasterio.open(tmp_path / "out.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(1), pixels.astype(dtype))
        assert dataset.nodata is None


def test_what_was_given_may_change_afterwards(tmp_path):
    with plain_raster(tmp_path / "out.tif", profile(8, 8)) as writer:
        rows = np.full((4, 8), 3, np.uint8)
        writer.write(rows.copy())
        writer.write(rows.copy())
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert (dataset.read(1) == 3).all()


@pytest.mark.parametrize(("side", "magic"), [(40, b"II*\0"), (50000, b"II+\0")], ids=["small", "large"])
def test_a_bigtiff_where_it_may_be_needed(tmp_path, side, magic):
    """Four bytes of offset reach 4 GB; compressed or not, GDAL is on the safe side from 2 GB on."""
    path = tmp_path / "out.tif"

    def begin():
        with plain_raster(path, profile(side, side)):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        begin()
    with path.open("rb") as file:
        assert file.read(4) == magic


class TestFailure:
    @pytest.mark.parametrize("failure", [SceneError("cut short"), KeyboardInterrupt(), ZeroDivisionError()])
    @pytest.mark.parametrize("name", ["out.tif", "out[1].tif"])
    def test_leaves_nothing_and_passes_on(self, tmp_path, failure, name):
        def begin():
            with written_raster(tmp_path / name, profile(1500, 700)) as writer:
                writer.write(noise(900, 700))
                raise failure

        with pytest.raises(type(failure)) as caught:
            begin()
        assert caught.value is failure
        assert list(tmp_path.iterdir()) == []

    def test_leaves_the_old_file(self, tmp_path):
        path = tmp_path / "out.tif"
        old = noise(100, 120, seed=1)
        write(path, old)

        def begin():
            with written_raster(path, profile(1500, 700), overwrite=True) as writer:
                writer.write(noise(900, 700))
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            begin()
        with rasterio.open(path) as dataset:
            np.testing.assert_array_equal(dataset.read(1), old)
        assert [file.name for file in tmp_path.iterdir()] == ["out.tif"]

    def test_too_few_rows(self, tmp_path):
        with (
            pytest.raises(OutputError, match="only 30 of 40 rows"),
            written_raster(tmp_path / "out.tif", profile(40, 50)) as writer,
        ):
            writer.write(noise(30, 50))
        assert list(tmp_path.iterdir()) == []

    def test_too_many_rows(self, tmp_path):
        with (
            pytest.raises(OutputError, match=r"out.tif"),
            written_raster(tmp_path / "out.tif", profile(40, 50)) as writer,
        ):
            writer.write(noise(41, 50))
        assert list(tmp_path.iterdir()) == []

    def test_overwriting_must_be_asked_for(self, tmp_path):
        path = tmp_path / "out.tif"
        write(path, noise(40, 50, seed=1))
        with pytest.raises(OutputError, match="--overwrite"):
            write(path, noise(40, 50, seed=2))
        write(path, noise(40, 50, seed=2), overwrite=True)
        with rasterio.open(path) as dataset:
            np.testing.assert_array_equal(dataset.read(1), noise(40, 50, seed=2))

    @pytest.mark.parametrize("how", [written_raster, plain_raster])
    def test_no_folder(self, tmp_path, how):
        with pytest.raises(OutputError, match=r"missing does not exist; create it first"):
            write(tmp_path / "missing" / "out.tif", noise(40, 50), how)

    @pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="the system has no /proc")
    @pytest.mark.parametrize("how", [written_raster, plain_raster])
    def test_read_only_folder(self, how):
        with pytest.raises(OutputError, match=r"/proc/self cannot be written"):
            write(Path("/proc/self/out.tif"), noise(40, 50), how)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from test_tiling_raster import noise, write
from tiling import plain_raster, written_raster
from tiling.errors import OutputError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
target, how, pixels = Path(sys.argv[1]), globals()[sys.argv[2]], noise(600, 4000)
sizes = []
for kind in (plain_raster, how):
    write(target, pixels, kind)
    sizes.append(target.stat().st_size)
    target.unlink()
small, large = sizes
ends = (limit for whole in sizes for limit in range(whole - 900, whole, 170))
between = range(small, large, (large - small) // 24) if small < large else ()
for limit in [*range(small // 9, small, small // 9), *between, *ends]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        write(target, pixels, how)
        print(f"{limit} of {large} bytes were enough")
    except OutputError as error:
        assert "cannot be written" in str(error) and "GB free" in str(error) and str(target) in str(error), error
        assert "\\n" not in str(error) and "See previous" not in str(error), error
    left = [path.name for path in target.parent.iterdir() if how is written_raster]
    assert not left, left
    target.unlink(missing_ok=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the size of files is limited as on Linux")
@pytest.mark.parametrize("how", ["written_raster", "plain_raster"])
def test_a_full_disk_is_noticed_wherever_it_fills_up(tmp_path, how):
    """A process whose files may not grow beyond a limit meets what a full disk would do, while writing or closing."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path / "out.tif", how],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": f"{Path(__file__).parent}:{Path(__file__).parents[1]}"},
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
