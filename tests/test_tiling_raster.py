"""Rasters written by blocks, and copied into a valid COG or into nothing at all."""

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
from rasterio.errors import RasterioIOError

from tiling import Block, RasterProfile, cut_blocks
from tiling.errors import OutputError
from tiling.raster import encode_block, mosaic_of_blocks, write_cog

PLACE = Affine(0.3, 0, 690000, 0, -0.3, 5340000)
TAGS = {
    "BUILDSEG_SCENE": 'a scene\'s name, with [brackets] & "quotes" <here> = there',
    "BUILDSEG_VERSION": "1",
    "A&B <'\">": "Ünïcödé\nof two lines",
}


def profile(height, width, dtype="uint8", **more):
    return RasterProfile(
        height, width, dtype, **{"crs": CRS.from_epsg(32632), "transform": PLACE, "nodata": 255} | more
    )


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (height, width), np.uint8)


def part(pixels, block):
    return pixels[block.row : block.row + block.rows, block.col : block.col + block.cols]


def write_mosaic(folder, pixels, rows=400, cols=500, names="part {} & <'{}'>.tif", **more):
    """Write the blocks of a raster into files of their own and the mosaic beside them."""
    described = profile(*pixels.shape, **{"scale": 1 / 254, "descriptions": ("a < b & 'c'",), "tags": TAGS} | more)
    blocks = cut_blocks(*pixels.shape, rows, cols)
    files = {block: names.format(block.row, block.col) for block in blocks}
    for block, name in files.items():
        (folder / name).write_bytes(encode_block(part(pixels, block), block, described))
    path = folder / "mosaic.vrt"
    path.write_text(mosaic_of_blocks(files, described), encoding="utf-8")
    return path


def write(path, pixels, **options):
    """Write a COG of a mosaic, which stands in a folder beside it."""
    folder = path.parent.with_name(f"{path.parent.name}.parts")
    folder.mkdir(exist_ok=True)
    write_cog(write_mosaic(folder, pixels), path, **options)


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
def pixels():
    pixels = noise(1440, 1200)
    pixels[:701, :801] = 255
    return pixels


@pytest.fixture(scope="module")
def mosaic(tmp_path_factory, pixels):
    return write_mosaic(tmp_path_factory.mktemp("mosaic"), pixels)


@pytest.fixture(scope="module")
def cog(tmp_path_factory, mosaic):
    path = tmp_path_factory.mktemp("cog") / "out.tif"
    write_cog(mosaic, path)
    return path


@pytest.mark.parametrize("kind", ["mosaic", "cog"])
class TestBoth:
    def test_pixels_and_place(self, request, kind, pixels):
        with rasterio.open(request.getfixturevalue(kind)) as dataset:
            np.testing.assert_array_equal(dataset.read(1), pixels)
            assert (dataset.crs.to_epsg(), dataset.transform) == (32632, PLACE)
            assert (dataset.count, dataset.dtypes) == (1, ("uint8",))

    def test_what_it_says_of_itself(self, request, kind):
        with rasterio.open(request.getfixturevalue(kind)) as dataset:
            assert dataset.nodata == 255
            assert dataset.scales == pytest.approx((1 / 254,), rel=1e-12)
            assert dataset.offsets == (0,)
            assert dataset.descriptions == ("a < b & 'c'",)
            assert TAGS.items() <= dataset.tags().items()


