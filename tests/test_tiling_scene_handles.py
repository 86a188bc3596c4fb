"""The scene reader's handles and GDAL's cache: one handle per thread, all closed in the end, memory within bounds."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.errors import RasterioIOError

import tiling.scene
from tests import scenes
from tiling import Grid, Scene, SceneOptions
from tiling.errors import SceneError

OPEN_FILES = Path("/proc/self/fd")
READ_SO_FAR = Path("/proc/self/io")


def wide(folder):
    """Paths and options of scenes that several threads shall read."""
    pixels = scenes.picture(3, 160, 300)
    left = scenes.striped(folder / "left.tif", scenes.picture(3, 160, 150, seed=1))
    right = scenes.tiled(folder / "right.tif", scenes.picture(3, 160, 150, seed=2))
    undeclared = scenes.with_nodata(folder / "n.tif", pixels, scenes.hole(160, 300), 0, declared=False)
    return {
        "tiled": (scenes.tiled(folder / "tiled.tif", pixels), SceneOptions()),
        "striped, masked": (scenes.internal_mask(folder / "m.tif", pixels, scenes.hole(160, 300)), SceneOptions()),
        "resampled": (scenes.tiled(folder / "resampled.tif", pixels), SceneOptions(gsd=0.8)),
        "mosaic": (scenes.mosaic(folder / "both.vrt", left, right), SceneOptions()),
        "undeclared nodata": (undeclared, SceneOptions(nodata=0, gsd=0.3)),
    }


@pytest.mark.parametrize("kind", ["tiled", "striped, masked", "resampled", "mosaic", "undeclared nodata"])
def test_many_threads_read_what_one_reads(tmp_path, kind):
    path, options = wide(tmp_path)[kind]
    workers = 4
    with Scene(path, options) as scene, ThreadPoolExecutor(workers) as pool:
        windows = list(Grid(scene.height, scene.width, 64, 32))
        alone = [scene.read(window) for window in windows]
        together = threading.Barrier(workers)

        def read_all(seed):
            together.wait()
            order = np.random.default_rng(seed).permutation(len(windows))
            return {int(place): scene.read(windows[place]) for place in order}, scene._handle()

        results, handles = zip(*pool.map(read_all, range(workers)), strict=True)
        for result in results:
            for place, (pixels, valid) in enumerate(alone):
                np.testing.assert_array_equal(result[place][0], pixels)
                np.testing.assert_array_equal(result[place][1], valid)
        assert len({id(handle) for handle in handles}) == workers
        assert len(scene._handles) == workers + 1


def test_a_thread_keeps_its_handle(tmp_path):
    with Scene(scenes.tiled(tmp_path / "scene.tif")) as scene:
        for window in Grid(150, 220, 64, 0):
            scene.read(window)
        scene.overview(50)
        assert len(scene._handles) == 1


@pytest.mark.skipif(not OPEN_FILES.is_dir(), reason="the system does not list open files in /proc")
@pytest.mark.parametrize("nodata", [None, 0])
def test_closing_closes_every_thread(tmp_path, nodata):
    path = scenes.sidecar_mask(tmp_path / "scene.tif", scenes.picture(), scenes.hole())

    def open_here():
        return sum(tmp_path.as_posix() in str(file.readlink()) for file in OPEN_FILES.iterdir() if file.is_symlink())

    with ThreadPoolExecutor(4) as pool:
        together = threading.Barrier(4)
        with Scene(path, SceneOptions(nodata=nodata)) as scene:
            list(pool.map(lambda _: (together.wait(), scene.overview(9)), range(4)))
            assert open_here() >= 4
        assert open_here() == 0


@pytest.mark.parametrize("from_thread", [False, True])
def test_a_closed_scene_says_so(tmp_path, from_thread):
    scene = Scene(scenes.tiled(tmp_path / "scene.tif"))
    scene.overview(9)
    scene.close()
    scene.close()
    with ThreadPoolExecutor(1) as pool, pytest.raises(SceneError, match=r"scene.tif has been closed"):
        pool.submit(scene.overview, 9).result() if from_thread else scene.overview(9)


def test_a_scene_is_closed_while_it_is_read(tmp_path):
    """Many times: what goes wrong here ends the process, and only if both meet within a read."""
    path = scenes.tiled(tmp_path / "scene.tif", scenes.picture(3, 700, 700))
    with ThreadPoolExecutor(2) as pool:
        for _ in range(40):
            scene = Scene(path)
            started = threading.Barrier(3)

            def read(scene=scene, started=started):
                scene.overview(9)
                started.wait()
                while True:
                    scene.read_region(0, 0, 700, 700)

            readers = [pool.submit(read) for _ in range(2)]
            started.wait()
            scene.close()
            for reader in readers:
                with pytest.raises(SceneError, match=r"scene.tif has been closed"):
                    reader.result()


def test_the_virtual_file_of_a_nodata_value_goes_with_the_scene(tmp_path):
    with Scene(scenes.tiled(tmp_path / "scene.tif"), SceneOptions(nodata=0)) as scene:
        name = scene._source
        assert name != scene.path
        rasterio.open(name).close()
    with pytest.raises(RasterioIOError):
        rasterio.open(name)


@pytest.mark.skipif(not OPEN_FILES.is_dir(), reason="the system does not list open files in /proc")
def test_a_refused_scene_leaves_nothing_open(tmp_path):
    path = scenes.without_crs(tmp_path / "scene.tif")
    with pytest.raises(SceneError):
        Scene(path)
    assert not any("scene.tif" in str(file.readlink()) for file in OPEN_FILES.iterdir() if file.is_symlink())


PEAK = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
import numpy, rasterio.warp
from tiling import Grid, Scene
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with Scene(sys.argv[1]) as scene, ThreadPoolExecutor(2) as pool:
    for done in pool.map(lambda window: scene.read(window)[0].max(), Grid(scene.height, scene.width, 512, 128)):
        pass
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is measured in kilobytes on Linux only")
@pytest.mark.parametrize("layout", [{"tiled": True, "blockxsize": 512, "blockysize": 512}, {"tiled": False}])
def test_gdal_keeps_no_more_than_the_cap(tmp_path, layout):
    """An empty scene of 504 MB, in a process that allows GDAL to keep it all."""
    path = tmp_path / "scene.tif"
    shape = {"width": 12000, "height": 14000, "count": 3, "dtype": "uint8"}
    place = {"crs": scenes.UTM, "transform": scenes.PLACE}
    rasterio.open(path, "w", driver="GTiff", sparse_ok=True, compress="lzw", **shape, **place, **layout).close()
    assert path.stat().st_size < 2e6
    done = subprocess.run(
        [sys.executable, "-c", PEAK, path],
        capture_output=True,
        text=True,
        env={"GDAL_CACHEMAX": "4096", "PYTHONPATH": str(Path(__file__).parents[1])},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < tiling.scene.BLOCK_CACHE_BYTES / 2**20 + 120


@pytest.mark.skipif(not READ_SO_FAR.is_file(), reason="the system does not count what was read in /proc")
def test_strips_are_decoded_once_for_every_reader(tmp_path, monkeypatch):
    """Strips of a scene so wide that a row of windows does not fit the usual cache."""
    monkeypatch.setattr(tiling.scene, "BLOCK_CACHE_BYTES", 2**20)
    noise = np.random.default_rng(0).integers(0, 255, (3, 200, 8000), np.uint8)
    path = scenes.striped(tmp_path / "scene.tif", noise, compress="deflate", interleave="pixel")

    def read_so_far():
        return int(READ_SO_FAR.read_text(encoding="ascii").split("rchar:")[1].split()[0])

    before = read_so_far()
    with Scene(path) as scene, ThreadPoolExecutor(2) as pool:
        windows = list(Grid(scene.height, scene.width, 64, 16))
        assert len(list(pool.map(scene.read, windows))) == len(windows) == 640 + 28
        assert len(scene._handles) == 2
    assert read_so_far() - before < 4 * path.stat().st_size