class TestCog:
    def test_layout(self, cog):
        with rasterio.open(cog) as dataset:
            assert dataset.colorinterp == (ColorInterp.gray,)
            assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            assert dataset.compression.name == "deflate"
            assert dataset.block_shapes == [(512, 512)]
            assert dataset.overviews(1) == [2, 4]

    def test_directories_come_first_and_overviews_before_the_full_resolution(self, cog):
        """The rules of a cloud-optimised GeoTIFF, read off the bytes."""
        full, *overviews = directories(cog)
        places = [at for at, _ in (full, *overviews)]
        assert len(places) == 3
        assert places == sorted(places)
        first_blocks = [block for _, block in (full, *overviews)]
        assert first_blocks == sorted(first_blocks, reverse=True)
        assert max(places) < min(first_blocks)

    def test_overviews_are_means_that_leave_nodata_out(self, cog, pixels):
        with rasterio.open(cog, overview_level=0) as dataset:
            half = dataset.read(1)
        blocks = pixels.reshape(len(pixels) // 2, 2, -1, 2).astype(float)
        blocks[blocks == 255] = np.nan
        empty = np.isnan(blocks).all(axis=(1, 3))
        means = np.where(empty, 255, np.nansum(blocks, (1, 3)) / np.maximum(1, (~np.isnan(blocks)).sum((1, 3))))
        assert np.abs(half - means).max() <= 0.51
        assert empty.any()

    def test_nothing_stands_beside_it(self, cog):
        assert [file.name for file in cog.parent.iterdir()] == ["out.tif"]

    def test_it_may_grow_beyond_four_gigabytes(self, tmp_path, monkeypatch):
        """Offsets of four bytes reach 4 GB: GDAL chooses, before it knows how far the pixels can be compressed."""
        asked = {}
        monkeypatch.setattr(rasterio.shutil, "copy", lambda *places, **options: asked.update(options))
        with pytest.raises(OutputError):
            write(tmp_path / "out.tif", noise(40, 50))
        assert asked["BIGTIFF"] == "IF_SAFER"


@given(
    shape=st.tuples(st.integers(1, 1300), st.integers(1, 60)),
    turned=st.booleans(),
    rows=st.integers(20, 1300),
    cols=st.integers(7, 1300),
)
@settings(max_examples=25)
def test_any_cut_into_blocks_gives_the_same_raster(tmp_path_factory, shape, turned, rows, cols):
    pixels = noise(*(shape[::-1] if turned else shape), seed=shape[0])
    rows, cols = (max(7, cols), max(20, rows)) if turned else (rows, cols)
    path = write_mosaic(tmp_path_factory.mktemp("cut"), pixels, rows, cols)
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(1), pixels)


class TestBlock:
    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
    def test_is_a_raster_of_its_own_at_its_place(self, tmp_path, dtype):
        pixels = (np.random.default_rng(0).random((70, 90)) * 200).astype(dtype)
        block = Block(20, 30, 40, 50)
        (tmp_path / "part.tif").write_bytes(
            encode_block(part(pixels, block), block, profile(70, 90, dtype, nodata=None))
        )
        with rasterio.open(tmp_path / "part.tif") as dataset:
            np.testing.assert_array_equal(dataset.read(1), part(pixels, block))
            assert dataset.transform == PLACE @ Affine.translation(30, 20)
            assert dataset.block_shapes == [(512, 512)]
            assert (dataset.nodata, dataset.crs.to_epsg(), dataset.dtypes) == (None, 32632, (dtype,))

    def test_is_small(self):
        assert (
            len(encode_block(np.zeros((2048, 2048), np.uint8), Block(0, 0, 2048, 2048), profile(2048, 2048))) < 20_000
        )

    def test_is_the_same_bytes_again(self):
        block = Block(0, 0, 60, 70)
        assert len({encode_block(noise(60, 70), block, profile(60, 70)) for _ in range(3)}) == 1


class TestMosaic:
    @pytest.mark.parametrize(
        ("crs", "transform"),
        [
            ("EPSG:4326", Affine(1e-5 / 3, 0, 10, 0, -1e-5 / 3, 60)),
            ("EPSG:2193", PLACE),  # its first axis is northing
            ("EPSG:3857", PLACE @ Affine.rotation(33)),
            ("EPSG:5514", Affine(np.float64(0.3), 0, np.float64(-700000), 0, 0.3, -1e6)),
            ("EPSG:25832+7837", PLACE),
            ("+proj=laea +lat_0=-10 +lon_0=3.123456789 +datum=WGS84 +units=us-ft", PLACE),
        ],
    )
    def test_stands_where_it_shall(self, tmp_path, crs, transform):
        crs = CRS.from_user_input(crs)
        path = write_mosaic(tmp_path, noise(30, 40), crs=crs, transform=transform)
        with rasterio.open(path) as dataset:
            assert dataset.transform == transform
            assert dataset.crs == crs
        write_cog(path, tmp_path / "out.tif")
        with rasterio.open(tmp_path / "out.tif") as dataset:
            assert dataset.transform == transform
            assert dataset.crs == crs

    def test_without_nodata_tags_and_name(self, tmp_path):
        pixels = noise(30, 40)
        path = write_mosaic(tmp_path, pixels, nodata=None, tags={}, descriptions=("",), scale=1.0)
        with rasterio.open(path) as dataset:
            assert (dataset.nodata, dataset.scales, dataset.descriptions[0] or "") == (None, (1.0,), "")
            np.testing.assert_array_equal(dataset.read(1), pixels)
            assert dataset.dataset_mask().all()

    def test_what_is_there_can_be_read_before_the_rest(self, tmp_path):
        pixels = noise(300, 200)
        path = write_mosaic(tmp_path, pixels, rows=100, cols=100, names="row{}_col{}.tif")
        (tmp_path / "row100_col0.tif").unlink()
        with rasterio.open(path) as dataset:
            right = rasterio.windows.Window(100, 50, 100, 250)
            np.testing.assert_array_equal(dataset.read(1, window=right), pixels[50:, 100:])
            with pytest.raises(RasterioIOError):
                dataset.read(1)

    def test_moves_with_its_folder(self, tmp_path):
        (tmp_path / "one").mkdir()
        pixels = noise(60, 50)
        write_mosaic(tmp_path / "one", pixels, 30, 20)
        (tmp_path / "one").rename(tmp_path / "two")
        with rasterio.open(tmp_path / "two" / "mosaic.vrt") as dataset:
            np.testing.assert_array_equal(dataset.read(1), pixels)


class TestFailure:
    @pytest.mark.parametrize("failure", [KeyboardInterrupt(), ZeroDivisionError()])
    @pytest.mark.parametrize("name", ["out.tif", "out[1].tif"])
    def test_leaves_the_old_file_and_nothing_else(self, tmp_path, mosaic, failure, name, monkeypatch):
        (tmp_path / name).write_text("old")

        def fail(source, target, **options):
            Path(target).write_text("half")
            Path(f"{target}.ovr.tmp").write_text("overviews")
            raise failure

        monkeypatch.setattr(rasterio.shutil, "copy", fail)
        with pytest.raises(type(failure)) as caught:
            write_cog(mosaic, tmp_path / name, overwrite=True)
        assert caught.value is failure
        assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [(name, "old")]

    @pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:9000])])
    def test_a_block_that_is_lost_or_damaged(self, tmp_path, damage):
        (tmp_path / "parts").mkdir()
        path = write_mosaic(tmp_path / "parts", noise(300, 200), rows=100, names="row{}_col{}.tif")
        damage(tmp_path / "parts" / "row100_col0.tif")
        with pytest.raises(OutputError, match=r"out\.tif cannot be written .*row100_col0"):
            write_cog(path, tmp_path / "out.tif")
        assert [file.name for file in tmp_path.iterdir()] == ["parts"]

    def test_overwriting_must_be_asked_for(self, tmp_path):
        path = tmp_path / "out.tif"
        write(path, noise(40, 50, seed=1))
        with pytest.raises(OutputError, match="--overwrite"):
            write(path, noise(40, 50, seed=2))
        write(path, noise(40, 50, seed=2), overwrite=True)
        with rasterio.open(path) as dataset:
            np.testing.assert_array_equal(dataset.read(1), noise(40, 50, seed=2))

    def test_no_folder(self, tmp_path, mosaic):
        with pytest.raises(OutputError, match=r"missing does not exist; create it first"):
            write_cog(mosaic, tmp_path / "missing" / "out.tif")

    @pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="the system has no /proc")
    def test_read_only_folder(self, mosaic):
        with pytest.raises(OutputError, match=r"/proc/self cannot be written"):
            write_cog(mosaic, Path("/proc/self/out.tif"))


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from test_tiling_raster import noise, write_mosaic
from tiling.errors import OutputError
from tiling.raster import write_cog
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
target = Path(sys.argv[1])
mosaic = write_mosaic(Path(sys.argv[2]), noise(600, 4000))
write_cog(mosaic, target)
large = target.stat().st_size
target.unlink()
for limit in [*range(1000, large, large // 16), *range(large - 900, large, 170)]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        write_cog(mosaic, target)
        print(f"{limit} of {large} bytes were enough")
    except OutputError as error:
        assert "cannot be written" in str(error) and "GB free" in str(error) and str(target) in str(error), error
        assert "\\n" not in str(error) and "See previous" not in str(error), error
    left = [path.name for path in target.parent.iterdir()]
    assert not left, left
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the size of files is limited as on Linux")
def test_a_full_disk_is_noticed_wherever_it_fills_up(tmp_path):
    """A process whose files may not grow beyond a limit meets what a full disk would do, while writing or closing."""
    for name in ("out", "parts"):
        (tmp_path / name).mkdir()
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path / "out" / "out.tif", tmp_path / "parts"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": f"{Path(__file__).parent}:{Path(__file__).parents[1]}"},
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
